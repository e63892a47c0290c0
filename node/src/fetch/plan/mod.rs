//! Decides which blocks to ask of which peer; knows nothing of sockets or clocks.
//!
//! Wants go out in batches, in the order of `wants`. Each peer has a window of bytes in flight, as large as its line holds
//! (`pace`), so that a fast peer is kept busy and a slow one never has much that others could bring. Those of which nothing was
//! heard yet are asked for little. Where nobody needs to be asked for anything for the first time, a peer with room is asked for what is
//! late with another one ("hedging", after
//! [Dean and Barroso, The Tail at Scale](https://research.google/pubs/the-tail-at-scale/)), and for what another one will
//! bring much later than it could: whoever answers first wins, and the other request is cancelled. Only then does a block come twice. A peer
//! that does not hold a block is not asked for it again, until it says that it does; a peer that sent wrong bytes is not asked for
//! anything again.
//!
//! Peers that fetch the same tree are asked for what they say they have. Those who have all of it are asked first for what belongs to this
//! node (`members`), and for the rest only where it does not come otherwise for a while, or where they say that it waits for its turn
//! (`flights`): those choose themselves what they give first.

mod choice;
mod flights;
mod members;
mod pace;
mod peer;
mod wants;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use libp2p::PeerId;

use self::{flights::Flight, members::Members, peer::Peer, wants::Wants};
use super::swarm::Mark;
use crate::{content::ContentId, limits::SWARM_MARKS_IN_ALL_MAX};

/// How long a peer whose connection closed is left alone: it is dialled again meanwhile.
const CLOSED_PAUSE: Duration = Duration::from_secs(3);
/// Copies of one want in flight, where all that were asked before are silent: otherwise a few that claim a block and never answer
/// could hold it up for as long as a request may take.
const COPIES_OF_SILENT_MAX: usize = 8;
/// Failures in a row after which a peer is left alone.
const FAILURES_MAX: u32 = 3;
/// Times in a row that a peer may be busy before it is left alone: half a minute.
const BUSY_MAX: u32 = 120;
/// Of so few bytes, nothing is left to others: they come sooner than others would tell of them.
const SHARE_BYTES_MIN: u64 = 1 << 20;
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

/// Bytes a second that peers of the local network have to bring for those elsewhere to be left alone: more than most lines of homes carry.
const NEAR_BYTES_PER_SECOND_MIN: u64 = 8 << 20;

/// The plan of one retrieval.
#[derive(Debug, Default)]
pub struct Plan {
    wants: Wants,
    /// Those of the wants that some peer does not hold.
    scarce: BTreeSet<ContentId>,
    /// Those of them that more than one request asks for: few, since each copy is a request of its own.
    copied: BTreeSet<ContentId>,
    peers: BTreeMap<PeerId, Peer>,
    /// Peers in the order in which they were preferred.
    order: Vec<PeerId>,
    flights: BTreeMap<RequestId, Flight>,
    next_request: u64,
    /// Who else fetches the tree, where that may be known.
    members: Option<Members>,
    /// Whether anybody was heard of who does.
    is_swarm: bool,
    /// Bytes that were wanted since the beginning.
    bytes: u64,
    /// Whether what belongs to others is left to them.
    is_sharing: bool,
    /// When all that belongs to this node had been asked for, how many blocks have come from the others since, and when who has all of
    /// them was asked for one of those last.
    done_at: Option<Duration>,
    from_members: u32,
    helped_at: Option<Duration>,
    /// How many marks of peers are believed.
    marks: usize,
    /// How often something was put into the queue, or may be asked of more peers.
    queued: u64,
    /// When something that waits for its turn may be asked of one more peer.
    waits_until: Option<Duration>,
    /// Requests that nobody waits for any more.
    cancelled: Vec<RequestId>,
    /// How often a search for late blocks looked at one.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
}

impl Plan {
    /// A plan of a node that may hear of others who fetch the same.
    pub fn of(own: PeerId) -> Self {
        let members = Members::new(own);
        Self { wants: Wants::of(Some(members.salt())), members: Some(members), ..Self::default() }
    }

    /// Adds a block to fetch; `size` is what the signed manifest says, or a guess.
    pub fn want(&mut self, id: ContentId, size: u64) {
        let mark = Mark::of(&id);
        let holders = match self.is_swarm {
            true => self.peers.values().filter(|peer| peer.claims(mark)).count(),
            false => 0,
        };
        let holders = u32::try_from(holders).unwrap_or(u32::MAX);
        if self.wants.add(id, size, holders, self.members.as_ref().filter(|_| self.is_swarm)) {
            self.queued += 1;
            self.bytes = self.bytes.saturating_add(size);
            (self.done_at, self.from_members, self.helped_at) = Default::default();
        }
    }

