//! Which run is worth making next, and which of those that were made reached something new.
//!
//! Pure: the caller makes the runs. What is new is a marker, or a marker that was reached more often than before by a power
//! of two, as [AFL](https://lcamtuf.coredump.cx/afl/technical_details.txt) counts branches.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{
    children::{Job, Ran},
    engine::Engine,
    reached::OF_NODES,
};

/// Runs that are kept at most: those that came first, which were the ones to reach something.
const KEPT_MAX: usize = 10_000;
/// Markers at most.
const MARKERS_MAX: usize = 10_000;

/// A file, or a variant of one, to draw runs of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The scenario.
    pub file: PathBuf,
    /// The variant, where it has several.
    pub variant: Option<String>,
    /// What runs it, in the place of what the scenario says.
    pub engine: Option<Engine>,
}

/// What an exploration came to; it is written to a file, and gone on with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explored {
    /// The seed that is drawn next.
    pub next_seed: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Real seconds that they took, all together.
    pub run_secs: f64,
    /// The most often that a run reached each marker.
    pub reached: BTreeMap<String, u64>,
    /// Runs that reached something new, the first one first.
    pub kept: Vec<Kept>,
    /// Runs that failed, the first one first.
    pub failed: Vec<FailedRun>,
}

/// A run that reached something new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The command that repeats it.
    pub again: String,
    /// What it reached, and how often.
    pub new: BTreeMap<String, u64>,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// The command that repeats it.
    pub again: String,
    /// What did not hold, or why there is no report.
    pub why: Vec<String>,
    /// The scenario made smaller, where that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smaller: Option<PathBuf>,
}

/// How worthwhile a source was.
#[derive(Debug, Clone, Copy, Default)]
struct Worth {
    begun: u64,
    secs: f64,
    fruitful: u64,
}

/// Chooses the runs.
#[derive(Debug)]
pub struct Explorer {
    sources: Vec<(Source, Worth)>,
    explored: Explored,
}

impl Explorer {
    /// Explores these sources, and goes on where `explored` ends. Yields nothing where there is no source.
    pub fn new(sources: Vec<Source>, explored: Explored) -> Option<Self> {
        let sources: Vec<_> = sources.into_iter().map(|source| (source, Worth::default())).collect();
        (!sources.is_empty()).then_some(Self { sources, explored })
    }

    /// The run to make next: of each source one, then of the source that reached most for the time that it took.
    pub fn next_job(&mut self) -> Job {
        let seed = self.explored.next_seed;
        self.explored.next_seed = seed.wrapping_add(1);
        let rate = |worth: &Worth| (1.0 + worth.fruitful as f64) / (1.0 + worth.secs);
        let best = self.sources.iter_mut().min_by(|(_, one), (_, other)| {
            let unseen = |worth: &Worth| worth.begun > 0;
            unseen(one)
                .cmp(&unseen(other))
                .then(rate(other).total_cmp(&rate(one)))
                .then(one.begun.cmp(&other.begun))
        });
        let (source, worth) = best.expect("there is a source");
        worth.begun += 1;
        // What runs now is not the best for a second one at the same time.
        worth.secs += 1.0;
        let Source { file, variant, engine } = source.clone();
        Job { file, variant, seed, engine }
    }

    /// Takes what came of a run. Yields what it reached that none before it did.
    pub fn took(&mut self, ran: &Ran) -> BTreeMap<String, u64> {
        let explored = &mut self.explored;
        explored.runs += 1;
        explored.run_secs += ran.wall_secs;
        if ran.exit_code != 0 {
            let mut why = ran.failing();
            why.extend(ran.error.clone());
            explored.failed.push(FailedRun { again: ran.job.command(), why, smaller: None });
        }
        let mut new = BTreeMap::new();
        for (marker, count) in ran.report.iter().flat_map(|report| &report.markers) {
            let is_known = explored.reached.contains_key(marker);
            if *count == 0 || !is_known && explored.reached.len() >= MARKERS_MAX {
                continue;
            }
            let most = explored.reached.entry(marker.clone()).or_default();
            if bucket(*count) > bucket(*most) {
                new.insert(marker.clone(), *count);
            }
            *most = (*most).max(*count);
        }
        let is_of = |source: &Source| source.file == ran.job.file && source.variant == ran.job.variant;
        if let Some((_, worth)) = self.sources.iter_mut().find(|(source, _)| is_of(source)) {
            worth.secs += (ran.wall_secs - 1.0).max(0.0);
            worth.fruitful += u64::from(!new.is_empty());
        }
        if !new.is_empty() && explored.kept.len() < KEPT_MAX {
            explored.kept.push(Kept { again: ran.job.command(), new: new.clone() });
        }
        new
    }

