//! `ggen-sim shrink`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_sim::{
    children::{Children, Job, PANICKED, Ran},
    draw::Draws,
    report::Invariant,
    shrink::{Candidate, Shrunk, Signature, count, shrink},
};
use serde_json::json;
use tempfile::TempDir;
use toml::Table;

use super::{Effort, Failure, Format, Which, note, print, print_json, write};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Writes the smaller scenario to this file instead of showing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Which invariant must fail again; the worst that fails where not given.
    #[arg(long, value_name = "NAME")]
    expectation: Option<String>,
    /// How many smaller scenarios are tried at most.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    tries: usize,
    #[command(flatten)]
    effort: Effort,
}

/// Runs candidates, and says what becomes of them.
struct Trials<'a> {
    children: Children,
    which: &'a Which,
    folder: TempDir,
    /// What must fail again.
    expectation: String,
    /// In which way.
    signature: Signature,
    /// Whether people read along.
    is_told: bool,
}

/// How a scenario is made smaller.
pub(super) struct Shrinking<'a> {
    /// Which invariant must fail again; the worst that fails where not given.
    pub(super) expectation: Option<&'a str>,
    /// How many smaller scenarios are tried at most.
    pub(super) tries: usize,
    /// How they are run.
    pub(super) effort: &'a Effort,
}

/// A scenario that was made smaller.
pub(super) struct Smaller {
    /// What still fails.
    expectation: String,
    shrunk: Shrunk,
    /// The file.
    pub(super) text: String,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    super::expect_folders(&arguments.out)?;
    let how = Shrinking {
        expectation: arguments.expectation.as_deref(),
        tries: arguments.tries,
        effort: &arguments.effort,
    };
    let smaller = make_smaller(&arguments.which, &how, format)?;
    answer(arguments, format, &smaller)?;
    Ok(0)
}

/// Makes a scenario smaller, and tells people how it goes.
pub(super) fn make_smaller(which: &Which, how: &Shrinking<'_>, format: Format) -> Result<Smaller, Failure> {
    let scenario = which.scenario()?;
    let mut table = which.table()?;
    // What the seed would draw of the faults, it would draw otherwise of fewer.
    scenario.settle(&mut table, Draws::new(which.seed));
    let children = how.effort.children()?;
    let at_once = children.at_once;
    let mut trials = Trials {
        children,
        which,
        folder: TempDir::with_prefix("ggen-sim-shrink-").map_err(Failure::failed)?,
        expectation: String::new(),
        signature: Signature::of(&[]),
        is_told: format == Format::Human,
    };
    let whole = Candidate { table: table.clone(), what: "as it is".to_owned() };
    let ran = trials.run(std::slice::from_ref(&whole))?.remove(0);
    let guilty = guilty(&ran, how.expectation)?;
    trials.expectation.clone_from(&guilty.name);
    trials.signature = Signature::of(&guilty.violations);
    let kept = trials.signature.kept();
    trials.tell(&format!("{}: {:?} fails", size(&table), trials.expectation));
    let shrunk = shrink(table, kept, at_once, how.tries, |some| trials.failing(some))?;
    let text = document(which, &trials.expectation, &shrunk.table)?;
    Ok(Smaller { expectation: trials.expectation, shrunk, text })
}

/// The invariant that must fail again.
fn guilty<'a>(ran: &'a Ran, named: Option<&str>) -> Result<&'a Invariant, Failure> {
    let hint = "Give the seed with which it fails; `ggen-sim sweep` finds one.";
    let Some(report) = &ran.report else {
        let why = ran.error.as_deref().unwrap_or("the run failed");
        return Err(if ran.exit_code == PANICKED { Failure::panicked(why) } else { Failure::failed(why) });
    };
    let failing: Vec<&Invariant> = report.invariants.iter().filter(|invariant| !invariant.holds).collect();
    let code = report.exit_code();
    let worst = failing.iter().find(|invariant| invariant.kind.exit_code() == code);
    let found = match named {
        Some(named) => failing.iter().find(|invariant| invariant.name == named),
        None => worst,
    };
    found.copied().ok_or_else(|| {
        let what =
            named.map_or_else(|| "nothing fails".to_owned(), |named| format!("no invariant {named:?} fails"));
        Failure::usage(format!("{what} with seed {}: there is nothing to shrink", report.seed), hint)
    })
}

