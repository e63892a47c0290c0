//! Tests of what goes in and what comes out, on a database in memory.

use rusqlite::Connection;

use super::*;
use crate::{
    catalog::{
        after, by_name, convict, count, fixture::*, get, is_frozen, keep, newest_position, newest_received,
        places, proofs, provided, seen,
    },
    content::{Codec, ContentId},
    identity::publisher::Change,
    limits::CLAIMS_LISTED_MAX,
    release::Head,
};

fn number(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_newer_state_replaces_and_a_known_one_changes_nothing() {
    let (mut conn, publisher) = (database(), publisher(1));
    let [first, second] = [0, 1].map(|sequence| at(&publisher, "web", sequence, 0));
    assert_eq!(put(&mut conn, &first, NOW), Outcome::Added);
    assert_eq!(put(&mut conn, &first, later(1)), Outcome::Known);
    assert_eq!(put(&mut conn, &second, later(2)), Outcome::Replaced);
    assert_eq!(put(&mut conn, &second, later(3)), Outcome::Known);

    let listed = get(&conn, &first.package_id()).unwrap().unwrap();
    assert_eq!((listed.bytes.as_slice(), listed.received, listed.frozen), (second.bytes(), later(2), false));
    assert_eq!(listed.verify(NOW).unwrap(), second);
    assert_eq!((count(&conn).unwrap(), newest_received(&conn).unwrap()), (1, Some(later(2))));
    assert_eq!(number(&conn, "SELECT count(*) FROM catalog_text"), 1);
    assert_eq!(number(&conn, "SELECT heads + seen FROM catalog_totals"), 2);
}

#[test]
fn of_two_wordings_of_one_state_the_same_one_is_kept_whichever_came_first() {
    let publisher = publisher(1);
    let mut worded = ["one", "another", "a third"].map(|words| {
        Head { description: words.to_owned(), ..blank(&publisher, "web") }.sign(&publisher).unwrap()
    });
    worded.sort_by(|a, b| a.bytes().cmp(b.bytes()));
    let [first, second, third] = &worded;
    for order in [[second, third, first], [third, first, second], [first, second, third]] {
        let mut conn = database();
        for head in order {
            put(&mut conn, head, NOW);
        }
        assert_eq!(get(&conn, &first.package_id()).unwrap().unwrap().bytes, third.bytes());
        assert_eq!(put(&mut conn, second, later(1)), Outcome::Known);
    }
}

#[test]
fn rollback_is_refused_after_a_restart_and_an_eviction() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let conn = Connection::open(folder.path().join("catalog")).unwrap();
        conn.execute_batch(crate::catalog::SCHEMA).unwrap();
        conn.execute_batch(crate::catalog::COUNTS_SCHEMA).unwrap();
        conn.execute_batch(crate::catalog::CONFIRMED_SCHEMA).unwrap();
        conn
    };
    let publisher = publisher(1);
    let [old, new] = [3, 4].map(|sequence| at(&publisher, "web", sequence, 0));
    let mut conn = open();
    put(&mut conn, &new, NOW);
    assert_eq!(put(&mut conn, &old, NOW), Outcome::Refused(Refusal::Rollback));
    assert_eq!(evict(&mut conn, |_| true), 1);
    drop(conn);

    let mut conn = open();
    assert_eq!(count(&conn).unwrap(), 0);
    assert_eq!(put(&mut conn, &old, NOW), Outcome::Refused(Refusal::Rollback));
    assert_eq!(seen(&conn, &new.package_id()).unwrap(), Some(new.seen()));
    assert_eq!(put(&mut conn, &new, NOW), Outcome::Added);
}

#[test]
fn a_replaced_key_cannot_go_on_whatever_its_sequence() {
    let (mut conn, publisher) = (database(), publisher(1));
    let rotated = publisher
        .rotated(crate::identity::SecretKey::from_bytes(&[9; 32]), later(1))
        .expect("the old key signs the new one");
    assert_eq!(put(&mut conn, &at(&publisher, "web", 7, 0), NOW), Outcome::Added);
    assert_eq!(put(&mut conn, &at(&rotated, "web", 7, 0), NOW), Outcome::Replaced);
    assert_eq!(put(&mut conn, &at(&publisher, "web", 9, 0), NOW), Outcome::Refused(Refusal::Rollback));
    assert_eq!(put(&mut conn, &at(&rotated, "web", 8, 0), NOW), Outcome::Replaced);
}

