//! Every table in and out, and the rules that keep a promise.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use crate::{
    code::Code,
    content::{Codec, ContentId},
    identity::PublisherId,
    package::{PackageId, PackageName},
    store::{
        Error, Store, entries, heads,
        holdings::{
            entries::Entry, heads::OwnHead, installed::Installed, packages::HeldPackage, published::Published,
        },
        installed, meta, packages, pins, published,
    },
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn publisher(n: u8) -> PublisherId {
    PublisherId::from_bytes([n; 32])
}

fn package(n: u8, name: &str) -> PackageId {
    PackageId { publisher: publisher(n), name: name.parse().unwrap() }
}

fn id(text: &str) -> ContentId {
    ContentId::of(Codec::DagPb, text.as_bytes())
}

fn release(version: &str, tree: &str) -> Published {
    Published {
        package: package(1, "db"),
        version: version.parse().unwrap(),
        sequence: 3,
        root: id(tree),
        manifest: id("manifest"),
        path: PathBuf::from(OsStr::from_bytes(b"/tmp/not \xff utf-8\n")),
        bytes: 1 << 40,
        files: 7,
        blocks: 9,
        published_at: NOW,
        announced: false,
    }
}

#[test]
fn a_published_version_is_immutable_and_its_repetition_changes_nothing() {
    let store = Store::in_memory().unwrap();
    let first = release("1.2.3", "tree");
    assert!(store.write(|tx| published::insert(tx, &first)).unwrap());
    let again = Published { sequence: 8, ..first.clone() };
    assert!(!store.write(|tx| published::insert(tx, &again)).unwrap());
    let error = store.write(|tx| published::insert(tx, &release("1.2.3", "other"))).unwrap_err();
    assert_eq!(error.code(), Code::Conflict);
    assert!(error.to_string().contains("db@1.2.3"), "{error}");
    let there = store.read(|c| published::get(c, &first.package, &first.version)).unwrap();
    assert_eq!(there, Some(first));
}

#[test]
fn versions_are_listed_in_their_own_order_and_announced_up_to_a_sequence() {
    let store = Store::in_memory().unwrap();
    let versions = ["10.0.0", "2.0.0", "1.0.0-rc.1", "1.0.0"];
    store
        .write(|tx| {
            for (version, sequence) in versions.into_iter().zip(1..) {
                published::insert(tx, &Published { sequence, ..release(version, version) })?;
            }
            published::set_announced(tx, &package(1, "db"), 2)?;
            published::set_announced(tx, &package(2, "db"), 9)
        })
        .unwrap();
    let listed = |list: Vec<Published>| list.iter().map(|p| p.version.to_string()).collect::<Vec<_>>();
    assert_eq!(listed(store.read(published::list_all).unwrap()), ["1.0.0-rc.1", "1.0.0", "2.0.0", "10.0.0"]);
    assert_eq!(listed(store.read(published::list_unannounced).unwrap()), ["1.0.0-rc.1", "1.0.0"]);
    let gone = "2.0.0".parse().unwrap();
    assert!(store.write(|tx| published::remove(tx, &package(1, "db"), &gone)).unwrap());
    assert!(!store.write(|tx| published::remove(tx, &package(1, "db"), &gone)).unwrap());
    assert_eq!(store.read(published::list_all).unwrap().len(), 3);
}

#[test]
fn a_sequence_is_signed_once() {
    let store = Store::in_memory().unwrap();
    let entry = |sequence, text: &str| Entry {
        package: package(1, "db"),
        sequence,
        id: id(text),
        bytes: text.as_bytes().to_vec(),
    };
    store
        .write(|tx| {
            for (sequence, text) in [(2, "two"), (10, "ten"), (1, "one")] {
                assert!(entries::insert(tx, &entry(sequence, text))?);
            }
            assert!(!entries::insert(tx, &entry(2, "two"))?);
            entries::insert(tx, &Entry { package: package(2, "db"), ..entry(2, "theirs") })
        })
        .unwrap();
    let error = store.write(|tx| entries::insert(tx, &entry(2, "forked"))).unwrap_err();
    assert_eq!(error.code(), Code::Conflict);
    let log = store.read(|c| entries::list_of(c, &package(1, "db"))).unwrap();
    assert_eq!(log, [entry(1, "one"), entry(2, "two"), entry(10, "ten")]);
    assert_eq!(store.read(|c| entries::last(c, &package(1, "db"))).unwrap(), Some(entry(10, "ten")));
    assert_eq!(store.read(|c| entries::get(c, &package(1, "db"), 3)).unwrap(), None);
    assert_eq!(store.write(|tx| entries::remove(tx, &package(1, "db"))).unwrap(), 3);
    let huge = Entry { bytes: vec![0; crate::limits::ENTRY_BYTES_MAX + 1], ..entry(20, "x") };
    assert_eq!(store.write(|tx| entries::insert(tx, &huge)).unwrap_err().code(), Code::Limit);
}

