//! Which versions a project uses: those that are locked for as long as they fit, and as few others as possible.
//!
//! [`misfits`] says whether a lock file still matches what the project asks for; it needs nothing but the two. [`Planner`] finds
//! new versions where it does not. It is fed as [`Resolution`] is: [`Planner::needs`] says what has to be known, and what is
//! found comes back through [`Planner::learn_versions`] and [`Planner::learn_dependencies`].
//!
//! It goes in two steps. First the locked versions are taken as the only ones there are, so that nothing has to be looked up
//! but what is new. Only where that has no solution, the locked versions become those that are tried first, and everything is
//! looked up. The search is complete: where it finds nothing, there is nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use semver::{Comparator, Op, Version, VersionReq};

use super::Lock;
use crate::{
    identity::PublisherId,
    package::{
        PackageId,
        dependencies::{
            Candidate, Dependencies, Need, Problem, Ranges, Report, Resolution, Root, TOO_MUCH, Versions,
        },
    },
};

/// Who asks for a package, and which range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The package and its version; none where it is the project itself.
    pub by: Option<(PackageId, Version)>,
    /// The range.
    pub range: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            None => write!(f, "{} by this project", self.range),
            Some((package, version)) => write!(f, "{} by {package}@{version}", self.range),
        }
    }
}

/// How a lock file does not match what a project asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misfit {
    /// It does not have a package.
    Missing {
        /// The package.
        package: PackageId,
        /// Who asks for it.
        asked: Asked,
    },
    /// The version that it has is not in a range.
    Range {
        /// The package.
        package: PackageId,
        /// The version that is locked.
        version: Version,
        /// Who asks for another one.
        asked: Asked,
    },
    /// Nobody asks for a package that it has.
    Unneeded {
        /// The package.
        package: PackageId,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { package, asked } => write!(f, "{package} is not locked (asked for: {asked})"),
            Self::Range { package, version, asked } => {
                write!(f, "{package} is locked to {version} (asked for: {asked})")
            }
            Self::Unneeded { package } => write!(f, "{package} is locked, and nobody asks for it"),
        }
    }
}

/// Everything in which a lock file does not match what is asked for; empty where it does.
pub fn misfits(asked: &Ranges, lock: &Lock) -> Vec<Misfit> {
    let mut found = Vec::new();
    let mut reached = BTreeSet::new();
    let mut open: VecDeque<(Option<(&PackageId, &Version)>, &Ranges)> = VecDeque::from([(None, asked)]);
    while let Some((by, ranges)) = open.pop_front() {
        for (package, range) in ranges {
            let by = by.map(|(package, version)| (package.clone(), version.clone()));
            let asked = Asked { by, range: range.to_string() };
            let Some(locked) = lock.packages.get(package) else {
                found.push(Misfit::Missing { package: package.clone(), asked });
                continue;
            };
            if !range.matches(&locked.version) {
                let version = locked.version.clone();
                found.push(Misfit::Range { package: package.clone(), version, asked });
            }
            if reached.insert(package) {
                open.push_back((Some((package, &locked.version)), &locked.dependencies));
            }
        }
    }
    let unneeded = lock.packages.keys().filter(|package| !reached.contains(package));
    found.extend(unneeded.map(|package| Misfit::Unneeded { package: package.clone() }));
    found
}

/// Which of the locked packages may get other versions where nothing forces them to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Free {
    /// None of them.
    Nothing,
    /// These.
    Only(BTreeSet<PackageId>),
    /// All of them.
    Everything,
}

impl Free {
    /// Whether this package may get another version.
    pub fn holds(&self, package: &PackageId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Only(packages) => packages.contains(package),
            Self::Everything => true,
        }
    }
}

/// What is to be planned.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// What the project asks for.
    pub asked: Ranges,
    /// What it used so far.
    pub lock: Lock,
    /// What may change without need.
    pub free: Free,
    /// Packages of which a person wants exactly one version.
    pub exact: BTreeMap<PackageId, Version>,
}

/// Why no versions were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unplanned {
    /// There are none that go together.
    Impossible(Vec<Problem>),
    /// It cannot be known now: each package of which something is not known, and why.
    Unknown(BTreeMap<PackageId, String>),
    /// There are more combinations than are looked at.
    TooMuch,
}

/// Finds the versions that a project uses.
#[derive(Debug)]
pub struct Planner {
    root: Root,
    wishes: Wishes,
    stage: Stage,
    /// Packages whose locked version counts although it was yanked: there is no other.
    kept: BTreeSet<PackageId>,
    versions: BTreeMap<PackageId, Versions>,
    dependencies: BTreeMap<PackageId, BTreeMap<Version, Dependencies>>,
}

