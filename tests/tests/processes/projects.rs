//! Projects: what a directory asks for, brought by real nodes, and put into its folder as a whole.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    guides::Guide,
    tree::{self, Bytes},
    world::{Answer, Home, Node, eventually, run, skipped, text},
};

/// Runs `ggen p2p …` in a directory.
#[track_caller]
fn at(home: &Home, directory: &Path, arguments: &[&str]) -> Answer {
    let mut command = home.command(arguments);
    command.current_dir(directory);
    run(command)
}

/// Likewise, as JSON; it must succeed.
#[track_caller]
fn json(home: &Home, directory: &Path, arguments: &[&str]) -> Value {
    at(home, directory, &[arguments, &["--format", "json"]].concat()).exits(0).json()
}

/// Publishes a version of a package, and yields its full id.
fn publish(node: &Node, name: &str, version: &str, needs: &[(&str, &str)]) -> String {
    let folder = node.path(&format!("{name}-{version}"));
    let list: String = needs.iter().map(|(id, range)| format!("\"{id}\" = \"{range}\"\n")).collect();
    tree::small(&folder, name, version, "Of a project", &format!("\n[dependencies]\n{list}"));
    fs::create_dir_all(folder.join("src/deep")).unwrap();
    fs::write(folder.join("src/deep/text"), format!("{name} {version}\n").repeat(500)).unwrap();
    let published = node.json(&["publish", folder.to_str().unwrap()]);
    format!("{}/{name}", text(&published["publisher"]))
}

fn read(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap()
}

/// Everything in the folder for packages that a user put there or sees there.
fn packages(directory: &Path) -> Vec<(String, (bool, usize, String))> {
    let all = tree::contents(&directory.join("gpacks")).into_iter();
    all.filter(|(path, _)| !path.starts_with(".ggen") && !path.starts_with(".kept") && path != ".gitignore")
        .collect()
}

/// A directory with an empty `gpack.toml`.
fn project(home: &Home, name: &str) -> PathBuf {
    let directory = home.path(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("gpack.toml"), "# A project\n").unwrap();
    directory
}

/// Three publishers and a reader, who knows all five packages.
struct World {
    publishers: [Node; 3],
    reader: Node,
    log: String,
}

impl World {
    fn new() -> Self {
        let first = Node::start(&[]);
        let second = Node::start(&[&first]);
        let third = Node::start(&[&first]);
        let reader = Node::start(&[&first]);
        let log = publish(&first, "log-tools", "1.0.0", &[]);
        let told = |node: &Node, name: &str| drop(node.finds(name, name, Duration::from_secs(20)));
        let text_tools = publish(&first, "text-tools", "1.0.0", &[(&log, "^1")]);
        told(&second, "text-tools");
        told(&second, "log-tools");
        told(&third, "log-tools");
        let web = publish(&second, "web-tools", "1.0.0", &[(&text_tools, "^1"), (&log, "^1")]);
        let store = publish(&third, "store-tools", "1.0.0", &[(&log, "^1")]);
        told(&third, "web-tools");
        publish(&third, "app-kit", "1.0.0", &[(&web, "^1"), (&store, "^1")]);
        for name in ["log-tools", "text-tools", "web-tools", "store-tools", "app-kit"] {
            told(&reader, name);
        }
        Self { publishers: [first, second, third], reader, log }
    }

    /// Waits until the reader knows a version.
    fn told(&self, name: &str, version: &str) {
        eventually(&format!("{name} {version}"), Duration::from_secs(20), || {
            let found = self.reader.json(&["search", name]);
            let mut all = found["packages"].as_array().unwrap().iter();
            all.any(|it| it["name"] == name && it["version"] == version).then_some(())
        });
    }
}

