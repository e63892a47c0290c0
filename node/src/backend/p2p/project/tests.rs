//! Projects on a node of one, with packages of its own.

use crate::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts},
    code::Code,
    control::{
        api::{
            AmendRequest, AnyPath, Change, Failure, OutdatedRequest, ProjectAction, ProjectDone,
            ProjectRequest, PublishRequest, VerifyRequest,
        },
        service::{Cancel, ProgressSender},
    },
    identity::Publisher,
    network::{Offload, Spawner, transport},
    package::{PackageId, PackageName},
    store::Store,
    time::Timestamp,
};

struct World {
    folder: tempfile::TempDir,
    registry: P2PRegistry,
    publisher: Publisher,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let publisher = Publisher::from_secret([1; 32], Timestamp::now());
        let parts = Parts {
            transport: transport::tcp_without_dns(),
            node_key: libp2p::identity::Keypair::generate_ed25519(),
            publisher: publisher.clone(),
            store: Store::in_memory().unwrap(),
            offload: Offload::Threads,
            spawner: Spawner::default(),
            observer: crate::network::Observer::default(),
            metrics: crate::network::Metrics::default(),
        };
        let registry = P2PRegistry::with_parts(P2PConfig::with_state_dir("/nowhere"), parts).await.unwrap();
        std::fs::create_dir(folder.path().join("project")).unwrap();
        std::fs::write(folder.path().join("project/gpack.toml"), "").unwrap();
        Self { folder, registry, publisher }
    }

    fn id(&self, name: &str) -> PackageId {
        PackageId { publisher: self.publisher.id(), name: name.parse::<PackageName>().unwrap() }
    }

    fn project(&self) -> std::path::PathBuf {
        self.folder.path().join("project")
    }

    async fn publish(&self, name: &str, version: &str, rest: &str, skip_verify: bool) -> Result<(), Failure> {
        let source = self.folder.path().join(name);
        std::fs::create_dir_all(&source).unwrap();
        let gpack =
            format!("name = \"{name}\"\nversion = \"{version}\"\ndescription = \"A package\"\n{rest}");
        std::fs::write(source.join("gpack.toml"), gpack).unwrap();
        std::fs::write(source.join("text"), version).unwrap();
        let request = PublishRequest {
            path: source.display().to_string(),
            skip_verify,
            timeout_secs: Some(1),
            ..PublishRequest::default()
        };
        self.registry.node.publish(request, ProgressSender::discard(), Cancel::default()).await.map(drop)
    }

    async fn amend(&self, change: Change, package: &str, message: &str) {
        let request = AmendRequest {
            change,
            package: package.to_owned(),
            message: message.to_owned(),
            timeout_secs: Some(1),
        };
        self.registry.node.amend(request).await.unwrap();
    }

    async fn run(&self, action: ProjectAction, with: ProjectRequest) -> Result<ProjectDone, Failure> {
        let request = ProjectRequest { directory: AnyPath(self.project()), action, ..with };
        self.registry.node.project(request, ProgressSender::discard()).await
    }

    async fn add(&self, package: &str) -> Result<ProjectDone, Failure> {
        let action = ProjectAction::Add { packages: vec![package.to_owned()], alias: None };
        self.run(action, ProjectRequest::default()).await
    }

    async fn verify(&self, request: VerifyRequest) -> Result<crate::control::api::Verified, Failure> {
        self.registry.node.verify(request).await
    }
}

fn has(warnings: &[String], part: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(part))
}

#[tokio::test]
async fn what_was_taken_back_of_a_locked_package_is_told_whatever_is_done_with_the_project() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.publish("old-kit", "1.0.0", "", true).await.unwrap();
    assert_eq!(world.add("web-kit").await.unwrap().warnings, [""; 0]);
    world.add("old-kit").await.unwrap();
    world.amend(Change::Yank, "web-kit@1.0.0", "loses a line").await;
    world.amend(Change::Deprecate, "old-kit", "use web-kit").await;
    let [plain, locked, frozen] = [(false, false), (true, false), (false, true)]
        .map(|(locked, frozen)| ProjectRequest { locked, frozen, ..ProjectRequest::default() });
    let dry_run = ProjectRequest { dry_run: true, ..ProjectRequest::default() };
    let offline = ProjectRequest { offline: true, ..ProjectRequest::default() };
    for with in [plain, locked, frozen, dry_run, offline] {
        let done = world.run(ProjectAction::Install, with.clone()).await.unwrap();
        for part in [
            "web-kit@1.0.0 was yanked",
            "stays locked: loses a line",
            "old-kit: deprecated by its publisher: use web-kit",
        ] {
            assert!(has(&done.warnings, part), "{part}: {with:?} {:?}", done.warnings);
        }
    }
    let outdated = OutdatedRequest { directory: AnyPath(world.project()), timeout_secs: None };
    let outdated = world.registry.node.outdated(outdated).await.unwrap();
    assert!(!has(&outdated.warnings, "nothing was changed"), "{:?}", outdated.warnings);
    let of = |name: &str| outdated.packages.iter().find(|it| it.name == name).unwrap().clone();
    assert_eq!(of("web-kit").yanked.as_deref(), Some("loses a line"));
    assert_eq!(of("old-kit").deprecated.as_deref(), Some("use web-kit"));
    // An update of another package is not kept back by it.
    world.publish("old-kit", "1.1.0", "", true).await.unwrap();
    let update = ProjectAction::Update { packages: Vec::new(), precise: None };
    let done = world.run(update, ProjectRequest::default()).await.unwrap();
    assert_eq!(done.changes.len(), 1, "{:?}", done.changes);
    assert!(has(&done.warnings, "stays locked: loses a line"), "{:?}", done.warnings);
}

