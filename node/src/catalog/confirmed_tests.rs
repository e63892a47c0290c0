//! Tests of which confirmations are kept, and of what they do for heads.

use std::time::Duration;

use super::*;
use crate::{
    catalog::{Outcome, Refusal, after, changes_after, fixture::*, get, keep, newest_position},
    identity::{Publisher, SecretKey},
    release::{Confirmation, VerifiedHead},
};

const INTERVAL: Duration = Duration::from_secs(30 * DAY);

fn made(by: &Publisher, heads: &[&VerifiedHead], as_of: Timestamp) -> VerifiedConfirmation {
    Confirmation::make(by, &Heads::of(heads.iter().copied()), None, as_of, INTERVAL).unwrap().0
}

fn take(conn: &mut Connection, candidate: &VerifiedConfirmation) -> Confirming {
    within(conn, |tx| confirm(tx, Door::Gossip, candidate, None).unwrap())
}

fn confirmed(conn: &Connection, head: &VerifiedHead) -> Timestamp {
    let sql = "SELECT confirmed FROM catalog_heads WHERE id = ?1";
    let secs: i64 = conn.query_row(sql, params![head.package_id().to_string()], |row| row.get(0)).unwrap();
    Timestamp::from_secs(from_ordered(secs))
}

#[test]
fn a_confirmation_is_kept_where_a_head_of_its_publisher_is_listed_and_dates_the_heads_that_it_names() {
    let (mut conn, publisher) = (database(), publisher(1));
    let [web, other] = ["web", "other"].map(|name| offering(&publisher, name));
    let first = made(&publisher, &[&web], later(DAY));
    assert_eq!(take(&mut conn, &first), Confirming::Unlisted);
    for head in [&web, &other] {
        put(&mut conn, head, NOW);
    }
    assert!(take(&mut conn, &first).is_kept());
    assert_eq!(held(&conn, publisher.id()).unwrap().unwrap().bytes, first.bytes());
    assert_eq!((confirmed(&conn, &web), confirmed(&conn, &other)), (later(DAY), NOW));
    let second = made(&publisher, &[&web, &other], later(2 * DAY));
    assert!(take(&mut conn, &second).is_kept());
    assert_eq!((confirmed(&conn, &web), confirmed(&conn, &other)), (later(2 * DAY), later(2 * DAY)));
    assert!(!take(&mut conn, &first).is_kept(), "replayed");
}

#[test]
fn a_head_that_is_listed_after_its_confirmation_has_the_date_of_it() {
    let (mut conn, publisher) = (database(), publisher(1));
    let [web, late, other] = ["web", "late", "other"].map(|name| offering(&publisher, name));
    put(&mut conn, &web, NOW);
    assert!(take(&mut conn, &made(&publisher, &[&web, &late], later(DAY))).is_kept());
    for head in [&late, &other] {
        put(&mut conn, head, later(2 * DAY));
    }
    assert_eq!((confirmed(&conn, &late), confirmed(&conn, &other)), (later(DAY), NOW));
}

#[test]
fn where_the_confirmation_names_a_block_what_came_late_is_dated_by_the_next_one() {
    let (mut conn, publisher) = (database(), publisher(1));
    let heads: Vec<_> = (0..70).map(|n| offering(&publisher, &format!("web-{n}"))).collect();
    let list = Heads::of(&heads);
    let confirm_at = |conn: &mut Connection, at: u64| {
        let made = Confirmation::make(&publisher, &list, None, later(at), INTERVAL).unwrap().0;
        assert_eq!(made.heads(), None, "there are too many for it");
        assert!(within(conn, |tx| confirm(tx, Door::Gossip, &made, Some(&list)).unwrap()).is_kept());
    };
    put(&mut conn, &heads[0], NOW);
    confirm_at(&mut conn, 60);
    put(&mut conn, &heads[1], NOW);
    assert_eq!((confirmed(&conn, &heads[0]), confirmed(&conn, &heads[1])), (later(60), NOW));
    confirm_at(&mut conn, 119);
    assert_eq!(confirmed(&conn, &heads[1]), NOW, "not each time that a head came");
    put(&mut conn, &heads[2], NOW);
    confirm_at(&mut conn, 179);
    assert_eq!(confirmed(&conn, &heads[1]), later(179), "soon after the one before");
}

#[test]
fn one_confirmation_after_another_does_not_have_all_heads_read_each_time() {
    let (mut conn, publisher) = (database(), publisher(1));
    let web = offering(&publisher, "web");
    put(&mut conn, &web, NOW);
    let hour = 3600;
    for (at, dated) in [(hour, hour), (2 * hour, hour), (12 * hour, hour), (13 * hour, 13 * hour)] {
        assert!(take(&mut conn, &made(&publisher, &[&web], later(at))).is_kept());
        assert_eq!(confirmed(&conn, &web), later(dated), "after {at} seconds");
    }
}

#[test]
fn neighbours_are_told_once_a_day() {
    let (mut conn, publisher) = (database(), publisher(1));
    let web = offering(&publisher, "web");
    put(&mut conn, &web, NOW);
    let hour = 3600;
    for (at, passed_on) in [
        (0, true),
        (8 * hour, false),
        (23 * hour, false),
        (24 * hour, true),
        (40 * hour, false),
        (48 * hour, true),
    ] {
        let taken = take(&mut conn, &made(&publisher, &[&web], later(at)));
        assert_eq!((taken.is_kept(), taken.is_passed_on()), (true, passed_on), "after {at} seconds");
    }
    assert!(!take(&mut conn, &made(&publisher, &[&web], later(48 * hour))).is_passed_on(), "known");
    // A record of the DHT may be faster than gossip, which goes on all the same.
    let next = made(&publisher, &[&web], later(72 * hour));
    let stored = within(&mut conn, |tx| confirm(tx, Door::Record, &next, None).unwrap());
    assert_eq!((stored.is_kept(), stored.is_passed_on()), (true, false));
    assert_eq!([0, 1].map(|_| take(&mut conn, &next).is_passed_on()), [true, false]);
}