#[test]
fn two_states_for_one_place_are_kept_as_proof_and_freeze_the_package() {
    let (mut conn, publisher) = (database(), publisher(1));
    let [first, second] = [0, 1].map(|branch| at(&publisher, "web", 2, branch));
    let id = first.package_id();
    put(&mut conn, &first, NOW);
    assert_eq!(put(&mut conn, &second, later(1)), Outcome::Refused(Refusal::Equivocation));
    assert!(is_frozen(&conn, &id).unwrap());
    let kept = proofs(&conn, &id).unwrap().remove(0);
    assert_eq!((kept.first.as_slice(), kept.second.as_slice()), (first.bytes(), second.bytes()));
    assert_eq!(kept.at, later(1));

    let listed = get(&conn, &id).unwrap().unwrap();
    assert_eq!((listed.bytes.as_slice(), listed.frozen), (first.bytes(), true));
    let beyond = at(&publisher, "web", 3, 0);
    assert_eq!(put(&mut conn, &beyond, later(2)), Outcome::Refused(Refusal::Equivocation));
    let worded = ["one", "another"].map(|words| {
        Head { description: words.to_owned(), ..first.head().clone() }.sign(&publisher).unwrap()
    });
    let greatest = worded.iter().max_by(|a, b| a.bytes().cmp(b.bytes())).unwrap();
    if greatest.bytes() > first.bytes() {
        assert_eq!(put(&mut conn, greatest, later(5)), Outcome::Reworded, "what was listed stays listed");
    }
    assert!(!is_frozen(&conn, &at(&publisher, "other", 0, 0).package_id()).unwrap());
}

#[test]
fn another_latest_release_for_one_state_is_no_renewal() {
    let (mut conn, publisher) = (database(), publisher(1));
    let naming = |content: &[u8]| {
        let latest = crate::release::Release {
            version: "1.0.0".parse().unwrap(),
            manifest: ContentId::of(Codec::Raw, content),
            root: ContentId::of(Codec::DagPb, content),
            size: 1,
            files: 1,
        };
        Head { latest: Some(latest), ..blank(&publisher, "web") }.sign(&publisher).unwrap()
    };
    let [first, second] = [naming(b"one"), naming(b"another")];
    assert_eq!(put(&mut conn, &first, NOW), Outcome::Added);
    assert_eq!(seen(&conn, &first.package_id()).unwrap(), Some(first.seen()));
    assert_eq!(put(&mut conn, &second, later(1)), Outcome::Refused(Refusal::Equivocation));
    assert!(is_frozen(&conn, &first.package_id()).unwrap());
    assert_eq!(proofs(&conn, &first.package_id()).unwrap()[0].second, second.bytes());
}

#[test]
fn what_contradicts_only_what_is_remembered_is_refused_and_freezes_nothing() {
    let (mut conn, publisher) = (database(), publisher(1));
    let [first, second] = [0, 1].map(|branch| at(&publisher, "web", 2, branch));
    put(&mut conn, &first, NOW);
    evict(&mut conn, |_| true);
    assert_eq!(put(&mut conn, &second, NOW), Outcome::Refused(Refusal::Contradiction));
    assert!(!is_frozen(&conn, &first.package_id()).unwrap());
    assert_eq!(put(&mut conn, &first, NOW), Outcome::Added);
    assert_eq!(put(&mut conn, &second, NOW), Outcome::Refused(Refusal::Equivocation));
    assert!(is_frozen(&conn, &first.package_id()).unwrap());
}

#[test]
fn a_key_that_was_replaced_freezes_nothing_with_a_fork_of_its_own() {
    let (mut conn, old) = (database(), publisher(1));
    let with = |seed: u8| old.rotated(crate::identity::SecretKey::from_bytes(&[seed; 32]), later(1)).unwrap();
    let (owner, thief) = (at(&with(2), "web", 2, 0), at(&with(3), "web", 3, 1));
    put(&mut conn, &owner, NOW);
    assert_eq!(put(&mut conn, &thief, NOW), Outcome::Refused(Refusal::Contradiction));
    assert!(!within(&mut conn, |tx| convict(tx, &owner, &thief, &source(1), NOW)).unwrap());
    assert!(!is_frozen(&conn, &owner.package_id()).unwrap());
    assert_eq!(put(&mut conn, &at(&with(2), "web", 3, 0), NOW), Outcome::Replaced, "the owner goes on");
}

