use super::*;
use crate::{
    content::{Codec, ContentId},
    project::{Locked, numbers::Numbers},
};

/// Every version that there is, whether it was withdrawn, and what it needs.
type World = BTreeMap<PackageId, BTreeMap<Version, (bool, Ranges)>>;

fn id(number: usize) -> PackageId {
    PackageId { publisher: PublisherId::from_bytes([1; 32]), name: format!("p{number:04}").parse().unwrap() }
}

fn locked(version: &Version, needs: &Ranges) -> Locked {
    Locked {
        version: version.clone(),
        root: ContentId::of(Codec::DagPb, b""),
        entry: ContentId::of(Codec::DagCbor, b""),
        sequence: 0,
        keys: ContentId::of(Codec::DagCbor, b""),
        manifest: ContentId::of(Codec::Raw, b""),
        size: 0,
        dependencies: needs.clone(),
    }
}

fn lock(chosen: &BTreeMap<PackageId, Version>, world: &World) -> Lock {
    let one = |(id, version): (&PackageId, &Version)| (id.clone(), locked(version, &world[id][version].1));
    Lock { packages: chosen.iter().map(one).collect() }
}

fn wishes(asked: &Ranges, lock: Lock, free: Free) -> Wishes {
    Wishes { asked: asked.clone(), lock, free, exact: BTreeMap::new() }
}

/// Feeds a planner from a world; counts the packages that it asked the versions of.
fn plan(wishes: Wishes, world: &World) -> (Result<BTreeMap<PackageId, Version>, Unplanned>, usize) {
    let mut planner = Planner::new(wishes);
    let mut asked = 0;
    loop {
        let needs = planner.needs();
        if needs.is_empty() {
            return (planner.finish("it was not looked up"), asked);
        }
        for need in needs {
            match need {
                Need::Versions(package) => {
                    asked += 1;
                    let list = world.get(&package).map(|versions| {
                        let one = |(version, (yanked, _)): (&Version, &(bool, Ranges))| Candidate {
                            version: version.clone(),
                            yanked: *yanked,
                        };
                        versions.iter().map(one).collect()
                    });
                    planner.learn_versions(package, list.map_or(Versions::Missing, Versions::All));
                }
                Need::Dependencies(package, version) => {
                    let needs = world[&package][&version].1.clone();
                    planner.learn_dependencies(package, version, Dependencies::Known(needs));
                }
            }
        }
    }
}

/// Whether any choice at all answers what is asked for, with these versions only: every one is tried.
fn any(world: &World, may: &dyn Fn(&PackageId, &Version) -> bool, asked: &Ranges) -> bool {
    fn search(
        world: &World,
        may: &dyn Fn(&PackageId, &Version) -> bool,
        wanted: &mut Vec<(PackageId, VersionReq)>,
        chosen: &mut BTreeMap<PackageId, Version>,
    ) -> bool {
        let open = wanted.iter().find(|(id, _)| !chosen.contains_key(id)).map(|(id, _)| id.clone());
        let Some(id) = open else { return true };
        let Some(versions) = world.get(&id) else { return false };
        for (version, (_, needs)) in versions.iter().filter(|(version, _)| may(&id, version)) {
            let before = wanted.len();
            chosen.insert(id.clone(), version.clone());
            wanted.extend(needs.iter().map(|(id, range)| (id.clone(), range.clone())));
            let fits = wanted.iter().all(|(id, range)| chosen.get(id).is_none_or(|it| range.matches(it)));
            if fits && search(world, may, wanted, chosen) {
                return true;
            }
            wanted.truncate(before);
            chosen.remove(&id);
        }
        false
    }
    let mut wanted: Vec<_> = asked.iter().map(|(id, range)| (id.clone(), range.clone())).collect();
    search(world, may, &mut wanted, &mut BTreeMap::new())
}

const VERSIONS: [&str; 5] = ["1.0.0", "1.1.0", "1.2.0", "2.0.0", "2.1.0"];
const RANGES: [&str; 8] = ["*", "^1", "^2", "=1.0.0", ">=1.1", "<2", "~1.2", ">=1.1, <2.1"];

