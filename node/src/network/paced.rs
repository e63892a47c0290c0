//! What one neighbour may say or ask again and again: a pace that it is kept to, and a bound beyond which it is no neighbour any
//! more.
//!
//! Both are token buckets, far above what an honest node needs when it joins or renews all that it holds. What is over the pace costs
//! next to nothing: it is dropped before anything is looked up, and blamed on nobody. What is over the bound is no honest node's:
//! the peer is blocked for a while. Pure: `now` is an argument, and what is remembered is bounded.

use std::collections::BTreeMap;

use libp2p::PeerId;
use tokio::time::Instant;

use super::pace::Budget;
use crate::limits::ANNOUNCERS_MAX;

/// What becomes of one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weighed {
    /// It is looked at.
    Within,
    /// It is dropped.
    Beyond,
    /// It is dropped, and from now on the peer is no neighbour; said once.
    Unbearable,
}

/// What was used of each budget, and at which time.
#[derive(Debug, Clone, Copy)]
struct Used {
    pace: (u32, Instant),
    borne: (u32, Instant),
    is_unbearable: bool,
}

/// One pace and one bound for each peer, or for each of whatever `K` names.
#[derive(Debug)]
pub(super) struct Paced<K = PeerId> {
    pace: Budget,
    borne: Budget,
    used: BTreeMap<K, Used>,
}

impl<K: Copy + Ord> Paced<K> {
    pub(super) const fn new(pace: Budget, borne: Budget) -> Self {
        Self { pace, borne, used: BTreeMap::new() }
    }

    /// Counts one more of a peer.
    pub(super) fn weigh(&mut self, peer: K, now: Instant) -> Weighed {
        self.make_room(peer, now);
        let fresh = Used { pace: (0, now), borne: (0, now), is_unbearable: false };
        let used = self.used.entry(peer).or_insert(fresh);
        if self.borne.refilled(used.borne, now).0 == 0 {
            // It was blocked for its time, and is weighed again like any other.
            used.is_unbearable = false;
        }
        let is_borne = self.borne.spend(&mut used.borne, 1, now);
        if used.is_unbearable {
            return Weighed::Beyond;
        }
        if !is_borne {
            used.is_unbearable = true;
            return Weighed::Unbearable;
        }
        if self.pace.spend(&mut used.pace, 1, now) { Weighed::Within } else { Weighed::Beyond }
    }

    /// Whether what was dropped of a peer may be looked at after all: counts it where it may.
    pub(super) fn catches_up(&mut self, peer: &K, now: Instant) -> bool {
        self.used.get_mut(peer).is_none_or(|used| self.pace.spend(&mut used.pace, 1, now))
    }

    /// Counts what something turned out to cost beyond the one that it was weighed as, also where no more is left: it is owed then.
    pub(super) fn charge(&mut self, peer: &K, more: usize, now: Instant) {
        if let Some(used) = self.used.get_mut(peer) {
            self.pace.owe(&mut used.pace, more, now);
        }
    }

    /// Whether one more would be within the pace; counts nothing.
    pub(super) fn has_left(&self, peer: &K, now: Instant) -> bool {
        self.used.get(peer).is_none_or(|used| self.pace.is_left(used.pace, now))
    }

    /// Forgets those that have their whole budgets again where there is no room for one more, and where all have used something the
    /// peer that used the least. Nobody is forgotten for having left: a peer that comes back would have a new budget.
    fn make_room(&mut self, peer: K, now: Instant) {
        if self.used.len() < ANNOUNCERS_MAX || self.used.contains_key(&peer) {
            return;
        }
        let (pace, borne) = (self.pace, self.borne);
        let of = |it: &Used| (borne.refilled(it.borne, now).0, pace.refilled(it.pace, now).0);
        self.used.retain(|_, it| of(it) != (0, 0));
        if self.used.len() >= ANNOUNCERS_MAX
            && let Some(least) = self.used.iter().min_by_key(|(_, it)| of(it)).map(|(peer, _)| *peer)
        {
            self.used.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn paced() -> Paced {
        Paced::new(Budget::new(4, SECOND), Budget::new(16, SECOND / 4))
    }

    #[test]
    fn what_is_over_the_pace_is_dropped_and_what_is_over_the_bound_ends_the_neighbourhood_once() {
        let (mut paced, peer, now) = (paced(), PeerId::random(), Instant::now());
        let weighed: Vec<Weighed> = (0..20).map(|_| paced.weigh(peer, now)).collect();
        assert!(weighed[..4].iter().all(|it| *it == Weighed::Within));
        assert!(weighed[4..16].iter().all(|it| *it == Weighed::Beyond));
        assert_eq!(weighed[16], Weighed::Unbearable);
        assert!(weighed[17..].iter().all(|it| *it == Weighed::Beyond), "it is said once");
        assert!(
            (1..9).all(|n| paced.weigh(peer, now + SECOND / 4 * n) == Weighed::Beyond),
            "also while it goes on"
        );
        assert_eq!(paced.weigh(PeerId::random(), now), Weighed::Within, "others are not concerned");
        // After its time it has its budgets again, and may lose them again.
        let later = now + 100 * SECOND;
        assert_eq!(paced.weigh(peer, later), Weighed::Within);
        assert!((0..20).any(|_| paced.weigh(peer, later) == Weighed::Unbearable));
    }

    #[test]
    fn a_peer_that_keeps_to_its_pace_is_never_dropped() {
        let (mut paced, peer, now) = (paced(), PeerId::random(), Instant::now());
        for n in 0..1_000 {
            assert_eq!(paced.weigh(peer, now + SECOND * n), Weighed::Within);
        }
    }

    #[test]
    fn what_was_dropped_is_caught_up_with_when_there_is_budget_again() {
        let (mut paced, peer, now) = (paced(), PeerId::random(), Instant::now());
        for _ in 0..5 {
            paced.weigh(peer, now);
        }
        assert!(!paced.catches_up(&peer, now));
        assert!(paced.catches_up(&peer, now + SECOND));
        assert!(!paced.catches_up(&peer, now + SECOND), "it is counted");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_worst_are_remembered_longest() {
        let (mut paced, worst, now) = (paced(), PeerId::random(), Instant::now());
        for _ in 0..16 {
            paced.weigh(worst, now);
        }
        for _ in 0..2 * ANNOUNCERS_MAX {
            paced.weigh(PeerId::random(), now);
        }
        assert_eq!(paced.used.len(), ANNOUNCERS_MAX);
        assert_eq!(paced.weigh(worst, now), Weighed::Unbearable, "it did not get a new budget");
        paced.weigh(PeerId::random(), now + 1_000 * SECOND);
        assert_eq!(paced.used.len(), 1, "who used nothing is forgotten");
    }
}
