//! What a search finds, and what is known of a package.

use serde::{Deserialize, Serialize};

/// `search`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchRequest {
    /// Words, each of which may be the beginning of one, phrases in quotation marks, and `-word`, `tag:`, `category:`, `publisher:`.
    /// Empty lists by recency.
    #[serde(default)]
    pub text: String,
    /// Any of these categories.
    #[serde(default)]
    pub categories: Vec<String>,
    /// All of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Any of the tags is enough.
    #[serde(default)]
    pub any_tag: bool,
    /// Results at most; 20 where not given.
    pub limit: Option<usize>,
    /// Results to pass over.
    #[serde(default)]
    pub offset: usize,
    /// Only packages with a provider of at least this reputation.
    pub min_reputation: Option<f64>,
    /// Seconds for asking others; 5 where not given.
    pub timeout_secs: Option<f64>,
}

/// `search`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchResults {
    /// What was found, best first.
    pub packages: Vec<PackageInfo>,
    /// Matches before `limit` and `offset`, without those that were found to be hidden.
    pub total: usize,
    /// Whether every connected peer's heads were read and every provider lookup ended in time.
    pub complete: bool,
    /// Why the result is not complete, one reason a line.
    pub incomplete_because: Vec<String>,
    /// Matches hidden because no provider has the reputation asked for.
    pub hidden_by_reputation: usize,
    /// Peers connected now.
    pub connected_peers: usize,
    /// Heads in the index.
    pub indexed: usize,
    /// When the newest head of the index was received.
    pub index_time: Option<String>,
    /// Whether more match than `total`, which is as far as they are counted.
    #[serde(default)]
    pub more: bool,
    /// The text that was searched for in place of the one asked for, which holds a word that is found nowhere.
    #[serde(default)]
    pub corrected: Option<String>,
    /// The text that was probably meant, where the one asked for is found, but hardly anywhere.
    #[serde(default)]
    pub did_you_mean: Option<String>,
    /// What in the query probably does not mean what it looks like.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One package of a search.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PackageInfo {
    /// Full id: `<publisher>/<name>`.
    pub id: String,
    /// The publisher id.
    pub publisher: String,
    /// The package name.
    pub name: String,
    /// The latest stable version, or the latest pre-release where there is no stable one.
    pub version: String,
    /// The description.
    pub description: String,
    /// The licence, as an SPDX expression.
    pub license: Option<String>,
    /// The tags.
    pub tags: Vec<String>,
    /// The categories.
    pub categories: Vec<String>,
    /// The content id of the tree.
    pub cid: String,
    /// Bytes of all files.
    pub size: u64,
    /// Peer ids of those who provide the tree.
    pub providers: Vec<String>,
    /// The best reputation among the providers; 1.0 where there is no evidence, as for any new peer.
    pub reputation: f64,
    /// When the head was signed.
    pub updated: String,
    /// What a person should know before installing: checks skipped, yanked, equivocation.
    pub notes: Vec<String>,
    /// What to use in its place, where its publisher says that it should no longer be used.
    #[serde(default)]
    pub deprecated: Option<String>,
    /// Whether two chains of its publisher's keys contradict each other, so that nothing new of it is installed.
    #[serde(default)]
    pub keys_disputed: bool,
    /// How fresh it is.
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// How fresh what is known of a package is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// When its publisher changed it last: a release, a withdrawal, or another entry of its log. Of one version, when that was released;
    /// empty where that is not known here.
    #[serde(default)]
    pub released_at: String,
    /// When its publisher said last that this is its newest state; none where that is not known.
    #[serde(default)]
    pub confirmed_at: Option<String>,
    /// By when its publisher promised to say so again.
    #[serde(default)]
    pub next_by: Option<String>,
    /// Whether its publisher should have said so again by now, or confirmed another state.
    #[serde(default)]
    pub overdue: bool,
    /// The same in words.
    #[serde(default)]
    pub freshness: String,
    /// Nodes of the DHT that know nothing newer, where they were asked.
    #[serde(default)]
    pub newest_of_peers: Option<usize>,
    /// In how many networks these are.
    #[serde(default)]
    pub newest_of_networks: Option<usize>,
}

/// `info`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// What a search shows.
    #[serde(flatten)]
    pub package: PackageInfo,
    /// Every version, ascending, with what is known of it.
    pub versions: Vec<VersionInfo>,
    /// Sequence of the newest log entry.
    pub sequence: u64,
    /// Authors, from the manifest, where it is here.
    pub authors: Vec<String>,
    /// Repository, from the manifest, where it is here.
    pub repository: Option<String>,
    /// Dependencies: full id to version requirement.
    pub dependencies: std::collections::BTreeMap<String, String>,
    /// Where it is installed on this machine.
    pub installed_at: Vec<String>,
    /// Whether this publisher is the one pinned for the bare name.
    pub pinned: bool,
}

/// One version of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// The version.
    pub version: String,
    /// The content id of its tree.
    pub cid: String,
    /// Bytes of all files.
    pub size: u64,
    /// Whether its publisher yanked it, or deleted the package.
    pub yanked: bool,
    /// Why it was yanked, where that was said.
    #[serde(default)]
    pub yank_reason: Option<String>,
    /// When it was released.
    pub released: String,
}
