//! What a log makes of a resolve, and what a head with one ends.

use proptest::prelude::*;

use super::*;
use crate::{
    code::Code,
    identity::{KeyLog, SecretKey, hex, publisher::Change},
    limits::{RESOLVED_BRANCHES_MAX, RESOLVED_ENTRIES_MAX, RESOLVED_VERSIONS_MAX},
    release::{
        Choice, DoubleSigning, Head, Seen, choice,
        fixture::{NOW, draft, publisher, release, releases, rotated},
    },
};

/// Two logs of one key that have their first two versions in common, and go different ways from there.
fn branches() -> [Log; 2] {
    [["1.0.0", "1.1.0", "2.0.0", "2.1.0"], ["1.0.0", "1.1.0", "3.0.0", "3.1.0"]]
        .map(|versions| releases(&publisher(1), &versions))
}

/// What keeps 2.0.0 and withdraws the rest of two branches that have their first two entries in common.
fn decision(branches: &[Log]) -> Resolve {
    let mut branches: Vec<Vec<ContentId>> =
        branches.iter().map(|log| log.entries()[2..].iter().map(SignedEntry::id).collect()).collect();
    branches.sort();
    let withdrawn = ["2.1.0", "3.0.0", "3.1.0"].map(|version| Withdrawn::of(&release(version))).into();
    Resolve { key_n: 0, branches, kept: vec![release("2.0.0")], withdrawn }
}

fn kind(resolve: Resolve) -> Kind {
    Kind::Resolve(Box::new(resolve))
}

/// What two logs have in common, and the entry that resolves them under the key that follows.
fn resolved(branches: &[Log; 2], by: &Publisher) -> Log {
    let mut log = branches[0].common(&branches[1]).unwrap();
    log.push(log.next(kind(decision(branches)), by, NOW).unwrap()).unwrap();
    log
}

fn head_of(log: &Log, by: &Publisher) -> VerifiedHead {
    draft(by, log).sign(by).unwrap()
}

fn proof(branches: &[Log; 2]) -> DoubleSigning {
    let by = publisher(1);
    DoubleSigning::of_heads(&head_of(&branches[0], &by), &head_of(&branches[1], &by)).unwrap()
}

fn revoked(old: &Publisher, seed: u8) -> Publisher {
    let secret = Some(SecretKey::from_bytes(&[seed; 32]));
    old.changed(Change { secret, revoked: vec![old.public_key()], ..Change::default() }, &[], NOW).unwrap()
}

#[test]
fn a_resolve_continues_what_the_branches_have_in_common_and_decides_each_version() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let branches = branches();
    let mut log = resolved(&branches, &new);
    assert_eq!(log.entries().len(), 3);
    assert_eq!(log.entries()[2].entry().previous, Some(branches[0].entries()[1].id()));
    let versions: Vec<String> = log.versions().keys().map(Version::to_string).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0", "2.0.0"]);
    assert_eq!(log.latest().unwrap().version.to_string(), "2.0.0");
    for version in ["2.1.0", "3.0.0", "3.1.0"] {
        let error = log.next(Kind::Release(release(version)), &new, NOW).unwrap_err();
        assert_eq!(error.code(), Code::Conflict, "{version} is never used again");
    }
    log.push(log.next(Kind::Release(release("4.0.0")), &new, NOW).unwrap()).unwrap();
    let verified: Vec<SignedEntry> = log
        .entries()
        .iter()
        .map(|it| SignedEntry::decode_and_verify(it.block().bytes(), new.key_log()).unwrap())
        .collect();
    assert_eq!(Log::verify(verified).unwrap(), log, "from the log alone");
    log.anchored(&head_of(&log, &new)).unwrap();
    let silent = Head { resolved: serde_bytes::ByteBuf::new(), ..draft(&new, &log) }.sign(&new).unwrap();
    assert_eq!(log.anchored(&silent).unwrap_err().code(), Code::HashMismatch);
    assert!(branches[0].anchored(&head_of(&branches[0], &old)).is_ok());
}

