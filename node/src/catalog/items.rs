//! The items of the heads that are listed: what changed of them, and the heads of some.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Error, Page, from_ordered, read::add_proofs, to_ordered};
use crate::heads::{Id, Item};

/// Up to where the changes are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// The last position.
    pub position: u64,
    /// The number of the last head that was taken out.
    pub removed: u64,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether `added` is all that there is, because it is no longer known what was taken out.
    pub whole: bool,
    /// What was taken out; some of it may be back in `added`.
    pub removed: Vec<Item>,
    /// What is listed and was not, or at another position.
    pub added: Vec<Item>,
    /// Up to where this is.
    pub until: Since,
}

/// What changed since then; the cost is that of the changes.
///
/// # Errors
/// [`Error::Database`].
pub fn changes(conn: &Connection, since: Since) -> Result<Changes, Error> {
    let oldest: Option<i64> =
        conn.prepare_cached("SELECT min(number) FROM catalog_removed")?.query_row([], |row| row.get(0))?;
    let whole = since == Since::default()
        || oldest.is_some_and(|oldest| from_ordered(oldest) > since.removed.saturating_add(1));
    let mut changes = Changes { whole, until: since, ..Changes::default() };
    if whole {
        let newest: Option<i64> = conn
            .prepare_cached("SELECT max(number) FROM catalog_removed")?
            .query_row([], |row| row.get(0))?;
        changes.until.removed = newest.map_or(0, from_ordered);
        // Only what the index has, which is a small part of the table.
        let sql = "SELECT position, released, item FROM catalog_heads INDEXED BY catalog_heads_by_item";
        changes.until.position = read(conn, sql, None, &mut changes.added)?;
    } else {
        let sql = "SELECT number, released, item FROM catalog_removed WHERE number > ?1 ORDER BY number";
        changes.until.removed = read(conn, sql, Some(since.removed), &mut changes.removed)?;
        let sql = "SELECT position, released, item FROM catalog_heads WHERE position > ?1 ORDER BY position";
        changes.until.position = read(conn, sql, Some(since.position), &mut changes.added)?;
    }
    Ok(changes)
}

/// Reads items, and yields the largest number beside one, or the one that was given.
fn read(conn: &Connection, sql: &str, after: Option<u64>, into: &mut Vec<Item>) -> Result<u64, Error> {
    let mut last = after.unwrap_or(0);
    let mut statement = conn.prepare_cached(sql)?;
    let item = |row: &Row<'_>| -> rusqlite::Result<(u64, Item)> {
        let item = Item { released: from_ordered(row.get(1)?), id: Id(row.get(2)?) };
        Ok((from_ordered(row.get(0)?), item))
    };
    let rows = match after {
        Some(after) => statement.query_map(params![to_ordered(after)], item)?,
        None => statement.query_map([], item)?,
    };
    for row in rows {
        let (number, item) = row?;
        last = last.max(number);
        into.push(item);
    }
    Ok(last)
}

