//! What a plan knows of one peer.

use std::{collections::BTreeSet, time::Duration};

use super::{super::swarm::Mark, FAILURES_MAX, pace::Pace};
use crate::{
    content::ContentId,
    limits::{FETCH_SERVED_PER_PEER_MAX, SWARM_MARKS_MAX},
};

/// Blocks that a peer said it has and then does not, before what it says of itself is not believed any more.
const LIES_MAX: u32 = 3;
/// Requests that may wait for their turn with one peer.
pub(super) const WAITING_MAX: usize = 8;

/// A peer, whether it is asked any more or not.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) pace: Pace,
    pub(super) in_flight: u64,
    /// Requests in flight: small blocks fill no window.
    pub(super) requests: usize,
    /// Those of them that wait for their turn there, whose bytes are not in flight.
    pub(super) waiting: usize,
    pub(super) failures: u32,
    /// How often in a row it was busy.
    pub(super) busy: u32,
    pub(super) not_before: Duration,
    /// Whether that is because this node had no room for one more request.
    pub(super) waits_for_room: bool,
    /// When it last answered anything; nothing until it has.
    pub(super) heard: Option<Duration>,
    pub(super) gone: bool,
    /// Gone for what it sent.
    pub(super) barred: bool,
    /// Whether it is on the local network.
    pub(super) is_near: bool,
    /// What it has, where it fetches the tree too: of others, nobody knows what they lack until they were asked.
    has: Option<BTreeSet<Mark>>,
    lies: u32,
    /// As of which change of the queue nothing in it is to be had from this peer.
    pub(super) nothing_at: Option<u64>,
}

impl Peer {
    /// Forgets what was in flight, and that it was lost.
    pub(super) fn begin(&mut self) {
        (self.in_flight, self.requests, self.waiting) = Default::default();
        (self.failures, self.busy, self.nothing_at) = Default::default();
        self.gone = self.barred;
    }

    /// Whether it fetches the tree too.
    pub(super) fn is_partial(&self) -> bool {
        self.has.is_some()
    }

    /// Whether it may have a block, as far as it says.
    pub(super) fn may_have(&self, id: &ContentId) -> bool {
        self.has.as_ref().is_none_or(|has| has.contains(&Mark::of(id)))
    }

    /// Whether it says that it has a block, and is believed.
    pub(super) fn claims(&self, mark: Mark) -> bool {
        self.has.as_ref().is_some_and(|has| has.contains(&mark))
    }

    /// It says that it has a block; whether that is news.
    pub(super) fn told(&mut self, mark: Mark) -> bool {
        let has = self.has.get_or_insert_default();
        self.lies < LIES_MAX && has.len() < SWARM_MARKS_MAX && has.insert(mark)
    }

    /// It says that it fetches the tree too.
    pub(super) fn fetches(&mut self) {
        self.has.get_or_insert_default();
    }

    /// It has not got what it said it has; yields the marks that are not believed any more.
    pub(super) fn lied(&mut self, mark: Mark) -> Vec<Mark> {
        let Some(has) = &mut self.has else { return Vec::new() };
        if !has.remove(&mark) {
            return Vec::new();
        }
        self.lies += 1;
        let mut gone = vec![mark];
        if self.lies >= LIES_MAX {
            gone.extend(std::mem::take(has));
        }
        gone
    }

    /// Whether what it says is not believed.
    pub(super) fn is_liar(&self) -> bool {
        self.lies >= LIES_MAX
    }

    /// Whether it was heard, so that what it is asked for is likely to come.
    pub(super) fn is_proven(&self, now: Duration) -> bool {
        !self.gone && self.heard.is_some() && self.not_before <= now
    }

    pub(super) fn can_be_asked(&self, now: Duration) -> bool {
        let window = self.in_flight == 0 || self.in_flight < self.pace.window;
        // What waits costs nothing, and leaves the choice to the peer.
        let window =
            self.waiting < WAITING_MAX && (window || self.lets_wait() && self.requests < WAITING_MAX);
        let requests = if self.heard.is_none() { 1 } else { FETCH_SERVED_PER_PEER_MAX };
        !self.gone && self.not_before <= now && self.requests < requests && window
    }

    /// Whether what it is asked for waits for its turn: it has more to do than its line carries.
    pub(super) fn lets_wait(&self) -> bool {
        self.waiting > 0
    }

    pub(super) fn room(&self) -> u64 {
        self.pace.window.saturating_sub(self.in_flight)
    }

    /// A failure of its own.
    pub(super) fn fails(&mut self) {
        self.failures += 1;
        self.gone |= self.failures >= FAILURES_MAX;
    }
}
