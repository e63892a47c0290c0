//! The life of a node's process: ready, stopped, killed, in the background, started again.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    tree,
    world::{Guard, Home, LOOPBACK, Node, closed_port, eventually, run, stat, text, texts},
};

/// What a graceful stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

#[test]
fn the_readiness_line_names_the_peer_and_every_address() {
    let home = Home::new();
    let mut command = home.command(&["start", "--listen", LOOPBACK]);
    let out = fs::File::create(home.path("stdout")).unwrap();
    let started = Instant::now();
    let mut child = command.stdout(out).stderr(std::process::Stdio::null()).spawn().unwrap();
    let guard = Guard::new(child.id());
    let said = eventually("it is ready", Duration::from_secs(20), || {
        let said = fs::read_to_string(home.path("stdout")).unwrap();
        said.contains("is ready").then_some(said)
    });
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let status = home.json(&["status"]);
    assert!(said.contains(&text(&status["peer_id"])), "{said}");
    assert!(said.contains(&text(&status["listen_addresses"][0])), "{said}");
    assert!(!said.contains("/tcp/0/"), "the port that was chosen is told: {said}");
    guard.signal(Signal::INT);
    assert!(child.wait().unwrap().success());
}

#[test]
fn interrupt_and_terminate_stop_in_good_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut node = Node::start(&[]);
        let other = Node::start(&[&node]);
        node.knows(&[&other]);
        let socket = node.state().join("control.sock");
        assert!(socket.exists());
        let told = Instant::now();
        node.signal(signal);
        let status = node.wait(Duration::from_secs(20));
        assert!(status.success(), "{signal:?}: {status}\n{}", node.log());
        assert!(told.elapsed() < STOP_DEADLINE, "{signal:?}: {:?}", told.elapsed());
        assert!(!socket.exists(), "{signal:?}");
        node.run(&["status"]).exits(3);
        other.knows(&[]);
    }
}

