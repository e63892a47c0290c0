//! The messages of `/ggen/heads/1`, and how far a peer's catalogue was read.
//!
//! A stream carries one [`Request`] and one [`Answer`]. Each side reads the other; what both say of themselves in the exchange
//! below serves the reading of both.
//!
//! **By the order of changes.** Every node numbers the changes of its catalogue. A peer that was met before is asked for what came
//! after a number ([`Request::Page`]) and gives a page of heads with the number to go on from. The epoch names the numbering:
//! after a catalogue was rebuilt, old numbers mean nothing and the reader starts over. Where more has changed than the
//! reader asked for, the answer is [`Answer::Behind`], and the sets are compared: most of it is known from others by then.
//!
//! **By comparing sets**, at a first meeting and after a long time. The side with the smaller peer id begins:
//!
//! ```text
//!   begins                                             answers
//!   Compare(message, until, opening) ───────────────►
//!                    ◄─────────────── Compared(message, standing)
//!   Compare(message, until)  … up to HEADS_TURNS_MAX times … Compared(message)
//!   Have(ids, newer, rest)  ────────────────────────►  takes what it lacks, as below
//!   Heads(ids), Stretch(after, until) ──────────────►
//!                    ◄─────────────── Given(heads, next)
//! ```
//!
//! A message of [`heads::compare`](crate::heads::compare) says nothing of what was released after `until`: that is the newest that both
//! have, and what is newer at one side only is given in stretches of time, without a list of ids. Where the first answer says that
//! the sets are the same, both sides know it after one round trip. A node without room answers [`Answer::Busy`]; one that does not
//! compare may answer [`Request::Compare`] with a [`Page`], and is read by the order of its changes.
//!
//! **News.** A node that took heads from one peer tells the others ([`Request::News`]), which read on at once instead of in their next
//! round.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    heads::{Ids, Item},
    limits::HEADS_PAGES_BARREN_MAX,
};

/// The protocol id.
pub const PROTOCOL: &str = "/ggen/heads/1";

/// A place in the order of one catalogue's changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u64)", into = "(u32, u64)")]
pub struct Position {
    /// The numbering that `after` belongs to; 0 at the first time.
    pub epoch: u32,
    /// The position that was reached; 0 at the first time.
    pub after: u64,
}

impl From<(u32, u64)> for Position {
    fn from((epoch, after): (u32, u64)) -> Self {
        Self { epoch, after }
    }
}

impl From<Position> for (u32, u64) {
    fn from(Position { epoch, after }: Position) -> Self {
        (epoch, after)
    }
}

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The heads after a position, where there are not more than so many.
    #[serde(rename = "p")]
    Page(Position, u32),
    /// To go on comparing: a message about what was released until that second, and, in the first one, where this side is in the
    /// order of its own changes.
    #[serde(rename = "c")]
    Compare(ByteBuf, u64, Option<Position>),
    /// The heads of these ids.
    #[serde(rename = "h")]
    Heads(Ids),
    /// The heads whose items are after the first one, up to the second with it.
    #[serde(rename = "s")]
    Stretch(Item, Option<Item>),
    /// Says what this side has and the other lacks, at the end of a comparison: ids, what is newer, and whether that is all.
    #[serde(rename = "a")]
    Have(Ids, Option<Newer>, Rest),
    /// Says that there is something new.
    #[serde(rename = "n")]
    News,
}

impl Request {
    /// Whether the answer brings heads, to be verified.
    pub fn is_for_heads(&self) -> bool {
        matches!(self, Self::Page(..) | Self::Heads(_) | Self::Stretch(..))
    }
}

/// What follows after a part of what somebody lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// Nothing.
    #[serde(rename = "e")]
    Ends,
    /// The next part.
    #[serde(rename = "f")]
    Follows,
    /// More than can be said; the other side had better compare itself.
    #[serde(rename = "m")]
    TooMuch,
}

