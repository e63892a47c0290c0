//! The walk from the root outwards, which sees every problem on its way.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};

use super::{
    Budget, DEPTH_MAX, Dependencies, Facts, Need, PACKAGES_MAX, Problem, RANGES_MAX, Ranges, Report, Root,
    TOO_MUCH, Wanted, Whole, cycles, problem,
};
use crate::{limits::DEPENDENCIES_MAX, package::PackageId};

/// A survey in progress.
#[derive(Debug)]
pub(super) struct Survey {
    /// Packages before the current layer.
    depth: usize,
    layer: Vec<PackageId>,
    /// Whether the versions of the current layer were chosen.
    is_chosen: bool,
    wanted: BTreeMap<PackageId, Vec<Range>>,
    ranges: usize,
    chosen: BTreeMap<PackageId, Version>,
    unchecked: BTreeMap<PackageId, String>,
    problems: Vec<Problem>,
}

/// What a survey came to.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) report: Report,
    /// Whether another choice of versions may be without these problems.
    pub(super) is_open: bool,
}

#[derive(Debug)]
struct Range {
    /// The dependent; none where it is the root.
    by: Option<(PackageId, Version)>,
    range: VersionReq,
}

impl Survey {
    pub(super) fn new(root: &Root) -> Self {
        let mut survey = Self {
            depth: 0,
            layer: Vec::new(),
            is_chosen: false,
            wanted: BTreeMap::new(),
            ranges: 0,
            chosen: BTreeMap::new(),
            unchecked: BTreeMap::new(),
            problems: Vec::new(),
        };
        if root.dependencies.contains_key(&root.package) {
            survey.problems.push(Problem::Itself { package: root.package.clone() });
        }
        let mut next = BTreeSet::new();
        survey.want(root, &root.package, None, &root.dependencies, &mut next);
        survey.layer = next.into_iter().collect();
        survey
    }

    /// Goes on as far as what was learned reaches; yields what must be learned then, or nothing at the end.
    pub(super) fn advance(&mut self, root: &Root, facts: &Facts, budget: &mut Budget) -> Vec<Need> {
        while !self.layer.is_empty() {
            let needs =
                if self.is_chosen { self.need_dependencies(facts) } else { self.need_versions(facts) };
            if !needs.is_empty() {
                return needs;
            }
            if self.is_chosen {
                self.expand(root, facts);
            } else {
                self.choose(facts, budget);
            }
            self.is_chosen = !self.is_chosen;
        }
        Vec::new()
    }

    fn need_versions(&self, facts: &Facts) -> Vec<Need> {
        let unknown = self.layer.iter().filter(|package| !facts.versions.contains_key(package));
        unknown.cloned().map(Need::Versions).collect()
    }

    fn need_dependencies(&self, facts: &Facts) -> Vec<Need> {
        let chosen = self.layer.iter().filter_map(|package| Some((package, self.chosen.get(package)?)));
        let unknown = chosen.filter(|(package, version)| facts.of(package, version).is_none());
        unknown.map(|(package, version)| Need::Dependencies(package.clone(), version.clone())).collect()
    }

    fn choose(&mut self, facts: &Facts, budget: &mut Budget) {
        for package in &self.layer {
            let (Some(known), Some(ranges)) = (facts.versions.get(package), self.wanted.get(package)) else {
                continue;
            };
            if !budget.compare(known.usable.len(), ranges.len()) {
                self.unchecked.insert(package.clone(), TOO_MUCH.to_owned());
            } else if let Some(version) = known.best(ranges.iter().map(|range| &range.range)) {
                self.chosen.insert(package.clone(), version.clone());
            }
        }
    }

    /// Makes the next layer of what the current one needs and nobody before needed.
    fn expand(&mut self, root: &Root, facts: &Facts) {
        let mut next = BTreeSet::new();
        for package in std::mem::take(&mut self.layer) {
            let Some(version) = self.chosen.get(&package).cloned() else { continue };
            match facts.of(&package, &version) {
                Some(Dependencies::Known(ranges)) => {
                    self.want(root, &package, Some(&version), ranges, &mut next);
                }
                Some(Dependencies::Unchecked(why)) => {
                    self.unchecked.insert(package, why.clone());
                }
                None => {}
            }
        }
        self.depth += 1;
        match next.first() {
            Some(first) if self.depth >= DEPTH_MAX => {
                self.problems.push(Problem::TooDeep { package: first.clone(), depth: self.depth });
            }
            _ => self.layer = next.into_iter().collect(),
        }
    }

