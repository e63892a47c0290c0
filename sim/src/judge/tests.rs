//! Every rule, seen to fail when it should: the judge is handed worlds that are made up.

use ggen_marketplace::{
    content::{Codec, ContentId},
    network::Load,
};

use super::*;
use crate::{adversary::Bite, scenario::Threshold};

const AUTHOR: usize = 0;
const READER: usize = 1;
const OTHER: usize = 2;
const ADVERSARY: usize = 3;
const WORD: &str = "gpauthor/word";
const TREE: [u8; 32] = [1; 32];
const HEAD: [u8; 32] = [2; 32];

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn id(text: &str) -> ContentId {
    ContentId::of(Codec::DagPb, text.as_bytes())
}

fn case() -> Case {
    let member = |name: &str, turns| Member {
        name: name.to_owned(),
        publisher: format!("gp{name}"),
        turns,
        serves_dht: name != "other",
        limits: Limits { connections_max: 10, store_bytes_max: None },
    };
    Case {
        members: vec![
            member("author", None),
            member("reader", None),
            member("other", None),
            member("adversary", Some(Duration::ZERO)),
        ],
        steps: vec![
            Task { node: AUTHOR, aim: Aim::Other, may_be_old: false },
            Task {
                node: READER,
                aim: Aim::Install { package: "word".to_owned(), version: None },
                may_be_old: false,
            },
        ],
        trees: BTreeMap::from([((AUTHOR, "word".to_owned(), "1.0.0".to_owned()), TREE)]),
        preloaded: Vec::new(),
        faults_over: Duration::ZERO,
        latency_max: Duration::from_millis(50),
        expect: Expect {
            catalogues_agree: true,
            catalogues_agree_within: Some(secs(10)),
            thresholds: Vec::new(),
        },
    }
}

fn publication() -> Publication {
    Publication {
        package: WORD.to_owned(),
        version: "1.0.0".to_owned(),
        sequence: 0,
        root: id("root"),
        manifest: id("manifest"),
        blocks: BTreeSet::from([id("root"), id("leaf")]),
        tree: TREE,
    }
}

/// A node that holds, lists and has seen the one release.
fn whole() -> View {
    let Publication { package, version, root, manifest, blocks, .. } = publication();
    View {
        catalogue: BTreeMap::from([(
            WORD.to_owned(),
            Head { sequence: 0, latest: Some((version.clone(), root)), digest: HEAD, entry: id("entry") },
        )]),
        seen: BTreeMap::from([(WORD.to_owned(), 0)]),
        entries: BTreeSet::from([(WORD.to_owned(), 0, id("entry"))]),
        held: vec![Held { package, version, root, manifest }],
        blocks,
        ..View::default()
    }
}

/// Every node whole, the author as the one who published.
fn views() -> Vec<View> {
    let own = BTreeSet::from([(WORD.to_owned(), "1.0.0".to_owned(), id("root"))]);
    let author = View {
        published: vec![publication()],
        own,
        signed: BTreeSet::from([(WORD.to_owned(), HEAD)]),
        ..whole()
    };
    vec![author, whole(), whole(), View::default()]
}

/// A run of a minute in which everything is as it should be, but for what `doctor` does to it.
struct Run {
    case: Case,
    facts: Vec<(Duration, Fact)>,
    /// What is seen at 29 s, where somebody looks.
    earlier: Option<Vec<View>>,
    /// What is seen at 30 s and at the end.
    views: [Vec<View>; 2],
    shortcomings: Vec<(usize, String)>,
    metrics: BTreeMap<String, f64>,
}

/// The author tells that it has published a version.
fn told(version: &str) -> Fact {
    let (package, version) = (WORD.to_owned(), version.to_owned());
    Fact::Published { node: AUTHOR, package, version, root: id("root") }
}

fn good() -> Run {
    let mut facts: Vec<_> = (0..3).map(|node| (Duration::ZERO, Fact::Started { node })).collect();
    facts.extend([
        (secs(1), Fact::StepBegan { step: 0, node: AUTHOR }),
        (secs(2), Fact::StepEnded { step: 0, node: AUTHOR, fetched: None, is_publication: true }),
        (secs(31), Fact::StepBegan { step: 1, node: READER }),
        (secs(32), Fact::Served { node: AUTHOR, to: READER, bytes: 7 }),
        (secs(33), Fact::Installed { step: 1, node: READER, root: id("root"), tree: TREE }),
        (secs(33), Fact::StepEnded { step: 1, node: READER, fetched: Some(7), is_publication: false }),
        (secs(2), told("1.0.0")),
    ]);
    let mut after = views();
    after[READER].accounts =
        BTreeMap::from([(AUTHOR, Account { successful: 1, bytes_received: 7, ..Account::default() })]);
    Run {
        case: case(),
        facts,
        earlier: None,
        views: [views(), after],
        shortcomings: Vec::new(),
        metrics: BTreeMap::from([("search_ms".to_owned(), 5.0)]),
    }
}

