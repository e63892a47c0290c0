//! Compares an installed package with what was signed.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Manifest, manifest::FileEntry, shorten, walk};
use crate::{
    code::Code,
    limits::{CHUNK_BYTES, FILES_MAX},
};

/// One thing that is not as it was signed, with its path inside the package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The file has other bytes, or is no regular file.
    Changed(String),
    /// The file is not there.
    Missing(String),
    /// Something is there that is not part of the package.
    Extra(String),
    /// The file may be executed and should not, or the other way round.
    Mode(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(path) => write!(f, "changed: {path}"),
            Self::Missing(path) => write!(f, "missing: {path}"),
            Self::Extra(path) => write!(f, "extra: {path}"),
            Self::Mode(path) => write!(f, "mode: {path}"),
        }
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What differs; empty where everything is as it was signed.
    pub differences: Vec<Difference>,
    /// Files that were compared.
    pub files: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
}

/// Compares the files in `folder` with those of `manifest`. Links are never followed.
///
/// # Errors
/// [`Error`] where the folder or something in it cannot be read.
pub fn check(manifest: &Manifest, folder: &Path) -> Result<Report, Error> {
    let mut present = list(folder)?;
    let mut report = Report::default();
    for entry in manifest.files() {
        let path = entry.path.to_string();
        let Some(metadata) = present.remove(Path::new(entry.path.as_str())) else {
            report.differences.push(Difference::Missing(path));
            continue;
        };
        report.files += 1;
        let is_same = metadata.is_file()
            && metadata.len() == entry.size
            && hash(&folder.join(entry.path.as_str()), entry, &mut report.bytes)?;
        if !is_same {
            report.differences.push(Difference::Changed(path));
        } else if (metadata.mode() & 0o111 != 0) != entry.executable {
            report.differences.push(Difference::Mode(path));
        }
    }
    let extra = present.into_keys().map(|path| Difference::Extra(shorten(&path.to_string_lossy())));
    report.differences.extend(extra);
    Ok(report)
}

/// Whether the file of an entry, of which this is known, has the bytes and the mode that were signed.
pub(super) fn is_as_signed(folder: &Path, entry: &FileEntry, metadata: &Metadata) -> io::Result<bool> {
    is_same(&folder.join(entry.path.as_str()), entry, metadata)
}

/// Likewise, wherever the file is.
pub(super) fn is_same(path: &Path, entry: &FileEntry, metadata: &Metadata) -> io::Result<bool> {
    let looks_so = metadata.is_file()
        && metadata.len() == entry.size
        && (metadata.mode() & 0o111 != 0) == entry.executable;
    Ok(looks_so && hash(path, entry, &mut 0).map_err(|error| error.source)?)
}

/// Everything in the folder but the folders, by its path in there; twice as much as a package can have is not looked at.
pub(super) fn list(folder: &Path) -> Result<BTreeMap<PathBuf, Metadata>, Error> {
    let mut present = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        let place = folder.join(&inside);
        let failed = |source| Error { path: place.clone(), source };
        for entry in fs::read_dir(&place).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = inside.join(entry.file_name());
            let metadata = match entry.metadata() {
                // Somebody removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(failed)?,
            };
            if metadata.is_dir() {
                open.push(path);
            } else {
                present.insert(path, metadata);
            }
            if present.len() + open.len() > 2 * FILES_MAX {
                return Err(failed(io::Error::other("there is far more in it than a package can have")));
            }
        }
    }
    Ok(present)
}

/// Whether the file has the bytes that were signed; at most their number is read.
fn hash(path: &Path, entry: &FileEntry, bytes: &mut u64) -> Result<bool, Error> {
    let failed = |source| Error { path: path.to_owned(), source };
    let mut file = walk::open(path).map_err(failed)?.take(entry.size.saturating_add(1));
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK_BYTES.min(entry.size as usize + 1)]);
    let mut read = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                hash.update(&buffer[..len]);
                read += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    *bytes += read;
    Ok(<[u8; 32]>::from(hash.finalize()) == entry.sha256)
}

/// Why an installed package could not be looked over.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct Error {
    /// What could not be read.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self.source.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::Io,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        "Check that the folder is there and can be read."
    }
}
