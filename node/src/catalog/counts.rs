//! How many heads are listed and packages were seen, in all, by source and by publisher: counting rows reads all of them.
//!
//! Whoever adds or removes a row says so here. Triggers would do it too, but a statement with triggers begins a savepoint, at which
//! the text index writes out what it has gathered: each head would be a segment of the index by itself, to be merged with the others.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Error, from_ordered, share::Source};
use crate::identity::PublisherId;

/// The tables of this module.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS catalog_sources (
    source BLOB    PRIMARY KEY,
    heads  INTEGER NOT NULL,
    seen   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS catalog_sources_by_heads ON catalog_sources (heads DESC, source);
CREATE INDEX IF NOT EXISTS catalog_sources_by_seen ON catalog_sources (seen DESC, source);
CREATE TABLE IF NOT EXISTS catalog_publishers (
    publisher BLOB    PRIMARY KEY,
    heads     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS catalog_totals (
    one   INTEGER PRIMARY KEY CHECK (one = 0),
    heads INTEGER NOT NULL,
    seen  INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO catalog_totals (one, heads, seen) VALUES (0, 0, 0);
";

/// Rows that came, or went where it is less than zero.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct By {
    pub(super) heads: i64,
    pub(super) seen: i64,
}

/// Notes rows that came or went of a source.
pub(super) fn change(tx: &Transaction<'_>, source: &Source, by: By) -> Result<(), Error> {
    // By its key, so that it is one row for the database too: more of them would be a savepoint again.
    tx.prepare_cached("UPDATE catalog_totals SET heads = heads + ?1, seen = seen + ?2 WHERE one = 0")?
        .execute(params![by.heads, by.seen])?;
    tx.prepare_cached(
        "INSERT INTO catalog_sources (source, heads, seen) VALUES (?1, ?2, ?3)
         ON CONFLICT (source) DO UPDATE SET heads = heads + ?2, seen = seen + ?3",
    )?
    .execute(params![source.as_bytes(), by.heads, by.seen])?;
    if by.heads < 0 || by.seen < 0 {
        tx.prepare_cached("DELETE FROM catalog_sources WHERE source = ?1 AND heads <= 0 AND seen <= 0")?
            .execute(params![source.as_bytes()])?;
    }
    Ok(())
}

/// Notes heads that came or went of a publisher.
pub(super) fn change_of_publisher(tx: &Transaction<'_>, publisher: &[u8], heads: i64) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO catalog_publishers (publisher, heads) VALUES (?1, ?2)
         ON CONFLICT (publisher) DO UPDATE SET heads = heads + ?2",
    )?
    .execute(params![publisher, heads])?;
    if heads < 0 {
        tx.prepare_cached("DELETE FROM catalog_publishers WHERE publisher = ?1 AND heads <= 0")?
            .execute(params![publisher])?;
    }
    Ok(())
}

/// Heads that are listed of a publisher.
pub(super) fn of_publisher(conn: &Connection, publisher: &PublisherId) -> Result<u64, Error> {
    let heads: Option<i64> = conn
        .prepare_cached("SELECT heads FROM catalog_publishers WHERE publisher = ?1")?
        .query_row(params![publisher.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(heads.map_or(0, from_ordered))
}

/// Counts all rows again.
pub(super) fn recount(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.execute_batch(
        "UPDATE catalog_totals SET heads = (SELECT count(*) FROM catalog_heads),
                                   seen = (SELECT count(*) FROM catalog_seen);
         DELETE FROM catalog_sources;
         INSERT INTO catalog_sources (source, heads, seen)
         SELECT source, sum(heads), sum(seen) FROM (
             SELECT source, 1 AS heads, 0 AS seen FROM catalog_heads
             UNION ALL SELECT source, 0, 1 FROM catalog_seen) GROUP BY source;
         DELETE FROM catalog_publishers;
         INSERT INTO catalog_publishers (publisher, heads)
         SELECT publisher, count(*) FROM catalog_heads GROUP BY publisher;",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::catalog::{
        fixture::{NOW, at, database, evict, later, publisher, put_from, source, within},
        forget, insert,
        share::forget_oldest,
    };

    use super::*;

    /// All counts.
    fn counted(conn: &Connection) -> Vec<(Vec<u8>, i64, i64)> {
        let sql = "SELECT source, heads, seen FROM catalog_sources
                   UNION ALL SELECT publisher, heads, -1 FROM catalog_publishers
                   UNION ALL SELECT x'ff', heads, seen FROM catalog_totals ORDER BY 1, 2, 3";
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn segments(conn: &Connection) -> i64 {
        let sql = "SELECT count(DISTINCT segid) FROM catalog_text_idx";
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_one_transaction_takes_of_new_packages_is_one_segment_of_the_index() {
        let mut conn = database();
        let before = segments(&conn);
        within(&mut conn, |tx| {
            for n in 1..=16 {
                insert(tx, &at(&publisher(n), "web", 0, 0), &source(n % 3), NOW).unwrap();
            }
        });
        assert_eq!(segments(&conn) - before, 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take { publisher: u8, sequence: u64, branch: u64, peer: u8 },
        Evict(u8),
        Forget(u8),
        ForgetOldest(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1u8..5, 0u64..4, 0u64..2, 1u8..4)
                .prop_map(|(publisher, sequence, branch, peer)| Step::Take { publisher, sequence, branch, peer }),
            1 => (1u8..5).prop_map(Step::Evict),
            1 => (1u8..5).prop_map(Step::Forget),
            1 => (0usize..4).prop_map(Step::ForgetOldest),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn counts_are_those_of_the_rows_whatever_happened(steps in prop::collection::vec(step(), 0..24)) {
            let mut conn = database();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Take { publisher: of, sequence, branch, peer } => {
                        put_from(&mut conn, &at(&publisher(of), "web", sequence, branch), peer, later(n as u64));
                    }
                    Step::Evict(of) => drop(evict(&mut conn, |head| head.publisher == publisher(of).id())),
                    Step::Forget(of) => {
                        let package = at(&publisher(of), "web", 0, 0).package_id();
                        within(&mut conn, |tx| forget(tx, &package)).unwrap();
                    }
                    Step::ForgetOldest(most) => within(&mut conn, |tx| forget_oldest(tx, most)).unwrap(),
                }
            }
            let kept = counted(&conn);
            within(&mut conn, recount).unwrap();
            prop_assert_eq!(kept, counted(&conn));
        }
    }
}
