//! What the loop knows at one moment, for `status` and `peer-list`.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};

use crate::time::Timestamp;

/// The network at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Addresses that are listened on, without `/p2p`.
    pub listening: Vec<Multiaddr>,
    /// Addresses under which peers see this node, by how many say so.
    pub observed: BTreeMap<Multiaddr, usize>,
    /// The peers connected.
    pub peers: Vec<PeerSnapshot>,
    /// Peers per non-empty bucket of the routing table, nearest first.
    pub buckets: Vec<usize>,
    /// DHT value records held.
    pub records: usize,
    /// Peers in the mesh of the topic.
    pub mesh_peers: usize,
    /// Peers subscribed to the topic.
    pub topic_peers: usize,
    /// Connected peers whose heads can be read.
    pub heads_peers: usize,
    /// Those of them whose heads have been read to the end.
    pub heads_complete: usize,
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
    /// Inbound connections since the start that came to nothing: refused, broken off, or not in time.
    pub inbound_failed: u64,
}

/// One connected peer.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    /// Its id.
    pub peer: PeerId,
    /// The address of the connection, then those that it told of.
    pub addresses: Vec<Multiaddr>,
    /// Whether this node dialled it.
    pub outbound: bool,
    /// Round trip of the last ping.
    pub round_trip: Option<Duration>,
    /// Its program, as it says.
    pub agent: Option<String>,
    /// Its protocol version, as it says.
    pub protocol_version: Option<String>,
    /// Its protocols, as it says.
    pub protocols: Vec<String>,
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
