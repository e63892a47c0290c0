//! Which connections this node holds on to: the loop's part of [`trim`], and what a role forbids.
//!
//! What counts for a peer is what it did for us on this connection, and where it stands in our own configuration. That a peer serves
//! the DHT is its own word, believed as far as it is harmless: it decides among peers, never against a configured one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, kad::KBucketKey, multiaddr::Protocol};
use tokio::time::Instant;

use super::{
    Settings,
    peers::{Peer, Peers},
};
use crate::{
    config::Role,
    limits::{CONFIG_ADDRESSES_MAX, FETCH_TIMEOUT},
    peers::{
        policy,
        trim::{self, Held, Marks, NEIGHBOURS_KEPT, Trim, VISIT},
    },
};

/// What the loop knows about which connections to hold.
#[derive(Debug)]
pub(super) struct Connections {
    role: Role,
    marks: Marks,
    trim: Trim,
    /// Bootstrap nodes and hubs, without `/p2p`.
    entry_points: BTreeSet<Multiaddr>,
    /// The peers that the configuration names, and those that answered under its addresses.
    entry_peers: BTreeSet<PeerId>,
    /// Whether the configuration names somebody else than this node.
    is_told: bool,
    /// Since when this node has had company without a break.
    company_since: Option<Instant>,
    /// Those of the configuration that are connected and said who they are.
    entered: BTreeSet<PeerId>,
    /// When one of these had told all that it has, last.
    told_at: Option<Instant>,
}

impl Connections {
    pub(super) fn new(settings: &Settings, local: &PeerId) -> Self {
        let mut connections = Self {
            role: settings.role,
            marks: settings.connections,
            trim: Trim::default(),
            entry_points: BTreeSet::new(),
            entry_peers: BTreeSet::new(),
            is_told: false,
            company_since: None,
            entered: BTreeSet::new(),
            told_at: None,
        };
        for address in &settings.entry_points {
            let named = address.iter().last().and_then(|part| match part {
                Protocol::P2p(peer) => Some(peer),
                _ => None,
            });
            let bare =
                named.and_then(|peer| policy::without_peer(address, &peer).ok()).unwrap_or(address.clone());
            match named {
                Some(peer) => drop(connections.entry_peers.insert(peer)),
                None => drop(connections.entry_points.insert(bare)),
            }
        }
        // A list that names all entrances names this node too, where it is one.
        let names_others = connections.entry_peers.iter().any(|peer| peer != local);
        connections.is_told = names_others || !connections.entry_points.is_empty();
        connections
    }

    /// Notes that somebody is connected.
    pub(super) fn connected(&mut self, now: Instant) {
        self.company_since.get_or_insert(now);
    }

    /// Notes that a peer said who it is.
    pub(super) fn introduced(&mut self, peer: &PeerId) {
        if self.is_entry_point(peer) {
            self.entered.insert(*peer);
        }
    }

    /// Notes that the last connection with a peer closed, and whether anybody is connected still.
    pub(super) fn left(&mut self, peer: &PeerId, is_alone: bool) {
        self.entered.remove(peer);
        if is_alone {
            (self.company_since, self.told_at) = (None, None);
        }
    }

    /// Those of the configuration that are connected and said who they are.
    pub(super) fn entered(&self) -> impl Iterator<Item = &PeerId> {
        self.entered.iter()
    }

    /// Notes that one of them has told all that it has.
    pub(super) fn told_by_entrance(&mut self, now: Instant) {
        self.told_at = Some(now);
    }

    /// How long this node has had company, and nothing that it knows to be complete of those that its configuration names: these are
    /// connected now or not. Nothing where nobody is connected, and where it names nobody.
    pub(super) fn among_strangers(&self, now: Instant) -> Option<Duration> {
        let since = self.company_since.filter(|_| self.is_told)?;
        Some(now.saturating_duration_since(since.max(self.told_at.unwrap_or(since))))
    }

