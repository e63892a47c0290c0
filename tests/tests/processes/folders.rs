//! Folders that packages are installed into: filled, replaced by other versions, removed, and after a kill.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    bad_state::Disk,
    tree::{self, Bytes},
    world::{Home, Node, run, skipped, text, texts},
};

/// Publishes versions of a package of several files, none of which is the same in two versions but one.
fn publish(node: &Node, name: &str, versions: &[&str], files: usize) {
    for version in versions {
        let folder = node.path(&format!("{name}-{version}"));
        tree::small(&folder, name, version, "Has several versions", "license = \"MIT\"");
        fs::write(folder.join("stays"), "the same").unwrap();
        for file in 0..files {
            let path = folder.join(format!("part-{}/{file}", file % 7));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{version} {file} ").repeat(500)).unwrap();
        }
        fs::write(folder.join(format!("only-in-{version}")), "").unwrap();
        node.json(&["publish", folder.to_str().unwrap()]);
    }
}

/// Whether a folder holds exactly what was published as this version.
fn is_version(node: &Node, name: &str, version: &str, folder: &Path) -> bool {
    tree::contents(&node.path(&format!("{name}-{version}"))) == tree::contents(folder)
}

#[test]
fn several_packages_are_installed_by_requirements_and_upgraded_in_place() {
    let node = Node::start(&[]);
    publish(&node, "one", &["1.0.0", "1.2.0", "2.0.0"], 3);
    publish(&node, "two", &["0.1.0"], 3);
    let all = ["install", "one@^1", "two@latest", "--to", &node.text("out")];
    let installed = node.json(&all);
    assert_eq!(installed["total"], 2, "{installed}");
    assert!(is_version(&node, "one", "1.2.0", &node.path("out/one")));
    assert!(is_version(&node, "two", "0.1.0", &node.path("out/two")));
    // A failure of one does not keep the others from being installed, and decides the exit status.
    let answer = node.run(&[
        "install",
        "one@1.0.0",
        "two@^7",
        "nobody",
        "--to",
        &node.text("out"),
        "--format",
        "json",
    ]);
    let answer = answer.exits(4).json();
    assert_eq!(answer["packages"][0]["replaced"], "1.2.0", "{answer}");
    assert_eq!(answer["failed"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(answer["failed"][0]["error"]["code"], "E_NOT_FOUND", "{answer}");
    node.run(&["install", "one@^7", "--to", &node.text("new")]).exits(4).says("no version that meets ^7");
    node.run(&["install", "one", "one@1.0.0"]).exits(2).says("would both be put into");
    let upgraded = node.run(&["install", "one", "--to", &node.text("out/one")]).exits(0);
    upgraded.says("Installed one 2.0.0 in place of 1.0.0");
    assert!(is_version(&node, "one", "2.0.0", &node.path("out/one")));
    node.run(&["verify", "one"]).exits(0);
    // The folder of another package is not taken, whatever is forced.
    node.error(9, &["install", "two", "--to", &node.text("out/one"), "--force"]);
    assert!(is_version(&node, "one", "2.0.0", &node.path("out/one")));
}

#[test]
fn a_short_id_is_pasted_back_from_a_table() {
    let node = Node::start(&[]);
    publish(&node, "one", &["1.0.0"], 1);
    let table = node.run(&["list"]).exits(0).stdout;
    let short = table.split_whitespace().find(|word| word.starts_with("gp1") && word.contains('…')).unwrap();
    let package = format!("{short}/one");
    node.run(&["info", &package]).exits(0);
    node.json(&["install", &format!("{package}@^1"), "--to", &node.text("out")]);
    node.run(&["verify", &package]).exits(0);
    node.run(&["trust", "pin", &package]).exits(0);
    node.run(&["remove", &package]).exits(0);
    node.error(4, &["info", "gp1zzzzzz…zzzz/one"]);
    node.error(2, &["info", "gp1zz/one"]);
}

#[test]
fn a_shell_in_the_folder_stays_in_it() {
    let node = Node::start(&[]);
    publish(&node, "one", &["1.0.0", "2.0.0"], 3);
    let folder = node.path("here");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o710)).unwrap();
    let before = fs::metadata(&folder).unwrap();
    // Every command is run by one shell that is in the folder from first to last.
    let script = "\"$0\" p2p install one@1.0.0 --to . && \"$0\" p2p install one --to . && ls gpack.toml && \
                  \"$0\" p2p remove . && test \"$(ls -A .)\" = \"\" && pwd -P";
    let mut shell = node.program(Path::new("sh"));
    shell.current_dir(&folder).arg("-c").arg(script).arg(crate::world::ggen());
    let said = run(shell).exits(0).stdout;
    assert!(said.trim_end().ends_with("/here"), "{said}");
    let after = fs::metadata(&folder).unwrap();
    assert_eq!((after.ino(), after.mode(), after.gid()), (before.ino(), before.mode(), before.gid()));
}