    /// Notes the ranges of one dependent; nothing more once there are too many.
    fn want(
        &mut self,
        root: &Root,
        by: &PackageId,
        version: Option<&Version>,
        ranges: &Ranges,
        next: &mut BTreeSet<PackageId>,
    ) {
        if ranges.len() > DEPENDENCIES_MAX {
            self.problems.push(Problem::TooManyDependencies {
                package: by.clone(),
                count: ranges.len(),
                max: DEPENDENCIES_MAX,
            });
            return;
        }
        // The ways back to the root, and those of a package to itself, are cycles, whatever the range.
        for (package, range) in
            ranges.iter().filter(|(package, _)| **package != root.package && *package != by)
        {
            let is_new = !self.wanted.contains_key(package);
            if self.ranges >= RANGES_MAX || (is_new && self.wanted.len() >= PACKAGES_MAX) {
                self.problems.push(Problem::TooMany);
                return;
            }
            self.ranges += 1;
            let by = version.map(|version| (by.clone(), version.clone()));
            self.wanted.entry(package.clone()).or_default().push(Range { by, range: range.clone() });
            if is_new {
                next.insert(package.clone());
            }
        }
    }

    /// Judges a survey that is at its end.
    pub(super) fn judge(mut self, root: &Root, facts: &Facts, budget: &mut Budget) -> Verdict {
        let mut is_settled = true;
        let wanted = std::mem::take(&mut self.wanted);
        for (package, ranges) in &wanted {
            is_settled &= self.judge_one(root, package.clone(), (ranges, &wanted), facts, budget);
        }
        let is_definite = self.problems.iter().any(Problem::is_of_root);
        self.problems.extend(cycles::cycles(root, &self.chosen, facts));
        let report = Report {
            problems: problem::sorted(self.problems),
            unchecked: self.unchecked,
            chosen: self.chosen,
        };
        Verdict { report, is_open: !is_settled && !is_definite }
    }

    /// Holds what was chosen of a package against all its ranges; false where it does not satisfy them.
    fn judge_one(
        &mut self,
        root: &Root,
        package: PackageId,
        (ranges, all): (&[Range], &BTreeMap<PackageId, Vec<Range>>),
        facts: &Facts,
        budget: &mut Budget,
    ) -> bool {
        let Some(known) = facts.versions.get(&package) else { return true };
        let wanted = |ranges: &mut dyn Iterator<Item = &Range>| -> Vec<Wanted> {
            let one = |range: &Range| match &range.by {
                Some((package, version)) => {
                    let needed_by = needed_by(package, all);
                    Wanted { needed_by, ..Wanted::new(package, Some(version), &range.range) }
                }
                None => Wanted::new(&root.package, None, &range.range),
            };
            ranges.map(one).collect()
        };
        if let Whole::Missing = known.whole {
            self.problems.push(Problem::Missing { package, wanted: wanted(&mut ranges.iter()) });
            return false;
        }
        if !budget.compare(known.usable.len() + 1, ranges.len()) {
            self.unchecked.insert(package, TOO_MUCH.to_owned());
            return true;
        }
        let satisfies = |version: &Version| ranges.iter().all(|range| range.range.matches(version));
        if self.chosen.get(&package).is_some_and(satisfies) {
            return true;
        }
        if let Some(why) = known.unknown() {
            self.chosen.remove(&package);
            self.unchecked.insert(package, why.to_owned());
            return true;
        }
        let nowhere = |range: &&Range| !known.usable.iter().any(|version| range.range.matches(version));
        let unmet = wanted(&mut ranges.iter().filter(nowhere));
        let versions = Problem::versions(&known.all);
        if !unmet.is_empty() {
            self.problems.push(Problem::NoVersion { package, wanted: unmet, versions });
        } else if !known.usable.iter().any(satisfies) {
            let wanted = wanted(&mut ranges.iter());
            self.problems.push(Problem::Conflict { package, wanted, versions });
        }
        false
    }
}

/// Why a package is looked at: who was the first to need it, who was the first to need that, and so on. The first are the nearest to
/// the root, so that it ends.
fn needed_by(package: &PackageId, all: &BTreeMap<PackageId, Vec<Range>>) -> Vec<(PackageId, Version)> {
    let first = |package: &PackageId| all.get(package)?.first()?.by.clone();
    let chain = std::iter::successors(first(package), |(package, _)| first(package));
    chain.take(DEPTH_MAX).collect()
}
