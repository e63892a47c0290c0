//! Compares blocks with their hashes, some at a time.
//!
//! What is read for others is compared with a checksum alone. It finds what a disk does to bytes, all but one change of four
//! thousand millions; the hash finds the rest.

use super::{Error, Place, Store};
use crate::content::{Block, ContentId};

/// How far an audit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audited {
    /// The last block that was compared; none where the last one of all was.
    pub last: Option<ContentId>,
    /// Blocks that were compared.
    pub blocks: u64,
    /// Those that were not what their ids name. They are taken out of the index, and so are fetched again where they are wanted.
    pub damaged: u64,
}

impl Store {
    /// Compares the blocks after `after` with their hashes, in the order of their ids, until that were `bytes_max` bytes.
    ///
    /// A store in memory is not compared with anything.
    ///
    /// # Errors
    /// Where the index cannot be read, or a block may be there and could not be read.
    pub fn audit(&self, after: Option<ContentId>, bytes_max: u64) -> Result<Audited, Error> {
        let mut audited = Audited { last: after, ..Audited::default() };
        if matches!(self.shared.place, Place::Memory) {
            return Ok(Audited::default());
        }
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some((id, size)) = self.read(|connection| next(connection, audited.last))? else {
                audited.last = None;
                break;
            };
            let whole = self.block_by(&id, |found, _| Block::verified(id, found))?;
            audited.damaged += u64::from(whole.is_none());
            audited.blocks += 1;
            audited.last = Some(id);
            bytes = bytes.saturating_add(size.max(1));
        }
        Ok(audited)
    }
}

/// The block that comes after another one, and its bytes.
fn next(
    connection: &rusqlite::Connection,
    after: Option<ContentId>,
) -> Result<Option<(ContentId, u64)>, Error> {
    use rusqlite::OptionalExtension;
    let after = after.map(|id| id.to_bytes()).unwrap_or_default();
    let sql = "SELECT id, size FROM blocks WHERE id > ?1 ORDER BY id LIMIT 1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?));
    let found = connection.prepare_cached(sql)?.query_row([after], row).optional()?;
    let Some((id, size)) = found else { return Ok(None) };
    let id = ContentId::from_bytes(&id).map_err(|error| Error::damaged(error.to_string()))?;
    Ok(Some((id, u64::try_from(size).unwrap_or_default())))
}
