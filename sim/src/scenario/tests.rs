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
    let nodes: Vec<_> = scenario
        .nodes
        .iter()
        .map(|it| (it.name.as_str(), it.role.serves_dht(), it.bootstrap.clone()))
        .collect();
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
fn what_would_be_ignored_is_refused_with_its_line() {
    let crowd = |rest: &str| {
        refused(&format!("[[faults]]\nkind = \"mass-join\"\nat = \"5s\"\nnodes = [\"node-1\"]\n{rest}"))
    };
    let node = |rest: &str| format!("[[nodes]]\nname = \"node-3\"\n{rest}");
    let join = "[[workload]]\nat = \"9s\"\nnode = \"node-3\"\ndo = \"join\"\n";
    let regions = SMALL.replace("latency = { min = \"10ms\", max = \"100ms\" }", "regions = [\"eu-west-1\"]");
    let shared = format!("{regions}sites = 3\n{}", node("region = \"us-east-1\"\n"));
    for (message, line, what) in [
        (crowd("until = \"9s\"\n"), 11, "`until` does not belong to this fault"),
        (crowd("for = \"9s\"\n"), 11, "`for` does not belong to this fault"),
        (refused("started = \"61s\"\n"), 7, "the run has ended by then"),
        (
            parse(&shared).unwrap_err().to_string(),
            10,
            "`region` does not belong to a node that shares its site",
        ),
        (
            refused(&node("config = { listen_addresses = [\"/ip4/0.0.0.0/tcp/1\"] }\n")),
            9,
            "`listen_addresses`",
        ),
        (refused(&format!("[config]\nlisten_addresses = []\n{}", node(""))), 7, "`listen_addresses`"),
        (refused(&format!("{}{join}", node("start = \"5s\"\n"))), 9, "`start` does not count"),
    ] {
        assert!(
            message.starts_with(&format!("dir/small.toml:{line}: ")) && message.contains(what),
            "{message}"
        );
    }
    let leave = join.replace("join", "leave").replace("9s", "8s");
    assert!(parse(&format!("{SMALL}{}{join}{leave}", node("start = \"5s\"\n"))).is_ok(), "it runs before");
    assert!(parse(&shared.replace("node-3", "node-1")).is_ok(), "it has a site to itself");
}

#[test]
fn a_fault_concerns_whole_sites() {
    let shared = "sites = 2\n[[faults]]\nkind = \"crash\"\nat = \"5s\"\nuntil = \"9s\"\n";
    assert!(refused(&format!("{shared}nodes = [\"node-1\"]\n")).contains("whole sites"));
    let scenario = parse(&format!("{SMALL}{shared}nodes = [\"node-1\", \"node-3\"]\n")).unwrap();
    assert_eq!(scenario.faults[0].nodes, BTreeSet::from([1, 3]));
}

