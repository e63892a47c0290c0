//! Puts a package into a folder that is there: an empty one, one that lacks files, or one that holds another version.
//!
//! Two ways lead there. [`exchange`] writes the new tree beside the folder and swaps the two in one step, so that a kill leaves
//! one of them whole. It needs a folder that is like the one this program would make. Any other folder – a mount point, one with
//! a mode or a group of its own, the one that a shell is in – stays the folder that it is: [`lay`] writes the new files into a
//! staging folder inside of it and then moves files, one by one. It moves them all back where one move fails; what a kill leaves
//! is completed by running it again.
//!
//! A file that is not as it was signed belongs to the user: it is never deleted. [`discard`] deletes what is as it was signed,
//! and moves everything else into a folder of its own ([`Kept`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    super::{Manifest, check, manifest::FileEntry},
    Error, MARK, Staging, Supply, go_on, set_folder_modes, sync, write_file,
};

/// Stands in the name of a folder that holds, or held, the tree that was replaced. It is never swept unseen: there may be files of
/// the user in it.
pub(in crate::package) const REPLACED_MARK: &str = ".ggen-replaced-";
/// Folders for what is kept of one target, at most.
const KEPT_MAX: u32 = 1_000;
/// Where the files to be moved in are, in a staging folder inside of a target.
const NEW: &str = "new";
/// Where those that were moved out are.
const OLD: &str = "old";

/// What is put where.
pub struct Change<'a> {
    /// The version that is there; none where the folder holds nothing but files of `new`.
    pub old: Option<&'a Manifest>,
    /// The version to put there.
    pub new: &'a Manifest,
    /// The folder.
    pub target: &'a Path,
}

/// Where files of the user are kept that are in the way: a folder beside the target, made when it is needed.
#[derive(Debug)]
pub struct Kept {
    target: PathBuf,
    folder: Option<PathBuf>,
    files: Vec<String>,
    /// The same paths as they are, also where they are not text.
    paths: Vec<PathBuf>,
}

impl Kept {
    /// Nothing is kept yet.
    pub fn beside(target: &Path) -> Self {
        Self { target: target.to_owned(), folder: None, files: Vec::new(), paths: Vec::new() }
    }

    /// The folder, where there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The paths that are kept, inside of the package.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Moves a file into the folder, under the path that it has inside of the package.
    fn take(&mut self, from: &Path, inside: &Path) -> io::Result<()> {
        let to = self.make()?.join(inside);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        move_file(from, &to)?;
        self.files.push(inside.to_string_lossy().into_owned());
        self.paths.push(inside.to_owned());
        Ok(())
    }

    /// Moves all files back to where they were.
    fn give_back(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        self.files.clear();
        for inside in std::mem::take(&mut self.paths) {
            let (from, to) = (folder.join(&inside), self.target.join(&inside));
            let parent = to.parent().map_or(Ok(()), fs::create_dir_all);
            if let Err(error) = parent.and_then(|()| move_file(&from, &to)) {
                tracing::error!(%error, file = %from.display(), "a file was not moved back");
            }
        }
        let _ = remove_folders(&folder).and_then(|()| fs::remove_dir(&folder));
    }

    fn make(&mut self) -> io::Result<PathBuf> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let name = self.target.file_name().unwrap_or_default();
        for n in 1..=KEPT_MAX {
            let mut kept = OsString::from(name);
            kept.push(format!(".kept-{n}"));
            let folder = self.target.with_file_name(kept);
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(self.folder.insert(folder).clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("there are a thousand folders of kept files already"))
    }
}

/// Moves a file or a link, never over anything, also to another file system.
fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    match rename_new(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => move_across(from, to),
        result => result,
    }
}

