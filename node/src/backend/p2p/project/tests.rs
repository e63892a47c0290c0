//! Projects on a node of one, with packages of its own.

use crate::{
    backend::p2p::{P2PConfig, P2PRegistry, Parts, verify::look_in},
    code::Code,
    content::{Codec, ContentId},
    control::{
        api::{
            AmendRequest, AnyPath, Change, Failure, InstallRequest, OutdatedRequest, ProjectAction,
            ProjectDone, ProjectRequest, PublishRequest, RemoveRequest, VerifyRequest,
        },
        service::{Cancel, ProgressSender},
    },
    identity::Publisher,
    network::{Offload, Spawner, transport},
    package::{PackageId, PackageName},
    store::Store,
    time::Timestamp,
};

mod backing;
mod withdrawn;

struct World {
    folder: tempfile::TempDir,
    registry: P2PRegistry,
    publisher: Publisher,
}

impl World {
    async fn new() -> Self {
        Self::of(Publisher::from_secret([1; 32], Timestamp::now())).await
    }

    async fn of(publisher: Publisher) -> Self {
        let folder = tempfile::tempdir().unwrap();
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
async fn what_nobody_waits_for_any_more_changes_no_project() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    let before = std::fs::read(world.project().join("gpack.toml")).unwrap();
    let (progress, reader) = ProgressSender::channel();
    drop(reader);
    let action = ProjectAction::Add { packages: vec!["web-kit".to_owned()], alias: None };
    let request = ProjectRequest { directory: AnyPath(world.project()), action, ..ProjectRequest::default() };
    let failure = world.registry.node.project(request, progress).await.unwrap_err();
    assert_eq!(failure.code, Code::Interrupted);
    assert_eq!(std::fs::read(world.project().join("gpack.toml")).unwrap(), before);
    assert!(!world.project().join("gpack.lock").exists() && !world.project().join("gpacks/web-kit").exists());
    world.add("web-kit").await.unwrap();
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

    use super::wanted::again_asked;
    use crate::project::plan::compatible;
    let range = |text: &str| text.parse::<VersionReq>().unwrap();
    let newest = Version::new(2, 0, 0);
    assert_eq!(again_asked(None, &newest), compatible(&newest));
    assert_eq!(again_asked(Some(&range("^1")), &newest), compatible(&newest));
    assert_eq!(again_asked(Some(&range(">=1, <3")), &newest), range(">=1, <3"));
}

fn text(world: &World, file: &str) -> std::path::PathBuf {
    world.project().join("gpacks/web-kit").join(file)
}

fn of_project(world: &World) -> VerifyRequest {
    VerifyRequest { project: Some(AnyPath(world.project())), ..VerifyRequest::default() }
}

#[tokio::test]
async fn what_differs_is_compared_again_once_no_command_changes_the_project() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.add("web-kit").await.unwrap();
    let by_name = VerifyRequest { package: "web-kit".to_owned(), ..VerifyRequest::default() };
    let file = text(&world, "text");
    for request in [of_project(&world), by_name] {
        // As in the middle of a change.
        let change = crate::project::Guard::lock(&world.project()).unwrap();
        std::fs::write(&file, "half").unwrap();
        let mut verifying = std::pin::pin!(world.verify(request.clone()));
        let waits = tokio::time::timeout(std::time::Duration::from_millis(300), verifying.as_mut()).await;
        assert!(waits.is_err(), "{waits:?}");
        std::fs::write(&file, "1.0.0").unwrap();
        drop(change);
        assert!(verifying.await.unwrap().ok, "{request:?}");
        // Where nothing differs, nobody is waited for.
        let _change = crate::project::Guard::lock(&world.project()).unwrap();
        assert!(world.verify(request).await.unwrap().ok);
    }
}

#[tokio::test]
async fn a_command_that_changes_the_project_all_the_while_is_told_and_nothing_is_called_changed() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.add("web-kit").await.unwrap();
    std::fs::write(text(&world, "text"), "half").unwrap();
    // As it is told after the wait.
    let busy = std::collections::BTreeSet::from([world.project().canonicalize().unwrap()]);
    let store = world.registry.node.store.clone();
    let failure = look_in(&store, &of_project(&world)).told_without(&busy).unwrap_err();
    assert!(failure.code == Code::Conflict && failure.message.starts_with("Another command"), "{failure:?}");
    let by_name = VerifyRequest { package: "web-kit".to_owned(), ..VerifyRequest::default() };
    let told = look_in(&store, &by_name).told_without(&busy).unwrap();
    assert!(told.interrupted && !told.ok && !told.differences[0].contains("changed: text"), "{told:?}");
    let nobody = std::collections::BTreeSet::new();
    let told = look_in(&store, &by_name).told_without(&nobody).unwrap();
    assert_eq!(told.differences, ["changed: text"]);
}

