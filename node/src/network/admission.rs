//! How many connections there may be: in all, with one peer, of one address, of one network, and still in their handshake.
//!
//! The caps over all bound memory. The others keep one party from filling them alone: whoever opens connections and says
//! nothing, or makes up peer ids by the hundred, costs nobody else the way in. Some of the connections are kept for those that
//! this node dials itself, which nobody can bring about who only connects.
//!
//! Which inbound handshake gives way where all places are taken, [`knocks`](super::knocks) says.
//!
//! A connection that comes through a relay counts as one of the relay's network, and beside the direct ones of its peer.
//!
//! Loopback and private addresses say nothing about who is behind them, and share the caps over all.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use tokio::time::Instant;

use super::{
    diversity::Network,
    handshakes::Latest,
    knocks::{Counts, Knocks},
    peers::network_of,
    quic::is_quic,
    reach::seen_at,
};
use crate::peers::policy;

/// Why there is no room for one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{0} connections that were dialled are in their handshake")]
    Outgoing(usize),
    #[error("{0} inbound connections are in their handshake")]
    Incoming(usize),
    #[error("{max} connections of {address} are in their handshake")]
    IncomingOfAddress { address: IpAddr, max: usize },
    #[error("{0} connections stand")]
    Established(usize),
    #[error("{0} inbound connections stand")]
    EstablishedIncoming(usize),
    #[error("{0} inbound connections of one network stand")]
    EstablishedOfNetwork(usize),
    #[error("{0} connections with the peer stand")]
    EstablishedOfPeer(usize),
    #[error("{0} connections with the peer stand through relays")]
    RelayedOfPeer(usize),
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Dialled connections in their handshake.
    pub(super) pending_outgoing: usize,
    /// Inbound connections in their handshake.
    pub(super) pending_incoming: usize,
    /// Those of one IPv4 address, or of one IPv6 /64.
    pub(super) pending_incoming_per_address: usize,
    /// Connections that stand.
    pub(super) established: usize,
    /// Above so many, connections are trimmed.
    pub(super) trimmed_above: usize,
    /// Direct ones with one peer.
    pub(super) established_per_peer: usize,
    /// Those with one peer through relays.
    pub(super) relayed_per_peer: usize,
}

impl Bounds {
    /// Inbound connections that stand: a quarter is left to those that this node dials, but not so much that inbound ones alone
    /// could fill theirs and never be trimmed.
    fn established_incoming(&self) -> usize {
        let three_quarters = self.established - self.established / 4;
        three_quarters.max(self.trimmed_above.saturating_add(1)).min(self.established)
    }

    /// Inbound connections of one public network that stand: an office behind one address, and a fraction of all.
    fn established_per_network(&self) -> usize {
        (self.established / 8).max(8)
    }
}

/// A connection that stands.
#[derive(Debug, Clone, Copy)]
struct Established {
    peer: PeerId,
    is_inbound: bool,
    is_relayed: bool,
    /// The public network that it comes from, where it is inbound; that of its relay, where there is one between.
    network: Option<Network>,
}

/// Counts connections, and refuses those that are too many.
#[derive(Debug)]
pub(super) struct Behaviour {
    bounds: Bounds,
    latest: Latest,
    outgoing: BTreeSet<ConnectionId>,
    /// Inbound handshakes over TCP and through relays.
    incoming: Knocks,
    /// Those over QUIC: nobody has to answer for the address that one begins with, so that they have places of their own.
    incoming_quic: Knocks,
    established: BTreeMap<ConnectionId, Established>,
    of_peer: Counts<PeerId>,
    relayed_of_peer: Counts<PeerId>,
    of_network: Counts<Network>,
    established_incoming: usize,
}

impl Behaviour {
    /// Counts from nothing; `latest` has what ends the handshake that is asked about.
    pub(super) fn new(bounds: Bounds, latest: Latest) -> Self {
        Self {
            bounds,
            latest,
            outgoing: BTreeSet::new(),
            incoming: Knocks::new(bounds.pending_incoming, bounds.pending_incoming_per_address),
            incoming_quic: Knocks::new(bounds.pending_incoming / 2, bounds.pending_incoming_per_address),
            established: BTreeMap::new(),
            of_peer: Counts::default(),
            relayed_of_peer: Counts::default(),
            of_network: Counts::default(),
            established_incoming: 0,
        }
    }

