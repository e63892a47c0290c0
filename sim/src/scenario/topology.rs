//! Which nodes there are, whom they know, where they are, and what their configuration says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::Duration,
};

use ggen_marketplace::config::{self, P2PConfig, Partial, Unknown, document};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use toml::{Spanned, Table};

use super::{
    Access, Accesses, Action, DiskKind, EVERY_NODE, Fault, FaultKind, NODES_MAX, Node, Role, Step, Topology,
    access::{Rate, Said},
    breaking::SHIFT_MAX,
    document::{Signed, Span, moment},
    problem::{Problem, unknown},
    regions,
};
use crate::virtualise::clocks::Shift;

/// The table `[topology]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Laid {
    #[serde(deserialize_with = "kind")]
    pub(super) kind: Topology,
    nodes: Option<usize>,
    /// Of the nodes, in hub-and-spoke.
    hubs: Option<usize>,
    permanents: Option<usize>,
    ephemerals: Option<usize>,
    pub(super) sites: Option<usize>,
    /// Until when the last node has started.
    started: Option<Spanned<Span>>,
}

/// The words are those of a node's own configuration.
fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Topology, D::Error> {
    let word = String::deserialize(deserializer)?;
    let found = Topology::ALL.iter().copied().find(|it| it.as_str() == word);
    found.ok_or_else(|| de::Error::unknown_variant(&word, &["mesh", "hub-and-spoke", "hybrid"]))
}

/// One of `[[nodes]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    name: Spanned<String>,
    start: Option<Spanned<Span>>,
    leave: Option<Spanned<Span>>,
    region: Option<Spanned<String>>,
    /// Names of the nodes that it knows, which may be its own.
    bootstrap: Option<Vec<Spanned<String>>>,
    disk: Option<Spanned<String>>,
    clock: Option<Spanned<Signed>>,
    drift: Option<Spanned<Signed>>,
    up: Option<Spanned<Rate>>,
    down: Option<Spanned<Rate>>,
    nat: Option<Spanned<String>>,
    #[serde(rename = "nat-idle")]
    nat_idle: Option<Spanned<Span>>,
    hairpins: Option<Spanned<bool>>,
    firewall: Option<Spanned<bool>>,
    /// One of `[routers]`.
    router: Option<Spanned<String>>,
    /// The node whose publisher key it has too.
    #[serde(rename = "key-of")]
    key_of: Option<Spanned<String>>,
    config: Option<Spanned<Table>>,
}

/// `regions`: a list that sites are dealt to in turn, or names with weights.
#[derive(Debug)]
pub(super) struct Regions(Vec<(Spanned<String>, u64)>);

impl<'de> Deserialize<'de> for Regions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Regions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of regions, or a table of them with their weights")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Regions, A::Error> {
                let mut regions = Vec::new();
                while let Some(name) = seq.next_element()? {
                    regions.push((name, 1));
                }
                Ok(Regions(regions))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Regions, A::Error> {
                let mut regions = Vec::new();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    regions.push((name, map.next_value()?));
                }
                Ok(Regions(regions))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

