//! One turn of comparing two sets of heads by ranges, as pure functions over sorted items.
//!
//! [Range-based set reconciliation](https://arxiv.org/abs/2212.13567), in the form of
//! [negentropy](https://github.com/hoytech/negentropy): a message covers all items with ranges, each with a fingerprint or, where
//! they are few, with ids; ranges whose fingerprints differ are split in the answer. A message stands by itself, so that either side
//! answers from the set that it has at that moment: what comes in between is found by the order of changes, and what went is not
//! missed.

use std::borrow::Cow;

use negentropy::{Bound, Negentropy, NegentropyStorageBase};

use super::item::{Id, Item};
use crate::{
    limits::{HEADS_COMPARED_BYTES, HEADS_COMPARING_BYTES, HEADS_STRETCH, HEADS_STRETCHES_MAX},
    sync::protocol::Newer,
};

/// A message that follows no rule of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message that compares two sets is broken: {0}")]
pub struct Broken(String);

impl From<negentropy::Error> for Broken {
    fn from(error: negentropy::Error) -> Self {
        Self(error.to_string())
    }
}

/// What came of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// What to ask next; nothing where everything is compared.
    pub message: Option<Vec<u8>>,
    /// What this side has and the other lacks, as far as this turn shows it.
    pub have: Vec<Id>,
    /// What the other side has and this one lacks.
    pub need: Vec<Id>,
}

/// The first message about `items`.
///
/// # Errors
/// None that is known.
pub fn open(items: &[Item]) -> Result<Vec<u8>, Broken> {
    Ok(Negentropy::owned(Sorted(items), HEADS_COMPARING_BYTES as u64)?.initiate()?)
}

/// The answer to a message, by the side that was asked.
///
/// # Errors
/// Where the message follows no rule.
pub fn answer(items: &[Item], message: &[u8]) -> Result<Vec<u8>, Broken> {
    Ok(Negentropy::owned(Sorted(items), HEADS_COMPARED_BYTES as u64)?.reconcile(message)?)
}

/// Whether an answer says that there is no difference.
pub fn is_same(answer: &[u8]) -> bool {
    answer.len() <= 1
}

/// What follows from an answer, for the side that asks.
///
/// # Errors
/// Where the answer follows no rule.
pub fn advance(items: &[Item], answer: &[u8]) -> Result<Turn, Broken> {
    let mut asking = Negentropy::owned(Sorted(items), HEADS_COMPARING_BYTES as u64)?;
    asking.set_initiator();
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let message = asking.reconcile_with_ids(answer, &mut have, &mut need)?;
    let ids = |ids: Vec<negentropy::Id>| ids.into_iter().map(|id| Id(id.to_bytes())).collect();
    Ok(Turn { message, have: ids(have), need: ids(need) })
}

/// What this node has, as far as it is compared with one peer: nothing that was released after `until`, and with what it
/// `declined` of that peer, as if it had it: a difference that stays would cost its price again and again.
pub fn view<'a>(items: &'a [Item], until: u64, declined: &[Item]) -> Cow<'a, [Item]> {
    let end = items.partition_point(|item| item.released <= until);
    let items = &items[..end];
    let declined: Vec<Item> = declined.iter().filter(|item| item.released <= until).copied().collect();
    if declined.is_empty() {
        return Cow::Borrowed(items);
    }
    let mut joined = [items, &declined].concat();
    joined.sort_unstable();
    joined.dedup();
    Cow::Owned(joined)
}

/// What was released later than `than`, with places to cut it.
pub fn newer(items: &[Item], than: u64) -> Option<Newer> {
    let newer = &items[items.partition_point(|item| item.released <= than)..];
    let stretch = HEADS_STRETCH.max(newer.len().div_ceil(HEADS_STRETCHES_MAX));
    let cuts = newer.chunks(stretch).map(|chunk| chunk[chunk.len() - 1]);
    let cuts = cuts.take(newer.len().div_ceil(stretch).saturating_sub(1)).collect();
    let heads = u32::try_from(newer.len()).unwrap_or(u32::MAX);
    (heads > 0).then_some(Newer { than, heads, cuts })
}

/// Items in their order, as negentropy wants them.
struct Sorted<'a>(&'a [Item]);

fn theirs(item: Item) -> negentropy::Item {
    negentropy::Item::with_timestamp_and_id(item.released, negentropy::Id::from_byte_array(item.id.0))
}

impl NegentropyStorageBase for Sorted<'_> {
    fn size(&self) -> Result<usize, negentropy::Error> {
        Ok(self.0.len())
    }

    fn get_item(&self, at: usize) -> Result<Option<negentropy::Item>, negentropy::Error> {
        Ok(self.0.get(at).copied().map(theirs))
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        each: &mut dyn FnMut(negentropy::Item, usize) -> Result<bool, negentropy::Error>,
    ) -> Result<(), negentropy::Error> {
        let range = self.0.get(begin..end).ok_or(negentropy::Error::BadRange)?;
        for (at, item) in range.iter().enumerate() {
            if !each(theirs(*item), begin + at)? {
                break;
            }
        }
        Ok(())
    }

    fn find_lower_bound(&self, first: usize, last: usize, bound: &Bound) -> usize {
        let range = self.0.get(first..last).unwrap_or_default();
        first + range.partition_point(|item| theirs(*item) < bound.item)
    }
}
