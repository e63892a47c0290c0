//! Runs the real `ggen` in state folders of its own: its grammar, its exit codes, its errors, and what reaches a terminal.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod stand_in;

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use stand_in::StandIn;
use tempfile::TempDir;

const PEER: &str = "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ";
const NODE: &str = "/ip4/127.0.0.1/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ";

/// A folder that is both the user's home and, in `.ggen`, the state folder.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".ggen")).unwrap();
        Self { folder }
    }

    fn home(&self) -> std::path::PathBuf {
        self.folder.path().join(".ggen")
    }

    fn serve(&self) -> StandIn {
        StandIn::serve(&self.home())
    }

    fn clean(command: &mut std::process::Command, folder: &Path) {
        command.env_clear().env("HOME", folder).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(folder);
    }

    fn process(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ggen"));
        Self::clean(&mut command, self.folder.path());
        command.args(["marketplace", "p2p"]).args(arguments);
        command
    }

    /// Runs one verb to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        let command = self.process(arguments);
        assert_cmd::Command::from_std(command).timeout(Duration::from_secs(40)).output().unwrap()
    }

    /// Runs one verb with `--format json`, and checks that stdout is one document with its version.
    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        let value: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
        assert_eq!(value["schema_version"], 1, "{arguments:?}: {value}");
        (output.status.code().unwrap(), value)
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_reference_of_the_command_line() {
    fn describe(command: &mut clap::Command, text: &mut String) {
        let name = command.get_bin_name().unwrap_or("ggen").to_owned();
        text.push_str(&format!("$ {name} --help\n{}\n", command.render_long_help()));
        for below in command.get_subcommands_mut() {
            // `ggen p2p` is the same as `ggen marketplace p2p`.
            if below.get_name() != "help" && below.get_bin_name() != Some("ggen p2p") {
                describe(below, text);
            }
        }
    }
    let mut command = ggen_cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    describe(&mut command, &mut text);
    insta::assert_snapshot!("reference", text);
}

/// Every command of the P2P marketplace guide, as it stands there.
const GUIDE: &str = "
ggen marketplace p2p start
ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/4001
ggen marketplace p2p start --bootstrap /ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ --bootstrap /dnsaddr/bootstrap.libp2p.io
ggen marketplace p2p start --daemon
ggen marketplace p2p start --config ~/.ggen/p2p-config.toml
ggen marketplace p2p publish ./my-package
ggen marketplace p2p publish ./my-package --version 1.2.3
ggen marketplace p2p publish ./my-package --skip-verify
ggen marketplace p2p search database
ggen marketplace p2p search database --category middleware
ggen marketplace p2p search auth --tags security --tags oauth
ggen marketplace p2p search web --limit 10
ggen marketplace p2p search crypto --min-reputation 0.8
ggen marketplace p2p peer-list
ggen marketplace p2p peer-list --verbose
ggen marketplace p2p peer-list --min-reputation 0.7
ggen marketplace p2p peer-list --format json
ggen marketplace p2p peer-info QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ
ggen marketplace p2p peer-info QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ --full
ggen marketplace p2p bootstrap /ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ /dnsaddr/bootstrap.libp2p.io
ggen marketplace p2p bootstrap /dnsaddr/bootstrap.libp2p.io --timeout 60
ggen marketplace p2p status
ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/0
ggen marketplace p2p search query --limit 50
ggen marketplace p2p search query --min-reputation 0.8
ggen marketplace p2p start --listen /ip4/0.0.0.0/tcp/4001 --dht-server --daemon
ggen p2p start --dht-server false
ggen p2p start --dht-server=true --daemon";

