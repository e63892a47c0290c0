//! What must not be published, and what would be.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    tree,
    world::{Home, Node, eventually, text, texts},
};

/// A package of one file of so many bytes.
fn large(home: &Home, name: &str, bytes: u64) -> String {
    let folder = home.path(name);
    tree::small(&folder, name, "1.0.0", "Takes a while to pack", "");
    fs::File::create(folder.join("large.bin")).unwrap().set_len(bytes).unwrap();
    home.text(name)
}

#[test]
fn tokens_and_passwords_are_refused_by_file_and_line_and_never_shown() {
    let home = Home::new();
    let folder = home.path("package");
    tree::small(&folder, "leaky", "1.0.0", "Holds what looks like secrets", "");
    let token = format!("ghp{}{}", "_", "a1B2c3".repeat(6));
    fs::create_dir(folder.join("src")).unwrap();
    fs::write(folder.join("src/main.py"), format!("import x\n\nTOKEN = '{token}'\n")).unwrap();
    fs::write(folder.join("settings.toml"), "user = 'me'\npassword = 'hunter2!'\n").unwrap();
    fs::write(folder.join(".netrc"), "machine x login y").unwrap();
    fs::write(folder.join(".npmrc"), "save-exact=true\n").unwrap();
    for verify in [&[][..], &["--skip-verify"], &["--dry-run"]] {
        let error = home.error(7, &[&["publish", &home.text("package")][..], verify].concat());
        let message = text(&error["message"]);
        for expected in [".netrc: ", "settings.toml:2: ", "src/main.py:3: it holds a GitHub token"] {
            assert!(message.contains(expected), "{expected} in {message}");
        }
        assert!(!message.contains(&token) && !message.contains("hunter2") && !message.contains(".npmrc"));
        assert!(text(&error["hint"]).contains("--allow-secrets"), "{error}");
    }
    let queued = home.json(&["publish", &home.text("package"), "--allow-secrets"]);
    assert_eq!(queued["queued"], true);
    assert!(texts(&queued["warnings"]).iter().any(|it| it.contains("src/main.py:3")), "{queued}");
    // What was passed over is said to others, and nothing else is.
    let mut author = Node::start_in(home, &[]);
    let reader = Node::start(&[&author]);
    let found = reader.finds("leaky", "leaky", Duration::from_secs(40));
    let notes = texts(&found["notes"]).join(" ");
    assert!(notes.contains("look as if they held secrets") && !notes.contains("skipped"), "{found}");
    let installed = reader.json(&["install", "leaky", "--to", &reader.text("out")]);
    let warnings = texts(&installed["warnings"]).join(" ");
    assert!(
        warnings.contains("look as if they held secrets") && !warnings.contains("skipped"),
        "{installed}"
    );
    author.stop();
}

