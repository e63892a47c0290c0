use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{identity::PublisherId, limits::DEPENDENCIES_MAX};

/// What all packages of a small world need, by package and version.
type World = BTreeMap<PackageId, BTreeMap<Version, (bool, Ranges)>>;

/// A name, a version, and what it needs.
type Line<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
/// For each package, version and other package, whether there is a range and which.
type Draws = [Vec<Vec<(u8, u8, u8)>>];

fn id(name: &str) -> PackageId {
    PackageId { publisher: PublisherId::from_bytes([1; 32]), name: name.parse().unwrap() }
}

fn numbered(number: usize) -> PackageId {
    id(&format!("p{number:05}"))
}

fn ranges(list: &[(&str, &str)]) -> Ranges {
    list.iter().map(|(name, range)| (id(name), range.parse().unwrap())).collect()
}

fn root(list: &[(&str, &str)]) -> Root {
    Root { package: id("root"), dependencies: ranges(list) }
}

/// A world from lines of a name, a version (withdrawn where `-` stands before it), and what it needs.
fn world(lines: &[Line<'_>]) -> World {
    let mut world = World::new();
    for (name, version, needs) in lines {
        let yanked = version.starts_with('-');
        let version = version.trim_start_matches('-').parse().unwrap();
        world.entry(id(name)).or_default().insert(version, (yanked, ranges(needs)));
    }
    world
}

fn learn(resolution: &mut Resolution, world: &World, need: Need) {
    match need {
        Need::Versions(package) => {
            let versions = world.get(&package).map_or(Versions::Missing, |versions| {
                let one = |(version, (yanked, _)): (&Version, &(bool, Ranges))| Candidate {
                    version: version.clone(),
                    yanked: *yanked,
                };
                Versions::All(versions.iter().map(one).collect())
            });
            resolution.learn_versions(package, versions);
        }
        Need::Dependencies(package, version) => {
            let needed = world[&package][&version].1.clone();
            resolution.learn_dependencies(package, version, Dependencies::Known(needed));
        }
    }
}

fn resolve(root: Root, world: &World) -> Report {
    let mut resolution = Resolution::new(root);
    loop {
        let needs = resolution.needs();
        if needs.is_empty() {
            return resolution.finish("never said");
        }
        needs.into_iter().for_each(|need| learn(&mut resolution, world, need));
    }
}

/// Whether a choice has every package that it needs, in a version that every range allows.
fn satisfies(root: &Root, chosen: &BTreeMap<PackageId, Version>, world: &World) -> bool {
    let of_chosen = chosen.iter().flat_map(|(package, version)| &world[package][version].1);
    root.dependencies
        .iter()
        .chain(of_chosen)
        .all(|(package, range)| chosen.get(package).is_some_and(|version| range.matches(version)))
}

fn messages(report: &Report) -> Vec<String> {
    let short = |text: String| text.replace(&format!("{}/", id("x").publisher), "");
    report.problems.iter().map(|problem| short(problem.to_string())).collect()
}

#[test]
fn the_highest_stable_version_that_all_ranges_allow_is_chosen() {
    let world = world(&[
        ("a", "1.0.0", &[("b", "^1")]),
        ("b", "1.0.0", &[]),
        ("b", "1.2.0", &[]),
        ("b", "-1.3.0", &[]),
        ("b", "1.4.0-rc.1", &[]),
        ("b", "2.0.0", &[]),
        ("c", "1.0.0-beta.1", &[]),
        ("c", "1.0.0-beta.2", &[]),
    ]);
    let report = resolve(root(&[("a", "*"), ("b", ">=1.1"), ("c", "1.0.0-beta")]), &world);
    assert_eq!(messages(&report), [""; 0]);
    assert_eq!(report.chosen[&id("b")].to_string(), "1.2.0");
    assert_eq!(report.chosen[&id("c")].to_string(), "1.0.0-beta.2");
    assert!(report.unchecked.is_empty());
}

#[test]
fn all_problems_are_named_at_once() {
    let world = world(&[
        ("a", "1.0.0", &[("c", "^1"), ("gone", "1")]),
        ("b", "1.0.0", &[("c", "^2"), ("d", "1")]),
        ("c", "1.5.0", &[]),
        ("c", "2.0.0", &[]),
        ("d", "1.0.0", &[("e", "*")]),
        ("e", "1.0.0", &[("d", "*")]),
        ("f", "1.0.0", &[]),
        ("f", "-9.0.0", &[]),
    ]);
    let needed = [("a", "1"), ("b", "1"), ("f", "^9"), ("root", "*"), ("nowhere", "^1.2")];
    assert_eq!(
        messages(&resolve(root(&needed), &world)),
        [
            "root depends on itself",
            "gone is not known to anybody (wanted: ^1 by a@1.0.0)",
            "nowhere is not known to anybody (wanted: ^1.2 by this package)",
            "no version of f is in the range that is wanted (^9 by this package); its versions: 9.0.0 (withdrawn), 1.0.0",
            "no version of c is in all the ranges that are wanted (^1 by a@1.0.0; ^2 by b@1.0.0); its versions: 2.0.0, 1.5.0",
            "packages depend on each other in a circle: d -> e -> d",
        ]
    );
}

#[test]
fn a_cycle_through_the_root_begins_and_ends_with_it() {
    let world = world(&[("a", "1.0.0", &[("b", "*")]), ("b", "1.0.0", &[("root", "^7"), ("a", "*")])]);
    assert_eq!(
        messages(&resolve(root(&[("a", "*")]), &world)),
        ["packages depend on each other in a circle: root -> a -> b -> root"]
    );
    let itself = self::world(&[("a", "1.0.0", &[("a", "*")])]);
    assert_eq!(
        messages(&resolve(root(&[("a", "*")]), &itself)),
        ["packages depend on each other in a circle: a -> a"]
    );
}

#[test]
fn an_older_version_is_taken_where_the_newest_conflicts() {
    let world = world(&[
        ("a", "1.5.0", &[("c", "^2")]),
        ("a", "1.4.0", &[("gone", "*")]),
        ("a", "1.3.0", &[("c", "^1")]),
        ("c", "1.0.0", &[]),
        ("c", "2.0.0", &[]),
    ]);
    let report = resolve(root(&[("a", "^1"), ("c", "^1")]), &world);
    assert_eq!(messages(&report), [""; 0]);
    assert_eq!(report.chosen[&id("a")].to_string(), "1.3.0");
    // The same, but the older ones are out of the range.
    let report = resolve(root(&[("a", "^1.5"), ("c", "^1")]), &world);
    assert_eq!(report.problems.len(), 1);
    assert!(matches!(&report.problems[0], Problem::Conflict { package, .. } if *package == id("c")));
}

#[test]
fn a_conflict_is_told_with_the_whole_chain_down_to_each_who_asks() {
    let world = world(&[
        ("a", "1.0.0", &[("b", "^1")]),
        ("b", "1.0.0", &[("d", "^3")]),
        ("d", "3.0.0", &[("c", "^2"), ("b", "*")]),
        ("e", "1.0.0", &[("c", "^1")]),
        ("c", "1.0.0", &[]),
        ("c", "2.0.0", &[]),
    ]);
    assert_eq!(
        messages(&resolve(root(&[("a", "^1"), ("e", "^1")]), &world))[0],
        "no version of c is in all the ranges that are wanted (^1 by e@1.0.0; ^2 by d@3.0.0, needed by b@1.0.0, needed by a@1.0.0); \
         its versions: 2.0.0, 1.0.0"
    );
}

#[test]
fn packages_that_exclude_each_other_only_all_together_are_a_problem() {
    let world = world(&[
        ("a", "2.0.0", &[("b", "=1.0.0")]),
        ("a", "1.0.0", &[("b", "=2.0.0")]),
        ("b", "2.0.0", &[("a", "=2.0.0")]),
        ("b", "1.0.0", &[("a", "=1.0.0")]),
    ]);
    let report = resolve(root(&[("a", "*"), ("b", "*")]), &world);
    assert!(!report.problems.is_empty());
    assert!(messages(&report)[0].starts_with("no "), "{:?}", messages(&report));
}

#[test]
fn what_is_not_known_is_unchecked_and_no_problem() {
    let mut resolution = Resolution::new(root(&[("a", "^1"), ("b", "^9"), ("c", "^1"), ("d", "1")]));
    assert_eq!(resolution.needs().len(), 4);
    let one = |version: &str| vec![Candidate { version: version.parse().unwrap(), yanked: false }];
    resolution.learn_versions(id("a"), Versions::All(one("1.0.0")));
    resolution.learn_versions(id("b"), Versions::Some(one("1.0.0"), "only the latest is known".to_owned()));
    resolution.learn_versions(id("c"), Versions::Unchecked("nobody is there".to_owned()));
    assert_eq!(resolution.needs(), [Need::Versions(id("d"))], "what is not learned is asked for again");
    let report = resolution.finish("the time ran out");
    assert_eq!(report.problems, []);
    let unchecked: Vec<_> =
        report.unchecked.iter().map(|(id, why)| (id.name.as_str(), why.as_str())).collect();
    let expected = [
        ("a", "the time ran out"),
        ("b", "only the latest is known"),
        ("c", "nobody is there"),
        ("d", "the time ran out"),
    ];
    assert_eq!(unchecked, expected);
}

#[test]
fn a_range_that_is_met_by_an_incomplete_list_is_met() {
    let mut resolution = Resolution::new(root(&[("a", "^1")]));
    let list = vec![Candidate { version: Version::new(1, 0, 0), yanked: false }];
    resolution.learn_versions(id("a"), Versions::Some(list, "the rest is unknown".to_owned()));
    assert_eq!(resolution.needs(), [Need::Dependencies(id("a"), Version::new(1, 0, 0))]);
    resolution.learn_dependencies(id("a"), Version::new(1, 0, 0), Dependencies::Known(Ranges::new()));
    let report = resolution.finish("");
    assert_eq!((report.problems.len(), report.unchecked.len()), (0, 0));
}

#[test]
fn ten_thousand_packages_are_checked_and_one_more_is_refused() {
    // Each package needs the next twenty, in layers of 500.
    let wide = |packages: usize| {
        let mut world = World::new();
        for at in 0..packages {
            let next = (at / 500 + 1) * 500;
            let needed = (0..20).map(|step| next + (at * 7 + step * 25) % 500).filter(|to| *to < packages);
            let needed: Ranges = needed.map(|to| (numbered(to), "^1".parse().unwrap())).collect();
            let versions = ["1.0.0", "1.1.0"].map(|text| (text.parse().unwrap(), (false, needed.clone())));
            world.insert(numbered(at), versions.into());
        }
        world
    };
    let first: Ranges = (0..500).map(|at| (numbered(at), "^1".parse().unwrap())).collect();
    let root = Root { package: id("root"), dependencies: first };
    #[expect(clippy::disallowed_methods, reason = "the time that it takes is what is tested")]
    let started = std::time::Instant::now();
    let report = resolve(root.clone(), &wide(10_000));
    assert_eq!((report.problems.len(), report.chosen.len()), (0, 10_000));
    assert!(started.elapsed().as_secs() < 20, "it took {:?}", started.elapsed());
    assert_eq!(resolve(root, &wide(10_020)).problems, [Problem::TooMany]);
}

#[test]
fn ten_thousand_dependencies_of_one_package_are_refused() {
    let many: Ranges = (0..10_000).map(|at| (numbered(at), VersionReq::STAR)).collect();
    let too_many = |package| Problem::TooManyDependencies { package, count: 10_000, max: DEPENDENCIES_MAX };
    let direct = Root { package: id("root"), dependencies: many.clone() };
    assert_eq!(resolve(direct, &World::new()).problems, [too_many(id("root"))]);
    let behind = World::from([(id("a"), BTreeMap::from([(Version::new(1, 0, 0), (false, many))]))]);
    assert_eq!(resolve(root(&[("a", "*")]), &behind).problems, [too_many(id("a"))]);
}

#[test]
fn a_long_chain_is_not_followed_to_its_end() {
    let chain = |length: usize| -> World {
        let needs = |at| {
            if at + 1 < length { Ranges::from([(numbered(at + 1), VersionReq::STAR)]) } else { Ranges::new() }
        };
        (0..length)
            .map(|at| (numbered(at), BTreeMap::from([(Version::new(1, 0, 0), (false, needs(at)))])))
            .collect()
    };
    let root = Root { package: id("root"), dependencies: Ranges::from([(numbered(0), VersionReq::STAR)]) };
    assert_eq!(resolve(root.clone(), &chain(DEPTH_MAX)).problems, []);
    let too_deep = Problem::TooDeep { package: numbered(DEPTH_MAX), depth: DEPTH_MAX };
    assert_eq!(resolve(root, &chain(100_000)).problems, [too_deep]);
}

#[test]
fn a_riddle_ends_unchecked_within_the_bounds() {
    // Twelve pigeons, eleven holes: no choice is possible, and backjumping alone does not see it soon.
    let (pigeons, holes) = (12, 11);
    let mut world = World::new();
    for pigeon in 0..pigeons {
        let versions = (1..=holes).map(|hole| {
            let apart = (0..pigeons).filter(|other| *other != pigeon).map(|other| {
                // Ranges know no "not": one marker package a pair and hole, in a version for each of the two.
                let (low, high) = (pigeon.min(other), pigeon.max(other));
                let version = if pigeon == low { "=1.0.0" } else { "=2.0.0" };
                (id(&format!("m{low}-{high}-{hole}")), version.parse().unwrap())
            });
            (Version::new(hole as u64, 0, 0), (false, apart.collect::<Ranges>()))
        });
        world.insert(id(&format!("pigeon{pigeon}")), versions.collect());
        for other in pigeon + 1..pigeons {
            for hole in 1..=holes {
                let versions = [1, 2].map(|major| (Version::new(major, 0, 0), (false, Ranges::new())));
                world.insert(id(&format!("m{pigeon}-{other}-{hole}")), versions.into());
            }
        }
    }
    let dependencies = (0..pigeons).map(|at| (id(&format!("pigeon{at}")), VersionReq::STAR)).collect();
    let report = resolve(Root { package: id("root"), dependencies }, &world);
    assert_eq!(report.problems, []);
    assert!(report.unchecked.values().any(|why| why == TOO_MUCH));
}

/// A range that allows a major version, in one of several ways.
fn around(major: u64, way: u8) -> VersionReq {
    let text = match way % 4 {
        0 => format!("^{major}"),
        1 => format!("<={major}"),
        2 => format!(">={major}"),
        _ => "*".to_owned(),
    };
    text.parse().unwrap()
}

/// Draws for a world of some packages: for each package, version and later package, whether there is a range and which.
fn draws(packages: usize, versions: usize) -> impl Strategy<Value = Vec<Vec<Vec<(u8, u8, u8)>>>> {
    let one = (0..4u8, 0..=versions as u8, any::<u8>());
    let version = prop::collection::vec(one, packages);
    prop::collection::vec(prop::collection::vec(version, 1..=versions), packages)
}

/// Packages that need only later ones. `range` makes one of a draw.
fn acyclic(draws: &Draws, range: impl Fn(usize, usize, usize, (u8, u8, u8)) -> Option<VersionReq>) -> World {
    let mut world = World::new();
    for (at, versions) in draws.iter().enumerate() {
        let versions = versions.iter().enumerate().map(|(major, draws)| {
            let needed = (at + 1..draws.len())
                .filter_map(|to| Some((numbered(to), range(at, major + 1, to, draws[to])?)));
            (Version::new(major as u64 + 1, 0, 0), (false, needed.collect::<Ranges>()))
        });
        world.insert(numbered(at), versions.collect());
    }
    world
}

/// Tries every choice.
fn is_possible(root: &Root, world: &World, packages: usize) -> bool {
    let mut choices = vec![BTreeMap::new()];
    for at in 0..packages {
        let versions: Vec<&Version> = world[&numbered(at)].keys().collect();
        choices = choices
            .iter()
            .flat_map(|choice: &BTreeMap<PackageId, Version>| {
                versions.iter().map(move |version| {
                    let mut choice = choice.clone();
                    choice.insert(numbered(at), Version::clone(version));
                    choice
                })
            })
            .collect();
    }
    choices.iter().any(|choice| {
        // Packages that nobody needs do not count.
        let mut reached = BTreeMap::new();
        let mut open: Vec<&PackageId> = root.dependencies.keys().collect();
        while let Some(package) = open.pop() {
            let Some(version) = choice.get(package) else { return false };
            if reached.insert(package.clone(), version.clone()).is_none() {
                open.extend(world[package][version].1.keys());
            }
        }
        satisfies(root, &reached, world)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn where_a_choice_is_planted_there_is_no_problem(
        draws in draws(12, 4),
        planted in prop::collection::vec(0..4usize, 12),
    ) {
        let planted: Vec<usize> = planted.iter().zip(&draws).map(|(at, versions)| 1 + at % versions.len()).collect();
        let world = acyclic(&draws, |at, major, to, (some, other, way)| {
            let is_planted = planted[at] == major;
            let target = if is_planted { planted[to] as u64 } else { u64::from(other) };
            (some == 0).then(|| around(target, way))
        });
        let of_root = (0..4).map(|at| (numbered(at), around(planted[at] as u64, draws[0][0][at].2)));
        let root = Root { package: id("root"), dependencies: of_root.collect() };
        let report = resolve(root.clone(), &world);
        prop_assert_eq!(&report.problems, &[]);
        prop_assert!(report.unchecked.is_empty());
        prop_assert!(satisfies(&root, &report.chosen, &world));
    }

    #[test]
    fn there_is_a_problem_exactly_where_no_choice_is_possible(draws in draws(5, 3), first in 0..3u8) {
        let world = acyclic(&draws, |_, _, _, (some, other, way)| {
            (some < 2).then(|| around(u64::from(other), way))
        });
        let of_root = (0..3).map(|at| (numbered(at), around(1 + u64::from(first), draws[at][0][0].2)));
        let root = Root { package: id("root"), dependencies: of_root.collect() };
        let report = resolve(root.clone(), &world);
        prop_assert_eq!(report.problems.is_empty(), is_possible(&root, &world, 5));
        prop_assert_eq!(report.problems.is_empty(), satisfies(&root, &report.chosen, &world));
    }

    #[test]
    fn a_planted_cycle_is_always_named(
        draws in draws(10, 1),
        from in 0..10usize,
        length in 0..10usize,
    ) {
        let mut world = acyclic(&draws, |at, _, to, (some, ..)| (to == at + 1 || some == 0).then_some(VersionReq::STAR));
        let last = (from + length).min(9);
        let versions = world.get_mut(&numbered(last)).unwrap();
        versions.values_mut().for_each(|(_, needed)| { needed.insert(numbered(from), VersionReq::STAR); });
        let root = Root { package: id("root"), dependencies: Ranges::from([(numbered(0), VersionReq::STAR)]) };
        let report = resolve(root, &world);
        prop_assert_eq!(report.problems.len(), 1);
        let Problem::Cycle { packages } = &report.problems[0] else { panic!("{:?}", report.problems) };
        prop_assert_eq!(&packages[0], &numbered(from));
        prop_assert_eq!(packages.first(), packages.last());
        for step in packages.windows(2) {
            let needed = &world[&step[0]][&Version::new(1, 0, 0)].1;
            prop_assert!(needed.contains_key(&step[1]));
        }
    }

    #[test]
    fn the_order_of_the_answers_changes_nothing(draws in draws(8, 3), picks in prop::collection::vec(any::<usize>(), 200)) {
        let world = acyclic(&draws, |_, _, _, (some, other, way)| (some < 2).then(|| around(u64::from(other), way)));
        let of_root = (0..4).map(|at| (numbered(at), VersionReq::STAR));
        let root = Root { package: id("root"), dependencies: of_root.collect() };
        let mut resolution = Resolution::new(root.clone());
        let mut picks = picks.into_iter().cycle();
        loop {
            let mut needs = resolution.needs();
            if needs.is_empty() {
                break;
            }
            let need = needs.swap_remove(picks.next().unwrap_or(0) % needs.len());
            learn(&mut resolution, &world, need);
        }
        prop_assert_eq!(resolution.finish(""), resolve(root, &world));
    }
}
