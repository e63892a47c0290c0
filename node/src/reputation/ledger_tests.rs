//! Tests of the ledger, on a database in memory.

use libp2p::identity::Keypair;
use proptest::prelude::*;

use super::*;
use crate::{
    content::Codec,
    reputation::{Recent, SCHEMA},
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn
}

fn peer(n: u16) -> PeerId {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    PeerId::from(Keypair::ed25519_from_bytes(seed).unwrap().public())
}

fn root(n: u64) -> ContentId {
    ContentId::of(Codec::DagPb, &n.to_be_bytes())
}

fn enter(conn: &mut Connection, peer: &PeerId, events: &[Event], now: Timestamp) -> Option<Ban> {
    let tx = conn.transaction().unwrap();
    let mut imposed = None;
    for event in events {
        imposed = record(&tx, peer, event, now).unwrap().or(imposed);
    }
    tx.commit().unwrap();
    imposed
}

fn success(n: u64, bytes: u64) -> Event {
    Event::RetrievalSucceeded { root: root(n), blocks: 3, bytes, duration: Duration::from_millis(20) }
}

fn failure(n: u64) -> Event {
    Event::RetrievalFailed {
        root: root(n),
        cause: Cause::Timeout,
        blocks: 0,
        bytes: 0,
        duration: Duration::from_secs(10),
    }
}

#[test]
fn counters_show_exactly_what_happened_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let conn = Connection::open(folder.path().join("ledger")).unwrap();
        conn.execute_batch(SCHEMA).unwrap();
        conn
    };
    let mut conn = open();
    let peer = peer(1);
    for n in 0..5 {
        enter(&mut conn, &peer, &[success(n % 2, 100)], NOW);
    }
    enter(&mut conn, &peer, &[failure(9), failure(9), Event::Served { bytes: 42 }], NOW);
    drop(conn);

    let record = get(&open(), &peer).unwrap();
    assert_eq!((record.successful, record.failed), (5, 2));
    assert_eq!((record.blocks_good, record.bytes_received, record.bytes_sent), (15, 500, 42));
    assert_eq!((record.packages_provided, record.packages_claimed), (2, 2));
    assert_eq!(record.score().get(), 5.0 / 7.0);
    assert_eq!(record.last_seen, Some(NOW));
    assert!(record.derivation(NOW).contains("5 / (5 + 2) = 0.7143"), "{}", record.derivation(NOW));
}

#[test]
fn an_unknown_peer_has_a_perfect_score_and_no_confidence() {
    let record = get(&database(), &peer(1)).unwrap();
    assert!(!record.is_known());
    assert_eq!(record.score(), Score::NEW);
    assert!(record.confidence(NOW) < 0.03);
}

#[test]
fn a_success_without_a_block_of_the_peer_credits_nothing() {
    let mut conn = database();
    let none = Event::RetrievalSucceeded { root: root(1), blocks: 0, bytes: 0, duration: Duration::ZERO };
    enter(&mut conn, &peer(1), &[none], NOW);
    let record = get(&conn, &peer(1)).unwrap();
    assert_eq!((record.successful, record.packages_provided, record.events), (0, 0, 0));
}

#[test]
fn a_claim_is_no_proof_until_a_block_came() {
    let mut conn = database();
    let peer = peer(1);
    enter(&mut conn, &peer, &[Event::Claimed { root: root(1) }, Event::Claimed { root: root(1) }], NOW);
    enter(&mut conn, &peer, &[Event::Claimed { root: root(2) }], NOW);
    let record = get(&conn, &peer).unwrap();
    assert_eq!((record.packages_provided, record.packages_claimed), (0, 2));

    enter(&mut conn, &peer, &[success(1, 10), success(1, 10)], NOW);
    let record = get(&conn, &peer).unwrap();
    assert_eq!((record.packages_provided, record.packages_claimed), (1, 2));
    enter(&mut conn, &peer, &[Event::Claimed { root: root(1) }], NOW);
    assert_eq!(get(&conn, &peer).unwrap().packages_claimed, 2, "a proof stays one");
}

#[test]
fn claims_of_one_peer_are_bounded() {
    let mut conn = database();
    let peer = peer(1);
    let claims: Vec<_> =
        (0..CLAIMS_PER_PEER_MAX as u64 + 50).map(|n| Event::Claimed { root: root(n) }).collect();
    enter(&mut conn, &peer, &claims, NOW);
    assert_eq!(get(&conn, &peer).unwrap().packages_claimed, CLAIMS_PER_PEER_MAX as u64);
}

