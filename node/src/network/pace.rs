//! How many announcements are looked at: so many of one author, so many from one neighbour, and so many in all; how often one peer is
//! a new listener; and how many proofs against publishers this node passes on.
//!
//! Nothing about a valid head says that there are too many of its kind: keys and packages cost nothing. What bounds a flood is
//! that each author has a budget, which is the same at every hop, so that it ends one hop from where it began and takes nothing
//! from anybody else; and that each neighbour has a larger one, for floods whose authors are made up. All together have one that
//! is larger still: it is what this node passes on at most, and so the bound of its own processor. What is over it is
//! passed over and blamed on nobody: a publisher of many packages is no attacker, and the exchange of heads brings the rest.
//! Who sends more than any honest node would, `gossip` sends away.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::limits::{
    ANNOUNCEMENTS_MAX, ANNOUNCEMENTS_PER_AUTHOR_MAX, ANNOUNCEMENTS_PER_AUTHOR_REFILL,
    ANNOUNCEMENTS_PER_NEIGHBOUR_MAX, ANNOUNCEMENTS_PER_NEIGHBOUR_REFILL, ANNOUNCEMENTS_REFILL,
    ANNOUNCERS_MAX, LISTENER_PER_PEER_MAX, LISTENER_PER_PEER_REFILL, PROOFS_ANNOUNCED_MAX,
    PROOFS_ANNOUNCED_REFILL,
};

/// The budgets of everybody who announces something.
#[derive(Debug)]
pub(super) struct Pace {
    authors: Budgets,
    neighbours: Budgets,
    /// What was used of the budget of all, and at which time.
    all: Option<(u32, Instant)>,
    listeners: Budgets,
    proofs: Budgets,
}

/// What all announcements together may use.
const ALL: Budget = Budget::new(ANNOUNCEMENTS_MAX, ANNOUNCEMENTS_REFILL);

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            authors: Budgets::new(ANNOUNCEMENTS_PER_AUTHOR_MAX, ANNOUNCEMENTS_PER_AUTHOR_REFILL),
            neighbours: Budgets::new(ANNOUNCEMENTS_PER_NEIGHBOUR_MAX, ANNOUNCEMENTS_PER_NEIGHBOUR_REFILL),
            all: None,
            listeners: Budgets::new(LISTENER_PER_PEER_MAX, LISTENER_PER_PEER_REFILL),
            proofs: Budgets::new(PROOFS_ANNOUNCED_MAX, PROOFS_ANNOUNCED_REFILL),
        }
    }

    /// Whether a peer that listens to the topic is one more to tell of our packages: a peer that comes and goes again and again has
    /// nobody look into the database each time.
    pub(super) fn admits_listener(&mut self, peer: PeerId, now: Instant) -> bool {
        self.listeners.take(peer, now)
    }

    /// Whether `local`, this node, passes on one more proof against a publisher: what it announces of others must leave it its
    /// budget with all others for what it announces of its own.
    pub(super) fn admits_proof(&mut self, local: PeerId, now: Instant) -> bool {
        self.proofs.take(local, now)
    }

    /// Whether one more announcement is to be looked at.
    pub(super) fn admits(&mut self, author: Option<PeerId>, neighbour: PeerId, now: Instant) -> bool {
        // What is over its author's budget does not use up that of whoever passed it on. A neighbour that has nothing left
        // names no new authors either: there is room for so many only. Of what all may use, the second half is for those who
        // have not used up half of their own: otherwise four neighbours could silence everybody else.
        let used = self.all.map_or(0, |all| ALL.refilled(all, now).0);
        let is_crowded = used >= ALL.most / 2;
        self.neighbours.has_left(neighbour, now)
            && used < ALL.most
            && (!is_crowded || self.neighbours.is_half_left(neighbour, now))
            && author.is_none_or(|author| self.authors.take(author, now))
            && self.neighbours.take(neighbour, now)
            && ALL.spend(self.all.get_or_insert((0, now)), 1, now)
    }
}

