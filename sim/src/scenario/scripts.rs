//! How adversaries misbehave.

use std::time::Duration;

/// How a node misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// In what way.
    pub kind: ScriptKind,
    /// From when; before that it is honest.
    pub at: Duration,
    /// How much of it, where it floods.
    pub flood: Flood,
    /// A step that publishes the package whose record it stands before, where it does.
    pub target: Option<usize>,
}

/// How much a flood brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// Announcements, or records, a second.
    pub per_second: u64,
    /// For how long.
    pub lasts: Duration,
}

impl Default for Flood {
    /// Five times what is looked at of one neighbour, whose budget is spent after less than three of the ten seconds.
    fn default() -> Self {
        Self { per_second: 500, lasts: Duration::from_secs(10) }
    }
}

/// In what way a node misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptKind {
    /// Serves blocks with other bytes.
    CorruptBlocks,
    /// Does so, and takes another id whenever somebody has sent it away.
    Whitewash,
    /// Claims to provide, and has nothing.
    Withhold,
    /// Gives blocks, and no logs.
    WithholdLogs,
    /// Says that it has blocks that it has not.
    LieOfBlocks,
    /// Takes requests and does not answer.
    Stall,
    /// Spreads heads that nobody signed.
    ForgeHeads,
    /// Spreads heads that were replaced.
    ReplayHeads,
    /// Announces more than anybody could.
    FloodGossip,
    /// Says who it is more often than anybody needs to know.
    IdentifyFlood,
    /// Stores the same records in the DHT again and again.
    RecordFlood,
    /// Reads the catalogues of others from the beginning again and again.
    ReadFlood,
    /// Says that it speaks another major version.
    AnotherMajor,
    /// Has numbers that come to their end and begin again.
    WrapSequences,
    /// Says other things under the same name.
    Impostor,
    /// Signs a package twice, replaces its key, and resolves it.
    SignTwice,
    /// Signs a package twice, and tries to resolve it with a stolen release key.
    ResolveStolen,
    /// Replaces a key that somebody stole, twice: as its owner and as the thief.
    RotateTwice,
    /// Takes in who wants to be reached through it, and carries nothing; says that it is where nobody is.
    FalseRelay,
    /// Stands before a record of the DHT, and hides what is newer than what it shows.
    Eclipse,
}

impl ScriptKind {
    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CorruptBlocks => "corrupt-blocks",
            Self::Whitewash => "whitewash",
            Self::Withhold => "withhold",
            Self::WithholdLogs => "withhold-logs",
            Self::LieOfBlocks => "lie-of-blocks",
            Self::Stall => "stall",
            Self::ForgeHeads => "forge-heads",
            Self::ReplayHeads => "replay-heads",
            Self::FloodGossip => "flood-gossip",
            Self::IdentifyFlood => "identify-flood",
            Self::RecordFlood => "record-flood",
            Self::ReadFlood => "read-flood",
            Self::AnotherMajor => "another-major",
            Self::WrapSequences => "wrap-sequences",
            Self::Impostor => "impostor",
            Self::SignTwice => "sign-twice",
            Self::ResolveStolen => "resolve-stolen",
            Self::RotateTwice => "rotate-twice",
            Self::FalseRelay => "false-relay",
            Self::Eclipse => "eclipse",
        }
    }
}
