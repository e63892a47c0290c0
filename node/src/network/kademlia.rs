//! Kademlia, held to the rule about addresses that peers tell, and to how much a neighbour may ask.
//!
//! libp2p's Kademlia dials whatever an answer names: one hostile node could have this one knock at `127.0.0.1`, at the router,
//! or at a cloud's metadata service, or have it resolve names. Each answer is therefore judged when it comes, by the
//! address of the connection that it came on ([`policy`]): what a lookup gathers, dials and yields is what is left.
//!
//! Each request of a neighbour costs a search of the routing table, and libp2p paces none. What is over a neighbour's pace is told so
//! before that, by the end of its stream ([`Paced`]).
//!
//! Lookups are this node's own ([`heads::lookup`](crate::heads::lookup)): libp2p's end with the nearest twenty that it knows, and those
//! may all be dead. Their questions ([`Question`]) go out by libp2p's handlers, under an id that libp2p gave away and uses for nothing
//! else ([`Behaviour::begin`]), and what comes under such an id ([`Answer`]) goes to the loop instead of to libp2p.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    iter,
    ops::{Deref, DerefMut},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::Endpoint,
    kad::{self, KBucketKey, KadPeer, QueryId, Quorum, Record, RecordKey},
    swarm::{
        ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::time::Instant;

use super::{
    gone::{Gone, LEFT_OUT_FOR, NOT_COUNTED_FOR},
    inner::connections_of_inner,
    pace::Budget,
    paced::{Paced, Weighed},
    records::Records,
    routing::members,
};
use crate::{
    limits::{
        ADDRESSES_PER_PEER_MAX, DHT_READS_PER_PEER_MAX, DHT_READS_PER_PEER_REFILL, DHT_REQUESTS_BORNE_MAX,
        DHT_REQUESTS_BORNE_REFILL, DHT_WRITES_PER_PEER_MAX, DHT_WRITES_PER_PEER_REFILL,
    },
    peers::policy::{self, Origin, Scope},
};

type Inner = kad::Behaviour<Records>;
/// What a connection tells Kademlia, and is told by it; libp2p names these types nowhere else.
type Told = THandlerOutEvent<Inner>;
type Tell = THandlerInEvent<Inner>;

/// What a lookup asks a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// For the record under a key, and for peers nearer to it.
    Record(RecordKey),
    /// For who provides what has this key, and for peers nearer to it.
    Providers(RecordKey),
    /// For peers nearer to a key alone.
    Nearest(RecordKey),
}

impl Question {
    /// The key that is asked for.
    pub(super) fn key(&self) -> &RecordKey {
        match self {
            Self::Record(key) | Self::Providers(key) | Self::Nearest(key) => key,
        }
    }
}

/// What a peer is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gift {
    /// A record.
    Record(Record),
    /// That this node, at these addresses, provides what has this key.
    Provided(RecordKey, KadPeer),
}

/// What a peer answered, or that it did not.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which lookup had asked.
    pub(super) lookup: QueryId,
    /// Who was asked.
    pub(super) peer: PeerId,
    /// Nothing where the peer does not speak Kademlia, answered something else, or not in time.
    pub(super) said: Option<Said>,
}

/// What a peer says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) record: Option<Record>,
    pub(super) providers: Vec<KadPeer>,
    pub(super) closer: Vec<KadPeer>,
    /// That it took a record.
    pub(super) has_taken: bool,
}

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Event {
    /// By libp2p.
    Kad(Box<kad::Event>),
    /// In answer to a lookup.
    Answer(Box<Answer>),
}

/// Who says that it provides this leaves, and provides nothing more: the SHA-256 of `ggen/leave/v1`, as a multihash. Other programs
/// that speak Kademlia keep one provider record more.
pub(super) const LEAVE_KEY: [u8; 34] = [
    0x12, 0x20, 0x7c, 0x1b, 0xe1, 0x7f, 0xd4, 0x92, 0xb5, 0x9d, 0x59, 0xa3, 0x92, 0x8b, 0x05, 0x7f, 0xf6,
    0x5a, 0xf0, 0xad, 0x9d, 0x76, 0xdd, 0xb9, 0x0d, 0xc3, 0x52, 0xe4, 0x96, 0x40, 0x51, 0x76, 0xff, 0x5a,
];

