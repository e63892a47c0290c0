//! The JSON that scripts rely on: alone on stdout, with its version, and with every field of the documented shapes.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::{
    tree,
    world::{Guard, Home, LOOPBACK, Node, text},
};

/// Demands fields with types, given as `name:type`; `?` allows null, `[]` means a list.
#[track_caller]
fn has(value: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (name, kind) = field.split_once(':').unwrap();
        let found = value.get(name).unwrap_or_else(|| panic!("no {name} in {value:#}"));
        let fits = match kind {
            "text" => found.is_string(),
            "text?" => found.is_string() || found.is_null(),
            "number" => found.is_u64(),
            "ratio" => found.as_f64().is_some_and(|ratio| (0.0..=1.0).contains(&ratio)),
            "bool" => found.is_boolean(),
            "[]" => found.is_array(),
            other => panic!("unknown type {other}"),
        };
        assert!(fits, "{name} is no {kind} in {value:#}");
    }
}

const STATUS: &str = "peer_id:text listen_addresses:[] connected_peers:number dht_server:bool topology:text role:text \
    packages_published:number packages_indexed:number uptime_secs:number bootstrap_lines:[] health:text warnings:[]";
const PUBLISHED: &str = "publisher:text name:text version:text cid:text size:number files:number announced:bool \
    sha256:text blocks:number dht_stored:number announced_to:number already_published:bool queued:bool warnings:[]";
const SEARCHED: &str =
    "packages:[] total:number complete:bool incomplete_because:[] hidden_by_reputation:number";
const FOUND: &str = "id:text publisher:text name:text version:text description:text providers:[] reputation:ratio \
    tags:[] categories:[] license:text? cid:text size:number notes:[]";
const INSTALLED: &str = "id:text publisher:text name:text version:text cid:text path:text bytes:number providers:[] \
    files:number bytes_fetched:number already_installed:bool warnings:[]";
const PEER: &str = "peer_id:text addresses:[] reputation:ratio successful_retrievals:number failed_retrievals:number \
    last_seen:text? packages_provided:number connected:bool banned:bool";

#[test]
fn every_answer_has_the_documented_shape() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    author.knows(&[&reader]);
    tree::small(&author.path("package"), "shaped", "1.0.0", "A package with a shape", "");

    let status = author.json(&["status"]);
    has(&status, STATUS);
    assert_eq!((&status["connected_peers"], text(&status["peer_id"])), (&1.into(), author.peer.clone()));
    let address = text(&status["listen_addresses"][0]);
    assert!(
        address.starts_with("/ip4/127.0.0.1/tcp/") && address.ends_with(&format!("/p2p/{}", author.peer))
    );
    assert_eq!(text(&status["bootstrap_lines"][0]), format!("--bootstrap {address}"));

    let published = author.json(&["publish", &author.text("package")]);
    has(&published, PUBLISHED);
    assert_eq!((&published["files"], &published["announced"]), (&1.into(), &true.into()));

    reader.finds("shape", "shaped", Duration::from_secs(10));
    let searched = reader.json(&["search", "shape"]);
    has(&searched, SEARCHED);
    assert_eq!(searched["total"], 1);
    has(&searched["packages"][0], FOUND);
    assert_eq!(text(&searched["packages"][0]["id"]), format!("{}/shaped", text(&published["publisher"])));

    let installed = reader.json(&["install", "shaped", "--to", &reader.text("out")]);
    has(&installed, INSTALLED);
    assert_eq!(installed["path"], reader.text("out"));
    assert_eq!(installed["bytes"], published["size"]);

    let peers = reader.json(&["peer-list"]);
    has(&peers, "peers:[] total:number");
    has(&peers["peers"][0], PEER);
    assert_eq!((&peers["total"], text(&peers["peers"][0]["peer_id"])), (&1.into(), author.peer.clone()));
    assert_eq!(peers["peers"][0]["successful_retrievals"], 1, "{peers}");
    let info = reader.json(&["peer-info", &author.peer, "--full"]);
    has(&info, PEER);
    has(
        &reader.json(&["info", "shaped"]),
        "id:text versions:[] sequence:number released_at:text pinned:bool",
    );
    let listing = reader.json(&["list"]);
    has(
        &listing["packages"][0],
        "id:text name:text version:text cid:text kind:text path:text time:text size:number",
    );
    has(
        &reader.json(&["verify", "shaped"]),
        "ok:bool differences:[] files:number signed_by:text key_path:[]",
    );
    let bootstrapped = reader.json(&["bootstrap", &author.address]);
    has(&bootstrapped, "results:[] reached:number routing_table_before:number routing_table_after:number");

    let error = reader.run(&["install", "absent", "--format", "json"]).exits(4).json();
    has(&error, "exit_code:number");
    has(&error["error"], "code:text message:text hint:text retryable:bool");
    assert_eq!((&error["error"]["code"], &error["exit_code"]), (&"E_NOT_FOUND".into(), &4.into()));
}

