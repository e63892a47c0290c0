//! A run: nodes on simulated hosts, what their users do, what breaks, and what must hold in spite of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, UNIX_EPOCH},
};

use futures::{FutureExt, future::try_join_all};
use ggen_harness::{fabric, net::Control, panics, transport::multiaddr};
use ggen_marketplace::{network::Metrics, release::VerifiedHead, store, time::Timestamp};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    account,
    disk::{self, Disk, Drive, Drives},
    draw::{Draws, Publishers},
    engine::{self, Engine, Seat, Turmoil},
    faults::Breaker,
    host::{self, Blueprint, PlannedStep},
    judge::{self, Aim, Case, Fact, Limits, Member, Task, Watch},
    leak::Leak,
    ledger::{Ledger, Shared},
    names::Names,
    packages::folders,
    placement,
    places::{self, Places},
    plan::{Deed, Event, Life, Plan},
    power::{self, Power},
    preload, reached,
    report::{FaultReport, Report, SCHEMA_VERSION, Verdict},
    scenario::{Action, DiskKind, Latency, Node, Scenario, Swarm, regions},
    trace::{Lines, Trace},
    virtualise::{self, clocks, files},
    weather::Weather,
    witness::Witness,
};

/// The port of the first node of a site.
const FIRST_PORT: u16 = 4_001;
/// Segments that one direction of a connection may have in progress: a megabyte block and what goes with it.
const TCP_SEGMENTS_MAX: usize = 4_096;
/// The stack of the thread that runs everything.
const STACK_BYTES: usize = 64 << 20;

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Stops at this time of the simulation, before its end.
    pub until: Option<Duration>,
    /// Where the run writes how many simulated milliseconds it has lasted, for whoever shows progress on another thread.
    pub elapsed_millis: Option<Arc<AtomicU64>>,
    /// Who is told the lines of the trace.
    pub lines: Lines,
    /// Lets the real world in, so that it is known that such a leak is found.
    pub leak: Option<Leak>,
    /// Takes adversaries for honest nodes, so that it is known that what they do is found.
    pub trusts_adversaries: bool,
    /// Who is told what happens, as it happens.
    pub witness: Witness,
    /// Lets libp2p count in every node.
    pub counts: bool,
    /// What runs it, in the place of what the scenario says.
    pub engine: Option<Engine>,
}

/// A run that ended.
#[derive(Debug)]
pub struct Finished {
    /// What came of it.
    pub report: Report,
    /// Per node, the counts of libp2p at the end, in the text form of OpenMetrics; empty where they were not asked for.
    pub counts: Vec<String>,
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder of the packages cannot be made.
    #[error("the folder for packages cannot be used: {0}")]
    Scratch(#[from] io::Error),
    /// The replacements of libc's functions are not in this program.
    #[error("clocks and entropy are not virtual in this program: nothing can be repeated")]
    NotVirtual,
    /// A store cannot be made or read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A simulated disk cannot be kept, or a store on it cannot be opened.
    #[error("a simulated disk broke: {0}")]
    Disk(String),
    /// A node could not get to where it wanted to stand.
    #[error(transparent)]
    Placement(#[from] placement::Error),
    /// A node, or turmoil, gave up.
    #[error("the simulation broke: {0}")]
    Broken(String),
    /// The scenario says something that the engine does not have.
    #[error("{0} says something of lines or routers, and has to run on the fabric: leave out --engine")]
    Engine(String),
    /// Something panicked.
    #[error("the simulation panicked; its message is above")]
    Panicked,
}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        Self::Disk(error.to_string())
    }
}

/// Runs a scenario with a seed.
///
/// Repeatable for the first run of a process only; see the crate's documentation.
///
/// # Errors
/// Where the run did not come to its end; a violated invariant is no error.
pub fn run(scenario: &Scenario, seed: u64, options: Options) -> Result<Finished, Error> {
    if scenario.accesses.are_said && options.engine.is_some_and(|engine| engine != Engine::Fabric) {
        return Err(Error::Engine(scenario.full_name()));
    }
    #[expect(clippy::disallowed_methods, reason = "real time, to say how long it took")]
    let began = std::time::Instant::now();
    // Its name is random: everything that touches it stays out of the trace.
    let scratch = TempDir::with_prefix("ggen-sim-")?;
    let draws = Draws::new(seed);
    let scenario = &*scenario.drawn(draws);
    let steps = folders(scenario, draws, scratch.path())?;
    panics::watch();
    // A fresh thread: nothing on it has been seeded yet.
    let finished = thread::scope(|scope| {
        let body = || simulate(scenario, draws, steps, scratch.path(), &options);
        let thread = thread::Builder::new().name("simulation".to_owned()).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, body)?.join().map_err(|_| Error::Panicked)?
    });
    let mut finished = finished?;
    finished.report.seed = seed;
    finished.report.wall_secs = began.elapsed().as_secs_f64();
    Ok(finished)
}