/// Connected peers of the routing table with which a node trusts that it is the other one that cannot be reached.
const CONNECTED_MIN: usize = 3;
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
    connected: BTreeSet<PeerId>,
    /// Connections that are being closed because nothing comes back on them.
    silent: BTreeSet<ConnectionId>,
    gone: Gone,
    /// Whether somebody left the routing table.
    routing_changed: bool,
    /// Ids of the lookups in progress.
    lookups: HashSet<QueryId>,
    /// Ids whose end libp2p has still to tell, which nobody waits for.
    given: HashSet<QueryId>,
    queue: VecDeque<ToSwarm<Event, Tell>>,
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
            connected: BTreeSet::new(),
            silent: BTreeSet::new(),
            gone: Gone::default(),
            routing_changed: false,
            lookups: HashSet::new(),
            given: HashSet::new(),
            queue: VecDeque::new(),
        }
    }

    /// The peers of the routing table.
    pub(super) fn routed(&mut self) -> Vec<PeerId> {
        let buckets = self.inner.kbuckets();
        buckets.flat_map(|bucket| members(&bucket)).collect()
    }

    /// Whether a peer cannot be reached, as far as this node knows.
    pub(super) fn is_gone(&self, peer: &PeerId, now: Instant) -> bool {
        !self.connected.contains(peer) && self.gone.has(peer, LEFT_OUT_FOR, now)
    }

    /// Whether a peer provides anything to anybody, as far as this node knows: it took its leave, or cannot be dialled, otherwise.
    pub(super) fn is_there(&self, peer: &PeerId, now: Instant) -> bool {
        self.connected.contains(peer) || !self.gone.has(peer, NOT_COUNTED_FOR, now)
    }

    /// Takes out of what is told to others whoever cannot be reached: nobody counts it as a provider, or dials it in vain.
    fn name_the_living(&self, tell: &mut Tell) {
        let now = Instant::now();
        match tell {
            Tell::FindNodeRes { closer_peers, .. } | Tell::GetRecordRes { closer_peers, .. } => {
                closer_peers.retain(|peer| !self.is_gone(&peer.node_id, now));
            }
            Tell::GetProvidersRes { closer_peers, provider_peers, .. } => {
                closer_peers.retain(|peer| !self.is_gone(&peer.node_id, now));
                provider_peers.retain(|provider| self.is_there(&provider.node_id, now));
            }
            _ => {}
        }
    }

    /// Notes that a peer took its leave: nobody is told of it any more until it is back.
    pub(super) fn left(&mut self, peer: PeerId, now: Instant) {
        self.gone.note(peer, now);
        self.routing_changed |= self.inner.remove_peer(&peer).is_some();
    }

    /// Notes that nothing comes back on a connection, which the loop closes for that. A machine that lost its power leaves all its
    /// connections so: whoever waited for a dial to fail would ask it, and count it, ten seconds longer.
    pub(super) fn silent(&mut self, connection: ConnectionId) {
        if self.reached.contains_key(&connection) {
            self.silent.insert(connection);
        }
    }

    /// Notes that the last connection with a peer closed since nothing came back on it. It stays in the routing table until it cannot
    /// be dialled either: the silence may be this node's own.
    fn fell_silent(&mut self, peer: PeerId, now: Instant) {
        self.gone.note(peer, now);
        // What it holds goes to those who are the nearest without it.
        self.routing_changed |= self.trusts_itself() && self.is_routed(&peer);
    }

    fn is_routed(&mut self, peer: &PeerId) -> bool {
        self.inner.kbucket(*peer).is_some_and(|bucket| members(&bucket).contains(peer))
    }

    /// Whether it is others that cannot be reached, and not this node.
    fn trusts_itself(&mut self) -> bool {
        let is_connected = |peer: &PeerId| self.connected.contains(peer);
        let routed = self.inner.kbuckets().flat_map(|bucket| members(&bucket));
        routed.filter(is_connected).count() >= CONNECTED_MIN
    }

    /// Notes that a peer could not be dialled. It leaves the routing table, so that nobody is sent to it in vain: it comes in again
    /// with its next connection. A node that has lost most of its own connections keeps what it knows, since that says more of
    /// its own network than of the others.
    fn missed(&mut self, peer: PeerId, now: Instant) {
        if self.connected.contains(&peer) {
            return;
        }
        self.gone.note(peer, now);
        if self.trusts_itself() {
            self.routing_changed |= self.inner.remove_peer(&peer).is_some();
        }
    }

    /// Whether somebody left the routing table since this was asked last.
    pub(super) fn take_routing_changed(&mut self) -> bool {
        std::mem::take(&mut self.routing_changed)
    }

    /// The peers of the routing table that can be reached, those nearest to a key first.
    pub(super) fn nearest(&mut self, key: &RecordKey, now: Instant) -> Vec<PeerId> {
        let target = KBucketKey::new(key.clone());
        let keys: Vec<PeerId> =
            self.inner.get_closest_local_peers(&target).map(|key| key.into_preimage()).collect();
        keys.into_iter().filter(|peer| !self.is_gone(peer, now)).collect()
    }

    /// Tells a connected peer that this node leaves.
    pub(super) fn take_leave(&mut self, peer: PeerId, own: PeerId) {
        let provider =
            KadPeer { node_id: own, multiaddrs: Vec::new(), connection_ty: kad::ConnectionType::Connected };
        let query_id = self.begin();
        let event = Tell::AddProvider { key: RecordKey::new(&LEAVE_KEY), provider, query_id };
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::Any, event });
    }

    /// Begins a lookup of this node's own, and gives its id.
    pub(super) fn begin(&mut self) -> QueryId {
        // Storing nothing with nobody ends at once, with an id that libp2p does not give away again.
        let nothing = Record::new(Vec::new(), Vec::new());
        let id = self.inner.put_record_to(nothing, iter::empty(), Quorum::One);
        self.given.insert(id);
        self.lookups.insert(id);
        id
    }

    /// Ends one: what is still on its way for it is dropped.
    pub(super) fn end(&mut self, lookup: &QueryId) {
        self.lookups.remove(lookup);
    }

    /// Asks a connected peer.
    pub(super) fn ask(&mut self, lookup: QueryId, peer: PeerId, question: Question) {
        let event = match question {
            Question::Record(key) => Tell::GetRecord { key, query_id: lookup },
            Question::Providers(key) => Tell::GetProvidersReq { key, query_id: lookup },
            Question::Nearest(key) => Tell::FindNodeReq { key: key.to_vec(), query_id: lookup },
        };
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::Any, event });
    }

    /// Gives a connected peer what it is to hold. Whether it took a record comes as an [`Answer`]; who provides something is told
    /// without one.
    pub(super) fn give(&mut self, lookup: QueryId, peer: PeerId, gift: Gift) {
        let event = match gift {
            Gift::Record(record) => Tell::PutRecord { record, query_id: lookup },
            Gift::Provided(key, provider) => Tell::AddProvider { key, provider, query_id: lookup },
        };
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::Any, event });
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
        self.queue.extend(refusal.map(|event| ToSwarm::NotifyHandler { peer_id: peer, handler, event }));
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

