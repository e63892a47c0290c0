//! Which publisher a bare name means here: the first one accepted, until a person says otherwise.

use rusqlite::{Connection, Row, Transaction, params};

use super::{first, list};
use crate::{
    identity::PublisherId,
    package::PackageName,
    store::{Error, column},
    time::Timestamp,
};

/// A name and the publisher it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The bare name.
    pub name: PackageName,
    /// The publisher.
    pub publisher: PublisherId,
    /// When it was first accepted.
    pub pinned_at: Timestamp,
}

/// Pins a name to the first publisher accepted for it; returns whether the pin is new.
///
/// # Errors
/// [`Error::PinMismatch`] where the name is pinned to another one; the pin stays.
pub fn pin(
    tx: &Transaction<'_>,
    name: &PackageName,
    publisher: &PublisherId,
    now: Timestamp,
) -> Result<bool, Error> {
    if let Some(there) = pinned(tx, name)? {
        if there == *publisher {
            return Ok(false);
        }
        return Err(Error::PinMismatch {
            name: name.clone(),
            pinned: there.to_string(),
            offered: publisher.to_string(),
        });
    }
    let sql = "INSERT INTO pins (name, publisher, pinned_at) VALUES (?1, ?2, ?3)";
    tx.execute(sql, params![name.as_str(), publisher.to_string(), column::time(now)])?;
    Ok(true)
}

/// The publisher that a name is pinned to.
///
/// # Errors
/// Where the table cannot be read.
pub fn pinned(connection: &Connection, name: &PackageName) -> Result<Option<PublisherId>, Error> {
    let sql = "SELECT publisher FROM pins WHERE name = ?1";
    first(connection, sql, &[&name.as_str()], |row| column::read_text(row, "publisher"))
}

/// Every pin, by name.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<Pin>, Error> {
    list(connection, "SELECT * FROM pins ORDER BY name", &[], read)
}

/// Removes a pin, as a person asked; returns whether there was one.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, name: &PackageName) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM pins WHERE name = ?1", [name.as_str()])? > 0)
}

fn read(row: &Row<'_>) -> Result<Pin, Error> {
    Ok(Pin {
        name: column::read_text(row, "name")?,
        publisher: column::read_text(row, "publisher")?,
        pinned_at: column::read_time(row, "pinned_at")?,
    })
}
