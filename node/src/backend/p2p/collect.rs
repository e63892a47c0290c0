//! `gc`, and room in a store that is full: when blocks are evicted, and what people are told of it. What is evicted `evict` says.
//!
//! Nothing is fetched for an installation and nothing is packed while blocks are evicted (`Node::collecting`).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    evict::{self, Evicted, Item, Kind, Marks, Wanted},
    failure::fail,
    gone,
    node::Node,
};
use crate::{
    code::Code,
    config::P2PConfig,
    control::api::{CollectRequest, Collected, CollectedItem, Failure, PartialInstall},
    network::Offload,
    package::unpack,
    store::{
        self, HomeLock, Store,
        packages::{self, HeldPackage},
        partial::{self, Partial},
    },
    time::Timestamp,
};

/// How long `gc`, or a publication that needs room, waits for installations and publications that run.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long what an interrupted installation left is kept for the next one.
const PARTIAL_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// When it is first looked for what nobody came back for.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// How often it is looked for that after the first time.
const LOOK_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Interrupted installations that `status` tells of.
const PARTIALS_SHOWN: usize = 10;

/// Keeps those who rely on blocks that nothing names yet apart from what evicts blocks.
///
/// An eviction waits until nothing is relied on, and nobody waits for one that waits: only for one that is being carried out.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    gate: Arc<RwLock<()>>,
    let_go: Arc<Notify>,
    /// What is being fetched, which needs room.
    coming: Arc<Coming>,
}

/// Held while blocks are relied on that may belong to nothing yet: nothing is evicted as long as one of these is there.
#[derive(Debug)]
pub(super) struct Relied {
    // Dropped first: an eviction that is told finds the gate free.
    _gate: OwnedRwLockReadGuard<()>,
    _told: Told,
    _out: Option<Out>,
}

#[derive(Debug)]
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// Held while blocks are evicted: nothing is relied on, and nobody else evicts, as long as it is there.
#[derive(Debug)]
struct Alone {
    // Dropped first: another eviction that is told finds the gate free.
    _gate: OwnedRwLockWriteGuard<()>,
    _told: Told,
}

/// Takes packages out of those that are being fetched.
#[derive(Debug)]
struct Out {
    coming: Arc<Coming>,
    number: u64,
}

impl Drop for Out {
    fn drop(&mut self) {
        self.coming.packages().remove(&self.number);
    }
}

/// The packages that are being fetched, in the order in which that was asked for: what is not here of them has its room.
#[derive(Debug, Default)]
struct Coming {
    next: AtomicU64,
    packages: Mutex<BTreeMap<u64, Vec<HeldPackage>>>,
}

impl Coming {
    fn packages(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<HeldPackage>>> {
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, held: Vec<HeldPackage>) -> Out {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.packages().insert(number, held);
        Out { coming: Arc::clone(self), number }
    }

    /// Those that came before, and the ones of this number.
    fn up_to(&self, number: u64) -> Vec<HeldPackage> {
        let mut all: Vec<HeldPackage> = Vec::new();
        for held in self.packages().range(..=number).flat_map(|(_, held)| held) {
            if all.iter().all(|it| it.root != held.root) {
                all.push(held.clone());
            }
        }
        all
    }
}

impl Collecting {
    /// Relies on blocks as soon as none are being evicted.
    ///
    /// # Errors
    /// [`Code::Busy`] where that takes longer.
    pub(super) async fn rely(&self, deadline: Instant) -> Result<Relied, Failure> {
        let gate = timeout_at(deadline, self.gate.clone().read_owned()).await.map_err(|_| evicting())?;
        Ok(Relied { _gate: gate, _told: Told(self.let_go.clone()), _out: None })
    }

