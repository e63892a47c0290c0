//! Announces packages without end, each signed by a fresh key: nothing about one of them is wrong.

use ggen_marketplace::{identity::Publisher, time::Timestamp};
use sha2::{Digest, Sha256};

use super::{Bite, Script, Stage, heads};

/// Announcements in one turn: fifty a second, a dozen times what one author may.
const PER_TURN: u64 = 25;

/// Makes keys and packages as fast as it can.
#[derive(Debug)]
pub(super) struct Flood {
    secret: [u8; 32],
    made: u64,
}

impl Flood {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret, made: 0 }
    }
}

impl Script for Flood {
    fn turn(&mut self, stage: &mut Stage) {
        let now = Timestamp::now();
        for _ in 0..PER_TURN {
            let secret =
                Sha256::new().chain_update(self.secret).chain_update(self.made.to_be_bytes()).finalize();
            let publisher = Publisher::from_secret(secret.into(), now);
            let head = heads::made_up(&publisher, &format!("flood-{}", self.made), now);
            self.made += 1;
            stage.cast.ledger.lock().worthless(head.package_id().to_string());
            if stage.announce(head.bytes().to_vec()) {
                stage.bit(Bite::Flooded, None);
            }
        }
    }
}
