//! Versions that wait to be published: packed and described, and not signed.
//!
//! What is signed has a place in a log, and nobody may sign two things for one place. So what waits has no place yet: it is
//! signed when it leaves this machine for the first time, behind all that was published meanwhile.

use std::path::PathBuf;

use rusqlite::{Connection, Row, Transaction, params};
use semver::Version;

use super::{first, list, read_package};
use crate::{
    content::ContentId,
    package::PackageId,
    store::{Error, column},
    time::Timestamp,
};

/// A version that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Where it stands in the queue; given when it is put there.
    pub number: u64,
    /// The package.
    pub package: PackageId,
    /// The version.
    pub version: Version,
    /// Content id of the tree, whose blocks are in the store.
    pub root: ContentId,
    /// The directory it was packed from.
    pub path: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Number of distinct blocks.
    pub blocks: u64,
    /// When it was put here.
    pub queued_at: Timestamp,
    /// The stable code of what keeps it here; none before the first try.
    pub code: Option<String>,
    /// What keeps it here, in words.
    pub why: String,
}

const COLUMNS: &str =
    "number, publisher, name, version, root, path, bytes, files, blocks, queued_at, code, why";

/// Adds a version with the bytes of its manifest, as they will be signed.
///
/// # Errors
/// [`Error::Conflict`] where the version waits already.
pub fn insert(tx: &Transaction<'_>, queued: &Queued, manifest: &[u8]) -> Result<(), Error> {
    if get(tx, &queued.package, &queued.version)?.is_some() {
        return Err(Error::Conflict { what: format!("{}@{}", queued.package, queued.version) });
    }
    let sql = "INSERT INTO outbox (publisher, name, version, root, manifest, path, bytes, files, blocks, queued_at, code, why)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    tx.prepare_cached(sql)?.execute(params![
        queued.package.publisher.to_string(),
        queued.package.name.as_str(),
        queued.version.to_string(),
        queued.root.to_bytes(),
        manifest,
        column::path(&queued.path),
        column::integer(queued.bytes),
        column::integer(queued.files),
        column::integer(queued.blocks),
        column::time(queued.queued_at),
        queued.code,
        queued.why,
    ])?;
    Ok(())
}

/// One version that waits.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, package: &PackageId, version: &Version) -> Result<Option<Queued>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM outbox WHERE publisher = ?1 AND name = ?2 AND version = ?3");
    let (publisher, version) = (package.publisher.to_string(), version.to_string());
    first(connection, &sql, &[&publisher, &package.name.as_str(), &version], read)
}

/// The bytes of the manifest of a version that waits.
///
/// # Errors
/// Where the table cannot be read.
pub fn manifest(
    connection: &Connection,
    package: &PackageId,
    version: &Version,
) -> Result<Option<Vec<u8>>, Error> {
    let sql = "SELECT manifest FROM outbox WHERE publisher = ?1 AND name = ?2 AND version = ?3";
    let (publisher, version) = (package.publisher.to_string(), version.to_string());
    first(connection, sql, &[&publisher, &package.name.as_str(), &version], |row| Ok(row.get("manifest")?))
}

/// Everything that waits, what was put here first coming first.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<Queued>, Error> {
    list(connection, &format!("SELECT {COLUMNS} FROM outbox ORDER BY number"), &[], read)
}

/// Notes what keeps a version here.
///
/// # Errors
/// Where the table cannot be written.
pub fn set_reason(
    tx: &Transaction<'_>,
    package: &PackageId,
    version: &Version,
    code: &str,
    why: &str,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE outbox SET code = ?4, why = ?5 WHERE publisher = ?1 AND name = ?2 AND version = ?3",
        params![package.publisher.to_string(), package.name.as_str(), version.to_string(), code, why],
    )?;
    Ok(())
}

/// Takes a version out of the queue; returns whether it was there.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, package: &PackageId, version: &Version) -> Result<bool, Error> {
    let removed = tx.execute(
        "DELETE FROM outbox WHERE publisher = ?1 AND name = ?2 AND version = ?3",
        params![package.publisher.to_string(), package.name.as_str(), version.to_string()],
    )?;
    Ok(removed > 0)
}

/// Notes that nothing of the log of a package has left this machine.
///
/// # Errors
/// Where the table cannot be written.
pub fn set_unsent(tx: &Transaction<'_>, package: &PackageId) -> Result<(), Error> {
    tx.execute(
        "INSERT OR IGNORE INTO unsent_logs (publisher, name) VALUES (?1, ?2)",
        params![package.publisher.to_string(), package.name.as_str()],
    )?;
    Ok(())
}

/// Whether nothing of the log of a package has left this machine for certain.
///
/// # Errors
/// Where the table cannot be read.
pub fn is_unsent(connection: &Connection, package: &PackageId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM unsent_logs WHERE publisher = ?1 AND name = ?2";
    let publisher = package.publisher.to_string();
    Ok(first(connection, sql, &[&publisher, &package.name.as_str()], |_| Ok(()))?.is_some())
}

/// The logs of which nothing has left this machine.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_unsent(connection: &Connection) -> Result<Vec<PackageId>, Error> {
    list(connection, "SELECT publisher, name FROM unsent_logs ORDER BY publisher, name", &[], read_package)
}

/// Notes that the logs of all packages may have left this machine.
///
/// # Errors
/// Where the table cannot be written.
pub fn set_all_sent(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.execute("DELETE FROM unsent_logs", [])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Queued, Error> {
    Ok(Queued {
        number: column::read_integer(row, "number")?,
        package: read_package(row)?,
        version: column::read_version(row, "version")?,
        root: column::read_id(row, "root")?,
        path: column::read_path(row, "path")?,
        bytes: column::read_integer(row, "bytes")?,
        files: column::read_integer(row, "files")?,
        blocks: column::read_integer(row, "blocks")?,
        queued_at: column::read_time(row, "queued_at")?,
        code: row.get("code")?,
        why: row.get("why")?,
    })
}
