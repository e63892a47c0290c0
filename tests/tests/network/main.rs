//! Real nodes, in this process, over real sockets on loopback; and peers that misbehave.
//!
//! [`node`] starts nodes and asks them; [`raw`] is a libp2p peer that does whatever a test tells it to. Nothing here sleeps in
//! place of a condition: [`eventually`] polls one until its deadline.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that unwraps a failure fails, and says why"
)]

mod announcements;
#[cfg(target_os = "linux")]
mod crowds;
mod dht;
mod examples;
mod excess;
mod framing;
mod garbage;
mod heads;
mod interop;
mod joining;
mod logs;
#[cfg(target_os = "linux")]
mod memory;
mod names;
mod node;
mod observing;
mod providers;
mod quic;
mod raw;
mod registry;
mod roles;
mod sockets;
mod telling;
mod unfolding;

use std::time::Duration;

use tokio::time::Instant;

/// How long a condition may take that should hold soon; generous, since machines that run tests are busy.
const SOON: Duration = Duration::from_secs(30);

/// Polls until there is something, and fails where there is nothing by the deadline.
async fn eventually<T>(what: &str, deadline: Duration, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
