//! The rules of `publish`, as its user meets them.

use std::{fs, os::unix::net::UnixListener, process::Command, time::Duration};

use crate::{
    tree,
    world::{Home, Node, eventually, text, texts},
};

#[test]
fn the_same_content_again_is_a_success_that_changes_nothing() {
    let node = Node::start(&[]);
    tree::rich(&node.path("package"), "again", "Published twice", 5);
    let first = node.json(&["publish", &node.text("package")]);
    let second = node.json(&["publish", &node.text("package")]);
    assert_eq!((&first["already_published"], &second["already_published"]), (&false.into(), &true.into()));
    // The first publication made the key, and says so once.
    let key = node.state().join("keys/publishers/default.key");
    assert_eq!((text(&first["new_key"]), second.get("new_key")), (key.display().to_string(), None));
    for field in ["id", "cid", "sha256", "sequence", "manifest"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    node.run(&["publish", &node.text("package")]).exits(0).says("published before");
    assert_eq!(node.json(&["list"])["total"], 1);

    // The same tree elsewhere, written in another order and at another time, has the same content id.
    let other = Node::start(&[]);
    tree::rich(&other.path("copy"), "again", "Published twice", 5);
    assert_eq!(other.json(&["publish", &other.text("copy")])["cid"], first["cid"]);
}

#[test]
fn a_version_on_the_command_line_wins_and_is_pointed_out() {
    let node = Node::start(&[]);
    tree::small(&node.path("package"), "versioned", "1.0.0", "Has versions", "");
    let published = node.json(&["publish", &node.text("package"), "--version", "1.2.3"]);
    assert_eq!(published["version"], "1.2.3");
    let warnings = texts(&published["warnings"]).join("\n");
    assert!(warnings.contains("1.2.3") && warnings.contains("1.0.0"), "{published}");
    let same = node.json(&["publish", &node.text("package"), "--version", "1.2.3"]);
    assert_eq!(same["already_published"], true);
    node.json(&["publish", &node.text("package")]);
    let info = node.json(&["info", "versioned"]);
    let versions: Vec<_> =
        info["versions"].as_array().unwrap().iter().map(|it| text(&it["version"])).collect();
    assert_eq!(versions, ["1.0.0", "1.2.3"]);
    assert_eq!(info["version"], "1.2.3", "the latest is the highest, not the last");
    for bad in ["1.2", "01.2.3", "v1.2.3", "", "-1.0.0", "99999999999999999999.0.0"] {
        node.error(2, &["publish", &node.text("package"), "--version", bad]);
    }
}

#[test]
fn skipped_checks_are_noted_where_the_package_is_found_and_installed() {
    let author = Node::start(&[]);
    let reader = Node::start(&[&author]);
    author.knows(&[&reader]);
    tree::small(&author.path("package"), "unchecked", "1.0.0", "Holds what looks like a secret", "");
    fs::write(author.path("package/id_rsa"), "-----BEGIN RSA PRIVATE KEY-----\n").unwrap();
    author.run(&["publish", &author.text("package")]).exits(7).says("id_rsa");
    assert_eq!(author.json(&["list"])["total"], 0);
    // Checks that are skipped are not those for secrets.
    author.error(7, &["publish", &author.text("package"), "--skip-verify"]);
    author.json(&["publish", &author.text("package"), "--skip-verify", "--allow-secrets"]);
    let found = reader.finds("secret", "unchecked", Duration::from_secs(10));
    let notes = texts(&found["notes"]).join("\n");
    assert!(notes.contains("skipped"), "{found}");
    let installed = reader.json(&["install", "unchecked", "--to", &reader.text("out")]);
    assert!(texts(&installed["warnings"]).join("\n").contains("skipped"), "{installed}");
    // What is required is never skipped.
    fs::write(author.path("package/gpack.toml"), "name = \"unchecked\"\n").unwrap();
    author.error(2, &["publish", &author.text("package"), "--skip-verify"]);
}

#[test]
fn what_is_no_regular_file_is_listed_all_at_once() {
    let node = Node::start(&[]);
    tree::small(&node.path("package"), "irregular", "1.0.0", "Holds what no package may", "");
    let at = |name: &str| node.path("package").join(name);
    fs::create_dir(at("sub")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
    std::os::unix::fs::symlink("gpack.toml", at("sub/inner")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::write(at("aux.txt"), "").unwrap();
    for flags in [&[][..], &["--skip-verify"]] {
        let error = node.error(7, &[&["publish", &node.text("package")][..], flags].concat());
        let message = text(&error["message"]);
        for offender in ["link", "sub/inner", "pipe", "socket"] {
            assert!(message.contains(offender), "{offender}: {error}");
        }
        assert!(text(&error["hint"]).contains(".ggenignore"), "{error}");
    }
    fs::write(at(".ggenignore"), "link\ninner\npipe\nsocket\naux.txt\n").unwrap();
    let published = node.json(&["publish", &node.text("package")]);
    assert_eq!(published["files"], 2, "the description and the ignore file: {published}");
}

#[test]
fn a_key_that_was_made_elsewhere_publishes_only_where_somebody_can_say_what_it_published_there() {
    let first = Node::start(&[]);
    tree::small(&first.path("package"), "shared", "1.0.0", "Published from two machines", "");
    let published = first.json(&["publish", &first.text("package")]);
    first.run(&["key", "export", "--to", &first.text("secret.key")]).exits(0);
    let mut second = Node::start(&[]);
    second
        .run(&["key", "import", "default", &first.text("secret.key")])
        .exits(0)
        .says("in one place at a time");
    tree::small(&second.path("package"), "shared", "1.1.0", "Published from two machines", "");
    let alone = &["publish", &second.text("package"), "--timeout", "1"];
    second.run(alone).exits(0).says("made elsewhere").says("is queued");
    second.stop();
    second.run(&["publish", &second.text("package")]).exits(0).says("is queued already");
    second.start_again(&[&first]);
    // What the first one signed alone had never left it: whichever comes second is put behind the other.
    // What waits is tried again after half a minute at the latest.
    let info = eventually("both are published", Duration::from_secs(60), || {
        let info = first.run(&["info", "shared", "--format", "json"]);
        Some(info).filter(|it| it.code == 0).map(|it| it.json()).filter(|it| it["sequence"] == 1)
    });
    assert_eq!(
        (&info["publisher"], info["versions"].as_array().unwrap().len()),
        (&published["publisher"], 2)
    );
    eventually("the log is here", Duration::from_secs(30), || {
        (second.json(&["info", "shared"])["sequence"] == 1).then_some(())
    });
    second.stop();
    // What is queued continues the log as far as it is here.
    tree::small(&second.path("package"), "shared", "1.2.0", "Published from two machines", "");
    let queued = second.json(&["publish", &second.text("package")]);
    assert_eq!((&queued["sequence"], &queued["queued"]), (&2.into(), &true.into()), "{queued}");
}

#[test]
fn without_a_node_a_package_is_queued_and_the_next_start_announces_it() {
    let home = Home::new();
    tree::rich(&home.path("package"), "queued", "Waits for a node", 6);
    let queued = home.json(&["publish", &home.text("package")]);
    assert_eq!((&queued["queued"], &queued["announced"]), (&true.into(), &false.into()));
    home.run(&["publish", &home.text("package")]).exits(0).says("is queued already");
    home.run(&["publish", &home.text("package"), "--wait"]).exits(3).says("nobody can be waited for");
    fs::write(home.path("package/more"), "more").unwrap();
    home.error(9, &["publish", &home.text("package")]);
    fs::remove_file(home.path("package/more")).unwrap();
    let error = home.error(3, &["publish", &home.text("package"), "--no-queue"]);
    assert_eq!(error["code"], "E_NOT_RUNNING");

    let reader = Node::start(&[]);
    let author = Node::start_in(home, &[&reader]);
    let found = reader.finds("waits", "queued", Duration::from_secs(20));
    assert_eq!(found["cid"], queued["cid"]);
    eventually("nothing is pending", Duration::from_secs(20), || {
        (author.json(&["status"])["announcements_pending"] == 0).then_some(())
    });
    reader.json(&["install", "queued", "--to", &reader.text("out")]);
    tree::assert_same(&author.path("package"), &reader.path("out"));
}

#[test]
fn text_that_would_drive_a_terminal_is_refused_by_publish() {
    let node = Node::start(&[]);
    fs::create_dir(node.path("package")).unwrap();
    for hostile in ["\\u001b[31mred", "two\\nlines", "bell\\u0007", "\\u202eright to left", "\\u009b2J"] {
        let text_of = format!("name = \"hostile\"\nversion = \"1.0.0\"\ndescription = \"{hostile}\"\n");
        fs::write(node.path("package/gpack.toml"), text_of).unwrap();
        let answer = node.run(&["publish", &node.text("package")]);
        assert!(matches!(answer.code, 2 | 7), "{hostile}: {answer:#?}");
        assert!(!answer.stderr.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{answer:#?}");
        answer.says("description").says("line 3");
    }
    assert_eq!(node.json(&["list"])["total"], 0);
    node.is_well();
}

#[test]
fn every_problem_of_a_description_is_told_at_once_with_its_line() {
    let node = Node::start(&[]);
    fs::create_dir(node.path("package")).unwrap();
    fs::write(
        node.path("package/gpack.toml"),
        "name = \"Bad Name\"\nversion = \"1.2\"\ndescription = \"fine\"\ntags = [\"ok\", 3]\n",
    )
    .unwrap();
    let error = node.error(7, &["publish", &node.text("package")]);
    let message = text(&error["message"]);
    for line in ["line 1: name", "line 2: version", "line 4: tags"] {
        assert!(message.contains(line), "{line}: {error}");
    }
}

#[test]
fn waiting_for_others_ends_when_nobody_comes() {
    let node = Node::start(&[]);
    tree::small(&node.path("package"), "lonely", "1.0.0", "Nobody hears", "");
    let error = node.error(5, &["publish", &node.text("package"), "--wait", "--timeout", "1"]);
    assert_eq!(error["retryable"], true, "{error}");
    let status = node.json(&["status"]);
    assert_eq!(
        texts(&status["warnings"]),
        ["1 published version has not been heard of by any other node yet"]
    );
    assert_eq!(node.json(&["list"])["total"], 1, "it is published all the same");
    let reader = Node::start(&[&node]);
    reader.finds("nobody", "lonely", Duration::from_secs(20));
}

#[test]
fn a_description_to_fill_in_is_written_where_there_is_none_and_never_over_one() {
    let home = Home::new();
    fs::create_dir(home.path("Web Tools")).unwrap();
    fs::create_dir(home.path("-")).unwrap();
    home.json(&["publish", &home.text("-"), "--init-manifest"]);
    assert!(fs::read_to_string(home.path("-/gpack.toml")).unwrap().contains("name = \"my-package\""));
    assert!(!home.state().exists(), "nothing was published");
    let (folder, file) = (home.text("Web Tools"), home.path("Web Tools/gpack.toml"));
    let error = home.error(2, &["publish", &folder]);
    assert!(text(&error["message"]).contains("issing gpack.toml in"), "{error}");
    assert!(text(&error["hint"]).contains("--init-manifest"), "{error}");
    let written = home.json(&["publish", &folder, "--init-manifest"]);
    assert_eq!(written["path"], file.to_str().unwrap(), "{written}");
    let sample = fs::read_to_string(&file).unwrap();
    assert!(sample.contains("name = \"web-tools\""), "{sample}");
    let error = home.error(2, &["publish", &folder]);
    assert!(text(&error["message"]).contains("description"), "not as it stands: {error}");

    fs::write(&file, sample.replace("description = \"\"", "description = \"Tools\"")).unwrap();
    assert_eq!(home.json(&["publish", &folder])["name"], "web-tools");
    let filled = fs::read_to_string(&file).unwrap();
    assert_eq!(home.error(9, &["publish", &folder, "--init-manifest"])["code"], "E_CONFLICT");
    assert_eq!(fs::read_to_string(&file).unwrap(), filled);
    // A link to nowhere is something, too.
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(home.path("elsewhere"), &file).unwrap();
    home.error(9, &["publish", &folder, "--init-manifest"]);
    assert!(!home.path("elsewhere").exists());
    home.run(&["publish", &folder, "--init-manifest", "--wait"]).exits(2);
}