#[test]
fn an_own_head_never_goes_back() {
    let store = Store::in_memory().unwrap();
    let head = |sequence, byte| OwnHead { package: package(1, "db"), sequence, bytes: vec![byte; 100] };
    for (sequence, byte) in [(1, 10), (2, 20), (2, 30)] {
        store.write(|tx| heads::put(tx, &head(sequence, byte))).unwrap();
    }
    assert_eq!(store.write(|tx| heads::put(tx, &head(1, 40))).unwrap_err().code(), Code::Rollback);
    assert_eq!(store.read(heads::list_all).unwrap(), [head(2, 30)]);
    assert!(store.write(|tx| heads::remove(tx, &package(1, "db"))).unwrap());
    assert_eq!(store.read(|c| heads::get(c, &package(1, "db"))).unwrap(), None);
}

#[test]
fn an_installation_takes_the_place_of_the_one_before() {
    let store = Store::in_memory().unwrap();
    let at = |path: &str, version: &str| Installed {
        path: path.into(),
        package: package(1, "db"),
        version: version.parse().unwrap(),
        root: id(version),
        manifest: id("manifest"),
        bytes: 5,
        files: 1,
        installed_at: NOW,
    };
    for installation in [at("/b", "1.0.0"), at("/a", "1.0.0"), at("/b", "2.0.0")] {
        store.write(|tx| installed::insert(tx, &installation)).unwrap();
    }
    assert_eq!(store.read(installed::list_all).unwrap(), [at("/a", "1.0.0"), at("/b", "2.0.0")]);
    assert!(store.write(|tx| installed::remove(tx, "/a".as_ref())).unwrap());
    assert_eq!(store.read(|c| installed::get(c, "/a".as_ref())).unwrap(), None);
    assert_eq!(store.read(|c| installed::get(c, "/b".as_ref())).unwrap(), Some(at("/b", "2.0.0")));
}

#[test]
fn one_tree_may_be_the_package_of_several_publishers() {
    let store = Store::in_memory().unwrap();
    let held = |n, version: &str| HeldPackage {
        root: id("tree"),
        manifest: id(version),
        package: package(n, "db"),
        version: version.parse().unwrap(),
        size: 12,
    };
    for package in [held(2, "1.0.0"), held(1, "10.0.0"), held(1, "9.0.0"), held(1, "9.0.0")] {
        store.write(|tx| packages::insert(tx, &package)).unwrap();
    }
    let found = store.read(|c| packages::get(c, &id("tree"))).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(store.read(packages::list_all).unwrap(), found);
    let of_first: Vec<String> =
        found.iter().filter(|p| p.package == package(1, "db")).map(|p| p.version.to_string()).collect();
    assert_eq!(of_first, ["9.0.0", "10.0.0"]);
    let version = "1.0.0".parse().unwrap();
    assert!(store.write(|tx| packages::remove(tx, &package(2, "db"), &version)).unwrap());
    assert_eq!(store.read(packages::count).unwrap(), 2);
    assert_eq!(store.read(|c| packages::get(c, &id("another"))).unwrap(), []);
}

#[test]
fn a_pin_holds_against_another_publisher() {
    let store = Store::in_memory().unwrap();
    let name: PackageName = "db".parse().unwrap();
    assert_eq!(store.read(|c| pins::pinned(c, &name)).unwrap(), None);
    assert!(store.write(|tx| pins::pin(tx, &name, &publisher(1), NOW)).unwrap());
    assert!(!store.write(|tx| pins::pin(tx, &name, &publisher(1), NOW)).unwrap());
    let error = store.write(|tx| pins::pin(tx, &name, &publisher(2), NOW)).unwrap_err();
    assert_eq!(error.code(), Code::PinMismatch);
    for shown in [publisher(1), publisher(2)] {
        assert!(error.to_string().contains(&shown.to_string()), "{error}");
    }
    assert_eq!(store.read(|c| pins::pinned(c, &name)).unwrap(), Some(publisher(1)));
    assert_eq!(store.read(pins::list_all).unwrap().len(), 1);
    assert!(store.write(|tx| pins::remove(tx, &name)).unwrap());
    assert!(store.write(|tx| pins::pin(tx, &name, &publisher(2), NOW)).unwrap());
}

#[test]
fn single_values_are_set_and_removed() {
    let store = Store::in_memory().unwrap();
    store.write(|tx| meta::set(tx, "a", b"1").and_then(|()| meta::set(tx, "a", b"2"))).unwrap();
    assert_eq!(store.read(|c| meta::get(c, "a")).unwrap().unwrap(), b"2");
    assert!(store.write(|tx| meta::remove(tx, "a")).unwrap());
    assert_eq!(store.read(|c| meta::get(c, "a")).unwrap(), None);
}

#[test]
fn a_row_that_does_not_parse_is_damage_and_no_panic() {
    let store = Store::in_memory().unwrap();
    store.write(|tx| published::insert(tx, &release("1.0.0", "tree"))).unwrap();
    for change in [
        "publisher = 'nobody'",
        "name = '../x'",
        "version = 'one'",
        "sequence = -1",
        "root = x'00'",
        "published_at = -5",
        "manifest = x''",
    ] {
        let outcome = store.write(|tx| {
            tx.execute(&format!("UPDATE published SET {change}"), [])?;
            published::list_all(tx).map(|_| ())
        });
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{change}: {outcome:?}");
    }
}
