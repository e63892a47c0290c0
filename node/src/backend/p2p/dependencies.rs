//! Looking up what a package depends on: before it is published, and after it was installed.
//!
//! What [`Resolution`] has to know comes from verified heads, logs and manifests. What cannot be known now, because the time
//! ran out, nobody is connected, or the node does not run, becomes a warning: only what is certainly wrong is refused.

use std::{collections::BTreeSet, path::Path, time::Duration};

use semver::Version;
use tokio::time::Instant;

use super::{
    failure::fail,
    gone,
    node::Node,
    offer::{Answer, Asker, Offer, Offers, clause, log_here, needed_here},
    part::Reading,
    place,
    resolve::Unread,
};
use crate::{
    catalog,
    code::Code,
    control::api::Failure,
    package::{
        Manifest, PackageId,
        dependencies::{Need, Report, Resolution, Root},
    },
    release::VerifiedHead,
    store::{Store, installed},
};

/// How long all lookups before a publication may take together.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the log of one package may take before the latest version has to do.
const LOG_PATIENCE: Duration = Duration::from_secs(4);
/// Dependencies that warnings name one by one; the rest is counted.
const WARNINGS_MAX: usize = 20;

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
        let own = root.package.clone();
        let asker = Asker::Publication { own: &own, deadline };
        let resolution = self.look_up_for(Resolution::new(root), asker, &mut Offers::default()).await?;
        let report = self.offload.run(move || resolution.finish("the time to look it up ran out")).await;
        report.ok_or_else(|| gone("the check of the dependencies"))
    }

    /// Finds the versions of a package, here and among the peers.
    pub(super) async fn look_up(&self, package: &PackageId, own: &PackageId) -> Answer {
        let unchecked = |why: String| Answer::unchecked(package.clone(), why);
        let found = match self.refuse_revoked(package).await {
            Ok(()) => self.head_of(package).await,
            Err(failure) => Err(failure),
        };
        let head = match found {
            Ok(head) => head,
            Err(failure) if failure.code == Code::NotFound => {
                return Answer::Versions(package.clone(), self.not_known(package).await, None);
            }
            Err(failure) => return unchecked(clause(&failure)),
        };
        let mut offer = match tokio::time::timeout(LOG_PATIENCE, self.log_as_held(&head, None)).await {
            Ok(Ok(Reading { log, missing })) => Offer::of_log(head, &log, missing.as_ref()),
            Ok(Err(Unread::Contradicts(failure))) => return unchecked(clause(&failure)),
            Ok(Err(Unread::Unavailable(_) | Unread::Unheld(..))) | Err(_) => {
                if !matches!(self.dispute(package).await, Ok(None)) {
                    let why = "its publisher signed two different states of it, and what is not contested is not known";
                    return unchecked(why.to_owned());
                }
                Offer::of_head(head)
            }
        };
        offer.unheard = package.publisher != own.publisher && !self.is_informed().await;
        Answer::offered(package.clone(), offer)
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
            let others: BTreeSet<&Version> =
                free.iter().chain(&of_projects).map(|row| &row.version).collect();
            let state = match (in_project, others.last()) {
                (Some(row), _) => {
                    format!("which is installed here for another project only, in {}", row.path.display())
                }
                (None, Some(only)) if others.len() == 1 => {
                    format!("of which only version {only} is installed here")
                }
                (None, Some(newest)) => {
                    format!("of which {} other versions are installed here, up to {newest}", others.len())
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
    let mut offers = Offers::default();
    loop {
        let needs = resolution.needs();
        if needs.is_empty() {
            return outcome(&package, resolution.finish("the node does not run"));
        }
        for need in needs {
            let answer = match need {
                Need::Versions(id) => look_up_here(store, id, &package),
                Need::Dependencies(id, version) => {
                    let found =
                        offers.packages.get(&id).ok_or_else(|| gone("a package that was just looked up"));
                    let found = found.and_then(|offer| needed_here(store, offer, &version));
                    Answer::Dependencies(id, version, found.map_err(|failure| clause(&failure)))
                }
            };
            answer.learn(&mut resolution, &mut offers);
        }
    }
}

fn look_up_here(store: &Store, package: PackageId, own: &PackageId) -> Answer {
    let read = store.read(|conn| Ok((catalog::get(conn, &package)?, catalog::is_frozen(conn, &package)?)));
    let unchecked = |why: &str| Answer::unchecked(package.clone(), why);
    let listed = match read.map_err(fail) {
        Ok((Some(_), true)) => return unchecked("its publisher signed two different states of it"),
        Ok((Some(listed), false)) => listed,
        Ok((None, _)) => return unchecked("the node does not run, and has not heard of it before"),
        Err(failure) => return unchecked(&clause(&failure)),
    };
    let head = match VerifiedHead::verify_stored(&listed.bytes).map_err(fail) {
        Ok(head) => head,
        Err(failure) => return unchecked(&clause(&failure)),
    };
    let offer = match log_here(store, &head) {
        Some(log) => Offer::of_log(head, &log, None),
        None => Offer::of_head(head),
    };
    let unheard = package.publisher != own.publisher;
    Answer::offered(package, Offer { unheard, ..offer })
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
