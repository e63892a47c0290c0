//! Whom to dial again of those whose connections broke, so that the two sides of a healed partition find each other.
//!
//! A connection that broke without a goodbye says nothing about the peer behind it: the network between may be down. Such a
//! peer is dialled again with growing waits ([`Backoff`] with jitter, at most [`WAIT_MAX`]), on both sides, whatever became of
//! the try before: one that began while the network was down may hang for long. The first of them that comes back is a sign
//! that the others can be reached too, and hurries them, if it was no passer-by: see [`KNOWN`].
//!
//! Nobody is stormed: all tries together keep to [`TRIES_PER_MINUTE_MAX`]. Nobody is held permanently: after [`FRESH`] the waits
//! grow to [`STALE_WAIT_MAX`], and after [`KEPT`] or [`KEPT_OF_OLD_FRIENDS`] a peer is forgotten; the address book still has
//! it. A peer that took its leave, or that we sent away, is not dialled at all: see [`Closed`].
//!
//! `now` is the time since the node started. The caller dials what [`Lost::poll`] gives, and reports every first connection
//! and every last one that closed.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};
use rand::Rng;

use super::{
    Backoff,
    backoff::{Tries, jittered},
    limits::{LOST_MAX, REDIALS_AT_ONCE_MAX},
};

/// The longest wait between two tries of a peer that was lost lately.
pub const WAIT_MAX: Duration = Duration::from_secs(30);
/// The longest wait between two tries of one that has been away for [`FRESH`].
pub const STALE_WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// How long a peer counts as lost lately: longer than most of what is repaired at all.
pub const FRESH: Duration = Duration::from_secs(20 * 60);
/// How long a peer that is away is remembered.
pub const KEPT: Duration = Duration::from_secs(3600);
/// How long one is remembered that was connected for [`OLD_FRIEND`].
pub const KEPT_OF_OLD_FRIENDS: Duration = Duration::from_secs(6 * 3600);
/// Only the return of a peer that was connected this long hurries the others: whoever comes and goes on purpose does not.
pub const KNOWN: Duration = Duration::from_secs(30);
/// After this long a connection says something about the peer, which is then dialled before others.
pub const OLD_FRIEND: Duration = Duration::from_secs(10 * 60);
/// A connection that did not stand this long is no loss.
pub const BRIEF: Duration = Duration::from_secs(5);
/// After this long a peer is back, and its tries are forgotten.
pub const SETTLED: Duration = Duration::from_secs(60);
/// Within this time after one came back, the others are tried.
pub const HURRY: Duration = Duration::from_secs(3);
/// Tries of all peers in any minute: one in `TRY_INTERVAL`, and `TRIES_AT_ONCE_MAX` at once after a while without.
pub const TRIES_PER_MINUTE_MAX: usize = 40;

/// Time for one more try.
const TRY_INTERVAL: Duration = Duration::from_secs(2);
/// Tries that may follow each other without a pause.
const TRIES_AT_ONCE_MAX: u32 = 10;
/// The first wait; half of it is drawn, so that two sides do not dial at the same moment again and again.
const WAIT_FIRST: Duration = Duration::from_secs(1);

const _: () = assert!(TRIES_AT_ONCE_MAX as u64 + 60 / TRY_INTERVAL.as_secs() <= TRIES_PER_MINUTE_MAX as u64);
const _: () = assert!(TRIES_AT_ONCE_MAX as usize <= REDIALS_AT_ONCE_MAX);

/// How the last connection with a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// This node closed it, and meant to: it is idle, one too many, refused, or the user asked for it.
    OnPurpose,
    /// The peer closed it in good order.
    Goodbye,
    /// It broke, or the peer answered no more.
    Broken,
}

/// A peer that was connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it may be dialled, the best first.
    pub addresses: Vec<Multiaddr>,
    /// How long it was connected.
    pub lasted: Duration,
}

#[derive(Debug, Clone)]
struct Entry {
    neighbour: Neighbour,
    lost_at: Duration,
    tries: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Away { due: Duration },
    Back { since: Duration },
}

/// The peers whose connections broke.
#[derive(Debug, Clone, Default)]
pub struct Lost {
    entries: BTreeMap<PeerId, Entry>,
    /// At one in [`TRY_INTERVAL`].
    tries: Tries,
}

impl Lost {
    /// Notes that a peer is connected, whoever dialled; yields how long it was away, where its connection had broken.
    pub fn connected(&mut self, peer: &PeerId, now: Duration, generator: &mut impl Rng) -> Option<Duration> {
        let entry = self.entries.get_mut(peer)?;
        if matches!(entry.state, State::Back { .. }) {
            return None;
        }
        entry.state = State::Back { since: now };
        let away = now.saturating_sub(entry.lost_at);
        if entry.neighbour.lasted < KNOWN {
            return Some(away);
        }
        self.hurry(now, generator);
        Some(away)
    }

