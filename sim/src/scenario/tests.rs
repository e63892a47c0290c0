use super::*;

const SMALL: &str = r#"duration = "60s"
latency = { min = "10ms", max = "100ms" }

[topology]
kind = "mesh"
nodes = 4
"#;

fn parse(text: &str) -> Result<Scenario, Error> {
    Scenario::parse(Path::new("dir/small.toml"), text)
}

/// The message for a small scenario with something added.
fn refused(added: &str) -> String {
    parse(&format!("{SMALL}{added}")).unwrap_err().to_string()
}

#[test]
fn a_small_scenario_has_a_name_and_defaults() {
    let scenario = parse(SMALL).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.nodes.len(), scenario.sites), ("small", 4, 4));
    assert_eq!(scenario.tick, Duration::from_millis(1));
    assert!(scenario.expect.catalogues_agree && scenario.steps.is_empty() && scenario.faults.is_empty());
    let known: Vec<_> = scenario.nodes.iter().map(|node| node.bootstrap.clone()).collect();
    assert_eq!(known, [vec![], vec![0], vec![0, 1], vec![0, 1]]);
}

#[test]
fn spokes_know_the_hubs_and_answer_no_queries() {
    let text = SMALL.replace("\"mesh\"", "\"hub-and-spoke\"\nhubs = 2");
    let scenario = parse(&text).unwrap();
    let nodes: Vec<_> =
        scenario.nodes.iter().map(|it| (it.name.as_str(), it.dht_server, it.bootstrap.clone())).collect();
    assert_eq!(
        nodes,
        [
            ("hub-0", true, vec![]),
            ("hub-1", true, vec![0]),
            ("spoke-0", false, vec![0, 1]),
            ("spoke-1", false, vec![0, 1])
        ]
    );
}

#[test]
fn a_star_stands_for_every_node_and_steps_are_in_order_of_time() {
    let text = format!(
        "{SMALL}
[[workload]]
at = \"20s\"
node = \"*\"
do = \"search\"
text = \"word\"
finds = 1
[[workload]]
at = \"10s\"
node = \"node-3\"
do = \"publish\"
package = \"word\"
"
    );
    let steps = parse(&text).unwrap().steps;
    let places: Vec<_> = steps.iter().map(|step| (step.at.as_secs(), step.node)).collect();
    assert_eq!(places, [(10, 3), (20, 0), (20, 1), (20, 2), (20, 3)]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
    let message = refused("sties = 2\n");
    assert!(message.starts_with("dir/small.toml:7: unknown field `sties`"), "{message}");
    assert!(message.ends_with("did you mean `sites`?"), "{message}");
    let message = refused("[[faults]]\nkind = \"partitoin\"\n");
    assert!(message.contains(":8: ") && message.ends_with("did you mean `partition`?"), "{message}");
}

#[test]
fn a_name_that_stands_for_nothing_is_refused() {
    let step = "[[workload]]\nat = \"1s\"\nnode = \"node-33\"\ndo = \"search\"\ntext = \"x\"\n";
    let message = refused(step);
    assert_eq!(message, "dir/small.toml:9: there is no node `node-33`; did you mean `node-3`?");
    let message =
        refused("[[workload]]\nat = \"1s\"\nnode = \"node-3\"\ndo = \"install\"\npackage = \"x\"\n");
    assert!(message.ends_with(":11: there is no package `x`"), "{message}");
}

#[test]
fn what_cannot_be_is_refused_with_its_line() {
    let fault = |at: &str, until: &str, nodes: &str| {
        refused(&format!(
            "[[faults]]\nkind = \"partition\"\nat = {at:?}\nuntil = {until:?}\nnodes = {nodes}\n"
        ))
    };
    for (message, line, what) in [
        (fault("9s", "5s", "[\"node-1\"]"), 10, "a fault ends after it began"),
        (fault("5s", "60s", "[\"node-1\"]"), 10, "the run has ended by then"),
        (fault("5s", "9s", "[]"), 9, "a fault concerns some nodes"),
        (fault("5s", "9s", "[\"node-0\", \"node-1\", \"node-2\", \"node-3\"]"), 9, "leaves others"),
        (fault("soon", "9s", "[\"node-1\"]"), 9, "\"soon\" is no duration"),
        (refused("sites = 5\n"), 4, "at least one site"),
        (refused("hubs = 1\n"), 4, "a mesh has no hubs"),
        (parse(&SMALL.replace("10ms", "1s")).unwrap_err().to_string(), 2, "min is at most max"),
        (parse(&SMALL.replace("60s", "2days")).unwrap_err().to_string(), 1, "at most a day"),
        (
            refused("[[workload]]\nat = \"1s\"\nnode = \"*\"\ndo = \"search\"\ntext = \"x\"\nbytes = 1\n"),
            12,
            "`bytes` does not belong",
        ),
        (refused("[[workload]]\nat = \"1s\"\nnode = \"*\"\ndo = \"search\"\n"), 10, "this step needs `text`"),
    ] {
        assert!(message.starts_with(&format!("dir/small.toml:{line}: ")), "{message}");
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn a_fault_concerns_whole_sites() {
    let shared = "sites = 2\n[[faults]]\nkind = \"crash\"\nat = \"5s\"\nuntil = \"9s\"\n";
    assert!(refused(&format!("{shared}nodes = [\"node-1\"]\n")).contains("whole sites"));
    let scenario = parse(&format!("{SMALL}{shared}nodes = [\"node-1\", \"node-3\"]\n")).unwrap();
    assert_eq!(scenario.faults[0].nodes, BTreeSet::from([1, 3]));
}
