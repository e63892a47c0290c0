//! An example of the library is run as it stands.

use ggen_marketplace::traits::{Package, Registry};

use crate::node::{sample, start, tree};

#[path = "../../../node/examples/search_and_install.rs"]
#[expect(dead_code, reason = "its main reads the command line")]
mod example;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_finds_and_installs_a_package() {
    let temp = tempfile::tempdir().unwrap();
    let source = sample(temp.path(), "lighthouse", "1.0.0");
    let publisher = start(&[]).await;
    publisher.publish(Package::from_dir(&source)).await.unwrap();
    let target = temp.path().join("installed");
    let address = publisher.address().to_string();
    let state = temp.path().join("state");
    let installed = example::search_and_install(&state, &address, "lighthouse", &target).await.unwrap();
    assert_eq!(tree(&target), tree(&source));
    assert_eq!(
        (installed.name.as_str(), installed.providers),
        ("lighthouse", vec![publisher.peer_id().to_string()])
    );
}
