//! Keys for life: one key on two machines, what ends it, keys that are replaced, lost, and kept elsewhere.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    tree,
    world::{Home, Node, eventually, run, text, texts},
};

const SOON: Duration = Duration::from_secs(40);

/// Copies a state folder as a backup would, but for what names the node.
fn copy_state(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if ["peer-id", "node.key", "lock", "control.sock", "node.log"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            copy_state(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn pack(node: &Home, version: &str, seed: u64) -> String {
    let name = format!("package-{version}");
    tree::rich(&node.path(&name), "pack", "Signed in two places", seed);
    node.text(&name)
}

fn publish(node: &Node, version: &str, seed: u64) -> Value {
    let path = pack(node, version, seed);
    node.json(&["publish", &path, "--version", version, "--skip-verify"])
}

fn is_frozen(node: &Node) -> bool {
    let found = node.json(&["search", "places"]);
    let packages = found["packages"].as_array().unwrap();
    packages.iter().any(|it| texts(&it["notes"]).iter().any(|note| note.contains("frozen")))
}

#[test]
fn one_key_on_two_machines_freezes_a_package_and_its_owner_mends_it() {
    let mut laptop = Node::start(&[]);
    publish(&laptop, "1.0.0", 31);
    laptop.stop();
    let other = Home::new();
    copy_state(laptop.state(), other.state());

    // Each publishes where the other cannot be heard.
    laptop.start_again(&[]);
    let near_laptop = Node::start(&[&laptop]);
    near_laptop.finds("places", "pack", SOON);
    publish(&laptop, "2.0.0", 32);
    publish(&laptop, "2.0.1", 36);
    let server = Node::start_in(other, &[]);
    let near_server = Node::start(&[&server]);
    near_server.finds("places", "pack", SOON);
    publish(&server, "2.1.0", 33);
    near_server.json(&["install", "pack", "--to", &near_server.text("later-withdrawn")]);
    publish(&server, "2.1.1", 38);

    // They meet, and everybody knows.
    let third = Node::start(&[&laptop, &server]);
    for node in [&laptop, &server, &near_laptop, &near_server, &third] {
        eventually("it is frozen", SOON, || is_frozen(node).then_some(()));
    }
    for node in [&laptop, &server] {
        let status = node.json(&["status"]);
        let warnings = texts(&status["warnings"]);
        assert!(
            warnings.iter().any(|it| it.contains("on one machine alone") && it.contains("key resolve pack")),
            "{status}"
        );
    }
    assert!(third.log().contains("two different states"), "{}", third.log());

    // What is from before is installed, by name too; nothing else is.
    let installed = third.json(&["install", "pack", "--to", &third.text("by-name")]);
    assert_eq!(installed["version"], "1.0.0", "{installed}");
    assert!(texts(&installed["warnings"]).iter().any(|it| it.contains("frozen")), "{installed}");
    tree::assert_same(&laptop.path("package-1.0.0"), &third.path("by-name"));
    third.json(&["install", "pack@1.0.0", "--to", &third.text("by-version")]);
    for version in ["pack@2.0.0", "pack@2.1.0"] {
        let error = third.error(6, &["install", version, "--to", &third.text("contested")]);
        assert_eq!(error["code"], "E_EQUIVOCATION", "{error}");
    }
    // A project gets what is from before, is told, and gets nothing else.
    let project = third.path("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("gpack.toml"), "# A project\n").unwrap();
    let in_project = |arguments: &[&str]| {
        let mut command = third.command(&[arguments, &["--format", "json"]].concat());
        command.current_dir(&project);
        run(command).calmly()
    };
    let added = in_project(&["add", "pack"]).exits(0).json();
    assert!(texts(&added["warnings"]).iter().any(|it| it.contains("frozen")), "{added}");
    tree::assert_same(&laptop.path("package-1.0.0"), &project.join("gpacks/pack"));
    let lock = fs::read_to_string(project.join("gpack.lock")).unwrap();
    assert_ne!(in_project(&["add", "pack@^2"]).code, 0);
    assert_eq!(in_project(&["update"]).exits(0).json()["changes"], serde_json::json!([]));
    assert_eq!(fs::read_to_string(project.join("gpack.lock")).unwrap(), lock);
    let info = third.json(&["info", "pack"]);
    assert_eq!(
        (&info["version"], info["versions"].as_array().unwrap().len()),
        (&"1.0.0".into(), 1),
        "{info}"
    );

    // The key that signed twice cannot say what counts.
    let explained = laptop.json(&["key", "resolve", "pack", "--dry-run"]);
    assert_eq!(
        (&explained["needs_rotation"], &explained["resolved"]),
        (&true.into(), &false.into()),
        "{explained}"
    );
    assert_eq!(explained["branches"].as_array().unwrap().len(), 2, "{explained}");
    let home = Home::new();
    let strange = Node::start_in(home, &[]);
    strange.error(4, &["key", "resolve", "pack", "--dry-run"]);
    assert_eq!(strange.json(&["key", "list"])["total"], 0, "no key was made");
    let error = laptop.error(9, &["key", "resolve", "pack"]);
    assert!(text(&error["hint"]).contains("key rotate"), "{error}");

    let rotated = laptop.json(&["key", "rotate"]);
    assert_eq!(rotated["document"], 1, "{rotated}");
    assert_eq!(rotated["node"]["frozen"].as_array().unwrap().len(), 1, "{rotated}");
    let warnings = texts(&laptop.json(&["status"])["warnings"]).join("\n");
    assert!(warnings.contains("key resolve pack") && !warnings.contains("key rotate"), "{warnings}");
    let resolved = laptop.json(&["key", "resolve", "pack", "--withdraw", "2.1.0", "--withdraw", "2.1.1"]);
    assert_eq!(resolved["resolved"], true, "{resolved}");

    for node in [&laptop, &server, &near_laptop, &near_server, &third] {
        eventually("it is mended", SOON, || (!is_frozen(node)).then_some(()));
    }
    let installed = third.json(&["install", "pack", "--to", &third.text("kept")]);
    assert_eq!(installed["version"], "2.0.1", "{installed}");
    tree::assert_same(&laptop.path("package-2.0.1"), &third.path("kept"));
    third.json(&["install", "pack@2.0.0", "--to", &third.text("kept-too")]);
    // What was withdrawn is told as that where it was installed before.
    let verified = near_server.run(&["verify", "pack", "--format", "json"]).exits(6).json();
    assert_eq!((&verified["withdrawn"], &verified["ok"]), (&true.into(), &false.into()), "{verified}");
    third.error(4, &["install", "pack@2.1.0", "--to", &third.text("withdrawn")]);
    let error =
        laptop.error(9, &["publish", &pack(&laptop, "2.1.0", 34), "--version", "2.1.0", "--skip-verify"]);
    assert!(text(&error["message"]).contains("withdrawn"), "{error}");
    publish(&laptop, "3.0.0", 35);
    eventually("the log goes on", SOON, || {
        (third.json(&["info", "pack"])["version"] == "3.0.0").then_some(())
    });

    // The other machine takes the new key, and goes on from what counts.
    laptop.run(&["key", "export", "--to", &laptop.text("new.key")]).exits(0);
    server.json(&["key", "import", "default", &laptop.text("new.key")]);
    publish(&server, "3.1.0", 37);
    eventually("the log goes on from the other machine", SOON, || {
        (third.json(&["info", "pack"])["version"] == "3.1.0").then_some(())
    });
    assert!(!is_frozen(&third));
}

#[test]
fn branches_of_different_length_are_found_to_contradict_each_other() {
    let mut laptop = Node::start(&[]);
    publish(&laptop, "1.0.0", 61);
    laptop.stop();
    let other = Home::new();
    copy_state(laptop.state(), other.state());
    laptop.start_again(&[]);
    let near_laptop = Node::start(&[&laptop]);
    near_laptop.finds("places", "pack", SOON);
    publish(&laptop, "1.1.0", 62);
    let server = Node::start_in(other, &[]);
    let near_server = Node::start(&[&server]);
    near_server.finds("places", "pack", SOON);
    publish(&server, "1.1.0", 63);
    publish(&server, "1.2.0", 64);
    let _third = Node::start(&[&laptop, &server]);
    // Its own entry has another one in its place, though no two heads name one place.
    eventually("the shorter one is not forgotten", SOON, || is_frozen(&laptop).then_some(()));
    let explained = laptop.json(&["key", "resolve", "pack", "--dry-run"]);
    let branches = explained["branches"].as_array().unwrap();
    let here: Vec<&Value> = branches.iter().filter(|branch| branch["here"] == true).collect();
    assert_eq!(here.len(), 1, "{explained}");
    assert_eq!(texts(&here[0]["says"]), ["released 1.1.0"], "{explained}");
    let own = laptop.json(&["list"])["packages"].as_array().unwrap().clone();
    let own = own.iter().find(|row| row["version"] == "1.1.0").unwrap()["cid"].clone();
    let kept: Vec<&Value> =
        explained["versions"].as_array().unwrap().iter().filter(|it| it["kept"] == true).collect();
    assert!(kept.iter().any(|it| it["version"] == "1.1.0" && it["cid"] == own), "{explained}");
}

#[test]
fn a_key_that_is_replaced_while_the_node_does_not_run_signs_again_at_the_next_start() {
    let mut author = Node::start(&[]);
    publish(&author, "1.0.0", 41);
    author.stop();
    let before = text(&author.json(&["key", "list"])["keys"][0]["public_key"]);
    let rotated = author.json(&["key", "rotate"]);
    assert_eq!((&rotated["document"], &rotated["node"]), (&1.into(), &Value::Null), "{rotated}");
    author.start_again(&[]);
    let reader = Node::start(&[&author]);
    reader.finds("places", "pack", SOON);
    let out = reader.text("out");
    reader.json(&["install", "pack", "--to", &out]);
    let verified = reader.json(&["verify", "pack", &out]);
    // What the old key signed is said to be signed by that, also where the newest state is signed again.
    assert_eq!(verified["signed_by"], before.as_str(), "{verified}");
    assert_eq!(verified["key_path"].as_array().unwrap().len(), 1, "{verified}");
    let explained = reader.json(&["explain", "pack"]);
    assert_eq!(texts(&explained["signed_by"]), [before], "{explained}");
    assert_eq!(texts(&explained["head_signed_by"]), [text(&rotated["public_key"])], "{explained}");
    publish(&author, "1.1.0", 42);
}

#[test]
fn recovery_keys_alone_replace_a_key_and_stay_away_from_the_machine() {
    let home = Home::new();
    home.run(&["key", "new"]).exits(0);
    let inside = home.state().join("recovery.key");
    home.error(2, &["key", "recovery", "make", "--to", inside.to_str().unwrap()]);
    let (one, two) = (home.text("one.key"), home.text("two.key"));
    let made = home.json(&["key", "recovery", "make", "--to", &one, "--to", &two, "--threshold", "2"]);
    assert_eq!((&made["document"], &made["recovery_threshold"]), (&1.into(), &2.into()), "{made}");
    let listed = home.json(&["key", "recovery", "list"]);
    assert_eq!(texts(&listed["publishers"][0]["recovery"]), texts(&made["recovery"]), "{listed}");
    for given in [&[][..], &["--recovery", &one]] {
        let error = home.error(2, &[&["key", "rotate"], given].concat());
        assert!(text(&error["hint"]).contains("--recovery"), "{error}");
    }
    let before = home.json(&["key", "list"]);
    let rotated = home.json(&["key", "rotate", "--recovery", &one, "--recovery", &two]);
    assert_eq!(rotated["publisher"], made["publisher"], "{rotated}");
    assert_ne!(rotated["public_key"], before["keys"][0]["public_key"], "{rotated}");
    let revoked = home.json(&["key", "revoke", "--recovery", &one, "--recovery", &two]);
    assert_eq!(texts(&revoked["revoked"]), [text(&rotated["public_key"])], "{revoked}");
    // An export carries the whole chain.
    home.run(&["key", "export", "--to", &home.text("exported.key")]).exits(0);
    let elsewhere = Home::new();
    let imported = elsewhere.json(&["key", "import", "default", &home.text("exported.key")]);
    assert_eq!(imported["publisher"], made["publisher"], "{imported}");
    elsewhere.error(2, &["key", "rotate"]);
    let error = elsewhere.error(7, &["key", "revoke", "--recovery", &elsewhere.text("nosuch")]);
    assert!(text(&error["hint"]).contains("key recovery make"), "{error}");
    for change in [&["key", "rotate", "nosuch"][..], &["key", "export", "nosuch"]] {
        let error = elsewhere.error(4, change);
        assert!(text(&error["hint"]).contains("key list"), "{error}");
    }
    let new = elsewhere.text("new.key");
    elsewhere.error(
        2,
        &[
            "key",
            "recovery",
            "make",
            "--to",
            &new,
            "--threshold",
            "2",
            "--recovery",
            &one,
            "--recovery",
            &two,
        ],
    );
}

#[test]
fn a_server_with_a_confirm_key_confirms_and_can_release_nothing() {
    let author = Node::start(&[]);
    let id = text(&publish(&author, "1.0.0", 61)["publisher"]);
    let file = author.text("confirm.key");
    let made = author.json(&["key", "confirm", "make", "--to", &file]);
    let key = texts(&made["confirm"]).remove(0);
    let server = Node::start(&[&author]);
    server.finds("places", "pack", SOON);
    let used = server.json(&["key", "confirm", "use", "away", &file]);
    assert_eq!((text(&used["publisher"]), text(&used["public_key"])), (id.clone(), key.clone()), "{used}");
    server.error(9, &["key", "confirm", "use", "away", &file]);
    assert_eq!(server.json(&["key", "confirm", "list"])["used"][0]["public_key"], key.as_str());
    // It is no publisher key: what is published there is another publisher's.
    server.error(7, &["key", "import", "stolen", &file]);
    let removed = author.json(&["key", "confirm", "remove", "--public-key", &key]);
    assert!(texts(&removed["confirm"]).is_empty(), "{removed}");
    author.error(2, &["key", "confirm", "remove", "--public-key", &key]);
}

#[test]
fn a_lost_key_is_told_as_lost_and_never_replaced_silently() {
    let mut node = Node::start(&[]);
    let published = publish(&node, "1.0.0", 51);
    let key = node.state().join("keys/publishers/default.key");
    fs::rename(&key, node.path("away.key")).unwrap();
    let status = node.json(&["status"]);
    let told = |list: &Value| {
        texts(list).iter().any(|it| it.contains("lost") && it.contains(&text(&published["publisher"])))
    };
    assert!(told(&status["warnings"]), "{status}");
    let listed = node.json(&["key", "list"]);
    assert_eq!(listed["lost"][0]["publisher"], published["publisher"], "{listed}");
    node.run(&["key", "list"]).exits(0).says("is lost").says("key import default");
    node.stop();
    let daemon = ["start", "--daemon", "--listen", "/ip4/127.0.0.1/tcp/0"];
    node.run(&daemon).exits(0).says("the publisher key default is lost").says("key import default");
    node.run(&["stop"]).exits(0);
    node.start_again(&[]);
    assert!(node.log().contains("is gone"), "{}", node.log());
    let error = node.error(7, &["publish", &pack(&node, "1.1.0", 52), "--version", "1.1.0", "--skip-verify"]);
    assert_eq!(error["code"], "E_KEY_FILE", "{error}");
    assert!(!key.exists(), "no other key was made");
    // Who does not miss it is not told of it any more.
    node.json(&["key", "forget", "default"]);
    assert!(!told(&node.json(&["status"])["warnings"]));
    assert_eq!(node.json(&["key", "list"])["lost"].as_array().unwrap().len(), 0);
    fs::rename(node.path("away.key"), &key).unwrap();
    assert_eq!(node.json(&["key", "list"])["lost"].as_array().unwrap().len(), 0);
    publish(&node, "1.1.0", 52);
}

#[test]
fn a_pin_is_changed_knowingly_and_never_otherwise() {
    let (first, second) = (Home::new(), Home::new());
    let id = |home: &Home| text(&home.json(&["key", "new"])["publisher"]);
    let (one, two) = (id(&first), id(&second));
    let pinned = |publisher: &str| format!("{publisher}/web-tools");
    let running = Node::start(&[]);
    for home in [&first, &*running] {
        assert_eq!(home.json(&["trust", "list"])["total"], 0);
        home.json(&["trust", "pin", &pinned(&one)]);
        let short = format!("{}/other-tools", &one[..14]);
        home.run(&["trust", "pin", &short]).exits(0).says(&format!("now:               {one}"));
        home.json(&["trust", "unpin", "other-tools"]);
        let error = home.error(9, &["trust", "pin", &pinned(&two)]);
        assert_eq!(error["code"], "E_PIN_MISMATCH", "{error}");
        let said = text(&error["message"]);
        assert!(said.contains(&one) && said.contains(&two), "{said}");
        assert!(text(&error["hint"]).contains("trust accept"), "{error}");
        let accepted = home.json(&["trust", "accept", &pinned(&two)]);
        assert_eq!(
            (text(&accepted["before"]), &accepted["changed"]),
            (one.clone(), &true.into()),
            "{accepted}"
        );
        assert_eq!(home.json(&["trust", "list"])["pins"][0]["publisher"], two.as_str());
        home.json(&["trust", "unpin", "web-tools"]);
        home.error(4, &["trust", "unpin", "web-tools"]);
        let error = home.error(2, &["trust", "pin", "web-tools"]);
        assert!(text(&error["hint"]).contains("trust pin <publisher>/web-tools"), "{error}");
    }
}
