//! Holds the metrics of a run against those of another, the baseline.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::report::{Report, number};

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Times, errors, traffic.
    Lower,
    /// What was reached.
    Higher,
    /// Neither: it is shown, and never worse.
    Neither,
}

/// A metric of both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub metric: String,
    /// Which way it is better.
    pub better: Better,
    /// In the baseline; none where it is not there.
    pub before: Option<f64>,
    /// Now; none where it is not there any more.
    pub now: Option<f64>,
    /// By which share of the baseline it became worse; below zero where it became better. None where that cannot be said:
    /// the metric is in one of them alone, or the baseline is zero.
    pub worse_by: Option<f64>,
    /// Whether it is worse by more than is allowed.
    pub is_over: bool,
}

impl Better {
    /// By the end of a metric's name, which says its unit, and by what it counts.
    pub fn of(metric: &str) -> Self {
        let base =
            ["_p50", "_p90", "_p99"].into_iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
        let lower = [
            "_ms",
            "_secs",
            "_requests",
            "_hops",
            "_rounds",
            "_failed",
            "_refused",
            "_lost",
            "_served",
            "_sent",
        ];
        let higher = ["_published", "_searched", "_installed", "_looked_up", "_taken", "_listed"];
        if lower.iter().any(|end| base.ends_with(end)) {
            Self::Lower
        } else if higher.iter().any(|end| base.ends_with(end)) {
            Self::Higher
        } else {
            Self::Neither
        }
    }

    /// How much worse `now` is than `before`, in the unit of the metric.
    fn loss(self, before: f64, now: f64) -> f64 {
        match self {
            Self::Lower => now - before,
            Self::Higher => before - now,
            Self::Neither => 0.0,
        }
    }
}

impl Change {
    /// In words; empty where nothing changed.
    pub fn told(&self) -> String {
        let over = if self.is_over { ", OVER THE LIMIT" } else { "" };
        let percent = |share: f64| number((share * 1_000.0).round() / 10.0);
        match (self.worse_by, self.before, self.now) {
            (_, None, _) => "new".to_owned(),
            (_, _, None) => format!("gone{over}"),
            (Some(worse), ..) if worse > 0.0 => format!("{} % worse{over}", percent(worse)),
            (Some(worse), ..) if worse < 0.0 => format!("{} % better", percent(-worse)),
            (None, Some(before), Some(now)) if before != now && self.better != Better::Neither => {
                format!("was zero{over}")
            }
            (_, Some(before), Some(now)) if before != now => "differs".to_owned(),
            _ => String::new(),
        }
    }
}

/// Compares all metrics of either run, by name. One that became worse by more than the share `limit`, or vanished, is over;
/// without a limit none is.
pub fn compare(before: &Report, now: &Report, limit: Option<f64>) -> Vec<Change> {
    let names: BTreeSet<&String> = before.metrics.keys().chain(now.metrics.keys()).collect();
    names.into_iter().map(|name| change(name, before, now, limit)).collect()
}

fn change(metric: &str, before: &Report, now: &Report, limit: Option<f64>) -> Change {
    let better = Better::of(metric);
    let (before, now) = (before.metrics.get(metric).copied(), now.metrics.get(metric).copied());
    let loss = before.zip(now).map(|(before, now)| (before, better.loss(before, now)));
    let worse_by = loss.filter(|(before, _)| *before != 0.0).map(|(before, loss)| loss / before.abs());
    let is_over = limit.is_some_and(|limit| match loss {
        Some((before, loss)) => loss > limit * before.abs(),
        // What is measured no longer can no longer be as good.
        None => before.is_some() && better != Better::Neither,
    });
    Change { metric: metric.to_owned(), better, before, now, worse_by, is_over }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn compared(metric: &str, before: Option<f64>, now: Option<f64>) -> Change {
        let with = |value: Option<f64>| {
            let mut report = report();
            report.metrics = value.map(|value| (metric.to_owned(), value)).into_iter().collect();
            report
        };
        compare(&with(before), &with(now), Some(0.1)).remove(0)
    }

    #[test]
    fn worse_depends_on_what_is_measured() {
        for (metric, now, is_over) in [
            ("search_ms_p99", 111.0, true),
            ("search_ms_p99", 110.0, false),
            ("search_ms_p99", 10.0, false),
            ("steps_installed", 89.0, true),
            ("steps_installed", 200.0, false),
            ("steps_looked_up", 0.0, true),
            ("connections_made", 500.0, false),
        ] {
            assert_eq!(compared(metric, Some(100.0), Some(now)).is_over, is_over, "{metric} {now}");
        }
    }

    #[test]
    fn what_was_zero_or_vanished_is_over_and_what_is_new_is_not() {
        assert!(compared("steps_failed", Some(0.0), Some(1.0)).is_over);
        assert!(!compared("steps_failed", Some(0.0), Some(0.0)).is_over);
        assert!(compared("search_ms_p50", Some(5.0), None).is_over);
        assert!(!compared("search_ms_p50", None, Some(5.0)).is_over);
    }

    #[test]
    fn the_share_says_how_much_worse() {
        assert_eq!(compared("search_ms_p50", Some(100.0), Some(150.0)).worse_by, Some(0.5));
        assert_eq!(compared("steps_installed", Some(4.0), Some(5.0)).worse_by, Some(-0.25));
        assert_eq!(compared("steps_failed", Some(0.0), Some(1.0)).worse_by, None);
    }
}