#[test]
fn five_packages_of_three_publishers_make_a_project_and_a_fifth_node_gets_the_same_bytes() {
    let world = World::new();
    let (reader, here) = (&world.reader, project(&world.reader, "project"));
    let [first, second, third] = &world.publishers;

    let added = json(reader, &here, &["add", "app-kit"]);
    assert_eq!(added["packages"].as_array().unwrap().len(), 5, "{added}");
    assert_eq!(added["changes"].as_array().unwrap().len(), 5, "{added}");
    for (node, name) in [
        (first, "log-tools"),
        (first, "text-tools"),
        (second, "web-tools"),
        (third, "store-tools"),
        (third, "app-kit"),
    ] {
        tree::assert_same(&node.path(&format!("{name}-1.0.0")), &here.join("gpacks").join(name));
    }
    let gpack = read(&here, "gpack.toml");
    assert!(gpack.starts_with("# A project\n") && gpack.contains("[aliases]\napp-kit = \"gp1"), "{gpack}");
    assert!(gpack.contains("/app-kit\" = \"^1.0.0\""), "{gpack}");
    let old_lock = read(&here, "gpack.lock");
    assert_eq!(old_lock.matches("[[package]]").count(), 5);
    // Another machine that chooses by itself writes the same bytes.
    let same = project(third, "same");
    fs::copy(here.join("gpack.toml"), same.join("gpack.toml")).unwrap();
    json(third, &same, &["install"]);
    assert_eq!(read(&same, "gpack.lock"), old_lock);

    // What is in place stays as it is, byte for byte.
    let again = json(reader, &here, &["install", "--locked"]);
    assert_eq!((&again["written"], &again["bytes_fetched"]), (&Value::from(0), &Value::from(0)), "{again}");
    json(reader, &here, &["install"]);
    assert_eq!(read(&here, "gpack.lock"), old_lock);
    reader.run(&["verify", "web-tools"]).exits(0);
    let verified = json(reader, &here, &["verify"]);
    assert!(verified["ok"] == true && verified["others"].as_array().unwrap().len() == 4, "{verified}");
    fs::remove_dir_all(here.join("gpacks/web-tools")).unwrap();
    at(reader, &here, &["verify"]).exits(6).says("web-tools@1.0.0 is missing");
    json(reader, &here, &["install", "--locked"]);
    at(reader, &here, &["verify", "./gpacks/web-tools"]).exits(0);
    // What others still need stays, and that is said.
    json(reader, &here, &["add", "log-tools"]);
    let removed = json(reader, &here, &["remove", "log-tools"]);
    let said = text(&removed["warnings"][0]);
    assert!(
        said.contains("log-tools any more, and it stays installed") && said.contains("text-tools"),
        "{said}"
    );
    assert!(read(&here, "gpack.toml") == gpack && here.join("gpacks/log-tools").exists());

    // Who needs it, read without asking anybody.
    let tree_shown = at(reader, &here, &["tree"]).exits(0).stdout;
    assert!(tree_shown.contains("└── app-kit 1.0.0 (^1.0.0)\n"), "{tree_shown}");
    assert_eq!(tree_shown.matches("log-tools 1.0.0").count(), 3, "{tree_shown}");
    let why = json(reader, &here, &["why", "log-tools"]);
    assert_eq!(why["chains"].as_array().unwrap().len(), 3, "{why}");

    // A newer version is told of, and taken only by an update.
    publish(first, "log-tools", "1.1.0", &[]);
    publish(first, "log-tools", "2.0.0", &[]);
    world.told("log-tools", "2.0.0");
    json(reader, &here, &["install"]);
    assert_eq!(read(&here, "gpack.lock"), old_lock);
    let outdated = json(reader, &here, &["outdated"]);
    let one = &outdated["packages"][0];
    assert_eq!(
        (one["name"].as_str(), one["current"].as_str(), one["wanted"].as_str(), one["latest"].as_str()),
        (Some("log-tools"), Some("1.0.0"), Some("1.1.0"), Some("2.0.0")),
        "{outdated}"
    );
    let would = json(reader, &here, &["update", "--dry-run"]);
    assert_eq!(would["changes"][0]["to"], "1.1.0", "{would}");
    assert_eq!(read(&here, "gpack.lock"), old_lock);
    let updated = json(reader, &here, &["update"]);
    assert_eq!(updated["changes"].as_array().unwrap().len(), 1, "{updated}");
    assert_eq!(updated["written"], 1, "{updated}");
    tree::assert_same(&first.path("log-tools-1.1.0"), &here.join("gpacks/log-tools"));

    // What does not go together is refused, and said why.
    let (before, lock, gpack) = (packages(&here), read(&here, "gpack.lock"), read(&here, "gpack.toml"));
    let conflict = at(reader, &here, &["add", "log-tools@^2"]).exits(9);
    let conflict = conflict
        .says("no version of")
        .says("^2  by this project")
        .says(&format!("{}@1.0.0", world.log.replace("log-tools", "text-tools")));
    assert!(conflict.stderr.contains("its versions: 2.0.0, 1.1.0, 1.0.0"), "{conflict:?}");
    assert_eq!(
        (packages(&here), read(&here, "gpack.lock"), read(&here, "gpack.toml")),
        (before, lock.clone(), gpack.clone())
    );

    // What somebody changed is named, and kept where it is replaced.
    let changed = here.join("gpacks/log-tools/src/deep/text");
    fs::write(&changed, "mine").unwrap();
    at(reader, &here, &["install"]).exits(0).says("is not as it was signed");
    at(reader, &here, &["update", "log-tools", "--precise", "1.0.0"]).exits(9).says("src/deep/text");
    assert_eq!(
        (fs::read_to_string(&changed).unwrap(), read(&here, "gpack.lock")),
        ("mine".to_owned(), lock.clone())
    );
    let forced = json(reader, &here, &["update", "log-tools", "--precise", "1.0.0", "--force"]);
    let kept = PathBuf::from(text(&forced["kept"][0]));
    assert_eq!(fs::read_to_string(kept.join("src/deep/text")).unwrap(), "mine");
    assert_eq!(read(&here, "gpack.lock"), old_lock, "the same versions give the same bytes");
    json(reader, &here, &["update", "log-tools"]);
    assert_eq!(read(&here, "gpack.lock"), lock);

    // A version that was withdrawn stays where it is locked, is told of, and is left by an update.
    first.json(&["yank", "log-tools@1.1.0", "--reason", "wrong"]);
    json(reader, &here, &["install", "--locked"]);
    eventually("the withdrawal is known", Duration::from_secs(20), || {
        let outdated = json(reader, &here, &["outdated"]);
        outdated["packages"].as_array().unwrap().iter().any(|it| it["yanked"].is_string()).then_some(())
    });
    assert_eq!(json(reader, &here, &["install"])["changes"].as_array().unwrap().len(), 0);

    // A fifth node that has the folders from elsewhere, and nothing else, knows what it replaces.
    let fifth = Node::start(&[reader]);
    let cached = fifth.path("cached");
    assert!(Command::new("cp").arg("-a").args([&here, &cached]).status().unwrap().success());
    fs::write(cached.join("gpack.lock"), &old_lock).unwrap();
    assert_eq!(json(&fifth, &cached, &["install", "--frozen"])["written"], 1);
    tree::assert_same(&first.path("log-tools-1.0.0"), &cached.join("gpacks/log-tools"));

    // It heard of none of it, and takes the lock file's word.
    let there = fifth.path("elsewhere");
    fs::create_dir(&there).unwrap();
    for file in ["gpack.toml", "gpack.lock"] {
        fs::copy(here.join(file), there.join(file)).unwrap();
    }
    json(&fifth, &there, &["install", "--frozen"]);
    assert_eq!(read(&there, "gpack.lock"), lock);
    let ours: Vec<_> = packages(&here);
    assert_eq!(packages(&there), ours);
    json(&fifth, &there, &["install", "--locked", "--offline"]);

    // Nothing that is on this machine is asked of others.
    fs::remove_dir_all(here.join("gpacks")).unwrap();
    let offline = json(reader, &here, &["install", "--locked", "--offline"]);
    assert_eq!(
        (&offline["written"], &offline["bytes_fetched"]),
        (&Value::from(5), &Value::from(0)),
        "{offline}"
    );
    assert_eq!(packages(&here), ours);
    let empty = project(&fifth, "empty");
    at(&fifth, &empty, &["add", &format!("{}/nothing", world.log.split('/').next().unwrap()), "--offline"])
        .exits(4);

    let updated = json(reader, &here, &["update"]);
    assert_eq!(updated["changes"][0]["to"], "1.0.0", "{updated}");
    let removed = json(reader, &here, &["remove", "app-kit"]);
    assert_eq!(
        (removed["changes"].as_array().unwrap().len(), removed["removed"].as_u64()),
        (5, Some(5)),
        "{removed}"
    );
    assert!(packages(&here).is_empty());
    assert!(
        !read(&here, "gpack.toml").contains("app-kit") && !read(&here, "gpack.lock").contains("[[package]]")
    );
    assert!(!reader.json(&["list"]).to_string().contains("gpacks"));
    for node in [first, second, third, reader, &fifth] {
        node.is_well();
    }
}

