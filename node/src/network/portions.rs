//! How much of the exchange of heads one peer may have, and cost, in a while: what it asks for again and again costs the line of this
//! node, and what it gives without end costs its processor.
//!
//! An honest peer takes a whole catalogue once and reads on from there, and gives one in the same way: a budget holds that much at once, and
//! comes back slowly. The peers of one public network, which may be many ids of one machine, share a larger one. Who is over the pace
//! in asking is told to come again later, and who goes on all the same is no neighbour any more. Who is over it in giving is asked for nothing
//! more for a while, and blamed for nothing: it may have met a large network after a long time. Pure: `now` is an argument.

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    diversity::Network,
    pace::Budget,
    paced::{Paced, Weighed},
};
use crate::limits::{
    HEADS_GIVEN_PER_NETWORK, HEADS_GIVEN_PER_PEER_MAX, HEADS_GIVEN_PER_PEER_REFILL, HEADS_PORTION_BYTES,
    HEADS_PORTIONS_BORNE_MAX, HEADS_PORTIONS_BORNE_REFILL, HEADS_PORTIONS_PER_NETWORK,
    HEADS_PORTIONS_PER_PEER_MAX, HEADS_PORTIONS_PER_PEER_REFILL,
};

/// A budget of each peer, and one of each network.
#[derive(Debug)]
struct Shared {
    peers: Paced<PeerId>,
    networks: Paced<Network>,
}

impl Shared {
    fn new((each, borne): (Budget, Budget), networks: u32) -> Self {
        let of_network = each.times(networks);
        // A network is never at fault: what one of its peers does is its own.
        Self { peers: Paced::new(each, borne), networks: Paced::new(of_network, Budget::unbounded()) }
    }

    fn weigh(&mut self, peer: PeerId, network: Option<Network>, now: Instant) -> Weighed {
        let of_peer = self.peers.weigh(peer, now);
        match network {
            // What is over the peer's own pace is not taken from the others of its network.
            Some(network) if of_peer == Weighed::Within => self.networks.weigh(network, now),
            _ => of_peer,
        }
    }

    fn charge(&mut self, peer: &PeerId, network: Option<Network>, more: usize, now: Instant) {
        self.peers.charge(peer, more, now);
        network.iter().for_each(|network| self.networks.charge(network, more, now));
    }

    fn has_left(&self, peer: &PeerId, network: Option<Network>, now: Instant) -> bool {
        self.peers.has_left(peer, now) && network.is_none_or(|network| self.networks.has_left(&network, now))
    }
}

/// What every peer had of this node's heads, and what it gave.
#[derive(Debug)]
pub(super) struct Portions {
    had: Shared,
    given: Shared,
}

impl Portions {
    pub(super) fn new() -> Self {
        let had = Budget::new(HEADS_PORTIONS_PER_PEER_MAX, HEADS_PORTIONS_PER_PEER_REFILL);
        let borne = Budget::new(HEADS_PORTIONS_BORNE_MAX, HEADS_PORTIONS_BORNE_REFILL);
        let given = Budget::new(HEADS_GIVEN_PER_PEER_MAX, HEADS_GIVEN_PER_PEER_REFILL);
        Self {
            had: Shared::new((had, borne), HEADS_PORTIONS_PER_NETWORK),
            given: Shared::new((given, Budget::unbounded()), HEADS_GIVEN_PER_NETWORK),
        }
    }

    /// What becomes of one more question of a peer.
    pub(super) fn asks(&mut self, peer: PeerId, network: Option<Network>, now: Instant) -> Weighed {
        self.had.weigh(peer, network, now)
    }

    /// Counts the bytes of an answer to it.
    pub(super) fn had(&mut self, peer: &PeerId, network: Option<Network>, bytes: usize, now: Instant) {
        self.had.charge(peer, network, bytes / HEADS_PORTION_BYTES, now);
    }

    /// Whether a peer may be asked for more heads.
    pub(super) fn may_give(&self, peer: &PeerId, network: Option<Network>, now: Instant) -> bool {
        self.given.has_left(peer, network, now)
    }

    /// Counts heads that it gave.
    pub(super) fn gave(&mut self, peer: PeerId, network: Option<Network>, heads: usize, now: Instant) {
        if heads > 0 {
            self.given.weigh(peer, network, now);
            self.given.charge(&peer, network, heads - 1, now);
        }
    }
}

#[cfg(test)]
#[path = "portions_tests.rs"]
mod tests;