fn draw_ranges(numbers: &mut Numbers, from: usize, packages: usize) -> Ranges {
    let mut ranges = Ranges::new();
    for number in from..packages {
        if numbers.below(3) == 0 {
            ranges.insert(id(number), numbers.pick(&RANGES).parse().unwrap());
        }
    }
    ranges
}

/// Packages that need only packages behind them, so that there are no circles.
fn draw_world(numbers: &mut Numbers) -> (World, Ranges) {
    let packages = 2 + numbers.below(6);
    let mut world = World::new();
    for number in 0..packages {
        // One in twelve does not exist.
        if numbers.below(12) == 0 {
            continue;
        }
        let mut versions = BTreeMap::new();
        for version in VERSIONS {
            if numbers.below(2) == 0 {
                let needs = draw_ranges(numbers, number + 1, packages);
                versions.insert(version.parse().unwrap(), (numbers.below(8) == 0, needs));
            }
        }
        world.insert(id(number), versions);
    }
    let asked = draw_ranges(numbers, 0, packages);
    (world, asked)
}

/// Demands that a choice answers everything that is asked for, and holds nothing that nobody asks for.
fn assert_answers(chosen: &BTreeMap<PackageId, Version>, asked: &Ranges, world: &World, seed: u64) {
    let found = misfits(asked, &lock(chosen, world));
    assert_eq!(found, [], "seed {seed}: {chosen:?}");
}

/// Whether a version can be chosen afresh: one that was withdrawn only where the project names its number.
fn choosable<'a>(world: &'a World, asked: &Ranges) -> impl Fn(&PackageId, &Version) -> bool + use<'a> {
    let named: BTreeMap<PackageId, Version> =
        asked.iter().filter_map(|(id, range)| Some((id.clone(), number(range)?))).collect();
    move |id, version| !world[id][version].0 || named.get(id) == Some(version)
}

#[test]
fn ten_thousand_graphs_are_planned_as_trying_everything_would() {
    let (mut possible, mut impossible, mut kept, mut yanked) = (0, 0, 0, 0);
    for seed in 1..=10_000_u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (world, asked) = draw_world(&mut numbers);
        let usable = choosable(&world, &asked);
        let (planned, _) = plan(wishes(&asked, Lock::default(), Free::Nothing), &world);
        let chosen = match planned {
            Ok(chosen) => {
                assert_answers(&chosen, &asked, &world, seed);
                assert!(chosen.iter().all(|(id, version)| usable(id, version)), "seed {seed}: withdrawn");
                possible += 1;
                chosen
            }
            Err(Unplanned::Impossible(problems)) => {
                assert!(!any(&world, &usable, &asked), "seed {seed}: {problems:?}");
                assert!(!explain(&problems, &wishes(&asked, Lock::default(), Free::Nothing)).is_empty());
                impossible += 1;
                continue;
            }
            Err(other) => panic!("seed {seed}: {other:?}"),
        };

        // Some versions of the lock file are older, or were withdrawn since, and the project asks for something else.
        let mut old = chosen.clone();
        for (id, version) in &mut old {
            if numbers.below(2) == 0 {
                let all: Vec<&Version> = world[id].keys().collect();
                *version = (*numbers.pick(&all)).clone();
            }
        }
        let old = lock(&old, &world);
        let asked = if numbers.below(2) == 0 { asked } else { draw_ranges(&mut numbers, 0, 8) };
        let usable = choosable(&world, &asked);
        let free: BTreeSet<PackageId> =
            old.packages.keys().filter(|_| numbers.below(4) == 0).cloned().collect();
        let stays =
            |id: &PackageId| old.packages.get(id).filter(|_| !free.contains(id)).map(|it| &it.version);
        let as_locked = |id: &PackageId, version: &Version| match stays(id) {
            Some(locked) => locked == version,
            None => usable(id, version),
        };
        let allowed = |id: &PackageId, version: &Version| usable(id, version) || stays(id) == Some(version);
        // A yanked version that is locked is left only where there is another.
        let left = |id: &PackageId, version: &Version| {
            allowed(id, version) || old.packages.get(id).is_some_and(|it| it.version == *version)
        };
        let (planned, _) = plan(wishes(&asked, old.clone(), Free::Only(free.clone())), &world);
        match planned {
            Ok(chosen) => {
                assert_answers(&chosen, &asked, &world, seed);
                assert!(chosen.iter().all(|(id, version)| left(id, version)), "seed {seed}: withdrawn");
                if !chosen.iter().all(|(id, version)| allowed(id, version)) {
                    assert!(!any(&world, &allowed, &asked), "seed {seed}: kept in vain");
                    yanked += 1;
                }
                if any(&world, &as_locked, &asked) {
                    assert!(chosen.iter().all(|(id, version)| as_locked(id, version)), "seed {seed}: moved");
                    kept += 1;
                }
            }
            Err(Unplanned::Impossible(problems)) => {
                assert!(!any(&world, &left, &asked), "seed {seed}: {problems:?}");
            }
            Err(other) => panic!("seed {seed}: {other:?}"),
        }
    }
    // The draw must not be one-sided, or it would show nothing.
    let is_even = possible > 2_000 && impossible > 1_000 && kept > 1_000 && yanked > 0;
    assert!(is_even, "{possible} {impossible} {kept} {yanked}");
}

