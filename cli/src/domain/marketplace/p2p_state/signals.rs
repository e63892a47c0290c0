//! The signals that end a node.

use ggen_marketplace::{
    code::Code,
    control::{api::Failure, service::Outcome},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Place;

/// Ctrl-C, a polite kill, and the end of the terminal.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    place: Place,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn new(place: Place) -> Outcome<Self> {
        let catch = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(
                    Code::Io,
                    format!("Signals cannot be caught: {error}."),
                    "Raise the limit of open files: ulimit -n",
                )
            })
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
            place,
        })
    }

    /// Waits for the next one; the end of a terminal means nothing to a daemon.
    ///
    /// # Cancel safety
    /// Loses nothing when dropped.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv(), if self.place == Place::Foreground => {}
        }
    }
}
