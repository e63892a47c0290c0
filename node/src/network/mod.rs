//! The network: the transport seam, libp2p's behaviours, and the one loop that drives them.
//!
//! [`Handle`] is how the rest of the node speaks to it: every call is a command with a deadline and one answer. [`Event`]s go
//! the other way, to whoever keeps the books. The loop itself ([`spawn`]) owns the swarm; nobody else touches it, and
//! nothing in it waits: hashing, signatures and whatever uses the database run beside it ([`Offload`]).
//!
//! **Invariant:** nothing unverified is stored, forwarded or handed on. A head is verified before gossip forwards it,
//! before a DHT record is kept, and before it enters the catalogue.

mod admission;
mod announcements;
mod answering;
mod behaviour;
mod beside;
mod blocked;
mod blocks;
mod codec;
mod command;
mod connections;
mod dht;
mod dialling;
mod diversity;
mod doors;
mod driver;
mod events;
mod exchange;
mod first_contact;
mod found;
mod giving;
mod gone;
mod gossip;
mod greetings;
mod handle;
mod handshakes;
mod healing;
mod heard;
mod identification;
mod inner;
mod intake;
mod kademlia;
mod knocks;
mod limiter;
mod listeners;
mod listening;
mod logs;
mod lookups;
mod metrics;
mod moves;
pub mod names;
mod nearby;
mod observed;
mod observer;
mod offload;
mod outbox;
mod pace;
mod paced;
mod peers;
mod portions;
mod progress;
mod quic;
mod reach;
mod records;
mod refusals;
mod routing;
mod serve;

mod shown;
mod sighted;
mod snapshot;
mod spawner;
pub mod streams;
pub mod transport;
mod turns;
mod wanting;
mod width;

use std::{io, net::IpAddr, time::Duration};

use libp2p::{Multiaddr, PeerId};

pub use behaviour::{KAD_PROTOCOL, PROTOCOL_VERSION};
pub use dialling::DialFailure;
pub use driver::spawn;
pub use first_contact::FirstContact;
pub use handle::{Answers, Handle, HeadsRead, Provider};
pub use limiter::Line;
pub use metrics::Metrics;
pub use nearby::Machine;
pub use observer::{Lookup, LookupKind, Observer};
pub use offload::Offload;
pub use peers::Carrier;
pub use quic::is_quic;
pub use reach::{
    mapping::PortMapping,
    router::By,
    standing::{Mapping, Ports, Verdict},
};
pub use snapshot::{Load, PeerSnapshot, Refused, Snapshot};
pub use spawner::Spawner;

use crate::{
    catalog::Source,
    code::Code,
    config::{Reach, Role},
    hello::Runs,
    peers::trim::Marks,
    time::Timestamp,
};

/// What the network needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The announcement topic.
    pub topic: String,
    /// Whether this node answers DHT queries.
    pub dht_server: bool,
    /// How others reach this node, as the configuration says.
    pub reach: Reach,
    /// Whether it listens anywhere.
    pub listens: bool,
    /// Whether this node relays for others, where it can be reached itself.
    pub relay_server: bool,
    /// How long a DHT query may take.
    pub query_timeout: Duration,
    /// What this node is in its topology.
    pub role: Role,
    /// Bootstrap nodes and hubs: connections to them are never closed for being too many.
    pub entry_points: Vec<Multiaddr>,
    /// Connections in all.
    pub connections_max: u32,
    /// Between which numbers the connections are kept.
    pub connections: Marks,
    /// What is written down before the first connection stands.
    pub first_contact: FirstContact,
    /// Which run of this node this is.
    pub runs: Runs,
    /// How many bytes of blocks and logs move in a second; every copy is the same one.
    pub line: Line,
    /// Where tasks run.
    pub spawner: Spawner,
    /// What is used of the machine, beside the base transport.
    pub machine: Machine,
}

