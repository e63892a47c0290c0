//! What this node announces on its topic, and which announcements of others it looks at.

use libp2p::{
    PeerId,
    gossipsub::{IdentTopic, PublishError, TopicHash},
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    behaviour::topic_score,
    gossip::{self, subscribers},
    heard::Heard,
    pace::Pace,
};

/// The topic, with the budgets of those who announce on it and what was announced lately.
pub(super) struct Announcements {
    topic: IdentTopic,
    /// How many announcements, records and proofs are looked at.
    pub(super) pace: Pace,
    heard: Heard,
}

/// An announcement of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    /// The SHA-256 of what it is.
    pub(super) digest: [u8; 32],
    /// Connected peers that are subscribed to the topic.
    pub(super) peers: usize,
    /// Whether it went out now, and not before.
    pub(super) is_new: bool,
}

impl Announcements {
    pub(super) fn new(topic: String) -> Self {
        Self { topic: IdentTopic::new(topic), pace: Pace::new(), heard: Heard::default() }
    }

    /// The topic, as gossip names it.
    pub(super) fn topic(&self) -> TopicHash {
        self.topic.hash()
    }

    /// Subscribes to the topic; tells whether this node was not subscribed before.
    pub(super) fn subscribe(&self, gossip: &mut gossip::Behaviour) -> bool {
        match gossip.subscribe(&self.topic) {
            Ok(new) => {
                if new && let Err(error) = gossip.set_topic_params(self.topic.clone(), topic_score()) {
                    tracing::error!(%error, "the topic is not scored");
                }
                new
            }
            Err(error) => {
                tracing::error!(%error, "cannot subscribe");
                false
            }
        }
    }

    /// Turns to another topic, and subscribes to it where this node was subscribed to the one before.
    pub(super) fn change_topic(&mut self, topic: String, gossip: &mut gossip::Behaviour) {
        let topic = IdentTopic::new(topic);
        if topic.hash() == self.topic.hash() {
            return;
        }
        let was_subscribed = gossip.unsubscribe(&self.topic);
        self.topic = topic;
        if was_subscribed {
            self.subscribe(gossip);
        }
    }

    /// Announces a head as the node `local`; none where nobody hears it now.
    pub(super) fn announce(
        &mut self,
        head: Vec<u8>,
        local: PeerId,
        gossip: &mut gossip::Behaviour,
        now: Instant,
    ) -> Option<Announced> {
        let digest = Sha256::digest(&head).into();
        let published = gossip.publish(self.topic.clone(), head);
        let is_new = published.is_ok();
        if is_new {
            self.heard.accepted(digest, Some(local), now);
        }
        match published {
            Ok(_) | Err(PublishError::Duplicate) => {
                let peers = subscribers(gossip, &self.topic()).count();
                Some(Announced { digest, peers, is_new })
            }
            Err(error) => {
                tracing::debug!(%error, "not announced now");
                None
            }
        }
    }

    /// Whether an announcement is to be looked at: it repeats no other author's, and the budgets of its author and of the
    /// neighbour that passed it on are not used up.
    pub(super) fn admits(
        &mut self,
        digest: &[u8; 32],
        author: Option<PeerId>,
        neighbour: PeerId,
        now: Instant,
    ) -> bool {
        !self.heard.is_repetition(digest, author, now) && self.pace.admits(author, neighbour, now)
    }

    /// Notes an announcement that was passed on.
    pub(super) fn accepted(&mut self, digest: [u8; 32], author: Option<PeerId>, now: Instant) {
        self.heard.accepted(digest, author, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_on_of_one_author_costs_no_other_budget() {
        let (mut all, now) = (Announcements::new("/ggen/test".to_owned()), Instant::now());
        let (author, copyist, neighbour) = (PeerId::random(), PeerId::random(), PeerId::random());
        assert!(all.admits(&[1; 32], Some(author), neighbour, now));
        all.accepted([1; 32], Some(author), now);
        while all.admits(&[2; 32], Some(author), PeerId::random(), now) {}
        for _ in 0..10_000 {
            assert!(!all.admits(&[1; 32], Some(copyist), neighbour, now), "another's, signed again");
        }
        assert!(all.admits(&[3; 32], Some(copyist), neighbour, now), "neither of them paid for it");
    }
}
