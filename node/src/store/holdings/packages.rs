//! Packages that are here completely, and that this node provides to others.

use rusqlite::{Connection, Row, Transaction, params};
use semver::Version;

use super::{list, read_package};
use crate::{
    content::ContentId,
    package::PackageId,
    store::{Error, column},
};

/// A package whose manifest and blocks are all here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPackage {
    /// Content id of the tree.
    pub root: ContentId,
    /// Content id of the signed manifest.
    pub manifest: ContentId,
    /// The package.
    pub package: PackageId,
    /// The version.
    pub version: Version,
    /// Bytes of all files.
    pub size: u64,
}

/// Notes that a package is here completely; belongs into the transaction that makes its last block durable.
///
/// # Errors
/// Where the table cannot be written.
pub fn insert(tx: &Transaction<'_>, held: &HeldPackage) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO packages (root, publisher, name, version, manifest, size)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.prepare_cached(sql)?.execute(params![
        held.root.to_bytes(),
        held.package.publisher.to_string(),
        held.package.name.as_str(),
        held.version.to_string(),
        held.manifest.to_bytes(),
        column::integer(held.size),
    ])?;
    Ok(())
}

/// Every package with this tree, by id and version: several publishers may release the same one.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, root: &ContentId) -> Result<Vec<HeldPackage>, Error> {
    list(connection, "SELECT * FROM packages WHERE root = ?1", &[&root.to_bytes()], read).map(sorted)
}

/// Every package that is here, by id and version.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<HeldPackage>, Error> {
    list(connection, "SELECT * FROM packages", &[], read).map(sorted)
}

/// Every package that is here, that which came first first.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_by_age(connection: &Connection) -> Result<Vec<HeldPackage>, Error> {
    list(connection, "SELECT * FROM packages ORDER BY rowid", &[], read)
}

/// How many packages are here.
///
/// # Errors
/// Where the table cannot be read.
pub fn count(connection: &Connection) -> Result<u64, Error> {
    let count: i64 = connection.query_row("SELECT count(*) FROM packages", [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Stops providing one version; returns whether it was provided. Its blocks stay.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, package: &PackageId, version: &Version) -> Result<bool, Error> {
    let removed = tx.execute(
        "DELETE FROM packages WHERE publisher = ?1 AND name = ?2 AND version = ?3",
        params![package.publisher.to_string(), package.name.as_str(), version.to_string()],
    )?;
    Ok(removed > 0)
}

/// Forgets one tree of a package; returns whether it was known.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove_held(tx: &Transaction<'_>, held: &HeldPackage) -> Result<bool, Error> {
    delete(tx, "packages", held)
}

/// Deletes the row of one tree of a package from a table that has one for each; returns whether it was there.
pub(super) fn delete(tx: &Transaction<'_>, table: &str, held: &HeldPackage) -> Result<bool, Error> {
    let removed = tx.execute(
        &format!("DELETE FROM {table} WHERE root = ?1 AND publisher = ?2 AND name = ?3 AND version = ?4"),
        params![
            held.root.to_bytes(),
            held.package.publisher.to_string(),
            held.package.name.as_str(),
            held.version.to_string()
        ],
    )?;
    Ok(removed > 0)
}

fn sorted(mut list: Vec<HeldPackage>) -> Vec<HeldPackage> {
    list.sort_by(|a, b| (&a.package, &a.version).cmp(&(&b.package, &b.version)));
    list
}

/// The package of a row, whichever table it stands in.
pub(super) fn read(row: &Row<'_>) -> Result<HeldPackage, Error> {
    Ok(HeldPackage {
        root: column::read_id(row, "root")?,
        manifest: column::read_id(row, "manifest")?,
        package: read_package(row)?,
        version: column::read_version(row, "version")?,
        size: column::read_integer(row, "size")?,
    })
}