/// What the judge has to know.
fn case(
    scenario: &Scenario,
    draws: Draws,
    steps: &[PlannedStep],
    plan: &Plan,
    preloaded: &[VerifiedHead],
    options: &Options,
) -> io::Result<Case> {
    let created = placement::created();
    let members = scenario.nodes.iter().map(|node| Member {
        name: node.name.clone(),
        publisher: draws.publisher(node.signer(), created).id().to_string(),
        turns: node.script.filter(|_| !options.trusts_adversaries).map(|script| script.at),
        serves_dht: host::configuration(node.role, &node.config).dht_server_mode,
        limits: limits(node),
    });
    let mut trees = BTreeMap::new();
    for step in steps {
        if let Action::Publish { package, version, .. } = &step.action {
            // The first one counts: other content under the same version is to be refused.
            let node = scenario.steps[step.number].node;
            let written = judge::tree_digest(&step.folder)?;
            trees.entry((node, package.clone(), version.clone())).or_insert(written);
        }
    }
    let aim = |action: &Action| match action {
        Action::Install { package, version, .. } => {
            Aim::Install { package: package.clone(), version: version.clone() }
        }
        Action::Lookup { package } => Aim::Lookup { package: package.clone() },
        _ => Aim::Other,
    };
    Ok(Case {
        members: members.collect(),
        steps: scenario
            .steps
            .iter()
            .map(|step| Task {
                node: step.node,
                aim: aim(&step.action),
                may_be_old: step.share.is_some() && matches!(step.action, Action::Lookup { .. }),
            })
            .collect(),
        trees,
        preloaded: preloaded
            .iter()
            .filter_map(|head| {
                let latest = head.head().latest.as_ref()?;
                let digest = Sha256::digest(head.bytes()).into();
                Some((head.package_id().to_string(), [latest.root, latest.manifest], digest))
            })
            .collect(),
        faults_over: plan
            .events
            .iter()
            .map(|event| event.until.min(scenario.duration))
            .max()
            .unwrap_or_default(),
        latency_max: latency_max(scenario),
        expect: scenario.expect.clone(),
    })
}

/// What a node allows itself.
fn limits(node: &Node) -> Limits {
    let config = host::configuration(node.role, &node.config);
    Limits { connections_max: config.connections_max, store_bytes_max: config.store_bytes_max }
}

/// What no link of the scenario exceeds, as long as nothing makes it slow.
fn latency_max(scenario: &Scenario) -> Duration {
    match &scenario.latency {
        Latency::Drawn(range) => *range.end(),
        Latency::Regions => {
            let used: BTreeSet<&str> =
                scenario.nodes.iter().filter_map(|node| node.region.as_deref()).collect();
            let pairs = used.iter().flat_map(|one| used.iter().map(move |other| (*one, *other)));
            let longest = pairs
                .filter_map(|(one, other)| Some(regions::one_way(one, other)? + regions::jitter(one, other)));
            longest.max().unwrap_or_default()
        }
    }
}

/// What is there during a run.
struct World<'a> {
    scenario: &'a Scenario,
    plan: Plan,
    /// What is on the disk of each node.
    disks: Vec<Rc<Disk>>,
    /// What each node installs.
    installs: Vec<Vec<PlannedStep>>,
    power: Power,
    draws: Draws,
    ledger: Shared,
    /// Per node: the position to which its catalogue was read.
    positions: Vec<u64>,
    /// The heads that were seen at whoever made them.
    signed: BTreeSet<(String, [u8; 32])>,
    /// Nodes that have something in their outbox: they sign it whenever they can.
    queuing: BTreeSet<usize>,
    witness: Witness,
    /// Per node.
    metrics: Vec<Metrics>,
    weather: Weather,
    names: Names,
    places: Rc<Places>,
}