#[test]
fn paths_with_spaces_line_breaks_and_detours_are_one_folder() {
    let node = Node::start(&[]);
    publish(&node, "one", &["1.0.0", "1.1.0"], 2);
    fs::create_dir(node.path("a b\nc")).unwrap();
    let detour = format!("{}/./../a b\nc//out/", node.text("a b\nc"));
    let installed = node.json(&["install", "one@1.0.0", "--to", &detour]);
    let path = node.path("a b\nc/out").canonicalize().unwrap();
    assert_eq!(text(&installed["path"]), path.to_str().unwrap());
    let upgraded = node.json(&["install", "one", "--to", path.to_str().unwrap()]);
    assert_eq!(upgraded["replaced"], "1.0.0", "{upgraded}");
    assert_eq!(rows(&node).len(), 1);
    node.run(&["verify", "one", &detour]).exits(0);
    node.run(&["remove", &detour]).exits(0);
    assert!(rows(&node).is_empty());
}

/// What `list` shows as installed.
fn rows(home: &Home) -> Vec<Value> {
    let listing = home.json(&["list"]);
    listing["packages"].as_array().unwrap().iter().filter(|row| row["kind"] == "installed").cloned().collect()
}

#[test]
fn a_folder_that_was_deleted_by_hand_is_told_as_gone_until_it_is_forgotten() {
    let node = Node::start(&[]);
    publish(&node, "one", &["1.0.0"], 2);
    let out = node.text("out");
    node.json(&["install", "one", "--to", &out]);
    fs::remove_dir_all(node.path("out")).unwrap();
    assert_eq!(rows(&node)[0]["gone"], true);
    node.run(&["list"]).exits(0).says(&format!("ggen marketplace p2p remove {out}"));
    let error = node.error(4, &["verify", "one"]);
    assert!(text(&error["hint"]).contains(&format!("p2p remove {out}")), "{error}");
    // Installed elsewhere, the package is well, and what is gone is told beside it.
    node.json(&["install", "one", "--to", &node.text("other")]);
    let verified = node.json(&["verify", "one"]);
    assert!(verified["ok"] == true && verified["others"][0]["gone"] == true, "{verified}");
    let removed = node.json(&["remove", &out]);
    assert_eq!(removed["was_gone"], true, "{removed}");
    assert_eq!(rows(&node).len(), 1);
    assert!(node.json(&["verify", "one"]).get("others").is_none());
    node.error(4, &["remove", &out]);
    // A link in its place is nobody's but its user's.
    node.json(&["install", "one", "--to", &out]);
    fs::rename(node.path("out"), node.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(node.path("elsewhere"), node.path("out")).unwrap();
    let removed = node.json(&["remove", &out]);
    assert!(removed["was_gone"] == true && removed["left"] == serde_json::json!([out]), "{removed}");
    assert!(
        node.path("out").is_symlink() && node.path("elsewhere/gpack.toml").exists() && rows(&node).len() == 1
    );
    fs::remove_file(node.path("out")).unwrap();
    // Without a package, everything is checked.
    assert_eq!(node.json(&["verify"])["ok"], true);
    fs::write(node.path("other/stays"), "changed").unwrap();
    node.run(&["verify"]).exits(6).says("changed: stays");
    node.run(&["remove", "one", "--force"]).exits(0);
    node.run(&["verify"]).exits(4).says("Nothing is installed here");
    // What frees the disk forgets it too, and says so.
    node.json(&["install", "one", "--to", &out]);
    assert_eq!(node.json(&["gc", "--dry-run"])["forgotten"], serde_json::json!([]));
    fs::remove_dir_all(node.path("out")).unwrap();
    assert_eq!(node.json(&["gc", "--dry-run"])["forgotten"], serde_json::json!([out]));
    node.run(&["gc"]).exits(0).says("that were deleted, and are forgotten now").says(&out);
    node.run(&["verify"]).exits(4).says("Nothing is installed here");
}

#[test]
fn removing_leaves_what_is_the_users_with_and_without_a_node() {
    let mut node = Node::start(&[]);
    publish(&node, "one", &["1.0.0"], 2);
    for runs in [true, false] {
        if !node.path("out").exists() {
            node.json(&["install", "one", "--to", &node.text("out")]);
        }
        fs::write(node.path("out/stays"), "changed").unwrap();
        if !runs {
            node.stop();
        }
        let error = node.error(9, &["remove", "one"]);
        assert!(text(&error["message"]).contains("changed: stays"), "{error}");
        let removed = node.json(&["remove", "one", "--force"]);
        assert_eq!(texts(&removed["left"]), ["stays"]);
        assert_eq!(fs::read_to_string(node.path("out/stays")).unwrap(), "changed");
        assert_eq!(fs::read_dir(node.path("out")).unwrap().count(), 1);
        assert!(rows(&node).is_empty());
        fs::remove_dir_all(node.path("out")).unwrap();
    }
}

#[test]
fn an_update_that_is_killed_leaves_one_version_or_the_other() {
    let rounds = std::env::var("GGEN_TEST_KILLS").map_or(10, |rounds| rounds.parse().unwrap());
    let mut node = Node::start(&[]);
    publish(&node, "one", &["1.0.0", "2.0.0"], 300);
    let out = node.text("out");
    node.json(&["install", "one@1.0.0", "--to", &out]);
    let begun = Instant::now();
    node.json(&["install", "one@2.0.0", "--to", &out]);
    let whole = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let mut moments = Bytes::new(7);
    let mut seen = [0, 0];
    for round in 0..rounds {
        let version = ["1.0.0", "2.0.0"][round % 2];
        let mut command = node.command(&["install", &format!("one@{version}"), "--to", &out]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The random moment is the experiment; nothing is waited for.
        thread::sleep(Duration::from_micros(moments.below(whole * 5 / 4)));
        node.kill();
        child.wait().unwrap();
        let old = is_version(&node, "one", "1.0.0", &node.path("out"));
        let new = is_version(&node, "one", "2.0.0", &node.path("out"));
        assert!(old != new, "neither version, in round {round}");
        seen[usize::from(new)] += 1;
        node.start_again(&[]);
        let verified = node.json(&["verify", "one"]);
        assert_eq!(verified["ok"], true, "{verified}");
        let left: Vec<_> = fs::read_dir(node.path("."))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("ggen-replaced") || name.contains(".kept-"))
            .collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    assert!(seen.iter().sum::<i32>() > 0);
    node.is_well();
}

#[test]
fn a_mount_point_is_filled_and_updated_and_a_full_disk_leaves_the_version_that_was_there() {
    let node = Node::start(&[]);
    let Some(_disk) = Disk::mount(node.path("disk"), 4) else {
        skipped("no file system can be mounted here");
        return;
    };
    for (version, bytes) in [("1.0.0", 1 << 20), ("1.1.0", 1 << 20), ("2.0.0", 3 << 20)] {
        let folder = node.path(&format!("one-{version}"));
        tree::small(&folder, "one", version, "Has several versions", "license = \"MIT\"");
        fs::write(folder.join("large"), Bytes::new(bytes).take(usize::try_from(bytes).unwrap())).unwrap();
        node.json(&["publish", folder.to_str().unwrap()]);
    }
    let disk = node.text("disk");
    let device = fs::metadata(&disk).unwrap().dev();
    node.json(&["install", "one@1.0.0", "--to", &disk]);
    node.json(&["install", "one@^1", "--to", &disk]);
    assert!(is_version(&node, "one", "1.1.0", &node.path("disk")));
    for _ in 0..2 {
        let error = node.error(1, &["install", "one", "--to", &disk]);
        assert_eq!(error["code"], "E_DISK_FULL", "{error}");
        assert!(is_version(&node, "one", "1.1.0", &node.path("disk")));
    }
    // What is kept goes to the folder beside it, which is another file system.
    fs::write(node.path("disk/large"), "mine").unwrap();
    let installed = node.json(&["install", "one@1.0.0", "--to", &disk, "--force"]);
    assert_eq!(text(&installed["kept_in"]), node.text("disk.kept-1"));
    assert_eq!(fs::read_to_string(node.path("disk.kept-1/large")).unwrap(), "mine");
    assert!(is_version(&node, "one", "1.0.0", &node.path("disk")));
    assert_eq!(fs::metadata(&disk).unwrap().dev(), device);
    node.run(&["remove", &disk]).exits(0);
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
}
