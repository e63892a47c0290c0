//! Tests of whom a plan asks for what.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    choice::{COPIES_MAX, HEDGE_AFTER, SILENT_AFTER},
    *,
};
use crate::{
    content::Codec,
    limits::{FETCH_IDS_MAX, FETCH_SERVED_PER_PEER_MAX, SWARM_MARKS_MAX},
};

fn block(n: u32) -> ContentId {
    ContentId::of(Codec::Raw, &n.to_be_bytes())
}

fn peers(n: usize) -> Vec<PeerId> {
    (0..n).map(|_| PeerId::random()).collect()
}

fn plan(blocks: u32, size: u64, peers: &[PeerId]) -> Plan {
    let mut plan = Plan::default();
    peers.iter().for_each(|peer| plan.peer(*peer));
    (0..blocks).for_each(|n| plan.want(block(n), size));
    plan
}

fn all(ask: &Ask, answer: Answer) -> Vec<(ContentId, Answer)> {
    ask.want.iter().map(|id| (*id, answer)).collect()
}

#[test]
fn work_is_spread_over_all_peers() {
    let two = peers(2);
    let mut plan = plan(4, 1 << 20, &two);
    let asked: BTreeSet<PeerId> =
        std::iter::from_fn(|| plan.next(Duration::ZERO)).map(|ask| ask.peer).collect();
    assert_eq!(asked, two.into_iter().collect());
}

#[test]
fn what_one_peer_lacks_is_asked_of_the_next() {
    let two = peers(2);
    let mut plan = plan(1, 10, &two);
    let first = plan.next(Duration::ZERO).unwrap();
    plan.answered(first.id, &all(&first, Answer::Missing), Duration::ZERO);
    let second = plan.next(Duration::ZERO).unwrap();
    assert_ne!(first.peer, second.peer);
    plan.answered(second.id, &all(&second, Answer::Missing), Duration::ZERO);
    assert_eq!(plan.next(Duration::ZERO), None);
    assert_eq!(plan.stuck(), [block(0)]);
}

#[test]
fn a_forger_is_asked_for_nothing_again() {
    let two = peers(2);
    let mut plan = plan(3, 10, &two);
    let first = plan.next(Duration::ZERO).unwrap();
    assert!(plan.answered(first.id, &all(&first, Answer::Forged), Duration::ZERO).is_empty());
    while let Some(ask) = plan.next(Duration::ZERO) {
        assert_ne!(ask.peer, first.peer);
        plan.answered(ask.id, &all(&ask, Answer::Have), Duration::ZERO);
    }
    assert!(plan.is_complete());
}

#[test]
fn a_peer_that_is_lost_can_be_found_again_and_one_that_forged_cannot() {
    let [honest, forger, lacking] = peers(3).try_into().unwrap();
    let mut plan = plan(3, 1 << 20, &[honest, forger, lacking]);
    let asks: Vec<Ask> = std::iter::from_fn(|| plan.next(Duration::ZERO)).collect();
    for ask in asks {
        if ask.peer == honest {
            plan.failed(ask.id, Failure::Unreachable, Duration::ZERO);
        } else if ask.peer == forger {
            plan.answered(ask.id, &all(&ask, Answer::Forged), Duration::ZERO);
        } else {
            plan.answered(ask.id, &all(&ask, Answer::Missing), Duration::ZERO);
        }
    }
    while let Some(ask) = plan.next(Duration::ZERO) {
        assert_eq!(ask.peer, lacking);
        plan.answered(ask.id, &all(&ask, Answer::Missing), Duration::ZERO);
    }
    assert_eq!((plan.stuck().len(), plan.lost()), (3, vec![honest]), "whoever lacks it all is not lost");
    let later = Duration::from_secs(10);
    [forger, honest].iter().for_each(|peer| plan.found_again(*peer, later));
    assert!(plan.stuck().is_empty() && plan.lost().is_empty());
    while let Some(ask) = plan.next(later) {
        assert_eq!(ask.peer, honest);
        plan.answered(ask.id, &all(&ask, Answer::Have), later);
    }
    assert!(plan.is_complete());
}