#[test]
fn a_file_extends_another_and_errors_name_the_right_one() {
    let folder = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let step =
        |at: &str| format!("[[workload]]\nat = {at:?}\nnode = \"node-1\"\ndo = \"search\"\ntext = \"x\"\n");
    write("base.toml", &format!("{SMALL}{}", step("1s")));
    let above = format!("extends = \"base.toml\"\nduration = \"90s\"\n[topology]\nnodes = 5\n{}", step("2s"));
    let scenario = Scenario::read(&write("above.toml", &above)).unwrap();
    assert_eq!(
        (scenario.nodes.len(), scenario.duration, scenario.steps.len()),
        (5, Duration::from_secs(90), 2)
    );
    assert_eq!(scenario.name, "above");

    write("base.toml", &SMALL.replace("nodes", "ndoes"));
    let message = Scenario::read(&write("above.toml", "extends = \"base.toml\"\n")).unwrap_err().to_string();
    assert!(message.contains("base.toml:6: unknown field `ndoes`"), "{message}");
    write("base.toml", SMALL);
    let message = Scenario::read(&write("above.toml", "extends = \"base.toml\"\ntikc = \"1ms\"\n"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("above.toml:2: ") && message.contains("did you mean `tick`?"), "{message}");

    write("base.toml", "extends = \"above.toml\"\n");
    let message = Scenario::read(&write("above.toml", "extends = \"base.toml\"\n")).unwrap_err().to_string();
    assert!(message.contains("base.toml:1: ") && message.contains("circle"), "{message}");
    let message =
        Scenario::read(&write("above.toml", "\nextends = \"absent.toml\"\n")).unwrap_err().to_string();
    assert!(message.contains("above.toml:2: ") && message.contains("absent.toml"), "{message}");
}

#[test]
fn a_matrix_makes_variants() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("small.toml");
    let fault = "[[faults]]\nkind = \"crash\"\nat = \"5s\"\nfor = \"1s\"\npick = 1\n";
    let matrix = "[matrix]\n\"topology.nodes\" = [8, 16]\nfaults.0.for = [\"2s\", \"3s\"]\n";
    std::fs::write(&path, format!("{SMALL}{fault}{matrix}")).unwrap();
    let names = Scenario::variants(&path).unwrap();
    assert_eq!(names.len(), 4);
    assert_eq!(names[3], "small[faults.0.for=3s,topology.nodes=16]");
    for name in [names[3].as_str(), "faults.0.for=3s,topology.nodes=16"] {
        let scenario = Scenario::read_variant(&path, Some(name)).unwrap();
        assert_eq!((scenario.nodes.len(), scenario.full_name()), (16, names[3].clone()));
        let three = Duration::from_secs(3);
        assert_eq!(scenario.faults[0].lasts, Lasts::For(three..=three));
    }
    assert_eq!(Scenario::read(&path).unwrap().full_name(), names[0]);
    let message =
        Scenario::read_variant(&path, Some("small[faults.0.for=3s,topology.nodes=17]")).unwrap_err();
    assert!(
        message.to_string().contains("did you mean `small[faults.0.for=3s,topology.nodes=16]`?"),
        "{message}"
    );
    assert_eq!(Scenario::variants(Path::new("absent.toml")).unwrap_err().to_string().lines().count(), 1);
    let message = refused("[matrix]\ntopology = [1]\n");
    assert!(message.starts_with("dir/small.toml:8: "), "{message}");
}

#[test]
fn seeds_are_a_range_with_both_ends_or_a_list() {
    let seeds = |text: &str| parse(&format!("seeds = {text}\n{SMALL}")).map(|it| it.seeds);
    assert_eq!(seeds("\"1..3\"").unwrap(), [1, 2, 3]);
    assert_eq!(seeds("[7, 9]").unwrap(), [7, 9]);
    for wrong in ["\"3..1\"", "\"many\"", "[]", "\"1..1000000000000\""] {
        assert!(seeds(wrong).unwrap_err().to_string().starts_with("dir/small.toml:1: "), "{wrong}");
    }
    assert_eq!(parse(SMALL).unwrap().seeds, [1]);
}

#[test]
fn nodes_have_their_disk_in_memory_unless_the_file_says_otherwise() {
    let disks = |more: &str| {
        parse(&format!("{SMALL}{more}")).unwrap().nodes.iter().map(|it| it.disk).collect::<Vec<_>>()
    };
    assert_eq!(disks(""), [DiskKind::Memory; 4]);
    let one = "[[nodes]]\nname = \"*\"\ndisk = \"files\"\n[[nodes]]\nname = \"node-1\"\ndisk = \"memory\"\n";
    assert_eq!(disks(one), [DiskKind::Files, DiskKind::Memory, DiskKind::Files, DiskKind::Files]);
    let message = refused("[[nodes]]\nname = \"node-1\"\ndisk = \"file\"\n");
    assert!(message.contains("there is no disk `file`; did you mean `files`?"), "{message}");
}

