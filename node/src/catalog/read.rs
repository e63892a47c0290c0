//! What comes out, other than by search.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Error, from_bits, from_ordered, proofs::stored_proofs, to_ordered, two_chains};
use crate::{
    content::ContentId,
    identity::{Envelope, canonical},
    limits::{CLAIMS_LISTED_MAX, HEAD_BYTES_MAX},
    package::{PackageId, PackageName},
    release::{self, Head, Place, Seen, Sequence, VerifiedHead, entry, fork::Side},
    time::Timestamp,
};

/// A package as the catalogue lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The package.
    pub id: PackageId,
    /// What its head says; it was verified when it was taken.
    pub head: Head,
    /// The head as it was signed.
    pub bytes: Vec<u8>,
    /// Its place in the order of changes.
    pub position: u64,
    /// When this node took it.
    pub received: Timestamp,
    /// Whether its publisher signed two states for one place: to be said wherever the package is shown, and nothing of it
    /// is installed, whichever version.
    pub frozen: bool,
    /// Whether there are two chains of keys of its publisher ([`disputed`](super::disputed)).
    pub disputed: bool,
}

impl Listed {
    /// Verifies the head again, as anything that acts on it does: the database is a file like any other.
    ///
    /// # Errors
    /// As [`VerifiedHead::verify`].
    pub fn verify(&self, now: Timestamp) -> Result<VerifiedHead, release::Error> {
        VerifiedHead::verify(&self.bytes, now)
    }
}

/// A stretch of the order of changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The heads as they were signed, in order.
    pub heads: Vec<Vec<u8>>,
    /// Where to read on.
    pub next: u64,
    /// Whether there is nothing after it.
    pub done: bool,
}

/// Reads what is listed of one package.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub fn get(conn: &Connection, id: &PackageId) -> Result<Option<Listed>, Error> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM catalog_heads AS h WHERE h.id = ?1"))?
        .query_row(params![id.to_string()], listed)
        .optional()?
        .map(|listed| listed.ok_or_else(|| Error::Damaged { id: Box::new(id.clone()) }))
        .transpose()
}

/// The packages of one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// The first of them by id, at most [`CLAIMS_LISTED_MAX`].
    pub listed: Vec<Listed>,
    /// How many there are.
    pub total: usize,
}

/// Lists the packages of one name that have something to install, by id.
///
/// # Errors
/// [`Error::Database`].
pub fn by_name(conn: &Connection, name: &PackageName) -> Result<Claims, Error> {
    let matching = "FROM catalog_heads AS h WHERE h.name = ?1 AND h.offers <> 0";
    let values = params![name.as_str()];
    let total: i64 =
        conn.prepare_cached(&format!("SELECT count(*) {matching}"))?.query_row(values, |row| row.get(0))?;
    let listed_max = CLAIMS_LISTED_MAX;
    let mut statement =
        conn.prepare_cached(&format!("SELECT {COLUMNS} {matching} ORDER BY h.id LIMIT {listed_max}"))?;
    let listed = sound(statement.query_map(values, listed)?)?;
    Ok(Claims { listed, total: usize::try_from(total).unwrap_or(usize::MAX) })
}

/// Lists what changed after `position`, in order, at most `limit`.
///
/// # Errors
/// [`Error::Database`].
pub fn listed_after(conn: &Connection, position: u64, limit: usize) -> Result<Vec<Listed>, Error> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM catalog_heads AS h WHERE h.position > ?1 ORDER BY h.position LIMIT ?2"
    ))?;
    sound(statement.query_map(params![to_ordered(position), to_ordered(limit as u64)], listed)?)
}

/// Counts the heads.
///
/// # Errors
/// [`Error::Database`].
pub fn count(conn: &Connection) -> Result<usize, Error> {
    let heads: i64 =
        conn.prepare_cached("SELECT heads FROM catalog_totals")?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(heads).unwrap_or(0))
}

