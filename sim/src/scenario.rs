//! What is to be simulated: a file in TOML, read strictly.
//!
//! A key that is not known is refused with its line and the nearest one that is, and so is a name that stands for nothing: a
//! misspelt fault must not pass as a run without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

/// Nodes of one scenario at most.
pub const NODES_MAX: usize = 1_000;
/// Simulated time of one scenario at most.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a scenario file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the content of one package at most.
const PACKAGE_BYTES_MAX: u64 = 64 << 20;
/// Stands for every node.
const EVERY_NODE: &str = "*";

/// A scenario, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The file's stem.
    pub name: String,
    /// How long the run lasts, in simulated time.
    pub duration: Duration,
    /// How far turmoil moves the time at once.
    pub tick: Duration,
    /// From which the latency of each link is drawn.
    pub latency: RangeInclusive<Duration>,
    /// Simulated hosts; nodes are dealt out to them in turn.
    pub sites: usize,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What users do, in order of time.
    pub steps: Vec<Step>,
    /// What breaks, in order of the file.
    pub faults: Vec<Fault>,
    /// What must hold besides what always must.
    pub expect: Expect,
}

/// What must hold besides what always must.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// Whether all catalogues list what was published, at the end.
    pub catalogues_agree: bool,
    /// How soon after the last fault was mended.
    pub catalogues_agree_within: Option<Duration>,
    /// What is measured.
    pub thresholds: Vec<Threshold>,
}

/// A bound of something that is measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Threshold {
    /// Its name.
    pub metric: String,
    /// The most that it may be.
    pub at_most: Option<f64>,
    /// The least that it may be.
    pub at_least: Option<f64>,
}

/// How a node misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// In what way.
    pub kind: ScriptKind,
    /// From when; before that it is honest.
    pub at: Duration,
}

/// In what way a node misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptKind {
    /// Serves blocks with other bytes.
    CorruptBlocks,
    /// Claims to provide, and has nothing.
    Withhold,
    /// Takes requests and does not answer.
    Stall,
    /// Spreads heads that nobody signed.
    ForgeHeads,
    /// Spreads heads that were replaced.
    ReplayHeads,
    /// Announces more than anybody could.
    FloodGossip,
}

impl ScriptKind {
    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CorruptBlocks => "corrupt-blocks",
            Self::Withhold => "withhold",
            Self::Stall => "stall",
            Self::ForgeHeads => "forge-heads",
            Self::ReplayHeads => "replay-heads",
            Self::FloodGossip => "flood-gossip",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Adversary {
    node: String,
    script: ScriptKind,
    at: Span,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, such as `node-3`.
    pub name: String,
    /// Whether it answers DHT queries.
    pub dht_server: bool,
    /// The nodes that it knows at its start.
    pub bootstrap: Vec<usize>,
    /// When it starts.
    pub start: Duration,
    /// How it misbehaves.
    pub script: Option<Script>,
}

/// Something that a user does at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// Where.
    pub node: usize,
    /// What.
    pub action: Action,
    /// Whether the run may hold in spite of its failure.
    pub may_fail: bool,
}

/// What a user does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Publishes a package.
    Publish {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// Bytes of its content.
        bytes: u64,
    },
    /// Searches.
    Search {
        /// The words.
        text: String,
        /// How many packages must be found, where that is said.
        finds: Option<usize>,
    },
    /// Installs a package by its bare name.
    Install {
        /// Its name.
        package: String,
    },
}

/// Something that breaks, and is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What breaks.
    pub kind: FaultKind,
    /// When.
    pub at: Duration,
    /// When it is mended.
    pub until: Duration,
    /// The sites concerned.
    pub sites: BTreeSet<usize>,
}

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nothing passes between these sites and the others, and what is under way is lost.
    Partition,
    /// The sites stop at once, and start again with what they had committed.
    Crash,
}

impl FaultKind {
    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Crash => "crash",
        }
    }
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
}

impl Scenario {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Where it cannot be read, or does not make sense.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(failed(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"))));
        }
        Self::parse(path, &fs::read_to_string(path).map_err(failed)?)
    }

