//! `ggen-sim sweep`.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_sim::{
    children::{Children, Job, Ran},
    corpus::{self, Corpus, Entry, name_of},
    memory,
    report::{Junit, Summary, SummaryHtml, SummaryText},
    scenario::Scenario,
    shard::{Part, Shard},
};

use super::{
    Effort, EngineName, Failure, Format, note, print, print_json, progress, variants, write, write_json,
};

/// Runs of one sweep at most.
const RUNS_MAX: usize = 100_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The scenarios; none where only the corpus is run.
    #[arg(required_unless_present = "corpus")]
    files: Vec<PathBuf>,
    /// Seeds, such as `1..100` (without the last), `1..=100`, or `7`; those of each scenario where not given.
    #[arg(long, value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Runs this variant only; may be given several times.
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,
    /// Runs only this part of the sweep, such as `1/4`; `merge` puts all of them together.
    #[arg(long, value_name = "I/N", requires = "json")]
    shard: Option<Shard>,
    /// What runs them, in the place of what the scenarios say.
    #[arg(long, value_enum, value_name = "ENGINE")]
    engine: Option<EngineName>,
    #[command(flatten)]
    effort: Effort,
    /// Runs the seeds that failed once before any others.
    #[arg(long)]
    corpus: bool,
    /// Adds the seeds that fail to those.
    #[arg(long)]
    keep: bool,
    /// Where the seeds that failed once are kept.
    #[arg(long, value_name = "FILE", default_value = "scenarios/corpus.toml")]
    corpus_file: PathBuf,
    /// Writes what came of it as one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the invariants of every run as test cases of JUnit.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Writes what came of it as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A range of seeds.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = if let Some((from, to)) = text.split_once("..=") {
        number(from)?..number(to)?.checked_add(1).ok_or("the last seed is too large")?
    } else if let Some((from, to)) = text.split_once("..") {
        number(from)?..number(to)?
    } else {
        let seed = number(text)?;
        seed..seed.checked_add(1).ok_or("the seed is too large")?
    };
    if range.is_empty() { Err("there is no seed in this range".to_owned()) } else { Ok(range) }
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    let path = &arguments.corpus_file;
    let Arguments { html, junit, json, .. } = arguments;
    let kept = arguments.keep.then_some(path);
    super::expect_folders([html, junit, json].into_iter().flatten().chain(kept))?;
    if arguments.corpus && !arguments.keep && !path.exists() {
        let message = format!("there is no corpus {}", path.display());
        return Err(Failure::usage(message, "Name it with --corpus-file, or leave --corpus out."));
    }
    let mut corpus = Corpus::read(path).map_err(Failure::invalid)?;
    let mut jobs = jobs(arguments, &corpus)?;
    let part = arguments.shard.map(|shard| part(shard, &jobs)).transpose()?;
    if let Some(shard) = arguments.shard {
        jobs = shard.of(jobs);
    }
    let mut children = arguments.effort.children()?;
    let fit = memory::at_once(children.at_once, largest(&jobs), memory::available());
    if fit < children.at_once && format == Format::Human {
        note(&format!("{fit} at once, not {}: more do not fit into memory", children.at_once));
    }
    children.at_once = fit;
    let so_far = json.as_deref().map(unfinished);
    let ran = run_all(&children, &jobs, so_far.as_deref(), format)?;
    let summary = Summary { part, ..Summary::of(&ran) };
    match format {
        Format::Human => print(&SummaryText(&summary).to_string())?,
        Format::Json => print_json(&summary)?,
    }
    if arguments.keep {
        keep(&mut corpus, path, &ran, format)?;
    }
    tell(arguments, &summary, &ran)?;
    if let Some(so_far) = so_far {
        // There is none where nothing ran.
        let _ = std::fs::remove_file(so_far);
    }
    Ok(summary.exit_code())
}

