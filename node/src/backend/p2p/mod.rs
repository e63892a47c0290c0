//! The registry without a server: one node of the network, as a library.
//!
//! [`P2PRegistry`] joins the modules of this crate: it packs and signs what is published, stores it, tells the network,
//! keeps the index of what others publish, and fetches, verifies and writes what is installed. The command line drives the
//! same type through [`Service`](crate::control::service::Service); programs use the
//! [`Registry`] trait:
//!
//! ```no_run
//! use ggen_marketplace::backend::p2p::{P2PConfig, P2PRegistry};
//! use ggen_marketplace::traits::Registry;
//!
//! # type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
//! # use ggen_marketplace::traits::{Package, Query};
//! #[tokio::main]
//! async fn main() -> Result<()> {
//! #   let my_package = Package::from_dir("./my-package");
//! #   let query = Query::new("database");
//!     // Create config
//!     let config = P2PConfig::default();
//!
//!     // Initialize registry
//!     let registry = P2PRegistry::new(config).await?;
//!
//!     // Start listening
//!     registry.start_listening().await?;
//!     registry.subscribe_to_packages().await?;
//!
//!     // Publish package
//!     registry.publish(my_package).await?;
//!
//!     // Search packages
//!     let results = registry.search(&query).await?;
//!
//!     Ok(())
//! }
//! ```

mod amend;
mod announce;
mod at_hand;
mod audit;
mod backfill;
mod bans;
mod bookkeeping;
mod changes;
mod clock;
mod collect;
mod confirm;
mod continued;
mod counts;
mod dependencies;
mod describe;
mod disputed;
mod doubtful;
mod events;
mod evict;
mod explain;
mod failure;
mod find;
mod fresh;
mod history;
mod home;
mod install;
mod join;
mod judge;
mod kept;
mod key_documents;
mod keys;
mod limit;
mod listen;
mod meant;
mod mend;
mod node;
mod offer;
mod outbox;
mod pacing;
mod packed;
mod part;
mod peers;
mod place;
mod plan;
mod prepared;
mod project;
mod publish;
mod recover;
mod reference;
mod remove;
mod removing;
mod resolve;
mod service;
mod signing;
mod sources;
mod status;
mod trust;
mod twin;
mod two_chains;
mod verify;
mod view;
mod watch;
mod withdrawn;

use std::{path::Path, sync::Arc};

use libp2p::{Multiaddr, identity::Keypair};
use semver::Version;
use tokio::sync::mpsc;

pub use self::{
    amend::TakenBack,
    at_hand::install_offline,
    changes::amend_offline,
    collect::collect_offline,
    kept::keep_offline,
    outbox::drop_offline,
    plan::plan_offline,
    project::project_offline,
    publish::publish_offline,
    remove::{of_project, remove_offline},
    trust::trust_offline,
    view::View,
};
use self::{events::Events, failure::fail, node::Node, signing::Keys};
use crate::{
    code::Code,
    control::{
        api::{AmendRequest, Change, Failure, PublishRequest, SearchRequest},
        service::{Cancel, ProgressSender},
    },
    hello::{Run, Runs},
    identity::{Publisher, node_key},
    network::{self, FirstContact, Machine, Metrics, Observer, Offload, Spawner, names::Names, transport},
    package::PackageId,
    peers::policy::{Scope, scope_of},
    release::{Kind, head::VerifiedHead},
    store::{self, HomeLock, Store, meta},
    time::Timestamp,
    traits::{
        CollectRequest, Collected, KeepRequest, KeptList, Outdated, OutdatedRequest, Package, PackageInfo,
        ProjectDone, ProjectRequest, Query, Registry, RegistryMetadata, Release,
    },
};
pub use crate::{config::P2PConfig, traits::Error};

/// A node of the network.
///
/// Dropping it stops its tasks and closes its sockets; [`P2PRegistry::shutdown`] does so in good order.
#[derive(Debug)]
pub struct P2PRegistry {
    node: Arc<Node>,
}

