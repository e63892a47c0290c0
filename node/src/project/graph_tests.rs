use super::*;
use crate::{
    content::{Codec, ContentId},
    identity::PublisherId,
    package::gpack,
    project::Locked,
};

fn id(publisher: u8, name: &str) -> PackageId {
    PackageId { publisher: PublisherId::from_bytes([publisher; 32]), name: name.parse().unwrap() }
}

fn ranges(ids: &[&PackageId]) -> Ranges {
    ids.iter().map(|id| ((*id).clone(), "^1".parse().unwrap())).collect()
}

fn lock(packages: &[(&PackageId, &[&PackageId])]) -> Lock {
    let one = |needs: &[&PackageId]| Locked {
        version: Version::new(1, 0, 0),
        root: ContentId::of(Codec::DagPb, b""),
        entry: ContentId::of(Codec::DagCbor, b""),
        sequence: 0,
        keys: ContentId::of(Codec::DagCbor, b""),
        manifest: ContentId::of(Codec::Raw, b""),
        size: 0,
        dependencies: ranges(needs),
    };
    Lock { packages: packages.iter().map(|(id, needs)| ((*id).clone(), one(needs))).collect() }
}

fn project(aliases: &[(&str, &PackageId)]) -> Project {
    Project {
        name: None,
        dependencies: Ranges::new(),
        aliases: aliases.iter().map(|(name, id)| (name.parse().unwrap(), (*id).clone())).collect(),
        folder: gpack::FOLDER.into(),
        warnings: Vec::new(),
    }
}

#[test]
fn every_package_has_a_folder_of_its_own() {
    let (mine, theirs, third) = (id(1, "a"), id(2, "a"), id(3, "b"));
    let all = lock(&[(&mine, &[]), (&theirs, &[]), (&third, &[])]);
    let named = folders(&project(&[("a", &mine)]), &all);
    assert_eq!(named[&mine], "a");
    assert_eq!(named[&theirs], format!("a@{}", theirs.publisher));
    assert_eq!(named[&third], "b");
    let neither = folders(&project(&[]), &all);
    assert_eq!(neither[&mine], format!("a@{}", mine.publisher), "two claim the name");
    let swapped = folders(&project(&[("b", &mine), ("a", &third)]), &all);
    assert_eq!((&*swapped[&mine], &*swapped[&third]), ("b", "a"));
    assert_eq!(swapped[&theirs], format!("a@{}", theirs.publisher), "a short name goes before a name");
    for named in [named, neither, swapped] {
        let distinct: BTreeSet<&String> = named.values().collect();
        assert_eq!(distinct.len(), 3, "{named:?}");
    }
}

#[test]
fn a_tree_has_every_package_once_with_what_it_needs() {
    let (a, b, c) = (id(1, "a"), id(1, "b"), id(1, "c"));
    let lock = lock(&[(&a, &[&c]), (&b, &[&a, &c]), (&c, &[&b])]);
    let tree = tree(&ranges(&[&a, &b]), &lock);
    let shown: Vec<(usize, &str, bool)> =
        tree.iter().map(|branch| (branch.depth, branch.package.name.as_str(), branch.repeated)).collect();
    // A circle ends where it comes back.
    assert_eq!(
        shown,
        [(0, "a", false), (1, "c", false), (2, "b", false), (3, "a", true), (3, "c", true), (0, "b", true)]
    );
}

#[test]
fn a_package_that_is_not_locked_stands_in_the_tree_without_a_version() {
    let a = id(1, "a");
    let tree = tree(&ranges(&[&a]), &Lock::default());
    assert_eq!((tree.len(), tree[0].version.clone()), (1, None));
    assert!(why(&ranges(&[&a]), &Lock::default(), &a).is_empty());
}

#[test]
fn why_names_everybody_who_asks_by_a_shortest_way() {
    let (a, b, c, d) = (id(1, "a"), id(1, "b"), id(1, "c"), id(1, "d"));
    let lock = lock(&[(&a, &[&b, &d]), (&b, &[&c]), (&c, &[&d]), (&d, &[&a])]);
    let chains = why(&ranges(&[&a, &d]), &lock, &d);
    let names: Vec<String> = chains
        .iter()
        .map(|chain| chain.iter().map(|step| step.package.name.as_str()).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(names, ["d", "a d", "a b c d"]);
}

#[test]
fn changes_tell_what_came_went_and_moved() {
    let (a, b, c) = (id(1, "a"), id(1, "b"), id(1, "c"));
    let old = lock(&[(&a, &[]), (&b, &[])]);
    let mut new = lock(&[(&b, &[]), (&c, &[])]);
    new.packages.get_mut(&b).unwrap().version = Version::new(1, 1, 0);
    let told: Vec<(String, bool, bool)> = changes(&old, &new)
        .into_iter()
        .map(|change| (change.package.name.to_string(), change.from.is_some(), change.to.is_some()))
        .collect();
    assert_eq!(
        told,
        [("a".to_owned(), true, false), ("b".to_owned(), true, true), ("c".to_owned(), false, true)]
    );
    assert!(changes(&old, &old).is_empty());
}
