//! `publications-last`: what a node told its user to be published is published, and stays so as long as it has its disk.

use std::{collections::BTreeSet, time::Duration};

use ggen_marketplace::content::ContentId;

use super::{Fact, Found, Oracle, View};

/// Its name.
pub(super) const RULE: &str = "publications-last";

/// What nodes told their users to be published: the node, the package, its version and its tree.
#[derive(Debug, Default)]
pub(super) struct Publications(BTreeSet<(usize, (String, String, ContentId))>);

impl Publications {
    pub(super) fn hear(&mut self, fact: &Fact) {
        match fact {
            Fact::Published { node, package, version, root } => {
                self.0.insert((*node, (package.clone(), version.clone(), *root)));
            }
            Fact::Wiped { node } => self.0.retain(|(of, _)| of != node),
            _ => {}
        }
    }

    /// Every publication is in the publisher's own store, and was there whole.
    pub(super) fn finish(&self, found: &mut Found, oracle: &Oracle, at: Duration, node: usize, view: &View) {
        for (_, publication) in self.0.iter().filter(|(of, _)| *of == node) {
            let (package, version, root) = publication;
            if oracle.release(package, version).is_none_or(|it| it.root != *root) {
                let what = format!("told that {package}@{version} is published, and never held it");
                found.add(RULE, at, node, what);
            } else if !view.own.contains(publication) {
                found.add(RULE, at, node, format!("has lost {package}@{version}, which it published"));
            }
        }
    }
}
