//! Nodes behind NATs, in namespaces of the network that the test makes: passed over where that is not allowed.

use std::{
    process::Command,
    time::{Duration, Instant},
};

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

/// Whether two nodes can connect directly behind these NATs, by a dial, or by a hole punched at both ends.
fn is_possible(one: &str, other: &str) -> bool {
    let narrow = ["home", "symmetric"];
    !(one == "symmetric" && narrow.contains(&other) || other == "symmetric" && narrow.contains(&one))
}

#[test]
fn every_pair_of_nats_connects_directly_where_that_is_possible_and_over_the_relay_elsewhere() {
    const KINDS: [&str; 5] = ["none", "full", "address", "home", "symmetric"];
    const HOSTS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let kinds: Vec<&str> = KINDS.into_iter().cycle().take(HOSTS.len()).collect();
    let Some(lab) = Namespaces::new("nat.sh", &kinds) else { return };
    let relay = lab.node("r", &["--no-mdns"]);
    let relay_at = format!("/ip4/203.0.113.10/tcp/4001/p2p/{}", relay.peer);
    let nodes = HOSTS.map(|host| lab.node(host, &["--no-mdns", "--bootstrap", &relay_at]));
    let mut addresses = Vec::new();
    for ((place, node), kind) in nodes.iter().enumerate().zip(&kinds) {
        addresses.push(match *kind {
            "none" => format!("/ip4/203.0.113.{}/tcp/4001/p2p/{}", 21 + place, node.peer),
            _ => eventually("reached through a relay", SOON, || {
                texts(&node.json(&["status"])["relay_addresses"]).first().cloned()
            }),
        });
    }
    // Those of the first half wish for those of the second.
    let (these, those) = nodes.split_at(KINDS.len());
    for (of_one, one) in KINDS.into_iter().zip(these) {
        for ((of_other, other), at) in KINDS.into_iter().zip(those).zip(&addresses[KINDS.len()..]) {
            let wish = Instant::now();
            one.json(&["connect", at]);
            if is_possible(of_one, of_other) {
                let what = format!("a direct connection of {of_one} with {of_other}");
                eventually(&what, DIRECT, || (reached(one, other)? == "direct").then_some(()));
            }
            eprintln!("{of_one}, {of_other}: {:?} after {:?}", reached(one, other), wish.elapsed());
        }
    }
    for (of_one, one) in KINDS.into_iter().zip(these) {
        for (of_other, other) in KINDS.into_iter().zip(those) {
            let how = if is_possible(of_one, of_other) { "direct" } else { "relay" };
            assert_eq!(reached(one, other).as_deref(), Some(how), "{of_one} with {of_other}");
        }
    }
    nodes.iter().for_each(Node::is_well);
}

#[test]
fn where_tcp_is_blocked_relays_and_direct_connections_are_over_quic() {
    let Some(lab) = Namespaces::new("nat.sh", &["home", "home"]) else { return };
    let relay = lab.start("r", &["--no-mdns"]);
    let relay_at = format!("/ip4/203.0.113.10/udp/4001/quic-v1/p2p/{}", relay.peer);
    let [a, b] = ["a", "b"].map(|host| {
        lab.block(host, "tcp");
        lab.start(host, &["--no-mdns", "--bootstrap", &relay_at])
    });
    let through = format!("{relay_at}/p2p-circuit/p2p/{}", a.peer);
    eventually("reached through the relay", SOON, || {
        (texts(&a.json(&["status"])["relay_addresses"]) == [through.clone()]).then_some(())
    });
    b.json(&["connect", &through]);
    eventually("a direct connection", SOON, || (reached(&b, &a)? == "direct").then_some(()));
    [&relay, &a, &b].into_iter().for_each(Node::is_well);
}

/// The addresses at which a node knows another one, and what its connections with it go over.
fn known(node: &Node, other: &Node) -> Option<(Vec<String>, Vec<String>)> {
    let list = node.json(&["peer-list"]);
    let peer =
        list["peers"].as_array().unwrap().iter().find(|peer| peer["peer_id"] == other.peer.as_str())?;
    Some((texts(&peer["addresses"]), texts(&peer["transports"])))
}

#[test]
fn where_udp_is_blocked_everything_is_over_tcp_and_nobody_is_told_of_quic() {
    let Some(lab) = Namespaces::new("nat.sh", &["no-udp", "home"]) else { return };
    let relay = lab.start("r", &["--no-mdns"]);
    let [over_quic, over_tcp] = ["udp/4001/quic-v1", "tcp/4001"]
        .map(|carrier| format!("/ip4/203.0.113.10/{carrier}/p2p/{}", relay.peer));
    let bootstrap = ["--no-mdns", "--bootstrap", &over_quic, "--bootstrap", &over_tcp];
    let blocked = lab.start("a", &bootstrap);
    let start = Instant::now();
    let over = |node: &Node, other: &Node| known(node, other).map(|(_, transports)| transports);
    eventually("connected over TCP", DIRECT, || (over(&blocked, &relay)? == ["tcp"]).then_some(()));
    eprintln!("connected over TCP {:?} after its start", start.elapsed());
    let through = format!("{over_tcp}/p2p-circuit/p2p/{}", blocked.peer);
    eventually("reached through the relay", SOON, || {
        (texts(&blocked.json(&["status"])["relay_addresses"]) == [through.clone()]).then_some(())
    });
    let other = lab.start("b", &bootstrap);
    let wish = Instant::now();
    other.json(&["connect", &through]);
    let left = DIRECT.saturating_sub(wish.elapsed());
    eventually("a direct connection", left, || (reached(&other, &blocked)? == "direct").then_some(()));
    let (addresses, transports) = known(&other, &blocked).unwrap();
    assert!(
        !addresses.iter().chain(&transports).any(|it| it.contains("quic")),
        "{addresses:?} {transports:?}"
    );
    [&relay, &blocked, &other].into_iter().for_each(Node::is_well);
}

