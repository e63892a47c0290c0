//! Requests for blocks that are being answered, and who has a share in them.
//!
//! An answer holds its memory until its reader has read it, or the time is up, so that a few who do not read could hold all
//! there is room for: that is counted in bytes. A peer has a share, and so has one public network. As long as less than
//! two thirds are in use a share is large; above that it is what leaves something for everybody. Where all of it is in use, whoever holds most
//! and has not read is turned out. Pure: `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use super::diversity::Network;
use crate::limits::{
    FETCH_ANSWER_BYTES, FETCH_SERVED_AT_ONCE_MAX, FETCH_SERVED_BYTES_MAX, FETCH_SERVED_PER_PEER_MAX,
    FETCH_TIMEOUT,
};

/// Above so many bytes, and above half as many answers as there may be, shares are small: one peer may have all that it may ask
/// for, and others still find room.
const PLENTY_BYTES: u64 = FETCH_SERVED_BYTES_MAX / 3 * 2;
/// Bytes that an answer may have, as long as it was not read from the disk.
const UNREAD_BYTES: u64 = FETCH_ANSWER_BYTES as u64;
/// Answers for one peer where shares are small.
const PER_PEER_SCARCE_MAX: usize = 1;
/// Answers for the peers of one public network where shares are small.
const PER_NETWORK_SCARCE_MAX: usize = 4;
/// How old an answer is before it may be one that nobody reads. An honest reader on a slow line may have as old ones: where all room
/// is taken, whoever has most of them makes way for the others, and asks again.
const STALE: Duration = Duration::from_secs(FETCH_TIMEOUT.as_secs() / 2);

/// One answer.
#[derive(Debug, Clone, Copy)]
struct Answer {
    peer: PeerId,
    network: Option<Network>,
    /// Bytes of its blocks; none as long as they were not read.
    bytes: Option<u64>,
    since: Instant,
}

impl Answer {
    /// Bytes that it holds, or may come to hold.
    fn held(&self) -> u64 {
        self.bytes.unwrap_or(UNREAD_BYTES)
    }
}

/// The answers under way, by request.
#[derive(Debug)]
pub(super) struct Answering<Id>(BTreeMap<Id, Answer>);

