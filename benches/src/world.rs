//! The simulated worlds in which is measured: a mesh of equal nodes with the same latency on every link.
//!
//! All nodes join, then packages are published one after the other, then they are looked up. Nothing else happens and nothing
//! breaks, so that lookups of a head in the last part of a run are those that were asked for.

use std::{path::Path, time::Duration};

use ggen_marketplace::{package::PackageId, release::dht_key, time::Timestamp};
use ggen_sim::{
    draw::{Draws, Publishers},
    scenario::{self, Scenario},
    virtualise,
};
use libp2p::{
    PeerId,
    kad::{K_VALUE, KBucketKey},
};

/// One way from site to site. Within a site a message takes one tick.
pub const LATENCY: Duration = Duration::from_millis(50);
/// There and back.
pub const ROUND_TRIP: Duration = Duration::from_millis(100);
/// How far the simulation moves the time at once where nothing else is asked, and so how exact each duration is.
pub const TICK: Duration = Duration::from_millis(10);
/// The sizes that are measured, in nodes.
pub const NODES: [usize; 4] = [20, 50, 100, 200];
/// The seed of the figures that are kept.
pub const SEED: u64 = 1;

/// Simulated hosts at most; the nodes are dealt out to them in turn.
const SITES_MAX: usize = 25;
/// From one announcement to the next: by far more than one takes.
const APART: Duration = Duration::from_secs(2);
/// From one lookup to the next.
const LOOKUPS_APART: Duration = Duration::from_millis(200);

/// How large a world is and how much happens in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Nodes; all of them answer DHT queries.
    pub nodes: usize,
    /// Packages that are published.
    pub packages: usize,
    /// Lookups.
    pub lookups: usize,
    /// When the last node has started.
    pub started: Duration,
    /// When the first package is published.
    pub settled: Duration,
    /// How far the simulation moves the time at once.
    pub tick: Duration,
}

impl Size {
    /// The size that is measured with so many nodes.
    pub const fn of(nodes: usize) -> Self {
        // By then, connections beyond the higher mark have been trimmed.
        let (started, settled) = (Duration::from_secs(10), Duration::from_secs(90));
        Self { nodes, packages: 10, lookups: 100, started, settled, tick: TICK }
    }

    /// As few as show how the network behaves: for a test.
    pub const fn brief(nodes: usize) -> Self {
        let (started, settled) = (Duration::from_secs(4), Duration::from_secs(12));
        Self { nodes, packages: 3, lookups: 12, started, settled, tick: TICK }
    }

    /// Simulated hosts.
    pub fn sites(&self) -> usize {
        self.nodes.min(SITES_MAX)
    }

    /// From when on nothing is published any more, and packages are looked up.
    pub fn lookups_from(&self) -> Duration {
        self.settled + APART * u32::try_from(self.packages).unwrap_or(u32::MAX) + Duration::from_secs(3)
    }

    /// The end.
    pub fn duration(&self) -> Duration {
        self.lookups_from()
            + LOOKUPS_APART * u32::try_from(self.lookups).unwrap_or(u32::MAX)
            + Duration::from_secs(12)
    }

