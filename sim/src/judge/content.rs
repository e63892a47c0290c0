//! `only-verified-content`: nothing is held, listed or installed but what an honest publisher published.

use std::time::Duration;

use ggen_marketplace::content::ContentId;

use super::{Case, Found, Member, Oracle, Publication, View};

/// Its name.
pub(super) const RULE: &str = "only-verified-content";

/// A node says that it has published: it must be what the workload told it to, to the byte.
pub(super) fn published(
    found: &mut Found,
    oracle: &mut Oracle,
    case: &Case,
    at: Duration,
    node: usize,
    publication: &Publication,
) {
    let Publication { package, version, tree, .. } = publication;
    let member = &case.members[node];
    let Some(name) = package.strip_prefix(member.publisher.as_str()).and_then(|name| name.strip_prefix('/'))
    else {
        found.add(RULE, at, node, format!("published {package} under the name of another publisher"));
        return;
    };
    match case.trees.get(&(node, name.to_owned(), version.clone())) {
        Some(written) if written == tree => oracle.learn(publication, at),
        Some(_) => found.add(RULE, at, node, format!("published other files as {package}@{version}")),
        None => found.add(RULE, at, node, format!("published {package}@{version}, which nobody asked for")),
    }
}

/// A head is in the store of a node: it counts as made by whom it names, where that is this node and honest.
pub(super) fn signed(
    oracle: &mut Oracle,
    case: &Case,
    at: Duration,
    node: usize,
    package: &str,
    digest: [u8; 32],
) {
    let Member { publisher, turns, .. } = &case.members[node];
    let is_own = package.split_once('/').is_some_and(|(of, _)| of == publisher);
    if is_own && turns.is_none_or(|turns| at <= turns) {
        oracle.learn_head(package, digest);
    }
}

/// What a node holds.
pub(super) fn held(found: &mut Found, oracle: &Oracle, at: Duration, node: usize, view: &View) {
    for id in view.blocks.iter().filter(|id| !oracle.has_block(id) && !view.waiting.contains(id)) {
        found.add(
            RULE,
            at,
            node,
            format!("holds the block {id}, which belongs to nothing that was published"),
        );
    }
    if view.unverified > 0 {
        found.add(RULE, at, node, format!("lists {} heads that nobody has signed", view.unverified));
    }
    for held in &view.held {
        let release = oracle.release(&held.package, &held.version);
        if release.is_none_or(|it| (it.root, it.manifest) != (held.root, held.manifest)) {
            let what = format!("holds {}@{} as {}", held.package, held.version, held.root);
            found.add(RULE, at, node, format!("{what}, which nobody published"));
        }
    }
    for (package, head) in view.catalogue.iter().filter(|(package, _)| !oracle.is_tolerated(package)) {
        let is_known = match &head.latest {
            Some((version, root)) => {
                let release = oracle.release(package, version);
                release.is_some_and(|it| it.root == *root && it.sequence <= head.sequence)
            }
            None => false,
        };
        if !is_known {
            let latest = head.latest.as_ref().map_or("nothing", |(version, _)| version);
            let what = format!("lists {package} with {latest} at {}", head.sequence);
            found.add(RULE, at, node, format!("{what}, which nobody published"));
        }
        if !oracle.has_head(package, head.digest) {
            let what = format!("lists a head of {package} at {}", head.sequence);
            found.add(RULE, at, node, format!("{what} that its publisher never made"));
        }
    }
}

/// A step installed a folder.
pub(super) fn installed(
    found: &mut Found,
    oracle: &Oracle,
    case: &Case,
    at: Duration,
    (step, node): (usize, usize),
    root: ContentId,
    tree: [u8; 32],
) {
    let is_same = match oracle.with_root(root) {
        Some((_, release)) => release.tree == tree,
        // It may have been published since the last look: then the files must be some that were written.
        None => case.trees.values().any(|written| *written == tree),
    };
    if !is_same {
        found.add(RULE, at, node, format!("step {step} installed {root} with files that nobody published"));
    }
}