#[test]
fn circles_are_told_and_never_walked_forever() {
    let mut world = World::new();
    let needs = |number: usize| Ranges::from([(id(number), VersionReq::STAR)]);
    for number in 0..3 {
        let versions = BTreeMap::from([(Version::new(1, 0, 0), (false, needs((number + 1) % 3)))]);
        world.insert(id(number), versions);
    }
    let asked = needs(0);
    let (planned, _) = plan(wishes(&asked, Lock::default(), Free::Nothing), &world);
    let Err(Unplanned::Impossible(problems)) = planned else { panic!("{planned:?}") };
    let told = explain(&problems, &wishes(&asked, Lock::default(), Free::Nothing));
    assert!(told.contains("circle") && told.contains("p0000"), "{told}");
}

#[test]
fn a_project_of_two_thousand_packages_is_planned_and_a_new_one_is_all_that_is_asked_for() {
    const LAYERS: usize = 40;
    const WIDTH: usize = 50;
    let mut numbers = Numbers(3);
    let mut world = World::new();
    for number in 0..LAYERS * WIDTH {
        let layer = number / WIDTH;
        let mut versions = BTreeMap::new();
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let mut needs = Ranges::new();
            if layer + 1 < LAYERS {
                needs.insert(id(number + WIDTH), "^1".parse().unwrap());
                for _ in 0..2 {
                    needs.insert(id((layer + 1) * WIDTH + numbers.below(WIDTH)), "^1.0".parse().unwrap());
                }
            }
            versions.insert(version.parse().unwrap(), (false, needs));
        }
        world.insert(id(number), versions);
    }
    let mut asked: Ranges = (0..WIDTH).map(|number| (id(number), "^1".parse().unwrap())).collect();
    let (planned, _) = plan(wishes(&asked, Lock::default(), Free::Nothing), &world);
    let chosen = planned.unwrap();
    assert_eq!(chosen.len(), LAYERS * WIDTH);
    let old = lock(&chosen, &world);
    assert_eq!(Lock::parse(std::path::Path::new("x"), old.to_text().as_bytes()).unwrap(), old);
    assert!(misfits(&asked, &old).is_empty());

    let new = id(9_999);
    world.insert(
        new.clone(),
        BTreeMap::from([(Version::new(1, 0, 0), (false, Ranges::from([(id(7), "^1".parse().unwrap())])))]),
    );
    asked.insert(new.clone(), "^1".parse().unwrap());
    let (planned, looked_up) = plan(wishes(&asked, old.clone(), Free::Nothing), &world);
    let after = planned.unwrap();
    assert_eq!((after.len(), looked_up), (LAYERS * WIDTH + 1, 1));
    assert!(old.packages.iter().all(|(id, locked)| after[id] == locked.version));
}

