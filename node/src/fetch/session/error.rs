//! Why a retrieval failed.

use super::super::wanted::Contradiction;
use crate::{code::Code, store};

/// Why a retrieval ended without everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody provides the content.
    #[error("nobody reachable provides it")]
    NoProviders,
    /// The providers lack some blocks.
    #[error("none of the providers that were reached ({peers}) holds what is missing (blocks: {missing})")]
    Missing {
        /// Blocks that nobody had.
        missing: usize,
        /// Providers that were asked.
        peers: usize,
    },
    /// The providers went away, and did not come back.
    #[error("the providers that were reached ({peers}) do not answer any more (blocks missing: {missing})")]
    Lost {
        /// Blocks that are missing.
        missing: usize,
        /// Providers that are gone.
        peers: usize,
    },
    /// Every provider sent wrong bytes.
    #[error("the bytes that came do not match their hashes, and no honest provider was reached")]
    Forged,
    /// What was signed contradicts itself; whoever sent the blocks sent the right ones.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// The verified blocks were not written.
    #[error("verified blocks were not written")]
    Store(#[from] store::Error),
    /// Work on the store did not end.
    #[error("internal error: work on the store did not end")]
    Unfinished,
    /// The time ran out.
    #[error("the time ran out; blocks still missing: {missing}")]
    Timeout {
        /// Blocks still wanted.
        missing: usize,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::NoProviders | Self::Missing { .. } | Self::Lost { .. } => Code::NoProviders,
            Self::Forged => Code::HashMismatch,
            Self::Contradiction(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Timeout { .. } => Code::Timeout,
            Self::Unfinished => Code::Failed,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoProviders | Self::Missing { .. } | Self::Lost { .. } => {
                "Try again when more peers are connected: ggen marketplace p2p peer-list. What was fetched is kept.".to_owned()
            }
            Self::Forged => "Nothing was installed. The peers that sent them are refused from now on; try again to use others.".to_owned(),
            Self::Contradiction(_) => "Nothing was installed. Its publisher has to release a corrected version.".to_owned(),
            Self::Store(error) => error.hint(),
            Self::Timeout { .. } => "Try again, or give more time with --timeout. What was fetched is kept.".to_owned(),
            Self::Unfinished => "Look at the node's log: ggen marketplace p2p logs".to_owned(),
        }
    }
}