    pub(super) fn set_marks(&mut self, marks: Marks) {
        self.marks = marks;
    }

    /// Whether a node with so many peers chooses more of them by itself. A spoke holds on to hubs alone.
    pub(super) fn has_room(&self, peers: usize) -> bool {
        !self.is_spoke() && peers < self.marks.high
    }

    /// Whether this node holds on to hubs and to nobody else.
    pub(super) fn is_spoke(&self) -> bool {
        self.role == Role::Spoke
    }

    /// Whether our configuration names a peer, or it answered under an address of the configuration.
    pub(super) fn is_entry_point(&self, peer: &PeerId) -> bool {
        self.entry_peers.contains(peer)
    }

    /// Remembers who answered under an address of the configuration. `address` is one that this node dialled.
    pub(super) fn reached(&mut self, peer: PeerId, address: &Multiaddr) {
        if self.entry_points.contains(address) && self.entry_peers.len() < 2 * CONFIG_ADDRESSES_MAX {
            self.entry_peers.insert(peer);
        }
    }
}

/// What the loop sees of the connected peers when it looks which connections to close.
pub(super) struct View<'a> {
    pub(super) local: PeerId,
    pub(super) peers: &'a Peers,
    /// Peers that this node asks for blocks or logs.
    pub(super) asked: Vec<PeerId>,
    /// Peers that this node answers.
    pub(super) answered: Vec<PeerId>,
    /// Peers in the mesh of the topic.
    pub(super) mesh: Vec<PeerId>,
    /// Peers subscribed to the topic.
    pub(super) listeners: BTreeSet<PeerId>,
    /// Peers through which this node is reached.
    pub(super) relays: Vec<PeerId>,
    /// Peers that are reached through this node.
    pub(super) clients: Vec<PeerId>,
    /// Peers of the local network that it is to stay connected with.
    pub(super) neighbours: Vec<PeerId>,
    pub(super) now: Instant,
}

impl View<'_> {
    /// Peers with a request for blocks in progress: from us, or from those of them that have read an answer lately, since to ask
    /// and not to read costs nothing.
    fn transfers(&self) -> BTreeSet<PeerId> {
        let reads = |id: &&PeerId| self.peers.get(id).is_some_and(|peer| peer.moved_since(self.now, READS));
        self.asked.iter().chain(self.answered.iter().filter(reads)).copied().collect()
    }
}

impl Connections {
    /// Says whose connections to close where there are too many, and why; to be called every [`trim::INTERVAL`].
    pub(super) fn trim(&mut self, view: &View<'_>) -> Vec<(PeerId, &'static str)> {
        if self.is_spoke() {
            return self.trim_spoke(view);
        }
        if !self.trim.is_due(view.peers.len(), self.marks) {
            // What was in progress has come to its end: the next newcomers count from the high mark again.
            self.trim = Trim::default();
            return Vec::new();
        }
        let held = self.held(view);
        let closed = self.trim.poll(&held, self.marks).into_iter();
        closed.map(|peer| (peer, "there are more connections than needed")).collect()
    }

    /// A spoke holds on to a few hubs; whoever else is connected may stay as long as something is transferred. Neither the
    /// gossip mesh nor the configuration keeps one: hubs that answer for each other are no more than enough.
    fn trim_spoke(&mut self, view: &View<'_>) -> Vec<(PeerId, &'static str)> {
        let mut transfers = view.transfers();
        transfers.extend(&view.relays);
        let held = self.held(view).into_iter();
        let held = held.map(|it| Held { is_protected: transfers.contains(&it.peer), ..it });
        let (hubs, others): (Vec<Held>, Vec<Held>) =
            held.partition(|it| view.peers.get(&it.peer).is_some_and(|peer| self.is_hub(&it.peer, peer)));
        let is_visiting = |held: &Held| {
            held.is_protected
                || held.age < VISIT
                || view.peers.get(&held.peer).is_some_and(|peer| peer.moved_since(view.now, VISIT))
        };
        let gone = others.into_iter().filter(|it| !is_visiting(it));
        let gone = gone.map(|it| (it.peer, "a spoke holds on to hubs only"));
        let closed = self.trim.poll(&hubs, Marks::SPOKE).into_iter();
        gone.chain(closed.map(|peer| (peer, "a spoke holds on to a few hubs only"))).collect()
    }