#[test]
fn a_conflict_says_who_asks_for_what() {
    let (a, b, shared, top) = (id(1), id(2), id(3), id(4));
    let one = |needs: Ranges| BTreeMap::from([(Version::new(1, 0, 0), (false, needs))]);
    let mut world = World::from([
        (a.clone(), one(Ranges::from([(shared.clone(), "^1".parse().unwrap())]))),
        (b.clone(), one(Ranges::from([(shared.clone(), "^2".parse().unwrap())]))),
        (top.clone(), one(Ranges::from([(b.clone(), VersionReq::STAR)]))),
    ]);
    let versions = [("1.0.0", false), ("2.0.0", false), ("3.0.0", true)];
    let versions = versions.map(|(version, yanked)| (version.parse().unwrap(), (yanked, Ranges::new())));
    world.insert(shared.clone(), versions.into());
    let asked: Ranges = [&a, &top].map(|id| (id.clone(), VersionReq::STAR)).into();
    let wishes = wishes(&asked, Lock::default(), Free::Nothing);
    let (planned, _) = plan(wishes.clone(), &world);
    let Err(Unplanned::Impossible(problems)) = planned else { panic!("{planned:?}") };
    let told = explain(&problems, &wishes);
    for part in [
        &format!("no version of {shared}"),
        &format!("^1  by {a}@1.0.0\n          needed by this project\n"),
        &format!("^2  by {b}@1.0.0\n          needed by {top}@1.0.0\n          needed by this project\n"),
        "3.0.0 (yanked), 2.0.0, 1.0.0",
    ] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
}

#[test]
fn a_withdrawn_version_stays_only_where_it_is_locked() {
    let world = World::from([(
        id(0),
        [("1.0.0", false), ("1.1.0", true)]
            .map(|(version, yanked)| (version.parse().unwrap(), (yanked, Ranges::new())))
            .into(),
    )]);
    let asked = Ranges::from([(id(0), "^1".parse().unwrap())]);
    let (fresh, _) = plan(wishes(&asked, Lock::default(), Free::Nothing), &world);
    assert_eq!(fresh.unwrap()[&id(0)], Version::new(1, 0, 0));
    let old = lock(&[(id(0), Version::new(1, 1, 0))].into(), &world);
    let (kept, looked_up) = plan(wishes(&asked, old.clone(), Free::Nothing), &world);
    assert_eq!((kept.unwrap()[&id(0)].clone(), looked_up), (Version::new(1, 1, 0), 0));
    let (updated, _) = plan(wishes(&asked, old, Free::Everything), &world);
    assert_eq!(updated.unwrap()[&id(0)], Version::new(1, 0, 0));
}

#[test]
fn a_withdrawn_version_is_taken_where_this_project_names_its_number() {
    let versions = [("1.0.0", false), ("1.1.0", true)];
    let versions = versions.map(|(version, yanked)| (version.parse().unwrap(), (yanked, Ranges::new())));
    let world = World::from([(id(0), versions.into())]);
    let asked = |range: &str| Ranges::from([(id(0), range.parse().unwrap())]);
    let named = asked("=1.1.0");
    let (taken, _) = plan(wishes(&named, Lock::default(), Free::Nothing), &world);
    assert_eq!(taken.unwrap()[&id(0)], Version::new(1, 1, 0));
    let within = asked("^1");
    let exact = [(id(0), Version::new(1, 1, 0))].into();
    let precise = Wishes { exact, ..wishes(&within, Lock::default(), Free::Everything) };
    assert_eq!(plan(precise, &world).0.unwrap()[&id(0)], Version::new(1, 1, 0));
    let other = asked(">=1.1");
    let (none, _) = plan(wishes(&other, Lock::default(), Free::Nothing), &world);
    assert!(matches!(none, Err(Unplanned::Impossible(_))));
}

#[test]
fn a_precise_version_is_taken_or_nothing() {
    let versions =
        ["1.0.0", "1.1.0", "1.2.0"].map(|version| (version.parse().unwrap(), (false, Ranges::new())));
    let world = World::from([(id(0), versions.into())]);
    let asked = Ranges::from([(id(0), ">=1.1".parse().unwrap())]);
    let precise = |version: &str| Wishes {
        exact: [(id(0), version.parse().unwrap())].into(),
        ..wishes(&asked, lock(&[(id(0), Version::new(1, 2, 0))].into(), &world), Free::Only([id(0)].into()))
    };
    assert_eq!(plan(precise("1.1.0"), &world).0.unwrap()[&id(0)], Version::new(1, 1, 0));
    for bad in ["1.0.0", "7.0.0"] {
        assert!(matches!(plan(precise(bad), &world).0, Err(Unplanned::Impossible(_))), "{bad}");
    }
}