/// What one node answers another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Request::Page`].
    #[serde(rename = "p")]
    Page(Page),
    /// To [`Request::Page`]: more has changed than was asked for.
    #[serde(rename = "f")]
    Behind,
    /// To [`Request::Compare`], and to the first one with how this side stands.
    #[serde(rename = "c")]
    Compared(ByteBuf, Option<Standing>),
    /// To [`Request::Heads`], with how many of the ids were looked at, and to [`Request::Stretch`], with the item to go on after.
    #[serde(rename = "g")]
    Given(Vec<ByteBuf>, u32, Option<Item>),
    /// To what was only said.
    #[serde(rename = "n")]
    Noted,
    /// There is no room for this now.
    #[serde(rename = "b")]
    Busy,
}

impl Answer {
    /// Whether it gives heads.
    pub fn has_heads(&self) -> bool {
        matches!(self, Self::Page(Page { heads, .. }) | Self::Given(heads, ..) if !heads.is_empty())
    }

    /// Bytes of the heads and messages that it holds, and so nearly all of what it costs to send.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Page(Page { heads, .. }) | Self::Given(heads, ..) => {
                heads.iter().map(|head| head.len()).sum()
            }
            Self::Compared(message, _) => message.len(),
            Self::Behind | Self::Noted | Self::Busy => 0,
        }
    }
}

/// How the side that answers stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Position, u64, Option<Newer>)", into = "(Position, u64, Option<Newer>)")]
pub struct Standing {
    /// Where it is in the order of its changes.
    pub position: Position,
    /// When its newest head was released.
    pub newest: u64,
    /// What it has that was released later than all that the other side has.
    pub newer: Option<Newer>,
}

impl From<(Position, u64, Option<Newer>)> for Standing {
    fn from((position, newest, newer): (Position, u64, Option<Newer>)) -> Self {
        Self { position, newest, newer }
    }
}

impl From<Standing> for (Position, u64, Option<Newer>) {
    fn from(Standing { position, newest, newer }: Standing) -> Self {
        (position, newest, newer)
    }
}

/// Heads that were released later than all of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u32, Vec<Item>)", into = "(u64, u32, Vec<Item>)")]
pub struct Newer {
    /// Later than this.
    pub than: u64,
    /// How many there are.
    pub heads: u32,
    /// Where to cut them into stretches, in order.
    pub cuts: Vec<Item>,
}

impl From<(u64, u32, Vec<Item>)> for Newer {
    fn from((than, heads, cuts): (u64, u32, Vec<Item>)) -> Self {
        Self { than, heads, cuts }
    }
}

impl From<Newer> for (u64, u32, Vec<Item>) {
    fn from(Newer { than, heads, cuts }: Newer) -> Self {
        (than, heads, cuts)
    }
}

/// What came of a page, as far as it matters for reading on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Yield {
    /// Whether something genuine could not be taken for now.
    pub is_deferred: bool,
    /// Whether it was hardly worth its signatures.
    pub is_barren: bool,
}

/// A page of heads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The numbering of `next`.
    pub epoch: u32,
    /// The position to go on from.
    pub next: u64,
    /// Whether there is nothing after `next`.
    pub done: bool,
    /// The signed heads; to be verified.
    pub heads: Vec<ByteBuf>,
}

/// Rounds that are left out, at most, before pages are read again of which something could not be taken: an hour of them.
const RETRY_ROUNDS_MAX: u32 = 64;

/// How far one peer's catalogue was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    position: Position,
    pages: usize,
    barren: usize,
    complete: bool,
    /// Whether the last page was the end.
    ended: bool,
    deferred: Option<Deferred>,
    /// How often in a row something could not be taken.
    retries: u32,
}

/// A place to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deferred {
    /// Where the first page begins of which something could not be taken.
    after: u64,
    /// Rounds that are left out before.
    rounds: u32,
}

/// What to do after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask again at once.
    Ask(Position),
    /// Everything was read; ask again in the next round.
    Complete,
    /// Everything was read, and something of it could not be taken for now: it is asked for again in a later round.
    Incomplete,
    /// The peer contradicts itself, or sends more than it may; it is left alone until the next round.
    GiveUp,
}

