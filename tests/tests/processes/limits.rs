//! Limits of the line, by the keys of the configuration and by the time of the week.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    tree,
    world::{Node, ggen, run, text},
};

const FILES: usize = 4;
const FILE_BYTES: usize = 500_000;
const RATE: u64 = 400_000;

/// Installs a package, and says how long that took.
fn install(reader: &Node, name: &str) -> Duration {
    reader.finds("nothing else holds", name, Duration::from_secs(20));
    let begun = Instant::now();
    reader.json(&["install", name, "--to", &reader.text(name)]);
    begun.elapsed()
}

fn publish(author: &Node, name: &str, seed: u64) {
    tree::bulk(&author.path(name), name, seed, FILES, FILE_BYTES);
    author.json(&["publish", &author.text(name)]);
}

/// The least time that all bytes take at the rate, beyond what may be sent at once.
fn least() -> Duration {
    Duration::from_secs_f64((FILES * FILE_BYTES) as f64 / RATE as f64 - 0.6)
}

#[test]
fn what_is_sent_keeps_to_the_limit_at_once_and_so_does_what_is_received() {
    let author = Node::start(&[]);
    for (seed, name) in [(81, "first"), (82, "second"), (83, "third")] {
        publish(&author, name, seed);
    }
    let reader = Node::start(&[&author]);
    let rate = RATE.to_string();
    let set = |node: &Node, key: &str, value: &str| {
        node.run(&["config", "set", key, value]).exits(0);
    };
    set(&author, "limits.upload_bytes_per_second", &rate);
    assert_eq!(author.json(&["status"])["upload_bytes_per_second"], RATE);
    author.run(&["status"]).exits(0).says("up 390");
    let took = install(&reader, "first");
    assert!(took >= least(), "{took:?}");
    // It answers everything else at once.
    assert_eq!(reader.json(&["peer-list"])["total"], 1);
    // A schedule that holds all day long counts in place of the key.
    set(&author, "limits.schedule", "00:00-24:00 up=none");
    let status = author.json(&["status"]);
    assert!(status["upload_bytes_per_second"].is_null(), "{status}");
    set(&reader, "limits.download_bytes_per_second", &rate);
    let took = install(&reader, "second");
    assert!(took >= least(), "{took:?}");
    assert_eq!(reader.json(&["verify"])["ok"], true);
    set(&reader, "limits.schedule", "mon-sun 00:00-24:00 down=none,22:00-06:00 up=1MB/s");
    let took = install(&reader, "third");
    assert!(took < least(), "{took:?}");
    reader.is_well();
    author.is_well();
}

#[test]
fn a_limit_that_makes_no_sense_is_refused_with_an_example() {
    let node = Node::start(&[]);
    for (key, value) in [
        ("limits.schedule", "someday 08:00-18:00 up=1MB/s"),
        ("limits.schedule", "08:00-25:00 up=1MB/s"),
        ("limits.schedule", "08:00-18:00"),
        ("limits.upload_bytes_per_second", "1"),
        ("limits.download_bytes_per_second", "fast"),
    ] {
        let error = node.error(2, &["config", "set", key, value]);
        assert!(text(&error["message"]).contains(key), "{error}");
    }
}

#[test]
fn the_guide_to_disk_and_line_does_what_it_says() {
    let author = Node::start(&[]);
    tree::small(&author.path("web-tools"), "web-tools", "1.0.0", "Tools for the web", "license = \"MIT\"");
    author.json(&["publish", &author.text("web-tools")]);
    let reader = Node::start(&[&author]);
    reader.finds("tools for the web", "web-tools", Duration::from_secs(20));
    reader.json(&["install", "web-tools", "--to", &reader.text("web-tools")]);
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/disk-and-line.md");
    let guide = fs::read_to_string(guide).unwrap();
    let commands =
        guide.split("```bash\n").skip(1).flat_map(|rest| rest.split("```").next().unwrap().lines());
    let mut count = 0;
    for command in commands {
        let programs = ggen().parent().unwrap().to_str().unwrap();
        let mut shell = reader.program(Path::new("sh"));
        shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()));
        shell.arg("-ec").arg(command);
        run(shell).exits(0);
        count += 1;
    }
    assert_eq!(count, 10, "the guide changed");
    let file = fs::read_to_string(reader.state().join("p2p-config.toml")).unwrap();
    let written = guide.split("schedule = [").nth(1).unwrap().split(']').next().unwrap();
    assert!(file.contains(written), "{file}");
    reader.is_well();
}
