//! How many announcements are looked at: so many of one author, and so many from one neighbour.
//!
//! Nothing about a valid head says that there are too many of its kind: keys and packages cost nothing. What bounds a flood is
//! that each author has a budget, which is the same at every hop, so that it ends one hop from where it began and takes nothing
//! from anybody else; and that each neighbour has a larger one, for floods whose authors are made up. What is over it is
//! passed over and blamed on nobody: a publisher of many packages is no attacker, and the exchange of heads brings the rest.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::limits::{
    ANNOUNCEMENTS_PER_AUTHOR_MAX, ANNOUNCEMENTS_PER_AUTHOR_REFILL, ANNOUNCEMENTS_PER_NEIGHBOUR_MAX,
    ANNOUNCEMENTS_PER_NEIGHBOUR_REFILL, ANNOUNCERS_MAX,
};

/// The budgets of everybody who announces something.
#[derive(Debug)]
pub(super) struct Pace {
    authors: Budgets,
    neighbours: Budgets,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            authors: Budgets::new(ANNOUNCEMENTS_PER_AUTHOR_MAX, ANNOUNCEMENTS_PER_AUTHOR_REFILL),
            neighbours: Budgets::new(ANNOUNCEMENTS_PER_NEIGHBOUR_MAX, ANNOUNCEMENTS_PER_NEIGHBOUR_REFILL),
        }
    }

    /// Whether one more announcement is to be looked at.
    pub(super) fn admits(&mut self, author: Option<PeerId>, neighbour: PeerId, now: Instant) -> bool {
        // The author first: what is over its budget does not use up that of whoever passed it on.
        author.is_none_or(|author| self.authors.take(author, now)) && self.neighbours.take(neighbour, now)
    }
}

/// One budget a peer.
#[derive(Debug)]
struct Budgets {
    most: u32,
    /// How long it takes until one more is allowed.
    refill: Duration,
    /// What was used of it, and at which time.
    used: BTreeMap<PeerId, (u32, Instant)>,
}

impl Budgets {
    fn new(most: u32, refill: Duration) -> Self {
        Self { most, refill, used: BTreeMap::new() }
    }

    fn take(&mut self, peer: PeerId, now: Instant) -> bool {
        if !self.used.contains_key(&peer) && self.used.len() >= ANNOUNCERS_MAX {
            // Whoever was silent for longest has its whole budget again, or soon.
            let oldest = self.used.iter().min_by_key(|(_, (_, at))| *at).map(|(peer, _)| *peer);
            oldest.map(|peer| self.used.remove(&peer));
        }
        let (used, at) = self.used.entry(peer).or_insert((0, now));
        let passed = now.saturating_duration_since(*at).as_nanos() / self.refill.as_nanos().max(1);
        let refilled = u32::try_from(passed).unwrap_or(u32::MAX);
        if refilled >= *used {
            (*used, *at) = (0, now);
        } else {
            *used -= refilled;
            *at += self.refill * refilled;
        }
        let is_left = *used < self.most;
        *used += u32::from(is_left);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_costs_its_author_and_nobody_else() {
        let mut pace = Pace::new();
        let (flooder, honest, neighbour) = (PeerId::random(), PeerId::random(), PeerId::random());
        let now = Instant::now();
        let taken = (0..10_000).filter(|_| pace.admits(Some(flooder), neighbour, now)).count();
        assert_eq!(taken, ANNOUNCEMENTS_PER_AUTHOR_MAX as usize);
        assert!(pace.admits(Some(honest), neighbour, now), "the neighbour that passes both on is not spent");
        let later = now + ANNOUNCEMENTS_PER_AUTHOR_REFILL * 3;
        let taken = (0..10).filter(|_| pace.admits(Some(flooder), neighbour, later)).count();
        assert_eq!(taken, 3, "the budget comes back as time passes");
        let long_after = now + ANNOUNCEMENTS_PER_AUTHOR_REFILL * 1_000_000;
        let taken = (0..10_000).filter(|_| pace.admits(Some(flooder), honest, long_after)).count();
        assert_eq!(taken, ANNOUNCEMENTS_PER_AUTHOR_MAX as usize, "and no more than the whole of it");
    }

    #[test]
    fn authors_that_are_made_up_are_bounded_by_who_passes_them_on() {
        let mut pace = Pace::new();
        let (neighbour, other) = (PeerId::random(), PeerId::random());
        let now = Instant::now();
        let taken = (0..10_000).filter(|_| pace.admits(Some(PeerId::random()), neighbour, now)).count();
        assert_eq!(taken, ANNOUNCEMENTS_PER_NEIGHBOUR_MAX as usize);
        assert!(pace.admits(Some(PeerId::random()), other, now));
        assert!(pace.authors.used.len() <= ANNOUNCERS_MAX, "what is remembered is bounded");
    }
}