    /// Waits until nothing is relied on and nobody else evicts; none where that takes longer.
    async fn alone(&self, patience: Duration) -> Option<Alone> {
        let deadline = Instant::now() + patience;
        loop {
            let mut let_go = std::pin::pin!(self.let_go.notified());
            let_go.as_mut().enable();
            if let Ok(gate) = self.gate.clone().try_write_owned() {
                return Some(Alone { _gate: gate, _told: Told(self.let_go.clone()) });
            }
            timeout_at(deadline, let_go).await.ok()?;
        }
    }
}

impl Node {
    /// Frees what nobody here needs, or says what that is.
    pub(super) async fn collect(&self, request: CollectRequest) -> Result<Collected, Failure> {
        if request.dry_run {
            let now = self.time_to_forget();
            return self.with_store(move |store| planned(store, now)).await;
        }
        // Nothing is packed meanwhile.
        let turn = timeout(PATIENCE, self.publishing.lock()).await.map_err(|_| busy())?;
        let forget = |store: &Store| evict::with_reserve(store, || evict::forget_deleted(store));
        let forgotten = self.with_store(forget).await?;
        let items = self.evict(Wanted::All, Vec::new(), PATIENCE).await?;
        drop(turn);
        let held = self.with_store(Store::stats).await?.bytes;
        tracing::info!(bytes = bytes_of(&items), items = items.len(), "what nobody here needs was freed");
        Ok(told(&items, forgotten, held, false))
    }

    /// Begins to fetch packages into these folders: makes room for what is not here, notes each of them, so that what is left of it is
    /// known where it does not come to its end, and keeps what is here of them.
    ///
    /// # Errors
    /// [`Code::Limit`] where there is no room, [`Code::Busy`] where it was waited too long for others.
    pub(super) async fn begin(
        &self,
        packages: Vec<(HeldPackage, PathBuf)>,
        deadline: Instant,
    ) -> Result<Relied, Failure> {
        let held: Vec<HeldPackage> = packages.iter().map(|(held, _)| held.clone()).collect();
        // Its number says what comes before it.
        let out = self.collecting.coming.enter(held.clone());
        if self.config().store_bytes_max.is_some() {
            let (coming, own) = (self.collecting.coming.up_to(out.number), held.clone());
            let [lacking, own] = self
                .with_store(move |store| Ok([lacking_bytes(store, &coming)?, lacking_bytes(store, &own)?]))
                .await?;
            if own > 0 {
                let patience = deadline.saturating_duration_since(Instant::now());
                self.make_room(lacking, held, patience).await?;
            }
        }
        let relied = Relied { _out: Some(out), ..self.collecting.rely(deadline).await? };
        let now = self.now();
        let noted = self.with_store(move |store| {
            store.write(|tx| {
                for (package, target) in packages {
                    // What is here as a whole is not fetched.
                    if packages::get(tx, &package.root)?.is_empty() {
                        partial::insert(tx, &Partial { package, target, started_at: now })?;
                    }
                }
                Ok(())
            })
        });
        noted.await?;
        Ok(relied)
    }

    /// Makes room for so many more bytes where the store has a bound, by evicting what is of the least value.
    ///
    /// # Errors
    /// [`Code::Limit`] where all that is left is needed. Nothing was evicted then, unless what is needed changed while it was evicted.
    pub(super) async fn make_room(
        &self,
        bytes: u64,
        spared: Vec<HeldPackage>,
        patience: Duration,
    ) -> Result<(), Failure> {
        let Some(most) = self.config().store_bytes_max else { return Ok(()) };
        let held = self.with_store(Store::stats).await?.bytes;
        let lacking = held.saturating_add(bytes).saturating_sub(most);
        if lacking == 0 {
            return Ok(());
        }
        let items = self.evict(Wanted::Bytes(lacking), spared, patience).await?;
        let freed = bytes_of(&items);
        if !items.is_empty() {
            tracing::info!(freed, items = items.len(), "blocks were evicted to make room");
        }
        if freed < lacking { Err(no_room(bytes, held, most)) } else { Ok(()) }
    }

    /// As [`Node::make_room`] for what is here already, as far as that can be done at once.
    pub(super) async fn trim(&self) {
        if let Err(failure) = self.make_room(0, Vec::new(), Duration::ZERO).await {
            tracing::debug!(failure.message, "the store is larger than it should be");
        }
    }

