use super::*;
use crate::{
    backend::p2p::{
        P2PRegistry, Parts,
        history::{held_log, is_current},
    },
    network::{Metrics, Observer, transport},
    release::{Head, Kind, Labels, Log, VerifiedHead},
    store::{entries, heads},
};

/// A node that knows nobody.
pub(in super::super) async fn registry(store: Store) -> P2PRegistry {
    registry_of(store, Publisher::from_secret([1; 32], Timestamp::now())).await
}

/// The same, of a publisher.
pub(in super::super) async fn registry_of(store: Store, publisher: Publisher) -> P2PRegistry {
    let parts = Parts {
        transport: transport::tcp_without_dns(),
        node_key: libp2p::identity::Keypair::generate_ed25519(),
        publisher,
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
async fn what_is_known_of_a_log_and_of_twins_is_looked_at_again_once_it_is_packed() {
    for is_twin in [false, true] {
        let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
        let registry = registry(store.clone()).await;
        let publisher = registry.node.publisher(None).await.unwrap();
        let request = PublishRequest { skip_verify: true, ..package(folder.path(), "1.0.0") };
        let first = registry.node.publish(request, ProgressSender::discard(), Cancel::default());
        assert!(!first.await.unwrap().queued);
        let package_id = PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() };
        // So much that it is still being packed when something happens.
        std::fs::write(folder.path().join("large"), vec![7; 24 << 20]).unwrap();
        let request =
            PublishRequest { skip_verify: true, timeout_secs: Some(1), ..package(folder.path(), "1.1.0") };
        let (progress, mut told) = ProgressSender::channel();
        let mut publishing = Box::pin(registry.node.publish(request, progress, Cancel::default()));
        loop {
            tokio::select! { biased;
                step = told.next() => if step.unwrap().phase == "packing" { break },
                done = &mut publishing => panic!("it was too fast: {done:?}"),
            }
        }
        if is_twin {
            registry.node.note_twin(libp2p::PeerId::random(), false);
        } else {
            let now = Timestamp::now();
            let log = held_log(&store, &publisher, &package_id).unwrap().unwrap();
            let rival = elsewhere(&publisher, log, now);
            let heard = |tx: &rusqlite::Transaction<'_>| {
                Ok(catalog::insert(tx, &rival, &catalog::Source::unknown(), now)?)
            };
            store.write(heard).unwrap();
        }
        let answer = publishing.await.unwrap();
        assert!(answer.queued, "{answer:?}");
        let log = held_log(&store, &publisher, &package_id).unwrap().unwrap();
        assert_eq!((log.entries().len(), store.read(crate::store::outbox::list_all).unwrap().len()), (1, 1));
    }
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
    made(store, publisher, request, Plan::Sign(FirstContact::default(), Timestamp::now()))
}

pub(in super::super) fn queued(
    store: &Store,
    publisher: &Publisher,
    request: &PublishRequest,
) -> Result<Done, Failure> {
    made(store, publisher, request, Plan::Queue(not_running()))
}

fn made(store: &Store, publisher: &Publisher, request: &PublishRequest, plan: Plan) -> Result<Done, Failure> {
    let keys = Keys::Given(Arc::new(std::sync::Mutex::new(publisher.clone())));
    let prepared = prepare(job(request, &keys, Offload::Inline)?)?;
    make(store, publisher, prepared, plan, &ProgressSender::discard(), &Cancel::default())
}

/// A store in which the first version of a package was published, from a folder, and its head.
fn first_published(publisher: &Publisher) -> (tempfile::TempDir, Store, VerifiedHead) {
    let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
    let first = published(&store, publisher, &package(folder.path(), "1.0.0")).unwrap();
    (folder, store, first.head.unwrap())
}

/// The head of the same key's next entry after `log`, made on another machine.
fn elsewhere(publisher: &Publisher, mut log: Log, now: Timestamp) -> VerifiedHead {
    let kind = Kind::Deprecate { message: "made elsewhere".to_owned() };
    log.push(log.next(kind, publisher, now).unwrap()).unwrap();
    Head::of(&log, Labels::default(), publisher).unwrap().sign(publisher).unwrap()
}

#[test]
fn what_was_overtaken_while_it_was_packed_is_not_signed_and_freezes_nothing() {
    let now = Timestamp::now();
    let publisher = Publisher::from_secret([1; 32], now);
    let (folder, store, first_head) = first_published(&publisher);
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
    assert!(again.answer.warnings.iter().any(|it| it.contains("went on elsewhere")), "{:?}", again.answer);
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
    let now = Timestamp::now();
    let publisher = Publisher::from_secret([1; 32], now);
    let (folder, store, first_head) = first_published(&publisher);
    let package_id = first_head.package_id();
    let rival = elsewhere(&publisher, Log::empty(package_id.clone()), now);
    store.write(|tx| Ok(catalog::insert(tx, &rival, &catalog::Source::unknown(), now)?)).unwrap();
    let failure = published(&store, &publisher, &package(folder.path(), "1.1.0")).err().unwrap();
    assert_eq!((failure.code, failure.retryable), (Code::Equivocation, false));
    assert!(store.read(|conn| is_current(conn, &first_head)).unwrap(), "what was seen first may be told");
}
