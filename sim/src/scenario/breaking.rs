//! What breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    Accesses, Before, EVERY_NODE, Fault, FaultKind, Lasts, Node, Step, Ways, access,
    document::{Names, Signed, Span, Times, moment, node_named},
    problem::{Problem, unknown},
    workload,
};

/// How often one fault happens, and one step is done, at most.
pub(super) const TIMES_MAX: u32 = 1_000;
/// Of a hundred segments, how many may be lost: of more than that, hardly any connection would stand.
const LOSS_PERCENT_MAX: u64 = 90;
/// By how much a clock may be wrong.
pub(super) const SHIFT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// How long a node is down where it is restarted and nothing is said.
const RESTART: Duration = Duration::from_secs(1);

/// One of `[[faults]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Breaking {
    name: Option<Spanned<String>>,
    kind: Spanned<Kind>,
    at: Spanned<Times>,
    until: Option<Spanned<Span>>,
    #[serde(rename = "for")]
    lasts: Option<Spanned<Times>>,
    every: Option<Spanned<Span>>,
    times: Option<Spanned<u32>>,
    nodes: Option<Vec<Spanned<String>>>,
    pick: Option<Spanned<usize>>,
    nearest_to: Option<Spanned<String>>,
    one_way: Option<Spanned<OneWay>>,
    up: Option<Spanned<Span>>,
    down: Option<Spanned<Span>>,
    by: Option<Spanned<Signed>>,
    percent: Option<Spanned<u64>>,
    bytes_per_second: Option<Spanned<u64>>,
    dns: Option<Spanned<String>>,
    router: Option<Spanned<String>>,
    disk: Option<Spanned<bool>>,
    spread: Option<Spanned<Span>>,
    median: Option<Spanned<Span>>,
    away: Option<Spanned<Span>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Partition,
    Isolate,
    Flapping,
    Slow,
    Hold,
    Lossy,
    Throttle,
    SwizzleClog,
    Crash,
    PowerLoss,
    Restart,
    MassJoin,
    MassLeave,
    Churn,
    Clock,
    NameMoves,
    Moves,
}

/// The keys that say when a fault ends.
const END: [&str; 2] = ["until", "for"];

impl Kind {
    /// The keys that belong to this kind and not to every fault, besides those of its end.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Partition | Self::Isolate => &["one-way"],
            Self::Flapping => &["up", "down"],
            Self::Slow | Self::Clock => &["by"],
            Self::Lossy => &["percent"],
            Self::Throttle => &["bytes-per-second"],
            Self::Crash | Self::PowerLoss | Self::Restart => &["disk"],
            Self::MassJoin | Self::MassLeave => &["spread"],
            Self::Churn => &["median", "away"],
            Self::NameMoves => &["dns"],
            Self::Moves => &["router"],
            Self::Hold | Self::SwizzleClog => &[],
        }
    }

    /// When it ends where nothing is said.
    fn end(self) -> End {
        match self {
            // What has joined stays: nothing is mended later.
            Self::MassJoin => End::Never,
            Self::MassLeave | Self::Clock | Self::NameMoves | Self::Moves => End::OrNever,
            Self::Restart => End::After(RESTART),
            Self::Partition
            | Self::Isolate
            | Self::Flapping
            | Self::Slow
            | Self::Hold
            | Self::Lossy
            | Self::Throttle
            | Self::SwizzleClog
            | Self::Crash
            | Self::PowerLoss
            | Self::Churn => End::Said,
        }
    }

    fn takes(self, key: &str) -> bool {
        if END.contains(&key) { self.end() != End::Never } else { self.keys().contains(&key) }
    }
}

/// Whether a fault has an end, and who says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is nothing to mend.
    Never,
    /// The scenario has to say it.
    Said,
    /// The scenario may say it; so much later where it does not.
    After(Duration),
    /// The scenario may say it; at the end of the run where it does not.
    OrNever,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OneWay {
    Out,
    In,
}

pub(super) fn faults(
    declared: &[Spanned<Breaking>],
    names: &Names<'_>,
    (sites, led): (usize, &BTreeMap<String, usize>),
    end: Duration,
    steps: &[Step],
) -> Result<Vec<Fault>, Problem> {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults: Vec<Fault> = Vec::new();
    for breaking in declared {
        let mut fault = breaking.get_ref().check(breaking, names, sites, end, steps)?;
        breaking.get_ref().check_name(&fault, led)?;
        if breaking.get_ref().name.is_none() {
            let count = alike.entry(fault.key.clone()).or_default();
            fault.key = format!("{} {count}", fault.key);
            *count += 1;
        } else if let (Some(name), true) =
            (&breaking.get_ref().name, faults.iter().any(|it| it.key == fault.key))
        {
            return Err(Problem::at(name, "another fault has this name"));
        }
        faults.push(fault);
    }
    Ok(faults)
}

