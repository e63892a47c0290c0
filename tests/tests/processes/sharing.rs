//! One copy on the disk of what is installed and of what is served, where the file system can.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    tree,
    world::{Home, Node, skipped},
};

/// Bytes of the package.
const PACKAGE_BYTES: u64 = 40 << 20;

/// A file system in a file; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// Makes one of a kind, where that is allowed.
    fn mount(kind: &str, at: PathBuf) -> Option<Self> {
        let image = at.with_extension("image");
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let succeeds = |command: &mut Command| {
            let command = command.stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let is_mounted = succeeds(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))
            && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        is_mounted.then_some(Self(at))
    }

    /// Bytes that are in use.
    fn used(&self) -> u64 {
        let folder = File::open(&self.0).unwrap();
        rustix::fs::syncfs(&folder).unwrap();
        let state = rustix::fs::fstatvfs(&folder).unwrap();
        (state.f_blocks - state.f_bfree) * state.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Changes a byte in each file.
fn scribble(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scribble(&path);
        } else if path.metadata().unwrap().len() > 0 {
            OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"!", 0).unwrap();
        }
    }
}

fn takes_its_space_once(kind: &str, author: &Node) {
    let home = Home::with_state("disk/state");
    let Some(disk) = Disk::mount(kind, home.path("disk")) else {
        skipped(&format!("no {kind} can be mounted here, so nothing can share its place on the disk"));
        return;
    };
    let reader = Node::start_in(home, &[author]);
    reader.finds("large", "large", Duration::from_secs(20));
    let before = disk.used();
    reader.json(&["install", "large", "--to", &reader.text("disk/first")]);
    tree::assert_same(&author.path("large"), &reader.path("disk/first"));
    let first = disk.used() - before;
    assert!(first < PACKAGE_BYTES * 5 / 4, "on {kind}, {PACKAGE_BYTES} bytes took {first}");
    // From the store, which has all of it.
    reader.json(&["install", "large", "--to", &reader.text("disk/second")]);
    tree::assert_same(&author.path("large"), &reader.path("disk/second"));
    let both = disk.used() - before;
    assert!(both < PACKAGE_BYTES * 4 / 3, "on {kind}, {PACKAGE_BYTES} bytes twice took {both}");
    // What a user changes is the user's alone.
    scribble(&reader.path("disk/first"));
    tree::assert_same(&author.path("large"), &reader.path("disk/second"));
    reader.json(&["install", "large", "--to", &reader.text("disk/third")]);
    tree::assert_same(&author.path("large"), &reader.path("disk/third"));
    reader.is_well();
}

#[test]
fn an_installed_package_and_the_blocks_that_are_served_share_their_place_on_the_disk() {
    let author = Node::start(&[]);
    tree::bulk(&author.path("large"), "large", 21, 10, usize::try_from(PACKAGE_BYTES / 10).unwrap() + 123);
    author.json(&["publish", &author.text("large")]);
    for kind in ["xfs", "btrfs"] {
        takes_its_space_once(kind, &author);
    }
}
