//! The program `ggen-sim`, as processes: one run each, since a run is repeatable once a process.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// Three nodes and what is added; `@` stands for the place of the workload and the faults.
const SMALL: &str = r#"
duration = "40s"
tick = "5ms"
latency = { min = "10ms", max = "50ms" }
[topology]
kind = "mesh"
nodes = 3
[[workload]]
at = "8s"
node = "node-1"
do = "publish"
package = "word"
bytes = 40000
"#;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ggen-sim"))
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("scenarios")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs the small scenario with something added; its exit code and report.
fn run(added: &str) -> (i32, Value) {
    run_on("turmoil", added)
}

fn run_on(engine: &str, added: &str) -> (i32, Value) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("small.toml");
    fs::write(&file, format!("{SMALL}{added}")).unwrap();
    let arguments = ["--seed", "5", "--engine", engine, "--format", "json"];
    let output = program().arg("run").arg(file).args(arguments).output().unwrap();
    (output.status.code().unwrap(), json(&output))
}

fn violations(report: &Value) -> Vec<String> {
    let invariants = report["invariants"].as_array().unwrap().iter();
    let violations = invariants.flat_map(|it| it["violations"].as_array().unwrap());
    violations.map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let prove = |seed: &str, engine: &str| {
        let smoke = scenarios().join("smoke.toml");
        let arguments = ["--seed", seed, "--engine", engine, "--format", "json"];
        let output = program().arg("prove").arg(smoke).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let proof = json(&output);
        assert_eq!(proof["trace_hashes"][0], proof["trace_hashes"][1]);
        assert_eq!(proof["verdicts"], serde_json::json!(["pass", "pass"]));
        assert!(proof["events"].as_u64().unwrap() > 30);
        proof["trace_hashes"][0].clone()
    };
    assert_ne!(prove("1", "turmoil"), prove("2", "turmoil"));
    assert_ne!(prove("1", "fabric"), prove("2", "fabric"));
}

/// An exit code, rules with whether they hold, and steps with how they ended.
type Outcome = (i32, Vec<(String, bool)>, Vec<(String, String)>);

/// What came of a run, but for times and counts: the verdict, the rules that hold, and how each step ended.
fn outcome((exit, report): &(i32, Value)) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rules = report["invariants"].as_array().unwrap().iter();
    let steps = report["steps"].as_array().unwrap().iter();
    (
        *exit,
        rules.map(|rule| (text(&rule["name"]), rule["holds"] == true)).collect(),
        steps.map(|step| (text(&step["what"]), text(&step["outcome"]))).collect(),
    )
}

#[test]
fn both_engines_come_to_the_same() {
    let install = |at: &str, node: &str| {
        format!("[[workload]]\nat = \"{at}\"\nnode = \"{node}\"\ndo = \"install\"\npackage = \"word\"\n")
    };
    let fault = |kind: &str, node: &str, until: &str| {
        format!("[[faults]]\nkind = \"{kind}\"\nat = \"15s\"\nuntil = \"{until}\"\nnodes = [\"{node}\"]\n")
    };
    for added in [
        install("15s", "node-0"),
        // The only holder is down: the install fails.
        install("25s", "node-0") + &fault("crash", "node-1", "39s"),
        // Turmoil's streams get over a cut later than a kernel's: whoever was cut off installs nothing so soon.
        install("30s", "node-0") + &fault("partition", "node-2", "20s"),
        with_adversary("corrupt-blocks", &install("30s", "node-0")),
    ] {
        let (one, other) = (run_on("turmoil", &added), run_on("fabric", &added));
        assert_eq!(outcome(&one), outcome(&other), "{added}");
        assert_eq!((&one.1["engine"], &other.1["engine"]), (&"turmoil".into(), &"fabric".into()));
        assert_ne!(one.1["trace_hash"], other.1["trace_hash"]);
    }
}

