//! Decides which blocks to ask of which peer; knows nothing of sockets or clocks.
//!
//! Wants go out in the order in which they came, in batches. Each peer has a window of bytes in flight that doubles with every
//! full answer that came soon, and halves with every late one and every time-out: a fast peer is kept busy, and a slow line never
//! has more under way than it carries before the request's time is up. A want
//! that is late with one peer goes to another one as well ("hedging", after
//! [Dean and Barroso, The Tail at Scale](https://research.google/pubs/the-tail-at-scale/)): whoever answers first wins, and
//! the other copy is dropped. A peer that does not hold a block is not asked for it again; a peer that sent wrong bytes is
//! not asked for anything again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::{
    content::ContentId,
    limits::{FETCH_IDS_MAX, FETCH_SERVED_PER_PEER_MAX},
};

/// Bytes in flight of a peer that has not proved itself yet.
const WINDOW_BYTES_FIRST: u64 = 1 << 20;
/// Bytes in flight of the best peer.
const WINDOW_BYTES_MAX: u64 = 16 << 20;
/// Bytes in flight of the worst peer: still one small block at a time.
const WINDOW_BYTES_MIN: u64 = 64 << 10;
/// Bytes that one request asks for; the answer's own bound is not far above.
const REQUEST_BYTES: u64 = 1 << 20;
/// An answer that came within this time makes the window larger: the line carries more.
const ANSWER_SOON: Duration = Duration::from_secs(2);
/// An answer that took longer than this makes it smaller: at a quarter of the time that a request has, requests only wait for
/// one another.
const ANSWER_LATE: Duration = Duration::from_secs(5);
/// How long a peer whose connection closed is left alone: it is dialled again meanwhile.
const CLOSED_PAUSE: Duration = Duration::from_secs(3);
/// A want that takes longer than this is asked of a second peer too, if there is one.
const HEDGE_AFTER: Duration = Duration::from_secs(2);
/// How long a peer that was asked must have sent nothing to count as silent when our own time runs out. A megabyte over a slow
/// line, or the last of many answers, may take some seconds; a request that was sent just before the end proves nothing.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Copies of one want in flight, where somebody may still be sending it.
const COPIES_MAX: usize = 2;
/// Copies of one want in flight, where all that were asked before are silent: otherwise a few that claim a block and never answer
/// could hold it up for as long as a request may take.
const COPIES_OF_SILENT_MAX: usize = 8;
/// Failures in a row after which a peer is left alone.
const FAILURES_MAX: u32 = 3;
/// Times in a row that a peer may be busy before it is left alone: half a minute.
const BUSY_MAX: u32 = 120;
/// How long a busy peer is left alone.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Names one request until it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Names the request.
    pub id: RequestId,
    /// Whom to ask.
    pub peer: PeerId,
    /// For what.
    pub want: Vec<ContentId>,
}

/// What came for one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The block, verified.
    Have,
    /// Bytes that are not the block.
    Forged,
    /// The peer does not hold it.
    Missing,
    /// The peer holds it, and the answer was full.
    Later,
}

/// Why a whole request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time, or a broken one.
    Peer,
    /// The peer cannot be reached, or does not speak the protocol.
    Unreachable,
    /// The connection closed before the answer; the peer may be asked again.
    Closed,
    /// The peer is busy; it may be asked again.
    Busy,
    /// This node has no room for the request now.
    Own,
}

#[derive(Debug)]
struct Want {
    size: u64,
    /// Requests in flight that ask for this.
    asked: BTreeMap<RequestId, PeerId>,
    /// Peers that do not hold it.
    refused: BTreeSet<PeerId>,
    queued: bool,
}

#[derive(Debug)]
struct Peer {
    window: u64,
    in_flight: u64,
    /// Requests in flight: small blocks fill no window.
    requests: usize,
    failures: u32,
    /// How often in a row it was busy.
    busy: u32,
    not_before: Duration,
    /// When it last answered anything.
    heard: Duration,
    gone: bool,
}

