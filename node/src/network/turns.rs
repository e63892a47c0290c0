//! Which of those who ask for blocks is given some next.
//!
//! A block is of use to others once it is whole. So few peers are given blocks at once ([`Width`]), one of them a batch at a time, and
//! the others wait for their turn and are told so. Whoever brings a batch home quickly holds nobody up: only what is still on its way
//! counts, beyond what keeps the peer's line busy for a moment. A peer of which nothing is heard while it should read does not count either, so
//! that the few who do not read hold nobody up for long.
//!
//! The next one is a peer that was given little, as bytes, whatever it asks for: one with a hundred thousand wants is given as much as
//! one with ten. Among those that were given about as little, and among what one of them waits for, the block is next that was given away least often: so
//! all of a tree leaves this node once before any of it does so twice, as in the super-seeding of
//! [BitTorrent](http://bittorrent.org/beps/bep_0016.html).
//!
//! What is heard of a peer's reading may be a lie: who says too little is given less, and who says too much has its own line full. Pure: `now` is
//! an argument.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use super::{giving::BEGUN_MAX, width::Width};
use crate::{
    content::{Codec, ContentId},
    limits::FETCH_ANSWER_BYTES,
};

/// What may be on its way to a peer beside what others are given: as much as its line carries in this time, and at least so much.
const TAIL: Duration = Duration::from_millis(150);
const TAIL_BYTES_MIN: u64 = 64 << 10;
/// How long nothing may be heard of a peer that is given something, until others do not wait for it any longer. What keeps them busy is known
/// to take so many times as long.
const PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(8);
const PATIENCE_BYTES: u64 = 256 << 10;
/// How many more bytes than the one that had the least a peer may have had to be next for what it asks for.
const SLACK_BYTES: u64 = 2 << 20;
/// Batches of so few blocks count as large ones, of which it is known how often each was given.
const COUNTED_IDS_MAX: usize = 4;
/// Blocks of which it is remembered how often they were given.
const GIVEN_MAX: usize = 4_096;

/// A batch that has not begun.
#[derive(Debug)]
struct Waiting {
    batch: u32,
    ids: Vec<ContentId>,
    number: u64,
}

/// A stream on which a peer asks.
#[derive(Debug)]
struct Stream {
    peer: PeerId,
    waiting: VecDeque<Waiting>,
    /// The batches that have begun and were not written yet, with their bytes once they are known.
    begun: BTreeMap<u32, Option<u64>>,
    /// Bytes that were handed to the stream since it began, and those of them that have come.
    handed: u64,
    came: u64,
    /// When something of it was heard, or had to be.
    moved_at: Instant,
    /// Bytes a second.
    rate: Option<u64>,
}

impl Stream {
    /// Bytes on their way, as far as is known.
    fn on_its_way(&self) -> u64 {
        let unread = self.begun.values().filter(|bytes| bytes.is_none()).count() as u64;
        self.handed.saturating_sub(self.came).saturating_add(unread * FETCH_ANSWER_BYTES as u64)
    }

    fn is_busy(&self) -> bool {
        let tail = self.rate.map_or(0, |rate| bytes_in(rate, TAIL));
        self.on_its_way() > tail.max(TAIL_BYTES_MIN)
    }

    /// Until when others wait for it.
    fn patience(&self) -> Instant {
        let usual = self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_millis(PATIENCE_BYTES.saturating_mul(1_000) / rate.max(1))
        });
        self.moved_at + usual.clamp(*PATIENCE.start(), *PATIENCE.end())
    }

    fn counts(&self, now: Instant) -> bool {
        self.is_busy() && now < self.patience()
    }

    fn may_begin(&self) -> bool {
        let is_unwritten = !self.begun.is_empty();
        !self.waiting.is_empty() && self.begun.len() < BEGUN_MAX && !(is_unwritten && self.is_busy())
    }
}

