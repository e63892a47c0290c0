//! How others reach this node where a NAT stands before it, and how this node reaches those behind one.
//!
//! [`standing`] finds out whether others can connect to this node. One that nobody can connect to holds a place on two relays
//! ([`relays`]), and tells others the addresses through them. A relayed connection is a beginning: both ends then try to make a direct
//! one ([`punching`]), at the addresses under which others saw them ([`candidates`]). Heads and records go over either; blocks wait
//! until it is decided, and go over a relay only where no direct connection could be made. What this node relays for others is
//! bounded by [`relaying`].
//!
//! Better than a relay is a port of the NAT that leads to this node. That somebody forwarded one shows by who comes ([`proofs`]), and
//! where nobody does, by asking ([`checking`]). The [`router`] is asked to map one, and [`mapping`] has peers find out whether it does.
//! That the relays carry is asked in the same way ([`carrying`]). Those who are asked connect as [`dial_back`] says; [`mapped`] is the
//! loop's part in that. Others are told of the addresses that are
//! proved or mapped at this moment, and of no other ones.
//!
//! [`Reach`] is what the loop knows of it: events and the time are arguments.

pub(super) mod candidates;
mod carrying;
mod checking;
pub(super) mod dial_back;
mod doubles;
pub(super) mod mapped;
pub(super) mod mapping;
mod proofs;
pub(super) mod punching;
pub(super) mod relaying;
pub(super) mod relays;
mod round;
pub(super) mod router;
pub(super) mod standing;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, transport::ListenerId},
    kad,
    multiaddr::Protocol,
    relay,
    swarm::{
        ConnectionId, FromSwarm, NetworkBehaviour,
        behaviour::ExternalAddrConfirmed,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::time::Instant;

use self::{
    mapped::Mapped,
    mapping::PortMapping,
    punching::Punched,
    relays::{Offer, Relays},
    standing::{Standing, Verdict},
};
use super::{
    Event, Settings,
    connections::Connections,
    driver::Driver,
    peers::{Peer, Peers, network_of},
};
use crate::peers::{
    policy::{self, Origin, Scope},
    trim,
};

/// How long blocks wait for a direct connection. Of those that are made, the first attempt makes 98 of 100
/// ([measured](https://arxiv.org/abs/2510.27500)), in five round trips or so: there is time for it over links of 400 ms. A NAT says
/// nothing of what it drops, so that where none can be made all of this is waited for.
const DIRECT_WAIT: Duration = Duration::from_secs(2);
/// When a peer that came through a relay is dialled plainly beside the attempts to make a hole.
///
/// Over TCP both ends of such an attempt have their roles beforehand. Where one NAT lets in what comes from another port than was
/// dialled, and the other one gives every connection another port, the connection that comes in is none that went out as well: then both
/// ends listen, and nothing is said on it. The end that came is dialled once more, then, from a port of its own, as any other peer is.
const PLAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a connection stays that another one has replaced: what is being asked over it is answered.
const OVERLAP: Duration = Duration::from_secs(10);

/// An attempt to come from a relayed connection to a direct one.
#[derive(Debug, Clone)]
struct Attempt {
    since: Instant,
    has_failed: bool,
    /// Where the peer says that it is, and when to dial it plainly there.
    plain: Option<(Instant, Vec<Multiaddr>)>,
}

impl Attempt {
    fn new(since: Instant) -> Self {
        Self { since, has_failed: false, plain: None }
    }
}

/// The addresses that others are told of, beside those through relays.
#[derive(Debug, Default)]
struct Announced(BTreeSet<Multiaddr>);

/// What others are to be told of their change.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    begin: Vec<Multiaddr>,
    end: Vec<Multiaddr>,
}

impl Announced {
    /// Has others told of these addresses and of no other ones; nothing where they are told that already.
    fn become_these(&mut self, addresses: BTreeSet<Multiaddr>) -> Option<Change> {
        let begin: Vec<Multiaddr> = addresses.difference(&self.0).cloned().collect();
        let end: Vec<Multiaddr> = self.0.difference(&addresses).cloned().collect();
        self.0 = addresses;
        (!begin.is_empty() || !end.is_empty()).then_some(Change { begin, end })
    }
}

