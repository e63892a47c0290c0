use std::path::Component;

use super::*;
use crate::{
    content::Codec,
    identity::PublisherId,
    project::{journal, journal::FOLDER},
};

pub(in crate::project) fn placed(name: &str, version: &str) -> Placed {
    Placed {
        package: PackageId { publisher: PublisherId::from_bytes([1; 32]), name: name.parse().unwrap() },
        version: version.parse().unwrap(),
        root: ContentId::of(Codec::DagPb, version.as_bytes()),
        manifest: ContentId::of(Codec::Raw, format!("{name}{version}").as_bytes()),
    }
}

/// Everything that a user sees of a project: files and what is in them.
fn seen(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let inside = path.strip_prefix(root).unwrap().to_owned();
                let own = |part: Component<'_>| {
                    [OWN, KEPT, FOLDER, ".gitignore"].map(Some).contains(&part.as_os_str().to_str())
                };
                if !inside.components().any(own) {
                    found.insert(inside, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A project with two packages, of which one is about to be replaced and one removed; a third comes.
struct World {
    folder: tempfile::TempDir,
}

const SEAL: Seal = Seal::from_bytes([7; 32]);
const FILES: [&str; 2] = ["gpack.toml", "gpack.lock"];

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in FILES {
            write(&root.join(file), &format!("old {file}"));
        }
        let world = Self { folder };
        let root = world.folder.path().canonicalize().unwrap();
        let guard = Guard::lock(&root).unwrap();
        let mut site = Site::new(&guard, Path::new("gpacks")).unwrap();
        site.prepare().unwrap();
        for name in ["replaced", "removed"] {
            write(&site.next(name).join("deep/file"), &format!("old {name}"));
        }
        let swaps = ["replaced", "removed"].map(|name| Swap {
            name: name.to_owned(),
            was: Was::Nothing,
            brings: Some(Box::new(placed(name, "1.0.0"))),
        });
        let index = Index {
            packages: ["replaced", "removed"].map(|name| (name.to_owned(), placed(name, "1.0.0"))).into(),
        };
        site.commit(swaps.into(), &index, &[], &SEAL, &mut |_, _| true).unwrap();
        world
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// The change, with a disk that ends at some time.
    fn change(&self, disk: Disk, keeps: Keeps<'_>) -> Result<Done, Error> {
        let guard = Guard::lock(&self.root())?;
        let mut site = Site::with_disk(&guard, Path::new("gpacks"), disk)?;
        site.prepare()?;
        for name in ["replaced", "new"] {
            write(&site.next(name).join("deep/file"), &format!("new {name}"));
        }
        let was = |name: &str| Was::Placed(Box::new(placed(name, "1.0.0")));
        let brings = |name: &str| Some(Box::new(placed(name, "2.0.0")));
        let swaps = vec![
            Swap { name: "new".to_owned(), was: Was::Nothing, brings: brings("new") },
            Swap { name: "removed".to_owned(), was: was("removed"), brings: None },
            Swap { name: "replaced".to_owned(), was: was("replaced"), brings: brings("replaced") },
        ];
        let index = Index {
            packages: ["replaced", "new"].map(|name| (name.to_owned(), placed(name, "2.0.0"))).into(),
        };
        let files = FILES.map(|name| FileChange {
            name,
            before: Some(format!("old {name}").into_bytes()),
            after: format!("new {name}").into_bytes(),
        });
        site.commit(swaps, &index, &files, &SEAL, keeps)
    }

    fn recover(&self, disk: Disk) -> Result<Option<Done>, Error> {
        let guard = Guard::lock(&self.root())?;
        recover_with(&guard, &SEAL, &mut |_, _| false, disk)
    }

    fn index(&self) -> Index {
        let guard = Guard::lock(&self.root()).unwrap();
        Site::new(&guard, Path::new("gpacks")).unwrap().index().unwrap()
    }
}

/// What a user sees before the change, and after it.
fn both() -> [(BTreeMap<PathBuf, Vec<u8>>, Index); 2] {
    let world = World::new();
    let old = (seen(&world.root()), world.index());
    world.change(Disk::default(), &mut |_, _| false).unwrap();
    let new = (seen(&world.root()), world.index());
    assert_ne!(old, new);
    assert!(!world.root().join(FOLDER).exists() && !world.root().join("gpacks/.ggen/old").exists());
    [old, new]
}

#[test]
fn a_kill_after_any_operation_leaves_the_old_or_the_new_once_it_is_recovered() {
    let [old, new] = both();
    let (mut olds, mut news) = (0, 0);
    for operations in 0.. {
        let world = World::new();
        let killed = world.change(Disk::killed_after(operations), &mut |_, _| false).is_err();
        let recovered = world.recover(Disk::default()).unwrap();
        let now = (seen(&world.root()), world.index());
        assert!(now == old || now == new, "after {operations} operations: {:?}", now.0);
        // Files and index alone do not say it: all of it is the one or the other.
        if now == old {
            olds += 1
        } else {
            news += 1
        }
        assert!(recovered.is_none() || now == new, "what stood in the journal was completed");
        assert!(!world.root().join(FOLDER).exists(), "after {operations}");
        if !killed {
            break;
        }
        // The same command again ends well.
        if now == old {
            world.change(Disk::default(), &mut |_, _| false).unwrap();
            assert_eq!((seen(&world.root()), world.index()), new);
        }
    }
    assert!(olds > 5 && news > 5, "{olds} {news}");
}

#[test]
fn a_recovery_that_is_killed_is_completed_by_the_next_one() {
    let [_, new] = both();
    let total =
        (0..).find(|n| World::new().change(Disk::killed_after(*n), &mut |_, _| false).is_ok()).unwrap();
    let begins = (0..total).find(|n| {
        let world = World::new();
        drop(world.change(Disk::killed_after(*n), &mut |_, _| false));
        world.root().join(FOLDER).join("journal.json").exists()
    });
    for first in (begins.unwrap()..total).step_by(3) {
        for second in 0.. {
            let world = World::new();
            drop(world.change(Disk::killed_after(first), &mut |_, _| false));
            let is_over = world.recover(Disk::killed_after(second)).is_ok();
            world.recover(Disk::default()).unwrap();
            assert_eq!((seen(&world.root()), world.index()), new, "{first} {second}");
            if is_over {
                break;
            }
        }
    }
}

#[test]
fn one_operation_that_fails_leaves_the_old_or_the_new_at_once() {
    let [old, new] = both();
    let mut failed = 0;
    for operations in 0.. {
        let world = World::new();
        let outcome = world.change(Disk::failing_once_after(operations), &mut |_, _| false);
        let now = seen(&world.root());
        match outcome {
            Ok(_) => {
                assert_eq!(now, new.0);
                break;
            }
            Err(_) => {
                assert!(now == old.0 || now == new.0, "after {operations} operations: {now:?}");
                let is_over = now == old.0 && Journal::read(&world.root()).unwrap().is_none();
                let left = world.root().join(crate::project::journal::FOLDER);
                assert!(!is_over || !left.exists(), "after {operations} operations");
                failed += 1;
            }
        }
        world.recover(Disk::default()).unwrap();
        let now = (seen(&world.root()), world.index());
        assert!(now == old || now == new, "after {operations} operations: {now:?}");
    }
    assert!(failed > 20, "{failed}");
}

#[test]
fn what_somebody_changed_is_kept_and_told() {
    let world = World::new();
    let place = world.root().join("gpacks/replaced/deep/file");
    fs::write(&place, "mine").unwrap();
    let mut keeps = |was: &Was, folder: &Path| {
        assert!(matches!(was, Was::Placed(_)));
        fs::read(folder.join("deep/file")).unwrap() == b"mine"
    };
    let done = world.change(Disk::default(), &mut keeps).unwrap();
    assert_eq!(done.kept, [world.root().join("gpacks/.kept/replaced-1")]);
    assert_eq!(fs::read(done.kept[0].join("deep/file")).unwrap(), b"mine");
    assert_eq!(fs::read(&place).unwrap(), b"new replaced");
}

#[test]
fn what_appeared_where_a_killed_change_goes_on_is_kept_too() {
    let world = World::new();
    // The old folder is out of the way, and the new one is not there yet.
    let killed = (0..).find(|n| {
        let world = World::new();
        drop(world.change(Disk::killed_after(*n), &mut |_, _| false));
        !world.root().join("gpacks/replaced").exists()
    });
    drop(world.change(Disk::killed_after(killed.unwrap()), &mut |_, _| false));
    write(&world.root().join("gpacks/replaced/notes"), "mine");
    let done = world.recover(Disk::default()).unwrap().unwrap();
    assert_eq!(fs::read(done.kept[0].join("notes")).unwrap(), b"mine");
    assert_eq!(fs::read(world.root().join("gpacks/replaced/deep/file")).unwrap(), b"new replaced");
}

#[test]
fn a_file_that_was_changed_meanwhile_stops_the_change() {
    let world = World::new();
    fs::write(world.root().join("gpack.toml"), "edited").unwrap();
    let before = seen(&world.root());
    let refused = world.change(Disk::default(), &mut |_, _| false);
    assert!(matches!(refused, Err(Error::Moved { .. })), "{refused:?}");
    world.recover(Disk::default()).unwrap();
    assert_eq!(seen(&world.root()), before);
}

#[test]
fn a_journal_that_this_state_folder_did_not_write_does_nothing() {
    let planted = |world: &World, seal: Option<&Seal>, way: Way| {
        // It says of what its user wrote that a change put it there.
        write(&world.root().join("src/app/main.rs"), "mine");
        write(&world.root().join("src/.ggen/next/keep"), "");
        let brings = Some(Box::new(placed("app", "1.0.0")));
        let swap = Swap { name: "app".to_owned(), was: Was::Nothing, brings };
        let file = FileSwap { name: "gpack.toml".to_owned(), had_old: false, after: digest(b"other") };
        let mut journal = Journal::new("src".to_owned(), vec![swap], vec![file], false);
        journal.way = way;
        let text = seal.map(|seal| journal.text(seal).unwrap());
        let text = text.unwrap_or_else(|| serde_json::to_vec(&journal).unwrap());
        write(&world.root().join(FOLDER).join("journal.json"), &String::from_utf8(text).unwrap());
    };
    let other = Seal::from_bytes([8; 32]);
    for way in [Way::Forward, Way::Back, Way::Clean] {
        for seal in [None, Some(&other)] {
            let world = World::new();
            planted(&world, seal, way);
            let before = seen(&world.root());
            let refused = world.recover(Disk::default());
            assert!(matches!(refused, Err(Error::Foreign { .. })), "{way:?}: {refused:?}");
            assert_eq!(seen(&world.root()), before);
            assert!(world.root().join("src/.ggen/next/keep").exists());
        }
    }
    // One of this state folder that was changed is not its own any more.
    let world = World::new();
    planted(&world, Some(&SEAL), Way::Forward);
    let path = world.root().join(FOLDER).join("journal.json");
    let changed = fs::read_to_string(&path).unwrap().replace("forward", "back");
    fs::write(&path, changed).unwrap();
    assert!(matches!(world.recover(Disk::default()), Err(Error::Foreign { .. })));
    // Nor does such a journal come with a package.
    assert!([FOLDER, OWN].into_iter().all(crate::package::path::is_own));
    // Even under the right seal nothing of the user's is lost: it is kept, and that is told.
    let world = World::new();
    planted(&world, Some(&SEAL), Way::Back);
    let guard = Guard::lock(&world.root()).unwrap();
    let done = recover_with(&guard, &SEAL, &mut |_, _| true, Disk::default()).unwrap().unwrap();
    let kept = world.root().join("src/.kept");
    assert_eq!(done.kept, [kept.join("gpack.toml-1"), kept.join("app-1")]);
    assert_eq!(fs::read(kept.join("app-1/main.rs")).unwrap(), b"mine");
    assert_eq!(fs::read(kept.join("gpack.toml-1")).unwrap(), b"old gpack.toml");
}

#[test]
fn what_a_person_wrote_where_a_change_is_taken_back_is_kept() {
    let [old, _] = both();
    let total =
        (0..).find(|n| World::new().change(Disk::killed_after(*n), &mut |_, _| false).is_ok()).unwrap();
    let mut kept = 0;
    for operations in 0..total {
        let world = World::new();
        drop(world.change(Disk::killed_after(operations), &mut |_, _| false));
        let Some(mut journal) = Journal::read(&world.root()).unwrap().filter(|it| it.way == Way::Forward)
        else {
            continue;
        };
        journal.way = Way::Back;
        journal.write(&world.root(), &SEAL, &mut Disk::default()).unwrap();
        let (toml, new) = (world.root().join("gpack.toml"), world.root().join("gpacks/new/deep/file"));
        let (is_put, is_new) = (fs::read(&toml).unwrap() == b"new gpack.toml", new.exists());
        if is_put {
            fs::write(&toml, "mine").unwrap();
        }
        if is_new {
            fs::write(&new, "mine").unwrap();
        }
        // Removed, and made again by its user.
        let removed = world.root().join("gpacks/removed");
        let is_removed = !removed.exists();
        if is_removed {
            write(&removed.join("notes"), "mine");
        }
        let mut keeps =
            |_: &Was, folder: &Path| fs::read(folder.join("deep/file")).is_ok_and(|bytes| bytes == b"mine");
        let guard = Guard::lock(&world.root()).unwrap();
        let done = recover_with(&guard, &SEAL, &mut keeps, Disk::default()).unwrap().unwrap();
        drop(guard);
        assert_eq!((seen(&world.root()), world.index()), old, "after {operations}");
        let wanted = [(is_put, "gpack.toml-1"), (is_removed, "removed-1/notes"), (is_new, "new-1/deep/file")];
        for (_, name) in wanted.iter().filter(|(is_wanted, _)| *is_wanted) {
            let path = world.root().join("gpacks/.kept").join(name);
            assert_eq!(fs::read(&path).unwrap(), b"mine", "after {operations}: {name}");
        }
        assert_eq!(done.kept.len(), wanted.iter().filter(|(is_wanted, _)| *is_wanted).count());
        kept += done.kept.len();
    }
    assert!(kept > 5, "{kept}");
}

#[test]
fn what_was_out_of_the_way_is_kept_where_the_journal_was_deleted() {
    let world = World::new();
    write(&world.root().join("gpacks/.ggen/old/replaced/notes"), "mine");
    let done = world.change(Disk::default(), &mut |_, _| false).unwrap();
    assert_eq!(done.kept, [world.root().join("gpacks/.kept/old-1")]);
    assert_eq!(fs::read(done.kept[0].join("replaced/notes")).unwrap(), b"mine");
}

#[test]
fn a_folder_that_leads_out_of_the_project_is_refused() {
    let world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), world.root().join("linked")).unwrap();
    let guard = Guard::lock(&world.root()).unwrap();
    for bad in ["linked", "linked/below", "gpack.toml", "gpack.toml/below"] {
        let refused = Site::new(&guard, Path::new(bad));
        assert!(matches!(refused, Err(Error::Folder { .. })), "{bad}: {refused:?}");
    }
}

