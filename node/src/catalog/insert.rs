//! What goes in, and what is refused.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    Error, from_ordered,
    read::stored_seen,
    to_bits, to_ordered,
    words::{distinct, fold, words},
};
use crate::{
    limits::{
        CATALOG_HEADS_MAX, CATALOG_HEADS_PER_PUBLISHER_MAX, CATALOG_PROOFS_MAX, CATALOG_SEEN_MAX,
        EXPIRY_SKEW_MAX,
    },
    package::PackageId,
    release::{self, Choice, Head, Seen, VerifiedHead, choice},
    time::Timestamp,
};

/// Kinds of labels, as they are stored.
pub(super) const CATEGORY: i64 = 0;
pub(super) const TAG: i64 = 1;

/// What became of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The package was not listed before.
    Added,
    /// It took the place of an older state.
    Replaced,
    /// It says the same as before, for longer.
    Renewed,
    /// Nothing new.
    Known,
    /// It was not taken.
    Refused(Refusal),
}

impl Outcome {
    /// Whether the catalogue changed, so that the head is worth passing on.
    pub fn is_news(self) -> bool {
        matches!(self, Self::Added | Self::Replaced | Self::Renewed)
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
    /// The catalogue, or the publisher's share of it, is full.
    Full,
    /// It does not count any more.
    Expired,
}

/// Takes a head, where it is newer than what was seen of its package.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(tx: &Transaction<'_>, head: &VerifiedHead, now: Timestamp) -> Result<Outcome, Error> {
    let package = head.package_id();
    let id = package.to_string();
    let current = current(tx, &id)?;
    if current.as_ref().is_some_and(|(_, bytes)| bytes == head.bytes()) {
        return Ok(Outcome::Known);
    }
    if head.is_expired(now.minus(EXPIRY_SKEW_MAX)) {
        return Ok(Outcome::Refused(Refusal::Expired));
    }
    let seen = stored_seen(tx, &id)?;
    let listed = current.as_ref().and_then(|(_, bytes)| VerifiedHead::verify_stored(bytes).ok());
    if let Some(refusal) = refuse(tx, head, seen, listed.as_ref(), now)? {
        return Ok(Outcome::Refused(refusal));
    }
    let outcome = match &listed {
        Some(listed) => match choice::compare(listed, head) {
            // Signed by a clock that ran ahead: nobody else takes it, and it would stand for years.
            Choice::First if listed.seen() == head.seen() && listed.is_ahead(now) && !head.is_ahead(now) => {
                Outcome::Renewed
            }
            Choice::First | Choice::Same => return Ok(Outcome::Known),
            _ if listed.seen() == head.seen() => Outcome::Renewed,
            _ => Outcome::Replaced,
        },
        None if current.is_some() => Outcome::Replaced,
        None if !has_room(tx, &package, now)? => return Ok(Outcome::Refused(Refusal::Full)),
        None => Outcome::Added,
    };
    if let Some((position, _)) = current {
        remove(tx, position)?;
    }
    list(tx, head, &id, now)?;
    remember(tx, &id, head.seen(), now)?;
    Ok(outcome)
}

/// Keeps two heads that contradict one another as a proof, and freezes their package; tells whether they do.
///
/// For proofs that others found: they convict even after both heads expired.
///
/// # Errors
/// [`Error::Database`].
pub fn convict(
    tx: &Transaction<'_>,
    first: &VerifiedHead,
    second: &VerifiedHead,
    now: Timestamp,
) -> Result<bool, Error> {
    let contradict =
        first.package_id() == second.package_id() && choice::compare(first, second) == Choice::Equivocation;
    if contradict {
        let id = first.package_id().to_string();
        if stored_seen(tx, &id)?.is_none() {
            remember(tx, &id, first.seen(), now)?;
        }
        freeze(tx, &id, Some(first), second, now)?;
    }
    Ok(contradict)
}