/// When the newest head was taken; none where the catalogue is empty.
///
/// # Errors
/// [`Error::Database`].
pub fn newest_received(conn: &Connection) -> Result<Option<Timestamp>, Error> {
    let received = conn
        .prepare_cached("SELECT received FROM catalog_heads ORDER BY position DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(received.map(from_ordered).map(Timestamp::from_secs))
}

/// The highest position ever given. A peer that asks for what comes after a higher one remembers another database, and has
/// to begin again.
///
/// # Errors
/// [`Error::Database`].
pub fn newest_position(conn: &Connection) -> Result<u64, Error> {
    let position = conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'catalog_heads'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(position.map_or(0, from_ordered))
}

/// Reads the heads that changed after `position`: at most `limit_rows` of at most `limit_bytes` together, but at least one, so
/// that a reader always gets on. With the head of a frozen package come those that prove why.
///
/// # Errors
/// [`Error::Database`].
pub fn after(conn: &Connection, position: u64, limit_rows: usize, limit_bytes: usize) -> Result<Page, Error> {
    let sql = format!("{HEADS_AFTER} ORDER BY position");
    stretch(conn, &sql, position, limit_rows, limit_bytes)
}

/// As [`after`], with the confirmations that changed.
///
/// # Errors
/// [`Error::Database`].
pub fn changes_after(
    conn: &Connection,
    position: u64,
    limit_rows: usize,
    limit_bytes: usize,
) -> Result<Page, Error> {
    let sql = format!(
        "{HEADS_AFTER} UNION ALL SELECT position, bytes, '', 0 FROM confirmations WHERE position > ?1 ORDER BY position"
    );
    stretch(conn, &sql, position, limit_rows, limit_bytes)
}

const HEADS_AFTER: &str = "SELECT h.position AS position, h.bytes, h.id,
                                  EXISTS (SELECT 1 FROM equivocations AS e WHERE e.id = h.id)
                                  OR EXISTS (SELECT 1 FROM two_chains AS t WHERE t.id = h.id)
                           FROM catalog_heads AS h WHERE h.position > ?1";

fn stretch(
    conn: &Connection,
    sql: &str,
    position: u64,
    limit_rows: usize,
    limit_bytes: usize,
) -> Result<Page, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![to_ordered(position)])?;
    let mut page = Page { heads: Vec::new(), next: position, done: true };
    let mut bytes_in_all = 0usize;
    while let Some(row) = rows.next()? {
        let mut heads: Vec<Vec<u8>> = vec![row.get(1)?];
        if row.get(3)? {
            add_proofs(conn, &row.get::<_, String>(2)?, &mut heads)?;
        }
        bytes_in_all = heads.iter().fold(bytes_in_all, |all, bytes| all.saturating_add(bytes.len()));
        let is_full = page.heads.len() + heads.len() > limit_rows || bytes_in_all > limit_bytes;
        if !page.heads.is_empty() && is_full {
            page.done = false;
            break;
        }
        page.next = from_ordered(row.get(0)?);
        page.heads.append(&mut heads);
    }
    Ok(page)
}

/// Adds what proves that a package is frozen to its head, and what shows two chains of keys of its publisher.
pub(super) fn add_proofs(conn: &Connection, id: &str, heads: &mut Vec<Vec<u8>>) -> Result<(), Error> {
    let proofs = stored_proofs(conn, id)?.into_iter().flat_map(|proof| [proof.first, proof.second]);
    // What proves it may be entries of a log, of which some are too large for a page.
    let statements = proofs.filter(|it| it.len() <= HEAD_BYTES_MAX);
    for statement in statements.chain(two_chains::shown_with(conn, id)?) {
        if !heads.contains(&statement) {
            heads.push(statement);
        }
    }
    Ok(())
}

/// Something that is held byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// A head that is listed, or kept as part of a proof, and what it says.
    Head(Box<Head>),
    /// A publisher's confirmation.
    Confirmation,
    /// An entry of a log that is kept as part of a proof.
    Entry,
}

