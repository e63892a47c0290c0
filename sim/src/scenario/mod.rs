//! What is to be simulated: a file in TOML, read strictly.
//!
//! A key that is not known is refused with its line and the nearest one that is, and so is a name that stands for nothing: a
//! misspelt fault must not pass as a run without one. Nothing is drawn here; [`crate::plan`] does that.
//!
//! `sources` joins a file with those that it extends and chooses the variant, `document` is the file as it stands, and
//! `topology`, `workload` and `breaking` turn its parts into what is declared here. [`regions`] has real round-trip times.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ggen_marketplace::config::Partial;
pub use ggen_marketplace::config::{Role, Topology};

use crate::{engine::Engine, ledger::Ended, virtualise::clocks::Shift};

mod breaking;
mod document;
mod problem;
pub mod regions;
mod sources;
mod topology;
mod workload;

/// Nodes of one scenario at most.
pub const NODES_MAX: usize = 1_000;
/// Simulated time of one scenario at most.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Stands for every node.
const EVERY_NODE: &str = "*";

/// A scenario, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The file's stem.
    pub name: String,
    /// Which variant of the file's matrix it is, such as `topology.nodes=16`; none where the file has none.
    pub variant: Option<String>,
    /// The seeds that it is run with where nothing else is asked.
    pub seeds: Vec<u64>,
    /// How long the run lasts, in simulated time.
    pub duration: Duration,
    /// What runs it.
    pub engine: Engine,
    /// How far the time moves between two looks at the world; turmoil's nodes move with it.
    pub tick: Duration,
    /// How far the sites are from each other.
    pub latency: Latency,
    /// Simulated hosts; nodes are dealt out to them in turn.
    pub sites: usize,
    /// How the nodes are laid out.
    pub topology: Topology,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Where names lead, to which node, at the start.
    pub names: BTreeMap<String, usize>,
    /// What some nodes hold from the beginning.
    pub preload: Option<Preload>,
    /// What users do, in order of time.
    pub steps: Vec<Step>,
    /// What breaks, in order of the file.
    pub faults: Vec<Fault>,
    /// What must hold besides what always must.
    pub expect: Expect,
}

/// Heads that some nodes hold from the beginning, of packages that nobody publishes in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preload {
    /// How many.
    pub heads: u32,
    /// Who holds them.
    pub nodes: BTreeSet<usize>,
}

/// How far sites are from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latency {
    /// Each link has one latency for the whole run, drawn from this range.
    Drawn(RangeInclusive<Duration>),
    /// Half of the round-trip time between the regions of the two sites, and a jitter that is drawn for each link.
    Regions,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name, such as `node-3`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Where it is, in a scenario with regions: one of [`regions::NAMES`].
    pub region: Option<String>,
    /// The nodes that it knows at its start.
    pub bootstrap: Vec<usize>,
    /// When it starts.
    pub start: Duration,
    /// When it stops in good order, permanently.
    pub leave: Option<Duration>,
    /// How it misbehaves.
    pub script: Option<Script>,
    /// Where it keeps what it writes.
    pub disk: DiskKind,
    /// By how much its wall clock is wrong from the start.
    pub clock: Shift,
    /// Whose publisher key it signs with, where that was made elsewhere.
    pub key_of: Option<String>,
    /// What its configuration says besides.
    pub config: Partial,
}

impl Node {
    /// The node whose publisher key it signs with.
    pub fn signer(&self) -> &str {
        self.key_of.as_ref().unwrap_or(&self.name)
    }
}

/// What a package depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The node whose user publishes it.
    pub node: usize,
    /// Its name.
    pub package: String,
    /// The range of versions that will do.
    pub range: String,
}

/// Where a node keeps what it writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskKind {
    /// In memory: nothing is lost, and a transaction is there as a whole or not at all.
    #[default]
    Memory,
    /// In files, on a disk that forgets what was not synced when the power fails.
    Files,
}