    async fn evict(
        &self,
        wanted: Wanted,
        spared: Vec<HeldPackage>,
        patience: Duration,
    ) -> Result<Vec<Item>, Failure> {
        let gate = self.collecting.alone(patience).await.ok_or_else(busy)?;
        let now = self.time_to_forget();
        let ((at_work, store), offload, network) = (self.at_work(), self.offload, self.network.clone());
        let (told, done) = oneshot::channel();
        // To the end also where nobody waits for it any more: what was evicted is not provided either.
        self.spawn(async move {
            let evicted = offload.run(move || {
                let (_gate, _at_work, store) = (gate, at_work, store);
                let evicted = evict::evict(&store, wanted, &spared, now)?;
                sweep_targets(&evicted.items);
                Ok::<_, store::Error>(evicted)
            });
            let evicted = evicted.await;
            if let Some(Ok(Evicted { roots, .. })) = &evicted {
                for root in roots {
                    if let Err(error) = network.stop_providing(*root).await {
                        tracing::warn!(%error, "a tree that was evicted is still provided");
                    }
                }
            }
            let _ = told.send(evicted);
        });
        let evicted = done.await.ok().flatten().ok_or_else(|| gone("the eviction"))?;
        let Evicted { items, roots } = evicted.map_err(fail)?;
        roots.iter().for_each(|root| self.forget_providers(root));
        Ok(items)
    }

    /// What interrupted installations left, for `status`.
    pub(super) async fn partial_installs(&self) -> Result<Vec<PartialInstall>, Failure> {
        let read = self.with_store(|store| {
            let mut shown = Vec::new();
            for row in store.read(partial::list_all)? {
                if shown.len() == PARTIALS_SHOWN {
                    break;
                }
                shown.extend(Some(described(store, row)?).filter(|it| it.bytes_held > 0));
            }
            Ok(shown)
        });
        read.await
    }

    /// Evicts what nobody came back for, and takes expired pins away.
    async fn tidy_up(&self) -> Result<(), Failure> {
        let now = self.time_to_forget();
        let is_due = self.with_store(move |store| {
            evict::expire_pins(store, now)?;
            let partials = store.read(partial::list_all)?;
            Ok(partials.iter().any(|it| it.started_at < now.minus(PARTIAL_KEPT)))
        });
        if is_due.await? {
            self.evict(Wanted::Abandoned(now.minus(PARTIAL_KEPT)), Vec::new(), PATIENCE).await?;
        }
        Ok(())
    }
}

/// Tidies up now and then, until the node stops.
pub(super) async fn tidy(node: Arc<Node>) {
    let mut wait = FIRST_LOOK;
    loop {
        sleep(wait).await;
        wait = LOOK_INTERVAL;
        if let Err(failure) = node.tidy_up().await {
            tracing::info!(failure.message, "what interrupted installations left is still here");
        }
    }
}

/// Frees what nobody needs in the state folder of a node that does not run, or says what that is.
///
/// # Errors
/// As the running node, and [`Code::AlreadyRunning`] where one runs.
pub async fn collect_offline(config: P2PConfig, request: CollectRequest) -> Result<Collected, Failure> {
    let folder = config.state_dir.clone();
    let collect = move || {
        let lock = HomeLock::acquire(&config.state_dir).map_err(fail)?;
        let store = super::open_store(&config.state_dir)?;
        let collected = collect_in(&store, request, Timestamp::now());
        drop((store, lock));
        collected.map_err(fail)
    };
    let collected = Offload::Threads.run(move || match collect() {
        // Even opening takes space.
        Err(failure) if failure.code == Code::DiskFull && Store::give_up_reserve_in(&folder) => collect(),
        collected => collected,
    });
    collected.await.ok_or_else(|| gone("the collection"))?
}

fn collect_in(store: &Store, request: CollectRequest, now: Timestamp) -> Result<Collected, store::Error> {
    if request.dry_run {
        return planned(store, now);
    }
    let forgotten = evict::with_reserve(store, || evict::forget_deleted(store))?;
    let evicted = evict::evict(store, Wanted::All, &[], now)?;
    sweep_targets(&evicted.items);
    Ok(told(&evicted.items, forgotten, store.stats()?.bytes, false))
}

fn planned(store: &Store, now: Timestamp) -> Result<Collected, store::Error> {
    let items = evict::evictable(store, now)?;
    Ok(told(&items, evict::deleted_folders(store)?, store.stats()?.bytes, true))
}

/// Makes room for so many more bytes in the store of a node that does not run.
///
/// # Errors
/// [`Code::Limit`] where all that is left is needed.
pub(super) fn make_room_in(store: &Store, bytes: u64, most: u64) -> Result<(), Failure> {
    let held = store.stats().map_err(fail)?.bytes;
    let lacking = held.saturating_add(bytes).saturating_sub(most);
    if lacking == 0 {
        return Ok(());
    }
    let evicted = evict::evict(store, Wanted::Bytes(lacking), &[], Timestamp::now()).map_err(fail)?;
    sweep_targets(&evicted.items);
    if bytes_of(&evicted.items) < lacking { Err(no_room(bytes, held, most)) } else { Ok(()) }
}

/// Removes the staging folders that interrupted installations left beside their targets.
fn sweep_targets(items: &[Item]) {
    let parents: BTreeSet<_> = items
        .iter()
        .filter_map(|item| match &item.kind {
            Kind::Partial(partial) => partial.target.parent().map(ToOwned::to_owned),
            Kind::Leftover | Kind::Cached(_) => None,
        })
        .collect();
    for parent in parents {
        match unpack::sweep_partials(&parent) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "staging folders were not looked for"),
        }
    }
}