    /// Changes how many connections may stand, and above how many they are trimmed; those that stand already stay.
    pub(super) fn set_established(&mut self, max: usize, trimmed_above: usize) {
        self.bounds.established = max;
        self.bounds.trimmed_above = trimmed_above;
    }

    fn knock(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
        now: Instant,
    ) -> Result<(), Full> {
        let give_up = self.latest.take(remote);
        let from = comes_from(local, remote);
        let knocks = if is_quic(from) { &mut self.incoming_quic } else { &mut self.incoming };
        knocks.knock(connection, from, give_up, now)
    }

    fn dial(&mut self, connection: ConnectionId) -> Result<(), Full> {
        if self.outgoing.len() >= self.bounds.pending_outgoing {
            return Err(Full::Outgoing(self.bounds.pending_outgoing));
        }
        self.outgoing.insert(connection);
        Ok(())
    }

    /// The handshake of a connection ended, well or not.
    fn shaken(&mut self, connection: ConnectionId) {
        self.outgoing.remove(&connection);
        self.incoming.forget(connection);
        self.incoming_quic.forget(connection);
    }

    fn admit(&self, peer: &PeerId, is_relayed: bool, inbound_from: Option<&Multiaddr>) -> Result<(), Full> {
        let bounds = &self.bounds;
        if self.established.len() >= bounds.established {
            return Err(Full::Established(bounds.established));
        }
        if is_relayed && self.relayed_of_peer.of(peer) >= bounds.relayed_per_peer {
            return Err(Full::RelayedOfPeer(bounds.relayed_per_peer));
        }
        if !is_relayed && self.of_peer.of(peer) >= bounds.established_per_peer {
            return Err(Full::EstablishedOfPeer(bounds.established_per_peer));
        }
        let Some(remote) = inbound_from else { return Ok(()) };
        if self.established_incoming >= bounds.established_incoming() {
            return Err(Full::EstablishedIncoming(bounds.established_incoming()));
        }
        let of_network = network_of(remote).map_or(0, |network| self.of_network.of(&network));
        if of_network >= bounds.established_per_network() {
            return Err(Full::EstablishedOfNetwork(bounds.established_per_network()));
        }
        Ok(())
    }

    fn opened(&mut self, connection: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) {
        let is_inbound = endpoint.is_listener();
        let network = is_inbound.then(|| network_of(seen_at(endpoint))).flatten();
        let is_relayed = endpoint.is_relayed();
        if is_relayed {
            self.relayed_of_peer.add(peer)
        } else {
            self.of_peer.add(peer)
        }
        self.established_incoming += usize::from(is_inbound);
        network.into_iter().for_each(|network| self.of_network.add(network));
        self.established.insert(connection, Established { peer, is_inbound, is_relayed, network });
    }

