//! Many connections at once, from those who have nothing to say.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures::{StreamExt, stream};
use libp2p::multiaddr::Protocol;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};

use crate::{
    node::{Node, start},
    raw::Raw,
};

/// How long somebody honest may take to connect and say who it is; a half-open handshake lives twice as long.
const WAY_IN: Duration = Duration::from_secs(5);

fn socket_of(node: &Node) -> SocketAddr {
    let Some(Protocol::Tcp(port)) = node.bound[0].iter().nth(1) else { panic!("a TCP address") };
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Connects from an address of loopback, each of which counts as a party of its own.
async fn connect_from(n: u8, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 1, n], 0))).ok()?;
    socket.connect(to).await.ok()
}

/// Thousands of sockets may be more than a process gets without asking.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_many_addresses_and_says_nothing_keeps_nobody_out() {
    raise_descriptors();
    let node = start(&[]).await;
    let to = socket_of(&node);
    // Twice as many as may be in their handshake.
    let knocks = stream::iter(0..1_024u32).map(|n| connect_from(u8::try_from(n % 16).unwrap() + 1, to));
    let silent: Vec<_> = knocks.buffer_unordered(64).collect().await;
    assert!(silent.iter().flatten().count() >= 512);
    let started = Instant::now();
    let honest = Raw::connected(&node.address()).await;
    eprintln!("beside 1024 half-open connections it took {:?}", started.elapsed());
    assert!(started.elapsed() < WAY_IN, "it took {:?}", started.elapsed());
    assert!(node.is_connected(honest.peer).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_as_fast_as_it_can_keeps_nobody_out() {
    raise_descriptors();
    let node = start(&[]).await;
    let to = socket_of(&node);
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        flood.spawn(async move {
            let mut held = std::collections::VecDeque::new();
            for n in 0.. {
                held.extend(connect_from(1, to).await);
                if held.len() > 16 {
                    held.pop_front();
                }
                if n % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let before = node.net().await.inbound_failed;
    // The flood has reached the node.
    let begun = Instant::now();
    while node.net().await.inbound_failed == before {
        assert!(begun.elapsed() < 6 * WAY_IN, "the node was not flooded");
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let honest = Raw::connected(&node.address()).await;
    let took = started.elapsed();
    let failed = node.net().await.inbound_failed - before;
    eprintln!("beside {failed} connections that came to nothing it took {took:?}");
    assert!(took < WAY_IN, "it took {took:?}");
    assert!(node.is_connected(honest.peer).await);
    flood.abort_all();
}
