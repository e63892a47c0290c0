//! The verbs of `ggen-sim`, one file each, and what they share: how a scenario is named, how an answer and a failure are told.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 7 scenario invalid, 99 a threshold was missed, 100 an invariant was violated, 101
//! something panicked, 102 not deterministic.

mod compare;
mod explore;
mod list;
mod merge;
mod progress;
mod prove;
mod replay;
mod run;
mod shrink;
mod sweep;

use std::{
    fmt::Display,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ggen_sim::{
    children::{self, Children, Job},
    engine::Engine,
    scenario::Scenario,
};
use serde::Serialize;
use serde_json::json;

const FAILED: u8 = 1;
const INVALID: u8 = 7;
const MISSED: u8 = 99;
const NOT_DETERMINISTIC: u8 = 102;

/// Runs the shipped node in simulated worlds: every run is a function of its seed.
#[derive(Debug, Parser)]
#[command(name = "ggen-sim", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How the answer is written to standard output.
    #[arg(long, value_enum, default_value_t = Format::Human, global = true)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a scenario.
    Run(run::Arguments),
    /// Lists the scenarios of a folder, with what they ask.
    List(list::Arguments),
    /// Runs a scenario to a moment, and shows what happened.
    Replay(replay::Arguments),
    /// Runs a scenario in two processes with different environments, and compares them.
    Prove(prove::Arguments),
    /// Runs scenarios with many seeds, as many at once as there are cores, and shows which fail.
    Sweep(sweep::Arguments),
    /// Puts the parts of a sweep together that several machines ran.
    Merge(merge::Arguments),
    /// Holds the metrics of a run against those of another.
    Compare(compare::Arguments),
    /// Draws runs as long as there is time, keeps those that reach something new, and makes those that fail smaller.
    Explore(explore::Arguments),
    /// Makes a failing scenario smaller, as long as it fails in the same way.
    Shrink(shrink::Arguments),
}

/// Which run.
#[derive(Debug, Clone, Args)]
struct Which {
    /// The scenario.
    file: PathBuf,
    /// The number that everything is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The variant of a scenario that has several.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// What runs it, in the place of what the scenario says.
    #[arg(long, value_enum, value_name = "ENGINE")]
    engine: Option<EngineName>,
}

/// How runs are made in processes of their own.
#[derive(Debug, Clone, Args)]
struct Effort {
    /// How many run at once; as many as there are cores where not given.
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
    /// How long one run may take, in real time. What takes longer is killed, and has failed.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10m")]
    timeout: Duration,
}

impl Effort {
    fn children(&self) -> Result<Children, Failure> {
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Children {
            program: std::env::current_exe().map_err(Failure::failed)?,
            at_once: self.jobs.unwrap_or_else(cores),
            timeout: self.timeout,
        })
    }
}

/// See [`Engine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// A runtime a host, moved in ticks.
    Turmoil,
    /// One runtime for all hosts, moved from event to event.
    Fabric,
}

impl From<Engine> for EngineName {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Turmoil => Self::Turmoil,
            Engine::Fabric => Self::Fabric,
        }
    }
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Turmoil => Self::Turmoil,
            EngineName::Fabric => Self::Fabric,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON object.
    Json,
}

/// What ended the command, with its exit code.
struct Failure {
    code: &'static str,
    exit: u8,
    message: String,
    hint: &'static str,
}

impl Failure {
    fn failed(message: impl ToString) -> Self {
        let hint = "Run it again with RUST_BACKTRACE=1.";
        Self { code: "failed", exit: FAILED, message: message.to_string(), hint }
    }

    /// As Rust has it: a panic is always a bug.
    fn panicked(message: impl ToString) -> Self {
        Self { code: "panicked", exit: children::PANICKED, ..Self::failed(message) }
    }

    fn invalid(message: impl ToString) -> Self {
        let hint = "See scenarios/README.md for what may stand in a scenario.";
        Self { code: "config", exit: INVALID, message: message.to_string(), hint }
    }