#[test]
fn where_a_log_ended_is_remembered_until_a_later_one_was_read() {
    let (mut conn, publisher) = (database(), publisher(1));
    let head = |sequence| at(&publisher, "web", sequence, 0);
    let id = head(0).package_id();
    let ends = |conn: &Connection| -> Vec<u64> {
        places(conn, &id).unwrap().iter().map(|place| place.sequence.get()).collect()
    };
    for sequence in [2, 3, 5] {
        put(&mut conn, &head(sequence), NOW);
        put(&mut conn, &head(sequence), NOW);
    }
    assert_eq!(ends(&conn), [2, 3, 5]);
    within(&mut conn, |tx| log_read(tx, &head(3), NOW)).unwrap();
    assert_eq!(ends(&conn), [3, 5]);
    for sequence in 6..30 {
        put(&mut conn, &head(sequence), NOW);
    }
    assert_eq!(ends(&conn), [3, 23, 24, 25, 26, 27, 28, 29], "the oldest stays");
    let rotated = publisher.rotated(crate::identity::SecretKey::from_bytes(&[9; 32]), later(1)).unwrap();
    put(&mut conn, &at(&rotated, "web", 4, 0), NOW);
    assert_eq!(ends(&conn), [4]);
}

#[test]
fn a_proof_of_others_convicts_only_where_the_heads_contradict() {
    let (mut conn, publisher) = (database(), publisher(1));
    let heads = |name| [0, 1].map(|branch| at(&publisher, name, 2, branch));
    let [a, b] = heads("web");
    let later_state = at(&publisher, "web", 3, 0);
    let convicted = |conn: &mut Connection, x: &VerifiedHead, y: &VerifiedHead| {
        within(conn, |tx| convict(tx, x, y, &source(1), later(30 * DAY)).unwrap())
    };
    assert!(!convicted(&mut conn, &a, &later_state));
    assert!(!convicted(&mut conn, &a, &heads("other")[1]));
    assert!(!is_frozen(&conn, &a.package_id()).unwrap());
    assert!(convicted(&mut conn, &a, &b));
    assert!(is_frozen(&conn, &a.package_id()).unwrap());
    assert_eq!(proofs(&conn, &a.package_id()).unwrap().len(), 1);
}

#[test]
fn two_heads_of_a_key_that_was_revoked_prove_nothing() {
    let (mut conn, publisher) = (database(), publisher(1));
    let change = Change {
        secret: Some(crate::identity::SecretKey::from_bytes(&[9; 32])),
        revoked: vec![publisher.public_key()],
        ..Change::default()
    };
    let rotated = publisher.changed(change, &[], later(1)).unwrap();
    put(&mut conn, &at(&rotated, "web", 3, 0), NOW);
    let convicted = |conn: &mut Connection, by: &crate::identity::Publisher| {
        let [a, b] = [0, 1].map(|branch| at(by, "web", 2, branch));
        within(conn, |tx| convict(tx, &a, &b, &source(1), NOW).unwrap())
    };
    assert!(!convicted(&mut conn, &publisher), "anyone who stole it can sign with it what they like");
    assert!(!is_frozen(&conn, &at(&rotated, "web", 3, 0).package_id()).unwrap());
    assert!(convicted(&mut conn, &rotated), "its owner still contradicts itself");
}

#[test]
fn one_name_of_several_publishers_is_listed_by_id() {
    let mut conn = database();
    for n in [3, 1, 2] {
        put(&mut conn, &offering(&publisher(n), "web"), NOW);
    }
    put(&mut conn, &offering(&publisher(1), "website"), NOW);
    put(&mut conn, &at(&publisher(4), "web", 0, 0), NOW);
    let ids: Vec<_> = by_name(&conn, &"web".parse().unwrap())
        .unwrap()
        .listed
        .into_iter()
        .map(|listed| listed.id.to_string())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.is_sorted());
}