/// The bytes and packets that an interface of a host received and sent.
fn counted(lab: &Namespaces, host: &str, interface: &str) -> [u64; 4] {
    let counters = ["rx_bytes", "tx_bytes", "rx_packets", "tx_packets"];
    counters.map(|counter| {
        let file = format!("/sys/class/net/{interface}/statistics/{counter}");
        let mut command = Command::new("ip");
        let read = command.args(["netns", "exec", &lab.name(host), "cat", &file]).output().unwrap();
        String::from_utf8(read.stdout).unwrap().trim().parse().unwrap()
    })
}

/// Counts for so many seconds as `GGEN_TEST_IDLE_SECONDS` says; it is passed over where that says nothing.
#[test]
fn an_idle_node_that_is_reached_on_two_relays_moves_little() {
    let Ok(seconds) = std::env::var("GGEN_TEST_IDLE_SECONDS") else { return };
    let seconds: u64 = seconds.parse().unwrap();
    let Some(lab) = Namespaces::new("nat.sh", &["none", "home"]) else { return };
    let relays = [("r", "203.0.113.10"), ("a", "203.0.113.21")]
        .map(|(host, ip)| (lab.start(host, &["--no-mdns"]), format!("/ip4/{ip}/tcp/4001")));
    let [first, second] = relays.each_ref().map(|(relay, at)| format!("{at}/p2p/{}", relay.peer));
    let node = lab.start("b", &["--no-mdns", "--bootstrap", &first, "--bootstrap", &second]);
    eventually("reached through two relays", SOON, || {
        (texts(&node.json(&["status"])["relay_addresses"]).len() == 2).then_some(())
    });
    // What follows a start is over by then.
    std::thread::sleep(Duration::from_secs(60));
    let before = counted(&lab, "b", "eth");
    std::thread::sleep(Duration::from_secs(seconds));
    let after = counted(&lab, "b", "eth");
    let [received, sent, packets_in, packets_out] = std::array::from_fn(|n| after[n] - before[n]);
    eprintln!("{received} + {sent} bytes in {packets_in} + {packets_out} packets and {seconds} seconds");
    assert!((received + sent) / seconds < 300, "{} bytes a second", (received + sent) / seconds);
    node.is_well();
}

/// Has so many pairs of nodes connect directly as `GGEN_TEST_PUNCHES` says, one where it says nothing: each takes some seconds. All listen
/// at `carrier`.
fn punched(carrier: &str) {
    const KINDS: [(&str, &str); 4] =
        [("home", "home"), ("remap", "remap"), ("home", "remap"), ("remap", "home")];
    let tries: usize = std::env::var("GGEN_TEST_PUNCHES").map_or(1, |tries| tries.parse().unwrap());
    let (mut first, mut later, mut took) = (0, 0, Vec::new());
    for (of_a, of_b) in KINDS.into_iter().cycle().take(tries) {
        let Some(lab) = Namespaces::new("nat.sh", &[of_a, of_b]) else { return };
        let own = format!("/ip4/0.0.0.0/{carrier}");
        let relay = lab.start("r", &["--listen", &own, "--no-mdns"]);
        let relay_at = format!("/ip4/203.0.113.10/{carrier}/p2p/{}", relay.peer);
        let [a, b] = ["a", "b"]
            .map(|host| lab.start(host, &["--listen", &own, "--no-mdns", "--bootstrap", &relay_at]));
        let through = format!("{relay_at}/p2p-circuit/p2p/{}", a.peer);
        eventually("reached through the relay", SOON, || {
            let is_held = |node: &Node| !texts(&node.json(&["status"])["relay_addresses"]).is_empty();
            (is_held(&a) && is_held(&b)).then_some(())
        });
        let wish = Instant::now();
        b.json(&["connect", &through]);
        let given_up = wish + SOON;
        while reached(&b, &a).as_deref() != Some("direct") && Instant::now() < given_up {
            std::thread::sleep(Duration::from_millis(50));
        }
        took.push(wish.elapsed());
        match reached(&b, &a).as_deref() {
            Some("direct") if [&a, &b].iter().any(|node| node.log().contains("attempt=1")) => first += 1,
            Some("direct") => later += 1,
            _ => eprintln!("{of_a} and {of_b}: none\n{}\n{}", a.log(), b.log()),
        }
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100);
    eprintln!(
        "{carrier}, {tries} tries: {first} by the first attempt, {later} by a later one; seen after {:?} (half of them), {:?} (19 of 20)",
        at(50),
        at(95)
    );
    assert!((first + later) * 100 >= tries * 95, "{first} and {later} of {tries}");
    // Of a few, one may well need a second attempt.
    assert!(tries < 20 || first * 100 >= tries * 95, "{first} of {tries}");
}

#[test]
fn punches_over_tcp_succeed_by_the_first_attempt() {
    punched("tcp/4001");
}

#[test]
fn punches_over_quic_succeed_by_the_first_attempt() {
    punched("udp/4001/quic-v1");
}
