//! Whether a run is a function of its seed: the same scenario in two processes, in different surroundings.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{children::PANICKED, trace::Checkpoint};

/// What two runs showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The seed.
    pub seed: u64,
    /// Whether the two traces are the same.
    pub is_deterministic: bool,
    /// The hash of each.
    pub trace_hashes: [String; 2],
    /// Events of the first.
    pub events: u64,
    /// The verdict of each.
    pub verdicts: [String; 2],
    /// The last checkpoint in which they agree; none where they differ before the first.
    pub agreed: Option<Checkpoint>,
    /// Where they part.
    pub first_difference: Option<Difference>,
}

/// The first event in which two traces differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its number, from one.
    pub event: u64,
    /// The event in each trace; none where that trace has ended before.
    pub lines: [Option<String>; 2],
}

/// Why nothing was proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A child could not be started, or its trace not read.
    #[error("a run in a child process came to nothing: {0}")]
    Child(#[from] io::Error),
    /// A child failed before it had a report.
    #[error("a run in a child process failed:\n{0}")]
    Failed(String),
    /// A child panicked.
    #[error("a run in a child process panicked:\n{0}")]
    Panicked(String),
    /// A child's report could not be read.
    #[error("the report of a child process cannot be read: {0}")]
    Report(#[from] serde_json::Error),
}

/// Runs `ggen-sim run` twice, as `program` with `arguments`, and compares.
///
/// # Errors
/// Where one of the two has no report. That they differ is no error.
pub fn prove(program: &Path, scenario: &Path, seed: u64, arguments: &[OsString]) -> Result<Proof, Error> {
    let scenario = scenario.canonicalize()?;
    let folder = TempDir::with_prefix("ggen-sim-prove-")?;
    let run = |n: usize| child(program, &scenario, seed, arguments, folder.path(), n);
    let (first, second) = (run(0)?, run(1)?);
    let is_deterministic = first.hash == second.hash;
    let agreed = agreed(&first.checkpoints, &second.checkpoints);
    let skipped = agreed.as_ref().map_or(0, |checkpoint| checkpoint.events);
    let first_difference = if is_deterministic { None } else { differ(&first.log, &second.log, skipped)? };
    Ok(Proof {
        seed,
        is_deterministic,
        events: first.events,
        trace_hashes: [first.hash, second.hash],
        verdicts: [first.verdict, second.verdict],
        agreed,
        first_difference,
    })
}

struct Run {
    hash: String,
    verdict: String,
    events: u64,
    checkpoints: Vec<Checkpoint>,
    log: PathBuf,
}

/// One run. The second one has another folder to work in, another environment, and another place for temporary files.
fn child(
    program: &Path,
    scenario: &Path,
    seed: u64,
    arguments: &[OsString],
    folder: &Path,
    n: usize,
) -> Result<Run, Error> {
    let log = folder.join(format!("{n}.log"));
    let mut command = Command::new(program);
    command.arg("run").arg(scenario).arg("--seed").arg(seed.to_string());
    command.args(["--format", "json", "--log"]).arg(&log).args(arguments).stdin(Stdio::null());
    if n > 0 {
        let elsewhere = folder.join("another folder with a long name").join("for temporary files");
        std::fs::create_dir_all(&elsewhere)?;
        command.current_dir(&elsewhere).env_clear();
        command.env("TMPDIR", &elsewhere).env("TZ", "Pacific/Chatham").env("HOME", &elsewhere);
        command.envs((0..50).map(|n| (format!("GGEN_SIM_NOISE_{n}"), "x".repeat(n))));
    }
    let output = command.output()?;
    if output.status.code() == Some(PANICKED.into()) {
        return Err(Error::Panicked(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let report: Value = match serde_json::from_slice(&output.stdout) {
        Ok(report) => report,
        Err(_) if output.stdout.is_empty() => {
            return Err(Error::Failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let (hash, verdict) = (text("trace_hash"), text("verdict"));
    if hash.is_empty() {
        return Err(Error::Failed(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let checkpoints = serde_json::from_value(report["checkpoints"].clone())?;
    Ok(Run { hash, verdict, events: report["events"].as_u64().unwrap_or(0), checkpoints, log })
}

/// The last checkpoint of two traces before any in which they differ.
fn agreed(one: &[Checkpoint], other: &[Checkpoint]) -> Option<Checkpoint> {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other);
    same.last().map(|(checkpoint, _)| checkpoint.clone())
}

/// The first line in which two files differ, behind those that are known not to.
fn differ(one: &Path, other: &Path, skipped: u64) -> io::Result<Option<Difference>> {
    let (mut one, mut other) =
        (BufReader::new(File::open(one)?).lines(), BufReader::new(File::open(other)?).lines());
    for _ in 0..skipped {
        one.next().transpose()?;
        other.next().transpose()?;
    }
    for event in skipped + 1.. {
        let lines = [one.next().transpose()?, other.next().transpose()?];
        if lines[0] != lines[1] {
            return Ok(Some(Difference { event, lines }));
        }
        if lines[0].is_none() {
            break;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_search_begins_behind_the_last_checkpoint_that_agrees() {
        let checkpoint = |events, hash: &str| Checkpoint { events, at_nanos: events, hash: hash.to_owned() };
        let one = [checkpoint(1_000, "a"), checkpoint(2_000, "b"), checkpoint(3_000, "c")];
        let other = [checkpoint(1_000, "a"), checkpoint(2_000, "x"), checkpoint(3_000, "c")];
        assert_eq!(agreed(&one, &other), Some(checkpoint(1_000, "a")));
        assert_eq!(agreed(&one[1..], &other[1..]), None);
    }

    #[test]
    fn the_first_line_that_differs_has_its_number_in_the_whole_trace() {
        let folder = TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (one, other) = (file("one", "a\nb\nc\n"), file("other", "a\nb\nx\n"));
        for skipped in 0..3 {
            let found = differ(&one, &other, skipped).unwrap().unwrap();
            assert_eq!((found.event, found.lines[1].as_deref()), (3, Some("x")));
        }
        let short = file("short", "a\nb\n");
        assert_eq!(differ(&one, &short, 0).unwrap().unwrap().lines[1], None);
        assert_eq!(differ(&one, &one, 0).unwrap(), None);
    }
}
