//! A node on a simulated host: the shipped one, on a base transport and a store of ours.

use std::{collections::BTreeSet, path::PathBuf, rc::Rc, time::Duration};

use ggen_harness::{
    task::{current, on_host},
    transport::Tap,
};
use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    code::Code,
    config::Partial,
    control::{
        api::{BootstrapRequest, Failure, InstallRequest, PublishRequest, SearchRequest},
        service::{Cancel, ProgressSender, Service},
    },
    identity::Publisher,
    network::{Metrics, Observer, Offload},
    package::PackageId,
    time::Timestamp,
};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    adversary::{self, Cast},
    disk::{self, Disk},
    engine::{self, Seat},
    judge::{self, Fact},
    ledger::{Ended, Shared},
    names::Names,
    plan::{Cause, Life},
    scenario::{Action, Flood, Role, Script, ScriptKind},
    weather::Weather,
    witness::Witness,
};

/// Seconds that a step may take.
const STEP_TIMEOUT_SECS: u64 = 60;

/// Everything that a node is made of, and made of again after a crash.
pub(crate) struct Blueprint {
    pub(crate) node: usize,
    /// When it runs.
    pub(crate) lives: Vec<Life>,
    /// What it is, as its own configuration has it.
    pub(crate) role: Role,
    /// What its configuration says besides.
    pub(crate) config: Partial,
    pub(crate) key: Keypair,
    pub(crate) publisher: Publisher,
    pub(crate) ip: std::net::IpAddr,
    pub(crate) port: u16,
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Of every node, for a user who knows it.
    pub(crate) addresses: Rc<Vec<Multiaddr>>,
    /// What was committed to it outlives a crash, and a transaction in progress does not: nothing is shared with the host but
    /// this handle, and no transaction spans two polls of a task. One in files is opened again for each life.
    pub(crate) disk: Rc<Disk>,
    /// What its user does, in order of time.
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) ledger: Shared,
    pub(crate) witness: Witness,
    pub(crate) metrics: Metrics,
    pub(crate) weather: Weather,
    pub(crate) names: Names,
    /// How it misbehaves, from when on, and what it is made of then.
    pub(crate) script: Option<Script>,
    /// Every other node; for an adversary only, as is what follows.
    pub(crate) others: Vec<Multiaddr>,
    /// Whom it tells others of.
    pub(crate) fellows: BTreeSet<PeerId>,
    /// Before whose record it stands.
    pub(crate) eclipsed: Option<PackageId>,
    /// 32 bytes to make keys from.
    pub(crate) secret: [u8; 32],
}

/// A step, with the folder on the real disk that it reads or writes.
#[derive(Debug, Clone)]
pub(crate) struct PlannedStep {
    pub(crate) number: usize,
    pub(crate) at: Duration,
    pub(crate) action: Action,
    pub(crate) folder: PathBuf,
}

impl Blueprint {
    fn settings(&self) -> P2PConfig {
        let unspecified = match self.ip {
            std::net::IpAddr::V4(_) => "/ip4/0.0.0.0",
            std::net::IpAddr::V6(_) => "/ip6/::",
        };
        let listen = format!("{unspecified}/tcp/{}", self.port);
        let known = self.bootstrap.clone();
        // A spoke is told of hubs, and any other node of peers to join through.
        let (hubs, bootstrap_nodes) =
            if self.role == Role::Spoke { (known, Vec::new()) } else { (Vec::new(), known) };
        let configured = configuration(self.role, &self.config);
        // Whom the scenario names in a node's own configuration, it knows in the place of the topology's.
        let own = |is_said: bool, own: &Vec<Multiaddr>, known| if is_said { own.clone() } else { known };
        let said = &self.config;
        P2PConfig {
            listen_addresses: vec![listen.parse().expect("a valid address")],
            bootstrap_nodes: own(
                said.bootstrap_nodes.is_some(),
                &configured.bootstrap_nodes,
                bootstrap_nodes,
            ),
            hubs: own(said.hubs.is_some(), &configured.hubs, hubs),
            ..configured
        }
    }

    /// Every byte that reaches the node is in the trace.
    pub(crate) fn tap(&self) -> Tap {
        let (ledger, node) = (self.ledger.clone(), self.node);
        Tap::new(move |remote, wire| ledger.lock().wire(node, remote, wire))
    }

    fn cast(&self, kind: ScriptKind, flood: Flood, seat: &Seat) -> Cast {
        Cast {
            seat: seat.clone(),
            node: self.node,
            kind,
            flood,
            weather: self.weather.clone(),
            key: self.key.clone(),
            ip: self.ip,
            port: self.port,
            others: self.others.clone(),
            fellows: self.fellows.clone(),
            eclipsed: self.eclipsed.clone(),
            store: self.disk.store().clone(),
            topic: self.settings().packages_topic,
            tap: self.tap(),
            ledger: self.ledger.clone(),
            secret: self.secret,
        }
    }

    /// Says that a life began or ended.
    fn note(&self, cause: Cause, ended: Ended) {
        let mut ledger = self.ledger.lock();
        match cause {
            Cause::Step(number) => ledger.end(number, self.node, ended, ""),
            Cause::Bite(fault) => ledger.bite(fault, 1),
            Cause::Topology | Cause::Mended => {}
        }
    }

