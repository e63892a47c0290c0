//! Where other nodes are, which addresses are worth dialling, and how many connections there may be.
//!
//! [`address_book`] remembers addresses over restarts, [`policy`] decides which ones may be dialled at all, [`redial`] says
//! whom to dial when to join, [`lost`] whom to dial again whose connection broke, [`trim`] whom to let go, and [`limits`]
//! bounds the connections. All of it is data in, data out: this module opens no
//! connection, asks no DNS server and reads no clock.

pub mod address_book;
pub mod backoff;
pub mod limits;
pub mod lost;
pub mod policy;
pub mod redial;
pub mod trim;

pub use address_book::{Known, Saved, Source};
pub use backoff::Backoff;
pub use lost::Lost;
pub use policy::{Origin, Reason, Scope, acceptable};
pub use redial::Redial;

use crate::code::Code;

/// The tables of this module.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS book_peers (
    peer         BLOB PRIMARY KEY,
    last_learned INTEGER NOT NULL,
    last_success INTEGER,
    kept         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS book_servers (
    peer      BLOB PRIMARY KEY,
    last_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS book_addresses (
    peer         BLOB    NOT NULL,
    address      BLOB    NOT NULL,
    source       INTEGER NOT NULL,
    last_learned INTEGER NOT NULL,
    last_success INTEGER,
    failures     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (peer, address)
) STRICT, WITHOUT ROWID;
";

/// Why the address book could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database failed.
    #[error("the address book could not be read or written")]
    Database(#[from] rusqlite::Error),
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Database(error) => error.into(),
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> String {
        "Run `ggen p2p doctor` to check the state folder.".to_owned()
    }
}