/// What the loop knows of how others are reached.
#[derive(Debug, Default)]
pub(super) struct Reach {
    pub(super) standing: Standing,
    /// What follows from it was done for this verdict.
    acted_on: Verdict,
    /// Whether this node serves the DHT where it can be reached.
    serves_dht: bool,
    announced: Announced,
    relays: Relays,
    /// The listener of each relay.
    listeners: HashMap<ListenerId, PeerId>,
    /// Peers that are connected through relays alone.
    attempts: BTreeMap<PeerId, Attempt>,
    /// Peers whose blocks wait for a direct connection.
    waiting: BTreeSet<PeerId>,
    /// Since when peers have connections that may be one too many: a relayed one beside a direct one, or several direct ones.
    doubled: BTreeMap<PeerId, Instant>,
    /// Peers that are reached through this node.
    clients: BTreeSet<PeerId>,
    pub(super) mapped: Mapped,
}

impl Reach {
    pub(super) fn new(settings: &Settings) -> Self {
        let standing = Standing::new(settings.reach, settings.listens);
        let mapped = Mapped::new(settings.machine.maps_ports);
        Self { standing, serves_dht: settings.dht_server, mapped, ..Self::default() }
    }

    /// This machine came to another network: what was seen in the one before says nothing about it.
    pub(super) fn moved(&mut self, dead: &[ConnectionId]) {
        self.standing.moved(dead, Instant::now());
        self.relays.moved();
        self.mapped.moved();
    }

    /// Peers whose connections are not closed for being too many: the relays of this node.
    pub(super) fn relays(&self) -> impl Iterator<Item = PeerId> {
        self.relays.standing()
    }

    /// What is known of the ports that the router maps; nothing where it was not asked.
    pub(super) fn port_mapping(&self) -> Option<PortMapping> {
        self.mapped.mapping.summary(|ip| self.standing.is_seen_at(ip))
    }

    /// Whether this node serves the DHT.
    pub(super) fn serves_dht(&self) -> bool {
        self.serves_dht && self.standing.verdict() != Verdict::Behind
    }

    /// Peers that are reached through this node.
    pub(super) fn clients(&self) -> impl Iterator<Item = PeerId> {
        self.clients.iter().copied()
    }

    /// Notes a connection with a peer, of which `peer` is what is known with it.
    pub(super) fn connected(&mut self, id: PeerId, peer: &Peer, now: Instant) {
        if peer.is_relayed() {
            self.attempts.entry(id).or_insert_with(|| Attempt::new(now));
            return;
        }
        self.attempts.remove(&id);
        if peer.connections.len() > 1 {
            self.doubled.entry(id).or_insert(now);
        }
    }

    /// Notes that no connection with a peer is left; whether its blocks were waiting.
    pub(super) fn disconnected(&mut self, peer: &PeerId) -> bool {
        self.attempts.remove(peer);
        self.doubled.remove(peer);
        self.clients.remove(peer);
        self.waiting.remove(peer)
    }

    /// Notes that no direct connection with a peer could be made.
    pub(super) fn failed(&mut self, peer: &PeerId) {
        if let Some(attempt) = self.attempts.get_mut(peer) {
            attempt.has_failed = true;
        }
    }

    /// Notes where a peer that came through a relay says that it is.
    fn begun(&mut self, peer: &PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        if let Some(attempt) = self.attempts.get_mut(peer) {
            attempt.plain = Some((now + PLAIN_AFTER, addresses));
        }
    }

