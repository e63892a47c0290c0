//! Lock files that name what keys signed which were replaced or revoked since.

use super::*;
use crate::{
    backend::p2p::offer::log_here,
    catalog,
    content::Codec,
    identity::{SecretKey, publisher::Change},
    project::{Lock, Locked},
    release::{Head, Kind, Log, Release, VerifiedHead, fixture::labels},
};

/// A project that uses version 1.0.0 of a package which has 1.1.0 too, and content of which a thief of its key signed a release.
struct Stolen {
    world: World,
    log: Log,
    evil: Release,
}

pub(super) fn installs() -> [ProjectRequest; 4] {
    let plain = ProjectRequest::default;
    [
        plain(),
        ProjectRequest { locked: true, ..plain() },
        ProjectRequest { frozen: true, ..plain() },
        ProjectRequest { offline: true, ..plain() },
    ]
}

impl Stolen {
    async fn new() -> Self {
        let world = World::new().await;
        for version in ["1.0.0", "1.1.0"] {
            world.publish("web-kit", version, "", true).await.unwrap();
        }
        world.add("web-kit@^1").await.unwrap();
        let thief = World::of(world.publisher.clone()).await;
        thief.publish("web-kit", "1.2.0", "license = \"EVIL\"\n", true).await.unwrap();
        let (store, from) = (world.registry.node.store.clone(), thief.registry.node.store.clone());
        for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor] {
            let ids = from.ids_of(codec).unwrap();
            let blocks: Vec<_> = ids.iter().map(|id| from.block(id).unwrap().unwrap()).collect();
            store.put_blocks(&blocks).unwrap();
        }
        let evil = log_of(&thief).latest().unwrap().clone();
        let log = log_of(&world);
        Self { world, log, evil }
    }

    fn store(&self) -> &Store {
        &self.world.registry.node.store
    }

    /// Signs the thief's release behind the first entries of the log, and has the lock file of the project name it.
    fn lock_evil(&self, behind: usize, by: &Publisher) {
        let mut log = self.log.first(behind).unwrap();
        log.push(log.next(Kind::Release(self.evil.clone()), by, Timestamp::now()).unwrap()).unwrap();
        let entry = log.newest().unwrap();
        let blocks: Vec<_> = by.key_log().blocks().chain([entry.block().clone()]).collect();
        self.store().put_blocks(&blocks).unwrap();
        self.lock(Locked {
            version: self.evil.version.clone(),
            root: self.evil.root,
            entry: entry.id(),
            sequence: behind as u64,
            keys: by.key_log().tip(),
            manifest: self.evil.manifest,
            size: self.evil.size,
            dependencies: Default::default(),
        });
    }

    /// Has the lock file name a version of the log, as it was written when that was the newest.
    fn lock_good(&self, at: usize) {
        let entry = &self.log.entries()[at];
        let Kind::Release(release) = &entry.entry().kind else { panic!("{entry:?}") };
        self.lock(Locked {
            version: release.version.clone(),
            root: release.root,
            entry: entry.id(),
            sequence: at as u64,
            keys: self.world.publisher.key_log().document_id(0).unwrap(),
            manifest: release.manifest,
            size: release.size,
            dependencies: Default::default(),
        });
    }

    fn lock(&self, locked: Locked) {
        let lock = Lock { packages: [(self.world.id("web-kit"), locked)].into() };
        std::fs::write(self.world.project().join("gpack.lock"), lock.to_text()).unwrap();
    }

    /// Its publisher replaces the key, and signs the head of the log again.
    fn replace_key(&self, revoked: bool) -> Publisher {
        let old = &self.world.publisher;
        let revoked = if revoked { vec![old.public_key()] } else { Vec::new() };
        let secret = Some(SecretKey::from_bytes(&[2; 32]));
        let new =
            old.changed(Change { secret, revoked, ..Change::default() }, &[], Timestamp::now()).unwrap();
        self.list(&new, "web-kit");
        new
    }

    /// A head of the log, or of one of the same content under another name, is listed.
    fn list(&self, by: &Publisher, name: &str) {
        let head = Head::of(&self.log, labels(), by).unwrap();
        let head = Head { name: name.parse().unwrap(), ..head }.sign(by).unwrap();
        let source = catalog::Source::unknown();
        self.store().write(|tx| Ok(catalog::insert(tx, &head, &source, Timestamp::now())?)).unwrap();
    }

    /// As where the newest entry of the log was not fetched.
    fn lose_newest_entry(&self) {
        let entry = self.log.newest().unwrap().id().to_bytes();
        self.store().write(|tx| Ok(tx.execute("DELETE FROM blocks WHERE id = ?1", [entry])?)).unwrap();
    }

    async fn install(&self, with: ProjectRequest) -> Result<ProjectDone, Failure> {
        let folder = self.world.project().join("gpacks/web-kit");
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        }
        self.world.run(ProjectAction::Install, with).await
    }

    fn version(&self) -> String {
        std::fs::read_to_string(text(&self.world, "text")).unwrap_or_default()
    }

    async fn is_refused(&self, why: &str) {
        for with in installs() {
            let failure = self.install(with.clone()).await.unwrap_err();
            let is_told = failure.code == Code::Equivocation && failure.message.contains(why);
            assert!(is_told && self.version().is_empty(), "{with:?}: {failure:?}");
        }
    }

    async fn is_installed(&self, version: &str) {
        for with in installs() {
            let done = self.install(with.clone()).await.unwrap();
            assert!(self.version() == version && done.warnings.is_empty(), "{with:?}: {done:?}");
        }
    }
}

