//! State folders that are damaged, full, or in the wrong hands.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    tree::{self, Bytes},
    world::{Home, LOOPBACK, Node, eventually, ggen, run, skipped, text},
};

/// A state folder that was used once, and its node key.
fn used() -> (Home, PathBuf, Vec<u8>) {
    let home = Home::new();
    home.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    home.run(&["stop"]).exits(0);
    let key = home.state().join("keys/node.key");
    let bytes = fs::read(&key).unwrap();
    (home, key, bytes)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_exact_remedy() {
    let (home, key, bytes) = used();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        chmod(&key, mode);
        for arguments in [&["start", "--listen", LOOPBACK][..], &["start", "--daemon", "--listen", LOOPBACK]]
        {
            let error = home.error(7, arguments);
            assert_eq!(error["code"], "E_KEY_FILE");
            assert!(
                text(&error["hint"]).contains(&format!("chmod 600 {}", key.display())),
                "{mode:o}: {error}"
            );
            assert!(text(&error["message"]).contains(&format!("{mode:04o}")), "{error}");
        }
    }
    assert_eq!(fs::read(&key).unwrap(), bytes);
    // The hint, as it is told, is the cure.
    let hint = text(&home.error(7, &["start", "--listen", LOOPBACK])["hint"]);
    let line = hint.lines().find(|line| line.contains("chmod 600")).unwrap();
    let command = &line[line.find("chmod 600").unwrap()..];
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{hint}");
    home.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    home.run(&["stop"]).exits(0);
}

#[test]
fn a_damaged_key_file_is_refused_and_never_replaced() {
    let (home, key, bytes) = used();
    let damages: [(&str, Vec<u8>); 5] = [
        ("is empty", Vec::new()),
        ("is cut off", bytes[..bytes.len() / 2].to_vec()),
        ("is damaged", String::from_utf8(bytes.clone()).unwrap().replacen("secret: ", "secret: 0", 1).into()),
        ("is not a key file", b"-----BEGIN PRIVATE KEY-----\n".to_vec()),
        ("is not a key file", Bytes::new(3).take(2000)),
    ];
    for (flaw, written) in &damages {
        fs::write(&key, written).unwrap();
        let error = home.error(7, &["start", "--listen", LOOPBACK]);
        assert_eq!(error["code"], "E_KEY_FILE");
        let message = text(&error["message"]);
        assert!(message.contains(flaw) && message.contains(key.to_str().unwrap()), "{flaw}: {error}");
        assert_eq!(&fs::read(&key).unwrap(), written, "{flaw}: left as it is");
        let list = home.json(&["key", "list"]);
        assert!(list["peer_id"].is_null() && text(&list["node_error"]).contains(flaw), "{flaw}: {list}");
    }
    // What the hint says makes another node of it, on purpose.
    fs::write(&key, "").unwrap();
    let hint = text(&home.error(7, &["start", "--listen", LOOPBACK])["hint"]);
    let commands = &hint[hint.find("mv ").unwrap()..];
    let mut shell = home.program(Path::new("sh"));
    shell.arg("-c").arg(commands.replace("ggen marketplace", &format!("{} marketplace", ggen().display())));
    run(shell).exits(0);
    home.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    home.run(&["stop"]).exits(0);
    fs::remove_file(key.with_extension("key.damaged")).unwrap();
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let error = home.error(7, &["start", "--listen", LOOPBACK]);
    assert!(text(&error["message"]).contains("is a directory"), "{error}");
    fs::remove_dir(&key).unwrap();
    fs::write(home.path("elsewhere.key"), &bytes).unwrap();
    chmod(&home.path("elsewhere.key"), 0o600);
    symlink(home.path("elsewhere.key"), &key).unwrap();
    let error = home.error(7, &["start", "--listen", LOOPBACK]);
    assert!(text(&error["message"]).contains("symbolic link"), "{error}");

    fs::remove_file(&key).unwrap();
    fs::write(&key, &bytes).unwrap();
    chmod(&key, 0o600);
    home.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    home.run(&["stop"]).exits(0);
}

