//! Coming back to peers whose connections broke.

use std::{io, iter, net::IpAddr, time::Duration};

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    swarm::{
        ConnectionError, ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::peers::Peer;
use crate::peers::{
    Lost,
    lost::{Closed, Neighbour},
    policy,
};

/// Addresses of one peer that one try dials.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Whom to dial again, with the clock and the generator of the loop.
pub(super) struct Healing {
    lost: Lost,
    started: Instant,
    generator: StdRng,
}

impl Healing {
    pub(super) fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the driver's side: seeds the generator that the pure part is given"
        )]
        let generator = StdRng::from_rng(&mut rand::rng());
        Self { lost: Lost::default(), started: Instant::now(), generator }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Healing {
    /// Notes that this node closes its connections with a peer because it wants to: it is not dialled again for its having been
    /// lost. A connection that is closed by any other call of ours counts as closed on purpose too: see [`how_closed`].
    pub(super) fn let_go(&mut self, peer: &PeerId) {
        self.lost.let_go(peer);
    }

    /// The dials that are due.
    pub(super) fn due(&mut self) -> Vec<DialOpts> {
        let now = self.now();
        let due = self.lost.poll(now, &mut self.generator).into_iter();
        // Beside a dial that hangs since the network was down: by now it may get through.
        let dial = |(peer, addresses)| {
            DialOpts::peer_id(peer).condition(PeerCondition::Disconnected).addresses(addresses).build()
        };
        due.map(dial).collect()
    }

    /// Notes that a peer is connected, for the first time or again; yields how long it was away, where it had been lost.
    pub(super) fn returned(&mut self, peer: PeerId) -> Option<Duration> {
        let now = self.now();
        let away = self.lost.connected(&peer, now, &mut self.generator)?;
        tracing::info!(%peer, ?away, "a lost peer is back");
        Some(away)
    }

    /// This machine came to another network: who could not be reached from the one before is tried soon.
    pub(super) fn moved(&mut self) {
        let now = self.now();
        self.lost.hurry(now, &mut self.generator);
    }

    /// Notes that another peer answered where `peer` was dialled.
    pub(super) fn belongs_to_another(&mut self, peer: &PeerId, address: &Multiaddr) {
        let bare = policy::without_peer(address, peer).unwrap_or_else(|_| address.clone());
        self.lost.belongs_to_another(peer, &bare);
    }

    /// Notes that the last connection with a peer closed.
    pub(super) fn lost(
        &mut self,
        id: PeerId,
        peer: &Peer,
        closed: ConnectionId,
        cause: Option<&ConnectionError>,
    ) {
        let how = how_closed(peer.dead.contains(&closed), cause);
        let lasted = peer.since.map_or(Duration::ZERO, |since| since.elapsed());
        let neighbour = Neighbour { addresses: where_to_dial(peer), lasted };
        let now = self.now();
        self.lost.closed(id, how, neighbour, now, &mut self.generator);
    }
}

/// The addresses under which we reached a peer, then those that it told of and that are of the host that it connects from:
/// whoever tells of others' and breaks off again and again has nobody dialled but itself.
fn where_to_dial(peer: &Peer) -> Vec<Multiaddr> {
    let reached = peer.connections.values().filter(|(_, dialled)| *dialled).map(|(address, _)| address);
    let hosts: Vec<IpAddr> = peer.connections.values().filter_map(|(address, _)| host_of(address)).collect();
    let told = peer.told.iter().filter(|told| host_of(told).is_some_and(|host| hosts.contains(&host)));
    let mut addresses: Vec<Multiaddr> = Vec::new();
    for address in reached.chain(told) {
        if addresses.len() < ADDRESSES_TRIED_MAX && !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    addresses
}

fn host_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

/// What the end of a connection means: only what we did not do, and the peer did not do in good order, is a loss.
fn how_closed(is_dead: bool, cause: Option<&ConnectionError>) -> Closed {
    match cause {
        None if is_dead => Closed::Broken,
        None | Some(ConnectionError::KeepAliveTimeout) => Closed::OnPurpose,
        Some(ConnectionError::IO(error)) => {
            // The multiplexer says "closed" without a reason of the system for a farewell, and for a plain end of the stream.
            let first = error as &(dyn std::error::Error + 'static);
            let broke = iter::successors(Some(first), |error| error.source())
                .filter_map(|error| error.downcast_ref::<io::Error>())
                .any(|error| error.kind() != io::ErrorKind::Other);
            if broke { Closed::Broken } else { Closed::Goodbye }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::peers::Peers;

    #[test]
    fn a_peer_that_came_to_us_is_dialled_at_its_own_host_only() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let mut peer = Peer::default();
        let came = (address("/ip4/203.0.113.1/tcp/50000"), false);
        peer.connections.insert(ConnectionId::new_unchecked(1), came);
        let victim = address("/ip4/198.51.100.7/tcp/22");
        let named = address("/dns/victim.example/tcp/443");
        let own = address("/ip4/203.0.113.1/tcp/4001");
        peer.told = vec![victim.clone(), named, own.clone()];
        assert_eq!(where_to_dial(&peer), std::slice::from_ref(&own));
        peer.connections.insert(ConnectionId::new_unchecked(2), (victim.clone(), true));
        assert_eq!(where_to_dial(&peer), [victim, own], "we reached it there ourselves");
    }

    #[test]
    fn whichever_of_two_dead_connections_closes_last_the_peer_is_lost() {
        for last in [1, 2] {
            let (mut peers, mut healing, id) = (Peers::default(), Healing::new(), PeerId::random());
            let at = "/ip4/203.0.113.1/tcp/4001".parse::<Multiaddr>().unwrap();
            let both = [1, 2].map(ConnectionId::new_unchecked);
            for connection in both {
                peers.connected(id, connection, at.clone(), true, Instant::now());
                peers.died(connection);
            }
            peers.get_mut(&id).unwrap().since = Instant::now().checked_sub(Duration::from_secs(60));
            healing.lost(id, &peers[&id], ConnectionId::new_unchecked(last), None);
            assert!(healing.returned(id).is_some(), "connection {last} closes last");
        }
    }

    #[test]
    fn only_what_nobody_wanted_is_a_loss() {
        #[derive(Debug, thiserror::Error)]
        #[error("a layer")]
        struct Layer(#[source] io::Error);
        let io = |error: io::Error| ConnectionError::IO(error);
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(how_closed(false, None), Closed::OnPurpose);
        assert_eq!(how_closed(true, None), Closed::Broken);
        assert_eq!(how_closed(false, Some(&ConnectionError::KeepAliveTimeout)), Closed::OnPurpose);
        assert_eq!(how_closed(false, Some(&io(reset()))), Closed::Broken);
        assert_eq!(how_closed(false, Some(&io(io::Error::other(Layer(reset()))))), Closed::Broken);
        assert_eq!(how_closed(false, Some(&io(io::Error::other("connection is closed")))), Closed::Goodbye);
    }
}
