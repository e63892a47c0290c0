//! What came of a run.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{judge::Kind, trace::Checkpoint};

/// Version of the shape of a [`Report`]; fields are added, and never change.
pub const SCHEMA_VERSION: u32 = 1;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// Which variant of its matrix.
    pub variant: Option<String>,
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
    /// What had to hold.
    pub invariants: Vec<Invariant>,
    /// What broke.
    pub faults: Vec<FaultReport>,
    /// Counts, by name.
    pub metrics: BTreeMap<String, f64>,
    /// The hash after every thousand events.
    pub checkpoints: Vec<Checkpoint>,
}

/// Whether every invariant held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every one did.
    Pass,
    /// At least one did not.
    Fail,
}

/// Something that had to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invariant {
    /// Its name.
    pub name: &'static str,
    /// What kind of rule it is.
    pub kind: Kind,
    /// Whether it held.
    pub holds: bool,
    /// Where it did not, one sentence each.
    pub violations: Vec<String>,
}

/// What came of a fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultReport {
    /// What broke.
    pub kind: &'static str,
    /// What its draws are keyed by: its name, where it has one.
    pub name: String,
    /// When it broke first, in simulated seconds.
    pub from_secs: f64,
    /// When it was mended last, in simulated seconds; the end of the run where it was not.
    pub until_secs: f64,
    /// The nodes concerned.
    pub nodes: Vec<String>,
    /// From when to when it was broken, each time, in simulated seconds.
    pub windows: Vec<[f64; 2]>,
    /// How often it bit; what counts as a bite depends on its kind, and is said in `sim/README.md`.
    pub bites: usize,
}

impl Invariant {
    /// An invariant with what violates it.
    pub fn new(name: &'static str, kind: Kind, violations: Vec<String>) -> Self {
        Self { name, kind, holds: violations.is_empty(), violations }
    }
}

impl Verdict {
    /// The verdict on some invariants.
    pub fn of(invariants: &[Invariant]) -> Self {
        if invariants.iter().all(|invariant| invariant.holds) { Self::Pass } else { Self::Fail }
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
        };
        let variant = self.variant.as_ref().map_or_else(String::new, |variant| format!("[{variant}]"));
        writeln!(f, "{verdict}  {}{variant} with seed {}", self.scenario, self.seed)?;
        writeln!(
            f,
            "{} nodes at {} sites, {} simulated seconds in {:.1} s ({:.1} a second)",
            self.nodes,
            self.sites,
            self.simulated_secs,
            self.wall_secs,
            self.simulated_secs / self.wall_secs.max(f64::EPSILON)
        )?;
        writeln!(f, "trace {} over {} events", self.trace_hash, self.events)?;
        for fault in &self.faults {
            let FaultReport { kind, from_secs, until_secs, bites, .. } = fault;
            writeln!(f, "fault {kind} from {from_secs} s to {until_secs} s: bit {bites} times")?;
        }
        for Invariant { name, holds, violations, .. } in &self.invariants {
            writeln!(f, "{} {name}", if *holds { "holds   " } else { "VIOLATED" })?;
            for violation in violations {
                writeln!(f, "         {violation}")?;
            }
        }
        for (name, value) in &self.metrics {
            writeln!(f, "{value:>10} {name}")?;
        }
        if self.verdict == Verdict::Fail {
            let variant = self.variant.as_ref().map_or_else(String::new, |it| format!(" --variant '{it}'"));
            writeln!(
                f,
                "again: ggen-sim run scenarios/{}.toml{variant} --seed {}",
                self.scenario, self.seed
            )?;
        }
        Ok(())
    }
}
