//! The signed list of a package's files.
//!
//! A [`Manifest`] that exists is sound: its payload was in the one canonical encoding, every field and path keeps its
//! rules, the sizes add up, and its content id was computed again from its files. Whether the files are those that a publisher
//! signed is what [`SignedManifest`] says.

mod signed;

use std::{collections::BTreeMap, io};

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

pub use signed::SignedManifest;

use super::{
    Gpack, PackageId, PackageName, PackagePath,
    gpack::field,
    name::parse_version,
    pack::Packed,
    path,
    unixfs::{self, FilePart, FileRoot},
};
use crate::{
    code::Code,
    content::{Codec, ContentId},
    identity::{
        self, PublisherId,
        canonical::{
            self,
            parts::{self, Kind},
        },
    },
    limits::{FILE_BYTES_MAX, FILES_MAX, MANIFEST_BYTES_MAX, PACKAGE_BYTES_MAX},
};

/// What messages call it.
const WHAT: &str = "a manifest";
/// The version of the format.
const VERSION: u64 = 1;

/// Whether the checks before publishing were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preflight {
    /// They were, and found no error.
    Passed,
    /// They were left out on request.
    Skipped,
    /// They were made, and files were published all the same that look as if they held secrets.
    SecretsAllowed,
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path inside the package.
    pub path: PackagePath,
    /// Whether it may be executed: mode 755 rather than 644.
    pub executable: bool,
    /// Bytes.
    pub size: u64,
    /// The content id of its bytes.
    pub id: ContentId,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// What a release of a package consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    publisher: PublisherId,
    gpack: Gpack,
    preflight: Preflight,
    root: ContentId,
    size: u64,
    files: Vec<FileEntry>,
}

impl Manifest {
    /// Joins a description with the files that were packed.
    ///
    /// # Errors
    /// [`Error`] for the first rule that is broken.
    pub fn new(
        publisher: PublisherId,
        gpack: Gpack,
        preflight: Preflight,
        packed: Packed,
    ) -> Result<Self, Error> {
        let entry = |file: super::pack::PackedFile| FileEntry {
            path: file.path,
            executable: file.executable,
            size: file.root.size,
            id: file.root.id,
            sha256: file.sha256,
        };
        let files = packed.files.into_iter().map(entry).collect();
        let manifest = Self { publisher, gpack, preflight, root: packed.root, size: packed.size, files };
        manifest.check()?;
        Ok(manifest)
    }

    /// The package.
    pub fn id(&self) -> PackageId {
        PackageId { publisher: self.publisher, name: self.gpack.name.clone() }
    }

    /// Who publishes it.
    pub fn publisher(&self) -> PublisherId {
        self.publisher
    }

    /// What its `gpack.toml` said when it was published, with the version that it was published under.
    pub fn gpack(&self) -> &Gpack {
        &self.gpack
    }

    /// Whether the checks before publishing were made.
    pub fn preflight(&self) -> Preflight {
        self.preflight
    }

    /// The same with another word on the checks.
    #[must_use]
    pub fn with_preflight(self, preflight: Preflight) -> Self {
        Self { preflight, ..self }
    }

