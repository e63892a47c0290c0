//! Bootstrap nodes that are known by a name, with a name server on loopback that knows a few.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ggen_marketplace::{
    backend::p2p::{P2PRegistry, Parts},
    control::{api::BootstrapRequest, service::Service},
    network::{Metrics, Observer, Offload, Spawner, names::Names, transport},
    store::Store,
};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use tokio::{net::UdpSocket, time::Instant};

use crate::{
    SOON, eventually,
    node::{config, publisher, start, start_in},
};

/// What follows the question in an answer that has no record, one of a name that is not there.
const NO_SUCH_NAME: u8 = 3;
/// How long an answer may be kept: longer than any test.
const KEPT_SECS: u32 = 3_600;
/// How soon a peer is found again.
const BACK: Duration = Duration::from_secs(15);

/// What is known of a name.
#[derive(Debug, Clone)]
enum Record {
    Texts(Vec<String>),
    Address(Ipv4Addr),
}

/// A name server.
struct NameServer {
    socket: SocketAddr,
    asked: Arc<AtomicUsize>,
    records: Arc<Mutex<BTreeMap<String, Record>>>,
}

impl NameServer {
    /// Serves for each name what is known of it.
    async fn serve(records: &[(&str, Record)]) -> Self {
        Self::serve_at(Ipv4Addr::LOCALHOST, records).await
    }

    async fn serve_at(ip: Ipv4Addr, records: &[(&str, Record)]) -> Self {
        let server = UdpSocket::bind((ip, 0)).await.unwrap();
        let (socket, asked) = (server.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let records: BTreeMap<String, Record> =
            records.iter().map(|(name, record)| ((*name).to_owned(), record.clone())).collect();
        let records = Arc::new(Mutex::new(records));
        let (count, known) = (asked.clone(), records.clone());
        tokio::spawn(async move {
            let mut bytes = [0; 1_500];
            while let Ok((length, from)) = server.recv_from(&mut bytes).await {
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answer(&bytes[..length], &known.lock().unwrap());
                server.send_to(&answer, from).await.unwrap();
            }
        });
        Self { socket, asked, records }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn set(&self, name: &str, record: Record) {
        self.records.lock().unwrap().insert(name.to_owned(), record);
    }

    /// A node that asks this server alone.
    async fn node(&self, bootstrap: &[&str]) -> P2PRegistry {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.socket.port();
        let server = NameServerConfig::new(self.socket.ip(), true, vec![connection]);
        let mut options = ResolverOpts::default();
        (options.attempts, options.timeout) = (2, Duration::from_secs(5));
        node(Names::servers(ResolverConfig::from_parts(None, Vec::new(), vec![server]), options), bootstrap)
            .await
    }
}

/// A node that resolves names so.
async fn node(names: Names, bootstrap: &[&str]) -> P2PRegistry {
    let parts = Parts {
        transport: transport::tcp(names),
        node_key: Keypair::generate_ed25519(),
        publisher: publisher(51),
        store: Store::in_memory().unwrap(),
        offload: Offload::Threads,
        spawner: Spawner::default(),
        observer: Observer::default(),
        metrics: Metrics::default(),
    };
    let bootstrap: Vec<Multiaddr> = bootstrap.iter().map(|it| it.parse().unwrap()).collect();
    let nowhere = std::path::Path::new("/nowhere");
    let registry = P2PRegistry::with_parts(config(nowhere, &bootstrap), parts).await.unwrap();
    registry.start_listening().await.unwrap();
    registry.subscribe_to_packages().await.unwrap();
    registry
}

/// Answers one question: a header of twelve bytes, the labels of the name, its type and its class
/// ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035)).
fn answer(question: &[u8], records: &BTreeMap<String, Record>) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..at + 1 + length].to_vec()).unwrap());
        at += 1 + length;
    }
    let (name, end) = (labels.join(".").to_lowercase(), at + 5);
    let kind = question[at + 2];
    let data: Option<Vec<Vec<u8>>> = match (records.get(&name), kind) {
        (Some(Record::Texts(texts)), 16) => {
            let text = |text: &String| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            Some(texts.iter().map(text).collect())
        }
        (Some(Record::Address(address)), 1) => Some(vec![address.octets().to_vec()]),
        // There is the name, and nothing of this kind.
        (Some(_), _) => Some(Vec::new()),
        (None, _) => None,
    };
    let count = u8::try_from(data.as_ref().map_or(0, Vec::len)).unwrap();
    let outcome = 0x80 | if data.is_some() { 0 } else { NO_SUCH_NAME };
    // The same number; an answer that is no delegation; one question, so many answers, and nothing else.
    let header = [question[0], question[1], 0x85, outcome, 0, 1, 0, count, 0, 0, 0, 0];
    let mut answer = [&header, &question[12..end]].concat();
    for data in data.into_iter().flatten() {
        // The name of the question, its type, of the internet, and how long it may be kept.
        answer.extend([0xc0, 12, 0, kind, 0, 1]);
        answer.extend(KEPT_SECS.to_be_bytes());
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
    answer
}

