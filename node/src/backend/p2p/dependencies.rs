//! Looking up what a package depends on: before it is published, and after it was installed.
//!
//! What [`Resolution`] has to know comes from verified heads, logs and manifests. What cannot be known now, because the time
//! ran out, nobody is connected, or the node does not run, becomes a warning: only what is certainly wrong is refused.

use std::{collections::BTreeMap, path::Path, time::Duration};

use futures::{StreamExt, stream};
use semver::Version;
use tokio::time::{Instant, timeout_at};

use super::{
    failure::fail, gone, install::manifest_of, node::Node, part::Reading, place, resolve::Unread,
    sources::Looking,
};
use crate::{
    catalog,
    code::Code,
    control::api::Failure,
    fetch::session::Session,
    package::{
        Manifest, PackageId,
        dependencies::{Candidate, Dependencies, Need, Ranges, Report, Resolution, Root, Versions},
    },
    release::{Gathered, Log, Release, SignedEntry, VerifiedHead},
    store::{Store, installed},
};

/// How long all lookups before a publication may take together.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the log of one package may take before the latest version has to do.
const LOG_PATIENCE: Duration = Duration::from_secs(4);
/// Packages that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// Dependencies that warnings name one by one; the rest is counted.
const WARNINGS_MAX: usize = 20;

/// The signed state of a package: its head, and the releases that are known.
struct Known {
    head: VerifiedHead,
    releases: BTreeMap<Version, (Release, bool)>,
    /// Whether these are all releases of the head's log.
    is_whole: bool,
}

/// What one lookup yielded.
enum Answer {
    Versions(PackageId, Versions, Option<Box<Known>>),
    Dependencies(PackageId, Version, Dependencies),
}

impl Node {
    /// Checks that the dependencies of a package that is about to be published can be had together; yields what could not
    /// be checked, as full sentences.
    pub(super) async fn check_dependencies(&self, root: Root) -> Result<Vec<String>, Failure> {
        if root.dependencies.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + LOOK_TIMEOUT;
        let package = root.package.clone();
        let mut report = self.resolve_dependencies(root.clone(), deadline).await?;
        // Half of what is left for asking, so that the other half is left for looking.
        let left = deadline.saturating_duration_since(Instant::now()) / 2;
        if !report.problems.is_empty() && !left.is_zero() && self.network.refresh(left).await.is_ok() {
            // What is missing may have been published since the peers were last asked.
            report = self.resolve_dependencies(root, deadline).await?;
        }
        outcome(&package, report)
    }

    async fn resolve_dependencies(&self, root: Root, deadline: Instant) -> Result<Report, Failure> {
        let package = root.package.clone();
        let mut resolution = Resolution::new(root);
        let mut known: BTreeMap<PackageId, Box<Known>> = BTreeMap::new();
        while Instant::now() < deadline {
            let needs;
            (resolution, needs) = self.think(resolution).await?;
            if needs.is_empty() {
                break;
            }
            let lookups = stream::iter(needs).map(|need| self.answer(need, &package, &known, deadline));
            let answers: Vec<Answer> = lookups.buffer_unordered(LOOKUPS_AT_ONCE).collect().await;
            for answer in answers {
                learn(&mut resolution, &mut known, answer);
            }
        }
        let report = self.offload.run(move || resolution.finish("the time to look it up ran out")).await;
        report.ok_or_else(|| gone("the check of the dependencies"))
    }

    /// Goes on with a resolution beside the runtime: a hostile graph can keep a processor busy for a second.
    async fn think(&self, mut resolution: Resolution) -> Result<(Resolution, Vec<Need>), Failure> {
        let thought = self.offload.run(move || {
            let needs = resolution.needs();
            (resolution, needs)
        });
        thought.await.ok_or_else(|| gone("the check of the dependencies"))
    }

