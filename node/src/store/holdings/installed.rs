//! Packages installed on this machine, one a place.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

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

/// Notes an installation, in place of what stood at the same path before, and the file system that its folder is on.
///
/// # Errors
/// Where the table cannot be written.
pub fn insert(tx: &Transaction<'_>, installed: &Installed) -> Result<(), Error> {
    let sql =
        "INSERT OR REPLACE INTO installed (path, publisher, name, version, root, manifest, bytes, files,
               installed_at, device) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
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
        device_above(&installed.path).map(u64::cast_signed),
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

/// Everything installed of which the folder was deleted, by path. One on a drive that is not mounted now was not.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_deleted(connection: &Connection) -> Result<Vec<Installed>, Error> {
    let all = list(connection, "SELECT * FROM installed ORDER BY path", &[], read_with_device)?;
    Ok(all.into_iter().filter(|(row, device)| is_deleted(&row.path, *device)).map(|(row, _)| row).collect())
}

/// Whether a folder that something is installed in cannot be seen now, which is not to say that it was deleted: it cannot be looked at,
/// or the file system that it was on is not mounted.
///
/// # Errors
/// Where the table cannot be read.
pub fn is_out_of_sight(connection: &Connection, path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if !is_nothing(&error) => Ok(true),
        Err(_) => {
            let sql = "SELECT * FROM installed WHERE path = ?1";
            let row = first(connection, sql, &[&column::path(path)], read_with_device)?;
            Ok(row.is_some_and(|(row, device)| !is_deleted(&row.path, device)))
        }
    }
}

/// Notes again on which file system the folders are that are there: its number is another one after a start of the machine.
///
/// # Errors
/// Where the table cannot be read or written.
pub fn renew_devices(tx: &Transaction<'_>) -> Result<(), Error> {
    for (row, device) in list(tx, "SELECT * FROM installed ORDER BY path", &[], read_with_device)? {
        let now = device_above(&row.path).filter(|_| fs::symlink_metadata(&row.path).is_ok());
        if now.is_some() && now != device {
            let sql = "UPDATE installed SET device = ?2 WHERE path = ?1";
            tx.prepare_cached(sql)?.execute(params![column::path(&row.path), now.map(u64::cast_signed)])?;
        }
    }
    Ok(())
}

/// The file system that a folder is on, or would be: that of the nearest folder above it that is there.
fn device_above(path: &Path) -> Option<u64> {
    path.ancestors().skip(1).find_map(|above| {
        let device = fs::symlink_metadata(above).ok()?.dev();
        // The device is a number that another drive gets once this one is gone. Not every file system has an id of its own.
        let id = rustix::fs::statvfs(above).map_or(0, |state| state.f_fsid);
        Some(if id == 0 { device } else { id })
    })
}

/// Whether nothing is at a path although the file system is there that it was on.
fn is_deleted(path: &Path, device: Option<u64>) -> bool {
    let is_gone = fs::symlink_metadata(path).is_err_and(|error| is_nothing(&error));
    is_gone && device.is_some() && device_above(path) == device
}

/// Whether an error says that nothing is at a path.
fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_with_device(row: &Row<'_>) -> Result<(Installed, Option<u64>), Error> {
    let device: Option<i64> = row.get("device")?;
    Ok((read(row)?, device.map(i64::cast_unsigned)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_on_a_drive_that_is_not_mounted_was_not_deleted() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("drive/project/gpacks/web");
        let device = device_above(&folder);
        assert!(device.is_some());
        assert!(is_deleted(&folder, device), "with the folders above it");
        // What is left of a drive is its mount point, on another file system.
        let drive = device.map(|device| device.wrapping_add(1));
        assert!(!is_deleted(&folder, drive));
        assert!(!is_deleted(&folder, None), "nobody knows");
        fs::create_dir_all(&folder).unwrap();
        assert!(!is_deleted(&folder, device));
    }
}
