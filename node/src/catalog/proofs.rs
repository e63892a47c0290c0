//! Proofs of double signing: kept, passed on, and given up once the publisher ended it.

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    Error, Source, from_bits, from_ordered,
    insert::{known, list_again, remember},
    to_bits, to_ordered,
};
use crate::{
    content::ContentId,
    heads,
    limits::{CATALOG_PROOFS_MAX, CATALOG_PROOFS_PER_PACKAGE_MAX},
    package::PackageId,
    release::{DoubleSigning, Sequence, VerifiedHead, fork::Side},
    time::Timestamp,
};

/// Two heads of one package that contradict each other, or entries where their logs do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What they prove.
    pub proves: DoubleSigning,
    /// The one that was taken.
    pub first: Vec<u8>,
    /// The one that came later.
    pub second: Vec<u8>,
    /// When the contradiction was found.
    pub at: Timestamp,
}

/// Reads the proofs for which a package is frozen, as far as they are still held.
///
/// # Errors
/// [`Error::Database`].
pub fn proofs(conn: &Connection, id: &PackageId) -> Result<Vec<Proof>, Error> {
    stored_proofs(conn, &id.to_string())
}

/// As [`proofs`]; a row that cannot be understood is passed over.
pub(super) fn stored_proofs(conn: &Connection, id: &str) -> Result<Vec<Proof>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT key_n, document, sequence, first, second, at FROM equivocations WHERE id = ?1 ORDER BY number",
    )?;
    let rows = statement.query_map(params![id], stored_proof)?.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

fn stored_proof(row: &Row<'_>) -> rusqlite::Result<Option<Proof>> {
    let document: Option<Vec<u8>> = row.get(1)?;
    let (first, second): (Vec<u8>, Vec<u8>) = (row.get(3)?, row.get(4)?);
    let read = || {
        let document = document.map(|bytes| ContentId::from_bytes(&bytes)).transpose().ok()?;
        Some((document, [Side::read(&first)?.1, Side::read(&second)?.1]))
    };
    let Some((document, sides)) = read() else { return Ok(None) };
    let sequence = Sequence::new(from_bits(row.get(2)?));
    let proves = DoubleSigning::new(from_bits(row.get(0)?), document, sequence, sides);
    let at = Timestamp::from_secs(from_ordered(row.get(5)?));
    Ok(Some(Proof { proves, first, second, at }))
}

/// Keeps two heads that contradict one another as a proof, and freezes their package; tells whether they do.
///
/// For proofs that others found: they count also where the keys were replaced since, unless what is listed ended the double signing.
///
/// # Errors
/// [`Error::Database`].
pub fn convict(
    tx: &Transaction<'_>,
    first: &VerifiedHead,
    second: &VerifiedHead,
    source: &Source,
    now: Timestamp,
) -> Result<bool, Error> {
    let package = first.package_id();
    let known = known(tx, &package)?;
    let Some(proves) = heads::proves(first, second, &known) else { return Ok(false) };
    if known.seen.is_none() {
        remember(tx, first, source, now)?;
    }
    freeze(tx, &package.to_string(), &proves, [first.bytes(), second.bytes()], source, now)?;
    Ok(true)
}

/// Freezes a package of which two logs were seen under the keys of `head`, and keeps what its publisher signed for one place
/// of them, heads or entries whose signatures were checked, as a proof; tells whether it is one.
///
/// # Errors
/// [`Error::Database`].
pub fn convict_log(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    sequence: Sequence,
    statements: [&[u8]; 2],
    now: Timestamp,
) -> Result<bool, Error> {
    let [Some((package, first)), Some((of, second))] = statements.map(Side::read) else { return Ok(false) };
    let contradict = package == of && package == head.package_id() && first.entry != second.entry;
    if contradict {
        let proves = DoubleSigning::of_log(head, sequence, [first, second]);
        freeze(tx, &package.to_string(), &proves, statements, &Source::own(), now)?;
    }
    Ok(contradict)
}

/// Keeps two statements for one place of the log of the package that `head` is listed of, heads or entries, as a proof, and freezes
/// the package; tells whether they prove anything.
///
/// For proofs that others found: the keys that signed must still count, and what is listed must not have ended the double signing.
///
/// # Errors
/// [`Error::Database`].
pub fn convict_statements(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    statements: [&[u8]; 2],
    source: &Source,
    now: Timestamp,
) -> Result<bool, Error> {
    let proves = DoubleSigning::of_statements(head, statements);
    let stands = |proves: &DoubleSigning| proves.counts_in(head.key_log()) && !proves.is_ended_by(head);
    let Some(proves) = proves.filter(stands) else { return Ok(false) };
    freeze(tx, &head.package_id().to_string(), &proves, statements, source, now)?;
    Ok(true)
}

