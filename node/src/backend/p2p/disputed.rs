//! What of a package can still be used while a double signing of its publisher stands: every version up to the place where
//! the branches of its log part.
//!
//! All branches are read for that: none of the two signed statements that prove the double signing says where it began.

use semver::Version;

use super::{describe, failure::fail, node::Node, resolve::Unread};
use crate::{
    catalog::{self, Proof},
    code::Code,
    control::api::Failure,
    fetch::log,
    package::PackageId,
    release::{Log, Release, Sequence, SignedEntry, VerifiedHead},
    store::Store,
};

/// What is said wherever a package is shown whose publisher signed two states for one place.
pub(super) const FROZEN: &str = "frozen: its publisher signed two different states for one place (double signing); versions \
                                 from before it can be installed, newer ones once its publisher has resolved it";

impl Node {
    /// The proofs for which a package is frozen; none where it is not.
    pub(super) async fn dispute(&self, package: &PackageId) -> Result<Option<Vec<Proof>>, Failure> {
        let package = package.clone();
        self.with_store(move |store| proofs_here(store, &package)).await
    }

    /// The part of a log that no branch contests.
    pub(super) async fn undisputed(
        &self,
        head: &VerifiedHead,
        log: Log,
        proofs: &[Proof],
    ) -> Result<Log, Unread> {
        if proofs.is_empty() {
            let why = "the proof of it was dropped for want of room, so that it is not known where it began";
            return Err(Unread::Unavailable(frozen(&head.package_id(), why)));
        }
        let branches = self.branches(head, &log, proofs).await?;
        common(log, &branches).map_err(|error| Unread::Unavailable(fail(error)))
    }

    /// The other branches of a log, as far as statements that prove a double signing name them.
    pub(super) async fn branches(
        &self,
        head: &VerifiedHead,
        log: &Log,
        proofs: &[Proof],
    ) -> Result<Vec<Log>, Unread> {
        let mut branches: Vec<Log> = Vec::new();
        let holds = |log: &Log, id| log.entries().iter().any(|entry| entry.id() == id);
        let statements = proofs.iter().flat_map(|proof| [&proof.first, &proof.second]);
        for statement in statements {
            let branch = match VerifiedHead::verify_stored(statement) {
                Ok(named) if holds(log, named.head().entry) => continue,
                Ok(named) if branches.iter().any(|branch| holds(branch, named.head().entry)) => continue,
                Ok(named) => self.read_log(&named).await?,
                Err(_) => match SignedEntry::decode_and_verify(statement, head.key_log()) {
                    Ok(entry) if holds(log, entry.id()) => continue,
                    Ok(entry) => self.log_until(entry, head).await?,
                    Err(error) => return Err(Unread::Unavailable(fail(error))),
                },
            };
            branches.push(branch);
        }
        Ok(branches)
    }

    /// The log that ends with an entry.
    async fn log_until(&self, last: SignedEntry, head: &VerifiedHead) -> Result<Log, Unread> {
        let before = last.entry().previous.zip(last.entry().sequence.get().checked_sub(1));
        let mut entries = match before {
            Some((newest, sequence)) => {
                let sequence = Sequence::new(sequence);
                let wanted = log::Wanted { newest, sequence, ..log::Wanted::of(head, None) };
                self.entries(head, wanted, None).await?
            }
            None => Vec::new(),
        };
        entries.push(last);
        Log::verify(entries).map_err(|error| Unread::Unavailable(fail(error)))
    }

    /// The release that is meant of a package that is frozen.
    pub(super) async fn undisputed_release(
        &self,
        head: &VerifiedHead,
        version: Option<&Version>,
    ) -> Result<(Release, Vec<String>), Failure> {
        let package = head.package_id();
        let log = self.log_of(head).await.map_err(|unread| {
            let failure = Failure::from(unread);
            frozen(&package, &format!("where its branches part is not known: {}", clause(&failure.message)))
        })?;
        let Some(version) = version else {
            let latest =
                log.latest().cloned().ok_or_else(|| frozen(&package, "no version is from before that"))?;
            let said = format!("{FROZEN}; this is the newest that is not contested: {}", latest.version);
            return Ok((latest, vec![said]));
        };
        let Some(state) = log.versions().get(version) else {
            let known: Vec<String> = log.versions().keys().map(Version::to_string).collect();
            let why = match known.is_empty() {
                true => format!("version {version} is not from before that, nor is any other"),
                false => {
                    format!("version {version} is not from before that; these are: {}", known.join(", "))
                }
            };
            return Err(frozen(&package, &why));
        };
        let mut warnings = vec![FROZEN.to_owned()];
        warnings.extend(state.yanked.iter().map(|reason| describe::yanked(version, reason)));
        Ok((state.release.clone(), warnings))
    }
}

/// As [`Node::dispute`], from the store.
pub(super) fn proofs_here(
    store: &Store,
    package: &PackageId,
) -> Result<Option<Vec<Proof>>, crate::store::Error> {
    store.read(|conn| match catalog::is_frozen(conn, package)? {
        true => Ok(Some(catalog::proofs(conn, package)?)),
        false => Ok(None),
    })
}

/// What all branches have in common.
pub(super) fn common(log: Log, branches: &[Log]) -> Result<Log, crate::release::Error> {
    branches.iter().try_fold(log, |log, branch| log.common(branch))
}

/// What is answered where nothing of a frozen package can be used.
pub(super) fn frozen(package: &PackageId, why: &str) -> Failure {
    Failure::new(
        Code::Equivocation,
        format!(
            "The publisher of {package} signed two different states for one place: it is frozen, and {why}."
        ),
        "Ask its publisher, over another channel, which one counts; they end it with: ggen marketplace p2p key rotate, and: \
         ggen marketplace p2p key resolve <package>",
    )
}

fn clause(message: &str) -> &str {
    message.trim_end_matches('.')
}