impl DiskKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Files];

    /// Its word in a scenario.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Files => "files",
        }
    }
}

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
    /// Stands before a record of the DHT, and hides what is newer than what it shows.
    Eclipse,
}

/// Something that a user does at a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// Where.
    pub node: usize,
    /// What.
    pub action: Action,
    /// Whether the run may hold in spite of its failure.
    pub may_fail: bool,
    /// The stable code with which it must fail.
    pub fails: Option<String>,
    /// The name of the share of steps that end as they must to which it counts; it may fail then.
    pub share: Option<String>,
}

/// What a user does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Publishes a package.
    Publish {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// Bytes of its content.
        bytes: u64,
        /// Words to find it by.
        tags: Vec<String>,
        /// Categories that it belongs to.
        categories: Vec<String>,
        /// What it depends on.
        needs: Vec<Need>,
    },
    /// Searches.
    Search {
        /// The words.
        text: String,
        /// What else the user asks for.
        filter: Filter,
        /// How many packages must be found, where that is said.
        finds: Option<usize>,
        /// The names of exactly those that must be found, in any order.
        names: Option<BTreeSet<String>>,
        /// How many must be hidden because nobody who provides them has the reputation asked for.
        hides: Option<usize>,
        /// What the node must say of why the result is not complete.
        says: Option<String>,
    },
    /// Installs a package by its bare name.
    Install {
        /// Its name.
        package: String,
        /// The version; the newest where none is named.
        version: Option<String>,
        /// Bytes that may come over the network at most.
        fetches_at_most: Option<u64>,
        /// Whether the node must say that its publisher is overdue, or that it is not.
        overdue: Option<bool>,
    },
    /// Gets the head of a package that was published before, through the DHT alone.
    Lookup {
        /// Its name.
        package: String,
    },
    /// Dials a node and fills the routing table from it.
    Bootstrap {
        /// The node.
        to: usize,
    },
    /// Starts the node.
    Join,
    /// Stops the node in good order.
    Leave,
}

/// What a search asks for besides words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Any of these categories.
    pub categories: Vec<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Any of the tags is enough.
    pub any_tag: bool,
    /// Results at most.
    pub limit: Option<usize>,
    /// Only what somebody of this reputation provides.
    pub min_reputation: Option<f64>,
}

/// Something that breaks, and is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What its draws are keyed by: its name, or else what the file says of it. It stays when another fault is taken away.
    pub key: String,
    /// What breaks.
    pub kind: FaultKind,
    /// When, the first time.
    pub at: RangeInclusive<Duration>,
    /// How long.
    pub lasts: Lasts,
    /// How often.
    pub times: u32,
    /// From one time to the next.
    pub every: Duration,
    /// The nodes concerned, or those that they are drawn from.
    pub nodes: BTreeSet<usize>,
    /// How many of them are drawn, each time again; all where it is not said.
    pub pick: Option<usize>,
    /// A step that publishes a package: of the nodes, those nearest to its record are picked, and nothing is drawn.
    pub nearest_to: Option<usize>,
}

/// How long something stays broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lasts {
    /// Until then.
    Until(Duration),
    /// So long.
    For(RangeInclusive<Duration>),
    /// To the end of the run.
    Ever,
}

