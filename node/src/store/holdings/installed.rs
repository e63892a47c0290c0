//! Packages installed on this machine, one a place.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, Transaction, params};
use semver::Version;

use super::{first, list, read_package};
use crate::{
    content::ContentId,
    package::PackageId,
    store::{Error, column},
    time::Timestamp,
};

/// A package that was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The folder that holds it.
    pub path: PathBuf,
    /// The package.
    pub package: PackageId,
    /// The version.
    pub version: Version,
    /// Content id of the tree.
    pub root: ContentId,
    /// Content id of the signed manifest.
    pub manifest: ContentId,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// When it was installed.
    pub installed_at: Timestamp,
}

/// Notes an installation, in place of what stood at the same path before.
///
/// # Errors
/// Where the table cannot be written.
pub fn insert(tx: &Transaction<'_>, installed: &Installed) -> Result<(), Error> {
    let sql =
        "INSERT OR REPLACE INTO installed (path, publisher, name, version, root, manifest, bytes, files,
               installed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    tx.prepare_cached(sql)?.execute(params![
        column::path(&installed.path),
        installed.package.publisher.to_string(),
        installed.package.name.as_str(),
        installed.version.to_string(),
        installed.root.to_bytes(),
        installed.manifest.to_bytes(),
        column::integer(installed.bytes),
        column::integer(installed.files),
        column::time(installed.installed_at),
    ])?;
    Ok(())
}

/// What is installed at a place.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, path: &Path) -> Result<Option<Installed>, Error> {
    first(connection, "SELECT * FROM installed WHERE path = ?1", &[&column::path(path)], read)
}

/// Everything installed, by path.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<Installed>, Error> {
    list(connection, "SELECT * FROM installed ORDER BY path", &[], read)
}

/// Forgets an installation; returns whether there was one. The folder is not touched.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, path: &Path) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM installed WHERE path = ?1", [column::path(path)])? > 0)
}

fn read(row: &Row<'_>) -> Result<Installed, Error> {
    Ok(Installed {
        path: column::read_path(row, "path")?,
        package: read_package(row)?,
        version: column::read_version(row, "version")?,
        root: column::read_id(row, "root")?,
        manifest: column::read_id(row, "manifest")?,
        bytes: column::read_integer(row, "bytes")?,
        files: column::read_integer(row, "files")?,
        installed_at: column::read_time(row, "installed_at")?,
    })
}
