//! The connected peers: what each said, and what is known of its connections. Pure: `now` is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::{Deref, DerefMut},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use tokio::time::Instant;

use super::{behaviour::KAD_PROTOCOL, diversity::Network, quic::is_quic};
use crate::peers::policy;

/// How long a new peer may take to say who it is before nobody waits for it any more.
const IDENTIFY_GRACE: Duration = Duration::from_secs(2);
/// How often the bookkeeping is told that a peer says something.
const HEARD_INTERVAL: Duration = Duration::from_secs(1);
/// Failed pings after which the connection is closed. libp2p keeps the first one to itself, so it is the second in a row.
const PINGS_FAILED_MAX: u32 = 1;

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// A byte stream, which is TCP wherever there are sockets.
    Tcp,
    /// QUIC.
    Quic,
    /// A relay.
    Relay,
}

impl Carrier {
    pub(super) fn of(address: &Multiaddr) -> Self {
        match policy::is_relayed(address) {
            true => Self::Relay,
            false if is_quic(address) => Self::Quic,
            false => Self::Tcp,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::Relay => "relay",
        }
    }
}

/// One peer that is connected.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Addresses of its connections, and whether we dialled them.
    pub(super) connections: BTreeMap<ConnectionId, (Multiaddr, bool)>,
    /// When blocks last went to it or came from it.
    pub(super) last_transfer: Option<Instant>,
    /// When it last gave us blocks that we had asked for, and that were verified.
    pub(super) last_gift: Option<Instant>,
    pub(super) told: Vec<Multiaddr>,
    pub(super) agent: Option<String>,
    pub(super) protocol_version: Option<String>,
    pub(super) protocols: Vec<String>,
    pub(super) round_trip: Option<Duration>,
    /// When a ping of it last came back.
    pub(super) ponged: Option<Instant>,
    pub(super) pings_failed: u32,
    /// When the bookkeeping was last told that it said something.
    pub(super) heard: Option<Instant>,
    /// Until when it may keep others waiting for what it has to say; none once it has said who it is.
    pub(super) awaited_until: Option<Instant>,
    /// Since when it is connected.
    pub(super) since: Option<Instant>,
    /// The connections that were given up: the peer answered no more, or the machine is elsewhere now.
    pub(super) dead: BTreeSet<ConnectionId>,
}

impl Peer {
    /// The addresses of its connections.
    pub(super) fn reached_at(&self) -> Vec<Multiaddr> {
        self.connections.values().map(|(address, _)| address.clone()).collect()
    }

    /// The addresses of its connections, then those that it told of, each once.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses: Vec<Multiaddr> = Vec::new();
        let in_use = self.connections.values().map(|(address, _)| address);
        for address in in_use.chain(&self.told) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// Whether it serves the DHT, as it says.
    pub(super) fn serves_dht(&self) -> bool {
        self.protocols.iter().any(|protocol| protocol == KAD_PROTOCOL)
    }

    /// Whether it is connected through relays alone.
    pub(super) fn is_relayed(&self) -> bool {
        self.connections.values().all(|(address, _)| policy::is_relayed(address))
    }

    /// What its connections go over.
    pub(super) fn transports(&self) -> BTreeSet<Carrier> {
        self.connections.values().map(|(address, _)| Carrier::of(address)).collect()
    }

    /// The addresses of its direct connections.
    pub(super) fn direct(&self) -> impl Iterator<Item = &Multiaddr> {
        self.connections.values().map(|(address, _)| address).filter(|address| !policy::is_relayed(address))
    }

    /// Whether this node dialled it.
    pub(super) fn is_chosen(&self) -> bool {
        self.connections.values().any(|(_, dialled)| *dialled)
    }

    /// Whether blocks went to or fro within this time.
    pub(super) fn moved_since(&self, now: Instant, time: Duration) -> bool {
        self.last_transfer.is_some_and(|last| now.saturating_duration_since(last) < time)
    }
}

/// The peers that are connected.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PeerId, Peer>);

