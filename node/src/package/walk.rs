//! Which files of a directory are published, and opening them so that nothing else is read in their place.
//!
//! What ignore files leave out is not published: those inside the directory, and in a Git repository the `.gitignore` files above it up
//! to the root of the repository (`ignore_files.rs`). Hidden files belong to a package unless they are ignored; `.git` and the folders of
//! this program, `.ggen` and `.gpack.journal`, never do, and the `gpack.toml` at the top always does.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ignore::{DirEntry, WalkBuilder};

use self::file::irregular;
pub(crate) use self::file::open;
pub(super) use self::file::{open_with_metadata, read_whole};
pub use self::{
    error::{Error, Misread, Offender},
    file::State,
};
use super::{PackagePath, gpack, ignore_files::IgnoreFiles, path, shorten};
use crate::limits::{DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, IGNORE_FILE_BYTES_MAX, PACKAGE_BYTES_MAX};

mod error;
mod file;

/// Offenders that are collected; a directory with more of them is not looked through any further.
const OFFENDERS_MAX: usize = 100;

/// A file up to this size is read when it is found.
const HELD_FILE_BYTES_MAX: u64 = 256 << 10;
/// Bytes of one package that are held so; the rest is read when it is packed.
const HELD_BYTES_MAX: u64 = 64 << 20;

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
    /// Its bytes, where it is small: they were read when it was found, so that it is opened once.
    pub held: Option<Arc<[u8]>>,
}

impl Found {
    /// Whether what is there is still what was found.
    pub(super) fn is_same(&self) -> bool {
        fs::symlink_metadata(&self.source).is_ok_and(|metadata| State::of(&metadata) == self.state)
    }
}

/// Collects the files of `directory`, sorted by path.
///
/// # Errors
/// [`Error::Offenders`] with everything that cannot be published, [`Error::IgnoreFile`] where a `.ggenignore` is not understood, and
/// [`Error::Limit`] for too much of it.
pub fn walk(directory: &Path) -> Result<Vec<Found>, Error> {
    walk_and_warn(directory, &mut Vec::new())
}

/// As [`walk`]; what is not understood in a `.gitignore` is added to the warnings, as full sentences.
///
/// # Errors
/// As [`walk`].
pub fn walk_and_warn(directory: &Path, warnings: &mut Vec<String>) -> Result<Vec<Found>, Error> {
    let mut search = Search { root: directory, found: Vec::new(), offenders: Vec::new(), bytes: 0, held: 0 };
    let ignored = Arc::new(Mutex::new(IgnoreFiles::above(directory)));
    if lock(&ignored).enter(directory) {
        for entry in walker(directory, ignored.clone()) {
            search.visit(entry)?;
            if search.offenders.len() >= OFFENDERS_MAX {
                break;
            }
        }
        search.visit_description()?;
    }
    let [misread, of_git] = lock(&ignored).take_misread();
    if !misread.is_empty() {
        return Err(Error::IgnoreFile { misread });
    }
    warnings.extend(of_git.iter().map(|it| {
        format!(
            "A line of an ignore file is not understood, and what it should leave out is published: {it}."
        )
    }));
    let bad = lock(&ignored).take_bad();
    for path in bad {
        search.offend(
            &path,
            format!("an ignore file must be a regular file of at most {IGNORE_FILE_BYTES_MAX} bytes"),
        );
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

fn walker(directory: &Path, ignored: Arc<Mutex<IgnoreFiles>>) -> ignore::Walk {
    WalkBuilder::new(directory)
        .standard_filters(false)
        .follow_links(false)
        // A directory of this depth is seen and refused, rather than left out with all that it holds.
        .max_depth(Some(DEPTH_MAX + 1))
        .filter_entry(move |entry| {
            let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            let mut ignored = lock(&ignored);
            !is_never_published(entry.path())
                && !ignored.leaves_out(entry.path(), is_folder)
                && (!is_folder || ignored.enter(entry.path()))
        })
        .build()
}

fn lock(ignored: &Mutex<IgnoreFiles>) -> MutexGuard<'_, IgnoreFiles> {
    ignored.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_never_published(path: &Path) -> bool {
    let name = path.file_name();
    name.is_some_and(|name| name.eq_ignore_ascii_case(".git") || name.to_str().is_some_and(path::is_own))
}

struct Search<'a> {
    root: &'a Path,
    found: Vec<Found>,
    offenders: Vec<Offender>,
    bytes: u64,
    /// Bytes of the small files that are held.
    held: u64,
}

impl Search<'_> {
    fn offend(&mut self, source: &Path, why: impl Into<String>) {
        let path = source.strip_prefix(self.root).unwrap_or(source);
        let path = shorten(&path.to_string_lossy());
        self.offenders.push(Offender { path, why: why.into() });
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
            kind => self.visit_file(entry.path(), kind.is_some_and(|kind| kind.is_file())),
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
        self.visit_file(&path, false)
    }

    fn visit_file(&mut self, source: &Path, is_regular: bool) -> Result<(), Error> {
        match self.file(source, is_regular) {
            Ok(found) => self.add(found),
            Err(why) => {
                self.offend(source, why);
                Ok(())
            }
        }
    }

    fn file(&mut self, source: &Path, is_regular: bool) -> Result<Found, String> {
        let relative = source.strip_prefix(self.root).map_err(|_| "it is outside of the directory")?;
        let relative = relative.to_str().ok_or("its name is not UTF-8")?;
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        if !is_regular && let Some(kind) = irregular(&fs::symlink_metadata(source).map_err(unreadable)?) {
            return Err(format!("it is {kind}; only regular files are published"));
        }
        let path = relative.parse::<PackagePath>().map_err(|error| error.to_string())?;
        // Opening shows now, with all other offenders, whether it can be read later.
        let (file, metadata) = open_with_metadata(source).map_err(unreadable)?;
        let executable = metadata.mode() & 0o111 != 0;
        let state = State::of(&metadata);
        let is_held = state.size <= HELD_FILE_BYTES_MAX && self.held + state.size <= HELD_BYTES_MAX;
        // What changes meanwhile is noticed when it is packed.
        let bytes = if is_held { read_whole(&file, state).map_err(unreadable)? } else { None };
        self.held += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(Found { path, source: source.to_owned(), executable, state, held: bytes.map(Arc::from) })
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

#[cfg(test)]
mod tests;
