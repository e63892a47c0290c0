//! Content that a person wants kept, whatever is installed: by name, and up to a time.

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    first, list,
    packages::{self, HeldPackage},
};
use crate::{
    store::{Error, column},
    time::Timestamp,
};

/// A pin of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What is kept.
    pub package: HeldPackage,
    /// Since when.
    pub since: Timestamp,
    /// Until when; permanently where there is no time.
    pub until: Option<Timestamp>,
}

impl Kept {
    /// Whether it keeps nothing any more.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Notes a pin, in the place of one of the same name.
///
/// # Errors
/// Where the table cannot be written.
pub fn insert(tx: &Transaction<'_>, kept: &Kept) -> Result<(), Error> {
    let held = &kept.package;
    let sql =
        "INSERT OR REPLACE INTO kept (name, root, publisher, package, version, manifest, size, since, until)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    tx.prepare_cached(sql)?.execute(params![
        kept.name,
        held.root.to_bytes(),
        held.package.publisher.to_string(),
        held.package.name.as_str(),
        held.version.to_string(),
        held.manifest.to_bytes(),
        column::integer(held.size),
        column::time(kept.since),
        kept.until.map(column::time),
    ])?;
    Ok(())
}

/// The pin of this name.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, name: &str) -> Result<Option<Kept>, Error> {
    first(connection, &format!("{SELECT} WHERE kept.name = ?1"), &[&name], read)
}

/// Every pin, by name.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<Kept>, Error> {
    list(connection, &format!("{SELECT} ORDER BY kept.name"), &[], read)
}

/// Takes a pin away; returns whether it was there.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, name: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM kept WHERE name = ?1", [name])? > 0)
}

const SELECT: &str = "SELECT kept.name AS pin, root, publisher, package AS name, version, manifest, size, since, until FROM kept";

fn read(row: &Row<'_>) -> Result<Kept, Error> {
    let until: Option<i64> = row.get("until")?;
    Ok(Kept {
        name: row.get("pin")?,
        package: packages::read(row)?,
        since: column::read_time(row, "since")?,
        until: match until {
            Some(_) => Some(column::read_time(row, "until")?),
            None => None,
        },
    })
}
