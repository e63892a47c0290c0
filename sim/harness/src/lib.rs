//! Runs programs on simulated hosts, so that a run is a function of its seed. Knows nothing of what the programs do.
//!
//! Read [`net::Net`] first, the byte streams that a program sees, and [`net::Control`], what a world does to them. [`fabric`] is the
//! event-driven engine behind both; [`transport::NetTransport`] makes a libp2p transport of any [`net::Net`].
//!
//! [`virtualise`] makes clocks, entropy and the disk of libc virtual on the thread of a run, and [`trace`] folds what happens into a hash.
//!
//! **Invariant:** never linked into a program that is shipped: it takes its clocks and its entropy. No wall clock, no entropy but that of [`draw::Draws`], and no iteration without an order.

pub mod draw;
pub mod fabric;
pub mod net;
pub mod panics;
pub mod task;
pub mod trace;
pub mod transport;
pub mod virtualise;