/// Writes a proof and marks its package, where that is new.
pub(super) fn freeze(
    tx: &Transaction<'_>,
    id: &str,
    proves: &DoubleSigning,
    statements: [&[u8]; 2],
    source: &Source,
    now: Timestamp,
) -> Result<(), Error> {
    let is_frozen_now = tx
        .prepare_cached("UPDATE catalog_seen SET frozen = 1 WHERE id = ?1 AND frozen = 0")?
        .execute(params![id])?
        > 0;
    if is_frozen_now {
        tracing::warn!(
            package = id,
            sequence = proves.sequence.get(),
            "its publisher signed two different states for one place: nothing from there on is installed until they resolve it"
        );
    }
    let mut is_news = is_frozen_now;
    let held: i64 = tx
        .prepare_cached("SELECT count(*) FROM equivocations WHERE id = ?1")?
        .query_row(params![id], |row| row.get(0))?;
    if from_ordered(held) < CATALOG_PROOFS_PER_PACKAGE_MAX as u64 {
        let DoubleSigning { key_n, document, sequence, sides } = proves;
        let sides = sides.each_ref().map(|side| side.entry.to_bytes()).concat();
        let [first, second] = statements;
        is_news |= tx
            .prepare_cached(
                "INSERT OR IGNORE INTO equivocations (id, sides, key_n, document, sequence, first, second, at, source)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                id,
                sides,
                to_bits(*key_n),
                document.map(|document| document.to_bytes()),
                to_bits(sequence.get()),
                first,
                second,
                to_ordered(now.as_secs()),
                source.as_bytes(),
            ])?
            > 0;
    }
    if is_news {
        give_way(tx, CATALOG_PROOFS_MAX)?;
    }
    if is_news { list_again(tx, id, now) } else { Ok(()) }
}

/// Makes room where there are more proofs than `most`: of those that the largest share of them came from, the last one goes. Whoever makes
/// up publishers that sign twice displaces no other proof so.
fn give_way(tx: &Transaction<'_>, most: usize) -> Result<(), Error> {
    let held: i64 =
        tx.prepare_cached("SELECT count(*) FROM equivocations")?.query_row([], |row| row.get(0))?;
    for _ in 0..from_ordered(held).saturating_sub(most as u64) {
        tx.prepare_cached(
            "DELETE FROM equivocations WHERE number = (
                 SELECT max(number) FROM equivocations WHERE source = (
                     SELECT source FROM equivocations WHERE source <> x'' GROUP BY source
                     ORDER BY count(*) DESC, source LIMIT 1))",
        )?
        .execute([])?;
    }
    Ok(())
}

/// Gives the proofs of a package up, which its publisher ended.
pub(super) fn thaw(tx: &Transaction<'_>, id: &str) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM equivocations WHERE id = ?1")?.execute(params![id])?;
    tx.prepare_cached("UPDATE catalog_seen SET frozen = 0 WHERE id = ?1")?.execute(params![id])?;
    tracing::info!(package = id, "its publisher ended the double signing");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::{NOW, at, database, publisher, put_from, within};

    #[test]
    fn where_there_are_too_many_proofs_those_of_the_largest_share_go() {
        let mut conn = database();
        let mut sign_twice = |seed: u8, peer: u8| {
            let publisher = publisher(seed);
            for branch in [1, 2] {
                put_from(&mut conn, &at(&publisher, "twice", 1, branch), peer, NOW);
            }
            at(&publisher, "twice", 1, 1).package_id()
        };
        let honest = [sign_twice(1, 1), sign_twice(2, 2)];
        let flood: Vec<PackageId> = (3..30).map(|seed| sign_twice(seed, 9)).collect();
        within(&mut conn, |tx| give_way(tx, 10)).unwrap();
        let held = |id: &PackageId| !proofs(&conn, id).unwrap().is_empty();
        assert!(honest.iter().all(held), "what others brought stays");
        assert_eq!(flood.iter().filter(|id| held(id)).count(), 8);
    }
}
