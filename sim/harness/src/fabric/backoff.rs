//! When a kernel sends again what was not acknowledged. The numbers are those of Linux.

use std::time::Duration;

/// The least that a segment waits for its acknowledgement, besides a round trip.
const RESEND_MIN: Duration = Duration::from_millis(200);
/// The most.
const RESEND_MAX: Duration = Duration::from_secs(120);
/// How long a connection whose peer acknowledges nothing lasts (`tcp_retries2` = 15).
pub(super) const GIVE_UP: Duration = Duration::from_millis(924_600);
/// How often a request for a connection is repeated (`tcp_syn_retries` = 6).
const DIALS_MAX: u32 = 6;

/// How long the `attempt`-th sending, from zero, of a segment waits.
pub(super) fn resend(round_trip: Duration, attempt: u32) -> Duration {
    (RESEND_MIN + round_trip).saturating_mul(2_u32.saturating_pow(attempt.min(16))).min(RESEND_MAX)
}

/// How long the `attempt`-th request for a connection waits, from zero; none where it was the last.
pub(super) fn redial(attempt: u32) -> Option<Duration> {
    (attempt <= DIALS_MAX).then(|| Duration::from_secs(1 << attempt))
}

/// Whether no request is left after the `attempt`-th.
pub(super) fn is_last_dial(attempt: u32) -> bool {
    attempt >= DIALS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_waits_twice_as_long_each_time_up_to_two_minutes() {
        let waits: Vec<_> =
            (0..4).map(|attempt| resend(Duration::from_millis(100), attempt).as_millis()).collect();
        assert_eq!(waits, [300, 600, 1_200, 2_400]);
        assert_eq!(resend(Duration::ZERO, 40), RESEND_MAX);
    }

    #[test]
    fn a_dial_is_given_up_after_two_minutes_and_seven_requests() {
        let all: Duration = (0..).map_while(redial).sum();
        assert_eq!(all, Duration::from_secs(127));
        assert!(is_last_dial(6) && !is_last_dial(5));
    }
}
