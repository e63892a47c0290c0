//! What a retrieval wants, and what must stand where.
//!
//! Peers say what blocks link to, and so could publishers say anything. Each block is therefore wanted for one place, whose
//! size somebody signed or whose largest size is a limit of ours, and it is read as what belongs there or not at all: the
//! blocks of a retrieval and their bytes are bounded before the first of them comes. Pure.

use std::collections::BTreeMap;

use crate::{
    code::Code,
    content::{Codec, ContentId},
    package::unixfs::{self, FilePart},
};

/// A guess at the bytes of a node, of which nobody says how large it is: a full one over leaves has about so many.
const NODE_BYTES_GUESS: u64 = 64 << 10;

/// A block to fetch, and the place that it must fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A block that links to nothing.
    Block {
        /// The block.
        id: ContentId,
        /// Bytes that it may have.
        bytes_max: u64,
    },
    /// The root of a file whose size nobody signed.
    File {
        /// The root.
        id: ContentId,
        /// Bytes that the file may have.
        bytes_max: u64,
    },
    /// A file whose size was signed, or a part of one.
    Part(FilePart),
}

impl Wanted {
    /// The block.
    pub fn id(&self) -> ContentId {
        match self {
            Self::Block { id, .. } | Self::File { id, .. } => *id,
            Self::Part(part) => part.id,
        }
    }

    /// Bytes of the block alone, as far as they are known.
    pub(super) fn bytes_guess(&self) -> u64 {
        match self {
            Self::Block { bytes_max, .. } => *bytes_max,
            Self::Part(part) if part.is_leaf() => part.size,
            Self::File { bytes_max, .. } => NODE_BYTES_GUESS.min(*bytes_max),
            Self::Part(_) => NODE_BYTES_GUESS,
        }
    }

    /// Reads the bytes of the block, whose hash is right, as what stands here: the parts below it.
    ///
    /// # Errors
    /// [`unixfs::Error`] where another block belongs here.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Vec<FilePart>, unixfs::Error> {
        let found = bytes.len() as u64;
        match self {
            Self::Block { bytes_max: expected, .. } if found > *expected => {
                Err(unixfs::Error::Size { expected: *expected, found })
            }
            Self::Block { .. } => Ok(Vec::new()),
            Self::File { id, bytes_max } => {
                let part = FilePart::from_root(*id, bytes, *bytes_max)?;
                if part.is_leaf() { Ok(Vec::new()) } else { part.children(bytes) }
            }
            Self::Part(part) if part.is_leaf() && found != part.size => {
                Err(unixfs::Error::Size { expected: part.size, found })
            }
            Self::Part(part) if part.is_leaf() => Ok(Vec::new()),
            Self::Part(part) => part.children(bytes),
        }
    }

    /// Whether the block may say more than it is, so that it has to be read even where it is held already.
    pub(super) fn has_parts(&self) -> bool {
        match self {
            Self::Block { .. } => false,
            Self::File { id, .. } => id.codec() != Codec::Raw,
            Self::Part(part) => !part.is_leaf(),
        }
    }
}

/// All that one retrieval wanted so far: each block once, for one place.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<ContentId, Wanted>);

impl Places {
    /// Adds what is wanted, and yields what of it is new.
    ///
    /// # Errors
    /// [`Contradiction`] where a block is wanted for a place already that it cannot have as well.
    pub(super) fn add(&mut self, wanted: Vec<Wanted>) -> Result<Vec<Wanted>, Contradiction> {
        let mut new = Vec::new();
        for it in wanted {
            match self.0.insert(it.id(), it) {
                None => new.push(it),
                Some(known) if known == it => {}
                Some(_) => return Err(Contradiction::Places { id: it.id() }),
            }
        }
        Ok(new)
    }

    /// The place of a block; one that nobody wanted links to nothing.
    pub(super) fn of(&self, id: &ContentId) -> Wanted {
        self.0.get(id).copied().unwrap_or(Wanted::Block { id: *id, bytes_max: u64::MAX })
    }
}

/// How what was signed contradicts itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// A block is not the one that its place needs, although its hash is right.
    #[error("block {id} is not what was signed at its place: {source}")]
    Block {
        /// The block.
        id: ContentId,
        /// What is wrong.
        source: unixfs::Error,
    },
    /// A block is named for two places that no block can both have.
    #[error("block {id} is named at two places that need different blocks")]
    Places {
        /// The block.
        id: ContentId,
    },
}

