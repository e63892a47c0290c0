//! One run, and what is read from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ggen_marketplace::network::{Event, Lookup, LookupKind};
use ggen_sim::{
    draw::Draws,
    report::Report,
    scenario,
    witness::Witness,
    world::{self, Options},
};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use crate::{
    cost::Cost,
    figures::{Figures, Gossip, Joining, Lookups, Spread, ms, thousandths},
    world::{ROUND_TRIP, Size},
};

/// Messages that came, before those were left out that had come before, as Gossipsub counts them.
const COPIES: &str = "gossip_topic_msg_recv_counts_unfiltered_total";
/// Messages that came for the first time.
const FIRSTS: &str = "gossip_topic_msg_recv_counts_total";

/// A run, with the single values that its figures sum up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What it showed.
    pub figures: Figures,
    /// Duration of each lookup, in milliseconds.
    pub lookup_ms: Vec<f64>,
    /// For each announcement and node: from publishing to taking, in milliseconds.
    pub propagation_ms: Vec<f64>,
    /// The hash over the run's trace.
    pub trace_hash: String,
    /// What the machine did for it; differs from run to run.
    pub cost: Cost,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The simulation does not know the scenario.
    #[error(transparent)]
    Scenario(#[from] scenario::Error),
    /// The run came to nothing.
    #[error(transparent)]
    Run(#[from] world::Error),
    /// Something broke that must hold: figures of such a run mean nothing.
    #[error("an invariant does not hold: {0}")]
    Violated(String),
    /// An announcement came on a way that it cannot have come.
    #[error("what was seen cannot be: {0}")]
    Strange(String),
}

/// Runs a world and measures; repeatable for the first run of a process only.
///
/// # Errors
/// Where the run came to nothing, or to something that means nothing.
pub fn run(size: &Size, seed: u64) -> Result<Measured, Error> {
    let scenario = size.scenario(seed)?;
    let draws = Draws::new(seed);
    let peers =
        size.names().enumerate().map(|(node, name)| (draws.node_key(&name).public().to_peer_id(), node));
    let seen = Arc::new(Mutex::new(Seen { peers: peers.collect(), ..Seen::default() }));
    let told = seen.clone();
    let witness = Witness::new(move |at, node, event| {
        told.lock().unwrap_or_else(PoisonError::into_inner).note(at, node, event);
    });
    let finished = world::run(&scenario, seed, Options { witness, counts: true, ..Options::default() })?;
    let violations = finished.report.invariants.iter().flat_map(|it| &it.violations);
    if let Some(violation) = violations.into_iter().next() {
        return Err(Error::Violated(violation.clone()));
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(strange) = &seen.strange {
        return Err(Error::Strange(strange.clone()));
    }
    let lookups: Vec<Lookup> = seen.heads_got(size.lookups_from()).collect();
    let deliveries = || seen.announcements.iter().flat_map(Announcement::deliveries);
    let copies = total(&finished.counts, COPIES);
    let firsts = total(&finished.counts, FIRSTS);
    let figures = Figures {
        nodes: size.nodes,
        sites: size.sites(),
        seed,
        simulated_secs: finished.report.simulated_secs,
        lookup: summed(&lookups, size, &finished.report),
        gossip: Gossip {
            count: seen.announcements.len(),
            reached: thousandths(
                deliveries().count() as f64 / (seen.announcements.len() * (size.nodes - 1)).max(1) as f64,
            ),
            ms: Spread::of(deliveries().map(|(after, _)| ms(after))),
            hops: Spread::of(deliveries().map(|(_, hops)| f64::from(hops))),
            copies: thousandths(copies as f64 / seen.announcements.len().max(1) as f64),
            duplicates_per_delivery: thousandths((copies - firsts) as f64 / firsts.max(1) as f64),
        },
        joining: Joining {
            connections: finished.report.metrics.get("connections_made").copied().unwrap_or(0.0),
            bootstraps: seen.bootstraps().count(),
            requests: Spread::of(seen.bootstraps().map(|it| f64::from(it.requests))),
        },
    };
    Ok(Measured {
        figures,
        lookup_ms: lookups.iter().map(|it| ms(it.duration)).collect(),
        propagation_ms: deliveries().map(|(after, _)| ms(after)).collect(),
        trace_hash: finished.report.trace_hash.clone(),
        cost: Cost::so_far(finished.report.wall_secs, finished.report.simulated_secs),
    })
}

fn summed(lookups: &[Lookup], size: &Size, report: &Report) -> Lookups {
    let found = report.metrics.get("steps_looked_up").copied().unwrap_or(0.0);
    let round_trip = ms(ROUND_TRIP);
    Lookups {
        count: lookups.len(),
        not_found: size.lookups as f64 - found,
        ms: Spread::of(lookups.iter().map(|it| ms(it.duration))),
        round_trips: Spread::of(lookups.iter().map(|it| thousandths(ms(it.duration) / round_trip))),
        requests: Spread::of(lookups.iter().map(|it| f64::from(it.requests))),
        requests_failed: lookups.iter().map(|it| u64::from(it.failures)).sum(),
    }
}

/// The sum over all nodes and labels of a counter.
fn total(counts: &[String], name: &str) -> u64 {
    let samples = counts.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    samples.sum()
}

/// What was seen of a run.
#[derive(Debug, Default)]
struct Seen {
    peers: BTreeMap<PeerId, usize>,
    lookups: Vec<(Duration, Lookup)>,
    announcements: Vec<Announcement>,
    /// The first thing that cannot be.
    strange: Option<String>,
}

/// One announcement.
#[derive(Debug)]
struct Announcement {
    digest: [u8; 32],
    at: Duration,
    author: usize,
    /// Per node that took it: when, and over how many hops.
    taken: BTreeMap<usize, (Duration, u32)>,
}

impl Announcement {
    fn deliveries(&self) -> impl Iterator<Item = (Duration, u32)> {
        self.taken.values().map(|(at, hops)| (at.saturating_sub(self.at), *hops))
    }

    fn hops(&self, node: usize) -> Option<u32> {
        if node == self.author { Some(0) } else { self.taken.get(&node).map(|(_, hops)| *hops) }
    }
}

impl Seen {
    fn note(&mut self, at: Duration, node: usize, event: &Event) {
        match event {
            Event::LookedUp(lookup) => self.lookups.push((at, *lookup)),
            Event::Announcing { digest, .. } => {
                self.announcements.push(Announcement {
                    digest: *digest,
                    at,
                    author: node,
                    taken: BTreeMap::new(),
                });
            }
            Event::Announced { from, digest, is_taken: true, .. } => {
                let from = self.peers.get(from).copied();
                let it = self.announcements.iter_mut().rev().find(|it| it.digest == *digest);
                let known = it.and_then(|it| Some((from.and_then(|from| it.hops(from))?, it)));
                match known {
                    Some((hops, it)) if !it.taken.contains_key(&node) && node != it.author => {
                        it.taken.insert(node, (at, hops + 1));
                    }
                    _ => {
                        let what = format!(
                            "node {node} took one after {at:?} that nobody could have passed on to it"
                        );
                        self.strange.get_or_insert(what);
                    }
                }
            }
            _ => {}
        }
    }

    /// Lookups of a head that ended after `from`.
    fn heads_got(&self, from: Duration) -> impl Iterator<Item = Lookup> {
        self.lookups
            .iter()
            .filter(move |(at, it)| *at >= from && it.kind == LookupKind::GetHead)
            .map(|(_, it)| *it)
    }

    fn bootstraps(&self) -> impl Iterator<Item = &Lookup> {
        self.lookups.iter().map(|(_, it)| it).filter(|it| it.kind == LookupKind::Bootstrap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: [u8; 32] = [7; 32];

    fn peer(node: u8) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes([node; 32]).unwrap().public().to_peer_id()
    }

    fn seen(events: &[(u64, usize, Event)]) -> Seen {
        let peers = (0..4).map(|node| (peer(node), usize::from(node))).collect();
        let mut seen = Seen { peers, ..Seen::default() };
        events.iter().for_each(|(at, node, event)| seen.note(Duration::from_secs(*at), *node, event));
        seen
    }

    fn announced(from: u8) -> Event {
        Event::Announced { from: peer(from), digest: DIGEST, is_checked: true, is_taken: true }
    }

    #[test]
    fn hops_are_counted_along_the_way_from_the_author() {
        let way = [
            (1, 0, Event::Announcing { digest: DIGEST, peers: 3 }),
            (2, 1, announced(0)),
            (4, 2, announced(1)),
            (5, 3, announced(0)),
        ];
        let seen = seen(&way);
        assert_eq!(seen.strange, None);
        let deliveries: Vec<_> = seen.announcements[0].deliveries().collect();
        assert_eq!(
            deliveries,
            [1, 3, 4].map(Duration::from_secs).into_iter().zip([1, 2, 1]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_nobody_could_have_passed_on_is_noticed() {
        let first = (1, 0, Event::Announcing { digest: DIGEST, peers: 3 });
        for strange in [(2, 2, announced(1)), (2, 0, announced(1))] {
            assert!(seen(&[first.clone(), strange]).strange.is_some());
        }
        let twice = [first, (2, 1, announced(0)), (3, 1, announced(0))];
        assert!(seen(&twice).strange.is_some());
    }

    #[test]
    fn counters_are_summed_over_nodes_and_labels() {
        let counts =
            ["a_total{hash=\"x y\"} 2\na_total{hash=\"z\"} 3\n", "a_total 4\na_total_more 100\n# EOF\n"];
        assert_eq!(total(&counts.map(str::to_owned), "a_total"), 9);
    }
}
