//! What is to be simulated: a file in TOML, read strictly.
//!
//! A key that is not known is refused with its line and the nearest one that is, and so is a name that stands for nothing: a
//! misspelt fault must not pass as a run without one. Nothing is drawn here; [`crate::plan`] does that.
//!
//! `sources` joins a file with those that it extends and chooses the variant, `document` is the file as it stands, and
//! `topology`, `access`, `workload` and `breaking` turn its parts into what is declared here, and in `steps`, `faults` and `scripts`; `swarm`
//! leaves some of it to the seed. [`regions`] has real round-trip times.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ggen_marketplace::config::Partial;
pub use ggen_marketplace::config::{Role, Topology};

use crate::{engine::Engine, ledger::Ended, virtualise::clocks::Shift};

mod access;
mod breaking;
mod document;
mod faults;
mod problem;
pub mod regions;
mod scripts;
mod sources;
mod steps;
mod swarm;
mod topology;
mod workload;

pub use self::{
    access::{Access, Accesses, Before, Nat, Share},
    faults::{Fault, FaultKind, Lasts, Ways},
    scripts::{Flood, Script, ScriptKind},
    steps::{Action, Filter, Step},
    swarm::Swarm,
};

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
    /// How hosts are connected, as far as something is said of more than one.
    pub accesses: Accesses,
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
    /// How many of the faults and adversaries are in a run.
    pub swarm: Swarm,
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
    /// What it gains in an hour, or loses.
    pub drift: Shift,
    /// How it is connected, as far as something is said of it alone.
    pub access: Access,
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

#[cfg(test)]
mod tests;
