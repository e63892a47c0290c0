//! The confirmations that this node keeps: the newest of each publisher of which a head is listed.
//!
//! A confirmation of anyone else confirms nothing here, so that their number is bounded by that of the heads, and publishers
//! that somebody makes up cost what their heads cost. Their changes have *positions* among those of the heads, so that readers of
//! the catalogue are told of them where they stand ([`super::changes_after`]).

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Error, from_bits, from_ordered, revoked, to_bits, to_ordered, two_chains};
use crate::{
    content::ContentId,
    heads::Door,
    identity::{KeyLog, PublisherId},
    limits::{CLOCK_SKEW_MAX, CONFIRM_GOSSIP_INTERVAL, CONFIRM_INTERVAL_MIN, CONFIRMATIONS_MAX},
    package::PackageId,
    release::{
        Confirmation, VerifiedConfirmation, VerifiedHead,
        confirmation::{self, Digest, Heads, Verdict},
    },
    time::Timestamp,
};

/// The tables of this part: see [`super::SCHEMA`].
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS confirmations (
    position  INTEGER PRIMARY KEY,
    dated     INTEGER NOT NULL DEFAULT 0,
    publisher BLOB    NOT NULL UNIQUE,
    as_of     INTEGER NOT NULL,
    key_n     INTEGER NOT NULL,
    next_by   INTEGER NOT NULL,
    gossiped  INTEGER NOT NULL,
    root      BLOB,
    bytes     BLOB    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS confirmations_by_age ON confirmations (as_of);
CREATE INDEX IF NOT EXISTS confirmations_by_promise ON confirmations (next_by);
";

/// Between two confirmations of one publisher by which its heads are dated: half of the least that an honest one promises.
const DATE_INTERVAL: Duration = Duration::from_secs(CONFIRM_INTERVAL_MIN.as_secs() / 2);
/// The same where heads came meanwhile that could not be dated: it reads all heads of the publisher.
const DATE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What became of a confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirming {
    /// As it was judged by itself and the one that was held; `pass_on` says whether it goes on by gossip: once a day of a
    /// publisher.
    Judged {
        /// How it stands to the one that was held.
        verdict: Verdict,
        /// Whether neighbours are told.
        pass_on: bool,
    },
    /// No head of its publisher is listed: there is nothing that it could confirm.
    Unlisted,
    /// Signed under keys that were replaced.
    Replaced,
}

impl Confirming {
    /// Whether it is held from now on.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Judged { verdict, .. } if verdict.is_kept())
    }

    /// Whether what was seen of its publisher's keys speaks against it.
    pub fn is_refused(self) -> bool {
        matches!(self, Self::Replaced | Self::Judged { verdict: Verdict::Fork, .. })
    }

    /// Whether neighbours are to be told.
    pub fn is_passed_on(self) -> bool {
        matches!(self, Self::Judged { pass_on: true, .. })
    }
}