#[test]
fn bad_projects_are_refused_with_words_and_nothing_is_changed() {
    let author = Node::start(&[]);
    let one = publish(&author, "one", "1.0.0", &[]);
    let here = project(&author, "project");
    json(&author, &here, &["add", &one]);
    let (lock, gpack) = (read(&here, "gpack.lock"), read(&here, "gpack.toml"));
    let before = packages(&here);

    let empty = author.path("no-project");
    fs::create_dir(&empty).unwrap();
    for verb in [&["install"][..], &["add", "one"], &["update"], &["tree"], &["why", "one"], &["outdated"]] {
        at(&author, &empty, verb).exits(2).says("gpack.toml");
    }
    let wrong = [
        (lock.replace("version = 1\n", "version = 2\n"), 7, "format 2"),
        (lock.replacen("[[package]]", "<<<<<<< HEAD\n[[package]]", 1), 7, "merge conflict, line 4"),
        (lock.replace("\nsize = ", "\nsizes = "), 7, "line "),
        (lock.replace("sequence = 0", "sequence = 5"), 6, "contradicts what was signed"),
        (format!("{lock}dependencies = [\n  \"{one}x ^1\",\n]\n"), 9, "is not locked"),
    ];
    for (text, code, says) in &wrong {
        fs::write(here.join("gpack.lock"), text).unwrap();
        at(&author, &here, &["install", "--locked"]).calmly().exits(*code).says(says);
        assert_eq!(&read(&here, "gpack.lock"), text);
        assert_eq!(packages(&here), before);
    }
    fs::remove_file(here.join("gpack.lock")).unwrap();
    for flag in ["--locked", "--frozen"] {
        at(&author, &here, &["install", flag]).exits(9).says("gpack.lock is not there");
    }
    json(&author, &here, &["install"]);
    assert_eq!(read(&here, "gpack.lock"), lock, "the same again");

    fs::write(here.join("gpack.toml"), gpack.replace("\"^1.0.0\"", "\"^2\"")).unwrap();
    at(&author, &here, &["install", "--locked"])
        .exits(9)
        .says("is locked to 1.0.0 (asked for: ^2 by this project)");
    at(&author, &here, &["install"]).exits(4).says("its versions: 1.0.0");
    json(&author, &here, &["install", "--frozen"]);
    fs::write(here.join("gpack.toml"), &gpack).unwrap();

    // The same folder is nobody's but its user's.
    let mine = here.join("gpacks/two");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("file"), "mine").unwrap();
    publish(&author, "two", "1.0.0", &[]);
    at(&author, &here, &["add", "two"]).exits(9).says("ggen did not put it there");
    assert_eq!((read(&here, "gpack.toml"), read(&here, "gpack.lock")), (gpack, lock));
    let forced = json(&author, &here, &["add", "two", "--force"]);
    assert_eq!(fs::read_to_string(Path::new(&text(&forced["kept"][0])).join("file")).unwrap(), "mine");
    at(&author, &here, &["add", "one", "two", "--as", "x"]).exits(2);
    at(&author, &here, &["add", "two", "--as", "one"]).exits(9).says("means");
    // What is removed is told by the name that it went by.
    json(&author, &here, &["remove", "two"]);
    let added = json(&author, &here, &["add", "two", "--as", "deux"]);
    let removed = json(&author, &here, &["remove", "deux"]);
    assert_eq!(
        (&added["changes"][0]["name"], &removed["changes"][0]["name"]),
        (&"deux".into(), &"deux".into())
    );
    at(&author, &here, &["remove", "nothing"]).exits(4);
    at(&author, &here, &["add", "one@^1", "one@^2"]).exits(2).says("is named twice");
    at(&author, &here, &["add", "one@banana"]).exits(2).says("not a version requirement");
    author.is_well();
}