#[derive(Debug)]
struct Flight {
    peer: PeerId,
    since: Duration,
    bytes: u64,
    want: Vec<ContentId>,
}

/// The plan of one retrieval.
#[derive(Debug, Default)]
pub struct Plan {
    wants: BTreeMap<ContentId, Want>,
    /// Those of the wants that some peer does not hold.
    scarce: BTreeSet<ContentId>,
    queue: VecDeque<ContentId>,
    peers: BTreeMap<PeerId, Peer>,
    /// Peers in the order in which they were preferred.
    order: Vec<PeerId>,
    flights: BTreeMap<RequestId, Flight>,
    next_request: u64,
}

impl Plan {
    /// Adds a block to fetch; `size` is what the signed manifest says, or a guess.
    pub fn want(&mut self, id: ContentId, size: u64) {
        if self.wants.contains_key(&id) {
            return;
        }
        self.wants.insert(id, Want { size, asked: BTreeMap::new(), refused: BTreeSet::new(), queued: true });
        self.queue.push_back(id);
    }

    /// Adds a peer to ask; those added first are preferred.
    pub fn peer(&mut self, peer: PeerId) {
        if self.peers.contains_key(&peer) {
            return;
        }
        self.peers.insert(
            peer,
            Peer {
                window: WINDOW_BYTES_FIRST,
                in_flight: 0,
                requests: 0,
                failures: 0,
                busy: 0,
                not_before: Duration::ZERO,
                heard: Duration::ZERO,
                gone: false,
            },
        );
        self.order.push(peer);
    }

    /// Whether a peer was added, even if it is not asked any more.
    pub fn knows(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Whether everything wanted has come.
    pub fn is_complete(&self) -> bool {
        self.wants.is_empty()
    }

    /// Whether something is under way.
    pub fn is_waiting(&self) -> bool {
        !self.flights.is_empty()
    }

    /// The peers that have not answered yet, and whether each has been silent long enough for that to be its own doing: for
    /// `SILENT_AFTER` nothing came from it, and all that time it had a request.
    pub fn waiting_on(&self, now: Duration) -> BTreeMap<PeerId, bool> {
        let mut waiting = BTreeMap::new();
        for flight in self.flights.values() {
            *waiting.entry(flight.peer).or_default() |= self.silent_from(flight) <= now;
        }
        waiting
    }

    /// How many blocks are still wanted.
    pub fn outstanding(&self) -> usize {
        self.wants.len()
    }

    /// The wants that no peer is left to ask for.
    pub fn stuck(&self) -> Vec<ContentId> {
        let able = |want: &Want| {
            !want.asked.is_empty()
                || self.peers.iter().any(|(peer, state)| !state.gone && !want.refused.contains(peer))
        };
        if self.peers.values().all(|peer| peer.gone) {
            return self.wants.iter().filter(|(_, want)| !able(want)).map(|(id, _)| *id).collect();
        }
        // Whoever is left can be asked for all that nobody has refused.
        let is_stuck = |id: &ContentId| self.wants.get(id).is_some_and(|want| !able(want));
        self.scarce.iter().filter(|id| is_stuck(id)).copied().collect()
    }

    /// The next request to send, if there is one now.
    pub fn next(&mut self, now: Duration) -> Option<Ask> {
        // The peer with the most room first, so that the work is spread; among equals the preferred one.
        let mut candidates: Vec<PeerId> = self.order.clone();
        candidates.retain(|peer| self.can_ask(peer, now));
        candidates.sort_by_key(|peer| std::cmp::Reverse(self.room(peer)));
        candidates.into_iter().find_map(|peer| self.ask(peer, now))
    }

    /// When [`Plan::next`] may have something new, although nothing was answered.
    pub fn wake_at(&self, now: Duration) -> Option<Duration> {
        let hedge = self
            .flights
            .values()
            .filter(|flight| flight.want.iter().any(|id| self.may_have_another(id)))
            .flat_map(|flight| [flight.since + HEDGE_AFTER, self.silent_from(flight)])
            .filter(|at| *at > now)
            .min();
        let busy = self
            .peers
            .values()
            .filter(|peer| !peer.gone)
            .map(|peer| peer.not_before)
            .filter(|at| *at > now)
            .min();
        [hedge, busy].into_iter().flatten().min()
    }

    /// Takes an answer; gives the blocks that are still wanted of it, which the caller keeps.
    pub fn answered(
        &mut self,
        id: RequestId,
        answers: &[(ContentId, Answer)],
        now: Duration,
    ) -> Vec<ContentId> {
        let Some(flight) = self.land(id) else { return Vec::new() };
        let mut came = Vec::new();
        let mut full = !answers.is_empty();
        for (block, answer) in answers {
            full &= *answer == Answer::Have || *answer == Answer::Later;
            match answer {
                Answer::Have => {
                    if self.wants.remove(block).is_some() {
                        self.scarce.remove(block);
                        came.push(*block);
                    }
                }
                Answer::Missing => self.refuse(block, flight.peer),
                Answer::Forged => self.give_up(flight.peer),
                Answer::Later => {}
            }
        }
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            peer.heard = now;
            if answers.iter().any(|(_, answer)| *answer == Answer::Have) {
                peer.failures = 0;
                peer.busy = 0;
            }
            let took = now.saturating_sub(flight.since);
            if took > ANSWER_LATE {
                peer.window = (peer.window / 2).max(WINDOW_BYTES_MIN);
            } else if full && !came.is_empty() && took <= ANSWER_SOON {
                peer.window = (peer.window * 2).min(WINDOW_BYTES_MAX);
            }
            // An answer without a single verdict would be asked for again at once, for ever.
            if answers.iter().all(|(_, answer)| *answer == Answer::Later) {
                peer.not_before = now + BUSY_PAUSE;
                peer.failures += 1;
                peer.gone |= peer.failures >= FAILURES_MAX;
            }
        }
        self.requeue(&flight.want);
        came
    }

