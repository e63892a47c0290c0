//! Blocks: small ones as rows, larger ones in segment files, found by their id in one table.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Error, Place, Store, column, segment};
use crate::{
    content::{self, Block, Codec, ContentId},
    limits::BLOCK_BYTES_MAX,
};

/// Blocks up to this size are rows of the database.
pub(super) const ROW_BYTES_MAX: usize = 16 << 10;
/// Bytes that a batch gathers for rows; after that its small blocks go to the segment too, so that memory stays flat.
const BATCH_ROWS_BYTES_MAX: usize = 4 << 20;
/// Segment files kept open for reading.
const OPEN_SEGMENTS_MAX: usize = 32;

/// How much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
}

impl Store {
    /// Begins to gather blocks that become durable together.
    pub fn batch(&self) -> Batch {
        self.begin(false)
    }

    /// Begins to gather blocks that become durable together, all of them in one segment file.
    ///
    /// What is in there outlives the database: for what this node alone may hold, such as its own packages.
    pub fn lasting_batch(&self) -> Batch {
        self.begin(true)
    }

    fn begin(&self, lasting: bool) -> Batch {
        Batch {
            store: self.clone(),
            blocks: BTreeMap::new(),
            row_bytes: 0,
            writer: None,
            failed: false,
            lasting,
        }
    }

    /// The ids of all blocks of one codec, in order.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn ids_of(&self, codec: Codec) -> Result<Vec<ContentId>, Error> {
        // A CIDv1 begins with its version and its codec.
        let first = vec![1, codec as u8];
        let after = vec![1, codec as u8 + 1];
        self.read(|connection| {
            let mut statement =
                connection.prepare("SELECT id FROM blocks WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
            let rows = statement.query_map([first, after], |row| row.get::<_, Vec<u8>>(0))?;
            let ids: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
            Ok(ids.iter().filter_map(|id| ContentId::from_bytes(id).ok()).collect())
        })
    }

    /// Stores a few blocks durably.
    ///
    /// # Errors
    /// As [`Batch::put`] and [`Batch::commit`]; then none of them is stored.
    pub fn put_blocks(&self, blocks: &[Block]) -> Result<(), Error> {
        let mut batch = self.batch();
        for block in blocks {
            batch.put(block.clone())?;
        }
        batch.commit(|_| Ok(()))
    }

    /// Reads a block and compares it with the checksum that it had when it was stored.
    ///
    /// Where that differs the block is verified by its hash. A block whose bytes are damaged or missing on the disk is taken out of the index and reported as absent, so that
    /// it is fetched again rather than served.
    ///
    /// # Errors
    /// Only where the block may well be there and could not be read.
    pub fn block(&self, id: &ContentId) -> Result<Option<Block>, Error> {
        self.block_by(id, |found, crc| {
            if crc == Some(crc32fast::hash(&found)) {
                Ok(Block::unchanged(*id, found))
            } else {
                Block::verified(*id, found)
            }
        })
    }

    /// Reads a block that `check` finds to be whole, as [`Store::block`] does; `check` is told the checksum that it should have.
    pub(super) fn block_by(
        &self,
        id: &ContentId,
        check: impl FnOnce(Vec<u8>, Option<u32>) -> Result<Block, content::Error>,
    ) -> Result<Option<Block>, Error> {
        let Some((found, crc)) = self.read(|connection| find(connection, id))? else { return Ok(None) };
        let (bytes, place) = match found {
            Found::Row(bytes) => (Some(bytes), None),
            Found::Segment { number, place, size } => {
                (self.read_segment(number, place, size)?, Some((number, place)))
            }
            Found::Damaged => (None, None),
        };
        if let Some(block) = bytes.and_then(|bytes| check(bytes, crc).ok()) {
            return Ok(Some(block));
        }
        tracing::warn!(block = %id, segment = ?place.map(|(number, _)| number), "block damaged on disk; dropped");
        if let Err(error) = self.write(|tx| drop_damaged(tx, id, place)) {
            tracing::warn!(block = %id, error = %error, "damaged block stays in the index");
        }
        Ok(None)
    }

