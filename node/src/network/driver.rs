//! The loop that owns the swarm.

use std::{collections::HashMap, time::Duration};

use futures::StreamExt;
use libp2p::{
    PeerId, Swarm,
    core::upgrade::Version,
    identity::Keypair,
    kad::QueryId,
    relay,
    swarm::{self, SwarmEvent},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Error, Event, Metrics, Observer, Offload, Settings,
    announcements::{Announced, Announcements},
    behaviour::{Behaviour, BehaviourEvent},
    beside::Beside,
    blocks::{Blocks, Told},
    command::{Command, Target},
    connections::{Connections, View},
    dht::Query,
    dialling::{self, Dialling, Plan},
    exchange::Exchanging,
    gossip::subscribers,
    greetings::Greetings,
    handle::{Handle, HeadsRead},
    handshakes::Latest,
    healing::Healing,
    intake::Intake,
    limiter::Line,
    listening::Listening,
    logs::Logs,
    lookups::Lookups,
    moves::Moving,
    nearby::{Nearby, Seen},
    outbox::Outbox,
    peers::{Peer, Peers},
    reach::{Reach, mapped::Mapped, router},
    refusals::Refusals,
    routing::Routing,
    serve::Work,
    spawner::Spawner,
    transport::{Base, authenticated},
};
use crate::{
    fetch::swarm::Trees,
    limits::{COMMANDS_QUEUED_MAX, HEADS_INTERVAL, STREAMS_NEGOTIATING_MAX},
    peers::{limits::IDLE_TIMEOUT, trim},
    store::Store,
    sync,
    time::Timestamp,
};

/// Events that wait for the bookkeeping; of more, those are dropped that come again.
const EVENTS_QUEUED_MAX: usize = 8_192;
/// How often the loop looks at what has become due.
const PULSE: Duration = Duration::from_millis(500);
/// How long peers may take to hear that this node leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(700);
/// How long the connections may take to close after that.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(300);
/// Dials, requests and queries in progress, each.
pub(super) const PENDING_MAX: usize = 1_024;

/// Starts the loop on the tokio runtime of the caller and yields how to speak to it, and what it has to tell.
///
/// No socket is opened until [`Handle::listen`] or [`Handle::dial`] is called.
///
/// # Errors
/// Where a behaviour refuses its configuration.
pub fn spawn(
    base: Base,
    key: &Keypair,
    settings: Settings,
    store: Store,
    offload: Offload,
    observer: Observer,
    metrics: &Metrics,
) -> Result<(Handle, mpsc::Receiver<Event>), Error> {
    let local = key.public().to_peer_id();
    let latest = Latest::default();
    let (through_relays, relay_client) = relay::client::new(local);
    let quic = settings.machine.quic.clone();
    let first_contact = settings.first_contact.clone();
    let swarm = Swarm::new(
        authenticated(base, through_relays, quic, key, latest.clone(), first_contact)?,
        Behaviour::new(key, &settings, latest, relay_client, metrics)?,
        local,
        // A stream has one protocol: what is asked goes out together with its name, and the answer is one round trip away. On the
        // wire both versions are the same (https://github.com/multiformats/multistream-select).
        swarm::Config::with_executor(settings.spawner.clone())
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(STREAMS_NEGOTIATING_MAX)
            .with_substream_upgrade_protocol_override(Version::V1Lazy),
    );
    let exchanging = Exchanging::new(&store, offload)?;
    let (line, spawner) = (settings.line.clone(), settings.spawner.clone());
    let trees = Trees::default();
    let (commands, command_queue) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (events, event_queue) = mpsc::channel(EVENTS_QUEUED_MAX);
    let (heads, heads_read) = watch::channel(HeadsRead::default());
    let (nearby, near) = Nearby::new(settings.machine.clone());
    let beside = Beside::new(store, offload);
    let ahead = beside.ahead().clone();
    let connections = Connections::new(&settings, swarm.local_peer_id());
    let driver = Driver {
        announcements: Announcements::new(settings.topic.clone()),
        swarm,
        exchanging,
        beside,
        intake: Intake::default(),
        outbox: Outbox::new(events, observer),
        heads,
        peers: Peers::default(),
        connections,
        queries: HashMap::new(),
        settling: 0,
        dialling: Dialling::default(),
        listening: Listening::default(),
        reach: Reach::new(&settings),
        nearby,
        blocks: Blocks::new(trees.clone()),
        logs: Logs::default(),
        refusals: Refusals::default(),
        healing: Healing::new(),
        routing: Routing::default(),
        lookups: Lookups::new(&settings),
        moving: Moving::new(metrics),
        last_bootstrap: None,
        greetings: Greetings::new(key.clone(), settings.runs),
        line: line.clone(),
        spawner: spawner.clone(),
    };
    spawner.start(driver.run(command_queue));
    Ok((Handle { local, commands, heads: heads_read, near, line, trees, ahead, spawner }, event_queue))
}

pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) announcements: Announcements,
    pub(super) beside: Beside,
    /// Heads that came by gossip or as records.
    pub(super) intake: Intake,
    pub(super) exchanging: Exchanging,
    pub(super) outbox: Outbox,
    heads: watch::Sender<HeadsRead>,
    pub(super) peers: Peers,
    pub(super) connections: Connections,
    pub(super) queries: HashMap<QueryId, Query>,
    /// Lookups that ended, and whose heads are being judged.
    pub(super) settling: usize,
    pub(super) dialling: Dialling,
    pub(super) listening: Listening,
    pub(super) reach: Reach,
    pub(super) nearby: Nearby,
    pub(super) blocks: Blocks,
    pub(super) logs: Logs,
    pub(super) refusals: Refusals,
    pub(super) healing: Healing,
    pub(super) routing: Routing,
    pub(super) lookups: Lookups,
    /// The copies of records that go to others.
    pub(super) moving: Moving,
    pub(super) last_bootstrap: Option<Timestamp>,
    pub(super) greetings: Greetings,
    /// How many bytes of blocks and logs move in a second.
    pub(super) line: Line,
    pub(super) spawner: Spawner,
}

/// What the loop is told of, beside commands and its own clocks.
enum Came {
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Work(Work),
    Told(Told),
    Nearby(Seen),
    Router(router::Told),
}