#[test]
fn nodes_have_roles_regions_and_a_configuration_of_their_own() {
    let hybrid =
        SMALL.replace("\"mesh\"", "\"hybrid\"\npermanents = 2\nephemerals = 2").replace("nodes = 4\n", "");
    let text = hybrid.replace(
        "latency = { min = \"10ms\", max = \"100ms\" }",
        "regions = { eu-west-1 = 3, us-east-1 = 1 }",
    );
    let scenario = parse(&format!(
        "{text}[config]\nquery_timeout_secs = 7\n[[nodes]]\nname = \"ephemeral-1\"\nstart = \"5s\"\nleave = \"9s\"\n\
         bootstrap = [\"permanent-0\"]\nconfig = {{ packages_topic = \"other\" }}\n"
    ))
    .unwrap();
    let of =
        |node: &Node| (node.name.clone(), node.role, node.role.serves_dht(), node.region.clone().unwrap());
    let nodes: Vec<_> = scenario.nodes.iter().map(of).collect();
    let (ireland, virginia) = ("eu-west-1".to_owned(), "us-east-1".to_owned());
    assert_eq!(nodes[0], ("permanent-0".to_owned(), Role::Permanent, true, ireland.clone()));
    assert_eq!(nodes[2], ("ephemeral-0".to_owned(), Role::Ephemeral, false, ireland.clone()));
    assert_eq!(nodes.iter().filter(|it| it.3 == virginia).count(), 1);
    let last = &scenario.nodes[3];
    assert_eq!((last.start, last.leave), (Duration::from_secs(5), Some(Duration::from_secs(9))));
    assert_eq!((last.bootstrap.as_slice(), last.config.query_timeout_secs), (&[0][..], Some(7)));
    assert_eq!(last.config.packages_topic.as_deref(), Some("other"));
    assert_eq!(scenario.latency, Latency::Regions);

    let message = refused("[[nodes]]\nname = \"node-1\"\nconfig = { packages_topci = \"x\" }\n");
    assert!(message.starts_with("dir/small.toml:9: ") && message.contains("packages_topic"), "{message}");
    let message = refused("[[nodes]]\nname = \"*\"\nconfig = { role = \"hub\" }\n");
    assert!(
        message.starts_with("dir/small.toml:9: ") && message.contains("a node would refuse this"),
        "{message}"
    );
    let message = parse(&text.replace("eu-west-1", "eu-wset-1")).unwrap_err().to_string();
    assert!(message.starts_with("dir/small.toml:2: ") && message.contains("`eu-west-1`"), "{message}");
}

#[test]
fn expectations_and_adversaries_are_read() {
    let scenario = parse(&format!(
        "{SMALL}[[adversaries]]\nnode = \"node-3\"\nscript = \"corrupt-blocks\"\nat = \"10s\"\n[expect]\n\
         catalogues-agree-within = \"15s\"\n[[expect.thresholds]]\nmetric = \"search_p99_ms\"\nat-most = 2000.0\n"
    ))
    .unwrap();
    let script = Script {
        kind: ScriptKind::CorruptBlocks,
        at: Duration::from_secs(10),
        flood: Flood::default(),
        target: None,
    };
    assert_eq!(scenario.nodes[3].script, Some(script));
    let Expect { catalogues_agree, catalogues_agree_within, thresholds } = scenario.expect;
    assert!(catalogues_agree && catalogues_agree_within == Some(Duration::from_secs(15)));
    let bound = Threshold { metric: "search_p99_ms".to_owned(), at_most: Some(2000.0), at_least: None };
    assert_eq!(thresholds, [bound]);
    assert!(refused("[[expect.thresholds]]\nmetric = \"x\"\n").contains("needs `at-most` or `at-least`"));
    assert!(
        refused("[[adversaries]]\nnode = \"node-4\"\nscript = \"stall\"\n").contains("did you mean `node-")
    );
    assert!(
        refused("[[adversaries]]\nnode = \"node-3\"\nscript = \"stal\"\n").contains("did you mean `stall`?")
    );
}

