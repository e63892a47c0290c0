//! Tests of who is counted for what.

use libp2p::PeerId;
use rusqlite::Connection;

use super::*;
use crate::{
    catalog::{Outcome, fixture::*},
    content::Codec,
    release::{Head, Release, Sequence, VerifiedHead},
};

#[test]
fn the_peers_of_one_public_network_are_one_source() {
    let (one, other) = (PeerId::random(), PeerId::random());
    assert_eq!(Source::of(&one, Some([4; 7])), Source::of(&other, Some([4; 7])));
    assert_ne!(Source::of(&one, Some([4; 7])), Source::of(&one, Some([5; 7])));
    assert_ne!(Source::of(&one, None), Source::of(&other, None));
    assert!(![Source::own(), Source::unknown()].contains(&Source::of(&one, Some([0; 7]))));
}

/// Fills the catalogue with copies of what is listed of a package, under other names; `of` says what differs in each.
fn copy_listed(conn: &Connection, head: &VerifiedHead, copies: u32, root: &str, provider: &str) {
    conn.execute(
        &format!(
            "INSERT INTO catalog_heads (id, publisher, name, bytes, released, confirmed, received, source, offers, item,
                                        root, provided, provider)
             WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2)
             SELECT id || '-' || n, publisher, name, bytes, released, confirmed, received, source, offers, item,
                    {root}, {provider} IS NOT NULL, {provider}
             FROM catalog_heads, numbers WHERE id = ?1"
        ),
        params![head.package_id().to_string(), copies],
    )
    .unwrap();
}

#[test]
fn one_word_marks_a_few_heads_and_one_source_a_bounded_number_of_them() {
    let (mut conn, [one, other]) = (database(), [1, 2].map(|n| offering(&publisher(n), &format!("web-{n}"))));
    put(&mut conn, &one, NOW);
    let root = |head: &VerifiedHead| head.head().latest.as_ref().unwrap().root;
    let marked = |conn: &Connection, by: u8| -> usize {
        let by = source(by);
        conn.query_row(
            "SELECT count(*) FROM catalog_heads WHERE provided = 1 AND provider = ?1",
            params![by.as_bytes()],
            |row| row.get::<_, i64>(0),
        )
        .unwrap() as usize
    };
    // Very many packages with one tree.
    copy_listed(&conn, &one, 100, "root", "NULL");
    within(&mut conn, |tx| provided(tx, &root(&one), &source(7)).unwrap());
    assert_eq!(marked(&conn, 7), CATALOG_PROVIDED_PER_TREE_MAX);
    // A source whose share is used up marks no more, and one that says the same with a smaller share keeps it marked.
    put(&mut conn, &other, NOW);
    let used = u32::try_from(CATALOG_PROVIDED_PER_SOURCE_MAX - CATALOG_PROVIDED_PER_TREE_MAX).unwrap();
    copy_listed(&conn, &other, used, "NULL", "x'0707'");
    assert_eq!(marked(&conn, 7), CATALOG_PROVIDED_PER_SOURCE_MAX);
    within(&mut conn, |tx| provided(tx, &root(&other), &source(7)).unwrap());
    assert_eq!(marked(&conn, 7), CATALOG_PROVIDED_PER_SOURCE_MAX, "its share is used up");
    within(&mut conn, |tx| {
        provided(tx, &root(&other), &source(8)).unwrap();
        provided(tx, &root(&one), &source(8)).unwrap();
        provided(tx, &root(&one), &source(7)).unwrap();
    });
    assert_eq!(marked(&conn, 8), 1 + CATALOG_PROVIDED_PER_TREE_MAX, "the larger share takes nothing over");
    assert_eq!(marked(&conn, 7), CATALOG_PROVIDED_PER_SOURCE_MAX - CATALOG_PROVIDED_PER_TREE_MAX);
}

#[test]
fn a_head_that_takes_the_place_of_another_is_provided_where_its_tree_is_the_same() {
    let (mut conn, publisher) = (database(), publisher(1));
    let first = offering(&publisher, "web");
    put(&mut conn, &first, NOW);
    let latest = first.head().latest.clone().unwrap();
    within(&mut conn, |tx| provided(tx, &latest.root, &source(7)).unwrap());
    let after = |sequence: u64, latest: Release| {
        let entry = entry(sequence);
        let sequence = Sequence::new(sequence);
        let log = first.head().log;
        Head { sequence, entry, log, latest: Some(latest), ..first.head().clone() }.sign(&publisher).unwrap()
    };
    let is_provided = |conn: &Connection| -> bool {
        conn.query_row("SELECT provided FROM catalog_heads", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(put(&mut conn, &after(1, latest.clone()), NOW), Outcome::Replaced);
    assert!(is_provided(&conn));
    let root = ContentId::of(Codec::DagPb, b"other");
    assert_eq!(put(&mut conn, &after(2, Release { root, ..latest }), NOW), Outcome::Replaced);
    assert!(!is_provided(&conn));
}
