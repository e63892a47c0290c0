//! Fetching blocks from several peers at once.
//!
//! [`plan::Plan`] decides whom to ask for what and is pure; [`wanted`] says what must stand where; [`protocol`] is what goes
//! over the wire; [`session`] joins them with the network and the store. Every block is verified on arrival, and only verified blocks are ever stored, so a
//! retrieval that was cut off goes on where it was.

mod held;
pub mod plan;
pub mod protocol;
pub mod session;
pub mod wanted;
