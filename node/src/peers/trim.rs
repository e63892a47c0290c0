//! Which connections are closed where there are too many.
//!
//! A hard cap refuses whoever comes last, who may be worth the most. Instead there are two marks: above the higher one the
//! connections of the least value are closed, a few at a time, until there are as many as half-way between the two. A few at
//! a time, because the nodes at the other ends do the same at the same moment: a thousand nodes that close all that is too
//! much at once would each end far below the lower mark. For the same reason nodes agree on which of two connections of the
//! same value goes: [`rank`] is the same number at both ends, and no peer can choose it for all of its connections.
//!
//! Connections younger than [`GRACE`] are not counted: else whoever connects again and again would have the others closed in
//! its place. What bounds them is the hard cap.
//!
//! Three kinds of connection are left alone: the protected ones (bootstrap nodes and hubs, running transfers, the nearest nodes of
//! the DHT and the oldest ones among those that this node dialled, and the gossip mesh as far as all of them stay within the
//! higher mark), those younger than [`GRACE`], which could not show yet what they are worth, and, of those that are left, as many
//! as the lower mark says.
//!
//! Data in, data out: the caller says what it holds, and closes what it is told.

use std::{cmp::Reverse, time::Duration};

use libp2p::PeerId;
use sha2::{Digest, Sha256};

/// A connection younger than this is not closed: Identify, a page of heads and a heartbeat of gossip take seconds.
pub const GRACE: Duration = Duration::from_secs(30);
/// How often the caller should look.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Hubs that a spoke holds on to: one that fails, one that is told to restart meanwhile, and one that is left.
pub const HUBS_KEPT: usize = 3;
/// How long a connection that a spoke does not hold on to may be idle: one that was opened for a transfer, or by a lookup.
pub const VISIT: Duration = Duration::from_secs(15);
/// The nearest connected nodes of the DHT that are protected, of those that the node dialled: as many as a lookup asks at once, twice over.
pub const NEIGHBOURS_KEPT: usize = 8;

/// How many settled connections there should be: those of [`GRACE`] and older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Trimming leaves at least so many.
    pub low: usize,
    /// Above so many it begins.
    pub high: usize,
}

impl Marks {
    /// Those of a spoke, for its hubs.
    pub const SPOKE: Self = Self { low: HUBS_KEPT - 1, high: HUBS_KEPT };

    /// Where trimming ends: half-way, rounded up, so that the next newcomers do not begin it again.
    fn target(self) -> usize {
        self.low + self.high.saturating_sub(self.low).div_ceil(2)
    }

    /// Connections closed at a time.
    fn step(self) -> usize {
        (self.high.saturating_sub(self.low) / 3).max(1)
    }
}

/// A peer that is connected, and what its connection is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The peer.
    pub peer: PeerId,
    /// How long it has been connected.
    pub age: Duration,
    /// What it is worth; the least is closed first.
    pub value: u32,
    /// What decides among equals: [`rank`].
    pub rank: u64,
    /// Whether it must not be closed.
    pub is_protected: bool,
}

/// Whether connections are being trimmed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trim {
    is_under_way: bool,
}

impl Trim {
    /// Whether [`Trim::poll`] could close anything, where at most so many connections are settled.
    pub fn is_due(&self, settled: usize, marks: Marks) -> bool {
        settled > if self.is_under_way { marks.target() } else { marks.high }
    }

    /// Says whom to disconnect now, the least worth first; to be called every [`INTERVAL`].
    pub fn poll(&mut self, held: &[Held], marks: Marks) -> Vec<PeerId> {
        let settled: Vec<&Held> = held.iter().filter(|it| it.age >= GRACE).collect();
        self.is_under_way = self.is_due(settled.len(), marks);
        if !self.is_under_way {
            return Vec::new();
        }
        let excess = settled.len().saturating_sub(marks.target()).min(marks.step());
        let mut candidates: Vec<&Held> = settled.into_iter().filter(|it| !it.is_protected).collect();
        candidates.sort_by_key(|it| (it.value, it.rank, Reverse(it.age), it.peer));
        candidates.into_iter().take(excess).map(|it| it.peer).collect()
    }
}

/// A number that the two ends of a connection agree on, and that is spread evenly.
pub fn rank(one: &PeerId, other: &PeerId) -> u64 {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    let mut hash = Sha256::new();
    hash.update(first.to_bytes());
    hash.update(second.to_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(number)
}

#[cfg(test)]
#[path = "trim_tests.rs"]
mod tests;
