//! What of a package can still be used while a double signing of its publisher stands: every version up to the place where
//! the branches of its log part.
//!
//! All branches are read for that, as far as somebody gives them: none of the two signed statements that prove the double signing
//! says where it began.

use std::time::Duration;

use semver::Version;
use tokio::time::{Instant, timeout_at};

use super::{
    describe,
    failure::fail,
    node::Node,
    offer::log_here,
    resolve::{Chosen, Unread},
};
use crate::{
    catalog::{self, Proof},
    code::Code,
    content::ContentId,
    control::api::Failure,
    fetch::log,
    package::PackageId,
    release::{Log, Release, Sequence, SignedEntry, VerifiedHead, fork::Side},
    store::Store,
};

/// How long one branch of a log is waited for, and all of them together: a thief who shows nothing must not keep its owner waiting.
const BRANCH_PATIENCE: Duration = Duration::from_secs(8);
const BRANCHES_TIMEOUT: Duration = Duration::from_secs(24);

/// What is said wherever a package is shown whose publisher signed two states for one place.
pub(super) const FROZEN: &str = "frozen: its publisher signed two different states for one place (double signing); versions \
                                 from before it can be installed, newer ones once its publisher has resolved it";

impl Node {
    /// The proofs for which a package is frozen; none where it is not.
    pub(super) async fn dispute(&self, package: &PackageId) -> Result<Option<Vec<Proof>>, Failure> {
        let package = package.clone();
        self.with_store(move |store| proofs_here(store, &package)).await
    }

    /// The part of a log that no branch contests. Of a branch that cannot be read only the place counts that a proof names: what is
    /// before it, nobody is known to contest.
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
        let Parted { logs, withheld } = self.branches(head, std::slice::from_ref(&log), proofs).await;
        let common = common(log, &logs).map_err(|error| Unread::Unavailable(fail(error)))?;
        until(common, &withheld).map_err(|error| Unread::Unavailable(fail(error)))
    }

    /// The other branches of a log, as far as statements that prove a double signing name them.
    pub(super) async fn branches(&self, head: &VerifiedHead, known: &[Log], proofs: &[Proof]) -> Parted {
        let end = Instant::now() + BRANCHES_TIMEOUT;
        let mut parted = Parted::default();
        for proof in proofs {
            for statement in [&proof.first, &proof.second] {
                let Some((_, side)) = Side::read(statement) else { continue };
                let is_held = known.iter().chain(&parted.logs).any(|log| holds(log, side.entry))
                    || parted.withheld.iter().any(|branch| branch.entry == side.entry);
                if is_held {
                    continue;
                }
                let patience = end.min(Instant::now() + BRANCH_PATIENCE);
                let read = timeout_at(patience, self.branch(head, statement)).await;
                match read.unwrap_or_else(|_| Err(late(&head.package_id()))) {
                    Ok(log) => parted.logs.push(log),
                    Err(failure) => {
                        let place = proof.proves.sequence;
                        parted.withheld.push(Withheld { entry: side.entry, place, why: failure.message });
                    }
                }
            }
        }
        parted
    }

    /// The branch that a statement names.
    async fn branch(&self, head: &VerifiedHead, statement: &[u8]) -> Result<Log, Failure> {
        let read = match VerifiedHead::verify_stored(statement) {
            Ok(named) => self.read_log(&named).await,
            Err(_) => match SignedEntry::decode_and_verify(statement, head.key_log()) {
                Ok(entry) => self.log_until(entry, head).await,
                Err(error) => Err(Unread::Unavailable(fail(error))),
            },
        };
        read.map_err(Failure::from)
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

    /// What no branch contests, read from another branch than the one that is listed, which nobody holds.
    pub(super) async fn undisputed_of_another(&self, head: &VerifiedHead) -> Option<Log> {
        let proofs = self.dispute(&head.package_id()).await.ok().flatten()?;
        let Parted { logs, .. } = self.branches(head, &[], &proofs).await;
        let log = logs.into_iter().next()?;
        self.undisputed(head, log, &proofs).await.ok()
    }

    /// The release that is meant of a package that is frozen.
    pub(super) async fn undisputed_release(
        &self,
        head: &VerifiedHead,
        version: Option<&Version>,
    ) -> Result<Chosen, Failure> {
        let package = head.package_id();
        let reading = self.log_as_held(head, None).await.map_err(|unread| {
            let failure = Failure::from(unread);
            frozen(&package, &format!("where its branches part is not known: {}", clause(&failure.message)))
        })?;
        let (log, is_of_part) = (reading.log, reading.missing.is_some());
        let Some(version) = version else {
            let latest =
                log.latest().cloned().ok_or_else(|| frozen(&package, "no version is from before that"))?;
            let said = format!("{FROZEN}; this is the newest that is not contested: {}", latest.version);
            return Ok(Chosen { release: latest, warnings: vec![said], is_of_part });
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
        Ok(Chosen { release: state.release.clone(), warnings, is_of_part })
    }
}

/// The branches of a log.
#[derive(Debug, Default)]
pub(super) struct Parted {
    /// Those that could be read.
    pub(super) logs: Vec<Log>,
    pub(super) withheld: Vec<Withheld>,
}

/// A branch of which no more is known than the entry that somebody signed: its signer need not give it to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Withheld {
    pub(super) entry: ContentId,
    /// From where on it contests the others, as far as that is proved.
    pub(super) place: Sequence,
    /// Why it could not be read.
    pub(super) why: String,
}

