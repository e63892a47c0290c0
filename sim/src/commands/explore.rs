//! `ggen-sim explore`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use ggen_sim::{
    children::{Children, Ran},
    corpus::Corpus,
    explore::{Explored, Explorer, Source},
};
use serde_json::json;

use super::{
    Effort, EngineName, Failure, Format, Which, note, print, print_json, progress,
    shrink::{self, Shrinking},
    sweep::keep,
    variants, write_json,
};

/// Where it is written what an exploration came to.
const FILE_NAME: &str = "explored.json";
/// Bytes of that file at most.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Failing runs of one exploration that are made smaller at most: what fails so often fails everywhere.
const SHRUNK_MAX: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The scenarios.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How long, in real time. Runs that are under way then come to their end; there is one at least.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Duration,
    /// The first seed; where not given, the one after the last of the same folder, or one that is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// The folder for what is found; an exploration goes on from what is there.
    #[arg(long, value_name = "FOLDER", default_value = "target/explored")]
    into: PathBuf,
    /// What runs them, in the place of what the scenarios say.
    #[arg(long, value_enum, value_name = "ENGINE")]
    engine: Option<EngineName>,
    #[command(flatten)]
    effort: Effort,
    /// How many smaller scenarios are tried for each run that fails; with 0 it stays as it is.
    #[arg(long, value_name = "COUNT", default_value_t = 60)]
    tries: usize,
    /// The corpus, to which the seeds that fail are added.
    #[arg(long, value_name = "FILE", default_value = "scenarios/corpus.toml")]
    corpus_file: PathBuf,
}

/// What is shared with whoever makes the runs.
fn locked(explorer: &Mutex<Explorer>) -> MutexGuard<'_, Explorer> {
    explorer.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    let Arguments { into, corpus_file, .. } = arguments;
    super::expect_folders([corpus_file])?;
    let sources = sources(arguments)?;
    let mut corpus = Corpus::read(corpus_file).map_err(Failure::invalid)?;
    fs::create_dir_all(into)
        .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", into.display())))?;
    let file = into.join(FILE_NAME);
    let mut explored = read(&file)?;
    let known_failures = explored.failed.len();
    explored.next_seed = match arguments.seed {
        Some(seed) => seed,
        None if explored.runs > 0 => explored.next_seed,
        None => drawn(),
    };
    let first_seed = explored.next_seed;
    let hint = "Name at least one scenario.";
    let explorer =
        Explorer::new(sources, explored).ok_or_else(|| Failure::usage("nothing to explore", hint))?;
    let explorer = Mutex::new(explorer);
    let children = arguments.effort.children()?;
    let ran = explore(arguments, &children, &explorer, &file, format)?;
    if !ran.is_empty() {
        keep(&mut corpus, corpus_file, &ran, format)?;
    }
    shrink_all(arguments, &ran, &explorer, format)?;
    let explorer = locked(&explorer);
    let explored = explorer.explored();
    write_json(&file, explored)?;
    match format {
        Format::Human => print(&text(explored, known_failures, first_seed, &file))?,
        Format::Json => print_json(&json!({
            "schema_version": ggen_sim::report::SCHEMA_VERSION,
            "first_seed": first_seed,
            "explored": explored,
            "never_reached": explored.never(),
        }))?,
    }
    Ok(ran.iter().map(|ran| ran.exit_code).max().unwrap_or(0))
}

/// The first seed, where nobody says it. It is told, so that all that follows can be repeated.
fn drawn() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "outside of every run, and told")]
    rand::random::<u32>().into()
}

/// What is drawn from: every variant of every file.
fn sources(arguments: &Arguments) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    // A shell's `scenarios/*.toml` names the corpus too, which is no scenario.
    for file in arguments.files.iter().filter(|file| !file.ends_with(ggen_sim::corpus::FILE_NAME)) {
        for variant in variants(file)? {
            let engine = arguments.engine.map(Into::into);
            sources.push(Source { file: file.clone(), variant, engine });
        }
    }
    Ok(sources)
}