/// What is held of just these bytes; they need not be verified, as what is held was.
///
/// # Errors
/// [`Error::Database`].
pub fn holds(conn: &Connection, bytes: &[u8]) -> Result<Option<Held>, Error> {
    let is_proof = |id: &str| {
        let sql = "SELECT 1 FROM equivocations WHERE id = ?1 AND (first = ?2 OR second = ?2)";
        conn.prepare_cached(sql)?.exists(params![id, bytes])
    };
    let Some(head) = decode(bytes) else {
        return Ok(match entry::is_likely(bytes).then(|| Side::read(bytes)).flatten() {
            Some((package, _)) => is_proof(&package.to_string())?.then_some(Held::Entry),
            None => super::confirmed::holds(conn, bytes)?.then_some(Held::Confirmation),
        });
    };
    let id = PackageId { publisher: head.publisher, name: head.name.clone() }.to_string();
    let held: Option<Vec<u8>> = conn
        .prepare_cached("SELECT bytes FROM catalog_heads WHERE id = ?1")?
        .query_row(params![id], |row| row.get(0))
        .optional()?;
    if held.is_some_and(|held| held == bytes) {
        return Ok(Some(Held::Head(Box::new(head))));
    }
    let is_held = is_proof(&id)? || two_chains::holds(conn, &head.publisher, bytes)?;
    Ok(is_held.then(|| Held::Head(Box::new(head))))
}

/// Reads what was seen of a package, listed or not.
///
/// # Errors
/// [`Error::Database`].
pub fn seen(conn: &Connection, id: &PackageId) -> Result<Option<Seen>, Error> {
    Ok(stored_seen(conn, &id.to_string())?.map(|(seen, _)| seen))
}

/// Whether the publisher of a package signed two states for one place.
///
/// # Errors
/// [`Error::Database`].
pub fn is_frozen(conn: &Connection, id: &PackageId) -> Result<bool, Error> {
    Ok(stored_seen(conn, &id.to_string())?.is_some_and(|(_, frozen)| frozen))
}

/// Bytes of a place as it is stored: two numbers, and the id of a signed structure.
const PLACE_BYTES: usize = 8 + 8 + 36;

/// Where the log of a package ended once, oldest first, as far as no log was read that holds it; the last place that a log
/// which was read held is the first of them.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub fn places(conn: &Connection, id: &PackageId) -> Result<Vec<Place>, Error> {
    stored_places(conn, &id.to_string())?.ok_or_else(|| Error::Damaged { id: Box::new(id.clone()) })
}

/// The head that the one which is listed took the place of, where the keys are the same and no log was read since: what its
/// publisher signed for the place where it ended.
///
/// # Errors
/// [`Error::Database`].
pub fn before(conn: &Connection, id: &PackageId) -> Result<Option<VerifiedHead>, Error> {
    let stored: Option<Option<Vec<u8>>> = conn
        .prepare_cached("SELECT before FROM catalog_seen WHERE id = ?1")?
        .query_row(params![id.to_string()], |row| row.get(0))
        .optional()?;
    Ok(stored.flatten().and_then(|bytes| VerifiedHead::verify_stored(&bytes).ok()))
}

/// Reads the places of a package; none where they cannot be understood.
pub(super) fn stored_places(conn: &Connection, id: &str) -> Result<Option<Vec<Place>>, Error> {
    let stored: Option<Vec<u8>> = conn
        .prepare_cached("SELECT places FROM catalog_seen WHERE id = ?1")?
        .query_row(params![id], |row| row.get(0))
        .optional()?;
    Ok(places_from_bytes(&stored.unwrap_or_default()))
}

