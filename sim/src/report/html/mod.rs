//! A report as one HTML file that needs nothing else: no network, no scripts, light and dark.
//!
//! Colours never speak alone: marks differ in form, faults in their stripes, verdicts in their words.

mod axis;
mod compared;
mod distribution;
mod summary;
mod timeline;
mod topology;

use std::fmt::{self, Display, Formatter, Write};

pub use compared::ComparedHtml;
pub use summary::SummaryHtml;

use super::{
    FaultReport, Finding, Invariant, Outcome, Report, Verdict, junit::escaped, number, shortened,
    terminal::is_quantile,
};
use crate::judge::Kind;

const STYLE: &str = include_str!("style.css");
/// Colours that differ from one another.
const HUES: usize = 8;
/// Violations of one invariant that are shown without asking.
const VIOLATIONS_SHOWN: usize = 5;
/// Violations, and steps, that are shown at all.
const LINES_MAX: usize = 1_000;

/// The colour of the `index`th thing of its kind.
fn hue(index: usize) -> usize {
    index % HUES
}

/// Shows a report.
#[derive(Debug, Clone, Copy)]
pub struct Html<'a>(pub &'a Report);

impl Display for Html<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let mut out = String::new();
        header(&mut out, report);
        if !report.findings.is_empty() {
            section(&mut out, "What went wrong", |out| findings(out, &report.findings));
        }
        section(&mut out, "What had to hold", |out| invariants(out, &report.invariants));
        if !report.members.is_empty() {
            section(&mut out, "Nodes over time", |out| {
                timeline::timeline(out, report, "", report.simulated_secs)
            });
        }
        if !report.faults.is_empty() {
            section(&mut out, "Faults", |out| faults(out, &report.faults));
        }
        if report.distributions.values().any(|samples| !samples.is_empty()) {
            section(&mut out, "Distributions", |out| {
                out.push_str("<p class=\"note\">Each curve is the share of samples that are at most the value below it.</p>");
                distribution::distributions(out, report);
            });
        }
        section(&mut out, "Metrics", |out| metrics(out, report));
        if !report.members.is_empty() {
            section(&mut out, "Connections at the end", |out| topology::topology(out, report));
        }
        if !report.steps.is_empty() {
            section(&mut out, "Steps", |out| steps(out, report));
        }
        page(f, &format!("{} with seed {}", report.scenario, report.seed), &out)
    }
}

/// The file around `body`.
fn page(f: &mut Formatter<'_>, title: &str, body: &str) -> fmt::Result {
    writeln!(
        f,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>",
        escaped(title)
    )
}

fn section(out: &mut String, title: &str, content: impl FnOnce(&mut String)) {
    let _ = writeln!(out, "<section>\n<h2>{}</h2>", escaped(title));
    content(out);
    out.push_str("\n</section>\n");
}

fn badge(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "<span class=\"verdict good\">PASS</span>",
        Verdict::Fail => "<span class=\"verdict bad\">FAIL</span>",
    }
}

fn header(out: &mut String, report: &Report) {
    let variant = report.variant.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
    let title = escaped(&format!("{}{variant} with seed {}", report.scenario, report.seed));
    let _ = writeln!(out, "<header>{}<h1>{title}</h1>", badge(report.verdict));
    if let Some(question) = &report.question {
        let _ = writeln!(out, "<p class=\"question\">{}</p>", escaped(question));
    }
    let broken = report.invariants.iter().filter(|invariant| !invariant.holds).count();
    let text = match broken {
        0 => "All that had to hold did.".to_owned(),
        broken => format!("{broken} of {} things that had to hold did not.", report.invariants.len()),
    };
    let _ = writeln!(out, "<p>{text}</p></header>");
    let facts = [
        ("nodes", report.nodes.to_string()),
        ("sites", report.sites.to_string()),
        ("simulated time", format!("{} s", number(report.simulated_secs))),
        ("real time", format!("{:.1} s", report.wall_secs)),
        ("faults", report.faults.len().to_string()),
        ("steps", report.steps.len().to_string()),
        ("events of the trace", report.events.to_string()),
    ];
    out.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    let _ = writeln!(
        out,
        "</dl>\n<pre>{}\n# trace {}</pre>",
        escaped(&report.again),
        escaped(&report.trace_hash)
    );
}

