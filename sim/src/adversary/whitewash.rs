//! Sends other bytes in the place of blocks, and comes back under another id as often as somebody has sent it away.

use std::collections::BTreeSet;

use ggen_marketplace::{content::ContentId, release::VerifiedHead};
use libp2p::PeerId;

use super::{Script, Sent, Stage, blocks::Corrupt};

/// Buys a good name with a new id, or tries to.
#[derive(Debug, Default)]
pub(super) struct Whitewash {
    corrupt: Corrupt,
    /// Whom it has bitten under the id that it has.
    bitten: BTreeSet<PeerId>,
}

impl Script for Whitewash {
    fn learned(&mut self, stage: &mut Stage, head: &VerifiedHead) {
        self.corrupt.learned(stage, head);
    }

    fn lost(&mut self, stage: &mut Stage, peer: PeerId) {
        if self.bitten.contains(&peer) {
            self.bitten.clear();
            stage.wants_another_id = true;
        }
    }

    fn blocks(&mut self, stage: &mut Stage, peer: PeerId, want: &[ContentId]) -> Option<Vec<Sent>> {
        self.bitten.insert(peer);
        self.corrupt.blocks(stage, peer, want)
    }
}
