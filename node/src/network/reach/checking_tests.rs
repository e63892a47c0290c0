use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::peers::policy::group_of;

const TCP: &str = "/ip4/203.0.113.21/tcp/4001";
const UDP: &str = "/ip4/203.0.113.21/udp/4001/quic-v1";

fn at(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// Has so many peers asked of these addresses, each of a network of its own, who come and say what they say; yields the ports that were
/// asked for, and what follows.
fn round(
    checking: &mut Checking<usize>,
    addresses: &[&str],
    said: &[Answer],
    now: Instant,
) -> (Option<Ask>, Vec<(Multiaddr, bool)>) {
    let addresses: Vec<Multiaddr> = addresses.iter().map(|it| at(it)).collect();
    assert!(checking.is_due(&addresses, now));
    let network = |n| group_of(IpAddr::V4(Ipv4Addr::new(8, 8, n, 8))).unwrap();
    let peers = (1..=u8::try_from(said.len()).unwrap()).map(|n| (PeerId::random(), network(n)));
    let mut asked = Vec::new();
    let send = |peer: &PeerId, ask| {
        asked.push((*peer, ask));
        asked.len()
    };
    checking.ask(addresses.clone(), peers.collect(), send, now);
    assert!(!checking.is_due(&addresses, now), "it is asked");
    let mut decided = Vec::new();
    for (n, ((peer, _), said)) in asked.iter().zip(said).enumerate() {
        checking.came(*peer);
        let other = checking.answered(*peer, &99, Some(Answer::default()), now);
        assert!(other.is_empty(), "it was asked something else");
        decided.extend(checking.answered(*peer, &(n + 1), Some(*said), now));
    }
    (asked.first().map(|(_, ask)| *ask), decided)
}

fn answer(tcp: Option<bool>, udp: Option<bool>) -> Answer {
    Answer { tcp, udp, relay: None }
}

#[test]
fn what_peers_get_through_to_goes_on_and_ends_where_two_networks_do_not() {
    let (mut checking, now) = (Checking::default(), Instant::now());
    let [yes, no] = [true, false].map(|it| answer(Some(it), Some(it)));
    assert!(!checking.is_due(&[], now));
    let (asked, goes_on) = round(&mut checking, &[TCP, UDP], &[yes, yes, no], now);
    assert_eq!(asked, Some(Ask { tcp: Some(4001), udp: Some(4001), relay: None }));
    assert_eq!(goes_on, [(at(TCP), true), (at(UDP), true)]);
    let over_quic = answer(Some(false), Some(true));
    let (_, ends) = round(&mut checking, &[TCP, UDP], &[over_quic, no, yes], now);
    assert_eq!(ends, [(at(TCP), false), (at(UDP), true)]);
    let (asked, goes_on) = round(&mut checking, &[UDP], &[yes], now);
    assert_eq!(
        (asked, goes_on),
        (Some(Ask { tcp: None, udp: Some(4001), relay: None }), vec![(at(UDP), true)])
    );
}

#[test]
fn where_too_little_is_said_nothing_follows_and_peers_are_asked_again_later() {
    let (mut checking, mut now) = (Checking::default(), Instant::now());
    let nothing = answer(None, None);
    let rounds = [&[][..], &[nothing, nothing], &[answer(Some(false), None)]];
    for (said, failures) in rounds.into_iter().zip(1..) {
        assert!(round(&mut checking, &[TCP], said, now).1.is_empty());
        let wait = AGAIN.ceiling(failures);
        assert!(!checking.is_due(&[at(TCP)], now + wait - wait / 9));
        now += wait;
    }
    // One of the two is as it was, and is asked about no more often than others.
    let only_tcp = answer(Some(true), None);
    assert_eq!(round(&mut checking, &[TCP, UDP], &[only_tcp], now).1, [(at(TCP), true)]);
    assert!(!checking.is_due(&[at(UDP)], now));
    assert!(checking.is_due(&[at(UDP)], now + AGAIN.ceiling(4)));
    let nowhere = [at("/ip4/203.0.113.21/tcp/80"), at("/ip6/2001:db8::7/tcp/4001")];
    assert!(!checking.is_due(&nowhere, now + AGAIN.ceiling(9)), "nobody dials there");
    let mut checking = Checking::default();
    let other = "/ip4/203.0.113.22/udp/4001/quic-v1";
    let (asked, _) = round(&mut checking, &[TCP, other], &[only_tcp], now);
    assert_eq!(asked, Some(Ask { tcp: Some(4001), udp: None, relay: None }), "peers dial one machine");
}
