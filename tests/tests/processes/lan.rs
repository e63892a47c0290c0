//! Nodes in one local network, in namespaces that the test makes: passed over where that is not allowed.

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    tree,
    world::{Home, Node, ggen, skipped, texts},
};

const SOON: Duration = Duration::from_secs(30);

/// Three hosts on one bridge; taken down when dropped.
struct Lan {
    prefix: String,
}

impl Lan {
    /// One; none where this machine does not allow it.
    fn new() -> Option<Self> {
        static LANS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("gl{}-{}-", std::process::id(), LANS.fetch_add(1, Ordering::Relaxed));
        let lan = Self { prefix };
        match lan.script("up") {
            Ok(output) if output.status.success() => Some(lan),
            Ok(output) => {
                skipped(&format!("namespaces cannot be made: {}", String::from_utf8_lossy(&output.stderr)));
                None
            }
            Err(error) => {
                skipped(&format!("namespaces cannot be made: {error}"));
                None
            }
        }
    }

    fn script(&self, verb: &str) -> std::io::Result<std::process::Output> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes/lan.sh");
        Command::new("sh").arg(script).args([verb, &self.prefix]).output()
    }

    /// A node on a host that is told of nobody.
    fn node(&self, host: &str, flags: &[&str]) -> Node {
        let home = Home::new();
        let mut command = home.program(Path::new("ip"));
        command.args(["netns", "exec", &format!("{}{host}", self.prefix)]).arg(ggen());
        command.args(["p2p", "start", "--listen", "/ip4/0.0.0.0/tcp/4001"]).args(flags);
        Node::start_by(home, command)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = self.script("down");
    }
}

fn found(node: &Node) -> Value {
    node.json(&["status"])["local_network_peers"].clone()
}

#[test]
fn nodes_of_one_local_network_find_each_other_without_being_told_of_anybody() {
    let Some(lan) = Lan::new() else { return };
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
