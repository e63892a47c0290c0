//! `catalogue-equals-oracle`: once everything is mended, every node that runs lists what was published, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ggen_marketplace::content::ContentId;

use super::{Case, Fact, Found, Oracle, View, found::About};

/// Its name.
pub(super) const RULE: &str = "catalogue-equals-oracle";

/// Since when the world has been quiet, and who runs in it.
#[derive(Debug)]
pub(super) struct Catalogues {
    /// The last time that something was published, mended, or started.
    quiet_since: Duration,
    running: BTreeSet<usize>,
    /// How many releases there were at the last look. What is there at the first was there before.
    releases: Option<usize>,
}

impl Catalogues {
    pub(super) fn new(case: &Case) -> Self {
        Self { quiet_since: case.faults_over, running: BTreeSet::new(), releases: None }
    }

    pub(super) fn hear(&mut self, at: Duration, fact: &Fact) {
        match fact {
            Fact::Started { node } => {
                self.running.insert(*node);
            }
            Fact::Stopped { node } => {
                self.running.remove(node);
                return;
            }
            Fact::FaultEnded | Fact::StepEnded { is_publication: true, .. } => {}
            _ => return,
        }
        self.quiet_since = self.quiet_since.max(at);
    }

    /// After the deadline they agree at every moment.
    pub(super) fn look(
        &mut self,
        found: &mut Found,
        oracle: &Oracle,
        case: &Case,
        at: Duration,
        views: &[View],
    ) {
        // A publication is there before its step has ended, which may take a while.
        let releases = oracle.releases();
        if self.releases.replace(releases).is_some_and(|before| before != releases) {
            self.quiet_since = self.quiet_since.max(at);
        }
        let Some(within) = case.expect.catalogues_agree_within else { return };
        if at >= self.quiet_since + within {
            self.compare(found, oracle, case, at, views);
        }
    }

    pub(super) fn finish(
        &self,
        found: &mut Found,
        oracle: &Oracle,
        case: &Case,
        at: Duration,
        views: &[View],
    ) {
        if case.expect.catalogues_agree {
            self.compare(found, oracle, case, at, views);
        }
        if let Some(within) = case.expect.catalogues_agree_within
            && at < self.quiet_since + within
        {
            found
                .say(RULE, format!("the run ended before the {within:?} were over in which they must agree"));
        }
    }

    fn compare(&self, found: &mut Found, oracle: &Oracle, case: &Case, at: Duration, views: &[View]) {
        let expected = oracle.newest();
        for (node, view) in super::honest(case, views).filter(|(node, _)| self.running.contains(node)) {
            let listed: BTreeMap<&str, (u64, Option<ContentId>)> = view
                .catalogue
                .iter()
                .filter(|(package, _)| !oracle.is_tolerated(package))
                .map(|(package, head)| {
                    (package.as_str(), (head.sequence, head.latest.as_ref().map(|(_, root)| *root)))
                })
                .collect();
            let lacks = |(package, (sequence, root)): &(&&str, &(u64, ContentId))| {
                listed.get(**package).is_none_or(|held| *held != (*sequence, Some(*root)))
            };
            let missing: Vec<&str> = expected.iter().filter(lacks).map(|(package, _)| *package).collect();
            let foreign: Vec<&str> =
                listed.keys().copied().filter(|package| !expected.contains_key(package)).collect();
            if let Some(first) = missing.first().or(foreign.first()) {
                let what = format!(
                    "lacks {} of {} packages, and lists {} that nobody published",
                    missing.len(),
                    expected.len(),
                    foreign.len()
                );
                let about = About { package: Some((*first).to_owned()), since: oracle.since(first) };
                found.add_about(RULE, at, node, about, what);
            }
        }
    }
}
