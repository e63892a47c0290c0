//! What waits to be published: content without a signature, put behind whatever the same key published elsewhere.

use std::{fs, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    tree,
    world::{Home, Node, eventually, text, texts},
};

const SOON: Duration = Duration::from_secs(60);

fn write(home: &Home, folder: &str, version: &str) {
    let _ = fs::remove_dir_all(home.path(folder));
    tree::small(&home.path(folder), "shared", version, "Published from two machines", "");
}

/// A node whose publisher key is that of another one.
fn moved(first: &Home) -> Home {
    first.run(&["key", "export", "--to", &first.text("secret.key")]).exits(0);
    let second = Home::new();
    second.run(&["key", "import", "default", &first.text("secret.key")]).exits(0);
    second
}

fn versions(reader: &Home) -> Vec<String> {
    let answer = reader.run(&["info", "shared", "--format", "json"]).calmly();
    let info: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    let versions = info["versions"].as_array().cloned().unwrap_or_default();
    versions.iter().map(|it| text(&it["version"])).collect()
}

#[track_caller]
fn knows(reader: &Home, wanted: &[&str]) {
    eventually(&format!("{wanted:?} are known"), SOON, || (versions(reader) == wanted).then_some(()));
    let info = reader.json(&["info", "shared"]);
    assert!(!info["notes"].to_string().contains("frozen"), "{info}");
}

fn waiting(node: &Home) -> Vec<Value> {
    node.json(&["status"])["outbox"].as_array().unwrap().clone()
}

