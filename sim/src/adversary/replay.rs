//! Brings back heads whose time is over: older states of packages, and what expired weeks ago.

use std::time::Duration;

use ggen_marketplace::{identity::Publisher, release::VerifiedHead, sync::protocol::Page, time::Timestamp};
use libp2p::PeerId;

use super::{Bite, Script, Stage, heads, page_of};
use crate::virtualise;

/// Turns between two rounds of replays.
const ROUND_TURNS: u64 = 4;
/// How long ago the oldest head was made.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// Keeps what was signed once, and says it again.
#[derive(Debug)]
pub(super) struct Replay {
    month_old: VerifiedHead,
}

impl Replay {
    /// With a head that `victim` signed a month before the run.
    pub(super) fn new(victim: &Publisher) -> Self {
        let created = Timestamp::from_secs(virtualise::EPOCH.saturating_sub(MONTH).as_secs());
        Self { month_old: heads::made_up(victim, "forgotten", created) }
    }

    /// The expired head, and every head that a newer one has followed.
    fn outdated(&self, stage: &Stage) -> Vec<VerifiedHead> {
        let newest = |heads: &[VerifiedHead]| heads.iter().map(|it| it.head().sequence).max();
        let followed = stage.heads.values().flat_map(|heads| {
            let newest = newest(heads);
            heads.iter().filter(move |head| Some(head.head().sequence) < newest).cloned()
        });
        followed.chain([self.month_old.clone()]).collect()
    }
}

impl Script for Replay {
    fn turn(&mut self, stage: &mut Stage) {
        if !stage.turns.is_multiple_of(ROUND_TURNS) {
            return;
        }
        for head in self.outdated(stage) {
            stage.brand(head.bytes());
            if stage.announce(head.bytes().to_vec()) {
                stage.bit(Bite::Replayed, None);
            }
            stage.put(&head.dht_key(), head.bytes().to_vec());
        }
    }

    fn page(&mut self, stage: &mut Stage, peer: PeerId) -> Option<Page> {
        stage.bites_with_answer(Bite::Replayed, peer);
        Some(page_of(self.outdated(stage).into_iter().map(|head| head.bytes().to_vec()).collect()))
    }
}
