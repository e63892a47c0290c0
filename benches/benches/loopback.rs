//! DHT lookups and gossip between twenty real nodes: TCP over loopback, Noise, Yamux, stores on disk, in real time.
//!
//! The nodes share this process and its threads. Nothing of `ggen_benches` is used here, nor of the simulator: they would take
//! the clocks of this program.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    identity::Publisher,
    network::{Event, Metrics, Observer, Offload, Spawner, transport},
    package::PackageId,
    store::Store,
    time::Timestamp,
    traits::{Package, Registry},
};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

/// Nodes, where something is measured.
const NODES: usize = 20;
/// Nodes, where it is only seen whether all of this runs.
const NODES_IN_TEST: usize = 4;
/// How long the nodes may take to find one another.
const JOIN_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an announcement may take to reach all.
const SPREAD_TIMEOUT: Duration = Duration::from_secs(30);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().collect();
    let is_test = !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test");
    if arguments.iter().any(|it| it == "--list") {
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut network = runtime.block_on(Network::start(if is_test { NODES_IN_TEST } else { NODES }))?;
    let mut criterion = Criterion::default().configure_from_args();
    lookups(&mut criterion, &runtime, &mut network)?;
    propagation(&mut criterion, &runtime, &mut network);
    criterion.final_summary();
    runtime.block_on(network.stop());
    Ok(())
}

/// How long a node takes to get the newest head of a package from the DHT, the nodes asking in turn.
fn lookups(criterion: &mut Criterion, runtime: &Runtime, network: &mut Network) -> Outcome<()> {
    let package = runtime.block_on(network.publish())?.package;
    let mut group = criterion.benchmark_group("dht-lookup/loopback");
    group.sample_size(50).measurement_time(Duration::from_secs(10));
    let mut turn = 0;
    group.bench_function(BenchmarkId::from_parameter(network.nodes.len()), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                turn = (turn + 1) % network.nodes.len();
                let began = now();
                let found = runtime.block_on(network.nodes[turn].dht_head(&package));
                took += began.elapsed();
                assert!(found.is_ok_and(|head| head.is_some()), "the head was not found");
            }
            took
        });
    });
    group.finish();
    Ok(())
}

/// From the moment at which an announcement goes out until the last node has taken it.
fn propagation(criterion: &mut Criterion, runtime: &Runtime, network: &mut Network) {
    let mut group = criterion.benchmark_group("gossip-propagation/loopback");
    group.sample_size(20).measurement_time(Duration::from_secs(15)).sampling_mode(SamplingMode::Flat);
    group.bench_function(BenchmarkId::from_parameter(network.nodes.len()), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                took += runtime.block_on(network.publish()).expect("it is announced, and reaches all").spread;
            }
            took
        });
    });
    group.finish();
}

/// What a node told, and when.
enum Told {
    Announcing(Instant),
    Taken(Instant),
}

struct Network {
    nodes: Vec<P2PRegistry>,
    folder: TempDir,
    told: Receiver<Told>,
    published: u64,
}

struct Published {
    package: PackageId,
    /// From the announcement to the last node's taking it.
    spread: Duration,
}

impl Network {
    async fn start(nodes: usize) -> Outcome<Self> {
        let folder = TempDir::with_prefix("ggen-bench-")?;
        let (tell, told) = mpsc::channel();
        let mut network = Self { nodes: Vec::new(), folder, told, published: 0 };
        let mut first: Option<Multiaddr> = None;
        for number in 0..nodes {
            let home = network.folder.path().join(number.to_string());
            let config = P2PConfig {
                listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
                bootstrap_nodes: first.iter().cloned().collect(),
                ..P2PConfig::with_state_dir(&home)
            };
            let registry = P2PRegistry::with_parts(config, parts(&home, number, tell.clone())?).await?;
            let bound = registry.start_listening().await?;
            registry.subscribe_to_packages().await?;
            let own = bound.first().ok_or("nothing was bound")?.clone();
            first.get_or_insert(own.with(Protocol::P2p(registry.peer_id())));
            network.nodes.push(registry);
        }
        timeout(JOIN_TIMEOUT, network.joined()).await.map_err(|_| "the nodes did not find one another")?;
        Ok(network)
    }

    /// Waits until every node is connected with every other and knows that it listens to announcements.
    async fn joined(&self) {
        let others = self.nodes.len() - 1;
        for node in &self.nodes {
            let is_ready = async || {
                node.snapshot().await.is_ok_and(|it| {
                    it.peers.len() >= others
                        && it.topic_peers >= others
                        && it.mesh_peers >= others.min(4)
                        && it.heads_complete >= others
                })
            };
            while !is_ready().await {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Publishes one more version, and waits until all others have taken its announcement. The nodes do so in turn: each may
    /// announce only so much in a second.
    async fn publish(&mut self) -> Outcome<Published> {
        let folder = self.folder.path().join("package");
        let author = usize::try_from(self.published)? % self.nodes.len();
        self.published += 1;
        write_package(&folder, self.published)?;
        while self.told.try_recv().is_ok() {}
        let release = self.nodes[author].publish(Package::from_dir(&folder)).await?;
        let (mut announced, mut last, mut taken) = (None, None, 0);
        while announced.is_none() || taken < self.nodes.len() - 1 {
            // The nodes run on the other threads of the runtime.
            match tokio::task::block_in_place(|| self.told.recv_timeout(SPREAD_TIMEOUT))? {
                Told::Announcing(at) => announced = Some(at),
                Told::Taken(at) => {
                    taken += 1;
                    last = last.max(Some(at));
                }
            }
        }
        let (announced, last) = announced.zip(last).ok_or("nothing was announced")?;
        Ok(Published { package: release.package, spread: last.saturating_duration_since(announced) })
    }

    async fn stop(self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
    }
}

fn parts(home: &Path, number: usize, tell: Sender<Told>) -> Outcome<Parts> {
    fs::create_dir_all(home)?;
    let (store, _) = Store::open(home, Timestamp::now())?;
    let seed = u8::try_from(number + 1)?;
    Ok(Parts {
        transport: transport::tcp_without_dns(),
        node_key: Keypair::ed25519_from_bytes([seed; 32])?,
        publisher: Publisher::from_secret([seed; 32], Timestamp::now()),
        store,
        offload: Offload::Threads,
        spawner: Spawner::default(),
        observer: Observer::new(move |event| {
            // An error means that nobody measures any more.
            let _ = match event {
                Event::Announcing { .. } => tell.send(Told::Announcing(now())),
                Event::Announced { is_taken: true, .. } => tell.send(Told::Taken(now())),
                _ => Ok(()),
            };
        }),
        metrics: Metrics::default(),
    })
}

fn write_package(folder: &PathBuf, version: u64) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let description =
        format!("name = \"measured\"\nversion = \"1.0.{version}\"\ndescription = \"Measured\"\n");
    fs::write(folder.join("gpack.toml"), description)?;
    Ok(fs::write(folder.join("content.txt"), version.to_string())?)
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn now() -> Instant {
    Instant::now()
}
