//! What the peers did in a retrieval.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;

use crate::{content::ContentId, reputation::Attempt};

/// What one peer did in a retrieval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Verified blocks that came from it first.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether any block that came from it was verified, the first of its kind or not.
    pub delivered: bool,
    /// The worst way in which asking it ended, short of success.
    pub fault: Option<Attempt>,
    /// The first block in whose place it sent other bytes.
    pub forged: Option<ContentId>,
    /// Whether it said that it holds the content.
    pub claimed: bool,
    /// Time that its requests took, all together.
    pub spent: Duration,
}

impl Served {
    /// Notes how asking ended; the worst one stays.
    pub(super) fn fault(&mut self, attempt: Attempt) {
        let weight = |attempt| match attempt {
            Attempt::BadBlock => 4,
            Attempt::SizeViolation | Attempt::ProtocolViolation => 3,
            Attempt::Timeout => 2,
            _ => 1,
        };
        if self.fault.is_none_or(|held| weight(held) < weight(attempt)) {
            self.fault = Some(attempt);
        }
    }
}

/// What a retrieval came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What each peer did that was asked for something.
    pub peers: BTreeMap<PeerId, Served>,
    /// Verified bytes that came over the network.
    pub bytes: u64,
}
