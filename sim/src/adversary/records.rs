//! Stores the same few records in the DHT, again and again: each is valid, and costs whoever looks at it.

use ggen_marketplace::{identity::Publisher, release::VerifiedHead, time::Timestamp};
use libp2p::{PeerId, kad};
use sha2::{Digest, Sha256};

use super::{Bite, Script, Stage, TURN, TURNS_PER_SECOND, heads};
use crate::scenario::Flood;

/// Records that it has.
const RECORDS: u8 = 8;

/// Sends its records to every peer, as often as the scenario says.
#[derive(Debug)]
pub(super) struct Storing {
    secret: [u8; 32],
    flood: Flood,
    heads: Vec<VerifiedHead>,
}

impl Storing {
    pub(super) fn new(secret: [u8; 32], flood: Flood) -> Self {
        Self { secret, flood, heads: Vec::new() }
    }

    fn make(&mut self, stage: &Stage) {
        let now = Timestamp::now();
        for n in 0..RECORDS {
            let secret = Sha256::new().chain_update(self.secret).chain_update([n]).finalize().into();
            let head = heads::made_up(&Publisher::from_secret(secret, now), &format!("stored-{n}"), now);
            stage.cast.ledger.lock().worthless(head.package_id().to_string());
            self.heads.push(head);
        }
    }
}

impl Script for Storing {
    fn turn(&mut self, stage: &mut Stage) {
        if TURN * u32::try_from(stage.turns).unwrap_or(u32::MAX) >= self.flood.lasts {
            return;
        }
        if self.heads.is_empty() {
            self.make(stage);
        }
        let peers: Vec<PeerId> = stage.swarm.connected_peers().copied().collect();
        let Some(quorum) = std::num::NonZeroUsize::new(peers.len()) else { return };
        let each = usize::try_from(self.flood.per_second.div_ceil(TURNS_PER_SECOND)).unwrap_or(usize::MAX);
        for head in self.heads.iter().cycle().take(each) {
            let record = kad::Record::new(head.dht_key().to_vec(), head.bytes().to_vec());
            let kad = &mut stage.swarm.behaviour_mut().kad;
            kad.put_record_to(record, peers.iter().copied(), kad::Quorum::N(quorum));
            stage.bit(Bite::Flooded, None);
        }
    }
}
