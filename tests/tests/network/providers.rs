//! Peers that say that they provide a tree, and then stall, lie, or send too much.

use std::{path::Path, time::Duration};

use ggen_marketplace::{
    code::Code,
    content::ContentId,
    control::api::Published,
    fetch::protocol::{TOLD_BYTES, Told},
    limits::BLOCK_BYTES_MAX,
};
use libp2p::identity::Keypair;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    SOON, eventually,
    node::{Node, sample, start, tree},
    raw::{Raw, Script, Sent, Want},
};

/// A publisher, a reader that knows of its package, and somebody else who claims to provide it.
struct Stage {
    temp: TempDir,
    publisher: Node,
    reader: Node,
    rogue: Raw,
    published: Published,
}

async fn stage(mut script: Script) -> Stage {
    let temp = tempfile::tempdir().unwrap();
    let publisher = start(&[]).await;
    let reader = start(&[publisher.address()]).await;
    reader.knows(publisher.peer_id()).await;
    // Among peers of the same record the lower id is asked first.
    while script.key.public().to_peer_id() > publisher.peer_id() {
        script.key = Keypair::generate_ed25519();
    }
    let rogue = Raw::start(script).await;
    rogue.connect(&reader.address()).await;
    reader.knows(rogue.peer).await;
    let published = publisher.publish_dir(&sample(temp.path(), "contested", "1.0.0")).await;
    reader.finds("contested").await;
    let root: ContentId = published.cid.parse().unwrap();
    rogue.provide(root.multihash_bytes()).await;
    // An observer that asks the reader sees the claim.
    let observer = Raw::connected(&reader.address()).await;
    eventually("the claim is in the DHT", SOON, async || {
        observer.providers(root.multihash_bytes()).await.contains(&rogue.peer).then_some(())
    })
    .await;
    Stage { temp, publisher, reader, rogue, published }
}

impl Stage {
    fn target(&self) -> std::path::PathBuf {
        self.temp.path().join("target")
    }

    fn source(&self) -> std::path::PathBuf {
        self.temp.path().join("contested-1.0.0")
    }

    /// The package in place, from the honest peer, which is credited exactly once.
    async fn assert_installed(&self) {
        assert_eq!(tree(&self.target()), tree(&self.source()));
        assert_eq!(self.reader.counters(self.publisher.peer_id()).await, (1, 0));
        assert!(self.rogue.seen().fetch_requests > 0, "the rogue was asked");
    }
}

/// Nothing is there: neither the target nor a staging folder beside it.
fn assert_nothing_at(target: &Path) {
    let beside = std::fs::read_dir(target.parent().unwrap()).unwrap();
    let names: Vec<String> = beside.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["contested-1.0.0"], "only the source is there");
}

/// Answers every block asked for with what `block` makes of its id.
fn answering(block: impl Fn(&ContentId) -> Sent + Send + 'static) -> Script {
    let fetch = move |want: Want| Some(want.answer(want.ids.iter().map(&block)));
    Script { fetch: Box::new(fetch), ..Script::default() }
}

