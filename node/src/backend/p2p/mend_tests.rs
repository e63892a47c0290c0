//! What becomes of the branches of a log.

use super::*;
use crate::{
    backend::p2p::publish::tests::registry_of,
    content::Codec,
    release::{
        DoubleSigning, Sequence,
        fixture::{NOW, draft, publisher, release, releases, rotated},
    },
};

fn proof(one: &Log, other: &Log) -> Proof {
    let by = publisher(1);
    let [first, second] = [one, other].map(|log| draft(&by, log).sign(&by).unwrap());
    let proves = DoubleSigning::of_heads(&first, &second).unwrap();
    Proof { proves, first: first.bytes().to_vec(), second: second.bytes().to_vec(), at: NOW }
}

fn withheld(log: &Log, place: u64) -> Withheld {
    let entry = log.newest().unwrap().id();
    Withheld { entry, place: Sequence::new(place), why: "nobody gives it".to_owned() }
}

fn versions(fates: &[Fate]) -> Vec<(String, String, bool)> {
    fates.iter().map(|fate| (fate.release.version.to_string(), letter(fate.branch), fate.kept)).collect()
}

/// As two contents of one version.
fn with_content(log: &Log, content: &[u8]) -> Log {
    let by = publisher(1);
    let version = log.newest().map(|newest| match &newest.entry().kind {
        Kind::Release(release) => release.version.clone(),
        _ => panic!("no release"),
    });
    let mut changed = log.first(log.entries().len() - 1).unwrap();
    let manifest = ContentId::of(Codec::Raw, content);
    let root = ContentId::of(Codec::DagPb, content);
    let other = Release { version: version.unwrap(), manifest, root, size: 1, files: 1 };
    changed.push(changed.next(Kind::Release(other), &by, NOW).unwrap()).unwrap();
    changed
}

#[test]
fn the_branch_here_is_what_this_machine_signed_and_not_what_is_listed() {
    let by = publisher(1);
    let own = releases(&by, &["1.0.0", "1.1.0"]);
    let mut other = with_content(&own, b"theirs");
    other.push(other.next(Kind::Release(release("1.2.0")), &by, NOW).unwrap()).unwrap();
    let branches = Branches::of(vec![other.clone()], Vec::new(), Some(own.clone()), 0).unwrap();
    assert_eq!((branches.here, branches.common.entries().len()), (Some(1), 1));
    let fates = decide(&branches, &[], &[]).unwrap();
    let kept: Vec<_> = versions(&fates);
    assert_eq!(
        kept,
        [
            ("1.1.0".into(), "a".into(), false),
            ("1.1.0".into(), "b".into(), true),
            ("1.2.0".into(), "a".into(), true)
        ]
    );
    assert_eq!(fates[1].release, own.latest().unwrap().clone());
    assert!(fates[1].why.contains("this machine's content") && fates[0].why.contains("other content"));
    // What this machine holds is no branch where all branches have it.
    let common = Branches::of(vec![other, own], Vec::new(), Some(releases(&by, &["1.0.0"])), 0).unwrap();
    assert_eq!((common.here, common.logs.len()), (None, 2));
    let fates = decide(&common, &[], &["1.1.0:a".to_owned(), "1.1.0:B".to_owned()]).unwrap();
    assert_eq!(fates.iter().filter(|fate| fate.kept).count(), 1);
    // What is kept and withdrawn at once is neither.
    for (keep, gone) in [("1.1.0:b", "1.1.0:b"), ("1.1.0", "1.1.0"), ("1.1.0", "1.1.0:a")] {
        let failure = decide(&common, &[keep.to_owned()], &[gone.to_owned()]).unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert!(failure.message.contains("mean the same content"), "{}", failure.message);
    }
    let fates = decide(&common, &["1.1.0:b".to_owned()], &["1.1.0".to_owned()]).unwrap();
    assert_eq!(versions(&fates), kept, "what another branch has of it is withdrawn");
}

#[test]
fn of_a_branch_that_nobody_gives_the_entry_of_its_head_is_enough() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let own = releases(&old, &["1.0.0", "1.1.0", "1.2.0"]);
    let thief = releases(&old, &["1.0.0", "6.6.5", "6.6.6"]);
    let proofs = [proof(&own, &thief)];
    let branches = Branches::of(vec![own.clone()], vec![withheld(&thief, 2)], Some(own.clone()), 0).unwrap();
    assert_eq!(
        branches.common.entries().len(),
        2,
        "what is before the proved place, nobody is known to contest"
    );
    let fates = decide(&branches, &[], &[]).unwrap();
    assert_eq!(versions(&fates), [("1.2.0".into(), "a".into(), true)]);
    let chosen = resolve(&branches, &fates, &proofs).unwrap();
    assert!(chosen.warning.is_none());
    let mut log = branches.common;
    log.push(log.next(Kind::Resolve(Box::new(chosen.resolve)), &new, NOW).unwrap()).unwrap();
    assert!(proofs[0].proves.is_ended_by(&draft(&new, &log).sign(&new).unwrap()));
    assert_eq!(log.latest(), own.latest());
    // Nor is anything lost where it goes on from what is here.
    let beyond = Branches::of(vec![own.clone()], vec![withheld(&thief, 3)], Some(own.clone()), 0).unwrap();
    assert_eq!((beyond.common, beyond.here), (own, None));
}

