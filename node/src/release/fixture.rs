//! What the tests of this module build on.

use std::time::Duration;

use super::{Head, Kind, Labels, Log, Release, VerifiedHead};
use crate::{
    content::{Codec, ContentId},
    identity::{Publisher, SecretKey},
    package::PackageId,
    time::Timestamp,
};

/// The time in every test.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A publisher by a number.
pub(crate) fn publisher(seed: u8) -> Publisher {
    Publisher::from_secret([seed; 32], NOW)
}

/// The same publisher with its key replaced.
pub(crate) fn rotated(publisher: &Publisher, seed: u8) -> Publisher {
    publisher.rotated(SecretKey::from_bytes(&[seed; 32]), NOW).unwrap()
}

/// A release whose content depends on its version.
pub(crate) fn release(version: &str) -> Release {
    Release {
        version: version.parse().unwrap(),
        manifest: ContentId::of(Codec::Raw, version.as_bytes()),
        root: ContentId::of(Codec::DagPb, version.as_bytes()),
        size: 1234,
        files: 5,
    }
}

/// The log of a package called `pack` with these entries.
pub(crate) fn log(publisher: &Publisher, kinds: &[Kind]) -> Log {
    let mut log = Log::empty(PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() });
    for kind in kinds {
        log.push(log.next(kind.clone(), publisher, NOW).unwrap()).unwrap();
    }
    log
}

/// A log of these releases.
pub(crate) fn releases(publisher: &Publisher, versions: &[&str]) -> Log {
    let kinds: Vec<_> = versions.iter().map(|version| Kind::Release(release(version))).collect();
    log(publisher, &kinds)
}

/// What a plain package says of itself.
pub(crate) fn labels() -> Labels {
    Labels {
        description: "A package".to_owned(),
        license: Some("MIT".to_owned()),
        tags: vec!["small".to_owned()],
        categories: vec!["tests".to_owned()],
        preflight_skipped: false,
        secrets_allowed: false,
    }
}

/// The unsigned head of a log.
pub(crate) fn draft(publisher: &Publisher, log: &Log) -> Head {
    Head::of(log, labels(), publisher).unwrap()
}

/// The signed head of a log of these releases.
pub(crate) fn head(publisher: &Publisher, versions: &[&str]) -> VerifiedHead {
    draft(publisher, &releases(publisher, versions)).sign(publisher).unwrap()
}