/// Bytes of packages that are not here, as far as that is known.
fn lacking_bytes(store: &Store, held: &[HeldPackage]) -> Result<u64, store::Error> {
    let mut lacking = 0u64;
    for package in held {
        if store.read(|conn| packages::get(conn, &package.root))?.is_empty() {
            lacking = lacking.saturating_add(package.size.saturating_sub(bytes_here(store, package)?));
        }
    }
    Ok(lacking)
}

pub(super) fn bytes_here(store: &Store, package: &HeldPackage) -> Result<u64, store::Error> {
    let mut marks = Marks::default();
    marks.unfinished(store, package)?;
    let ids: Vec<_> = marks.seen.into_iter().collect();
    Ok(store.bytes_of(&ids)?.min(package.size))
}

fn described(store: &Store, row: Partial) -> Result<PartialInstall, store::Error> {
    Ok(PartialInstall {
        id: named(&row.package),
        cid: row.package.root.to_string(),
        size: row.package.size,
        bytes_held: bytes_here(store, &row.package)?,
        path: row.target.display().to_string(),
        started_at: row.started_at.to_string(),
    })
}

fn named(held: &HeldPackage) -> String {
    format!("{}@{}", held.package, held.version)
}

fn bytes_of(items: &[Item]) -> u64 {
    items.iter().map(|item| item.bytes).sum()
}

fn told(items: &[Item], forgotten: Vec<PathBuf>, held: u64, dry_run: bool) -> Collected {
    let bytes = bytes_of(items);
    let item = |item: &Item| {
        let (kind, id) = match &item.kind {
            Kind::Leftover => ("leftover", String::new()),
            Kind::Partial(partial) => ("partial", named(&partial.package)),
            Kind::Cached(held) => ("cached", named(held)),
        };
        CollectedItem { kind: kind.to_owned(), id, bytes: item.bytes, blocks: item.blocks.len() as u64 }
    };
    Collected {
        dry_run,
        bytes,
        blocks: items.iter().map(|item| item.blocks.len() as u64).sum(),
        items: items.iter().map(item).collect(),
        forgotten: forgotten.iter().map(|path| path.display().to_string()).collect(),
        bytes_left: if dry_run { held.saturating_sub(bytes) } else { held },
    }
}

fn busy() -> Failure {
    Failure::new(
        Code::Busy,
        "Installations or publications are in progress; nothing was freed.",
        "Try again when they are done.",
    )
}

fn evicting() -> Failure {
    Failure::new(
        Code::Busy,
        "Blocks are being evicted to make room; nothing was changed.",
        "Try again when that is done.",
    )
}

