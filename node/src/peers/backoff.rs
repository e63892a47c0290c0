//! Waiting longer after each failure.
//!
//! Exponential, with *equal jitter*: half of the wait is certain, half is drawn. The certain half keeps a loop from
//! spinning, the drawn one keeps nodes that lost the same hub from coming back in step
//! ([Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)).

use std::time::Duration;

use rand::Rng;

/// A wait that doubles with each failure, up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// How a peer of the configuration is tried again that is lacked: 50 ms at first, 6 s at most. With the time that a dial may
    /// hang it is reached within 15 s of its being there.
    pub const ENTRANCE: Self = Self::new(Duration::from_millis(50), Duration::from_secs(6));
    /// How a peer of earlier days is tried again by a node without any other: 50 ms at first, a minute at most.
    pub const EARLIER: Self = Self::new(Duration::from_millis(50), Duration::from_secs(60));

    /// Starts at `first` and never exceeds `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after `failures` failures in a row, before jitter; none after none.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// The wait after `failures` failures in a row: between half of [`Backoff::ceiling`] and all of it.
    pub fn wait(&self, failures: u32, generator: &mut impl Rng) -> Duration {
        jittered(self.ceiling(failures), generator)
    }
}

/// How often something may be tried: once in an interval, and some times at once after a while without.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    /// When the tries so far are paid for.
    paid_until: Duration,
}

impl Tries {
    /// Whether there may be one more at `now`; counts it where there may.
    pub(super) fn pay(&mut self, now: Duration, interval: Duration, at_once_max: u32) -> bool {
        let paid_until = self.paid_until.max(now).saturating_add(interval);
        let affordable = paid_until <= now.saturating_add(interval * at_once_max);
        if affordable {
            self.paid_until = paid_until;
        }
        affordable
    }

    /// Takes one back that did not happen.
    pub(super) fn give_back(&mut self, interval: Duration) {
        self.paid_until = self.paid_until.saturating_sub(interval);
    }
}

/// Draws a duration between half of `ceiling` and all of it.
pub fn jittered(ceiling: Duration, generator: &mut impl Rng) -> Duration {
    let half = ceiling / 2;
    let range_us = u64::try_from((ceiling - half).as_micros()).unwrap_or(u64::MAX);
    // The remainder favours some microseconds by less than one part in 2⁴⁰ at the lengths in use.
    half + Duration::from_micros(generator.next_u64() % range_us.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    #[test]
    fn a_lonely_node_waits_from_50_ms_to_6_s() {
        let waits: Vec<_> = (0..11).map(|n| Backoff::ENTRANCE.ceiling(n).as_millis()).collect();
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1600, 3200, 6000, 6000, 6000]);
        assert_eq!(Backoff::ENTRANCE.ceiling(u32::MAX), Duration::from_secs(6));
    }

    #[test]
    fn the_same_generator_gives_the_same_waits() {
        let waits = |seed| {
            let mut generator = ChaCha8Rng::seed_from_u64(seed);
            (1..10).map(|n| Backoff::ENTRANCE.wait(n, &mut generator)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2), "without jitter nodes come back in step");
    }

    proptest! {
        #[test]
        fn a_wait_is_between_half_and_all_of_its_ceiling(failures: u32, seed: u64) {
            let wait = Backoff::ENTRANCE.wait(failures, &mut ChaCha8Rng::seed_from_u64(seed));
            let ceiling = Backoff::ENTRANCE.ceiling(failures);
            prop_assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} of {ceiling:?}");
        }
    }
}