#[test]
fn a_project_may_have_any_path_and_its_packages_their_own_file_system() {
    let author = Node::start(&[]);
    publish(&author, "one", "1.0.0", &[]);
    for name in [&b"with spaces"[..], b"two\nlines", b"not \xff text", "grüße 日本".as_bytes()] {
        let here = author.path("x").with_file_name(OsStr::from_bytes(name));
        fs::create_dir(&here).unwrap();
        fs::write(here.join("gpack.toml"), "").unwrap();
        let added = json(&author, &here, &["add", "one"]);
        assert_eq!(added["written"], 1);
        assert_eq!(added["directory"].is_object(), name.contains(&0xff), "{added}");
        tree::assert_same(&author.path("one-1.0.0"), &here.join("gpacks/one"));
        at(&author, &here, &["remove", "one"]).exits(0);
        assert!(!here.join("gpacks/one").exists());
    }

    let here = project(&author, "mounted");
    let gpacks = here.join("gpacks");
    fs::create_dir(&gpacks).unwrap();
    let mounted = Mounted::at(&gpacks);
    if mounted.is_none() {
        return skipped("no file system can be mounted here");
    }
    json(&author, &here, &["add", "one"]);
    tree::assert_same(&author.path("one-1.0.0"), &gpacks.join("one"));
    tree::bulk(&author.path("large"), "large", 3, 8, 1 << 20);
    author.json(&["publish", &author.text("large")]);
    let (lock, gpack) = (read(&here, "gpack.lock"), read(&here, "gpack.toml"));
    at(&author, &here, &["add", "large"]).exits(1);
    assert_eq!((read(&here, "gpack.lock"), read(&here, "gpack.toml")), (lock, gpack), "the disk was full");
    tree::assert_same(&author.path("one-1.0.0"), &gpacks.join("one"));
    assert!(!gpacks.join("large").exists() && !gpacks.join(".ggen/next/large").exists());
    at(&author, &here, &["remove", "one"]).exits(0);
}

