use std::{collections::BTreeSet, sync::LazyLock};

use proptest::prelude::*;

use super::*;
use crate::peers::policy::group_of;

/// The same peers each time: keys are dear to make.
static PEERS: LazyLock<Vec<PeerId>> = LazyLock::new(|| {
    let key = |n: u8| libp2p::identity::Keypair::ed25519_from_bytes([n; 32]).unwrap();
    (0..100).map(|n| key(n).public().to_peer_id()).collect()
});

fn offer(n: u8, rank: u64) -> Offer {
    Offer {
        peer: PEERS[usize::from(n)],
        address: format!("/ip4/8.8.{n}.1/tcp/4001").parse().unwrap(),
        network: group_of(std::net::Ipv4Addr::new(8, 8, n, 1).into()),
        is_entry_point: false,
        rank,
    }
}

fn peers(offers: &[Offer]) -> Vec<PeerId> {
    offers.iter().map(|offer| offer.peer).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_relays_are_held_in_different_networks_where_there_is_a_choice() {
    let now = Instant::now();
    let [first, mut second, third] = [offer(1, 1), offer(2, 2), offer(3, 3)];
    second.network = first.network;
    let all = vec![first.clone(), second.clone(), third.clone()];
    assert_eq!(peers(&Relays::default().choose(all, now)), [first.peer, third.peer]);
    let mut near = Relays::default();
    assert_eq!(peers(&near.choose(vec![first.clone(), second.clone()], now)), [first.peer, second.peer]);
    assert!(near.choose(vec![third.clone()], now).is_empty(), "two are enough");
    let configured = Offer { is_entry_point: true, ..third.clone() };
    assert_eq!(
        peers(&Relays::default().choose(vec![first.clone(), configured], now)),
        [third.peer, first.peer]
    );
}

#[test]
fn a_relay_that_carries_nothing_is_given_up_where_there_is_another_one_and_asked_again_last() {
    let (mut relays, now) = (Relays::default(), Instant::now());
    let [mut liar, second, third] = [offer(1, 1), offer(2, 2), offer(3, 3)];
    liar.is_entry_point = true;
    let two = vec![liar.clone(), second.clone()];
    for chosen in relays.choose(two.clone(), now) {
        relays.accepted(chosen.peer, now);
    }
    assert!(!relays.has_another(&two, now), "both are held");
    let all = vec![liar.clone(), second.clone(), third.clone()];
    assert!(relays.has_another(&all, now));
    relays.carries_nothing(&liar.peer, now);
    assert_eq!(relays.standing().collect::<Vec<_>>(), [second.peer]);
    assert_eq!(peers(&relays.choose(all.clone(), now)), [third.peer]);
    relays.ended(&third.peer, now);
    let soon = now + AGAIN.ceiling(1);
    assert_eq!(peers(&relays.choose(all, soon)), [third.peer]);
    relays.ended(&third.peer, soon);
    assert!(relays.choose(vec![liar.clone()], soon).is_empty());
    assert_eq!(peers(&relays.choose(vec![liar.clone()], now + AGAIN.ceiling(u32::MAX))), [liar.peer]);
}

#[test]
fn a_relay_that_ends_is_replaced_at_once_and_asked_again_later_each_time() {
    let (mut relays, start) = (Relays::default(), Instant::now());
    let all = [offer(1, 1), offer(2, 2), offer(3, 3)];
    for chosen in relays.choose(all.to_vec(), start) {
        relays.accepted(chosen.peer, start);
    }
    assert_eq!(relays.standing().count(), 2);
    assert!(relays.ended(&all[0].peer, start + SECOND), "it stood");
    assert_eq!(peers(&relays.choose(all.to_vec(), start + SECOND)), [all[2].peer]);
    assert!(!relays.ended(&all[2].peer, start + 2 * SECOND), "it refused");
    assert!(relays.choose(all.to_vec(), start + 2 * SECOND).is_empty(), "both have failed a moment ago");
    let mut now = start + 2 * SECOND;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let before = now;
        let again = loop {
            now += SECOND;
            let again = relays.choose(all[2..].to_vec(), now);
            if !again.is_empty() {
                break again;
            }
        };
        waits.push((now - before).as_secs());
        relays.ended(&again[0].peer, now);
    }
    assert_eq!(waits, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800, 1800], "never permanently");
}

#[test]
fn a_relay_that_does_not_answer_holds_up_no_other() {
    let (mut relays, start) = (Relays::default(), Instant::now());
    let all: Vec<Offer> = (1..=9).map(|n| offer(n, n.into())).collect();
    assert_eq!(relays.choose(all.clone(), start).len(), RELAYS_MAX);
    assert!(relays.choose(all.clone(), start + ANSWER_TIMEOUT - SECOND).is_empty());
    assert_eq!(relays.choose(all.clone(), start + ANSWER_TIMEOUT).len(), RELAYS_ASKED_MAX - RELAYS_MAX);
    assert!(relays.choose(all, start + 100 * ANSWER_TIMEOUT).is_empty(), "no more of them at once");
}

proptest! {
    #[test]
    fn whatever_relays_do_a_node_holds_few_of_them_and_remembers_few(
        events in prop::collection::vec((0u8..100, 0u8..4, 0u64..40), 0..400)
    ) {
        let (mut relays, mut now) = (Relays::default(), Instant::now());
        let mut asked = BTreeSet::new();
        for (n, what, secs) in events {
            now += Duration::from_secs(secs);
            match what {
                0 => relays.accepted(offer(n, 0).peer, now),
                1 => drop(relays.ended(&offer(n, 0).peer, now)),
                _ => {
                    for chosen in relays.choose((0..n).map(|n| offer(n, n.into())).collect(), now) {
                        prop_assert!(relays.holds(&chosen.peer));
                        asked.insert(chosen.peer);
                    }
                    prop_assert!(relays.promising(now) <= RELAYS_MAX.max(relays.standing().count()));
                }
            }
            prop_assert!(relays.failed.len() <= RELAYS_FAILED_MAX);
        }
    }
}