#[test]
fn what_the_first_queued_and_the_second_published_both_arrive() {
    let mut third = Node::start(&[]);
    let mut first = Node::start(&[&third]);
    first.knows(&[&third]);
    write(&first, "package", "1.0.0");
    first.json(&["publish", &first.text("package"), "--wait"]);
    // Somebody else has to have the log, or nobody can continue it.
    third.finds("machines", "shared", SOON);
    third.json(&["install", "shared", "--to", &third.text("before")]);
    first.stop();
    let second = Node::start_in(moved(&first), &[&third]);
    second.knows(&[&third]);

    write(&first, "package", "1.1.0");
    let queued = first.json(&["publish", &first.text("package")]);
    assert_eq!(queued["queued"], true, "{queued}");
    write(&second, "package", "1.2.0");
    let published = second.json(&["publish", &second.text("package"), "--wait"]);
    assert_eq!((&published["sequence"], &published["queued"]), (&1.into(), &false.into()), "{published}");

    // A neighbour that knows nothing is there before the one through which the first one joins, and is not believed alone.
    let stranger = Node::start(&[]);
    third.stop();
    first.start_again(&[&third]);
    stranger.json(&["bootstrap", &first.address]);
    first.knows(&[&stranger]);
    eventually("it waits for those through whom it joins", SOON, || {
        waiting(&first).iter().any(|row| text(&row["why"]).contains("bootstrap nodes")).then_some(())
    });
    let more = first.json(&["publish", &first.text("package"), "--version", "1.3.0", "--timeout", "1"]);
    assert_eq!(more["queued"], true, "{more}");
    third.start_at_its_address();
    knows(&third, &["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
    knows(&second, &["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
    third.json(&["install", "shared@1.1.0", "--to", &third.text("out")]);
    tree::assert_same(&first.path("package"), &third.path("out"));
    assert!(waiting(&first).is_empty());
    let listed = first.json(&["list"])["packages"].as_array().unwrap().clone();
    assert!(listed.iter().all(|row| row["kind"] == "published"), "{listed:?}");
}

#[test]
fn a_first_version_that_waits_is_put_behind_the_first_that_was_published_elsewhere() {
    let third = Node::start(&[]);
    let first = Home::new();
    write(&first, "package", "1.0.0");
    first.json(&["publish", &first.text("package")]);
    let second = Node::start_in(moved(&first), &[&third]);
    second.knows(&[&third]);
    write(&second, "package", "2.0.0");
    let published = second.json(&["publish", &second.text("package"), "--wait"]);
    assert_eq!(published["sequence"], 0);
    let _first = Node::start_in(first, &[&third]);
    knows(&third, &["1.0.0", "2.0.0"]);
}

#[test]
fn a_version_that_was_taken_elsewhere_stays_in_the_outbox_until_it_is_dropped() {
    let third = Node::start(&[]);
    let first = Home::new();
    write(&first, "package", "1.0.0");
    first.json(&["publish", &first.text("package")]);
    // The same content as the second machine publishes: that is done then.
    write(&first, "same", "2.0.0");
    first.json(&["publish", &first.text("same")]);
    let second = Node::start_in(moved(&first), &[&third]);
    second.knows(&[&third]);
    write(&second, "package", "1.0.0");
    fs::write(second.path("package/more"), "more").unwrap();
    second.json(&["publish", &second.text("package"), "--wait"]);
    write(&second, "package", "2.0.0");
    second.json(&["publish", &second.text("package"), "--wait"]);

    let first = Node::start_in(first, &[&third]);
    let conflict = eventually("the conflict is told", SOON, || {
        let waiting = waiting(&first);
        waiting.into_iter().find(|row| row["code"] == "E_CONFLICT")
    });
    assert!(text(&conflict["hint"]).contains("publish --drop shared@1.0.0"), "{conflict}");
    eventually("the same content is done", SOON, || (waiting(&first).len() == 1).then_some(()));
    let status = first.json(&["status"]);
    assert!(texts(&status["warnings"]).join("\n").contains("E_CONFLICT"), "{status}");
    let listed = first.json(&["list"])["packages"].as_array().unwrap().clone();
    let queued: Vec<_> = listed.iter().filter(|row| row["kind"] == "queued").collect();
    assert_eq!(queued.len(), 1, "{listed:?}");
    assert!(text(&queued[0]["why"]).contains("other content"), "{listed:?}");
    assert_eq!(first.error(9, &["publish", &first.text("package")])["code"], "E_CONFLICT");
    knows(&third, &["1.0.0", "2.0.0"]);

    assert_eq!(first.error(4, &["publish", "--drop", "shared@9.0.0"])["code"], "E_NOT_FOUND");
    first.run(&["publish", "--drop", "shared@1.0.0"]).exits(0).says("out of the outbox");
    assert!(waiting(&first).is_empty());
    write(&first, "package", "1.0.1");
    first.json(&["publish", &first.text("package"), "--wait"]);
    knows(&third, &["1.0.0", "1.0.1", "2.0.0"]);
}

#[test]
fn what_waits_can_be_dropped_without_a_node() {
    let home = Home::new();
    write(&home, "package", "1.0.0");
    home.json(&["publish", &home.text("package")]);
    let again = home.json(&["publish", &home.text("package")]);
    assert_eq!((&again["queued"], &again["already_published"]), (&true.into(), &true.into()), "{again}");
    fs::write(home.path("package/more"), "more").unwrap();
    let error = home.error(9, &["publish", &home.text("package")]);
    assert!(text(&error["hint"]).contains("publish --drop shared@1.0.0"), "{error}");
    home.run(&["publish", "--drop", "shared"]).exits(0).says("shared@1.0.0");
    let error = home.error(4, &["publish", "--drop", "shared"]);
    assert!(text(&error["hint"]).contains("Nothing waits"), "{error}");
    home.json(&["publish", &home.text("package")]);
}

#[test]
fn a_node_that_was_never_met_continues_its_log_and_one_that_was_waits_for_company() {
    let mut author = Node::start(&[]);
    for version in ["1.0.0", "1.1.0"] {
        write(&author, "package", version);
        let published = author.json(&["publish", &author.text("package")]);
        assert_eq!(published["queued"], false, "nobody can have continued it: {published}");
    }
    let mut reader = Node::start(&[&author]);
    knows(&reader, &["1.0.0", "1.1.0"]);
    reader.stop();
    author.stop();
    author.start_again(&[]);
    write(&author, "package", "1.2.0");
    let error = author.error(6, &["publish", &author.text("package"), "--timeout", "1", "--no-queue"]);
    assert!(text(&error["message"]).contains("no peer is connected"), "{error}");
    let queued = author.json(&["publish", &author.text("package"), "--timeout", "1"]);
    assert_eq!((&queued["queued"], &queued["sequence"]), (&true.into(), &2.into()), "{queued}");
    assert!(texts(&queued["warnings"]).join("\n").contains("no peer is connected"), "{queued}");
    assert_eq!(waiting(&author).len(), 1);
    reader.start_again(&[&author]);
    knows(&reader, &["1.0.0", "1.1.0", "1.2.0"]);
}

#[test]
fn a_kill_while_the_outbox_is_emptied_never_signs_two_things_for_one_place() {
    let third = Node::start(&[]);
    let home = Home::new();
    let wanted = ["1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.0.5"];
    for version in wanted {
        write(&home, "package", version);
        home.json(&["publish", &home.text("package")]);
    }
    let mut author = Node::start_in(home, &[&third]);
    for pause in [900, 1_050, 1_100, 1_200, 1_500] {
        std::thread::sleep(Duration::from_millis(pause));
        author.kill();
        author.start_again(&[&third]);
    }
    knows(&third, &wanted);
    knows(&author, &wanted);
    assert!(waiting(&author).is_empty());
}

#[test]
fn a_folder_from_a_backup_signs_nothing_on_the_word_of_a_peer_that_knows_nothing() {
    let mut third = Node::start(&[]);
    let mut author = Node::start(&[&third]);
    author.knows(&[&third]);
    write(&author, "package", "1.0.0");
    author.json(&["publish", &author.text("package"), "--wait"]);
    knows(&third, &["1.0.0"]);
    author.stop();
    let backup = Home::new();
    let copied = Command::new("cp").arg("-r").arg(author.state()).arg(backup.state()).status().unwrap();
    assert!(copied.success());
    author.start_again(&[&third]);
    author.knows(&[&third]);
    write(&author, "package", "1.1.0");
    let published = author.json(&["publish", &author.text("package"), "--wait"]);
    assert_eq!(published["queued"], false, "its bootstrap node is there: {published}");
    // Somebody else has to have the log, or nobody can continue it.
    knows(&third, &["1.0.0", "1.1.0"]);
    third.json(&["install", "shared", "--to", &third.text("before")]);
    author.stop();
    third.stop();

    let restored = Node::start_in(backup, &[&third]);
    let newcomer = Node::start(&[]);
    newcomer.json(&["bootstrap", &restored.address]);
    restored.knows(&[&newcomer]);
    write(&restored, "package", "1.2.0");
    let queued = restored.json(&["publish", &restored.text("package"), "--timeout", "4"]);
    assert_eq!(queued["queued"], true, "{queued}");
    assert!(texts(&queued["warnings"]).join("\n").contains("bootstrap nodes"), "{queued}");
    third.start_at_its_address();
    knows(&third, &["1.0.0", "1.1.0", "1.2.0"]);
}
