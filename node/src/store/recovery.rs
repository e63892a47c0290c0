//! A damaged database is moved aside, and a new one is made from what can still be read.
//!
//! The larger blocks come back from the segment files, everything else from those rows of the damaged database that can
//! still be read; whatever is signed or hashed is verified again by those who use it. The damaged files are never
//! deleted, and no key is ever touched: keys are not in the database.
//!
//! The new database is made under one name, then renamed to a second one that says "this replaces the old". From then on
//! a crash at any point is finished by the next start.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, params, params_from_iter, types::Value};

use super::{BLOCKS_FOLDER, Error, Note, Tables, database, holdings::meta, schema, segment};
use crate::{
    content::{Block, ContentId},
    time::Timestamp,
};

/// Name of the folder for what is damaged.
pub(super) const QUARANTINE: &str = "quarantine";
/// Name of a database that is being made.
const UNFINISHED: &str = "store.db.tmp";
/// Name of a database that is whole and replaces the old one.
const REPLACEMENT: &str = "store.db.new";
/// The key of [`meta`] under which it stands that a database was made in place of one that was lost, and that what follows from
/// the block files was not made again yet. The value says whether any of those were damaged.
pub const PENDING: &str = "recovery-pending";
/// The value where some of what was in the block files is lost.
pub const PENDING_DAMAGED: &[u8] = b"damaged";

/// Makes a new database from what can be read, and moves the old one aside where there is one.
pub(super) fn replace(
    folder: &Path,
    tables: &Tables,
    now: Timestamp,
    damage: Option<String>,
    notes: &mut Vec<Note>,
) -> Result<(), Error> {
    let unfinished = folder.join(UNFINISHED);
    for suffix in ["", "-journal", "-wal", "-shm"] {
        remove_if_there(&database::with_suffix(&unfinished, suffix))?;
    }
    let mut rows = 0;
    let mut segments = Segments::default();
    database::create(&unfinished, tables, |tx| {
        segments = rebuild_blocks(tx, folder, now)?;
        if damage.is_some() {
            let damaged = folder.join(database::NAME);
            let mended = schema::Mended::of(&damaged, tables)?;
            rows = salvage(tx, mended.as_ref().map_or(&damaged, schema::Mended::path))?;
            // What follows from other rows is not salvaged but derived again.
            (tables.derive)(tx, now)?;
        }
        if damage.is_some() || segments.files > 0 {
            let value = if segments.damaged > 0 { PENDING_DAMAGED } else { b"whole" };
            meta::set(tx, PENDING, value)?;
        }
        Ok(())
    })?;
    let replacement = folder.join(REPLACEMENT);
    fs::rename(&unfinished, &replacement)?;
    segment::sync_folder(&replacement)?;
    let moved = finish(folder, now)?;
    if let Some(why) = damage {
        let to = moved.unwrap_or_else(|| folder.join(QUARANTINE));
        tracing::warn!(why = %why, quarantine = %to.display(), "database damaged; made again");
        notes.push(Note::DatabaseReplaced { why, to, rows });
    }
    if segments.blocks > 0 || segments.damaged > 0 {
        notes.push(Note::BlocksRebuilt { blocks: segments.blocks, damaged: segments.damaged });
    }
    Ok(())
}

/// Puts a replacement that is whole into place; returns where the old database went.
pub(super) fn finish(folder: &Path, now: Timestamp) -> Result<Option<PathBuf>, Error> {
    let (path, replacement) = (folder.join(database::NAME), folder.join(REPLACEMENT));
    if !replacement.try_exists()? {
        return Ok(None);
    }
    // The log goes with its database: beside another one it would be replayed into that.
    let mut target = None;
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let old = database::with_suffix(&path, suffix);
        if old.try_exists()? {
            let base = match &target {
                Some(base) => base,
                None => target.insert(quarantine_place(folder, now, database::NAME)?),
            };
            fs::rename(&old, database::with_suffix(base, suffix))?;
        }
    }
    if let Some(target) = &target {
        segment::sync_folder(target)?;
    }
    fs::rename(&replacement, &path)?;
    segment::sync_folder(&path)?;
    Ok(target)
}

