//! Batches, reading, and transactions where nothing goes wrong but the caller.

use super::*;
use crate::{code::Code, limits::BLOCK_BYTES_MAX};

/// Small, at the border, just over it, and the largest.
fn mixed(seed: u64) -> Vec<Block> {
    [8, 100, 16 << 10, (16 << 10) + 1, 300_000, BLOCK_BYTES_MAX]
        .into_iter()
        .zip(seed * 100..)
        .map(|(size, seed)| block(seed, size))
        .collect()
}

fn both_kinds(check: impl Fn(&Store)) {
    let home = tempfile::tempdir().unwrap();
    check(&open_quietly(home.path()));
    check(&Store::in_memory().unwrap());
}

#[test]
fn what_was_committed_is_read_back_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let blocks = mixed(1);
    {
        let store = open_quietly(home.path());
        store.put_blocks(&blocks).unwrap();
        assert_eq!(held_blocks(&store, &blocks), blocks.len());
    }
    let store = open_quietly(home.path());
    assert_eq!(held_blocks(&store, &blocks), blocks.len());
    let bytes: usize = blocks.iter().map(|block| block.bytes().len()).sum();
    assert_eq!(store.stats().unwrap(), Stats { blocks: 6, bytes: bytes as u64 });
    assert_eq!(names_in(&home.path().join("blocks")), ["1.seg"], "one segment a batch");
}

#[test]
fn a_block_is_stored_once() {
    both_kinds(|store| {
        let blocks = mixed(2);
        store.put_blocks(&blocks).unwrap();
        let mut batch = store.batch();
        for block in &blocks {
            assert!(!batch.put(block.clone()).unwrap());
        }
        let fresh = block(7, 50_000);
        assert!(batch.put(fresh.clone()).unwrap());
        assert!(!batch.put(fresh.clone()).unwrap());
        assert!(batch.has(&fresh.id()).unwrap());
        assert!(!store.has(&fresh.id()).unwrap(), "not before the commit");
        batch.commit(|_| Ok(())).unwrap();
        assert_eq!(store.stats().unwrap().blocks, 7);
    });
}

#[test]
fn two_batches_with_the_same_blocks_both_succeed_and_leave_one_segment() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let blocks = mixed(3);
    let (mut first, mut second) = (store.batch(), store.batch());
    for block in &blocks {
        assert!(first.put(block.clone()).unwrap());
        assert!(second.put(block.clone()).unwrap());
    }
    second.commit(|_| Ok(())).unwrap();
    first.commit(|_| Ok(())).unwrap();
    assert_eq!(held_blocks(&store, &blocks), blocks.len());
    assert_eq!(names_in(&home.path().join("blocks")), ["2.seg"]);
}

#[test]
fn a_dropped_batch_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let mut batch = store.batch();
    for block in mixed(4) {
        batch.put(block).unwrap();
    }
    assert_eq!(names_in(&home.path().join("blocks")), ["1.tmp"]);
    drop(batch);
    assert_eq!(names_in(&home.path().join("blocks")), [""; 0]);
    assert_eq!(store.stats().unwrap(), Stats::default());
}

#[test]
fn a_batch_whose_caller_gives_up_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let mut batch = store.batch();
    for block in mixed(5) {
        batch.put(block).unwrap();
    }
    let refused = Error::Refused { code: Code::Conflict, message: "no".into(), hint: "later".into() };
    let error = batch
        .commit(|tx| {
            meta::set(tx, "key", b"value")?;
            Err::<(), _>(refused)
        })
        .unwrap_err();
    assert_eq!((error.code(), error.hint().as_str()), (Code::Conflict, "later"));
    assert_eq!(names_in(&home.path().join("blocks")), [""; 0]);
    assert_eq!(store.stats().unwrap(), Stats::default());
    assert_eq!(store.read(|connection| meta::get(connection, "key")).unwrap(), None);
}

#[test]
fn what_the_caller_writes_is_committed_with_the_blocks() {
    both_kinds(|store| {
        let block = block(1, 40_000);
        let mut batch = store.batch();
        batch.put(block.clone()).unwrap();
        let seen = batch.commit(|tx| {
            meta::set(tx, "key", b"value")?;
            blocks::holds(tx, &block.id())
        });
        assert!(seen.unwrap(), "the rows are there for the caller");
        assert_eq!(store.read(|connection| meta::get(connection, "key")).unwrap().unwrap(), b"value");
    });
}

#[test]
fn missing_blocks_are_named_in_the_order_asked() {
    both_kinds(|store| {
        let (here, away) = (mixed(6), mixed(7));
        store.put_blocks(&here).unwrap();
        let asked: Vec<Block> = away.iter().zip(&here).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        assert_eq!(store.missing(&ids(&asked)).unwrap(), ids(&away));
        assert_eq!(store.block(&away[0].id()).unwrap(), None);
    });
}

#[test]
fn a_block_over_the_limit_is_refused() {
    both_kinds(|store| {
        let error = store.put_blocks(&[block(1, BLOCK_BYTES_MAX + 1)]).unwrap_err();
        assert_eq!(error.code(), Code::Limit);
    });
}