    /// Whether a spoke may hold on to a peer: our configuration names it, or this node chose it and it serves the DHT, as
    /// hubs do. Whoever only connects and says so is held on to by nobody.
    fn is_hub(&self, id: &PeerId, peer: &Peer) -> bool {
        self.is_entry_point(id) || peer.serves_dht() && peer.is_chosen()
    }

    fn held(&self, view: &View<'_>) -> Vec<Held> {
        let mut protected = view.transfers();
        protected.extend(neighbours(view.peers, &view.local));
        protected.extend(oldest_chosen(view.peers));
        protected.extend(&view.relays);
        protected.extend(&view.neighbours);
        protected.extend(oldest_clients(view, self.marks.low));
        // The mesh comes last, and only as far as it leaves the node within its marks: gossip makes its mesh again among those that
        // stay, and without this a node that wants few connections could never close what it has too many of.
        for peer in &view.mesh {
            if protected.len() < self.marks.high {
                protected.insert(*peer);
            }
        }
        let held = view.peers.iter().map(|(id, peer)| {
            let is_entry = self.entry_peers.contains(id);
            let value = peer.value(view.listeners.contains(id), view.now);
            Held {
                peer: *id,
                age: peer.since.map_or(Duration::ZERO, |since| view.now.saturating_duration_since(since)),
                value: value + if is_entry { ENTRY } else { 0 },
                rank: trim::rank(&view.local, id),
                is_protected: is_entry || protected.contains(id),
            }
        });
        held.collect()
    }
}

/// The connected servers of the DHT that are nearest to this node, of those that it dialled: ids near to ours can be made, and
/// connect by themselves.
fn neighbours(peers: &Peers, local: &PeerId) -> Vec<PeerId> {
    let own = KBucketKey::from(*local);
    let servers = peers.iter().filter(|(_, peer)| peer.serves_dht() && peer.is_chosen());
    let by_distance: BTreeMap<_, PeerId> =
        servers.map(|(id, _)| (own.distance(&KBucketKey::from(*id)), *id)).collect();
    by_distance.into_values().take(NEIGHBOURS_KEPT).collect()
}

/// The peers that this node dialled and has been connected with for longest.
fn oldest_chosen(peers: &Peers) -> Vec<PeerId> {
    let chosen = peers.iter().filter(|(_, peer)| peer.is_chosen());
    let mut by_age: Vec<(Instant, PeerId)> =
        chosen.filter_map(|(id, peer)| Some((peer.since?, *id))).collect();
    by_age.sort_unstable();
    by_age.into_iter().take(OLDEST_KEPT).map(|(_, id)| id).collect()
}

/// The peers reached through this node that have been connected for longest, as many as leave room for others: who is sent away looks
/// for another relay. Nobody who comes later takes their place, however many ids it makes. By an order of the ids it could, since anyone
/// can make ids until they come first.
fn oldest_clients(view: &View<'_>, most: usize) -> Vec<PeerId> {
    let since = |id: &PeerId| view.peers.get(id)?.since;
    let mut by_age: Vec<(Instant, u64, PeerId)> =
        view.clients.iter().filter_map(|id| Some((since(id)?, trim::rank(&view.local, id), *id))).collect();
    by_age.sort_unstable();
    by_age.into_iter().take(most).map(|(.., id)| id).collect()
}

