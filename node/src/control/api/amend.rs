//! What is asked and answered where a publisher takes something back, and what waits in the outbox.

use serde::{Deserialize, Serialize};

/// `yank`, `unyank` and `deprecate`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmendRequest {
    /// A package of one's own: `[publisher/]name@version` for `yank` and `unyank`, `[publisher/]name` for `deprecate`.
    pub package: String,
    /// What changes.
    pub change: Change,
    /// Why, or what to use in its place; may be empty for `yank`.
    #[serde(default)]
    pub message: String,
    /// Seconds that telling others may take.
    pub timeout_secs: Option<u64>,
}

/// What a publisher says of a package that is published already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The version is no longer chosen.
    #[default]
    Yank,
    /// It is chosen again.
    Unyank,
    /// The package should no longer be used.
    Deprecate,
    /// It can be used again.
    Undeprecate,
}

/// `yank`, `unyank` and `deprecate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// Full id, with the version where it is about one.
    pub id: String,
    /// The publisher id.
    pub publisher: String,
    /// The package name.
    pub name: String,
    /// The version, where it is about one.
    pub version: Option<String>,
    /// What changed.
    pub change: Change,
    /// It was so already; nothing was signed.
    pub unchanged: bool,
    /// It waits in the outbox until it can be signed.
    #[serde(default)]
    pub queued: bool,
    /// The version that is the latest now.
    pub latest: Option<String>,
    /// Sequence of the newest log entry.
    pub sequence: u64,
    /// Whether at least one other node holds or heard the head.
    pub announced: bool,
    /// DHT nodes that stored the head.
    pub dht_stored: usize,
    /// Peers that the announcement was sent to.
    pub announced_to: usize,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A change that waits in the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedChange {
    /// Full id, with the version where it is about one.
    pub id: String,
    /// What changes.
    pub change: Change,
    /// Since when it waits.
    pub queued_at: String,
    /// The stable code of what keeps it.
    pub code: String,
    /// What keeps it.
    pub why: String,
}

/// A version that waits in the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedPackage {
    /// Full id with version.
    pub id: String,
    /// The content id of the tree.
    pub cid: String,
    /// Bytes of all files.
    pub size: u64,
    /// The directory it was packed from.
    pub path: String,
    /// Since when it waits.
    pub queued_at: String,
    /// The stable code of what keeps it; `E_CONFLICT` where it will never be published.
    pub code: String,
    /// What keeps it.
    pub why: String,
    /// What to do.
    pub hint: String,
}