/// The first of each rule, with what led to it; what was seen first of all rules is open.
fn findings(out: &mut String, findings: &[Finding]) {
    for (number, finding) in findings.iter().enumerate() {
        let open = if number == 0 { " open" } else { "" };
        let _ = write!(
            out,
            "<details class=\"finding\"{open}><summary><b>{}</b>: {}</summary>",
            escaped(&finding.rule),
            escaped(&finding.what)
        );
        for line in finding.told() {
            let _ = write!(out, "<p>{}.</p>", escaped(&capital(&line)));
        }
        if !finding.before().is_empty() {
            let moments: String =
                finding.before().iter().map(|it| format!("<li>{}</li>", escaped(it))).collect();
            let _ = write!(out, "<p>Just before:</p><ol class=\"moments\">{moments}</ol>");
        }
        out.push_str("</details>");
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn invariants(out: &mut String, invariants: &[Invariant]) {
    out.push_str("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Verdict</th><th scope=\"col\">Invariant</th><th scope=\"col\">Kind</th></tr></thead><tbody>");
    for invariant in invariants {
        let (class, word) = if invariant.holds { ("good", "holds") } else { ("bad", "violated") };
        let kind = match invariant.kind {
            Kind::Safety => "must never be broken",
            Kind::Liveness => "must come in time",
            Kind::Threshold => "threshold",
        };
        let _ = write!(
            out,
            "<tr><td class=\"word {class}-text\">{word}</td><th scope=\"row\">{}{}</th><td class=\"word\">{kind}</td></tr>",
            escaped(&invariant.name),
            violations(&invariant.violations)
        );
    }
    out.push_str("</tbody></table></div>");
}

fn violations(violations: &[String]) -> String {
    let list = |some: &[String]| {
        let items: String = some.iter().map(|it| format!("<li>{}</li>", escaped(it))).collect();
        format!("<ul class=\"violations\">{items}</ul>")
    };
    if violations.is_empty() {
        return String::new();
    }
    let shown = violations.len().min(VIOLATIONS_SHOWN);
    let mut text = list(&violations[..shown]);
    let rest = &violations[shown..violations.len().min(LINES_MAX)];
    if !rest.is_empty() {
        let more = violations.len() - shown;
        let _ = write!(text, "<details><summary>{more} more</summary>{}</details>", list(rest));
    }
    text
}

fn faults(out: &mut String, faults: &[FaultReport]) {
    out.push_str(
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Fault</th><th scope=\"col\" class=\"number\">from</th>\
         <th scope=\"col\" class=\"number\">until</th><th scope=\"col\" class=\"number\">times</th>\
         <th scope=\"col\" class=\"number\">bites</th><th scope=\"col\">nodes</th></tr></thead><tbody>",
    );
    for fault in faults {
        let bites = match fault.bites {
            0 => "<td class=\"number bad-text\">never</td>".to_owned(),
            bites => format!("<td class=\"number\">{bites}</td>"),
        };
        let name = if fault.name.is_empty() || fault.name.starts_with(&fault.kind) {
            fault.kind.clone()
        } else {
            format!("{}: {}", fault.kind, fault.name)
        };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{} s</td><td class=\"number\">{} s</td>\
             <td class=\"number\">{}</td>{bites}<td>{}</td></tr>",
            escaped(&name),
            number(fault.from_secs),
            number(fault.until_secs),
            fault.windows.len().max(1),
            escaped(&shortened(&fault.nodes))
        );
    }
    out.push_str("</tbody></table></div>");
}

fn metrics(out: &mut String, report: &Report) {
    out.push_str("<div class=\"columns\"><table><tbody>");
    for (name, value) in report.metrics.iter().filter(|(name, _)| !is_quantile(report, name)) {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td></tr>",
            escaped(&name.replace('_', " ")),
            number(*value)
        );
    }
    out.push_str("</tbody></table></div>");
}