#[test]
fn what_a_resolve_does_not_keep_counts_no_more_whether_or_not_it_was_read() {
    let branches = branches();
    let log = resolved(&branches, &rotated(&publisher(1), 2));
    let [kept, withdrawn, common] = ["2.0.0", "3.0.0", "1.1.0"].map(|it| Withdrawn::of(&release(it)));
    assert!(log.has_withdrawn(&withdrawn, None));
    let other = Withdrawn { manifest: withdrawn.manifest, ..kept.clone() };
    assert!(log.has_withdrawn(&other, None), "the same version has other content");
    // A branch that was not read is named by no version.
    let unread = Withdrawn::of(&release("6.6.6"));
    assert!(log.has_withdrawn(&unread, Some((2, 0))) && log.has_withdrawn(&unread, Some((7, 0))));
    assert!(!log.has_withdrawn(&unread, Some((3, 1))), "it may be newer than what is known here");
    assert!(!log.has_withdrawn(&unread, Some((1, 0))) && !log.has_withdrawn(&unread, None));
    for counts in [&kept, &common] {
        assert!(!log.has_withdrawn(counts, Some((2, 0))), "{counts:?}");
    }
    assert!(branches.iter().all(|log| !log.has_withdrawn(&unread, Some((2, 0)))), "nothing was resolved");
}

#[test]
fn a_resolve_may_begin_a_log() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let logs = [["2.0.0"], ["3.0.0"]].map(|versions| releases(&old, &versions));
    let common = logs[0].common(&logs[1]).unwrap();
    assert!(common.entries().is_empty());
    let mut branches: Vec<Vec<ContentId>> = logs.iter().map(|log| vec![log.id().unwrap()]).collect();
    branches.sort();
    let resolve = Resolve {
        key_n: 0,
        branches,
        kept: vec![release("2.0.0")],
        withdrawn: vec![Withdrawn::of(&release("3.0.0"))],
    };
    let mut log = common;
    log.push(log.next(kind(resolve), &new, NOW).unwrap()).unwrap();
    let proof = DoubleSigning::of_heads(&head_of(&logs[0], &old), &head_of(&logs[1], &old)).unwrap();
    assert_eq!(proof.sequence, Sequence::default());
    assert!(proof.is_ended_by(&head_of(&log, &new)));
}

#[test]
fn a_double_signing_is_ended_by_later_keys_that_name_both_sides_and_by_nothing_else() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let branches = branches();
    let proof = proof(&branches);
    assert_eq!((proof.key_n, proof.sequence.get()), (0, 3));
    assert!(proof.is_ended_by(&head_of(&resolved(&branches, &new), &new)));

    let naming = |change: &dyn Fn(&mut Resolve)| {
        let mut resolve = decision(&branches);
        change(&mut resolve);
        let mut log = branches[0].common(&branches[1]).unwrap();
        log.push(log.next(kind(resolve), &new, NOW).unwrap()).unwrap();
        head_of(&log, &new)
    };
    let side = proof.sides[1].entry;
    for (head, why) in [
        (head_of(&branches[0], &old), "one side"),
        (head_of(&branches[0], &new), "one side under later keys"),
        (naming(&|it| it.branches.truncate(1)), "one branch named"),
        (
            naming(&|it| it.branches.iter_mut().for_each(|ids| ids.retain(|id| *id != side))),
            "one side not named",
        ),
    ] {
        assert!(!proof.is_ended_by(&head), "{why}");
    }
    // Another fork of the same log is not ended with it.
    let third = releases(&old, &["1.0.0", "1.1.0", "9.0.0", "9.1.0"]);
    let other = DoubleSigning::of_heads(&head_of(&branches[0], &old), &head_of(&third, &old)).unwrap();
    assert!(!other.is_ended_by(&head_of(&resolved(&branches, &new), &new)));
    // Nor is what the later keys sign twice themselves.
    let [a, b] = [&branches[0], &branches[1]].map(|log| head_of(log, &new));
    let own = DoubleSigning::of_heads(&a, &b).unwrap();
    assert_eq!(own.key_n, 1);
    assert!(!own.is_ended_by(&head_of(&resolved(&branches, &new), &new)));
}

