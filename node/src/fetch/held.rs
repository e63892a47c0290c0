//! Verified blocks that wait to be written.
//!
//! They are written many at a time, since each write is flushed to the disk, and soon, since what only memory holds is gone
//! with the power. Pure: it says when a write is due, and writes nothing.

use std::time::Duration;

use crate::content::Block;

/// Verified bytes that are written in one go.
const WRITE_BYTES: usize = 8 << 20;
/// How long a verified block waits at most until it is written: so much of a slow retrieval is lost with the power.
const WRITE_AFTER: Duration = Duration::from_secs(1);

/// The blocks.
#[derive(Debug, Default)]
pub(super) struct Held {
    blocks: Vec<Block>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Duration>,
}

impl Held {
    /// Adds a block that came at `now`, a time since any fixed moment.
    pub(super) fn push(&mut self, block: Block, now: Duration) {
        self.bytes += block.bytes().len();
        self.since.get_or_insert(now);
        self.blocks.push(block);
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// When they are to be written although few have come; none where there are none.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.since.map(|since| since + WRITE_AFTER)
    }

    /// Whether they are to be written now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.bytes >= WRITE_BYTES || self.due_at().is_some_and(|at| now >= at)
    }

    /// Takes all of them, with their bytes.
    pub(super) fn take(&mut self) -> (Vec<Block>, usize) {
        let Self { blocks, bytes, .. } = std::mem::take(self);
        (blocks, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    fn block(fill: u8, bytes: usize) -> Block {
        Block::new(Codec::Raw, vec![fill; bytes])
    }

    #[test]
    fn a_single_block_waits_a_second_and_no_longer() {
        let mut held = Held::default();
        assert!(!held.is_due(Duration::MAX), "nothing to write");
        let came = Duration::from_secs(7);
        held.push(block(1, 10), came);
        held.push(block(2, 10), came + WRITE_AFTER / 2);
        assert!(!held.is_due(came + WRITE_AFTER / 2));
        assert_eq!(held.due_at(), Some(came + WRITE_AFTER), "the oldest counts");
        assert!(held.is_due(came + WRITE_AFTER));
        let (blocks, bytes) = held.take();
        assert_eq!((blocks.len(), bytes), (2, 20));
        assert!(held.is_empty() && held.due_at().is_none());
        held.push(block(3, 10), came + WRITE_AFTER * 2);
        assert!(!held.is_due(came + WRITE_AFTER * 2), "those that were taken count no more");
    }

    #[test]
    fn many_bytes_are_written_at_once() {
        let mut held = Held::default();
        let chunk = 1 << 20;
        for fill in 0..7 {
            held.push(block(fill, chunk), Duration::ZERO);
        }
        assert!(!held.is_due(Duration::ZERO));
        held.push(block(7, chunk), Duration::ZERO);
        assert!(held.is_due(Duration::ZERO));
        assert_eq!(held.bytes(), WRITE_BYTES);
    }
}
