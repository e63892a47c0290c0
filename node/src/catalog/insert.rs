//! What goes in, and what is refused.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{
    Error, confirmed,
    counts::{self, By},
    from_ordered,
    proofs::{freeze, stored_proofs, thaw},
    read::{places_from_bytes, places_to_bytes, stored_places, stored_seen},
    revoked,
    share::{Source, forget_oldest, give_way, is_kept, oldest_gives_way, smaller},
    spelling,
    terms::label_tokens,
    to_bits, to_ordered, two_chains,
    words::{indexed, words},
};
use crate::{
    heads::{self, Known, Standing},
    limits::{CATALOG_HEADS_MAX, CATALOG_HEADS_PER_PUBLISHER_MAX, CATALOG_PLACES_MAX, CATALOG_SEEN_MAX},
    package::PackageId,
    release::{DoubleSigning, Head, Place, VerifiedHead, choice},
    time::Timestamp,
};

/// Heads that are remembered as taken out, for whoever keeps the items of all heads.
const REMOVED_MAX: i64 = 65_536;

/// What became of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The package was not listed before.
    Added,
    /// It took the place of an older state.
    Replaced,
    /// It says the same of the log, and comes first in the order of heads.
    Reworded,
    /// Nothing new.
    Known,
    /// It was not taken.
    Refused(Refusal),
}

impl From<Standing> for Outcome {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::New => Self::Added,
            Standing::Newer => Self::Replaced,
            Standing::Reworded => Self::Reworded,
            Standing::Same | Standing::Superseded => Self::Known,
            Standing::Full => Self::Refused(Refusal::Full),
            Standing::Older => Self::Refused(Refusal::Rollback),
            Standing::DoubleSigned | Standing::Frozen => Self::Refused(Refusal::Equivocation),
            Standing::Contradicts => Self::Refused(Refusal::Contradiction),
            Standing::Early => Self::Refused(Refusal::Early),
            Standing::Revoked => Self::Refused(Refusal::Revoked),
        }
    }
}

impl Outcome {
    /// Whether the catalogue changed, so that the head is worth passing on.
    pub fn is_news(self) -> bool {
        matches!(self, Self::Added | Self::Replaced | Self::Reworded)
    }
}

/// Why a head was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// A later state was seen before.
    Rollback,
    /// Its publisher signed two states for one place; the package is frozen.
    Equivocation,
    /// It contradicts what was seen, which nothing that is here proves, or was signed with keys that had been replaced: the
    /// package stays as it is.
    Contradiction,
    /// The catalogue is full.
    Full,
    /// The publisher's share of the catalogue is full of heads that were released later.
    Share,
    /// It was made further ahead of this node's clock than clocks differ.
    Early,
    /// Its publisher revoked the keys that signed it.
    Revoked,
}

/// Takes a head that `source` told of, where it is newer than what was seen of its package.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    source: &Source,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let package = head.package_id();
    let id = package.to_string();
    let current = current(tx, &id)?;
    if current.as_ref().is_some_and(|current| current.bytes == head.bytes()) {
        return Ok(Outcome::Known);
    }
    let mut known = of_package(tx, &package, &id, current.as_ref())?;
    let mut standing = heads::stand(head, &known, now);
    let mut room = Room::Free;
    if standing == Standing::New && current.is_none() {
        room = room_for(tx, head, &id, source, now)?;
        known.is_full = room != Room::Free;
        standing = heads::stand(head, &known, now);
    }
    let outcome = match Outcome::from(standing) {
        Outcome::Refused(Refusal::Full) if room == Room::ShareFull => Outcome::Refused(Refusal::Share),
        // What stands in its place can be read no more.
        Outcome::Added if current.is_some() => Outcome::Replaced,
        outcome => outcome,
    };
    if standing == Standing::DoubleSigned
        && let Some(listed) = &known.listed
        && let Some(proof) = DoubleSigning::of_heads(listed, head)
    {
        freeze(tx, &id, &proof, [listed.bytes(), head.bytes()], source, now)?;
    }
    if !outcome.is_news() {
        two_chains::note(tx, head, &known, source, now)?;
        return Ok(outcome);
    }
    let is_thawed = known.is_thawed_by(head);
    if is_thawed {
        thaw(tx, &id)?;
    }
    let (source, marks) = match current {
        Some(current) => {
            let (source, marks) = (smaller(tx, current.source, source)?, Marks::of(tx, current.position)?);
            remove(tx, current.position)?;
            (source, Some(marks))
        }
        None => (source.clone(), None),
    };
    let is_marked =
        (known.is_frozen && !is_thawed) || (known.is_disputed && two_chains::is_shown_by(tx, &id)?);
    list(tx, head, &id, &source, is_marked, now)?;
    marks.map_or(Ok(()), |marks| marks.keep(tx, &id))?;
    let seen = write_seen(tx, head, &id, &source, now)?;
    counts::change(tx, &source, By { heads: 1, seen })?;
    forget_oldest(tx, CATALOG_SEEN_MAX)?;
    if standing == Standing::Newer {
        let is_signed_alike = |listed: &&VerifiedHead| listed.seen().key_n == head.seen().key_n;
        remember_before(tx, &id, known.listed.as_ref().filter(is_signed_alike))?;
    }
    let chains = known.listed.iter().chain(&known.other_keys).map(VerifiedHead::key_log);
    revoked::take_out(tx, head.key_log(), chains.chain(&known.confirmed_keys), now)?;
    // Last: it may list the head again, with what shows two chains of keys or without.
    two_chains::note(tx, head, &known, &source, now)?;
    Ok(outcome)
}