    fn parts(&self, seat: &Seat) -> Parts {
        let (ledger, witness, node) = (self.ledger.clone(), self.witness.clone(), self.node);
        Parts {
            transport: seat.transport(self.ip, self.tap(), self.weather.clone(), self.names.clone()),
            node_key: self.key.clone(),
            publisher: self.publisher.clone(),
            store: self.disk.store().clone(),
            offload: Offload::Inline,
            spawner: seat.spawner(),
            observer: Observer::new(move |event| {
                witness.tell(node, event);
                ledger.lock().observe(node, event);
            }),
            metrics: self.metrics.clone(),
        }
    }
}

/// The configuration of a node, but for where it listens and whom it knows.
pub(crate) fn configuration(role: Role, more: &Partial) -> P2PConfig {
    // The folder is not touched: the store is given.
    let mut config = P2PConfig::with_state_dir("/simulated").in_role(role.topology(), role);
    more.clone().apply(&mut config);
    config
}

/// Runs a node whenever it is to run, until its host crashes or the run ends.
pub(crate) async fn run(blueprint: Rc<Blueprint>, seat: Seat) -> turmoil::Result {
    loop {
        // After a crash: the life that it was in goes on.
        let is_left = |life: &&Life| life.until.is_none_or(|until| until > elapsed());
        let Some(life) = blueprint.lives.iter().find(is_left).copied() else { break };
        let is_new = elapsed() <= life.from;
        sleep(life.from.saturating_sub(elapsed())).await;
        if blueprint.disk.is_dead() {
            break;
        }
        if is_new && life.fresh {
            blueprint.disk.wipe(Timestamp::now())?;
            blueprint.ledger.lock().tell(Fact::Wiped { node: blueprint.node });
        } else if let Some(opened) = blueprint.disk.reopen(Timestamp::now())? {
            blueprint.ledger.lock().tell(opened);
        }
        match live(&blueprint, &seat, life, is_new).await {
            // The machine stops at the end of this tick.
            Err(_) if blueprint.disk.is_dead() => break,
            ended => ended?,
        }
    }
    std::future::pending().await
}

/// One life of a node; an adversary is honest until its time has come.
async fn live(blueprint: &Rc<Blueprint>, seat: &Seat, life: Life, is_new: bool) -> turmoil::Result {
    let Some(Script { kind, at, flood, .. }) = blueprint.script else {
        return serve(blueprint, seat, life, is_new).await;
    };
    if elapsed() < at {
        let until = life.until.map_or(at, |until| until.min(at));
        serve(blueprint, seat, Life { until: Some(until), ..life }, is_new).await?;
    }
    blueprint.ledger.lock().misbehaves(blueprint.node);
    let misbehaving = adversary::run(blueprint.cast(kind, flood, seat));
    match life.until {
        None => misbehaving.await,
        Some(until) => match timeout(until.saturating_sub(elapsed()), misbehaving).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        },
    }
}

/// Runs the shipped node for one life.
async fn serve(blueprint: &Rc<Blueprint>, seat: &Seat, life: Life, is_new: bool) -> turmoil::Result {
    let registry = Rc::new(P2PRegistry::with_parts(blueprint.settings(), blueprint.parts(seat)).await?);
    registry.start_listening().await?;
    registry.subscribe_to_packages().await?;
    blueprint.ledger.lock().started(blueprint.node);
    if is_new {
        blueprint.note(life.began_by, Ended::Joined);
    }
    let mut steps = JoinSet::new();
    let work = work(blueprint, &registry, &mut steps);
    match life.until {
        None => work.await,
        Some(until) => drop(timeout(until.saturating_sub(elapsed()), work).await),
    }
    // Whoever still waits for something is told nothing more.
    steps.shutdown().await;
    registry.shutdown().await;
    drop(registry);
    blueprint.ledger.lock().stopped(blueprint.node);
    blueprint.ledger.lock().record(blueprint.node, "stopped");
    blueprint.note(life.ended_by, Ended::Left);
    Ok(())
}

/// Starts every step at its time.
async fn work(blueprint: &Rc<Blueprint>, registry: &Rc<P2PRegistry>, steps: &mut JoinSet<()>) {
    for step in &blueprint.steps {
        // What came before was done, or was lost with it.
        let Some(wait) = step.at.checked_sub(elapsed()) else { continue };
        sleep(wait).await;
        let (registry, blueprint, step) = (registry.clone(), blueprint.clone(), step.clone());
        blueprint.ledger.lock().begin(step.number, blueprint.node);
        // Each by itself: one that hangs does not keep the next from its time.
        let work = async move {
            let (ended, more) = match perform(&blueprint, &registry, &step).await {
                Ok(ended) => ended,
                Err(failure) => {
                    // The folder's name differs from run to run.
                    let message = failure.message.replace(&*step.folder.to_string_lossy(), "the folder");
                    // What cannot be installed leaves nothing that could be taken for it.
                    let leaves_files = matches!(step.action, Action::Install { .. }) && step.folder.exists();
                    (Ended::Failed { code: failure.code.to_string(), message, leaves_files }, String::new())
                }
            };
            // Without power, nobody is told anything.
            if blueprint.disk.is_dead() {
                return;
            }
            let mut ledger = blueprint.ledger.lock();
            if matches!(ended, Ended::Installed { .. }) && blueprint.disk.drive().is_some() {
                let staged = disk::staged_beside(&step.folder);
                if staged > 0 {
                    ledger.tell(Fact::Littered { node: blueprint.node, staged });
                }
            }
            if let Some(fact) = installed(&step, blueprint.node, &ended) {
                ledger.tell(fact);
            }
            ledger.end(step.number, blueprint.node, ended, more);
        };
        steps.spawn_local(on_host(current(), work));
    }
    std::future::pending().await
}

