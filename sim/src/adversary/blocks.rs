//! Those who misbehave as providers: each claims to provide every tree that it hears of.

use std::collections::BTreeSet;

use ggen_marketplace::{
    content::{Block, ContentId},
    limits::SWARM_MARKS_AT_ONCE_MAX,
    release::VerifiedHead,
};
use libp2p::PeerId;

use super::{Bite, Script, Sent, Stage};

/// Sends other bytes in the place of every block: one bit flipped, cut short, too long, or nothing like it, in turn.
#[derive(Debug, Default)]
pub(super) struct Corrupt {
    sent: usize,
}

impl Script for Corrupt {
    fn learned(&mut self, stage: &mut Stage, head: &VerifiedHead) {
        stage.claim(head);
    }

    fn blocks(&mut self, stage: &mut Stage, peer: PeerId, want: &[ContentId]) -> Option<Vec<Sent>> {
        let mut blocks = Vec::new();
        for id in want.iter() {
            let real = stage.cast.store.block(id).ok().flatten().map(Block::into_bytes);
            blocks.push(Sent::Bytes(corrupted(*id, real, self.sent)));
            self.sent += 1;
            stage.bites_with_answer(Bite::WrongBlock, peer);
        }
        Some(blocks)
    }
}

/// Bytes that are not the block, in the way of number `n`; without the real ones, anything.
fn corrupted(id: ContentId, real: Option<Vec<u8>>, n: usize) -> Vec<u8> {
    let mut bytes = real.unwrap_or_else(|| id.digest().repeat(32));
    match n % 3 {
        0 if !bytes.is_empty() => {
            let at = usize::from(id.digest()[0]) % bytes.len();
            bytes[at] ^= 1 << (id.digest()[1] % 8);
        }
        1 if !bytes.is_empty() => bytes.truncate(bytes.len() / 2),
        _ => bytes.push(0),
    }
    if id.names(&bytes) { vec![0; 33] } else { bytes }
}

/// Says of one request that it has nothing of it, and leaves the next one unanswered.
#[derive(Debug, Default)]
pub(super) struct Withhold {
    asked: usize,
}

impl Script for Withhold {
    fn learned(&mut self, stage: &mut Stage, head: &VerifiedHead) {
        stage.claim(head);
    }

    fn blocks(&mut self, stage: &mut Stage, peer: PeerId, want: &[ContentId]) -> Option<Vec<Sent>> {
        withhold(&mut self.asked, stage, peer, want)
    }
}

/// Gives every block that it has, and no log: no adversary speaks that protocol.
#[derive(Debug)]
pub(super) struct WithholdLogs;

impl Script for WithholdLogs {
    fn learned(&mut self, stage: &mut Stage, head: &VerifiedHead) {
        stage.claim(head);
    }

    fn blocks(&mut self, stage: &mut Stage, peer: PeerId, want: &[ContentId]) -> Option<Vec<Sent>> {
        stage.bites_with_answer(Bite::Withheld, peer);
        let held = want.iter().map(|id| stage.cast.store.block(id).ok().flatten().map(Block::into_bytes));
        let held: Vec<Option<Vec<u8>>> = held.collect();
        stage.gave(peer, held.iter().flatten().map(|bytes| bytes.len() as u64).sum());
        Some(held.into_iter().map(|bytes| bytes.map_or(Sent::Missing, Sent::Bytes)).collect())
    }
}

/// Leaves every other request unanswered, and says to the rest that nothing is there.
fn withhold(asked: &mut usize, stage: &mut Stage, peer: PeerId, want: &[ContentId]) -> Option<Vec<Sent>> {
    *asked += 1;
    if asked.is_multiple_of(2) {
        stage.bit(Bite::Stalled, Some(peer));
        return None;
    }
    stage.bites_with_answer(Bite::Withheld, peer);
    Some(want.iter().map(|_| Sent::Missing).collect())
}

/// Says that it fetches every tree that somebody follows, and that it has whatever anybody asked it for. It has nothing, and leaves every
/// other request unanswered.
#[derive(Debug, Default)]
pub(super) struct Lie {
    asked: usize,
    heard_of: BTreeSet<ContentId>,
}

impl Script for Lie {
    fn has(&mut self, want: &[ContentId]) -> Vec<ContentId> {
        self.heard_of.extend(want);
        self.heard_of.iter().take(SWARM_MARKS_AT_ONCE_MAX).copied().collect()
    }

    fn blocks(&mut self, stage: &mut Stage, peer: PeerId, want: &[ContentId]) -> Option<Vec<Sent>> {
        withhold(&mut self.asked, stage, peer, want)
    }
}

/// Takes every request and answers none.
#[derive(Debug)]
pub(super) struct Stall;

impl Script for Stall {
    fn learned(&mut self, stage: &mut Stage, head: &VerifiedHead) {
        stage.claim(head);
    }

    fn blocks(&mut self, stage: &mut Stage, peer: PeerId, _: &[ContentId]) -> Option<Vec<Sent>> {
        stage.bit(Bite::Stalled, Some(peer));
        None
    }
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::content::Codec;

    use super::*;

    #[test]
    fn no_corrupted_block_is_the_real_one() {
        for real in [b"".to_vec(), b"x".to_vec(), vec![7; 1_000]] {
            let id = ContentId::of(Codec::Raw, &real);
            for n in 0..6 {
                assert!(!id.names(&corrupted(id, Some(real.clone()), n)), "{n}");
                assert!(!id.names(&corrupted(id, None, n)), "{n}");
            }
        }
        let real = vec![7; 1_000];
        let id = ContentId::of(Codec::Raw, &real);
        let flipped = corrupted(id, Some(real.clone()), 0);
        let bits: u32 = real.iter().zip(&flipped).map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!((flipped.len(), bits), (1_000, 1), "one bit is enough");
        assert_eq!(corrupted(id, Some(real), 1).len(), 500);
    }
}
