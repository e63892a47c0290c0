//! What a new user is told is true, and leads on.

use std::fs;

use crate::{
    tree,
    world::{Home, Node},
};

#[test]
fn without_a_node_a_verb_says_what_applies() {
    let home = Home::new();
    let searched = home.run(&["search", "web"]).exits(0).says("No node runs").says("p2p start --daemon");
    assert!(!searched.stdout.contains("never"), "{searched:#?}");
    home.run(&["stop"]).exits(3).says("There is nothing to stop");
    home.run(&["peer-ban"]).exits(3).says("could not list the banned peers");
    home.run(&["config", "set", "nope", "1"]).exits(2).says("could not change the configuration");
    home.run(&["publish", "--drop", "web"]).exits(4).says("out of the outbox");
}

#[test]
fn a_node_that_has_just_started_does_not_say_that_none_runs() {
    let home = Home::new();
    tree::small(&home.path("own"), "own", "1.0.0", "Published before the start", "license = \"MIT\"");
    home.run(&["publish", &home.text("own")]).exits(0).says("is queued");
    let node = Node::start_in(home, &[]);
    let status = node.json(&["status"]);
    assert!(!status.to_string().contains("E_NOT_RUNNING"), "{status}");
}

#[test]
fn a_package_whose_versions_are_all_yanked_is_shown_without_empty_fields() {
    let node = Node::start(&[]);
    tree::small(&node.path("own"), "own", "1.0.0", "Taken back", "license = \"MIT\"");
    node.json(&["publish", &node.text("own")]);
    node.json(&["yank", "own@1.0.0"]);
    let info = node.run(&["info", "own"]).exits(0).stdout;
    assert!(info.starts_with("own\n"), "{info}");
    assert!(!info.contains("cid:") && !info.contains("size:"), "{info}");
    // It was released by the first entry of the log, and yanked by the second.
    assert_eq!(node.json(&["explain", "own@1.0.0"])["sequence"], 0);
}

#[test]
fn doctor_speaks_of_the_node_that_runs_and_of_a_store_that_cannot_be_read() {
    let other = Node::start(&[]);
    let mut node = Node::start(&[&other]);
    node.knows(&[&other]);
    let findings = node.json(&["doctor"]);
    let told = findings["findings"].as_array().unwrap().iter();
    let about: Vec<&str> = told
        .filter(|finding| finding["check"] == "bootstrap")
        .map(|finding| finding["message"].as_str().unwrap())
        .collect();
    assert!(about.iter().any(|message| message.contains("the port is open")), "{findings}");
    node.stop();
    node.run(&["doctor"]).says("store").calmly();
    fs::write(node.state().join("store.db"), "nonsense").unwrap();
    node.run(&["doctor"]).exits(1).says("PROBLEM  store");
}
