//! How fast one peer answers, and how much it is asked for at once because of that.
//!
//! A peer has a window of bytes in flight. What it delivered while a request was in flight, by the time that took, is a sample of its
//! bandwidth; the largest of the newest samples counts, and so does the shortest of the newest times. Their product is what the
//! line holds, and the window is twice as much, as in [BBR](https://queue.acm.org/detail.cfm?id=3022184): while the line still has
//! room the window doubles each round trip, and where it has none it stays.

use std::{collections::VecDeque, time::Duration};

/// Bytes in flight of a peer of which nothing is known yet.
pub(super) const WINDOW_BYTES_FIRST: u64 = 1 << 20;
/// Bytes in flight of the best peer.
pub(super) const WINDOW_BYTES_MAX: u64 = 16 << 20;
/// Bytes in flight of the worst peer: still one small block at a time.
pub(super) const WINDOW_BYTES_MIN: u64 = 64 << 10;
/// No peer is asked for more than it brings in this time, so that a slow line never has much more under way than it carries, and that what
/// others could bring sooner does not wait for it.
pub(super) const QUEUE: Duration = Duration::from_millis(2_500);
/// Samples of a bandwidth that count.
const RATES: usize = 8;
/// Times of requests that count.
const TIMES: usize = 16;
/// Times that must be known before they say what is late.
const TIMES_MIN: usize = 4;
/// How much later than nine of ten an answer must be to count as late: as much again, and a moment.
const LATE_MOMENT: Duration = Duration::from_millis(100);
/// No time is taken to be shorter: simulated ones can be none at all.
const TIME_MIN: Duration = Duration::from_millis(1);

/// What a request found when it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Duration,
    /// What had come from the peer until then.
    delivered: u64,
    /// Whether the window was nearly full: otherwise there was too little to ask for to say anything about the line.
    is_full: bool,
}

/// What is known of the pace of one peer.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) window: u64,
    delivered: u64,
    /// Bytes a second.
    rates: VecDeque<u64>,
    /// Whether one of them is of a window that was nearly full: as long as none is, the line carries so much at least.
    is_measured: bool,
    times: VecDeque<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        let (delivered, rates, is_measured, times) = Default::default();
        Self { window: WINDOW_BYTES_FIRST, delivered, rates, is_measured, times }
    }
}

impl Pace {
    /// A request goes out, with which so many bytes are in flight.
    pub(super) fn sent(&self, in_flight: u64, at: Duration) -> Sent {
        Sent { at, delivered: self.delivered, is_full: in_flight >= self.window / 2 }
    }

    /// An answer has come, and with it so many bytes of verified blocks.
    pub(super) fn came(&mut self, sent: Sent, bytes: u64, now: Duration) {
        if bytes == 0 {
            return;
        }
        self.delivered = self.delivered.saturating_add(bytes);
        let took = now.saturating_sub(sent.at).max(TIME_MIN);
        push(&mut self.times, took, TIMES);
        let rate = per_second(self.delivered.saturating_sub(sent.delivered), took);
        if sent.is_full || self.rate().is_none_or(|known| rate > known) {
            push(&mut self.rates, rate, RATES);
            self.is_measured |= sent.is_full;
        }
        let (Some(rate), Some(least)) = (self.rate(), self.times.iter().min()) else { return };
        let twice = bytes_in(rate, *least).saturating_mul(2);
        let target = twice.min(bytes_in(rate, QUEUE)).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        if sent.is_full || target > self.window {
            self.window = target.min(self.window.saturating_mul(2));
        }
    }

    /// An answer did not come in time: what was known does not hold any more.
    pub(super) fn lost(&mut self) {
        self.window = (self.window / 2).max(WINDOW_BYTES_MIN);
        self.rates.clear();
        self.is_measured = false;
        self.times.clear();
    }

    /// Bytes a second, where something is known.
    pub(super) fn rate(&self) -> Option<u64> {
        self.rates.iter().max().copied()
    }

    /// How long what is in flight takes, where the line was measured: a small answer shows the least that it carries, and no more.
    pub(super) fn time_left(&self, in_flight: u64) -> Option<Duration> {
        self.time_of(0, in_flight).filter(|_| self.is_measured)
    }

