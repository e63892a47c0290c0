//! Whom this node refuses, and until when.
//!
//! What the rest of the node asks for lasts until it says otherwise, since it keeps the account of it. What the loop decides by
//! itself has no account, and ends. Pure: `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::reputation::ban;

/// Peers that are refused at once: where more are, what the loop decided goes first, and the oldest of it.
const BLOCKED_MAX: usize = 4_096;
/// How long the loop refuses a peer.
const LENGTH: Duration = ban::FIRST;

/// The peers that are refused.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    /// Since when, and whether that was asked for.
    peers: BTreeMap<PeerId, (bool, Instant)>,
}

impl Blocked {
    /// Notes that a peer is refused; gives the one that no longer is, where there are too many.
    pub(super) fn add(&mut self, peer: PeerId, is_asked: bool, now: Instant) -> Option<PeerId> {
        let was_asked = self.peers.get(&peer).is_some_and(|(asked, _)| *asked);
        self.peers.insert(peer, (is_asked || was_asked, now));
        if self.peers.len() <= BLOCKED_MAX {
            return None;
        }
        let others = self.peers.iter().filter(|(other, _)| **other != peer);
        let oldest = others.min_by_key(|(_, it)| **it).map(|(oldest, _)| *oldest)?;
        self.peers.remove(&oldest);
        Some(oldest)
    }

    /// Notes that a peer is welcome again.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// Takes those that are no longer refused.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<PeerId> {
        let has_ended = |it: &(bool, Instant)| !it.0 && now.saturating_duration_since(it.1) >= LENGTH;
        let ended: Vec<PeerId> =
            self.peers.iter().filter(|(_, it)| has_ended(it)).map(|(peer, _)| *peer).collect();
        ended.iter().for_each(|peer| self.remove(peer));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loop_decided_ends_and_what_was_asked_for_does_not() {
        let (mut blocked, now) = (Blocked::default(), Instant::now());
        let (own, asked, both) = (PeerId::random(), PeerId::random(), PeerId::random());
        for (peer, is_asked) in [(own, false), (asked, true), (both, true), (both, false)] {
            assert_eq!(blocked.add(peer, is_asked, now), None);
        }
        assert!(blocked.ended(now + LENGTH / 2).is_empty());
        assert_eq!(blocked.ended(now + LENGTH), [own]);
        assert!(blocked.ended(now + 1_000 * LENGTH).is_empty());
        blocked.remove(&asked);
        assert_eq!(blocked.peers.len(), 1);
    }

    #[test]
    fn a_flood_of_names_is_forgotten_first() {
        let (mut blocked, now) = (Blocked::default(), Instant::now());
        let (asked, first) = (PeerId::random(), PeerId::random());
        blocked.add(asked, true, now);
        blocked.add(first, false, now);
        let later = now + Duration::from_secs(1);
        let gone: Vec<PeerId> =
            (0..10_000).filter_map(|_| blocked.add(PeerId::random(), false, later)).collect();
        assert_eq!(gone[0], first, "the oldest");
        assert!(!gone.contains(&asked));
        assert_eq!(blocked.peers.len(), BLOCKED_MAX);
    }
}
