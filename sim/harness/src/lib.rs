//! Runs programs on simulated hosts, so that a run is a function of its seed. Knows nothing of what the programs do.
//!
//! Read [`net::Net`] first, the byte streams that a program sees, and [`net::Control`], what a world does to them. [`fabric`] is the
//! event-driven engine behind both; [`transport::NetTransport`] makes a libp2p transport of any [`net::Net`].
//!
//! **Invariant:** no wall clock, no entropy but that of [`draw::Draws`], and no iteration without an order.

pub mod draw;
pub mod fabric;
pub mod net;
pub mod task;
pub mod transport;
