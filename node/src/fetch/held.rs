//! Verified blocks on their way to the disk.
//!
//! They go into a segment soon after they came, so that memory stays flat, and become durable many at a time, since each commit
//! waits for the disk; and within a second, since what is not durable is gone with the power. Pure: it says when which is due, and
//! writes nothing.

use std::{collections::VecDeque, time::Duration};

use crate::content::Block;

/// Verified bytes that are handed on in one go.
const APPEND_BYTES: usize = 2 << 20;
/// The most of them: what was handed on makes room for what is asked for next, and not all of it at once.
const STEP_BYTES: usize = 4 << 20;
/// Bytes that become durable in one go.
const COMMIT_BYTES: usize = 64 << 20;
/// How long a verified block waits at most until it is durable: so much of a slow retrieval is lost with the power.
const COMMIT_AFTER: Duration = Duration::from_secs(1);
/// How long after the last commit at most, where others wait for it: they are told of what is durable, and served that.
const COMMIT_SOON: Duration = Duration::from_millis(200);

/// The blocks, and what was handed on before them and is not durable yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// With when each came.
    blocks: VecDeque<(Duration, Block)>,
    bytes: usize,
    /// Bytes that were handed on since the last commit.
    appended: usize,
    /// When the first of all these came.
    since: Option<Duration>,
    is_hasty: bool,
    /// When it was made durable last.
    committed: Option<Duration>,
}

/// What is to be written now.
#[derive(Debug)]
pub(super) struct Step {
    /// Blocks to append.
    pub(super) blocks: Vec<Block>,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Whether they, and what was appended before, become durable with it.
    pub(super) commit: bool,
}

impl Held {
    /// Adds a block that came at `now`, a time since any fixed moment.
    pub(super) fn push(&mut self, block: Block, now: Duration) {
        self.bytes += block.bytes().len();
        self.since.get_or_insert(now);
        self.blocks.push_back((now, block));
    }

    /// Says whether others wait for the blocks.
    pub(super) fn hasten(&mut self, is_hasty: bool) {
        self.is_hasty = is_hasty;
    }

