//! What a node keeps: blocks, what it published and installed, and the tables of the modules that keep state.
//!
//! One SQLite database and, beside it, segment files with the larger blocks. Read [`Store`] first, then [`Batch`], which
//! makes a package durable in a handful of fsyncs. Nothing that was acknowledged is lost by a kill at any moment, because
//! rows are committed only after the data they speak of is on the disk, and nothing half-done is ever visible, because
//! there are no rows for it.
//!
//! ```text
//! <folder>/store.db           the database (with -wal and -shm while it is open)
//! <folder>/blocks/<n>.seg     blocks over 16 KiB, one file a batch
//! <folder>/quarantine/        damaged databases, moved aside and never deleted
//! <folder>/store.lock         held while the store is open
//! <folder>/store.reserve      space that is given up where the disk is full, so that blocks can be removed
//! ```
//!
//! In a simulation everything is in one database in memory: what was committed stays as long as a [`Store`] lives.
//!
//! This module is synchronous and blocks: it is called from worker threads, never from the driver loop. It knows nothing
//! of the network, it keeps no keys, and it trusts no byte of the disk: a block is compared with the checksum that it had when it
//! was stored (CRC-32) whenever it is read, with its hash where that differs, and with its hash now and then in any case
//! ([`Store::audit`]).

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use rusqlite::{Connection, Transaction, TransactionBehavior, TransactionState};

use crate::time::Timestamp;

mod audit;
mod blocks;
pub(crate) mod column;
mod database;
mod error;
pub mod holdings;
mod lock;
mod note;
mod recovery;
mod reserve;
mod room;
mod schema;
mod segment;
mod share;
mod sweep;
#[cfg(test)]
mod tests;

pub use audit::Audited;
pub use blocks::{Batch, Stats};
pub use error::Error;
pub use holdings::{
    changes, entries, heads, installed, kept, meta, outbox, packages, partial, pins, published,
};
pub use lock::HomeLock;
pub use note::Note;
pub use recovery::{PENDING as RECOVERY_PENDING, PENDING_DAMAGED as RECOVERY_PENDING_DAMAGED};

use sweep::segments_in;

/// Name of the folder of segment files.
const BLOCKS_FOLDER: &str = "blocks";
/// Folders in the state folder that hold nothing but what the store puts there.
pub const OWN_FOLDERS: [&str; 2] = [BLOCKS_FOLDER, recovery::QUARANTINE];
/// Name of the lock that says "this store is open".
const LOCK_NAME: &str = "store.lock";
/// Connections that read while another one writes.
const READERS: usize = 3;

/// The store's own tables; the other modules bring theirs.
pub(crate) const SCHEMA: &str = "
CREATE TABLE segments (
    number INTEGER NOT NULL PRIMARY KEY CHECK (number >= 0),
    bytes INTEGER NOT NULL CHECK (bytes >= 0)
) STRICT;
CREATE TABLE blocks (
    id BLOB NOT NULL PRIMARY KEY,
    size INTEGER NOT NULL CHECK (size >= 0),
    segment INTEGER REFERENCES segments (number),
    place INTEGER CHECK (place >= 0),
    data BLOB,
    crc INTEGER NOT NULL,
    CHECK ((segment IS NULL) = (place IS NULL) AND (segment IS NULL) = (data IS NOT NULL))
) STRICT;
CREATE INDEX blocks_by_segment ON blocks (segment, size);
";

/// What the rooms above keep in the database. They are handed in: the store knows none of them.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    /// The statements that make their tables, in order.
    pub schema: &'static [&'static str],
    /// Derives again what follows from other rows, once those were rescued from a damaged database.
    pub derive: fn(&Transaction<'_>, Timestamp) -> Result<(), Error>,
}

/// What a node keeps. Cheap to clone; all clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// Readers come before the writer, so that the connection closed last is one that can tidy the log up; the lock goes last.
#[derive(Debug)]
struct Shared {
    readers: Vec<Mutex<Connection>>,
    next_reader: AtomicUsize,
    writer: Mutex<Connection>,
    /// Set when data could not be brought to the disk: what the system then claims about it cannot be trusted.
    stopped: AtomicBool,
    place: Place,
}

