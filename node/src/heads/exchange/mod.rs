//! The exchange of heads with all peers: what to ask whom, and when.
//!
//! A plain state machine: [`Exchange::handle`] is told what happened and when, [`Exchange::poll`] says what to do, and
//! [`Exchange::deadline`] when time alone makes a difference. It holds no items and no heads: its caller compares
//! ([`Output::Compare`]), verifies and writes ([`Output::Check`]).
//!
//! Each peer is read by itself, in the way that [`protocol`](crate::sync::protocol) describes. What joins the readings:
//!
//! - What several peers list is asked of one of them, and of another only where that one does not give it.
//! - What is newer than everything here, as all is for a newcomer, is taken in stretches from all peers that have nearly as much of
//!   it as the first that told, while no other comparison goes on; then all are compared with, and as a rule are the same.
//! - Who has taken something tells the others, at most once in [`NEWS_INTERVAL`].
//!
//! A peer can leave out, and no more: every message, wait and list is bounded, and what it gives is verified. What is provably its
//! fault is told ([`Output::Blame`]); a comparison that leads nowhere ends, with an [`Outcome`] that says how.

mod comparing;
mod events;
mod left;
mod outcome;
mod reader;
mod taking;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rand::{Rng, RngExt};

pub use self::{
    events::{Asked, Checked, Event, Fault, Ours, Output, Ticket},
    outcome::Outcome,
};
use self::{
    left::Left,
    reader::{Reader, Session, State, Unit},
    taking::{Bulk, Want},
};
use super::item::{Id, Item};
use crate::{
    limits::{HEADS_LACKED_AT_ONCE, HEADS_LACKED_MAX, HEADS_MALFORMED_PER_PEER_MAX, HEADS_PAGES_MAX},
    sync::protocol::{Cursor, Next, Request, Rest, Yield},
};

/// How long the peer that is to begin may take for it: both hear who the other is at about the same time.
const BEGIN_WAIT: Duration = Duration::from_millis(1_500);
/// How long a peer that compares may say nothing.
const GUEST_WAIT: Duration = Duration::from_secs(10);
/// How long its comparison may take in all before this side compares.
const GUEST_MAX: Duration = Duration::from_secs(60);
/// How long after a peer had no room it is asked again.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// How long after a peer was read for the first time it is read on: what came by gossip before it was in the topic's mesh passed it by.
const JOINED_WAIT: Duration = Duration::from_secs(2);
/// What was taken meanwhile is told together.
const NEWS_WAIT: Duration = Duration::from_millis(200);
/// How often others are told that there is something new, and how often a peer is asked for saying so, at most.
pub const NEWS_INTERVAL: Duration = Duration::from_secs(1);
/// Rounds that are left out, at most, before what could not be taken is tried again: an hour of them.
const RETRY_ROUNDS_MAX: u32 = 64;

/// The exchange with all peers. `P` names one.
#[derive(Debug, Clone)]
pub struct Exchange<P> {
    readers: BTreeMap<P, Reader<P>>,
    left: Left<P>,
    /// What peers listed, and nobody gave yet.
    wanted: BTreeMap<Id, Want<P>>,
    bulk: Option<Bulk<P>>,
    tickets: Ticket,
    outputs: VecDeque<Output<P>>,
    /// When to tell of news, and who brought them, where that is one.
    news: Option<(Duration, Option<P>)>,
    told_at: Option<Duration>,
}

impl<P> Default for Exchange<P> {
    fn default() -> Self {
        Self {
            readers: BTreeMap::new(),
            left: Left::default(),
            wanted: BTreeMap::new(),
            bulk: None,
            tickets: 0,
            outputs: VecDeque::new(),
            news: None,
            told_at: None,
        }
    }
}

impl<P: Copy + Ord> Exchange<P> {
    /// Takes into account what happened at `now`.
    pub fn handle(&mut self, event: Event<P>, now: Duration) {
        match event {
            Event::Joined { peer, begins } => self.joined(peer, begins, now),
            Event::Gone(peer) => self.gone(peer, now),
            Event::Answered(peer, ticket, answer) => self.answered(peer, ticket, answer, now),
            Event::Failed(peer, ticket, why) => {
                match self.readers.get_mut(&peer).and_then(|reader| reader.out.remove(&ticket)) {
                    None | Some(Unit::Word) => {}
                    Some(unit) => {
                        self.release(peer, unit);
                        self.fail(peer, why, now);
                    }
                }
            }
            Event::Compared(peer, ticket, ours) => self.compared(peer, ticket, ours, now),
            Event::Checked(peer, ticket, checked) => self.checked(peer, ticket, checked, now),
            Event::Asked(peer, asked) => self.asked(peer, asked, now),
        }
        self.tick(now);
    }

