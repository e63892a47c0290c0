//! What counts no more since its publisher ended a double signing. The log says so, where it is here.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use semver::Version;
use tokio::time::timeout;

use super::{disputed, failure::fail, node::Node, offer::log_here};
use crate::{
    catalog,
    content::ContentId,
    control::api::Failure,
    limits::PROJECT_FETCHES_MAX,
    package::PackageId,
    project::{Lock, Locked},
    release::{Log, VerifiedHead, Withdrawn},
    store::Store,
};

/// How long the logs of packages may take that were signed twice, and are not here as that ended: all of them together.
const LOGS_PATIENCE: Duration = Duration::from_secs(4);

/// What is said of content that its publisher withdrew, behind its id and version.
pub(super) const WITHDRAWN: &str =
    "withdrawn: its publisher ended a double signing, and this content counts no more";

impl Node {
    /// Asks for the logs of packages whose publisher ended a double signing, where they are not here as that ended. Without them it
    /// is not known what was withdrawn. Yields the packages of which the log did not come.
    pub(super) async fn read_resolved(&self, packages: Vec<PackageId>) -> Result<Vec<PackageId>, Failure> {
        let unread = self.offload_store(move |store| {
            let mut heads = BTreeMap::new();
            for package in packages {
                if let Some(head) = resolved_head(store, &package)?
                    && log_here(store, &head).is_none()
                {
                    heads.insert(package, head);
                }
            }
            Ok(heads)
        });
        let mut missing = unread.await?;
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let heads: Vec<VerifiedHead> = missing.values().cloned().collect();
        let mut reading = stream::iter(heads)
            .map(|head| async move { (head.package_id(), self.log_of(&head).await.is_ok()) })
            .buffer_unordered(PROJECT_FETCHES_MAX);
        let all = async {
            while let Some((package, is_read)) = reading.next().await {
                if is_read {
                    missing.remove(&package);
                }
            }
        };
        let _is_late = timeout(LOGS_PATIENCE, all).await.is_err();
        for package in missing.keys() {
            tracing::warn!(%package, "what its publisher withdrew is not known");
        }
        Ok(missing.into_keys().collect())
    }

    /// The packages of a lock file of which the content that it names counts no more, as far as that is known here.
    pub(super) async fn withdrawn(&self, lock: &Lock) -> Result<Vec<PackageId>, Failure> {
        let locked: Vec<(PackageId, Locked)> = lock.packages.clone().into_iter().collect();
        self.offload_store(move |store| {
            let mut withdrawn = Vec::new();
            for (id, locked) in locked {
                if is_locked_withdrawn(store, &id, &locked)? {
                    withdrawn.push(id);
                }
            }
            Ok(withdrawn)
        })
        .await
    }
}

/// The listed head of a package whose publisher ended a double signing.
fn resolved_head(store: &Store, package: &PackageId) -> Result<Option<VerifiedHead>, Failure> {
    let listed = store.read(|conn| Ok(catalog::get(conn, package)?)).map_err(fail)?;
    let resolved = listed.filter(|listed| !listed.head.resolved.is_empty());
    Ok(resolved.and_then(|listed| VerifiedHead::verify_stored(&listed.bytes).ok()))
}

/// The log of a package whose publisher ended a double signing, where it is here as that ended.
fn resolved_log(store: &Store, package: &PackageId) -> Result<Option<(VerifiedHead, Log)>, Failure> {
    let head = resolved_head(store, package)?;
    Ok(head.and_then(|head| log_here(store, &head).map(|log| (head, log))))
}

/// What is said of content that is in no log.
pub(super) const NOT_IN_LOG: &str =
    "its publisher does not stand behind it: the log of the package, under later keys, does not have it";

/// Whether the log of a package has what is installed, as far as that is here, and later keys can have taken anything back.
pub(super) fn is_in_log(
    store: &Store,
    package: &PackageId,
    version: &Version,
    manifest: ContentId,
) -> Result<bool, Failure> {
    let read = store.read(|conn| Ok((catalog::get(conn, package)?, catalog::is_frozen(conn, package)?)));
    let (Some(listed), false) = read.map_err(fail)? else { return Ok(true) };
    let head = VerifiedHead::verify_stored(&listed.bytes).map_err(fail)?;
    let log = if head.seen().key_n == 0 { None } else { log_here(store, &head) };
    Ok(log.is_none_or(|log| log.versions().get(version).is_some_and(|it| it.release.manifest == manifest)))
}

/// Whether what is installed or was published counts no more.
pub(super) fn is_withdrawn(
    store: &Store,
    package: &PackageId,
    version: &Version,
    manifest: ContentId,
) -> Result<bool, Failure> {
    let log = resolved_log(store, package)?;
    let content = Withdrawn { version: version.clone(), manifest };
    Ok(log.is_some_and(|(_, log)| log.has_withdrawn(&content, None)))
}

/// Whether what a lock file names counts no more.
pub(super) fn is_locked_withdrawn(store: &Store, id: &PackageId, locked: &Locked) -> Result<bool, Failure> {
    let log = resolved_log(store, id)?;
    Ok(log.is_some_and(|(head, log)| names_withdrawn(&head, &log, locked)))
}

/// Whether what a lock file names counts no more by the log that a head names.
pub(super) fn names_withdrawn(head: &VerifiedHead, log: &Log, locked: &Locked) -> bool {
    let keys = head.key_log();
    let key_n = (0..=keys.current().n).find(|n| keys.document_id(*n) == Some(locked.keys));
    let content = Withdrawn { version: locked.version.clone(), manifest: locked.manifest };
    log.has_withdrawn(&content, key_n.map(|key_n| (locked.sequence, key_n)))
}

/// What is said of a package of a lock file that is frozen; nothing where it is not.
pub(super) fn frozen_in(
    store: &Store,
    id: &PackageId,
    locked: Option<&Locked>,
) -> Result<Option<String>, Failure> {
    let read =
        store.read(|conn| Ok((catalog::is_frozen(conn, id)?, catalog::get(conn, id)?))).map_err(fail)?;
    let (true, listed) = read else { return Ok(None) };
    let head = listed.and_then(|listed| VerifiedHead::verify_stored(&listed.bytes).ok());
    let is_contested = |locked: &&Locked| {
        let from_before = head.as_ref().map(|head| disputed::undisputed_here(store, head, &locked.version));
        !matches!(from_before, Some(Ok(release)) if release.manifest == locked.manifest)
    };
    let contested = locked.filter(is_contested).map(|locked| {
        format!(
            "; version {}, which is locked, is not from before, as far as is known here: it may be withdrawn",
            locked.version
        )
    });
    Ok(Some(format!("{id}: {}{}", disputed::FROZEN, contested.unwrap_or_default())))
}

/// The command that takes what counts in place of locked content that was withdrawn.
pub(super) fn remedy(packages: &[PackageId]) -> String {
    let names: Vec<String> = packages.iter().map(ToString::to_string).collect();
    format!("ggen marketplace p2p update {}", names.join(" "))
}
