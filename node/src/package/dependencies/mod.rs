//! Whether the dependencies of a package can be had together.
//!
//! [`Resolution`] is a state machine: [`Resolution::needs`] says what it has to know next, the answers come back through
//! [`Resolution::learn_versions`] and [`Resolution::learn_dependencies`], and [`Resolution::finish`] reports. It fetches
//! nothing, so the caller may look things up in parallel, from wherever it likes, and stop at any time. What is learned
//! must come from logs and manifests whose signatures were verified: nobody else can add a dependency to a package.
//!
//! # What is promised
//! - One version of a package is chosen: the highest stable one that is not withdrawn and that the ranges allow, else the
//!   highest such pre-release. A pre-release is allowed by a range that names one of the same three numbers, as
//!   [`semver::VersionReq`] has it. Where the best versions of two packages exclude each other, the package that is met
//!   first keeps its best.
//! - The *survey* goes from the root outwards, one layer of packages after the other, and sees every problem on its way:
//!   packages that are missing, ranges that no version satisfies, ranges that exclude each other. If it sees none of these,
//!   the choice that it made satisfies every range.
//! - Otherwise, and unless a range of the root itself cannot be satisfied, a *search* with backjumping looks for another
//!   choice, older versions included. It is complete: where it ends without one, there is none. What it finds takes the
//!   place of the survey's choice, and there are no problems but cycles.
//! - Cycles are looked for in the choice that was made; no other choice is sought to avoid one. Of each set of packages that
//!   depend on one another, one cycle is named, a shortest through the root or through the least id.
//! - What was not learned is never a problem, only *unchecked*; so is what would take more work than the bounds allow.
//!
//! The report depends on what was learned and not on the order in which it came. The work is bounded by
//! [`DEPENDENCIES_MAX`] a package, [`PACKAGES_MAX`], [`RANGES_MAX`], [`DEPTH_MAX`], [`MATCHES_MAX`] and [`TRIES_MAX`];
//! nothing recurses.

mod cycles;
mod problem;
mod search;
mod survey;

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};

pub use problem::{Problem, Wanted};
use search::Outcome;
use survey::Survey;

use super::PackageId;
#[cfg(doc)]
use crate::limits::DEPENDENCIES_MAX;

/// Packages of one resolution.
pub const PACKAGES_MAX: usize = 10_000;
/// Ranges of one resolution, over all packages: twenty a package.
pub const RANGES_MAX: usize = 200_000;
/// Packages one behind the other, from the root; real chains stay below 20.
pub const DEPTH_MAX: usize = 64;
/// Comparisons of a version with a range in one resolution: about a second.
pub const MATCHES_MAX: u64 = 10_000_000;
/// Versions that the search tries before it gives up.
pub const TRIES_MAX: u64 = 100_000;

/// Packages that a package needs, with the range of versions of each.
pub type Ranges = BTreeMap<PackageId, VersionReq>;

/// The package whose dependencies are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The package.
    pub package: PackageId,
    /// The packages that it needs.
    pub dependencies: Ranges,
}

/// A version that was released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The version.
    pub version: Version,
    /// Whether it was withdrawn.
    pub yanked: bool,
}

/// Something that has to be known to go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The versions of a package, from its signed log.
    Versions(PackageId),
    /// The dependencies of one version, from its signed manifest.
    Dependencies(PackageId, Version),
}

/// The versions that a package has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// All of them.
    All(Vec<Candidate>),
    /// Some; that a range matches none of these proves nothing.
    Some(Vec<Candidate>, String),
    /// There is no such package.
    Missing,
    /// They cannot be known now, and why, as the second half of a sentence.
    Unchecked(String),
}

/// What is needed by one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependencies {
    /// These packages.
    Known(Ranges),
    /// It cannot be known now, and why, as the second half of a sentence.
    Unchecked(String),
}

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything that is wrong, in the order of [`Problem`].
    pub problems: Vec<Problem>,
    /// Packages of which something is not known, and why.
    pub unchecked: BTreeMap<PackageId, String>,
    /// The versions that were chosen; where there are problems, those of the packages that have none.
    pub chosen: BTreeMap<PackageId, Version>,
}

