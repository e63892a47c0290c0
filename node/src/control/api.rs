//! The shapes that cross the control socket, which are also what `--format json` prints.
//!
//! Additive only: a field never changes its name or meaning. Times are RFC 3339 in UTC, sizes are bytes, durations say
//! their unit in the name, ids are in their text form.

mod amend;
mod collect;
mod connections;
mod failure;
mod folders;
mod found;
mod keys;
mod peers;
mod plan;
mod project;
mod views;

use serde::{Deserialize, Serialize};

pub use self::connections::{PortMapping, Reachability};
pub use self::project::{
    AnyPath, Outdated, OutdatedPackage, OutdatedRequest, ProjectAction, ProjectBranch, ProjectChange,
    ProjectDone, ProjectPackage, ProjectRequest, ProjectTree, ProjectWhy,
};
pub use self::views::{
    BanRequest, BannedPeer, Bans, ExplainRequest, Explained, ExplainedKeys, ExplainedPeer, Happening,
    ListedEvent, NodeEvent, UnbanRequest, Unbanned,
};
pub use self::{
    amend::{AmendRequest, Amended, Change, QueuedChange, QueuedPackage},
    collect::{
        CollectRequest, Collected, CollectedItem, KeepAction, KeepRequest, KeptContent, KeptList,
        PartialInstall,
    },
    failure::{ErrorBody, Failure},
    folders::{InstallRequest, Installed, RemoveRequest, Removed},
    found::{Freshness, Info, PackageInfo, SearchRequest, SearchResults, VersionInfo},
    keys::{
        DisputedKeys, DisputedSide, KeyDocuments, KeyDocumentsRequest, KeysRenewed, Pin, ResolveRequest,
        Resolved, ResolvedBranch, ResolvedVersion, Trust, TrustAction, TrustRequest,
    },
    peers::{
        BootstrapRequest, Bootstrapped, DialResult, DisconnectRequest, Disconnected, PeerDetails, PeerEvent,
        PeerInfo, PeerInfoRequest, PeerList, PeerListRequest, RefusedPeer,
    },
    plan::{CancelRequest, Cancelled, Planned, PlannedFile},
};

/// Version of these shapes; every answer carries it as `schema_version`.
pub const SCHEMA_VERSION: u32 = 1;

/// An answer, with the version of its shape beside its own fields.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The answer.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Versioned<T> {
    /// Marks `body` with the current version.
    pub fn new(body: T) -> Self {
        Self { schema_version: SCHEMA_VERSION, body }
    }
}

/// One line of a streamed answer (newline-delimited JSON): any number of `progress`, then one `done` or `failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Step<T> {
    /// The work goes on.
    Progress(Progress),
    /// The work is done.
    Done {
        /// The answer.
        result: Versioned<T>,
    },
    /// The work failed.
    Failed(ErrorBody),
}

/// How far a piece of work is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, in a few words: `packing`, `storing`, `announcing`, `finding providers`, `fetching`, `writing`.
    pub phase: String,
    /// Units done.
    pub done: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
    /// What a unit is: `bytes`, `files`, `blocks`, `peers`.
    pub unit: String,
}