#[test]
fn what_leaks_from_the_real_world_is_found_and_shown() {
    for (leak, engine) in [
        ("clock", "turmoil"),
        ("map", "turmoil"),
        ("thread", "turmoil"),
        ("clock", "fabric"),
        ("map", "fabric"),
    ] {
        let mut prove = program();
        prove.arg("prove").arg(scenarios().join("smoke.toml")).args([
            "--leak-on-purpose",
            leak,
            "--engine",
            engine,
        ]);
        let output = prove.args(["--format", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(102), "{leak} {engine}: {output:?}");
        let difference = &json(&output)["first_difference"];
        let lines = [&difference["lines"][0], &difference["lines"][1]];
        assert!(difference["event"].as_u64().unwrap() > 0 && lines[0] != lines[1], "{difference}");
    }
}

#[test]
fn the_report_has_the_shape_that_scripts_rely_on() {
    let (exit, report) = run("");
    assert_eq!(exit, 0, "{report}");
    assert_eq!(report["schema_version"], 1);
    assert_eq!((&report["scenario"], &report["seed"]), (&"small".into(), &5.into()));
    assert_eq!((&report["nodes"], &report["verdict"]), (&3.into(), &"pass".into()));
    assert_eq!(report["trace_hash"].as_str().unwrap().len(), 64);
    assert_eq!(report["simulated_secs"], 40.0);
    assert_eq!(report["metrics"]["steps_published"], 1.0);
    assert!(report["invariants"].as_array().unwrap().iter().all(|it| it["holds"] == true));
}

#[test]
fn what_was_committed_survives_a_crash() {
    // Only the author has the blocks, and it was down in between.
    let (exit, report) = run(r#"
[[faults]]
kind = "crash"
at = "15s"
until = "20s"
nodes = ["node-1"]
[[workload]]
at = "32s"
node = "node-2"
do = "install"
package = "word"
"#);
    assert_eq!(exit, 0, "{report}");
    assert_eq!(report["faults"][0]["bites"], 1);
    assert_eq!(report["metrics"]["steps_installed"], 1.0);
}

#[test]
fn nothing_is_installed_from_a_node_that_is_down() {
    let (exit, report) = run(r#"
[[faults]]
kind = "crash"
at = "15s"
until = "39s"
nodes = ["node-1"]
[[workload]]
at = "25s"
node = "node-2"
do = "install"
package = "word"
"#);
    assert_eq!(exit, 100, "{report}");
    let found = violations(&report);
    assert!(found.iter().any(|it| it.starts_with("step 1 (install word at node-2 after 25s)")), "{found:?}");
}

#[test]
fn a_partition_keeps_a_release_from_the_other_side() {
    let partition = "[[faults]]\nkind = \"partition\"\nat = \"5s\"\nuntil = \"39s\"\nnodes = [\"node-1\"]\n";
    let (exit, report) = run(partition);
    assert_eq!(exit, 100, "{report}");
    assert_eq!(report["faults"][0]["bites"], 4);
    assert_eq!(
        violations(&report),
        ["node-0", "node-2"]
            .map(|node| format!("40.000 s {node}: lacks 1 of 1 packages, and lists 0 that nobody published"))
    );
}

#[test]
fn a_search_that_finds_too_little_fails_the_run() {
    let (exit, report) =
        run("[[workload]]\nat = \"30s\"\nnode = \"node-0\"\ndo = \"search\"\ntext = \"word\"\nfinds = 2\n");
    assert_eq!(exit, 100, "{report}");
    assert_eq!(
        violations(&report),
        ["step 1 (search \"word\" at node-0 after 30s) found 1 packages instead of 2"]
    );
}

#[test]
fn a_fault_that_never_bites_fails_the_run() {
    // Nobody has a connection yet.
    let (exit, report) =
        run("[[faults]]\nkind = \"partition\"\nat = \"0s\"\nuntil = \"1s\"\nnodes = [\"node-2\"]\n");
    assert_eq!(exit, 100, "{report}");
    assert!(violations(&report).contains(&"fault 0 (partition) never bit".to_owned()), "{report}");
}

/// Every kind of fault, each for itself, from the tenth second on; `node-2` of a small scenario is concerned.
const EVERY_KIND: [(&str, &str); 15] = [
    ("partition", "until = \"11s\""),
    ("partition", "until = \"11s\"\none-way = \"in\""),
    ("isolate", "until = \"11s\""),
    ("flapping", "until = \"12s\"\nup = \"500ms\"\ndown = \"500ms\""),
    ("slow", "until = \"30s\"\nby = \"200ms\""),
    ("hold", "until = \"30s\""),
    ("lossy", "until = \"30s\"\npercent = 20"),
    ("throttle", "until = \"30s\"\nbytes-per-second = 1_000"),
    ("swizzle-clog", "until = \"12s\""),
    ("crash", "until = \"12s\""),
    ("power-loss", "until = \"12s\"\ndisk = false"),
    ("restart", "disk = false"),
    ("mass-join", ""),
    ("mass-leave", "spread = \"1s\""),
    ("churn", "until = \"30s\"\nmedian = \"300ms\"\naway = \"2s\""),
];

fn fault(kind: &str, rest: &str) -> String {
    format!("[[faults]]\nkind = {kind:?}\nat = \"10s\"\nnodes = [\"node-2\"]\n{rest}\n")
}

#[test]
fn a_fault_of_every_kind_bites() {
    for (kind, rest) in EVERY_KIND {
        let (_, report) = run(&fault(kind, rest));
        assert!(report["faults"][0]["bites"].as_u64().unwrap() > 0, "{kind} {rest}: {}", report["faults"]);
        assert!(!violations(&report).iter().any(|it| it.ends_with("never bit")), "{kind} {rest}");
    }
}

#[test]
fn a_fault_of_any_kind_that_never_bites_fails_the_run() {
    // Nobody runs yet; only a mass join would start somebody, unless it is too late.
    let late: String =
        (0..3).map(|node| format!("[[nodes]]\nname = \"node-{node}\"\nstart = \"32s\"\n")).collect();
    let faults = EVERY_KIND.iter().filter(|(kind, _)| *kind != "mass-join");
    let faults: String = faults.map(|(kind, rest)| fault(kind, rest)).collect();
    let running = "[[faults]]\nkind = \"mass-join\"\nat = \"35s\"\nnodes = [\"node-2\"]\n\
                   [[workload]]\nat = \"33s\"\nnode = \"node-2\"\ndo = \"join\"\n";
    let (exit, report) = run(&format!("{late}{faults}{running}"));
    assert_eq!(exit, 100);
    let idle = violations(&report).into_iter().filter(|it| it.ends_with("never bit")).count();
    assert_eq!(idle, EVERY_KIND.len(), "{}", report["faults"]);
}

#[test]
fn a_restart_without_the_disk_loses_what_only_that_disk_had() {
    let install = "[[workload]]\nat = \"30s\"\nnode = \"node-2\"\ndo = \"install\"\npackage = \"word\"\n";
    let restart = |disk: bool| {
        format!(
            "[[faults]]\nkind = \"restart\"\nat = \"15s\"\nnodes = [\"node-1\"]\ndisk = {disk}\n{install}"
        )
    };
    let (exit, report) = run(&restart(true));
    assert_eq!(exit, 0, "{report}");
    let (exit, report) = run(&restart(false));
    assert_eq!(exit, 100, "{report}");
    assert!(violations(&report).iter().any(|it| it.starts_with("step 1 (install word")), "{report}");
}

/// The small scenario with an adversary in the place of its last node, and a package of several blocks that its first one
/// installs.
fn with_adversary(script: &str, added: &str) -> String {
    let package = "[[workload]]\nat = \"9s\"\nnode = \"node-1\"\ndo = \"publish\"\npackage = \"tree\"\nbytes = 6_000_000\n";
    let install = "[[workload]]\nat = \"14s\"\nnode = \"node-0\"\ndo = \"install\"\npackage = \"tree\"\n";
    let adversary = format!("[[adversaries]]\nnode = \"node-2\"\nscript = \"{script}\"\nat = \"5s\"\n");
    format!("{package}{install}{adversary}{added}")
}

fn rule<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["invariants"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap()
}

#[test]
fn whoever_sends_other_bytes_is_charged_and_the_install_succeeds() {
    let (exit, report) = run(&with_adversary("corrupt-blocks", ""));
    assert_eq!(exit, 0, "{report}");
    assert_eq!(report["metrics"]["adversaries_charged"], 1.0);
    assert_eq!(report["metrics"]["innocents_charged"], 0.0);
    // The same run with a bound that it misses.
    let bound = "[[expect.thresholds]]\nmetric = \"adversaries_charged\"\nat-most = 0.0\n";
    let (exit, report) = run(&with_adversary("corrupt-blocks", bound));
    assert_eq!(exit, 99, "{report}");
    assert_eq!(violations(&report), ["adversaries_charged is 1, and 0 is the most"]);
}

#[test]
fn whoever_claims_and_never_answers_is_charged_after_the_install_has_ended() {
    // Silence is certain after twenty seconds.
    let (exit, report) = run(&with_adversary("stall", ""));
    assert_eq!(exit, 0, "{report}");
    assert_eq!(report["metrics"]["adversaries_charged"], 1.0);
}

#[test]
fn what_is_forged_ends_where_it_arrives_and_would_be_found_if_it_went_on() {
    let (exit, report) = run(&with_adversary("forge-heads", ""));
    assert_eq!(exit, 0, "{report}");
    // Both honest nodes were given something forged, before they turned whoever sends it away.
    assert!(report["metrics"]["bites"].as_f64().unwrap() >= 2.0, "{report}");
    // What the adversary sends, as if an honest node passed it on.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("small.toml");
    fs::write(&file, format!("{SMALL}{}", with_adversary("forge-heads", ""))).unwrap();
    let output = program()
        .args(["run", "--trust-adversaries", "--seed", "5", "--format", "json"])
        .arg(file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(100), "{output:?}");
    let report = json(&output);
    let forwarding = rule(&report, "no-forged-forwarding");
    assert_eq!((&forwarding["holds"], &forwarding["kind"]), (&false.into(), &"safety".into()));
    let said = forwarding["violations"][0].as_str().unwrap();
    assert!(said.ends_with("got a forged announcement from node-2, which is honest"), "{said}");
}

#[test]
fn an_adversary_that_never_bites_fails_the_run() {
    let late = "[[adversaries]]\nnode = \"node-2\"\nscript = \"corrupt-blocks\"\nat = \"30s\"\n";
    let (exit, report) = run(late);
    assert_eq!(exit, 100, "{report}");
    assert_eq!(violations(&report), ["adversary node-2 (corrupt-blocks) never bit"]);
}

#[test]
fn a_step_that_must_fail_and_does_not_fails_the_run() {
    let search = "[[workload]]\nat = \"30s\"\nnode = \"node-2\"\ndo = \"search\"\ntext = \"word\"\n";
    let (exit, report) = run(&format!("{search}fails = \"E_NO_PROVIDERS\"\n{search}says = \"because\"\n"));
    assert_eq!(exit, 100, "{report}");
    let step = "(search \"word\" at node-2 after 30s)";
    assert_eq!(
        violations(&report),
        [
            format!("step 1 {step} did not fail with E_NO_PROVIDERS"),
            format!("step 2 {step} said \"\", and not \"because\"")
        ]
    );
}

#[test]
fn a_scenario_that_is_wrong_and_a_command_that_is_wrong_have_codes_of_their_own() {
    let (exit, report) = run("[[fautls]]\n");
    assert_eq!((exit, &report["exit_code"], &report["error"]["code"]), (7, &7.into(), &"config".into()));
    let message = report["error"]["message"].as_str().unwrap();
    assert!(message.contains("small.toml:14: ") && message.contains("did you mean `faults`?"), "{message}");
    for arguments in [&["run"][..], &["run", "x.toml", "--seed", "many"], &["walk"]] {
        assert_eq!(program().args(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
    let absent = program().args(["run", "absent.toml"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(7));
}

#[test]
fn every_scenario_can_be_read_and_asks_a_question() {
    let folders = [scenarios(), scenarios().join("long")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|it| it.unwrap().path());
    let is_scenario = |path: &PathBuf| path.extension().is_some_and(|it| it == "toml");
    let is_corpus = |path: &PathBuf| path.ends_with(ggen_sim::corpus::FILE_NAME);
    let scenarios: Vec<PathBuf> = files.filter(|path| is_scenario(path) && !is_corpus(path)).collect();
    assert!(scenarios.len() >= 16);
    for path in scenarios {
        for variant in ggen_sim::scenario::Scenario::variants(&path).unwrap() {
            ggen_sim::scenario::Scenario::read_variant(&path, Some(&variant)).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let header: String = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let asked = header.split_once('?').map(|(question, answer)| (question.len(), answer.len()));
        assert!(asked.is_some_and(|(question, answer)| question > 10 && answer > 10), "{}", path.display());
    }
}

/// Two nodes and a search that finds too much where something was published; the word stands for what is added.
const TINY: &str = r#"
# Does the second node find what the first one published?
# Yes.
duration = "12s"
tick = "10ms"
latency = { min = "10ms", max = "50ms" }
[topology]
kind = "mesh"
nodes = 3
[[workload]]
at = "5s"
node = "node-1"
do = "publish"
package = "word"
[expect]
catalogues-agree = false
"#;

/// A search that finds nothing where everything else is as in [`TINY`].
const GUILTY: &str =
    "[[workload]]\nat = \"8s\"\nnode = \"node-0\"\ndo = \"search\"\ntext = \"word\"\nfinds = 2\n";

fn write(folder: &TempDir, name: &str, added: &str) -> PathBuf {
    let file = folder.path().join(name);
    fs::write(&file, format!("{}{added}", TINY.trim_start())).unwrap();
    file
}

/// Runs the program in a folder; what it says, as JSON.
fn say(folder: &TempDir, arguments: &[&str]) -> (i32, Value) {
    let output = program().current_dir(folder).args(arguments).args(["--format", "json"]).output().unwrap();
    (output.status.code().unwrap(), json(&output))
}

#[test]
fn a_sweep_names_the_command_of_every_seed_that_fails_and_keeps_it() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    write(&folder, "bad.toml", GUILTY);
    let outputs = ["--junit", "sweep.xml", "--html", "sweep.html", "--keep", "--corpus-file", "corpus.toml"];
    let sweep = [&["sweep", "good.toml", "bad.toml", "--seeds", "1..=2"][..], &outputs].concat();
    let (exit, summary) = say(&folder, &sweep);
    // A step that does not end as it should is a violated invariant.
    assert_eq!((exit, &summary["passed"], &summary["failed"]), (100, &2.into(), &2.into()), "{summary}");
    let failed: Vec<&Value> =
        summary["runs"].as_array().unwrap().iter().filter(|run| run["exit_code"] != 0).collect();
    for (run, seed) in failed.iter().zip(1..) {
        assert_eq!(run["again"], format!("ggen-sim run bad.toml --seed {seed}"));
        assert_eq!(run["failing"][0]["name"], "every-step-succeeds");
    }
    // The command that is named fails in the same way.
    let again: Vec<&str> = failed[0]["again"].as_str().unwrap().split(' ').skip(1).collect();
    let (exit, report) = say(&folder, &again);
    assert_eq!((exit, &report["trace_hash"]), (100, &failed[0]["trace_hash"]));
    let junit = fs::read_to_string(folder.path().join("sweep.xml")).unwrap();
    assert_eq!(junit.matches("<testsuite ").count(), 4);
    assert!(junit.contains("again: ggen-sim run bad.toml --seed 2"), "{junit}");
    assert!(fs::read_to_string(folder.path().join("sweep.html")).unwrap().contains("2 of 4 runs passed"));
    // What was kept is run again, and first, and is not kept twice.
    let corpus = fs::read_to_string(folder.path().join("corpus.toml")).unwrap();
    assert_eq!(corpus.matches("[[failed]]").count(), 2, "{corpus}");
    assert!(corpus.contains("scenario = \"bad.toml\""), "{corpus}");
    let sweep = [
        "sweep",
        "good.toml",
        "corpus.toml",
        "--seeds",
        "1",
        "--corpus",
        "--keep",
        "--corpus-file",
        "corpus.toml",
    ];
    let (exit, summary) = say(&folder, &sweep);
    let runs = summary["runs"].as_array().unwrap().iter();
    let runs: Vec<_> =
        runs.map(|run| (run["file"].as_str().unwrap(), run["seed"].as_u64().unwrap())).collect();
    assert_eq!((exit, runs), (100, vec![("bad.toml", 1), ("bad.toml", 2), ("good.toml", 1)]));
    assert_eq!(fs::read_to_string(folder.path().join("corpus.toml")).unwrap(), corpus);
}

#[test]
fn a_sweep_in_parts_is_the_sweep_and_what_is_no_whole_is_refused() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    write(&folder, "bad.toml", GUILTY);
    let sweep = ["sweep", "good.toml", "bad.toml", "--seeds", "1..=2", "--engine", "fabric"];
    let part =
        |shard: &str, file: &str| say(&folder, &[&sweep[..], &["--shard", shard, "--json", file]].concat());
    assert_eq!(part("1/2", "1.json").0, 100);
    let error = |files: &[&str]| {
        let (exit, error) = say(&folder, &[&["merge"][..], files].concat());
        assert_eq!(exit, 7, "{error}");
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(error(&["1.json"]), "part 2 of 2 is missing");
    assert_eq!(error(&["1.json", "1.json"]), "1.json and 1.json are both part 1/2");
    fs::write(folder.path().join("2.json"), "").unwrap();
    assert!(error(&["1.json", "2.json"]).starts_with("2.json is no part of a sweep"));
    assert!(error(&["1.json", "3.json"]).starts_with("3.json is no part of a sweep"));
    assert_eq!(part("2/2", "2.json").0, 100);
    let (exit, merged) =
        say(&folder, &["merge", "2.json", "1.json", "--json", "all.json", "--html", "all.html"]);
    let runs = merged["runs"].as_array().unwrap().iter();
    let runs: Vec<_> =
        runs.map(|run| (run["file"].as_str().unwrap(), run["seed"].as_u64().unwrap())).collect();
    let expected = vec![("good.toml", 1), ("good.toml", 2), ("bad.toml", 1), ("bad.toml", 2)];
    assert_eq!((exit, runs, &merged["failed"]), (100, expected, &2.into()));
    assert!(merged["runs"][2]["again"].as_str().unwrap().ends_with("--engine fabric"), "{merged}");
    let written: Value = serde_json::from_slice(&fs::read(folder.path().join("all.json")).unwrap()).unwrap();
    assert_eq!(written, merged);
    assert!(fs::read_to_string(folder.path().join("all.html")).unwrap().contains("2 of 4 runs passed"));
    // A scenario that changed meanwhile makes another sweep.
    write(&folder, "good.toml", &GUILTY.replace("finds = 2", "finds = 1"));
    assert_eq!(part("2/2", "2.json").0, 100);
    assert!(error(&["1.json", "2.json"]).starts_with("2.json is part of another sweep than 1.json"));
}

#[test]
fn what_ran_is_kept_where_a_sweep_is_ended() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    let so_far = folder.path().join("sweep.json.unfinished");
    let sweep = |seeds: &str| {
        let mut sweep = program();
        sweep.current_dir(folder.path());
        sweep.args(["sweep", "good.toml", "--seeds", seeds, "--jobs", "1", "--json", "sweep.json"]);
        sweep
    };
    let mut endless = sweep("1..=9000").spawn().unwrap();
    let mut looked = 0;
    let kept = loop {
        let read = fs::read(&so_far).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        if let Some(kept) = read.filter(|it| it["runs"].as_array().is_some_and(|runs| runs.len() > 1)) {
            break kept;
        }
        looked += 1;
        assert!(looked < 12_000, "nothing is kept");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    endless.kill().unwrap();
    endless.wait().unwrap();
    assert_eq!((&kept["failed"], &kept["runs"][1]["seed"]), (&0.into(), &2.into()), "{kept}");
    assert!(!folder.path().join("sweep.json").exists(), "it is not over");
    assert!(sweep("1").output().unwrap().status.success());
    assert!(folder.path().join("sweep.json").exists() && !so_far.exists());
}

#[test]
fn a_sweep_kills_what_takes_too_long() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    let (exit, summary) = say(&folder, &["sweep", "good.toml", "--seeds", "1", "--timeout", "20ms"]);
    assert_eq!((exit, &summary["failed"]), (1, &1.into()), "{summary}");
    assert!(summary["runs"][0]["error"].as_str().unwrap().starts_with("killed after "), "{summary}");
}

#[test]
fn shrinking_leaves_the_guilty_alone() {
    let folder = TempDir::new().unwrap();
    let crash = |at: &str, until: &str, node: &str| {
        format!("[[faults]]\nkind = \"crash\"\nat = \"{at}\"\nuntil = \"{until}\"\nnodes = [\"{node}\"]\n")
    };
    let install = "[[workload]]\nat = \"10s\"\nnode = \"node-2\"\ndo = \"install\"\npackage = \"word\"\n";
    // The second one ends the life in which the publication was to be made.
    let faults = [crash("1s", "2s", "node-2"), crash("4s", "9s", "node-1"), crash("3s", "4s", "node-0")];
    write(&folder, "large.toml", &format!("{install}{}", faults.concat()));
    let arguments = ["shrink", "large.toml", "--expectation", "every-step-succeeds", "--tries", "40"];
    let (exit, shrunk) = say(&folder, &[&arguments[..], &["--out", "small.toml"]].concat());
    assert_eq!(exit, 0, "{shrunk}");
    let small = &shrunk["scenario"];
    assert_eq!(small["faults"].as_array().unwrap().len(), 1, "{shrunk}");
    assert_eq!(small["faults"][0]["at"], "4s");
    assert_eq!(small["workload"].as_array().unwrap().len(), 1, "{shrunk}");
    let (exit, report) = say(&folder, &["run", "small.toml"]);
    assert_eq!(exit, 100, "{report}");
    let broken = report["invariants"].as_array().unwrap().iter().find(|it| it["holds"] == false).unwrap();
    assert_eq!(broken["name"], "every-step-succeeds");
    // There is nothing to shrink where nothing fails.
    write(&folder, "good.toml", "");
    assert_eq!(say(&folder, &["shrink", "good.toml"]).0, 2);
}

#[test]
fn an_exploration_keeps_what_is_new_and_makes_smaller_what_fails() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    write(&folder, "bad.toml", GUILTY);
    // Two at once: each of the files is begun before the time is over.
    let explore = ["explore", "good.toml", "bad.toml", "--for", "2s", "--seed", "7", "--jobs", "2"];
    let files = ["--into", "explored", "--corpus-file", "corpus.toml", "--tries", "4"];
    let (exit, found) = say(&folder, &[&explore[..], &files].concat());
    assert_eq!((exit, &found["first_seed"]), (100, &7.into()), "{found}");
    let explored = &found["explored"];
    assert!(explored["runs"].as_u64().unwrap() >= 2, "{found}");
    assert!(explored["reached"]["connected"].as_u64().unwrap() > 0, "{found}");
    assert!(explored["kept"][0]["again"].as_str().unwrap().starts_with("ggen-sim run "), "{found}");
    assert!(found["never_reached"].as_array().unwrap().contains(&"twin met".into()), "{found}");
    let failed = &explored["failed"][0];
    assert!(failed["again"].as_str().unwrap().starts_with("ggen-sim run bad.toml --seed "), "{found}");
    let smaller = failed["smaller"].as_str().unwrap();
    assert!(folder.path().join(smaller).exists(), "{found}");
    assert!(fs::read_to_string(folder.path().join("corpus.toml")).unwrap().contains("bad.toml"));
    // What was written is gone on with: no seed comes twice.
    let more = ["explore", "good.toml", "--for", "1ms", "--into", "explored", "--corpus-file", "corpus.toml"];
    let (exit, again) = say(&folder, &more);
    assert_eq!(exit, 0, "{again}");
    assert_eq!(again["first_seed"], explored["next_seed"]);
    assert!(again["explored"]["runs"].as_u64() > explored["runs"].as_u64());
    fs::write(folder.path().join("explored/explored.json"), "[").unwrap();
    assert_eq!(say(&folder, &more).0, 2);
}

#[test]
fn a_comparison_finds_what_became_worse() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    let (exit, report) = say(&folder, &["run", "good.toml", "--json", "now.json", "--html", "now.html"]);
    assert_eq!(exit, 0, "{report}");
    let now = fs::read_to_string(folder.path().join("now.json")).unwrap();
    let mut before: Value = serde_json::from_str(&now).unwrap();
    assert_eq!(before, report);
    let compare = |arguments: &[&str]| say(&folder, &[&["compare", "before.json"], arguments].concat());
    let limit = ["--at-most-worse", "10%"];
    fs::write(folder.path().join("before.json"), &now).unwrap();
    assert_eq!(compare(&[&["now.json"][..], &limit].concat()).0, 0);
    // The same scenario and seed once more: the metrics are the same.
    assert_eq!(compare(&[&["good.toml"][..], &limit].concat()).0, 0);
    before["metrics"]["publish_ms_p50"] =
        (report["metrics"]["publish_ms_p50"].as_f64().unwrap() / 2.0).into();
    fs::write(folder.path().join("before.json"), before.to_string()).unwrap();
    assert_eq!(compare(&["now.json"]).0, 0, "without a limit nothing is too much");
    let (exit, compared) = compare(&[&["now.json", "--html", "both.html"][..], &limit].concat());
    assert_eq!((exit, &compared["over"]), (99, &1.into()));
    let worse = compared["changes"].as_array().unwrap().iter().find(|it| it["is_over"] == true).unwrap();
    assert_eq!((&worse["metric"], &worse["worse_by"]), (&"publish_ms_p50".into(), &1.0.into()));
    let page = fs::read_to_string(folder.path().join("both.html")).unwrap();
    assert!(
        page.contains("100 % worse, OVER THE LIMIT") && page.matches("<svg class=\"timeline\"").count() == 2
    );
    assert_eq!(compare(&["absent.json"]).0, 7);
}

#[test]
fn a_replay_stops_at_its_time_and_shows_what_the_run_would() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    let (exit, _) = say(&folder, &["run", "good.toml", "--log", "whole.log"]);
    let (again, replayed) = say(&folder, &["replay", "good.toml", "--until", "5s", "--log", "part.log"]);
    assert_eq!((exit, again, &replayed["simulated_secs"]), (0, 0, &5.0.into()));
    let (whole, part) =
        (fs::read_to_string(folder.path().join("whole.log")).unwrap(), folder.path().join("part.log"));
    let part = fs::read_to_string(part).unwrap();
    assert!(part.len() > 100 && whole.len() > part.len() && whole.starts_with(&part));
    let (_, shown) =
        say(&folder, &["replay", "good.toml", "--from", "5s", "--node", "node-1", "--grep", "published"]);
    let events = shown["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{shown}");
    assert_eq!(events[0]["node"], "node-1");
}

/// One node is cut off before something is published, and is not back in time to hear of it.
const CUT_OFF: &str = "[[faults]]\nkind = \"isolate\"\nat = \"3s\"\nfor = \"36s\"\nnodes = [\"node-2\"]\n";

#[test]
fn a_run_that_fails_says_who_what_and_since_when_and_a_replay_says_why() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("cut.toml"), format!("{SMALL}{CUT_OFF}")).unwrap();
    let (exit, report) = say(&folder, &["run", "cut.toml"]);
    assert_eq!(exit, 100, "{report}");
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|it| it["rule"] == "catalogue-equals-oracle").unwrap();
    assert_eq!(finding["node"], "node-2", "{finding}");
    assert!(finding["package"].as_str().unwrap().ends_with("/word"), "{finding}");
    assert!(finding["since_secs"].as_f64().unwrap() < finding["at_secs"].as_f64().unwrap(), "{finding}");
    let before = finding["scene"]["before"].as_array().unwrap();
    assert!(before.iter().any(|it| it.as_str().unwrap().contains("isolate begins [node-2]")), "{finding}");
    let (exit, told) = say(&folder, &["replay", "cut.toml", "--why", "catalogue-equals-oracle"]);
    assert_eq!((exit, &told["finding"]["what"]), (0, &finding["what"]));
    let events = told["events"].as_array().unwrap();
    assert!(
        events.iter().all(|it| it["node"] == "node-2"
            || it["node"] == "world"
            || it["what"].as_str().unwrap().contains("/word")),
        "{told}"
    );
    assert!(events.iter().any(|it| it["what"].as_str().unwrap().contains("isolate begins")), "{told}");
    let human = program().args(["run", "cut.toml"]).current_dir(folder.path()).output().unwrap();
    let human = String::from_utf8(human.stdout).unwrap();
    let at = |text: &str| human.find(text).unwrap_or_else(|| panic!("{text} in {human}"));
    assert!(at("what went wrong") < at("invariants"), "{human}");
    assert!(human.contains("it was connected with"), "{human}");
}

