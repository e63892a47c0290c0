//! Packages that depend on one another, in a choice of versions.

use std::collections::{BTreeMap, VecDeque};

use semver::Version;

use super::{Facts, Problem, Root};
use crate::package::PackageId;

/// One cycle of each set of packages that depend on one another: a shortest one through the root, or else through the least
/// id. That the root depends on itself is another problem.
pub(super) fn cycles(root: &Root, chosen: &BTreeMap<PackageId, Version>, facts: &Facts) -> Vec<Problem> {
    // The root is 0, so that it comes first everywhere.
    let names: Vec<&PackageId> =
        std::iter::once(&root.package).chain(chosen.keys().filter(|id| **id != root.package)).collect();
    let places: BTreeMap<&PackageId, usize> =
        names.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let mut edges: Vec<Vec<usize>> = Vec::with_capacity(names.len());
    let of_root = root.dependencies.keys().filter(|id| **id != root.package);
    edges.push(of_root.filter_map(|id| places.get(id).copied()).collect());
    for id in &names[1..] {
        let needed = chosen.get(*id).into_iter().flat_map(|version| facts.ranges(id, version));
        edges.push(needed.filter_map(|(id, _)| places.get(id).copied()).collect());
    }
    let components = components(&edges);
    let mut is_named = vec![false; names.len()];
    let mut cycles = Vec::new();
    for start in 0..names.len() {
        if std::mem::replace(&mut is_named[components[start]], true) {
            continue;
        }
        // A component is met at its least member first.
        if let Some(cycle) = shortest(start, &edges, &components) {
            cycles.push(Problem::Cycle { packages: cycle.into_iter().map(|at| names[at].clone()).collect() });
        }
    }
    cycles
}

/// A shortest way from `start` back to it, both ends included; none where there is none.
fn shortest(start: usize, edges: &[Vec<usize>], components: &[usize]) -> Option<Vec<usize>> {
    let mut before: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for &to in edges[at].iter().filter(|to| components[**to] == components[start]) {
            if to == start {
                let mut way = vec![start, at];
                while let Some(&earlier) = before.get(way.last()?) {
                    way.push(earlier);
                }
                if at == start {
                    way.truncate(2);
                }
                way.reverse();
                return Some(way);
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = before.entry(to) {
                entry.insert(at);
                queue.push_back(to);
            }
        }
    }
    None
}

/// The strongly connected component of each node, as the number of one of its nodes: S. R. Kosaraju's two walks.
fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut back = vec![Vec::new(); edges.len()];
    for (from, to) in edges.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |to| (from, *to))) {
        back[to].push(from);
    }
    let mut order = Vec::with_capacity(edges.len());
    let mut is_seen = vec![false; edges.len()];
    for start in 0..edges.len() {
        walk(start, edges, &mut is_seen, &mut |node| order.push(node));
    }
    let mut components = vec![0; edges.len()];
    let mut is_seen = vec![false; edges.len()];
    for start in order.into_iter().rev() {
        walk(start, &back, &mut is_seen, &mut |node| components[node] = start);
    }
    components
}

/// Visits what is reachable and was not seen, each node after all that it reaches.
fn walk(start: usize, edges: &[Vec<usize>], is_seen: &mut [bool], leave: &mut dyn FnMut(usize)) {
    if std::mem::replace(&mut is_seen[start], true) {
        return;
    }
    let mut stack = vec![(start, 0)];
    while let Some((node, next)) = stack.last_mut() {
        match edges[*node].get(*next) {
            Some(&to) => {
                *next += 1;
                if !std::mem::replace(&mut is_seen[to], true) {
                    stack.push((to, 0));
                }
            }
            None => {
                leave(*node);
                stack.pop();
            }
        }
    }
}
