//! Single values that belong nowhere else.

use rusqlite::{Connection, Transaction, params};

use super::first;
use crate::store::Error;

/// The value under a key.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, Error> {
    first(connection, "SELECT value FROM meta WHERE key = ?1", &[&key], |row| Ok(row.get("value")?))
}

/// Sets the value under a key.
///
/// # Errors
/// Where the table cannot be written.
pub fn set(tx: &Transaction<'_>, key: &str, value: &[u8]) -> Result<(), Error> {
    tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}

/// Removes the value under a key; returns whether there was one.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, key: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM meta WHERE key = ?1", [key])? > 0)
}
