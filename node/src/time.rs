//! Points in wall-clock time, as signed structures and the database hold them.
//!
//! Whole seconds since 1970, saturating everywhere: a hostile timestamp is a number like any other. Only [`Timestamp::now`]
//! reads the clock; pure modules take a `Timestamp` as an argument.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A point in time from its number of seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// The number of seconds.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// Reads the system clock; a clock before 1970 reads as 1970.
    #[expect(clippy::disallowed_methods, reason = "the one place where the node reads the wall clock")]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// The point `later` after this one, or the last one there is.
    #[must_use]
    pub const fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later.as_secs()))
    }

    /// The point `earlier` before this one, or 1970.
    #[must_use]
    pub const fn minus(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(earlier.as_secs()))
    }

    /// How long after `earlier` this is; zero where it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC; a point outside the calendar is shown as its number of seconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok()) {
            Some(time) => time.fmt(f),
            None => write!(f, "@{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_saturate_and_still_show() {
        let last = Timestamp::from_secs(u64::MAX);
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        assert_eq!(Timestamp::default().minus(Duration::MAX), Timestamp::default());
        assert_eq!(last.to_string(), format!("@{}", u64::MAX));
        assert_eq!(Timestamp::from_secs(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
    }
}
