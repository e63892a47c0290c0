//! Tests of what becomes of a folder that is there: replaced, filled, refused, removed, and after a kill.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

use super::*;
use crate::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    content::ContentId,
    control::{
        api::{InstallRequest, Installed, PublishRequest, RemoveRequest, VerifyRequest},
        service::{Cancel, ProgressSender, Service},
    },
    identity::Publisher,
    network::{Offload, Spawner, transport},
};

/// A node that published three versions of a package: a file that stays, one that changes, and one of its own each.
struct World {
    folder: tempfile::TempDir,
    store: Store,
    registry: P2PRegistry,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_memory().unwrap();
        let parts = Parts {
            transport: transport::tcp_without_dns(),
            node_key: libp2p::identity::Keypair::generate_ed25519(),
            publisher: Publisher::from_secret([1; 32], Timestamp::now()),
            store: store.clone(),
            offload: Offload::Threads,
            spawner: Spawner::default(),
            observer: crate::network::Observer::default(),
            metrics: crate::network::Metrics::default(),
        };
        let registry = P2PRegistry::with_parts(P2PConfig::with_state_dir("/nowhere"), parts).await.unwrap();
        for version in ["1.0.0", "1.1.0", "2.0.0"] {
            let source = folder.path().join(format!("source-{version}"));
            fs::create_dir_all(source.join("sub")).unwrap();
            let gpack = format!("name = \"pack\"\nversion = \"{version}\"\ndescription = \"A package\"\n");
            fs::write(source.join("gpack.toml"), gpack).unwrap();
            fs::write(source.join("stays"), "the same in all versions").unwrap();
            fs::write(source.join(format!("sub/only-in-{version}")), version).unwrap();
            // A file in one version, a folder in another.
            match version {
                "1.1.0" => fs::write(source.join("kind"), "a file").unwrap(),
                _ => {
                    fs::create_dir(source.join("kind")).unwrap();
                    fs::write(source.join("kind/inside"), "in a folder").unwrap();
                }
            }
            let request = PublishRequest {
                path: source.display().to_string(),
                skip_verify: true,
                timeout_secs: Some(1),
                ..PublishRequest::default()
            };
            registry.node.publish(request, ProgressSender::discard(), Cancel::default()).await.unwrap();
        }
        let target = folder.path().canonicalize().unwrap();
        let world = Self { folder, store, registry };
        assert_eq!(world.folder.path(), target, "the temporary folder is a real path");
        world
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    async fn asked(
        &self,
        package: &str,
        change: impl FnOnce(&mut InstallRequest),
    ) -> Result<Installed, Failure> {
        let mut request = InstallRequest {
            package: package.to_owned(),
            to: self.target().display().to_string(),
            timeout_secs: Some(5),
            ..InstallRequest::default()
        };
        change(&mut request);
        self.registry.node.install(request, ProgressSender::discard()).await
    }

    async fn install(&self, package: &str) -> Result<Installed, Failure> {
        self.asked(package, |_| ()).await
    }

    /// Asks for a package, and is gone before it is written.
    async fn ask_and_go(&self, package: &str) -> Code {
        let to = self.target().display().to_string();
        let request = InstallRequest { package: package.to_owned(), to, ..InstallRequest::default() };
        let (progress, reader) = ProgressSender::channel();
        drop(reader);
        self.registry.node.install(request, progress).await.unwrap_err().code
    }

    /// Whether the folder holds exactly this version.
    async fn holds(&self, version: &str) -> bool {
        let source = self.folder.path().join(format!("source-{version}"));
        let request = VerifyRequest { package: "pack".to_owned(), ..VerifyRequest::default() };
        let verified = self.registry.verify(request).await.unwrap();
        files(&source) == files(&self.target()) && verified.ok && verified.id.ends_with(version)
    }

    /// A published version as it is noted once it is installed.
    /// Swaps 2.0.0 in for 1.0.0, as something does that is killed before anything is written down.
    fn swap_and_die(&self, target: &Path) {
        let (old, new) = (self.row("1.0.0", target), self.row("2.0.0", target));
        let [old_manifest, new_manifest] =
            [&old, &new].map(|row| manifest_of_installed(&self.store, row).unwrap().0);
        let change = Change { old: Some(&old_manifest), new: &new_manifest, target };
        let source = |id: &ContentId| super::super::install::held(&self.store, id);
        let mut note = |replaced: &Path| self.store.write(|tx| Note::of(replaced, &old, &new).write(tx));
        replace::exchange(&change, &source, &mut note, &mut |_, _| {}).unwrap().unwrap();
    }