#[test]
fn a_late_want_is_asked_of_a_second_peer_and_comes_once() {
    let two = peers(2);
    let mut plan = plan(1, 10, &two);
    let slow = plan.next(Duration::ZERO).unwrap();
    assert_eq!(plan.next(Duration::ZERO), None);
    let late = plan.wake_at(Duration::ZERO).unwrap();
    let hedge = plan.next(late).unwrap();
    assert_ne!(slow.peer, hedge.peer);
    assert_eq!(plan.answered(hedge.id, &all(&hedge, Answer::Have), late), [block(0)]);
    assert!(plan.answered(slow.id, &all(&slow, Answer::Have), late).is_empty(), "the copy is dropped");
    assert!(plan.is_complete());
}

#[test]
fn peers_that_never_answer_hold_nothing_up_for_long_while_another_one_does() {
    let all_peers = peers(20);
    let honest = all_peers[13];
    let mut plan = plan(60, 1 << 20, &all_peers);
    let (mut now, mut under_way) = (Duration::ZERO, Vec::new());
    while !plan.is_complete() {
        under_way.extend(std::iter::from_fn(|| plan.next(now)).filter(|ask| ask.peer == honest));
        match under_way.pop() {
            Some(ask) => {
                now += Duration::from_millis(10);
                plan.answered(ask.id, &all(&ask, Answer::Have), now);
            }
            None => now = plan.wake_at(now).unwrap(),
        }
    }
    assert!(now < SILENT_AFTER * 2, "{now:?}");
}

#[test]
fn a_peer_that_only_promises_is_left_alone() {
    let one = peers(1);
    let mut plan = plan(1, 10, &one);
    let mut now = Duration::ZERO;
    for _ in 0..FAILURES_MAX {
        let ask = plan.next(now).unwrap();
        plan.answered(ask.id, &all(&ask, Answer::Later), now);
        now += BUSY_PAUSE;
    }
    assert_eq!(plan.next(now), None);
    assert_eq!(plan.stuck(), [block(0)]);
}

#[test]
fn a_peer_that_is_always_busy_is_given_up_and_our_own_lack_of_room_is_not_its_fault() {
    let one = peers(1);
    let mut plan = plan(1, 10, &one);
    let mut now = Duration::ZERO;
    let mut turn = |plan: &mut Plan, failure| {
        let ask = plan.next(now)?;
        plan.failed(ask.id, failure, now);
        now += BUSY_PAUSE;
        Some(())
    };
    for _ in 0..2 * BUSY_MAX {
        assert!(turn(&mut plan, Failure::Own).is_some());
    }
    for _ in 0..BUSY_MAX {
        assert!(turn(&mut plan, Failure::Busy(BUSY_PAUSE)).is_some());
    }
    assert!(turn(&mut plan, Failure::Busy(BUSY_PAUSE)).is_none());
    assert_eq!(plan.stuck(), [block(0)]);
}

#[test]
fn an_answer_makes_room_for_what_this_node_had_no_room_for() {
    for pause in [None, Some(BUSY_PAUSE * 2)] {
        let one = peers(1);
        let mut plan = plan(64, 1 << 20, &one);
        let mut open: Vec<Ask> = Vec::new();
        while open.len() < 3 {
            for ask in open.drain(..) {
                plan.answered(ask.id, &all(&ask, Answer::Have), Duration::ZERO);
            }
            open = std::iter::from_fn(|| plan.next(Duration::ZERO)).collect();
        }
        plan.failed(open[1].id, Failure::Own, Duration::ZERO);
        if let Some(pause) = pause {
            plan.failed(open[2].id, Failure::Busy(pause), Duration::ZERO);
        }
        assert_eq!(plan.next(Duration::ZERO), None);
        plan.answered(open[0].id, &all(&open[0], Answer::Have), Duration::ZERO);
        // Not so where the peer said that it has none.
        assert_eq!(plan.next(Duration::ZERO).is_some(), pause.is_none());
    }
}

