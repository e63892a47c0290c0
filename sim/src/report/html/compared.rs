//! Two runs on one page, side by side.

use std::fmt::{self, Display, Formatter, Write};

use super::{badge, distribution, escaped, page, section, timeline};
use crate::{
    compare::Change,
    report::{Report, number},
};

/// Shows two runs, and what changed from the first to the second.
#[derive(Debug, Clone, Copy)]
pub struct ComparedHtml<'a> {
    /// The baseline.
    pub before: &'a Report,
    /// What is held against it.
    pub now: &'a Report,
    /// See [`compare`](crate::compare::compare).
    pub changes: &'a [Change],
}

/// What the two are called.
const NAMES: [&str; 2] = ["baseline", "now"];

impl Display for ComparedHtml<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let runs = [self.before, self.now];
        let mut out = String::new();
        header(&mut out, runs);
        section(&mut out, "What had to hold", |out| invariants(out, runs));
        section(&mut out, "Metrics", |out| metrics(out, self.changes));
        if runs.iter().any(|run| run.distributions.values().any(|samples| !samples.is_empty())) {
            section(&mut out, "Distributions", |out| {
                out.push_str(
                    "<p class=\"note\">Left the baseline, right what is held against it, with the same axis. Each curve is the share of samples that \
                     are at most the value below it.</p>",
                );
                distribution::pairs(out, runs);
            });
        }
        let secs = runs.iter().map(|run| run.simulated_secs).fold(0.0, f64::max);
        for ((name, run), suffix) in NAMES.iter().zip(runs).zip(["", "-now"]) {
            if !run.members.is_empty() {
                section(&mut out, &format!("Nodes over time, {name}"), |out| {
                    timeline::timeline(out, run, suffix, secs);
                });
            }
        }
        page(f, &format!("{} and {}", named(self.before), named(self.now)), &out)
    }
}

fn named(run: &Report) -> String {
    let variant = run.variant.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
    format!("{}{variant} with seed {}", run.scenario, run.seed)
}

fn header(out: &mut String, runs: [&Report; 2]) {
    out.push_str("<div class=\"distributions pair\">");
    for (name, run) in NAMES.iter().zip(runs) {
        let _ = writeln!(
            out,
            "<div><header>{}<h1>{}</h1><p>{name}</p></header><pre>{}\n# trace {}</pre></div>",
            badge(run.verdict),
            escaped(&named(run)),
            escaped(&run.again),
            escaped(&run.trace_hash)
        );
    }
    out.push_str("</div>");
    if runs[0].trace_hash == runs[1].trace_hash {
        out.push_str("<p class=\"note\">The same happened in both of them.</p>");
    }
}

/// Those that are violated in either run, and how many hold in both.
fn invariants(out: &mut String, runs: [&Report; 2]) {
    let violations = |run: &Report, name: &str| {
        let found = run.invariants.iter().find(|it| it.name == name);
        found.map(|it| if it.holds { 0 } else { it.violations.len().max(1) })
    };
    let mut names: Vec<&str> = Vec::new();
    for invariant in runs.iter().flat_map(|run| &run.invariants) {
        if !names.contains(&&*invariant.name) {
            names.push(&invariant.name);
        }
    }
    let (mut rows, mut held) = (String::new(), 0);
    for name in names {
        let both = runs.map(|run| violations(run, name));
        if both == [Some(0); 2] {
            held += 1;
            continue;
        }
        let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", escaped(name));
        for count in both {
            let (class, text) = match count {
                None => ("", "not asked".to_owned()),
                Some(0) => ("good-text", "holds".to_owned()),
                Some(1) => ("bad-text", "violated".to_owned()),
                Some(count) => ("bad-text", format!("violated {count} times")),
            };
            let _ = write!(rows, "<td class=\"word {class}\">{text}</td>");
        }
        rows.push_str("</tr>");
    }
    let _ = write!(out, "<p>{held} hold in both.</p>");
    if !rows.is_empty() {
        let _ = write!(
            out,
            "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Invariant</th><th scope=\"col\">{}</th>\
             <th scope=\"col\">{}</th></tr></thead><tbody>{rows}</tbody></table></div>",
            NAMES[0], NAMES[1]
        );
    }
}

fn metrics(out: &mut String, changes: &[Change]) {
    let _ = write!(
        out,
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Metric</th><th scope=\"col\" class=\"number\">{}</th>\
         <th scope=\"col\" class=\"number\">{}</th><th scope=\"col\">change</th></tr></thead><tbody>",
        NAMES[0], NAMES[1]
    );
    for change in changes {
        let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
        let class = match change.worse_by {
            _ if change.is_over => "bad-text",
            Some(worse) if worse > 0.0 => "warn-text",
            Some(worse) if worse < 0.0 => "good-text",
            _ => "",
        };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"{class}\">{}</td></tr>",
            escaped(&change.metric.replace('_', " ")),
            shown(change.before),
            shown(change.now),
            escaped(&change.told())
        );
    }
    out.push_str("</tbody></table></div>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare::compare, report::tests::report};

    fn shown(before: &Report, now: &Report) -> String {
        let changes = compare(before, now, Some(0.1));
        ComparedHtml { before, now, changes: &changes }.to_string()
    }

    #[test]
    fn two_runs_stand_side_by_side_with_the_same_axes() {
        let (before, mut now) = (report(), report());
        (now.seed, now.trace_hash, now.simulated_secs) = (8, "ab".repeat(32), 120.0);
        now.invariants[0].holds = true;
        now.invariants[0].violations.clear();
        now.metrics.insert("search_ms_p50".to_owned(), 500.0);
        now.distributions.insert("search_ms".to_owned(), vec![500.0]);
        let text = shown(&before, &now);
        let (_, body) = text.split_once("</style>").unwrap();
        for part in [
            "example with seed 7",
            "example with seed 8",
            "violated 2 times",
            "holds</td>",
            "100 % worse, OVER THE LIMIT",
        ] {
            assert!(body.contains(part), "{part}: {body}");
        }
        // Half of what the other one is stands half as far, and all drawings have the same end.
        let ticks = |id: &str| {
            let (_, drawing) = body.split_once(&format!("<title id=\"{id}\">")).unwrap();
            let (drawing, _) = drawing.split_once("</svg>").unwrap();
            let ticks = drawing
                .split("class=\"tick\" x=\"")
                .skip(1)
                .map(|it| it.split('<').next().unwrap().to_owned());
            ticks.collect::<Vec<_>>()
        };
        assert_eq!(ticks("d-search_ms-before"), ticks("d-search_ms-now"));
        let end = |id: &str| ticks(id).last().unwrap().rsplit('>').next().unwrap().to_owned();
        assert_eq!((end("timeline-title"), end("timeline-title-now")), ("120".to_owned(), "120".to_owned()));
        for once in ["id=\"timeline-title\"", "id=\"stripes-0\"", "id=\"d-search_ms-now\""] {
            assert_eq!(body.matches(once).count(), 1, "{once}");
        }
    }

    #[test]
    fn runs_that_are_the_same_are_said_to_be_and_those_that_lack_something_have_a_page() {
        let text = shown(&report(), &report());
        assert!(text.contains("The same happened in both") && !text.contains("OVER"), "{text}");
        let mut other = report();
        other.members.clear();
        other.steps.clear();
        other.distributions.clear();
        other.metrics.clear();
        other.invariants.clear();
        other.scenario = "<script>".to_owned();
        let text = shown(&report(), &other);
        assert!(text.contains("not asked") && text.contains("no samples") && !text.contains("NaN"), "{text}");
        assert!(!text.contains("<script"));
    }
}
