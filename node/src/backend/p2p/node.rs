//! What all parts of the registry share.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    P2PConfig, announce, audit, backfill, bookkeeping,
    clock::{Clock, clock_fault, clock_off},
    collect::{self, Collecting},
    confirm, continued,
    events::{self, Events},
    failure::fail,
    gone,
    join::Entering,
    keys,
    limit::Looked,
    outbox, pacing,
    reference::Verdict,
    signing::{DEFAULT_KEY, Keys, given, published_before},
    twin::Twin,
    watch,
};
use crate::{
    config::{self, Partial, Role, keys::Reload},
    content::ContentId,
    control::api::{Failure, Reloaded},
    heads::lookup::Ended,
    identity::{Publisher, PublisherId},
    network::{Event, FirstContact, Handle, Metrics, Offload, Provider},
    peers::trim::Marks,
    store::{self, HomeLock, Store},
    time::Timestamp,
};

/// How long tasks may take to end at a shutdown. The network then takes two seconds at most for its farewells.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take to find out whether a provider can be reached.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Providers of one tree of which that is found out at once: as many as one node names.
const PROBES_AT_ONCE: usize = 20;
/// Trees whose providers are remembered for a moment.
const PROVIDERS_REMEMBERED_MAX: usize = 1_024;
/// How long a lookup of providers is good for.
const PROVIDERS_FRESH: Duration = Duration::from_secs(30);
/// How long a connection may be dead before it is given up, and the clocks of heads, which are whole seconds.
const LOSS_UNNOTICED_MAX: Duration = Duration::from_secs(90);

/// The longest time that a verb can be given; what is over it counts as this.
const ASKED_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The time that a verb was given, or its own.
pub(super) fn asked_time(secs: Option<u64>, default: Duration) -> Duration {
    secs.map_or(default, Duration::from_secs).min(ASKED_TIME_MAX)
}

/// The inside of a registry.
#[derive(Debug)]
pub(super) struct Node {
    config: RwLock<Arc<P2PConfig>>,
    /// Where the configuration can be read again.
    source: Mutex<Option<Source>>,
    pub(super) network: Handle,
    /// Who is told what happens.
    pub(super) events: Events,
    /// What libp2p counts.
    pub(super) counts: Metrics,
    pub(super) store: Store,
    pub(super) offload: Offload,
    pub(super) keys: Keys,
    /// One publication at a time: each continues the log that the one before it left.
    pub(super) publishing: Arc<tokio::sync::Mutex<()>>,
    pub(super) collecting: Collecting,
    /// One change of a folder that is there already at a time: two to the same one would be in each other's way.
    pub(super) replacing: Arc<tokio::sync::Mutex<()>>,
    /// There may be somebody new to tell of our packages.
    pub(super) audience: Notify,
    /// What waits in the outbox may be published now.
    pub(super) outbox: Notify,
    pub(super) first_contact: FirstContact,
    /// Heads of ours may be signed again, or a log of ours may have gone on elsewhere.
    pub(super) renewing: Notify,
    /// The log of a package that was installed did not come to its end.
    pub(super) lacking_log: Notify,
    /// Something of ours changed, or somebody came: there may be something to confirm.
    pub(super) confirming: Notify,
    /// Told when the limits of the line may have changed.
    pub(super) pacing: Notify,
    /// Since when somebody who is back may have missed what we told.
    missed: Mutex<Option<Timestamp>>,
    pub(super) listening: AtomicBool,
    /// The addresses of QUIC that it was to listen on and does not.
    pub(super) without_quic: Mutex<Vec<Multiaddr>>,
    /// Whether no peer of the configuration is connected, and none of them answers.
    without_entrance: AtomicBool,
    /// The addresses of the configuration at which another peer answered when they were dialled last than they name.
    strangers: Mutex<BTreeMap<Multiaddr, PeerId>>,
    /// How far this node is on its first way into the network.
    pub(super) entering: tokio::sync::watch::Sender<Entering>,
    pub(super) started: Instant,
    /// What is known of the logs that are continued here.
    pub(super) continued: continued::Kept,
    clock: Mutex<Clock>,
    twin: Mutex<Twin>,
    /// The last look at a store that is over its limit.
    looked_at_limit: Mutex<Option<Looked>>,
    pub(super) bytes_received: AtomicU64,
    providers: Mutex<BTreeMap<ContentId, (Instant, Vec<PeerId>)>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// Held as long as the node lives, and given up when it has stopped.
    lock: Mutex<Option<HomeLock>>,
}