fn steps(out: &mut String, report: &Report) {
    let bad = report.steps.iter().filter(|step| !matches!(step.outcome, Outcome::Succeeded)).count();
    let open = if bad > 0 { " open" } else { "" };
    let _ = write!(
        out,
        "<details{open}><summary>{} steps, {bad} of which did not succeed</summary><div class=\"scroll\"><table><thead><tr>\
         <th scope=\"col\" class=\"number\">step</th><th scope=\"col\" class=\"number\">at</th><th scope=\"col\">node</th>\
         <th scope=\"col\">what</th><th scope=\"col\" class=\"number\">took</th><th scope=\"col\">outcome</th></tr></thead><tbody>",
        report.steps.len()
    );
    for step in report.steps.iter().take(LINES_MAX) {
        let (class, word) = match step.outcome {
            Outcome::Succeeded => ("good-text", "succeeded"),
            Outcome::Failed => ("bad-text", "failed"),
            Outcome::Tolerated => ("warn-text", "failed, as it may"),
            Outcome::Unfinished => ("bad-text", "did not end"),
        };
        let node = report.members.get(step.node).map_or("?", |member| member.name.as_str());
        let took = step.took_secs.map_or_else(|| "–".to_owned(), |took| format!("{} s", number(took)));
        let _ = write!(
            out,
            "<tr><td class=\"number\">{}</td><td class=\"number\">{} s</td><td>{}</td><td>{}</td>\
             <td class=\"number\">{took}</td><td><span class=\"{class}\">{word}</span> {}</td></tr>",
            step.number,
            number(step.at_secs),
            escaped(node),
            escaped(&step.what),
            escaped(&step.detail)
        );
    }
    out.push_str("</tbody></table></div></details>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_report_is_one_page() {
        let text = Html(&report()).to_string();
        let (_, body) = text.split_once("</style>").unwrap();
        insta::assert_snapshot!(body);
    }

    #[test]
    fn a_page_needs_nothing_else_and_runs_nothing() {
        let text = Html(&report()).to_string();
        for absent in ["<script", "http://", "https://", "src=", "@import", " on"] {
            let found = text.match_indices(absent).any(|(at, _)| absent != " on" || is_handler(&text[at..]));
            assert!(!found, "{absent}");
        }
    }

    /// Whether this is an attribute such as `onload=`.
    fn is_handler(text: &str) -> bool {
        let rest = text.trim_start().trim_start_matches(|c: char| c.is_ascii_alphabetic());
        rest.starts_with('=')
    }

    #[test]
    fn nothing_that_a_report_says_is_markup() {
        let mut report = report();
        let evil = "</title><script>alert('\"')</script>";
        report.scenario = evil.to_owned();
        report.question = Some(evil.to_owned());
        report.variant = Some(evil.to_owned());
        report.again = evil.to_owned();
        report.trace_hash = evil.to_owned();
        report.members[0].name = evil.to_owned();
        report.members[0].role = evil.to_owned();
        report.members[1].region = Some(evil.to_owned());
        report.steps[0].what = evil.to_owned();
        report.steps[0].detail = evil.to_owned();
        report.faults[0].kind = evil.to_owned();
        report.faults[0].name = evil.to_owned();
        report.faults[0].nodes = vec![evil.to_owned()];
        report.invariants[0].name = evil.to_owned();
        report.invariants[0].violations = vec![evil.to_owned(); 9];
        report.metrics.insert(evil.to_owned(), 1.0);
        report.distributions.insert(evil.to_owned(), vec![1.0]);
        let text = Html(&report).to_string();
        assert!(!text.contains("<script") && !text.contains("'\"'"));
        assert!(text.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_report_without_nodes_or_steps_is_a_page_as_well() {
        let mut report = report();
        report.members.clear();
        report.steps.clear();
        report.links.clear();
        report.distributions.clear();
        report.simulated_secs = 0.0;
        let text = Html(&report).to_string();
        assert!(text.contains("What had to hold") && !text.contains("NaN"), "{text}");
        // A step of a node that is not there, as a file that somebody edited may have it.
        let mut report = super::super::tests::report();
        report.members.truncate(1);
        assert!(!Html(&report).to_string().contains("NaN"));
    }
}
