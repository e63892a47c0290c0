//! `ggen-sim replay`.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Args;
use ggen_sim::{
    report::{Finding, Report},
    trace::Lines,
    world::Options,
};
use serde::Serialize;
use serde_json::json;

use super::{
    Failure, Format, Which, print, print_json,
    run::{Log, simulate},
};

#[derive(Debug, Clone, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Stops at this simulated time, such as `12s`; the end of the scenario where not given.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    until: Option<Duration>,
    /// Leaves out what happened before this simulated time.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "0s")]
    from: Duration,
    /// Shows events of this node only; may be given several times. What the world does is the node `world`.
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// Shows events with this text only.
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Shows what led to the first violation of this rule, such as `catalogue-equals-oracle`: what happened at the node until then,
    /// and what happened to the world, or to the package anywhere.
    #[arg(long, value_name = "RULE", conflicts_with_all = ["until", "from", "node", "grep", "log"])]
    why: Option<String>,
    /// Writes the events to this file, as they are in the trace, instead of showing them.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// What is shown.
#[derive(Debug, Default)]
struct Kept {
    lines: Vec<String>,
    count: usize,
}

/// A line of the trace.
#[derive(Debug, Serialize)]
struct Event<'a> {
    at_nanos: u64,
    node: &'a str,
    what: &'a str,
}

impl<'a> Event<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(3, ' ');
        let at_nanos = parts.next()?.parse().ok()?;
        Some(Self { at_nanos, node: parts.next()?, what: parts.next()? })
    }
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    super::expect_folders(&arguments.log)?;
    arguments.check()?;
    let log = arguments.log.as_deref().map(Log::create).transpose()?;
    // What goes into a file is shown to programs alone.
    let is_kept = log.is_none() || format == Format::Json;
    let kept = Arc::new(Mutex::new(Kept::default()));
    let lines = {
        let (filter, kept) = (arguments.clone(), kept.clone());
        let written = log.as_ref().map(Log::lines);
        Lines::new(move |line| {
            if Event::of(line).is_some_and(|event| filter.shows(&event)) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.count += 1;
                kept.lines.extend(is_kept.then(|| line.to_owned()));
                written.iter().for_each(|written| written.tell(line));
            }
        })
    };
    let options = Options { lines, until: arguments.until, ..Options::default() };
    let finished = simulate(&arguments.which, options)?;
    log.map(Log::finish).transpose()?;
    let Kept { lines, count } = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    let report = &finished.report;
    let mut events: Vec<Event<'_>> = lines.iter().filter_map(|line| Event::of(line)).collect();
    if let Some(rule) = &arguments.why {
        let finding = finding(rule, report)?;
        events.retain(|event| led_to(finding, event));
    }
    match format {
        Format::Human if arguments.log.is_some() => print(&format!(
            "{count} of {} events in {} simulated seconds\n",
            report.events, report.simulated_secs
        ))?,
        Format::Human if arguments.why.is_some() => print(&why(arguments, report, &events)?)?,
        Format::Human => print(&text(&events))?,
        Format::Json => print_json(&json!({
            "schema_version": report.schema_version,
            "scenario": report.scenario,
            "seed": report.seed,
            "simulated_secs": report.simulated_secs,
            "trace_hash": report.trace_hash,
            "finding": arguments.why.as_ref().map(|rule| finding(rule, report)).transpose()?,
            "events": events,
        }))?,
    }
    Ok(0)
}

impl Arguments {
    /// Refuses what would show nothing whatever happened.
    fn check(&self) -> Result<(), Failure> {
        if self.until.is_some_and(|until| until <= self.from) {
            let message = "nothing is left between --from and --until";
            return Err(Failure::usage(message, "--until is the first moment that is not shown any more."));
        }
        let scenario = self.which.scenario()?;
        let mut known: Vec<&str> = scenario.nodes.iter().map(|node| node.name.as_str()).collect();
        known.push("world");
        if let Some(node) = self.node.iter().find(|node| !known.contains(&node.as_str())) {
            let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(node, known));
            let nearest = nearest.copied().unwrap_or_default();
            let message = format!("there is no node `{node}`; did you mean `{nearest}`?");
            return Err(Failure::usage(message, "`--node` takes the names that the scenario gives."));
        }
        Ok(())
    }

    fn shows(&self, event: &Event<'_>) -> bool {
        u128::from(event.at_nanos) >= self.from.as_nanos()
            && (self.node.is_empty() || self.node.iter().any(|node| node == event.node))
            && self.grep.as_ref().is_none_or(|text| event.what.contains(text))
            // What came from whom, byte by byte, says nothing to people, and is most of what happens.
            && (self.why.is_none() || !event.what.starts_with("got "))
    }
}

/// The first violation of a rule.
fn finding<'a>(rule: &str, report: &'a Report) -> Result<&'a Finding, Failure> {
    if let Some(finding) = report.findings.iter().find(|finding| finding.rule == rule) {
        return Ok(finding);
    }
    let Some(known) = report.invariants.iter().find(|invariant| invariant.name == rule) else {
        let names = report.invariants.iter().map(|invariant| invariant.name.as_str());
        let nearest = names.min_by_key(|name| strsim::damerau_levenshtein(rule, name)).unwrap_or_default();
        let message = format!("there is no rule `{rule}`; did you mean `{nearest}`?");
        return Err(Failure::usage(message, "`ggen-sim run` lists the rules."));
    };
    Err(match known.violations.first() {
        None => {
            Failure::usage(format!("`{rule}` holds in this run"), "`ggen-sim run` says which rules do not.")
        }
        Some(violation) => Failure::usage(
            format!("no node and no time belong to what violates `{rule}`: {violation}"),
            "Show events with --from, --until and --node instead.",
        ),
    })
}

/// Whether an event may have led to a violation: it was there before, at the same node, in the world, or with the same package.
fn led_to(finding: &Finding, event: &Event<'_>) -> bool {
    let is_before = finding.at_secs.is_none_or(|at| event.at_nanos as f64 <= at * 1e9);
    let is_of = |package: &String| event.what.contains(package.as_str());
    is_before
        && (event.node == "world"
            || finding.node.as_deref() == Some(event.node)
            || finding.package.as_ref().is_some_and(is_of))
}

/// A violation, and what led to it.
fn why(arguments: &Arguments, report: &Report, events: &[Event<'_>]) -> Result<String, Failure> {
    let rule = arguments.why.as_deref().unwrap_or_default();
    let finding = finding(rule, report)?;
    let told: String = finding.told().map(|line| format!("  {line}\n")).collect();
    Ok(format!("{rule}: {}\n{told}\n{}", finding.what, text(events)))
}

fn text(events: &[Event<'_>]) -> String {
    let width = events.iter().map(|event| event.node.len()).max().unwrap_or(0);
    let line = |event: &Event<'_>| {
        let secs = event.at_nanos as f64 / 1e9;
        format!("{secs:>12.6} s  {:width$}  {}\n", event.node, event.what)
    };
    events.iter().map(line).collect()
}