impl Cursor {
    /// Begins a round where the last one ended, or before what could not be taken then.
    ///
    /// The more often it could not, the more rounds are left out: a peer with heads that are never taken is not read over and
    /// over.
    pub fn begin(&mut self) -> Position {
        (self.pages, self.barren) = (0, 0);
        if let Some(deferred) = self.deferred.as_mut().filter(|_| self.ended) {
            match deferred.rounds.checked_sub(1) {
                Some(rounds) => deferred.rounds = rounds,
                None => {
                    self.position.after = deferred.after;
                    self.deferred = None;
                }
            }
        }
        self.position
    }

    /// Has the next round ask for what could not be taken, however often it could not: what kept it from being taken is over.
    pub fn retry(&mut self) {
        self.retries = 0;
        if let Some(deferred) = &mut self.deferred {
            deferred.rounds = 0;
        }
    }

    /// Where to go on when the peer is connected again; it has not been read then until it says that there is nothing more.
    ///
    /// Another numbering than before is read from its beginning.
    pub fn resumed(self) -> Self {
        Self { complete: false, ..self }
    }

    /// Goes on from where a comparison left a peer: everything before is known; where some of it could not be taken, it is not
    /// complete.
    pub fn compared(position: Position, complete: bool) -> Self {
        Self { position, complete, ended: true, ..Self::default() }
    }

    /// Whether the peer was read before.
    pub fn is_known(&self) -> bool {
        self.position != Position::default()
    }

