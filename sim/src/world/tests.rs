//! Small runs.

use super::*;

#[test]
fn what_is_published_again_under_the_same_version_does_not_change_what_the_first_was() {
    let publish = |at: u32, bytes: u32| {
        format!(
            "[[workload]]\nat = \"{at}s\"\nnode = \"node-0\"\ndo = \"publish\"\npackage = \"word\"\nbytes = {bytes}\n"
        )
    };
    let text = format!(
        "duration = \"9s\"\nlatency = \"1ms\"\n[topology]\nkind = \"mesh\"\nnodes = 1\n{}{}",
        publish(1, 100),
        publish(2, 200)
    );
    let scenario = Scenario::parse(Path::new("small.toml"), &text).unwrap();
    let (draws, scratch) = (Draws::new(1), TempDir::new().unwrap());
    let steps = folders(&scenario, draws, scratch.path()).unwrap();
    let plan = Plan::draw(&scenario, draws, &placement::keys(&scenario, draws).unwrap());
    let case = case(&scenario, draws, &steps, &plan, &[], &Options::default()).unwrap();
    let [first, second] = [0, 1].map(|step: usize| judge::tree_digest(&steps[step].folder).unwrap());
    assert_ne!(first, second);
    assert_eq!(case.trees.into_values().collect::<Vec<_>>(), [first]);
}

#[test]
fn a_node_with_its_disk_in_files_goes_on_after_every_kind_of_stop() {
    let fault = |kind: &str, at: u32, more: &str| {
        format!("[[faults]]\nkind = {kind:?}\nat = \"{at}s\"\nfor = \"2s\"\nnodes = [\"node-1\"]\n{more}")
    };
    let publish = |at: u32, package: &str| {
        format!(
            "[[workload]]\nat = \"{at}s\"\nnode = \"node-1\"\ndo = \"publish\"\npackage = {package:?}\nbytes = 100000\n"
        )
    };
    let parts = [
        "duration = \"45s\"\nlatency = \"1ms\"\ntick = \"5ms\"\n[topology]\nkind = \"mesh\"\nnodes = 2\n"
            .to_owned(),
        "[[nodes]]\nname = \"*\"\ndisk = \"files\"\n".to_owned(),
        publish(5, "lost"),
        fault("restart", 8, "disk = false\n"),
        publish(12, "amber"),
        fault("restart", 15, ""),
        fault("crash", 19, ""),
        fault("power-loss", 23, ""),
        "[[workload]]\nat = \"28s\"\nnode = \"node-1\"\ndo = \"install\"\npackage = \"amber\"\n".to_owned(),
    ];
    let scenario = Scenario::parse(Path::new("small.toml"), &parts.concat()).unwrap();
    let Finished { report, .. } = run(&scenario, 1, Options::default()).unwrap();
    let broken: Vec<_> = report.invariants.iter().filter(|it| !it.holds).collect();
    assert!(broken.is_empty(), "{broken:?}");
    assert!(report.metrics.contains_key("writes_lost"));
}

#[test]
fn a_stepped_clock_bites_at_every_site_that_reads_it_and_nowhere_else() {
    let fault = |at: u32, node: &str, more: &str| {
        format!("[[faults]]\nkind = \"clock\"\nat = \"{at}s\"\nnodes = [{node:?}]\n{more}\n")
    };
    let parts = [
        "duration = \"40s\"\nlatency = \"1ms\"\ntick = \"5ms\"\n[topology]\nkind = \"mesh\"\nnodes = 3\n"
            .to_owned(),
        "[[nodes]]\nname = \"node-1\"\nclock = \"-90s\"\n[[nodes]]\nname = \"node-2\"\nleave = \"4s\"\n"
            .to_owned(),
        fault(5, "*", "by = \"400d\""),
        fault(6, "node-1", "by = \"-2h\"\nfor = \"20s\""),
        fault(7, "node-2", "by = \"1h\"\nfor = \"20s\""),
    ];
    let scenario = Scenario::parse(Path::new("small.toml"), &parts.concat()).unwrap();
    let Finished { report, .. } = run(&scenario, 1, Options::default()).unwrap();
    let bites: Vec<usize> = report.faults.iter().map(|fault| fault.bites).collect();
    assert_eq!(bites, [2, 1, 0], "the clock of a node that has left is read by nobody");
    let broken: Vec<&str> = report.invariants.iter().filter(|it| !it.holds).map(|it| &*it.name).collect();
    assert_eq!(broken, ["every-fault-bites"]);
}

