//! Whom to dial when, so that a node finds its way back into the network.
//!
//! A state machine over a list of addresses, bootstrap ones first. While the routing table is empty each address is tried
//! again with [`Backoff::ALONE`]; otherwise all of them once in [`REFRESH`]. Addresses wait on their own: one that hangs
//! delays no other. Attempts are forgotten only after the node had company for [`SETTLED`], so a peer that takes every
//! connection and drops it at once is not dialled twenty times a second.
//!
//! `now` is the time since the node started. The caller dials what [`Redial::poll`] gives, reports each outcome with
//! [`Redial::ended`] or hands an address back with [`Redial::put_back`], and polls again at the time given or when the routing table becomes empty.

use std::time::Duration;

use libp2p::Multiaddr;
use rand::Rng;

use super::{
    Backoff,
    backoff::jittered,
    limits::{REDIAL_TARGETS_MAX, REDIALS_AT_ONCE_MAX},
};

/// How often the bootstrap list is dialled by a node that has peers.
pub const REFRESH: Duration = Duration::from_secs(30 * 60);
/// After this long with peers a node has arrived, and failed attempts are forgotten.
pub const SETTLED: Duration = Duration::from_secs(60);
/// A dial without an outcome after this time is taken as failed: an outcome that got lost must not stop retries.
pub const DIAL_LOST_AFTER: Duration = Duration::from_secs(60);

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
    attempts: u32,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Due at the first moment while alone, at the second otherwise.
    Waiting {
        alone: Duration,
        refresh: Duration,
    },
    Dialling {
        since: Duration,
    },
}

/// The addresses that a node holds on to.
#[derive(Debug, Clone, Default)]
pub struct Redial {
    targets: Vec<Target>,
    company_since: Option<Duration>,
}

impl Redial {
    /// Takes the addresses in order of importance; all of them are due at once.
    pub fn new(addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        let mut redial = Self::default();
        for address in addresses {
            redial.add(address);
        }
        redial
    }

    /// Adds an address, due at once; one that is there already, or that is one too many, is passed over.
    pub fn add(&mut self, address: Multiaddr) -> bool {
        let room = self.targets.len() < REDIAL_TARGETS_MAX;
        let fresh = room && !self.targets.iter().any(|target| target.address == address);
        if fresh {
            let state = State::Waiting { alone: Duration::ZERO, refresh: Duration::ZERO };
            self.targets.push(Target { address, attempts: 0, state });
        }
        fresh
    }

    /// Forgets an address, such as one that another peer answers at.
    pub fn remove(&mut self, address: &Multiaddr) {
        self.targets.retain(|target| target.address != *address);
    }

    /// Notes that dialling `address` ended, well or not, and draws the wait before the next time.
    pub fn ended(&mut self, address: &Multiaddr, now: Duration, generator: &mut impl Rng) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.address == *address) {
            target.rest(now, generator);
        }
    }

    /// Takes back an address that [`poll`](Self::poll) gave and that was not dialled: it is due again at `alone` while the
    /// routing table is empty, and at `refresh` otherwise, and no attempt is counted.
    pub fn put_back(&mut self, address: &Multiaddr, alone: Duration, refresh: Duration) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.address == *address) {
            target.attempts = target.attempts.saturating_sub(1);
            target.state = State::Waiting { alone, refresh };
        }
    }

    /// Says what to dial at `now`; `alone` is whether the routing table is empty.
    pub fn poll(&mut self, now: Duration, alone: bool, generator: &mut impl Rng) -> Step {
        self.note_company(now, alone);
        for target in &mut self.targets {
            if matches!(target.state, State::Dialling { since } if now.saturating_sub(since) >= DIAL_LOST_AFTER)
            {
                target.rest(now, generator);
            }
        }
        let mut step = Step::default();
        let under_way =
            self.targets.iter().filter(|target| matches!(target.state, State::Dialling { .. })).count();
        let mut slots = REDIALS_AT_ONCE_MAX.saturating_sub(under_way);
        // The less often an address was tried, the earlier it gets a slot: hanging ones cannot keep the rest out.
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        order.sort_by_key(|at| self.targets[*at].attempts);
        for at in order {
            let target = &mut self.targets[at];
            if slots > 0 && target.due(alone).is_some_and(|due| due <= now) {
                target.state = State::Dialling { since: now };
                target.attempts = target.attempts.saturating_add(1);
                step.dial.push(target.address.clone());
                slots -= 1;
            }
        }
        step.next = self.targets.iter().map(|target| target.next(alone, now, slots > 0)).min();
        step
    }

    fn note_company(&mut self, now: Duration, alone: bool) {
        if alone {
            self.company_since = None;
            return;
        }
        let since = *self.company_since.get_or_insert(now);
        if now.saturating_sub(since) >= SETTLED {
            for target in &mut self.targets {
                target.attempts = 0;
            }
        }
    }
}