#[test]
fn a_peer_whose_connection_closed_is_asked_again_a_few_times() {
    let one = peers(1);
    let mut plan = plan(1, 10, &one);
    let mut now = Duration::ZERO;
    for _ in 0..FAILURES_MAX {
        let ask = plan.next(now).unwrap();
        plan.failed(ask.id, Failure::Closed, now);
        assert_eq!(plan.next(now), None, "not at once");
        now += CLOSED_PAUSE;
    }
    assert_eq!(plan.next(now), None);
    assert_eq!(plan.stuck(), [block(0)]);
}

#[test]
fn a_busy_peer_is_asked_again_later() {
    let one = peers(1);
    let mut plan = plan(1, 10, &one);
    let ask = plan.next(Duration::ZERO).unwrap();
    plan.failed(ask.id, Failure::Busy(BUSY_PAUSE), Duration::ZERO);
    assert_eq!(plan.next(Duration::ZERO), None);
    assert!(plan.stuck().is_empty());
    assert!(plan.next(plan.wake_at(Duration::ZERO).unwrap()).is_some());
}

#[test]
fn only_a_peer_that_was_silent_for_long_held_us_up() {
    let [mute, fresh, slow] = peers(3)[..] else { unreachable!() };
    let mut plan = plan(6, 1 << 20, &[mute]);
    let ask = |plan: &mut Plan, now| std::iter::from_fn(|| plan.next(now)).collect::<Vec<_>>();
    assert_eq!(ask(&mut plan, Duration::ZERO).len(), 1);
    plan.peer(slow);
    plan.want(block(90), 10);
    let asked = ask(&mut plan, Duration::ZERO);
    assert!(asked.iter().all(|ask| ask.peer == slow) && !asked.is_empty());
    let end = SILENT_AFTER + Duration::from_millis(10);
    // The slow one gives something in the middle, and has more to give.
    plan.answered(asked[0].id, &all(&asked[0], Answer::Have), end / 2);
    assert!(ask(&mut plan, end / 2).iter().any(|ask| ask.peer == slow));
    plan.peer(fresh);
    let before = end - Duration::from_millis(10);
    assert!(ask(&mut plan, before).iter().any(|ask| ask.peer == fresh));
    assert_eq!(plan.waiting_on(end), BTreeMap::from([(mute, true), (fresh, false), (slow, false)]));
    assert!(!plan.waiting_on(SILENT_AFTER - Duration::from_millis(1))[&mute], "not for long enough");
    let later = end / 2 + SILENT_AFTER;
    assert!(plan.waiting_on(later)[&slow], "it has been silent for as long since");
}

#[test]
fn those_elsewhere_are_left_alone_while_a_peer_of_the_local_network_brings_enough() {
    let [near, far] = peers(2)[..] else { unreachable!() };
    let ask = |plan: &mut Plan, now| std::iter::from_fn(|| plan.next(now)).collect::<Vec<_>>();
    for (took, is_enough) in [(Duration::from_millis(20), true), (Duration::from_secs(2), false)] {
        let mut plan = plan(200, 1 << 20, &[far, near]);
        plan.near(&near);
        let asked = ask(&mut plan, Duration::ZERO);
        assert!(asked.iter().any(|ask| ask.peer == far), "nothing is known of the near one yet");
        for (n, ask) in (1..).zip(asked) {
            let all = all(&ask, Answer::Have);
            plan.answered(ask.id, &all, if ask.peer == near { took } else { took * n });
        }
        let now = took * 3;
        let asked = ask(&mut plan, now);
        assert_eq!(asked.iter().all(|ask| ask.peer == near), is_enough, "{took:?}");
        assert!(asked.iter().any(|ask| ask.peer == near));
        if is_enough {
            let late = now + 2 * HEDGE_AFTER;
            assert!(ask(&mut plan, late).iter().any(|ask| ask.peer == far), "the near one is late");
        }
    }
}

