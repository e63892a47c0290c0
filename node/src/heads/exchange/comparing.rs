//! How one peer is read: on by the order of its changes, or compared with; and what its answers lead to.

use std::time::Duration;

use serde_bytes::ByteBuf;

use super::{
    Exchange, Ours, Outcome, Output, Ticket,
    reader::{Session, State, Unit},
    taking,
};
use crate::{
    heads::{
        compare::{Broken, Turn, is_same},
        item::Ids,
    },
    limits::{
        HEADS_LACKED_AT_ONCE, HEADS_LACKED_MAX, HEADS_LAG_MAX, HEADS_PAGE_MAX, HEADS_TURNS_MAX,
        HEADS_WANTED_MAX,
    },
    sync::protocol::{Answer, Cursor, Newer, Page, Position, Request, Rest},
};

impl<P: Copy + Ord> Exchange<P> {
    /// Reads a peer on, in the way that is cheapest.
    pub(super) fn begin(&mut self, peer: P, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        if reader.is_busy() {
            return;
        }
        (reader.began_at, reader.again_at) = (Some(now), None);
        if reader.cursor.is_known() && !reader.compares {
            let position = reader.cursor.begin();
            self.page(peer, position, HEADS_LAG_MAX);
        } else {
            self.compare(peer, now);
        }
    }

    pub(super) fn page(&mut self, peer: P, position: Position, most: u32) {
        self.change(&peer, |reader| reader.state = State::Paging);
        self.ask(peer, Unit::Page, Request::Page(position, most));
    }

    /// Begins to compare.
    pub(super) fn compare(&mut self, peer: P, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        (reader.began_at, reader.again_at) = (Some(now), None);
        reader.compares = false;
        reader.session = Session::default();
        reader.state = State::Comparing;
        self.take_turn(peer, None);
    }

