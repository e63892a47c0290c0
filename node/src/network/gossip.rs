//! Gossipsub, held to how much a neighbour may send.
//!
//! libp2p checks the signature of every message as it comes, before it knows whether it has it already and before anybody here is
//! asked: nothing paces that, and whoever sends without end has a core of this node check without end. What came is therefore
//! counted, repetitions too, and a neighbour that is far beyond what any honest node passes on is no neighbour any more.
//! So is one that sends, again and again, what nobody signed: libp2p only stops listening to it, and goes on checking.
//!
//! [`Pace`](super::pace) bounds what an honest node takes, and so what it passes on; here is the bound of who does not keep to it.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    task::{Context, Poll},
};

use libp2p::{
    PeerId,
    gossipsub::{self, TopicHash},
    swarm::{ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm},
};
use tokio::time::Instant;

use super::{
    inner::{connections_of_inner, dials_of_inner},
    pace::Budget,
};
use crate::limits::{
    ANNOUNCERS_MAX, GOSSIP_INVALID_BORNE_MAX, GOSSIP_INVALID_BORNE_REFILL, GOSSIP_MESSAGES_BORNE_MAX,
    GOSSIP_MESSAGES_BORNE_REFILL,
};

type Inner = gossipsub::Behaviour;
/// What a connection tells Gossipsub; libp2p names this type nowhere else.
type Told = THandlerOutEvent<Inner>;

/// Messages of one neighbour, whatever becomes of them.
const MESSAGES: Budget = Budget::new(GOSSIP_MESSAGES_BORNE_MAX, GOSSIP_MESSAGES_BORNE_REFILL);
/// Those of them whose signature, or form, does not hold.
const INVALID: Budget = Budget::new(GOSSIP_INVALID_BORNE_MAX, GOSSIP_INVALID_BORNE_REFILL);

/// libp2p's Gossipsub, and what each neighbour has sent.
pub(super) struct Behaviour {
    inner: Inner,
    sent: BTreeMap<PeerId, Sent>,
    unbearable: Vec<(PeerId, &'static str)>,
}

/// What a neighbour used of its budgets.
#[derive(Debug, Clone, Copy)]
struct Sent {
    messages: (u32, Instant),
    invalid: (u32, Instant),
    is_unbearable: bool,
}

/// The connected peers that are subscribed to a topic.
pub(super) fn subscribers(gossip: &Behaviour, topic: &TopicHash) -> impl Iterator<Item = PeerId> {
    gossip.all_peers().filter(move |(_, topics)| topics.contains(&topic)).map(|(peer, _)| *peer)
}

impl Behaviour {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner, sent: BTreeMap::new(), unbearable: Vec::new() }
    }

    /// The neighbours that have become unbearable since the last call, and why.
    pub(super) fn take_unbearable(&mut self) -> Vec<(PeerId, &'static str)> {
        std::mem::take(&mut self.unbearable)
    }

    /// Counts what a connected neighbour sent.
    fn count(&mut self, peer: PeerId, messages: usize, invalid: usize, now: Instant) {
        self.make_room(peer, now);
        let fresh = Sent { messages: (0, now), invalid: (0, now), is_unbearable: false };
        let sent = self.sent.entry(peer).or_insert(fresh);
        let is_within = [
            MESSAGES.spend(&mut sent.messages, messages + invalid, now),
            INVALID.spend(&mut sent.invalid, invalid, now),
        ];
        let why = match is_within {
            [true, true] => {
                // It was refused for its time, and is told apart again.
                sent.is_unbearable = false;
                return;
            }
            [_, false] => "it sends announcements that nobody signed",
            [false, true] => "it sends more announcements than any node passes on",
        };
        if !std::mem::replace(&mut sent.is_unbearable, true) {
            self.unbearable.push((peer, why));
        }
    }
}

