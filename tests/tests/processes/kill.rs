//! Nodes that are killed at any moment: what was acknowledged stays, what was not is whole or absent.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    tree::{self, Bytes},
    world::{Home, Node, eventually, text},
};

/// Kills in each test; `GGEN_TEST_KILLS` asks for more.
fn rounds() -> u64 {
    std::env::var("GGEN_TEST_KILLS").ok().map_or(10, |rounds| rounds.parse().unwrap())
}

/// What the moments of the kills are drawn from; `GGEN_TEST_SEED` asks for others.
fn moments() -> Bytes {
    Bytes::new(std::env::var("GGEN_TEST_SEED").ok().map_or(1, |seed| seed.parse().unwrap()))
}

/// Runs a command in the background.
fn begin(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(&[arguments, &["--format", "json"]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// What a command in the background answered, where it succeeded.
fn answer(child: Child) -> Option<Value> {
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(101), "{output:?}");
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// The next moment to kill at: spread over what the whole operation takes, and somewhat longer.
fn pause(moments: &mut Bytes, whole: Duration) {
    let micros = u64::try_from(whole.as_micros()).unwrap() * 5 / 4;
    // The random moment is the experiment; nothing is waited for.
    thread::sleep(Duration::from_micros(moments.below(micros.max(1))));
}

/// The versions that `list` shows as published: id to content id.
fn published(home: &Home) -> BTreeMap<String, String> {
    let listing = home.json(&["list"]);
    let rows = listing["packages"].as_array().unwrap().iter().filter(|row| row["kind"] == "published");
    rows.map(|row| (text(&row["id"]), text(&row["cid"]))).collect()
}

/// Files in the folder of blocks that belong to no finished write.
fn unfinished(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.state().join("blocks")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("tmp") || name.contains("partial")).collect()
}

#[test]
fn what_was_acknowledged_survives_a_kill_during_publish() {
    let mut author = Node::start(&[]);
    let mut moments = moments();
    let mut acknowledged = BTreeMap::new();
    tree::bulk(&author.path("warm-up"), "warm-up", 100, 40, 60_000);
    let begun = Instant::now();
    author.json(&["publish", &author.text("warm-up")]);
    let whole = begun.elapsed();
    let mut killed_during = 0;
    for round in 0..rounds() {
        let name = format!("round-{round}");
        tree::bulk(&author.path(&name), &name, round, 40, 60_000);
        let publishing = begin(&author, &["publish", &author.text(&name)]);
        pause(&mut moments, whole);
        author.kill();
        match answer(publishing) {
            Some(answer) => drop(acknowledged.insert(text(&answer["id"]), text(&answer["cid"]))),
            None => killed_during += 1,
        }
        author.start_again(&[]);
        // What was put aside since the node was gone already is published once it is back.
        eventually(
            &format!("round {round}: what was acknowledged is there"),
            Duration::from_secs(20),
            || {
                let listed = published(&author);
                acknowledged.iter().all(|(id, cid)| listed.get(id) == Some(cid)).then_some(())
            },
        );
        assert_eq!(unfinished(&author), Vec::<String>::new(), "round {round}");
        // Whatever became of it, the same command again ends well, and with one version of it.
        let again = author.json(&["publish", &author.text(&name)]);
        acknowledged.insert(text(&again["id"]), text(&again["cid"]));
        assert_eq!(again["sequence"], 0, "round {round}: {again}");
    }
    println!("{killed_during} of {} publications were cut off", rounds());
    let reader = Node::start(&[&author]);
    reader.finds("round-0", "round-0", Duration::from_secs(10));
    for round in 0..rounds() {
        let name = format!("round-{round}");
        reader.json(&["install", &name, "--to", &reader.text(&name)]);
        tree::assert_same(&author.path(&name), &reader.path(&name));
    }
}

#[test]
fn a_kill_during_install_leaves_nothing_or_the_whole() {
    let author = Node::start(&[]);
    tree::bulk(&author.path("package"), "heavy", 7, 24, 1 << 20);
    author.json(&["publish", &author.text("package")]);
    let mut moments = moments();
    let mut whole = Duration::from_secs(2);
    let mut cut_off = 0;
    for round in 0..rounds() {
        let mut reader = Node::start(&[&author]);
        reader.finds("heavy", "heavy", Duration::from_secs(20));
        fs::create_dir(reader.path("in")).unwrap();
        let (target, text) = (reader.path("in/heavy"), reader.text("in/heavy"));
        let begun = Instant::now();
        let installing = begin(&reader, &["install", "heavy", "--to", &text]);
        pause(&mut moments, whole);
        reader.kill();
        let acknowledged = answer(installing).is_some();
        if acknowledged {
            whole = begun.elapsed().min(whole);
        } else {
            cut_off += 1;
        }
        assert!(!acknowledged || target.exists(), "round {round}: it was acknowledged");
        if target.exists() {
            tree::assert_same(&author.path("package"), &target);
        }
        reader.start_again(&[&author]);
        reader.finds("heavy", "heavy", Duration::from_secs(20));
        reader.json(&["install", "heavy", "--to", &text]);
        tree::assert_same(&author.path("package"), &target);
        reader.run(&["verify", "heavy"]).exits(0);
        assert_eq!(tree::partials(&reader.path("in")), Vec::<String>::new(), "round {round}");
        assert_eq!(unfinished(&reader), Vec::<String>::new(), "round {round}");
    }
    println!("{cut_off} of {} installations were cut off", rounds());
    assert!(cut_off > 0, "no kill came in time to test anything");
}

#[test]
fn an_installation_that_was_killed_goes_on_where_it_stopped() {
    let author = Node::start(&[]);
    let size = 96u64 << 20;
    tree::bulk(&author.path("package"), "huge", 8, 96, 1 << 20);
    author.json(&["publish", &author.text("package")]);
    let mut reader = Node::start(&[&author]);
    reader.finds("huge", "huge", Duration::from_secs(20));
    let target = reader.text("huge");
    // What came becomes durable every second: it takes four of them.
    reader.run(&["config", "set", "limits.download_bytes_per_second", "25165824"]).exits(0);
    let installing = begin(&reader, &["install", "huge", "--to", &target]);
    let blocks = reader.state().join("blocks");
    eventually("most of the blocks are here", Duration::from_secs(60), || {
        (tree::bytes_below(&blocks) > size * 3 / 4).then_some(())
    });
    reader.kill();
    assert!(answer(installing).is_none(), "it was killed in the middle");
    assert!(!Path::new(&target).exists());

    reader.start_again(&[&author]);
    reader.finds("huge", "huge", Duration::from_secs(20));
    let installed = reader.json(&["install", "huge", "--to", &target]);
    let fetched = installed["bytes_fetched"].as_u64().unwrap();
    assert!(fetched < size * 3 / 4, "{fetched} of {size} bytes came again");
    tree::assert_same(&author.path("package"), &reader.path("huge"));
}

#[test]
fn staging_folders_of_a_crash_are_swept_away() {
    let author = Node::start(&[]);
    tree::small(&author.path("package"), "swept", "1.0.0", "Left behind", "");
    author.json(&["publish", &author.text("package")]);
    let reader = Node::start(&[&author]);
    reader.finds("swept", "swept", Duration::from_secs(10));
    let left = reader.path("in/.swept.ggen-partial-Ab12Cd");
    fs::create_dir_all(left.join("half")).unwrap();
    fs::write(left.join("half/file"), "half").unwrap();
    fs::create_dir(reader.path("in/.swept.kept")).unwrap();
    reader.json(&["install", "swept", "--to", &reader.text("in/swept")]);
    assert_eq!(tree::partials(&reader.path("in")), Vec::<String>::new());
    assert!(reader.path("in/.swept.kept").exists(), "what is not ours stays");
}