/// So many at once, and one more each time that `refill` has passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    most: u32,
    refill: Duration,
}

impl Budget {
    pub(super) const fn new(most: u32, refill: Duration) -> Self {
        Self { most, refill }
    }

    /// One that nothing uses up.
    pub(super) const fn unbounded() -> Self {
        Self::new(u32::MAX, Duration::from_nanos(1))
    }

    /// So many of it in one.
    pub(super) fn times(self, count: u32) -> Self {
        Self { most: self.most.saturating_mul(count), refill: self.refill / count.max(1) }
    }

    /// Uses `count` of it, where that much is left; what is left is gone where it is not.
    pub(super) fn spend(self, used: &mut (u32, Instant), count: usize, now: Instant) -> bool {
        let (before, at) = self.refilled(*used, now);
        let after = u32::try_from(count).ok().and_then(|count| before.checked_add(count));
        let is_left = after.is_some_and(|after| after <= self.most);
        *used = (after.unwrap_or(self.most).min(self.most).max(before), at);
        is_left
    }

    /// Whether anything is left of it; notes nothing.
    pub(super) fn has_left(self, used: (u32, Instant), now: Instant) -> bool {
        self.refilled(used, now).0 < self.most
    }

    /// Uses `count` of it whether that much is left or not: what is owed comes back first.
    pub(super) fn owe(self, used: &mut (u32, Instant), count: usize, now: Instant) {
        let (before, at) = self.refilled(*used, now);
        *used = (before.saturating_add(u32::try_from(count).unwrap_or(u32::MAX)), at);
    }

    /// Whether anything is left of it.
    pub(super) fn is_left(self, used: (u32, Instant), now: Instant) -> bool {
        self.refilled(used, now).0 < self.most
    }

    /// What is used of a budget by now, and the time up to which its refill is counted.
    pub(super) fn refilled(self, (used, at): (u32, Instant), now: Instant) -> (u32, Instant) {
        let passed = now.saturating_duration_since(at).as_nanos() / self.refill.as_nanos().max(1);
        let refilled = u32::try_from(passed).unwrap_or(u32::MAX);
        if refilled >= used { (0, now) } else { (used - refilled, at + self.refill * refilled) }
    }
}

/// One budget a peer.
#[derive(Debug)]
struct Budgets {
    each: Budget,
    /// What was used of it, and at which time.
    used: BTreeMap<PeerId, (u32, Instant)>,
}

impl Budgets {
    fn new(most: u32, refill: Duration) -> Self {
        Self { each: Budget::new(most, refill), used: BTreeMap::new() }
    }

    fn take(&mut self, peer: PeerId, now: Instant) -> bool {
        let before = self.used.get(&peer).copied();
        if before.is_none() && !self.make_room(now) {
            return false;
        }
        let mut used = before.unwrap_or((0, now));
        let is_left = self.each.spend(&mut used, 1, now);
        self.used.insert(peer, used);
        is_left
    }

    /// Whether [`Budgets::take`] would give something; notes nothing.
    fn has_left(&self, peer: PeerId, now: Instant) -> bool {
        self.used.get(&peer).is_none_or(|it| self.each.has_left(*it, now))
    }

    /// Whether half of a budget is left; notes nothing.
    fn is_half_left(&self, peer: PeerId, now: Instant) -> bool {
        self.used.get(&peer).is_none_or(|it| self.each.refilled(*it, now).0 <= self.each.most / 2)
    }