/// Our configuration names the peer.
const ENTRY: u32 = 16;
/// It gave us blocks on this connection, lately, that we had asked for. To take some is no merit: anybody can.
const GIFT: u32 = 8;
/// How long a gift counts.
const LATELY: Duration = Duration::from_secs(10 * 60);
/// How long ago somebody who reads answers has read the last one, at most: each has its time.
const READS: Duration = Duration::from_secs(2 * FETCH_TIMEOUT.as_secs());
/// The longest-lived connections that this node opened are protected, so many of them: nobody who only connects can take
/// their place, however many come.
const OLDEST_KEPT: usize = 4;
/// It serves the DHT: a permanent node, for one that comes and goes.
const SERVER: u32 = 4;
/// It listens to our topic.
const LISTENER: u32 = 2;
/// This node chose it, which nobody can bring about who only connects.
const CHOSEN: u32 = 1;

impl Peer {
    fn value(&self, listens: bool, now: Instant) -> u32 {
        let worth = |holds: bool, value: u32| if holds { value } else { 0 };
        let gave = self.last_gift.is_some_and(|last| now.saturating_duration_since(last) < LATELY);
        worth(gave, GIFT)
            + worth(self.serves_dht(), SERVER)
            + worth(listens, LISTENER)
            + worth(self.is_chosen(), CHOSEN)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ConnectionId;

    use super::*;
    use crate::network::{FirstContact, behaviour::KAD_PROTOCOL};

    fn peer(n: usize, dialled: bool, since: Instant) -> (PeerId, Peer) {
        let address = (Multiaddr::empty(), dialled);
        let connections = BTreeMap::from([(ConnectionId::new_unchecked(n), address)]);
        let protocols = vec![KAD_PROTOCOL.to_owned()];
        (PeerId::random(), Peer { connections, protocols, since: Some(since), ..Peer::default() })
    }

    fn connections(role: Role, marks: Marks) -> Connections {
        told(role, marks, &PeerId::random(), Vec::new())
    }

    fn told(role: Role, connections: Marks, local: &PeerId, entry_points: Vec<Multiaddr>) -> Connections {
        let settings = Settings {
            topic: String::new(),
            dht_server: true,
            reach: crate::config::Reach::Auto,
            listens: true,
            relay_server: true,
            query_timeout: Duration::ZERO,
            role,
            entry_points,
            connections_max: 100,
            connections,
            first_contact: FirstContact::default(),
            runs: crate::hello::Runs::new(crate::hello::Run::from_bytes([1; 16]), []),
            line: crate::network::Line::default(),
            spawner: crate::network::Spawner::default(),
            machine: crate::network::Machine::default(),
        };
        Connections::new(&settings, local)
    }

    #[test]
    fn company_counts_as_strangers_except_while_somebody_of_the_configuration_tells_what_it_has() {
        let (own, named, stranger) = (PeerId::random(), PeerId::random(), PeerId::random());
        let host: Multiaddr = "/ip4/203.0.113.1/tcp/4001".parse().unwrap();
        let at = |peer: PeerId| host.clone().with(Protocol::P2p(peer));
        let marks = Marks { low: 1, high: 2 };
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for entry_points in [vec![at(own), at(named)], vec![host.clone()]] {
            let mut connections = told(Role::default(), marks, &own, entry_points);
            assert_eq!(connections.among_strangers(start), None, "it is alone");
            for _ in 0..2 {
                connections.connected(start);
                connections.connected(start + second);
                connections.introduced(&stranger);
                assert_eq!(connections.entered().count(), 0);
                assert_eq!(connections.among_strangers(start + 3 * second), Some(3 * second));
                connections.reached(named, &host);
                connections.introduced(&named);
                assert_eq!(connections.entered().collect::<Vec<_>>(), [&named]);
                connections.told_by_entrance(start + 4 * second);
                // It leaves, and a neighbour stays: the time runs from when it was last heard.
                connections.left(&named, false);
                assert_eq!(connections.entered().count(), 0);
                assert_eq!(connections.among_strangers(start + 7 * second), Some(3 * second));
                connections.left(&stranger, true);
                assert_eq!(connections.among_strangers(start + 7 * second), None);
            }
        }
        for entry_points in [Vec::new(), vec![at(own)]] {
            let mut connections = told(Role::default(), marks, &own, entry_points);
            connections.connected(start);
            assert_eq!(connections.among_strangers(start + second), None, "there is nobody to wait for");
        }
    }

    fn view(peers: &Peers, now: Instant) -> View<'_> {
        let (local, listeners) = (PeerId::random(), BTreeSet::new());
        let (asked, answered, mesh, relays, clients) = Default::default();
        View { local, peers, asked, answered, mesh, listeners, relays, clients, neighbours: Vec::new(), now }
    }

