//! What honest publishers have published: known from their own stores and checked against the workload.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ggen_marketplace::content::ContentId;

use super::Publication;

/// Knows every release, whoever has heard of it.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// By package and version.
    releases: BTreeMap<(String, String), Release>,
    /// Every head that a publisher made: the package's full id, and the digest of the bytes.
    heads: BTreeSet<(String, [u8; 32])>,
    /// Every block of every release.
    blocks: BTreeSet<ContentId>,
    /// Packages of adversaries that are valid.
    tolerated: BTreeSet<String>,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) sequence: u64,
    pub(crate) root: ContentId,
    pub(crate) manifest: ContentId,
    pub(crate) tree: [u8; 32],
    /// When it was seen first.
    pub(crate) at: Duration,
}

impl Oracle {
    /// One that knows what was there from the beginning.
    pub(super) fn of(preloaded: &[(String, [ContentId; 2], [u8; 32])]) -> Self {
        let mut oracle = Self::default();
        for (package, [root, manifest], digest) in preloaded {
            let release =
                Release { sequence: 0, root: *root, manifest: *manifest, tree: [0; 32], at: Duration::ZERO };
            oracle.releases.insert((package.clone(), "1.0.0".to_owned()), release);
            oracle.learn_head(package, *digest);
        }
        oracle
    }

    pub(super) fn learn(&mut self, publication: &Publication, at: Duration) {
        let Publication { package, version, sequence, root, manifest, blocks, tree } = publication;
        let release = Release { sequence: *sequence, root: *root, manifest: *manifest, tree: *tree, at };
        self.releases.entry((package.clone(), version.clone())).or_insert(release);
        self.blocks.extend(blocks);
    }

    /// A head is in the store of the node that made it.
    pub(super) fn learn_head(&mut self, package: &str, digest: [u8; 32]) {
        self.heads.insert((package.to_owned(), digest));
    }

    pub(super) fn has_head(&self, package: &str, digest: [u8; 32]) -> bool {
        self.heads.contains(&(package.to_owned(), digest))
    }

    pub(super) fn tolerate(&mut self, package: &str) {
        self.tolerated.insert(package.to_owned());
    }

    pub(super) fn is_tolerated(&self, package: &str) -> bool {
        self.tolerated.contains(package)
    }

    pub(super) fn release(&self, package: &str, version: &str) -> Option<&Release> {
        self.releases.get(&(package.to_owned(), version.to_owned()))
    }

    /// Since when a package is as it is.
    pub(super) fn since(&self, package: &str) -> Option<Duration> {
        let of_it = self.releases.iter().filter(|((name, _), _)| name == package);
        of_it.map(|(_, release)| (release.sequence, release.at)).max().map(|(_, at)| at)
    }

    /// How many releases there are.
    pub(super) fn releases(&self) -> usize {
        self.releases.len()
    }

    /// The release with this tree, and its package.
    pub(super) fn with_root(&self, root: ContentId) -> Option<(&str, &Release)> {
        let found = self.releases.iter().find(|(_, release)| release.root == root);
        found.map(|((package, _), release)| (package.as_str(), release))
    }

    pub(super) fn has_block(&self, id: &ContentId) -> bool {
        self.blocks.contains(id)
    }

    /// The newest state of every package: its sequence and the tree of its last release.
    pub(super) fn newest(&self) -> BTreeMap<&str, (u64, ContentId)> {
        let mut newest: BTreeMap<&str, (u64, ContentId)> = BTreeMap::new();
        for ((package, _), release) in &self.releases {
            let state = (release.sequence, release.root);
            let held = newest.entry(package).or_insert(state);
            *held = (*held).max(state);
        }
        newest
    }
}
