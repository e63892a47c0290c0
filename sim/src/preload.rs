//! What nodes hold before a run begins: heads of packages that nobody in the run publishes, as after years of use. To publish
//! thousands of them in a run would take hours.

use std::collections::BTreeMap;

use ggen_marketplace::{
    catalog::{self, Source},
    content::{Codec, ContentId},
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, VerifiedHead},
    store::{self, Store},
    time::Timestamp,
};

use crate::{
    draw::{Draws, Publishers},
    placement,
    scenario::Scenario,
};

/// Heads of one publisher.
const PER_PUBLISHER: u32 = 100;

/// Makes the heads, a second between each and the next.
pub(crate) fn heads(scenario: &Scenario, draws: Draws) -> Vec<VerifiedHead> {
    let Some(preload) = &scenario.preload else { return Vec::new() };
    // No key is older than what was signed with it, and nothing is from the future.
    let created = placement::created();
    let mut publishers = BTreeMap::new();
    (0..preload.heads)
        .map(|number| {
            let name = format!("preloaded-{}", number / PER_PUBLISHER);
            let publisher = publishers.entry(name).or_insert_with_key(|name| draws.publisher(name, created));
            let words = format!("earlier-{number}");
            let package = PackageId { publisher: publisher.id(), name: words.parse().expect("a valid name") };
            let release = Release {
                version: "1.0.0".parse().expect("a valid version"),
                manifest: ContentId::of(Codec::Raw, words.as_bytes()),
                root: ContentId::of(Codec::DagPb, words.as_bytes()),
                size: 1,
                files: 1,
            };
            let mut log = Log::empty(package);
            let at = Timestamp::from_secs(created.as_secs() - u64::from(preload.heads - number));
            let entry = log.next(Kind::Release(release), publisher, at).expect("a log can begin");
            log.push(entry).expect("its own next entry");
            let labels = Labels { description: "Here from the beginning".to_owned(), ..Labels::default() };
            let head = Head::of(&log, labels, publisher).expect("the log has an entry");
            head.sign(publisher).expect("a valid head")
        })
        .collect()
}

/// Puts them into the catalogue of a node.
pub(crate) fn put(store: &Store, heads: &[VerifiedHead], now: Timestamp) -> Result<(), store::Error> {
    store.write(|tx| {
        for head in heads {
            catalog::insert(tx, head, &Source::unknown(), now)?;
        }
        Ok(())
    })
}
