use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const MARKS: Marks = Marks { low: 24, high: 48 };

fn peer(n: usize) -> PeerId {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
    libp2p::identity::Keypair::ed25519_from_bytes(seed).unwrap().public().to_peer_id()
}

fn held(n: usize) -> Held {
    Held { peer: peer(n), age: GRACE, value: 0, rank: n as u64, is_protected: false }
}

#[test]
fn nothing_is_closed_up_to_the_high_mark_and_then_down_to_half_way() {
    let mut trim = Trim::default();
    let mut now: Vec<Held> = (0..48).map(held).collect();
    assert_eq!(trim.poll(&now, MARKS), []);
    now.push(held(48));
    let mut closed = Vec::new();
    while closed.is_empty() || trim.is_due(now.len(), MARKS) {
        closed = trim.poll(&now, MARKS);
        assert!((1..=8).contains(&closed.len()), "a few at a time: {}", closed.len());
        now.retain(|it| !closed.contains(&it.peer));
    }
    assert_eq!(now.len(), 36);
    assert_eq!(trim.poll(&now, MARKS), []);
    now.extend((50..62).map(held));
    assert_eq!(trim.poll(&now, MARKS), [], "up to the high mark again, nothing is closed");
}

#[test]
fn the_least_worth_goes_first_and_the_young_and_protected_stay() {
    let mut now: Vec<Held> = (0..50).map(held).collect();
    for it in &mut now {
        it.value = 1;
    }
    now[7].value = 0;
    now[9].value = 0;
    (now[1].value, now[1].is_protected) = (0, true);
    (now[2].value, now[2].age) = (0, GRACE - Duration::from_secs(1));
    let closed = Trim::default().poll(&now, MARKS);
    let expected: Vec<PeerId> = [7, 9, 0, 3, 4, 5, 6, 8].map(peer).into();
    assert_eq!(closed, expected);
}

#[test]
fn newcomers_however_many_drive_out_none_of_the_old() {
    let mut trim = Trim::default();
    let young = |n| Held { age: GRACE - Duration::from_secs(1), ..held(n) };
    let mut now: Vec<Held> = (0..30).map(held).chain((30..190).map(young)).collect();
    for _ in 0..20 {
        let closed = trim.poll(&now, MARKS);
        now.retain(|it| !closed.contains(&it.peer));
    }
    assert_eq!(now.len(), 190);
}

#[test]
fn a_spoke_is_left_with_the_hubs_that_it_keeps() {
    let mut trim = Trim::default();
    let mut now: Vec<Held> = (0..5).map(held).collect();
    for _ in 0..10 {
        let closed = trim.poll(&now, Marks::SPOKE);
        now.retain(|it| !closed.contains(&it.peer));
    }
    assert_eq!(now.len(), HUBS_KEPT);
}

#[test]
fn both_ends_give_a_connection_the_same_rank() {
    let (a, b, c) = (peer(1), peer(2), peer(3));
    assert_eq!(rank(&a, &b), rank(&b, &a));
    assert_ne!(rank(&a, &b), rank(&a, &c));
}

/// Nodes that all know each other, trimming at the same moments: the worst case, and what a start of all at once is.
#[test]
fn a_hundred_nodes_that_are_all_connected_settle_between_the_marks() {
    const NODES: usize = 100;
    let ids: Vec<PeerId> = (0..NODES).map(peer).collect();
    let numbers: BTreeMap<PeerId, usize> = ids.iter().enumerate().map(|(n, id)| (*id, n)).collect();
    let mut links: Vec<BTreeSet<usize>> =
        (0..NODES).map(|n| (0..NODES).filter(|it| *it != n).collect()).collect();
    let mut trims = [Trim::default(); NODES];
    let mut closed_late = 0;
    for round in 0..60 {
        // All look before any closes: nobody knows what the others are about to do.
        let wishes: Vec<Vec<PeerId>> = (0..NODES)
            .map(|n| {
                let view = |it: &usize| Held {
                    peer: ids[*it],
                    age: GRACE,
                    // Who dialled is one or the other end, as in a real network.
                    value: u32::from((n + it) % 2 == usize::from(n < *it)),
                    rank: rank(&ids[n], &ids[*it]),
                    // A gossip mesh.
                    is_protected: (n + 1..n + 7).any(|near| near % NODES == *it),
                };
                trims[n].poll(&links[n].iter().map(view).collect::<Vec<_>>(), MARKS)
            })
            .collect();
        for (n, closed) in wishes.into_iter().enumerate() {
            for it in closed.iter().map(|id| numbers[id]) {
                links[n].remove(&it);
                links[it].remove(&n);
                closed_late += usize::from(round >= 30);
            }
        }
    }
    let degrees: Vec<usize> = links.iter().map(BTreeSet::len).collect();
    assert!(degrees.iter().all(|degree| (MARKS.low..=MARKS.high).contains(degree)), "{degrees:?}");
    assert_eq!(closed_late, 0, "it comes to rest");
    assert_eq!(reached(&links), NODES, "nobody is cut off");
}

fn reached(links: &[BTreeSet<usize>]) -> usize {
    let (mut seen, mut open) = (BTreeSet::from([0]), vec![0]);
    while let Some(n) = open.pop() {
        open.extend(links[n].iter().copied().filter(|it| seen.insert(*it)).collect::<Vec<_>>());
    }
    seen.len()
}

fn any_held() -> impl Strategy<Value = Vec<Held>> {
    let one = (0_u64..60, 0_u32..4, 0_u64..4, any::<bool>());
    proptest::collection::vec(one, 0..120).prop_map(|all| {
        let one = |(n, (age, value, rank, is_protected)): (usize, _)| Held {
            peer: PeerId::from_multihash(
                libp2p::multihash::Multihash::wrap(0x12, &Sha256::digest(n.to_be_bytes())).unwrap(),
            )
            .unwrap(),
            age: Duration::from_secs(age),
            value,
            rank,
            is_protected,
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #[test]
    fn never_below_the_low_mark_and_never_a_protected_or_a_young_one(
        held in any_held(), low in 1_usize..60, more in 1_usize..60,
    ) {
        let marks = Marks { low, high: low + more };
        let mut trim = Trim::default();
        let mut left = held.clone();
        for _ in 0..150 {
            let closed = trim.poll(&left, marks);
            prop_assert!(closed.is_empty() || left.len() - closed.len() >= low);
            for it in left.iter().filter(|it| closed.contains(&it.peer)) {
                prop_assert!(!it.is_protected && it.age >= GRACE);
            }
            left.retain(|it| !closed.contains(&it.peer));
        }
        let fixed = held.iter().filter(|it| it.is_protected && it.age >= GRACE).count();
        let settled = left.iter().filter(|it| it.age >= GRACE).count();
        prop_assert!(settled <= marks.high.max(fixed), "what can be closed is closed");
    }

    #[test]
    fn the_order_in_which_connections_are_listed_changes_nothing(held in any_held(), seed in any::<u64>()) {
        use rand::seq::SliceRandom;
        use rand_chacha::rand_core::SeedableRng;
        let mut shuffled = held.clone();
        shuffled.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(Trim::default().poll(&held, MARKS), Trim::default().poll(&shuffled, MARKS));
    }
}