/// `status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// The node's peer id.
    pub peer_id: String,
    /// Version of the program.
    pub version: String,
    /// Process id of the node.
    pub pid: u32,
    /// State folder.
    pub home: String,
    /// Full addresses, each ending in `/p2p/<peer id>`.
    pub listen_addresses: Vec<String>,
    /// Addresses under which other peers say they see this node.
    pub external_addresses: Vec<String>,
    /// How others connect to this node.
    #[serde(flatten)]
    pub reachability: Reachability,
    /// Lines to copy, public addresses first: `--bootstrap <address>`, of a hub those of a spoke, `… --hub <address>`.
    pub bootstrap_lines: Vec<String>,
    /// Peers connected now.
    pub connected_peers: usize,
    /// Whether this node answers DHT queries.
    pub dht_server: bool,
    /// How the network is laid out: `mesh`, `hub-and-spoke` or `hybrid`.
    #[serde(default)]
    pub topology: String,
    /// What this node is in it: `peer`, `hub`, `spoke`, `permanent` or `ephemeral`.
    #[serde(default)]
    pub role: String,
    /// Peers in the routing table.
    pub routing_table_peers: usize,
    /// Peers per non-empty bucket of the routing table, nearest first.
    pub routing_table_buckets: Vec<usize>,
    /// DHT value records held for others and for ourselves.
    pub dht_records: usize,
    /// Seconds since the oldest of them was due to be renewed by this node; 0 where all were renewed in time.
    #[serde(default)]
    pub dht_renewal_lag_secs: u64,
    /// The announcement topic.
    pub packages_topic: String,
    /// Peers in this node's mesh of the topic.
    pub mesh_peers: usize,
    /// Peers known to be subscribed to the topic.
    pub topic_peers: usize,
    /// Packages published by this node.
    pub packages_published: usize,
    /// Verified heads in the index.
    pub packages_indexed: usize,
    /// Packages installed or published whose blocks this node provides.
    pub packages_provided: usize,
    /// Own heads not yet accepted by any other node.
    pub announcements_pending: usize,
    /// Versions that wait, unsigned, until they can be published, in the order in which they came.
    #[serde(default)]
    pub outbox: Vec<QueuedPackage>,
    /// Changes of own packages that wait, unsigned, such as a yank.
    #[serde(default)]
    pub changes: Vec<QueuedChange>,
    /// Bytes of packages that are sent in a second at most, as limits and schedule are now.
    #[serde(default)]
    pub upload_bytes_per_second: Option<u64>,
    /// Bytes of packages that are received in a second at most.
    #[serde(default)]
    pub download_bytes_per_second: Option<u64>,
    /// What interrupted installations left, the oldest first: the next one goes on from there.
    #[serde(default)]
    pub partial: Vec<PartialInstall>,
    /// Connected peers whose heads have been read completely.
    pub index_peers_complete: usize,
    /// Connected peers that serve heads.
    pub index_peers_total: usize,
    /// Bytes of blocks held.
    pub store_bytes: u64,
    /// Blocks held.
    pub store_blocks: u64,
    /// Bytes of blocks received since the start.
    pub bytes_received: u64,
    /// Bytes of blocks sent since the start.
    pub bytes_sent: u64,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// When a DHT bootstrap last succeeded.
    pub last_bootstrap: Option<String>,
    /// Addresses of the configuration at which another peer answered than they name.
    #[serde(default)]
    pub strangers: Vec<String>,
    /// What is wrong with the clock of this machine, as the peers or its own course say.
    #[serde(default)]
    pub clock_fault: Option<String>,
    /// `ok`, or `degraded` with the reasons in `warnings`.
    pub health: String,
    /// What needs attention.
    pub warnings: Vec<String>,
}

/// `publish`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The directory, absolute.
    pub path: String,
    /// Overrides the version of `gpack.toml`.
    pub version: Option<String>,
    /// Skips the local checks that do not concern form, hashes, signatures or secrets.
    #[serde(default)]
    pub skip_verify: bool,
    /// Publishes files that look as if they held secrets; never a key file of this program.
    #[serde(default)]
    pub allow_secrets: bool,
    /// Waits until other nodes hold the head, or the time ran out.
    #[serde(default)]
    pub wait: bool,
    /// With `wait`: other reachable nodes that have to say that they have all of the content before it returns.
    #[serde(default)]
    pub copies: usize,
    /// Name of the publisher key, where there are several.
    pub key: Option<String>,
    /// Seconds to wait for somebody who can be asked how far the log went, and with `wait` for other nodes to take the head, and for
    /// copies.
    pub timeout_secs: Option<u64>,
    /// Fails where the package cannot be signed now, instead of putting it into the outbox.
    #[serde(default)]
    pub no_queue: bool,
    /// A word of the client's own, by which it can cancel the publication; without one only by going away.
    #[serde(default)]
    pub ticket: String,
}

/// `publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Full id with version: `<publisher>/<name>@<version>`.
    pub id: String,
    /// The publisher id.
    pub publisher: String,
    /// The package name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The content id of the tree: its UnixFS directory CID.
    pub cid: String,
    /// SHA-256 of the signed manifest, in hex.
    pub sha256: String,
    /// Content id of the signed manifest.
    pub manifest: String,
    /// Bytes of all files.
    pub size: u64,
    /// Number of files.
    pub files: u64,
    /// Number of distinct blocks.
    pub blocks: u64,
    /// Sequence of the log entry; of one that is queued, the one that it would have as far as the log is known here.
    pub sequence: u64,
    /// Whether at least one other node holds or heard the head.
    pub announced: bool,
    /// DHT nodes that stored the head.
    pub dht_stored: usize,
    /// Peers that the announcement was sent to.
    pub announced_to: usize,
    /// Other reachable nodes that say that they have all of the content; only where it was waited for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<usize>,
    /// The same content was published, or queued, under this version before; nothing was changed.
    pub already_published: bool,
    /// It waits in the outbox, unsigned: until a node runs, and until it is known how far the log went elsewhere.
    pub queued: bool,
    /// The file of the publisher key, where this publication made it: the only one that can sign more of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_key: Option<String>,
    /// What the checks before publishing found, and what a later change would mend.
    pub warnings: Vec<String>,
}

/// `publish --drop`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRequest {
    /// What waits: `[publisher/]name[@version]`.
    pub package: String,
}

