//! The logs of installed packages that did not come to their end: they are read to it in the background, so that the history of a
//! package outlives the node of its author wherever it is installed.
//!
//! Nothing is remembered for it: what is lacking the store says, after a restart too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{install::head_key, node::Node, offer::log_here, resolve::Unread};
use crate::{
    package::PackageId,
    release::VerifiedHead,
    store::{self, Store, installed, meta},
};

/// How soon a log that did not come is asked for again; twice as long each time.
const AGAIN: Duration = Duration::from_secs(10);
/// The longest wait: who has it may come back any day.
const AGAIN_MAX: Duration = Duration::from_secs(3600);

/// How long to wait before a log is asked for again.
fn wait_after(tries: u32) -> Duration {
    AGAIN.saturating_mul(2u32.saturating_pow(tries.min(16))).min(AGAIN_MAX)
}

/// Reads logs to their end, until the node stops.
pub(super) async fn finish(node: Arc<Node>) {
    let (mut tries, mut given_up) = (0, BTreeSet::new());
    loop {
        let (lacking, skipped) = (node.with_store(lacking).await, &mut given_up);
        let lacks_some = match lacking {
            Ok(lacking) => node.read_lacking(lacking, skipped).await,
            Err(failure) => {
                tracing::warn!(failure.message, "which logs are lacking is not known");
                true
            }
        };
        let again = Instant::now() + wait_after(tries);
        tries = if lacks_some { tries.saturating_add(1) } else { 0 };
        tokio::select! { biased;
            () = node.lacking_log.notified() => tries = 0,
            () = sleep_until(again), if lacks_some => {}
        }
    }
}

impl Node {
    /// Asks for logs; tells whether some did not come.
    async fn read_lacking(
        &self,
        lacking: BTreeMap<PackageId, VerifiedHead>,
        given_up: &mut BTreeSet<PackageId>,
    ) -> bool {
        let mut lacks_some = false;
        for (package, head) in lacking {
            if given_up.contains(&package) {
                continue;
            }
            match self.log_of(&head).await {
                Ok(_) => tracing::info!(%package, "the log of an installed package is whole now"),
                Err(Unread::Contradicts(failure)) => {
                    tracing::warn!(%package, failure.message, "the log of an installed package is not asked for again");
                    given_up.insert(package);
                }
                Err(Unread::Unavailable(failure) | Unread::Unheld(failure, _)) => {
                    tracing::debug!(%package, failure.message, "the log of an installed package did not come");
                    lacks_some = true;
                }
            }
        }
        lacks_some
    }
}

/// The installed packages whose log is not here as far as the head went that they were installed by.
fn lacking(store: &Store) -> Result<BTreeMap<PackageId, VerifiedHead>, store::Error> {
    let packages: BTreeSet<PackageId> =
        store.read(installed::list_all)?.into_iter().map(|row| row.package).collect();
    let mut lacking = BTreeMap::new();
    for package in packages {
        // What came by a lock file alone needs no log.
        let Some(bytes) = store.read(|conn| meta::get(conn, &head_key(&package)))? else { continue };
        if let Ok(head) = VerifiedHead::verify_stored(&bytes)
            && log_here(store, &head).is_none()
        {
            lacking.insert(package, head);
        }
    }
    Ok(lacking)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::p2p::{history::keep_log, publish::tests as publishing},
        identity::Publisher,
        store::{Store, entries, heads, published},
        time::Timestamp,
    };

    #[test]
    fn the_log_of_what_is_installed_is_lacking_until_all_of_it_is_here() {
        let folder = tempfile::tempdir().unwrap();
        let (store, publisher) =
            (Store::in_memory().unwrap(), Publisher::from_secret([1; 32], Timestamp::now()));
        for version in ["1.0.0", "1.1.0"] {
            std::fs::write(folder.path().join("file"), version).unwrap();
            let request = publishing::package(folder.path(), version);
            publishing::published(&store, &publisher, &request).unwrap();
        }
        let row = store.read(published::list_all).unwrap().pop().unwrap();
        let head = store.read(|conn| heads::get(conn, &row.package)).unwrap().unwrap();
        let head = VerifiedHead::verify_stored(&head.bytes).unwrap();
        let whole = log_here(&store, &head).unwrap();
        let installed = installed::Installed {
            path: folder.path().to_owned(),
            package: row.package.clone(),
            version: row.version,
            root: row.root,
            manifest: row.manifest,
            bytes: row.bytes,
            files: row.files,
            installed_at: Timestamp::now(),
        };
        store.write(|tx| installed::insert(tx, &installed)).unwrap();
        let ids = store.read(entries::ids).unwrap();
        assert_eq!(ids.len(), 2);
        store.remove_blocks(&ids[..1]).unwrap();
        assert!(lacking(&store).unwrap().is_empty(), "it came by a lock file");
        store.write(|tx| meta::set(tx, &head_key(&row.package), head.bytes())).unwrap();
        let found = lacking(&store).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&row.package]);
        keep_log(&store, head.key_log(), &whole, &head, Timestamp::now()).unwrap();
        assert!(lacking(&store).unwrap().is_empty());
    }

    #[test]
    fn a_log_that_does_not_come_is_asked_for_less_and_less_often() {
        assert_eq!([0, 1, 3].map(wait_after), [AGAIN, AGAIN * 2, AGAIN * 8]);
        assert_eq!([9, 16, u32::MAX].map(wait_after), [AGAIN_MAX; 3]);
    }
}