    /// The content id of the tree.
    pub fn root(&self) -> ContentId {
        self.root
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The blocks of the tree's directories, which follow from the list of files; the root is the last.
    pub fn directories(&self) -> Vec<crate::content::Block> {
        unixfs::tree(self.graphs()).expect("checked when it was made").blocks
    }

    fn graphs(&self) -> impl Iterator<Item = (&PackagePath, FileRoot)> {
        self.files.iter().map(|file| (&file.path, file.graph()))
    }

    fn check(&self) -> Result<(), Error> {
        check_gpack(&self.gpack)?;
        if self.gpack.dependencies.contains_key(&self.id()) {
            return Err(Error::Field { field: "dependencies", why: "it depends on itself".to_owned() });
        }
        path::check_list(self.files.iter().map(|file| &file.path))?;
        for file in &self.files {
            file.check()?;
        }
        // Cannot overflow: there are few files of a limited size.
        let sum = self.files.iter().map(|file| file.size).sum::<u64>();
        if sum != self.size {
            return Err(Error::Size { stated: self.size, sum });
        }
        if sum > PACKAGE_BYTES_MAX {
            return Err(Error::TooLarge { what: "the package".to_owned(), max: PACKAGE_BYTES_MAX });
        }
        let computed = unixfs::tree_root(self.graphs())?;
        if computed != self.root {
            return Err(Error::Root { stated: Box::new(self.root), computed: Box::new(computed) });
        }
        Ok(())
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where there are more than [`MANIFEST_BYTES_MAX`].
    pub fn payload(&self) -> Result<Vec<u8>, Error> {
        let bytes = parts::all(|out| self.write(out));
        check_len(&bytes)?;
        Ok(bytes)
    }

    /// Writes the bytes that are signed. They may be many, and are not held.
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let gpack = &self.gpack;
        let dependencies: BTreeMap<String, String> = gpack
            .dependencies
            .iter()
            .map(|(id, requirement)| (id.to_string(), requirement.to_string()))
            .collect();
        parts::head(out, Kind::Map, 15)?;
        parts::field(out, "name", &gpack.name)?;
        parts::field(out, "root", &self.root)?;
        parts::field(out, "size", &self.size)?;
        parts::field(out, "tags", &gpack.tags)?;
        parts::text(out, "files")?;
        parts::head(out, Kind::List, self.files.len() as u64)?;
        self.files.iter().try_for_each(|file| file.write(out))?;
        parts::field(out, "authors", &gpack.authors)?;
        parts::field(out, "license", &gpack.license)?;
        parts::field(out, "release", &gpack.version.to_string())?;
        parts::field(out, "version", &VERSION)?;
        parts::field(out, "preflight", &self.preflight)?;
        parts::field(out, "publisher", &self.publisher)?;
        parts::field(out, "categories", &gpack.categories)?;
        parts::field(out, "repository", &gpack.repository)?;
        parts::field(out, "description", &gpack.description)?;
        parts::field(out, "dependencies", &dependencies)
    }

    /// Parses bytes that were signed.
    ///
    /// # Errors
    /// [`Error`] for the first rule that is broken.
    pub fn from_payload(bytes: &[u8]) -> Result<Self, Error> {
        check_len(bytes)?;
        canonical::check_version(WHAT, bytes, VERSION)?;
        let wire: Wire = canonical::decode_open(WHAT, bytes)?;
        let manifest = Self::try_from(wire)?;
        manifest.check()?;
        // One manifest has one encoding: otherwise one release could have many ids.
        if !canonical::are_written(bytes, |out| manifest.write(out)) {
            return Err(identity::Error::malformed(WHAT, "it is not in its canonical encoding").into());
        }
        Ok(manifest)
    }
}

fn check_len(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(Error::TooLarge { what: "the manifest".to_owned(), max: MANIFEST_BYTES_MAX as u64 });
    }
    Ok(())
}

fn check_gpack(gpack: &Gpack) -> Result<(), Error> {
    let refuse = |field| move |why| Error::Field { field, why };
    parse_version(&gpack.version.to_string())
        .map_err(|error| Error::Field { field: "version", why: error.to_string() })?;
    field::description(&gpack.description).map_err(refuse("description"))?;
    gpack.license.iter().try_for_each(|text| field::short(text)).map_err(refuse("license"))?;
    gpack.repository.iter().try_for_each(|text| field::short(text)).map_err(refuse("repository"))?;
    for (name, list) in [("tags", &gpack.tags), ("categories", &gpack.categories)] {
        field::label_count(list.len()).map_err(refuse(name))?;
        list.iter().try_for_each(|text| field::label(text)).map_err(refuse(name))?;
    }
    field::author_count(gpack.authors.len()).map_err(refuse("authors"))?;
    gpack.authors.iter().try_for_each(|text| field::short(text)).map_err(refuse("authors"))?;
    field::dependency_count(gpack.dependencies.len()).map_err(refuse("dependencies"))?;
    let requirements = gpack.dependencies.values();
    requirements
        .map(ToString::to_string)
        .try_for_each(|text| field::requirement(&text))
        .map_err(refuse("dependencies"))
}

impl FileEntry {
    /// The file's graph: all of it follows from its id and size.
    pub fn graph(&self) -> FileRoot {
        FileRoot { id: self.id, size: self.size, tsize: unixfs::file_tsize(self.size) }
    }

    /// Where reading the file's blocks begins.
    pub fn whole(&self) -> FilePart {
        FilePart::whole(self.id, self.size).expect("checked when the manifest was made")
    }

    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        parts::head(out, Kind::Map, 5)?;
        parts::field(out, "cid", &self.id)?;
        parts::text(out, "path")?;
        parts::text(out, self.path.as_str())?;
        parts::text(out, "size")?;
        parts::head(out, Kind::Unsigned, self.size)?;
        parts::text(out, "sha256")?;
        parts::bytes(out, &self.sha256)?;
        parts::field(out, "executable", &self.executable)
    }

    fn check(&self) -> Result<(), Error> {
        let path = || self.path.to_string();
        if self.size > FILE_BYTES_MAX {
            return Err(Error::TooLarge { what: path(), max: FILE_BYTES_MAX });
        }
        if FilePart::whole(self.id, self.size).is_err() {
            return Err(Error::File { path: path(), why: "its id is not of a file of its size" });
        }
        if self.id.codec() == Codec::Raw && self.id.digest() != self.sha256 {
            return Err(Error::File { path: path(), why: "its id and its SHA-256 are of different bytes" });
        }
        Ok(())
    }
}

