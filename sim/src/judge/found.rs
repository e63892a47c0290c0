//! The violations that were found, each told once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Kind;
use crate::report::Invariant;

/// Violations of one rule that are listed; the rest is counted.
const LISTED_MAX: usize = 20;

/// Collects violations.
#[derive(Debug)]
pub(crate) struct Found {
    names: Vec<String>,
    by_rule: BTreeMap<&'static str, Violations>,
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
        Self { names, by_rule: BTreeMap::new() }
    }

    /// Adds what was seen of a node at a time.
    pub(crate) fn add(&mut self, rule: &'static str, at: Duration, node: usize, what: impl Into<String>) {
        let what = what.into();
        let violations = self.by_rule.entry(rule).or_default();
        if violations.known.insert((node, what.clone())) {
            violations.list(format!("{:.3} s {}: {what}", at.as_secs_f64(), self.names[node]));
        }
    }

    /// Adds what belongs to no node and no time.
    pub(crate) fn say(&mut self, rule: &'static str, what: String) {
        self.by_rule.entry(rule).or_default().list(what);
    }

    /// Every rule with what violates it.
    pub(crate) fn into_invariants(mut self, rules: &[(&'static str, Kind)]) -> Vec<Invariant> {
        let invariant = |(name, kind): &(&'static str, Kind)| {
            let Violations { mut listed, more, .. } = self.by_rule.remove(name).unwrap_or_default();
            if more > 0 {
                listed.push(format!("and {more} more"));
            }
            Invariant::new(*name, *kind, listed)
        };
        rules.iter().map(invariant).collect()
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
