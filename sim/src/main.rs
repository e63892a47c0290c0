//! The command `ggen-sim`.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 7 scenario invalid, 99 a threshold was missed, 100 something happened
//! that never may, 101 something did not happen in time, 102 not deterministic.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ggen_sim::{
    judge,
    leak::Leak,
    prove::{self, Proof},
    scenario::Scenario,
    world::{self, Options},
};
use serde::Serialize;
use serde_json::json;

const FAILED: u8 = 1;
const INVALID: u8 = 7;
const NOT_DETERMINISTIC: u8 = 102;

/// Runs the shipped node in simulated worlds: every run is a function of its seed.
#[derive(Debug, Parser)]
#[command(name = "ggen-sim", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a scenario.
    Run {
        #[command(flatten)]
        what: What,
        /// Writes every event of the trace to this file.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
    /// Runs a scenario in two processes with different environments, and compares them.
    Prove {
        #[command(flatten)]
        what: What,
    },
}

#[derive(Debug, Args)]
struct What {
    /// The scenario.
    file: PathBuf,
    /// Which variant of its matrix; the first where none is named.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// The number that everything is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the result is written to standard output.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Lets the real world in, to see that it is noticed.
    #[arg(long, hide = true, value_enum)]
    leak_on_purpose: Option<Leaking>,
    /// Takes adversaries for honest nodes, to see that what they do is noticed.
    #[arg(long, hide = true)]
    trust_adversaries: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Leaking {
    /// A real clock.
    Clock,
    /// The order of an unseeded map.
    Map,
    /// The progress of another thread.
    Thread,
}

impl From<Leaking> for Leak {
    fn from(leaking: Leaking) -> Self {
        match leaking {
            Leaking::Clock => Self::Clock,
            Leaking::Map => Self::Map,
            Leaking::Thread => Self::Thread,
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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = match &cli.verb {
        Verb::Run { what, .. } | Verb::Prove { what } => what.format,
    };
    let done = match cli.verb {
        Verb::Run { what, log } => run(&what, log.as_deref()),
        Verb::Prove { what } => prove(&what),
    };
    let exit = done.or_else(|failure| fail(&failure, format));
    exit.map_or(ExitCode::from(FAILED), ExitCode::from)
}

fn read(what: &What) -> Result<Scenario, Failure> {
    let hint = "See scenarios/README.md for what may stand in a scenario.";
    Scenario::read_variant(&what.file, what.variant.as_deref()).map_err(|error| Failure {
        code: "config",
        exit: INVALID,
        message: error.to_string(),
        hint,
    })
}

fn run(what: &What, log: Option<&Path>) -> Result<u8, Failure> {
    let scenario = read(what)?;
    let options = Options {
        keep_lines: log.is_some(),
        leak: what.leak_on_purpose.map(Leak::from),
        trusts_adversaries: what.trust_adversaries,
    };
    let finished = world::run(&scenario, what.seed, options).map_err(Failure::failed)?;
    if let Some(path) = log {
        write_lines(path, &finished.lines)
            .map_err(|error| Failure::failed(format!("{} was not written: {error}", path.display())))?;
    }
    let report = finished.report;
    match what.format {
        Format::Human => print(&report.to_string()),
        Format::Json => print_json(&report),
    }
    .map_err(Failure::failed)?;
    Ok(judge::exit_code(&report.invariants))
}

fn write_lines(path: &Path, lines: &[String]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.flush()
}

fn prove(what: &What) -> Result<u8, Failure> {
    // A scenario that is invalid is so in both processes: it is said once.
    read(what)?;
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(leaking) = what.leak_on_purpose.and_then(|it| it.to_possible_value()) {
        arguments.extend(["--leak-on-purpose".into(), leaking.get_name().into()]);
    }
    if let Some(variant) = &what.variant {
        arguments.extend(["--variant".into(), variant.into()]);
    }
    let proof = prove::prove(&program, &what.file, what.seed, &arguments).map_err(Failure::failed)?;
    match what.format {
        Format::Human => print(&describe(&proof)),
        Format::Json => print_json(&proof),
    }
    .map_err(Failure::failed)?;
    Ok(if proof.is_deterministic { 0 } else { NOT_DETERMINISTIC })
}

fn describe(proof: &Proof) -> String {
    let [one, other] = &proof.trace_hashes;
    if proof.is_deterministic {
        let Proof { seed, events, .. } = proof;
        return format!("the same in two processes: seed {seed}, {events} events, trace {one}\n");
    }
    let mut text = format!("NOT the same in two processes with seed {}:\n  {one}\n  {other}\n", proof.seed);
    if let Some(difference) = &proof.first_difference {
        text.push_str(&format!("the first event that differs is number {}:\n", difference.event));
        for line in &difference.lines {
            text.push_str(&format!("  {}\n", line.as_deref().unwrap_or("(none: the trace has ended)")));
        }
    }
    text
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Says what failed: to people on standard error, to programs as JSON on standard output.
fn fail(failure: &Failure, format: Format) -> io::Result<u8> {
    let Failure { code, exit, message, hint } = failure;
    match format {
        Format::Human => writeln!(io::stderr(), "error: {message}\n{hint}")?,
        Format::Json => print_json(&json!({
            "error": { "code": code, "message": message, "hint": hint, "retryable": false },
            "exit_code": exit,
        }))?,
    }
    Ok(*exit)
}
