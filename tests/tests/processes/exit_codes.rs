//! Every exit status, each by the situation that it was made for.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    tree,
    world::{Home, LOOPBACK, Node, closed_port, eventually, text, texts},
};

/// A peer id of the right form that belongs to nobody here.
const STRANGER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

#[test]
fn status_1_a_state_folder_that_cannot_be_made() {
    let nowhere = "/proc/absent/state";
    for more in [&[][..], &["--daemon"]] {
        let error =
            Home::new().error(1, &[&["start", "--listen", LOOPBACK, "--home", nowhere][..], more].concat());
        assert!(
            text(&error["message"]).contains(nowhere) && text(&error["hint"]).contains("GGEN_HOME"),
            "{error}"
        );
    }
}

#[test]
fn status_2_arguments_that_make_no_sense() {
    let home = Home::new();
    for arguments in [
        &["frobnicate"][..],
        &["start", "--listen", "nonsense"],
        &["start", "--listen", "/ip4/999.0.0.1/tcp/1"],
        &["peer-info", "not-a-peer-id"],
        &["bootstrap"],
        &["search", "x", "--min-reputation", "1.5"],
        &["install", "../escape"],
        &["publish", ".", "--version", "1.2"],
    ] {
        home.error(2, arguments);
    }
    home.run(&["start", "--listen", "/ip4/127.0.0.1/tcp/99999"]).exits(2).says("99999");
    home.run(&["serach"]).exits(2).says("search");
}

#[test]
fn status_2_a_directory_that_is_no_package() {
    let home = Home::new();
    let publish = |path: &str| home.error(2, &["publish", path]);
    let absent = publish(&home.text("absent"));
    assert!(text(&absent["message"]).contains("does not exist"), "{absent}");
    fs::write(home.path("file"), "").unwrap();
    let file = publish(&home.text("file"));
    assert!(text(&file["message"]).contains("is not a directory"), "{file}");
    fs::create_dir(home.path("empty")).unwrap();
    let empty = publish(&home.text("empty"));
    let message = text(&empty["message"]);
    assert!(message.contains(&format!("issing gpack.toml in {}", home.text("empty"))), "{empty}");
    assert!(text(&empty["hint"]).contains("name = "), "{empty}");
}

#[test]
fn status_2_tells_every_missing_field_at_once_with_and_without_a_node() {
    let node = Node::start(&[]);
    let home = Home::new();
    fs::create_dir(home.path("bare")).unwrap();
    for written in ["", "[package]\n", "name = \"\"\nversion = \"\"\ndescription = \"\"\n"] {
        fs::write(home.path("bare/gpack.toml"), written).unwrap();
        for asked in [&home, &*node] {
            let error = asked.error(2, &["publish", &home.text("bare")]);
            let message = text(&error["message"]);
            for field in ["name", "version", "description"] {
                assert!(message.contains(field), "{field}: {written:?}: {error}");
            }
        }
    }
}

#[test]
fn status_3_no_node_runs() {
    let home = Home::new();
    tree::small(&home.path("package"), "queued", "1.0.0", "Waits", "");
    for arguments in [
        &["status"][..],
        &["install", "x", "--no-start"],
        &["peer-list"],
        &["stop"],
        &["bootstrap", "/ip4/127.0.0.1/tcp/1"],
        &["publish", &home.text("package"), "--no-queue"],
    ] {
        let error = home.error(3, arguments);
        assert_eq!(error["code"], "E_NOT_RUNNING", "{arguments:?}");
        assert!(text(&error["hint"]).contains("p2p start"), "{error}");
    }
}

#[test]
fn status_4_nothing_of_that_name() {
    let other = Node::start(&[]);
    let node = Node::start(&[&other]);
    node.knows(&[&other]);
    assert_eq!(node.error(4, &["install", "unknown-package"])["code"], "E_NOT_FOUND");
    node.error(4, &["info", "unknown-package"]);
    node.error(4, &["verify", "unknown-package"]);
    node.error(4, &["peer-info", STRANGER]);
    node.error(4, &["peer-info", "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ"]);
}