    /// What to do next.
    pub fn poll(&mut self) -> Option<Output<P>> {
        self.outputs.pop_front()
    }

    /// When [`Exchange::tick`] makes a difference.
    pub fn deadline(&self) -> Option<Duration> {
        let of_reader = |reader: &Reader<P>| match reader.state {
            State::Awaiting(until) | State::Guest(until) => Some(until),
            State::Idle => reader.again_at,
            _ => None,
        };
        let waits = self.readers.values().filter_map(of_reader);
        let news = self.news.map(|(at, _)| at);
        let alone = self.bulk.as_ref().map(|bulk| bulk.alone_until());
        waits.chain(news).chain(alone).min()
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Duration) {
        let is_due = |reader: &Reader<P>| match reader.state {
            State::Awaiting(until) | State::Guest(until) => until <= now,
            State::Idle => reader.again_at.is_some_and(|at| at <= now),
            _ => false,
        };
        let due: Vec<P> =
            self.readers.iter().filter(|(_, reader)| is_due(reader)).map(|(peer, _)| *peer).collect();
        for peer in due {
            if self.readers.get(&peer).is_some_and(|reader| reader.state == State::Idle) {
                self.begin(peer, now);
            } else {
                self.compare(peer, now);
            }
        }
        if self.bulk.as_ref().is_some_and(|bulk| bulk.alone_until() <= now) {
            self.end_bulk(now);
        }
        if let Some((at, brought_by)) = self.news.take_if(|(at, _)| *at <= now) {
            self.told_at = Some(at);
            let peers: Vec<P> =
                self.readers.keys().filter(|peer| Some(**peer) != brought_by).copied().collect();
            peers.into_iter().for_each(|peer| self.ask(peer, Unit::Word, Request::News));
        }
        self.hand_out();
        self.settle_all(now);
    }

    /// Begins a round: every peer is read on that is not being read, and one of them, drawn, is compared with.
    pub fn round(&mut self, now: Duration, generator: &mut impl Rng) {
        let idle: Vec<P> =
            self.readers.iter().filter(|(_, reader)| !reader.is_busy()).map(|(peer, _)| *peer).collect();
        if !idle.is_empty() {
            let drawn = idle[generator.random_range(0..idle.len())];
            self.change(&drawn, |reader| reader.compares = true);
        }
        for peer in idle {
            self.change(&peer, |reader| {
                if reader.outcome == Some(Outcome::Waits) && reader.retries > 0 {
                    reader.compares |= reader.skips == 0;
                    reader.skips = reader.skips.saturating_sub(1);
                }
            });
            self.begin(peer, now);
        }
        self.hand_out();
    }

    /// Has what could not be taken for now asked for again in the next reading.
    pub fn retry(&mut self) {
        for reader in self.readers.values_mut() {
            reader.cursor.retry();
            reader.compares |= reader.outcome == Some(Outcome::Waits) && reader.retries > 0;
            reader.skips = 0;
        }
    }

    /// Reads on at once, other than from those peers that failed to tell in this round: one of them, asked for by every search
    /// that finds nothing, would hold all of them up.
    pub fn refresh(&mut self, now: Duration) {
        let failed = |reader: &Reader<P>| reader.outcome.is_some_and(Outcome::is_failure);
        let peers: Vec<P> =
            self.readers.iter().filter(|(_, reader)| !failed(reader)).map(|(peer, _)| *peer).collect();
        peers.into_iter().for_each(|peer| self.begin(peer, now));
        self.hand_out();
    }

    /// Peers whose heads can be read.
    pub fn peers(&self) -> usize {
        self.readers.len()
    }

    /// Those of them of which there is nothing to wait for: all was read, or the peer failed to tell.
    pub fn settled(&self) -> usize {
        self.readers.values().filter(|reader| !reader.is_waited_for() && reader.outcome.is_some()).count()
    }

    /// Those of them all of whose heads are here, as of their last round.
    pub fn complete(&self) -> usize {
        self.readers.values().filter(|reader| reader.outcome == Some(Outcome::InSync)).count()
    }

