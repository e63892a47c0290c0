//! Distributions as the share of samples that are at most a value.

use std::{collections::BTreeSet, fmt::Write};

use super::{axis::Axis, escaped};
use crate::report::{Report, number, quantile};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;
/// Points of one curve at most.
const POINTS_MAX: usize = 400;
/// Units by the end of a name: what stands in place of it, and the words at the axis.
const UNITS: [(&str, &str, &str); 4] = [
    ("_ms", " ms", "milliseconds"),
    ("_secs", " s", "seconds"),
    ("_bytes", " B", "bytes"),
    ("_requests", "", "requests"),
];

/// One drawing for each distribution that has samples.
pub(super) fn distributions(out: &mut String, report: &Report) {
    out.push_str("<div class=\"distributions\">");
    for (name, samples) in report.distributions.iter().filter(|(_, samples)| !samples.is_empty()) {
        out.push_str("<figure>");
        draw(out, name, "", samples, samples);
        out.push_str("</figure>");
    }
    out.push_str("</div>");
}

/// The distributions of two runs, two and two beside each other with the same axis.
pub(super) fn pairs(out: &mut String, runs: [&Report; 2]) {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.distributions.keys()).collect();
    for name in names {
        let samples = runs.map(|run| run.distributions.get(name).map_or(&[][..], |samples| &samples[..]));
        let mut all = samples.concat();
        all.sort_by(f64::total_cmp);
        if all.is_empty() {
            continue;
        }
        out.push_str("<div class=\"distributions pair\">");
        for (samples, suffix) in samples.into_iter().zip(["-before", "-now"]) {
            out.push_str("<figure>");
            match samples {
                [] => out.push_str("<figcaption>no samples</figcaption>"),
                samples => draw(out, name, suffix, samples, &all),
            }
            out.push_str("</figure>");
        }
        out.push_str("</div>");
    }
}

/// What a name says: the words for people, the unit behind a number, the unit at the axis.
fn parts(name: &str) -> (String, &'static str, &'static str) {
    let found = UNITS.into_iter().find_map(|(end, unit, words)| Some((name.strip_suffix(end)?, unit, words)));
    let (base, unit, words) = found.unwrap_or((name, "", ""));
    (base.replace('_', " "), unit, words)
}

/// The curve of `samples`, on an axis that has room for `all`; both are sorted.
fn draw(out: &mut String, name: &str, suffix: &str, samples: &[f64], all: &[f64]) {
    let (title, unit, words) = parts(name);
    let x = Axis::fitting(all, LEFT, WIDTH - RIGHT);
    let y = Axis::linear(0.0, 100.0, HEIGHT - BOTTOM, TOP);
    let id = escaped(&format!("{name}{suffix}"));
    let _ = write!(
        out,
        "<figcaption>{} <span>{}</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"d-{id}\"><title id=\"d-{id}\">{}</title>",
        escaped(&title),
        if samples.len() == 1 { "1 sample".to_owned() } else { format!("{} samples", samples.len()) },
        escaped(&describe(&title, unit, samples))
    );
    grid(out, &x, &y, words);
    curve(out, &x, &y, samples);
    quantiles(out, &x, &y, unit, samples);
    out.push_str("</svg>");
}

fn describe(title: &str, unit: &str, samples: &[f64]) -> String {
    let at = |q| quantile(samples, q).map_or_else(String::new, |value| format!("{}{unit}", number(value)));
    format!(
        "{title}: half of the samples are at most {}, 99 % at most {}, all at most {}",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

fn grid(out: &mut String, x: &Axis, y: &Axis, words: &str) {
    for tick in x.ticks(5.0) {
        let at = x.at(tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 15.0,
            number(tick)
        );
    }
    for tick in y.ticks(4.0) {
        let at = y.at(tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick} %</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 3.5
        );
    }
    let words = match (words, x.is_log()) {
        ("", false) => String::new(),
        ("", true) => "logarithmic".to_owned(),
        (words, false) => words.to_owned(),
        (words, true) => format!("{words}, logarithmic"),
    };
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = write!(
        out,
        "<text class=\"label\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{words}</text>",
        HEIGHT - 10.0
    );
}

/// A staircase: each sample lifts the share.
fn curve(out: &mut String, x: &Axis, y: &Axis, samples: &[f64]) {
    let points = samples.len().min(POINTS_MAX);
    let mut path = format!("M{:.1} {:.1}", LEFT, y.at(0.0));
    for point in 1..=points {
        let share = point as f64 / points as f64;
        let value = quantile(samples, share).unwrap_or(0.0);
        let _ = write!(path, "H{:.1}V{:.1}", x.at(value), y.at(share * 100.0));
    }
    let _ = write!(path, "H{:.1}", WIDTH - RIGHT);
    let _ = write!(out, "<path class=\"curve\" d=\"{path}\"/>");
}

/// Marks at the quantiles; their values stand above.
fn quantiles(out: &mut String, x: &Axis, y: &Axis, unit: &str, samples: &[f64]) {
    let mut text = Vec::new();
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let Some(value) = quantile(samples, q) else { continue };
        let (at, up) = (x.at(value), y.at(q * 100.0));
        let _ = write!(out, "<circle class=\"quantile\" cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"3.5\"/>");
        text.push(format!("{name} {}{unit}", number(value)));
    }
    let last = samples.last().copied().unwrap_or(0.0);
    text.push(format!("max {}{unit}", number(last)));
    let _ = write!(
        out,
        "<text class=\"values\" x=\"{:.1}\" y=\"14\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        escaped(&text.join("   "))
    );
}
