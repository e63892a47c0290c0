//! Puts a verified package into a folder: all of it, or nothing.
//!
//! Files are written into a staging folder beside the target, which takes the target's name in one step once everything
//! is on the disk. A crash leaves at most a staging folder, which [`sweep_partials`] removes. What is written is bound by
//! the manifest: no path, byte or mode comes from anywhere else.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    Manifest, io_code,
    manifest::FileEntry,
    unixfs::{self, FilePart},
};
use crate::{code::Code, content::Block};

pub mod early;
pub mod replace;
mod supply;

pub use supply::Supply;

/// Stands in the name of every staging folder.
pub(in crate::package) const MARK: &str = ".ggen-partial-";
/// How often a staging folder is made before an install gives up: each time somebody else's sweep took the last one in the
/// moment before it was locked.
const ATTEMPTS_MAX: usize = 64;
/// Bytes of the target's name that are kept in the name of its staging folder.
const NAME_BYTES: usize = 80;

/// Writes the package of `manifest` to `target`, which must not exist or be an empty folder; folders above it are made. The
/// blocks of the files come from `source`; `progress` hears of the bytes written and the bytes in all.
///
/// # Errors
/// [`Error`]; the target is as it was before, and the staging folder is gone.
pub fn unpack<E>(
    manifest: &Manifest,
    source: &dyn Supply<E>,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error<E>> {
    let is_there = check_target(target)?;
    let staging = Staging::beside(target)?;
    staging.check_space(manifest.size())?;
    let mut done = 0;
    progress(done, manifest.size());
    for file in manifest.files() {
        let path = staging.make_way(file)?;
        write_file(file, &path, source, &mut |bytes| {
            done += bytes;
            progress(done, manifest.size());
        })?;
    }
    staging.publish(target, is_there, source)
}

/// Brings to the disk what stands at a target already, and is whole: the process that wrote it may have been killed after it had its name
/// and before that was on the disk.
///
/// # Errors
/// [`Error::Io`]; everything is as it was before.
pub fn settle<E>(target: &Path) -> Result<(), Error<E>> {
    let settled = || {
        sync(target, &File::open(target)?)?;
        // The folder of a bare name is the one that the process is in.
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    settled().map_err(|error| Error::io(target, error))
}

/// Fails where nobody wants the package any more.
fn go_on<E>(source: &dyn Supply<E>) -> Result<(), Error<E>> {
    if source.is_wanted() { Ok(()) } else { Err(Error::Unwanted) }
}

/// Whether the target is there, as an empty folder.
fn check_target<E>(target: &Path) -> Result<bool, Error<E>> {
    let taken = || Error::Exists { target: target.to_owned() };
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(target, error)),
        Ok(metadata) if !metadata.is_dir() => Err(taken()),
        Ok(_) => {
            let mut entries = fs::read_dir(target).map_err(|error| Error::io(target, error))?;
            if entries.next().is_some() { Err(taken()) } else { Ok(true) }
        }
    }
}

/// The staging folder; it is removed where nothing became of it.
struct Staging {
    folder: TempDir,
    /// Kept open and locked, so that nobody sweeps the folder away while it is in use.
    handle: File,
    parent: PathBuf,
}