    /// Whether a block is held. Its bytes are not read.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn has(&self, id: &ContentId) -> Result<bool, Error> {
        self.read(|connection| holds(connection, id))
    }

    /// Those of `ids` that are not held, in the order given.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn missing(&self, ids: &[ContentId]) -> Result<Vec<ContentId>, Error> {
        self.read(|connection| {
            let mut missing = Vec::new();
            for id in ids {
                if !holds(connection, id)? {
                    missing.push(*id);
                }
            }
            Ok(missing)
        })
    }

    /// How many blocks and bytes are held.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.read(|connection| {
            let sql = "SELECT count(*), coalesce(sum(size), 0) FROM blocks";
            let (blocks, bytes): (i64, i64) =
                connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let counted = |number: i64| u64::try_from(number).unwrap_or_default();
            Ok(Stats { blocks: counted(blocks), bytes: counted(bytes) })
        })
    }

    /// Whether a row names a segment, or may do so.
    fn names_segment(&self, number: u64) -> bool {
        let sql = "SELECT EXISTS (SELECT 1 FROM segments WHERE number = ?1)";
        let number = column::integer(number);
        self.read(|connection| Ok(connection.query_row(sql, [number], |row| row.get(0))?)).unwrap_or(true)
    }

    /// Removes segment files that no row names any more; what stays behind is swept at the next start.
    pub(super) fn remove_segments(&self, numbers: &[u64]) {
        let Place::Disk(disk) = &self.shared.place else { return };
        for number in numbers {
            disk.open_segments().forget(*number);
            let path = segment::path(&disk.blocks, *number);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), error = %error, "empty segment not removed");
            }
        }
    }

    /// Reads bytes of a segment; `None` where they are gone, an error where they may well be there.
    fn read_segment(&self, number: u64, place: u64, size: usize) -> Result<Option<Vec<u8>>, Error> {
        let Place::Disk(disk) = &self.shared.place else { return Ok(None) };
        if size > BLOCK_BYTES_MAX {
            return Ok(None);
        }
        let known = disk.open_segments().get(number);
        let opened = match known {
            Some(file) => Ok(file),
            None => segment::open(&disk.blocks, number).map(Arc::new),
        };
        let read = opened.and_then(|file| {
            let bytes = segment::read(&file, place, size)?;
            disk.open_segments().keep(number, file);
            Ok(bytes)
        });
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                Ok(None)
            }
            Err(error) => Err(Error::from(error).within(&disk.folder)),
        }
    }
}

/// Blocks that become durable together, with whatever the caller writes beside them.
///
/// Costs three fsyncs when committed – the segment, its folder, the database's log – or one where no block is large.
/// Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct Batch {
    store: Store,
    blocks: BTreeMap<ContentId, Pending>,
    row_bytes: usize,
    writer: Option<segment::Writer>,
    failed: bool,
    /// Small blocks go to the segment too, even those that are rows already.
    lasting: bool,
}

/// Where a block of a batch is until the commit.
#[derive(Debug)]
enum Pending {
    /// It was in the store before.
    Held,
    /// It will be a row.
    Row(Block),
    /// It is in the segment.
    Segment { place: u64, size: usize, crc: u32 },
}

impl Batch {
    /// Adds a block; returns whether it was neither held nor added before.
    ///
    /// # Errors
    /// [`Error::BlockTooLarge`], or where it cannot be written; after that the batch can only be dropped.
    pub fn put(&mut self, block: Block) -> Result<bool, Error> {
        let id = block.id();
        if self.blocks.contains_key(&id) {
            return Ok(false);
        }
        let held = self.store.read(|connection| find(connection, &id))?;
        let lasts = match held {
            Some((Found::Row(_), _)) => matches!(self.store.shared.place, Place::Memory) || !self.lasting,
            Some(_) => true,
            None => false,
        };
        if lasts {
            self.check_whole()?;
            self.blocks.insert(id, Pending::Held);
            return Ok(false);
        }
        self.put_missing(block)?;
        Ok(held.is_none())
    }

    /// Adds a block that was missing when its caller looked, so that it is not looked for again. Where another batch brought it
    /// since, nothing is stored twice.
    ///
    /// # Errors
    /// As [`Batch::put`].
    pub fn put_missing(&mut self, block: Block) -> Result<(), Error> {
        let (id, size) = (block.id(), block.bytes().len());
        if size > BLOCK_BYTES_MAX {
            return Err(Error::BlockTooLarge { id, bytes: size });
        }
        self.check_whole()?;
        if self.blocks.contains_key(&id) {
            return Ok(());
        }
        let in_memory = matches!(self.store.shared.place, Place::Memory);
        let small = size <= ROW_BYTES_MAX && self.row_bytes + size <= BATCH_ROWS_BYTES_MAX;
        let as_row = small && !self.lasting;
        let pending = if in_memory || as_row {
            self.row_bytes += size;
            Pending::Row(block)
        } else {
            Pending::Segment { place: self.append(&block)?, size, crc: crc32fast::hash(block.bytes()) }
        };
        self.blocks.insert(id, pending);
        Ok(())
    }

