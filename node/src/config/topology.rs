//! How a network is laid out, and what this node is in it.
//!
//! Three layouts, each with its roles. In a mesh all nodes are equal. With hubs and spokes, a few nodes carry the DHT and the
//! connections, and the others hold on to some of them. A hybrid has permanent nodes, which carry the DHT, and ephemeral
//! ones, which come and go. What a role means for the rest of the configuration is decided here and nowhere else.

use std::{fmt, str::FromStr};

use super::{P2PConfig, error::quoted};

/// How a network is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Topology {
    /// All nodes are equal.
    #[default]
    Mesh,
    /// A few nodes carry the network, and the others hold on to some of them.
    HubAndSpoke,
    /// Nodes that stay carry the DHT; nodes that come and go use it.
    Hybrid,
}

/// What a node is in its topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// As all others are.
    #[default]
    Peer,
    /// Serves the DHT and holds many connections.
    Hub,
    /// Holds connections to a few hubs only.
    Spoke,
    /// Serves the DHT and is meant to stay.
    Permanent,
    /// Comes and goes, and serves no DHT.
    Ephemeral,
}

/// Connections that a node holds where its user says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connections {
    /// Trimming leaves at least so many.
    pub(super) low: u32,
    /// From here on it begins.
    pub(super) high: u32,
    /// More are refused.
    pub(super) max: u32,
}

/// A node among equals: enough for the gossip mesh (12) and the routing table's near buckets, with as much again to spare.
const CONNECTIONS: Connections = Connections { low: 24, high: 48, max: 200 };
/// How many times as many a hub holds.
const HUB_FACTOR: u32 = 8;

impl Topology {
    /// Every topology.
    pub const ALL: &'static [Self] = &[Self::Mesh, Self::HubAndSpoke, Self::Hybrid];

    /// The topology as the file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::HubAndSpoke => "hub-and-spoke",
            Self::Hybrid => "hybrid",
        }
    }

    /// The roles that it has, the one first that a node has where nothing was said.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Mesh => &[Role::Peer],
            Self::HubAndSpoke => &[Role::Spoke, Role::Hub],
            Self::Hybrid => &[Role::Permanent, Role::Ephemeral],
        }
    }

    /// The role of a node that was told none.
    pub fn default_role(self) -> Role {
        self.roles()[0]
    }
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] = &[Self::Peer, Self::Hub, Self::Spoke, Self::Permanent, Self::Ephemeral];

    /// The role as the file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Hub => "hub",
            Self::Spoke => "spoke",
            Self::Permanent => "permanent",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// The topology that has it.
    pub fn topology(self) -> Topology {
        match self {
            Self::Peer => Topology::Mesh,
            Self::Hub | Self::Spoke => Topology::HubAndSpoke,
            Self::Permanent | Self::Ephemeral => Topology::Hybrid,
        }
    }

    /// Whether a node in this role may answer DHT queries, and does so where nothing else was said.
    pub fn serves_dht(self) -> bool {
        !matches!(self, Self::Spoke | Self::Ephemeral)
    }

    pub(super) fn connections(self) -> Connections {
        let Connections { low, high, max } = CONNECTIONS;
        match self {
            Self::Hub => {
                Connections { low: low * HUB_FACTOR, high: high * HUB_FACTOR, max: max * HUB_FACTOR }
            }
            _ => CONNECTIONS,
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|it| it.as_str() == text);
        found.ok_or_else(|| format!("{} is not a topology, expected {}", quoted(text), any_of(Self::ALL)))
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|it| it.as_str() == text);
        found.ok_or_else(|| format!("{} is not a role, expected {}", quoted(text), any_of(Self::ALL)))
    }
}

/// `a, b or c`.
pub(super) fn any_of(words: &[impl fmt::Display]) -> String {
    let last = words.len().saturating_sub(1);
    words.iter().enumerate().fold(String::new(), |mut text, (index, word)| {
        text.push_str(match index {
            0 => "",
            _ if index == last => " or ",
            _ => ", ",
        });
        text.push_str(&word.to_string());
        text
    })
}

impl P2PConfig {
    /// The same configuration for a node in another role: what the role decides is as the role has it (`dht_server_mode`,
    /// `relay_server`, `mdns` and the numbers of connections), and everything else stays.
    pub fn in_role(self, topology: Topology, role: Role) -> Self {
        let Connections { low, high, max } = role.connections();
        Self {
            topology,
            role,
            dht_server_mode: role.serves_dht(),
            relay_server: role.serves_dht(),
            mdns: topology != Topology::HubAndSpoke,
            connections_low: low,
            connections_high: high,
            connections_max: max,
            ..self
        }
    }

    /// Which values do not go together: each with its key.
    pub(super) fn conflicts(&self) -> Vec<(&'static str, String)> {
        let mut conflicts = Vec::new();
        let (topology, role) = (self.topology, self.role);
        if role.topology() != topology {
            let roles = topology.roles();
            let what = format!(
                "{role} is no role of the topology {topology}, expected {}; {role} is one of {}",
                any_of(roles),
                role.topology()
            );
            conflicts.push(("role", what));
        } else if self.dht_server_mode && !role.serves_dht() {
            let what = format!(
                "true does not go with the role {role}, which never answers DHT queries; leave it out, or choose the role {}",
                if role == Role::Spoke { Role::Hub } else { Role::Permanent }
            );
            conflicts.push(("dht_server_mode", what));
        }
        if topology != Topology::HubAndSpoke && !self.hubs.is_empty() {
            let what = format!("the topology {topology} has no hubs; set it to {}", Topology::HubAndSpoke);
            conflicts.push(("topology.hubs", what));
        }
        if self.connections_low >= self.connections_high {
            let what = format!(
                "{} is not below peers.connections_high, which is {}",
                self.connections_low, self.connections_high
            );
            conflicts.push(("peers.connections_low", what));
        }
        conflicts
    }

    /// Peers to join the network through: the hubs, then the bootstrap nodes, each once.
    pub fn entry_points(&self) -> Vec<libp2p::Multiaddr> {
        let mut entries: Vec<libp2p::Multiaddr> = Vec::new();
        for address in self.hubs.iter().chain(&self.bootstrap_nodes) {
            if !entries.contains(address) {
                entries.push(address.clone());
            }
        }
        entries
    }
}