pub(super) fn nodes(laid: &Spanned<Laid>, end: Duration) -> Result<Vec<Node>, Problem> {
    let (strong, weak) = counts(laid)?;
    let Laid { kind, started, .. } = laid.get_ref();
    let started = started.as_ref().map(|started| moment(started, end)).transpose()?.unwrap_or_default();
    let count = strong + weak;
    if count == 0 || count > NODES_MAX {
        return Err(Problem::at(laid, format!("there are 1 to {NODES_MAX} nodes")));
    }
    let node = |index: usize| {
        let (role, name, bootstrap) = match kind {
            // The first one, and one in the middle of those before: a tree of little depth, without anybody in charge.
            Topology::Mesh => (Role::Peer, format!("node-{index}"), tree(index)),
            Topology::HubAndSpoke if index < strong => {
                (Role::Hub, format!("hub-{index}"), (0..index).collect())
            }
            Topology::HubAndSpoke => {
                (Role::Spoke, format!("spoke-{}", index - strong), (0..strong).collect())
            }
            Topology::Hybrid if index < strong => {
                (Role::Permanent, format!("permanent-{index}"), tree(index))
            }
            Topology::Hybrid => {
                let number = index - strong;
                let known = BTreeSet::from([number % strong, (number + 1) % strong]);
                (Role::Ephemeral, format!("ephemeral-{number}"), known.into_iter().collect())
            }
        };
        let start = started.mul_f64(index as f64 / count as f64);
        // Whole milliseconds, as the timers have them.
        let start = Duration::from_millis(u64::try_from(start.as_millis()).unwrap_or(u64::MAX));
        Node {
            name,
            role,
            region: None,
            bootstrap,
            start,
            leave: None,
            script: None,
            disk: DiskKind::default(),
            clock: Shift::default(),
            drift: Shift::default(),
            access: Access::default(),
            key_of: None,
            config: Partial::default(),
        }
    };
    Ok((0..count).map(node).collect())
}

/// How many nodes there are that others hold on to, and how many others.
fn counts(laid: &Spanned<Laid>) -> Result<(usize, usize), Problem> {
    let Laid { kind, nodes, hubs, permanents, ephemerals, .. } = laid.get_ref();
    let refuse = |what: &str| Err(Problem::at(laid, what));
    match (*kind, *nodes, *hubs, *permanents, *ephemerals) {
        (Topology::Mesh, Some(nodes), None, None, None) => Ok((nodes, 0)),
        (Topology::Mesh, _, Some(_), ..) => refuse("a mesh has no hubs"),
        (Topology::Mesh, ..) => refuse("a mesh has `nodes`, and no others"),
        (Topology::HubAndSpoke, Some(nodes), Some(hubs), None, None) if hubs > 0 && hubs < nodes => {
            Ok((hubs, nodes - hubs))
        }
        (Topology::HubAndSpoke, ..) => {
            refuse("hub-and-spoke needs `nodes`, and `hubs` of them: at least one and fewer than all")
        }
        (Topology::Hybrid, None, None, Some(permanents), Some(ephemerals)) if permanents > 0 => {
            Ok((permanents, ephemerals))
        }
        (Topology::Hybrid, ..) => refuse("hybrid needs `permanents`, at least one, and `ephemerals`"),
    }
}

fn tree(index: usize) -> Vec<usize> {
    let known: BTreeSet<usize> = if index == 0 { BTreeSet::new() } else { [0, index / 2].into() };
    known.into_iter().filter(|known| *known < index).collect()
}

/// Deals the sites out to the regions, so that each has its share at any time.
pub(super) fn deal(
    nodes: &mut [Node],
    sites: usize,
    regions: Option<&Spanned<Regions>>,
) -> Result<(), Problem> {
    let Some(regions) = regions else { return Ok(()) };
    let Regions(weights) = regions.get_ref();
    for (name, _) in weights {
        known_region(name)?;
    }
    if weights.iter().all(|(_, weight)| *weight == 0) {
        return Err(Problem::at(regions, "there is at least one region with a weight"));
    }
    let mut dealt = vec![0_u64; weights.len()];
    for site in 0..sites {
        // Whoever has the least for its weight is next, the first of them in the file; compared without fractions.
        let next = (0..weights.len()).filter(|at| weights[*at].1 > 0).min_by(|one, other| {
            let of = |at: usize, by: usize| u128::from(dealt[at] + 1) * u128::from(weights[by].1);
            of(*one, *other).cmp(&of(*other, *one))
        });
        let Some(next) = next else { break };
        dealt[next] += 1;
        for node in nodes.iter_mut().skip(site).step_by(sites) {
            node.region = Some(weights[next].0.get_ref().clone());
        }
    }
    Ok(())
}

