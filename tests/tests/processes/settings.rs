//! The configuration: what is written, what is kept, and which of several sources wins.

use std::{fs, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Guard, Home, LOOPBACK, Node, closed_port, eventually, ggen, run, skipped, text, texts};

/// The file of the guide, letter by letter.
const GUIDE: &str = r#"# Listen addresses
listen_addresses = [
    "/ip4/0.0.0.0/tcp/4001",
    "/ip6/::/tcp/4001"
]

# Bootstrap nodes for initial peer discovery
bootstrap_nodes = [
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
    "/dnsaddr/bootstrap.libp2p.io"
]

# Enable DHT server mode
dht_server_mode = true

# Gossipsub topic for package announcements
packages_topic = "/ggen/packages/v1"
"#;

fn written(home: &Home) -> String {
    fs::read_to_string(home.state().join("p2p-config.toml")).unwrap()
}

/// The value and the origin of a key, as `config show --origin` tells.
fn shown(value: &Value, key: &str) -> (Value, String) {
    let row = value["values"].as_array().unwrap().iter().find(|row| row["key"] == key);
    let row = row.unwrap_or_else(|| panic!("no {key}: {value}"));
    (row["value"].clone(), text(&row["origin"]))
}

#[test]
fn the_first_start_writes_the_defaults_and_flags_are_not_kept_unless_asked() {
    let mut node = Node::start(&[]);
    let first = written(&node);
    assert!(first.contains("/ip4/0.0.0.0/tcp/4001"), "the default, not the flag: {first}");
    assert!(first.lines().any(|line| line.starts_with('#')), "with comments");
    node.stop();
    node.start_again(&[]);
    assert_eq!(written(&node), first, "a second start leaves the file alone");
    node.stop();

    let address = format!("/ip4/127.0.0.1/tcp/{}", closed_port());
    let command = node.command(&["start", "--listen", &address, "--dht-server=false", "--save"]);
    node.start_with(command);
    let saved = written(&node);
    assert!(saved.contains(&address) && saved.contains("dht_server_mode = false"), "{saved}");
    assert!(saved.contains("# Addresses to listen on"), "comments stay: {saved}");
    let remembered = fs::read_to_string(node.state().join("start-flags.json")).unwrap();
    assert!(!remembered.contains(&address), "the configuration decides from now on: {remembered}");
    node.stop();
    let command = node.command(&["start"]);
    node.start_with(command);
    assert!(node.address.starts_with(&address), "what was saved is used: {}", node.address);
}

#[test]
fn setting_a_key_keeps_comments_and_order() {
    let home = Home::new();
    fs::create_dir(home.state()).unwrap();
    let file = home.state().join("p2p-config.toml");
    fs::write(&file, "# mine\npackages_topic = \"/a\" # why\n\n# theirs\ndht_server_mode = true\n").unwrap();
    home.run(&["config", "set", "packages_topic", "/b/v1"]).exits(0);
    assert_eq!(
        written(&home),
        "# mine\npackages_topic = \"/b/v1\" # why\n\n# theirs\ndht_server_mode = true\n"
    );
    assert_eq!(home.run(&["config", "get", "packages_topic"]).exits(0).stdout, "/b/v1\n");
    home.run(&["config", "set", "packages_topik", "/c"]).exits(2).says("packages_topic");
    home.run(&["config", "set", "dht_server_mode", "perhaps"]).exits(2).says("dht_server_mode");
    assert!(written(&home).contains("/b/v1"), "a refused value changes nothing");
}