/// A check of dependencies in progress.
#[derive(Debug)]
pub struct Resolution {
    root: Root,
    preferred: BTreeMap<PackageId, Version>,
    facts: Facts,
    budget: Budget,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Survey(Box<Survey>),
    /// With what the survey saw.
    Search(Report),
    Done(Report),
}

impl Resolution {
    /// Begins to check the dependencies of a package.
    pub fn new(root: Root) -> Self {
        let survey = Survey::new(&root);
        Self {
            root,
            preferred: BTreeMap::new(),
            facts: Facts::default(),
            budget: Budget { matches: MATCHES_MAX, tries: TRIES_MAX },
            stage: Stage::Survey(Box::new(survey)),
        }
    }

    /// Tries this version of a package before any other, and also where it was withdrawn: it is in use already. Holds for
    /// versions that are learned afterwards.
    pub fn prefer(&mut self, package: PackageId, version: Version) {
        self.preferred.insert(package, version);
    }

    /// What has to be known to go on, in order; nothing where the check is complete. Until it is learned, it is asked for
    /// again.
    pub fn needs(&mut self) -> Vec<Need> {
        let Self { root, facts, budget, stage, .. } = self;
        if let Stage::Survey(survey) = stage {
            let needs = survey.advance(root, facts, budget);
            if !needs.is_empty() {
                return needs;
            }
            let survey = std::mem::replace(survey, Box::new(Survey::new(root)));
            let verdict = survey.judge(root, facts, budget);
            *stage =
                if verdict.is_open { Stage::Search(verdict.report) } else { Stage::Done(verdict.report) };
        }
        if let Stage::Search(surveyed) = stage {
            let report = match search::search(root, facts, budget) {
                Outcome::Needs(needs) => return needs,
                Outcome::Found { chosen, unchecked } => {
                    let problems = problem::sorted(cycles::cycles(root, &chosen, facts));
                    Report { problems, unchecked, chosen }
                }
                Outcome::Nothing => nothing(std::mem::take(surveyed)),
                Outcome::GaveUp => gave_up(root, std::mem::take(surveyed)),
            };
            *stage = Stage::Done(report);
        }
        Vec::new()
    }

    /// Learns the versions of a package; what was learned first stays.
    pub fn learn_versions(&mut self, package: PackageId, versions: Versions) {
        let preferred = self.preferred.get(&package);
        let known = match versions {
            Versions::All(list) => Known { usable: usable(&list, preferred), all: list, whole: Whole::Yes },
            Versions::Some(list, why) => {
                Known { usable: usable(&list, preferred), all: list, whole: Whole::No(why) }
            }
            Versions::Missing => Known { usable: Vec::new(), all: Vec::new(), whole: Whole::Missing },
            Versions::Unchecked(why) => Known { usable: Vec::new(), all: Vec::new(), whole: Whole::No(why) },
        };
        self.facts.versions.entry(package).or_insert(known);
    }

    /// Learns what one version needs; what was learned first stays.
    pub fn learn_dependencies(&mut self, package: PackageId, version: Version, dependencies: Dependencies) {
        self.facts.dependencies.entry(package).or_default().entry(version).or_insert(dependencies);
    }

    /// Reports. What was not learned is unchecked, because of `why`: the second half of a sentence.
    pub fn finish(mut self, why: &str) -> Report {
        loop {
            let needs = self.needs();
            if needs.is_empty() {
                break;
            }
            for need in needs {
                match need {
                    Need::Versions(package) => {
                        self.learn_versions(package, Versions::Unchecked(why.to_owned()));
                    }
                    Need::Dependencies(package, version) => {
                        let unchecked = Dependencies::Unchecked(why.to_owned());
                        self.learn_dependencies(package, version, unchecked);
                    }
                }
            }
        }
        match self.stage {
            Stage::Done(report) => report,
            _ => Report::default(),
        }
    }
}