/// Runs a verb in the background.
fn begin(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Tells a node to stop, which it must do in good order and in time.
#[track_caller]
fn stops_in_time(node: &mut Node) {
    let told = Instant::now();
    node.signal(Signal::TERM);
    let status = node.wait(Duration::from_secs(20));
    assert!(status.success(), "{status}\n{}", node.log());
    assert!(told.elapsed() < STOP_DEADLINE, "{:?}\n{}", told.elapsed(), node.log());
    assert!(!node.log().contains("did not stop in time"), "{}", node.log());
    assert!(!node.state().join("control.sock").exists());
}

#[test]
fn a_node_that_installs_stops_in_good_order_and_installs_when_it_is_back() {
    let author = Node::start(&[]);
    tree::bulk(&author.path("package"), "large", 21, 24, 1 << 20);
    author.json(&["publish", &author.text("package")]);
    let mut reader = Node::start(&[&author]);
    reader.finds("large", "large", Duration::from_secs(20));
    // Once while it waits for somebody who is silent, and once somewhere in the middle.
    for silent in [true, false] {
        if silent {
            author.signal(Signal::STOP);
        }
        let out = reader.text("out");
        let mut installing = begin(&reader, &["install", "large", "--to", &out]);
        // The moment is the experiment; nothing is waited for.
        std::thread::sleep(Duration::from_millis(400));
        stops_in_time(&mut reader);
        let ended = installing.wait().unwrap();
        author.signal(Signal::CONT);
        assert!(!silent || !ended.success(), "{ended}");
        assert_ne!(ended.code(), Some(101));
        // What was done when the node was told to stop stays, although nobody may have been told of it any more.
        let is_there = reader.path("out").exists();
        assert!(is_there || !ended.success(), "{ended}");
        if is_there {
            tree::assert_same(&author.path("package"), &reader.path("out"));
        }
        assert_eq!(tree::partials(reader.path("out").parent().unwrap()), Vec::<String>::new());
        reader.start_again(&[&author]);
        reader.finds("large", "large", Duration::from_secs(20));
    }
    reader.json(&["install", "large", "--to", &reader.text("out")]);
    tree::assert_same(&author.path("package"), &reader.path("out"));
}

#[test]
fn a_node_that_publishes_stops_in_good_order_and_publishes_when_it_is_back() {
    let other = Node::start(&[]);
    let mut node = Node::start(&[&other]);
    node.knows(&[&other]);
    tree::bulk(&node.path("package"), "large", 22, 32, 1 << 20);
    for pause in [100, 600] {
        let mut publishing = begin(&node, &["publish", &node.text("package")]);
        // The moment is the experiment; nothing is waited for.
        std::thread::sleep(Duration::from_millis(pause));
        stops_in_time(&mut node);
        assert_ne!(publishing.wait().unwrap().code(), Some(101));
        node.start_again(&[&other]);
    }
    let published = node.json(&["publish", &node.text("package")]);
    assert_eq!(published["sequence"], 0, "once: {published}");
    assert_eq!(node.json(&["list"])["total"], 1);
    other.finds("large", "large", Duration::from_secs(30));
    other.json(&["install", "large", "--to", &other.text("out")]);
    tree::assert_same(&node.path("package"), &other.path("out"));
}

#[test]
fn a_node_listens_on_every_address_that_is_named() {
    let mut node = Node::start(&[]);
    node.stop();
    let named = [closed_port(), closed_port()].map(|port| format!("/ip4/127.0.0.1/tcp/{port}"));
    let command = node.command(&["start", "--listen", &named[0], "--listen", &named[1]]);
    node.start_with(command);
    let mut wanted = named.map(|address| format!("{address}/p2p/{}", node.peer));
    wanted.sort();
    assert_eq!(texts(&node.json(&["status"])["listen_addresses"]), wanted);
}

#[test]
fn nodes_are_connected_and_parted_by_hand() {
    let (node, other) = (Node::start(&[]), Node::start(&[]));
    let connected = node.json(&["connect", &other.address]);
    assert_eq!(
        (&connected["reached"], &connected["results"][0]["peer_id"]),
        (&1.into(), &other.peer.clone().into())
    );
    node.knows(&[&other]);
    other.knows(&[&node]);
    let parted = node.json(&["disconnect", &other.peer]);
    assert!(parted["connections"].as_u64().is_some_and(|connections| connections >= 1), "{parted}");
    node.knows(&[]);
    other.knows(&[]);
    node.run(&["disconnect", &other.peer]).exits(4);
}

#[test]
fn the_demonstration_verifies_what_it_fetched_and_leaves_nothing() {
    let home = Home::new();
    let shown = home.json(&["demo"]);
    assert!(shown.to_string().contains("\"verified\":true"), "{shown}");
    assert!(!home.state().exists(), "its nodes have folders of their own");
}

#[test]
fn a_restart_from_elsewhere_finds_the_configuration_that_was_named_from_here() {
    let mut node = Node::start(&[]);
    node.stop();
    let text_of = format!("listen_addresses = [\"{LOOPBACK}\"]\npackages_topic = \"/from/here\"\n");
    fs::write(node.path("x.toml"), text_of).unwrap();
    let command = node.command(&["start", "--config", "./x.toml"]);
    node.start_with(command);
    assert_eq!(node.json(&["status"])["packages_topic"], "/from/here");
    let mut restart = node.command(&["restart", "--format", "json"]);
    restart.current_dir("/");
    let started = run(restart).exits(0).json();
    let _guard = Guard::new(started["pid"].as_u64().unwrap().try_into().unwrap());
    assert!(node.wait(STOP_DEADLINE).success());
    assert_eq!(node.json(&["status"])["packages_topic"], "/from/here");
    node.run(&["stop"]).exits(0);
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    let mut node = Node::start(&[]);
    let other = Node::start(&[&node]);
    node.knows(&[&other]);
    // Both are there before the node can act upon the first.
    node.signal(Signal::STOP);
    node.signal(Signal::INT);
    node.signal(Signal::TERM);
    node.signal(Signal::CONT);
    let status = node.wait(STOP_DEADLINE);
    assert_eq!(status.code(), Some(130), "{}", node.log());
    node.start_again(&[]);
    node.is_well();
}

#[test]
fn a_node_that_was_killed_starts_again_by_itself() {
    let mut node = Node::start(&[]);
    let before = node.peer.clone();
    let environment = fs::read_to_string(format!("/proc/{}/environ", node.pid())).unwrap();
    let has = environment.split('\0').any(|it| it.starts_with("GLIBC_TUNABLES=glibc.malloc.arena_max=1"));
    assert!(has, "memory goes back to the system in the foreground too: {environment:?}");
    node.kill();
    assert!(
        node.state().join("control.sock").exists() && node.state().join("lock").exists(),
        "what a crash leaves"
    );
    node.run(&["status"]).exits(3);
    node.start_again(&[]);
    assert_eq!(node.peer, before, "the same identity");
    node.is_well();
    // A process id that is in use again, by another program, is no owner.
    node.kill();
    fs::write(node.state().join("lock"), format!("{}\n", std::process::id())).unwrap();
    fs::write(node.state().join("store.lock"), format!("{}\n", std::process::id())).unwrap();
    node.start_again(&[]);
    node.is_well();
}

#[test]
fn a_daemon_outlives_the_shell_that_started_it() {
    let home = Home::new();
    let started = run(home.limited("true", &["start", "--daemon", "--listen", LOOPBACK, "--format", "json"]));
    let started = started.exits(0).json();
    let guard = Guard::new(started["pid"].as_u64().unwrap().try_into().unwrap());
    assert!(guard.is_alive());
    for file in ["socket", "log"] {
        assert!(Path::new(&text(&started[file])).exists(), "{file}: {started}");
    }
    let fields = stat(guard.pid()).unwrap();
    // After the name: state, parent, group, session, terminal.
    assert_eq!(fields[3], guard.pid().to_string(), "a session of its own");
    assert_eq!(fields[4], "0", "no terminal");
    assert_eq!(home.json(&["status"])["pid"], started["pid"]);
    let environment = fs::read_to_string(format!("/proc/{}/environ", guard.pid())).unwrap();
    let has = environment.split('\0').any(|it| it.starts_with("GLIBC_TUNABLES=glibc.malloc.arena_max=1"));
    assert!(has, "memory goes back to the system: {environment:?}");
    let again = home.error(9, &["start", "--daemon"]);
    assert!(text(&again["message"]).contains(&guard.pid().to_string()), "{again}");

    home.run(&["restart"]).exits(0);
    assert!(!guard.is_alive());
    let status = home.json(&["status"]);
    let second = Guard::new(status["pid"].as_u64().unwrap().try_into().unwrap());
    assert_eq!(status["peer_id"], started["peer_id"]);
    assert!(text(&status["listen_addresses"][0]).starts_with("/ip4/127.0.0.1/"), "the flags are remembered");
    assert_eq!(status["listen_addresses"].as_array().unwrap().len(), 1, "{status}");
    home.run(&["stop"]).exits(0);
    assert!(!second.is_alive(), "stop waits for the end");
    assert!(!home.state().join("control.sock").exists());
    home.run(&["stop"]).exits(3);
}

#[test]
fn a_daemon_that_cannot_start_tells_why_and_leaves_nothing_running() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let home = Home::new();
    let error = home.error(8, &["start", "--daemon", "--listen", &address]);
    assert!(text(&error["message"]).contains(&address), "{error}");
    home.run(&["status"]).exits(3);
    drop(taken);
    let started = home.json(&["start", "--daemon", "--listen", LOOPBACK]);
    let _guard = Guard::new(started["pid"].as_u64().unwrap().try_into().unwrap());
}

