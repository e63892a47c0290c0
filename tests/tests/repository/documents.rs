//! The documents hang together: links lead somewhere, guides are run by tests, and what stands in two places is the same in both.

use std::fs;

use crate::{assert_none, read, root, sources::rust_files};

/// The documents for readers, by their path from the root: those of the root, and those of `docs`.
pub(crate) fn all() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root().join(folder)).expect("a readable folder") {
            let name = entry.expect("a readable folder").file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                found.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
            }
        }
    }
    found.sort();
    assert!(found.len() > 10, "the documents were found: {found:?}");
    found
}

/// Where the links and pictures of a document lead, without those to other sites and to places in the same document.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).map(str::to_owned).collect()
}

#[test]
fn every_link_leads_to_a_file() {
    let mut findings = Vec::new();
    for document in all() {
        let path = root().join(&document);
        let folder = path.parent().expect("a folder");
        for link in links(&read(&document)) {
            if !folder.join(&link).exists() {
                findings.push(format!("{document}: {link} is not there"));
            }
        }
    }
    assert_none(&findings);
    assert_eq!(links("[a](b.md#c), ![d](e.svg), [f](https://g), [h](#i)"), ["b.md", "e.svg"]);
}

#[test]
fn the_readme_leads_to_every_document() {
    let linked = links(&read("README.md"));
    let absent: Vec<String> = all()
        .into_iter()
        .filter(|document| {
            document != "README.md" && document != "CHANGELOG.md" && !linked.contains(document)
        })
        .map(|document| format!("README.md has no link to {document}"))
        .collect();
    assert_none(&absent);
}

/// The words of a text in which a test reads a document.
fn reads(source: &str, document: &str) -> bool {
    source.lines().any(|line| line.contains(&format!("{document}\"")) && !line.trim_start().starts_with("//"))
}

#[test]
fn every_document_with_commands_to_run_is_run_by_a_test() {
    let mut tests = Vec::new();
    for folder in ["tests/tests/processes", "sim/tests"] {
        rust_files(&root().join(folder), &mut tests);
    }
    let tests: Vec<String> = tests.iter().map(|path| fs::read_to_string(path).expect("a source")).collect();
    let unread: Vec<String> = all()
        .into_iter()
        .filter(|document| document != "ARCHITECTURE.md" && read(document).contains("```bash"))
        .filter(|document| !tests.iter().any(|source| reads(source, document)))
        .map(|document| format!("no test runs the commands of {document}"))
        .collect();
    assert_none(&unread);
    assert!(reads("Guide::read(\"docs/a.md\")", "docs/a.md") && !reads("// \"docs/a.md\"", "docs/a.md"));
}

/// Words that a reader of English as a second language stumbles over, and what to write.
const STUMBLES: &[(&str, &str)] = &[
    ("whoever", "anyone who"),
    ("anew", "again"),
    ("under way", "in progress"),
    ("for ever", "permanently"),
    ("for good", "permanently"),
    ("held against", "compared with, checked against"),
    ("came to nothing", "failed"),
    ("lapse", "expire"),
    ("parted by", "separated by"),
];

/// The stumbling words of a text, each by itself.
fn stumbles(text: &str) -> Vec<String> {
    let words: String =
        text.to_lowercase().chars().map(|char| if char.is_alphanumeric() { char } else { ' ' }).collect();
    let words = format!(" {} ", words.split_whitespace().collect::<Vec<_>>().join(" "));
    let found = STUMBLES.iter().filter(|(word, _)| words.contains(&format!(" {word} ")));
    found.map(|(word, better)| format!("\"{word}\": write \"{better}\"")).collect()
}

#[test]
fn the_documents_and_the_help_are_in_plain_words() {
    let mut texts = all();
    texts.retain(|document| document != "CHANGELOG.md");
    texts.push("cli/tests/snapshots/cli__reference.snap".to_owned());
    let findings: Vec<String> = texts
        .iter()
        .flat_map(|name| stumbles(&read(name)).into_iter().map(move |finding| format!("{name}: {finding}")))
        .collect();
    assert_none(&findings);
    assert_eq!(stumbles("Whoever\ncomes, for\never").len(), 2);
    assert_none(&stumbles("a new forever"));
}

#[test]
fn the_glossary_has_twenty_words() {
    let glossary = read("docs/glossary.md");
    let words: Vec<&str> = glossary.lines().filter(|line| line.starts_with("| **")).collect();
    assert_eq!(words.len(), 20, "{words:#?}");
}

#[test]
fn every_protocol_of_ours_is_documented() {
    let mut files = Vec::new();
    rust_files(&root().join("node/src"), &mut files);
    let (document, mut ids) = (read("docs/protocols.md"), Vec::new());
    for file in files {
        let text = fs::read_to_string(file).expect("a source");
        for line in text.lines().filter(|line| line.contains("PROTOCOL") && line.contains("&str = \"/")) {
            ids.extend(line.split('"').nth(1).map(str::to_owned));
        }
    }
    assert!(ids.len() >= 5, "they were found: {ids:?}");
    let absent = ids.into_iter().filter(|id| !document.contains(&format!("`{id}`")));
    assert_none(&absent.map(|id| format!("docs/protocols.md does not name {id}")).collect::<Vec<_>>());
}

#[test]
fn every_environment_variable_of_the_configuration_is_documented() {
    let (source, document) = (read("node/src/config/env.rs"), read("docs/configuration.md"));
    let constants = source.lines().filter(|line| line.starts_with("pub const ") && line.contains("\"GGEN_"));
    let names: Vec<&str> = constants.filter_map(|line| line.split('"').nth(1)).collect();
    assert!(names.len() >= 9, "they were found: {names:?}");
    let absent = names.into_iter().filter(|name| !document.contains(&format!("`{name}`")));
    assert_none(
        &absent.map(|name| format!("docs/configuration.md does not name {name}")).collect::<Vec<_>>(),
    );
}
