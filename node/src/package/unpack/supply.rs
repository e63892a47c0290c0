//! Where the blocks come from that a package is written from.

use std::fs::File;

use crate::content::{Block, ContentId};

/// Gives blocks, and has files share the bytes of those where it can. A closure that yields blocks is one that cannot.
pub trait Supply<E> {
    /// The block of an id.
    ///
    /// # Errors
    /// Whatever keeps it from being had.
    fn block(&self, id: &ContentId) -> Result<Block, E>;

    /// Whether the package is still wanted. Where it is not, it is given up before anything of it shows.
    fn is_wanted(&self) -> bool {
        true
    }

    /// Whether files in a folder may share bytes with blocks.
    fn can_share(&self, folder: &File) -> bool {
        let _ = folder;
        false
    }

    /// Has `file` share the bytes of a whole block, of so many bytes, from its byte `at` on; returns how many of its first bytes stand
    /// there now. The others are to be written.
    fn share(&self, id: &ContentId, file: &File, at: u64, bytes: u64) -> u64 {
        let _ = (id, file, at, bytes);
        0
    }
}

impl<E, F: Fn(&ContentId) -> Result<Block, E>> Supply<E> for F {
    fn block(&self, id: &ContentId) -> Result<Block, E> {
        self(id)
    }
}
