//! Single values that belong nowhere else.

use rusqlite::{Connection, Transaction, params};

use super::{first, list};
use crate::store::Error;

/// The value under a key.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, Error> {
    first(connection, "SELECT value FROM meta WHERE key = ?1", &[&key], |row| Ok(row.get("value")?))
}

/// The keys that begin so, in order.
///
/// # Errors
/// Where the table cannot be read.
pub fn keys_from(connection: &Connection, prefix: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT key FROM meta WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";
    list(connection, sql, &[&prefix], |row| Ok(row.get("key")?))
}

/// All values whose keys begin with `prefix`, by key.
///
/// # Errors
/// Where the table cannot be read.
pub fn values_from(connection: &Connection, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let sql = "SELECT key, value FROM meta WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";
    list(connection, sql, &[&prefix], |row| Ok((row.get("key")?, row.get("value")?)))
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