#[test]
fn claims_of_all_peers_are_bounded_and_the_most_silent_lose_theirs() {
    let mut conn = database();
    enter(&mut conn, &peer(1), &[Event::Claimed { root: root(1) }, success(2, 10)], NOW);
    enter(&mut conn, &peer(2), &[Event::Claimed { root: root(1) }], NOW.plus(Duration::from_secs(9)));
    conn.execute("UPDATE reputation_totals SET claims = ?1", params![CLAIMS_MAX as i64]).unwrap();
    enter(&mut conn, &peer(3), &[Event::Claimed { root: root(1) }], NOW);
    let claimed = |n| get(&conn, &peer(n)).unwrap().packages_claimed;
    assert_eq!([claimed(1), claimed(2), claimed(3)], [1, 1, 1], "what was proved stays");
    let total: i64 = conn.query_row("SELECT claims FROM reputation_totals", [], |row| row.get(0)).unwrap();
    assert_eq!(total, CLAIMS_MAX as i64);
}

#[test]
fn salvaged_rows_are_counted_anew() {
    let mut conn = database();
    enter(&mut conn, &peer(1), &[success(1, 1), success(2, 1), Event::Claimed { root: root(3) }], NOW);
    conn.execute_batch(
        "UPDATE reputation_totals SET claims = 99; UPDATE reputation_peers SET claims = 7, provided = 9",
    )
    .unwrap();
    let tx = conn.transaction().unwrap();
    rebuild(&tx).unwrap();
    let record = get(&tx, &peer(1)).unwrap();
    assert_eq!((record.packages_provided, record.packages_claimed), (2, 3));
    let total: i64 = tx.query_row("SELECT claims FROM reputation_totals", [], |row| row.get(0)).unwrap();
    assert_eq!(total, 1);
}

#[test]
fn one_forged_block_bans_at_once_whatever_came_before() {
    let mut conn = database();
    let peer = peer(1);
    for n in 0..50 {
        enter(&mut conn, &peer, &[success(n, 1 << 20)], NOW);
    }
    assert!(!ban::is_banned(&conn, &peer, NOW).unwrap());
    let forged = Event::ForgedBlock { block: root(1) };
    let imposed = enter(&mut conn, &peer, &[forged, forged], NOW).unwrap();
    assert_eq!(imposed.until, NOW.plus(ban::FIRST));
    assert!(ban::is_banned(&conn, &peer, NOW).unwrap());
    assert!(!ban::is_banned(&conn, &peer, imposed.until).unwrap());
    assert_eq!(ban::all(&conn, NOW).unwrap(), [(peer, imposed.clone())]);
    assert!(get(&conn, &peer).unwrap().confidence(NOW) < 0.5);
    assert_eq!(get(&conn, &peer).unwrap().blocks_forged, 2);

    let again = enter(&mut conn, &peer, &[forged], imposed.until).unwrap();
    assert_eq!(again.until.since(imposed.until), ban::FIRST * 2);
}

#[test]
fn a_ban_by_hand_can_be_lifted() {
    let mut conn = database();
    let tx = conn.transaction().unwrap();
    ban::by_hand(&tx, &peer(1), Timestamp::from_secs(u64::MAX), "spam").unwrap();
    assert!(ban::is_banned(&tx, &peer(1), NOW).unwrap());
    assert!(ban::lift(&tx, &peer(1)).unwrap());
    assert!(!ban::lift(&tx, &peer(1)).unwrap());
    assert!(!ban::is_banned(&tx, &peer(1), NOW).unwrap());
}

#[test]
fn the_history_is_a_ring_newest_first_that_claims_cannot_flush() {
    let mut conn = database();
    let peer = peer(1);
    let events: Vec<_> = (0..PEER_EVENTS_MAX as u64 + 10).map(|n| success(n, n)).collect();
    enter(&mut conn, &peer, &events, NOW);
    enter(&mut conn, &peer, &[failure(5)], NOW);
    enter(
        &mut conn,
        &peer,
        &[Event::Claimed { root: root(9) }, Event::Seen, Event::Served { bytes: 1 }],
        NOW,
    );

    let last = history(&conn, &peer, 2).unwrap();
    assert_eq!(last[0].outcome, "timeout");
    assert_eq!(last[0].subject, root(5).to_string());
    assert_eq!((last[1].outcome.as_str(), last[1].bytes), ("ok", PEER_EVENTS_MAX as u64 + 9));
    let everything = history(&conn, &peer, usize::MAX).unwrap();
    assert_eq!(everything.len(), PEER_EVENTS_MAX);
    assert!(everything.is_sorted_by(|a, b| a.number > b.number));
}

