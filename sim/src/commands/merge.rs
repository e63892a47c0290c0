//! `ggen-sim merge`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_sim::{
    report::{Summary, SummaryHtml, SummaryText},
    shard,
};

use super::{Failure, Format, print, print_json, write, write_json};

/// Bytes of one part at most.
const PART_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What `sweep --shard I/N --json FILE` wrote, all parts of it.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Writes what came of it as one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes what came of it as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    let Arguments { files, html, json } = arguments;
    super::expect_folders([html, json].into_iter().flatten())?;
    let parts = files.iter().map(|file| Ok((file.display().to_string(), read(file)?)));
    let merged = shard::merge(parts.collect::<Result<_, Failure>>()?).map_err(|error| Failure {
        hint: "Run the part that is named again with `ggen-sim sweep FILE --shard I/N --json PART`, by the same version.",
        ..Failure::invalid(error)
    })?;
    match format {
        Format::Human => print(&SummaryText(&merged).to_string())?,
        Format::Json => print_json(&merged)?,
    }
    if let Some(path) = html {
        write(path, SummaryHtml(&merged))?;
    }
    if let Some(path) = json {
        write_json(path, &merged)?;
    }
    Ok(merged.exit_code())
}

fn read(path: &Path) -> Result<Summary, Failure> {
    let refuse = |why: String| Failure {
        hint: "Its part failed before it wrote anything. Run it again with `ggen-sim sweep FILE --shard I/N --json PART`.",
        ..Failure::invalid(format!("{} is no part of a sweep: {why}", path.display()))
    };
    let size = fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if size > PART_BYTES_MAX {
        return Err(refuse(format!("it has more than {PART_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))
}