impl Target {
    fn rest(&mut self, now: Duration, generator: &mut impl Rng) {
        let alone = now.saturating_add(Backoff::ALONE.wait(self.attempts.max(1), generator));
        let refresh = now.saturating_add(jittered(REFRESH, generator).saturating_add(REFRESH / 4));
        self.state = State::Waiting { alone, refresh };
    }

    fn due(&self, alone: bool) -> Option<Duration> {
        match self.state {
            State::Waiting { alone: due, .. } if alone => Some(due),
            State::Waiting { refresh, .. } => Some(refresh),
            State::Dialling { .. } => None,
        }
    }

    /// When this target may need attention; one that is due but got no slot waits for a dial to end.
    fn next(&self, alone: bool, now: Duration, slots: bool) -> Duration {
        match (self.state, self.due(alone)) {
            (State::Dialling { since }, _) => since.saturating_add(DIAL_LOST_AFTER),
            (_, Some(due)) if due > now => due,
            _ if slots => now,
            _ => now.saturating_add(DIAL_LOST_AFTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    fn address(n: usize) -> Multiaddr {
        format!("/ip4/203.0.113.1/tcp/{}", 1000 + n).parse().unwrap()
    }

    fn generator() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(7)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Polls when told to, for `time`; each dial ends at once. Gives the moments at which something was dialled.
    fn run(redial: &mut Redial, from: Duration, time: Duration, alone: bool) -> Vec<Duration> {
        let mut generator = generator();
        let (mut now, mut dialled) = (from, Vec::new());
        while now < from + time {
            let step = redial.poll(now, alone, &mut generator);
            for address in &step.dial {
                dialled.push(now);
                redial.ended(address, now, &mut generator);
            }
            let next = redial.poll(now, alone, &mut generator).next.unwrap();
            assert!(next > now, "a poll that asks for another one at once spins");
            now = next;
        }
        dialled
    }

    #[test]
    fn all_addresses_are_dialled_at_once_at_start() {
        let mut redial = Redial::new((0..3).map(address).chain([address(0)]));
        let step = redial.poll(Duration::ZERO, true, &mut generator());
        assert_eq!(step.dial, (0..3).map(address).collect::<Vec<_>>());
        assert_eq!(redial.poll(ms(1), true, &mut generator()).dial, [], "they are under way");
    }

    #[test]
    fn a_lonely_node_tries_again_with_growing_waits_and_never_gives_up() {
        let mut redial = Redial::new([address(0)]);
        let dialled = run(&mut redial, Duration::ZERO, Duration::from_secs(600), true);
        let waits: Vec<_> = dialled.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits[0] >= ms(25) && waits[0] <= ms(50), "{:?}", waits[0]);
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(10)));
        assert!(waits.last().unwrap() >= &Duration::from_secs(5));
        assert!((60..150).contains(&dialled.len()), "{}", dialled.len());
    }

