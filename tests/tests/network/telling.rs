//! What was published while nobody was there is told later.

use ggen_marketplace::{
    backend::p2p::publish_offline,
    code::Code,
    control::service::{Cancel, ProgressSender},
};

use crate::{
    SOON, eventually,
    node::{config, package, publish_request, start, start_in},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_alone_is_announced_to_the_first_peer() {
    let temp = tempfile::tempdir().unwrap();
    let author = start(&[]).await;
    let published = author.publish_dir(&package(temp.path(), "patient", "1.0.0", &[])).await;
    assert!(!published.announced && !published.warnings.is_empty(), "{published:?}");
    assert_eq!(author.status().await.announcements_pending, 1);
    let peer = start(&[author.address()]).await;
    peer.finds("patient").await;
    eventually("it counts as announced", SOON, async || {
        (author.status().await.announcements_pending == 0).then_some(())
    })
    .await;
    let providers = eventually("the author is known as provider", SOON, async || {
        let found = peer.find("patient").await;
        (!found.packages[0].providers.is_empty()).then(|| found.packages[0].providers.clone())
    })
    .await;
    assert_eq!(providers, [author.peer_id().to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_offline_is_announced_at_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let home = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let request = publish_request(&package(temp.path(), "queued", "1.0.0", &[]));
    let offline = config(home.path(), &[]);
    let queued =
        publish_offline(offline.clone(), request.clone(), ProgressSender::discard(), Cancel::default())
            .await
            .unwrap();
    assert!(queued.queued && !queued.announced, "{queued:?}");
    // The same again changes nothing: never two heads of one sequence.
    let again =
        publish_offline(offline.clone(), request.clone(), ProgressSender::discard(), Cancel::default())
            .await
            .unwrap();
    assert!(again.already_published);
    assert_eq!(again.sequence, queued.sequence);
    let peer = start(&[]).await;
    let author = start_in(home, &[peer.address()], |_| {}).await;
    let found = peer.finds("queued").await;
    assert_eq!(found.packages[0].cid, queued.cid);
    eventually("it counts as announced", SOON, async || {
        (author.status().await.announcements_pending == 0).then_some(())
    })
    .await;
    let running =
        publish_offline(offline, request, ProgressSender::discard(), Cancel::default()).await.unwrap_err();
    assert_eq!(running.code, Code::AlreadyRunning);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_cut_off_is_announced_once_and_as_the_same_head() {
    let temp = tempfile::tempdir().unwrap();
    let author = start(&[]).await;
    let home = author.home();
    let directory = package(temp.path(), "crashed", "1.0.0", &[]);
    let published = author.publish_dir(&directory).await;
    // Dropped, not stopped: nothing is flushed or said.
    drop(author);
    let peer = start(&[]).await;
    let author = eventually("the folder is free again", SOON, async || {
        let config = config(home.path(), &[peer.address()]);
        let registry = ggen_marketplace::backend::p2p::P2PRegistry::new(config).await.ok()?;
        registry.start_listening().await.unwrap();
        registry.subscribe_to_packages().await.unwrap();
        Some(registry)
    })
    .await;
    let found = peer.finds("crashed").await;
    assert_eq!(found.packages.len(), 1);
    let id: ggen_marketplace::package::PackageId = found.packages[0].id.parse().unwrap();
    assert_eq!(found.packages[0].cid, published.cid);
    use ggen_marketplace::traits::Registry;
    assert_eq!(peer.list_versions(&id).await.unwrap().len(), 1);
    assert_eq!(author.list_versions(&id).await.unwrap().len(), 1);
    assert!(found.packages[0].notes.iter().all(|note| !note.contains("frozen")));
}