#[test]
fn full_counters_saturate() {
    let mut conn = database();
    let peer = peer(1);
    enter(&mut conn, &peer, &[success(1, u64::MAX), success(1, u64::MAX)], NOW);
    conn.execute(
        "UPDATE reputation_peers SET successful = ?1, failed = ?1, bytes_sent = ?1",
        params![i64::MAX],
    )
    .unwrap();
    enter(&mut conn, &peer, &[success(1, 1), failure(1), Event::Served { bytes: u64::MAX }], NOW);
    let record = get(&conn, &peer).unwrap();
    assert_eq!((record.successful, record.failed), (i64::MAX as u64, i64::MAX as u64));
    assert_eq!(record.score().get(), 0.5);
}

#[test]
fn damaged_rows_give_numbers_in_range() {
    let mut conn = database();
    let peer = peer(1);
    enter(&mut conn, &peer, &[success(1, 10)], NOW);
    conn.execute(
        "UPDATE reputation_peers SET successful = -5, good = 9e999, bad = -9e999, evidence_at = -1",
        [],
    )
    .unwrap();
    conn.execute("INSERT INTO reputation_peers (peer, first_seen, last_seen) VALUES (x'00ff', 0, 0)", [])
        .unwrap();
    let records = all(&conn, None).unwrap();
    assert_eq!(records.len(), 1, "a damaged id is passed over");
    assert_eq!(records[0].score(), Score::NEW);
    assert!((0.0..=1.0).contains(&records[0].confidence(NOW)));
}

#[test]
fn the_filter_is_inclusive() {
    let mut conn = database();
    enter(&mut conn, &peer(1), &[success(1, 1), failure(1)], NOW);
    enter(&mut conn, &peer(2), &[failure(1)], NOW);
    let at_least = |min: f64| all(&conn, Some(min.try_into().unwrap())).unwrap().len();
    assert_eq!([at_least(0.0), at_least(0.5), at_least(0.51)], [2, 1, 0]);
}

#[test]
fn peers_without_evidence_make_room_first_the_most_silent_of_them_first() {
    let mut conn = database();
    let later = |secs| NOW.plus(Duration::from_secs(secs));
    enter(&mut conn, &peer(1), &[success(1, 1)], NOW);
    enter(&mut conn, &peer(2), &[Event::Seen], later(2));
    enter(&mut conn, &peer(3), &[Event::Seen, Event::Claimed { root: root(1) }], later(1));
    enter(&mut conn, &peer(4), &[Event::Seen], later(3));
    let known =
        |conn: &Connection| (1..=4).filter(|n| get(conn, &peer(*n)).unwrap().is_known()).collect::<Vec<_>>();
    for (room, left) in [(4, vec![1, 2, 3, 4]), (3, vec![1, 2, 4]), (2, vec![1, 4]), (1, vec![4])] {
        let tx = conn.transaction().unwrap();
        make_room(&tx, &peer(4), room, later(3)).unwrap();
        tx.commit().unwrap();
        assert_eq!(known(&conn), left);
    }
    let left: i64 = conn
        .query_row(
            "SELECT (SELECT claims FROM reputation_totals) + (SELECT count(*) FROM reputation_packages)
                  + (SELECT count(*) FROM reputation_events)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0, "nothing of a forgotten peer stays");
}

#[test]
fn a_ban_outlives_merit_when_there_is_no_room() {
    let mut conn = database();
    enter(&mut conn, &peer(1), &[Event::Seen], NOW);
    enter(&mut conn, &peer(2), &[success(1, 1)], NOW.plus(Duration::from_secs(1)));
    enter(&mut conn, &peer(3), &[Event::ForgedBlock { block: root(1) }], NOW);
    let tx = conn.transaction().unwrap();
    ban::by_hand(&tx, &peer(1), Timestamp::from_secs(u64::MAX), "spam").unwrap();
    make_room(&tx, &peer(9), 2, NOW).unwrap();
    assert!(!get(&tx, &peer(2)).unwrap().is_known());
    make_room(&tx, &peer(9), 0, NOW).unwrap();
    assert!(ban::is_banned(&tx, &peer(1), NOW).unwrap(), "what the user asked for is never forgotten");
    assert!(!ban::is_banned(&tx, &peer(3), NOW).unwrap());
}

