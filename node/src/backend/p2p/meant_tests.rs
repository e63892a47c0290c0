//! Tests of what short ids and requirements mean.

use super::*;
use crate::{
    content::{Codec, ContentId},
    identity::Publisher,
    release::{Head, Kind, Labels, Log, Release},
    time::Timestamp,
};

fn listed(store: &Store, publisher: &Publisher, name: &str) {
    let now = Timestamp::now();
    let mut log = Log::empty(PackageId { publisher: publisher.id(), name: name.parse().unwrap() });
    let id = |codec| ContentId::of(codec, name.as_bytes());
    let (manifest, root) = (id(Codec::Raw), id(Codec::DagPb));
    let release = Release { version: "1.0.0".parse().unwrap(), manifest, root, size: 1, files: 1 };
    log.push(log.next(Kind::Release(release), publisher, now).unwrap()).unwrap();
    let head = Head::of(&log, Labels::default(), publisher).unwrap().sign(publisher).unwrap();
    store.write(|tx| Ok(catalog::insert(tx, &head, &catalog::Source::own(), now)?)).unwrap();
}

/// Lists a package of a publisher that this machine has dealt with.
fn pinned(store: &Store, publisher: &Publisher, name: &str) {
    listed(store, publisher, name);
    store.write(|tx| pins::pin(tx, &name.parse().unwrap(), &publisher.id(), Timestamp::now())).unwrap();
}

/// Two publishers whose ids begin with the same letters, and those letters.
fn alike() -> (Publisher, Publisher, String) {
    let now = Timestamp::from_secs(1_700_000_000);
    let mut by_head = BTreeMap::new();
    (0u32..)
        .find_map(|n| {
            let mut secret = [0; 32];
            secret[..4].copy_from_slice(&n.to_be_bytes());
            let publisher = Publisher::from_secret(secret, now);
            let head = publisher.id().to_string()[..7].to_owned();
            let other = by_head.insert(head.clone(), publisher.clone())?;
            Some((other, publisher, head))
        })
        .unwrap()
}

#[test]
fn a_short_id_means_the_one_publisher_that_it_fits_and_of_several_the_one_with_the_package() {
    let store = Store::in_memory().unwrap();
    let (one, other, head) = alike();
    pinned(&store, &one, "web");
    let means = |text: &str| meant_in(&store, text).map(|meant| meant.reference.publisher.unwrap());
    assert_eq!(means(&format!("{head}/web")).unwrap(), one.id());
    pinned(&store, &other, "tools");
    assert_eq!(means(&format!("{head}/web@^1")).unwrap(), one.id());
    assert_eq!(means(&format!("{head}/tools")).unwrap(), other.id());
    assert_eq!(means(&format!("{head}/neither")).unwrap_err().code, Code::Ambiguous);
    listed(&store, &other, "web");
    let failure = means(&format!("{head}/web")).unwrap_err();
    assert_eq!(failure.code, Code::Ambiguous);
    for id in [one.id(), other.id()] {
        assert!(failure.message.contains(&id.to_string()), "{}", failure.message);
        let text = id.to_string();
        assert_eq!(means(&format!("{}…{}/web", &text[..9], &text[57..])).unwrap(), id);
    }
    assert_eq!(means("gp1zzzzzzzz/web").unwrap_err().code, Code::NotFound);
}

#[test]
fn a_stranger_made_to_fit_four_letters_is_not_taken_for_anybody() {
    let store = Store::in_memory().unwrap();
    let (ours, stranger, head) = alike();
    listed(&store, &stranger, "web");
    let means = |text: &str| meant_in(&store, text).map(|meant| meant.reference.publisher.unwrap());
    let failure = means(&format!("{head}/web")).unwrap_err();
    assert_eq!(failure.code, Code::Ambiguous);
    assert!(failure.message.contains(&stranger.id().to_string()), "{}", failure.message);
    // As tables print it.
    let text = stranger.id().to_string();
    assert_eq!(means(&format!("{}…{}/web", &text[..9], &text[57..])).unwrap(), stranger.id());
    pinned(&store, &ours, "other");
    assert_eq!(means(&format!("{head}/web")).unwrap(), ours.id(), "whom this machine deals with comes first");
}
