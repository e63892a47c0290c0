//! How much the blocks take, and giving that back to the file system.
//!
//! The row of a block goes first. Only then is its place in its segment file freed: the file goes where nothing is left in it, and where
//! something is, a hole takes the place of what went. A hole reads as zeros, which [`segment::scan`] passes over. A crash between
//! the two leaves a place that no row names; the next time it is freed as well.

use std::io;

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Error, Place, Store, blocks::take_empty_segments, column, segment};
use crate::content::ContentId;

/// A stretch without any row that is smaller than this stays: no page of the file system would be freed.
const HOLE_BYTES_MIN: u64 = 4096;

impl Store {
    /// Every block that is held, and its bytes.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn sizes(&self) -> Result<Vec<(ContentId, u64)>, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT id, size FROM blocks")?;
            let mut rows = statement.query([])?;
            let mut sizes = Vec::new();
            while let Some(row) = rows.next()? {
                sizes.push((column::read_id(row, "id")?, column::read_integer(row, "size")?));
            }
            Ok(sizes)
        })
    }

    /// The bytes of those of `ids` that are held.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn bytes_of(&self, ids: &[ContentId]) -> Result<u64, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT size FROM blocks WHERE id = ?1")?;
            let mut bytes = 0u64;
            for id in ids {
                let size: Option<i64> = statement.query_row([id.to_bytes()], |row| row.get(0)).optional()?;
                bytes = bytes.saturating_add(u64::try_from(size.unwrap_or_default()).unwrap_or_default());
            }
            Ok(bytes)
        })
    }

    /// Removes blocks, and returns how many were held. Only tests remove blocks with nothing else. Segment files in which nothing is left are removed.
    ///
    /// # Errors
    /// Where the change cannot be made durable; then everything is still held.
    #[cfg(test)]
    pub(crate) fn remove_blocks(&self, ids: &[ContentId]) -> Result<u64, Error> {
        let mut removed = 0;
        self.remove_blocks_with(ids, |tx| {
            for id in ids {
                removed += u64::from(super::blocks::holds(tx, id)?);
            }
            Ok(Some(()))
        })?;
        Ok(removed)
    }

    /// Removes blocks together with what `also` writes first; returns their bytes, and what it returned. Nothing is changed where
    /// that is nothing.
    ///
    /// # Errors
    /// What `also` returned, or where the change cannot be made durable; then everything is still held.
    pub fn remove_blocks_with<T>(
        &self,
        ids: &[ContentId],
        also: impl FnOnce(&Transaction<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Option<(u64, T)>, Error> {
        let removed = self.write(|tx| {
            let Some(value) = also(tx)? else { return Ok(None) };
            let mut bytes = 0u64;
            let mut statement = tx.prepare_cached("DELETE FROM blocks WHERE id = ?1 RETURNING size")?;
            for id in ids {
                let size: Option<i64> = statement.query_row([id.to_bytes()], |row| row.get(0)).optional()?;
                bytes = bytes.saturating_add(u64::try_from(size.unwrap_or_default()).unwrap_or_default());
            }
            Ok(Some((bytes, value, take_empty_segments(tx)?)))
        })?;
        Ok(removed.map(|(bytes, value, empty)| {
            self.remove_segments(&empty);
            (bytes, value)
        }))
    }

    /// Gives the stretches of segment files that no row names back to the file system, where it can have holes in files.
    pub fn free_dead_space(&self) {
        let Place::Disk(disk) = &self.shared.place else { return };
        let dead = match self.read(|connection| {
            let sql =
                "SELECT number, bytes, sum(size + ?1) AS live FROM segments JOIN blocks ON segment = number
                       GROUP BY number HAVING bytes - live >= ?2";
            let mut statement = connection.prepare(sql)?;
            let least = params![column::integer(segment::HEADER_BYTES), column::integer(HOLE_BYTES_MIN)];
            let mut rows = statement.query(least)?;
            let mut dead = Vec::new();
            while let Some(row) = rows.next()? {
                dead.push((column::read_integer(row, "number")?, column::read_integer(row, "bytes")?));
            }
            Ok(dead)
        }) {
            Ok(dead) => dead,
            Err(error) => {
                tracing::warn!(%error, "the space of removed blocks was not freed");
                return;
            }
        };
        for (number, bytes) in dead {
            let stretches = match self.dead_stretches(number, bytes) {
                Ok(stretches) => stretches,
                Err(error) => {
                    tracing::warn!(segment = number, %error, "the space of removed blocks was not freed");
                    continue;
                }
            };
            let freed = segment::open_to_free(&disk.blocks, number).and_then(|file| {
                stretches.iter().try_for_each(|(at, length)| segment::free(&file, *at, *length))
            });
            match freed {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
                Err(error) => {
                    tracing::warn!(segment = number, %error, "the space of removed blocks was not freed")
                }
            }
        }
    }

    /// What no row names between the blocks of a segment, and behind them: where it begins, and its bytes.
    fn dead_stretches(&self, number: u64, bytes: u64) -> Result<Vec<(u64, u64)>, Error> {
        self.read(|connection| {
            let sql = "SELECT place, size FROM blocks WHERE segment = ?1 ORDER BY place";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([column::integer(number)])?;
            let (mut stretches, mut at) = (Vec::new(), 0);
            let mut until = |from: u64, to: u64| {
                if to.saturating_sub(from) >= HOLE_BYTES_MIN {
                    stretches.push((from, to - from));
                }
            };
            while let Some(row) = rows.next()? {
                let place = column::read_integer(row, "place")?;
                until(at, place.saturating_sub(segment::HEADER_BYTES));
                at = place.saturating_add(column::read_integer(row, "size")?);
            }
            until(at, bytes);
            Ok(stretches)
        })
    }
}