#[tokio::test]
async fn a_project_is_verified_by_its_lock_file() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.publish("log-kit", "1.0.0", "", true).await.unwrap();
    for package in ["web-kit", "log-kit"] {
        world.add(package).await.unwrap();
    }
    let request = || VerifyRequest { project: Some(AnyPath(world.project())), ..VerifyRequest::default() };
    let well = world.verify(request()).await.unwrap();
    assert!(well.ok && well.others.len() == 1 && well.others[0].ok, "{well:?}");
    assert!(!well.signed_by.is_empty() && well.key_path.len() == 1, "{well:?}");
    let folder = world.project().join("gpacks/web-kit");
    let by_folder = VerifyRequest { path: Some(folder.display().to_string()), ..VerifyRequest::default() };
    assert!(world.verify(by_folder.clone()).await.unwrap().ok);
    std::fs::write(folder.join("text"), "changed").unwrap();
    let changed = world.verify(request()).await.unwrap();
    assert!(!changed.ok && changed.differences == ["changed: text"] && changed.others[0].ok, "{changed:?}");
    assert!(!world.verify(by_folder).await.unwrap().ok);
    std::fs::remove_dir_all(&folder).unwrap();
    let missing = world.verify(request()).await.unwrap();
    assert!(!missing.ok && missing.missing && !missing.gone, "{missing:?}");
    assert_eq!(missing.path, folder.display().to_string());
    std::fs::remove_dir_all(world.project().join("gpacks")).unwrap();
    let nothing = world.verify(request()).await.unwrap();
    assert!(nothing.missing && nothing.others[0].missing, "{nothing:?}");
    std::fs::remove_file(world.project().join("gpack.lock")).unwrap();
    assert_eq!(world.verify(request()).await.unwrap_err().code, Code::Conflict);
}

#[tokio::test]
async fn a_folder_that_never_was_there_is_not_said_to_be_gone() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.add("web-kit").await.unwrap();
    let nope = world.folder.path().join("nope").display().to_string();
    let named =
        VerifyRequest { package: "web-kit".to_owned(), path: Some(nope.clone()), ..VerifyRequest::default() };
    let failure = world.verify(named).await.unwrap_err();
    assert!(failure.code == Code::NotFound && failure.message.contains("does not exist"), "{failure:?}");
    let unnamed = VerifyRequest { path: Some(nope), ..VerifyRequest::default() };
    let failure = world.verify(unnamed).await.unwrap_err();
    assert!(
        failure.code == Code::NotFound && failure.message.contains("Nothing is installed"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_package_that_depends_on_itself_is_refused_whatever_is_skipped() {
    let world = World::new().await;
    let own = format!("[dependencies]\n\"{}\" = \"^1\"\n", world.id("web-kit"));
    for skip_verify in [false, true] {
        let failure = world.publish("web-kit", "1.0.0", &own, skip_verify).await.unwrap_err();
        assert_eq!(failure.exit_code(), 7, "{failure:?}");
        assert!(failure.message.contains("depends on itself"), "{failure:?}");
        assert!(
            failure.hint.contains("[dependencies]") && !failure.hint.contains("--skip-verify"),
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn a_name_that_is_nearly_right_is_told() {
    let world = World::new().await;
    world.publish("web-tools", "1.0.0", "", true).await.unwrap();
    for typed in ["web-tool", "wbe-tools", "web-tolls"] {
        let failure = world.add(typed).await.unwrap_err();
        assert!(failure.hint.contains("Did you mean \"web-tools\"?"), "{typed}: {failure:?}");
    }
    let failure = world.add("sql-pool").await.unwrap_err();
    assert!(!failure.hint.contains("Did you mean"), "{failure:?}");
}

#[tokio::test]
async fn a_package_of_which_all_was_yanked_can_be_had_as_the_hint_says() {
    let world = World::new().await;
    world.publish("auth-kit", "1.0.0", "", true).await.unwrap();
    world.amend(Change::Yank, "auth-kit@1.0.0", "").await;
    let failure = world.add("auth-kit").await.unwrap_err();
    assert!(!failure.message.contains("deleted"), "{failure:?}");
    assert!(failure.hint.contains("p2p add auth-kit@=1.0.0"), "{failure:?}");
    let done = world.add("auth-kit@=1.0.0").await.unwrap();
    assert!(has(&done.warnings, "was yanked by its publisher, and stays locked"), "{:?}", done.warnings);
    assert!(done.warnings.iter().all(|warning| !warning.ends_with(": ")), "{:?}", done.warnings);
}

#[test]
fn a_package_that_is_added_again_is_asked_for_as_the_newest_version_needs() {
    use semver::{Version, VersionReq};

    use super::{again_asked, compatible};
    let range = |text: &str| text.parse::<VersionReq>().unwrap();
    let newest = Version::new(2, 0, 0);
    assert_eq!(again_asked(None, &newest), compatible(&newest));
    assert_eq!(again_asked(Some(&range("^1")), &newest), compatible(&newest));
    assert_eq!(again_asked(Some(&range(">=1, <3")), &newest), range(">=1, <3"));
}
