//! Changes of one's own packages that wait to be signed: a version to yank or to put back, a package to deprecate.
//!
//! As versions in the outbox, they have no place in a log yet. Of one version, or one package as a whole, only the last that was asked
//! for waits.

use rusqlite::{Connection, Row, Transaction, params};
use semver::Version;

use super::{first, list, read_package};
use crate::{
    package::{PackageId, name::parse_version},
    store::{Error, column},
    time::Timestamp,
};

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The package.
    pub package: PackageId,
    /// The version to yank or to put back; none where the package is deprecated, or not any more.
    pub version: Option<Version>,
}

/// A change that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What changes.
    pub subject: Subject,
    /// Whether what was said before is taken back.
    pub is_undone: bool,
    /// Why, or what to use in its place.
    pub message: String,
    /// When it was put here.
    pub queued_at: Timestamp,
    /// The stable code of what keeps it here.
    pub code: String,
    /// What keeps it here, in words.
    pub why: String,
}

/// Adds a change, in place of the one of the same version or package that waits.
///
/// # Errors
/// Where the table cannot be written.
pub fn put(tx: &Transaction<'_>, waiting: &Waiting) -> Result<(), Error> {
    remove(tx, &waiting.subject)?;
    tx.execute(
        "INSERT INTO changes (publisher, name, version, undone, message, queued_at, code, why)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            waiting.subject.package.publisher.to_string(),
            waiting.subject.package.name.as_str(),
            version_text(&waiting.subject),
            waiting.is_undone,
            waiting.message,
            column::time(waiting.queued_at),
            waiting.code,
            waiting.why,
        ],
    )?;
    Ok(())
}

/// The change of a version, or of a package as a whole, that waits.
///
/// # Errors
/// Where the table cannot be read.
pub fn get(connection: &Connection, subject: &Subject) -> Result<Option<Waiting>, Error> {
    let sql = "SELECT * FROM changes WHERE publisher = ?1 AND name = ?2 AND version = ?3";
    let (publisher, version) = (subject.package.publisher.to_string(), version_text(subject));
    first(connection, sql, &[&publisher, &subject.package.name.as_str(), &version], read)
}

/// Everything that waits, what was put here first coming first.
///
/// # Errors
/// Where the table cannot be read.
pub fn list_all(connection: &Connection) -> Result<Vec<Waiting>, Error> {
    list(connection, "SELECT * FROM changes ORDER BY rowid", &[], read)
}

/// Notes what keeps a change here.
///
/// # Errors
/// Where the table cannot be written.
pub fn set_reason(tx: &Transaction<'_>, subject: &Subject, code: &str, why: &str) -> Result<(), Error> {
    tx.execute(
        "UPDATE changes SET code = ?4, why = ?5 WHERE publisher = ?1 AND name = ?2 AND version = ?3",
        params![
            subject.package.publisher.to_string(),
            subject.package.name.as_str(),
            version_text(subject),
            code,
            why
        ],
    )?;
    Ok(())
}

/// Takes a change out; returns whether it was there.
///
/// # Errors
/// Where the table cannot be written.
pub fn remove(tx: &Transaction<'_>, subject: &Subject) -> Result<bool, Error> {
    let removed = tx.execute(
        "DELETE FROM changes WHERE publisher = ?1 AND name = ?2 AND version = ?3",
        params![subject.package.publisher.to_string(), subject.package.name.as_str(), version_text(subject)],
    )?;
    Ok(removed > 0)
}

/// How the version stands in its column: nothing where the package as a whole is meant.
fn version_text(subject: &Subject) -> String {
    subject.version.as_ref().map(Version::to_string).unwrap_or_default()
}

fn read(row: &Row<'_>) -> Result<Waiting, Error> {
    let text: String = row.get("version")?;
    let version = match text.as_str() {
        "" => None,
        text => Some(parse_version(text).map_err(|_| Error::damaged("column version holds no version"))?),
    };
    Ok(Waiting {
        subject: Subject { package: read_package(row)?, version },
        is_undone: row.get("undone")?,
        message: row.get("message")?,
        queued_at: column::read_time(row, "queued_at")?,
        code: row.get("code")?,
        why: row.get("why")?,
    })
}
