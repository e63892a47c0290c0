//! Heads are written many at a time: pages that come from several peers at once wait for one another at the database, and those that
//! wait go in with one transaction, which costs one flush of the text index and one of the disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Transaction;

use crate::{
    catalog::{self, Outcome, Refusal, Source},
    package::PackageId,
    release::VerifiedHead,
    store::{self, Store},
    time::Timestamp,
};

/// Heads of one package in one page that are checked against each other.
const HEADS_OF_PACKAGE_MAX: usize = 3;
/// Pages that are written with one transaction: what others wait for the database meanwhile, at about 50 ms each.
const PAGES_AT_ONCE_MAX: usize = 4;

/// What became of heads that were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Heads that were new or newer.
    pub new: usize,
    /// Heads that may be taken later: there was no room, or they are from ahead of our clock.
    pub deferred: usize,
}

/// Writes verified heads, each with whoever told of it, in one transaction and yields what became of them. Those that contradict
/// each other freeze their package, whether they are taken or not.
///
/// # Errors
/// Where the database fails; nothing is written then.
pub fn write(
    store: &Store,
    heads: &[(Source, VerifiedHead)],
    now: Timestamp,
) -> Result<Written, store::Error> {
    if heads.is_empty() {
        return Ok(Written::default());
    }
    store.write(|tx| write_within(tx, heads, now))
}

fn write_within(
    tx: &Transaction<'_>,
    heads: &[(Source, VerifiedHead)],
    now: Timestamp,
) -> Result<Written, store::Error> {
    let (mut new, mut deferred) = (0, Vec::new());
    for (source, head) in heads {
        match catalog::insert(tx, head, source, now)? {
            outcome if outcome.is_news() => new += 1,
            Outcome::Refused(Refusal::Full | Refusal::Early) => {
                deferred.push(head.package_id());
            }
            outcome => {
                tracing::debug!(package = %head.package_id(), ?outcome, "a head was not taken");
            }
        }
    }
    convict_among(tx, heads, now)?;
    // Of a package that is frozen nothing is to be asked for again.
    let mut written = Written { new, deferred: 0 };
    for package in &deferred {
        written.deferred += usize::from(!catalog::is_frozen(tx, package)?);
    }
    Ok(written)
}

/// Freezes the packages of which some of these heads contradict each other.
fn convict_among(
    tx: &Transaction<'_>,
    heads: &[(Source, VerifiedHead)],
    now: Timestamp,
) -> Result<(), catalog::Error> {
    let mut of_package: BTreeMap<PackageId, Vec<&(Source, VerifiedHead)>> = BTreeMap::new();
    for offered in heads {
        let of_package = of_package.entry(offered.1.package_id()).or_default();
        // What is listed, and what proves that it counts no more: whoever sends more of them has another use for our time.
        if of_package.len() < HEADS_OF_PACKAGE_MAX {
            of_package.push(offered);
        }
    }
    for heads in of_package.values() {
        for (at, (from, second)) in heads.iter().enumerate() {
            for (_, first) in &heads[..at] {
                catalog::convict(tx, first, second, from, now)?;
            }
        }
    }
    Ok(())
}

/// The pages that wait to be written. As many as there are threads that write.
#[derive(Debug, Default)]
pub(super) struct Writes {
    waiting: Mutex<Vec<Arc<Page>>>,
    /// Held by whoever writes.
    turn: Mutex<()>,
}

/// Heads that one thread wants written.
#[derive(Debug)]
struct Page {
    heads: Vec<(Source, VerifiedHead)>,
    now: Timestamp,
    /// What became of them, where another thread has written them.
    written: Mutex<Option<Written>>,
}