    /// Bytes that wait in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When a step is due although few have come; none where all are durable.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let since = self.since?;
        let soon = self.committed.map_or(since, |at| since.max(at + COMMIT_SOON));
        Some(if self.is_hasty { soon } else { since + COMMIT_AFTER })
    }

    /// Takes what is to be written now.
    pub(super) fn step(&mut self, now: Duration) -> Option<Step> {
        let commit = self.appended + self.bytes >= COMMIT_BYTES || self.due_at().is_some_and(|at| now >= at);
        if commit {
            self.committed = Some(now);
        }
        (commit || self.bytes >= APPEND_BYTES).then(|| self.take(commit, STEP_BYTES))
    }

    /// Takes all that is not durable yet, at the end.
    pub(super) fn rest(&mut self) -> Option<Step> {
        self.since.is_some().then(|| self.take(true, usize::MAX))
    }

    /// Forgets the blocks that were not handed on.
    pub(super) fn discard(&mut self) {
        (self.blocks, self.bytes) = Default::default();
    }

    /// The first blocks, at least one where there are any.
    fn take(&mut self, commit: bool, bytes_max: usize) -> Step {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        while let Some((_, block)) = self.blocks.front() {
            let more = block.bytes().len();
            if bytes > 0 && bytes + more > bytes_max {
                break;
            }
            bytes += more;
            blocks.extend(self.blocks.pop_front().map(|(_, block)| block));
        }
        self.bytes -= bytes;
        if commit {
            self.appended = 0;
            self.since = self.blocks.front().map(|(came, _)| *came);
        } else {
            self.appended += bytes;
        }
        Step { blocks, bytes, commit }
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
        assert!(held.step(Duration::MAX).is_none() && held.rest().is_none(), "nothing to write");
        let came = Duration::from_secs(7);
        held.push(block(1, 10), came);
        held.push(block(2, 10), came + COMMIT_AFTER / 2);
        assert!(held.step(came + COMMIT_AFTER / 2).is_none());
        assert_eq!(held.due_at(), Some(came + COMMIT_AFTER), "the oldest counts");
        let step = held.step(came + COMMIT_AFTER).unwrap();
        assert_eq!((step.blocks.len(), step.bytes, step.commit), (2, 20, true));
        assert!(held.due_at().is_none() && held.rest().is_none());
        held.push(block(3, 10), came + COMMIT_AFTER * 2);
        assert!(held.step(came + COMMIT_AFTER * 2).is_none(), "those that were taken count no more");
    }

    #[test]
    fn what_others_wait_for_is_durable_sooner() {
        let mut held = Held::default();
        held.hasten(true);
        held.push(block(1, 10), COMMIT_AFTER);
        assert_eq!(held.due_at(), Some(COMMIT_AFTER));
        assert!(held.step(COMMIT_AFTER).unwrap().commit, "the first at once");
        held.push(block(2, 10), COMMIT_AFTER + COMMIT_SOON / 2);
        assert!(held.step(COMMIT_AFTER + COMMIT_SOON / 2).is_none(), "the next ones a few at a time");
        assert_eq!(held.due_at(), Some(COMMIT_AFTER + COMMIT_SOON));
        assert!(held.step(COMMIT_AFTER + COMMIT_SOON).unwrap().commit);
    }

    #[test]
    fn many_bytes_are_appended_at_once_and_durable_a_second_after_the_first_came() {
        let (mut held, chunk) = (Held::default(), APPEND_BYTES / 2);
        held.push(block(0, chunk), Duration::ZERO);
        assert!(held.step(Duration::ZERO).is_none());
        held.push(block(1, chunk), COMMIT_AFTER / 2);
        let step = held.step(COMMIT_AFTER / 2).unwrap();
        assert_eq!((step.bytes, step.commit), (APPEND_BYTES, false));
        assert_eq!((held.bytes(), held.due_at()), (0, Some(COMMIT_AFTER)), "appended is not durable");
        let step = held.step(COMMIT_AFTER).unwrap();
        assert_eq!((step.blocks.len(), step.commit), (0, true));
        assert!(held.due_at().is_none());
    }

    #[test]
    fn what_waited_for_a_slow_disk_is_handed_on_in_parts_and_in_order() {
        let mut held = Held::default();
        for n in 0..9 {
            held.push(block(n, STEP_BYTES / 4), COMMIT_AFTER * u32::from(n));
        }
        let mut fills = Vec::new();
        let mut step = |held: &mut Held| {
            let step = held.step(COMMIT_AFTER * 9).unwrap();
            fills.extend(step.blocks.iter().map(|block| block.bytes()[0]));
            (step.bytes, step.commit, held.due_at())
        };
        assert_eq!(
            step(&mut held),
            (STEP_BYTES, true, Some(COMMIT_AFTER * 5)),
            "the oldest that is left counts"
        );
        assert_eq!(step(&mut held), (STEP_BYTES, true, Some(COMMIT_AFTER * 9)));
        assert_eq!(step(&mut held), (STEP_BYTES / 4, true, None));
        assert_eq!((fills, held.bytes()), ((0..9).collect(), 0));
        held.push(block(0, 2 * STEP_BYTES), Duration::ZERO);
        assert_eq!(held.step(Duration::ZERO).unwrap().bytes, 2 * STEP_BYTES, "one block is a step");
    }

    #[test]
    fn a_quick_retrieval_becomes_durable_by_its_bytes_and_the_rest_at_its_end() {
        let mut held = Held::default();
        let steps: Vec<bool> = (0..COMMIT_BYTES / APPEND_BYTES)
            .map(|_| {
                held.push(block(0, APPEND_BYTES), Duration::ZERO);
                held.step(Duration::ZERO).unwrap().commit
            })
            .collect();
        assert_eq!(steps.iter().position(|commit| *commit), Some(steps.len() - 1));
        held.push(block(1, 10), Duration::ZERO);
        held.push(block(2, APPEND_BYTES), Duration::ZERO);
        assert!(!held.step(Duration::ZERO).unwrap().commit);
        held.push(block(3, 10), Duration::ZERO);
        held.discard();
        let rest = held.rest().unwrap();
        assert_eq!((rest.blocks.len(), rest.commit), (0, true), "what was appended before");
        assert!(held.rest().is_none());
    }
}
