//! Whom to dial when, so that a node finds its way back into the network.
//!
//! A state machine over a list of addresses: those of the configuration, and those of peers of earlier days. What is dialled
//! depends on what the node lacks ([`Need`]). Alone, it tries all of them: those of the configuration with [`Backoff::ENTRANCE`], the
//! others with [`Backoff::EARLIER`]. In company, but without any peer that the configuration names, it tries those of the
//! configuration: what it is connected with may be an island. Otherwise the list is dialled once in [`REFRESH`].
//!
//! Addresses wait on their own: one that hangs delays no other. Attempts are forgotten only after the node lacked nothing for
//! [`SETTLED`], so a peer that takes every connection and drops it at once is not dialled twenty times a second. A peer of the
//! configuration that can be reached and does not keep this node, because it has too many others, is left in peace longer
//! each time. All dials together keep to [`TRIES_PER_MINUTE_MAX`], however long the lists are.
//!
//! `now` is the time since the node started. The caller dials what [`Redial::poll`] gives, reports each outcome with
//! [`Redial::ended`] or hands an address back with [`Redial::put_back`], and polls again at the time given or when it lacks more.

use std::{collections::BTreeSet, time::Duration};

use libp2p::Multiaddr;
use rand::Rng;

use super::{
    Backoff,
    backoff::{Tries, jittered},
    limits::{REDIAL_TARGETS_MAX, REDIALS_AT_ONCE_MAX},
};

/// How often the bootstrap list is dialled by a node that lacks nothing.
pub const REFRESH: Duration = Duration::from_secs(30 * 60);
/// After this long without lacking anything a node has arrived, and failed attempts are forgotten.
pub const SETTLED: Duration = Duration::from_secs(60);
/// After this long with a peer of the configuration, it is forgotten how often those let this node go.
pub const KEPT: Duration = Duration::from_secs(10 * 60);
/// A dial without an outcome after this time is taken as failed: an outcome that got lost must not stop retries.
pub const DIAL_LOST_AFTER: Duration = Duration::from_secs(60);
/// Dials in any minute, of both lists together.
pub const TRIES_PER_MINUTE_MAX: usize = (60 / interval(true).as_secs() + 60 / interval(false).as_secs())
    as usize
    + 2 * TRIES_AT_ONCE_MAX as usize;

/// Dials of either list that may follow each other without a pause.
const TRIES_AT_ONCE_MAX: u32 = 16;
/// How a peer of the configuration is visited again that could be reached, and did not keep this node.
const VISITS: Backoff = Backoff::new(Duration::from_secs(5), REFRESH);

/// Time for one more dial, of the addresses of the configuration or of the others.
const fn interval(is_entrance: bool) -> Duration {
    Duration::from_secs(if is_entrance { 1 } else { 2 })
}

/// What a node lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A peer of the configuration: it has company, and none of those.
    Entrance,
    /// Anybody.
    Company,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// Addresses to dial, in parallel.
    pub dial: Vec<Multiaddr>,
    /// When to poll again, at the latest; none where there is nothing to dial ever.
    pub next: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Target {
    address: Multiaddr,
    /// Whether it stands in the configuration.
    is_entrance: bool,
    attempts: u32,
    /// How often it was reached lately.
    visits: u32,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting(Due),
    Dialling { since: Duration },
}

/// When an address is due, by what is lacked.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    company: Duration,
    entrance: Duration,
    refresh: Duration,
}

/// The addresses that a node holds on to.
#[derive(Debug, Clone, Default)]
pub struct Redial {
    targets: Vec<Target>,
    content_since: Option<Duration>,
    entrances: Tries,
    earlier: Tries,
}

impl Redial {
    /// Takes the addresses of the configuration in order of importance; all of them are due at once.
    pub fn new(entrances: impl IntoIterator<Item = Multiaddr>) -> Self {
        let mut redial = Self::default();
        for address in entrances {
            redial.insert(address, true);
        }
        redial
    }

    /// Adds the address of a peer of earlier days, due at once; one that is there already, or that is one too many, is passed over.
    pub fn add(&mut self, address: Multiaddr) -> bool {
        self.insert(address, false)
    }

    fn insert(&mut self, address: Multiaddr, is_entrance: bool) -> bool {
        let room = self.targets.len() < REDIAL_TARGETS_MAX;
        let fresh = room && !self.targets.iter().any(|target| target.address == address);
        if fresh {
            let state = State::Waiting(Due::default());
            self.targets.push(Target { address, is_entrance, attempts: 0, visits: 0, state });
        }
        fresh
    }

    /// Forgets an address, such as one that another peer answers at.
    pub fn remove(&mut self, address: &Multiaddr) {
        self.targets.retain(|target| target.address != *address);
    }