fn leads_to(address: impl std::fmt::Display) -> String {
    format!("dnsaddr={address}")
}

fn texts(texts: &[String]) -> Record {
    Record::Texts(texts.to_vec())
}

fn port_of(address: &Multiaddr) -> u16 {
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    port.unwrap()
}

/// Waits until a node is connected with a peer; yields how long that took.
async fn meets(node: &P2PRegistry, peer: PeerId) -> Duration {
    let began = Instant::now();
    eventually("it is connected", SOON, async || {
        let peers = node.snapshot().await.unwrap().peers;
        peers.iter().any(|it| it.peer == peer).then_some(())
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_another_name_and_that_to_a_node_is_joined() {
    let hub = start(&[]).await;
    let names = NameServer::serve(&[
        ("_dnsaddr.first.example", texts(&["no address".to_owned(), leads_to("/dnsaddr/second.example")])),
        ("_dnsaddr.second.example", texts(&[leads_to(hub.address())])),
    ])
    .await;
    // Whose address it is stands in the last record only.
    let node = names.node(&["/dnsaddr/first.example"]).await;
    eventually("the node joins", SOON, async || hub.is_connected(node.peer_id()).await.then_some(())).await;
    eventually("whom it met is in its routing table", SOON, async || {
        let status = Service::status(&node).await.unwrap();
        (status.health == "ok" && status.routing_table_peers == 1).then_some(())
    })
    .await;
    assert!(names.asked() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_in_a_circle_are_followed_to_a_bound() {
    let names = NameServer::serve(&[
        ("_dnsaddr.here.example", texts(&[leads_to("/dnsaddr/there.example")])),
        ("_dnsaddr.there.example", texts(&vec![leads_to("/dnsaddr/here.example"); 3])),
    ])
    .await;
    let node = names.node(&[]).await;
    let started = Instant::now();
    let request =
        BootstrapRequest { addresses: vec!["/dnsaddr/here.example".to_owned()], timeout_secs: Some(60) };
    let error = Service::bootstrap(&node, request).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error:?}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    // Nothing keeps the answers, so that each lookup is a question; a lost one may be asked again.
    assert!((2..=3 * 32).contains(&names.asked()), "{} questions", names.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_node_that_comes_back_at_another_address_is_found_behind_its_name() {
    let [here, there] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(Ipv4Addr::from);
    let hub = start(&[]).await;
    let (peer, port) = (hub.peer_id(), port_of(&hub.bound[0]));
    let names = NameServer::serve(&[("hub.example", Record::Address(here))]).await;
    let by_name = format!("/dns4/hub.example/tcp/{port}");
    let named = names.node(&[&by_name]).await;
    let of_peer = names.node(&[&format!("{by_name}/p2p/{peer}")]).await;
    for node in [&named, &of_peer] {
        meets(node, peer).await;
    }
    let home = hub.stopped().await;
    // Long enough for those who look for it to look there seldom.
    tokio::time::sleep(BACK).await;
    let status = Service::status(&named).await.unwrap();
    assert_eq!(status.health, "degraded");
    assert!(status.warnings.iter().any(|it| it.contains("bootstrap")), "{:?}", status.warnings);
    let moved: Multiaddr = format!("/ip4/{there}/tcp/{port}").parse().unwrap();
    let hub = start_in(home, &[], |config| config.listen_addresses = vec![moved]).await;
    names.set("hub.example", Record::Address(there));
    for node in [&named, &of_peer] {
        let took = meets(node, hub.peer_id()).await;
        assert!(took < BACK, "{took:?}");
    }
    assert_eq!(Service::status(&named).await.unwrap().health, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_system_learns_of_a_name_server_later_joins() {
    let hub = start(&[]).await;
    let records = [("_dnsaddr.hub.example", texts(&[leads_to(hub.address())]))];
    let names = NameServer::serve_at(Ipv4Addr::new(127, 0, 0, 3), &records).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "# no network yet\n").unwrap();
    let source = Names::of_file(&path, names.socket.port());
    let node = node(source, &["/dnsaddr/hub.example"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.snapshot().await.unwrap().peers.len(), 0);
    std::fs::write(&path, format!("nameserver {}\n", names.socket.ip())).unwrap();
    let took = meets(&node, hub.peer_id()).await;
    assert!(took < BACK, "{took:?}");
}
