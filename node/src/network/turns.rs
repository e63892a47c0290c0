//! Which of those who ask for blocks is given some next.
//!
//! A block is of use to others once it is whole. So few peers are given blocks at once ([`Width`]), one of them a batch at a time, and
//! the others wait for their turn and are told so. Whoever brings a batch home quickly holds nobody up: only what is still on its way
//! counts, beyond what keeps the peer's line busy for a moment. A peer of which hardly anything is heard while it should read does not count
//! either, nor does one that reads far more slowly than others do, and however many read and however slowly, every [`LULL`] somebody else has
//! a turn: who does not read holds nobody up for long.
//!
//! The next one is a peer that was given little, as bytes, whatever it asks for: one with a hundred thousand wants is given as much as
//! one with ten, and to look for a block in vain counts as some bytes too. Among those that were given about as little, and among what one of them waits for, the block is next that was given away least often: so
//! all of a tree leaves this node once before any of it does so twice, as in the super-seeding of
//! [BitTorrent](http://bittorrent.org/beps/bep_0016.html).
//!
//! What is heard of a peer's reading may be a lie: who says too little is given less, and who says too much has its own line full. What
//! waits is bounded in all ([`WAITING_IDS_MAX`]), and so is how often a peer takes back what was read for it. Pure: `now` is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use super::{giving::BEGUN_MAX, pace::Budget, width::Width};
use crate::{
    content::{Codec, ContentId},
    limits::{FETCH_ANSWER_BYTES, FETCH_IDS_MAX},
};