#[derive(Debug)]
enum Stage {
    /// The locked versions are the only ones.
    Lean(Box<Resolution>),
    /// They are tried first.
    Whole(Box<Resolution>),
    Done(Report),
}

impl Planner {
    /// Begins.
    pub fn new(wishes: Wishes) -> Self {
        let root = Root { package: itself(), dependencies: wishes.asked.clone() };
        let resolution = Box::new(Resolution::new(root.clone()));
        let stage =
            if wishes.free == Free::Everything { Stage::Whole(resolution) } else { Stage::Lean(resolution) };
        let kept = BTreeSet::new();
        Self { root, wishes, stage, kept, versions: BTreeMap::new(), dependencies: BTreeMap::new() }
    }

    /// What has to be known to go on; nothing where the plan is complete.
    pub fn needs(&mut self) -> Vec<Need> {
        loop {
            let (resolution, is_lean) = match &mut self.stage {
                Stage::Lean(resolution) => (resolution, true),
                Stage::Whole(resolution) => (resolution, false),
                Stage::Done(_) => return Vec::new(),
            };
            let needs = resolution.needs();
            if needs.is_empty() {
                self.conclude();
                continue;
            }
            let mut unknown = Vec::new();
            let mut facts = Vec::new();
            for need in needs {
                match self.known(&need, is_lean) {
                    Some(fact) => facts.push((need, fact)),
                    None => unknown.push(need),
                }
            }
            let (Stage::Lean(resolution) | Stage::Whole(resolution)) = &mut self.stage else { continue };
            for (need, fact) in facts {
                match (need, fact) {
                    (Need::Versions(package), Fact::Versions(versions)) => {
                        resolution.learn_versions(package, versions);
                    }
                    (Need::Dependencies(package, version), Fact::Dependencies(dependencies)) => {
                        resolution.learn_dependencies(package, version, dependencies);
                    }
                    _ => {}
                }
            }
            if !unknown.is_empty() {
                return unknown;
            }
        }
    }

    /// Learns the versions of a package; what was learned first stays.
    pub fn learn_versions(&mut self, package: PackageId, versions: Versions) {
        self.versions.entry(package).or_insert(versions);
    }

    /// Learns what one version needs; what was learned first stays.
    pub fn learn_dependencies(&mut self, package: PackageId, version: Version, dependencies: Dependencies) {
        self.dependencies.entry(package).or_default().entry(version).or_insert(dependencies);
    }

    /// The versions. What was not learned is unknown because of `why`: the second half of a sentence.
    ///
    /// # Errors
    /// [`Unplanned`].
    pub fn finish(mut self, why: &str) -> Result<BTreeMap<PackageId, Version>, Unplanned> {
        loop {
            let needs = self.needs();
            if needs.is_empty() {
                break;
            }
            for need in needs {
                match need {
                    Need::Versions(package) => {
                        self.learn_versions(package, Versions::Unchecked(why.to_owned()))
                    }
                    Need::Dependencies(package, version) => {
                        self.learn_dependencies(package, version, Dependencies::Unchecked(why.to_owned()));
                    }
                }
            }
        }
        let Stage::Done(report) = self.stage else { return Err(Unplanned::Unknown(BTreeMap::new())) };
        if !report.problems.is_empty() {
            let (exact, versions) = (&self.wishes.exact, &self.versions);
            let problems = report.problems.into_iter().map(|problem| in_full(problem, exact, versions));
            return Err(Unplanned::Impossible(problems.collect()));
        }
        if report.unchecked.values().any(|why| why == TOO_MUCH) {
            return Err(Unplanned::TooMuch);
        }
        if !report.unchecked.is_empty() {
            return Err(Unplanned::Unknown(report.unchecked));
        }
        Ok(report.chosen)
    }

    /// Ends a step that has all it needs.
    fn conclude(&mut self) {
        let next = match std::mem::replace(&mut self.stage, Stage::Done(Report::default())) {
            Stage::Lean(resolution) => {
                let report = resolution.finish("");
                if report.problems.is_empty() && report.unchecked.is_empty() {
                    Stage::Done(report)
                } else {
                    Stage::Whole(Box::new(self.whole()))
                }
            }
            Stage::Whole(resolution) => {
                let report = resolution.finish("");
                let more = self.keepable(&report.problems);
                if more.is_empty() {
                    Stage::Done(report)
                } else {
                    self.kept.extend(more);
                    Stage::Whole(Box::new(self.whole()))
                }
            }
            done @ Stage::Done(_) => done,
        };
        self.stage = next;
    }