    /// The nodes' names, in order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (0..self.nodes).map(|node| format!("node-{node}"))
    }

    /// The scenario.
    ///
    /// # Errors
    /// Where the simulation does not know such a scenario any more.
    pub fn scenario(&self, seed: u64) -> Result<Scenario, scenario::Error> {
        let name = format!("{}-nodes.toml", self.nodes);
        Scenario::parse(Path::new(&name), &self.text(seed))
    }

    fn text(&self, seed: u64) -> String {
        let Self { nodes, started, tick, .. } = self;
        let [duration, started, tick, latency] =
            [self.duration(), *started, *tick, LATENCY].map(|it| format!("{} ms", it.as_millis()));
        let mut text = format!(
            r#"duration = "{duration}"
tick = "{tick}"
latency = {{ min = "{latency}", max = "{latency}" }}
[topology]
kind = "mesh"
nodes = {nodes}
sites = {sites}
started = "{started}"
"#,
            sites = self.sites(),
        );
        for package in 0..self.packages {
            let at = self.settled + APART * u32::try_from(package).unwrap_or(u32::MAX);
            let author = self.author(package);
            text += &step(at, author, "publish", package);
        }
        let draws = Draws::new(seed);
        let keys: Vec<_> =
            self.names().map(|name| draws.node_key(&name).public().to_peer_id().into()).collect();
        let strangers: Vec<_> = (0..self.packages).map(|it| self.strangers(draws, &keys, it)).collect();
        for lookup in 0..self.lookups {
            let at = self.lookups_from() + LOOKUPS_APART * u32::try_from(lookup).unwrap_or(u32::MAX);
            let package = lookup % self.packages;
            let strangers = &strangers[package];
            let turn = draws.below(strangers.len() as u64, "lookup", "", lookup as u64);
            let node = strangers[usize::try_from(turn).unwrap_or_default()];
            text += &step(at, node, "lookup", package);
            text += "may-fail = true\n";
        }
        text
    }

    fn author(&self, package: usize) -> usize {
        package * self.nodes / self.packages
    }

    /// The nodes that have no copy of a package's head in their part of the DHT: all but those nearest to its key. Where there
    /// are too few nodes for that, all but the author; what is held at home spares no request, since the newest head is asked
    /// for and not the first.
    fn strangers(&self, draws: Draws, keys: &[KBucketKey<PeerId>], package: usize) -> Vec<usize> {
        let author = self.author(package);
        let created = Timestamp::from_secs(virtualise::EPOCH.as_secs());
        let author_name = self.names().nth(author).expect("an author is a node");
        let publisher = draws.publisher(&author_name, created).id();
        let name = package_name(package).parse().expect("a valid name");
        let key = KBucketKey::new(dht_key(&PackageId { publisher, name }).to_vec());
        let mut nodes: Vec<usize> = (0..self.nodes).filter(|node| *node != author).collect();
        nodes.sort_by_key(|node| key.distance(&keys[*node]));
        if nodes.len() > K_VALUE.get() {
            nodes.drain(..K_VALUE.get());
        }
        nodes.sort_unstable();
        nodes
    }
}

fn package_name(package: usize) -> String {
    format!("package-{package}")
}

fn step(at: Duration, node: usize, verb: &str, package: usize) -> String {
    let (at, package) = (at.as_millis(), package_name(package));
    format!(
        "[[workload]]\nat = \"{at} ms\"\nnode = \"node-{node}\"\ndo = \"{verb}\"\npackage = \"{package}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_a_scenario_and_only_the_lookups_depend_on_the_seed() {
        for nodes in NODES {
            let size = Size::of(nodes);
            let scenario = size.scenario(SEED).unwrap();
            assert_eq!(scenario.nodes.len(), nodes);
            assert_eq!(scenario.steps.len(), size.packages + size.lookups);
            let other = size.scenario(SEED + 1).unwrap();
            assert_eq!(scenario.steps[..size.packages], other.steps[..size.packages]);
            assert_ne!(scenario.steps, other.steps);
        }
    }

    #[test]
    fn nobody_near_the_key_looks_it_up() {
        let draws = Draws::new(SEED);
        let strangers = |size: &Size| {
            let peer = |name: String| draws.node_key(&name).public().to_peer_id().into();
            let keys: Vec<KBucketKey<PeerId>> = size.names().map(peer).collect();
            size.strangers(draws, &keys, 0)
        };
        let found = strangers(&Size::of(50));
        assert_eq!(found.len(), 50 - 1 - K_VALUE.get());
        assert!(!found.contains(&Size::of(50).author(0)));
        assert_eq!(strangers(&Size::of(20)).len(), 19, "too few to have no copy");
    }
}
