//! Yanking, deprecating and cancelling, as a publisher and a user meet them.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    tree,
    world::{Node, eventually, text, texts},
};

fn publish(node: &Node, name: &str, version: &str) {
    let folder = node.path(&format!("{name}-{version}"));
    tree::small(&folder, name, version, "May be taken back", "");
    node.json(&["publish", folder.to_str().unwrap()]);
}

/// Waits until a reader knows the package with this latest version.
fn has_latest(reader: &Node, name: &str, version: &str) {
    eventually(&format!("{name} {version} is the latest"), Duration::from_secs(20), || {
        let found = reader.json(&["search", name]);
        (found["packages"][0]["version"] == version).then_some(())
    });
}

#[test]
fn a_yanked_version_is_no_longer_chosen_and_still_installed_by_its_number() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    author.knows(&[&reader]);
    // Times are told in seconds.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for version in ["1.0.0", "1.1.0"] {
        publish(&author, "taken", version);
        let released = second();
        eventually("another second", Duration::from_secs(5), || (second() > released).then_some(()));
    }
    has_latest(&reader, "taken", "1.1.0");
    reader.json(&["install", "taken", "--to", &reader.text("newest")]);

    let yanked = author.json(&["yank", "taken@1.1.0", "--reason", "loses data"]);
    assert_eq!((&yanked["unchanged"], &yanked["latest"]), (&false.into(), &"1.0.0".into()), "{yanked}");
    assert_eq!(yanked["announced"], true, "{yanked}");
    let again = author.json(&["yank", "taken@1.1.0"]);
    assert_eq!((&again["unchanged"], &again["sequence"]), (&true.into(), &yanked["sequence"]));

    has_latest(&reader, "taken", "1.0.0");
    let newest = reader.json(&["install", "taken", "--to", &reader.text("now")]);
    assert_eq!(newest["version"], "1.0.0");
    let named = reader.json(&["install", "taken@1.1.0", "--to", &reader.text("named")]);
    assert_eq!(named["version"], "1.1.0");
    assert!(texts(&named["warnings"]).join("\n").contains("yanked by its publisher: loses data"), "{named}");
    let listed = reader.json(&["list"]);
    let of = |version: &str| {
        let rows = listed["packages"].as_array().unwrap();
        rows.iter().find(|row| row["version"] == version).unwrap()["yanked"].clone()
    };
    assert_eq!((of("1.1.0"), of("1.0.0")), (true.into(), false.into()), "{listed}");
    reader.run(&["list"]).exits(0).says("installed, yanked");
    let info = reader.json(&["info", "taken"]);
    let of_version = reader.json(&["info", "taken@1.1.0"])["released_at"].clone();
    let newest = info["versions"].as_array().unwrap().iter().find(|it| it["version"] == "1.1.0").unwrap();
    assert_eq!((&newest["yanked"], &newest["yank_reason"]), (&true.into(), &"loses data".into()));
    reader.run(&["info", "taken"]).exits(0).says("yanked: loses data");
    let row = listed["packages"].as_array().unwrap().iter().find(|row| row["version"] == "1.1.0").unwrap();
    assert_eq!((&row["released_at"], &of_version), (&newest["released"], &newest["released"]), "{row}");
    // When it was released is not when something else was taken back.
    let (found, explained) = (reader.json(&["search", "taken"]), reader.json(&["explain", "taken@1.1.0"]));
    assert_eq!(found["packages"][0]["released_at"], info["versions"][0]["released"], "{found}");
    assert_ne!(found["packages"][0]["released_at"], found["packages"][0]["updated"], "{found}");
    assert_eq!(
        (&explained["sequence"], &explained["released_at"]),
        (&1.into(), &newest["released"]),
        "{explained}"
    );

    // All are gone: it is found, and nothing is chosen.
    author.json(&["yank", "taken@1.0.0"]);
    has_latest(&reader, "taken", "");
    let other = Node::start(&[&author]);
    author.knows(&[&other, &reader]);
    has_latest(&other, "taken", "");
    // By the bare name too, at who has never seen it.
    assert_eq!(other.json(&["install", "taken@1.0.0", "--to", &other.text("named")])["version"], "1.0.0");
    let found = reader.json(&["search", "taken"]);
    assert!(
        texts(&found["packages"][0]["notes"]).join("\n").contains("all its versions were yanked"),
        "{found}"
    );
    assert!(
        text(&reader.error(4, &["install", "taken", "--to", &reader.text("none")])["hint"]).contains('@')
    );
    author.json(&["unyank", "taken@1.1.0"]);
    has_latest(&reader, "taken", "1.1.0");
}

#[test]
fn a_deprecated_package_says_what_to_use_in_its_place() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    author.knows(&[&reader]);
    publish(&author, "ancient", "1.0.0");
    author.json(&["deprecate", "ancient", "--message", "use modern"]);
    let found = eventually("it is deprecated", Duration::from_secs(20), || {
        let found = reader.json(&["search", "ancient"]);
        found["packages"][0]["deprecated"].is_string().then(|| found["packages"][0].clone())
    });
    assert_eq!(found["deprecated"], "use modern");
    let installed = reader.json(&["install", "ancient", "--to", &reader.text("out")]);
    assert!(texts(&installed["warnings"]).join("\n").contains("use modern"), "{installed}");
    assert_eq!(reader.json(&["list"])["packages"][0]["deprecated"], "use modern");
    reader.run(&["info", "ancient"]).exits(0).says("deprecated by its publisher: use modern");
    author.json(&["deprecate", "ancient", "--undo"]);
    eventually("it is not deprecated any more", Duration::from_secs(20), || {
        reader.json(&["search", "ancient"])["packages"][0]["deprecated"].is_null().then_some(())
    });
}

