//! Tests of work on projects by a node that knows a package of another publisher, and is connected with nobody.

use std::{fs, time::Duration};

use super::*;
use crate::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts, offer::UNHEARD},
    catalog,
    control::{
        api::{CollectRequest, InstallRequest, OutdatedRequest, PublishRequest},
        service::Cancel,
    },
    identity::Publisher,
    network::{Metrics, Observer, Offload, Spawner, transport},
    store::{installed, packages, published},
    time::Timestamp,
};

struct World {
    folder: tempfile::TempDir,
    store: Store,
    reader: P2PRegistry,
}

async fn registry(store: Store, seed: u8, change: impl FnOnce(&mut P2PConfig)) -> P2PRegistry {
    let parts = Parts {
        transport: transport::tcp_without_dns(),
        node_key: libp2p::identity::Keypair::generate_ed25519(),
        publisher: Publisher::from_secret([seed; 32], Timestamp::now()),
        store,
        offload: Offload::Threads,
        spawner: Spawner::default(),
        observer: Observer::default(),
        metrics: Metrics::default(),
    };
    let mut config = P2PConfig::with_state_dir("/nowhere");
    change(&mut config);
    P2PRegistry::with_parts(config, parts).await.unwrap()
}

impl World {
    /// A node that has both versions of a package of another publisher.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_memory().unwrap();
        let author = registry(store.clone(), 1, |_| ()).await;
        for version in ["1.0.0", "1.1.0"] {
            let source = folder.path().join(format!("source-{version}"));
            fs::create_dir(&source).unwrap();
            let gpack = format!("name = \"pack\"\nversion = \"{version}\"\ndescription = \"A package\"\n");
            fs::write(source.join("gpack.toml"), gpack).unwrap();
            fs::write(source.join("text"), format!("{version} ").repeat(10_000)).unwrap();
            let request = PublishRequest {
                path: source.display().to_string(),
                skip_verify: true,
                timeout_secs: Some(1),
                ..PublishRequest::default()
            };
            author.node.publish(request, ProgressSender::discard(), Cancel::default()).await.unwrap();
        }
        author.shutdown().await;
        // It is provided only, as if it had been fetched.
        let own = store.read(published::list_all).unwrap();
        store
            .write(|tx| {
                own.iter().try_for_each(|it| published::remove(tx, &it.package, &it.version).map(drop))
            })
            .unwrap();
        let reader = registry(store.clone(), 2, |_| ()).await;
        fs::create_dir(folder.path().join("project")).unwrap();
        fs::write(folder.path().join("project/gpack.toml"), "# A project\n").unwrap();
        Self { folder, store, reader }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("project")
    }

    fn request(&self, action: ProjectAction) -> ProjectRequest {
        ProjectRequest {
            directory: AnyPath(self.root()),
            action,
            locked: false,
            frozen: false,
            offline: false,
            force: false,
            dry_run: false,
            timeout_secs: Some(20),
        }
    }

    async fn asked(&self, request: ProjectRequest) -> Result<ProjectDone, Failure> {
        self.reader.node.project(request, ProgressSender::discard()).await
    }

    async fn add(&self, text: &str) -> ProjectDone {
        let add = ProjectAction::Add { packages: vec![text.to_owned()], alias: None };
        self.asked(self.request(add)).await.unwrap()
    }

    fn update() -> ProjectAction {
        ProjectAction::Update { packages: Vec::new(), precise: None }
    }

    fn installed(&self) -> Vec<String> {
        let rows = self.store.read(installed::list_all).unwrap();
        rows.into_iter().map(|row| row.version.to_string()).collect()
    }

    fn text(&self) -> String {
        let text = fs::read_to_string(self.root().join("gpacks/pack/text")).unwrap();
        text.split(' ').next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn nothing_is_said_to_be_the_newest_where_nobody_could_be_asked() {
    let world = World::new().await;
    let added = world.add("pack@=1.0.0").await;
    assert!(added.warnings.iter().any(|it| it.contains(UNHEARD)), "{added:#?}");
    let failure = world.asked(world.request(World::update())).await.unwrap_err();
    assert_eq!(failure.code, Code::Network, "{failure:?}");
    assert!(failure.message.contains("nothing was changed"), "{failure:?}");
    let request = OutdatedRequest { directory: AnyPath(world.root()), timeout_secs: Some(20) };
    let outdated = world.reader.node.outdated(request).await.unwrap();
    assert_eq!((outdated.total, outdated.unheard), (1, 1), "{outdated:#?}");
    assert!(outdated.warnings.iter().any(|it| it.contains(UNHEARD)), "{outdated:#?}");
    // Who wants what is here alone says so.
    let offline = ProjectRequest { offline: true, ..world.request(World::update()) };
    assert!(world.asked(offline).await.unwrap().warnings.is_empty());
    let request = OutdatedRequest { directory: AnyPath("project".into()), timeout_secs: None };
    assert_eq!(world.reader.node.outdated(request).await.unwrap_err().code, Code::Usage);
}

#[tokio::test]
async fn what_was_carried_out_is_no_failure_though_it_could_not_be_noted() {
    let world = World::new().await;
    world.add("pack@=1.0.0").await;
    let trigger = "CREATE TRIGGER full BEFORE INSERT ON installed BEGIN SELECT RAISE(ABORT, 'no room'); END";
    world.store.write(|tx| Ok(tx.execute_batch(trigger)?)).unwrap();
    let done = world.add("pack@=1.1.0").await;
    assert!(done.warnings.iter().any(|it| it.contains("could not be noted")), "{done:#?}");
    assert_eq!((world.text().as_str(), world.installed()), ("1.1.0", vec!["1.0.0".to_owned()]));
    // What the project names is needed, whatever the store knows.
    world.reader.node.collect(CollectRequest { dry_run: false }).await.unwrap();
    let held = world.store.read(packages::list_all).unwrap();
    assert_eq!(held.iter().map(|it| it.version.to_string()).collect::<Vec<_>>(), ["1.0.0", "1.1.0"]);
    world.store.write(|tx| Ok(tx.execute_batch("DROP TRIGGER full")?)).unwrap();
    let again = ProjectRequest { offline: true, ..world.request(ProjectAction::Install) };
    let again = world.asked(again).await.unwrap();
    assert_eq!((again.written, world.installed()), (0, vec!["1.1.0".to_owned()]), "the next one notes it");
}

#[tokio::test]
async fn nothing_is_put_in_place_while_something_else_replaces_folders() {
    let world = World::new().await;
    let turn = world.reader.node.replacing.clone().lock_owned().await;
    let mut adding = std::pin::pin!(world.add("pack"));
    let waits = tokio::time::timeout(Duration::from_millis(400), adding.as_mut()).await;
    assert!(waits.is_err() && !world.root().join("gpacks").exists());
    drop(turn);
    adding.await;
    assert_eq!(world.text(), "1.1.0");
}

#[tokio::test]
async fn what_a_lock_file_makes_up_frees_nothing() {
    let world = World::new().await;
    world.add("pack@=1.1.0").await;
    let lock = world.root().join("gpack.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let (root, size) = {
        let (lock, _) = Lock::read(&world.root()).unwrap().unwrap();
        let locked = lock.packages.into_values().next().unwrap();
        (locked.root, locked.size)
    };
    let cached = world.store.read(packages::list_all).unwrap();
    let other = cached.iter().find(|it| it.root != root).unwrap();
    let elsewhere = ContentId::from_digest(other.root.codec(), [7; 32]);
    let text = text.replace(&root.to_string(), &elsewhere.to_string());
    // As large as that something has to go for it, and no more than can.
    let (most, held) = (16 << 20, world.store.stats().unwrap().bytes);
    let made_up = format!("size = {}", most - held + 10_000);
    fs::write(&lock, text.replace(&format!("size = {size}"), &made_up)).unwrap();
    let reader = registry(world.store.clone(), 2, |config| config.store_bytes_max = Some(most)).await;
    let request = ProjectRequest { locked: true, ..world.request(ProjectAction::Install) };
    let failure = reader.node.project(request, ProgressSender::discard()).await.unwrap_err();
    assert_eq!(failure.code, Code::Malformed, "{failure:?}");
    assert_eq!(world.store.read(packages::list_all).unwrap(), cached);
}

#[tokio::test]
async fn a_dry_run_completes_nothing_that_was_cut_off() {
    let world = World::new().await;
    world.add("pack@=1.0.0").await;
    let journal = world.root().join(".gpack.journal/journal.json");
    fs::create_dir(journal.parent().unwrap()).unwrap();
    let cut_off = project::cut_off("gpacks", &place::seal(&world.store).unwrap());
    fs::write(&journal, &cut_off).unwrap();
    let dry = ProjectRequest { dry_run: true, offline: true, ..world.request(ProjectAction::Install) };
    let failure = world.asked(dry.clone()).await.unwrap_err();
    assert!(failure.code == Code::Conflict && failure.hint.contains("p2p install"), "{failure:?}");
    assert_eq!(fs::read_to_string(&journal).unwrap(), cut_off);
    let request = OutdatedRequest { directory: AnyPath(world.root()), timeout_secs: Some(5) };
    assert_eq!(world.reader.node.outdated(request).await.unwrap_err().code, Code::Conflict);
    // As it would come with a project, nobody completes it.
    let request = ProjectRequest { dry_run: false, ..dry.clone() };
    let other = project::cut_off("gpacks", &project::Seal::from_bytes([1; 32]));
    fs::write(&journal, &other).unwrap();
    let failure = world.asked(request.clone()).await.unwrap_err();
    assert!(failure.code == Code::Conflict && failure.hint.contains("rm -r"), "{failure:?}");
    assert_eq!(fs::read_to_string(&journal).unwrap(), other);
    fs::write(&journal, &cut_off).unwrap();
    let done = world.asked(request).await.unwrap();
    assert!(done.recovered && !journal.exists());
    assert!(world.asked(dry).await.unwrap().dry_run);
}

#[tokio::test]
async fn what_cannot_be_compared_is_not_said_to_be_changed() {
    let world = World::new().await;
    world.add("pack").await;
    // As where a machine keeps the folders of a project, and not the store.
    let fresh = registry(Store::in_memory().unwrap(), 3, |_| ()).await;
    let remove = ProjectAction::Remove { packages: vec!["pack".to_owned()] };
    let request = world.request(remove);
    let failure = fresh.node.project(request.clone(), ProgressSender::discard()).await.unwrap_err();
    assert_eq!(failure.code, Code::Conflict);
    assert!(failure.message.starts_with("It is not known here what was installed"), "{failure:?}");
    fs::write(world.root().join("gpacks/pack/text"), "mine").unwrap();
    let failure = world.asked(request).await.unwrap_err();
    assert!(failure.message.starts_with("Somebody changed what would be replaced"), "{failure:?}");
}

#[tokio::test]
async fn a_version_that_is_here_is_installed_offline_though_the_newest_history_is_not() {
    let world = World::new().await;
    let id = world.store.read(packages::list_all).unwrap()[0].package.clone();
    let listed = world.store.read(|conn| Ok(catalog::get(conn, &id)?)).unwrap().unwrap();
    let head = VerifiedHead::verify_stored(&listed.bytes).unwrap();
    // As where the newest head was heard of, and its log was not fetched.
    let entry = head.head().entry.to_bytes();
    world.store.write(|tx| Ok(tx.execute("DELETE FROM blocks WHERE id = ?1", [entry])?)).unwrap();
    let request = |version: &str| InstallRequest {
        package: format!("pack@{version}"),
        to: world.folder.path().join("here").display().to_string(),
        offline: true,
        ..InstallRequest::default()
    };
    let installed = world.reader.node.install(request("1.0.0"), ProgressSender::discard()).await.unwrap();
    assert_eq!(installed.version, "1.0.0");
    assert!(installed.warnings.iter().any(|it| it.contains("was yanked since")), "{installed:?}");
    let failure = world.reader.node.install(request("1.0.9"), ProgressSender::discard()).await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound, "{failure:?}");
}
