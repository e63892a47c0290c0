//! Nodes in one local network, in namespaces that the test makes: passed over where that is not allowed.

use std::time::Duration;

use serde_json::Value;

use crate::{
    tree,
    world::{Namespaces, Node, texts},
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
