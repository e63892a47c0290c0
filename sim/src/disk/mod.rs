//! What is on the disk of a node: a store in memory, or the shipped one in real files that forgets what was not synced.
//!
//! Read [`Disk`] first. A store in memory loses nothing and tears nothing. Files are on a [`Drive`], which stands between the
//! node and the kernel: it dies in the middle of what a node writes, and a power cut then leaves what `names` and `pending` draw.
//! The model is that of what programs may rely on, and no file system is as bad as it all the time: see Pillai et al., *All File
//! Systems Are Not Created Equal* (OSDI 2014), and SQLite's own account of what it assumes, *Atomic Commit In SQLite* and
//! *Powersafe Overwrite*.

mod drive;
mod names;
mod pending;

use std::{
    cell::{Ref, RefCell},
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use ggen_marketplace::{
    store::{self, Note, OWN_FOLDERS, Store},
    time::Timestamp,
};

pub(crate) use self::{
    drive::{Drive, Drives},
    pending::Losses,
};
use crate::judge::Fact;

/// The state folder of a node, on its disk.
const STATE: &str = "state";
/// Where a node installs, on its disk.
const INSTALLED: &str = "installed";
/// Stands in the name of what an installation is written to before it is whole.
const STAGING: &str = ".ggen-partial-";

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a simulated disk cannot be kept: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("something of a life that ended still has {0} open")]
    StillOpen(String),
}

/// What is on a node's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    node: usize,
    /// None only while another one is being opened.
    store: RefCell<Option<Store>>,
    /// Where it is in files.
    drive: Option<Rc<Drive>>,
}

impl Disk {
    /// One in memory.
    pub(crate) fn in_memory(node: usize) -> Result<Self, Error> {
        Ok(Self { node, store: RefCell::new(Some(Store::in_memory()?)), drive: None })
    }

    /// One in files; to be opened on a thread that watches this drive.
    pub(crate) fn in_files(node: usize, drive: Rc<Drive>, now: Timestamp) -> Result<Self, Error> {
        let disk = Self { node, store: RefCell::new(None), drive: Some(drive) };
        disk.open(now)?;
        Ok(disk)
    }

    /// The store.
    pub(crate) fn store(&self) -> Ref<'_, Store> {
        Ref::map(self.store.borrow(), |store| store.as_ref().expect("a store is open between two events"))
    }

    /// Where it is in files.
    pub(crate) fn drive(&self) -> Option<&Drive> {
        self.drive.as_deref()
    }

    /// Whether nothing can be written any more: the machine has no power.
    pub(crate) fn is_dead(&self) -> bool {
        self.drive().is_some_and(Drive::is_dead)
    }

    /// From now on nothing is written: what ends, ends without a last word.
    pub(crate) fn kill(&self) {
        self.drive().into_iter().for_each(Drive::kill);
    }

    /// Opens the store again, as the next start does; whatever had it open has ended. What was found is told.
    pub(crate) fn reopen(&self, now: Timestamp) -> Result<Option<Fact>, Error> {
        let Some(drive) = self.drive() else { return Ok(None) };
        drop(self.store.take());
        check_closed(drive.top())?;
        drive.revive();
        self.open(now).map(Some)
    }

    /// The power fails and comes back; what had the store open has ended.
    pub(crate) fn cut_power(&self, now: Timestamp) -> Result<Option<(Fact, Losses)>, Error> {
        let Some(drive) = self.drive() else { return Ok(None) };
        drive.kill();
        drop(self.store.take());
        check_closed(drive.top())?;
        let losses = drive.cut_power()?;
        Ok(Some((self.open(now)?, losses)))
    }

    /// Takes everything from it.
    pub(crate) fn wipe(&self, now: Timestamp) -> Result<(), Error> {
        let Some(drive) = self.drive() else {
            self.store.replace(Some(Store::in_memory()?));
            return Ok(());
        };
        drive.kill();
        drop(self.store.take());
        check_closed(drive.top())?;
        drive.wipe()?;
        self.open(now)?;
        Ok(())
    }

    fn open(&self, now: Timestamp) -> Result<Fact, Error> {
        let top = self.drive().map(Drive::top).unwrap_or(Path::new(""));
        fs::create_dir_all(top.join(INSTALLED))?;
        fs::create_dir_all(top.join(STATE))?;
        // A user's folders are there for long.
        fs::File::open(top)?.sync_all()?;
        let (store, notes) = Store::open(&top.join(STATE), now)?;
        // What the kernel shared would pass the drive by.
        store.keep_apart();
        self.store.replace(Some(store));
        // The disk's own name is another in each run.
        let told = |note: &Note| note.to_string().replace(&*top.to_string_lossy(), "the disk");
        let is_damage = |note: &&Note| !matches!(note, Note::LeftoverRemoved { .. });
        Ok(Fact::Opened {
            node: self.node,
            damage: notes.iter().filter(is_damage).map(told).collect(),
            leftovers: leftovers(&top.join(STATE))?,
        })
    }
}

/// Where a node with its disk in files installs.
pub(crate) fn install_folder(drive: &Drive) -> PathBuf {
    drive.top().join(INSTALLED)
}

/// The staging folders beside an installation.
pub(crate) fn staged_beside(target: &Path) -> usize {
    let beside = target.parent().and_then(|parent| fs::read_dir(parent).ok());
    let names = beside.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().contains(STAGING)).count()
}

/// Temporary files in a state folder.
fn leftovers(state: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in OWN_FOLDERS.iter().map(|folder| state.join(folder)).chain([state.to_owned()]) {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.contains(".tmp") || name.contains(".new") {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Makes sure that a life has ended: what it still had open it could write to.
fn check_closed(top: &Path) -> Result<(), Error> {
    for descriptor in fs::read_dir("/proc/self/fd")? {
        // The one that reads the folder is gone by the time that it is looked at.
        let Ok(open) = fs::read_link(descriptor?.path()) else { continue };
        if let Ok(name) = open.strip_prefix(top) {
            return Err(Error::StillOpen(name.display().to_string()));
        }
    }
    Ok(())
}
