//! `gpack.lock`: the exact versions that a project uses.
//!
//! TOML, one table a package, sorted by id, one line a value and a dependency, line feeds, no times, no version of the
//! program, and nothing that is about the file as a whole: two branches that each add a package merge line by line. The same
//! versions give the same bytes on every machine.
//!
//! Each entry can be checked by anyone who installs it: `keys` is the document of the publisher's keys that the entry was signed under,
//! whose chain leads to the publisher's id, whatever documents came later; `entry` is what those keys signed in the log of the package; it names the signed `manifest` and the tree
//! (`cid`). What a version needs stands in its manifest too, and is compared with it.

use std::{collections::BTreeMap, fmt::Write, io, path::Path};

use semver::{Version, VersionReq};
use serde::Deserialize;
use serde_spanned::Spanned;

use super::Error;
use crate::{
    content::{Codec, ContentId},
    limits::{DEPENDENCIES_MAX, LOCK_BYTES_MAX, TOML_DEPTH_MAX},
    package::{
        PackageId,
        dependencies::{PACKAGES_MAX, Ranges},
        gpack,
        name::parse_version,
        shorten, walk,
    },
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
        let reader = Reader { path, text };
        if let Some(line) = gpack::merge_mark(text) {
            return Err(Error::Merge { path: path.to_owned(), line });
        }
        gpack::check_depth(text, TOML_DEPTH_MAX)
            .map_err(|line| reader.wrong_line(line, "it is nested too deeply"))?;
        let Format { version } = toml::from_str(text).map_err(|error| reader.syntax(&error))?;
        if version != FORMAT {
            return Err(Error::Newer { path: path.to_owned(), found: version, known: FORMAT });
        }
        let file: File = toml::from_str(text).map_err(|error| reader.syntax(&error))?;
        if file.package.len() > PACKAGES_MAX {
            return Err(whole(path, &format!("it names more than {PACKAGES_MAX} packages")));
        }
        let mut packages = BTreeMap::new();
        for row in file.package {
            let at = row.id.span();
            let (id, locked) = reader.row(row)?;
            if packages.insert(id, locked).is_some() {
                return Err(reader.wrong(at, "the package stands there twice"));
            }
        }
        Ok(Self { packages })
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

#[derive(Deserialize)]
struct Format {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: u64,
    #[serde(default)]
    package: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: Spanned<String>,
    version: Spanned<String>,
    cid: Spanned<String>,
    entry: Spanned<String>,
    sequence: u64,
    keys: Spanned<String>,
    manifest: Spanned<String>,
    size: u64,
    #[serde(default)]
    dependencies: Vec<Spanned<String>>,
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn wrong_line(&self, line: usize, why: &str) -> Error {
        Error::Lock { path: self.path.to_owned(), line, why: why.to_owned() }
    }

    fn wrong(&self, at: std::ops::Range<usize>, why: &str) -> Error {
        let before = self.text.as_bytes().iter().take(at.start);
        self.wrong_line(1 + before.filter(|byte| **byte == b'\n').count(), why)
    }

    fn syntax(&self, error: &toml::de::Error) -> Error {
        let at = error.span().unwrap_or_default();
        self.wrong(at, &shorten(&error.message().replace('\n', "; ")))
    }

    fn row(&self, row: Row) -> Result<(PackageId, Locked), Error> {
        if row.dependencies.len() > DEPENDENCIES_MAX {
            let why = format!("it needs more than {DEPENDENCIES_MAX} packages");
            return Err(self.wrong(row.id.span(), &why));
        }
        let mut dependencies = Ranges::new();
        for line in &row.dependencies {
            let (id, range) = self.dependency(line)?;
            if dependencies.insert(id, range).is_some() {
                return Err(self.wrong(line.span(), "it needs the same package twice"));
            }
        }
        let not_a_version =
            |error: crate::package::name::Error| self.wrong(row.version.span(), &error.to_string());
        let locked = Locked {
            version: parse_version(row.version.get_ref()).map_err(not_a_version)?,
            root: self.content_id(&row.cid, |codec| codec == Codec::DagPb)?,
            entry: self.content_id(&row.entry, |codec| codec == Codec::DagCbor)?,
            sequence: row.sequence,
            keys: self.content_id(&row.keys, |codec| codec == Codec::DagCbor)?,
            manifest: self.content_id(&row.manifest, |codec| codec != Codec::DagCbor)?,
            size: row.size,
            dependencies,
        };
        Ok((self.package_id(&row.id, row.id.get_ref())?, locked))
    }

    fn package_id(&self, place: &Spanned<String>, text: &str) -> Result<PackageId, Error> {
        text.parse().map_err(|_| {
            self.wrong(place.span(), &format!("\"{}\" is not <publisher>/<name>", shorten(text)))
        })
    }

    fn content_id(&self, text: &Spanned<String>, fits: fn(Codec) -> bool) -> Result<ContentId, Error> {
        let id = text.get_ref().parse::<ContentId>().ok().filter(|id| fits(id.codec()));
        id.ok_or_else(|| {
            let why = format!("\"{}\" is not the id of what belongs there", shorten(text.get_ref()));
            self.wrong(text.span(), &why)
        })
    }

    fn dependency(&self, line: &Spanned<String>) -> Result<(PackageId, VersionReq), Error> {
        let text = line.get_ref();
        let wrong = || {
            let why = format!("\"{}\" is not \"<publisher>/<name> <range>\"", shorten(text));
            self.wrong(line.span(), &why)
        };
        let (id, range) = text.split_once(' ').ok_or_else(wrong)?;
        let range = range.parse().map_err(|_| wrong())?;
        Ok((self.package_id(line, id)?, range))
    }
}

fn whole(path: &Path, why: &str) -> Error {
    Error::Lock { path: path.to_owned(), line: 0, why: why.to_owned() }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
