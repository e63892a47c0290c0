//! Part of `every-step-succeeds`: what is installed or looked up is the newest that was published when the step began.

use std::{collections::BTreeMap, time::Duration};

use ggen_marketplace::content::ContentId;

use super::{Aim, Case, Fact, Found, Oracle, steps::RULE};

/// How long a node may take to hear of what it missed while something was broken, or while it did not run, where the scenario
/// does not say within what time catalogues must agree.
const SETTLING: Duration = Duration::from_secs(15);

/// What was the newest when steps began.
#[derive(Debug)]
pub(super) struct Newest {
    faults: usize,
    /// When something was mended last.
    mended: Option<Duration>,
    /// Since when each node runs.
    running: BTreeMap<usize, Duration>,
    /// The newest release of each package that had been published at the last look but one, so that it could be told of.
    published: BTreeMap<String, u64>,
    /// By step and package: the number of the release that has to come, or a later one.
    due: BTreeMap<(usize, String), u64>,
    settling: Duration,
}

impl Newest {
    pub(super) fn new(case: &Case) -> Self {
        Self {
            faults: 0,
            mended: None,
            running: BTreeMap::new(),
            published: BTreeMap::new(),
            due: BTreeMap::new(),
            settling: case.expect.catalogues_agree_within.unwrap_or(SETTLING),
        }
    }

    /// Before the oracle learns what is new.
    pub(super) fn look(&mut self, oracle: &Oracle) {
        let newest = oracle.newest().into_iter();
        self.published = newest.map(|(package, (sequence, _))| (package.to_owned(), sequence)).collect();
    }

    pub(super) fn hear(
        &mut self,
        found: &mut Found,
        (oracle, case): (&Oracle, &Case),
        at: Duration,
        fact: &Fact,
    ) {
        match fact {
            Fact::Started { node } => {
                self.running.insert(*node, at);
            }
            Fact::Stopped { node } => {
                self.running.remove(node);
            }
            Fact::FaultBegan => self.faults += 1,
            Fact::FaultEnded => {
                self.faults = self.faults.saturating_sub(1);
                self.mended = Some(at);
            }
            Fact::StepBegan { step, node } => self.began(case, at, *step, *node),
            Fact::Installed { step, node, root, .. } => {
                if let Some((package, sequence)) = place_of(oracle, *root) {
                    self.came(found, at, (*step, *node), package, sequence);
                }
            }
            Fact::LookedUp { step, node, package, sequence } => {
                self.came(found, at, (*step, *node), package, *sequence);
            }
            _ => {}
        }
    }

    /// Where nothing is broken, and the node has been there for a while, it knows what has been published.
    fn began(&mut self, case: &Case, at: Duration, step: usize, node: usize) {
        let (Aim::Install { package: name, version: None } | Aim::Lookup { package: name }) =
            &case.steps[step].aim
        else {
            return;
        };
        if case.steps[step].may_be_old {
            return;
        }
        let is_settled = |since: Duration| since + self.settling <= at;
        let is_quiet = self.faults == 0 && self.mended.is_none_or(is_settled);
        if !is_quiet || !self.running.get(&node).copied().is_some_and(is_settled) {
            return;
        }
        for (package, sequence) in &self.published {
            let (publisher, of) = package.split_once('/').unwrap_or_default();
            let author = case.members.iter().position(|member| member.publisher == publisher);
            // What was published a moment before its author went may be known to nobody.
            if of == name && author.is_some_and(|author| self.running.contains_key(&author)) {
                self.due.insert((step, package.clone()), *sequence);
            }
        }
    }

    fn came(
        &self,
        found: &mut Found,
        at: Duration,
        (step, node): (usize, usize),
        package: &str,
        sequence: u64,
    ) {
        if let Some(due) = self.due.get(&(step, package.to_owned())).filter(|due| sequence < **due) {
            let what = format!("step {step} got {package} at {sequence}, and it had come to {due} before");
            found.add(RULE, at, node, what);
        }
    }
}

/// The package and the place in its log of the release with this tree.
fn place_of(oracle: &Oracle, root: ContentId) -> Option<(&str, u64)> {
    oracle.with_root(root).map(|(package, release)| (package, release.sequence))
}
