//! traits.
