//! A stolen key that its owner and the thief both replace, and recovery keys from the first day on, which prevent that.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use serde_json::Value;

use crate::{
    tree,
    world::{Home, Node, eventually, text, texts},
};

const SOON: Duration = Duration::from_secs(40);

fn publish(node: &Node, name: &str, seed: u64) -> Value {
    let folder = format!("package-{name}");
    tree::rich(&node.path(&folder), name, "Signed under stolen keys", seed);
    node.json(&["publish", &node.text(&folder), "--skip-verify"])
}

#[test]
fn recovery_keys_that_are_made_with_the_key_are_needed_to_replace_it() {
    let home = Home::new();
    let (one, two) = (home.text("one.key"), home.text("two.key"));
    home.error(2, &["key", "new", "--recovery", &one, "--threshold", "2"]);
    home.error(2, &["key", "new", "--threshold", "1"]);
    fs::write(&two, "something else").unwrap();
    home.error(9, &["key", "new", "--recovery", &two]);
    assert_eq!(home.json(&["key", "list"])["total"], 0, "no key was made without its recovery keys");
    fs::remove_file(&two).unwrap();
    let made = home.json(&["key", "new", "--recovery", &one, "--recovery", &two, "--threshold", "2"]);
    assert_eq!((texts(&made["recovery"]).len(), &made["recovery_threshold"]), (2, &2.into()), "{made}");
    assert_eq!(texts(&made["files"]), [one.clone(), two.clone()]);
    for file in [&one, &two] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let inside = home.state().join("inside.key");
    home.error(2, &["key", "new", "work", "--recovery", inside.to_str().unwrap()]);
    home.error(9, &["key", "new", "--recovery", &home.text("three.key")]);
    assert!(!home.path("three.key").exists(), "nothing is written where the key is there already");
    home.error(2, &["key", "rotate"]);
    let rotated = home.json(&["key", "rotate", "--recovery", &one, "--recovery", &two]);
    assert_eq!((&rotated["document"], &rotated["publisher"]), (&1.into(), &made["publisher"]), "{rotated}");
    let plain = Home::new();
    plain.run(&["key", "new"]).exits(0).says("key recovery make default --to <file>");
    let guarded = Home::new();
    let (file, name) = (guarded.text("one.key"), "work");
    let said = guarded.run(&["key", "new", name, "--recovery", &file]);
    said.exits(0)
        .says("keep them away from this machine")
        .says(&format!("key revoke {name} --recovery {file}"));
}

#[test]
fn a_lost_key_is_replaced_by_its_recovery_keys_on_its_machine_and_on_a_fresh_one() {
    let home = Home::new();
    let recovery = home.text("recovery.key");
    let made = home.json(&["key", "new", "work", "--recovery", &recovery]);
    let publisher = text(&made["publisher"]);
    let mut author = Node::start_in(home, &[]);
    let id = text(&publish(&author, "pack", 81)["id"]);
    let reader = Node::start(&[&author]);
    reader.finds("stolen", "pack", SOON);
    reader.json(&["install", "pack", "--to", &reader.text("pack")]);
    let revoke = ["key", "revoke", "work", "--recovery", &recovery];
    // While its node runs: the head is signed again at once, and others take what comes after it.
    fs::remove_file(author.state().join("keys/publishers/work.key")).unwrap();
    let error = author.error(7, &revoke[..3]);
    assert!(text(&error["hint"]).contains("key revoke work --recovery <file>"), "{error}");
    let listed = author.json(&["key", "recovery", "list"]);
    assert_eq!(listed["lost"][0]["recovery"], made["recovery"], "{listed}");
    let revoked = author.json(&revoke);
    assert_eq!((&revoked["name"], &revoked["publisher"]), (&"work".into(), &made["publisher"]), "{revoked}");
    assert_eq!(revoked["revoked"][0], made["public_key"], "{revoked}");
    assert_eq!(revoked["node"]["packages"][0], id.split('@').next().unwrap(), "{revoked}");
    assert!(author.json(&["key", "list"])["lost"].as_array().unwrap().is_empty());
    publish(&author, "pack-2", 82);
    reader.finds("stolen", "pack-2", SOON);
    // All keys are gone with their folder, no node runs, and another key has the name.
    author.stop();
    let keys = author.state().join("keys/publishers");
    fs::remove_dir_all(&keys).unwrap();
    author.json(&["key", "new", "work"]);
    let error = author.error(2, &revoke);
    assert!(text(&error["hint"]).contains(&format!("key revoke {publisher} --recovery <file>")), "{error}");
    let key = home_key(&author, &["key", "rotate", "work-2", "--recovery", &recovery]);
    assert_eq!(key, (publisher.clone(), 2));
    // That one never came to others: on a fresh machine it is as if it were lost too.
    let fresh = Node::start(&[&reader]);
    let error = fresh.error(4, &["key", "revoke", "nosuch", "--recovery", &recovery]);
    assert!(text(&error["message"]).contains("nosuch"), "{error}");
    assert_eq!(
        home_key(&fresh, &["key", "revoke", &publisher, "--recovery", &recovery]),
        (publisher.clone(), 2)
    );
    eventually("the reader knows the new key", SOON, || {
        let explained = reader.json(&["explain", "pack"]);
        (explained["key_chain"].as_array().unwrap().len() == 3).then_some(())
    });
    publish(&fresh, "pack-3", 83);
    reader.finds("stolen", "pack-3", SOON);
    let other = Node::start(&[&reader]);
    other.finds("stolen", "pack-3", SOON);
    let rotate = ["key", "rotate", "pack-3", "--recovery", &recovery];
    assert_eq!(home_key(&other, &rotate), (publisher.clone(), 3));
    let newest = text(&other.json(&["key", "list"])["keys"][0]["public_key"]);
    reader.finds("stolen", "pack-3", SOON);
    // The first machine comes back with a replacement that nobody heard of: its node tells, and its recovery keys end it.
    author.start_again(&[&reader, &other]);
    let told = eventually("the node says that others follow other keys", SOON, || {
        let warnings = texts(&author.json(&["status"])["warnings"]);
        warnings.into_iter().find(|it| it.contains(&format!("key revoke <name> --public-key {newest}")))
    });
    assert!(told.contains(&publisher), "{told}");
    let disputed = author.json(&["trust", "list"])["disputed"].clone();
    assert_eq!(
        (disputed.as_array().unwrap().len(), &disputed[0]["noticed_at"]),
        (1, &"".into()),
        "{disputed}"
    );
    assert_eq!(author.json(&["info", "pack-3"])["keys_disputed"], true);
    let error = author.error(6, &["install", "pack-3", "--to", &author.text("pack-3")]);
    assert_eq!(error["code"], "E_EQUIVOCATION", "{error}");
    let error = author.error(7, &["key", "revoke", "work-2"]);
    assert!(text(&error["hint"]).contains("key revoke work-2 --recovery <file>"), "{error}");
    assert_eq!(home_key(&author, &["key", "revoke", "work-2", "--recovery", &recovery]), (publisher, 4));
    assert!(author.json(&["trust", "list"])["disputed"].as_array().unwrap().is_empty());
    author.json(&["install", "pack-3", "--to", &author.text("pack-3")]);
}

