//! What is asked and answered of the room that the store takes.

use serde::{Deserialize, Serialize};

/// `gc`, what is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectRequest {
    /// Says what would be freed, and changes nothing.
    pub dry_run: bool,
}

/// `gc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Nothing was changed: this is what would be freed.
    pub dry_run: bool,
    /// Bytes of blocks that were freed.
    pub bytes: u64,
    /// Blocks that were freed.
    pub blocks: u64,
    /// What they belonged to.
    pub items: Vec<CollectedItem>,
    /// Folders that a package was installed into, and that were deleted by hand: they are forgotten.
    #[serde(default)]
    pub forgotten: Vec<String>,
    /// Bytes of blocks that are left.
    pub bytes_left: u64,
}

/// One thing that is freed as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedItem {
    /// `leftover` for what belongs to nothing, `partial` for what an interrupted installation left, `cached` for a package that was only
    /// provided to others.
    pub kind: String,
    /// Full id with version; empty for what belongs to nothing.
    pub id: String,
    /// Bytes that nothing else needs.
    pub bytes: u64,
    /// Blocks that nothing else needs.
    pub blocks: u64,
}

/// What an interrupted installation left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialInstall {
    /// Full id with version.
    pub id: String,
    /// The content id of the tree.
    pub cid: String,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes that are here already, and are not fetched again.
    pub bytes_held: u64,
    /// The folder that was to be made.
    pub path: String,
    /// When it was begun last.
    pub started_at: String,
}

/// `pin`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeepRequest {
    /// What to do.
    pub action: KeepAction,
    /// `[publisher/]name[@version]` of what is here, to pin it.
    pub package: String,
    /// The name of the pin; the full id with version where none is given.
    pub name: String,
    /// For how many seconds; permanently where not given.
    pub for_secs: Option<u64>,
}

/// What can be done with pins of content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepAction {
    /// List them.
    #[default]
    List,
    /// Pin content that is here.
    Add,
    /// Take a pin away.
    Remove,
}

/// `pin`: the pins of content that there are now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptList {
    /// The pins, by name.
    pub pins: Vec<KeptContent>,
    /// How many there are.
    pub total: usize,
    /// The name of the pin that was set or taken away.
    pub changed: Option<String>,
    /// The full id with version of what a pin of this name kept before.
    #[serde(default)]
    pub replaced: Option<String>,
}

/// A pin of content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptContent {
    /// Its name.
    pub name: String,
    /// Full id with version of what it keeps.
    pub id: String,
    /// The content id of the tree.
    pub cid: String,
    /// Bytes of all files.
    pub size: u64,
    /// Since when.
    pub since: String,
    /// Until when; none where it does not expire.
    pub until: Option<String>,
}
