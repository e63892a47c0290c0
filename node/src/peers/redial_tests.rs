//! What is dialled when.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;

fn address(n: usize) -> Multiaddr {
    format!("/ip4/203.0.113.1/tcp/{}", 1000 + n).parse().unwrap()
}

fn generator() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(7)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Polls when told to, for `time`; each dial ends at once. Gives the moments at which something was dialled.
fn run(redial: &mut Redial, from: Duration, time: Duration, need: Need) -> Vec<Duration> {
    let mut generator = generator();
    let (mut now, mut dialled) = (from, Vec::new());
    while now < from + time {
        let next = loop {
            let step = redial.poll(now, need, &mut generator);
            for address in &step.dial {
                dialled.push(now);
                redial.ended(address, false, now, &mut generator);
            }
            if step.dial.is_empty() {
                break step.next.unwrap();
            }
        };
        assert!(next > now, "a poll that asks for another one at once spins");
        now = next;
    }
    dialled
}

#[test]
fn all_addresses_are_dialled_at_once_at_start() {
    let mut redial = Redial::new((0..3).map(address).chain([address(0)]));
    let step = redial.poll(Duration::ZERO, Need::Company, &mut generator());
    assert_eq!(step.dial, (0..3).map(address).collect::<Vec<_>>());
    assert_eq!(redial.poll(ms(1), Need::Company, &mut generator()).dial, [], "they are in progress");
}

#[test]
fn a_lonely_node_tries_again_with_growing_waits_and_never_gives_up() {
    let mut redial = Redial::new([address(0)]);
    let dialled = run(&mut redial, Duration::ZERO, Duration::from_secs(600), Need::Company);
    let waits: Vec<_> = dialled.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= ms(25) && waits[0] <= ms(50), "{:?}", waits[0]);
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(6)));
    assert!(waits.last().unwrap() >= &Duration::from_secs(3));
    assert!((100..200).contains(&dialled.len()), "{}", dialled.len());
}

#[test]
fn a_node_with_peers_asks_about_every_half_hour() {
    let mut redial = Redial::new([address(0)]);
    let dialled = run(&mut redial, Duration::ZERO, REFRESH * 20, Need::Nothing);
    assert!((16..=28).contains(&dialled.len()), "{}", dialled.len());
}

#[test]
fn losing_the_last_peer_brings_the_dials_back_at_once() {
    let mut redial = Redial::new([address(0)]);
    run(&mut redial, Duration::ZERO, Duration::from_secs(300), Need::Nothing);
    let step = redial.poll(Duration::from_secs(300), Need::Company, &mut generator());
    assert_eq!(step.dial, [address(0)]);
}

#[test]
fn a_peer_that_drops_every_connection_is_not_dialled_in_a_loop() {
    let mut redial = Redial::new([address(0)]);
    let mut generator = generator();
    let (mut now, mut dials) = (Duration::ZERO, 0);
    while now < Duration::from_secs(300) {
        for address in redial.poll(now, Need::Company, &mut generator).dial {
            dials += 1;
            redial.ended(&address, true, now, &mut generator);
            redial.poll(now + ms(1), Need::Nothing, &mut generator);
        }
        now += ms(10);
    }
    assert!(dials < 100, "{dials}");
}

#[test]
fn addresses_that_hang_keep_no_others_out() {
    let mut redial = Redial::new((0..REDIALS_AT_ONCE_MAX + 5).map(address));
    let mut generator = generator();
    let first = redial.poll(Duration::ZERO, Need::Company, &mut generator);
    assert_eq!(first.dial.len(), REDIALS_AT_ONCE_MAX);
    assert_eq!(first.next, Some(DIAL_LOST_AFTER));
    let second = redial.poll(DIAL_LOST_AFTER, Need::Company, &mut generator);
    let expected: Vec<_> = (REDIALS_AT_ONCE_MAX..REDIALS_AT_ONCE_MAX + 5).map(address).collect();
    assert_eq!(second.dial, expected);
}

#[test]
fn addresses_that_fail_at_once_keep_no_others_out() {
    let mut redial = Redial::new((0..REDIALS_AT_ONCE_MAX + 5).map(address));
    let mut generator = generator();
    for address in redial.poll(Duration::ZERO, Need::Company, &mut generator).dial {
        redial.ended(&address, false, Duration::ZERO, &mut generator);
    }
    let next = redial.poll(Duration::from_secs(20), Need::Company, &mut generator).dial;
    let untried: Vec<_> = (REDIALS_AT_ONCE_MAX..REDIALS_AT_ONCE_MAX + 5).map(address).collect();
    assert_eq!(next[..5], untried);
    assert_eq!(next.len(), REDIALS_AT_ONCE_MAX);
}

