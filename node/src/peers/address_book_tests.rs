//! Tests of the address book, on a database in memory.

use std::time::Duration;

use libp2p::multihash::Multihash;

use super::*;
use crate::peers::SCHEMA;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn
}

fn peer(n: u16) -> PeerId {
    PeerId::from_multihash(Multihash::wrap(0, &n.to_be_bytes()).unwrap()).unwrap()
}

fn address(n: usize) -> Multiaddr {
    format!("/ip4/198.51.100.1/tcp/{}", 1 + n).parse().unwrap()
}

fn later(secs: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(secs))
}

fn within<T>(conn: &mut Connection, change: impl FnOnce(&Transaction<'_>) -> T) -> T {
    let tx = conn.transaction().unwrap();
    let result = change(&tx);
    tx.commit().unwrap();
    result
}

fn held(conn: &Connection, peer: &PeerId) -> Vec<Multiaddr> {
    addresses(conn, peer).unwrap().into_iter().map(|known| known.address).collect()
}

const DHT: Source = Source::Dht(Scope::Public);

#[test]
fn the_way_back_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let conn = Connection::open(folder.path().join("book")).unwrap();
        conn.execute_batch(SCHEMA).unwrap();
        conn
    };
    let mut conn = open();
    within(&mut conn, |tx| succeeded(tx, &peer(1), &address(0), NOW)).unwrap();
    drop(conn);
    let saved = best(&open(), 10, later(1)).unwrap();
    assert_eq!(saved, [Saved { peer: peer(1), last_success: Some(NOW), addresses: vec![address(0)] }]);
    let dialable: Vec<_> = saved[0].dialable().map(|address| address.to_string()).collect();
    assert_eq!(dialable, [format!("{}/p2p/{}", address(0), peer(1))]);
}

#[test]
fn a_thousand_addresses_in_one_message_are_cut_and_what_worked_stays() {
    let mut conn = database();
    within(&mut conn, |tx| succeeded(tx, &peer(1), &address(0), NOW)).unwrap();
    let flood: Vec<_> = (1..1000).map(address).collect();
    within(&mut conn, |tx| learned(tx, &peer(1), &flood, Source::Identify(Scope::Public), later(1))).unwrap();
    let held = held(&conn, &peer(1));
    assert_eq!(held.len(), ADDRESSES_PER_PEER_MAX);
    assert_eq!(held[0], address(0));
}