/// What came next. Peers can see to it that there is always work that ended, or a stream that tells something: after each of these it is
/// the swarm's turn.
///
/// # Cancel safety
/// Nothing is lost where the future is dropped.
async fn came(
    swarm: &mut Swarm<Behaviour>,
    beside: &mut Beside,
    blocks: &mut Blocks,
    nearby: &mut Nearby,
    mapped: &mut Mapped,
    is_swarms_turn: bool,
) -> Came {
    let swarm = async { Came::Swarm(Box::new(swarm.select_next_some().await)) };
    let rest = async {
        tokio::select! { biased;
            Some(work) = beside.next(), if beside.is_busy() => Came::Work(work),
            Some(told) = blocks.told() => Came::Told(told),
            seen = nearby.next() => Came::Nearby(seen),
            told = mapped.next() => Came::Router(told),
        }
    };
    if is_swarms_turn {
        tokio::select! { biased; came = swarm => came, came = rest => came }
    } else {
        tokio::select! { biased; came = rest => came, came = swarm => came }
    }
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut again = interval(HEADS_INTERVAL);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = interval(Duration::from_secs(3600));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trim = interval(trim::INTERVAL);
        trim.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_swarms_turn = false;
        loop {
            tokio::select! { biased;
                command = commands.recv() => match command {
                    // Nobody is left to speak to this node, or it was told to stop.
                    None => break,
                    Some(Command::Stop(reply)) => {
                        let router = self.reach.mapped.stop();
                        self.disconnect_all().await;
                        router.await;
                        self.finish_work().await;
                        // Whoever waits may open the folder again: nothing of it may be held any longer.
                        drop(self);
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                },
                // Before whatever comes from others: a swarm that always has an event would hold them up without end.
                _ = again.tick() => self.read_all_heads(),
                _ = pulse.tick() => self.pulse(Instant::now()),
                _ = trim.tick() => self.trim(Instant::now()),
                _ = sweep.tick() => self.sweep_records(),
                came = came(
                    &mut self.swarm, &mut self.beside, &mut self.blocks, &mut self.nearby, &mut self.reach.mapped,
                    is_swarms_turn,
                ) => {
                    is_swarms_turn = !matches!(came, Came::Swarm(_));
                    match came {
                        Came::Swarm(event) => self.swarm_event(*event),
                        Came::Work(work) => self.finished(work),
                        Came::Told(told) => self.blocks_told(told),
                        Came::Nearby(seen) => self.seen_nearby(seen),
                        Came::Router(told) => self.router_told(told),
                    }
                }
                // Reached only when the swarm has nothing more to say: all addresses of a new listener are known.
                () = std::future::ready(()), if self.listening.has_bound() => self.listening.reply_bound(None),
            }
            self.take_heads();
            // Nothing else here waits where there is always something to do, and without a pause tokio's own timers and
            // channels are not ready any more.
            tokio::task::consume_budget().await;
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Listen(address, reply) => {
                let opened = self.swarm.listen_on(address.clone());
                self.listening.begin(opened, address, reply, Instant::now());
            }
            Command::Subscribe(reply) => {
                let _ = reply.send(self.announcements.subscribe(&mut self.swarm.behaviour_mut().gossip));
            }
            Command::Dial(target, reply) => self.dial(target, reply),
            Command::Bootstrap(reply) => self.bootstrap(reply),
            Command::PutRecord(key, value, reply) => self.put_record(key, value, reply),
            Command::GetConfirmation(publisher, until, reply) => {
                self.get_confirmation(publisher, until, reply)
            }
            Command::Stored(value, reply) => {
                let _ = reply.send(self.lookups.taken(&value));
            }
            Command::GetHead(package, deadline, reply) => self.get_head(package, deadline, reply),
            Command::Announce(head, reply) => {
                let _ = reply.send(self.announce(head));
            }
            Command::Provide(root, reply) => self.provide(root, reply),
            Command::StopProviding(root) => self.stop_providing(root),
            Command::Providers(root, deadline, found) => self.providers(root, deadline, found),
            Command::FindPeer(peer, until, reply) => self.find_peer(peer, until, reply),
            Command::Fetch(peer, request, reply) => self.fetch(peer, request, reply),
            Command::Follow(peer, interest) => self.follow(peer, interest),
            Command::Log(peer, question, reply) => self.ask_log(peer, question, reply),
            Command::Credit(peer) => self.peers.credit(&peer, Instant::now()),
            Command::Refresh(reply) => self.refresh(reply),
            Command::Reread(reply) => self.reread(reply),
            Command::Reconfigure { topic, connections_max, connections } => {
                self.connections.set_marks(connections);
                let admission = &mut self.swarm.behaviour_mut().admission;
                admission.set_established(connections_max as usize, connections.high);
                self.announcements.change_topic(topic, &mut self.swarm.behaviour_mut().gossip);
            }
            Command::Snapshot(reply) => {
                let _ = reply.send(Box::new(self.snapshot()));
            }
            Command::Disconnect(peer, reply) => {
                let _ = reply.send(self.send_away(&peer));
            }
            Command::LookAround => self.nearby.look(*self.swarm.local_peer_id(), &self.spawner),
            Command::Greet => self.greetings.greet_soon(Instant::now()),
            Command::Block(peer, reason) => self.refuse(peer, reason, true),
            Command::Unblock(peer) => {
                self.refusals.remove(&peer);
                self.swarm.behaviour_mut().blocked.unblock_peer(peer);
            }
            Command::Stop(_) => unreachable!("handled by the loop"),
        }
    }

    /// Does what has become due.
    fn pulse(&mut self, now: Instant) {
        self.tick_exchange();
        for dial in self.healing.due() {
            let peer = dial.get_peer_id();
            if let Err(error) = self.swarm.dial(dial) {
                tracing::debug!(?peer, %error, "a lost peer was not dialled");
            }
        }
        self.reach_due(now);
        self.dial_neighbours(now);
        self.lookups_due();
        self.move_records();
        let behaviour = self.swarm.behaviour_mut();
        behaviour.identify.catch_up(now);
        let mut unbearable = behaviour.gossip.take_unbearable();
        let chatty = behaviour.identify.take_unbearable();
        unbearable.extend(chatty.into_iter().map(|peer| (peer, "it says who it is without end")));
        let asking = behaviour.kad.take_unbearable();
        unbearable.extend(
            asking.into_iter().map(|peer| (peer, "it asks and stores in the DHT more than any node does")),
        );
        // What those who send too much send until now is bounded by their connection.
        for (peer, why) in unbearable {
            tracing::warn!(%peer, why, "a peer is refused");
            self.block(peer, why.to_owned());
        }
        self.listening.reply_bound(Some(now));
        for lost in self.listening.due(now) {
            let opened = self.swarm.listen_on(lost.address.clone());
            self.listening.opened_again(lost, opened, now);
        }
        self.greetings.greet_again(&self.peers, &mut self.swarm.behaviour_mut().hello, now);
        self.outbox.settle();
        self.outbox.observer.tell_of(|| Event::Loaded(self.load()));
    }

    /// Closes connections where there are too many, and accepts those again that were refused for long enough.
    fn trim(&mut self, now: Instant) {
        let (local, topic) = (*self.swarm.local_peer_id(), self.announcements.topic());
        let gossip = &self.swarm.behaviour().gossip;
        let view = View {
            local,
            peers: &self.peers,
            asked: self.blocks.asked_peers().chain(self.logs.asked_peers()).collect(),
            answered: self.blocks.answering.peers().collect(),
            mesh: gossip.mesh_peers(&topic).copied().collect(),
            listeners: subscribers(gossip, &topic).collect(),
            relays: self.reach.relays().collect(),
            clients: self.reach.clients().collect(),
            neighbours: self.neighbours_kept(),
            now,
        };
        for (peer, why) in self.connections.trim(&view) {
            tracing::debug!(%peer, why, "a connection is closed");
            self.send_away(&peer);
        }
        for peer in self.refusals.ended(now) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
    }

    fn dial(&mut self, target: Target, reply: dialling::Reply) {
        let local = *self.swarm.local_peer_id();
        let met = target.named().map_or(&[][..], |peer| self.lookups.whereabouts(&peer));
        match self.dialling.plan(target, local, &self.peers, met) {
            Plan::Known(outcome) => {
                let _ = reply.send(outcome);
            }
            Plan::Dial(named, options) => {
                let connection = options.connection_id();
                let begun = self.swarm.dial(options);
                self.dialling.begin(connection, named, begun, reply);
            }
        }
    }

    /// Announces a head; yields how many connected peers are subscribed to the topic.
    pub(super) fn announce(&mut self, head: Vec<u8>) -> usize {
        let local = *self.swarm.local_peer_id();
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let announced = self.announcements.announce(head, local, gossip, Instant::now());
        let Some(Announced { digest, peers, is_new }) = announced else { return 0 };
        self.exchanging.shown.told();
        if is_new {
            self.outbox.observer.tell(&Event::Announcing { digest, peers });
        }
        peers
    }

    /// Refuses a peer for a while, for what the loop itself saw of it.
    pub(super) fn block(&mut self, peer: PeerId, reason: String) {
        self.refuse(peer, reason, false);
    }

    fn refuse(&mut self, peer: PeerId, reason: String, is_asked: bool) {
        if !is_asked {
            self.outbox.observer.tell(&Event::Refused { peer });
        }
        let forgotten = self.refusals.add(peer, reason, is_asked, Instant::now(), Timestamp::now());
        if let Some(forgotten) = forgotten {
            self.swarm.behaviour_mut().blocked.unblock_peer(forgotten);
        }
        self.send_away(&peer);
        self.swarm.behaviour_mut().blocked.block_peer(peer);
        self.swarm.behaviour_mut().kad.remove_peer(&peer);
    }

    /// Closes the connections with a peer because this node wants to; yields how many those were.
    pub(super) fn send_away(&mut self, peer: &PeerId) -> usize {
        self.healing.let_go(peer);
        let connections = self.peers.get(peer).map_or(0, |peer| peer.connections.len());
        let _ = self.swarm.disconnect_peer_id(*peer);
        connections
    }

    /// Notes that a peer said something, whatever it was.
    pub(super) fn heard(&mut self, peer: &PeerId) {
        if self.peers.heard(peer, Instant::now()) {
            self.outbox.tell(Event::Seen { peer: *peer });
        }
    }

    pub(super) fn publish_heads_read(&self) {
        let read = HeadsRead {
            peers: self.exchanging.exchange.peers(),
            complete: self.exchanging.exchange.settled(),
            unidentified: self.peers.unidentified(Instant::now()),
        };
        self.heads.send_if_modified(|held| std::mem::replace(held, read) != read);
    }

    /// Waits a moment for what runs beside the loop, which uses the store.
    async fn finish_work(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, self.beside.next()).await {}
    }

    /// Closes every connection and gives the farewells a moment to leave.
    async fn disconnect_all(&mut self) {
        let own = *self.swarm.local_peer_id();
        let of_ours = |peer: &Peer| peer.protocols.iter().any(|it| it == sync::protocol::PROTOCOL);
        let told: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| of_ours(peer)).map(|(id, _)| *id).collect();
        let kad = &mut self.swarm.behaviour_mut().kad;
        told.iter().for_each(|peer| kad.take_leave(*peer, own));
        // Each that has heard it closes the connection.
        self.until_closed(&told, LEAVE_TIMEOUT).await;
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in &connected {
            let _ = self.swarm.disconnect_peer_id(*peer);
        }
        self.until_closed(&connected, FAREWELL_TIMEOUT).await;
    }

    /// Waits until all connections with these peers are closed.
    async fn until_closed(&mut self, peers: &[PeerId], timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while peers.iter().any(|peer| self.swarm.is_connected(peer)) {
            if tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await.is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
