//! The search for another choice of versions, where the survey's does not satisfy every range.
//!
//! Packages are decided one after the other, each with the best version that is left. Where none is left, the search jumps
//! back to the latest decision that has a part in it: *conflict-directed backjumping*, P. Prosser, "Hybrid Algorithms for
//! the Constraint Satisfaction Problem", Computational Intelligence 9(3), 1993. It is begun again whenever something was
//! learned; its decisions are the same again up to there.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};

use super::{Budget, Dependencies, Facts, Need, PACKAGES_MAX, Ranges, Root};
use crate::{limits::DEPENDENCIES_MAX, package::PackageId};

/// What a search came to.
pub(super) enum Outcome {
    /// These must be learned first.
    Needs(Vec<Need>),
    /// A choice that satisfies every range that is known.
    Found {
        /// The versions.
        chosen: BTreeMap<PackageId, Version>,
        /// What is not known of it.
        unchecked: BTreeMap<PackageId, String>,
    },
    /// There is no such choice.
    Nothing,
    /// The bounds were reached.
    GaveUp,
}

/// Looks for a choice that satisfies every range.
pub(super) fn search(root: &Root, facts: &Facts, budget: &mut Budget) -> Outcome {
    let mut search = Search { root, facts, queue: Vec::new(), places: BTreeMap::new(), levels: Vec::new() };
    for (package, range) in &root.dependencies {
        search.constrain(package, None, range);
    }
    while search.levels.len() < search.queue.len() {
        let mut step = search.enter(budget);
        while step.is_none() {
            step = match search.decide(budget) {
                Decision::Made => break,
                Decision::Stopped(outcome) => Some(outcome),
                Decision::None if search.jump_back() => None,
                Decision::None => Some(Outcome::Nothing),
            };
        }
        if let Some(outcome) = step {
            return outcome;
        }
    }
    search.found()
}

struct Search<'a> {
    root: &'a Root,
    facts: &'a Facts,
    /// The packages in the order in which they are decided: that in which the decisions before brought them up.
    queue: Vec<Queued<'a>>,
    places: BTreeMap<&'a PackageId, usize>,
    /// One for each package of the queue that is decided, and perhaps the one that is about to be.
    levels: Vec<Level<'a>>,
}

struct Queued<'a> {
    package: &'a PackageId,
    /// The ranges, each with the level that named it; none where it was the root.
    ranges: Vec<(Option<usize>, &'a VersionReq)>,
}

struct Level<'a> {
    /// Versions to try; the last may be none, which stands for one that is not known.
    candidates: Vec<Option<&'a Version>>,
    next: usize,
    /// Levels that have a part in it that a candidate is not possible.
    culprits: BTreeSet<usize>,
    /// The length of the queue before its decision.
    queued_before: usize,
    /// Places of the queue that its decision gave a range to.
    constrained: Vec<usize>,
}

impl<'a> Level<'a> {
    fn choice(&self) -> Option<&'a Version> {
        self.candidates.get(self.next.checked_sub(1)?).copied().flatten()
    }
}

enum Decision {
    Made,
    /// No candidate is left.
    None,
    Stopped(Outcome),
}

impl<'a> Search<'a> {
    fn constrain(&mut self, package: &'a PackageId, level: Option<usize>, range: &'a VersionReq) -> usize {
        let (queue, places) = (&mut self.queue, &mut self.places);
        let place = *places.entry(package).or_insert_with(|| {
            queue.push(Queued { package, ranges: Vec::new() });
            queue.len() - 1
        });
        queue[place].ranges.push((level, range));
        place
    }

    /// Begins with the next package of the queue.
    fn enter(&mut self, budget: &mut Budget) -> Option<Outcome> {
        let Queued { package, ranges } = &self.queue[self.levels.len()];
        let Some(known) = self.facts.versions.get(*package) else {
            let waiting = self.queue[self.levels.len()..].iter().map(|queued| queued.package);
            let unknown = waiting.filter(|package| !self.facts.versions.contains_key(*package));
            return Some(Outcome::Needs(unknown.cloned().map(Need::Versions).collect()));
        };
        if !budget.compare(known.usable.len(), ranges.len()) {
            return Some(Outcome::GaveUp);
        }
        let allowed = |version: &&Version| ranges.iter().all(|(_, range)| range.matches(version));
        let mut candidates: Vec<_> = known.usable.iter().filter(allowed).map(Some).collect();
        if known.unknown().is_some() {
            candidates.push(None);
        }
        self.levels.push(Level {
            candidates,
            next: 0,
            culprits: ranges.iter().filter_map(|(level, _)| *level).collect(),
            queued_before: self.queue.len(),
            constrained: Vec::new(),
        });
        None
    }

