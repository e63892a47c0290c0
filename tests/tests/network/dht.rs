//! What the DHT keeps, and what a lookup believes.

use ggen_marketplace::{code::Code, identity::Context, package::PackageId};

use crate::{
    SOON, eventually,
    node::{DAY, draft, head, noise, package, publisher, start, start_in},
    raw::Raw,
};

#[tokio::test(flavor = "multi_thread")]
async fn only_a_valid_record_under_its_own_key_is_kept() {
    let node = start(&[]).await;
    let writer = Raw::connected(&node.address()).await;
    let reader = Raw::connected(&node.address()).await;
    let author = publisher(11);
    let good = head(&author, "stored", &["1.0.0", "1.1.0"]);
    let other = head(&author, "another", &["1.0.0"]);
    let key = good.dht_key();
    let early = draft(&author, "stored", &["1.0.0"], ggen_marketplace::time::Timestamp::now().plus(DAY * 2));
    let early = early.sign(&author).unwrap().bytes().to_vec();
    for (n, (what, value)) in [
        ("garbage", noise(1, 300)),
        ("the head of another package", other.bytes().to_vec()),
        ("a head from the day after tomorrow", early),
        ("nothing", Vec::new()),
    ]
    .into_iter()
    .enumerate()
    {
        writer.put(node.peer_id(), &key, value).await;
        eventually(&format!("it is refused: {what}"), SOON, async || {
            (node.net().await.heads_refused == n as u64 + 1).then_some(())
        })
        .await;
        assert_eq!(reader.get(&key).await, [], "{what}");
    }
    assert_eq!(node.net().await.records, 0);
    // A key of another length is none at all.
    writer.put(node.peer_id(), b"short", good.bytes().to_vec()).await;
    writer.put(node.peer_id(), &key, good.bytes().to_vec()).await;
    assert_eq!(reader.get(&key).await, [(node.peer_id(), good.bytes().to_vec())]);
    assert_eq!(reader.get(b"short").await, []);
    assert_eq!(node.net().await.records, 1);
    // An older state of the same package does not take its place.
    let older = head(&author, "stored", &["1.0.0"]);
    writer.put(node.peer_id(), &key, older.bytes().to_vec()).await;
    assert_eq!(reader.get(&key).await, [(node.peer_id(), good.bytes().to_vec())]);
    // A newer one does.
    let newer = head(&author, "stored", &["1.0.0", "1.1.0", "1.2.0"]);
    writer.put(node.peer_id(), &key, newer.bytes().to_vec()).await;
    assert_eq!(reader.get(&key).await, [(node.peer_id(), newer.bytes().to_vec())]);
    eventually("the index has it", SOON, async || {
        (node.find("stored").await.packages.first()?.version == "1.2.0").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stores_forged_records_is_turned_away() {
    let node = start(&[]).await;
    let forger = Raw::connected(&node.address()).await;
    let author = publisher(17);
    let genuine = head(&author, "forged", &["1.0.0"]);
    let payload = serde_ipld_dagcbor::to_vec(genuine.head()).unwrap();
    let forged = publisher(18).seal(Context::Head, payload).encode();
    forger.put(node.peer_id(), &genuine.dht_key(), forged).await;
    eventually("the forger is turned away", SOON, async || {
        node.refused(forger.peer).await.filter(|reason| reason.contains("forged"))
    })
    .await;
    assert_eq!(node.net().await.records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_refused_after_a_restart_too() {
    let node = start(&[]).await;
    let author = publisher(12);
    let (older, newer) =
        (head(&author, "forward", &["1.0.0"]), head(&author, "forward", &["1.0.0", "2.0.0"]));
    let key = newer.dht_key();
    let writer = Raw::connected(&node.address()).await;
    writer.put(node.peer_id(), &key, newer.bytes().to_vec()).await;
    assert_eq!(node.finds("forward").await.packages[0].version, "2.0.0");
    let node = start_in(node.stopped().await, &[], |_| {}).await;
    assert_eq!(node.net().await.records, 0, "records are not kept over a restart");
    let writer = Raw::connected(&node.address()).await;
    writer.put(node.peer_id(), &key, older.bytes().to_vec()).await;
    eventually("it is refused", SOON, async || (node.net().await.heads_refused == 1).then_some(())).await;
    let reader = Raw::connected(&node.address()).await;
    assert_eq!(reader.get(&key).await, []);
    writer.announce(older.bytes().to_vec()).await;
    eventually("by gossip too", SOON, async || (node.net().await.heads_refused == 2).then_some(())).await;
    assert_eq!(node.find("forward").await.packages[0].version, "2.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_believes_only_what_belongs_under_its_key() {
    let node = start(&[]).await;
    let liar = Raw::connected(&node.address()).await;
    node.knows(liar.peer).await;
    let author = publisher(13);
    let wanted = head(&author, "wanted", &["1.0.0"]);
    let key = wanted.dht_key().to_vec();
    let id = PackageId { publisher: author.id(), name: "wanted".parse().unwrap() }.to_string();
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("target");
    for value in [noise(2, 400), head(&author, "unwanted", &["1.0.0"]).bytes().to_vec()] {
        liar.hold(&key, value).await;
        let error = node.install(&id, &target, 10).await.unwrap_err();
        assert_eq!(error.code, Code::NotFound, "{error:?}");
    }
    assert_eq!(node.status().await.packages_indexed, 0);
    liar.hold(&key, wanted.bytes().to_vec()).await;
    let error = node.install(&id, &target, 10).await.unwrap_err();
    assert_ne!(error.code, Code::NotFound, "the right one is found: {error:?}");
    node.finds("wanted").await;
    assert_eq!(
        node.refused(liar.peer).await,
        None,
        "a later version of this program may have stored what is no record here"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_lookups_with_forged_records_is_turned_away() {
    let node = start(&[]).await;
    let forger = Raw::connected(&node.address()).await;
    let holder = Raw::connected(&node.address()).await;
    node.knows(forger.peer).await;
    node.knows(holder.peer).await;
    let author = publisher(14);
    let genuine = head(&author, "sought", &["1.0.0"]);
    let payload = serde_ipld_dagcbor::to_vec(genuine.head()).unwrap();
    forger.hold(&genuine.dht_key(), publisher(15).seal(Context::Head, payload).encode()).await;
    holder.hold(&genuine.dht_key(), genuine.bytes().to_vec()).await;
    let temp = tempfile::tempdir().unwrap();
    let id = genuine.package_id().to_string();
    let error = node.install(&id, &temp.path().join("target"), 10).await.unwrap_err();
    assert_ne!(error.code, Code::NotFound, "the genuine one is found: {error:?}");
    eventually("the forger is turned away", SOON, async || {
        node.refused(forger.peer).await.filter(|reason| reason.contains("forged"))
    })
    .await;
    assert_eq!(node.refused(holder.peer).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_and_its_providers_are_found_through_the_dht() {
    let temp = tempfile::tempdir().unwrap();
    let hub = start(&[]).await;
    let author = start(&[hub.address()]).await;
    author.knows(hub.peer_id()).await;
    let published = author.publish_dir(&package(temp.path(), "routed", "1.0.0", &[])).await;
    assert!(published.announced && published.dht_stored >= 1, "{published:?}");
    let stranger = Raw::connected(&hub.address()).await;
    let id: PackageId = format!("{}/{}", published.publisher, published.name).parse().unwrap();
    let key = ggen_marketplace::release::dht_key(&id);
    let found = stranger.get(&key).await;
    assert!(found.iter().any(|(peer, _)| *peer == hub.peer_id()), "the hub keeps it");
    let root: ggen_marketplace::content::ContentId = published.cid.parse().unwrap();
    let providers = stranger.providers(root.multihash_bytes()).await;
    assert!(providers.contains(&author.peer_id()), "{providers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_answers_no_lookups() {
    let client = start_in(std::sync::Arc::new(tempfile::tempdir().unwrap()), &[], |config| {
        config.dht_server_mode = false;
    })
    .await;
    let peer = Raw::connected(&client.address()).await;
    let protocols: Vec<String> = {
        let seen = peer.seen();
        seen.identified[&client.peer_id()].protocols.iter().map(ToString::to_string).collect()
    };
    assert!(!protocols.iter().any(|protocol| protocol.contains("/kad/")), "{protocols:?}");
    assert!(protocols.iter().any(|protocol| protocol == "/ggen/blocks/1"), "{protocols:?}");
}