/// A small file system of its own, for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn at(folder: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn two_commands_at_once_leave_a_project_whole() {
    let author = Node::start(&[]);
    for name in ["one", "two", "three"] {
        tree::bulk(&author.path(name), name, 5, 30, 20_000);
        author.json(&["publish", &author.text(name)]);
    }
    let here = project(&author, "project");
    let begin = |name: &str| {
        let mut command = author.command(&["add", name, "--format", "json"]);
        command.current_dir(&here).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let commands = ["one", "two", "three"].map(begin);
    let codes = commands.map(|child| child.wait_with_output().unwrap().status.code().unwrap());
    // Each waits for those before it.
    assert_eq!(codes, [0, 0, 0]);
    assert_eq!(read(&here, "gpack.lock").matches("[[package]]").count(), 3);
    at(&author, &here, &["install", "--locked", "--offline"]).exits(0);
    assert_eq!(json(&author, &here, &["install"])["written"], 0);
}

#[test]
fn a_project_is_found_from_a_folder_below_it_and_removing_starts_no_node_where_that_is_refused() {
    let mut author = Node::start(&[]);
    publish(&author, "log-tools", "1.0.0", &[]);
    let here = project(&author, "project");
    let below = here.join("src/deep");
    fs::create_dir_all(&below).unwrap();
    json(&author, &below, &["add", "log-tools"]);
    assert!(here.join("gpacks/log-tools").is_dir() && !below.join("gpacks").exists());
    assert_eq!(json(&author, &below, &["install", "--dry-run"])["changes"].as_array().unwrap().len(), 0);
    author.stop();
    // With --offline nobody is dialled either, and no node is started in vain.
    let entrance = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    entrance.set_nonblocking(true).unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", entrance.local_addr().unwrap().port());
    author.run(&["config", "set", "bootstrap_nodes", &address]).exits(0);
    for _ in 0..2 {
        let offline = at(&author, &below, &["install", "--locked", "--offline"]).exits(0);
        assert!(!offline.stderr.contains("one is started"), "{offline:#?}");
    }
    assert!(entrance.accept().is_err(), "somebody was asked");
    at(&author, &below, &["install", "--offline", "--no-start"]).exits(3);
    author.run(&["config", "unset", "bootstrap_nodes"]).exits(0);
    // What came of several is one document.
    let several = author.run(&["remove", "/nothing/here", "/nor/here", "--format", "json"]).exits(4).json();
    assert_eq!((&several["total"], several["failed"].as_array().unwrap().len()), (&2.into(), 2), "{several}");
    at(&author, &below, &["remove", "log-tools", "--no-start"]).exits(3);
    assert!(here.join("gpacks/log-tools").is_dir());
    at(&author, &below, &["remove", "log-tools"]).exits(0);
    assert!(!here.join("gpacks/log-tools").exists());
}