/// Takes a confirmation where it is newer than the one that is held; `list` is the block that it names, where that is here.
/// Only what comes by gossip is passed on by it.
///
/// # Errors
/// [`Error::Database`].
pub fn confirm(
    tx: &Transaction<'_>,
    door: Door,
    candidate: &VerifiedConfirmation,
    list: Option<&Heads>,
) -> Result<Confirming, Error> {
    let publisher = candidate.publisher();
    if !is_listed(tx, publisher)? {
        return Ok(Confirming::Unlisted);
    }
    if let Some(refused) = against_seen(tx, candidate)? {
        return Ok(refused);
    }
    let held = held(tx, publisher)?;
    let before = held.as_ref().and_then(|held| VerifiedConfirmation::verify_stored(&held.bytes).ok());
    let verdict = confirmation::judge(candidate, before.as_ref());
    if verdict.is_doubled() {
        tracing::warn!(%publisher, number = candidate.confirmation().number, "two confirmations of one number");
    }
    let said = candidate.confirmation();
    let gossiped = held.as_ref().map(|held| held.gossiped).unwrap_or_default();
    let n = candidate.key_log().current().n;
    let has_later_keys = before.as_ref().is_some_and(|before| before.key_log().current().n < n);
    let pass_on = door == Door::Gossip
        && (verdict.is_kept() || verdict == Verdict::Known)
        && (has_later_keys || said.as_of >= gossiped.plus(CONFIRM_GOSSIP_INTERVAL));
    if !verdict.is_kept() {
        if pass_on {
            tx.prepare_cached("UPDATE confirmations SET gossiped = ?2 WHERE publisher = ?1")?
                .execute(params![publisher.as_bytes(), to_ordered(said.as_of.as_secs())])?;
        }
        return Ok(Confirming::Judged { verdict, pass_on });
    }
    if held.is_none() {
        make_room(tx)?;
    }
    let dated: Option<i64> = tx
        .prepare_cached("DELETE FROM confirmations WHERE publisher = ?1 RETURNING dated")?
        .query_row(params![publisher.as_bytes()], |row| row.get(0))
        .optional()?;
    let dated = Timestamp::from_secs(dated.map_or(0, from_ordered));
    // That reads all heads of the publisher, and a few hours decide nothing of what gives way.
    let is_due = said.as_of >= dated.plus(DATE_INTERVAL) && candidate.list(list).is_some();
    tx.prepare_cached("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'catalog_heads'")?.execute([])?;
    tx.prepare_cached(
        "INSERT INTO confirmations (position, publisher, as_of, next_by, gossiped, root, bytes, dated, key_n)
         SELECT seq, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM sqlite_sequence WHERE name = 'catalog_heads'",
    )?
    .execute(params![
        publisher.as_bytes(),
        to_ordered(said.as_of.as_secs()),
        to_ordered(said.next_by.as_secs()),
        to_ordered(if pass_on { said.as_of } else { gossiped }.as_secs()),
        said.root.map(|root| root.to_bytes()),
        candidate.bytes(),
        to_ordered(if is_due { said.as_of } else { dated }.as_secs()),
        to_bits(n),
    ])?;
    // Keys that were revoked list nothing more, also where no head says so yet.
    let listed = two_chains::longest_keys(tx, &publisher)?;
    let known =
        listed.iter().map(VerifiedHead::key_log).chain(before.as_ref().map(VerifiedConfirmation::key_log));
    revoked::take_out(tx, candidate.key_log(), known, said.as_of)?;
    if is_due {
        date_heads(tx, candidate, list)?;
    }
    Ok(Confirming::Judged { verdict, pass_on })
}

/// Whether a confirmation is held, or would be from now on: something of its publisher is listed, and neither what was seen of its keys nor the
/// one that is held speaks against it.
///
/// # Errors
/// [`Error::Database`].
pub fn counts(conn: &Connection, candidate: &VerifiedConfirmation) -> Result<bool, Error> {
    let publisher = candidate.publisher();
    if !is_listed(conn, publisher)? || against_seen(conn, candidate)?.is_some() {
        return Ok(false);
    }
    let held = held(conn, publisher)?;
    let held = held.and_then(|held| VerifiedConfirmation::verify_stored(&held.bytes).ok());
    let verdict = confirmation::judge(candidate, held.as_ref());
    Ok(verdict.is_kept() || verdict == Verdict::Known)
}

/// Notes for the heads of its publisher that a confirmation confirms when that was: what was confirmed longest ago gives way
/// first.
///
/// # Errors
/// [`Error::Database`].
pub fn date_heads(
    tx: &Transaction<'_>,
    candidate: &VerifiedConfirmation,
    list: Option<&Heads>,
) -> Result<(), Error> {
    let Some(list) = candidate.list(list) else { return Ok(()) };
    let confirmed: Vec<i64> = {
        let mut statement =
            tx.prepare_cached("SELECT position, bytes FROM catalog_heads WHERE publisher = ?1")?;
        let mut rows = statement.query(params![candidate.publisher().as_bytes()])?;
        let mut confirmed = Vec::new();
        while let Some(row) = rows.next()? {
            let bytes: Vec<u8> = row.get(1)?;
            if list.holds(Digest::of(&bytes)) {
                confirmed.push(row.get(0)?);
            }
        }
        confirmed
    };
    let as_of = to_ordered(candidate.confirmation().as_of.as_secs());
    let mut dated =
        tx.prepare_cached("UPDATE catalog_heads SET confirmed = max(confirmed, ?2) WHERE position = ?1")?;
    for position in confirmed {
        dated.execute(params![position, as_of])?;
    }
    Ok(())
}

