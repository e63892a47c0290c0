//! Publishes, finds and installs signed, content-addressed packages between peers, without a server.
//!
//! Read [`backend::p2p::P2PRegistry`] first: it is the node as a library. [`traits::Registry`] is what it promises, and
//! [`network`] is the one loop that talks to other nodes.
//!
//! **Invariant:** this crate never prints, never exits the process, and knows nothing of the command line or of the
//! simulator.

pub mod backend;
pub mod catalog;
pub mod code;
pub mod config;
pub mod content;
pub mod control;
pub mod fetch;
pub mod heads;
pub mod hello;
pub mod identity;
pub mod limits;
mod line_ends;
pub mod network;
pub mod package;
pub mod peers;
pub mod project;
pub mod release;
pub mod reputation;
pub mod store;
pub mod sync;
mod tables;
pub mod time;
pub mod traits;

/// The program of the README is compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