    #[test]
    fn a_spoke_holds_on_to_hubs_and_to_those_that_transfer_something() {
        let (start, mut peers) = (Instant::now(), Peers::default());
        let [hub, visitor, reader] = [0, 1, 2].map(|n| {
            let (id, peer) = peer(n, n == 0, start);
            peers.insert(id, peer);
            id
        });
        let mut spoke = connections(Role::Spoke, Marks { low: 1, high: 2 });
        assert!(spoke.trim(&view(&peers, start)).is_empty(), "whoever comes may say what it wants");
        let later = start + VISIT + READS;
        peers.transferred(&reader, later);
        let gone = spoke.trim(&View { answered: vec![reader], ..view(&peers, later) });
        assert_eq!(gone.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [visitor]);
        assert!(peers.contains_key(&hub));
    }

    #[test]
    fn nothing_is_closed_within_the_marks() {
        let (start, mut peers) = (Instant::now(), Peers::default());
        peers.extend((0..2).map(|n| peer(n, false, start)));
        let mut connections = connections(Role::Peer, Marks { low: 1, high: 2 });
        assert!(connections.trim(&view(&peers, start + Duration::from_secs(3600))).is_empty());
    }

    #[test]
    fn only_what_a_peer_gave_lately_counts_for_it() {
        let start = Instant::now();
        let mut peer = Peer { last_transfer: Some(start), ..Peer::default() };
        assert_eq!(peer.value(false, start), 0, "to take blocks is no merit");
        peer.last_gift = Some(start);
        assert_eq!(peer.value(false, start), GIFT);
        assert_eq!(peer.value(false, start + LATELY), 0, "and a gift is forgotten");
    }

    #[test]
    fn whoever_comes_later_takes_no_place_of_those_that_are_reached_through_this_node() {
        let start = Instant::now();
        let came: Vec<(PeerId, Peer)> =
            (0..9).map(|n| peer(n, false, start + Duration::from_secs(n as u64))).collect();
        let clients: Vec<PeerId> = came.iter().map(|(id, _)| *id).collect();
        let mut peers = Peers::default();
        peers.extend(came);
        let later = start + Duration::from_secs(3600);
        let sorted = clients.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let view = View { clients: sorted, ..view(&peers, later) };
        assert_eq!(oldest_clients(&view, 3), clients[..3]);
        let marks = Marks { low: 3, high: 100 };
        let held = connections(Role::Peer, marks).held(&view);
        let protected: BTreeSet<PeerId> =
            held.iter().filter(|it| it.is_protected).map(|it| it.peer).collect();
        assert_eq!(protected, clients[..3].iter().copied().collect());
    }

    #[test]
    fn whoever_only_connects_is_not_protected() {
        let start = Instant::now();
        let second = |n: usize| start + Duration::from_secs(n as u64);
        let mut peers = Peers::default();
        peers.extend((0..100).map(|n| peer(n, false, start)));
        let ours: Vec<(PeerId, Peer)> = (0..6).map(|n| peer(100 + n, true, second(n))).collect();
        let chosen: Vec<PeerId> = ours.iter().map(|(id, _)| *id).collect();
        peers.extend(ours);
        let near: BTreeSet<PeerId> = neighbours(&peers, &PeerId::random()).into_iter().collect();
        assert_eq!(near, chosen.iter().copied().collect());
        assert_eq!(oldest_chosen(&peers), chosen[..OLDEST_KEPT]);
    }
}
