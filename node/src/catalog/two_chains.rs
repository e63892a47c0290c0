//! Publishers of whose keys two chains are known: the proof of it, which is kept, passed on with a listed head, and given up once
//! recovery keys ended it.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Error, Source, from_bits, from_ordered, insert::list_again, to_ordered};
use crate::{
    heads::Known,
    identity::PublisherId,
    limits::TWO_CHAINS_MAX,
    release::{TwoChains, VerifiedHead, two_chains},
    time::Timestamp,
};

/// A publisher of whose keys there are two chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disputed {
    /// What the chains are.
    pub chains: TwoChains,
    /// A head under each of them; the one that was listed first.
    pub heads: [VerifiedHead; 2],
    /// When this node noticed.
    pub at: Timestamp,
}

const COLUMNS: &str = "first, second, at";

/// What is known of two chains of keys of a publisher.
///
/// # Errors
/// [`Error::Database`].
pub fn disputed(conn: &Connection, publisher: &PublisherId) -> Result<Option<Disputed>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM two_chains WHERE publisher = ?1");
    let found = conn.prepare_cached(&sql)?.query_row(params![publisher.as_bytes()], stored).optional()?;
    Ok(found.flatten())
}

/// All publishers of whose keys two chains are known, in the order in which that was noticed.
///
/// # Errors
/// [`Error::Database`].
pub fn all_disputed(conn: &Connection) -> Result<Vec<Disputed>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM two_chains ORDER BY number");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map([], stored)?.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// Reads a row; none where it is damaged.
fn stored(row: &Row<'_>) -> rusqlite::Result<Option<Disputed>> {
    let (first, second): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let at = Timestamp::from_secs(from_ordered(row.get(2)?));
    let read = || {
        let heads = [VerifiedHead::verify_stored(&first).ok()?, VerifiedHead::verify_stored(&second).ok()?];
        let chains = TwoChains::of_heads(&heads[0], &heads[1])?;
        Some(Disputed { chains, heads, at })
    };
    Ok(read())
}

