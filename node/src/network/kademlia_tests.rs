use libp2p::{
    core::{ConnectedPoint, transport::PortUse},
    swarm::{ConnectionClosed, DialFailure, behaviour::ConnectionEstablished},
};

use super::*;

/// What a lookup would dial `peer` at after `informant`, reached at `at`, told of these places.
fn dialled(at: &str, told: &[&str]) -> Vec<String> {
    let (local, informant, peer) = (PeerId::random(), PeerId::random(), PeerId::random());
    let mut kad = Behaviour::new(kad::Behaviour::new(local, Records::new(local)));
    let connection = ConnectionId::new_unchecked(1);
    let endpoint = ConnectedPoint::Dialer {
        address: at.parse().unwrap(),
        role_override: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    kad.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id: informant,
        connection_id: connection,
        endpoint: &endpoint,
        failed_addresses: &[],
        other_established: 0,
    }));
    let query_id = kad.get_closest_peers(peer);
    let closer = KadPeer {
        node_id: peer,
        multiaddrs: told.iter().map(|it| it.parse().unwrap()).collect(),
        connection_ty: kad::ConnectionType::Connected,
    };
    let answer = Told::FindNodeRes { closer_peers: vec![closer], query_id };
    kad.on_connection_handler_event(informant, connection, answer);
    let asked = kad.handle_pending_outbound_connection(
        ConnectionId::new_unchecked(2),
        Some(peer),
        &[],
        Endpoint::Dialer,
    );
    kad.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id: informant,
        connection_id: connection,
        endpoint: &endpoint,
        cause: None,
        remaining_established: 0,
    }));
    assert!(kad.reached.is_empty(), "what is closed is forgotten");
    asked.unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_lookup_dials_only_what_the_informant_may_tell_of() {
    let told = [
        "/ip4/127.0.0.1/tcp/22",
        "/ip4/192.168.1.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80",
        "/dns4/internal.example/tcp/80",
        "/ip4/203.0.113.9/tcp/4001",
    ];
    assert_eq!(dialled("/ip4/203.0.113.1/tcp/4001", &told), ["/ip4/203.0.113.9/tcp/4001"]);
    assert_eq!(dialled("/dns4/hub.example/tcp/4001", &told), ["/ip4/203.0.113.9/tcp/4001"]);
    let of_a_neighbour = ["/ip4/192.168.1.1/tcp/80", "/ip4/203.0.113.9/tcp/4001"];
    assert_eq!(dialled("/ip4/10.0.0.1/tcp/4001", &told), of_a_neighbour);
    let of_this_machine = ["/ip4/127.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80", "/ip4/203.0.113.9/tcp/4001"];
    assert_eq!(dialled("/ip4/127.0.0.1/tcp/4001", &told), of_this_machine);
}

#[test]
fn what_a_neighbour_stores_beyond_its_pace_is_dropped_and_beyond_all_bounds_ends_the_neighbourhood() {
    let (local, flooder, honest) = (PeerId::random(), PeerId::random(), PeerId::random());
    let mut kad = Behaviour::new(kad::Behaviour::new(local, Records::new(local)));
    let connection = ConnectionId::new_unchecked(1);
    let provider = |peer: PeerId| Told::AddProvider {
        key: kad::RecordKey::new(b"key"),
        provider: KadPeer {
            node_id: peer,
            multiaddrs: Vec::new(),
            connection_ty: kad::ConnectionType::Connected,
        },
    };
    let mut taken = 0;
    for _ in 0..DHT_REQUESTS_BORNE_MAX * 2 {
        taken += u32::from(kad.admits(flooder, connection, &provider(flooder)));
    }
    // While the loop ran, a few were refilled.
    assert!((DHT_WRITES_PER_PEER_MAX..2 * DHT_WRITES_PER_PEER_MAX).contains(&taken), "{taken}");
    assert_eq!(kad.take_unbearable(), [flooder]);
    assert!(kad.queue.is_empty(), "who provides waits for no answer");
    // Joining, and a thousand packages with a record and a provider each.
    assert!((0..2_000).all(|_| kad.admits(honest, connection, &provider(honest))));
    assert!(kad.take_unbearable().is_empty());
}

#[test]
fn nobody_tells_of_more_places_than_a_peer_has() {
    let many: Vec<String> = (1..100).map(|port| format!("/ip4/203.0.113.9/tcp/{port}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(dialled("/ip4/203.0.113.1/tcp/4001", &many).len(), ADDRESSES_PER_PEER_MAX);
}

fn connect(kad: &mut Behaviour, peer: PeerId, number: usize) {
    let address: Multiaddr = format!("/ip4/203.0.113.1/tcp/{number}").parse().unwrap();
    let endpoint = ConnectedPoint::Dialer {
        address: address.clone(),
        role_override: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    kad.add_address(&peer, address);
    kad.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id: peer,
        connection_id: ConnectionId::new_unchecked(number),
        endpoint: &endpoint,
        failed_addresses: &[],
        other_established: 0,
    }));
}

fn fail_to_dial(kad: &mut Behaviour, peer: PeerId) {
    kad.on_swarm_event(FromSwarm::DialFailure(DialFailure {
        peer_id: Some(peer),
        error: &DialError::Transport(Vec::new()),
        connection_id: ConnectionId::new_unchecked(1_000),
    }));
}

