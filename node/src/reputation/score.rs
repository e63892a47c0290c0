//! The reputation that people see.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Error;

/// A reputation from 0.0 (unreliable) to 1.0 (perfect); never NaN, never negative zero.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Score(f64);

impl Score {
    /// What a peer without any evidence has.
    pub const NEW: Self = Self(1.0);
    /// What a peer has that never succeeded.
    pub const ZERO: Self = Self(0.0);

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// Computes `successful / (successful + failed)`, or 1.0 where both are zero.
///
/// The sum is taken in 128 bits, so that no counter can overflow it, and both sides are rounded to `f64` once: up to 2⁵³
/// events the result is the correctly rounded quotient, beyond that it is within two roundings of it and still in range.
pub fn score(successful: u64, failed: u64) -> Score {
    let all = u128::from(successful) + u128::from(failed);
    if all == 0 { Score::NEW } else { Score(successful as f64 / all as f64) }
}

impl TryFrom<f64> for Score {
    type Error = Error;

    fn try_from(number: f64) -> Result<Self, Error> {
        // Adding zero turns -0.0 into 0.0; NaN is in no range.
        if (0.0..=1.0).contains(&number) {
            Ok(Self(number + 0.0))
        } else {
            Err(Error::Score { text: number.to_string() })
        }
    }
}

impl From<Score> for f64 {
    fn from(score: Score) -> f64 {
        score.0
    }
}

impl FromStr for Score {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || Error::Score {
            text: text.chars().take(40).flat_map(char::escape_default).collect::<String>(),
        };
        if text.len() > 40 {
            return Err(refuse());
        }
        let number: f64 = text.parse().map_err(|_| refuse())?;
        Self::try_from(number).map_err(|_| refuse())
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::code::Code;

    #[test]
    fn a_new_peer_has_one() {
        assert_eq!(score(0, 0).get(), 1.0);
    }

    #[test]
    fn extremes_neither_overflow_nor_leave_the_range() {
        assert_eq!(score(u64::MAX, 0).get(), 1.0);
        assert_eq!(score(0, u64::MAX).get(), 0.0);
        assert_eq!(score(u64::MAX, u64::MAX).get(), 0.5);
        assert!(score(1, u64::MAX).get() > 0.0);
    }

    #[test]
    fn text_outside_the_range_is_an_argument_error() {
        for bad in
            ["nan", "NaN", "inf", "-inf", "infinity", "1.5", "-1", "1.0000001", "-0.1", "", "x", "0,5", "1e9"]
        {
            let error = bad.parse::<Score>().unwrap_err();
            assert_eq!(error.code(), Code::Usage, "{bad}");
            assert!(error.to_string().contains("from 0.0 to 1.0"), "{error}");
        }
        let long = "0.".to_owned() + &"1".repeat(10_000);
        assert!(long.parse::<Score>().unwrap_err().to_string().len() < 200);
        assert!(!"\u{1b}[31m".parse::<Score>().unwrap_err().to_string().contains('\u{1b}'));
    }

    #[test]
    fn text_within_the_range_is_taken_with_its_ends() {
        for (text, number) in
            [("0", 0.0), ("0.0", 0.0), ("-0.0", 0.0), ("1", 1.0), ("1.0", 1.0), ("0.8", 0.8), (".5", 0.5)]
        {
            let parsed: Score = text.parse().unwrap();
            assert_eq!(parsed.get(), number);
            assert!(parsed.get().is_sign_positive(), "{text}");
        }
    }

    #[test]
    fn hostile_json_is_no_score() {
        assert!(serde_json::from_str::<Score>("1.5").is_err());
        assert!(serde_json::from_str::<Score>("-1").is_err());
        assert_eq!(serde_json::to_string(&score(3, 1)).unwrap(), "0.75");
    }

    proptest! {
        #[test]
        fn the_formula_holds_exactly(successful in 0u64..1 << 52, failed in 0u64..1 << 52) {
            let expected = if successful + failed == 0 { 1.0 } else { successful as f64 / (successful + failed) as f64 };
            prop_assert_eq!(score(successful, failed).get(), expected);
        }

        #[test]
        fn the_score_stays_in_range_and_grows_with_success(successful: u64, failed: u64) {
            let now = score(successful, failed);
            prop_assert!((0.0..=1.0).contains(&now.get()));
            // Beyond 2⁵³ events both sides are rounded, and one more event may turn the quotient by a last bit either way.
            let (successful, failed) = (successful >> 12, failed >> 12);
            let now = score(successful, failed);
            prop_assert!(score(successful + 1, failed) >= now);
            prop_assert!(score(successful, failed + 1) <= now);
        }
    }
}