#[tokio::test]
async fn files_are_compared_although_the_lock_file_does_not_match() {
    let world = World::new().await;
    for package in ["web-kit", "log-kit"] {
        world.publish(package, "1.0.0", "", true).await.unwrap();
    }
    world.add("web-kit").await.unwrap();
    let gpack = std::fs::read_to_string(world.project().join("gpack.toml")).unwrap();
    let more = gpack.replacen(
        "[dependencies]\n",
        &format!("[dependencies]\n\"{}\" = \"^1\"\n", world.id("log-kit")),
        1,
    );
    std::fs::write(world.project().join("gpack.toml"), more).unwrap();
    let failure = world.verify(of_project(&world)).await.unwrap_err();
    assert_eq!(failure.code, Code::Conflict, "{failure:?}");
    assert!(
        failure.message.contains("is not locked") && failure.message.contains("as it was signed"),
        "{failure:?}"
    );
    std::fs::write(text(&world, "text"), "changed").unwrap();
    let both = world.verify(of_project(&world)).await.unwrap();
    assert!(!both.ok && both.differences == ["changed: text"], "{both:?}");
    assert!(both.misfits.len() == 1 && both.misfits[0].contains("log-kit is not locked"), "{both:?}");
}

#[tokio::test]
async fn a_lock_file_that_contradicts_what_was_signed_is_told_as_damaged() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    let without = world.verify(of_project(&world)).await.unwrap();
    assert!(without.ok && without.lock_missing, "{without:?}");
    world.add("web-kit").await.unwrap();
    let lock = world.project().join("gpack.lock");
    let bytes = std::fs::read_to_string(&lock).unwrap();
    std::fs::write(&lock, bytes.replace("sequence = 0", "sequence = 5")).unwrap();
    let told = world.verify(of_project(&world)).await.unwrap();
    assert!(!told.ok && told.contradicted, "{told:?}");
    // An entry that there never was is had from nobody, however many peers there are.
    let none = ContentId::of(Codec::DagCbor, b"none").to_string();
    let line = bytes.lines().find(|line| line.starts_with("entry = ")).unwrap();
    std::fs::write(&lock, bytes.replace(line, &format!("entry = \"{none}\""))).unwrap();
    let told = world.verify(of_project(&world)).await.unwrap();
    assert!(!told.ok && told.contradicted, "{told:?}");
    for with in backing::installs() {
        let failure = world.run(ProjectAction::Install, with.clone()).await.unwrap_err();
        let is_told = failure.code == Code::Malformed && failure.message.contains("by another entry");
        assert!(is_told && !failure.retryable, "{with:?}: {failure:?}");
    }
    let update = ProjectAction::Update { packages: Vec::new(), precise: None };
    let failure = world.run(update, ProjectRequest::default()).await.unwrap_err();
    assert_eq!(failure.code, Code::Malformed, "{failure:?}");
    // As the hint says.
    let failure = world.run(ProjectAction::Install, ProjectRequest::default()).await.unwrap_err();
    assert!(failure.hint.contains("delete it and run"), "{failure:?}");
    std::fs::remove_file(&lock).unwrap();
    world.run(ProjectAction::Install, ProjectRequest::default()).await.unwrap();
    assert!(world.verify(of_project(&world)).await.unwrap().ok);
}

#[tokio::test]
async fn a_dry_run_refuses_what_the_real_one_refuses() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.add("web-kit@=1.0.0").await.unwrap();
    world.publish("web-kit", "1.1.0", "", true).await.unwrap();
    std::fs::write(text(&world, "text"), "mine").unwrap();
    let remove = ProjectAction::Remove { packages: vec!["web-kit".to_owned()] };
    let add = ProjectAction::Add { packages: vec!["web-kit@^1.1".to_owned()], alias: None };
    for action in [remove, add] {
        let dry_run = ProjectRequest { dry_run: true, ..ProjectRequest::default() };
        let dry = world.run(action.clone(), dry_run.clone()).await.unwrap_err();
        let real = world.run(action.clone(), ProjectRequest::default()).await.unwrap_err();
        assert_eq!((dry.code, &dry.message, &dry.hint), (real.code, &real.message, &real.hint));
        assert!(dry.message.contains("Somebody changed"), "{dry:?}");
        let forced = ProjectRequest { force: true, ..dry_run };
        assert!(world.run(action, forced).await.unwrap().dry_run);
        assert_eq!(std::fs::read_to_string(text(&world, "text")).unwrap(), "mine");
    }
    std::fs::remove_dir_all(world.project().join("gpacks/web-kit")).unwrap();
    let dry_run = ProjectRequest { dry_run: true, ..ProjectRequest::default() };
    assert_eq!(world.run(ProjectAction::Install, dry_run).await.unwrap().written, 1);
    assert!(!world.project().join("gpacks/web-kit").exists());
}