/// Where the data is.
#[derive(Debug)]
enum Place {
    Disk(Disk),
    Memory,
}

#[derive(Debug)]
struct Disk {
    folder: PathBuf,
    blocks: PathBuf,
    next_segment: AtomicU64,
    open_segments: Mutex<blocks::OpenSegments>,
    sharing: share::Sharing,
    /// None where it is only read.
    lock: Option<lock::LockFile>,
}

impl Disk {
    fn next_segment(&self) -> u64 {
        self.next_segment.fetch_add(1, Ordering::Relaxed)
    }

    fn open_segments(&self) -> MutexGuard<'_, blocks::OpenSegments> {
        held(&self.open_segments)
    }
}

impl Store {
    /// Whether there is a database in `folder`.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(database::NAME).exists()
    }

    /// Opens the store in `folder`, which is made (mode 0700) where it is missing, with the tables of the rooms above it.
    ///
    /// What a crash left behind is removed. A damaged database is moved to the quarantine, and a new one is made from the
    /// segment files and from those rows that can still be read. What was found is in the notes.
    ///
    /// # Errors
    /// [`Error::TooNew`] and [`Error::TooOld`] for the database of another version, which is left as it is; [`Error::AlreadyRunning`] where the
    /// store is open already; [`Error::NotAFile`] for a link in place of a file; otherwise whatever kept the folder from
    /// being used. Nothing is lost by any of them.
    pub fn open_with(folder: &Path, tables: &Tables, now: Timestamp) -> Result<(Self, Vec<Note>), Error> {
        Self::open_folder(folder, tables, now).map_err(|error| error.within(folder))
    }

    fn open_folder(folder: &Path, tables: &Tables, now: Timestamp) -> Result<(Self, Vec<Note>), Error> {
        let blocks = folder.join(BLOCKS_FOLDER);
        if !blocks.try_exists()? {
            lock::make_private(&blocks)?;
            segment::sync_folder(&blocks)?;
            segment::sync_folder(folder)?;
        }
        let lock = lock::acquire(folder, LOCK_NAME)?;
        let mut notes = Vec::new();
        let (writer, next) = database::open(folder, tables, now, &mut notes)?;
        let readers = (0..READERS)
            .map(|_| database::open_reader(folder).map(Mutex::new))
            .collect::<Result<_, Error>>()?;
        let place = Place::Disk(Disk {
            folder: folder.to_owned(),
            sharing: share::Sharing::within(&blocks),
            blocks,
            next_segment: AtomicU64::new(next),
            open_segments: Mutex::default(),
            lock: Some(lock),
        });
        Ok((Self::new(readers, writer, place), notes))
    }

    /// Opens the store in `folder` for reading alone, whether or not it is open elsewhere; nothing is written and no lock taken. A
    /// folder without a store yields an empty one.
    ///
    /// # Errors
    /// [`Error::TooNew`] and [`Error::TooOld`] for the database of another version; [`Error::Damaged`] for one that the next start of a
    /// node will mend; otherwise whatever keeps it from being read.
    pub fn open_for_reading_with(folder: &Path, tables: &Tables) -> Result<Self, Error> {
        Self::open_folder_for_reading(folder, tables).map_err(|error| error.within(folder))
    }

    fn open_folder_for_reading(folder: &Path, tables: &Tables) -> Result<Self, Error> {
        if !database::is_there(folder)? {
            return Self::in_memory_with(tables);
        }
        let reader = || database::open_for_reading(folder);
        let readers = (0..READERS).map(|_| reader().map(Mutex::new)).collect::<Result<_, Error>>()?;
        let last = reader()?;
        schema::check(&last, tables)?;
        let place = Place::Disk(Disk {
            folder: folder.to_owned(),
            blocks: folder.join(BLOCKS_FOLDER),
            sharing: share::Sharing::none(),
            next_segment: AtomicU64::new(0),
            open_segments: Mutex::default(),
            lock: None,
        });
        Ok(Self::new(readers, last, place))
    }

    /// Makes a store in memory, empty, with the tables of the rooms above it.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn in_memory_with(tables: &Tables) -> Result<Self, Error> {
        Ok(Self::new(Vec::new(), database::in_memory(tables)?, Place::Memory))
    }

    fn new(readers: Vec<Mutex<Connection>>, writer: Connection, place: Place) -> Self {
        let shared = Shared {
            readers,
            next_reader: AtomicUsize::new(0),
            writer: Mutex::new(writer),
            stopped: AtomicBool::new(false),
            place,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The folder, where there is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.shared.place {
            Place::Disk(disk) => Some(&disk.folder),
            Place::Memory => None,
        }
    }

    /// The folder of what was damaged and moved aside, where there is anything in it.
    pub fn quarantine(&self) -> Option<PathBuf> {
        let place = self.folder()?.join(recovery::QUARANTINE);
        let first = std::fs::read_dir(&place).ok()?.next();
        first.is_some().then_some(place)
    }

    /// Reads, as of one moment, while others may write.
    ///
    /// `f` must not call the store: it would wait for itself.
    ///
    /// # Errors
    /// What `f` returned, or what the database said.
    pub fn read<T>(&self, f: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let outcome = match self.reader() {
            Some(reader) => read_within(&reader, f),
            None => read_within(&held(&self.shared.writer), f),
        };
        outcome.map_err(|error| self.named(error))
    }

    /// Writes in one transaction, which is durable when this returns `Ok` and leaves nothing otherwise.
    ///
    /// `f` must not call the store: it would wait for itself.
    ///
    /// # Errors
    /// What `f` returned; [`Error::Stopped`] after data could once not be brought to the disk; otherwise what the
    /// database said.
    pub fn write<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut writer = held(&self.shared.writer);
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(self.named(Error::Stopped { folder: PathBuf::new() }));
        }
        let outcome = write_within(&mut writer, f).map_err(|error| self.named(error));
        if outcome.as_ref().is_err_and(Error::is_failed_sync) {
            self.stop_writing();
        }
        outcome
    }

    /// The reader that is free, or one in turn where none is.
    fn reader(&self) -> Option<MutexGuard<'_, Connection>> {
        let readers = &self.shared.readers;
        if let Some(free) = readers.iter().find_map(|reader| reader.try_lock().ok()) {
            return Some(free);
        }
        let turn = self.shared.next_reader.fetch_add(1, Ordering::Relaxed);
        readers.get(turn.checked_rem(readers.len())?).map(held)
    }

    /// Whether nothing more is written until the next start, because the system could not bring data to the disk.
    pub fn has_stopped_writing(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    fn stop_writing(&self) {
        tracing::error!(
            "data could not be brought to the disk; nothing more is written until the next start"
        );
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// Names the folder in an error; damage that shows only in use is noted for the next start.
    fn named(&self, error: Error) -> Error {
        let folder = self.folder().unwrap_or(Path::new(""));
        let is_ours = matches!(&self.shared.place, Place::Disk(disk) if disk.lock.is_some());
        if matches!(error, Error::Damaged { .. }) && is_ours {
            database::suspect(folder);
        }
        error.within(folder)
    }
}

fn read_within<T>(
    connection: &Connection,
    f: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let snapshot = connection.unchecked_transaction()?;
    let value = f(&snapshot)?;
    // The one connection of a store in memory could write. The pragma that forbids it would expire every prepared statement,
    // so that each had to be compiled again for each reading: what was written goes back instead, and is an error as on disk.
    if snapshot.transaction_state(None::<&str>)? == TransactionState::Write {
        let read_only = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(rusqlite::Error::SqliteFailure(read_only, None).into());
    }
    snapshot.finish()?;
    Ok(value)
}

fn write_within<T>(
    connection: &mut Connection,
    f: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = f(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// Takes a lock; after a panic of its holder, too: a transaction that was not committed has been rolled back.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
