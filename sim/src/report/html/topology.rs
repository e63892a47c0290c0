//! Who was connected with whom at the end: nodes on a circle, hubs on a smaller one inside.
//!
//! Places depend on the members alone, so that the graphs of two runs can be checked against each other.

use std::{
    collections::BTreeSet,
    f64::consts::{FRAC_PI_2, TAU},
    fmt::Write,
};

use super::{escaped, hue};
use crate::report::{Member, Report, quantile};

const SIDE: f64 = 760.0;
const OUTER: f64 = 270.0;
const INNER: f64 = 120.0;
/// The least distance of two names around a circle.
const NAME_HEIGHT: f64 = 11.0;

/// A node's place.
#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    angle: f64,
    /// Whether it is on the circle of the hubs.
    is_inner: bool,
    /// Whether its name is shown.
    is_named: bool,
}

/// The drawing with its legend.
pub(super) fn topology(out: &mut String, report: &Report) {
    let places = places(&report.members);
    let groups = groups(&report.members);
    let _ = write!(
        out,
        "<svg class=\"topology\" viewBox=\"0 0 {SIDE} {SIDE}\" role=\"img\" aria-labelledby=\"topology-title\">\
         <title id=\"topology-title\">{} connections between {} nodes at the end</title>",
        report.links.len(),
        report.members.len()
    );
    // Few links are drawn boldly, thousands so faintly that they add up.
    let opacity = (90.0 / report.links.len().max(1) as f64).clamp(0.07, 0.7);
    let _ = write!(out, "<g class=\"links\" stroke-opacity=\"{opacity:.2}\">");
    for [one, other] in &report.links {
        if let (Some(a), Some(b)) = (places.get(*one), places.get(*other)) {
            let _ = write!(
                out,
                "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
                a.x, a.y, b.x, b.y
            );
        }
    }
    out.push_str("</g>");
    let degrees = degrees(report);
    for (node, (member, place)) in report.members.iter().zip(&places).enumerate() {
        let group = groups.iter().position(|group| *group == group_of(member)).unwrap_or(0);
        draw(out, report, member, *place, degrees[node], hue(group));
    }
    out.push_str("</svg>");
    legend(out, &groups, &degrees, report);
}

/// The nodes of a circle stand by region, then by host, then by number.
fn places(members: &[Member]) -> Vec<Place> {
    let mut places = vec![
        Place { x: SIDE / 2.0, y: SIDE / 2.0, angle: 0.0, is_inner: false, is_named: true };
        members.len()
    ];
    let is_all_hubs = members.iter().all(is_hub);
    for inner in [false, true] {
        let on = |node: &usize| (is_hub(&members[*node]) && !is_all_hubs) == inner;
        let mut nodes: Vec<usize> = (0..members.len()).filter(on).collect();
        nodes.sort_by_key(|node| (&members[*node].region, members[*node].site, *node));
        let radius = if inner { INNER } else { OUTER };
        let every = (NAME_HEIGHT * nodes.len() as f64 / (TAU * radius)).ceil().max(1.0) as usize;
        for (position, node) in nodes.iter().enumerate() {
            // From the top, clockwise.
            let angle = position as f64 / nodes.len() as f64 * TAU - FRAC_PI_2;
            let is_alone = inner && nodes.len() == 1;
            let radius = if is_alone { 0.0 } else { radius };
            places[*node] = Place {
                x: SIDE / 2.0 + radius * angle.cos(),
                y: SIDE / 2.0 + radius * angle.sin(),
                angle,
                is_inner: inner,
                is_named: position % every == 0,
            };
        }
    }
    places
}

fn is_hub(member: &Member) -> bool {
    member.role == "hub"
}

/// What colours say: the region where there is one, else the role.
fn group_of(member: &Member) -> &str {
    member.region.as_deref().unwrap_or(&member.role)
}

fn groups(members: &[Member]) -> Vec<&str> {
    let groups: BTreeSet<&str> = members.iter().map(group_of).collect();
    groups.into_iter().collect()
}

fn degrees(report: &Report) -> Vec<usize> {
    let mut degrees = vec![0; report.members.len()];
    for end in report.links.iter().flatten() {
        if let Some(degree) = degrees.get_mut(*end) {
            *degree += 1;
        }
    }
    degrees
}

fn draw(out: &mut String, report: &Report, member: &Member, place: Place, degree: usize, hue: usize) {
    let name = escaped(&member.name);
    let (x, y) = (place.x, place.y);
    let radius = if is_hub(member) { 9.0 } else { (260.0 / report.members.len() as f64).clamp(4.0, 7.0) };
    let is_up = member.lives.last().is_some_and(|[_, until]| *until >= report.simulated_secs);
    let (class, state) = if is_up { ("up", "") } else { ("down", ", not running at the end") };
    let role = escaped(&member.role);
    let _ = write!(
        out,
        "<circle class=\"node {class} hue-{hue}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\">\
         <title>{name}: {role}, {degree} connections{state}</title></circle>"
    );
    if !place.is_named {
        return;
    }
    if place.is_inner {
        // There is room around a hub.
        let y = y - radius - 5.0;
        let _ = write!(
            out,
            "<text class=\"name hub\" font-size=\"12\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>"
        );
        return;
    }
    // Away from the middle, and never upside down.
    let is_left = place.angle.cos() < -1e-9;
    let turn = place.angle.to_degrees() + if is_left { 180.0 } else { 0.0 };
    let (anchor, gap) = if is_left { ("end", -radius - 5.0) } else { ("start", radius + 5.0) };
    let _ = write!(
        out,
        "<text class=\"name\" font-size=\"11\" text-anchor=\"{anchor}\" dominant-baseline=\"central\" \
         transform=\"translate({x:.1} {y:.1}) rotate({turn:.1})\" x=\"{gap:.1}\">{name}</text>"
    );
}

fn legend(out: &mut String, groups: &[&str], degrees: &[usize], report: &Report) {
    out.push_str("<ul class=\"legend\">");
    for (index, group) in groups.iter().enumerate() {
        let _ = write!(
            out,
            "<li><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\"><circle class=\"node up hue-{}\" cx=\"8\" cy=\"8\" r=\"6\"/>\
             </svg>{}</li>",
            hue(index),
            escaped(group)
        );
    }
    out.push_str(
        "<li><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\"><circle class=\"node down\" cx=\"8\" cy=\"8\" r=\"6\"/></svg>\
         not running at the end</li></ul>",
    );
    let mut sorted: Vec<f64> = degrees.iter().map(|degree| *degree as f64).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |q| quantile(&sorted, q).unwrap_or(0.0);
    let _ = write!(
        out,
        "<p class=\"note\">{} connections between {} nodes. A node has {} to {} of them, and {} in the median.</p>",
        report.links.len(),
        report.members.len(),
        at(0.0),
        at(1.0),
        at(0.5)
    );
}