/// What of a log is before all places that branches contest which cannot be read.
pub(super) fn until(log: Log, withheld: &[Withheld]) -> Result<Log, crate::release::Error> {
    let places = withheld.iter().map(|branch| branch.place.get());
    match places.min().map(|place| usize::try_from(place).unwrap_or(usize::MAX)) {
        Some(place) if place < log.entries().len() => log.first(place),
        _ => Ok(log),
    }
}

/// Whether an entry is in a log.
pub(super) fn holds(log: &Log, id: ContentId) -> bool {
    log.entries().iter().any(|entry| entry.id() == id)
}

fn late(package: &PackageId) -> Failure {
    Failure::new(Code::Timeout, format!("A branch of the log of {package} did not come in time."), "")
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

/// The release that is meant of a package that is frozen, by what is here alone: what no branch contests that is here, or that is named
/// by a proof.
pub(super) fn undisputed_here(
    store: &Store,
    head: &VerifiedHead,
    version: &Version,
) -> Result<Release, Failure> {
    let package = head.package_id();
    let proofs = proofs_here(store, &package).map_err(fail)?.unwrap_or_default();
    let log = log_here(store, head).filter(|_| !proofs.is_empty());
    let log = log.ok_or_else(|| frozen(&package, "where its branches part is not known here"))?;
    let mut parted = Parted::default();
    for proof in &proofs {
        for statement in [&proof.first, &proof.second] {
            let Some((_, side)) = Side::read(statement) else { continue };
            if std::iter::once(&log).chain(&parted.logs).any(|log| holds(log, side.entry)) {
                continue;
            }
            let named = VerifiedHead::verify_stored(statement).ok();
            match named.and_then(|named| log_here(store, &named)) {
                Some(branch) => parted.logs.push(branch),
                None => {
                    let (place, why) = (proof.proves.sequence, "it is not here".to_owned());
                    parted.withheld.push(Withheld { entry: side.entry, place, why });
                }
            }
        }
    }
    let log = common(log, &parted.logs).and_then(|log| until(log, &parted.withheld)).map_err(fail)?;
    let state = log.versions().get(version);
    state.map(|state| state.release.clone()).ok_or_else(|| {
        frozen(&package, &format!("version {version} is not from before that, as far as is known here"))
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
        "Ask its publisher, over another channel, which one counts. On the machine with the publisher's key this says how to end it: ggen \
         marketplace p2p status",
    )
}

fn clause(message: &str) -> &str {
    message.trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Source,
        release::fixture::{NOW, head, publisher, releases},
        sync,
    };

    #[test]
    fn what_is_not_contested_is_known_without_asking_where_the_log_is_here() {
        let (store, author) = (Store::in_memory().unwrap(), publisher(1));
        let (first, second) = (head(&author, &["1.0.0", "1.1.0"]), head(&author, &["1.0.0", "1.1.1"]));
        let keep = |log: &Log| {
            let mut batch = store.batch();
            for entry in log.entries() {
                batch.put(entry.block().clone()).unwrap();
            }
            batch.commit(|_| Ok(())).unwrap();
        };
        store.write(|tx| Ok(catalog::insert(tx, &first, &Source::unknown(), NOW)?)).unwrap();
        sync::convict(&store, &first, &second, NOW).unwrap();
        let is_usable = |version: &str| undisputed_here(&store, &first, &version.parse().unwrap());
        assert_eq!(is_usable("1.0.0").unwrap_err().code, Code::Equivocation, "its log is not here");
        keep(&releases(&author, &["1.0.0", "1.1.0"]));
        assert_eq!(is_usable("1.0.0").unwrap().version.to_string(), "1.0.0");
        assert_eq!(is_usable("1.1.0").unwrap_err().code, Code::Equivocation);
        keep(&releases(&author, &["1.0.0", "1.1.1"]));
        assert!(is_usable("1.0.0").is_ok() && is_usable("1.1.0").is_err() && is_usable("1.1.1").is_err());
    }
}