#[test]
fn replaced_keys_and_other_chains_confirm_nothing() {
    let (mut conn, old) = (database(), publisher(1));
    let rotated = |seed| old.rotated(SecretKey::from_bytes(&[seed; 32]), later(1)).unwrap();
    let (new, thief) = (rotated(9), rotated(8));
    let web = offering(&new, "web");
    put(&mut conn, &web, NOW);
    assert_eq!(take(&mut conn, &made(&old, &[&web], later(DAY))), Confirming::Replaced);
    let forked = take(&mut conn, &made(&thief, &[&web], later(DAY)));
    assert_eq!(forked, Confirming::Judged { verdict: Verdict::Fork, pass_on: false });
    assert!(take(&mut conn, &made(&new, &[&web], later(DAY))).is_kept());
}

#[test]
fn a_longer_chain_of_an_old_key_cuts_nobody_off_who_has_a_package_of_the_owner() {
    let (mut conn, old) = (database(), publisher(1));
    let rotated = |by: &Publisher, seed| by.rotated(SecretKey::from_bytes(&[seed; 32]), later(1)).unwrap();
    let (owner, thief) = (rotated(&old, 9), rotated(&rotated(&old, 8), 7));
    let (web, junk) = (offering(&owner, "web"), offering(&thief, "junk"));
    put(&mut conn, &web, NOW);
    put(&mut conn, &junk, NOW);
    let confirmed = made(&owner, &[&web], later(DAY));
    assert_eq!(take(&mut conn, &confirmed), Confirming::Replaced, "nothing here says which of the two it is");
    within(&mut conn, |tx| keep(tx, &web.package_id())).unwrap();
    assert!(take(&mut conn, &confirmed).is_kept());
    let by_old = take(&mut conn, &made(&old, &[&web], later(2 * DAY)));
    assert_eq!(by_old, Confirming::Replaced, "the owner has replaced it");
}

#[test]
fn a_confirmation_tells_of_revoked_keys_where_no_head_does() {
    let (mut conn, old) = (database(), publisher(1));
    let change = crate::identity::publisher::Change {
        secret: Some(SecretKey::from_bytes(&[9; 32])),
        revoked: vec![old.public_key()],
        ..Default::default()
    };
    let owner = old.changed(change, &[], later(1)).unwrap();
    let [before, stolen, more] = ["before", "stolen", "more"].map(|name| offering(&old, name));
    put(&mut conn, &before, NOW);
    put(&mut conn, &stolen, later(2));
    // Nobody gives the log of what its publisher published before, so that nothing can be signed again.
    let told = take(&mut conn, &made(&owner, &[], later(3)));
    assert!(told.is_kept() && told.is_passed_on());
    let listed = |conn: &Connection, head: &VerifiedHead| get(conn, &head.package_id()).unwrap().is_some();
    assert!(listed(&conn, &before) && !listed(&conn, &stolen));
    assert_eq!(put(&mut conn, &more, later(4)), Outcome::Refused(Refusal::Revoked));
    assert!(put(&mut conn, &offering(&owner, "stolen"), later(5)).is_news());
}

#[test]
fn readers_are_told_of_confirmations_where_they_stand_among_the_heads() {
    let mut conn = database();
    let heads: Vec<_> = (1..=3).map(|n| offering(&publisher(n), "web")).collect();
    for head in &heads {
        put(&mut conn, head, NOW);
    }
    let first = made(&publisher(1), &[&heads[0]], later(DAY));
    take(&mut conn, &first);
    let all = changes_after(&conn, 0, 99, usize::MAX).unwrap();
    assert_eq!((all.heads.len(), all.heads[3].as_slice()), (4, first.bytes()));
    assert_eq!(after(&conn, 0, 99, usize::MAX).unwrap().heads.len(), 3, "heads alone");
    let second = made(&publisher(1), &[&heads[0]], later(2 * DAY));
    take(&mut conn, &second);
    let more = changes_after(&conn, all.next, 99, usize::MAX).unwrap();
    assert_eq!(more.heads, [second.bytes()]);
    put(&mut conn, &offering(&publisher(4), "web"), NOW);
    assert_eq!(changes_after(&conn, more.next, 99, usize::MAX).unwrap().heads.len(), 1);
    assert_eq!(newest_position(&conn).unwrap(), 6);
}

#[test]
fn one_that_is_late_is_away_and_where_all_are_late_the_reason_is_here() {
    let mut conn = database();
    for n in 1..=4 {
        let (publisher, at) = (publisher(n), later(u64::from(n) * DAY));
        let web = offering(&publisher, "web");
        put(&mut conn, &web, NOW);
        take(&mut conn, &made(&publisher, &[&web], at));
    }
    let at = |day: u64, own: &[PublisherId]| promises(&conn, own, later(day * DAY)).unwrap();
    assert_eq!(at(20, &[]), Promises { publishers: 4, overdue: 0 });
    assert_eq!(at(32, &[]), Promises { publishers: 4, overdue: 1 });
    assert!(!at(32, &[]).are_all_overdue() && at(40, &[]).are_all_overdue());
    assert_eq!(at(40, &[publisher(1).id(), publisher(99).id()]), Promises { publishers: 3, overdue: 3 });
    assert!(!Promises { publishers: 2, overdue: 2 }.are_all_overdue(), "two are no crowd");
}
