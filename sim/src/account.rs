//! Puts what was seen of a run into the shapes of a report. It judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ggen_marketplace::{
    catalog,
    release::VerifiedHead,
    store::{self, Store},
    time::Timestamp,
};

use crate::{
    host,
    ledger::{self, Ended, Ledger},
    measure::Release,
    report::{self, FaultReport, Member, Outcome, StepReport},
    scenario::{DiskKind, Role, Scenario, Step},
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
        let page = catalog::after(conn, after, usize::MAX, usize::MAX)?;
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
pub(crate) fn metrics(
    scenario: &Scenario,
    ledger: &Ledger,
) -> (BTreeMap<String, Vec<f64>>, BTreeMap<String, f64>) {
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
        ("bytes_served_by_one_max", ledger.served_by.values().max().copied().unwrap_or(0)),
        ("deliveries", counts.deliveries),
        ("bytes_delivered", counts.bytes_delivered),
        ("steps_published", ended(|it| matches!(it, Ended::Published { .. }))),
        ("steps_searched", ended(|it| matches!(it, Ended::Found { .. }))),
        ("steps_installed", ended(|it| matches!(it, Ended::Installed { .. }))),
        ("steps_looked_up", ended(|it| matches!(it, Ended::LookedUp { .. }))),
        ("steps_failed", ended(|it| matches!(it, Ended::Failed { .. }))),
        ("bites", counts.bites),
        ("identities_taken", ledger.ids.values().sum()),
        ("announcements_checked_per_second_max", ledger.measures.most_in_a_second(ledger::CHECKED)),
        ("announcements_heard_per_second_max", ledger.measures.most_in_a_second(ledger::HEARD)),
        ("introductions_taken_per_second_max", ledger.measures.most_in_a_second(ledger::INTRODUCED)),
        ("dht_requests_taken_max", ledger.measures.most_of_all(ledger::ASKED)),
        ("dht_requests_taken_per_second_max", ledger.measures.most_in_a_second(ledger::ASKED)),
        ("head_requests_answered_max", ledger.measures.most_of_all(ledger::READ)),
        ("records_kept", ledger.kept.values().sum()),
        ("records_kept_by_clients", kept_by_clients(scenario, ledger)),
        ("adversaries_refused", refused(scenario, ledger, true)),
        ("innocents_refused", refused(scenario, ledger, false)),
    ];
    metrics.extend(counted.map(|(name, count)| (name.to_owned(), count as f64)));
    if scenario.nodes.iter().any(|node| node.disk == DiskKind::Files) {
        let of_disks = [("writes_lost", counts.writes_lost), ("pages_torn", counts.pages_torn)];
        metrics.extend(of_disks.map(|(name, count)| (name.to_owned(), count as f64)));
    }
    if scenario.accesses.are_said {
        let relayed = counts.bytes_relayed as f64;
        metrics.insert("bytes_relayed".to_owned(), relayed);
        metrics.insert("share_of_bytes_relayed".to_owned(), relayed / counts.bytes_served.max(1) as f64);
    }
    metrics.extend(shares(scenario, ledger));
    let roles = scenario.nodes.iter().enumerate();
    let running = roles.filter(|(node, _)| ledger.measures.runs(*node)).map(|(node, it)| (node, it.role));
    let links = ledger.links();
    metrics.extend(graph(&running.collect(), &links));
    metrics.insert("adversaries_connected".to_owned(), befriended(scenario, &links) as f64);
    (distributions, metrics)
}

/// How often nodes kept records of others that serve no DHT, and have no business with them.
fn kept_by_clients(scenario: &Scenario, ledger: &Ledger) -> u64 {
    let configured =
        |node: &usize| host::configuration(scenario.nodes[*node].role, &scenario.nodes[*node].config);
    let is_client = |node: &usize| !configured(node).dht_server_mode;
    ledger.kept.iter().filter(|(node, _)| is_client(node)).map(|(_, kept)| kept).sum()
}

/// How many adversaries, or how many others, somebody's network loop refused.
fn refused(scenario: &Scenario, ledger: &Ledger, adversaries: bool) -> u64 {
    let is_adversary = |node: &usize| scenario.nodes[*node].script.is_some();
    ledger.refused.iter().filter(|node| is_adversary(node) == adversaries).count() as u64
}

/// Per share, the part of its steps that ended as they must. What was to be done at a node that did not run, or that stopped in the
/// middle of it, does not count.
fn shares(scenario: &Scenario, ledger: &Ledger) -> BTreeMap<String, f64> {
    let mut counted: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (number, step) in scenario.steps.iter().enumerate() {
        let Some(share) = &step.share else { continue };
        let [good, all] = counted.entry(format!("share_{share}")).or_default();
        if ledger.measures.had_its_time(number) {
            *all += 1;
            *good += usize::from(scenario.shortcoming(number, &ledger.ended).is_none());
        }
    }
    counted.into_iter().map(|(name, [good, all])| (name, good as f64 / all.max(1) as f64)).collect()
}