/// What was installed, with the files as they stand on the disk.
fn installed(step: &PlannedStep, node: usize, ended: &Ended) -> Option<Fact> {
    let Ended::Installed { cid, .. } = ended else { return None };
    let root = cid.parse().ok()?;
    // What cannot be read is not what was published either.
    let tree = judge::tree_digest(&step.folder).unwrap_or_default();
    Some(Fact::Installed { step: step.number, node, root, tree })
}

async fn perform(
    blueprint: &Blueprint,
    registry: &P2PRegistry,
    step: &PlannedStep,
) -> Result<(Ended, String), Failure> {
    let folder = step.folder.to_string_lossy().into_owned();
    match &step.action {
        Action::Publish { .. } => {
            let request = PublishRequest { path: folder, ..PublishRequest::default() };
            let published =
                Service::publish(registry, request, ProgressSender::discard(), Cancel::default()).await?;
            let id = format!("{}/{}", published.publisher, published.name);
            let more = format!(
                "sequence {} stored {} heard {}",
                published.sequence, published.dht_stored, published.announced_to
            );
            let (version, cid, sequence) = (published.version, published.cid, published.sequence);
            Ok((Ended::Published { id, version, cid, sequence }, more))
        }
        Action::Search { text, filter, .. } => {
            let request = SearchRequest {
                text: text.clone(),
                categories: filter.categories.clone(),
                tags: filter.tags.clone(),
                any_tag: filter.any_tag,
                limit: filter.limit,
                min_reputation: filter.min_reputation,
                ..SearchRequest::default()
            };
            let found = Service::search(registry, request).await?;
            let providers: Vec<usize> = found.packages.iter().map(|it| it.providers.len()).collect();
            let more = format!(
                "of {} complete {} providers {providers:?} peers {}",
                found.total, found.complete, found.connected_peers
            );
            let ids = found.packages.into_iter().map(|it| it.id).collect();
            let (hidden, because) = (found.hidden_by_reputation, found.incomplete_because);
            Ok((Ended::Found { ids, hidden, because }, more))
        }
        Action::Install { package, version, .. } => {
            let version = version.as_ref().map_or_else(String::new, |version| format!("@{version}"));
            let request = InstallRequest {
                package: format!("{package}{version}"),
                to: folder,
                timeout_secs: Some(STEP_TIMEOUT_SECS),
                ..InstallRequest::default()
            };
            let installed = Service::install(registry, request, ProgressSender::discard()).await?;
            let id = format!("{}/{}", installed.publisher, installed.name);
            let more = format!(
                "fetched {} from {}, {}",
                installed.bytes_fetched,
                installed.providers.join(" "),
                installed.freshness.freshness
            );
            let (fetched, overdue) = (installed.bytes_fetched, installed.freshness.overdue);
            Ok((Ended::Installed { id, cid: installed.cid, fetched, overdue }, more))
        }
        Action::Lookup { package } => look_up(blueprint, registry, package).await,
        Action::Bootstrap { to } => {
            let addresses = vec![blueprint.addresses[*to].to_string()];
            let request = BootstrapRequest { addresses, timeout_secs: None };
            let done = Service::bootstrap(registry, request).await?;
            let more = format!("table {} to {}", done.routing_table_before, done.routing_table_after);
            Ok((Ended::Bootstrapped { reached: done.reached }, more))
        }
        // The plan made them a beginning or an end of this node's lives.
        Action::Join | Action::Leave => std::future::pending().await,
    }
}

/// Gets the head of a package through the DHT alone. Who published it, the harness knows.
async fn look_up(
    blueprint: &Blueprint,
    registry: &P2PRegistry,
    package: &str,
) -> Result<(Ended, String), Failure> {
    let nothing = || Failure::new(Code::NotFound, format!("{package} was not found"), "Look later.");
    let id = blueprint.ledger.lock().id_of(package).map(str::to_owned).ok_or_else(nothing)?;
    let named: PackageId = id.parse().map_err(|_| nothing())?;
    let head = registry.dht_head(&named).await.ok().flatten().ok_or_else(nothing)?;
    Ok((Ended::LookedUp { id, sequence: head.head().sequence.get() }, String::new()))
}

/// How long the run has lasted, for whoever runs on a host.
fn elapsed() -> Duration {
    engine::elapsed().expect("on a host of a simulation")
}
