//! Breaks the world as the plan says, mends it, and counts what it did to the nodes.
//!
//! Several faults may concern one link or one site at the same time: what one of them mends stays broken until the last of
//! them is over.
//!
//! A fault's *bites* are: for what cuts links, the connections over those that were not cut yet, as either side saw them; for slow links,
//! the segments that were sent over them meanwhile, looked at once in the time that one is in progress, and for the first time when
//! those have arrived that were sent before; for held links, the segments that were kept back; for lossy ones, those that were
//! lost; for throttled ones, the writes that had to wait; for what stops nodes, those that ran; for a mass join, those that started; for
//! clocks, the sites that read theirs since; for a name that moves, the answers that say so; for sites that move, the connections that
//! stood.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use ggen_harness::{
    fabric::nat,
    net::{Control, End},
};

use crate::{
    ledger::Shared,
    names::Names,
    places::Places,
    plan::{Deed, Event},
    scenario::Scenario,
    virtualise::clocks,
    weather::Weather,
};

/// A pair of sites, the smaller number first.
type Pair = (usize, usize);

/// What is broken now.
pub(crate) struct Breaker<'a> {
    scenario: &'a Scenario,
    ledger: Shared,
    weather: Weather,
    names: Names,
    places: Rc<Places>,
    /// How often each site moved.
    moves: BTreeMap<usize, usize>,
    /// The latency of each link that is not slow.
    latency: BTreeMap<Pair, Duration>,
    /// What an event broke, or had broken; all others are whole.
    links: BTreeMap<Pair, Link>,
    /// The links that are slow, to be looked at every tick.
    slowed: BTreeSet<Pair>,
    /// By which events a site is stopped.
    stopped: BTreeMap<usize, BTreeSet<usize>>,
}

/// By which events a link is broken, and how.
#[derive(Debug, Default)]
struct Link {
    cut_up: BTreeSet<usize>,
    cut_down: BTreeSet<usize>,
    held: BTreeSet<usize>,
    slow: BTreeMap<usize, Slow>,
}

#[derive(Debug)]
struct Slow {
    fault: usize,
    by: Duration,
    /// When it is looked at next.
    look: Duration,
}

impl Link {
    fn cut(&mut self, is_up: bool) -> &mut BTreeSet<usize> {
        if is_up { &mut self.cut_up } else { &mut self.cut_down }
    }

    fn is_cut(&self) -> bool {
        !self.cut_up.is_empty() || !self.cut_down.is_empty()
    }
}

impl<'a> Breaker<'a> {
    /// For a world whose links have these latencies.
    pub(crate) fn new(
        scenario: &'a Scenario,
        ledger: Shared,
        (weather, names, places): (Weather, Names, Rc<Places>),
        latency: BTreeMap<Pair, Duration>,
    ) -> Self {
        let (links, slowed, stopped, moves) = Default::default();
        Self { scenario, ledger, weather, names, places, moves, latency, links, slowed, stopped }
    }

    /// Begins an event; yields the sites whose nodes lost their disks.
    pub(crate) fn begin(&mut self, net: &mut dyn Control, number: usize, event: &Event) -> BTreeSet<usize> {
        match &event.deed {
            Deed::Cut(ways) => {
                let bites = self.standing(ways);
                self.ledger.lock().bite(event.fault, bites);
                self.cut(net, number, ways);
            }
            Deed::Slow(links) => {
                for (pair, by) in links {
                    // What is in progress by now arrives as it would have: only when it has, what is there was slowed.
                    let look = event.at + self.latency_of(*pair) + self.scenario.tick;
                    let slow = Slow { fault: event.fault, by: *by, look };
                    self.link(*pair).slow.insert(number, slow);
                    self.slowed.insert(*pair);
                    self.lay(net, *pair);
                }
            }
            Deed::Hold(links) => {
                for pair in links {
                    self.link(*pair).held.insert(number);
                    if !self.link(*pair).is_cut() {
                        net.hold(self.places.ip(pair.0), self.places.ip(pair.1));
                    }
                }
            }
            Deed::Worsen(links, trouble) => {
                for pair in links {
                    let round_trip = self.latency_of(*pair) * 2;
                    let link = (self.places.ip(pair.0), self.places.ip(pair.1));
                    self.weather.begin(number, event.fault, link, *trouble, round_trip);
                }
            }
            Deed::Stop { sites, is_silent, disk } => {
                if *is_silent {
                    self.cut(net, number, &self.around(sites));
                }
                let end = if *is_silent { End::PowerLost } else { End::Killed };
                self.stop(net, (number, event.fault), sites, end);
                if !disk {
                    return sites.clone();
                }
            }
            Deed::Clock { steps, .. } => {
                for (site, by) in steps {
                    clocks::step(*site, number, event.fault, *by);
                }
            }
            Deed::Move { name, site, .. } => {
                self.names.move_to(name, number, event.fault, self.places.seen(*site, None));
            }
            Deed::Reroute { site, router, .. } => {
                let bites = self.standing(&self.around(&[*site].into()));
                self.ledger.lock().bite(event.fault, bites);
                let moves = self.moves.entry(*site).or_default();
                *moves += 1;
                let router = self.places.next_router(*site, router.as_deref(), *moves);
                self.reroute(net, *site, router);
            }
            Deed::Lives => {}
        }
        BTreeSet::new()
    }

