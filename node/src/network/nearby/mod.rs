//! The networks that this machine itself is in, and the peers there.
//!
//! [`interfaces`] tells which networks those are and when the machine slept, [`sources`] which connections are dead then, [`mdns`] who
//! answers in them, and [`neighbours`] says whom to believe and to dial.
//! Peers there are preferred for transfers. A node that brings its own parts, such as a simulated one, has none of it.

mod interfaces;
mod mdns;
pub(super) mod neighbours;
mod sources;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use if_watch::IpNet;
use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use self::{mdns::Told, neighbours::Neighbours, sources::Sources};
use super::{Event, driver::Driver, names::Names, peers::Peer, spawner::Spawner};
use crate::limits::{NEARBY_KEPT_MAX, NEARBY_QUEUED_MAX};

/// What a node uses of the machine that it runs on, beside its base transport.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Whose names lead to peers over QUIC; none where it speaks none.
    pub quic: Option<Names>,
    /// Whether it follows which networks the interfaces are in.
    pub interfaces: bool,
    /// Whether it looks for peers in them, and answers those who do.
    pub mdns: bool,
    /// Whether it asks the router to map ports, where a NAT stands before it.
    pub maps_ports: bool,
}

/// What was seen of them.
#[derive(Debug)]
pub(super) enum Seen {
    /// All networks that the interfaces are in.
    Interfaces(BTreeSet<IpNet>),
    /// The machine slept for so long.
    Woke(Duration),
    /// Peers that answered.
    Found(Vec<(PeerId, Multiaddr)>),
    /// Peers that answer no more.
    Lost(Vec<(PeerId, Multiaddr)>),
}

/// What the loop knows of them.
pub(super) struct Nearby {
    pub(super) neighbours: Neighbours,
    seen: mpsc::Receiver<Seen>,
    /// What looking takes; nothing once it has begun.
    start: Option<(Machine, mpsc::Sender<Seen>, watch::Receiver<Told>)>,
    told: watch::Sender<Told>,
    is_looking: bool,
    /// Connected peers there, for those who fetch.
    near: watch::Sender<BTreeSet<PeerId>>,
    /// Whether it is noticed where this machine is.
    follows: bool,
    /// The address from which this machine sends to the rest of the world, when last looked at.
    outward: Option<IpAddr>,
    sources: Sources,
}

impl Nearby {
    /// What will look as far as `machine` says, and who is near.
    pub(super) fn new(machine: Machine) -> (Self, watch::Receiver<BTreeSet<PeerId>>) {
        let (tell, seen) = mpsc::channel(NEARBY_QUEUED_MAX);
        let (told, listens) = watch::channel(Told::default());
        let (near, who) = watch::channel(BTreeSet::new());
        let follows = machine.interfaces;
        let start = Some((machine, tell, listens));
        let nearby = Self {
            neighbours: Neighbours::default(),
            seen,
            start,
            told,
            is_looking: false,
            near,
            follows,
            outward: None,
            sources: Sources::default(),
        };
        (nearby, who)
    }

    /// Begins to look; the second time nothing happens.
    pub(super) fn look(&mut self, local: PeerId, spawner: &Spawner) {
        let Some((machine, tell, told)) = self.start.take() else { return };
        if machine.interfaces {
            self.outward = sources::outward();
            spawner.start(interfaces::watch(tell.clone()));
        }
        self.is_looking = machine.interfaces && machine.mdns;
        if self.is_looking {
            mdns::start(local, told, tell);
        }
    }

    /// What was seen next; never where nothing is looked at.
    ///
    /// # Cancel safety
    /// Nothing is lost where the future is dropped.
    pub(super) async fn next(&mut self) -> Seen {
        match self.seen.recv().await {
            Some(seen) => seen,
            None => std::future::pending().await,
        }
    }

    /// Whether peers are looked for.
    pub(super) fn is_looking(&self) -> bool {
        self.is_looking
    }

    /// Notes a connection.
    pub(super) fn opened(&mut self, connection: ConnectionId, endpoint: &ConnectedPoint) {
        if self.follows {
            self.sources.opened(connection, sources::own_address(endpoint));
        }
    }