impl Writes {
    /// Does what [`write()`] does, with whatever else waits to be written.
    ///
    /// # Errors
    /// As [`write()`]. Where one page cannot be written, that is no fault of the others: each is tried by itself.
    pub(super) fn write(
        &self,
        store: &Store,
        heads: Vec<(Source, VerifiedHead)>,
        now: Timestamp,
    ) -> Result<Written, store::Error> {
        if heads.is_empty() {
            return Ok(Written::default());
        }
        let page = Arc::new(Page { heads, now, written: Mutex::default() });
        held(&self.waiting).push(page.clone());
        let _turn = held(&self.turn);
        if let Some(written) = *held(&page.written) {
            return Ok(written);
        }
        // It waits no longer where another thread failed to write it.
        let mut waiting = held(&self.waiting);
        waiting.retain(|other| !Arc::ptr_eq(other, &page));
        let others = waiting.len().min(PAGES_AT_ONCE_MAX - 1);
        let pages: Vec<Arc<Page>> = [page.clone()].into_iter().chain(waiting.drain(..others)).collect();
        drop(waiting);
        let together = store.write(|tx| {
            let written = pages.iter().map(|page| write_within(tx, &page.heads, page.now));
            written.collect::<Result<Vec<_>, _>>()
        });
        match together {
            Ok(all) => {
                pages.iter().zip(all).for_each(|(page, written)| *held(&page.written) = Some(written));
                let written = *held(&page.written);
                Ok(written.unwrap_or_default())
            }
            // Each of the other threads finds its page unwritten, and writes it.
            Err(_) if pages.len() > 1 => write(store, &page.heads, page.now),
            Err(error) => Err(error),
        }
    }
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{
        identity::hex,
        release::fixture::{NOW, head, publisher},
    };

    /// A package of each of these publishers.
    fn page(seeds: &[u8]) -> Vec<(Source, VerifiedHead)> {
        seeds.iter().map(|seed| (Source::unknown(), head(&publisher(*seed), &["1.0.0"]))).collect()
    }

    /// Writes pages that all wait while another one is written; gives what became of each.
    fn at_once(store: &Store, pages: Vec<Vec<(Source, VerifiedHead)>>) -> Vec<Option<Written>> {
        let (writes, count) = (Writes::default(), pages.len());
        thread::scope(|scope| {
            let turn = held(&writes.turn);
            let begun: Vec<_> =
                pages.into_iter().map(|page| scope.spawn(|| writes.write(store, page, NOW).ok())).collect();
            while held(&writes.waiting).len() < count {
                thread::yield_now();
            }
            drop(turn);
            begun.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn pages_that_wait_are_written_with_one_transaction_and_each_is_told_what_became_of_it() {
        let store = Store::in_memory().unwrap();
        let pages = vec![page(&[1, 2]), page(&[3]), page(&[1])];
        let became = at_once(&store, pages);
        let mut new: Vec<usize> = became.into_iter().map(|written| written.unwrap().new).collect();
        new.sort_unstable();
        // Whichever of the two that hold it came first.
        assert!(new == [0, 1, 2] || new == [1, 1, 1], "{new:?}");
        assert_eq!(store.read(|conn| Ok(catalog::count(conn)?)).unwrap(), 3);
    }

    #[test]
    fn many_pages_are_written_too() {
        let store = Store::in_memory().unwrap();
        let count = u8::try_from(3 * PAGES_AT_ONCE_MAX + 1).unwrap();
        let became = at_once(&store, (1..=count).map(|seed| page(&[seed])).collect());
        assert!(became.iter().all(|written| written.is_some_and(|written| written.new == 1)), "{became:?}");
        assert_eq!(store.read(|conn| Ok(catalog::count(conn)?)).unwrap(), usize::from(count));
    }

    #[test]
    fn a_page_that_cannot_be_written_keeps_no_other_out() {
        let store = Store::in_memory().unwrap();
        let refusal = format!(
            "CREATE TRIGGER refusal BEFORE INSERT ON catalog_heads WHEN new.publisher = x'{}'
             BEGIN SELECT RAISE(ABORT, 'the disk says no'); END",
            hex::encode(publisher(2).id().as_bytes())
        );
        store.write(|tx| Ok(tx.execute_batch(&refusal)?)).unwrap();
        let became = at_once(&store, vec![page(&[1]), page(&[2]), page(&[3])]);
        let new: Vec<_> = became.into_iter().map(|written| written.map(|written| written.new)).collect();
        assert_eq!(new, [Some(1), None, Some(1)]);
        assert_eq!(store.read(|conn| Ok(catalog::count(conn)?)).unwrap(), 2);
    }
}