/// Keeps the head that was listed before, until a log was read that holds its end: should it not, that head proves it.
fn remember_before(tx: &Transaction<'_>, id: &str, before: Option<&VerifiedHead>) -> Result<(), Error> {
    tx.prepare_cached("UPDATE catalog_seen SET before = ?2 WHERE id = ?1")?
        .execute(params![id, before.map(VerifiedHead::bytes)])?;
    Ok(())
}

/// Notes that the log which a head names was read and continues all that was seen before: what comes later has to hold its
/// end ([`super::places`]).
///
/// # Errors
/// [`Error::Database`].
pub fn log_read(tx: &Transaction<'_>, head: &VerifiedHead, now: Timestamp) -> Result<(), Error> {
    let (id, seen) = (head.package_id().to_string(), head.seen());
    if stored_seen(tx, &id)?.is_none() {
        return remember(tx, head, &Source::unknown(), now);
    }
    let later = stored_places(tx, &id)?.unwrap_or_default();
    let later = later.into_iter().filter(|place| (place.key_n, place.sequence) > (seen.key_n, seen.sequence));
    let places: Vec<Place> = [Place::from(seen)].into_iter().chain(later).take(CATALOG_PLACES_MAX).collect();
    tx.prepare_cached("UPDATE catalog_seen SET places = ?2 WHERE id = ?1")?
        .execute(params![id, places_to_bytes(&places)])?;
    if places.len() == 1 {
        remember_before(tx, &id, None)?;
    }
    Ok(())
}

