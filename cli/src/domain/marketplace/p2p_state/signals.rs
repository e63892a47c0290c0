//! The signals that end a node.

use ggen_marketplace::{
    code::Code,
    control::{api::Failure, service::Outcome},
};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::{Place, node::Node};

/// What a hangup means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    /// The end of a command.
    Ends,
    /// The end of a node in the foreground where its terminal is gone; otherwise, as to any other one, that its configuration is to be
    /// read again.
    EndsWithTerminal,
    /// That the configuration is to be read again.
    Reloads,
}

impl From<Place> for Hangup {
    fn from(place: Place) -> Self {
        match place {
            Place::Foreground if has_terminal() => Self::EndsWithTerminal,
            // A service manager, for example, gives none.
            Place::Foreground | Place::Background => Self::Reloads,
        }
    }
}

impl Hangup {
    fn is_end(self) -> bool {
        match self {
            Self::Ends => true,
            Self::EndsWithTerminal => !has_terminal(),
            Self::Reloads => false,
        }
    }
}

/// Whether this process has a terminal that controls it: the kernel takes that away before it tells of its end.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Ctrl-C, a polite kill, and the end of the terminal.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// The same, for who reads the configuration again: what comes before that one listens is not lost.
    reload: Option<Signal>,
    /// A file that may grow no further (`ulimit -f`): caught, so that the write fails and the node lives.
    _oversize: Signal,
    meaning: Hangup,
}

/// The number of SIGXFSZ on Linux and macOS.
const OVERSIZE: i32 = 25;

impl Signals {
    /// Catches them from now on.
    pub(super) fn new(meaning: Hangup) -> Outcome<Self> {
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
            reload: Some(catch(SignalKind::hangup())?),
            _oversize: catch(SignalKind::from_raw(OVERSIZE))?,
            meaning,
        })
    }

    /// Reads the configuration again whenever a node is told so by a hangup, as daemons do.
    pub(super) fn reload_on_hangup<N: Node>(&mut self, node: Arc<N>) {
        let meaning = self.meaning;
        let Some(mut hangup) = self.reload.take() else { return };
        tokio::spawn(async move {
            while hangup.recv().await.is_some() && !meaning.is_end() {
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

    /// Waits for the next one that ends; the end of a terminal means nothing to a daemon.
    ///
    /// # Cancel safety
    /// Loses nothing when dropped.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => if self.meaning.is_end() { return },
            }
        }
    }
}
