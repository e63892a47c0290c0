//! Pages of heads that are read for others, and who has a share in them.
//!
//! An answer takes its place until its reader has read it, so that a few who do not read could take all of them. A peer has a share, and
//! so has one public network; where half of all places is taken, shares are small, so that something is left for everybody. Where all
//! are taken, whoever holds most and has not read for a while makes way. Pure: `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;

use super::diversity::Network;

/// Answers that are read for others at once, and on their way to them.
pub(super) const PAGES_SERVED_AT_ONCE_MAX: usize = 64;
/// Those of them for one peer: an honest one asks for two parts of what it takes and one turn of a comparison at once.
const PER_PEER_MAX: usize = 6;
/// The same where half of all are taken: two parts.
const PER_PEER_SCARCE_MAX: usize = 2;
/// Those of them for the peers of one public network: half.
const PER_NETWORK_MAX: usize = PAGES_SERVED_AT_ONCE_MAX / 2;
/// The same where half of all are taken: an eighth.
const PER_NETWORK_SCARCE_MAX: usize = PAGES_SERVED_AT_ONCE_MAX / 8;
/// How old an answer is before it may be one that nobody reads. An honest reader on a slow line may have as old ones, and at most two
/// where places are scarce.
const STALE: Duration = Duration::from_secs(10);

/// One answer.
#[derive(Debug, Clone, Copy)]
struct Answer {
    peer: PeerId,
    network: Option<Network>,
    since: Duration,
}

/// The answers that are in progress, by request.
#[derive(Debug)]
pub(super) struct Serving<Id>(BTreeMap<Id, Answer>);

impl<Id: Ord> Serving<Id> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Answers in progress.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Begins an answer where there is room for it; false where the peer is to come again later.
    pub(super) fn begin(&mut self, id: Id, peer: PeerId, network: Option<Network>, now: Duration) -> bool {
        let of_network =
            network.map_or(0, |network| self.0.values().filter(|it| it.network == Some(network)).count());
        let (peer_max, network_max) = match self.0.len() < PAGES_SERVED_AT_ONCE_MAX / 2 {
            true => (PER_PEER_MAX, PER_NETWORK_MAX),
            false => (PER_PEER_SCARCE_MAX, PER_NETWORK_SCARCE_MAX),
        };
        let has_room =
            self.0.len() < PAGES_SERVED_AT_ONCE_MAX && self.of(&peer) < peer_max && of_network < network_max;
        if has_room {
            self.0.insert(id, Answer { peer, network, since: now });
        }
        has_room
    }

    /// Notes that an answer has left, or never will.
    pub(super) fn end(&mut self, id: &Id) {
        self.0.remove(id);
    }

    /// Whom to turn out for others, where all places are taken: of those that do not read, the one with the most answers.
    pub(super) fn greediest(&self, now: Duration) -> Option<PeerId> {
        if self.0.len() < PAGES_SERVED_AT_ONCE_MAX {
            return None;
        }
        let stale = self.0.values().filter(|answer| now.saturating_sub(answer.since) >= STALE);
        let greediest = stale.map(|answer| (self.of(&answer.peer), answer.peer)).max()?;
        (greediest.0 > PER_PEER_SCARCE_MAX).then_some(greediest.1)
    }

    fn of(&self, peer: &PeerId) -> usize {
        self.0.values().filter(|answer| answer.peer == *peer).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    /// Has so many peers ask for all that they are given; yields how many places they have.
    fn flood(serving: &mut Serving<u32>, peers: usize, network: Option<Network>) -> usize {
        let before = serving.len();
        let peers: Vec<PeerId> = (0..peers).map(|_| PeerId::random()).collect();
        for round in 0..PER_PEER_MAX {
            for (at, peer) in peers.iter().enumerate() {
                let id = u32::try_from(before * 10_000 + round * 1_000 + at).unwrap();
                serving.begin(id, *peer, network, NOW);
            }
        }
        serving.len() - before
    }

    #[test]
    fn those_of_one_network_leave_room_for_others() {
        let mut serving = Serving::new();
        assert_eq!(flood(&mut serving, 100, Some([1; 7])), PER_NETWORK_MAX);
        assert_eq!(flood(&mut serving, 3, Some([2; 7])), 3 * PER_PEER_SCARCE_MAX, "a newcomer goes on");
        assert_eq!(flood(&mut serving, 20, Some([3; 7])), PER_NETWORK_SCARCE_MAX);
        let mut serving = Serving::new();
        assert_eq!(flood(&mut serving, 1, Some([1; 7])), PER_PEER_MAX);
    }

    #[test]
    fn where_all_places_are_taken_the_greediest_that_do_not_read_make_way() {
        let mut serving = Serving::new();
        flood(&mut serving, 20, None);
        assert_eq!(
            serving.len(),
            20 * PER_PEER_SCARCE_MAX,
            "twenty ids that no network tells apart leave room too"
        );
        let (mut serving, greedy) = (Serving::new(), PeerId::random());
        for id in 0..PER_PEER_MAX {
            assert!(serving.begin(u32::try_from(id).unwrap(), greedy, None, NOW));
        }
        assert_eq!(serving.greediest(STALE), None, "there is room");
        flood(&mut serving, 29, None);
        assert_eq!(serving.len(), PAGES_SERVED_AT_ONCE_MAX);
        assert_eq!(serving.greediest(STALE / 2), None, "they may be reading");
        assert_eq!(serving.greediest(STALE), Some(greedy));
        assert!(!serving.begin(100_000, PeerId::random(), None, STALE));
        for id in 0..PER_PEER_MAX {
            serving.end(&u32::try_from(id).unwrap());
        }
        assert_eq!(serving.greediest(STALE), None);
        flood(&mut serving, 3, None);
        assert_eq!(serving.greediest(STALE), None, "nobody has more than an honest reader asks for");
    }
}