#[test]
fn flags_win_over_the_environment_that_over_the_file_and_that_over_defaults() {
    let home = Home::new();
    fs::create_dir(home.state()).unwrap();
    let file = home.state().join("p2p-config.toml");
    fs::write(&file, "packages_topic = \"/file\"\nquery_timeout_secs = 7\n").unwrap();
    let mut command = home.command(&["config", "show", "--origin", "--format", "json"]);
    command.env("GGEN_P2P_TOPIC", "/variable");
    let value = run(command).exits(0).json();
    let (topic, origin) = shown(&value, "packages_topic");
    assert!(topic == "/variable" && origin.contains("GGEN_P2P_TOPIC"), "{origin}");
    let (secs, origin) = shown(&value, "query_timeout_secs");
    assert!(secs == 7 && origin.contains("p2p-config.toml:2"), "{origin}");
    let (server, origin) = shown(&value, "dht_server_mode");
    assert!(server == true && origin.contains("default"), "{origin}");

    let (from_file, from_env, from_flag) = (closed_port(), closed_port(), closed_port());
    let address = |port| format!("/ip4/127.0.0.1/tcp/{port}");
    fs::write(&file, format!("listen_addresses = [\"{}\"]\n", address(from_file))).unwrap();
    let mut node = Node::start_in(home, &[]);
    for (flag, variable, wanted) in [
        (None, None, from_file),
        (None, Some(from_env), from_env),
        (Some(from_flag), Some(from_env), from_flag),
    ] {
        node.stop();
        let flag = flag.map(address);
        let mut arguments = vec!["start"];
        if let Some(flag) = &flag {
            arguments.extend(["--listen", flag]);
        }
        let mut command = node.command(&arguments);
        if let Some(port) = variable {
            command.env("GGEN_P2P_LISTEN", address(port));
        }
        node.start_with(command);
        let listening = texts(&node.json(&["status"])["listen_addresses"]);
        assert_eq!(listening, [format!("{}/p2p/{}", address(wanted), node.peer)]);
    }
}

#[test]
fn the_file_of_the_guide_is_taken_as_it_stands() {
    let home = Home::new();
    fs::create_dir(home.path("user/.ggen")).unwrap();
    fs::write(home.path("user/.ggen/p2p-config.toml"), GUIDE).unwrap();
    let named = ["--config", "~/.ggen/p2p-config.toml"];
    let check = home.json(&[&["config", "check"][..], &named].concat());
    assert_eq!(check["warnings"], Value::Array(vec![]), "{check}");
    let value = home.json(&[&["config", "show", "--origin"][..], &named].concat());
    for key in ["listen_addresses", "bootstrap_nodes", "dht_server_mode", "packages_topic"] {
        assert!(shown(&value, key).1.contains("user/.ggen/p2p-config.toml:"), "{key}: {value}");
    }
    // Nobody outside of this machine is asked.
    let nobody = format!("/ip4/127.0.0.1/tcp/{}", closed_port());
    let start = ["start", "--listen", LOOPBACK, "--bootstrap", &nobody];
    let mut node = Node::start(&[]);
    node.stop();
    fs::create_dir(node.path("user/.ggen")).unwrap();
    fs::write(node.path("user/.ggen/p2p-config.toml"), GUIDE).unwrap();
    let command = node.command(&[&start[..], &named].concat());
    node.start_with(command);
    let status = node.json(&["status"]);
    assert_eq!(
        (&status["packages_topic"], &status["dht_server"]),
        (&"/ggen/packages/v1".into(), &true.into())
    );
    assert_eq!(
        fs::read_to_string(node.path("user/.ggen/p2p-config.toml")).unwrap(),
        GUIDE,
        "and left as it is"
    );
}

#[test]
fn the_same_keys_under_a_table_and_another_topic() {
    let home = Home::new();
    fs::create_dir(home.state()).unwrap();
    fs::write(
        home.state().join("p2p-config.toml"),
        format!("[p2p]\n{}", GUIDE.replace("packages/v1", "other/v1")),
    )
    .unwrap();
    let value = home.json(&["config", "show", "--origin"]);
    assert_eq!(shown(&value, "packages_topic").0, "/ggen/other/v1");
}