    fn whole(&self) -> Resolution {
        let mut resolution = Resolution::new(self.root.clone());
        for (package, locked) in &self.wishes.lock.packages {
            if self.stays(package) {
                resolution.prefer(package.clone(), locked.version.clone());
            }
        }
        resolution
    }

    /// Packages that stand in the way and whose locked version was yanked: an update that finds no other leaves it.
    fn keepable(&self, problems: &[Problem]) -> Vec<PackageId> {
        let is_yanked = |package: &PackageId, version: &Version| match self.versions.get(package) {
            Some(Versions::All(list) | Versions::Some(list, _)) => {
                list.iter().any(|it| it.yanked && it.version == *version)
            }
            _ => false,
        };
        let locked = self.wishes.lock.packages.iter().filter(|(package, locked)| {
            !self.kept.contains(*package)
                && !self.stays(package)
                && !self.wishes.exact.contains_key(*package)
                && is_yanked(package, &locked.version)
        });
        let all: Vec<PackageId> = locked.map(|(package, _)| package.clone()).collect();
        if problems.is_empty() {
            return Vec::new();
        }
        // Those that stand in the way first, and then all of them: what is in none of the problems may be needed by what is.
        let is_meant = |package: &&PackageId| problems.iter().any(|it| problem_package(it) == Some(*package));
        let meant: Vec<PackageId> = all.iter().filter(is_meant).cloned().collect();
        if meant.is_empty() || !self.kept.is_empty() { all } else { meant }
    }

    /// Whether the locked version of a package is the one that is wanted.
    fn stays(&self, package: &PackageId) -> bool {
        !self.wishes.free.holds(package) && !self.wishes.exact.contains_key(package)
    }

    fn known(&self, need: &Need, is_lean: bool) -> Option<Fact> {
        match need {
            Need::Versions(package) => {
                let locked = self.wishes.lock.packages.get(package).filter(|_| self.stays(package));
                let only = |version: &Version| vec![Candidate { version: version.clone(), yanked: false }];
                if let (true, Some(locked)) = (is_lean, locked) {
                    return Some(Fact::Versions(Versions::All(only(&locked.version))));
                }
                let versions = match (self.versions.get(package)?.clone(), locked) {
                    // What is locked is known to be there, no matter who can be asked now.
                    (Versions::Unchecked(why), Some(locked)) => Versions::Some(only(&locked.version), why),
                    (versions, _) => self.narrowed(package, versions),
                };
                Some(Fact::Versions(versions))
            }
            Need::Dependencies(package, version) => {
                let locked = self.wishes.lock.packages.get(package);
                if let Some(locked) = locked.filter(|locked| locked.version == *version) {
                    return Some(Fact::Dependencies(Dependencies::Known(locked.dependencies.clone())));
                }
                let known = self.dependencies.get(package)?.get(version)?;
                Some(Fact::Dependencies(known.clone()))
            }
        }
    }

    /// Nothing but the version that a person wants, where they want one. One that this project names by its number can be had though
    /// it was yanked.
    fn narrowed(&self, package: &PackageId, versions: Versions) -> Versions {
        let exact = self.wishes.exact.get(package);
        let locked = self.wishes.lock.packages.get(package).filter(|_| self.kept.contains(package));
        let named = exact.cloned().or_else(|| self.wishes.asked.get(package).and_then(number));
        if named.is_none() && locked.is_none() {
            return versions;
        }
        let may = |version: &Version| {
            named.as_ref() == Some(version) || locked.is_some_and(|locked| locked.version == *version)
        };
        let only = |list: Vec<Candidate>| {
            let list = list.into_iter().filter(|it| exact.is_none_or(|exact| it.version == *exact));
            list.map(|it| Candidate { yanked: it.yanked && !may(&it.version), ..it }).collect()
        };
        match versions {
            Versions::All(list) => Versions::All(only(list)),
            Versions::Some(list, why) => Versions::Some(only(list), why),
            other => other,
        }
    }
}

/// A problem with all versions that there are, where a person wanted exactly one of them.
fn in_full(
    problem: Problem,
    exact: &BTreeMap<PackageId, Version>,
    known: &BTreeMap<PackageId, Versions>,
) -> Problem {
    let all = |package: &PackageId, versions: Vec<(Version, bool)>| match known.get(package) {
        Some(Versions::All(list) | Versions::Some(list, _)) if exact.contains_key(package) => {
            let mut all: Vec<_> = list.iter().map(|it| (it.version.clone(), it.yanked)).collect();
            all.sort_by(|a, b| b.cmp(a));
            all
        }
        _ => versions,
    };
    match problem {
        Problem::NoVersion { package, wanted, versions } => {
            Problem::NoVersion { versions: all(&package, versions), package, wanted }
        }
        Problem::Conflict { package, wanted, versions } => {
            Problem::Conflict { versions: all(&package, versions), package, wanted }
        }
        other => other,
    }
}