/// Removes the heads that expired, and gives their number; what was seen of their packages stays.
///
/// # Errors
/// [`Error::Database`].
pub fn sweep(tx: &Transaction<'_>, now: Timestamp) -> Result<usize, Error> {
    let now = params![to_ordered(now.as_secs())];
    for table in ["catalog_text WHERE rowid", "catalog_labels WHERE position"] {
        let expired = "(SELECT position FROM catalog_heads WHERE expires <= ?1)";
        tx.execute(&format!("DELETE FROM {table} IN {expired}"), now)?;
    }
    Ok(tx.execute("DELETE FROM catalog_heads WHERE expires <= ?1", now)?)
}

/// Derives everything that follows from the heads anew, and drops heads that do not verify; gives the number of heads left.
///
/// For a database whose rows were salvaged from a damaged one: a text index is not salvaged, counters may be wrong, and a
/// row proves nothing. What was seen of a package is raised to what its head says, never lowered.
///
/// # Errors
/// [`Error::Database`].
pub fn rebuild(tx: &Transaction<'_>, now: Timestamp) -> Result<usize, Error> {
    for table in ["catalog_text", "catalog_labels"] {
        tx.execute(&format!("DELETE FROM {table}"), [])?;
    }
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
                let seen = stored_seen(tx, &id).ok().flatten().map(|(seen, _)| seen);
                if seen.is_none() || choice::accept(&head, seen).is_ok() {
                    remember(tx, &id, head.seen(), now)?;
                }
                kept += 1;
            }
            _ => {
                tx.execute("DELETE FROM catalog_heads WHERE position = ?1", params![position])?;
            }
        }
    }
    tx.execute(
        "UPDATE catalog_totals SET heads = (SELECT count(*) FROM catalog_heads),
                                   seen = (SELECT count(*) FROM catalog_seen)",
        [],
    )?;
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

