//! What is wanted, in the order in which it is asked for.
//!
//! Nodes come first, since what stands below them is not known before. A leaf comes the earlier the fewer of those who fetch the same tree have it ("rarest first", as in
//! [BitTorrent](http://bittorrent.org/bittorrentecon.pdf)); among equals first what belongs to this node, then by a number: that
//! of its place in the tree as long as nobody else fetches, and then one that is another for each node.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::PeerId;

use super::{super::swarm::Mark, RequestId, members::Members};
use crate::content::{Codec, ContentId};

/// Peers that may let one block wait at once, so that of many holders one that is idle is found; and one of few bytes, which has come from one of them before the others hear of it.
const WAITS_MAX: usize = 16;
const WAITS_SMALL_MAX: usize = 2;
/// Of blocks of so many bytes, each node begins with other ones even before it knows whether others fetch the same: those who begin at the
/// same moment have something for each other sooner.
const LARGE_BYTES: u64 = 256 << 10;

/// A block that is wanted.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) size: u64,
    /// Requests in flight that ask for this, and do not wait for their turn.
    pub(super) asked: BTreeMap<RequestId, PeerId>,
    /// Requests that ask for this and wait for their turn.
    pub(super) waits: BTreeMap<RequestId, PeerId>,
    /// When one more peer may be asked for it, where it waits.
    pub(super) not_before: Duration,
    /// Peers that do not hold it.
    pub(super) refused: BTreeSet<PeerId>,
    /// Where it stands in the queue, while it does.
    rank: Option<Rank>,
    /// Others who fetch the tree and have it.
    holders: u32,
    number: u64,
}

impl Want {
    /// Whether a peer was not asked yet, or has not refused.
    pub(super) fn may_come_from(&self, peer: &PeerId) -> bool {
        !self.refused.contains(peer)
            && self.asked.values().chain(self.waits.values()).all(|asked| asked != peer)
    }

    /// Whether one more peer may be asked for what is queued: of what waits, a few are after a while.
    pub(super) fn is_open(&self, now: Duration) -> bool {
        let most = if self.size >= LARGE_BYTES { WAITS_MAX } else { WAITS_SMALL_MAX };
        self.waits.is_empty() || self.waits.len() < most && self.not_before <= now
    }

    /// Whether nobody is asked for it, not even one that lets it wait.
    pub(super) fn is_unasked(&self) -> bool {
        self.asked.is_empty() && self.waits.is_empty()
    }
}

/// The place of a want in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Whether it links to nothing.
    is_leaf: bool,
    /// Others who have it.
    holders: u32,
    /// Peers that let it wait.
    waits: usize,
    /// Whether it belongs to somebody else.
    is_of_others: bool,
    number: u64,
}

impl Rank {
    /// Where those begin that somebody else has.
    const HELD: Self = Self { is_leaf: true, holders: 1, waits: 0, is_of_others: false, number: 0 };
    /// Where the leaves begin.
    const LEAVES: Self = Self { holders: 0, ..Self::HELD };

    /// Whether it is fetched from who has all of the tree: nobody else who fetches has it, and it is nobody else's to bring. Nodes always are:
    /// they are small, and waited for.
    pub(super) fn is_own(&self) -> bool {
        !self.is_leaf || !self.is_of_others && self.holders == 0
    }
}

/// All wants of a plan.
#[derive(Debug, Default)]
pub(super) struct Wants {
    all: BTreeMap<ContentId, Want>,
    queue: BTreeSet<(Rank, ContentId)>,
    /// By mark, where others fetch too.
    marks: BTreeMap<Mark, ContentId>,
    next_number: u64,
    /// A number of this node alone, where others may fetch the same.
    salt: Option<u64>,
}

impl Wants {
    pub(super) fn of(salt: Option<u64>) -> Self {
        Self { salt, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get(&self, id: &ContentId) -> Option<&Want> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ContentId) -> Option<&mut Want> {
        self.all.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ContentId, &Want)> {
        self.all.iter()
    }

    /// Adds a want that some others have; false where it is here already.
    pub(super) fn add(&mut self, id: ContentId, size: u64, holders: u32, swarm: Option<&Members>) -> bool {
        if self.all.contains_key(&id) {
            return false;
        }
        let (asked, waits, not_before, refused) = Default::default();
        let number = self.next_number;
        self.next_number += 1;
        self.all.insert(id, Want { size, asked, waits, not_before, refused, rank: None, holders, number });
        self.marks.insert(Mark::of(&id), id);
        self.queue(&id, swarm);
        true
    }

    /// Takes out what has come.
    pub(super) fn remove(&mut self, id: &ContentId) -> Option<Want> {
        let want = self.all.remove(id)?;
        if let Some(rank) = want.rank {
            self.queue.remove(&(rank, *id));
        }
        self.marks.remove(&Mark::of(id));
        Some(want)
    }

    /// Puts a want into the queue, at its place.
    pub(super) fn queue(&mut self, id: &ContentId, swarm: Option<&Members>) {
        let Some(want) = self.all.get_mut(id) else { return };
        let (holders, mark, is_leaf) = (want.holders, Mark::of(id), id.codec() == Codec::Raw);
        let waits = want.waits.len();
        let rank = match (swarm, self.salt) {
            (None, Some(salt)) if is_leaf && want.size >= LARGE_BYTES => {
                // Behind the small ones, whose order is that of the tree.
                let number = mark.mixed(!salt) | 1 << 63;
                Rank { is_leaf, holders, waits, is_of_others: false, number }
            }
            (None, _) => Rank { is_leaf, holders, waits, is_of_others: false, number: want.number },
            (Some(members), _) => {
                let is_of_others = !members.is_own(mark);
                Rank { is_leaf, holders, waits, is_of_others, number: mark.mixed(!members.salt()) }
            }
        };
        if let Some(before) = want.rank.replace(rank) {
            self.queue.remove(&(before, *id));
        }
        self.queue.insert((rank, *id));
    }

    /// Takes a want out of the queue.
    pub(super) fn take(&mut self, id: &ContentId) {
        if let Some(want) = self.all.get_mut(id)
            && let Some(rank) = want.rank.take()
        {
            self.queue.remove(&(rank, *id));
        }
    }

    /// Puts all that is queued to where it belongs now.
    pub(super) fn order(&mut self, swarm: Option<&Members>) {
        let queued: Vec<ContentId> = self.queue.iter().map(|(_, id)| *id).collect();
        queued.iter().for_each(|id| self.queue(id, swarm));
    }

    /// The queue.
    pub(super) fn queued(&self) -> impl Iterator<Item = (Rank, ContentId)> {
        self.queue.iter().copied()
    }

    /// That of the queue which somebody else may have who fetches too.
    pub(super) fn held(&self) -> impl Iterator<Item = ContentId> {
        let least = ContentId::from_digest(Codec::Raw, [0; 32]);
        let nodes = self.queue.range(..(Rank::LEAVES, least));
        nodes.chain(self.queue.range((Rank::HELD, least)..)).map(|(_, id)| *id)
    }

    /// The want with a mark.
    pub(super) fn marked(&self, mark: Mark) -> Option<ContentId> {
        self.marks.get(&mark).copied()
    }

    /// One more has a block, or one less.
    pub(super) fn count(&mut self, id: &ContentId, more: bool, swarm: Option<&Members>) {
        let Some(want) = self.all.get_mut(id) else { return };
        want.holders = if more { want.holders.saturating_add(1) } else { want.holders.saturating_sub(1) };
        if want.rank.is_some() {
            self.queue(id, swarm);
        }
    }
}