#[test]
fn a_key_of_this_program_is_refused_without_a_way_round() {
    let home = Home::new();
    home.run(&["key", "new", "default"]).exits(0);
    let key = fs::read_to_string(home.state().join("keys/publishers/default.key")).unwrap();
    let secret = key.lines().find_map(|line| line.strip_prefix("secret: ")).unwrap().to_owned();
    for (file, content) in [
        ("backup.txt", format!("keep this\n{key}")),
        ("hidden.bin", format!("\0\0{key}\0")),
        ("digits.txt", secret.clone()),
        ("keys/node.key", String::new()),
        ("state/keys/publishers/me.key", String::new()),
        // Beyond what is searched for other secrets.
        ("far.bin", format!("{}{key}", " ".repeat(9 << 20))),
    ] {
        let folder = home.path("package");
        tree::small(&folder, "leaky", "1.0.0", "Holds a key", "");
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        fs::write(folder.join(file), content).unwrap();
        for flags in [&[][..], &["--skip-verify", "--allow-secrets"], &["--dry-run", "--allow-secrets"]] {
            let error = home.error(7, &[&["publish", &home.text("package")][..], flags].concat());
            let message = text(&error["message"]);
            assert!(message.contains(file) && !message.contains(&secret), "{message}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
    assert!(home.json(&["key", "list"])["keys"].is_array());
}

#[test]
fn what_git_ignores_up_to_the_root_of_the_repository_is_left_out() {
    let home = Home::new();
    let folder = home.path("repo/packages/one");
    tree::small(&folder, "one", "1.0.0", "Is part of a repository", "");
    fs::write(folder.join(".env"), "A=1").unwrap();
    fs::write(home.path("repo/.gitignore"), ".env\n").unwrap();
    home.error(7, &["publish", "repo/packages/one", "--dry-run"]);
    fs::create_dir(home.path("repo/.git")).unwrap();
    let planned = home.json(&["publish", "repo/packages/one", "--dry-run"]);
    let paths: Vec<String> =
        planned["contents"].as_array().unwrap().iter().map(|file| text(&file["path"])).collect();
    assert!(!paths.contains(&".env".to_owned()) && paths.contains(&"gpack.toml".to_owned()), "{paths:?}");
}

#[test]
fn a_dry_run_says_what_a_publication_would_be_and_changes_nothing() {
    let home = Home::new();
    tree::rich(&home.path("package"), "planned", "Is not published yet", 7);
    let first = home.json(&["publish", &home.text("package"), "--dry-run"]);
    assert_eq!((&first["publisher"], &first["already_published"]), (&"".into(), &false.into()));
    assert!(!home.state().join("store.db").exists() && !home.state().join("keys/publishers").exists());
    let list = home.run(&["package", &home.text("package"), "--list"]).exits(0).stdout;
    let paths: Vec<String> =
        first["contents"].as_array().unwrap().iter().map(|file| text(&file["path"])).collect();
    assert_eq!(list.lines().collect::<Vec<_>>(), paths);
    home.run(&["package", &home.text("package")]).exits(0).says("would be published");

    let node = Node::start_in(home, &[]);
    let planned = node.json(&["publish", &node.text("package"), "--dry-run", "--version", "2.0.0"]);
    assert_eq!(node.json(&["list"])["total"], 0, "{planned}");
    let published = node.json(&["publish", &node.text("package")]);
    let again = node.json(&["publish", &node.text("package"), "--dry-run"]);
    for field in ["id", "cid", "size", "files", "publisher"] {
        assert_eq!(again[field], published[field], "{field}");
    }
    assert_eq!((&again["already_published"], &again["cid"]), (&true.into(), &first["cid"]));
    fs::write(node.path("package/more"), "more").unwrap();
    node.error(9, &["publish", &node.text("package"), "--dry-run"]);
    node.error(2, &["package", &node.text("nowhere"), "--list"]);
}

/// Starts a publication, and interrupts it once `is_time`.
fn interrupted(home: &Home, arguments: &[&str], is_time: impl Fn() -> bool) -> (i32, String) {
    let mut command: Command = home.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child: Child = command.spawn().unwrap();
    eventually("it is time", Duration::from_secs(60), || is_time().then_some(()));
    let _ = kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or_default(), said)
}

#[test]
fn ctrl_c_before_it_is_signed_publishes_nothing_and_says_so() {
    let node = Node::start(&[]);
    let folder = large(&node, "slow", 3 << 30);
    let blocks = node.state().join("blocks");
    let is_packing = || {
        let files = fs::read_dir(&blocks).unwrap().flatten();
        files.into_iter().any(|file| file.path().extension().is_some_and(|ending| ending == "tmp"))
    };
    let (code, said) = interrupted(&node, &["publish", &folder], is_packing);
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("nothing was published"), "{said}");
    assert!(!is_packing(), "what was packed is gone");
    assert_eq!(node.json(&["list"])["total"], 0);
    // A client that is killed wants it no longer either.
    let mut child = node.command(&["publish", &folder]).stdout(Stdio::null()).spawn().unwrap();
    eventually("it is packed", Duration::from_secs(60), || is_packing().then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("it is given up", Duration::from_secs(60), || (!is_packing()).then_some(()));
    assert_eq!(node.json(&["list"])["total"], 0);
    node.is_well();
}

#[test]
fn ctrl_c_after_it_is_signed_says_that_it_is_published() {
    let node = Node::start(&[]);
    let folder = large(&node, "quick", 1);
    let is_signed = || node.json(&["list"])["total"] == 1;
    // With nobody there who takes it, the rest of the time is spent waiting.
    let (code, said) = interrupted(&node, &["publish", &folder, "--wait", "--timeout", "60"], is_signed);
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("it is published") && said.contains("yank quick@1.0.0"), "{said}");
}

#[test]
fn ctrl_c_without_a_node_leaves_nothing_in_the_outbox() {
    let home = Home::new();
    let folder = large(&home, "slow", 3 << 30);
    let blocks = home.state().join("blocks");
    let is_packing = || {
        let files = fs::read_dir(&blocks).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.path().extension().is_some_and(|ending| ending == "tmp"))
    };
    let (code, said) = interrupted(&home, &["publish", &folder], is_packing);
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("nothing was published"), "{said}");
    let node = Node::start_in(home, &[]);
    assert_eq!(node.json(&["list"])["total"], 0);
}
