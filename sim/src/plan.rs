//! What happens in a run: a scenario's ranges and choices, drawn from the seed.
//!
//! Every draw has a key of names, so that a fault or a node that is taken away changes no draw of another.

use std::{collections::BTreeSet, time::Duration};

use libp2p::identity::Keypair;

use crate::{
    draw::Draws,
    placement,
    scenario::{Action, Fault, FaultKind, Lasts, Scenario, Ways},
    virtualise::clocks::Shift,
    weather::Trouble,
};

/// The shape of the lives of nodes that come and go: most are short and some very long.
///
/// Measured for KAD by Steiner et al. (Long Term Study of Peer Behavior in the KAD DHT, 2009) to be a Weibull distribution;
/// its parameter here is an assumption.
const LIFE_SHAPE: f64 = 0.6;
/// Lives of one node at most, whatever is drawn.
const LIVES_MAX: usize = 1_000;

/// Everything that happens at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What breaks, in order of time.
    pub events: Vec<Event>,
    /// Per node: when it runs, in order of time.
    pub lives: Vec<Vec<Life>>,
}

/// Something that breaks, and is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Of which fault it is.
    pub fault: usize,
    /// When.
    pub at: Duration,
    /// When it is mended; after the run where it is not.
    pub until: Duration,
    /// The nodes concerned.
    pub nodes: BTreeSet<usize>,
    /// What is done.
    pub deed: Deed,
}

/// What is done to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// What the first site of a pair sends does not arrive at the second.
    Cut(BTreeSet<(usize, usize)>),
    /// The link of these sites, the smaller number first, takes longer.
    Slow(Vec<((usize, usize), Duration)>),
    /// What is sent over the links of these sites, the smaller number first, is kept back.
    Hold(BTreeSet<(usize, usize)>),
    /// Segments on the links of these sites, the smaller number first, are lost or wait.
    Worsen(BTreeSet<(usize, usize)>, Trouble),
    /// The sites stop at once.
    Stop {
        /// The sites.
        sites: BTreeSet<usize>,
        /// Whether their peers are not told.
        is_silent: bool,
        /// Whether they find their disks again.
        disk: bool,
    },
    /// The wall clocks of these sites are wrong by so much more.
    Clock {
        /// The sites, each with its step.
        steps: Vec<(usize, Shift)>,
        /// Whether they stay so when the event is over: it is the world that changed, and nothing is to be mended.
        stays: bool,
    },
    /// A name leads to the site of the node concerned.
    Move {
        /// The name.
        name: String,
        /// Where.
        site: usize,
        /// Whether it does so when the event is over.
        stays: bool,
    },
    /// A site comes to stand behind another router.
    Reroute {
        /// The site.
        site: usize,
        /// The name of the router; its own with another address where there is none.
        router: Option<String>,
        /// Whether it stays there when the event is over.
        stays: bool,
    },
    /// Nothing: the nodes do it themselves, as their lives say.
    Lives,
}

/// A time in which a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it starts.
    pub from: Duration,
    /// When it stops in good order; none where it runs to the end.
    pub until: Option<Duration>,
    /// Why it starts.
    pub began_by: Cause,
    /// Why it stops.
    pub ended_by: Cause,
    /// Whether it starts with an empty disk.
    pub fresh: bool,
}

/// Why a node starts or stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The scenario says when it runs.
    Topology,
    /// A step of the workload.
    Step(usize),
    /// A fault whose bite it is.
    Bite(usize),
    /// A fault that is mended.
    Mended,
}

/// A node starts or stops.
#[derive(Debug, Clone, Copy)]
struct Switch {
    at: Duration,
    is_start: bool,
    fresh: bool,
    cause: Cause,
    /// The number of the absence that it begins or ends.
    absence: Option<usize>,
}

impl Switch {
    /// A stop.
    fn of(at: Duration, cause: Cause) -> Self {
        Self { at, is_start: false, fresh: false, cause, absence: None }
    }
}

impl Plan {
    /// Draws everything, for nodes that have these keys.
    pub fn draw(scenario: &Scenario, draws: Draws, keys: &[Keypair]) -> Self {
        let mut drawing = Drawing {
            scenario,
            draws,
            keys,
            events: Vec::new(),
            switches: scenario.nodes.iter().map(|_| Vec::new()).collect(),
        };
        for number in 0..scenario.faults.len() {
            drawing.fault(number);
        }
        drawing.users();
        let Drawing { mut events, switches, .. } = drawing;
        events.sort_by_key(|event| event.at);
        let lives = switches.into_iter().enumerate().map(|(node, switches)| lives(scenario, node, switches));
        Self { events, lives: lives.collect() }
    }