#[test]
fn a_fault_needs_what_its_kind_needs_and_refuses_the_rest() {
    let fault = |rest: &str| refused(&format!("[[faults]]\nat = \"5s\"\npick = 1\n{rest}"));
    for (rest, what) in [
        ("kind = \"churn\"\nfor = \"9s\"\n", "needs `median`"),
        ("kind = \"slow\"\nfor = \"9s\"\n", "needs `by`"),
        ("kind = \"slow\"\nfor = \"9s\"\nby = \"0s\"\n", "`by` is more than nothing"),
        ("kind = \"slow\"\nfor = \"9s\"\nby = { min = \"0s\", max = \"1s\" }\n", "`by` is more than nothing"),
        ("kind = \"hold\"\n", "needs `until` or `for`"),
        ("kind = \"hold\"\nfor = \"9s\"\nuntil = \"9s\"\n", "both say when it ends"),
        ("kind = \"hold\"\nfor = \"9s\"\nby = \"1s\"\n", "`by` does not belong"),
        ("kind = \"lossy\"\nfor = \"9s\"\n", "needs `percent`"),
        ("kind = \"lossy\"\nfor = \"9s\"\npercent = 91\n", "`percent` is 1 to 90"),
        ("kind = \"throttle\"\nfor = \"9s\"\n", "needs `bytes-per-second`"),
        ("kind = \"throttle\"\nfor = \"9s\"\nbytes-per-second = 0\n", "`bytes-per-second` is 1 to"),
        ("kind = \"throttle\"\nfor = \"9s\"\npercent = 1\n", "`percent` does not belong"),
        ("kind = \"crash\"\nfor = \"1s\"\ntimes = 2\n", "`times` and `every` go together"),
        ("kind = \"crash\"\nfor = \"1s\"\ntimes = 20\nevery = \"10s\"\n", "has ended by the last"),
        ("kind = \"crash\"\nfor = { min = \"2s\", max = \"1s\" }\n", "min is at most max"),
        ("kind = \"swizzle-clgo\"\nfor = \"1s\"\n", "did you mean `swizzle-clog`?"),
    ] {
        let message = fault(rest);
        assert!(message.contains(what), "{message}");
    }
    assert!(
        refused("[[faults]]\nkind = \"hold\"\nat = \"5s\"\nfor = \"1s\"\npick = 5\n")
            .contains("1 to 4 nodes")
    );
}

#[test]
fn an_installation_of_something_else_falls_short() {
    let step = |at: u32, rest: &str| format!("[[workload]]\nat = \"{at}s\"\nnode = \"node-1\"\n{rest}\n");
    let publish = |at, name: &str| step(at, &format!("do = \"publish\"\npackage = {name:?}"));
    let (amber, birch) = (publish(1, "amber"), publish(2, "birch"));
    let install = step(3, "do = \"install\"\npackage = \"amber\"");
    let scenario = parse(&format!("{SMALL}{amber}{birch}{install}")).unwrap();
    let published = |id: &str, cid: &str| Ended::Published {
        id: id.to_owned(),
        version: "1.0.0".to_owned(),
        cid: cid.to_owned(),
        sequence: 0,
    };
    let shortcoming = |id: &str, cid: &str, first: Option<Ended>| {
        let installed =
            Ended::Installed { id: id.to_owned(), cid: cid.to_owned(), fetched: 1, overdue: false };
        let ended = [(1, published("key/birch", "of-birch")), (2, installed)];
        scenario.shortcoming(2, &first.map(|it| (0, it)).into_iter().chain(ended).collect())
    };
    let amber = || Some(published("key/amber", "of-amber"));
    assert_eq!(shortcoming("key/amber", "of-amber", amber()), None);
    assert_eq!(shortcoming("key/birch", "of-birch", amber()).unwrap(), "installed key/birch, and not amber");
    for (id, cid) in [("key/amber", "of-birch"), ("other/amber", "of-amber")] {
        let why = shortcoming(id, cid, amber()).unwrap();
        assert_eq!(why, format!("installed {cid} of {id}, which is no release of amber"));
    }
    let named = |version: &str| {
        let install = step(3, &format!("do = \"install\"\npackage = \"amber\"\nversion = {version:?}"));
        parse(&format!("{SMALL}{}{install}", publish(1, "amber"))).unwrap()
    };
    let ended = |scenario: &Scenario| {
        let installed = Ended::Installed {
            id: "key/amber".to_owned(),
            cid: "of-amber".to_owned(),
            fetched: 1,
            overdue: false,
        };
        scenario.shortcoming(1, &[(0, published("key/amber", "of-amber")), (1, installed)].into())
    };
    assert_eq!(ended(&named("1.0.0")), None);
    let why = ended(&named("1.1.0")).unwrap();
    assert_eq!(why, "installed of-amber of key/amber, which is no release of amber 1.1.0");
    assert_eq!(
        shortcoming("key/amber", "unknown", None),
        None,
        "a publication that did not end may have done its work"
    );
}

