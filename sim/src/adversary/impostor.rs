//! Says other things under the same name: messages under the author and number of others, and two states of one package for one
//! place, each signed by its own publisher.

use std::collections::BTreeSet;

use ggen_marketplace::{identity::Publisher, sync::protocol::Page, time::Timestamp};
use libp2p::{PeerId, identity::Keypair};
use sha2::{Digest, Sha256};

use super::{
    Bite, Script, Stage,
    gossip::{Message, Number, Spouts, forged, frame},
    heads, page_of,
};

/// The turn at which something worthless is said under a number of its own author, and then, under the same number, two heads
/// that are valid.
const REPEATED: u64 = 2;
/// The turn at which two states of one package are told.
const CONTRADICTION: u64 = 4;
/// Its own authors: of the messages under one number, and of each state of the package.
const AUTHORS: [&str; 3] = ["author", "one state", "another state"];
/// Honest messages that are copied.
const COPIED_MAX: usize = 64;

/// Copies what marks a message, and not what it says.
#[derive(Debug)]
pub(super) struct Impostor {
    secret: [u8; 32],
    spouts: Spouts,
    copied: BTreeSet<(Vec<u8>, u64)>,
    /// The two states of one package.
    contradiction: Vec<Vec<u8>>,
}

impl Impostor {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        let (copied, contradiction) = (BTreeSet::new(), Vec::new());
        Self { secret, spouts: Spouts::listening(), copied, contradiction }
    }

    fn secret(&self, of: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.secret).chain_update(of).finalize().into()
    }

    fn publisher(&self) -> Publisher {
        Publisher::from_secret(self.secret("publisher"), Timestamp::from_secs(1_600_000_000))
    }

    fn author(&self, which: &str) -> Keypair {
        Keypair::ed25519_from_bytes(self.secret(which)).expect("32 bytes are a key")
    }
}

impl Script for Impostor {
    fn turn(&mut self, stage: &mut Stage) {
        self.spouts.open(stage);
        let (now, publisher, topic) = (Timestamp::now(), self.publisher(), stage.cast.topic.clone());
        match stage.turns {
            REPEATED => {
                let author = self.author(AUTHORS[0]);
                let same = Number::Plain(7);
                let noise = frame(&author, &topic, same, b"no head at all");
                stage.brand(b"no head at all");
                self.spouts.send(Bite::Impersonated, &noise);
                for name in ["same-number", "same-number-too"] {
                    let head = heads::made_up(&publisher, name, now);
                    stage.cast.ledger.lock().worthless(head.package_id().to_string());
                    self.spouts.send(Bite::Impersonated, &frame(&author, &topic, same, head.bytes()));
                }
            }
            CONTRADICTION => {
                for words in &AUTHORS[1..] {
                    let head = heads::made_of(&publisher, "contradiction", words, now);
                    stage.cast.ledger.lock().worthless(head.package_id().to_string());
                    // Of an author each, so that the second is not taken for a repetition of anything.
                    let frame = frame(&self.author(words), &topic, Number::Plain(0), head.bytes());
                    self.spouts.send(Bite::Contradicted, &frame);
                    self.contradiction.push(head.bytes().to_vec());
                }
            }
            _ => {}
        }
    }

    /// While a message is on its way, and before the next one of its author is: the same author and number, and other data; or the
    /// same data under another number. None of it can be signed by the author.
    fn overheard(&mut self, stage: &mut Stage, message: &Message) {
        let key = (message.from.clone(), message.number);
        // Others pass on its own messages, too.
        let is_own = |which: &str| self.author(which).public().to_peer_id().to_bytes() == message.from;
        if AUTHORS.iter().any(|which| is_own(which))
            || self.copied.len() >= COPIED_MAX
            || !self.copied.insert(key)
        {
            return;
        }
        let topic = stage.cast.topic.clone();
        let own = self.author(AUTHORS[0]);
        let Message { from, data, number, signature } = message;
        for number in [*number, number.wrapping_add(1)] {
            let noise = format!("not what {number} says");
            stage.brand(noise.as_bytes());
            let foreign = own.sign(noise.as_bytes()).expect("such a key can sign");
            for signature in [Some(signature.as_slice()), Some(foreign.as_slice()), None] {
                let frame = forged(from, &topic, number, noise.as_bytes(), signature);
                self.spouts.send(Bite::Impersonated, &frame);
            }
        }
        let elsewhere = forged(from, &topic, number.wrapping_add(2), data, Some(signature));
        self.spouts.send(Bite::Impersonated, &elsewhere);
    }

    fn page(&mut self, stage: &mut Stage, peer: PeerId) -> Option<Page> {
        if !self.contradiction.is_empty() {
            stage.bites_with_answer(Bite::Contradicted, peer);
        }
        Some(page_of(self.contradiction.clone()))
    }
}
