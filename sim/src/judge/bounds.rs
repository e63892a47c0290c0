//! `bounds-hold`: nothing that a node keeps grows beyond what it says is the most.

use std::{collections::BTreeMap, time::Duration};

use ggen_marketplace::{
    limits::{CATALOG_HEADS_MAX, CATALOG_HEADS_PER_PUBLISHER_MAX, PEERS_MAX},
    network::Load,
};

use super::{Case, Found, View};

/// Its name.
pub(super) const RULE: &str = "bounds-hold";

/// The bounds of every node.
#[derive(Debug)]
pub(super) struct Bounds {
    /// By node.
    most: Vec<(Load, Option<u64>)>,
}

impl Bounds {
    pub(super) fn new(case: &Case) -> Self {
        let limits = case.members.iter().map(|member| member.limits);
        Self { most: limits.map(|it| (Load::most(it.connections_max), it.store_bytes_max)).collect() }
    }

    pub(super) fn loaded(&self, found: &mut Found, at: Duration, node: usize, load: &Load) {
        if let Some((what, held, most)) = load.beyond(&self.most[node].0) {
            found.add(RULE, at, node, format!("holds {held} {what}, and {most} are the most"));
        }
    }

    /// The transport knows of connections that the node's own count may have forgotten.
    pub(super) fn lasting(&self, found: &mut Found, at: Duration, node: usize, streams: usize) {
        let most = self.most[node].0.connections;
        if streams > most {
            found.add(
                RULE,
                at,
                node,
                format!("has {streams} lasting streams, and {most} connections are the most"),
            );
        }
    }

    pub(super) fn look(&self, found: &mut Found, at: Duration, node: usize, view: &View) {
        let mut of_publisher: BTreeMap<&str, usize> = BTreeMap::new();
        for package in view.catalogue.keys() {
            *of_publisher.entry(package.split('/').next().unwrap_or_default()).or_default() += 1;
        }
        let most = of_publisher.values().max().copied().unwrap_or_default();
        for (what, held, bound) in [
            ("heads", view.catalogue.len(), CATALOG_HEADS_MAX),
            ("heads of one publisher", most, CATALOG_HEADS_PER_PUBLISHER_MAX),
            ("peers in the address book", view.known_peers, PEERS_MAX),
        ] {
            if held > bound {
                found.add(RULE, at, node, format!("holds {held} {what}, and {bound} are the most"));
            }
        }
        if let Some(bound) = self.most[node].1.filter(|bound| view.store_bytes > *bound) {
            found.add(RULE, at, node, format!("stores {} bytes, and {bound} are the most", view.store_bytes));
        }
    }
}