#[test]
fn a_batch_of_many_small_blocks_does_not_gather_them_all_in_memory() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let blocks: Vec<Block> = (0..400).map(|seed| block(seed, 16 << 10)).collect();
    let mut batch = store.batch();
    for block in &blocks {
        batch.put(block.clone()).unwrap();
    }
    assert_eq!(names_in(&home.path().join("blocks")), ["1.tmp"], "what is over 4 MiB goes to the segment");
    batch.commit(|_| Ok(())).unwrap();
    assert_eq!(held_blocks(&store, &blocks), blocks.len());
}

#[test]
fn a_commit_notices_that_a_block_it_relied_on_was_removed() {
    both_kinds(|store| {
        let relied_on = block(1, 30_000);
        store.put_blocks(std::slice::from_ref(&relied_on)).unwrap();
        let mut batch = store.batch();
        assert!(!batch.put(relied_on.clone()).unwrap());
        assert_eq!(store.remove_blocks(&[relied_on.id()]).unwrap(), 1);
        assert!(matches!(batch.commit(|_| Ok(())), Err(Error::Vanished { id }) if id == relied_on.id()));
    });
}

#[test]
fn a_segment_goes_with_its_last_block() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let (one, two) = (block(1, 30_000), block(2, 30_000));
    store.put_blocks(&[one.clone(), two.clone()]).unwrap();
    store.remove_blocks(&[one.id()]).unwrap();
    assert_eq!(held_blocks(&store, std::slice::from_ref(&two)), 1);
    store.remove_blocks(&[two.id()]).unwrap();
    assert_eq!(names_in(&home.path().join("blocks")), [""; 0]);
    assert_eq!(store.stats().unwrap(), Stats::default());
}

#[test]
fn a_failed_transaction_and_a_panic_in_one_leave_nothing() {
    both_kinds(|store| {
        store.write(|tx| meta::set(tx, "kept", b"1")).unwrap();
        store.write(|tx| meta::set(tx, "gone", b"1").and(Err::<(), _>(Error::damaged("no")))).unwrap_err();
        let panicking = std::panic::AssertUnwindSafe(|| {
            store.write(|tx| -> Result<(), Error> {
                meta::set(tx, "gone", b"1")?;
                panic!("in a transaction")
            })
        });
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(store.read(|connection| meta::get(connection, "gone")).unwrap(), None);
        store.write(|tx| meta::set(tx, "kept", b"2")).unwrap();
        assert_eq!(store.read(|connection| meta::get(connection, "kept")).unwrap().unwrap(), b"2");
    });
}

#[test]
fn reading_cannot_write() {
    both_kinds(|store| {
        let sql = "INSERT INTO meta (key, value) VALUES ('a', x'00')";
        let error = store.read(|connection| Ok(connection.execute(sql, [])?)).unwrap_err();
        assert_eq!(error.code(), Code::ReadOnly);
        store.write(|tx| Ok(tx.execute(sql, [])?)).unwrap();
    });
}

#[test]
fn reading_goes_on_while_a_transaction_is_open() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let block = block(1, 100_000);
    store.put_blocks(std::slice::from_ref(&block)).unwrap();
    store
        .write(|tx| {
            meta::set(tx, "key", b"value")?;
            // From another thread, as the store says; a deadlock would hang the test.
            let reader = store.clone();
            let id = block.id();
            let read = std::thread::spawn(move || {
                (reader.block(&id).unwrap(), reader.read(|c| meta::get(c, "key")).unwrap())
            });
            assert_eq!(read.join().unwrap(), (Some(block.clone()), None));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_store_in_memory_lives_as_long_as_a_clone() {
    let store = Store::in_memory().unwrap();
    let clone = store.clone();
    let block = block(1, 200_000);
    store.put_blocks(std::slice::from_ref(&block)).unwrap();
    let mut unfinished = store.batch();
    unfinished.put(super::block(2, 10)).unwrap();
    drop(unfinished);
    drop(store);
    assert_eq!(clone.block(&block.id()).unwrap(), Some(block));
    assert_eq!(clone.stats().unwrap().blocks, 1);
    assert_eq!(Store::in_memory().unwrap().stats().unwrap().blocks, 0, "each one is its own");
}

#[test]
fn open_segments_are_bounded() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let blocks: Vec<Block> = (0..40).map(|seed| block(seed, 20_000)).collect();
    for block in &blocks {
        store.put_blocks(std::slice::from_ref(block)).unwrap();
    }
    assert_eq!(held_blocks(&store, &blocks), 40);
    let Place::Disk(disk) = &store.shared.place else { unreachable!() };
    assert_eq!(disk.open_segments().len(), 32);
}

#[test]
fn many_threads_store_and_read_the_same_blocks() {
    let home = tempfile::tempdir().unwrap();
    let store = open_quietly(home.path());
    let blocks: Vec<Block> = (0..8).map(|seed| block(seed, 20_000)).collect();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                store.put_blocks(&blocks).unwrap();
                assert_eq!(held_blocks(&store, &blocks), blocks.len());
            });
        }
    });
    assert_eq!(store.stats().unwrap().blocks, 8);
    assert_eq!(names_in(&home.path().join("blocks")).len(), 1, "one winner, nothing dangling");
}
