//! A lookup in the DHT: whom to ask, how long to wait for whom, and when it is over.
//!
//! The nodes nearest to a key are asked for what they hold under it and for the nodes that they know to be nearer, until the
//! nearest [`WANTED`] that live have answered ([Kademlia](https://pdos.csail.mit.edu/~petar/papers/maymounkov-kademlia-lncs.pdf),
//! section 2.3); or fewer, where a [`Goal`] needs no more. It runs on [`PATHS`] paths that share no informant, as
//! [S/Kademlia](https://doi.org/10.1109/ICPADS.2007.4447808) has them: what a liar names stays on the path on which it was asked.
//!
//! # Discrepancies
//! - Every peer of the routing table is a candidate from the start, and not the nearest twenty alone: where all of those have
//!   died, the lookup goes on to the next ones. In a healthy network they are never asked.
//! - A peer that takes longer than the others did is no longer counted among those asked at once (`SLOW_MIN`): the dead cost a second or
//!   two together, and not their whole timeout each. Its answer is still taken when it comes.
//! - Nobody is asked beyond the nearest that are wanted as long as those may still answer.
//! - A peer names the twenty nearest that it knows. Where these have all just died, nobody names the next one, which may hold what is
//!   looked for. So where nothing was found, and half of the nearest did not answer, those who did are asked for the neighbours of
//!   peers on the edge of what is known (`WIDENED_MAX`).
//!
//! The lookup knows nothing of records: the caller says when one has come ([`Event::Found`]), and judges it. It is told what happened
//! ([`Lookup::handle`]), says what to do ([`Lookup::poll`]), and when it wants to be asked again at the latest
//! ([`Step::Wait`]). `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{
    PeerId,
    kad::{KBucketDistance, KBucketKey, RecordKey},
};
use tokio::time::Instant;

use super::patience::Patience;

/// The nearest peers that must have answered: as many as are given a record.
pub const WANTED: usize = 20;
/// The nearest peers that must have answered where it is looked for nothing but the nearest: if they name nobody who is nearer, nobody
/// is ([Optimistic Provide](https://doi.org/10.1109/INFOCOM52122.2024.10621404), section III; go-libp2p ends with three).
pub const WANTED_NEAREST: usize = 4;
/// Paths that share no informant: the most that S/Kademlia found to help.
pub const PATHS: u8 = 8;
/// Peers that are asked at once, without the slow ones.
const ASKED_AT_ONCE_MAX: usize = 8;
/// Peers that have not answered yet, with the slow ones.
const WAITING_MAX: usize = 64;
/// Peers that one lookup asks at most: what it takes where nine of ten have died.
pub const ASKED_MAX: u32 = 256;
/// Peers that one lookup knows of: a full routing table, and what those that are asked may name.
pub const CANDIDATES_MAX: usize = 1_024;
/// Peers that one answer may name.
pub const NAMED_MAX: usize = 20;
/// Peers that are asked for others' neighbours at once, and how often that is done.
const WIDENED_MAX: usize = 8;
const WIDENINGS_MAX: u8 = 2;
/// Peers whose neighbours are asked for.
const EDGE: usize = 4;
/// The least after which a peer that has not answered counts as slow: a dial and a question between continents.
const SLOW_MIN: Duration = Duration::from_secs(1);

/// What a lookup is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// What is under the key. All who are to hold it are asked, however many agree: who stands next to a key on purpose, and shows
    /// an older state, agrees with his like.
    Held,
    /// The peers that are nearest to it.
    Nearest,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer answered, and named others.
    Answered {
        /// Who.
        peer: PeerId,
        /// Whom it named; those that cannot be reached left out.
        closer: Vec<PeerId>,
    },
    /// A peer was not reached, or did not answer in time.
    Failed {
        /// Who.
        peer: PeerId,
    },
    /// Something came that counts.
    Found,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask this peer, and poll again.
    Ask(PeerId),
    /// Ask this peer, which is connected, for the neighbours of another one, and poll again.
    AskAbout {
        /// Whom.
        peer: PeerId,
        /// Of whom.
        about: PeerId,
    },
    /// Wait for an event, and poll again at this time at the latest.
    Wait(Instant),
    /// It is over.
    Over(Ended),
}

