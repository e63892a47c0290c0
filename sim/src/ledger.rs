//! What was seen of the nodes during a run: the trace, the connections that stand, and how every step ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ggen_marketplace::network::Event;
use libp2p::PeerId;

use crate::{
    measure::Measures,
    trace::{Trace, hex},
};

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// First connections between two nodes, as each side saw them.
    pub connected: u64,
    /// Last connections between two nodes that closed, as each side saw them.
    pub disconnected: u64,
    /// Announcements that were taken.
    pub announcements_taken: u64,
    /// Announcements that were not.
    pub announcements_refused: u64,
    /// Heads of others that entered a catalogue.
    pub heads_listed: u64,
    /// Bytes of blocks that were sent.
    pub bytes_served: u64,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was published.
    Published {
        /// Full id of the package.
        id: String,
        /// The content id of the tree.
        cid: String,
    },
    /// It was searched.
    Found {
        /// Full ids of the packages.
        ids: Vec<String>,
    },
    /// It was installed.
    Installed {
        /// Full id of the package.
        id: String,
        /// The content id of the tree.
        cid: String,
    },
    /// It failed, with this code.
    Failed {
        /// The stable code.
        code: String,
    },
}

impl Ended {
    /// What was done, where it was: the beginning of the name of its distribution.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Published { .. } => Some("publish"),
            Self::Found { .. } => Some("search"),
            Self::Installed { .. } => Some("install"),
            Self::Failed { .. } => None,
        }
    }
}

/// Collects what is seen.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) measures: Measures,
    /// By step.
    pub(crate) ended: BTreeMap<usize, Ended>,
    /// Pairs of nodes, each as the first of them saw it.
    connections: BTreeSet<(usize, usize)>,
    names: Vec<String>,
    peers: BTreeMap<PeerId, usize>,
}

/// The ledger, as all nodes and the world hold it. They run on one thread; nobody ever waits.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub(crate) fn new(names: Vec<String>, peers: BTreeMap<PeerId, usize>, keep_lines: bool) -> Self {
        Self(Arc::new(Mutex::new(Ledger {
            trace: Trace::new(keep_lines),
            counts: Counts::default(),
            measures: Measures::default(),
            ended: BTreeMap::new(),
            connections: BTreeSet::new(),
            names,
            peers,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Adds an event of a node, at the time of its host.
    pub(crate) fn record(&mut self, node: usize, what: impl fmt::Display) {
        self.trace.record(now(), &self.names[node], what);
    }

    /// Adds an event of the world itself.
    pub(crate) fn record_world(&mut self, at: Duration, what: impl fmt::Display) {
        self.trace.record(at, "world", what);
    }

    /// Adds that a node runs.
    pub(crate) fn started(&mut self, node: usize) {
        self.record(node, "started");
        self.measures.started(node, now());
    }

    /// Notes that a step begins. The trace has its end alone: when it begins is in the scenario.
    pub(crate) fn begin(&mut self, step: usize, node: usize) {
        self.measures.began(step, node, now());
    }

    /// Adds the end of a step.
    pub(crate) fn end(&mut self, step: usize, node: usize, ended: Ended, more: impl fmt::Display) {
        let what = match &ended {
            Ended::Published { id, cid } => format!("step {step} published {id} {cid} {more}"),
            Ended::Found { ids } => format!("step {step} found [{}] {more}", ids.join(" ")),
            Ended::Installed { id, cid } => format!("step {step} installed {id} {cid} {more}"),
            Ended::Failed { code } => format!("step {step} failed {code}"),
        };
        self.record(node, what);
        self.measures.ended(step, now(), ended.kind());
        self.ended.insert(step, ended);
    }

    /// Adds what a node's network tells.
    pub(crate) fn observe(&mut self, node: usize, event: &Event) {
        let what = match event {
            Event::Connected { peer, dialled } => {
                if let Some(other) = self.peers.get(peer)
                    && self.connections.insert((node, *other))
                {
                    self.counts.connected += 1;
                }
                let dialled = dialled.as_ref().map_or_else(|| "inbound".to_owned(), ToString::to_string);
                format!("connected {} {dialled}", self.name(peer))
            }
            Event::Disconnected { peer } => {
                if let Some(other) = self.peers.get(peer)
                    && self.connections.remove(&(node, *other))
                {
                    self.counts.disconnected += 1;
                }
                format!("disconnected {}", self.name(peer))
            }
            Event::Unreachable { peer, address } => format!("unreachable {} {address}", self.name(peer)),
            Event::Identified { peer, addresses } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("identified {} [{}]", self.name(peer), addresses.join(" "))
            }
            Event::Seen { peer } => format!("seen {}", self.name(peer)),
            Event::Served { peer, bytes } => {
                self.counts.bytes_served += bytes;
                format!("served {} {bytes}", self.name(peer))
            }
            Event::Claimed { peer, multihash } => format!("claimed {} {}", self.name(peer), hex(multihash)),
            Event::Audience => "audience".to_owned(),
            Event::Announced { from, is_taken } => {
                let count = if *is_taken {
                    &mut self.counts.announcements_taken
                } else {
                    &mut self.counts.announcements_refused
                };
                *count += 1;
                self.measures.changed(node);
                format!("announced {} {is_taken}", self.name(from))
            }
            Event::Listed { heads } => {
                self.counts.heads_listed += *heads as u64;
                self.measures.changed(node);
                format!("listed {heads}")
            }
            // A new kind of event is traced as it is, until it has a form here.
            other => format!("{other:?}"),
        };
        self.record(node, what);
    }

    /// Connections that stand between nodes of which `crosses` holds, as either side sees them.
    pub(crate) fn standing(&self, crosses: impl Fn(usize, usize) -> bool) -> usize {
        self.connections.iter().filter(|(one, other)| crosses(*one, *other)).count()
    }

    /// Pairs of nodes with a connection that either side sees, the smaller number first.
    pub(crate) fn links(&self) -> BTreeSet<[usize; 2]> {
        self.connections.iter().map(|(one, other)| [*one.min(other), *one.max(other)]).collect()
    }

    /// Forgets the connections of a node that crashed: it has nobody left to see them close.
    pub(crate) fn crashed(&mut self, node: usize, at: Duration) {
        self.measures.stopped(node, at);
        self.connections.retain(|(one, _)| *one != node);
    }

    fn name(&self, peer: &PeerId) -> String {
        self.peers.get(peer).map_or_else(|| peer.to_string(), |node| self.names[*node].clone())
    }
}

/// The time of the host that runs, or zero outside of any.
fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