#[test]
fn without_a_lock_file_every_verb_that_reads_it_says_so() {
    let author = Node::start(&[]);
    publish(&author, "log-tools", "1.0.0", &[]);
    let here = project(&author, "project");
    at(&author, &here, &["add", "log-tools"]).exits(0);
    fs::remove_file(here.join("gpack.lock")).unwrap();
    for arguments in [&["outdated"] as &[&str], &["tree"], &["why", "log-tools"], &["install", "--locked"]] {
        at(&author, &here, arguments).exits(9).says("gpack.lock is not there").says("p2p install");
    }
}

#[test]
fn the_guide_to_projects_does_what_it_says() {
    let author = Node::start(&[]);
    publish(&author, "log-tools", "1.0.0", &[]);
    let here = author.path("project");
    fs::create_dir(&here).unwrap();
    let commands = Guide::read("docs/depend.md").commands();
    assert_eq!(commands.len(), 10, "{commands:?}");
    for command in commands {
        match command.strip_prefix("ggen marketplace p2p ") {
            Some(verb) => {
                let arguments: Vec<&str> = verb.split(' ').collect();
                at(&author, &here, &arguments).exits(0);
            }
            None => {
                let mut shell = author.program(Path::new("sh"));
                shell.args(["-c", &command]).current_dir(&here);
                run(shell).exits(0);
            }
        }
        let is_there = here.join("gpacks/log-tools/src/deep/text").exists();
        assert_eq!(is_there, !command.starts_with("touch") && !command.contains("remove"), "{command}");
    }
    author.is_well();
}

