//! What is asked and answered of bans, of what happens, and of why a package is what it is.

use serde::{Deserialize, Serialize};

/// `peer-ban`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BanRequest {
    /// The peer.
    pub peer_id: String,
    /// For how many seconds; permanently where not given.
    pub secs: Option<u64>,
    /// Why, in a few words.
    pub reason: Option<String>,
}

/// A peer that is banned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BannedPeer {
    /// The peer.
    pub peer_id: String,
    /// Until when; none where that is permanent.
    pub until: Option<String>,
    /// Why.
    pub reason: String,
    /// Whether a person asked for it; the node bans who sent forged bytes.
    pub manual: bool,
    /// Connections that were closed.
    #[serde(default)]
    pub connections: usize,
}

/// `peer-ban` without a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bans {
    /// The peers that are banned now, by id.
    pub bans: Vec<BannedPeer>,
    /// How many those are.
    pub total: usize,
}

/// `peer-unban`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnbanRequest {
    /// The peer.
    pub peer_id: String,
}

/// `peer-unban`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbanned {
    /// The peer.
    pub peer_id: String,
}

/// One line of `events`: something that happened to the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// When.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What can happen. Kinds are only added; a listener passes over those that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Happening {
    /// The first line: events are told from now on.
    Listening {
        /// Version of these shapes.
        schema_version: u32,
    },
    /// Nothing happened for a while; the node is there.
    Alive,
    /// The listener was too slow, and this many events were left out.
    Missed {
        /// How many.
        events: u64,
    },
    /// A peer is connected.
    Connected {
        /// The peer.
        peer_id: String,
        /// Its address, where this node dialled it.
        address: Option<String>,
    },
    /// The last connection to a peer closed.
    Disconnected {
        /// The peer.
        peer_id: String,
    },
    /// A peer that packages were fetched from, or that said that it provides some, is gone.
    ProviderLost {
        /// The peer.
        peer_id: String,
        /// Packages that it served.
        packages: u64,
    },
    /// A package entered the catalogue, or changed in it.
    Listed(ListedEvent),
    /// A package of the catalogue is frozen: its publisher signed two different states for one place.
    Frozen(ListedEvent),
    /// A package was listed or changed, or is listed again, of whose publisher's keys there are two chains.
    Disputed(ListedEvent),
    /// A version was signed and published by this node.
    Published {
        /// Full id with version.
        id: String,
        /// The content id of its tree.
        cid: String,
    },
    /// A version waits in the outbox.
    Queued {
        /// Full id with version.
        id: String,
    },
    /// A package was installed.
    Installed {
        /// Full id with version.
        id: String,
        /// The content id of its tree.
        cid: String,
        /// The folder.
        path: String,
    },
    /// A peer is banned.
    Banned {
        /// The peer.
        peer_id: String,
        /// Why.
        reason: String,
    },
    /// A peer is no longer banned.
    Unbanned {
        /// The peer.
        peer_id: String,
    },
}

/// A package as an event tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEvent {
    /// Full id.
    pub id: String,
    /// The publisher id.
    pub publisher: String,
    /// The package name.
    pub name: String,
    /// The latest version; empty where there is none.
    pub version: String,
    /// Number of the newest entry of its log: a release, a yank, a deprecation, or the end of one.
    pub sequence: u64,
    /// The highest versions that are yanked, descending.
    #[serde(default)]
    pub yanked: Vec<String>,
    /// What its publisher says to those who use it, if it is deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
    /// The tags.
    pub tags: Vec<String>,
    /// The categories.
    pub categories: Vec<String>,
}

/// `explain`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// `[publisher/]name[@version]`.
    pub package: String,
}

/// `explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Full id with version.
    pub id: String,
    /// The content id of its tree.
    pub cid: String,
    /// Why the name means this publisher.
    pub why_publisher: String,
    /// Why this version.
    pub why_version: String,
    /// The keys that signed the entry which released it, in hex.
    pub signed_by: Vec<String>,
    /// The keys that signed the newest state of the package, in hex.
    #[serde(default)]
    pub head_signed_by: Vec<String>,
    /// The chain of key documents that makes those keys count, from the first to the current one.
    pub key_chain: Vec<ExplainedKeys>,
    /// Number of the newest entry of the log.
    pub sequence: u64,
    /// When its publisher changed it last.
    pub released_at: String,
    /// When its publisher last confirmed that this is its newest state; none where this node knows of no such word.
    pub confirmed_at: Option<String>,
    /// By when the next confirmation is promised.
    pub next_by: Option<String>,
    /// The same in words.
    pub freshness: String,
    /// Whether its publisher signed two different states for one place.
    pub frozen: bool,
    /// Whether two chains of its publisher's keys contradict each other.
    #[serde(default)]
    pub keys_disputed: bool,
    /// Where it is installed here.
    pub installed_at: Vec<String>,
    /// The peers that blocks of it came from, as this node counted.
    pub served_by: Vec<ExplainedPeer>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// One key document of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedKeys {
    /// Its number.
    pub n: u64,
    /// When it was made.
    pub created: String,
    /// The keys that release, as fingerprints.
    pub keys: Vec<String>,
    /// How many of them must sign.
    pub threshold: u32,
    /// How many keys it revoked.
    pub revoked: usize,
}

/// A peer that served blocks of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPeer {
    /// The peer.
    pub peer_id: String,
    /// Bytes of blocks that it sent, all verified.
    pub bytes: u64,
    /// When it last did.
    pub time: String,
    /// How the retrieval from it ended.
    pub outcome: String,
}
