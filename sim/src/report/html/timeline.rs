//! Nodes × virtual time: when each ran, what was broken, what its user did.

use std::fmt::Write;

use super::{
    axis::{Axis, times},
    escaped, hue,
};
use crate::report::{FaultReport, Outcome, Report, StepReport, number};

const WIDTH: f64 = 1_160.0;
/// Room for the names of nodes.
const LEFT: f64 = 130.0;
const RIGHT: f64 = 16.0;
/// The height of all rows together, as far as that leaves each of them a readable height.
const ROWS_HEIGHT: f64 = 1_000.0;
const ROW_HEIGHT_MIN: f64 = 3.0;
const ROW_HEIGHT_MAX: f64 = 24.0;
/// The height of a line with the window of a fault.
const LANE: f64 = 18.0;
/// Lines of faults at most; those beyond share the last.
const LANES_MAX: usize = 24;
/// The least distance of two names.
const NAME_HEIGHT: f64 = 10.0;

/// Where everything is.
struct Layout {
    time: Axis,
    row: f64,
    /// Where the first row begins.
    top: f64,
    bottom: f64,
}

impl Layout {
    fn of(report: &Report, secs: f64) -> Self {
        let rows = report.members.len().max(1) as f64;
        let row = (ROWS_HEIGHT / rows).clamp(ROW_HEIGHT_MIN, ROW_HEIGHT_MAX);
        let top = 12.0 + LANE * report.faults.len().min(LANES_MAX) as f64;
        Self { time: Axis::linear(0.0, secs, LEFT, WIDTH - RIGHT), row, top, bottom: top + rows * row }
    }

    fn middle(&self, node: usize) -> f64 {
        self.top + (node as f64 + 0.5) * self.row
    }
}

/// The drawing with its legend: one of several on a page, where `suffix` tells its ids from theirs, as long as `secs`.
pub(super) fn timeline(out: &mut String, report: &Report, suffix: &str, secs: f64) {
    let layout = Layout::of(report, secs);
    let height = layout.bottom + 44.0;
    let _ = write!(
        out,
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"timeline-title{suffix}\">\
         <title id=\"timeline-title{suffix}\">{} nodes over {} simulated seconds, with {} faults and {} steps</title>",
        report.members.len(),
        number(report.simulated_secs),
        report.faults.len(),
        report.steps.len()
    );
    // Stripes of one page are the same ones.
    if suffix.is_empty() {
        patterns(out);
    }
    grid(out, secs, &layout);
    rows(out, report, &layout);
    for (number, fault) in report.faults.iter().enumerate() {
        draw_fault(out, report, &layout, number, fault);
    }
    for step in &report.steps {
        draw_step(out, report, &layout, step);
    }
    out.push_str("</svg>");
    legend(out, report);
}

/// Stripes in different directions, so that faults differ without their colours too.
fn patterns(out: &mut String) {
    out.push_str("<defs>");
    for (hue, angle) in (0..super::HUES).zip([45, -45, 0, 90, 20, -20, 70, -70]) {
        let _ = write!(
            out,
            "<pattern id=\"stripes-{hue}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate({angle})\"><rect width=\"6\" height=\"6\" class=\"wash hue-{hue}\"/>\
             <rect width=\"1.6\" height=\"6\" class=\"stripe hue-{hue}\"/></pattern>"
        );
    }
    out.push_str("</defs>");
}

fn grid(out: &mut String, secs: f64, layout: &Layout) {
    let (ticks, unit) = times(&layout.time, secs);
    for (x, text) in ticks {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"4\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            layout.bottom + 4.0,
            layout.bottom + 17.0
        );
    }
    let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, layout.bottom + 34.0);
    let _ = write!(
        out,
        "<text class=\"label\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">simulated time in {unit}</text>"
    );
}

