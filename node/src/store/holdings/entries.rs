//! Signed log entries. What others may have seen stays, so that nothing else is signed under its sequence.

use rusqlite::{Connection, Row, Transaction, params};

use super::{first, list, read_package};
use crate::{
    content::ContentId,
    limits::ENTRY_BYTES_MAX,
    package::PackageId,
    store::{Error, column},
};

/// One signed entry of a package's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The package.
    pub package: PackageId,
    /// Place in the log.
    pub sequence: u64,
    /// Content id of the entry.
    pub id: ContentId,
    /// The entry as it was signed.
    pub bytes: Vec<u8>,
}

/// Adds an entry; returns whether it is new.
///
/// # Errors
/// [`Error::Conflict`] where another entry has the sequence; [`Error::TooLarge`].
pub fn insert(tx: &Transaction<'_>, entry: &Entry) -> Result<bool, Error> {
    if entry.bytes.len() > ENTRY_BYTES_MAX {
        return Err(Error::TooLarge { what: "a log entry", bytes: entry.bytes.len(), max: ENTRY_BYTES_MAX });
    }
    if let Some(there) = get(tx, &entry.package, entry.sequence)? {
        if there.id == entry.id {
            return Ok(false);
        }
        return Err(Error::Conflict { what: format!("entry {} of {}", entry.sequence, entry.package) });
    }
    let sql = "INSERT INTO entries (publisher, name, sequence, id, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.prepare_cached(sql)?.execute(params![
        entry.package.publisher.to_string(),
        entry.package.name.as_str(),
        column::integer(entry.sequence),
        entry.id.to_bytes(),
        entry.bytes,
    ])?;
    Ok(true)
}

/// One entry.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, package: &PackageId, sequence: u64) -> Result<Option<Entry>, Error> {
    let sql = "SELECT * FROM entries WHERE publisher = ?1 AND name = ?2 AND sequence = ?3";
    let (publisher, sequence) = (package.publisher.to_string(), column::integer(sequence));
    first(connection, sql, &[&publisher, &package.name.as_str(), &sequence], read)
}

/// The newest entry of a log.
///
/// # Errors
/// Where the table cannot be read.
pub fn last(connection: &Connection, package: &PackageId) -> Result<Option<Entry>, Error> {
    let sql = "SELECT * FROM entries WHERE publisher = ?1 AND name = ?2 ORDER BY sequence DESC LIMIT 1";
    first(connection, sql, &[&package.publisher.to_string(), &package.name.as_str()], read)
}

/// A whole log, ascending.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_of(connection: &Connection, package: &PackageId) -> Result<Vec<Entry>, Error> {
    let sql = "SELECT * FROM entries WHERE publisher = ?1 AND name = ?2 ORDER BY sequence";
    list(connection, sql, &[&package.publisher.to_string(), &package.name.as_str()], read)
}

/// The ids of all entries.
///
/// # Errors
/// Where the table cannot be read.
pub fn ids(connection: &Connection) -> Result<Vec<ContentId>, Error> {
    list(connection, "SELECT id FROM entries", &[], |row| column::read_id(row, "id"))
}

/// Forgets a whole log; returns how many entries went. Of a log of our own that is for what never left this machine, or before
/// another one is written in its place in the same transaction.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, package: &PackageId) -> Result<u64, Error> {
    let removed = tx.execute(
        "DELETE FROM entries WHERE publisher = ?1 AND name = ?2",
        params![package.publisher.to_string(), package.name.as_str()],
    )?;
    Ok(removed as u64)
}

fn read(row: &Row<'_>) -> Result<Entry, Error> {
    Ok(Entry {
        package: read_package(row)?,
        sequence: column::read_integer(row, "sequence")?,
        id: column::read_id(row, "id")?,
        bytes: row.get("bytes")?,
    })
}