    /// When the last fault is mended; nothing where there is none, or one that is not mended within the run.
    pub fn healed(&self, scenario: &Scenario) -> Option<Duration> {
        let last = self.events.iter().map(|event| event.until).max()?;
        (last < scenario.duration).then_some(last)
    }
}

/// The lives that follow from the switches of a node, which starts by itself unless something else starts it first.
fn lives(scenario: &Scenario, node: usize, mut switches: Vec<Switch>) -> Vec<Life> {
    let declared = &scenario.nodes[node];
    switches.sort_by_key(|switch| switch.at);
    let is_first_start = |first: &Switch| first.is_start && first.cause != Cause::Mended;
    if !switches.first().is_some_and(is_first_start) {
        let start = Switch { is_start: true, ..Switch::of(declared.start, Cause::Topology) };
        switches.push(start);
    }
    if let Some(leave) = declared.leave {
        switches.retain(|switch| switch.at < leave);
        switches.push(Switch::of(leave, Cause::Topology));
    }
    switches.sort_by_key(|switch| switch.at);
    let mut idle = BTreeSet::new();
    let mut lives: Vec<Life> = Vec::new();
    let mut runs = false;
    for Switch { at, is_start, fresh, cause, absence } in switches {
        // What starts a node that runs, or stops one that does not, changes nothing, and is no bite; nor does the end of an
        // absence that changed nothing.
        if is_start == runs || is_start && absence.is_some_and(|it| idle.contains(&it)) {
            idle.extend(absence);
            continue;
        }
        runs = is_start;
        match lives.last_mut() {
            Some(last) if !is_start => (last.until, last.ended_by) = (Some(at), cause),
            _ => {
                lives.push(Life { from: at, until: None, began_by: cause, ended_by: Cause::Topology, fresh })
            }
        }
    }
    lives
}

struct Drawing<'a> {
    scenario: &'a Scenario,
    draws: Draws,
    keys: &'a [Keypair],
    events: Vec<Event>,
    switches: Vec<Vec<Switch>>,
}

/// One time that a fault happens.
struct Occurrence<'a> {
    fault: &'a Fault,
    number: usize,
    n: u64,
    at: Duration,
    until: Duration,
    nodes: BTreeSet<usize>,
}

