//! How a publisher ends a double signing: the entry that names the branches of a log and says what becomes of their versions.
//!
//! The publisher first makes a new key document. A `resolve` under it takes the place of the first entry that is there
//! twice: the log goes on from the last entry that all branches have in common. It names every entry of the branches, so
//! that anyone who holds a proof of the double signing can tell whether it is meant, and holds the releases that are kept
//! whole, so that nothing of the branches is needed to read the log.

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{Error, Release, entry::check_version};
use crate::{
    content::{Codec, ContentId},
    limits::{RESOLVED_BRANCHES_MAX, RESOLVED_ENTRIES_MAX, RESOLVED_VERSIONS_MAX},
};

const WHAT: &str = "a resolve";

/// What becomes of the branches of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    /// The number of the last key document whose keys signed in the branches; the entry itself is signed under a later one.
    pub key_n: u64,
    /// The ids of the entries of each branch, from the first that the branches do not have in common; ordered by that one.
    pub branches: Vec<Vec<ContentId>>,
    /// The versions of the branches that count, ascending.
    pub kept: Vec<Release>,
    /// The versions of the branches that never count again, ascending.
    pub withdrawn: Vec<Withdrawn>,
}

/// A version of a branch that is never used again, with the content that it had there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Withdrawn {
    /// The version.
    pub version: Version,
    /// The id of its signed manifest.
    pub manifest: ContentId,
}

impl Withdrawn {
    /// What a release is called once it is withdrawn.
    pub fn of(release: &Release) -> Self {
        Self { version: release.version.clone(), manifest: release.manifest }
    }
}

impl Resolve {
    /// The ids of all entries that it names.
    pub fn entries(&self) -> impl Iterator<Item = ContentId> {
        self.branches.iter().flatten().copied()
    }

    /// Whether it says what becomes of this content of a version.
    pub fn decides(&self, release: &Release) -> bool {
        self.kept.contains(release) || self.withdrawn.contains(&Withdrawn::of(release))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let malformed = |why: &str| Err(Error::malformed(WHAT, why));
        let entries = self.entries().count();
        let versions = self.kept.len() + self.withdrawn.len();
        for (what, found, max) in [
            ("a resolve's branches", self.branches.len(), RESOLVED_BRANCHES_MAX),
            ("a resolve's entries", entries, RESOLVED_ENTRIES_MAX),
            ("a resolve's versions", versions, RESOLVED_VERSIONS_MAX),
        ] {
            if found > max {
                return Err(Error::Limit { what, found: found as u64, max: max as u64 });
            }
        }
        if self.branches.is_empty() || self.branches.iter().any(Vec::is_empty) {
            return malformed("it names no branch, or one without an entry");
        }
        if !self.branches.is_sorted_by(|a, b| a[0] < b[0]) {
            return malformed("its branches are not in order, or doubled");
        }
        let mut ids: Vec<ContentId> = self.entries().collect();
        if ids.iter().any(|id| id.codec() != Codec::DagCbor) {
            return malformed("it names something that is no entry");
        }
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != entries {
            return malformed("it names an entry twice");
        }
        if !self.kept.is_sorted_by(|a, b| a.version < b.version) || !self.withdrawn.is_sorted_by(|a, b| a < b)
        {
            return malformed("its versions are not in order, or doubled");
        }
        self.kept.iter().try_for_each(Release::check)?;
        self.withdrawn.iter().try_for_each(|withdrawn| check_version(&withdrawn.version))?;
        if self.kept.iter().any(|kept| self.withdrawn.contains(&Withdrawn::of(kept))) {
            return malformed("it keeps and withdraws the same version");
        }
        Ok(())
    }
}

/// Bytes of the digest of an entry that a head holds of it.
const NAME_BYTES: usize = 8;

/// A short name of an entry, for heads, which have no room for whole ids.
///
/// Anyone who signs another entry with the same name, which takes 2⁶⁴ tries, gains nothing: a proof with it would be taken
/// as resolved, and what the later keys say counts all the same.
pub(super) fn short(id: &ContentId) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    name.iter_mut().zip(id.digest()).for_each(|(to, from)| *to = from);
    name
}

/// The names that a head holds of the entries that resolves of its log name: those of the newest resolve first, at most
/// `max`.
pub(super) fn names<'a>(resolves: impl DoubleEndedIterator<Item = &'a Resolve>, max: usize) -> Vec<u8> {
    resolves.rev().flat_map(Resolve::entries).take(max).flat_map(|id| short(&id)).collect()
}

/// Whether names that a head holds are well formed.
pub(super) fn are_names(names: &[u8], max: usize) -> bool {
    names.len().is_multiple_of(NAME_BYTES) && names.len() / NAME_BYTES <= max
}

/// Whether an entry is among the names that a head holds.
pub(super) fn holds_name(names: &[u8], id: &ContentId) -> bool {
    let name = short(id);
    names.chunks_exact(NAME_BYTES).any(|held| held == name)
}
