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
/// An answer that took longer than this makes it smaller: from then on requests only wait for one another.
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
/// Late wants that one search looks at. Only those are passed over of which the peer has a copy or refused one, or which a proven
/// peer may have: it is enough to find some of the others.
const LATE_LOOKED_AT_MAX: usize = 1_024;
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
    /// The peer is busy; it may be asked again after so long.
    Busy(Duration),
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

impl Want {
    /// Whether a peer was not asked yet, or has not refused.
    fn may_come_from(&self, peer: &PeerId) -> bool {
        !self.refused.contains(peer) && self.asked.values().all(|asked| asked != peer)
    }
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
    /// Gone for what it sent.
    barred: bool,
}

#[derive(Debug)]
struct Flight {
    peer: PeerId,
    since: Duration,
    /// When enough of its answer had come last.
    moved: Duration,
    bytes: u64,
    want: Vec<ContentId>,
    /// Those of them that are still wanted and that no other request asks for.
    alone: BTreeSet<ContentId>,
}

/// The plan of one retrieval.
#[derive(Debug, Default)]
pub struct Plan {
    wants: BTreeMap<ContentId, Want>,
    /// Those of the wants that some peer does not hold.
    scarce: BTreeSet<ContentId>,
    /// Those of them that more than one request asks for: few, since each copy is a request of its own.
    copied: BTreeSet<ContentId>,
    queue: VecDeque<ContentId>,
    peers: BTreeMap<PeerId, Peer>,
    /// Peers in the order in which they were preferred.
    order: Vec<PeerId>,
    flights: BTreeMap<RequestId, Flight>,
    next_request: u64,
    /// How often a search for late blocks looked at one.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
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
                barred: false,
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