    /// Has this side's turn taken, of what the peer answered.
    pub(super) fn take_turn(&mut self, peer: P, answer: Option<Vec<u8>>) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        self.tickets += 1;
        let ticket = self.tickets;
        reader.out.insert(ticket, Unit::Ours);
        let until = answer.as_ref().map(|_| reader.session.until);
        let newest = reader.session.standing.as_ref().map(|standing| standing.newest);
        let declined = reader.declined.iter().copied().collect();
        self.outputs.push_back(Output::Compare { peer, ticket, answer, until, newest, declined });
    }

    pub(super) fn ask(&mut self, peer: P, unit: Unit<P>, request: Request) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        self.tickets += 1;
        reader.out.insert(self.tickets, unit);
        self.outputs.push_back(Output::Ask(peer, self.tickets, request));
    }

    /// Takes the turn of this side into account.
    pub(super) fn compared(
        &mut self,
        peer: P,
        ticket: Ticket,
        ours: Option<Result<Ours, Broken>>,
        now: Duration,
    ) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        if reader.out.remove(&ticket).is_none() || reader.state != State::Comparing {
            return;
        }
        let ours = match ours {
            None => return self.fail(peer, Outcome::CutOff, now),
            Some(Err(broken)) => return self.break_with(peer, &broken.to_string(), now),
            Some(Ok(ours)) => ours,
        };
        let is_first = reader.session.turns == 0;
        if is_first {
            reader.session.until = ours.newest;
        }
        reader.declined.retain(|item| !ours.gone.contains(&item.id));
        let Turn { message, have, need } = ours.turn;
        // One more than can be said shows that there is more.
        let room = (HEADS_LACKED_MAX + 1).saturating_sub(reader.session.have.len());
        reader.session.have.extend(have.into_iter().take(room));
        self.want(peer, need);
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        match message {
            Some(message) if is_first => {
                let request =
                    Request::Compare(ByteBuf::from(message), reader.session.until, Some(ours.position));
                self.ask(peer, Unit::Turn, request);
            }
            // Listing goes on when what was listed is on its way, so that no peer fills the memory with ids.
            Some(message) => {
                reader.state = State::Held(message);
                self.go_on(peer, now);
            }
            None => {
                if reader.session.have.is_empty() && ours.newer.is_none() {
                    self.outputs.push_back(Output::HasAll(peer));
                }
                self.close(peer, ours.newer);
            }
        }
    }

    /// Says what the peer lacks, and takes what is left to take.
    pub(super) fn close(&mut self, peer: P, newer: Option<Newer>) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        reader.state = State::Closing;
        let have = &mut reader.session.have;
        let (rest, newer) = if have.len() <= HEADS_LACKED_AT_ONCE {
            (Rest::Ends, newer)
        } else if have.len() <= HEADS_LACKED_MAX {
            reader.session.newer = newer;
            (Rest::Follows, None)
        } else {
            (Rest::TooMuch, None)
        };
        let said = if rest == Rest::TooMuch { 0 } else { have.len().min(HEADS_LACKED_AT_ONCE) };
        let ids = have.drain(..said).collect();
        if rest == Rest::TooMuch {
            have.clear();
        }
        self.ask(peer, Unit::Have, Request::Have(Ids(ids), newer, rest));
    }

    /// Goes on with a comparison that was held, where there is room for what it may list.
    pub(super) fn go_on(&mut self, peer: P, now: Duration) {
        let is_full = self.wanted.len() >= HEADS_WANTED_MAX;
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        let State::Held(message) = &mut reader.state else { return };
        if !reader.todo.is_empty() && (is_full || reader.todo.len() >= taking::LISTED_AHEAD_MAX) {
            return;
        }
        if reader.session.turns >= HEADS_TURNS_MAX {
            // Too much differs to be worth listing: it is read page by page.
            reader.cursor = Cursor::default();
            let position = reader.cursor.begin();
            self.page(peer, position, u32::MAX);
            return self.give_up(peer, now);
        }
        let message = std::mem::take(message);
        reader.state = State::Comparing;
        let request = Request::Compare(ByteBuf::from(message), reader.session.until, None);
        self.ask(peer, Unit::Turn, request);
    }

    pub(super) fn answered(&mut self, peer: P, ticket: Ticket, answer: Answer, now: Duration) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        let Some(unit) = reader.out.remove(&ticket) else { return };
        match (unit, answer) {
            (Unit::Word, _) => {}
            (unit, Answer::Busy) => {
                self.release(peer, unit);
                self.fail(peer, Outcome::Refused, now);
            }
            (Unit::Page, Answer::Behind) => self.compare(peer, now),
            // One that does not compare is read page by page.
            (Unit::Page | Unit::Turn, Answer::Page(page)) => {
                if page.heads.len() > HEADS_PAGE_MAX {
                    return self.break_with(peer, "a page holds more heads than it may", now);
                }
                reader.state = State::Paging;
                let heads = page.heads;
                let unit = Unit::Paged(Page { heads: Vec::new(), ..page }, heads.len());
                reader.out.insert(ticket, unit);
                self.outputs.push_back(Output::Check(peer, ticket, heads));
            }
            (Unit::Turn, Answer::Compared(message, standing)) => {
                let session = &mut reader.session;
                session.turns += 1;
                match (&session.standing, standing) {
                    (None, Some(standing)) => {
                        session.until = session.until.min(standing.newest);
                        session.position = Some(standing.position);
                        session.standing = Some(standing);
                    }
                    (Some(_), None) => {}
                    _ => return self.break_with(peer, "it says how it stands once", now),
                }
                self.turned(peer, message.into_vec(), now);
            }
            (Unit::Have, Answer::Noted) if !reader.session.have.is_empty() => {
                let newer = reader.session.newer.take();
                self.close(peer, newer);
            }
            (Unit::Have, Answer::Noted) => {
                reader.state = State::Taking;
                self.settle(peer, now);
            }
            (Unit::Ids(ids, _), Answer::Given(heads, looked_at, _)) => {
                let looked_at = ids.len().min(looked_at as usize);
                if looked_at == 0 || heads.len() > HEADS_PAGE_MAX {
                    self.release(peer, Unit::Ids(ids, false));
                    return self.break_with(peer, "it gives nothing, or more than it may", now);
                }
                reader.out.insert(ticket, Unit::Ids(ids[..looked_at].to_vec(), true));
                self.release(peer, Unit::Ids(ids[looked_at..].to_vec(), false));
                self.outputs.push_back(Output::Check(peer, ticket, heads));
            }
            (Unit::Stretch { owner, after, until }, Answer::Given(heads, _, next)) => {
                let moves_on = next.is_none_or(|next| next > after && until.is_none_or(|until| next < until));
                if !moves_on || heads.len() > HEADS_PAGE_MAX {
                    self.release(peer, Unit::Stretch { owner, after, until });
                    return self.break_with(peer, "its stretch leads nowhere", now);
                }
                reader.out.insert(ticket, Unit::Stretched { owner, heads: heads.len() });
                if let Some(next) = next {
                    self.release(peer, Unit::Stretch { owner, after: next, until });
                }
                self.outputs.push_back(Output::Check(peer, ticket, heads));
            }
            (unit, _) => {
                self.release(peer, unit);
                self.break_with(peer, "its answer is none to what it was asked", now);
            }
        }
    }

    /// Goes on after an answer of a comparison.
    pub(super) fn turned(&mut self, peer: P, answer: Vec<u8>, now: Duration) {
        let others = self.bulk.as_ref().is_some_and(|bulk| bulk.owner != peer);
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        if reader.session.turns > 1 {
            return self.take_turn(peer, Some(answer));
        }
        let newer = reader.session.standing.as_ref().and_then(|standing| standing.newer.clone());
        // What is newer is being taken from another: this one helps where it can, and is compared with afterwards.
        if others && !is_same(&answer) && newer.is_none() {
            reader.state = State::Helping { gives: false };
            return;
        }
        self.take_newer(peer, newer, now);
        if self.readers.get(&peer).is_some_and(|reader| matches!(reader.state, State::Helping { .. })) {
            return;
        }
        if is_same(&answer) {
            self.outputs.push_back(Output::HasAll(peer));
            self.change(&peer, |reader| reader.state = State::Taking);
            self.settle(peer, now);
        } else {
            self.take_turn(peer, Some(answer));
        }
    }
}
