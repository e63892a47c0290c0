//! What would let the real world into a simulation, looked for in the sources.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Words of SQL whose value is the database's own entropy or clock.
fn leaks(text: &str) -> Vec<&'static str> {
    const WORDS: &[&str] = &[
        "random()",
        "randomblob(",
        "'now'",
        "current_timestamp",
        "current_time",
        "current_date",
        "julianday(",
    ];
    let text = text.to_lowercase();
    WORDS.iter().copied().filter(|word| text.contains(*word)).collect()
}

#[test]
fn unsafe_code_is_in_one_folder() {
    let folders = ["sim/src", "sim/harness/src", "sim/harness/examples"].map(|folder| root().join(folder));
    let files: Vec<_> = folders.iter().flat_map(|folder| sources(folder)).collect();
    let holding: Vec<_> = files
        .iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains(concat!("uns", "afe {")))
        .collect();
    let folder = root().join("sim/harness/src/virtualise");
    let elsewhere: Vec<_> = holding.iter().filter(|path| !path.starts_with(&folder)).collect();
    assert!(elsewhere.is_empty() && !holding.is_empty(), "{elsewhere:?}");
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for file in sources(&root().join("sim/harness/src/virtualise")) {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let place = format!("{}:{}: {line}", file.display(), at + 1);
            let above = &lines[at.saturating_sub(4)..at];
            if line.contains("unsafe {") {
                assert!(above.iter().any(|line| line.contains("// SAFETY: ")), "{place}");
            }
            if line.contains("unsafe extern") || line.contains("unsafe fn") {
                assert!(above.iter().any(|line| line.contains("# Safety")), "{place}");
            }
        }
    }
}

#[test]
fn no_statement_asks_the_database_for_entropy_or_time() {
    for path in sources(&root().join("node/src")) {
        // `PeerId::random()` and the like are no SQL.
        let text = fs::read_to_string(&path).unwrap().replace("::random()", "");
        let text =
            text.lines().filter(|line| line.contains('"') || line.contains("SELECT")).collect::<String>();
        assert_eq!(leaks(&text), [""; 0], "{}", path.display());
    }
    assert_eq!(leaks("SELECT random(), DateTime('now')"), ["random()", "'now'"]);
}

#[test]
fn the_name_of_this_crate_is_in_a_program_that_links_it() {
    // The test of the package `ggen-tests` that `ggen` does not bear it rests on this.
    let program = fs::read(env!("CARGO_BIN_EXE_ggen-sim")).unwrap();
    assert!(program.windows(8).any(|bytes| bytes == b"ggen_sim"));
}
