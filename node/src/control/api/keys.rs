//! What is asked and answered of keys, double signings and pins.

use serde::{Deserialize, Serialize};

use crate::identity::{KeyLog, hex};

/// `key rotate` and its like: what the node made of keys that changed in their files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysRenewed {
    /// Packages whose heads were signed again, by id.
    pub packages: Vec<String>,
    /// Packages that are frozen: their next head is one that resolves them.
    pub frozen: Vec<String>,
    /// Packages whose heads wait: what was added to their logs elsewhere is not here, or nobody could be asked, or the clock is
    /// wrong. They are signed again as soon as that has changed.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Of how many of the packages another node has heard.
    pub announced: usize,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// `key revoke` of a key that is not here: whose key documents are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyDocumentsRequest {
    /// A publisher id, or `[publisher/]name` of a package.
    pub of: String,
    /// Whether peers and the DHT are asked for later ones than are known here.
    pub ask: bool,
}

/// Which chains of key documents of a publisher are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDocuments {
    /// The publisher id.
    pub publisher: String,
    /// The signed documents of each chain, from the first one on, in hexadecimal. The chain that is followed here comes first; others
    /// contradict it.
    pub chains: Vec<Vec<String>>,
    /// Whether peers were asked for later ones.
    pub has_asked: bool,
}

impl KeyDocuments {
    /// The chains, verified; one that is none is left out.
    pub fn verified(&self) -> Vec<KeyLog> {
        let read = |chain: &Vec<String>| {
            let documents: Option<Vec<Vec<u8>>> = chain.iter().map(|text| hex::decode(text)).collect();
            KeyLog::verify(&documents?).ok().filter(|log| log.publisher().to_string() == self.publisher)
        };
        self.chains.iter().filter_map(read).collect()
    }
}

/// `key resolve`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolveRequest {
    /// `[publisher/]name` of a package of one's own.
    pub package: String,
    /// The publisher key to sign with, where there are several.
    pub key: Option<String>,
    /// Versions that are kept, as `version` or `version:branch`.
    pub keep: Vec<String>,
    /// Versions that are withdrawn, in the same form.
    pub withdraw: Vec<String>,
    /// Explain, and sign nothing.
    pub dry_run: bool,
    /// Seconds that telling others may take.
    pub timeout_secs: Option<u64>,
}

/// `key resolve`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Full id.
    pub package: String,
    /// Versions that all branches have in common.
    pub undisputed: Vec<String>,
    /// The place in the log from which on the branches differ.
    pub from_sequence: u64,
    /// The branches.
    pub branches: Vec<ResolvedBranch>,
    /// What becomes of each version of the branches.
    pub versions: Vec<ResolvedVersion>,
    /// What the branches said besides, and what is said again.
    #[serde(default)]
    pub repeated: Vec<String>,
    /// Whether the key has to be replaced before anything can be resolved.
    pub needs_rotation: bool,
    /// Whether it was resolved now.
    pub resolved: bool,
    /// Sequence of the entry that resolved it.
    pub sequence: Option<u64>,
    /// DHT nodes that stored the new head.
    pub dht_stored: usize,
    /// Peers that the announcement was sent to.
    pub announced_to: usize,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// One branch of a log that was signed twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedBranch {
    /// Its letter.
    pub name: String,
    /// Whether it is the one that this machine signed or holds.
    pub here: bool,
    /// The ids of its entries.
    pub entries: Vec<String>,
    /// What each of them did.
    pub says: Vec<String>,
}

/// One version of a branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedVersion {
    /// The version.
    pub version: String,
    /// The branch that has this content of it.
    pub branch: String,
    /// The content id of its tree.
    pub cid: String,
    /// Whether it counts; otherwise it is never used again.
    pub kept: bool,
    /// Why; empty where nothing speaks against keeping it.
    pub why: String,
}

/// What `trust` is asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustAction {
    /// Only list.
    #[default]
    List,
    /// Pin a name that is not pinned yet.
    Pin,
    /// Take a pin away: the next publisher that is accepted for the name is pinned.
    Unpin,
    /// Pin a name to another publisher than before.
    Accept,
}

/// `trust`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustRequest {
    /// What to do.
    pub action: TrustAction,
    /// The bare name.
    pub name: String,
    /// The publisher id.
    pub publisher: String,
}

/// `trust`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// All pins afterwards, by name.
    pub pins: Vec<Pin>,
    /// How many.
    pub total: usize,
    /// Whether one was changed.
    pub changed: bool,
    /// The publisher that the name was pinned to before.
    pub before: Option<String>,
    /// Publishers of whose keys two chains contradict each other.
    #[serde(default)]
    pub disputed: Vec<DisputedKeys>,
    /// What a person should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A publisher of whose keys two chains contradict each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputedKeys {
    /// The publisher id.
    pub publisher: String,
    /// The number of the first key document that they do not have in common.
    pub document: u64,
    /// What each of them has there.
    pub sides: Vec<DisputedSide>,
    /// Whether a name is pinned to it here.
    pub pinned: bool,
    /// When this node noticed; empty where a key that is here shows it, and no head under its chain.
    pub noticed_at: String,
}

/// One of two chains of keys, where they go apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputedSide {
    /// The content id of the key document, without its signatures.
    pub document: String,
    /// When it was made, as its maker says.
    pub created: String,
    /// The keys that it names.
    pub keys: Vec<String>,
}

/// Which publisher a bare name means here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The bare name.
    pub name: String,
    /// The publisher id.
    pub publisher: String,
    /// When it was accepted.
    pub pinned_at: String,
}