impl Run {
    /// The rules that do not hold, with the first violation of each.
    fn judged(mut self) -> BTreeMap<String, String> {
        let mut judge = Judge::new(self.case);
        let [middle, end] = self.views;
        let (before, after): (Vec<_>, Vec<_>) = self.facts.into_iter().partition(|(at, _)| *at < secs(30));
        before.iter().for_each(|(at, fact)| judge.hear(*at, fact));
        self.earlier.iter().for_each(|views| judge.look(secs(29), views));
        judge.look(secs(30), &middle);
        after.iter().for_each(|(at, fact)| judge.hear(*at, fact));
        let found =
            judge.finish(secs(60), &end, Vec::new(), &self.shortcomings, &mut self.metrics).invariants;
        assert_eq!(found.len(), RULES.len());
        let violated = found.into_iter().filter(|it| !it.holds);
        violated.map(|mut it| (it.name, it.violations.swap_remove(0))).collect()
    }

    /// The one rule that is violated, with how it is said.
    fn violation(self) -> (String, String) {
        let mut judged = self.judged();
        assert_eq!(judged.len(), 1, "{judged:?}");
        judged.pop_first().unwrap()
    }
}

/// A good run in which something is changed.
fn doctored(doctor: impl FnOnce(&mut Run)) -> (String, String) {
    let mut run = good();
    doctor(&mut run);
    run.violation()
}

#[test]
fn a_good_run_has_nothing_to_find() {
    assert_eq!(good().judged(), BTreeMap::new());
}

#[test]
fn what_nobody_published_is_found_wherever_it_is() {
    let (rule, what) = doctored(|run| {
        run.views[1][READER].blocks.insert(id("foreign"));
    });
    assert_eq!(rule, content::RULE);
    assert!(what.starts_with("60.000 s reader: holds the block"), "{what}");
    let (rule, _) = doctored(|run| {
        let held = Held { version: "2.0.0".to_owned(), ..run.views[1][READER].held[0].clone() };
        run.views[1][READER].held.push(held);
    });
    assert_eq!(rule, content::RULE);
    let (rule, _) = doctored(|run| {
        run.facts
            .push((secs(40), Fact::Installed { step: 1, node: READER, root: id("root"), tree: [2; 32] }));
    });
    assert_eq!(rule, content::RULE);
    let (rule, _) = doctored(|run| run.views[1][READER].unverified = 1);
    assert_eq!(rule, content::RULE);
    let mut run = good();
    let foreign = Head {
        sequence: 3,
        latest: Some(("1.0.0".to_owned(), id("foreign"))),
        digest: HEAD,
        entry: id("entry"),
    };
    run.views[1][READER].catalogue.insert("gpadversary/word".to_owned(), foreign.clone());
    run.views[1][READER].seen.insert("gpadversary/word".to_owned(), 3);
    let judged = run.judged();
    assert!(judged.contains_key(content::RULE) && judged.contains_key(catalogues::RULE), "{judged:?}");
    // What an adversary publishes and is valid may be listed.
    let mut run = good();
    run.views[1][READER].catalogue.insert("gpadversary/word".to_owned(), foreign);
    run.views[1][READER].seen.insert("gpadversary/word".to_owned(), 3);
    run.facts.push((secs(40), Fact::Worthless { package: "gpadversary/word".to_owned() }));
    assert_eq!(run.judged(), BTreeMap::new());
}

#[test]
fn a_head_that_its_publisher_never_made_is_found_whatever_its_signature_is_worth() {
    let listed = |run: &mut Run| run.views[1][READER].catalogue.get_mut(WORD).unwrap().digest = [9; 32];
    let (rule, what) = doctored(listed);
    assert_eq!(
        (rule.as_str(), what.as_str()),
        (content::RULE, "60.000 s reader: lists a head of gpauthor/word at 0 that its publisher never made",)
    );
    // It was made, and replaced since.
    let signed = |node| Fact::Signed { node, package: WORD.to_owned(), digest: [9; 32] };
    let mut run = good();
    listed(&mut run);
    run.facts.push((secs(20), signed(AUTHOR)));
    assert_eq!(run.judged(), BTreeMap::new());
    // What somebody else has in its own store proves nothing.
    for node in [OTHER, ADVERSARY] {
        let (rule, _) = doctored(|run| {
            listed(run);
            run.facts.push((secs(20), signed(node)));
        });
        assert_eq!(rule, content::RULE);
    }
}