/// The reverse of [`places_to_bytes`]; none where they cannot be understood.
pub(super) fn places_from_bytes(bytes: &[u8]) -> Option<Vec<Place>> {
    let read = |bytes: &[u8]| {
        let (key_n, rest) = bytes.split_first_chunk()?;
        let (sequence, entry) = rest.split_first_chunk()?;
        Some(Place {
            key_n: u64::from_be_bytes(*key_n),
            sequence: Sequence::new(u64::from_be_bytes(*sequence)),
            entry: ContentId::from_bytes(entry).ok()?,
        })
    };
    bytes.chunks(PLACE_BYTES).map(read).collect()
}

/// Places as they are stored.
pub(super) fn places_to_bytes(places: &[Place]) -> Vec<u8> {
    let bytes = |place: &Place| {
        let numbers = [place.key_n.to_be_bytes(), place.sequence.get().to_be_bytes()];
        [numbers.as_flattened(), &place.entry.to_bytes()].concat()
    };
    places.iter().flat_map(bytes).collect()
}

/// Reads what was seen of a package, and whether it is frozen.
///
/// A row that cannot be read is an error rather than nothing: nothing would let a rollback in.
pub(super) fn stored_seen(conn: &Connection, id: &str) -> Result<Option<(Seen, bool)>, Error> {
    let optional_id = |row: &Row<'_>, column: usize| {
        let bytes: Option<Vec<u8>> = row.get(column)?;
        bytes.map(|bytes| ContentId::from_bytes(&bytes)).transpose().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
        })
    };
    let content_id = |row: &Row<'_>, column: usize| {
        let missing =
            || rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Null);
        optional_id(row, column)?.ok_or_else(missing)
    };
    Ok(conn
        .prepare_cached(
            "SELECT key_n, key_document, sequence, entry, log, latest, follows, frozen FROM catalog_seen WHERE id = ?1",
        )?
        .query_row(params![id], |row| {
            let seen = Seen {
                key_n: from_bits(row.get(0)?),
                key_document: content_id(row, 1)?,
                sequence: Sequence::new(from_bits(row.get(2)?)),
                entry: content_id(row, 3)?,
                log: content_id(row, 4)?,
                latest: optional_id(row, 5)?,
                follows: optional_id(row, 6)?,
            };
            Ok((seen, row.get(7)?))
        })
        .optional()?)
}

/// What [`listed`] reads, of a table `h`.
pub(super) const COLUMNS: &str = "h.bytes, h.position, h.received, \
     EXISTS (SELECT 1 FROM catalog_seen AS s WHERE s.id = h.id AND s.frozen <> 0), \
     EXISTS (SELECT 1 FROM two_chains AS t WHERE t.publisher = h.publisher)";

/// Reads a row of [`COLUMNS`]; none where its head cannot be read any more.
pub(super) fn listed(row: &Row<'_>) -> rusqlite::Result<Option<Listed>> {
    let bytes: Vec<u8> = row.get(0)?;
    let Some(head) = decode(&bytes) else { return Ok(None) };
    Ok(Some(Listed {
        id: PackageId { publisher: head.publisher, name: head.name.clone() },
        head,
        bytes,
        position: from_ordered(row.get(1)?),
        received: Timestamp::from_secs(from_ordered(row.get(2)?)),
        frozen: row.get(3)?,
        disputed: row.get(4)?,
    }))
}

/// Collects rows and passes over those that cannot be read, so that one damaged row hides one package and not all.
pub(super) fn sound(
    rows: impl Iterator<Item = rusqlite::Result<Option<Listed>>>,
) -> Result<Vec<Listed>, Error> {
    let mut sound = Vec::new();
    for row in rows {
        match row? {
            Some(listed) => sound.push(listed),
            None => tracing::warn!("a damaged head in the catalogue was passed over"),
        }
    }
    Ok(sound)
}

/// Reads a head without its signatures, which were verified before it was stored.
pub(super) fn decode(bytes: &[u8]) -> Option<Head> {
    canonical::decode_open("a head", &Envelope::peek(bytes, HEAD_BYTES_MAX)?).ok()
}
