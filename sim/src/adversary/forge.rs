//! Spreads heads that their publisher has not signed, by gossip, in the DHT, and in the exchange of heads.

use ggen_marketplace::{identity::Publisher, release::VerifiedHead, sync::protocol::Page, time::Timestamp};
use libp2p::PeerId;

use super::{Bite, Script, Stage, heads, page_of};

/// Turns between two rounds of forgeries.
const ROUND_TURNS: u64 = 4;

/// Forges what it hears of.
#[derive(Debug, Default)]
pub(super) struct Forge {
    rounds: usize,
    /// Its own key, with which it signs in the names of others.
    key: Option<Publisher>,
}

impl Forge {
    fn forgeries(&mut self, stage: &Stage) -> Vec<(VerifiedHead, Vec<u8>)> {
        let secret = stage.cast.secret;
        let key = self
            .key
            .get_or_insert_with(|| Publisher::from_secret(secret, Timestamp::from_secs(1_600_000_000)));
        let real = stage.heads.values().filter_map(|heads| heads.last());
        real.flat_map(|head| {
            let named = heads::under_anothers_name(head, key);
            [(head.clone(), heads::damaged(head, self.rounds)), (head.clone(), named)]
        })
        .collect()
    }
}

impl Script for Forge {
    fn turn(&mut self, stage: &mut Stage) {
        if !stage.turns.is_multiple_of(ROUND_TURNS) {
            return;
        }
        let forgeries = self.forgeries(stage);
        self.rounds += 1;
        for (head, forged) in forgeries {
            stage.brand(&forged);
            if stage.announce(forged.clone()) {
                stage.bit(Bite::Forged, None);
            }
            stage.put(&head.dht_key(), forged.clone());
            // A valid head under the key of nothing.
            let mut elsewhere = head.dht_key();
            elsewhere[0] ^= 0xff;
            stage.put(&elsewhere, head.bytes().to_vec());
        }
        // Noise, and nothing at all.
        for bytes in [vec![0xff; 300], Vec::new()] {
            stage.brand(&bytes);
            stage.announce(bytes);
        }
    }

    fn page(&mut self, stage: &mut Stage, peer: PeerId) -> Option<Page> {
        let forged: Vec<Vec<u8>> = self.forgeries(stage).into_iter().map(|(_, forged)| forged).collect();
        if !forged.is_empty() {
            stage.bites_with_answer(Bite::Forged, peer);
        }
        forged.iter().for_each(|bytes| stage.brand(bytes));
        Some(page_of(forged))
    }
}
