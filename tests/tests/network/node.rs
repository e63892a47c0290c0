//! Nodes to test with, and packages for them to publish.

use std::{
    collections::BTreeMap,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry},
    control::{
        api::{
            BootstrapRequest, Bootstrapped, Failure, InstallRequest, Installed, PeerDetails, PeerInfoRequest,
            PeerListRequest, PublishRequest, Published, SearchRequest, SearchResults, Status,
        },
        service::{Cancel, ProgressSender, Service},
    },
    identity::Publisher,
    network::Snapshot,
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, VerifiedHead},
    time::Timestamp,
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tempfile::TempDir;

use crate::{SOON, eventually};

/// A running node with a state folder of its own.
pub(crate) struct Node {
    registry: P2PRegistry,
    home: Arc<TempDir>,
    pub(crate) bound: Vec<Multiaddr>,
}

impl Deref for Node {
    type Target = P2PRegistry;

    fn deref(&self) -> &P2PRegistry {
        &self.registry
    }
}

/// The configuration of a node that listens on loopback.
pub(crate) fn config(home: &Path, bootstrap: &[Multiaddr]) -> P2PConfig {
    P2PConfig {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap_nodes: bootstrap.to_vec(),
        ..P2PConfig::with_state_dir(home)
    }
}

/// Starts a node that knows these bootstrap nodes.
pub(crate) async fn start(bootstrap: &[Multiaddr]) -> Node {
    start_in(Arc::new(tempfile::tempdir().unwrap()), bootstrap, |_| {}).await
}

/// Starts a node in a folder, with changes to its configuration.
pub(crate) async fn start_in(
    home: Arc<TempDir>,
    bootstrap: &[Multiaddr],
    change: impl FnOnce(&mut P2PConfig),
) -> Node {
    let mut config = config(home.path(), bootstrap);
    change(&mut config);
    let registry = P2PRegistry::new(config).await.unwrap();
    let bound = registry.start_listening().await.unwrap();
    registry.subscribe_to_packages().await.unwrap();
    Node { registry, home, bound }
}

impl Node {
    /// The address to dial, with the peer id.
    pub(crate) fn address(&self) -> Multiaddr {
        self.bound[0].clone().with(Protocol::P2p(self.peer_id()))
    }

    pub(crate) fn home(&self) -> Arc<TempDir> {
        self.home.clone()
    }

    /// Stops the node and gives its folder.
    pub(crate) async fn stopped(self) -> Arc<TempDir> {
        self.registry.shutdown().await;
        self.home.clone()
    }

    pub(crate) async fn publish_dir(&self, directory: &Path) -> Published {
        let request = publish_request(directory);
        Service::publish(&self.registry, request, ProgressSender::discard(), Cancel::default()).await.unwrap()
    }

    pub(crate) async fn install(&self, package: &str, to: &Path, secs: u64) -> Result<Installed, Failure> {
        let request = InstallRequest {
            package: package.to_owned(),
            to: to.to_str().unwrap().to_owned(),
            timeout_secs: Some(secs),
            ..InstallRequest::default()
        };
        Service::install(&self.registry, request, ProgressSender::discard()).await
    }

    pub(crate) async fn find(&self, text: &str) -> SearchResults {
        let request = SearchRequest { text: text.to_owned(), ..SearchRequest::default() };
        Service::search(&self.registry, request).await.unwrap()
    }

    pub(crate) async fn status(&self) -> Status {
        Service::status(&self.registry).await.unwrap()
    }

    pub(crate) async fn net(&self) -> Snapshot {
        self.registry.snapshot().await.unwrap()
    }

    pub(crate) async fn details(&self, peer: PeerId) -> PeerDetails {
        let request = PeerInfoRequest { peer_id: peer.to_string(), full: true };
        Service::peer_info(&self.registry, request).await.unwrap()
    }

    /// The successful and failed retrievals that are counted of a peer.
    pub(crate) async fn counters(&self, peer: PeerId) -> (u64, u64) {
        let info = self.details(peer).await.peer;
        (info.successful_retrievals, info.failed_retrievals)
    }

    pub(crate) async fn refused(&self, peer: PeerId) -> Option<String> {
        let list = Service::peer_list(&self.registry, PeerListRequest::default()).await.unwrap();
        let refused = list.refused.into_iter().find(|refused| refused.peer_id == peer.to_string());
        refused.map(|refused| refused.reason)
    }

    pub(crate) async fn is_connected(&self, peer: PeerId) -> bool {
        self.net().await.peers.iter().any(|it| it.peer == peer)
    }

