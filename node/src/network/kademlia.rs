//! Kademlia, held to the rule about addresses that peers tell, and to how much a neighbour may ask.
//!
//! libp2p's Kademlia dials whatever an answer names: one hostile node could have this one knock at `127.0.0.1`, at the router,
//! or at a cloud's metadata service, or have it resolve names. Each answer is therefore judged when it comes, by the
//! address of the connection that it came on ([`policy`]): what a lookup gathers, dials and yields is what is left.
//!
//! Each request of a neighbour costs a search of the routing table, and libp2p paces none. What is over a neighbour's pace is told so
//! before that, by the end of its stream ([`Paced`]).

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Deref, DerefMut},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    kad::{self, KadPeer},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::time::Instant;

use super::{
    pace::Budget,
    paced::{Paced, Weighed},
    records::Records,
};
use crate::{
    limits::{
        ADDRESSES_PER_PEER_MAX, DHT_READS_PER_PEER_MAX, DHT_READS_PER_PEER_REFILL, DHT_REQUESTS_BORNE_MAX,
        DHT_REQUESTS_BORNE_REFILL, DHT_WRITES_PER_PEER_MAX, DHT_WRITES_PER_PEER_REFILL,
    },
    peers::policy::{self, Origin, Scope},
};

type Inner = kad::Behaviour<Records>;
/// What a connection tells Kademlia; libp2p names this type nowhere else.
type Told = THandlerOutEvent<Inner>;
/// What Kademlia tells a connection.
type Tell = THandlerInEvent<Inner>;

/// How many requests of one neighbour are borne, reads and writes each.
const BORNE: Budget = Budget::new(DHT_REQUESTS_BORNE_MAX, DHT_REQUESTS_BORNE_REFILL);

/// libp2p's Kademlia, which hears of acceptable addresses only.
pub(super) struct Behaviour {
    inner: Inner,
    /// The scope of the address at the other end of each connection.
    reached: BTreeMap<ConnectionId, Scope>,
    reads: Paced,
    writes: Paced,
    unbearable: Vec<PeerId>,
    /// The ends of streams whose requests are not looked at.
    refusals: VecDeque<ToSwarm<kad::Event, Tell>>,
}

impl Behaviour {
    pub(super) fn new(inner: Inner) -> Self {
        let reads = Budget::new(DHT_READS_PER_PEER_MAX, DHT_READS_PER_PEER_REFILL);
        let writes = Budget::new(DHT_WRITES_PER_PEER_MAX, DHT_WRITES_PER_PEER_REFILL);
        Self {
            inner,
            reached: BTreeMap::new(),
            reads: Paced::new(reads, BORNE),
            writes: Paced::new(writes, BORNE),
            unbearable: Vec::new(),
            refusals: VecDeque::new(),
        }
    }

    /// The neighbours that have become unbearable since the last call.
    pub(super) fn take_unbearable(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.unbearable)
    }

    /// Whether what came on a connection is looked at; what is not is told so.
    fn admits(&mut self, peer: PeerId, connection: ConnectionId, told: &Told) -> bool {
        let (paced, request) = match told {
            Told::FindNodeReq { request_id, .. }
            | Told::GetProvidersReq { request_id, .. }
            | Told::GetRecord { request_id, .. } => (&mut self.reads, Some(*request_id)),
            Told::PutRecord { request_id, .. } => (&mut self.writes, Some(*request_id)),
            Told::AddProvider { .. } => (&mut self.writes, None),
            _ => return true,
        };
        match paced.weigh(peer, Instant::now()) {
            Weighed::Within => return true,
            Weighed::Beyond => {}
            Weighed::Unbearable => self.unbearable.push(peer),
        }
        let handler = NotifyHandler::One(connection);
        let refusal = request.map(Tell::Reset);
        self.refusals.extend(refusal.map(|event| ToSwarm::NotifyHandler { peer_id: peer, handler, event }));
        false
    }

    /// Takes out of what came on a connection the addresses that whoever is at its other end may not tell of.
    fn judge(&self, connection: ConnectionId, told: &mut Told) {
        // Public grants the least.
        let origin = Origin::Peer(self.reached.get(&connection).copied().unwrap_or(Scope::Public));
        let retain = |peer: &mut KadPeer| retain(&mut peer.multiaddrs, origin);
        match told {
            Told::FindNodeRes { closer_peers, .. } | Told::GetRecordRes { closer_peers, .. } => {
                closer_peers.iter_mut().for_each(retain);
            }
            Told::GetProvidersRes { closer_peers, provider_peers, .. } => {
                closer_peers.iter_mut().chain(provider_peers).for_each(retain);
            }
            Told::AddProvider { provider, .. } => retain(provider),
            _ => {}
        }
    }
}

fn retain(addresses: &mut Vec<Multiaddr>, origin: Origin) {
    addresses.retain(|told| policy::acceptable(told, origin).is_ok());
    addresses.truncate(ADDRESSES_PER_PEER_MAX);
}

