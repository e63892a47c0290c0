//! The file as it stands, and how it becomes a [`Scenario`].

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use toml::{Spanned, Table};

use super::{
    Before, DURATION_MAX, Expect, FaultKind, Flood, Latency, Node, Preload, Scenario, Script, ScriptKind,
    Step, Threshold,
    access::{self, Kinds, Router},
    breaking::{self, Breaking},
    problem::{Problem, unknown},
    sources::Sources,
    swarm::Swarming,
    topology::{self, Laid, Member, Regions},
    workload::{self, Doing},
};
use crate::{engine::Engine, scenario::Error};

/// The longest latency of a link.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Announcements of a flood in a second at most.
const FLOOD_MAX: u64 = 100_000;
/// Heads that are there from the beginning at most: as many as a catalogue holds.
const PRELOADED_MAX: u32 = 200_000;
/// Seeds of a scenario at most.
const SEEDS_MAX: u64 = 100_000;

/// Checks one variant of a file.
pub(super) fn scenario(sources: &Sources, variant: Option<&str>) -> Result<Scenario, Error> {
    let variant = sources.variant(variant)?;
    let table = sources.table(&variant)?;
    let invalid = |problem| sources.invalid(problem);
    let document = Document::deserialize(toml::de::Deserializer::from(table));
    let document = document.map_err(|error| invalid(Problem::of(&error)))?;
    let scenario = document.check(sources.name().to_owned(), variant.name).map_err(invalid)?;
    Ok(scenario)
}

