//! The stable codes of every error: one table, read by the control socket, the command line and the metrics.
//!
//! A code never changes its name or its exit status; new ones may be added. Error enums of the other modules map each of
//! their variants to one code here and keep their own message.

use std::fmt;

/// What went wrong, in one stable word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// Something failed that has no code of its own.
    Failed,
    /// An argument is malformed or missing.
    Usage,
    /// No node runs on this state folder.
    NotRunning,
    /// Nothing is known under that name.
    NotFound,
    /// No peer could be reached, or none of them helped.
    Network,
    /// The time given ran out.
    Timeout,
    /// Nobody reachable holds the content.
    NoProviders,
    /// A signature is missing, wrong, or by the wrong key.
    Signature,
    /// Bytes do not match the hash that names them.
    HashMismatch,
    /// More or fewer bytes than the signed size.
    Size,
    /// A path inside a package is not allowed.
    Path,
    /// A structure breaks its own rules.
    Malformed,
    /// A count or size is over its limit.
    Limit,
    /// Nobody has confirmed for longer than was asked that it is the newest.
    Stale,
    /// An older state than the one already seen was offered.
    Rollback,
    /// Two different signed states claim the same place.
    Equivocation,
    /// The configuration, or a file that was named, is invalid.
    Config,
    /// A package description (`gpack.toml`) is missing, or lacks required fields.
    Package,
    /// A package description holds something invalid.
    PackageInvalid,
    /// A key file is missing, damaged, or readable by others.
    KeyFile,
    /// The listen address is taken.
    AddressInUse,
    /// The same version exists with other content, or the target exists.
    Conflict,
    /// A name has several publishers and none was named.
    Ambiguous,
    /// A name belongs to another publisher than the one pinned.
    PinMismatch,
    /// A node runs on this state folder already.
    AlreadyRunning,
    /// The result is not complete and completeness was demanded.
    Partial,
    /// The disk is full.
    DiskFull,
    /// The folder cannot be written.
    ReadOnly,
    /// Reading or writing failed.
    Io,
    /// The database is damaged.
    StoreDamaged,
    /// The database was written by a newer version.
    StoreTooNew,
    /// The database is of an older version of the program.
    StoreTooOld,
    /// A queue is full; later it may work.
    Busy,
    /// The system clock cannot be right.
    Clock,
    /// Another node runs with the node key of this one.
    NodeKey,
    /// The node, or the command, was told to stop.
    Interrupted,
}

impl Code {
    /// Every code, in order.
    pub const ALL: &'static [Self] = &[
        Self::Failed,
        Self::Usage,
        Self::NotRunning,
        Self::NotFound,
        Self::Network,
        Self::Timeout,
        Self::NoProviders,
        Self::Signature,
        Self::HashMismatch,
        Self::Size,
        Self::Path,
        Self::Malformed,
        Self::Limit,
        Self::Stale,
        Self::Rollback,
        Self::Equivocation,
        Self::Config,
        Self::Package,
        Self::PackageInvalid,
        Self::KeyFile,
        Self::AddressInUse,
        Self::Conflict,
        Self::Ambiguous,
        Self::PinMismatch,
        Self::AlreadyRunning,
        Self::Partial,
        Self::DiskFull,
        Self::ReadOnly,
        Self::Io,
        Self::StoreDamaged,
        Self::StoreTooNew,
        Self::StoreTooOld,
        Self::Busy,
        Self::Clock,
        Self::NodeKey,
        Self::Interrupted,
    ];

    /// The code as it stands in JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "E_FAILED",
            Self::Usage => "E_USAGE",
            Self::NotRunning => "E_NOT_RUNNING",
            Self::NotFound => "E_NOT_FOUND",
            Self::Network => "E_NETWORK",
            Self::Timeout => "E_TIMEOUT",
            Self::NoProviders => "E_NO_PROVIDERS",
            Self::Signature => "E_SIG",
            Self::HashMismatch => "E_HASH_MISMATCH",
            Self::Size => "E_SIZE",
            Self::Path => "E_PATH",
            Self::Malformed => "E_MALFORMED",
            Self::Limit => "E_LIMIT",
            Self::Stale => "E_STALE",
            Self::Rollback => "E_ROLLBACK",
            Self::Equivocation => "E_EQUIVOCATION",
            Self::Config => "E_CONFIG",
            Self::Package => "E_PACKAGE",
            Self::PackageInvalid => "E_PACKAGE_INVALID",
            Self::KeyFile => "E_KEY_FILE",
            Self::AddressInUse => "E_ADDRESS_IN_USE",
            Self::Conflict => "E_CONFLICT",
            Self::Ambiguous => "E_AMBIGUOUS",
            Self::PinMismatch => "E_PIN_MISMATCH",
            Self::AlreadyRunning => "E_ALREADY_RUNNING",
            Self::Partial => "E_PARTIAL",
            Self::DiskFull => "E_DISK_FULL",
            Self::ReadOnly => "E_READ_ONLY",
            Self::Io => "E_IO",
            Self::StoreDamaged => "E_STORE_DAMAGED",
            Self::StoreTooNew => "E_STORE_TOO_NEW",
            Self::StoreTooOld => "E_STORE_TOO_OLD",
            Self::Busy => "E_BUSY",
            Self::Clock => "E_CLOCK",
            Self::NodeKey => "E_NODE_KEY",
            Self::Interrupted => "E_INTERRUPTED",
        }
    }

    /// Finds a code by the word that [`Code::as_str`] gives.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }

    /// The exit status of a command that failed with this code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed
            | Self::DiskFull
            | Self::ReadOnly
            | Self::Io
            | Self::StoreDamaged
            | Self::StoreTooNew
            | Self::StoreTooOld
            | Self::Busy
            | Self::Clock
            | Self::NodeKey => 1,
            Self::Usage | Self::Package => 2,
            Self::NotRunning => 3,
            Self::NotFound => 4,
            Self::Network | Self::Timeout | Self::NoProviders => 5,
            Self::Signature
            | Self::HashMismatch
            | Self::Size
            | Self::Path
            | Self::Malformed
            | Self::Stale
            | Self::Rollback
            | Self::Equivocation => 6,
            Self::Config | Self::PackageInvalid | Self::KeyFile | Self::Limit => 7,
            Self::AddressInUse => 8,
            Self::Conflict | Self::Ambiguous | Self::PinMismatch | Self::AlreadyRunning => 9,
            Self::Partial => 10,
            Self::Interrupted => 130,
        }
    }

    /// Whether the same command may work a little later, with nothing changed.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Network | Self::Timeout | Self::NoProviders | Self::Busy | Self::Interrupted)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the database's own errors mean to a caller, the same in every module that keeps tables.
impl From<&rusqlite::Error> for Code {
    fn from(error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Database;
        match error.sqlite_error_code() {
            Some(Database::DiskFull) => Self::DiskFull,
            Some(Database::ReadOnly) => Self::ReadOnly,
            Some(Database::DatabaseCorrupt | Database::NotADatabase) => Self::StoreDamaged,
            Some(Database::DatabaseBusy | Database::DatabaseLocked) => Self::Busy,
            Some(Database::SystemIoFailure | Database::CannotOpen) => Self::Io,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_of_its_own() {
        for code in Code::ALL {
            assert_eq!(Code::from_word(code.as_str()), Some(*code));
            assert_ne!(code.exit_code(), 0, "nothing exits 0 on failure");
            assert_ne!(code.exit_code(), 101, "101 is a panic");
        }
    }
}