#[test]
fn what_cannot_be_looked_up_fails_only_where_it_is_needed() {
    let asked = Ranges::from([(id(0), "^1".parse().unwrap()), (id(1), "^1".parse().unwrap())]);
    let unchecked = |planner: &mut Planner| {
        loop {
            let needs = planner.needs();
            let packages: Vec<PackageId> = needs
                .into_iter()
                .filter_map(|need| if let Need::Versions(id) = need { Some(id) } else { None })
                .collect();
            if packages.is_empty() {
                return;
            }
            for package in packages {
                planner.learn_versions(package, Versions::Unchecked("nobody answers".to_owned()));
            }
        }
    };
    let mut planner = Planner::new(wishes(&asked, Lock::default(), Free::Nothing));
    unchecked(&mut planner);
    let Err(Unplanned::Unknown(unknown)) = planner.finish("") else { panic!("it was planned") };
    assert_eq!(unknown.len(), 2);

    let one = |version: &str| locked(&version.parse().unwrap(), &Ranges::new());
    let lock = Lock { packages: [(id(0), one("1.0.0")), (id(1), one("1.4.0"))].into() };
    let mut planner = Planner::new(wishes(&asked, lock, Free::Nothing));
    unchecked(&mut planner);
    assert_eq!(planner.finish("").unwrap()[&id(1)], Version::new(1, 4, 0));
}

#[test]
fn a_lock_file_that_does_not_answer_is_told_in_every_point() {
    let world = World::from([
        (
            id(0),
            BTreeMap::from([(
                Version::new(1, 0, 0),
                (false, Ranges::from([(id(1), "^2".parse().unwrap())])),
            )]),
        ),
        (id(1), BTreeMap::from([(Version::new(1, 0, 0), (false, Ranges::new()))])),
        (id(2), BTreeMap::from([(Version::new(1, 0, 0), (false, Ranges::new()))])),
    ]);
    let all = [0, 1, 2].map(|number| (id(number), Version::new(1, 0, 0))).into();
    let lock = lock(&all, &world);
    let asked = Ranges::from([(id(0), "*".parse().unwrap()), (id(3), "^1".parse().unwrap())]);
    let told: Vec<String> = misfits(&asked, &lock).iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("is not locked (asked for: ^1 by this project)"), "{told:?}");
    assert!(told[1].contains("is locked to 1.0.0 (asked for: ^2 by"), "{told:?}");
    assert!(told[2].contains("nobody asks for it"), "{told:?}");
}

#[test]
fn an_update_leaves_a_yanked_version_that_is_locked_where_there_is_no_other() {
    let range: VersionReq = "^1".parse().unwrap();
    let asked = Ranges::from([(id(0), range.clone()), (id(1), range)]);
    let versions = |list: &[(&str, bool)]| -> BTreeMap<Version, (bool, Ranges)> {
        list.iter().map(|(version, yanked)| (version.parse().unwrap(), (*yanked, Ranges::new()))).collect()
    };
    let used = BTreeMap::from([(id(0), Version::new(1, 0, 0)), (id(1), Version::new(1, 0, 0))]);
    let update = |of_first: &[(&str, bool)], free: Free| {
        let world = World::from([
            (id(0), versions(of_first)),
            (id(1), versions(&[("1.0.0", false), ("1.1.0", false)])),
        ]);
        plan(wishes(&asked, lock(&used, &world), free), &world).0
    };
    let all_yanked = &[("1.0.0", true), ("2.0.0", false)];
    for free in [Free::Everything, Free::Only([id(0), id(1)].into()), Free::Only([id(1)].into())] {
        let chosen = update(all_yanked, free).unwrap();
        assert_eq!(chosen, [(id(0), Version::new(1, 0, 0)), (id(1), Version::new(1, 1, 0))].into());
    }
    let another = update(&[("0.9.0", false), ("1.0.0", true), ("1.2.0", false)], Free::Everything).unwrap();
    assert_eq!(another[&id(0)], Version::new(1, 2, 0), "it is left where there is another");
    let never_locked =
        World::from([(id(0), versions(&[("1.0.0", true)])), (id(1), versions(&[("1.0.0", false)]))]);
    let fresh = plan(wishes(&asked, Lock::default(), Free::Everything), &never_locked).0;
    assert!(matches!(fresh, Err(Unplanned::Impossible(_))), "{fresh:?}");
}