#[test]
fn only_a_publisher_takes_back_and_only_what_is_there() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    author.knows(&[&reader]);
    author.error(4, &["yank", "taken@1.0.0"]);
    publish(&author, "taken", "1.0.0");
    has_latest(&reader, "taken", "1.0.0");
    let id = text(&author.json(&["info", "taken"])["id"]);
    let error = author.error(4, &["yank", "taken@9.0.0"]);
    assert!(text(&error["hint"]).contains("1.0.0"), "{error}");
    // Somebody else, by the bare name and by the full id.
    reader.error(4, &["yank", "taken@1.0.0"]);
    reader.error(9, &["yank", &format!("{id}@1.0.0")]);
    reader.error(9, &["deprecate", &id, "--message", "use mine"]);
    for bad in [
        &["yank", "taken"][..],
        &["unyank", "taken"],
        &["yank", "taken@1"],
        &["deprecate", "taken"],
        &["deprecate", "taken", "--message", ""],
        &["deprecate", "taken", "--message", "a\u{1b}[2J"],
        &["deprecate", "taken", "--message", &"x".repeat(161)],
        &["deprecate", "taken", "--message", "x", "--undo"],
        &["deprecate", "taken@1.0.0", "--message", "x"],
        &["yank", "taken@1.0.0", "--reason", &"x".repeat(513)],
    ] {
        author.error(2, bad);
    }
    assert_eq!(author.json(&["info", "taken"])["sequence"], 0, "nothing was signed");
    assert_eq!(author.json(&["unyank", "taken@1.0.0"])["unchanged"], true);
    let stopped = crate::world::Home::new();
    stopped.error(3, &["yank", "taken@1.0.0"]);
    fs::remove_dir_all(author.path("taken-1.0.0")).unwrap();
    author.json(&["yank", "taken@1.0.0"]);
}

#[test]
fn what_is_taken_back_alone_waits_until_a_peer_can_be_asked() {
    let mut author = Node::start(&[]);
    let mut reader = Node::start(&[&author]);
    author.knows(&[&reader]);
    publish(&author, "taken", "1.0.0");
    publish(&author, "taken", "1.1.0");
    has_latest(&reader, "taken", "1.1.0");
    reader.stop();
    author.knows(&[]);
    let queued = author.json(&["yank", "taken@1.1.0", "--reason", "loses data"]);
    assert!(queued["queued"] == true && queued["unchanged"] == false, "{queued}");
    author
        .run(&["deprecate", "taken", "--message", "use mine"])
        .exits(0)
        .says("The deprecation of taken is queued");
    let status = author.json(&["status"]);
    assert_eq!(
        (&status["changes"][0]["change"], &status["changes"][1]["change"]),
        (&"yank".into(), &"deprecate".into())
    );
    assert!(
        texts(&status["warnings"]).iter().any(|it| it.contains("2 changes wait in the outbox")),
        "{status}"
    );
    // The opposite takes it out again; what is not there cannot wait.
    let undone = author.json(&["deprecate", "taken", "--undo"]);
    assert!(undone["queued"] == false && undone["unchanged"] == true, "{undone}");
    author.error(4, &["yank", "taken@9.0.0"]);
    assert_eq!(author.json(&["status"])["changes"].as_array().unwrap().len(), 1);
    reader.start_again(&[&author]);
    has_latest(&reader, "taken", "1.0.0");
    eventually("nothing waits any more", Duration::from_secs(20), || {
        author.json(&["status"])["changes"].as_array().unwrap().is_empty().then_some(())
    });
    reader.run(&["install", "taken@1.1.0", "--to", &reader.text("out")]).exits(0).says("loses data");

    // While no node runs, too.
    author.stop();
    author.run(&["unyank", "taken@1.1.0"]).exits(0).says("is queued").says("start --daemon");
    author.error(4, &["yank", "taken@9.0.0"]);
    author.start_again(&[&reader]);
    has_latest(&reader, "taken", "1.1.0");
}

#[test]
fn two_machines_with_one_key_continue_each_others_log() {
    let laptop = Node::start(&[]);
    let other = crate::world::Home::new();
    publish(&laptop, "shared", "1.0.0");
    laptop.run(&["key", "export", "default", "--to", &laptop.text("copy.key")]).exits(0);
    other.run(&["key", "import", "default", &laptop.text("copy.key")]).exits(0);
    let ci = Node::start_in(other, &[&laptop]);
    laptop.knows(&[&ci]);
    has_latest(&ci, "shared", "1.0.0");
    let yanked = ci.json(&["yank", "shared@1.0.0", "--reason", "from elsewhere"]);
    assert_eq!(yanked["sequence"], 1, "{yanked}");
    eventually("the laptop hears of it", Duration::from_secs(20), || {
        laptop.json(&["info", "shared"])["versions"][0]["yanked"].as_bool().filter(|yanked| *yanked)
    });
    publish(&laptop, "shared", "1.1.0");
    let info = laptop.json(&["info", "shared"]);
    assert_eq!((&info["sequence"], &info["versions"][0]["yanked"]), (&2.into(), &true.into()), "{info}");
    let deprecated = ci.json(&["deprecate", "shared", "--message", "use other"]);
    assert_eq!(deprecated["sequence"], 3, "{deprecated}");
    assert!(
        texts(&laptop.json(&["search", "shared"])["packages"][0]["notes"])
            .iter()
            .all(|it| !it.contains("frozen"))
    );
}