#[test]
fn every_command_of_the_guide_parses() {
    for line in GUIDE.trim().lines() {
        ggen_cli::command()
            .try_get_matches_from(line.split(' '))
            .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

/// What people see, without the temporary folder's path.
#[test]
fn answers_for_people() {
    let world = World::new();
    let _node = world.serve();
    fs::create_dir(world.folder.path().join("web")).unwrap();
    let mut text = String::new();
    for line in [
        "status",
        "search web",
        "search web --format table",
        "search nothing",
        "publish web --version 1.2.3",
        "install web",
        "install forged",
        "list",
        "verify web",
        "peer-list",
        "peer-list --verbose",
        "peer-info QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ --full",
        "bootstrap /dnsaddr/bootstrap.libp2p.io",
        "disconnect QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
        "config path --format yaml",
        "key list",
        "serch",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = world.run(&arguments);
        text.push_str(&format!("$ ggen marketplace p2p {line}\n{}", stdout(&output)));
        for line in stderr(&output).lines() {
            text.push_str(&format!("(stderr) {line}\n"));
        }
        text.push_str(&format!("[{}]\n\n", code(&output)));
    }
    let folder = world.folder.path().canonicalize().unwrap();
    let text = text.replace(folder.to_str().unwrap(), "/home/ada");
    // How long ago a fixed time was changes every day.
    let mut lines: Vec<&str> = text.lines().collect();
    let shortened: Vec<&str> =
        lines.iter_mut().map(|line| line.split_once("Z (").map_or(*line, |(before, _)| before)).collect();
    insta::assert_snapshot!("answers", shortened.join("\n"));
}

/// Every argument that must be refused, with a word that the message must hold.
const REFUSED: &[(&[&str], &str)] = &[
    (&["search", "x", "--limit", "0"], "--limit"),
    (&["search", "x", "--limit", "0"], "1 to 1000"),
    (&["search", "x", "--limit", "-1"], "--limit"),
    (&["search", "x", "--limit", "9223372036854775808"], "1 to 1000"),
    (&["search", "x", "--limit", "18446744073709551616"], "1 to 1000"),
    (&["search", "x", "--limit", "nan"], "--limit"),
    (&["search", "x", "--limit", "\u{1b}[31m"], "--limit"),
    (&["search", "x", "--limit", "１０"], "--limit"),
    (&["search", "x", "--limit"], "--limit"),
    (&["search", "x", "--offset", "-1"], "--offset"),
    (&["search", "x", "--timeout", "0"], "--timeout"),
    (&["search", "x", "--timeout", "-5"], "--timeout"),
    (&["search", "x", "--timeout", "nan"], "3600"),
    (&["search", "x", "--min-reputation", "1.5"], "0 to 1"),
    (&["search", "x", "--min-reputation", "-1"], "--min-reputation"),
    (&["search", "x", "--min-reputation", "nan"], "--min-reputation"),
    (&["info", "x", "y"], "unexpected argument"),
    (&["search", "--format", "xml"], "--format"),
    (&["peer-list", "--min-reputation", "inf"], "0 to 1"),
    (&["peer-list", "extra"], "unexpected argument"),
    (&["peer-info"], "PEER_ID"),
    (&["peer-info", "not-a-peer-id"], "12D3"),
    (&["peer-info", "\u{1b}[31m"], "peer id"),
    (&["disconnect", "QmX"], "peer id"),
    (&["bootstrap"], "NODES"),
    (&["bootstrap", "/ip4/999.1.1.1/tcp/1"], "999.1.1.1"),
    (&["bootstrap", NODE, "--timeout", "0"], "1 to 86400"),
    (&["bootstrap", NODE, "--timeout", "9223372036854775808"], "--timeout"),
    (&["connect", "nonsense"], "nonsense"),
    (&["start", "--listen", "/ip4/1.2.3.4/tcp/70000"], "70000"),
    (&["start", "--listen", "/dnsaddr/example.org"], "--listen"),
    (&["start", "--bootstrap", "/ip4/1.2.3.4/tcp/1/p2p/QmX"], "--bootstrap"),
    (&["start", "--dht-server", "maybe"], "--dht-server"),
    (&["start", "--deamon"], "--daemon"),
    (&["publish", "a-file"], "not a directory"),
    (&["publish", "nowhere"], "does not exist"),
    (&["publish", ".", "--version", "1.2"], "--version"),
    (&["publish", ".", "--version", "1.2.3+meta"], "--version"),
    (&["publish", ".", "--version", "-1.0.0"], "--version"),
    (&["publish", ".", "--timeout", "0"], "--timeout"),
    (&["install"], "gpack.toml"),
    (&["install", "a", "--locked"], "--locked"),
    (&["install", "a", "--offline", "--fresh"], "--offline"),
    (&["install", "--to", "x"], "--to"),
    (&["add"], "PACKAGE"),
    (&["add", "a"], "gpack.toml"),
    (&["remove"], "PACKAGE"),
    (&["update", "a", "--precise", "1"], "--precise"),
    (&["outdated", "--timeout", "0"], "--timeout"),
    (&["tree"], "gpack.toml"),
    (&["why"], "PACKAGE"),
    (&["install", "../x"], "package"),
    (&["install", "UPPER"], "package name"),
    (&["install", "a@1.2.3.4"], "version"),
    (&["install", "gp1x/a"], "package"),
    (&["remove"], "PACKAGE"),
    (&["service", "install", "--name", "a/b"], "--name"),
    (&["install", "a", "--timeout", "-1"], "--timeout"),
    (&["verify", "a b"], "package name"),
    (&["info", "pаypal"], "ASCII"),
    (&["logs", "--lines", "-1"], "--lines"),
    (&["completions", "tcsh"], "possible values"),
    (&["demo", "--nodes", "1"], "2 to 16"),
    (&["config", "get", "listen_adresses"], "listen_addresses"),
    (&["config", "set", "dht_server_mode", "perhaps"], "dht_server_mode"),
    (&["key", "new", "../x"], "name"),
    (&["serch", "x"], "search"),
    (&["peer-lst"], "peer-list"),
    (&[], "Usage"),
];

#[test]
fn malformed_arguments_are_refused_by_name_with_status_2() {
    let world = World::new();
    fs::write(world.folder.path().join("a-file"), "x").unwrap();
    for (arguments, word) in REFUSED {
        let output = world.run(arguments);
        let message = stderr(&output);
        assert_eq!(code(&output), 2, "{arguments:?}: {output:?}");
        assert!(message.contains(word), "{arguments:?}: {message}");
        assert!(!message.contains('\u{1b}'), "{arguments:?}: {message:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn malformed_arguments_are_json_where_json_was_asked_for() {
    let world = World::new();
    fs::write(world.folder.path().join("a-file"), "x").unwrap();
    for (arguments, _) in REFUSED {
        if arguments.contains(&"xml") || arguments.ends_with(&["--limit"]) {
            continue;
        }
        let (status, value) = world.json(arguments);
        assert_eq!(status, 2, "{arguments:?}");
        assert_eq!(value["exit_code"], 2, "{arguments:?}: {value}");
        assert!(!value["error"]["message"].as_str().unwrap().is_empty(), "{arguments:?}: {value}");
    }
}

#[test]
fn malformed_arguments_are_yaml_where_yaml_was_asked_for() {
    let world = World::new();
    let output = world.run(&["search", "x", "--limit", "0", "--format", "yaml"]);
    assert_eq!((code(&output), stderr(&output)), (2, String::new()), "{output:?}");
    let told = stdout(&output);
    for part in ["error:\n", "  code: E_USAGE\n", "exit_code: 2\n", "schema_version: 1\n", "--limit"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn without_a_node_every_verb_that_needs_one_says_so_with_status_3() {
    let world = World::new();
    fs::create_dir(world.folder.path().join("package")).unwrap();
    for arguments in [
        &["status"] as &[&str],
        &["stop"],
        &["install", "a", "--no-start"],
        &["peer-list"],
        &["peer-info", PEER],
        &["bootstrap", NODE],
        &["connect", NODE],
        &["disconnect", PEER],
        &["publish", "package", "--no-queue"],
    ] {
        let output = world.run(arguments);
        assert_eq!(code(&output), 3, "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        let message = stderr(&output);
        for part in
            ["error: could not ", "  why: ", "  next: ", "E_NOT_RUNNING", "ggen marketplace p2p start"]
        {
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
        let (status, value) = world.json(arguments);
        assert_eq!((status, &value["exit_code"]), (3, &Value::from(3)), "{value}");
        assert_eq!(value["error"]["code"], "E_NOT_RUNNING");
        assert_eq!(value["error"]["retryable"], false);
        assert!(value["error"]["hint"].as_str().unwrap().contains("p2p start"));
    }
    assert_eq!(fs::read_dir(world.home()).unwrap().count(), 0, "asking leaves nothing behind");
}

#[test]
fn the_state_folder_is_the_flag_then_the_variable_then_dot_ggen() {
    let world = World::new();
    let other = tempfile::tempdir().unwrap();
    let _node = StandIn::serve(other.path());
    let run = |arguments: &[&str], variable: &str| {
        let mut command = world.process(arguments);
        code(&command.env("GGEN_HOME", variable).output().unwrap())
    };
    let other = other.path().to_str().unwrap();
    assert_eq!(code(&world.run(&["status"])), 3);
    assert_eq!(run(&["status"], other), 0);
    assert_eq!(run(&["status"], ""), 3);
    assert_eq!(run(&["status", "--home", "~/.ggen"], other), 3);
    assert_eq!(code(&world.run(&["status", "--home", other])), 0);
}

#[test]
fn the_alias_and_help_work() {
    let world = World::new();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ggen"));
        World::clean(&mut command, world.folder.path());
        command.args(arguments).output().unwrap()
    };
    assert_eq!(code(&run(&["p2p", "status"])), 3);
    let help = run(&["marketplace", "p2p", "help", "search"]);
    assert_eq!(code(&help), 0);
    assert!(stdout(&help).contains("--min-reputation"));
    let version = run(&["--version"]);
    assert_eq!((code(&version), stdout(&version).starts_with("ggen ")), (0, true));
    assert_eq!(code(&run(&["--format", "json", "p2p", "status"])), 3);
}

#[test]
fn a_closed_stdout_ends_a_command_quietly() {
    let world = World::new();
    let _node = world.serve();
    for arguments in
        [&["completions", "bash"] as &[&str], &["peer-list"], &["status", "--format", "json"], &["--help"]]
    {
        let mut command = world.process(arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output =
            command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn nothing_that_a_peer_wrote_controls_the_terminal() {
    let world = World::new();
    let _node = world.serve();
    for format in ["human", "table", "json", "yaml"] {
        for arguments in [
            &["search", "x"] as &[&str],
            &["peer-list"],
            &["peer-list", "--verbose"],
            &["peer-info", PEER, "--full"],
            &["list"],
            &["install", "forged"],
        ] {
            let output = world.run(&[arguments, &["--format", format]].concat());
            for text in [stdout(&output), stderr(&output)] {
                let unsafe_one = text.chars().find(|character| {
                    (character.is_control() && *character != '\n') || *character == '\u{202e}'
                });
                assert_eq!(unsafe_one, None, "{arguments:?} {format}: {text:?}");
            }
        }
    }
    let (_, value) = world.json(&["search", "x"]);
    assert_eq!(value["packages"][0]["description"], stand_in::HOSTILE, "json loses nothing");
}

#[test]
fn answers_have_the_shape_that_scripts_rely_on() {
    let world = World::new();
    let _node = world.serve();
    let (status, value) = world.json(&["status"]);
    assert_eq!(status, 0);
    for field in [
        "peer_id",
        "listen_addresses",
        "connected_peers",
        "dht_server",
        "packages_published",
        "packages_indexed",
        "uptime_secs",
    ] {
        assert!(value.get(field).is_some(), "{field}: {value}");
    }
    let text = stdout(&world.run(&["status"]));
    assert!(text.contains("--bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3KooWTest"), "{text}");
    assert!(text.contains("1h 1m") && text.contains("warning: no bootstrap peer answers"), "{text}");
    let yaml = stdout(&world.run(&["peer-list", "--format", "yaml"]));
    assert!(yaml.contains("schema_version: 1\n") && yaml.contains("\n  - addresses:\n"), "{yaml}");
    let (_, peers) = world.json(&["peer-list"]);
    assert_eq!((&peers["total"], &peers["peers"][0]["reputation"]), (&Value::from(1), &Value::from(0.75)));
}

#[test]
fn arguments_reach_the_node_as_they_were_meant() {
    let world = World::new();
    let _node = world.serve();
    let flags = ["search", "web", "--category", "a,b", "--category", "c", "--tags", "x,y", "--tags", "z"];
    let (_, value) = world.json(&[&flags[..], &["--limit", "7", "--min-reputation", "0.5"]].concat());
    let package = &value["packages"][0];
    assert_eq!(package["categories"], serde_json::json!(["a,b", "c"]));
    assert_eq!(package["tags"], serde_json::json!(["x", "y", "z"]));
    assert_eq!((&package["size"], &package["reputation"]), (&Value::from(7), &Value::from(0.5)));
    assert_eq!(world.json(&["search", ""]).1["packages"][0]["size"], 20);

    fs::create_dir(world.folder.path().join("web")).unwrap();
    let (_, published) = world.json(&["publish", "./web", "--version", "1.2.3"]);
    assert_eq!(published["version"], "1.2.3");
    assert!(Path::new(published["id"].as_str().unwrap()).is_absolute(), "{published}");
    let (_, installed) = world.json(&["install", "web@1.0.0"]);
    assert_eq!(installed["id"], "web@1.0.0");
    let expected = world.folder.path().canonicalize().unwrap().join("web");
    assert_eq!(Path::new(installed["path"].as_str().unwrap()), expected);
    let cid = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe";
    let (_, peer) = world.json(&["peer-info", cid]);
    assert_eq!(peer["peer_id"], "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
}

#[test]
fn what_the_answer_tells_is_also_the_exit_status() {
    let world = World::new();
    let _node = world.serve();
    assert_eq!(code(&world.run(&["search", "x"])), 0);
    assert_eq!(world.json(&["search", "x", "--strict"]).0, 10);
    assert_eq!(world.json(&["search", "nothing", "--strict"]).0, 0);
    assert_eq!(world.json(&["bootstrap", NODE]).0, 5);
    assert_eq!(world.json(&["connect", NODE]).0, 5);
    assert_eq!(world.json(&["verify", "a"]).0, 6);
    assert_eq!(world.json(&["info", "a"]).0, 4);
    assert_eq!(world.json(&["install", "forged"]).0, 6);
    let text = stdout(&world.run(&["search", "nothing"]));
    assert!(text.contains("Nothing matches among 9 indexed packages") && !text.contains("--limit"), "{text}");
    let install = world.run(&["install", "web"]);
    assert_eq!((code(&install), stderr(&install).as_str()), (0, ""), "no progress without a terminal");
}

#[test]
fn ctrl_c_cancels_a_verb_with_status_130() {
    let world = World::new();
    let _node = world.serve();
    let mut command = world.process(&["install", "endless", "--format", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["error"]["code"], &value["exit_code"]), (&"E_INTERRUPTED".into(), &130.into()));
}

#[test]
fn configuration_is_shown_with_its_origin_set_and_checked() {
    let world = World::new();
    let (status, none) = world.json(&["config", "check", "--strict-config"]);
    assert_eq!((status, &none["exists"], &none["warnings"]), (0, &false.into(), &Value::Array(Vec::new())));
    let said = stdout(&world.run(&["config", "check"]));
    assert!(said.contains("the defaults hold"), "{said}");
    assert_eq!(world.json(&["config", "init"]).1["written"], true);
    assert_eq!(world.json(&["config", "init"]).1["written"], false);
    let set = world.run(&["config", "set", "packages_topic", "/mine"]);
    assert_eq!(code(&set), 0, "{set:?}");
    assert_eq!(stdout(&world.run(&["config", "get", "packages_topic"])), "/mine\n");
    let mut command = world.process(&["config", "show", "--origin", "--format", "json"]);
    let output = command.env("GGEN_P2P_DHT_SERVER", "false").output().unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let origin = |key: &str| {
        let values = value["values"].as_array().unwrap();
        let row = values.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].clone(), row["origin"].as_str().unwrap().to_owned())
    };
    assert!(origin("packages_topic").1.contains("p2p-config.toml:"), "{value}");
    assert_eq!(origin("dht_server_mode"), (false.into(), "GGEN_P2P_DHT_SERVER".to_owned()));
    let path = world.json(&["config", "path"]).1;
    assert_eq!(path["exists"], true);
    assert_eq!(code(&world.run(&["config", "check"])), 0);
    fs::write(path["path"].as_str().unwrap(), "packages_topik = \"/x\"\n").unwrap();
    let warned = world.json(&["config", "check"]).1;
    assert!(warned["warnings"][0].as_str().unwrap().contains("packages_topic"), "{warned}");
    assert_eq!(world.json(&["config", "check", "--strict-config"]).0, 7);
    let schema: Value = serde_json::from_slice(&world.run(&["config", "schema"]).stdout).unwrap();
    assert!(schema["properties"]["listen_addresses"].is_object(), "{schema}");
    assert_eq!(schema.get("schema_version"), None, "for people, the document alone");
    let (_, mut versioned) = world.json(&["config", "schema"]);
    versioned.as_object_mut().unwrap().remove("schema_version");
    assert_eq!(versioned, schema);
    let yaml = stdout(&world.run(&["config", "schema", "--format", "yaml"]));
    assert!(yaml.contains("schema_version: 1\n") && yaml.contains("\n  listen_addresses:\n"), "{yaml}");
    assert_eq!(code(&world.run(&["config", "check", "--config", "nowhere.toml"])), 7);
}

#[test]
fn a_start_with_a_bad_configuration_fails_here_and_in_the_background() {
    let world = World::new();
    fs::write(world.folder.path().join("bad.toml"), "\nlisten_addresses = [\"/ip4/999/tcp/1\"]\n").unwrap();
    for daemon in [&[] as &[&str], &["--daemon"]] {
        let missing = world.run(&[&["start", "--config", "nowhere.toml"], daemon].concat());
        assert_eq!(code(&missing), 7, "{missing:?}");
        assert!(stderr(&missing).contains("nowhere.toml"), "{missing:?}");
        let (status, value) = world.json(&[&["start", "--config", "bad.toml"], daemon].concat());
        assert_eq!(status, 7, "{value}");
        let message = value["error"]["message"].as_str().unwrap();
        assert!(message.contains("bad.toml:2:") && message.contains("listen_addresses[0]"), "{message}");
    }
}

#[test]
fn keys_are_made_exported_and_imported_without_a_node() {
    let world = World::new();
    assert_eq!(world.json(&["key", "list"]).1["total"], 0);
    let (status, made) = world.json(&["key", "new"]);
    assert_eq!((status, &made["name"]), (0, &"default".into()));
    assert_eq!(world.json(&["key", "new"]).0, 9, "a key is never replaced");
    assert_eq!(code(&world.run(&["key", "export", "--to", "mine.key"])), 0);
    assert_eq!(world.json(&["key", "export", "--to", "mine.key"]).0, 9);
    let file = world.folder.path().join("mine.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(stdout(&world.run(&["key", "export"])), fs::read_to_string(&file).unwrap());
    assert_eq!(world.json(&["key", "import", "copy", "mine.key"]).0, 9, "it is here under its name");
    fs::write(&file, "nonsense").unwrap();
    assert_eq!(world.json(&["key", "import", "other", "mine.key"]).0, 7);
    assert_eq!(world.json(&["key", "list"]).1["total"], 1);
    let stored = world.home().join("keys/publishers/default.key");
    fs::set_permissions(&stored, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let listed = world.json(&["key", "list"]).1;
    assert!(listed["keys"][0]["error"].as_str().unwrap().contains("chmod 600"), "{listed}");
    assert_eq!(world.json(&["key", "export"]).0, 7);
}

#[test]
fn the_log_shows_its_last_lines_and_follows() {
    let world = World::new();
    assert_eq!(code(&world.run(&["logs"])), 4);
    fs::write(
        world.home().join("node.log"),
        format!("one\ntwo {}\nthree\n", stand_in::HOSTILE.replace('\n', "")),
    )
    .unwrap();
    let (_, value) = world.json(&["logs", "--lines", "1"]);
    assert_eq!(value["lines"], serde_json::json!(["three"]));
    assert!(!stdout(&world.run(&["logs"])).contains('\u{1b}'));
    let mut child =
        world.process(&["logs", "--follow", "--lines", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let mut log = fs::OpenOptions::new().append(true).open(world.home().join("node.log")).unwrap();
    std::io::Write::write_all(&mut log, b"four\n").unwrap();
    let mut text = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(&text, b"four\n");
}
