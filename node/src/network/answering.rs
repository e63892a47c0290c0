//! Answers to others that are in progress, and who has a share in them: pages of heads ([`PAGES`]), and blocks with logs ([`BLOCKS`]).
//!
//! An answer takes its place, and its memory, until its reader has read it, or the time is up, so that a few who do not read could
//! take all there is: answers are counted, and their bytes where they are large. A peer has a share, and so has one public network. As
//! long as there is plenty a share is large; then it is what leaves something for everybody. Where all is taken, whoever holds most and
//! has not read for a while makes way, and then whoever reads hardly anything, however little it holds. Pure: `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use super::diversity::Network;
use crate::limits::{
    FETCH_ANSWER_BYTES, FETCH_SERVED_AT_ONCE_MAX, FETCH_SERVED_BYTES_MAX, FETCH_SERVED_PER_PEER_MAX,
    FETCH_TIMEOUT,
};

/// Answers that one peer, and the peers of one public network, may have at once.
#[derive(Debug, Clone, Copy)]
struct Share {
    peer: usize,
    network: usize,
}

/// How much there is, and how it is shared.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Answers at once. There is plenty as long as less than half of them are taken.
    pub(super) at_once: usize,
    /// Bytes of all answers.
    bytes: u64,
    /// Above so many there is no plenty any more.
    plenty_bytes: u64,
    /// Bytes that an answer may have, as long as it was not read from the disk.
    unread_bytes: u64,
    plenty: Share,
    scarce: Share,
    /// How old an answer is before it may be one that nobody reads. An honest reader on a slow line may have as old ones: where all room
    /// is taken, whoever has most of them makes way for the others, and asks again.
    stale: Duration,
}

/// How long hardly anything of an answer may move where others wait for its place.
const STILL: Duration = Duration::from_secs(15);

/// Pages of heads and turns of comparisons, whose bytes are few. An honest peer asks for two parts of what it takes and one turn of a
/// comparison at once, and where places are scarce has two parts; the peers of one network have half of all, and then an eighth.
pub(super) const PAGES: Bounds = Bounds {
    at_once: 64,
    bytes: u64::MAX,
    plenty_bytes: u64::MAX,
    unread_bytes: 0,
    plenty: Share { peer: 6, network: 32 },
    scarce: Share { peer: 2, network: 8 },
    stale: Duration::from_secs(10),
};

/// Blocks and logs. Where they are scarce one peer may still have all that it may ask for at once, and others find room.
pub(super) const BLOCKS: Bounds = Bounds {
    at_once: FETCH_SERVED_AT_ONCE_MAX,
    bytes: FETCH_SERVED_BYTES_MAX,
    plenty_bytes: FETCH_SERVED_BYTES_MAX / 3 * 2,
    unread_bytes: FETCH_ANSWER_BYTES as u64,
    plenty: Share { peer: FETCH_SERVED_PER_PEER_MAX, network: FETCH_SERVED_PER_PEER_MAX },
    scarce: Share { peer: 1, network: 4 },
    stale: Duration::from_secs(FETCH_TIMEOUT.as_secs() / 2),
};

/// One answer.
#[derive(Debug, Clone, Copy)]
struct Answer {
    peer: PeerId,
    network: Option<Network>,
    /// Bytes of its blocks; none as long as they were not read.
    bytes: Option<u64>,
    since: Instant,
}

/// The answers that are in progress, by request.
#[derive(Debug)]
pub(super) struct Answering<Id> {
    bounds: &'static Bounds,
    answers: BTreeMap<Id, Answer>,
}