#[test]
fn a_publication_is_what_the_workload_wrote() {
    for doctor in [
        |it: &mut Publication| it.tree = [9; 32],
        |it: &mut Publication| it.version = "3.0.0".to_owned(),
        |it: &mut Publication| it.package = "gpreader/word".to_owned(),
    ] {
        let mut run = good();
        let mut second = publication();
        doctor(&mut second);
        run.views[1][AUTHOR].published = vec![second];
        assert!(run.judged().contains_key(content::RULE));
    }
}

#[test]
fn a_version_that_becomes_another_tree_is_found() {
    let mut run = good();
    run.views[1][OTHER].held[0].root = id("other root");
    let judged = run.judged();
    assert!(judged[versions::RULE].contains("gpauthor/word@1.0.0 as"), "{judged:?}");
}

#[test]
fn a_publication_that_a_user_was_told_of_and_that_is_not_there_is_found_and_not_after_a_lost_disk() {
    let (rule, what) = doctored(|run| run.views[1][AUTHOR].own.clear());
    assert_eq!(
        (rule.as_str(), what.as_str()),
        (publications::RULE, "60.000 s author: has lost gpauthor/word@1.0.0, which it published",)
    );
    let (rule, what) = doctored(|run| run.facts.push((secs(3), told("1.1.0"))));
    assert_eq!(rule, publications::RULE);
    assert!(what.ends_with("told that gpauthor/word@1.1.0 is published, and never held it"), "{what}");
    let mut run = good();
    run.views[1][AUTHOR].own.clear();
    run.facts.push((secs(40), Fact::Wiped { node: AUTHOR }));
    assert_eq!(run.judged(), BTreeMap::new());
}

#[test]
fn a_start_that_finds_damage_or_leaves_a_temporary_file_is_found() {
    let opened = |node, damage: &[&str], leftovers: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Fact::Opened { node, damage: own(damage), leftovers: own(leftovers) }
    };
    let (rule, what) = doctored(|run| run.facts.push((secs(9), opened(OTHER, &["1.seg is cut off"], &[]))));
    assert_eq!((rule.as_str(), what.as_str()), (damage::RULE, "9.000 s other: 1.seg is cut off"));
    let (rule, what) = doctored(|run| run.facts.push((secs(9), opened(OTHER, &[], &["1.tmp"]))));
    assert_eq!(
        (rule.as_str(), what.as_str()),
        (damage::RULE, "9.000 s other: 1.tmp is there still after a start")
    );
    let mut run = good();
    run.facts.push((secs(9), opened(OTHER, &[], &[])));
    run.facts.push((secs(9), opened(ADVERSARY, &["its own affair"], &[])));
    assert_eq!(run.judged(), BTreeMap::new());
}

#[test]
fn half_a_package_and_what_is_left_beside_a_whole_one_are_found() {
    let stands = |node, tree| Fact::Stands { step: 1, node, tree };
    let (rule, what) = doctored(|run| run.facts.push((secs(9), stands(READER, [7; 32]))));
    assert_eq!(rule, halves::RULE);
    assert!(
        what.ends_with("what stands where step 1 was to install word is not what was published"),
        "{what}"
    );
    let (rule, what) = doctored(|run| run.facts.push((secs(9), Fact::Littered { node: READER, staged: 2 })));
    assert_eq!(rule, halves::RULE);
    assert!(what.ends_with("2 staging folders are left beside an installation"), "{what}");
    let mut run = good();
    run.facts.push((secs(9), stands(READER, TREE)));
    run.facts.push((secs(9), stands(ADVERSARY, [7; 32])));
    assert_eq!(run.judged(), BTreeMap::new());
    // What was published of another package is not this one.
    let mut run = good();
    run.case.trees.insert((AUTHOR, "more".to_owned(), "1.0.0".to_owned()), [7; 32]);
    run.facts.push((secs(9), stands(READER, [7; 32])));
    assert!(run.judged().contains_key(halves::RULE));
}

