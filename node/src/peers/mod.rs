//! Where other nodes are, which addresses are worth dialling, and how many connections there may be.
//!
//! [`address_book`] remembers addresses over restarts, [`policy`] decides which ones may be dialled at all, [`redial`] says
//! whom to dial when, and [`limits`] bounds the connections. All of it is data in, data out: this module opens no
//! connection, asks no DNS server and reads no clock.

pub mod address_book;
pub mod backoff;
pub mod limits;
pub mod policy;
pub mod redial;

pub use address_book::{Known, Saved, Source};
pub use backoff::Backoff;
pub use policy::{Origin, Reason, Scope, acceptable};
pub use redial::Redial;

use cid::Cid;
use libp2p::PeerId;

use crate::code::Code;

/// The tables of this module.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS book_peers (
    peer         BLOB PRIMARY KEY,
    last_learned INTEGER NOT NULL,
    last_success INTEGER,
    kept         INTEGER NOT NULL
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

/// Parses a peer id in any of its text forms: base58 (`12D3Koo…`, `Qm…`) or a CIDv1 of the `libp2p-key` codec, as the
/// [peer id specification](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md) has them.
pub fn parse_peer_id(text: &str) -> Option<PeerId> {
    if text.len() > PEER_ID_TEXT_MAX {
        return None;
    }
    text.parse().ok().or_else(|| {
        let cid: Cid = text.parse().ok()?;
        (cid.codec() == LIBP2P_KEY).then(|| PeerId::from_bytes(&cid.hash().to_bytes()).ok())?
    })
}

/// Bytes of a peer id's text, with room for every base.
const PEER_ID_TEXT_MAX: usize = 128;
/// The multicodec number of a public key's CID.
const LIBP2P_KEY: u64 = 0x72;
