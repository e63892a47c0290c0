//! Searches the network for words, and installs the best match.
//!
//! `cargo run -p ggen-marketplace --example search_and_install -- BOOTSTRAP-ADDRESS WORDS DIRECTORY`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, path::Path, time::Duration};

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry},
    control::{
        api::{InstallRequest, Installed},
        service::{ProgressSender, Service},
    },
    traits::{self, PackageInfo, Query, Registry},
};

/// How long the package may take to become known here.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, words, directory] = &arguments[..] else {
        return Err("usage: search_and_install BOOTSTRAP-ADDRESS WORDS DIRECTORY".into());
    };
    let state = tempfile::tempdir()?;
    let installed = search_and_install(state.path(), address, words, Path::new(directory)).await?;
    println!(
        "{} is in {}: {} files, from {} peers",
        installed.id,
        installed.path,
        installed.files,
        installed.providers.len()
    );
    Ok(())
}

/// Runs a node for as long as it takes to find a package and to install it.
pub(crate) async fn search_and_install(
    state: &Path,
    bootstrap: &str,
    words: &str,
    directory: &Path,
) -> Result<Installed, Box<dyn Error>> {
    let config = P2PConfig {
        // A node that listens nowhere dials others, and is not dialled.
        listen_addresses: Vec::new(),
        bootstrap_nodes: vec![bootstrap.parse()?],
        dht_server_mode: false,
        ..P2PConfig::with_state_dir(state)
    };
    let registry = P2PRegistry::new(config).await?;
    registry.start_listening().await?;
    registry.subscribe_to_packages().await?;

    let found = tokio::time::timeout(PATIENCE, find(&registry, words)).await??;
    let to = std::path::absolute(directory)?.to_str().ok_or("the path is not UTF-8")?.to_owned();
    let request = InstallRequest { package: found.id, to, ..InstallRequest::default() };
    // Every block is checked against the signed manifest as it arrives; the folder appears whole or not at all.
    let installed =
        registry.install(request, ProgressSender::discard()).await.map_err(traits::Error::from)?;
    registry.shutdown().await;
    Ok(installed)
}

/// Searches until something is found: a node that has just started learns what there is from its first peer.
async fn find(registry: &P2PRegistry, words: &str) -> Result<PackageInfo, traits::Error> {
    loop {
        let query = Query { limit: Some(1), ..Query::new(words) };
        let mut found = Registry::search(registry, &query).await?;
        if let Some(best) = found.pop() {
            return Ok(best);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
