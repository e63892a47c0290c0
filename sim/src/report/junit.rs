//! Reports as JUnit, which continuous integration reads: a suite a run, a test case an invariant.
//!
//! The shape is that of Jenkins and GitLab: `testsuites`, `testsuite`, `testcase`, with `failure` or `error` in it.

use std::fmt::{self, Display, Formatter};

use super::{Invariant, Report};
use crate::children::Ran;

/// Writes suites.
#[derive(Debug, Clone, Copy)]
pub struct Junit<'a, S>(pub &'a [S]);

/// What a suite is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    name: String,
    class: String,
    secs: f64,
    again: String,
    invariants: Vec<Invariant>,
    /// Why there is no report.
    error: Option<String>,
}

impl From<&Report> for Suite {
    fn from(report: &Report) -> Self {
        let class = match &report.variant {
            Some(variant) => format!("{} ({variant})", report.scenario),
            None => report.scenario.clone(),
        };
        Self {
            name: format!("{class} with seed {}", report.seed),
            class,
            secs: report.wall_secs,
            again: report.again.clone(),
            invariants: report.invariants.clone(),
            error: None,
        }
    }
}

impl From<&Ran> for Suite {
    fn from(ran: &Ran) -> Self {
        if let Some(report) = &ran.report {
            return report.into();
        }
        let stem = ran.job.file.file_stem().unwrap_or_default().to_string_lossy();
        let class = match &ran.job.variant {
            Some(variant) => format!("{stem} ({variant})"),
            None => stem.into_owned(),
        };
        Self {
            name: format!("{class} with seed {}", ran.job.seed),
            class,
            secs: ran.wall_secs,
            again: ran.job.command(),
            invariants: Vec::new(),
            error: Some(ran.error.clone().unwrap_or_else(|| "the run failed".to_owned())),
        }
    }
}

impl Suite {
    fn tests(&self) -> usize {
        self.invariants.len() + self.errors()
    }

    fn failures(&self) -> usize {
        self.invariants.iter().filter(|invariant| !invariant.holds).count()
    }

    fn errors(&self) -> usize {
        usize::from(self.error.is_some())
    }

    fn write(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (tests, failures, errors) = (self.tests(), self.failures(), self.errors());
        let (name, class) = (escaped(&self.name), escaped(&self.class));
        let secs = self.secs;
        writeln!(
            f,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" time=\"{secs:.3}\">"
        )?;
        for invariant in &self.invariants {
            let case = escaped(&invariant.name);
            if invariant.holds {
                writeln!(f, "    <testcase classname=\"{class}\" name=\"{case}\" time=\"0\"/>")?;
                continue;
            }
            let first = invariant.violations.first().map_or("it does not hold", String::as_str);
            let text = format!("{}\nagain: {}", invariant.violations.join("\n"), self.again);
            writeln!(f, "    <testcase classname=\"{class}\" name=\"{case}\" time=\"0\">")?;
            writeln!(f, "      <failure message=\"{}\">{}</failure>", escaped(first), escaped(&text))?;
            writeln!(f, "    </testcase>")?;
        }
        if let Some(error) = &self.error {
            let text = format!("{error}\nagain: {}", self.again);
            writeln!(
                f,
                "    <testcase classname=\"{class}\" name=\"the run comes to its end\" time=\"{secs:.3}\">"
            )?;
            writeln!(f, "      <error message=\"{}\">{}</error>", escaped(error), escaped(&text))?;
            writeln!(f, "    </testcase>")?;
        }
        writeln!(f, "  </testsuite>")
    }
}

impl<S> Display for Junit<'_, S>
where
    for<'s> &'s S: Into<Suite>,
{
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let suites: Vec<Suite> = self.0.iter().map(Into::into).collect();
        let sum = |count: fn(&Suite) -> usize| suites.iter().map(count).sum::<usize>();
        writeln!(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
        writeln!(
            f,
            "<testsuites name=\"ggen-sim\" tests=\"{}\" failures=\"{}\" errors=\"{}\">",
            sum(Suite::tests),
            sum(Suite::failures),
            sum(Suite::errors)
        )?;
        suites.iter().try_for_each(|suite| suite.write(f))?;
        writeln!(f, "</testsuites>")
    }
}

/// Text as it may stand in XML and HTML, between quotes as well. Characters that XML cannot hold become U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn every_invariant_is_a_test_case() {
        insta::assert_snapshot!(Junit(&[report()]).to_string());
    }

    #[test]
    fn nothing_that_a_report_says_is_markup() {
        let mut report = report();
        report.scenario = "<a & \"b\">".to_owned();
        report.invariants[0].violations = vec!["]]> <failure/> \u{1b}[31m \u{0}".to_owned()];
        let text = Junit(&[report]).to_string();
        assert!(text.contains("name=\"&lt;a &amp; &quot;b&quot;&gt; "), "{text}");
        assert!(!text.contains("<failure/>") && !text.contains(['\u{1b}', '\u{0}']), "{text}");
    }
}
