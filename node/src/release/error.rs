//! Why an entry, a log or a head was refused.

use super::{Release, Sequence};
use crate::{code::Code, identity, identity::PublisherId, time::Timestamp};

/// Why an entry, a log or a head was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key or a signature was refused, or the signed form itself.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// More than a limit allows.
    #[error("{what} has a size of {found}, more than the {max} allowed")]
    Limit {
        /// The field.
        what: &'static str,
        /// Its size.
        found: u64,
        /// The size it may have.
        max: u64,
    },
    /// A structure breaks its own rules.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The structure or field.
        what: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// Signed by one publisher, and said to be by another.
    #[error("{what} says that it is by {claimed}, but the keys in it are those of {actual}")]
    Publisher {
        /// The structure.
        what: &'static str,
        /// Whom it names.
        claimed: PublisherId,
        /// Whose keys signed.
        actual: PublisherId,
    },
    /// The keys may not sign for a package of this name.
    #[error("the keys of its publisher may not sign for a package named {name}")]
    Scope {
        /// The package.
        name: String,
    },
    /// A valid head under a DHT key that is not its own.
    #[error("the head does not belong under the key that it was found at")]
    Key,
    /// Made too far ahead of the clock.
    #[error("the head is from {released_at}, which is more than ten minutes ahead; it is {now} now")]
    Future {
        /// When it says that its newest entry was made.
        released_at: Timestamp,
        /// The time now.
        now: Timestamp,
    },
    /// A confirmation from too far ahead of the clock.
    #[error("the confirmation is from {as_of}, which is more than ten minutes ahead; it is {now} now")]
    Early {
        /// When it says that it was made.
        as_of: Timestamp,
        /// The time now.
        now: Timestamp,
    },
    /// An entry does not follow from the one before it.
    #[error("entry {sequence} does not continue the log: {why}")]
    Log {
        /// Its sequence.
        sequence: Sequence,
        /// What is wrong.
        why: &'static str,
    },
    /// A version was released before.
    #[error("version {} was released before, and a version is used only once", released.version)]
    VersionReused {
        /// What it was released as; the same content again is no conflict to its publisher.
        released: Box<Release>,
    },
    /// An entry that the state of the log does not allow.
    #[error("{why}")]
    Refused {
        /// The reason, as a full sentence without its full stop.
        why: String,
    },
    /// The log and the head are not of one another.
    #[error("the log does not match the head: {why}")]
    Anchor {
        /// What differs.
        why: &'static str,
    },
    /// Older than what was seen.
    #[error("{what} {found} is older than {seen}, which was seen before")]
    Rollback {
        /// What is counted: `key document` or `sequence`.
        what: &'static str,
        /// The number offered.
        found: u64,
        /// The number seen.
        seen: u64,
    },
    /// Signed with a key that its publisher revoked, and not signed again since.
    #[error("it was signed with a key that its publisher revoked on {since}, and was not signed again since")]
    Revoked {
        /// When it was revoked, as the publisher says.
        since: Timestamp,
    },
    /// Two different signed states claim the same place.
    #[error("its publisher signed two different states: {what} {number} is not the one seen before")]
    Equivocation {
        /// What there are two of: `key document`, `log`, `entry`, `latest release` or `list of what was resolved or yanked`.
        what: &'static str,
        /// Its number.
        number: u64,
    },
}

impl Error {
    pub(super) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }

    /// Whether it was made by a later version of this program, and may be sound.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Identity(identity::Error::Newer { .. }))
    }

    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Identity(error) => error.code(),
            Self::Limit { .. } => Code::Limit,
            Self::Malformed { .. } | Self::Log { .. } => Code::Malformed,
            Self::Publisher { .. } | Self::Scope { .. } => Code::Signature,
            Self::Key | Self::Anchor { .. } => Code::HashMismatch,
            Self::Future { .. } | Self::Early { .. } => Code::Clock,
            Self::VersionReused { .. } | Self::Refused { .. } => Code::Conflict,
            Self::Rollback { .. } => Code::Rollback,
            Self::Revoked { .. } => Code::Signature,
            Self::Equivocation { .. } => Code::Equivocation,
        }
    }

    /// What a person can do about it; empty where there is nothing but to ask another peer.
    pub fn hint(&self) -> String {
        match self {
            Self::Identity(error) => error.hint(),
            Self::Limit { what: "a head", .. } => {
                "shorten the description, or use fewer tags and categories".to_owned()
            }
            Self::Future { .. } | Self::Early { .. } => {
                "check this machine's clock; where it is right, its publisher's was wrong, and it is taken when the time has come"
                    .to_owned()
            }
            Self::VersionReused { released } => {
                format!(
                    "publish under a version after {}; a released version cannot be changed",
                    released.version
                )
            }
            Self::Revoked { .. } => {
                "do not install it; if it is its publisher's, the publisher signs it again by publishing its next version".to_owned()
            }
            Self::Equivocation { .. } => {
                "do not install it; ask its publisher whether a key was stolen".to_owned()
            }
            _ => String::new(),
        }
    }
}