/// The listed head of another package of a publisher that has the longest chain of keys, where any was replaced, and
/// whether two chains are known.
pub(super) fn known(
    conn: &Connection,
    publisher: &PublisherId,
    listed: Option<&VerifiedHead>,
) -> Result<(Option<VerifiedHead>, bool), Error> {
    // With `key_n > 0` as a condition the statement would be compiled again for each publisher.
    let longest: Option<(i64, Option<Vec<u8>>)> = conn
        .prepare_cached(
            "SELECT key_n, CASE WHEN key_n <> 0 THEN bytes END FROM catalog_heads
             WHERE publisher = ?1 ORDER BY key_n DESC LIMIT 1",
        )?
        .query_row(params![publisher.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let longest = longest.and_then(|(key_n, bytes)| Some((key_n, bytes?)));
    let is_other = |key_n: i64, bytes: &[u8]| {
        listed.is_none_or(|listed| listed.bytes() != bytes && listed.seen().key_n <= from_bits(key_n))
    };
    let longest = longest.filter(|(key_n, bytes)| is_other(*key_n, bytes));
    let other = longest.and_then(|(_, bytes)| VerifiedHead::verify_stored(&bytes).ok());
    let is_disputed = conn
        .prepare_cached("SELECT 1 FROM two_chains WHERE publisher = ?1")?
        .exists(params![publisher.as_bytes()])?;
    Ok((other, is_disputed))
}

/// The listed head of a publisher that has the longest chain of its keys; none where no key was ever replaced.
///
/// # Errors
/// [`Error::Database`].
pub fn longest_keys(conn: &Connection, publisher: &PublisherId) -> Result<Option<VerifiedHead>, Error> {
    Ok(known(conn, publisher, None)?.0)
}

/// Notes what a head that came says of the chains of its publisher's keys: that there are two, or which of two counts.
pub(super) fn note(
    tx: &Transaction<'_>,
    head: &VerifiedHead,
    known: &Known,
    source: &Source,
    now: Timestamp,
) -> Result<(), Error> {
    let publisher = head.head().publisher;
    if known.is_disputed {
        return end(tx, &publisher, head, now);
    }
    let Some(other) = known.other_chain(head) else { return Ok(()) };
    let id = other.package_id().to_string();
    tx.prepare_cached(
        "INSERT INTO two_chains (publisher, id, first, second, source, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        publisher.as_bytes(),
        id,
        other.bytes(),
        head.bytes(),
        source.as_bytes(),
        to_ordered(now.as_secs()),
    ])?;
    tracing::warn!(
        %publisher,
        "there are two chains of its keys, and nothing tells which of them is its owner's: nothing more of it is installed where it is not pinned"
    );
    give_way(tx, now)?;
    list_again(tx, &id, now)
}

/// Gives the proof up where a head has a chain that ends the two.
fn end(
    tx: &Transaction<'_>,
    publisher: &PublisherId,
    head: &VerifiedHead,
    now: Timestamp,
) -> Result<(), Error> {
    let keys = head.key_log();
    // The first document that recovery keys can end a chain with is the third one.
    if keys.current().revoked.is_empty() && keys.current().n < 2 {
        return Ok(());
    }
    let is_over = disputed(tx, publisher)?.is_none_or(|Disputed { heads: [first, second], .. }| {
        two_chains::is_ended_by([first.key_log(), second.key_log()], keys)
    });
    if is_over {
        tracing::info!(%publisher, "recovery keys ended one of two chains of its keys");
        remove(tx, publisher, now)?;
    }
    Ok(())
}

fn remove(tx: &Transaction<'_>, publisher: &PublisherId, now: Timestamp) -> Result<(), Error> {
    let id: Option<String> = tx
        .prepare_cached("DELETE FROM two_chains WHERE publisher = ?1 RETURNING id")?
        .query_row(params![publisher.as_bytes()], |row| row.get(0))
        .optional()?;
    id.map_or(Ok(()), |id| list_again(tx, &id, now))
}

/// Makes room where there are too many proofs: the one that came last from whoever brought the most of them goes.
fn give_way(tx: &Transaction<'_>, now: Timestamp) -> Result<(), Error> {
    let held: i64 = tx.prepare_cached("SELECT count(*) FROM two_chains")?.query_row([], |row| row.get(0))?;
    for _ in 0..from_ordered(held).saturating_sub(TWO_CHAINS_MAX as u64) {
        let publisher: Option<Vec<u8>> = tx
            .prepare_cached(
                "SELECT publisher FROM two_chains WHERE source = (
                     SELECT source FROM two_chains GROUP BY source ORDER BY count(*) DESC, source LIMIT 1)
                 ORDER BY number DESC LIMIT 1",
            )?
            .query_row([], |row| row.get(0))
            .optional()?;
        let publisher = publisher.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(publisher) = publisher.map(PublisherId::from_bytes) else { break };
        remove(tx, &publisher, now)?;
    }
    Ok(())
}

/// Whether the head of a package is the one that a proof of two chains goes with.
pub(super) fn is_shown_by(conn: &Connection, id: &str) -> Result<bool, Error> {
    Ok(conn.prepare_cached("SELECT 1 FROM two_chains WHERE id = ?1")?.exists(params![id])?)
}

/// The heads that show two chains, where they go with the head of a package.
pub(super) fn shown_with(conn: &Connection, id: &str) -> Result<Vec<Vec<u8>>, Error> {
    let mut statement = conn.prepare_cached("SELECT first, second FROM two_chains WHERE id = ?1")?;
    let rows = statement.query_map(params![id], |row| Ok([row.get(0)?, row.get(1)?]))?;
    Ok(rows.collect::<Result<Vec<[Vec<u8>; 2]>, _>>()?.into_iter().flatten().collect())
}