#[test]
fn of_a_name_that_everybody_claims_a_few_are_listed_and_the_rest_is_counted() {
    let mut conn = database();
    for n in 1..=25 {
        put(&mut conn, &offering(&publisher(n), "web"), NOW);
    }
    let claims = by_name(&conn, &"web".parse().unwrap()).unwrap();
    assert_eq!((claims.listed.len(), claims.total), (CLAIMS_LISTED_MAX, 25));
}

#[test]
fn positions_only_grow_and_pages_miss_nothing() {
    let (mut conn, publisher) = (database(), publisher(1));
    let heads: Vec<_> = (0..7).map(|n| at(&publisher, &format!("p{n}"), 0, 0)).collect();
    for head in &heads {
        put(&mut conn, head, NOW);
    }
    let mut position = 0;
    let mut pages = Vec::new();
    loop {
        let page = after(&conn, position, 3, usize::MAX).unwrap();
        position = page.next;
        pages.push(page.heads.len());
        if page.done {
            break;
        }
    }
    assert_eq!((pages, position), (vec![3, 3, 1], newest_position(&conn).unwrap()));
    assert!(after(&conn, position, 3, usize::MAX).unwrap().done);

    let two = heads[0].bytes().len() + heads[1].bytes().len();
    assert_eq!(after(&conn, 0, 9, two).unwrap().heads.len(), 2);
    let one = after(&conn, 0, 0, 0).unwrap();
    assert_eq!((one.heads.len(), one.done), (1, false), "a reader always gets on");

    put(&mut conn, &at(&publisher, "p0", 1, 0), NOW);
    let changed = after(&conn, position, 9, usize::MAX).unwrap();
    assert_eq!(changed.heads, [at(&publisher, "p0", 1, 0).bytes()]);
    evict(&mut conn, |_| true);
    put(&mut conn, &at(&publisher, "p0", 2, 0), NOW);
    assert!(newest_position(&conn).unwrap() > changed.next, "a position is never given twice");
}

#[test]
fn a_full_catalogue_takes_nothing_new_but_still_updates() {
    let (mut conn, ours) = (database(), publisher(1));
    put(&mut conn, &at(&ours, "web", 0, 0), NOW);
    conn.execute("UPDATE catalog_totals SET heads = ?1", params![CATALOG_HEADS_MAX as i64]).unwrap();
    let other = at(&publisher(2), "web", 0, 0);
    assert_eq!(put(&mut conn, &other, NOW), Outcome::Refused(Refusal::Full));
    assert_eq!(seen(&conn, &other.package_id()).unwrap(), None, "what was not taken leaves nothing");
    assert_eq!(put(&mut conn, &at(&ours, "web", 1, 0), NOW), Outcome::Replaced);
}

#[test]
fn of_a_publisher_with_too_many_packages_the_newest_stay() {
    let (mut conn, ours) = (database(), publisher(1));
    let released =
        |name: &str, at: Timestamp| Head { released_at: at, ..blank(&ours, name) }.sign(&ours).unwrap();
    // One second apart, the first of them as late as this node's clock says.
    within(&mut conn, |tx| {
        for n in 1..CATALOG_HEADS_PER_PUBLISHER_MAX as u64 {
            tx.execute(
                "INSERT INTO catalog_heads (id, publisher, name, bytes, released, confirmed, received, source, offers,
                                            item)
                 VALUES (?1, ?2, 'x', x'', ?3, 0, 0, x'01', 0, zeroblob(32))",
                params![n.to_string(), ours.id().as_bytes(), (NOW.as_secs() - n) as i64],
            )
            .unwrap();
        }
        counts::recount(tx).unwrap();
    });
    let (oldest, old) = (NOW.as_secs() - CATALOG_HEADS_PER_PUBLISHER_MAX as u64, Timestamp::from_secs);
    let older = released("older", old(oldest - 1));
    assert_eq!(put(&mut conn, &released("oldest", old(oldest)), NOW), Outcome::Added);
    assert_eq!(put(&mut conn, &older, NOW), Outcome::Refused(Refusal::Share), "older than all that is held");
    assert_eq!(put(&mut conn, &released("web", NOW), NOW), Outcome::Added);
    assert!(get(&conn, &released("oldest", old(oldest)).package_id()).unwrap().is_none(), "it gave way");
    assert_eq!(number(&conn, "SELECT heads FROM catalog_totals"), CATALOG_HEADS_PER_PUBLISHER_MAX as i64);
    assert_eq!(put(&mut conn, &at(&publisher(2), "web", 0, 0), NOW), Outcome::Added);
    within(&mut conn, |tx| keep(tx, &older.package_id())).unwrap();
    assert_eq!(put(&mut conn, &older, NOW), Outcome::Added, "for what is kept there is always room");
}

