//! The tables of all rooms, and the store that has them.
//!
//! The store is below the rooms that keep something in it, and is handed their tables; here, above all of them, they are put
//! together.

use std::path::Path;

use rusqlite::Transaction;

use crate::{
    catalog, peers, release, reputation,
    store::{Error, Note, Store, Tables, meta},
    sync,
    time::Timestamp,
};

/// The tables of a node.
const TABLES: Tables = Tables {
    schema: &[
        catalog::SCHEMA,
        catalog::COUNTS_SCHEMA,
        catalog::CONFIRMED_SCHEMA,
        reputation::SCHEMA,
        peers::SCHEMA,
    ],
    derive,
};

fn derive(tx: &Transaction<'_>, now: Timestamp) -> Result<(), Error> {
    catalog::rebuild(tx, now)?;
    reputation::ledger::rebuild(tx)?;
    // Numbers of lost changes would be given again.
    meta::remove(tx, sync::EPOCH).map(drop)
}

impl Store {
    /// Opens the store of a node in `folder`.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(folder: &Path, now: Timestamp) -> Result<(Self, Vec<Note>), Error> {
        Self::open_with(folder, &TABLES, now)
    }

    /// Opens the store of a node in `folder` for reading alone.
    ///
    /// # Errors
    /// As [`Store::open_for_reading_with`].
    pub fn open_for_reading(folder: &Path) -> Result<Self, Error> {
        Self::open_for_reading_with(folder, &TABLES)
    }

    /// Makes the store of a node in memory, empty.
    ///
    /// # Errors
    /// As [`Store::in_memory_with`].
    pub fn in_memory() -> Result<Self, Error> {
        Self::in_memory_with(&TABLES)
    }
}

/// The rooms that keep tables call the database's failures their own; inside a transaction they are the store's again.
macro_rules! from_room {
    ($($room:ident),*) => {$(
        impl From<$room::Error> for Error {
            fn from(error: $room::Error) -> Self {
                let (code, message, hint) = (error.code(), error.to_string(), error.hint());
                match error {
                    $room::Error::Database(error) => error.into(),
                    #[allow(unreachable_patterns)] // Some of them have no other failure.
                    _ => Self::Refused { code, message, hint },
                }
            }
        }
    )*};
}

from_room!(catalog, reputation, peers);

impl From<release::Error> for Error {
    fn from(error: release::Error) -> Self {
        Self::Refused { code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}