    /// Has all that are away tried within [`HURRY`].
    pub fn hurry(&mut self, now: Duration, generator: &mut impl Rng) {
        for entry in self.entries.values_mut() {
            // Only those that have been tried in vain: the others are tried soon anyway.
            if let State::Away { due } = &mut entry.state
                && *due > now.saturating_add(HURRY)
            {
                *due = now.saturating_add(jittered(HURRY, generator));
            }
        }
    }

    /// Notes that the last connection with a peer closed.
    pub fn closed(
        &mut self,
        peer: PeerId,
        how: Closed,
        neighbour: Neighbour,
        now: Duration,
        generator: &mut impl Rng,
    ) {
        let before = self.entries.remove(&peer);
        if how != Closed::Broken || neighbour.addresses.is_empty() {
            return;
        }
        let unsettled = before.filter(|entry| match entry.state {
            State::Back { since } => now.saturating_sub(since) < SETTLED,
            State::Away { .. } => true,
        });
        let entry = match unsettled {
            // It only showed itself: its waits go on growing, and the time until it is forgotten goes on running.
            Some(entry) => {
                let due = now.saturating_add(entry.wait(now, generator));
                let lasted = entry.neighbour.lasted.max(neighbour.lasted);
                Entry { neighbour: Neighbour { lasted, ..neighbour }, state: State::Away { due }, ..entry }
            }
            None if neighbour.lasted < BRIEF => return,
            None => {
                let due = now.saturating_add(jittered(WAIT_FIRST, generator));
                Entry { neighbour, lost_at: now, tries: 0, state: State::Away { due } }
            }
        };
        self.entries.insert(peer, entry);
        if self.entries.len() > LOST_MAX {
            let least = self.entries.iter().min_by_key(|(_, entry)| (entry.neighbour.lasted, entry.lost_at));
            if let Some(least) = least.map(|(peer, _)| *peer) {
                self.entries.remove(&least);
            }
        }
    }

    /// Forgets a peer that this node wants nothing of any more.
    pub fn let_go(&mut self, peer: &PeerId) {
        self.entries.remove(peer);
    }

    /// Forgets an address at which another peer answered.
    pub fn belongs_to_another(&mut self, peer: &PeerId, address: &Multiaddr) {
        let Some(entry) = self.entries.get_mut(peer) else { return };
        entry.neighbour.addresses.retain(|it| it != address);
        if entry.neighbour.addresses.is_empty() {
            self.entries.remove(peer);
        }
    }

    /// Peers that are away and not yet forgotten.
    pub fn away(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.state, State::Away { .. })).count()
    }

    /// Says whom to dial at `now`.
    pub fn poll(&mut self, now: Duration, generator: &mut impl Rng) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.entries.retain(|_, entry| !entry.is_over(now));
        let mut due: Vec<(Reverse<bool>, u32, Duration, PeerId)> = self
            .entries
            .iter()
            .filter_map(|(peer, entry)| match entry.state {
                State::Away { due } if due <= now => {
                    Some((Reverse(entry.is_old_friend()), entry.tries, due, *peer))
                }
                _ => None,
            })
            .collect();
        // Old friends first: strangers that come and break off use up the tries of nobody. Among equals, the less often one
        // was tried, the earlier its turn: those that are gone keep no others out.
        due.sort_unstable();
        let mut dial = Vec::new();
        for (_, _, _, peer) in due {
            if !self.tries.pay(now, TRY_INTERVAL, TRIES_AT_ONCE_MAX) {
                break;
            }
            if let Some(entry) = self.entries.get_mut(&peer) {
                entry.tries = entry.tries.saturating_add(1);
                entry.state = State::Away { due: now.saturating_add(entry.wait(now, generator)) };
                dial.push((peer, entry.neighbour.addresses.clone()));
            }
        }
        dial
    }
}

impl Entry {
    fn wait(&self, now: Duration, generator: &mut impl Rng) -> Duration {
        let is_fresh = now.saturating_sub(self.lost_at) < FRESH;
        let longest = if is_fresh { WAIT_MAX } else { STALE_WAIT_MAX };
        Backoff::new(WAIT_FIRST, longest).wait(self.tries.max(1), generator)
    }

    fn is_old_friend(&self) -> bool {
        self.neighbour.lasted >= OLD_FRIEND
    }

    fn is_over(&self, now: Duration) -> bool {
        match self.state {
            State::Back { since } => now.saturating_sub(since) >= SETTLED,
            State::Away { .. } => {
                let kept = if self.is_old_friend() { KEPT_OF_OLD_FRIENDS } else { KEPT };
                now.saturating_sub(self.lost_at) >= kept
            }
        }
    }
}

#[cfg(test)]
#[path = "lost_tests.rs"]
mod tests;