#[test]
fn what_revoked_keys_signed_is_no_side() {
    let old = publisher(1);
    let branches = branches();
    let (replaced, void) = (rotated(&old, 2), revoked(&old, 2));
    assert!(!proof(&branches).is_ended_by(&head_of(&branches[0], &replaced)));
    assert!(proof(&branches).is_ended_by(&head_of(&branches[0], &void)));
    assert!(proof(&branches).counts_in(replaced.key_log()) && !proof(&branches).counts_in(void.key_log()));
}

#[test]
fn a_stolen_release_key_resolves_nothing_where_recovery_keys_are_named() {
    let recovery = SecretKey::from_bytes(&[7; 32]);
    let change = Change { recovery: Some((vec![recovery.public_key()], 1)), ..Change::default() };
    let owner = publisher(1).changed(change, &[], NOW).unwrap();
    let log = |versions: &[&str]| releases(&owner, versions);
    let branches = [log(&["1.0.0", "1.1.0", "2.0.0"]), log(&["1.0.0", "1.1.0", "3.0.0"])];
    let proof =
        DoubleSigning::of_heads(&head_of(&branches[0], &owner), &head_of(&branches[1], &owner)).unwrap();

    // The thief has the release key, which cannot rotate.
    assert_eq!(owner.rotated(SecretKey::from_bytes(&[9; 32]), NOW).unwrap_err().code(), Code::Signature);
    // Nor does it resolve under the document that the branches were signed under.
    let common = || branches[0].common(&branches[1]).unwrap();
    let named = |key_n| {
        let mut branches: Vec<_> = branches.iter().map(|log| vec![log.entries()[2].id()]).collect();
        branches.sort();
        Resolve {
            key_n,
            branches,
            kept: vec![release("3.0.0")],
            withdrawn: vec![Withdrawn::of(&release("2.0.0"))],
        }
    };
    assert_eq!(common().next(kind(named(1)), &owner, NOW).unwrap_err().code(), Code::Malformed);
    // It may claim that the branches are older than they are; that ends nothing.
    let error = common().next(kind(named(0)), &owner, NOW).unwrap_err();
    assert_eq!(error.code(), Code::Conflict, "{error}");
    // With a rotation of its own from before recovery keys were named, it is on another chain.
    let thief = rotated(&publisher(1), 9);
    let mut log = releases(&publisher(1), &["1.0.0"]);
    log.push(log.next(kind(named(0)), &thief, NOW).unwrap()).unwrap();
    assert!(!proof.is_ended_by(&head_of(&log, &thief)));

    // Its owner does, with the recovery key.
    let mended = owner.changed(
        Change { secret: Some(SecretKey::from_bytes(&[2; 32])), ..Change::default() },
        &[recovery],
        NOW,
    );
    let mended = mended.unwrap();
    let mut log = common();
    log.push(log.next(kind(named(1)), &mended, NOW).unwrap()).unwrap();
    assert!(proof.is_ended_by(&head_of(&log, &mended)));
}

