//! The newest signed head of each package that this node publishes, to be announced.

use rusqlite::{Connection, Row, Transaction, params};

use super::{first, list, read_package};
use crate::{
    limits::HEAD_BYTES_MAX,
    package::PackageId,
    store::{Error, column},
};

/// A signed head of this node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnHead {
    /// The package.
    pub package: PackageId,
    /// Sequence of the newest log entry it names.
    pub sequence: u64,
    /// The head as it was signed.
    pub bytes: Vec<u8>,
}

/// Keeps a head in place of the one before.
///
/// # Errors
/// [`Error::Rollback`] where the one before is newer; [`Error::TooLarge`].
pub fn put(tx: &Transaction<'_>, head: &OwnHead) -> Result<(), Error> {
    if head.bytes.len() > HEAD_BYTES_MAX {
        return Err(Error::TooLarge { what: "a head", bytes: head.bytes.len(), max: HEAD_BYTES_MAX });
    }
    if let Some(there) = get(tx, &head.package)?
        && there.sequence > head.sequence
    {
        let what = format!("the head of {}", head.package);
        return Err(Error::Rollback { what, held: there.sequence, offered: head.sequence });
    }
    let sql = "INSERT INTO own_heads (publisher, name, sequence, bytes) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET sequence = excluded.sequence, bytes = excluded.bytes";
    tx.prepare_cached(sql)?.execute(params![
        head.package.publisher.to_string(),
        head.package.name.as_str(),
        column::integer(head.sequence),
        head.bytes,
    ])?;
    Ok(())
}

/// The head of a package.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, package: &PackageId) -> Result<Option<OwnHead>, Error> {
    let sql = "SELECT * FROM own_heads WHERE publisher = ?1 AND name = ?2";
    first(connection, sql, &[&package.publisher.to_string(), &package.name.as_str()], read)
}

/// Every head, by package.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<OwnHead>, Error> {
    list(connection, "SELECT * FROM own_heads ORDER BY publisher, name", &[], read)
}

/// Every package with the sequence of its head.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_places(connection: &Connection) -> Result<Vec<(PackageId, u64)>, Error> {
    list(connection, "SELECT publisher, name, sequence FROM own_heads", &[], |row| {
        Ok((read_package(row)?, column::read_integer(row, "sequence")?))
    })
}

/// Stops announcing a package; returns whether there was a head.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, package: &PackageId) -> Result<bool, Error> {
    let removed = tx.execute(
        "DELETE FROM own_heads WHERE publisher = ?1 AND name = ?2",
        params![package.publisher.to_string(), package.name.as_str()],
    )?;
    Ok(removed > 0)
}

fn read(row: &Row<'_>) -> Result<OwnHead, Error> {
    Ok(OwnHead {
        package: read_package(row)?,
        sequence: column::read_integer(row, "sequence")?,
        bytes: row.get("bytes")?,
    })
}
