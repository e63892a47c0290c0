//! What an author signs and nobody has fetched yet: nothing that was published before is lost with it, and no machine that has the
//! same key signs over it.

use std::{fs, time::Duration};

use serde_json::Value;

use crate::{
    tree,
    world::{Home, Node, eventually, text, texts},
};

const SOON: Duration = Duration::from_secs(60);

fn write(home: &Home, version: &str) -> String {
    let folder = format!("package-{version}");
    let _ = fs::remove_dir_all(home.path(&folder));
    tree::small(&home.path(&folder), "shared", version, "Published by somebody who goes away", "");
    home.text(&folder)
}

fn publish(node: &Node, version: &str) -> Value {
    let folder = write(node, version);
    node.json(&["publish", &folder, "--wait"])
}

/// A machine with the publisher key of another one.
fn with_key_of(first: &Home) -> Home {
    first.run(&["key", "export", "--to", &first.text("secret.key")]).exits(0);
    let second = Home::new();
    second.run(&["key", "import", "default", &first.text("secret.key")]).exits(0);
    second
}

/// Waits until a version is announced to a node.
fn hears(node: &Node, version: &str) {
    eventually(&format!("{version} is announced"), SOON, || {
        let found = node.json(&["search", "somebody"]);
        let packages = found["packages"].as_array().unwrap().clone();
        packages.iter().any(|it| it["version"] == version).then_some(())
    });
}

/// A node, and one connected with it that published a first version, which the other has heard of.
fn reader_and_author() -> (Node, Node) {
    let reader = Node::start(&[]);
    let author = Node::start(&[&reader]);
    author.knows(&[&reader]);
    publish(&author, "1.0.0");
    hears(&reader, "1.0.0");
    (reader, author)
}

fn versions(node: &Node) -> Vec<String> {
    let answer = node.run(&["info", "shared", "--format", "json"]).calmly();
    let info: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    let versions = info["versions"].as_array().cloned().unwrap_or_default();
    versions.iter().map(|it| text(&it["version"])).collect()
}

#[test]
fn what_was_released_before_outlives_an_author_who_announced_something_and_left() {
    let mut author = Node::start(&[]);
    publish_alone(&author, "1.0.0");
    publish_alone(&author, "1.1.0");
    let holder = Node::start(&[&author]);
    hears(&holder, "1.1.0");
    holder.json(&["install", "shared", "--to", &holder.text("first")]);
    publish(&author, "1.2.0");
    hears(&holder, "1.2.0");
    // Its log is read; what it released is not fetched.
    holder.json(&["info", "shared"]);
    publish(&author, "1.3.0");
    hears(&holder, "1.3.0");
    author.kill();

    // Whoever comes now has heard of nothing before.
    let newcomer = Node::start(&[&holder]);
    hears(&newcomer, "1.3.0");
    for node in [&holder, &newcomer] {
        let out = node.text("named");
        let installed = node.json(&["install", "shared@1.1.0", "--to", &out]);
        assert!(texts(&installed["warnings"]).join("\n").contains("announced (1.3.0)"), "{installed}");
        tree::assert_same(&author.path("package-1.1.0"), &node.path("named"));
        let installed = node.json(&["install", "shared", "--to", &node.text("newest")]);
        assert_eq!(installed["version"], "1.1.0", "{installed}");
        assert!(texts(&installed["warnings"]).join("\n").contains("announced (1.3.0)"), "{installed}");
        node.run(&["install", "shared", "--to", &node.text("strict"), "--strict"]).exits(10);
        let installed = node.json(&["install", "shared", "--offline", "--to", &node.text("offline")]);
        assert_eq!(installed["version"], "1.1.0", "{installed}");
        for gone in ["shared@1.2.0", "shared@1.3.0"] {
            let error = node.error(5, &["install", gone, "--to", &node.text("gone")]);
            assert_eq!(error["code"], "E_NO_PROVIDERS", "{error}");
        }
        let error = node.error(5, &["info", "shared@1.1.5"]);
        assert!(text(&error["message"]).contains("is not known"), "{error}");
        let info = node.json(&["info", "shared"]);
        assert_eq!(versions(node), ["1.0.0", "1.1.0", "1.2.0", "1.3.0"], "{info}");
        assert!(texts(&info["notes"]).join("\n").contains("nobody who was reached holds it"), "{info}");
    }
}

/// Publishes where nobody is connected: nobody can have continued the log.
fn publish_alone(node: &Node, version: &str) {
    let folder = write(node, version);
    node.json(&["publish", &folder]);
}