#[test]
fn a_change_that_was_cut_off_is_told_as_that_and_not_as_tampering() {
    let mut author = Node::start(&[]);
    publish(&author, "log-tools", "1.0.0", &[]);
    let here = project(&author, "project");
    json(&author, &here, &["add", "log-tools"]);
    // As a kill leaves it: the old folder is out of the way, and the new one is not there yet.
    let (site, journal) = (here.join("gpacks"), here.join(".gpack.journal"));
    fs::create_dir_all(site.join(".ggen/old")).unwrap();
    fs::rename(site.join("log-tools"), site.join(".ggen/old/log-tools")).unwrap();
    fs::create_dir(&journal).unwrap();
    let note = r#"{"version":1,"folder":"gpacks","way":"forward","swaps":[{"name":"log-tools","was":"unknown","brings":null}],"files":[],"had_index":true}"#;
    fs::write(journal.join("journal.json"), note).unwrap();
    for runs in [true, false] {
        let verified = author.run(&["verify", "--format", "json"]).exits(9).json();
        assert!(verified["interrupted"] == true && verified["ok"] == false, "{verified}");
        author.run(&["verify"]).exits(9).says("was not compared").says("p2p install --project");
        let listing = author.json(&["list"]);
        let row =
            listing["packages"].as_array().unwrap().iter().find(|row| row["kind"] == "installed").unwrap();
        assert!(row["interrupted"] == true && row["gone"] == false, "{row}");
        if runs {
            author.stop();
        }
    }
    // Nobody but this state folder may say what was begun: a project comes from others.
    for arguments in
        [&["install"] as &[&str], &["install", "--frozen", "--offline"], &["remove", "log-tools"]]
    {
        at(&author, &here, arguments).exits(9).says("did not begin").says("rm -r");
        assert!(site.join(".ggen/old/log-tools").is_dir() && !site.join("log-tools").exists());
    }
    fs::remove_dir_all(&journal).unwrap();
    let installed = json(&author, &here, &["install"]);
    assert!(installed["recovered"] == false && site.join("log-tools").is_dir(), "{installed}");
    assert!(site.join(".kept/old-1/log-tools").is_dir(), "{installed}");
    author.run(&["verify"]).exits(0);
    // Without a project, no node is started in vain.
    let elsewhere = author.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let answer = at(&author, &elsewhere, &["outdated"]).exits(2);
    assert!(!answer.stderr.contains("one is started"), "{answer:#?}");
    fs::write(elsewhere.join("gpack.toml"), "[dependancies]\n").unwrap();
    let answer = at(&author, &elsewhere, &["install"]).exits(7).says("did you mean dependencies");
    assert!(!answer.stderr.contains("one is started"), "{answer:#?}");
}

#[test]
fn a_dependency_stays_its_publishers_under_another_key_and_beside_another_of_its_name() {
    let first = Node::start(&[]);
    let second = Node::start(&[&first]);
    let reader = Node::start(&[&first]);
    let id = publish(&first, "web", "1.0.0", &[]);
    second.finds("web", "web", Duration::from_secs(20));
    let other = publish(&second, "web", "9.0.0", &[]);
    assert_ne!(id, other);
    eventually("both are known", Duration::from_secs(20), || {
        let found = reader.json(&["search", "web"]);
        (found["total"] == 2).then_some(())
    });
    let here = project(&reader, "project");
    at(&reader, &here, &["add", "web"]).exits(9).says(&id).says(&other);
    json(&reader, &here, &["add", &id]);
    assert!(read(&here, "gpack.lock").contains(&id) && !read(&here, "gpack.lock").contains(&other));
    at(&reader, &here, &["add", &other]).exits(9).says("pinned to another publisher");
    let before = read(&here, "gpack.lock");
    // The publisher has another key from now on, and stays the publisher.
    first.json(&["key", "rotate"]);
    publish(&first, "web", "1.1.0", &[]);
    let updated = eventually("the newer version is known", Duration::from_secs(20), || {
        let updated = json(&reader, &here, &["update"]);
        (updated["changes"][0]["to"] == "1.1.0").then_some(updated)
    });
    assert_eq!(updated["packages"][0]["id"], format!("{id}@1.1.0"), "{updated}");
    assert!(!read(&here, "gpack.lock").contains(&other));
    tree::assert_same(&first.path("web-1.1.0"), &here.join("gpacks/web"));
    // So it is once the keys that signed both versions are revoked, for one who never knew others: the log has them.
    first.json(&["key", "revoke"]);
    let newcomer = Node::start(&[&first, &reader]);
    let (there, after) = (project(&newcomer, "project"), read(&here, "gpack.lock"));
    fs::write(there.join("gpack.toml"), read(&here, "gpack.toml")).unwrap();
    eventually("the newcomer knows the newest keys", Duration::from_secs(20), || {
        let explained = newcomer.run(&["explain", &id, "--format", "json"]);
        (explained.code == 0 && explained.json()["key_chain"][2]["revoked"] == 1).then_some(())
    });
    for (lock, version) in [(&before, "1.0.0"), (&after, "1.1.0")] {
        fs::write(there.join("gpack.lock"), lock).unwrap();
        let done = json(&newcomer, &there, &["install", "--frozen"]);
        assert_eq!(done["written"], 1, "{done}");
        tree::assert_same(&first.path(&format!("web-{version}")), &there.join("gpacks/web"));
    }
}