/// `publish --drop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Full id with version, as it waited.
    pub id: String,
    /// The content id of its tree; empty where a change waited.
    pub cid: String,
    /// The change that waited; none where it was a version.
    #[serde(default)]
    pub change: Option<Change>,
}

/// `list`: what is installed or published here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Packages, by id, version and place.
    pub packages: Vec<ListedPackage>,
    /// How many.
    pub total: usize,
    /// Yanks and deprecations that wait to be signed.
    #[serde(default)]
    pub changes: Vec<QueuedChange>,
}

/// One row of [`Listing`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPackage {
    /// Full id with version.
    pub id: String,
    /// The package name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The content id of the tree.
    pub cid: String,
    /// `published`, `queued` or `installed`.
    pub kind: String,
    /// Where it was installed, or published from.
    pub path: String,
    /// When.
    pub time: String,
    /// Bytes of all files.
    pub size: u64,
    /// What keeps it in the outbox, where it is queued; what is to be done, where a change of its project was cut off.
    #[serde(default)]
    pub why: String,
    /// A change of the project that it is installed in was cut off, or is in progress.
    #[serde(default)]
    pub interrupted: bool,
    /// Whether its publisher yanked it, as far as is known here.
    #[serde(default)]
    pub yanked: bool,
    /// What to use in place of the package, where its publisher says that it should no longer be used.
    #[serde(default)]
    pub deprecated: Option<String>,
    /// Its publisher signed two states for one place of its log, and has not resolved that.
    #[serde(default)]
    pub frozen: bool,
    /// Its content was withdrawn when its publisher resolved such a thing: it counts no more.
    #[serde(default)]
    pub withdrawn: bool,
    /// It was installed, and its folder is not there any more.
    #[serde(default)]
    pub gone: bool,
    /// It was installed, and its folder cannot be seen now: the drive is not mounted, or may not be looked at.
    #[serde(default)]
    pub out_of_sight: bool,
    /// How fresh the newest state of the package is that this node knows; empty where it knows none.
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// `verify`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Full id with version.
    pub id: String,
    /// The place that was checked.
    pub path: String,
    /// The content id that the signed manifest promises.
    pub cid: String,
    /// Whether everything matches, and its publisher did not withdraw it when it ended a double signing.
    pub ok: bool,
    /// Whether its publisher did.
    #[serde(default)]
    pub withdrawn: bool,
    /// Files checked.
    pub files: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// The folder is not there any more.
    #[serde(default)]
    pub gone: bool,
    /// The folder cannot be seen now: the drive is not mounted, or may not be looked at.
    #[serde(default)]
    pub out_of_sight: bool,
    /// Its project uses it, and its folder is not there.
    #[serde(default)]
    pub missing: bool,
    /// The project that was checked, where one was.
    #[serde(default)]
    pub project: Option<AnyPath>,
    /// A change of the project that it is installed in was cut off, or is in progress: nothing was compared.
    #[serde(default)]
    pub interrupted: bool,
    /// `gpack.lock` contradicts what was signed: the file is damaged, and no installation mends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contradicted: bool,
    /// The project has no `gpack.lock` yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lock_missing: bool,
    /// In what `gpack.lock` does not match `gpack.toml`, where something differs in the folders too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub misfits: Vec<String>,
    /// What is said of it beside that, such as that its package is frozen: one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What differs: one line each, `changed: a.txt`, `missing: b.txt`, `extra: c.txt`, `mode: d.sh`.
    pub differences: Vec<String>,
    /// The public key that signed, in hex.
    pub signed_by: String,
    /// The publisher id.
    pub publisher: String,
    /// Key documents from the genesis to the one that signed.
    pub key_path: Vec<String>,
    /// The other places where it is installed, where no folder was named; those that differ stand before those that do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Verified>,
}

/// `reload`: the configuration was read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys whose new values count from now on.
    pub applied: Vec<String>,
    /// Keys whose new values count after a restart.
    pub restart_needed: Vec<String>,
}

/// `stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Process id of the node that stops.
    pub pid: u32,
}

/// `info`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoRequest {
    /// `[publisher/]name[@version]`.
    pub package: String,
    /// Refuses a publisher that is overdue.
    #[serde(default)]
    pub fresh: bool,
    /// Refuses what was not confirmed for so many seconds.
    #[serde(default)]
    pub fresh_secs: Option<u64>,
}

/// `verify`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// `[publisher/]name[@version]`; empty for everything that is installed.
    #[serde(default)]
    pub package: String,
    /// The folder to check, absolute; where it was installed if not given.
    pub path: Option<String>,
    /// The directory of a project, absolute: its folders are compared with its lock file, and nothing else is checked.
    #[serde(default)]
    pub project: Option<AnyPath>,
}

/// `/livez` and `/readyz`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it is so.
    pub ok: bool,
}
