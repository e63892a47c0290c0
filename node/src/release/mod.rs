//! What a publisher says of a package: its signed log, and the head that names the log's end.
//!
//! Read [`Head`] first, the only thing that travels in gossip and the DHT; [`VerifiedHead`] is one that was checked. A
//! [`Log`] is the package's whole history, made of [`SignedEntry`]s, and [`choice`] says which of two heads counts. A head says
//! nothing of how fresh it is: its publisher does, with a [`Confirmation`], and [`Freshness`] is what follows from that.
//!
//! **Invariant:** nothing here touches a file, a network or a clock; `now` is an argument. A type whose name says that it was
//! verified or signed cannot be made without the check.

mod back;
pub mod choice;
pub mod confirmation;
pub mod entry;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
pub mod fork;
pub mod freshness;
mod gathered;
pub mod head;
pub mod log;
pub mod resolve;
mod text;
pub mod two_chains;
mod yanked;

pub use back::Back;
pub use choice::{Choice, Place, Seen};
pub use confirmation::{Confirmation, VerifiedConfirmation};
pub use entry::{Entry, Kind, Release, Sequence, SignedEntry, unverified_package};
pub use error::Error;
pub use fork::DoubleSigning;
pub use freshness::Freshness;
pub use gathered::Gathered;
pub use head::{Head, Labels, Latest, VerifiedHead, dht_key};
pub use log::{Log, VersionState};
pub use resolve::{Resolve, Withdrawn};
pub use two_chains::TwoChains;