/// When a head that is listed now was confirmed last, by what is held of its publisher: that may have come before it. Where only the
/// block has the list that the confirmation names, all heads are dated by the next one, if that is not too soon after this one:
/// a publisher decides how often it lists and confirms.
pub(super) fn last_word(tx: &Transaction<'_>, head: &VerifiedHead) -> Result<Timestamp, Error> {
    let publisher = head.head().publisher;
    let Some(held) = held(tx, publisher)? else { return Ok(Timestamp::default()) };
    if held.root.is_some() {
        let spared = to_ordered((DATE_INTERVAL - DATE_AGAIN_AFTER).as_secs());
        let sooner = "UPDATE confirmations SET dated = min(dated, max(as_of - ?2, 0)) WHERE publisher = ?1";
        tx.prepare_cached(sooner)?.execute(params![publisher.as_bytes(), spared])?;
    }
    // It only decides what gives way first: it need not be verified again for each of its heads.
    let said = Confirmation::read_stored(&held.bytes);
    let confirms = said.filter(|said| said.lists(Digest::of(head.bytes())));
    Ok(confirms.map_or(Timestamp::default(), |said| said.as_of))
}

/// The keys of the confirmation that is held of a publisher, where they are later than the key document `known`.
pub(super) fn later_keys(
    conn: &Connection,
    publisher: PublisherId,
    known: u64,
) -> Result<Option<KeyLog>, Error> {
    let bytes: Option<Option<Vec<u8>>> = conn
        .prepare_cached("SELECT CASE WHEN key_n > ?2 THEN bytes END FROM confirmations WHERE publisher = ?1")?
        .query_row(params![publisher.as_bytes(), to_bits(known)], |row| row.get(0))
        .optional()?;
    let read = bytes.flatten().and_then(|bytes| VerifiedConfirmation::verify_stored(&bytes).ok());
    Ok(read.map(|read| read.key_log().clone()))
}

/// The confirmation that is held of a publisher, as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// As it was signed; to be verified by anything that acts on it.
    pub bytes: Vec<u8>,
    /// The block that has its list, where it does not hold the list itself.
    pub root: Option<ContentId>,
    /// When the last one was made that was passed on by gossip.
    pub gossiped: Timestamp,
}

/// Reads the confirmation that is held of a publisher.
///
/// # Errors
/// [`Error::Database`].
pub fn held(conn: &Connection, publisher: PublisherId) -> Result<Option<Held>, Error> {
    Ok(conn
        .prepare_cached("SELECT bytes, root, gossiped FROM confirmations WHERE publisher = ?1")?
        .query_row(params![publisher.as_bytes()], |row| {
            let root: Option<Vec<u8>> = row.get(1)?;
            Ok(Held {
                bytes: row.get(0)?,
                root: root.and_then(|root| ContentId::from_bytes(&root).ok()),
                gossiped: Timestamp::from_secs(from_ordered(row.get(2)?)),
            })
        })
        .optional()?)
}