/// What may be on its way to a peer beside what others are given: as much as its line carries in this time, and at least so much.
const TAIL: Duration = Duration::from_millis(150);
const TAIL_BYTES_MIN: u64 = 64 << 10;
/// How long nothing may be heard of a peer that is given something, until others do not wait for it any longer. What keeps them busy is known
/// to take so many times as long.
const PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(8);
const PATIENCE_BYTES: u64 = 256 << 10;
/// So much has to come, or all that there is, until something was heard of a peer's reading: less is as good as nothing.
const HEARD_BYTES: u64 = 64 << 10;
/// A peer that reads so many times more slowly than the fastest one is not waited for: it fills no line.
const SLOWER: u64 = 32;
/// How long nobody's turn may come, as long as somebody waits.
const LULL: Duration = Duration::from_secs(2);
/// What it counts to look for a block that is not there.
const LOOKED_BYTES: u64 = 4 << 10;
/// Wants that may wait; above half of it a peer may have no more than those of one batch.
pub(super) const WAITING_IDS_MAX: usize = 64 << 10;
/// How often a peer may take back what was read for it. One that is given the same by several others does so now and then.
const TAKEN_BACK: Budget = Budget::new(256, Duration::from_millis(30));
/// Peers without a stream of which it is remembered what they had.
const REMEMBERED_MAX: usize = 1_024;
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
    /// Whether there are only leaves in it, which nobody needs to ask for more.
    is_leaf: bool,
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
    /// When something of it was heard, or had to be, and how many bytes came since.
    moved_at: Instant,
    moved: u64,
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

    /// Whether others wait for it, of which the fastest reads so many bytes a second.
    fn counts(&self, fastest: u64, now: Instant) -> bool {
        let is_slow = self.rate.is_some_and(|rate| rate < fastest / SLOWER);
        self.is_busy() && !is_slow && now < self.patience()
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

/// What a peer had.
#[derive(Debug, Default)]
struct Had {
    /// Bytes, and what counts as such.
    bytes: u64,
    /// What was used of [`TAKEN_BACK`].
    taken_back: Option<(u32, Instant)>,
}

/// Who waits, and who is given something.
#[derive(Debug)]
pub(super) struct Turns {
    streams: BTreeMap<u64, Stream>,
    had: BTreeMap<PeerId, Had>,
    given: BTreeMap<ContentId, u32>,
    /// The blocks of `given` in the order in which they came.
    remembered: VecDeque<ContentId>,
    width: Width,
    /// What began to wait since it was looked last.
    fresh: Vec<(u64, u32)>,
    number: u64,
    /// Wants that wait.
    ids: usize,
    /// When somebody's turn came last, or nobody waited.
    turned_at: Option<Instant>,
    wake_at: Option<Instant>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let (streams, had, given, remembered, fresh) = Default::default();
        let (width, ids, turned_at, wake_at) = (Width::new(), 0, None, None);
        Self { streams, had, given, remembered, width, fresh, number: 0, ids, turned_at, wake_at }
    }

    /// A peer opened a stream.
    pub(super) fn opened(&mut self, stream: u64, peer: PeerId, now: Instant) {
        let (waiting, begun, rate) = Default::default();
        let it = Stream { peer, waiting, begun, handed: 0, came: 0, moved_at: now, moved: 0, rate };
        self.streams.insert(stream, it);
    }

    /// A peer asks for a batch; false where it is to come again later.
    pub(super) fn wants(&mut self, stream: u64, batch: u32, ids: Vec<ContentId>, now: Instant) -> bool {
        let active = |it: &Stream| !it.waiting.is_empty() || !it.begun.is_empty();
        let Some(peer) = self.streams.get(&stream).map(|it| it.peer) else { return false };
        if !self.has_room(peer, ids.len(), now) {
            return false;
        }
        if !self.streams.values().any(|it| it.peer == peer && active(it)) {
            // Who comes anew has had as much as the one that had the least: not less, or the others would wait for it alone; and not much
            // more, however much it had before others came.
            let others = self.streams.values().filter(|it| it.peer != peer && active(it));
            let least = others.map(|it| self.bytes_of(&it.peer)).min().unwrap_or_default();
            let had = self.had.entry(peer).or_default();
            had.bytes = had.bytes.clamp(least, least.saturating_add(2 * SLACK_BYTES));
        }
        let number = self.number;
        self.number += 1;
        let is_leaf = ids.iter().all(|id| id.codec() == Codec::Raw);
        if let Some(it) = self.streams.get_mut(&stream) {
            self.ids += ids.len();
            it.waiting.push_back(Waiting { batch, ids, is_leaf, number });
            self.fresh.push((stream, batch));
        }
        true
    }

    /// Whether a peer may ask for so many more.
    fn has_room(&self, peer: PeerId, more: usize, now: Instant) -> bool {
        let taken_back = self.had.get(&peer).and_then(|had| had.taken_back);
        if taken_back.is_some_and(|used| !TAKEN_BACK.has_left(used, now)) {
            return false;
        }
        let of_peer = self.streams.values().filter(|it| it.peer == peer);
        let waiting = of_peer.flat_map(|it| &it.waiting).map(|batch| batch.ids.len()).sum::<usize>();
        self.ids + more <= WAITING_IDS_MAX / 2 || waiting + more <= FETCH_IDS_MAX
    }

    fn bytes_of(&self, peer: &PeerId) -> u64 {
        self.had.get(peer).map_or(0, |had| had.bytes)
    }

    /// A peer takes a batch back; whether it had not begun, and is over with that.
    pub(super) fn cancel(&mut self, stream: u64, batch: u32, now: Instant) -> bool {
        let Some(it) = self.streams.get_mut(&stream) else { return false };
        if let Some(at) = it.waiting.iter().position(|it| it.batch == batch) {
            self.ids -= it.waiting.remove(at).map_or(0, |it| it.ids.len());
            return true;
        }
        if it.begun.contains_key(&batch) {
            let used = self.had.entry(it.peer).or_default().taken_back.get_or_insert((0, now));
            TAKEN_BACK.spend(used, 1, now);
        }
        false
    }

    /// So many bytes were read of a batch that has begun; so many blocks were looked for in vain.
    pub(super) fn read(&mut self, stream: u64, batch: u32, bytes: u64, missing: usize) {
        let Some(it) = self.streams.get_mut(&stream) else { return };
        if let Some(begun) = it.begun.get_mut(&batch) {
            *begun = Some(bytes);
            it.handed += bytes;
            let had = self.had.entry(it.peer).or_default();
            had.bytes = had.bytes.saturating_add(bytes).saturating_add(LOOKED_BYTES * missing as u64);
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
        (it.came, it.moved) = (it.came + more, it.moved + more);
        self.width.came(more);
        if it.moved < HEARD_BYTES && it.came < it.handed {
            return;
        }
        let took = now.saturating_duration_since(it.moved_at).max(Duration::from_millis(1));
        let rate = u64::try_from(u128::from(it.moved) * 1_000_000 / took.as_micros()).unwrap_or(u64::MAX);
        it.rate = Some(it.rate.map_or(rate, |before| before / 2 + rate / 2));
        (it.moved_at, it.moved) = (now, 0);
    }

    /// A stream has ended.
    pub(super) fn ended(&mut self, stream: u64) {
        let Some(it) = self.streams.remove(&stream) else { return };
        self.ids -= it.waiting.iter().map(|batch| batch.ids.len()).sum::<usize>();
        // Who ends a stream and opens another one has had what it had.
        if self.streams.is_empty() || self.had.len() > REMEMBERED_MAX {
            let streams = &self.streams;
            self.had.retain(|peer, _| streams.values().any(|it| it.peer == *peer));
        }
    }

    /// Whose turn it is, if there is room for one more.
    pub(super) fn next(&mut self, now: Instant) -> Option<Turn> {
        self.wake_at = None;
        if self.ids == 0 && self.streams.values().all(|it| it.waiting.is_empty()) {
            self.width.idle();
            self.turned_at = None;
            return None;
        }
        let lull_ends = *self.turned_at.get_or_insert(now) + LULL;
        let lately = self.streams.values().filter(|it| now.saturating_duration_since(it.moved_at) < LULL);
        let fastest = lately.filter_map(|it| it.rate).max().unwrap_or_default();
        // A single peer that waits waits for others only.
        let mut waiting = self.streams.values().filter(|it| !it.waiting.is_empty()).map(|it| it.peer);
        let first = waiting.next();
        let alone = first.filter(|first| waiting.all(|peer| peer == *first));
        let counts = |it: &&Stream| it.counts(fastest, now) && Some(it.peer) != alone;
        let counting = self.streams.values().filter(counts).map(|it| it.peer).collect::<BTreeSet<_>>();
        let mut is_full = counting.len() >= self.width.most();
        if is_full {
            let again = self.width.full(now);
            is_full = counting.len() >= self.width.most();
            if is_full && now < lull_ends {
                self.wake_at = Some(self.patience(now).map_or(again, |at| at.min(again)).min(lull_ends));
                return None;
            }
        }
        let had = |it: &Stream| self.bytes_of(&it.peer);
        // After a lull it is the turn of somebody who did not cause it.
        let may_begin = |it: &Stream| it.may_begin() && !(is_full && counting.contains(&it.peer));
        let may_begin = self.streams.iter().filter(|(_, it)| may_begin(it));
        let Some(least) = may_begin.clone().map(|(_, it)| had(it)).min() else {
            self.wake_at = is_full.then(|| self.patience(now).map_or(now + LULL, |at| at.min(now + LULL)));
            return None;
        };
        let few = may_begin.filter(|(_, it)| had(it) <= least.saturating_add(SLACK_BYTES));
        let batches = few.flat_map(|(stream, it)| it.waiting.iter().map(move |batch| (stream, it, batch)));
        let rank = |(_, it, batch): &(&u64, &Stream, &Waiting)| {
            (batch.is_leaf, self.times_given(&batch.ids), had(it), batch.number)
        };
        let (stream, number) = batches.min_by_key(rank).map(|(stream, _, batch)| (*stream, batch.number))?;
        let it = self.streams.get_mut(&stream)?;
        let at = it.waiting.iter().position(|batch| batch.number == number)?;
        let Waiting { batch, ids, .. } = it.waiting.remove(at)?;
        if it.handed.saturating_sub(it.came) < TAIL_BYTES_MIN {
            (it.moved_at, it.moved) = (now, 0);
        }
        it.begun.insert(batch, None);
        let peer = it.peer;
        self.ids -= ids.len();
        self.turned_at = Some(now);
        self.remember(&ids);
        Some(Turn { peer, stream, batch, ids })
    }

    /// Until when somebody is waited for, at least.
    fn patience(&self, now: Instant) -> Option<Instant> {
        self.streams.values().map(Stream::patience).filter(|at| *at > now).min()
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
