//! Publishing: from a directory to a signed head that is durable here, or to content that waits in the outbox.
//!
//! One transaction makes the blocks, the manifest, the log entry and the head durable together; only then is anybody told. Nothing
//! is signed before it is known how far the log went elsewhere: until then the content waits, without a place in the log.
//! Telling is [`announce`](super::announce)'s: what was not heard now is told again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    KEYS_FOLDER, P2PConfig,
    collect::{PATIENCE, make_room_in},
    dependencies::check_offline,
    failure::fail,
    gone,
    history::{Standing, Thoroughness},
    node::{Node, asked_time},
    open_store,
    packed::{Before, Content, Done, Work, conflicts_with_queued},
    plan::{cancelled, unless_cancelled},
    prepared::{Prepared, job, prepare},
    signing::{Keys, published_before},
    trust,
};
use crate::{
    code::Code,
    content::ContentId,
    control::{
        api::{Failure, PublishRequest, Published},
        service::{Cancel, ProgressSender},
    },
    identity::Publisher,
    network::{FirstContact, Offload},
    package::{PackageId, manifest::Manifest, pack},
    store::{self, HomeLock, Store, published},
    time::Timestamp,
};

/// How long `publish` waits to tell others, unless it was asked to wait longer. The rest is told in the background.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a publication that waits for somebody who can be asked tries again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long `publish --wait` waits where no time was given.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// What becomes of a package once it is packed.
#[derive(Debug)]
pub(super) enum Plan {
    /// It is signed and listed: others can ask for it from then on.
    Sign(FirstContact),
    /// It waits in the outbox, unsigned, for this reason.
    Queue(Failure),
}

impl Node {
    pub(super) async fn publish(
        &self,
        request: PublishRequest,
        progress: ProgressSender,
        cancel: Cancel,
    ) -> Result<Published, Failure> {
        let timeout =
            asked_time(request.timeout_secs, if request.wait { WAIT_TIMEOUT } else { TELL_TIMEOUT });
        let waits_until = Instant::now() + timeout;
        let ready = tokio::select! { biased;
            () = cancel.cancelled() => Err(cancelled()),
            ready = self.make_ready(&request, &progress, timeout) => ready,
        };
        let Ready { turn, publisher, new_key, prepared, plan } = ready?;
        let relied_on = tokio::select! { biased;
            () = cancel.cancelled() => Err(cancelled()),
            relied_on = self.collecting.rely(Instant::now() + PATIENCE) => relied_on,
        };
        let relied_on = relied_on?;
        let ((at_work, store), telling) = (self.at_work(), progress.clone());
        // From here on it is run to its end, and looks itself whether it is still wanted.
        let until_signed = cancel.clone();
        let done = self.offload.run(move || {
            // The next one begins when this one is done, also where nobody waits for it any more.
            let (_relied_on, _turn, _at_work, store) = (relied_on, turn, at_work, store);
            make(&store, &publisher, prepared, plan, &telling, &until_signed)
        });
        let done = done.await;
        let done = done.ok_or_else(|| gone("the publication"))?;
        let Done { head, mut answer } = done.map_err(|failure| with_new_key(failure, new_key.as_deref()))?;
        answer.new_key = new_key;
        // How much it takes is known by now.
        self.trim().await;
        let wait = request.wait;
        let Some(head) = head else {
            self.outbox.notify_one();
            return if wait && answer.queued { Err(still_waits(&answer, timeout)) } else { Ok(answer) };
        };
        progress.report("announcing", 0, None, "peers");
        let deadline = waits_until.max(Instant::now() + timeout.min(TELL_TIMEOUT));
        let package = head.package_id();
        let telling = async {
            if wait { self.tell_until(&head, deadline).await } else { self.tell(&head, deadline).await }
        };
        let told = tokio::select! { biased;
            told = telling => told,
            // It is signed and listed: others hear of it from those who tell of everything.
            () = cancel.cancelled() => {
                self.audience.notify_one();
                return Ok(answer);
            }
        };
        answer.dht_stored = told.stored;
        answer.announced_to = told.heard;
        answer.announced = told.anybody();
        if told.anybody() {
            let sequence = answer.sequence;
            self.with_store(move |store| store.write(|tx| published::set_announced(tx, &package, sequence)))
                .await?;
        } else {
            answer
                .warnings
                .push("nobody has heard of it yet: it is announced as soon as a peer connects".to_owned());
            if wait {
                return Err(nobody_took(&answer, timeout));
            }
        }
        if wait && request.copies > 0 {
            progress.report("copying", 0, Some(request.copies as u64), "copies");
            tokio::select! { biased;
                copied = self.copied(&mut answer, request.copies, deadline, &progress) => copied?,
                () = cancel.cancelled() => {}
            }
        }
        Ok(answer)
    }