/// The position and bytes that are listed now.
fn current(tx: &Transaction<'_>, id: &str) -> Result<Option<(i64, Vec<u8>)>, Error> {
    Ok(tx
        .prepare_cached("SELECT position, bytes FROM catalog_heads WHERE id = ?1")?
        .query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Decides against what was seen; a contradiction is kept as proof on the way.
fn refuse(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    seen: Option<(Seen, bool)>,
    listed: Option<&VerifiedHead>,
    now: Timestamp,
) -> Result<Option<Refusal>, Error> {
    let id = head.package_id().to_string();
    // Chains of keys can fork below the document that was seen; only two whole heads show that.
    let contradicts = listed.is_some_and(|listed| choice::compare(listed, head) == Choice::Equivocation);
    let verdict = choice::accept(head, seen.map(|(seen, _)| seen));
    if contradicts || matches!(verdict, Err(release::Error::Equivocation { .. })) {
        freeze(tx, &id, listed.filter(|_| contradicts), head, now)?;
        return Ok(Some(Refusal::Equivocation));
    }
    Ok(match (verdict, seen) {
        (Err(_), _) => Some(Refusal::Rollback),
        // Beyond the place that is contested nothing is taken; what was listed may still be renewed.
        (Ok(()), Some((seen, true))) if seen != head.seen() => Some(Refusal::Equivocation),
        (Ok(()), _) => None,
    })
}

fn freeze(
    tx: &Transaction<'_>,
    id: &str,
    first: Option<&VerifiedHead>,
    second: &VerifiedHead,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached("UPDATE catalog_seen SET frozen = 1 WHERE id = ?1")?.execute(params![id])?;
    let Some(first) = first else { return Ok(()) };
    let at = to_ordered(now.as_secs());
    tx.prepare_cached("INSERT OR IGNORE INTO equivocations (id, first, second, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, first.bytes(), second.bytes(), at])?;
    tx.prepare_cached(
        "DELETE FROM equivocations WHERE number <= (SELECT max(number) FROM equivocations) - ?1",
    )?
    .execute(params![CATALOG_PROOFS_MAX as i64])?;
    Ok(())
}

fn has_room(tx: &Transaction<'_>, package: &PackageId, now: Timestamp) -> Result<bool, Error> {
    let of_publisher: i64 = tx
        .prepare_cached("SELECT count(*) FROM catalog_heads WHERE publisher = ?1")?
        .query_row(params![package.publisher.as_bytes()], |row| row.get(0))?;
    if from_ordered(of_publisher) >= CATALOG_HEADS_PER_PUBLISHER_MAX as u64 {
        return Ok(false);
    }
    let full = || -> Result<bool, Error> {
        let heads = tx
            .prepare_cached("SELECT heads FROM catalog_totals")?
            .query_row([], |row| row.get::<_, i64>(0))?;
        Ok(from_ordered(heads) >= CATALOG_HEADS_MAX as u64)
    };
    if full()? {
        sweep(tx, now)?;
    }
    Ok(!full()?)
}

fn list(tx: &Transaction<'_>, verified: &VerifiedHead, id: &str, now: Timestamp) -> Result<(), Error> {
    let head = verified.head();
    tx.prepare_cached(
        "INSERT INTO catalog_heads (id, publisher, name, words, bytes, created, expires, received)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        id,
        head.publisher.as_bytes(),
        head.name.as_str(),
        words(head.name.as_str()).collect::<Vec<_>>().join(" "),
        verified.bytes(),
        to_ordered(head.created.as_secs()),
        to_ordered(head.expires.as_secs()),
        to_ordered(now.as_secs()),
    ])?;
    index(tx, head, tx.last_insert_rowid())
}

/// Enters what search needs of a head; all of it follows from the head.
fn index(tx: &Transaction<'_>, head: &Head, position: i64) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO catalog_text (rowid, name, tags, categories, description) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        position,
        distinct([head.name.as_str()]),
        distinct(head.tags.iter().map(String::as_str)),
        distinct(head.categories.iter().map(String::as_str)),
        distinct([head.description.as_str()]),
    ])?;
    for (kind, labels) in [(CATEGORY, &head.categories), (TAG, &head.tags)] {
        for label in labels {
            tx.prepare_cached(
                "INSERT OR IGNORE INTO catalog_labels (kind, label, position) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![kind, fold(label), position])?;
        }
    }
    Ok(())
}

fn remove(tx: &Transaction<'_>, position: i64) -> Result<(), Error> {
    for statement in [
        "DELETE FROM catalog_text WHERE rowid = ?1",
        "DELETE FROM catalog_labels WHERE position = ?1",
        "DELETE FROM catalog_heads WHERE position = ?1",
    ] {
        tx.prepare_cached(statement)?.execute(params![position])?;
    }
    Ok(())
}

/// Writes what was seen, durable beyond the head itself, and forgets the oldest where there are too many.
fn remember(tx: &Transaction<'_>, id: &str, seen: Seen, now: Timestamp) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO catalog_seen (id, key_n, key_document, sequence, entry, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET key_n = ?2, key_document = ?3, sequence = ?4, entry = ?5, at = ?6",
    )?
    .execute(params![
        id,
        to_bits(seen.key_n),
        seen.key_document.to_bytes(),
        to_bits(seen.sequence.get()),
        seen.entry.to_bytes(),
        to_ordered(now.as_secs()),
    ])?;
    forget_oldest(tx, CATALOG_SEEN_MAX)
}

pub(super) fn forget_oldest(tx: &Transaction<'_>, seen_max: usize) -> Result<(), Error> {
    let seen: i64 = tx.prepare_cached("SELECT seen FROM catalog_totals")?.query_row([], |row| row.get(0))?;
    let over = from_ordered(seen).saturating_sub(seen_max as u64);
    if over > 0 {
        tx.prepare_cached(
            "DELETE FROM catalog_seen WHERE id IN (
                 SELECT id FROM catalog_seen AS s
                 WHERE NOT EXISTS (SELECT 1 FROM catalog_heads AS h WHERE h.id = s.id)
                 ORDER BY frozen, at, id LIMIT ?1)",
        )?
        .execute(params![to_ordered(over)])?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "insert_tests.rs"]
mod tests;
