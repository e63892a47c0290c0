//! The control interface: HTTP and JSON on a Unix socket, its shapes, its server and its client.
//!
//! [`service::Service`] is what a node can be asked to do, one method a verb; [`server::Server`] puts it on the socket of a
//! state folder, [`client::Client`] asks it there, and [`api`] holds the shapes between them. Only the same user, or root,
//! is answered. This module knows nothing of how a node does its work.

use std::path::{Path, PathBuf};

pub mod api;
pub mod client;
pub mod events;
pub mod peer_id;
pub mod server;
pub mod service;
mod socket;

/// Name of the socket inside the state folder.
pub const SOCKET_NAME: &str = "control.sock";

/// The socket of the node on the state folder `home`.
pub fn socket_path(home: &Path) -> PathBuf {
    home.join(SOCKET_NAME)
}