#[test]
fn a_list_says_what_each_scenario_asks() {
    let folder = TempDir::new().unwrap();
    write(&folder, "good.toml", "");
    fs::write(folder.path().join("corpus.toml"), "").unwrap();
    let (exit, listed) = say(&folder, &["list", "."]);
    assert_eq!((exit, listed.as_array().unwrap().len()), (0, 1));
    let (name, question) = (&listed[0]["name"], &listed[0]["question"]);
    assert_eq!(
        (name, question),
        (&"good".into(), &"Does the second node find what the first one published?".into())
    );
    assert_eq!((&listed[0]["nodes"], &listed[0]["duration_secs"]), (&3.into(), &12.0.into()));
    assert_eq!(say(&folder, &["list", "absent"]).0, 7);
}

#[test]
fn what_would_come_to_nothing_is_refused_before_the_run() {
    let folder = TempDir::new().unwrap();
    write(&folder, "small.toml", "");
    for (arguments, message) in [
        (&["run", "small.toml", "--html", "absent/a.html"][..], "absent is no folder"),
        (&["sweep", "small.toml", "--keep", "--corpus-file", "absent/c.toml"], "absent is no folder"),
        (&["sweep", "--corpus", "--corpus-file", "none.toml"], "there is no corpus none.toml"),
        (&["replay", "small.toml", "--node", "node-l"], "did you mean `node-"),
        (
            &["replay", "small.toml", "--why", "catalog-equals-oracle"],
            "did you mean `catalogue-equals-oracle`",
        ),
        (&["replay", "small.toml", "--why", "catalogue-equals-oracle"], "holds in this run"),
        (&["replay", "small.toml", "--from", "5s", "--until", "5s"], "nothing is left"),
    ] {
        let (exit, answer) = say(&folder, arguments);
        assert_eq!(exit, 2, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(message), "{answer}");
    }
}

#[test]
fn whoever_asks_trustworthy_peers_alone_waits_no_longer() {
    let half = |least: &str| {
        let mut run = program();
        run.arg("run").arg(scenarios().join("poor-peers.toml")).args(["--seed", "1", "--format", "json"]);
        let output =
            run.args(["--variant", &format!("config.peers.min_reputation={least}")]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        json(&output)["metrics"]["install_ms_p50"].as_f64().unwrap()
    };
    let (everybody, trustworthy) = (half("0.0"), half("0.8"));
    assert!(trustworthy < everybody, "{trustworthy} ms and {everybody} ms");
}