/// What happened, for the bookkeeping and for an [`Observer`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A connection stands.
    Connected {
        /// The peer.
        peer: PeerId,
        /// Its address, where this node dialled it.
        dialled: Option<Multiaddr>,
    },
    /// A peer could not be reached under an address.
    Unreachable {
        /// The peer.
        peer: PeerId,
        /// The address.
        address: Multiaddr,
    },
    /// A peer told who it is.
    Identified {
        /// The peer.
        peer: PeerId,
        /// The addresses it listens on, filtered.
        addresses: Vec<Multiaddr>,
    },
    /// A peer said something.
    Seen {
        /// The peer.
        peer: PeerId,
    },
    /// A peer told what time it is.
    Greeted {
        /// The peer.
        peer: PeerId,
        /// Its address on the connection, where that is a number.
        ip: Option<IpAddr>,
        /// Whether this node dialled that connection.
        is_dialled: bool,
        /// What its clock says.
        time: Timestamp,
    },
    /// Another node speaks with the key of this one: it signed so a moment ago.
    Twin {
        /// The peer that is connected with both.
        told_by: PeerId,
        /// Whether its run comes before the one of this node, so that the two are never taken for each other.
        is_first: bool,
    },
    /// A peer has, or had a moment ago, a connection of an earlier run of this node. Told once of each.
    EarlierRun {
        /// The peer.
        told_by: PeerId,
    },
    /// A peer passed on heads that nobody signed who may.
    ForgedHeads {
        /// The peer.
        peer: PeerId,
    },
    /// Blocks were sent to a peer.
    Served {
        /// The peer.
        peer: PeerId,
        /// Bytes of blocks.
        bytes: u64,
        /// Whether they went through a relay.
        is_relayed: bool,
    },
    /// A peer claims to provide a tree.
    Claimed {
        /// The peer.
        peer: PeerId,
        /// The multihash of the tree's content id.
        multihash: Vec<u8>,
        /// Whom its word is counted for.
        source: Source,
    },
    /// There are more nodes to tell of our packages than before: the routing table or the topic gained a peer.
    Audience,
    /// A peer whose connection had broken is connected again: it may have missed what was told meanwhile.
    Reunited {
        /// The peer.
        peer: PeerId,
        /// How long it was away.
        away: Duration,
    },
    /// A peer serves the DHT, as it says; told by a spoke, to which it may be a hub.
    Serves {
        /// The peer.
        peer: PeerId,
    },
    /// What a peer said of itself was looked at. Told to an [`Observer`] only.
    Introduced {
        /// The peer.
        peer: PeerId,
    },
    /// A request of another for the DHT was looked at. Told to an [`Observer`] only.
    Asked,
    /// A request of another in the exchange of heads was answered with what it asked for. Told to an [`Observer`] only.
    Read {
        /// The peer.
        peer: PeerId,
    },
    /// The last connection to a peer closed.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// Gossip brought an announcement. Told to an [`Observer`] only.
    Announced {
        /// Who passed it on.
        from: PeerId,
        /// The SHA-256 of what it is.
        digest: [u8; 32],
        /// Whether its signature was checked; false where it was passed over without a look at it.
        is_checked: bool,
        /// Whether it was taken and passed on; false where it was ignored or refused.
        is_taken: bool,
    },
    /// An announcement of this node went out. Told to an [`Observer`] only.
    Announcing {
        /// The SHA-256 of what it is.
        digest: [u8; 32],
        /// Connected peers that are subscribed to the topic.
        peers: usize,
    },
    /// The routing table gained a peer. Told to an [`Observer`] only.
    Routed {
        /// The peer.
        peer: PeerId,
    },
    /// A record of another was kept for the DHT, or is kept for longer. Told to an [`Observer`] only.
    Kept {
        /// Who sent it.
        from: PeerId,
    },
    /// The network loop refuses a peer from now on, for what it saw of it. Told to an [`Observer`] only.
    Refused {
        /// The peer.
        peer: PeerId,
    },
    /// A lookup in the DHT ended, whoever began it: this node's user, or Kademlia itself. Told to an [`Observer`] only.
    LookedUp(Lookup),
    /// Heads that others sent entered the catalogue. Told to an [`Observer`] only.
    Listed {
        /// Heads that were new or newer.
        heads: usize,
    },
    /// What the loop holds, twice a second. Told to an [`Observer`] only.
    Loaded(Load),
}

