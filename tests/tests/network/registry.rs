//! What the guide's program promises, and the eight methods of the registry.

use ggen_marketplace::{
    backend::p2p::{Error, P2PRegistry},
    code::Code,
    package::PackageId,
    traits::{Package, Query, Registry},
};

use crate::{
    SOON, eventually,
    node::{noise, package, sample, start, tree},
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

fn version(text: &str) -> semver::Version {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eight_methods_keep_their_promises_near_and_far() {
    let temp = tempfile::tempdir().unwrap();
    let near = start(&[]).await;
    let far = start(&[near.address()]).await;
    far.knows(near.peer_id()).await;
    let mut id: Option<PackageId> = None;
    for (text, seed) in [("1.0.0", 1), ("1.10.0", 2), ("1.9.0", 3), ("2.0.0-rc.1", 4)] {
        let directory = package(temp.path(), "many", text, &[("file", noise(seed, 5_000))]);
        id = Some(near.publish(Package::from_dir(directory)).await.unwrap().package);
    }
    let id = id.unwrap();
    eventually("the other node has the newest head", SOON, async || {
        let versions = far.list_versions(&id).await.ok()?;
        (versions.len() == 4).then_some(())
    })
    .await;
    for registry in [&*near, &*far] {
        conforms(registry, &id).await;
    }
    // Publishing the same again is no news; other content under the same version is a conflict.
    let directory = temp.path().join("many-1.0.0");
    let again = near.publish(Package::from_dir(&directory)).await.unwrap();
    assert_eq!(again.version, version("1.0.0"));
    std::fs::write(directory.join("file"), b"other").unwrap();
    let conflict = near.publish(Package::from_dir(&directory)).await.unwrap_err();
    assert!(matches!(conflict, Error::AlreadyExists(_)), "{conflict}");
    assert_eq!(near.list_versions(&id).await.unwrap().len(), 4);
    // Deleting stops serving and leaves a tombstone that the other node hears of.
    near.delete(&id).await.unwrap();
    assert!(!near.exists(&id).await.unwrap());
    assert_eq!(near.status().await.packages_provided, 0);
    eventually("the other node knows that it is gone", SOON, async || {
        (!far.exists(&id).await.unwrap()).then_some(())
    })
    .await;
    let gone = far.install("many", &temp.path().join("gone"), 10).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound.as_str());
    let directory = package(temp.path(), "many", "3.0.0", &[]);
    assert!(near.publish(Package::from_dir(directory)).await.is_err(), "nothing follows a tombstone");
}

async fn conforms(registry: &P2PRegistry, id: &PackageId) {
    let latest = registry.get_package(id).await.unwrap();
    assert_eq!(latest.version, version("1.10.0"), "the latest stable one");
    let versions = registry.list_versions(id).await.unwrap();
    let texts: Vec<String> = versions.iter().map(|release| release.version.to_string()).collect();
    assert_eq!(texts, ["1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1"], "ascending");
    let exact = registry.get_package_version(id, &version("2.0.0-rc.1")).await.unwrap();
    assert_eq!(&exact, versions.last().unwrap());
    let missing = registry.get_package_version(id, &version("9.9.9")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound(_)), "{missing}");
    assert!(registry.exists(id).await.unwrap());
    let unknown = PackageId { name: "unknown".parse().unwrap(), ..id.clone() };
    assert!(!registry.exists(&unknown).await.unwrap());
    assert!(matches!(registry.get_package(&unknown).await.unwrap_err(), Error::NotFound(_)));
    let found = registry.search(&Query::new("many")).await.unwrap();
    assert_eq!(found.len(), 1, "one result a package");
    assert_eq!(registry.search(&Query::default()).await.unwrap().len(), 1, "no words find everything");
    assert!(registry.search(&Query::new("nothingofthekind")).await.unwrap().is_empty());
    let metadata = registry.metadata().await;
    assert_eq!((metadata.kind.as_str(), metadata.packages), ("p2p", 1));
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
