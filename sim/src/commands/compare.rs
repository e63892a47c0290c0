//! `ggen-sim compare`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_sim::{
    compare::{Change, compare},
    report::{ComparedHtml, Report, number},
    world::Options,
};
use serde_json::json;

use super::{Failure, Format, MISSED, Which, print, print_json, run::simulate, write};

/// Bytes of a report at most.
const REPORT_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A report that `run --json` wrote, to hold the other one against.
    baseline: PathBuf,
    /// Another report, or a scenario, which is run.
    now: PathBuf,
    /// The seed of the scenario; that of the baseline where not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The variant of the scenario; that of the baseline where not given.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Fails where a metric is worse than in the baseline by more than this share of it, such as `10%`.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    at_most_worse: Option<f64>,
    /// Writes a page with both runs side by side.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A share, from text such as `10%`.
fn share(text: &str) -> Result<f64, String> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
    let percent = percent.filter(|it| it.is_finite() && *it >= 0.0);
    percent.map(|percent| percent / 100.0).ok_or_else(|| "write it like 10%".to_owned())
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    super::expect_folders(arguments.html.iter())?;
    let before = read(&arguments.baseline)?;
    let now = if arguments.now.extension().is_some_and(|it| it == "toml") {
        let which = Which {
            file: arguments.now.clone(),
            seed: arguments.seed.unwrap_or(before.seed),
            variant: arguments.variant.clone().or_else(|| before.variant.clone()),
            engine: Some(before.engine.into()),
        };
        simulate(&which, Options::default())?.report
    } else {
        read(&arguments.now)?
    };
    let changes = compare(&before, &now, arguments.at_most_worse);
    let over = changes.iter().filter(|change| change.is_over).count();
    if let Some(path) = &arguments.html {
        write(path, ComparedHtml { before: &before, now: &now, changes: &changes })?;
    }
    match format {
        Format::Human => print(&table(&before, &now, &changes, arguments.at_most_worse))?,
        Format::Json => print_json(&json!({
            "schema_version": now.schema_version,
            "baseline": run_of(&before),
            "now": run_of(&now),
            "at_most_worse": arguments.at_most_worse,
            "over": over,
            "changes": changes,
        }))?,
    }
    Ok(if over == 0 { 0 } else { MISSED })
}

fn read(path: &Path) -> Result<Report, Failure> {
    let refuse = |why: String| Failure {
        hint: "Write one with `ggen-sim run FILE --json REPORT`.",
        ..Failure::invalid(format!("{} is no report: {why}", path.display()))
    };
    let size = fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if size > REPORT_BYTES_MAX {
        return Err(refuse(format!("it has more than {REPORT_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))
}

fn run_of(report: &Report) -> serde_json::Value {
    json!({ "scenario": report.scenario, "variant": report.variant, "seed": report.seed })
}

fn table(before: &Report, now: &Report, changes: &[Change], limit: Option<f64>) -> String {
    let width = changes.iter().map(|change| change.metric.len()).max().unwrap_or(0);
    let named = |report: &Report| format!("{} with seed {}", report.scenario, report.seed);
    let mut text = format!("baseline: {}\nnow:      {}\n\n", named(before), named(now));
    text.push_str(&format!("{:width$}  {:>12}  {:>12}\n", "", "baseline", "now"));
    for change in changes {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let (before, now) = (shown(change.before), shown(change.now));
        let line = format!("{:width$}  {before:>12}  {now:>12}  {}", change.metric, change.told());
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(limit) = limit {
        let over = changes.iter().filter(|change| change.is_over).count();
        let limit = number(limit * 100.0);
        text.push_str(&match over {
            0 => format!("\nnothing is worse by more than {limit} %\n"),
            over => format!("\n{over} of {} metrics are worse by more than {limit} %\n", changes.len()),
        });
    }
    text
}
