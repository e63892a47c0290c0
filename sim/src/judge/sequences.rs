//! `sequences-never-go-back`: no node forgets how far a package had come, not by a crash either.

use std::{collections::BTreeMap, time::Duration};

use super::{FORWARDING, Found, View};

/// Its name.
pub(super) const RULE: &str = "sequences-never-go-back";

/// How far every node had seen every package, and how far its listing was.
#[derive(Debug, Default)]
pub(super) struct Sequences(BTreeMap<(usize, String), [Option<u64>; 2]>);

impl Sequences {
    /// A node that lost its disk may begin again.
    pub(super) fn wiped(&mut self, node: usize) {
        self.0.retain(|(of, _), _| *of != node);
    }

    /// An older state was passed on: only a node that knows none newer may, since it cannot know better.
    pub(super) fn took(&self, found: &mut Found, at: Duration, node: usize, package: &str, sequence: u64) {
        let known = self.0.get(&(node, package.to_owned())).into_iter().flatten().flatten().max();
        if let Some(known) = known.filter(|known| sequence < **known) {
            let what = format!("passed on {package} at {sequence} and knew it at {known}");
            found.add(FORWARDING, at, node, what);
        }
    }

    pub(super) fn look(&mut self, found: &mut Found, at: Duration, node: usize, view: &View) {
        let seen = view.seen.iter().map(|(package, sequence)| (package, 0, *sequence));
        let listed = view.catalogue.iter().map(|(package, head)| (package, 1, head.sequence));
        for (package, which, sequence) in seen.chain(listed) {
            let highest = &mut self.0.entry((node, package.clone())).or_default()[which];
            if let Some(highest) = highest.filter(|highest| sequence < *highest) {
                let what = if which == 0 { "has seen" } else { "lists" };
                found.add(RULE, at, node, format!("{what} {package} at {sequence}; it was at {highest}"));
            }
            // The first release of a package has the number 0: it is something else than nothing.
            *highest = Some(sequence).max(*highest);
        }
        for (package, head) in &view.catalogue {
            let seen = view.seen.get(package).copied();
            if seen.is_none_or(|seen| seen < head.sequence) {
                let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string());
                let what = format!("lists {package} at {} and remembers {seen} of it", head.sequence);
                found.add(RULE, at, node, what);
            }
        }
        // What was seen once stays seen; a listing may end.
        for ((of, package), [highest, _]) in &self.0 {
            if let Some(highest) = highest
                && *of == node
                && !view.seen.contains_key(package)
            {
                found.add(RULE, at, node, format!("has forgotten that it saw {package} at {highest}"));
            }
        }
    }
}