/// Refuses what does not go with routers, or without.
pub(super) fn check_routers(
    declared: &[Spanned<Breaking>],
    faults: &[Fault],
    accesses: &Accesses,
    nodes: &[Node],
) -> Result<(), Problem> {
    let has_routers = access::has_routers(accesses, nodes);
    for (breaking, fault) in declared.iter().zip(faults) {
        match &fault.kind {
            FaultKind::Lossy { .. } | FaultKind::Throttle { .. } if has_routers => {
                let what = "this fault does not go with routers, behind which it sees nothing: say `up` and `down` of nodes";
                return Err(Problem::at(&breaking.get_ref().kind, what));
            }
            FaultKind::Moves { router } => {
                if let (Some(name), Some(place)) = (router, &breaking.get_ref().router)
                    && !accesses.routers.contains_key(name)
                {
                    return Err(unknown("router", place, accesses.routers.keys().map(String::as_str)));
                }
                let is_behind = |node: &&usize| match nodes[**node].access.before {
                    Some(Before::Own(_)) => true,
                    Some(Before::Shared(_)) => router.is_some(),
                    Some(Before::Nothing) | None => false,
                };
                if let Some(node) = fault.nodes.iter().find(|node| !is_behind(node)) {
                    let what = format!(
                        "only a node whose own `nat` is said moves without `router`, and with it one that says `nat` or `router`: {} does not",
                        nodes[*node].name
                    );
                    return Err(Problem::at(&breaking.get_ref().kind, what));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn span<T>(value: &Option<Spanned<T>>) -> Option<std::ops::Range<usize>> {
    value.as_ref().map(Spanned::span)
}

fn within(value: &Spanned<u64>, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
    if range.contains(value.get_ref()) {
        return Ok(*value.get_ref());
    }
    Err(Problem::at(value, format!("`{key}` is {} to {}", range.start(), range.end())))
}

impl Breaking {
    fn check(
        &self,
        place: &Spanned<Self>,
        names: &Names<'_>,
        sites: usize,
        end: Duration,
        steps: &[Step],
    ) -> Result<Fault, Problem> {
        self.check_keys()?;
        let at = self.at.get_ref().0.clone();
        if *at.end() >= end {
            return Err(Problem::at(&self.at, "the run has ended by then"));
        }
        let kind = self.kind(place)?;
        let lasts = self.lasts(*at.end(), end)?;
        let (times, every) = self.times(place, &at, end)?;
        let nodes = self.nodes(names)?;
        let nearest_to = self.nearest_to(&nodes, steps)?;
        self.check_sites(&kind, &nodes, names.len(), sites)?;
        let key = match &self.name {
            Some(name) => name.get_ref().clone(),
            None => format!("{} {:?}", kind.as_str(), self.at.get_ref().0),
        };
        let pick = self.pick.as_ref().map(|pick| *pick.get_ref());
        Ok(Fault { key, kind, at, lasts, times, every, nodes, pick, nearest_to })
    }

    /// A step that publishes the package near to whose record the nodes are.
    fn nearest_to(&self, nodes: &BTreeSet<usize>, steps: &[Step]) -> Result<Option<usize>, Problem> {
        let Some(package) = &self.nearest_to else { return Ok(None) };
        let step = workload::published(package, steps)?;
        let others = nodes.len() - usize::from(nodes.contains(&steps[step].node));
        match &self.pick {
            None => Err(Problem::at(package, "`nearest-to` says who is picked, and needs `pick`")),
            Some(pick) if *pick.get_ref() > others => Err(Problem::at(
                pick,
                format!("1 to {others} nodes can be picked, the author is none of them"),
            )),
            Some(_) => Ok(Some(step)),
        }
    }

    /// Refuses keys that do not belong to this kind.
    fn check_keys(&self) -> Result<(), Problem> {
        let kind = *self.kind.get_ref();
        let belonging = [
            ("until", span(&self.until)),
            ("for", span(&self.lasts)),
            ("one-way", span(&self.one_way)),
            ("up", span(&self.up)),
            ("down", span(&self.down)),
            ("by", span(&self.by)),
            ("percent", span(&self.percent)),
            ("bytes-per-second", span(&self.bytes_per_second)),
            ("dns", span(&self.dns)),
            ("router", span(&self.router)),
            ("disk", span(&self.disk)),
            ("spread", span(&self.spread)),
            ("median", span(&self.median)),
            ("away", span(&self.away)),
        ];
        for (key, place) in belonging {
            if place.is_some() && !kind.takes(key) {
                return Err(Problem { place, what: format!("`{key}` does not belong to this fault") });
            }
        }
        Ok(())
    }

    fn kind(&self, place: &Spanned<Self>) -> Result<FaultKind, Problem> {
        let needs = |key: &str| Problem::at(place, format!("this fault needs `{key}`"));
        let ways = self.one_way.as_ref().map_or(Ways::Both, |way| match way.get_ref() {
            OneWay::Out => Ways::Out,
            OneWay::In => Ways::In,
        });
        let disk = self.disk.as_ref().is_none_or(|disk| *disk.get_ref());
        let duration = |value: &Option<Spanned<Span>>, key: &str| {
            let value = value.as_ref().ok_or_else(|| needs(key))?;
            let Span(duration) = *value.get_ref();
            if duration.is_zero() {
                Err(Problem::at(value, format!("`{key}` is more than nothing")))
            } else {
                Ok(duration)
            }
        };
        let spread = self.spread.as_ref().map_or(Duration::ZERO, |spread| spread.get_ref().0);
        Ok(match *self.kind.get_ref() {
            Kind::Partition => FaultKind::Partition(ways),
            Kind::Isolate => FaultKind::Isolate(ways),
            Kind::Flapping => {
                FaultKind::Flapping { up: duration(&self.up, "up")?, down: duration(&self.down, "down")? }
            }
            Kind::Slow => {
                let by = self.by(&needs)?;
                if by.get_ref().sign.is_some() {
                    return Err(Problem::at(by, "a link is slow by a duration without a sign"));
                }
                FaultKind::Slow { by: by.get_ref().by.clone() }
            }
            Kind::Hold => FaultKind::Hold,
            Kind::Lossy => {
                let percent = self.percent.as_ref().ok_or_else(|| needs("percent"))?;
                FaultKind::Lossy { percent: within(percent, "percent", 1..=LOSS_PERCENT_MAX)? }
            }
            Kind::Throttle => {
                let bytes = self.bytes_per_second.as_ref().ok_or_else(|| needs("bytes-per-second"))?;
                FaultKind::Throttle {
                    bytes_per_second: within(bytes, "bytes-per-second", 1..=u64::from(u32::MAX))?,
                }
            }
            Kind::SwizzleClog => FaultKind::SwizzleClog,
            Kind::Crash => FaultKind::Crash { disk },
            Kind::PowerLoss => FaultKind::PowerLoss { disk },
            Kind::Restart => FaultKind::Restart { disk },
            Kind::MassJoin => FaultKind::MassJoin { spread },
            Kind::MassLeave => FaultKind::MassLeave { spread },
            Kind::Churn => FaultKind::Churn {
                median: duration(&self.median, "median")?,
                away: duration(&self.away, "away")?,
            },
            Kind::NameMoves => {
                let dns = self.dns.as_ref().ok_or_else(|| needs("dns"))?;
                FaultKind::NameMoves { name: dns.get_ref().clone() }
            }
            Kind::Moves => {
                FaultKind::Moves { router: self.router.as_ref().map(|router| router.get_ref().clone()) }
            }
            Kind::Clock => {
                let by = self.by(&needs)?;
                if *by.get_ref().by.end() > SHIFT_MAX {
                    return Err(Problem::at(by, "a clock is stepped by a hundred years at most"));
                }
                FaultKind::Clock { by: by.get_ref().by.clone(), is_back: by.get_ref().is_back() }
            }
        })
    }

    /// A name that moves is one of the scenario, and leads to one node.
    fn check_name(&self, fault: &Fault, led: &BTreeMap<String, usize>) -> Result<(), Problem> {
        let (FaultKind::NameMoves { name }, Some(dns)) = (&fault.kind, &self.dns) else { return Ok(()) };
        if !led.contains_key(name) {
            return Err(unknown("name", dns, led.keys().map(String::as_str)));
        }
        if fault.pick.unwrap_or(fault.nodes.len()) != 1 {
            return Err(Problem::at(dns, "a name leads to one node"));
        }
        Ok(())
    }

    fn by(&self, needs: &impl Fn(&str) -> Problem) -> Result<&Spanned<Signed>, Problem> {
        let by = self.by.as_ref().ok_or_else(|| needs("by"))?;
        if by.get_ref().by.start().is_zero() {
            return Err(Problem::at(by, "`by` is more than nothing"));
        }
        Ok(by)
    }

    fn lasts(&self, begins: Duration, end: Duration) -> Result<Lasts, Problem> {
        match (&self.until, &self.lasts) {
            (Some(until), None) => {
                let until = (moment(until, end)?, until);
                if begins >= until.0 {
                    return Err(Problem::at(until.1, "a fault ends after it began"));
                }
                Ok(Lasts::Until(until.0))
            }
            (None, Some(lasts)) if lasts.get_ref().0.start().is_zero() => {
                Err(Problem::at(lasts, "a fault lasts more than nothing"))
            }
            (None, Some(lasts)) => Ok(Lasts::For(lasts.get_ref().0.clone())),
            (Some(until), Some(_)) => Err(Problem::at(until, "`until` and `for` both say when it ends")),
            (None, None) => match self.kind.get_ref().end() {
                End::Never | End::OrNever => Ok(Lasts::Ever),
                End::After(time) => Ok(Lasts::For(time..=time)),
                End::Said => Err(Problem::at(&self.at, "this fault needs `until` or `for`")),
            },
        }
    }

    fn times(
        &self,
        place: &Spanned<Self>,
        at: &std::ops::RangeInclusive<Duration>,
        end: Duration,
    ) -> Result<(u32, Duration), Problem> {
        match (&self.times, &self.every) {
            (None, None) => Ok((1, Duration::ZERO)),
            (Some(times), Some(every)) => {
                let (count, Span(apart)) = (*times.get_ref(), *every.get_ref());
                if count == 0 || count > TIMES_MAX || apart.is_zero() {
                    return Err(Problem::at(times, format!("a fault happens 1 to {TIMES_MAX} times")));
                }
                if let Some(until) = &self.until {
                    return Err(Problem::at(
                        until,
                        "a fault that happens more than once lasts `for` some time",
                    ));
                }
                if *at.end() + apart * (count - 1) >= end {
                    return Err(Problem::at(times, "the run has ended by the last of them"));
                }
                Ok((count, apart))
            }
            _ => Err(Problem::at(place, "`times` and `every` go together")),
        }
    }

    fn nodes(&self, names: &Names<'_>) -> Result<BTreeSet<usize>, Problem> {
        let everybody = || (0..names.len()).collect::<BTreeSet<usize>>();
        let nodes = match &self.nodes {
            None if self.pick.is_some() => everybody(),
            None => {
                return Err(Problem::at(
                    &self.at,
                    "this fault needs `nodes`, or `pick` for some that are drawn",
                ));
            }
            Some(named) if named.iter().any(|name| name.get_ref() == EVERY_NODE) => everybody(),
            Some(named) => named.iter().map(|name| node_named(name, names)).collect::<Result<_, _>>()?,
        };
        match &self.pick {
            Some(pick) if *pick.get_ref() == 0 || *pick.get_ref() > nodes.len() => {
                Err(Problem::at(pick, format!("1 to {} nodes can be picked", nodes.len())))
            }
            _ => Ok(nodes),
        }
    }

    fn check_sites(
        &self,
        kind: &FaultKind,
        nodes: &BTreeSet<usize>,
        count: usize,
        sites: usize,
    ) -> Result<(), Problem> {
        if nodes.is_empty() {
            return Err(Problem::at(&self.at, "a fault concerns some nodes"));
        }
        if !kind.is_of_sites() {
            return Ok(());
        }
        let broken: BTreeSet<usize> = nodes.iter().map(|node| node % sites).collect();
        let whole = (0..count).filter(|node| broken.contains(&(node % sites))).count();
        if whole != nodes.len() {
            let what = "a fault concerns whole sites: name every node of a site, or none";
            return Err(Problem::at(&self.at, what));
        }
        if let Some(pick) = &self.pick
            && sites < count
        {
            return Err(Problem::at(
                pick,
                "nodes that share sites cannot be picked for this fault: name them",
            ));
        }
        let picked = self.pick.as_ref().map_or(broken.len(), |pick| *pick.get_ref());
        if matches!(kind, FaultKind::Partition(_)) && picked == sites {
            return Err(Problem::at(&self.at, "a partition leaves others"));
        }
        Ok(())
    }
}
