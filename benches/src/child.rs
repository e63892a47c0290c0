//! Runs in processes of their own: a run is repeatable once a process.

use std::{io, path::Path, process::Command};

use serde::de::DeserializeOwned;

use crate::{fanout::Fanout, measure::Measured};

/// Why a child brought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It could not be started.
    #[error("{0}")]
    Start(#[from] io::Error),
    /// It failed; this is what it said.
    #[error("a run in a child process failed: {0}")]
    Failed(String),
    /// What it wrote cannot be read.
    #[error("what a child process wrote cannot be read: {0}")]
    Read(#[from] serde_json::Error),
}

/// Runs `ggen-measure` (as `program`) and reads what it measured.
///
/// # Errors
/// Where it failed.
pub fn measure(program: &Path, nodes: usize, seed: u64, brief: bool) -> Result<Measured, Error> {
    let mut command = Command::new(program);
    command.args(["--nodes", &nodes.to_string(), "--seed", &seed.to_string()]);
    if brief {
        command.arg("--brief");
    }
    read(command)
}

/// Likewise, how soon a fresh node that was told of so many bootstrap nodes finds something.
///
/// # Errors
/// Where it failed.
pub fn fanout(program: &Path, entries: usize, seed: u64) -> Result<Fanout, Error> {
    let mut command = Command::new(program);
    command.args(["--fanout", &entries.to_string(), "--seed", &seed.to_string()]);
    read(command)
}

fn read<T: DeserializeOwned>(mut command: Command) -> Result<T, Error> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(Error::Failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