    async fn answer(
        &self,
        need: Need,
        own: &PackageId,
        known: &BTreeMap<PackageId, Box<Known>>,
        deadline: Instant,
    ) -> Answer {
        match need {
            Need::Versions(package) => {
                let (versions, known) =
                    timeout_at(deadline, self.look_up(&package, own)).await.unwrap_or_else(|_| {
                        (Versions::Unchecked("the time to look it up ran out".to_owned()), None)
                    });
                Answer::Versions(package, versions, known)
            }
            Need::Dependencies(package, version) => {
                let found = match known.get(&package) {
                    Some(known) => timeout_at(deadline, self.needed_by(known, &version, deadline)).await,
                    None => Ok(Err(gone("a package that was just looked up"))),
                };
                let dependencies = match found {
                    Ok(Ok(ranges)) => Dependencies::Known(ranges),
                    Ok(Err(failure)) => Dependencies::Unchecked(no_manifest(&version, &failure)),
                    Err(_) => Dependencies::Unchecked("the time to fetch its manifest ran out".to_owned()),
                };
                Answer::Dependencies(package, version, dependencies)
            }
        }
    }

    /// Finds the versions of a package, here and among the peers.
    async fn look_up(&self, package: &PackageId, own: &PackageId) -> (Versions, Option<Box<Known>>) {
        let head = match self.head_of(package).await {
            Ok(head) => head,
            Err(failure) if failure.code == Code::NotFound => {
                return (self.not_known(package).await, None);
            }
            Err(failure) => return (Versions::Unchecked(clause(&failure)), None),
        };
        let known = match tokio::time::timeout(LOG_PATIENCE, self.log_as_held(&head, None)).await {
            Ok(Ok(Reading { log, missing })) => {
                Known { is_whole: missing.is_none(), ..Known::of_log(head, &log) }
            }
            Ok(Err(Unread::Contradicts(failure))) => return (Versions::Unchecked(clause(&failure)), None),
            Ok(Err(Unread::Unavailable(_) | Unread::Unheld(..))) | Err(_) => {
                if !matches!(self.dispute(package).await, Ok(None)) {
                    let why = "its publisher signed two different states of it, and what is not contested is not known";
                    return (Versions::Unchecked(why.to_owned()), None);
                }
                Known::of_head(head)
            }
        };
        let versions = if package.publisher == own.publisher || self.is_informed().await {
            known.versions(None)
        } else {
            known.versions(Some("no peer is connected to tell of newer versions"))
        };
        (versions, Some(Box::new(known)))
    }

    /// What it means that no head of a package was found.
    pub(super) async fn not_known(&self, package: &PackageId) -> Versions {
        if !self.is_informed().await {
            return Versions::Unchecked("no peer that was read completely is connected to ask".to_owned());
        }
        let package = package.clone();
        let listed = self.with_store(move |store| store.read(|conn| Ok(catalog::get(conn, &package)?)));
        match listed.await {
            Ok(None) => Versions::Missing,
            Ok(Some(_)) => Versions::Unchecked("its head does not verify".to_owned()),
            Err(failure) => Versions::Unchecked(clause(&failure)),
        }
    }

    /// Whether what is not known here is not known to the peers either: some are connected, and all of them were read.
    async fn is_informed(&self) -> bool {
        self.network
            .snapshot()
            .await
            .is_ok_and(|snapshot| snapshot.heads_peers > 0 && snapshot.heads_complete == snapshot.heads_peers)
    }

    /// What a version needs, from its signed manifest.
    async fn needed_by(
        &self,
        known: &Known,
        version: &Version,
        deadline: Instant,
    ) -> Result<Ranges, Failure> {
        let release = known.release(version)?;
        let (head, wanted) = (known.head.clone(), release.clone());
        let held =
            self.offload_store(move |store| manifest_of(store, &head.package_id(), &wanted, head.key_log()));
        let manifest = match held.await {
            Ok(manifest) => manifest,
            Err(_) => {
                let sources = self.sources(release.root, deadline, Looking::Once);
                let mut session =
                    Session::new(self.network.clone(), self.store.clone(), self.offload, deadline, sources);
                let manifest = self.manifest(&mut session, &known.head, release).await;
                self.refuse_forgers(session.report()).await;
                manifest?
            }
        };
        Ok(manifest.gpack().dependencies.clone())
    }

