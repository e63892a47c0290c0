//! Which files of a directory are published, and opening them so that nothing else is read in their place.
//!
//! `.gitignore` and `.ggenignore` inside the directory are honoured, and nothing outside of it: the same directory gives the
//! same files on every machine. Hidden files belong to a package unless they are ignored; `.git` never does, and the
//! `gpack.toml` at the top always does.

use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ignore::{DirEntry, WalkBuilder};
use rustix::fs::OFlags;

use super::{PackagePath, gpack, io_code, path, shorten};
use crate::{
    code::Code,
    limits::{DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, PACKAGE_BYTES_MAX},
};

/// Offenders that are collected; a directory with more of them is not looked through any further.
const OFFENDERS_MAX: usize = 100;
/// The ignore files that are honoured.
const IGNORE_FILES: [&str; 2] = [".gitignore", ".ggenignore"];

/// One file to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path inside the package.
    pub path: PackagePath,
    /// Where it is.
    pub source: PathBuf,
    /// Whether it may be executed: mode 755 rather than 644.
    pub executable: bool,
    /// What it was when it was found.
    pub state: State,
}

/// What a file looked like from outside; another state means other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Bytes.
    pub size: u64,
    modified: (i64, i64),
    file: (u64, u64),
}

impl State {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }
}

/// Collects the files of `directory`, sorted by path.
///
/// # Errors
/// [`Error::Offenders`] with everything that cannot be published, and [`Error::Limit`] for too much of it.
pub fn walk(directory: &Path) -> Result<Vec<Found>, Error> {
    let mut search = Search { root: directory, found: Vec::new(), offenders: Vec::new(), bytes: 0 };
    search.check_ignore_files(directory);
    if search.offenders.is_empty() {
        for entry in walker(directory) {
            search.visit(entry)?;
            if search.offenders.len() >= OFFENDERS_MAX {
                break;
            }
        }
        search.visit_description()?;
    }
    let Search { mut found, mut offenders, .. } = search;
    if !offenders.is_empty() {
        offenders.sort_by(|left, right| left.path.cmp(&right.path));
        return Err(Error::Offenders { offenders });
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    path::check_list(found.iter().map(|found| &found.path))?;
    Ok(found)
}

fn walker(directory: &Path) -> ignore::Walk {
    WalkBuilder::new(directory)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(false)
        .add_custom_ignore_filename(".ggenignore")
        .follow_links(false)
        // A directory of this depth is seen and refused, rather than left out with all that it holds.
        .max_depth(Some(DEPTH_MAX + 1))
        .filter_entry(|entry| !is_git(entry.path()) && !has_hostile_ignore_file(entry))
        .build()
}

fn is_git(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.eq_ignore_ascii_case(".git"))
}

/// Whether reading the directory's ignore files could block or leave the tree; the directory is not entered then.
fn has_hostile_ignore_file(entry: &DirEntry) -> bool {
    entry.depth() > 0
        && entry.file_type().is_some_and(|kind| kind.is_dir())
        && IGNORE_FILES.iter().any(|name| !is_absent_or_regular(&entry.path().join(name)))
}

fn is_absent_or_regular(path: &Path) -> bool {
    fs::symlink_metadata(path).map_or(true, |metadata| metadata.is_file())
}

struct Search<'a> {
    root: &'a Path,
    found: Vec<Found>,
    offenders: Vec<Offender>,
    bytes: u64,
}