    /// Whether the block is in this batch or in the store.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn has(&self, id: &ContentId) -> Result<bool, Error> {
        if self.blocks.contains_key(id) { Ok(true) } else { self.store.has(id) }
    }

    /// Makes the blocks durable, together with what `also` writes; the rows of the blocks are visible to it.
    ///
    /// When this returns `Ok`, everything survives a crash. Otherwise nothing of it is there.
    ///
    /// # Errors
    /// What `also` returned; [`Error::Vanished`] where a block that was held when it was put has been removed since;
    /// otherwise whatever kept the data from the disk.
    pub fn commit<T>(mut self, also: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        self.check_whole()?;
        let segment = match self.writer.take() {
            Some(writer) => Some(self.finish(writer)?),
            None => None,
        };
        let (mut done, mut unused) = (false, false);
        let outcome = self.store.write(|tx| {
            unused = !self.insert(tx, segment)?;
            let value = also(tx)?;
            done = true;
            Ok(value)
        });
        if let Some((number, _)) = segment {
            // Where the commit failed otherwise, nobody can say whether the rows are there: the next start finds out.
            let is_unnamed = match &outcome {
                Ok(_) => unused,
                Err(error) => !done || (error.is_failed_write() && !self.store.names_segment(number)),
            };
            if is_unnamed {
                self.store.remove_segments(&[number]);
            }
        }
        outcome
    }

    fn check_whole(&self) -> Result<(), Error> {
        if self.failed {
            let folder = self.store.folder().map(ToOwned::to_owned).unwrap_or_default();
            let source = "an earlier block of this batch could not be written".into();
            return Err(Error::Io { folder, source });
        }
        Ok(())
    }

    fn append(&mut self, block: &Block) -> Result<u64, Error> {
        let Place::Disk(disk) = &self.store.shared.place else {
            unreachable!("blocks are rows where there is no folder")
        };
        let appended = match &mut self.writer {
            Some(writer) => writer.append(block),
            None => segment::Writer::create(&disk.blocks, disk.next_segment(), disk.sharing.is_on())
                .and_then(|writer| self.writer.insert(writer).append(block)),
        };
        self.failed = appended.is_err();
        appended.map_err(|error| Error::from(error).within(&disk.folder))
    }

    /// Brings the segment to the disk; returns its number and bytes.
    fn finish(&self, writer: segment::Writer) -> Result<(u64, u64), Error> {
        let (number, bytes) = (writer.number(), writer.bytes());
        match writer.finish() {
            Ok(_) => Ok((number, bytes)),
            Err(segment::Unfinished::Failed(error)) => Err(self.store.named(error)),
            Err(segment::Unfinished::NotSynced(error)) => {
                self.store.stop_writing();
                Err(self.store.named(error.into()))
            }
        }
    }

    /// Writes the rows; returns whether any of them names the segment.
    fn insert(&self, tx: &Transaction<'_>, segment: Option<(u64, u64)>) -> Result<bool, Error> {
        if let Some((number, bytes)) = segment {
            let row = params![column::integer(number), column::integer(bytes)];
            tx.execute("INSERT INTO segments (number, bytes) VALUES (?1, ?2)", row)?;
        }
        let mut used = 0;
        for (id, pending) in &self.blocks {
            match (pending, segment) {
                (Pending::Held, _) if holds(tx, id)? => {}
                (Pending::Held, _) => return Err(Error::Vanished { id: *id }),
                (Pending::Row(block), _) => {
                    insert_as_row(tx, block)?;
                }
                (Pending::Segment { place, size, crc }, Some((number, _))) => {
                    used += insert_in_segment(tx, *id, (*size, *crc), number, *place)?;
                }
                (Pending::Segment { .. }, None) => unreachable!("it was appended to a segment"),
            }
        }
        match segment {
            // Another batch brought the same blocks meanwhile.
            Some((number, _)) if used == 0 => {
                tx.execute("DELETE FROM segments WHERE number = ?1", [column::integer(number)])?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }
}

/// Where a block is.
enum Found {
    Row(Vec<u8>),
    Segment {
        number: u64,
        place: u64,
        size: usize,
    },
    /// The row says something impossible.
    Damaged,
}

/// Where a block is, and the checksum that it should have; none where the row says something impossible of that.
fn find(connection: &Connection, id: &ContentId) -> Result<Option<(Found, Option<u32>)>, Error> {
    let sql = "SELECT data, segment, place, size, crc FROM blocks WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.to_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let crc = row.get::<_, i64>("crc").ok().and_then(|crc| u32::try_from(crc).ok());
    if let Some(data) = row.get::<_, Option<Vec<u8>>>("data")? {
        return Ok(Some((Found::Row(data), crc)));
    }
    let number = |column| u64::try_from(row.get::<_, Option<i64>>(column).ok()??).ok();
    let found = match (number("segment"), number("place"), number("size")) {
        (Some(number), Some(place), Some(size)) => {
            Found::Segment { number, place, size: usize::try_from(size).unwrap_or(usize::MAX) }
        }
        _ => Found::Damaged,
    };
    Ok(Some((found, crc)))
}

/// The segment that a block is in, and its place and bytes there; none for one that is a row, or that is not held.
pub(super) fn place_of(connection: &Connection, id: &ContentId) -> Result<Option<(u64, u64, u64)>, Error> {
    Ok(match find(connection, id)? {
        Some((Found::Segment { number, place, size }, _)) => Some((number, place, size as u64)),
        _ => None,
    })
}

/// Whether the index has a block, inside a transaction of the caller's.
pub(super) fn holds(connection: &Connection, id: &ContentId) -> Result<bool, Error> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM blocks WHERE id = ?1")?;
    Ok(statement.query_row([id.to_bytes()], |_| Ok(())).optional()?.is_some())
}