/// Whether just these bytes are one of the heads that show two chains of a publisher.
pub(super) fn holds(conn: &Connection, publisher: &PublisherId, bytes: &[u8]) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM two_chains WHERE publisher = ?1 AND (first = ?2 OR second = ?2)";
    Ok(conn.prepare_cached(sql)?.exists(params![publisher.as_bytes(), bytes])?)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::subsequence};

    use super::*;
    use crate::{
        catalog::{
            Outcome, after,
            fixture::{NOW, blank, database, evict, publisher, put, put_from},
            get, of_items,
        },
        heads::item,
        identity::{KeyDocument, KeyLog, PublicKey, Publisher, SecretKey, publisher::Change},
    };

    fn rotated(publisher: &Publisher, seed: u8) -> Publisher {
        publisher.rotated(SecretKey::from_bytes(&[seed; 32]), NOW).unwrap()
    }

    fn head(publisher: &Publisher, name: &str) -> VerifiedHead {
        blank(publisher, name).sign(publisher).unwrap()
    }

    #[test]
    fn of_two_chains_the_listed_one_stays_and_both_are_read_with_it() {
        let mut conn = database();
        let (old, owner) = (publisher(1), rotated(&publisher(1), 2));
        let thief = rotated(&old, 3);
        let (listed, stolen) = (head(&owner, "one"), head(&thief, "one"));
        put(&mut conn, &listed, NOW);
        assert_eq!(disputed(&conn, &old.id()).unwrap(), None);
        assert!(!put(&mut conn, &stolen, NOW).is_news());
        let found = disputed(&conn, &old.id()).unwrap().unwrap();
        assert_eq!((found.chains.n, found.heads.clone()), (1, [listed.clone(), stolen.clone()]));
        let entry = get(&conn, &listed.package_id()).unwrap().unwrap();
        assert_eq!((entry.bytes.as_slice(), entry.disputed, entry.frozen), (listed.bytes(), true, false));
        let both = vec![listed.bytes().to_vec(), stolen.bytes().to_vec()];
        assert_eq!(after(&conn, 0, 9, 1 << 20).unwrap().heads, both);
        assert_eq!(of_items(&conn, &[item(&listed, true).id], 9, 1 << 20).unwrap().heads, both);
        let before = crate::catalog::newest_position(&conn).unwrap();
        put(&mut conn, &stolen, NOW);
        assert_eq!(crate::catalog::newest_position(&conn).unwrap(), before, "nothing is said twice");
    }

    #[test]
    fn two_chains_of_two_packages_are_noticed_and_both_are_listed() {
        let mut conn = database();
        let old = publisher(1);
        let (owner, thief) = (rotated(&old, 2), rotated(&rotated(&old, 3), 4));
        put(&mut conn, &head(&owner, "one"), NOW);
        put(&mut conn, &head(&old, "three"), NOW);
        assert_eq!(put(&mut conn, &head(&thief, "two"), NOW), Outcome::Added);
        let found = disputed(&conn, &old.id()).unwrap().unwrap();
        assert_eq!(found.chains.side_of(thief.key_log()).unwrap().keys, [rotated(&old, 3).public_key()]);
        for name in ["one", "two", "three"] {
            let listed = get(&conn, &head(&old, name).package_id()).unwrap().unwrap();
            assert!(listed.disputed);
        }
    }

    #[test]
    fn recovery_keys_end_it_and_the_head_is_listed_without_the_proof() {
        let key = |seed| SecretKey::from_bytes(&[seed; 32]);
        let genesis = KeyDocument {
            recovery: vec![key(9).public_key()],
            recovery_threshold: 1,
            ..KeyDocument::genesis(key(1).public_key(), NOW)
        };
        let log = KeyLog::verify(&[genesis.sign(&[&key(1)]).unwrap()]).unwrap();
        let first = Publisher::new(key(1), log).unwrap();
        let change = |publisher: &Publisher, seed, revoked: Vec<PublicKey>| {
            let change = Change { secret: Some(key(seed)), revoked, ..Change::default() };
            publisher.changed(change, &[key(9)], NOW).unwrap()
        };
        let (one, other) = (change(&first, 2, Vec::new()), change(&first, 3, Vec::new()));
        let end = change(&one, 4, vec![other.public_key()]);
        for names in [["one", "one", "one"], ["one", "two", "one"], ["one", "two", "three"]] {
            let mut conn = database();
            put(&mut conn, &head(&one, names[0]), NOW);
            put(&mut conn, &head(&other, names[1]), NOW);
            assert!(disputed(&conn, &first.id()).unwrap().is_some(), "{names:?}");
            let last = head(&end, names[2]);
            assert!(put(&mut conn, &last, NOW).is_news(), "{names:?}");
            assert_eq!(disputed(&conn, &first.id()).unwrap(), None, "{names:?}");
            assert!(!get(&conn, &last.package_id()).unwrap().unwrap().disputed);
            let items = of_items(&conn, &[item(&last, false).id], 9, 1 << 20).unwrap().heads;
            assert_eq!(items, [last.bytes().to_vec()], "{names:?}");
            put(&mut conn, &head(&other, names[1]), NOW);
            assert_eq!(
                disputed(&conn, &first.id()).unwrap(),
                None,
                "the chain that was ended counts no more"
            );
        }
    }

    #[test]
    fn the_largest_share_of_the_proofs_gives_way() {
        let mut conn = database();
        let begins = |seed: u16| {
            let mut secret = [7; 32];
            secret[..2].copy_from_slice(&seed.to_be_bytes());
            let old = Publisher::from_secret(secret, NOW);
            [head(&rotated(&old, 2), "one"), head(&rotated(&old, 3), "one")]
        };
        let honest = begins(0);
        for head in &honest {
            put_from(&mut conn, head, 1, NOW);
        }
        let flood = u16::try_from(TWO_CHAINS_MAX).unwrap() + 20;
        for seed in 1..=flood {
            for head in begins(seed) {
                put_from(&mut conn, &head, 2, NOW);
            }
        }
        let held = all_disputed(&conn).unwrap();
        assert_eq!(held.len(), TWO_CHAINS_MAX);
        assert_eq!(held[0].heads, honest, "the one that somebody else brought stays");
        evict(&mut conn, |_| true);
        assert_eq!(all_disputed(&conn).unwrap().len(), TWO_CHAINS_MAX, "it outlives what is listed");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whoever heard a head under each of two chains knows it, in whatever order, also from others who know.
        #[test]
        fn it_is_known_whatever_the_order_and_from_whoever_knows(
            order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle(),
            seen in subsequence((0..6usize).collect::<Vec<_>>(), 0..=6),
        ) {
            let old = publisher(1);
            let (owner, thief) = (rotated(&old, 2), rotated(&old, 3));
            let heads = [
                head(&old, "one"), head(&owner, "one"), head(&thief, "one"),
                head(&owner, "two"), head(&thief, "three"), head(&old, "three"),
            ];
            let mut conn = database();
            for at in order.iter().filter(|at| seen.contains(at)) {
                put(&mut conn, &heads[*at], NOW);
            }
            let listed = |conn: &Connection| {
                let listed = after(conn, 0, 99, 1 << 20).unwrap().heads;
                listed.iter().map(|bytes| VerifiedHead::verify_stored(bytes).unwrap()).collect::<Vec<_>>()
            };
            let has = |side: [usize; 2]| side.iter().any(|at| seen.contains(at));
            let is_known = disputed(&conn, &old.id()).unwrap().is_some();
            prop_assert_eq!(is_known, has([1, 3]) && has([2, 4]), "{:?} {:?}", order, seen);
            let mut reader = database();
            for head in listed(&conn) {
                put(&mut reader, &head, NOW);
            }
            prop_assert_eq!(disputed(&reader, &old.id()).unwrap().is_some(), is_known);
        }
    }
}
