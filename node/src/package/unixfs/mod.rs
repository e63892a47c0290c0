//! Builds and reads the [UnixFS](https://specs.ipfs.tech/unixfs/) graph of a package's files.
//!
//! The layout is the profile `unixfs-v1-2025` of [IPIP-499](https://github.com/ipfs/specs/pull/499): CIDv1, SHA-256, raw
//! leaves of 1 MiB, balanced file nodes of at most 1024 links, no modes or times, and directories that become a trie
//! of 256-way shards where their block would be over 256 KiB. Everything about a graph but the hashes of its leaves follows
//! from the sizes and names, so a reader refuses every graph that this module would not have built.
//!
//! The module is pure: bytes go in, [`Block`](crate::content::Block)s come out. It never holds more than one chunk of a file.
//!
//! # Discrepancies
//! A directory's size decides about sharding with all its links counted, as the profile says. `ipfs-unixfs-importer` 17
//! does not count links to sub-directories, so it differs for a directory whose links are over 256 KiB only together
//! with those.

mod directory;
mod encoding;
mod file;
mod hamt;

pub use directory::{Tree, tree, tree_root};
#[cfg(test)]
pub(crate) use file::any_file_node;
pub use file::{FileBuilder, FilePart, FileRoot, ReadError, file_tsize, parse_file_node, read_file};

use crate::{
    code::Code,
    content::{self, ContentId},
};

/// What a node links to, of a file or of a directory; nothing where it is none of ours.
pub fn links(bytes: &[u8]) -> Vec<ContentId> {
    let mut reader = encoding::Reader::new(bytes);
    std::iter::from_fn(|| reader.link()).collect()
}

/// Why a graph could not be built or was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are no file node, or not the one that the layout has at that place.
    #[error("not a file node of this layout: {why}")]
    Malformed {
        /// The rule that is broken.
        why: &'static str,
    },
    /// A part of a file is not as large as its parent says.
    #[error("a part of a file has {found} bytes instead of {expected}")]
    Size {
        /// Bytes that the parent promises.
        expected: u64,
        /// Bytes that it is.
        found: u64,
    },
    /// The bytes are not those of their id.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// Names of one directory that the sharding cannot tell apart.
    #[error(
        "the names \"{first}\" and \"{second}\" cannot stand in one large directory: their hashes are equal"
    )]
    HashCollision {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } => Code::Malformed,
            Self::Size { .. } => Code::Size,
            Self::Content(error) => error.code(),
            Self::HashCollision { .. } => Code::Path,
        }
    }
}

#[cfg(test)]
mod tests;
