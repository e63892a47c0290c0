//! Our own packages, found again in the block files after the database was lost.
//!
//! What this node published is in files that outlive the database: the blocks of its trees, the signed manifests and the
//! signed log entries. The keys are in files of their own. That is enough to make everything else again: the logs, what is
//! published and provided, and the heads, which are signed anew.

use std::{collections::BTreeMap, path::PathBuf};

use rusqlite::{Connection, Transaction};

use super::{
    failure::fail,
    history::{is_current, keep_head, stored_entry},
    install::manifest_of,
};
use crate::{
    content::{Codec, ContentId},
    control::api::Failure,
    identity::Publisher,
    package::{PackageId, manifest::Manifest},
    release::{Head, Kind, Labels, Log, Release, SignedEntry},
    store::{self, RECOVERY_PENDING, RECOVERY_PENDING_DAMAGED, Store, entries, meta, packages, published},
    time::Timestamp,
};

/// Says, in the store, that entries of our own logs may be missing, and since when.
const UNCERTAIN: &str = "own-logs-uncertain";
/// Before the name of a package: that its log was held against what others know, since that time.
const CERTAIN: &str = "own-log-certain/";

/// Whether a log of ours may have ended later than what is here, so that it is not continued without asking others.
pub(super) fn is_uncertain(conn: &Connection, package: &PackageId) -> Result<bool, store::Error> {
    let Some(since) = meta::get(conn, UNCERTAIN)? else { return Ok(false) };
    Ok(meta::get(conn, &format!("{CERTAIN}{package}"))? != Some(since))
}

/// Notes that others were asked how far a log of ours went, and that it is here so far.
pub(super) fn set_certain(tx: &Transaction<'_>, package: &PackageId) -> Result<(), store::Error> {
    match meta::get(tx, UNCERTAIN)? {
        Some(since) => meta::set(tx, &format!("{CERTAIN}{package}"), &since),
        None => Ok(()),
    }
}

/// Makes our own packages known again where the database was made again, until that came to its end once.
///
/// # Errors
/// Where the store or the keys cannot be read. A log of which an entry is missing is taken up to there.
pub(super) fn recover(store: &Store, publishers: &[Publisher], now: Timestamp) -> Result<(), Failure> {
    let Some(pending) = store.read(|conn| meta::get(conn, RECOVERY_PENDING)).map_err(fail)? else {
        return Ok(());
    };
    let ids = store.ids_of(Codec::DagCbor).map_err(fail)?;
    let mut has_gaps = false;
    for publisher in publishers {
        for (package, found) in own_entries(store, publisher, &ids)? {
            let entries = found.len();
            let log = longest(&package, found);
            has_gaps |= log.entries().len() < entries;
            if log.newest().is_some() {
                remake(store, publisher, &log, now)?;
                tracing::info!(%package, entries = log.entries().len(), "a log of ours was found in the block files");
            }
        }
    }
    let ended = store.write(|tx| {
        if has_gaps || pending == RECOVERY_PENDING_DAMAGED {
            meta::set(tx, UNCERTAIN, &now.as_secs().to_be_bytes())?;
        }
        meta::remove(tx, RECOVERY_PENDING)
    });
    ended.map(drop).map_err(fail)
}

type Found = BTreeMap<PackageId, Vec<SignedEntry>>;

fn own_entries(store: &Store, publisher: &Publisher, ids: &[ContentId]) -> Result<Found, Failure> {
    let mut found = Found::new();
    for id in ids {
        let Some(block) = store.block(id).map_err(fail)? else { continue };
        // Signed structures of other kinds and of other publishers do not verify as entries of this one.
        if let Ok(entry) = SignedEntry::decode_and_verify(block.bytes(), publisher.key_log()) {
            found.entry(entry.entry().package_id()).or_default().push(entry);
        }
    }
    Ok(found)
}

