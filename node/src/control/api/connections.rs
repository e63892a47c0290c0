//! How others connect to this node.

use serde::{Deserialize, Serialize};

/// How others connect to a node, as `status` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachability {
    /// How others connect to this node: `direct`, `unknown` where nothing speaks against that, `relay`, or `none` where it
    /// needs a relay and has none.
    #[serde(default)]
    pub reach: String,
    /// Why, in one sentence, and what can be done about it.
    #[serde(default)]
    pub reach_reason: String,
    /// Addresses through relays, each ending in `/p2p-circuit/p2p/<peer id>`.
    #[serde(default)]
    pub relay_addresses: Vec<String>,
    /// Peers that are reached through this node as their relay.
    #[serde(default)]
    pub relay_clients: usize,
    /// What is known of ports that the router maps to this node; absent where it was not asked.
    #[serde(default)]
    pub port_mapping: Option<PortMapping>,
    /// Peers that were found on the local network, connected or not; absent where the node does not look for them.
    #[serde(default)]
    pub local_network_peers: Option<usize>,
}

/// The ports that a router maps to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `works` where peers got through, `untested`, `untrue` where the router says so and peers do not get through,
    /// `behind_another_nat`, `refused`, or `no_router`.
    pub state: String,
    /// By what the router was asked: `UPnP` or `NAT-PMP`; absent where it maps nothing.
    #[serde(default)]
    pub by: Option<String>,
    /// The outer port for TCP.
    #[serde(default)]
    pub tcp_port: Option<u16>,
    /// The outer port for QUIC.
    #[serde(default)]
    pub udp_port: Option<u16>,
}