/// What the survey saw, where there is no choice without it.
fn nothing(mut surveyed: Report) -> Report {
    let named = |problem: &Problem| !matches!(problem, Problem::Cycle { .. });
    if !surveyed.problems.iter().any(named) {
        // Each package could be had by itself; only all of them together cannot.
        surveyed.problems.push(Problem::NoChoice);
        surveyed.problems.sort();
    }
    surveyed
}

/// What the survey saw, where it is not known whether there is a choice without it.
fn gave_up(root: &Root, mut surveyed: Report) -> Report {
    for problem in std::mem::take(&mut surveyed.problems) {
        let package = match problem {
            Problem::Missing { package, .. }
            | Problem::NoVersion { package, .. }
            | Problem::Conflict { package, .. } => package,
            _ => root.package.clone(),
        };
        surveyed.unchecked.insert(package, TOO_MUCH.to_owned());
    }
    surveyed.unchecked.entry(root.package.clone()).or_insert_with(|| TOO_MUCH.to_owned());
    surveyed
}

/// The versions that may be chosen, the best first.
fn usable(all: &[Candidate], preferred: Option<&Version>) -> Vec<Version> {
    let is_preferred = |version: &Version| preferred == Some(version);
    let there = all.iter().filter(|candidate| !candidate.yanked || is_preferred(&candidate.version));
    let distinct: BTreeSet<&Version> = there.map(|candidate| &candidate.version).collect();
    let (first, others): (Vec<&Version>, Vec<&Version>) =
        distinct.into_iter().rev().partition(|version| is_preferred(version));
    let (stable, pre): (Vec<&Version>, Vec<&Version>) =
        others.into_iter().partition(|version| version.pre.is_empty());
    first.into_iter().chain(stable).chain(pre).cloned().collect()
}

/// What was learned.
#[derive(Debug, Default)]
struct Facts {
    versions: BTreeMap<PackageId, Known>,
    dependencies: BTreeMap<PackageId, BTreeMap<Version, Dependencies>>,
}

/// What is known of a package's versions.
#[derive(Debug)]
struct Known {
    /// Those that may be chosen, the best first.
    usable: Vec<Version>,
    all: Vec<Candidate>,
    whole: Whole,
}

#[derive(Debug)]
enum Whole {
    Yes,
    No(String),
    Missing,
}

impl Known {
    /// The best version that all ranges allow.
    fn best<'a>(&self, ranges: impl Iterator<Item = &'a VersionReq> + Clone) -> Option<&Version> {
        self.usable.iter().find(|version| ranges.clone().all(|range| range.matches(version)))
    }

    /// Why nothing can be said where no version is allowed.
    fn unknown(&self) -> Option<&str> {
        match &self.whole {
            Whole::No(why) => Some(why),
            Whole::Yes | Whole::Missing => None,
        }
    }
}

impl Facts {
    fn of(&self, package: &PackageId, version: &Version) -> Option<&Dependencies> {
        self.dependencies.get(package)?.get(version)
    }

    /// What a version needs, as far as it is known.
    fn ranges(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> impl Iterator<Item = (&PackageId, &VersionReq)> {
        match self.of(package, version) {
            Some(Dependencies::Known(ranges)) => Some(ranges),
            _ => None,
        }
        .into_iter()
        .flatten()
    }
}

/// What is left of the work that a resolution may take.
#[derive(Debug)]
struct Budget {
    matches: u64,
    tries: u64,
}

impl Budget {
    /// Takes the comparisons of some versions with some ranges out of the budget; false where it is used up.
    fn compare(&mut self, versions: usize, ranges: usize) -> bool {
        let cost = (versions as u64).saturating_mul(ranges as u64);
        let left = self.matches.checked_sub(cost);
        self.matches = left.unwrap_or(self.matches);
        left.is_some()
    }

    fn attempt(&mut self) -> bool {
        let left = self.tries.checked_sub(1);
        self.tries = left.unwrap_or(0);
        left.is_some()
    }
}

/// Why something is unchecked where the bounds on the work were reached.
pub(crate) const TOO_MUCH: &str = "there is too much to compare";

#[cfg(test)]
mod tests;