    /// Takes the failure of a whole request.
    pub fn failed(&mut self, id: RequestId, failure: Failure, now: Duration) {
        let Some(flight) = self.land(id) else { return };
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            match failure {
                Failure::Unreachable => peer.gone = true,
                Failure::Closed => {
                    // All requests of a connection fail when it closes; that counts once.
                    peer.failures += u32::from(peer.not_before <= now);
                    peer.not_before = now + CLOSED_PAUSE;
                    peer.gone |= peer.failures >= FAILURES_MAX;
                }
                // That we have no room says nothing about the peer.
                Failure::Own => peer.not_before = now + BUSY_PAUSE,
                Failure::Busy => {
                    peer.heard = now;
                    // Many requests may be told so at once; one pause counts once.
                    peer.busy += u32::from(peer.not_before <= now);
                    peer.not_before = now + BUSY_PAUSE;
                    peer.gone |= peer.busy >= BUSY_MAX;
                }
                Failure::Peer => {
                    peer.failures += 1;
                    peer.window = (peer.window / 2).max(WINDOW_BYTES_MIN);
                    peer.gone |= peer.failures >= FAILURES_MAX;
                }
            }
        }
        self.requeue(&flight.want);
    }

    /// Never asks this peer again.
    pub fn give_up(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.gone = true;
        }
    }

    fn room(&self, peer: &PeerId) -> u64 {
        self.peers.get(peer).map_or(0, |peer| peer.window.saturating_sub(peer.in_flight))
    }

    fn can_ask(&self, peer: &PeerId, now: Duration) -> bool {
        self.peers.get(peer).is_some_and(|peer| {
            !peer.gone
                && peer.not_before <= now
                && peer.requests < FETCH_SERVED_PER_PEER_MAX
                && (peer.in_flight == 0 || peer.in_flight < peer.window)
        })
    }

    fn ask(&mut self, peer: PeerId, now: Duration) -> Option<Ask> {
        let budget = self.room(&peer).min(REQUEST_BYTES);
        let mut want = self.take_queued(peer, budget);
        if want.is_empty() {
            want = self.take_late(peer, now);
        }
        if want.is_empty() {
            return None;
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let mut bytes = 0_u64;
        for block in &want {
            if let Some(state) = self.wants.get_mut(block) {
                state.asked.insert(id, peer);
                bytes = bytes.saturating_add(state.size);
            }
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.in_flight = state.in_flight.saturating_add(bytes);
            state.requests += 1;
        }
        self.flights.insert(id, Flight { peer, since: now, bytes, want: want.clone() });
        Some(Ask { id, peer, want })
    }

    /// Takes wants from the front of the queue that this peer may hold, up to a request's worth of bytes.
    fn take_queued(&mut self, peer: PeerId, budget: u64) -> Vec<ContentId> {
        let mut taken = Vec::new();
        let mut bytes = 0_u64;
        let mut passed = VecDeque::new();
        while let Some(id) = self.queue.pop_front() {
            let Some(want) = self.wants.get_mut(&id) else { continue };
            if want.refused.contains(&peer) {
                passed.push_back(id);
                continue;
            }
            let fits = taken.is_empty() || bytes.saturating_add(want.size) <= budget;
            if !fits || taken.len() == FETCH_IDS_MAX {
                self.queue.push_front(id);
                break;
            }
            want.queued = false;
            bytes = bytes.saturating_add(want.size);
            taken.push(id);
        }
        while let Some(id) = passed.pop_back() {
            self.queue.push_front(id);
        }
        taken
    }

    /// Takes a want that is late with somebody else. Looks through what is in flight only: the wants may be many thousands.
    fn take_late(&self, peer: PeerId, now: Duration) -> Vec<ContentId> {
        let late = self
            .flights
            .values()
            .filter(|flight| flight.peer != peer && flight.since + HEDGE_AFTER <= now)
            .flat_map(|flight| flight.want.iter().map(|id| (flight.since, *id)));
        late.filter(|(_, id)| self.may_take_late(peer, id, now)).min().map(|(_, id)| id).into_iter().collect()
    }

    /// Whether a late want may be asked of this peer too. Those that have answered before come first.
    fn may_take_late(&self, peer: PeerId, id: &ContentId, now: Duration) -> bool {
        let Some(want) = self.wants.get(id) else { return false };
        let may_hold =
            |peer: &PeerId| !want.refused.contains(peer) && want.asked.values().all(|asked| asked != peer);
        let has_answered = |state: &Peer| state.heard > Duration::ZERO && state.not_before <= now;
        let is_proven = self.peers.get(&peer).is_some_and(has_answered);
        let has_room = want.asked.len() < COPIES_MAX
            || want.asked.keys().all(|id| self.flights.get(id).is_some_and(|it| self.silent_from(it) <= now));
        self.may_have_another(id)
            && has_room
            && may_hold(&peer)
            && (is_proven
                || !self
                    .peers
                    .iter()
                    .any(|(peer, state)| !state.gone && has_answered(state) && may_hold(peer)))
    }

    /// Whether a block is under way, and another copy may be, now or later.
    fn may_have_another(&self, id: &ContentId) -> bool {
        self.wants
            .get(id)
            .is_some_and(|want| !want.asked.is_empty() && want.asked.len() < COPIES_OF_SILENT_MAX)
    }

    /// When the peer of a request counts as silent, if nothing comes from it until then.
    fn silent_from(&self, flight: &Flight) -> Duration {
        let heard = self.peers.get(&flight.peer).map_or(Duration::ZERO, |peer| peer.heard);
        flight.since.max(heard) + SILENT_AFTER
    }

    fn land(&mut self, id: RequestId) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            peer.in_flight = peer.in_flight.saturating_sub(flight.bytes);
            peer.requests = peer.requests.saturating_sub(1);
        }
        for block in &flight.want {
            if let Some(want) = self.wants.get_mut(block) {
                want.asked.remove(&id);
            }
        }
        Some(flight)
    }

    fn refuse(&mut self, block: &ContentId, peer: PeerId) {
        if let Some(want) = self.wants.get_mut(block) {
            want.refused.insert(peer);
            self.scarce.insert(*block);
        }
    }

    fn requeue(&mut self, blocks: &[ContentId]) {
        for id in blocks.iter().rev() {
            if let Some(want) = self.wants.get_mut(id)
                && want.asked.is_empty()
                && !want.queued
            {
                want.queued = true;
                self.queue.push_front(*id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::Codec;

    fn block(n: u32) -> ContentId {
        ContentId::of(Codec::Raw, &n.to_be_bytes())
    }

    fn peers(n: usize) -> Vec<PeerId> {
        (0..n).map(|_| PeerId::random()).collect()
    }

    fn plan(blocks: u32, size: u64, peers: &[PeerId]) -> Plan {
        let mut plan = Plan::default();
        peers.iter().for_each(|peer| plan.peer(*peer));
        (0..blocks).for_each(|n| plan.want(block(n), size));
        plan
    }

    fn all(ask: &Ask, answer: Answer) -> Vec<(ContentId, Answer)> {
        ask.want.iter().map(|id| (*id, answer)).collect()
    }

    #[test]
    fn work_is_spread_over_all_peers() {
        let two = peers(2);
        let mut plan = plan(4, 1 << 20, &two);
        let asked: BTreeSet<PeerId> =
            std::iter::from_fn(|| plan.next(Duration::ZERO)).map(|ask| ask.peer).collect();
        assert_eq!(asked, two.into_iter().collect());
    }

    #[test]
    fn what_one_peer_lacks_is_asked_of_the_next() {
        let two = peers(2);
        let mut plan = plan(1, 10, &two);
        let first = plan.next(Duration::ZERO).unwrap();
        plan.answered(first.id, &all(&first, Answer::Missing), Duration::ZERO);
        let second = plan.next(Duration::ZERO).unwrap();
        assert_ne!(first.peer, second.peer);
        plan.answered(second.id, &all(&second, Answer::Missing), Duration::ZERO);
        assert_eq!(plan.next(Duration::ZERO), None);
        assert_eq!(plan.stuck(), [block(0)]);
    }

    #[test]
    fn a_forger_is_asked_for_nothing_again() {
        let two = peers(2);
        let mut plan = plan(3, 10, &two);
        let first = plan.next(Duration::ZERO).unwrap();
        assert!(plan.answered(first.id, &all(&first, Answer::Forged), Duration::ZERO).is_empty());
        while let Some(ask) = plan.next(Duration::ZERO) {
            assert_ne!(ask.peer, first.peer);
            plan.answered(ask.id, &all(&ask, Answer::Have), Duration::ZERO);
        }
        assert!(plan.is_complete());
    }

    #[test]
    fn a_late_want_is_asked_of_a_second_peer_and_comes_once() {
        let two = peers(2);
        let mut plan = plan(1, 10, &two);
        let slow = plan.next(Duration::ZERO).unwrap();
        assert_eq!(plan.next(Duration::ZERO), None);
        let late = plan.wake_at(Duration::ZERO).unwrap();
        let hedge = plan.next(late).unwrap();
        assert_ne!(slow.peer, hedge.peer);
        assert_eq!(plan.answered(hedge.id, &all(&hedge, Answer::Have), late), [block(0)]);
        assert!(plan.answered(slow.id, &all(&slow, Answer::Have), late).is_empty(), "the copy is dropped");
        assert!(plan.is_complete());
    }

    #[test]
    fn peers_that_never_answer_hold_nothing_up_for_long_while_another_one_does() {
        let all_peers = peers(20);
        let honest = all_peers[13];
        let mut plan = plan(60, 1 << 20, &all_peers);
        let (mut now, mut under_way) = (Duration::ZERO, Vec::new());
        while !plan.is_complete() {
            under_way.extend(std::iter::from_fn(|| plan.next(now)).filter(|ask| ask.peer == honest));
            match under_way.pop() {
                Some(ask) => {
                    now += Duration::from_millis(10);
                    plan.answered(ask.id, &all(&ask, Answer::Have), now);
                }
                None => now = plan.wake_at(now).unwrap(),
            }
        }
        assert!(now < SILENT_AFTER * 2, "{now:?}");
    }

    #[test]
    fn a_peer_that_only_promises_is_left_alone() {
        let one = peers(1);
        let mut plan = plan(1, 10, &one);
        let mut now = Duration::ZERO;
        for _ in 0..FAILURES_MAX {
            let ask = plan.next(now).unwrap();
            plan.answered(ask.id, &all(&ask, Answer::Later), now);
            now += BUSY_PAUSE;
        }
        assert_eq!(plan.next(now), None);
        assert_eq!(plan.stuck(), [block(0)]);
    }

    #[test]
    fn a_peer_that_is_always_busy_is_given_up_and_our_own_lack_of_room_is_not_its_fault() {
        let one = peers(1);
        let mut plan = plan(1, 10, &one);
        let mut now = Duration::ZERO;
        let mut turn = |plan: &mut Plan, failure| {
            let ask = plan.next(now)?;
            plan.failed(ask.id, failure, now);
            now += BUSY_PAUSE;
            Some(())
        };
        for _ in 0..2 * BUSY_MAX {
            assert!(turn(&mut plan, Failure::Own).is_some());
        }
        for _ in 0..BUSY_MAX {
            assert!(turn(&mut plan, Failure::Busy).is_some());
        }
        assert!(turn(&mut plan, Failure::Busy).is_none());
        assert_eq!(plan.stuck(), [block(0)]);
    }

    #[test]
    fn a_window_grows_with_answers_that_come_soon_and_shrinks_with_late_ones() {
        let one = peers(1);
        let window = |took: Duration| {
            let mut plan = plan(4_000, 64 << 10, &one);
            let mut now = Duration::ZERO;
            for _ in 0..8 {
                let asked: Vec<Ask> = std::iter::from_fn(|| plan.next(now)).collect();
                now += took;
                for ask in asked {
                    plan.answered(ask.id, &all(&ask, Answer::Have), now);
                }
            }
            plan.peers[&one[0]].window
        };
        assert_eq!(window(ANSWER_SOON), WINDOW_BYTES_MAX);
        assert_eq!(window(ANSWER_SOON * 2), WINDOW_BYTES_FIRST);
        assert_eq!(window(ANSWER_LATE * 2), WINDOW_BYTES_MIN);
    }

    #[test]
    fn a_peer_whose_connection_closed_is_asked_again_a_few_times() {
        let one = peers(1);
        let mut plan = plan(1, 10, &one);
        let mut now = Duration::ZERO;
        for _ in 0..FAILURES_MAX {
            let ask = plan.next(now).unwrap();
            plan.failed(ask.id, Failure::Closed, now);
            assert_eq!(plan.next(now), None, "not at once");
            now += CLOSED_PAUSE;
        }
        assert_eq!(plan.next(now), None);
        assert_eq!(plan.stuck(), [block(0)]);
    }

    #[test]
    fn a_busy_peer_is_asked_again_later() {
        let one = peers(1);
        let mut plan = plan(1, 10, &one);
        let ask = plan.next(Duration::ZERO).unwrap();
        plan.failed(ask.id, Failure::Busy, Duration::ZERO);
        assert_eq!(plan.next(Duration::ZERO), None);
        assert!(plan.stuck().is_empty());
        assert!(plan.next(plan.wake_at(Duration::ZERO).unwrap()).is_some());
    }

    #[test]
    fn only_a_peer_that_was_silent_for_long_held_us_up() {
        let [mute, fresh, slow] = peers(3)[..] else { unreachable!() };
        let mut plan = plan(6, 1 << 20, &[mute]);
        let ask = |plan: &mut Plan, now| std::iter::from_fn(|| plan.next(now)).collect::<Vec<_>>();
        assert_eq!(ask(&mut plan, Duration::ZERO).len(), 1);
        plan.peer(slow);
        plan.want(block(90), WINDOW_BYTES_MIN);
        let asked = ask(&mut plan, Duration::ZERO);
        assert!(asked.iter().all(|ask| ask.peer == slow) && !asked.is_empty());
        let end = SILENT_AFTER + Duration::from_millis(10);
        // The slow one gives something in the middle, and has more to give.
        plan.answered(asked[0].id, &all(&asked[0], Answer::Have), end / 2);
        assert!(ask(&mut plan, end / 2).iter().any(|ask| ask.peer == slow));
        plan.peer(fresh);
        let before = end - Duration::from_millis(10);
        assert!(ask(&mut plan, before).iter().any(|ask| ask.peer == fresh));
        assert_eq!(plan.waiting_on(end), BTreeMap::from([(mute, true), (fresh, false), (slow, false)]));
        assert!(!plan.waiting_on(SILENT_AFTER - Duration::from_millis(1))[&mute], "not for long enough");
        let later = end / 2 + SILENT_AFTER;
        assert!(plan.waiting_on(later)[&slow], "it has been silent for as long since");
    }

    #[test]
    fn a_peer_is_asked_for_no_more_at_once_than_it_serves() {
        let one = peers(1);
        let many = u32::try_from(FETCH_IDS_MAX * (FETCH_SERVED_PER_PEER_MAX + 4)).unwrap();
        let mut plan = plan(many, 1, &one);
        let asks: Vec<Ask> = std::iter::from_fn(|| plan.next(Duration::ZERO)).collect();
        assert_eq!(asks.len(), FETCH_SERVED_PER_PEER_MAX);
        plan.answered(asks[0].id, &all(&asks[0], Answer::Have), Duration::ZERO);
        assert!(plan.next(Duration::ZERO).is_some());
        assert_eq!(plan.next(Duration::ZERO), None);
    }

    proptest! {
        /// Whatever peers do, a plan ends: with everything, or with wants that nobody is left to ask for.
        #[test]
        fn every_plan_ends(
            blocks in 1_u32..80, size in 0_u64..3_000_000, count in 1_usize..5,
            verdicts in proptest::collection::vec(0_u8..7, 1..400),
        ) {
            let peers = peers(count);
            let mut plan = plan(blocks, size, &peers);
            let mut verdicts = verdicts.into_iter().cycle();
            let mut now = Duration::ZERO;
            let mut open: VecDeque<Ask> = VecDeque::new();
            let mut came = BTreeSet::new();
            for _ in 0..20_000 {
                while let Some(ask) = plan.next(now) {
                    prop_assert!(ask.want.len() <= FETCH_IDS_MAX && !ask.want.is_empty());
                    open.push_back(ask);
                }
                let Some(ask) = open.pop_front() else {
                    match plan.wake_at(now) {
                        Some(at) => { now = at; continue }
                        None => break,
                    }
                };
                now += Duration::from_millis(10);
                let failure = match verdicts.next() {
                    Some(0) => Some(Failure::Peer),
                    Some(1) => Some(Failure::Busy),
                    Some(2) => Some(Failure::Unreachable),
                    _ => None,
                };
                if let Some(failure) = failure {
                    plan.failed(ask.id, failure, now);
                    continue;
                }
                let answers: Vec<_> = ask.want.iter().map(|id| (*id, match verdicts.next() {
                    Some(3) => Answer::Missing,
                    Some(4) => Answer::Later,
                    Some(5) if *id == block(0) => Answer::Forged,
                    _ => Answer::Have,
                })).collect();
                for id in plan.answered(ask.id, &answers, now) {
                    prop_assert!(came.insert(id), "a block comes once");
                }
            }
            // Only a peer that is busy for ever keeps a plan open.
            let stuck = plan.stuck().len();
            prop_assert!(plan.is_complete() || stuck > 0 || plan.wake_at(now).is_some());
            prop_assert!(came.len() + plan.wants.len() == blocks as usize);
        }
    }
}