#[test]
fn long_branches_are_resolved_by_the_entries_that_are_proved_and_the_newest() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let names =
        |major: u32, number: u32| -> Vec<String> { (0..number).map(|n| format!("{major}.0.{n}")).collect() };
    let log = |major, number| {
        let versions = names(major, number);
        releases(&old, &versions.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (own, other) = (log(1, 33), log(2, 33));
    let proofs = [proof(&own, &other)];
    let branches = Branches::of(vec![own.clone(), other.clone()], Vec::new(), Some(own.clone()), 0).unwrap();
    let fates = decide(&branches, &[], &[]).unwrap();
    assert_eq!(fates.len(), 66);
    let chosen = resolve(&branches, &fates, &proofs).unwrap();
    assert!(chosen.warning.unwrap().contains("at most 64"));
    assert_eq!(chosen.resolve.entries().count(), RESOLVED_ENTRIES_MAX);
    let mut resolved = branches.common;
    resolved.push(resolved.next(Kind::Resolve(Box::new(chosen.resolve)), &new, NOW).unwrap()).unwrap();
    assert_eq!(resolved.versions().len(), 66);
    assert!(proofs[0].proves.is_ended_by(&draft(&new, &resolved).sign(&new).unwrap()));
    // More versions than one entry has room for are told in words.
    let (own, other) = (log(1, 100), log(2, 60));
    let branches = Branches::of(vec![own.clone(), other], Vec::new(), Some(own), 0).unwrap();
    let failure = resolve(&branches, &decide(&branches, &[], &[]).unwrap(), &[]).unwrap_err();
    assert_eq!(failure.code, Code::Limit);
    assert!(failure.message.contains("160 versions") && failure.hint.contains("key revoke"), "{failure:?}");
}

#[test]
fn more_branches_than_one_entry_ends_are_told_in_words() {
    let old = publisher(1);
    let branches_of = |number: usize| {
        let logs = (0..number).map(|n| releases(&old, &["1.0.0", &format!("2.{n}.0")]));
        let branches = Branches::of(logs.collect(), Vec::new(), None, 0).unwrap();
        let fates = decide(&branches, &[], &[]).unwrap();
        resolve(&branches, &fates, &[])
    };
    assert_eq!(branches_of(RESOLVED_BRANCHES_MAX).unwrap().resolve.branches.len(), RESOLVED_BRANCHES_MAX);
    let failure = branches_of(RESOLVED_BRANCHES_MAX + 1).unwrap_err();
    assert_eq!(failure.code, Code::Limit);
    assert!(failure.message.contains("9 branches") && failure.hint.contains("key revoke"), "{failure:?}");
}

#[tokio::test]
async fn a_double_signing_is_ended_alone_only_where_no_other_machine_may_have_ended_it() {
    let (old, now) = (publisher(1), Timestamp::now());
    let store = Store::in_memory().unwrap();
    let [own, other] = ["2.0.0", "2.1.0"].map(|version| releases(&old, &["1.0.0", version]));
    let [first, second] = [&own, &other].map(|log| draft(&old, log).sign(&old).unwrap());
    history::keep_log(&store, first.key_log(), &own, &first, now).unwrap();
    store.write(|tx| Ok(catalog::insert(tx, &second, &catalog::Source::unknown(), now)?)).unwrap();
    let registry = registry_of(store, rotated(&old, 2).adopted()).await;
    let node = &registry.node;
    let resolve = async |dry_run| {
        let package = own.package().to_string();
        node.resolve_branches(ResolveRequest { package, dry_run, ..ResolveRequest::default() }).await
    };
    assert!(!resolve(true).await.unwrap().resolved);
    let refused = resolve(false).await.unwrap_err();
    assert_eq!((refused.code, refused.retryable), (Code::Rollback, true), "{refused:?}");
    assert!(node.keys.replace(rotated(&old, 2)));
    node.note_twin(libp2p::PeerId::random(), false);
    assert_eq!(resolve(false).await.unwrap_err().code, Code::NodeKey);
}

#[test]
fn what_branches_said_besides_is_said_again_unless_it_gives_the_package_away() {
    let (old, new) = (publisher(1), rotated(&publisher(1), 2));
    let common = releases(&old, &["1.0.0", "1.1.0"]);
    let branch = |kinds: Vec<Kind>| {
        let mut log = common.clone();
        for kind in kinds {
            log.push(log.next(kind, &old, NOW).unwrap()).unwrap();
        }
        log
    };
    let yank = |version: &str| Kind::Yank { version: version.parse().unwrap(), reason: "unsafe".to_owned() };
    let deprecate = Kind::Deprecate { message: "use another".to_owned() };
    let transfer = Kind::Transfer { to: publisher(9).id() };
    let here = branch(vec![yank("1.0.0"), Kind::Release(release("1.2.0")), yank("1.2.0")]);
    let other = branch(vec![yank("1.1.0"), deprecate.clone(), transfer.clone()]);
    let branches = Branches::of(vec![other, here.clone()], Vec::new(), Some(here), 0).unwrap();
    let said = said_besides(&branches);
    assert_eq!(said.repeated, [yank("1.1.0"), yank("1.0.0"), deprecate]);
    assert_eq!(said.left_out, [transfer]);
    let fates = decide(&branches, &[], &[]).unwrap();
    assert_eq!(versions(&fates), [("1.2.0".into(), "b".into(), false)], "it was withdrawn in its branch");
    let resolve = resolve(&branches, &fates, &[]).unwrap().resolve;
    let store = Store::in_memory().unwrap();
    let listed = draft(&old, &branches.logs[0]).sign(&old).unwrap();
    let end = End { resolve, repeated: said.repeated, fates };
    let head = end.write(&store, &new, &listed, branches.common, NOW).unwrap();
    let log = history::held_log(&store, &new, &head.package_id()).unwrap().unwrap();
    assert!(log.versions().values().all(|state| state.yanked.is_some()));
    assert_eq!((log.deprecated(), log.transferred()), (Some("use another"), None));
    log.anchored(&head).unwrap();
}
