//! Why a key, a signature or a chain of keys was refused.

use super::canonical::shorten;
use crate::code::Code;

/// Why a key, a signature or a chain of keys was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the text form of a publisher id.
    #[error("\"{text}\" is not a publisher id: {why}")]
    PublisherId {
        /// The text, shortened.
        text: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not a public key that may sign.
    #[error("not a usable Ed25519 public key: {why}")]
    PublicKey {
        /// The rule that it breaks.
        why: &'static str,
    },
    /// More than a limit allows.
    #[error("{what} has {found} {unit}, more than the {max} allowed")]
    Limit {
        /// The structure.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// What is counted.
        unit: &'static str,
        /// How many it may have.
        max: usize,
    },
    /// A structure breaks its own rules.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The structure.
        what: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// A structure of a later version than this program knows.
    #[error("{what} is of version {version}, and this program knows version {known}")]
    Newer {
        /// The structure.
        what: &'static str,
        /// Its version.
        version: u64,
        /// The version that is known.
        known: u64,
    },
    /// A signature is missing, wrong, or by the wrong key.
    #[error("{what} is not signed as it must be: {why}")]
    Signature {
        /// The structure.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// No further key document fits into the heads of a publisher.
    #[error("no further key document of this publisher fits into its heads; nothing was changed")]
    ChainFull {
        /// Whether it was to revoke a key.
        is_revocation: bool,
    },
    /// A key document does not follow from the one before it.
    #[error("key document {n} does not continue the chain: {why}")]
    Chain {
        /// Its place in the chain.
        n: usize,
        /// What is wrong.
        why: &'static str,
    },
}

impl Error {
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }

    pub(crate) fn signature(what: &'static str, why: impl Into<String>) -> Self {
        Self::Signature { what, why: why.into() }
    }

    pub(crate) fn publisher_id(text: &str, why: &'static str) -> Self {
        Self::PublisherId { text: shorten(text), why }
    }

    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::PublisherId { .. } => Code::Usage,
            Self::PublicKey { .. } | Self::Malformed { .. } | Self::Newer { .. } => Code::Malformed,
            Self::Limit { .. } | Self::ChainFull { .. } => Code::Limit,
            Self::Signature { .. } | Self::Chain { .. } => Code::Signature,
        }
    }

    /// What a person can do about it; empty where there is nothing but to ask another peer.
    pub fn hint(&self) -> String {
        match self {
            Self::PublisherId { .. } => {
                "a publisher id begins with gp1 and is 61 characters long; copy it whole".to_owned()
            }
            Self::ChainFull { is_revocation: false } => {
                "the key that you have goes on signing; what room is left is kept for revoking a stolen key: ggen marketplace p2p key \
                 revoke"
                    .to_owned()
            }
            Self::ChainFull { is_revocation: true } => {
                "the key cannot be revoked any more: publish under a new publisher, and say so in a deprecation of each package: ggen \
                 marketplace p2p deprecate <package> --message <text>"
                    .to_owned()
            }
            Self::Newer { .. } => "install a newer version of this program".to_owned(),
            _ => String::new(),
        }
    }
}
