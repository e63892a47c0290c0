//! Under which addresses this node may be reached from outside, as those say that it dialled.
//!
//! What a peer sees of a connection that was dialled from the port that is listened on is where a NAT has put that port. libp2p's
//! Identify reports such an address with the port of a listener in its place, wherever the two differ; behind a NAT that does not
//! keep ports that is a door that nobody opened. Here the address goes on as it was seen. It is a candidate: nothing is told to
//! others because of it, but to a peer with which a hole is made in two NATs at once.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::{
    limits::ADDRESSES_PER_PEER_MAX,
    network::{peers::ip_of, quic::is_quic},
    peers::policy::{self, Origin, Scope},
};

/// Tells the swarm of addresses that were seen.
#[derive(Debug, Default)]
pub(in crate::network) struct Behaviour {
    /// Direct connections that were dialled from a port that is listened on.
    from_listener: BTreeSet<ConnectionId>,
    /// Where QUIC is listened on: where it is not, it is dialled from any port.
    over_quic: BTreeSet<Multiaddr>,
    told: VecDeque<Multiaddr>,
    queue: VecDeque<Multiaddr>,
    waker: Option<Waker>,
}

impl Behaviour {
    /// Whether what is dialled at `address` is dialled from a port that is listened on.
    fn is_from_listener(&self, address: &Multiaddr) -> bool {
        let is_ip4 = |address: &Multiaddr| ip_of(address).is_some_and(|ip| ip.is_ipv4());
        let is_from =
            |own: &Multiaddr| policy::scope_of(own) != Scope::Loopback && is_ip4(own) == is_ip4(address);
        !is_quic(address) || self.over_quic.iter().any(is_from)
    }

    /// Notes where the peer at the other end of a connection sees this node; whether that is a candidate.
    pub(in crate::network) fn seen(&mut self, connection: ConnectionId, address: &Multiaddr) -> bool {
        let is_candidate = self.from_listener.contains(&connection)
            && !policy::is_relayed(address)
            && policy::acceptable(address, Origin::Peer(Scope::Loopback)).is_ok();
        if is_candidate && !self.told.contains(address) {
            if self.told.len() >= ADDRESSES_PER_PEER_MAX {
                self.told.pop_front();
            }
            self.told.push_back(address.clone());
            self.queue.push_back(address.clone());
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        is_candidate
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // Not before: another behaviour may refuse it, and then nobody says that it has closed.
            FromSwarm::ConnectionEstablished(it) => {
                if let ConnectedPoint::Dialer { address, port_use: PortUse::Reuse, .. } = it.endpoint
                    && !policy::is_relayed(address)
                    && self.is_from_listener(address)
                {
                    self.from_listener.insert(it.connection_id);
                }
            }
            FromSwarm::ConnectionClosed(it) => drop(self.from_listener.remove(&it.connection_id)),
            FromSwarm::NewListenAddr(it) if is_quic(it.addr) => drop(self.over_quic.insert(it.addr.clone())),
            FromSwarm::ExpiredListenAddr(it) => drop(self.over_quic.remove(it.addr)),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.queue.pop_front() {
            Some(address) => Poll::Ready(ToSwarm::NewExternalAddrCandidate(address)),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use libp2p::swarm::behaviour::{ConnectionEstablished, NewListenAddr};

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_seen_of_a_dial_from_the_listening_port_is_a_candidate_once() {
        let mut candidates = Behaviour::default();
        let [reused, new, relayed, unheard, heard] = [1, 2, 3, 4, 5].map(ConnectionId::new_unchecked);
        let own = address("/ip4/10.0.0.1/udp/4001/quic-v1");
        let peer = PeerId::random();
        let relay = address(&format!("/ip4/203.0.113.1/tcp/1/p2p/{peer}/p2p-circuit"));
        for (connection, at, port_use) in [
            (reused, address("/ip4/203.0.113.1/tcp/1"), PortUse::Reuse),
            (new, address("/ip4/203.0.113.1/tcp/1"), PortUse::New),
            (relayed, relay.clone(), PortUse::Reuse),
            (unheard, address("/ip4/203.0.113.1/udp/1/quic-v1"), PortUse::Reuse),
            (heard, address("/ip4/203.0.113.1/udp/1/quic-v1"), PortUse::Reuse),
        ] {
            if connection == heard {
                let listener_id = libp2p::core::transport::ListenerId::next();
                candidates
                    .on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr: &own }));
            }
            let endpoint = ConnectedPoint::Dialer { address: at, role_override: Endpoint::Dialer, port_use };
            candidates.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: connection,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        let over_quic = address("/ip4/198.51.100.7/udp/33612/quic-v1");
        assert!(!candidates.seen(unheard, &over_quic), "nothing listened there");
        let hole = address("/ip4/198.51.100.7/tcp/33611");
        assert!(candidates.seen(reused, &hole) && candidates.seen(reused, &hole));
        assert!(!candidates.seen(new, &address("/ip4/198.51.100.7/tcp/50000")));
        assert!(!candidates.seen(relayed, &address("/ip4/198.51.100.7/tcp/50001")));
        assert!(!candidates.seen(reused, &relay) && !candidates.seen(reused, &address("/p2p-circuit")));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(ToSwarm::NewExternalAddrCandidate(told)) = candidates.poll(&mut context) else {
            panic!("a candidate")
        };
        assert_eq!(told, hole);
        assert!(candidates.poll(&mut context).is_pending());
        assert!(candidates.seen(heard, &over_quic));
        assert!(candidates.poll(&mut context).is_ready());
        (1..1_000).for_each(|port| {
            candidates.seen(reused, &address(&format!("/ip4/198.51.100.7/tcp/{port}")));
        });
        assert_eq!(candidates.told.len(), ADDRESSES_PER_PEER_MAX);
    }
}
