//! Why a project cannot be used as it stands.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    code::Code,
    package::{gpack, io_code},
};

/// Why something was not done with a project; its folders and files are as they were before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory has no `gpack.toml`.
    #[error("{} is no project: it has no gpack.toml", directory.display())]
    NoProject {
        /// The directory.
        directory: PathBuf,
    },
    /// `gpack.toml` cannot be read, or is wrong.
    #[error(transparent)]
    Gpack(#[from] gpack::Error),
    /// `gpack.toml` cannot be changed the way it was written.
    #[error("{} cannot be changed: {why}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The lock file is wrong.
    #[error("{} is not a lock file{}: {why}", path.display(), at(*line))]
    Lock {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 where the file as a whole is meant.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The lock file holds what git writes where it could not merge two of them.
    #[error("{} holds an unresolved merge conflict, line {line}", path.display())]
    Merge {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The lock file, or a note beside the packages, was written by a later program.
    #[error("{} has the format {found}; this ggen reads format {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of the format that it has.
        found: u64,
        /// The version that is read.
        known: u64,
    },
    /// There is no lock file, where one is demanded.
    #[error("{} is not there", path.display())]
    NoLock {
        /// The file.
        path: PathBuf,
    },
    /// Another command works on the project.
    #[error("another command installs into {} at this moment", directory.display())]
    Busy {
        /// The project.
        directory: PathBuf,
    },
    /// The folder for packages cannot be used.
    #[error("{} cannot hold the packages: {why}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A file of the project was changed by somebody else in the meantime.
    #[error("{} was changed while the command worked; nothing was changed by it", path.display())]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// A journal without the seal of this state folder: another one wrote it, or the project brought it along.
    #[error("{} names a change of this project that your state folder did not begin; nothing was changed", path.display())]
    Foreign {
        /// The folder of the journal.
        path: PathBuf,
    },
    /// Something beside the packages is not what this program wrote there.
    #[error("{} is not what ggen wrote there: {why}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Reading or writing failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Names a line, unless the file as a whole is meant.
fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

impl Error {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::NoProject { .. } => Code::Package,
            Self::Gpack(error) => error.code(),
            Self::Edit { .. } | Self::Folder { .. } => Code::PackageInvalid,
            Self::Lock { .. } | Self::Merge { .. } | Self::Newer { .. } | Self::Note { .. } => Code::Config,
            Self::NoLock { .. } | Self::Busy { .. } | Self::Moved { .. } | Self::Foreign { .. } => {
                Code::Conflict
            }
            Self::Io { source, .. } => io_code(source),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoProject { .. } => {
                "Go to the directory of a project, or make one: an empty gpack.toml is enough.".to_owned()
            }
            Self::Gpack(error) => error.hint(),
            Self::Edit { .. } => "Write the dependencies as a table of their own: [dependencies]".to_owned(),
            Self::Lock { .. } => {
                "Take it from version control again, or delete it and run: ggen marketplace p2p install".to_owned()
            }
            Self::Merge { .. } => "Keep either side of it, whichever; gpack.toml with both. Then run: ggen marketplace p2p install".to_owned(),
            Self::Newer { .. } => "Install the ggen that your colleagues use, or a later one.".to_owned(),
            Self::NoLock { .. } => {
                "Write it, and keep it in version control: ggen marketplace p2p install".to_owned()
            }
            Self::Busy { .. } => "Wait for it to end, and run the same command again.".to_owned(),
            Self::Folder { .. } => {
                "Make it a folder of the project; a file system of its own can be mounted there.".to_owned()
            }
            Self::Moved { .. } => "Run the same command again.".to_owned(),
            Self::Foreign { path } => format!(
                "If another node of yours began it, run the same command with the state folder of that node (GGEN_HOME). Otherwise it came \
                 with the project: delete it, and run the same command again: rm -r {}",
                path.display()
            ),
            Self::Note { .. } => "Move the folder that it stands in away, and run the same command again.".to_owned(),
            Self::Io { source, .. } => match io_code(source) {
                Code::DiskFull => "Free some space and run the same command again.".to_owned(),
                Code::ReadOnly => "Check who may write there, and run the same command again.".to_owned(),
                _ => "Run the same command again.".to_owned(),
            },
        }
    }
}
