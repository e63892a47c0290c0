//! Our own packages, found again in the block files after the database was lost.
//!
//! What this node published is in files that outlive the database: the blocks of its trees, the signed manifests and the
//! signed log entries. The keys are in files of their own. That is enough to make everything else again: the logs, what is
//! published and provided, and the heads, which are signed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use rusqlite::{Connection, Transaction};

use super::{
    failure::fail,
    history::{held_log, is_current, keep_head, stored_entry},
    install::manifest_of,
};
use crate::{
    content::{Codec, ContentId},
    control::api::Failure,
    identity::Publisher,
    limits::LOG_ENTRIES_MAX,
    package::{
        PackageId,
        manifest::{Manifest, Preflight},
    },
    release::{Head, Kind, Labels, Log, Release, SignedEntry, VerifiedHead},
    store::{
        self, RECOVERY_PENDING, RECOVERY_PENDING_DAMAGED, Store, entries, heads, meta, packages, published,
    },
    time::Timestamp,
};

/// Says, in the store, that entries of our own logs may be missing, and since when.
const UNCERTAIN: &str = "own-logs-uncertain";
/// Before the name of a package: that its log was compared with what others know, since that time.
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

/// Whether our own packages are to be made known again: the keys are needed for that.
pub(super) fn is_pending(store: &Store) -> Result<bool, store::Error> {
    Ok(store.read(|conn| meta::get(conn, RECOVERY_PENDING))?.is_some())
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
            let is_in_doubt = log.entries().len() < entries;
            has_gaps |= is_in_doubt;
            if log.newest().is_some() {
                // What may have been taken back, or gone on elsewhere, is told only once others were asked.
                remake(store, publisher, &log, !is_in_doubt && !publisher.is_elsewhere(), now)?;
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

/// The log that the entries make.
///
/// The newest entry is the one under the latest keys with the highest number from which every entry leads back to the first; of
/// several, which a branch that was taken back or a write that was cut off can leave, the one that was made last. Where none leads
/// back, it is the longest that begins at the first.
fn longest(package: &PackageId, mut found: Vec<SignedEntry>) -> Log {
    let by_id: BTreeMap<ContentId, &SignedEntry> = found.iter().map(|entry| (entry.id(), entry)).collect();
    let mut tips: Vec<&SignedEntry> = found.iter().collect();
    tips.sort_by_key(|entry| {
        let entry = entry.entry();
        std::cmp::Reverse((entry.key_n, entry.sequence, entry.created))
    });
    // Each entry is walked over once: what leads nowhere from here leads nowhere from behind it.
    let mut leads_nowhere: BTreeSet<ContentId> = BTreeSet::new();
    for tip in tips {
        let mut back = vec![tip];
        let is_whole = loop {
            let last = back[back.len() - 1];
            match last.entry().previous {
                _ if leads_nowhere.contains(&last.id()) || back.len() > LOG_ENTRIES_MAX => break false,
                None => break true,
                Some(before) => match by_id.get(&before) {
                    Some(entry) => back.push(entry),
                    None => break false,
                },
            }
        };
        if is_whole && let Ok(log) = Log::verify(back.iter().rev().map(|entry| (*entry).clone()).collect()) {
            return log;
        }
        leads_nowhere.extend(back.iter().map(|entry| entry.id()));
    }
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

/// Packages that were found again and of which no head was signed so far, because it was not certain that the log is what counts.
pub(super) fn without_head(store: &Store) -> Result<Vec<PackageId>, store::Error> {
    store.read(|conn| {
        let mut without = BTreeSet::new();
        for row in published::list_all(conn)? {
            if heads::get(conn, &row.package)?.is_none() {
                without.insert(row.package);
            }
        }
        Ok(without.into_iter().collect())
    })
}

/// Signs the head of a package that was found again, once others were asked how far its log went. Runs beside the runtime.
pub(super) fn sign_head(
    store: &Store,
    publisher: &Publisher,
    package: &PackageId,
    now: Timestamp,
) -> Result<Option<VerifiedHead>, Failure> {
    let is_wanted = store
        .read(|conn| Ok(heads::get(conn, package)?.is_none() && !is_uncertain(conn, package)?))
        .map_err(fail)?;
    let log = held_log(store, publisher, package).map_err(fail)?;
    let Some(log) = log.filter(|_| is_wanted) else { return Ok(None) };
    let head = Head::of(&log, labels(&log, &held_of(store, publisher, &log)), publisher);
    let head = head.and_then(|head| head.sign(publisher)).map_err(fail)?;
    let written = store.write(|tx| match is_current(tx, &head)? {
        true => keep_head(tx, &head, now).map(|_| true),
        false => Ok(false),
    });
    Ok(written.map_err(fail)?.then_some(head))
}

/// The versions of a log whose manifests are here.
fn held_of(store: &Store, publisher: &Publisher, log: &Log) -> Vec<(Release, Manifest, Timestamp)> {
    let package = log.package();
    let mut held = Vec::new();
    for state in log.versions().values() {
        match manifest_of(store, package, &state.release, publisher.key_log()) {
            Ok(manifest) => held.push((state.release.clone(), manifest, state.released)),
            Err(failure) => {
                tracing::warn!(%package, version = %state.release.version, failure.message, "not whole")
            }
        }
    }
    held
}

fn remake(
    store: &Store,
    publisher: &Publisher,
    log: &Log,
    is_told: bool,
    now: Timestamp,
) -> Result<(), Failure> {
    let package = log.package().clone();
    let held = held_of(store, publisher, log);
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
        if !is_told {
            tracing::warn!(%package, "its log may not be the one that counts: its head is signed once others were asked");
        } else if is_current(tx, &head)? {
            keep_head(tx, &head, now)?;
        } else {
            // The rest is fetched before the log is continued.
            tracing::warn!(%package, "others have seen its log go on, or it is contested: its head is not signed again");
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
        preflight_skipped: manifest.preflight() == Preflight::Skipped,
        secrets_allowed: manifest.preflight() == Preflight::SecretsAllowed,
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
    use crate::backend::p2p::publish::tests::{package, published};

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

    /// Two branches behind a first entry, of `short` and of `long` more entries.
    fn branches(publisher: &Publisher, later: &Publisher, short: usize, long: usize) -> [Log; 2] {
        let now = Timestamp::from_secs(1_700_000_000);
        let id = PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() };
        [(publisher, long, "taken back"), (later, short, "counts")].map(|(by, number, message)| {
            let mut log = Log::empty(id.clone());
            let deprecate = |message: &str| Kind::Deprecate { message: message.to_owned() };
            log.push(log.next(deprecate("first"), publisher, now).unwrap()).unwrap();
            for _ in 0..number {
                log.push(log.next(deprecate(message), by, now).unwrap()).unwrap();
            }
            log
        })
    }

    #[test]
    fn the_log_is_the_one_that_leads_back_from_the_newest_entry_under_the_latest_keys() {
        let now = Timestamp::from_secs(1_700_000_000);
        let old = Publisher::from_secret([1; 32], now);
        let new = old.rotated(crate::identity::SecretKey::from_bytes(&[2; 32]), now).unwrap();
        let found = |logs: &[&Log]| -> Vec<SignedEntry> {
            let mut all: Vec<SignedEntry> = logs.iter().flat_map(|log| log.entries().to_vec()).collect();
            all.sort_by_key(SignedEntry::id);
            all.dedup_by_key(|entry| entry.id());
            all
        };
        for (later, short, long, expected) in [(&new, 1, 3, 1), (&old, 1, 3, 0), (&old, 2, 5, 0)] {
            let logs = branches(&old, later, short, long);
            let log = longest(logs[0].package(), found(&[&logs[0], &logs[1]]));
            assert_eq!(log, logs[expected]);
        }
        // A branch of which the middle is missing is none.
        let logs = branches(&old, &old, 3, 5);
        let mut holey = found(&[&logs[0], &logs[1]]);
        holey.retain(|entry| entry.id() != logs[0].entries()[3].id());
        assert_eq!(longest(logs[0].package(), holey), logs[1]);
    }

    #[test]
    fn of_a_log_with_branches_no_head_is_signed_before_others_were_asked() {
        let now = Timestamp::from_secs(1_700_000_000);
        let publisher = Publisher::from_secret([1; 32], now);
        let [one, other] = branches(&publisher, &publisher, 1, 2);
        let id = one.package().clone();
        for (logs, adopted, is_signed) in
            [(&[&one][..], false, true), (&[&one, &other], false, false), (&[&one], true, false)]
        {
            let publisher = if adopted { publisher.clone().adopted() } else { publisher.clone() };
            let store = Store::in_memory().unwrap();
            let mut batch = store.lasting_batch();
            for entry in logs.iter().flat_map(|log| log.entries()) {
                batch.put(entry.block().clone()).unwrap();
            }
            batch.commit(|tx| meta::set(tx, RECOVERY_PENDING, b"whole")).unwrap();
            recover(&store, std::slice::from_ref(&publisher), now).unwrap();
            let head = |store: &Store| store.read(|conn| heads::get(conn, &id)).unwrap();
            assert_eq!(head(&store).is_some(), is_signed);
            assert_eq!(held_log(&store, &publisher, &id).unwrap().unwrap(), one, "it is here all the same");
            if logs.len() > 1 {
                assert!(sign_head(&store, &publisher, &id, now).unwrap().is_none());
                store.write(|tx| set_certain(tx, &id)).unwrap();
            }
            if !is_signed {
                assert!(sign_head(&store, &publisher, &id, now).unwrap().is_some());
                assert!(head(&store).is_some());
            }
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