impl Staging {
    fn beside<E>(target: &Path) -> Result<Self, Error<E>> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) => Path::new("."),
            None => return Err(Error::Exists { target: target.to_owned() }),
        };
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
        Self::named(&format!(".{}{MARK}", short_name(target)), parent, parent)
    }

    /// A new staging folder in `place`, whose name begins so.
    fn named<E>(prefix: &str, place: &Path, parent: &Path) -> Result<Self, Error<E>> {
        let failed = |error| Error::io(place, error);
        for _ in 0..ATTEMPTS_MAX {
            // Only its owner may look into it: what is in there was not checked to the end.
            let folder = tempfile::Builder::new()
                .prefix(prefix)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(place)
                .map_err(failed)?;
            if let Some(handle) = lock(folder.path()).map_err(failed)? {
                return Ok(Self { folder, handle, parent: parent.to_owned() });
            }
        }
        Err(failed(io::ErrorKind::ResourceBusy.into()))
    }

    /// Fails before anything is written where it cannot fit.
    fn check_space<E>(&self, size: u64) -> Result<(), Error<E>> {
        let Ok(state) = rustix::fs::fstatvfs(&self.handle) else { return Ok(()) };
        if state.f_bavail.saturating_mul(state.f_frsize) < size {
            return Err(Error::io(&self.parent, io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }

    fn path_of(&self, file: &FileEntry) -> PathBuf {
        self.folder.path().join(file.path.as_str())
    }

    /// Makes the folders above a file and says where it goes.
    fn make_way<E>(&self, file: &FileEntry) -> Result<PathBuf, Error<E>> {
        let path = self.path_of(file);
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
            made.map_err(|error| Error::io(folder, error))?;
        }
        Ok(path)
    }

    /// Brings everything to the disk and gives the folder its name.
    fn publish<E>(self, target: &Path, is_there: bool, source: &dyn Supply<E>) -> Result<(), Error<E>> {
        let failed = |error| Error::io(target, error);
        set_folder_modes(self.folder.path()).map_err(failed)?;
        sync(self.folder.path(), &self.handle).map_err(failed)?;
        go_on(source)?;
        rename(self.folder.path(), target, is_there).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotADirectory => Error::Exists { target: target.to_owned() },
            _ => failed(error),
        })?;
        // It has its name now: nothing may remove it any more, whatever happens below.
        let _renamed = self.folder.keep();
        File::open(&self.parent).and_then(|parent| parent.sync_all()).map_err(failed)
    }
}