#[test]
fn what_was_seen_is_bounded_and_forgets_the_oldest_that_is_neither_listed_nor_frozen() {
    let mut conn = database();
    for n in 1..=4 {
        put(&mut conn, &at(&publisher(n), "web", 0, 0), later(u64::from(n)));
    }
    put(&mut conn, &at(&publisher(1), "web", 0, 1), later(9));
    conn.execute("DELETE FROM catalog_heads WHERE publisher <> ?1", params![publisher(2).id().as_bytes()])
        .unwrap();
    let left = |conn: &Connection| -> Vec<u8> {
        (1..=4)
            .filter(|n| seen(conn, &at(&publisher(*n), "web", 0, 0).package_id()).unwrap().is_some())
            .collect()
    };
    for (room, expected) in [(4, vec![1, 2, 3, 4]), (3, vec![1, 2, 4]), (2, vec![1, 2]), (0, vec![2])] {
        within(&mut conn, |tx| forget_oldest(tx, room)).unwrap();
        assert_eq!(left(&conn), expected);
    }
}

#[test]
fn a_sequence_of_all_bits_is_a_number_like_any_other() {
    let (mut conn, publisher) = (database(), publisher(1));
    let head = |sequence, n| {
        Head {
            sequence: crate::release::Sequence::new(sequence),
            entry: entry(n),
            ..blank(&publisher, "web")
        }
        .sign(&publisher)
        .unwrap()
    };
    assert_eq!(put(&mut conn, &head(u64::MAX - 1, 5), NOW), Outcome::Added);
    assert_eq!(put(&mut conn, &head(u64::MAX, 6), NOW), Outcome::Replaced);
    assert_eq!(put(&mut conn, &head(u64::MAX - 1, 5), NOW), Outcome::Refused(Refusal::Rollback));
    assert_eq!(put(&mut conn, &head(1, 5), NOW), Outcome::Refused(Refusal::Rollback));
}

#[test]
fn a_damaged_head_is_named_and_replaced_by_the_next_sound_one() {
    let (mut conn, publisher) = (database(), publisher(1));
    let head = at(&publisher, "web", 0, 0);
    put(&mut conn, &head, NOW);
    conn.execute("UPDATE catalog_heads SET bytes = x'00'", []).unwrap();
    let error = get(&conn, &head.package_id()).unwrap_err();
    assert_eq!(error.code(), crate::code::Code::StoreDamaged);
    assert_eq!(by_name(&conn, &head.head().name).unwrap().listed, []);
    assert_eq!(put(&mut conn, &head, NOW), Outcome::Replaced);
    assert!(get(&conn, &head.package_id()).unwrap().is_some());
}

#[test]
fn salvaged_rows_are_verified_and_indexed_anew() {
    let mut conn = database();
    let heads = ["web", "other", "third"].map(|name| at(&publisher(1), name, 2, 0));
    for head in &heads {
        put(&mut conn, head, NOW);
    }
    conn.execute_batch(
        "DELETE FROM catalog_text; DELETE FROM catalog_seen WHERE id LIKE '%/web';
         UPDATE catalog_heads SET bytes = x'00' WHERE name = 'other';
         UPDATE catalog_totals SET heads = 77, seen = -5",
    )
    .unwrap();
    assert_eq!(within(&mut conn, |tx| rebuild(tx, NOW)).unwrap(), 2);
    let query = crate::catalog::Query { text: "web".to_owned(), ..Default::default() };
    assert_eq!(crate::catalog::search(&conn, &query).unwrap().total, 1);
    assert_eq!(get(&conn, &heads[1].package_id()).unwrap(), None);
    assert_eq!(number(&conn, "SELECT heads * 10 + seen FROM catalog_totals"), 23);
    let rolled_back = at(&publisher(1), "web", 1, 0);
    assert_eq!(put(&mut conn, &rolled_back, NOW), Outcome::Refused(Refusal::Rollback));
    assert_eq!(put(&mut conn, &heads[1], NOW), Outcome::Added);
}