#[test]
fn an_explanation_names_the_versions_that_there_are() {
    let asked = Ranges::from([(id(0), "*".parse().unwrap())]);
    let explained = |list: &[&str], exact: Option<&str>| {
        let versions =
            list.iter().map(|version| (version.parse().unwrap(), (false, Ranges::new()))).collect();
        let world = World::from([(id(0), versions)]);
        let exact = exact.map(|version| (id(0), version.parse().unwrap())).into_iter().collect();
        let wishes = Wishes { exact, ..wishes(&asked, Lock::default(), Free::Everything) };
        let Err(Unplanned::Impossible(problems)) = plan(wishes.clone(), &world).0 else {
            panic!("it was planned")
        };
        explain(&problems, &wishes)
    };
    let precise = explained(&["1.0.0", "1.2.0"], Some("9.9.9"));
    assert!(precise.contains("its versions: 1.2.0, 1.0.0\n    of which only 9.9.9"), "{precise}");
    let early = explained(&["2.0.0-rc.1", "2.0.0-beta"], None);
    assert!(early.contains("a pre-release is only taken") && early.contains("^2.0.0-rc.1"), "{early}");
}

/// Packages of the graph below; `GGEN_TEST_PACKAGES` asks for more, and `--nocapture` shows the times.
fn many() -> usize {
    std::env::var("GGEN_TEST_PACKAGES").ok().map_or(200, |packages| packages.parse().unwrap())
}

#[test]
fn a_graph_of_many_packages_is_planned_locked_and_shown() {
    let packages = many();
    let mut world = World::new();
    for number in 0..packages {
        let versions = VERSIONS.iter().map(|version| {
            // Ten behind it each, so that many ask for one.
            let needs = (1..=10).map(|step| number + step * step).filter(|other| *other < packages);
            let needs = needs.map(|other| (id(other), "^1".parse().unwrap())).collect();
            (version.parse().unwrap(), (false, needs))
        });
        world.insert(id(number), versions.collect());
    }
    let asked: Ranges = (0..10).map(|number| (id(number), "^1".parse().unwrap())).collect();
    let timed = |what: &str, begun: tokio::time::Instant| println!("{what}: {:?}", begun.elapsed());
    let begun = tokio::time::Instant::now();
    let (chosen, _) = plan(wishes(&asked, Lock::default(), Free::Nothing), &world);
    let chosen = chosen.unwrap();
    timed("versions are chosen, nothing was locked", begun);
    assert_eq!(chosen.len(), packages);
    let lock = lock(&chosen, &world);
    let begun = tokio::time::Instant::now();
    let (updated, _) = plan(wishes(&asked, lock.clone(), Free::Everything), &world);
    assert_eq!(updated.unwrap(), chosen);
    timed("update, everything is free", begun);
    let begun = tokio::time::Instant::now();
    assert!(misfits(&asked, &lock).is_empty());
    timed("the lock file is compared with what is asked for", begun);
    let begun = tokio::time::Instant::now();
    let text = lock.to_text();
    let read = Lock::parse(std::path::Path::new("gpack.lock"), text.as_bytes()).unwrap();
    assert_eq!(read.packages.len(), packages);
    timed(&format!("the lock file, {} bytes, is written and read", text.len()), begun);
    let begun = tokio::time::Instant::now();
    let lines = crate::project::graph::tree(&asked, &lock).len();
    timed(&format!("tree, {lines} lines"), begun);
    let begun = tokio::time::Instant::now();
    let chains = crate::project::graph::why(&asked, &lock, &id(packages - 1)).len();
    timed(&format!("why of the last one, {chains} chains"), begun);
}
