//! What works where no node runs: what is here is read, and what needs the network starts a node for its own time.

use std::{
    fs, io,
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::{
    tree,
    world::{Home, LOOPBACK, Node, closed_port, text},
};

/// A reader that heard of a package, has one of its versions installed, and whose node stopped.
fn stopped(author: &Node) -> Node {
    for version in ["1.0.0", "1.1.0"] {
        let folder = author.path(version);
        tree::small(&folder, "known", version, "Heard before", "license = \"MIT\"");
        author.json(&["publish", folder.to_str().unwrap()]);
    }
    let mut reader = Node::start(&[author]);
    reader.finds("heard", "known", Duration::from_secs(10));
    reader.json(&["install", "known@1.0.0", "--to", &reader.text("out")]);
    reader.run(&["config", "set", "bootstrap_nodes", &author.address]).exits(0);
    reader.stop();
    reader
}

/// Every file below a folder, with its bytes; the files that the database keeps for its readers are left out.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_str().unwrap().to_owned();
            if path.is_dir() {
                open.push(path);
            } else if !name.ends_with("-shm") && !name.ends_with("-wal") {
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_here_is_told_without_a_node_and_nothing_is_written() {
    let author = Node::start(&[]);
    let reader = stopped(&author);
    let before = files(reader.state());
    let listing = reader.json(&["list"]);
    assert_eq!(
        (&listing["total"], &listing["packages"][0]["kind"]),
        (&1.into(), &"installed".into()),
        "{listing}"
    );
    let verified = reader.json(&["verify", "known"]);
    assert!(verified["ok"] == true && verified["files"] == 1, "{verified}");
    let found = reader.json(&["search", "heard"]);
    assert_eq!(found["packages"][0]["version"], "1.1.0", "{found}");
    assert_eq!((&found["complete"], &found["connected_peers"]), (&false.into(), &0.into()), "{found}");
    assert!(text(&found["incomplete_because"][0]).contains("no node runs"), "{found}");
    reader.run(&["search", "heard", "--strict"]).exits(10).says("no node runs");
    reader.run(&["search", "heard"]).exits(0).says("(offline: index of ");
    let info = reader.json(&["info", "known@^1"]);
    assert_eq!(info["versions"].as_array().unwrap().len(), 2, "{info}");
    assert!(text(&info["installed_at"][0]).ends_with("/out"), "{info}");
    let error = reader.error(4, &["info", "unknown"]);
    assert!(text(&error["hint"]).contains("p2p start"), "{error}");
    reader.error(4, &["verify", "unknown"]);
    reader.error(4, &["info", "known@^9"]);
    assert_eq!(files(reader.state()), before, "nothing was written");
    fs::write(reader.path("out/gpack.toml"), "changed").unwrap();
    reader.run(&["verify", "known"]).exits(6).says("changed: gpack.toml");
}

#[test]
fn a_package_is_installed_offline_from_what_is_here_and_a_dry_run_touches_nothing() {
    let author = Node::start(&[]);
    let mut reader = stopped(&author);
    let target = reader.text("again");
    // The newest that is known is not here; the one before it is.
    let planned = reader.json(&["install", "known", "--to", &target, "--offline", "--dry-run"]);
    assert_eq!((&planned["version"], &planned["dry_run"]), (&"1.0.0".into(), &true.into()), "{planned}");
    assert_eq!((&planned["bytes_fetched"], Path::new(&target).exists()), (&0.into(), false), "{planned}");
    let installed = reader.json(&["install", "known", "--to", &target, "--offline"]);
    assert_eq!(
        (&installed["version"], &installed["dry_run"]),
        (&"1.0.0".into(), &false.into()),
        "{installed}"
    );
    assert!(text(&installed["warnings"][0]).contains("1.1.0 is the newest"), "{installed}");
    reader.run(&["verify", &target]).exits(0);
    let error = reader.error(5, &["install", "known@1.1.0", "--to", &reader.text("other"), "--offline"]);
    assert!(text(&error["message"]).contains("is not on this machine"), "{error}");
    let error = reader.error(4, &["install", "unheard-of", "--offline"]);
    assert!(text(&error["message"]).contains("known on this machine"), "{error}");
    reader.run(&["install", "known", "--offline", "--no-start", "--to", &target]).exits(3);
    reader.run(&["install", "known", "--offline", "--fresh"]).exits(2);
    let again = reader.run(&["install", "known", "--to", &target, "--offline"]).exits(0);
    assert!(!again.stderr.contains("one is started"), "{}", again.stderr);

    reader.start_again(&[&author]);
    let installed = reader.json(&["install", "known@1.0.0", "--to", &target, "--offline"]);
    assert_eq!(installed["already_installed"], true, "{installed}");
    let before = fs::read(reader.path("again/gpack.toml")).unwrap();
    let planned = reader.json(&["install", "known", "--to", &target, "--dry-run"]);
    let plan = (&planned["version"], &planned["replaced"]);
    assert_eq!(plan, (&"1.1.0".into(), &"1.0.0".into()), "{planned}");
    assert_eq!(fs::read(reader.path("again/gpack.toml")).unwrap(), before);
    reader
        .run(&["install", "known", "--to", &target, "--dry-run"])
        .exits(0)
        .says("Would install known 1.1.0");
    fs::write(reader.path("again/gpack.toml"), "changed").unwrap();
    reader.error(9, &["install", "known", "--to", &target, "--dry-run"]);
}

#[test]
fn a_state_folder_that_is_new_damaged_or_of_another_version_is_told_as_what_it_is() {
    let home = Home::new();
    home.run(&["list"]).exits(0).says("Nothing is installed or published here");
    home.run(&["search", "x"]).exits(0).says("No packages found");
    home.error(4, &["verify", "x"]);
    assert!(!home.state().exists(), "nothing was made");
    fs::create_dir(home.state()).unwrap();
    fs::write(home.state().join("store.db"), "no database").unwrap();
    for verb in [&["list"][..], &["search", "x"], &["info", "x"], &["verify", "x"]] {
        let error = home.error(1, verb);
        assert_eq!(error["code"], "E_STORE_DAMAGED", "{error}");
    }
    assert_eq!(fs::read(home.state().join("store.db")).unwrap(), b"no database", "it is left as it is");
}

#[test]
fn installing_starts_a_node_for_its_own_time_and_says_so() {
    let author = Node::start(&[]);
    let reader = stopped(&author);
    let error = reader.error(3, &["install", "known", "--no-start", "--to", &reader.text("new")]);
    assert!(error["code"] == "E_NOT_RUNNING" && text(&error["hint"]).contains("p2p start"), "{error}");
    // Two at once: one of them has the node of the other, or waits for its turn.
    let begin = |to: &str| {
        let mut command = reader.command(&["install", "known", "--to", to, "--format", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [begin(&reader.text("new")), begin(&reader.text("other"))];
    let both = both.map(|child| child.wait_with_output().unwrap());
    for output in &both {
        assert!(output.status.success(), "{output:?}");
        let installed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(installed["version"], "1.1.0", "{installed}");
    }
    let said = both.map(|output| String::from_utf8(output.stderr).unwrap()).join("");
    assert!(said.contains("one is started for this command, and stops with it"), "{said}");
    reader.run(&["status"]).exits(3);
    assert!(!reader.state().join("control.sock").exists());
    assert_eq!(reader.json(&["list"])["total"], 3);
    reader.run(&["verify", "known"]).exits(0);
    // Nobody has it: the node ends all the same.
    reader.error(4, &["install", "unknown", "--to", &reader.text("none")]);
    reader.run(&["status"]).exits(3);
    // A version that was published since is asked for before it is said that there is none.
    let third = Node::start(&[&author]);
    author.knows(&[&third]);
    tree::small(&author.path("1.2.0"), "known", "1.2.0", "Published since", "license = \"MIT\"");
    author.json(&["publish", &author.text("1.2.0")]);
    let newer = reader.json(&["install", "known@1.2.0", "--to", &reader.text("newer")]);
    assert_eq!(newer["version"], "1.2.0", "{newer}");
    reader.error(4, &["install", "known@7.0.0", "--to", &reader.text("none")]);
}

/// Where a node can be dialled whose line is slow: what connects is passed on after a while.
fn slow_line(to: &Node) -> String {
    const SLOW: Duration = Duration::from_millis(1_500);
    let port = to.address.split('/').nth(4).unwrap().parse::<u16>().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                // The slowness is the experiment; nothing is waited for.
                thread::sleep(SLOW);
                let Ok(other) = TcpStream::connect(("127.0.0.1", port)) else { return };
                let (mut from, mut into) = (stream.try_clone().unwrap(), other.try_clone().unwrap());
                let back = thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Write);
                });
                let _ = io::copy(&mut &other, &mut &stream);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = back.join();
            });
        }
    });
    format!("/ip4/127.0.0.1/tcp/{at}/p2p/{}", to.peer)
}

