//! The folder of a project that holds its packages, and changes of it that are made as a whole or not at all.
//!
//! New packages are written into `.ggen/next` in there, on the same file system. Then a journal beside the `gpack.toml` says
//! what will be done, and only then folders and files get their names, by renames. A process that is killed before the
//! journal is there has changed nothing; one that is killed later has its work completed by [`recover`]. Where a step fails
//! and the process lives, everything is taken back.
//!
//! What stood in a folder before is compared with what was signed once it is out of the way, and so as it was at the last
//! moment: what a person changed is moved to `.kept`, and never removed. So is what is taken back, and a file that was edited since
//! it was written. A journal that another state folder wrote, or nobody, is told and not completed.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use semver::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Error, Guard, Seal,
    disk::{Disk, exists},
    journal::{FileSwap, Journal, Swap, Was, Way, is_folder_name, read_note},
};
use crate::{content::ContentId, identity::hex, package::PackageId};

/// What this program keeps beside the packages.
const OWN: &str = ".ggen";
/// Where folders go that somebody changed and that are replaced.
const KEPT: &str = ".kept";
/// What may be no link in the folder of the packages: whatever stands in these is written, moved and removed.
const OWN_FOLDERS: [&str; 4] = [OWN, ".ggen/next", ".ggen/old", KEPT];
const INDEX: &str = "index.json";
const INDEX_FORMAT: u64 = 1;
/// Folders of one name that are kept beside each other.
const KEPT_MAX: usize = 10_000;

/// A package that was put into a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WirePlaced", into = "WirePlaced")]
pub struct Placed {
    /// The package.
    pub package: PackageId,
    /// Its version.
    pub version: Version,
    /// Content id of the tree.
    pub root: ContentId,
    /// Content id of the signed manifest.
    pub manifest: ContentId,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePlaced {
    id: String,
    version: String,
    cid: String,
    manifest: String,
}

impl TryFrom<WirePlaced> for Placed {
    type Error = String;

    fn try_from(wire: WirePlaced) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| error.to_string();
        Ok(Self {
            package: wire.id.parse().map_err(|error| say(&error))?,
            version: wire.version.parse().map_err(|error| say(&error))?,
            root: wire.cid.parse().map_err(|error| say(&error))?,
            manifest: wire.manifest.parse().map_err(|error| say(&error))?,
        })
    }
}

impl From<Placed> for WirePlaced {
    fn from(placed: Placed) -> Self {
        Self {
            id: placed.package.to_string(),
            version: placed.version.to_string(),
            cid: placed.root.to_string(),
            manifest: placed.manifest.to_string(),
        }
    }
}

/// Which package each folder was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// By the name of the folder.
    pub packages: BTreeMap<String, Placed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIndex {
    version: u64,
    packages: BTreeMap<String, Placed>,
}

/// Whether a folder that is out of the way now holds anything that its user wrote; what it was is told too.
pub type Keeps<'a> = &'a mut dyn FnMut(&Was, &Path) -> bool;

/// A file of the project that gets another content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its name: that of the lock file, or `gpack.toml`.
    pub name: &'static str,
    /// What it must hold for the change to be made; none where it must not be there.
    pub before: Option<Vec<u8>>,
    /// What it will hold.
    pub after: Vec<u8>,
}

/// What a change did beside what it was to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Where folders and files are that somebody had changed.
    pub kept: Vec<PathBuf>,
}

/// The folder of a project that holds its packages.
#[derive(Debug)]
pub struct Site<'g> {
    guard: &'g Guard,
    relative: String,
    folder: PathBuf,
    disk: Disk,
    /// What was moved aside when it was prepared.
    kept: Vec<PathBuf>,
}

impl<'g> Site<'g> {
    /// The folder `relative` of a project; nothing is made yet.
    ///
    /// # Errors
    /// [`Error::Folder`] where it is no folder, or leads out of the project.
    pub fn new(guard: &'g Guard, relative: &Path) -> Result<Self, Error> {
        Self::with_disk(guard, relative, Disk::default())
    }

