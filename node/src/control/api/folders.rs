//! What is installed into folders, and removed from them.

use serde::{Deserialize, Serialize};

use super::Freshness;

/// `install`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRequest {
    /// `[publisher/]name[@version]`.
    pub package: String,
    /// The folder to make, absolute.
    pub to: String,
    /// Seconds in all.
    pub timeout_secs: Option<u64>,
    /// Refuses the newest version of a publisher that is overdue.
    #[serde(default)]
    pub fresh: bool,
    /// Refuses the newest version where it was not confirmed for so many seconds.
    #[serde(default)]
    pub fresh_secs: Option<u64>,
    /// Moves files of an installed version that were changed into a folder beside it, where another version is to be there.
    #[serde(default)]
    pub force: bool,
    /// A folder that is there stays the one that it is, as where a shell is in it.
    #[serde(default)]
    pub stays: bool,
    /// Takes nothing from other nodes, and asks them nothing: the newest version that is meant and that all is here of.
    #[serde(default)]
    pub offline: bool,
    /// Says what would be done, and touches no folder. The signed manifest is fetched where it is not here.
    #[serde(default)]
    pub dry_run: bool,
}

/// `install`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Full id with version.
    pub id: String,
    /// The publisher id.
    pub publisher: String,
    /// The package name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The content id of the tree.
    pub cid: String,
    /// Where it was put.
    pub path: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Bytes that came over the network now, or would come; the rest was here already.
    pub bytes_fetched: u64,
    /// Peer ids that served at least one verified block.
    pub providers: Vec<String>,
    /// The same version was installed at that place already, and verified.
    pub already_installed: bool,
    /// The version that was at that place before.
    #[serde(default)]
    pub replaced: Option<String>,
    /// The folder with what was changed in the version before.
    #[serde(default)]
    pub kept_in: Option<String>,
    /// What is in that folder.
    #[serde(default)]
    pub kept: Vec<String>,
    /// Nothing was done: this is what would be.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether something newer was announced that nobody who was reached holds.
    #[serde(default)]
    pub newer_announced: bool,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// How fresh the state is that the version was taken from.
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// `remove`, what is asked: a package, or a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveRequest {
    /// `[publisher/]name[@version]`.
    #[serde(default)]
    pub package: String,
    /// The folder, absolute, in place of the package.
    #[serde(default)]
    pub path: Option<String>,
    /// Removes the rest where some files are not as they were signed.
    #[serde(default)]
    pub force: bool,
    /// The folder stays, empty, as where a shell is in it.
    #[serde(default)]
    pub stays: bool,
    /// Says what would be removed, and removes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// `remove`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Full id with version.
    pub id: String,
    /// The publisher id.
    pub publisher: String,
    /// The package name.
    pub name: String,
    /// The version.
    pub version: String,
    /// Where it was.
    pub path: String,
    /// Files that were removed.
    pub files: u64,
    /// What was left, because it is not as it was signed.
    pub left: Vec<String>,
    /// The folder was gone already, or a link stood in its place, which is left: the installation was only forgotten.
    pub was_gone: bool,
    /// The folder cannot be seen now, so that the installation was only forgotten: what is in it stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_sight: bool,
    /// Nothing was removed: this is what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