    /// Forgets those that have their whole budget again, where there is no room for one more. Nobody else is forgotten: a
    /// flood under many names would give its authors new budgets so.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.used.len() >= ANNOUNCERS_MAX {
            let kept = |it: &(u32, Instant)| self.each.refilled(*it, now).0 > 0;
            let gone: Vec<PeerId> =
                self.used.iter().filter(|(_, it)| !kept(it)).map(|(peer, _)| *peer).collect();
            for peer in gone {
                self.used.remove(&peer);
            }
        }
        self.used.len() < ANNOUNCERS_MAX
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
    fn a_listener_that_comes_and_goes_is_news_a_few_times() {
        let mut pace = Pace::new();
        let (fickle, now) = (PeerId::random(), Instant::now());
        let taken = (0..10_000).filter(|_| pace.admits_listener(fickle, now)).count();
        assert_eq!(taken, LISTENER_PER_PEER_MAX as usize);
        assert!(pace.admits_listener(PeerId::random(), now) && pace.admits(None, fickle, now));
        assert!(pace.admits_listener(fickle, now + LISTENER_PER_PEER_REFILL));
    }

    #[test]
    fn authors_that_are_made_up_are_bounded_by_who_passes_them_on() {
        let mut pace = Pace::new();
        let (neighbour, other) = (PeerId::random(), PeerId::random());
        let now = Instant::now();
        let taken = (0..10_000).filter(|_| pace.admits(Some(PeerId::random()), neighbour, now)).count();
        assert_eq!(taken, ANNOUNCEMENTS_PER_NEIGHBOUR_MAX as usize);
        assert!(pace.admits(Some(PeerId::random()), other, now));
        let authors = pace.authors.used.len();
        assert_eq!(
            authors,
            ANNOUNCEMENTS_PER_NEIGHBOUR_MAX as usize + 1,
            "what is not looked at names no author"
        );
    }

    #[test]
    fn floods_of_many_neighbours_are_bounded_together() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        let neighbours: Vec<PeerId> = (0..20).map(|_| PeerId::random()).collect();
        let mut taken_at = |now| {
            let mut taken = 0;
            for n in 0..neighbours.len() * ANNOUNCEMENTS_PER_NEIGHBOUR_MAX as usize {
                let neighbour = neighbours[n % neighbours.len()];
                taken += usize::from(pace.admits(None, neighbour, now));
            }
            taken
        };
        assert_eq!(taken_at(now), ANNOUNCEMENTS_MAX as usize);
        assert_eq!(taken_at(now + ANNOUNCEMENTS_REFILL * 7), 7, "the budget comes back as time passes");
    }

    #[test]
    fn a_few_neighbours_cannot_silence_the_others() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        let flooders: Vec<PeerId> = (0..4).map(|_| PeerId::random()).collect();
        for n in 0..=2 * ANNOUNCEMENTS_MAX {
            // All that they may, for a while.
            let at = now + ANNOUNCEMENTS_REFILL * n;
            for flooder in &flooders {
                pace.admits(None, *flooder, at);
            }
        }
        let after = now + ANNOUNCEMENTS_REFILL * (2 * ANNOUNCEMENTS_MAX);
        let honest = PeerId::random();
        let taken = (0..100).filter(|_| pace.admits(None, honest, after)).count();
        assert_eq!(taken, 100);
    }

    #[test]
    fn a_flood_under_many_names_gives_nobody_a_new_budget() {
        let mut pace = Pace::new();
        let (flooder, now) = (PeerId::random(), Instant::now());
        while pace.admits(Some(flooder), PeerId::random(), now) {}
        for _ in 0..ANNOUNCERS_MAX {
            pace.authors.take(PeerId::random(), now);
        }
        assert!(!pace.admits(Some(flooder), PeerId::random(), now), "what it used is not forgotten");
        assert_eq!(pace.authors.used.len(), ANNOUNCERS_MAX, "what is remembered is bounded");
        assert!(!pace.admits(Some(PeerId::random()), PeerId::random(), now), "there is no room");
        let later = now + ANNOUNCEMENTS_PER_AUTHOR_REFILL;
        assert!(pace.admits(Some(PeerId::random()), PeerId::random(), later), "and there is again");
    }
}
