//! The log of a package in one answer.
//!
//! A head names the newest entry of its package's log, and every entry names the one before it by hash. So entries are sent from
//! the newest back: each is proved the moment it comes, by the hash that the signed head, or the entry after it, has for it. A
//! peer can stop early, and that is all it can do. What was proved is kept, so that an answer that was cut off goes on, from
//! another peer too, where it ended.
//!
//! [`protocol`] is what goes over the wire; [`Gathering`] decides whom to ask for what and what counts, and is pure;
//! [`Session`] joins it with the network and the store; [`Recital`] reads the answer for a peer.

mod gathering;
pub mod protocol;
mod recital;
mod session;

pub use gathering::{Ask, Fault, Gathering, StreamId, Taken, Wanted};
pub use protocol::{Frame, Request, Then, UpTo};
pub use recital::Recital;
pub use session::{Error, Session};