/// What a node is made of, for those who bring their own: a simulation, or a program with another transport.
pub struct Parts {
    /// The base transport: byte streams.
    pub transport: transport::Base,
    /// The node's key.
    pub node_key: Keypair,
    /// Who signs what this node publishes.
    pub publisher: Publisher,
    /// Where everything is kept.
    pub store: Store,
    /// Where blocking work runs.
    pub offload: Offload,
    /// Where tasks run.
    pub spawner: Spawner,
    /// Who watches.
    pub observer: Observer,
    /// Where libp2p counts.
    pub metrics: Metrics,
}

impl P2PRegistry {
    /// Opens the state folder, loads the keys, and prepares the node. No socket is opened.
    ///
    /// # Errors
    /// [`Error::Other`] with [`Code::Clock`] where the clock stands before 1970; [`Error::ValidationError`] with every bad field of the
    /// configuration, or for a key file that is damaged or readable by others; [`Error::AlreadyRunning`] where another node runs on the folder; [`Error::StorageError`] where the folder
    /// cannot be used.
    pub async fn new(config: P2PConfig) -> Result<Self, Error> {
        let (node, events) = Self::opened(config).await?;
        Node::start_tasks(&node, events);
        Ok(Self { node })
    }

    /// Does something with what is in a state folder. It opens no socket, and asks and tells nobody: neither does what waits in the
    /// outbox leave it.
    async fn alone<T>(
        config: P2PConfig,
        work: impl AsyncFnOnce(&Node) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (node, events) = Self::opened(config).await?;
        Node::keep_books(&node, events);
        let registry = Self { node };
        let done = work(&registry.node).await;
        registry.shutdown().await;
        done
    }

    /// A node of which no task runs yet.
    async fn opened(config: P2PConfig) -> Result<(Arc<Node>, mpsc::Receiver<network::Event>), Error> {
        clock::refuse_unset(Timestamp::now())?;
        config.validate().map_err(fail)?;
        let folder = config.state_dir.clone();
        let opened = Offload::Threads.run(move || open(&folder)).await;
        let (lock, store, key) = opened.ok_or_else(|| gone("the state folder was not opened"))??;
        let transport = transport::tcp(Names::system());
        let keys = Keys::Folder(config.state_dir.join(KEYS_FOLDER));
        let first_contact = first_contact(&store, &keys, Offload::Threads);
        let settings = network::Settings {
            machine: machine(&config),
            ..settings(&config, first_contact.clone(), runs(&store).map_err(fail)?)
        };
        let (told, metrics) = (Events::default(), Metrics::counting());
        let observer = told.observer(Observer::default());
        let (network, events) =
            network::spawn(transport, &key, settings, store.clone(), Offload::Threads, observer, &metrics)
                .map_err(fail)?;
        let network = (network, first_contact);
        let node = Node::new(config, network, store, keys, Offload::Threads, Some(lock), (told, metrics));
        Ok((node, events))
    }

    /// Prepares a node from parts; `config.state_dir` is not touched.
    ///
    /// # Errors
    /// [`Error::ValidationError`] with every bad field of the configuration.
    pub async fn with_parts(config: P2PConfig, parts: Parts) -> Result<Self, Error> {
        clock::refuse_unset(Timestamp::now())?;
        config.validate().map_err(fail)?;
        let Parts { transport, node_key, publisher, store, offload, spawner, observer, metrics } = parts;
        let told = Events::default();
        let observer = told.observer(observer);
        let keys = Keys::Given(Arc::new(std::sync::Mutex::new(publisher)));
        let first_contact = first_contact(&store, &keys, offload);
        let settings = network::Settings {
            spawner,
            ..settings(&config, first_contact.clone(), runs(&store).map_err(fail)?)
        };
        let (network, events) =
            network::spawn(transport, &node_key, settings, store.clone(), offload, observer, &metrics)
                .map_err(fail)?;
        let node = Node::new(config, (network, first_contact), store, keys, offload, None, (told, metrics));
        Node::start_tasks(&node, events);
        Ok(Self { node })
    }