/// Opens a new staging folder and locks it; none where [`sweep_partials`] took it for one that a crash left.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let handle = match File::open(folder) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&handle, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // A folder that is gone can be locked all the same.
    match fs::symlink_metadata(folder) {
        Ok(there) => Ok((there.ino() == handle.metadata()?.ino()).then_some(handle)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The end of the target's path, cut so that the staging folder's name is not too long.
fn short_name(target: &Path) -> String {
    let name = target.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let end = name
        .char_indices()
        .map(|(at, char)| at + char.len_utf8())
        .take_while(|end| *end <= NAME_BYTES)
        .last();
    name[..end.unwrap_or(0)].to_owned()
}

/// Gives the folders the mode that they have in every installed package, whatever the umask.
fn set_folder_modes(root: &Path) -> io::Result<()> {
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Brings the folder with all its files to the disk.
#[cfg(target_os = "linux")]
fn sync(_root: &Path, handle: &File) -> io::Result<()> {
    // One call for the file system, rather than one for each of what may be a hundred thousand files.
    Ok(rustix::fs::syncfs(handle)?)
}

/// Brings the folder with all its files to the disk.
#[cfg(not(target_os = "linux"))]
fn sync(root: &Path, _handle: &File) -> io::Result<()> {
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
        File::open(&path)?.sync_all()?;
    }
    Ok(())
}

/// Renames, over nothing but the empty folder that was seen before.
fn rename(from: &Path, to: &Path, is_there: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if !is_there {
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
    let _ = is_there;
    // A folder is never renamed over a file or over a folder that is not empty.
    fs::rename(from, to)
}

fn write_file<E>(
    entry: &FileEntry,
    path: &Path,
    source: &dyn Supply<E>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error<E>> {
    let failed = |error| Error::io(path, error);
    let graph = |source| Error::Graph { path: entry.path.to_string(), source };
    // Never over anything: where a file system takes two of the names for one, this fails.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let (mut hash, mut left, mut at) = (Sha256::new(), entry.size, 0);
    let is_leaf = entry.whole().is_leaf();
    let mut open: Vec<FilePart> = vec![entry.whole()];
    while let Some(part) = open.pop() {
        go_on(source)?;
        let block = source.block(&part.id).map_err(Error::Source)?;
        if !part.is_leaf() {
            open.extend(part.children(block.bytes()).map_err(graph)?.into_iter().rev());
            continue;
        }
        let bytes = part.leaf(&block).map_err(graph)?;
        let len = bytes.len() as u64;
        let over = || Error::Size { path: entry.path.to_string(), expected: entry.size };
        left = left.checked_sub(len).ok_or_else(over)?;
        // The one leaf of a small file is named by the hash of the file.
        if !is_leaf {
            hash.update(bytes);
        }
        put(&file, (&block, bytes), at, source).map_err(failed)?;
        at += len;
        progress(len);
    }
    if left > 0 {
        return Err(Error::Size { path: entry.path.to_string(), expected: entry.size });
    }
    let sha256 = if is_leaf { entry.id.digest() } else { hash.finalize().into() };
    if sha256 != entry.sha256 {
        return Err(Error::Sha256 { path: entry.path.to_string() });
    }
    let mode = if entry.executable { 0o755 } else { 0o644 };
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)
}

/// Puts the bytes of a leaf into a file, which shares them with the block where it can.
fn put<E>(file: &File, (block, bytes): (&Block, &[u8]), at: u64, source: &dyn Supply<E>) -> io::Result<()> {
    // Where the leaf is all of its block, both are the same bytes.
    let is_all = bytes.len() == block.bytes().len();
    let shared = if is_all { source.share(&block.id(), file, at, bytes.len() as u64) } else { 0 };
    let rest = usize::try_from(shared).ok().and_then(|shared| bytes.get(shared..)).unwrap_or_default();
    file.write_all_at(rest, at + shared)
}

/// Removes the staging folders in `folder` that a crash left behind, and counts them. One that is in use is left alone.
///
/// # Errors
/// Whatever keeps the folder from being read; a staging folder that cannot be removed is passed over.
pub fn sweep_partials(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_partial = name.to_str().is_some_and(|name| name.starts_with('.') && name.contains(MARK));
        // The type is that of the entry itself: a link is never followed.
        if !is_partial || !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        let Ok(handle) = File::open(&path) else { continue };
        if flock(&handle, FlockOperation::NonBlockingLockExclusive).is_ok()
            && fs::remove_dir_all(&path).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Why a package could not be written; `E` is the error of what gives the blocks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// Something is at the target already.
    #[error("{} exists already and is not an empty folder", target.display())]
    Exists {
        /// The target.
        target: PathBuf,
    },
    /// A block is not what it must be.
    #[error("{path}: {source}")]
    Graph {
        /// The file's path inside the package.
        path: String,
        /// What is wrong.
        source: unixfs::Error,
    },
    /// The blocks of a file are more or fewer bytes than were signed.
    #[error("{path} does not have the {expected} bytes that were signed")]
    Size {
        /// The file's path inside the package.
        path: String,
        /// Bytes that were signed.
        expected: u64,
    },
    /// A file has another SHA-256 than was signed, although each of its blocks is right.
    #[error("{path} does not have the SHA-256 that was signed")]
    Sha256 {
        /// The file's path inside the package.
        path: String,
    },
    /// A block could not be had.
    #[error("a block could not be read: {0}")]
    Source(E),
    /// Whoever asked for it is gone.
    #[error("whoever asked for it is gone; nothing was put in place")]
    Unwanted,
    /// Writing failed.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl<E> Error<E> {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// The stable code of this error, with that of a block that could not be had from `source`.
    pub fn code(&self, source: impl FnOnce(&E) -> Code) -> Code {
        match self {
            Self::Exists { .. } => Code::Conflict,
            Self::Graph { source, .. } => source.code(),
            Self::Size { .. } => Code::Size,
            Self::Sha256 { .. } => Code::HashMismatch,
            Self::Source(error) => source(error),
            Self::Unwanted => Code::Interrupted,
            Self::Io { source, .. } => io_code(source),
        }
    }

    /// What to do next; empty where only what gives the blocks can say.
    pub fn hint(&self) -> String {
        match self {
            Self::Exists { .. } => "Name another folder with --to, or remove this one first.".to_owned(),
            Self::Graph { .. } | Self::Size { .. } | Self::Sha256 { .. } => {
                "Nothing was installed. The package is not what was signed; tell its publisher.".to_owned()
            }
            Self::Source(_) => String::new(),
            Self::Unwanted => "Run the same command again: what came is kept.".to_owned(),
            Self::Io { source, .. } => match io_code(source) {
                Code::DiskFull => "Nothing was installed. Free some space and try again.".to_owned(),
                Code::ReadOnly => {
                    "Nothing was installed. Name a folder that you may write with --to.".to_owned()
                }
                _ => "Nothing was installed.".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
