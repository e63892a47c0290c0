//! `gpack.lock`: the exact versions that a project uses.
//!
//! TOML, one table a package, sorted by id, one line a value and a dependency, line feeds, no times, no version of the
//! program, and nothing that is about the file as a whole: two branches that each add a package merge line by line. The same
//! versions give the same bytes on every machine.
//!
//! Each entry can be checked by anyone who installs it: `keys` is the document of the publisher's keys that the entry was signed under,
//! whose chain leads to the publisher's id, whatever documents came later; `entry` is what those keys signed in the log of the package; it names the signed `manifest` and the tree
//! (`cid`). What a version needs stands in its manifest too, and is compared with it.

mod lines;

use std::{collections::BTreeMap, fmt::Write, io, path::Path};

use semver::Version;

use super::Error;
use crate::{
    content::ContentId,
    limits::LOCK_BYTES_MAX,
    package::{PackageId, dependencies::Ranges, gpack, walk},
};

/// The name of the file.
pub const FILE_NAME: &str = "gpack.lock";
/// The version of the format.
const FORMAT: u64 = 1;
const HEADER: &str = "# Written by ggen from gpack.toml. Keep it in version control, and do not edit it.\n";

/// What a project was resolved to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// One version of each package.
    pub packages: BTreeMap<PackageId, Locked>,
}

/// One version of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The version.
    pub version: Version,
    /// Content id of the tree.
    pub root: ContentId,
    /// Id of the entry of the package's log that released it.
    pub entry: ContentId,
    /// The number of that entry.
    pub sequence: u64,
    /// Id of the document of the publisher's keys that stood behind it.
    pub keys: ContentId,
    /// Content id of the signed manifest.
    pub manifest: ContentId,
    /// Bytes of all files.
    pub size: u64,
    /// What it needs.
    pub dependencies: Ranges,
}

impl Lock {
    /// Reads the lock file of a project; none where there is none.
    ///
    /// # Errors
    /// [`Error::Lock`], [`Error::Merge`], [`Error::Newer`], or [`Error::Io`].
    pub fn read(root: &Path) -> Result<Option<(Self, Vec<u8>)>, Error> {
        let path = root.join(FILE_NAME);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(whole(&path, "it is not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        }
        let mut bytes = Vec::new();
        let read = walk::open(&path).and_then(|file| {
            io::Read::read_to_end(&mut io::Read::take(file, LOCK_BYTES_MAX as u64 + 1), &mut bytes)
        });
        read.map_err(|error| Error::io("read", &path, error))?;
        Ok(Some((Self::parse(&path, &bytes)?, bytes)))
    }

    /// Parses the bytes of a lock file; `path` is only for messages.
    ///
    /// # Errors
    /// [`Error::Lock`], [`Error::Merge`] or [`Error::Newer`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > LOCK_BYTES_MAX {
            return Err(whole(path, &format!("it is larger than {LOCK_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole(path, "it is not UTF-8"))?;
        if let Some(line) = gpack::merge_mark(text) {
            return Err(Error::Merge { path: path.to_owned(), line });
        }
        lines::read(path, text)
    }

    /// The file, byte for byte the same for the same versions.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}version = {FORMAT}\n");
        for (id, locked) in &self.packages {
            let Locked { version, root, entry, sequence, keys, manifest, size, dependencies } = locked;
            let written = write!(
                text,
                "\n[[package]]\nid = \"{id}\"\nversion = \"{version}\"\ncid = \"{root}\"\nentry = \"{entry}\"\n\
                 sequence = {sequence}\nkeys = \"{keys}\"\nmanifest = \"{manifest}\"\nsize = {size}\n"
            );
            written.expect("a string takes text");
            if !dependencies.is_empty() {
                text.push_str("dependencies = [\n");
                for (package, range) in dependencies {
                    text.push_str(&format!("  \"{package} {range}\",\n"));
                }
                text.push_str("]\n");
            }
        }
        text
    }
}

fn whole(path: &Path, why: &str) -> Error {
    Error::Lock { path: path.to_owned(), line: 0, why: why.to_owned() }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
