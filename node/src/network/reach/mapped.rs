//! The loop's part in having ports mapped: when a router is asked, and whom of the peers to ask whether that works, and whether what is
//! not mapped still does, and whether relays carry. It answers peers that ask the same.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use libp2p::{
    Multiaddr, PeerId,
    request_response::{self, OutboundRequestId, ResponseChannel},
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use super::{
    Verdict,
    carrying::Carrying,
    checking::Checking,
    dial_back::{self, Answer, Ask, DialsBack, Due, Relay},
    mapping::Mapping,
    round,
    router::{self, Told, Wanted},
    standing::Ports,
};
use crate::{
    network::{
        diversity::Network,
        driver::Driver,
        peers::{ip_of, network_of},
        spawner::Spawner,
    },
    peers::policy,
};

/// How long a router may take to hear that nothing is to be mapped any more.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

pub(in crate::network) type DialBackEvent = request_response::Event<Ask, Answer>;

/// The task that speaks with the router.
#[derive(Debug)]
pub(in crate::network) struct Routers {
    wanted: watch::Sender<Wanted>,
    told: mpsc::Receiver<Told>,
    /// What the task takes; nothing once it has begun.
    start: Option<(watch::Receiver<Wanted>, mpsc::Sender<Told>)>,
}

impl Routers {
    fn new() -> Self {
        let (wanted, wants) = watch::channel(Wanted::default());
        let (tell, told) = mpsc::channel(1);
        Self { wanted, told, start: Some((wants, tell)) }
    }

    /// What the router said.
    ///
    /// # Cancel safety
    /// Nothing is lost where the future is dropped.
    async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }
}

/// What the loop knows of mapped ports.
#[derive(Debug)]
pub(in crate::network) struct Mapped {
    /// None where no router is ever asked.
    routers: Option<Routers>,
    pub(super) mapping: Mapping<OutboundRequestId>,
    /// What peers say of addresses that are not mapped.
    checking: Checking<OutboundRequestId>,
    /// What they say of the relays of this node.
    carrying: Carrying<OutboundRequestId>,
    /// Draws whom to ask.
    generator: StdRng,
    dials: DialsBack<ResponseChannel<Answer>>,
    /// How often this machine came somewhere else.
    moved: u64,
}

impl Default for Mapped {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Mapped {
    pub(super) fn new(asks_routers: bool) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the driver's side: seeds the generator that the pure part is given"
        )]
        let generator = StdRng::from_rng(&mut rand::rng());
        let routers = asks_routers.then(Routers::new);
        let (mapping, checking, carrying, dials) = Default::default();
        Self { routers, mapping, checking, carrying, generator, dials, moved: 0 }
    }

    /// What the router said next; never where none is asked.
    ///
    /// # Cancel safety
    /// Nothing is lost where the future is dropped.
    pub(in crate::network) async fn next(&mut self) -> Told {
        let next = match &mut self.routers {
            Some(routers) => routers.next().await,
            None => None,
        };
        match next {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }

    /// This machine came to another network.
    pub(super) fn moved(&mut self) {
        self.mapping.forget();
        self.checking.forget();
        self.carrying.forget();
        self.moved += 1;
    }

    /// Says for which ports a router is to be asked; for none: that nothing is to be mapped any more.
    fn want(&mut self, ports: Ports, local: PeerId, spawner: &Spawner) {
        let Some(routers) = &mut self.routers else { return };
        let wanted = Wanted { ports, moved: self.moved };
        routers.wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
        if ports == Ports::default() {
            self.mapping.forget();
        } else if let Some((wants, tell)) = routers.start.take() {
            spawner.start(router::run(local, wants, tell));
        }
    }

    /// Has the router map nothing any more; yields what waits until that is done.
    pub(in crate::network) fn stop(&mut self) -> impl Future<Output = ()> + use<> {
        let routers = self.routers.take();
        let deadline = Instant::now() + FAREWELL_TIMEOUT;
        async move {
            // Without its sender the task ends.
            let Some(Routers { mut told, wanted, start }) = routers else { return };
            drop((wanted, start));
            while let Ok(Some(_)) = timeout_at(deadline, told.recv()).await {}
        }
    }
}

impl Driver {
    /// Does what is due about ports through which others get to this node.
    pub(super) fn mapping_due(&mut self, now: Instant) {
        let local = *self.swarm.local_peer_id();
        let reach = &mut self.reach;
        let wants = reach.standing.wants_mapping();
        let ports = if wants { reach.standing.ports() } else { Ports::default() };
        reach.mapped.want(ports, local, &self.spawner);
        if reach.mapped.mapping.is_due(|ip| reach.standing.is_seen_at(ip), now) {
            let helpers = self.dial_back_helpers(&BTreeSet::new());
            let dial_back = &mut self.swarm.behaviour_mut().dial_back;
            self.reach.mapped.mapping.ask(helpers, |peer, ask| dial_back.send_request(peer, ask));
        }
        let unvisited = self.reach.standing.unvisited(now);
        if self.reach.mapped.checking.is_due(&unvisited, now) {
            let helpers = self.dial_back_helpers(&BTreeSet::new());
            let dial_back = &mut self.swarm.behaviour_mut().dial_back;
            let send = |peer: &PeerId, ask| dial_back.send_request(peer, ask);
            self.reach.mapped.checking.ask(unvisited, helpers, send, now);
        }
        let relays: BTreeSet<PeerId> = self.reach.relays.standing().collect();
        for relay in self.reach.mapped.carrying.due(&relays, now) {
            // Relays could vouch for each other.
            let helpers = self.dial_back_helpers(&relays);
            let behaviour = self.swarm.behaviour_mut();
            let send = |peer: &PeerId, ask| {
                behaviour.punching.awaits(*peer);
                behaviour.dial_back.send_request(peer, ask)
            };
            self.reach.mapped.carrying.ask(relay, helpers, send, now);
        }
        let mapping = &self.reach.mapped.mapping;
        self.reach.standing.mapped(mapping.said(), mapping.works());
        self.tell_addresses();
        self.dials_back_due();
        let due = self.reach.mapped.dials.due(now);
        due.into_iter().for_each(|due| self.answer_ask(due));
    }

