//! Brings back older states of packages.

use ggen_marketplace::{release::VerifiedHead, sync::protocol::Page};
use libp2p::PeerId;

use super::{Bite, Script, Stage, page_of};

/// Turns between two rounds of replays.
const ROUND_TURNS: u64 = 4;

/// Keeps what was signed once, and says it again.
#[derive(Debug)]
pub(super) struct Replay;

impl Replay {
    /// Every head that a newer one has followed.
    fn outdated(stage: &Stage) -> Vec<VerifiedHead> {
        let newest = |heads: &[VerifiedHead]| heads.iter().map(|it| it.head().sequence).max();
        stage
            .heads
            .values()
            .flat_map(|heads| {
                let newest = newest(heads);
                heads.iter().filter(move |head| Some(head.head().sequence) < newest).cloned()
            })
            .collect()
    }
}

impl Script for Replay {
    fn turn(&mut self, stage: &mut Stage) {
        if !stage.turns.is_multiple_of(ROUND_TURNS) {
            return;
        }
        for head in Self::outdated(stage) {
            stage.outdated(&head);
            if stage.announce(head.bytes().to_vec()) {
                stage.bit(Bite::Replayed, None);
            }
            stage.put(&head.dht_key(), head.bytes().to_vec());
        }
    }

    fn page(&mut self, stage: &mut Stage, peer: PeerId) -> Option<Page> {
        stage.bites_with_answer(Bite::Replayed, peer);
        Some(page_of(Self::outdated(stage).into_iter().map(|head| head.bytes().to_vec()).collect()))
    }
}