#[test]
fn no_link_among_the_own_folders_leads_out_of_the_project() {
    let mut journal = Journal::new("gpacks".to_owned(), vec![], vec![], false);
    journal.way = Way::Clean;
    let journal = String::from_utf8(journal.text(&SEAL).unwrap()).unwrap();
    let owns = OWN_FOLDERS.map(|own| format!("gpacks/{own}")).into_iter().chain([FOLDER.to_owned()]);
    for own in owns {
        let (world, victim) = (World::new(), tempfile::tempdir().unwrap());
        for mine in ["next/mine", "old/mine", "index.next", "index.old", "index.json", "journal.new"] {
            write(&victim.path().join(mine), "mine");
        }
        write(&victim.path().join("journal.json"), &journal);
        let before = seen(victim.path());
        let link = world.root().join(&own);
        let _ = fs::remove_dir_all(&link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(victim.path(), &link).unwrap();
        if own != FOLDER {
            let changed = world.change(Disk::default(), &mut |_, _| false);
            assert!(matches!(changed, Err(Error::Folder { .. })), "{own}: {changed:?}");
            write(&world.root().join(FOLDER).join("journal.json"), &journal);
        }
        let recovered = world.recover(Disk::default());
        assert!(matches!(recovered, Err(Error::Folder { .. })), "{own}: {recovered:?}");
        assert_eq!(seen(victim.path()), before, "{own}");
    }
}

#[test]
fn a_note_that_is_a_link_is_replaced_and_never_followed() {
    for note in ["gpacks/.ggen/index.next", "gpacks/.ggen/index.old", "gpacks/.gitignore"] {
        let (world, victim) = (World::new(), tempfile::NamedTempFile::new().unwrap());
        fs::write(victim.path(), "mine").unwrap();
        let link = world.root().join(note);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(victim.path(), &link).unwrap();
        world.change(Disk::default(), &mut |_, _| false).unwrap();
        assert_eq!(fs::read(victim.path()).unwrap(), b"mine", "{note}");
        assert_eq!(world.index().packages["new"], placed("new", "2.0.0"));
    }
}

#[test]
fn what_a_person_wrote_after_a_kill_is_not_overwritten_by_what_is_completed() {
    let mut edited = 0;
    for operations in 0.. {
        let world = World::new();
        let killed = world.change(Disk::killed_after(operations), &mut |_, _| false).is_err();
        let path = world.root().join("gpack.toml");
        if !killed || fs::read(&path).unwrap() != b"old gpack.toml" {
            break;
        }
        fs::write(&path, "edited").unwrap();
        let mut before = seen(&world.root());
        let recovered = world.recover(Disk::default());
        if !matches!(recovered, Ok(None)) {
            assert!(matches!(recovered, Err(Error::Moved { .. })), "{operations}: {recovered:?}");
            edited += 1;
            let old = both()[0].clone();
            before = old.0;
            before.insert("gpack.toml".into(), b"edited".to_vec());
            assert_eq!(world.index(), old.1);
        }
        assert_eq!(seen(&world.root()), before, "after {operations}");
        assert!(!world.root().join(FOLDER).exists());
    }
    assert!(edited > 5, "{edited}");
}

#[test]
fn what_others_published_is_ignored_unless_a_person_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let ignores = folder.path().join("gpacks/.gitignore");
    let prepare = || {
        let guard = Guard::lock(folder.path()).unwrap();
        Site::new(&guard, Path::new("gpacks")).unwrap().prepare().unwrap();
        fs::read_to_string(&ignores).unwrap()
    };
    fs::create_dir(folder.path().join("gpacks")).unwrap();
    assert_eq!(prepare(), "*\n", "also in a folder that was there before");
    fs::write(&ignores, "").unwrap();
    assert_eq!(prepare(), "");
}

