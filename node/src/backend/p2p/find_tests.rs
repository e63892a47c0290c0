use super::*;
use crate::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    content::Codec,
    identity::Publisher,
    network::{Offload, PeerSnapshot, Spawner, transport},
    package::PackageId,
    release::{Head, Kind, Labels, Release},
    time::Timestamp,
};

fn snapshot(peers: usize, complete: usize, unidentified: usize) -> Snapshot {
    let connected = |_| PeerSnapshot::dialled(PeerId::random());
    Snapshot {
        peers: (0..peers + unidentified).map(connected).collect(),
        heads_peers: peers,
        heads_complete: complete,
        heads_unidentified: unidentified,
        ..Snapshot::default()
    }
}

#[test]
fn a_search_is_complete_only_when_everybody_connected_was_read() {
    assert_eq!(incomplete_because(&snapshot(2, 2, 0), true), [""; 0]);
    assert_eq!(incomplete_because(&snapshot(2, 2, 0), false).len(), 1);
    assert!(incomplete_because(&snapshot(2, 1, 0), true)[0].contains("1 of 2"));
    assert!(incomplete_because(&snapshot(2, 2, 1), true)[0].contains("1 of 3"));
    assert!(incomplete_because(&snapshot(0, 0, 0), true)[0].contains("no peer"));
}
#[test]
fn the_time_of_a_search_has_one_range() {
    let with = |secs| asked(SearchRequest { timeout_secs: Some(secs), ..SearchRequest::default() }).is_ok();
    for (secs, fits) in [(0.001, true), (3_600.0, true), (0.0, false), (0.0009, false), (3_600.1, false)] {
        assert_eq!(with(secs), fits, "{secs}");
    }
    assert!(!with(f64::NAN) && !with(f64::INFINITY) && !with(-1.0));
}

/// A node that knows this many packages with a provider each, but for every tenth of them.
async fn knowing(packages: u32) -> P2PRegistry {
    let now = Timestamp::now();
    let (publisher, store) = (Publisher::from_secret([1; 32], now), Store::in_memory().unwrap());
    let parts = Parts {
        transport: transport::tcp_without_dns(),
        node_key: libp2p::identity::Keypair::generate_ed25519(),
        publisher: publisher.clone(),
        store: store.clone(),
        offload: Offload::Threads,
        spawner: Spawner::default(),
        observer: crate::network::Observer::default(),
        metrics: crate::network::Metrics::default(),
    };
    let registry = P2PRegistry::with_parts(P2PConfig::with_state_dir("/nowhere"), parts).await.unwrap();
    let mut heads = Vec::new();
    for n in 0..packages {
        let id = |codec| ContentId::of(codec, &n.to_be_bytes());
        let (manifest, root) = (id(Codec::Raw), id(Codec::DagPb));
        let package = PackageId { publisher: publisher.id(), name: format!("pack-{n}").parse().unwrap() };
        let mut log = Log::empty(package);
        let release = Release { version: "1.0.0".parse().unwrap(), manifest, root, size: 1, files: 1 };
        log.push(log.next(Kind::Release(release), &publisher, now).unwrap()).unwrap();
        let head = Head::of(&log, Labels::default(), &publisher).unwrap();
        heads.push(head.sign(&publisher).unwrap());
        if n % 10 != 0 {
            registry.node.remembered().insert(root, (Instant::now(), vec![PeerId::random()]));
        }
    }
    let insert = |tx: &rusqlite::Transaction<'_>| {
        heads.iter().try_for_each(|head| catalog::insert(tx, head, &catalog::Source::own(), now).map(drop))
    };
    store.write(|tx| Ok(insert(tx)?)).unwrap();
    registry
}

#[tokio::test]
async fn a_filter_by_reputation_reaches_beyond_the_first_matches() {
    let registry = knowing(450).await;
    let search = async |limit, offset| {
        let request = SearchRequest {
            text: "pack".to_owned(),
            limit: Some(limit),
            offset,
            min_reputation: Some(0.0),
            timeout_secs: Some(30.0),
            ..SearchRequest::default()
        };
        registry.node.search(request).await.unwrap()
    };
    let all = search(1_000, 0).await;
    assert_eq!((all.packages.len(), all.hidden_by_reputation, all.total), (405, 45, 405));
    assert!(all.incomplete_because.iter().all(|reason| !reason.contains("first")));
    let part = search(10, 200).await;
    let ids = |packages: &[PackageInfo]| packages.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&part.packages), ids(&all.packages[200..210]));
}

#[tokio::test]
async fn a_filter_whose_time_ran_out_says_that_there_may_be_more() {
    let registry = knowing(450).await;
    let request = SearchRequest { min_reputation: Some(0.0), ..SearchRequest::default() };
    let asked = Asked { limit: 1_000, deadline: Instant::now(), ..asked(request).unwrap() };
    let found = registry.node.look(&asked).await.unwrap();
    let shown = registry.node.shown(asked, found).await.unwrap();
    assert!(shown.because[0].contains("the first 200 matches, and there are 450"), "{:?}", shown.because);
    assert!(shown.packages.len() <= 200);
}