    fn row(&self, version: &str, path: &Path) -> installed::Installed {
        let published = self.store.read(store::published::list_all).unwrap();
        let of = published.into_iter().find(|row| row.version.to_string() == version).unwrap();
        installed::Installed {
            path: path.to_owned(),
            package: of.package,
            version: of.version,
            root: of.root,
            manifest: of.manifest,
            bytes: of.bytes,
            files: of.files,
            installed_at: Timestamp::now(),
        }
    }

    /// Notes that version 1.0.0 in a folder is being replaced by 2.0.0.
    fn note(&self, target: &Path, replaced: &Path) {
        let (old, new) = (self.row("1.0.0", target), self.row("2.0.0", target));
        self.store.write(|tx| Note::of(replaced, &old, &new).write(tx)).unwrap();
    }

    fn notes(&self) -> usize {
        self.store.read(|conn| meta::keys_from(conn, NOTE_PREFIX)).unwrap().len()
    }

    /// What is beside the target, other than what was published.
    fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            names.filter(|name| !name.starts_with("source-") && name != "target").collect();
        names.sort();
        names
    }
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_version_that_nobody_changed_gives_way_to_a_newer_and_to_an_older_one() {
    let world = World::new().await;
    world.install("pack@1.0.0").await.unwrap();
    for stays in [false, true] {
        for (package, version, before) in
            [("pack@^1", "1.1.0", "1.0.0"), ("pack", "2.0.0", "1.1.0"), ("pack@=1.0.0", "1.0.0", "2.0.0")]
        {
            let inode = fs::metadata(world.target()).unwrap().ino();
            let installed = world.asked(package, |request| request.stays = stays).await.unwrap();
            assert_eq!((&*installed.version, installed.replaced.as_deref()), (version, Some(before)));
            assert!(world.holds(version).await, "{package}, stays: {stays}");
            assert_eq!(world.beside(), [""; 0], "{package}, stays: {stays}");
            let is_the_same = fs::metadata(world.target()).unwrap().ino() == inode;
            assert_eq!(is_the_same, stays, "{package}");
        }
    }
    let again = world.install("pack@1.0.0").await.unwrap();
    assert!(again.already_installed && again.replaced.is_none());
}

#[tokio::test]
async fn one_package_is_not_put_into_the_folder_of_another_nor_around_it() {
    let world = World::new().await;
    world.install("pack@1.0.0").await.unwrap();
    let inside = world.target().join("sub/deeper");
    for to in [inside.as_path(), world.folder.path()] {
        let refused = world.asked("pack@2.0.0", |request| request.to = to.display().to_string()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, Code::Conflict, "{}", refused.message);
        assert!(refused.message.contains("pack@1.0.0"), "{}", refused.message);
    }
    assert!(!inside.exists() && world.holds("1.0.0").await);
    let beside = world.folder.path().join("target-2");
    world.asked("pack@2.0.0", |request| request.to = beside.display().to_string()).await.unwrap();
}

#[tokio::test]
async fn a_removal_that_a_kill_cut_off_is_completed() {
    let world = World::new().await;
    for (file, is_resumed) in [(None, true), (Some("mine"), true), (None, false)] {
        world.install("pack@1.0.0").await.unwrap();
        let aside = removing::tests::cut_off(&world.store, &world.target(), &["stays"]);
        assert!(!world.target().exists());
        if let Some(file) = file {
            fs::write(aside.join(file), "of the user").unwrap();
        }
        if is_resumed {
            resume_all(&world.store).unwrap();
            assert_eq!(world.store.read(installed::list_all).unwrap().len(), 0);
            assert_eq!(world.target().exists(), file.is_some(), "what is the user's has its name back");
            let _ = fs::remove_dir_all(world.target());
        } else {
            // Also by whoever comes first.
            world.install("pack@2.0.0").await.unwrap();
            assert!(world.holds("2.0.0").await);
        }
        assert_eq!(world.beside(), [""; 0]);
    }
    let request = RemoveRequest { package: "pack".to_owned(), ..RemoveRequest::default() };
    removing::tests::cut_off(&world.store, &world.target(), &[]);
    let removed = world.registry.node.remove(request).await.unwrap();
    assert!(removed.was_gone && world.beside().is_empty() && !world.target().exists());
}

