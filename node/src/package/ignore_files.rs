//! Which files of a directory ignore files leave out.
//!
//! `.ggenignore` and `.gitignore` inside the directory count, and, where it is in a Git repository, the `.gitignore` files of the
//! directories above it up to the root of the repository, as for Git. Nothing above that root is read, and no `.ggenignore`
//! outside of the directory: anyone who can write a file somewhere above it must not decide what is published.
//!
//! As for Git, the deepest file that says anything of a path decides; any `.ggenignore` comes before any `.gitignore`. What a pattern
//! means is in `pattern.rs`.
//!
//! A line that matches nothing, or hardly what was meant, is refused in a `.ggenignore`, since what it was meant to leave out would be
//! published; in a `.gitignore`, which may be anyone's and which Git reads the same way, it is told.

mod pattern;

use std::{
    collections::BTreeMap,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::pattern::Patterns;
use super::walk::{Misread, open};
use crate::limits::IGNORE_FILE_BYTES_MAX;

/// Left out by those who publish, whatever Git does.
const OWN: &str = ".ggenignore";
/// Left out by Git.
const GIT: &str = ".gitignore";
/// What marks the root of a Git repository: a folder, or the file that a worktree or a submodule has in its place.
const REPOSITORY: &str = ".git";

/// Ignore files with lines that are not understood, of which it is told.
const MISREAD_MAX: usize = 20;
const UTF_16: &str = "it holds zero bytes, as UTF-16 text does";

/// An ignore file.
#[derive(Debug)]
struct IgnoreFile {
    folder: PathBuf,
    patterns: Patterns,
}

/// The ignore files of one directory.
#[derive(Debug, Clone, Default)]
struct Layer {
    own: Option<Arc<IgnoreFile>>,
    git: Option<Arc<IgnoreFile>>,
    /// Nothing above says what Git ignores here.
    is_repository: bool,
}

/// The ignore files that count for a directory, read as its folders are entered.
#[derive(Debug)]
pub(super) struct IgnoreFiles {
    root: PathBuf,
    /// Of the directory and the folders in it.
    layers: BTreeMap<PathBuf, Layer>,
    /// Of the directories above it, the nearest first.
    enclosing: Vec<Arc<IgnoreFile>>,
    /// The real path of the directory, by which those above it know it.
    real: PathBuf,
    /// Ignore files that are no regular files, or too large: reading them could block, lead elsewhere, or take all memory.
    bad: Vec<PathBuf>,
    /// The first line that is not understood in each of them, and whether that is refused.
    misread: Vec<(bool, Misread)>,
}

impl IgnoreFiles {
    /// Those that count above `root`, and none in it yet.
    pub(super) fn above(root: &Path) -> Self {
        let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let mut files = Self {
            root: root.to_owned(),
            layers: BTreeMap::new(),
            enclosing: Vec::new(),
            real,
            bad: Vec::new(),
            misread: Vec::new(),
        };
        if is_repository(&files.real) {
            return files;
        }
        let above: Vec<PathBuf> = files.real.ancestors().skip(1).map(Path::to_owned).collect();
        let Some(top) = above.iter().position(|folder| is_repository(folder)) else { return files };
        for folder in &above[..=top] {
            if let Some(read) = files.read(folder, GIT) {
                files.enclosing.push(read);
            }
        }
        files
    }

    /// Reads the ignore files of a folder that is entered; false where it must not be, because one of them cannot be read.
    pub(super) fn enter(&mut self, folder: &Path) -> bool {
        let before = self.bad.len();
        let layer = Layer {
            own: self.read(folder, OWN),
            git: self.read(folder, GIT),
            is_repository: is_repository(folder),
        };
        if layer.own.is_some() || layer.git.is_some() || layer.is_repository {
            self.layers.insert(folder.to_owned(), layer);
        }
        self.bad.len() == before
    }

    /// Whether a path in the directory is left out, all folders above which were entered.
    pub(super) fn leaves_out(&self, path: &Path, is_dir: bool) -> bool {
        let folders = || path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        let layers = || folders().filter_map(|folder| self.layers.get(folder));
        let own = layers().filter_map(|layer| layer.own.as_deref());
        if let Some(decided) = first(own, path, is_dir) {
            return decided;
        }
        let mut git = Vec::new();
        let mut is_bounded = false;
        for layer in layers() {
            git.extend(layer.git.as_deref());
            if layer.is_repository {
                is_bounded = true;
                break;
            }
        }
        if let Some(decided) = first(git.into_iter(), path, is_dir) {
            return decided;
        }
        if is_bounded || self.enclosing.is_empty() {
            return false;
        }
        let Ok(inside) = path.strip_prefix(&self.root) else { return false };
        let real = self.real.join(inside);
        first(self.enclosing.iter().map(AsRef::as_ref), &real, is_dir).unwrap_or(false)
    }

    /// What is not understood in a `.ggenignore`, and in a `.gitignore`.
    pub(super) fn take_misread(&mut self) -> [Vec<Misread>; 2] {
        let (own, git): (Vec<_>, Vec<_>) = std::mem::take(&mut self.misread).into_iter().partition(|it| it.0);
        [own, git].map(|all| all.into_iter().map(|(_, misread)| misread).collect())
    }

    /// The ignore files that could not be read.
    pub(super) fn take_bad(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.bad)
    }

    fn read(&mut self, folder: &Path, name: &str) -> Option<Arc<IgnoreFile>> {
        let path = folder.join(name);
        if path.symlink_metadata().is_err() {
            return None;
        }
        let mut text = Vec::new();
        let read = open(&path).and_then(|file| file.take(IGNORE_FILE_BYTES_MAX + 1).read_to_end(&mut text));
        if read.is_err() || text.len() as u64 > IGNORE_FILE_BYTES_MAX {
            self.bad.push(path);
            return None;
        }
        let (patterns, wrong) = parse(folder, &text);
        if let Some((line, why)) = wrong
            && self.misread.len() < MISREAD_MAX
        {
            self.misread.push((name == OWN, Misread { path, line, why }));
        }
        (!patterns.is_empty()).then(|| Arc::new(IgnoreFile { folder: folder.to_owned(), patterns }))
    }
}