impl Drawing<'_> {
    /// What users do to whole nodes.
    fn users(&mut self) {
        for (number, step) in self.scenario.steps.iter().enumerate() {
            let is_start = match step.action {
                Action::Join => true,
                Action::Leave => false,
                _ => continue,
            };
            let cause = Cause::Step(number);
            self.switches[step.node].push(Switch { is_start, ..Switch::of(step.at, cause) });
        }
    }

    fn fault(&mut self, number: usize) {
        let fault = &self.scenario.faults[number];
        for n in 0..u64::from(fault.times) {
            let late = fault.every * u32::try_from(n).unwrap_or(u32::MAX);
            let at = whole(self.draws.duration(&fault.at, "fault-at", &fault.key, n)) + late;
            let until = match &fault.lasts {
                Lasts::Until(until) => *until,
                Lasts::For(range) => at + whole(self.draws.duration(range, "fault-for", &fault.key, n)),
                // Later than anything that is ever looked at.
                Lasts::Ever => self.scenario.duration * 2,
            };
            let nodes = self.pick(fault, n);
            self.happen(&Occurrence { fault, number, n, at, until, nodes });
        }
    }

    /// The nodes concerned, by how near they are to a package or by rank of a draw that each has for itself.
    fn pick(&self, fault: &Fault, n: u64) -> BTreeSet<usize> {
        let Some(pick) = fault.pick else { return fault.nodes.clone() };
        if let Some(step) = fault.nearest_to {
            let nodes = fault.nodes.iter().copied();
            let ranked = placement::nearest(self.scenario, self.draws, self.keys, step, nodes);
            return ranked.into_iter().take(pick).collect();
        }
        self.shuffled(&fault.nodes, "fault-pick", &fault.key, n).into_iter().take(pick).collect()
    }

    fn shuffled(&self, nodes: &BTreeSet<usize>, site: &str, key: &str, n: u64) -> Vec<usize> {
        let rank =
            |node: &usize| self.draws.draw(site, &format!("{key} {}", self.scenario.nodes[*node].name), n);
        let mut nodes: Vec<usize> = nodes.iter().copied().collect();
        nodes.sort_by_key(|node| (rank(node), *node));
        nodes
    }

    fn happen(&mut self, it: &Occurrence<'_>) {
        let sites = self.sites(&it.nodes);
        match &it.fault.kind {
            FaultKind::Partition(ways) => {
                let cut = self.crossing(|site| sites.contains(&site), *ways);
                self.event(it, it.at, it.until, it.nodes.clone(), Deed::Cut(cut));
            }
            FaultKind::Isolate(ways) => {
                let cut = sites.iter().flat_map(|one| self.crossing(|site| site == *one, *ways)).collect();
                self.event(it, it.at, it.until, it.nodes.clone(), Deed::Cut(cut));
            }
            FaultKind::Flapping { up, down } => {
                let cut =
                    self.links(&sites).into_iter().flat_map(|(one, other)| [(one, other), (other, one)]);
                let cut: BTreeSet<_> = cut.collect();
                let mut at = it.at;
                while at < it.until {
                    let until = (at + *down).min(it.until);
                    self.event(it, at, until, it.nodes.clone(), Deed::Cut(cut.clone()));
                    at = until + *up;
                }
            }
            FaultKind::Slow { by } => {
                let slowed = self.links(&sites).into_iter().map(|(one, other)| {
                    let name = format!("{} {one}-{other}", it.fault.key);
                    ((one, other), self.draws.duration(by, "slow-by", &name, it.n))
                });
                let slowed = slowed.collect();
                self.event(it, it.at, it.until, it.nodes.clone(), Deed::Slow(slowed));
            }
            FaultKind::Hold => {
                self.event(it, it.at, it.until, it.nodes.clone(), Deed::Hold(self.links(&sites)));
            }
            FaultKind::Lossy { percent } => self.worsen(it, &sites, Trouble::Loss { percent: *percent }),
            FaultKind::Throttle { bytes_per_second } => {
                self.worsen(it, &sites, Trouble::Throttle { bytes_per_second: *bytes_per_second });
            }
            FaultKind::SwizzleClog => self.swizzle(it),
            FaultKind::Crash { disk } => self.stop(it, sites, false, *disk),
            FaultKind::PowerLoss { disk } => self.stop(it, sites, true, *disk),
            FaultKind::Restart { disk } => {
                for node in &it.nodes {
                    self.absence(it, *node, it.at, it.until, !disk);
                }
            }
            FaultKind::MassJoin { spread } => {
                for node in &it.nodes {
                    let at = it.at + self.moment(it, *node, *spread);
                    let cause = Cause::Bite(it.number);
                    self.switches[*node].push(Switch { is_start: true, ..Switch::of(at, cause) });
                }
                self.event(it, it.at, it.at + *spread, it.nodes.clone(), Deed::Lives);
            }
            FaultKind::MassLeave { spread } => {
                for node in &it.nodes {
                    let late = self.moment(it, *node, *spread);
                    self.absence(it, *node, it.at + late, it.until + late, false);
                }
            }
            FaultKind::NameMoves { name } => {
                let stays = it.fault.lasts == Lasts::Ever;
                let until = if stays { it.at } else { it.until };
                for site in sites {
                    let deed = Deed::Move { name: name.clone(), site, stays };
                    self.event(it, it.at, until, it.nodes.clone(), deed);
                }
            }
            FaultKind::Moves { router } => {
                let stays = it.fault.lasts == Lasts::Ever;
                let until = if stays { it.at } else { it.until };
                for site in sites {
                    let deed = Deed::Reroute { site, router: router.clone(), stays };
                    self.event(it, it.at, until, it.nodes.clone(), deed);
                }
            }
            FaultKind::Clock { by, is_back } => {
                let steps = sites.iter().map(|site| {
                    let key = format!("{} {}", it.fault.key, self.scenario.nodes[*site].name);
                    (*site, Shift::new(self.draws.duration(by, "clock-by", &key, it.n), *is_back))
                });
                let (steps, stays) = (steps.collect(), it.fault.lasts == Lasts::Ever);
                let until = if stays { it.at } else { it.until };
                self.event(it, it.at, until, it.nodes.clone(), Deed::Clock { steps, stays });
            }
            FaultKind::Churn { median, away } => {
                for node in &it.nodes {
                    self.churn(it, *node, *median, *away);
                }
            }
        }
    }

    fn event(
        &mut self,
        it: &Occurrence<'_>,
        at: Duration,
        until: Duration,
        nodes: BTreeSet<usize>,
        deed: Deed,
    ) {
        // Later than it begins: an event has a tick to itself.
        let until = until.max(at + self.scenario.tick);
        self.events.push(Event { fault: it.number, at, until, nodes, deed });
    }

    fn worsen(&mut self, it: &Occurrence<'_>, sites: &BTreeSet<usize>, trouble: Trouble) {
        let deed = Deed::Worsen(self.links(sites), trouble);
        self.event(it, it.at, it.until, it.nodes.clone(), deed);
    }

    fn stop(&mut self, it: &Occurrence<'_>, sites: BTreeSet<usize>, is_silent: bool, disk: bool) {
        self.event(it, it.at, it.until, it.nodes.clone(), Deed::Stop { sites, is_silent, disk });
    }

    /// A node stops in good order, and starts again where that is within the run.
    fn absence(&mut self, it: &Occurrence<'_>, node: usize, at: Duration, until: Duration, fresh: bool) {
        let absence = Some(self.events.len());
        let stop = Switch { absence, ..Switch::of(at, Cause::Bite(it.number)) };
        self.switches[node].push(stop);
        if until < self.scenario.duration {
            self.switches[node].push(Switch {
                at: until,
                is_start: true,
                fresh,
                cause: Cause::Mended,
                absence,
            });
        }
        self.event(it, at, until, [node].into(), Deed::Lives);
    }

    /// First half of the time: one after another is cut off. Second half: they come back in another order.
    fn swizzle(&mut self, it: &Occurrence<'_>) {
        let cut = self.shuffled(&it.nodes, "swizzle-cut", &it.fault.key, it.n);
        let mut mend = self.shuffled(&it.nodes, "swizzle-mend", &it.fault.key, it.n);
        if mend == cut {
            mend.reverse();
        }
        let (half, count) =
            (it.until.saturating_sub(it.at) / 2, u32::try_from(cut.len()).unwrap_or(u32::MAX));
        for (position, node) in (0..).zip(&cut) {
            let back = (1..).zip(&mend).find(|(_, it)| *it == node).map_or(count, |(back, _)| back);
            let at = whole(it.at + half * position / count);
            let until = whole(it.at + half + half * back / count);
            let site = self.scenario.site_of(*node);
            let ways = self.crossing(|it| it == site, Ways::Both);
            self.event(it, at, until, [*node].into(), Deed::Cut(ways));
        }
    }

    /// A node comes and goes until the fault ends, and is there from then on.
    fn churn(&mut self, it: &Occurrence<'_>, node: usize, median: Duration, away: Duration) {
        let key = format!("{} {}", it.fault.key, self.scenario.nodes[node].name);
        let mut at = it.at;
        for life in 0..LIVES_MAX as u64 {
            let n = it.n * LIVES_MAX as u64 + life;
            at += whole(weibull(median, LIFE_SHAPE, self.unit("churn-life", &key, n)));
            if at >= it.until {
                break;
            }
            let back = at + whole(exponential(away, self.unit("churn-away", &key, n)));
            let back = back.min(it.until);
            self.absence(it, node, at, back, false);
            at = back;
        }
    }

    /// A number above zero and at most one.
    fn unit(&self, site: &str, key: &str, n: u64) -> f64 {
        const STEPS: f64 = (1_u64 << 53) as f64;
        ((self.draws.draw(site, key, n) >> 11) as f64 + 1.0) / STEPS
    }

    fn moment(&self, it: &Occurrence<'_>, node: usize, spread: Duration) -> Duration {
        let key = format!("{} {}", it.fault.key, self.scenario.nodes[node].name);
        whole(self.draws.duration(&(Duration::ZERO..=spread), "spread", &key, it.n))
    }

    fn sites(&self, nodes: &BTreeSet<usize>) -> BTreeSet<usize> {
        nodes.iter().map(|node| self.scenario.site_of(*node)).collect()
    }

    /// The ways between some sites and all others.
    fn crossing(&self, is_inside: impl Fn(usize) -> bool, ways: Ways) -> BTreeSet<(usize, usize)> {
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            (0..self.scenario.sites).partition(|site| is_inside(*site));
        let pairs = inside.iter().flat_map(|one| outside.iter().map(|other| (*one, *other)));
        pairs
            .flat_map(|(one, other)| {
                let out = (ways != Ways::In).then_some((one, other));
                let back = (ways != Ways::Out).then_some((other, one));
                [out, back].into_iter().flatten()
            })
            .collect()
    }

    /// The links of some sites, to each other too.
    fn links(&self, sites: &BTreeSet<usize>) -> BTreeSet<(usize, usize)> {
        let all = (0..self.scenario.sites).flat_map(|other| (0..other).map(move |one| (one, other)));
        all.filter(|(one, other)| sites.contains(one) || sites.contains(other)).collect()
    }
}

/// Whole milliseconds, as the timers have them, and never none.
fn whole(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX))
}

/// The quantile `1 - unit` of a Weibull distribution with this median.
fn weibull(median: Duration, shape: f64, unit: f64) -> Duration {
    seconds(median.as_secs_f64() * (-unit.ln() / std::f64::consts::LN_2).powf(shape.recip()))
}

/// The quantile `1 - unit` of an exponential distribution with this mean: the time to the next event of a Poisson process.
fn exponential(mean: Duration, unit: f64) -> Duration {
    seconds(mean.as_secs_f64() * -unit.ln())
}

fn seconds(seconds: f64) -> Duration {
    // Longer than any run, where a tail is drawn.
    Duration::try_from_secs_f64(seconds.clamp(0.001, 1e6)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