/// What the graph of the connections between the nodes that run looks like.
fn graph(
    running: &BTreeMap<usize, Role>,
    links: &BTreeSet<[usize; 2]>,
) -> impl Iterator<Item = (String, f64)> {
    let mut neighbours: BTreeMap<usize, BTreeSet<usize>> =
        running.keys().map(|node| (*node, BTreeSet::new())).collect();
    for [one, other] in links.iter().filter(|link| link.iter().all(|node| running.contains_key(node))) {
        neighbours.entry(*one).or_default().insert(*other);
        neighbours.entry(*other).or_default().insert(*one);
    }
    let mut degrees: Vec<usize> = neighbours.values().map(BTreeSet::len).collect();
    degrees.sort_unstable();
    let median = degrees.get(degrees.len() / 2).copied().unwrap_or(0);
    let most = degrees.last().copied().unwrap_or(0);
    let hubs_of = |spoke: &usize| {
        let (hubs, others): (Vec<usize>, Vec<usize>) =
            neighbours[spoke].iter().partition(|it| running.get(it) == Some(&Role::Hub));
        (hubs.len(), others.len())
    };
    let of_spokes = running.iter().filter(|(_, role)| **role == Role::Spoke).map(|(node, _)| hubs_of(node));
    let (hubs, others): (Vec<usize>, Vec<usize>) = of_spokes.unzip();
    let counted = [
        ("graph_parts", parts(&neighbours)),
        ("graph_degree_median", median),
        ("graph_degree_max", most),
        ("spoke_hubs_max", hubs.into_iter().max().unwrap_or(0)),
        ("spoke_others_max", others.into_iter().max().unwrap_or(0)),
    ];
    let ratio = ("graph_degree_max_over_median".to_owned(), most as f64 / median.max(1) as f64);
    counted.into_iter().map(|(name, count)| (name.to_owned(), count as f64)).chain([ratio])
}

/// How many adversaries somebody honest is connected with.
fn befriended(scenario: &Scenario, links: &BTreeSet<[usize; 2]>) -> usize {
    let is_honest = |node: &&usize| scenario.nodes[**node].script.is_none();
    let mixed = links.iter().filter(|link| link.iter().filter(is_honest).count() == 1);
    let adversaries: BTreeSet<usize> = mixed.flatten().filter(|node| !is_honest(node)).copied().collect();
    adversaries.len()
}

/// Into how many parts that know nothing of each other a graph falls.
fn parts(neighbours: &BTreeMap<usize, BTreeSet<usize>>) -> usize {
    let mut left: BTreeSet<usize> = neighbours.keys().copied().collect();
    let mut parts = 0;
    while let Some(first) = left.pop_first() {
        parts += 1;
        let mut ahead = vec![first];
        while let Some(node) = ahead.pop() {
            ahead.extend(neighbours[&node].iter().filter(|it| left.remove(it)));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(roles: &[Role], links: &[[usize; 2]]) -> BTreeMap<String, f64> {
        let running = roles.iter().copied().enumerate().collect();
        graph(&running, &links.iter().copied().collect()).collect()
    }

    #[test]
    fn a_graph_falls_into_parts_and_one_node_may_have_more_than_its_share() {
        let star = graph_of(&[Role::Peer; 5], &[[0, 1], [0, 2], [0, 3], [0, 4]]);
        assert_eq!((star["graph_parts"], star["graph_degree_max"]), (1.0, 4.0));
        assert_eq!((star["graph_degree_median"], star["graph_degree_max_over_median"]), (1.0, 4.0));
        let torn = graph_of(&[Role::Peer; 5], &[[0, 1], [2, 3], [3, 9]]);
        assert_eq!((torn["graph_parts"], torn["graph_degree_max"]), (3.0, 1.0), "9 does not run");
    }

    #[test]
    fn a_spoke_holds_on_to_hubs() {
        let roles = [Role::Hub, Role::Hub, Role::Spoke, Role::Spoke];
        let tidy = graph_of(&roles, &[[0, 1], [0, 2], [1, 2], [0, 3]]);
        assert_eq!((tidy["spoke_hubs_max"], tidy["spoke_others_max"]), (2.0, 0.0));
        assert_eq!(graph_of(&roles, &[[0, 2], [2, 3]])["spoke_others_max"], 1.0);
    }
}
