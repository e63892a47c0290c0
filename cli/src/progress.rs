//! A progress bar on stderr, for people at a terminal only.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ggen_marketplace::control::api::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use tokio::time::Instant;

use crate::{
    page::{self, clean},
    session::Session,
};

/// How often a bar of unknown length moves.
const TICK: Duration = Duration::from_millis(120);

/// Shows how far a piece of work is; cleared when dropped.
pub(crate) struct Bar {
    bar: ProgressBar,
    pace: Mutex<Pace>,
}

/// How fast a phase of the work goes, counted from where it began: what was there already took no time.
#[derive(Debug, Default)]
struct Pace {
    phase: String,
    began: Option<(Instant, u64)>,
}

impl Pace {
    /// What a second brings, and how many seconds are left; none before anything came.
    fn note(&mut self, progress: &Progress, now: Instant) -> Option<(u64, Option<u64>)> {
        let (began, first) = match self.began {
            Some(began) if self.phase == progress.phase && began.1 <= progress.done => began,
            _ => {
                self.phase.clone_from(&progress.phase);
                *self.began.insert((now, progress.done))
            }
        };
        let (came, millis) = (progress.done - first, now.duration_since(began).as_millis());
        if came == 0 || millis == 0 {
            return None;
        }
        let a_second = u64::try_from(u128::from(came) * 1_000 / millis).unwrap_or(u64::MAX);
        let left = progress.total.map(|total| total.saturating_sub(progress.done));
        Some((a_second, left.and_then(|left| left.checked_div(a_second))))
    }
}

impl Bar {
    /// A bar, hidden unless progress may be drawn.
    pub(crate) fn new(session: &Session) -> Self {
        let bar = if session.draws_progress() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            bar
        } else {
            ProgressBar::hidden()
        };
        Self { bar, pace: Mutex::default() }
    }

    /// Shows `progress`.
    pub(crate) fn update(&self, progress: &Progress) {
        let is_bytes = progress.unit == "bytes";
        let template = match (progress.total, is_bytes) {
            (Some(_), true) => "{msg:20} {wide_bar} {binary_bytes}/{binary_total_bytes} {prefix}",
            (Some(_), false) => "{msg:20} {wide_bar} {pos}/{len} {prefix}",
            (None, true) => "{spinner} {msg} {binary_bytes} {prefix}",
            (None, false) => "{spinner} {msg} {pos}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        match progress.total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        let pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner).note(progress, Instant::now());
        self.bar.set_prefix(pace.map_or_else(String::new, |(a_second, left)| {
            let rate = if is_bytes { format!("{}/s", page::bytes(a_second)) } else { String::new() };
            let left = left.map_or_else(String::new, |secs| format!(" {} left", page::seconds(secs)));
            format!("{rate}{left}")
        }));
        self.bar.set_message(clean(&progress.phase).into_owned());
        self.bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_already_makes_nothing_look_faster() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let fetching = |done| Progress {
            phase: "fetching".to_owned(),
            done,
            total: Some(10_000),
            unit: "bytes".to_owned(),
        };
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(pace.note(&fetching(8_000), start), None);
        assert_eq!(pace.note(&fetching(8_000), after(1)), None);
        assert_eq!(pace.note(&fetching(9_000), after(2)), Some((500, Some(2))));
        let writing = Progress { phase: "writing".to_owned(), ..fetching(5_000) };
        assert_eq!(pace.note(&writing, after(3)), None, "another phase begins again");
        let more = Progress { done: 6_000, ..writing };
        assert_eq!(pace.note(&more, after(4)), Some((1_000, Some(4))));
    }
}
