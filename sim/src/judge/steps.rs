//! What users do succeeds; and `what-has-a-live-holder-can-be-installed`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Aim, Case, Fact, Found, View, found::About};

/// Every step ends as the scenario says.
pub(super) const RULE: &str = "every-step-succeeds";
/// Its name.
pub(super) const INSTALLS: &str = "what-has-a-live-holder-can-be-installed";

/// Who holds what, who runs, and which installs have no excuse.
#[derive(Debug, Default)]
pub(super) struct Steps {
    running: BTreeSet<usize>,
    faults: usize,
    /// By the name of a package, the honest nodes that hold a release of it.
    holders: BTreeMap<String, BTreeSet<usize>>,
    /// Installs for which there was a holder when they began, and who it was.
    promised: BTreeMap<usize, usize>,
    /// Steps that came to their end: what happens afterwards is no excuse.
    ended: BTreeSet<usize>,
    /// Installs that a fault got in the way of.
    excused: BTreeSet<usize>,
}

impl Steps {
    pub(super) fn hear(&mut self, case: &Case, fact: &Fact) {
        match fact {
            Fact::Started { node } => {
                self.running.insert(*node);
            }
            Fact::Stopped { node } => {
                self.running.remove(node);
                // Whoever was promised something by it is promised it no more.
                self.excuse(|holder| holder == *node);
            }
            Fact::FaultBegan => {
                self.faults += 1;
                self.excuse(|_| true);
            }
            Fact::FaultEnded => self.faults = self.faults.saturating_sub(1),
            Fact::StepBegan { step, node } if self.faults == 0 => {
                let Some(Aim::Install { package, .. }) = case.steps.get(*step).map(|task| &task.aim) else {
                    return;
                };
                let holders = self.holders.get(package).into_iter().flatten();
                let mut live = holders.filter(|it| *it != node && self.running.contains(it));
                if let Some(holder) = live.next() {
                    self.promised.insert(*step, *holder);
                }
            }
            Fact::StepEnded { step, .. } => {
                self.ended.insert(*step);
            }
            _ => {}
        }
    }

    /// Something got into the way of the installs that are in progress and were promised something by such a holder.
    fn excuse(&mut self, is_concerned: impl Fn(usize) -> bool) {
        let in_progress = self.promised.iter().filter(|(step, _)| !self.ended.contains(step));
        let concerned = in_progress.filter(|(_, holder)| is_concerned(**holder));
        self.excused.extend(concerned.map(|(step, _)| *step));
    }

    pub(super) fn look(&mut self, case: &Case, views: &[View]) {
        self.holders.clear();
        for (node, view) in super::honest(case, views) {
            for held in &view.held {
                let name = held.package.split_once('/').map_or("", |(_, name)| name);
                self.holders.entry(name.to_owned()).or_default().insert(node);
            }
        }
    }

    pub(super) fn finish(&self, found: &mut Found, case: &Case, shortcomings: &[(usize, String)]) {
        let is_judged =
            |step: &usize| case.steps.get(*step).is_none_or(|task| case.members[task.node].is_honest());
        for (step, what) in shortcomings.iter().filter(|(step, _)| is_judged(step)) {
            let is_due = self.promised.contains_key(step) && !self.excused.contains(step);
            let rule = if is_due { INSTALLS } else { RULE };
            let Some(task) = case.steps.get(*step) else {
                found.say(rule, what.clone());
                continue;
            };
            let package = match &task.aim {
                Aim::Install { package, .. } | Aim::Lookup { package } => Some(package.clone()),
                Aim::Other => None,
            };
            found.end(rule, (*step, task.node), About { package, since: None }, what.clone());
        }
    }
}