    /// When a request is late: nine of ten took much less. Nothing where too few are known.
    pub(super) fn late_after(&self) -> Option<Duration> {
        if self.times.len() < TIMES_MIN {
            return None;
        }
        let mut times: Vec<Duration> = self.times.iter().copied().collect();
        times.sort_unstable();
        let at = (times.len() * 9).div_ceil(10) - 1;
        Some(times[at] * 2 + LATE_MOMENT)
    }

    /// How long so many bytes take behind so many others, where something is known. On an idle line they take a round trip more.
    pub(super) fn time_of(&self, bytes: u64, before: u64) -> Option<Duration> {
        let rate = self.rate()?;
        let least = self.times.iter().min().copied().unwrap_or_default();
        Some(
            time_of(before, rate)
                + time_of(bytes, rate).max(if before == 0 { least } else { Duration::ZERO }),
        )
    }
}

fn push<T>(samples: &mut VecDeque<T>, sample: T, most: usize) {
    if samples.len() == most {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn per_second(bytes: u64, took: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / took.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX).max(1)
}

fn bytes_in(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

fn time_of(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(
        u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 1 << 20;

    /// The window after a while of a peer that sends so many bytes a second, and how much of the line was used at the end.
    fn after_a_while(rate: u64, round_trip: Duration, block: u64) -> (u64, f64) {
        let mut pace = Pace::default();
        let (mut now, mut line_free, mut in_flight) = (Duration::ZERO, Duration::ZERO, 0);
        let mut open: VecDeque<(Sent, Duration)> = VecDeque::new();
        let (mut bytes, mut since) = (0, Duration::ZERO);
        for n in 0..600 {
            if n == 300 {
                (bytes, since) = (0, now);
            }
            while in_flight == 0 || in_flight < pace.window {
                in_flight += block;
                let begins = line_free.max(now + round_trip / 2);
                line_free = begins + time_of(block, rate);
                open.push_back((pace.sent(in_flight, now), line_free + round_trip / 2));
            }
            let Some((sent, at)) = open.pop_front() else { break };
            (now, in_flight, bytes) = (at, in_flight - block, bytes + block);
            pace.came(sent, block, now);
        }
        (pace.window, per_second(bytes, now - since) as f64 / rate as f64)
    }

    #[test]
    fn a_line_is_filled_whatever_its_bandwidth_and_its_round_trip() {
        for (bits, ms) in [(1_000, 100), (1_000, 1), (50, 20), (50, 300), (10, 80), (8, 40)] {
            let (rate, round_trip) = (bits * 125_000, Duration::from_millis(ms));
            for block in [BLOCK, BLOCK / 4] {
                let (window, used) = after_a_while(rate, round_trip, block);
                assert!(used > 0.95, "{bits} Mbit/s and {ms} ms: {used} with {window} bytes");
                assert!(window <= bytes_in(rate, QUEUE).max(2 * BLOCK), "{bits} Mbit/s: {window}");
            }
        }
    }

    #[test]
    fn a_slow_line_has_one_block_at_a_time() {
        let (window, used) = after_a_while(30_000, Duration::from_millis(80), BLOCK);
        assert!(window < BLOCK && used > 0.99, "{window} {used}");
    }

    #[test]
    fn little_to_ask_for_says_nothing_about_the_line() {
        let mut pace = Pace::default();
        for n in 0..50 {
            let sent = pace.sent(1_000, Duration::from_secs(n));
            pace.came(sent, 1_000, Duration::from_secs(n) + Duration::from_millis(50));
        }
        assert_eq!((pace.window, pace.time_left(BLOCK)), (WINDOW_BYTES_FIRST, None));
        let at = Duration::from_secs(60);
        let sent = pace.sent(BLOCK, at);
        pace.came(sent, BLOCK, at + Duration::from_secs(1));
        assert_eq!(pace.time_left(BLOCK), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_late_is_later_than_nine_of_ten() {
        let mut pace = Pace::default();
        for n in 0..10 {
            assert_eq!(pace.late_after().is_some(), n >= TIMES_MIN);
            let sent = pace.sent(BLOCK, Duration::ZERO);
            pace.came(sent, BLOCK, Duration::from_millis(if n == 0 { 60_000 } else { 100 }));
        }
        assert_eq!(
            pace.late_after(),
            Some(Duration::from_millis(200) + LATE_MOMENT),
            "one of ten may take long"
        );
        pace.lost();
        assert_eq!((pace.late_after(), pace.rate(), pace.window), (None, None, WINDOW_BYTES_MAX.min(BLOCK)));
    }
}