    /// Notes that more of the answer to a request has come: whoever sends is not silent, and asking still others for the same would
    /// make a slow line slower.
    pub fn moved(&mut self, id: RequestId, now: Duration) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.moved = now;
        }
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

    /// The peers that are not asked any more because they could not be reached, or did not answer, although they may have what is
    /// wanted.
    pub fn lost(&self) -> Vec<PeerId> {
        let may_have = |peer: &PeerId| self.wants.values().any(|want| !want.refused.contains(peer));
        let lost = self.peers.iter().filter(|(_, state)| state.gone && !state.barred);
        lost.map(|(peer, _)| *peer).filter(may_have).collect()
    }

    /// Asks a peer again that was lost and is there again.
    pub fn found_again(&mut self, peer: PeerId, now: Duration) {
        if let Some(state) = self.peers.get_mut(&peer)
            && !state.barred
        {
            state.gone = false;
            (state.failures, state.busy) = (0, 0);
            state.not_before = now;
            state.window = WINDOW_BYTES_FIRST;
        }
    }

    /// The next request to send, if there is one now.
    pub fn next(&mut self, now: Duration) -> Option<Ask> {
        // The peer with the most room first, so that the work is spread; among equals the preferred one.
        let mut candidates: Vec<PeerId> = self.order.clone();
        candidates.retain(|peer| self.can_ask(peer, now));
        candidates.sort_by_key(|peer| std::cmp::Reverse(self.room(peer)));
        let proven = self.proven(now);
        candidates.into_iter().find_map(|peer| self.ask(peer, &proven, now))
    }

    /// When [`Plan::next`] may have something new, although nothing was answered.
    pub fn wake_at(&self, now: Duration) -> Option<Duration> {
        let copied = self.copied.iter().filter_map(|id| self.wants.get(id));
        let copied = copied.filter(|want| want.asked.len() < COPIES_OF_SILENT_MAX);
        let copied = copied.flat_map(|want| want.asked.keys()).filter_map(|id| self.flights.get(id));
        let hedge = self
            .flights
            .values()
            .filter(|flight| !flight.alone.is_empty())
            .chain(copied)
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
                    if let Some(want) = self.wants.remove(block) {
                        self.scarce.remove(block);
                        self.copied.remove(block);
                        self.not_alone(want.asked.keys().copied(), block);
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
                Failure::Busy(pause) => {
                    peer.heard = now;
                    // Many requests may be told so at once; one pause counts once.
                    peer.busy += u32::from(peer.not_before <= now);
                    peer.not_before = now + pause.max(BUSY_PAUSE);
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
            (peer.gone, peer.barred) = (true, true);
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

    fn ask(&mut self, peer: PeerId, proven: &[PeerId], now: Duration) -> Option<Ask> {
        let budget = self.room(&peer).min(REQUEST_BYTES);
        let mut want = self.take_queued(peer, budget);
        if want.is_empty() {
            want = self.late(peer, proven, now).into_iter().collect();
        }
        if want.is_empty() {
            return None;
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let mut bytes = 0_u64;
        let mut alone = BTreeSet::new();
        for block in &want {
            let Some(state) = self.wants.get_mut(block) else { continue };
            bytes = bytes.saturating_add(state.size);
            if state.asked.is_empty() {
                state.asked.insert(id, peer);
                alone.insert(*block);
            } else {
                let others: Vec<RequestId> = state.asked.keys().copied().collect();
                state.asked.insert(id, peer);
                self.copied.insert(*block);
                self.not_alone(others.into_iter(), block);
            }
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.in_flight = state.in_flight.saturating_add(bytes);
            state.requests += 1;
        }
        self.flights.insert(id, Flight { peer, since: now, moved: now, bytes, want: want.clone(), alone });
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

    /// The peers that have answered before, and can be asked.
    fn proven(&self, now: Duration) -> Vec<PeerId> {
        let has_answered =
            |state: &Peer| !state.gone && state.heard > Duration::ZERO && state.not_before <= now;
        self.peers.iter().filter(|(_, state)| has_answered(state)).map(|(peer, _)| *peer).collect()
    }

    /// A want that is late with somebody else and may be asked of this peer too: the first that nobody else is asked for, or one
    /// for which all that were asked are silent.
    ///
    /// Those that have answered before come first. Both the wants and those that are late may be many thousands.
    fn late(&self, peer: PeerId, proven: &[PeerId], now: Duration) -> Option<ContentId> {
        let is_proven = proven.contains(&peer);
        let is_late = |flight: &&Flight| flight.since + HEDGE_AFTER <= now;
        // Requests are numbered as they were sent: the oldest come first.
        let alone =
            self.flights.values().filter(is_late).filter(|flight| flight.peer != peer).flat_map(|flight| {
                // Where somebody proven is left to ask, it is so for all of a request that nobody refused.
                let has_better = !is_proven && proven.iter().any(|it| *it != flight.peer);
                let alone = if has_better && self.scarce.is_empty() { None } else { Some(&flight.alone) };
                alone.into_iter().flatten()
            });
        let is_silent = |id: &RequestId| self.flights.get(id).is_some_and(|it| self.silent_from(it) <= now);
        let copied = self.copied.iter().filter(|id| {
            let want = self.wants.get(id);
            want.is_some_and(|want| {
                want.asked.len() < COPIES_OF_SILENT_MAX
                    && (want.asked.len() < COPIES_MAX || want.asked.keys().all(is_silent))
            })
        });
        let may_take = |id: &&ContentId| {
            #[cfg(test)]
            self.looked_at.set(self.looked_at.get() + 1);
            self.wants.get(id).is_some_and(|want| {
                want.may_come_from(&peer) && (is_proven || !proven.iter().any(|it| want.may_come_from(it)))
            })
        };
        alone.take(LATE_LOOKED_AT_MAX).chain(copied).find(may_take).copied()
    }

    /// When the peer of a request counts as silent, if nothing comes from it until then.
    fn silent_from(&self, flight: &Flight) -> Duration {
        let heard = self.peers.get(&flight.peer).map_or(Duration::ZERO, |peer| peer.heard);
        flight.since.max(flight.moved).max(heard) + SILENT_AFTER
    }

    fn land(&mut self, id: RequestId) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            peer.in_flight = peer.in_flight.saturating_sub(flight.bytes);
            peer.requests = peer.requests.saturating_sub(1);
        }
        for block in &flight.want {
            let Some(want) = self.wants.get_mut(block) else { continue };
            want.asked.remove(&id);
            if want.asked.len() < 2 {
                self.copied.remove(block);
            }
            if let [left] = want.asked.keys().collect::<Vec<_>>()[..]
                && let Some(left) = self.flights.get_mut(left)
            {
                left.alone.insert(*block);
            }
        }
        Some(flight)
    }

    /// Notes that these requests are not alone, or no longer, in asking for a block.
    fn not_alone(&mut self, requests: impl Iterator<Item = RequestId>, block: &ContentId) {
        for request in requests {
            if let Some(flight) = self.flights.get_mut(&request) {
                flight.alone.remove(block);
            }
        }
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
#[path = "plan_tests.rs"]
mod tests;