    /// Takes the peers that are to be dialled plainly, and where.
    fn plain_due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let due = self.attempts.iter_mut().filter_map(|(peer, attempt)| {
            let (_, addresses) = attempt.plain.take_if(|(when, _)| now >= *when)?;
            Some((*peer, addresses))
        });
        due.collect()
    }

    /// Whether blocks of a peer wait for a direct connection; [`Reach::ready`] yields it later where they do.
    pub(super) fn holds_up(&mut self, peer: PeerId, now: Instant) -> bool {
        let holds = self.is_undecided(&peer, now);
        if holds {
            self.waiting.insert(peer);
        }
        holds
    }

    /// Takes the peers whose blocks wait no longer.
    pub(super) fn ready(&mut self, now: Instant) -> Vec<PeerId> {
        let ready: Vec<PeerId> =
            self.waiting.iter().filter(|peer| !self.is_undecided(peer, now)).copied().collect();
        self.waiting.retain(|peer| !ready.contains(peer));
        ready
    }

    fn is_undecided(&self, peer: &PeerId, now: Instant) -> bool {
        let undecided = |attempt: &Attempt| !attempt.has_failed && now < attempt.since + DIRECT_WAIT;
        self.attempts.get(peer).is_some_and(undecided)
    }

    /// Takes the connections that are needed no longer.
    fn superfluous(&mut self, local: &PeerId, peers: &Peers, now: Instant) -> Vec<ConnectionId> {
        let is_due = |since: &Instant| now >= *since + OVERLAP;
        let due: Vec<PeerId> =
            self.doubled.iter().filter(|(_, since)| is_due(since)).map(|(peer, _)| *peer).collect();
        self.doubled.retain(|_, since| !is_due(since));
        let connections = due.iter().filter_map(|id| Some((id, peers.get(id)?))).flat_map(|(id, peer)| {
            // A direct one may have ended meanwhile.
            let is_reached = peer.connections.values().any(|(address, _)| !policy::is_relayed(address));
            let relayed =
                peer.connections.iter().filter(|(_, (address, _))| is_reached && policy::is_relayed(address));
            let relayed = relayed.map(|(connection, _)| *connection);
            relayed.chain(doubles::surplus(local, id, peer)).collect::<Vec<_>>()
        });
        connections.collect()
    }

    /// The peers that may be asked to relay.
    fn offers(&self, local: &PeerId, peers: &Peers, connections: &Connections) -> Vec<Offer> {
        let relays = peers.iter().filter(|(id, peer)| {
            // Who is reached through relays itself is one for nobody.
            !self.relays.holds(id)
                && !peer.told.iter().any(policy::is_relayed)
                && peer.protocols.iter().any(|protocol| relay::HOP_PROTOCOL_NAME == protocol.as_str())
        });
        let offers = relays.filter_map(|(id, peer)| {
            let address = reached_at(peer)?;
            Some(Offer {
                peer: *id,
                network: network_of(&address),
                address,
                is_entry_point: connections.is_entry_point(id),
                rank: trim::rank(local, id),
            })
        });
        offers.collect()
    }
}

/// Where this node has connected to a peer, as others may be told: by number, since names are taken from nobody but the user.
fn reached_at(peer: &Peer) -> Option<Multiaddr> {
    let dialled =
        peer.connections.values().filter(|(address, dialled)| *dialled && !policy::is_relayed(address));
    let mut dialled = dialled.map(|(address, _)| address).peekable();
    dialled.peek()?;
    let told =
        peer.told.iter().filter(|told| policy::scope_of(told) == Scope::Public && !policy::is_relayed(told));
    let is_number = |address: &&Multiaddr| {
        !policy::is_name(address) && policy::acceptable(address, Origin::Peer(Scope::Loopback)).is_ok()
    };
    dialled.chain(told).find(is_number).cloned()
}

/// The address that says where the other end of a connection is: behind its relay, where it came through one.
pub(super) fn seen_at(endpoint: &ConnectedPoint) -> &Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if policy::is_relayed(local_addr) => local_addr,
        endpoint => endpoint.get_remote_address(),
    }
}

