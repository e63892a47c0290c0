use super::*;
use crate::{
    content::{Codec, ContentId},
    identity::{Publisher, SecretKey},
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release},
    time::Timestamp,
};

fn head(publisher: &Publisher, versions: &[&str]) -> VerifiedHead {
    let now = Timestamp::from_secs(1_700_000_000);
    let mut log = Log::empty(PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() });
    for version in versions {
        let id = |codec| ContentId::of(codec, version.as_bytes());
        let (manifest, root) = (id(Codec::Raw), id(Codec::DagPb));
        let release = Release { version: version.parse().unwrap(), manifest, root, size: 1, files: 1 };
        log.push(log.next(Kind::Release(release), publisher, now).unwrap()).unwrap();
    }
    let head = Head::of(&log, Labels::default(), publisher).unwrap();
    head.sign(publisher).unwrap()
}

fn copies<'a>(of: impl IntoIterator<Item = &'a VerifiedHead>) -> Copies<VerifiedHead> {
    let mut copies = Copies::default();
    of.into_iter().for_each(|head| copies.add(Some(PeerId::random()), head.clone()));
    copies
}

#[test]
fn of_heads_that_contradict_each_other_none_is_the_newest() {
    let publisher = Publisher::from_secret([1; 32], Timestamp::from_secs(1_700_000_000));
    let (old, new) = (head(&publisher, &["1.0.0"]), head(&publisher, &["1.0.0", "1.1.0"]));
    assert_eq!(copies([]).newest(|_| true), Ok(None));
    assert_eq!(copies([&old, &new, &old]).newest(|_| true), Ok(Some(&new)));
    let (one, other) =
        (head(&publisher, &["1.0.0", "1.2.0"]), head(&publisher, &["1.0.0", "1.1.0", "1.2.0"]));
    assert_eq!(copies([&new, &one]).newest(|_| true), Err((Choice::Equivocation, &new, &one)));
    let behind_a_newer = copies([&other, &one, &new]);
    assert_eq!(behind_a_newer.newest(|_| true), Err((Choice::Equivocation, &one, &new)));
    let rotated =
        |seed| publisher.rotated(SecretKey::from_bytes(&[seed; 32]), Timestamp::from_secs(1)).unwrap();
    let (owner, thief) = (head(&rotated(2), &["1.0.0"]), head(&rotated(3), &["1.0.0"]));
    assert_eq!(copies([&owner, &thief]).newest(|_| true), Err((Choice::Fork, &owner, &thief)));
    // What was seen before decides, and where it speaks against all, nothing is hidden.
    assert_eq!(copies([&owner, &thief]).newest(|head| *head == owner), Ok(Some(&owner)));
    assert!(copies([&owner, &thief]).newest(|_| false).is_err());
}

#[test]
fn two_that_contradict_each_other_do_no_harm_once_later_keys_ended_that() {
    let now = Timestamp::from_secs(1_700_000_000);
    let publisher = Publisher::from_secret([1; 32], now);
    let (one, other) = (head(&publisher, &["1.0.0", "1.1.0"]), head(&publisher, &["1.0.0", "1.2.0"]));
    let secret = Some(SecretKey::from_bytes(&[2; 32]));
    let change = |revoked| crate::identity::publisher::Change {
        secret: secret.clone(),
        revoked,
        ..Default::default()
    };
    let revoking = publisher.changed(change(vec![publisher.public_key()]), &[], now).unwrap();
    let ended = head(&revoking, &["1.0.0", "1.1.0"]);
    for order in [[&one, &other, &ended], [&ended, &other, &one], [&other, &ended, &one]] {
        assert_eq!(copies(order).newest(|_| true), Ok(Some(&ended)));
    }
    // A newer key alone ends nothing.
    let silent = head(&publisher.changed(change(Vec::new()), &[], now).unwrap(), &["1.0.0", "1.1.0"]);
    assert!(copies([&one, &other, &silent]).newest(|_| true).is_err());
}

#[test]
fn the_newest_counts_though_one_peer_alone_has_it_and_all_others_are_told() {
    let publisher = Publisher::from_secret([1; 32], Timestamp::from_secs(1_700_000_000));
    let versions: Vec<String> = (0..80).map(|n| format!("1.{n}.0")).collect();
    let upto = |n: usize| {
        let versions: Vec<&str> = versions[..n].iter().map(String::as_str).collect();
        head(&publisher, &versions)
    };
    let (newest, holder) = (upto(80), PeerId::random());
    let liars: Vec<(PeerId, VerifiedHead)> = (1..80).map(|n| (PeerId::random(), upto(n))).collect();
    for place in [0, 40, 79] {
        let mut copies = Copies::default();
        for (n, (liar, old)) in liars.iter().enumerate() {
            if n == place {
                copies.add(Some(holder), newest.clone());
            }
            copies.add(Some(*liar), old.clone());
        }
        copies.add(Some(holder), newest.clone());
        assert!(copies.copies.len() <= DIFFERENT_MAX);
        assert_eq!(copies.newest(|_| true), Ok(Some(&newest)), "whenever it comes");
        let behind = copies.behind(&newest);
        assert!(!behind.contains(&holder) && behind.len() >= DIFFERENT_MAX - 1);
    }
}

#[test]
fn what_came_before_is_not_verified_again() {
    let publisher = Publisher::from_secret([1; 32], Timestamp::from_secs(1_700_000_000));
    let (one, [first, second]) = (head(&publisher, &["1.0.0"]), [PeerId::random(), PeerId::random()]);
    let mut copies = Copies::default();
    assert!(!copies.repeats(Some(first), one.bytes()) && copies.is_empty());
    copies.add(Some(first), one.clone());
    assert!(copies.repeats(Some(second), one.bytes()) && copies.repeats(None, one.bytes()));
    assert_eq!(copies.copies[0].holders, [first, second]);
    let newer = head(&publisher, &["1.0.0", "1.1.0"]);
    copies.add(None, newer.clone());
    assert_eq!(copies.behind(&newer), [first, second]);
}