/// What breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing passes between these sites and the others, and what is in progress is lost.
    Partition(Ways),
    /// Nothing passes between any of these sites and any other site.
    Isolate(Ways),
    /// As an isolation that comes and goes.
    Flapping {
        /// How long the links stand.
        up: Duration,
        /// How long they are cut.
        down: Duration,
    },
    /// The links of these sites take longer.
    Slow {
        /// By how much; drawn for each link.
        by: RangeInclusive<Duration>,
    },
    /// What is sent over the links of these sites is kept back, and delivered at once in the end.
    Hold,
    /// Segments on the links of these sites are lost, and sent again.
    Lossy {
        /// How many of a hundred.
        percent: u64,
    },
    /// The links of these sites carry no more than this, each way.
    Throttle {
        /// Bytes a second.
        bytes_per_second: u64,
    },
    /// The sites are cut off one after another, and come back in another order.
    SwizzleClog,
    /// The sites stop at once, and start again with what they had committed.
    Crash {
        /// Whether they find their disk again.
        disk: bool,
    },
    /// As a crash, but nobody is told: the peers are left with connections to nobody.
    PowerLoss {
        /// Whether they find their disk again.
        disk: bool,
    },
    /// The nodes stop in good order, and start again.
    Restart {
        /// Whether they find their disk again.
        disk: bool,
    },
    /// The nodes start then, and not before.
    MassJoin {
        /// Within this time, each at a moment of its own.
        spread: Duration,
    },
    /// The nodes stop in good order.
    MassLeave {
        /// Within this time, each at a moment of its own.
        spread: Duration,
    },
    /// The nodes come and go.
    Churn {
        /// Half of their lives are shorter than this.
        median: Duration,
        /// How long they are away, on average.
        away: Duration,
    },
    /// The wall clocks of these sites are stepped; the monotonic ones go on.
    Clock {
        /// By how much; drawn for each site.
        by: RangeInclusive<Duration>,
        /// Back in time, and not ahead.
        is_back: bool,
    },
    /// A name leads to this node, and no longer to another one.
    NameMoves {
        /// The name.
        name: String,
    },
}

/// Which ways are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ways {
    /// Both.
    #[default]
    Both,
    /// What these sites send does not arrive.
    Out,
    /// What others send to these sites does not arrive.
    In,
}

/// What must hold, besides what always must.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// Whether all catalogues must be the same at the end.
    pub catalogues_agree: bool,
    /// How long after the last fault was mended, and the last package published, they may take.
    pub catalogues_agree_within: Option<Duration>,
    /// Bounds of metrics.
    pub thresholds: Vec<Threshold>,
}

/// A bound of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Its name.
    pub metric: String,
    /// What it may be at most.
    pub at_most: Option<f64>,
    /// What it must be at least.
    pub at_least: Option<f64>,
}

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that cannot be.
    #[error("{path}:{line}: {what}", path = .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from one.
        line: usize,
        /// What is wrong, and where it is known, what was meant.
        what: String,
    },
    /// The file has no variant of that name.
    #[error("{path} has no variant `{name}`{nearest}", path = .path.display())]
    Variant {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// What was meant, as the end of a sentence.
        nearest: String,
    },
}

