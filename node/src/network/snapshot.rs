//! What the loop knows at one moment, for `status` and `peer-list`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::{
    Mapping, PortMapping, Ports, Verdict,
    answering::PAGES,
    driver::{Driver, PENDING_MAX},
    gossip::subscribers,
    peers::Carrier,
};
use crate::{
    heads::exchange::Outcome,
    limits::{FETCH_SERVED_AT_ONCE_MAX, HEADS_QUEUED_MAX, LOGS_ASKED_MAX},
    peers::policy,
    time::Timestamp,
};

/// The network at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Addresses that are listened on, without `/p2p`.
    pub listening: Vec<Multiaddr>,
    /// Whether others can connect to this node.
    pub verdict: Verdict,
    /// What a NAT before it does with its port.
    pub mapping: Option<Mapping>,
    /// What is known of the ports that the router maps; nothing where it was not asked.
    pub port_mapping: Option<PortMapping>,
    /// Addresses elsewhere that lead to this node: ports that a NAT lets through.
    pub external: Vec<Multiaddr>,
    /// The ports to forward to this machine.
    pub ports: Ports,
    /// Whether this node serves the DHT.
    pub serves_dht: bool,
    /// Addresses through relays, without `/p2p` of this node.
    pub relays: Vec<Multiaddr>,
    /// Peers that are reached through this node.
    pub relay_clients: usize,
    /// Peers that were found on the local network, connected or not; none where they are not looked for.
    pub neighbours: Option<usize>,
    /// Addresses under which peers see this node, by how many say so.
    pub observed: BTreeMap<Multiaddr, usize>,
    /// The peers connected.
    pub peers: Vec<PeerSnapshot>,
    /// How long this node has had company, and nobody that its configuration names has told what it has; nothing where such a peer is
    /// connected and has, where this node is alone, and where it names nobody.
    pub among_strangers: Option<Duration>,
    /// Whether a peer had by itself all that this node has.
    pub is_shown: bool,
    /// Peers per non-empty bucket of the routing table, nearest first.
    pub buckets: Vec<usize>,
    /// DHT value records held.
    pub records: usize,
    /// How long the oldest of them has been due to be renewed by this node.
    pub renewal_lag: Duration,
    /// Peers in the mesh of the topic.
    pub mesh_peers: usize,
    /// Peers subscribed to the topic.
    pub topic_peers: usize,
    /// Connected peers whose heads can be read.
    pub heads_peers: usize,
    /// Those of them whose heads have been read to the end.
    pub heads_complete: usize,
    /// How the last reading of each of the others ended, and of how many.
    pub heads_failed: BTreeMap<Outcome, usize>,
    /// Connected peers that have not said who they are, and may have heads too.
    pub heads_unidentified: usize,
    /// When a DHT bootstrap last ended well.
    pub last_bootstrap: Option<Timestamp>,
    /// Peers refused lately.
    pub refused: Vec<Refused>,
    /// Bytes of blocks sent since the start.
    pub bytes_sent: u64,
    /// Heads refused since the start.
    pub heads_refused: u64,
    /// Inbound connections since the start that failed: refused, broken off, or not in time.
    pub inbound_failed: u64,
}

/// How much the loop holds at one moment, or may hold at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that stand.
    pub connections: usize,
    /// Dials in progress that somebody waits for.
    pub dials: usize,
    /// Lookups in progress.
    pub queries: usize,
    /// Requests for blocks and logs in progress.
    pub fetches: usize,
    /// Requests for blocks and logs that are being answered.
    pub serving: usize,
    /// Pages of heads on their way to their readers.
    pub pages: usize,
    /// Heads that wait to be judged or written.
    pub inbox: usize,
}

impl Load {
    /// The most that the loop holds, with that many connections.
    pub fn most(connections_max: u32) -> Self {
        Self {
            connections: usize::try_from(connections_max).unwrap_or(usize::MAX),
            dials: PENDING_MAX,
            queries: PENDING_MAX,
            fetches: PENDING_MAX + LOGS_ASKED_MAX,
            serving: FETCH_SERVED_AT_ONCE_MAX,
            pages: PAGES.at_once,
            inbox: 2 * HEADS_QUEUED_MAX,
        }
    }

    /// What of it is more than `most`, by name and with both numbers.
    pub fn beyond(&self, most: &Self) -> Option<(&'static str, usize, usize)> {
        [
            ("connections", self.connections, most.connections),
            ("dials", self.dials, most.dials),
            ("lookups", self.queries, most.queries),
            ("requests for blocks and logs", self.fetches, most.fetches),
            ("answers", self.serving, most.serving),
            ("pages of heads", self.pages, most.pages),
            ("heads that wait", self.inbox, most.inbox),
        ]
        .into_iter()
        .find(|(_, held, most)| held > most)
    }
}