    /// Listens on the configured addresses, begins to join the network, and yields what was bound.
    ///
    /// Where the machine lacks IPv6, an IPv6 address is passed over with a warning, as long as another one was bound.
    ///
    /// # Errors
    /// [`Error::Other`] with [`Code::AddressInUse`] where a port is taken, [`Error::NetworkError`] where nothing was bound.
    pub async fn start_listening(&self) -> Result<Vec<Multiaddr>, Error> {
        Ok(self.node.listen().await?)
    }

    /// Subscribes to announcements; calling it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Other`] where the node has stopped.
    pub async fn subscribe_to_packages(&self) -> Result<(), Error> {
        self.node.network.subscribe().await.map_err(fail)?;
        Ok(())
    }

    /// The node's peer id.
    pub fn peer_id(&self) -> libp2p::PeerId {
        self.node.network.local_peer()
    }

    /// The configuration that counts now.
    pub fn config(&self) -> Arc<P2PConfig> {
        self.node.config()
    }

    /// Says where the configuration can be read again; [`Service::reload`](crate::control::service::Service::reload) does so.
    pub fn on_reload(&self, read: impl Fn() -> Result<P2PConfig, Failure> + Send + Sync + 'static) {
        self.node.set_source(node::Source(Arc::new(read)));
    }

    /// Puts the same publisher with other keys in the place of the one that was given with the parts; tells whether it did. Heads
    /// are signed again by [`Service::renew_keys`](crate::control::service::Service::renew_keys).
    pub fn set_publisher(&self, publisher: Publisher) -> bool {
        self.node.keys.replace(publisher)
    }

    /// Looks a package's head up in the DHT alone: neither the catalogue nor a peer's pages are asked, and what was seen of
    /// the package before is not checked against it.
    ///
    /// # Errors
    /// [`Error::Other`] where the lookup did not end in time, or the node has stopped.
    pub async fn dht_head(&self, package: &PackageId) -> Result<Option<VerifiedHead>, Error> {
        Ok(self.node.dht_head(package).await?)
    }

    /// The network at this moment: connections, the routing table, and counts of what was refused.
    ///
    /// # Errors
    /// [`Error::Other`] where the node has stopped.
    pub async fn snapshot(&self) -> Result<network::Snapshot, Error> {
        Ok(self.node.network.snapshot().await.map_err(fail)?)
    }

    async fn amended(&self, package: String, change: Change, message: &str) -> Result<(), Error> {
        let request = AmendRequest { package, change, message: message.to_owned(), timeout_secs: None };
        self.node.amend(request).await.map(drop).map_err(Error::from)
    }

    /// Stops the node: ends its tasks, closes its connections, flushes its books.
    pub async fn shutdown(&self) {
        self.node.shutdown().await;
    }
}

impl Drop for P2PRegistry {
    fn drop(&mut self) {
        self.node.cancel();
    }
}

impl Registry for P2PRegistry {
    async fn publish(&self, package: Package) -> Result<Release, Error> {
        let directory = std::path::absolute(package.directory()).map_err(|error| {
            Error::from(Failure::new(Code::Usage, error.to_string(), "Name a directory with a gpack.toml."))
        })?;
        let request = PublishRequest {
            path: text(&directory)?,
            version: package.version().map(Version::to_string),
            skip_verify: package.skips_verify(),
            allow_secrets: package.allows_secrets(),
            ..PublishRequest::default()
        };
        let cancel = Cancel::default();
        // Who drops the future before it is signed wants it no longer.
        let _wanted = cancel.on_drop();
        let published = self.node.publish(request, ProgressSender::discard(), cancel.clone()).await?;
        self.node.tell_published(&published);
        let publisher = published.publisher.parse().map_err(|_| gone("the publisher id"))?;
        let name = published.name.parse().map_err(|_| gone("the name"))?;
        Ok(Release {
            package: PackageId { publisher, name },
            version: published.version.parse().map_err(|_| gone("the version"))?,
            cid: published.cid,
            size: published.size,
            yanked: false,
        })
    }