impl<Id: Ord> Answering<Id> {
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, answers: BTreeMap::new() }
    }

    /// Answers in progress.
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Who is being answered.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.answers.values().map(|answer| answer.peer)
    }

    /// Begins an answer where there is room for it, as one of so many at most; false where the peer is to come again later.
    pub(super) fn begin(
        &mut self,
        id: Id,
        peer: PeerId,
        network: Option<Network>,
        most: usize,
        now: Instant,
    ) -> bool {
        let of_peer = self.of(&peer);
        let of_network = network.map_or(0, |network| {
            self.answers.values().filter(|answer| answer.network == Some(network)).count()
        });
        let is_plenty =
            self.held() < self.bounds.plenty_bytes && self.answers.len() < self.bounds.at_once.min(most) / 2;
        let share = if is_plenty { self.bounds.plenty } else { self.bounds.scarce };
        let has_room = !self.is_full(most) && of_peer < share.peer && of_network < share.network;
        if has_room {
            self.answers.insert(id, Answer { peer, network, bytes: None, since: now });
        }
        has_room
    }

    fn held(&self) -> u64 {
        self.answers.values().map(|answer| answer.bytes.unwrap_or(self.bounds.unread_bytes)).sum()
    }

    /// Whether there is no room for one more answer, of so many at most.
    fn is_full(&self, most: usize) -> bool {
        self.answers.len() >= self.bounds.at_once.min(most)
            || self.held().saturating_add(self.bounds.unread_bytes) > self.bounds.bytes
    }

    fn of(&self, peer: &PeerId) -> usize {
        self.answers.values().filter(|answer| answer.peer == *peer).count()
    }

    /// Whom to turn out for others, where all room is taken: of those that do not read, the one with the most answers.
    pub(super) fn greediest(&self, now: Instant) -> Option<PeerId> {
        if !self.is_full(usize::MAX) {
            return None;
        }
        let stale = self
            .answers
            .values()
            .filter(|answer| now.saturating_duration_since(answer.since) >= self.bounds.stale);
        let greediest = stale.map(|answer| (self.of(&answer.peer), answer.peer)).max()?;
        (greediest.0 > self.bounds.scarce.peer).then_some(greediest.1)
    }

    /// Whom to turn out for others where so many answers are all that there may be: the one that has read nothing for longest.
    ///
    /// `moved` says when the bytes of an answer, or of another one on its stream, moved last; nothing where that is not known.
    pub(super) fn stillest(
        &self,
        most: usize,
        moved: impl Fn(&Id) -> Option<Instant>,
        now: Instant,
    ) -> Option<PeerId> {
        if !self.is_full(most) {
            return None;
        }
        let since = self.answers.iter().filter(|(_, answer)| answer.bytes.is_some());
        let since = since.filter_map(|(id, answer)| Some((moved(id)?.max(answer.since), answer.peer)));
        let (since, peer) = since.min()?;
        (now.saturating_duration_since(since) >= STILL).then_some(peer)
    }

    /// Notes how many bytes of blocks an answer has.
    pub(super) fn set_bytes(&mut self, id: &Id, bytes: u64) {
        if let Some(answer) = self.answers.get_mut(id) {
            answer.bytes = Some(bytes);
        }
    }

    /// Ends an answer; gives its bytes.
    pub(super) fn end(&mut self, id: &Id) -> u64 {
        self.answers.remove(id).and_then(|answer| answer.bytes).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::policy::group_of;

    /// Begins as many answers as there is room for.
    fn fill(answering: &mut Answering<usize>, peer: PeerId, ip: &str, now: Instant) -> usize {
        let network = group_of(ip.parse().unwrap());
        let first = answering.answers.last_key_value().map_or(0, |(id, _)| id + 1);
        (first..first + 100).filter(|id| answering.begin(*id, peer, network, usize::MAX, now)).count()
    }

    /// As many answers of the full size as there is room for.
    const FULL: usize = (FETCH_SERVED_BYTES_MAX / BLOCKS.unread_bytes) as usize;

    #[test]
    fn those_that_do_not_read_leave_room_for_everybody_else() {
        let (mut answering, now) = (Answering::new(&BLOCKS), Instant::now());
        let greedy: Vec<usize> =
            (0..4).map(|_| fill(&mut answering, PeerId::random(), "10.0.0.1", now)).collect();
        assert_eq!(greedy, [16, 1, 1, 1], "two thirds are in use after sixteen");
        let others = (0..100).filter(|_| fill(&mut answering, PeerId::random(), "10.0.0.1", now) == 1);
        assert_eq!(others.count(), FULL - 19);
        assert_eq!(answering.held(), FETCH_SERVED_BYTES_MAX);
    }

    #[test]
    fn small_answers_hold_little_of_the_room_and_are_bounded_too() {
        let (mut answering, now) = (Answering::new(&BLOCKS), Instant::now());
        let mut served = 0;
        for id in 0..1_000 {
            if answering.begin(id, PeerId::random(), None, usize::MAX, now) {
                answering.set_bytes(&id, 100);
                served += 1;
            }
        }
        assert_eq!((served, answering.held()), (FETCH_SERVED_AT_ONCE_MAX, 12_800));
        assert_eq!((answering.end(&0), answering.end(&0)), (100, 0));
        assert!(answering.begin(2_000, PeerId::random(), None, usize::MAX, now));
    }

    #[test]
    fn many_names_in_one_public_network_are_one_party() {
        let (mut answering, now) = (Answering::new(&BLOCKS), Instant::now());
        let of_one = (0..100).map(|n| fill(&mut answering, PeerId::random(), &format!("203.0.113.{n}"), now));
        assert_eq!(of_one.sum::<usize>(), FETCH_SERVED_PER_PEER_MAX);
        assert_eq!(fill(&mut answering, PeerId::random(), "203.0.113.1", now), 0, "its share is small now");
        assert_eq!(fill(&mut answering, PeerId::random(), "192.0.2.1", now), 1);
    }

    #[test]
    fn whoever_holds_most_and_does_not_read_is_turned_out_where_all_is_full() {
        let (mut answering, start) = (Answering::new(&BLOCKS), Instant::now());
        let (fast, slow) = (PeerId::random(), PeerId::random());
        assert_eq!(fill(&mut answering, slow, "10.0.0.1", start), 16);
        let later = start + BLOCKS.stale;
        assert_eq!(fill(&mut answering, fast, "10.0.0.2", later), 1);
        assert_eq!(answering.greediest(later), None, "there is room");
        while answering.len() < FULL {
            fill(&mut answering, PeerId::random(), "10.0.0.3", start);
        }
        assert_eq!(answering.greediest(start), None, "everybody may still read");
        assert_eq!(answering.greediest(later), Some(slow));
        (0..15).for_each(|id| assert_eq!(answering.end(&id), 0));
        (200..215).for_each(|id| assert!(answering.begin(id, PeerId::random(), None, usize::MAX, later)));
        assert_eq!(answering.greediest(later), None, "one answer is everybody's share");
    }

    #[test]
    fn who_reads_nothing_makes_way_where_all_places_are_taken_however_few_these_are() {
        for most in [6, usize::MAX] {
            let (mut answering, start) = (Answering::new(&BLOCKS), Instant::now());
            let mut peers = Vec::new();
            for id in 0..most.min(FULL) {
                peers.push(PeerId::random());
                assert!(answering.begin(id, peers[id], None, most, start));
                answering.set_bytes(&id, FETCH_ANSWER_BYTES as u64);
            }
            assert!(!answering.begin(99, PeerId::random(), None, most, start));
            let later = start + STILL;
            let all_still = |_: &usize| Some(start);
            assert_eq!(answering.stillest(most, all_still, later - Duration::from_millis(1)), None);
            assert!(answering.stillest(most, all_still, later).is_some_and(|peer| peers.contains(&peer)));
            let one_still = |id: &usize| Some(if *id == 3 { start } else { later });
            assert_eq!(answering.stillest(most, one_still, later), Some(peers[3]), "the others read");
            assert_eq!(answering.stillest(most, |_| Some(later), later), None, "everybody reads");
            assert_eq!(answering.stillest(most, |_| None, later), None, "of these it is not known");
            answering.end(&0);
            assert_eq!(answering.stillest(most, all_still, later), None, "there is room");
        }
    }

    /// Has so many peers ask for all that they are given; yields how many places they have.
    fn flood(serving: &mut Answering<u32>, peers: usize, network: Option<Network>, now: Instant) -> usize {
        let before = serving.len();
        let peers: Vec<PeerId> = (0..peers).map(|_| PeerId::random()).collect();
        for round in 0..PAGES.plenty.peer {
            for (at, peer) in peers.iter().enumerate() {
                let id = u32::try_from(before * 10_000 + round * 1_000 + at).unwrap();
                serving.begin(id, *peer, network, usize::MAX, now);
            }
        }
        serving.len() - before
    }

    #[test]
    fn those_of_one_network_leave_room_for_others() {
        let (mut serving, now) = (Answering::new(&PAGES), Instant::now());
        assert_eq!(flood(&mut serving, 100, Some([1; 7]), now), PAGES.plenty.network);
        assert_eq!(flood(&mut serving, 3, Some([2; 7]), now), 3 * PAGES.scarce.peer, "a newcomer goes on");
        assert_eq!(flood(&mut serving, 20, Some([3; 7]), now), PAGES.scarce.network);
        let mut serving = Answering::new(&PAGES);
        assert_eq!(flood(&mut serving, 1, Some([1; 7]), now), PAGES.plenty.peer);
    }

    #[test]
    fn where_all_places_are_taken_the_greediest_that_do_not_read_make_way() {
        let (mut serving, now) = (Answering::new(&PAGES), Instant::now());
        let later = now + PAGES.stale;
        flood(&mut serving, 20, None, now);
        assert_eq!(
            serving.len(),
            20 * PAGES.scarce.peer,
            "twenty ids that no network tells apart leave room too"
        );
        let (mut serving, greedy) = (Answering::new(&PAGES), PeerId::random());
        for id in 0..PAGES.plenty.peer {
            assert!(serving.begin(u32::try_from(id).unwrap(), greedy, None, usize::MAX, now));
        }
        assert_eq!(serving.greediest(later), None, "there is room");
        flood(&mut serving, 29, None, now);
        assert_eq!(serving.len(), PAGES.at_once);
        assert_eq!(serving.greediest(now + PAGES.stale / 2), None, "they may be reading");
        assert_eq!(serving.greediest(later), Some(greedy));
        assert!(!serving.begin(100_000, PeerId::random(), None, usize::MAX, later));
        for id in 0..PAGES.plenty.peer {
            serving.end(&u32::try_from(id).unwrap());
        }
        assert_eq!(serving.greediest(later), None);
        flood(&mut serving, 3, None, now);
        assert_eq!(serving.greediest(later), None, "nobody has more than an honest reader asks for");
    }
}