/// The current heads of a publisher as they are listed here.
///
/// # Errors
/// [`Error::Database`].
pub fn heads_of(conn: &Connection, publisher: PublisherId) -> Result<Vec<Vec<u8>>, Error> {
    let mut statement =
        conn.prepare_cached("SELECT bytes FROM catalog_heads WHERE publisher = ?1 ORDER BY id")?;
    let rows = statement.query_map(params![publisher.as_bytes()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The same, each with the time at which this node listed what it says.
///
/// # Errors
/// [`Error::Database`].
pub fn dated_heads_of(conn: &Connection, publisher: PublisherId) -> Result<Vec<(Vec<u8>, Timestamp)>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT h.bytes, s.at FROM catalog_heads AS h JOIN catalog_seen AS s ON s.id = h.id
         WHERE h.publisher = ?1 ORDER BY h.id",
    )?;
    let rows = statement.query_map(params![publisher.as_bytes()], |row| {
        Ok((row.get(0)?, Timestamp::from_secs(from_ordered(row.get(1)?))))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The listed head of a package, with the time at which this node listed what it says.
///
/// # Errors
/// [`Error::Database`].
pub fn dated_head(conn: &Connection, id: &PackageId) -> Result<Option<(Vec<u8>, Timestamp)>, Error> {
    let found = conn
        .prepare_cached(
            "SELECT h.bytes, s.at FROM catalog_heads AS h JOIN catalog_seen AS s ON s.id = h.id WHERE h.id = ?1",
        )?
        .query_row(params![id.to_string()], |row| {
            Ok((row.get(0)?, Timestamp::from_secs(from_ordered(row.get(1)?))))
        })
        .optional()?;
    Ok(found)
}

/// How many publishers promised to confirm, and how many of them are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promises {
    /// Publishers of which a confirmation is held.
    pub publishers: usize,
    /// Those that should have confirmed again by now.
    pub overdue: usize,
}

impl Promises {
    /// Whether so many are late, and nobody else is not, that the reason lies here: this node is cut off from what they say,
    /// or its clock is wrong. One or two that are late are away themselves.
    pub fn are_all_overdue(self) -> bool {
        self.publishers >= 3 && self.overdue == self.publishers
    }
}

/// Counts the publishers that promised to confirm, without `own`, and those that are late at `now`.
///
/// # Errors
/// [`Error::Database`].
pub fn promises(conn: &Connection, own: &[PublisherId], now: Timestamp) -> Result<Promises, Error> {
    let count = |row: &Row<'_>, column: usize| -> rusqlite::Result<usize> {
        Ok(usize::try_from(from_ordered(row.get(column)?)).unwrap_or(usize::MAX))
    };
    let late = to_ordered(now.minus(CLOCK_SKEW_MAX).as_secs());
    let (mut publishers, mut overdue) = conn
        .prepare_cached("SELECT count(*), count(*) FILTER (WHERE next_by < ?1) FROM confirmations")?
        .query_row(params![late], |row| Ok((count(row, 0)?, count(row, 1)?)))?;
    for publisher in own {
        let next_by: Option<i64> = conn
            .prepare_cached("SELECT next_by FROM confirmations WHERE publisher = ?1")?
            .query_row(params![publisher.as_bytes()], |row| row.get(0))
            .optional()?;
        // One that came between the two questions was not counted.
        publishers = publishers.saturating_sub(usize::from(next_by.is_some()));
        overdue = overdue.saturating_sub(usize::from(next_by.is_some_and(|next_by| next_by < late)));
    }
    Ok(Promises { publishers, overdue })
}

/// Takes the confirmation of a publisher out whose bytes turned out to be damaged, so that others can bring it again.
///
/// # Errors
/// [`Error::Database`].
pub fn discard_confirmation(tx: &Transaction<'_>, bytes: &[u8]) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM confirmations WHERE bytes = ?1", params![bytes])? > 0)
}

/// Whether just these bytes are held.
pub(super) fn holds(conn: &Connection, bytes: &[u8]) -> Result<bool, Error> {
    let Some(publisher) = confirmation::publisher_of(bytes) else { return Ok(false) };
    Ok(held(conn, publisher)?.is_some_and(|held| held.bytes == bytes))
}

fn is_listed(conn: &Connection, publisher: PublisherId) -> Result<bool, Error> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM catalog_heads WHERE publisher = ?1 LIMIT 1")?
        .exists(params![publisher.as_bytes()])?)
}

