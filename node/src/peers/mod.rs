//! peers.

/// The tables of this module.
pub(crate) const SCHEMA: &str = "";