/// How a lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All that are nearest and live have answered: what they do not have is not there.
    Complete,
    /// Something was found, and only peers that are silent were left to ask.
    Silent,
    /// There was nobody to ask, or nobody answered: nothing is known.
    Unanswered,
    /// The time ran out, or more was asked than one lookup may: there may be more.
    CutOff,
}

/// What a lookup cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Peers that were asked.
    pub asked: u32,
    /// Peers that answered.
    pub answered: u32,
    /// Peers that were not reached, or did not answer in time.
    pub failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not asked yet.
    New,
    /// Asked, at a time.
    Asked {
        at: Instant,
    },
    Answered,
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    peer: PeerId,
    /// The paths that know of it, a bit each.
    paths: u8,
    /// The path that asked it, where one did.
    asked_on: u8,
    state: State,
}

/// One lookup.
#[derive(Debug)]
pub struct Lookup {
    goal: Goal,
    target: KBucketKey<RecordKey>,
    candidates: BTreeMap<KBucketDistance, Candidate>,
    began: Instant,
    deadline: Instant,
    /// How long one peer may take, its dial included.
    answer_max: Duration,
    /// The longest time that an answer took.
    longest: Duration,
    patience: Patience,
    has_found: bool,
    /// Who is still to be asked about whom, and who was, and when.
    to_widen: Vec<(PeerId, PeerId)>,
    widening: BTreeMap<PeerId, Instant>,
    widenings: u8,
    /// Candidates that there were when that was done last.
    widened_from: usize,
    /// The path that asks next.
    turn: u8,
    cost: Cost,
}

impl Lookup {
    /// A lookup under `key` that begins with the peers of the routing table, `own` left out, and ends at `deadline`.
    pub fn new(
        goal: Goal,
        key: RecordKey,
        known: impl IntoIterator<Item = PeerId>,
        now: Instant,
        deadline: Instant,
        answer_max: Duration,
    ) -> Self {
        let mut lookup = Self {
            goal,
            target: KBucketKey::new(key),
            candidates: BTreeMap::new(),
            began: now,
            deadline,
            answer_max,
            longest: Duration::ZERO,
            patience: Patience::new(now),
            has_found: false,
            to_widen: Vec::new(),
            widening: BTreeMap::new(),
            widenings: 0,
            widened_from: 0,
            turn: 0,
            cost: Cost::default(),
        };
        known.into_iter().for_each(|peer| lookup.learn(peer, u8::MAX));
        lookup
    }

    /// What it has cost so far.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// How long it has taken so far.
    pub fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Whether an answer of this peer is waited for.
    pub fn awaits(&self, peer: &PeerId) -> bool {
        self.widening.contains_key(peer)
            || self.of(peer).is_some_and(|it| matches!(it.state, State::Asked { .. }))
    }

    /// The peers that answered or were only named, the nearest first: not those that failed, nor those that were silent until now.
    pub fn nearest(&self) -> impl Iterator<Item = PeerId> {
        let there = self.candidates.values().filter(|it| matches!(it.state, State::Answered | State::New));
        there.map(|it| it.peer)
    }

    /// How many of the nearest must have answered.
    fn wanted(&self) -> usize {
        match self.goal {
            Goal::Nearest => WANTED_NEAREST,
            Goal::Held => WANTED,
        }
    }