impl Driver {
    /// Asks peers to relay where that is needed, and ends what is needed no longer.
    pub(super) fn reach_due(&mut self, now: Instant) {
        let local = *self.swarm.local_peer_id();
        self.reach.standing.expire(now);
        for connection in self.reach.superfluous(&local, &self.peers, now) {
            self.swarm.close_connection(connection);
        }
        self.open_blocks_ready(now);
        for (peer, addresses) in self.reach.plain_due(now) {
            let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses);
            if let Err(error) = self.swarm.dial(dial.allocate_new_port().build()) {
                tracing::debug!(%peer, %error, "a peer behind a relay was not dialled");
            }
        }
        self.mapping_due(now);
        self.act_on_verdict();
        if self.reach.standing.verdict() != Verdict::Behind {
            return;
        }
        let offers = self.reach.offers(self.swarm.local_peer_id(), &self.peers, &self.connections);
        for Offer { peer, address, .. } in self.reach.relays.choose(offers, now) {
            let through = address.with(Protocol::P2p(peer)).with(Protocol::P2pCircuit);
            match self.swarm.listen_on(through) {
                Ok(listener) => drop(self.reach.listeners.insert(listener, peer)),
                Err(error) => {
                    tracing::debug!(relay = %peer, %error, "a relay cannot be asked");
                    self.reach.relays.ended(&peer, now);
                }
            }
        }
    }

    /// Is reached on a relay no longer that carries nothing, where another one can take its place.
    fn give_up_relay(&mut self, relay: PeerId, now: Instant) {
        let offers = self.reach.offers(self.swarm.local_peer_id(), &self.peers, &self.connections);
        let has_another = self.reach.relays.has_another(&offers, now);
        tracing::info!(%relay, has_another, "peers do not get through a relay");
        if !has_another {
            return;
        }
        self.reach.relays.carries_nothing(&relay, now);
        let listeners = self.reach.listeners.iter().filter(|(_, it)| **it == relay);
        for listener in listeners.map(|(listener, _)| *listener).collect::<Vec<_>>() {
            self.swarm.remove_listener(listener);
        }
    }

    /// Tells others of the addresses that lead to this node now, and no longer of those that do not.
    fn tell_addresses(&mut self) {
        let addresses = self.reach.standing.for_others();
        let Some(Change { begin, end }) = self.reach.announced.become_these(addresses) else { return };
        tracing::info!(?begin, ?end, "others are told of other addresses");
        for address in end {
            self.swarm.remove_external_address(&address);
            if self.reach.standing.is_bound(&address) {
                self.relay_names(&address);
            }
        }
        for address in begin {
            self.swarm.add_external_address(address);
        }
        self.outbox.tell(Event::Audience);
    }

    /// Serves the DHT, and relays for others, where they can connect to this node.
    fn act_on_verdict(&mut self) {
        let verdict = self.reach.standing.verdict();
        if std::mem::replace(&mut self.reach.acted_on, verdict) == verdict {
            return;
        }
        tracing::info!(?verdict, mapping = ?self.reach.standing.mapping(), "whether others can connect to this node");
        let is_behind = verdict == Verdict::Behind;
        let serves = self.reach.serves_dht();
        let behaviour = self.swarm.behaviour_mut();
        behaviour.kad.set_mode(Some(if serves { kad::Mode::Server } else { kad::Mode::Client }));
        if let Some(relay) = behaviour.relay.as_mut() {
            relay.relay(!is_behind);
        }
        self.outbox.tell(Event::Audience);
    }

    /// Opens the streams for blocks that waited for a direct connection.
    pub(super) fn open_blocks_ready(&mut self, now: Instant) {
        for peer in self.reach.ready(now) {
            self.swarm.behaviour_mut().blocks.open(peer);
        }
    }

    pub(super) fn relay_client_event(&mut self, event: relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, renewal, .. } = event {
            if !renewal {
                tracing::info!(relay = %relay_peer_id, "reachable through a relay");
                // Those who were told what this node provides are told where it is.
                self.outbox.tell(Event::Audience);
            }
            self.reach.relays.accepted(relay_peer_id, Instant::now());
        }
    }

    pub(super) fn relay_event(&mut self, event: relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.reach.clients.insert(src_peer_id);
            }
            relay::Event::ReservationTimedOut { src_peer_id } => {
                self.reach.clients.remove(&src_peer_id);
            }
            event => tracing::debug!(?event, "relaying"),
        }
    }

    pub(super) fn punched(&mut self, told: Punched) {
        match told {
            Punched::Begun(peer, addresses) => self.reach.begun(&peer, addresses, Instant::now()),
            Punched::Direct(_) => {}
            Punched::Failed(peer) => {
                self.reach.failed(&peer);
                self.open_blocks_ready(Instant::now());
            }
        }
    }

    /// Notes that something is listened on; false where that is nothing but a relay.
    pub(super) fn listens(&mut self, listener: ListenerId, address: &Multiaddr) -> bool {
        if self.reach.listeners.contains_key(&listener) {
            return false;
        }
        self.reach.standing.bound(address);
        let is_behind = self.reach.standing.verdict() == Verdict::Behind;
        self.relay_names(address);
        if let Some(relay) = self.swarm.behaviour_mut().relay.as_mut() {
            relay.relay(!is_behind);
        }
        true
    }

    /// Has the relay name an address of this node to those that it takes in, as it has to. They tell others the one that they dialled.
    fn relay_names(&mut self, address: &Multiaddr) {
        if let Some(relay) = self.swarm.behaviour_mut().relay.as_mut() {
            relay.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr: address }));
        }
    }

    /// Notes that a listener ended; false where that was nothing but a relay.
    pub(super) fn listens_no_more(&mut self, listener: ListenerId, reason: Option<&io::Error>) -> bool {
        let Some(relay) = self.reach.listeners.remove(&listener) else { return true };
        let stood = self.reach.relays.ended(&relay, Instant::now());
        tracing::info!(%relay, ?reason, stood, "not reachable through a relay any more");
        false
    }
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
