//! A clock that is wrong, as the peers say, and two nodes with one key.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::{
    tree,
    world::{Home, LOOPBACK, Node, eventually, ggen, skipped, text, texts},
};

const SOON: Duration = Duration::from_secs(90);

/// A command that runs `ggen p2p …` with a clock that a file sets, such as `+2h`; none where faketime is not installed, which is
/// an error where all tests are demanded.
fn with_clock(home: &Home, clock: &Path, arguments: &[&str]) -> Option<Command> {
    let library = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(library) = library else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "faketime is missing: apt-get install faketime"
        );
        skipped("faketime is not installed");
        return None;
    };
    let mut command = home.program(ggen());
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock);
    command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command.arg("p2p").args(arguments);
    Some(command)
}

/// A node whose clock is off until its file says otherwise; none where faketime is not installed.
fn off_by(offset: &str, bootstrap: &[&Node]) -> Option<Node> {
    let home = Home::new();
    let clock = home.path("clock");
    fs::write(&clock, offset).unwrap();
    let mut arguments = vec!["start", "--listen", LOOPBACK];
    for node in bootstrap {
        arguments.extend(["--bootstrap", &node.address]);
    }
    let command = with_clock(&home, &clock, &arguments)?;
    Some(Node::start_by(home, command))
}

fn warns(node: &Node, word: &str) -> Option<String> {
    let status = node.json(&["status"]);
    texts(&status["warnings"]).into_iter().find(|warning| warning.contains(word))
}

#[test]
fn a_publisher_whose_clock_is_ahead_signs_nothing_until_it_is_right() {
    let others: Vec<Node> = {
        let first = Node::start(&[]);
        let second = Node::start(&[&first]);
        let third = Node::start(&[&first]);
        vec![first, second, third]
    };
    let [first, second, third] = others.as_slice() else { unreachable!() };
    let Some(author) = off_by("+2h", &[first, second, third]) else { return };
    let warning = eventually("the clock is noticed", SOON, || warns(&author, "E_CLOCK"));
    assert!(warning.contains("1 h 59 min ahead") || warning.contains("2 h 0 min ahead"), "{warning}");
    tree::small(&author.path("package"), "early", "1.0.0", "Published two hours too early", "");
    let queued = author.json(&["publish", &author.text("package")]);
    assert_eq!(queued["queued"], true, "{queued}");
    let warnings = texts(&queued["warnings"]).join("\n");
    assert!(warnings.contains("E_CLOCK") && warnings.contains("timedatectl"), "{queued}");
    let error = author.error(1, &["publish", &author.text("package"), "--no-queue"]);
    assert_eq!(error["code"], "E_CLOCK", "{error}");
    let found = author.json(&["search", "early"]);
    assert!(texts(&found["incomplete_because"]).join("\n").contains("E_CLOCK"), "{found}");
    eventually("the log says so", SOON, || author.log().contains("E_CLOCK").then_some(()));
    fs::write(author.path("clock"), "+0").unwrap();
    third.finds("early", "early", SOON);
    assert!(warns(&author, "E_CLOCK").is_none());
}

#[test]
fn peers_that_lie_about_the_time_without_end_do_not_have_the_last_word() {
    let Some(first) = off_by("+2h", &[]) else { return };
    let liars = [off_by("+2h", &[&first]), off_by("+2h", &[&first])];
    let [Some(second), Some(third)] = liars else { return };
    let honest = Node::start(&[&first, &second, &third]);
    eventually("what they say is noticed", SOON, || warns(&honest, "E_CLOCK"));
    tree::small(&honest.path("package"), "timely", "1.0.0", "Published in time", "");
    let publish = ["publish", &honest.text("package"), "--no-queue"];
    let error = honest.error(1, &publish);
    assert_eq!(error["code"], "E_CLOCK", "{error}");
    let way_out = "config set publish.trust_clock true";
    // The first publication also says which key it made.
    let hint = text(&error["hint"]);
    assert!(hint.lines().any(|line| line.ends_with(&format!("ggen marketplace p2p {way_out}"))), "{error}");
    let set = honest.json(&way_out.split(' ').collect::<Vec<_>>());
    assert!(set.to_string().contains("publish.trust_clock"), "{set}");
    assert_eq!(honest.json(&publish)["queued"], false);
    let warning = warns(&honest, "E_CLOCK").expect("what they say is still told");
    assert!(
        warning.contains("publish.trust_clock false") && !warning.contains("Nothing is signed"),
        "{warning}"
    );
    honest.json(&["config", "set", "publish.trust_clock", "false"]);
    tree::small(&honest.path("other"), "other", "1.0.0", "Not published", "");
    let error = honest.error(1, &["publish", &honest.text("other"), "--no-queue"]);
    assert_eq!(error["code"], "E_CLOCK", "{error}");
}

#[test]
fn what_was_signed_while_the_clock_was_ahead_is_told_once_it_is_right() {
    let Some(author) = off_by("+2h", &[]) else { return };
    tree::small(&author.path("package"), "early", "1.0.0", "Published two hours too early", "");
    author.json(&["publish", &author.text("package")]);
    let early = "ahead of now";
    assert_eq!(warns(&author, early), None, "nobody says that the clock is wrong");
    fs::write(author.path("clock"), "+0").unwrap();
    let warning = eventually("it is told", SOON, || warns(&author, early));
    assert!(warning.contains("/early was last signed at"), "{warning}");
    let error = author.error(1, &["install", "early", "--to", &author.text("out")]);
    assert!(text(&error["hint"]).contains("when the time has come"), "{error}");
}