fn known_region(name: &Spanned<String>) -> Result<(), Problem> {
    let is_known = regions::NAMES.contains(&name.get_ref().as_str());
    if is_known { Ok(()) } else { Err(unknown("region", name, regions::NAMES.into_iter())) }
}

/// Puts what the file says of all nodes, and of single ones.
pub(super) fn configure(
    nodes: &mut [Node],
    all: Option<&Spanned<Table>>,
    members: &[Member],
    (sites, accesses): (usize, &Accesses),
    end: Duration,
) -> Result<(), Problem> {
    for node in nodes.iter_mut() {
        if let Some(all) = all {
            node.config = partial(&[all.get_ref()], node.role, all)?;
        }
    }
    let names: BTreeMap<String, usize> =
        nodes.iter().enumerate().map(|(index, node)| (node.name.clone(), index)).collect();
    for member in members {
        let concerned = match member.name.get_ref().as_str() {
            EVERY_NODE => (0..nodes.len()).collect(),
            _ => vec![named(&member.name, &names)?],
        };
        if let [only] = concerned.as_slice()
            && (*only >= sites || only + sites < nodes.len())
        {
            if let Some(region) = &member.region {
                let what =
                    "`region` does not belong to a node that shares its site: a region is that of a site";
                return Err(Problem::at(region, what));
            }
            if let Some(clock) = member.clock.as_ref().or(member.drift.as_ref()) {
                let what = "`clock` and `drift` do not belong to a node that shares its site: a clock is that of a site";
                return Err(Problem::at(clock, what));
            }
            if let Some((key, place)) = member.said().first() {
                let what = format!("`{key}` does not belong to a node that shares its site: it is of a site");
                return Err(Problem { place: Some(place), what });
            }
        }
        for index in concerned {
            let said = member.said().check(&accesses.routers)?;
            nodes[index].access = said.or(&nodes[index].access);
            member.put(&mut nodes[index], index, &names, all, end)?;
        }
    }
    Ok(())
}

/// By how much a clock is wrong, by one duration.
fn shift(said: &Spanned<Signed>, what: &str) -> Result<Shift, Problem> {
    let Signed { by, .. } = said.get_ref();
    if by.start() != by.end() || *by.end() > SHIFT_MAX {
        return Err(Problem::at(said, what));
    }
    Ok(Shift::new(*by.end(), said.get_ref().is_back()))
}

fn named(name: &Spanned<String>, names: &BTreeMap<String, usize>) -> Result<usize, Problem> {
    let found = names.get(name.get_ref()).copied();
    found.ok_or_else(|| unknown("node", name, names.keys().map(String::as_str)))
}

/// The first place where something is said of how a single node is connected.
pub(super) fn first_access(members: &[Member]) -> Option<(&'static str, std::ops::Range<usize>)> {
    members.iter().find_map(|member| member.said().first())
}