/// The log that the entries make, as far as none is missing.
///
/// Of two for one place, which only a write that was cut off can leave, the one that others follow counts, and then the
/// later one.
fn longest(package: &PackageId, mut found: Vec<SignedEntry>) -> Log {
    let followed: Vec<ContentId> = found.iter().filter_map(|entry| entry.entry().previous).collect();
    found.sort_by_key(|entry| {
        let is_followed = followed.contains(&entry.id());
        (entry.entry().sequence, !is_followed, std::cmp::Reverse(entry.entry().created))
    });
    let mut log = Log::empty(package.clone());
    for entry in found {
        // What does not follow is refused and leaves the log as it was.
        if let Err(error) = log.push(entry) {
            tracing::debug!(%package, %error, "an entry does not follow");
        }
    }
    log
}

fn remake(store: &Store, publisher: &Publisher, log: &Log, now: Timestamp) -> Result<(), Failure> {
    let package = log.package().clone();
    let mut held = Vec::new();
    for state in log.versions().values() {
        match manifest_of(store, &package, &state.release, publisher.key_log()) {
            Ok(manifest) => held.push((state.release.clone(), manifest, state.released)),
            Err(failure) => {
                tracing::warn!(%package, version = %state.release.version, failure.message, "not whole")
            }
        }
    }
    let labels = labels(log, &held);
    let head = Head::of(log, labels, publisher).map_err(fail)?;
    let head = head.sign(publisher).map_err(fail)?;
    let mut batch = store.lasting_batch();
    for block in publisher.key_log().blocks() {
        batch.put(block).map_err(fail)?;
    }
    let written = batch.commit(|tx| {
        let newest_here = entries::last(tx, &package)?.map(|entry| entry.sequence);
        let newest_found = log.newest().map(|entry| entry.entry().sequence.get());
        if newest_here >= newest_found {
            // The rows could be read out of the damaged database.
            return Ok(());
        }
        entries::remove(tx, &package)?;
        for entry in log.entries() {
            entries::insert(tx, &stored_entry(entry))?;
        }
        for (release, manifest, released) in &held {
            published::insert(tx, &row(log, release, manifest, *released))?;
            packages::insert(
                tx,
                &packages::HeldPackage {
                    root: release.root,
                    manifest: release.manifest,
                    package: package.clone(),
                    version: release.version.clone(),
                    size: release.size,
                },
            )?;
        }
        if is_current(tx, &head)? {
            keep_head(tx, &head, now)?;
        } else {
            // The rest is fetched before the log is continued.
            tracing::warn!(%package, "others have seen its log go on, or it is contested: its head is not signed anew");
        }
        Ok(())
    });
    written.map_err(fail)
}

/// What the head says of the package is what its latest release says of itself.
fn labels(log: &Log, held: &[(Release, Manifest, Timestamp)]) -> Labels {
    let latest = log.latest().map(|latest| latest.version.clone());
    let manifest = held
        .iter()
        .find(|(release, ..)| Some(&release.version) == latest.as_ref())
        .or(held.last())
        .map(|(_, manifest, _)| manifest);
    let Some(manifest) = manifest else { return Labels::default() };
    let gpack = manifest.gpack();
    Labels {
        description: gpack.description.clone(),
        license: gpack.license.clone(),
        tags: gpack.tags.clone(),
        categories: gpack.categories.clone(),
        preflight_skipped: manifest.preflight() == crate::package::manifest::Preflight::Skipped,
    }
}