    /// Notes that dialling `address` ended, and whether somebody was reached; draws the wait before the next time.
    pub fn ended(&mut self, address: &Multiaddr, reached: bool, now: Duration, generator: &mut impl Rng) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.address == *address) {
            target.rest(reached, now, generator);
        }
    }

    /// Takes back an address that [`poll`](Self::poll) gave and that was not dialled: it is due again at `lacking` while
    /// anything is lacked, and at `refresh` otherwise, and no attempt is counted.
    pub fn put_back(&mut self, address: &Multiaddr, lacking: Duration, refresh: Duration) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.address == *address) {
            target.attempts = target.attempts.saturating_sub(1);
            target.state = State::Waiting(Due { company: lacking, entrance: lacking, refresh });
            let tries = if target.is_entrance { &mut self.entrances } else { &mut self.earlier };
            tries.give_back(interval(target.is_entrance));
        }
    }

    /// Says what to dial at `now`.
    pub fn poll(&mut self, now: Duration, need: Need, generator: &mut impl Rng) -> Step {
        self.note_content(now, need);
        for target in &mut self.targets {
            if matches!(target.state, State::Dialling { since } if now.saturating_sub(since) >= DIAL_LOST_AFTER)
            {
                target.rest(false, now, generator);
            }
        }
        let mut step = Step::default();
        let in_progress =
            self.targets.iter().filter(|target| matches!(target.state, State::Dialling { .. })).count();
        let mut slots = REDIALS_AT_ONCE_MAX.saturating_sub(in_progress);
        // The less often an address was tried, the earlier it gets a slot: hanging ones cannot keep the rest out.
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        order.sort_by_key(|at| self.targets[*at].attempts);
        let mut spent: BTreeSet<bool> = BTreeSet::new();
        for at in order {
            let target = &mut self.targets[at];
            let is_due = target.due(need).is_some_and(|due| due <= now);
            if slots == 0 || !is_due || spent.contains(&target.is_entrance) {
                continue;
            }
            let tries = if target.is_entrance { &mut self.entrances } else { &mut self.earlier };
            if !tries.pay(now, interval(target.is_entrance), TRIES_AT_ONCE_MAX) {
                spent.insert(target.is_entrance);
                continue;
            }
            target.state = State::Dialling { since: now };
            target.attempts = target.attempts.saturating_add(1);
            step.dial.push(target.address.clone());
            slots -= 1;
        }
        let next = |target: &Target| {
            let wait = match (slots, spent.contains(&target.is_entrance)) {
                (0, _) => DIAL_LOST_AFTER,
                (_, true) => interval(target.is_entrance),
                _ => Duration::ZERO,
            };
            target.next(need, now, wait)
        };
        step.next = self.targets.iter().map(next).min();
        step
    }

    fn note_content(&mut self, now: Duration, need: Need) {
        if need != Need::Nothing {
            self.content_since = None;
            return;
        }
        let content = now.saturating_sub(*self.content_since.get_or_insert(now));
        for target in &mut self.targets {
            if content >= SETTLED {
                target.attempts = 0;
            }
            if content >= KEPT {
                target.visits = 0;
            }
        }
    }
}

impl Target {
    fn rest(&mut self, reached: bool, now: Duration, generator: &mut impl Rng) {
        let backoff = if self.is_entrance { Backoff::ENTRANCE } else { Backoff::EARLIER };
        let company = now.saturating_add(backoff.wait(self.attempts.max(1), generator));
        self.visits = self.visits.saturating_add(u32::from(reached));
        let entrance = match reached {
            true => now.saturating_add(VISITS.wait(self.visits, generator)),
            false => company,
        };
        let refresh = now.saturating_add(jittered(REFRESH, generator).saturating_add(REFRESH / 4));
        self.state = State::Waiting(Due { company, entrance, refresh });
    }

    fn due(&self, need: Need) -> Option<Duration> {
        match (self.state, need) {
            (State::Waiting(due), Need::Company) => Some(due.company),
            (State::Waiting(due), Need::Entrance) if self.is_entrance => Some(due.entrance),
            (State::Waiting(due), _) => Some(due.refresh),
            (State::Dialling { .. }, _) => None,
        }
    }

    /// When this target may need attention; one that is due and was not dialled waits so much longer.
    fn next(&self, need: Need, now: Duration, wait: Duration) -> Duration {
        match (self.state, self.due(need)) {
            (State::Dialling { since }, _) => since.saturating_add(DIAL_LOST_AFTER),
            (_, Some(due)) if due > now => due,
            _ => now.saturating_add(wait),
        }
    }
}

#[cfg(test)]
#[path = "redial_tests.rs"]
mod tests;
