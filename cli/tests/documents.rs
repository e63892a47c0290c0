//! Everything that the command has is documented: every verb, every flag's verb, and every key of the configuration.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::{fs, path::Path};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// What stands between backticks in the first cells of the tables.
fn first_cells(text: &str) -> String {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split("` |").next())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether a word stands by itself in a text.
fn names(text: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '-';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

#[test]
fn every_verb_is_in_the_table_of_verbs() {
    let rows = first_cells(&document("verbs.md"));
    let command = ggen_cli::command();
    let p2p = command.find_subcommand("p2p").unwrap();
    let mut missing = Vec::new();
    for verb in p2p.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let line = rows.lines().find(|line| names(line, verb.get_name()));
        if line.is_none() {
            missing.push(verb.get_name().to_owned());
        }
        for below in verb.get_subcommands().filter(|below| below.get_name() != "help") {
            let is_there =
                rows.lines().any(|line| names(line, verb.get_name()) && names(line, below.get_name()));
            if !is_there {
                missing.push(format!("{} {}", verb.get_name(), below.get_name()));
            }
        }
    }
    assert!(missing.is_empty(), "docs/verbs.md does not have {missing:?}");
    assert!(
        names("`yank X`, `unyank X`", "yank") && !names("unyank X", "yank") && !names("peer-list", "list")
    );
}

#[test]
fn every_verb_has_an_example() {
    fn look(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        let mut below = command.get_subcommands().filter(|below| below.get_name() != "help").peekable();
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if path.matches(' ').count() == 0 && !after.contains("ggen marketplace p2p ") && !path.is_empty() {
            missing.push(path.to_owned());
        }
        if below.peek().is_some() {
            for verb in below.filter(|verb| !verb.is_hide_set()) {
                look(verb, format!("{path} {}", verb.get_name()).trim_start(), missing);
            }
        }
    }
    let command = ggen_cli::command();
    let mut missing = Vec::new();
    look(command.find_subcommand("p2p").unwrap(), "", &mut missing);
    assert!(missing.is_empty(), "no example in the help of {missing:?}");
}

#[test]
fn every_key_of_the_configuration_is_in_its_table() {
    fn keys(schema: &serde_json::Value, before: &str, found: &mut Vec<String>) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            let name = if before.is_empty() { key.clone() } else { format!("{before}.{key}") };
            if value["properties"].is_object() {
                keys(value, &name, found);
            } else {
                found.push(name);
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ggen"));
    let output = command.args(["p2p", "config", "schema", "--home"]).arg(folder.path()).output().unwrap();
    let schema = serde_json::from_slice(&output.stdout).unwrap();
    let (rows, mut all) = (first_cells(&document("configuration.md")), Vec::new());
    keys(&schema, "", &mut all);
    assert!(all.len() > 10, "{all:?}");
    let missing: Vec<&String> = all
        .iter()
        .filter(|key| !key.starts_with("p2p.") && *key != "p2p" && !rows.contains(key.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/configuration.md does not have {missing:?}");
}