#[test]
fn status_5_nobody_answers() {
    let node = Node::start(&[]);
    let closed = format!("/ip4/127.0.0.1/tcp/{}", closed_port());
    // Nobody could be asked whether there is such a package.
    for verb in ["install", "info", "explain"] {
        let error = node.error(5, &[verb, "unknown-package"]);
        assert!(error["code"] == "E_NETWORK" && error["retryable"] == true, "{error}");
        assert!(text(&error["hint"]).contains("config set bootstrap_nodes"), "{error}");
    }
    let own = node.error(2, &["connect", &node.address, node.address.split("/p2p/").next().unwrap()]);
    assert!(text(&own["message"]).contains("does not connect to itself"), "{own}");
    let error = node.error(5, &["bootstrap", &closed, "--timeout", "2"]);
    assert!(error["code"] == "E_NETWORK" && error["retryable"] == true, "{error}");
    assert!(text(&error["message"]).contains(&closed), "{error}");
    // Accepts connections and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    let begun = Instant::now();
    let error = node.error(5, &["bootstrap", &silent, &closed, "--timeout", "2"]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let message = text(&error["message"]);
    assert!(message.contains(&silent) && message.contains(&closed), "{error}");
    node.is_well();
}

#[test]
fn status_5_is_not_given_where_one_of_several_answers() {
    let (node, other) = (Node::start(&[]), Node::start(&[]));
    let closed = format!("/ip4/127.0.0.1/tcp/{}", closed_port());
    let answer = node.run(&["bootstrap", &closed, &other.address, "--format", "json"]).exits(0).json();
    assert_eq!(answer["reached"], 1, "{answer}");
    let mistaken = other.address.replace(&other.peer, STRANGER);
    let answer = node.run(&["bootstrap", &mistaken, "--timeout", "5"]).exits(5);
    answer.says(&format!("expected peer {STRANGER}, got {}", other.peer));
    // A node that is to join there says so too.
    let home = Home::new();
    let command = home.command(&["start", "--listen", LOOPBACK, "--bootstrap", &mistaken]);
    let misled = Node::start_by(home, command);
    eventually("it is told", Duration::from_secs(10), || {
        let status = misled.json(&["status"]);
        let warnings = texts(&status["warnings"]).join("\n");
        (texts(&status["strangers"]) == [mistaken.clone()] && warnings.contains(&other.peer)).then_some(())
    });
    let doctor = misled.run(&["doctor"]);
    doctor.says("WARNING  bootstrap").says("another peer answers there");
}

#[test]
fn status_6_an_installed_file_was_changed() {
    let node = Node::start(&[]);
    tree::small(&node.path("package"), "own", "1.0.0", "Installed from this very node", "");
    fs::write(node.path("package/a.txt"), "as signed").unwrap();
    node.json(&["publish", &node.text("package")]);
    node.json(&["install", "own", "--to", &node.text("out")]);
    fs::write(node.path("out/a.txt"), "as signeD").unwrap();
    node.run(&["verify", "own"]).exits(6).says("a.txt");
}

#[test]
fn status_7_a_configuration_that_is_missing_or_invalid() {
    let home = Home::new();
    let absent = home.text("absent.toml");
    let error = home.error(7, &["start", "--config", &absent]);
    assert!(text(&error["message"]).contains(&absent), "{error}");
    fs::write(home.path("bad.toml"), "listen_addresses = [\n").unwrap();
    let error = home.error(7, &["start", "--config", &home.text("bad.toml")]);
    assert!(text(&error["message"]).contains("bad.toml:"), "{error}");
    home.error(7, &["start", "--daemon", "--config", &absent]);
    assert!(!home.state().join("keys").exists(), "nothing was begun");
}

#[test]
fn status_8_names_the_address_and_both_remedies() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    for arguments in [&["start", "--listen", &address][..], &["start", "--daemon", "--listen", &address]] {
        let error = Home::new().error(8, arguments);
        let (message, hint) = (text(&error["message"]), text(&error["hint"]));
        assert!(message.contains(&address), "{error}");
        assert!(message.contains(&std::process::id().to_string()), "the owner is named: {error}");
        assert!(hint.contains(&format!("lsof -i :{port}")), "{error}");
        assert!(hint.contains("--listen /ip4/0.0.0.0/tcp/0"), "{error}");
    }
}

#[test]
fn an_address_that_the_machine_lacks_is_warned_of_and_hides_no_port_that_is_taken() {
    // IPv6 in the way that a machine without it has it: no such address here.
    const ABSENT: &str = "/ip6/2001:db8::1/tcp/0";
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    for listen in [["--listen", ABSENT, "--listen", &address], ["--listen", &address, "--listen", ABSENT]] {
        let error = Home::new().error(8, &[&["start"][..], &listen].concat());
        assert!(text(&error["message"]).contains(&address), "{error}");
    }
    let mut node = Node::start(&[]);
    node.stop();
    let command = node.command(&["start", "--listen", ABSENT, "--listen", LOOPBACK]);
    node.start_with(command);
    assert_eq!(texts(&node.json(&["status"])["listen_addresses"]).len(), 1);
    assert!(node.log().contains("2001:db8::1"), "{}", node.log());
    let error = Home::new().error(8, &["start", "--listen", ABSENT]);
    assert!(text(&error["message"]).contains("2001:db8::1"), "{error}");
}

#[test]
fn status_9_a_second_node_on_one_state_folder() {
    let node = Node::start(&[]);
    for arguments in [&["start", "--listen", LOOPBACK][..], &["start", "--daemon", "--listen", LOOPBACK]] {
        let error = node.error(9, arguments);
        assert_eq!(error["code"], "E_ALREADY_RUNNING");
        let message = text(&error["message"]);
        assert!(message.contains(&node.pid().to_string()) && message.contains("control.sock"), "{error}");
    }
    node.is_well();
}

#[test]
fn status_9_other_content_under_a_published_version() {
    let node = Node::start(&[]);
    tree::small(&node.path("package"), "fixed", "1.0.0", "What is published stays", "");
    node.json(&["publish", &node.text("package")]);
    let before = node.json(&["info", "fixed"]);
    fs::write(node.path("package/more.txt"), "more").unwrap();
    assert_eq!(node.error(9, &["publish", &node.text("package")])["code"], "E_CONFLICT");
    let after = node.json(&["info", "fixed"]);
    assert_eq!((&before["cid"], &before["sequence"]), (&after["cid"], &after["sequence"]));
}

#[test]
fn status_10_an_incomplete_answer_where_completeness_was_demanded() {
    let mut node = Node::start(&[]);
    node.run(&["search", "x"]).exits(0);
    let answer = node.run(&["search", "x", "--strict", "--format", "json"]).exits(10);
    assert_eq!(answer.json()["complete"], false, "{answer:#?}");
    let other = Node::start(&[&node]);
    node.knows(&[&other]);
    crate::world::eventually("a complete answer", Duration::from_secs(20), || {
        (node.run(&["search", "x", "--strict"]).code == 0).then_some(())
    });
    node.stop();
}