#[tokio::test]
async fn what_was_written_is_told_and_what_a_cut_off_command_left_goes() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    assert_eq!(world.add("web-kit").await.unwrap().files, ["gpack.lock", "gpack.toml"]);
    let again = world.add("web-kit@^1").await.unwrap();
    assert_eq!(
        (again.written, again.changes.len(), &again.files[..]),
        (0, 0, &["gpack.toml".to_owned()][..])
    );
    let staged = world.project().join("gpacks/.ggen/next/web-kit");
    std::fs::create_dir_all(&staged).unwrap();
    let dry_run = ProjectRequest { dry_run: true, ..ProjectRequest::default() };
    world.run(ProjectAction::Install, dry_run).await.unwrap();
    assert!(staged.exists());
    let done = world.run(ProjectAction::Install, ProjectRequest::default()).await.unwrap();
    assert!(done.files.is_empty() && done.written == 0 && !staged.exists(), "{done:?}");
}

#[tokio::test]
async fn a_version_that_there_is_not_is_not_found_whoever_asks_for_it() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    let failure = world.add("web-kit@^9").await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound, "{failure:?}");
    assert!(failure.message.contains("its versions: 1.0.0"), "{failure:?}");
    world.add("web-kit").await.unwrap();
    let update = |version: &str| ProjectAction::Update {
        packages: vec!["web-kit".to_owned()],
        precise: Some(version.to_owned()),
    };
    let failure = world.run(update("1.9.0"), ProjectRequest::default()).await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound, "{failure:?}");
    assert!(failure.message.contains("web-kit has no version 1.9.0"), "{failure:?}");
    assert_eq!(failure.hint, "Its versions: 1.0.0");
    // There is such a version, and gpack.toml does not allow it.
    world.publish("web-kit", "2.0.0", "", true).await.unwrap();
    let failure = world.run(update("2.0.0"), ProjectRequest::default()).await.unwrap_err();
    assert_eq!(failure.code, Code::Conflict, "{failure:?}");
}

#[tokio::test]
async fn keys_that_mean_nothing_and_a_folder_that_is_left_are_told() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.add("web-kit").await.unwrap();
    let file = world.project().join("gpack.toml");
    let gpack = std::fs::read_to_string(&file).unwrap();
    let moved = format!("{gpack}\n[project]\nfolder = \"vendor\"\n\n[dev-dependencies]\n");
    std::fs::write(&file, moved).unwrap();
    let done = world.run(ProjectAction::Install, ProjectRequest::default()).await.unwrap();
    assert!(
        has(
            &done.warnings,
            "the key dev-dependencies is not known and is ignored. Did you mean dependencies?"
        ),
        "{done:?}"
    );
    assert!(
        has(&done.warnings, "1 package stays in") && has(&done.warnings, "gpacks, where nothing uses"),
        "{done:?}"
    );
    std::fs::remove_dir_all(world.project().join("gpacks")).unwrap();
    let done = world.run(ProjectAction::Install, ProjectRequest::default()).await.unwrap();
    assert!(!has(&done.warnings, "where nothing uses"), "{done:?}");
}

#[tokio::test]
async fn what_a_project_asks_for_is_not_removed_behind_its_back() {
    let world = World::new().await;
    world.publish("web-kit", "1.0.0", "", true).await.unwrap();
    world.add("web-kit").await.unwrap();
    for package in ["web-kit", "web-kit@1.0.0", "web-kit@^1"] {
        let request = RemoveRequest { package: package.to_owned(), ..RemoveRequest::default() };
        let failure = world.registry.node.remove(request).await.unwrap_err();
        assert!(
            failure.code == Code::Conflict && failure.hint.contains("--project"),
            "{package}: {failure:?}"
        );
    }
    assert!(world.project().join("gpacks/web-kit/text").exists());
    // Named twice, it goes once.
    let packages = vec!["web-kit".to_owned(), "web-kit".to_owned()];
    world.run(ProjectAction::Remove { packages }, ProjectRequest::default()).await.unwrap();
    assert!(!world.project().join("gpacks/web-kit").exists());
}

