//! The violations that were found, each told once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Judged, Kind};
use crate::report::{Finding, Invariant};

/// Violations of one rule that are listed; the rest is counted.
const LISTED_MAX: usize = 20;
/// Violations of one rule that are told with what led to them.
const FINDINGS_MAX: usize = 3;

/// Collects violations.
#[derive(Debug)]
pub(crate) struct Found {
    names: Vec<String>,
    by_rule: BTreeMap<&'static str, Violations>,
    findings: Vec<(Finding, Whose)>,
}

/// Where it is to be learned what led to a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It was seen of this node, at a look.
    Node(usize),
    /// It came of this step.
    Step(usize),
    /// It is known already, or to nobody.
    Nobodys,
}

/// What a violation is about.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// A package, by its full id.
    pub(crate) package: Option<String>,
    /// When it was published as it should be.
    pub(crate) since: Option<Duration>,
}

#[derive(Debug, Default)]
struct Violations {
    listed: Vec<String>,
    more: usize,
    /// A state that lasts is told when it is seen first.
    known: BTreeSet<(usize, String)>,
}

impl Found {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names, by_rule: BTreeMap::new(), findings: Vec::new() }
    }

    /// Adds what was seen of a node at a time.
    pub(crate) fn add(&mut self, rule: &'static str, at: Duration, node: usize, what: impl Into<String>) {
        self.add_about(rule, at, node, About::default(), what.into());
    }

    /// The same, of a package.
    pub(crate) fn add_about(
        &mut self,
        rule: &'static str,
        at: Duration,
        node: usize,
        about: About,
        what: String,
    ) {
        let violations = self.by_rule.entry(rule).or_default();
        if violations.known.insert((node, what.clone())) {
            violations.list(format!("{:.3} s {}: {what}", at.as_secs_f64(), self.names[node]));
            let finding =
                Finding { at_secs: Some(at.as_secs_f64()), ..self.finding(rule, node, about, what) };
            self.tell(finding, Whose::Node(node));
        }
    }

    /// Adds how a step ended.
    pub(crate) fn end(
        &mut self,
        rule: &'static str,
        (step, node): (usize, usize),
        about: About,
        what: String,
    ) {
        self.by_rule.entry(rule).or_default().list(what.clone());
        let finding = self.finding(rule, node, about, what);
        self.tell(finding, Whose::Step(step));
    }

    /// Adds what belongs to no node and no time.
    pub(crate) fn say(&mut self, rule: &'static str, what: String) {
        self.by_rule.entry(rule).or_default().list(what);
    }

    /// What was found and is not yet told with what led to it.
    pub(crate) fn open(&mut self) -> impl Iterator<Item = (&mut Finding, &mut Whose)> {
        let findings = self.findings.iter_mut().map(|(finding, whose)| (finding, whose));
        findings.filter(|(_, whose)| **whose != Whose::Nobodys)
    }

    /// Every rule with what violates it, and the first violations of each.
    pub(crate) fn into_judged(mut self, rules: &[(&'static str, Kind)]) -> Judged {
        let mut findings = std::mem::take(&mut self.findings);
        findings.sort_by_key(|(finding, _)| rules.iter().position(|(name, _)| *name == finding.rule));
        let invariant = |(name, kind): &(&'static str, Kind)| {
            let Violations { mut listed, more, .. } = self.by_rule.remove(name).unwrap_or_default();
            if more > 0 {
                listed.push(format!("and {more} more"));
            }
            Invariant::new(*name, *kind, listed)
        };
        Judged { invariants: rules.iter().map(invariant).collect(), findings }
    }

    fn finding(&self, rule: &str, node: usize, about: About, what: String) -> Finding {
        Finding {
            rule: rule.to_owned(),
            what,
            node: Some(self.names[node].clone()),
            package: about.package,
            at_secs: None,
            since_secs: about.since.map(|since| since.as_secs_f64()),
            scene: None,
        }
    }

    fn tell(&mut self, finding: Finding, whose: Whose) {
        if self.findings.iter().filter(|(told, _)| told.rule == finding.rule).count() < FINDINGS_MAX {
            self.findings.push((finding, whose));
        }
    }
}

impl Violations {
    fn list(&mut self, line: String) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push(line);
        } else {
            self.more += 1;
        }
    }
}
