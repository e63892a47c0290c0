//! Installing from what is on this machine alone, and saying what an installation would do.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};

use semver::Version;
use tokio::time::Instant;

use super::{
    P2PRegistry,
    collect::{PATIENCE, bytes_here},
    describe,
    failure::fail,
    fresh::{freshness_here, told},
    gone,
    install::{Begun, Job, as_held, as_installed, manifest_bytes, manifest_of, refuse_own_folders, target},
    meant::Meant,
    node::Node,
    offer::log_here,
    place::{self, Manner, Place},
    view::head_here,
};
use crate::{
    code::Code,
    config::P2PConfig,
    control::{
        api::{Failure, InstallRequest, Installed},
        service::ProgressSender,
    },
    fetch::session::Session,
    network::Handle,
    package::{PackageRef, SignedManifest, asked::Which},
    release::{Release, VerifiedHead},
    store::{Store, packages},
};

/// Installs a package from what is in the state folder of a node that does not run. It opens no socket, and asks and tells nobody.
///
/// # Errors
/// As the running node with [`InstallRequest::offline`], and [`Code::AlreadyRunning`] where one runs.
pub async fn install_offline(
    config: P2PConfig,
    request: InstallRequest,
    progress: ProgressSender,
) -> Result<Installed, Failure> {
    let request = InstallRequest { offline: true, ..request };
    P2PRegistry::alone(config, async |node| node.install(request, progress).await).await
}

/// A release that all is here of, and what is to be said of it.
struct AtHand {
    head: VerifiedHead,
    release: Release,
    warnings: Vec<String>,
}

impl Node {
    /// Installs what is meant from what is here, and asks nobody.
    pub(super) async fn install_at_hand(
        &self,
        request: &InstallRequest,
        progress: ProgressSender,
    ) -> Result<Installed, Failure> {
        let Meant { reference, which, .. } = self.meant(&request.package).await?;
        let target = target(&request.to)?;
        refuse_own_folders(&target, &self.config().state_dir)?;
        self.refuse_source(&target).await?;
        let relied_on = self.collecting.rely(Instant::now() + PATIENCE).await?;
        let which_asked = which.clone();
        let found = self.offload_store(move |store| at_hand(store, &reference, &which)).await?;
        let AtHand { head, release, mut warnings } = found;
        let newest = self.as_known(head).await?;
        if !matches!(which_asked, Which::Exact(_)) {
            let demand = self.demand(request.fresh, request.fresh_secs, true);
            newest.demanded(demand, self.now()).map_err(|stale| Failure {
                hint: "Run the same command without --offline, name a version (name@1.2.3), or demand less: ggen marketplace p2p config \
                       set install.max_age <DAYS>"
                    .to_owned(),
                ..stale
            })?;
            warnings.extend(newest.warning(self.now()));
        }
        let head = newest.head;
        warnings.extend(self.refuse_two_chains(&head).await?);
        warnings.extend(head.head().deprecated.as_deref().map(describe::deprecated));
        let manner = Manner { stays: request.stays, keeps: request.force };
        if request.dry_run {
            let seen = self.foreseen(&head, &release, &target, manner).await?;
            return Ok(Installed { warnings, ..seen });
        }
        let turn = self.replacing.clone().lock_owned().await;
        let ((at_work, store), offload, now) = (self.at_work(), self.offload, self.now());
        let written = self.offload.run(move || {
            // Kept to the end of the work, also where nobody waits for it any more.
            let (_relied_on, _turn, _at_work, store) = (relied_on, turn, at_work, store);
            let manifest = manifest_of(&store, &head.package_id(), &release, head.key_log())?;
            let manifest = Arc::new(manifest);
            let freshness =
                told(&freshness_here(&store, head.head(), head.bytes()).map_err(fail)?, None, now);
            let early = Arc::new(Begun { early: Mutex::new(None), offload });
            let job = Job { head, release, target, manifest, early, manner };
            Ok::<_, Failure>(Installed { freshness, ..job.write(&store, &progress)? })
        });
        let installed = written.await.ok_or_else(|| gone("the installation"))??;
        Ok(Installed { warnings, ..installed })
    }

    /// Says what an installation would do, once the manifest is here: no folder is touched.
    pub(super) async fn foreseen(
        &self,
        head: &VerifiedHead,
        release: &Release,
        target: &Path,
        manner: Manner,
    ) -> Result<Installed, Failure> {
        let (head, release, target, now) = (head.clone(), release.clone(), target.to_owned(), self.now());
        self.offload_store(move |store| {
            let package = head.package_id();
            let manifest = manifest_of(store, &package, &release, head.key_log())?;
            let place = place::foresee(store, &manifest, &target, manner.keeps)?;
            let held = as_held(package.clone(), &release);
            let lacking = match is_whole(store, &held)? {
                true => 0,
                false => release.size.saturating_sub(bytes_here(store, &held).map_err(fail)?),
            };
            let replaced = match &place {
                Place::Held(before) => Some(before.row.version.to_string()),
                Place::Free | Place::Open | Place::Whole => None,
            };
            Ok(Installed {
                bytes_fetched: lacking,
                already_installed: matches!(place, Place::Whole),
                replaced,
                dry_run: true,
                freshness: told(&freshness_here(store, head.head(), head.bytes()).map_err(fail)?, None, now),
                ..as_installed(&package, &release, &target)
            })
        })
        .await
    }