impl Scenario {
    /// Reads and checks a file; the first variant where it has a matrix.
    ///
    /// # Errors
    /// Where it cannot be read, or does not make sense.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_variant(path, None)
    }

    /// Reads and checks one variant of a file, named as [`Self::variants`] does or by what is between the brackets; the first
    /// where no name is given.
    ///
    /// # Errors
    /// As [`Self::read`], and [`Error::Variant`].
    pub fn read_variant(path: &Path, variant: Option<&str>) -> Result<Self, Error> {
        let sources = sources::Sources::read(path)?;
        document::scenario(&sources, variant)
    }

    /// The names of a file's variants, such as `mesh[topology.nodes=16]`; only the file's stem where it has no matrix.
    ///
    /// # Errors
    /// As [`Self::read`], for what stands in the matrix.
    pub fn variants(path: &Path) -> Result<Vec<String>, Error> {
        let sources = sources::Sources::read(path)?;
        let names =
            sources.variants()?.into_iter().map(|variant| full_name(sources.name(), variant.name.as_deref()));
        Ok(names.collect())
    }

    /// One variant of a file as a table, with what it extends; it is parsed, and not checked.
    ///
    /// # Errors
    /// As [`Self::read_variant`], for the syntax.
    pub fn table(path: &Path, variant: Option<&str>) -> Result<toml::Table, Error> {
        document::table(&sources::Sources::read(path)?, variant)
    }

    /// Checks the text of the file `path`, of which the first variant.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        document::scenario(&sources::Sources::parse(path, text.to_owned())?, None)
    }

    /// Its name with the variant, such as `mesh[topology.nodes=16]`.
    pub fn full_name(&self) -> String {
        full_name(&self.name, self.variant.as_deref())
    }

    /// What is wrong with how a step ended, where something is, as [`Step::shortcoming`] says; and besides, where it installed
    /// something that none of the steps published as this package, or as the version that it names, or where it is a lookup of a
    /// share and got something older than an earlier step published.
    pub(crate) fn shortcoming(&self, number: usize, ended: &BTreeMap<usize, Ended>) -> Option<String> {
        let step = &self.steps[number];
        if let Some(why) = step.shortcoming(ended.get(&number)) {
            return Some(why);
        }
        if let Some(why) = self.is_outdated(step, ended.get(&number), ended) {
            return Some(why);
        }
        let (Action::Install { package, version, .. }, Some(Ended::Installed { id, cid, .. })) =
            (&step.action, ended.get(&number))
        else {
            return None;
        };
        let steps = self.steps.iter().enumerate();
        let publishes = |action: &Action| {
            matches!(action, Action::Publish { package: it, version: of, .. }
                if it == package && version.as_ref().is_none_or(|version| version == of))
        };
        let mut published = steps.filter(|(_, step)| publishes(&step.action)).map(|(it, _)| ended.get(&it));
        let is_release = published.any(|published| match published {
            Some(Ended::Published { id: of, cid: released, .. }) => of == id && released == cid,
            // It may be published all the same; what it is then, the judge knows.
            _ => true,
        });
        let named = version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        (!is_release).then(|| format!("installed {cid} of {id}, which is no release of {package}{named}"))
    }

    /// What is wrong with a lookup of a share that got something old. Any other is judged by what had been published at the moment
    /// that it began, and one that is old is a violation there; of a share, some may be.
    fn is_outdated(
        &self,
        step: &Step,
        got: Option<&Ended>,
        ended: &BTreeMap<usize, Ended>,
    ) -> Option<String> {
        let (Some(_), Some(Ended::LookedUp { id, sequence })) = (&step.share, got) else { return None };
        let earlier = self.steps.iter().enumerate().filter(|(_, it)| it.at < step.at);
        let newest = earlier.filter_map(|(number, _)| match ended.get(&number) {
            Some(Ended::Published { id: of, sequence, .. }) if of == id => Some(*sequence),
            _ => None,
        });
        let newest = newest.max().filter(|newest| sequence < newest)?;
        Some(format!("got {id} at {sequence}, and it had come to {newest}"))
    }

    /// The site of a node.
    pub fn site_of(&self, node: usize) -> usize {
        node % self.sites
    }

    /// The nodes of a site.
    pub fn nodes_at(&self, site: usize) -> impl Iterator<Item = usize> {
        (site..self.nodes.len()).step_by(self.sites)
    }
}

fn full_name(name: &str, variant: Option<&str>) -> String {
    variant.map_or_else(|| name.to_owned(), |variant| format!("{name}[{variant}]"))
}

impl ScriptKind {
    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CorruptBlocks => "corrupt-blocks",
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
            Self::Eclipse => "eclipse",
        }
    }
}

