//! Runs a node inside of another program.
//!
//! `cargo run -p ggen-marketplace --example embed -- STATE-FOLDER [BOOTSTRAP-ADDRESS]`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry},
    traits::Registry,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: embed STATE-FOLDER [BOOTSTRAP-ADDRESS]")?;
    let config = P2PConfig {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
        bootstrap_nodes: arguments.map(|address| address.parse()).collect::<Result<_, _>>()?,
        ..P2PConfig::with_state_dir(folder)
    };

    // No socket is opened here: the keys are loaded, and the state folder is locked.
    let registry = P2PRegistry::new(config).await?;
    let peer = registry.peer_id();
    for address in registry.start_listening().await? {
        println!("Others reach this node at {address}/p2p/{peer}");
    }
    // From here on the catalogue fills: by gossip, and by what other nodes have in theirs.
    registry.subscribe_to_packages().await?;

    tokio::signal::ctrl_c().await?;
    let told = registry.metadata().await;
    println!("{} packages are known, {} peers are connected", told.packages, told.peers);
    // Dropping the registry stops it, too; this tells the peers.
    registry.shutdown().await;
    Ok(())
}
