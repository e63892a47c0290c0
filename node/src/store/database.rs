//! The database file: how it is made, checked and opened.
//!
//! A new database is made whole under another name and renamed into place, so that an empty or half-made one is always
//! damage and never an interrupted first start.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, config::DbConfig};

use super::{Error, Note, Tables, recovery, schema, sweep::sweep};
use crate::time::Timestamp;

/// Name of the database inside the state folder.
pub(super) const NAME: &str = "store.db";
/// Name of the file that says that the database is damaged although it looks sound.
const SUSPECT: &str = "store.db.suspect";
/// Marks a database as ours: "ggen" as a number.
const APPLICATION_ID: i32 = 0x6767_656e;
/// The version of the schema, the only one that this program uses. Another schema has another version.
pub(super) const VERSION: u32 = 7;
/// The store's own part of that schema; the [`Tables`] of the rooms above come after it.
const OWN: [&str; 2] = [super::SCHEMA, super::holdings::SCHEMA];
/// A version above this is not from the future but damage.
const VERSION_PLAUSIBLE_MAX: u32 = 10_000;
/// How long one connection waits for another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that the write-ahead log keeps on disk between checkpoints.
const WAL_BYTES_MAX: u32 = 64 << 20;
/// Pages of the write-ahead log after which a commit brings them into the database: 16 MiB. A page that many commits change, as one
/// of an index by hashes is, goes there once.
const CHECKPOINT_PAGES: u32 = 4_096;
/// KiB of pages that the writing connection holds, so that what one transaction changes need not be written out in the middle of it.
const WRITER_CACHE_KIB: i32 = 16 << 10;
/// KiB of pages that a reading connection holds.
const READER_CACHE_KIB: i32 = 8 << 10;
/// Prepared statements kept by one connection.
const STATEMENTS_MAX: usize = 128;
/// Bytes of the header of a database file, as its format has it: <https://www.sqlite.org/fileformat.html>.
const HEADER_BYTES: usize = 100;

/// Opens the database of `folder`; makes it where it is missing, and again where it is damaged.
///
/// Returns it together with the number of the next segment.
pub(super) fn open(
    folder: &Path,
    tables: &Tables,
    now: Timestamp,
    notes: &mut Vec<Note>,
) -> Result<(Connection, u64), Error> {
    let path = folder.join(NAME);
    for suffix in ["", "-wal", "-shm"] {
        refuse_other_than_file(&with_suffix(&path, suffix))?;
    }
    recovery::finish(folder, now)?;
    let suspected = folder.join(SUSPECT);
    let damage = match open_sound(folder, &path, tables, notes) {
        Ok(_) if suspected.try_exists()? => Some("it was found damaged while it was in use".to_owned()),
        Err(Error::Damaged { source, .. }) => Some(source.to_string()),
        Err(Error::Io { source, .. }) if is_missing(&*source) => None,
        Err(error) if error.is_not_understood() => Some(error.to_string()),
        outcome => return outcome,
    };
    recovery::replace(folder, tables, now, damage, notes)?;
    match std::fs::remove_file(&suspected) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    open_sound(folder, &path, tables, notes)
}

/// Notes that the database turned out to be damaged in a place that the check at the start does not reach, such as an
/// index that leads nowhere. The next start then replaces it.
pub(super) fn suspect(folder: &Path) {
    if let Err(error) = File::create(folder.join(SUSPECT)) {
        tracing::warn!(%error, "the damage of the database was not noted for the next start");
    }
}

/// Opens a database that nothing is wrong with: [`Error::Damaged`] where that cannot be said.
fn open_sound(
    folder: &Path,
    path: &Path,
    tables: &Tables,
    notes: &mut Vec<Note>,
) -> Result<(Connection, u64), Error> {
    check_header(path)?;
    let mut writer = connect(path)?;
    let found: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Error::damaged(found));
    }
    check_version(user_version(&writer)?)?;
    schema::check(&writer, tables)?;
    let next = sweep(&mut writer, &folder.join(super::BLOCKS_FOLDER), notes)?;
    Ok((writer, next))
}

/// Opens a second connection that cannot write.
pub(super) fn open_reader(folder: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(folder.join(NAME), flags)?;
    common_settings(&reader)?;
    reader.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(reader)
}

/// Whether the folder has a database.
pub(super) fn is_there(folder: &Path) -> Result<bool, Error> {
    Ok(folder.join(NAME).try_exists()?)
}