    fn too_large(message: String) -> Self {
        let hint = "Take fewer nodes, more spokes among them, or a machine with more memory.";
        Self { code: "memory", exit: FAILED, message, hint }
    }

    fn usage(message: impl ToString, hint: &'static str) -> Self {
        Self { code: "usage", exit: 2, message: message.to_string(), hint }
    }
}

impl Which {
    fn scenario(&self) -> Result<Scenario, Failure> {
        Scenario::read_variant(&self.file, self.variant.as_deref()).map_err(Failure::invalid)
    }

    /// The file as a table.
    fn table(&self) -> Result<toml::Table, Failure> {
        Scenario::table(&self.file, self.variant.as_deref()).map_err(Failure::invalid)
    }

    fn job(&self) -> Job {
        let variant = self.variant.clone();
        Job { file: self.file.clone(), seed: self.seed, variant, engine: self.engine() }
    }

    fn engine(&self) -> Option<Engine> {
        self.engine.map(Into::into)
    }
}

/// Refuses files to be written of which the folder is missing, before a long run and not after it.
fn expect_folders<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Failure> {
    for file in files {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let message = format!("{} cannot be written: {} is no folder", file.display(), folder.display());
            return Err(Failure::usage(message, "Make the folder first, or name another file."));
        }
    }
    Ok(())
}

/// Runs the command of this process.
pub(crate) fn main() -> ExitCode {
    let Cli { verb, format } = Cli::parse();
    let done = match verb {
        Verb::Run(arguments) => run::run(&arguments, format),
        Verb::List(arguments) => list::run(&arguments, format),
        Verb::Replay(arguments) => replay::run(&arguments, format),
        Verb::Prove(arguments) => prove::run(&arguments, format),
        Verb::Sweep(arguments) => sweep::run(&arguments, format),
        Verb::Merge(arguments) => merge::run(&arguments, format),
        Verb::Compare(arguments) => compare::run(&arguments, format),
        Verb::Explore(arguments) => explore::run(&arguments, format),
        Verb::Shrink(arguments) => shrink::run(&arguments, format),
    };
    let exit = done.or_else(|failure| fail(&failure, format));
    exit.map_or(ExitCode::from(FAILED), ExitCode::from)
}

/// What the comment at the beginning of a scenario asks, to its first question mark.
fn question(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let header: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    let header = header.join(" ");
    let (question, _) = header.split_once('?')?;
    Some(format!("{question}?"))
}

/// The variants of a scenario; none alone where it has no matrix.
fn variants(file: &Path) -> Result<Vec<Option<String>>, Failure> {
    let names = Scenario::variants(file).map_err(Failure::invalid)?;
    // They stand between brackets, behind the name of the scenario.
    let inner = |name: &str| Some(name.split_once('[')?.1.strip_suffix(']')?.to_owned());
    Ok(names.iter().map(|name| inner(name)).collect())
}

/// The seeds that a scenario is run with where nothing else is asked.
fn seeds(file: &Path) -> Result<Vec<u64>, Failure> {
    Ok(Scenario::read(file).map_err(Failure::invalid)?.seeds)
}

/// Says something beside the answer, on standard error.
fn note(text: &str) {
    // There is nobody left to tell that this failed.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes to standard output. Colours are taken out where nobody sees them, and where `NO_COLOR` says so.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::failed)
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

/// Writes a file, and says which one where that fails.
fn write(path: &Path, content: impl Display) -> Result<(), Failure> {
    fs::write(path, content.to_string())
        .map_err(|error| Failure::failed(format!("{} was not written: {error}", path.display())))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    write(path, format_args!("{text}\n"))
}

/// Says what failed: to people on standard error, to programs as JSON on standard output.
fn fail(failure: &Failure, format: Format) -> io::Result<u8> {
    let Failure { code, exit, message, hint } = failure;
    match format {
        Format::Human => writeln!(io::stderr(), "error: {message}\n{hint}")?,
        Format::Json => {
            let error = json!({
                "error": { "code": code, "message": message, "hint": hint, "retryable": false },
                "exit_code": exit,
            });
            writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&error)?)?;
        }
    }
    Ok(*exit)
}