    /// Decides the package of the last level.
    fn decide(&mut self, budget: &mut Budget) -> Decision {
        let last = self.levels.len() - 1;
        let package = self.queue[last].package;
        loop {
            let level = &mut self.levels[last];
            let Some(candidate) = level.candidates.get(level.next).copied() else { return Decision::None };
            if !budget.attempt() {
                return Decision::Stopped(Outcome::GaveUp);
            }
            let Some(version) = candidate else {
                level.next += 1;
                return Decision::Made;
            };
            let ranges = match self.facts.of(package, version) {
                None => {
                    let need = Need::Dependencies(package.clone(), version.clone());
                    return Decision::Stopped(Outcome::Needs(vec![need]));
                }
                Some(Dependencies::Unchecked(_)) => {
                    level.next += 1;
                    return Decision::Made;
                }
                Some(Dependencies::Known(ranges)) => ranges,
            };
            level.next += 1;
            if !budget.compare(1, ranges.len()) {
                return Decision::Stopped(Outcome::GaveUp);
            }
            if ranges.len() <= DEPENDENCIES_MAX && self.agrees(last, ranges) {
                return self.commit(last, ranges);
            }
        }
    }

    /// Whether ranges allow what the levels before have decided; where not, who decided so is a culprit.
    fn agrees(&mut self, last: usize, ranges: &'a Ranges) -> bool {
        let clash = ranges.iter().find_map(|(package, range)| {
            let place = *self.places.get(package)?;
            let decided = if place < last { self.levels[place].choice()? } else { return None };
            (!range.matches(decided)).then_some(place)
        });
        self.levels[last].culprits.extend(clash);
        clash.is_none()
    }

    fn commit(&mut self, last: usize, ranges: &'a Ranges) -> Decision {
        let own = self.queue[last].package;
        for (package, range) in ranges {
            let is_decided = self.places.get(package).is_some_and(|place| *place < last);
            // Cycles are looked for later.
            if is_decided || package == own || *package == self.root.package {
                continue;
            }
            let place = self.constrain(package, Some(last), range);
            self.levels[last].constrained.push(place);
        }
        if self.queue.len() > PACKAGES_MAX { Decision::Stopped(Outcome::GaveUp) } else { Decision::Made }
    }

    /// Goes back from a package that nothing is left for to the last decision that has a part in it; false where none has.
    fn jump_back(&mut self) -> bool {
        let Some(failed) = self.levels.pop() else { return false };
        let mut culprits = failed.culprits;
        let Some(target) = culprits.pop_last() else { return false };
        while self.levels.len() > target + 1 {
            self.undo();
            self.levels.pop();
        }
        self.undo();
        self.levels[target].culprits.extend(culprits);
        true
    }

    /// Takes back what the decision of the last level brought about.
    fn undo(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        for place in level.constrained.drain(..).filter(|place| *place < level.queued_before) {
            self.queue[place].ranges.pop();
        }
        for gone in self.queue.drain(level.queued_before..) {
            self.places.remove(gone.package);
        }
    }

    fn found(&self) -> Outcome {
        let (mut chosen, mut unchecked) = (BTreeMap::new(), BTreeMap::new());
        for (queued, level) in self.queue.iter().zip(&self.levels) {
            let package = queued.package.clone();
            let Some(version) = level.choice() else {
                let why = self.facts.versions.get(&package).and_then(|known| known.unknown());
                unchecked.insert(package, why.unwrap_or_default().to_owned());
                continue;
            };
            if let Some(Dependencies::Unchecked(why)) = self.facts.of(&package, version) {
                unchecked.insert(package.clone(), why.clone());
            }
            chosen.insert(package, version.clone());
        }
        Outcome::Found { chosen, unchecked }
    }
}