#[test]
fn signs_of_life_are_written_in_one_batch_and_never_go_back() {
    let mut conn = database();
    let mut recent = Recent::new();
    recent.note(peer(1), NOW);
    recent.note(peer(2), NOW.plus(Duration::from_secs(100)));
    enter(&mut conn, &peer(1), &[Event::Seen], NOW.plus(Duration::from_secs(5)));
    let tx = conn.transaction().unwrap();
    assert_eq!(recent.flush(&tx, NOW.plus(Duration::from_secs(10))).unwrap(), 2);
    tx.commit().unwrap();
    assert!(recent.is_empty());
    assert_eq!(get(&conn, &peer(1)).unwrap().last_seen, Some(NOW.plus(Duration::from_secs(5))));
    assert_eq!(get(&conn, &peer(2)).unwrap().last_seen, Some(NOW.plus(Duration::from_secs(10))));
}

#[test]
fn a_full_batch_takes_nobody_new() {
    let mut recent = Recent::new();
    let id = |n: u16| {
        PeerId::from_multihash(libp2p::multihash::Multihash::wrap(0, &n.to_be_bytes()).unwrap()).unwrap()
    };
    for n in 0..u16::try_from(crate::limits::RECENT_PEERS_MAX).unwrap() {
        assert!(!recent.is_full());
        recent.note(id(n), NOW);
    }
    assert!(recent.note(id(60_000), NOW));
    assert_eq!(recent.len(), crate::limits::RECENT_PEERS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_ledger_equals_a_recount(events in proptest::collection::vec((0u64..3, 0u64..4, 0u64..1 << 40), 0..40)) {
        let mut conn = database();
        let peer = peer(1);
        let events: Vec<_> = events.iter().map(|(kind, n, bytes)| match kind {
            0 => success(*n, *bytes),
            1 => failure(*n),
            _ => Event::Claimed { root: root(*n) },
        }).collect();
        enter(&mut conn, &peer, &events, NOW);
        let record = get(&conn, &peer).unwrap();
        let good = events.iter().filter(|e| matches!(e, Event::RetrievalSucceeded { .. })).count() as u64;
        let bad = events.iter().filter(|e| matches!(e, Event::RetrievalFailed { .. })).count() as u64;
        prop_assert_eq!((record.successful, record.failed), (good, bad));
        prop_assert_eq!(record.score(), score(good, bad));
        prop_assert_eq!(record.events, good + bad);
        prop_assert!(record.packages_provided <= record.packages_claimed);
        prop_assert!(record.packages_claimed <= 4);
    }
}

#[test]
fn a_forged_head_is_a_ban_that_ends_and_says_nothing_of_blocks() {
    let mut conn = database();
    let ban = enter(&mut conn, &peer(1), &[Event::ForgedHead, Event::ForgedHead], NOW).unwrap();
    assert!(ban::is_banned(&conn, &peer(1), NOW).unwrap());
    assert!(!ban::is_banned(&conn, &peer(1), ban.until).unwrap());
    let record = get(&conn, &peer(1)).unwrap();
    assert_eq!((record.failed, record.blocks_forged, record.evidence), (0, 0, Evidence::default()));
    assert_eq!(history(&conn, &peer(1), 9).unwrap().len(), 1, "one ban");
}

#[test]
fn only_what_a_peer_sends_is_a_sign_of_life() {
    let mut conn = database();
    let (silent, heard) = (peer(1), peer(2));
    let mute = [failure(1), Event::Served { bytes: 9 }];
    enter(&mut conn, &silent, &mute, NOW);
    let record = get(&conn, &silent).unwrap();
    assert!(record.is_known());
    assert_eq!((record.first_seen, record.last_seen), (Some(NOW), None));
    enter(&mut conn, &heard, &[Event::Seen], NOW);
    let later = NOW.plus(Duration::from_secs(60));
    enter(&mut conn, &heard, &mute, later);
    assert_eq!(get(&conn, &heard).unwrap().last_seen, Some(NOW));
    for event in [success(1, 9), Event::Claimed { root: root(2) }, Event::ForgedHead, Event::Seen] {
        enter(&mut conn, &silent, &[event], later);
        assert_eq!(get(&conn, &silent).unwrap().last_seen.unwrap(), later);
    }
}
