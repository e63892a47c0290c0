//! `versions-are-immutable`: one version of one package is one tree, everywhere and permanently.

use std::{collections::BTreeMap, time::Duration};

use ggen_marketplace::content::ContentId;

use super::{Found, View};

/// Its name.
pub(super) const RULE: &str = "versions-are-immutable";

/// What every version was when it was seen first.
#[derive(Debug, Default)]
pub(super) struct Versions(BTreeMap<(String, String), ContentId>);

impl Versions {
    pub(super) fn look(&mut self, found: &mut Found, at: Duration, node: usize, view: &View) {
        let held = view.held.iter().map(|it| (&it.package, &it.version, it.root));
        let published = view.published.iter().map(|it| (&it.package, &it.version, it.root));
        let listed = view.catalogue.iter().filter_map(|(package, head)| {
            head.latest.as_ref().map(|(version, root)| (package, version, *root))
        });
        for (package, version, root) in held.chain(published).chain(listed) {
            let first = *self.0.entry((package.clone(), version.clone())).or_insert(root);
            if first != root {
                found.add(RULE, at, node, format!("has {package}@{version} as {root}; it was {first}"));
            }
        }
    }
}
