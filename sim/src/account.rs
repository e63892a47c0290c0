//! Puts what was seen of a run into the shapes of a report. It judges nothing.

use std::{collections::BTreeMap, time::Duration};

use ggen_marketplace::{
    catalog,
    release::VerifiedHead,
    store::{self, Store},
    time::Timestamp,
};

use crate::{
    ledger::{Ended, Ledger},
    measure::Release,
    report::{self, FaultReport, Member, Outcome, StepReport},
    scenario::{Scenario, Step},
};

/// Reads from a store what its catalogue took after a position; the releases, and the newest position.
pub(crate) fn listings(
    store: &Store,
    after: u64,
    now: Timestamp,
) -> Result<(Vec<Release>, u64), store::Error> {
    store.read(|conn| {
        // A disk that was lost counts from its beginning again.
        let newest = catalog::newest_position(conn)?;
        let after = if newest < after { 0 } else { after };
        let page = catalog::after(conn, after, usize::MAX, usize::MAX, now)?;
        let heads = page.heads.iter().filter_map(|bytes| VerifiedHead::verify(bytes, now).ok());
        let releases = heads.map(|head| {
            let head = head.head();
            (format!("{}/{}", head.publisher, head.name), head.sequence.get())
        });
        Ok((releases.collect(), page.next))
    })
}

/// The nodes, with their lives.
pub(crate) fn members(scenario: &Scenario, ledger: &Ledger, end: Duration) -> Vec<Member> {
    let nodes = scenario.nodes.iter().enumerate();
    let member = |(index, node): (usize, &crate::scenario::Node)| Member {
        name: node.name.clone(),
        role: if node.script.is_some() { "adversary" } else { node.role.as_str() }.to_owned(),
        site: scenario.site_of(index),
        region: node.region.clone(),
        lives: ledger.measures.lives(index, end),
    };
    nodes.map(member).collect()
}

/// The steps, with how they ended.
pub(crate) fn steps(scenario: &Scenario, ledger: &Ledger) -> Vec<StepReport> {
    let steps = scenario.steps.iter().enumerate();
    let step = |(number, step): (usize, &Step)| {
        let shortcoming = scenario.shortcoming(number, &ledger.ended);
        let (outcome, detail) = outcome(step, ledger.ended.get(&number), shortcoming);
        StepReport {
            number,
            node: step.node,
            what: step.action.to_string(),
            at_secs: step.at.as_secs_f64(),
            took_secs: ledger.measures.took(number).map(|took| took.as_secs_f64()),
            outcome,
            detail,
        }
    };
    steps.map(step).collect()
}

/// The adversaries, as what broke.
pub(crate) fn adversaries(scenario: &Scenario, ledger: &Ledger) -> Vec<FaultReport> {
    let end = scenario.duration.as_secs_f64();
    let nodes = scenario.nodes.iter().enumerate();
    let adversary = |(index, node): (usize, &crate::scenario::Node)| {
        let script = node.script?;
        let from = script.at.max(node.start).as_secs_f64();
        Some(FaultReport {
            kind: script.kind.as_str().to_owned(),
            name: node.name.clone(),
            from_secs: from,
            until_secs: end,
            nodes: vec![node.name.clone()],
            windows: vec![[from, end]],
            bites: ledger.bites_of(index),
        })
    };
    nodes.filter_map(adversary).collect()
}

fn outcome(step: &Step, ended: Option<&Ended>, shortcoming: Option<String>) -> (Outcome, String) {
    let Some(ended) = ended else { return (Outcome::Unfinished, String::new()) };
    if let Some(why) = shortcoming {
        return (if step.may_fail { Outcome::Tolerated } else { Outcome::Failed }, why);
    }
    let detail = match ended {
        Ended::Found { ids, .. } => format!("found {}", ids.len()),
        Ended::Installed { fetched, .. } => format!("fetched {fetched} bytes"),
        Ended::Bootstrapped { reached } => format!("reached {reached}"),
        Ended::Failed { code, .. } => format!("failed with {code}, as it must"),
        Ended::Published { .. } | Ended::LookedUp { .. } | Ended::Joined | Ended::Left => String::new(),
    };
    (Outcome::Succeeded, detail)
}

/// The distributions, and the metrics: what was counted, and the quantiles of every distribution.
pub(crate) fn metrics(ledger: &Ledger) -> (BTreeMap<String, Vec<f64>>, BTreeMap<String, f64>) {
    let counts = &ledger.counts;
    let ended = |is: fn(&Ended) -> bool| ledger.ended.values().filter(|ended| is(ended)).count() as u64;
    let distributions = ledger.measures.distributions();
    let mut metrics = report::quantiles(&distributions);
    let counted = [
        ("connections_made", counts.connected),
        ("connections_lost", counts.disconnected),
        ("announcements_taken", counts.announcements_taken),
        ("announcements_refused", counts.announcements_refused),
        ("heads_listed", counts.heads_listed),
        ("bytes_served", counts.bytes_served),
        ("deliveries", counts.deliveries),
        ("bytes_delivered", counts.bytes_delivered),
        ("steps_published", ended(|it| matches!(it, Ended::Published { .. }))),
        ("steps_searched", ended(|it| matches!(it, Ended::Found { .. }))),
        ("steps_installed", ended(|it| matches!(it, Ended::Installed { .. }))),
        ("steps_looked_up", ended(|it| matches!(it, Ended::LookedUp { .. }))),
        ("steps_failed", ended(|it| matches!(it, Ended::Failed { .. }))),
        ("bites", counts.bites),
    ];
    metrics.extend(counted.map(|(name, count)| (name.to_owned(), count as f64)));
    (distributions, metrics)
}