impl Member {
    fn said(&self) -> Said<'_> {
        Said {
            up: self.up.as_ref(),
            down: self.down.as_ref(),
            nat: self.nat.as_ref(),
            nat_idle: self.nat_idle.as_ref(),
            hairpins: self.hairpins.as_ref(),
            firewall: self.firewall.as_ref(),
            router: self.router.as_ref(),
        }
    }

    fn put(
        &self,
        node: &mut Node,
        index: usize,
        names: &BTreeMap<String, usize>,
        all: Option<&Spanned<Table>>,
        end: Duration,
    ) -> Result<(), Problem> {
        if let Some(start) = &self.start {
            node.start = moment(start, end)?;
        }
        if let Some(leave) = &self.leave {
            node.leave = Some(moment(leave, end)?);
            if node.leave <= Some(node.start) {
                return Err(Problem::at(leave, "a node leaves after it started"));
            }
        }
        if let Some(region) = &self.region {
            known_region(region)?;
            if node.region.is_none() {
                return Err(Problem::at(region, "the scenario has no `regions`"));
            }
            node.region = Some(region.get_ref().clone());
        }
        if let Some(bootstrap) = &self.bootstrap {
            let known: Vec<usize> =
                bootstrap.iter().map(|name| named(name, names)).collect::<Result<_, _>>()?;
            node.bootstrap = known.into_iter().filter(|known| *known != index).collect();
        }
        if let Some(disk) = &self.disk {
            let known = DiskKind::ALL.into_iter();
            let found = known.clone().find(|it| it.as_str() == disk.get_ref());
            node.disk = found.ok_or_else(|| unknown("disk", disk, known.map(DiskKind::as_str)))?;
        }
        if let Some(clock) = &self.clock {
            node.clock =
                shift(clock, "a clock is wrong from the start by one duration, such as \"+2h\" or \"-2h\"")?;
        }
        if let Some(drift) = &self.drift {
            node.drift = shift(
                drift,
                "in an hour a clock gains one duration, such as \"+2s\", or loses it, such as \"-2s\"",
            )?;
        }
        if let Some(key_of) = &self.key_of {
            if named(key_of, names)? == index {
                return Err(Problem::at(key_of, "a node has its own key anyway"));
            }
            node.key_of = Some(key_of.get_ref().clone());
        }
        if let Some(config) = &self.config {
            let tables: Vec<&Table> =
                all.map(Spanned::get_ref).into_iter().chain([config.get_ref()]).collect();
            node.config = partial(&tables, node.role, config)?;
        }
        Ok(())
    }
}

/// Refuses a start that is overridden: a node that something else starts first does not start by itself.
pub(super) fn check_starts(
    members: &[Member],
    nodes: &[Node],
    steps: &[Step],
    faults: &[Fault],
) -> Result<(), Problem> {
    for Member { name, start, .. } in members {
        let Some(start) = start else { continue };
        let Some(index) = nodes.iter().position(|node| node.name == *name.get_ref()) else { continue };
        let of_node = steps.iter().filter(|step| step.node == index);
        let users = of_node.filter_map(|step| match step.action {
            Action::Join => Some((step.at, true)),
            Action::Leave => Some((step.at, false)),
            _ => None,
        });
        let concerned = faults.iter().filter(|fault| fault.nodes.contains(&index));
        let broken = concerned.filter_map(|fault| match fault.kind {
            FaultKind::MassJoin { .. } if fault.pick.is_none() => Some((*fault.at.start(), true)),
            FaultKind::Restart { .. } | FaultKind::MassLeave { .. } | FaultKind::Churn { .. } => {
                Some((*fault.at.start(), false))
            }
            _ => None,
        });
        // At the same moment, the step or the fault that stops it may come first.
        if let Some((_, true)) = users.chain(broken).min() {
            let what = "`start` does not count: this node joins first, and does not run before";
            return Err(Problem::at(start, what));
        }
    }
    Ok(())
}

/// The values of some tables of a node's configuration, of which the later ones count.
fn partial(tables: &[&Table], role: Role, place: &Spanned<Table>) -> Result<Partial, Problem> {
    let mut joined = Table::new();
    for table in tables {
        for (key, value) in *table {
            joined.insert(key.clone(), value.clone());
        }
    }
    let text = joined.to_string();
    let mut is_listening = false;
    let checked = document::parse(Path::new("config"), &text, Unknown::Refuse).and_then(|document| {
        let mut config = P2PConfig::with_state_dir("/simulated").in_role(role.topology(), role);
        document.values.clone().apply(&mut config);
        is_listening = document.values.listen_addresses.is_some();
        config.validate().map(|()| document.values)
    });
    let values = checked.map_err(|error| {
        let what = match &error {
            config::Error::Invalid { problems } => {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            other => other.to_string(),
        };
        Problem::at(place, format!("a node would refuse this: {what}"))
    })?;
    if is_listening {
        let what = "`listen_addresses` does not belong here: where a node listens the simulation says";
        return Err(Problem::at(place, what));
    }
    Ok(values)
}