/// The heads of these ids, in their order, with what proves that a package is frozen and the confirmations of their publishers: at
/// most `limit_rows` of at most
/// `limit_bytes` together, but those of one id at least. In [`Page::next`] is how many of the ids were looked at; what is not
/// listed is left out.
///
/// # Errors
/// [`Error::Database`].
pub fn of_items(conn: &Connection, ids: &[Id], limit_rows: usize, limit_bytes: usize) -> Result<Page, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT h.bytes, h.id, EXISTS (SELECT 1 FROM equivocations AS e WHERE e.id = h.id)
                OR EXISTS (SELECT 1 FROM two_chains AS t WHERE t.id = h.id), h.publisher, c.bytes
         FROM catalog_heads AS h LEFT JOIN confirmations AS c ON c.publisher = h.publisher WHERE h.item = ?1",
    )?;
    let mut confirmed = BTreeSet::new();
    let (mut page, mut bytes_in_all) = (Page { done: true, ..Page::default() }, 0_usize);
    for id in ids {
        type Found = (Vec<u8>, String, bool, Vec<u8>, Option<Vec<u8>>);
        let found: Option<Found> = statement
            .query_row(params![id.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()?;
        let mut heads = Vec::new();
        if let Some((bytes, package, is_proved, publisher, confirmation)) = found {
            heads.push(bytes);
            if is_proved {
                add_proofs(conn, &package, &mut heads)?;
            }
            // Once for all heads of a publisher.
            heads.extend(confirmation.filter(|_| confirmed.insert(publisher)));
        }
        bytes_in_all = heads.iter().fold(bytes_in_all, |all, bytes| all.saturating_add(bytes.len()));
        let is_full = page.heads.len() + heads.len() > limit_rows || bytes_in_all > limit_bytes;
        if !page.heads.is_empty() && is_full {
            page.done = false;
            break;
        }
        page.next += 1;
        page.heads.extend(heads);
    }
    Ok(page)
}

/// Whether the state that an id names is listed.
///
/// # Errors
/// [`Error::Database`].
pub fn is_listed(conn: &Connection, id: &Id) -> Result<bool, Error> {
    Ok(conn.prepare_cached("SELECT 1 FROM catalog_heads WHERE item = ?1")?.exists(params![id.0])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{
            convict, discard,
            fixture::{NOW, at, database, publisher, put, source, within},
        },
        heads::item,
        sync::index::Index,
    };

    #[test]
    fn the_items_follow_whatever_becomes_of_the_heads() {
        let (mut conn, mut index) = (database(), Index::default());
        let publisher = publisher(1);
        let mut sorted = |conn: &Connection| index.refreshed(conn).unwrap().items.to_vec();
        assert!(sorted(&conn).is_empty());
        let (one, two) = (at(&publisher, "one", 0, 0), at(&publisher, "two", 0, 0));
        put(&mut conn, &one, NOW);
        put(&mut conn, &two, NOW);
        let mut expected = vec![item(&one, false), item(&two, false)];
        expected.sort();
        assert_eq!(sorted(&conn), expected);
        let newer = at(&publisher, "one", 1, 0);
        put(&mut conn, &newer, NOW);
        let mut expected = vec![item(&newer, false), item(&two, false)];
        expected.sort();
        assert_eq!(sorted(&conn), expected, "a superseded head is none of them");
        let other = at(&publisher, "two", 0, 1);
        assert!(within(&mut conn, |tx| convict(tx, &two, &other, &source(1), NOW)).unwrap());
        let mut expected = vec![item(&newer, false), item(&two, true)];
        expected.sort();
        assert_eq!(sorted(&conn), expected, "a frozen one is another item");
        let page = of_items(&conn, &[item(&two, true).id, item(&one, false).id], 9, 1 << 20).unwrap();
        assert_eq!(
            (page.heads, page.next, page.done),
            (vec![two.bytes().to_vec(), other.bytes().to_vec()], 2, true)
        );
        assert!(within(&mut conn, |tx| discard(tx, 0, newer.bytes())).unwrap());
        assert_eq!(sorted(&conn), [item(&two, true)]);
        put(&mut conn, &newer, NOW);
        assert_eq!(sorted(&conn), expected);
    }

    #[test]
    fn where_it_is_not_known_any_more_what_went_all_is_read() {
        let mut conn = database();
        let publisher = publisher(1);
        put(&mut conn, &at(&publisher, "one", 0, 0), NOW);
        let before = changes(&conn, Since::default()).unwrap();
        assert!(before.whole);
        for sequence in 1..5 {
            put(&mut conn, &at(&publisher, "one", sequence, 0), NOW);
        }
        let after = changes(&conn, before.until).unwrap();
        assert_eq!((after.whole, after.removed.len(), after.added.len()), (false, 4, 1));
        conn.execute("DELETE FROM catalog_removed WHERE number <= 2", []).unwrap();
        let after = changes(&conn, before.until).unwrap();
        assert_eq!((after.whole, after.removed.len(), after.added.len()), (true, 0, 1));
        assert_eq!(
            changes(&conn, after.until).unwrap(),
            Changes { until: after.until, ..Changes::default() }
        );
    }

    #[test]
    fn heads_are_given_up_to_a_bound_and_one_at_least() {
        let mut conn = database();
        let publisher = publisher(1);
        let heads: Vec<_> = (0..5).map(|n| at(&publisher, &format!("pack-{n}"), 0, 0)).collect();
        for head in &heads {
            put(&mut conn, head, NOW);
        }
        let ids: Vec<Id> = heads.iter().map(|head| item(head, false).id).collect();
        let of = |rows, bytes| of_items(&conn, &ids, rows, bytes).unwrap();
        assert_eq!((of(9, 1 << 20).heads.len(), of(9, 1 << 20).done), (5, true));
        assert_eq!((of(2, 1 << 20).heads.len(), of(2, 1 << 20).next, of(2, 1 << 20).done), (2, 2, false));
        assert_eq!((of(9, 1).heads.len(), of(9, 1).next), (1, 1));
    }
}