/// Adds a block as a row; returns how many rows are new.
pub(super) fn insert_as_row(tx: &Transaction<'_>, block: &Block) -> Result<u64, Error> {
    let sql = "INSERT INTO blocks (id, size, data, crc) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    let (id, bytes) = (block.id().to_bytes(), block.bytes());
    let row = params![id, column::integer(bytes.len() as u64), bytes, crc32fast::hash(bytes)];
    Ok(tx.prepare_cached(sql)?.execute(row)? as u64)
}

/// Adds a block that is in a segment, with its bytes and their checksum; returns how many rows are new.
pub(super) fn insert_in_segment(
    tx: &Transaction<'_>,
    id: ContentId,
    (size, crc): (usize, u32),
    number: u64,
    place: u64,
) -> Result<u64, Error> {
    let sql = "INSERT INTO blocks (id, size, segment, place, crc) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT DO UPDATE SET segment = excluded.segment, place = excluded.place, data = NULL
               WHERE data IS NOT NULL";
    let (size, number, place) =
        (column::integer(size as u64), column::integer(number), column::integer(place));
    Ok(tx.prepare_cached(sql)?.execute(params![id.to_bytes(), size, number, place, crc])? as u64)
}

/// Takes a damaged block out, unless it was stored again in another place meanwhile.
fn drop_damaged(tx: &Transaction<'_>, id: &ContentId, place: Option<(u64, u64)>) -> Result<(), Error> {
    match place {
        Some((number, place)) => tx.execute(
            "DELETE FROM blocks WHERE id = ?1 AND segment = ?2 AND place = ?3",
            params![id.to_bytes(), column::integer(number), column::integer(place)],
        )?,
        None => tx.execute(
            "DELETE FROM blocks WHERE id = ?1
             AND (data IS NOT NULL OR min(size, ifnull(segment, -1), ifnull(place, -1)) < 0)",
            [id.to_bytes()],
        )?,
    };
    Ok(())
}

/// Forgets the segments that no block is in, and returns their numbers.
pub(super) fn take_empty_segments(tx: &Transaction<'_>) -> Result<Vec<u64>, Error> {
    let mut statement = tx.prepare(
        "DELETE FROM segments WHERE NOT EXISTS (SELECT 1 FROM blocks WHERE segment = segments.number)
         RETURNING number",
    )?;
    let mut rows = statement.query([])?;
    let mut numbers = Vec::new();
    while let Some(row) = rows.next()? {
        numbers.push(column::read_integer(row, "number")?);
    }
    Ok(numbers)
}

/// The segments read last, so that serving a package does not open a file a block.
#[derive(Debug, Default)]
pub(super) struct OpenSegments(VecDeque<(u64, Arc<File>)>);

impl OpenSegments {
    fn get(&self, number: u64) -> Option<Arc<File>> {
        self.0.iter().find(|(known, _)| *known == number).map(|(_, file)| Arc::clone(file))
    }

    /// Puts a segment in front; the one that was not read for longest goes.
    fn keep(&mut self, number: u64, file: Arc<File>) {
        self.forget(number);
        self.0.truncate(OPEN_SEGMENTS_MAX - 1);
        self.0.push_front((number, file));
    }

    fn forget(&mut self, number: u64) {
        self.0.retain(|(known, _)| *known != number);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
