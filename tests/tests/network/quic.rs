//! Nodes that speak QUIC with each other, and what anyone can send to a UDP port.

use std::{sync::Arc, time::Duration};

use ggen_marketplace::network::Carrier;
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        transport::{DialOpts, PortUse},
    },
    identity::Keypair,
    multiaddr::Protocol,
    quic,
};
use tokio::net::UdpSocket;

use crate::{
    SOON, eventually,
    node::{Node, noise, sample, start_in, tree},
};

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

async fn node(bootstrap: &[Multiaddr], listens: &[&str]) -> Node {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let listens = listens.iter().map(|address| address.parse().unwrap()).collect();
    start_in(home, bootstrap, |config| config.listen_addresses = listens).await
}

/// The connections with a peer: what they go over.
async fn carriers(node: &Node, peer: PeerId) -> Vec<Carrier> {
    let net = node.net().await;
    net.peers.iter().filter(|it| it.peer == peer).flat_map(|it| it.transports.iter().copied()).collect()
}

fn udp_port(address: &Multiaddr) -> u16 {
    let port = address.iter().find_map(|part| if let Protocol::Udp(port) = part { Some(port) } else { None });
    port.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_have_quic_alone_publish_find_and_install() {
    let temp = tempfile::tempdir().unwrap();
    let source = sample(temp.path(), "carried", "1.0.0");
    let publisher = node(&[], &[QUIC]).await;
    let port = udp_port(&publisher.address());
    let by_name = format!("/dns4/localhost/udp/{port}/quic-v1/p2p/{}", publisher.peer_id());
    let reader = node(&[by_name.parse().unwrap()], &[QUIC]).await;
    reader.knows(publisher.peer_id()).await;
    publisher.knows(reader.peer_id()).await;
    let published = publisher.publish_dir(&source).await;
    reader.finds("carried").await;
    let target = temp.path().join("installed");
    let installed = reader.install("carried", &target, 60).await.unwrap();
    assert_eq!(tree(&target), tree(&source));
    assert_eq!((installed.cid, installed.providers), (published.cid, vec![publisher.peer_id().to_string()]));
    assert_eq!(carriers(&reader, publisher.peer_id()).await, [Carrier::Quic]);
    assert_eq!(carriers(&publisher, reader.peer_id()).await, [Carrier::Quic]);
    // A third node hears of the publisher from the reader alone, and dials what it was told.
    let third = node(&[reader.address()], &[QUIC]).await;
    eventually("it is connected with both", SOON, async || {
        (carriers(&third, publisher.peer_id()).await == [Carrier::Quic]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_left_of_two_that_were_dialled_and_it_is_the_one_over_tcp() {
    let both = node(&[], &[TCP, QUIC]).await;
    assert_eq!(both.bound.len(), 2, "{:?}", both.bound);
    let mut addresses: Vec<Multiaddr> = both.bound.clone();
    addresses.sort_by_key(|address| !address.to_string().contains("quic"));
    let [quic, tcp] = &addresses[..] else { panic!("two addresses") };
    let me = Protocol::P2p(both.peer_id());
    // One after the other: whoever comes over UDP is there first.
    let reader = node(&[], &[TCP]).await;
    let dialled = reader.dial(&[quic.clone().with(me.clone()).to_string()], 20).await.unwrap();
    assert_eq!(dialled.reached, 1, "{dialled:?}");
    assert_eq!(carriers(&reader, both.peer_id()).await, [Carrier::Quic]);
    // At the same time.
    let other = node(&[quic.clone().with(me.clone()), tcp.clone().with(me)], &[TCP]).await;
    eventually("TCP carries it", SOON, async || {
        (carriers(&other, both.peer_id()).await == [Carrier::Tcp]).then_some(())
    })
    .await;
    eventually("and nothing else", SOON, async || {
        (carriers(&both, other.peer_id()).await == [Carrier::Tcp]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_to_the_udp_port_keeps_no_honest_peer_out() {
    let node_ = node(&[], &[QUIC]).await;
    let (at, port) = (node_.bound[0].clone(), udp_port(&node_.bound[0]));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(("127.0.0.1", port)).await.unwrap();
    // Noise; long headers of versions that nobody has, of version negotiation and of a first packet cut off anywhere.
    for n in 0..=u8::MAX {
        let mut bytes = noise(n, 1 + usize::from(n) * 5);
        socket.send(&bytes).await.unwrap();
        bytes.resize(1_200, n);
        for version in [0_u32, 1, 0xff00_001d, 0x0a0a_0a0a] {
            bytes[0] = 0xc0 | n;
            bytes[1..5].copy_from_slice(&version.to_be_bytes());
            bytes[5] = n % 32;
            socket.send(&bytes).await.unwrap();
            socket.send(&bytes[..1 + usize::from(n)]).await.unwrap();
        }
    }
    // Handshakes that begin, and are left alone.
    let mut flood = quic::tokio::Transport::new(quic::Config::new(&Keypair::generate_ed25519()));
    for _ in 0..400 {
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let begun = flood.dial(at.clone(), options).unwrap();
        tokio::spawn(tokio::time::timeout(Duration::from_millis(20), begun));
    }
    let reader = node(&[node_.address()], &[QUIC]).await;
    reader.knows(node_.peer_id()).await;
    assert_eq!(carriers(&reader, node_.peer_id()).await, [Carrier::Quic]);
    assert!(node_.status().await.warnings.iter().all(|warning| !warning.contains("internal")));
}