    #[test]
    fn a_node_with_peers_asks_about_every_half_hour() {
        let mut redial = Redial::new([address(0)]);
        let dialled = run(&mut redial, Duration::ZERO, REFRESH * 20, false);
        assert!((16..=28).contains(&dialled.len()), "{}", dialled.len());
    }

    #[test]
    fn losing_the_last_peer_brings_the_dials_back_at_once() {
        let mut redial = Redial::new([address(0)]);
        run(&mut redial, Duration::ZERO, Duration::from_secs(300), false);
        let step = redial.poll(Duration::from_secs(300), true, &mut generator());
        assert_eq!(step.dial, [address(0)]);
    }

    #[test]
    fn a_peer_that_drops_every_connection_is_not_dialled_in_a_loop() {
        let mut redial = Redial::new([address(0)]);
        let mut generator = generator();
        let (mut now, mut dials) = (Duration::ZERO, 0);
        while now < Duration::from_secs(300) {
            for address in redial.poll(now, true, &mut generator).dial {
                dials += 1;
                redial.ended(&address, now, &mut generator);
                redial.poll(now + ms(1), false, &mut generator);
            }
            now += ms(10);
        }
        assert!(dials < 80, "{dials}");
    }

    #[test]
    fn addresses_that_hang_keep_no_others_out() {
        let mut redial = Redial::new((0..REDIALS_AT_ONCE_MAX + 5).map(address));
        let mut generator = generator();
        let first = redial.poll(Duration::ZERO, true, &mut generator);
        assert_eq!(first.dial.len(), REDIALS_AT_ONCE_MAX);
        assert_eq!(first.next, Some(DIAL_LOST_AFTER));
        let second = redial.poll(DIAL_LOST_AFTER, true, &mut generator);
        let expected: Vec<_> = (REDIALS_AT_ONCE_MAX..REDIALS_AT_ONCE_MAX + 5).map(address).collect();
        assert_eq!(second.dial, expected);
    }

    #[test]
    fn addresses_that_fail_at_once_keep_no_others_out() {
        let mut redial = Redial::new((0..REDIALS_AT_ONCE_MAX + 5).map(address));
        let mut generator = generator();
        for address in redial.poll(Duration::ZERO, true, &mut generator).dial {
            redial.ended(&address, Duration::ZERO, &mut generator);
        }
        let next = redial.poll(Duration::from_secs(1), true, &mut generator).dial;
        let untried: Vec<_> = (REDIALS_AT_ONCE_MAX..REDIALS_AT_ONCE_MAX + 5).map(address).collect();
        assert_eq!(next[..5], untried);
        assert_eq!(next.len(), REDIALS_AT_ONCE_MAX);
    }

    #[test]
    fn an_address_that_was_put_back_waits_no_longer_than_it_was_told() {
        let (mut redial, mut generator) = (Redial::new([address(0)]), generator());
        for second in 0..10 {
            let now = Duration::from_secs(second);
            assert_eq!(redial.poll(now, true, &mut generator).dial, [address(0)], "after {second} s");
            redial.put_back(&address(0), now + Duration::from_secs(1), now + REFRESH);
            let step = redial.poll(now, true, &mut generator);
            assert_eq!((step.dial, step.next), (Vec::new(), Some(now + Duration::from_secs(1))));
        }
        let now = Duration::from_secs(10);
        assert_eq!(redial.poll(now, true, &mut generator).dial, [address(0)]);
        redial.ended(&address(0), now, &mut generator);
        let next = redial.poll(now, true, &mut generator).next.unwrap();
        assert!(next - now <= ms(50), "the first attempt that counts: {:?}", next - now);
    }

    #[test]
    fn nothing_to_dial_is_nothing_to_wait_for() {
        assert_eq!(Redial::default().poll(Duration::ZERO, true, &mut generator()), Step::default());
        let mut redial = Redial::new((0..REDIAL_TARGETS_MAX).map(address));
        assert!(!redial.add(address(REDIAL_TARGETS_MAX)), "the list is bounded");
        redial.remove(&address(0));
        assert!(redial.add(address(0)));
    }
}