/// Says that the catalogue holds this many heads less than it may.
fn pretend_room(conn: &Connection, heads: usize) {
    let pretended = (CATALOG_HEADS_MAX - heads) as i64;
    conn.execute("UPDATE catalog_totals SET heads = ?1", params![pretended]).unwrap();
}

#[test]
fn a_peer_that_fills_the_catalogue_loses_its_own_share_and_nobody_elses() {
    let mut conn = database();
    let of = |n: u8| at(&publisher(n), "web", 0, 0);
    for n in 1..=5 {
        put_from(&mut conn, &of(n), 1, later(u64::from(n)));
    }
    put_from(&mut conn, &of(6), 2, NOW);
    pretend_room(&conn, 0);
    assert_eq!(put_from(&mut conn, &of(7), 1, NOW), Outcome::Refused(Refusal::Full), "it has the most");
    assert_eq!(put_from(&mut conn, &of(8), 2, NOW), Outcome::Added);
    assert_eq!(put_from(&mut conn, &of(9), 3, NOW), Outcome::Added);
    let listed = |n: u8| get(&conn, &of(n).package_id()).unwrap().is_some();
    assert_eq!(
        (1..=9).filter(|n| listed(*n)).collect::<Vec<_>>(),
        [1, 2, 3, 6, 8, 9],
        "the newest of the most went"
    );
    assert_eq!(
        number(
            &conn,
            "SELECT CAST(group_concat(heads, '') AS INTEGER) FROM (SELECT heads FROM catalog_sources ORDER BY source)"
        ),
        321
    );
    assert_eq!(put_from(&mut conn, &of(7), 2, NOW), Outcome::Added);
    assert_eq!(
        put_from(&mut conn, &of(4), 2, NOW),
        Outcome::Refused(Refusal::Full),
        "by now it has the most itself"
    );
}

#[test]
fn of_a_share_goes_first_what_nobody_provides_and_then_what_was_confirmed_longest_ago() {
    let mut conn = database();
    let of = |n: u8, released_at: Timestamp| {
        let publisher = publisher(n);
        let head = offering(&publisher, &format!("web-{n}"));
        Head { released_at, ..head.head().clone() }.sign(&publisher).unwrap()
    };
    for n in 1..=5 {
        put_from(
            &mut conn,
            &of(n, NOW.minus(std::time::Duration::from_secs(u64::from(9 - n) * DAY))),
            1,
            NOW,
        );
    }
    let root = |n: u8| of(n, NOW).head().latest.as_ref().unwrap().root;
    within(&mut conn, |tx| {
        provided(tx, &root(1), &source(1)).unwrap();
        keep(tx, &of(2, NOW).package_id()).unwrap();
    });
    pretend_room(&conn, 0);
    let listed = |conn: &Connection| -> Vec<u8> {
        (1..=9).filter(|n| get(conn, &of(*n, NOW).package_id()).unwrap().is_some()).collect()
    };
    let stale = NOW.minus(std::time::Duration::from_secs(400 * DAY));
    assert_eq!(
        put_from(&mut conn, &of(6, stale), 1, NOW),
        Outcome::Refused(Refusal::Full),
        "the stalest itself"
    );
    for (n, left) in [(6, vec![1, 2, 4, 5, 6]), (7, vec![1, 2, 5, 6, 7]), (8, vec![1, 2, 6, 7, 8])] {
        assert_eq!(put_from(&mut conn, &of(n, NOW), 1, NOW), Outcome::Added);
        assert_eq!(listed(&conn), left);
    }
    assert_eq!(
        put_from(&mut conn, &of(9, NOW), 1, NOW),
        Outcome::Added,
        "older than it is only what is provided"
    );
    assert_eq!(listed(&conn), [2, 6, 7, 8, 9]);
}

