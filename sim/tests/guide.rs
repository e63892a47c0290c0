//! The guide to simulations does what it says: its scenario and its commands are run as they stand in docs/simulate.md.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::{fs, path::Path, process::Command};

/// The blocks of a language in the guide, in order.
fn blocks(guide: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let rest = guide.split(&fence).skip(1);
    rest.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_guide_to_simulations_does_what_it_says() {
    let program = Path::new(env!("CARGO_BIN_EXE_ggen-sim"));
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulate.md");
    let guide = fs::read_to_string(guide).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [scenario, routers] = &blocks(&guide, "toml")[..] else { panic!("the guide changed") };
    fs::write(folder.path().join("author-leaves.toml"), scenario).unwrap();
    let behind_routers = format!("engine = \"fabric\"\n{scenario}{routers}");
    fs::write(folder.path().join("behind-routers.toml"), behind_routers).unwrap();
    let listed = Command::new(program).args(["list", "."]).current_dir(folder.path()).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains("behind-routers"), "it makes sense");
    let commands = blocks(&guide, "bash");
    assert_eq!(commands.len(), 3);
    for block in commands {
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &block]).env("PATH", path).current_dir(folder.path());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{block}\n{output:#?}");
        assert!(!output.stdout.is_empty(), "{block}");
    }
}