/// Why the network could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A behaviour refused its configuration.
    #[error("the network cannot be set up: {0}")]
    Setup(String),
    /// The node key cannot sign the handshake.
    #[error("the node key cannot be used for the Noise handshake")]
    Noise(#[from] libp2p::noise::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// Too many things are in progress.
    #[error("too many lookups are in progress")]
    Busy,
    /// A lookup found heads of one package that contradict each other.
    #[error("the DHT holds two different states of {package} for one place")]
    Contradiction {
        /// The package.
        package: crate::package::PackageId,
    },
    /// All that a lookup found is from ahead of this node's clock.
    #[error(
        "what the DHT has of {package} was made at {released_at}, which is ahead of this machine's clock: it is {now} there"
    )]
    Early {
        /// The package.
        package: crate::package::PackageId,
        /// When it was made, as its maker says.
        released_at: crate::time::Timestamp,
        /// The time here.
        now: crate::time::Timestamp,
    },
    /// Nobody whom a lookup asked answered.
    #[error("no node of the DHT answered when {package} was looked up")]
    Unanswered {
        /// The package.
        package: crate::package::PackageId,
    },
    /// A lookup ended before all had answered whom it had to ask, and had found nothing.
    #[error(
        "{package} was not found within {deadline:?}, and not all nodes that may have it were asked: {answered} answered"
    )]
    CutOff {
        /// The package.
        package: crate::package::PackageId,
        /// Nodes that answered.
        answered: u32,
        /// The time that it had.
        deadline: Duration,
    },
    /// The loop did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Setup(_) | Self::Noise(_) => Code::Failed,
            Self::Store(error) => error.code(),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Code::AddressInUse,
            Self::Listen { .. } | Self::Unanswered { .. } => Code::Network,
            Self::Stopped => Code::NotRunning,
            Self::Contradiction { .. } => Code::Equivocation,
            Self::Early { .. } => Code::Clock,
            Self::Busy => Code::Busy,
            Self::Timeout(_) | Self::CutOff { .. } => Code::Timeout,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                let port = address.iter().find_map(|part| match part {
                    libp2p::multiaddr::Protocol::Tcp(port) | libp2p::multiaddr::Protocol::Udp(port) => Some(port),
                    _ => None,
                });
                format!(
                    "See who uses the port: lsof -i :{}\nOr let the system choose one: --listen /ip4/0.0.0.0/tcp/0",
                    port.unwrap_or_default()
                )
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "Ports below 1024 need privileges; choose a higher one, for example --listen /ip4/0.0.0.0/tcp/4001."
                    .to_owned()
            }
            Self::CutOff { .. } => "Try again: what was asked in vain is not asked again soon. Or connect to more peers.".to_owned(),
            Self::Early { .. } => {
                "Put this machine's clock right (timedatectl set-ntp true), then try again.".to_owned()
            }
            Self::Unanswered { .. } => "Connect to more peers, or try again in a moment.".to_owned(),
            Self::Contradiction { .. } => {
                "Nothing was installed. Ask its publisher, over another channel, which one counts.".to_owned()
            }
            Self::Listen { .. } => {
                "Choose an address of this machine, for example --listen /ip4/0.0.0.0/tcp/0.".to_owned()
            }
            Self::Store(error) => error.hint(),
            Self::Busy => "Try again in a moment.".to_owned(),
            Self::Timeout(_) => "Try again, or give more time with --timeout.".to_owned(),
            Self::Stopped => "Start the node again: ggen marketplace p2p start".to_owned(),
            Self::Setup(_) | Self::Noise(_) => "Look at the node's log: ggen marketplace p2p logs".to_owned(),
        }
    }
}
