//! Configuration files as people write them: each mistake is told by file, line and key.

use std::fs;

use crate::world::{Home, LOOPBACK, Node, run, text};

/// What a start says of a configuration file that holds `written`; it must fail with status 7.
fn refusal(written: &[u8]) -> String {
    let home = Home::new();
    fs::create_dir(home.state()).unwrap();
    fs::write(home.state().join("p2p-config.toml"), written).unwrap();
    let error = home.error(7, &["start", "--listen", LOOPBACK]);
    assert_eq!(error["code"], "E_CONFIG");
    let daemon = home.error(7, &["start", "--daemon", "--listen", LOOPBACK]);
    assert_eq!(daemon["message"], error["message"], "the same in the background");
    assert!(!home.state().join("keys").exists(), "nothing was begun");
    text(&error["message"])
}

#[test]
fn mistakes_are_named_by_file_line_and_key() {
    for (written, told) in [
        ("\n\ndht_server_mode = \"yes\"\n", &["p2p-config.toml:3: dht_server_mode"][..]),
        ("packages_topic = \"/a\"\npackages_topic = \"/b\"\n", &["p2p-config.toml:2:", "packages_topic"]),
        (
            "bootstrap_nodes = [\n \"/ip4/1.2.3.4/tcp/1\",\n \"/ip4/1.2.3.4/tcp/2\",\n \"/dnsaddr/a.b\",\n \"/ip4/1.2.3/tcp/4\",\n]\n",
            &["p2p-config.toml:5: bootstrap_nodes[3]"],
        ),
        ("listen_addresses = \"/ip4/0.0.0.0/tcp/1\"\n", &["p2p-config.toml:1: listen_addresses"]),
        ("listen_addresses = [\n", &["p2p-config.toml:"]),
        ("query_timeout_secs = -1\n", &["p2p-config.toml:1: query_timeout_secs"]),
        ("query_timeout_secs = 99999999999999999999\n", &["p2p-config.toml:1"]),
        ("[peers]\nmin_reputation = nan\n", &["p2p-config.toml:2: peers.min_reputation"]),
        (
            "[peers]\nmin_reputation = 1.5\n[log]\nlevel = 3\n",
            &["p2p-config.toml:2: peers.min_reputation", "p2p-config.toml:4: log.level"],
        ),
    ] {
        let message = refusal(written.as_bytes());
        for part in told {
            assert!(message.contains(part), "{part}: {written:?}: {message}");
        }
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    assert!(refusal(&vec![b'#'; 10 << 20]).contains("larger than"));
    assert!(refusal(b"\xff\xfe\x00").contains("p2p-config.toml"));
    assert!(
        refusal(format!("x = {}1{}\n", "[".repeat(10_000), "]".repeat(10_000)).as_bytes())
            .contains("p2p-config.toml")
    );
    let home = Home::new();
    fs::create_dir_all(home.state().join("p2p-config.toml")).unwrap();
    let error = home.error(7, &["start", "--listen", LOOPBACK]);
    assert!(text(&error["message"]).contains("a directory"), "{error}");
    // The defaults would hold without a word.
    fs::remove_dir(home.state().join("p2p-config.toml")).unwrap();
    std::os::unix::fs::symlink(home.path("gone.toml"), home.state().join("p2p-config.toml")).unwrap();
    for verb in
        [&["start", "--listen", LOOPBACK][..], &["config", "check"], &["config", "set", "log.level", "warn"]]
    {
        let error = home.error(7, verb);
        assert!(text(&error["message"]).contains("a link that leads nowhere"), "{error}");
    }
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_key_or_refused_on_request() {
    let mut node = Node::start(&[]);
    node.stop();
    let file = node.state().join("p2p-config.toml");
    fs::write(&file, "dht_server_mod = true\n\n[logg]\nlevel = \"info\"\n").unwrap();
    node.start_again(&[]);
    let log = node.log();
    assert!(log.contains("p2p-config.toml:1: ") && log.contains("did you mean dht_server_mode"), "{log}");
    assert!(log.contains("p2p-config.toml:3: "), "{log}");
    node.stop();
    let error = node.error(7, &["start", "--listen", LOOPBACK, "--strict-config"]);
    assert!(text(&error["message"]).contains("did you mean dht_server_mode"), "{error}");
    node.error(7, &["config", "check", "--strict-config"]);
    let mixed = "dht_server_mod = true\nquery_timeout_secs = \"x\"\n[peers]\nconnections_low = 50\nconnections_high = 8\n";
    fs::write(&file, mixed).unwrap();
    let message = text(&node.error(7, &["config", "check"])["message"]);
    for (line, part) in [(1, "did you mean dht_server_mode"), (2, "a string"), (4, "not below")] {
        let told =
            message.lines().any(|it| it.contains(&format!("p2p-config.toml:{line}: ")) && it.contains(part));
        assert!(told, "{line}: {message}");
    }
    fs::write(&file, "dht_server_mod = true\n\n[logg]\nlevel = \"info\"\n").unwrap();
    let check = node.json(&["config", "check"]);
    assert_eq!(check["warnings"].as_array().unwrap().len(), 2, "{check}");
}

#[test]
fn a_variable_that_does_not_fit_is_named() {
    let home = Home::new();
    for (name, value) in [
        ("GGEN_P2P_LISTEN", "nonsense"),
        ("GGEN_P2P_BOOTSTRAP", "/ip4/1.2.3.4/tcp/1,bad"),
        ("GGEN_P2P_DHT_SERVER", "perhaps"),
        ("GGEN_P2P_QUERY_TIMEOUT_SECS", "0"),
        ("GGEN_P2P_CONFIG", "/absent/config.toml"),
    ] {
        let mut command = home.command(&["start", "--format", "json"]);
        command.env(name, value);
        let answer = run(command).calmly().exits(7);
        let message = text(&answer.json()["error"]["message"]);
        assert!(message.contains(name) || message.contains(value), "{name}: {message}");
    }
    let mut command = home.command(&["config", "show"]);
    command.env("GGEN_P2P_LISTN", LOOPBACK);
    run(command).exits(0).says("GGEN_P2P_LISTEN");
}
