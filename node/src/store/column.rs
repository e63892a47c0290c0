//! How our types stand in columns: ids of content in binary form, everything else that has a text form in that.
//!
//! What is read back goes through the same parsers as input from outside: a row that does not parse is damage.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use rusqlite::Row;
use semver::Version;

use super::Error;
use crate::{content::ContentId, package::name::parse_version, time::Timestamp};

/// A number as the database holds it; above 2^63 it saturates, which no size or sequence of ours comes near.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A point in time as a column.
pub(crate) fn time(at: Timestamp) -> i64 {
    integer(at.as_secs())
}

/// A path as a column: its bytes, which need not be UTF-8.
pub(crate) fn path(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Reads a number that cannot be negative.
pub(crate) fn read_integer(row: &Row<'_>, column: &str) -> Result<u64, Error> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged(column))
}

/// Reads a point in time.
pub(crate) fn read_time(row: &Row<'_>, column: &str) -> Result<Timestamp, Error> {
    Ok(Timestamp::from_secs(read_integer(row, column)?))
}

/// Reads a content id in binary form.
pub(crate) fn read_id(row: &Row<'_>, column: &str) -> Result<ContentId, Error> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|_| damaged(column))?;
    ContentId::from_bytes(bytes).map_err(|_| damaged(column))
}

/// Reads anything that has a text form.
pub(crate) fn read_text<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, Error> {
    let text = row.get_ref(column)?.as_str().map_err(|_| damaged(column))?;
    text.parse().map_err(|_| damaged(column))
}

/// Reads a version of a package.
pub(crate) fn read_version(row: &Row<'_>, column: &str) -> Result<Version, Error> {
    let text = row.get_ref(column)?.as_str().map_err(|_| damaged(column))?;
    parse_version(text).map_err(|_| damaged(column))
}

/// Reads a path.
pub(crate) fn read_path(row: &Row<'_>, column: &str) -> Result<PathBuf, Error> {
    Ok(OsString::from_vec(row.get(column)?).into())
}

fn damaged(column: &str) -> Error {
    Error::damaged(format!("column {column} holds something else than was written"))
}
