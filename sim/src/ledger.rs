//! What was seen of the nodes during a run: the trace, the connections that stand, and how every step ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ggen_harness::transport::Wire;
use ggen_marketplace::{
    network::{Event, Lookup, LookupKind},
    peers::limits::HANDSHAKE_TIMEOUT,
};
use libp2p::PeerId;

use crate::{
    adversary::Bite,
    judge::Fact,
    measure::Measures,
    reached,
    recent::{self, Recent},
    report::Scene,
    trace::{Lines, Trace, hex},
};

/// After this time the handshake of a stream has ended, well or not.
const HANDSHAKE_OVER: Duration = HANDSHAKE_TIMEOUT.saturating_mul(2);

/// Announcements whose signatures a node checked.
pub(crate) const CHECKED: &str = "announcements_checked";
/// Announcements that came to a node and were new to its gossip, checked or not.
pub(crate) const HEARD: &str = "announcements_heard";

/// What peers said of themselves, and a node looked at.
pub(crate) const INTRODUCED: &str = "introductions_taken";
/// Requests of others for the DHT that a node looked at.
pub(crate) const ASKED: &str = "dht_requests_taken";
/// Requests of others in the exchange of heads that a node answered.
pub(crate) const READ: &str = "head_requests_answered";

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
    /// Those of them that went through relays.
    pub bytes_relayed: u64,
    /// Reads of byte streams that yielded something.
    pub deliveries: u64,
    /// Their bytes.
    pub bytes_delivered: u64,
    /// How often adversaries bit.
    pub bites: u64,
    /// Pages of writes, lengths and names that power cuts took.
    pub writes_lost: u64,
    /// Pages of which power cuts left some sectors old and some new.
    pub pages_torn: u64,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was published.
    Published {
        /// Full id of the package.
        id: String,
        /// The version.
        version: String,
        /// The content id of the tree.
        cid: String,
        /// How far the package had come by it.
        sequence: u64,
    },
    /// It was searched.
    Found {
        /// Full ids of the packages.
        ids: Vec<String>,
        /// How many were hidden because nobody who provides them has the reputation asked for.
        hidden: usize,
        /// Why the result is not complete.
        because: Vec<String>,
    },
    /// It was installed.
    Installed {
        /// Full id of the package.
        id: String,
        /// The content id of the tree.
        cid: String,
        /// Bytes that came over the network.
        fetched: u64,
        /// Whether the node said that its publisher is overdue.
        overdue: bool,
    },
    /// It was looked up in the DHT, and found.
    LookedUp {
        /// Full id of the package.
        id: String,
        /// How far it had come, as the head says that was found.
        sequence: u64,
    },
    /// So many of the addresses were reached.
    Bootstrapped {
        /// How many.
        reached: usize,
    },
    /// The node started.
    Joined,
    /// The node stopped.
    Left,
    /// It failed, with this code.
    Failed {
        /// The stable code.
        code: String,
        /// What people are told.
        message: String,
        /// Whether there is something where an installation was to be.
        leaves_files: bool,
    },
}

