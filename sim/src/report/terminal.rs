//! A report as text, for people. It carries colours; whoever prints it where there are none takes them out.

use std::fmt::{self, Display, Formatter};

use anstyle::{AnsiColor, Style};

use super::{Finding, Invariant, Outcome, Report, Verdict, quantile};

/// Violations of one invariant that are shown; the rest is in the other forms.
const VIOLATIONS_MAX: usize = 12;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEADING: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// Shows a report.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a Report);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        heading(f, report)?;
        findings(f, &report.findings)?;
        invariants(f, &report.invariants)?;
        faults(f, report)?;
        steps(f, report)?;
        distributions(f, report)?;
        metrics(f, report)?;
        if report.verdict == Verdict::Fail && !report.again.is_empty() {
            writeln!(f, "\nagain: {}", report.again)?;
        }
        Ok(())
    }
}

fn heading(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let (style, verdict) = match report.verdict {
        Verdict::Pass => (GOOD, "PASS"),
        Verdict::Fail => (BAD, "FAIL"),
    };
    let variant = report.variant.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
    writeln!(f, "{style}{verdict}{style:#}  {}{variant} with seed {}", report.scenario, report.seed)?;
    if let Some(question) = &report.question {
        writeln!(f, "      {FAINT}{question}{FAINT:#}")?;
    }
    let speed = report.simulated_secs / report.wall_secs.max(f64::EPSILON);
    writeln!(
        f,
        "      {} nodes at {} sites, {} simulated seconds in {:.1} s ({speed:.1} a second)",
        report.nodes, report.sites, report.simulated_secs, report.wall_secs
    )?;
    writeln!(f, "      trace {} over {} events", report.trace_hash, report.events)
}

fn title(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    writeln!(f, "\n{HEADING}{text}{HEADING:#}")
}

/// The first violation of each rule, with what led to it.
fn findings(f: &mut Formatter<'_>, findings: &[Finding]) -> fmt::Result {
    if findings.is_empty() {
        return Ok(());
    }
    title(f, "what went wrong")?;
    let mut told: Vec<&str> = Vec::new();
    for finding in findings {
        if told.contains(&finding.rule.as_str()) {
            continue;
        }
        told.push(&finding.rule);
        writeln!(f, "  {BAD}{}{BAD:#}  {}", finding.rule, finding.what)?;
        for line in finding.told() {
            writeln!(f, "      {line}")?;
        }
        for moment in finding.before() {
            writeln!(f, "      {FAINT}{moment}{FAINT:#}")?;
        }
    }
    Ok(())
}

fn invariants(f: &mut Formatter<'_>, invariants: &[Invariant]) -> fmt::Result {
    title(f, "invariants")?;
    for Invariant { name, holds, violations, .. } in invariants {
        let (style, word) = if *holds { (GOOD, "holds") } else { (BAD, "VIOLATED") };
        writeln!(f, "  {style}{word:8}{style:#}  {name}")?;
        for violation in violations.iter().take(VIOLATIONS_MAX) {
            writeln!(f, "            {violation}")?;
        }
        if let Some(more @ 1..) = violations.len().checked_sub(VIOLATIONS_MAX) {
            writeln!(f, "            and {more} more, which --format json shows")?;
        }
    }
    Ok(())
}

fn faults(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.faults.is_empty() {
        return Ok(());
    }
    title(f, "faults")?;
    let width = report.faults.iter().map(|fault| fault.kind.len()).max().unwrap_or(0);
    for fault in &report.faults {
        let when = format!("{} s to {} s", fault.from_secs, fault.until_secs);
        let nodes = match fault.nodes.len() {
            0 => String::new(),
            1 => "1 node".to_owned(),
            count => format!("{count} nodes"),
        };
        let (style, bites) = match fault.bites {
            0 => (BAD, "never bit".to_owned()),
            1 => (Style::new(), "bit once".to_owned()),
            bites => (Style::new(), format!("bit {bites} times")),
        };
        writeln!(f, "  {:width$}  {when:>18}  {nodes:>9}  {style}{bites}{style:#}", fault.kind)?;
    }
    Ok(())
}

/// What users did is counted; what failed is shown.
fn steps(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.steps.is_empty() {
        return Ok(());
    }
    title(f, "steps")?;
    let count = |outcome| report.steps.iter().filter(|step| step.outcome == outcome).count();
    let kinds = [
        (Outcome::Succeeded, "succeeded"),
        (Outcome::Tolerated, "failed, as they may"),
        (Outcome::Failed, "failed"),
        (Outcome::Unfinished, "did not end"),
    ];
    let counted = kinds.into_iter().filter(|(outcome, _)| count(*outcome) > 0);
    let counted: Vec<String> = counted.map(|(outcome, word)| format!("{} {word}", count(outcome))).collect();
    writeln!(f, "  {} in all: {}", report.steps.len(), counted.join(", "))
}

fn distributions(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.distributions.is_empty() {
        return Ok(());
    }
    title(f, "distributions")?;
    let width = report.distributions.keys().map(String::len).max().unwrap_or(0);
    writeln!(
        f,
        "  {FAINT}{:width$}  {:>8}  {:>10}  {:>10}  {:>10}  {:>10}{FAINT:#}",
        "", "samples", "p50", "p90", "p99", "max"
    )?;
    for (name, samples) in &report.distributions {
        let at = |q| quantile(samples, q).map_or_else(String::new, number);
        let (count, [p50, p90, p99, max]) = (samples.len(), [0.5, 0.9, 0.99, 1.0].map(at));
        writeln!(f, "  {name:width$}  {count:>8}  {p50:>10}  {p90:>10}  {p99:>10}  {max:>10}")?;
    }
    Ok(())
}

/// The quantiles are left out: they stand above.
fn metrics(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let is_quantile = |name: &str| {
        let base = name.rsplit_once("_p").map(|(base, _)| base);
        base.is_some_and(|base| report.distributions.contains_key(base))
    };
    let metrics: Vec<(&String, &f64)> =
        report.metrics.iter().filter(|(name, _)| !is_quantile(name)).collect();
    if metrics.is_empty() {
        return Ok(());
    }
    title(f, "metrics")?;
    let width = metrics.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in metrics {
        writeln!(f, "  {name:width$}  {:>12}", number(*value))?;
    }
    Ok(())
}

/// Whether a metric is a quantile of one of the report's distributions.
pub(super) fn is_quantile(report: &Report, metric: &str) -> bool {
    let base = metric.rsplit_once("_p").map(|(base, _)| base);
    base.is_some_and(|base| report.distributions.contains_key(base))
}

/// A number as people read it: whole where it is, with three places at most.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_report_reads_well_without_colours() {
        let text = Text(&report()).to_string();
        assert!(text.contains("\u{1b}["), "there are colours to take out");
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string());
    }

    #[test]
    fn numbers_have_no_needless_places() {
        for (value, text) in [(0.0, "0"), (12.0, "12"), (0.5, "0.5"), (1.2346, "1.235"), (100.0, "100")] {
            assert_eq!(number(value), text);
        }
    }
}