impl Search<'_> {
    fn offend(&mut self, source: &Path, why: impl Into<String>) {
        let path = source.strip_prefix(self.root).unwrap_or(source);
        let path = shorten(&path.to_string_lossy());
        self.offenders.push(Offender { path, why: why.into() });
    }

    /// Names the ignore files that keep a directory from being entered.
    fn check_ignore_files(&mut self, directory: &Path) {
        for name in IGNORE_FILES {
            let path = directory.join(name);
            if !is_absent_or_regular(&path) {
                self.offend(&path, "an ignore file must be a regular file");
            }
        }
    }

    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> Result<(), Error> {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = path_of(&error).unwrap_or(self.root).to_owned();
                let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                self.offend(&path, format!("it cannot be read: {why}"));
                return Ok(());
            }
        };
        if entry.depth() == 0 {
            return Ok(());
        }
        match entry.file_type() {
            Some(kind) if kind.is_dir() => {
                self.visit_directory(&entry);
                Ok(())
            }
            _ => self.visit_file(entry.path()),
        }
    }

    fn visit_directory(&mut self, entry: &DirEntry) {
        if entry.depth() > DEPTH_MAX {
            self.offend(entry.path(), format!("it is deeper than {DEPTH_MAX} directories"));
        }
    }

    /// Adds `gpack.toml` where an ignore file left it out.
    fn visit_description(&mut self) -> Result<(), Error> {
        let path = self.root.join(gpack::FILE_NAME);
        let is_found = self.found.iter().any(|found| found.path.as_str() == gpack::FILE_NAME);
        let is_offender = self.offenders.iter().any(|offender| offender.path == gpack::FILE_NAME);
        if is_found || is_offender || fs::symlink_metadata(&path).is_err() {
            return Ok(());
        }
        self.visit_file(&path)
    }

    fn visit_file(&mut self, source: &Path) -> Result<(), Error> {
        match self.file(source) {
            Ok(found) => self.add(found),
            Err(why) => {
                self.offend(source, why);
                Ok(())
            }
        }
    }

    fn file(&self, source: &Path) -> Result<Found, String> {
        let relative = source.strip_prefix(self.root).map_err(|_| "it is outside of the directory")?;
        let relative = relative.to_str().ok_or("its name is not UTF-8")?;
        let metadata = fs::symlink_metadata(source).map_err(|error| format!("it cannot be read: {error}"))?;
        if let Some(kind) = irregular(&metadata) {
            return Err(format!("it is {kind}; only regular files are published"));
        }
        let path = relative.parse::<PackagePath>().map_err(|error| error.to_string())?;
        // Opening shows now, with all other offenders, whether it can be read later.
        let metadata = open(source)
            .and_then(|file| file.metadata())
            .map_err(|error| format!("it cannot be read: {error}"))?;
        let executable = metadata.mode() & 0o111 != 0;
        Ok(Found { path, source: source.to_owned(), executable, state: State::of(&metadata) })
    }

    fn add(&mut self, found: Found) -> Result<(), Error> {
        let limit = |what, max| Error::Limit { path: found.path.to_string(), what, max };
        if found.state.size > FILE_BYTES_MAX {
            return Err(limit("bytes in one file", FILE_BYTES_MAX));
        }
        self.bytes = self.bytes.saturating_add(found.state.size);
        if self.bytes > PACKAGE_BYTES_MAX {
            return Err(limit("bytes in one package", PACKAGE_BYTES_MAX));
        }
        if self.found.len() == FILES_MAX {
            return Err(limit("files in one package", FILES_MAX as u64));
        }
        self.found.push(found);
        Ok(())
    }
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        _ => None,
    }
}

/// What a thing is that is no regular file.
fn irregular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device or folder")
    }
}

/// Opens a regular file for reading: never through a link, never waiting for the other end of a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// One thing that cannot be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// Its path, shortened.
    pub path: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Offender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// Why a directory cannot be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Things in it cannot be published; all of them, up to a hundred.
    #[error("{} cannot be published{}", count(offenders.len()), list(offenders))]
    Offenders {
        /// What, and why, by path.
        offenders: Vec<Offender>,
    },
    /// There is too much of something.
    #[error("too many {what} at {path}: at most {max} are allowed")]
    Limit {
        /// The file that passed the limit.
        path: String,
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        max: u64,
    },
    /// The paths cannot stand together.
    #[error(transparent)]
    Path(#[from] path::Error),
    /// A file is no longer what it was.
    #[error("{path} changed while it was being read")]
    Changed {
        /// Its path inside the package.
        path: String,
    },
    /// Reading failed.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Its path inside the package.
        path: String,
        /// Why.
        source: io::Error,
    },
}

fn count(offenders: usize) -> String {
    match offenders {
        1 => "one thing in the directory".to_owned(),
        many if many >= OFFENDERS_MAX => format!("{many} things and more in the directory"),
        many => format!("{many} things in the directory"),
    }
}

fn list(offenders: &[Offender]) -> String {
    offenders.iter().fold(String::new(), |text, offender| format!("{text}\n  {offender}"))
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Offenders { .. } | Self::Changed { .. } => Code::PackageInvalid,
            Self::Limit { .. } => Code::Limit,
            Self::Path(error) => error.code(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Code::Io,
            Self::Io { source, .. } => io_code(source),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Offenders { .. } | Self::Path(_) => {
                "Remove or rename them, or leave them out with a line in .ggenignore.".to_owned()
            }
            Self::Limit { .. } => {
                "Leave out with .ggenignore what is not part of the package, or split it.".to_owned()
            }
            Self::Changed { .. } => "Publish again once nothing writes to the directory.".to_owned(),
            Self::Io { .. } => "Check that the file can be read.".to_owned(),
        }
    }
}