fn no_room(bytes: u64, held: u64, most: u64) -> Failure {
    let what = match bytes {
        0 => format!("The store holds {held} bytes, and at most {most} are allowed."),
        bytes => format!("{bytes} bytes do not fit: the store holds {held} of at most {most} bytes."),
    };
    Failure::new(
        Code::Limit,
        format!("{what} Too little of it can be freed: the rest is installed, published or pinned."),
        "Raise the limit: ggen marketplace p2p config set limits.store_bytes_max <bytes>\n\
         Or see what can be freed: ggen marketplace p2p gc --dry-run",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::p2p::{P2PRegistry, Parts, evict::tests::World, publish::tests::registry},
        content::{Codec, ContentId},
        control::api::{KeepAction, KeepRequest},
        identity::Publisher,
        network::transport,
    };

    #[tokio::test]
    async fn an_eviction_that_waits_for_an_installation_holds_up_no_other() {
        let registry = registry(Store::in_memory().unwrap()).await;
        let node = &registry.node;
        let soon = || Instant::now() + Duration::from_secs(5);
        let first = node.begin(Vec::new(), soon()).await.unwrap();
        let mut evicting = std::pin::pin!(node.evict(Wanted::All, Vec::new(), Duration::from_secs(60)));
        let waits = timeout(Duration::from_millis(20), evicting.as_mut()).await;
        assert!(waits.is_err(), "what is relied on is not evicted");
        let second = node.begin(Vec::new(), soon()).await.expect("others go on");
        let list = KeepRequest { action: KeepAction::List, ..KeepRequest::default() };
        node.keep(list).await.expect("pins too");
        drop(first);
        assert!(timeout(Duration::from_millis(20), evicting.as_mut()).await.is_err(), "there is the second");
        drop(second);
        timeout(Duration::from_secs(5), evicting).await.expect("nothing is relied on").unwrap();
        // What comes while it is carried out waits for it, within bounds.
        let alone = node.collecting.alone(Duration::ZERO).await.unwrap();
        let refused = node.begin(Vec::new(), Instant::now()).await.unwrap_err();
        assert_eq!((refused.code, refused.retryable), (Code::Busy, true));
        drop(alone);
        node.begin(Vec::new(), soon()).await.unwrap();
    }

    #[tokio::test]
    async fn an_eviction_that_waits_for_another_one_begins_when_that_is_done() {
        let collecting = Collecting::default();
        let first = collecting.alone(Duration::ZERO).await.unwrap();
        let mut second = std::pin::pin!(collecting.alone(Duration::from_secs(60)));
        assert!(timeout(Duration::from_millis(20), second.as_mut()).await.is_err(), "one at a time");
        drop(first);
        timeout(Duration::from_secs(5), second).await.expect("it is told").unwrap();
    }

    #[tokio::test]
    async fn what_is_being_fetched_has_its_room() {
        let publisher = Publisher::from_secret([1; 32], Timestamp::now());
        let package = format!("{}/pack", publisher.id()).parse().unwrap();
        let fetched = |number: u8, size: u64| {
            let id = ContentId::from_digest(Codec::DagPb, [number; 32]);
            let version = semver::Version::new(u64::from(number), 0, 0);
            let package: crate::package::PackageId = Clone::clone(&package);
            let held = HeldPackage { root: id, manifest: id, package, version, size };
            vec![(held, format!("/somewhere/{number}").into())]
        };
        let parts = Parts {
            transport: transport::tcp_without_dns(),
            node_key: libp2p::identity::Keypair::generate_ed25519(),
            publisher,
            store: Store::in_memory().unwrap(),
            offload: Offload::Threads,
            observer: crate::network::Observer::default(),
            spawner: crate::network::Spawner::default(),
            metrics: crate::network::Metrics::default(),
        };
        let mut config = P2PConfig::with_state_dir("/nowhere");
        config.store_bytes_max = Some(100 << 20);
        let registry = P2PRegistry::with_parts(config, parts).await.unwrap();
        let node = &registry.node;
        let soon = || Instant::now() + Duration::from_millis(200);
        let first = node.begin(fetched(1, 60 << 20), soon()).await.unwrap();
        let again = node.begin(fetched(1, 60 << 20), soon()).await.unwrap();
        drop(again);
        let error = node.begin(fetched(2, 60 << 20), soon()).await.unwrap_err();
        assert_eq!(error.code, Code::Busy, "the first one may fill it");
        let small = node.begin(fetched(3, 30 << 20), soon()).await.unwrap();
        drop((first, small));
        drop(node.begin(fetched(2, 60 << 20), soon()).await.unwrap());
        assert_eq!(node.begin(fetched(4, 200 << 20), soon()).await.unwrap_err().code, Code::Limit);
    }

    #[test]
    fn what_is_here_of_an_interrupted_installation_is_told() {
        let world = World::new();
        let held = world.publish("1.0.0", &[1, 2]);
        let (partial, _) = world.interrupt(&held);
        let told = described(&world.store, partial).unwrap();
        assert!(told.bytes_held > 20_000 && told.bytes_held < told.size, "{told:?}");
        assert_eq!((told.path.as_str(), told.size), ("/somewhere/out", held.size));
        let lacking = lacking_bytes(&world.store, std::slice::from_ref(&held)).unwrap();
        assert_eq!(lacking, told.size - told.bytes_held);
    }
}