    /// Ends an event.
    pub(crate) fn end(&mut self, net: &mut dyn Control, number: usize, event: &Event) {
        match &event.deed {
            Deed::Cut(ways) => self.mend(net, number, ways),
            Deed::Slow(links) => {
                for (pair, _) in links {
                    let link = self.link(*pair);
                    link.slow.remove(&number);
                    if link.slow.is_empty() {
                        self.slowed.remove(pair);
                    }
                    self.lay(net, *pair);
                }
            }
            Deed::Hold(links) => {
                let waiting = self.waiting(net);
                for pair in links {
                    self.link(*pair).held.remove(&number);
                    let link = self.link(*pair);
                    if link.is_cut() {
                        continue;
                    }
                    let kept = waiting.get(pair).copied().unwrap_or(0);
                    if link.held.is_empty() {
                        net.release(self.places.ip(pair.0), self.places.ip(pair.1));
                    }
                    self.ledger.lock().bite(event.fault, kept);
                }
            }
            Deed::Worsen(links, _) => {
                for pair in links {
                    self.weather.end(number, (self.places.ip(pair.0), self.places.ip(pair.1)));
                }
            }
            Deed::Stop { sites, is_silent, .. } => {
                if *is_silent {
                    let around = self.around(sites);
                    self.mend(net, number, &around);
                }
                for site in sites {
                    let by = self.stopped.entry(*site).or_default();
                    by.remove(&number);
                    if by.is_empty() {
                        net.restart(self.places.ip(*site));
                    }
                }
            }
            Deed::Clock { steps, stays: false } => {
                for (site, _) in steps {
                    clocks::mend(*site, number, event.fault);
                }
            }
            Deed::Move { name, stays: false, .. } => self.names.move_back(name, number),
            Deed::Reroute { site, stays: false, .. } => {
                self.reroute(net, *site, self.places.host(*site).router);
            }
            Deed::Clock { stays: true, .. }
            | Deed::Move { stays: true, .. }
            | Deed::Reroute { stays: true, .. }
            | Deed::Lives => {}
        }
    }

    /// Looks at the slow links whose turn it is, and at the clocks and names; to be called every tick.
    pub(crate) fn look(&mut self, net: &mut dyn Control, now: Duration) {
        for fault in clocks::take_read().into_iter().chain(self.names.take_asked()) {
            self.ledger.lock().bite(fault, 1);
        }
        let is_due = |link: &Link| link.slow.values().any(|slow| slow.look <= now);
        let due: Vec<Pair> =
            self.slowed.iter().filter(|pair| self.links.get(pair).is_some_and(is_due)).copied().collect();
        if due.is_empty() {
            return;
        }
        let waiting = self.waiting(net);
        let mut ledger = self.ledger.lock();
        for pair in &due {
            let Some(link) = self.links.get_mut(pair) else { continue };
            let latency = self.latency[pair] + link.slow.values().map(|slow| slow.by).sum::<Duration>();
            for slow in link.slow.values_mut().filter(|slow| slow.look <= now) {
                slow.look = now + latency.max(self.scenario.tick);
                ledger.bite(slow.fault, waiting.get(pair).copied().unwrap_or(0));
            }
        }
    }

