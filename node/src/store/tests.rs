//! The store as a whole.

use std::path::Path;

use super::*;
use crate::content::{Block, Codec, ContentId};

mod batches;
mod damage;
mod faults;
mod injected;
mod kill;
mod room;

/// The time of every test.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A block of `size` bytes that differ with `seed`.
fn block(seed: u64, size: usize) -> Block {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes = (0..size).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    let mut bytes: Vec<u8> = bytes.collect();
    bytes.extend_from_slice(&seed.to_le_bytes());
    bytes.truncate(size.max(8));
    let tail = bytes.len() - 8;
    bytes[tail..].copy_from_slice(&seed.to_le_bytes());
    Block::new(Codec::Raw, bytes)
}

fn open(folder: &Path) -> (Store, Vec<Note>) {
    Store::open(folder, NOW).unwrap()
}

/// Opens a store that nothing is wrong with.
fn open_quietly(folder: &Path) -> Store {
    let (store, notes) = open(folder);
    assert_eq!(notes, []);
    store
}

fn held_blocks(store: &Store, blocks: &[Block]) -> usize {
    blocks.iter().filter(|block| store.block(&block.id()).unwrap().as_ref() == Some(block)).count()
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn ids(blocks: &[Block]) -> Vec<ContentId> {
    blocks.iter().map(Block::id).collect()
}
