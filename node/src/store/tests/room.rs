use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::*;
/// Bytes that the segment files take on the disk.
fn on_disk(folder: &Path) -> u64 {
    let files = fs::read_dir(folder.join("blocks")).unwrap().flatten();
    files.map(|file| file.metadata().unwrap().blocks() * 512).sum()
}

fn large(seed: u64) -> Block {
    block(seed, 300_000)
}

#[test]
fn what_is_removed_from_a_segment_is_given_back_to_the_disk_and_what_stays_can_be_rescued() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_quietly(folder.path());
    let blocks: Vec<Block> = (1..=6).map(large).collect();
    store.put_blocks(&blocks).unwrap();
    let before = on_disk(folder.path());
    let gone: Vec<ContentId> = [0, 2, 3, 5].map(|at| blocks[at].id()).to_vec();
    assert_eq!(store.remove_blocks(&gone).unwrap(), 4);
    store.free_dead_space();
    let after = on_disk(folder.path());
    assert!(after + 4 * 290_000 < before, "{before} {after}");
    store.free_dead_space();
    assert_eq!(on_disk(folder.path()), after, "again changes nothing");
    for block in [&blocks[1], &blocks[4]] {
        assert_eq!(store.block(&block.id()).unwrap().as_ref(), Some(block));
    }
    drop(store);

    // The database is lost: what is left is found again, and a hole is no damage.
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    let (mut found, mut damaged) = (Vec::new(), 0);
    for file in fs::read_dir(folder.path().join("blocks")).unwrap().flatten() {
        let file = fs::File::open(file.path()).unwrap();
        let mut keep = |block: Block, _| {
            found.push(block);
            Ok(())
        };
        damaged += crate::store::segment::scan(&file, &mut keep).unwrap();
    }
    assert_eq!((found, damaged), (vec![blocks[1].clone(), blocks[4].clone()], 0));
}

#[test]
fn nothing_is_removed_where_it_is_decided_against() {
    let store = Store::in_memory().unwrap();
    let block = large(1);
    store.put_blocks(std::slice::from_ref(&block)).unwrap();
    let done = store.remove_blocks_with(&[block.id()], |_| Ok(None::<()>)).unwrap();
    assert_eq!(done, None);
    assert!(store.has(&block.id()).unwrap());
    let done = store.remove_blocks_with(&[block.id(), block.id()], |_| Ok(Some(7))).unwrap();
    assert_eq!(done, Some((300_000, 7)));
    assert!(!store.has(&block.id()).unwrap());
}
