//! The number by which this node chooses peers.
//!
//! A peer's honesty is the unknown mean of a Bernoulli variable. With evidence `good` and `bad` its posterior is
//! Beta(α, β), α = 1 + good, β = 1 + bad (A. Jøsang, R. Ismail, *The Beta Reputation System*, 15th Bled Electronic
//! Commerce Conference, 2002). Peers are ranked by a lower bound of it,
//!
//! ```text
//! max(0, μ − z·σ)    μ = α/(α+β)    σ² = α·β / ((α+β)²·(α+β+1))    z = 1.645
//! ```
//!
//! which grows with good evidence, falls with bad, and is 0.025 for a newcomer: its shown 1.0 buys it nothing here, and
//! dropping a bad identity for a fresh one gains no more than those 0.025.
//!
//! Evidence is weighted and fades:
//! - a verified retrieval of `b` bytes weighs `b / (b + 64 KiB)`: a thousand tiny packages are cheap to serve and prove
//!   little, one enormous package is still one retrieval;
//! - a failure weighs 1, a forged block 50;
//! - all of it halves every 14 days, so that a record has to be kept up and a mistake is forgiven in the end.
//!
//! # Discrepancies
//! - The quantile of the Beta distribution is replaced by its normal approximation, and the exponential between two
//!   half-lives by a straight line. Both then need nothing but `+ − × ÷ √`, which IEEE 754 rounds the same on every
//!   machine: the order of peers is part of a simulation's trace, and a platform's `exp` or incomplete beta function is
//!   not reproducible.
//! - The paper's forgetting factor acts per feedback; here it acts per time, as peers are met at very different rates.

use std::time::Duration;

use crate::time::Timestamp;

/// Width of the bound in standard deviations: one-sided 95 %.
const Z: f64 = 1.645;
/// After this time evidence counts half.
pub const HALF_LIFE: Duration = Duration::from_secs(14 * 24 * 3600);
/// A retrieval of this many bytes has half the weight that a retrieval can have.
const HALF_WEIGHT_BYTES: f64 = 65_536.0;
/// Weight of a failed retrieval.
const FAILURE_WEIGHT: f64 = 1.0;
/// Weight of a forged block: no amount of small favours buys it back soon.
const FORGERY_WEIGHT: f64 = 50.0;
/// Evidence of either kind at most: beyond it nothing changes, and old merit cannot outweigh new faults for years.
const WEIGHT_MAX: f64 = 1_000.0;

/// Decayed evidence about one peer, as of a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    good: f64,
    bad: f64,
    at: Timestamp,
}

impl Evidence {
    /// Joins stored numbers; whatever is not a finite number in range (a damaged file) becomes the nearest one that is.
    pub fn new(good: f64, bad: f64, at: Timestamp) -> Self {
        Self { good: sane(good), bad: sane(bad), at }
    }

    /// Weight of what the peer did well, as of [`Evidence::at`].
    pub fn good(&self) -> f64 {
        self.good
    }

    /// Weight of what the peer did badly, as of [`Evidence::at`].
    pub fn bad(&self) -> f64 {
        self.bad
    }

    /// When the weights were computed.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The same evidence, faded to `now`; a clock that went back fades nothing.
    #[must_use]
    pub fn at_time(self, now: Timestamp) -> Self {
        let factor = fading(now.since(self.at));
        Self { good: self.good * factor, bad: self.bad * factor, at: now }
    }

    /// Adds a verified retrieval of `bytes`.
    #[must_use]
    pub fn with_success(self, bytes: u64, now: Timestamp) -> Self {
        let bytes = bytes as f64;
        let faded = self.at_time(now);
        Self { good: sane(faded.good + bytes / (bytes + HALF_WEIGHT_BYTES)), ..faded }
    }

    /// Adds a failed retrieval.
    #[must_use]
    pub fn with_failure(self, now: Timestamp) -> Self {
        let faded = self.at_time(now);
        Self { bad: sane(faded.bad + FAILURE_WEIGHT), ..faded }
    }

    /// Adds a forged block.
    #[must_use]
    pub fn with_forgery(self, now: Timestamp) -> Self {
        let faded = self.at_time(now);
        Self { bad: sane(faded.bad + FORGERY_WEIGHT), ..faded }
    }
}

