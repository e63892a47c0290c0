//! Nodes that nobody can connect to: reached through relays, and serving what they hold.

use std::time::Duration;

use serde_json::Value;

use crate::{
    tree,
    world::{Home, LOOPBACK, Node, eventually, text, texts},
};

const SOON: Duration = Duration::from_secs(30);

/// A node that listens nowhere.
fn behind(bootstrap: &[&Node]) -> Node {
    let home = Home::new();
    let mut arguments = vec!["start"];
    arguments.extend(bootstrap.iter().flat_map(|other| ["--bootstrap", &other.address]));
    let mut command = home.command(&arguments);
    command.env("GGEN_P2P_LISTEN", "none");
    Node::start_by(home, command)
}

fn is_reached_through(node: &Node, relays: &[&Node]) {
    let mut wanted: Vec<String> =
        relays.iter().map(|it| format!("{}/p2p-circuit/p2p/{}", it.address, node.peer)).collect();
    wanted.sort();
    eventually(&format!("reached at {wanted:?}"), SOON, || {
        (texts(&node.json(&["status"])["relay_addresses"]) == wanted).then_some(())
    });
}

fn peer(node: &Node, other: &Node) -> Option<Value> {
    let list = node.json(&["peer-list"]);
    list["peers"].as_array().unwrap().iter().find(|peer| peer["peer_id"] == other.peer.as_str()).cloned()
}

#[test]
fn what_a_node_that_listens_nowhere_publishes_is_installed_through_its_relay() {
    let relay = Node::start(&[]);
    let author = behind(&[&relay]);
    is_reached_through(&author, &[&relay]);
    let status = author.json(&["status"]);
    assert_eq!(
        (text(&status["reach"]).as_str(), &status["dht_server"]),
        ("relay", &false.into()),
        "{status}"
    );
    let line = format!("--bootstrap {}/p2p-circuit/p2p/{}", relay.address, author.peer);
    assert_eq!(texts(&status["bootstrap_lines"]), [line]);
    author.run(&["status"]).exits(0).says("through 1 relay");
    assert_eq!(relay.json(&["status"])["relay_clients"], 1);

    tree::bulk(&author.path("package"), "hidden", 7, 3, 1 << 20);
    author.json(&["publish", &author.text("package"), "--wait"]);
    let reader = Node::start(&[&relay]);
    reader.finds("hidden", "hidden", SOON);
    reader.json(&["install", "hidden", "--to", &reader.text("out")]);
    tree::assert_same(&author.path("package"), &reader.path("out"));
    let seen = peer(&reader, &author).expect("it was fetched from");
    assert_eq!(seen["reached"], "relay", "{seen}");
    reader.run(&["peer-list", "--verbose"]).exits(0).says("through a relay").says("/p2p-circuit");
    assert_eq!(peer(&reader, &relay).unwrap()["reached"], "direct");
    [&relay, &author, &reader].into_iter().for_each(Node::is_well);
}

#[test]
fn a_relay_that_goes_away_gives_its_place_to_another_one() {
    let first = Node::start(&[]);
    let second = Node::start(&[&first]);
    let third = Node::start(&[&first, &second]);
    let hidden = behind(&[&first, &second, &third]);
    let mut nodes = [first, second, third];
    let relays = |nodes: &[Node]| -> Option<Vec<usize>> {
        let told = texts(&hidden.json(&["status"])["relay_addresses"]);
        let is_relay = |at: &usize| {
            told.iter().any(|it| it.starts_with(&format!("{}/p2p-circuit/", nodes[*at].address)))
        };
        let relays: Vec<usize> = (0..nodes.len()).filter(is_relay).collect();
        (told.len() == 2 && relays.len() == 2).then_some(relays)
    };
    let before = eventually("two relays", SOON, || relays(&nodes));
    nodes[before[0]].kill();
    let after =
        eventually("two relays again", SOON, || relays(&nodes).filter(|relays| !relays.contains(&before[0])));
    let through = format!("{}/p2p-circuit/p2p/{}", nodes[after[0]].address, hidden.peer);
    let visitor = Node::start(&[]);
    visitor.json(&["connect", &through]);
    assert_eq!(peer(&visitor, &hidden).unwrap()["reached"], "relay");
    assert!(hidden.peers().contains(&visitor.peer));
}

#[test]
fn a_node_that_relays_for_nobody_is_not_asked_and_one_without_relay_says_so() {
    let home = Home::new();
    home.run(&["config", "set", "relay_server", "false"]).exits(0);
    let command = home.command(&["start", "--listen", LOOPBACK]);
    let selfish = Node::start_by(home, command);
    let hidden = behind(&[&selfish]);
    hidden.knows(&[&selfish]);
    eventually("it says so", SOON, || {
        let status = hidden.json(&["status"]);
        let said = texts(&status["warnings"]).join("\n");
        (status["reach"] == "none" && said.contains("relay_server = true")).then_some(())
    });
    let error = hidden.error(2, &["connect", &format!("{}/p2p-circuit/tcp/1", selfish.address)]);
    assert!(text(&error["message"]).contains("/p2p-circuit"), "{error}");
}
