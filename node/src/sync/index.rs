//! The items of a catalogue in memory, sorted, beside the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::{
    catalog::{self, Since},
    heads::Item,
    store::{self, Store},
};

/// Changes that are put in one by one; more of them are sorted in together.
const ONE_BY_ONE_MAX: usize = 64;

/// All items of one catalogue as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// In order.
    pub items: Arc<Vec<Item>>,
    /// Up to where the order of changes is in them.
    pub position: u64,
}

impl Catalogue {
    /// When the newest was released; 0 where there is none.
    pub fn newest(&self) -> u64 {
        self.items.last().map_or(0, |item| item.released)
    }
}

/// Keeps the items up to date: 40 bytes for each head, and each reading costs what changed since the last.
#[derive(Debug, Default)]
pub struct Index {
    items: Arc<Vec<Item>>,
    since: Since,
}

impl Index {
    /// The items as the database has them now.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn refreshed(&mut self, conn: &Connection) -> Result<Catalogue, catalog::Error> {
        let changes = catalog::changes(conn, self.since)?;
        self.since = changes.until;
        if changes.whole {
            let mut items = changes.added;
            items.sort_unstable();
            items.dedup();
            self.items = Arc::new(items);
        } else if !changes.removed.is_empty() || !changes.added.is_empty() {
            self.change(changes.removed, changes.added);
        }
        Ok(Catalogue { items: self.items.clone(), position: self.since.position })
    }

    fn change(&mut self, mut removed: Vec<Item>, added: Vec<Item>) {
        // Nobody compares while this happens, as a rule; where somebody does, its items stay as they were.
        let items = Arc::make_mut(&mut self.items);
        if removed.len() + added.len() <= ONE_BY_ONE_MAX {
            for item in removed {
                if let Ok(at) = items.binary_search(&item) {
                    items.remove(at);
                }
            }
            for item in added {
                if let Err(at) = items.binary_search(&item) {
                    items.insert(at, item);
                }
            }
            return;
        }
        removed.sort_unstable();
        items.retain(|item| removed.binary_search(item).is_err());
        items.extend(added);
        // Two sorted runs nearly: the stable sort joins them in one pass.
        items.sort();
        items.dedup();
    }
}

/// An index that several threads use. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Index>>);

impl Shared {
    /// The items as the store has them now.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, store: &Store) -> Result<Catalogue, store::Error> {
        store.read(|conn| Ok(self.held().refreshed(conn)?))
    }

    fn held(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heads::Id;

    fn item(n: u8) -> Item {
        Item { released: u64::from(n % 7), id: Id([n; 32]) }
    }

    proptest! {
        #[test]
        fn few_changes_and_many_lead_to_the_same(
            before in prop::collection::btree_set(any::<u8>(), 0..200),
            removed in prop::collection::vec(any::<u8>(), 0..100),
            added in prop::collection::btree_set(any::<u8>(), 0..100),
        ) {
            let mut sorted: Vec<Item> = before.iter().copied().map(item).collect();
            sorted.sort();
            let mut index = Index { items: Arc::new(sorted), since: Since::default() };
            index.change(removed.iter().copied().map(item).collect(), added.iter().copied().map(item).collect());
            let mut expected: Vec<Item> = before
                .iter()
                .filter(|n| !removed.contains(n))
                .chain(&added)
                .copied()
                .map(item)
                .collect();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(&*index.items, &expected);
        }
    }
}
