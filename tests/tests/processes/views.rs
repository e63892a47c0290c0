//! Seeing what happens: events, explanations, counts, bans, and the doctor.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    tree,
    world::{Home, Node, closed_port, eventually, text},
};

/// How long something may take to be told.
const TOLD: Duration = Duration::from_secs(30);

/// A command whose lines are read as they come; killed when dropped.
struct Listener {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Listener {
    fn start(node: &Node, arguments: &[&str]) -> Self {
        let mut command = node.command(&[arguments, &["--format", "json"]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It says on stderr that it listens.
        let mut ready = String::new();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        while !ready.contains("Listening") {
            assert_ne!(errors.read_line(&mut ready).unwrap(), 0, "{ready}");
        }
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let _errors = errors;
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for an event.
    fn hears(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(TOLD) {
                Ok(event) if event["event"] == kind && fits(&event) => return event,
                Ok(event) => heard.push(event),
                Err(error) => panic!("no {kind}: {error}: {heard:?}"),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a listener as Ctrl-C does: its exit status.
fn interrupted(mut listener: Listener) -> Option<i32> {
    let pid = rustix::process::Pid::from_raw(listener.child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = listener.child.wait().unwrap();
    // What it printed until then was events, and no error follows.
    let rest: Vec<Value> = listener.lines.iter().collect();
    assert!(rest.iter().all(|line| line["event"].is_string()), "{rest:?}");
    status.code()
}

/// Asks the control socket as a monitor would.
fn get(node: &Node, path: &str) -> String {
    ask(node, "GET", path)
}

fn ask(node: &Node, method: &str, path: &str) -> String {
    let mut stream = UnixStream::connect(node.state().join("control.sock")).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: ggen\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_happens_is_told_line_by_line_and_stands_in_the_log() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    reader.knows(&[&author]);
    let of_author = Listener::start(&author, &["events"]);
    let of_reader = Listener::start(&reader, &["events"]);
    let by_tag = Listener::start(&reader, &["watch", "tag:greeting", "--count", "1"]);
    tree::small(&author.path("hello"), "hello", "1.0.0", "Says hello", "tags = [\"greeting\"]");
    let published = author.json(&["publish", &author.text("hello")]);
    let id = text(&published["id"]);
    assert_eq!(of_author.hears("published", |event| event["id"] == id.as_str())["cid"], published["cid"]);
    let listed = of_reader.hears("listed", |event| event["name"] == "hello");
    assert_eq!((&listed["version"], &listed["tags"][0]), (&"1.0.0".into(), &"greeting".into()), "{listed}");
    assert_eq!(by_tag.hears("listed", |_| true)["name"], "hello");
    assert_eq!(interrupted(of_author), Some(130));
    reader.error(2, &["watch", "publisher:xx"]);
    let to = reader.text("there");
    reader.json(&["install", "hello", "--to", &to]);
    assert_eq!(of_reader.hears("installed", |event| event["id"] == id.as_str())["path"], to);

    let explained = reader.json(&["explain", "hello"]);
    assert_eq!((&explained["id"], &explained["installed_at"][0]), (&id.clone().into(), &to.clone().into()));
    assert_eq!(explained["served_by"][0]["peer_id"], author.peer, "{explained}");
    assert!(explained["served_by"][0]["bytes"].as_u64().unwrap() > 0, "{explained}");
    assert_eq!(explained["key_chain"][0]["keys"], explained["signed_by"], "{explained}");
    assert_eq!(explained["frozen"], false);
    reader.run(&["explain", "hello"]).exits(0).says("why this version");
    reader.error(4, &["explain", "nobody-has-this"]);

    // A provider that goes away, and a ban.
    reader.json(&["peer-ban", &author.peer, "--for", "1h", "--reason", "for a test"]);
    of_reader.hears("disconnected", |event| event["peer_id"] == author.peer.as_str());
    of_reader.hears("provider_lost", |event| event["peer_id"] == author.peer.as_str());
    for (log, parts) in
        [(author.log(), vec!["published"]), (reader.log(), vec!["installed", "banned by hand"])]
    {
        for part in parts {
            assert!(log.contains(part), "{part}: {log}");
        }
    }
}

#[test]
fn a_banned_peer_stays_away_until_it_is_welcome_again() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    reader.knows(&[&author]);
    let banned = reader.json(&["peer-ban", &author.peer]);
    assert_eq!((&banned["manual"], &banned["until"]), (&true.into(), &Value::Null), "{banned}");
    eventually("the connection is closed", TOLD, || reader.peers().is_empty().then_some(()));
    let listed = reader.json(&["peer-ban"]);
    assert_eq!((&listed["total"], &listed["bans"][0]["peer_id"]), (&1.into(), &author.peer.clone().into()));
    reader.error(5, &["connect", &author.address, "--timeout", "5"]);
    let nobody = format!("/ip4/127.0.0.1/tcp/{}", closed_port());
    let refused = reader.error(5, &["connect", &nobody]);
    assert_eq!(text(&refused["message"]).matches(&nobody).count(), 1, "{refused}");
    reader.json(&["peer-unban", &author.peer]);
    reader.json(&["connect", &author.address]);
    reader.knows(&[&author]);
    assert_eq!(reader.json(&["peer-ban"])["total"], 0);
    let error = reader.error(4, &["peer-unban", &author.peer]);
    assert!(text(&error["message"]).contains("not banned"), "{error}");
    reader.error(2, &["peer-ban", &reader.peer]);
    reader.error(2, &["peer-ban", "nobody"]);
    let stranger = "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ";
    assert_eq!(reader.error(4, &["disconnect", stranger])["code"], "E_NOT_FOUND");
}

#[test]
fn a_monitor_gets_counts_in_the_form_of_openmetrics() {
    let node = Node::start(&[]);
    tree::small(&node.path("hello"), "hello", "1.0.0", "Says hello", "");
    node.json(&["publish", &node.text("hello")]);
    for path in ["/metrics", "/v1/status"] {
        let answer = ask(&node, "POST", path);
        assert!(
            answer.starts_with("HTTP/1.1 405 ") && answer.to_lowercase().contains("allow: get"),
            "{answer}"
        );
    }
    let answer = get(&node, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("application/openmetrics-text"), "{answer}");
    for line in ["ggen_ready 1\n", "ggen_packages_published 1\n", "ggen_heads_refused_total 0\n"] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    assert_eq!(answer.matches("# EOF").count(), 1);
    assert!(answer.trim_end().ends_with("# EOF") || answer.contains("# EOF\n"), "{answer}");
    assert!(get(&node, "/livez").contains("{\"ok\":true}"));
    assert!(get(&node, "/readyz").contains("{\"ok\":true}"));
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    let home = Home::new();
    let before = home.json(&["doctor"]);
    assert_eq!((&before["node_running"], &before["problems"]), (&false.into(), &0.into()), "{before}");

    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().port();
    let gone = crate::world::closed_port();
    std::fs::create_dir(home.state()).unwrap();
    std::fs::write(
        home.state().join("p2p-config.toml"),
        format!("listen_addresses = [\"/ip4/127.0.0.1/tcp/{taken}\"]\nbootstrap_nodes = [\"/ip4/127.0.0.1/tcp/{gone}\"]\n"),
    )
    .unwrap();
    let found = home.run(&["doctor"]).exits(1);
    let found = found.says(&format!("lsof -i :{taken}")).says("does not answer");
    assert!(found.stdout.contains("2 problems to mend"), "{found:#?}");
    drop(held);

    // A key that was there and is gone is not one that there never was.
    std::fs::write(home.state().join("peer-id"), "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA\n")
        .unwrap();
    let lost = home.run(&["doctor"]).exits(1);
    assert!(lost.stdout.contains("PROBLEM  node key"), "{lost:#?}");

    let node = Node::start(&[]);
    let running = node.json(&["doctor"]);
    assert_eq!(running["node_running"], true);
    let of = |check: &str| {
        let findings = running["findings"].as_array().unwrap();
        findings
            .iter()
            .find(|finding| finding["check"] == check)
            .unwrap_or_else(|| panic!("{check}: {running}"))
            .clone()
    };
    assert_eq!(of("peers")["state"], "warning", "{running}");
    assert!(text(&of("peers")["fix"]).contains("p2p bootstrap"), "{running}");
    for check in ["node", "clock", "disk", "node key", "port", "state folder"] {
        assert_eq!(of(check)["state"], "ok", "{check}: {running}");
    }
    node.run(&["key", "new", "me"]).exits(0);
    std::fs::remove_file(node.state().join("keys/publishers/me.key")).unwrap();
    let lost = node.run(&["doctor"]).exits(0);
    assert!(lost.stdout.contains("WARNING  publisher key"), "{lost:#?}");
}
