//! The control interface: HTTP and JSON on a Unix socket, its shapes, its server and its client.

pub mod api;