#[test]
fn a_sequence_that_goes_back_is_found_also_after_a_crash_and_not_after_a_lost_disk() {
    let back = |run: &mut Run| {
        for view in &mut run.views[0] {
            view.seen.insert("gpauthor/word".to_owned(), 4);
        }
    };
    let mut run = good();
    back(&mut run);
    run.facts.push((secs(40), Fact::Stopped { node: READER }));
    run.facts.push((secs(45), Fact::Started { node: READER }));
    run.views[1][READER].seen.clear();
    let judged = run.judged();
    assert!(judged[sequences::RULE].contains("has seen gpauthor/word at 0; it was at 4"), "{judged:?}");
    let forgot = doctored(|run| {
        run.views[0][OTHER].seen.insert("gpauthor/more".to_owned(), 2);
    });
    assert_eq!(forgot.0, sequences::RULE);
    assert!(forgot.1.contains("has forgotten"), "{forgot:?}");
    let forgot = doctored(|run| {
        run.views[0][OTHER].seen.insert("gpauthor/first".to_owned(), 0);
    });
    assert!(forgot.1.ends_with("has forgotten that it saw gpauthor/first at 0"), "{forgot:?}");
    let never_knew = doctored(|run| run.views[0][OTHER].seen.clear());
    assert_eq!(never_knew.0, sequences::RULE);
    assert!(never_knew.1.contains("lists gpauthor/word at 0 and remembers nothing"), "{never_knew:?}");
    let mut run = good();
    run.views[0][OTHER].seen.insert("gpauthor/more".to_owned(), 2);
    run.facts.push((secs(40), Fact::Wiped { node: OTHER }));
    assert_eq!(run.judged(), BTreeMap::new());
}

#[test]
fn two_entries_for_one_place_and_a_frozen_package_are_found_where_the_publisher_is_honest() {
    let (rule, what) = doctored(|run| {
        run.views[1][OTHER].entries.insert((WORD.to_owned(), 0, id("another entry")));
    });
    assert_eq!(rule, equivocations::RULE);
    assert!(what.starts_with("60.000 s other: knows "), "{what}");
    assert!(what.ends_with(&format!("as entry 0 of gpauthor/word; it was {}", id("entry"))), "{what}");
    let (rule, what) = doctored(|run| {
        run.views[1][READER].frozen.insert(WORD.to_owned());
    });
    assert_eq!(
        (rule.as_str(), what.as_str()),
        (equivocations::RULE, "60.000 s reader: has frozen gpauthor/word, whose publisher is honest",)
    );
    let mut run = good();
    let package = || "gpadversary/word".to_owned();
    run.views[1][READER].frozen.insert(package());
    run.views[1][READER].entries.extend(["one", "two"].map(|entry| (package(), 0, id(entry))));
    assert_eq!(run.judged(), BTreeMap::new(), "an adversary may");
}

#[test]
fn a_catalogue_that_lacks_something_is_found_once_its_deadline_is_over() {
    let (rule, what) = doctored(|run| run.views[0][OTHER].catalogue.clear());
    assert_eq!(rule, catalogues::RULE);
    assert_eq!(what, "30.000 s other: lacks 1 of 1 packages, and lists 0 that nobody published");
    // Before the deadline it may: something was mended a moment ago.
    let mut run = good();
    run.views[0][OTHER].catalogue.clear();
    run.facts.extend([(secs(20), Fact::FaultBegan), (secs(25), Fact::FaultEnded)]);
    assert_eq!(run.judged(), BTreeMap::new());
    // What was published a moment ago has its deadline before it, though the step is still in progress.
    let mut run = good();
    let second =
        Publication { version: "1.1.0".to_owned(), sequence: 1, root: id("second"), ..publication() };
    run.case.trees.insert((AUTHOR, "word".to_owned(), "1.1.0".to_owned()), TREE);
    run.case.expect.catalogues_agree = false;
    run.views[1][AUTHOR].published.push(second);
    let judged = run.judged();
    let what = &judged[catalogues::RULE];
    assert!(what.starts_with("the run ended before") && judged.len() == 1, "{judged:?}");
    // Who does not run has no deadline.
    let mut run = good();
    run.views[1][OTHER].catalogue.clear();
    run.facts.push((secs(40), Fact::Stopped { node: OTHER }));
    assert_eq!(run.judged(), BTreeMap::new());
    // A deadline that lies behind the end shows nothing.
    let (rule, what) = doctored(|run| run.case.faults_over = secs(55));
    assert_eq!((rule.as_str(), what.starts_with("the run ended before")), (catalogues::RULE, true));
}