#[test]
fn a_replaced_key_signs_nothing_over_a_release_of_another_machine_that_is_away() {
    let (third, mut first) = reader_and_author();
    third.json(&["install", "shared", "--to", &third.text("before")]);
    first.stop();
    let mut second = Node::start_in(with_key_of(&first), &[&third]);
    second.knows(&[&third]);
    publish(&second, "1.1.0");
    hears(&third, "1.1.0");
    second.kill();

    first.start_again(&[&third]);
    hears(&first, "1.1.0");
    let folder = write(&first, "1.2.0");
    let queued = first.json(&["publish", &folder, "--timeout", "2"]);
    assert_eq!(queued["queued"], true, "{queued}");
    for change in [&["key", "rotate"][..], &["key", "revoke"]] {
        let changed = first.json(change);
        assert_eq!(changed["node"]["packages"].as_array().unwrap().len(), 0, "{changed}");
        assert_eq!(changed["node"]["waiting"].as_array().unwrap().len(), 1, "{changed}");
    }
    let found = third.json(&["search", "somebody"]);
    assert_eq!(found["packages"][0]["version"], "1.1.0", "nothing was taken back: {found}");

    second.start_again(&[&third]);
    eventually("all three are there", 2 * SOON, || {
        (versions(&third) == ["1.0.0", "1.1.0", "1.2.0"]).then_some(())
    });
    third.json(&["install", "shared@1.1.0", "--to", &third.text("kept")]);
    tree::assert_same(&second.path("package-1.1.0"), &third.path("kept"));
}

#[test]
fn a_machine_whose_key_was_replaced_elsewhere_is_told_so_and_takes_the_new_one() {
    let mut first = Node::start(&[]);
    publish_alone(&first, "1.0.0");
    let third = Node::start(&[&first]);
    hears(&third, "1.0.0");
    let mut second = Node::start_in(with_key_of(&first), &[&first, &third]);
    hears(&second, "1.0.0");
    second.stop();
    first.json(&["key", "rotate"]);
    second.start_again(&[&first, &third]);
    let told = |list: &Value| {
        texts(list).iter().any(|it| it.contains("was replaced") && it.contains("key import default"))
    };
    eventually("status says so", SOON, || told(&second.json(&["status"])["warnings"]).then_some(()));
    let listed = second.json(&["key", "list"]);
    assert!(text(&listed["keys"][0]["replaced"]).contains("key document 1"), "{listed}");
    let folder = write(&second, "1.1.0");
    let error = second.error(7, &["publish", &folder]);
    assert!(text(&error["message"]).contains("was replaced"), "{error}");
    let key = second.state().join("keys/publishers/default.key");
    let before = fs::read(&key).unwrap();
    for change in [&["key", "rotate"][..], &["key", "revoke"]] {
        let error = second.error(7, change);
        assert!(text(&error["hint"]).contains("key import default"), "{error}");
    }
    assert_eq!(fs::read(&key).unwrap(), before, "nothing was made that nobody takes");
    first.run(&["key", "export", "--to", &first.text("new.key")]).exits(0);
    second.json(&["key", "import", "default", &first.text("new.key")]);
    assert!(second.json(&["key", "list"])["keys"][0]["replaced"].is_null());
    let error = second.error(7, &["key", "import", "default", &first.text("secret.key")]);
    assert!(text(&error["message"]).contains(&first.text("secret.key")), "the file that was given: {error}");
    publish(&second, "1.1.0");
    eventually("it goes on", SOON, || (versions(&third) == ["1.0.0", "1.1.0"]).then_some(()));
    first.stop();
}

#[test]
fn what_a_stolen_key_signed_after_it_was_revoked_is_not_taken_over_by_its_owner() {
    for gives_its_log in [true, false] {
        let (third, mut owner) = reader_and_author();
        third.json(&["install", "shared", "--to", &third.text("first")]);
        let stolen = with_key_of(&owner);
        owner.stop();
        owner.json(&["key", "revoke"]);
        // The thief has the key, and the log from the others, who know nothing of the revocation yet.
        let mut thief = Node::start_in(stolen, &[&third]);
        hears(&thief, "1.0.0");
        publish(&thief, "6.6.6");
        hears(&third, "6.6.6");
        if gives_its_log {
            third.json(&["install", "shared@6.6.6", "--to", &third.text("evil")]);
            third.run(&["verify", &third.text("evil")]).exits(0);
        } else {
            thief.stop();
        }
        owner.start_again(&[&third]);
        eventually("only what its owner signed counts", SOON, || {
            let explained = third.json(&["explain", "shared"]);
            (versions(&third) == ["1.0.0"] && explained["head_signed_by"].as_array()?.len() == 1)
                .then_some(())
        });
        publish(&owner, "1.1.0");
        eventually("its owner goes on", SOON, || (versions(&third) == ["1.0.0", "1.1.0"]).then_some(()));
        assert_eq!(versions(&owner), ["1.0.0", "1.1.0"]);
        third.run(&["verify", &third.text("first")]).exits(0);
        if gives_its_log {
            third.run(&["verify", &third.text("evil")]).exits(6);
        }
    }
}

