//! reputation.
