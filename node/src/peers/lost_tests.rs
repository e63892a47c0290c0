use std::collections::VecDeque;

use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;

fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn peer(n: u8) -> PeerId {
    let mut secret = [1; 32];
    secret[0] = n;
    libp2p::identity::Keypair::ed25519_from_bytes(secret).unwrap().public().to_peer_id()
}

fn neighbour(lasted: Duration) -> Neighbour {
    Neighbour { addresses: vec!["/ip4/203.0.113.1/tcp/1000".parse().unwrap()], lasted }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const STEP: Duration = Duration::from_millis(500);

fn losing(peers: u8, lasted: Duration, seed: u64) -> (Lost, ChaCha8Rng) {
    let (mut lost, mut generator) = (Lost::default(), generator(seed));
    for n in 0..peers {
        lost.closed(peer(n), Closed::Broken, neighbour(lasted), Duration::ZERO, &mut generator);
    }
    (lost, generator)
}

/// Polls as a node does; the moments and peers of all tries.
fn tries(
    lost: &mut Lost,
    from: Duration,
    until: Duration,
    generator: &mut ChaCha8Rng,
) -> Vec<(Duration, PeerId)> {
    let mut tried = Vec::new();
    let mut now = from;
    while now < until {
        tried.extend(lost.poll(now, generator).into_iter().map(|(peer, _)| (now, peer)));
        now += STEP;
    }
    tried
}

#[test]
fn only_what_broke_is_dialled_again() {
    for (how, expected) in [(Closed::Broken, 1), (Closed::Goodbye, 0), (Closed::OnPurpose, 0)] {
        let (mut lost, mut generator) = (Lost::default(), generator(1));
        lost.closed(peer(1), how, neighbour(secs(30)), Duration::ZERO, &mut generator);
        let tried = tries(&mut lost, Duration::ZERO, WAIT_FIRST * 2, &mut generator);
        assert_eq!(tried.len(), expected, "{how:?}");
    }
}

#[test]
fn a_peer_that_was_sent_away_is_forgotten_though_it_was_lost_before() {
    let (mut lost, mut generator) = losing(2, secs(30), 1);
    lost.connected(&peer(0), secs(5), &mut generator);
    lost.closed(peer(0), Closed::OnPurpose, neighbour(secs(1)), secs(6), &mut generator);
    lost.let_go(&peer(1));
    assert_eq!(tries(&mut lost, secs(6), secs(600), &mut generator), []);
}

#[test]
fn a_connection_that_hardly_stood_or_cannot_be_dialled_is_no_loss() {
    let (mut lost, mut generator) = (Lost::default(), generator(1));
    lost.closed(peer(1), Closed::Broken, neighbour(BRIEF / 2), Duration::ZERO, &mut generator);
    let nowhere = Neighbour { addresses: Vec::new(), lasted: secs(3600) };
    lost.closed(peer(2), Closed::Broken, nowhere, Duration::ZERO, &mut generator);
    assert_eq!(lost.away(), 0);
}

#[test]
fn the_first_that_comes_back_hurries_the_others() {
    let (mut lost, mut generator) = losing(6, secs(300), 3);
    tries(&mut lost, Duration::ZERO, secs(600), &mut generator);
    assert_eq!(lost.connected(&peer(0), secs(600), &mut generator), Some(secs(600)));
    assert_eq!(lost.connected(&peer(0), secs(600), &mut generator), None, "once");
    let soon = tries(&mut lost, secs(600), secs(600) + HURRY + STEP, &mut generator);
    let soon: std::collections::BTreeSet<_> = soon.into_iter().map(|(_, peer)| peer).collect();
    assert_eq!(soon, (1..6).map(peer).collect());
}

#[test]
fn the_return_of_a_passer_by_hurries_nobody() {
    for (lasted, expected) in [(KNOWN, true), (KNOWN - STEP, false)] {
        let (mut lost, mut generator) = losing(6, secs(300), 3);
        lost.closed(peer(9), Closed::Broken, neighbour(lasted), Duration::ZERO, &mut generator);
        tries(&mut lost, Duration::ZERO, secs(600), &mut generator);
        let before = format!("{:?}", (0..6).map(|n| lost.entries[&peer(n)].state).collect::<Vec<_>>());
        assert!(lost.connected(&peer(9), secs(600), &mut generator).is_some());
        let after = format!("{:?}", (0..6).map(|n| lost.entries[&peer(n)].state).collect::<Vec<_>>());
        assert_eq!(before != after, expected, "{lasted:?}");
    }
}

#[test]
fn old_friends_are_dialled_before_strangers() {
    let (mut lost, mut generator) = losing(60, secs(30), 3);
    lost.closed(peer(99), Closed::Broken, neighbour(OLD_FRIEND), Duration::ZERO, &mut generator);
    // It was tried more often, and is the last that is due.
    let friend = lost.entries.get_mut(&peer(99)).unwrap();
    (friend.tries, friend.state) = (7, State::Away { due: secs(2) });
    let first = lost.poll(secs(2), &mut generator);
    assert_eq!(first.first().map(|(peer, _)| *peer), Some(peer(99)));
}

#[test]
fn an_address_at_which_another_answers_is_dialled_no_more() {
    let (mut lost, mut generator) = losing(2, secs(30), 3);
    let address = neighbour(secs(30)).addresses.remove(0);
    let other: Multiaddr = "/ip4/203.0.113.2/tcp/1000".parse().unwrap();
    lost.entries.get_mut(&peer(0)).unwrap().neighbour.addresses.push(other.clone());
    lost.belongs_to_another(&peer(0), &address);
    lost.belongs_to_another(&peer(1), &address);
    assert_eq!(lost.poll(secs(5), &mut generator), [(peer(0), vec![other])]);
    assert_eq!(lost.away(), 1);
}

#[test]
fn a_peer_that_only_shows_itself_keeps_its_waits() {
    let (mut lost, mut generator) = losing(1, secs(300), 3);
    let (mut now, mut dials) = (Duration::ZERO, 0);
    while now < secs(600) {
        if !lost.poll(now, &mut generator).is_empty() {
            dials += 1;
            lost.connected(&peer(0), now, &mut generator);
            lost.closed(peer(0), Closed::Broken, neighbour(STEP), now, &mut generator);
        }
        now += STEP;
    }
    assert!((20..60).contains(&dials), "{dials}");
    lost.connected(&peer(0), now, &mut generator);
    assert!(lost.poll(now + SETTLED, &mut generator).is_empty());
    lost.closed(peer(0), Closed::Broken, neighbour(SETTLED), now + SETTLED, &mut generator);
    let again = tries(&mut lost, now + SETTLED, now + SETTLED + WAIT_FIRST + STEP, &mut generator);
    assert_eq!(again.len(), 1, "it was back, and is lost again");
}

#[test]
fn those_that_were_connected_longest_are_kept() {
    let (mut lost, mut generator) = (Lost::default(), generator(3));
    for n in 0..=u8::MAX {
        let lasted = secs(30 + u64::from(n));
        lost.closed(peer(n), Closed::Broken, neighbour(lasted), Duration::ZERO, &mut generator);
    }
    assert_eq!(lost.away(), LOST_MAX);
    assert!(lost.entries.values().all(|entry| entry.neighbour.lasted > secs(30 + 255 - LOST_MAX as u64)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tries_keep_to_their_bound_in_every_minute(peers in 1u8..=255, seed: u64) {
        let (mut lost, mut generator) = losing(peers, secs(300), seed);
        let mut within = VecDeque::new();
        for (at, _) in tries(&mut lost, Duration::ZERO, secs(900), &mut generator) {
            within.push_back(at);
            while within.front().is_some_and(|first| *first + secs(60) <= at) {
                within.pop_front();
            }
            prop_assert!(within.len() <= TRIES_PER_MINUTE_MAX, "{} at {at:?}", within.len());
        }
    }

    #[test]
    fn a_split_that_heals_is_noticed_in_time(peers in 1u8..=60, seed: u64, split in 20u64..1000) {
        let (mut lost, mut generator) = losing(peers, secs(30), seed);
        tries(&mut lost, Duration::ZERO, secs(split), &mut generator);
        // A wait is at most as long as half of all of them before it, doubled, and never longer than the longest.
        let bound = WAIT_MAX.min(secs(split * 2)) + STEP;
        let first = tries(&mut lost, secs(split), secs(split) + bound + STEP, &mut generator);
        prop_assert!(first.first().is_some_and(|(at, _)| *at <= secs(split) + bound), "{first:?}");
    }

    #[test]
    fn everybody_has_a_turn_and_is_forgotten_in_the_end(peers in 1u8..=128, seed: u64, lasted in 10u64..2000) {
        let (mut lost, mut generator) = losing(peers, secs(lasted), seed);
        let early = tries(&mut lost, Duration::ZERO, secs(300), &mut generator);
        let reached: std::collections::BTreeSet<_> = early.into_iter().map(|(_, peer)| peer).collect();
        prop_assert_eq!(reached.len(), usize::from(peers));
        let kept = if secs(lasted) >= OLD_FRIEND { KEPT_OF_OLD_FRIENDS } else { KEPT };
        lost.poll(kept - STEP, &mut generator);
        prop_assert_eq!(lost.away(), usize::from(peers));
        lost.poll(kept, &mut generator);
        prop_assert_eq!(lost.away(), 0);
    }
}