    /// Waits until so many other nodes that can be reached say that they have all of the content. Whether it is true shows only when
    /// somebody fetches it from them.
    async fn copied(
        &self,
        answer: &mut Published,
        copies: usize,
        deadline: Instant,
        progress: &ProgressSender,
    ) -> Result<(), Failure> {
        let root: ContentId = answer.cid.parse().map_err(|_| gone("the publication"))?;
        let own = self.network.local_peer();
        loop {
            // What was remembered of them is from before somebody fetched it.
            self.forget_providers(&root);
            let (providers, _) = self.providers(root, deadline).await;
            let others = providers.iter().filter(|peer| **peer != own).count();
            answer.copies = Some(others);
            progress.report("copying", others as u64, Some(copies as u64), "copies");
            if others >= copies {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(too_few_copies(answer, copies));
            }
            sleep_until((Instant::now() + ASK_AGAIN).min(deadline)).await;
        }
    }

    /// Looks a package over, and finds out whether it can be signed now: nothing is written.
    async fn make_ready(
        &self,
        request: &PublishRequest,
        progress: &ProgressSender,
        timeout: Duration,
    ) -> Result<Ready, Failure> {
        let job = job(request, &self.keys, self.offload)?;
        let prepared = self.offload.run(move || prepare(job)).await;
        let prepared = prepared.ok_or_else(|| gone("the publication"))??;
        let new_key = {
            let _turn = self.publishing.lock().await;
            let before = self.with_store(published_before).await?;
            self.keys.make_missing(request.key.as_deref(), &before)?
        };
        let ready = self.look_over(request, prepared, progress, timeout).await;
        let ready = ready.map_err(|failure| with_new_key(failure, new_key.as_deref()))?;
        Ok(Ready { new_key, ..ready })
    }

    async fn look_over(
        &self,
        request: &PublishRequest,
        mut prepared: Prepared,
        progress: &ProgressSender,
        timeout: Duration,
    ) -> Result<Ready, Failure> {
        if !prepared.gpack.dependencies.is_empty() {
            // Others may publish while this one asks around.
            let turn = self.publishing.lock().await;
            let publisher = self.publisher(request.key.as_deref()).await?.id();
            drop(turn);
            if let Some(root) = prepared.dependencies(publisher)? {
                let warnings = self.check_dependencies(root).await?;
                prepared.warnings.extend(warnings);
            }
        }
        let waits_until = Instant::now() + timeout;
        let name = prepared.gpack.name.clone();
        let (turn, publisher, standing) = loop {
            let turn = self.publishing.clone().lock_owned().await;
            let publisher = self.publisher(request.key.as_deref()).await?;
            match self.catch_up(&publisher, &name, Thoroughness::Brief).await? {
                // For the clock nobody waits here: it is put right by a person.
                Standing::Unknown(why) if why.code != Code::Clock && Instant::now() < waits_until => {
                    drop(turn);
                    tracing::info!(why.message, "a publication waits for somebody who can be asked");
                    progress.report("waiting", 0, None, "peers");
                    sleep_until((Instant::now() + ASK_AGAIN).min(waits_until)).await;
                }
                standing => break (turn, publisher, standing),
            }
        };
        let plan = match (standing, self.time_to_add()) {
            (Standing::Known, Ok(_)) => Plan::Sign(self.first_contact.clone()),
            (Standing::Unknown(why), _) | (Standing::Known, Err(why)) => Plan::Queue(why),
        };
        if let (Plan::Queue(why), true) = (&plan, request.no_queue) {
            return Err(why.clone());
        }
        let mut bytes = 0;
        if let Some(most) = self.config().store_bytes_max {
            let id = publisher.id();
            let counted = self.offload_store(move |store| {
                let bytes = prepared.added_bytes(store, id, most)?;
                Ok((bytes, prepared))
            });
            (bytes, prepared) = counted.await?;
        }
        self.make_room(bytes, Vec::new(), PATIENCE).await?;
        Ok(Ready { turn, publisher, new_key: None, prepared, plan })
    }
}