impl Deref for Behaviour {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Behaviour {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut known = self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        // Each was judged by who told of it; names and metadata services nobody may tell of.
        retain(&mut known, Origin::Peer(Scope::Loopback));
        Ok(known)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(it) => {
                let scope = policy::scope_of(it.endpoint.get_remote_address());
                self.reached.insert(it.connection_id, scope);
            }
            FromSwarm::AddressChange(it) => {
                let scope = policy::scope_of(it.new.get_remote_address());
                self.reached.insert(it.connection_id, scope);
            }
            FromSwarm::ConnectionClosed(it) => {
                self.reached.remove(&it.connection_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        mut event: THandlerOutEvent<Self>,
    ) {
        if !self.admits(peer, connection, &event) {
            return;
        }
        self.judge(connection, &mut event);
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.refusals.pop_front() {
            Some(refusal) => Poll::Ready(refusal),
            None => self.inner.poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::{
        core::ConnectedPoint,
        swarm::{ConnectionClosed, behaviour::ConnectionEstablished},
    };

    use super::*;

    /// What a lookup would dial `peer` at after `informant`, reached at `at`, told of these places.
    fn dialled(at: &str, told: &[&str]) -> Vec<String> {
        let (local, informant, peer) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut kad = Behaviour::new(kad::Behaviour::new(local, Records::new(local)));
        let connection = ConnectionId::new_unchecked(1);
        let endpoint = ConnectedPoint::Dialer {
            address: at.parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        kad.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: informant,
            connection_id: connection,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        let query_id = kad.get_closest_peers(peer);
        let closer = KadPeer {
            node_id: peer,
            multiaddrs: told.iter().map(|it| it.parse().unwrap()).collect(),
            connection_ty: kad::ConnectionType::Connected,
        };
        let answer = Told::FindNodeRes { closer_peers: vec![closer], query_id };
        kad.on_connection_handler_event(informant, connection, answer);
        let asked = kad.handle_pending_outbound_connection(
            ConnectionId::new_unchecked(2),
            Some(peer),
            &[],
            Endpoint::Dialer,
        );
        kad.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: informant,
            connection_id: connection,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        }));
        assert!(kad.reached.is_empty(), "what is closed is forgotten");
        asked.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lookup_dials_only_what_the_informant_may_tell_of() {
        let told = [
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/192.168.1.1/tcp/80",
            "/ip4/169.254.169.254/tcp/80",
            "/dns4/internal.example/tcp/80",
            "/ip4/203.0.113.9/tcp/4001",
        ];
        assert_eq!(dialled("/ip4/203.0.113.1/tcp/4001", &told), ["/ip4/203.0.113.9/tcp/4001"]);
        assert_eq!(dialled("/dns4/hub.example/tcp/4001", &told), ["/ip4/203.0.113.9/tcp/4001"]);
        let of_a_neighbour = ["/ip4/192.168.1.1/tcp/80", "/ip4/203.0.113.9/tcp/4001"];
        assert_eq!(dialled("/ip4/10.0.0.1/tcp/4001", &told), of_a_neighbour);
        let of_this_machine =
            ["/ip4/127.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80", "/ip4/203.0.113.9/tcp/4001"];
        assert_eq!(dialled("/ip4/127.0.0.1/tcp/4001", &told), of_this_machine);
    }

    #[test]
    fn what_a_neighbour_stores_beyond_its_pace_is_dropped_and_beyond_all_bounds_ends_the_neighbourhood() {
        let (local, flooder, honest) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut kad = Behaviour::new(kad::Behaviour::new(local, Records::new(local)));
        let connection = ConnectionId::new_unchecked(1);
        let provider = |peer: PeerId| Told::AddProvider {
            key: kad::RecordKey::new(b"key"),
            provider: KadPeer {
                node_id: peer,
                multiaddrs: Vec::new(),
                connection_ty: kad::ConnectionType::Connected,
            },
        };
        let mut taken = 0;
        for _ in 0..DHT_REQUESTS_BORNE_MAX * 2 {
            taken += u32::from(kad.admits(flooder, connection, &provider(flooder)));
        }
        // While the loop ran, a few were refilled.
        assert!((DHT_WRITES_PER_PEER_MAX..2 * DHT_WRITES_PER_PEER_MAX).contains(&taken), "{taken}");
        assert_eq!(kad.take_unbearable(), [flooder]);
        assert!(kad.refusals.is_empty(), "who provides waits for no answer");
        // Joining, and a thousand packages with a record and a provider each.
        assert!((0..2_000).all(|_| kad.admits(honest, connection, &provider(honest))));
        assert!(kad.take_unbearable().is_empty());
    }

    #[test]
    fn nobody_tells_of_more_places_than_a_peer_has() {
        let many: Vec<String> = (1..100).map(|port| format!("/ip4/203.0.113.9/tcp/{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(dialled("/ip4/203.0.113.1/tcp/4001", &many).len(), ADDRESSES_PER_PEER_MAX);
    }
}
