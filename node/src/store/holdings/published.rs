//! Versions that this node published.

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

/// A version that this node published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The package.
    pub package: PackageId,
    /// The version.
    pub version: Version,
    /// Sequence of its log entry.
    pub sequence: u64,
    /// Content id of the tree.
    pub root: ContentId,
    /// Content id of the signed manifest.
    pub manifest: ContentId,
    /// The directory it was published from.
    pub path: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Number of distinct blocks.
    pub blocks: u64,
    /// When it was published.
    pub published_at: Timestamp,
    /// Whether at least one other node holds or heard the head.
    pub announced: bool,
}

/// Adds a version; returns whether it is new. The same tree under the same version changes nothing.
///
/// # Errors
/// [`Error::Conflict`] where the version exists with another tree: it is used once, permanently.
pub fn insert(tx: &Transaction<'_>, published: &Published) -> Result<bool, Error> {
    if let Some(there) = get(tx, &published.package, &published.version)? {
        if there.root == published.root {
            return Ok(false);
        }
        return Err(Error::Conflict { what: format!("{}@{}", published.package, published.version) });
    }
    let sql = "INSERT INTO published (publisher, name, version, sequence, root, manifest, path, bytes, files, blocks,
               published_at, announced) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    tx.prepare_cached(sql)?.execute(params![
        published.package.publisher.to_string(),
        published.package.name.as_str(),
        published.version.to_string(),
        column::integer(published.sequence),
        published.root.to_bytes(),
        published.manifest.to_bytes(),
        column::path(&published.path),
        column::integer(published.bytes),
        column::integer(published.files),
        column::integer(published.blocks),
        column::time(published.published_at),
        published.announced,
    ])?;
    Ok(true)
}

/// One version.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(
    connection: &Connection,
    package: &PackageId,
    version: &Version,
) -> Result<Option<Published>, Error> {
    let sql = "SELECT * FROM published WHERE publisher = ?1 AND name = ?2 AND version = ?3";
    let (publisher, version) = (package.publisher.to_string(), version.to_string());
    first(connection, sql, &[&publisher, &package.name.as_str(), &version], read)
}

/// Every version, by package and then ascending.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<Published>, Error> {
    sorted(list(connection, "SELECT * FROM published", &[], read)?)
}

/// Versions that no other node holds or heard of yet, by package and then ascending.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_unannounced(connection: &Connection) -> Result<Vec<Published>, Error> {
    sorted(list(connection, "SELECT * FROM published WHERE announced = 0", &[], read)?)
}

/// Notes that another node holds or heard the head that names all versions up to `sequence`.
///
/// # Errors
/// Where the table cannot be written.
pub fn set_announced(tx: &Transaction<'_>, package: &PackageId, sequence: u64) -> Result<(), Error> {
    tx.execute(
        "UPDATE published SET announced = 1 WHERE publisher = ?1 AND name = ?2 AND sequence <= ?3",
        params![package.publisher.to_string(), package.name.as_str(), column::integer(sequence)],
    )?;
    Ok(())
}

/// Notes that nobody has heard the newest head of a package yet, so that it is told again.
///
/// # Errors
/// Where the table cannot be written.
pub fn set_unannounced(tx: &Transaction<'_>, package: &PackageId) -> Result<(), Error> {
    tx.execute(
        "UPDATE published SET announced = 0 WHERE publisher = ?1 AND name = ?2",
        params![package.publisher.to_string(), package.name.as_str()],
    )?;
    Ok(())
}

/// Takes a version out of the list; returns whether it was there. Its log entries stay.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, package: &PackageId, version: &Version) -> Result<bool, Error> {
    let removed = tx.execute(
        "DELETE FROM published WHERE publisher = ?1 AND name = ?2 AND version = ?3",
        params![package.publisher.to_string(), package.name.as_str(), version.to_string()],
    )?;
    Ok(removed > 0)
}

fn sorted(mut list: Vec<Published>) -> Result<Vec<Published>, Error> {
    list.sort_by(|a, b| (&a.package, &a.version).cmp(&(&b.package, &b.version)));
    Ok(list)
}

fn read(row: &Row<'_>) -> Result<Published, Error> {
    Ok(Published {
        package: read_package(row)?,
        version: column::read_version(row, "version")?,
        sequence: column::read_integer(row, "sequence")?,
        root: column::read_id(row, "root")?,
        manifest: column::read_id(row, "manifest")?,
        path: column::read_path(row, "path")?,
        bytes: column::read_integer(row, "bytes")?,
        files: column::read_integer(row, "files")?,
        blocks: column::read_integer(row, "blocks")?,
        published_at: column::read_time(row, "published_at")?,
        announced: row.get("announced")?,
    })
}