/// Derives everything that follows from the heads again, and drops heads that do not verify; gives the number of heads left.
///
/// For a database whose rows were salvaged from a damaged one: a text index is not salvaged, counters may be wrong, and a
/// row proves nothing. What was seen of a package is raised to what its head says, never lowered.
///
/// # Errors
/// [`Error::Database`].
pub fn rebuild(tx: &Transaction<'_>, now: Timestamp) -> Result<usize, Error> {
    tx.execute("DELETE FROM catalog_text", [])?;
    tx.execute("DELETE FROM catalog_words", [])?;
    let (mut last, mut kept) = (0i64, 0);
    let next = "SELECT position, id, bytes FROM catalog_heads WHERE position > ?1 ORDER BY position LIMIT 1";
    loop {
        let row: Option<(i64, String, Vec<u8>)> = tx
            .prepare_cached(next)?
            .query_row(params![last], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((position, id, bytes)) = row else { break };
        last = position;
        match VerifiedHead::verify_stored(&bytes) {
            Ok(head) if head.package_id().to_string() == id => {
                index(tx, head.head(), position)?;
                let seen = stored_seen(tx, &id).ok().flatten();
                let is_marked = seen.is_some_and(|(_, frozen)| frozen) || two_chains::is_shown_by(tx, &id)?;
                let item = heads::item(&head, is_marked);
                tx.prepare_cached(
                    "UPDATE catalog_heads SET released = ?2, item = ?3, key_n = ?4 WHERE position = ?1",
                )?
                .execute(params![
                    position,
                    to_ordered(item.released),
                    item.id.0,
                    to_bits(head.seen().key_n)
                ])?;
                let seen = seen.map(|(seen, _)| seen);
                if seen.is_none() || choice::accept(&head, seen).is_ok() {
                    remember(tx, &head, &Source::unknown(), now)?;
                }
                kept += 1;
            }
            _ => {
                tx.execute("DELETE FROM catalog_heads WHERE position = ?1", params![position])?;
            }
        }
    }
    counts::recount(tx)?;
    Ok(kept)
}

/// Takes the first head after `position` out that has these bytes, which turned out to be damaged; tells whether there was one.
/// What was seen of its package stays, so that others can bring it again.
///
/// # Errors
/// [`Error::Database`].
pub fn discard(tx: &Transaction<'_>, position: u64, bytes: &[u8]) -> Result<bool, Error> {
    let found = tx
        .prepare_cached(
            "SELECT position FROM catalog_heads WHERE position > ?1 AND bytes = ?2 ORDER BY position LIMIT 1",
        )?
        .query_row(params![to_ordered(position), bytes], |row| row.get(0))
        .optional()?;
    found.map(|position| remove(tx, position)).transpose().map(|removed| removed.is_some())
}

/// Takes out what is listed of a package, and what was seen of it. For what this node signed itself, and nobody else has seen.
///
/// # Errors
/// [`Error::Database`].
pub fn forget(tx: &Transaction<'_>, package: &PackageId) -> Result<(), Error> {
    let id = package.to_string();
    if let Some(listed) = current(tx, &id)? {
        remove(tx, listed.position)?;
    }
    let source: Option<Vec<u8>> = tx
        .prepare_cached("DELETE FROM catalog_seen WHERE id = ?1 RETURNING source")?
        .query_row(params![id], |row| row.get(0))
        .optional()?;
    source.map_or(Ok(()), |source| counts::change(tx, &Source::stored(source), By { heads: 0, seen: -1 }))
}

/// What is listed of a package now.
pub(super) struct Current {
    pub(super) position: i64,
    pub(super) source: Source,
    pub(super) bytes: Vec<u8>,
}

/// What is known of a package, as the judgement of a head is told.
///
/// # Errors
/// [`Error::Database`].
pub fn known(conn: &Connection, package: &PackageId) -> Result<Known, Error> {
    let id = package.to_string();
    of_package(conn, package, &id, current(conn, &id)?.as_ref())
}

fn of_package(
    conn: &Connection,
    package: &PackageId,
    id: &str,
    current: Option<&Current>,
) -> Result<Known, Error> {
    let (seen, is_frozen) =
        stored_seen(conn, id)?.map_or((None, false), |(seen, frozen)| (Some(seen), frozen));
    let listed = current.and_then(|current| VerifiedHead::verify_stored(&current.bytes).ok());
    let proofs = if is_frozen { stored_proofs(conn, id)? } else { Vec::new() };
    let proofs = proofs.into_iter().map(|proof| proof.proves).collect();
    let (other_keys, is_disputed) = two_chains::known(conn, &package.publisher, listed.as_ref())?;
    let chains = listed.iter().chain(&other_keys).map(|head| head.seen().key_n);
    let confirmed_keys = confirmed::later_keys(conn, package.publisher, chains.max().unwrap_or(0))?;
    Ok(Known { seen, listed, is_frozen, proofs, is_full: false, other_keys, confirmed_keys, is_disputed })
}

pub(super) fn current(tx: &Connection, id: &str) -> Result<Option<Current>, Error> {
    Ok(tx
        .prepare_cached("SELECT position, source, bytes FROM catalog_heads WHERE id = ?1")?
        .query_row(params![id], |row| {
            Ok(Current { position: row.get(0)?, source: Source::stored(row.get(1)?), bytes: row.get(2)? })
        })
        .optional()?)
}

/// Gives the head of a package a new position, so that whoever has read it reads it again, and what is served with it.
pub(super) fn list_again(tx: &Transaction<'_>, id: &str, now: Timestamp) -> Result<(), Error> {
    let Some(Current { position, source, bytes }) = current(tx, id)? else { return Ok(()) };
    let Ok(head) = VerifiedHead::verify_stored(&bytes) else { return Ok(()) };
    let marks = Marks::of(tx, position)?;
    remove(tx, position)?;
    let is_frozen = stored_seen(tx, id)?.is_some_and(|(_, frozen)| frozen);
    list(tx, &head, id, &source, is_frozen || two_chains::is_shown_by(tx, id)?, now)?;
    counts::change(tx, &source, By { heads: 1, seen: 0 })?;
    marks.keep(tx, id)
}

/// What is noted of a listed head and does not follow from it.
struct Marks {
    bytes: Vec<u8>,
    root: Option<Vec<u8>>,
    provided: bool,
    provider: Option<Vec<u8>>,
    confirmed: i64,
}

impl Marks {
    fn of(tx: &Transaction<'_>, position: i64) -> Result<Self, Error> {
        let read = "SELECT bytes, root, provided, provider, confirmed FROM catalog_heads WHERE position = ?1";
        Ok(tx.prepare_cached(read)?.query_row(params![position], |row| {
            Ok(Self {
                bytes: row.get(0)?,
                root: row.get(1)?,
                provided: row.get(2)?,
                provider: row.get(3)?,
                confirmed: row.get(4)?,
            })
        })?)
    }

    /// Notes it of the head that took its place: of the same tree that it is provided, of the same head when it was confirmed.
    fn keep(&self, tx: &Transaction<'_>, id: &str) -> Result<(), Error> {
        if self.provided {
            tx.prepare_cached(
                "UPDATE catalog_heads SET provided = 1, provider = ?2 WHERE id = ?1 AND root = ?3",
            )?
            .execute(params![id, self.provider, self.root])?;
        }
        tx.prepare_cached(
            "UPDATE catalog_heads SET confirmed = ?2 WHERE id = ?1 AND confirmed < ?2 AND bytes = ?3",
        )?
        .execute(params![id, self.confirmed, self.bytes])?;
        Ok(())
    }
}

/// When a publisher last said that a head is its newest, as far as the head alone tells.
fn first_word(head: &VerifiedHead, now: Timestamp) -> Timestamp {
    head.head().released_at.min(now)
}

/// Whether there is room for one more package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    Full,
    ShareFull,
}

