//! Tests of what is moved where.

use std::{cell::Cell, collections::BTreeMap};

use super::*;
use crate::{
    code::Code,
    content::{Block, ContentId},
    package::testing::{self, Blocks},
};

fn source(blocks: &Blocks) -> impl Fn(&ContentId) -> Result<Block, &'static str> + '_ {
    |id| Ok(Block::new(id.codec(), blocks.get(id).cloned().ok_or("not here")?))
}

fn written(root: &Path, files: &[(&str, &[u8])]) {
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let found = check::list(root).unwrap();
    found.into_keys().map(|path| (path.clone(), fs::read(root.join(path)).unwrap())).collect()
}

const OLD_FILES: &[(&str, &[u8])] = &[("a", b"old"), ("b/c", b"same"), ("gone/x", b"x")];
const NEW_FILES: &[(&str, &[u8])] = &[("a", b"new"), ("b/c", b"same"), ("gone", b"now a file")];

#[test]
fn a_move_that_fails_is_taken_back_with_all_before_it() {
    let (old, _) = testing::package(OLD_FILES);
    let (new, blocks) = testing::package(NEW_FILES);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    written(&target, OLD_FILES);
    written(&target, &[("mine", b"kept")]);
    let change = Change { old: Some(&old), new: &new, target: &target };
    let before = files(&target);
    // Somebody makes an empty folder where a file goes, just before the files are moved.
    let mut note = |_: &Path| {
        fs::create_dir_all(target.join("gone/empty")).unwrap();
        Ok(())
    };
    let mut kept = Kept::beside(&target);
    let error = lay(&change, &source(&blocks), Some(&mut kept), &mut note, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.code(|_| Code::Failed), Code::Conflict);
    assert_eq!(files(&target), before);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no folder of kept files is left");
}

#[test]
fn what_was_moved_out_of_the_way_is_moved_back_where_the_rest_cannot_be() {
    use std::os::unix::ffi::OsStrExt;
    /// Bytes of the longest path that can be opened, with its end.
    const PATH_MAX: usize = 4_096;
    let (old, _) = testing::package(OLD_FILES);
    let (new, blocks) = testing::package(NEW_FILES);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    written(&target, OLD_FILES);
    written(&target, &[("mine", b"kept")]);
    fs::write(target.join(std::ffi::OsStr::from_bytes(b"m\xff")), b"no text").unwrap();
    // In the folder of kept files, whose name is longer, there is no place for this one.
    let mut deep = target.join("z");
    while deep.as_os_str().len() + 202 < PATH_MAX {
        deep.push("d".repeat(200));
        fs::create_dir_all(&deep).unwrap();
    }
    let rest = PATH_MAX - 2 - deep.as_os_str().len();
    fs::write(deep.join("f".repeat(rest)), b"deep").unwrap();
    let change = Change { old: Some(&old), new: &new, target: &target };
    let before = files(&target);
    let mut kept = Kept::beside(&target);
    lay(&change, &source(&blocks), Some(&mut kept), &mut |_| Ok(()), &mut |_, _| {}).unwrap_err();
    assert_eq!(files(&target), before);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no folder of kept files is left");
    assert!(kept.files().is_empty() && kept.folder().is_none(), "{kept:?}");
}

