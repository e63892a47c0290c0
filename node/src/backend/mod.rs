//! The registries that there are: one, without a server.

pub mod p2p;
