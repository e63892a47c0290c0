//! The documents name only what is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{assert_none, read, root, sources::rust_files};

/// A source, by its place and what stands in it.
struct Source {
    /// The folders and the file's stem, such as `node`, `src`, `network`, `driver`.
    place: Vec<String>,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    for folder in ["node", "cli", "sim", "tests"] {
        rust_files(&root.join(folder), &mut files);
    }
    files.iter().map(|path| source(path.strip_prefix(&root).unwrap_or(path), read_file(path))).collect()
}

fn read_file(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn source(path: &Path, text: String) -> Source {
    let place = path.with_extension("");
    Source { place: place.iter().map(|part| part.to_string_lossy().into_owned()).collect(), text }
}

/// What stands between single backticks outside of fenced blocks.
fn quoted(document: &str) -> Vec<String> {
    let mut is_fenced = false;
    let mut found = Vec::new();
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Whether a text names a file or folder of this repository, as far as its form tells.
fn is_path(text: &str) -> bool {
    let is_plain = text.chars().all(|char| char.is_ascii_alphanumeric() || "/._-".contains(char));
    let top = text.split('/').next().unwrap_or_default();
    is_plain
        && text.contains('/')
        && ["node", "cli", "tests", "sim", "scenarios", "benches", ".ci"].contains(&top)
}

/// Whether `text` defines `name`, as an item, a method or a variant.
fn defines(text: &str, name: &str) -> bool {
    let words = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
    let ends = |rest: &str| !rest.starts_with(|char: char| char.is_alphanumeric() || char == '_');
    let is_item = words.iter().any(|word| {
        let item = format!("{word} {name}");
        text.match_indices(&item).any(|(at, _)| ends(&text[at + item.len()..]))
    });
    let is_variant = |line: &str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', ',', ' ', '{']))
    };
    let is_constant = name.starts_with(|char: char| char.is_uppercase());
    is_item || (is_constant && text.lines().any(is_variant))
}

/// Whether `a::b::c` is there: `c` is a module's file or is defined in one, and `a` and `b` are its place or defined beside it.
fn exists(name: &str, sources: &[Source]) -> bool {
    let parts: Vec<&str> = name.trim_end_matches("()").split("::").collect();
    let Some((last, before)) = parts.split_last() else { return false };
    sources.iter().any(|source| {
        let is_place = |part: &&str| source.place.iter().any(|place| place == part);
        let is_here = |part: &&str| {
            is_place(part)
                || defines(&source.text, part)
                || source.text.contains(&format!("impl {part}"))
                || source.text.contains(&format!(" for {part} "))
        };
        (is_place(last) || defines(&source.text, last)) && before.iter().all(is_here)
    })
}

/// Everything that a document names and that is not there.
fn missing(document: &str, root: &Path, sources: &[Source]) -> Vec<String> {
    let mut missing = Vec::new();
    for text in quoted(document) {
        let is_there = if is_path(&text) {
            root.join(&text).exists()
        } else if text.contains("::") && !text.contains('/') {
            exists(&text, sources)
        } else {
            continue;
        };
        if !is_there {
            missing.push(format!("`{text}` is not there"));
        }
    }
    missing
}

/// The modules right below a crate's root, as paths.
fn modules(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder of sources");
    let mut names: Vec<PathBuf> = entries
        .map(|entry| PathBuf::from(folder).join(entry.expect("a readable folder").file_name()))
        // What screens of tests looked like is no module.
        .filter(|path| !path.ends_with("snapshots"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_documents_name_only_what_is_there() {
    let sources = sources();
    for document in crate::documents::all() {
        assert_none(&missing(&read(&document), &root(), &sources));
    }
}

#[test]
fn the_map_has_every_module_of_the_node_the_command_and_the_simulator() {
    let map = read("ARCHITECTURE.md");
    let folders = ["node/src", "cli/src", "sim/src"].into_iter().flat_map(modules);
    let absent: Vec<String> = folders
        .map(|path| path.display().to_string())
        .filter(|path| !map.contains(&format!("`{path}")))
        .collect();
    assert_none(&absent);
}

#[test]
fn what_is_not_there_is_found() {
    let sources = [
        source(Path::new("node/src/network/driver.rs"), "impl Driver {\n    fn run(self) {}\n}".to_owned()),
        source(Path::new("node/src/code.rs"), "pub enum Code {\n    Conflict,\n}".to_owned()),
    ];
    for there in ["Driver::run", "driver::run", "network::driver", "Code::Conflict", "code::Code"] {
        assert_eq!(missing(&format!("see `{there}`"), &root(), &sources), [""; 0], "{there}");
    }
    for absent in [
        "Driver::walk",
        "Driver::ru",
        "release::run",
        "Code::Conflicts",
        "node/src/absent.rs",
        "cli/src/absent/",
    ] {
        assert_eq!(missing(&format!("see `{absent}`"), &root(), &sources).len(), 1, "{absent}");
    }
    assert!(missing("```\n`Driver::walk`\n```\nand `cargo test`", &root(), &sources).is_empty());
}