impl Deref for Peers {
    type Target = BTreeMap<PeerId, Peer>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Peers {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Peers {
    /// Notes a connection.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        address: Multiaddr,
        dialled: bool,
        now: Instant,
    ) {
        let fresh =
            || Peer { awaited_until: Some(now + IDENTIFY_GRACE), since: Some(now), ..Peer::default() };
        self.0.entry(peer).or_insert_with(fresh).connections.insert(connection, (address, dialled));
    }

    /// Connections in all.
    pub(super) fn connections(&self) -> usize {
        self.0.values().map(|peer| peer.connections.len()).sum()
    }

    /// The addresses of the connections of a peer.
    pub(super) fn reached_at(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.0.get(peer).map_or_else(Vec::new, Peer::reached_at)
    }

    /// Whether a connection with a peer leads through a relay.
    pub(super) fn is_through_relay(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        let at = self.0.get(peer).and_then(|peer| peer.connections.get(&connection));
        at.is_some_and(|(address, _)| policy::is_relayed(address))
    }

    /// Whether a peer says less of itself over a connection than it has said already: over a relayed one it does not say that it
    /// relays, since it does not do so there.
    pub(super) fn says_less(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        let is_known = |peer: &Peer| peer.agent.is_some() && !peer.is_relayed();
        self.is_through_relay(peer, connection) && self.0.get(peer).is_some_and(is_known)
    }

    /// The public network that a peer is reached in.
    pub(super) fn network_of(&self, peer: &PeerId) -> Option<Network> {
        self.0.get(peer)?.connections.values().find_map(|(address, _)| network_of(address))
    }

    /// Where a peer is, as far as its connections say.
    pub(super) fn locality_of(&self, peer: &PeerId) -> policy::Locality {
        let addresses = self.0.get(peer).into_iter().flat_map(|peer| peer.connections.values());
        policy::Locality::of(*peer, addresses.map(|(address, _)| address).find_map(ip_of))
    }

    /// The peer that answers under an address that names nobody.
    pub(super) fn connected_at(&self, address: &Multiaddr) -> Option<PeerId> {
        let dialled = |peer: &Peer| peer.connections.values().any(|(at, dialled)| *dialled && at == address);
        self.0.iter().find(|(_, peer)| dialled(peer) || peer.told.contains(address)).map(|(id, _)| *id)
    }

    /// Notes that a peer said something, whatever it was; tells whether the bookkeeping is to hear of it.
    pub(super) fn heard(&mut self, peer: &PeerId, now: Instant) -> bool {
        let Some(known) = self.0.get_mut(peer) else { return false };
        let is_due = known.heard.is_none_or(|heard| heard + HEARD_INTERVAL <= now);
        if is_due {
            known.heard = Some(now);
        }
        is_due
    }

    /// Notes that blocks went to a peer or came from it.
    pub(super) fn transferred(&mut self, peer: &PeerId, now: Instant) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.last_transfer = Some(now);
        }
    }

    /// Notes that a peer gave what it was asked for.
    pub(super) fn credit(&mut self, peer: &PeerId, now: Instant) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.last_gift = Some(now);
        }
    }

    /// Notes that a ping of a peer came back.
    pub(super) fn ponged(&mut self, peer: &PeerId, round_trip: Duration, now: Instant) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.round_trip = Some(round_trip);
            peer.ponged = Some(now);
            peer.pings_failed = 0;
        }
    }

    /// Notes that a ping of a peer failed; tells whether its connection is dead.
    pub(super) fn ping_failed(&mut self, peer: &PeerId, connection: ConnectionId) -> bool {
        let Some(peer) = self.0.get_mut(peer) else { return false };
        peer.pings_failed += 1;
        let is_dead = peer.pings_failed >= PINGS_FAILED_MAX;
        if is_dead {
            peer.dead.insert(connection);
        }
        is_dead
    }

    /// Notes that a connection is dead, whoever its peer is.
    pub(super) fn died(&mut self, connection: ConnectionId) {
        let peer = self.0.values_mut().find(|peer| peer.connections.contains_key(&connection));
        if let Some(peer) = peer {
            peer.dead.insert(connection);
        }
    }

    /// Connected peers that have not said who they are, as long as it is worth waiting for them.
    pub(super) fn unidentified(&self, now: Instant) -> usize {
        self.0.values().filter(|peer| peer.awaited_until.is_some_and(|until| now < until)).count()
    }
}

/// What a peer that is reached at these addresses may tell of: the narrowest of them counts.
pub(super) fn origin_of(reached_at: &[Multiaddr]) -> policy::Origin {
    policy::Origin::Peer(reached_at.iter().map(policy::scope_of).min().unwrap_or(policy::Scope::Public))
}

