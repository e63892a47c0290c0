//! What a publication would be, and what ends one.

use serde::{Deserialize, Serialize};

/// `publish --dry-run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The full id with version that it would have; without the publisher where there is no key yet.
    pub id: String,
    /// The publisher id; empty where there is no key yet.
    pub publisher: String,
    /// The package name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The content id of the tree.
    pub cid: String,
    /// Bytes of all files.
    pub size: u64,
    /// Number of files.
    pub files: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// The files, sorted by path.
    pub contents: Vec<PlannedFile>,
    /// The same content is published, or queued, under this version already.
    pub already_published: bool,
    /// What the checks before publishing found.
    pub warnings: Vec<String>,
}

/// A file that would be published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Its path inside the package.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// To cancel a publication, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The word of the client that publishes.
    pub ticket: String,
}

/// To cancel a publication: what became of it is the answer to the one who publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Whether there is one under that word.
    pub found: bool,
}
