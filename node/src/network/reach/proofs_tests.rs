use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn address(port: usize) -> Multiaddr {
    format!("/ip4/203.0.113.21/tcp/{port}").parse().unwrap()
}

fn from(n: usize) -> Multiaddr {
    format!("/ip4/8.{}.{}.8/tcp/1", n / 256, n % 256).parse().unwrap()
}

fn network(n: usize) -> Network {
    network_of(&from(n)).unwrap()
}

/// Has a peer of a network come and say where to.
fn come(proofs: &mut Proofs, connection: usize, n: usize, to: usize, now: Instant) {
    let connection = ConnectionId::new_unchecked(connection);
    proofs.opened(connection, &from(n), false, now);
    proofs.came(connection, network(n), &address(to), now);
}

#[test]
fn who_was_dialled_long_ago_is_a_stranger_again_and_who_is_connected_is_none() {
    let (mut proofs, now) = (Proofs::default(), Instant::now());
    let dialled = ConnectionId::new_unchecked(1);
    proofs.opened(dialled, &from(1), true, now);
    proofs.dialled(&from(2), now);
    let later = now + HOLE_TIME;
    proofs.expire(later);
    (1..=3).for_each(|n| come(&mut proofs, 10 + n, n, 4001, later));
    assert_eq!(proofs.words.len(), 2, "the first one is connected still");
    proofs.closed(dialled, later);
    proofs.expire(later + HOLE_TIME - SECOND);
    come(&mut proofs, 20, 1, 4001, later);
    assert_eq!(proofs.words.len(), 2);
    proofs.expire(later + HOLE_TIME);
    come(&mut proofs, 21, 1, 4001, later + HOLE_TIME);
    assert_eq!(proofs.words.len(), 3);
}

#[test]
fn a_move_keeps_who_was_dialled_over_connections_that_stand() {
    let (mut proofs, now) = (Proofs::default(), Instant::now());
    let [dead, _] = [1, 2].map(|n| {
        let connection = ConnectionId::new_unchecked(n);
        proofs.opened(connection, &from(n), true, now);
        connection
    });
    proofs.moved(&[dead], now);
    proofs.closed(dead, now);
    (1..=2).for_each(|n| come(&mut proofs, 10 + n, n, 4001, now));
    assert_eq!(proofs.words.keys().copied().collect::<Vec<_>>(), [(network(1), false)]);
}

#[test]
fn a_network_has_one_voice_until_it_was_silent_for_an_hour() {
    let (mut proofs, now) = (Proofs::default(), Instant::now());
    come(&mut proofs, 1, 1, 4001, now);
    come(&mut proofs, 2, 1, 4001, now);
    come(&mut proofs, 3, 1, 9999, now);
    come(&mut proofs, 4, 2, 4001, now);
    assert_eq!(proofs.addresses(), [&address(4001)]);
    proofs.closed(ConnectionId::new_unchecked(1), now);
    come(&mut proofs, 5, 1, 9999, now + WORD_TIME);
    assert!(!proofs.is_unvisited(&address(4001), now + WORD_TIME), "the second one is here still");
    proofs.closed(ConnectionId::new_unchecked(2), now);
    assert!(proofs.is_unvisited(&address(4001), now + UNVISITED), "one network is not enough");
    come(&mut proofs, 6, 1, 9999, now + UNVISITED - SECOND);
    assert_eq!(proofs.addresses(), [&address(4001)]);
    come(&mut proofs, 7, 1, 9999, now + UNVISITED);
    assert!(proofs.addresses().is_empty());
}

#[test]
fn what_is_remembered_is_bounded_and_old_words_give_way() {
    let (mut proofs, now) = (Proofs::default(), Instant::now());
    for n in 0..2 * REACH_NETWORKS_MAX {
        come(&mut proofs, n, n, n, now);
        proofs.closed(ConnectionId::new_unchecked(n), now);
    }
    assert_eq!(proofs.words.len(), REACH_NETWORKS_MAX);
    for n in [500, 501] {
        come(&mut proofs, n, n, 4001, now + UNVISITED);
    }
    assert_eq!((proofs.words.len(), proofs.addresses()), (REACH_NETWORKS_MAX, vec![&address(4001)]));
    (0..2 * REACH_DOUBTED_MAX).for_each(|n| {
        come(&mut proofs, 1000 + n, 600, n, now);
        proofs.doubt(&address(n));
    });
    assert_eq!(proofs.doubted.len(), REACH_DOUBTED_MAX);
    assert!(proofs.doubted.contains_key(&address(2 * REACH_DOUBTED_MAX - 1)));
    (0..2 * REACH_DIALLED_MAX).for_each(|n| proofs.dialled(&from(n), now));
    assert_eq!(proofs.dialled.len(), REACH_DIALLED_MAX);
    proofs.expire(now + WORD_TIME + UNVISITED);
    assert_eq!((proofs.dialled.len(), proofs.words.len()), (0, 2), "two are here still");
}