/// Computes the lower bound of a peer's honesty at `now`, in 0.0..=1.0; see the module for the formula.
pub fn confidence(evidence: Evidence, now: Timestamp) -> f64 {
    let Evidence { good, bad, .. } = evidence.at_time(now);
    let (alpha, beta) = (1.0 + good, 1.0 + bad);
    let sum = alpha + beta;
    let deviation = (alpha * beta / (sum * sum * (sum + 1.0))).sqrt();
    (alpha / sum - Z * deviation).clamp(0.0, 1.0)
}

/// `2^-(age / HALF_LIFE)`, straight between the half-lives.
fn fading(age: Duration) -> f64 {
    let halvings = age.as_secs() / HALF_LIFE.as_secs();
    if halvings > 60 {
        return 0.0;
    }
    let rest = (age.as_secs() % HALF_LIFE.as_secs()) as f64 / HALF_LIFE.as_secs() as f64;
    (1.0 - rest / 2.0) / (1u64 << halvings) as f64
}

fn sane(weight: f64) -> f64 {
    if weight.is_nan() { 0.0 } else { weight.clamp(0.0, WEIGHT_MAX) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const MIB: u64 = 1 << 20;

    fn record(successes: u32, bytes: u64, failures: u32) -> Evidence {
        let mut evidence = Evidence::default();
        for _ in 0..successes {
            evidence = evidence.with_success(bytes, NOW);
        }
        for _ in 0..failures {
            evidence = evidence.with_failure(NOW);
        }
        evidence
    }

    #[test]
    fn a_newcomer_does_not_outrank_a_record() {
        let newcomer = confidence(Evidence::default(), NOW);
        assert!((0.02..0.03).contains(&newcomer), "{newcomer}");
        assert!(confidence(record(1, MIB, 0), NOW) > newcomer);
        assert!(confidence(record(50, MIB, 5), NOW) > newcomer + 0.5);
    }

    #[test]
    fn a_fresh_identity_gains_almost_nothing() {
        let burnt = confidence(record(0, 0, 20), NOW);
        assert!(confidence(Evidence::default(), NOW) - burnt < 0.03);
    }

    #[test]
    fn fifty_good_deeds_do_not_outweigh_one_forgery() {
        let honest = record(50, MIB, 0);
        assert!(confidence(honest, NOW) > 0.9);
        assert!(confidence(honest.with_forgery(NOW), NOW) < 0.5);
    }

    #[test]
    fn many_tiny_retrievals_prove_less_than_a_few_large_ones() {
        assert!(confidence(record(100, 100, 0), NOW) < confidence(record(2, MIB, 0), NOW));
    }

    #[test]
    fn evidence_halves_with_each_half_life_and_never_rises_again() {
        let evidence = record(8, u64::MAX, 0);
        let later = evidence.at_time(NOW.plus(HALF_LIFE));
        assert!((later.good() - evidence.good() / 2.0).abs() < 1e-9);
        assert!(
            confidence(evidence, NOW.plus(HALF_LIFE * 100)) - confidence(Evidence::default(), NOW) < 1e-9
        );
        let back = evidence.at_time(NOW.minus(HALF_LIFE));
        assert_eq!(back.good(), evidence.good(), "a clock set back is not a source of merit");
    }

    #[test]
    fn damaged_numbers_become_sane_ones() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX] {
            let evidence = Evidence::new(bad, bad, Timestamp::from_secs(u64::MAX));
            let bound = confidence(evidence, NOW);
            assert!((0.0..=1.0).contains(&bound), "{bad}: {bound}");
        }
    }

    proptest! {
        #[test]
        fn the_bound_grows_with_good_and_falls_with_bad(
            good in 0.0..1_000.0f64,
            bad in 0.0..1_000.0f64,
            more in 0.001..10.0f64,
            age in 0u64..1 << 40,
        ) {
            let now = NOW.plus(Duration::from_secs(age));
            let bound = |good, bad| confidence(Evidence::new(good, bad, NOW), now);
            prop_assert!((0.0..=1.0).contains(&bound(good, bad)));
            prop_assert!(bound(good + more, bad) + 1e-12 >= bound(good, bad));
            prop_assert!(bound(good, bad + more) <= bound(good, bad) + 1e-12);
        }
    }
}
