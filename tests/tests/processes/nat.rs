//! Nodes behind NATs, in namespaces of the network that the test makes: passed over where that is not allowed.

use std::time::{Duration, Instant};

use crate::{
    tree,
    world::{Namespaces, Node, eventually, text, texts},
};

const SOON: Duration = Duration::from_secs(30);
/// Within this time of the first wish a direct connection stands.
const DIRECT: Duration = Duration::from_secs(5);

fn reached(node: &Node, other: &Node) -> Option<String> {
    let list = node.json(&["peer-list"]);
    let peers = list["peers"].as_array().unwrap();
    peers.iter().find(|peer| peer["peer_id"] == other.peer.as_str()).map(|peer| text(&peer["reached"]))
}

/// Has the node behind the second NAT fetch from the one behind the first; yields how they were connected then.
fn fetched(of_a: &str, of_b: &str, is_direct: bool) {
    // A relay, and two hosts behind NATs.
    let Some(lab) = Namespaces::new("nat.sh", &[of_a, of_b]) else { return };
    let relay = lab.node("r", &[]);
    let relay_at = format!("/ip4/203.0.113.10/tcp/4001/p2p/{}", relay.peer);
    let author = lab.node("a", &["--bootstrap", &relay_at]);
    let through = format!("{relay_at}/p2p-circuit/p2p/{}", author.peer);
    eventually("reached through the relay", SOON, || {
        (texts(&author.json(&["status"])["relay_addresses"]) == [through.clone()]).then_some(())
    });
    tree::bulk(&author.path("package"), "hidden", 11, 2, 1 << 20);
    author.json(&["publish", &author.text("package"), "--wait"]);
    let reader = lab.node("b", &["--bootstrap", &relay_at]);
    reader.finds("hidden", "hidden", SOON);
    let wish = Instant::now();
    reader.json(&["connect", &through]);
    if is_direct {
        let left = DIRECT.saturating_sub(wish.elapsed());
        eventually("a direct connection", left, || (reached(&reader, &author)? == "direct").then_some(()));
    }
    reader.json(&["install", "hidden", "--to", &reader.text("out")]);
    tree::assert_same(&author.path("package"), &reader.path("out"));
    let how = if is_direct { "direct" } else { "relay" };
    assert_eq!(reached(&reader, &author).as_deref(), Some(how), "{of_a} and {of_b}");
    [&relay, &author, &reader].into_iter().for_each(Node::is_well);
}

#[test]
fn two_nodes_behind_the_nats_of_homes_connect_directly() {
    fetched("home", "home", true);
}

#[test]
fn nats_that_give_the_port_another_number_are_no_obstacle() {
    fetched("remap", "remap", true);
}

#[test]
fn behind_nats_that_give_every_connection_another_port_packages_go_over_the_relay() {
    fetched("symmetric", "symmetric", false);
}