    /// One sentence for each dependency of an installed package that is not installed here.
    pub(super) async fn not_installed(
        &self,
        manifest: &Manifest,
        target: &Path,
    ) -> Result<Vec<String>, Failure> {
        let dependencies = &manifest.gpack().dependencies;
        if dependencies.is_empty() {
            return Ok(Vec::new());
        }
        let here = self.with_store(|store| store.read(installed::list_all)).await?;
        let here: Vec<_> = here.into_iter().filter(|row| !place::is_gone(&row.path)).collect();
        let lacking = dependencies.iter().filter_map(|(package, range)| {
            // What a project keeps for itself is found by nobody else, and goes when the project no longer needs it.
            let (of_projects, free): (Vec<_>, Vec<_>) = here
                .iter()
                .filter(|row| row.package == *package)
                .partition(|row| is_of_project(&row.path) && row.path.parent() != target.parent());
            if free.iter().any(|row| range.matches(&row.version)) {
                return None;
            }
            let in_project = of_projects.iter().find(|row| range.matches(&row.version));
            let state = match (free.iter().map(|row| &row.version).max(), in_project) {
                (Some(version), _) => format!("of which only version {version} is installed here"),
                (None, Some(row)) => {
                    format!("which is installed here for another project only, in {}", row.path.display())
                }
                (None, None) => "which is not installed here".to_owned(),
            };
            Some(format!(
                "it depends on {package} ({range}), {state}: ggen marketplace p2p install '{package}@{range}'"
            ))
        });
        Ok(capped(lacking.collect(), "dependencies are not installed here"))
    }
}

/// Whether a folder is one of those that a project keeps its packages in.
fn is_of_project(path: &Path) -> bool {
    path.parent().is_some_and(|site| site.join(".ggen").join("index.json").is_file())
}

/// As [`Node::check_dependencies`], from what the store of a node that does not run knows.
pub(super) fn check_offline(store: &Store, root: Root) -> Result<Vec<String>, Failure> {
    let package = root.package.clone();
    let mut resolution = Resolution::new(root);
    let mut known: BTreeMap<PackageId, Box<Known>> = BTreeMap::new();
    loop {
        let needs = resolution.needs();
        if needs.is_empty() {
            return outcome(&package, resolution.finish("the node does not run"));
        }
        for need in needs {
            let answer = match need {
                Need::Versions(id) => {
                    let (versions, known) = look_up_here(store, &id, &package);
                    Answer::Versions(id, versions, known)
                }
                Need::Dependencies(id, version) => {
                    let found = known.get(&id).ok_or_else(|| gone("a package that was just looked up"));
                    let dependencies = match found.and_then(|known| needed_here(store, known, &version)) {
                        Ok(ranges) => Dependencies::Known(ranges),
                        Err(failure) => Dependencies::Unchecked(no_manifest(&version, &failure)),
                    };
                    Answer::Dependencies(id, version, dependencies)
                }
            };
            learn(&mut resolution, &mut known, answer);
        }
    }
}

fn look_up_here(store: &Store, package: &PackageId, own: &PackageId) -> (Versions, Option<Box<Known>>) {
    let read = store.read(|conn| Ok((catalog::get(conn, package)?, catalog::is_frozen(conn, package)?)));
    let unchecked = |why: &str| (Versions::Unchecked(why.to_owned()), None);
    let listed = match read.map_err(fail) {
        Ok((Some(_), true)) => return unchecked("its publisher signed two different states of it"),
        Ok((Some(listed), false)) => listed,
        Ok((None, _)) => return unchecked("the node does not run, and has not heard of it before"),
        Err(failure) => return unchecked(&clause(&failure)),
    };
    let is_own = package.publisher == own.publisher;
    let head = match VerifiedHead::verify_stored(&listed.bytes).map_err(fail) {
        Ok(head) => head,
        Err(failure) => return unchecked(&clause(&failure)),
    };
    let known = match log_here(store, &head) {
        Some(log) => Known::of_log(head, &log),
        None => Known::of_head(head),
    };
    let stale = "the node does not run, so newer versions may not be known here";
    (known.versions((!is_own).then_some(stale)), Some(Box::new(known)))
}

