//! What was announced lately, and by whom.
//!
//! Gossipsub knows a message by its author and its content ([`message_id`](super::behaviour)): the same head, signed by another
//! author, is another message, which every node would pass on again. What was accepted of one author is therefore not
//! accepted of another one for a while. What was refused or passed over is not remembered: were it, whoever has no budget left
//! could sign what others announce, and the honest message would be known already. The author itself may announce again, to
//! those who were not there before. Pure: `now` is an argument.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

/// How long an announcement is remembered.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// Announcements that are remembered; the oldest are forgotten first.
const HEARD_MAX: usize = 4_096;

type Digest = [u8; 32];

/// The announcements that were accepted lately.
#[derive(Debug, Default)]
pub(super) struct Heard {
    authors: BTreeMap<Digest, Option<PeerId>>,
    order: VecDeque<(Instant, Digest)>,
}

impl Heard {
    /// Whether an announcement repeats what another author announced.
    pub(super) fn is_repetition(&mut self, digest: &Digest, author: Option<PeerId>, now: Instant) -> bool {
        while self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= REMEMBERED) {
            self.forget_oldest();
        }
        self.authors.get(digest).is_some_and(|first| *first != author)
    }

    /// Notes an announcement that was accepted.
    pub(super) fn accepted(&mut self, digest: Digest, author: Option<PeerId>, now: Instant) {
        if self.authors.contains_key(&digest) {
            return;
        }
        self.authors.insert(digest, author);
        self.order.push_back((now, digest));
        if self.order.len() > HEARD_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, digest)) = self.order.pop_front() {
            self.authors.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_author_announced_is_not_heard_of_another_for_a_while() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        let (first, other) = (Some(PeerId::random()), Some(PeerId::random()));
        let digest = [7; 32];
        assert!(!heard.is_repetition(&digest, first, now));
        heard.accepted(digest, first, now);
        assert!(heard.is_repetition(&digest, other, now) && heard.is_repetition(&digest, None, now));
        assert!(!heard.is_repetition(&digest, first, now), "it may announce again");
        assert!(!heard.is_repetition(&[8; 32], other, now));
        assert!(!heard.is_repetition(&digest, other, now + REMEMBERED));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        for n in 0..2 * HEARD_MAX {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_be_bytes());
            heard.accepted(digest, None, now);
            heard.accepted(digest, None, now);
        }
        assert_eq!((heard.authors.len(), heard.order.len()), (HEARD_MAX, HEARD_MAX));
    }
}