#[test]
fn the_state_folder_is_its_owners_alone() {
    let node = Node::start(&[]);
    node.run(&["key", "new", "second"]).exits(0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(node.state()), 0o700);
    assert_eq!(mode(&node.state().join("keys/node.key")), 0o600);
    assert_eq!(mode(&node.state().join("control.sock")), 0o600);
    assert_eq!(mode(&node.state().join("store.db")) & 0o077, 0);
    // One that was there already is its owner's business, and pointed out where others may write into it.
    let home = Home::new();
    fs::create_dir(home.state()).unwrap();
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o777)).unwrap();
    let answer = home.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    assert!(answer.stderr.contains("chmod 700"), "{answer:#?}");
    home.run(&["stop"]).exits(0);
}

#[test]
fn nothing_is_written_into_the_users_own_home() {
    let node = Node::start(&[]);
    node.is_well();
    assert_eq!(fs::read_dir(node.path("user")).unwrap().count(), 0);
}

#[test]
fn a_bootstrap_node_is_one_command_and_its_status_is_what_others_copy() {
    let hub = Home::new();
    hub.json(&["start", "--listen", LOOPBACK, "--dht-server", "--daemon"]);
    let status = hub.json(&["status"]);
    let _guard = Guard::new(status["pid"].as_u64().unwrap().try_into().unwrap());
    assert_eq!(status["dht_server"], true);
    let line = text(&status["bootstrap_lines"][0]);
    let words: Vec<&str> = line.split(' ').collect();
    let mut node = Node::start(&[]);
    node.stop();
    let command = node.command(&[&["start", "--listen", LOOPBACK][..], &words].concat());
    node.start_with(command);
    eventually("the newcomer is connected", Duration::from_secs(10), || {
        (node.peers() == [text(&status["peer_id"])]).then_some(())
    });
}