fn simulate(
    scenario: &Scenario,
    draws: Draws,
    mut steps: Vec<PlannedStep>,
    scratch: &Path,
    options: &Options,
) -> Result<Finished, Error> {
    let _virtual = virtualise::enter_with(draws.secret("entropy", "", 0), engine::elapsed);
    if !virtualise::is_in_effect() {
        return Err(Error::NotVirtual);
    }
    for site in 0..scenario.sites {
        clocks::set(site, scenario.nodes[site].clock);
        clocks::drift(site, scenario.nodes[site].drift);
    }
    let keys = placement::keys(scenario, draws)?;
    let peers: BTreeMap<_, _> =
        keys.iter().enumerate().map(|(node, key)| (key.public().to_peer_id(), node)).collect();
    let plan = Plan::draw(scenario, draws, &keys);
    let preloaded = preload::heads(scenario, draws);
    let case = case(scenario, draws, &steps, &plan, &preloaded, options)?;
    let mut watch = Watch::new(case, peers.clone(), scenario.tick);
    let names = scenario.nodes.iter().map(|node| node.name.clone()).collect();
    let ledger = Shared::new(names, peers, options.lines.clone());
    let drives = drives(scenario, draws, scratch)?;
    for step in steps.iter_mut().filter(|step| matches!(step.action, Action::Install { .. })) {
        if let Some(drive) = drives.get(&scenario.steps[step.number].node) {
            step.folder = disk::install_folder(drive).join(step.number.to_string());
        }
    }
    let watcher = Rc::new(Drives(drives.values().cloned().collect()));
    let _watching = (!drives.is_empty()).then(|| files::watch(watcher));
    let disk = |node| match drives.get(&node) {
        Some(drive) => Disk::in_files(node, drive.clone(), timestamp(scenario.site_of(node), Duration::ZERO)),
        None => Disk::in_memory(node),
    };
    let disks = (0..keys.len()).map(|node| Ok(Rc::new(disk(node)?))).collect::<Result<Vec<_>, Error>>()?;
    for node in scenario.preload.iter().flat_map(|preload| &preload.nodes) {
        preload::put(&disks[*node].store(), &preloaded, placement::created())?;
    }
    let of_node = |node: usize| steps.iter().filter(move |step| scenario.steps[step.number].node == node);
    let installs = (0..keys.len()).map(|node| power::installs(of_node(node).cloned())).collect();
    let (positions, signed) = (vec![0; keys.len()], BTreeSet::new());
    let counting = || if options.counts { Metrics::counting() } else { Metrics::default() };
    let metrics = keys.iter().map(|_| counting()).collect();
    let witness = options.witness.clone();
    let weather = Weather::new(draws, ledger.clone(), scenario.tick);
    let places = Rc::new(Places::draw(scenario, draws));
    let led = |node: usize| places.seen(scenario.site_of(node), None);
    let names = scenario.names.iter().map(|(name, node)| (name.clone(), led(*node)));
    let names = Names::new(names);
    let mut world = World {
        scenario,
        plan,
        disks,
        installs,
        power: Power::default(),
        draws,
        ledger,
        positions,
        signed,
        queuing: BTreeSet::new(),
        witness,
        metrics,
        weather,
        names,
        places,
    };
    let engine = options.engine.unwrap_or(scenario.engine);
    let blueprints = world.blueprints(draws, &keys, steps, options.leak);
    let mut net: Box<dyn Control> = match engine {
        Engine::Turmoil => Box::new(turmoil(scenario, draws, blueprints)),
        Engine::Fabric => Box::new(woven(scenario, draws, blueprints, &world.places)?),
    };
    let net = &mut *net;
    let shared = (world.weather.clone(), world.names.clone(), world.places.clone());
    let mut breaker = Breaker::new(scenario, world.ledger.clone(), shared, world.lay_links(net, draws));
    let end = options.until.unwrap_or(scenario.duration).min(scenario.duration);
    while net.elapsed() < end {
        world.break_and_mend(net, &mut breaker)?;
        let stepped = net.step();
        if panics::happened() {
            return Err(Error::Panicked);
        }
        stepped.map_err(Error::Broken)?;
        world.cut_power(net, &mut breaker)?;
        let now = net.elapsed();
        watch.tick(now, &world.ledger, &world.disks)?;
        world.look_into_catalogues(now)?;
        if let Some(millis) = &options.elapsed_millis {
            millis.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
    let report = world.report(watch, (net.elapsed(), engine))?;
    // Before the hosts are torn down, of which the report knows nothing any more.
    world.ledger.lock().trace = Trace::default();
    world.disks.iter().for_each(|disk| disk.kill());
    let counts = world.metrics.iter().map(Metrics::text).collect();
    Ok(Finished { report, counts })
}

/// The disks of the nodes that have theirs in files.
fn drives(scenario: &Scenario, draws: Draws, scratch: &Path) -> io::Result<BTreeMap<usize, Rc<Drive>>> {
    // SQLite follows links and names its files by where they lead.
    let folder = scratch.canonicalize()?.join("disks");
    let nodes = scenario.nodes.iter().enumerate().filter(|(_, node)| node.disk == DiskKind::Files);
    let drive = |(number, node): (usize, &Node)| {
        Ok((number, Rc::new(Drive::new(&folder.join(number.to_string()), &node.name, draws)?)))
    };
    nodes.map(drive).collect()
}

/// What the clock of a site says.
fn timestamp(site: usize, elapsed: Duration) -> Timestamp {
    Timestamp::from_secs(clocks::wall_of(site, virtualise::EPOCH + elapsed).as_secs())
}

/// The nodes of each site.
type Blueprints = Vec<Rc<Vec<Rc<Blueprint>>>>;

/// The world on turmoil.
fn turmoil(scenario: &Scenario, draws: Draws, blueprints: Blueprints) -> Turmoil<'static> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(draws.draw("turmoil", "", 0))
        .epoch(UNIX_EPOCH + virtualise::EPOCH)
        .tick_duration(scenario.tick)
        .simulation_duration(scenario.duration + scenario.tick)
        .tcp_capacity(TCP_SEGMENTS_MAX)
        .build();
    for (site, nodes) in blueprints.into_iter().enumerate() {
        sim.host(places::ip(site), move || {
            clocks::runs(site);
            host(nodes.clone())
        });
    }
    Turmoil(sim)
}

/// The world on the fabric.
fn woven(
    scenario: &Scenario,
    draws: Draws,
    blueprints: Blueprints,
    places: &Places,
) -> Result<fabric::World, Error> {
    let seed = draws.draw("fabric", "", 0);
    let settings = fabric::Settings { seed, link: fabric::Link::default(), step: scenario.tick };
    let broken = |error: fabric::Error| Error::Broken(error.to_string());
    let mut world = fabric::World::new(settings).map_err(broken)?;
    let reuses_ports = scenario.accesses.are_said;
    for (site, nodes) in blueprints.into_iter().enumerate() {
        let program = move |started: fabric::Started| {
            let nodes = nodes.clone();
            async move {
                let seat = Seat::Fabric { started, reuses_ports };
                let running = nodes.iter().map(|node| host::run(node.clone(), seat.clone()));
                try_join_all(running).await.map(drop).map_err(|error| error.to_string())
            }
            .boxed_local()
        };
        world.host(places.ip(site), places.host(site), Rc::new(program)).map_err(broken)?;
    }
    Ok(world)
}

/// The nodes of one host of turmoil, until it crashes.
async fn host(nodes: Rc<Vec<Rc<Blueprint>>>) -> turmoil::Result {
    let tasks: Vec<_> =
        nodes.iter().map(|node| tokio::task::spawn_local(host::run(node.clone(), Seat::Turmoil))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

impl World<'_> {
    fn blueprints(
        &self,
        draws: Draws,
        keys: &[libp2p::identity::Keypair],
        steps: Vec<PlannedStep>,
        leak: Option<Leak>,
    ) -> Blueprints {
        let delays = leak.map(|leak| leak.delays(keys.len())).unwrap_or_default();
        let created = placement::created();
        let mut of_node: BTreeMap<usize, Vec<PlannedStep>> = BTreeMap::new();
        for step in steps {
            of_node.entry(self.scenario.steps[step.number].node).or_default().push(step);
        }
        let all = keys.iter().enumerate();
        let addresses: Rc<Vec<Multiaddr>> =
            Rc::new(all.map(|(node, key)| self.address(node, key, None)).collect());
        let mut blueprint = |index: usize| {
            let node = &self.scenario.nodes[index];
            let known = node.bootstrap.iter().map(|known| self.address(*known, &keys[*known], Some(index)));
            Rc::new(Blueprint {
                node: index,
                lives: self.lives(index, delays.get(index).copied().unwrap_or_default()),
                role: node.role,
                config: node.config.clone(),
                key: keys[index].clone(),
                publisher: match draws.publisher(node.signer(), created) {
                    moved if node.key_of.is_some() => moved.adopted(),
                    own => own,
                },
                ip: self.places.ip(self.scenario.site_of(index)),
                port: self.port(index),
                bootstrap: known.collect(),
                addresses: addresses.clone(),
                disk: self.disks[index].clone(),
                steps: of_node.remove(&index).unwrap_or_default(),
                ledger: self.ledger.clone(),
                witness: self.witness.clone(),
                metrics: self.metrics[index].clone(),
                weather: self.weather.clone(),
                names: self.names.clone(),
                script: node.script,
                others: (0..keys.len())
                    .filter(|other| node.script.is_some() && *other != index)
                    .map(|other| addresses[other].clone())
                    .collect(),
                fellows: self.fellows(index, keys),
                eclipsed: node
                    .script
                    .and_then(|script| script.target)
                    .map(|target| placement::package_of(self.scenario, draws, target)),
                secret: draws.secret("adversary", &node.name, 0),
            })
        };
        let sites = 0..self.scenario.sites;
        sites.map(|site| Rc::new(self.scenario.nodes_at(site).map(&mut blueprint).collect())).collect()
    }

    /// When a node runs, and later than that where the real world leaks in.
    fn lives(&self, node: usize, delay: Duration) -> Vec<Life> {
        let lives = self.plan.lives[node].iter();
        lives.map(|life| Life { from: life.from + delay, ..*life }).collect()
    }

    /// Whom an adversary tells others of: everybody, or those only that stand before the same record.
    fn fellows(&self, adversary: usize, keys: &[libp2p::identity::Keypair]) -> BTreeSet<PeerId> {
        let target = |node: usize| self.scenario.nodes[node].script.and_then(|script| script.target);
        let mine = target(adversary);
        let told = (0..keys.len()).filter(|node| mine.is_none() || target(*node) == mine);
        told.map(|node| keys[node].public().to_peer_id()).collect()
    }

    fn port(&self, node: usize) -> u16 {
        FIRST_PORT + u16::try_from(node / self.scenario.sites).expect("a thousand nodes at most")
    }

    /// Where a node is looked for, by another one or by all.
    fn address(&self, node: usize, key: &libp2p::identity::Keypair, by: Option<usize>) -> Multiaddr {
        let site = |node| self.scenario.site_of(node);
        let socket = SocketAddr::new(self.places.seen(site(node), by.map(site)), self.port(node));
        multiaddr(socket).with(Protocol::P2p(key.public().to_peer_id()))
    }

    /// Gives every link a latency of its own, for the whole run.
    fn lay_links(&self, net: &mut dyn Control, draws: Draws) -> BTreeMap<(usize, usize), Duration> {
        let mut latencies = BTreeMap::new();
        for one in 0..self.scenario.sites {
            for other in 0..one {
                let link = format!("{other}-{one}");
                let latency = self.latency(one, other, &link, draws);
                net.set_latency(self.places.ip(one), self.places.ip(other), latency);
                latencies.insert((other, one), latency);
            }
        }
        latencies
    }

    fn latency(&self, one: usize, other: usize, link: &str, draws: Draws) -> Duration {
        if self.places.are_together(one, other) {
            return places::LAN;
        }
        match &self.scenario.latency {
            Latency::Drawn(range) => draws.duration(range, "latency", link, 0),
            Latency::Regions => {
                // All nodes of a site are in one region.
                let region = |site: usize| self.scenario.nodes[site].region.as_deref().unwrap_or_default();
                let (one, other) = (region(one), region(other));
                let median = regions::one_way(one, other).expect("the scenario names known regions");
                median + draws.duration(&(Duration::ZERO..=regions::jitter(one, other)), "jitter", link, 0)
            }
        }
    }

    /// Begins and ends what is due.
    fn break_and_mend(&mut self, net: &mut dyn Control, breaker: &mut Breaker<'_>) -> Result<(), Error> {
        let now = net.elapsed();
        let is_due = |at: Duration| at <= now && now < at + self.scenario.tick;
        // What ends makes room for what begins at the same moment.
        for (number, event) in self.plan.events.iter().enumerate().filter(|(_, event)| is_due(event.until)) {
            breaker.end(net, number, event);
            self.note(now, event, "ends", Fact::FaultEnded);
        }
        for (number, event) in self.plan.events.iter().enumerate().filter(|(_, event)| is_due(event.at)) {
            if !self.power.takes(number, event, (self.scenario, self.draws), &self.disks) {
                self.begin(net, breaker, number, event)?;
            }
            self.note(now, event, "begins", Fact::FaultBegan);
        }
        breaker.look(net, now);
        Ok(())
    }

    /// Stops the machines whose power fails now.
    fn cut_power(&mut self, net: &mut dyn Control, breaker: &mut Breaker<'_>) -> Result<(), Error> {
        for number in self.power.fails(net.elapsed(), &self.plan.events, self.scenario, &self.disks) {
            self.begin(net, breaker, number, &self.plan.events[number])?;
        }
        Ok(())
    }

    /// Begins an event. Nodes that it stops find their disks as it leaves them.
    fn begin(
        &self,
        net: &mut dyn Control,
        breaker: &mut Breaker<'_>,
        number: usize,
        event: &Event,
    ) -> Result<(), Error> {
        let nodes = power::nodes_of(self.scenario, event);
        // What ends with its host has no time to put its files in order.
        nodes.iter().for_each(|node| self.disks[*node].kill());
        let wiped = breaker.begin(net, number, event);
        let at = net.elapsed();
        let is_power_cut = matches!(event.deed, Deed::Stop { is_silent: true, .. });
        for node in nodes {
            let now = timestamp(self.scenario.site_of(node), at);
            if wiped.contains(&self.scenario.site_of(node)) {
                self.disks[node].wipe(now)?;
                self.ledger.lock().tell(Fact::Wiped { node });
                continue;
            }
            let name = self.scenario.nodes[node].name.as_str();
            let (disk, installs) = (&self.disks[node], &self.installs[node]);
            power::recover(disk, (node, name), is_power_cut, installs, &self.ledger, (at, now))?;
        }
        Ok(())
    }

    fn note(&self, now: Duration, event: &Event, what: &str, fact: Fact) {
        let names: Vec<&str> =
            event.nodes.iter().map(|node| self.scenario.nodes[*node].name.as_str()).collect();
        let kind = self.scenario.faults[event.fault].kind.as_str();
        let what = format!("fault {} {kind} {what} [{}]", event.fault, names.join(" "));
        let mut ledger = self.ledger.lock();
        ledger.record_world(now, what);
        ledger.tell(fact);
    }

    /// Notes which releases came into which catalogue, to a tick; and which heads were made, before anybody can lose them.
    fn look_into_catalogues(&mut self, elapsed: Duration) -> Result<(), Error> {
        let mut changed = self.ledger.lock().measures.take_changed();
        changed.append(&mut self.queuing);
        for node in changed {
            let store = self.disks[node].store();
            let now = timestamp(self.scenario.site_of(node), elapsed);
            let (releases, position) = account::listings(&store, self.positions[node], now)?;
            self.positions[node] = position;
            let mut ledger = self.ledger.lock();
            releases.into_iter().for_each(|release| ledger.measures.lists(node, release, elapsed));
            for (package, digest) in
                judge::signed(&store)?.difference(&self.signed).cloned().collect::<Vec<_>>()
            {
                self.signed.insert((package.clone(), digest));
                ledger.tell(Fact::Signed { node, package, digest });
            }
            if judge::queues(&store)? {
                self.queuing.insert(node);
            }
        }
        Ok(())
    }

    fn report(&self, watch: Watch, (elapsed, engine): (Duration, Engine)) -> Result<Report, Error> {
        let in_files = (0..self.disks.len()).filter(|node| self.disks[*node].drive().is_some());
        for fact in in_files.flat_map(|node| power::stands(node, &self.installs[node])) {
            self.ledger.lock().tell(fact);
        }
        let (shortcomings, (distributions, mut metrics)) = {
            let ledger = self.ledger.lock();
            (self.shortcomings(&ledger), account::metrics(self.scenario, &ledger))
        };
        let idle = self.idle_faults();
        let (invariants, findings) =
            watch.finish(elapsed, &self.ledger, &self.disks, idle, &shortcomings, &mut metrics)?;
        let mut ledger = self.ledger.lock();
        // What was stopped before its end has the events of the whole run until there, and no others.
        let is_whole = elapsed >= self.scenario.duration;
        for invariant in invariants.iter().filter(|it| is_whole && !it.holds) {
            for violation in &invariant.violations {
                ledger.record_world(elapsed, format_args!("violated {}: {violation}", invariant.name));
            }
        }
        let faults = (0..self.scenario.faults.len()).map(|number| self.fault(number, &ledger));
        let faults: Vec<FaultReport> = faults.chain(account::adversaries(self.scenario, &ledger)).collect();
        Ok(Report {
            schema_version: SCHEMA_VERSION,
            scenario: self.scenario.name.clone(),
            question: None,
            variant: self.scenario.variant.clone(),
            engine,
            seed: 0,
            nodes: self.scenario.nodes.len(),
            sites: self.scenario.sites,
            verdict: Verdict::of(&invariants),
            trace_hash: ledger.trace.hash(),
            events: ledger.trace.events(),
            simulated_secs: elapsed.as_secs_f64(),
            wall_secs: 0.0,
            again: String::new(),
            invariants,
            findings,
            markers: reached::markers(self.scenario, &ledger, &faults),
            faults,
            members: account::members(self.scenario, &ledger, elapsed),
            steps: account::steps(self.scenario, &ledger),
            links: ledger.links().into_iter().collect(),
            distributions,
            metrics,
            checkpoints: ledger.trace.checkpoints().to_vec(),
        })
    }

    fn shortcomings(&self, ledger: &Ledger) -> Vec<(usize, String)> {
        let steps = self.scenario.steps.iter().enumerate().filter(|(_, step)| !step.may_fail);
        let failed = steps.filter_map(|(number, _)| {
            let why = self.scenario.shortcoming(number, &ledger.ended)?;
            Some((number, format!("{} {why}", self.describe(number))))
        });
        failed.collect()
    }

    fn describe(&self, number: usize) -> String {
        let step = &self.scenario.steps[number];
        let node = &self.scenario.nodes[step.node].name;
        format!("step {number} ({} at {node} after {:?})", step.action, step.at)
    }

    fn fault(&self, number: usize, ledger: &Ledger) -> FaultReport {
        let fault = &self.scenario.faults[number];
        let end = self.scenario.duration;
        let events: Vec<&Event> = self.plan.events.iter().filter(|event| event.fault == number).collect();
        let nodes: BTreeSet<usize> = events.iter().flat_map(|event| &event.nodes).copied().collect();
        let windows: Vec<[f64; 2]> =
            events.iter().map(|it| [it.at.as_secs_f64(), it.until.min(end).as_secs_f64()]).collect();
        FaultReport {
            kind: fault.kind.as_str().to_owned(),
            name: fault.key.clone(),
            from_secs: windows.iter().map(|it| it[0]).fold(end.as_secs_f64(), f64::min),
            until_secs: windows.iter().map(|it| it[1]).fold(0.0, f64::max),
            nodes: nodes.into_iter().map(|node| self.scenario.nodes[node].name.clone()).collect(),
            windows,
            bites: ledger.bites.get(&number).copied().unwrap_or(0),
        }
    }

    fn idle_faults(&self) -> Vec<String> {
        let ledger = self.ledger.lock();
        let faults = self.scenario.faults.iter().enumerate();
        let idle = faults.filter(|(number, _)| ledger.bites.get(number).is_none_or(|bites| *bites == 0));
        let idle = idle.map(|(number, fault)| format!("fault {number} ({}) never bit", fault.kind.as_str()));
        let tame = self.scenario.nodes.iter().enumerate().filter_map(|(node, it)| {
            let script = it.script.filter(|_| ledger.bites_of(node) == 0)?;
            Some(format!("adversary {} ({}) never bit", it.name, script.kind.as_str()))
        });
        let all: Vec<String> = idle.chain(tame).collect();
        // Of those that are drawn, one may hide another. Not all of them.
        let left_to_seed = self.scenario.swarm != Swarm::default();
        let some_bit = ledger.counts.bites > 0 || ledger.bites.values().any(|bites| *bites > 0);
        if left_to_seed && some_bit { Vec::new() } else { all }
    }
}

#[cfg(test)]
mod tests;