    /// Checks the text of the file `path`.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let invalid = |problem: Problem| Error::Invalid {
            path: path.to_owned(),
            line: line_of(text, problem.place),
            what: problem.what,
        };
        let document: Document = toml::from_str(text).map_err(|error| invalid(Problem::of(&error)))?;
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        document.check(name).map_err(invalid)
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

/// What is wrong, and where.
#[derive(Debug)]
struct Problem {
    place: Option<Range<usize>>,
    what: String,
}

impl Problem {
    fn at<T>(place: &Spanned<T>, what: impl Into<String>) -> Self {
        Self { place: Some(place.span()), what: what.into() }
    }

    fn of(error: &toml::de::Error) -> Self {
        let message = error.message();
        // serde names what it expected between backticks; the first is the key that it does not know.
        let mut quoted = message.split('`').skip(1).step_by(2);
        let nearest = message
            .starts_with("unknown ")
            .then(|| quoted.next())
            .flatten()
            .and_then(|unknown| nearest(unknown, quoted));
        let what = match nearest {
            Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
            None => message.to_owned(),
        };
        Self { place: error.span(), what }
    }
}

fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = known.map(|known| (strsim::damerau_levenshtein(unknown, known), known)).min()?;
    (near.0 <= unknown.len().div_ceil(2)).then(|| near.1.to_owned())
}

/// The line of a place, from one.
fn line_of(text: &str, place: Option<Range<usize>>) -> usize {
    let before = place.and_then(|place| text.as_bytes().get(..place.start)).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The file as it stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    duration: Spanned<Span>,
    #[serde(default = "one_millisecond")]
    tick: Spanned<Span>,
    latency: Spanned<Latency>,
    topology: Spanned<Topology>,
    #[serde(default)]
    workload: Vec<Doing>,
    #[serde(default)]
    faults: Vec<Breaking>,
    #[serde(default)]
    adversaries: Vec<Adversary>,
    #[serde(default)]
    expect: Expected,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    min: Span,
    max: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topology {
    kind: TopologyKind,
    nodes: usize,
    /// Of the nodes, in hub-and-spoke.
    hubs: Option<usize>,
    sites: Option<usize>,
    /// Until when the last node has started.
    #[serde(default)]
    started: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TopologyKind {
    Mesh,
    HubAndSpoke,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Doing {
    at: Spanned<Span>,
    node: Spanned<String>,
    #[serde(rename = "do")]
    what: Spanned<Verb>,
    package: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    bytes: Option<Spanned<u64>>,
    text: Option<Spanned<String>>,
    finds: Option<Spanned<usize>>,
    #[serde(default)]
    may_fail: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Publish,
    Search,
    Install,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Breaking {
    kind: FaultKind,
    at: Spanned<Span>,
    until: Spanned<Span>,
    nodes: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Expected {
    catalogues_agree: bool,
    catalogues_agree_within: Option<Span>,
    thresholds: Vec<Threshold>,
}

impl Default for Expected {
    fn default() -> Self {
        Self { catalogues_agree: true, catalogues_agree_within: None, thresholds: Vec::new() }
    }
}

/// A duration as people write it, such as `1m 30s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = humantime::parse_duration(&text);
        parsed.map(Self).map_err(|error| de::Error::custom(format!("\"{text}\" is no duration: {error}")))
    }
}

fn one_millisecond() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_millis(1)))
}