#[test]
fn an_install_that_fails_although_somebody_holds_the_package_is_a_broken_promise() {
    let failed = |run: &mut Run| run.shortcomings = vec![(1, "step 1 failed".to_owned())];
    assert_eq!(doctored(failed).0, steps::INSTALLS);
    for excuse in [Fact::FaultBegan, Fact::Stopped { node: AUTHOR }] {
        let (rule, _) = doctored(|run| {
            failed(run);
            // The author is the only one who holds it.
            run.views[0][OTHER].held.clear();
            run.views[0][READER].held.clear();
            run.facts.insert(6, (secs(31), excuse));
        });
        assert_eq!(rule, steps::RULE, "something was broken or gone");
    }
    for late in [Fact::FaultBegan, Fact::Stopped { node: AUTHOR }] {
        let (rule, _) = doctored(|run| {
            failed(run);
            run.views[0][OTHER].held.clear();
            run.views[0][READER].held.clear();
            run.case.expect.catalogues_agree_within = None;
            run.facts.push((secs(40), late));
        });
        assert_eq!(rule, steps::INSTALLS, "it had ended by then");
    }
    let (rule, _) = doctored(|run| run.shortcomings = vec![(0, "step 0 failed".to_owned())]);
    assert_eq!(rule, steps::RULE);
    let mut run = good();
    run.case.steps.push(Task { node: ADVERSARY, aim: Aim::Other, may_be_old: false });
    run.shortcomings = vec![(2, "step 2 did not end".to_owned())];
    assert_eq!(run.judged(), BTreeMap::new(), "an adversary does nothing for its user");
}

/// A second release, which everybody has heard of by 30 s, and an install of the first one at 31 s.
fn downgraded() -> Run {
    let mut run = good();
    let newer = Publication {
        version: "1.1.0".to_owned(),
        sequence: 1,
        root: id("newer root"),
        tree: [7; 32],
        ..publication()
    };
    run.case.trees.insert((AUTHOR, "word".to_owned(), "1.1.0".to_owned()), [7; 32]);
    for view in run.views.iter_mut().flatten() {
        for head in view.catalogue.values_mut() {
            (head.sequence, head.latest) = (1, Some(("1.1.0".to_owned(), id("newer root"))));
        }
        view.seen.values_mut().for_each(|seen| *seen = 1);
    }
    let mut earlier = run.views[0].clone();
    earlier[AUTHOR].published.push(newer);
    run.earlier = Some(earlier);
    run
}

#[test]
fn an_install_or_a_lookup_that_gets_something_older_than_was_published_is_found() {
    let (rule, what) = downgraded().violation();
    assert_eq!(
        (rule.as_str(), what.as_str()),
        (steps::RULE, "33.000 s reader: step 1 got gpauthor/word at 0, and it had come to 1 before",)
    );
    let aimed = |aim: Aim| {
        let mut run = downgraded();
        run.case.steps[1].aim = aim;
        run
    };
    let package = || "word".to_owned();
    let named = aimed(Aim::Install { package: package(), version: Some("1.0.0".to_owned()) });
    assert_eq!(named.judged(), BTreeMap::new(), "that version was asked for");
    let mut run = aimed(Aim::Lookup { package: package() });
    run.facts
        .push((secs(32), Fact::LookedUp { step: 1, node: READER, package: WORD.to_owned(), sequence: 0 }));
    assert_eq!(run.violation().0, steps::RULE);
    for (at, fact) in [
        (secs(25), Fact::FaultBegan),
        (secs(25), Fact::Started { node: READER }),
        (secs(25), Fact::Stopped { node: AUTHOR }),
    ] {
        let mut run = downgraded();
        run.case.expect.catalogues_agree = false;
        run.case.expect.catalogues_agree_within = None;
        run.facts.push((at, fact.clone()));
        assert_eq!(run.judged(), BTreeMap::new(), "{fact:?} is an excuse");
    }
}

#[test]
fn books_that_say_more_than_happened_are_found() {
    for doctor in [
        |it: &mut Account| it.successful = 2,
        |it: &mut Account| it.failed = 1,
        |it: &mut Account| it.forged = 1,
        |it: &mut Account| it.bytes_received = 8,
    ] {
        let (rule, what) = doctored(|run| doctor(run.views[1][READER].accounts.get_mut(&AUTHOR).unwrap()));
        assert_eq!(rule, reputations::RULE, "{what}");
    }
}

#[test]
fn books_that_say_less_than_happened_are_found() {
    let (rule, what) = doctored(|run| run.views[1][READER].accounts.clear());
    assert_eq!(rule, reputations::RULE);
    assert_eq!(what, "60.000 s reader: counts 0 successes of author, and there were at least 1");
}

