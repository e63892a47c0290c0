//! When sockets are opened, and that none is left.

use std::{collections::BTreeSet, fs, process::Command};

use ggen_marketplace::{backend::p2p::P2PRegistry, code::Code};

use crate::{
    SOON, eventually,
    node::{config, start},
};

/// Names the process that a test runs in by itself, since other tests of this binary open sockets as they like.
const ALONE: &str = "GGEN_TEST_ALONE";

/// Runs the test of this name in a process of its own; true within that process.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let itself = std::env::current_exe().unwrap();
    let output =
        Command::new(itself).args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// The inodes of this process's sockets.
fn sockets() -> BTreeSet<String> {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket:")).collect()
}

#[test]
fn sockets_open_with_listening_and_close_with_the_node() {
    if !alone("sockets::sockets_open_with_listening_and_close_with_the_node") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let before = sockets();
        let home = tempfile::tempdir().unwrap();
        let registry = P2PRegistry::new(config(home.path(), &[])).await.unwrap();
        assert_eq!(sockets(), before, "making a node opens none");
        let bound = registry.start_listening().await.unwrap();
        assert_eq!(bound.len(), 1);
        assert!(!bound[0].to_string().ends_with("/tcp/0"), "the port that was chosen: {}", bound[0]);
        assert!(sockets().len() > before.len());
        registry.subscribe_to_packages().await.unwrap();
        registry.subscribe_to_packages().await.unwrap();
        let other = start(&[bound[0].clone()]).await;
        other.knows(registry.peer_id()).await;
        drop(other);
        drop(registry);
        eventually("dropping the nodes closes every socket", SOON, async || {
            (sockets() == before).then_some(())
        })
        .await;
        // An orderly stop leaves none behind either.
        let again = eventually("the folder is free again", SOON, async || {
            P2PRegistry::new(config(home.path(), &[])).await.ok()
        })
        .await;
        again.start_listening().await.unwrap();
        again.shutdown().await;
        eventually("a stop closes every socket", SOON, async || (sockets() == before).then_some(())).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_do_not_share_a_folder() {
    let first = start(&[]).await;
    let second = P2PRegistry::new(config(first.home().path(), &[])).await.unwrap_err();
    assert_eq!(second.code(), Code::AlreadyRunning, "{second}");
    let home = first.stopped().await;
    P2PRegistry::new(config(home.path(), &[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let first = start(&[]).await;
    let home = tempfile::tempdir().unwrap();
    let mut config = config(home.path(), &[]);
    config.listen_addresses = first.bound.clone();
    let registry = P2PRegistry::new(config).await.unwrap();
    let error = registry.start_listening().await.unwrap_err();
    assert_eq!(error.code(), Code::AddressInUse, "{error}");
    assert!(error.to_string().contains(&first.bound[0].to_string()), "{error}");
    assert!(error.hint().contains("lsof -i :") && error.hint().contains("/tcp/0"), "{}", error.hint());
}
