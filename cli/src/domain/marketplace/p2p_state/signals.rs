//! The signals that end a node.

use ggen_marketplace::{
    code::Code,
    control::{api::Failure, service::Outcome},
};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::{Place, node::Node};

/// Ctrl-C, a polite kill, and the end of the terminal.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// A file that may grow no further (`ulimit -f`): caught, so that the write fails and the node lives.
    _oversize: Signal,
    place: Place,
}

/// The number of SIGXFSZ on Linux and macOS.
const OVERSIZE: i32 = 25;

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
            _oversize: catch(SignalKind::from_raw(OVERSIZE))?,
            place,
        })
    }

    /// Reads the configuration again whenever a daemon is told so by a hangup, as daemons do.
    pub(super) fn reload_on_hangup<N: Node>(&mut self, node: Arc<N>) {
        if self.place == Place::Foreground {
            return;
        }
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                match node.reload().await {
                    Ok(reloaded) => {
                        info!(?reloaded.applied, ?reloaded.restart_needed, "configuration read again")
                    }
                    Err(failure) => {
                        warn!(code = %failure.code, error = failure.message, "configuration not read")
                    }
                }
            }
        });
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
