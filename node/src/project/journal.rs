//! What a change of a project is about to do, written down before it does it.
//!
//! It stands beside the `gpack.toml`, whatever folder the packages are in. As soon as it is there, the change will be made:
//! a command that finds it carries it to its end. It is read as what others may have written: every name in it is checked, and
//! nothing is done for one without the [`Seal`] of this state folder.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Error, Seal, disk::Disk, site::Placed};
use crate::{limits::PROJECT_NOTE_BYTES_MAX, package::gpack};

/// The folder that holds the journal and what belongs to it.
pub(super) const FOLDER: &str = ".gpack.journal";
const NAME: &str = "journal.json";
const FORMAT: u64 = 1;
/// Bytes of the longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// It is made.
    Forward,
    /// It failed and is taken back.
    Back,
    /// All of it, or nothing, is in place; what is left over is removed.
    Clean,
}

/// What a folder held before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Was {
    /// There was none.
    Nothing,
    /// A package that this program put there.
    Placed(Box<Placed>),
    /// Something else.
    Unknown,
}

/// One folder that gets another content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// The name of the folder.
    pub name: String,
    /// What is in it now.
    pub was: Was,
    /// The package that stands ready for it; without one it goes away.
    pub brings: Option<Box<Placed>>,
}

/// One file beside the `gpack.toml`, or that itself, that gets another content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSwap {
    pub(super) name: String,
    pub(super) had_old: bool,
    /// The SHA-256 of what it gets, as digits: what it holds otherwise is somebody's own.
    pub(super) after: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    version: u64,
    pub(super) folder: String,
    pub(super) way: Way,
    pub(super) swaps: Vec<Swap>,
    pub(super) files: Vec<FileSwap>,
    pub(super) had_index: bool,
    /// The seal of all the rest.
    #[serde(default)]
    seal: String,
}

impl Journal {
    pub(super) fn new(folder: String, swaps: Vec<Swap>, files: Vec<FileSwap>, had_index: bool) -> Self {
        Self { version: FORMAT, folder, way: Way::Forward, swaps, files, had_index, seal: String::new() }
    }

    /// The journal of a project, where a change of it did not come to its end; whoever wrote it.
    pub(super) fn read(root: &Path) -> Result<Option<Self>, Error> {
        let path = root.join(FOLDER).join(NAME);
        let bad = |why: &str| Error::Note { path: path.clone(), why: why.to_owned() };
        let Some(bytes) = read_note(&path)? else { return Ok(None) };
        let journal: Self = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
        if journal.version != FORMAT {
            return Err(Error::Newer { path, found: journal.version, known: FORMAT });
        }
        gpack::folder(&journal.folder).map_err(|why| bad(&why))?;
        let known = |file: &FileSwap| [gpack::FILE_NAME, super::LOCK_FILE].contains(&file.name.as_str());
        if !journal.swaps.iter().all(|swap| is_folder_name(&swap.name)) || !journal.files.iter().all(known) {
            return Err(bad("it names files that no change has to do with"));
        }
        Ok(Some(journal))
    }

    /// Whether it was written with this state folder, and nothing in it was changed.
    pub(super) fn is_sealed(&self, seal: &Seal) -> bool {
        self.unsealed().is_ok_and(|text| seal.is_on(&text, &self.seal))
    }

    fn unsealed(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&Self { seal: String::new(), ..self.clone() })?)
    }

    /// The journal as it is written.
    pub(super) fn text(&self, seal: &Seal) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&Self { seal: seal.of(&self.unsealed()?), ..self.clone() })?)
    }

    /// Puts the journal in the place of the one before it; from then on it counts.
    pub(super) fn write(&self, root: &Path, seal: &Seal, disk: &mut Disk) -> io::Result<()> {
        let folder = root.join(FOLDER);
        let (new, path) = (folder.join("journal.new"), folder.join(NAME));
        disk.write(&new, &self.text(seal)?, 0o600)?;
        disk.rename(&new, &path)?;
        disk.sync_folder(&folder)
    }

    /// Takes the journal away: the change is over.
    pub(super) fn end(root: &Path, disk: &mut Disk) -> io::Result<()> {
        let folder = root.join(FOLDER);
        disk.remove(&folder.join(NAME))?;
        disk.remove(&folder)
    }

    /// Where the next content of a file stands, and where the last one does.
    pub(super) fn beside(root: &Path, name: &str) -> (PathBuf, PathBuf) {
        let folder = root.join(FOLDER);
        (folder.join(format!("{name}.next")), folder.join(format!("{name}.old")))
    }
}

/// The journal of a change of nothing, as a kill would leave it.
#[cfg(test)]
pub(crate) fn cut_off(folder: &str, seal: &Seal) -> String {
    let journal = Journal::new(folder.to_owned(), Vec::new(), Vec::new(), true);
    String::from_utf8(journal.text(seal).unwrap()).unwrap()
}

/// Whether a name is that of one visible folder, as packages have.
pub(super) fn is_folder_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'@');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits)
}

/// Reads a note of ours, at most as much of it as there can be; none where there is none.
pub(super) fn read_note(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::new();
    let read = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => File::open(path)
            .and_then(|file| file.take(PROJECT_NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)),
        Ok(_) => {
            return Err(Error::Note { path: path.to_owned(), why: "it is not a regular file".to_owned() });
        }
        Err(error) => Err(error),
    };
    match read {
        Ok(_) if bytes.len() <= PROJECT_NOTE_BYTES_MAX => Ok(Some(bytes)),
        Ok(_) => Err(Error::Note { path: path.to_owned(), why: "it is too large".to_owned() }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}