#[test]
fn a_search_has_filters_and_says_what_it_must_find() {
    let publish = "[[workload]]\nat = \"1s\"\nnode = \"node-1\"\ndo = \"publish\"\npackage = \"amber\"\n\
                   tags = [\"fast\", \"small\"]\ncategories = [\"database\"]\n";
    let search = |rest: &str| {
        format!("{publish}[[workload]]\nat = \"2s\"\nnode = \"node-2\"\ndo = \"search\"\ntext = \"\"\n{rest}")
    };
    let rest = "tags = [\"fast\"]\nany-tag = true\ncategories = [\"x\"]\nlimit = 2\nmin-reputation = 0.5\n\
                names = [\"amber\"]\nhides = 1\n";
    let scenario = parse(&format!("{SMALL}{}", search(rest))).unwrap();
    let Action::Publish { tags, categories, .. } = &scenario.steps[0].action else { panic!() };
    assert_eq!((tags.join(" "), categories.join(" ")), ("fast small".to_owned(), "database".to_owned()));
    let Action::Search { filter, .. } = &scenario.steps[1].action else { panic!() };
    let expected = Filter {
        categories: vec!["x".to_owned()],
        tags: vec!["fast".to_owned()],
        any_tag: true,
        limit: Some(2),
        min_reputation: Some(0.5),
    };
    assert_eq!(*filter, expected);

    let falls_short = |ids: &[&str], hidden| {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        scenario.shortcoming(1, &[(1, Ended::Found { ids, hidden, because: Vec::new() })].into())
    };
    assert_eq!(falls_short(&["key/amber"], 1), None);
    assert!(falls_short(&[], 1).unwrap().starts_with("found {} instead of"));
    assert!(falls_short(&["key/amber", "key/birch"], 1).unwrap().contains("instead of {\"amber\"}"));
    assert_eq!(falls_short(&["key/amber"], 0).unwrap(), "hid 0 packages instead of 1");
    assert!(refused(&search("names = [\"birch\"]\n")).contains("there is no package `birch`"));
    assert!(
        refused(&publish.replace("categories", "limit").replace("[\"database\"]", "1")).contains("`limit`")
    );
}

#[test]
fn a_step_that_counts_to_a_share_may_fail() {
    let step = |share: &str| {
        format!("[[workload]]\nat = \"1s\"\nnode = \"*\"\ndo = \"search\"\ntext = \"x\"\nshare = {share:?}\n")
    };
    let scenario = parse(&format!("{SMALL}{}", step("during"))).unwrap();
    assert!(scenario.steps.iter().all(|step| step.may_fail && step.share.as_deref() == Some("during")));
    assert!(refused(&step("During it")).contains("named by a-z"));
}

#[test]
fn a_step_may_be_done_again_and_again_and_what_is_published_so_counts_up() {
    let step = |rest: &str| format!("[[workload]]\nat = \"10s\"\nnode = \"node-1\"\n{rest}\n");
    let publish =
        step("do = \"publish\"\npackage = \"amber\"\nversion = \"1.2.9\"\nevery = \"20s\"\ntimes = 3");
    let scenario = parse(&format!("{SMALL}{publish}")).unwrap();
    let steps = scenario.steps.iter().map(|step| match &step.action {
        Action::Publish { version, .. } => (step.at.as_secs(), version.as_str()),
        other => panic!("{other:?}"),
    });
    assert_eq!(steps.collect::<Vec<_>>(), [(10, "1.2.9"), (30, "1.2.10"), (50, "1.2.11")]);
    let search = |rest: &str| step(&format!("do = \"search\"\ntext = \"x\"\n{rest}"));
    assert_eq!(parse(&format!("{SMALL}{}", search("every = \"1s\"\ntimes = 50"))).unwrap().steps.len(), 50);
    for (added, what) in [
        (search("times = 3"), "go together"),
        (search("every = \"3s\""), "go together"),
        (search("times = 0\nevery = \"3s\""), "1 to 1000 times"),
        (search("times = 3\nevery = \"0s\""), "1 to 1000 times"),
        (search("times = 1001\nevery = \"1ms\""), "1 to 1000 times"),
        (search("times = 6\nevery = \"10s\""), "the run has ended by the last of them"),
        (search("times = 1000\nevery = \"1ms\"\n").repeat(21), "at most 20000 steps"),
        (publish.replace("1.2.9", "1.2.9-beta"), "ends with a number"),
    ] {
        assert!(refused(&added).contains(what), "{added}: {}", refused(&added));
    }
}

