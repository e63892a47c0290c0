//! Bootstrap nodes that are known by a name, with a name server on loopback that knows a few.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ggen_marketplace::{
    backend::p2p::{P2PRegistry, Parts},
    control::{api::BootstrapRequest, service::Service},
    network::{Metrics, Observer, Offload, transport},
    store::Store,
};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::{net::UdpSocket, time::Instant};

use crate::{
    SOON, eventually,
    node::{config, publisher, start},
};

/// What follows the question in an answer that has no record, one of a name that is not there.
const NO_SUCH_NAME: u8 = 3;

/// A name server; it knows the text records of a few names.
struct Names {
    socket: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Names {
    /// Serves for each name its text records.
    async fn serve(records: Vec<(&'static str, Vec<String>)>) -> Self {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (socket, asked) = (server.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 1_500];
            while let Ok((length, from)) = server.recv_from(&mut bytes).await {
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answer(&bytes[..length], &records);
                server.send_to(&answer, from).await.unwrap();
            }
        });
        Self { socket, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// A node that asks this server alone.
    async fn node(&self, bootstrap: &[&str]) -> P2PRegistry {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.socket.port();
        let server = NameServerConfig::new(self.socket.ip(), true, vec![connection]);
        let mut options = ResolverOpts::default();
        (options.attempts, options.timeout) = (2, Duration::from_secs(5));
        let servers = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let parts = Parts {
            transport: transport::tcp_resolving(servers, options),
            node_key: Keypair::generate_ed25519(),
            publisher: publisher(51),
            store: Store::in_memory().unwrap(),
            offload: Offload::Threads,
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
}

/// Answers one question: a header of twelve bytes, the labels of the name, its type and its class
/// ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035)).
fn answer(question: &[u8], records: &[(&'static str, Vec<String>)]) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..at + 1 + length].to_vec()).unwrap());
        at += 1 + length;
    }
    let (name, end) = (labels.join(".").to_lowercase(), at + 5);
    let is_text = question[at + 1..at + 3] == [0, 16];
    let known = records.iter().find(|(it, _)| *it == name).filter(|_| is_text).map(|(_, texts)| texts);
    let count = u8::try_from(known.map_or(0, Vec::len)).unwrap();
    let outcome = 0x80 | if known.is_some() { 0 } else { NO_SUCH_NAME };
    // The same number; an answer that is no delegation; one question, so many answers, and nothing else.
    let header = [question[0], question[1], 0x85, outcome, 0, 1, 0, count, 0, 0, 0, 0];
    let mut answer = [&header, &question[12..end]].concat();
    for text in known.into_iter().flatten() {
        let length = u8::try_from(text.len()).unwrap();
        // The name of the question, a text, of the internet, not to be kept.
        answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, length + 1, length]);
        answer.extend(text.bytes());
    }
    answer
}

fn leads_to(address: impl std::fmt::Display) -> String {
    format!("dnsaddr={address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_another_name_and_that_to_a_node_is_joined() {
    let hub = start(&[]).await;
    let names = Names::serve(vec![
        ("_dnsaddr.first.example", vec!["no address".to_owned(), leads_to("/dnsaddr/second.example")]),
        ("_dnsaddr.second.example", vec![leads_to(hub.address())]),
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
    let names = Names::serve(vec![
        ("_dnsaddr.here.example", vec![leads_to("/dnsaddr/there.example")]),
        ("_dnsaddr.there.example", vec![leads_to("/dnsaddr/here.example"); 3]),
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