#[test]
fn two_resolves_for_one_place_are_a_double_signing_that_another_rotation_ends() {
    let new = rotated(&publisher(1), 2);
    let branches = branches();
    let first = resolved(&branches, &new);
    let mut second = branches[0].common(&branches[1]).unwrap();
    let other = Resolve {
        kept: vec![release("3.0.0")],
        withdrawn: ["2.0.0", "2.1.0", "3.1.0"].map(|version| Withdrawn::of(&release(version))).into(),
        ..decision(&branches)
    };
    second.push(second.next(kind(other), &new, NOW).unwrap()).unwrap();
    let [a, b] = [&first, &second].map(|log| head_of(log, &new));
    assert_eq!(choice::compare(&a, &b), Choice::Equivocation);
    assert_eq!(choice::accept(&b, Some(a.seen())).unwrap_err().code(), Code::Equivocation);
    let standing = DoubleSigning::of_heads(&a, &b).unwrap();
    assert!(!standing.is_ended_by(&a) && !standing.is_ended_by(&b));

    let newer = rotated(&new, 3);
    let mut all = decision(&branches);
    all.key_n = 1;
    all.branches.extend([&first, &second].map(|log| vec![log.entries()[2].id()]));
    all.branches.sort();
    let mut log = branches[0].common(&branches[1]).unwrap();
    log.push(log.next(kind(all), &newer, NOW).unwrap()).unwrap();
    let mended = head_of(&log, &newer);
    assert!(standing.is_ended_by(&mended) && proof(&branches).is_ended_by(&mended));
    assert_eq!(choice::compare(&mended, &a), Choice::First);
}

#[test]
fn resolves_that_break_a_rule_are_neither_signed_nor_read() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let branches = branches();
    let common = branches[0].common(&branches[1]).unwrap();
    let many =
        |count: usize| (0..count).map(|n| ContentId::of(crate::content::Codec::DagCbor, &n.to_be_bytes()));
    let sorted = |mut lists: Vec<Vec<ContentId>>| {
        lists.sort();
        lists
    };
    type Change<'a> = &'a dyn Fn(&mut Resolve);
    let cases: [(Change<'_>, Code, &str); 14] = [
        (&|it| it.branches.clear(), Code::Malformed, "no branch"),
        (&|it| it.branches[0].clear(), Code::Malformed, "an empty branch"),
        (&|it| it.branches.reverse(), Code::Malformed, "branches out of order"),
        (&|it| it.branches[1] = it.branches[0].clone(), Code::Malformed, "one branch twice"),
        (
            &|it| it.branches[0] = [it.branches[0][0], it.branches[1][0]].into(),
            Code::Malformed,
            "one entry twice",
        ),
        (
            &|it| it.branches[0].push(ContentId::of(crate::content::Codec::Raw, b"")),
            Code::Malformed,
            "no entry",
        ),
        (
            &|it| it.branches = sorted(many(RESOLVED_BRANCHES_MAX + 1).map(|id| vec![id]).collect()),
            Code::Limit,
            "too many branches",
        ),
        (&|it| it.branches = vec![many(RESOLVED_ENTRIES_MAX + 1).collect()], Code::Limit, "too many entries"),
        (&|it| it.kept.push(release("1.5.0")), Code::Malformed, "versions out of order"),
        (&|it| it.withdrawn.reverse(), Code::Malformed, "withdrawn out of order"),
        (
            &|it| it.withdrawn.insert(0, Withdrawn::of(&release("2.0.0"))),
            Code::Malformed,
            "kept and withdrawn",
        ),
        (&|it| it.key_n = 1, Code::Malformed, "by the keys of the branches"),
        (&|it| it.kept.insert(0, release("1.1.0")), Code::Conflict, "a version of all branches again"),
        (
            &|it| it.withdrawn.insert(0, Withdrawn::of(&release("1.1.0"))),
            Code::Conflict,
            "a version of all branches withdrawn",
        ),
    ];
    assert!(common.next(kind(decision(&branches)), &new, NOW).is_ok(), "else nothing is proved");
    for (change, code, why) in cases {
        let mut resolve = decision(&branches);
        change(&mut resolve);
        assert_eq!(common.next(kind(resolve), &new, NOW).unwrap_err().code(), code, "{why}");
    }
    assert_eq!(common.next(kind(decision(&branches)), &old, NOW).unwrap_err().code(), Code::Malformed);
    // After an entry of later keys than the branches, none of them can begin.
    let mut went_on = common.clone();
    went_on.push(went_on.next(Kind::Release(release("1.2.0")), &new, NOW).unwrap()).unwrap();
    let later = rotated(&new, 3);
    assert_eq!(went_on.next(kind(decision(&branches)), &later, NOW).unwrap_err().code(), Code::Conflict);
}

