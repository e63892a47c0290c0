//! Who cannot be reached, as far as this node knows: whom lookups leave out, and who is not counted as a provider.
//!
//! A peer is gone when it took its leave, when it could not be dialled anywhere, or when nothing came back on its last connection. It
//! is back when a connection with it stands.
//! What nobody tried for a while counts no longer, so that no mistake lasts. Pure: `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

/// Peers that are remembered; of more, those are forgotten that have been gone the longest.
const GONE_MAX: usize = 1_024;
/// How long lookups leave a peer out: about as long as a node takes to restart. By then it has left the routing tables of others too.
pub(super) const LEFT_OUT_FOR: Duration = Duration::from_secs(60);
/// How long it is not counted as a provider: longer than those wait who try again to dial it.
pub(super) const NOT_COUNTED_FOR: Duration = Duration::from_secs(6 * 60);

/// Those who are gone, and since when.
#[derive(Debug, Default)]
pub(super) struct Gone {
    peers: BTreeMap<PeerId, Instant>,
}

impl Gone {
    /// Notes that a peer is gone.
    pub(super) fn note(&mut self, peer: PeerId, now: Instant) {
        self.peers.insert(peer, now);
        if self.peers.len() > GONE_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, at)| **at).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.peers.remove(&oldest));
        }
    }

    /// Notes that a peer is there.
    pub(super) fn back(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// Whether a peer is gone, and was found to be within this time.
    pub(super) fn has(&self, peer: &PeerId, within: Duration, now: Instant) -> bool {
        self.peers.get(peer).is_some_and(|at| now < *at + within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_gone_for_a_while_or_until_it_is_back() {
        let (start, [one, other]) = (Instant::now(), [PeerId::random(), PeerId::random()]);
        let mut gone = Gone::default();
        gone.note(one, start);
        gone.note(other, start);
        assert!(gone.has(&one, LEFT_OUT_FOR, start) && gone.has(&other, LEFT_OUT_FOR, start));
        let later = start + LEFT_OUT_FOR;
        assert!(!gone.has(&one, LEFT_OUT_FOR, later), "it may be tried again");
        assert!(gone.has(&one, NOT_COUNTED_FOR, later));
        gone.back(&other);
        assert!(!gone.has(&other, NOT_COUNTED_FOR, start));
    }

    #[test]
    fn those_who_have_been_gone_the_longest_are_forgotten_first() {
        let (start, mut gone) = (Instant::now(), Gone::default());
        let peers: Vec<PeerId> = (0..=GONE_MAX).map(|_| PeerId::random()).collect();
        for (n, peer) in peers.iter().enumerate() {
            gone.note(*peer, start + Duration::from_millis(n as u64));
        }
        assert_eq!(gone.peers.len(), GONE_MAX);
        assert!(!gone.has(&peers[0], LEFT_OUT_FOR, start) && gone.has(&peers[GONE_MAX], LEFT_OUT_FOR, start));
    }
}