impl Contradiction {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Block { source, .. } => source.code(),
            Self::Places { .. } => Code::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::Block,
        limits::{CHUNK_BYTES, LINKS_MAX},
        package::unixfs::any_file_node,
    };

    const CHUNK: u64 = CHUNK_BYTES as u64;

    /// A full node over leaves that nobody has; `n` makes it another one.
    fn full_node(n: u64) -> Block {
        let leaf = |at: usize| ContentId::of(Codec::Raw, format!("{n} {at}").as_bytes());
        any_file_node(&(0..LINKS_MAX).map(|at| (leaf(at), CHUNK, CHUNK)).collect::<Vec<_>>())
    }

    fn file(id: ContentId, bytes_max: u64) -> Wanted {
        Wanted::File { id, bytes_max }
    }

    fn part(id: ContentId, size: u64) -> Wanted {
        Wanted::Part(FilePart::whole(id, size).unwrap())
    }

    #[test]
    fn a_file_larger_than_it_may_be_is_refused_at_its_root() {
        let node = full_node(0);
        let size = CHUNK * LINKS_MAX as u64;
        assert_eq!(file(node.id(), size).read(node.bytes()).unwrap().len(), LINKS_MAX);
        assert!(matches!(
            file(node.id(), size - 1).read(node.bytes()),
            Err(unixfs::Error::Size { expected, found }) if (expected, found) == (size - 1, size)
        ));
        // A node that says that it stands for little, over nodes that stand for much.
        let liar = any_file_node(&[(node.id(), 1, 1), (node.id(), 1, 1)]);
        assert!(file(liar.id(), size).read(liar.bytes()).is_err());
        let raw = Block::new(Codec::Raw, vec![7; 100]);
        assert_eq!(file(raw.id(), 100).read(raw.bytes()).unwrap(), []);
        assert!(matches!(file(raw.id(), 99).read(raw.bytes()), Err(unixfs::Error::Size { .. })));
    }

    #[test]
    fn a_part_is_read_as_what_was_signed_or_not_at_all() {
        let node = full_node(0);
        let size = CHUNK * LINKS_MAX as u64;
        let children = part(node.id(), size).read(node.bytes()).unwrap();
        assert!(children.iter().all(|child| child.is_leaf() && child.size == CHUNK));
        assert!(matches!(part(node.id(), size - 1).read(node.bytes()), Err(unixfs::Error::Size { .. })));
        let leaf = Block::new(Codec::Raw, vec![7; 100]);
        assert_eq!(part(leaf.id(), 100).read(leaf.bytes()).unwrap(), []);
        for other in [99, 101] {
            assert!(matches!(part(leaf.id(), other).read(leaf.bytes()), Err(unixfs::Error::Size { .. })));
        }
    }

    #[test]
    fn a_block_alone_links_to_nothing_and_has_its_limit() {
        let node = full_node(0);
        let len = node.bytes().len() as u64;
        assert_eq!(Wanted::Block { id: node.id(), bytes_max: len }.read(node.bytes()).unwrap(), []);
        let over = Wanted::Block { id: node.id(), bytes_max: len - 1 }.read(node.bytes());
        assert!(matches!(over, Err(unixfs::Error::Size { .. })));
    }

    #[test]
    fn the_parts_of_a_file_are_never_larger_together_than_the_file() {
        // Whatever stands below a root of a gigabyte and a bit: 1026 leaves, and no more.
        let (full, rest) = (full_node(0), any_file_node(&[(ContentId::of(Codec::Raw, b"rest"), 5, 5)]));
        let size = CHUNK * LINKS_MAX as u64;
        let tsize = |block: &Block, size: u64| size + block.bytes().len() as u64;
        let root = any_file_node(&[(full.id(), size, tsize(&full, size)), (rest.id(), 5, tsize(&rest, 5))]);
        let (mut places, mut leaves, mut bytes) = (Places::default(), 0, 0);
        let mut open = places.add(vec![part(root.id(), size + 5)]).unwrap();
        while let Some(next) = open.pop() {
            let Wanted::Part(it) = next else { panic!("{next:?}") };
            if it.is_leaf() {
                (leaves, bytes) = (leaves + 1, bytes + it.size);
                continue;
            }
            let block = [&root, &full, &rest].into_iter().find(|block| block.id() == it.id).unwrap();
            let below = next.read(block.bytes()).unwrap();
            open.extend(places.add(below.into_iter().map(Wanted::Part).collect()).unwrap());
        }
        assert_eq!((leaves, bytes), (LINKS_MAX + 1, size + 5));
    }

    #[test]
    fn a_block_is_wanted_once_and_for_one_place() {
        let id = ContentId::of(Codec::Raw, b"x");
        let mut places = Places::default();
        assert_eq!(places.add(vec![part(id, 1), part(id, 1)]).unwrap(), [part(id, 1)]);
        assert_eq!(places.add(vec![part(id, 1)]).unwrap(), []);
        assert_eq!(places.of(&id), part(id, 1));
        for other in [part(id, 2), file(id, 1), Wanted::Block { id, bytes_max: 1 }] {
            assert_eq!(places.add(vec![other]).unwrap_err().code(), Code::Malformed, "{other:?}");
        }
    }
}