fn log_of(world: &World) -> Log {
    let (store, id) = (&world.registry.node.store, world.id("web-kit"));
    let listed = store.read(|conn| Ok(catalog::get(conn, &id)?)).unwrap().unwrap();
    log_here(store, &VerifiedHead::verify_stored(&listed.bytes).unwrap()).unwrap()
}

#[tokio::test]
async fn what_a_revoked_key_signed_is_installed_from_a_lock_file_only_where_the_log_has_it() {
    let stolen = Stolen::new().await;
    let world = &stolen.world;
    stolen.lock_evil(2, &world.publisher);
    // It may be newer than what is known here.
    stolen.is_installed("1.2.0").await;
    stolen.replace_key(true);
    let verified = world.verify(of_project(world)).await.unwrap();
    assert!(!verified.ok && verified.contradicted, "{verified:?}");
    assert!(has(&verified.differences, "revoked the key that signed it"), "{verified:?}");
    // What is in its place stays, and is told.
    let frozen = ProjectRequest { frozen: true, ..ProjectRequest::default() };
    let done = world.run(ProjectAction::Install, frozen.clone()).await.unwrap();
    let remedy = format!("p2p update {}", world.id("web-kit"));
    assert!(has(&done.warnings, "revoked the key") && has(&done.warnings, &remedy), "{:?}", done.warnings);
    stolen.is_refused("revoked the key that signed it").await;
    // What the log had before is installed as ever.
    for (at, version) in [(0, "1.0.0"), (1, "1.1.0")] {
        stolen.lock_good(at);
        stolen.is_installed(version).await;
        assert!(world.verify(of_project(world)).await.unwrap().ok);
    }
    stolen.lock_evil(2, &world.publisher);
    let update = ProjectAction::Update { packages: Vec::new(), precise: None };
    world.run(update, ProjectRequest::default()).await.unwrap();
    assert_eq!(stolen.version(), "1.1.0");
}

#[tokio::test]
async fn what_a_replaced_key_signed_before_is_installed_from_a_lock_file_and_nothing_beyond() {
    let stolen = Stolen::new().await;
    let new = stolen.replace_key(false);
    for (at, version) in [(0, "1.0.0"), (1, "1.1.0")] {
        stolen.lock_good(at);
        stolen.is_installed(version).await;
    }
    stolen.lock_evil(2, &stolen.world.publisher);
    stolen.is_refused("a key that its publisher had replaced").await;
    // The current key may have signed more than is known here.
    stolen.lock_evil(2, &new);
    stolen.is_installed("1.2.0").await;
}

#[tokio::test]
async fn a_lock_file_that_names_another_entry_than_the_log_has_is_refused() {
    let stolen = Stolen::new().await;
    stolen.lock_evil(1, &stolen.world.publisher);
    stolen.is_refused("its publisher signed something else in its place").await;
    // A thief of the first key began a chain of keys that is not known here.
    let apart = stolen.world.publisher.rotated(SecretKey::from_bytes(&[3; 32]), Timestamp::now()).unwrap();
    stolen.replace_key(false);
    stolen.lock_evil(2, &apart);
    stolen.is_refused("another chain").await;
}

#[tokio::test]
async fn where_the_log_is_not_here_and_nobody_can_be_asked_what_is_known_decides() {
    let stolen = Stolen::new().await;
    let world = &stolen.world;
    stolen.lock_good(0);
    stolen.lose_newest_entry();
    stolen.is_installed("1.0.0").await;
    stolen.replace_key(true);
    for with in installs() {
        let failure = stolen.install(with.clone()).await.unwrap_err();
        let code = if with.offline { Code::NotFound } else { Code::NoProviders };
        assert!(failure.code == code && failure.message.contains("revoked the key"), "{with:?}: {failure:?}");
    }
    // Of another package it is known that the key was revoked, and of this one nothing.
    let id = world.id("web-kit");
    stolen.store().write(|tx| Ok(catalog::forget(tx, &id)?)).unwrap();
    for with in installs() {
        let done = stolen.install(with).await.unwrap();
        assert!(done.warnings.is_empty(), "{:?}", done.warnings);
    }
    let revoked = vec![world.publisher.public_key()];
    let secret = Some(SecretKey::from_bytes(&[2; 32]));
    let change = Change { secret, revoked, ..Change::default() };
    stolen.list(&world.publisher.changed(change, &[], Timestamp::now()).unwrap(), "another");
    for with in installs() {
        let done = stolen.install(with).await.unwrap();
        assert!(has(&done.warnings, "is not known here"), "{:?}", done.warnings);
    }
    assert_eq!(stolen.version(), "1.0.0");
}