    /// How many segments are in progress on each link.
    fn waiting(&self, net: &dyn Control) -> BTreeMap<Pair, usize> {
        let site = |ip| self.places.site(ip);
        let in_progress = net.in_progress().into_iter();
        in_progress
            .filter_map(|((one, other), segments)| Some((pair(site(one)?, site(other)?), segments)))
            .collect()
    }

    fn reroute(&self, net: &mut dyn Control, site: usize, router: Option<nat::Settings>) {
        let router = router.expect("a checked scenario moves nodes to routers");
        net.move_behind(self.places.ip(site), router).expect("each router has an address of its own");
    }

    fn link(&mut self, pair: Pair) -> &mut Link {
        self.links.entry(pair).or_default()
    }

    /// Connections over some ways, as either side sees them; without those over links that are cut already, which are dead and
    /// only not given up yet.
    fn standing(&self, ways: &BTreeSet<(usize, usize)>) -> usize {
        let site = |node| self.scenario.site_of(node);
        let crosses = |one: usize, other: usize| {
            let (one, other) = (site(one), site(other));
            (ways.contains(&(one, other)) || ways.contains(&(other, one)))
                && !self.links.get(&pair(one, other)).is_some_and(Link::is_cut)
        };
        self.ledger.lock().standing(crosses)
    }

    /// All ways between some sites and any other.
    fn around(&self, sites: &BTreeSet<usize>) -> BTreeSet<(usize, usize)> {
        let others = |one: usize| (0..self.scenario.sites).filter(move |other| *other != one);
        sites.iter().flat_map(|one| others(*one).flat_map(|other| [(*one, other), (other, *one)])).collect()
    }

    fn cut(&mut self, net: &mut dyn Control, number: usize, ways: &BTreeSet<(usize, usize)>) {
        for (from, to) in ways {
            let link = self.link(pair(*from, *to));
            let was_cut = link.is_cut();
            link.cut(from < to).insert(number);
            // A held link is held in both directions; the other one goes on as a whole, with what it held.
            if !was_cut && !link.held.is_empty() {
                net.release(self.places.ip(*from), self.places.ip(*to));
            }
            net.cut(self.places.ip(*from), self.places.ip(*to));
        }
    }

    fn mend(&mut self, net: &mut dyn Control, number: usize, ways: &BTreeSet<(usize, usize)>) {
        for (from, to) in ways {
            let [from_ip, to_ip] = [*from, *to].map(|site| self.places.ip(site));
            let link = self.link(pair(*from, *to));
            link.cut(from < to).remove(&number);
            if link.cut(from < to).is_empty() {
                net.mend(from_ip, to_ip);
            }
            if !link.is_cut() && !link.held.is_empty() {
                net.hold(from_ip, to_ip);
            }
        }
    }

    /// Gives a link the latency that it has now.
    fn lay(&mut self, net: &mut dyn Control, pair: Pair) {
        let latency = self.latency_of(pair);
        net.set_latency(self.places.ip(pair.0), self.places.ip(pair.1), latency);
    }

    /// The latency that a link has now.
    fn latency_of(&self, pair: Pair) -> Duration {
        let slow = self.links.get(&pair).into_iter().flat_map(|link| link.slow.values());
        self.latency[&pair] + slow.map(|slow| slow.by).sum::<Duration>()
    }

    fn stop(
        &mut self,
        net: &mut dyn Control,
        (number, fault): (usize, usize),
        sites: &BTreeSet<usize>,
        end: End,
    ) {
        for site in sites {
            if net.is_running(self.places.ip(*site)) {
                net.crash(self.places.ip(*site), end);
            }
            self.stopped.entry(*site).or_default().insert(number);
            for node in self.scenario.nodes_at(*site) {
                let ran = self.ledger.lock().stopped(node);
                self.ledger.lock().bite(fault, usize::from(ran));
            }
        }
    }
}

fn pair(one: usize, other: usize) -> Pair {
    (one.min(other), one.max(other))
}