/// The query that something came for.
fn query_of(told: &Told) -> Option<QueryId> {
    match told {
        Told::GetRecordRes { query_id, .. }
        | Told::GetProvidersRes { query_id, .. }
        | Told::FindNodeRes { query_id, .. }
        | Told::PutRecordRes { query_id, .. }
        | Told::QueryError { query_id, .. } => Some(*query_id),
        _ => None,
    }
}

/// What a peer says in answer to a question of a lookup.
fn said(told: Told) -> Option<Said> {
    match told {
        Told::GetRecordRes { record, closer_peers: closer, .. } => {
            Some(Said { record, closer, ..Said::default() })
        }
        Told::GetProvidersRes { closer_peers: closer, provider_peers: providers, .. } => {
            Some(Said { providers, closer, ..Said::default() })
        }
        Told::FindNodeRes { closer_peers: closer, .. } => Some(Said { closer, ..Said::default() }),
        Told::PutRecordRes { .. } => Some(Said { has_taken: true, ..Said::default() }),
        _ => None,
    }
}

fn retain(addresses: &mut Vec<Multiaddr>, origin: Origin) {
    policy::retain(addresses, origin);
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
    type ToSwarm = Event;

    connections_of_inner!();

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

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(it) => {
                let scope = policy::scope_of(it.endpoint.get_remote_address());
                self.reached.insert(it.connection_id, scope);
                self.connected.insert(it.peer_id);
                self.gone.back(&it.peer_id);
            }
            FromSwarm::AddressChange(it) => {
                let scope = policy::scope_of(it.new.get_remote_address());
                self.reached.insert(it.connection_id, scope);
            }
            FromSwarm::ConnectionClosed(it) => {
                self.reached.remove(&it.connection_id);
                let was_silent = self.silent.remove(&it.connection_id);
                if it.remaining_established == 0 {
                    self.connected.remove(&it.peer_id);
                    if was_silent {
                        self.fell_silent(it.peer_id, Instant::now());
                    }
                }
            }
            FromSwarm::DialFailure(it) => {
                if let (Some(peer), DialError::Transport(_)) = (it.peer_id, it.error) {
                    self.missed(peer, Instant::now());
                }
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
        match query_of(&event).filter(|query| self.lookups.contains(query)) {
            Some(lookup) => {
                let answer = Box::new(Answer { lookup, peer, said: said(event) });
                self.queue.push_back(ToSwarm::GenerateEvent(Event::Answer(answer)));
            }
            None => self.inner.on_connection_handler_event(peer, connection, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(queued) = self.queue.pop_front() {
            return Poll::Ready(queued);
        }
        loop {
            match std::task::ready!(self.inner.poll(cx)) {
                ToSwarm::GenerateEvent(kad::Event::OutboundQueryProgressed { id, .. })
                    if self.given.remove(&id) => {}
                ToSwarm::NotifyHandler { peer_id, handler, mut event } => {
                    self.name_the_living(&mut event);
                    return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
                }
                event => return Poll::Ready(event.map_out(|event| Event::Kad(Box::new(event)))),
            }
        }
    }
}

#[cfg(test)]
#[path = "kademlia_tests.rs"]
mod tests;
