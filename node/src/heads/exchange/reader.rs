//! What is known of the reading of one peer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{Outcome, Ticket};
use crate::{
    heads::{Id, Item},
    limits::{HEADS_DECLINED_PER_PEER_MAX, HEADS_TURNS_PER_PEER_MAX, HEADS_TURNS_PER_PEER_REFILL},
    sync::protocol::{Cursor, Newer, Page, Position, Standing},
};

/// What the reading of a peer waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The next round.
    Idle,
    /// The peer is to begin comparing; if it does not until then, this side does.
    Awaiting(Duration),
    /// The peer compares, and says in the end what this side lacks; if it says nothing more until then, this side compares.
    Guest(Duration),
    /// A page of its changes.
    Paging,
    /// A turn, here or there.
    Comparing,
    /// Room for more ids, before this goes on.
    Held(Vec<u8>),
    /// That it notes what it lacks.
    Closing,
    /// The heads that it listed.
    Taking,
    /// What is newer is taken from somebody else first; where it `gives` of that, it is asked too, and compared with afterwards.
    Helping {
        /// Whether it has nearly as much of it.
        gives: bool,
    },
}

/// Something that a peer was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit<P> {
    /// What changed.
    Page,
    /// A page that came, without its heads, while these are verified; and how many there are.
    Paged(Page, usize),
    /// This side's own turn of a comparison.
    Ours,
    /// An answer of a comparison.
    Turn,
    /// That it notes what it lacks.
    Have,
    /// The heads of these ids; those that came are being verified where it is `true`.
    Ids(Vec<Id>, bool),
    /// The heads of a stretch that `owner` told of.
    Stretch {
        /// Who told of it.
        owner: P,
        /// After what.
        after: Item,
        /// Up to what.
        until: Option<Item>,
    },
    /// A stretch of `owner` that came, while its heads are verified.
    Stretched {
        /// Who told of it.
        owner: P,
        /// How many heads there are.
        heads: usize,
    },
    /// Nothing that is waited for.
    Word,
}

impl<P> Unit<P> {
    /// Whether it is a part of what a peer is asked to give.
    pub(super) fn is_gift(&self) -> bool {
        matches!(self, Self::Ids(..) | Self::Stretch { .. } | Self::Stretched { .. })
    }
}

/// One comparison, and what it led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) turns: u32,
    /// The newest that both sides have.
    pub(super) until: u64,
    pub(super) standing: Option<Standing>,
    /// Where the peer was in the order of its changes when it began.
    pub(super) position: Option<Position>,
    /// What the peer lacks, and what of that is newer than all that it has.
    pub(super) have: Vec<Id>,
    pub(super) newer: Option<Newer>,
    /// Heads that came and that did not.
    pub(super) given: usize,
    pub(super) not_given: usize,
    /// Answers that were hardly worth their signatures.
    pub(super) barren: usize,
    /// Whether something could not be taken for now.
    pub(super) deferred: bool,
}

/// The reading of one peer.
#[derive(Debug, Clone)]
pub(super) struct Reader<P> {
    /// Whether this side is the one to begin comparing.
    pub(super) begins: bool,
    pub(super) state: State,
    pub(super) cursor: Cursor,
    /// How the last round ended.
    pub(super) outcome: Option<Outcome>,
    pub(super) session: Session,
    /// Ids that it listed, to be asked of it unless somebody else gives them.
    pub(super) todo: VecDeque<Id>,
    /// What is newer there.
    pub(super) stretches: VecDeque<(Item, Option<Item>)>,
    /// What it was asked for and is not settled.
    pub(super) out: BTreeMap<Ticket, Unit<P>>,
    /// What this node does not take of it.
    pub(super) declined: BTreeSet<Item>,
    /// Heads so far that break the rules of their form.
    pub(super) malformed: usize,
    /// Whether the next round compares.
    pub(super) compares: bool,
    /// Rounds until something is tried again that could not be taken.
    pub(super) skips: u32,
    /// How often in a row something could not be taken.
    pub(super) retries: u32,
    /// When to read it again, before the next round.
    pub(super) again_at: Option<Duration>,
    pub(super) began_at: Option<Duration>,
    /// Whether it was read once since it joined.
    pub(super) was_read: bool,
    /// Turns that were answered it, and up to when that is counted.
    turns_used: (u32, Duration),
}

impl<P> Reader<P> {
    pub(super) fn new(cursor: Cursor, declined: BTreeSet<Item>) -> Self {
        Self {
            begins: false,
            state: State::Idle,
            cursor,
            outcome: None,
            session: Session::default(),
            todo: VecDeque::new(),
            stretches: VecDeque::new(),
            out: BTreeMap::new(),
            declined,
            malformed: 0,
            compares: false,
            skips: 0,
            retries: 0,
            again_at: None,
            began_at: None,
            was_read: false,
            turns_used: (0, Duration::ZERO),
        }
    }

    /// Whether its reading goes on.
    pub(super) fn is_busy(&self) -> bool {
        self.state != State::Idle
    }

    /// Whether others wait for the end of its reading. A guest may take its time, once it was read or failed.
    pub(super) fn is_waited_for(&self) -> bool {
        self.is_busy() && !(matches!(self.state, State::Guest(_)) && self.outcome.is_some())
    }

    /// Whether it can be asked to give something more.
    pub(super) fn has_hand_free(&self, most: usize) -> bool {
        self.is_busy() && self.out.values().filter(|unit| unit.is_gift()).count() < most
    }

    /// Whether nothing that it was asked for, or is to be asked for, is left.
    pub(super) fn is_taken(&self) -> bool {
        self.todo.is_empty()
            && self.stretches.is_empty()
            && !self.out.values().any(|unit| !matches!(unit, Unit::Word))
    }

    /// Notes what is not taken of it, up to a bound.
    pub(super) fn decline(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            if self.declined.len() < HEADS_DECLINED_PER_PEER_MAX {
                self.declined.insert(item);
            }
        }
    }

    /// Whether one more turn is answered it now.
    pub(super) fn admits_turn(&mut self, now: Duration) -> bool {
        let (used, at) = self.turns_used;
        let passed = now.saturating_sub(at).as_nanos() / HEADS_TURNS_PER_PEER_REFILL.as_nanos().max(1);
        let refilled = u32::try_from(passed).unwrap_or(u32::MAX);
        let (used, at) = match used.checked_sub(refilled) {
            Some(left) => (left, at + HEADS_TURNS_PER_PEER_REFILL * refilled),
            None => (0, now),
        };
        let is_admitted = used < HEADS_TURNS_PER_PEER_MAX;
        self.turns_used = (used + u32::from(is_admitted), at);
        is_admitted
    }
}