#[test]
fn books_that_forget_are_found_also_after_a_crash_and_not_after_a_lost_disk() {
    let forgetful = |more: &[Fact]| {
        let mut run = good();
        // All of it happened before the first look.
        for (at, _) in &mut run.facts {
            *at /= 2;
        }
        run.views[0][READER].accounts = std::mem::take(&mut run.views[1][READER].accounts);
        run.facts.extend(more.iter().map(|fact| (secs(40), fact.clone())));
        run.judged()
    };
    let crashed = forgetful(&[Fact::Stopped { node: READER }, Fact::Started { node: READER }]);
    assert_eq!(
        crashed[reputations::RULE],
        "60.000 s reader: counts 0 successes of author; there were 1 before"
    );
    assert_eq!(forgetful(&[Fact::Wiped { node: READER }]), BTreeMap::new());
}

/// The adversary sends the reader a wrong block.
fn bitten(run: &mut Run) {
    let fact = Fact::Bit { node: ADVERSARY, bite: Bite::WrongBlock, victim: Some(READER) };
    run.facts.insert(6, (secs(31), fact));
    // Long enough that it was certainly read.
    run.facts.retain(|(_, fact)| !matches!(fact, Fact::StepEnded { step: 1, .. }));
    let ended = Fact::StepEnded { step: 1, node: READER, fetched: Some(7), is_publication: false };
    run.facts.push((secs(50), ended));
}

#[test]
fn an_adversary_is_charged_exactly_for_what_it_did_and_nobody_in_its_place() {
    let charge = |run: &mut Run, peer| {
        let account = run.views[1][READER].accounts.entry(peer).or_default();
        (account.failed, account.forged) = (1, 1);
    };
    let mut run = good();
    bitten(&mut run);
    charge(&mut run, ADVERSARY);
    assert_eq!(run.judged(), BTreeMap::new());
    let (rule, what) = doctored(bitten);
    assert_eq!(rule, reputations::RULE, "it got away with it");
    assert!(what.contains("of adversary, and there were at least 1"), "{what}");
    let (rule, what) = doctored(|run| {
        bitten(run);
        charge(run, ADVERSARY);
        charge(run, OTHER);
    });
    assert_eq!(rule, reputations::RULE, "an innocent was charged");
    assert!(what.contains("of other, and there were at most 0"), "{what}");
}

#[test]
fn wrong_bytes_that_came_too_late_to_be_of_use_are_booked_in_the_end() {
    let sent = |secs_: u64| {
        let mut run = good();
        run.facts.retain(|(_, fact)| !matches!(fact, Fact::Served { .. } | Fact::Installed { .. }));
        run.views[1][READER].accounts.clear();
        // The install ends at once, before they can have been read for certain.
        for (at, fact) in &mut run.facts {
            if matches!(fact, Fact::StepBegan { step: 1, .. } | Fact::StepEnded { step: 1, .. }) {
                *at = secs(secs_);
            }
        }
        run.facts
            .push((secs(secs_), Fact::Bit { node: ADVERSARY, bite: Bite::WrongBlock, victim: Some(READER) }));
        run
    };
    // Four latencies of 50 ms, the time of a request, and ten seconds.
    let (rule, what) = sent(29).violation();
    assert_eq!(rule, reputations::RULE);
    assert!(what.contains("of adversary, and there were at least 1"), "{what}");
    assert_eq!(sent(31).judged(), BTreeMap::new(), "it may be read yet");
    for excuse in [Fact::FaultBegan, Fact::Stopped { node: ADVERSARY }, Fact::Stopped { node: OTHER }] {
        let mut run = sent(29);
        run.case.expect.catalogues_agree = false;
        run.case.expect.catalogues_agree_within = None;
        let is_adversary = excuse == Fact::Stopped { node: ADVERSARY };
        run.facts.push((secs(35), excuse));
        assert_eq!(run.judged().is_empty(), !is_adversary, "an adversary that turns disturbs nobody");
    }
}

#[test]
fn silence_is_a_failure_only_of_whoever_was_silent() {
    let silent = |run: &mut Run| {
        let fact = Fact::Bit { node: ADVERSARY, bite: Bite::Stalled, victim: Some(READER) };
        run.facts.insert(6, (secs(31), fact));
        let failed = Account { failed: 1, ..Account::default() };
        run.views[1][READER].accounts.insert(ADVERSARY, failed);
    };
    let mut run = good();
    silent(&mut run);
    assert_eq!(run.judged(), BTreeMap::new());
    let (rule, _) = doctored(|run| {
        silent(run);
        run.facts.retain(|(_, fact)| !matches!(fact, Fact::Bit { .. }));
    });
    assert_eq!(rule, reputations::RULE);
}

