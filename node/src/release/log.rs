//! A package's log: what was released, withdrawn and said, in order.
//!
//! A log is built by adding verified entries one by one, so that a log that exists keeps the rules; the same rules are
//! checked before anything is signed.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use super::{
    Entry, Error, Head, Kind, Place, Release, Resolve, Sequence, SignedEntry, VerifiedHead, Withdrawn, entry,
    resolve, yanked,
};
use crate::{
    content::ContentId,
    identity::{KeyLog, Publisher, PublisherId},
    limits::{LOG_ENTRIES_MAX, RESOLVED_NAMES_MAX},
    package::PackageId,
    time::Timestamp,
};

/// What a log says of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionState {
    /// The release.
    pub release: Release,
    /// Why it is withdrawn, where it is.
    pub yanked: Option<String>,
    /// When it was released, as its publisher says.
    pub released: Timestamp,
}

/// A package's log, verified from its first entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    package: PackageId,
    entries: Vec<SignedEntry>,
    versions: BTreeMap<Version, VersionState>,
    /// What was withdrawn with the branches that it had in.
    withdrawn: BTreeSet<Withdrawn>,
    deprecated: Option<String>,
    transferred: Option<PublisherId>,
    tombstone: Option<String>,
}

impl Log {
    /// The log of a package of which nothing was said yet.
    pub fn empty(package: PackageId) -> Self {
        Self {
            package,
            entries: Vec::new(),
            versions: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            deprecated: None,
            transferred: None,
            tombstone: None,
        }
    }

    /// Verifies a whole log, given from its first entry.
    ///
    /// # Errors
    /// [`Error::Log`] where an entry is missing or does not follow, [`Error::VersionReused`] where a version is released
    /// twice, and [`Error::Refused`] where an entry is not possible in the state that the ones before it left.
    pub fn verify(entries: Vec<SignedEntry>) -> Result<Self, Error> {
        let first =
            entries.first().ok_or(Error::Log { sequence: Sequence::default(), why: "it is missing" })?;
        let mut log = Self::empty(first.entry().package_id());
        for entry in entries {
            log.push(entry)?;
        }
        Ok(log)
    }