/// The patterns of an ignore file, and the first line of it that is not understood, with why.
fn parse(folder: &Path, text: &[u8]) -> (Patterns, Option<(usize, String)>) {
    let (mut patterns, mut wrong) = (Patterns::default(), None);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return (patterns, Some((1, UTF_16.to_owned())));
    }
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Err(why) = add(&mut patterns, folder, line) {
            wrong.get_or_insert((at + 1, why));
        }
    }
    (patterns, wrong)
}

fn add(patterns: &mut Patterns, folder: &Path, line: &[u8]) -> Result<(), String> {
    // Before comments: a file whose lines are not told apart may begin with one.
    if line.contains(&0) {
        return Err(UTF_16.to_owned());
    }
    if line.contains(&b'\r') {
        return Err("its lines end with a carriage return alone".to_owned());
    }
    if line.starts_with(b"#") {
        return Ok(());
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    if line.trim().is_empty() {
        return Ok(());
    }
    // Whatever was meant, it counts as for Git.
    let added = patterns.add(line.as_bytes());
    matches_nothing(folder, line).map_or(added, Err).map_err(str::to_owned)
}

/// Why a pattern cannot match what it was meant to, where that is plain: Git passes over such lines without a word.
fn matches_nothing(folder: &Path, line: &str) -> Option<&'static str> {
    let pattern = line.strip_prefix('!').unwrap_or(line);
    let is_windows =
        pattern.split('\\').skip(1).any(|after| after.starts_with(|it: char| it.is_alphanumeric()));
    if pattern.starts_with("./") || pattern.starts_with("../") {
        Some(
            "a pattern with ./ or ../ in front matches nothing; write the path from the folder of this file, without either",
        )
    } else if folder.parent().is_some() && Path::new(pattern).starts_with(folder) {
        Some("a whole path matches nothing; write the path from the folder of this file")
    } else if is_windows {
        Some("folders are parted by /, not by \\")
    } else if pattern.ends_with('\t') {
        Some("a tab at its end belongs to the name, as for Git")
    } else if pattern.contains(" #") {
        Some("a comment stands in a line of its own; in a name write \\#")
    } else {
        None
    }
}

/// What the first of them that says anything of a path says.
fn first<'a>(mut files: impl Iterator<Item = &'a IgnoreFile>, path: &Path, is_dir: bool) -> Option<bool> {
    files.find_map(|file| {
        let inside = path.strip_prefix(&file.folder).ok()?;
        file.patterns.leave_out(inside.as_os_str().as_bytes(), is_dir)
    })
}

fn is_repository(folder: &Path) -> bool {
    folder.join(REPOSITORY).symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests;
