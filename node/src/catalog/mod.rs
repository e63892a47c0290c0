//! The verified heads that this node knows, and the search over them.
//!
//! [`insert`] is the only way in, and takes a [`VerifiedHead`] only: nothing that was not signed by its publisher is ever
//! shown, passed on or found. What was seen of a package outlives its head, a restart, and eviction, so that an older state
//! is refused later too. Two signed states for one place are kept as a proof and freeze the package: its listing stays, is
//! marked, and changes no more under the same keys, and nothing beyond the contested place is installed; the two statements are
//! read with it, so that the proof gets around. A head under later keys ends it where its log resolved both sides
//! ([`crate::release::fork`]). What contradicts only what is remembered, or was signed with keys that were revoked, is
//! refused and freezes nothing. A key that a publisher revoked lists nothing more, of any package. Where a log ended is remembered too, until a log was read that holds all of it
//! ([`places`], [`log_read`]), because a head proves nothing of what is before its newest entry.
//!
//! Two heads of a publisher under chains of keys that go apart ([`crate::release::two_chains`]) are kept, and read with the listed one
//! of them, until recovery keys end that ([`disputed`]): the heads that are listed stay, and whoever shows them says so.
//!
//! Heads do not expire, so the bound is held by giving some up. Publishers cost nothing to make up, so what is held is counted
//! by the peer that told of it ([`Source`]): the peer with the largest share loses of it what has no known provider and was
//! confirmed longest ago, as far as it was listed by then. What this node publishes or installed is [kept](keep), whatever others send.
//!
//! Every change gives a head a new *position*, a number that only grows; whoever remembers a position reads on from there
//! with [`after`]. [`search`] depends on nothing but the heads that are there and whom this node has to do with: not on the order in which heads
//! came, until thousands match equally well.
//!
//! This module knows nothing of the network, the runtime or the clock; it may use the database that it is handed.

mod confirmed;
mod counts;
mod insert;
mod items;
mod near;
mod proofs;
mod read;
mod revoked;
mod search;
mod share;
mod short;
mod spelling;
mod terms;
mod two_chains;
mod words;

pub(crate) use confirmed::SCHEMA as CONFIRMED_SCHEMA;
pub use confirmed::lists as confirmed_lists;
pub use confirmed::{
    Confirming, Promises, confirm, counts, date_heads, dated_head, dated_heads_of, discard_confirmation,
    heads_of, held, promises,
};
pub(crate) use counts::SCHEMA as COUNTS_SCHEMA;
pub use insert::{Outcome, Refusal, discard, forget, insert, known, log_read, rebuild};
pub use items::{Changes, Since, changes, is_listed, of_items};
pub use near::near_names;
pub use proofs::{Proof, convict, convict_log, convict_statements, proofs};
pub use read::{
    Claims, Held, Listed, Page, after, before, by_name, changes_after, count, get, holds, is_frozen,
    listed_after, newest_position, newest_received, places, seen,
};
pub use revoked::listed_though_revoked;
pub use search::{Found, Query, search};
pub use share::{Source, keep, provided};
pub use short::{Fitting, fitting};
pub use terms::query_warnings;
pub use two_chains::{Disputed, all_disputed, disputed, longest_keys};

#[cfg(doc)]
use crate::release::VerifiedHead;
use crate::{code::Code, limits::QUERY_BYTES_MAX, package::PackageId};

/// The tables of this module, without those of the confirmations and the counts.
///
/// A head's position is its row id, which `AUTOINCREMENT` never gives twice. Its bytes are the last column, because what
/// stands after a long value costs another page to read.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS catalog_heads (
    position  INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT    NOT NULL UNIQUE,
    publisher BLOB    NOT NULL,
    name      TEXT    NOT NULL,
    released  INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    root      BLOB,
    provided  INTEGER NOT NULL DEFAULT 0,
    provider  BLOB,
    received  INTEGER NOT NULL,
    source    BLOB    NOT NULL,
    offers    INTEGER NOT NULL,
    key_n     INTEGER NOT NULL DEFAULT 0,
    item      BLOB    NOT NULL,
    bytes     BLOB    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS catalog_heads_by_item ON catalog_heads (item, released);