    /// Begins another retrieval with the same peers: what they have and how fast they are is known, and whoever was lost is tried again.
    /// Nothing is wanted, and what is in flight belongs to the one before.
    pub fn begin(&mut self) {
        self.wants = Wants::of(self.members.as_ref().map(Members::salt));
        self.scarce.clear();
        self.copied.clear();
        self.flights.clear();
        self.cancelled.clear();
        (self.done_at, self.from_members, self.helped_at, self.bytes) = Default::default();
        self.peers.values_mut().for_each(Peer::begin);
    }

    /// Puts the peers into another order, by what `key` says of each.
    pub fn prefer<K: Ord>(&mut self, key: impl FnMut(&PeerId) -> K) {
        self.order.sort_by_key(key);
    }

    /// Adds a peer to ask; those added first are preferred.
    pub fn peer(&mut self, peer: PeerId) {
        if let Entry::Vacant(place) = self.peers.entry(peer) {
            place.insert(Peer::default());
            self.order.push(peer);
        }
    }

    /// A peer is on the local network: as long as it brings enough, those elsewhere that have everything are left alone.
    pub fn near(&mut self, peer: &PeerId) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.is_near = true;
        }
    }

    /// Bytes that were asked for and have not come yet, of peers that are not silent.
    pub fn coming(&self, now: Duration) -> u64 {
        let coming = self.flights.values().filter(|flight| !flight.waits && self.silent_from(flight) > now);
        coming.fold(0, |sum, flight| sum.saturating_add(flight.bytes))
    }

    /// Bytes that one request asks for.
    pub fn asked_bytes(&self, id: RequestId) -> u64 {
        self.flights.get(&id).map_or(0, |flight| flight.bytes)
    }

    /// Whether a peer was added, even if it is not asked any more.
    pub fn knows(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Whether everything wanted has come.
    pub fn is_complete(&self) -> bool {
        self.wants.is_empty()
    }

    /// Notes that somebody tells of a peer that fetches the tree too.
    pub fn told_of(&mut self, peer: PeerId, now: Duration) {
        if let Some(members) = &mut self.members {
            members.told(peer, now);
        }
    }

    /// Notes that a peer fetches the tree too, and what it has of it besides what it told before.
    pub fn has(&mut self, peer: PeerId, marks: &[Mark], now: Duration) {
        let (Some(state), Some(members)) = (self.peers.get_mut(&peer), &mut self.members) else { return };
        if state.is_liar() {
            return;
        }
        state.fetches();
        members.heard(peer, now);
        if !self.is_swarm {
            self.is_swarm = true;
            self.wants.order(Some(members));
        }
        for mark in marks {
            if self.marks >= SWARM_MARKS_IN_ALL_MAX || !state.told(*mark) {
                continue;
            }
            self.marks += 1;
            if let Some(id) = self.wants.marked(*mark) {
                state.nothing_at = None;
                self.wants.count(&id, true, Some(members));
                if let Some(want) = self.wants.get_mut(&id) {
                    want.refused.remove(&peer);
                }
            }
        }
    }

    /// Whether a peer says that it has a block of what it fetches itself.
    pub fn claims(&self, peer: &PeerId, id: &ContentId) -> bool {
        self.peers.get(peer).is_some_and(|state| state.claims(Mark::of(id)))
    }

    /// Whether somebody who fetches the tree too may have more of it soon.
    pub fn is_hopeful(&self, now: Duration) -> bool {
        self.members.as_ref().is_some_and(|members| members.is_hopeful(now))
    }

    /// The requests of which nobody waits for the answer any more: their peers are alive, and others brought all of it. They
    /// are over with that.
    pub fn cancelled(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.cancelled)
    }

    /// Notes that more of the answer to a request has come: whoever sends is not silent, and asking still others for the same would
    /// make a slow line slower.
    pub fn moved(&mut self, id: RequestId, now: Duration) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.moved = Some(now);
        }
    }

    /// The peers that have not answered yet, and whether each has been silent long enough for that to be its own doing: for
    /// `SILENT_AFTER` nothing came from it, and all that time it had a request.
    pub fn waiting_on(&self, now: Duration) -> BTreeMap<PeerId, bool> {
        let mut waiting = BTreeMap::new();
        for flight in self.flights.values() {
            *waiting.entry(flight.peer).or_default() |= !flight.waits && self.silent_from(flight) <= now;
        }
        waiting
    }

    /// How many blocks are still wanted.
    pub fn outstanding(&self) -> usize {
        self.wants.len()
    }

    /// The wants that no peer is left to ask for.
    pub fn stuck(&self) -> Vec<ContentId> {
        let left: Vec<(&PeerId, &Peer)> = self.peers.iter().filter(|(_, state)| !state.gone).collect();
        let is_stuck = |id: &ContentId| {
            self.wants.get(id).is_some_and(|want| {
                let able =
                    |(peer, state): &(&PeerId, &Peer)| !want.refused.contains(peer) && state.may_have(id);
                want.is_unasked() && !left.iter().any(able)
            })
        };
        if left.iter().any(|(_, state)| !state.is_partial()) {
            // It can be asked for all that nobody has refused.
            return self.scarce.iter().filter(|id| is_stuck(id)).copied().collect();
        }
        self.wants.iter().map(|(id, _)| *id).filter(is_stuck).collect()
    }

    /// The peers that are not asked any more because they could not be reached, or did not answer, although they may have what is
    /// wanted.
    pub fn lost(&self) -> Vec<PeerId> {
        let may_have = |(peer, state): &(&PeerId, &Peer)| {
            self.wants.iter().any(|(id, want)| !want.refused.contains(peer) && state.may_have(id))
        };
        let lost = self.peers.iter().filter(|(_, state)| state.gone && !state.barred);
        lost.filter(may_have).map(|(peer, _)| *peer).collect()
    }

    /// Asks a peer again that was lost and is there again.
    pub fn found_again(&mut self, peer: PeerId, now: Duration) {
        if let Some(state) = self.peers.get_mut(&peer)
            && !state.barred
        {
            state.gone = false;
            (state.failures, state.busy, state.not_before) = (0, 0, now);
            (state.pace, state.nothing_at) = Default::default();
        }
    }

    /// The next request to send, if there is one now.
    pub fn next(&mut self, now: Duration) -> Option<Ask> {
        self.look_who_counts(now);
        if self.waits_until.is_some_and(|until| until <= now) {
            self.queued += 1;
            let waiting = self.flights.values().filter(|flight| flight.waits).flat_map(|flight| &flight.want);
            let until = waiting.filter_map(|id| self.wants.get(id)).map(|want| want.not_before);
            self.waits_until = until.filter(|until| *until > now).min();
        }
        // Those first that let nothing wait, and of them the one with the most room, so that the work is spread; among equals the preferred
        // one.
        let is_enough = self.is_enough_near(now);
        let mut candidates = Vec::new();
        for peer in &self.order {
            let Some(state) = self.peers.get(peer).filter(|state| state.can_be_asked(now)) else { continue };
            if is_enough && !state.is_near && !state.is_partial() {
                continue;
            }
            candidates.push(((state.waiting, Reverse(state.room())), *peer));
        }
        candidates.sort_by_key(|(key, _)| *key);
        let proven: Vec<PeerId> =
            self.peers.iter().filter(|(_, state)| state.is_proven(now)).map(|(peer, _)| *peer).collect();
        candidates.into_iter().find_map(|(_, peer)| self.ask(peer, &proven, now))
    }

    /// Whether peers of the local network bring everything, and fast enough. Where one of them is late, or lacks something, it is not so.
    fn is_enough_near(&self, now: Duration) -> bool {
        let brings = |state: &Peer| {
            state.is_near
                && state.is_proven(now)
                && !state.is_partial()
                && state.pace.rate().is_some_and(|rate| rate >= NEAR_BYTES_PER_SECOND_MIN)
        };
        let is_near = |peer: &PeerId| self.peers.get(peer).is_some_and(|state| state.is_near);
        let is_late =
            |flight: &Flight| is_near(&flight.peer) && !flight.waits && self.late_from(flight, now) <= now;
        self.scarce.is_empty() && self.peers.values().any(brings) && !self.flights.values().any(is_late)
    }

    /// When [`Plan::next`] may have something new, although nothing was answered.
    pub fn wake_at(&self, now: Duration) -> Option<Duration> {
        let copied = self.copied.iter().filter_map(|id| self.wants.get(id));
        let copied = copied.filter(|want| want.asked.len() < COPIES_OF_SILENT_MAX);
        let copied = copied.flat_map(|want| want.asked.keys()).filter_map(|id| self.flights.get(id));
        let late = self.flights.values().filter(|flight| !flight.alone.is_empty()).chain(copied);
        let late = late.flat_map(|flight| [self.late_from(flight, now), self.silent_from(flight)]);
        let busy = self.peers.values().filter(|peer| !peer.gone).map(|peer| peer.not_before);
        let help = self.helped_at.filter(|_| self.is_sharing).map(|at| at + self.help_after());
        let shares = self.shares_until().filter(|_| self.is_sharing);
        let counts = self.members.as_ref().and_then(|members| members.wake_at(now));
        let waits = self.waits_until;
        late.chain(busy).chain(help).chain(shares).chain(counts).chain(waits).filter(|at| *at > now).min()
    }

    /// Takes an answer; gives the blocks that are still wanted of it, which the caller keeps.
    pub fn answered(
        &mut self,
        id: RequestId,
        answers: &[(ContentId, Answer)],
        now: Duration,
    ) -> Vec<ContentId> {
        let Some(flight) = self.land(id) else { return Vec::new() };
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            peer.heard = Some(now);
            // With an answer there is room for one more request.
            if std::mem::take(&mut peer.waits_for_room) {
                peer.not_before = peer.not_before.min(now);
            }
        }
        let (mut came, mut bytes, mut others) = (Vec::new(), 0_u64, BTreeSet::new());
        for (block, answer) in answers {
            match answer {
                Answer::Have => {
                    if let Some(want) = self.wants.remove(block) {
                        bytes = bytes.saturating_add(want.size.max(1));
                        self.scarce.remove(block);
                        self.copied.remove(block);
                        self.not_alone(want.asked.keys().copied(), block);
                        others.extend(want.asked.into_keys().chain(want.waits.into_keys()));
                        came.push(*block);
                    }
                }
                Answer::Missing => self.refuse(block, flight.peer),
                Answer::Forged => self.give_up(flight.peer),
                Answer::Later => {}
            }
        }
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            if answers.iter().any(|(_, answer)| *answer == Answer::Have) {
                (peer.failures, peer.busy) = (0, 0);
            }
            peer.pace.came(flight.sent, bytes, now);
            // An answer without a single verdict would be asked for again at once, for ever.
            if answers.iter().all(|(_, answer)| *answer == Answer::Later) {
                peer.not_before = now + BUSY_PAUSE;
                peer.fails();
            }
            match (&mut self.members, bytes > 0) {
                (Some(_), true) if peer.is_partial() => {
                    self.from_members = self.from_members.saturating_add(1)
                }
                (Some(members), true) => {
                    // Others may still take it for one that fetches, for a while after it has ended.
                    members.remove(flight.peer);
                    if self.done_at.is_none() {
                        members.came(now);
                    }
                }
                _ => {}
            }
        }
        self.requeue(&flight.want);
        self.cancel(others);
        came
    }

    /// Takes the failure of a whole request.
    pub fn failed(&mut self, id: RequestId, failure: Failure, now: Duration) {
        let Some(flight) = self.land(id) else { return };
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            peer.waits_for_room &= failure == Failure::Own;
            match failure {
                Failure::Unreachable => peer.gone = true,
                Failure::Closed => {
                    // All requests of a connection fail when it closes; that counts once.
                    peer.failures += u32::from(peer.not_before <= now);
                    peer.not_before = now + CLOSED_PAUSE;
                    peer.gone |= peer.failures >= FAILURES_MAX;
                }
                // That we have no room says nothing about the peer.
                Failure::Own => {
                    peer.waits_for_room |= peer.not_before <= now;
                    peer.not_before = peer.not_before.max(now + BUSY_PAUSE);
                }
                Failure::Busy(pause) => {
                    peer.heard = Some(now);
                    // Many requests may be told so at once; one pause counts once.
                    peer.busy += u32::from(peer.not_before <= now);
                    peer.not_before = now + pause.max(BUSY_PAUSE);
                    peer.gone |= peer.busy >= BUSY_MAX;
                }
                Failure::Peer => {
                    peer.pace.lost();
                    peer.fails();
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

    /// Looks who else fetches, and what of the wants belongs to this node because of that.
    fn look_who_counts(&mut self, now: Duration) {
        let Some(members) = &mut self.members else { return };
        if members.look(now) {
            self.is_swarm = true;
            self.queued += 1;
            self.wants.order(Some(members));
        }
        // There is nobody to leave anything to where none counts and none has told of a block.
        let is_worth_it = self.bytes > SHARE_BYTES_MIN && (members.is_anybody() || self.marks > 0);
        let is_sharing = is_worth_it && self.shares_until().is_none_or(|until| now < until);
        self.queued += u64::from(self.is_sharing != is_sharing);
        self.is_sharing = is_sharing;
    }

    fn refuse(&mut self, block: &ContentId, peer: PeerId) {
        if let Some(want) = self.wants.get_mut(block) {
            want.refused.insert(peer);
            self.scarce.insert(*block);
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let gone = state.lied(Mark::of(block));
        self.marks = self.marks.saturating_sub(gone.len());
        if let Some(members) = self.members.as_mut().filter(|_| state.is_liar()) {
            members.remove(peer);
        }
        for mark in gone {
            if let Some(id) = self.wants.marked(mark) {
                self.wants.count(&id, false, self.members.as_ref());
            }
        }
    }

    fn requeue(&mut self, blocks: &[ContentId]) {
        for id in blocks {
            if self.wants.get(id).is_some_and(|want| want.asked.is_empty()) {
                self.wants.queue(id, self.members.as_ref().filter(|_| self.is_swarm));
                self.queued += 1;
            }
        }
    }
}

#[cfg(test)]
mod schedule_tests;
#[cfg(test)]
mod tests;
