//! What the exchange is told, and what it says to do.

use std::collections::BTreeSet;

use serde_bytes::ByteBuf;

use super::Outcome;
use crate::{
    heads::{
        compare::{Broken, Turn},
        item::{Id, Item},
    },
    sync::protocol::{Answer, Newer, Position, Request, Rest},
};

/// Names something that a peer was asked for.
pub type Ticket = u64;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<P> {
    /// A peer is connected that serves heads.
    Joined {
        /// The peer.
        peer: P,
        /// Whether this side is the one to begin comparing.
        begins: bool,
    },
    /// Its last connection closed.
    Gone(P),
    /// It answered.
    Answered(P, Ticket, Answer),
    /// It did not.
    Failed(P, Ticket, Outcome),
    /// What [`Output::Compare`] wanted; nothing where the database failed.
    Compared(P, Ticket, Option<Result<Ours, Broken>>),
    /// What [`Output::Check`] wanted; nothing where the database failed.
    Checked(P, Ticket, Option<Checked>),
    /// A peer asked this node for something.
    Asked(P, Asked),
}

/// What a peer asked for, as far as it says something about its own catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It began to compare, and is there in the order of its changes.
    Began(Position),
    /// It went on.
    WentOn,
    /// This node's answer said that both have the same, up to the newest that the peer has.
    Same {
        /// Where the peer is in the order of its changes.
        position: Position,
        /// Whether nothing here is newer than that.
        is_all: bool,
    },
    /// What this node lacks: ids, what is newer, and whether that is all.
    Lacked(Vec<Id>, Option<Newer>, Rest),
    /// It reads this node by the order of its changes, and so does not begin to compare.
    ReadsOn,
    /// There is something new.
    News,
}

/// The turn of this side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// What came of it.
    pub turn: Turn,
    /// The newest that this node has.
    pub newest: u64,
    /// Where it is in the order of its changes.
    pub position: Position,
    /// What it has that is newer than everything there.
    pub newer: Option<Newer>,
    /// What was declined and is not there any more.
    pub gone: Vec<Id>,
}

/// What became of heads that a peer gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Heads that were new or newer.
    pub new: usize,
    /// Whether something genuine could not be taken for now.
    pub is_deferred: bool,
    /// Whether they were hardly worth their signatures.
    pub is_barren: bool,
    /// Heads that break the rules of their form.
    pub malformed: usize,
    /// Whether more of them are malformed than a damaged disk explains.
    pub is_garbage: bool,
    /// Whether one of them was signed by nobody who may.
    pub is_forged: bool,
    /// The ids of those that are genuine, frozen or not.
    pub given: BTreeSet<Id>,
    /// What is not taken of them, whenever it comes.
    pub declined: Vec<Item>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output<P> {
    /// Ask a peer.
    Ask(P, Ticket, Request),
    /// Take this side's turn of a comparison: the first where there is no answer.
    Compare {
        /// With whom.
        peer: P,
        /// What the outcome is told with.
        ticket: Ticket,
        /// What it answered.
        answer: Option<Vec<u8>>,
        /// The newest that both sides have; nothing where that is not known yet.
        until: Option<u64>,
        /// The newest that the peer has.
        newest: Option<u64>,
        /// What is not taken of it.
        declined: Vec<Item>,
    },
    /// Verify and write heads that a peer gave.
    Check(P, Ticket, Vec<ByteBuf>),
    /// Note that a comparison has shown that a peer has all that is here.
    HasAll(P),
    /// Charge a peer with something.
    Blame(P, Fault),
}

/// What a peer is provably at fault for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It passed on heads that nobody signed who may.
    Forged,
    /// Its message follows no rule of the protocol.
    Broken(String),
}