#[test]
fn a_small_answer_does_not_make_its_peer_a_slow_one() {
    let two = peers(2);
    let mut plan = plan(1, 760, &two);
    let at = Duration::from_millis;
    let answer = |plan: &mut Plan, ask: Ask, now| plan.answered(ask.id, &all(&ask, Answer::Have), now);
    // One shows no more than how far away it is, the other one that it is fast.
    let small = plan.next(at(0)).unwrap();
    answer(&mut plan, small.clone(), at(100));
    plan.want(block(10), 1 << 20);
    plan.want(block(11), 1 << 20);
    let asks: Vec<Ask> = std::iter::from_fn(|| plan.next(at(100))).collect();
    let (first, second): (Vec<_>, Vec<_>) = asks.into_iter().partition(|ask| ask.peer == small.peer);
    let [(first, second)] = &first.into_iter().zip(second).collect::<Vec<_>>()[..] else {
        panic!("one each")
    };
    answer(&mut plan, second.clone(), at(200));
    assert_eq!(plan.next(at(200)), None, "nothing says that the other one is slower");
    assert!(plan.next(at(100) + HEDGE_AFTER).is_some_and(|ask| ask.want == first.want), "it is late");
}

#[test]
fn what_is_on_its_way_is_not_asked_of_still_more_peers() {
    let copies = |moves: bool| {
        let holders = peers(8);
        let mut plan = plan(1, 1 << 20, &holders);
        let mut asked: Vec<Ask> = Vec::new();
        for second in 0..40 {
            let now = Duration::from_secs(second);
            asked.iter().filter(|_| moves).for_each(|ask| plan.moved(ask.id, now));
            asked.extend(std::iter::from_fn(|| plan.next(now)));
        }
        asked.len()
    };
    assert_eq!(copies(true), COPIES_MAX, "a second one, since the first is late");
    assert_eq!(copies(false), COPIES_OF_SILENT_MAX);
}

#[test]
fn a_peer_is_asked_for_no_more_at_once_than_it_serves() {
    let one = peers(1);
    let many = u32::try_from(FETCH_IDS_MAX * (FETCH_SERVED_PER_PEER_MAX + 4)).unwrap();
    let mut plan = plan(many, 1, &one);
    let first = plan.next(Duration::ZERO).unwrap();
    assert_eq!(plan.next(Duration::ZERO), None, "little, as long as nothing was heard of it");
    plan.answered(first.id, &all(&first, Answer::Have), Duration::ZERO);
    let asks: Vec<Ask> = std::iter::from_fn(|| plan.next(Duration::ZERO)).collect();
    assert_eq!(asks.len(), FETCH_SERVED_PER_PEER_MAX);
    plan.answered(asks[0].id, &all(&asks[0], Answer::Have), Duration::ZERO);
    assert!(plan.next(Duration::ZERO).is_some());
    assert_eq!(plan.next(Duration::ZERO), None);
}

proptest! {
    /// Whatever peers do, a plan ends: with everything, or with wants that nobody is left to ask for.
    #[test]
    fn every_plan_ends(
        blocks in 1_u32..80, size in 0_u64..3_000_000, count in 1_usize..5,
        verdicts in proptest::collection::vec(0_u8..7, 1..400),
    ) {
        let peers = peers(count);
        let mut plan = plan(blocks, size, &peers);
        let mut verdicts = verdicts.into_iter().cycle();
        let mut now = Duration::ZERO;
        let mut open: VecDeque<Ask> = VecDeque::new();
        let mut came = BTreeSet::new();
        for _ in 0..20_000 {
            while let Some(ask) = plan.next(now) {
                prop_assert!(ask.want.len() <= FETCH_IDS_MAX && !ask.want.is_empty());
                prop_assert!(is_indexed(&plan));
                open.push_back(ask);
            }
            prop_assert!(is_indexed(&plan));
            let Some(ask) = open.pop_front() else {
                match plan.wake_at(now) {
                    Some(at) => { now = at; continue }
                    None => break,
                }
            };
            now += Duration::from_millis(10);
            let failure = match verdicts.next() {
                Some(0) => Some(Failure::Peer),
                Some(1) => Some(Failure::Busy(BUSY_PAUSE)),
                Some(2) => Some(Failure::Unreachable),
                _ => None,
            };
            if let Some(failure) = failure {
                plan.failed(ask.id, failure, now);
                continue;
            }
            let answers: Vec<_> = ask.want.iter().map(|id| (*id, match verdicts.next() {
                Some(3) => Answer::Missing,
                Some(4) => Answer::Later,
                Some(5) if *id == block(0) => Answer::Forged,
                _ => Answer::Have,
            })).collect();
            for id in plan.answered(ask.id, &answers, now) {
                prop_assert!(came.insert(id), "a block comes once");
            }
        }
        // Only a peer that is busy for ever keeps a plan open.
        let stuck = plan.stuck().len();
        prop_assert!(plan.is_complete() || stuck > 0 || plan.wake_at(now).is_some());
        prop_assert!(came.len() + plan.wants.len() == blocks as usize);
    }
}