fn corrupting() -> Script {
    answering(|id| Sent::Bytes(format!("not {id}").into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_stalls_delays_an_install_by_little() {
    let stage = stage(Script::default()).await;
    let started = Instant::now();
    stage.reader.install("contested", &stage.target(), 60).await.unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(12), "it took {took:?}");
    stage.assert_installed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_from_nobody_but_a_staller_ends_and_is_its_failure() {
    let stage = stage(Script::default()).await;
    let Stage { publisher, reader, rogue, .. } = &stage;
    publisher.shutdown().await;
    eventually("the publisher is gone", SOON, async || {
        (!reader.is_connected(publisher.peer_id()).await).then_some(())
    })
    .await;
    let started = Instant::now();
    let error = reader.install("contested", &stage.target(), 12).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!([Code::Timeout, Code::NoProviders].contains(&error.code), "{error:?}");
    assert_eq!(error.exit_code(), 5);
    assert_eq!(reader.counters(rogue.peer).await, (0, 1));
    assert!((reader.details(rogue.peer).await.peer.reputation - 0.0).abs() < f64::EPSILON);
    assert_eq!(reader.counters(publisher.peer_id()).await, (0, 0), "whoever is gone is not to blame");
    assert_nothing_at(&stage.target());
    let history = reader.details(rogue.peer).await.history.unwrap();
    assert!(history.iter().any(|event| event.outcome.contains("timeout")), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_sends_wrong_bytes_is_refused_and_the_install_succeeds() {
    let stage = stage(corrupting()).await;
    let Stage { reader, rogue, .. } = &stage;
    reader.install("contested", &stage.target(), 60).await.unwrap();
    stage.assert_installed().await;
    assert_eq!(reader.counters(rogue.peer).await, (0, 1));
    assert!(reader.details(rogue.peer).await.peer.banned);
    assert!(reader.refused(rogue.peer).await.is_some_and(|reason| reason.contains("block")));
    eventually("it is disconnected", SOON, async || (!reader.is_connected(rogue.peer).await).then_some(()))
        .await;
    // It does not get in again.
    let (peer, address) = (reader.peer_id(), reader.address());
    rogue.with(move |swarm| crate::raw::dial(swarm, address)).await;
    eventually("the reader closed the connection", SOON, async || {
        (!rogue.seen().connected.contains(&peer)).then_some(())
    })
    .await;
    assert!(!reader.is_connected(rogue.peer).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_from_nobody_but_a_forger_writes_nothing() {
    let stage = stage(corrupting()).await;
    let Stage { publisher, reader, rogue, .. } = &stage;
    publisher.shutdown().await;
    eventually("the publisher is gone", SOON, async || {
        (!reader.is_connected(publisher.peer_id()).await).then_some(())
    })
    .await;
    let error = reader.install("contested", &stage.target(), 30).await.unwrap_err();
    assert_eq!((error.code, error.exit_code()), (Code::HashMismatch, 6), "{error:?}");
    assert_nothing_at(&stage.target());
    assert_eq!(reader.counters(rogue.peer).await, (0, 1));
    // A retry does not ask the forger again.
    let asked = rogue.seen().fetch_requests;
    let error = reader.install("contested", &stage.target(), 30).await.unwrap_err();
    assert_eq!(error.code, Code::NoProviders, "{error:?}");
    assert_eq!(rogue.seen().fetch_requests, asked);
    assert_eq!(reader.counters(rogue.peer).await, (0, 1), "one offence is one failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_the_protocol_cost_the_one_who_sends_them() {
    type Answer = fn(&Want) -> Vec<u8>;
    let oversized: Answer = |want| {
        let length = u32::try_from(BLOCK_BYTES_MAX + 1).unwrap();
        [&Told::Block(length).encode(want.batch, 0)[..], &vec![0; BLOCK_BYTES_MAX + 1]].concat()
    };
    let extra: Answer = |want| want.answer(vec![Sent::Missing; 1_000]);
    let doubled: Answer = |want| want.answer(vec![Sent::Missing; want.ids.len()]).repeat(2);
    let unasked: Answer = |want| Told::Missing.encode(want.batch + 1, 0).to_vec();
    let reordered: Answer = |want| Told::Missing.encode(want.batch, 1).to_vec();
    let garbage: Answer = |_| b"this is nothing that anybody would say".to_vec();
    for answer in [oversized, extra, doubled, unasked, reordered, garbage] {
        let script = Script { fetch: Box::new(move |want| Some(answer(&want))), ..Script::default() };
        let stage = stage(script).await;
        stage.reader.install("contested", &stage.target(), 60).await.unwrap();
        stage.assert_installed().await;
        assert_eq!(stage.reader.counters(stage.rogue.peer).await, (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stops_in_the_middle_or_never_ends_delays_an_install_by_little() {
    type Answer = fn(&Want) -> Vec<u8>;
    let short: Answer = |want| Told::Block(1_000).encode(want.batch, 0)[..TOLD_BYTES - 1].to_vec();
    let half: Answer = |want| [&Told::Block(1_000).encode(want.batch, 0)[..], &[7; 500]].concat();
    for answer in [short, half] {
        let script = Script { fetch: Box::new(move |want| Some(answer(&want))), ..Script::default() };
        let stage = stage(script).await;
        let started = Instant::now();
        stage.reader.install("contested", &stage.target(), 60).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        stage.assert_installed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_refusals_cost_nothing() {
    // Missing although it claimed to provide: it may have dropped the tree since.
    let stage = stage(answering(|_| Sent::Missing)).await;
    stage.reader.install("contested", &stage.target(), 60).await.unwrap();
    stage.assert_installed().await;
    assert_eq!(stage.reader.counters(stage.rogue.peer).await, (0, 0));
    assert_eq!(stage.published.name, "contested");
}