fn rows(out: &mut String, report: &Report, layout: &Layout) {
    let every = (NAME_HEIGHT / layout.row).ceil().max(1.0) as usize;
    let size = layout.row.clamp(9.0, 12.0);
    let thick = (layout.row * 0.34).clamp(1.5, 7.0);
    for (node, member) in report.members.iter().enumerate() {
        let y = layout.middle(node);
        let name = escaped(&member.name);
        if node % every == 0 {
            let _ = write!(
                out,
                "<text class=\"name\" font-size=\"{size:.1}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 8.0,
                y + size * 0.35
            );
        }
        for [from, until] in &member.lives {
            let (x, to) = (layout.time.at(*from), layout.time.at(*until));
            let _ = write!(
                out,
                "<rect class=\"life\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{thick:.1}\" rx=\"1.5\">\
                 <title>{name} ran from {} s to {} s</title></rect>",
                y - thick / 2.0,
                (to - x).max(1.0),
                number(*from),
                number(*until)
            );
        }
    }
}

/// A line of its own above the nodes, and a band over the nodes concerned.
fn draw_fault(out: &mut String, report: &Report, layout: &Layout, index: usize, fault: &FaultReport) {
    let hue = hue(fault_kinds(report).iter().position(|kind| *kind == fault.kind).unwrap_or(0));
    let lane = 4.0 + LANE * index.min(LANES_MAX - 1) as f64;
    let kind = escaped(&fault.kind);
    let windows = if fault.windows.is_empty() {
        vec![[fault.from_secs, fault.until_secs]]
    } else {
        fault.windows.clone()
    };
    let rows = runs(report, fault);
    for [from, until] in &windows {
        let (x, to) = (layout.time.at(*from), layout.time.at(*until));
        let width = (to - x).max(1.5);
        let what =
            format!("{kind} from {} s to {} s, bit {} times", number(*from), number(*until), fault.bites);
        let _ = write!(
            out,
            "<rect class=\"lane hue-{hue}\" x=\"{x:.1}\" y=\"{lane:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\">\
             <title>{what}</title></rect>",
            LANE - 5.0
        );
        for (first, last) in &rows {
            let (y, end) =
                (layout.middle(*first) - layout.row / 2.0, layout.middle(*last) + layout.row / 2.0);
            let _ = write!(
                out,
                "<rect class=\"band hue-{hue}\" fill=\"url(#stripes-{hue})\" x=\"{x:.1}\" y=\"{y:.1}\" \
                 width=\"{width:.1}\" height=\"{:.1}\"><title>{what}</title></rect>",
                end - y
            );
        }
    }
    let idle = if fault.bites == 0 { ", never bit" } else { "" };
    let _ = write!(
        out,
        "<text class=\"name\" font-size=\"11\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{kind}{idle}</text>",
        LEFT - 8.0,
        lane + 10.5
    );
}

/// The kinds of faults, in the order in which they first occur.
fn fault_kinds(report: &Report) -> Vec<&str> {
    let mut kinds: Vec<&str> = Vec::new();
    for fault in &report.faults {
        if !kinds.contains(&fault.kind.as_str()) {
            kinds.push(&fault.kind);
        }
    }
    kinds
}

/// The nodes of a fault, as runs of neighbours.
fn runs(report: &Report, fault: &FaultReport) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let concerned =
        report.members.iter().enumerate().filter(|(_, member)| fault.nodes.contains(&member.name));
    for (node, _) in concerned {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == node => *last = node,
            _ => runs.push((node, node)),
        }
    }
    runs
}