    pub(super) fn with_disk(guard: &'g Guard, relative: &Path, disk: Disk) -> Result<Self, Error> {
        let folder = guard.root().join(relative);
        let bad = |why| Error::Folder { path: folder.clone(), why };
        let relative = relative.to_str().ok_or_else(|| bad("its name is not text"))?.to_owned();
        // Of a project that was copied from others, no link may say where its packages go, or what is removed beside them.
        let above = folder.ancestors().take_while(|above| *above != guard.root()).map(Path::to_owned);
        let inside = OWN_FOLDERS.iter().map(|own| folder.join(own));
        above.chain(inside).try_for_each(|path| refuse_link(&path))?;
        Ok(Self { guard, relative, folder, disk, kept: Vec::new() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a package is.
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Which packages were put there.
    ///
    /// # Errors
    /// [`Error::Note`], [`Error::Newer`] or [`Error::Io`].
    pub fn index(&self) -> Result<Index, Error> {
        index_in(&self.folder)
    }

    /// Makes the folder, where there is none, and room for what comes into it. What an earlier command prepared there goes away; what
    /// one had out of the way whose journal was deleted is kept.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn prepare(&mut self) -> Result<(), Error> {
        let (ignores, next, old) = (self.folder.join(".gitignore"), self.own("next"), self.own("old"));
        let mut prepared = || {
            self.disk.make_folder(&self.folder, 0o755)?;
            // Neither git nor a publication takes what others published, unless a person says otherwise in this file.
            if !exists(&ignores)? {
                self.disk.write(&ignores, b"*\n", 0o644)?;
            }
            if exists(&old)? {
                self.kept.push(keep(&mut self.disk, &self.folder, &old, "old")?);
            }
            self.disk.remove(&next)?;
            self.disk.make_folder(&next, 0o700)
        };
        prepared().map_err(|error| Error::io("write", &self.folder, error))
    }

    /// Where a new content of a folder is written before it gets its place.
    pub fn next(&self, name: &str) -> PathBuf {
        self.own("next").join(name)
    }

    /// Gives up what was prepared.
    pub fn abandon(&mut self) {
        let next = self.own("next");
        if let Err(error) = self.disk.remove(&next) {
            tracing::warn!(%error, folder = %next.display(), "what was prepared was not removed");
        }
    }

    fn leave_no_journal(&mut self) {
        if let Err(error) = Journal::end(self.guard.root(), &mut self.disk) {
            tracing::warn!(%error, "what belonged to a journal was not removed");
        }
    }

    /// Makes a change: folders, index, and the files of the project of which a new content is given with the one that it
    /// was made from.
    ///
    /// # Errors
    /// [`Error::Moved`] where a file is another one by now; [`Error::Io`] where a step failed, and all of them were taken
    /// back. Where even that failed, [`recover`] completes the change.
    pub fn commit(
        mut self,
        swaps: Vec<Swap>,
        index: &Index,
        files: &[FileChange],
        seal: &Seal,
        keeps: Keeps<'_>,
    ) -> Result<Done, Error> {
        let journal = match self.write_journal(swaps, index, files, seal) {
            Ok(journal) => journal,
            Err(error) => {
                // As on a full disk. With a journal, what was prepared would be put in place later.
                if matches!(Journal::read(self.guard.root()), Ok(None)) {
                    self.abandon();
                    self.leave_no_journal();
                }
                return Err(error);
            }
        };
        let Self { guard, folder, disk, kept, .. } = self;
        let mut change = Change { root: guard.root(), folder, disk, journal, seal };
        let done = change.run(keeps)?;
        Ok(Done { kept: kept.into_iter().chain(done.kept).collect() })
    }

    fn write_journal(
        &mut self,
        swaps: Vec<Swap>,
        index: &Index,
        files: &[FileChange],
        seal: &Seal,
    ) -> Result<Journal, Error> {
        let root = self.guard.root();
        let beside = root.join(super::journal::FOLDER);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::io("write", &path, error)
        };
        self.disk.remove(&beside).map_err(failed(&beside))?;
        self.disk.make_folder(&beside, 0o700).map_err(failed(&beside))?;
        self.disk.write(&beside.join(".gitignore"), b"*\n", 0o644).map_err(failed(&beside))?;
        let mut swapped = Vec::new();
        for FileChange { name, before, after } in files {
            let path = root.join(name);
            let (next, old) = Journal::beside(root, name);
            let now = content(&path).map_err(|error| Error::io("read", &path, error))?;
            if now != *before {
                return Err(Error::Moved { path });
            }
            let mode = fs::metadata(&path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
            if let Some(now) = &now {
                self.disk.write(&old, now, mode).map_err(failed(&old))?;
            }
            self.disk.write(&next, after, mode).map_err(failed(&next))?;
            let name = (*name).to_owned();
            swapped.push(FileSwap { name, had_old: now.is_some(), after: digest(after) });
        }
        let (index_now, index_old) = (self.own(INDEX), self.own("index.old"));
        let had_index = exists(&index_now).map_err(failed(&index_now))?;
        if had_index {
            let bytes = fs::read(&index_now).map_err(failed(&index_now))?;
            self.disk.write(&index_old, &bytes, 0o644).map_err(failed(&index_old))?;
        }
        let wire = WireIndex { version: INDEX_FORMAT, packages: index.packages.clone() };
        let text = serde_json::to_vec_pretty(&wire).map_err(|error| failed(&index_now)(error.into()))?;
        let index_next = self.own("index.next");
        self.disk.write(&index_next, &text, 0o644).map_err(failed(&index_next))?;
        for folder in [self.own(""), self.own("next"), beside.clone()] {
            self.disk.sync_folder(&folder).map_err(failed(&folder))?;
        }
        let journal = Journal::new(self.relative.clone(), swaps, swapped, had_index);
        let begun = journal.write(root, seal, &mut self.disk).and_then(|()| self.disk.sync_folder(root));
        if let Err(error) = begun {
            // A change that is said to have failed must not be found made later.
            if let Err(error) = Journal::end(root, &mut self.disk) {
                tracing::warn!(%error, folder = %beside.display(), "a journal was not taken away");
            }
            return Err(failed(&beside)(error));
        }
        Ok(journal)
    }

    fn own(&self, name: &str) -> PathBuf {
        self.folder.join(OWN).join(name)
    }
}

/// Whether this program put packages into a folder.
pub(super) fn has_index(folder: &Path) -> bool {
    folder.join(OWN).join(INDEX).is_file()
}

/// Which packages were put into a folder of packages.
pub(super) fn index_in(folder: &Path) -> Result<Index, Error> {
    let path = folder.join(OWN).join(INDEX);
    let Some(bytes) = read_note(&path)? else { return Ok(Index::default()) };
    let bad = |why: String| Error::Note { path: path.clone(), why };
    let wire: WireIndex = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if wire.version != INDEX_FORMAT {
        return Err(Error::Newer { path, found: wire.version, known: INDEX_FORMAT });
    }
    match wire.packages.keys().all(|name| is_folder_name(name)) {
        true => Ok(Index { packages: wire.packages }),
        false => Err(bad("a folder has a name that packages do not have".to_owned())),
    }
}

/// What a file holds; none where there is none.
fn content(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// Moves something to where nothing is removed.
fn keep(disk: &mut Disk, site: &Path, from: &Path, name: &str) -> io::Result<PathBuf> {
    let kept = site.join(KEPT);
    disk.make_folder(&kept, 0o755)?;
    for number in 1..KEPT_MAX {
        let place = kept.join(format!("{name}-{number}"));
        if !exists(&place)? {
            disk.rename(from, &place)?;
            return Ok(place);
        }
    }
    Err(io::Error::other("too many of this name are kept already"))
}

/// Refuses a link, or a file, where a folder is to be; that nothing is there is fine.
fn refuse_link(path: &Path) -> Result<(), Error> {
    let bad = |why| Err(Error::Folder { path: path.to_owned(), why });
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => bad("it is a link, or stands behind one"),
        Ok(metadata) if !metadata.is_dir() => bad("a file is in the way"),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(())
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Completes, or takes back, a change of a project that did not come to its end; none where there is no such change.
///
/// # Errors
/// [`Error::Note`] for a journal that this program did not write, [`Error::Foreign`] for one that was not written with this state
/// folder, [`Error::Io`] where it still cannot be completed.
pub fn recover(guard: &Guard, seal: &Seal, keeps: Keeps<'_>) -> Result<Option<Done>, Error> {
    recover_with(guard, seal, keeps, Disk::default())
}

pub(super) fn recover_with(
    guard: &Guard,
    seal: &Seal,
    keeps: Keeps<'_>,
    mut disk: Disk,
) -> Result<Option<Done>, Error> {
    let left = guard.root().join(super::journal::FOLDER);
    refuse_link(&left)?;
    let Some(journal) = Journal::read(guard.root())? else {
        if exists(&left).unwrap_or(false) {
            Journal::end(guard.root(), &mut disk).map_err(|error| Error::io("remove", &left, error))?;
        }
        return Ok(None);
    };
    if !journal.is_sealed(seal) {
        return Err(Error::Foreign { path: left });
    }
    let site = Site::with_disk(guard, Path::new(&journal.folder), disk)?;
    let mut change = Change { root: guard.root(), folder: site.folder, disk: site.disk, journal, seal };
    change.run(keeps).map(Some)
}

/// A change that stands in the journal.
struct Change<'a> {
    root: &'a Path,
    folder: PathBuf,
    disk: Disk,
    journal: Journal,
    seal: &'a Seal,
}

impl Change<'_> {
    fn run(&mut self, keeps: Keeps<'_>) -> Result<Done, Error> {
        let mut done = Done::default();
        let mut failure = None;
        if self.journal.way == Way::Forward
            && let Err(error) = self.forward(&mut done)
        {
            failure = Some(error);
            self.turn(Way::Back)?;
        }
        if self.journal.way == Way::Back {
            self.back(&mut done)?;
        }
        if self.journal.way != Way::Clean {
            self.turn(Way::Clean)?;
        }
        self.clean(keeps, &mut done)?;
        match failure {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    fn turn(&mut self, way: Way) -> Result<(), Error> {
        self.journal.way = way;
        let written = self.journal.write(self.root, self.seal, &mut self.disk);
        written.map_err(|error| Error::io("write", &self.root.join(super::journal::FOLDER), error))
    }

    fn forward(&mut self, done: &mut Done) -> Result<(), Error> {
        self.refuse_edited()?;
        let old = self.own("old");
        self.disk.make_folder(&old, 0o700).map_err(|error| Error::io("write", &old, error))?;
        for swap in self.journal.swaps.clone() {
            self.swap(&swap, done)
                .map_err(|error| Error::io("replace", &self.folder.join(&swap.name), error))?;
        }
        let (index, next) = (self.own(INDEX), self.own("index.next"));
        self.put(&next, &index)?;
        for file in self.journal.files.clone() {
            let (next, _) = Journal::beside(self.root, &file.name);
            self.put(&next, &self.root.join(&file.name))?;
        }
        for folder in [self.folder.clone(), self.own(""), self.root.to_owned()] {
            self.disk.sync_folder(&folder).map_err(|error| Error::io("write", &folder, error))?;
        }
        Ok(())
    }

    /// Refuses to write over a file that somebody edited since the journal was written.
    fn refuse_edited(&self) -> Result<(), Error> {
        for file in &self.journal.files {
            let (next, old) = Journal::beside(self.root, &file.name);
            let path = self.root.join(&file.name);
            let failed = |error| Error::io("read", &path, error);
            if !exists(&next).map_err(failed)? {
                continue;
            }
            let before = if file.had_old { Some(fs::read(&old).map_err(failed)?) } else { None };
            if content(&path).map_err(failed)? != before {
                return Err(Error::Moved { path });
            }
        }
        Ok(())
    }

    fn put(&mut self, next: &Path, path: &Path) -> Result<(), Error> {
        let put = exists(next).and_then(|there| if there { self.disk.rename(next, path) } else { Ok(()) });
        put.map_err(|error| Error::io("replace", path, error))
    }

    fn swap(&mut self, swap: &Swap, done: &mut Done) -> io::Result<()> {
        let (place, next, old) = self.paths(swap);
        if swap.brings.is_some() && !exists(&next)? {
            return Ok(());
        }
        if exists(&place)? {
            if !exists(&old)? {
                self.disk.rename(&place, &old)?;
            } else if swap.brings.is_some() {
                // Somebody made it again while nobody worked here.
                done.kept.push(self.keep(&place, &swap.name)?);
            }
        }
        if swap.brings.is_some() { self.disk.rename(&next, &place) } else { Ok(()) }
    }

    fn back(&mut self, done: &mut Done) -> Result<(), Error> {
        for file in self.journal.files.clone() {
            let (next, old) = Journal::beside(self.root, &file.name);
            let path = self.root.join(&file.name);
            self.keep_edited(&file, &path, done).map_err(|error| Error::io("restore", &path, error))?;
            self.unput(&next, &old, &path, file.had_old)?;
        }
        let (index, next, old) = (self.own(INDEX), self.own("index.next"), self.own("index.old"));
        self.unput(&next, &old, &index, self.journal.had_index)?;
        for swap in self.journal.swaps.clone() {
            self.unswap(&swap, done)
                .map_err(|error| Error::io("restore", &self.folder.join(&swap.name), error))?;
        }
        Ok(())
    }

    /// Moves a file aside that somebody edited after it was put in place.
    fn keep_edited(&mut self, file: &FileSwap, path: &Path, done: &mut Done) -> io::Result<()> {
        let (next, old) = Journal::beside(self.root, &file.name);
        let is_put = !exists(&next)? && (!file.had_old || exists(&old)?);
        if is_put && content(path)?.is_some_and(|now| digest(&now) != file.after) {
            done.kept.push(self.keep(path, &file.name)?);
        }
        Ok(())
    }

    fn unput(&mut self, next: &Path, old: &Path, path: &Path, had_old: bool) -> Result<(), Error> {
        let unput = exists(next).and_then(|is_untouched| match (is_untouched, had_old) {
            (true, _) => Ok(()),
            (false, true) if exists(old)? => self.disk.rename(old, path),
            (false, true) => Ok(()),
            (false, false) => self.disk.remove(path),
        });
        unput.map_err(|error| Error::io("restore", path, error))
    }

    fn unswap(&mut self, swap: &Swap, done: &mut Done) -> io::Result<()> {
        let (place, next, old) = self.paths(swap);
        let is_out = exists(&old)?;
        let is_put = swap.brings.is_some() && !exists(&next)?;
        if is_put && exists(&place)? && (is_out || swap.was == Was::Nothing) {
            // What of it is its user's is seen before it is removed.
            self.disk.rename(&place, &next)?;
        }
        if !is_out {
            return Ok(());
        }
        if exists(&place)? {
            // Somebody made it again while nobody worked here.
            done.kept.push(self.keep(&place, &swap.name)?);
        }
        self.disk.rename(&old, &place)
    }

    /// Removes what is left over, but for what somebody wrote.
    fn clean(&mut self, keeps: Keeps<'_>, done: &mut Done) -> Result<(), Error> {
        for swap in self.journal.swaps.clone() {
            let (_, next, old) = self.paths(&swap);
            let taken_back = swap.brings.map(|brought| (next, Was::Placed(brought)));
            for (left, was) in [(old, swap.was)].into_iter().chain(taken_back) {
                let mut tidy = || {
                    if !exists(&left)? {
                        return Ok(());
                    }
                    if keeps(&was, &left) {
                        done.kept.push(self.keep(&left, &swap.name)?);
                        return Ok(());
                    }
                    self.disk.remove(&left)
                };
                tidy().map_err(|error: io::Error| Error::io("remove", &left, error))?;
            }
        }
        for name in ["next", "old", "index.next", "index.old"] {
            let path = self.own(name);
            self.disk.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        Journal::end(self.root, &mut self.disk).map_err(|error| Error::io("write", self.root, error))
    }

    fn keep(&mut self, from: &Path, name: &str) -> io::Result<PathBuf> {
        keep(&mut self.disk, &self.folder, from, name)
    }

    /// Where a folder is, where its next content is, and where its last one goes.
    fn paths(&self, swap: &Swap) -> (PathBuf, PathBuf, PathBuf) {
        let inside = |of: &str| self.own(of).join(&swap.name);
        (self.folder.join(&swap.name), inside("next"), inside("old"))
    }

    fn own(&self, name: &str) -> PathBuf {
        self.folder.join(OWN).join(name)
    }
}

#[cfg(test)]
#[path = "site_tests.rs"]
pub(super) mod tests;
