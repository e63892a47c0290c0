//! What must hold of the repository itself: its dependencies, its layers, and the shape of its sources.
//!
//! Every rule is a function from text to findings, run over the repository and, so that it is known to be able to fail,
//! over planted violations.

mod architecture;
mod breakages;
mod documents;
mod gate;
mod lockfile;
mod sources;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the repository").to_owned()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with every finding at once.
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
