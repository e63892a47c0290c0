//! How fast a newcomer takes 100 000 heads from two loopback peers that have all of them, stores on disk: verification is the cost. The
//! baseline is what one thread needs that verifies and writes the same heads, page after page, without a network.
//!
//! Nothing of `ggen_benches` is used here, nor of the simulator: they would take the clocks of this program.

use std::{
    env,
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput};
use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    catalog::{self, Source},
    content::{Codec, ContentId},
    identity::Publisher,
    network::{Metrics, Observer, Offload, Spawner, transport},
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, VerifiedHead},
    store::Store,
    sync,
    time::Timestamp,
};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use serde_bytes::ByteBuf;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

/// Heads, where something is measured.
const HEADS: u32 = 100_000;
/// Heads, where it is only seen whether all of this runs.
const HEADS_IN_TEST: u32 = 1_500;
const HEADS_PER_PUBLISHER: u32 = 1_000;
const DONORS: u8 = 2;
const PAGE: usize = 512;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().collect();
    let is_test = !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test");
    if arguments.iter().any(|it| it == "--list") {
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let heads = heads(if is_test { HEADS_IN_TEST } else { HEADS });
    let folder = TempDir::with_prefix("ggen-bench-")?;
    let mut donors = Vec::new();
    for donor in 1..=DONORS {
        let store = open(&folder.path().join(format!("donor-{donor}")))?;
        for part in heads.chunks(PAGE) {
            store.write(|tx| {
                part.iter()
                    .try_for_each(|head| catalog::insert(tx, head, &Source::unknown(), now()).map(drop))?;
                Ok(())
            })?;
        }
        donors.push(runtime.block_on(start(store, donor, Vec::new()))?);
    }
    let known: Vec<Multiaddr> = donors.iter().map(|(_, address)| address.clone()).collect();
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("newcomer");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Elements(heads.len() as u64));
    // Each is another peer: what one peer has of a catalogue in a while is bounded.
    let mut number = DONORS;
    group.bench_function("from-two-peers", |bencher| {
        bencher.iter_custom(|times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                number += 1;
                let home = folder.path().join(format!("newcomer-{number}"));
                taken += join(&runtime, &home, number, &known, heads.len()).expect("a newcomer joins");
                fs::remove_dir_all(home).expect("its folder can be removed");
            }
            taken
        });
    });
    let pages: Vec<Vec<ByteBuf>> = heads
        .chunks(PAGE)
        .map(|part| part.iter().map(|head| ByteBuf::from(head.bytes())).collect())
        .collect();
    group.bench_function("baseline-one-thread", |bencher| {
        bencher.iter_custom(|times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                let home = folder.path().join("baseline");
                let store = open(&home).expect("a store can be opened");
                let began = instant();
                for page in &pages {
                    let verified = sync::Verified::default();
                    sync::take_page(&store, &verified, page, &Source::unknown(), now())
                        .expect("a page is taken");
                }
                taken += began.elapsed();
                drop(store);
                fs::remove_dir_all(home).expect("its folder can be removed");
            }
            taken
        });
    });
    group.finish();
    criterion.final_summary();
    runtime.block_on(async {
        for (donor, _) in &donors {
            donor.shutdown().await;
        }
    });
    Ok(())
}

/// How long a newcomer needs from its start until it lists everything.
fn join(runtime: &Runtime, home: &Path, seed: u8, known: &[Multiaddr], heads: usize) -> Outcome<Duration> {
    let store = open(home)?;
    runtime.block_on(async {
        let began = instant();
        let (newcomer, _) = start(store.clone(), seed, known.to_vec()).await?;
        while store.read(|conn| Ok(catalog::count(conn)?))? < heads {
            sleep(Duration::from_millis(10)).await;
        }
        let taken = began.elapsed();
        newcomer.shutdown().await;
        Ok(taken)
    })
}

async fn start(store: Store, seed: u8, bootstrap_nodes: Vec<Multiaddr>) -> Outcome<(P2PRegistry, Multiaddr)> {
    let config = P2PConfig {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
        bootstrap_nodes,
        ..P2PConfig::with_state_dir("/nowhere")
    };
    let parts = Parts {
        transport: transport::tcp_without_dns(),
        node_key: Keypair::ed25519_from_bytes([seed; 32])?,
        publisher: Publisher::from_secret([seed; 32], now()),
        store,
        offload: Offload::Threads,
        spawner: Spawner::default(),
        observer: Observer::default(),
        metrics: Metrics::default(),
    };
    let registry = P2PRegistry::with_parts(config, parts).await?;
    let bound = registry.start_listening().await?;
    let address = bound.first().ok_or("nothing was bound")?.clone().with(Protocol::P2p(registry.peer_id()));
    Ok((registry, address))
}

fn open(home: &Path) -> Outcome<Store> {
    fs::create_dir_all(home)?;
    Ok(Store::open(home, now())?.0)
}

fn heads(count: u32) -> Vec<VerifiedHead> {
    let created = now().minus(Duration::from_secs(u64::from(count) + 60));
    (0..count)
        .map(|number| {
            let mut secret = [1; 32];
            secret[..4].copy_from_slice(&(number / HEADS_PER_PUBLISHER).to_be_bytes());
            let publisher = Publisher::from_secret(secret, created);
            let name = format!("package-{number}");
            let release = Release {
                version: "1.0.0".parse().expect("a valid version"),
                manifest: ContentId::of(Codec::Raw, name.as_bytes()),
                root: ContentId::of(Codec::DagPb, name.as_bytes()),
                size: 1,
                files: 1,
            };
            let package = PackageId { publisher: publisher.id(), name: name.parse().expect("a valid name") };
            let mut log = Log::empty(package);
            let at = created.plus(Duration::from_secs(u64::from(number)));
            let entry = log.next(Kind::Release(release), &publisher, at).expect("a log can begin");
            log.push(entry).expect("its own next entry");
            let labels = Labels { description: "One of very many".to_owned(), ..Labels::default() };
            Head::of(&log, labels, &publisher).and_then(|head| head.sign(&publisher)).expect("a valid head")
        })
        .collect()
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn instant() -> Instant {
    Instant::now()
}