    /// Answers a peer that asked to be dialled.
    fn answer_ask(&mut self, Due { answers_to, answer, close }: Due<ResponseChannel<Answer>>) {
        // Where it fails, the peer is gone.
        let _ = self.swarm.behaviour_mut().dial_back.send_response(answers_to, answer);
        for connection in close {
            self.swarm.close_connection(connection);
        }
    }

    /// Draws peers that can be asked whether they get through to this node, but for some: dialled by it, where they are seen by others
    /// too.
    fn dial_back_helpers(&mut self, but: &BTreeSet<PeerId>) -> Vec<(PeerId, Network)> {
        let helpers = self.peers.iter().filter_map(|(id, peer)| {
            let mut dialled = peer.connections.values().filter(|(at, dialled)| {
                *dialled && !policy::is_relayed(at) && ip_of(at).is_some_and(|ip: IpAddr| ip.is_ipv4())
            });
            let network = network_of(&dialled.next()?.0)?;
            let speaks = peer.protocols.iter().any(|it| it == dial_back::PROTOCOL);
            (speaks && !but.contains(id)).then_some((*id, network))
        });
        round::draw(helpers.collect(), &mut self.reach.mapped.generator)
    }

    pub(in crate::network) fn router_told(&mut self, told: Told) {
        tracing::info!(?told, "what the router says of mapping ports");
        self.reach.mapped.mapping.told(told, Instant::now());
        self.mapping_due(Instant::now());
    }

    pub(in crate::network) fn dial_back_event(&mut self, event: DialBackEvent) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, connection_id, message: Message::Request { request, channel, .. } } => {
                self.dial_back(peer, connection_id, request, channel);
            }
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                self.dialled_back(peer, request_id, Some(response));
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "a peer does not say whether it gets through");
                self.dialled_back(peer, request_id, None);
            }
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    /// Dials a peer where it asks for it.
    fn dial_back(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        ask: Ask,
        channel: ResponseChannel<Answer>,
    ) {
        let now = Instant::now();
        let at = self.peers.get(&peer).and_then(|peer| peer.connections.get(&connection));
        // Who is behind a NAT itself may be let through by a NAT that lets nobody else in.
        let at = at.map(|(at, _)| at.clone()).filter(|_| self.reach.standing.verdict() != Verdict::Behind);
        let relay = ask.relay.and_then(|Relay(relay)| self.peers.get(&relay)?.direct().next().cloned());
        let to = at.map(|at| self.reach.mapped.dials.admit(&at, ask, relay, now)).unwrap_or_default();
        match self.reach.mapped.dials.begin(channel, peer, to, now) {
            Some(due) => self.answer_ask(due),
            None => self.dials_back_due(),
        }
    }

    /// Begins the dials that peers asked for, and are due.
    fn dials_back_due(&mut self) {
        let swarm = &mut self.swarm;
        self.reach.mapped.dials.dial(|peer, address| {
            let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address]);
            let dial = dial.allocate_new_port().build();
            let connection = dial.connection_id();
            let begun = swarm.dial(dial);
            begun.inspect_err(|error| tracing::debug!(%peer, %error, "not dialled, though it asks")).ok()?;
            Some(connection)
        });
    }

    fn dialled_back(&mut self, peer: PeerId, id: OutboundRequestId, answer: Option<Answer>) {
        let now = Instant::now();
        let is_decided = self.reach.mapped.mapping.answered(peer, &id, answer, now);
        let checked = self.reach.mapped.checking.answered(peer, &id, answer, now);
        let carries_nothing = self.reach.mapped.carrying.answered(peer, &id, answer, now);
        if !self.reach.mapped.carrying.awaits(&peer) {
            self.swarm.behaviour_mut().punching.awaits_no_more(&peer);
        }
        if let Some(relay) = carries_nothing {
            self.give_up_relay(relay, now);
        }
        for (address, leads_here) in &checked {
            tracing::info!(%address, leads_here, "peers tried an address to which nobody had come for a while");
            self.reach.standing.checked(address, *leads_here, now);
        }
        if is_decided || !checked.is_empty() {
            self.mapping_due(now);
        }
    }

    /// Notes a connection: it may have been made to see that it can be.
    pub(in crate::network) fn connected_back(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        at: &Multiaddr,
        dialled: bool,
    ) {
        self.reach.mapped.dials.stands(connection, Instant::now());
        if dialled {
            return;
        }
        let Some((relay, _)) = policy::through_relay(at) else {
            self.reach.mapped.mapping.came(peer);
            return self.reach.mapped.checking.came(peer);
        };
        // It is named by the address at which this node is connected with it.
        let is_it = |id: &PeerId| {
            let at = policy::without_peer(&relay, id);
            self.peers.get(id).is_some_and(|peer| peer.direct().any(|it| at.as_ref() == Ok(it)))
        };
        if let Some(relay) = self.reach.relays.standing().find(is_it) {
            self.reach.mapped.carrying.came(peer, &relay);
        }
    }

    /// Notes that a dial failed.
    pub(in crate::network) fn not_connected_back(&mut self, connection: ConnectionId, error: &DialError) {
        self.reach.mapped.dials.failed(connection, error, Instant::now());
    }
}
