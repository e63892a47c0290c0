//! Announcements that were forged: never indexed, never passed on, and counted.

use ggen_marketplace::{
    code::Code,
    identity::{Context, Publisher},
    limits::HEAD_BYTES_MAX,
    release::Head,
    time::Timestamp,
};

use crate::{
    SOON, eventually,
    node::{DAY, Node, draft, head, noise, publisher, start},
    raw::Raw,
};

fn seal(head: &Head, publisher: &Publisher) -> Vec<u8> {
    publisher.seal(Context::Head, serde_ipld_dagcbor::to_vec(head).unwrap()).encode()
}

/// A node, and a listener that hears only what this node passes on.
async fn stage() -> (Node, Raw) {
    let node = start(&[]).await;
    let ear = Raw::ear(&node.address()).await;
    eventually("the listener is in the mesh", SOON, async || {
        (node.status().await.mesh_peers == 1).then_some(())
    })
    .await;
    (node, ear)
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_announcements_are_neither_indexed_nor_passed_on() {
    let (node, ear) = stage().await;
    let now = Timestamp::now();
    let (one, two) = (publisher(1), publisher(2));
    let good = draft(&one, "forged", &["1.0.0"], now);
    let genuine = seal(&good, &one);
    let mut changed = genuine.clone();
    let at = changed.windows(16).position(|window| window == b"A head of forged").unwrap();
    changed[at] = b'B';
    let mut zero = genuine.clone();
    let end = zero.len();
    zero[end - 64..].fill(0);
    let forged = [
        ("random bytes", noise(9, 700)),
        ("nothing at all", vec![0]),
        ("signed by another key", seal(&good, &two)),
        ("another publisher's name", seal(&Head { publisher: two.id(), ..good.clone() }, &one)),
        ("other words than were signed", changed),
        ("a signature of zeros", zero),
        ("from tomorrow", seal(&draft(&one, "forged", &["1.0.0"], now.plus(DAY)), &one)),
        ("over the cap", [genuine.clone(), vec![0; HEAD_BYTES_MAX]].concat()),
        ("cut short", genuine[..genuine.len() - 1].to_vec()),
    ];
    let kinds = forged.len() as u64;
    for (n, (what, bytes)) in forged.into_iter().enumerate() {
        // A peer of its own each: whoever sends several is not listened to any more.
        let forger = Raw::connected(&node.address()).await;
        forger.announce(bytes).await;
        eventually(&format!("it is counted: {what}"), SOON, async || {
            (node.net().await.heads_refused == n as u64 + 1).then_some(())
        })
        .await;
    }
    // What is valid is indexed and passed on; so whatever else was passed on would have come before it.
    let honest = Raw::connected(&node.address()).await;
    let valid = head(&one, "genuine", &["1.0.0"]).bytes().to_vec();
    honest.announce(valid.clone()).await;
    eventually("the valid one is passed on", SOON, async || {
        ear.seen().messages.contains(&valid).then_some(())
    })
    .await;
    assert_eq!(ear.seen().messages, [valid], "nothing else was");
    let found = node.finds("raw").await;
    assert_eq!(found.packages.len(), 1);
    assert_eq!(found.packages[0].name, "genuine");
    assert_eq!(node.status().await.packages_indexed, 1);
    assert_eq!(node.net().await.heads_refused, kinds);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_on_forging_is_not_listened_to() {
    let (node, ear) = stage().await;
    let forger = Raw::connected(&node.address()).await;
    for seed in 0..20 {
        forger.announce(noise(seed, 500)).await;
    }
    // What waited while the first ones were judged is judged too.
    eventually("it is known as a forger", SOON, async || (node.net().await.heads_refused >= 3).then_some(()))
        .await;
    for seed in 20..40 {
        forger.announce(noise(seed, 500)).await;
    }
    // A valid one from the forger comes last and is ignored; one from somebody else is not.
    forger.announce(head(&publisher(3), "toolate", &["1.0.0"]).bytes().to_vec()).await;
    let honest = Raw::connected(&node.address()).await;
    let valid = head(&publisher(3), "welcome", &["1.0.0"]).bytes().to_vec();
    honest.announce(valid.clone()).await;
    eventually("the valid one is passed on", SOON, async || {
        ear.seen().messages.contains(&valid).then_some(())
    })
    .await;
    assert_eq!(ear.seen().messages, [valid]);
    assert!(node.net().await.heads_refused <= 20, "those that came later were not even looked at");
    node.finds("welcome").await;
    assert_eq!(node.status().await.packages_indexed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_passed_on_is_not_passed_on_again_for_another_author() {
    let (node, ear) = stage().await;
    let first = head(&publisher(6), "echoed", &["1.0.0"]).bytes().to_vec();
    let honest = Raw::connected(&node.address()).await;
    honest.announce(first.clone()).await;
    eventually("it is passed on", SOON, async || ear.seen().messages.contains(&first).then_some(())).await;
    let echo = Raw::connected(&node.address()).await;
    echo.announce(first.clone()).await;
    let last = head(&publisher(6), "fresh", &["1.0.0"]).bytes().to_vec();
    echo.announce(last.clone()).await;
    eventually("the last is passed on", SOON, async || ear.seen().messages.contains(&last).then_some(()))
        .await;
    assert_eq!(ear.seen().messages, [first, last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_announcement_does_not_take_back_a_newer_one() {
    let (node, ear) = stage().await;
    let honest = Raw::connected(&node.address()).await;
    let author = publisher(4);
    let newer = head(&author, "rolling", &["1.0.0", "1.1.0"]);
    honest.announce(newer.bytes().to_vec()).await;
    assert_eq!(node.finds("rolling").await.packages[0].version, "1.1.0");
    honest.announce(head(&author, "rolling", &["1.0.0"]).bytes().to_vec()).await;
    eventually("it is refused", SOON, async || (node.net().await.heads_refused == 1).then_some(())).await;
    assert_eq!(node.find("rolling").await.packages[0].version, "1.1.0");
    // Old news are no crime: the same peer is still listened to.
    honest.announce(head(&author, "other", &["1.0.0"]).bytes().to_vec()).await;
    node.finds("other").await;
    eventually("two were passed on", SOON, async || (ear.seen().messages.len() == 2).then_some(())).await;
}

/// Waits until a search says that a package is frozen.
async fn is_frozen(node: &Node, name: &str) {
    eventually("the search says that it is frozen", SOON, async || {
        let found = node.find(name).await;
        found.packages[0].notes.iter().any(|note| note.contains("frozen")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_states_for_one_place_freeze_the_package() {
    let (node, ear) = stage().await;
    let honest = Raw::connected(&node.address()).await;
    let author = publisher(5);
    let state = |version: &str| head(&author, "twofaced", &[version]).bytes().to_vec();
    let (first, second) = (state("1.0.0"), state("6.6.6"));
    honest.announce(first.clone()).await;
    node.finds("twofaced").await;
    honest.announce(second.clone()).await;
    is_frozen(&node, "twofaced").await;
    // Whoever has heard of one of them only hears of the other, once: the first is told again for that, and not a third one.
    honest.announce(state("7.7.7")).await;
    let last = head(&author, "honest", &["1.0.0"]).bytes().to_vec();
    honest.announce(last.clone()).await;
    eventually("the last is passed on", SOON, async || ear.seen().messages.contains(&last).then_some(()))
        .await;
    let mut heard = ear.seen().messages.clone();
    heard[1..3].sort();
    let mut proof = [first.clone(), second];
    proof.sort();
    assert_eq!(heard, [&[first], &proof[..], &[last]].concat());
    assert!(node.is_connected(honest.peer).await && node.refused(honest.peer).await.is_none());
    // One that joins later, and hears no announcements, reads the proof with the head.
    let late = crate::node::start_in(
        std::sync::Arc::new(tempfile::tempdir().unwrap()),
        &[node.address()],
        |config| config.packages_topic = "/ggen/silent/v1".to_owned(),
    )
    .await;
    late.finds("twofaced").await;
    is_frozen(&late, "twofaced").await;
    assert_eq!(node.find("twofaced").await.packages[0].version, "", "which one counts is not known");
    let temp = tempfile::tempdir().unwrap();
    let error = node.install("twofaced", &temp.path().join("target"), 5).await.unwrap_err();
    assert_eq!(error.code, Code::Equivocation, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_topic_is_another_conversation() {
    let node = start(&[]).await;
    let elsewhere = crate::node::start_in(
        std::sync::Arc::new(tempfile::tempdir().unwrap()),
        &[node.address()],
        |config| config.packages_topic = "/ggen/elsewhere/v1".to_owned(),
    )
    .await;
    elsewhere.knows(node.peer_id()).await;
    let here = start(&[node.address()]).await;
    here.knows(node.peer_id()).await;
    eventually("the two of one topic see one another", SOON, async || {
        (node.status().await.topic_peers == 1).then_some(())
    })
    .await;
    let temp = tempfile::tempdir().unwrap();
    let directory = crate::node::package(temp.path(), "topical", "1.0.0", &[]);
    let published = node.publish_dir(&directory).await;
    assert_eq!(published.announced_to, 1, "only those of this topic hear of it");
    assert!(published.dht_stored >= 1, "the DHT is one");
    let status = elsewhere.status().await;
    assert_eq!((status.topic_peers, status.mesh_peers), (0, 0));
}