/// The log of a package, where all of it is here.
pub(super) fn log_here(store: &Store, head: &VerifiedHead) -> Option<Log> {
    let mut entries = Gathered::default();
    let mut next = Some(head.head().entry);
    while let Some(id) = next {
        let block = store.block(&id).ok()??;
        let signed = SignedEntry::decode_and_verify(block.bytes(), head.key_log()).ok()?;
        next = signed.entry().previous;
        entries.push(signed).ok()?;
    }
    let log = Log::verify(entries.into_entries()).ok()?;
    log.anchored(head).ok()?;
    Some(log)
}

fn needed_here(store: &Store, known: &Known, version: &Version) -> Result<Ranges, Failure> {
    let release = known.release(version)?;
    let manifest = manifest_of(store, &known.head.package_id(), release, known.head.key_log())?;
    Ok(manifest.gpack().dependencies.clone())
}

impl Known {
    fn of_log(head: VerifiedHead, log: &Log) -> Self {
        let one = |(version, state): (&Version, &crate::release::VersionState)| {
            let is_gone = state.yanked.is_some() || log.is_tombstoned();
            (version.clone(), (state.release.clone(), is_gone))
        };
        let releases = log.versions().iter().map(one).collect();
        Self { head, releases, is_whole: true }
    }

    /// The latest version only: the log could not be had.
    fn of_head(head: VerifiedHead) -> Self {
        let latest = head.head().latest.iter();
        let releases = latest.map(|latest| (latest.version.clone(), (latest.clone(), false))).collect();
        Self { head, releases, is_whole: false }
    }

    /// The versions, which may not be all there are for a reason that is given.
    fn versions(&self, stale: Option<&str>) -> Versions {
        let one = |(version, (_, yanked)): (&Version, &(Release, bool))| Candidate {
            version: version.clone(),
            yanked: *yanked,
        };
        let list = self.releases.iter().map(one).collect();
        match stale {
            _ if !self.is_whole => Versions::Some(list, "not all of its versions are known now".to_owned()),
            Some(why) => Versions::Some(list, why.to_owned()),
            None => Versions::All(list),
        }
    }

    fn release(&self, version: &Version) -> Result<&Release, Failure> {
        let release = self.releases.get(version).map(|(release, _)| release);
        release.ok_or_else(|| gone("a version that was just looked up"))
    }
}

fn learn(resolution: &mut Resolution, all: &mut BTreeMap<PackageId, Box<Known>>, answer: Answer) {
    match answer {
        Answer::Versions(package, versions, known) => {
            all.extend(known.map(|known| (package.clone(), known)));
            resolution.learn_versions(package, versions);
        }
        Answer::Dependencies(package, version, dependencies) => {
            resolution.learn_dependencies(package, version, dependencies);
        }
    }
}

/// Refuses real problems, and yields a warning for what is not known.
fn outcome(package: &PackageId, report: Report) -> Result<Vec<String>, Failure> {
    if !report.problems.is_empty() {
        let list: Vec<String> = report.problems.iter().map(|problem| format!("  {problem}")).collect();
        return Err(Failure::new(
            Code::PackageInvalid,
            format!(
                "The dependencies of {} cannot be met; nothing was changed.\n{}",
                package.name,
                list.join("\n")
            ),
            "Correct the dependencies in gpack.toml, or publish all the same with --skip-verify.",
        ));
    }
    let unchecked = report.unchecked.iter();
    let warnings =
        unchecked.map(|(package, why)| format!("the dependency {package} could not be checked now: {why}"));
    Ok(capped(warnings.collect(), "dependencies could not be checked now"))
}

/// Keeps the first warnings and counts the rest.
fn capped(mut warnings: Vec<String>, what: &str) -> Vec<String> {
    let more = warnings.len().saturating_sub(WARNINGS_MAX);
    if more > 0 {
        warnings.truncate(WARNINGS_MAX);
        warnings.push(format!("{more} more {what}"));
    }
    warnings
}

fn no_manifest(version: &Version, failure: &Failure) -> String {
    format!("what its version {version} needs is not known here: {}", clause(failure))
}

/// A message as the second half of a sentence.
fn clause(failure: &Failure) -> String {
    failure.message.trim_end_matches('.').to_owned()
}
