use std::path::Path;

use super::*;

const SMALL: &str = r#"duration = "100s"
latency = "10ms"

[topology]
kind = "mesh"
nodes = 6
"#;

fn scenario(added: &str) -> Scenario {
    Scenario::parse(Path::new("small.toml"), &format!("{SMALL}{added}")).unwrap()
}

fn plan(seed: u64, added: &str) -> Plan {
    let (scenario, draws) = (scenario(added), Draws::new(seed));
    Plan::draw(&scenario, draws, &placement::keys(&scenario, draws).unwrap())
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const PICKED: &str = r#"
[[faults]]
kind = "crash"
at = { min = "10s", max = "20s" }
for = { min = "1s", max = "3s" }
every = "25s"
times = 3
pick = 2
"#;

#[test]
fn ranges_and_choices_are_drawn_anew_each_time_and_the_same_for_a_seed() {
    let drawn = plan(1, PICKED);
    assert_eq!(drawn, plan(1, PICKED));
    assert_ne!(drawn, plan(2, PICKED));
    assert_eq!(drawn.events.len(), 3);
    let times = drawn.events.iter().zip([10, 35, 60]);
    for (event, begin) in times {
        assert!(event.at >= secs(begin) && event.at <= secs(begin + 10), "{event:?}");
        assert!(event.until >= event.at + secs(1) && event.until <= event.at + secs(3), "{event:?}");
        assert_eq!(event.nodes.len(), 2);
    }
    let chosen: BTreeSet<_> =
        (0..20).flat_map(|seed| plan(seed, PICKED).events).flat_map(|it| it.nodes).collect();
    assert_eq!(chosen.len(), 6, "everybody is chosen sometimes");
}

#[test]
fn clocks_that_stay_stepped_leave_nothing_to_mend() {
    let clock = |more: &str| {
        let text = format!("[[faults]]\nkind = \"clock\"\nat = \"10s\"\nnodes = [\"*\"]\n{more}\n");
        let (scenario, mut plan) = (scenario(&text), plan(1, &text));
        assert_eq!(plan.events.len(), 1);
        (plan.healed(&scenario), plan.events.remove(0))
    };
    let (healed, stays) = clock("by = \"400d\"");
    let all = |shift| Deed::Clock { steps: (0..6).map(|site| (site, shift)).collect(), stays: true };
    assert_eq!((healed, stays.deed), (Some(stays.until), all(Shift::new(secs(400 * 24 * 3600), false))));
    assert!(stays.until < secs(11));
    let (healed, ends) = clock("by = \"-2h\"\nuntil = \"30s\"");
    assert_eq!((healed, ends.until), (Some(secs(30)), secs(30)));
    let Deed::Clock { steps, stays: false } = ends.deed else { panic!("it is mended") };
    assert!(steps.iter().all(|(_, step)| *step == Shift::new(secs(2 * 3600), true)));
    let (_, drawn) = clock("by = { min = \"1s\", max = \"1d\" }");
    let Deed::Clock { steps, .. } = drawn.deed else { panic!("it is of clocks") };
    assert!(steps.iter().any(|(_, step)| *step != steps[0].1), "each has its own: {steps:?}");
}

#[test]
fn a_fault_that_is_taken_away_changes_no_draw_of_another() {
    let other = "[[faults]]\nkind = \"hold\"\nat = { min = \"1s\", max = \"9s\" }\nfor = \"1s\"\npick = 1\n";
    let alone = plan(1, PICKED).events;
    let mut both = plan(1, &format!("{other}{PICKED}")).events;
    both.retain(|event| event.fault == 1);
    both.iter_mut().for_each(|event| event.fault = 0);
    assert_eq!(both, alone);
}

#[test]
fn the_nearest_are_picked_each_time_and_never_the_author() {
    let publish = "[[workload]]\nat = \"1s\"\nnode = \"node-2\"\ndo = \"publish\"\npackage = \"amber\"\n";
    let aimed = format!("{publish}{PICKED}nearest-to = \"amber\"\n");
    let (scenario, draws) = (scenario(&aimed), Draws::new(1));
    let keys = placement::keys(&scenario, draws).unwrap();
    let ranked = placement::nearest(&scenario, draws, &keys, 0, 0..6);
    let nearest: BTreeSet<usize> = ranked.into_iter().take(2).collect();
    let events = Plan::draw(&scenario, draws, &keys).events;
    assert_eq!(events.iter().map(|event| event.nodes.clone()).collect::<Vec<_>>(), vec![nearest; 3]);
    let all = aimed.replace("pick = 2", "pick = 5");
    assert!((0..9).all(|seed| plan(seed, &all).events.iter().all(|it| it.nodes == [0, 1, 3, 4, 5].into())));
}

#[test]
fn one_way_cuts_one_way() {
    let cut = |ways: &str| {
        let fault = "[[faults]]\nkind = \"partition\"\nat = \"5s\"\nuntil = \"9s\"\nnodes = [\"node-1\"]\n";
        match plan(1, &format!("{fault}{ways}")).events.remove(0).deed {
            Deed::Cut(ways) => ways,
            other => panic!("{other:?}"),
        }
    };
    let others = [0, 2, 3, 4, 5];
    assert_eq!(cut("one-way = \"out\"\n"), others.map(|it| (1, it)).into());
    assert_eq!(cut("one-way = \"in\"\n"), others.map(|it| (it, 1)).into());
    assert_eq!(cut("").len(), 10);
}

#[test]
fn a_swizzle_mends_in_another_order_and_leaves_nothing_broken() {
    let fault = "[[faults]]\nkind = \"swizzle-clog\"\nat = \"10s\"\nuntil = \"50s\"\nnodes = [\"*\"]\n";
    let events = plan(1, fault).events;
    let cut: Vec<_> = events.iter().map(|event| event.nodes.clone()).collect();
    let mut mended = events.clone();
    mended.sort_by_key(|event| event.until);
    assert_ne!(cut, mended.into_iter().map(|event| event.nodes).collect::<Vec<_>>());
    assert!(events.iter().all(|it| it.at < secs(30) && it.until > secs(30) && it.until <= secs(50)));
}

#[test]
fn lives_follow_users_and_faults() {
    let lives = |added: &str| plan(1, added).lives[3].clone();
    let only = |lives: Vec<Life>| lives.iter().map(|it| (it.from, it.until)).collect::<Vec<_>>();
    assert_eq!(only(lives("")), [(secs(0), None)]);
    let step =
        |at: &str, what: &str| format!("[[workload]]\nat = {at:?}\nnode = \"node-3\"\ndo = {what:?}\n");
    assert_eq!(only(lives(&step("30s", "join"))), [(secs(30), None)]);
    let away = step("30s", "leave") + &step("40s", "join");
    assert_eq!(only(lives(&away)), [(secs(0), Some(secs(30))), (secs(40), None)]);
    let restart =
        "[[faults]]\nkind = \"restart\"\nat = \"50s\"\nfor = \"5s\"\ndisk = false\nnodes = [\"node-3\"]\n";
    let lost = lives(restart);
    assert_eq!(only(lost.clone()), [(secs(0), Some(secs(50))), (secs(55), None)]);
    assert!(!lost[0].fresh && lost[1].fresh);
    // Nothing runs yet that could be restarted.
    let late = format!("[[nodes]]\nname = \"node-3\"\nstart = \"60s\"\nleave = \"70s\"\n{restart}");
    assert_eq!(only(lives(&late)), [(secs(60), Some(secs(70)))]);
    let crowd = "[[faults]]\nkind = \"mass-join\"\nat = \"20s\"\nspread = \"2s\"\nnodes = [\"node-3\"]\n";
    let joined = lives(crowd);
    assert!(joined.len() == 1 && joined[0].from >= secs(20) && joined[0].from <= secs(22), "{joined:?}");
}

#[test]
fn churn_ends_with_everybody_there_and_half_of_the_lives_are_shorter_than_the_median() {
    let fault = "[[faults]]\nkind = \"churn\"\nat = \"10s\"\nuntil = \"90s\"\nmedian = \"8s\"\naway = \"2s\"\nnodes = [\"*\"]\n";
    let mut completed = Vec::new();
    for seed in 0..100 {
        for lives in plan(seed, fault).lives {
            assert_eq!(lives.last().unwrap().until, None);
            assert!(lives.last().unwrap().from <= secs(90));
            // The first life after the churn began, long or short: what follows is cut off at its end.
            completed.push(lives[0].until.map_or(secs(1_000), |until| until - secs(10)));
        }
    }
    completed.sort();
    let median = completed[completed.len() / 2];
    assert!(median > secs(6) && median < secs(10), "{median:?}");
}

#[test]
fn quantiles_are_those_of_their_distributions() {
    let near = |one: Duration, other: f64| (one.as_secs_f64() - other).abs() < 1e-3 * other;
    assert!(near(weibull(secs(60), LIFE_SHAPE, 0.5), 60.0));
    // Of Weibull with shape 0.6, a tenth lives longer than 7.395 medians.
    assert!(near(weibull(secs(60), LIFE_SHAPE, 0.1), 60.0 * (10_f64.ln() / 2_f64.ln()).powf(1.0 / 0.6)));
    assert!(near(exponential(secs(20), 1.0 / std::f64::consts::E), 20.0));
    assert_eq!(whole(Duration::from_micros(1_001)), Duration::from_millis(2));
}

#[test]
fn what_worsens_links_worsens_those_of_its_sites_to_each_other_too() {
    let fault = |rest: &str| {
        format!("[[faults]]\nat = \"5s\"\nfor = \"9s\"\nnodes = [\"node-0\", \"node-1\"]\n{rest}\n")
    };
    let lossy = fault("kind = \"lossy\"\npercent = 30");
    let throttle = fault("kind = \"throttle\"\nbytes-per-second = 1_000");
    for (text, expected) in
        [(lossy, Trouble::Loss { percent: 30 }), (throttle, Trouble::Throttle { bytes_per_second: 1_000 })]
    {
        let [event] = plan(1, &text).events.try_into().unwrap();
        let Deed::Worsen(links, trouble) = &event.deed else { panic!("{event:?}") };
        assert_eq!((links.len(), *trouble), (9, expected));
        assert!(links.contains(&(0, 1)) && !links.contains(&(2, 3)));
        assert_eq!((event.at, event.until), (secs(5), secs(14)));
    }
}
