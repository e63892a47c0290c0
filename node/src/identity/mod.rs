//! Who a node is, who a publisher is, and how a publisher's signature is checked.
//!
//! Read [`Publisher`] first: it is the secret that signs. [`KeyLog`] is its public side, the chain of key documents whose
//! genesis names the publisher ([`PublisherId`]), and [`Envelope`] is the one signed form that everything else uses.
//!
//! **Invariant:** this module knows nothing of packages' content, of networks or of runtimes; apart from [`key_file`] and
//! what is built on it, it touches no file. It never makes a new identity where an old one was damaged.

pub(crate) mod canonical;
mod chains;
mod confirm_key;
pub mod documents;
pub mod envelope;
mod error;
pub(crate) mod hex;
pub mod key_file;
pub mod key_log;
mod keys;
pub mod node_key;
pub mod publisher;
mod publisher_id;
mod recovery;
mod replaced;

pub use chains::Chains;
pub use confirm_key::ConfirmKey;
pub use envelope::{Context, Envelope};
pub use error::Error;
pub use key_log::{KeyDocument, KeyLog};
pub use keys::{PublicKey, SecretKey};
pub use publisher::Publisher;
pub use publisher_id::PublisherId;
pub use recovery::RecoveryKey;
pub use replaced::Replaced;
