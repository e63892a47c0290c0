//! A progress bar on stderr, for people at a terminal only.

use std::time::Duration;

use ggen_marketplace::control::api::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{page::clean, session::Session};

/// How often a bar of unknown length moves.
const TICK: Duration = Duration::from_millis(120);

/// Shows how far a piece of work is; cleared when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar, hidden unless progress may be drawn.
    pub(crate) fn new(session: &Session) -> Self {
        if !session.draws_progress() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows `progress`.
    pub(crate) fn update(&self, progress: &Progress) {
        let template = match (progress.total, progress.unit.as_str()) {
            (Some(_), "bytes") => {
                "{msg:20} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            (Some(_), _) => "{msg:20} {wide_bar} {pos}/{len} {eta}",
            (None, "bytes") => "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}",
            (None, _) => "{spinner} {msg} {pos}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        match progress.total {
            Some(total) => self.0.set_length(total),
            None => self.0.unset_length(),
        }
        self.0.set_message(clean(&progress.phase).into_owned());
        self.0.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