#[test]
fn a_panic_in_a_task_of_a_node_ends_the_run() {
    let text = "duration = \"5s\"\nlatency = \"1ms\"\n[topology]\nkind = \"mesh\"\nnodes = 2\n";
    let scenario = Scenario::parse(Path::new("small.toml"), text).unwrap();
    // Whoever watches is told by the node's own loop, which runs in a task.
    let options = Options { witness: Witness::new(|_, _, _| panic!("on purpose")), ..Options::default() };
    assert!(matches!(run(&scenario, 1, options), Err(Error::Panicked)));
    assert!(run(&scenario, 1, Options::default()).is_ok());
}

/// What a node behind one router publishes, a node behind another one installs; whether that went over a relay.
fn goes_over_a_relay(author: &str, reader: &str) -> bool {
    let node = |name: &str, nat: &str| format!("[[nodes]]\nname = {name:?}\nnat = {nat:?}\n");
    let step = |at: u32, node: &str, what: &str| {
        format!("[[workload]]\nat = \"{at}s\"\nnode = {node:?}\ndo = {what:?}\npackage = \"amber\"\n")
    };
    let text = [
        "duration = \"40s\"\nlatency = \"20ms\"\ntick = \"10ms\"\nengine = \"fabric\"\n".to_owned(),
        "[topology]\nkind = \"mesh\"\nnodes = 3\n".to_owned(),
        "[[nodes]]\nname = \"*\"\nbootstrap = [\"node-0\"]\n".to_owned(),
        node("node-1", author),
        node("node-2", reader),
        step(8, "node-1", "publish"),
        step(16, "node-2", "install"),
    ];
    let scenario = Scenario::parse(Path::new("small.toml"), &text.concat()).unwrap();
    let Finished { report, .. } = run(&scenario, 1, Options::default()).unwrap();
    let broken: Vec<_> = report.invariants.iter().filter(|it| !it.holds).collect();
    assert!(broken.is_empty(), "{author} {reader}: {broken:?}");
    report.metrics["bytes_relayed"] > 0.0
}

/// As network namespaces with nftables show it: tests/tests/processes/nat.rs has whole nodes behind three of these kinds.
#[test]
fn packages_go_over_a_relay_where_no_hole_can_be_made_and_nowhere_else() {
    const HOME: &str = "address-and-port-dependent";
    const CHANGING: &str = "symmetric";
    for (author, reader, is_relayed) in [
        ("none", CHANGING, false),
        (CHANGING, "none", false),
        (HOME, HOME, false),
        ("address-dependent", HOME, false),
        ("endpoint-independent", CHANGING, false),
        (HOME, CHANGING, true),
        (CHANGING, HOME, true),
        (CHANGING, CHANGING, true),
    ] {
        assert_eq!(goes_over_a_relay(author, reader), is_relayed, "{author} {reader}");
    }
}

#[test]
fn a_scenario_with_routers_does_not_run_on_turmoil() {
    let text = "duration = \"9s\"\nlatency = \"1ms\"\nengine = \"fabric\"\n[topology]\nkind = \"mesh\"\nnodes = 1\n\
                [[access]]\nup = \"1Mbit/s\"\n";
    let scenario = Scenario::parse(Path::new("small.toml"), text).unwrap();
    let options = Options { engine: Some(Engine::Turmoil), ..Options::default() };
    assert!(matches!(run(&scenario, 1, options), Err(Error::Engine(name)) if name == "small"));
}
