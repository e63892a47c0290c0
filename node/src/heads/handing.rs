//! Handing a record to the nodes that are to hold it: to whom, how long to wait for whom, and when it is over.
//!
//! A [`Lookup`](super::lookup::Lookup) has found the peers that are nearest to the key. The nearest [`HOLDERS`] of them are given the
//! record at once; for each that is dead, refuses, or is slow, the next one is. It is told what happened ([`Handing::handle`]), says what
//! to do ([`Handing::poll`]), and when it wants to be asked again at the latest. `now` is an argument.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use super::{moves::HOLDERS, patience::Patience};

/// Peers that are tried at most: where four of five have died.
pub const TRIED_MAX: u32 = 100;
/// The least after which a peer that has not answered counts as slow: a dial and a question between continents.
const SLOW_MIN: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A peer took it.
    Taken(PeerId),
    /// A peer was not reached, refused it, or did not answer in time.
    Failed(PeerId),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Give it to this peer, and poll again.
    Give(PeerId),
    /// Wait for an event, and poll again at this time at the latest.
    Wait(Instant),
    /// It is over.
    Over,
}

/// A record on its way to those who are to hold it.
#[derive(Debug)]
pub struct Handing {
    left: VecDeque<PeerId>,
    /// Who was given it and has not said anything, since when.
    given: BTreeMap<PeerId, Instant>,
    taken: u32,
    failed: u32,
    tried: u32,
    longest: Duration,
    patience: Patience,
    deadline: Instant,
}

impl Handing {
    /// It goes to these peers, the nearest first, and is over at `deadline`.
    pub fn new(nearest: impl IntoIterator<Item = PeerId>, now: Instant, deadline: Instant) -> Self {
        Self {
            left: nearest.into_iter().take(TRIED_MAX as usize).collect(),
            given: BTreeMap::new(),
            taken: 0,
            failed: 0,
            tried: 0,
            longest: Duration::ZERO,
            patience: Patience::new(now),
            deadline,
        }
    }

    /// How many took it.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// How many did not.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// How many were given it.
    pub fn tried(&self) -> u32 {
        self.tried
    }

    /// Whether an answer of this peer is waited for.
    pub fn awaits(&self, peer: &PeerId) -> bool {
        self.given.contains_key(peer)
    }

    /// Notes what happened.
    pub fn handle(&mut self, event: Event, now: Instant) {
        let (Event::Taken(peer) | Event::Failed(peer)) = event;
        let Some(at) = self.given.remove(&peer) else { return };
        match event {
            Event::Taken(_) => {
                self.taken += 1;
                self.longest = self.longest.max(now.saturating_duration_since(at));
            }
            Event::Failed(_) => self.failed += 1,
        }
    }

    /// Says what to do now.
    pub fn poll(&mut self, now: Instant) -> Step {
        let slow_after = SLOW_MIN.max(2 * self.longest);
        let counted = self.given.values().filter(|at| now < **at + slow_after).count();
        // Who was given it a moment ago has time to take it, however long ago the last one did.
        let may_end = self.left.is_empty() && counted == 0;
        let is_over = self.patience.is_over(self.taken, may_end, now);
        if self.taken as usize >= HOLDERS || now >= self.deadline || is_over {
            return Step::Over;
        }
        if self.taken as usize + counted < HOLDERS
            && let Some(peer) = self.left.pop_front()
        {
            self.given.insert(peer, now);
            self.tried += 1;
            return Step::Give(peer);
        }
        if self.given.is_empty() {
            return Step::Over;
        }
        let slow = self.given.values().map(|at| *at + slow_after).filter(|slow| *slow > now);
        let over = self.patience.over_at().filter(|_| may_end);
        Step::Wait(slow.chain(over).fold(self.deadline, Instant::min))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What becomes of it with each peer: taken after so many milliseconds, failed after so many, or nothing ever.
    type Fate = Option<(bool, u64)>;

    /// Hands something to peers with these fates; yields how many took it, were tried, and how long it took.
    fn hand(fates: &[Fate], time: Duration) -> (u32, u32, Duration) {
        let peers: Vec<PeerId> = fates.iter().map(|_| PeerId::random()).collect();
        let start = Instant::now();
        let mut handing = Handing::new(peers.clone(), start, start + time);
        let (mut now, mut coming) = (start, Vec::new());
        loop {
            match handing.poll(now) {
                Step::Give(peer) => {
                    let at = peers.iter().position(|it| *it == peer).unwrap();
                    if let Some((takes, after)) = fates[at] {
                        let event = if takes { Event::Taken(peer) } else { Event::Failed(peer) };
                        coming.push((now + Duration::from_millis(after), event));
                    }
                }
                Step::Wait(until) => {
                    assert!(until > now, "time goes on");
                    coming.sort_by_key(|(at, _)| *at);
                    now = match coming.first() {
                        Some((at, _)) if *at <= until => {
                            let (at, event) = coming.remove(0);
                            handing.handle(event, at.max(now));
                            at.max(now)
                        }
                        _ => until,
                    };
                }
                Step::Over => return (handing.taken(), handing.tried(), now - start),
            }
        }
    }

    #[test]
    fn the_twenty_nearest_get_it_and_nobody_else() {
        assert_eq!(hand(&[Some((true, 100)); 60], 60 * SECOND), (20, 20, SECOND / 10));
        assert_eq!(hand(&[Some((true, 100)); 7], 60 * SECOND), (7, 7, SECOND / 10));
        assert_eq!(hand(&[], SECOND), (0, 0, Duration::ZERO));
    }

    #[test]
    fn for_each_that_fails_or_is_slow_the_next_one_gets_it() {
        let mut fates = vec![Some((true, 100)); 60];
        fates[..5].fill(Some((false, 50)));
        fates[5..10].fill(None);
        let (taken, tried, took) = hand(&fates, 60 * SECOND);
        assert_eq!((taken, tried), (20, 30));
        assert!(took <= 2 * SECOND, "{took:?}");
    }

    #[test]
    fn the_silent_are_left_where_nobody_else_is_to_be_tried() {
        let mut fates = vec![Some((true, 100)); 12];
        fates[3] = None;
        let (taken, _, took) = hand(&fates, 60 * SECOND);
        assert_eq!(taken, 11);
        assert!(took <= 3 * SECOND, "{took:?}");
        assert_eq!(
            hand(&[None; 3], 10 * SECOND),
            (0, 3, 10 * SECOND),
            "nobody has answered: they are waited for"
        );
    }

    proptest! {
        #[test]
        fn it_ends_in_its_time_and_nobody_who_would_take_it_is_passed_by(
            fates in prop::collection::vec(prop::option::of((any::<bool>(), 1u64..900)), 0..120),
            secs in 1u32..60,
        ) {
            let (taken, tried, took) = hand(&fates, secs * SECOND);
            prop_assert!(took <= secs * SECOND);
            prop_assert!(taken <= tried && tried <= TRIED_MAX);
            let would = fates.iter().take(TRIED_MAX as usize).filter(|it| matches!(it, Some((true, _)))).count();
            if secs >= 30 {
                prop_assert_eq!(taken as usize, would.min(HOLDERS));
            }
        }
    }
}