impl Trials<'_> {
    /// Runs candidates at once, each in a folder of its own, so that each has the name of the scenario.
    fn run(&self, candidates: &[Candidate]) -> Result<Vec<Ran>, Failure> {
        let name = self.which.file.file_name().unwrap_or_default();
        let mut jobs = Vec::new();
        for (number, candidate) in candidates.iter().enumerate() {
            let folder = self.folder.path().join(number.to_string());
            fs::create_dir_all(&folder).map_err(Failure::failed)?;
            let file = folder.join(name);
            write(&file, &candidate.table)?;
            jobs.push(Job { file, variant: None, seed: self.which.seed, engine: self.which.engine() });
        }
        self.children.run(&jobs, |_| ()).map_err(Failure::failed)
    }

    /// Whether the same rule is broken, and in the same way: that it is broken says little, as a run which shows nothing breaks
    /// some as well.
    fn is_same(&self, ran: &Ran) -> bool {
        let mut invariants = ran.report.iter().flat_map(|report| &report.invariants);
        let broken = invariants.find(|it| !it.holds && it.name == self.expectation);
        broken.is_some_and(|it| self.signature.is_of(&it.violations))
    }

    /// The first that fails in the same way.
    fn failing(&self, candidates: &[Candidate]) -> Result<Option<usize>, Failure> {
        let ran = self.run(candidates)?;
        let found = ran.iter().position(|ran| self.is_same(ran));
        for (number, candidate) in candidates.iter().enumerate() {
            let what = if found == Some(number) {
                format!("fails as well: {}", size(&candidate.table))
            } else if found.is_some() {
                continue;
            } else {
                "does not fail so".to_owned()
            };
            self.tell(&format!("  {}: {what}", candidate.what));
        }
        Ok(found)
    }

    fn tell(&self, text: &str) {
        if self.is_told {
            note(text);
        }
    }
}

/// How large a scenario is.
fn size(table: &Table) -> String {
    let topology = table.get("topology");
    let number = |key: &&str| topology.and_then(|it| it.get(*key)).and_then(toml::Value::as_integer);
    let nodes: i64 = ["nodes", "permanents", "ephemerals"].iter().filter_map(number).sum();
    let nodes = if nodes == 0 { String::new() } else { format!("{nodes} nodes, ") };
    let (faults, adversaries) = (count(table, "faults"), count(table, "adversaries"));
    let adversaries = if adversaries == 0 { String::new() } else { format!("{adversaries} adversaries, ") };
    let duration = table.get("duration").and_then(toml::Value::as_str).unwrap_or("?");
    format!("{nodes}{faults} faults, {adversaries}{} steps, {duration}", count(table, "workload"))
}

/// The smaller scenario as a file.
fn document(which: &Which, expectation: &str, table: &Table) -> Result<String, Failure> {
    let name = which.file.file_name().unwrap_or_default().to_string_lossy();
    let body = toml::to_string(table).map_err(Failure::failed)?;
    let of = which.variant.as_ref().map_or_else(String::new, |variant| format!(" ({variant})"));
    Ok(format!(
        "# Why does {name}{of} with seed {} fail?\n# Made smaller by ggen-sim shrink: {expectation:?} still fails.\n\n{body}",
        which.seed
    ))
}

fn answer(arguments: &Arguments, format: Format, smaller: &Smaller) -> Result<(), Failure> {
    let Smaller { expectation, shrunk, text } = smaller;
    if let Some(out) = &arguments.out {
        write(out, text)?;
    }
    let job = |file: &Path| Job {
        file: file.to_owned(),
        variant: None,
        seed: arguments.which.seed,
        engine: arguments.which.engine(),
    };
    let again = arguments.out.as_deref().map(|out| job(out).command());
    match format {
        Format::Human => {
            note(&format!("left after {} tries: {}", shrunk.tries, size(&shrunk.table)));
            print(&again.map_or_else(|| text.clone(), |again| format!("again: {again}\n")))
        }
        Format::Json => print_json(&json!({
            "schema_version": ggen_sim::report::SCHEMA_VERSION,
            "expectation": expectation,
            "seed": arguments.which.seed,
            "tries": shrunk.tries,
            "scenario": shrunk.table,
            "again": again,
        })),
    }
}