#[test]
fn a_request_that_crosses_with_the_end_of_its_install_may_reach_an_adversary() {
    let bitten = |millis: u64| {
        let mut run = good();
        let fact = Fact::Bit { node: ADVERSARY, bite: Bite::Stalled, victim: Some(READER) };
        run.facts.push((secs(33) + Duration::from_millis(millis), fact));
        let failed = Account { failed: 1, ..Account::default() };
        run.views[1][READER].accounts.insert(ADVERSARY, failed);
        run.judged()
    };
    assert_eq!(bitten(200), BTreeMap::new());
    assert!(bitten(201).contains_key(reputations::RULE), "a latency is 50 ms at most");
}

#[test]
fn what_grows_beyond_its_bound_is_found() {
    let load = Load { connections: 11, ..Load::default() };
    let (rule, what) = doctored(|run| run.facts.push((secs(40), Fact::Loaded { node: OTHER, load })));
    assert_eq!(rule, bounds::RULE);
    assert_eq!(what, "40.000 s other: holds 11 connections, and 10 are the most");
    let (rule, what) = doctored(|run| run.facts.push((secs(40), Fact::Streams { node: OTHER, lasting: 11 })));
    assert_eq!(
        (rule.as_str(), what.ends_with("has 11 lasting streams, and 10 connections are the most")),
        (bounds::RULE, true)
    );
    let mut run = good();
    run.facts.push((secs(40), Fact::Streams { node: OTHER, lasting: 10 }));
    run.facts.push((secs(40), Fact::Streams { node: ADVERSARY, lasting: 11 }));
    assert_eq!(run.judged(), BTreeMap::new());
    let (rule, _) = doctored(|run| {
        run.views[1][OTHER].store_bytes = 3;
        run.case.members[OTHER].limits.store_bytes_max = Some(2);
    });
    assert_eq!(rule, bounds::RULE);
}

#[test]
fn heads_and_peers_beyond_their_bounds_are_found() {
    use ggen_marketplace::limits::{CATALOG_HEADS_MAX, CATALOG_HEADS_PER_PUBLISHER_MAX, PEERS_MAX};
    let said = |view: &View| {
        let (case, mut found) = (case(), Found::new(vec!["author".to_owned()]));
        bounds::Bounds::new(&case).look(&mut found, secs(1), AUTHOR, view);
        found.into_judged(&[(bounds::RULE, Kind::Safety)]).invariants.remove(0).violations
    };
    let head = whole().catalogue[WORD].clone();
    let listing = |publishers: usize, each: usize| {
        let packages =
            (0..publishers).flat_map(|it| (0..each).map(move |package| format!("gp{it}/{package}")));
        View { catalogue: packages.map(|package| (package, head.clone())).collect(), ..View::default() }
    };
    let each = CATALOG_HEADS_PER_PUBLISHER_MAX;
    assert!(said(&listing(CATALOG_HEADS_MAX / each, each)).is_empty());
    let what = |held: usize, what: &str, most: usize| {
        vec![format!("1.000 s author: holds {held} {what}, and {most} are the most")]
    };
    assert_eq!(said(&listing(1, each + 1)), what(each + 1, "heads of one publisher", each));
    let mut full = listing(CATALOG_HEADS_MAX / each, each);
    full.catalogue.insert("gpauthor/word".to_owned(), head.clone());
    assert_eq!(said(&full), what(CATALOG_HEADS_MAX + 1, "heads", CATALOG_HEADS_MAX));
    let known = |known_peers| View { known_peers, ..View::default() };
    assert!(said(&known(PEERS_MAX)).is_empty());
    assert_eq!(said(&known(PEERS_MAX + 1)), what(PEERS_MAX + 1, "peers in the address book", PEERS_MAX));
}

#[test]
fn each_node_is_held_to_its_own_bounds() {
    let loaded = |node| {
        let mut run = good();
        run.case.members[OTHER].limits.connections_max = 11;
        let load = Load { connections: 11, ..Load::default() };
        run.facts.push((secs(40), Fact::Loaded { node, load }));
        run.judged().contains_key(bounds::RULE)
    };
    assert!(!loaded(OTHER), "a hub may have more");
    assert!(loaded(READER));
}

#[test]
fn what_is_forged_goes_no_further_than_to_those_it_is_told() {
    let forged = |node, from, is_taken| {
        let mut run = good();
        run.facts.push((secs(40), Fact::Forged { node, from, is_taken }));
        run.judged()
    };
    assert_eq!(forged(READER, Some(ADVERSARY), false), BTreeMap::new());
    assert_eq!(forged(ADVERSARY, Some(ADVERSARY), true), BTreeMap::new());
    assert!(forged(READER, Some(ADVERSARY), true).contains_key(FORWARDING));
    assert!(forged(READER, Some(OTHER), false).contains_key(FORWARDING), "an honest node passed it on");
}

