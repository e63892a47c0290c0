//! What the swarm tells, and what follows from it.

use std::io;

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    gossipsub, identify, kad, ping,
    swarm::{ConnectionId, DialError, SwarmEvent},
};
use tokio::time::Instant;

use super::{
    Event,
    behaviour::{BehaviourEvent, KAD_PROTOCOL, PROTOCOL_VERSION},
    driver::Driver,
    peers::origin_of,
    quic::is_quic,
    reach, routing,
};
use crate::{hello, limits::ADDRESSES_PER_PEER_MAX, peers::policy, sync, time::Timestamp};

/// Protocols kept of what a peer tells.
const PROTOCOLS_MAX: usize = 64;
/// Characters kept of a text that a peer tells.
const TEXT_MAX: usize = 128;

impl Driver {
    pub(super) fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let dialled = endpoint.is_dialer();
                let address = reach::seen_at(&endpoint).clone();
                let address = policy::without_peer(&address, &peer_id).unwrap_or(address);
                self.peers.connected(peer_id, connection_id, address.clone(), dialled, Instant::now());
                self.connections.connected(Instant::now());
                if dialled {
                    self.connections.reached(peer_id, &address);
                }
                self.reach.standing.opened(connection_id, &address, dialled, Instant::now());
                self.connected_back(connection_id, peer_id, &address, dialled);
                self.nearby.neighbours.dialled(&peer_id);
                self.nearby.opened(connection_id, &endpoint);
                self.publish_near();
                if let Some(peer) = self.peers.get(&peer_id) {
                    self.reach.connected(peer_id, peer, Instant::now());
                }
                self.open_blocks_ready(Instant::now());
                let dialled = matches!(endpoint, ConnectedPoint::Dialer { .. }).then_some(address);
                self.outbox.tell(Event::Connected { peer: peer_id, dialled });
                if let Some(away) = self.healing.returned(peer_id) {
                    self.outbox.tell(Event::Reunited { peer: peer_id, away });
                }
                self.publish_heads_read();
                // Last: whoever dialled may wait for the heads next, and must find the newcomer among the outstanding.
                self.dialling.reached(connection_id, peer_id);
                self.lookups.reached(&mut self.swarm.behaviour_mut().kad, peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                self.greetings.closed(connection_id);
                self.blocks.closed(connection_id);
                self.nearby.closed(connection_id);
                self.reach.standing.closed(connection_id, Instant::now());
                if num_established == 0 {
                    if let Some(gone) = self.peers.remove(&peer_id) {
                        self.healing.lost(peer_id, &gone, connection_id, cause.as_ref());
                    }
                    self.connections.left(&peer_id, self.peers.is_empty());
                    self.outbox.tell(Event::Disconnected { peer: peer_id });
                    self.end_exchange_with(peer_id);
                    self.lookups_missed(peer_id);
                    if self.reach.disconnected(&peer_id) {
                        self.blocks.not_opened(&peer_id);
                    }
                } else if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.connections.remove(&connection_id);
                    peer.dead.remove(&connection_id);
                }
                self.publish_near();
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::NewListenAddr { listener_id, address } if self.listens(listener_id, &address) => {
                tracing::info!(%address, "listening");
                self.nearby.bound(&address);
                self.listening.bound(listener_id, address, Instant::now());
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.unbound(&address),
            SwarmEvent::ListenerClosed { listener_id, reason, addresses } => {
                addresses.iter().for_each(|address| self.unbound(address));
                if !self.listens_no_more(listener_id, reason.as_ref().err()) {
                    return;
                }
                let source = reason.err().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
                tracing::warn!(error = %source, "a listener closed");
                self.listening.closed(listener_id, source, Instant::now());
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed for a moment")
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                self.listening.refused_inbound();
                tracing::debug!(%error, "an inbound connection failed");
            }
            SwarmEvent::NewExternalAddrCandidate { address } => self.listening.observed.note(address),
            _ => {}
        }
    }

    /// Notes that an address is not listened on any more.
    fn unbound(&mut self, address: &Multiaddr) {
        self.reach.standing.unbound(address);
        self.nearby.unbound(address);
    }

    fn dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        self.dialling.failed(connection, peer, error, &self.peers);
        self.not_connected_back(connection, error);
        if let Some(peer) = &peer {
            self.nearby.neighbours.dialled(peer);
        }
        if let Some(peer) = peer
            && !self.swarm.is_connected(&peer)
        {
            self.lookups_missed(peer);
        }
        match (peer, error) {
            (Some(peer), DialError::Transport(errors)) => {
                // A dial over QUIC ends where TCP has reached the peer first, and that says nothing about its address.
                let is_reached = self.peers.contains_key(&peer);
                for (address, _) in errors {
                    self.reach.standing.dialled(address, Instant::now());
                    if !(is_reached && is_quic(address)) {
                        self.outbox.tell(Event::Unreachable { peer, address: address.clone() });
                    }
                }
            }
            (Some(peer), DialError::WrongPeerId { address, .. }) => {
                self.healing.belongs_to_another(&peer, address);
                self.swarm.behaviour_mut().kad.remove_address(&peer, address);
                self.outbox.tell(Event::Unreachable { peer, address: address.clone() });
            }
            _ => {}
        }
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { connection_id, peer_id, info }) => {
                self.seen_by(peer_id, connection_id, &info.observed_addr);
                if !self.peers.says_less(&peer_id, connection_id) {
                    self.identified(peer_id, info);
                }
            }
            BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. }) => {
                tracing::debug!(peer = %peer_id, %error, "a peer did not say who it is");
                if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.awaited_until = None;
                }
                self.publish_heads_read();
            }
            BehaviourEvent::Ping(event) => self.pinged(event),
            BehaviourEvent::Kad(event) => self.kad_event(event),
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.announced(propagation_source, message_id, message);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { topic, peer_id })
                if topic == self.announcements.topic()
                    && self.announcements.pace.admits_listener(peer_id, Instant::now()) =>
            {
                self.outbox.tell(Event::Audience);
            }
            BehaviourEvent::Blocks(event) => self.blocks_event(event),
            BehaviourEvent::Logs(event) => self.log_event(event),
            BehaviourEvent::Heads(event) => self.heads_event(event),
            BehaviourEvent::Hello(event) => self.hello_event(event),
            BehaviourEvent::DialBack(event) => self.dial_back_event(event),
            BehaviourEvent::RelayClient(event) => self.relay_client_event(event),
            BehaviourEvent::Relay(event) => self.relay_event(event),
            BehaviourEvent::Punching(told) => self.punched(told),
            _ => {}
        }
    }

    /// Notes where a peer sees this node.
    fn seen_by(&mut self, peer: PeerId, connection: ConnectionId, observed: &Multiaddr) {
        let from_listener = self.swarm.behaviour_mut().candidates.seen(connection, observed);
        let at = self.peers.get(&peer).and_then(|peer| peer.connections.get(&connection));
        if let Some((at, dialled)) = at.filter(|(at, _)| !policy::is_relayed(at)) {
            let dialled = dialled.then_some(from_listener);
            self.reach.standing.seen(connection, at, dialled, observed, Instant::now());
        }
    }

    fn identified(&mut self, peer_id: PeerId, info: identify::Info) {
        if let Some(reason) = incompatible(&info.protocol_version) {
            self.refusals.remember(peer_id, reason, Timestamp::now());
            self.send_away(&peer_id);
            return;
        }
        self.outbox.observer.tell(&Event::Introduced { peer: peer_id });
        self.connections.introduced(&peer_id);
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        let reached_at = peer.reached_at();
        let mut told: Vec<Multiaddr> = info.listen_addrs;
        policy::retain(&mut told, origin_of(&reached_at));
        told.truncate(ADDRESSES_PER_PEER_MAX);
        peer.awaited_until = None;
        // Whoever says the same again and again has it written down once a connection.
        let is_first = peer.agent.is_none();
        let was_server = peer.protocols.iter().any(|protocol| protocol == KAD_PROTOCOL);
        let is_news = is_first || peer.told != told;
        peer.told.clone_from(&told);
        peer.agent = Some(shortened(&info.agent_version));
        peer.protocol_version = Some(shortened(&info.protocol_version));
        peer.protocols = info.protocols.iter().take(PROTOCOLS_MAX).map(|it| shortened(it.as_ref())).collect();
        let speaks = |protocol: &str| info.protocols.iter().any(|it| it.as_ref() == protocol);
        if is_first {
            self.listening.observed.note(info.observed_addr);
        }
        if speaks(KAD_PROTOCOL) {
            let kad = &mut self.swarm.behaviour_mut().kad;
            self.routing.admit(kad, &self.peers, peer_id, &reached_at, &told);
            routing::forget(kad, peer_id, &[reached_at, told.clone()].concat());
        } else {
            self.swarm.behaviour_mut().kad.remove_peer(&peer_id);
        }
        // Whoever says again who it is does not begin another round of reading.
        if speaks(sync::protocol::PROTOCOL) {
            self.nearby.neighbours.is_ours(&peer_id);
            self.exchange_with(peer_id);
        } else {
            self.publish_heads_read();
        }
        if is_first && speaks(hello::PROTOCOL) {
            let hellos = &mut self.swarm.behaviour_mut().hello;
            self.greetings.greet(&peer_id, hellos, Instant::now());
        }
        if is_news {
            self.outbox.tell(Event::Identified { peer: peer_id, addresses: told });
        }
        if !was_server && speaks(KAD_PROTOCOL) && self.connections.is_spoke() {
            self.outbox.tell(Event::Serves { peer: peer_id });
        }
    }

    fn pinged(&mut self, event: ping::Event) {
        match event.result {
            Ok(round_trip) => {
                self.peers.ponged(&event.peer, round_trip, Instant::now());
                self.heard(&event.peer);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                if self.peers.ping_failed(&event.peer, event.connection) {
                    tracing::debug!(peer = %event.peer, %error, "a dead connection is closed");
                    self.swarm.behaviour_mut().kad.silent(event.connection);
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }

    pub(super) fn routing_gained(&mut self, event: &kad::Event) {
        if let kad::Event::RoutingUpdated { is_new_peer: true, peer, .. } = event {
            self.outbox.observer.tell_of(|| Event::Routed { peer: *peer });
            self.moving.moves.changed();
            self.outbox.tell(Event::Audience);
        }
    }
}

/// Why this node does not stay connected with a peer of that version, if so. Other families are welcome: they may speak
/// Kademlia or gossip with us.
pub(super) fn incompatible(version: &str) -> Option<String> {
    let major = |version: &str| version.strip_prefix("/ggen/")?.split('.').next()?.parse::<u64>().ok();
    let theirs = version.strip_prefix("/ggen/").map(|_| major(version))?;
    (theirs != major(PROTOCOL_VERSION))
        .then(|| format!("it speaks {}, this node {PROTOCOL_VERSION}", shortened(version)))
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_major_of_our_own_family_is_refused() {
        assert!(incompatible("/ggen/1.9.0").is_none());
        assert!(incompatible("/ggen/2.0.0").is_some());
        assert!(incompatible("/ggen/garbage").is_some());
        assert!(incompatible("ipfs/0.1.0").is_none());
        assert!(incompatible("").is_none());
    }
}
