//! Who is asked for which heads, so that each comes once.

use std::time::Duration;

use super::{
    Checked, Exchange, Outcome,
    reader::{Reader, State, Unit},
};
use crate::{
    heads::item::{Id, Ids, Item},
    limits::{HEADS_IDS_MAX, HEADS_NOT_GIVEN_MAX, HEADS_PAGES_BARREN_MAX, HEADS_STRETCHES_MAX},
    sync::protocol::{Newer, Request},
};

/// Ids that a peer has listed and not given, above which it lists no more.
pub(super) const LISTED_AHEAD_MAX: usize = 2_048;
/// What one peer is asked to give at once: while one part is verified, the next is on its way.
const GIFTS_AT_ONCE: usize = 2;
/// How long what is newer is waited for alone, after the last [`ALONE_STEP`] heads of it that were taken.
const ALONE_WAIT: Duration = Duration::from_secs(3);
/// Heads that must come within that time: half a page. One now and then, of a peer that says it has millions, holds nobody up.
const ALONE_STEP: usize = 256;
/// How long in all.
const ALONE_MAX: Duration = Duration::from_secs(30);

/// A head that somebody listed.
#[derive(Debug, Clone)]
pub(super) struct Want<P> {
    /// Who listed it, and was not asked in vain.
    holders: Vec<P>,
    /// Who is asked for it.
    asked: Option<P>,
}

/// What is newer than everything here is being taken.
#[derive(Debug, Clone)]
pub(super) struct Bulk<P> {
    /// Who told of it first.
    pub(super) owner: P,
    /// How many heads it is.
    pub(super) heads: u32,
    /// Whether others gave some of it, who may have less.
    helped: bool,
    since: Duration,
    /// When enough was last taken.
    moved_at: Duration,
    /// Heads that were taken since.
    since_then: usize,
}

impl<P> Bulk<P> {
    /// Until when nothing else is compared.
    pub(super) fn alone_until(&self) -> Duration {
        (self.moved_at + ALONE_WAIT).min(self.since + ALONE_MAX)
    }

    /// Notes that heads were taken.
    pub(super) fn came(&mut self, heads: usize, now: Duration) {
        self.since_then = self.since_then.saturating_add(heads);
        if self.since_then >= ALONE_STEP {
            (self.since_then, self.moved_at) = (0, now);
        }
    }
}

