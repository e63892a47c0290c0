//! Why the store refused, and what a person can do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi};

use crate::{code::Code, content::ContentId, limits::BLOCK_BYTES_MAX, package::PackageName};

/// What a lower layer said.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the store could not do what it was asked.
///
/// Nothing that was acknowledged before is lost by any of them. `folder` is empty until the store has filled it in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No space is left, or a quota or file size limit is reached.
    #[error("no space is left for {}", Shown(folder))]
    DiskFull {
        /// The state folder.
        folder: PathBuf,
        /// What the system said.
        source: Cause,
    },
    /// The folder or a file in it cannot be written.
    #[error("{} cannot be written", Shown(folder))]
    ReadOnly {
        /// The state folder.
        folder: PathBuf,
        /// What the system said.
        source: Cause,
    },
    /// The database is damaged; at the next start it is moved aside and rebuilt.
    #[error("the database in {} is damaged", Shown(folder))]
    Damaged {
        /// The state folder.
        folder: PathBuf,
        /// What was found.
        source: Cause,
    },
    /// The database was written by a newer version of this program, and was left as it is.
    #[error(
        "the database in {} has version {found}, and this program knows versions up to {known}",
        Shown(folder)
    )]
    TooNew {
        /// The state folder.
        folder: PathBuf,
        /// The version of the database.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The database was written by an older version of this program, and was left as it is.
    #[error("the database in {} has version {found}, and this program uses version {known}", Shown(folder))]
    TooOld {
        /// The state folder.
        folder: PathBuf,
        /// The version of the database.
        found: u32,
        /// The version that this program uses.
        known: u32,
    },
    /// Another process, or another part of this one, uses the folder.
    #[error("already running ({}, socket {})", Process(*pid), socket.display())]
    AlreadyRunning {
        /// The process that holds the lock, where it could be read.
        pid: Option<u32>,
        /// The state folder.
        folder: PathBuf,
        /// Where the running node listens for commands.
        socket: PathBuf,
    },
    /// Something else stands where the store keeps a file of its own.
    #[error("{} is {what}, and the store needs a plain file there", path.display())]
    NotAFile {
        /// The place.
        path: PathBuf,
        /// What stands there.
        what: &'static str,
    },
    /// Reading or writing failed.
    #[error("reading or writing {} failed", Shown(folder))]
    Io {
        /// The state folder.
        folder: PathBuf,
        /// What the system said.
        source: Cause,
    },
    /// The system could not say that data reached the disk, so nothing more is written until the next start.
    #[error("data could not be brought to the disk of {}, and nothing more is written", Shown(folder))]
    Stopped {
        /// The state folder.
        folder: PathBuf,
    },
    /// Another connection holds the database for too long.
    #[error("the database in {} is busy", Shown(folder))]
    Busy {
        /// The state folder.
        folder: PathBuf,
        /// What the database said.
        source: Cause,
    },
    /// A block is larger than any block may be.
    #[error("block {id} has {bytes} bytes, and a block has at most {BLOCK_BYTES_MAX}")]
    BlockTooLarge {
        /// The block.
        id: ContentId,
        /// Its bytes.
        bytes: usize,
    },
    /// A block that has to be here is not: one that was here when a batch began may be gone when it is committed.
    #[error("block {id} is needed and is not here: it was removed, or never came")]
    Vanished {
        /// The block.
        id: ContentId,
    },
    /// A record that is kept permanently exists already, with other content.
    #[error("{what} exists already with other content")]
    Conflict {
        /// The record: a version, or a log entry.
        what: String,
    },
    /// An older state than the one held was offered.
    #[error("{what} is held at sequence {held}, and {offered} is older")]
    Rollback {
        /// The record.
        what: String,
        /// The sequence held.
        held: u64,
        /// The sequence offered.
        offered: u64,
    },
    /// The name belongs to another publisher here.
    #[error("\"{name}\" is pinned to {pinned}, and not to {offered}")]
    PinMismatch {
        /// The bare name.
        name: PackageName,
        /// The publisher it is pinned to, in text.
        pinned: String,
        /// The publisher offered, in text.
        offered: String,
    },
    /// A record is over its size limit.
    #[error("{what} has {bytes} bytes, and at most {max} are kept")]
    TooLarge {
        /// The record.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A caller gave a transaction up for a reason of its own.
    #[error("{message}")]
    Refused {
        /// The caller's code.
        code: Code,
        /// The caller's message.
        message: String,
        /// The caller's hint.
        hint: String,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::DiskFull { .. } => Code::DiskFull,
            Self::ReadOnly { .. } => Code::ReadOnly,
            Self::Damaged { .. } => Code::StoreDamaged,
            Self::TooNew { .. } => Code::StoreTooNew,
            Self::TooOld { .. } => Code::StoreTooOld,
            Self::AlreadyRunning { .. } => Code::AlreadyRunning,
            Self::NotAFile { .. } | Self::Io { .. } | Self::Stopped { .. } => Code::Io,
            Self::Busy { .. } | Self::Vanished { .. } => Code::Busy,
            Self::BlockTooLarge { .. } | Self::TooLarge { .. } => Code::Limit,
            Self::Conflict { .. } => Code::Conflict,
            Self::Rollback { .. } => Code::Rollback,
            Self::PinMismatch { .. } => Code::PinMismatch,
            Self::Refused { code, .. } => *code,
        }
    }

    /// What to do next, in full sentences.
    pub fn hint(&self) -> String {
        match self {
            Self::DiskFull { folder, .. } => format!(
                "Make room on the disk of {0} (`df -h {0}` shows it), then try again. What was stored before is \
                 intact.",
                Shown(folder)
            ),
            Self::ReadOnly { folder, .. } => format!(
                "Make {0} writable for this user (`ls -ld {0}` shows its owner and mode, `mount` whether its disk \
                 is read-only), or set GGEN_HOME to another folder.",
                Shown(folder)
            ),
            Self::Damaged { folder, .. } => format!(
                "Restart the node: it keeps a copy in {} and rebuilds what can be rebuilt. If it happens again, \
                 check the disk.",
                Shown(&folder.join("quarantine"))
            ),
            Self::TooNew { folder, .. } => format!(
                "Use the newer program, or set GGEN_HOME to another folder than {}. Nothing in it was changed.",
                Shown(folder)
            ),
            Self::TooOld { folder, .. } => format!(
                "Use the program that wrote it, or set GGEN_HOME to another folder than {0}. Nothing in it was changed. To go on with \
                 its keys, copy {0}/keys into the new folder, and publish and install again.",
                Shown(folder)
            ),
            Self::AlreadyRunning { folder, .. } => format!(
                "Use the running node, stop it with `ggen marketplace p2p stop`, or set GGEN_HOME to another folder \
                 than {}.",
                Shown(folder)
            ),
            Self::NotAFile { path, .. } => {
                format!("Look at {0}, move it away, and start again.", path.display())
            }
            Self::Io { folder, .. } => format!(
                "Check that {0} exists, belongs to this user, and that its disk is healthy.",
                Shown(folder)
            ),
            Self::Stopped { folder } => {
                format!("Check the disk of {}, then restart the node.", Shown(folder))
            }
            Self::Busy { folder, .. } => {
                format!("Try again; if it stays so, see which program has {} open.", Shown(folder))
            }
            Self::Vanished { .. } => "Try again.".to_owned(),
            Self::Conflict { .. } => "A version number is used only once: choose another one.".to_owned(),
            Self::PinMismatch { name, pinned, offered } => format!(
                "Check with the author which one is right. To use the pinned one, write {pinned}/{name}; to accept the \
                 other one in its place: ggen marketplace p2p trust accept {offered}/{name}"
            ),
            Self::Rollback { .. } => {
                "Nothing was changed. The peer that offers the older state may be out of date.".to_owned()
            }
            Self::BlockTooLarge { .. } | Self::TooLarge { .. } => {
                "Nothing was stored: it breaks the limits of the format.".to_owned()
            }
            Self::Refused { hint, .. } => hint.clone(),
        }
    }

    /// Names the folder in an error that does not name one yet.
    pub(super) fn within(mut self, place: &Path) -> Self {
        match &mut self {
            Self::DiskFull { folder, .. }
            | Self::ReadOnly { folder, .. }
            | Self::Damaged { folder, .. }
            | Self::TooNew { folder, .. }
            | Self::TooOld { folder, .. }
            | Self::Io { folder, .. }
            | Self::Stopped { folder }
            | Self::Busy { folder, .. }
                if folder.as_os_str().is_empty() =>
            {
                place.clone_into(folder);
            }
            _ => {}
        }
        self
    }

    /// A row that breaks the rules under which it was written.
    pub(crate) fn damaged(why: impl Into<Cause>) -> Self {
        Self::Damaged { folder: PathBuf::new(), source: why.into() }
    }

    /// Whether the system could not say that data reached the disk.
    pub(super) fn is_failed_sync(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        match source.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(cause, _)) => {
                matches!(cause.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
            }
            _ => false,
        }
    }

    /// Whether the system refused bytes, as on a full disk: what was to be committed is then rolled back.
    pub(super) fn is_failed_write(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Io { source, .. } => match source.downcast_ref::<rusqlite::Error>() {
                Some(rusqlite::Error::SqliteFailure(cause, _)) => {
                    cause.extended_code == ffi::SQLITE_IOERR_WRITE
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the database did not understand a statement, or what its own schema says. Our statements are fixed, and fit the
    /// schema that we make: where that happens while opening, the schema is not the one that was written.
    pub(super) fn is_not_understood(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        match source.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(cause, _)) => cause.extended_code == ffi::SQLITE_ERROR,
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let folder = PathBuf::new();
        let code = match &error {
            rusqlite::Error::SqliteFailure(_, Some(why)) | rusqlite::Error::SqlInputError { msg: why, .. }
                if why.starts_with("no such column") || why.starts_with("no such table") =>
            {
                ErrorCode::DatabaseCorrupt
            }
            rusqlite::Error::SqliteFailure(cause, _) => cause.code,
            // A value of another type than it was written with.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            // A column or table that is not there: our statements are fixed, and fit the schema that we make.
            | rusqlite::Error::InvalidColumnName(..)
            | rusqlite::Error::InvalidColumnIndex(..) => ErrorCode::DatabaseCorrupt,
            _ => ErrorCode::Unknown,
        };
        let source = Box::new(error);
        match code {
            ErrorCode::DiskFull => Self::DiskFull { folder, source },
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::ReadOnly { folder, source },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged { folder, source },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { folder, source },
            _ => Self::Io { folder, source },
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let (folder, kind) = (PathBuf::new(), error.kind());
        let source = Box::new(error);
        match kind {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::DiskFull { folder, source },
            Kind::ReadOnlyFilesystem | Kind::PermissionDenied => Self::ReadOnly { folder, source },
            _ => Self::Io { folder, source },
        }
    }
}

/// A folder in a message.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_os_str().is_empty() { f.write_str("the store") } else { self.0.display().fmt(f) }
    }
}

/// A process in a message.
struct Process(Option<u32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "pid {pid}"),
            None => f.write_str("pid unknown"),
        }
    }
}