impl Behaviour {
    /// Forgets those that have their whole budgets again where there is no room for one more, and where all have used something
    /// whoever used the least. Nobody is forgotten for having left: whoever comes back would have a new budget.
    fn make_room(&mut self, peer: PeerId, now: Instant) {
        if self.sent.len() < ANNOUNCERS_MAX || self.sent.contains_key(&peer) {
            return;
        }
        let used = |it: &Sent| (INVALID.refilled(it.invalid, now).0, MESSAGES.refilled(it.messages, now).0);
        self.sent.retain(|_, it| used(it) != (0, 0));
        if self.sent.len() >= ANNOUNCERS_MAX
            && let Some(least) = self.sent.iter().min_by_key(|(_, it)| used(it)).map(|(peer, _)| *peer)
        {
            self.sent.remove(&least);
        }
    }
}

impl Deref for Behaviour {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Behaviour {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = gossipsub::Event;

    connections_of_inner!();
    dials_of_inner!();

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if let Told::Message { rpc, invalid_messages } = &event {
            self.count(peer, rpc.messages.len(), invalid_messages.len(), Instant::now());
        }
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviour() -> Behaviour {
        let key = libp2p::identity::Keypair::generate_ed25519();
        let signed = gossipsub::MessageAuthenticity::Signed(key);
        Behaviour::new(gossipsub::Behaviour::new(signed, gossipsub::Config::default()).unwrap())
    }

    #[test]
    fn whoever_sends_without_end_is_unbearable_once_and_nobody_else_is() {
        let (mut gossip, now) = (behaviour(), Instant::now());
        let (flooder, honest) = (PeerId::random(), PeerId::random());
        for _ in 0..GOSSIP_MESSAGES_BORNE_MAX {
            gossip.count(flooder, 1, 0, now);
        }
        gossip.count(honest, 100, 0, now);
        assert!(gossip.take_unbearable().is_empty(), "as much as this is borne");
        gossip.count(flooder, 1, 0, now);
        gossip.count(flooder, 1, 0, now);
        let why = "it sends more announcements than any node passes on";
        assert_eq!(gossip.take_unbearable(), [(flooder, why)]);
        // It was refused for its time, comes back, and does the same again.
        let again = now + GOSSIP_MESSAGES_BORNE_REFILL * (2 * GOSSIP_MESSAGES_BORNE_MAX);
        (0..=GOSSIP_MESSAGES_BORNE_MAX + 1).for_each(|_| gossip.count(flooder, 1, 0, again));
        assert_eq!(gossip.take_unbearable(), [(flooder, why)]);
        let mut slow = behaviour();
        for n in 0..3 * GOSSIP_MESSAGES_BORNE_MAX {
            slow.count(flooder, 1, 0, now + GOSSIP_MESSAGES_BORNE_REFILL * n);
        }
        assert!(slow.take_unbearable().is_empty(), "the budget comes back as time passes");
    }

    #[test]
    fn whoever_sends_what_nobody_signed_again_and_again_is_unbearable() {
        let (mut gossip, now, forger) = (behaviour(), Instant::now(), PeerId::random());
        gossip.count(forger, 0, GOSSIP_INVALID_BORNE_MAX as usize, now);
        assert!(gossip.take_unbearable().is_empty());
        gossip.count(forger, 1, 1, now);
        assert_eq!(gossip.take_unbearable(), [(forger, "it sends announcements that nobody signed")]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_worst_are_remembered_longest() {
        let (mut gossip, now, worst) = (behaviour(), Instant::now(), PeerId::random());
        gossip.count(worst, 0, GOSSIP_INVALID_BORNE_MAX as usize, now);
        for _ in 0..2 * ANNOUNCERS_MAX {
            gossip.count(PeerId::random(), 1, 0, now);
        }
        assert_eq!(gossip.sent.len(), ANNOUNCERS_MAX);
        gossip.count(worst, 0, 1, now);
        assert_eq!(gossip.take_unbearable().len(), 1, "it did not get a new budget");
        gossip.count(PeerId::random(), 1, 0, now + GOSSIP_INVALID_BORNE_REFILL * 1_000);
        assert_eq!(gossip.sent.len(), 1, "who used nothing is forgotten");
    }
}
