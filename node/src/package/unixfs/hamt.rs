//! Large directories: a trie of shards, 256 ways at each level, by a hash of the name.
//!
//! The [specification](https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory) takes the first 64 bits of MurmurHash3 (x64,
//! 128 bits), most significant byte first, one byte a level.

use super::{
    Error,
    encoding::{self, Link},
};
use crate::{
    content::{Block, Codec},
    package::shorten,
};

/// The multicodec number of `murmur3-x64-64`.
const MURMUR3_X64_64: u64 = 0x22;
/// Children of one shard, at most.
const FANOUT: u64 = 256;
/// Levels, as many as the hash has bytes. Names that agree in all of them can be found at will; they are refused.
const LEVELS_MAX: u32 = 8;

/// Builds the shards over `entries` and returns the link to their root, unnamed.
pub(super) fn shards(entries: Vec<Link>, sink: &mut dyn FnMut(Block)) -> Result<Link, Error> {
    let mut entries: Vec<(u64, Link)> =
        entries.into_iter().map(|entry| (murmur3(entry.name.as_bytes()), entry)).collect();
    // In the order of their hashes, the entries of each shard on each level stand next to each other.
    entries.sort_by_key(|(hash, _)| *hash);
    shard(&entries, 0, sink)
}

/// Recurses once a byte of the hash, so [`LEVELS_MAX`] deep at most.
fn shard(entries: &[(u64, Link)], level: u32, sink: &mut dyn FnMut(Block)) -> Result<Link, Error> {
    if level == LEVELS_MAX {
        return Err(Error::HashCollision {
            first: shorten(&entries[0].1.name),
            second: shorten(&entries[1].1.name),
        });
    }
    let slot = |hash: u64| (hash >> (56 - 8 * level)) as u8;
    let mut bits = [0u8; 32];
    let mut links = Vec::new();
    for group in entries.chunk_by(|(left, _), (right, _)| slot(*left) == slot(*right)) {
        let slot = slot(group[0].0);
        bits[31 - usize::from(slot / 8)] |= 1 << (slot % 8);
        let mut link = match group {
            [(_, only)] => only.clone(),
            _ => shard(group, level + 1, sink)?,
        };
        link.name = format!("{slot:02X}{}", link.name);
        links.push(link);
    }
    let leading_zeros = bits.iter().take_while(|byte| **byte == 0).count();
    let data = encoding::shard_data(&bits[leading_zeros..], MURMUR3_X64_64, FANOUT);
    let block = Block::new(Codec::DagPb, encoding::node(&links, &data));
    let tsize = links.iter().fold(block.bytes().len() as u64, |sum, link| sum.saturating_add(link.tsize));
    let link = Link { name: String::new(), id: block.id(), tsize };
    sink(block);
    Ok(link)
}

/// The first half of [MurmurHash3](https://github.com/aappleby/smhasher) x64 128 with seed 0.
fn murmur3(bytes: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let word = |bytes: &[u8]| {
        let mut word = [0u8; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        h1 ^= mix1(word(&chunk[..8]));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix2(word(&chunk[8..]));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = chunks.remainder().split_at(chunks.remainder().len().min(8));
    h1 ^= mix1(word(low));
    h2 ^= mix2(word(high));
    h1 ^= bytes.len() as u64;
    h2 ^= bytes.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::ContentId;

    #[test]
    fn the_hash_is_murmur3() {
        // From the reference implementation, seed 0.
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"hello"), 0xcbd8_a7b3_41bd_9b02);
        assert_eq!(murmur3(b"The quick brown fox jumps over the lazy dog"), 0xe34b_bc7b_bc07_1b6c);
    }

    #[test]
    fn names_with_equal_hashes_are_refused_without_end() {
        let id = ContentId::of(Codec::Raw, b"");
        let entry = |name: &str| Link { name: name.to_owned(), id, tsize: 0 };
        let same = vec![(7, entry("a")), (7, entry("b"))];
        assert!(matches!(shard(&same, 0, &mut drop), Err(Error::HashCollision { .. })));
        let last_bit = vec![(6, entry("a")), (7, entry("b"))];
        assert!(shard(&last_bit, 0, &mut drop).is_ok());
    }
}
