//! `nobody-equivocates`: an honest publisher signs one entry for each place of a log, and nobody takes it for one that signed two.

use std::{collections::BTreeMap, time::Duration};

use ggen_marketplace::content::ContentId;

use super::{Case, Found, View};

/// Its name.
pub(super) const RULE: &str = "nobody-equivocates";

/// The entry at every place of every log, as it was seen first.
#[derive(Debug, Default)]
pub(super) struct Equivocations(BTreeMap<(String, u64), ContentId>);

impl Equivocations {
    pub(super) fn look(&mut self, found: &mut Found, case: &Case, at: Duration, node: usize, view: &View) {
        let is_honest = |package: &str| {
            let (publisher, _) = package.split_once('/').unwrap_or_default();
            case.members.iter().any(|member| member.is_honest() && member.publisher == publisher)
        };
        for (package, sequence, entry) in view.entries.iter().filter(|it| is_honest(&it.0)) {
            let first = *self.0.entry((package.clone(), *sequence)).or_insert(*entry);
            if first != *entry {
                let what = format!("knows {entry} as entry {sequence} of {package}; it was {first}");
                found.add(RULE, at, node, what);
            }
        }
        for package in view.frozen.iter().filter(|package| is_honest(package)) {
            found.add(RULE, at, node, format!("has frozen {package}, whose publisher is honest"));
        }
    }
}