CREATE TABLE IF NOT EXISTS catalog_removed (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    released INTEGER NOT NULL,
    item     BLOB    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS catalog_heads_by_name ON catalog_heads (name, offers, id);
CREATE INDEX IF NOT EXISTS catalog_heads_by_publisher ON catalog_heads (publisher, key_n, released, item);
CREATE INDEX IF NOT EXISTS catalog_heads_by_age ON catalog_heads (released DESC, item);
CREATE INDEX IF NOT EXISTS catalog_heads_cards ON catalog_heads (position, name, publisher, provided, released, item);
CREATE INDEX IF NOT EXISTS catalog_heads_by_source ON catalog_heads (source, provided, confirmed, position DESC);
CREATE INDEX IF NOT EXISTS catalog_heads_by_root ON catalog_heads (root);
CREATE INDEX IF NOT EXISTS catalog_heads_by_provider ON catalog_heads (provider) WHERE provider IS NOT NULL;
CREATE VIRTUAL TABLE IF NOT EXISTS catalog_text USING fts5 (
    name, tags, categories, description, labels,
    tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3', columnsize = 0
);
CREATE TABLE IF NOT EXISTS catalog_words (number INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT NOT NULL UNIQUE) STRICT;
CREATE VIRTUAL TABLE IF NOT EXISTS catalog_vocabulary USING fts5vocab (catalog_text, row);
CREATE TABLE IF NOT EXISTS catalog_seen (
    id           TEXT    PRIMARY KEY,
    key_n        INTEGER NOT NULL,
    key_document BLOB    NOT NULL,
    sequence     INTEGER NOT NULL,
    entry        BLOB    NOT NULL,
    log          BLOB    NOT NULL,
    latest       BLOB,
    follows      BLOB,
    places       BLOB    NOT NULL,
    before       BLOB,
    frozen       INTEGER NOT NULL DEFAULT 0,
    source       BLOB    NOT NULL,
    at           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS catalog_seen_by_age ON catalog_seen (source, frozen, at, id);
CREATE TABLE IF NOT EXISTS catalog_kept (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS equivocations (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL,
    sides    BLOB    NOT NULL,
    key_n    INTEGER NOT NULL,
    document BLOB,
    sequence INTEGER NOT NULL,
    first    BLOB    NOT NULL,
    second   BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    source   BLOB    NOT NULL DEFAULT x'00',
    UNIQUE (id, sides)
) STRICT;
CREATE INDEX IF NOT EXISTS equivocations_by_source ON equivocations (source, number);
CREATE TABLE IF NOT EXISTS two_chains (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    publisher BLOB    NOT NULL UNIQUE,
    id        TEXT    NOT NULL,
    first     BLOB    NOT NULL,
    second    BLOB    NOT NULL,
    source    BLOB    NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS two_chains_by_package ON two_chains (id);
CREATE INDEX IF NOT EXISTS two_chains_by_source ON two_chains (source, number);
";

/// Why the catalogue could not be read, written or searched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The query is longer than any honest one.
    #[error("the query is too long: {what} {found}, and at most {max} are allowed")]
    Query {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// A head that was stored cannot be read any more.
    #[error("the stored head of {id} is damaged")]
    Damaged {
        /// The package.
        id: Box<PackageId>,
    },
    /// The database failed.
    #[error("the catalogue could not be read or written")]
    Database(#[from] rusqlite::Error),
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Query { .. } => Code::Usage,
            Self::Damaged { .. } => Code::StoreDamaged,
            Self::Database(error) => error.into(),
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Query { .. } => {
                format!("Search for fewer and shorter words; {QUERY_BYTES_MAX} bytes are the most in all.")
            }
            Self::Damaged { .. } | Self::Database(_) => {
                "Run `ggen p2p doctor` to check the state folder.".to_owned()
            }
        }
    }
}

/// A number as the database holds it, all 64 bits of it: for numbers that are compared for equality and order in Rust only.
fn to_bits(number: u64) -> i64 {
    number.cast_signed()
}

/// The reverse of [`to_bits`].
fn from_bits(stored: i64) -> u64 {
    stored.cast_unsigned()
}

/// A time or count as the database holds it, in order; it saturates at the largest that fits.
fn to_ordered(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The reverse of [`to_ordered`].
fn from_ordered(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

#[cfg(test)]
mod fixture;