    /// Brings the manifest of a release here, and says what its installation would do.
    pub(super) async fn foreseen_of(
        &self,
        head: &VerifiedHead,
        release: &Release,
        (target, manner): (&Path, Manner),
        deadline: Instant,
    ) -> Result<Installed, Failure> {
        let _relied_on = self.collecting.rely(Instant::now() + PATIENCE).await?;
        let (sources, kept_out) =
            self.sources_and_others(release.root, deadline, super::sources::Looking::Twice);
        let store = self.store.clone();
        let session: Session<Handle> =
            Session::new(self.network.clone(), store, self.offload, deadline, sources);
        let mut session = session.of_tree(release.root);
        let manifest = self.manifest(&mut session, head, release).await;
        manifest.map_err(|failure| kept_out.explained(failure))?;
        self.foreseen(head, release, target, manner).await
    }
}

/// The newest release that is meant and that all is here of.
fn at_hand(store: &Store, reference: &PackageRef, which: &Which) -> Result<AtHand, Failure> {
    let (head, is_frozen) = head_here(store, reference).map_err(|failure| match failure.code {
        Code::NotFound => {
            let message = format!("No package \"{reference}\" is known on this machine.");
            Failure::new(Code::NotFound, message, "Ask other nodes too: without --offline")
        }
        _ => failure,
    })?;
    let package = head.package_id();
    if is_frozen {
        return Err(Failure::new(
            Code::Equivocation,
            format!(
                "{package} was signed twice, and what of it is undisputed is not told without other nodes."
            ),
            format!("Ask other nodes too: ggen marketplace p2p install {package}"),
        ));
    }
    let mut known: BTreeMap<Version, (Release, Option<String>)> = BTreeMap::new();
    let log = log_here(store, &head);
    if let Some(log) = log.as_ref().filter(|log| !log.is_tombstoned()) {
        let states = log.versions().iter();
        known.extend(states.map(|(version, it)| (version.clone(), (it.release.clone(), it.yanked.clone()))));
    }
    if let Some(latest) = &head.head().latest {
        known.entry(latest.version.clone()).or_insert_with(|| (latest.clone(), None));
    }
    // Of a package that was deleted nothing is left to choose.
    let mut of_manifests = BTreeSet::new();
    if log.is_none() && head.head().latest.is_some() {
        for held in store.read(packages::list_all).map_err(fail)? {
            let version = held.version.clone();
            let is_asked = !matches!(which, Which::Exact(exact) if *exact != version);
            if held.package != package || !is_asked || known.contains_key(&version) {
                continue;
            }
            let release = match (from_manifest(store, &head, held), which) {
                (Ok(release), _) => release,
                (Err(failure), Which::Exact(_)) => return Err(failure),
                (Err(failure), _) => {
                    tracing::warn!(%package, %version, failure = failure.message, "a version that is here cannot be read");
                    continue;
                }
            };
            let is_yanked = head.head().yanked.contains(&version).then(String::new);
            known.insert(version.clone(), (release, is_yanked));
            of_manifests.insert(version);
        }
    }
    let mut warnings = Vec::new();
    let latest = head.head().latest.as_ref().map(|latest| &latest.version);
    let is_meant = |version: &Version, yanked: &Option<String>| match which {
        Which::Exact(exact) => version == exact,
        Which::Range(range) => yanked.is_none() && range.matches(version),
        // Nothing that was not yanked is newer.
        Which::Latest => {
            yanked.is_none()
                && latest.is_some_and(|latest| version <= latest)
                && (version.pre.is_empty() || latest == Some(version))
        }
    };
    let mut newest: Option<Release> = None;
    for (version, (release, yanked)) in known.into_iter().rev() {
        if !is_meant(&version, &yanked) {
            continue;
        }
        let held = as_held(package.clone(), &release);
        if !is_whole(store, &held)? {
            newest.get_or_insert(release);
            continue;
        }
        warnings.extend(yanked.iter().map(|reason| describe::yanked(&version, reason)));
        if of_manifests.contains(&version) && yanked.is_none() {
            warnings.push(format!(
                "the newest history of {package} is not on this machine, and so not whether version {version} was yanked since"
            ));
        }
        warnings.extend(newest.map(|newer| {
            format!(
                "version {} is the newest that is known here, and it is not on this machine",
                newer.version
            )
        }));
        return Ok(AtHand { head, release, warnings });
    }
    let Some(release) = newest else {
        return Err(Failure::new(
            Code::NotFound,
            format!("No version of {package} that is known on this machine is the one that is meant."),
            format!(
                "Ask other nodes too: without --offline. What is known: ggen marketplace p2p info {package}"
            ),
        ));
    };
    let here = bytes_here(store, &as_held(package.clone(), &release)).map_err(fail)?;
    Err(Failure::new(
        Code::NoProviders,
        format!(
            "{package}@{} is not on this machine: {here} of its {} bytes are.",
            release.version, release.size
        ),
        "Take the rest from other nodes: without --offline",
    ))
}

/// A version that was verified when it came here, where the newest entries of its log did not: its manifest has all that its release
/// says.
fn from_manifest(
    store: &Store,
    head: &VerifiedHead,
    held: packages::HeldPackage,
) -> Result<Release, Failure> {
    let packages::HeldPackage { root, manifest, size, version, .. } = held;
    let release = Release { version, manifest, root, size, files: 0 };
    let signed = SignedManifest::decode_and_verify(manifest_bytes(store, &release.manifest)?, head.key_log());
    let files = signed.map_err(fail)?.into_manifest().files().len() as u64;
    let release = Release { files, ..release };
    // That it is of this package and version is compared here.
    manifest_of(store, &head.package_id(), &release, head.key_log())?;
    Ok(release)
}

/// Whether all of a release is here, as was noted when it was whole.
pub(super) fn is_whole(store: &Store, held: &packages::HeldPackage) -> Result<bool, Failure> {
    let rows = store.read(|conn| packages::get(conn, &held.root)).map_err(fail)?;
    Ok(rows.iter().any(|row| row.manifest == held.manifest))
}