/// The one version that a range names by its number.
pub(crate) fn number(range: &VersionReq) -> Option<Version> {
    let [Comparator { op: Op::Exact, major, minor: Some(minor), patch: Some(patch), pre }] =
        &range.comparators[..]
    else {
        return None;
    };
    Some(Version { pre: pre.clone(), ..Version::new(*major, *minor, *patch) })
}

enum Fact {
    Versions(Versions),
    Dependencies(Dependencies),
}

/// The project in the place of a package: nobody can publish under this name.
fn itself() -> PackageId {
    PackageId { publisher: PublisherId::from_bytes([0; 32]), name: "project".parse().expect("it is a name") }
}

/// Why there are no versions that go together: each package about which others disagree, who asks for what, and how each
/// of those came into the project.
pub fn explain(problems: &[Problem], wishes: &Wishes) -> String {
    let mut text = Vec::new();
    for problem in problems {
        let (headline, wanted, versions) = match problem {
            Problem::Missing { package, wanted } => {
                (format!("{package} is not known to anybody; asked for:"), wanted, None)
            }
            Problem::NoVersion { package, wanted, versions } => (
                format!("no version of {package} is in the range that is asked for:"),
                wanted,
                Some(versions),
            ),
            Problem::Conflict { package, wanted, versions } => (
                format!("no version of {package} is in every range that is asked for:"),
                wanted,
                Some(versions),
            ),
            other => {
                text.push(format!("  {other}"));
                continue;
            }
        };
        text.push(format!("  {headline}"));
        let width = wanted.iter().map(|wanted| wanted.range.len()).max().unwrap_or(0);
        for wanted in wanted.iter().take(LISTED_MAX) {
            let by = match &wanted.by {
                (_, None) => "this project".to_owned(),
                (package, Some(version)) => format!("{package}@{version}"),
            };
            text.push(format!("    {:<width$}  by {by}", wanted.range));
            if wanted.by.1.is_none() {
                continue;
            }
            // How the dependent comes into the project, as cargo says it.
            for (package, version) in &wanted.needed_by {
                text.push(format!("    {:<width$}    needed by {package}@{version}", ""));
            }
            text.push(format!("    {:<width$}    needed by this project", ""));
        }
        if wanted.len() > LISTED_MAX {
            text.push(format!("    and {} more", wanted.len() - LISTED_MAX));
        }
        if let Some(versions) = versions {
            text.push(format!("    its versions: {}", listed(versions)));
            let usable: Vec<&Version> =
                versions.iter().filter(|(_, yanked)| !yanked).map(|(version, _)| version).collect();
            if !usable.is_empty() && usable.iter().all(|version| !version.pre.is_empty()) {
                text.push(format!(
                    "    a pre-release is only taken where a range names one of its numbers, such as ^{}",
                    usable[0]
                ));
            }
        }
        let exact = problem_package(problem).and_then(|package| Some((package, wishes.exact.get(package)?)));
        if let Some((_, exact)) = exact {
            text.push(format!("    of which only {exact} was to be taken"));
        }
    }
    text.join("\n")
}

/// Dependents, or versions, that an explanation lists; the rest is counted.
const LISTED_MAX: usize = 12;

fn problem_package(problem: &Problem) -> Option<&PackageId> {
    match problem {
        Problem::Missing { package, .. }
        | Problem::NoVersion { package, .. }
        | Problem::Conflict { package, .. } => Some(package),
        _ => None,
    }
}

fn listed(versions: &[(Version, bool)]) -> String {
    if versions.is_empty() {
        return "none".to_owned();
    }
    let one =
        |(version, yanked): &(Version, bool)| format!("{version}{}", if *yanked { " (yanked)" } else { "" });
    let mut shown: Vec<String> = versions.iter().take(LISTED_MAX).map(one).collect();
    if versions.len() > LISTED_MAX {
        shown.push(format!("and {} more", versions.len() - LISTED_MAX));
    }
    shown.join(", ")
}

/// The range that a person who names no range means: what is compatible with this version.
pub fn compatible(version: &Version) -> VersionReq {
    format!("^{version}").parse().unwrap_or(VersionReq::STAR)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