fn row(log: &Log, release: &Release, manifest: &Manifest, released: Timestamp) -> published::Published {
    let of_release = |entry: &&SignedEntry| matches!(&entry.entry().kind, Kind::Release(it) if it == release);
    let sequence = log.entries().iter().find(of_release).map_or(0, |entry| entry.entry().sequence.get());
    published::Published {
        package: log.package().clone(),
        version: release.version.clone(),
        sequence,
        root: release.root,
        manifest: release.manifest,
        // Where it was published from stood in the database only.
        path: PathBuf::new(),
        bytes: release.size,
        files: release.files,
        blocks: manifest.files().len() as u64,
        published_at: released,
        announced: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::p2p::{
        history::held_log,
        publish::tests::{package, published},
    };

    #[test]
    fn a_log_is_found_again_although_the_first_start_after_the_loss_was_cut_off() {
        let (home, files, now) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Timestamp::now());
        let publisher = Publisher::from_secret([1; 32], now);
        let open = || Store::open(home.path(), now).unwrap().0;
        let store = open();
        let done = published(&store, &publisher, &package(files.path(), "1.0.0")).unwrap();
        let head = done.head.unwrap();
        let id = head.package_id();
        let epoch = crate::sync::epoch(&store).unwrap();
        drop(store);
        for damage in [None, Some(&b"no database"[..])] {
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(home.path().join(format!("store.db{suffix}")));
            }
            if let Some(bytes) = damage {
                std::fs::write(home.path().join("store.db"), bytes).unwrap();
            }
            // Ended before anything was made again.
            drop(open());
            let store = open();
            assert!(held_log(&store, &publisher, &id).unwrap().is_none());
            let publishers = [publisher.clone()];
            recover(&store, &publishers, now).unwrap();
            let log = held_log(&store, &publisher, &id).unwrap().unwrap();
            assert_eq!(log.newest().unwrap().id(), head.head().entry, "{damage:?}");
            assert!(!store.read(|conn| is_uncertain(conn, &id)).unwrap());
            assert_ne!(crate::sync::epoch(&store).unwrap(), epoch);
            // Once is enough.
            store.write(|tx| entries::remove(tx, &id)).unwrap();
            recover(&store, &publishers, now).unwrap();
            assert!(held_log(&store, &publisher, &id).unwrap().is_none());
        }
    }

    #[test]
    fn a_log_with_a_gap_is_uncertain_although_no_file_is_damaged() {
        let now = Timestamp::from_secs(1_700_000_000);
        let publisher = Publisher::from_secret([1; 32], now);
        let id = PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() };
        let mut log = Log::empty(id.clone());
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let content = |codec| ContentId::of(codec, version.as_bytes());
            let (manifest, root) = (content(Codec::Raw), content(Codec::DagPb));
            let version = version.parse().unwrap();
            let kind = Kind::Release(Release { version, manifest, root, size: 1, files: 1 });
            log.push(log.next(kind, &publisher, now).unwrap()).unwrap();
        }
        for (found, is_gap) in [(&[0, 1, 2][..], false), (&[0, 2], true), (&[1, 2], true)] {
            let store = Store::in_memory().unwrap();
            let mut batch = store.lasting_batch();
            for at in found {
                batch.put(log.entries()[*at].block().clone()).unwrap();
            }
            batch.commit(|tx| meta::set(tx, RECOVERY_PENDING, b"whole")).unwrap();
            recover(&store, std::slice::from_ref(&publisher), now).unwrap();
            assert_eq!(store.read(|conn| is_uncertain(conn, &id)).unwrap(), is_gap, "{found:?}");
        }
    }

    #[test]
    fn logs_that_may_be_cut_off_are_uncertain_until_others_were_asked_of_each() {
        let store = Store::in_memory().unwrap();
        let publisher = Publisher::from_secret([1; 32], Timestamp::default());
        let [one, other] =
            ["one", "other"].map(|name| PackageId { publisher: publisher.id(), name: name.parse().unwrap() });
        let uncertain = || store.read(|conn| Ok([is_uncertain(conn, &one)?, is_uncertain(conn, &other)?]));
        for secs in [7, 8] {
            store.write(|tx| meta::set(tx, RECOVERY_PENDING, RECOVERY_PENDING_DAMAGED)).unwrap();
            recover(&store, &[], Timestamp::from_secs(secs)).unwrap();
            assert_eq!(uncertain().unwrap(), [true, true]);
            store.write(|tx| set_certain(tx, &one)).unwrap();
            assert_eq!(uncertain().unwrap(), [false, true]);
        }
    }
}
