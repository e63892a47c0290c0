//! Runs the shipped node in simulated worlds, so that a run is a function of its seed.
//!
//! Read [`world::run`] first: it puts the nodes of a [`scenario::Scenario`] on simulated hosts and yields a
//! [`report::Report`]; [`plan::Plan`] is what was drawn for it. What makes a run repeatable is in [`virtualise`] (clocks, entropy and disks), [`draw`] (what the harness
//! itself decides) and [`trace`] (the hash by which two runs are compared).
//!
//! A run is repeatable once a process: libp2p counts its connections and listeners for the whole of it, so that [`prove`]
//! compares two processes.
//!
//! **Invariant:** this crate is never linked into the program `ggen`; it would take its clocks and its entropy away.

pub use ggen_harness::{trace, virtualise};

mod account;
pub mod adversary;
pub mod children;
pub mod compare;
#[cfg(test)]
mod conformance;
pub mod corpus;
mod disk;
pub mod draw;
pub mod engine;
pub mod explore;
mod faults;
mod host;
pub mod judge;
pub mod leak;
pub mod ledger;
mod measure;
pub mod memory;
mod names;
mod packages;
pub mod placement;
mod places;
pub mod plan;
mod power;
mod preload;
pub mod prove;
pub mod reached;
mod recent;
pub mod report;
pub mod scenario;
pub mod shard;
pub mod shrink;
mod weather;
pub mod witness;
pub mod world;
