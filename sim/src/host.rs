//! A node on a simulated host: the shipped one, on a base transport and a store of ours.

use std::{path::PathBuf, rc::Rc, time::Duration};

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    control::{
        api::{Failure, InstallRequest, PublishRequest, SearchRequest},
        service::{ProgressSender, Service},
    },
    identity::Publisher,
    network::{Observer, Offload, transport},
    store::Store,
};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::time::sleep;

use crate::{
    adversary::{self, Cast},
    judge::{self, Fact},
    ledger::{Ended, Shared},
    scenario::{Action, Script, ScriptKind},
    transport::{Tap, TurmoilTransport},
};

/// Seconds that a step may take.
const STEP_TIMEOUT_SECS: u64 = 60;

/// Everything that a node is made of, and made of again after a crash.
pub(crate) struct Blueprint {
    pub(crate) node: usize,
    pub(crate) start: Duration,
    pub(crate) dht_server: bool,
    pub(crate) key: Keypair,
    pub(crate) publisher: Publisher,
    pub(crate) ip: std::net::IpAddr,
    pub(crate) port: u16,
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// What was committed to it outlives a crash, and a transaction under way does not: nothing is shared with the host but
    /// this handle, and no transaction spans two polls of a task.
    pub(crate) store: Store,
    /// What its user does, in order of time.
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) ledger: Shared,
    /// How it misbehaves, from when on, and what it is made of then.
    pub(crate) script: Option<Script>,
    /// Every other node.
    pub(crate) others: Vec<Multiaddr>,
    /// An honest publisher, and 32 bytes to make keys from; for an adversary only.
    pub(crate) victim: Publisher,
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
    fn config(&self) -> P2PConfig {
        let unspecified = match self.ip {
            std::net::IpAddr::V4(_) => "/ip4/0.0.0.0",
            std::net::IpAddr::V6(_) => "/ip6/::",
        };
        let listen = format!("{unspecified}/tcp/{}", self.port);
        P2PConfig {
            listen_addresses: vec![listen.parse().expect("a valid address")],
            bootstrap_nodes: self.bootstrap.clone(),
            dht_server_mode: self.dht_server,
            // Not touched: the store is given.
            ..P2PConfig::with_state_dir("/simulated")
        }
    }

    /// Every byte that reaches the node is in the trace.
    pub(crate) fn tap(&self) -> Tap {
        let (ledger, node) = (self.ledger.clone(), self.node);
        Tap::new(move |remote, wire| ledger.lock().wire(node, remote, wire))
    }

    fn cast(&self, kind: ScriptKind) -> Cast {
        Cast {
            node: self.node,
            kind,
            key: self.key.clone(),
            ip: self.ip,
            port: self.port,
            others: self.others.clone(),
            store: self.store.clone(),
            topic: self.config().packages_topic,
            tap: self.tap(),
            ledger: self.ledger.clone(),
            victim: self.victim.clone(),
            secret: self.secret,
        }
    }

    fn parts(&self) -> Parts {
        let (ledger, node) = (self.ledger.clone(), self.node);
        Parts {
            transport: transport::base(TurmoilTransport::new(self.ip, self.tap())),
            node_key: self.key.clone(),
            publisher: self.publisher.clone(),
            store: self.store.clone(),
            offload: Offload::Inline,
            observer: Observer::new(move |event| ledger.lock().observe(node, event)),
        }
    }
}

/// Runs a node until its host crashes or the run ends.
pub(crate) async fn run(blueprint: Rc<Blueprint>) -> turmoil::Result {
    sleep(blueprint.start.saturating_sub(elapsed())).await;
    let Some(Script { kind, at }) = blueprint.script else {
        let registry = start(&blueprint).await?;
        return live(registry, blueprint).await;
    };
    if let Some(wait) = at.checked_sub(elapsed()).filter(|wait| !wait.is_zero()) {
        let registry = start(&blueprint).await?;
        // It never ends by itself.
        let _ = tokio::time::timeout(wait, live(registry.clone(), blueprint.clone())).await;
        registry.shutdown().await;
    }
    adversary::run(blueprint.cast(kind)).await
}

/// Starts the shipped node.
async fn start(blueprint: &Blueprint) -> Result<Rc<P2PRegistry>, Box<dyn std::error::Error>> {
    let registry = Rc::new(P2PRegistry::with_parts(blueprint.config(), blueprint.parts()).await?);
    registry.start_listening().await?;
    registry.subscribe_to_packages().await?;
    blueprint.ledger.lock().started(blueprint.node);
    Ok(registry)
}

/// Does what its user does.
async fn live(registry: Rc<P2PRegistry>, blueprint: Rc<Blueprint>) -> turmoil::Result {
    for step in &blueprint.steps {
        // After a crash: what came before was done, or was lost with it.
        let Some(wait) = step.at.checked_sub(elapsed()) else { continue };
        sleep(wait).await;
        let (registry, blueprint, step) = (registry.clone(), blueprint.clone(), step.clone());
        blueprint.ledger.lock().begin(step.number, blueprint.node);
        // Each by itself: one that hangs does not keep the next from its time.
        tokio::task::spawn_local(async move {
            let (ended, fetched, more) = match perform(&registry, &step).await {
                Ok(ended) => ended,
                Err(failure) => (Ended::Failed { code: failure.code }, None, String::new()),
            };
            let mut ledger = blueprint.ledger.lock();
            if let Some(fact) = installed(&step, blueprint.node, &ended) {
                ledger.tell(fact);
            }
            ledger.end(step.number, blueprint.node, ended, fetched, more);
        });
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

/// How a step ended, the bytes that came for it over the network, and what else is worth a line.
type Performed = (Ended, Option<u64>, String);

async fn perform(registry: &P2PRegistry, step: &PlannedStep) -> Result<Performed, Failure> {
    let folder = step.folder.to_string_lossy().into_owned();
    match &step.action {
        Action::Publish { .. } => {
            let request = PublishRequest { path: folder, ..PublishRequest::default() };
            let published = Service::publish(registry, request, ProgressSender::discard()).await?;
            let id = format!("{}/{}", published.publisher, published.name);
            let more = format!(
                "sequence {} stored {} heard {}",
                published.sequence, published.dht_stored, published.announced_to
            );
            Ok((Ended::Published { id, cid: published.cid }, None, more))
        }
        Action::Search { text, .. } => {
            let request = SearchRequest { text: text.clone(), ..SearchRequest::default() };
            let found = Service::search(registry, request).await?;
            let providers: Vec<usize> = found.packages.iter().map(|it| it.providers.len()).collect();
            let more = format!(
                "of {} complete {} providers {providers:?} peers {}",
                found.total, found.complete, found.connected_peers
            );
            Ok((Ended::Found { ids: found.packages.into_iter().map(|it| it.id).collect() }, None, more))
        }
        Action::Install { package } => {
            let request = InstallRequest {
                package: package.clone(),
                to: folder,
                timeout_secs: Some(STEP_TIMEOUT_SECS),
            };
            let installed = Service::install(registry, request, ProgressSender::discard()).await?;
            let id = format!("{}/{}", installed.publisher, installed.name);
            let more = format!("fetched {} from {}", installed.bytes_fetched, installed.providers.join(" "));
            Ok((Ended::Installed { id, cid: installed.cid }, Some(installed.bytes_fetched), more))
        }
    }
}

/// How long the run has lasted, for whoever runs on a host.
fn elapsed() -> Duration {
    turmoil::sim_elapsed().expect("on a host of a simulation")
}
