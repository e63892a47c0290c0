//! A package's log: what was released, withdrawn and said, in order.
//!
//! A log is built by adding verified entries one by one, so that a log that exists keeps the rules; the same rules are
//! checked before anything is signed.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use super::{
    Entry, Error, Kind, Place, Release, Resolve, Sequence, SignedEntry, VerifiedHead, Withdrawn, entry,
    resolve, yanked,
};
use crate::{
    content::ContentId,
    identity::{Publisher, PublisherId},
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
        Ok(())
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
    /// history anew. Under later keys it may be, because what a stolen key added has to be taken back.
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
                        let already = if yanks { "is withdrawn already" } else { "is not withdrawn" };
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        code::Code,
        release::fixture::{NOW, draft, log, publisher, release, releases, rotated},
    };

    fn yank(version: &str) -> Kind {
        Kind::Yank { version: version.parse().unwrap(), reason: "broken".to_owned() }
    }

    fn unyank(version: &str) -> Kind {
        Kind::Unyank { version: version.parse().unwrap() }
    }

    fn tombstone() -> Kind {
        Kind::Tombstone { reason: "gone".to_owned() }
    }

    /// Signs what `next` would refuse.
    fn forced(log: &Log, publisher: &Publisher, change: impl FnOnce(&mut Entry)) -> SignedEntry {
        let mut entry = Entry {
            version: entry::VERSION,
            publisher: publisher.id(),
            name: log.package().name.clone(),
            sequence: Sequence::new(log.entries().len() as u64),
            previous: log.newest().map(SignedEntry::id),
            key_n: publisher.key_log().current().n,
            kind: Kind::Deprecate { message: String::new() },
            created: NOW,
        };
        change(&mut entry);
        SignedEntry::sign(&entry, publisher).unwrap()
    }

    #[test]
    fn the_latest_is_the_highest_stable_version_that_is_there() {
        let publisher = publisher(1);
        let mut log = releases(&publisher, &["1.10.0", "1.9.0", "2.0.0-rc.1", "2.0.0-rc.2"]);
        let mut then = |kind, expected: Option<&str>| {
            log.push(log.next(kind, &publisher, NOW).unwrap()).unwrap();
            assert_eq!(log.latest().map(|latest| latest.version.to_string()).as_deref(), expected);
        };
        then(Kind::Deprecate { message: "old".to_owned() }, Some("1.10.0"));
        then(yank("1.10.0"), Some("1.9.0"));
        then(yank("1.9.0"), Some("2.0.0-rc.2"));
        then(yank("2.0.0-rc.2"), Some("2.0.0-rc.1"));
        then(yank("2.0.0-rc.1"), None);
        then(unyank("1.9.0"), Some("1.9.0"));
        then(tombstone(), None);
        assert!(log.is_tombstoned());
        assert_eq!(log.deprecated(), Some("old"));
        assert_eq!(log.versions()[&"1.10.0".parse().unwrap()].yanked.as_deref(), Some("broken"));
        assert_eq!(Log::verify(log.entries().to_vec()).unwrap(), log);
    }

    #[test]
    fn a_version_is_used_once_even_after_it_was_withdrawn() {
        let publisher = publisher(1);
        let log = log(&publisher, &[Kind::Release(release("1.0.0")), yank("1.0.0")]);
        let again = Kind::Release(Release { size: 1, ..release("1.0.0") });
        let error = log.next(again.clone(), &publisher, NOW).unwrap_err();
        assert!(matches!(&error, Error::VersionReused { released } if **released == release("1.0.0")));
        assert_eq!(error.code(), Code::Conflict);
        let mut entries = log.entries().to_vec();
        entries.push(forced(&log, &publisher, |entry| entry.kind = again));
        assert_eq!(Log::verify(entries).unwrap_err().code(), Code::Conflict);
    }

    #[test]
    fn what_the_state_does_not_allow_is_neither_signed_nor_accepted() {
        let publisher = publisher(1);
        let to = Kind::Transfer { to: self::publisher(2).id() };
        let released = Kind::Release(release("1.0.0"));
        for (before, refused) in [
            (vec![], yank("1.0.0")),
            (vec![], unyank("1.0.0")),
            (vec![released.clone()], yank("1.0.1")),
            (vec![released.clone()], unyank("1.0.0")),
            (vec![released.clone(), yank("1.0.0")], yank("1.0.0")),
            (vec![tombstone()], released.clone()),
            (vec![tombstone()], tombstone()),
            (vec![tombstone()], Kind::Deprecate { message: String::new() }),
            (vec![to.clone()], released),
            (vec![to.clone()], to),
            (vec![], Kind::Transfer { to: publisher.id() }),
        ] {
            let mut log = log(&publisher, &before);
            let error = log.next(refused.clone(), &publisher, NOW).unwrap_err();
            assert_eq!(error.code(), Code::Conflict, "{refused:?} after {before:?}");
            let unchanged = log.clone();
            let signed = forced(&log, &publisher, |entry| entry.kind = refused.clone());
            assert!(log.push(signed).is_err(), "{refused:?} after {before:?}");
            assert_eq!(log, unchanged);
        }
    }

    #[test]
    fn entries_out_of_place_are_refused() {
        let publisher = publisher(1);
        let log = releases(&publisher, &["1.0.0", "1.1.0", "1.2.0"]);
        let [a, b, c] = [0, 1, 2].map(|at| log.entries()[at].clone());
        for bad in [
            vec![],
            vec![b.clone()],
            vec![a.clone(), c.clone()],
            vec![a.clone(), a.clone()],
            vec![a.clone(), b.clone(), b.clone()],
            vec![b, a.clone(), c],
        ] {
            assert!(matches!(Log::verify(bad).unwrap_err(), Error::Log { .. }));
        }
        let other = releases(&publisher, &["9.0.0", "9.1.0"]).entries()[1].clone();
        assert!(
            matches!(Log::verify(vec![a.clone(), other]).unwrap_err(), Error::Log { .. }),
            "of another chain"
        );
        let name = forced(&log, &publisher, |entry| entry.name = "other".parse().unwrap());
        let of_other =
            releases(&self::publisher(2), &["1.0.0", "1.1.0", "1.2.0", "1.3.0"]).entries()[3].clone();
        let number = forced(&log, &publisher, |entry| entry.sequence = Sequence::new(4));
        for bad in [name, of_other, number] {
            assert!(matches!(log.clone().push(bad).unwrap_err(), Error::Log { .. }));
        }
    }

    #[test]
    fn a_log_has_an_end() {
        let publisher = publisher(1);
        let mut log = releases(&publisher, &["1.0.0"]);
        log.entries = vec![log.entries[0].clone(); LOG_ENTRIES_MAX];
        let error = log.next(Kind::Release(release("1.1.0")), &publisher, NOW);
        assert_eq!(error.unwrap_err().code(), Code::Limit);
    }

    #[test]
    fn a_key_that_was_replaced_signs_nothing_after_its_replacement() {
        let old = publisher(1);
        let new = rotated(&old, 2);
        let mut log = releases(&old, &["1.0.0"]);
        log.push(log.next(Kind::Release(release("1.1.0")), &new, NOW).unwrap()).unwrap();
        let error = log.next(Kind::Release(release("1.2.0")), &old, NOW).unwrap_err();
        assert!(matches!(error, Error::Log { .. }));
        let late = forced(&log, &old, |_| {});
        assert!(matches!(log.push(late).unwrap_err(), Error::Log { .. }));
    }

    #[test]
    fn a_log_continues_only_those_of_which_it_holds_the_end() {
        let publisher = publisher(1);
        let seen = Place::from(
            draft(&publisher, &releases(&publisher, &["1.0.0", "1.1.0"])).sign(&publisher).unwrap().seen(),
        );
        let later = ["1.2.0", "1.3.0"];
        let honest = releases(&publisher, &["1.0.0", "1.1.0", later[0], later[1]]);
        let fork = releases(&publisher, &["1.0.0", "1.1.1", later[0], later[1]]);
        let head = |log: &Log, by: &Publisher| draft(by, log).sign(by).unwrap();
        assert!(honest.continues(&[seen], &head(&honest, &publisher)).is_ok());
        let of_fork = head(&fork, &publisher);
        let (place, instead) = fork.continues(&[seen], &of_fork).unwrap_err();
        assert_eq!((place, instead.id()), (seen, fork.entries()[1].id()));
        let new = rotated(&publisher, 2);
        assert!(
            fork.continues(&[seen], &head(&fork, &new)).is_ok(),
            "later keys take back what the old ones said"
        );
        let short = releases(&publisher, &["1.0.0"]);
        assert!(short.continues(&[seen], &head(&short, &publisher)).is_ok(), "that is a rollback");
    }

    #[test]
    fn another_publisher_cannot_continue_a_log() {
        let log = releases(&publisher(1), &["1.0.0"]);
        assert!(log.next(Kind::Release(release("1.1.0")), &publisher(2), NOW).is_err());
    }

    #[test]
    fn a_log_matches_its_own_head_only() {
        let publisher = publisher(1);
        let log = releases(&publisher, &["1.0.0", "1.1.0"]);
        let good = draft(&publisher, &log);
        log.anchored(&good.sign(&publisher).unwrap()).unwrap();
        let longer = releases(&publisher, &["1.0.0", "1.1.0", "1.2.0"]);
        let elsewhere = releases(&publisher, &["0.1.0", "1.1.0"]);
        let stranger = self::publisher(2);
        for head in [
            draft(&publisher, &longer).sign(&publisher).unwrap(),
            draft(&publisher, &elsewhere).sign(&publisher).unwrap(),
            super::super::Head { latest: Some(release("1.0.0")), ..good.clone() }.sign(&publisher).unwrap(),
            super::super::Head { yanked: vec!["0.1.0".parse().unwrap()], ..good.clone() }
                .sign(&publisher)
                .unwrap(),
            super::super::Head { deprecated: Some("not so".to_owned()), ..good.clone() }
                .sign(&publisher)
                .unwrap(),
            super::super::Head { log: elsewhere.id().unwrap(), ..good }.sign(&publisher).unwrap(),
            draft(&stranger, &releases(&stranger, &["1.0.0", "1.1.0"])).sign(&stranger).unwrap(),
        ] {
            assert_eq!(log.anchored(&head).unwrap_err().code(), Code::HashMismatch);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn whatever_next_allows_verifies(steps in prop::collection::vec((0..5u8, 0..4u8), 0..12)) {
            let publisher = publisher(1);
            let mut log = releases(&publisher, &["0.0.9"]);
            for (step, version) in steps {
                let version = format!("{version}.0.0");
                let kind = match step {
                    0 | 1 => Kind::Release(release(&version)),
                    2 => yank(&version),
                    3 => unyank(&version),
                    _ => Kind::Deprecate { message: version },
                };
                if let Ok(signed) = log.next(kind, &publisher, NOW) {
                    log.push(signed).unwrap();
                }
            }
            prop_assert_eq!(Log::verify(log.entries().to_vec()).unwrap(), log);
        }

        #[test]
        fn what_was_taken_back_follows_from_the_last_word_on_it(
            steps in prop::collection::vec((0..5u8, 0..4u64), 0..16),
        ) {
            let publisher = publisher(1);
            let mut log = releases(&publisher, &["0.0.9"]);
            let mut yanked = BTreeMap::from([(Version::new(0, 0, 9), false)]);
            let mut deprecated = None;
            for (step, major) in steps {
                let version = Version::new(major, 0, 0);
                let kind = match step {
                    0 | 1 => Kind::Release(release(&version.to_string())),
                    2 => yank(&version.to_string()),
                    3 => unyank(&version.to_string()),
                    _ => Kind::Deprecate { message: if major == 0 { String::new() } else { version.to_string() } },
                };
                let before = yanked.get(&version).copied();
                let is_possible = match step {
                    0 | 1 => before.is_none(),
                    2 => before == Some(false),
                    3 => before == Some(true),
                    _ => true,
                };
                let signed = log.next(kind, &publisher, NOW);
                prop_assert_eq!(signed.is_ok(), is_possible, "step {} of {}", step, version);
                let Ok(signed) = signed else { continue };
                log.push(signed).unwrap();
                match step {
                    0 | 1 | 3 => drop(yanked.insert(version, false)),
                    2 => drop(yanked.insert(version, true)),
                    _ => deprecated = Some(version.to_string()).filter(|_| major != 0),
                }
                let head = draft(&publisher, &log).sign(&publisher).unwrap();
                log.anchored(&head).unwrap();
                let there = yanked.iter().filter(|(_, yanked)| !**yanked).map(|(version, _)| version);
                let gone = yanked.iter().rev().filter(|(_, yanked)| **yanked).map(|(version, _)| version);
                prop_assert_eq!(head.head().latest.as_ref().map(|latest| &latest.version), there.max());
                prop_assert_eq!(head.head().yanked.iter().collect::<Vec<_>>(), gone.collect::<Vec<_>>());
                prop_assert_eq!(&head.head().deprecated, &deprecated);
            }
        }
    }
}
