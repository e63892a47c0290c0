//! What is asked and told of peers: who is connected, what became of each, and how to reach more.

use serde::{Deserialize, Serialize};

/// `peer-list`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerList {
    /// The peers connected now.
    pub peers: Vec<PeerInfo>,
    /// How many.
    pub total: usize,
    /// Connected peers that the asked reputation leaves out.
    #[serde(default)]
    pub hidden_by_reputation: usize,
    /// Peers that were refused or dropped lately, and why.
    #[serde(default)]
    pub refused: Vec<RefusedPeer>,
}

/// A peer that this node does not stay connected with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPeer {
    /// The peer.
    pub peer_id: String,
    /// Why.
    pub reason: String,
    /// When.
    pub time: String,
}

/// One peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The peer id.
    pub peer_id: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Its addresses: the one in use first, then those it told of.
    pub addresses: Vec<String>,
    /// successful / (successful + failed); 1.0 for a new peer.
    pub reputation: f64,
    /// Packages that were retrieved and verified with its help.
    pub successful_retrievals: u64,
    /// Retrievals that failed or timed out because of it.
    pub failed_retrievals: u64,
    /// When it last said anything, where it ever did.
    pub last_seen: Option<String>,
    /// Unique package versions that it announced and served at least one verified block of.
    pub packages_provided: u64,
    /// Unique package versions that it says it provides.
    pub packages_claimed: u64,
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// `direct`, or `relay` where it is connected through one alone.
    #[serde(default)]
    pub reached: Option<String>,
    /// What its connections go over: `tcp`, `quic`, `relay`.
    #[serde(default)]
    pub transports: Vec<String>,
    /// Whether it was found on the local network.
    #[serde(default)]
    pub local_network: bool,
    /// Round trip of the last ping.
    pub latency_ms: Option<f64>,
    /// Protocols that it speaks.
    pub protocols: Vec<String>,
    /// Its program and version, as it says.
    pub agent: Option<String>,
    /// Its protocol family and version, as it says.
    pub protocol_version: Option<String>,
    /// Bytes of verified blocks received from it.
    pub bytes_received: u64,
    /// Bytes of blocks sent to it.
    pub bytes_sent: u64,
    /// Whether this node refuses it now.
    pub banned: bool,
}

/// `peer-info`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerDetails {
    /// The peer.
    #[serde(flatten)]
    pub peer: PeerInfo,
    /// With `--full`: its history, newest first.
    pub history: Option<Vec<PeerEvent>>,
    /// With `--full`: how the reputation comes about.
    pub derivation: Option<String>,
}

/// One event of a peer's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerEvent {
    /// When.
    pub time: String,
    /// `retrieval`, `block` or `penalty`.
    pub kind: String,
    /// The package or block it was about.
    pub subject: String,
    /// Bytes.
    pub bytes: u64,
    /// Milliseconds that it took.
    pub duration_ms: u64,
    /// `ok`, or what went wrong.
    pub outcome: String,
    /// What it cost the peer; none where it cost nothing.
    #[serde(default)]
    pub penalty: Option<String>,
}

/// `bootstrap` and `connect`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapRequest {
    /// Addresses, with or without `/p2p/<peer id>`.
    pub addresses: Vec<String>,
    /// Seconds in all; 30 where not given.
    pub timeout_secs: Option<u64>,
}

/// `bootstrap` and `connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrapped {
    /// What came of each address, in the order given.
    pub results: Vec<DialResult>,
    /// Addresses that were reached.
    pub reached: usize,
    /// Peers in the routing table before.
    pub routing_table_before: usize,
    /// Peers in the routing table after.
    pub routing_table_after: usize,
    /// Whether the time ran out before every address had answered.
    pub timed_out: bool,
}

/// What came of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialResult {
    /// The address, as given.
    pub address: String,
    /// The peer that answered.
    pub peer_id: Option<String>,
    /// Why nobody answered.
    pub error: Option<String>,
    /// What is to be known of it though it was reached: the peer was connected already, at another address.
    #[serde(default)]
    pub note: Option<String>,
}

/// `peer-list`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerListRequest {
    /// Only peers of at least this reputation.
    pub min_reputation: Option<f64>,
}

/// `peer-info`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfoRequest {
    /// The peer id, in its base58 form.
    pub peer_id: String,
    /// Also the history and how the reputation comes about.
    #[serde(default)]
    pub full: bool,
}

/// `disconnect`, what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisconnectRequest {
    /// The peer id, in its base58 form.
    pub peer_id: String,
}

/// `disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// The peer id.
    pub peer_id: String,
    /// Connections that were closed; none where the peer was not connected.
    pub connections: usize,
}