#[test]
fn what_a_stolen_key_signed_before_it_was_revoked_is_named_and_can_be_yanked() {
    let (third, owner) = reader_and_author();
    let thief = Node::start_in(with_key_of(&owner), &[&third]);
    hears(&thief, "1.0.0");
    publish(&thief, "6.6.6");
    hears(&owner, "6.6.6");
    tree::small(&thief.path("evil"), "evil", "9.9.9", "Published by a thief", "");
    thief.json(&["publish", &thief.text("evil")]);
    let found = || owner.json(&["search", "evil"])["packages"].as_array().map(Vec::len);
    eventually("its owner's machine hears of the other package", SOON, || (found() == Some(1)).then_some(()));
    // What is known in the second of the revocation may be later than it.
    let seconds = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let heard = seconds();
    eventually("a second passes", SOON, || (seconds() > heard).then_some(()));
    // What its owner did not publish is named, whichever package it is in.
    let revoked = owner.json(&["key", "revoke"]);
    let warnings = texts(&revoked["node"]["warnings"]).join("\n");
    assert!(warnings.contains("shared@6.6.6") && warnings.contains("/evil"), "{revoked}");
    assert!(!warnings.contains("shared@1.0.0"), "{revoked}");
    let publisher = text(&revoked["publisher"]).to_owned();
    for version in ["shared@6.6.6", "evil@9.9.9"] {
        owner.json(&["yank", &format!("{publisher}/{version}")]);
    }
    let is_yanked = |name: &str, version: &str| {
        let answer = third.run(&["info", &format!("{publisher}/{name}"), "--format", "json"]).calmly();
        let info: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        let versions = info["versions"].as_array().cloned().unwrap_or_default();
        versions.iter().any(|it| it["version"] == version && it["yanked"] == true)
    };
    eventually("nobody chooses what the thief published", SOON, || {
        (is_yanked("shared", "6.6.6") && is_yanked("evil", "9.9.9")).then_some(())
    });
}

#[test]
fn a_package_of_which_nobody_has_anything_but_its_head_begins_again_by_the_key_alone() {
    let (third, mut first) = reader_and_author();
    let second = with_key_of(&first);
    first.stop();
    drop(first);
    let second = Node::start_in(second, &[&third]);
    hears(&second, "1.0.0");
    second.json(&["key", "rotate"]);
    let resolved = second.json(&["key", "resolve", "shared"]);
    assert_eq!(resolved["resolved"], true, "{resolved}");
    publish(&second, "1.1.0");
    eventually("it goes on", SOON, || (versions(&third) == ["1.1.0"]).then_some(()));
}

#[test]
fn a_name_that_a_thief_took_after_the_key_was_revoked_is_its_owners_again() {
    let (third, mut owner) = reader_and_author();
    let stolen = with_key_of(&owner);
    owner.stop();
    let publisher = text(&owner.json(&["key", "revoke"])["publisher"]).to_owned();
    let mut thief = Node::start_in(stolen, &[&third]);
    tree::small(&thief.path("next"), "next", "0.0.1", "Published by a thief", "");
    thief.json(&["publish", &thief.text("next"), "--wait"]);
    thief.stop();
    owner.start_again(&[&third]);
    eventually("third knows of the revocation", SOON, || {
        third.json(&["explain", "shared"])["head_signed_by"].as_array().filter(|it| it.len() == 1).map(drop)
    });
    tree::small(&owner.path("next"), "next", "1.0.0", "Published by its owner", "");
    let folder = owner.text("next");
    if owner.run(&["publish", &folder, "--no-queue"]).calmly().code != 0 {
        let resolved = owner.json(&["key", "resolve", &format!("{publisher}/next")]);
        assert_eq!(resolved["resolved"], true, "{resolved}");
        owner.json(&["publish", &folder, "--wait"]);
    }
    eventually("its owner's is found", SOON, || {
        let found = third.json(&["search", "next"]);
        let packages = found["packages"].as_array()?.clone();
        packages.iter().any(|it| it["version"] == "1.0.0").then_some(())
    });
}
