//! From what is known of a package to what is told of it.

use std::collections::BTreeMap;

use libp2p::PeerId;
use semver::Version;

use super::{disputed::FROZEN, two_chains::TWO_CHAINS};
use crate::{
    catalog::Listed,
    control::api::{Freshness, PackageInfo},
    release::Head,
    reputation::Score,
};

/// What is said wherever a package is shown that should no longer be used.
pub(super) fn deprecated(message: &str) -> String {
    format!("deprecated by its publisher: {message}")
}

/// What is said of a version that its publisher yanked.
pub(super) fn yanked(version: &Version, reason: &str) -> String {
    match reason {
        "" => format!("version {version} was yanked by its publisher"),
        reason => format!("version {version} was yanked by its publisher: {reason}"),
    }
}

/// What a search shows of a head.
pub(super) fn package_info(head: &Head, frozen: bool) -> PackageInfo {
    let mut notes = Vec::new();
    if head.preflight_skipped {
        notes.push("checks before publishing were skipped".to_owned());
    }
    if head.secrets_allowed {
        notes.push("files that look as if they held secrets were published all the same".to_owned());
    }
    if frozen {
        notes.push(FROZEN.to_owned());
    }
    if let Some(message) = &head.deprecated {
        notes.push(deprecated(message));
    }
    if head.latest.is_none() && !head.yanked.is_empty() && !frozen {
        notes.push("all its versions were yanked by its publisher".to_owned());
    }
    let latest = head.latest.as_ref();
    PackageInfo {
        id: format!("{}/{}", head.publisher, head.name),
        publisher: head.publisher.to_string(),
        name: head.name.to_string(),
        version: latest.map(|latest| latest.version.to_string()).unwrap_or_default(),
        description: head.description.clone(),
        license: head.license.clone(),
        tags: head.tags.clone(),
        categories: head.categories.clone(),
        cid: latest.map(|latest| latest.root.to_string()).unwrap_or_default(),
        size: latest.map(|latest| latest.size).unwrap_or_default(),
        providers: Vec::new(),
        reputation: Score::NEW.get(),
        updated: head.released_at.to_string(),
        notes,
        deprecated: head.deprecated.clone(),
        keys_disputed: false,
        freshness: Freshness::default(),
    }
}

/// Says of a package that there are two chains of its publisher's keys, where there are.
pub(super) fn with_keys(mut package: PackageInfo, are_disputed: bool) -> PackageInfo {
    package.keys_disputed = are_disputed;
    if are_disputed {
        package.notes.push(TWO_CHAINS.to_owned());
    }
    package
}

/// Adds the providers of at least `least`, and the best reputation among them.
pub(super) fn with_providers(
    listed: &Listed,
    frozen: bool,
    providers: &[PeerId],
    scores: &BTreeMap<PeerId, Score>,
    least: Score,
) -> PackageInfo {
    let score = |peer: &PeerId| scores.get(peer).copied().unwrap_or(Score::NEW);
    let able: Vec<&PeerId> = providers.iter().filter(|peer| score(peer) >= least).collect();
    let mut head = listed.head.clone();
    if frozen {
        // What it names as the latest is contested.
        head.latest = None;
    }
    PackageInfo {
        providers: able.iter().map(|peer| peer.to_string()).collect(),
        reputation: able.iter().map(|peer| score(peer)).max().unwrap_or(Score::NEW).get(),
        ..with_keys(package_info(&head, frozen), listed.disputed)
    }
}