    /// Says where the last run that failed was made smaller to.
    pub fn shrunk(&mut self, again: &str, smaller: PathBuf) {
        if let Some(failed) = self.explored.failed.iter_mut().rev().find(|failed| failed.again == again) {
            failed.smaller = Some(smaller);
        }
    }

    /// What it came to.
    pub fn explored(&self) -> &Explored {
        &self.explored
    }
}

impl Explored {
    /// The markers of what nodes tell that no run reached.
    pub fn never(&self) -> BTreeSet<&'static str> {
        OF_NODES.into_iter().filter(|marker| !self.reached.contains_key(*marker)).collect()
    }
}

/// One more for every power of two: zero is none.
fn bucket(count: u64) -> u32 {
    u64::BITS - count.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    fn source(name: &str) -> Source {
        Source { file: name.into(), variant: None, engine: None }
    }

    fn explorer(names: &[&str]) -> Explorer {
        Explorer::new(names.iter().map(|name| source(name)).collect(), Explored::default()).unwrap()
    }

    fn ran(job: Job, secs: f64, markers: &[(&str, u64)]) -> Ran {
        let mut report = report::tests::report();
        report.markers = markers.iter().map(|(marker, count)| ((*marker).to_owned(), *count)).collect();
        Ran { job, exit_code: 0, report: Some(report), error: None, wall_secs: secs }
    }

    #[test]
    fn what_doubles_is_new_and_what_is_seen_again_is_not() {
        let mut explorer = explorer(&["a.toml"]);
        let mut took = |count| {
            let job = explorer.next_job();
            explorer.took(&ran(job, 1.0, &[("connected", count)])).len()
        };
        assert_eq!([1, 1, 2, 3, 4, 7, 3, 8, 0].map(&mut took), [1, 0, 1, 0, 1, 0, 0, 1, 0]);
        assert_eq!(explorer.explored().kept.len(), 4);
        assert_eq!(explorer.explored().reached["connected"], 8);
        assert_eq!(explorer.explored().kept[1].again, "ggen-sim run a.toml --seed 2");
        assert!(!explorer.explored().never().contains("connected"));
        assert!(explorer.explored().never().contains("twin met"));
    }

    #[test]
    fn each_source_is_tried_and_then_the_one_that_is_worth_its_time() {
        let mut explorer = explorer(&["barren.toml", "dear.toml", "fruitful.toml"]);
        let mut count = 0;
        let mut runs: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for number in 0..60 {
            let job = explorer.next_job();
            *runs.entry(job.file.clone()).or_default() += 1;
            assert_eq!(job.seed, number, "no seed twice");
            let (secs, new) = match job.file.to_str() {
                Some("fruitful.toml") => (2.0, true),
                Some("dear.toml") => (100.0, false),
                _ => (2.0, false),
            };
            count += u64::from(new);
            let marker = format!("marker {count}");
            let markers: &[(&str, u64)] = if new { &[(&marker, 1)] } else { &[] };
            explorer.took(&ran(job, secs, markers));
        }
        assert!(runs.values().all(|runs| *runs > 0), "{runs:?}");
        assert!(runs[&PathBuf::from("fruitful.toml")] > 40, "{runs:?}");
        assert!(runs[&PathBuf::from("dear.toml")] < 3, "{runs:?}");
    }

    #[test]
    fn a_run_without_a_report_counts_as_failed() {
        let mut explorer = explorer(&["a.toml"]);
        let job = explorer.next_job();
        let error = Some("panicked: oh".to_owned());
        explorer.took(&Ran { job, exit_code: 101, report: None, error, wall_secs: 1.0 });
        explorer.shrunk("ggen-sim run a.toml --seed 0", "smaller.toml".into());
        let failed = &explorer.explored().failed[0];
        assert_eq!(
            (failed.why.as_slice(), failed.smaller.is_some()),
            (&["panicked: oh".to_owned()][..], true)
        );
    }

    #[test]
    fn an_exploration_goes_on_where_it_ended() {
        let mut first = explorer(&["a.toml"]);
        let job = first.next_job();
        first.took(&ran(job, 1.0, &[("connected", 5)]));
        let text = serde_json::to_string(first.explored()).unwrap();
        let mut second = Explorer::new(vec![source("a.toml")], serde_json::from_str(&text).unwrap()).unwrap();
        let job = second.next_job();
        assert_eq!(job.seed, 1);
        assert!(second.took(&ran(job, 1.0, &[("connected", 5)])).is_empty());
        assert_eq!(second.explored().runs, 2);
    }
}
