//! Publishes a directory with a `gpack.toml`, and serves it until Ctrl-C.
//!
//! `cargo run -p ggen-marketplace --example publish -- STATE-FOLDER DIRECTORY [BOOTSTRAP-ADDRESS]`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry},
    traits::{Package, Registry},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: publish STATE-FOLDER DIRECTORY [BOOTSTRAP-ADDRESS]";
    let (folder, directory) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let config = P2PConfig {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
        bootstrap_nodes: arguments.map(|address| address.parse()).collect::<Result<_, _>>()?,
        ..P2PConfig::with_state_dir(folder)
    };
    let registry = P2PRegistry::new(config).await?;
    let addresses = registry.start_listening().await?;
    registry.subscribe_to_packages().await?;

    // The first publication makes a publisher key in the state folder. The same content again changes nothing.
    match registry.publish(Package::from_dir(directory)).await {
        Ok(release) => {
            println!("Published {}@{}, content id {}", release.package, release.version, release.cid)
        }
        // Every error has a stable code, and says what to do next.
        Err(error) => return Err(format!("{error} [{}] {}", error.code(), error.hint()).into()),
    }
    println!("Install it from another node, with --bootstrap {}/p2p/{}", addresses[0], registry.peer_id());

    tokio::signal::ctrl_c().await?;
    registry.shutdown().await;
    Ok(())
}