impl<Id: Ord> Answering<Id> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Answers under way.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Who is being answered.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.0.values().map(|answer| answer.peer)
    }

    /// Begins an answer where there is room for it; false where the peer is to come again later.
    pub(super) fn begin(&mut self, id: Id, peer: PeerId, network: Option<Network>, now: Instant) -> bool {
        let of_peer = self.of(&peer);
        let of_network = network
            .map_or(0, |network| self.0.values().filter(|answer| answer.network == Some(network)).count());
        let is_plenty = self.held() < PLENTY_BYTES && self.0.len() < FETCH_SERVED_AT_ONCE_MAX / 2;
        let (peer_max, network_max) = if is_plenty {
            (FETCH_SERVED_PER_PEER_MAX, FETCH_SERVED_PER_PEER_MAX)
        } else {
            (PER_PEER_SCARCE_MAX, PER_NETWORK_SCARCE_MAX)
        };
        let has_room = !self.is_full() && of_peer < peer_max && of_network < network_max;
        if has_room {
            self.0.insert(id, Answer { peer, network, bytes: None, since: now });
        }
        has_room
    }

    fn held(&self) -> u64 {
        self.0.values().map(Answer::held).sum()
    }

    /// Whether there is no room for one more answer.
    fn is_full(&self) -> bool {
        self.0.len() >= FETCH_SERVED_AT_ONCE_MAX || self.held() + UNREAD_BYTES > FETCH_SERVED_BYTES_MAX
    }

    fn of(&self, peer: &PeerId) -> usize {
        self.0.values().filter(|answer| answer.peer == *peer).count()
    }

    /// Whom to turn out for others, where all room is taken: of those that do not read, the one with the most answers.
    pub(super) fn greediest(&self, now: Instant) -> Option<PeerId> {
        if !self.is_full() {
            return None;
        }
        let stale = self.0.values().filter(|answer| now.saturating_duration_since(answer.since) >= STALE);
        let greediest = stale.map(|answer| (self.of(&answer.peer), answer.peer)).max()?;
        (greediest.0 > PER_PEER_SCARCE_MAX).then_some(greediest.1)
    }

    /// Notes how many bytes of blocks an answer has.
    pub(super) fn set_bytes(&mut self, id: &Id, bytes: u64) {
        if let Some(answer) = self.0.get_mut(id) {
            answer.bytes = Some(bytes);
        }
    }

    /// Ends an answer; gives its bytes.
    pub(super) fn end(&mut self, id: &Id) -> u64 {
        self.0.remove(id).and_then(|answer| answer.bytes).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::policy::group_of;

    /// Begins as many answers as there is room for.
    fn fill(answering: &mut Answering<usize>, peer: PeerId, ip: &str, now: Instant) -> usize {
        let network = group_of(ip.parse().unwrap());
        let first = answering.0.last_key_value().map_or(0, |(id, _)| id + 1);
        (first..first + 100).filter(|id| answering.begin(*id, peer, network, now)).count()
    }

    /// As many answers of the full size as there is room for.
    const FULL: usize = (FETCH_SERVED_BYTES_MAX / UNREAD_BYTES) as usize;

    #[test]
    fn those_that_do_not_read_leave_room_for_everybody_else() {
        let (mut answering, now) = (Answering::new(), Instant::now());
        let greedy: Vec<usize> =
            (0..4).map(|_| fill(&mut answering, PeerId::random(), "10.0.0.1", now)).collect();
        assert_eq!(greedy, [16, 1, 1, 1], "two thirds are in use after sixteen");
        let others = (0..100).filter(|_| fill(&mut answering, PeerId::random(), "10.0.0.1", now) == 1);
        assert_eq!(others.count(), FULL - 19);
        assert_eq!(answering.held(), FETCH_SERVED_BYTES_MAX);
    }

    #[test]
    fn small_answers_hold_little_of_the_room_and_are_bounded_too() {
        let (mut answering, now) = (Answering::new(), Instant::now());
        let mut served = 0;
        for id in 0..1_000 {
            if answering.begin(id, PeerId::random(), None, now) {
                answering.set_bytes(&id, 100);
                served += 1;
            }
        }
        assert_eq!((served, answering.held()), (FETCH_SERVED_AT_ONCE_MAX, 12_800));
        assert_eq!((answering.end(&0), answering.end(&0)), (100, 0));
        assert!(answering.begin(2_000, PeerId::random(), None, now));
    }

    #[test]
    fn many_names_in_one_public_network_are_one_party() {
        let (mut answering, now) = (Answering::new(), Instant::now());
        let of_one = (0..100).map(|n| fill(&mut answering, PeerId::random(), &format!("203.0.113.{n}"), now));
        assert_eq!(of_one.sum::<usize>(), FETCH_SERVED_PER_PEER_MAX);
        assert_eq!(fill(&mut answering, PeerId::random(), "203.0.113.1", now), 0, "its share is small now");
        assert_eq!(fill(&mut answering, PeerId::random(), "192.0.2.1", now), 1);
    }

    #[test]
    fn whoever_holds_most_and_does_not_read_is_turned_out_where_all_is_full() {
        let (mut answering, start) = (Answering::new(), Instant::now());
        let (fast, slow) = (PeerId::random(), PeerId::random());
        assert_eq!(fill(&mut answering, slow, "10.0.0.1", start), 16);
        let later = start + STALE;
        assert_eq!(fill(&mut answering, fast, "10.0.0.2", later), 1);
        assert_eq!(answering.greediest(later), None, "there is room");
        while answering.len() < FULL {
            fill(&mut answering, PeerId::random(), "10.0.0.3", start);
        }
        assert_eq!(answering.greediest(start), None, "everybody may still read");
        assert_eq!(answering.greediest(later), Some(slow));
        (0..15).for_each(|id| assert_eq!(answering.end(&id), 0));
        (200..215).for_each(|id| assert!(answering.begin(id, PeerId::random(), None, later)));
        assert_eq!(answering.greediest(later), None, "one answer is everybody's share");
    }
}
