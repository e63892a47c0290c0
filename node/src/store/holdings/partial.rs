//! Packages whose installation was begun and has not come to its end: what is here of them is fetched once.

use std::path::PathBuf;

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    list,
    packages::{self, HeldPackage},
};
use crate::{
    store::{Error, column},
    time::Timestamp,
};

/// A package of which some blocks may be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// The package, as it will be held.
    pub package: HeldPackage,
    /// The folder that was to be made.
    pub target: PathBuf,
    /// When its installation was begun last.
    pub started_at: Timestamp,
}

/// Notes that a package is being fetched.
///
/// # Errors
/// Where the table cannot be written.
pub fn insert(tx: &Transaction<'_>, partial: &Partial) -> Result<(), Error> {
    let Partial { package: held, target, started_at } = partial;
    let sql = "INSERT OR REPLACE INTO partial (root, publisher, name, version, manifest, size, target,
               started_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    tx.prepare_cached(sql)?.execute(params![
        held.root.to_bytes(),
        held.package.publisher.to_string(),
        held.package.name.as_str(),
        held.version.to_string(),
        held.manifest.to_bytes(),
        column::integer(held.size),
        column::path(target),
        column::time(*started_at),
    ])?;
    Ok(())
}

/// Every package that was begun, the oldest first.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<Partial>, Error> {
    let sql = "SELECT * FROM partial ORDER BY started_at, publisher, name, version";
    list(connection, sql, &[], read)
}

/// Forgets one, because it is whole or was given up; returns whether it was there.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, held: &HeldPackage) -> Result<bool, Error> {
    packages::delete(tx, "partial", held)
}

fn read(row: &Row<'_>) -> Result<Partial, Error> {
    Ok(Partial {
        package: packages::read(row)?,
        target: column::read_path(row, "target")?,
        started_at: column::read_time(row, "started_at")?,
    })
}
