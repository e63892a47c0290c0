//! How fast the network looks up and announces, in simulated time.
//!
//! Read [`measure::run`] first: it runs a [`world::Size`] in the simulation and yields [`figures::Figures`], which are a
//! function of size and seed. A run is repeatable once a process, so that everybody but the program `ggen-measure` goes
//! through [`child`]. [`baseline`] holds figures against earlier ones.
//!
//! **Invariant:** the bench of real sockets (`benches/loopback.rs`) uses nothing of this library: it would take its clock away.

pub mod baseline;
pub mod child;
pub mod cost;
pub mod fanout;
pub mod figures;
pub mod measure;
pub mod world;
