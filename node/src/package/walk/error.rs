//! Why the files of a directory cannot be published.

use std::{fmt, io, path::PathBuf};

use super::OFFENDERS_MAX;
use crate::{
    code::Code,
    package::{io_code, path, preflight},
};

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

/// A line of an ignore file that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Why.
    pub why: String,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.line {
            0 => write!(f, "{path}: {}", self.why),
            line => write!(f, "{path}:{line}: {}", self.why),
        }
    }
}

/// Why a directory cannot be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Things in it cannot be published; all of them, up to a hundred.
    #[error("{} cannot be published:{}", count(offenders.len()), list(offenders))]
    Offenders {
        /// What, and why, by path.
        offenders: Vec<Offender>,
    },
    /// An ignore file of this program is not understood, so that what it leaves out would be published.
    #[error("an ignore file is not understood:{}", list(misread))]
    IgnoreFile {
        /// Where, and why.
        misread: Vec<Misread>,
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
    #[error("the file {path} changed while it was being read")]
    Changed {
        /// Its path inside the package.
        path: String,
    },
    /// A file holds a key of this program.
    #[error("the file {path} holds a secret key of this program, which is never published")]
    OwnKey {
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

fn list<T: fmt::Display>(offenders: &[T]) -> String {
    offenders.iter().fold(String::new(), |text, offender| format!("{text}\n  {offender}"))
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Offenders { .. } | Self::IgnoreFile { .. } | Self::Changed { .. } | Self::OwnKey { .. } => {
                Code::PackageInvalid
            }
            Self::Limit { .. } => Code::Limit,
            // They are our own files: what is wrong with them was not signed by anybody.
            Self::Path(error) => match error.code() {
                Code::Path => Code::PackageInvalid,
                other => other,
            },
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Code::Io,
            Self::Io { source, .. } => io_code(source),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Offenders { offenders } if offenders.len() == 1 => {
                "Remove or rename it, or leave it out with a line in .ggenignore.".to_owned()
            }
            Self::Offenders { .. } | Self::Path(_) => {
                "Remove or rename them, or leave them out with a line in .ggenignore.".to_owned()
            }
            Self::IgnoreFile { .. } => {
                "Write it again as UTF-8 text, one pattern a line. Nothing was published: what it leaves out would have been."
                    .to_owned()
            }
            Self::Limit { .. } => {
                "Leave out with .ggenignore what is not part of the package, or split it.".to_owned()
            }
            Self::Changed { .. } => "Publish again once nothing writes to the directory.".to_owned(),
            Self::OwnKey { .. } => preflight::FORBIDDEN_HINT.to_owned(),
            Self::Io { .. } => "Check that the file can be read.".to_owned(),
        }
    }
}
