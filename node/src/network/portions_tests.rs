//! Tests of how much of the exchange one peer may have and cost, with the exchange itself and without a swarm.

use std::{collections::BTreeMap, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use serde_bytes::ByteBuf;

use super::*;
use crate::{
    heads::exchange::{Checked, Event, Exchange, Outcome, Output},
    limits::{HEADS_INTERVAL, HEADS_PAGE_BYTES, HEADS_PAGE_MAX},
    sync::protocol::{Answer, Page, Request},
};

const SECOND: Duration = Duration::from_secs(1);
const ONE: Network = [1; 7];

/// How many bytes of full pages a peer has that asks without end, for so long, from the places that it is in.
fn read(
    portions: &mut Portions,
    peers: &[(PeerId, Option<Network>)],
    from: Instant,
    lasts: Duration,
) -> usize {
    let mut bytes = 0;
    let mut at = from;
    while at < from + lasts {
        for (peer, network) in peers {
            while portions.asks(*peer, *network, at) == Weighed::Within {
                portions.had(peer, *network, HEADS_PAGE_BYTES, at);
                bytes += HEADS_PAGE_BYTES;
            }
        }
        at += SECOND;
    }
    bytes
}

const BURST: usize = HEADS_PORTIONS_PER_PEER_MAX as usize * HEADS_PORTION_BYTES;

#[test]
fn a_peer_has_the_catalogue_once_and_then_a_little_at_a_time() {
    let (mut portions, peer, now) = (Portions::new(), PeerId::random(), Instant::now());
    let hour = read(&mut portions, &[(peer, None)], now, 3_600 * SECOND);
    let paced = 3_600 * (HEADS_PORTION_BYTES * 4);
    assert!(hour >= BURST * 9 / 10 && hour <= BURST + paced + (1 << 20), "{hour}");
    // An honest reader begins again after a while, and nobody else was concerned.
    assert_eq!(portions.asks(PeerId::random(), None, now), Weighed::Within);
    let later = now + 2 * 3_600 * SECOND;
    assert_eq!(portions.asks(peer, None, later), Weighed::Within);
}

#[test]
fn small_pages_cost_a_portion_each() {
    let (mut portions, peer, now) = (Portions::new(), PeerId::random(), Instant::now());
    let answered = (0..20_000).filter(|_| portions.asks(peer, None, now) == Weighed::Within).count();
    assert_eq!(answered, HEADS_PORTIONS_PER_PEER_MAX as usize);
    let mut asked = (0..20_000).map(|_| portions.asks(peer, None, now));
    assert!(asked.any(|it| it == Weighed::Unbearable), "who goes on all the same is no neighbour");
}

#[test]
fn the_ids_of_one_public_network_share_what_four_have() {
    let (mut portions, now) = (Portions::new(), Instant::now());
    let crowd: Vec<_> = (0..100).map(|_| (PeerId::random(), Some(ONE))).collect();
    let had = read(&mut portions, &crowd, now, SECOND);
    assert!(had <= 4 * BURST + (1 << 20), "{had}");
    assert_eq!(portions.asks(PeerId::random(), Some(ONE), now), Weighed::Beyond);
    assert_eq!(portions.asks(PeerId::random(), Some([2; 7]), now), Weighed::Within);
    assert!(
        (0..100).all(|n| portions.asks(crowd[0].0, Some(ONE), now + n * SECOND) != Weighed::Unbearable),
        "what the others had is not its fault"
    );
}

#[test]
fn one_peer_over_its_pace_takes_nothing_from_its_network() {
    let (mut portions, now) = (Portions::new(), Instant::now());
    for _ in 0..2 * HEADS_PORTIONS_PER_PEER_MAX {
        portions.asks(PeerId::random(), Some([9; 7]), now);
    }
    let loud = PeerId::random();
    for _ in 0..4 * HEADS_PORTIONS_PER_PEER_MAX {
        portions.asks(loud, Some(ONE), now);
    }
    assert_eq!(portions.asks(PeerId::random(), Some(ONE), now), Weighed::Within);
}

/// Peers that are read for so long, each of which gives one page of new heads after another; how many were verified of each.
fn take_of(peers: &[(PeerId, Option<Network>)], lasts: Duration) -> BTreeMap<PeerId, usize> {
    let (mut exchange, mut portions) = (Exchange::<PeerId>::default(), Portions::new());
    let networks: BTreeMap<PeerId, Option<Network>> = peers.iter().copied().collect();
    let mut verified = BTreeMap::new();
    let (began, mut now) = (Instant::now(), Duration::ZERO);
    let mut generator = StdRng::seed_from_u64(1);
    for (peer, _) in peers {
        exchange.handle(Event::Joined { peer: *peer, begins: true }, now);
    }
    let heads = vec![ByteBuf::new(); HEADS_PAGE_MAX];
    let mut next = 0;
    while now < lasts {
        // One page after another takes no time here: only the bound ends it.
        while let Some(output) = exchange.poll() {
            let event = match output {
                Output::Compare { peer, ticket, .. } => {
                    let message = Some(b"first".to_vec());
                    let turn = crate::heads::compare::Turn { message, ..Default::default() };
                    let ours = crate::heads::exchange::Ours { turn, ..Default::default() };
                    Event::Compared(peer, ticket, Some(Ok(ours)))
                }
                Output::Ask(peer, ticket, request) => {
                    if request.is_for_heads() && !portions.may_give(&peer, networks[&peer], began + now) {
                        Event::Failed(peer, ticket, Outcome::TooMuch)
                    } else if matches!(request, Request::News) {
                        Event::Answered(peer, ticket, Answer::Noted)
                    } else {
                        next += HEADS_PAGE_MAX as u64;
                        let page = Page { epoch: 7, next, done: false, heads: heads.clone() };
                        Event::Answered(peer, ticket, Answer::Page(page))
                    }
                }
                Output::Check(peer, ticket, heads) => {
                    portions.gave(peer, networks[&peer], heads.len(), began + now);
                    *verified.entry(peer).or_default() += heads.len();
                    let checked = Checked { new: heads.len(), ..Checked::default() };
                    Event::Checked(peer, ticket, Some(checked))
                }
                Output::HasAll(_) => continue,
                Output::Blame(_, fault) => panic!("{fault:?}"),
            };
            exchange.handle(event, now);
        }
        now += HEADS_INTERVAL;
        exchange.tick(now);
        exchange.round(now, &mut generator);
    }
    verified
}

const GIVEN: usize = HEADS_GIVEN_PER_PEER_MAX as usize;

/// What comes back of a budget in so long.
fn refilled(lasts: Duration) -> usize {
    (lasts.as_nanos() / HEADS_GIVEN_PER_PEER_REFILL.as_nanos()) as usize
}

#[test]
fn a_peer_whose_pages_never_end_costs_a_full_catalogue_and_then_a_little_at_a_time() {
    let (peer, lasts) = (PeerId::random(), 4 * 3_600 * SECOND);
    let verified = take_of(&[(peer, None)], lasts)[&peer];
    // In each round a page or two more than the budget.
    let rounds = (lasts.as_secs() / HEADS_INTERVAL.as_secs()) as usize;
    assert!(verified >= GIVEN, "a full catalogue is taken at once: {verified}");
    assert!(verified <= GIVEN + refilled(lasts) + rounds * HEADS_PAGE_MAX, "{verified}");
}

#[test]
fn many_ids_of_one_network_cost_what_two_do() {
    let hour = 1_800 * SECOND;
    let crowd: Vec<_> = (0..20).map(|_| (PeerId::random(), Some(ONE))).collect();
    let verified: usize = take_of(&crowd, hour).values().sum();
    // Each may have a page or two on its way when the budget is used up, and in each round when a little of it is back.
    let late = (20 + 30) * 2 * HEADS_PAGE_MAX;
    assert!(verified >= 2 * GIVEN && verified <= 2 * (GIVEN + refilled(hour)) + late, "{verified}");
}