#[test]
fn what_is_in_the_way_is_refused_before_anything_is_written() {
    let (new, blocks) = testing::package(NEW_FILES);
    let place = tempfile::tempdir().unwrap();
    written(place.path(), &[("a", b"not new")]);
    let is_noted = Cell::new(false);
    let mut note = |_: &Path| {
        is_noted.set(true);
        Ok(())
    };
    let change = Change { old: None, new: &new, target: place.path() };
    let error = lay(&change, &source(&blocks), None, &mut note, &mut |_, _| {}).unwrap_err();
    assert!(error.code(|_| Code::Failed) == Code::Conflict && !is_noted.get());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn only_what_is_as_it_was_signed_is_discarded() {
    let (old, _) = testing::package(OLD_FILES);
    let place = tempfile::tempdir().unwrap();
    let (folder, target) = (place.path().join("replaced"), place.path().join("t"));
    written(&folder, OLD_FILES);
    written(&folder, &[("b/c", b"changed"), ("b/d", b"added")]);
    let mut kept = Kept::beside(&target);
    assert!(discard(&folder, &[&old], &mut kept).unwrap());
    assert!(!folder.exists());
    let saved = files(&place.path().join("t.kept-1"));
    assert_eq!(saved.into_values().collect::<Vec<_>>(), [b"changed".to_vec(), b"added".to_vec()]);
    assert!(discard(&folder, &[&old], &mut kept).unwrap(), "one that is gone is discarded");
}

#[test]
fn a_folder_with_a_mode_of_its_own_is_not_swapped() {
    use std::os::unix::fs::PermissionsExt;
    let (old, _) = testing::package(OLD_FILES);
    let (new, blocks) = testing::package(NEW_FILES);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("t");
    written(&target, OLD_FILES);
    let change = Change { old: Some(&old), new: &new, target: &target };
    let swapped = |mode| {
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        exchange(&change, &source(&blocks), &mut |_| Ok(()), &mut |_, _| {}).unwrap()
    };
    assert_eq!(swapped(0o750), None);
    assert_eq!(files(&target).len(), 3);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let replaced = swapped(0o755).unwrap();
    assert_eq!((files(&target).len(), files(&replaced).len()), (3, 3));
    assert!(target.join("gone").is_file() && replaced.join("gone/x").is_file());
}

mod drawn {
    use proptest::prelude::*;

    use super::*;

    /// A tree of a few files, each of a few contents, with names that may be a file in one tree and a folder in another.
    fn tree() -> impl Strategy<Value = BTreeMap<String, u8>> {
        let path = prop::sample::select(vec!["a", "a/b", "a/b/c", "d", "d/e", "f", "g/h", "g"]);
        prop::collection::btree_map(path.prop_map(str::to_owned), 0u8..3, 1..6).prop_map(|mut tree| {
            // A path is no folder of another one in the same tree.
            let paths: Vec<String> = tree.keys().cloned().collect();
            tree.retain(|path, _| !paths.iter().any(|other| other.starts_with(&format!("{path}/"))));
            tree
        })
    }

    fn listed(tree: &BTreeMap<String, u8>) -> Vec<(&str, Vec<u8>)> {
        tree.iter().map(|(path, content)| (path.as_str(), vec![*content; 3])).collect()
    }

    fn package(tree: &BTreeMap<String, u8>) -> (Manifest, Blocks) {
        let files = listed(tree);
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
        testing::package(&files)
    }

    /// The bytes of all files, those of the staging folders left out.
    fn contents(root: &Path) -> Vec<Vec<u8>> {
        files(root).into_values().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn whatever_the_user_did_to_it_the_new_version_is_there_and_nothing_of_the_user_is_lost(
            old in tree(), new in tree(), mine in tree(), fails_at in prop::option::of(0usize..6)
        ) {
            let ((old_manifest, _), (new_manifest, blocks)) = (package(&old), package(&new));
            let place = tempfile::tempdir().unwrap();
            let target = place.path().join("t");
            fs::create_dir(&target).unwrap();
            for (path, bytes) in listed(&old) {
                written(&target, &[(path, &bytes)]);
            }
            // What cannot be written, because a file stands where a folder is needed, the user did not write either.
            let mut of_user = Vec::new();
            for (path, content) in &mine {
                let bytes = vec![b'u', *content];
                let to = target.join(path);
                if fs::create_dir_all(to.parent().unwrap()).is_ok() && fs::write(&to, &bytes).is_ok() {
                    of_user.push(bytes);
                }
            }
            let before = files(&target);
            let asked = Cell::new(0);
            let counted = |id: &ContentId| {
                asked.set(asked.get() + 1);
                match fails_at {
                    Some(at) if asked.get() > at => Err("the disk is full"),
                    _ => source(&blocks)(id),
                }
            };
            let mut kept = Kept::beside(&target);
            let change = Change { old: Some(&old_manifest), new: &new_manifest, target: &target };
            match lay(&change, &counted, Some(&mut kept), &mut |_| Ok(()), &mut |_, _| {}) {
                Ok(staging) => {
                    prop_assert!(discard(&staging, &[&old_manifest, &new_manifest], &mut kept).unwrap());
                    prop_assert!(check::check(&new_manifest, &target).unwrap().differences.is_empty());
                    let saved = kept.folder().map(contents).unwrap_or_default();
                    let mut expected = of_user;
                    expected.sort();
                    let mut saved = saved;
                    saved.sort();
                    prop_assert_eq!(saved, expected);
                }
                Err(_) => {
                    prop_assert!(fails_at.is_some());
                    prop_assert_eq!(files(&target), before);
                    prop_assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
                }
            }
        }
    }
}

#[test]
fn a_pipe_is_not_opened_to_be_moved_to_another_file_system() {
    let place = tempfile::tempdir().unwrap();
    let (pipe, to) = (place.path().join("pipe"), place.path().join("to"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert_eq!(move_across(&pipe, &to).unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert!(pipe.exists() && !to.exists());
    fs::write(&to, "a file").unwrap();
    let moved = place.path().join("moved");
    move_across(&to, &moved).unwrap();
    assert!(!to.exists() && fs::read_to_string(moved).unwrap() == "a file");
}