#[test]
fn a_hub_and_a_spoke_are_started_by_flags_and_stay_what_they_are_when_asked() {
    let mut hub = Node::start(&[]);
    hub.stop();
    let kind = ["--topology", "hub-and-spoke"];
    let command = hub.command(&[&["start", "--role", "hub", "--listen", LOOPBACK][..], &kind].concat());
    hub.start_with(command);
    let status = hub.json(&["status"]);
    assert_eq!(
        (&status["topology"], &status["role"], &status["dht_server"]),
        (&"hub-and-spoke".into(), &"hub".into(), &true.into())
    );
    let line = text(&status["bootstrap_lines"][0]);
    assert_eq!(line, format!("--topology hub-and-spoke --role spoke --hub {}", hub.address));

    let mut spoke = Node::start(&[]);
    spoke.stop();
    let address = hub.address.clone();
    let start = ["start", "--hub", &address, "--listen", LOOPBACK, "--save"];
    let command = spoke.command(&[&start[..], &kind].concat());
    spoke.start_with(command);
    let status = spoke.json(&["status"]);
    assert_eq!((&status["role"], &status["dht_server"]), (&"spoke".into(), &false.into()));
    spoke.knows(&[&hub]);
    let value = spoke.json(&["config", "show", "--origin"]);
    assert!(shown(&value, "topology").1.contains("p2p-config.toml:"), "{value}");
    assert_eq!(shown(&value, "topology.hubs").0, Value::Array(vec![address.into()]));
    assert_eq!(shown(&value, "dht_server_mode"), (false.into(), "default".to_owned()));
    spoke.stop();

    for (code, flags, said) in [
        (2, &["--role", "ephemeral"][..], "expected spoke or hub"),
        (2, &["--dht-server"][..], "dht_server_mode: true does not go with the role spoke"),
        // The hubs in the file go with no mesh either.
        (2, &["--topology", "mesh", "--role", "hub"][..], "expected peer"),
    ] {
        let error = spoke.error(code, &[&["start"][..], flags].concat());
        assert!(text(&error["message"]).contains(said), "{error}");
    }
    spoke.run(&["start", "--topology", "star"]).exits(2).says("mesh, hub-and-spoke or hybrid");
    spoke.run(&["config", "set", "role", "boss"]).exits(2).says("peer, hub, spoke, permanent or ephemeral");
}

#[test]
fn a_running_node_and_its_file_outlive_what_does_not_go_together() {
    let mut node = Node::start(&[]);
    let before = written(&node);
    let error = node.error(7, &["config", "set", "role", "hub"]);
    assert!(text(&error["hint"]).contains("config set topology hub-and-spoke"), "{error}");
    node.error(7, &["config", "set", "peers.connections_low", "100"]);
    assert_eq!(written(&node), before);
    node.run(&["config", "check"]).exits(0);
    for (key, value) in [("topology.kind", "hub-and-spoke"), ("role", "hub")] {
        node.run(&["config", "set", key, value]).exits(0).says("when it starts again");
    }

    let file = node.state().join("p2p-config.toml");
    let pid = node.json(&["status"])["pid"].clone();
    fs::write(&file, "role = \"hub\"\n").unwrap();
    node.error(7, &["restart"]);
    assert_eq!(node.json(&["status"])["pid"], pid, "it runs on");
    fs::write(&file, before).unwrap();
    node.error(2, &["restart", "--role", "hub"]);
    assert_eq!(node.json(&["status"])["pid"], pid, "it runs on");
    node.stop();
}

#[test]
fn what_is_set_takes_effect_on_the_running_node_which_says_what_it_took() {
    let node = Node::start(&[]);
    let set = node.json(&["config", "set", "packages_topic", "/another/v1"]);
    assert_eq!(set["reloaded"]["applied"], Value::from(vec!["packages_topic"]), "{set}");
    assert_eq!(node.json(&["status"])["packages_topic"], "/another/v1");
    node.run(&["config", "set", "limits.connections_max", "77"]).exits(0).says("has taken it");
    node.run(&["config", "set", "limits.connections_max", "77"]).exits(0).says("goes on as before");
    let set = node.json(&["config", "set", "query_timeout_secs", "7"]);
    assert_eq!(set["reloaded"]["restart_needed"], Value::from(vec!["query_timeout_secs"]), "{set}");

    assert!(!node.log().contains("DEBUG"), "{}", node.log());
    node.run(&["config", "set", "log.level", "debug"]).exits(0).says("has taken it");
    eventually("it logs more", Duration::from_secs(10), || {
        node.json(&["status"]);
        let _stranger =
            std::net::TcpStream::connect(format!("127.0.0.1:{}", node.address.split('/').nth(4).unwrap()));
        node.log().contains("DEBUG").then_some(())
    });
}

