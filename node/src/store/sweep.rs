//! Makes the block folder and the index agree after a crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use rusqlite::{Connection, Transaction, params};

use super::{
    Error, Note, blocks, column,
    segment::{self, Name},
};

/// The files in the block folder that are ours.
#[derive(Debug, Default)]
pub(super) struct SegmentFiles {
    /// Whole segments.
    pub(super) whole: BTreeSet<u64>,
    /// Those that were being written.
    pub(super) temporary: BTreeSet<u64>,
}

/// Lists the block folder; files with other names are left alone.
pub(super) fn segments_in(blocks: &Path) -> Result<SegmentFiles, Error> {
    let mut files = SegmentFiles::default();
    for entry in fs::read_dir(blocks)? {
        match entry?.file_name().to_str().and_then(segment::parse_name) {
            Some(Name::Whole(number)) => files.whole.insert(number),
            Some(Name::Temporary(number)) => files.temporary.insert(number),
            None => continue,
        };
    }
    Ok(files)
}

/// Removes files that no committed row names, and rows whose file is gone or cut off; returns the next free number.
///
/// Sound because the store is locked: nobody else is writing a segment.
pub(super) fn sweep(connection: &mut Connection, blocks: &Path, notes: &mut Vec<Note>) -> Result<u64, Error> {
    let files = segments_in(blocks)?;
    let mut known = known_segments(connection)?;
    let next = [files.whole.last(), files.temporary.last(), known.keys().last()];
    let next = next.into_iter().flatten().max().map_or(1, |last| last.saturating_add(1));

    let mut lost = Vec::new();
    for (number, bytes) in &known {
        let there = match fs::metadata(segment::path(blocks, *number)) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        if there < *bytes {
            lost.push((*number, there));
        }
    }
    if !lost.is_empty() || has_empty_segments(connection)? {
        let transaction = connection.transaction()?;
        for (number, there) in lost {
            let dropped = drop_lost(&transaction, number, there)?;
            notes.push(Note::SegmentLost { path: segment::path(blocks, number), blocks: dropped });
        }
        for number in blocks::take_empty_segments(&transaction)? {
            known.remove(&number);
        }
        transaction.commit()?;
    }

    let orphans = files.whole.iter().filter(|number| !known.contains_key(number));
    let orphans = orphans.map(|number| segment::path(blocks, *number));
    let temporary = files.temporary.iter().map(|number| segment::temporary_path(blocks, *number));
    for path in orphans.chain(temporary) {
        // One that stays does no harm: nothing names it, and its number is not used again.
        match fs::remove_file(&path) {
            Ok(()) => notes.push(Note::LeftoverRemoved { path }),
            Err(error) => tracing::warn!(path = %path.display(), error = %error, "leftover not removed"),
        }
    }
    Ok(next)
}

/// Every segment that the index knows, with the bytes it had when it was committed.
fn known_segments(connection: &Connection) -> Result<BTreeMap<u64, u64>, Error> {
    let mut statement = connection.prepare("SELECT number, bytes FROM segments")?;
    let mut rows = statement.query([])?;
    let mut known = BTreeMap::new();
    while let Some(row) = rows.next()? {
        known.insert(column::read_integer(row, "number")?, column::read_integer(row, "bytes")?);
    }
    Ok(known)
}

fn has_empty_segments(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM segments
               WHERE NOT EXISTS (SELECT 1 FROM blocks WHERE segment = segments.number))";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Drops the blocks of a segment that lie beyond the `there` bytes that are left of it; returns how many.
fn drop_lost(tx: &Transaction<'_>, number: u64, there: u64) -> Result<u64, Error> {
    let (number, there) = (column::integer(number), column::integer(there));
    let dropped =
        tx.execute("DELETE FROM blocks WHERE segment = ?1 AND place + size > ?2", params![number, there])?;
    tx.execute("UPDATE segments SET bytes = ?2 WHERE number = ?1", params![number, there])?;
    Ok(dropped as u64)
}
