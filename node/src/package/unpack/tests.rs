use std::{cell::RefCell, collections::BTreeMap};

use super::*;
use crate::{
    content::{Block, Codec, ContentId},
    package::{
        check::{self, Difference},
        testing::{self, Blocks},
    },
};

const FILES: &[(&str, &[u8])] =
    &[("README.md", b"hi\n"), ("bin/run.sh", b"#!/bin/sh\n"), ("deep/er/x", b"x"), ("empty", b"")];

type Failure = Error<&'static str>;

fn source(blocks: &Blocks) -> impl Fn(&ContentId) -> Result<Block, &'static str> + '_ {
    |id| Ok(Block::new(id.codec(), blocks.get(id).cloned().ok_or("not here")?))
}

fn unpack_to(manifest: &Manifest, blocks: &Blocks, target: &Path) -> Result<(), Failure> {
    unpack(manifest, &source(blocks), target, &mut |_, _| ())
}

fn code(error: &Failure) -> Code {
    error.code(|_| Code::NoProviders)
}

/// Everything in a folder: bytes of files, with their modes, and folders.
fn contents(folder: &Path) -> BTreeMap<String, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let metadata = entry.metadata().unwrap();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let bytes = metadata.is_file().then(|| fs::read(&path).unwrap());
            found.insert(name, (metadata.permissions().mode() & 0o7777, bytes));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

#[test]
fn a_package_comes_out_as_it_went_in() {
    let (manifest, blocks) = testing::package(FILES);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("some/where/target");
    let steps = RefCell::new(Vec::new());
    unpack(&manifest, &source(&blocks), &target, &mut |done, total| steps.borrow_mut().push((done, total)))
        .unwrap();
    let file = |mode, bytes: &[u8]| (mode, Some(bytes.to_vec()));
    let expected = BTreeMap::from([
        ("README.md".to_owned(), file(0o644, b"hi\n")),
        ("bin".to_owned(), (0o755, None)),
        ("bin/run.sh".to_owned(), file(0o755, b"#!/bin/sh\n")),
        ("deep".to_owned(), (0o755, None)),
        ("deep/er".to_owned(), (0o755, None)),
        ("deep/er/x".to_owned(), file(0o644, b"x")),
        ("empty".to_owned(), file(0o644, b"")),
    ]);
    assert_eq!(contents(&target), expected);
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "no staging folder is left");
    assert_eq!((steps.borrow()[0], *steps.borrow().last().unwrap()), ((0, 14), (14, 14)));
    let report = check::check(&manifest, &target).unwrap();
    assert_eq!((report.differences, report.files, report.bytes), (vec![], 4, 14));
}

#[test]
fn a_file_of_several_chunks_is_put_together() {
    let bytes: Vec<u8> = (0..251u8).cycle().take((3 << 20) + 7).collect();
    let (manifest, blocks) = testing::package(&[("large", &bytes)]);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    unpack_to(&manifest, &blocks, &target).unwrap();
    assert!(fs::read(target.join("large")).unwrap() == bytes);
}

#[test]
fn an_empty_package_is_an_empty_folder() {
    let (manifest, blocks) = testing::package(&[]);
    let place = tempfile::tempdir().unwrap();
    unpack_to(&manifest, &blocks, &place.path().join("t")).unwrap();
    assert_eq!(contents(place.path()).len(), 1);
}

#[test]
fn an_empty_folder_is_taken_and_anything_else_is_not_touched() {
    let (manifest, blocks) = testing::package(FILES);
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    unpack_to(&manifest, &blocks, &at("empty")).unwrap();
    assert!(at("empty/README.md").exists());

    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/mine"), "mine").unwrap();
    fs::write(at("file"), "mine").unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
    fs::create_dir(at("elsewhere")).unwrap();
    std::os::unix::fs::symlink(at("elsewhere"), at("link")).unwrap();
    let before = contents(place.path());
    for taken in ["full", "file", "dangling", "link"] {
        let error = unpack_to(&manifest, &blocks, &at(taken)).unwrap_err();
        assert_eq!(code(&error), Code::Conflict, "{taken}: {error}");
        assert!(!error.hint().is_empty());
    }
    assert_eq!(contents(place.path()), before);
}

#[test]
fn a_target_that_appears_meanwhile_is_not_touched() {
    let (manifest, blocks) = testing::package(FILES);
    for mine in [&["t", "t/mine"][..], &["t"]] {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("t");
        let get = source(&blocks);
        let racing = |id: &ContentId| {
            fs::create_dir_all(&target).unwrap();
            if mine.len() > 1 {
                fs::write(target.join("mine"), "mine").unwrap();
            }
            get(id)
        };
        let error = unpack(&manifest, &racing, &target, &mut |_, _| ()).unwrap_err();
        assert_eq!(code(&error), Code::Conflict, "{error}");
        assert_eq!(contents(place.path()).into_keys().collect::<Vec<_>>(), mine);
    }
}

