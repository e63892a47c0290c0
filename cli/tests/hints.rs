//! Every command that a hint, a help text or a document shows exists in the grammar, with its flags.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a command of this program begins with.
const BEGINNINGS: [&str; 2] = ["ggen marketplace p2p ", "ggen p2p "];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, endings, found);
        } else if path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending)) {
            found.push(path);
        }
    }
}

/// The commands of a text, each as far as its line goes on.
fn commands(text: &str) -> Vec<String> {
    // A literal that goes on in the next line of a source file is one line.
    let mut joined = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(open) => joined.push_str(open),
            None => {
                joined.push_str(line);
                joined.push('\n');
            }
        }
    }
    let mut found = Vec::new();
    for line in joined.replace("\\n", "\n").lines() {
        for beginning in BEGINNINGS {
            for (at, _) in line.match_indices(beginning) {
                let rest = &line[at + beginning.len()..];
                let end = rest.find(['`', '"', '|', ';', ')', '#', '&', '>', '\\']).unwrap_or(rest.len());
                // Another command begins where this one is spoken of in the same sentence.
                let end = rest[..end].find("ggen ").unwrap_or(end);
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

/// What is wrong with a command; none where it is right.
fn wrong(grammar: &clap::Command, text: &str) -> Option<String> {
    let mut command = grammar.find_subcommand("p2p").expect("the grammar has it");
    let globals: Vec<String> =
        grammar.get_arguments().filter_map(|it| it.get_long().map(str::to_owned)).collect();
    let mut is_verb = true;
    for word in text.split_whitespace() {
        let bare = word.trim_end_matches(['.', ',', ':', '…', '\'']);
        if let Some(flag) = bare.strip_prefix("--") {
            let flag = flag.split('=').next().unwrap_or_default();
            if flag.is_empty() || flag == "help" || flag.contains(['{', '<']) {
                continue;
            }
            let has = command.get_arguments().any(|it| {
                it.get_long() == Some(flag) || it.get_all_aliases().is_some_and(|all| all.contains(&flag))
            });
            if !has && !globals.iter().any(|global| global == flag) {
                return Some(format!("{text:?}: {} has no flag --{flag}", command.get_name()));
            }
        } else if is_verb {
            let is_word =
                !bare.is_empty() && bare.chars().all(|char| char.is_ascii_lowercase() || char == '-');
            match command.find_subcommand(bare) {
                Some(next) => command = next,
                None if !is_word || bare == "help" => is_verb = false,
                None if command.get_name() == "p2p" => return Some(format!("{text:?}: no verb {bare}")),
                None if command.has_subcommands() => {
                    return Some(format!("{text:?}: {} has no verb {bare}", command.get_name()));
                }
                None => is_verb = false,
            }
        }
        if word.ends_with(['.', ',', ':']) {
            break;
        }
    }
    None
}

#[test]
fn every_command_that_is_shown_exists() {
    let grammar = ggen_cli::command();
    let root = root();
    let mut files = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    for folder in ["node/src", "cli/src"] {
        collect(&root.join(folder), &["rs"], &mut files);
    }
    for folder in ["docs", "examples", "cli/examples"] {
        if root.join(folder).is_dir() {
            collect(&root.join(folder), &["md", "rs", "toml", "sh"], &mut files);
        }
    }
    let (mut seen, mut findings) = (0, Vec::new());
    for file in files {
        let text = fs::read_to_string(&file).expect("a text");
        for command in commands(&text) {
            seen += 1;
            if let Some(finding) = wrong(&grammar, &command) {
                findings.push(format!("{}: {finding}", file.strip_prefix(&root).unwrap_or(&file).display()));
            }
        }
    }
    assert!(seen > 200, "only {seen} commands were found");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let grammar = ggen_cli::command();
    for bad in ["serach x", "search x --tgas y", "key forge", "publish ./x --dry-rnu"] {
        assert!(wrong(&grammar, bad).is_some(), "{bad}");
    }
    for good in [
        "search x --tags y",
        "key new",
        "<verb>",
        "start --listen /ip4/0.0.0.0/tcp/0",
        "status.",
        "{verb}",
        "search \u{27}a b'",
    ] {
        assert_eq!(wrong(&grammar, good), None, "{good}");
    }
    assert_eq!(
        commands("see `ggen p2p logs` and: ggen marketplace p2p key \\\n    list\""),
        ["key     list", "logs"]
    );
}