fn move_across(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if !metadata.is_file() && !metadata.is_symlink() {
        // To open a pipe is to wait for whoever writes into it.
        let why = format!(
            "{} is neither a file nor a link, and cannot be moved to another file system",
            from.display()
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else {
        let mut source = fs::File::open(from)?;
        let mut copy = fs::File::create_new(to)?;
        io::copy(&mut source, &mut copy)?;
        copy.set_permissions(source.metadata()?.permissions())?;
        copy.sync_all()?;
    }
    fs::remove_file(from)
}

/// Renames, never over anything.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems do not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            result => return Ok(result?),
        }
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// Swaps the folder for one with the new version, in one step. `note` is told, before that, where the old tree will be.
///
/// Returns that place, or nothing where the folder has to stay the one that it is: then nothing was changed, and [`lay`] does it.
///
/// # Errors
/// [`Error`]; the target is as it was before.
pub fn exchange<E>(
    change: &Change<'_>,
    source: &dyn Supply<E>,
    note: &mut dyn FnMut(&Path) -> Result<(), E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<PathBuf>, Error<E>> {
    let target = change.target;
    let failed = |error| Error::io(target, error);
    let there = fs::symlink_metadata(target).map_err(failed)?;
    // One above which nothing can be written stays too.
    let Ok(staging) = Staging::beside::<E>(target) else { return Ok(None) };
    let own = staging.handle.metadata().map_err(failed)?;
    if !is_alike(&there, &own) {
        return Ok(None);
    }
    write_all(change.new.files(), &staging, Path::new(""), source, progress)?;
    set_folder_modes(staging.folder.path()).map_err(failed)?;
    sync(staging.folder.path(), &staging.handle).map_err(failed)?;
    go_on(source)?;
    let from = staging.folder.path().to_owned();
    let name = from.file_name().unwrap_or_default().to_string_lossy().replace(MARK, REPLACED_MARK);
    let replaced = from.with_file_name(name);
    note(&replaced).map_err(Error::Source)?;
    // From here on nobody sweeps it away unseen.
    rename_new(&from, &replaced).map_err(failed)?;
    let _ = staging.folder.keep();
    if let Err(error) = swap(&replaced, target) {
        tracing::debug!(%error, target = %target.display(), "a folder cannot be swapped");
        // Nothing but what was written above is in it.
        fs::remove_dir_all(&replaced).map_err(failed)?;
        return Ok(None);
    }
    // The new tree is there: that it may not be so after a power cut is no reason to call it a failure.
    if let Err(error) = fs::File::open(&staging.parent).and_then(|parent| parent.sync_all()) {
        tracing::warn!(%error, target = %target.display(), "a swap of folders was not brought to the disk");
    }
    Ok(Some(replaced))
}

/// Whether a folder is like one that was just made beside it.
fn is_alike(there: &Metadata, made: &Metadata) -> bool {
    there.is_dir()
        && there.dev() == made.dev()
        && (there.uid(), there.gid()) == (made.uid(), made.gid())
        && there.permissions().mode() & 0o7777 == 0o755
}

#[cfg(target_os = "linux")]
fn swap(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn swap(_one: &Path, _other: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes the new version into the folder, which stays the one that it is. `note` is told, before anything is moved, where the
/// old files will be; they are there when this returns, with the place of the staging folder.
///
/// # Errors
/// [`Error::Exists`] where something is in the way and nothing may be kept; otherwise any [`Error`]. What was moved was moved
/// back.
pub fn lay<E>(
    change: &Change<'_>,
    source: &dyn Supply<E>,
    mut kept: Option<&mut Kept>,
    note: &mut dyn FnMut(&Path) -> Result<(), E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf, Error<E>> {
    let target = change.target;
    let failed = |error| Error::io(target, error);
    let standing = Standing::of(change).map_err(failed)?;
    if kept.is_none() && !standing.foreign.is_empty() {
        return Err(Error::Exists { target: target.to_owned() });
    }
    let mark = if change.old.is_some() { REPLACED_MARK } else { MARK };
    let staging = Staging::inside(target, mark)?;
    write_all(standing.lacking.iter().copied(), &staging, Path::new(NEW), source, progress)?;
    sync(staging.folder.path(), &staging.handle).map_err(failed)?;
    go_on(source)?;
    note(staging.folder.path()).map_err(Error::Source)?;
    if let Some(kept) = kept.as_mut() {
        let taken = standing.foreign.iter().try_for_each(|path| kept.take(&target.join(path), path));
        if let Err(error) = taken {
            kept.give_back();
            return Err(failed(error));
        }
    }
    let mut moved = Moved::default();
    let moving = standing.moved(target, staging.folder.path(), &mut moved);
    if let Err(error) = moving {
        moved.undo();
        if let Some(kept) = kept {
            kept.give_back();
        }
        return Err(match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Error::Exists { target: target.to_owned() }
            }
            _ => failed(error),
        });
    }
    // The new files are there: that they may not be so after a power cut is no reason to call it a failure.
    if let Err(error) = sync(target, &staging.handle) {
        tracing::warn!(%error, target = %target.display(), "files that were replaced were not brought to the disk");
    }
    Ok(staging.folder.keep())
}

/// How the files of a folder stand to what is to be there.
struct Standing<'a> {
    /// Files of the new version that are not there.
    lacking: Vec<&'a FileEntry>,
    /// Files of the old version that go.
    going: Vec<PathBuf>,
    /// What is neither.
    foreign: Vec<PathBuf>,
}

impl<'a> Standing<'a> {
    fn of(change: &Change<'a>) -> io::Result<Self> {
        let by_path = |manifest: &'a Manifest| -> BTreeMap<&'a str, &'a FileEntry> {
            manifest.files().iter().map(|file| (file.path.as_str(), file)).collect()
        };
        let (new, old) = (by_path(change.new), change.old.map(by_path).unwrap_or_default());
        let mut standing = Self { lacking: Vec::new(), going: Vec::new(), foreign: Vec::new() };
        let mut staying = BTreeSet::new();
        for (path, metadata) in check::list(change.target).map_err(|error| error.source)? {
            let text = path.to_str();
            let is = |files: &BTreeMap<&str, &FileEntry>| match text.and_then(|text| files.get(text)) {
                Some(file) => check::is_as_signed(change.target, file, &metadata),
                None => Ok(false),
            };
            if is(&new)? {
                staying.insert(path);
            } else if is(&old)? {
                standing.going.push(path);
            } else if !is_staging(&path) {
                standing.foreign.push(path);
            }
        }
        let lacks = |file: &&FileEntry| !staying.contains(Path::new(file.path.as_str()));
        standing.lacking = change.new.files().iter().filter(lacks).collect();
        Ok(standing)
    }

    /// Moves the old files out, and the new ones in.
    fn moved(&self, target: &Path, staging: &Path, moved: &mut Moved) -> io::Result<()> {
        for path in &self.going {
            moved.file(&target.join(path), &staging.join(OLD).join(path))?;
        }
        // A folder may stand where a file is to be. One that holds anything is not removed.
        let folders = self.going.iter().chain(&self.foreign).flat_map(|path| path.ancestors().skip(1));
        let folders: BTreeSet<&Path> = folders.filter(|folder| !folder.as_os_str().is_empty()).collect();
        for folder in folders.into_iter().rev() {
            let _ = fs::remove_dir(target.join(folder));
        }
        for file in &self.lacking {
            let path = file.path.as_str();
            moved.file(&staging.join(NEW).join(path), &target.join(path))?;
        }
        Ok(())
    }
}

/// Whether a path inside of a target belongs to a staging folder of ours.
fn is_staging(path: &Path) -> bool {
    let first = path.components().next().and_then(|first| first.as_os_str().to_str());
    first.is_some_and(|name| name.starts_with(MARK) || name.starts_with(REPLACED_MARK))
}

/// What was moved from where to where.
#[derive(Default)]
struct Moved(Vec<(PathBuf, PathBuf)>);

impl Moved {
    fn file(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if let Some(folder) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        rename_new(from, to)?;
        self.0.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn undo(self) {
        for (from, to) in self.0.into_iter().rev() {
            if let Some(folder) = from.parent() {
                let _ = fs::create_dir_all(folder);
            }
            if let Err(error) = rename_new(&to, &from) {
                tracing::error!(%error, from = %to.display(), to = %from.display(), "a file was not moved back");
            } else if let Some(folder) = to.parent() {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

fn write_all<'f, E>(
    files: impl IntoIterator<Item = &'f FileEntry> + Clone,
    staging: &Staging,
    within: &Path,
    source: &dyn Supply<E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error<E>> {
    let total = files.clone().into_iter().map(|file| file.size).sum();
    staging.check_space(total)?;
    let mut done = 0;
    progress(done, total);
    for file in files {
        let path = staging.make_way_within(within, file)?;
        write_file(file, &path, source, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
    }
    if !within.as_os_str().is_empty() {
        let root = staging.folder.path().join(within);
        if root.is_dir() {
            set_folder_modes(&root).map_err(|error| Error::io(&root, error))?;
        }
    }
    Ok(())
}

/// Deletes the files in a folder that are as one of the manifests signed them, keeps all others, and removes the folder where
/// nothing is left in it. Returns whether it is gone.
///
/// # Errors
/// What keeps the folder from being read, or a file from being moved. Nothing of the user is lost by it.
pub fn discard(folder: &Path, manifests: &[&Manifest], kept: &mut Kept) -> io::Result<bool> {
    let present = match check::list(folder) {
        Ok(present) => present,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error.source),
    };
    for (path, metadata) in &present {
        // In a staging folder inside of a target, old and new files are apart.
        let inside = path.strip_prefix(OLD).or_else(|_| path.strip_prefix(NEW)).unwrap_or(path);
        let is_ours = |file: &FileEntry| {
            let is_there = Path::new(file.path.as_str());
            (is_there == inside || is_there == path.as_path())
                && check::is_same(&folder.join(path), file, metadata).unwrap_or(false)
        };
        let entry = |manifest: &&Manifest| {
            let at = |text: &Path| {
                let text = text.to_str()?;
                let found = manifest.files().binary_search_by(|file| file.path.as_str().cmp(text));
                found.ok().map(|at| &manifest.files()[at])
            };
            at(inside).is_some_and(&is_ours) || at(path).is_some_and(&is_ours)
        };
        if manifests.iter().any(entry) {
            fs::remove_file(folder.join(path))?;
        } else {
            kept.take(&folder.join(path), inside)?;
        }
    }
    remove_folders(folder)?;
    match fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes the files of a folder that are as they were signed, and the folders that this empties; `root` stays. Returns how many
/// files went, and what is left.
///
/// # Errors
/// What keeps a file from being deleted.
pub fn clear(root: &Path, manifest: &Manifest) -> io::Result<(u64, Vec<String>)> {
    let mut present = check::list(root).map_err(|error| error.source)?;
    let mut removed = 0;
    let mut emptied = BTreeSet::new();
    for file in manifest.files() {
        let path = Path::new(file.path.as_str());
        let Some(metadata) = present.get(path) else { continue };
        if check::is_as_signed(root, file, metadata)? {
            fs::remove_file(root.join(path))?;
            present.remove(path);
            removed += 1;
        }
        emptied.extend(path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()));
    }
    for folder in emptied.into_iter().rev() {
        // One that holds something of the user stays.
        let _ = fs::remove_dir(root.join(folder));
    }
    let left = present.into_keys().map(|path| path.to_string_lossy().into_owned());
    Ok((removed, left.collect()))
}

/// Removes the empty folders below a folder.
fn remove_folders(root: &Path) -> io::Result<()> {
    let mut open = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
                found.push(entry.path());
            }
        }
    }
    for folder in found.into_iter().rev() {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

impl Staging {
    /// A staging folder inside of the target, on its file system whatever is mounted there.
    fn inside<E>(target: &Path, mark: &str) -> Result<Self, Error<E>> {
        Self::named(mark, target, target)
    }

    /// Makes the folders above a file, below a part of the staging folder, and says where it goes.
    fn make_way_within<E>(&self, within: &Path, file: &FileEntry) -> Result<PathBuf, Error<E>> {
        let path = self.folder.path().join(within).join(file.path.as_str());
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
            made.map_err(|error| Error::io(folder, error))?;
        }
        Ok(path)
    }
}

#[cfg(test)]
#[path = "replace_tests.rs"]
mod tests;
