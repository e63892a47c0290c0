//! Which peers keep their word, as this node saw it itself.
//!
//! Two numbers with two purposes. [`Score`] is what people see and filter by: `successful / (successful + failed)`, 1.0
//! for a new peer. [`confidence`](confidence::confidence) is what the node chooses by: a lower bound that a newcomer has to
//! earn. Both come from the [`ledger`], which holds only first-hand observations: nothing another peer says about a third
//! one, or about itself, ever reaches it. Which outcomes of a fetch count against a peer is decided by [`blame()`] alone.
//!
//! This module knows nothing of the network, the runtime or the clock; it may use the database that it is handed.

pub mod ban;
pub mod blame;
pub mod confidence;
pub mod ledger;
mod recent;
mod score;

pub use ban::Ban;
pub use blame::{Attempt, Cause, Circumstances, blame};
pub use confidence::{Evidence, confidence};
pub use ledger::{Event, HistoryEvent, Record};
pub use recent::Recent;
pub use score::{Score, score};

use crate::code::Code;

/// The tables of this module.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS reputation_peers (
    peer           BLOB PRIMARY KEY,
    successful     INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    blocks_good    INTEGER NOT NULL DEFAULT 0,
    blocks_forged  INTEGER NOT NULL DEFAULT 0,
    bytes_received INTEGER NOT NULL DEFAULT 0,
    bytes_sent     INTEGER NOT NULL DEFAULT 0,
    provided       INTEGER NOT NULL DEFAULT 0,
    claims         INTEGER NOT NULL DEFAULT 0,
    events         INTEGER NOT NULL DEFAULT 0,
    good           REAL    NOT NULL DEFAULT 0,
    bad            REAL    NOT NULL DEFAULT 0,
    evidence_at    INTEGER NOT NULL DEFAULT 0,
    first_seen     INTEGER NOT NULL,
    last_seen      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reputation_peers_by_last_seen ON reputation_peers (last_seen, peer);
CREATE TABLE IF NOT EXISTS reputation_packages (
    peer      BLOB    NOT NULL,
    root      BLOB    NOT NULL,
    confirmed INTEGER NOT NULL,
    PRIMARY KEY (peer, root)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reputation_totals (
    one    INTEGER PRIMARY KEY CHECK (one = 0),
    claims INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO reputation_totals (one, claims) VALUES (0, 0);
CREATE TABLE IF NOT EXISTS reputation_events (
    peer        BLOB    NOT NULL,
    number      INTEGER NOT NULL,
    time        INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    bytes       INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    PRIMARY KEY (peer, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reputation_bans (
    peer   BLOB PRIMARY KEY,
    level  INTEGER NOT NULL,
    until  INTEGER NOT NULL,
    manual INTEGER NOT NULL,
    reason TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A count as the database holds it; it saturates at the largest that fits.
fn to_stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count from the database; a negative one (a damaged file) reads as zero.
fn from_stored(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Why a reputation could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a number between 0 and 1.
    #[error("\"{text}\" is not a reputation: it must be a number from 0.0 to 1.0")]
    Score {
        /// The text, shortened.
        text: String,
    },
    /// The database failed.
    #[error("the record of peers could not be read or written")]
    Database(#[from] rusqlite::Error),
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Score { .. } => Code::Usage,
            Self::Database(error) => error.into(),
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Score { .. } => {
                "Give a number from 0.0 (unreliable) to 1.0 (perfect), for example --min-reputation 0.8."
                    .to_owned()
            }
            Self::Database(_) => "Run `ggen p2p doctor` to check the state folder.".to_owned(),
        }
    }
}