    /// Waits until a peer is connected and has said who it is.
    pub(crate) async fn knows(&self, peer: PeerId) {
        eventually("a peer is connected and identified", SOON, async || {
            self.net().await.peers.iter().any(|it| it.peer == peer && it.agent.is_some()).then_some(())
        })
        .await;
    }

    /// Waits until a search by these words finds something.
    pub(crate) async fn finds(&self, text: &str) -> SearchResults {
        eventually(&format!("a search for {text} finds something"), SOON, async || {
            Some(self.find(text).await).filter(|found| !found.packages.is_empty())
        })
        .await
    }

    pub(crate) async fn dial(&self, addresses: &[String], secs: u64) -> Result<Bootstrapped, Failure> {
        let request = BootstrapRequest { addresses: addresses.to_vec(), timeout_secs: Some(secs) };
        Service::bootstrap(&self.registry, request).await
    }
}

pub(crate) fn publish_request(directory: &Path) -> PublishRequest {
    PublishRequest { path: directory.to_str().unwrap().to_owned(), ..PublishRequest::default() }
}

/// Writes a package with these files.
pub(crate) fn package(folder: &Path, name: &str, version: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let directory = folder.join(format!("{name}-{version}"));
    fs::create_dir_all(&directory).unwrap();
    let description = format!(
        "name = \"{name}\"\nversion = \"{version}\"\ndescription = \"The {name} package\"\nlicense = \"MIT\"\ntags = [\"tested\"]\n"
    );
    fs::write(directory.join("gpack.toml"), description).unwrap();
    for (path, bytes) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    directory
}

/// Bytes that compress badly and differ by `seed`.
pub(crate) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A tree of several files, among them an empty one, an executable one, and some over one block.
pub(crate) fn sample(folder: &Path, name: &str, version: &str) -> PathBuf {
    let files = [
        ("README.md", b"# A package\n".to_vec()),
        ("empty", Vec::new()),
        ("bin/run.sh", b"#!/bin/sh\n".to_vec()),
        ("data/one.bin", noise(1, 1_500_000)),
        ("data/two.bin", noise(2, 1 << 20)),
        ("data/three.bin", noise(3, (1 << 20) + 1)),
        ("data/four.bin", noise(4, 900_000)),
    ];
    let directory = package(folder, name, version, &files);
    let script = directory.join("bin/run.sh");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Every file below a folder, with its bytes and whether it is executable.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, bool)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let executable = fs::metadata(&path).unwrap().permissions().mode() & 0o100 != 0;
                let inside = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(inside, (fs::read(&path).unwrap(), executable));
            }
        }
    }
    found
}

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A log whose releases name content that nobody holds: the same one whenever it is made, or two would contradict each other.
pub(crate) fn log(publisher: &Publisher, name: &str, versions: &[&str]) -> Log {
    use ggen_marketplace::content::{Codec, ContentId};
    let package = PackageId { publisher: publisher.id(), name: name.parse().unwrap() };
    let mut log = Log::empty(package);
    for version in versions {
        let release = Release {
            version: version.parse().unwrap(),
            manifest: ContentId::of(Codec::Raw, version.as_bytes()),
            root: ContentId::of(Codec::DagPb, format!("{name} {version}").as_bytes()),
            size: 1,
            files: 1,
        };
        let entry = log.next(Kind::Release(release), publisher, Timestamp::from_secs(1_700_000_000)).unwrap();
        log.push(entry).unwrap();
    }
    log
}

/// An unsigned head of these versions, the last of them made at `released_at`.
pub(crate) fn draft(publisher: &Publisher, name: &str, versions: &[&str], released_at: Timestamp) -> Head {
    let labels = Labels {
        description: format!("A head of {name}"),
        license: None,
        tags: vec!["raw".to_owned()],
        categories: Vec::new(),
        preflight_skipped: false,
        secrets_allowed: false,
    };
    let head = Head::of(&log(publisher, name, versions), labels, publisher).unwrap();
    Head { released_at, ..head }
}

/// A signed head of these versions, made an hour ago.
pub(crate) fn head(publisher: &Publisher, name: &str, versions: &[&str]) -> VerifiedHead {
    let created = Timestamp::now().minus(Duration::from_secs(3600));
    draft(publisher, name, versions, created).sign(publisher).unwrap()
}

/// A publisher by a number.
pub(crate) fn publisher(seed: u8) -> Publisher {
    Publisher::from_secret([seed; 32], Timestamp::from_secs(1_700_000_000))
}