#[test]
fn a_node_key_that_is_gone_is_not_replaced_by_another_identity() {
    let (home, key, bytes) = used();
    let list = home.json(&["key", "list"]);
    let peer = text(&list["peer_id"]);
    fs::remove_file(&key).unwrap();
    for arguments in [&["start", "--listen", LOOPBACK][..], &["start", "--daemon", "--listen", LOOPBACK]] {
        let error = home.error(7, arguments);
        assert_eq!(error["code"], "E_KEY_FILE", "{error}");
        assert!(text(&error["message"]).contains(&peer), "{error}");
        assert!(text(&error["hint"]).contains(&format!("restore {}", key.display())), "{error}");
        assert!(!key.exists(), "nothing was made");
    }
    let list = home.json(&["key", "list"]);
    assert!(list["peer_id"].is_null() && text(&list["node_error"]).contains("key new --node"), "{list}");
    home.run(&["key", "list"]).exits(0).says("This node's key cannot be used");

    // Both ways of the hint are ways out.
    fs::write(&key, &bytes).unwrap();
    chmod(&key, 0o600);
    assert_eq!(home.json(&["start", "--daemon", "--listen", LOOPBACK])["peer_id"], peer);
    home.run(&["stop"]).exits(0);
    fs::remove_dir_all(home.state().join("keys")).unwrap();
    home.error(7, &["start", "--listen", LOOPBACK]);
    let made = home.json(&["key", "new", "--node"]);
    home.error(9, &["key", "new", "--node"]);
    assert_ne!(made["peer_id"], peer);
    assert_eq!(home.json(&["start", "--daemon", "--listen", LOOPBACK])["peer_id"], made["peer_id"]);
    home.run(&["stop"]).exits(0);
    fs::remove_file(&key).unwrap();
    let error = home.error(7, &["start", "--listen", LOOPBACK]);
    assert!(text(&error["message"]).contains(&text(&made["peer_id"])), "{error}");
}

#[test]
fn nobody_else_signs_where_the_publisher_key_is_gone() {
    let mut node = Node::start(&[]);
    tree::small(&node.path("one"), "one", "1.0.0", "Before", "");
    tree::small(&node.path("two"), "two", "1.0.0", "After", "");
    let first = node.json(&["publish", &node.text("one")]);
    let key = node.state().join("keys/publishers/default.key");
    let bytes = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let refused = |node: &Node| {
        let error = node.error(7, &["publish", &node.text("two")]);
        assert_eq!(error["code"], "E_KEY_FILE", "{error}");
        assert!(text(&error["message"]).contains(&text(&first["publisher"])), "{error}");
        assert!(text(&error["hint"]).contains("key new"), "{error}");
        assert!(!key.exists(), "nothing was made");
    };
    refused(&node);
    node.stop();
    refused(&node);
    fs::write(&key, &bytes).unwrap();
    chmod(&key, 0o600);
    assert_eq!(node.json(&["publish", &node.text("two")])["publisher"], first["publisher"]);
    // On purpose, it can be another one.
    fs::remove_file(&key).unwrap();
    let made = node.json(&["key", "new"]);
    tree::small(&node.path("three"), "three", "1.0.0", "Anew", "");
    assert_eq!(node.json(&["publish", &node.text("three")])["publisher"], made["publisher"]);
    assert_ne!(made["publisher"], first["publisher"]);
}

