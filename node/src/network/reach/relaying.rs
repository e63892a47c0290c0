//! What this node relays for others, with libp2p's [relay](https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md): so much
//! for one peer, for one network and in all, each relayed connection for so long and so many bytes.

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, relay,
    swarm::{ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm},
};
use tokio::time::Instant;

use crate::{
    config::Role,
    limits::{
        ANNOUNCERS_MAX, RELAY_CIRCUIT_BYTES_MAX, RELAY_CIRCUIT_TIME_MAX, RELAY_CIRCUITS_MAX,
        RELAY_CIRCUITS_PER_PEER_MAX, RELAY_HUB_FACTOR, RELAY_NETWORKS_MAX, RELAY_REQUESTS_PER_NETWORK_MAX,
        RELAY_REQUESTS_PER_NETWORK_REFILL, RELAY_REQUESTS_PER_PEER_MAX, RELAY_REQUESTS_PER_PEER_REFILL,
        RELAY_RESERVATION_TIME, RELAY_RESERVATIONS_MAX,
    },
    network::{diversity::Network, inner::connections_of_inner, pace::Budget, peers::network_of},
};

const PER_PEER: Budget = Budget::new(RELAY_REQUESTS_PER_PEER_MAX, RELAY_REQUESTS_PER_PEER_REFILL);
const PER_NETWORK: Budget = Budget::new(RELAY_REQUESTS_PER_NETWORK_MAX, RELAY_REQUESTS_PER_NETWORK_REFILL);

/// libp2p's relay, which knows of direct connections alone.
///
/// It relays over no others, and tells those that come through a relay what their handlers do not understand when its status changes
/// (libp2p-relay 0.22: the task of the connection panics).
pub(in crate::network) struct Behaviour {
    inner: relay::Behaviour,
}

impl Behaviour {
    /// Relays for others, or no longer.
    pub(in crate::network) fn relay(&mut self, relays: bool) {
        let status = if relays { relay::Status::Enable } else { relay::Status::Disable };
        self.inner.set_status(Some(status));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <relay::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = relay::Event;

    connections_of_inner!();

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(it) if it.endpoint.is_relayed() => {}
            FromSwarm::ConnectionClosed(it) if it.endpoint.is_relayed() => {}
            _ => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

/// The relay of a node in a role. It relays for nobody before it is told that others can reach it.
pub(in crate::network) fn server(local: PeerId, role: Role) -> Behaviour {
    let factor = if role == Role::Hub { RELAY_HUB_FACTOR } else { 1 };
    let inner = relay::Behaviour::new(
        local,
        relay::Config {
            max_reservations: factor * RELAY_RESERVATIONS_MAX,
            max_reservations_per_peer: RELAY_CIRCUITS_PER_PEER_MAX,
            reservation_duration: RELAY_RESERVATION_TIME,
            reservation_rate_limiters: vec![limiter()],
            max_circuits: factor * RELAY_CIRCUITS_MAX,
            max_circuits_per_peer: RELAY_CIRCUITS_PER_PEER_MAX,
            max_circuit_duration: RELAY_CIRCUIT_TIME_MAX,
            max_circuit_bytes: RELAY_CIRCUIT_BYTES_MAX,
            circuit_src_rate_limiters: vec![limiter()],
        },
    );
    let mut server = Behaviour { inner };
    server.relay(false);
    server
}

fn limiter() -> Box<dyn relay::RateLimiter> {
    let mut requests = Requests::default();
    Box::new(move |peer, address: &Multiaddr, now| requests.admits(peer, address, Instant::from_std(now)))
}

/// Which peers and networks have asked how often.
#[derive(Debug, Default)]
struct Requests {
    peers: BTreeMap<PeerId, (u32, Instant)>,
    networks: BTreeMap<Network, (u32, Instant)>,
}

impl Requests {
    fn admits(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) -> bool {
        // A network first, so that a flood under many ids uses up its own budget and fills no other.
        network_of(address)
            .is_none_or(|network| spend(&mut self.networks, network, PER_NETWORK, RELAY_NETWORKS_MAX, now))
            && spend(&mut self.peers, peer, PER_PEER, ANNOUNCERS_MAX, now)
    }
}

/// Counts one more, where the budget has it and there is room to remember it. Only who has the whole budget again is forgotten.
fn spend<K: Ord + Copy>(
    used: &mut BTreeMap<K, (u32, Instant)>,
    key: K,
    budget: Budget,
    remembered_max: usize,
    now: Instant,
) -> bool {
    if used.len() >= remembered_max && !used.contains_key(&key) {
        used.retain(|_, it| budget.refilled(*it, now).0 > 0);
        if used.len() >= remembered_max {
            return false;
        }
    }
    budget.spend(used.entry(key).or_insert((0, now)), 1, now)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use libp2p::{core::ConnectedPoint, swarm::behaviour::ConnectionEstablished};

    use super::*;

    #[test]
    fn connections_that_come_through_a_relay_are_told_nothing_of_what_this_node_relays() {
        let mut server = server(PeerId::random(), Role::Peer);
        let circuit = format!("/ip4/8.8.8.8/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        let told = ["/ip4/8.8.8.8/tcp/1", &circuit].map(|address| {
            server.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: PeerId::random(),
                connection_id: ConnectionId::new_unchecked(1),
                endpoint: &ConnectedPoint::Listener {
                    local_addr: address.parse().unwrap(),
                    send_back_addr: "/ip4/9.9.9.9/tcp/1".parse().unwrap(),
                },
                failed_addresses: &[],
                other_established: 0,
            }));
            server.relay(true);
            let mut context = Context::from_waker(Waker::noop());
            let told = std::iter::from_fn(|| match server.poll(&mut context) {
                Poll::Ready(told) => Some(told),
                Poll::Pending => None,
            });
            let told = told.filter(|it| matches!(it, ToSwarm::NotifyHandler { .. })).count();
            server.relay(false);
            while server.poll(&mut context).is_ready() {}
            told
        });
        assert_eq!(told, [1, 1], "the direct one, each time");
    }

    #[test]
    fn what_one_peer_and_one_network_ask_of_a_relay_is_bounded() {
        let (mut requests, now) = (Requests::default(), Instant::now());
        let [here, there]: [Multiaddr; 2] =
            ["/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/1"].map(|text| text.parse().unwrap());
        let peer = PeerId::random();
        let one = (0..1_000).filter(|_| requests.admits(peer, &here, now)).count();
        assert_eq!(one, RELAY_REQUESTS_PER_PEER_MAX as usize);
        let later = now + RELAY_REQUESTS_PER_PEER_REFILL;
        assert!(requests.admits(peer, &there, later) && !requests.admits(peer, &there, later));
        let mut requests = Requests::default();
        let all = (0..1_000).filter(|_| requests.admits(PeerId::random(), &here, now)).count();
        assert_eq!(all, RELAY_REQUESTS_PER_NETWORK_MAX as usize);
        assert!(requests.admits(PeerId::random(), &there, now), "another network is not affected");
        let many = (0..2 * ANNOUNCERS_MAX).filter(|_| {
            let private: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
            requests.admits(PeerId::random(), &private, now)
        });
        assert!(many.count() < ANNOUNCERS_MAX && requests.peers.len() <= ANNOUNCERS_MAX);
    }
}