/// The public network that an address is in: its /24, or its /48.
pub(super) fn network_of(address: &Multiaddr) -> Option<Network> {
    ip_of(address).and_then(policy::group_of)
}

/// The IP address that an address begins with.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_awaited_until_it_says_who_it_is_or_takes_too_long() {
        let (mut peers, peer, now) = (Peers::default(), PeerId::random(), Instant::now());
        let at = address("/ip4/203.0.113.1/tcp/4001");
        peers.connected(peer, ConnectionId::new_unchecked(1), at.clone(), true, now);
        peers.connected(peer, ConnectionId::new_unchecked(2), at, false, now + IDENTIFY_GRACE);
        assert_eq!((peers.len(), peers.connections(), peers.unidentified(now)), (1, 2, 1));
        assert_eq!(peers.unidentified(now + IDENTIFY_GRACE), 0, "another connection gives it no more time");
        peers.get_mut(&peer).unwrap().awaited_until = None;
        assert_eq!(peers.unidentified(now), 0);
    }

    #[test]
    fn what_a_peer_says_is_told_once_a_second() {
        let (mut peers, peer, now) = (Peers::default(), PeerId::random(), Instant::now());
        assert!(!peers.heard(&peer, now), "it is gone");
        peers.connected(peer, ConnectionId::new_unchecked(1), Multiaddr::empty(), true, now);
        assert!(peers.heard(&peer, now) && !peers.heard(&peer, now + HEARD_INTERVAL / 2));
        assert!(peers.heard(&peer, now + HEARD_INTERVAL));
    }

    #[test]
    fn what_a_peer_says_over_a_relay_counts_where_nothing_else_is_known_of_it() {
        let (mut peers, peer, now) = (Peers::default(), PeerId::random(), Instant::now());
        let [direct, relayed] = [1, 2].map(ConnectionId::new_unchecked);
        let through = address(&format!("/ip4/203.0.113.9/tcp/1/p2p/{}/p2p-circuit", PeerId::random()));
        peers.connected(peer, relayed, through, false, now);
        peers.get_mut(&peer).unwrap().agent = Some("ggen/1".to_owned());
        assert!(!peers.says_less(&peer, relayed), "there is no other connection");
        peers.connected(peer, direct, address("/ip4/203.0.113.1/tcp/4001"), true, now);
        assert!(peers.says_less(&peer, relayed) && !peers.says_less(&peer, direct));
        peers.get_mut(&peer).unwrap().agent = None;
        assert!(!peers.says_less(&peer, relayed), "it has said nothing yet");
    }

    #[test]
    fn a_connection_is_dead_when_pings_fail() {
        let (mut peers, peer, now) = (Peers::default(), PeerId::random(), Instant::now());
        let connection = ConnectionId::new_unchecked(1);
        assert!(!peers.ping_failed(&peer, connection), "it is gone");
        peers.connected(peer, connection, Multiaddr::empty(), true, now);
        peers.ponged(&peer, Duration::from_millis(5), now);
        assert_eq!(peers[&peer].round_trip, Some(Duration::from_millis(5)));
        assert!(peers[&peer].dead.is_empty());
        assert!(peers.ping_failed(&peer, connection));
        assert_eq!(peers[&peer].dead, BTreeSet::from([connection]));
    }

    #[test]
    fn a_peer_answers_where_it_was_dialled_and_where_it_says() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let (dialled, came) = (PeerId::random(), PeerId::random());
        let [at, from, told] = [1, 2, 3].map(|n| address(&format!("/ip4/203.0.113.{n}/tcp/4001")));
        peers.connected(dialled, ConnectionId::new_unchecked(1), at.clone(), true, now);
        peers.connected(came, ConnectionId::new_unchecked(2), from.clone(), false, now);
        peers.get_mut(&came).unwrap().told = vec![told.clone(), from.clone()];
        assert_eq!(peers.connected_at(&at), Some(dialled));
        assert_eq!(peers.connected_at(&told), Some(came));
        peers.get_mut(&came).unwrap().told = vec![told.clone()];
        assert_eq!(peers.connected_at(&from), None, "it dialled from there");
        assert_eq!(peers[&came].addresses(), [from.clone(), told]);
        assert_eq!(peers.network_of(&came), network_of(&from));
    }
}
