//! The event-driven engine: every host in one paused runtime, byte streams that behave as TCP's do, and no tick.
//!
//! Time moves to whatever comes next: a timer of a program, or the arrival of bytes. A [`World`] has the hosts and runs them; what a
//! program sees is a [`HostNet`].
//!
//! What is lost in a partition is sent again, later each time, as Linux does; a dial into one waits. A line up and a line down for each
//! host are shared max-min fairly (`share`), and a router may stand before one or more hosts ([`nat`]). Segments are up to 16 KiB; after a loss
//! everything behind it is sent again too; congestion windows are not modelled. Timers, and so arrivals, are rounded up to a millisecond.

mod backoff;
mod events;
mod flows;
pub mod nat;
mod share;
mod socket;
mod state;
#[cfg(test)]
mod tests;
mod world;

pub use self::{
    socket::{HostNet, Listener, Stream},
    state::Link,
    world::{Program, Spawner, Started, World, elapsed},
};

use std::{net::IpAddr, time::Duration};

/// What a host is.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Bytes a second that it sends at most.
    pub up: Option<u64>,
    /// Bytes a second that it receives at most.
    pub down: Option<u64>,
    /// The router before it; hosts whose routers have the same outside address stand behind one.
    pub router: Option<nat::Settings>,
    /// Whether no request for a connection gets in from outside of its router, not even one that crosses a request of its own.
    pub firewall: bool,
}

/// What a fabric is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed of what is drawn: jitter and losses.
    pub seed: u64,
    /// A link of which nothing else is said.
    pub link: Link,
    /// How far [`crate::net::Control::step`] goes.
    pub step: Duration,
}

/// A host is not there, or its address is taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two hosts cannot have the same address.
    #[error("{0} is the address of another host already")]
    Taken(IpAddr),
    /// Two hosts stand behind one router, and it is not the same.
    #[error("the router at {0} is said to be two different ones")]
    Router(IpAddr),
    /// The runtime of the hosts cannot be made.
    #[error("the runtime cannot be made: {0}")]
    Runtime(#[from] std::io::Error),
}
