//! What is measured of a run beside its trace: when nodes ran, how long steps took, how fast releases spread.
//!
//! Nothing here enters the trace, and nothing reads a clock: every time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// From the first catalogue that lists a release, its publisher's, to that of another node which ran all the while.
const PROPAGATION: &str = "announcement_propagation_ms";
/// From the start of a node to its listing of a release that was there before.
const CATCH_UP: &str = "catch_up_ms";

/// Measures of a run.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// By node: when its lives began and ended.
    lives: BTreeMap<usize, Vec<Life>>,
    /// By step.
    steps: BTreeMap<usize, Timed>,
    /// Steps in progress, and their nodes; without those that their nodes did not outlive.
    in_progress: BTreeMap<usize, usize>,
    /// When the first catalogue listed a release.
    releases: BTreeMap<Release, Duration>,
    /// Packages of adversaries: how fast they spread says nothing of anybody honest.
    worthless: BTreeSet<String>,
    /// Who lists what.
    listed: BTreeSet<(usize, Release)>,
    /// Nodes whose catalogues may have changed since somebody looked.
    changed: BTreeSet<usize>,
    samples: BTreeMap<String, Vec<f64>>,
    /// By what it is and at which node: how often it happened in one second.
    rates: BTreeMap<(&'static str, usize), Rate>,
}

/// How often something happened in the present second, and in the second in which it happened most.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    second: u64,
    count: u64,
    most: u64,
    all: u64,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    from: Duration,
    until: Option<Duration>,
}

/// When a step began and ended.
#[derive(Debug, Clone, Copy)]
struct Timed {
    node: usize,
    began: Duration,
    ended: Option<Duration>,
}

/// The full id of a package, and how long its log is.
pub(crate) type Release = (String, u64);

impl Measures {
    /// A node starts.
    pub(crate) fn started(&mut self, node: usize, at: Duration) {
        self.stopped(node, at);
        self.lives.entry(node).or_default().push(Life { from: at, until: None });
    }

    /// A node stops, where it runs. Yields whether it did.
    pub(crate) fn stopped(&mut self, node: usize, at: Duration) -> bool {
        self.in_progress.retain(|_, of| *of != node);
        let Some(life) = self.lives.get_mut(&node).and_then(|lives| lives.last_mut()) else { return false };
        let ran = life.until.is_none();
        life.until.get_or_insert(at);
        ran
    }

    /// Whether a node runs.
    pub(crate) fn runs(&self, node: usize) -> bool {
        self.lives.get(&node).and_then(|lives| lives.last()).is_some_and(|life| life.until.is_none())
    }

    /// Whether a step began, and its node did not stop in the middle of it.
    pub(crate) fn had_its_time(&self, step: usize) -> bool {
        let Some(Timed { node, began, ended }) = self.steps.get(&step) else { return false };
        let life = self.lives.get(node).into_iter().flatten().rfind(|life| life.from <= *began);
        ended.is_some() || life.is_none_or(|life| life.until.is_none())
    }

    /// A step begins.
    pub(crate) fn began(&mut self, step: usize, node: usize, at: Duration) {
        self.steps.insert(step, Timed { node, began: at, ended: None });
        self.in_progress.insert(step, node);
    }

    /// A step ends; where it succeeded, the time it took is a sample of `<kind>_ms`.
    pub(crate) fn ended(&mut self, step: usize, at: Duration, kind: Option<&str>) {
        let Some(timed) = self.steps.get_mut(&step) else { return };
        timed.ended = Some(at);
        self.in_progress.remove(&step);
        self.changed.insert(timed.node);
        let took = at.saturating_sub(timed.began);
        if let Some(kind) = kind {
            self.sample(&format!("{kind}_ms"), millis(took));
        }
    }

    /// How long a step took; none where it did not end.
    pub(crate) fn took(&self, step: usize) -> Option<Duration> {
        let timed = self.steps.get(&step)?;
        Some(timed.ended?.saturating_sub(timed.began))
    }

    /// Adds one sample to a distribution, whose name ends with the unit.
    pub(crate) fn sample(&mut self, name: &str, value: f64) {
        self.samples.entry(name.to_owned()).or_default().push(value);
    }

    /// Something happened at a node that is counted by the second.
    pub(crate) fn happened(&mut self, what: &'static str, node: usize, at: Duration) {
        let rate = self.rates.entry((what, node)).or_default();
        if rate.second != at.as_secs() {
            (rate.second, rate.count) = (at.as_secs(), 0);
        }
        rate.count += 1;
        rate.most = rate.most.max(rate.count);
        rate.all += 1;
    }

    /// How often something happened within one second at one node, at most.
    pub(crate) fn most_in_a_second(&self, what: &str) -> u64 {
        let of_nodes = self.rates.iter().filter(|((of, _), _)| *of == what);
        of_nodes.map(|(_, rate)| rate.most).max().unwrap_or(0)
    }

    /// How often something happened at one node during the whole run, at most.
    pub(crate) fn most_of_all(&self, what: &str) -> u64 {
        let of_nodes = self.rates.iter().filter(|((of, _), _)| *of == what);
        of_nodes.map(|(_, rate)| rate.all).max().unwrap_or(0)
    }

    /// A node's catalogue may have changed.
    pub(crate) fn changed(&mut self, node: usize) {
        self.changed.insert(node);
    }

