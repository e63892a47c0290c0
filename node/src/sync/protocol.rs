//! The messages of `/ggen/heads/1`.
//!
//! Every node numbers the changes of its catalogue. A peer asks for what came after a number and gets a page of heads with
//! the number to go on from. The epoch names the numbering: after a catalogue was rebuilt, old numbers mean nothing and the
//! reader starts over.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

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

/// How far one peer's catalogue was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    request: Request,
    pages: usize,
    complete: bool,
}

/// What to do after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask again at once.
    Ask(Request),
    /// Everything was read; ask again in the next round.
    Complete,
    /// The peer contradicts itself, or sends more than it may; it is left alone until the next round.
    GiveUp,
}

impl Cursor {
    /// Begins a round where the last one ended.
    pub fn begin(&mut self) -> Request {
        self.pages = 0;
        self.request
    }

    /// Whether the last round read everything.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes the place of a page into account.
    ///
    /// A page that is not the last must move forward: a peer cannot keep a reader busy with pages that lead nowhere.
    pub fn turn(&mut self, page: &Page, pages_max: usize) -> Next {
        self.pages += 1;
        if page.epoch != self.request.epoch {
            self.request = Request { epoch: page.epoch, after: 0 };
        }
        let moved = page.next > self.request.after;
        if page.next < self.request.after || (!page.done && !moved) {
            self.request = Request::default();
            self.complete = false;
            return Next::GiveUp;
        }
        self.request.after = page.next;
        if page.done {
            self.complete = true;
            return Next::Complete;
        }
        self.complete = false;
        if self.pages >= pages_max { Next::GiveUp } else { Next::Ask(self.request) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(epoch: u64, next: u64, done: bool) -> Page {
        Page { epoch, next, done, heads: Vec::new() }
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.begin(), Request::default());
        assert_eq!(cursor.turn(&page(7, 10, false), 9), Next::Ask(Request { epoch: 7, after: 10 }));
        assert_eq!(cursor.turn(&page(7, 12, true), 9), Next::Complete);
        assert_eq!(cursor.begin(), Request { epoch: 7, after: 12 });
        assert_eq!(cursor.turn(&page(7, 12, true), 9), Next::Complete, "nothing new is complete too");
    }

    #[test]
    fn a_new_numbering_is_read_from_its_beginning() {
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 50, true), 9);
        // The peer answers with the first page of its new numbering.
        assert_eq!(cursor.turn(&page(8, 10, false), 9), Next::Ask(Request { epoch: 8, after: 10 }));
    }

    #[test]
    fn pages_that_lead_nowhere_end_the_round() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.turn(&page(7, 0, false), 9), Next::GiveUp);
        let mut cursor = Cursor::default();
        assert_eq!(cursor.turn(&page(7, 1, false), 1), Next::GiveUp, "the bound of pages");
        let mut cursor = Cursor::default();
        cursor.turn(&page(7, 9, false), 9);
        assert_eq!(cursor.turn(&page(7, 3, true), 9), Next::GiveUp, "backwards");
    }
}