    fn closed(&mut self, connection: ConnectionId) {
        let Some(it) = self.established.remove(&connection) else { return };
        if it.is_relayed {
            self.relayed_of_peer.take(&it.peer)
        } else {
            self.of_peer.take(&it.peer)
        }
        self.established_incoming -= usize::from(it.is_inbound);
        it.network.iter().for_each(|network| self.of_network.take(network));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.knock(connection, local, remote, Instant::now()).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.shaken(connection);
        self.admit(&peer, policy::is_relayed(local), Some(comes_from(local, remote)))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.dial(connection).map_err(ConnectionDenied::new)?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.shaken(connection);
        self.admit(&peer, policy::is_relayed(address), None).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(it) => self.opened(it.connection_id, it.peer_id, it.endpoint),
            FromSwarm::ConnectionClosed(it) => self.closed(it.connection_id),
            FromSwarm::DialFailure(it) => self.shaken(it.connection_id),
            FromSwarm::ListenFailure(it) => self.shaken(it.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Where an inbound connection comes from: its relay, where it comes through one, since it has no other address.
fn comes_from<'a>(local: &'a Multiaddr, remote: &'a Multiaddr) -> &'a Multiaddr {
    if policy::is_relayed(local) { local } else { remote }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        pending_outgoing: 2,
        pending_incoming: 8,
        pending_incoming_per_address: 2,
        established: 80,
        trimmed_above: 40,
        established_per_peer: 2,
        relayed_per_peer: 1,
    };

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    /// Where the node listens.
    fn here() -> Multiaddr {
        "/ip4/192.0.2.1/tcp/1".parse().unwrap()
    }

    /// Connects `peer` from `ip`; whether it was let in.
    fn enter(admission: &mut Behaviour, n: usize, peer: PeerId, ip: &str) -> bool {
        let remote: Multiaddr = format!("{ip}/tcp/{n}").parse().unwrap();
        let local = here();
        if admission.handle_pending_inbound_connection(id(n), &local, &remote).is_err()
            || admission.handle_established_inbound_connection(id(n), peer, &local, &remote).is_err()
        {
            return false;
        }
        admission.opened(
            id(n),
            peer,
            &ConnectedPoint::Listener { local_addr: local, send_back_addr: remote },
        );
        true
    }

    fn dial(admission: &mut Behaviour, n: usize) -> bool {
        let address: Multiaddr = "/ip4/203.0.113.1/tcp/1".parse().unwrap();
        let (peer, role, port_use) = (PeerId::random(), Endpoint::Dialer, PortUse::Reuse);
        let dialled = admission.handle_pending_outbound_connection(id(n), None, &[], role).is_ok()
            && admission
                .handle_established_outbound_connection(id(n), peer, &address, role, port_use)
                .is_ok();
        if dialled {
            let endpoint = ConnectedPoint::Dialer { address, role_override: role, port_use };
            admission.opened(id(n), peer, &endpoint);
        }
        dialled
    }

    #[test]
    fn whoever_only_connects_leaves_room_for_those_that_are_dialled() {
        let mut admission = Behaviour::new(BOUNDS, Latest::default());
        let entered = (0..100).filter(|n| enter(&mut admission, *n, PeerId::random(), "/ip4/10.0.0.1"));
        assert_eq!(entered.count(), 60, "three quarters");
        assert!((100..120).all(|n| dial(&mut admission, n)));
        assert!(!dial(&mut admission, 120));
        admission.closed(id(0));
        assert!(dial(&mut admission, 121));
        admission.set_established(90, 70);
        let entered = (200..300).filter(|n| enter(&mut admission, *n, PeerId::random(), "/ip4/10.0.0.1"));
        assert_eq!(entered.count(), 10, "else they would not be trimmed: three quarters are 68");
        admission.set_established(100, 70);
        let entered = (300..400).filter(|n| enter(&mut admission, *n, PeerId::random(), "/ip4/10.0.0.1"));
        assert_eq!(entered.count(), 6, "three quarters are 75");
    }

    #[test]
    fn one_public_network_has_its_share_and_a_private_one_is_not_strangled() {
        let mut admission = Behaviour::new(BOUNDS, Latest::default());
        let mut from = |first: usize, ip: fn(usize) -> String| {
            (first..first + 20).filter(|n| enter(&mut admission, *n, PeerId::random(), &ip(*n))).count()
        };
        assert_eq!(from(0, |n| format!("/ip4/203.0.113.{n}")), 10, "a /24 is one party");
        assert_eq!(from(100, |n| format!("/ip6/2604:a880:1:{n}::1")), 10, "a /48 too");
        assert_eq!(from(200, |_| "/ip4/10.0.0.1".to_owned()), 20);
        assert_eq!(from(300, |_| "/ip4/127.0.0.1".to_owned()), 20);
        admission.closed(id(0));
        assert!(
            enter(&mut admission, 400, PeerId::random(), "/ip4/203.0.113.9"),
            "what it closed it has again"
        );
    }

    #[test]
    fn who_comes_through_a_relay_counts_as_one_of_its_network_and_beside_direct_connections() {
        let mut admission = Behaviour::new(BOUNDS, Latest::default());
        let relay = PeerId::random();
        let through = |ip: &str| format!("{ip}/tcp/1/p2p/{relay}/p2p-circuit").parse::<Multiaddr>().unwrap();
        let mut enter_through = |n: usize, peer: PeerId, ip: &str| {
            let (local_addr, send_back_addr) = (through(ip), Multiaddr::empty());
            let (local, remote) = (&local_addr, &send_back_addr);
            let is_in = admission.handle_pending_inbound_connection(id(n), local, remote).is_ok()
                && admission.handle_established_inbound_connection(id(n), peer, local, remote).is_ok();
            if is_in {
                admission.opened(id(n), peer, &ConnectedPoint::Listener { local_addr, send_back_addr });
            }
            is_in
        };
        let first = PeerId::random();
        assert!(enter_through(1, first, "/ip4/203.0.113.1"));
        assert!(!enter_through(2, first, "/ip4/203.0.113.1"), "one with one peer");
        let of_network = (3..40).filter(|n| enter_through(*n, PeerId::random(), "/ip4/203.0.113.1")).count();
        assert_eq!(1 + of_network, BOUNDS.established_per_network());
        assert!(enter_through(50, PeerId::random(), "/ip4/198.51.100.1"), "another relay is not affected");
        assert!(
            enter(&mut admission, 61, first, "/ip4/192.0.2.9")
                && enter(&mut admission, 62, first, "/ip4/192.0.2.9")
        );
        (1..=62).for_each(|n| admission.closed(id(n)));
        assert!(admission.relayed_of_peer.0.is_empty() && admission.of_network.0.is_empty());
    }

    #[test]
    fn whoever_begins_handshakes_over_udp_takes_no_place_of_those_who_come_over_tcp() {
        let (mut admission, now) = (Behaviour::new(BOUNDS, Latest::default()), Instant::now());
        let mut knocks = |first: usize, over: &str, one: &str| {
            let knock = |n: &usize| {
                let ip = if one.is_empty() { format!("/ip4/10.0.0.{n}") } else { one.to_owned() };
                let remote: Multiaddr = format!("{ip}{over}").parse().unwrap();
                admission.knock(id(*n), &here(), &remote, now).is_ok()
            };
            (first..first + 20).filter(knock).count()
        };
        assert_eq!(knocks(0, "/udp/1/quic-v1", "/ip4/192.0.2.7"), BOUNDS.pending_incoming_per_address);
        knocks(20, "/udp/1/quic-v1", "");
        assert_eq!(knocks(40, "/tcp/1", "/ip4/192.0.2.7"), BOUNDS.pending_incoming_per_address);
        knocks(60, "/tcp/1", "");
        let places = (admission.incoming.len(), admission.incoming_quic.len());
        assert_eq!(places, (BOUNDS.pending_incoming, BOUNDS.pending_incoming / 2));
        (0..80).for_each(|n| admission.shaken(id(n)));
        assert_eq!((admission.incoming.len(), admission.incoming_quic.len()), (0, 0));
    }

    #[test]
    fn nothing_is_kept_of_those_that_left() {
        let mut admission = Behaviour::new(BOUNDS, Latest::default());
        let peer = PeerId::random();
        assert!(enter(&mut admission, 1, peer, "/ip4/203.0.113.1"));
        assert!(enter(&mut admission, 2, peer, "/ip4/203.0.113.1"));
        assert!(!enter(&mut admission, 3, peer, "/ip4/203.0.113.1"), "two with one peer");
        assert!(dial(&mut admission, 4));
        (1..=4).for_each(|n| admission.closed(id(n)));
        assert!(admission.established.is_empty() && admission.of_peer.0.is_empty());
        assert!(admission.of_network.0.is_empty() && admission.incoming.len() == 0);
        assert!(admission.outgoing.is_empty() && admission.established_incoming == 0);
    }
}