    /// The nodes whose catalogues may have changed since the last call: what a user does there may change them at any time.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<usize> {
        let mut changed: BTreeSet<usize> = self.in_progress.values().copied().collect();
        changed.append(&mut self.changed);
        changed
    }

    /// A package is an adversary's, to be told before anybody lists it: no sample is taken of it.
    pub(crate) fn worthless(&mut self, package: String) {
        self.worthless.insert(package);
    }

    /// A node's catalogue lists a release.
    pub(crate) fn lists(&mut self, node: usize, release: Release, at: Duration) {
        if self.worthless.contains(&release.0) || !self.listed.insert((node, release.clone())) {
            return;
        }
        let Some(first) = self.releases.get(&release).copied() else {
            self.releases.insert(release, at);
            return;
        };
        let Some(life) = self.lives.get(&node).and_then(|lives| lives.last()) else { return };
        if life.from <= first {
            self.sample(PROPAGATION, millis(at.saturating_sub(first)));
        } else {
            self.sample(CATCH_UP, millis(at.saturating_sub(life.from)));
        }
    }

    /// From when to when a node ran, in seconds.
    pub(crate) fn lives(&self, node: usize, end: Duration) -> Vec<[f64; 2]> {
        let lives = self.lives.get(&node).into_iter().flatten();
        lives.map(|life| [life.from.as_secs_f64(), life.until.unwrap_or(end).as_secs_f64()]).collect()
    }

    /// All samples, sorted.
    pub(crate) fn distributions(&self) -> BTreeMap<String, Vec<f64>> {
        let mut samples = self.samples.clone();
        samples.values_mut().for_each(|samples| samples.sort_by(f64::total_cmp));
        samples
    }
}

/// Milliseconds, rounded to whole microseconds so that a report stays short.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn release() -> Release {
        ("publisher/word".to_owned(), 1)
    }

    #[test]
    fn a_release_spreads_from_its_first_listing() {
        let mut measures = Measures::default();
        (0..3).for_each(|node| measures.started(node, secs(1)));
        measures.lists(0, release(), secs(10));
        measures.lists(2, release(), secs(12));
        measures.lists(2, release(), secs(20));
        assert_eq!(measures.distributions()[PROPAGATION], [2_000.0]);
    }

    #[test]
    fn what_an_adversary_floods_is_no_sample() {
        let mut measures = Measures::default();
        (0..2).for_each(|node| measures.started(node, secs(1)));
        measures.started(2, secs(30));
        measures.worthless("adversary/word".to_owned());
        (0..3).for_each(|node| measures.lists(node, ("adversary/word".to_owned(), 1), secs(40)));
        assert!(measures.distributions().is_empty());
        (0..2).for_each(|node| measures.lists(node, release(), secs(40)));
        assert_eq!(measures.distributions()[PROPAGATION], [0.0], "what is honest still is one");
    }

    #[test]
    fn whoever_starts_later_catches_up() {
        let mut measures = Measures::default();
        measures.started(0, secs(1));
        measures.lists(0, release(), secs(10));
        measures.started(1, secs(30));
        measures.lists(1, release(), secs(33));
        assert_eq!(measures.distributions(), BTreeMap::from([(CATCH_UP.to_owned(), vec![3_000.0])]));
    }

    #[test]
    fn a_catalogue_may_change_as_long_as_somebody_does_something_there() {
        let mut measures = Measures::default();
        (0..2).for_each(|node| measures.started(node, secs(1)));
        (0..2).for_each(|step| measures.began(step, step, secs(2)));
        assert_eq!(measures.take_changed(), [0, 1].into());
        measures.ended(0, secs(3), None);
        assert_eq!(measures.take_changed(), [0, 1].into(), "what it ended with counts too");
        measures.stopped(1, secs(4));
        assert!(measures.take_changed().is_empty(), "whoever is gone does nothing more");
    }

    #[test]
    fn what_happens_by_the_second_is_counted_at_each_node_and_the_most_is_known() {
        let mut measures = Measures::default();
        for (node, millis) in [(0, 10), (0, 999), (1, 500), (0, 1_000), (0, 3_000), (0, 3_001), (0, 3_002)] {
            measures.happened("checked", node, Duration::from_millis(millis));
        }
        assert_eq!((measures.most_in_a_second("checked"), measures.most_in_a_second("heard")), (3, 0));
    }

    #[test]
    fn a_life_ends_with_a_crash_or_with_the_run() {
        let mut measures = Measures::default();
        measures.started(4, secs(1));
        measures.stopped(4, secs(5));
        measures.stopped(4, secs(6));
        measures.started(4, secs(8));
        assert_eq!(measures.lives(4, secs(20)), [[1.0, 5.0], [8.0, 20.0]]);
        assert!(measures.lives(5, secs(20)).is_empty());
    }

    #[test]
    fn a_step_that_its_own_node_cut_off_had_no_time() {
        let mut measures = Measures::default();
        measures.started(1, secs(0));
        measures.began(0, 1, secs(1));
        measures.ended(0, secs(2), None);
        measures.began(1, 1, secs(3));
        measures.stopped(1, secs(4));
        measures.started(1, secs(5));
        measures.began(2, 1, secs(6));
        assert_eq!([0, 1, 2, 3].map(|step| measures.had_its_time(step)), [true, false, true, false]);
    }

    #[test]
    fn only_steps_that_succeed_are_samples() {
        let mut measures = Measures::default();
        for step in 0..3 {
            measures.began(step, 1, secs(1));
        }
        measures.ended(0, secs(3), Some("search"));
        measures.ended(1, secs(9), None);
        assert_eq!(measures.distributions()["search_ms"], [2_000.0]);
        assert_eq!((measures.took(1), measures.took(2)), (Some(secs(8)), None));
        assert_eq!(measures.take_changed(), [1].into(), "step 2 is in progress at node 1");
    }
}