/// The form that is signed, as it is read; [`Manifest::write`] writes it.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct Wire {
    /// Checked before the rest is read.
    #[serde(rename = "version")]
    _version: u64,
    publisher: PublisherId,
    name: PackageName,
    release: String,
    description: String,
    license: Option<String>,
    tags: Vec<String>,
    categories: Vec<String>,
    authors: Vec<String>,
    repository: Option<String>,
    /// Full id to version requirement.
    dependencies: BTreeMap<String, String>,
    preflight: Preflight,
    root: ContentId,
    size: u64,
    #[serde(deserialize_with = "wire_files")]
    files: Vec<WireFile>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct WireFile {
    /// Checked later, so that a path that is not allowed is told from bytes that are no manifest.
    path: String,
    executable: bool,
    size: u64,
    cid: ContentId,
    sha256: ByteArray<32>,
}

/// Stops at the limit, before memory does.
fn wire_files<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<WireFile>, D::Error> {
    struct Files;

    impl<'de> serde::de::Visitor<'de> for Files {
        type Value = Vec<WireFile>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "at most {FILES_MAX} files")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = list.next_element()? {
                if files.len() == FILES_MAX {
                    return Err(serde::de::Error::invalid_length(FILES_MAX + 1, &self));
                }
                files.push(file);
            }
            files.shrink_to_fit();
            Ok(files)
        }
    }

    deserializer.deserialize_seq(Files)
}

impl TryFrom<Wire> for Manifest {
    type Error = Error;

    fn try_from(wire: Wire) -> Result<Self, Error> {
        let file = |file: WireFile| {
            let path = file.path.try_into()?;
            let sha256 = file.sha256.into_array();
            Ok(FileEntry { path, executable: file.executable, size: file.size, id: file.cid, sha256 })
        };
        let gpack = Gpack {
            name: wire.name,
            version: version(&wire.release)?,
            description: wire.description,
            license: wire.license,
            tags: wire.tags,
            categories: wire.categories,
            authors: wire.authors,
            repository: wire.repository,
            dependencies: dependencies(&wire.dependencies)?,
        };
        Ok(Self {
            publisher: wire.publisher,
            gpack,
            preflight: wire.preflight,
            root: wire.root,
            size: wire.size,
            files: wire.files.into_iter().map(file).collect::<Result<_, path::Error>>()?,
        })
    }
}

fn version(text: &str) -> Result<Version, Error> {
    parse_version(text).map_err(|error| Error::Field { field: "release", why: error.to_string() })
}

fn dependencies(wire: &BTreeMap<String, String>) -> Result<BTreeMap<PackageId, VersionReq>, Error> {
    let refuse = |why| Error::Field { field: "dependencies", why };
    field::dependency_count(wire.len()).map_err(refuse)?;
    let mut dependencies = BTreeMap::new();
    for (id, requirement) in wire {
        field::requirement(requirement).map_err(refuse)?;
        let id: PackageId = id.parse().map_err(|error: super::name::Error| refuse(error.to_string()))?;
        let requirement = requirement.parse().map_err(|error: semver::Error| refuse(error.to_string()))?;
        dependencies.insert(id, requirement);
    }
    Ok(dependencies)
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are no manifest, are not in the one encoding that it has, or are not signed as they must be.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The manifest names another publisher than the one whose key signs it.
    #[error("the manifest is of publisher {stated}, but signed by {signer}")]
    Publisher {
        /// The publisher that it says.
        stated: PublisherId,
        /// The one that signs.
        signer: PublisherId,
    },
    /// A field breaks its rules.
    #[error("the manifest's {field} is not valid: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// A path is not allowed, or the paths cannot stand together.
    #[error(transparent)]
    Path(#[from] path::Error),
    /// The fields of a file contradict each other.
    #[error("the manifest's entry for {path} is not valid: {why}")]
    File {
        /// The path.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Something has too many bytes.
    #[error("{what} is too large: at most {max} bytes are allowed")]
    TooLarge {
        /// What.
        what: String,
        /// Bytes allowed.
        max: u64,
    },
    /// The sizes of the files do not add up.
    #[error("the manifest says that the package has {stated} bytes, but its files have {sum}")]
    Size {
        /// Bytes that it says.
        stated: u64,
        /// Bytes of the files.
        sum: u64,
    },
    /// The files are not those of the content id.
    #[error("the manifest names the tree {stated}, but its files make the tree {computed}")]
    Root {
        /// The id that it says.
        stated: Box<ContentId>,
        /// The id of the files.
        computed: Box<ContentId>,
    },
    /// The directories cannot be built.
    #[error(transparent)]
    Graph(#[from] unixfs::Error),
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Identity(error) => error.code(),
            Self::Publisher { .. } => Code::Signature,
            Self::Field { .. } | Self::File { .. } => Code::Malformed,
            Self::Path(error) => error.code(),
            Self::TooLarge { .. } => Code::Limit,
            Self::Size { .. } => Code::Size,
            Self::Root { .. } => Code::HashMismatch,
            Self::Graph(error) => error.code(),
        }
    }

    /// What to do next; empty where there is nothing but to ask another peer.
    pub fn hint(&self) -> String {
        match self {
            Self::Identity(error) => error.hint(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