#[tokio::test]
async fn what_becomes_of_the_folders_is_told_where_the_lock_file_stays() {
    let world = World::new().await;
    for package in ["web-kit", "log-kit"] {
        world.publish(package, "1.0.0", "", true).await.unwrap();
        world.add(package).await.unwrap();
    }
    let lock = world.project().join("gpack.lock");
    let whole = std::fs::read_to_string(&lock).unwrap();
    let from = whole.find("[[package]]").unwrap();
    let second = whole[from + 1..].find("[[package]]").unwrap() + from + 1;
    std::fs::write(&lock, format!("{}{}", &whole[..from], &whole[second..])).unwrap();
    std::fs::remove_dir_all(world.project().join("gpacks/web-kit")).unwrap();
    let frozen = ProjectRequest { frozen: true, ..ProjectRequest::default() };
    let done = world.run(ProjectAction::Install, frozen).await.unwrap();
    assert!(done.changes.is_empty() && done.removed + done.written > 0, "{done:?}");
    assert_eq!(done.folders.len(), done.removed + done.written, "{:?}", done.folders);
    assert!(done.folders.iter().all(|it| it.id.ends_with(&it.name)), "{:?}", done.folders);
}

#[tokio::test]
async fn a_lock_file_that_invents_a_dependency_is_not_verified() {
    let world = World::new().await;
    for package in ["web-kit", "log-kit"] {
        world.publish(package, "1.0.0", "", true).await.unwrap();
        world.add(package).await.unwrap();
    }
    let lock = world.project().join("gpack.lock");
    let text = std::fs::read_to_string(&lock).unwrap();
    let invented = format!("dependencies = [\"{} ^1\"]\n", world.id("log-kit"));
    let at = text.find(&format!("id = \"{}\"", world.id("web-kit"))).unwrap();
    let end = text[at..].find("\n\n").map_or(text.len(), |end| at + end + 1);
    std::fs::write(&lock, format!("{}{invented}{}", &text[..end], &text[end..])).unwrap();
    let request = VerifyRequest { project: Some(AnyPath(world.project())), ..VerifyRequest::default() };
    let verified = world.verify(request).await.unwrap();
    assert!(!verified.ok && verified.contradicted, "{verified:?}");
}

#[tokio::test]
async fn a_version_that_nobody_has_now_gives_way_to_one_that_will_do() {
    let world = World::new().await;
    world.publish("core", "1.0.0", "", true).await.unwrap();
    world.publish("core", "1.0.1", "", true).await.unwrap();
    let needs = format!("[dependencies]\n\"{}\" = \"^1\"", world.id("core"));
    world.publish("web-kit", "1.0.0", &needs, true).await.unwrap();
    // The newest one is known by its head and its log alone.
    let store = world.registry.node.store.clone();
    let published = store.read(crate::store::published::list_all).unwrap();
    let newest = published.iter().find(|it| it.version.to_string() == "1.0.1").unwrap();
    let gone = [newest.manifest];
    store
        .remove_blocks_with(&gone, |tx| {
            crate::store::published::remove(tx, &newest.package, &newest.version).map(Some)
        })
        .unwrap();
    let add = ProjectAction::Add { packages: vec!["web-kit".to_owned()], alias: None };
    let done =
        world.run(add, ProjectRequest { timeout_secs: Some(20), ..ProjectRequest::default() }).await.unwrap();
    let core = done.packages.iter().find(|it| it.name == "core").unwrap();
    assert_eq!(core.version, "1.0.0");
    assert!(has(&done.warnings, "version 1.0.1 is left out"), "{:?}", done.warnings);
    // So it is where a person asks for the newest of it.
    let said = "version 1.0.1 is the newest, and nobody who was reached holds it";
    for dry_run in [true, false] {
        let to = world.folder.path().join("core-alone").display().to_string();
        let request = InstallRequest { package: "core".to_owned(), to, dry_run, ..InstallRequest::default() };
        let installed = world.registry.node.install(request, ProgressSender::discard()).await.unwrap();
        assert!(installed.version == "1.0.0" && installed.newer_announced, "{installed:?}");
        assert!(has(&installed.warnings, said), "{:?}", installed.warnings);
    }
    std::fs::remove_file(world.project().join("gpack.lock")).unwrap();
    std::fs::write(world.project().join("gpack.toml"), "").unwrap();
    let done = world.add("core").await.unwrap();
    assert!(done.packages[0].version == "1.0.0" && has(&done.warnings, said), "{done:?}");
    let gpack = std::fs::read_to_string(world.project().join("gpack.toml")).unwrap();
    assert!(gpack.contains("^1.0.0") && gpack.contains("core"), "{gpack}");
}