#[test]
fn a_damaged_publisher_key_keeps_a_package_from_being_published() {
    let node = Node::start(&[]);
    tree::small(&node.path("one"), "one", "1.0.0", "Before", "");
    tree::small(&node.path("two"), "two", "1.0.0", "After", "");
    let first = node.json(&["publish", &node.text("one")]);
    let keys = node.state().join("keys");
    let key = files_below(&keys).into_iter().find(|path| !path.ends_with("node.key")).unwrap();
    let bytes = fs::read(&key).unwrap();
    fs::write(&key, &bytes[..40]).unwrap();
    let error = node.error(7, &["publish", &node.text("two")]);
    assert_eq!(error["code"], "E_KEY_FILE", "{error}");
    assert_eq!(fs::read(&key).unwrap(), &bytes[..40]);
    fs::write(&key, &bytes).unwrap();
    assert_eq!(node.json(&["publish", &node.text("two")])["publisher"], first["publisher"]);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// What happens to the bytes of a file.
type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_database_is_put_aside_and_publishing_again_restores_the_same_ids() {
    let damages: [(&str, Damage); 4] = [
        ("random", |bytes| {
            let length = bytes.len();
            *bytes = Bytes::new(9).take(length);
        }),
        ("pages", |bytes| {
            let mut source = Bytes::new(10);
            for page in bytes.chunks_mut(4096).step_by(3) {
                page.copy_from_slice(&source.take(page.len()));
            }
        }),
        ("cut", |bytes| bytes.truncate(bytes.len() / 3)),
        ("header", |bytes| bytes[..16].copy_from_slice(b"SQLite format 9\0")),
    ];
    let mut node = Node::start(&[]);
    tree::rich(&node.path("package"), "lasting", "Outlives its database", 11);
    let published = node.json(&["publish", &node.text("package")]);
    let (database, key) = (node.state().join("store.db"), node.state().join("keys/node.key"));
    let key_before = fs::read(&key).unwrap();
    let mut copies = 0;
    for (kind, damage) in damages {
        node.stop();
        let mut bytes = fs::read(&database).unwrap();
        damage(&mut bytes);
        fs::write(&database, &bytes).unwrap();
        node.start_again(&[]);
        let kept = files_below(&node.state().join("quarantine"));
        assert!(kept.len() > copies, "{kind}: {kept:?}\n{}", node.log());
        assert!(kept.iter().any(|path| fs::read(path).unwrap() == bytes), "{kind}: a copy is kept as it was");
        copies = kept.len();
        assert_eq!(fs::read(&key).unwrap(), key_before, "{kind}");
        let again = node.json(&["publish", &node.text("package")]);
        assert_eq!((&again["cid"], &again["id"]), (&published["cid"], &published["id"]), "{kind}");
        let reader = Node::start(&[&node]);
        reader.finds("outlives", "lasting", Duration::from_secs(20));
        reader.json(&["install", "lasting", "--to", &reader.text("out")]);
        tree::assert_same(&node.path("package"), &reader.path("out"));
    }
}

#[test]
fn a_published_package_can_be_installed_after_its_database_was_damaged() {
    let mut node = Node::start(&[]);
    tree::rich(&node.path("package"), "lasting", "Outlives its database", 16);
    node.json(&["publish", &node.text("package")]);
    node.stop();
    let database = node.state().join("store.db");
    let mut bytes = fs::read(&database).unwrap();
    bytes[..16].copy_from_slice(b"SQLite format 9\0");
    fs::write(&database, &bytes).unwrap();
    // The log goes on where it was, even before anybody was asked: two first entries would be an equivocation.
    tree::rich(&node.path("next"), "lasting", "Outlives its database", 17);
    let published = node.json(&["publish", &node.text("next"), "--version", "1.1.0"]);
    assert_eq!((&published["sequence"], &published["queued"]), (&1.into(), &true.into()), "{published}");
    node.start_again(&[]);
    assert_eq!(node.json(&["list"])["total"], 2, "{}", node.log());
    let reader = Node::start(&[&node]);
    reader.finds("outlives", "lasting", Duration::from_secs(20));
    reader.json(&["install", "lasting@1.0.0", "--to", &reader.text("out")]);
    tree::assert_same(&node.path("package"), &reader.path("out"));
    eventually("what waited is published", Duration::from_secs(30), || {
        (reader.run(&["info", "lasting@1.1.0"]).code == 0).then_some(())
    });
    reader.json(&["install", "lasting@1.1.0", "--to", &reader.text("next")]);
}

#[test]
fn an_empty_database_starts_anew_and_keeps_the_keys() {
    let (home, key, bytes) = used();
    fs::write(home.state().join("store.db"), "").unwrap();
    home.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    home.run(&["stop"]).exits(0);
    assert_eq!(fs::read(&key).unwrap(), bytes);
    fs::remove_file(home.state().join("store.db")).unwrap();
    symlink("/dev/zero", home.state().join("store.db")).unwrap();
    let answer = home.run(&["start", "--daemon", "--listen", LOOPBACK]).calmly();
    assert_ne!(answer.code, 0, "a link is not followed: {answer:#?}");
}

#[test]
fn a_state_folder_of_another_version_is_refused_and_left_as_it_is() {
    let (home, ..) = used();
    let database = home.state().join("store.db");
    let ours = fs::read(&database).unwrap();
    // Where the version of its tables is in a database file.
    let version = u32::from_be_bytes(ours[60..64].try_into().unwrap());
    for (other, code) in [(version - 1, "E_STORE_TOO_OLD"), (version + 1, "E_STORE_TOO_NEW")] {
        let mut bytes = ours.clone();
        bytes[60..64].copy_from_slice(&other.to_be_bytes());
        fs::write(&database, &bytes).unwrap();
        for verb in [&["start", "--daemon", "--listen", LOOPBACK][..], &["list"], &["gc"]] {
            let error = home.error(1, verb);
            assert_eq!(error["code"], code, "{error}");
            assert!(text(&error["message"]).contains(&format!("has version {other}")), "{error}");
            assert!(text(&error["hint"]).contains("GGEN_HOME"), "{error}");
        }
        assert_eq!(fs::read(&database).unwrap(), bytes);
    }
    fs::write(&database, &ours).unwrap();
    home.run(&["start", "--daemon", "--listen", LOOPBACK]).exits(0);
    home.run(&["stop"]).exits(0);
}

#[test]
fn a_disk_that_is_full_at_the_start_is_told_without_a_word_of_what_does_not_run() {
    let home = Home::new();
    let Some(_disk) = Disk::mount(home.state().to_owned(), 1) else {
        skipped("no file system can be mounted here, so no disk can be full");
        return;
    };
    fs::write(home.state().join("filler"), vec![0; (1 << 20) - (64 << 10)]).unwrap();
    let error = home.error(1, &["start", "--daemon", "--listen", LOOPBACK]);
    assert_eq!(error["code"], "E_DISK_FULL", "{error}");
    assert!(!text(&error["hint"]).contains("served"), "{error}");
}

/// A small file system of its own; unmounted when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one, where that is allowed.
    pub(crate) fn mount(at: PathBuf, mebibytes: u32) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_told_and_freed_by_what_nobody_needs() {
    let home = Home::new();
    let Some(_disk) = Disk::mount(home.state().to_owned(), 10) else {
        skipped("no file system can be mounted here, so no disk can be full");
        return;
    };
    let author = Node::start(&[]);
    tree::bulk(&author.path("large"), "large", 14, 3, 1 << 20);
    author.json(&["publish", &author.text("large")]);
    let node = Node::start_in(home, &[&author]);
    node.finds("large", "large", Duration::from_secs(20));
    node.json(&["install", "large", "--to", &node.text("out")]);
    node.json(&["remove", "large"]);
    let mut filler = fs::File::create(node.state().join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    let status = node.json(&["status"]);
    assert_eq!(status["health"], "degraded", "{status}");
    assert!(status["warnings"].to_string().contains("the disk of the state folder is full"), "{status}");
    let collected = node.json(&["gc"]);
    assert!(collected["bytes"].as_u64().unwrap() >= 3 << 20, "{collected}");
    node.is_well();
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_serves_what_is_there() {
    let home = Home::new();
    let Some(_disk) = Disk::mount(home.state().to_owned(), 24) else {
        skipped("no file system can be mounted here, so no disk can be full");
        return;
    };
    tree::rich(&home.path("fits"), "fits", "Small enough", 12);
    tree::bulk(&home.path("large"), "large", 13, 40, 1 << 20);
    let mut node = Node::start_in(home, &[]);
    let published = node.json(&["publish", &node.text("fits")]);
    for _ in 0..3 {
        let error = node.error(1, &["publish", &node.text("large")]);
        assert_eq!(error["code"], "E_DISK_FULL", "{error}");
        assert!(!text(&error["hint"]).is_empty(), "{error}");
    }
    node.is_well();
    assert_eq!(node.json(&["list"])["total"], 1);
    let reader = Node::start(&[&node]);
    let found = reader.finds("enough", "fits", Duration::from_secs(20));
    assert_eq!(found["cid"], published["cid"]);
    reader.json(&["install", "fits", "--to", &reader.text("out")]);
    tree::assert_same(&node.path("fits"), &reader.path("out"));

    // The space of the attempts is free again, also after a restart.
    node.stop();
    node.start_again(&[]);
    tree::bulk(&node.path("second"), "second", 14, 4, 1 << 20);
    node.json(&["publish", &node.text("second")]);

    // Somebody else who has no room for a package says so, and has nothing of it.
    let poor = Home::new();
    let Some(_disk) = Disk::mount(poor.path("small"), 2) else { return };
    let poor = Node::start_in(poor, &[&node]);
    poor.finds("enough", "fits", Duration::from_secs(20));
    let error = poor.error(1, &["install", "fits", "--to", &poor.text("small/fits")]);
    assert_eq!(error["code"], "E_DISK_FULL", "{error}");
    assert!(!poor.path("small/fits").exists());
    assert_eq!(tree::partials(&poor.path("small")), Vec::<String>::new());
    poor.json(&["install", "fits", "--to", &poor.text("roomy")]);
}