    async fn search(&self, query: &Query) -> Result<Vec<PackageInfo>, Error> {
        let request = SearchRequest {
            text: query.text.clone(),
            categories: query.categories.clone(),
            tags: query.tags.clone(),
            any_tag: query.any_tag,
            limit: query.limit,
            offset: query.offset,
            min_reputation: query.min_reputation,
            timeout_secs: None,
        };
        Ok(self.node.search(request).await?.packages)
    }

    async fn get_package(&self, package: &PackageId) -> Result<Release, Error> {
        let versions = self.list_versions(package).await?;
        let stable =
            versions.into_iter().rev().find(|release| !release.yanked && release.version.pre.is_empty());
        stable.ok_or_else(|| {
            Error::from(Failure::new(
                Code::NotFound,
                format!("{package} has no stable version that is not yanked."),
                "Ask for a version by its number.",
            ))
        })
    }

    async fn get_package_version(&self, package: &PackageId, version: &Version) -> Result<Release, Error> {
        let versions = self.list_versions(package).await?;
        versions.into_iter().find(|release| release.version == *version).ok_or_else(|| {
            Error::from(Failure::new(
                Code::NotFound,
                format!("{package} has no version {version}."),
                "List its versions: ggen marketplace p2p info <package>",
            ))
        })
    }

    async fn list_versions(&self, package: &PackageId) -> Result<Vec<Release>, Error> {
        let head = self.node.head_of(package).await?;
        let log = self.node.log_as_held(&head, None).await.map_err(Failure::from)?.log;
        let releases = log.versions().values().map(|state| Release {
            package: package.clone(),
            version: state.release.version.clone(),
            cid: state.release.root.to_string(),
            size: state.release.size,
            yanked: state.yanked.is_some() || log.is_tombstoned(),
        });
        Ok(releases.collect())
    }

    async fn yank(&self, package: &PackageId, version: &Version, reason: &str) -> Result<(), Error> {
        self.amended(format!("{package}@{version}"), Change::Yank, reason).await
    }

    async fn unyank(&self, package: &PackageId, version: &Version) -> Result<(), Error> {
        self.amended(format!("{package}@{version}"), Change::Unyank, "").await
    }

    async fn deprecate(&self, package: &PackageId, message: &str) -> Result<(), Error> {
        let change = if message.is_empty() { Change::Undeprecate } else { Change::Deprecate };
        self.amended(package.to_string(), change, message).await
    }

    async fn delete(&self, package: &PackageId) -> Result<(), Error> {
        self.node.stop_serving(package).await?;
        let kind = Kind::Tombstone { reason: "deleted by its publisher".to_owned() };
        self.node.append_if_own(package, kind).await?;
        Ok(())
    }

    async fn project(&self, request: ProjectRequest) -> Result<ProjectDone, Error> {
        Ok(self.node.project(request, ProgressSender::discard()).await?)
    }

    async fn outdated(&self, request: OutdatedRequest) -> Result<Outdated, Error> {
        Ok(self.node.outdated(request).await?)
    }

    async fn collect(&self, request: CollectRequest) -> Result<Collected, Error> {
        Ok(self.node.collect(request).await?)
    }

    async fn keep(&self, request: KeepRequest) -> Result<KeptList, Error> {
        Ok(self.node.keep(request).await?)
    }