/// One connected peer.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    /// Its id.
    pub peer: PeerId,
    /// The address of the connection, then those that it told of.
    pub addresses: Vec<Multiaddr>,
    /// Whether it is a bootstrap node or a hub of the configuration.
    pub is_entry_point: bool,
    /// Whether this node dialled it.
    pub outbound: bool,
    /// Whether it is connected through relays alone.
    pub is_relayed: bool,
    /// What its connections go over.
    pub transports: BTreeSet<Carrier>,
    /// Whether it was found on the local network.
    pub is_neighbour: bool,
    /// Round trip of the last ping.
    pub round_trip: Option<Duration>,
    /// When a ping of it last came back.
    pub ponged: Option<Instant>,
    /// Its program, as it says.
    pub agent: Option<String>,
    /// Its protocol version, as it says.
    pub protocol_version: Option<String>,
    /// Its protocols, as it says.
    pub protocols: Vec<String>,
}

#[cfg(test)]
impl PeerSnapshot {
    /// One that is dialled, and has said nothing of itself.
    pub(crate) fn dialled(peer: PeerId) -> Self {
        Self {
            peer,
            addresses: Vec::new(),
            is_entry_point: false,
            outbound: true,
            is_relayed: false,
            transports: BTreeSet::new(),
            is_neighbour: false,
            round_trip: None,
            ponged: None,
            agent: None,
            protocol_version: None,
            protocols: Vec::new(),
        }
    }
}

/// A peer that was turned away.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its id.
    pub peer: PeerId,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Driver {
    pub(super) fn load(&self) -> Load {
        Load {
            connections: self.peers.connections(),
            dials: self.dialling.len(),
            queries: self.queries.len() + self.lookups.len(),
            fetches: self.blocks.asked() + self.logs.asked(),
            serving: self.blocks.answering.len(),
            pages: self.exchanging.serving(),
            inbox: self.intake.len(),
        }
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let topic = self.announcements.topic();
        let behaviour = self.swarm.behaviour_mut();
        let buckets = behaviour.kad.kbuckets().map(|bucket| bucket.num_entries()).filter(|peers| *peers > 0);
        let buckets = buckets.collect();
        let records = behaviour.kad.store_mut().len();
        let mesh_peers = behaviour.gossip.mesh_peers(&topic).count();
        let topic_peers = subscribers(&behaviour.gossip, &topic).count();
        Snapshot {
            listening: self.swarm.listeners().filter(|at| !policy::is_relayed(at)).cloned().collect(),
            relays: self
                .swarm
                .external_addresses()
                .filter(|at| policy::is_relayed(at))
                .map(|at| policy::without_peer(at, self.swarm.local_peer_id()).unwrap_or_else(|_| at.clone()))
                .collect(),
            relay_clients: self.reach.clients().count(),
            verdict: self.reach.standing.verdict(),
            mapping: self.reach.standing.mapping(),
            external: self.swarm.external_addresses().filter(|at| !policy::is_relayed(at)).cloned().collect(),
            port_mapping: self.reach.port_mapping(),
            ports: self.reach.standing.ports(),
            serves_dht: self.reach.serves_dht(),
            neighbours: self.nearby.is_looking().then(|| self.nearby.neighbours.len()),
            observed: self.listening.observed.all(),
            peers: self
                .peers
                .iter()
                .map(|(id, peer)| PeerSnapshot {
                    peer: *id,
                    addresses: peer.addresses(),
                    is_entry_point: self.connections.is_entry_point(id),
                    outbound: peer.is_chosen(),
                    is_relayed: peer.is_relayed(),
                    transports: peer.transports(),
                    is_neighbour: self.nearby.neighbours.is_known(id),
                    round_trip: peer.round_trip,
                    ponged: peer.ponged,
                    agent: peer.agent.clone(),
                    protocol_version: peer.protocol_version.clone(),
                    protocols: peer.protocols.clone(),
                })
                .collect(),
            among_strangers: match self.is_told_by_entrance() {
                true => None,
                false => self.connections.among_strangers(Instant::now()),
            },
            is_shown: self.exchanging.shown.is_shown(),
            buckets,
            records,
            mesh_peers,
            topic_peers,
            heads_peers: self.exchanging.exchange.peers(),
            heads_complete: self.exchanging.exchange.complete(),
            heads_failed: self.exchanging.exchange.failed(),
            heads_unidentified: self.peers.unidentified(Instant::now()),
            last_bootstrap: self.last_bootstrap,
            refused: self.refusals.lately(),
            bytes_sent: self.blocks.bytes_sent(),
            renewal_lag: self.moving.moves.lag(Instant::now()),
            heads_refused: self.intake.refused(),
            inbound_failed: self.listening.inbound_failed(),
        }
    }
}
