//! The node can still be broken in every way that the simulation is known to notice.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::Path,
    process::{Command, Stdio},
};

use crate::{assert_none, read, root, sources::rust_files};

const FOLDER: &str = "sim/breakages";

/// Whether a patch applies to the tree, as Git says; none where there is no Git.
fn refusal(patch: &str, root: &Path) -> Option<Result<(), String>> {
    let git = Command::new("git")
        .args(["apply", "--check", "-"])
        .current_dir(root)
        // Inside of another repository Git would pass over paths that it takes for foreign.
        .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(root))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut git = match git {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        started => started.expect("Git can be started"),
    };
    git.stdin.take().expect("piped").write_all(patch.as_bytes()).expect("Git reads");
    let ended = git.wait_with_output().expect("Git ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    Some(if ended.status.success() { Ok(()) } else { Err(said) })
}

/// Scenario and invariant of a line such as `Noticed: scenarios/smoke.toml --seed 1, by bounds-hold`.
fn notice(line: &str) -> Option<(&str, &str)> {
    let (scenario, rest) = line.strip_prefix("Noticed: ")?.split_once(" --seed ")?;
    let (seed, invariant) = rest.split_once(", by ")?;
    seed.parse::<u64>().ok().map(|_| (scenario, invariant))
}

/// Crate and path of a line such as `Noticed: test ggen-marketplace heads::moves::tests::it_moves`.
fn noticing_test(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("Noticed: test ")?.split_once(' ')
}

/// Whether the node has a test of this path, as far as its last word tells.
fn is_test_of_the_node(krate: &str, path: &str, root: &Path) -> bool {
    let name = path.rsplit("::").next().unwrap_or(path);
    let mut files = Vec::new();
    rust_files(&root.join("node/src"), &mut files);
    let defines = |file: &std::path::PathBuf| {
        fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}(")))
    };
    krate == "ggen-marketplace" && files.iter().any(defines)
}

/// What is wrong with a patch.
fn findings(name: &str, patch: &str, documentation: &str, root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(format!("{name}: {what}"));
    match refusal(patch, root) {
        // Not by a macro, of which a test that passes shows nothing.
        None => writeln!(io::stderr(), "skipped: Git is not installed; nobody knows whether {name} applies")
            .expect("standard error takes a line"),
        Some(Ok(())) => {}
        Some(Err(said)) => find(format!("does not apply: {said}")),
    }
    for file in patch.lines().filter_map(|line| line.strip_prefix("+++ b/")) {
        if !file.starts_with("node/src/") {
            find(format!("changes {file}, and only the node may be broken"));
        }
    }
    if !patch.starts_with("Breaks: ") {
        find("does not begin by saying what it breaks".to_owned());
    }
    let notices: Vec<_> = patch.lines().filter_map(notice).collect();
    let tests: Vec<_> = patch.lines().filter_map(noticing_test).collect();
    if notices.is_empty() && tests.is_empty() {
        find("does not say who notices it".to_owned());
    }
    for (krate, path) in tests {
        if !is_test_of_the_node(krate, path, root) {
            find(format!("names the test {path} of {krate}, which is not there"));
        }
    }
    for (scenario, invariant) in notices {
        if !root.join(scenario).is_file() {
            find(format!("names {scenario}, which is not there"));
        }
        if !documentation.lines().any(|line| line.starts_with(&format!("| `{invariant}` |"))) {
            find(format!("names {invariant}, which is no rule of sim/README.md"));
        }
    }
    if !documentation.lines().any(|line| line.starts_with(&format!("| `{name}` |"))) {
        find("is not in the table of sim/README.md".to_owned());
    }
    findings
}

#[test]
fn every_breakage_still_applies_and_says_who_notices_it() {
    let documentation = read("sim/README.md");
    let entries = fs::read_dir(root().join(FOLDER)).expect("a folder of patches");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable folder").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    let mut all = Vec::new();
    for file in names {
        match file.strip_suffix(".patch") {
            Some(name) => {
                all.extend(findings(name, &read(&format!("{FOLDER}/{file}")), &documentation, &root()));
            }
            None => all.push(format!("{file}: is no patch")),
        }
    }
    assert_none(&all);
}

#[test]
fn a_breakage_that_does_not_apply_or_names_what_is_not_there_is_found() {
    let documentation = "| `broken` | … |\n| `bounds-hold` | … |\n";
    let patch = |head: &str, from: &str| {
        format!("{head}\n\n--- a/node/src/lib.rs\n+++ b/node/src/lib.rs\n@@ -1 +1 @@\n-{from}\n+// Broken.\n")
    };
    let head = "Breaks: all.\n\nNoticed: scenarios/smoke.toml --seed 1, by bounds-hold";
    let library = read("node/src/lib.rs");
    let first = library.lines().next().expect("a line");
    let is_there = |found: &[String], what: &str| found.iter().any(|it| it.contains(what));
    let found = findings("broken", &patch(head, "Not a line of it."), documentation, &root());
    let skipped = refusal("", &root()).is_none();
    assert!(skipped || is_there(&found, "does not apply"), "{found:?}");
    let found = findings("other", &patch("Nothing.", first), documentation, &root());
    for what in ["does not begin", "does not say who", "not in the table"] {
        assert!(is_there(&found, what), "{what}: {found:?}");
    }
    let nowhere = "Breaks: all.\n\nNoticed: scenarios/none.toml --seed 1, by nothing";
    let found = findings("broken", &patch(nowhere, first), documentation, &root());
    assert!(is_there(&found, "scenarios/none.toml, which is not there"), "{found:?}");
    assert!(is_there(&found, "names nothing, which is no rule"), "{found:?}");
    let untested = "Breaks: all.\n\nNoticed: test ggen-marketplace heads::tests::nobody_wrote_this_one";
    let found = findings("broken", &patch(untested, first), documentation, &root());
    assert!(is_there(&found, "names the test heads::tests::nobody_wrote_this_one"), "{found:?}");
    let sim = patch(head, first).replace("node/src/lib.rs", "sim/src/lib.rs");
    assert!(is_there(&findings("broken", &sim, documentation, &root()), "only the node"));
}
