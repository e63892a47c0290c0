//! The shape of the sources: files of a readable length, nothing unfinished, no test switched off.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{assert_none, root};

/// Lines of a source file, over which it is to be split by meaning.
const LINES_MAX: usize = 800;

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", "node_modules"];

/// Marks of unfinished code and of tests that do not run. Put together here, so that this file bears none of them.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("to", "do!("), "unfinished code"),
    (concat!("unimplemented", "!("), "unfinished code"),
    (concat!("#[", "ignore"), "a test that does not run"),
    (concat!("#![", "allow(clippy::all"), "every lint switched off"),
    // The harness keeps what a passing test prints by a macro: it must be written to the stream itself.
    (concat!("println!(", "\"skipped"), "a test that is passed over unseen"),
    (concat!("println!(", "\"SKIPPED"), "a test that is passed over unseen"),
];

/// Every Rust source, in a stable order. Symbolic links are not followed.
pub(crate) fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("a readable folder")).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (name, kind) = (entry.file_name(), entry.file_type().expect("a file type"));
        let hidden = name.to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden && SKIPPED.iter().all(|skipped| name != *skipped) {
            rust_files(&entry.path(), found);
        } else if kind.is_file() && entry.path().extension().is_some_and(|extension| extension == "rs") {
            found.push(entry.path());
        }
    }
}

/// Why a source is too long.
fn too_long(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| format!("{name}: {lines} lines, at most {LINES_MAX} are allowed"))
}

/// Lines with a mark of unfinished code. Spaces do not hide one.
fn unfinished(name: &str, text: &str) -> Vec<String> {
    text.lines()
        .enumerate()
        .flat_map(|(index, line)| {
            let line: String = line.chars().filter(|char| !char.is_whitespace()).collect();
            let marks = UNFINISHED.iter().filter(move |(mark, _)| line.contains(mark));
            marks.map(move |(mark, what)| format!("{name}:{}: {what}: {mark}", index + 1))
        })
        .collect()
}

/// The modules that the store may use, which are below it: whoever keeps tables in it hands them in.
const BELOW_THE_STORE: &[&str] = &["code", "content", "identity", "limits", "package", "store", "time"];

/// Modules above the store that a file of it names. Its tests play the part of whoever uses it.
fn above_the_store(name: &str, text: &str) -> Vec<String> {
    if !name.starts_with("node/src/store/") || name.contains("tests") {
        return Vec::new();
    }
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join(" ");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
    };
    let named = code.split("crate::").skip(1).flat_map(|after| match after.trim_start().strip_prefix('{') {
        Some(list) => {
            let mut depth = 0;
            let mut words = vec![word(list)];
            for (at, char) in list.char_indices() {
                match char {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => words.push(word(&list[at + 1..])),
                    _ => {}
                }
            }
            words
        }
        None => vec![word(after)],
    });
    named
        .filter(|module| !module.is_empty() && !BELOW_THE_STORE.contains(&module.as_str()))
        .map(|module| format!("{name}: the store uses {module}, which is above it"))
        .collect()
}

fn over_all_sources(rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let root = root();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 20, "the sources were found");
    files
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            rule(&name, &text)
        })
        .collect()
}

#[test]
fn every_source_file_fits_a_sitting() {
    assert_none(&over_all_sources(|name, text| too_long(name, text).into_iter().collect()));
}

#[test]
fn nothing_is_unfinished_and_no_test_is_switched_off() {
    assert_none(&over_all_sources(unfinished));
}

#[test]
fn the_store_uses_nothing_above_it() {
    assert_none(&over_all_sources(above_the_store));
}

#[test]
fn what_the_store_uses_above_it_is_found() {
    let name = "node/src/store/mod.rs";
    let text =
        "use crate::{\n    content::{Block, ContentId},\n    sync,\n};\nfn f() { crate::catalog::f(); }";
    let found = ["sync", "catalog"].map(|it| format!("{name}: the store uses {it}, which is above it"));
    assert_eq!(above_the_store(name, text), found);
    assert_none(&above_the_store(name, "use crate::{time::Timestamp}; // crate::sync"));
    assert_none(&above_the_store("node/src/sync/mod.rs", text));
}

#[test]
fn a_file_that_is_too_long_is_found() {
    assert_eq!(too_long("a.rs", &"\n".repeat(LINES_MAX)), None);
    assert!(too_long("a.rs", &"\n".repeat(LINES_MAX + 1)).unwrap().starts_with("a.rs: 801 lines"));
}

#[test]
fn every_mark_of_unfinished_code_is_found() {
    for (mark, what) in UNFINISHED {
        let spaced = mark.replace('[', "[ ").replace('(', " ( ");
        for text in [format!("fn a() {{\n    {mark}\n}}"), format!("fn a() {{\n    {spaced}\n}}")] {
            assert_eq!(unfinished("a.rs", &text), [format!("a.rs:2: {what}: {mark}")], "{text}");
        }
    }
    assert_none(&unfinished("a.rs", "// todo later, and ignored files\nlet ignore = 1;"));
}