#[tokio::test]
async fn changed_files_are_named_and_kept_beside_the_folder_when_forced() {
    for stays in [false, true] {
        let world = World::new().await;
        world.install("pack@1.0.0").await.unwrap();
        let target = world.target();
        fs::write(target.join("stays"), "mine").unwrap();
        fs::write(target.join("sub/notes"), "added").unwrap();
        std::os::unix::fs::symlink("/etc/hosts", target.join("link")).unwrap();
        let before = files(&target);
        let failure = world.asked("pack@2", |request| request.stays = stays).await.unwrap_err();
        assert_eq!(failure.code, Code::Conflict);
        for named in ["changed: stays", "extra: sub/notes", "extra: link"] {
            assert!(failure.message.contains(named), "{}", failure.message);
        }
        assert_eq!(files(&target), before, "nothing was changed");
        let forced = |request: &mut InstallRequest| (request.force, request.stays) = (true, stays);
        let installed = world.asked("pack@2", forced).await.unwrap();
        assert!(world.holds("2.0.0").await);
        let kept = PathBuf::from(installed.kept_in.unwrap());
        assert_eq!(kept, world.folder.path().join("target.kept-1"));
        assert_eq!(fs::read_to_string(kept.join("stays")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(kept.join("sub/notes")).unwrap(), "added");
        assert_eq!(fs::read_link(kept.join("link")).unwrap(), Path::new("/etc/hosts"));
        assert_eq!(installed.kept.len(), 3, "{:?}", installed.kept);
        assert_eq!(world.beside(), ["target.kept-1"]);
        // The same version again is restored, and another folder is taken for what was changed.
        fs::remove_file(target.join("gpack.toml")).unwrap();
        fs::write(target.join("stays"), "mine again").unwrap();
        assert_eq!(world.install("pack").await.unwrap_err().code, Code::Conflict);
        world.asked("pack", forced).await.unwrap();
        assert!(world.holds("2.0.0").await);
        assert_eq!(world.beside(), ["target.kept-1", "target.kept-2"]);
    }
}

#[tokio::test]
async fn an_empty_folder_is_filled_and_stays_the_folder_that_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    let target = world.target();
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o2770)).unwrap();
    let before = fs::metadata(&target).unwrap();
    world.install("pack@1.0.0").await.unwrap();
    // What has a mode of its own keeps it when another version comes, too.
    world.install("pack@2").await.unwrap();
    let after = fs::metadata(&target).unwrap();
    assert_eq!((after.ino(), after.mode(), after.gid()), (before.ino(), before.mode(), before.gid()));
    assert!(world.holds("2.0.0").await);
    // Through a link it is the folder that the link leads to.
    let (real, link) = (world.folder.path().join("real"), world.folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    let through = format!("{}/../link/.", link.display());
    let installed = world.asked("pack@1.0.0", |request| request.to = through).await.unwrap();
    assert_eq!(installed.path, real.display().to_string());
    assert!(real.join("stays").exists() && link.is_symlink());
}

#[tokio::test]
async fn a_folder_that_lacks_files_is_completed_and_one_with_anything_else_is_refused() {
    let world = World::new().await;
    let target = world.target();
    fs::create_dir_all(target.join("sub")).unwrap();
    fs::write(target.join("stays"), "the same in all versions").unwrap();
    fs::create_dir(target.join(".ggen-partial-left")).unwrap();
    world.install("pack@1.0.0").await.unwrap();
    assert!(world.holds("1.0.0").await);
    let other = world.folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("theirs"), "x").unwrap();
    for force in [false, true] {
        let to = other.display().to_string();
        let outcome = world.asked("pack", |request| (request.to, request.force) = (to, force)).await;
        assert_eq!(outcome.unwrap_err().code, Code::Conflict, "it was not installed by this node");
    }
    assert_eq!(files(&other).len(), 1);
}

