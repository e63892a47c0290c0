use std::{collections::BTreeSet, fs, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    backend::p2p::{install::manifest_of, publish::tests as publishing},
    identity::Publisher,
    package::Manifest,
    release::Release,
    store::kept::Kept,
};

const NOW: Timestamp = Timestamp::from_secs(2_000_000_000);

/// A store in which versions of one package are published.
pub(in super::super) struct World {
    folder: tempfile::TempDir,
    targets: tempfile::TempDir,
    publisher: Publisher,
    pub(in super::super) store: Store,
}

impl World {
    pub(in super::super) fn new() -> Self {
        let publisher = Publisher::from_secret([1; 32], Timestamp::now());
        let (folder, targets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Self { folder, targets, publisher, store: Store::in_memory().unwrap() }
    }

    /// Publishes a version with these files, each of which is a block of its own.
    pub(in super::super) fn publish(&self, version: &str, files: &[u8]) -> HeldPackage {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for file in files {
            fs::write(self.folder.path().join(format!("file-{file}")), vec![*file; 20_000]).unwrap();
        }
        let request = publishing::package(self.folder.path(), version);
        let done = publishing::published(&self.store, &self.publisher, &request).unwrap();
        let held = self.store.read(packages::list_all).unwrap();
        held.into_iter().find(|held| held.version.to_string() == done.answer.version).unwrap()
    }

    /// As though it had come from others: it is only provided.
    fn cache(&self, held: &HeldPackage) {
        self.store.write(|tx| published::remove(tx, &held.package, &held.version)).unwrap();
    }

    fn pin(&self, held: &HeldPackage, until: Option<Timestamp>) {
        let pin = Kept { name: held.version.to_string(), package: held.clone(), since: NOW, until };
        self.store.write(|tx| kept::insert(tx, &pin)).unwrap();
    }

    fn target(&self, held: &HeldPackage) -> PathBuf {
        self.targets.path().join(held.version.to_string())
    }

    fn install(&self, held: &HeldPackage) {
        fs::create_dir_all(self.target(held)).unwrap();
        let row = installed::Installed {
            path: self.target(held),
            package: held.package.clone(),
            version: held.version.clone(),
            root: held.root,
            manifest: held.manifest,
            bytes: held.size,
            files: 1,
            installed_at: NOW,
        };
        self.store.write(|tx| installed::insert(tx, &row)).unwrap();
    }

    /// As though its installation had been interrupted when one of its files was here: the note of that, and the file.
    pub(in super::super) fn interrupt(&self, held: &HeldPackage) -> (Partial, ContentId) {
        self.cache(held);
        let manifest = self.manifest(held).unwrap();
        let lost: Vec<ContentId> = manifest.directories().iter().map(Block::id).collect();
        let files: Vec<ContentId> = manifest.files().iter().map(|file| file.whole().id).collect();
        self.store.remove_blocks(&[lost, vec![files[0]]].concat()).unwrap();
        self.store.write(|tx| packages::remove_held(tx, held)).unwrap();
        let partial = Partial { package: held.clone(), target: "/somewhere/out".into(), started_at: NOW };
        self.store.write(|tx| partial::insert(tx, &partial)).unwrap();
        (partial, files[1])
    }

    fn plan(&self) -> Vec<Item> {
        evictable(&self.store, NOW).unwrap()
    }

    fn collect(&self, wanted: Wanted) -> Vec<Item> {
        evict(&self.store, wanted, &[], NOW).unwrap().items
    }

    fn provides(&self, held: &HeldPackage) -> bool {
        self.store.read(packages::list_all).unwrap().contains(held)
    }

    fn manifest(&self, held: &HeldPackage) -> Option<Manifest> {
        let manifest = manifest_here(&self.store, held.manifest).unwrap()?;
        let release = Release {
            version: held.version.clone(),
            manifest: held.manifest,
            root: held.root,
            size: held.size,
            files: manifest.files().len() as u64,
        };
        manifest_of(&self.store, &held.package, &release, self.publisher.key_log()).ok()
    }

    /// Whether every block of a package is here.
    fn is_whole(&self, held: &HeldPackage) -> bool {
        let Some(manifest) = self.manifest(held) else { return false };
        let ids: Vec<ContentId> = manifest.files().iter().map(|file| file.whole().id).collect();
        let directories: Vec<ContentId> = manifest.directories().iter().map(Block::id).collect();
        self.store.missing(&[ids, directories].concat()).unwrap().is_empty()
    }
}

fn kinds(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .map(|item| match &item.kind {
            Kind::Leftover => "leftover".to_owned(),
            Kind::Partial(partial) => format!("partial {}", partial.package.version),
            Kind::Cached(held) => format!("cached {}", held.version),
        })
        .collect()
}

#[test]
fn what_is_installed_is_needed_until_its_folder_is_deleted() {
    let world = World::new();
    let held = world.publish("1.0.0", &[1]);
    world.cache(&held);
    world.install(&held);
    assert_eq!((kinds(&world.plan()), deleted_folders(&world.store).unwrap()), (vec![], vec![]));
    fs::remove_dir(world.target(&held)).unwrap();
    assert_eq!(kinds(&world.plan()), ["cached 1.0.0"]);
    assert_eq!(deleted_folders(&world.store).unwrap(), [world.target(&held)]);
    assert_eq!(forget_deleted(&world.store).unwrap(), [world.target(&held)]);
    assert_eq!(kinds(&world.collect(Wanted::All)), ["cached 1.0.0"]);
    assert!(world.store.read(installed::list_all).unwrap().is_empty() && !world.provides(&held));
}

#[test]
fn nothing_of_what_is_published_is_evicted() {
    let world = World::new();
    let held = [world.publish("1.0.0", &[1, 2]), world.publish("1.1.0", &[2, 3])];
    assert_eq!(kinds(&world.plan()), [""; 0]);
    world.collect(Wanted::All);
    assert!(held.iter().all(|held| world.is_whole(held)));
}

#[test]
fn what_belongs_to_nothing_goes_first_and_the_least_valuable_package_after_it() {
    let world = World::new();
    let [old, new] = [world.publish("1.0.0", &[1, 2]), world.publish("1.1.0", &[2, 3])];
    [&old, &new].into_iter().for_each(|held| world.cache(held));
    let stray = Block::new(Codec::Raw, vec![9; 5_000]);
    world.store.put_blocks(std::slice::from_ref(&stray)).unwrap();
    let items = world.plan();
    assert_eq!(kinds(&items), ["leftover", "cached 1.0.0", "cached 1.1.0"]);
    assert_eq!((items[0].bytes, items[0].blocks.as_slice()), (5_000, &[stray.id()][..]));
    // The file that both have belongs to the one that stays longer.
    assert!(items[1].bytes < 30_000 && items[2].bytes > 40_000, "{items:?}");
    let all: u64 = items.iter().map(|item| item.bytes).sum();

    assert_eq!(kinds(&world.collect(Wanted::Bytes(5_001))), ["leftover", "cached 1.0.0"]);
    assert!(!world.store.has(&stray.id()).unwrap());
    assert!(!world.provides(&old) && !world.is_whole(&old));
    assert!(world.provides(&new) && world.is_whole(&new));
    assert_eq!(kinds(&world.collect(Wanted::Bytes(all))), [""; 0], "so much is not here");
    assert!(world.is_whole(&new));
    assert_eq!(kinds(&world.collect(Wanted::All)), ["cached 1.1.0"]);
    assert_eq!(kinds(&world.plan()), [""; 0]);
}

#[test]
fn a_pin_keeps_content_until_it_expires() {
    let world = World::new();
    let [one, other] = [world.publish("1.0.0", &[1]), world.publish("1.1.0", &[2])];
    [&one, &other].into_iter().for_each(|held| world.cache(held));
    world.pin(&one, Some(NOW.plus(Duration::from_secs(1))));
    world.pin(&other, Some(NOW));
    assert_eq!(kinds(&world.collect(Wanted::All)), ["cached 1.1.0"]);
    assert!(world.is_whole(&one));
    let pins = world.store.read(kept::list_all).unwrap();
    assert_eq!(pins.iter().map(|pin| pin.name.as_str()).collect::<Vec<_>>(), ["1.0.0"]);
}

#[test]
fn what_an_interrupted_installation_left_is_kept_for_a_while_and_for_the_next_one() {
    let world = World::new();
    let held = world.publish("1.0.0", &[1, 2]);
    let (partial, file) = world.interrupt(&held);
    assert_eq!(kinds(&world.plan()), ["partial 1.0.0"]);
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(kinds(&Wanted::Abandoned(NOW).choose(world.plan())), [""; 0]);
    assert_eq!(kinds(&Wanted::Abandoned(later).choose(world.plan())), ["partial 1.0.0"]);
    // The one that makes room goes on from there.
    assert_eq!(
        kinds(&evict(&world.store, Wanted::All, std::slice::from_ref(&held), NOW).unwrap().items),
        [""; 0]
    );
    assert_eq!(world.store.read(partial::list_all).unwrap(), [partial]);
    assert_eq!(kinds(&world.collect(Wanted::All)), ["partial 1.0.0"]);
    assert!(world.store.read(partial::list_all).unwrap().is_empty());
    assert!(!world.store.has(&file).unwrap());
}

#[test]
fn what_comes_to_be_needed_after_the_plan_was_made_stays() {
    let world = World::new();
    let held = world.publish("1.0.0", &[1]);
    world.cache(&held);
    let Plan { roots, items } = plan(&world.store, &[], NOW).unwrap();
    assert_eq!(kinds(&items), ["cached 1.0.0"]);
    world.pin(&held, None);
    let done = carry_out(&world.store, &roots, items, NOW, &mut Evicted::default()).unwrap();
    assert_eq!(done, (0, false));
    assert!(world.is_whole(&held) && world.provides(&held));
    // Looked at again, nothing can be evicted.
    assert_eq!(kinds(&world.collect(Wanted::All)), [""; 0]);
}

#[test]
fn of_two_trees_of_one_version_the_one_that_is_installed_stays() {
    let world = World::new();
    let held = world.publish("1.0.0", &[1]);
    let other = world.publish("1.1.0", &[2]);
    [&held, &other].into_iter().for_each(|held| world.cache(held));
    // As its publisher signed twice: the same version, another tree.
    let twin = HeldPackage { version: held.version.clone(), ..other.clone() };
    world
        .store
        .write(|tx| packages::remove_held(tx, &other).and_then(|_| packages::insert(tx, &twin)))
        .unwrap();
    world.install(&held);
    assert_eq!(kinds(&world.collect(Wanted::All)), ["cached 1.0.0"]);
    assert!(world.provides(&held) && world.is_whole(&held));
    assert!(!world.provides(&twin));
}

#[test]
fn the_log_of_what_is_kept_stays_also_where_no_head_leads_to_it() {
    let world = World::new();
    let held = world.publish("1.0.0", &[1]);
    world.cache(&held);
    world.pin(&held, None);
    let entries = world.store.read(entries::ids).unwrap();
    assert!(!entries.is_empty());
    // As though it were somebody else's, and its head had been forgotten.
    world.store.write(|tx| entries::remove(tx, &held.package).map(drop)).unwrap();
    world.collect(Wanted::All);
    assert_eq!(world.store.missing(&entries).unwrap(), []);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Published,
    Installed,
    Pinned,
    Expired,
    Cached,
}

fn state() -> impl Strategy<Value = State> {
    let all = [State::Published, State::Installed, State::Pinned, State::Expired, State::Cached];
    (0..all.len()).prop_map(move |at| all[at])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_needed_stays_whole_and_so_does_what_is_provided(
        versions in prop::collection::vec((prop::collection::btree_set(1..6u8, 1..4), state()), 1..5),
        strays in prop::collection::vec(any::<u8>(), 0..3),
        bytes in prop::option::of(0..120_000u64),
    ) {
        let world = World::new();
        let held: Vec<(HeldPackage, State)> = versions
            .iter()
            .enumerate()
            .map(|(at, (files, state))| {
                let files: Vec<u8> = files.iter().copied().collect();
                (world.publish(&format!("1.{at}.0"), &files), *state)
            })
            .collect();
        for (held, state) in &held {
            if *state != State::Published {
                world.cache(held);
            }
            match state {
                State::Installed => world.install(held),
                State::Pinned => world.pin(held, None),
                State::Expired => world.pin(held, Some(NOW)),
                State::Published | State::Cached => {}
            }
        }
        for stray in &strays {
            world.store.put_blocks(&[Block::new(Codec::Raw, vec![*stray; 3_000])]).unwrap();
        }
        let before = world.store.stats().unwrap().bytes;
        let wanted = bytes.map_or(Wanted::All, Wanted::Bytes);
        let items = world.collect(wanted);
        let freed: u64 = items.iter().map(|item| item.bytes).sum();
        prop_assert_eq!(world.store.stats().unwrap().bytes, before - freed, "what is said is what was freed");
        for (held, state) in &held {
            let is_needed = matches!(state, State::Published | State::Installed | State::Pinned);
            prop_assert!(!is_needed || world.is_whole(held), "{:?} {}", state, held.version);
            // Whoever asks for what is provided gets all of it.
            prop_assert!(!world.provides(held) || world.is_whole(held), "{:?} {}", state, held.version);
        }
        match bytes {
            Some(bytes) => prop_assert!(items.is_empty() || freed >= bytes),
            None => {
                prop_assert!(world.plan().is_empty());
                let provided: BTreeSet<_> = held.iter().filter(|(held, _)| world.provides(held)).map(|(_, it)| *it as u8).collect();
                prop_assert!(!provided.contains(&(State::Cached as u8)) && !provided.contains(&(State::Expired as u8)));
            }
        }
    }
}
