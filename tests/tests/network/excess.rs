//! Too much at once, too long, or in the wrong place: what a caller may ask for by mistake.

use ggen_marketplace::{
    code::Code,
    control::{
        api::PublishRequest,
        service::{Cancel, ProgressSender, Service},
    },
};

use crate::node::{noise, package, publish_request, start, tree};

#[tokio::test]
async fn a_time_that_no_clock_can_hold_is_no_defect_of_the_node() {
    let node = start(&[]).await;
    let temp = tempfile::tempdir().unwrap();
    let unknown = node.install("unknown", &temp.path().join("unknown"), u64::MAX).await.unwrap_err();
    assert_eq!(unknown.code, Code::Network, "nobody can be asked");
    let closed = node.dial(&["/ip4/127.0.0.1/tcp/1".to_owned()], u64::MAX).await.unwrap_err();
    assert_eq!(closed.code, Code::Network);
    let directory = package(temp.path(), "patient", "1.0.0", &[]);
    let request = PublishRequest { timeout_secs: Some(u64::MAX), ..publish_request(&directory) };
    Service::publish(&*node, request, ProgressSender::discard(), Cancel::default()).await.unwrap();
}

#[tokio::test]
async fn no_addresses_and_too_many_of_them_are_refused_before_any_is_dialled() {
    let node = start(&[]).await;
    for count in [0, 1_025] {
        let refused = node.dial(&vec!["/ip4/127.0.0.1/tcp/1".to_owned(); count], 1).await.unwrap_err();
        assert_eq!(refused.code, Code::Usage, "{count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_installs_of_one_package_at_once_all_succeed_and_nobody_is_blamed() {
    let temp = tempfile::tempdir().unwrap();
    let files: Vec<(String, Vec<u8>)> = (0..48).map(|n| (format!("{n}.bin"), noise(n, 300_000))).collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let source = package(temp.path(), "wanted", "1.0.0", &files);
    let publisher = start(&[]).await;
    let reader = start(&[publisher.address()]).await;
    reader.knows(publisher.peer_id()).await;
    publisher.publish_dir(&source).await;
    reader.finds("wanted").await;
    let target = temp.path().join("target");
    let installs = (0..16).map(|_| reader.install("wanted", &target, 120));
    let installed: Vec<_> = futures::future::join_all(installs).await;
    let failed: Vec<_> = installed.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(tree(&target), tree(&source));
    assert_eq!(reader.counters(publisher.peer_id()).await.1, 0, "the provider did nothing wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_installed_among_the_keys_or_blocks_of_the_node() {
    let temp = tempfile::tempdir().unwrap();
    let source = package(temp.path(), "intruder", "1.0.0", &[]);
    let node = start(&[]).await;
    node.publish_dir(&source).await;
    let home = node.home();
    std::os::unix::fs::symlink(home.path(), temp.path().join("link")).unwrap();
    for to in [
        home.path().join("blocks"),
        home.path().join("blocks/deep/in"),
        home.path().join("keys/intruder"),
        home.path().join("quarantine"),
        temp.path().join("link/blocks/intruder"),
    ] {
        let refused = node.install("intruder", &to, 10).await.unwrap_err();
        assert_eq!(refused.code, Code::Usage, "{}", to.display());
    }
    node.install("intruder", &home.path().join("elsewhere"), 10).await.unwrap();
}