#[test]
fn the_file_that_the_running_node_reads_is_shown_checked_and_changed_and_a_start_that_fails_is_not_repeated()
{
    let home = Home::new();
    let file = home.path("own.toml");
    fs::write(&file, "query_timeout_secs = 7\npackages_topik = 'x'\n").unwrap();
    let start = ["start", "--daemon", "--listen"];
    home.json(&[&start[..], &[LOOPBACK, "--config", &home.text("own.toml")]].concat());
    assert!(
        shown(&home.json(&["config", "show", "--origin"]), "query_timeout_secs").1.contains("own.toml:1")
    );
    assert_eq!(home.json(&["config", "check"])["warnings"].as_array().unwrap().len(), 1);
    let set = home.json(&["config", "set", "install.max_age", "7"]);
    assert_eq!(set["reloaded"]["applied"], Value::from(vec!["install.max_age"]), "{set}");
    assert!(fs::read_to_string(&file).unwrap().contains("max_age = 7"), "{set}");
    assert!(!home.state().join("p2p-config.toml").exists());
    fs::write(home.path("third.toml"), "").unwrap();
    let third = home.text("third.toml");
    let other = home.run(&["config", "set", "install.max_age", "9", "--config", &third]).exits(0);
    other.says("does not read this file").says("--config").says("own.toml");
    // A file that is not there at the moment is not begun again with one key.
    let away = home.path("away.toml");
    fs::rename(&file, &away).unwrap();
    for named in [&[][..], &["--config", &home.text("own.toml")]] {
        let error = home.error(7, &[&["config", "set", "install.max_age", "8"], named].concat());
        assert!(text(&error["message"]).contains("does not exist"), "{error}");
    }
    assert!(!file.exists());
    fs::rename(&away, &file).unwrap();
    home.run(&["stop"]).exits(0);
    assert!(home.json(&["config", "path"])["path"].as_str().unwrap().ends_with("p2p-config.toml"));
    let set = home.run(&["config", "set", "log.level", "info"]).exits(0);
    set.says("p2p-config.toml").says("restart reads").says("own.toml");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    home.run(&[&start[..], &[&address]].concat()).exits(8);
    let again = home.json(&["restart"]);
    let _guard = Guard::new(again["pid"].as_u64().unwrap().try_into().unwrap());
    assert!(text(&again["config"]).ends_with("own.toml"), "{again}");
    home.run(&["stop"]).exits(0);
}

#[test]
fn a_hangup_makes_a_daemon_read_its_configuration_again() {
    let home = Home::new();
    let started = home.json(&["start", "--daemon", "--listen", LOOPBACK]);
    let guard = Guard::new(started["pid"].as_u64().unwrap().try_into().unwrap());
    let file = home.state().join("p2p-config.toml");
    let before = written(&home);
    assert!(before.contains("/ggen/packages/v1"), "{before}");
    fs::write(&file, before.replace("/ggen/packages/v1", "/hung/up/v1")).unwrap();
    guard.signal(Signal::HUP);
    eventually("the topic is another one", Duration::from_secs(10), || {
        (home.json(&["status"])["packages_topic"] == "/hung/up/v1").then_some(())
    });
    // What is wrong changes nothing and ends nothing.
    fs::write(&file, "packages_topic = 7\n").unwrap();
    guard.signal(Signal::HUP);
    eventually("it is told", Duration::from_secs(10), || {
        fs::read_to_string(home.state().join("node.log"))
            .unwrap()
            .contains("configuration not read")
            .then_some(())
    });
    assert_eq!(home.json(&["status"])["packages_topic"], "/hung/up/v1");
    assert!(guard.is_alive());
    home.run(&["stop"]).exits(0);
    // One in the foreground, as a service manager runs it, has no terminal whose end it could be.
    fs::write(&file, &before).unwrap();
    let node = Node::start_in(home, &[]);
    fs::write(&file, before.replace("/ggen/packages/v1", "/hung/up/v2")).unwrap();
    node.signal(Signal::HUP);
    eventually("the topic is another one", Duration::from_secs(10), || {
        (node.json(&["status"])["packages_topic"] == "/hung/up/v2").then_some(())
    });
}

#[test]
fn a_flag_that_does_not_go_with_the_saved_role_is_named_as_the_cause() {
    let home = Home::new();
    home.run(&["config", "set", "topology", "hub-and-spoke"]).exits(0);
    home.run(&["config", "set", "role", "hub"]).exits(0);
    let error = home.error(2, &["start", "--topology", "mesh", "--listen", LOOPBACK]);
    let message = text(&error["message"]);
    assert!(message.contains("p2p-config.toml") && message.contains("give --role too"), "{error}");
    assert!(message.starts_with("Topology: "), "{error}");
}