#[test]
fn the_first_commands_after_a_start_wait_for_the_peers_that_are_being_dialled() {
    let author = Node::start(&[]);
    tree::small(&author.path("1.0.0"), "known", "1.0.0", "Heard before", "license = \"MIT\"");
    author.json(&["publish", &author.text("1.0.0")]);
    let line = slow_line(&author);
    for command in
        [&["install", "known", "--to", "out"][..], &["info", "known"], &["search", "heard", "--timeout", "9"]]
    {
        let home = Home::new();
        let command_line = home.command(&["start", "--listen", LOOPBACK, "--bootstrap", &line]);
        let node = Node::start_by(home, command_line);
        let begun = node.json(&["status"]);
        assert_eq!(begun["connected_peers"], 0, "the line is too fast: {begun}");
        let answer = node.json(command);
        let found = if command[0] == "search" { &answer["packages"][0] } else { &answer };
        assert_eq!(found["version"], "1.0.0", "{answer}");
    }
    // One that nobody can reach fails at once.
    let lonely = Home::new();
    let closed = format!("/ip4/127.0.0.1/tcp/{}", closed_port());
    lonely.run(&["config", "set", "bootstrap_nodes", &closed]).exits(0);
    let begun = Instant::now();
    let error = lonely.error(5, &["install", "known", "--to", &lonely.text("out")]);
    assert!(error["code"] == "E_NETWORK" && text(&error["hint"]).contains("p2p doctor"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn one_command_after_another_without_a_node_fetches_at_once() {
    let author = Node::start(&[]);
    let names = ["first", "second", "third", "fourth"];
    for name in names {
        let folder = author.path(name);
        tree::small(&folder, name, "1.0.0", "Heard before", "license = \"MIT\"");
        author.json(&["publish", folder.to_str().unwrap()]);
    }
    let mut reader = Node::start(&[&author]);
    for name in names {
        reader.finds(name, name, Duration::from_secs(10));
    }
    reader.run(&["config", "set", "bootstrap_nodes", &author.address]).exits(0);
    reader.stop();
    // The node of each command is another connection to the author's, and the ones before have just closed.
    for name in names {
        reader.json(&["install", name, "--to", &reader.text(name), "--timeout", "30"]);
    }
}
