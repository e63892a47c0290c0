use super::*;
use crate::{
    content::{Codec, ContentId},
    release::Release,
};

fn release(version: &str) -> Kind {
    let id = |codec| ContentId::of(codec, version.as_bytes());
    let (manifest, root) = (id(Codec::Raw), id(Codec::DagPb));
    Kind::Release(Release { version: version.parse().unwrap(), manifest, root, size: 1, files: 1 })
}

#[test]
fn a_log_that_was_fetched_is_found_again_where_the_database_is_lost() {
    let (home, now) = (tempfile::tempdir().unwrap(), Timestamp::from_secs(1_700_000_000));
    let publisher = Publisher::from_secret([1; 32], now);
    let package = PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() };
    let mut log = Log::empty(package.clone());
    for version in ["1.0.0", "1.1.0"] {
        log.push(log.next(release(version), &publisher, now).unwrap()).unwrap();
    }
    let head = Head::of(&log, Labels::default(), &publisher).unwrap();
    let (store, _) = Store::open(home.path(), now).unwrap();
    keep_log(&store, publisher.key_log(), &log, &head.sign(&publisher).unwrap(), now).unwrap();
    drop(store);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path().join(format!("store.db{suffix}")));
    }
    let (store, _) = Store::open(home.path(), now).unwrap();
    recover::recover(&store, std::slice::from_ref(&publisher), now).unwrap();
    let found = held_log(&store, &publisher, &package).unwrap();
    assert_eq!(found.map(|log| log.entries().len()), Some(2));
}

#[test]
fn a_head_that_was_overtaken_is_not_told() {
    let now = Timestamp::from_secs(1_700_000_000);
    let publisher = Publisher::from_secret([1; 32], now);
    let package = PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() };
    let mut log = Log::empty(package.clone());
    let head = |log: &Log| {
        let head = Head::of(log, Labels::default(), &publisher).unwrap();
        head.sign(&publisher).unwrap()
    };
    let store = Store::in_memory().unwrap();
    let first = log.next(release("1.0.0"), &publisher, now).unwrap();
    log.push(first.clone()).unwrap();
    let own = head(&log);
    store
        .write(|tx| {
            entries::insert(tx, &stored_entry(&first))?;
            keep_head(tx, &own, now)
        })
        .unwrap();
    log.push(log.next(release("1.1.0"), &publisher, now).unwrap()).unwrap();
    let later = head(&log);
    store.write(|tx| Ok(catalog::insert(tx, &later, &catalog::Source::unknown(), now)?)).unwrap();

    let stored = || store.read(|conn| heads::get(conn, &package)).unwrap().unwrap();
    let again = store.write(|tx| keep_head(tx, &own, now));
    assert!(not_kept(again.unwrap_err()).retryable);
    assert_eq!(stored().bytes, own.bytes());
    assert!(!store.read(|conn| is_current(conn, &own)).unwrap());
    assert!(store.read(|conn| is_current(conn, &later)).unwrap());
}