/// Where the runs that are over are written, as long as others are not: whoever ends a sweep of a night keeps what it found.
fn unfinished(json: &Path) -> PathBuf {
    let mut name = json.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// What the largest of the runs takes; whatever cannot be read is told by its own run.
fn largest(jobs: &[Job]) -> u64 {
    let scenarios: BTreeSet<(&PathBuf, &Option<String>)> =
        jobs.iter().map(|job| (&job.file, &job.variant)).collect();
    let read =
        |(file, variant): (&PathBuf, &Option<String>)| Scenario::read_variant(file, variant.as_deref()).ok();
    scenarios.into_iter().filter_map(read).map(|it| memory::estimate(&it)).max().unwrap_or(0)
}

/// Which part of the sweep this is, with what the scenarios say.
fn part(shard: Shard, jobs: &[Job]) -> Result<Part, Failure> {
    let files: BTreeSet<(&PathBuf, &Option<String>)> =
        jobs.iter().map(|job| (&job.file, &job.variant)).collect();
    // As they are read, with what they extend.
    let texts = files.into_iter().map(|(file, variant)| {
        let table = Scenario::table(file, variant.as_deref()).map_err(Failure::invalid)?;
        toml::to_string(&table).map_err(Failure::failed)
    });
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    Ok(Part::new(shard, jobs, texts.iter().map(String::as_bytes)))
}

/// The runs, each once: those of the corpus first.
fn jobs(arguments: &Arguments, corpus: &Corpus) -> Result<Vec<Job>, Failure> {
    let mut jobs = if arguments.corpus { corpus.jobs(&arguments.corpus_file) } else { Vec::new() };
    // A shell's `scenarios/*.toml` names the corpus too, which is no scenario.
    let scenarios = arguments.files.iter().filter(|file| !file.ends_with(corpus::FILE_NAME));
    for file in scenarios {
        let variants: Vec<Option<String>> = variants(file)?
            .into_iter()
            .filter(|variant| {
                arguments.variant.is_empty()
                    || variant.as_ref().is_some_and(|it| arguments.variant.contains(it))
            })
            .collect();
        if variants.is_empty() {
            let message = format!("{} has no variant of that name", file.display());
            return Err(Failure::usage(message, "`ggen-sim list` shows the variants."));
        }
        let seeds =
            arguments.seeds.clone().map_or_else(|| super::seeds(file), |seeds| Ok(seeds.collect()))?;
        for variant in variants {
            jobs.extend(seeds.iter().map(|seed| Job {
                file: file.clone(),
                variant: variant.clone(),
                seed: *seed,
                engine: arguments.engine.map(Into::into),
            }));
        }
    }
    let mut seen = BTreeSet::new();
    jobs.retain(|job| seen.insert(job.clone()));
    if jobs.len() > RUNS_MAX {
        let message = format!("{} runs are more than {RUNS_MAX}", jobs.len());
        return Err(Failure::usage(message, "Give fewer seeds."));
    }
    Ok(jobs)
}

/// Runs everything; says on a terminal how far it is, at once what failed, and in a file what ran so far.
fn run_all(
    children: &Children,
    jobs: &[Job],
    so_far: Option<&Path>,
    format: Format,
) -> Result<Vec<Ran>, Failure> {
    let bar = progress::runs(jobs.len());
    let (mut failed, mut over, mut written, mut due) = (0, Vec::new(), Ok(()), 1);
    bar.set_message("none failed");
    let ran = children.run(jobs, |ran| {
        if let Some(so_far) = so_far.filter(|_| written.is_ok()) {
            over.push(ran.clone());
            // Not each time: it is the whole file that is written.
            if over.len() >= due {
                written = write_json(so_far, &Summary::of(&over));
                due = over.len() + over.len() / 8 + 1;
            }
        }
        if ran.exit_code != 0 {
            failed += 1;
            bar.set_message(format!("{failed} failed"));
            if format == Format::Human {
                bar.suspend(|| note(&format!("failed: {}", ran.job.command())));
            }
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    written?;
    ran.map_err(Failure::failed)
}

/// Adds what failed to the corpus.
pub(super) fn keep(corpus: &mut Corpus, path: &Path, ran: &[Ran], format: Format) -> Result<(), Failure> {
    let mut added = 0;
    for ran in ran.iter().filter(|ran| ran.exit_code != 0) {
        let scenario = name_of(&ran.job.file, path)
            .map_err(|error| Failure::failed(format!("{}: {error}", ran.job.file.display())))?;
        let mut expectations = ran.failing();
        if expectations.is_empty() {
            expectations.push("the run comes to its end".to_owned());
        }
        for expectation in expectations {
            let (variant, seed) = (ran.job.variant.clone(), ran.job.seed);
            let entry = Entry { scenario: scenario.clone(), variant, seed, expectation };
            added += usize::from(corpus.add(entry));
        }
    }
    if added > 0 {
        corpus.write(path).map_err(Failure::failed)?;
        if format == Format::Human {
            note(&format!("{added} added to {}", path.display()));
        }
    }
    Ok(())
}

fn tell(arguments: &Arguments, summary: &Summary, ran: &[Ran]) -> Result<(), Failure> {
    if let Some(path) = &arguments.html {
        write(path, SummaryHtml(summary))?;
    }
    if let Some(path) = &arguments.junit {
        write(path, Junit(ran))?;
    }
    if let Some(path) = &arguments.json {
        write_json(path, summary)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_seeds_is_written_as_in_rust() {
        assert_eq!(seeds("3..6"), Ok(3..6));
        assert_eq!(seeds("3..=6"), Ok(3..7));
        assert_eq!(seeds("7"), Ok(7..8));
        for text in ["6..3", "3..3", "a", "1..b", "-1..2", "", "..", "18446744073709551615"] {
            assert!(seeds(text).is_err(), "{text}");
        }
    }
}
