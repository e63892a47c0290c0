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
    /// Peers that were found on the local network, connected or not; absent where the node does not look for them.
    #[serde(default)]
    pub local_network_peers: Option<usize>,
}
