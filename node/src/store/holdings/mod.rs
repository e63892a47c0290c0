//! What this node published, is about to publish, installed, provides and pinned, one module a table.
//!
//! Plain functions over a connection, for use inside [`Store::read`](super::Store::read),
//! [`Store::write`](super::Store::write) or [`Batch::commit`](super::Batch::commit), so that a caller joins as many of
//! them into one transaction as belong together. They check the form of what they read and nothing else: signatures are
//! the business of those who put things in and take them out.

use rusqlite::{Connection, Row, ToSql};

use super::{Error, column};
use crate::package::PackageId;

pub mod changes;
pub mod entries;
pub mod heads;
pub mod installed;
pub mod kept;
pub mod meta;
pub mod outbox;
pub mod packages;
pub mod partial;
pub mod pins;
pub mod published;

/// The tables of this module.
pub(super) const SCHEMA: &str = "
CREATE TABLE published (
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    root BLOB NOT NULL,
    manifest BLOB NOT NULL,
    path BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    announced INTEGER NOT NULL,
    PRIMARY KEY (publisher, name, version)
) STRICT;
CREATE TABLE outbox (
    number INTEGER NOT NULL PRIMARY KEY,
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    root BLOB NOT NULL,
    manifest BLOB NOT NULL,
    path BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    code TEXT,
    why TEXT NOT NULL,
    UNIQUE (publisher, name, version)
) STRICT;
CREATE TABLE changes (
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    undone INTEGER NOT NULL,
    message TEXT NOT NULL,
    queued_at INTEGER NOT NULL,
    code TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (publisher, name, version)
) STRICT;
CREATE TABLE unsent_logs (
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (publisher, name)
) STRICT;
CREATE TABLE entries (
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    id BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (publisher, name, sequence)
) STRICT;
CREATE TABLE own_heads (
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (publisher, name)
) STRICT;
CREATE TABLE installed (
    path BLOB NOT NULL PRIMARY KEY,
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    root BLOB NOT NULL,
    manifest BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL,
    installed_at INTEGER NOT NULL,
    device INTEGER
) STRICT;
CREATE TABLE packages (
    root BLOB NOT NULL,
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest BLOB NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (root, publisher, name, version)
) STRICT;
CREATE INDEX packages_by_name ON packages (publisher, name, version);
CREATE TABLE partial (
    root BLOB NOT NULL,
    publisher TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest BLOB NOT NULL,
    size INTEGER NOT NULL,
    target BLOB NOT NULL,
    started_at INTEGER NOT NULL,
    PRIMARY KEY (root, publisher, name, version)
) STRICT;
CREATE TABLE kept (
    name TEXT NOT NULL PRIMARY KEY,
    root BLOB NOT NULL,
    publisher TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest BLOB NOT NULL,
    size INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER
) STRICT;
CREATE TABLE pins (
    name TEXT NOT NULL PRIMARY KEY,
    publisher TEXT NOT NULL,
    pinned_at INTEGER NOT NULL
) STRICT;
CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
";

/// Reads all rows of a query.
fn list<T>(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        list.push(read(row)?);
    }
    Ok(list)
}

/// Reads the first row of a query.
fn first<T>(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    rows.next()?.map(read).transpose()
}

/// Reads the columns `publisher` and `name`.
fn read_package(row: &Row<'_>) -> Result<PackageId, Error> {
    Ok(PackageId { publisher: column::read_text(row, "publisher")?, name: column::read_text(row, "name")? })
}

#[cfg(test)]
mod tests;
