//! What the guide's program promises, and the eight methods of the registry.

use std::sync::Arc;

use ggen_marketplace::{
    backend::p2p::Error,
    code::Code,
    traits::{Package, Query, Registry, conformance},
};

use crate::{
    SOON, eventually,
    node::{noise, package, sample, start, start_in, tree},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_publishes_another_one_finds_and_installs() {
    let temp = tempfile::tempdir().unwrap();
    let source = sample(temp.path(), "my_package", "1.0.0");
    let publisher = start(&[]).await;
    let reader = start(&[publisher.address()]).await;
    reader.knows(publisher.peer_id()).await;
    // The guide's program, line by line.
    let released = publisher.publish(Package::from_dir(&source)).await.unwrap();
    let found = eventually("the other node finds it", SOON, async || {
        let found = reader.search(&Query::new("my_package")).await.unwrap();
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("my_package", "1.0.0"));
    assert_eq!(found[0].cid, released.cid);
    eventually("the publisher is known as its provider", SOON, async || {
        let found = reader.find("my_package").await;
        found.packages[0].providers.contains(&publisher.peer_id().to_string()).then_some(())
    })
    .await;
    let target = temp.path().join("installed");
    let installed = reader.install("my_package", &target, 60).await.unwrap();
    assert_eq!(tree(&target), tree(&source));
    assert_eq!(installed.providers, [publisher.peer_id().to_string()]);
    assert_eq!((installed.cid, installed.bytes), (released.cid, released.size));
    assert!(installed.bytes_fetched >= installed.bytes);
    // A4: exactly one retrieval, also after a restart.
    assert_eq!(reader.counters(publisher.peer_id()).await, (1, 0));
    let home = reader.stopped().await;
    let again = crate::node::start_in(home, &[publisher.address()], |_| {}).await;
    assert_eq!(again.counters(publisher.peer_id()).await, (1, 0));
    // Installing it again fetches nothing and changes nothing.
    let second = again.install("my_package", &target, 60).await.unwrap();
    assert!(second.already_installed);
    assert_eq!(second.bytes_fetched, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_package_outlives_its_publisher() {
    let temp = tempfile::tempdir().unwrap();
    let source = sample(temp.path(), "survivor", "1.0.0");
    let publisher = start(&[]).await;
    let middle = start(&[publisher.address()]).await;
    publisher.publish_dir(&source).await;
    middle.finds("survivor").await;
    middle.install("survivor", &temp.path().join("middle"), 60).await.unwrap();
    drop(publisher.stopped().await);
    let late = start(&[middle.address()]).await;
    late.finds("survivor").await;
    let installed = late.install("survivor", &temp.path().join("late"), 60).await.unwrap();
    assert_eq!(tree(&temp.path().join("late")), tree(&source));
    assert_eq!(installed.providers, [middle.peer_id().to_string()]);
}

/// Sixty-four chunks that all differ and one more, and a hole. A gigabyte would take too long here; packing it has a test of its
/// own beside `pack`.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_and_a_sparse_one_arrive_whole() {
    const LARGE: usize = (64 << 20) + 7;
    const HOLE: u64 = 32 << 20;
    let temp = tempfile::tempdir().unwrap();
    let source = package(temp.path(), "large", "1.0.0", &[("large.bin", noise(5, LARGE))]);
    let sparse = std::fs::File::create(source.join("sparse.bin")).unwrap();
    sparse.set_len(HOLE).unwrap();
    drop(sparse);
    let publisher = start(&[]).await;
    let reader = start(&[publisher.address()]).await;
    reader.knows(publisher.peer_id()).await;
    let published = publisher.publish_dir(&source).await;
    reader.finds("large").await;
    let target = temp.path().join("installed");
    let installed = reader.install("large", &target, 120).await.unwrap();
    assert!(tree(&target) == tree(&source), "byte for byte");
    assert_eq!(installed.cid, published.cid);
    assert!(installed.bytes > LARGE as u64 + HOLE);
    // What is the same comes once, and nothing comes that was not signed.
    let most = LARGE as u64 + (1 << 20) + (1 << 20);
    assert!(installed.bytes_fetched < most, "{} bytes came", installed.bytes_fetched);
    assert_eq!(reader.counters(publisher.peer_id()).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eight_methods_keep_their_promises_near_and_far() {
    let temp = tempfile::tempdir().unwrap();
    let near = start(&[]).await;
    let far = start(&[near.address()]).await;
    far.knows(near.peer_id()).await;
    let id = conformance::publishes(&*near, temp.path()).await.unwrap();
    eventually("the other node has the newest head", SOON, async || {
        let versions = far.list_versions(&id).await.ok()?;
        (versions.len() == conformance::VERSIONS.len()).then_some(())
    })
    .await;
    conformance::reads(&*near, &id).await.unwrap();
    conformance::reads(&*far, &id).await.unwrap();
    assert_eq!(far.metadata().await.kind, "p2p");
    conformance::republishes(&*near, &id, temp.path()).await.unwrap();
    conformance::amends(&*near, &id).await.unwrap();
    conformance::deletes(&*near, &id, temp.path()).await.unwrap();
    assert_eq!(near.status().await.packages_provided, 0, "what is deleted is not served");
    eventually("the other node knows that it is gone", SOON, async || {
        (!far.exists(&id).await.unwrap()).then_some(())
    })
    .await;
    let gone = far.install(conformance::NAME, &temp.path().join("gone"), 10).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
}

/// A registry of its own, as a program has it that never goes on the network.
#[tokio::test(flavor = "multi_thread")]
async fn the_eight_methods_keep_their_promises_alone() {
    let temp = tempfile::tempdir().unwrap();
    let alone =
        start_in(Arc::new(tempfile::tempdir().unwrap()), &[], |config| config.listen_addresses.clear()).await;
    let id = conformance::publishes(&*alone, temp.path()).await.unwrap();
    conformance::reads(&*alone, &id).await.unwrap();
    conformance::republishes(&*alone, &id, temp.path()).await.unwrap();
    conformance::amends(&*alone, &id).await.unwrap();
    conformance::deletes(&*alone, &id, temp.path()).await.unwrap();
}

#[tokio::test]
async fn metadata_never_fails_and_everything_else_says_why() {
    let node = start(&[]).await;
    node.shutdown().await;
    let metadata = node.metadata().await;
    assert_eq!(metadata.id, node.peer_id().to_string());
    let error = node.search(&Query::new("anything")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotRunning, "{error}");
    let temp = tempfile::tempdir().unwrap();
    let missing = node.publish(Package::from_dir(temp.path())).await.unwrap_err();
    assert!(matches!(missing, Error::ValidationError(_)), "{missing}");
}