/// Between which numbers a node keeps its connections.
pub(super) fn marks(config: &P2PConfig) -> Marks {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Marks { low: number(config.connections_low), high: number(config.connections_high) }
}

/// Reads the configuration again.
#[derive(Clone)]
pub(super) struct Source(pub(super) Arc<dyn Fn() -> Result<P2PConfig, Failure> + Send + Sync>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Node {
    pub(super) fn new(
        config: P2PConfig,
        (network, first_contact): (Handle, FirstContact),
        store: Store,
        keys: Keys,
        offload: Offload,
        lock: Option<HomeLock>,
        (events, counts): (Events, Metrics),
    ) -> Arc<Self> {
        // Those that are made later began here.
        match keys.all() {
            Ok(publishers) => {
                for publisher in publishers {
                    network.ahead().watch(publisher.id());
                }
            }
            Err(failure) => tracing::warn!(failure.message, "the publisher keys were not read"),
        }
        Arc::new(Self {
            config: RwLock::new(Arc::new(config)),
            source: Mutex::new(None),
            network,
            events,
            counts,
            store,
            offload,
            keys,
            publishing: Arc::default(),
            collecting: Collecting::default(),
            replacing: Arc::default(),
            audience: Notify::new(),
            lacking_log: Notify::new(),
            outbox: Notify::new(),
            first_contact,
            renewing: Notify::new(),
            confirming: Notify::new(),
            pacing: Notify::new(),
            missed: Mutex::new(None),
            listening: AtomicBool::new(false),
            without_quic: Mutex::default(),
            without_entrance: AtomicBool::new(false),
            strangers: Mutex::default(),
            entering: tokio::sync::watch::Sender::new(Entering::Decided),
            started: Instant::now(),
            continued: continued::Kept::default(),
            clock: Mutex::new(Clock::new(Timestamp::now())),
            twin: Mutex::default(),
            looked_at_limit: Mutex::new(None),
            bytes_received: AtomicU64::new(0),
            providers: Mutex::new(BTreeMap::new()),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            lock: Mutex::new(lock),
        })
    }

    /// The configuration that counts now.
    pub(super) fn config(&self) -> Arc<P2PConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_source(&self, source: Source) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    /// Reads the configuration again, applies what can be applied, and says what waits for a restart.
    pub(super) async fn reload(&self) -> Result<Reloaded, Failure> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Source(read)) = source else { return Ok(Reloaded::default()) };
        let new = self.offload.run(move || read()).await.ok_or_else(|| gone("the configuration"))??;
        let before = self.config();
        let mut answer = Reloaded::default();
        let mut next = P2PConfig::clone(&before);
        let (old, wanted) = (Partial::of(&before), Partial::of(&new));
        for key in config::keys::KEYS.iter().filter(|key| key.of(&old) != key.of(&wanted)) {
            match key.reload {
                Reload::Live => answer.applied.push(key.name.to_owned()),
                Reload::Restart => answer.restart_needed.push(key.name.to_owned()),
            }
        }
        next.packages_topic = new.packages_topic;
        next.connections_max = new.connections_max;
        next.connections_low = new.connections_low;
        next.connections_high = new.connections_high;
        next.store_bytes_max = new.store_bytes_max;
        next.upload_bytes_per_second = new.upload_bytes_per_second;
        next.download_bytes_per_second = new.download_bytes_per_second;
        next.schedule = new.schedule;
        next.min_reputation = new.min_reputation;
        next.confirm_days = new.confirm_days;
        next.trust_clock = new.trust_clock;
        next.max_age_days = new.max_age_days;
        next.log_level = new.log_level;
        let topic = next.packages_topic.clone();
        self.network.reconfigure(topic, next.connections_max, marks(&next)).await.map_err(fail)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.pace();
        self.pacing.notify_one();
        self.trim().await;
        Ok(answer)
    }

    /// Writes what happens into the store. Not cut off at a stop: it writes what it has gathered, and ends by itself.
    pub(super) fn keep_books(node: &Arc<Self>, events: mpsc::Receiver<Event>) {
        node.network.spawn(node.tasks.track_future(bookkeeping::keep(node.clone(), events)));
    }

    pub(super) fn start_tasks(node: &Arc<Self>, events: mpsc::Receiver<Event>) {
        Self::keep_books(node, events);
        node.spawn(announce::announce(node.clone()));
        node.spawn(announce::keep_bans(node.clone()));
        node.outbox.notify_one();
        node.spawn(outbox::release(node.clone()));
        node.spawn(watch::watch(node.clone()));
        node.spawn(audit::audit(node.clone()));
        node.spawn(keys::renew(node.clone()));
        node.spawn(confirm::confirm(node.clone()));
        node.spawn(events::tell(node.clone()));
        node.spawn(collect::tidy(node.clone()));
        node.spawn(backfill::finish(node.clone()));
        node.spawn(pacing::keep_to_schedule(node.clone()));
    }

    /// Runs a task until it ends or the node stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        let task = async move {
            tokio::select! { biased;
                () = stopping.cancelled() => {}
                () = task => {}
            }
        };
        self.network.spawn(self.tasks.track_future(task));
    }

    /// Runs work to its end, also where nobody waits for it any more; nothing where the node ended before.
    pub(super) async fn run_to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, done) = oneshot::channel();
        let work = async move { drop(sender.send(work.await)) };
        self.network.spawn(self.tasks.track_future(work));
        done.await.ok()
    }

    /// Notes whether no peer of the configuration is connected, and none of them answers.
    pub(super) fn set_without_entrance(&self, is_without: bool) {
        self.without_entrance.store(is_without, Ordering::Relaxed);
    }

    /// Whether no peer of the configuration is connected, and none of them answers.
    pub(super) fn is_without_entrance(&self) -> bool {
        self.without_entrance.load(Ordering::Relaxed)
    }

    /// Notes whether another peer answered at an address of the configuration than it names.
    pub(super) fn note_stranger(&self, address: &Multiaddr, stranger: Option<PeerId>) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        match stranger {
            Some(peer) => drop(strangers.insert(address.clone(), peer)),
            None => drop(strangers.remove(address)),
        }
    }

    /// The addresses of the configuration at which another peer answered than they name, and which one.
    pub(super) fn strangers(&self) -> BTreeMap<Multiaddr, PeerId> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when the node is told to stop.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// The store, and a token that a shutdown waits for: to be dropped after it, so that the folder is free once the node
    /// has stopped.
    pub(super) fn at_work(&self) -> (TaskTrackerToken, Store) {
        (self.tasks.token(), self.store.clone())
    }

    /// Runs work on the store beside the runtime.
    pub(super) async fn with_store<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
    {
        let (at_work, store) = self.at_work();
        let done = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            work(&store)
        });
        let done = done.await;
        done.ok_or_else(|| gone("work on the store"))?.map_err(fail)
    }

    /// Loads the publisher that would sign; nothing where it has no key yet.
    pub(super) async fn publisher_at_hand(&self, name: Option<&str>) -> Result<Option<Publisher>, Failure> {
        if let Keys::Folder(folder) = &self.keys
            && name.is_none_or(|name| name == DEFAULT_KEY)
            && Publisher::list(folder).map_err(fail)?.is_empty()
        {
            return Ok(None);
        }
        self.publisher(name).await.map(Some)
    }

    /// Loads the publisher that signs, or makes its key where it is the first.
    pub(super) async fn publisher(&self, name: Option<&str>) -> Result<Publisher, Failure> {
        let before = match &self.keys {
            Keys::Given(publisher) => return Ok(given(publisher)),
            Keys::Folder(_) => self.with_store(published_before).await?,
        };
        self.keys.publisher(name, &before)
    }

    /// Peers that provide a tree, as the DHT says, ordered by id; remembered for a moment. False where the lookup was cut
    /// off.
    pub(super) async fn providers(&self, root: ContentId, deadline: Instant) -> (Vec<PeerId>, bool) {
        if let Some((at, providers)) = self.remembered().get(&root)
            && at.elapsed() < PROVIDERS_FRESH
        {
            return (providers.clone(), true);
        }
        let mut found = Vec::new();
        let Ok(mut lookup) = self.network.providers(root, deadline).await else { return (found, false) };
        loop {
            match lookup.recv().await {
                Some(Provider::Found { peer, is_gone }) if !is_gone => found.push(peer),
                Some(Provider::Found { .. }) => {}
                Some(Provider::End(Ended::Complete | Ended::Silent)) => break,
                // Without a last word there was no room for it.
                Some(Provider::End(Ended::CutOff | Ended::Unanswered)) | None => {
                    found.sort();
                    return (found, false);
                }
            }
        }
        found.sort();
        let found = self.reachable(found, deadline).await;
        let mut remembered = self.remembered();
        if remembered.len() >= PROVIDERS_REMEMBERED_MAX {
            remembered.retain(|_, (at, _)| at.elapsed() < PROVIDERS_FRESH);
        }
        if remembered.len() < PROVIDERS_REMEMBERED_MAX && !found.is_empty() {
            remembered.insert(root, (Instant::now(), found.clone()));
        }
        (found, true)
    }

    /// Those of the providers that can be reached, or of which that was not found out in time. A spoke believes its hubs, which are
    /// connected with all others: it would dial strangers for a number.
    pub(super) async fn reachable(&self, providers: Vec<PeerId>, deadline: Instant) -> Vec<PeerId> {
        if self.config().role == Role::Spoke {
            return providers;
        }
        let time = deadline.saturating_duration_since(Instant::now()).min(PROBE_TIMEOUT);
        let probed = stream::iter(providers).map(|peer| async move {
            let is_reached = self.network.reaches(peer, time).await;
            (peer, is_reached.unwrap_or(true))
        });
        let probed: Vec<(PeerId, bool)> = probed.buffered(PROBES_AT_ONCE).collect().await;
        probed.into_iter().filter(|(_, is_reached)| *is_reached).map(|(peer, _)| peer).collect()
    }

    /// Notes that a peer is back which was away for so long.
    pub(super) fn reunited(&self, away: Duration) {
        let since = self.now().minus(away.saturating_add(LOSS_UNNOTICED_MAX));
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        *missed = Some(missed.map_or(since, |earlier| earlier.min(since)));
        drop(missed);
        self.audience.notify_one();
    }

    /// Since when somebody may have missed what we told; the one that asks tells them.
    pub(super) fn take_missed(&self) -> Option<Timestamp> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn forget_providers(&self, root: &ContentId) {
        self.remembered().remove(root);
    }

    pub(super) fn remembered(&self) -> MutexGuard<'_, BTreeMap<ContentId, (Instant, Vec<PeerId>)>> {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The publisher with this id, where its key is here.
    pub(super) fn publisher_of(&self, id: PublisherId) -> Result<Option<Publisher>, Failure> {
        match &self.keys {
            Keys::Given(publisher) => Ok(Some(given(publisher)).filter(|publisher| publisher.id() == id)),
            keys @ Keys::Folder(_) => Ok(keys.all()?.into_iter().find(|publisher| publisher.id() == id)),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The time to sign by.
    ///
    /// # Errors
    /// [`Code::Clock`](crate::code::Code::Clock) where the clock jumped a moment ago, or so far that it cannot be right, and where the peers say that it is wrong and
    /// the user does not say that it is right.
    pub(super) fn time_to_sign(&self) -> Result<Timestamp, Failure> {
        let now = self.now();
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.is_trusted = self.config().trust_clock;
        clock.check(now, self.started.elapsed()).map_err(clock_fault)?;
        Ok(now)
    }

    /// The time by which what is kept for a while has had its time: none of it, as long as the clock cannot be believed.
    pub(super) fn time_to_forget(&self) -> Timestamp {
        self.time_to_sign().unwrap_or_default()
    }

    /// Notes what the clock of a peer says.
    pub(super) fn note_time(&self, peer: PeerId, ip: Option<IpAddr>, is_chosen: bool, time: Timestamp) {
        let (network, running) = (crate::peers::policy::Locality::of(peer, ip), self.started.elapsed());
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.reference.note(peer, network, is_chosen, time, running);
    }

    /// Whether the peers say that the wall clock is right.
    pub(super) fn is_clock_right(&self) -> bool {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.reference.verdict(self.now(), self.started.elapsed()) == Verdict::Right
    }

    /// Forgets what a peer that has gone said of the time, unless this node chose it.
    pub(super) fn forget_time(&self, peer: &PeerId) {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).reference.gone(peer);
    }

    /// What the peers say of the wall clock, where they say that it is off.
    pub(super) fn clock_off(&self) -> Option<Failure> {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_trusted = self.config().trust_clock;
        clock.off(self.now(), self.started.elapsed()).map(|off| clock_off(off, is_trusted))
    }

    /// The time to add an entry to a log of ours by.
    ///
    /// # Errors
    /// As [`Node::time_to_sign`]; [`Code::NodeKey`](crate::code::Code::NodeKey) where another node runs with the key of this one, which may add one too.
    pub(super) fn time_to_add(&self) -> Result<Timestamp, Failure> {
        self.lock_twin().check(self.started.elapsed())?;
        self.time_to_sign()
    }

    /// Notes that a peer is connected with another node that has the key of this one, and whether that one goes on first.
    pub(super) fn note_twin(&self, told_by: PeerId, is_first: bool) {
        self.lock_twin().note(told_by, is_first, self.started.elapsed());
    }

    /// Notes that a peer told of an earlier run of this node, which may go on where this state folder is a copy.
    pub(super) fn note_earlier_run(&self, told_by: PeerId) {
        tracing::info!(%told_by, "a peer knows an earlier run of this node: nothing is signed until it is known whether that one has ended");
        self.lock_twin().note_earlier(self.started.elapsed());
    }

    /// What to say of another node with the key of this one, where there was one a moment ago.
    pub(super) fn twin(&self) -> Option<String> {
        self.lock_twin().warning(self.started.elapsed())
    }

    pub(super) fn looked_at_limit(&self) -> MutexGuard<'_, Option<Looked>> {
        self.looked_at_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_twin(&self) -> MutexGuard<'_, Twin> {
        self.twin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cancel(&self) {
        self.stopping.cancel();
        self.tasks.close();
    }

    pub(super) async fn shutdown(&self) {
        self.cancel();
        let has_ended = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.tasks.wait()).await.is_ok();
        self.network.stop().await;
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if has_ended {
            return;
        }
        tracing::warn!("some tasks did not end in time");
        if let Some(lock) = lock {
            // What still writes does so in a folder that is ours.
            let tasks = self.tasks.clone();
            self.network.spawn(async move {
                tasks.wait().await;
                drop(lock);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::p2p::P2PRegistry;

    #[tokio::test]
    async fn a_task_that_does_not_end_leaves_time_for_the_farewells() {
        let home = tempfile::tempdir().unwrap();
        let registry = P2PRegistry::new(P2PConfig::with_state_dir(home.path())).await.unwrap();
        let _stuck = registry.node.at_work();
        let begun = Instant::now();
        registry.shutdown().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(registry.snapshot().await.is_err(), "the network has stopped");
    }

    #[tokio::test]
    async fn the_folder_is_not_given_up_while_somebody_writes_in_it() {
        use crate::{
            backend::p2p::{P2PRegistry, Parts},
            network::{Metrics, Observer, Spawner, transport},
        };
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts {
            transport: transport::tcp_without_dns(),
            node_key: libp2p::identity::Keypair::generate_ed25519(),
            publisher: Publisher::from_secret([1; 32], Timestamp::now()),
            store: Store::in_memory().unwrap(),
            offload: Offload::Threads,
            spawner: Spawner::default(),
            observer: Observer::default(),
            metrics: Metrics::default(),
        };
        let config = P2PConfig::with_state_dir(folder.path());
        let registry = P2PRegistry::with_parts(config, parts).await.unwrap();
        *registry.node.lock.lock().unwrap() = Some(HomeLock::acquire(folder.path()).unwrap());
        let at_work = registry.node.at_work();
        registry.shutdown().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(HomeLock::acquire(folder.path()).is_err(), "somebody is at work");
        drop(at_work);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(HomeLock::acquire(folder.path()).is_ok());
    }

    #[test]
    fn no_time_that_can_be_asked_for_is_beyond_the_clock() {
        let default = Duration::from_secs(30);
        assert_eq!(asked_time(None, default), default);
        assert_eq!(asked_time(Some(60), default), Duration::from_secs(60));
        assert!(Instant::now().checked_add(asked_time(Some(u64::MAX), default)).is_some());
    }
}
