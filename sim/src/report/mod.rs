//! What came of a run, and the forms in which it is told.
//!
//! [`Report`] is data, and the same for every form. None of the forms reads a clock or the environment: what differs from run
//! to run of one seed is the field [`Report::wall_secs`] alone.

mod html;
mod junit;
mod summary;
mod terminal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use html::{ComparedHtml, Html, SummaryHtml};
pub use junit::Junit;
pub use summary::{Failing, RunSummary, Summary, SummaryText};
pub use terminal::{Text, number};

use crate::{
    engine::Engine,
    judge::{self, Kind},
    reached::Markers,
    trace::Checkpoint,
};

/// Version of the shape of a [`Report`]; fields are added, and never change.
pub const SCHEMA_VERSION: u32 = 1;

/// The quantiles that become metrics of every distribution, with the end of their names.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario asks, where its header says so.
    #[serde(default)]
    pub question: Option<String>,
    /// The variant of the scenario, where it has several.
    #[serde(default)]
    pub variant: Option<String>,
    /// What ran it.
    #[serde(default)]
    pub engine: Engine,
    /// The seed.
    pub seed: u64,
    /// How many nodes there were.
    pub nodes: usize,
    /// On how many hosts.
    pub sites: usize,
    /// Whether every invariant held.
    pub verdict: Verdict,
    /// The hash over the trace.
    pub trace_hash: String,
    /// Events of the trace.
    pub events: u64,
    /// Simulated seconds.
    pub simulated_secs: f64,
    /// Real seconds that it took. It differs from run to run.
    pub wall_secs: f64,
    /// The command that repeats the run.
    #[serde(default)]
    pub again: String,
    /// What had to hold.
    pub invariants: Vec<Invariant>,
    /// The first violations of each that does not hold, with what led to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What broke.
    pub faults: Vec<FaultReport>,
    /// The nodes, in the order of their numbers.
    #[serde(default)]
    pub members: Vec<Member>,
    /// What users did, in order of time.
    #[serde(default)]
    pub steps: Vec<StepReport>,
    /// Pairs of nodes that had a connection at the end, the smaller number first.
    #[serde(default)]
    pub links: Vec<[usize; 2]>,
    /// Samples by name, which ends with their unit; smallest first.
    #[serde(default)]
    pub distributions: BTreeMap<String, Vec<f64>>,
    /// Numbers by name: counts, and the quantiles of every distribution.
    pub metrics: BTreeMap<String, f64>,
    /// How often each kind of thing happened, by the name of a marker.
    #[serde(default)]
    pub markers: Markers,
    /// The hash after every thousand events.
    pub checkpoints: Vec<Checkpoint>,
}

/// Whether every invariant held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every one did.
    Pass,
    /// At least one did not.
    Fail,
}

/// Something that had to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// Its name.
    pub name: String,
    /// What kind of rule it is.
    #[serde(default)]
    pub kind: Kind,
    /// Whether it held.
    pub holds: bool,
    /// Where it did not, one sentence each.
    pub violations: Vec<String>,
}

/// A violation, and what led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the invariant.
    pub rule: String,
    /// What is wrong.
    pub what: String,
    /// The node at which it is.
    pub node: Option<String>,
    /// The package that it is about: one of them, where there are several.
    #[serde(default)]
    pub package: Option<String>,
    /// When it was seen, in simulated seconds.
    #[serde(default)]
    pub at_secs: Option<f64>,
    /// When it was published as it should be, in simulated seconds.
    #[serde(default)]
    pub since_secs: Option<f64>,
    /// How it was at the node then, where that is known.
    #[serde(default)]
    pub scene: Option<Scene>,
}

impl Finding {
    /// What had happened just before, a line each.
    pub fn before(&self) -> &[String] {
        self.scene.as_ref().map_or(&[], |scene| &scene.before)
    }

    /// About what it is, and what the node knew then; a line each.
    pub fn told(&self) -> impl Iterator<Item = String> {
        [self.subject(), self.knew()].into_iter().flatten()
    }

