//! The loop that owns the swarm.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::{transport::ListenerId, upgrade::Version},
    gossipsub::IdentTopic,
    identity::Keypair,
    kad::QueryId,
    multiaddr::Protocol,
    request_response::{InboundRequestId, OutboundRequestId},
    swarm::{
        self, ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Error, Event, Metrics, Observer, Offload, Settings,
    answering::Answering,
    behaviour::{Behaviour, topic_score},
    beside::Beside,
    blocked::Blocked,
    connections::Connections,
    dht::Query,
    diversity::Diversity,
    events::dial_failure,
    exchange::{Checking, Left, Reading},
    handle::{Command, DialFailure, Handle, HeadsRead, Target},
    handshakes::Latest,
    healing::Healing,
    heard::Heard,
    intake::Intake,
    listeners::Listeners,
    observed::Observed,
    outbox::Outbox,
    pace::Pace,
    serve::Fetch,
    snapshot::Refused,
    transport::{Base, authenticated},
};
use crate::{
    limits::{COMMANDS_QUEUED_MAX, HEADS_INTERVAL, STREAMS_NEGOTIATING_MAX},
    peers::{limits::IDLE_TIMEOUT, trim},
    store::Store,
    sync,
    time::Timestamp,
};

/// Events that wait for the bookkeeping; of more, those are dropped that come again.
const EVENTS_QUEUED_MAX: usize = 8_192;
/// Refused peers that are remembered for `peer-list`.
const REFUSED_MAX: usize = 64;
/// How long a new peer may take to say who it is before nobody waits for it any more.
pub(super) const IDENTIFY_GRACE: Duration = Duration::from_secs(2);
/// How often the loop looks at what has become due.
const PULSE: Duration = Duration::from_millis(500);
/// How often the bookkeeping is told that a peer says something.
const HEARD_INTERVAL: Duration = Duration::from_secs(1);
/// Dials, requests and queries under way, each.
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
    let swarm = Swarm::new(
        authenticated(base, key, latest.clone())?,
        Behaviour::new(key, &settings, latest, metrics)?,
        local,
        // A stream has one protocol: what is asked goes out together with its name, and the answer is one round trip away. On the
        // wire both versions are the same (https://github.com/multiformats/multistream-select).
        swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(STREAMS_NEGOTIATING_MAX)
            .with_substream_upgrade_protocol_override(Version::V1Lazy),
    );
    let epoch = sync::epoch(&store)?;
    let (commands, command_queue) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (events, event_queue) = mpsc::channel(EVENTS_QUEUED_MAX);
    let (heads, heads_read) = watch::channel(HeadsRead::default());
    let driver = Driver {
        topic: IdentTopic::new(settings.topic.clone()),
        swarm,
        beside: Beside::new(store, offload),
        intake: Intake::default(),
        epoch,
        observer,
        outbox: Outbox::new(events),
        heads,
        peers: BTreeMap::new(),
        connections: Connections::new(&settings),
        queries: HashMap::new(),
        settling: 0,
        dials: HashMap::new(),
        listens: Vec::new(),
        listeners: Listeners::default(),
        fetches: HashMap::new(),
        readings: HashMap::new(),
        left: Left::default(),
        checking: Checking::default(),
        refreshing: Vec::new(),
        answering: Answering::new(),
        pages: HashMap::new(),
        observed: Observed::default(),
        blocked: Blocked::default(),
        refused: VecDeque::new(),
        healing: Healing::new(),
        diversity: Diversity::default(),
        providers_met: Vec::new(),
        whereabouts: VecDeque::new(),
        last_bootstrap: None,
        bytes_sent: 0,
        heads_refused: 0,
        inbound_failed: 0,
        pace: Pace::new(),
        heard: Heard::default(),
    };
    tokio::spawn(driver.run(command_queue));
    Ok((Handle { local, commands, heads: heads_read }, event_queue))
}