/// Opens the database for reading, whether or not somebody writes to it meanwhile.
pub(super) fn open_for_reading(folder: &Path) -> Result<Connection, Error> {
    let path = folder.join(NAME);
    refuse_other_than_file(&path)?;
    let reader = open_reader(folder)?;
    let found = match user_version(&reader) {
        Ok(found) => found,
        // Where nothing can be written beside it, it is read as a file that nobody changes.
        Err(error) if std::fs::metadata(with_suffix(&path, "-wal")).map_or(0, |log| log.len()) == 0 => {
            return match immutable(&path) {
                Ok(reader) => Ok(reader),
                Err(_) => Err(error),
            };
        }
        Err(error) => return Err(error),
    };
    check_version(found)?;
    Ok(reader)
}

fn immutable(path: &Path) -> Result<Connection, Error> {
    use std::{fmt::Write, os::unix::ffi::OsStrExt};
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                uri.push(char::from(*byte))
            }
            byte => write!(uri, "%{byte:02x}").expect("a string takes all"),
        }
    }
    uri.push_str("?immutable=1");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let reader = Connection::open_with_flags(uri, flags)?;
    common_settings(&reader)?;
    check_version(user_version(&reader)?)?;
    Ok(reader)
}

/// Makes a database that lives in memory only.
pub(super) fn in_memory(tables: &Tables) -> Result<Connection, Error> {
    let mut connection = Connection::open_in_memory()?;
    common_settings(&connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    make_tables(&transaction, tables)?;
    transaction.commit()?;
    Ok(connection)
}

/// Makes a new database at `path` and lets `fill` put rows into it, all in one transaction.
pub(super) fn create(
    path: &Path,
    tables: &Tables,
    fill: impl FnOnce(&Transaction<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    common_settings(&connection)?;
    // Rows that were read out of a damaged database come in any order.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    make_tables(&transaction, tables)?;
    fill(&transaction)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Looks at the file itself, before anything that could change it.
fn check_header(path: &Path) -> Result<(), Error> {
    let mut header = [0; HEADER_BYTES];
    // For writing too: the database would fall back to reading, and say so only when it is too late to tell why.
    let mut file = File::options().read(true).write(true).open(path)?;
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Error::damaged("it is empty or cut off"));
        }
        Err(error) => return Err(error.into()),
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(Error::damaged("it is not a database"));
    }
    let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if word(68) != APPLICATION_ID.cast_unsigned() {
        return Err(Error::damaged("it is another program's database"));
    }
    check_version(word(60))?;
    // Pages that the file lacks may be in the log; where there is none, the file is whole or was cut off.
    let log = std::fs::metadata(with_suffix(path, "-wal")).map_or(0, |metadata| metadata.len());
    let page_bytes = match word(16) >> 16 {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    if log == 0 && file.metadata()?.len() < u64::from(word(28)).saturating_mul(page_bytes) {
        return Err(Error::damaged("it is cut off"));
    }
    Ok(())
}

fn check_version(found: u32) -> Result<(), Error> {
    match found {
        0 => Err(Error::damaged("it has no version")),
        _ if found > VERSION_PLAUSIBLE_MAX => Err(Error::damaged(format!("it claims to be version {found}"))),
        _ if found > VERSION => Err(Error::TooNew { folder: PathBuf::new(), found, known: VERSION }),
        _ if found < VERSION => Err(Error::TooOld { folder: PathBuf::new(), found, known: VERSION }),
        _ => Ok(()),
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    common_settings(&connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let why = io::Error::other(format!("the disk does not take a write-ahead log (mode {mode})"));
        return Err(why.into());
    }
    connection.query_row(&format!("PRAGMA journal_size_limit = {WAL_BYTES_MAX}"), [], |_| Ok(()))?;
    connection.query_row(&format!("PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}"), [], |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    Ok(connection)
}

/// Settings of every connection. The schema of a file is not trusted: it could hold triggers that are not ours.
fn common_settings(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // A plan does not follow from the values that are bound: without this, each statement on a table with a partial index is compiled
    // again whenever it is given others.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

fn make_tables(transaction: &Transaction<'_>, tables: &Tables) -> Result<(), Error> {
    for text in OWN.iter().chain(tables.schema) {
        transaction.execute_batch(text)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}

fn user_version(connection: &Connection) -> Result<u32, Error> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(version.cast_unsigned())
}

/// Refuses links and folders where a file of the database belongs: a link could lead to any file of this user.
fn refuse_other_than_file(path: &Path) -> Result<(), Error> {
    let what = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(metadata) if metadata.is_symlink() => "a symbolic link",
        Ok(metadata) if metadata.is_dir() => "a folder",
        Ok(_) => "a special file",
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    Err(Error::NotAFile { path: path.to_owned(), what })
}

fn is_missing(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// `path` with `suffix` after its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
