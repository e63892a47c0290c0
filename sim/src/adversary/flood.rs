//! Announces packages, each of another publisher and another author: nothing about one of them is wrong.

use ggen_marketplace::{identity::Publisher, time::Timestamp};
use libp2p::identity::Keypair;
use sha2::{Digest, Sha256};

use super::{
    Bite, Script, Stage, TURN, TURNS_PER_SECOND,
    gossip::{Number, Spouts, frame},
    heads,
};
use crate::scenario::Flood;

/// Makes keys and packages as fast as it can, and sends each of them to every peer.
#[derive(Debug)]
pub(super) struct Flooding {
    secret: [u8; 32],
    flood: Flood,
    made: u64,
    spouts: Spouts,
}

impl Flooding {
    pub(super) fn new(secret: [u8; 32], flood: Flood) -> Self {
        Self { secret, flood, made: 0, spouts: Spouts::default() }
    }

    fn secret(&self, of: &str) -> [u8; 32] {
        let seed = Sha256::new().chain_update(self.secret).chain_update(of);
        seed.chain_update(self.made.to_be_bytes()).finalize().into()
    }
}

impl Script for Flooding {
    fn turn(&mut self, stage: &mut Stage) {
        if TURN * u32::try_from(stage.turns).unwrap_or(u32::MAX) >= self.flood.lasts {
            return;
        }
        self.spouts.open(stage);
        // Nobody would get what it makes: they have all refused it.
        if self.spouts.is_empty() {
            return;
        }
        let now = Timestamp::now();
        for _ in 0..self.flood.per_second.div_ceil(TURNS_PER_SECOND) {
            let publisher = Publisher::from_secret(self.secret("publisher"), now);
            let head = heads::made_up(&publisher, &format!("flood-{}", self.made), now);
            let author = Keypair::ed25519_from_bytes(self.secret("author")).expect("32 bytes are a key");
            let frame = frame(&author, &stage.cast.topic, Number::Plain(0), head.bytes());
            self.made += 1;
            stage.cast.ledger.lock().worthless(head.package_id().to_string());
            self.spouts.send(Bite::Flooded, &frame);
        }
    }
}