/// Whether there is room for a head; another one gives way to it where that is due.
fn room_for(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    id: &str,
    source: &Source,
    now: Timestamp,
) -> Result<Room, Error> {
    let kept = is_kept(tx, id, source)?;
    let publisher = &head.head().publisher;
    if !kept && counts::of_publisher(tx, publisher)? >= CATALOG_HEADS_PER_PUBLISHER_MAX as u64 {
        // Whatever gives way leaves its place.
        let gives = oldest_gives_way(tx, publisher, head.seen().key_n, &heads::item(head, false))?;
        return Ok(if gives { Room::Free } else { Room::ShareFull });
    }
    let heads: i64 =
        tx.prepare_cached("SELECT heads FROM catalog_totals")?.query_row([], |row| row.get(0))?;
    let is_full = from_ordered(heads) >= CATALOG_HEADS_MAX as u64;
    // What is kept is taken also where all the others are: a node publishes and installs no more than its disk holds.
    let is_free = !is_full || give_way(tx, source, kept, first_word(head, now))? || kept;
    Ok(if is_free { Room::Free } else { Room::Full })
}

/// Lists a head, whose package `is_marked` where a proof is read with it. Whoever calls it counts it for the source.
fn list(
    tx: &Transaction<'_>,
    verified: &VerifiedHead,
    id: &str,
    source: &Source,
    is_marked: bool,
    now: Timestamp,
) -> Result<(), Error> {
    let head = verified.head();
    let item = heads::item(verified, is_marked);
    tx.prepare_cached(
        "INSERT INTO catalog_heads (id, publisher, name, bytes, released, received, source, offers, item,
                                    confirmed, root, key_n)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        id,
        head.publisher.as_bytes(),
        head.name.as_str(),
        verified.bytes(),
        to_ordered(head.released_at.as_secs()),
        to_ordered(now.as_secs()),
        source.as_bytes(),
        // A yanked version is installed by who names it.
        head.latest.is_some() || !head.yanked.is_empty(),
        item.id.0,
        to_ordered(confirmed::last_word(tx, verified)?.max(first_word(verified, now)).as_secs()),
        head.latest.as_ref().map(|latest| latest.root.to_bytes()),
        to_bits(verified.key_log().current().n),
    ])?;
    let position = tx.last_insert_rowid();
    counts::change_of_publisher(tx, head.publisher.as_bytes(), 1)?;
    index(tx, head, position)
}

/// Enters what search needs of a head; all of it follows from the head.
fn index(tx: &Transaction<'_>, head: &Head, position: i64) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO catalog_text (rowid, name, tags, categories, description, labels) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        position,
        indexed([head.name.as_str()]),
        indexed(head.tags.iter().map(String::as_str)),
        indexed(head.categories.iter().map(String::as_str)),
        indexed([head.description.as_str()]),
        label_tokens(&head.publisher.to_string(), &head.tags, &head.categories),
    ])?;
    let labels = head.tags.iter().chain(&head.categories).map(String::as_str);
    let texts = [head.name.as_str()].into_iter().chain(labels).chain([head.description.as_str()]);
    spelling::learn(tx, texts.flat_map(words))
}