    /// Whether the last round read everything, and all of it was taken.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes the place of a page into account, and what came of it.
    ///
    /// A page that is not the last must move forward: a peer cannot keep a reader busy with pages that lead nowhere.
    pub fn turn(&mut self, page: &Page, came: Yield, pages_max: usize) -> Next {
        self.pages += 1;
        self.barren += usize::from(came.is_barren);
        if page.epoch != self.position.epoch {
            self.position = Position { epoch: page.epoch, after: 0 };
            self.deferred = None;
        }
        let moved = page.next > self.position.after;
        if page.next < self.position.after || (!page.done && !moved) {
            *self = Self { pages: self.pages, ..Self::default() };
            return Next::GiveUp;
        }
        if came.is_deferred && self.deferred.is_none() {
            let rounds = 1u32.checked_shl(self.retries).unwrap_or(u32::MAX).min(RETRY_ROUNDS_MAX) - 1;
            self.retries = self.retries.saturating_add(1);
            self.deferred = Some(Deferred { after: self.position.after, rounds });
        }
        self.position.after = page.next;
        self.ended = page.done;
        self.complete = page.done && self.deferred.is_none();
        if self.complete {
            self.retries = 0;
            return Next::Complete;
        }
        if page.done {
            return Next::Incomplete;
        }
        if self.pages >= pages_max || self.barren >= HEADS_PAGES_BARREN_MAX {
            Next::GiveUp
        } else {
            Next::Ask(self.position)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Yield = Yield { is_deferred: false, is_barren: false };
    const DEFERRED: Yield = Yield { is_deferred: true, is_barren: false };

    fn page(epoch: u32, next: u64, done: bool) -> Page {
        Page { epoch, next, done, heads: Vec::new() }
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.begin(), Position::default());
        assert_eq!(cursor.turn(&page(7, 10, false), TAKEN, 9), Next::Ask(Position { epoch: 7, after: 10 }));
        assert_eq!(cursor.turn(&page(7, 12, true), TAKEN, 9), Next::Complete);
        assert_eq!(cursor.begin(), Position { epoch: 7, after: 12 });
        assert_eq!(cursor.turn(&page(7, 12, true), TAKEN, 9), Next::Complete, "nothing new is complete too");
    }

    #[test]
    fn a_new_numbering_is_read_from_its_beginning() {
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 50, true), TAKEN, 9);
        // The peer answers with the first page of its new numbering.
        assert_eq!(cursor.turn(&page(8, 10, false), TAKEN, 9), Next::Ask(Position { epoch: 8, after: 10 }));
    }

    #[test]
    fn pages_that_lead_nowhere_end_the_round() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.turn(&page(7, 0, false), TAKEN, 9), Next::GiveUp);
        let mut cursor = Cursor::default();
        assert_eq!(cursor.turn(&page(7, 1, false), TAKEN, 1), Next::GiveUp, "the bound of pages");
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 9, false), TAKEN, 9);
        assert_eq!(cursor.turn(&page(7, 3, true), TAKEN, 9), Next::GiveUp, "backwards");
    }

    #[test]
    fn what_could_not_be_taken_is_asked_for_at_once_where_that_is_over() {
        let mut cursor = Cursor::default();
        for _ in 0..9 {
            cursor.begin();
            cursor.turn(&page(7, 30, true), DEFERRED, 9);
        }
        assert_eq!(cursor.begin(), Position { epoch: 7, after: 30 }, "rounds are left out");
        cursor.turn(&page(7, 30, true), TAKEN, 9);
        cursor.retry();
        assert_eq!(cursor.begin(), Position { epoch: 7, after: 0 });
        assert_eq!(cursor.turn(&page(7, 30, true), TAKEN, 9), Next::Complete);
    }

    #[test]
    fn what_could_not_be_taken_is_asked_for_again_ever_less_often() {
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 10, false), TAKEN, 9);
        assert_eq!(
            cursor.turn(&page(7, 20, false), DEFERRED, 9),
            Next::Ask(Position { epoch: 7, after: 20 })
        );
        assert_eq!(cursor.turn(&page(7, 30, true), TAKEN, 9), Next::Incomplete);
        assert!(!cursor.is_complete());
        let mut begun = Vec::new();
        for _ in 0..200 {
            begun.push(cursor.begin().after);
            let came = if begun.last() == Some(&10) { DEFERRED } else { TAKEN };
            assert_eq!(cursor.turn(&page(7, 30, true), came, 9), Next::Incomplete);
        }
        let again: Vec<_> = (0..begun.len()).filter(|at| begun[*at] == 10).collect();
        assert_eq!(again, [0, 2, 6, 14, 30, 62, 126, 190], "and never less than once an hour");
        while cursor.begin().after != 10 {
            cursor.turn(&page(7, 30, true), TAKEN, 9);
        }
        assert_eq!(cursor.turn(&page(7, 30, true), TAKEN, 9), Next::Complete, "now it was taken");
        assert!(cursor.is_complete());
        assert_eq!(cursor.begin().after, 30);
    }

    #[test]
    fn a_long_catalogue_is_read_to_its_end_before_anything_is_read_again() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.turn(&page(7, 1, false), DEFERRED, 1), Next::GiveUp);
        for next in 2..9 {
            assert_eq!(cursor.begin().after, next - 1);
            cursor.turn(&page(7, next, false), TAKEN, 1);
        }
        cursor.begin();
        assert_eq!(cursor.turn(&page(7, 9, true), TAKEN, 1), Next::Incomplete);
        assert_eq!(cursor.begin().after, 0);
    }

    #[test]
    fn pages_that_bring_nothing_end_the_round_and_the_next_one_goes_on() {
        let (mut cursor, barren) = (Cursor::default(), Yield { is_barren: true, ..TAKEN });
        cursor.begin();
        for next in 1..HEADS_PAGES_BARREN_MAX as u64 {
            cursor.turn(&page(7, 2 * next - 1, false), TAKEN, 999);
            assert!(matches!(cursor.turn(&page(7, 2 * next, false), barren, 999), Next::Ask(_)));
        }
        assert_eq!(cursor.turn(&page(7, 98, false), barren, 999), Next::GiveUp);
        assert_eq!(cursor.begin(), Position { epoch: 7, after: 98 });
        assert_eq!(cursor.turn(&page(7, 99, true), barren, 999), Next::Complete);
    }

    #[test]
    fn a_peer_that_is_back_is_read_on_and_counts_as_read_only_then() {
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 50, true), TAKEN, 9);
        let mut back = cursor.resumed();
        assert!(!back.is_complete());
        assert_eq!(back.begin(), Position { epoch: 7, after: 50 });
        assert_eq!(back.turn(&page(7, 50, true), TAKEN, 9), Next::Complete);
    }
}