/// A place in the quarantine for the file of this name, where nothing is yet.
fn quarantine_place(folder: &Path, now: Timestamp, file: &str) -> Result<PathBuf, Error> {
    let quarantine = folder.join(QUARANTINE);
    super::lock::make_private(&quarantine)?;
    let stem = now.to_string().replace(':', "-");
    for n in 1..=u32::MAX {
        let name = if n == 1 { stem.clone() } else { format!("{stem}-{n}") };
        let place = quarantine.join(format!("{name}-{file}"));
        let taken = |suffix| database::with_suffix(&place, suffix).try_exists();
        if !(taken("")? || taken("-wal")? || taken("-shm")? || taken("-journal")?) {
            return Ok(place);
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
}

/// What was found in the segment files.
#[derive(Debug, Default)]
struct Segments {
    files: u64,
    blocks: u64,
    damaged: u64,
}

/// Finds the blocks in the segment files. A file of which the disk gives nothing back is moved aside.
///
/// One that this user may not read ends it: whoever owns it can be mended, and nothing is lost.
fn rebuild_blocks(tx: &Transaction<'_>, folder: &Path, now: Timestamp) -> Result<Segments, Error> {
    let blocks = folder.join(BLOCKS_FOLDER);
    let mut found = Segments::default();
    for number in super::segments_in(&blocks)?.whole {
        found.files += 1;
        let (rows, damaged) = match segment::open(&blocks, number) {
            Ok(file) => rebuild_segment(tx, number, &file)?,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error.into()),
            Err(error) => {
                tracing::warn!(segment = number, %error, "a segment file cannot be opened");
                (0, 1)
            }
        };
        if rows == 0 {
            tx.execute("DELETE FROM segments WHERE number = ?1", [super::column::integer(number)])?;
            if damaged > 0 {
                move_aside(folder, &segment::path(&blocks, number), now)?;
            }
        }
        found.blocks += rows;
        found.damaged += damaged;
    }
    Ok(found)
}

/// Returns how many blocks it has, and how much of it was damaged.
fn rebuild_segment(tx: &Transaction<'_>, number: u64, file: &fs::File) -> Result<(u64, u64), Error> {
    let bytes = super::column::integer(file.metadata()?.len());
    let number_column = super::column::integer(number);
    tx.execute("INSERT INTO segments (number, bytes) VALUES (?1, ?2)", params![number_column, bytes])?;
    let mut rows = 0;
    let damaged = segment::scan(file, |block, place| {
        rows += super::blocks::insert_in_segment(
            tx,
            block.id(),
            (block.bytes().len(), crc32fast::hash(block.bytes())),
            number,
            place,
        )?;
        Ok(())
    })?;
    Ok((rows, damaged))
}

fn move_aside(folder: &Path, segment: &Path, now: Timestamp) -> Result<(), Error> {
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    let place = quarantine_place(folder, now, &name)?;
    fs::rename(segment, &place)?;
    segment::sync_folder(&place)?;
    tracing::warn!(quarantine = %place.display(), "nothing could be read from a segment file; moved aside");
    Ok(())
}

/// Copies the rows that can be read; returns how many. A database that cannot even be opened yields none.
///
/// Fails only where the new database cannot be written.
fn salvage(tx: &Transaction<'_>, damaged: &Path) -> Result<u64, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(old) = Connection::open_with_flags(damaged, flags) else { return Ok(0) };
    if old.pragma_update(None, "trusted_schema", false).is_err() {
        return Ok(0);
    }
    let mut rows = salvage_blocks(tx, &old)?;
    for table in tables_to_salvage(tx)? {
        rows += salvage_table(tx, &old, &table)?;
    }
    drop_dangling(tx)?;
    Ok(rows)
}

/// Ordinary tables of the new database: not the blocks, nor the inner tables of an index.
fn tables_to_salvage(tx: &Transaction<'_>) -> Result<Vec<String>, Error> {
    let mut statement = tx.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT IN ('blocks', 'segments') ORDER BY name",
    )?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}

