//! The description of a package: `gpack.toml`.
//!
//! All problems of a file are reported at once, each with its line and key. The keys stand at the top level or under
//! `[package]`. Nothing here looks at any other file.

mod depth;
pub(super) mod field;
mod parse;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use semver::{Version, VersionReq};

pub(crate) use parse::{folder, requirement as range};
pub use parse::{parse, project};

use super::{PackageId, PackageName, io_code};
use crate::{code::Code, limits::GPACK_BYTES_MAX};

/// The name of the file.
pub const FILE_NAME: &str = "gpack.toml";

/// How git marks two sides that it could not merge.
const MERGE_MARKS: [&str; 4] = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];

/// The line, from 1, that says that git could not merge two sides.
pub(crate) fn merge_mark(text: &str) -> Option<usize> {
    let is_mark = |line: &str| MERGE_MARKS.iter().any(|mark| line.starts_with(mark));
    text.lines().position(is_mark).map(|at| at + 1)
}

/// A smallest `gpack.toml`, to start from.
pub const MINIMAL: &str =
    "name = \"my-package\"\nversion = \"0.1.0\"\ndescription = \"What it does, in one sentence\"\n";

/// Writes a `gpack.toml` to fill in into `directory`, named after `folder` where that can be a package's name, and yields its
/// path. Its description is empty, so that it is not published as it stands.
///
/// # Errors
/// [`Error::Exists`] where anything has the name already, and what keeps the file from being written.
pub fn write_sample(directory: &Path, folder: &str) -> Result<PathBuf, Error> {
    let path = directory.join(FILE_NAME);
    let name = folder.to_ascii_lowercase().replace([' ', '.'], "-");
    let name = name.parse::<PackageName>().map_or_else(|_| "my-package".to_owned(), String::from);
    let text = format!(
        "name = \"{name}\"\nversion = \"0.1.0\"\n# What it does, in one sentence. Required.\ndescription = \"\"\n\n\
         # license = \"MIT OR Apache-2.0\"\n# tags = [\"web\", \"http\"]\n# categories = [\"tools\"]\n\
         # authors = [\"Ada <ada@example.org>\"]\n# repository = \"https://example.org/{name}\"\n"
    );
    let written = File::options().write(true).create_new(true).open(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(path),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists { path }),
        Err(source) => Err(Error::Write { path, source }),
    }
}

/// What a `gpack.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpack {
    /// The package's name.
    pub name: PackageName,
    /// The version to publish.
    pub version: Version,
    /// One or a few sentences.
    pub description: String,
    /// The licence, as an SPDX expression.
    pub license: Option<String>,
    /// Words to find it by, in the order given.
    pub tags: Vec<String>,
    /// Categories that it belongs to, in the order given.
    pub categories: Vec<String>,
    /// Who made it.
    pub authors: Vec<String>,
    /// Where its source is developed.
    pub repository: Option<String>,
    /// Packages that it needs.
    pub dependencies: BTreeMap<PackageId, VersionReq>,
}

/// What a `gpack.toml` says of the directory that it stands in, as the project that packages are installed into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name, where it has one: a project need not be published.
    pub name: Option<PackageName>,
    /// Packages that it needs.
    pub dependencies: BTreeMap<PackageId, VersionReq>,
    /// Short names of packages, which their folders have too.
    pub aliases: BTreeMap<PackageName, PackageId>,
    /// The folder that packages are installed into, below the directory.
    pub folder: PathBuf,
    /// Keys that are not known, one full sentence each.
    pub warnings: Vec<String>,
}

/// What this program keeps in the directory of a project: packages go into none of these.
pub(crate) const OWN_NAMES: [&str; 3] = [FILE_NAME, "gpack.lock", ".gpack.journal"];

/// The folder that packages are installed into, where a project names no other.
pub const FOLDER: &str = "gpacks";

/// A description, and what a person might want to mend in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The description.
    pub gpack: Gpack,
    /// Full sentences.
    pub warnings: Vec<String>,
}

