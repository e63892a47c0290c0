//! Nodes in one local network, in namespaces that the test makes: passed over where that is not allowed.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    tree,
    world::{Namespaces, Node, eventually, texts},
};

const SOON: Duration = Duration::from_secs(30);

fn found(node: &Node) -> Value {
    node.json(&["status"])["local_network_peers"].clone()
}

#[test]
fn nodes_of_one_local_network_find_each_other_without_being_told_of_anybody() {
    // Three hosts on one bridge.
    let Some(lan) = Namespaces::new("lan.sh", &[]) else { return };
    let alone = lan.node("c", &["--no-mdns"]);
    let author = lan.node("a", &[]);
    let reader = lan.node("b", &[]);
    reader.knows(&[&author]);
    tree::bulk(&author.path("package"), "nearby", 11, 2, 1 << 20);
    author.json(&["publish", &author.text("package"), "--wait"]);
    reader.finds("nearby", "nearby", SOON);
    reader.json(&["install", "nearby", "--to", &reader.text("out")]);
    tree::assert_same(&author.path("package"), &reader.path("out"));
    for node in [&author, &reader] {
        // Who was asked first finds the other when it asks again, five minutes later; it is connected with it before.
        node.run(&["status"]).exits(0).says("found on the local network");
    }
    assert_eq!(found(&reader), 1);
    let seen = reader.json(&["peer-list"])["peers"][0].clone();
    assert_eq!(seen["local_network"], true, "{seen}");
    assert!(texts(&seen["addresses"]).contains(&"/ip4/10.78.0.1/tcp/4001".to_owned()), "{seen}");
    reader.run(&["peer-list", "--verbose"]).exits(0).says("found on the local network");
    // It hears nobody, and nobody hears of it.
    assert_eq!((alone.peers(), found(&alone)), (Vec::new(), Value::Null));
    reader.knows(&[&author]);
    [&alone, &author, &reader].into_iter().for_each(Node::is_well);
}

/// Publishes on one node, and installs on another.
fn serves(author: &Node, reader: &Node, name: &str) {
    tree::bulk(&author.path(name), name, 11, 2, 1 << 20);
    author.json(&["publish", &author.text(name), "--wait"]);
    reader.finds(name, name, SOON);
    reader.json(&["install", name, "--to", &reader.text(name)]);
    tree::assert_same(&author.path(name), &reader.path(name));
}

/// Whether a node is connected with the only other one at this address.
fn is_at(node: &Node, address: &str) -> bool {
    let list = node.json(&["peer-list"]);
    let peers = list["peers"].as_array().unwrap();
    peers.iter().any(|peer| texts(&peer["addresses"]).iter().any(|it| it == address))
}

#[test]
fn a_node_that_comes_to_another_address_connects_again_within_seconds() {
    let Some(lan) = Namespaces::new("lan.sh", &[]) else { return };
    let moves = lan.node("a", &["--no-mdns"]);
    let entrance = format!("/ip4/10.78.0.1/tcp/4001/p2p/{}", moves.peer);
    let stays = lan.node("b", &["--no-mdns", "--bootstrap", &entrance]);
    stays.knows(&[&moves]);
    serves(&moves, &stays, "before");
    // A connection that did not stand for five seconds is no loss.
    eventually("it stood for a while", SOON, || {
        (stays.json(&["status"])["uptime_secs"].as_u64()? >= 7).then_some(())
    });
    lan.on("a", "ip addr del 10.78.0.1/24 dev eth && ip addr add 10.78.0.101/24 dev eth");
    let moved = Instant::now();
    // The other one knows its old address alone.
    eventually("found at the new address", Duration::from_secs(6), || {
        is_at(&stays, "/ip4/10.78.0.101/tcp/4001").then_some(())
    });
    println!("at the new address after {:?}", moved.elapsed());
    assert!(moves.log().contains("this machine has other addresses than before"), "{}", moves.log());
    serves(&moves, &stays, "after");
    [&stays, &moves].into_iter().for_each(Node::is_well);
}

#[test]
fn a_node_without_an_address_for_a_while_is_back_once_it_has_one() {
    let Some(lan) = Namespaces::new("lan.sh", &[]) else { return };
    let stays = lan.node("a", &["--no-mdns"]);
    let entrance = format!("/ip4/10.78.0.1/tcp/4001/p2p/{}", stays.peer);
    let moves = lan.node("b", &["--no-mdns", "--bootstrap", &entrance]);
    stays.knows(&[&moves]);
    lan.on("b", "ip addr del 10.78.0.2/24 dev eth");
    eventually("it notices", SOON, || moves.peers().is_empty().then_some(()));
    lan.on("b", "ip addr add 10.78.0.102/24 dev eth && ip route add default via 10.78.0.1");
    eventually("found at the new address", Duration::from_secs(10), || {
        is_at(&stays, "/ip4/10.78.0.102/tcp/4001").then_some(())
    });
    [&stays, &moves].into_iter().for_each(Node::is_well);
}

/// It takes more than a minute: `GGEN_TEST_SLEEP=1` asks for it.
#[test]
fn a_node_that_slept_is_back_within_seconds() {
    if std::env::var_os("GGEN_TEST_SLEEP").is_none() {
        return;
    }
    let Some(lan) = Namespaces::new("lan.sh", &[]) else { return };
    let stays = lan.node("a", &["--no-mdns"]);
    let entrance = format!("/ip4/10.78.0.1/tcp/4001/p2p/{}", stays.peer);
    let sleeps = lan.node("b", &["--no-mdns", "--bootstrap", &entrance]);
    stays.knows(&[&sleeps]);
    // The kernel of a machine that sleeps hears nothing of what its peers close meanwhile.
    let deaf = ["input", "output"].map(|hook| {
        format!("add chain inet deaf {hook} {{ type filter hook {hook} priority 0; policy drop; }}")
    });
    lan.on("b", &format!("nft 'add table inet deaf; {}'", deaf.join("; ")));
    sleeps.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(62));
    assert_eq!(stays.peers(), Vec::<String>::new(), "whoever does not answer is taken for gone");
    lan.on("b", "nft delete table inet deaf");
    sleeps.signal(Signal::CONT);
    let woke = Instant::now();
    eventually("back", Duration::from_secs(6), || stays.peers().contains(&sleeps.peer).then_some(()));
    println!("back after {:?}", woke.elapsed());
    assert!(sleeps.log().contains("this machine slept"), "{}", sleeps.log());
    [&stays, &sleeps].into_iter().for_each(Node::is_well);
}
