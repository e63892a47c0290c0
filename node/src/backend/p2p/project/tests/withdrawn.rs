//! A project that uses content which its publisher signed twice, and what becomes of it.

use super::*;
use crate::{
    backend::p2p::offer::log_here,
    catalog,
    content::Codec,
    identity::SecretKey,
    release::{Head, Kind, Log, Release, Resolve, VerifiedHead, Withdrawn, fixture::labels},
    sync,
};

/// A project that uses version 1.1.0 of a package whose publisher signed another 1.1.0 elsewhere.
struct Twice {
    world: World,
    here: Log,
    elsewhere: Log,
}

impl Twice {
    async fn new() -> Self {
        let world = World::new().await;
        for version in ["1.0.0", "1.1.0"] {
            world.publish("web-kit", version, "", true).await.unwrap();
        }
        world.add("web-kit").await.unwrap();
        let other = World::of(world.publisher.clone()).await;
        other.publish("web-kit", "1.1.0", "license = \"MIT\"\n", true).await.unwrap();
        let (store, from) = (world.store(), other.store());
        for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor] {
            let ids = from.ids_of(codec).unwrap();
            let blocks: Vec<_> = ids.iter().map(|id| from.block(id).unwrap().unwrap()).collect();
            store.put_blocks(&blocks).unwrap();
        }
        let here = other.log_in(&store);
        let mut elsewhere = here.first(1).unwrap();
        let kind = Kind::Release(other.log_in(&from).latest().unwrap().clone());
        elsewhere.push(elsewhere.next(kind, &world.publisher, Timestamp::now()).unwrap()).unwrap();
        keep(&store, &elsewhere);
        let [first, second] = [&here, &elsewhere].map(|log| head(log, &world.publisher));
        sync::convict(&store, &first, &second, Timestamp::now()).unwrap();
        Self { world, here, elsewhere }
    }

    /// Ends the double signing: what is here is withdrawn.
    fn resolve(&self, kept: &[&Release]) {
        let by = self.world.publisher.rotated(SecretKey::from_bytes(&[2; 32]), Timestamp::now()).unwrap();
        let last = |log: &Log| vec![log.newest().unwrap().id()];
        let mut branches = vec![last(&self.here), last(&self.elsewhere)];
        branches.sort();
        let withdrawn = vec![Withdrawn::of(self.here.latest().unwrap())];
        let kept = kept.iter().copied().cloned().collect();
        let kind = Kind::Resolve(Box::new(Resolve { key_n: 0, branches, kept, withdrawn }));
        let mut log = self.here.first(1).unwrap();
        log.push(log.next(kind, &by, Timestamp::now()).unwrap()).unwrap();
        let store = self.world.store();
        keep(&store, &log);
        let (head, source) = (head(&log, &by), catalog::Source::unknown());
        store.write(|tx| Ok(catalog::insert(tx, &head, &source, Timestamp::now())?)).unwrap();
    }

    async fn update(&self) -> Result<ProjectDone, Failure> {
        let update = ProjectAction::Update { packages: Vec::new(), precise: None };
        self.world.run(update, ProjectRequest::default()).await
    }

    async fn outdated(&self) -> crate::control::api::Outdated {
        let request = OutdatedRequest { directory: AnyPath(self.world.project()), timeout_secs: None };
        self.world.registry.node.outdated(request).await.unwrap()
    }
}

impl World {
    fn store(&self) -> Store {
        self.registry.node.store.clone()
    }

    fn log_in(&self, store: &Store) -> Log {
        let listed = store.read(|conn| Ok(catalog::get(conn, &self.id("web-kit"))?)).unwrap().unwrap();
        log_here(store, &VerifiedHead::verify_stored(&listed.bytes).unwrap()).unwrap()
    }
}

fn head(log: &Log, by: &Publisher) -> VerifiedHead {
    Head::of(log, labels(), by).unwrap().sign(by).unwrap()
}

fn keep(store: &Store, log: &Log) {
    let blocks: Vec<_> = log.entries().iter().map(|entry| entry.block().clone()).collect();
    store.put_blocks(&blocks).unwrap();
}

#[tokio::test]
async fn what_was_withdrawn_is_not_passed_as_good_and_what_counts_takes_its_place() {
    let twice = Twice::new().await;
    let world = &twice.world;
    let locked = || ProjectRequest { locked: true, ..ProjectRequest::default() };
    let contested = "version 1.1.0, which is locked, is not from before";
    let done = world.run(ProjectAction::Install, locked()).await.unwrap();
    assert!(has(&done.warnings, "frozen: ") && has(&done.warnings, contested), "{:?}", done.warnings);
    assert!(has(&twice.outdated().await.warnings, contested));
    let failure = twice.update().await.unwrap_err();
    assert!(failure.message.contains(contested) && failure.hint.contains("resolved it"), "{failure:?}");

    twice.resolve(&[twice.elsewhere.latest().unwrap()]);
    let verified = world.verify(of_project(world)).await.unwrap();
    assert!(!verified.ok && verified.withdrawn && verified.differences.len() == 1, "{verified:?}");
    // What is in its place goes on working.
    let remedy = format!("p2p update {}", world.id("web-kit"));
    let done = world.run(ProjectAction::Install, locked()).await.unwrap();
    assert!(has(&done.warnings, "was withdrawn") && has(&done.warnings, &remedy), "{:?}", done.warnings);
    assert!(!has(&done.warnings, "frozen"), "{:?}", done.warnings);
    let outdated = twice.outdated().await;
    assert!(outdated.packages.len() == 1 && outdated.packages[0].withdrawn, "{outdated:?}");
    // It is not put there again.
    std::fs::remove_dir_all(world.project().join("gpacks/web-kit")).unwrap();
    let offline = ProjectRequest { offline: true, ..ProjectRequest::default() };
    let force = ProjectRequest { force: true, ..ProjectRequest::default() };
    for with in [locked(), offline, force] {
        let failure = world.run(ProjectAction::Install, with.clone()).await.unwrap_err();
        assert!(
            failure.code == Code::Equivocation && failure.hint.contains(&remedy),
            "{with:?}: {failure:?}"
        );
    }
    let done = twice.update().await.unwrap();
    assert!(!has(&done.warnings, "withdrawn"), "{:?}", done.warnings);
    let gpack = std::fs::read_to_string(world.project().join("gpacks/web-kit/gpack.toml")).unwrap();
    assert!(gpack.contains("license"), "{gpack}");
    assert!(world.verify(of_project(world)).await.unwrap().ok);
    assert_eq!(twice.outdated().await.packages, []);
}

#[tokio::test]
async fn an_update_says_what_was_withdrawn_where_no_version_takes_its_place() {
    let twice = Twice::new().await;
    twice.resolve(&[]);
    let failure = twice.update().await.unwrap_err();
    assert!(
        failure.code == Code::NotFound && failure.message.contains("web-kit@1.1.0 was withdrawn"),
        "{failure:?}"
    );
    twice.world.add("web-kit@^1").await.unwrap();
    assert!(twice.world.verify(of_project(&twice.world)).await.unwrap().ok);
}
