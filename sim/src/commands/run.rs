//! `ggen-sim run`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clap::{Args, ValueEnum};
use ggen_sim::{
    leak::Leak,
    memory,
    report::{Html, Junit, Report, Text},
    trace::Lines,
    world::{self, Finished, Options},
};

use super::{Failure, Format, Which, print, print_json, progress::Simulated, question, write, write_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Writes every event of the trace to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Writes the report as one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the invariants as test cases of JUnit.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Writes the report as JSON, which `compare` reads.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Lets the real world in, to see that it is noticed.
    #[arg(long, hide = true, value_enum)]
    leak_on_purpose: Option<Leaking>,
    /// Takes adversaries for honest nodes, to see that what they do is noticed.
    #[arg(long, hide = true)]
    trust_adversaries: bool,
}

/// See [`Leak`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Leaking {
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

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    let Arguments { log, html, junit, json, .. } = arguments;
    super::expect_folders([log, html, junit, json].into_iter().flatten())?;
    arguments.which.scenario()?;
    let log = log.as_deref().map(Log::create).transpose()?;
    let options = Options {
        lines: log.as_ref().map_or_else(Lines::default, Log::lines),
        leak: arguments.leak_on_purpose.map(Leak::from),
        trusts_adversaries: arguments.trust_adversaries,
        ..Options::default()
    };
    let Finished { report, .. } = simulate(&arguments.which, options)?;
    // First what it came to: a file that cannot be written must not keep it back.
    match format {
        Format::Human => print(&Text(&report).to_string())?,
        Format::Json => print_json(&report)?,
    }
    log.map(Log::finish).transpose()?;
    tell(&report, arguments)?;
    Ok(report.exit_code())
}

/// Runs a scenario in this process, with progress on a terminal, and completes the report by what the command knows.
pub(super) fn simulate(which: &Which, mut options: Options) -> Result<Finished, Failure> {
    let scenario = which.scenario()?;
    if let Some(message) = memory::refusal(memory::estimate(&scenario), memory::available()) {
        return Err(Failure::too_large(message));
    }
    let end = options.until.unwrap_or(scenario.duration).min(scenario.duration);
    let progress = Simulated::show(&scenario.name, end);
    options.engine = which.engine();
    options.elapsed_millis = progress.elapsed_millis();
    let finished = world::run(&scenario, which.seed, options);
    drop(progress);
    let mut finished = finished.map_err(|error| match error {
        world::Error::Panicked => Failure::panicked(error),
        world::Error::Engine(_) => Failure::invalid(error),
        other => Failure::failed(other),
    })?;
    finished.report.question = question(&which.file);
    finished.report.again = which.job().command();
    Ok(finished)
}

fn tell(report: &Report, arguments: &Arguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.html {
        write(path, Html(report))?;
    }
    if let Some(path) = &arguments.junit {
        write(path, Junit(std::slice::from_ref(report)))?;
    }
    if let Some(path) = &arguments.json {
        write_json(path, report)?;
    }
    Ok(())
}

/// A file that the lines of a trace are written to as they are made: all of them do not fit into memory.
pub(super) struct Log {
    path: PathBuf,
    written: Arc<Mutex<Written>>,
}

/// The file, and why it is not written any more.
struct Written {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl Log {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| unwritten(path, &error))?;
        let written = Written { file: BufWriter::new(file), failed: None };
        Ok(Self { path: path.to_owned(), written: Arc::new(Mutex::new(written)) })
    }

    /// Takes lines.
    pub(super) fn lines(&self) -> Lines {
        let written = self.written.clone();
        Lines::new(move |line| {
            let Written { file, failed } = &mut *written.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.is_none() {
                *failed = writeln!(file, "{line}").err();
            }
        })
    }

    /// Says whether everything was written.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Written { file, failed } = &mut *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let flushed = failed.take().map_or_else(|| file.flush(), Err);
        flushed.map_err(|error| unwritten(&self.path, &error))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{} was not written: {error}", path.display()))
}