/// Replaces a key; yields its publisher and the number of the new document.
fn home_key(home: &Home, verb: &[&str]) -> (String, u64) {
    let changed = home.json(verb);
    (text(&changed["publisher"]), changed["document"].as_u64().unwrap())
}

#[test]
fn two_chains_of_a_stolen_key_are_told_and_followed_only_by_those_who_pinned_one() {
    let owner = Node::start(&[]);
    let published = publish(&owner, "pack", 71);
    let (id, publisher) = (text(&published["id"]), text(&published["publisher"]));
    let pinned = Node::start(&[&owner]);
    pinned.finds("stolen", "pack", SOON);
    pinned.json(&["install", "pack", "--to", &pinned.text("first")]);
    // The thief has the key, and replaces it where nobody hears; so does the owner.
    let key = owner.text("exported.key");
    owner.run(&["key", "export", "--to", &key]).exits(0);
    let thief = Home::new();
    thief.json(&["key", "import", "default", &key]);
    owner.json(&["key", "rotate"]);
    thief.json(&["key", "rotate"]);
    let thief = Node::start_in(thief, &[]);
    publish(&thief, "bait", 72);
    let baited = Node::start(&[&thief]);
    baited.finds("stolen", "bait", SOON);
    assert_eq!(baited.json(&["trust", "list"])["disputed"].as_array().unwrap().len(), 0);

    let newcomer = Node::start(&[&pinned, &baited]);
    for node in [&newcomer, &pinned, &baited] {
        let listed = eventually("both chains are known", SOON, || {
            let listed = node.json(&["trust", "list"]);
            (listed["disputed"].as_array().unwrap().len() == 1).then_some(listed)
        });
        let disputed = &listed["disputed"][0];
        assert_eq!(disputed["publisher"], publisher.as_str(), "{listed}");
        assert_eq!(disputed["sides"].as_array().unwrap().len(), 2, "{listed}");
    }
    for name in ["pack", "bait"] {
        let error = newcomer.error(6, &["install", name, "--to", &newcomer.text(name)]);
        assert_eq!(error["code"], "E_EQUIVOCATION", "{error}");
        assert!(text(&error["hint"]).contains(&format!("trust pin {publisher}/{name}")), "{error}");
        assert!(!newcomer.path(name).exists());
    }
    newcomer.run(&["trust", "list"]).exits(0).says("Two chains of keys").says(&publisher);
    let found = newcomer.json(&["search", "stolen"]);
    assert!(found["packages"].as_array().unwrap().iter().all(|it| it["keys_disputed"] == true), "{found}");
    assert_eq!(newcomer.json(&["info", "pack"])["keys_disputed"], true);
    assert_eq!(newcomer.json(&["explain", "pack"])["keys_disputed"], true);
    assert!(newcomer.log().contains("two chains of its keys"), "{}", newcomer.log());
    // Who pinned it goes on with what it pinned, and is told; of the other chain it takes nothing.
    let again = pinned.json(&["install", "pack", "--to", &pinned.text("again")]);
    assert!(texts(&again["warnings"]).iter().any(|it| it.contains("contradict each other")), "{again}");
    pinned.error(6, &["install", "bait", "--to", &pinned.text("bait")]);
    let warnings = texts(&pinned.json(&["status"])["warnings"]);
    assert!(warnings.iter().any(|it| it.contains(&publisher) && it.contains("trust list")), "{warnings:?}");
    // A person who asked the owner decides.
    let package = id.split('@').next().unwrap();
    newcomer.json(&["trust", "pin", package]);
    newcomer.json(&["install", "pack", "--to", &newcomer.text("pack")]);
}