    /// Notes that a connection ended.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.sources.closed(connection);
    }

    /// Notes an address that is listened on: those who look are told of it.
    pub(super) fn bound(&self, address: &Multiaddr) {
        self.told.send_modify(|told| {
            told.listens.insert(address.clone());
        });
    }

    /// Notes that an address is not listened on any more.
    pub(super) fn unbound(&self, address: &Multiaddr) {
        self.told.send_modify(|told| {
            told.listens.remove(address);
        });
    }
}

impl Driver {
    pub(super) fn seen_nearby(&mut self, seen: Seen) {
        match seen {
            Seen::Interfaces(nets) => {
                tracing::debug!(?nets, "the networks of this machine");
                let addresses: BTreeSet<IpAddr> = nets.iter().map(IpNet::addr).collect();
                self.nearby.neighbours.moved_to(nets);
                let dead = self.nearby.sources.dead(&addresses);
                // Other addresses come and go on a machine that stays where it is, such as those of bridges for containers.
                let outward = sources::outward();
                let has_moved = outward.is_some() && outward != self.nearby.outward;
                self.nearby.outward = outward;
                if has_moved || !dead.is_empty() {
                    tracing::info!(connections = dead.len(), "this machine has other addresses than before");
                    self.moved(dead);
                }
            }
            Seen::Woke(away) => {
                let all = self.nearby.sources.all();
                tracing::info!(?away, connections = all.len(), "this machine slept");
                self.moved(all);
            }
            Seen::Found(found) => {
                for (peer, address) in found {
                    let is_new = !self.nearby.neighbours.is_known(&peer);
                    if self.nearby.neighbours.found(peer, &address) && is_new {
                        tracing::info!(%peer, %address, "found on the local network");
                    }
                }
                self.dial_neighbours(Instant::now());
            }
            Seen::Lost(lost) => {
                for (peer, address) in lost {
                    self.nearby.neighbours.lost(peer, &address);
                }
            }
        }
        self.publish_near();
    }

    /// Begins again with all that belonged to a place where this machine is no longer: these connections are closed, their peers and
    /// those that were lost before dialled again at once, what was seen of NATs and of relays is forgotten, and others are told where this node is now.
    fn moved(&mut self, dead: Vec<ConnectionId>) {
        for connection in &dead {
            self.peers.died(*connection);
            self.swarm.close_connection(*connection);
        }
        self.healing.moved();
        self.reach.moved(&dead);
        self.nearby.told.send_modify(|told| told.renewed += 1);
        self.outbox.tell(Event::Audience);
    }

    /// Dials peers of the local network, as long as there is room for more connections.
    pub(super) fn dial_neighbours(&mut self, now: Instant) {
        if !self.nearby.is_looking() || !self.connections.has_room(self.peers.len()) {
            return;
        }
        let peers = &self.peers;
        // Who is reached through a relay alone is dialled too.
        let is_connected = |peer: &PeerId| peers.get(peer).is_some_and(|peer| !peer.is_relayed());
        for (peer, addresses) in self.nearby.neighbours.due(is_connected, now) {
            let dial = DialOpts::peer_id(peer).condition(PeerCondition::NotDialing);
            if let Err(error) = self.swarm.dial(dial.addresses(addresses).build()) {
                tracing::debug!(%peer, %error, "a peer of the local network was not dialled");
                self.nearby.neighbours.dialled(&peer);
            }
        }
    }

    /// Peers of the local network that this node stays connected with: some of those that it dialled.
    pub(super) fn neighbours_kept(&self) -> Vec<PeerId> {
        let neighbours = self.peers.iter().filter(|(id, peer)| {
            peer.is_chosen() && self.nearby.neighbours.is_known(id) && self.is_near(peer)
        });
        neighbours.map(|(id, _)| *id).take(NEARBY_KEPT_MAX).collect()
    }

    fn is_near(&self, peer: &Peer) -> bool {
        peer.connections.values().any(|(address, _)| self.nearby.neighbours.is_near(address))
    }

    /// Tells those who fetch which of the connected peers are on the local network.
    pub(super) fn publish_near(&self) {
        let near = self.peers.iter().filter(|(_, peer)| self.is_near(peer));
        let near: BTreeSet<PeerId> = near.map(|(id, _)| *id).collect();
        self.nearby.near.send_if_modified(|held| {
            let is_news = *held != near;
            *held = near;
            is_news
        });
    }
}
