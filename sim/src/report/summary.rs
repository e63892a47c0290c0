//! What came of many runs.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use anstyle::{AnsiColor, Style};
use serde::{Deserialize, Serialize};

use super::{SCHEMA_VERSION, number, quantile};
use crate::{children::Ran, shard::Part};

/// Exit codes, the worst last: a panic is always a bug.
const BY_SEVERITY: [u8; 5] = [0, 99, 1, 100, 101];

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// What came of many runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Which part of a sweep it is; none where it is a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Runs that held.
    pub passed: usize,
    /// Runs that did not, or came to nothing.
    pub failed: usize,
    /// The runs, in the order in which they were asked for.
    pub runs: Vec<RunSummary>,
}

/// What came of one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The scenario's file.
    pub file: String,
    /// The variant, where it has several.
    pub variant: Option<String>,
    /// The seed.
    pub seed: u64,
    /// The exit code.
    pub exit_code: u8,
    /// What did not hold, with the first sentence on where.
    pub failing: Vec<Failing>,
    /// Why it failed.
    pub error: Option<String>,
    /// The command that repeats it.
    pub again: String,
    /// The hash over the trace; none where it failed.
    pub trace_hash: Option<String>,
    /// Simulated seconds.
    pub simulated_secs: f64,
    /// Real seconds that it took. It differs from sweep to sweep.
    pub wall_secs: f64,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Its name.
    pub name: String,
    /// The first of the sentences on where it did not.
    pub first: String,
}

impl Summary {
    /// Sums up runs.
    pub fn of(ran: &[Ran]) -> Self {
        Self::of_runs(ran.iter().map(RunSummary::of).collect())
    }

    /// Sums up runs that were looked at already.
    pub fn of_runs(runs: Vec<RunSummary>) -> Self {
        let passed = runs.iter().filter(|run| run.exit_code == 0).count();
        Self { schema_version: SCHEMA_VERSION, part: None, passed, failed: runs.len() - passed, runs }
    }

    /// The exit code of the worst run. Any that is not expected of a run counts as a run that failed.
    pub fn exit_code(&self) -> u8 {
        let severity = |code: u8| BY_SEVERITY.iter().position(|known| *known == code).unwrap_or(2);
        let worst = self.runs.iter().map(|run| severity(run.exit_code)).max().unwrap_or(0);
        BY_SEVERITY[worst]
    }

    /// The runs of each scenario and variant, in the order in which they first occur.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for run in &self.runs {
            let name = (run.file.as_str(), run.variant.as_deref());
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.runs.push(run),
                None => groups.push(Group { name, runs: vec![run] }),
            }
        }
        groups
    }
}

/// The runs of one scenario, or of one variant of it.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    name: (&'a str, Option<&'a str>),
    pub(super) runs: Vec<&'a RunSummary>,
}

impl Group<'_> {
    pub(super) fn title(&self) -> String {
        let (file, variant) = self.name;
        variant.map_or_else(|| file.to_owned(), |variant| format!("{file} ({variant})"))
    }

    pub(super) fn failed(&self) -> usize {
        self.runs.iter().filter(|run| run.exit_code != 0).count()
    }

    /// The median of a metric over the runs that have it.
    pub(super) fn median(&self, metric: &str) -> Option<f64> {
        let mut values: Vec<f64> =
            self.runs.iter().filter_map(|run| run.metrics.get(metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    }

    /// Real seconds of all its runs together.
    pub(super) fn wall_secs(&self) -> f64 {
        self.runs.iter().map(|run| run.wall_secs).sum()
    }
}

impl RunSummary {
    fn of(ran: &Ran) -> Self {
        let invariants = ran.report.iter().flat_map(|report| &report.invariants);
        let failing = invariants.filter(|invariant| !invariant.holds).map(|invariant| Failing {
            name: invariant.name.clone(),
            first: invariant.violations.first().cloned().unwrap_or_default(),
        });
        Self {
            file: ran.job.file.to_string_lossy().into_owned(),
            variant: ran.job.variant.clone(),
            seed: ran.job.seed,
            exit_code: ran.exit_code,
            failing: failing.collect(),
            error: ran.error.clone(),
            again: ran.job.command(),
            trace_hash: ran.report.as_ref().map(|report| report.trace_hash.clone()),
            simulated_secs: ran.report.as_ref().map_or(0.0, |report| report.simulated_secs),
            wall_secs: ran.wall_secs,
            metrics: ran.report.as_ref().map(|report| report.metrics.clone()).unwrap_or_default(),
        }
    }

    /// Why it did not hold, one line each.
    pub(super) fn reasons(&self) -> Vec<String> {
        let failing = self.failing.iter().map(|it| {
            if it.first.is_empty() { it.name.clone() } else { format!("{}: {}", it.name, it.first) }
        });
        failing.chain(self.error.clone()).collect()
    }
}

/// Shows a summary to people.
#[derive(Debug, Clone, Copy)]
pub struct SummaryText<'a>(pub &'a Summary);

impl Display for SummaryText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let groups = self.0.groups();
        let width = groups.iter().map(|group| group.title().chars().count()).max().unwrap_or(0);
        for group in &groups {
            let (style, verdict) = if group.failed() == 0 { (GOOD, "PASS") } else { (BAD, "FAIL") };
            let secs = number((group.wall_secs() * 10.0).round() / 10.0);
            writeln!(
                f,
                "{style}{verdict}{style:#}  {:width$}  {:>5} seeds  {:>5} failed  {secs:>7} s",
                group.title(),
                group.runs.len(),
                group.failed(),
            )?;
        }
        for run in self.0.runs.iter().filter(|run| run.exit_code != 0) {
            writeln!(f, "\n{BAD}failed{BAD:#}  {}", run.again)?;
            for reason in run.reasons() {
                writeln!(f, "        {reason}")?;
            }
        }
        writeln!(f, "\n{} of {} runs passed", self.0.passed, self.0.runs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::children::Job;

    fn summary(codes: &[u8]) -> Summary {
        let ran = codes.iter().zip(1..).map(|(exit_code, seed)| Ran {
            job: Job { file: "scenarios/a.toml".into(), variant: None, seed, engine: None },
            exit_code: *exit_code,
            report: None,
            error: (*exit_code != 0).then(|| "killed".to_owned()),
            wall_secs: 1.0,
        });
        Summary::of(&ran.collect::<Vec<_>>())
    }

    #[test]
    fn the_worst_run_decides_the_exit_code() {
        for (codes, worst) in [
            (&[][..], 0),
            (&[0, 0], 0),
            (&[0, 99, 0], 99),
            (&[1, 99], 1),
            (&[100, 1], 100),
            (&[99, 100, 101, 1], 101),
            (&[137], 1),
        ] {
            assert_eq!(summary(codes).exit_code(), worst, "{codes:?}");
        }
    }

    #[test]
    fn every_run_that_failed_is_named_with_its_command() {
        let text = anstream::adapter::strip_str(&SummaryText(&summary(&[0, 1, 0])).to_string()).to_string();
        insta::assert_snapshot!(text, @r"
        FAIL  scenarios/a.toml      3 seeds      1 failed        3 s

        failed  ggen-sim run scenarios/a.toml --seed 2
                killed

        2 of 3 runs passed
        ");
    }
}
