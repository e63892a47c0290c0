//! How many peers are given blocks at once, where more of them wait than a line carries well.
//!
//! Each more of them makes all of them slower once the line is full, and none of them has anything to pass on before its block is whole; as
//! long as it is not full, each more of them is as quick. Nobody says which it is, so that it is tried: one step more for a while, and it stays
//! where that brings much more in all. From time to time one step less is tried too. Pure: `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// How many there are at most, whatever is tried.
const MOST: usize = 64;
/// How long it takes until there is something to measure after a change: those that are new have to be asked, and to say that something came.
const SETTLES: Duration = Duration::from_millis(150);
/// What must have come of each of them before one span is compared with another, and how long that is waited for.
const SPAN_BYTES_EACH: u64 = 256 << 10;
const SPAN: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_millis(1_500);
/// How long it is left as it is after something else was no better: twice as long each further time.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(60);

/// Something else is tried: how many it was before, and how many bytes a second that was.
#[derive(Debug, Clone, Copy)]
struct Trial {
    from: usize,
    rate: u64,
}

/// How many, and what is tried.
#[derive(Debug)]
pub(super) struct Width {
    most: usize,
    /// When the span began in which bytes are counted, while there are as many as there may be.
    since: Option<Instant>,
    /// When there began to be as many as that.
    began: Option<Instant>,
    bytes: u64,
    trial: Option<Trial>,
    not_before: Option<Instant>,
    pause: Duration,
    widens: bool,
}

impl Width {
    pub(super) fn new() -> Self {
        Self {
            most: 1,
            began: None,
            since: None,
            bytes: 0,
            trial: None,
            not_before: None,
            pause: *PAUSE.start(),
            widens: true,
        }
    }

    /// How many there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// So many bytes have come where they were to come.
    pub(super) fn came(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Nobody waits: nothing can be learned.
    pub(super) fn idle(&mut self) {
        (self.began, self.since, self.bytes) = (None, None, 0);
        if let Some(trial) = self.trial.take() {
            self.most = trial.from;
        }
    }

    /// There are as many as there may be, and others wait. Yields when to look again.
    pub(super) fn full(&mut self, now: Instant) -> Instant {
        let began = *self.began.get_or_insert(now);
        if now < began + SETTLES {
            return began + SETTLES;
        }
        let since = *self.since.get_or_insert_with(|| {
            self.bytes = 0;
            now
        });
        let took = now.saturating_duration_since(since);
        let is_enough = self.bytes >= SPAN_BYTES_EACH * self.most as u64 && took >= *SPAN.start();
        if !is_enough && took < *SPAN.end() {
            return if took < *SPAN.start() { since + *SPAN.start() } else { since + *SPAN.end() };
        }
        let rate =
            u64::try_from(u128::from(self.bytes) * 1_000 / took.as_millis().max(1)).unwrap_or(u64::MAX);
        (self.began, self.since, self.bytes) = (Some(now), None, 0);
        self.judge(rate, now);
        now + SETTLES
    }

    fn rest(&mut self, now: Instant) {
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(*PAUSE.end());
    }

    fn judge(&mut self, rate: u64, now: Instant) {
        let (most, wider) = (self.most as u64, (self.most * 2).min(MOST));
        match self.trial.take() {
            // At least half of what as many more would bring if nothing were full.
            Some(Trial { from, rate: before }) if self.most > from => {
                let from = from as u64;
                if rate.saturating_mul(2 * from) >= before.saturating_mul(from + most) && rate > 0 {
                    self.trial = Some(Trial { from: self.most, rate });
                    self.most = wider;
                    self.pause = *PAUSE.start();
                } else {
                    self.most = from as usize;
                    self.widens = false;
                    self.rest(now);
                }
            }
            Some(Trial { from, rate: before }) => {
                self.widens = true;
                if rate.saturating_mul(20) < before.saturating_mul(17) {
                    self.most = from;
                    self.rest(now);
                }
            }
            None if self.not_before.is_some_and(|at| now < at) => {}
            None => {
                self.trial = Some(Trial { from: self.most, rate });
                self.most =
                    if self.widens || self.most == 1 { wider } else { self.most - (self.most / 3).max(1) };
            }
        }
    }
}
