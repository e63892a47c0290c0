//! How long the search for a record, or for the nodes nearest to it, waits for those who do not answer.
//!
//! A dead node whose connection still stands is found out by a timeout alone, and that must leave room for the slowest link.
//! What the others needed tells sooner that somebody is silent. Pure: `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// How long nobody new has to answer at least, before the rest counts as silent: several round trips round the world, which a
/// dial takes.
const SILENCE_MIN: Duration = Duration::from_secs(2);

/// How far one search is.
#[derive(Debug)]
pub struct Patience {
    answered: u32,
    /// When the last one answered; when the search began, where nobody has.
    latest: Instant,
    /// The longest time between two answers, the first one's included.
    longest: Duration,
}

impl Patience {
    /// A search that begins now.
    pub fn new(now: Instant) -> Self {
        Self { answered: 0, latest: now, longest: Duration::ZERO }
    }

    /// Whether those who have not answered are no longer waited for, where so many have, and the search `may_end`.
    ///
    /// As long as nobody has, everybody is waited for. It has to see every answer, so that it knows how long one takes: also
    /// while the search may not end yet.
    pub fn is_over(&mut self, answered: u32, may_end: bool, now: Instant) -> bool {
        if answered > self.answered {
            self.longest = self.longest.max(now.saturating_duration_since(self.latest));
            self.answered = answered;
            self.latest = now;
        }
        may_end && self.over_at().is_some_and(|over| now >= over)
    }

    /// When those who have not answered are no longer waited for, where nobody answers until then; nothing where nobody has.
    pub fn over_at(&self) -> Option<Instant> {
        (self.answered > 0).then(|| self.latest + SILENCE_MIN.max(2 * self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_silent_are_left_two_seconds_after_the_last_answer() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        assert!(!patience.is_over(3, true, began + SECOND / 2));
        assert!(!patience.is_over(4, true, began + 2 * SECOND));
        assert!(
            !patience.is_over(4, true, began + SECOND * 39 / 10),
            "somebody answered less than two seconds ago"
        );
        assert!(patience.is_over(4, true, began + 5 * SECOND));
    }

    #[test]
    fn slow_links_are_given_twice_the_time_that_an_answer_takes() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        assert!(
            !patience.is_over(0, true, began + 20 * SECOND),
            "nobody has answered: there is nobody to go on with"
        );
        let mut patience = Patience::new(began);
        assert!(!patience.is_over(1, true, began + 5 * SECOND));
        assert!(
            !patience.is_over(1, true, began + 14 * SECOND),
            "the next one may need as long, and its dial too"
        );
        assert!(patience.is_over(1, true, began + 15 * SECOND));
    }

    #[test]
    fn answers_are_counted_before_there_is_anything_to_end_with() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        assert!(!patience.is_over(1, false, began + SECOND));
        assert!(!patience.is_over(1, false, began + 20 * SECOND));
        assert!(patience.is_over(1, true, began + 20 * SECOND), "the last one answered long ago");
        assert!(!patience.is_over(2, true, began + 21 * SECOND), "and another one now");
    }
}