/// Takes small blocks whose bytes are still the ones that their id names.
fn salvage_blocks(tx: &Transaction<'_>, old: &Connection) -> Result<u64, Error> {
    let mut taken = 0;
    let sql = "SELECT id, data FROM blocks NOT INDEXED WHERE data IS NOT NULL";
    walk(old, sql, &["rowid".to_owned()], |row| {
        let read = |row: &Row<'_>| {
            let id = ContentId::from_bytes(row.get_ref("id").ok()?.as_blob().ok()?).ok()?;
            Block::verified(id, row.get("data").ok()?).ok()
        };
        if let Some(block) = read(row) {
            taken += super::blocks::insert_as_row(tx, &block)?;
        }
        Ok(())
    })?;
    Ok(taken)
}

fn salvage_table(tx: &Transaction<'_>, old: &Connection, table: &str) -> Result<u64, Error> {
    let there: BTreeSet<String> = columns(old, table, false).unwrap_or_default().into_iter().collect();
    let mut names = columns(tx, table, false)?;
    names.retain(|name| there.contains(name));
    if names.is_empty() {
        return Ok(0);
    }
    let (table, list) = (quoted(table), names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "));
    let marks = vec!["?"; names.len()].join(", ");
    // Rows that a new database begins with give way to those that were kept.
    let mut insert = tx.prepare(&format!("INSERT OR REPLACE INTO {table} ({list}) VALUES ({marks})"))?;
    let mut keys = columns(tx, table.trim_matches('"'), true)?;
    if old.prepare(&format!("SELECT rowid FROM {table}")).is_ok() {
        keys = vec!["rowid".to_owned()];
    }
    walk(old, &format!("SELECT {list} FROM {table} NOT INDEXED"), &keys, |row| {
        let values: Result<Vec<Value>, _> = (0..names.len()).map(|at| row.get(at)).collect();
        match values.and_then(|values| insert.execute(params_from_iter(values))) {
            // A row that breaks the new table's rules is damage as well.
            Err(rusqlite::Error::SqliteFailure(cause, _))
                if !matches!(cause.code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) =>
            {
                Err(rusqlite::Error::SqliteFailure(cause, None).into())
            }
            _ => Ok(()),
        }
    })?;
    let rows: i64 = tx.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// Hands every row that can be read to `take`. Damage stops a walk, and then the rows are walked from the other end too,
/// which passes over one damaged stretch.
fn walk(
    old: &Connection,
    sql: &str,
    keys: &[String],
    mut take: impl FnMut(&Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let backwards: Vec<String> = keys.iter().map(|key| format!("{} DESC", quoted(key))).collect();
    for order in [String::new(), format!(" ORDER BY {}", backwards.join(", "))] {
        let Ok(mut statement) = old.prepare(&format!("{sql}{order}")) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        loop {
            match rows.next() {
                Ok(Some(row)) => take(row)?,
                Ok(None) => return Ok(()),
                Err(_) => break,
            }
        }
    }
    Ok(())
}

/// Removes rows whose parent could not be read.
fn drop_dangling(tx: &Transaction<'_>) -> Result<(), Error> {
    loop {
        let sql = "SELECT \"table\", rowid FROM pragma_foreign_key_check WHERE rowid IS NOT NULL LIMIT 1000";
        let dangling: Vec<(String, i64)> = {
            let mut statement = tx.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        if dangling.is_empty() {
            return Ok(());
        }
        for (table, row) in dangling {
            tx.execute(&format!("DELETE FROM {} WHERE rowid = ?1", quoted(&table)), [row])?;
        }
    }
}

/// The columns of a table, or only those of its primary key, in order.
fn columns(connection: &Connection, table: &str, keys: bool) -> Result<Vec<String>, Error> {
    let sql = "SELECT name FROM pragma_table_info(?1) WHERE NOT ?2 OR pk > 0 ORDER BY iif(?2, pk, cid)";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map(params![table, keys], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