/// What is kept beside the wants, so that late ones are found soon, says what the wants say.
fn is_indexed(plan: &Plan) -> bool {
    let copied = plan.wants.iter().filter(|(_, want)| want.asked.len() > 1).map(|(id, _)| *id);
    let is_alone = |id: &RequestId, block: &ContentId| {
        plan.wants.get(block).is_some_and(|want| want.asked.len() == 1 && want.asked.contains_key(id))
    };
    let flights = plan.flights.iter().all(|(id, flight)| {
        flight.want.iter().all(|block| flight.alone.contains(block) == is_alone(id, block))
    });
    flights && copied.collect::<BTreeSet<_>>() == plan.copied
}

/// Many small blocks that `silent` peers were asked for, and one peer that answers at once: what it costs to get them all.
fn all_from_one_among(silent: usize, blocks: u32) -> (Duration, usize) {
    let all_peers = peers(silent + 1);
    let honest = all_peers[silent];
    let mut plan = plan(blocks, 64, &all_peers);
    let (mut now, mut under_way) = (Duration::ZERO, VecDeque::new());
    while !plan.is_complete() {
        under_way.extend(std::iter::from_fn(|| plan.next(now)).filter(|ask| ask.peer == honest));
        match under_way.pop_front() {
            Some(ask) => {
                now += Duration::from_millis(1);
                plan.answered(ask.id, &all(&ask, Answer::Have), now);
            }
            None => now = plan.wake_at(now).unwrap(),
        }
    }
    (now, plan.looked_at.get())
}

#[test]
fn many_late_blocks_of_many_silent_peers_are_found_without_looking_through_all_of_them() {
    let blocks = 5_000;
    let (took, looked_at) = all_from_one_among(63, blocks);
    assert!(looked_at < 2 * blocks as usize, "{looked_at} looks for {blocks} blocks");
    assert!(took < HEDGE_AFTER * 2 + Duration::from_millis(blocks.into()), "{took:?}");
}

#[test]
fn what_was_asked_for_is_coming_until_it_came_or_its_peer_is_silent() {
    let mut plan = plan(4, 1 << 20, &peers(2));
    let asks: Vec<Ask> = std::iter::from_fn(|| plan.next(Duration::ZERO)).collect();
    let asked: u64 = asks.iter().map(|ask| (ask.want.len() as u64) << 20).sum();
    assert_eq!(plan.coming(Duration::ZERO), asked);
    let first = (asks[0].want.len() as u64) << 20;
    plan.answered(asks[0].id, &all(&asks[0], Answer::Have), Duration::ZERO);
    assert_eq!(plan.coming(Duration::ZERO), asked - first);
    assert_eq!(plan.coming(SILENT_AFTER), 0);
}

#[test]
fn what_all_peers_say_that_they_have_is_bounded() {
    let many = peers(SWARM_MARKS_IN_ALL_MAX / SWARM_MARKS_MAX + 2);
    let mut plan = Plan::of(PeerId::random());
    for (n, peer) in many.iter().enumerate() {
        plan.peer(*peer);
        let first = n * SWARM_MARKS_MAX;
        let marks = (first..first + SWARM_MARKS_MAX).map(|n| Mark::from_bytes((n as u64).to_be_bytes()));
        plan.has(*peer, &marks.collect::<Vec<Mark>>(), Duration::ZERO);
    }
    assert_eq!(plan.marks, SWARM_MARKS_IN_ALL_MAX);
    let last = Mark::from_bytes(((many.len() * SWARM_MARKS_MAX - 1) as u64).to_be_bytes());
    assert!(!many.iter().any(|peer| plan.peers[peer].claims(last)), "it is not remembered");
}