#[test]
fn the_largest_resolve_fits_and_so_does_its_head() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let version = |n: usize| format!("1.0.{n}-{}", "x".repeat(55));
    let versions: Vec<String> = (100..100 + RESOLVED_VERSIONS_MAX).map(version).collect();
    let log = releases(&old, &versions.iter().map(String::as_str).collect::<Vec<_>>());
    let named = &log.entries()[RESOLVED_VERSIONS_MAX - RESOLVED_ENTRIES_MAX..];
    let branches = vec![named.iter().map(SignedEntry::id).collect()];
    let kept = log.versions().values().map(|state| state.release.clone()).collect();
    let mut resolved = Log::empty(log.package().clone());
    let resolve = Resolve { key_n: 0, branches, kept, withdrawn: vec![] };
    resolved.push(resolved.next(kind(resolve), &new, NOW).unwrap()).unwrap();
    let head = head_of(&resolved, &new);
    assert!(named.iter().all(|entry| head.resolved(&entry.id())));
}

/// The order in which a node hears of heads and of proofs decides nothing.
fn after(
    all: &[(VerifiedHead, Option<DoubleSigning>)],
    order: &[usize],
) -> (Option<Seen>, Vec<DoubleSigning>) {
    let mut head: Option<VerifiedHead> = None;
    let mut standing: Vec<DoubleSigning> = Vec::new();
    for at in order {
        let (next, proof) = &all[*at];
        if head.as_ref().is_none_or(|head| choice::compare(next, head) == Choice::First) {
            head = Some(next.clone());
        }
        standing.extend(proof.clone());
        standing.sort_by(|a, b| a.sides.cmp(&b.sides));
        standing.dedup();
        standing.retain(|proof| !head.as_ref().is_some_and(|head| proof.is_ended_by(head)));
    }
    (head.map(|head| head.seen()), standing)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn forks_resolves_and_stale_heads_come_out_alike_in_every_order(
        (order, again) in proptest::collection::vec(0..6usize, 1..16).prop_flat_map(|order| {
            let twice = [order.clone(), order.clone()].concat();
            (Just(order), Just(twice).prop_shuffle())
        }),
    ) {
        let (old, new) = (publisher(1), rotated(&publisher(1), 2));
        let branches = branches();
        let third = releases(&old, &["1.0.0", "1.1.0", "9.0.0", "9.1.0"]);
        let common = branches[0].common(&branches[1]).unwrap();
        let other = DoubleSigning::of_heads(&head_of(&branches[0], &old), &head_of(&third, &old)).unwrap();
        let all = [
            (head_of(&common, &old), None),
            (head_of(&branches[0].first(3).unwrap(), &old), None),
            (head_of(&common, &old), Some(proof(&branches))),
            (head_of(&common, &old), Some(other)),
            (head_of(&resolved(&branches, &new), &new), None),
            (head_of(&common, &old), None),
        ];
        proptest::prop_assert_eq!(after(&all, &order), after(&all, &again));
    }
}

/// The format is final: these bytes may never change.
#[test]
fn the_format_is_fixed() {
    let new = rotated(&publisher(1), 2);
    let log = resolved(&branches(), &new);
    let signed = log.newest().unwrap();
    assert!(KeyLog::verify(&new.key_log().documents().map(<[u8]>::to_vec).collect::<Vec<_>>()).is_ok());
    insta::assert_snapshot!(hex::encode(signed.block().bytes()));
    insta::assert_snapshot!(hex::encode(&log.resolved_names()));
}