#[test]
fn an_older_state_is_passed_on_only_where_nothing_newer_is_known() {
    let took = |node, at, known| {
        let mut run = good();
        for view in run.views.iter_mut().map(|views| &mut views[READER]) {
            view.seen.insert(WORD.to_owned(), known);
            view.catalogue.get_mut(WORD).unwrap().sequence = known;
        }
        run.facts.push((secs(at), Fact::Outdated { node, package: WORD.to_owned(), sequence: 1 }));
        let mut judge = Judge::new(run.case);
        judge.look(secs(30), &run.views[0]);
        run.facts.iter().for_each(|(at, fact)| judge.hear(*at, fact));
        let rules = judge.finish(secs(60), &run.views[1], Vec::new(), &[], &mut BTreeMap::new()).invariants;
        rules.into_iter().find(|it| it.name == FORWARDING).unwrap().violations
    };
    assert_eq!(took(READER, 40, 1), Vec::<String>::new());
    assert_eq!(took(ADVERSARY, 40, 2), Vec::<String>::new());
    assert_eq!(took(READER, 40, 2), [format!("40.000 s reader: passed on {WORD} at 1 and knew it at 2")]);
}

#[test]
fn a_client_in_a_routing_table_is_found_and_what_an_adversary_says_it_is_is_not() {
    let routed = |node, peer| {
        let mut run = good();
        run.facts.push((secs(3), Fact::Routed { node, peer }));
        run.judged()
    };
    assert!(routed(READER, AUTHOR).is_empty());
    assert!(routed(READER, OTHER).contains_key(ROUTING), "it is a client");
    assert!(routed(READER, ADVERSARY).is_empty());
    assert!(routed(ADVERSARY, OTHER).is_empty());
}

#[test]
fn thresholds_are_held_and_what_is_not_measured_is_said_with_what_is() {
    let threshold =
        |metric: &str, at_most, at_least| Threshold { metric: metric.to_owned(), at_most, at_least };
    for (threshold, expected) in [
        (threshold("search_ms", Some(4.0), None), "search_ms is 5, and 4 is the most"),
        (threshold("search_ms", None, Some(6.0)), "search_ms is 5, and 6 is the least"),
        (
            threshold("serach_ms", Some(9.0), None),
            "nothing called `serach_ms` was measured; did you mean `search_ms`?",
        ),
        (threshold("innocents_charged", None, Some(1.0)), "innocents_charged is 0, and 1 is the least"),
    ] {
        let (rule, what) = doctored(|run| run.case.expect.thresholds.push(threshold));
        assert_eq!((rule.as_str(), what.as_str()), (thresholds::RULE, expected));
    }
    let mut run = good();
    run.case.expect.thresholds.push(threshold("search_ms", Some(5.0), Some(5.0)));
    assert_eq!(run.judged(), BTreeMap::new());
}

#[test]
fn an_invariant_outweighs_what_was_measured() {
    let code = |violated: &[Kind]| {
        let invariants: Vec<_> =
            violated.iter().map(|kind| Invariant::new("x", *kind, vec!["it".to_owned()])).collect();
        exit_code(&invariants)
    };
    assert_eq!(code(&[]), 0);
    assert_eq!(code(&[Kind::Threshold]), THRESHOLD_MISSED);
    assert_eq!(code(&[Kind::Threshold, Kind::Liveness]), INVARIANT_VIOLATED);
    assert_eq!(code(&[Kind::Liveness, Kind::Safety, Kind::Threshold]), INVARIANT_VIOLATED);
}

#[test]
fn a_violation_that_lasts_is_told_once_and_many_are_counted() {
    let mut run = good();
    for n in 0..100 {
        run.views[0][READER].blocks.insert(id(&format!("foreign {n}")));
    }
    run.views[1][READER].blocks = run.views[0][READER].blocks.clone();
    let mut judge = Judge::new(run.case);
    run.facts.iter().for_each(|(at, fact)| judge.hear(*at, fact));
    judge.look(secs(30), &run.views[0]);
    let found = judge.finish(secs(60), &run.views[1], Vec::new(), &[], &mut BTreeMap::new()).invariants;
    let content = found.iter().find(|it| it.name == content::RULE).unwrap();
    assert_eq!(content.violations.len(), 21);
    assert_eq!(content.violations[20], "and 80 more");
}
