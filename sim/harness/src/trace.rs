//! What happened in a run, as one hash.
//!
//! An event is a line: virtual time, node, what happened. Numbers that a process counts for itself, such as libp2p's ids of
//! connections, must never enter one, and neither may anything of the machine: paths, real times. A delivery is an event too;
//! its bytes go into the hash as they are, and its line, which shows their digest, is made only where somebody is told lines.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Events between two checkpoints.
const CHECKPOINT_EVENTS: u64 = 1_000;
/// Bytes that a line shows of the digest of what was delivered.
const DIGEST_BYTES: usize = 8;

/// Folds events into a hash, in their order.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Sha256,
    events: u64,
    checkpoints: Vec<Checkpoint>,
    lines: Lines,
}

type Told = dyn Fn(&str) + Send + Sync;

/// Who is told the lines of a trace as they are made, without their ends; by default there is nobody. Nothing keeps them.
#[derive(Clone, Default)]
pub struct Lines(Option<Arc<Told>>);

impl Lines {
    /// Tells them to `told`.
    pub fn new(told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells one.
    pub fn tell(&self, line: &str) {
        if let Some(told) = &self.0 {
            told(line);
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Lines" } else { "no lines" })
    }
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
    /// An empty trace, and who is told its lines.
    pub fn new(lines: Lines) -> Self {
        Self { lines, ..Self::default() }
    }

    /// Adds an event.
    pub fn record(&mut self, at: Duration, node: &str, what: impl fmt::Display) {
        let at_nanos = nanos(at);
        writeln!(Folded(&mut self.hash), "{at_nanos} {node} {what}").expect("hashing does not fail");
        if let Lines(Some(told)) = &self.lines {
            told(&format!("{at_nanos} {node} {what}"));
        }
        self.count(at_nanos);
    }

    /// Adds bytes that reached a node.
    pub fn deliver(&mut self, at: Duration, node: &str, from: SocketAddr, bytes: &[u8]) {
        let at_nanos = nanos(at);
        // The length goes before the bytes, so that no two deliveries run together.
        writeln!(Folded(&mut self.hash), "{at_nanos} {node} got {} from {from}", bytes.len())
            .expect("hashing does not fail");
        self.hash.update(bytes);
        if let Lines(Some(told)) = &self.lines {
            let digest = hex(&Sha256::digest(bytes)[..DIGEST_BYTES]);
            told(&format!("{at_nanos} {node} got {} from {from} {digest}", bytes.len()));
        }
        self.count(at_nanos);
    }

    fn count(&mut self, at_nanos: u64) {
        self.events += 1;
        if self.events.is_multiple_of(CHECKPOINT_EVENTS) {
            let checkpoint = Checkpoint { events: self.events, at_nanos, hash: self.hash() };
            self.checkpoints.push(checkpoint);
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
}

/// Text on its way into a hash, without a string in between.
struct Folded<'a>(&'a mut Sha256);

impl Write for Folded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// A trace with the place into which its lines come.
    fn kept() -> (Trace, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = lines.clone();
        let told =
            move |line: &str| into.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        (Trace::new(Lines::new(told)), lines)
    }

    fn hash(events: &[(u64, &str, &str)]) -> String {
        let mut trace = Trace::default();
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
    fn a_delivery_counts_with_its_bytes_and_with_where_it_ends() {
        let from: SocketAddr = "10.0.0.1:4001".parse().unwrap();
        let hash = |deliveries: &[&[u8]]| {
            let (mut trace, lines) = kept();
            deliveries.iter().for_each(|bytes| trace.deliver(Duration::ZERO, "a", from, bytes));
            (trace.hash(), lines.lock().unwrap().clone())
        };
        let (one, lines) = hash(&[b"ab", b"c"]);
        assert_eq!(one, hash(&[b"ab", b"c"]).0);
        for other in [&[&b"a"[..], b"bc"][..], &[b"ab", b"d"], &[b"ab"]] {
            assert_ne!(one, hash(other).0);
        }
        assert_eq!(lines[1], "0 a got 1 from 10.0.0.1:4001 2e7d2c03a9507ae2");
    }

    #[test]
    fn a_checkpoint_every_thousand_events_narrows_a_difference_down() {
        let run = |different: u64| {
            let (mut trace, lines) = kept();
            for n in 0..3_500 {
                trace.record(Duration::from_millis(n), "a", if n == different { "other" } else { "same" });
            }
            (trace, lines)
        };
        let ((one, _), (two, lines)) = (run(u64::MAX), run(1_500));
        assert_eq!(one.checkpoints().len(), 3);
        assert_eq!(one.checkpoints()[0], two.checkpoints()[0]);
        assert_ne!(one.checkpoints()[1], two.checkpoints()[1]);
        assert_eq!(lines.lock().unwrap()[1_500], "1500000000 a other");
    }
}
