//! What benches over real sockets have in common: nodes, trees of files, real time. Nothing of `ggen_benches` is used, nor of the
//! simulator: they would take the clocks of the program that they are in.

use std::{
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry},
    control::{
        api::{Failure, SearchRequest},
        service::Service,
    },
};
use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::time::{sleep, timeout};

/// How often somebody looks whether something has come.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// How long news of a release may take from one node to the other.
const NEWS_TIMEOUT: Duration = Duration::from_secs(60);

/// What came, or why it did not.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// A tree of files of one size.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) files: usize,
    pub(crate) file_bytes: usize,
}

/// A node on loopback, and the address under which it is reached.
pub(crate) async fn node(home: &Path, known: Option<Multiaddr>) -> Outcome<(P2PRegistry, Multiaddr)> {
    let config = P2PConfig {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
        bootstrap_nodes: known.into_iter().collect(),
        ..P2PConfig::with_state_dir(home)
    };
    let registry = P2PRegistry::new(config).await?;
    let bound = registry.start_listening().await?;
    registry.subscribe_to_packages().await?;
    let own = bound.first().ok_or("nothing was bound")?.clone();
    let address = own.with(Protocol::P2p(registry.peer_id()));
    Ok((registry, address))
}

/// Waits until the catalogue of a node lists a package that somebody provides.
pub(crate) async fn listed(node: &P2PRegistry, name: &str) -> Outcome<()> {
    let listed = async {
        loop {
            let request = SearchRequest { text: name.to_owned(), ..SearchRequest::default() };
            let found = Service::search(node, request).await.map_err(failed)?;
            if found.packages.iter().any(|it| it.name == name && !it.providers.is_empty()) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    };
    timeout(NEWS_TIMEOUT, listed).await.map_err(|_| "the news did not come")?
}

/// Writes a package of bytes that no tree with another seed has, and that do not compress (Marsaglia's xorshift64*).
pub(crate) fn write_tree(folder: &Path, name: &str, shape: Shape, seed: u64) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let description = format!("name = {name:?}\nversion = \"1.0.0\"\ndescription = \"Measured\"\n");
    fs::write(folder.join("gpack.toml"), description)?;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for file in 0..shape.files {
        let mut content = Vec::with_capacity(shape.file_bytes + 8);
        while content.len() < shape.file_bytes {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            content.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        content.truncate(shape.file_bytes);
        let part = folder.join(format!("part-{:03}", file / 100));
        fs::create_dir_all(&part)?;
        fs::write(part.join(format!("{file:05}.bin")), content)?;
    }
    Ok(())
}

pub(crate) fn failed(failure: Failure) -> Box<dyn Error> {
    failure.message.into()
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
