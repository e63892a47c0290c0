//! How far a run is, on standard error and for people at a terminal only.

use std::{
    io::{IsTerminal, stderr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// Shows how many simulated seconds have passed; cleared when dropped.
///
/// It is drawn by a thread of its own: on the thread of the simulation its clock would be virtual, and what it draws from the
/// process's entropy would move what the nodes draw.
pub(super) struct Simulated(Option<Drawing>);

struct Drawing {
    millis: Arc<AtomicU64>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Simulated {
    /// Begins to show the progress of a run that ends at `end`.
    pub(super) fn show(name: &str, end: Duration) -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = "{msg}  {wide_bar}  {pos} of {len} simulated seconds, {elapsed} so far";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_length(end.as_secs());
        bar.set_message(name.to_owned());
        let millis = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = mpsc::channel();
        let read = millis.clone();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(read.load(Ordering::Relaxed) / 1_000);
                bar.tick();
            }
            bar.finish_and_clear();
        });
        Self(Some(Drawing { millis, stop, thread }))
    }

    /// Where the run writes how far it is; none where nobody looks.
    pub(super) fn elapsed_millis(&self) -> Option<Arc<AtomicU64>> {
        self.0.as_ref().map(|drawing| drawing.millis.clone())
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        if let Some(Drawing { stop, thread, .. }) = self.0.take() {
            drop(stop);
            // It has nothing to say; a panic of it has been shown already.
            let _ = thread.join();
        }
    }
}

/// A bar over real time.
pub(super) fn time(whole: Duration) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(whole.as_secs()), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar}  {msg}, {elapsed} so far") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(INTERVAL);
    bar
}

/// A bar over a number of runs.
pub(super) fn runs(total: usize) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    let style = "{wide_bar}  {pos} of {len} runs, {msg}, {elapsed} so far, about {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(INTERVAL);
    bar
}