/// Kills of the node; `GGEN_TEST_KILLS` asks for more.
fn kills() -> u64 {
    std::env::var("GGEN_TEST_KILLS").ok().map_or(8, |rounds| rounds.parse().unwrap())
}

#[test]
fn a_kill_in_the_middle_of_an_update_leaves_the_old_tree_or_the_new_one() {
    let mut node = Node::start(&[]);
    for (seed, version) in [(1, "1.0.0"), (2, "1.1.0")] {
        for name in ["a", "b", "c", "d"] {
            let folder = node.path(&format!("{name}-{version}"));
            tree::bulk(&folder, name, seed, 40, 8_000);
            let gpack = read(&folder, "gpack.toml").replace("1.0.0", version);
            fs::write(folder.join("gpack.toml"), gpack).unwrap();
            node.json(&["publish", folder.to_str().unwrap()]);
        }
    }
    let here = project(&node, "project");
    let state = |here: &Path| (packages(here), read(here, "gpack.lock"), read(here, "gpack.toml"));
    let old_way = ["add", "a@=1.0.0", "b@=1.0.0", "c@=1.0.0", "d@=1.0.0"];
    let new_way = ["add", "a@^1.1", "b@^1.1", "c@^1.1", "d@^1.1"];
    json(&node, &here, &old_way);
    let old = state(&here);
    let begun = Instant::now();
    json(&node, &here, &new_way);
    let whole = begun.elapsed();
    let new = state(&here);
    assert_ne!(old, new);

    let mut moments =
        Bytes::new(std::env::var("GGEN_TEST_SEED").ok().map_or(1, |seed| seed.parse().unwrap()));
    let (mut olds, mut news, mut recovered, mut unfinished) = (0, 0, 0, 0);
    for round in 0..kills() {
        let before = state(&here);
        let way = if before == old { &new_way } else { &old_way };
        let mut command = node.command(way);
        command.current_dir(&here).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // One part of the time after the other, so that few rounds too are spread over all of it; the last one comes to its end.
        let part = (u64::try_from(whole.as_micros()).unwrap() * 6 / 5 / kills()).max(1);
        if round + 1 == kills() {
            child.wait().unwrap();
        } else {
            // The random moment is the experiment; nothing is waited for.
            thread::sleep(Duration::from_micros(part * round + moments.below(part)));
        }
        node.kill();
        child.wait().unwrap();
        // Whatever stands there now, it was not tampered with.
        let verified = node.run(&["verify"]);
        assert!([0, 9].contains(&verified.code), "round {round}: {verified:#?}");
        unfinished += u64::from(verified.code == 9);
        node.start_again(&[]);
        let dry = at(&node, &here, &["install", "--dry-run", "--offline"]);
        assert_eq!(dry.code, verified.code, "round {round}: it completes nothing\n{dry:#?}");
        let again = json(&node, &here, &["install", "--locked", "--offline"]);
        recovered += u64::from(again["recovered"] == true);
        let now = state(&here);
        assert!(now == old || now == new, "round {round}: a mixture\n{:#?}", now.1);
        if now == before {
            olds += 1
        } else {
            news += 1
        }
        assert!(!here.join(".gpack.journal").exists(), "round {round}");
        assert_eq!(again["written"], 0, "round {round}: {again}");
    }
    println!(
        "{olds} updates were cut off before they counted, {news} after, {recovered} of which were completed later, and {unfinished} \
         were told as cut off"
    );
    assert!(olds > 0 && news > 0, "{olds} {news}");
    assert!(kills() < 50 || recovered > 0, "{recovered}");
}
