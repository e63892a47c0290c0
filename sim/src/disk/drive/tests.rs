//! What is left of what was done to a disk, after many power cuts.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
};

use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use tempfile::TempDir;

use super::*;
use crate::virtualise::files;

/// What is left after each of many power cuts of what was done to a disk.
fn cuts<T: Ord>(act: impl Fn(&Path), look: impl Fn(&Path) -> T) -> BTreeSet<T> {
    let cut = |seed| {
        let scratch = TempDir::new().unwrap();
        let folder = scratch.path().canonicalize().unwrap().join("disk");
        let drive = Rc::new(Drive::new(&folder, "node-0", Draws::new(seed)).unwrap());
        let _watching = files::watch(Rc::new(Drives(vec![drive.clone()])));
        act(drive.top());
        drive.kill();
        drive.cut_power().unwrap();
        look(drive.top())
    };
    (0..40).map(cut).collect()
}

fn content(top: &Path) -> Option<Vec<u8>> {
    fs::read(top.join("file")).ok()
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

/// A file with `old` in it that is on the disk for certain.
fn lay(top: &Path, old: &[u8]) -> File {
    let path = top.join("file");
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    file.write_all(old).unwrap();
    file.sync_all().unwrap();
    File::open(top).unwrap().sync_all().unwrap();
    file
}

#[test]
fn a_write_without_a_sync_may_be_lost_and_with_one_never() {
    let written = |syncs: bool| {
        move |top: &Path| {
            let file = lay(top, b"old");
            file.write_all_at(b"new", 0).unwrap();
            if syncs {
                file.sync_data().unwrap();
            }
        }
    };
    assert_eq!(cuts(written(false), content), [some(b"old"), some(b"new")].into());
    assert_eq!(cuts(written(true), content), [some(b"new")].into());
}

#[test]
fn a_file_that_was_emptied_or_cut_may_be_whole_again() {
    let emptied = |top: &Path| drop((lay(top, b"old"), File::create(top.join("file")).unwrap()));
    assert_eq!(cuts(emptied, content), [some(b"old"), some(b"")].into());
    let cut = |top: &Path| lay(top, b"old").set_len(1).unwrap();
    assert_eq!(cuts(cut, content), [some(b"old"), some(b"o")].into());
}

#[test]
fn what_replaces_a_file_is_there_for_certain_once_its_folder_was_synced() {
    let replaced = |syncs: bool| {
        move |top: &Path| {
            lay(top, b"old");
            let new = File::create(top.join("new")).unwrap();
            new.write_all_at(b"new", 0).unwrap();
            new.sync_all().unwrap();
            fs::rename(top.join("new"), top.join("file")).unwrap();
            if syncs {
                File::open(top).unwrap().sync_all().unwrap();
            }
        }
    };
    assert_eq!(cuts(replaced(false), content), [some(b"old"), some(b"new")].into());
    assert_eq!(cuts(replaced(true), content), [some(b"new")].into());
}

#[test]
fn what_was_removed_may_be_back_with_its_bytes() {
    let removed = |top: &Path| {
        lay(top, b"old");
        fs::remove_file(top.join("file")).unwrap();
    };
    assert_eq!(cuts(removed, content), [some(b"old"), None].into());
}

#[test]
fn a_sync_of_everything_and_a_rename_that_replaces_nothing_are_seen_too() {
    // Those of rustix, which makes system calls of its own where it is not built for libc.
    let staged = |syncs: bool| {
        move |top: &Path| {
            fs::create_dir_all(top.join("staged/inner")).unwrap();
            fs::write(top.join("staged/inner/file"), [7; 10_000]).unwrap();
            if syncs {
                syncfs(File::open(top).unwrap()).unwrap();
            }
            renameat_with(CWD, top.join("staged"), CWD, top.join("whole"), RenameFlags::NOREPLACE).unwrap();
        }
    };
    let look = |top: &Path| {
        let at = |name: &str| fs::read(top.join(name).join("inner/file")).ok();
        let is_whole = |bytes: &Vec<u8>| *bytes == [7; 10_000];
        (at("staged").map(|it| is_whole(&it)), at("whole").map(|it| is_whole(&it)))
    };
    assert_eq!(cuts(staged(true), look), [(Some(true), None), (None, Some(true))].into());
    let unsynced = cuts(staged(false), look);
    assert!(unsynced.contains(&(None, None)) && unsynced.contains(&(None, Some(false))), "{unsynced:?}");
}

#[test]
fn a_dead_disk_refuses_and_keeps_what_it_had() {
    let scratch = TempDir::new().unwrap();
    let folder = scratch.path().canonicalize().unwrap().join("disk");
    let drive = Rc::new(Drive::new(&folder, "node-0", Draws::new(1)).unwrap());
    let _watching = files::watch(Rc::new(Drives(vec![drive.clone()])));
    let top = drive.top();
    let file = lay(top, b"old");
    // Two writes more, and the third is refused, because the first are not synced.
    drive.kill_after(2);
    file.write_all_at(b"n", 0).unwrap();
    file.write_all_at(b"e", 1).unwrap();
    assert!(!drive.is_dead());
    let refused = |done: io::Result<()>| assert_eq!(done.unwrap_err().raw_os_error(), Some(libc::EIO));
    refused(file.write_all_at(b"w", 2));
    assert!(drive.is_dead());
    refused(file.sync_all());
    refused(file.set_len(0));
    refused(fs::remove_file(top.join("file")));
    refused(fs::rename(top.join("file"), top.join("other")));
    refused(fs::create_dir(top.join("folder")));
    refused(File::create(top.join("other")).map(drop));
    refused(File::create(top.join("file")).map(drop));
    drop(file);
    // The process ends, and its machine runs on.
    drive.revive();
    assert_eq!(content(top), some(b"ned"));
    drive.wipe().unwrap();
    assert_eq!(content(top), None);
    lay(top, b"new");
    drive.cut_power().unwrap();
    assert_eq!(content(top), some(b"new"));
}

#[test]
fn a_disk_that_is_to_die_does_so_when_something_is_not_synced() {
    let scratch = TempDir::new().unwrap();
    let folder = scratch.path().canonicalize().unwrap().join("disk");
    let drive = Rc::new(Drive::new(&folder, "node-0", Draws::new(1)).unwrap());
    let _watching = files::watch(Rc::new(Drives(vec![drive.clone()])));
    let file = lay(drive.top(), b"old");
    drive.kill_after(0);
    file.write_all_at(b"new", 0).unwrap();
    assert!(file.sync_all().is_err());
}

#[test]
fn files_that_are_on_no_disk_are_not_concerned() {
    let (scratch, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let folder = scratch.path().canonicalize().unwrap().join("disk");
    let drive = Rc::new(Drive::new(&folder, "node-0", Draws::new(1)).unwrap());
    let _watching = files::watch(Rc::new(Drives(vec![drive.clone()])));
    drive.kill();
    lay(elsewhere.path(), b"old");
    fs::rename(elsewhere.path().join("file"), elsewhere.path().join("other")).unwrap();
    fs::remove_file(elsewhere.path().join("other")).unwrap();
}