    /// About what it is and since when, as one line; none where nothing of it is known.
    fn subject(&self) -> Option<String> {
        let seen = self.at_secs.map(|at| format!("seen after {at:.3} s"));
        let node = self.node.as_ref().map(|node| format!("at {node}"));
        let package = self.package.as_ref().map(|package| format!("package {package}"));
        let since = self.since_secs.map(|since| format!("published after {since:.3} s"));
        let known: Vec<String> = [node, package, since, seen].into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.join(", "))
    }

    /// What the node knew then, as one line; none where nobody looked.
    fn knew(&self) -> Option<String> {
        let scene = self.scene.as_ref()?;
        let peers = match scene.connected.as_slice() {
            [] => "it was connected with nobody".to_owned(),
            peers => format!("it was connected with {}", shortened(peers)),
        };
        Some(match scene.lists {
            Some(1) => format!("{peers}, and listed 1 package"),
            Some(lists) => format!("{peers}, and listed {lists} packages"),
            None => peers,
        })
    }
}

/// How it was at a node at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scene {
    /// With whom it was connected.
    pub connected: Vec<String>,
    /// How many packages it listed, where somebody looked.
    #[serde(default)]
    pub lists: Option<usize>,
    /// What had happened last at the node, and in the world; the newest last.
    pub before: Vec<String>,
}

/// What came of a fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// What broke.
    pub kind: String,
    /// When, in simulated seconds.
    pub from_secs: f64,
    /// When it was mended, in simulated seconds.
    pub until_secs: f64,
    /// How often it bit: connections that a partition cut, as either side saw them, or nodes that a crash stopped.
    pub bites: usize,
    /// What its draws are keyed by: its name, where it has one.
    #[serde(default)]
    pub name: String,
    /// The nodes concerned.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// When it was in effect, in simulated seconds: one pair, but for what is repeated.
    #[serde(default)]
    pub windows: Vec<[f64; 2]>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it is for in the topology.
    pub role: String,
    /// Its host.
    pub site: usize,
    /// Where it is, where that was said.
    #[serde(default)]
    pub region: Option<String>,
    /// From when to when it ran, in simulated seconds.
    pub lives: Vec<[f64; 2]>,
}

/// What came of something that a user did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its number in the scenario.
    pub number: usize,
    /// The node.
    pub node: usize,
    /// What was done, such as `install word`.
    pub what: String,
    /// When, in simulated seconds.
    pub at_secs: f64,
    /// How long it took, in simulated seconds; none where it did not end.
    pub took_secs: Option<f64>,
    /// How it ended.
    pub outcome: Outcome,
    /// What came of it, such as `found 3`, or a stable code of failure.
    pub detail: String,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should.
    Succeeded,
    /// Not as it should, and it had to.
    Failed,
    /// Not as it should, which the scenario allows.
    Tolerated,
    /// Not at all.
    Unfinished,
}

/// Some names, and how many more there are.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0..=SHOWN => names.join(", "),
        all => format!("{} and {} more", names[..SHOWN].join(", "), all - SHOWN),
    }
}

impl Invariant {
    /// An invariant with what violates it.
    pub fn new(name: impl Into<String>, kind: Kind, violations: Vec<String>) -> Self {
        Self { name: name.into(), kind, holds: violations.is_empty(), violations }
    }
}

impl Verdict {
    /// The verdict on some invariants.
    pub fn of(invariants: &[Invariant]) -> Self {
        if invariants.iter().all(|invariant| invariant.holds) { Self::Pass } else { Self::Fail }
    }
}

impl Report {
    /// The exit code of the run: 0, or that of the worst invariant that did not hold.
    pub fn exit_code(&self) -> u8 {
        judge::exit_code(&self.invariants)
    }
}

/// The value below which the share `q` of the samples lies, by nearest rank; none of no samples. They are sorted.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The quantiles of distributions, as metrics.
pub fn quantiles(distributions: &BTreeMap<String, Vec<f64>>) -> BTreeMap<String, f64> {
    let each = distributions.iter().flat_map(|(name, samples)| {
        QUANTILES
            .into_iter()
            .filter_map(move |(end, q)| Some((format!("{name}_{end}"), quantile(samples, q)?)))
    });
    each.collect()
}

#[cfg(test)]
pub(crate) mod tests;