impl Ended {
    /// What was done, where it was: the beginning of the name of its distribution.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Published { .. } => Some("publish"),
            Self::Found { .. } => Some("search"),
            Self::Installed { .. } => Some("install"),
            Self::LookedUp { .. } => Some("lookup"),
            Self::Bootstrapped { .. } => Some("bootstrap"),
            Self::Joined | Self::Left | Self::Failed { .. } => None,
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
    /// By fault: how often it bit.
    pub(crate) bites: BTreeMap<usize, usize>,
    /// By node and the socket at the other end: when the streams that stand were opened, the oldest first.
    streams: BTreeMap<(usize, SocketAddr), Vec<Duration>>,
    /// Pairs of nodes, each as the first of them saw it.
    connections: BTreeSet<(usize, usize)>,
    names: Vec<String>,
    peers: BTreeMap<PeerId, usize>,
    /// When the last event was.
    at: Duration,
    /// What the judge has not heard yet.
    facts: Vec<(Duration, Fact)>,
    /// Digests of announcements that adversaries forged.
    branded: BTreeSet<[u8; 32]>,
    /// The package and the sequence of announcements that a newer state has followed, by digest.
    outdated: BTreeMap<[u8; 32], (String, u64)>,
    /// By node, how often it bit.
    bitten: BTreeMap<usize, usize>,
    /// By node: how often it kept a record of another for the DHT, or kept it for longer.
    pub(crate) kept: BTreeMap<usize, u64>,
    /// Bytes of blocks by the node that sent them.
    pub(crate) served_by: BTreeMap<usize, u64>,
    /// Nodes that the network loop of some other node refused.
    pub(crate) refused: BTreeSet<usize>,
    /// How often each kind of thing happened, by its marker.
    pub(crate) reached: BTreeMap<&'static str, u64>,
    /// By node, how many ids it took beside its own.
    pub(crate) ids: BTreeMap<usize, u64>,
    recent: Recent,
    /// When a step ended that may have come to something else than it must, and how it was at its node then.
    pub(crate) at_end: BTreeMap<usize, (Duration, Scene)>,
}