impl Document {
    fn check(self, name: String) -> Result<Scenario, Problem> {
        let duration = self.duration.get_ref().0;
        if duration.is_zero() || duration > DURATION_MAX {
            return Err(Problem::at(&self.duration, "a run lasts more than nothing and at most a day"));
        }
        let tick = self.tick.get_ref().0;
        // The timers of tokio count whole milliseconds.
        if tick.is_zero() || !tick.subsec_nanos().is_multiple_of(1_000_000) || tick > Duration::from_secs(1) {
            return Err(Problem::at(
                &self.tick,
                "a tick is a whole number of milliseconds, at most one second",
            ));
        }
        let Latency { min: Span(min), max: Span(max) } = *self.latency.get_ref();
        if min > max || max > Duration::from_secs(60) {
            return Err(Problem::at(&self.latency, "min is at most max, and max at most one minute"));
        }
        let mut nodes = nodes(&self.topology)?;
        for adversary in &self.adversaries {
            for node in nodes.iter_mut().filter(|node| node.name == adversary.node) {
                node.script = Some(Script { kind: adversary.script, at: adversary.at.0 });
            }
        }
        let sites = self.topology.get_ref().sites.unwrap_or(nodes.len());
        if sites == 0 || sites > nodes.len() {
            return Err(Problem::at(&self.topology, "there is at least one site, and a node at each"));
        }
        let names: BTreeMap<&str, usize> =
            nodes.iter().enumerate().map(|(index, node)| (node.name.as_str(), index)).collect();
        let mut steps = Vec::new();
        for doing in &self.workload {
            steps.extend(doing.steps(&names, duration)?);
        }
        check_packages(&self.workload, &steps)?;
        let faults = self.faults.iter().map(|fault| fault.check(&names, sites, duration));
        let faults = faults.collect::<Result<_, _>>()?;
        steps.sort_by_key(|step| step.at);
        Ok(Scenario {
            name,
            duration,
            tick,
            latency: min..=max,
            sites,
            steps,
            faults,
            expect: Expect {
                catalogues_agree: self.expect.catalogues_agree,
                catalogues_agree_within: self.expect.catalogues_agree_within.map(|it| it.0),
                thresholds: self.expect.thresholds,
            },
            nodes,
        })
    }
}

/// What is installed must be published somewhere.
fn check_packages(workload: &[Doing], steps: &[Step]) -> Result<(), Problem> {
    let published: BTreeSet<&str> = steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Publish { package, .. } => Some(package.as_str()),
            _ => None,
        })
        .collect();
    for doing in workload.iter().filter(|doing| *doing.what.get_ref() == Verb::Install) {
        if let Some(package) = &doing.package
            && !published.contains(package.get_ref().as_str())
        {
            return Err(unknown("package", package, published.into_iter()));
        }
    }
    Ok(())
}

fn nodes(topology: &Spanned<Topology>) -> Result<Vec<Node>, Problem> {
    let Topology { kind, nodes, hubs, started, .. } = *topology.get_ref();
    if nodes == 0 || nodes > NODES_MAX {
        return Err(Problem::at(topology, format!("there are 1 to {NODES_MAX} nodes")));
    }
    let hubs = match (kind, hubs) {
        (TopologyKind::Mesh, None) => 0,
        (TopologyKind::Mesh, Some(_)) => return Err(Problem::at(topology, "a mesh has no hubs")),
        (TopologyKind::HubAndSpoke, Some(hubs)) if hubs > 0 && hubs < nodes => hubs,
        (TopologyKind::HubAndSpoke, _) => {
            return Err(Problem::at(
                topology,
                "hub-and-spoke needs `hubs`, at least one and fewer than `nodes`",
            ));
        }
    };
    let node = |index: usize| {
        let (name, bootstrap) = match kind {
            // The first one, and one in the middle of those before: a tree of little depth, without anybody in charge.
            TopologyKind::Mesh => (format!("node-{index}"), mesh(index)),
            TopologyKind::HubAndSpoke if index < hubs => (format!("hub-{index}"), (0..index).collect()),
            TopologyKind::HubAndSpoke => (format!("spoke-{}", index - hubs), (0..hubs).collect()),
        };
        let dht_server = kind == TopologyKind::Mesh || index < hubs;
        let start = started.0.mul_f64(index as f64 / nodes as f64);
        // Whole milliseconds, as the timers have them.
        let start = Duration::from_millis(u64::try_from(start.as_millis()).unwrap_or(u64::MAX));
        Node { name, dht_server, bootstrap, start, script: None }
    };
    Ok((0..nodes).map(node).collect())
}

fn mesh(index: usize) -> Vec<usize> {
    let known: BTreeSet<usize> = if index == 0 { BTreeSet::new() } else { [0, index / 2].into() };
    known.into_iter().filter(|known| *known < index).collect()
}

fn unknown<'a>(what: &str, name: &Spanned<String>, known: impl Iterator<Item = &'a str>) -> Problem {
    let nearest =
        nearest(name.get_ref(), known).map_or_else(String::new, |it| format!("; did you mean `{it}`?"));
    Problem::at(name, format!("there is no {what} `{}`{nearest}", name.get_ref()))
}

fn moment(at: &Spanned<Span>, end: Duration) -> Result<Duration, Problem> {
    let moment = at.get_ref().0;
    if moment >= end { Err(Problem::at(at, "the run has ended by then")) } else { Ok(moment) }
}