impl Step {
    /// What is wrong with how the step ended by itself, where something is; `None` for the end of one that has not ended.
    fn shortcoming(&self, ended: Option<&Ended>) -> Option<String> {
        match (ended, &self.fails, &self.action) {
            (None, ..) => Some("did not end".to_owned()),
            (Some(Ended::Failed { code, leaves_files: true, .. }), ..) => {
                Some(format!("failed with {code}, and left files behind"))
            }
            (Some(Ended::Failed { code, .. }), Some(fails), _) if code == fails => None,
            (Some(Ended::Failed { code, message, .. }), ..) => Some(format!("failed with {code}: {message}")),
            (Some(_), Some(fails), _) => Some(format!("did not fail with {fails}")),
            (Some(found @ Ended::Found { .. }), _, Action::Search { .. }) => self.action.falls_short(found),
            (Some(Ended::Installed { id, .. }), _, Action::Install { package, .. })
                if id.rsplit('/').next() != Some(package.as_str()) =>
            {
                Some(format!("installed {id}, and not {package}"))
            }
            (
                Some(Ended::Installed { fetched, .. }),
                _,
                Action::Install { fetches_at_most: Some(most), .. },
            ) if fetched > most => Some(format!("fetched {fetched} bytes, and not at most {most}")),
            (Some(Ended::Installed { overdue, .. }), _, Action::Install { overdue: Some(expected), .. })
                if overdue != expected =>
            {
                Some(match expected {
                    true => "did not say that its publisher is overdue".to_owned(),
                    false => "said that its publisher is overdue, who is not".to_owned(),
                })
            }
            (Some(Ended::Bootstrapped { reached: 0 }), ..) => Some("reached nobody".to_owned()),
            _ => None,
        }
    }
}

impl Action {
    /// The name of the package that is published, where one is.
    pub fn published(&self) -> Option<&str> {
        match self {
            Self::Publish { package, .. } => Some(package),
            _ => None,
        }
    }

    /// What is wrong with what a search found, where something is.
    fn falls_short(&self, found: &Ended) -> Option<String> {
        let (Self::Search { finds, names, hides, says, .. }, Ended::Found { ids, hidden, because }) =
            (self, found)
        else {
            return None;
        };
        let named: BTreeSet<String> =
            ids.iter().filter_map(|id| id.rsplit('/').next()).map(str::to_owned).collect();
        let said = because.join("; ");
        if let Some(finds) = finds.filter(|finds| ids.len() != *finds) {
            return Some(format!("found {} packages instead of {finds}", ids.len()));
        }
        if let Some(names) = names.as_ref().filter(|names| **names != named) {
            return Some(format!("found {named:?} instead of {names:?}"));
        }
        if let Some(hides) = hides.filter(|hides| hidden != hides) {
            return Some(format!("hid {hidden} packages instead of {hides}"));
        }
        let says = says.as_ref().filter(|says| !said.contains(says.as_str()))?;
        Some(format!("said {said:?}, and not {says:?}"))
    }
}

/// For people.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { package, .. } => write!(f, "publish {package}"),
            Self::Search { text, .. } => write!(f, "search {text:?}"),
            Self::Install { package, .. } => write!(f, "install {package}"),
            Self::Lookup { package } => write!(f, "look up {package}"),
            Self::Bootstrap { .. } => f.write_str("bootstrap"),
            Self::Join => f.write_str("join"),
            Self::Leave => f.write_str("leave"),
        }
    }
}

impl FaultKind {
    /// The word of the file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Isolate(_) => "isolate",
            Self::Flapping { .. } => "flapping",
            Self::Slow { .. } => "slow",
            Self::Hold => "hold",
            Self::Lossy { .. } => "lossy",
            Self::Throttle { .. } => "throttle",
            Self::SwizzleClog => "swizzle-clog",
            Self::Crash { .. } => "crash",
            Self::PowerLoss { .. } => "power-loss",
            Self::Restart { .. } => "restart",
            Self::MassJoin { .. } => "mass-join",
            Self::MassLeave { .. } => "mass-leave",
            Self::Churn { .. } => "churn",
            Self::Clock { .. } => "clock",
            Self::NameMoves { .. } => "name-moves",
        }
    }

    /// Whether it concerns whole sites, not single nodes of one.
    pub fn is_of_sites(&self) -> bool {
        !matches!(
            self,
            Self::Restart { .. }
                | Self::MassJoin { .. }
                | Self::MassLeave { .. }
                | Self::Churn { .. }
                | Self::NameMoves { .. }
        )
    }
}

#[cfg(test)]
mod tests;