#[test]
fn wrong_bytes_leave_nothing_behind() {
    let large: Vec<u8> = vec![3; (2 << 20) + 5];
    let (manifest, blocks) = testing::package(&[("a", b"first"), ("b", &large), ("c", b"last")]);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    let file_blocks: Vec<_> =
        blocks.keys().filter(|id| !manifest.directories().iter().any(|dir| dir.id() == **id)).collect();
    assert_eq!(
        file_blocks.len(),
        2 + 3,
        "two small files, a node over two chunks that are the same and a shorter one"
    );
    for id in file_blocks {
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut wrong = blocks.clone();
            change(wrong.get_mut(id).unwrap());
            let error = unpack_to(&manifest, &wrong, &target).unwrap_err();
            assert_eq!(contents(place.path()).len(), 0, "nothing is left");
            code(&error)
        };
        let expected = if id.codec() == Codec::Raw { Code::HashMismatch } else { Code::Malformed };
        let flipped = with(&|bytes| *bytes.last_mut().unwrap() ^= 1);
        assert!(flipped == Code::HashMismatch || flipped == expected, "{flipped}");
        let cut_or_longer = [
            with(&|bytes| bytes.truncate(bytes.len() - 1)),
            with(&|bytes| bytes.push(0)),
            with(&|bytes| bytes.resize(10 << 20, 0)),
        ];
        let expected = if id.codec() == Codec::Raw { Code::Size } else { Code::Malformed };
        assert_eq!(cut_or_longer, [expected; 3]);
        let mut without = blocks.clone();
        without.remove(id);
        assert_eq!(code(&unpack_to(&manifest, &without, &target).unwrap_err()), Code::NoProviders);
        assert_eq!(contents(place.path()).len(), 0);
    }
}

#[test]
fn a_file_whose_blocks_are_right_and_whose_hash_is_not_is_refused() {
    let bytes = vec![1; (1 << 20) + 1];
    let (mut packed, blocks) = testing::packed(&[("a", &bytes)]);
    packed.files[0].sha256 = [0; 32];
    let manifest = Manifest::new(
        testing::publisher(1).id(),
        testing::description(),
        crate::package::manifest::Preflight::Passed,
        packed,
    )
    .unwrap();
    let place = tempfile::tempdir().unwrap();
    let error = unpack_to(&manifest, &blocks, &place.path().join("t")).unwrap_err();
    assert!(matches!(error, Error::Sha256 { .. }), "{error}");
    assert_eq!(contents(place.path()).len(), 0);
}

#[test]
fn a_node_that_promises_more_than_was_signed_is_cut_off() {
    // The blocks of a larger file, under the name of a smaller one.
    let (manifest, mut blocks) = testing::package(&[("a", &vec![1; (1 << 20) + 1])]);
    let (larger, others) = testing::packed(&[("a", &vec![1; 5 << 20])]);
    let node = others[&larger.files[0].root.id].clone();
    blocks.insert(manifest.files()[0].id, node);
    let place = tempfile::tempdir().unwrap();
    let error = unpack_to(&manifest, &blocks, &place.path().join("t")).unwrap_err();
    assert_eq!(code(&error), Code::HashMismatch, "{error}");
    assert_eq!(contents(place.path()).len(), 0);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let (manifest, blocks) = testing::package(FILES);
    let error = unpack_to(&manifest, &blocks, Path::new("/proc/nothing/here")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let full: Failure = Error::io(Path::new("x"), io::ErrorKind::StorageFull.into());
    assert_eq!(code(&full), Code::DiskFull);
    let locked: Failure = Error::io(Path::new("x"), io::ErrorKind::ReadOnlyFilesystem.into());
    assert_eq!(code(&locked), Code::ReadOnly);
    assert!(unpack_to(&manifest, &blocks, Path::new("/")).is_err());
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let limited = Staging::beside::<()>(&place.path().join("t")).unwrap();
    let error = limited.check_space::<()>(u64::MAX).unwrap_err();
    assert_eq!(error.code(|()| Code::Failed), Code::DiskFull);
    drop(limited);
    assert_eq!(contents(place.path()).len(), 0);
}

#[test]
fn orphans_are_swept_and_what_is_in_use_is_not() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at(".t.ggen-partial-abc/deep")).unwrap();
    fs::write(at(".t.ggen-partial-abc/deep/x"), "").unwrap();
    fs::create_dir(at("mine.ggen-partial-not")).unwrap();
    fs::create_dir(at("mine")).unwrap();
    fs::write(at("mine/x"), "").unwrap();
    fs::write(at(".file.ggen-partial-x"), "").unwrap();
    std::os::unix::fs::symlink(at("mine"), at(".link.ggen-partial-x")).unwrap();
    let in_use = Staging::beside::<()>(&at("t")).unwrap();
    assert_eq!(sweep_partials(place.path()).unwrap(), 1);
    assert!(in_use.folder.path().exists());
    assert!(at("mine/x").exists() && at("mine.ggen-partial-not").exists());
    assert_eq!(sweep_partials(place.path()).unwrap(), 0);
    // As after a crash: the lock is gone with the process, and the folder is not.
    let Staging { folder, handle, .. } = in_use;
    let left = folder.keep();
    drop(handle);
    assert_eq!(sweep_partials(place.path()).unwrap(), 1);
    assert!(!left.exists());
}

