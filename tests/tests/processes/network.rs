//! The main job: one publishes, others find and install, the author goes away, and a newcomer still gets the same bytes.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    tree,
    world::{Node, text, texts},
};

#[test]
fn a_newcomer_gets_from_others_what_an_author_published_who_is_gone() {
    let mut author = Node::start(&[]);
    tree::rich(&author.path("sailing"), "sailing-weather", "Forecasts for sailors and their harbours", 1);
    tree::rich(&author.path("tides"), "tide-tables", "High water, low water", 2);
    let second = Node::start(&[&author]);
    let third = Node::start(&[&author]);
    author.knows(&[&second, &third]);
    let sailing = author.json(&["publish", &author.text("sailing")]);
    assert_eq!(sailing["announced"], true, "{sailing}");
    let tides = author.json(&["publish", &author.text("tides")]);

    let found = second.finds("harbours", "sailing-weather", Duration::from_secs(10));
    assert_eq!(found["cid"], sailing["cid"]);
    assert_eq!(texts(&found["providers"]), [author.peer.clone()]);
    for node in [&second, &third] {
        node.finds("water", "tide-tables", Duration::from_secs(10));
        for (package, published) in [("sailing-weather", &sailing), ("tide-tables", &tides)] {
            let installed = node.json(&["install", package, "--to", &node.text(package)]);
            assert_eq!(installed["cid"], published["cid"]);
            assert_eq!(installed["files"], published["files"]);
        }
        tree::assert_same(&author.path("sailing"), &node.path("sailing-weather"));
        tree::assert_same(&author.path("tides"), &node.path("tide-tables"));
    }
    author.stop();

    let newcomer = Node::start(&[&second]);
    let joined = Instant::now();
    let found = newcomer.finds("harbours", "sailing-weather", Duration::from_secs(10));
    assert!(joined.elapsed() < Duration::from_secs(10));
    assert_eq!(found["cid"], sailing["cid"]);
    let target = newcomer.text("mine");
    let installed = newcomer.json(&["install", "sailing-weather", "--to", &target]);
    let holders = {
        let mut both = vec![second.peer.clone(), third.peer.clone()];
        both.sort();
        both
    };
    assert_eq!(texts(&installed["providers"]), holders, "both holders served: {installed}");
    tree::assert_same(&author.path("sailing"), &newcomer.path("mine"));
    assert_eq!(tree::sha256sum(&author.path("sailing")), tree::sha256sum(&newcomer.path("mine")));
    newcomer.json(&["install", "tide-tables", "--to", &newcomer.text("tides")]);
    tree::assert_same(&author.path("tides"), &newcomer.path("tides"));
}

#[test]
fn verify_names_the_file_that_was_changed() {
    let author = Node::start(&[]);
    tree::rich(&author.path("package"), "checked", "What is checked", 3);
    author.json(&["publish", &author.text("package")]);
    let reader = Node::start(&[&author]);
    reader.finds("checked", "checked", Duration::from_secs(10));
    reader.json(&["install", "checked", "--to", &reader.text("checked")]);
    let verified = reader.json(&["verify", "checked"]);
    assert_eq!(verified["ok"], true, "{verified}");

    let name = "grüße/日本語/наука ☀ two words.txt";
    let path = reader.path("checked").join(name);
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    changed[3] ^= 0x10;
    fs::write(&path, &changed).unwrap();
    let answer = reader.run(&["verify", "checked", "--format", "json"]).exits(6);
    let verified = answer.json();
    assert_eq!(verified["ok"], false);
    assert_eq!(texts(&verified["differences"]), [format!("changed: {name}")]);
    reader.run(&["verify", "checked"]).exits(6).says(name);

    fs::write(&path, &whole).unwrap();
    fs::remove_file(reader.path("checked/empty")).unwrap();
    fs::write(reader.path("checked/added"), "").unwrap();
    let verified = reader.run(&["verify", "checked", "--format", "json"]).exits(6).json();
    assert_eq!(texts(&verified["differences"]), ["extra: added", "missing: empty"]);
}

#[test]
fn the_second_installation_fetches_nothing_and_changes_nothing() {
    let author = Node::start(&[]);
    tree::rich(&author.path("package"), "twice", "Installed twice", 4);
    let published = author.json(&["publish", &author.text("package")]);
    let reader = Node::start(&[&author]);
    reader.finds("twice", "twice", Duration::from_secs(10));
    let id = format!("{}@1.0.0", text(&published["id"]).trim_end_matches("@1.0.0"));
    reader.json(&["install", &id, "--to", &reader.text("one")]);
    let again = reader.json(&["install", &id, "--to", &reader.text("one")]);
    assert_eq!((&again["already_installed"], &again["bytes_fetched"]), (&true.into(), &0.into()));
    let elsewhere = reader.json(&["install", "twice", "--to", &reader.text("two")]);
    assert_eq!((&elsewhere["already_installed"], &elsewhere["bytes_fetched"]), (&false.into(), &0.into()));
    tree::assert_same(&reader.path("one"), &reader.path("two"));

    fs::create_dir(reader.path("three")).unwrap();
    fs::write(reader.path("three/mine"), "not to be lost").unwrap();
    let error = reader.error(9, &["install", "twice", "--to", &reader.text("three")]);
    assert_eq!(error["code"], "E_CONFLICT");
    assert_eq!(fs::read_to_string(reader.path("three/mine")).unwrap(), "not to be lost");
}
