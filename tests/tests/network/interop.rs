//! Other implementations.