#[test]
fn an_installation_that_fails_leaves_nothing_behind() {
    let text = "[[workload]]\nat = \"1s\"\nnode = \"node-1\"\ndo = \"publish\"\npackage = \"amber\"\n\
                [[workload]]\nat = \"2s\"\nnode = \"node-2\"\ndo = \"install\"\npackage = \"amber\"\n\
                fails = \"E_NO_PROVIDERS\"\n";
    let scenario = parse(&format!("{SMALL}{text}")).unwrap();
    let failed = |leaves_files| {
        let (code, message) = ("E_NO_PROVIDERS".to_owned(), String::new());
        scenario.shortcoming(1, &[(1, Ended::Failed { code, message, leaves_files })].into())
    };
    assert_eq!(failed(false), None);
    assert_eq!(failed(true).unwrap(), "failed with E_NO_PROVIDERS, and left files behind");
}

#[test]
fn a_flood_is_as_great_as_it_is_said_to_be() {
    let adversary =
        |script: &str, rest: &str| format!("[[adversaries]]\nnode = \"node-3\"\nscript = {script:?}\n{rest}");
    let flood = |rest: &str| {
        let scenario = parse(&format!("{SMALL}{}", adversary("flood-gossip", rest))).unwrap();
        scenario.nodes[3].script.unwrap().flood
    };
    assert_eq!(flood(""), Flood::default());
    let lasts = Duration::from_secs(2);
    assert_eq!(flood("per-second = 10_000\nfor = \"2s\"\n"), Flood { per_second: 10_000, lasts });
    for (script, rest) in [
        ("stall", "per-second = 5\n"),
        ("stall", "for = \"2s\"\n"),
        ("flood-gossip", "per-second = 0\n"),
        ("flood-gossip", "for = \"0s\"\n"),
    ] {
        assert!(refused(&adversary(script, rest)).contains("belongs to `flood-gossip`"), "{script} {rest}");
    }
}

