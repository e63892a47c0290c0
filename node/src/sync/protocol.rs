//! The messages of `/ggen/heads/1`.
//!
//! Every node numbers the changes of its catalogue. A peer asks for what came after a number and gets a page of heads with
//! the number to go on from. The epoch names the numbering: after a catalogue was rebuilt, old numbers mean nothing and the
//! reader starts over.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::limits::HEADS_PAGES_BARREN_MAX;

/// The protocol id.
pub const PROTOCOL: &str = "/ggen/heads/1";

/// Asks for the heads after a position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The numbering that `after` belongs to; 0 at the first time.
    pub epoch: u64,
    /// The position that was reached; 0 at the first time.
    pub after: u64,
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
    pub epoch: u64,
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
    request: Request,
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
    Ask(Request),
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
    pub fn begin(&mut self) -> Request {
        (self.pages, self.barren) = (0, 0);
        if let Some(deferred) = self.deferred.as_mut().filter(|_| self.ended) {
            match deferred.rounds.checked_sub(1) {
                Some(rounds) => deferred.rounds = rounds,
                None => {
                    self.request.after = deferred.after;
                    self.deferred = None;
                }
            }
        }
        self.request
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
        if page.epoch != self.request.epoch {
            self.request = Request { epoch: page.epoch, after: 0 };
            self.deferred = None;
        }
        let moved = page.next > self.request.after;
        if page.next < self.request.after || (!page.done && !moved) {
            *self = Self { pages: self.pages, ..Self::default() };
            return Next::GiveUp;
        }
        if came.is_deferred && self.deferred.is_none() {
            let rounds = 1u32.checked_shl(self.retries).unwrap_or(u32::MAX).min(RETRY_ROUNDS_MAX) - 1;
            self.retries = self.retries.saturating_add(1);
            self.deferred = Some(Deferred { after: self.request.after, rounds });
        }
        self.request.after = page.next;
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
            Next::Ask(self.request)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Yield = Yield { is_deferred: false, is_barren: false };
    const DEFERRED: Yield = Yield { is_deferred: true, is_barren: false };

    fn page(epoch: u64, next: u64, done: bool) -> Page {
        Page { epoch, next, done, heads: Vec::new() }
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.begin(), Request::default());
        assert_eq!(cursor.turn(&page(7, 10, false), TAKEN, 9), Next::Ask(Request { epoch: 7, after: 10 }));
        assert_eq!(cursor.turn(&page(7, 12, true), TAKEN, 9), Next::Complete);
        assert_eq!(cursor.begin(), Request { epoch: 7, after: 12 });
        assert_eq!(cursor.turn(&page(7, 12, true), TAKEN, 9), Next::Complete, "nothing new is complete too");
    }

    #[test]
    fn a_new_numbering_is_read_from_its_beginning() {
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 50, true), TAKEN, 9);
        // The peer answers with the first page of its new numbering.
        assert_eq!(cursor.turn(&page(8, 10, false), TAKEN, 9), Next::Ask(Request { epoch: 8, after: 10 }));
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
        assert_eq!(cursor.begin(), Request { epoch: 7, after: 30 }, "rounds are left out");
        cursor.turn(&page(7, 30, true), TAKEN, 9);
        cursor.retry();
        assert_eq!(cursor.begin(), Request { epoch: 7, after: 0 });
        assert_eq!(cursor.turn(&page(7, 30, true), TAKEN, 9), Next::Complete);
    }

    #[test]
    fn what_could_not_be_taken_is_asked_for_again_ever_less_often() {
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 10, false), TAKEN, 9);
        assert_eq!(cursor.turn(&page(7, 20, false), DEFERRED, 9), Next::Ask(Request { epoch: 7, after: 20 }));
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
        assert_eq!(cursor.begin(), Request { epoch: 7, after: 98 });
        assert_eq!(cursor.turn(&page(7, 99, true), barren, 999), Next::Complete);
    }

    #[test]
    fn a_peer_that_is_back_is_read_on_and_counts_as_read_only_then() {
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 50, true), TAKEN, 9);
        let mut back = cursor.resumed();
        assert!(!back.is_complete());
        assert_eq!(back.begin(), Request { epoch: 7, after: 50 });
        assert_eq!(back.turn(&page(7, 50, true), TAKEN, 9), Next::Complete);
    }
}