    /// Notes what happened.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Answered { peer, closer } if self.widening.contains_key(&peer) => {
                self.widening.remove(&peer);
                self.cost.answered += 1;
                self.learn_from(&peer, closer);
            }
            Event::Failed { peer } if self.widening.remove(&peer).is_some() => self.cost.failed += 1,
            Event::Answered { peer, closer } => {
                let Some(State::Asked { at }) = self.settle(&peer, State::Answered) else { return };
                self.cost.answered += 1;
                self.longest = self.longest.max(now.saturating_duration_since(at));
                self.learn_from(&peer, closer);
            }
            Event::Failed { peer } => {
                if self.settle(&peer, State::Failed).is_some() {
                    self.cost.failed += 1;
                }
            }
            Event::Found => self.has_found = true,
        }
    }

    /// Says what to do now.
    pub fn poll(&mut self, now: Instant) -> Step {
        self.give_up_late(now);
        if now >= self.deadline {
            return Step::Over(self.unfinished());
        }
        if self.patience.is_over(self.cost.answered, self.may_end(), now) {
            return Step::Over(Ended::Silent);
        }
        let slow_after = SLOW_MIN.max(2 * self.longest);
        let (mut waiting, mut at_once) = (0, 0);
        for candidate in self.candidates.values() {
            if let State::Asked { at, .. } = candidate.state {
                waiting += 1;
                at_once += usize::from(now < at + slow_after);
            }
        }
        let may_ask = self.cost.asked < ASKED_MAX;
        let mut is_finished = true;
        for _ in 0..PATHS {
            let path = self.turn;
            self.turn = (self.turn + 1) % PATHS;
            match self.next_on(path, now, slow_after) {
                Some(Next::Ask(distance)) => {
                    is_finished = false;
                    if may_ask
                        && at_once < ASKED_AT_ONCE_MAX
                        && waiting < WAITING_MAX
                        && let Some(candidate) = self.candidates.get_mut(&distance)
                    {
                        (candidate.asked_on, candidate.state) = (path, State::Asked { at: now });
                        self.cost.asked += 1;
                        return Step::Ask(candidate.peer);
                    }
                }
                Some(Next::Wait) => is_finished = false,
                None => {}
            }
        }
        if is_finished && let Some((peer, about)) = self.widen() {
            self.widening.insert(peer, now);
            self.cost.asked += 1;
            return Step::AskAbout { peer, about };
        }
        if is_finished && self.widening.is_empty() {
            return Step::Over(match self.cost.answered {
                0 => Ended::Unanswered,
                _ => Ended::Complete,
            });
        }
        if waiting == 0 && self.widening.is_empty() {
            return Step::Over(self.unfinished());
        }
        Step::Wait(self.wake(now, slow_after))
    }

    /// Who is to be asked about whom, where nothing was found and the nearest that anybody names may have died together.
    fn widen(&mut self) -> Option<(PeerId, PeerId)> {
        let brought_some = self.candidates.len() > self.widened_from;
        if self.to_widen.is_empty()
            && self.widening.is_empty()
            && brought_some
            && self.widenings < WIDENINGS_MAX
            && !self.may_end()
            && self.cost.asked as usize + WIDENED_MAX <= ASKED_MAX as usize
        {
            let of = |state| move |it: &&Candidate| it.state == state;
            let nearest = self.candidates.values().take(self.wanted());
            let failed: Vec<PeerId> = nearest.filter(of(State::Failed)).map(|it| it.peer).collect();
            if 2 * failed.len() < self.wanted() {
                return None;
            }
            let answered: Vec<PeerId> =
                self.candidates.values().filter(of(State::Answered)).map(|it| it.peer).collect();
            let edge: Vec<PeerId> = failed.last().into_iter().chain(&answered).take(EDGE).copied().collect();
            self.to_widen = answered.into_iter().take(WIDENED_MAX).zip(edge.into_iter().cycle()).collect();
            self.widenings += 1;
            self.widened_from = self.candidates.len();
        }
        self.to_widen.pop()
    }

    /// When something changes without an event: somebody becomes slow or late, the patience ends, or the time.
    fn wake(&self, now: Instant, slow_after: Duration) -> Instant {
        let mut wake = self.deadline;
        for candidate in self.candidates.values() {
            if let State::Asked { at, .. } = candidate.state {
                let slow = at + slow_after;
                wake = wake.min(if slow > now { slow } else { at + self.answer_max });
            }
        }
        for at in self.widening.values() {
            wake = wake.min(*at + self.answer_max);
        }
        if self.may_end()
            && let Some(over) = self.patience.over_at()
        {
            wake = wake.min(over);
        }
        wake
    }

    /// Whether those who are silent need not be waited for: something was found, or it is looked for those who answer.
    fn may_end(&self) -> bool {
        self.has_found || self.goal == Goal::Nearest
    }

    fn unfinished(&self) -> Ended {
        match (self.has_found, self.cost.answered) {
            (false, 0) => Ended::Unanswered,
            _ => Ended::CutOff,
        }
    }

    /// The next peer of a path, where its nearest have not all answered. Those that are slow keep the path from its end, and
    /// nobody from being asked.
    fn next_on(&self, path: u8, now: Instant, slow_after: Duration) -> Option<Next> {
        let wanted = self.wanted();
        let (mut counted, mut must_wait) = (0, false);
        for (distance, candidate) in &self.candidates {
            if candidate.paths & 1 << path == 0 {
                continue;
            }
            match candidate.state {
                State::New => return Some(Next::Ask(*distance)),
                State::Asked { at, .. } => {
                    must_wait = true;
                    counted += usize::from(now < at + slow_after);
                }
                State::Answered => counted += 1,
                State::Failed => {}
            }
            if counted >= wanted {
                break;
            }
        }
        must_wait.then_some(Next::Wait)
    }

    /// Notes whom a peer named: they stay on the path on which it was asked.
    fn learn_from(&mut self, peer: &PeerId, named: Vec<PeerId>) {
        let Some(path) = self.of(peer).map(|it| it.asked_on) else { return };
        named.into_iter().take(NAMED_MAX).for_each(|it| self.learn(it, 1 << path));
    }

    /// Notes a peer that a path knows of.
    fn learn(&mut self, peer: PeerId, paths: u8) {
        let distance = self.distance(&peer);
        if let Some(known) = self.candidates.get_mut(&distance) {
            known.paths |= paths;
            return;
        }
        if self.candidates.len() >= CANDIDATES_MAX {
            // The nearest are what is wanted; who was asked stays known.
            let farthest = self.candidates.iter().rev().find(|(_, it)| it.state == State::New);
            match farthest.map(|(farthest, _)| *farthest) {
                Some(farthest) if farthest > distance => drop(self.candidates.remove(&farthest)),
                _ => return,
            }
        }
        self.candidates.insert(distance, Candidate { peer, paths, asked_on: 0, state: State::New });
    }

    /// Gives those up that have had all the time that one peer may take.
    fn give_up_late(&mut self, now: Instant) {
        let late: Vec<PeerId> = self
            .widening
            .iter()
            .filter(|(_, at)| now >= **at + self.answer_max)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            self.handle(Event::Failed { peer }, now);
        }
        for candidate in self.candidates.values_mut() {
            if matches!(candidate.state, State::Asked { at, .. } if now >= at + self.answer_max) {
                candidate.state = State::Failed;
                self.cost.failed += 1;
            }
        }
    }

    fn settle(&mut self, peer: &PeerId, state: State) -> Option<State> {
        let distance = self.distance(peer);
        let candidate = self.candidates.get_mut(&distance)?;
        let before = candidate.state;
        matches!(before, State::Asked { .. }).then(|| {
            candidate.state = state;
            before
        })
    }

    fn of(&self, peer: &PeerId) -> Option<&Candidate> {
        self.candidates.get(&self.distance(peer))
    }

    fn distance(&self, peer: &PeerId) -> KBucketDistance {
        self.target.distance(&KBucketKey::from(*peer))
    }
}

enum Next {
    Ask(KBucketDistance),
    Wait,
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