/// The ledger, as all nodes and the world hold it. They run on one thread; nobody ever waits.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub(crate) fn new(names: Vec<String>, peers: BTreeMap<PeerId, usize>, lines: Lines) -> Self {
        Self(Arc::new(Mutex::new(Ledger {
            trace: Trace::new(lines),
            counts: Counts::default(),
            measures: Measures::default(),
            ended: BTreeMap::new(),
            bites: BTreeMap::new(),
            streams: BTreeMap::new(),
            connections: BTreeSet::new(),
            names,
            peers,
            at: Duration::ZERO,
            facts: Vec::new(),
            branded: BTreeSet::new(),
            outdated: BTreeMap::new(),
            bitten: BTreeMap::new(),
            kept: BTreeMap::new(),
            served_by: BTreeMap::new(),
            refused: BTreeSet::new(),
            reached: BTreeMap::new(),
            ids: BTreeMap::new(),
            recent: Recent::default(),
            at_end: BTreeMap::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Adds an event of a node, at the time of its host.
    pub(crate) fn record(&mut self, node: usize, what: impl fmt::Display) {
        let at = self.now();
        self.trace.record(at, &self.names[node], what);
    }

    /// Adds an event of the world itself.
    pub(crate) fn record_world(&mut self, at: Duration, what: impl fmt::Display) {
        self.at = self.at.max(at);
        self.recent.world(at, &what);
        self.trace.record(at, "world", what);
    }

    /// Adds what happened to a byte stream of a node.
    pub(crate) fn wire(&mut self, node: usize, remote: SocketAddr, wire: Wire<'_>) {
        let at = self.now();
        match wire {
            Wire::Opened { .. } => self.streams.entry((node, remote)).or_default().push(at),
            Wire::Closed => {
                // Two to one socket look alike: that the younger one is left can only be too little.
                let alike = self.streams.get_mut(&(node, remote)).filter(|alike| !alike.is_empty());
                alike.map(|alike| alike.remove(0));
            }
            Wire::Delivered(_) => {}
        }
        match wire {
            Wire::Opened { dialled: true } => self.record(node, format_args!("opened to {remote}")),
            Wire::Opened { dialled: false } => self.record(node, format_args!("opened from {remote}")),
            Wire::Closed => self.record(node, format_args!("closed with {remote}")),
            Wire::Delivered(bytes) => {
                self.counts.deliveries += 1;
                self.counts.bytes_delivered += bytes.len() as u64;
                self.trace.deliver(at, &self.names[node], remote, bytes);
            }
        }
    }

    /// The time of the host that is running; outside of one, as when a host is torn down, that of the last event.
    pub(crate) fn now(&mut self) -> Duration {
        self.at = crate::engine::elapsed().unwrap_or(self.at).max(self.at);
        self.at
    }

    /// Adds the beginning of a step.
    pub(crate) fn begin(&mut self, step: usize, node: usize) {
        self.notable(node, &format!("step {step} begins"));
        let at = self.now();
        self.measures.began(step, node, at);
        self.tell(Fact::StepBegan { step, node });
    }

    /// Adds a fact, at the time of the host that is running.
    pub(crate) fn tell(&mut self, fact: Fact) {
        let at = self.now();
        self.facts.push((at, fact));
    }

    /// Tells how many streams each node has had for so long that they are connections.
    pub(crate) fn tell_streams(&mut self, now: Duration) {
        self.streams.retain(|_, alike| !alike.is_empty());
        let mut lasting: BTreeMap<usize, usize> = BTreeMap::new();
        for ((node, _), alike) in &self.streams {
            let old = alike.iter().filter(|opened| **opened + HANDSHAKE_OVER <= now).count();
            *lasting.entry(*node).or_default() += old;
        }
        for (node, lasting) in lasting {
            self.tell(Fact::Streams { node, lasting });
        }
    }

    /// What the judge has not heard yet.
    pub(crate) fn take_facts(&mut self) -> Vec<(Duration, Fact)> {
        std::mem::take(&mut self.facts)
    }

    /// Adds that a node runs.
    pub(crate) fn started(&mut self, node: usize) {
        self.notable(node, "started");
        let at = self.now();
        self.measures.started(node, at);
        self.tell(Fact::Started { node });
    }

    /// Notes that a node runs on, as an adversary.
    pub(crate) fn misbehaves(&mut self, node: usize) {
        let at = self.now();
        self.measures.started(node, at);
    }

    /// Adds that an adversary has bitten, and whom where that is one node.
    pub(crate) fn bit(&mut self, node: usize, bite: Bite, victim: Option<PeerId>) {
        self.bit_under_another_id(node, bite, victim);
        let victim = victim.and_then(|peer| self.peers.get(&peer).copied());
        self.tell(Fact::Bit { node, bite, victim });
    }

    /// Adds that an adversary has bitten under an id that nobody's books are compared for: those are by node, and each id has its own.
    pub(crate) fn bit_under_another_id(&mut self, node: usize, bite: Bite, victim: Option<PeerId>) {
        self.counts.bites += 1;
        *self.bitten.entry(node).or_default() += 1;
        let name = victim.map_or_else(|| "everybody".to_owned(), |peer| self.name(&peer));
        self.record(node, format_args!("bit {name} {bite:?}"));
    }

    /// A node has this id from now on.
    pub(crate) fn is_also(&mut self, node: usize, peer: PeerId) {
        self.peers.insert(peer, node);
        *self.ids.entry(node).or_default() += 1;
        self.record(node, format_args!("is {peer} from now on"));
    }

    /// Adds that an adversary gives blocks as they are.
    pub(crate) fn gave(&mut self, node: usize, peer: PeerId, bytes: u64) {
        let name = self.name(&peer);
        self.record(node, format_args!("gives {name} {bytes}"));
        if let Some(to) = self.peers.get(&peer).copied() {
            self.tell(Fact::Served { node, to, bytes });
        }
    }

    /// How often an adversary has bitten.
    pub(crate) fn bites_of(&self, node: usize) -> usize {
        self.bitten.get(&node).copied().unwrap_or_default()
    }

    /// Remembers an announcement that nobody may pass on.
    pub(crate) fn branded(&mut self, digest: [u8; 32]) {
        self.branded.insert(digest);
    }

    /// Remembers an announcement that nobody may pass on who knows a newer one.
    pub(crate) fn outdated(&mut self, digest: [u8; 32], package: String, sequence: u64) {
        self.outdated.insert(digest, (package, sequence));
    }

    /// Adds that an adversary has published something valid.
    pub(crate) fn worthless(&mut self, package: String) {
        self.measures.worthless(package.clone());
        self.tell(Fact::Worthless { package });
    }

    /// Adds the end of a step.
    pub(crate) fn end(&mut self, step: usize, node: usize, ended: Ended, more: impl fmt::Display) {
        let what = match &ended {
            Ended::Published { id, cid, .. } => format!("step {step} published {id} {cid} {more}"),
            Ended::Found { ids, .. } => format!("step {step} found [{}] {more}", ids.join(" ")),
            Ended::Installed { id, cid, .. } => format!("step {step} installed {id} {cid} {more}"),
            Ended::LookedUp { id, sequence } => format!("step {step} looked up {id} sequence {sequence}"),
            Ended::Bootstrapped { reached } => format!("step {step} bootstrapped {reached} {more}"),
            Ended::Joined => format!("step {step} joined"),
            Ended::Left => format!("step {step} left"),
            Ended::Failed { code, .. } => format!("step {step} failed {code}"),
        };
        let at = self.now();
        if matches!(
            &ended,
            Ended::Failed { .. } | Ended::Found { .. } | Ended::Installed { .. } | Ended::LookedUp { .. }
        ) {
            self.at_end.insert(step, (at, self.scene(node)));
        }
        self.notable(node, &what);
        self.measures.ended(step, at, ended.kind());
        let fetched = match &ended {
            Ended::Installed { fetched, .. } => Some(*fetched),
            _ => None,
        };
        let is_publication = matches!(ended, Ended::Published { .. });
        if let Ended::Published { id, version, cid, .. } = &ended
            && let Ok(root) = cid.parse()
        {
            self.tell(Fact::Published { node, package: id.clone(), version: version.clone(), root });
        }
        if let Ended::LookedUp { id, sequence } = &ended {
            self.tell(Fact::LookedUp { step, node, package: id.clone(), sequence: *sequence });
        }
        self.tell(Fact::StepEnded { step, node, fetched, is_publication });
        self.ended.insert(step, ended);
    }

    /// Adds what a node's network tells.
    pub(crate) fn observe(&mut self, node: usize, event: &Event) {
        if let Some(marker) = reached::of(event) {
            *self.reached.entry(marker).or_default() += 1;
        }
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
            Event::Served { peer, bytes, is_relayed } => {
                self.counts.bytes_served += bytes;
                self.counts.bytes_relayed += if *is_relayed { *bytes } else { 0 };
                *self.served_by.entry(node).or_default() += bytes;
                if let Some(to) = self.peers.get(peer).copied() {
                    self.tell(Fact::Served { node, to, bytes: *bytes });
                }
                let how = if *is_relayed { " through a relay" } else { "" };
                format!("served {} {bytes}{how}", self.name(peer))
            }
            Event::Claimed { peer, multihash, .. } => {
                format!("claimed {} {}", self.name(peer), hex(multihash))
            }
            Event::Routed { peer } => {
                if let Some(peer) = self.peers.get(peer).copied() {
                    self.tell(Fact::Routed { node, peer });
                }
                format!("routed {}", self.name(peer))
            }
            Event::Introduced { peer } => {
                let at = self.now();
                self.measures.happened(INTRODUCED, node, at);
                format!("introduced {}", self.name(peer))
            }
            Event::Asked => {
                let at = self.now();
                self.measures.happened(ASKED, node, at);
                "asked".to_owned()
            }
            Event::Read { peer } => {
                let at = self.now();
                self.measures.happened(READ, node, at);
                format!("read by {}", self.name(peer))
            }
            Event::Audience => "audience".to_owned(),
            Event::Reunited { peer, away } => format!("reunited {} {away:?}", self.name(peer)),
            Event::Announced { from, digest, is_checked, is_taken } => {
                let at = self.now();
                self.measures.happened(HEARD, node, at);
                if *is_checked {
                    self.measures.happened(CHECKED, node, at);
                }
                if self.branded.contains(digest) {
                    let from = self.peers.get(from).copied();
                    self.tell(Fact::Forged { node, from, is_taken: *is_taken });
                }
                if let Some((package, sequence)) = self.outdated.get(digest).filter(|_| *is_taken).cloned() {
                    self.tell(Fact::Outdated { node, package, sequence });
                }
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
            Event::Announcing { peers, .. } => format!("announcing to {peers}"),
            Event::LookedUp(Lookup { kind, requests, successes, failures, duration }) => {
                if *kind == LookupKind::GetHead {
                    self.measures.sample("lookup_requests", f64::from(*requests));
                }
                format!(
                    "lookup {} ended after {duration:?}, requests {requests} answered {successes} failed {failures}",
                    kind.as_str()
                )
            }
            Event::Kept { from } => {
                *self.kept.entry(node).or_default() += 1;
                format!("kept a record of {}", self.name(from))
            }
            Event::Refused { peer } => {
                self.refused.extend(self.peers.get(peer));
                format!("refused {}", self.name(peer))
            }
            Event::Loaded(load) => {
                self.tell(Fact::Loaded { node, load: *load });
                return;
            }
            // A new kind of event is traced as it is, until it has a form here.
            other => format!("{other:?}"),
        };
        if recent::is_notable(event) {
            self.notable(node, &what);
        } else {
            self.record(node, what);
        }
    }

    /// Adds an event that says something to whoever asks how it came to what follows.
    fn notable(&mut self, node: usize, what: &str) {
        let at = self.now();
        self.recent.node(node, at, what);
        self.record(node, what);
    }

    /// Who a node is connected with, and what happened at it and in the world just before.
    pub(crate) fn scene(&self, node: usize) -> Scene {
        let peers = self.connections.range((node, 0)..=(node, usize::MAX));
        Scene {
            connected: peers.map(|(_, other)| self.names[*other].clone()).collect(),
            lists: None,
            before: self.recent.before(node),
        }
    }

    /// Connections that stand between nodes of which `crosses` holds, as either side sees them.
    pub(crate) fn standing(&self, crosses: impl Fn(usize, usize) -> bool) -> usize {
        self.connections.iter().filter(|(one, other)| crosses(*one, *other)).count()
    }

    /// Pairs of nodes with a connection that either side sees, the smaller number first.
    pub(crate) fn links(&self) -> BTreeSet<[usize; 2]> {
        self.connections.iter().map(|(one, other)| [*one.min(other), *one.max(other)]).collect()
    }

    /// A node runs no more. Forgets its connections: it has nobody left to see them close. Yields whether it ran.
    pub(crate) fn stopped(&mut self, node: usize) -> bool {
        let at = self.now();
        self.tell(Fact::Stopped { node });
        self.connections.retain(|(one, _)| *one != node);
        self.measures.stopped(node, at)
    }

    /// Counts what a fault did.
    pub(crate) fn bite(&mut self, fault: usize, bites: usize) {
        *self.bites.entry(fault).or_default() += bites;
    }

    /// The full id under which a package was published.
    pub(crate) fn id_of(&self, package: &str) -> Option<&str> {
        self.ended.values().find_map(|ended| match ended {
            Ended::Published { id, .. } if id.rsplit('/').next() == Some(package) => Some(id.as_str()),
            _ => None,
        })
    }

    fn name(&self, peer: &PeerId) -> String {
        self.peers.get(peer).map_or_else(|| peer.to_string(), |node| self.names[*node].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_outlast_their_handshake_are_told_by_node() {
        let shared = Shared::new(vec!["a".to_owned(), "b".to_owned()], BTreeMap::new(), Lines::default());
        let mut ledger = shared.lock();
        let remote = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
        for port in [1, 1, 2] {
            ledger.wire(0, remote(port), Wire::Opened { dialled: true });
        }
        ledger.wire(1, remote(1), Wire::Opened { dialled: false });
        ledger.wire(0, remote(1), Wire::Closed);
        ledger.wire(0, remote(9), Wire::Closed);
        let mut told = |now: Duration| {
            ledger.tell_streams(now);
            ledger.take_facts().into_iter().map(|(_, fact)| fact).collect::<Vec<_>>()
        };
        let of = |node, lasting| Fact::Streams { node, lasting };
        assert_eq!(told(HANDSHAKE_OVER), [of(0, 2), of(1, 1)]);
        assert_eq!(told(HANDSHAKE_TIMEOUT), [of(0, 0), of(1, 0)]);
    }
}