#[test]
fn ten_thousand_stale_heads_of_one_source_push_out_nobody_elses() {
    let mut conn = database();
    let honest: Vec<_> = (1..=20).map(|n| offering(&publisher(n), "web")).collect();
    for (n, head) in honest.iter().enumerate() {
        put_from(&mut conn, head, u8::try_from(n % 4).unwrap() + 2, NOW);
    }
    within(&mut conn, |tx| {
        for n in 0..10_000 {
            tx.execute(
                "INSERT INTO catalog_heads (id, publisher, name, bytes, released, confirmed, received, source, offers,
                                            item)
                 VALUES (?1, ?2, 'x', x'', 0, 0, 0, ?3, 0, zeroblob(32))",
                params![format!("stale-{n}"), [7u8; 32], source(1).as_bytes()],
            )
            .unwrap();
        }
        counts::recount(tx).unwrap();
    });
    pretend_room(&conn, 0);
    for n in 100..=120 {
        assert_eq!(put_from(&mut conn, &offering(&publisher(n), "new"), 2, NOW), Outcome::Added);
    }
    let flood = offering(&publisher(200), "flood");
    let old =
        Head { released_at: Timestamp::from_secs(0), ..flood.head().clone() }.sign(&publisher(200)).unwrap();
    assert_eq!(put_from(&mut conn, &old, 1, NOW), Outcome::Refused(Refusal::Full));
    assert!(honest.iter().all(|head| get(&conn, &head.package_id()).unwrap().is_some()));
}

#[test]
fn there_is_always_room_for_what_is_our_own_or_kept() {
    let mut conn = database();
    let of = |n: u8| at(&publisher(n), "web", 0, 0);
    put_from(&mut conn, &of(1), 1, NOW);
    within(&mut conn, |tx| keep(tx, &of(1).package_id()).unwrap());
    put_from(&mut conn, &of(2), 1, NOW);
    pretend_room(&conn, 0);
    within(&mut conn, |tx| {
        assert_eq!(insert(tx, &of(3), &Source::own(), NOW).unwrap(), Outcome::Added);
        assert!(get(tx, &of(2).package_id()).unwrap().is_none(), "it gave way");
        assert_eq!(insert(tx, &of(4), &Source::own(), NOW).unwrap(), Outcome::Added);
        keep(tx, &of(5).package_id()).unwrap();
        assert_eq!(insert(tx, &of(5), &source(1), NOW).unwrap(), Outcome::Added);
        for n in [1, 3, 4, 5] {
            assert!(get(tx, &of(n).package_id()).unwrap().is_some(), "{n}");
        }
    });
}

#[test]
fn what_others_told_is_not_taken_over_by_telling_it_again() {
    let (mut conn, publisher) = (database(), publisher(1));
    for n in 2..=4 {
        put_from(&mut conn, &at(&self::publisher(n), "web", 0, 0), 1, NOW);
    }
    let heads = |conn: &Connection, peer: u8| {
        let sql = "SELECT count(*) FROM catalog_heads WHERE name = 'own' AND source = ?1";
        conn.query_row(sql, params![source(peer).as_bytes()], |row| row.get::<_, i64>(0)).unwrap()
    };
    put_from(&mut conn, &at(&publisher, "own", 0, 0), 2, NOW);
    put_from(&mut conn, &at(&publisher, "own", 1, 0), 1, NOW);
    assert_eq!((heads(&conn, 1), heads(&conn, 2)), (0, 1));
    put_from(&mut conn, &at(&publisher, "own", 2, 0), 3, NOW);
    assert_eq!((heads(&conn, 2), heads(&conn, 3)), (0, 1));
}

#[test]
fn a_flood_of_heads_that_are_gone_flushes_its_own_memory_only() {
    let mut conn = database();
    let of = |n: u8| at(&publisher(n), "web", 0, 0);
    put_from(&mut conn, &of(1), 2, NOW);
    put_from(&mut conn, &of(2), 1, NOW);
    within(&mut conn, |tx| keep(tx, &of(2).package_id()).unwrap());
    for n in 3..=9 {
        put_from(&mut conn, &of(n), 1, later(u64::from(n)));
    }
    evict(&mut conn, |_| true);
    within(&mut conn, |tx| crate::catalog::share::forget_oldest(tx, 4)).unwrap();
    let left = |n: &u8| seen(&conn, &of(*n).package_id()).unwrap().is_some();
    assert_eq!((1..=9).filter(left).collect::<Vec<_>>(), [1, 2, 8, 9]);
}
