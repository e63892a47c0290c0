//! QUIC beside TCP, from the outside.

use std::{net::UdpSocket, time::Duration};

use crate::{
    tree,
    world::{Home, LOOPBACK, Namespaces, Node, eventually, text, texts},
};

const SOON: Duration = Duration::from_secs(30);
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// What the connections of a node with another one go over.
fn transports(node: &Node, other: &Node) -> Vec<String> {
    let list = node.json(&["peer-list"]);
    let peers = list["peers"].as_array().unwrap();
    let peer = peers.iter().find(|peer| peer["peer_id"] == other.peer.as_str());
    peer.map_or_else(Vec::new, |peer| texts(&peer["transports"]))
}

fn start(arguments: &[&str]) -> Node {
    let home = Home::new();
    let command = home.command(&[&["start"], arguments].concat());
    Node::start_by(home, command)
}

#[test]
fn a_node_that_listens_on_quic_alone_is_joined_and_installed_from() {
    let author = start(&["--listen", QUIC]);
    assert!(
        author.address.contains("/udp/") && author.address.contains("/quic-v1/p2p/"),
        "{}",
        author.address
    );
    tree::bulk(&author.path("package"), "carried", 12, 2, 1 << 20);
    author.json(&["publish", &author.text("package")]);
    let reader = Node::start(&[&author]);
    reader.finds("carried", "carried", SOON);
    reader.json(&["install", "carried", "--to", &reader.text("out")]);
    tree::assert_same(&author.path("package"), &reader.path("out"));
    assert_eq!(transports(&reader, &author), ["quic"]);
    let told = reader.run(&["peer-list", "--verbose"]).exits(0).says("QUIC");
    assert!(told.stdout.contains(&author.address.replace(&format!("/p2p/{}", author.peer), "")), "{told:?}");
    let status = author.json(&["status"]);
    assert_eq!(text(&status["bootstrap_lines"][0]), format!("--bootstrap {}", author.address));
    // A command that names the address reaches it too.
    let third = start(&["--listen", LOOPBACK]);
    third.json(&["connect", &author.address]);
    assert_eq!(transports(&third, &author), ["quic"]);
    [&author, &reader, &third].into_iter().for_each(Node::is_well);
}

#[test]
fn a_udp_port_that_was_named_and_is_taken_is_an_error_that_names_its_owner() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    let home = Home::new();
    let error = home.error(8, &["start", "--listen", &address, "--listen", LOOPBACK]);
    assert_eq!(error["code"], "E_ADDRESS_IN_USE", "{error}");
    assert!(text(&error["message"]).contains(&address), "{error}");
    if cfg!(target_os = "linux") {
        let owner = format!("UDP port {port} is held by process {}", std::process::id());
        assert!(text(&error["message"]).contains(&owner), "{error}");
    }
    home.error(2, &["start", "--listen", &format!("/ip4/127.0.0.1/udp/{port}")]);
}

#[test]
fn what_blocks_one_transport_leaves_the_other_and_a_default_udp_port_that_is_taken_is_told() {
    let Some(lab) = Namespaces::new("nat.sh", &["home", "home"]) else { return };
    // Somebody has the port that nobody named.
    let other = lab.start("r", &["--listen", "/ip4/0.0.0.0/udp/4001/quic-v1", "--no-mdns"]);
    let mut without = lab.start("r", &["--no-mdns"]);
    let status = without.json(&["status"]);
    let is_taken = |address: &String| address.starts_with("/ip4/") && address.contains("/udp/");
    assert!(!texts(&status["listen_addresses"]).iter().any(is_taken), "{status}");
    let is_told = |warning: &String| warning.contains("/ip4/0.0.0.0/udp/4001/quic-v1");
    assert!(texts(&status["warnings"]).iter().any(is_told), "{status}");
    without.run(&["doctor"]).says("/ip4/0.0.0.0/udp/4001/quic-v1");
    without.stop();
    drop((without, other));

    let author = lab.start("r", &["--no-mdns"]);
    let listens = texts(&author.json(&["status"])["listen_addresses"]);
    let at = ["tcp/4001", "udp/4001/quic-v1"].map(|at| format!("/ip4/203.0.113.10/{at}/p2p/{}", author.peer));
    assert!(at.iter().all(|address| listens.contains(address)), "{listens:?}");
    tree::bulk(&author.path("package"), "carried", 13, 2, 1 << 20);
    author.json(&["publish", &author.text("package")]);
    for (host, blocked, carries) in [("a", "tcp", "quic"), ("b", "udp", "tcp")] {
        lab.block(host, blocked);
        let reader = lab.start(host, &["--no-mdns", "--bootstrap", &at[0], "--bootstrap", &at[1]]);
        reader.finds("carried", "carried", SOON);
        reader.json(&["install", "carried", "--to", &reader.text("out")]);
        tree::assert_same(&author.path("package"), &reader.path("out"));
        eventually("one transport carries it", SOON, || {
            (transports(&reader, &author) == [carries]).then_some(())
        });
        reader.is_well();
    }
    author.is_well();
}
