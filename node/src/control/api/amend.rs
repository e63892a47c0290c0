//! What is asked and answered where a publisher takes something back.

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
