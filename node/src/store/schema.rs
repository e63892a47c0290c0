//! The schema of a database, compared with the one that this program makes.
//!
//! A flipped bit in the name of a column is damage, and would otherwise show as a statement that is not understood. The rows are sound:
//! they are read from a copy that is given the schema which was written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, params};

use super::{Error, Tables, database};

/// Name of the copy of a damaged database that is given its schema back.
const MENDED: &str = "store.db.mended";
/// What a database consists of: the file itself, and what may stand beside it.
const PARTS: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// Compares the schema of a database with the one that this program makes.
///
/// # Errors
/// [`Error::Damaged`] where a table, an index or a trigger is another one.
pub(super) fn check(connection: &Connection, tables: &Tables) -> Result<(), Error> {
    let (made, found) = (read(&database::in_memory(tables)?)?, read(connection)?);
    // What a virtual table keeps of its own is a matter of the version of SQLite.
    let own: BTreeSet<String> = {
        let mut statement = connection
            .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow'")?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    let is_same = |name: &String, made: &Entry| {
        found.get(name).is_some_and(|found| {
            (&found.kind, &found.table, &found.sql) == (&made.kind, &made.table, &made.sql)
        })
    };
    let mut ours = made.iter().filter(|(name, made)| own.contains(&made.table) || !found.contains_key(*name));
    match ours.find(|(name, made)| !is_same(name, made)) {
        Some((name, _)) => Err(Error::damaged(format!("its schema is not the one that was written: {name}"))),
        None => Ok(()),
    }
}

/// One entry of a schema, without its name.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: String,
    table: String,
    /// Page at which its rows begin; zero where it has none.
    page: i64,
    sql: Option<String>,
}

/// The tables, indexes and triggers of a database, by name.
fn read(connection: &Connection) -> Result<BTreeMap<String, Entry>, Error> {
    let mut statement =
        connection.prepare("SELECT name, type, tbl_name, rootpage, sql FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| {
        let entry = Entry { kind: row.get(1)?, table: row.get(2)?, page: row.get(3)?, sql: row.get(4)? };
        Ok((row.get(0)?, entry))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A copy of a damaged database with the schema that it was made with. It is removed with this value.
#[derive(Debug)]
pub(super) struct Mended {
    path: PathBuf,
}

impl Mended {
    /// Copies the database `damaged` where its schema is not the one that this program makes, and gives the copy that one. None where the
    /// schema is as it should be, or cannot be given.
    ///
    /// # Errors
    /// Fails only where the copy cannot be written.
    pub(super) fn of(damaged: &Path, tables: &Tables) -> Result<Option<Self>, Error> {
        let made = read(&database::in_memory(tables)?)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let found =
            Connection::open_with_flags(damaged, flags).map_err(Error::from).and_then(|old| read(&old));
        if found.is_ok_and(|found| found == made) {
            return Ok(None);
        }
        let copy = Self { path: damaged.with_file_name(MENDED) };
        copy.remove()?;
        for part in PARTS {
            match fs::copy(database::with_suffix(damaged, part), database::with_suffix(&copy.path, part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(copy.rewrite(&made).is_ok().then_some(copy))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn rewrite(&self, made: &BTreeMap<String, Entry>) -> Result<(), Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let copy = Connection::open_with_flags(&self.path, flags)?;
        // Reads past entries that are not understood, too.
        copy.pragma_update(None, "writable_schema", true)?;
        for (name, entry) in made {
            // Whichever of the two was hit: what was made in the same order begins at the same page.
            let sql = "UPDATE sqlite_schema SET type = ?2, name = ?1, tbl_name = ?3, sql = ?5 WHERE rowid =
                       (SELECT rowid FROM sqlite_schema WHERE name = ?1 OR (?4 > 0 AND rootpage = ?4)
                        ORDER BY name = ?1 DESC LIMIT 1)";
            copy.execute(sql, params![name, entry.kind, entry.table, entry.page, entry.sql])?;
        }
        copy.close().map_err(|(_, error)| error)?;
        Ok(())
    }

    fn remove(&self) -> Result<(), io::Error> {
        for part in PARTS {
            match fs::remove_file(database::with_suffix(&self.path, part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Mended {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, path = %self.path.display(), "the copy of a damaged database was not removed");
        }
    }
}
