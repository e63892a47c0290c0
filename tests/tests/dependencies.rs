//! Dependencies, checked by real nodes: in this process, over real TCP sockets on loopback.

#![allow(clippy::unwrap_used, reason = "a test that unwraps a failure fails, and says why")]

use std::{fs, path::Path, time::Duration};

use ggen_marketplace::{
    backend::p2p::{P2PConfig, P2PRegistry, publish_offline},
    code::Code,
    control::{
        api::{Failure, InstallRequest, Installed, PublishRequest, Published},
        service::{Cancel, ProgressSender, Service},
    },
};
use libp2p::Multiaddr;
use tempfile::TempDir;

/// How long two nodes on one machine may take to meet; generous, since machines that run tests are busy.
const SOON: Duration = Duration::from_secs(30);

struct Node {
    registry: P2PRegistry,
    address: Multiaddr,
    home: TempDir,
}

fn config(home: &Path, bootstrap: &[Multiaddr]) -> P2PConfig {
    P2PConfig {
        listen_addresses: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap_nodes: bootstrap.to_vec(),
        ..P2PConfig::with_state_dir(home.join("state"))
    }
}

/// Writes a package with some dependencies.
fn package(home: &Path, name: &str, version: &str, dependencies: &[(&str, &str)]) -> PublishRequest {
    let folder = home.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut text =
        format!("name = \"{name}\"\nversion = \"{version}\"\ndescription = \"A test\"\n\n[dependencies]\n");
    for (id, range) in dependencies {
        text.push_str(&format!("\"{id}\" = \"{range}\"\n"));
    }
    fs::write(folder.join("gpack.toml"), text).unwrap();
    PublishRequest { path: folder.to_str().unwrap().to_owned(), ..PublishRequest::default() }
}

impl Node {
    async fn start(bootstrap: &[Multiaddr]) -> Self {
        let home = TempDir::new().unwrap();
        let registry = P2PRegistry::new(config(home.path(), bootstrap)).await.unwrap();
        let bound = registry.start_listening().await.unwrap().remove(0);
        registry.subscribe_to_packages().await.unwrap();
        let peer = registry.peer_id();
        Self { address: bound.with_p2p(peer).unwrap(), registry, home }
    }