#[test]
fn the_environment_decides_what_is_logged_and_says_so_where_it_makes_no_sense() {
    let mut node = Node::start(&[]);
    node.stop();
    let start = |node: &Node, filter: &str| {
        let mut command = node.command(&["start", "--listen", LOOPBACK]);
        command.env("RUST_LOG", filter);
        command
    };
    let command = start(&node, "debug");
    node.start_with(command);
    let set = node.json(&["config", "set", "log.level", "error"]);
    assert_eq!(set["reloaded"]["applied"], Value::from(Vec::<String>::new()), "{set}");
    node.run(&["config", "set", "log.level", "warn"]).exits(0).says("the environment decides it");
    node.stop();
    assert!(node.log().contains("DEBUG"), "{}", node.log());

    fs::remove_file(node.path("log")).unwrap();
    let command = start(&node, "ggen_cli=loud");
    node.start_with(command);
    let log = node.log();
    assert!(log.contains("RUST_LOG is not a filter") && log.contains("log.level (warn)"), "{log}");
    node.run(&["config", "set", "log.level", "info"]).exits(0).says("has taken it");
}

#[test]
fn an_entry_point_that_names_nobody_is_warned_of() {
    let other = Node::start(&[]);
    let (bare, _) = other.address.rsplit_once("/p2p/").unwrap();
    let mut node = Node::start(&[]);
    node.stop();
    let command = node.command(&["start", "--listen", LOOPBACK, "--bootstrap", bare]);
    node.start_with(command);
    node.knows(&[&other]);
    assert!(node.log().contains("anyone who answers there is accepted"), "{}", node.log());
    node.stop();
    node.json(&["config", "set", "bootstrap_nodes", bare]);
    let checked = node.json(&["config", "check"]);
    assert!(texts(&checked["warnings"]).iter().any(|it| it.contains("names no peer")), "{checked}");
    node.json(&["config", "unset", "bootstrap_nodes"]);
    fs::remove_file(node.path("log")).unwrap();
    node.start_again(&[&other]);
    assert!(!node.log().contains("anyone who answers"), "{}", node.log());
}

/// Starts a node without flags in a network of its own, since the default port may be in use here, once that network is prepared; none
/// where that cannot be done.
fn start_alone(prepare: &str) -> Option<Node> {
    let script = format!("ip link set lo up && {prepare} && exec \"$@\"");
    let alone = ["-n", "sh", "-c", &script, "sh"];
    let home = Home::with_state("user/.ggen");
    let possible = home.program("unshare".as_ref()).args(alone).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skipped("no network namespace can be made here, so no node starts with the default ports");
        return None;
    }
    let mut command = home.program("unshare".as_ref());
    command.args(alone).arg(ggen()).args(["p2p", "start"]).env_remove("GGEN_HOME");
    let begun = std::time::Instant::now();
    let node = Node::start_by(home, command);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    Some(node)
}

/// The addresses of a node with the default ports, over TCP and over QUIC.
fn both(host: &str, node: &Node) -> Vec<String> {
    ["tcp/4001", "udp/4001/quic-v1"].map(|port| format!("{host}/{port}/p2p/{}", node.peer)).into()
}

#[test]
fn a_machine_whose_ipv6_is_switched_off_starts_at_once() {
    let off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6";
    let Some(node) = start_alone(off) else { return };
    let addresses = texts(&node.json(&["status"])["listen_addresses"]);
    assert_eq!(addresses, both("/ip4/127.0.0.1", &node));
    assert!(node.log().contains("no address of this kind"), "{}", node.log());
}

#[test]
fn a_start_without_flags_and_without_a_file_uses_the_defaults() {
    let Some(node) = start_alone("true") else { return };
    assert!(written(&node).contains("/ip4/0.0.0.0/tcp/4001"));
    assert!(node.state().join("keys/node.key").exists());
    let addresses = texts(&node.json(&["status"])["listen_addresses"]);
    let mut wanted = both("/ip4/127.0.0.1", &node);
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        wanted.extend(both("/ip6/::1", &node));
    }
    assert_eq!(addresses, wanted);
}