/// What the keys that were seen with heads of its publisher say against a confirmation.
fn against_seen(conn: &Connection, candidate: &VerifiedConfirmation) -> Result<Option<Confirming>, Error> {
    // `0` is what follows `/`: the ids of one publisher's packages.
    let (from, to) = (format!("{}/", candidate.publisher()), format!("{}0", candidate.publisher()));
    let seen: Option<(i64, Vec<u8>)> = conn
        .prepare_cached(
            "SELECT key_n, key_document FROM catalog_seen WHERE id >= ?1 AND id < ?2 ORDER BY key_n DESC LIMIT 1",
        )?
        .query_row(params![from, to], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((key_n, document)) = seen else { return Ok(None) };
    let against = match candidate.key_log().fingerprint(from_bits(key_n)) {
        None => Confirming::Replaced,
        Some(here) if here.to_bytes() != document => {
            Confirming::Judged { verdict: Verdict::Fork, pass_on: false }
        }
        Some(_) => return Ok(None),
    };
    Ok((!is_of_kept(conn, candidate, (&from, &to), key_n)?).then_some(against))
}

/// Whether a confirmation is by the keys of what is installed, pinned or published here, and the longest chain of keys, whose current
/// document is `key_n`, is another one: anybody who has a key of the past can make that as long as they like.
fn is_of_kept(
    conn: &Connection,
    candidate: &VerifiedConfirmation,
    (from, to): (&str, &str),
    key_n: i64,
) -> Result<bool, Error> {
    let longest: Option<Vec<u8>> = conn
        .prepare_cached("SELECT bytes FROM catalog_heads WHERE publisher = ?1 AND key_n = ?2 LIMIT 1")?
        .query_row(params![candidate.publisher().as_bytes(), key_n], |row| row.get(0))
        .optional()?;
    let longest = longest.and_then(|bytes| VerifiedHead::verify_stored(&bytes).ok());
    let keys = candidate.key_log();
    if longest.is_none_or(|it| it.key_log().agrees_with(keys) || it.key_log().ends(keys)) {
        return Ok(false);
    }
    let of_kept: Option<(i64, Vec<u8>)> = conn
        .prepare_cached(
            "SELECT s.key_n, s.key_document FROM catalog_kept AS k JOIN catalog_seen AS s ON s.id = k.id
             WHERE k.id >= ?1 AND k.id < ?2 ORDER BY s.key_n DESC LIMIT 1",
        )?
        .query_row(params![from, to], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(of_kept.is_some_and(|(n, document)| {
        keys.fingerprint(from_bits(n)).is_some_and(|here| here.to_bytes() == document)
    }))
}

/// Makes room for one more: first goes what confirms nothing any more, then what is oldest.
fn make_room(tx: &Transaction<'_>) -> Result<(), Error> {
    let held = |tx: &Transaction<'_>| -> Result<u64, Error> {
        let rows =
            tx.prepare_cached("SELECT count(*) FROM confirmations")?.query_row([], |row| row.get(0))?;
        Ok(from_ordered(rows))
    };
    // Counting reads an index: only where there may be too many.
    let newest: Option<i64> =
        tx.prepare_cached("SELECT max(position) FROM confirmations")?.query_row([], |row| row.get(0))?;
    let oldest: Option<i64> =
        tx.prepare_cached("SELECT min(position) FROM confirmations")?.query_row([], |row| row.get(0))?;
    let span = newest.unwrap_or(0).saturating_sub(oldest.unwrap_or(0));
    if from_ordered(span) < CONFIRMATIONS_MAX as u64 - 1 || held(tx)? < CONFIRMATIONS_MAX as u64 {
        return Ok(());
    }
    tx.execute(
        "DELETE FROM confirmations WHERE NOT EXISTS
             (SELECT 1 FROM catalog_heads AS h WHERE h.publisher = confirmations.publisher)",
        [],
    )?;
    if held(tx)? >= CONFIRMATIONS_MAX as u64 {
        tx.execute(
            "DELETE FROM confirmations WHERE position = (SELECT position FROM confirmations ORDER BY as_of LIMIT 1)",
            [],
        )?;
    }
    Ok(())
}

/// The blocks in which lists of confirmations stand.
///
/// # Errors
/// [`Error::Database`].
pub fn lists(conn: &Connection) -> Result<Vec<ContentId>, Error> {
    let mut statement = conn.prepare_cached("SELECT root FROM confirmations WHERE root IS NOT NULL")?;
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    let roots: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
    Ok(roots.iter().filter_map(|root| ContentId::from_bytes(root).ok()).collect())
}

#[cfg(test)]
#[path = "confirmed_tests.rs"]
mod tests;
