//! What happened in a run, as one hash.
//!
//! An event is a line: virtual time, node, what happened. Numbers that a process counts for itself, such as libp2p's ids of
//! connections, must never enter one, and neither may anything of the machine: paths, real times.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Events between two checkpoints.
const CHECKPOINT_EVENTS: u64 = 1_000;

/// Folds events into a hash, in their order.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Sha256,
    events: u64,
    checkpoints: Vec<Checkpoint>,
    /// The lines themselves, where somebody asked for them.
    lines: Option<Vec<String>>,
}

/// The hash after a number of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Events until here.
    pub events: u64,
    /// Virtual time of the last of them, in nanoseconds.
    pub at_nanos: u64,
    /// The hash over them, in hexadecimal digits.
    pub hash: String,
}

impl Trace {
    /// An empty trace; it keeps the lines where that is asked for.
    pub fn new(keep_lines: bool) -> Self {
        Self { lines: keep_lines.then(Vec::new), ..Self::default() }
    }

    /// Adds an event.
    pub fn record(&mut self, at: Duration, node: &str, what: impl fmt::Display) {
        let at_nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let line = format!("{at_nanos} {node} {what}");
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.events += 1;
        if self.events.is_multiple_of(CHECKPOINT_EVENTS) {
            let checkpoint = Checkpoint { events: self.events, at_nanos, hash: self.hash() };
            self.checkpoints.push(checkpoint);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// The hash over all events so far, in hexadecimal digits.
    pub fn hash(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The checkpoints so far.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// The lines; none where they were not asked for.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(events: &[(u64, &str, &str)]) -> String {
        let mut trace = Trace::new(false);
        for (secs, node, what) in events {
            trace.record(Duration::from_secs(*secs), node, what);
        }
        trace.hash()
    }

    #[test]
    fn time_node_event_and_order_count() {
        let events = [(1, "a", "x"), (2, "b", "y")];
        assert_eq!(hash(&events), hash(&events));
        for other in [
            [(2, "b", "y"), (1, "a", "x")],
            [(1, "a", "x"), (3, "b", "y")],
            [(1, "a", "x"), (2, "a", "y")],
            [(1, "a", "x"), (2, "b", "z")],
        ] {
            assert_ne!(hash(&events), hash(&other));
        }
    }

    #[test]
    fn a_checkpoint_every_thousand_events_narrows_a_difference_down() {
        let run = |different: u64| {
            let mut trace = Trace::new(true);
            for n in 0..3_500 {
                trace.record(Duration::from_millis(n), "a", if n == different { "other" } else { "same" });
            }
            trace
        };
        let (one, two) = (run(u64::MAX), run(1_500));
        assert_eq!(one.checkpoints().len(), 3);
        assert_eq!(one.checkpoints()[0], two.checkpoints()[0]);
        assert_ne!(one.checkpoints()[1], two.checkpoints()[1]);
        assert_eq!(two.into_lines()[1_500], "1500000000 a other");
    }
}