#[test]
fn a_clock_that_is_trusted_without_need_is_told() {
    let first = Node::start(&[]);
    let second = Node::start(&[&first]);
    let third = Node::start(&[&first]);
    let node = Node::start(&[&first, &second, &third]);
    let warned = || {
        let status = node.json(&["status"]);
        texts(&status["warnings"]).into_iter().find(|it| it.contains("publish.trust_clock"))
    };
    assert_eq!(warned(), None);
    node.json(&["config", "set", "publish.trust_clock", "true"]);
    let warning = eventually("it is told", SOON, warned);
    assert!(warning.ends_with("ggen marketplace p2p config unset publish.trust_clock"), "{warning}");
    node.json(&["config", "unset", "publish.trust_clock"]);
    assert_eq!(warned(), None);
}

#[test]
fn a_reader_whose_clock_is_behind_says_so_and_reads_again_once_it_is_right() {
    let first = Node::start(&[]);
    let second = Node::start(&[&first]);
    let third = Node::start(&[&first]);
    eventually("the third is connected", SOON, || third.peers().contains(&first.peer).then_some(()));
    let Some(reader) = off_by("-2h", &[&first, &second, &third]) else { return };
    eventually("the clock is noticed", SOON, || warns(&reader, "E_CLOCK"));
    tree::small(&first.path("package"), "present", "1.0.0", "Published now", "");
    first.json(&["publish", &first.text("package"), "--wait"]);
    second.finds("present", "present", SOON);
    let found = reader.json(&["search", "present"]);
    assert_eq!((&found["total"], &found["complete"]), (&0.into(), &false.into()), "{found}");
    assert!(texts(&found["incomplete_because"]).join("\n").contains("behind"), "{found}");
    fs::write(reader.path("clock"), "+0").unwrap();
    reader.finds("present", "present", Duration::from_secs(30));
}

fn copied(from: &Home) -> Home {
    let copy = Home::new();
    let status = Command::new("cp").arg("-r").arg(from.state()).arg(copy.state()).status().unwrap();
    assert!(status.success());
    copy
}

#[test]
fn two_nodes_with_one_key_both_say_so_and_one_that_was_restarted_does_not() {
    const TWIN: &str = "another node runs with the key of this one";
    let third = Node::start(&[]);
    let mut first = Node::start(&[&third]);
    first.knows(&[&third]);
    let write = |node: &Node, version: &str| {
        tree::small(&node.path("package"), "twice", version, "Published in two places", "");
    };
    write(&first, "1.0.0");
    first.json(&["publish", &first.text("package"), "--wait"]);
    // Others may still hold the connection of the run before.
    first.kill();
    first.start_again(&[&third]);
    first.knows(&[&third]);
    // Of a folder in use: its copy knows the run of the first as one before its own.
    let copy = copied(&first);
    let begun = SystemTime::now();
    let mut second = Node::start_in(copy, &[&third]);
    assert_eq!(second.peer, first.peer);
    for node in [&first, &second] {
        let warning = eventually("both say so", SOON, || warns(node, TWIN));
        assert!(warning.contains(&third.peer) && warning.contains("key new --node --replace"), "{warning}");
        assert_eq!(node.json(&["status"])["health"], "degraded");
        eventually("the log says so", SOON, || node.log().contains(TWIN).then_some(()));
    }
    assert!(begun.elapsed().unwrap() < SOON);

    // Neither signs, or the package would be frozen.
    for (node, version) in [(&first, "1.1.0"), (&second, "1.2.0")] {
        write(node, version);
        let publish = ["publish", &node.text("package")];
        let error = node.error(1, &[publish.as_slice(), &["--no-queue"]].concat());
        assert_eq!(error["code"], "E_NODE_KEY", "{error}");
        let queued = node.json(&publish);
        assert_eq!(queued["queued"], true, "{queued}");
        assert!(texts(&queued["warnings"]).join("\n").contains("E_NODE_KEY"), "{queued}");
        assert_eq!(node.json(&["yank", "twice@1.0.0"])["queued"], true);
        node.json(&["unyank", "twice@1.0.0"]);
    }

    let error = second.error(9, &["key", "new", "--node", "--replace"]);
    assert_eq!(error["code"], "E_ALREADY_RUNNING", "{error}");
    second.stop();
    let made = second.json(&["key", "new", "--node", "--replace"]);
    assert!(Path::new(&text(&made["kept"])).exists(), "{made}");
    second.start_again(&[&third]);
    assert_eq!(text(&made["peer_id"]), second.peer);
    assert_ne!(second.peer, first.peer);
    eventually("it is connected", SOON, || second.peers().contains(&third.peer).then_some(()));
    assert!(warns(&second, TWIN).is_none());

    // What waited is published once the other one is gone: one after the other.
    let versions = |wanted: &[&str]| {
        let info = third.json(&["info", "twice"]);
        assert!(!info["notes"].to_string().contains("frozen"), "{info}");
        let versions = info["versions"].as_array().unwrap();
        (versions.iter().map(|it| text(&it["version"])).collect::<Vec<_>>() == wanted).then_some(())
    };
    eventually("the second has published", SOON, || versions(&["1.0.0", "1.2.0"]));
    assert_eq!(first.json(&["status"])["outbox"][0]["code"], "E_NODE_KEY");
    first.stop();
    first.start_again(&[&third]);
    eventually("the first has published", SOON, || versions(&["1.0.0", "1.1.0", "1.2.0"]));
}