#[test]
fn who_cannot_be_dialled_leaves_the_routing_table_unless_it_is_this_node_that_is_cut_off() {
    let (local, peers, now) = (PeerId::random(), [(); 4].map(|()| PeerId::random()), Instant::now());
    let mut kad = Behaviour::new(kad::Behaviour::new(local, Records::new(local)));
    kad.add_address(&peers[3], "/ip4/203.0.113.1/tcp/4".parse().unwrap());
    for (number, peer) in peers.into_iter().take(CONNECTED_MIN).enumerate() {
        fail_to_dial(&mut kad, peers[3]);
        assert!(kad.routed().contains(&peers[3]), "it may be this node that is cut off");
        assert!(kad.is_gone(&peers[3], now) && !kad.take_routing_changed());
        connect(&mut kad, peer, number);
    }
    fail_to_dial(&mut kad, peers[0]);
    assert!(!kad.is_gone(&peers[0], now), "another of its addresses leads nowhere");
    fail_to_dial(&mut kad, peers[3]);
    assert!(!kad.routed().contains(&peers[3]) && kad.take_routing_changed());
    assert!(!kad.is_there(&peers[3], now));
    connect(&mut kad, peers[3], 4);
    assert!(kad.routed().contains(&peers[3]) && !kad.is_gone(&peers[3], now) && kad.is_there(&peers[3], now));
}

fn close(kad: &mut Behaviour, peer: PeerId, number: usize) {
    let endpoint = ConnectedPoint::Listener {
        local_addr: "/ip4/203.0.113.2/tcp/4001".parse().unwrap(),
        send_back_addr: format!("/ip4/203.0.113.1/tcp/{number}").parse().unwrap(),
    };
    kad.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id: peer,
        connection_id: ConnectionId::new_unchecked(number),
        endpoint: &endpoint,
        cause: None,
        remaining_established: 0,
    }));
}

#[test]
fn who_fell_silent_is_gone_before_a_dial_fails_and_stays_in_the_routing_table() {
    let (local, [silent, closed], now) =
        (PeerId::random(), [(); 2].map(|()| PeerId::random()), Instant::now());
    let mut kad = Behaviour::new(kad::Behaviour::new(local, Records::new(local)));
    connect(&mut kad, silent, 1);
    kad.silent(ConnectionId::new_unchecked(1));
    close(&mut kad, silent, 1);
    assert!(kad.is_gone(&silent, now) && !kad.take_routing_changed(), "it may be this node that is cut off");
    for number in 3..3 + CONNECTED_MIN {
        connect(&mut kad, PeerId::random(), number);
    }
    connect(&mut kad, silent, 1);
    connect(&mut kad, closed, 2);
    kad.silent(ConnectionId::new_unchecked(1));
    assert!(kad.is_there(&silent, now), "its connection still stands");
    close(&mut kad, silent, 1);
    close(&mut kad, closed, 2);
    assert!(kad.is_gone(&silent, now) && !kad.is_there(&silent, now) && kad.take_routing_changed());
    assert!(kad.routed().contains(&silent), "the silence may be this node's own");
    assert!(
        kad.is_there(&closed, now) && !kad.is_gone(&closed, now),
        "it may have closed what it does not need"
    );
    kad.silent(ConnectionId::new_unchecked(1));
    connect(&mut kad, silent, 1);
    close(&mut kad, silent, 1);
    assert!(!kad.is_gone(&silent, now), "what is said of a connection that has ended says nothing");
}

#[tokio::test]
async fn what_comes_for_a_lookup_of_this_nodes_own_goes_to_the_loop_until_it_ends() {
    let (local, peer) = (PeerId::random(), PeerId::random());
    let mut kad = Behaviour::new(kad::Behaviour::new(local, Records::new(local)));
    connect(&mut kad, peer, 1);
    let polled = |kad: &mut Behaviour| loop {
        match kad.poll(&mut Context::from_waker(futures::task::noop_waker_ref())) {
            Poll::Ready(ToSwarm::GenerateEvent(Event::Kad(_))) => {}
            other => return other,
        }
    };
    let (lookup, key) = (kad.begin(), RecordKey::new(b"key"));
    kad.ask(lookup, peer, Question::Record(key.clone()));
    let asked = polled(&mut kad);
    let Poll::Ready(ToSwarm::NotifyHandler { peer_id, event: Tell::GetRecord { key: sent, .. }, .. }) = asked
    else {
        panic!("nobody was asked")
    };
    assert_eq!((peer_id, sent), (peer, key));
    assert!(
        kad.given.is_empty() || polled(&mut kad).is_pending(),
        "that the id was given away is told to nobody"
    );
    let connection = ConnectionId::new_unchecked(1);
    let answer = || Told::GetRecordRes { record: None, closer_peers: Vec::new(), query_id: lookup };
    kad.on_connection_handler_event(peer, connection, answer());
    let Poll::Ready(ToSwarm::GenerateEvent(Event::Answer(told))) = polled(&mut kad) else {
        panic!("nothing was told")
    };
    assert!(told.lookup == lookup && told.peer == peer && told.said.is_some());
    kad.end(&lookup);
    kad.on_connection_handler_event(peer, connection, answer());
    assert!(polled(&mut kad).is_pending(), "it is over");
    assert!(kad.given.is_empty() && kad.lookups.is_empty() && kad.queue.is_empty());
}