/// A batch whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) peer: PeerId,
    pub(super) stream: u64,
    pub(super) batch: u32,
    pub(super) ids: Vec<ContentId>,
}

/// Who waits, and who is given something.
#[derive(Debug)]
pub(super) struct Turns {
    streams: BTreeMap<u64, Stream>,
    /// Bytes that the peers that have streams were given.
    had: BTreeMap<PeerId, u64>,
    given: BTreeMap<ContentId, u32>,
    /// The blocks of `given` in the order in which they came.
    remembered: VecDeque<ContentId>,
    width: Width,
    /// What began to wait since it was looked last.
    fresh: Vec<(u64, u32)>,
    number: u64,
    wake_at: Option<Instant>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let (streams, had, given, remembered, fresh) = Default::default();
        Self { streams, had, given, remembered, width: Width::new(), fresh, number: 0, wake_at: None }
    }

    /// A peer opened a stream.
    pub(super) fn opened(&mut self, stream: u64, peer: PeerId, now: Instant) {
        let (waiting, begun, rate) = Default::default();
        let it = Stream { peer, waiting, begun, handed: 0, came: 0, moved_at: now, rate };
        self.streams.insert(stream, it);
    }

    /// A peer asks for a batch.
    pub(super) fn wants(&mut self, stream: u64, batch: u32, ids: Vec<ContentId>) {
        let active = |it: &Stream| !it.waiting.is_empty() || !it.begun.is_empty();
        let Some(peer) = self.streams.get(&stream).map(|it| it.peer) else { return };
        if !self.streams.values().any(|it| it.peer == peer && active(it)) {
            // Who comes anew has had as much as the one that had the least: not less, or the others would wait for it alone.
            let others = self.streams.values().filter(|it| it.peer != peer && active(it));
            let least = others.map(|it| self.had.get(&it.peer).copied().unwrap_or_default()).min();
            let had = self.had.entry(peer).or_default();
            *had = least.unwrap_or_default().max(*had);
        }
        let number = self.number;
        self.number += 1;
        if let Some(it) = self.streams.get_mut(&stream) {
            it.waiting.push_back(Waiting { batch, ids, number });
            self.fresh.push((stream, batch));
        }
    }

    /// A peer takes a batch back; whether it had not begun, and is over with that.
    pub(super) fn cancel(&mut self, stream: u64, batch: u32) -> bool {
        let Some(it) = self.streams.get_mut(&stream) else { return false };
        let waiting = it.waiting.len();
        it.waiting.retain(|it| it.batch != batch);
        it.waiting.len() < waiting
    }

    /// So many bytes were read of a batch that has begun.
    pub(super) fn read(&mut self, stream: u64, batch: u32, bytes: u64) {
        let Some(it) = self.streams.get_mut(&stream) else { return };
        if let Some(begun) = it.begun.get_mut(&batch) {
            *begun = Some(bytes);
            it.handed += bytes;
            *self.had.entry(it.peer).or_default() += bytes;
        }
    }

    /// A batch was written, or so much of it until it was taken back.
    pub(super) fn written(&mut self, stream: u64, batch: u32, bytes: u64) {
        let Some(it) = self.streams.get_mut(&stream) else { return };
        if let Some(Some(all)) = it.begun.remove(&batch) {
            it.handed -= all.saturating_sub(bytes);
        }
    }

    /// A peer says how many bytes have come over a stream, modulo 2^32.
    pub(super) fn came(&mut self, stream: u64, bytes: u32, now: Instant) {
        let Some(it) = self.streams.get_mut(&stream) else { return };
        let more = u64::from(bytes.wrapping_sub((it.came & u64::from(u32::MAX)) as u32));
        let more = more.min(it.handed.saturating_sub(it.came));
        if more == 0 {
            return;
        }
        it.came += more;
        let took = now.saturating_duration_since(it.moved_at).max(Duration::from_millis(1));
        let rate = u64::try_from(u128::from(more) * 1_000_000 / took.as_micros()).unwrap_or(u64::MAX);
        it.rate = Some(it.rate.map_or(rate, |before| before / 2 + rate / 2));
        it.moved_at = now;
        self.width.came(more);
    }

    /// A stream has ended.
    pub(super) fn ended(&mut self, stream: u64) {
        let Some(it) = self.streams.remove(&stream) else { return };
        if !self.streams.values().any(|other| other.peer == it.peer) {
            self.had.remove(&it.peer);
        }
    }

    /// Whose turn it is, if there is room for one more.
    pub(super) fn next(&mut self, now: Instant) -> Option<Turn> {
        self.wake_at = None;
        if self.streams.values().all(|it| it.waiting.is_empty()) {
            self.width.idle();
            return None;
        }
        // A single peer that waits waits for others only.
        let mut waiting = self.streams.values().filter(|it| !it.waiting.is_empty()).map(|it| it.peer);
        let first = waiting.next();
        let alone = first.filter(|first| waiting.all(|peer| peer == *first));
        let counts = |it: &&Stream| it.counts(now) && Some(it.peer) != alone;
        let counting = self.streams.values().filter(counts).count();
        if counting >= self.width.most() {
            let again = self.width.full(now);
            if counting >= self.width.most() {
                let patience = self.streams.values().map(Stream::patience).filter(|at| *at > now).min();
                self.wake_at = Some(patience.map_or(again, |at| at.min(again)));
                return None;
            }
        }
        let had = |it: &Stream| self.had.get(&it.peer).copied().unwrap_or_default();
        let may_begin = self.streams.iter().filter(|(_, it)| it.may_begin());
        let least = may_begin.clone().map(|(_, it)| had(it)).min()?;
        let few = may_begin.filter(|(_, it)| had(it) <= least.saturating_add(SLACK_BYTES));
        let batches = few.flat_map(|(stream, it)| it.waiting.iter().map(move |batch| (stream, it, batch)));
        let rank = |(_, it, batch): &(&u64, &Stream, &Waiting)| {
            let is_leaf = batch.ids.iter().all(|id| id.codec() == Codec::Raw);
            (is_leaf, self.times_given(&batch.ids), had(it), batch.number)
        };
        let (stream, number) = batches.min_by_key(rank).map(|(stream, _, batch)| (*stream, batch.number))?;
        let it = self.streams.get_mut(&stream)?;
        let at = it.waiting.iter().position(|batch| batch.number == number)?;
        let Waiting { batch, ids, .. } = it.waiting.remove(at)?;
        if it.handed.saturating_sub(it.came) < TAIL_BYTES_MIN {
            it.moved_at = now;
        }
        it.begun.insert(batch, None);
        let peer = it.peer;
        self.remember(&ids);
        Some(Turn { peer, stream, batch, ids })
    }

    /// What has begun to wait since it was asked last, and does so still.
    pub(super) fn left_waiting(&mut self) -> Vec<(u64, u32)> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.retain(|(stream, batch)| {
            self.streams.get(stream).is_some_and(|it| it.waiting.iter().any(|it| it.batch == *batch))
        });
        fresh
    }

    /// When to look again although nothing was heard.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    fn times_given(&self, ids: &[ContentId]) -> u32 {
        if ids.len() > COUNTED_IDS_MAX {
            return 0;
        }
        ids.iter().filter_map(|id| self.given.get(id)).sum()
    }

    fn remember(&mut self, ids: &[ContentId]) {
        for id in ids.iter().filter(|_| ids.len() <= COUNTED_IDS_MAX) {
            let times = self.given.entry(*id).or_insert_with(|| {
                self.remembered.push_back(*id);
                0
            });
            *times = times.saturating_add(1);
        }
        while self.remembered.len() > GIVEN_MAX
            && let Some(oldest) = self.remembered.pop_front()
        {
            self.given.remove(&oldest);
        }
    }
}

fn bytes_in(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_millis() / 1_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