#[test]
fn a_new_staging_folder_that_is_swept_away_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let made = place.path().join(".t.ggen-partial-made");
    assert!(lock(&made).unwrap().is_none(), "it is gone");
    fs::create_dir(&made).unwrap();
    let sweeper = File::open(&made).unwrap();
    flock(&sweeper, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(lock(&made).unwrap().is_none(), "somebody is about to remove it");
    drop(sweeper);
    assert!(lock(&made).unwrap().is_some());

    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_done() {
                    let _ = sweep_partials(place.path());
                }
            });
        }
        let installs: Vec<_> = (0..4)
            .map(|n| {
                let target = place.path().join(n.to_string());
                scope.spawn(move || {
                    for _ in 0..100 {
                        let staging = Staging::beside::<()>(&target)?;
                        assert!(staging.folder.path().exists(), "it is ours as long as it is locked");
                    }
                    Ok::<_, Error<()>>(())
                })
            })
            .collect();
        let ended: Vec<_> = installs.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for ended in ended {
            ended.unwrap().unwrap();
        }
    });
}

#[test]
fn the_staging_folder_is_closed_to_others_and_its_name_fits() {
    let place = tempfile::tempdir().unwrap();
    let long = "ä".repeat(127);
    let staging = Staging::beside::<()>(&place.path().join(&long)).unwrap();
    let mode = fs::metadata(staging.folder.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    let (manifest, blocks) = testing::package(FILES);
    unpack_to(&manifest, &blocks, &place.path().join(long)).unwrap();
}

#[test]
fn every_kind_of_difference_is_found() {
    let (manifest, blocks) = testing::package(FILES);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    unpack_to(&manifest, &blocks, &target).unwrap();
    fs::write(target.join("README.md"), "ho\n").unwrap();
    fs::set_permissions(target.join("bin/run.sh"), Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(target.join("deep/er/x")).unwrap();
    fs::remove_file(target.join("empty")).unwrap();
    std::os::unix::fs::symlink("/dev/null", target.join("empty")).unwrap();
    fs::write(target.join("deep/new"), "").unwrap();
    let report = check::check(&manifest, &target).unwrap();
    assert_eq!(
        report.differences,
        [
            Difference::Changed("README.md".to_owned()),
            Difference::Mode("bin/run.sh".to_owned()),
            Difference::Missing("deep/er/x".to_owned()),
            Difference::Changed("empty".to_owned()),
            Difference::Extra("deep/new".to_owned()),
        ]
    );
    assert_eq!(report.differences[1].to_string(), "mode: bin/run.sh");
    // A link that is as long as the file was is still no file.
    fs::remove_file(target.join("README.md")).unwrap();
    std::os::unix::fs::symlink("abc", target.join("README.md")).unwrap();
    assert_eq!(check::check(&manifest, &target).unwrap().differences, report.differences);
    // A folder that became a link to the same files is no part of what was signed.
    fs::rename(target.join("bin"), place.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(place.path().join("bin"), target.join("bin")).unwrap();
    let report = check::check(&manifest, &target).unwrap();
    assert!(report.differences.contains(&Difference::Missing("bin/run.sh".to_owned())));
    assert!(report.differences.contains(&Difference::Extra("bin".to_owned())));
    assert_eq!(check::check(&manifest, &place.path().join("no")).unwrap_err().code(), Code::NotFound);
}

#[test]
fn blocks_that_nobody_asked_for_do_not_matter() {
    let (manifest, mut blocks) = testing::package(FILES);
    let other = Block::new(Codec::Raw, b"other".to_vec());
    blocks.insert(other.id(), other.into_bytes());
    let place = tempfile::tempdir().unwrap();
    unpack_to(&manifest, &blocks, &place.path().join("t")).unwrap();
}
