//! Numbers that come to their end and begin again: those of a package's history, and those of the messages of gossip.

use ggen_marketplace::{identity::Publisher, release::VerifiedHead, sync::protocol::Page, time::Timestamp};
use libp2p::{PeerId, identity::Keypair};
use sha2::{Digest, Sha256};

use super::{
    Bite, Script, Stage,
    gossip::{Number, Spouts, frame},
    heads, page_of,
};

/// The turn at which the last place of a history is told.
const LAST: u64 = 2;
/// The turn at which another package is told under a lower number than the message before it.
const LOWER: u64 = 6;
/// The turns at which the history begins again, again and again: everybody has heard of its end by then.
const WRAPPED: std::ops::Range<u64> = 12..60;
/// Turns between two rounds of that.
const ROUND_TURNS: u64 = 4;
/// From this turn on, messages have numbers that do not fit.
const OVERFLOWED: u64 = 64;

/// Has a history that ends at the last number there is.
#[derive(Debug)]
pub(super) struct Wrap {
    secret: [u8; 32],
    spouts: Spouts,
    story: Option<Story>,
}

/// What it tells, in the order in which it does.
#[derive(Debug)]
struct Story {
    last: VerifiedHead,
    lower: VerifiedHead,
    wrapped: [VerifiedHead; 2],
}

impl Wrap {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret, spouts: Spouts::default(), story: None }
    }

    fn secret(&self, of: &str, n: u64) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.secret)
            .chain_update(of)
            .chain_update(n.to_be_bytes())
            .finalize()
            .into()
    }

    /// Makes up the history, where that was not done.
    fn begin(&mut self, stage: &Stage) -> &Story {
        let secret = self.secret("publisher", 0);
        self.story.get_or_insert_with(|| {
            let now = Timestamp::now();
            let publisher = Publisher::from_secret(secret, now);
            let first = heads::made_up(&publisher, "wrapped", now);
            let [second, last] = [1, u64::MAX].map(|place| heads::at_place(&first, &publisher, place));
            let lower = heads::made_up(&publisher, "lower", now);
            for head in [&first, &lower] {
                stage.cast.ledger.lock().worthless(head.package_id().to_string());
            }
            Story { last, lower, wrapped: [first, second] }
        })
    }

    fn send(&self, stage: &Stage, author: u64, number: Number, head: &VerifiedHead) {
        let author = Keypair::ed25519_from_bytes(self.secret("author", author)).expect("32 bytes are a key");
        self.spouts.send(Bite::Wrapped, &frame(&author, &stage.cast.topic, number, head.bytes()));
    }
}

impl Script for Wrap {
    fn turn(&mut self, stage: &mut Stage) {
        self.spouts.open(stage);
        let Story { last, lower, wrapped } = self.begin(stage);
        let (last, lower, wrapped) = (last.clone(), lower.clone(), wrapped.clone());
        let turn = stage.turns;
        match turn {
            LAST => {
                self.send(stage, 0, Number::Plain(u64::MAX), &last);
                stage.put(&last.dht_key(), last.bytes().to_vec());
            }
            // The same author has begun again with its numbers, and then says one for the second time.
            LOWER => self.send(stage, 0, Number::Plain(0), &lower),
            _ if WRAPPED.contains(&turn) && turn.is_multiple_of(ROUND_TURNS) => {
                for (head, number) in wrapped.iter().zip([0, u64::MAX - turn]) {
                    stage.brand(head.bytes());
                    // An author whom nobody has heard: what is refused of one author may come of another.
                    self.send(stage, turn, Number::Plain(number), head);
                    stage.put(&head.dht_key(), head.bytes().to_vec());
                }
            }
            _ if turn >= OVERFLOWED => self.send(stage, turn, Number::Overflowed, &lower),
            _ => {}
        }
    }

    fn page(&mut self, stage: &mut Stage, peer: PeerId) -> Option<Page> {
        let turn = stage.turns;
        let Story { last, wrapped, .. } = self.begin(stage);
        let mut told = Vec::new();
        if turn > LAST {
            told.push(last.bytes().to_vec());
        }
        if turn >= WRAPPED.start {
            told.extend(wrapped.iter().map(|head| head.bytes().to_vec()));
            stage.bites_with_answer(Bite::Wrapped, peer);
        }
        Some(page_of(told))
    }
}
