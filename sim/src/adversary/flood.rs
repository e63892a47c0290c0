//! Announces packages, each of another publisher and another author: nothing about one of them is wrong.

use std::{collections::BTreeMap, sync::Arc};

use ggen_marketplace::{identity::Publisher, time::Timestamp};
use libp2p::{PeerId, identity::Keypair};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{Script, Stage, TURN, TURNS_PER_SECOND, gossip, heads};
use crate::scenario::Flood;

/// Makes keys and packages as fast as it can, and sends each of them to every peer.
#[derive(Debug)]
pub(super) struct Flooding {
    secret: [u8; 32],
    flood: Flood,
    made: u64,
    spouts: BTreeMap<PeerId, mpsc::Sender<Arc<[u8]>>>,
}

impl Flooding {
    pub(super) fn new(secret: [u8; 32], flood: Flood) -> Self {
        Self { secret, flood, made: 0, spouts: BTreeMap::new() }
    }

    /// Opens a stream to every peer that has none.
    fn open(&mut self, stage: &mut Stage) {
        self.spouts.retain(|_, spout| !spout.is_closed());
        let connected: Vec<PeerId> = stage.swarm.connected_peers().copied().collect();
        let mut missing: Vec<PeerId> =
            connected.into_iter().filter(|peer| !self.spouts.contains_key(peer)).collect();
        // libp2p has them in no order.
        missing.sort_unstable();
        for peer in missing {
            let (sender, spout) = gossip::Spout::new(stage.cast.ledger.clone(), stage.cast.node, peer);
            if let Some(spouts) = stage.swarm.behaviour_mut().spouts.as_mut() {
                spouts.send_request(&peer, spout);
                self.spouts.insert(peer, sender);
            }
        }
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
        self.open(stage);
        let now = Timestamp::now();
        for _ in 0..self.flood.per_second.div_ceil(TURNS_PER_SECOND) {
            let publisher = Publisher::from_secret(self.secret("publisher"), now);
            let head = heads::made_up(&publisher, &format!("flood-{}", self.made), now);
            let author = Keypair::ed25519_from_bytes(self.secret("author")).expect("32 bytes are a key");
            let frame = gossip::frame(&author, &stage.cast.topic, head.bytes()).expect("such a key can sign");
            self.made += 1;
            stage.cast.ledger.lock().worthless(head.package_id().to_string());
            for spout in self.spouts.values() {
                // Whoever reads too slowly misses it; a bite is what was handed over.
                let _ = spout.try_send(frame.clone());
            }
        }
    }
}