#[test]
fn who_is_near_to_a_package_can_be_named_where_it_has_one_author() {
    let publish = |at: u32, node: u32, name: &str| {
        format!(
            "[[workload]]\nat = \"{at}s\"\nnode = \"node-{node}\"\ndo = \"publish\"\npackage = {name:?}\n"
        )
    };
    let twice = publish(5, 2, "amber") + &publish(1, 1, "birch") + &publish(9, 2, "amber");
    let fault =
        |rest: &str| format!("{twice}[[faults]]\nkind = \"crash\"\nat = \"10s\"\nfor = \"9s\"\n{rest}");
    let near = |name: &str| format!("pick = 2\nnearest-to = {name:?}\n");
    let scenario = parse(&format!("{SMALL}{}", fault(&near("amber")))).unwrap();
    let step = &scenario.steps[scenario.faults[0].nearest_to.unwrap()];
    assert_eq!((step.action.published(), step.node, step.at), (Some("amber"), 2, Duration::from_secs(5)));
    let message = refused(&fault(&near("ambre")));
    assert!(message.contains("there is no package `ambre`; did you mean `amber`?"), "{message}");
    assert!(message.starts_with("dir/small.toml:27: "), "{message}");
    let message = refused(&(publish(11, 3, "amber") + &fault(&near("amber"))));
    assert!(message.contains("`amber` is published by more than one node"), "{message}");
    let message = refused(&fault("nodes = [\"node-1\"]\nnearest-to = \"amber\"\n"));
    assert!(message.contains("needs `pick`"), "{message}");
    let message = refused(&fault("pick = 4\nnearest-to = \"amber\"\n"));
    assert!(message.contains("1 to 3 nodes can be picked, the author is none of them"), "{message}");

    let adversary = |script: &str, rest: &str| {
        format!("{twice}[[adversaries]]\nnode = \"node-3\"\nscript = {script:?}\n{rest}")
    };
    let scenario = parse(&format!("{SMALL}{}", adversary("eclipse", "package = \"birch\"\n"))).unwrap();
    let target = scenario.nodes[3].script.unwrap().target.unwrap();
    assert_eq!(scenario.steps[target].action.published(), Some("birch"));
    for (script, rest, what) in [
        ("eclipse", "", "`eclipse` needs a `package`"),
        ("eclipse", "package = \"brich\"\n", "did you mean `birch`?"),
        ("stall", "package = \"birch\"\n", "`package` belongs to `eclipse`"),
    ] {
        let message = refused(&adversary(script, rest));
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn a_lookup_of_a_share_that_gets_something_old_falls_short() {
    let step = |at: u32, rest: &str| format!("[[workload]]\nat = \"{at}s\"\nnode = \"node-1\"\n{rest}\n");
    let publish = |at, version: &str| {
        step(at, &format!("do = \"publish\"\npackage = \"amber\"\nversion = {version:?}"))
    };
    let lookup = step(3, "do = \"lookup\"\npackage = \"amber\"\nshare = \"new\"");
    let (first, second, third) = (publish(1, "1.0.0"), publish(2, "1.1.0"), publish(4, "1.2.0"));
    let text = format!("{SMALL}{first}{second}{lookup}{third}");
    let shortcoming = |text: &str, sequence: u64| {
        let id = || "key/amber".to_owned();
        let published =
            |sequence| Ended::Published { id: id(), version: String::new(), cid: String::new(), sequence };
        let looked_up = Ended::LookedUp { id: id(), sequence };
        let ended = [(0, published(0)), (1, published(1)), (2, looked_up), (3, published(2))];
        parse(text).unwrap().shortcoming(2, &ended.into())
    };
    assert_eq!(shortcoming(&text, 1), None, "what is published later is not waited for");
    assert_eq!(shortcoming(&text, 0).unwrap(), "got key/amber at 0, and it had come to 1");
    assert_eq!(shortcoming(&text.replace("share = \"new\"", ""), 0), None, "the judge has an eye on it");
}

#[test]
fn clocks_are_stepped_ahead_or_back_and_belong_to_a_site() {
    let fault = |by: &str| {
        format!(
            "[[faults]]\nkind = \"clock\"\nat = \"5s\"\nnodes = [\"*\"]\nby = {by}\n[[nodes]]\nname = \"node-1\"\nclock = \"-2h\"\n"
        )
    };
    let hour = Duration::from_secs(3_600);
    for (by, least, is_back) in [
        ("\"400d\"", hour * 24 * 400, false),
        ("\"+2h\"", hour * 2, false),
        ("\"-1h\"", hour, true),
        ("{ min = \"1h\", max = \"2h\" }", hour, false),
    ] {
        let scenario = parse(&format!("{SMALL}{}", fault(by))).unwrap();
        let FaultKind::Clock { by, is_back: back } = &scenario.faults[0].kind else { panic!("a clock") };
        assert_eq!((*by.start(), *back), (least, is_back));
        assert_eq!(scenario.faults[0].lasts, Lasts::Ever);
        let clocks: Vec<Shift> = scenario.nodes.iter().map(|node| node.clock).collect();
        assert_eq!(clocks[1], Shift::new(hour * 2, true));
        assert_eq!(clocks[0], Shift::default());
    }
    for (by, what) in
        [("\"0s\"", "more than nothing"), ("\"101y\"", "a hundred years"), ("\"--1s\"", "no duration")]
    {
        let message = refused(&fault(by));
        assert!(message.contains(what), "{message}");
    }
    let slow = "[[faults]]\nkind = \"slow\"\nat = \"5s\"\nfor = \"1s\"\nnodes = [\"node-1\"]\nby = \"-1s\"\n";
    assert!(refused(slow).contains("without a sign"));
    let shared = SMALL.replace("nodes = 4", "nodes = 4\nsites = 2");
    let message = parse(&format!("{shared}[[nodes]]\nname = \"node-1\"\nclock = \"1s\"\n")).unwrap_err();
    assert!(message.to_string().contains("a clock is that of a site"), "{message}");
    parse(&format!("{shared}[[nodes]]\nname = \"*\"\nclock = \"1s\"\n")).unwrap();
}

#[test]
fn clocks_drift_by_what_they_gain_or_lose_in_an_hour() {
    let drifts = |by: &str| format!("{SMALL}[[nodes]]\nname = \"node-1\"\ndrift = {by}\n");
    let scenario = parse(&drifts("\"-90s\"")).unwrap();
    let drift: Vec<Shift> = scenario.nodes.iter().map(|node| node.drift).collect();
    assert_eq!(drift[..2], [Shift::default(), Shift::new(Duration::from_secs(90), true)]);
    let message = parse(&drifts("{ min = \"1s\", max = \"2s\" }")).unwrap_err();
    assert!(message.to_string().contains("in an hour"), "{message}");
}
