//! What the swarm tells, and what follows from it.

use std::{io, iter, net::IpAddr};

use libp2p::{
    Multiaddr, PeerId, TransportError,
    core::ConnectedPoint,
    gossipsub, identify, kad,
    multiaddr::Protocol,
    ping,
    swarm::{DialError, SwarmEvent},
};
use tokio::time::Instant;

use super::{
    Error, Event,
    behaviour::{BehaviourEvent, KAD_PROTOCOL, PROTOCOL_VERSION},
    diversity::Network,
    driver::{Driver, IDENTIFY_GRACE, Peer},
    handle::DialFailure,
    snapshot::{Load, PeerSnapshot, Snapshot},
};
use crate::{limits::ADDRESSES_PER_PEER_MAX, peers::policy, sync};

/// Failed pings after which the connection is closed. libp2p keeps the first one to itself, so it is the second in a row.
const PINGS_FAILED_MAX: u32 = 1;
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
                let address = endpoint.get_remote_address().clone();
                let address = policy::without_peer(&address, &peer_id).unwrap_or(address);
                let now = Instant::now();
                let fresh = || Peer {
                    awaited_until: Some(now + IDENTIFY_GRACE),
                    since: Some(now),
                    ..Peer::default()
                };
                let peer = self.peers.entry(peer_id).or_insert_with(fresh);
                peer.connections.insert(connection_id, (address.clone(), dialled));
                if dialled {
                    self.connections.reached(peer_id, &address);
                }
                let dialled = matches!(endpoint, ConnectedPoint::Dialer { .. }).then_some(address);
                self.emit(Event::Connected { peer: peer_id, dialled });
                self.note_return(peer_id);
                self.publish_heads_read();
                // Last: whoever dialled may wait for the heads next, and must find the newcomer among the outstanding.
                if let Some((_, reply)) = self.dials.remove(&connection_id) {
                    let _ = reply.send(Ok(peer_id));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                if num_established == 0 {
                    self.note_loss(peer_id, connection_id, cause.as_ref());
                    let gone = self.peers.remove(&peer_id);
                    if let Some(reading) = gone.and_then(|peer| peer.reading) {
                        self.left.note(peer_id, &reading);
                    }
                    self.checking.forget(&peer_id);
                    self.observer.tell(&Event::Disconnected { peer: peer_id });
                    self.publish_heads_read();
                    self.reply_refreshed();
                } else if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.connections.remove(&connection_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::info!(%address, "listening");
                self.listeners.bound(listener_id);
                if let Some(listening) = self.listens.iter_mut().find(|it| it.listener == listener_id) {
                    listening.bound.push(address);
                    listening.bound_since.get_or_insert_with(Instant::now);
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let source = reason.err().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
                tracing::warn!(error = %source, "a listener closed");
                self.listeners.closed(listener_id, Instant::now());
                if let Some(at) = self.listens.iter().position(|it| it.listener == listener_id) {
                    let listening = self.listens.swap_remove(at);
                    let _ = listening.reply.send(Err(Error::Listen { address: listening.address, source }));
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed for a moment")
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                self.inbound_failed = self.inbound_failed.saturating_add(1);
                tracing::debug!(%error, "an inbound connection came to nothing");
            }
            SwarmEvent::NewExternalAddrCandidate { address } => self.observed.note(address),
            _ => {}
        }
    }

    fn dial_failed(
        &mut self,
        connection: libp2p::swarm::ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        if let Some((named, reply)) = self.dials.remove(&connection) {
            let _ = reply.send(Err(dial_failure(named.or(peer), error)));
        }
        match (peer, error) {
            (Some(peer), DialError::Transport(errors)) => {
                for (address, _) in errors {
                    self.emit(Event::Unreachable { peer, address: address.clone() });
                }
            }
            (Some(peer), DialError::WrongPeerId { address, .. }) => {
                self.note_stranger(&peer, address);
                self.swarm.behaviour_mut().kad.remove_address(&peer, address);
                self.emit(Event::Unreachable { peer, address: address.clone() });
            }
            _ => {}
        }
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.identified(peer_id, info);
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
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { topic, .. })
                if topic == self.topic.hash() =>
            {
                self.emit(Event::Audience);
            }
            BehaviourEvent::Fetch(event) => self.fetch_event(event),
            BehaviourEvent::Heads(event) => self.heads_event(event),
            _ => {}
        }
    }

    fn identified(&mut self, peer_id: PeerId, info: identify::Info) {
        if let Some(reason) = incompatible(&info.protocol_version) {
            self.remember_refused(peer_id, reason);
            self.send_away(&peer_id);
            return;
        }
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        let reached_at: Vec<Multiaddr> =
            peer.connections.values().map(|(address, _)| address.clone()).collect();
        let told: Vec<Multiaddr> = info
            .listen_addrs
            .into_iter()
            .filter(|told| policy::acceptable(told, origin_of(&reached_at)).is_ok())
            .take(ADDRESSES_PER_PEER_MAX)
            .collect();
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
        // Once a connection: whoever says again who it is does not begin another round of reading.
        let unread = speaks(sync::protocol::PROTOCOL) && peer.reading.is_none();
        if unread {
            peer.reading = Some(self.left.begin(&peer_id));
        }
        if is_first {
            self.observed.note(info.observed_addr);
        }
        if speaks(KAD_PROTOCOL) {
            self.admit_to_routing(peer_id, &reached_at, &told);
            self.forget_in_routing(peer_id, &[reached_at, told.clone()].concat());
        } else {
            self.swarm.behaviour_mut().kad.remove_peer(&peer_id);
        }
        if unread {
            self.read_heads(peer_id);
        }
        self.publish_heads_read();
        if is_news {
            self.emit(Event::Identified { peer: peer_id, addresses: told });
        }
        if !was_server && speaks(KAD_PROTOCOL) && self.connections.is_spoke() {
            self.emit(Event::Serves { peer: peer_id });
        }
    }

    fn pinged(&mut self, event: ping::Event) {
        let Some(peer) = self.peers.get_mut(&event.peer) else { return };
        match event.result {
            Ok(round_trip) => {
                peer.round_trip = Some(round_trip);
                peer.ponged = Some(Instant::now());
                peer.pings_failed = 0;
                self.heard(&event.peer);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                peer.pings_failed += 1;
                if peer.pings_failed >= PINGS_FAILED_MAX {
                    tracing::debug!(peer = %event.peer, %error, "a dead connection is closed");
                    peer.dead = Some(event.connection);
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }

    pub(super) fn load(&self) -> Load {
        Load {
            connections: self.peers.values().map(|peer| peer.connections.len()).sum(),
            dials: self.dials.len(),
            queries: self.queries.len(),
            fetches: self.fetches.len(),
            serving: self.answering.len(),
            pages: self.pages.len(),
            inbox: self.intake.len(),
        }
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let topic = self.topic.hash();
        let behaviour = self.swarm.behaviour_mut();
        let buckets = behaviour.kad.kbuckets().map(|bucket| bucket.num_entries()).filter(|peers| *peers > 0);
        let buckets = buckets.collect();
        let records = behaviour.kad.store_mut().len();
        let mesh_peers = behaviour.gossip.mesh_peers(&topic).count();
        let topic_peers = behaviour.gossip.all_peers().filter(|(_, topics)| topics.contains(&&topic)).count();
        let reading = self.peers.values().filter_map(|peer| peer.reading.as_ref());
        Snapshot {
            listening: self.swarm.listeners().cloned().collect(),
            observed: self.observed.all(),
            peers: self
                .peers
                .iter()
                .map(|(id, peer)| PeerSnapshot {
                    peer: *id,
                    addresses: addresses(peer),
                    is_entry_point: self.connections.is_entry_point(id),
                    outbound: peer.connections.values().any(|(_, dialled)| *dialled),
                    round_trip: peer.round_trip,
                    ponged: peer.ponged,
                    agent: peer.agent.clone(),
                    protocol_version: peer.protocol_version.clone(),
                    protocols: peer.protocols.clone(),
                })
                .collect(),
            buckets,
            records,
            mesh_peers,
            topic_peers,
            heads_peers: reading.clone().count(),
            heads_complete: reading.filter(|reading| reading.is_complete()).count(),
            heads_unidentified: self.unidentified(),
            last_bootstrap: self.last_bootstrap,
            refused: self.refused.iter().cloned().collect(),
            bytes_sent: self.bytes_sent,
            heads_refused: self.heads_refused,
            inbound_failed: self.inbound_failed,
        }
    }

    /// Adds the addresses of a peer to the routing table, unless that holds enough of the same network already.
    fn admit_to_routing(&mut self, peer: PeerId, reached_at: &[Multiaddr], told: &[Multiaddr]) {
        // Behind some proxies all connections come from one private address, which says nothing.
        let network = reached_at.iter().find_map(network_of).or_else(|| told.iter().find_map(network_of));
        let kad = &mut self.swarm.behaviour_mut().kad;
        if let Some(network) = network {
            let bucket = kad.kbucket(peer).map_or_else(Vec::new, |bucket| members(&bucket));
            let table: Vec<PeerId> = kad.kbuckets().flat_map(|bucket| members(&bucket)).collect();
            self.diversity.forget(&table, |peer| self.peers.contains_key(peer));
            if !self.diversity.admits(peer, network, &bucket, &table) {
                return;
            }
        }
        // Of a node in a private network that is known by a name, nothing that it tells may be believed: the name is what the
        // user gave.
        let named = reached_at.iter().filter(|at| told.is_empty() && policy::is_name(at));
        for address in told.iter().chain(named) {
            kad.add_address(&peer, policy::without_peer(address, &peer).unwrap_or_else(|_| address.clone()));
        }
    }

    /// Removes from the routing table what a peer no longer tells: libp2p keeps every address that was ever added, and
    /// whoever tells new ones for ever would fill the memory, and the answers that name it beyond their cap.
    fn forget_in_routing(&mut self, peer: PeerId, kept: &[Multiaddr]) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let held: Vec<Multiaddr> = kad.kbucket(peer).map_or_else(Vec::new, |bucket| {
            let of_peer = bucket.iter().filter(|entry| *entry.node.key.preimage() == peer);
            of_peer.flat_map(|entry| entry.node.value.iter().cloned().collect::<Vec<_>>()).collect()
        });
        for address in held {
            let bare = policy::without_peer(&address, &peer).unwrap_or(address);
            if !kept.iter().any(|it| policy::without_peer(it, &peer).is_ok_and(|it| it == bare)) {
                kad.remove_address(&peer, &bare);
            }
        }
    }

    pub(super) fn routing_gained(&mut self, event: &kad::Event) {
        if let kad::Event::RoutingUpdated { is_new_peer: true, peer, .. } = event {
            self.observer.tell_of(|| Event::Routed { peer: *peer });
            self.emit(Event::Audience);
        }
    }
}

fn members(bucket: &kad::KBucketRef<'_, kad::KBucketKey<PeerId>, kad::Addresses>) -> Vec<PeerId> {
    bucket.iter().map(|entry| *entry.node.key.preimage()).collect()
}

fn addresses(peer: &Peer) -> Vec<Multiaddr> {
    let mut addresses: Vec<Multiaddr> = Vec::new();
    let in_use = peer.connections.values().map(|(address, _)| address);
    for address in in_use.chain(&peer.told) {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    addresses
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

/// Why this node does not stay connected with a peer of that version, if so. Other families are welcome: they may speak
/// Kademlia or gossip with us.
fn incompatible(version: &str) -> Option<String> {
    let major = |version: &str| version.strip_prefix("/ggen/")?.split('.').next()?.parse::<u64>().ok();
    let theirs = version.strip_prefix("/ggen/").map(|_| major(version))?;
    (theirs != major(PROTOCOL_VERSION))
        .then(|| format!("it speaks {}, this node {PROTOCOL_VERSION}", shortened(version)))
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// What a failed dial means to whoever asked for it.
pub(super) fn dial_failure(named: Option<PeerId>, error: &DialError) -> DialFailure {
    match error {
        DialError::WrongPeerId { obtained, .. } => DialFailure::WrongPeer {
            expected: named.map_or_else(|| "another one".to_owned(), |peer| peer.to_string()),
            obtained: *obtained,
        },
        DialError::LocalPeerId { .. } => DialFailure::Own,
        DialError::NoAddresses => DialFailure::NoAddress,
        DialError::Denied { cause } => DialFailure::Denied(innermost(cause)),
        DialError::Transport(errors) => {
            let reasons: Vec<String> = errors
                .iter()
                .map(|(address, error)| match error {
                    TransportError::MultiaddrNotSupported(_) => {
                        format!("{address}: this kind of address is not supported")
                    }
                    TransportError::Other(error) => format!("{address}: {}", innermost(error)),
                })
                .take(4)
                .collect();
            DialFailure::Failed(reasons.join("; "))
        }
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => {
            DialFailure::Failed("the dial was given up".to_owned())
        }
    }
}

/// The reason at the bottom of a chain of errors: transports wrap it many times over.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = iter::successors(Some(error), |error| error.source());
    chain.last().map_or_else(String::new, ToString::to_string)
}

/// What the system said when an address was to be listened on.
pub(super) fn listen_error(error: TransportError<io::Error>) -> io::Error {
    match error {
        TransportError::MultiaddrNotSupported(address) => {
            io::Error::new(io::ErrorKind::Unsupported, format!("{address} is not an address to listen on"))
        }
        // The kind of the innermost error says whether the port is taken.
        TransportError::Other(error) => {
            let kind =
                iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |error| error.source())
                    .filter_map(|error| error.downcast_ref::<io::Error>())
                    .last()
                    .map_or(error.kind(), io::Error::kind);
            io::Error::new(kind, innermost(&error))
        }
    }
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
