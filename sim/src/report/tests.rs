//! A report as a run could have it, for the tests of all forms.

use super::*;

/// A step: node, what, when, how long, outcome, detail.
type Done = (usize, &'static str, f64, Option<f64>, Outcome, &'static str);

/// Four nodes, of which one crashed, with one violation, and every kind of step.
pub(crate) fn report() -> Report {
    let member = |(site, name): (usize, &str)| Member {
        name: name.to_owned(),
        role: name.split('-').next().unwrap_or_default().to_owned(),
        site,
        region: None,
        lives: if site == 2 { vec![[1.0, 20.0], [30.0, 60.0]] } else { vec![[site as f64, 60.0]] },
    };
    let step = |(number, (node, what, at_secs, took_secs, outcome, detail)): (usize, Done)| StepReport {
        number,
        node,
        what: String::from(what),
        at_secs,
        took_secs,
        outcome,
        detail: String::from(detail),
    };
    let steps = [
        (1, "publish amber", 10.0, Some(1.5), Outcome::Succeeded, ""),
        (3, "search \"amber\"", 25.0, Some(0.25), Outcome::Failed, "found 0 instead of 1"),
        (2, "install amber", 35.0, Some(8.0), Outcome::Tolerated, "no_provider"),
        (0, "install amber", 50.0, None, Outcome::Unfinished, ""),
    ];
    let distributions = BTreeMap::from([
        ("announcement_propagation_ms".to_owned(), vec![42.0, 64.5, 12_000.0]),
        ("search_ms".to_owned(), vec![250.0]),
    ]);
    let mut metrics = quantiles(&distributions);
    metrics.extend([("connections_made".to_owned(), 12.0), ("bytes_served".to_owned(), 6_098.0)]);
    let invariants = vec![
        Invariant::new(
            "steps-succeed",
            Kind::Liveness,
            vec![
                "step 1 (search \"amber\" at spoke-1 after 25s) found 0 packages instead of 1".to_owned(),
                "step 3 (install amber at hub-0 after 50s) did not end".to_owned(),
            ],
        ),
        Invariant::new("every-fault-bites", Kind::Safety, Vec::new()),
        Invariant::new("thresholds", Kind::Threshold, Vec::new()),
    ];
    Report {
        schema_version: SCHEMA_VERSION,
        scenario: "example".to_owned(),
        question: Some("Does a spoke find what another one published?".to_owned()),
        variant: None,
        engine: Engine::Turmoil,
        seed: 7,
        nodes: 4,
        sites: 4,
        verdict: Verdict::of(&invariants),
        trace_hash: "5e".repeat(32),
        events: 1_234,
        simulated_secs: 60.0,
        wall_secs: 1.5,
        again: "ggen-sim run scenarios/example.toml --seed 7".to_owned(),
        invariants,
        findings: vec![Finding {
            rule: "steps-succeed".to_owned(),
            what: "step 1 (search \"amber\" at spoke-1 after 25s) found 0 packages instead of 1".to_owned(),
            node: Some("spoke-1".to_owned()),
            package: Some("amber".to_owned()),
            at_secs: Some(25.25),
            since_secs: Some(11.5),
            scene: Some(Scene {
                connected: vec!["hub-0".to_owned()],
                lists: Some(0),
                before: vec!["20.000 s fault 0 crash begins [spoke-1]".to_owned()],
            }),
        }],
        faults: vec![
            FaultReport {
                kind: "crash".to_owned(),
                from_secs: 20.0,
                until_secs: 30.0,
                bites: 1,
                name: "crash".to_owned(),
                nodes: vec!["spoke-1".to_owned()],
                windows: vec![[20.0, 30.0]],
            },
            FaultReport {
                kind: "flapping".to_owned(),
                from_secs: 5.0,
                until_secs: 45.0,
                bites: 0,
                name: "the hub's line".to_owned(),
                nodes: vec!["hub-0".to_owned(), "spoke-0".to_owned()],
                windows: vec![[5.0, 10.0], [40.0, 45.0]],
            },
        ],
        members: ["hub-0", "spoke-0", "spoke-1", "spoke-2"].into_iter().enumerate().map(member).collect(),
        steps: (0..).zip(steps).map(step).collect(),
        links: vec![[0, 1], [0, 2], [0, 3]],
        distributions,
        metrics,
        markers: BTreeMap::from([("connected".to_owned(), 6)]),
        checkpoints: Vec::new(),
    }
}

#[test]
fn the_worst_that_does_not_hold_decides_the_exit_code() {
    use Kind::{Liveness, Safety, Threshold};
    let exit = |broken: &[Kind]| {
        let mut report = report();
        report.invariants = broken
            .iter()
            .map(|kind| Invariant::new("it holds", *kind, vec!["not".to_owned()]))
            .chain([Invariant::new("this does", Safety, Vec::new())])
            .collect();
        report.exit_code()
    };
    for (broken, code) in [
        (&[][..], 0),
        (&[Threshold], 99),
        (&[Liveness, Threshold], 100),
        (&[Threshold, Safety, Liveness], 100),
    ] {
        assert_eq!(exit(broken), code, "{broken:?}");
    }
}

#[test]
fn a_quantile_is_a_sample() {
    let samples: Vec<f64> = (1..=100).map(f64::from).collect();
    for (q, value) in [(0.0, 1.0), (0.5, 50.0), (0.9, 90.0), (0.99, 99.0), (1.0, 100.0)] {
        assert_eq!(quantile(&samples, q), Some(value), "{q}");
    }
    assert_eq!((quantile(&[], 0.5), quantile(&[3.0], 0.01)), (None, Some(3.0)));
}

#[test]
fn a_report_comes_back_from_json() {
    let report = report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert_eq!(report.metrics["announcement_propagation_ms_p99"], 12_000.0);
}