/// A mark whose form says what was done and whose colour how it ended, and a line as long as it took.
fn draw_step(out: &mut String, report: &Report, layout: &Layout, step: &StepReport) {
    let (x, y) = (layout.time.at(step.at_secs), layout.middle(step.node));
    let radius = (layout.row * 0.36).clamp(2.2, 6.0);
    let class = class_of(step.outcome);
    let node = report.members.get(step.node).map_or("?", |member| member.name.as_str());
    let took =
        step.took_secs.map_or_else(|| "did not end".to_owned(), |took| format!("took {} s", number(took)));
    let detail = if step.detail.is_empty() { String::new() } else { format!(", {}", step.detail) };
    let title = format!(
        "step {}: {} at {node} after {} s, {took}{detail}",
        step.number,
        step.what,
        number(step.at_secs)
    );
    let _ = write!(out, "<g class=\"step {class}\"><title>{}</title>", escaped(&title));
    if let Some(took) = step.took_secs {
        let to = layout.time.at(step.at_secs + took);
        let _ = write!(out, "<line x1=\"{x:.1}\" x2=\"{to:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    }
    mark(out, verb(step), x, y, radius);
    out.push_str("</g>");
}

fn class_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "good",
        Outcome::Failed => "bad",
        Outcome::Tolerated => "tolerated",
        Outcome::Unfinished => "unfinished",
    }
}

fn verb(step: &StepReport) -> &str {
    step.what.split(' ').next().unwrap_or_default()
}

/// The form of what was done.
fn mark(out: &mut String, verb: &str, x: f64, y: f64, r: f64) {
    let _ = match verb {
        "publish" => {
            let (left, right, up, down) = (x - r * 1.1, x + r * 1.1, y - r * 1.2, y + r * 0.9);
            write!(out, "<path d=\"M{left:.1} {down:.1}L{x:.1} {up:.1}L{right:.1} {down:.1}Z\"/>")
        }
        "search" => write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"/>", r * 0.9),
        "install" => {
            let (left, top, side) = (x - r * 0.85, y - r * 0.85, r * 1.7);
            write!(out, "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side:.1}\" height=\"{side:.1}\"/>")
        }
        _ => {
            let r = r * 1.15;
            let (left, right, up, down) = (x - r, x + r, y - r, y + r);
            write!(out, "<path d=\"M{left:.1} {y:.1}L{x:.1} {up:.1}L{right:.1} {y:.1}L{x:.1} {down:.1}Z\"/>")
        }
    };
}

/// What forms and colours mean, as far as they occur.
fn legend(out: &mut String, report: &Report) {
    out.push_str("<ul class=\"legend\">");
    let icon = |out: &mut String, class: &str, verb: &str, text: &str| {
        let _ = write!(out, "<li><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\"><g class=\"step {class}\">");
        mark(out, verb, 8.0, 8.0, 6.0);
        let _ = write!(out, "</g></svg>{}</li>", escaped(text));
    };
    let mut verbs: Vec<&str> = Vec::new();
    for step in &report.steps {
        if !verbs.contains(&verb(step)) {
            verbs.push(verb(step));
        }
    }
    let is_other = |verb: &str| !["publish", "search", "install"].contains(&verb);
    let others = verbs.iter().copied().filter(|verb| is_other(verb)).collect::<Vec<_>>().join(", ");
    for verb in verbs.iter().filter(|verb| !is_other(verb)) {
        icon(out, "neutral", verb, verb);
    }
    if !others.is_empty() {
        icon(out, "neutral", "other", &others);
    }
    for (outcome, text) in [
        (Outcome::Succeeded, "succeeded"),
        (Outcome::Failed, "failed"),
        (Outcome::Tolerated, "failed, as it may"),
        (Outcome::Unfinished, "did not end"),
    ] {
        if report.steps.iter().any(|step| step.outcome == outcome) {
            icon(out, class_of(outcome), "search", text);
        }
    }
    out.push_str("<li><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\"><rect class=\"life\" y=\"5\" width=\"16\" height=\"6\" rx=\"2\"/></svg>node runs</li>");
    for (index, kind) in fault_kinds(report).into_iter().enumerate() {
        let hue = hue(index);
        let _ = write!(
            out,
            "<li><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\"><rect class=\"band hue-{hue}\" \
             fill=\"url(#stripes-{hue})\" x=\"0.5\" y=\"0.5\" width=\"15\" height=\"15\"/></svg>{}</li>",
            escaped(kind)
        );
    }
    out.push_str("</ul>");
}
