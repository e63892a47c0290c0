//! What opening the store found and mended.

use std::{fmt, path::PathBuf};

/// Something a person should know about the store that was just opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The database was damaged; it was moved aside and made again.
    DatabaseReplaced {
        /// What was wrong with it.
        why: String,
        /// Where it is now.
        to: PathBuf,
        /// Rows that could still be read and were taken over.
        rows: u64,
    },
    /// The index of the larger blocks was made again from the segment files.
    BlocksRebuilt {
        /// Blocks found whole.
        blocks: u64,
        /// Records that were damaged.
        damaged: u64,
    },
    /// A file of a batch that was never acknowledged was removed.
    LeftoverRemoved {
        /// The file.
        path: PathBuf,
    },
    /// A segment file is gone or cut off, and the blocks it held are not held any more.
    SegmentLost {
        /// The file.
        path: PathBuf,
        /// Blocks that were in it.
        blocks: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DatabaseReplaced { why, to, rows } => write!(
                f,
                "the database was damaged ({why}); it was moved to {}, and a new one was made with the {rows} rows \
                 that could be read",
                to.display()
            ),
            Self::BlocksRebuilt { blocks, damaged } => {
                write!(f, "{blocks} blocks were found in the block files, {damaged} were damaged")
            }
            Self::LeftoverRemoved { path } => {
                write!(f, "removed {}, left by an interrupted write", path.display())
            }
            Self::SegmentLost { path, blocks } => {
                write!(f, "{} is missing or cut off; {blocks} blocks must be fetched again", path.display())
            }
        }
    }
}