impl<P: Copy + Ord> Exchange<P> {
    /// Notes what a peer listed.
    pub(super) fn want(&mut self, peer: P, ids: Vec<Id>) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        for id in ids {
            let want = self.wanted.entry(id).or_insert_with(|| Want { holders: Vec::new(), asked: None });
            if !want.holders.contains(&peer) {
                want.holders.push(peer);
                reader.todo.push_back(id);
            }
        }
    }

    /// Takes what a peer has that is newer than everything here.
    pub(super) fn take_newer(&mut self, peer: P, newer: Option<Newer>, now: Duration) {
        let Some(Newer { than, heads, cuts }) = newer else { return };
        if let Some(bulk) = self.bulk.as_ref().filter(|bulk| bulk.owner != peer) {
            let gives = u64::from(heads) * 10 >= u64::from(bulk.heads) * 9;
            self.change(&peer, |reader| reader.state = State::Helping { gives });
            return;
        }
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        let first = Item::end_of(than);
        let mut ends: Vec<Item> =
            cuts.into_iter().take(HEADS_STRETCHES_MAX).filter(|cut| *cut > first).collect();
        ends.sort_unstable();
        ends.dedup();
        let starts = std::iter::once(first).chain(ends.iter().copied());
        reader.stretches = starts.zip(ends.iter().copied().map(Some).chain([None])).collect();
        self.bulk =
            Some(Bulk { owner: peer, heads, helped: false, since: now, moved_at: now, since_then: 0 });
    }

    /// Gives what was asked of a peer back, so that it is asked for again.
    pub(super) fn release(&mut self, peer: P, unit: Unit<P>) {
        match unit {
            Unit::Ids(ids, _) => {
                let Some(reader) = self.readers.get_mut(&peer) else { return };
                for id in ids.into_iter().rev() {
                    if let Some(want) = self.wanted.get_mut(&id) {
                        want.asked = None;
                        reader.todo.push_front(id);
                    }
                }
            }
            Unit::Stretch { owner, after, until } => {
                let is_wanted = owner == peer || self.bulk.as_ref().is_some_and(|bulk| bulk.owner == owner);
                self.change(&owner, |reader| match is_wanted {
                    true => reader.stretches.push_front((after, until)),
                    // Nobody waits for it any more: what is missing of it shows in the next comparison.
                    false => reader.compares = true,
                });
            }
            // What it gave counts for nothing: what is missing of it shows in the next comparison.
            Unit::Stretched { owner, .. } => self.change(&owner, |reader| reader.compares = true),
            _ => {}
        }
    }

    /// Goes on with those of whom nothing is left to take: others were asked for the rest, and failed or were not waited for.
    pub(super) fn settle_all(&mut self, now: Duration) {
        let is_left = |reader: &Reader<P>| reader.state == State::Taking && reader.is_taken();
        let left: Vec<P> =
            self.readers.iter().filter(|(_, reader)| is_left(reader)).map(|(peer, _)| *peer).collect();
        left.into_iter().for_each(|peer| self.settle(peer, now));
    }

    /// Notes what became of heads that were asked for by their ids.
    pub(super) fn took(&mut self, peer: P, ids: Vec<Id>, checked: Checked, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        let session = &mut reader.session;
        session.deferred |= checked.is_deferred;
        let declined: Vec<Item> =
            checked.declined.into_iter().filter(|item| ids.contains(&item.id)).collect();
        for id in &ids {
            if checked.given.contains(id) {
                session.given += 1;
            } else {
                session.not_given += 1;
            }
        }
        let leads_nowhere = session.not_given > HEADS_NOT_GIVEN_MAX && session.not_given > session.given;
        reader.decline(declined);
        for id in ids {
            if checked.given.contains(&id) {
                self.wanted.remove(&id);
            } else {
                self.forgo(peer, id);
            }
        }
        if leads_nowhere {
            return self.fail(peer, Outcome::GaveUp, now);
        }
        self.settle(peer, now);
    }

    /// Notes that a peer does not give what it listed; whoever else listed it is asked.
    fn forgo(&mut self, peer: P, id: Id) {
        let Some(want) = self.wanted.get_mut(&id) else { return };
        want.holders.retain(|holder| *holder != peer);
        if want.asked.is_some_and(|asked| asked != peer) {
            return;
        }
        want.asked = None;
        let Some(next) = want.holders.first().copied() else {
            self.wanted.remove(&id);
            return;
        };
        self.change(&next, |reader| {
            if !reader.todo.contains(&id) {
                reader.todo.push_front(id);
            }
            // It had nothing left to give, and is asked for this too.
            if reader.state == State::Idle {
                reader.state = State::Taking;
                reader.session.deferred = reader.outcome == Some(Outcome::Waits);
            }
        });
    }

    /// Takes a peer that left, and was asked for nothing any more, out of those that listed anything. What nobody is asked for is to be
    /// asked of one of the others already.
    pub(super) fn forget_holder(&mut self, peer: &P) {
        self.wanted.retain(|_, want| {
            want.holders.retain(|holder| holder != peer);
            want.asked.is_some() || !want.holders.is_empty()
        });
    }

    /// Notes what became of a stretch.
    pub(super) fn took_stretch(&mut self, peer: P, owner: P, heads: usize, checked: Checked, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        reader.session.deferred |= checked.is_deferred;
        reader.session.barren += usize::from(heads == 0 || checked.is_barren);
        if reader.session.barren > HEADS_PAGES_BARREN_MAX {
            return self.fail(peer, Outcome::GaveUp, now);
        }
        if let Some(bulk) = self.bulk.as_mut().filter(|bulk| bulk.owner == owner && peer != owner) {
            bulk.helped = true;
        }
        self.settle(peer, now);
        if peer != owner {
            self.settle(owner, now);
        }
    }

    /// Hands out what is left to ask for, to those who have a hand free.
    pub(super) fn hand_out(&mut self) {
        let peers: Vec<P> = self.readers.keys().copied().collect();
        for peer in peers {
            while let Some(request) = self.next_of(peer) {
                let unit = match &request {
                    (Request::Heads(ids), _) => Unit::Ids(ids.0.clone(), false),
                    (Request::Stretch(after, until), Some(owner)) => {
                        Unit::Stretch { owner: *owner, after: *after, until: *until }
                    }
                    _ => break,
                };
                self.ask(peer, unit, request.0);
            }
        }
    }

    /// What a peer is asked for next, and of whom a stretch is.
    fn next_of(&mut self, peer: P) -> Option<(Request, Option<P>)> {
        let reader = self.readers.get_mut(&peer).filter(|reader| reader.has_hand_free(GIFTS_AT_ONCE))?;
        let mut ids = Vec::new();
        while ids.len() < HEADS_IDS_MAX
            && let Some(id) = reader.todo.pop_front()
        {
            if let Some(want) = self.wanted.get_mut(&id).filter(|want| want.asked.is_none()) {
                want.asked = Some(peer);
                ids.push(id);
            }
        }
        if !ids.is_empty() {
            return Some((Request::Heads(Ids(ids)), None));
        }
        let owner = match reader.state {
            State::Helping { gives: true } => self.bulk.as_ref()?.owner,
            State::Helping { gives: false } => return None,
            _ => peer,
        };
        let (after, until) = self.readers.get_mut(&owner)?.stretches.pop_front()?;
        Some((Request::Stretch(after, until), Some(owner)))
    }

    /// Ends the reading of a peer where nothing is left to take, and goes on with what waited for that.
    pub(super) fn settle(&mut self, peer: P, now: Duration) {
        self.hand_out();
        let Some(reader) = self.readers.get(&peer) else { return };
        if matches!(reader.state, State::Held(_)) {
            return self.go_on(peer, now);
        }
        if reader.state != State::Taking || !reader.is_taken() {
            return;
        }
        let is_owner = self.bulk.as_ref().is_some_and(|bulk| bulk.owner == peer);
        if is_owner && self.is_giving_of(peer) {
            return;
        }
        let is_helped = is_owner && self.bulk.as_ref().is_some_and(|bulk| bulk.helped);
        if is_helped {
            self.change(&peer, |reader| reader.state = State::Helping { gives: false });
        } else if reader.compares {
            self.compare(peer, now);
        } else {
            self.finish(peer, now);
        }
        if is_owner {
            self.end_bulk(now);
        }
    }

    /// Whether somebody is asked for a stretch of a peer.
    fn is_giving_of(&self, peer: P) -> bool {
        let is_of = |unit: &Unit<P>| matches!(unit, Unit::Stretch { owner, .. } | Unit::Stretched { owner, .. } if *owner == peer);
        self.readers.values().any(|reader| reader.out.values().any(is_of))
    }

    /// Compares with those who waited until what is newer was taken.
    pub(super) fn end_bulk(&mut self, now: Duration) {
        let Some(bulk) = self.bulk.take() else { return };
        if bulk.helped || self.is_giving_of(bulk.owner) {
            // Others may have less of it than the owner, or may never give it: what they left out shows.
            self.change(&bulk.owner, |reader| reader.compares = true);
        }
        let waits = |reader: &Reader<P>| matches!(reader.state, State::Helping { .. });
        let waiting: Vec<P> =
            self.readers.iter().filter(|(_, reader)| waits(reader)).map(|(peer, _)| *peer).collect();
        waiting.into_iter().for_each(|peer| self.compare(peer, now));
    }

    /// Lets others give what a peer that failed was to give.
    pub(super) fn give_up(&mut self, peer: P, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        reader.stretches.clear();
        let todo = std::mem::take(&mut reader.todo);
        todo.into_iter().for_each(|id| self.forgo(peer, id));
        if self.bulk.as_ref().is_some_and(|bulk| bulk.owner == peer) {
            self.end_bulk(now);
        }
        self.hand_out();
    }
}