#[test]
fn empty_lists_are_valid_in_every_format() {
    let node = Node::start(&[]);
    for (verb, list) in [("peer-list", "peers"), ("search", "packages"), ("list", "packages")] {
        let value = node.json(&[verb]);
        assert_eq!((&value[list], &value["total"]), (&Value::Array(vec![]), &0.into()), "{value}");
        let yaml = node.run(&[verb, "--format", "yaml"]).exits(0);
        assert!(
            yaml.stdout.starts_with("schema_version: 1\n") || yaml.stdout.contains("\nschema_version: 1")
        );
        assert!(yaml.stdout.contains(&format!("{list}: []")), "{yaml:#?}");
        for format in ["human", "table"] {
            assert!(!node.run(&[verb, "--format", format]).exits(0).stdout.is_empty());
        }
    }
}

#[test]
fn lists_are_tables_and_yaml_where_asked_for() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    reader.knows(&[&author]);
    tree::small(&author.path("package"), "listed", "2.1.0", "A package in a list", "");
    author.json(&["publish", &author.text("package")]);
    reader.finds("listed", "listed", Duration::from_secs(10));

    let table = reader.run(&["search", "listed", "--format", "table"]).exits(0);
    for column in
        ["NAME", "PUBLISHER", "VERSION", "DESCRIPTION", "PROVIDERS", "REPUTATION", "listed", "2.1.0"]
    {
        assert!(table.stdout.contains(column), "{column}: {table:#?}");
    }
    let yaml = reader.run(&["search", "listed", "--format", "yaml"]).exits(0);
    assert!(yaml.stdout.contains("name: listed") && yaml.stdout.contains("total: 1"), "{yaml:#?}");
    let table = reader.run(&["peer-list", "--format", "table"]).exits(0);
    assert!(table.stdout.contains("REPUTATION") && table.stdout.contains(&author.peer), "{table:#?}");
    let verbose = reader.run(&["peer-list", "--verbose"]).exits(0);
    for word in ["reputation", "agent", "ggen/", "/ggen/kad/1.0.0", "last seen", &author.peer] {
        assert!(verbose.stdout.contains(word), "{word}: {verbose:#?}");
    }
    let none = reader.json(&["peer-list", "--min-reputation", "1"]);
    assert_eq!(none["total"], 1, "a new peer has the best reputation: {none}");
}

#[test]
fn json_is_alone_on_stdout_and_people_are_told_on_stderr() {
    let home = Home::new();
    std::fs::create_dir(home.state()).unwrap();
    std::fs::write(home.state().join("p2p-config.toml"), "listen_adresses = []\n").unwrap();
    let shown = home.run(&["config", "show", "--origin", "--format", "json"]).exits(0);
    shown.json();
    shown.says("listen_addresses").says("warning");
    let human = home.run(&["status"]).exits(3);
    assert!(human.stdout.is_empty() && !human.stderr.is_empty(), "{human:#?}");
    let json = home.run(&["status", "--format", "json"]).exits(3);
    assert_eq!(json.json()["error"]["code"], "E_NOT_RUNNING");
    let usage = home.run(&["search", "--limit", "0", "--format", "json"]).exits(2);
    assert_eq!(usage.json()["error"]["code"], "E_USAGE");
}

#[test]
fn a_log_that_is_followed_is_a_list_without_an_end() {
    let home = Home::new();
    let started = home.json(&["start", "--daemon", "--listen", LOOPBACK]);
    let _guard = Guard::new(started["pid"].as_u64().unwrap().try_into().unwrap());
    home.run(&["config", "set", "log.level", "debug"]).exits(0);
    home.run(&["status"]).exits(0);
    for (format, item) in [("yaml", "- \""), ("json", "\"")] {
        let mut command = home.command(&["logs", "--follow", "--format", format]);
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let _follower = Guard::new(child.id());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with(item) && line.ends_with("\"\n"), "{format}: {line}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    home.run(&["stop"]).exits(0);
}
