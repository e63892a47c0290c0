//! What interrupted installations leave, and how the disk is freed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::{
    tree::{self, Bytes},
    world::{Node, eventually, text},
};

const FILES: usize = 16;
const FILE_BYTES: usize = 1 << 20;

fn publish(author: &Node, name: &str, seed: u64) -> u64 {
    tree::bulk(&author.path(name), name, seed, FILES, FILE_BYTES);
    author.json(&["publish", &author.text(name)])["size"].as_u64().unwrap()
}

/// Bytes that the files in which a node keeps its blocks take on the disk.
fn on_disk(node: &Node) -> u64 {
    let files = fs::read_dir(node.state().join("blocks")).unwrap().flatten();
    // What is being written counts for nothing until it is whole.
    let files = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "seg"));
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Begins an installation, and ends the node in the middle of it as a power cut would. It comes slowly, so that there is a middle.
fn interrupt(reader: &mut Node, author: &Node, name: &str) {
    author.run(&["config", "set", "limits.upload_bytes_per_second", "2000000"]).exits(0);
    reader.finds("nothing else holds", name, Duration::from_secs(20));
    let before = on_disk(reader);
    let mut install = reader
        .command(&["install", name, "--to", &reader.text("interrupted")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("something was kept", Duration::from_secs(60), || {
        (on_disk(reader) > before + FILE_BYTES as u64 / 2).then_some(())
    });
    reader.kill();
    install.wait().unwrap();
    author.run(&["config", "set", "limits.upload_bytes_per_second", "1000000000"]).exits(0);
    reader.start_again(&[author]);
}

#[test]
fn what_an_interrupted_installation_left_is_shown_and_resumed_to_any_target() {
    let author = Node::start(&[]);
    let size = publish(&author, "big", 71);
    let mut reader = Node::start(&[&author]);
    interrupt(&mut reader, &author, "big");
    let status = reader.json(&["status"]);
    let partial = &status["partial"][0];
    assert!(text(&partial["id"]).ends_with("/big@1.0.0"), "{status}");
    let held = partial["bytes_held"].as_u64().unwrap();
    assert!(held > 0 && held < size, "{partial}");
    reader.run(&["status"]).exits(0).says("interrupted");
    let planned = reader.json(&["gc", "--dry-run"]);
    assert_eq!(planned["items"].as_array().unwrap().last().unwrap()["kind"], "partial", "{planned}");

    let installed = reader.json(&["install", "big", "--to", &reader.text("elsewhere")]);
    assert!(installed["bytes_fetched"].as_u64().unwrap() <= size - held + 100_000, "{installed}");
    assert_eq!(reader.json(&["status"])["partial"].as_array().unwrap().len(), 0);
    let collected = reader.json(&["gc"]);
    assert!(collected["bytes"].as_u64().unwrap() < size / 10, "{collected}");
    assert_eq!(reader.json(&["verify", "big"])["ok"], true);
    // Who asks this node gets all of it.
    author.json(&["status"]);
    reader.is_well();
}

#[test]
fn a_full_store_frees_what_nobody_needs_and_nothing_else() {
    let author = Node::start(&[]);
    let size = publish(&author, "left", 72);
    let mut reader = Node::start(&[&author]);
    // What was written and not durable yet is gone with the node: that may be nearly all of it.
    let left = (0..8).any(|_| {
        interrupt(&mut reader, &author, "left");
        reader.json(&["status"])["partial"][0]["bytes_held"].as_u64().is_some_and(|held| held > 1 << 20)
    });
    assert!(left, "an interruption leaves something");
    publish(&author, "wanted", 73);
    publish(&author, "more", 74);
    reader.finds("nothing else holds", "more", Duration::from_secs(20));
    // Less room than one block more would need: what was interrupted may be no more than that.
    let most = (size + (1 << 19)).to_string();
    reader.run(&["config", "set", "limits.store_bytes_max", &most]).exits(0);
    reader.stop();
    reader.start_again(&[&author]);
    reader.finds("nothing else holds", "more", Duration::from_secs(20));
    reader.json(&["install", "wanted", "--to", &reader.text("wanted")]);
    assert_eq!(reader.json(&["status"])["partial"].as_array().unwrap().len(), 0, "it made room");
    assert!(on_disk(&reader) < size + (2 << 20), "{}", on_disk(&reader));
    reader.json(&["pin", "add", "wanted", "--name", "keep", "--for", "1d"]);
    let error = reader.error(7, &["install", "more", "--to", &reader.text("more")]);
    assert!(text(&error["hint"]).contains("gc --dry-run"), "{error}");
    assert_eq!(reader.json(&["gc", "--dry-run"])["items"].as_array().unwrap().len(), 0);
    assert_eq!(reader.json(&["verify", "wanted"])["ok"], true);
    let pins = reader.json(&["pin", "list"]);
    assert_eq!((&pins["total"], &pins["pins"][0]["name"]), (&1.into(), &"keep".into()), "{pins}");
    reader.error(4, &["pin", "add", "more"]);
    reader.error(4, &["pin", "remove", "nothing"]);
    // What is removed is still provided to others, and kept as long as it is pinned.
    reader.json(&["remove", "wanted"]);
    reader.error(7, &["install", "more", "--to", &reader.text("more")]);
    assert_eq!(reader.json(&["pin", "remove", "wanted"])["total"], 0);
    let planned = reader.json(&["gc", "--dry-run"]);
    assert_eq!(planned["items"][0]["kind"], "cached", "{planned}");
    reader.json(&["install", "more", "--to", &reader.text("more")]);
    assert_eq!(reader.json(&["verify", "more"])["ok"], true);
    assert!(on_disk(&reader) < size + (2 << 20), "{}", on_disk(&reader));
}

#[test]
fn the_disk_is_freed_while_no_node_runs_and_what_was_published_stays() {
    let mut node = Node::start(&[]);
    tree::bulk(&node.path("mine"), "mine", 75, 4, FILE_BYTES);
    node.json(&["publish", &node.text("mine")]);
    node.stop();
    let planned = node.json(&["gc", "--dry-run"]);
    assert_eq!((&planned["dry_run"], &planned["items"]), (&true.into(), &serde_json::json!([])), "{planned}");
    let pinned = node.json(&["pin", "add", "mine", "--name", "release", "--for", "30d"]);
    assert_eq!((&pinned["changed"], &pinned["total"]), (&"release".into(), &1.into()), "{pinned}");
    assert!(text(&pinned["pins"][0]["until"]) > text(&pinned["pins"][0]["since"]), "{pinned}");
    let collected = node.json(&["gc"]);
    assert_eq!((&collected["bytes"], &collected["dry_run"]), (&0.into(), &false.into()), "{collected}");
    node.run(&["gc"]).exits(0).says("Nothing can be freed");
    node.run(&["pin", "remove", "mine"]).exits(0).says("release");
    node.run(&["pin", "list"]).exits(0).says("pin add");
    node.error(2, &["pin", "add", "mine", "--for", "never"]);
    node.start_again(&[]);
    let reader = Node::start(&[&node]);
    reader.finds("nothing else holds", "mine", Duration::from_secs(20));
    reader.json(&["install", "mine", "--to", &reader.text("mine")]);
    reader.is_well();
}

/// Kills of the node; `GGEN_TEST_KILLS` asks for more.
fn kills() -> u64 {
    std::env::var("GGEN_TEST_KILLS").ok().map_or(6, |rounds| rounds.parse().unwrap())
}

#[test]
fn a_kill_in_the_middle_of_gc_loses_nothing_that_is_wanted() {
    let mut author = Node::start(&[]);
    for (seed, name) in [(76, "kept"), (77, "pinned"), (78, "gone")] {
        tree::bulk(&author.path(name), name, seed, 60, 20_000);
        author.json(&["publish", &author.text(name)]);
    }
    let mut reader = Node::start(&[&author]);
    reader.finds("nothing else holds", "gone", Duration::from_secs(20));
    for name in ["kept", "pinned"] {
        reader.json(&["install", name, "--to", &reader.text(name)]);
    }
    reader.json(&["pin", "add", "pinned"]);
    reader.json(&["remove", "pinned"]);
    let leave_something = |reader: &Node| {
        reader.json(&["install", "gone", "--to", &reader.text("gone")]);
        reader.json(&["remove", "gone"]);
    };
    leave_something(&reader);
    let begun = Instant::now();
    assert!(reader.json(&["gc"])["bytes"].as_u64().unwrap() > 1_000_000);
    let whole = begun.elapsed();
    let mut moments =
        Bytes::new(std::env::var("GGEN_TEST_SEED").ok().map_or(1, |seed| seed.parse().unwrap()));
    for _ in 0..kills() {
        leave_something(&reader);
        let mut gc = reader.command(&["gc"]);
        let mut gc = gc.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The random moment is the experiment; nothing is waited for.
        thread::sleep(Duration::from_micros(
            moments.below(u64::try_from(whole.as_micros()).unwrap() * 6 / 5),
        ));
        reader.kill();
        gc.wait().unwrap();
        reader.start_again(&[&author]);
        assert_eq!(reader.json(&["verify", "kept"])["ok"], true);
        reader.finds("nothing else holds", "gone", Duration::from_secs(20));
    }
    // What is left of it goes, and only that; what is wanted is had by others.
    reader.json(&["gc"]);
    assert_eq!(reader.json(&["gc", "--dry-run"])["items"].as_array().unwrap().len(), 0);
    author.stop();
    let fresh = Node::start(&[&reader]);
    fresh.finds("nothing else holds", "pinned", Duration::from_secs(20));
    for name in ["kept", "pinned"] {
        fresh.json(&["install", name, "--to", &fresh.text(name)]);
        tree::assert_same(&author.path(name), &fresh.path(name));
    }
    reader.is_well();
}