/// Takes a head out, and notes that it is gone for whoever keeps the items of all heads.
pub(super) fn remove(tx: &Transaction<'_>, position: i64) -> Result<(), Error> {
    type Gone = (Vec<u8>, Vec<u8>, i64, Vec<u8>);
    let gone: Option<Gone> = tx
        .prepare_cached("SELECT source, publisher, released, item FROM catalog_heads WHERE position = ?1")?
        .query_row(params![position], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    for statement in
        ["DELETE FROM catalog_text WHERE rowid = ?1", "DELETE FROM catalog_heads WHERE position = ?1"]
    {
        tx.prepare_cached(statement)?.execute(params![position])?;
    }
    let Some((source, publisher, released, item)) = gone else { return Ok(()) };
    counts::change(tx, &Source::stored(source), By { heads: -1, seen: 0 })?;
    counts::change_of_publisher(tx, &publisher, -1)?;
    tx.prepare_cached("INSERT INTO catalog_removed (released, item) VALUES (?1, ?2)")?
        .execute(params![released, item])?;
    tx.prepare_cached("DELETE FROM catalog_removed WHERE number <= ?1")?
        .execute(params![tx.last_insert_rowid() - REMOVED_MAX])?;
    Ok(())
}

/// Writes what was seen, durable beyond the head itself, and forgets the oldest where there are too many.
pub(super) fn remember(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    source: &Source,
    now: Timestamp,
) -> Result<(), Error> {
    let seen = write_seen(tx, head, &head.package_id().to_string(), source, now)?;
    counts::change(tx, source, By { heads: 0, seen })?;
    forget_oldest(tx, CATALOG_SEEN_MAX)
}

/// Writes what was seen, and yields how many packages more `source` has told of, which whoever calls it counts.
fn write_seen(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    id: &str,
    source: &Source,
    now: Timestamp,
) -> Result<i64, Error> {
    let seen = head.seen();
    let place = Place::from(seen);
    let at_if_same =
        "SELECT places, source, CASE WHEN entry = ?2 THEN at ELSE ?3 END FROM catalog_seen WHERE id = ?1";
    let before: Option<(Vec<u8>, Vec<u8>, i64)> = tx
        .prepare_cached(at_if_same)?
        .query_row(params![id, seen.entry.to_bytes(), to_ordered(now.as_secs())], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let mut places = before.as_ref().and_then(|(places, ..)| places_from_bytes(places)).unwrap_or_default();
    // The same state in other words is no news.
    let at = before.as_ref().map(|(.., at)| *at);
    // What keys said that were replaced is theirs no more to keep.
    places.retain(|known| known.key_n == place.key_n);
    if !places.contains(&place) {
        if places.len() >= CATALOG_PLACES_MAX {
            places.remove(1);
        }
        places.push(place);
    }
    // One row by its key, whichever it is: anything else may begin a savepoint, of which `counts` says why there is none here.
    let write = if before.is_none() {
        "INSERT INTO catalog_seen (id, key_n, key_document, sequence, entry, log, latest, follows, places, at, source)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    } else {
        "UPDATE catalog_seen SET key_n = ?2, key_document = ?3, sequence = ?4, entry = ?5, log = ?6, latest = ?7,
                                 follows = ?8, places = ?9, at = ?10, source = ?11 WHERE id = ?1"
    };
    tx.prepare_cached(write)?.execute(params![
        id,
        to_bits(seen.key_n),
        seen.key_document.to_bytes(),
        to_bits(seen.sequence.get()),
        seen.entry.to_bytes(),
        seen.log.to_bytes(),
        seen.latest.map(|latest| latest.to_bytes()),
        seen.follows.map(|follows| follows.to_bytes()),
        places_to_bytes(&places),
        at.unwrap_or_else(|| to_ordered(now.as_secs())),
        source.as_bytes(),
    ])?;
    match before {
        Some((_, told_by, ..)) if told_by == source.as_bytes() => Ok(0),
        Some((_, told_by, ..)) => {
            counts::change(tx, &Source::stored(told_by), By { heads: 0, seen: -1 })?;
            Ok(1)
        }
        None => Ok(1),
    }
}

#[cfg(test)]
#[path = "insert_tests.rs"]
mod tests;
