use std::fs;

use proptest::prelude::*;

use super::*;
use crate::package::{
    check,
    testing::{self, Blocks},
};

const CHUNK: usize = CHUNK_BYTES;

fn source(blocks: &Blocks) -> impl Fn(&ContentId) -> Result<Block, &'static str> + '_ {
    |id| Ok(Block::new(id.codec(), blocks.get(id).cloned().ok_or("not here")?))
}

/// Files of one leaf, of several, and with leaves that stand at more than one place.
fn package() -> (Arc<Manifest>, Blocks) {
    let (same, long) = (vec![1; 2 * CHUNK + 7], [vec![1; CHUNK], vec![2; CHUNK], vec![3; 9]].concat());
    let files: [(&str, &[u8]); 5] = [
        ("a/same", &same),
        ("bin/run.sh", b"#!/bin/sh\n"),
        ("copy.sh", b"#!/bin/sh\n"),
        ("empty", b""),
        ("long", &long),
    ];
    let (manifest, blocks) = testing::package(&files);
    (Arc::new(manifest), blocks)
}

fn nothing(_: &ContentId) -> Result<Block, &'static str> {
    Err("not here")
}

fn begin(manifest: &Arc<Manifest>, target: &Path) -> Early {
    Early::begin(manifest.clone(), target, &nothing).unwrap()
}

fn assert_whole(manifest: &Manifest, target: &Path) {
    let report = check::check(manifest, target).unwrap();
    assert_eq!(report.differences, []);
    assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "no staging folder is left");
}

/// A source that has files share blocks, as far as it does: in the order of its answers, all of one, nothing, or a page.
struct Sharing<'a> {
    blocks: &'a Blocks,
    answers: std::cell::Cell<u64>,
}

impl Supply<&'static str> for Sharing<'_> {
    fn block(&self, id: &ContentId) -> Result<Block, &'static str> {
        source(self.blocks)(id)
    }

    fn can_share(&self, _: &File) -> bool {
        true
    }

    fn share(&self, id: &ContentId, file: &File, at: u64, size: u64) -> u64 {
        let bytes = &self.blocks[id];
        assert_eq!(bytes.len() as u64, size);
        self.answers.set(self.answers.get() + 1);
        let shared = match self.answers.get() % 3 {
            0 => 0,
            1 => SHARED_PAGE_BYTES,
            _ => bytes.len() - bytes.len() % SHARED_PAGE_BYTES,
        };
        file.write_all_at(&bytes[..shared], at).unwrap();
        shared as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In whatever order the blocks come, however few of them, and whatever can be shared, the package comes out whole.
    #[test]
    fn the_order_does_not_matter(order in any::<u32>(), missing in 0_usize..9, shares in any::<bool>()) {
        let (manifest, blocks) = package();
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("t");
        let sharing = Sharing { blocks: &blocks, answers: u64::from(order).into() };
        let source = source(&blocks);
        let rest: &dyn Supply<&'static str> = if shares { &sharing } else { &source };
        let mut early = Early::begin(manifest.clone(), &target, rest).unwrap();
        let mut ids: Vec<ContentId> = blocks.keys().copied().collect();
        // An order of its own for each number.
        ids.sort_by_key(|id| crc32fast::hash(&[id.to_bytes(), order.to_be_bytes().to_vec()].concat()));
        for id in ids.iter().skip(missing) {
            early.take(&source(id).unwrap());
        }
        let mut told = Vec::new();
        early.finish(rest, &target, &mut |done, total| told.push((done, total))).unwrap();
        prop_assert_eq!(told.last(), Some(&(manifest.size(), manifest.size())));
        assert_whole(&manifest, &target);
    }
}

#[test]
fn a_block_that_comes_twice_is_written_once() {
    let (manifest, blocks) = package();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    let (mut early, source) = (begin(&manifest, &target), source(&blocks));
    for id in blocks.keys().chain(blocks.keys()) {
        early.take(&source(id).unwrap());
    }
    early.finish(&source, &target, &mut |_, _| ()).unwrap();
    assert_whole(&manifest, &target);
}

#[test]
fn a_file_with_another_hash_than_was_signed_leaves_nothing() {
    let bytes = vec![1; CHUNK + 1];
    let (mut packed, blocks) = testing::packed(&[("a", &bytes)]);
    packed.files[0].sha256 = [0; 32];
    let preflight = crate::package::manifest::Preflight::Passed;
    let manifest =
        Manifest::new(testing::publisher(1).id(), testing::description(), preflight, packed).unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    let early = begin(&Arc::new(manifest), &target);
    let error = early.finish(&source(&blocks), &target, &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, Some(Error::Sha256 { .. })));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn what_is_missing_to_the_end_leaves_nothing() {
    let (manifest, mut blocks) = package();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    let early = begin(&manifest, &target);
    blocks.remove(&manifest.files()[4].id);
    let error = early.finish(&source(&blocks), &target, &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, Some(Error::Source("not here"))));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_target_that_appears_meanwhile_is_not_touched() {
    let (manifest, blocks) = package();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    let early = begin(&manifest, &target);
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "mine").unwrap();
    let error = early.finish(&source(&blocks), &target, &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, Some(Error::Exists { .. })));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    assert!(Early::begin(manifest, &target, &nothing).is_err());
}

#[test]
fn after_a_failure_nothing_more_is_written() {
    let (manifest, blocks) = package();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    let (mut early, source) = (begin(&manifest, &target), source(&blocks));
    // Somebody takes the place of a file.
    let staging = fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(staging.join("long"), "mine").unwrap();
    blocks.keys().for_each(|id| early.take(&source(id).unwrap()));
    assert!(early.finish(&source, &target, &mut |_, _| ()).unwrap_err().is_none());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}
