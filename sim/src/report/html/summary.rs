//! Many runs on one page.

use std::fmt::{self, Display, Formatter, Write};

use super::{badge, escaped, page, section};
use crate::report::{Summary, Verdict, number, summary::Group};

/// Metrics that stand in the table, as far as the runs have them.
const METRICS: [&str; 4] =
    ["announcement_propagation_ms_p99", "search_ms_p99", "install_ms_p99", "steps_failed"];

/// Shows a summary.
#[derive(Debug, Clone, Copy)]
pub struct SummaryHtml<'a>(pub &'a Summary);

impl Display for SummaryHtml<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        let verdict = if summary.failed == 0 { Verdict::Pass } else { Verdict::Fail };
        let mut out = String::new();
        let all = summary.runs.len();
        let _ = writeln!(
            out,
            "<header>{}<h1>{} of {all} runs passed</h1></header>",
            badge(verdict),
            summary.passed
        );
        section(&mut out, "Scenarios", |out| groups(out, &summary.groups()));
        if summary.failed > 0 {
            section(&mut out, "What failed", |out| failed(out, summary));
        }
        page(f, "A sweep of simulations", &out)
    }
}

fn groups(out: &mut String, groups: &[Group<'_>]) {
    out.push_str(
        "<p class=\"note\">Metrics are medians over the seeds.</p><div class=\"scroll\"><table><thead><tr>\
         <th scope=\"col\">Verdict</th><th scope=\"col\">Scenario</th><th scope=\"col\" class=\"number\">seeds</th>\
         <th scope=\"col\" class=\"number\">failed</th><th scope=\"col\" class=\"number\">real time</th>",
    );
    for metric in METRICS {
        let _ = write!(out, "<th scope=\"col\" class=\"number\">{}</th>", metric.replace('_', " "));
    }
    out.push_str("</tr></thead><tbody>");
    for group in groups {
        let (class, word) = if group.failed() == 0 { ("good", "pass") } else { ("bad", "FAIL") };
        let _ = write!(
            out,
            "<tr><td class=\"{class}-text\">{word}</td><th scope=\"row\">{}</th><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{:.1} s</td>",
            escaped(&group.title()),
            group.runs.len(),
            group.failed(),
            group.wall_secs()
        );
        for metric in METRICS {
            let median = group.median(metric).map_or_else(|| "–".to_owned(), number);
            let _ = write!(out, "<td class=\"number\">{median}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}

fn failed(out: &mut String, summary: &Summary) {
    for run in summary.runs.iter().filter(|run| run.exit_code != 0) {
        let reasons: String = run.reasons().iter().map(|it| format!("<li>{}</li>", escaped(it))).collect();
        let _ = write!(out, "<pre>{}</pre><ul class=\"violations\">{reasons}</ul>", escaped(&run.again));
    }
}