/// One peer that is connected.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Addresses of its connections, and whether we dialled them.
    pub(super) connections: BTreeMap<ConnectionId, (Multiaddr, bool)>,
    /// When blocks last went to it or came from it.
    pub(super) last_transfer: Option<Instant>,
    /// When it last gave us blocks that we had asked for, and that were verified.
    pub(super) last_gift: Option<Instant>,
    pub(super) told: Vec<Multiaddr>,
    pub(super) agent: Option<String>,
    pub(super) protocol_version: Option<String>,
    pub(super) protocols: Vec<String>,
    pub(super) round_trip: Option<Duration>,
    /// When a ping of it last came back.
    pub(super) ponged: Option<Instant>,
    pub(super) pings_failed: u32,
    /// When the bookkeeping was last told that it said something.
    pub(super) heard: Option<Instant>,
    /// Until when it may keep others waiting for what it has to say; none once it has said who it is.
    pub(super) awaited_until: Option<Instant>,
    /// Since when it is connected.
    pub(super) since: Option<Instant>,
    /// The connection that was given up because the peer answered no more.
    pub(super) dead: Option<ConnectionId>,
    /// How far its heads were read, where it serves heads.
    pub(super) reading: Option<Reading>,
}

/// Whom an address names, and who waits for the outcome.
pub(super) type Dialling = (Option<PeerId>, oneshot::Sender<Result<PeerId, DialFailure>>);

/// Somebody who waits for a listener to be bound.
pub(super) struct Listening {
    pub(super) listener: ListenerId,
    pub(super) address: Multiaddr,
    pub(super) bound: Vec<Multiaddr>,
    /// Since when there is one.
    pub(super) bound_since: Option<Instant>,
    pub(super) reply: oneshot::Sender<Result<Vec<Multiaddr>, Error>>,
}

pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) topic: IdentTopic,
    pub(super) beside: Beside,
    /// Heads that came by gossip or as records.
    pub(super) intake: Intake,
    pub(super) epoch: u64,
    pub(super) observer: Observer,
    outbox: Outbox,
    heads: watch::Sender<HeadsRead>,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) connections: Connections,
    pub(super) queries: HashMap<QueryId, Query>,
    /// Lookups that ended, and whose heads are being judged.
    pub(super) settling: usize,
    pub(super) dials: HashMap<ConnectionId, Dialling>,
    pub(super) listens: Vec<Listening>,
    pub(super) listeners: Listeners,
    pub(super) fetches: HashMap<OutboundRequestId, Fetch>,
    pub(super) readings: HashMap<OutboundRequestId, PeerId>,
    /// How far the heads of peers were read that are gone.
    pub(super) left: Left,
    pub(super) checking: Checking,
    pub(super) refreshing: Vec<oneshot::Sender<()>>,
    pub(super) answering: Answering<InboundRequestId>,
    /// Pages of heads under way, and for whom.
    pub(super) pages: HashMap<InboundRequestId, PeerId>,
    pub(super) observed: Observed,
    blocked: Blocked,
    pub(super) refused: VecDeque<Refused>,
    pub(super) healing: Healing,
    /// Where the peers of the routing table are reached.
    pub(super) diversity: Diversity,
    /// Providers that a lookup has just found.
    pub(super) providers_met: Vec<PeerId>,
    /// Where providers are that lookups found, the latest last.
    pub(super) whereabouts: VecDeque<(PeerId, Vec<Multiaddr>)>,
    pub(super) last_bootstrap: Option<Timestamp>,
    pub(super) bytes_sent: u64,
    pub(super) heads_refused: u64,
    pub(super) inbound_failed: u64,
    /// How many announcements are looked at.
    pub(super) pace: Pace,
    pub(super) heard: Heard,
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
        loop {
            tokio::select! { biased;
                command = commands.recv() => match command {
                    // Nobody is left to speak to this node, or it was told to stop.
                    None => break,
                    Some(Command::Stop(reply)) => {
                        self.disconnect_all().await;
                        self.finish_work().await;
                        // Whoever waits may open the folder again: nothing of it may be held any longer.
                        drop(self);
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                },
                // Before whatever comes from others: a swarm that always has an event would hold them up for ever.
                _ = again.tick() => self.read_all_heads(),
                _ = pulse.tick() => {
                    self.publish_heads_read();
                    self.dial_lost();
                    self.leave_the_silent();
                    self.send_away_the_unbearable();
                    self.reply_bound(Some(Instant::now()));
                    self.listen_again(Instant::now());
                    self.outbox.settle();
                    self.observer.tell_of(|| Event::Loaded(self.load()));
                }
                _ = trim.tick() => {
                    self.trim();
                    self.forgive();
                }
                _ = sweep.tick() => self.sweep_records(),
                Some(work) = self.beside.next(), if self.beside.is_busy() => self.finished(work),
                event = self.swarm.select_next_some() => self.swarm_event(event),
                // Reached only when the swarm has nothing more to say: all addresses of a new listener are known.
                () = std::future::ready(()), if self.has_bound() => self.reply_bound(None),
            }
            self.take_heads();
            // Nothing else here waits where there is always something to do, and without a pause tokio's own timers and
            // channels are not ready any more.
            tokio::task::consume_budget().await;
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Listen(address, reply) => self.listen(address, reply),
            Command::Subscribe(reply) => {
                let _ = reply.send(self.subscribe());
            }
            Command::Dial(target, reply) => self.dial(target, reply),
            Command::Bootstrap(reply) => self.bootstrap(reply),
            Command::PutHead(head, reply) => self.put_head(*head, reply),
            Command::Stored(head, reply) => {
                let _ = reply.send(self.stored(&head));
            }
            Command::GetHead(package, reply) => self.get_head(&package, reply),
            Command::Announce(head, reply) => {
                let _ = reply.send(self.announce(head));
            }
            Command::Provide(root, reply) => self.provide(root, reply),
            Command::StopProviding(root) => self.stop_providing(root),
            Command::Providers(root, found) => self.providers(root, found),
            Command::FindPeer(peer, reply) => self.find_peer(peer, reply),
            Command::Fetch(peer, request, reply) => self.fetch(peer, request, reply),
            Command::Credit(peer) => self.credit(&peer),
            Command::Refresh(reply) => self.refresh(reply),
            Command::Reconfigure { topic, connections_max, connections } => {
                self.connections.set_marks(connections);
                let admission = &mut self.swarm.behaviour_mut().admission;
                admission.set_established(connections_max as usize, connections.high);
                self.reconfigure(topic);
            }
            Command::Snapshot(reply) => {
                let _ = reply.send(Box::new(self.snapshot()));
            }
            Command::Disconnect(peer, reply) => {
                let _ = reply.send(self.send_away(&peer));
            }
            Command::Block(peer, reason) => self.refuse(peer, reason, true),
            Command::Unblock(peer) => {
                self.blocked.remove(&peer);
                self.swarm.behaviour_mut().blocked.unblock_peer(peer);
            }
            Command::Stop(_) => unreachable!("handled by the loop"),
        }
    }

    fn listen(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<Vec<Multiaddr>, Error>>) {
        match self.swarm.listen_on(address.clone()) {
            Ok(listener) => {
                let bound = Vec::new();
                self.listeners.opened(listener, address.clone(), 0);
                self.listens.push(Listening { listener, address, bound, bound_since: None, reply });
            }
            Err(error) => {
                let source = super::events::listen_error(error);
                let _ = reply.send(Err(Error::Listen { address, source }));
            }
        }
    }

    /// Listens again where a listener closed.
    fn listen_again(&mut self, now: Instant) {
        for lost in self.listeners.due(now) {
            match self.swarm.listen_on(lost.address.clone()) {
                Ok(listener) => self.listeners.opened(listener, lost.address, lost.failures),
                Err(error) => {
                    tracing::warn!(address = %lost.address, %error, "still not listening");
                    self.listeners.failed(lost.address, lost.failures, now);
                }
            }
        }
    }

    fn has_bound(&self) -> bool {
        self.listens.iter().any(|listening| listening.bound_since.is_some())
    }

    /// Tells what was bound: all of it or, where the swarm never comes to rest, what was bound a pulse ago or longer.
    fn reply_bound(&mut self, now: Option<Instant>) {
        let is_due = |listening: &Listening| {
            listening.bound_since.is_some_and(|since| now.is_none_or(|now| now >= since + PULSE))
        };
        let (bound, waiting) = std::mem::take(&mut self.listens).into_iter().partition(is_due);
        self.listens = waiting;
        for Listening { bound, reply, .. } in bound {
            let _ = reply.send(Ok(bound));
        }
    }

    fn subscribe(&mut self) -> bool {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match gossip.subscribe(&self.topic) {
            Ok(new) => {
                if new && let Err(error) = gossip.set_topic_params(self.topic.clone(), topic_score()) {
                    tracing::error!(%error, "the topic is not scored");
                }
                new
            }
            Err(error) => {
                tracing::error!(%error, "cannot subscribe");
                false
            }
        }
    }

    fn reconfigure(&mut self, topic: String) {
        let behaviour = self.swarm.behaviour_mut();
        let topic = IdentTopic::new(topic);
        if topic.hash() == self.topic.hash() {
            return;
        }
        let was_subscribed = behaviour.gossip.unsubscribe(&self.topic);
        self.topic = topic;
        if was_subscribed {
            self.subscribe();
        }
    }

    fn dial(&mut self, target: Target, reply: oneshot::Sender<Result<PeerId, DialFailure>>) {
        if self.dials.len() >= PENDING_MAX {
            let _ = reply.send(Err(DialFailure::Denied("too many dials are under way".to_owned())));
            return;
        }
        let named = match &target {
            Target::Peer(peer, _) => Some(*peer),
            Target::Address(address) => address.iter().last().and_then(|part| match part {
                Protocol::P2p(peer) => Some(peer),
                _ => None,
            }),
        };
        if let Some(peer) = named {
            if peer == *self.swarm.local_peer_id() {
                let _ = reply.send(Err(DialFailure::Own));
                return;
            }
            if self.swarm.is_connected(&peer) {
                let _ = reply.send(Ok(peer));
                return;
            }
        }
        if let Target::Address(address) = &target
            && let Some(peer) = self.connected_at(address)
        {
            let _ = reply.send(Ok(peer));
            return;
        }
        let options = match target {
            Target::Address(address) => DialOpts::unknown_peer_id().address(address).build(),
            Target::Peer(peer, mut addresses) => {
                let met = self.whereabouts.iter().find(|(met, _)| *met == peer);
                let more = met.map_or(&[][..], |(_, more)| more);
                addresses
                    .extend(more.iter().filter(|it| !addresses.contains(it)).cloned().collect::<Vec<_>>());
                DialOpts::peer_id(peer)
                    .condition(PeerCondition::Disconnected)
                    .addresses(addresses)
                    .extend_addresses_through_behaviour()
                    .build()
            }
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(connection, (named, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(dial_failure(named, &error)));
            }
        }
    }

    /// The peer that is connected and answers under an address that names nobody.
    fn connected_at(&self, address: &Multiaddr) -> Option<PeerId> {
        let dialled = |peer: &Peer| peer.connections.values().any(|(at, dialled)| *dialled && at == address);
        self.peers.iter().find(|(_, peer)| dialled(peer) || peer.told.contains(address)).map(|(id, _)| *id)
    }

    pub(super) fn announce(&mut self, head: Vec<u8>) -> usize {
        let hash = self.topic.hash();
        let local = *self.swarm.local_peer_id();
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let digest = Sha256::digest(&head).into();
        let published = gossip.publish(self.topic.clone(), head);
        let is_new = published.is_ok();
        if is_new {
            self.heard.accepted(digest, Some(local), Instant::now());
        }
        match published {
            Ok(_) | Err(libp2p::gossipsub::PublishError::Duplicate) => {
                let peers = gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash)).count();
                if is_new {
                    self.observer.tell(&Event::Announcing { digest, peers });
                }
                peers
            }
            Err(error) => {
                tracing::debug!(%error, "not announced now");
                0
            }
        }
    }

    /// Refuses a peer for a while, for what the loop itself saw of it.
    pub(super) fn block(&mut self, peer: PeerId, reason: String) {
        self.refuse(peer, reason, false);
    }

    /// Refuses those who send more by gossip than can be borne. Twice a second: what they send until then is bounded by their
    /// connection.
    fn send_away_the_unbearable(&mut self) {
        for (peer, why) in self.swarm.behaviour_mut().gossip.take_unbearable() {
            tracing::warn!(%peer, why, "a peer is refused");
            self.block(peer, why.to_owned());
        }
    }

    fn refuse(&mut self, peer: PeerId, reason: String, is_asked: bool) {
        if !is_asked {
            self.observer.tell(&Event::Refused { peer });
        }
        if let Some(forgotten) = self.blocked.add(peer, is_asked, Instant::now()) {
            self.swarm.behaviour_mut().blocked.unblock_peer(forgotten);
        }
        self.remember_refused(peer, reason);
        self.send_away(&peer);
        self.swarm.behaviour_mut().blocked.block_peer(peer);
        self.swarm.behaviour_mut().kad.remove_peer(&peer);
    }

    /// Accepts those again that were refused for long enough.
    fn forgive(&mut self) {
        for peer in self.blocked.ended(Instant::now()) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
    }

    pub(super) fn remember_refused(&mut self, peer: PeerId, reason: String) {
        self.refused.retain(|refused| refused.peer != peer);
        self.refused.push_back(Refused { peer, reason, at: Timestamp::now() });
        if self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
    }

    /// Tells the bookkeeping, and says whether it will hear; where it cannot keep up, it misses an event that comes again.
    pub(super) fn emit(&mut self, event: Event) -> bool {
        self.observer.tell(&event);
        self.outbox.tell(event)
    }

    /// Notes that a peer said something, whatever it was.
    pub(super) fn heard(&mut self, peer: &PeerId) {
        let now = Instant::now();
        let Some(known) = self.peers.get_mut(peer) else { return };
        if known.heard.is_none_or(|heard| heard + HEARD_INTERVAL <= now) {
            known.heard = Some(now);
            self.emit(Event::Seen { peer: *peer });
        }
    }

    pub(super) fn publish_heads_read(&self) {
        let read = HeadsRead {
            peers: self.peers.values().filter(|peer| peer.reading.is_some()).count(),
            complete: self
                .peers
                .values()
                .filter(|peer| peer.reading.as_ref().is_some_and(Reading::is_settled))
                .count(),
            unidentified: self.unidentified(),
        };
        self.heads.send_if_modified(|held| std::mem::replace(held, read) != read);
    }

    /// Connected peers that have not said who they are, as long as it is worth waiting for them.
    pub(super) fn unidentified(&self) -> usize {
        let now = Instant::now();
        self.peers.values().filter(|peer| peer.awaited_until.is_some_and(|until| now < until)).count()
    }

    /// Waits a moment for what runs beside the loop, which uses the store.
    async fn finish_work(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, self.beside.next()).await {}
    }

    /// Closes every connection and gives the farewells a moment to leave.
    async fn disconnect_all(&mut self) {
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.swarm.network_info().num_peers() > 0 {
            if tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await.is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
