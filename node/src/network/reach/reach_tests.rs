use super::*;

const RELAY: &str =
    "/ip4/203.0.113.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit";
const DIRECT: &str = "/ip4/198.51.100.1/tcp/4001";

fn known(addresses: &[&str]) -> Peer {
    let connections = addresses
        .iter()
        .enumerate()
        .map(|(n, address)| (ConnectionId::new_unchecked(n), (address.parse().unwrap(), true)));
    Peer { connections: connections.collect(), ..Peer::default() }
}

#[test]
fn blocks_wait_for_a_direct_connection_and_go_over_the_relay_where_there_is_none() {
    let (now, id) = (Instant::now(), PeerId::random());
    let mut reach = Reach::default();
    assert!(!reach.holds_up(id, now), "nothing is known of it");
    reach.connected(id, &known(&[RELAY]), now);
    assert!(reach.holds_up(id, now) && reach.ready(now).is_empty());
    reach.failed(&id);
    assert_eq!(reach.ready(now), [id]);
    assert!(!reach.holds_up(id, now) && reach.ready(now).is_empty(), "once");

    reach.disconnected(&id);
    reach.connected(id, &known(&[RELAY]), now);
    assert!(reach.holds_up(id, now));
    assert_eq!(reach.ready(now + Duration::from_secs(2)), [id], "not for longer");

    reach.disconnected(&id);
    reach.connected(id, &known(&[RELAY]), now);
    assert!(reach.holds_up(id, now));
    reach.connected(id, &known(&[RELAY, DIRECT]), now);
    assert_eq!(reach.ready(now), [id], "it stands");

    reach.connected(id, &known(&[DIRECT]), now);
    assert!(!reach.holds_up(id, now));
    reach.disconnected(&id);
    reach.connected(id, &known(&[RELAY]), now);
    assert!(reach.holds_up(id, now) && reach.disconnected(&id), "whoever waits is told");
    assert!(reach.ready(now + DIRECT_WAIT).is_empty());
}

#[test]
fn who_came_through_a_relay_is_dialled_plainly_once_where_no_direct_connection_was_made_soon() {
    let (mut reach, id, now) = (Reach::default(), PeerId::random(), Instant::now());
    let at: Vec<Multiaddr> = vec!["/ip4/8.8.8.8/tcp/4001".parse().unwrap()];
    reach.begun(&id, at.clone(), now);
    assert!(reach.plain_due(now + PLAIN_AFTER).is_empty(), "nobody is connected");
    reach.connected(id, &known(&[RELAY]), now);
    reach.begun(&id, at.clone(), now);
    assert!(reach.plain_due(now + PLAIN_AFTER / 2).is_empty(), "the hole may yet be made");
    assert_eq!(reach.plain_due(now + PLAIN_AFTER), [(id, at.clone())]);
    assert!(reach.plain_due(now + PLAIN_AFTER * 2).is_empty(), "once is enough");
    reach.begun(&id, at, now);
    reach.connected(id, &known(&[RELAY, DIRECT]), now);
    assert!(reach.plain_due(now + PLAIN_AFTER).is_empty(), "there is a direct one");
}

#[test]
fn a_relayed_connection_ends_when_a_direct_one_has_stood_for_a_while() {
    let (now, id) = (Instant::now(), PeerId::random());
    let (mut reach, mut peers) = (Reach::default(), Peers::default());
    let peer = known(&[DIRECT, RELAY]);
    reach.connected(id, &peer, now);
    peers.insert(id, peer);
    assert!(reach.superfluous(&PeerId::random(), &peers, now + OVERLAP / 2).is_empty());
    assert_eq!(reach.superfluous(&PeerId::random(), &peers, now + OVERLAP), [ConnectionId::new_unchecked(1)]);
    reach.connected(id, &known(&[DIRECT, RELAY]), now);
    peers.insert(id, known(&[RELAY]));
    assert!(
        reach.superfluous(&PeerId::random(), &peers, now + OVERLAP).is_empty(),
        "the direct one has ended meanwhile"
    );
    let peer = known(&[DIRECT, "/ip4/198.51.100.1/udp/4001/quic-v1"]);
    reach.connected(id, &peer, now);
    peers.insert(id, peer);
    assert_eq!(reach.superfluous(&PeerId::random(), &peers, now + OVERLAP), [ConnectionId::new_unchecked(1)]);
}

#[test]
fn a_peer_is_asked_to_relay_where_this_node_connected_to_it_and_others_may_be_told_of() {
    let hop = vec![relay::HOP_PROTOCOL_NAME.to_string()];
    let by_name = "/dns4/relay.example/tcp/4001";
    assert_eq!(reached_at(&known(&[DIRECT])), Some(DIRECT.parse().unwrap()));
    assert_eq!(reached_at(&known(&[RELAY])), None, "through another relay");
    assert_eq!(reached_at(&known(&[by_name])), None, "nobody would believe a name");
    let told = vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap(), DIRECT.parse().unwrap()];
    assert_eq!(reached_at(&Peer { told: told.clone(), ..known(&[by_name]) }), Some(DIRECT.parse().unwrap()));
    let came = BTreeMap::from([(ConnectionId::new_unchecked(1), (DIRECT.parse().unwrap(), false))]);
    assert_eq!(reached_at(&Peer { connections: came, told, protocols: hop, ..Peer::default() }), None);
}

#[test]
fn who_comes_through_a_relay_is_seen_there() {
    let inbound = ConnectedPoint::Listener {
        local_addr: RELAY.parse().unwrap(),
        send_back_addr: Multiaddr::from(Protocol::P2p(PeerId::random())),
    };
    assert_eq!(seen_at(&inbound).to_string(), RELAY);
    let (local_addr, send_back_addr) = ("/ip4/10.0.0.1/tcp/1".parse().unwrap(), DIRECT.parse().unwrap());
    assert_eq!(seen_at(&ConnectedPoint::Listener { local_addr, send_back_addr }).to_string(), DIRECT);
}

#[test]
fn others_are_told_of_addresses_as_they_come_and_go() {
    let addresses =
        |these: &[&str]| -> BTreeSet<Multiaddr> { these.iter().map(|it| it.parse().unwrap()).collect() };
    let list = |these: &[&str]| addresses(these).into_iter().collect();
    let (one, other) = (DIRECT, "/ip4/198.51.100.1/udp/4001/quic-v1");
    let mut announced = Announced::default();
    for (these, begin, end) in [
        (&[one][..], &[one][..], &[][..]),
        (&[one, other], &[other], &[]),
        (&[other], &[], &[one]),
        (&[one], &[one], &[other]),
        (&[], &[], &[one]),
    ] {
        let expected = Change { begin: list(begin), end: list(end) };
        assert_eq!(announced.become_these(addresses(these)), Some(expected));
        assert_eq!(announced.become_these(addresses(these)), None, "they know it");
    }
}
