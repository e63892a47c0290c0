//! The exchange of heads: how a latecomer catches up, and what it does not put up with.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ggen_marketplace::{
    content::ContentId,
    control::{
        api::{PeerInfoRequest, SearchRequest},
        service::{Cancel, ProgressSender, Service},
    },
    identity::Context,
    limits::HEADS_PAGES_BARREN_MAX,
    network::KAD_PROTOCOL,
    package::PackageId,
    release::{Head, VerifiedHead, dht_key},
    sync::protocol::{Answer, Page, Request},
    time::Timestamp,
};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use crate::{
    SOON, eventually,
    node::{DAY, Node, draft, head, package, publish_request, publisher, start, start_in},
    raw::{Raw, Script, cbor},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_latecomer_finds_what_it_never_heard_announced() {
    let temp = tempfile::tempdir().unwrap();
    let author = start(&[]).await;
    let published = author.publish_dir(&package(temp.path(), "early", "1.0.0", &[])).await;
    assert!(!published.announced, "nobody was there");
    let middle = start(&[author.address()]).await;
    middle.finds("early").await;
    drop(author.stopped().await);
    // Not even subscribed to announcements, and never connected with the author.
    let late = start_in(Arc::new(tempfile::tempdir().unwrap()), &[middle.address()], |config| {
        config.packages_topic = "/ggen/silent/v1".to_owned();
    })
    .await;
    let started = Instant::now();
    let found = late.finds("early").await;
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
    assert_eq!(found.packages[0].cid, published.cid);
}

/// The position that is asked for; the beginning, where sets are to be compared.
fn after(request: &[u8]) -> u64 {
    match serde_ipld_dagcbor::from_slice(request).unwrap() {
        Request::Page(position, _) => position.after,
        _ => 0,
    }
}

/// A peer whose catalogue is these pages.
fn serving(pages: Vec<Page>) -> Script {
    let heads = move |request: Vec<u8>| {
        let after = after(&request);
        let page = pages.iter().find(|page| page.next > after).or(pages.last()).unwrap();
        Some(cbor(&Answer::Page(page.clone())))
    };
    Script { heads: Box::new(heads), kad_protocol: "/deaf/kad/1.0.0", ..Script::default() }
}

fn page(next: u64, done: bool, heads: Vec<Vec<u8>>) -> Page {
    Page { epoch: 1, next, done, heads: heads.into_iter().map(ByteBuf::from).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_passes_on_forged_heads_is_turned_away() {
    let node = start(&[]).await;
    let author = publisher(21);
    let good = head(&author, "before", &["1.0.0"]).bytes().to_vec();
    let forged = publisher(22)
        .seal(Context::Head, serde_ipld_dagcbor::to_vec(head(&author, "forged", &["1.0.0"]).head()).unwrap());
    let never = head(&author, "after", &["1.0.0"]).bytes().to_vec();
    let pages = vec![page(1, false, vec![good, forged.encode()]), page(2, true, vec![never])];
    let forger = Raw::start(serving(pages)).await;
    forger.connect(&node.address()).await;
    eventually("it is turned away, with a reason", SOON, async || {
        node.refused(forger.peer).await.filter(|reason| reason.contains("forged"))
    })
    .await;
    eventually("it is disconnected", SOON, async || (!node.is_connected(forger.peer).await).then_some(()))
        .await;
    assert_eq!(forger.seen().heads_requests, 1, "it was not asked for more");
    eventually("it is banned for a while", SOON, async || {
        let request = PeerInfoRequest { peer_id: forger.peer.to_string(), full: false };
        Service::peer_info(&*node, request).await.ok().filter(|info| info.peer.banned)
    })
    .await;
    // What was valid in the page stays; a search is not held up.
    let found = node.finds("raw").await;
    assert_eq!(found.packages.len(), 1);
    assert_eq!(found.packages[0].name, "before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_later_version_is_passed_over_and_costs_nobody_anything() {
    let node = start(&[]).await;
    let author = publisher(23);
    let now = ggen_marketplace::time::Timestamp::now();
    let later = Head { version: 2, ..draft(&author, "later", &["1.0.0"], now) };
    let later = author.seal(Context::Head, serde_ipld_dagcbor::to_vec(&later).unwrap()).encode();
    let good = head(&author, "current", &["1.0.0"]).bytes().to_vec();
    let newer = Raw::start(serving(vec![page(1, true, vec![later.clone(), good])])).await;
    newer.connect(&node.address()).await;
    assert_eq!(node.finds("raw").await.packages[0].name, "current");
    newer.announce(later).await;
    eventually("both are counted", SOON, async || (node.net().await.heads_refused == 2).then_some(())).await;
    assert!(node.is_connected(newer.peer).await);
    assert_eq!(node.refused(newer.peer).await, None);
    assert_eq!(node.status().await.packages_indexed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_never_end_are_read_up_to_a_bound() {
    let node = start(&[]).await;
    let endless = |request: Vec<u8>| Some(cbor(&Answer::Page(page(after(&request) + 1, false, Vec::new()))));
    // Of another DHT, so that nobody but the node asks it.
    let script = Script { heads: Box::new(endless), kad_protocol: "/deaf/kad/1.0.0", ..Script::default() };
    let rogue = Raw::start(script).await;
    rogue.connect(&node.address()).await;
    eventually("the bound is reached", SOON * 2, async || {
        (rogue.seen().heads_requests >= HEADS_PAGES_BARREN_MAX).then_some(())
    })
    .await;
    // Others are read meanwhile, and the rogue is left alone.
    let temp = tempfile::tempdir().unwrap();
    let honest = start(&[node.address()]).await;
    honest.publish_dir(&package(temp.path(), "honest", "1.0.0", &[])).await;
    node.finds("honest").await;
    assert_eq!(rogue.seen().heads_requests, HEADS_PAGES_BARREN_MAX);
    // Pages that lead nowhere, or backwards, end at once.
    for pages in [vec![page(0, false, Vec::new())]] {
        let rogue = Raw::start(serving(pages)).await;
        rogue.connect(&node.address()).await;
        eventually("it was asked", SOON, async || (rogue.seen().heads_requests == 1).then_some(())).await;
        node.finds("honest").await;
        assert_eq!(rogue.seen().heads_requests, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_answers_does_not_spoil_searches() {
    let temp = tempfile::tempdir().unwrap();
    let author = start(&[]).await;
    author.publish_dir(&package(temp.path(), "reachable", "1.0.0", &[])).await;
    let node = start(&[author.address()]).await;
    node.finds("reachable").await;
    let silent = Raw::start(Script { heads: Box::new(|_| None), ..Script::default() }).await;
    silent.connect(&node.address()).await;
    eventually("it was asked", SOON, async || (silent.seen().heads_requests == 1).then_some(())).await;
    let started = Instant::now();
    let found = node.find("reachable").await;
    assert!(started.elapsed() < Duration::from_secs(4), "it took {:?}", started.elapsed());
    assert!(!found.complete, "and it says that not everybody answered");
    assert_eq!(found.packages[0].providers, [author.peer_id().to_string()], "there was time for providers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_from_elsewhere_signs_nothing_while_all_that_are_there_are_silent() {
    signs_nothing_beside_the_silent(true).await;
}

/// A lookup that has nobody to ask ends at once, and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_from_elsewhere_signs_nothing_where_nobody_serves_the_dht() {
    signs_nothing_beside_the_silent(false).await;
}

async fn signs_nothing_beside_the_silent(is_in_dht: bool) {
    let (home, temp) = (Arc::new(tempfile::tempdir().unwrap()), tempfile::tempdir().unwrap());
    publisher(24).adopt(&home.path().join("keys"), "default").unwrap();
    let node = start_in(home, &[], |_| {}).await;
    let silent = Raw::start(Script {
        heads: Box::new(|_| None),
        kad_protocol: "/deaf/kad/1.0.0",
        mute_protocol: is_in_dht.then_some(KAD_PROTOCOL),
        ..Script::default()
    })
    .await;
    silent.connect(&node.address()).await;
    eventually("it was asked", SOON, async || (silent.seen().heads_requests == 1).then_some(())).await;
    let serves = async || (node.net().await.buckets.is_empty() != is_in_dht).then_some(());
    eventually("it is part of the DHT where it says so", SOON, serves).await;
    let request = publish_request(&package(temp.path(), "cautious", "1.0.0", &[]));
    let queued =
        Service::publish(&*node, request, ProgressSender::discard(), Cancel::default()).await.unwrap();
    assert!(queued.queued && !queued.announced, "{queued:?}");
    assert!(
        queued.warnings.iter().any(|it| it.contains("neither the peers nor the DHT answered")),
        "{queued:?}"
    );
    assert_eq!(node.status().await.packages_indexed, 0, "nothing was signed");
}

/// Has a node publish a version, which has to wait because this machine's clock is behind that of the machine which published last.
async fn waits_for_the_clock(node: &Node, directory: &std::path::Path) {
    let request = publish_request(directory);
    let queued =
        Service::publish(&**node, request, ProgressSender::discard(), Cancel::default()).await.unwrap();
    assert!(queued.queued && !queued.announced, "{queued:?}");
    let warnings = queued.warnings.join("\n");
    assert!(warnings.contains("E_CLOCK") && warnings.contains("timedatectl"), "{queued:?}");
}

/// The same as a clock that is behind: the other machine with the key published two hours from now. That it was so only the DHT
/// knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_clock_is_behind_begins_no_log_that_the_dht_has() {
    let (home, temp) = (Arc::new(tempfile::tempdir().unwrap()), tempfile::tempdir().unwrap());
    let author = publisher(25);
    author.adopt(&home.path().join("keys"), "default").unwrap();
    let node = start_in(home, &[], |_| {}).await;
    let holder = Raw::connected(&node.address()).await;
    node.knows(holder.peer).await;
    let later = draft(&author, "twice", &["1.0.0", "1.1.0"], Timestamp::now().plus(DAY / 12));
    let later = later.sign(&author).unwrap();
    holder.hold(&later.dht_key(), later.bytes().to_vec()).await;
    waits_for_the_clock(&node, &package(temp.path(), "twice", "1.0.0", &[])).await;
    assert_eq!(node.status().await.packages_indexed, 0, "nothing was signed");
    // Who wants to install it is told the same.
    let id = later.package_id().to_string();
    let error = node.install(&id, &temp.path().join("target"), 10).await.unwrap_err();
    assert_eq!(error.code.as_str(), "E_CLOCK", "{error:?}");
    // An older state that another one holds can be read. It is none to go on from.
    let behind = Raw::connected(&node.address()).await;
    node.knows(behind.peer).await;
    behind.hold(&later.dht_key(), head(&author, "twice", &["1.0.0"]).bytes().to_vec()).await;
    let error = node.install(&id, &temp.path().join("target"), 10).await.unwrap_err();
    assert!(!["E_CLOCK", "E_NOT_FOUND"].contains(&error.code.as_str()), "{error:?}");
    assert_eq!(node.finds("twice").await.packages[0].version, "1.0.0");
    waits_for_the_clock(&node, &package(temp.path(), "twice", "1.2.0", &[])).await;
}

/// The same, of a log that began here, and of which a peer lists a later state.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_clock_is_behind_signs_no_second_entry_for_one_place() {
    let (home, temp) = (Arc::new(tempfile::tempdir().unwrap()), tempfile::tempdir().unwrap());
    let author = publisher(26);
    author.store(&home.path().join("keys"), "default").unwrap();
    let node = start_in(home, &[], |_| {}).await;
    node.publish_dir(&package(temp.path(), "again", "1.0.0", &[])).await;
    let reader = Raw::connected(&node.address()).await;
    let key = dht_key(&PackageId { publisher: author.id(), name: "again".parse().unwrap() });
    let first = eventually("the node tells of it", SOON, async || reader.get(&key).await.pop()).await.1;
    let first = VerifiedHead::verify_stored(&first).unwrap();
    // What the other machine with the key added, by a clock that is two hours ahead of this one.
    let elsewhere = draft(&author, "again", &["1.0.0", "1.1.0"], Timestamp::now().plus(DAY / 12));
    let elsewhere = Head { log: first.head().log, ..elsewhere }.sign(&author).unwrap();
    let pages = vec![page(1, true, vec![elsewhere.bytes().to_vec()])];
    let ahead = Raw::start(serving(pages)).await;
    ahead.connect(&node.address()).await;
    eventually("it is not taken", SOON, async || (node.net().await.heads_refused > 0).then_some(())).await;
    waits_for_the_clock(&node, &package(temp.path(), "again", "1.2.0", &[])).await;
    assert_eq!(reader.get(&key).await, [(node.peer_id(), first.bytes().to_vec())], "nothing was signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_claims_nothing_of_peers_that_came_after_it_had_looked() {
    let temp = tempfile::tempdir().unwrap();
    let node = start(&[]).await;
    let here = node.publish_dir(&package(temp.path(), "sought-here", "1.0.0", &[])).await;
    let other = start(&[]).await;
    other.publish_dir(&package(temp.path(), "sought-there", "1.0.0", &[])).await;
    // Of the DHT, and it answers nothing of it: a lookup of providers takes a while.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mute = Raw::start(Script {
        kad_protocol: "/deaf/kad/1.0.0",
        mute_protocol: Some(KAD_PROTOCOL),
        left_unanswered: asked.clone(),
        ..Script::default()
    })
    .await;
    mute.connect(&node.address()).await;
    eventually("it is part of the DHT", SOON, async || (!node.net().await.buckets.is_empty()).then_some(()))
        .await;
    // A request for the providers of the tree, as the protocol buffers of Kademlia have it: its kind, and its key.
    let root: ContentId = here.cid.parse().unwrap();
    let wanted = [&[0x08, 0x03, 0x12, 0x22, 0x12, 0x20][..], &root.digest()[..]].concat();
    let request =
        SearchRequest { text: "sought".to_owned(), timeout_secs: Some(40.0), ..SearchRequest::default() };
    let meanwhile = async {
        let is_asked = async || {
            let asked = asked.lock().unwrap();
            let is_it = |request: &Vec<u8>| request.windows(wanted.len()).any(|part| part == wanted);
            asked.iter().any(is_it).then_some(())
        };
        eventually("it is asked for providers", SOON, is_asked).await;
        other.dial(&[node.address().to_string()], 20).await.unwrap();
        eventually("it is listed", SOON, async || (node.status().await.packages_indexed == 2).then_some(()))
            .await;
    };
    let (found, ()) = tokio::join!(Service::search(&*node, request), meanwhile);
    let found = found.unwrap();
    assert_eq!(found.packages.len(), 1, "it was too late for the other one: {found:?}");
    assert!(!found.complete, "{found:?}");
    assert_eq!(node.find("sought").await.total, 2);
}
