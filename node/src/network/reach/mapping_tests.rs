use super::*;
use crate::{limits::DIALS_BACK_ASKED_MAX, peers::policy::group_of};

const OUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 21);
const BOTH: Ports = Ports { tcp: Some(12345), udp: Some(12346) };
const SECOND: Duration = Duration::from_secs(1);

fn mapped() -> Told {
    Told::Mapped { by: By::Upnp, outer: OUTER, ports: BOTH }
}

/// So many peers, each of a network of its own.
fn peers(count: u8) -> Vec<(PeerId, Network)> {
    let network = |n| group_of(IpAddr::V4(Ipv4Addr::new(8, 8, n, 8))).unwrap();
    (1..=count).map(|n| (PeerId::random(), network(n))).collect()
}

/// Has peers asked, who come and say what they say.
fn round(mapping: &mut Mapping<u64>, said: &[Option<bool>], now: Instant) {
    assert!(mapping.is_due(|_| true, now));
    let peers = peers(u8::try_from(said.len()).unwrap());
    assert_eq!(ask(mapping, peers.clone(), 1), said.len());
    for ((peer, _), said) in peers.iter().zip(said) {
        if *said == Some(true) {
            mapping.came(*peer);
        }
        mapping.answered(*peer, &1, Some(Answer { tcp: *said, udp: None, relay: None }), now);
    }
}

/// Has peers asked under an id; yields how many were.
fn ask(mapping: &mut Mapping<u64>, peers: Vec<(PeerId, Network)>, id: u64) -> usize {
    let mut asked = 0;
    mapping.ask(peers, |_, ask| {
        assert_eq!(ask, Ask { tcp: BOTH.tcp, udp: BOTH.udp, relay: None });
        asked += 1;
        id
    });
    asked
}

fn works(mapping: &Mapping<u64>) -> bool {
    let summary = mapping.summary(|_| true);
    assert_eq!(matches!(summary, Some(PortMapping::Works { .. })), !mapping.works().is_empty());
    assert!(mapping.works().is_subset(&mapping.said()));
    !mapping.works().is_empty()
}

#[test]
fn a_mapping_counts_once_peers_got_through_and_no_longer_when_they_do_not() {
    let (mut mapping, now) = (Mapping::default(), Instant::now());
    assert_eq!(mapping.summary(|_| true), None);
    mapping.told(mapped(), now);
    assert_eq!(mapping.summary(|_| true), Some(PortMapping::Said { by: By::Upnp, ports: BOTH }));
    assert!(!works(&mapping), "the word of the router");
    round(&mut mapping, &[Some(true)], now);
    let tcp: Multiaddr = "/ip4/203.0.113.21/tcp/12345".parse().unwrap();
    assert_eq!(mapping.works(), BTreeSet::from([tcp]), "and not the one that nobody came to");
    assert!(!mapping.is_due(|_| true, now + CHECKED_EVERY - SECOND));
    mapping.told(mapped(), now);
    assert!(works(&mapping), "it was renewed");
    let later = now + CHECKED_EVERY;
    round(&mut mapping, &[None, None], later);
    assert!(works(&mapping), "nobody tried");
    let later = later + AGAIN.ceiling(1);
    round(&mut mapping, &[Some(false), Some(true), Some(false)], later);
    assert!(!works(&mapping));
    assert_eq!(mapping.summary(|_| true), Some(PortMapping::Untrue { by: By::Upnp, ports: BOTH }));
    let mut later = later;
    for minutes in [2, 4, 8, 16, 30, 30] {
        assert!(!mapping.is_due(|_| true, later + 60 * minutes * SECOND - SECOND));
        later += 60 * minutes * SECOND;
        round(&mut mapping, &[Some(false)], later);
    }
    round(&mut mapping, &[Some(true)], later + 1800 * SECOND);
    assert!(works(&mapping), "the router does it after all");
    mapping.told(Told::Nobody, later);
    assert!(!works(&mapping) && mapping.summary(|_| true) == Some(PortMapping::Nobody));
}

#[test]
fn peers_that_lie_are_outvoted_and_who_never_came_has_no_voice() {
    let (mut mapping, now) = (Mapping::default(), Instant::now());
    mapping.told(mapped(), now);
    let asked = peers(3);
    ask(&mut mapping, asked.clone(), 1);
    let yes = Some(Answer { tcp: Some(true), udp: Some(true), relay: None });
    mapping.came(PeerId::random());
    for (peer, _) in &asked {
        mapping.answered(*peer, &1, yes, now);
        mapping.answered(PeerId::random(), &1, yes, now);
    }
    assert!(!works(&mapping), "nobody came");
    assert!(!mapping.is_due(|_| true, now));
    let later = now + 60 * SECOND;
    let network = asked[0].1;
    let same = (0..100).map(|_| (PeerId::random(), network)).collect();
    assert_eq!(ask(&mut mapping, same, 2), 1, "one network has one voice");
    let mut mapping = Mapping::default();
    mapping.told(mapped(), later);
    assert_eq!(ask(&mut mapping, peers(100), 1), DIALS_BACK_ASKED_MAX);
    let mut mapping = Mapping::default();
    mapping.told(mapped(), later);
    round(&mut mapping, &[Some(true), Some(false)], later);
    assert!(!works(&mapping), "not more than half of them");
}

#[test]
fn a_router_behind_another_nat_is_not_tried() {
    let (mut mapping, now) = (Mapping::default(), Instant::now());
    mapping.told(mapped(), now);
    let elsewhere = |ip: IpAddr| ip != IpAddr::V4(OUTER);
    assert!(!mapping.is_due(elsewhere, now));
    assert_eq!(mapping.summary(elsewhere), Some(PortMapping::Inside { by: By::Upnp, outer: OUTER }));
    assert_eq!(ask(&mut mapping, Vec::new(), 1), 0, "there is nobody to ask");
    assert!(mapping.is_due(|_| true, now), "somebody may come");
}

#[test]
fn an_answer_to_what_was_asked_before_says_nothing_of_this_round() {
    let (mut mapping, now) = (Mapping::default(), Instant::now());
    mapping.told(mapped(), now);
    let asked = peers(1);
    let peer = asked[0].0;
    ask(&mut mapping, asked.clone(), 1);
    // The router begins again, and the same peer is asked.
    mapping.told(Told::Nobody, now);
    mapping.told(mapped(), now);
    ask(&mut mapping, asked, 2);
    mapping.came(peer);
    let yes = Some(Answer { tcp: Some(true), udp: None, relay: None });
    assert!(!mapping.answered(peer, &1, yes, now) && !works(&mapping));
    assert!(mapping.answered(peer, &2, yes, now) && works(&mapping));
}