    /// Reads a whole log of our own database, where each entry was verified before it was stored. The signature of the newest one is
    /// checked, and with it all others: each names the hash of the one before.
    ///
    /// # Errors
    /// As [`Log::verify`], and as [`SignedEntry::decode_and_verify`].
    pub fn verify_stored<'a>(
        entries: impl DoubleEndedIterator<Item = &'a [u8]>,
        keys: &KeyLog,
    ) -> Result<Self, Error> {
        let mut entries = entries.rev();
        let newest = entries.next().map(|newest| SignedEntry::decode_and_verify(newest, keys));
        let before = entries.map(|entry| SignedEntry::decode_linked(entry, keys));
        let mut entries: Vec<SignedEntry> = newest.into_iter().chain(before).collect::<Result<_, _>>()?;
        entries.reverse();
        Self::verify(entries)
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// As [`Log::verify`]; the log is then unchanged.
    pub fn push(&mut self, signed: SignedEntry) -> Result<(), Error> {
        self.follows(signed.entry())?;
        self.allows(signed.entry())?;
        self.apply(signed.entry());
        self.entries.push(signed);
        Ok(())
    }

    /// Signs the entry that would come next, which is not added yet.
    ///
    /// # Errors
    /// As [`Log::push`], before anything is signed.
    pub fn next(&self, kind: Kind, publisher: &Publisher, now: Timestamp) -> Result<SignedEntry, Error> {
        let sequence = match self.newest() {
            Some(newest) => newest.entry().sequence.next().ok_or(Error::Log {
                sequence: newest.entry().sequence,
                why: "there is no number after it",
            })?,
            None => Sequence::default(),
        };
        let entry = Entry {
            version: entry::VERSION,
            publisher: publisher.id(),
            name: self.package.name.clone(),
            sequence,
            previous: self.newest().map(SignedEntry::id),
            key_n: publisher.key_log().current().n,
            kind,
            created: now,
        };
        self.follows(&entry)?;
        self.allows(&entry)?;
        SignedEntry::sign(&entry, publisher)
    }

    /// Checks that a verified head names the end, its time, the beginning and the latest release of this log.
    ///
    /// Only then is it known that the current keys of the publisher stand behind the entries.
    ///
    /// # Errors
    /// [`Error::Anchor`] with what differs.
    pub fn anchored(&self, head: &VerifiedHead) -> Result<(), Error> {
        let differs = |why| Err(Error::Anchor { why });
        let (Some(first), Some(newest)) = (self.entries.first(), self.newest()) else {
            return differs("the log has no entries");
        };
        let named = head.head();
        if self.package != head.package_id() {
            return differs("they are of different packages");
        }
        if newest.entry().sequence != named.sequence || newest.id() != named.entry {
            return differs("the head names another newest entry");
        }
        if first.id() != named.log {
            return differs("the head names another first entry");
        }
        if self.latest() != named.latest.as_ref() {
            return differs("the head names another latest release");
        }
        if self.resolved_names() != *named.resolved {
            return differs("the head names other resolved branches");
        }
        if self.yanked_named() != named.yanked {
            return differs("the head names other yanked versions");
        }
        if self.deprecated() != named.deprecated.as_deref() {
            return differs("the head says otherwise whether the package should be used");
        }
        if newest.entry().created != named.released_at {
            return differs("the head dates its newest entry otherwise");
        }
        if self.latest_released_at() != named.latest_released_at {
            return differs("the head dates its latest release otherwise");
        }
        Ok(())
    }

    /// The place of the entry that released a version, and when it was made: where one that was resolved kept it, that one.
    pub fn place_of(&self, version: &Version) -> Option<(Sequence, Timestamp)> {
        let entry = self.entry_of(version)?.entry();
        Some((entry.sequence, entry.created))
    }

    /// The entry that last said that a version counts.
    pub fn entry_of(&self, version: &Version) -> Option<&SignedEntry> {
        let has = |entry: &&SignedEntry| match &entry.entry().kind {
            Kind::Release(release) => release.version == *version,
            Kind::Resolve(resolve) => resolve.kept.iter().any(|release| release.version == *version),
            _ => false,
        };
        self.entries.iter().rev().find(has)
    }

    /// When the latest release was made, where that is not when the newest entry was.
    pub fn latest_released_at(&self) -> Option<Timestamp> {
        let released = self.versions.get(&self.latest()?.version)?.released;
        self.newest()
            .map(|newest| newest.entry().created)
            .filter(|newest| *newest != released)
            .map(|_| released)
    }

    /// The log up to where another one of the same package goes another way, and how many entries that are.
    ///
    /// # Errors
    /// None that a log can have which was verified; those of [`Log::verify`] all the same.
    pub fn common(&self, other: &Self) -> Result<Self, Error> {
        let pairs = self.entries.iter().zip(&other.entries);
        let common = pairs.take_while(|(a, b)| a.id() == b.id()).count();
        self.first(common)
    }

    /// The first `count` entries as a log of their own.
    ///
    /// # Errors
    /// As [`Log::common`].
    pub fn first(&self, count: usize) -> Result<Self, Error> {
        let mut log = Self::empty(self.package.clone());
        self.entries.iter().take(count).try_for_each(|entry| log.push(entry.clone()))?;
        Ok(log)
    }

    /// Checks that this log, which `head` names, continues those that were seen before under the same keys, and gives the
    /// first place at which it does not.
    ///
    /// A head says nothing of what came before its newest entry: without this, whoever passes over a number may write the
    /// history again. Under later keys it may be, because what a stolen key added has to be taken back.
    ///
    /// # Errors
    /// The place, and the entry that stands there instead.
    pub fn continues(&self, places: &[Place], head: &VerifiedHead) -> Result<(), (Place, &SignedEntry)> {
        let key_n = head.key_log().current().n;
        for place in places.iter().filter(|place| place.key_n == key_n) {
            let there = usize::try_from(place.sequence.get()).ok().and_then(|at| self.entries.get(at));
            if let Some(there) = there.filter(|there| there.id() != place.entry) {
                return Err((*place, there));
            }
        }
        Ok(())
    }

    /// The package.
    pub fn package(&self) -> &PackageId {
        &self.package
    }

    /// The entries, from the first.
    pub fn entries(&self) -> &[SignedEntry] {
        &self.entries
    }

    /// The last entry.
    pub fn newest(&self) -> Option<&SignedEntry> {
        self.entries.last()
    }

    /// The id of the first entry, which names the log.
    pub fn id(&self) -> Option<ContentId> {
        self.entries.first().map(SignedEntry::id)
    }

    /// The entries by which double signings were resolved, and their places.
    pub fn resolves(&self) -> impl DoubleEndedIterator<Item = (Sequence, &Resolve)> {
        self.entries.iter().filter_map(|signed| match &signed.entry().kind {
            Kind::Resolve(resolve) => Some((signed.entry().sequence, &**resolve)),
            _ => None,
        })
    }

    /// What a head of this log holds of the branches that were resolved ([`Head::resolved`](super::Head::resolved)).
    pub fn resolved_names(&self) -> Vec<u8> {
        resolve::names(self.resolves().map(|(_, resolve)| resolve), RESOLVED_NAMES_MAX)
    }

    /// The versions that were withdrawn with a branch of the log, and never count again.
    pub fn withdrawn(&self) -> &BTreeSet<Withdrawn> {
        &self.withdrawn
    }

    /// Whether this content of a version counts no more since a double signing was ended: it was withdrawn, its version has other content,
    /// or it was signed in a branch that nobody could read then. `signed` is the number of the entry that released it, and of the
    /// document of keys that it was signed under.
    pub fn has_withdrawn(&self, content: &Withdrawn, signed: Option<(u64, u64)>) -> bool {
        let counting = self.versions.get(&content.version).map(|state| state.release.manifest);
        if counting == Some(content.manifest) || self.resolves().next().is_none() {
            return false;
        }
        // What follows a resolve is signed under later keys.
        let is_in_branch =
            |(at, key_n)| self.resolves().any(|(place, resolve)| place.get() <= at && key_n <= resolve.key_n);
        counting.is_some() || self.withdrawn.contains(content) || signed.is_some_and(is_in_branch)
    }

    /// Every version that was released, ascending.
    pub fn versions(&self) -> &BTreeMap<Version, VersionState> {
        &self.versions
    }

    /// The highest stable version that is not withdrawn, or the highest such pre-release; none once the package is gone.
    pub fn latest(&self) -> Option<&Release> {
        let mut there =
            self.versions.values().filter(|state| state.yanked.is_none() && !self.is_tombstoned());
        let stable = there.clone().rfind(|state| state.release.version.pre.is_empty());
        stable.or_else(|| there.next_back()).map(|state| &state.release)
    }

    /// The yanked versions that a head of this log names, and none once the package is gone ([`Head::yanked`](super::Head::yanked)).
    pub fn yanked_named(&self) -> Vec<Version> {
        if self.is_tombstoned() {
            return Vec::new();
        }
        yanked::named(self.versions.iter().filter(|(_, state)| state.yanked.is_some()).map(|(it, _)| it))
    }

    /// Whether the package is gone.
    pub fn is_tombstoned(&self) -> bool {
        self.tombstone.is_some()
    }

    /// Why the package is gone, where it is.
    pub fn tombstone(&self) -> Option<&str> {
        self.tombstone.as_deref()
    }

    /// Takes over what a head says of the versions of this log, where the log is only the beginning of the one that the head names: what
    /// was yanked since, for a reason that only the missing entries give. A head names some of the yanked versions, and as the latest one
    /// the highest that was not yanked: those above it were.
    pub fn yank_as_told(&mut self, head: &Head) {
        let latest = head.latest.as_ref().map(|latest| &latest.version);
        let is_above = |version: &Version| match latest {
            Some(latest) if latest.pre.is_empty() => version.pre.is_empty() && version > latest,
            Some(latest) => version.pre.is_empty() || version > latest,
            None => true,
        };
        for (version, state) in &mut self.versions {
            if latest == Some(version) {
                state.yanked = None;
            } else if is_above(version) || head.yanked.contains(version) {
                state.yanked.get_or_insert_default();
            }
        }
    }

    /// What to use in its place, where the package should no longer be used.
    pub fn deprecated(&self) -> Option<&str> {
        self.deprecated.as_deref()
    }

    /// The publisher that further releases come from, where that is another one.
    pub fn transferred(&self) -> Option<PublisherId> {
        self.transferred
    }

    /// Checks the place of an entry, whatever it says.
    fn follows(&self, entry: &Entry) -> Result<(), Error> {
        let refuse = |why| Err(Error::Log { sequence: entry.sequence, why });
        if self.entries.len() >= LOG_ENTRIES_MAX {
            let found = self.entries.len() as u64 + 1;
            return Err(Error::Limit { what: "a log", found, max: LOG_ENTRIES_MAX as u64 });
        }
        if entry.publisher != self.package.publisher || entry.name != self.package.name {
            return refuse("it is of another package");
        }
        if entry.sequence.get() != self.entries.len() as u64 {
            return refuse("its number is not the next one");
        }
        if entry.previous != self.newest().map(SignedEntry::id) {
            return refuse("it does not name the entry before it");
        }
        if self.newest().is_some_and(|newest| entry.key_n < newest.entry().key_n) {
            return refuse("it was signed with keys that were replaced before");
        }
        Ok(())
    }

    /// Checks what an entry says against the state that the ones before it left.
    fn allows(&self, entry: &Entry) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Refused { why });
        if self.is_tombstoned() {
            return refuse(format!("{} is gone, and nothing can follow", self.package.name));
        }
        match &entry.kind {
            Kind::Release(release) => match self.transferred {
                Some(to) => refuse(format!("{} was transferred to {to}", self.package.name)),
                None => self.is_unused(release).and_then(|()| self.is_not_withdrawn(release)),
            },
            Kind::Resolve(resolve) => self.can_resolve(resolve),
            kind @ (Kind::Yank { version, .. } | Kind::Unyank { version }) => {
                let yanks = matches!(kind, Kind::Yank { .. });
                match self.versions.get(version) {
                    None => refuse(format!("version {version} was never released")),
                    Some(state) if state.yanked.is_some() == yanks => {
                        let already = if yanks { "is yanked already" } else { "is not yanked" };
                        refuse(format!("version {version} {already}"))
                    }
                    Some(_) => Ok(()),
                }
            }
            Kind::Transfer { to } if *to == self.package.publisher => {
                refuse("a package cannot be transferred to its own publisher".to_owned())
            }
            Kind::Transfer { .. } if self.transferred.is_some() => {
                refuse(format!("{} was transferred already", self.package.name))
            }
            Kind::Transfer { .. }
            | Kind::Deprecate { .. }
            | Kind::Tombstone { .. }
            | Kind::Unknown { .. } => Ok(()),
        }
    }

    fn is_unused(&self, release: &Release) -> Result<(), Error> {
        match self.versions.get(&release.version) {
            Some(state) => Err(Error::VersionReused { released: Box::new(state.release.clone()) }),
            None => Ok(()),
        }
    }

    fn is_not_withdrawn(&self, release: &Release) -> Result<(), Error> {
        match self.withdrawn.iter().any(|it| it.version == release.version) {
            true => Err(Error::Refused {
                why: format!(
                    "version {} was withdrawn with a branch of the log, and a version is used only once",
                    release.version
                ),
            }),
            false => Ok(()),
        }
    }

    /// Checks that branches begin here, and that their versions are none of those that all branches have.
    fn can_resolve(&self, resolve: &Resolve) -> Result<(), Error> {
        if self.newest().is_some_and(|newest| newest.entry().key_n > resolve.key_n) {
            let why = "the branches that it resolves are older than the entry before it".to_owned();
            return Err(Error::Refused { why });
        }
        resolve.kept.iter().try_for_each(|kept| {
            self.is_unused(kept)?;
            self.is_not_withdrawn(kept)
        })?;
        let is_common = |it: &&Withdrawn| {
            self.versions.get(&it.version).is_some_and(|state| state.release.manifest == it.manifest)
        };
        match resolve.withdrawn.iter().find(is_common) {
            Some(common) => Err(Error::Refused {
                why: format!(
                    "version {} is in all branches, and cannot be withdrawn with one",
                    common.version
                ),
            }),
            None => Ok(()),
        }
    }

    fn apply(&mut self, entry: &Entry) {
        match &entry.kind {
            Kind::Release(release) => {
                let state = VersionState { release: release.clone(), yanked: None, released: entry.created };
                self.versions.insert(release.version.clone(), state);
            }
            Kind::Resolve(resolve) => {
                self.withdrawn.extend(resolve.withdrawn.iter().cloned());
                for kept in &resolve.kept {
                    let state = VersionState { release: kept.clone(), yanked: None, released: entry.created };
                    self.versions.insert(kept.version.clone(), state);
                }
            }
            Kind::Yank { version, reason } => self.set_yanked(version, Some(reason.clone())),
            Kind::Unyank { version } => self.set_yanked(version, None),
            Kind::Deprecate { message } => {
                self.deprecated = Some(message.clone()).filter(|message| !message.is_empty());
            }
            Kind::Transfer { to } => self.transferred = Some(*to),
            Kind::Tombstone { reason } => self.tombstone = Some(reason.clone()),
            Kind::Unknown { .. } => {}
        }
    }

    fn set_yanked(&mut self, version: &Version, reason: Option<String>) {
        if let Some(state) = self.versions.get_mut(version) {
            state.yanked = reason;
        }
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod resolve_tests;

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
