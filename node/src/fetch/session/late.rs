//! What came of the requests that a retrieval did not wait for.

use std::collections::BTreeMap;

use libp2p::PeerId;
use tokio::time::Instant;

use super::super::{
    protocol::{Answer, Found},
    report::{Report, Served},
};
use crate::{content::ContentId, reputation::Attempt};

/// What came of the requests that were unanswered when a retrieval ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Late {
    /// Peers that claimed the content, brought nothing of it, and let their time run out, each with the moment at which it
    /// was asked. Whether they could have answered is for the caller to say.
    pub silent: BTreeMap<PeerId, Instant>,
    /// Peers that sent other bytes than those of the block they were asked for, each with the first such block.
    pub forged: BTreeMap<PeerId, ContentId>,
}

impl Late {
    pub(super) fn note(&mut self, peer: PeerId, want: &[ContentId], answer: &Answer, served: &mut Served) {
        for (id, found) in want.iter().zip(&answer.blocks) {
            match found {
                Found::Have(_) => served.delivered = true,
                // A peer is refused once for it; the retrieval itself saw to those that it knows of.
                Found::Forged if served.forged.is_none() => {
                    served.fault(Attempt::BadBlock);
                    served.forged = Some(*id);
                    self.forged.insert(peer, *id);
                }
                Found::Forged | Found::Missing | Found::Later => {}
            }
        }
    }

    /// Takes those out of the silent that brought something, if only too late to be of use, or that are charged already.
    pub(super) fn acquit(&mut self, report: &Report) {
        let is_charged = |fault: Option<Attempt>| fault.is_some_and(|fault| fault != Attempt::CalledOff);
        self.silent.retain(|peer, _| {
            report.peers.get(peer).is_none_or(|served| !served.delivered && !is_charged(served.fault))
        });
    }
}