    /// Whether a peer told what it has in its last round, and no other one goes on.
    pub fn has_told(&self, peer: &P) -> bool {
        self.readers.get(peer).is_some_and(|reader| {
            !reader.is_waited_for() && reader.outcome.is_some_and(|outcome| !outcome.is_failure())
        })
    }

    /// How many of the others ended their last round with each outcome.
    pub fn failed(&self) -> BTreeMap<Outcome, usize> {
        let mut failed = BTreeMap::new();
        let outcomes = self.readers.values().filter_map(|reader| reader.outcome);
        for outcome in outcomes.filter(|outcome| *outcome != Outcome::InSync) {
            *failed.entry(outcome).or_default() += 1;
        }
        failed
    }

    /// Whether the reading of somebody is waited for.
    pub fn is_outstanding(&self) -> bool {
        self.readers.values().any(Reader::is_waited_for)
    }

    /// What is not taken of a peer.
    pub fn declined(&self, peer: &P) -> Vec<Item> {
        self.readers.get(peer).map(|reader| reader.declined.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether one more turn of a peer's comparison is answered now.
    pub fn admits_turn(&mut self, peer: P, now: Duration) -> bool {
        self.reader(peer).admits_turn(now)
    }

    fn reader(&mut self, peer: P) -> &mut Reader<P> {
        let left = &mut self.left;
        self.readers.entry(peer).or_insert_with(|| {
            let (cursor, declined) = left.take(&peer).unwrap_or_default();
            Reader::new(cursor.resumed(), declined)
        })
    }

    fn change(&mut self, peer: &P, change: impl FnOnce(&mut Reader<P>)) {
        if let Some(reader) = self.readers.get_mut(peer) {
            change(reader);
        }
    }

    fn joined(&mut self, peer: P, begins: bool, now: Duration) {
        let reader = self.reader(peer);
        reader.begins = begins;
        if reader.is_busy() || reader.outcome.is_some() {
            // It was quicker to ask than to say who it is.
            return;
        }
        if begins || reader.cursor.is_known() {
            self.begin(peer, now);
        } else {
            reader.state = State::Awaiting(now + BEGIN_WAIT);
        }
    }

    fn gone(&mut self, peer: P, now: Duration) {
        if !self.readers.contains_key(&peer) {
            return;
        }
        self.fail(peer, Outcome::CutOff, now);
        self.forget_holder(&peer);
        if let Some(reader) = self.readers.remove(&peer) {
            self.left.note(peer, reader.cursor, reader.declined);
        }
    }

    fn asked(&mut self, peer: P, asked: Asked, now: Duration) {
        let reader = self.reader(peer);
        let may_be_guest = matches!(reader.state, State::Idle | State::Awaiting(_) | State::Guest(_));
        match asked {
            Asked::Began(position) if may_be_guest => {
                reader.session = Session { position: Some(position), ..Session::default() };
                // One that begins again and again is a guest for no longer than one that goes on.
                if !matches!(reader.state, State::Guest(_)) {
                    reader.began_at = Some(now);
                }
                let ends = reader.began_at.map_or(now, |began| began + GUEST_MAX);
                reader.state = State::Guest((now + GUEST_WAIT).min(ends));
            }
            Asked::WentOn => {
                let ends = reader.began_at.map_or(now, |began| began + GUEST_MAX);
                if let State::Guest(until) = &mut reader.state {
                    *until = (now + GUEST_WAIT).min(ends);
                }
            }
            Asked::Same { position, is_all } if may_be_guest => {
                reader.session.position = Some(position);
                if is_all {
                    self.outputs.push_back(Output::HasAll(peer));
                }
                self.finish(peer, now);
            }
            Asked::Lacked(ids, newer, rest) if matches!(reader.state, State::Guest(_)) => {
                let ids = ids.into_iter().take(HEADS_LACKED_AT_ONCE).collect();
                match rest {
                    Rest::TooMuch => self.compare(peer, now),
                    // It is a guest for so long only: what it says in parts is bounded.
                    Rest::Follows if reader.todo.len() < HEADS_LACKED_MAX => self.want(peer, ids),
                    Rest::Follows | Rest::Ends => {
                        reader.state = State::Taking;
                        self.want(peer, ids);
                        self.take_newer(peer, newer, now);
                        self.settle(peer, now);
                    }
                }
            }
            Asked::ReadsOn if matches!(reader.state, State::Awaiting(_)) => self.compare(peer, now),
            Asked::News => {
                let earliest = reader.began_at.map_or(now, |began| began + NEWS_INTERVAL);
                if reader.is_busy() || earliest > now {
                    reader.again_at = Some(earliest.max(now));
                } else {
                    self.begin(peer, now);
                }
            }
            _ => {}
        }
    }

    fn checked(&mut self, peer: P, ticket: Ticket, checked: Option<Checked>, now: Duration) {
        // Whoever gave them may have left meanwhile: what it brought is here all the same, and what it forged is its fault.
        if let Some(checked) = &checked {
            if checked.new > 0 {
                self.bring(peer, checked.new, now);
            }
            if checked.is_forged {
                self.outputs.push_back(Output::Blame(peer, Fault::Forged));
            }
        }
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        let Some(unit) = reader.out.remove(&ticket) else { return };
        let Some(checked) = checked else {
            self.release(peer, unit);
            return self.fail(peer, Outcome::CutOff, now);
        };
        reader.malformed = reader.malformed.saturating_add(checked.malformed);
        let is_garbage = checked.is_garbage || reader.malformed > HEADS_MALFORMED_PER_PEER_MAX;
        if checked.is_forged || is_garbage {
            self.release(peer, unit);
            return self.fail(peer, Outcome::GaveUp, now);
        }
        match unit {
            Unit::Paged(page, _) => {
                let came = Yield { is_deferred: checked.is_deferred, is_barren: checked.is_barren };
                let Some(reader) = self.readers.get_mut(&peer) else { return };
                match reader.cursor.turn(&page, came, HEADS_PAGES_MAX) {
                    Next::Ask(position) => self.page(peer, position, u32::MAX),
                    Next::Complete => self.end(peer, Outcome::InSync, now),
                    Next::Incomplete => self.end(peer, Outcome::Waits, now),
                    Next::GiveUp => self.fail(peer, Outcome::GaveUp, now),
                }
            }
            Unit::Ids(ids, _) => self.took(peer, ids, checked, now),
            Unit::Stretched { owner, heads } => self.took_stretch(peer, owner, heads, checked, now),
            _ => {}
        }
    }

    /// Notes that there is something new to tell others of.
    fn bring(&mut self, peer: P, heads: usize, now: Duration) {
        let earliest = self.told_at.map_or(now, |told| told + NEWS_INTERVAL);
        let brought_by = match self.news {
            None => Some(peer),
            Some((_, by)) => by.filter(|by| *by == peer),
        };
        let at = self.news.map_or((now + NEWS_WAIT).max(earliest), |(at, _)| at);
        self.news = Some((at, brought_by));
        if let Some(bulk) = &mut self.bulk {
            bulk.came(heads, now);
        }
    }

    fn break_with(&mut self, peer: P, why: &str, now: Duration) {
        self.outputs.push_back(Output::Blame(peer, Fault::Broken(why.to_owned())));
        self.fail(peer, Outcome::GaveUp, now);
    }

    /// Ends the reading of a peer in good order: all that it has is here, was declined, or waits.
    fn finish(&mut self, peer: P, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        let session = std::mem::take(&mut reader.session);
        if let Some(position) = session.position {
            reader.cursor = Cursor::compared(position, !session.deferred);
        }
        if session.deferred {
            let skips = 1_u32.checked_shl(reader.retries).unwrap_or(u32::MAX).min(RETRY_ROUNDS_MAX) - 1;
            (reader.skips, reader.retries) = (skips, reader.retries.saturating_add(1));
        } else {
            (reader.skips, reader.retries) = (0, 0);
        }
        self.end(peer, if session.deferred { Outcome::Waits } else { Outcome::InSync }, now);
    }

    fn end(&mut self, peer: P, outcome: Outcome, now: Duration) {
        self.change(&peer, |reader| {
            reader.state = State::Idle;
            reader.outcome = Some(outcome);
            if !std::mem::replace(&mut reader.was_read, true) {
                reader.again_at = Some(now + JOINED_WAIT);
            }
        });
        self.give_up(peer, now);
    }

    /// Ends the reading of a peer that failed; what it was to give others are asked for, where they have it.
    fn fail(&mut self, peer: P, why: Outcome, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        let out = std::mem::take(&mut reader.out);
        reader.state = State::Idle;
        reader.outcome = Some(why);
        reader.session = Session::default();
        if why == Outcome::Refused {
            reader.again_at = Some(now + REFUSED_WAIT);
        }
        out.into_values().for_each(|unit| self.release(peer, unit));
        self.give_up(peer, now);
    }
}

#[cfg(test)]
#[path = "../exchange_tests.rs"]
mod tests;