/// A publication that can be made.
struct Ready {
    turn: tokio::sync::OwnedMutexGuard<()>,
    publisher: Publisher,
    /// Where the key is, if it was made just now.
    new_key: Option<String>,
    prepared: Prepared,
    plan: Plan,
}

/// A failure of a publication that made a key all the same: nobody says so again.
fn with_new_key(failure: Failure, new_key: Option<&str>) -> Failure {
    let Some(path) = new_key else { return failure };
    let made =
        format!("A publisher key was made: {path}. Keep a copy: ggen marketplace p2p key export --to <FILE>");
    let hint = if failure.hint.is_empty() { made } else { format!("{}\n{made}", failure.hint) };
    Failure { hint, ..failure }
}

/// What `--wait` comes to where a publication could not be signed in time.
fn still_waits(answer: &Published, timeout: Duration) -> Failure {
    let why = answer.warnings.join("\n");
    Failure::new(
        Code::Timeout,
        format!("{} still waits after {} s.\n{why}", answer.id, timeout.as_secs()),
        "It is published as soon as that has changed. See what it waits for: ggen marketplace p2p status",
    )
}

/// What `--wait` comes to where no other node took a publication in time.
fn nobody_took(answer: &Published, timeout: Duration) -> Failure {
    Failure::new(
        Code::Timeout,
        format!("{} is published here, and no other node took it within {} s.", answer.id, timeout.as_secs()),
        "It is announced as soon as a peer connects. See who is connected: ggen marketplace p2p peer-list",
    )
}

/// What `--copies` comes to where too few nodes fetched a publication in time.
fn too_few_copies(answer: &Published, copies: usize) -> Failure {
    let others = answer.copies.unwrap_or_default();
    Failure::new(
        Code::Timeout,
        format!(
            "{} is published and announced, and {others} of {copies} other nodes say that they have all of it.",
            answer.id
        ),
        "Keep this node running, or install the package on another one: nobody else can serve it yet.",
    )
}

/// Packs a directory while no node runs, and puts it into the outbox: the node signs and announces it once it runs.
///
/// # Errors
/// As [`Registry::publish`](crate::traits::Registry::publish); also [`Code::AlreadyRunning`] where the node does run.
pub async fn publish_offline(
    config: P2PConfig,
    request: PublishRequest,
    progress: ProgressSender,
    cancel: Cancel,
) -> Result<Published, Failure> {
    let done = Offload::Threads.run(move || {
        let folder = config.state_dir.clone();
        let keys = Keys::Folder(folder.join(KEYS_FOLDER));
        let job = job(&request, &keys, Offload::Threads)?;
        let lock = HomeLock::acquire(&folder).map_err(fail)?;
        let store = open_store(&folder)?;
        let before = published_before(&store).map_err(fail)?;
        let prepared = prepare(job)?;
        let new_key = keys.make_missing(request.key.as_deref(), &before)?;
        let publisher = keys.publisher(request.key.as_deref(), &before)?;
        let done = Ok(prepared).and_then(|mut prepared| {
            if let Some(root) = prepared.dependencies(publisher.id())? {
                prepared.warnings.extend(check_offline(&store, root)?);
            }
            if let Some(most) = config.store_bytes_max {
                let bytes = prepared.added_bytes(&store, publisher.id(), most)?;
                make_room_in(&store, bytes, most)?;
            }
            make(&store, &publisher, prepared, Plan::Queue(not_running()), &progress, &cancel)
        });
        drop((store, lock));
        let mut done = done.map_err(|failure| with_new_key(failure, new_key.as_deref()))?;
        done.answer.new_key = new_key;
        Ok::<_, Failure>(done)
    });
    Ok(done.await.ok_or_else(|| gone("the publication"))??.answer)
}

