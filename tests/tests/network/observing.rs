//! What whoever brings the parts of a node can see of it.

use std::sync::{Arc, Mutex};

use ggen_marketplace::{
    backend::p2p::{P2PRegistry, Parts},
    network::{Event, LookupKind, Metrics, Observer, Offload, Spawner, transport},
    store::Store,
    traits::{Package, Registry},
};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};

use crate::{
    SOON, eventually,
    node::{config, package, publisher},
};

struct Watched {
    registry: P2PRegistry,
    events: Arc<Mutex<Vec<Event>>>,
    metrics: Metrics,
    address: Multiaddr,
}

impl Watched {
    async fn start(seed: u8, metrics: Metrics, bootstrap: &[Multiaddr]) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = events.clone();
        let parts = Parts {
            transport: transport::tcp_without_dns(),
            node_key: Keypair::generate_ed25519(),
            publisher: publisher(seed),
            store: Store::in_memory().unwrap(),
            offload: Offload::Threads,
            spawner: Spawner::default(),
            observer: Observer::new(move |event| seen.lock().unwrap().push(event.clone())),
            metrics: metrics.clone(),
        };
        let nowhere = std::path::Path::new("/nowhere");
        let registry = P2PRegistry::with_parts(config(nowhere, bootstrap), parts).await.unwrap();
        let bound = registry.start_listening().await.unwrap();
        registry.subscribe_to_packages().await.unwrap();
        let address = bound[0].clone().with(Protocol::P2p(registry.peer_id()));
        Self { registry, events, metrics, address }
    }

    fn saw(&self, what: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(what)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_and_announcements_are_told_and_messages_are_counted() {
    let author = Watched::start(21, Metrics::default(), &[]).await;
    let other = Watched::start(22, Metrics::counting(), std::slice::from_ref(&author.address)).await;
    eventually("they speak the topic", SOON, async || {
        (author.registry.snapshot().await.ok()?.mesh_peers == 1).then_some(())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let directory = package(folder.path(), "watched", "1.0.0", &[]);
    let release = author.registry.publish(Package::from_dir(directory)).await.unwrap();
    eventually("the announcement is taken", SOON, async || {
        other.saw(|event| matches!(event, Event::Announced { is_taken: true, .. })).then_some(())
    })
    .await;
    let digest_of = |node: &Watched| {
        node.events.lock().unwrap().iter().find_map(|event| match event {
            Event::Announcing { digest, .. } | Event::Announced { digest, .. } => Some(*digest),
            _ => None,
        })
    };
    assert_eq!(digest_of(&author), digest_of(&other), "what goes out and what comes are known by one name");
    assert!(digest_of(&author).is_some());

    let found = other.registry.dht_head(&release.package).await.unwrap();
    assert_eq!(found.unwrap().package_id(), release.package);
    assert!(other.saw(|event| match event {
        Event::LookedUp(lookup) =>
            lookup.kind == LookupKind::GetHead && lookup.requests == 1 && lookup.successes == 1,
        _ => false,
    }));
    assert!(author.saw(|event| matches!(event, Event::LookedUp(it) if it.kind == LookupKind::PutHead)));

    let counted = other.metrics.text();
    let firsts = counted.lines().find(|line| line.starts_with("gossip_topic_msg_recv_counts_total{"));
    assert!(firsts.is_some_and(|line| line.ends_with(" 1")), "{counted}");
    assert_eq!(author.metrics.text(), "", "nobody asked for them");
}