/// What an earlier exploration came to.
fn read(file: &Path) -> Result<Explored, Failure> {
    let invalid = |what: String| Failure::usage(what, "Name another folder with --into, or remove the file.");
    let length = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Explored::default()),
        Err(error) => return Err(invalid(format!("{} cannot be read: {error}", file.display()))),
    };
    if length > FILE_BYTES_MAX {
        return Err(invalid(format!("{} is larger than {FILE_BYTES_MAX} bytes", file.display())));
    }
    let text =
        fs::read(file).map_err(|error| invalid(format!("{} cannot be read: {error}", file.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| invalid(format!("{} is no exploration: {error}", file.display())))
}

/// Makes runs until the time is over. Yields those that failed. What was found is written as it is found, so that nothing is
/// lost where it is interrupted.
fn explore(
    arguments: &Arguments,
    children: &Children,
    explorer: &Mutex<Explorer>,
    file: &Path,
    format: Format,
) -> Result<Vec<Ran>, Failure> {
    #[expect(clippy::disallowed_methods, reason = "real time, to know when it is over")]
    let began = std::time::Instant::now();
    let is_over = AtomicBool::new(false);
    let is_begun = AtomicBool::new(false);
    let next = || {
        // One run, however little time there is.
        let is_first = !is_begun.swap(true, Ordering::Relaxed);
        let goes_on = began.elapsed() < arguments.time && !is_over.load(Ordering::Relaxed);
        (is_first || goes_on).then(|| locked(explorer).next_job())
    };
    let bar = progress::time(arguments.time);
    let (mut failed, mut unwritten) = (Vec::new(), None);
    let ended = children.run_while(next, |ran| {
        let (new, runs, kept) = {
            let mut explorer = locked(explorer);
            let new = explorer.took(&ran);
            let explored = explorer.explored();
            if (!new.is_empty() || ran.exit_code != 0)
                && let Err(failure) = write_json(file, explored)
            {
                unwritten = Some(failure);
                is_over.store(true, Ordering::Relaxed);
            }
            (new, explored.runs, explored.kept.len())
        };
        if format == Format::Human {
            let markers: Vec<String> =
                new.iter().map(|(marker, count)| format!("{marker} ({count})")).collect();
            if !markers.is_empty() {
                bar.suspend(|| note(&format!("new: {}: {}", ran.job.command(), markers.join(", "))));
            }
            if ran.exit_code != 0 {
                bar.suspend(|| note(&format!("failed: {}", ran.job.command())));
            }
        }
        if ran.exit_code != 0 {
            failed.push(ran);
        }
        bar.set_position(began.elapsed().as_secs());
        bar.set_message(format!("{runs} runs, {kept} kept, {} failed", failed.len()));
    });
    bar.finish_and_clear();
    ended.map_err(Failure::failed)?;
    unwritten.map_or(Ok(failed), Err)
}

/// Makes the scenarios that failed smaller, each in a file of its own.
fn shrink_all(
    arguments: &Arguments,
    failed: &[Ran],
    explorer: &Mutex<Explorer>,
    format: Format,
) -> Result<(), Failure> {
    if arguments.tries == 0 {
        return Ok(());
    }
    for ran in failed.iter().filter(|ran| ran.report.is_some()).take(SHRUNK_MAX) {
        let stem = ran.job.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let out = arguments.into.join(format!("{stem}-{}.toml", ran.job.seed));
        let which = Which {
            file: ran.job.file.clone(),
            seed: ran.job.seed,
            variant: ran.job.variant.clone(),
            engine: ran.job.engine.map(Into::into),
        };
        let how = Shrinking { expectation: None, tries: arguments.tries, effort: &arguments.effort };
        match shrink::make_smaller(&which, &how, format) {
            Ok(smaller) => {
                super::write(&out, smaller.text)?;
                locked(explorer).shrunk(&ran.job.command(), out);
            }
            // A run that takes too long on a busy machine may pass the next time.
            Err(failure) => note(&format!("{} was not made smaller: {}", ran.job.command(), failure.message)),
        }
    }
    Ok(())
}

/// For people.
fn text(explored: &Explored, known_failures: usize, first_seed: u64, file: &Path) -> String {
    use std::fmt::Write as _;
    let Explored { next_seed, runs, run_secs, reached, kept, failed } = explored;
    let mut text = format!(
        "{runs} runs so far ({run_secs:.0} s of them), seeds {first_seed} to {} in this one\n{} markers reached, by {} runs that are kept in {}\n",
        next_seed.wrapping_sub(1),
        reached.len(),
        kept.len(),
        file.display()
    );
    let never: Vec<&str> = explored.never().into_iter().collect();
    if !never.is_empty() {
        let _ = writeln!(text, "never reached: {}", never.join(", "));
    }
    let new = &failed[known_failures.min(failed.len())..];
    if new.is_empty() {
        text.push_str("no run failed\n");
    }
    for run in new {
        let _ = writeln!(text, "failed: {}  ({})", run.again, run.why.join("; "));
        if let Some(smaller) = &run.smaller {
            let _ = writeln!(text, "  made smaller: {}", smaller.display());
        }
    }
    text
}