/// Why what is published while no node runs waits.
fn not_running() -> Failure {
    Failure::new(
        Code::NotRunning,
        "No node runs on this state folder.",
        "Start the node: ggen marketplace p2p start --daemon",
    )
}

/// Packs a directory, and signs it or puts it into the outbox. Runs beside the runtime.
fn make(
    store: &Store,
    publisher: &Publisher,
    prepared: Prepared,
    plan: Plan,
    progress: &ProgressSender,
    cancel: &Cancel,
) -> Result<Done, Failure> {
    let Prepared { job, gpack, found, own, mut warnings, preflight } = prepared;
    let package = PackageId { publisher: publisher.id(), name: gpack.name.clone() };
    warnings.extend(trust::warnings(store, &package.name, Some(package.publisher)).map_err(fail)?);
    let mut batch = store.lasting_batch();
    let mut put = |block| match cancel.is_cancelled() {
        true => Err(store::Error::Refused {
            code: Code::Interrupted,
            message: "it was cancelled".to_owned(),
            hint: String::new(),
        }),
        false => batch.put(block).map(drop),
    };
    let packed = pack::pack_on(&found, job.workers, &own, &mut put, &mut |done, total| {
        progress.report("packing", done, Some(total), "bytes");
    });
    unless_cancelled(cancel)?;
    let packed = packed.map_err(fail)?;
    // They may be many, and so may the manifest be.
    drop(found);
    let blocks = packed.blocks;
    progress.report("storing", 0, None, "bytes");
    let manifest = Manifest::new(publisher.id(), gpack, preflight, packed).map_err(fail)?;
    let content = Content { manifest, path: job.directory, blocks, warnings, now: Timestamp::now() };
    let queued = content.queued(store).map_err(fail)?;
    if let Some(there) = &queued
        && !content.is_same_as(there)
    {
        return Err(conflicts_with_queued(&content));
    }
    let work = Work::new(store, publisher, content)?;
    let before = work.before()?;
    // The last moment: what follows is one transaction.
    unless_cancelled(cancel)?;
    match (before, plan) {
        (Before::Same(state), _) => work.again(batch, &state),
        (Before::Other(why), _) => Err(work.conflict(why)),
        (Before::None, Plan::Sign(contact)) => work.commit(batch, &contact),
        (Before::None, Plan::Queue(why)) if queued.is_some() => work.queued_before(batch, &why),
        (Before::None, Plan::Queue(why)) => work.queue(batch, &why),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        backend::p2p::{
            P2PRegistry, Parts,
            history::{held_log, is_current},
        },
        catalog,
        network::{Metrics, Observer, transport},
        release::{Head, Kind, Labels, Log, VerifiedHead},
        store::{entries, heads},
    };

    /// A node that knows nobody.
    pub(in super::super) async fn registry(store: Store) -> P2PRegistry {
        let parts = Parts {
            transport: transport::tcp_without_dns(),
            node_key: libp2p::identity::Keypair::generate_ed25519(),
            publisher: Publisher::from_secret([1; 32], Timestamp::now()),
            store,
            offload: Offload::Threads,
            observer: Observer::default(),
            spawner: crate::network::Spawner::default(),
            metrics: Metrics::default(),
        };
        P2PRegistry::with_parts(P2PConfig::with_state_dir("/nowhere"), parts).await.unwrap()
    }

    #[tokio::test]
    async fn a_publication_that_nobody_waits_for_keeps_its_turn_to_its_end() {
        let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
        let registry = registry(store.clone()).await;
        let request = PublishRequest { skip_verify: true, ..package(folder.path(), "1.0.0") };
        // So much that it is still being packed when nobody waits any more.
        std::fs::write(folder.path().join("large"), vec![7; 24 << 20]).unwrap();
        let (progress, mut told) = ProgressSender::channel();
        let mut publishing = Box::pin(registry.node.publish(request, progress, Cancel::default()));
        loop {
            tokio::select! { biased;
                step = told.next() => if step.unwrap().phase == "packing" { break },
                done = &mut publishing => panic!("it was too fast: {done:?}"),
            }
        }
        drop(publishing);
        let turn = tokio::time::timeout(Duration::from_secs(60), registry.node.publishing.lock()).await;
        let rows = store.read(published::list_all).unwrap();
        assert_eq!((turn.is_ok(), rows.len()), (true, 1), "its turn ended before it did");
    }

    #[tokio::test]
    async fn what_does_not_fit_into_the_store_is_not_published() {
        let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
        let publisher = Publisher::from_secret([1; 32], Timestamp::now());
        // The least that can be configured.
        let most = 16 << 20;
        let parts = Parts {
            transport: transport::tcp_without_dns(),
            node_key: libp2p::identity::Keypair::generate_ed25519(),
            publisher,
            store: store.clone(),
            offload: Offload::Threads,
            observer: Observer::default(),
            spawner: crate::network::Spawner::default(),
            metrics: Metrics::default(),
        };
        let config = P2PConfig { store_bytes_max: Some(most), ..P2PConfig::with_state_dir("/nowhere") };
        let registry = P2PRegistry::with_parts(config, parts).await.unwrap();
        let publish = async |version: &str, bytes: Vec<u8>| {
            std::fs::write(folder.path().join("data"), bytes).unwrap();
            let mut request = PublishRequest { skip_verify: true, ..package(folder.path(), version) };
            request.timeout_secs = Some(1);
            registry.node.publish(request, ProgressSender::discard(), Cancel::default()).await
        };
        publish("1.0.0", noise(1, 12 << 20)).await.unwrap();
        let refused = publish("1.1.0", noise(2, 8 << 20)).await.unwrap_err();
        assert_eq!(refused.code, Code::Limit);
        assert!(refused.message.starts_with("8"), "its size is named: {}", refused.message);
        assert_eq!(store.read(published::list_all).unwrap().len(), 1);
        assert!(store.stats().unwrap().bytes <= most);
        // What is here already takes no room, nor do the same files under another version.
        publish("1.0.0", noise(1, 12 << 20)).await.unwrap();
        publish("1.2.0", noise(1, 12 << 20)).await.unwrap();
        assert!(store.stats().unwrap().bytes <= most);
    }

    /// Bytes of which no two blocks are the same.
    fn noise(seed: u64, bytes: usize) -> Vec<u8> {
        use rand::{Rng, SeedableRng};
        let mut noise = vec![0; bytes];
        rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut noise);
        noise
    }

    pub(in super::super) fn package(folder: &std::path::Path, version: &str) -> PublishRequest {
        let gpack = format!("name = \"pack\"\nversion = \"{version}\"\ndescription = \"A package\"\n");
        std::fs::write(folder.join("gpack.toml"), gpack).unwrap();
        PublishRequest { path: folder.to_str().unwrap().to_owned(), ..PublishRequest::default() }
    }

    pub(in super::super) fn published(
        store: &Store,
        publisher: &Publisher,
        request: &PublishRequest,
    ) -> Result<Done, Failure> {
        let plan = Plan::Sign(FirstContact::default());
        let job =
            job(request, &Keys::Given(Arc::new(std::sync::Mutex::new(publisher.clone()))), Offload::Inline)?;
        make(store, publisher, prepare(job)?, plan, &ProgressSender::discard(), &Cancel::default())
    }

    pub(in super::super) fn queued(
        store: &Store,
        publisher: &Publisher,
        request: &PublishRequest,
    ) -> Result<Done, Failure> {
        let plan = Plan::Queue(not_running());
        let job =
            job(request, &Keys::Given(Arc::new(std::sync::Mutex::new(publisher.clone()))), Offload::Inline)?;
        make(store, publisher, prepare(job)?, plan, &ProgressSender::discard(), &Cancel::default())
    }

    /// The head of the same key's next entry after `log`, made on another machine.
    fn elsewhere(publisher: &Publisher, mut log: Log, now: Timestamp) -> VerifiedHead {
        let kind = Kind::Deprecate { message: "made elsewhere".to_owned() };
        log.push(log.next(kind, publisher, now).unwrap()).unwrap();
        Head::of(&log, Labels::default(), publisher).unwrap().sign(publisher).unwrap()
    }

    #[test]
    fn what_was_overtaken_while_it_was_packed_is_not_signed_and_freezes_nothing() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let publisher = Publisher::from_secret([1; 32], now);
        let store = Store::in_memory().unwrap();
        let first = published(&store, &publisher, &package(folder.path(), "1.0.0")).unwrap();
        let first_head = first.head.unwrap();
        let package_id = first_head.package_id();
        let log = held_log(&store, &publisher, &package_id).unwrap().unwrap();
        let rival = elsewhere(&publisher, log, now);
        store.write(|tx| Ok(catalog::insert(tx, &rival, &catalog::Source::unknown(), now)?)).unwrap();

        let failure = published(&store, &publisher, &package(folder.path(), "1.1.0")).err().unwrap();
        assert_eq!(failure.code, Code::Conflict);
        assert!(failure.retryable, "{failure:?}");
        let (own, newest, frozen, rows) = store
            .read(|conn| {
                let own = heads::get(conn, &package_id)?.unwrap();
                let newest = entries::last(conn, &package_id)?.unwrap();
                let frozen = catalog::is_frozen(conn, &package_id)?;
                Ok((own, newest, frozen, published::list_all(conn)?.len()))
            })
            .unwrap();
        assert_eq!((own.bytes.as_slice(), newest.sequence, frozen, rows), (first_head.bytes(), 0, false, 1));
        // The same content again changes nothing, and the stale head is not given out again.
        let again = published(&store, &publisher, &package(folder.path(), "1.0.0")).unwrap();
        assert!(again.head.is_none() && again.answer.already_published && !again.answer.queued);
        assert!(
            again.answer.warnings.iter().any(|it| it.contains("went on elsewhere")),
            "{:?}",
            again.answer
        );
    }

    #[test]
    fn only_a_tree_that_is_here_is_said_to_be_provided_with_its_head() {
        use crate::backend::p2p::announce::held_tree;
        let (folder, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let publisher = Publisher::from_secret([1; 32], now);
        let (store, elsewhere) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
        let head = published(&store, &publisher, &package(folder.path(), "1.0.0")).unwrap().head.unwrap();
        let root = head.head().latest.as_ref().unwrap().root;
        assert_eq!(store.read(|conn| held_tree(conn, &head)).unwrap(), Some(root));
        assert_eq!(elsewhere.read(|conn| held_tree(conn, &head)).unwrap(), None);
    }

    #[test]
    fn nothing_is_added_to_a_package_that_is_frozen() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let publisher = Publisher::from_secret([1; 32], now);
        let store = Store::in_memory().unwrap();
        let first = published(&store, &publisher, &package(folder.path(), "1.0.0")).unwrap();
        let first_head = first.head.unwrap();
        let package_id = first_head.package_id();
        let rival = elsewhere(&publisher, Log::empty(package_id.clone()), now);
        store.write(|tx| Ok(catalog::insert(tx, &rival, &catalog::Source::unknown(), now)?)).unwrap();
        let failure = published(&store, &publisher, &package(folder.path(), "1.1.0")).err().unwrap();
        assert_eq!((failure.code, failure.retryable), (Code::Equivocation, false));
        assert!(store.read(|conn| is_current(conn, &first_head)).unwrap(), "what was seen first may be told");
    }
}