#[tokio::test]
async fn a_kill_at_any_moment_of_a_replacement_leaves_one_of_the_versions_after_the_next_start() {
    let world = World::new().await;
    let target = world.target();
    world.install("pack@1.0.0").await.unwrap();
    let (old, new) = (world.row("1.0.0", &target), world.row("2.0.0", &target));
    let (old_manifest, _) = manifest_of_installed(&world.store, &old).unwrap();
    let (new_manifest, _) = manifest_of_installed(&world.store, &new).unwrap();
    let source = |id: &ContentId| super::super::install::held(&world.store, id);
    let noted = |replaced: &Path| world.store.write(|tx| Note::of(replaced, &old, &new).write(tx));
    // Swapped, and killed before anything was written down.
    let change = Change { old: Some(&old_manifest), new: &new_manifest, target: &target };
    let mut note = |replaced: &Path| noted(replaced);
    replace::exchange(&change, &source, &mut note, &mut |_, _| {}).unwrap().unwrap();
    fs::write(world.folder.path().join(world.beside().remove(0)).join("late"), "a file of the user").unwrap();
    resume_all(&world.store).unwrap();
    assert!(world.holds("2.0.0").await);
    assert_eq!(world.beside(), ["target.kept-1"], "what came late is kept");
    fs::remove_dir_all(world.folder.path().join("target.kept-1")).unwrap();
    // Noted, and killed before the swap.
    world.install("pack@1.0.0").await.unwrap();
    noted(&world.folder.path().join(".target.ggen-replaced-x")).unwrap();
    resume_all(&world.store).unwrap();
    assert!(world.holds("1.0.0").await);
    // Files were moved one by one: killed after each number of moves.
    for done in 0..=8u32 {
        world.install("pack@1.0.0").await.unwrap();
        let staging = target.join(".ggen-replaced-x");
        noted(&staging).unwrap();
        let going: Vec<PathBuf> = files(&target).into_keys().collect();
        let coming = files(&world.folder.path().join("source-2.0.0"));
        let mut left = done;
        for path in going.iter().filter(|path| !coming.contains_key(*path)) {
            if left > 0 {
                fs::create_dir_all(staging.join("old").join(path.parent().unwrap())).unwrap();
                fs::rename(target.join(path), staging.join("old").join(path)).unwrap();
                left -= 1;
            }
        }
        for (path, bytes) in &coming {
            let to = match left {
                0 => staging.join("new").join(path),
                _ => target.join(path),
            };
            left = left.saturating_sub(1);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
        resume_all(&world.store).unwrap();
        assert!(world.holds("2.0.0").await, "after {done} moves");
        assert_eq!(world.beside(), [""; 0]);
        assert!(world.store.read(|conn| meta::keys_from(conn, NOTE_PREFIX)).unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_forced_replacement_that_is_killed_before_it_moves_anything_is_completed() {
    let world = World::new().await;
    let target = world.target();
    world.install("pack@1.0.0").await.unwrap();
    fs::write(target.join("stays"), "mine").unwrap();
    let staging = target.join(".ggen-replaced-x");
    fs::create_dir(&staging).unwrap();
    world.note(&target, &staging);
    resume_all(&world.store).unwrap();
    assert!(world.holds("2.0.0").await);
    assert_eq!(fs::read_to_string(world.folder.path().join("target.kept-1/stays")).unwrap(), "mine");
    assert_eq!(world.notes(), 0);
}

#[tokio::test]
async fn a_replacement_that_cannot_be_completed_changes_nothing_and_is_tried_again() {
    let world = World::new().await;
    let target = world.target();
    world.install("pack@1.0.0").await.unwrap();
    fs::write(target.join("stays"), "mine").unwrap();
    // There is no room for what is to be moved out of the way.
    let taken: Vec<PathBuf> =
        (1..=1_000).map(|n| world.folder.path().join(format!("target.kept-{n}"))).collect();
    taken.iter().for_each(|path| fs::write(path, "").unwrap());
    world.note(&target, &target.join(".ggen-replaced-x"));
    let before = files(&target);
    resume_all(&world.store).unwrap();
    assert_eq!(files(&target), before);
    let row = world.store.read(|conn| installed::get(conn, &target)).unwrap().unwrap();
    assert_eq!(
        (row.version.to_string().as_str(), world.notes()),
        ("1.0.0", 1),
        "nothing is there that is not"
    );
    taken.iter().for_each(|path| fs::remove_file(path).unwrap());
    resume_all(&world.store).unwrap();
    assert!(world.holds("2.0.0").await && world.notes() == 0);
    // One that was deleted by hand is not made again.
    world.install("pack@1.0.0").await.unwrap();
    world.note(&target, &target.join(".ggen-replaced-x"));
    fs::remove_dir_all(&target).unwrap();
    resume_all(&world.store).unwrap();
    assert!(world.notes() == 0 && is_gone(&target));
}

#[tokio::test]
async fn a_replacement_in_a_folder_whose_path_is_no_text_is_completed_after_a_kill() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new().await;
    let (real, link) = (world.folder.path().join("real"), world.folder.path().join("link"));
    let real = real.join(std::ffi::OsStr::from_bytes(b"no\xfftext"));
    fs::create_dir_all(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let to = link.join("target").display().to_string();
    world.asked("pack@1.0.0", |request| request.to = to).await.unwrap();
    let target = real.join("target");
    let staging = target.join(".ggen-replaced-x");
    fs::create_dir(&staging).unwrap();
    world.note(&target, &staging);
    assert_eq!(world.store.read(in_progress).unwrap().len(), 2, "their blocks stay");
    resume_all(&world.store).unwrap();
    assert_eq!(files(&target), files(&world.folder.path().join("source-2.0.0")));
    assert_eq!(world.notes(), 0);
}

#[tokio::test]
async fn a_removal_takes_what_a_killed_replacement_left_with_it() {
    let world = World::new().await;
    let target = world.target();
    world.install("pack@1.0.0").await.unwrap();
    world.swap_and_die(&target);
    let request = RemoveRequest { package: "pack".to_owned(), ..RemoveRequest::default() };
    let removed = world.registry.remove(request).await.unwrap();
    assert_eq!(removed.version, "2.0.0", "what is there is told");
    assert!(is_gone(&target) && world.notes() == 0);
    assert_eq!(world.beside(), [""; 0]);
}

#[tokio::test]
async fn what_is_removed_or_was_deleted_by_hand_is_listed_no_more() {
    let world = World::new().await;
    let target = world.target();
    let remove = async |force: bool| {
        let request = RemoveRequest { package: "pack".to_owned(), force, ..RemoveRequest::default() };
        world.registry.remove(request).await
    };
    let listed = async || {
        let listing = world.registry.list().await.unwrap();
        listing.packages.into_iter().filter(|row| row.kind == "installed").collect::<Vec<_>>()
    };
    let verify = async || {
        world.registry.verify(VerifyRequest { package: "pack".to_owned(), ..VerifyRequest::default() }).await
    };
    world.install("pack@1.0.0").await.unwrap();
    fs::write(target.join("sub/notes"), "mine").unwrap();
    let failure = remove(false).await.unwrap_err();
    assert!(failure.code == Code::Conflict && failure.message.contains("extra: sub/notes"), "{failure:?}");
    assert_eq!(files(&target).len(), 5);
    let removed = remove(true).await.unwrap();
    assert_eq!((removed.files, &*removed.left), (4, &["sub/notes".to_owned()][..]));
    assert_eq!(files(&target).into_keys().collect::<Vec<_>>(), [PathBuf::from("sub/notes")]);
    assert!(listed().await.is_empty());
    assert_eq!(verify().await.unwrap_err().code, Code::NotFound);
    assert_eq!(remove(true).await.unwrap_err().code, Code::NotFound);
    fs::remove_dir_all(&target).unwrap();
    // Deleted by hand: told as gone until it is forgotten, or installed again.
    world.install("pack@1.0.0").await.unwrap();
    let other = world.folder.path().join("other").display().to_string();
    world.asked("pack@2", |request| request.to = other).await.unwrap();
    fs::remove_dir_all(&target).unwrap();
    let rows = listed().await;
    assert_eq!(rows.iter().map(|row| row.gone).collect::<Vec<_>>(), [false, true]);
    let verified = verify().await.unwrap();
    assert!(verified.ok && verified.others.len() == 1 && verified.others[0].gone, "{verified:?}");
    fs::remove_dir_all(world.folder.path().join("other")).unwrap();
    let failure = verify().await.unwrap_err();
    assert!(failure.code == Code::NotFound && failure.hint.contains("p2p remove"), "{failure:?}");
    let request = RemoveRequest { path: Some(target.display().to_string()), ..RemoveRequest::default() };
    assert!(world.registry.remove(request).await.unwrap().was_gone);
    assert!(remove(false).await.unwrap().was_gone);
    assert!(listed().await.is_empty());
}

#[tokio::test]
async fn what_is_on_a_drive_that_is_not_mounted_is_neither_gone_nor_forgotten() {
    let world = World::new().await;
    let target = world.target();
    world.install("pack@1.0.0").await.unwrap();
    fs::remove_dir_all(&target).unwrap();
    // What is left of a drive is its mount point, on another file system.
    let moved = world.store.write(|tx| Ok(tx.execute("UPDATE installed SET device = device + 1", [])?));
    assert_eq!(moved.unwrap(), 1);
    let rows = world.registry.list().await.unwrap().packages;
    let shown = rows.iter().find(|row| row.kind == "installed").unwrap();
    assert!(shown.out_of_sight && !shown.gone, "{shown:?}");
    let request = VerifyRequest { package: "pack".to_owned(), ..VerifyRequest::default() };
    let failure = world.registry.verify(request).await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    assert!(failure.hint.contains("Mount the drive") && !failure.hint.contains("p2p remove"), "{failure:?}");
    let remove = async |force| {
        let request = RemoveRequest { package: "pack".to_owned(), force, ..RemoveRequest::default() };
        world.registry.remove(request).await
    };
    assert_eq!(remove(false).await.unwrap_err().code, Code::Conflict);
    assert_eq!(world.store.read(installed::list_all).unwrap().len(), 1);
    let removed = remove(true).await.unwrap();
    assert!(removed.out_of_sight && !removed.was_gone, "what is there stays: {removed:?}");
}

#[tokio::test]
async fn a_version_that_was_swapped_in_is_noted_also_where_its_user_changed_it_since() {
    let world = World::new().await;
    let target = world.target();
    world.install("pack@1.0.0").await.unwrap();
    world.swap_and_die(&target);
    // Its user goes on before anything runs again.
    fs::write(target.join("stays"), "mine").unwrap();
    resume_all(&world.store).unwrap();
    let noted = || world.store.read(|conn| installed::get(conn, &target)).unwrap().unwrap();
    assert_eq!((noted().version.to_string().as_str(), world.notes()), ("2.0.0", 0));
    assert_eq!(fs::read_to_string(target.join("stays")).unwrap(), "mine");
    // One that was killed before it swapped anything is still the old one.
    world.note(&target, &world.folder.path().join("target.ggen-replaced-x"));
    let row = world.row("1.0.0", &target);
    world.store.write(|tx| installed::insert(tx, &row)).unwrap();
    resume_all(&world.store).unwrap();
    assert_eq!((noted().version.to_string().as_str(), world.notes()), ("1.0.0", 0));
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_put_in_place() {
    let world = World::new().await;
    assert_eq!(world.ask_and_go("pack@1.0.0").await, Code::Interrupted);
    assert!(!world.target().exists());
    world.install("pack@1.0.0").await.unwrap();
    // Nor in the place of another version, whether the folder is swapped or filled.
    for mode in [0o755, 0o700] {
        fs::set_permissions(world.target(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(world.ask_and_go("pack@2.0.0").await, Code::Interrupted);
        assert!(world.holds("1.0.0").await);
    }
    world.install("pack@2.0.0").await.unwrap();
    assert!(world.holds("2.0.0").await);
}

#[tokio::test]
async fn a_folder_that_was_there_and_is_whole_is_said_to_count_from_now_on() {
    let world = World::new().await;
    let source = world.folder.path().join("source-1.0.0");
    let copied =
        std::process::Command::new("cp").arg("-r").arg(&source).arg(world.target()).status().unwrap();
    assert!(copied.success());
    let installed = world.install("pack@1.0.0").await.unwrap();
    assert!(installed.already_installed, "{installed:?}");
    assert!(installed.warnings.iter().any(|it| it.contains("was there already")), "{installed:?}");
    let again = world.install("pack@1.0.0").await.unwrap();
    assert!(again.warnings.iter().all(|it| !it.contains("was there already")), "{again:?}");
}

#[tokio::test]
async fn what_is_refused_for_what_stands_there_does_not_count_as_interrupted() {
    let world = World::new().await;
    fs::create_dir(world.target()).unwrap();
    fs::write(world.target().join("mine"), "mine").unwrap();
    assert_eq!(world.install("pack@1.0.0").await.unwrap_err().code, Code::Conflict);
    assert!(world.store.read(store::partial::list_all).unwrap().is_empty());
}
