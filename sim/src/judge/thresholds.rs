//! What was measured, checked against the bounds of the scenario.

use std::collections::BTreeMap;

use super::Found;
use crate::scenario::{Expect, Threshold};

/// Its name.
pub(super) const RULE: &str = "thresholds";

pub(super) fn judge(found: &mut Found, expect: &Expect, metrics: &BTreeMap<String, f64>) {
    for Threshold { metric, at_most, at_least } in &expect.thresholds {
        let Some(value) = metrics.get(metric) else {
            let near = metrics.keys().map(|known| (strsim::damerau_levenshtein(known, metric), known)).min();
            let near = near.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"));
            found.say(RULE, format!("nothing called `{metric}` was measured{near}"));
            continue;
        };
        if let Some(most) = at_most.filter(|most| value > most) {
            found.say(RULE, format!("{metric} is {value}, and {most} is the most"));
        }
        if let Some(least) = at_least.filter(|least| value < least) {
            found.say(RULE, format!("{metric} is {value}, and {least} is the least"));
        }
    }
}
