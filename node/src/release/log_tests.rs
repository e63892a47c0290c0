//! Tests of what a log must obey.

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
fn the_beginning_of_a_log_learns_from_the_head_what_was_yanked_since() {
    let publisher = publisher(1);
    let all = ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0"];
    let told = |changes: Vec<Kind>| {
        let mut part = releases(&publisher, &all);
        part.push(part.next(yank("1.0.0"), &publisher, NOW).unwrap()).unwrap();
        let mut whole = part.clone();
        for kind in changes {
            whole.push(whole.next(kind, &publisher, NOW).unwrap()).unwrap();
        }
        let head = draft(&publisher, &whole).sign(&publisher).unwrap();
        // Of a head that has no room to name any, too.
        let unnamed = crate::release::Head { yanked: Vec::new(), ..head.head().clone() };
        [head.head(), &unnamed].map(|head| {
            let mut part = part.clone();
            part.yank_as_told(head);
            let yanked = part.versions().iter().filter(|(_, state)| state.yanked.is_some());
            yanked.map(|(version, _)| version.to_string()).collect::<Vec<_>>()
        })
    };
    let of = |versions: &[&str]| versions.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(vec![Kind::Release(release("3.0.0"))]), [of(&["1.0.0"]), of(&["1.0.0"])]);
    assert_eq!(told(vec![yank("2.0.0")]), [of(&["1.0.0", "2.0.0"]), of(&["1.0.0", "2.0.0"])]);
    let between = vec![yank("1.1.0")];
    assert_eq!(told(between), [of(&["1.0.0", "1.1.0"]), of(&["1.0.0"])]);
    let stable = vec![yank("1.1.0"), yank("2.0.0")];
    assert_eq!(told(stable)[1], of(&["1.0.0", "1.1.0", "2.0.0"]), "a pre-release is the latest");
    let again = vec![yank("1.1.0"), yank("2.0.0"), unyank("1.0.0")];
    assert_eq!(told(again)[0], of(&["1.1.0", "2.0.0"]));
    assert_eq!(told(vec![tombstone()])[1], of(&all), "the package is gone");
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
    let of_other = releases(&self::publisher(2), &["1.0.0", "1.1.0", "1.2.0", "1.3.0"]).entries()[3].clone();
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

#[test]
fn a_log_of_our_own_database_is_read_as_it_was_and_not_with_one_byte_changed() {
    let publisher = publisher(1);
    let log = releases(&publisher, &["1.0.0", "1.1.0", "1.2.0"]);
    let stored: Vec<Vec<u8>> = log.entries().iter().map(|entry| entry.block().bytes().to_vec()).collect();
    let read = |stored: &[Vec<u8>]| Log::verify_stored(stored.iter().map(Vec::as_slice), publisher.key_log());
    assert_eq!(read(&stored).unwrap(), log);
    // In the middle and at the end of each: what was signed, and the signature.
    for entry in 0..stored.len() {
        for place in [stored[entry].len() / 2, stored[entry].len() - 1] {
            let mut damaged = stored.clone();
            damaged[entry][place] ^= 1;
            assert!(read(&damaged).is_err(), "entry {entry}, byte {place}");
        }
    }
    assert!(read(&stored[1..]).is_err(), "its first entry is missing");
    assert!(read(&[]).is_err());
}
