//! Whether the wall clock can be believed.
//!
//! What is signed under a wrong clock is refused by everybody else. So the wall clock is held against the one that only runs
//! forward: where it jumped, nothing is signed for a moment. A clock that was put right, or a machine that slept, goes on evenly from then on and is believed again. Only a jump
//! by more than a week is never believed: a year that is wrong looks like that.
//!
//! Pure: both clocks are arguments.

use std::time::Duration;

use crate::{limits::CLOCK_SKEW_MAX, time::Timestamp};

/// How far the two clocks may come apart between two looks at them: what others tolerate of ours.
const APART_MAX: Duration = CLOCK_SKEW_MAX;
/// The longest jump forward that is ever believed: a machine that slept for a week.
const JUMP_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long they have to go on evenly after a jump.
const SETTLE: Duration = Duration::from_secs(2 * 60);

/// The wall clock jumped, and nothing may be signed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jump {
    /// What the wall clock says.
    pub(super) wall: Timestamp,
    /// What it would say had it gone on evenly.
    pub(super) expected: Timestamp,
    /// How long until it is believed, where it goes on evenly; none where it is not.
    pub(super) settles: Option<Duration>,
}

/// A point at which both clocks were read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: Timestamp,
    running: Duration,
}

impl Reading {
    /// What the wall clock says when it went on evenly since.
    fn expected(self, running: Duration) -> Timestamp {
        self.wall.plus(running.saturating_sub(self.running))
    }
}

/// The two clocks as they were last seen.
#[derive(Debug)]
pub(super) struct Clock {
    believed: Reading,
    jumped: Option<Reading>,
}

impl Clock {
    /// The wall clock at the beginning, which has to be believed.
    pub(super) fn new(wall: Timestamp) -> Self {
        Self { believed: Reading { wall, running: Duration::ZERO }, jumped: None }
    }

    /// Looks at both clocks; `running` counts from the beginning.
    pub(super) fn check(&mut self, wall: Timestamp, running: Duration) -> Result<(), Jump> {
        let now = Reading { wall, running };
        let expected = self.believed.expected(running);
        if apart(wall, expected) <= APART_MAX {
            (self.believed, self.jumped) = (now, None);
            return Ok(());
        }
        let since = match self.jumped {
            Some(since) if apart(wall, since.expected(running)) <= APART_MAX => since,
            _ => *self.jumped.insert(now),
        };
        let left = SETTLE.saturating_sub(running.saturating_sub(since.running));
        let is_plausible = wall.since(expected) <= JUMP_MAX;
        if is_plausible && left.is_zero() {
            (self.believed, self.jumped) = (now, None);
            return Ok(());
        }
        Err(Jump { wall, expected, settles: is_plausible.then_some(left) })
    }
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_runs_evenly_is_believed_and_one_that_leapt_ten_years_never() {
        let mut clock = Clock::new(START);
        assert_eq!(clock.check(START.plus(HOUR), HOUR), Ok(()));
        let leap = 87_600 * HOUR;
        for hours in 2..100 {
            let jump = clock.check(START.plus(leap + hours * HOUR), hours * HOUR).unwrap_err();
            assert_eq!((jump.expected, jump.settles), (START.plus(hours * HOUR), None));
        }
        assert_eq!(clock.check(START.plus(100 * HOUR), 100 * HOUR), Ok(()), "it was put right");
    }

    #[test]
    fn a_clock_that_was_put_back_or_slept_is_believed_once_it_went_on_evenly() {
        for to in [START.minus(87_600 * HOUR), START.plus(9 * HOUR)] {
            let mut clock = Clock::new(START);
            let second = Duration::from_secs(1);
            assert_eq!(clock.check(to, second).unwrap_err().settles, Some(SETTLE));
            assert!(clock.check(to.plus(SETTLE / 2), SETTLE / 2).is_err());
            assert_eq!(clock.check(to.plus(SETTLE), second + SETTLE), Ok(()));
            assert_eq!(clock.check(to.plus(HOUR), HOUR), Ok(()), "and stays so");
        }
    }

    #[test]
    fn a_clock_that_goes_on_jumping_is_not_believed() {
        let mut clock = Clock::new(START);
        for n in 1..50u32 {
            let wall = START.plus(n * HOUR);
            assert_eq!(clock.check(wall, n * SETTLE).unwrap_err().settles, Some(SETTLE));
        }
    }
}
