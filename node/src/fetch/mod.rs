//! Fetching blocks from several peers at once.
//!
//! [`plan::Plan`] decides whom to ask for what and is pure; [`wanted`] says what must stand where; [`protocol`] is what goes
//! over the wire; [`session`] joins them with the store and the network, of which it knows a [`Transport`] only;
//! [`swarm`] is what those tell each other who fetch the same tree. [`log`] brings the
//! log of a package. Every block is verified on arrival, and only verified blocks are ever stored, so a
//! retrieval that was cut off goes on where it was.

mod held;
pub mod log;
#[cfg(test)]
mod memory;
mod news;
pub mod plan;
pub mod protocol;
mod providers;
mod report;
pub mod session;
pub mod swarm;
mod swarming;
mod transport;
pub mod wanted;

pub use providers::Source;
pub use report::{Report, Served};
pub use transport::{RequestFailure, Transport};