#[test]
fn notes_that_no_program_wrote_change_nothing() {
    let world = World::new();
    let before = seen(&world.root());
    let journal = world.root().join(FOLDER).join("journal.json");
    for bad in [
        "",
        "{}",
        r#"{"version":2,"folder":"gpacks","way":"forward","swaps":[],"files":[],"had_index":false}"#,
        r#"{"version":1,"folder":"../x","way":"forward","swaps":[],"files":[],"had_index":false}"#,
        r#"{"version":1,"folder":"gpacks","way":"forward","swaps":[{"name":"../x","was":"nothing","brings":null}],"files":[],"had_index":false}"#,
        r#"{"version":1,"folder":"gpacks","way":"forward","swaps":[{"name":".git","was":"nothing","brings":null}],"files":[],"had_index":false}"#,
        r#"{"version":1,"folder":"gpacks","way":"forward","swaps":[],"files":[{"name":"../x","had_old":true,"after":""}],"had_index":false}"#,
    ] {
        write(&journal, bad);
        let refused = world.recover(Disk::default());
        assert!(matches!(refused, Err(Error::Note { .. } | Error::Newer { .. })), "{bad}: {refused:?}");
        assert_eq!(seen(&world.root()), before);
    }
    fs::remove_dir_all(world.root().join(FOLDER)).unwrap();
    let index = world.root().join("gpacks/.ggen/index.json");
    for bad in ["x", r#"{"version":9,"packages":{}}"#, r#"{"version":1,"packages":{"..":7}}"#] {
        write(&index, bad);
        let guard = Guard::lock(&world.root()).unwrap();
        assert!(Site::new(&guard, Path::new("gpacks")).unwrap().index().is_err(), "{bad}");
    }
    assert!(["a", "a-b_c", "x@gp1q"].iter().all(|name| journal::is_folder_name(name)));
    assert!(["", ".", "..", ".kept", "a/b", "A", "a\0"].iter().all(|name| !journal::is_folder_name(name)));
}
