//! Joining the network: by whatever kind of peer, past whatever is wrong in the list, and again when nobody was there.

use std::{net::TcpListener, sync::Arc, time::Duration};

use ggen_marketplace::{
    control::{api::DisconnectRequest, service::Service},
    network::PeerSnapshot,
    peers::lost::BRIEF,
};
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};

use crate::{
    SOON, eventually,
    node::{package, start, start_in},
    raw::{Raw, Script},
};

/// An RSA key that is used nowhere else.
const RSA_PKCS8: &[u8] = include_bytes!("rsa2048.pk8");

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_node_with_an_rsa_key_is_joined() {
    let key = Keypair::rsa_from_pkcs8(&mut RSA_PKCS8.to_vec()).unwrap();
    let old = Raw::start(Script { key, ..Script::default() }).await;
    assert!(old.peer.to_string().starts_with("Qm"), "{}", old.peer);
    let node = start(std::slice::from_ref(&old.address)).await;
    node.knows(old.peer).await;
    assert!(node.status().await.routing_table_peers >= 1);
    // The same by hand.
    let other = start(&[]).await;
    let answer = other.dial(&[old.address.to_string()], 20).await.unwrap();
    assert_eq!(answer.results[0].peer_id, Some(old.peer.to_string()));
    assert_eq!((answer.routing_table_before, answer.routing_table_after), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_succeeds_or_says_why_not() {
    let (node, first, second) = (start(&[]).await, start(&[]).await, start(&[]).await);
    let expected = PeerId::random();
    let wrong = first.bound[0].clone().with(Protocol::P2p(expected));
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses = [
        wrong.to_string(),
        "/dnsaddr/nowhere.invalid".to_owned(),
        format!("/ip4/127.0.0.1/tcp/{dead}"),
        node.address().to_string(),
        second.bound[0].to_string(),
    ];
    let answer = node.dial(&addresses, 30).await.unwrap();
    assert_eq!(answer.reached, 1);
    let errors: Vec<String> =
        answer.results.iter().map(|result| result.error.clone().unwrap_or_default()).collect();
    assert_eq!(errors[0], format!("expected peer {expected}, got {}", first.peer_id()));
    assert!(!errors[1].is_empty() && !errors[2].is_empty(), "{errors:?}");
    assert!(errors[3].contains("own"), "{errors:?}");
    assert_eq!(answer.results[4].peer_id, Some(second.peer_id().to_string()), "its id was learnt");
    assert!(!node.is_connected(first.peer_id()).await);
    // None at all is a failure that names each of them.
    let error = node.dial(&addresses[..3], 30).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error:?}");
    assert!(addresses[..3].iter().all(|address| error.message.contains(address)), "{}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_others_use_elsewhere_does_not_keep_a_node_from_dialling() {
    let (node, other) = (start(&[]).await, start(&[]).await);
    let port = node.bound[0].iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    // libp2p dials from the port that it listens on, and asks for it on every address of the machine.
    let _elsewhere = TcpListener::bind(("127.0.0.2", port.unwrap())).unwrap();
    node.dial(&[other.address().to_string()], 10).await.unwrap();
    node.knows(other.peer_id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_resolved_is_no_reason_not_to_start() {
    let other = start(&[]).await;
    let node = start(&["/dnsaddr/nowhere.invalid".parse().unwrap(), other.address()]).await;
    node.knows(other.peer_id()).await;
    assert_eq!(node.status().await.health, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_with_a_peer_are_closed_and_counted() {
    let node = start(&[]).await;
    let peer = Raw::start(Script::default()).await;
    for _ in 0..2 {
        let address = node.address();
        peer.with(move |swarm| crate::raw::dial(swarm, address)).await;
    }
    // Each from a port of its own, neither of which is the one that the peer listens on.
    let own = peer.address.clone();
    eventually("there are two", SOON, async || {
        let peers = node.net().await.peers;
        let listens = own.iter().take(2).collect::<Multiaddr>();
        let of_connections =
            |peer: &PeerSnapshot| peer.addresses.iter().filter(|address| **address != listens).count();
        (peers.iter().map(of_connections).sum::<usize>() == 2).then_some(())
    })
    .await;
    let request = DisconnectRequest { peer_id: peer.peer.to_string() };
    assert_eq!(node.disconnect(request.clone()).await.unwrap().connections, 2);
    eventually("there is none", SOON, async || node.net().await.peers.is_empty().then_some(())).await;
    assert!(node.disconnect(request).await.is_err(), "it is not connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_major_version_is_turned_away_with_a_reason() {
    let node = start(&[]).await;
    let script = Script { protocol_version: "/ggen/2.0.0".to_owned(), ..Script::default() };
    let future = Raw::start(script).await;
    let address = node.address();
    future.with(move |swarm| crate::raw::dial(swarm, address)).await;
    let reason = eventually("it is refused", SOON, async || node.refused(future.peer).await).await;
    assert!(reason.contains("/ggen/2.0.0") && reason.contains("/ggen/1.0.0"), "{reason}");
    eventually("it is disconnected", SOON, async || (!node.is_connected(future.peer).await).then_some(()))
        .await;
    assert_eq!(node.status().await.routing_table_peers, 0);
    // Another minor version, and another family, are welcome.
    for version in ["/ggen/1.7.0", "ipfs/0.1.0"] {
        let script = Script { protocol_version: version.to_owned(), ..Script::default() };
        let other = Raw::start(script).await;
        other.connect(&node.address()).await;
        node.knows(other.peer).await;
        assert_eq!(node.refused(other.peer).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_bootstrap_nodes_starts_and_joins_when_one_appears() {
    let key_of_later = start(&[]).await;
    let (later, bound) = (key_of_later.address(), key_of_later.bound.clone());
    let home = key_of_later.stopped().await;
    let node = start(&[later]).await;
    let status = eventually("it says that it is alone", SOON, async || {
        Some(node.status().await).filter(|status| status.health == "degraded")
    })
    .await;
    assert!(status.warnings.iter().any(|warning| warning.contains("bootstrap")), "{:?}", status.warnings);
    // It serves what it has meanwhile.
    let temp = tempfile::tempdir().unwrap();
    node.publish_dir(&package(temp.path(), "lonely", "1.0.0", &[])).await;
    assert_eq!(node.find("lonely").await.packages.len(), 1);
    let late = start_in(home, &[], |config| config.listen_addresses = bound).await;
    node.knows(late.peer_id()).await;
    assert_eq!(late.finds("lonely").await.packages.len(), 1);
    let lonely = |warning: &String| warning.contains("bootstrap");
    assert!(!node.status().await.warnings.iter().any(lonely));
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_nodes_that_are_dead_hang_or_are_others_leave_a_node_that_serves_and_says_so() {
    let stranger = start(&[]).await;
    let later = start(&[]).await;
    let (dead, bound) = (later.address(), later.bound.clone());
    let home = later.stopped().await;
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = hanging.local_addr().unwrap().port();
    let list = [
        dead,
        format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", PeerId::random()).parse().unwrap(),
        stranger.bound[0].clone().with(Protocol::P2p(PeerId::random())),
        "/dnsaddr/nowhere.invalid".parse().unwrap(),
    ];
    let node = start(&list).await;
    // Somebody else is there, so that it is not alone, and may be on an island.
    node.dial(&[stranger.address().to_string()], 20).await.unwrap();
    let says = |warning: &String| warning.contains("none of the bootstrap nodes answers");
    let status = eventually("it says that nobody of its list answers", SOON, async || {
        Some(node.status().await).filter(|status| status.warnings.iter().any(says))
    })
    .await;
    assert_eq!((status.health.as_str(), status.connected_peers), ("degraded", 1));
    let temp = tempfile::tempdir().unwrap();
    node.publish_dir(&package(temp.path(), "local", "1.0.0", &[])).await;
    assert_eq!(stranger.finds("local").await.packages.len(), 1);
    let begun = tokio::time::Instant::now();
    let late = start_in(home, &[], |config| config.listen_addresses = bound).await;
    node.knows(late.peer_id()).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    eventually("it says so no longer", SOON, async || {
        (!node.status().await.warnings.iter().any(says)).then_some(())
    })
    .await;
    drop(hanging);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_among_clients_joins_when_a_server_of_its_list_appears() {
    let key_of_later = start(&[]).await;
    let (later, bound) = (key_of_later.address(), key_of_later.bound.clone());
    let home = key_of_later.stopped().await;
    let client = start_in(Arc::new(tempfile::tempdir().unwrap()), &[], |config| {
        config.dht_server_mode = false;
    })
    .await;
    let node = start(&[client.address(), later]).await;
    node.knows(client.peer_id()).await;
    // Long enough for a node that thinks itself in company to lean back.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(node.status().await.routing_table_peers, 0);
    let late = start_in(home, &[], |config| config.listen_addresses = bound).await;
    node.knows(late.peer_id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_earlier_days_are_found_again_without_the_bootstrap_node() {
    let hub = start(&[]).await;
    let friend = start(&[hub.address()]).await;
    let node = start(&[hub.address()]).await;
    // Through the hub the two come to know one another.
    node.knows(hub.peer_id()).await;
    node.knows(friend.peer_id()).await;
    let dead = hub.address();
    eventually("the address is written down", SOON, async || {
        let details = node.details(friend.peer_id()).await;
        (!details.peer.addresses.is_empty()).then_some(())
    })
    .await;
    let home = node.stopped().await;
    drop(hub.stopped().await);
    let again = start_in(home, &[dead], |_| {}).await;
    again.knows(friend.peer_id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hangs_up_at_once_is_not_dialled_without_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let _node = start_in(Arc::new(tempfile::tempdir().unwrap()), &[address], |_| {}).await;
    let mut accepted = 0;
    let counting = async {
        loop {
            drop(listener.accept().await.unwrap());
            accepted += 1;
        }
    };
    // A span to count in, not a wait for something to happen.
    assert!(tokio::time::timeout(Duration::from_secs(5), counting).await.is_err());
    assert!((2..=12).contains(&accepted), "{accepted} dials in 5 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_broke_is_made_again_by_a_node_that_is_not_alone() {
    let (node, far, other) = (start(&[]).await, start(&[]).await, start(&[]).await);
    node.dial(&[other.address().to_string()], 20).await.unwrap();
    node.knows(other.peer_id()).await;
    let way = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", way.local_addr().unwrap().port()).parse().unwrap();
    let Some(Protocol::Tcp(port)) = far.bound[0].iter().nth(1) else { panic!("not an address of TCP") };
    let through = tokio::spawn(async move {
        let (mut near, _) = way.accept().await.unwrap();
        let mut there = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        for end in [&near, &there] {
            // Whoever drops it resets it.
            rustix::net::sockopt::set_socket_linger(end, Some(Duration::ZERO)).unwrap();
        }
        let _ = tokio::io::copy_bidirectional(&mut near, &mut there).await;
    });
    node.dial(&[at.clone().with(Protocol::P2p(far.peer_id())).to_string()], 20).await.unwrap();
    node.knows(far.peer_id()).await;
    // What hardly stood is no loss.
    tokio::time::sleep(BRIEF + Duration::from_millis(200)).await;
    through.abort();
    eventually("they are connected in another way", SOON, async || {
        let peers = node.net().await.peers;
        peers.into_iter().find(|it| it.peer == far.peer_id() && it.addresses[0] != at)
    })
    .await;
}
