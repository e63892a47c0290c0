//! A machine is backed up and moved as docs/move-a-machine.md says: its commands are run as they stand there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    guides::{Guide, follow},
    tree,
    world::{Guard, Home, LOOPBACK, Node, run, text},
};

/// A daemon of the guide, which is ended with the test.
fn guard(home: &Home) -> Guard {
    Guard::new(home.json(&["status"])["pid"].as_u64().unwrap().try_into().unwrap())
}

#[test]
fn a_machine_is_backed_up_and_moved_as_the_guide_says() {
    let guide = Guide::read("docs/move-a-machine.md");
    let author = Node::start(&[]);
    let web = author.path("web-tools");
    tree::small(&web, "web-tools", "1.0.0", "Tools for the web", "license = \"MIT\"");
    author.json(&["publish", web.to_str().unwrap()]);

    let old = Home::new();
    let own = old.path("own");
    tree::small(&own, "own", "1.0.0", "Published before the move", "license = \"MIT\"");
    old.run(&["start", "--daemon", "--listen", LOOPBACK, "--bootstrap", &author.address, "--save"]).exits(0);
    let first = guard(&old);
    let peer = text(&old.json(&["status"])["peer_id"]);
    let published = old.json(&["publish", own.to_str().unwrap(), "--wait", "--timeout", "30"]);
    old.json(&["install", "web-tools", "--to", &old.text("web-tools")]);

    let [backup, export] = &guide.blocks("Back up")[..] else { panic!("the guide changed") };
    follow(&old, backup);
    assert!(!first.is_alive());
    let second = guard(&old);
    follow(&old, export);
    assert!(old.path("publisher.key").exists());
    let [pack, unpack, installed] = &guide.blocks("Move")[..] else { panic!("the guide changed") };
    follow(&old, pack);
    assert!(!second.is_alive());

    // Another machine: other folders, and only the archive came along.
    let new = Home::new();
    let archive: PathBuf = new.path("ggen-backup.tar.gz");
    fs::copy(old.path("ggen-backup.tar.gz"), archive).unwrap();
    fs::remove_dir_all(old.path("web-tools")).unwrap();
    let listed = follow(&new, unpack);
    let moved = guard(&new);
    assert_eq!(text(&new.json(&["status"])["peer_id"]), peer);
    assert!(listed.stdout.contains("gone") && listed.stdout.contains("published"), "{listed:#?}");
    follow(&new, installed);
    assert!(!new.path("web-tools").exists(), "it was installed again, and removed");
    // The publisher is the same, and goes on where it was.
    tree::small(&own, "own", "1.1.0", "Published after the move", "license = \"MIT\"");
    let again = new.json(&["publish", own.to_str().unwrap(), "--wait", "--timeout", "30"]);
    assert_eq!(again["publisher"], published["publisher"]);
    author.finds("after", "own", Duration::from_secs(20));
    author.json(&["install", "own@1.0.0", "--to", &author.text("own")]);

    // A copy that is to be another machine gets a key of its own.
    let copy = Home::new();
    fs::copy(old.path("ggen-backup.tar.gz"), copy.path("ggen-backup.tar.gz")).unwrap();
    let mut unpacked = copy.program(Path::new("tar"));
    fs::create_dir(copy.state()).unwrap();
    unpacked.arg("-C").arg(copy.state()).args(["-xzf", "ggen-backup.tar.gz"]);
    run(unpacked).exits(0);
    for block in guide.blocks("Do not run both") {
        follow(&copy, &block);
    }
    copy.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    let _copied = guard(&copy);
    assert_ne!(text(&copy.json(&["status"])["peer_id"]), peer);
    for block in guide.blocks("Go back to a backup") {
        follow(&new, &block);
    }
    drop(moved);
}