#[test]
fn addresses_that_the_policy_refuses_are_not_kept() {
    let mut conn = database();
    let mine = peer(1);
    let hostile: Vec<Multiaddr> = [
        "/ip4/127.0.0.1/tcp/22".to_owned(),
        "/ip4/192.168.0.1/tcp/80".to_owned(),
        "/ip4/169.254.169.254/tcp/80".to_owned(),
        "/dns4/router.lan/tcp/80".to_owned(),
        "/ip4/0.0.0.0/tcp/4001".to_owned(),
        format!("{}/p2p/{}", address(7), peer(2)),
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    let taken = within(&mut conn, |tx| learned(tx, &mine, &hostile, DHT, NOW)).unwrap();
    assert_eq!((taken, count(&conn).unwrap()), (0, 0));
    let on_lan = Source::Identify(Scope::Private);
    assert_eq!(within(&mut conn, |tx| learned(tx, &mine, &hostile, on_lan, NOW)).unwrap(), 1);
}

#[test]
fn an_address_is_one_with_or_without_its_peer() {
    let mut conn = database();
    let full = address(0).with(Protocol::P2p(peer(1)));
    let taken = within(&mut conn, |tx| learned(tx, &peer(1), &[address(0), full], DHT, NOW)).unwrap();
    assert_eq!((taken, held(&conn, &peer(1))), (1, vec![address(0)]));
}

#[test]
fn addresses_are_tried_by_last_success_then_by_failures() {
    let mut conn = database();
    within(&mut conn, |tx| {
        learned(tx, &peer(1), &(0..4).map(address).collect::<Vec<_>>(), DHT, NOW).unwrap();
        succeeded(tx, &peer(1), &address(2), later(1)).unwrap();
        succeeded(tx, &peer(1), &address(1), later(2)).unwrap();
        failed(tx, &peer(1), &address(0)).unwrap();
    });
    assert_eq!(held(&conn, &peer(1)), [address(1), address(2), address(3), address(0)]);
}

#[test]
fn what_never_worked_is_dropped_after_a_few_failures_and_what_worked_is_not() {
    let mut conn = database();
    within(&mut conn, |tx| {
        learned(tx, &peer(1), &[address(0)], DHT, NOW).unwrap();
        succeeded(tx, &peer(2), &address(1), NOW).unwrap();
        learned(tx, &peer(3), &[address(2)], Source::Bootstrap, NOW).unwrap();
        for n in 0..3 {
            for _ in 0..FAILURES_MAX {
                failed(tx, &peer(n + 1), &address(n.into())).unwrap();
            }
        }
    });
    assert_eq!(held(&conn, &peer(1)), []);
    assert_eq!(held(&conn, &peer(2)), [address(1)]);
    assert_eq!(held(&conn, &peer(3)), [address(2)]);
    assert_eq!(count(&conn).unwrap(), 2, "a peer without addresses is gone");
    within(&mut conn, |tx| succeeded(tx, &peer(2), &address(1), NOW)).unwrap();
    assert_eq!(addresses(&conn, &peer(2)).unwrap()[0].failures, 0);
}

#[test]
fn an_address_of_another_peer_is_forgotten() {
    let mut conn = database();
    within(&mut conn, |tx| succeeded(tx, &peer(1), &address(0), NOW)).unwrap();
    within(&mut conn, |tx| forget(tx, &peer(1), &address(0))).unwrap();
    assert_eq!((held(&conn, &peer(1)), count(&conn).unwrap()), (vec![], 0));
}

#[test]
fn peers_to_redial_are_ordered_by_last_success_then_by_id() {
    let mut conn = database();
    within(&mut conn, |tx| {
        learned(tx, &peer(9), &[address(0)], DHT, later(50)).unwrap();
        succeeded(tx, &peer(3), &address(0), later(5)).unwrap();
        succeeded(tx, &peer(2), &address(0), later(5)).unwrap();
        succeeded(tx, &peer(1), &address(0), NOW).unwrap();
        succeeded(tx, &peer(4), &address(0), later(1 << 40)).unwrap();
    });
    let order = |limit, now| -> Vec<_> {
        best(&conn, limit, now).unwrap().into_iter().map(|saved| saved.peer).collect()
    };
    assert_eq!(order(10, later(60)), [4, 2, 3, 1, 9].map(peer));
    assert_eq!(order(2, later(60)), [4, 2].map(peer));
    assert_eq!(order(3, later(5)), [2, 3, 4].map(peer), "a success ahead of the clock is one of now");
}

#[test]
fn a_flood_of_told_peers_pushes_out_nothing_that_worked() {
    let mut conn = database();
    within(&mut conn, |tx| {
        learned(tx, &peer(1), &[address(0)], Source::Bootstrap, NOW).unwrap();
        succeeded(tx, &peer(2), &address(0), NOW).unwrap();
        for n in 3..40 {
            learned(tx, &peer(n), &[address(0)], DHT, later(u64::from(n))).unwrap();
            make_room(tx, 5).unwrap();
        }
    });
    let left: Vec<_> = best(&conn, 10, later(99)).unwrap().into_iter().map(|saved| saved.peer).collect();
    assert_eq!(left, [2, 39, 38, 37, 1].map(peer));
}

#[test]
fn servers_are_chosen_apart_and_forgotten_with_their_addresses() {
    let mut conn = database();
    for n in [1, 2] {
        within(&mut conn, |tx| succeeded(tx, &peer(n), &address(n.into()), later(n.into()))).unwrap();
    }
    within(&mut conn, |tx| serves(tx, &peer(1), NOW)).unwrap();
    within(&mut conn, |tx| serves(tx, &peer(9), NOW)).unwrap();
    let servers = |conn: &Connection| -> Vec<PeerId> {
        best_servers(conn, 10, later(9)).unwrap().into_iter().map(|saved| saved.peer).collect()
    };
    assert_eq!(servers(&conn), [peer(1)], "whoever is not in the book has no address");
    within(&mut conn, |tx| forget(tx, &peer(1), &address(1))).unwrap();
    within(&mut conn, |tx| serves(tx, &peer(2), NOW)).unwrap();
    assert_eq!(servers(&conn), [peer(2)]);
    let rows: i64 = conn.query_row("SELECT count(*) FROM book_servers", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}