#[test]
fn an_address_that_was_put_back_waits_no_longer_than_it_was_told() {
    let (mut redial, mut generator) = (Redial::new([address(0)]), generator());
    for second in 0..10 {
        let now = Duration::from_secs(second);
        assert_eq!(redial.poll(now, Need::Company, &mut generator).dial, [address(0)], "after {second} s");
        redial.put_back(&address(0), now + Duration::from_secs(1), now + REFRESH);
        let step = redial.poll(now, Need::Company, &mut generator);
        assert_eq!((step.dial, step.next), (Vec::new(), Some(now + Duration::from_secs(1))));
    }
    let now = Duration::from_secs(10);
    assert_eq!(redial.poll(now, Need::Company, &mut generator).dial, [address(0)]);
    redial.ended(&address(0), false, now, &mut generator);
    let next = redial.poll(now, Need::Company, &mut generator).next.unwrap();
    assert!(next - now <= ms(50), "the first attempt that counts: {:?}", next - now);
}

#[test]
fn nothing_to_dial_is_nothing_to_wait_for() {
    assert_eq!(Redial::default().poll(Duration::ZERO, Need::Company, &mut generator()), Step::default());
    let mut redial = Redial::new((0..REDIAL_TARGETS_MAX).map(address));
    assert!(!redial.add(address(REDIAL_TARGETS_MAX)), "the list is bounded");
    redial.remove(&address(0));
    assert!(redial.add(address(0)));
}

#[test]
fn a_node_on_an_island_tries_its_entrances_as_often_as_a_lonely_one_and_no_others() {
    let mut redial = Redial::new([address(0)]);
    redial.add(address(1));
    run(&mut redial, Duration::ZERO, SETTLED * 3, Need::Nothing);
    let from = SETTLED * 3;
    let mut generator = generator();
    let (mut now, mut dialled) = (from, [0, 0]);
    while now < from + Duration::from_secs(3_600) {
        let step = redial.poll(now, Need::Entrance, &mut generator);
        for at in &step.dial {
            dialled[usize::from(*at != address(0))] += 1;
            redial.ended(at, false, now, &mut generator);
        }
        let next = redial.poll(now, Need::Entrance, &mut generator).next.unwrap();
        assert!(next > now && next <= now + Duration::from_secs(6));
        now = next;
    }
    assert!((600..1_300).contains(&dialled[0]), "{dialled:?}");
    assert!(dialled[1] <= 3, "{dialled:?}");
}

#[test]
fn an_entrance_that_keeps_nobody_is_visited_less_and_less_and_at_once_when_it_failed() {
    let mut redial = Redial::new([address(0)]);
    let mut generator = generator();
    let (mut now, mut visits) = (Duration::ZERO, Vec::new());
    while now < REFRESH * 8 {
        // It takes the connection, and closes it when it has too many: there is company, and no entrance.
        for at in redial.poll(now, Need::Entrance, &mut generator).dial {
            visits.push(now);
            redial.ended(&at, true, now, &mut generator);
        }
        now = redial.poll(now, Need::Entrance, &mut generator).next.unwrap();
    }
    assert!(visits[1] <= Duration::from_secs(5), "it may have been restarted");
    assert!(visits.len() < 30, "{} visits in four hours", visits.len());
    redial.ended(&address(0), false, now, &mut generator);
    let next = redial.poll(now, Need::Entrance, &mut generator).next.unwrap();
    assert!(next <= now + Duration::from_secs(6), "now it is gone");
}

#[test]
fn long_lists_are_no_flood() {
    let mut redial = Redial::new((0..100).map(address));
    for n in 100..REDIAL_TARGETS_MAX {
        redial.add(address(n));
    }
    let dialled = run(&mut redial, Duration::ZERO, Duration::from_secs(1_200), Need::Company);
    for (first, at) in dialled.iter().enumerate() {
        let within = dialled[first..].iter().take_while(|it| **it - *at <= Duration::from_secs(60)).count();
        assert!(within <= TRIES_PER_MINUTE_MAX, "{within} dials in a minute");
    }
    assert!(dialled.len() > 20 * 80, "{}: all of what there is", dialled.len());
}
