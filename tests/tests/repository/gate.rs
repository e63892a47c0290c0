//! The gate, `.ci/run`: in which order it does what it does.

use crate::{read, root};

#[test]
fn the_gate_knows_what_can_be_had_before_it_runs_the_tests_that_need_it() {
    let gate = std::fs::read_to_string(root().join(".ci/run")).expect("the gate");
    let line = |wanted: &str| {
        let found = gate.lines().position(|line| line == wanted);
        found.unwrap_or_else(|| panic!("no line {wanted:?} in .ci/run"))
    };
    assert!(line("        export CI=true") < line("javascript"), "it is a function, called later");
    assert!(line("javascript") < line("section \"all tests\" all_tests"));
}

/// The one command of the README that runs all tests.
fn test_command() -> String {
    let readme = read("README.md");
    let commands: Vec<&str> = readme.lines().filter(|line| line.starts_with("cargo test")).collect();
    let [command] = commands[..] else { panic!("the README has one test command: {commands:?}") };
    command.to_owned()
}

#[test]
fn the_gate_and_the_public_host_run_the_test_command_of_the_readme() {
    let command = test_command();
    assert!(read(".ci/run").contains("README.md"), "the gate reads the command from there");
    let workflow = read(".github/workflows/ci.yml");
    assert!(workflow.lines().any(|line| line.trim() == format!("- run: {command}")), "{command}");
}

#[test]
fn the_public_host_uses_the_oldest_rust_that_the_manifest_names() {
    let manifest = read("Cargo.toml");
    let oldest = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    let workflow = read(".github/workflows/ci.yml");
    assert!(workflow.lines().any(|line| line.trim() == format!("toolchain: {oldest}")), "{oldest}");
    let number = oldest.trim_matches('"');
    for document in ["README.md", "CONTRIBUTING.md"] {
        assert!(read(document).contains(&format!("Rust {number}")), "{document} names Rust {number}");
    }
}