/// Reads the `gpack.toml` of a directory. A `version` that is given takes the place of the one in the file.
///
/// # Errors
/// [`Error`], with every problem of the file at once.
pub fn read(directory: &Path, version: Option<&Version>) -> Result<Parsed, Error> {
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Error::NotADirectory { path: directory.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoDirectory { path: directory.to_owned() });
        }
        Err(source) => return Err(Error::Io { path: directory.to_owned(), source }),
    }
    let path = directory.join(FILE_NAME);
    let bytes = match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => read_capped(&path),
        Ok(_) => return Err(Error::NotAFile { path }),
        Err(error) => Err(error),
    };
    match bytes {
        Ok(bytes) => parse(&path, &bytes, version),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Missing { directory: directory.to_owned() })
        }
        Err(source) => Err(Error::Io { path, source }),
    }
}

/// Reads one byte more than is allowed, at most.
pub(crate) fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    super::walk::open(path)?.take(GPACK_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One thing that is wrong with a `gpack.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; 0 where the problem is that something is not there.
    pub line: usize,
    /// The key, with its table; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong and what is expected.
    pub message: String,
    /// Whether a required key is missing or empty.
    pub missing: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a description was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has that path.
    #[error("there is no directory {}", path.display())]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// A file stands where a directory is expected.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory has no `gpack.toml`.
    #[error("missing gpack.toml in {}", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
    /// `gpack.toml` is there, where a new one was to be written.
    #[error("{} is there already, and is never overwritten", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// `gpack.toml` is a link or a folder.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file holds what git writes where it could not merge two of them.
    #[error("{} holds an unresolved merge conflict, line {line}", path.display())]
    Merge {
        /// The path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file was read and is wrong.
    #[error("{} is not valid{}", path.display(), list(problems))]
    Invalid {
        /// The path.
        path: PathBuf,
        /// Everything that is wrong, in the order of the file; what is missing comes first.
        problems: Vec<Problem>,
    },
    /// A new one cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn list(problems: &[Problem]) -> String {
    match problems {
        [only] => format!(": {only}"),
        many => many
            .iter()
            .fold(format!(", {} problems", many.len()), |text, problem| format!("{text}\n  {problem}")),
    }
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::NoDirectory { .. } | Self::NotADirectory { .. } => Code::Usage,
            Self::Missing { .. } => Code::Package,
            Self::Invalid { problems, .. } if problems.iter().any(|problem| problem.missing) => Code::Package,
            Self::NotAFile { .. } | Self::Merge { .. } | Self::Invalid { .. } => Code::PackageInvalid,
            Self::Exists { .. } => Code::Conflict,
            Self::Write { source, .. } => io_code(source),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Code::Io,
            Self::Io { source, .. } => io_code(source),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoDirectory { .. } => {
                "Check the path; publish takes the directory of a package.".to_owned()
            }
            Self::NotADirectory { .. } => "Name the directory that holds gpack.toml.".to_owned(),
            Self::Missing { directory } => {
                let path = directory.join(FILE_NAME);
                format!(
                    "Write one to fill in: ggen marketplace p2p publish {} --init-manifest\nOr create {} with at least:\n\n{MINIMAL}",
                    directory.display(),
                    path.display()
                )
            }
            Self::Exists { .. } => "Edit it, and publish the directory.".to_owned(),
            Self::Write { .. } => "Check that the directory can be written to.".to_owned(),
            Self::NotAFile { .. } => "Put the file itself there, not a link to it.".to_owned(),
            Self::Merge { .. } => "Merge the two sides by hand, then run the same command again.".to_owned(),
            Self::Invalid { problems, .. } if problems.iter().any(|problem| problem.missing) => {
                format!("These keys are required:\n\n{MINIMAL}")
            }
            Self::Invalid { .. } => {
                "Correct the lines named above, then run the same command again.".to_owned()
            }
            Self::Io { .. } => "Check that the file can be read.".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
