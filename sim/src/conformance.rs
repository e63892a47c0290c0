//! The promises of a registry, kept by nodes on simulated hosts: what a program that embeds one relies on.

use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc, thread, time::Duration};

use ggen_harness::transport::Tap;
use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    network::{Metrics, Observer, Offload, Spawner},
    package::PackageId,
    store::Store,
    time::Timestamp,
    traits::{Registry, conformance},
};
use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::time::sleep;

use crate::{
    draw::{Draws, Publishers},
    engine::{self, Seat},
    ledger::Shared,
    names::Names,
    places,
    trace::Lines,
    virtualise,
    weather::Weather,
};

const NAMES: [&str; 2] = ["publisher", "reader"];
const PORT: u16 = 4_001;
/// How often the reader looks, and how long it may take.
const LOOK: Duration = Duration::from_millis(100);
const END: Duration = Duration::from_secs(60);

/// What one node has told the other, outside of the network.
#[derive(Default)]
struct Told {
    published: Option<PackageId>,
    is_read: bool,
}

async fn node(number: usize, draws: Draws, weather: Weather) -> P2PRegistry {
    let address = |number: usize| -> Multiaddr {
        let key = draws.node_key(NAMES[number]);
        let tcp = format!("/ip4/{}/tcp/{PORT}", places::ip(number)).parse::<Multiaddr>().unwrap();
        tcp.with(Protocol::P2p(key.public().to_peer_id()))
    };
    let config = P2PConfig {
        listen_addresses: vec![format!("/ip4/0.0.0.0/tcp/{PORT}").parse().unwrap()],
        bootstrap_nodes: (0..number).map(address).collect(),
        ..P2PConfig::with_state_dir("/simulated")
    };
    let tap = Tap::new(|_, _| {});
    let parts = Parts {
        transport: Seat::Turmoil.transport(places::ip(number), tap, weather, Names::default()),
        node_key: draws.node_key(NAMES[number]),
        publisher: draws.publisher(NAMES[number], Timestamp::from_secs(virtualise::EPOCH.as_secs())),
        store: Store::in_memory().unwrap(),
        offload: Offload::Inline,
        spawner: Spawner::default(),
        observer: Observer::new(|_| {}),
        metrics: Metrics::default(),
    };
    let registry = P2PRegistry::with_parts(config, parts).await.unwrap();
    registry.start_listening().await.unwrap();
    registry.subscribe_to_packages().await.unwrap();
    registry
}

/// Waits until the simulated node sees what it is to see.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        match look().await {
            Some(seen) => return seen,
            None => sleep(LOOK).await,
        }
    }
}

async fn publisher(
    draws: Draws,
    weather: Weather,
    told: Rc<RefCell<Told>>,
    scratch: &Path,
) -> turmoil::Result {
    let registry = node(0, draws, weather).await;
    let id = conformance::publishes(&registry, scratch).await?;
    conformance::reads(&registry, &id).await?;
    told.borrow_mut().published = Some(id.clone());
    until(async || told.borrow().is_read.then_some(())).await;
    conformance::republishes(&registry, &id, scratch).await?;
    conformance::amends(&registry, &id).await?;
    conformance::deletes(&registry, &id, scratch).await?;
    // It stays, so that the other one can hear of that.
    std::future::pending().await
}

async fn reader(draws: Draws, weather: Weather, told: Rc<RefCell<Told>>) -> turmoil::Result {
    let registry = node(1, draws, weather).await;
    let id = until(async || told.borrow().published.clone()).await;
    until(async || {
        let versions = registry.list_versions(&id).await.ok()?;
        (versions.len() == conformance::VERSIONS.len()).then_some(())
    })
    .await;
    conformance::reads(&registry, &id).await?;
    told.borrow_mut().is_read = true;
    until(async || (!registry.exists(&id).await.ok()?).then_some(())).await;
    Ok(())
}

#[test]
fn simulated_registries_keep_every_promise() {
    let body = || {
        let draws = Draws::new(1);
        let _virtual = virtualise::enter_with(draws.secret("entropy", "", 0), engine::elapsed);
        let ledger = Shared::new(NAMES.map(str::to_owned).to_vec(), BTreeMap::new(), Lines::default());
        let tick = Duration::from_millis(5);
        let weather = Weather::new(draws, ledger, tick);
        let mut sim = turmoil::Builder::new()
            .rng_seed(1)
            .tick_duration(tick)
            .simulation_duration(END)
            .min_message_latency(Duration::from_millis(20))
            .max_message_latency(Duration::from_millis(20))
            .build();
        let (told, scratch) = (Rc::<RefCell<Told>>::default(), tempfile::tempdir().unwrap());
        sim.host(places::ip(0), {
            let (weather, told, scratch) = (weather.clone(), told.clone(), scratch.path().to_owned());
            move || {
                let (weather, told, scratch) = (weather.clone(), told.clone(), scratch.clone());
                async move { publisher(draws, weather, told, &scratch).await }
            }
        });
        sim.client(places::ip(1), reader(draws, weather, told.clone()));
        sim.run().map_err(|error| error.to_string()).unwrap();
        assert!(told.borrow().is_read);
    };
    // A fresh thread: nothing on it has been seeded yet.
    thread::spawn(body).join().unwrap();
}