    /// Two nodes that have told each other what they know.
    async fn pair() -> (Self, Self) {
        let first = Self::start(&[]).await;
        let second = Self::start(std::slice::from_ref(&first.address)).await;
        for node in [&first, &second] {
            let met = async {
                loop {
                    let status = node.registry.status().await.unwrap();
                    if status.index_peers_total > 0 && status.index_peers_complete == status.index_peers_total
                    {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(SOON, met).await.unwrap();
        }
        (first, second)
    }

    async fn publish(
        &self,
        name: &str,
        version: &str,
        dependencies: &[(&str, &str)],
    ) -> Result<Published, Failure> {
        let request = package(self.home.path(), name, version, dependencies);
        self.registry.publish(request, ProgressSender::discard(), Cancel::default()).await
    }

    /// Publishes what must be refused, and yields why.
    async fn refused(&self, name: &str, version: &str, dependencies: &[(&str, &str)]) -> String {
        let failure = self.publish(name, version, dependencies).await.unwrap_err();
        assert_eq!(failure.code, Code::PackageInvalid, "{}", failure.message);
        let listed = self.registry.list().await.unwrap();
        let id = format!("/{name}@{version}");
        assert!(!listed.packages.iter().any(|it| it.id.ends_with(&id)), "a refused package was stored");
        failure.message
    }

    async fn install(&self, id: &str, folder: &str) -> Installed {
        let request = InstallRequest {
            package: id.to_owned(),
            to: self.home.path().join(folder).to_str().unwrap().to_owned(),
            ..InstallRequest::default()
        };
        self.registry.install(request, ProgressSender::discard()).await.unwrap()
    }
}

fn id(published: &Published) -> String {
    format!("{}/{}", published.publisher, published.name)
}

/// The warnings about dependencies among all warnings.
fn about_dependencies(warnings: &[String]) -> Vec<&String> {
    warnings.iter().filter(|warning| warning.contains("depend")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_publish_is_found_and_what_cannot_be_met_is_refused() {
    let (first, second) = Node::pair().await;
    let b = id(&first.publish("b", "1.0.0", &[]).await.unwrap());
    first.publish("b", "1.1.0", &[]).await.unwrap();

    let a = second.publish("a", "1.0.0", &[(&b, "^1")]).await.unwrap();
    assert_eq!(about_dependencies(&a.warnings), [""; 0]);
    let (a, publisher) = (id(&a), a.publisher);

    let message = second.refused("c", "1.0.0", &[(&b, "^9")]).await;
    assert!(message.contains("^9 by this package") && message.contains("1.1.0, 1.0.0"), "{message}");

    let own = format!("{publisher}/c");
    let nowhere = format!("{publisher}/nowhere");
    let message = second.refused("c", "1.0.0", &[(&own, "^1")]).await;
    assert!(message.contains(&format!("{own} depends on itself")), "{message}");
    let message = second.refused("c", "1.0.0", &[(&nowhere, "1"), (&b, "^9")]).await;
    assert!(message.contains(&format!("{nowhere} is not known to anybody")), "{message}");
    assert!(message.contains(&format!("no version of {b} is in the range")), "all at once: {message}");

    let message = first.refused("b", "1.2.0", &[(&a, "^1")]).await;
    assert!(message.contains(&format!("{b} -> {a} -> {b}")), "{message}");

    let narrow = id(&first.publish("narrow", "1.0.0", &[(&b, "~1.0")]).await.unwrap());
    let message = second.refused("c", "1.0.0", &[(&narrow, "1"), (&b, "^1.1")]).await;
    assert!(message.contains("is in all the ranges"), "{message}");
    assert!(message.contains(&format!("~1.0 by {narrow}@1.0.0")), "{message}");
    first.registry.shutdown().await;
    second.registry.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skipped_checks_are_noted_and_an_install_says_what_else_is_needed() {
    let (first, second) = Node::pair().await;
    let b = id(&first.publish("b", "1.0.0", &[]).await.unwrap());
    let unmet = package(first.home.path(), "a", "1.0.0", &[(&b, "^9")]);
    let skipped = PublishRequest { skip_verify: true, ..unmet };
    let a = id(&first.registry.publish(skipped, ProgressSender::discard(), Cancel::default()).await.unwrap());
    let c = id(&first.publish("c", "1.0.0", &[(&b, "^1")]).await.unwrap());

    let installed = second.install(&a, "a").await;
    assert!(
        installed.warnings.iter().any(|it| it.contains("skipped the checks")),
        "{:?}",
        installed.warnings
    );
    let needed =
        format!("it depends on {b} (^9), which is not installed here: ggen marketplace p2p install '{b}@^9'");
    assert_eq!(about_dependencies(&installed.warnings), [&needed]);

    second.install(&b, "b").await;
    let installed = second.install(&c, "c").await;
    assert_eq!(about_dependencies(&installed.warnings), [""; 0]);
    let installed = second.install(&a, "a").await;
    let about = about_dependencies(&installed.warnings);
    assert!(about.len() == 1 && about[0].contains("of which only version 1.0.0 is installed"), "{about:?}");
    first.registry.shutdown().await;
    second.registry.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_checked_alone_is_a_warning() {
    let alone = Node::start(&[]).await;
    let b = alone.publish("b", "1.0.0", &[]).await.unwrap();
    let unknown = format!("{}/unknown", b.publisher);
    let a = alone.publish("a", "1.0.0", &[(&unknown, "^1"), (&id(&b), "^1")]).await.unwrap();
    let about = about_dependencies(&a.warnings);
    assert!(
        about.len() == 1 && about[0].contains(&unknown) && about[0].contains("could not be checked"),
        "{about:?}"
    );
    // Of its own packages a node knows all versions.
    alone.refused("c", "1.0.0", &[(&id(&b), "^9")]).await;
    alone.registry.shutdown().await;

    let Node { home, registry, .. } = alone;
    drop(registry);
    let offline = async |name: &str, version: &str, dependencies: &[(&str, &str)]| {
        loop {
            let request = package(home.path(), name, version, dependencies);
            let config = config(home.path(), &[]);
            match publish_offline(config, request, ProgressSender::discard(), Cancel::default()).await {
                // The last task of the node that was dropped may hold its store for a moment.
                Err(failure) if failure.code == Code::AlreadyRunning => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => break done,
            }
        }
    };
    let d = offline("d", "1.0.0", &[(&unknown, "^1"), (&id(&b), "^1")]).await.unwrap();
    let about = about_dependencies(&d.warnings);
    assert!(about.len() == 1 && about[0].contains("the node does not run"), "{about:?}");
    let circle = offline("b", "1.1.0", &[(&id(&a), "^1")]).await.unwrap_err();
    assert!(
        circle.message.contains(&format!("{} -> {} -> {}", id(&b), id(&a), id(&b))),
        "{}",
        circle.message
    );
    let itself = offline("d", "1.1.0", &[(&id(&d), "^1")]).await.unwrap_err();
    assert!(itself.message.contains("depends on itself"), "{}", itself.message);
}