impl Doing {
    fn steps(&self, names: &BTreeMap<&str, usize>, end: Duration) -> Result<Vec<Step>, Problem> {
        let at = moment(&self.at, end)?;
        let action = self.action()?;
        let nodes = match self.node.get_ref().as_str() {
            EVERY_NODE => (0..names.len()).collect(),
            name => match names.get(name) {
                Some(node) => vec![*node],
                None => return Err(unknown("node", &self.node, names.keys().copied())),
            },
        };
        let may_fail = self.may_fail;
        Ok(nodes.into_iter().map(|node| Step { at, node, action: action.clone(), may_fail }).collect())
    }

    fn action(&self) -> Result<Action, Problem> {
        let Self { what, package, version, bytes, text, finds, .. } = self;
        let needs = |key: &str| Problem::at(what, format!("this step needs `{key}`"));
        let verb = *what.get_ref();
        let strange: [(&str, Option<Range<usize>>, bool); 5] = [
            ("package", package.as_ref().map(Spanned::span), verb != Verb::Search),
            ("version", version.as_ref().map(Spanned::span), verb == Verb::Publish),
            ("bytes", bytes.as_ref().map(Spanned::span), verb == Verb::Publish),
            ("text", text.as_ref().map(Spanned::span), verb == Verb::Search),
            ("finds", finds.as_ref().map(Spanned::span), verb == Verb::Search),
        ];
        for (key, place, belongs) in strange {
            if place.is_some() && !belongs {
                return Err(Problem { place, what: format!("`{key}` does not belong to this step") });
            }
        }
        Ok(match verb {
            Verb::Publish => {
                let package = package.as_ref().ok_or_else(|| needs("package"))?;
                let bytes = bytes.as_ref().map_or(1_000, |bytes| *bytes.get_ref());
                if bytes > PACKAGE_BYTES_MAX {
                    return Err(Problem::at(
                        what,
                        format!("a package has at most {PACKAGE_BYTES_MAX} bytes"),
                    ));
                }
                checked_name(package)?;
                let version = version.as_ref().map_or_else(|| "1.0.0".to_owned(), |it| it.get_ref().clone());
                Action::Publish { package: package.get_ref().clone(), version, bytes }
            }
            Verb::Search => Action::Search {
                text: text.as_ref().ok_or_else(|| needs("text"))?.get_ref().clone(),
                finds: finds.as_ref().map(|finds| *finds.get_ref()),
            },
            Verb::Install => Action::Install {
                package: package.as_ref().ok_or_else(|| needs("package"))?.get_ref().clone(),
            },
        })
    }
}

/// The name becomes one of a folder, too.
fn checked_name(package: &Spanned<String>) -> Result<(), Problem> {
    let name = package.get_ref().parse::<ggen_marketplace::package::PackageName>();
    name.map(drop).map_err(|error| Problem::at(package, error.to_string()))
}

impl Breaking {
    fn check(&self, names: &BTreeMap<&str, usize>, sites: usize, end: Duration) -> Result<Fault, Problem> {
        let (at, until) = (moment(&self.at, end)?, moment(&self.until, end)?);
        if at >= until {
            return Err(Problem::at(&self.until, "a fault ends after it began"));
        }
        let mut nodes = BTreeSet::new();
        for name in &self.nodes {
            let Some(node) = names.get(name.get_ref().as_str()) else {
                return Err(unknown("node", name, names.keys().copied()));
            };
            nodes.insert(*node);
        }
        let broken: BTreeSet<usize> = nodes.iter().map(|node| node % sites).collect();
        let whole = (0..names.len()).filter(|node| broken.contains(&(node % sites))).count();
        if whole != nodes.len() {
            let what = "a fault concerns whole sites: name every node of a site, or none";
            return Err(Problem::at(&self.at, what));
        }
        let is_all = broken.len() == sites && self.kind == FaultKind::Partition;
        if broken.is_empty() || is_all {
            return Err(Problem::at(&self.at, "a fault concerns some nodes, and a partition leaves others"));
        }
        Ok(Fault { kind: self.kind, at, until, sites: broken })
    }
}

#[cfg(test)]
mod tests;
