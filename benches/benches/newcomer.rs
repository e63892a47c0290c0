//! How fast a newcomer takes 100 000 heads from two loopback peers that have all of them, stores on disk: verification is the cost. The
//! baseline is what one thread needs that verifies and writes the same heads, page after page, without a network.
//!
//! Environment: `GGEN_BENCH_HEADS=20000` takes so many.
//!
//! Nothing of `ggen_benches` is used here, nor of the simulator: they would take the clocks of this program.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    env,
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

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
/// How often each is measured, in turns.
const RUNS: u8 = 3;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().collect();
    let is_test = !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test");
    if arguments.iter().any(|it| it == "--list") {
        return Ok(());
    }
    let count = match env::var("GGEN_BENCH_HEADS") {
        Ok(count) => count.parse()?,
        Err(_) if is_test => HEADS_IN_TEST,
        Err(_) => HEADS,
    };
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let heads = heads(count);
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
    let pages: Vec<Vec<ByteBuf>> = heads
        .chunks(PAGE)
        .map(|part| part.iter().map(|head| ByteBuf::from(head.bytes())).collect())
        .collect();
    let runs = if is_test { 1 } else { RUNS };
    for run in 0..runs {
        let home = folder.path().join("baseline");
        measured("baseline-one-thread", heads.len(), || take_all(&home, &pages))?;
        fs::remove_dir_all(home)?;
        // Each is another peer: what one peer has of a catalogue in a while is bounded.
        let number = DONORS + 1 + run;
        let home = folder.path().join(format!("newcomer-{number}"));
        // Who has just started verifies what it serves, once: the first newcomers pay for that.
        let what = if run + 1 == runs { "from-two-peers" } else { "from-two-peers-just-started" };
        measured(what, heads.len(), || join(&runtime, &home, number, &known, heads.len()))?;
        fs::remove_dir_all(home)?;
    }
    runtime.block_on(async {
        for (donor, _) in &donors {
            donor.shutdown().await;
        }
    });
    Ok(())
}

/// Prints how long it took to take so many heads, and how much of the processors.
fn measured(what: &str, heads: usize, take: impl FnOnce() -> Outcome<Duration>) -> Outcome<()> {
    let before = cpu_secs()?;
    let secs = take()?.as_secs_f64();
    let cpu = cpu_secs()? - before;
    println!(
        "newcomer/{what}: {heads} heads in {secs:.2} s, {:.0} a second; {cpu:.2} CPU-seconds, {:.0} µs a head",
        heads as f64 / secs,
        cpu * 1e6 / heads as f64
    );
    Ok(())
}

/// Seconds of the processors that this process has had: those of all nodes, which it holds.
fn cpu_secs() -> Outcome<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no such field")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.collect::<Result<Vec<_>, _>>()?.iter().sum::<f64>() / TICKS_A_SECOND)
}

/// How long one thread needs for pages of heads, without a network.
fn take_all(home: &Path, pages: &[Vec<ByteBuf>]) -> Outcome<Duration> {
    let store = open(home)?;
    let (began, verified) = (instant(), sync::Verified::default());
    for page in pages {
        sync::take_page(&store, &verified, page, &Source::unknown(), now()).ok_or("a page is taken")?;
    }
    Ok(began.elapsed())
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
