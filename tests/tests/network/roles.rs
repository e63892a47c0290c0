//! Topologies: who holds connections to whom, and what is left when a hub is gone.

use std::sync::Arc;

use ggen_marketplace::{
    config::{Role, Topology},
    peers::trim::HUBS_KEPT,
};
use libp2p::{Multiaddr, PeerId};

use crate::{
    SOON, eventually,
    node::{Node, package, sample, start, start_in, tree},
};

async fn hub(known: &[Multiaddr]) -> Node {
    in_role(Topology::HubAndSpoke, Role::Hub, known, &[]).await
}

async fn spoke(hubs: &[Multiaddr]) -> Node {
    in_role(Topology::HubAndSpoke, Role::Spoke, &[], hubs).await
}

async fn in_role(topology: Topology, role: Role, bootstrap: &[Multiaddr], hubs: &[Multiaddr]) -> Node {
    start_in(Arc::new(tempfile::tempdir().unwrap()), bootstrap, |config| {
        *config = config.clone().in_role(topology, role);
        config.hubs = hubs.to_vec();
    })
    .await
}

async fn peers(node: &Node) -> Vec<PeerId> {
    node.net().await.peers.iter().map(|peer| peer.peer).collect()
}

/// Waits until a node is connected to exactly these.
async fn holds(node: &Node, wanted: &[&Node]) {
    let mut wanted: Vec<PeerId> = wanted.iter().map(|node| node.peer_id()).collect();
    wanted.sort();
    eventually("a node is connected to those it should be", 2 * SOON, async || {
        let held = node.net().await.peers;
        let mut ids: Vec<PeerId> = held.iter().filter(|it| it.agent.is_some()).map(|it| it.peer).collect();
        ids.sort();
        (ids == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn five_equal_nodes_have_ten_links() {
    let first = start(&[]).await;
    let mut nodes = vec![first];
    for _ in 1..5 {
        let known = nodes[0].address();
        nodes.push(start(&[known]).await);
    }
    eventually("everybody is connected to everybody", SOON, async || {
        let mut ends = 0;
        for node in &nodes {
            ends += peers(node).await.len();
        }
        (ends == 2 * 10).then_some(())
    })
    .await;
    let status = nodes[4].status().await;
    assert_eq!((status.topology.as_str(), status.role.as_str(), status.dht_server), ("mesh", "peer", true));
}

#[tokio::test]
async fn nodes_with_more_connections_than_they_want_close_some_and_still_find() {
    const NODES: usize = 16;
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..NODES {
        let known: Vec<Multiaddr> = nodes.iter().take(1).map(Node::address).collect();
        let home = Arc::new(tempfile::tempdir().unwrap());
        nodes.push(
            start_in(home, &known, |config| (config.connections_low, config.connections_high) = (9, 12))
                .await,
        );
    }
    let count = async |wanted: &dyn Fn(usize) -> bool| {
        let mut count = 0;
        for node in &nodes {
            count += usize::from(wanted(peers(node).await.len()));
        }
        (count == NODES).then_some(())
    };
    eventually("everybody is connected to more than it wants", SOON, async || count(&|held| held > 12).await)
        .await;
    eventually("nobody holds more than it wants", 3 * SOON, async || count(&|held| held <= 12).await).await;
    let folder = tempfile::tempdir().unwrap();
    nodes[3].publish_dir(&package(folder.path(), "fewer", "1.0.0", &[("a", vec![1])])).await;
    for node in &nodes {
        node.finds("fewer").await;
        assert!(peers(node).await.len() >= 4, "the other ends do not close all of the rest");
    }
}

#[tokio::test]
async fn spokes_hold_on_to_hubs_only_and_find_and_fetch_what_another_spoke_has() {
    let first = hub(&[]).await;
    let second = hub(&[first.address()]).await;
    let hubs = [first.address(), second.address()];
    let (author, reader) = (spoke(&hubs).await, spoke(&hubs).await);
    holds(&author, &[&first, &second]).await;
    holds(&reader, &[&first, &second]).await;
    let status = author.status().await;
    assert_eq!(
        (status.topology.as_str(), status.role.as_str(), status.dht_server),
        ("hub-and-spoke", "spoke", false)
    );

    let folder = tempfile::tempdir().unwrap();
    let directory = sample(folder.path(), "spoken", "1.0.0");
    author.publish_dir(&directory).await;
    reader.finds("spoken").await;
    let target = folder.path().join("target");
    let installed = reader.install("spoken", &target, 30).await.unwrap();
    assert_eq!(tree(&target), tree(&directory));
    assert_eq!(installed.providers, [author.peer_id().to_string()], "no hub holds it");
    // What was opened for the transfer is closed again, and no spoke is where a lookup could find it.
    holds(&author, &[&first, &second]).await;
    holds(&reader, &[&first, &second]).await;
    assert_eq!(first.status().await.routing_table_peers, 1, "the other hub");
}

#[tokio::test]
async fn a_spoke_keeps_a_few_of_many_hubs() {
    let first = hub(&[]).await;
    let mut hubs = vec![first];
    for _ in 1..HUBS_KEPT + 2 {
        let known = hubs[0].address();
        hubs.push(hub(&[known]).await);
    }
    let addresses: Vec<Multiaddr> = hubs.iter().map(Node::address).collect();
    let spoke = spoke(&addresses).await;
    let ids: Vec<PeerId> = hubs.iter().map(|hub| hub.peer_id()).collect();
    eventually("a spoke holds on to as many hubs as it keeps", 3 * SOON, async || {
        let net = spoke.net().await;
        let held = net.peers.iter().filter(|peer| ids.contains(&peer.peer)).count();
        (net.last_bootstrap.is_some() && held == HUBS_KEPT && net.peers.len() == HUBS_KEPT).then_some(())
    })
    .await;
}

#[tokio::test]
async fn spokes_go_to_another_hub_when_theirs_is_gone_and_still_find() {
    let first = hub(&[]).await;
    let second = hub(&[first.address()]).await;
    let hubs = [first.address(), second.address()];
    let (author, reader) = (spoke(&hubs).await, spoke(&hubs[..1]).await);
    holds(&author, &[&first, &second]).await;
    // The second hub was met through the first.
    eventually("the reader has met both hubs", SOON, async || {
        let net = reader.net().await;
        net.peers.iter().any(|peer| peer.peer == second.peer_id()).then_some(())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    author.publish_dir(&package(folder.path(), "before", "1.0.0", &[("a", vec![1])])).await;
    reader.finds("before").await;

    first.stopped().await;
    holds(&reader, &[&second]).await;
    author.publish_dir(&package(folder.path(), "after", "1.0.0", &[("a", vec![2])])).await;
    reader.finds("after").await;
    reader.install("after", &folder.path().join("target"), 30).await.unwrap();
}

#[tokio::test]
async fn ephemeral_nodes_leave_the_dht_to_the_permanent_ones() {
    let permanent = in_role(Topology::Hybrid, Role::Permanent, &[], &[]).await;
    let known = [permanent.address()];
    let author = in_role(Topology::Hybrid, Role::Ephemeral, &known, &[]).await;
    let reader = in_role(Topology::Hybrid, Role::Ephemeral, &known, &[]).await;
    author.knows(permanent.peer_id()).await;
    reader.knows(permanent.peer_id()).await;
    let folder = tempfile::tempdir().unwrap();
    author.publish_dir(&sample(folder.path(), "passing", "1.0.0")).await;
    reader.finds("passing").await;
    eventually("the permanent node holds the record", SOON, async || {
        (permanent.net().await.records > 0).then_some(())
    })
    .await;
    assert_eq!(reader.net().await.records, 0);
    assert_eq!(permanent.status().await.routing_table_peers, 0, "nobody who goes again");
    reader.install("passing", &folder.path().join("target"), 30).await.unwrap();
}