/// One variant of a file, not checked.
pub(super) fn table(sources: &Sources, variant: Option<&str>) -> Result<Table, Error> {
    let table = sources.table(&sources.variant(variant)?)?;
    let table = Table::deserialize(toml::de::Deserializer::from(table));
    table.map_err(|error| sources.invalid(Problem::of(&error)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    duration: Spanned<Span>,
    #[serde(default)]
    engine: Engine,
    #[serde(default = "one_millisecond")]
    tick: Spanned<Span>,
    #[serde(default)]
    seeds: Option<Spanned<Seeds>>,
    latency: Option<Spanned<Times>>,
    regions: Option<Spanned<Regions>>,
    topology: Spanned<Laid>,
    /// Kinds of access to the network that nodes are dealt to.
    #[serde(default)]
    access: Vec<Spanned<Kinds>>,
    /// Routers that several nodes stand behind.
    #[serde(default)]
    routers: BTreeMap<String, Spanned<Router>>,
    /// What the configuration of every node says.
    #[serde(default)]
    config: Option<Spanned<Table>>,
    #[serde(default)]
    nodes: Vec<Member>,
    /// Names, and the nodes that they lead to.
    #[serde(default)]
    names: BTreeMap<String, Spanned<String>>,
    preload: Option<Preloaded>,
    #[serde(default)]
    workload: Vec<Doing>,
    #[serde(default)]
    faults: Vec<Spanned<Breaking>>,
    #[serde(default)]
    adversaries: Vec<Adversary>,
    #[serde(default)]
    swarm: Swarming,
    #[serde(default)]
    expect: Expected,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Preloaded {
    heads: Spanned<u32>,
    nodes: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Adversary {
    node: Spanned<String>,
    script: ScriptKind,
    #[serde(default = "at_once")]
    at: Spanned<Span>,
    /// Of a flood.
    per_second: Option<Spanned<u64>>,
    #[serde(rename = "for")]
    lasts: Option<Spanned<Span>>,
    /// Before whose record it stands.
    package: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Expected {
    catalogues_agree: bool,
    catalogues_agree_within: Option<Span>,
    thresholds: Vec<Bound>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bound {
    metric: Spanned<String>,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

impl Default for Expected {
    fn default() -> Self {
        Self { catalogues_agree: true, catalogues_agree_within: None, thresholds: Vec::new() }
    }
}

/// Names of nodes, with their numbers.
pub(super) type Names<'a> = BTreeMap<&'a str, usize>;

pub(super) fn node_named(name: &Spanned<String>, names: &Names<'_>) -> Result<usize, Problem> {
    let node = names.get(name.get_ref().as_str()).copied();
    node.ok_or_else(|| unknown("node", name, names.keys().copied()))
}

/// A duration as people write it, such as `1m 30s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub(super) Duration);

impl Span {
    fn parse<E: de::Error>(text: &str) -> Result<Self, E> {
        let parsed = humantime::parse_duration(text);
        parsed.map(Self).map_err(|error| E::custom(format!("\"{text}\" is no duration: {error}")))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?)
    }
}

/// One duration, or a range of them that is drawn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Times(pub(super) RangeInclusive<Duration>);

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Times;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"20s\", or { min = …, max = … }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Times, E> {
                Span::parse(text).map(|Span(only)| Times(only..=only))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Times, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Range {
                    min: Span,
                    max: Span,
                }
                let Range { min, max } = Range::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if min > max {
                    return Err(de::Error::custom("min is at most max"));
                }
                Ok(Times(min.0..=max.0))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// By how much a clock is stepped: ahead, or back where it begins with a minus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) sign: Option<Sign>,
    pub(super) by: RangeInclusive<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Signed {
    pub(super) fn is_back(&self) -> bool {
        self.sign == Some(Sign::Minus)
    }
}

impl<'de> Deserialize<'de> for Signed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Signed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"20s\" or \"-2h\", or { min = …, max = … }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Signed, E> {
                let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
                    (Some(rest), _) => (Some(Sign::Plus), rest),
                    (_, Some(rest)) => (Some(Sign::Minus), rest),
                    _ => (None, text),
                };
                Span::parse(rest).map(|Span(only)| Signed { sign, by: only..=only })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Signed, A::Error> {
                let Times(by) = Times::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Signed { sign: None, by })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `"1..5"`, both ends included, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seeds(Vec<u64>);

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Seeds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seeds such as \"1..5\" or [1, 2, 3]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seeds, E> {
                let ends = text.split_once("..").and_then(|(first, last)| {
                    Some((first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?))
                });
                match ends {
                    Some((first, last)) if first <= last && last - first < SEEDS_MAX => {
                        Ok(Seeds((first..=last).collect()))
                    }
                    _ => Err(E::custom(format!("\"{text}\" are no seeds; \"1..5\" are five"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seeds, A::Error> {
                let mut seeds = Vec::new();
                while let Some(seed) = seq.next_element()? {
                    seeds.push(seed);
                }
                if seeds.is_empty() {
                    Err(de::Error::custom("there is at least one seed"))
                } else {
                    Ok(Seeds(seeds))
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn one_millisecond() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_millis(1)))
}

fn at_once() -> Spanned<Span> {
    Spanned::new(0..0, Span::default())
}

/// A moment before the run's end.
pub(super) fn moment(at: &Spanned<Span>, end: Duration) -> Result<Duration, Problem> {
    let moment = at.get_ref().0;
    if moment >= end { Err(Problem::at(at, "the run has ended by then")) } else { Ok(moment) }
}

impl Adversary {
    /// How much it floods; what is said of that belongs to no other script.
    fn flood(&self) -> Result<Flood, Problem> {
        let mut flood = Flood::default();
        let counts = matches!(self.script, ScriptKind::FloodGossip | ScriptKind::RecordFlood);
        if let Some(per_second) = &self.per_second {
            flood.per_second = *per_second.get_ref();
            if flood.per_second == 0 || flood.per_second > FLOOD_MAX || !counts {
                let what = format!(
                    "`per-second` belongs to `flood-gossip` and `record-flood`, and is 1 to {FLOOD_MAX}"
                );
                return Err(Problem::at(per_second, what));
            }
        }
        if let Some(lasts) = &self.lasts {
            flood.lasts = lasts.get_ref().0;
            if flood.lasts.is_zero()
                || !counts && !matches!(self.script, ScriptKind::IdentifyFlood | ScriptKind::ReadFlood)
            {
                let what = "`for` belongs to `flood-gossip`, `record-flood`, `identify-flood` and `read-flood`, and is more than nothing";
                return Err(Problem::at(lasts, what));
            }
        }
        Ok(flood)
    }

    /// A step that publishes the package that it is after; to name one belongs to no other script.
    fn target(&self, steps: &[Step]) -> Result<Option<usize>, Problem> {
        match (&self.package, self.script) {
            (Some(package), ScriptKind::Eclipse) => workload::published(package, steps).map(Some),
            (None, ScriptKind::Eclipse) => Err(Problem::at(&self.node, "`eclipse` needs a `package`")),
            (Some(package), _) => Err(Problem::at(package, "`package` belongs to `eclipse`")),
            (None, _) => Ok(None),
        }
    }
}

impl Preloaded {
    fn check(&self, names: &Names<'_>) -> Result<Preload, Problem> {
        let heads = *self.heads.get_ref();
        if heads == 0 || heads > PRELOADED_MAX {
            let what = format!("1 to {PRELOADED_MAX} heads can be there from the beginning");
            return Err(Problem::at(&self.heads, what));
        }
        let nodes = self.nodes.iter().map(|name| node_named(name, names)).collect::<Result<_, _>>()?;
        Ok(Preload { heads, nodes })
    }
}

impl Document {
    fn check(self, name: String, variant: Option<String>) -> Result<Scenario, Problem> {
        let duration = self.duration.get_ref().0;
        if duration.is_zero() || duration > DURATION_MAX {
            return Err(Problem::at(&self.duration, "a run lasts more than nothing and at most a day"));
        }
        let tick = self.tick.get_ref().0;
        // The timers of tokio count whole milliseconds.
        if tick.is_zero() || !tick.subsec_nanos().is_multiple_of(1_000_000) || tick > Duration::from_secs(1) {
            let what = "a tick is a whole number of milliseconds, at most one second";
            return Err(Problem::at(&self.tick, what));
        }
        let latency = self.latency()?;
        let mut nodes = topology::nodes(&self.topology, duration)?;
        let sites = self.topology.get_ref().sites.unwrap_or(nodes.len());
        if sites == 0 || sites > nodes.len() {
            return Err(Problem::at(&self.topology, "there is at least one site, and a node at each"));
        }
        topology::deal(&mut nodes, sites, self.regions.as_ref())?;
        let mut accesses = access::accesses(&self.access, &self.routers, &nodes)?;
        let of_sites = (sites, &accesses);
        topology::configure(&mut nodes, self.config.as_ref(), &self.nodes, of_sites, duration)?;
        accesses.are_said |= topology::first_access(&self.nodes).is_some();
        self.check_engine()?;
        let names: Names<'_> =
            nodes.iter().enumerate().map(|(index, node)| (node.name.as_str(), index)).collect();
        let preload = self.preload.as_ref().map(|preload| preload.check(&names)).transpose()?;
        let steps = workload::steps(&self.workload, &names, duration)?;
        let led = self.names.iter().map(|(name, node)| Ok((name.clone(), node_named(node, &names)?)));
        let led: BTreeMap<String, usize> = led.collect::<Result<_, _>>()?;
        let faults = breaking::faults(&self.faults, &names, (sites, &led), duration, &steps)?;
        breaking::check_routers(&self.faults, &faults, &accesses, &nodes)?;
        let moves_to = |name: &str| {
            faults.iter().any(|it| matches!(&it.kind, FaultKind::Moves { router: Some(to) } if to == name))
        };
        access::check_routers(&self.routers, |name| {
            let behind = Some(Before::Shared(name.to_owned()));
            nodes.iter().any(|node| node.access.before == behind) || moves_to(name)
        })?;
        topology::check_starts(&self.nodes, &nodes, &steps, &faults)?;
        self.script(&mut nodes, &steps, duration)?;
        let swarm = self.swarm.check(faults.len(), self.adversaries.len())?;
        Ok(Scenario {
            name,
            variant,
            seeds: self.seeds.as_ref().map_or_else(|| vec![1], |seeds| seeds.get_ref().0.clone()),
            duration,
            engine: self.engine,
            tick,
            latency,
            accesses,
            sites,
            topology: self.topology.get_ref().kind,
            names: led,
            preload,
            steps,
            faults,
            swarm,
            expect: self.expect()?,
            nodes,
        })
    }

    /// Lines and routers are the fabric's.
    fn check_engine(&self) -> Result<(), Problem> {
        let shares = self.access.first().map(|share| ("access", share.span()));
        let routers = self.routers.values().next().map(|router| ("routers", router.span()));
        let first = shares.or(routers).or_else(|| topology::first_access(&self.nodes));
        match first.filter(|_| self.engine != Engine::Fabric) {
            Some((key, place)) => {
                let what =
                    format!("`{key}` needs `engine = \"fabric\"`: turmoil has neither lines nor routers");
                Err(Problem { place: Some(place), what })
            }
            None => Ok(()),
        }
    }

    fn latency(&self) -> Result<Latency, Problem> {
        match (&self.latency, &self.regions) {
            (Some(latency), None) if *latency.get_ref().0.end() > LATENCY_MAX => {
                Err(Problem::at(latency, "a latency is at most one minute"))
            }
            (Some(latency), None) => Ok(Latency::Drawn(latency.get_ref().0.clone())),
            (None, Some(_)) => Ok(Latency::Regions),
            (Some(_), Some(regions)) => Err(Problem::at(
                regions,
                "`latency` and `regions` both say how far the nodes are from each other",
            )),
            (None, None) => Err(Problem::at(
                &self.topology,
                "`latency` or `regions` must say how far the nodes are from each other",
            )),
        }
    }

    fn script(&self, nodes: &mut [Node], steps: &[Step], end: Duration) -> Result<(), Problem> {
        for adversary in &self.adversaries {
            let Adversary { node, script, at, .. } = adversary;
            let (at, flood, target) = (moment(at, end)?, adversary.flood()?, adversary.target(steps)?);
            let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
            let Some(found) = nodes.iter_mut().find(|it| it.name == *node.get_ref()) else {
                return Err(unknown("node", node, names.iter().map(String::as_str)));
            };
            if found.script.is_some() {
                return Err(Problem::at(node, "a node has one script"));
            }
            found.script = Some(Script { kind: *script, at, flood, target });
        }
        Ok(())
    }

    fn expect(&self) -> Result<Expect, Problem> {
        let Expected { catalogues_agree, catalogues_agree_within, thresholds } = &self.expect;
        let thresholds = thresholds.iter().map(|Bound { metric, at_most, at_least }| {
            if at_most.is_none() && at_least.is_none() {
                return Err(Problem::at(metric, "a threshold needs `at-most` or `at-least`"));
            }
            Ok(Threshold { metric: metric.get_ref().clone(), at_most: *at_most, at_least: *at_least })
        });
        Ok(Expect {
            catalogues_agree: *catalogues_agree,
            catalogues_agree_within: catalogues_agree_within.map(|Span(within)| within),
            thresholds: thresholds.collect::<Result<_, _>>()?,
        })
    }
}
