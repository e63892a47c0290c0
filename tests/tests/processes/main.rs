//! The real `ggen`, as processes that talk over loopback: whatever a user can see of a node, its answers and its files.
//!
//! Every node has folders of its own below a temporary one, and is killed when its test ends, however that ends. Nothing
//! waits for a time to pass: what is waited for is a condition, and a deadline makes its absence a failure.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests panic, wait for real processes, and show what those said"
)]

mod away;
mod bad_configuration;
mod bad_input;
mod bad_state;
mod clocks;
mod collecting;
mod completing;
mod corpus;
mod crowd;
mod double_signing;
mod exit_codes;
mod folders;
mod guides;
mod held;
mod kill;
mod lan;
mod lifecycle;
mod limits;
mod moving;
mod nat;
mod network;
mod newcomer;
mod outbox;
mod picture;
mod projects;
mod publishing;
mod quic;
mod relays;
mod router;
mod searching;
mod secrets;
mod service;
mod settings;
mod shapes;
mod sharing;
mod simulator;
mod taking_back;
mod tree;
mod two_chains;
mod views;
mod without_node;
mod world;