    async fn exists(&self, package: &PackageId) -> Result<bool, Error> {
        match self.node.head_of(package).await {
            Ok(head) => Ok(head.head().latest.is_some()),
            Err(failure) if failure.code == Code::NotFound => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn metadata(&self) -> RegistryMetadata {
        let status = self.node.status().await.ok();
        RegistryMetadata {
            kind: "p2p".to_owned(),
            id: self.peer_id().to_string(),
            packages: status.as_ref().map_or(0, |status| status.packages_indexed),
            peers: status.as_ref().map_or(0, |status| status.connected_peers),
        }
    }
}

/// Before the first connection stands, all that was signed counts as sent.
fn first_contact(store: &Store, keys: &Keys, offload: Offload) -> FirstContact {
    let (store, keys) = (store.clone(), keys.clone());
    FirstContact::new(move || {
        let (store, keys) = (store.clone(), keys.clone());
        Box::pin(async move {
            match offload.run(move || outbox::meet(&store, &keys)).await {
                Some(Ok(())) => true,
                failed => {
                    tracing::error!(
                        ?failed,
                        "a connection was given up: it could not be noted that there is one"
                    );
                    false
                }
            }
        })
    })
}

/// The runs of this node that are remembered, with this one.
const RUNS_REMEMBERED: usize = 16;

/// Begins a run, and remembers it beside those before it: one that others still know of is no other node.
fn runs(store: &Store) -> Result<Runs, store::Error> {
    const KEY: &str = "runs";
    #[expect(clippy::disallowed_methods, reason = "names one life of a process, once")]
    let own = Run::from_bytes(rand::random());
    store.write(|tx| {
        let bytes = meta::get(tx, KEY)?.unwrap_or_default();
        let (known, _) = bytes.as_chunks::<{ Run::BYTES }>();
        let earlier: Vec<Run> = known.iter().map(|bytes| Run::from_bytes(*bytes)).collect();
        let kept = earlier.iter().rev().take(RUNS_REMEMBERED - 1).rev().chain([&own]);
        let bytes: Vec<u8> = kept.flat_map(|run| run.to_bytes()).collect();
        meta::set(tx, KEY, &bytes)?;
        Ok(Runs::new(own, earlier))
    })
}

fn settings(config: &P2PConfig, first_contact: FirstContact, runs: Runs) -> network::Settings {
    network::Settings {
        topic: config.packages_topic.clone(),
        dht_server: config.dht_server_mode,
        reach: config.reach,
        listens: !config.listen_addresses.is_empty(),
        relay_server: config.relay_server,
        query_timeout: std::time::Duration::from_secs(config.query_timeout_secs),
        role: config.role,
        entry_points: config.entry_points(),
        connections_max: config.connections_max,
        connections: node::marks(config),
        first_contact,
        runs,
        line: network::Line::default(),
        spawner: Spawner::default(),
        machine: Machine::default(),
    }
}

/// What a node uses of its machine. One that listens on loopback alone can be found by nobody else, and looks for nobody.
fn machine(config: &P2PConfig) -> Machine {
    let is_here = |address: &Multiaddr| scope_of(address) == Scope::Loopback;
    let is_alone = !config.listen_addresses.is_empty() && config.listen_addresses.iter().all(is_here);
    Machine {
        quic: Some(Names::system()),
        interfaces: true,
        mdns: config.mdns && !is_alone,
        maps_ports: config.upnp && !is_alone,
    }
}

/// The folder of keys in the state folder.
pub(crate) const KEYS_FOLDER: &str = "keys";

fn open(folder: &Path) -> Result<(HomeLock, Store, Keypair), Failure> {
    let lock = HomeLock::acquire(folder).map_err(fail)?;
    let key_file = folder.join(KEYS_FOLDER).join(node_key::FILE_NAME);
    let key = node_key::load_or_create(&key_file, &folder.join(node_key::OWNER_FILE_NAME)).map_err(fail)?;
    let store = open_store(folder)?;
    store.keep_reserve();
    Ok((lock, store, key))
}

/// Opens the store of a state folder whose lock is held, and mends what is ours in it.
fn open_store(folder: &Path) -> Result<Store, Failure> {
    let (store, notes) = Store::open(folder, Timestamp::now()).map_err(fail)?;
    for note in &notes {
        tracing::warn!("{note}");
    }
    if recover::is_pending(&store).map_err(fail)? {
        // All of them, as it is done once.
        let publishers = Keys::Folder(folder.join(KEYS_FOLDER)).every()?;
        recover::recover(&store, &publishers, Timestamp::now())?;
    }
    place::resume_all(&store)?;
    Ok(store)
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("{} is not valid UTF-8.", path.display()),
            "Use a path that is text.",
        )
    })
}

fn gone(what: &str) -> Failure {
    Failure::new(Code::Failed, format!("Internal error: {what}."), "Look at its log.")
}
