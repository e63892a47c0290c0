//! Who asks for what in a project, and which folder each package has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use semver::Version;

use super::Lock;
use crate::package::{PackageId, PackageName, dependencies::Ranges, gpack::Project};

/// The folder of every locked package: the short name of one that has one, else its name; where two packages have the same
/// name, the one without a short name gets its publisher behind it.
///
/// No two packages get one folder: a name cannot hold the character that stands before the publisher.
pub fn folders(project: &Project, lock: &Lock) -> BTreeMap<PackageId, String> {
    let mut folders = BTreeMap::new();
    let mut taken: BTreeSet<&PackageName> = BTreeSet::new();
    for (alias, id) in &project.aliases {
        if lock.packages.contains_key(id) {
            folders.insert(id.clone(), alias.to_string());
            taken.insert(alias);
        }
    }
    let unnamed = || lock.packages.keys().filter(|id| project.aliases.values().all(|other| other != *id));
    let mut claims: BTreeMap<&PackageName, usize> = BTreeMap::new();
    unnamed().for_each(|id| *claims.entry(&id.name).or_default() += 1);
    for id in unnamed() {
        let is_alone = claims.get(&id.name) == Some(&1) && !taken.contains(&id.name);
        let folder = if is_alone { id.name.to_string() } else { format!("{}@{}", id.name, id.publisher) };
        folders.insert(id.clone(), folder);
    }
    folders
}

/// One line of a tree of dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Steps from the project; those that it asks for itself are at 0.
    pub depth: usize,
    /// The package.
    pub package: PackageId,
    /// Its version, where it is locked.
    pub version: Option<Version>,
    /// The range that the line above it asks for.
    pub range: String,
    /// What it needs stands further up already.
    pub repeated: bool,
}

/// The tree of what a project uses, each package with its own dependencies once.
pub fn tree(asked: &Ranges, lock: &Lock) -> Vec<Branch> {
    let mut branches = Vec::new();
    let mut shown = BTreeSet::new();
    let mut open: Vec<(usize, &PackageId, String)> = Vec::new();
    open.extend(asked.iter().rev().map(|(id, range)| (0, id, range.to_string())));
    while let Some((depth, package, range)) = open.pop() {
        let locked = lock.packages.get(package);
        let needs = locked.map(|locked| &locked.dependencies);
        let repeated = !shown.insert(package) && needs.is_some_and(|needs| !needs.is_empty());
        branches.push(Branch {
            depth,
            package: package.clone(),
            version: locked.map(|locked| locked.version.clone()),
            range,
            repeated,
        });
        if let (false, Some(needs)) = (repeated, needs) {
            open.extend(needs.iter().rev().map(|(id, range)| (depth + 1, id, range.to_string())));
        }
    }
    branches
}

/// One step of a chain from the project to a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The package.
    pub package: PackageId,
    /// Its locked version.
    pub version: Version,
    /// The range that the step before it asks for; the project before the first.
    pub range: String,
}

/// Why a package is there: for each that asks for it, a shortest chain from the project through that one.
pub fn why(asked: &Ranges, lock: &Lock, package: &PackageId) -> Vec<Vec<Step>> {
    let mut before: BTreeMap<&PackageId, Option<&PackageId>> = BTreeMap::new();
    let mut open: VecDeque<&PackageId> = VecDeque::new();
    for id in asked.keys().filter(|id| lock.packages.contains_key(id)) {
        before.insert(id, None);
        open.push_back(id);
    }
    while let Some(id) = open.pop_front() {
        for next in lock.packages.get(id).into_iter().flat_map(|locked| locked.dependencies.keys()) {
            if lock.packages.contains_key(next) && !before.contains_key(next) {
                before.insert(next, Some(id));
                open.push_back(next);
            }
        }
    }
    let mut chains = Vec::new();
    if asked.contains_key(package) {
        chains.extend(steps(asked, lock, &[package]));
    }
    for (by, locked) in &lock.packages {
        if by == package || !locked.dependencies.contains_key(package) || !before.contains_key(by) {
            continue;
        }
        let mut chain = vec![package, by];
        let mut last = by;
        while let Some(Some(earlier)) = before.get(last) {
            chain.push(earlier);
            last = earlier;
        }
        chain.reverse();
        // A way around through the package itself explains nothing.
        if chain.iter().filter(|id| **id == package).count() == 1 {
            chains.extend(steps(asked, lock, &chain));
        }
    }
    chains.sort_by_key(Vec::len);
    chains
}

fn steps(asked: &Ranges, lock: &Lock, chain: &[&PackageId]) -> Option<Vec<Step>> {
    let mut ranges = asked;
    let mut steps = Vec::new();
    for id in chain {
        let locked = lock.packages.get(*id)?;
        let range = ranges.get(*id)?.to_string();
        steps.push(Step { package: (*id).clone(), version: locked.version.clone(), range });
        ranges = &locked.dependencies;
    }
    Some(steps)
}

/// How the version of a package changes from one lock file to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The package.
    pub package: PackageId,
    /// The version before; none where it is new.
    pub from: Option<Version>,
    /// The version after; none where it is gone.
    pub to: Option<Version>,
}

/// What differs between two lock files, by package.
pub fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let ids: BTreeSet<&PackageId> = old.packages.keys().chain(new.packages.keys()).collect();
    let version = |lock: &Lock, id: &PackageId| lock.packages.get(id).map(|locked| locked.version.clone());
    let all = ids.into_iter().map(|id| Change {
        package: id.clone(),
        from: version(old, id),
        to: version(new, id),
    });
    all.filter(|change| change.from != change.to).collect()
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
