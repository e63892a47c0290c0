//! Makes a failing scenario smaller: what is taken away was not needed for the failure.
//!
//! Works on the table of the file, by [delta debugging](https://www.st.cs.uni-saarland.de/papers/tse2002/tse2002.pdf): lists
//! lose halves, then quarters, at last single entries; numbers fall. Whether what is left fails in the same way is asked of
//! the caller, and a scenario that is refused does not. Draws have keys of their own, so that what is left draws as before.

use std::{collections::BTreeSet, time::Duration};

use toml::{Table, Value};

/// Lists that lose entries, in the order in which that is tried: what breaks explains more than what is done.
const LISTS: [&str; 4] = ["faults", "adversaries", "workload", "nodes"];
/// Numbers that fall, with where they are and the least they can be.
const NUMBERS: [(&[&str], i64); 5] = [
    (&["topology", "nodes"], 1),
    (&["topology", "hubs"], 1),
    (&["topology", "permanents"], 1),
    (&["topology", "ephemerals"], 0),
    (&["topology", "sites"], 1),
];
/// What is said of a run that showed nothing: a smaller scenario comes to that by itself.
const EMPTY: [&str; 2] = ["nothing called", "the run ended before"];
/// The least time by which a run is made shorter.
const DURATION_STEP: Duration = Duration::from_secs(1);

/// What was made smaller.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// The smallest scenario that still fails in the same way.
    pub table: Table,
    /// Scenarios that were tried.
    pub tries: usize,
}

/// A smaller scenario, and what makes it smaller.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The scenario.
    pub table: Table,
    /// What was done to it, such as `without 2 of 4 faults`.
    pub what: String,
}

/// How a rule was broken: what its violations say, without what differs from one scenario to a smaller one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    kinds: BTreeSet<String>,
}

/// What must stay as it is, or the failure would be another one that only looks the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// The publications: without them any search finds too little.
    pub publications: bool,
    /// How long the run lasts: in less time any step may not come to its end.
    pub duration: bool,
}

impl Signature {
    /// That of some violations of one rule. What says that a run showed nothing counts only where nothing else was said.
    pub fn of(violations: &[String]) -> Self {
        let all: BTreeSet<String> = violations.iter().map(|violation| kind_of(violation)).collect();
        let (empty, telling): (BTreeSet<String>, _) =
            all.into_iter().partition(|kind| EMPTY.iter().any(|empty| kind.contains(empty)));
        Self { kinds: if telling.is_empty() { empty } else { telling } }
    }

    /// Whether the rule is broken in one of these ways.
    pub fn is_of(&self, violations: &[String]) -> bool {
        violations.iter().any(|violation| self.kinds.contains(&kind_of(violation)))
    }

    /// What may not be made smaller.
    pub fn kept(&self) -> Kept {
        let says = |what: &str| self.kinds.iter().any(|kind| kind.contains(what));
        Kept {
            publications: says("(search ") || says("E_NOT_FOUND"),
            duration: says("did not end") || says("the run ended before"),
        }
    }
}

/// What a violation says without times, numbers, the names of nodes and ids: every word with a digit stands for any other.
/// Where something is counted, nothing stays nothing, which is not what few is.
fn kind_of(violation: &str) -> String {
    const COUNTING: [&str; 4] = ["found", "lacks", "lists", "is"];
    let mut before = "";
    let words = violation.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_counted = COUNTING.contains(&std::mem::replace(&mut before, word));
        match bare {
            "0" if is_counted => bare,
            _ if bare.contains(|c: char| c.is_ascii_digit()) => "#",
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Makes `table` smaller until nothing helps any more, or `tries_max` scenarios were tried. `failing` says which of some
/// candidates is the first that fails in the same way, and may ask about them all at once; it is asked about at most `at_once`.
/// What is `kept` is never tried without.
///
/// # Errors
/// Those of `failing`.
pub fn shrink<E>(
    table: Table,
    kept: Kept,
    at_once: usize,
    tries_max: usize,
    mut failing: impl FnMut(&[Candidate]) -> Result<Option<usize>, E>,
) -> Result<Shrunk, E> {
    let at_once = at_once.max(1);
    let mut search = Search { table, kept, tries: 0, tries_max, tried: BTreeSet::new(), at_once };
    loop {
        let before = search.table.clone();
        for list in LISTS {
            search.list(&[Key::Name(list)], list, &mut failing)?;
        }
        for fault in 0..entries(&search.table, &[Key::Name("faults")]) {
            let path = [Key::Name("faults"), Key::Index(fault), Key::Name("nodes")];
            search.list(&path, "nodes of a fault", &mut failing)?;
        }
        for (path, least) in NUMBERS {
            search.number(path, least, &mut failing)?;
        }
        for step in 0..entries(&search.table, &[Key::Name("workload")]) {
            search.bytes(step, &mut failing)?;
        }
        if !kept.duration {
            search.duration(&mut failing)?;
        }
        if search.table == before || search.is_spent() {
            return Ok(Shrunk { table: search.table, tries: search.tries });
        }
    }
}

/// How many entries a list of the table has.
pub fn count(table: &Table, list: &str) -> usize {
    entries(table, &[Key::Name(list)])
}

#[derive(Debug, Clone, Copy)]
enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

struct Search {
    table: Table,
    kept: Kept,
    tries: usize,
    tries_max: usize,
    /// The texts of what was tried: the same is not tried twice.
    tried: BTreeSet<String>,
    at_once: usize,
}

impl Search {
    fn is_spent(&self) -> bool {
        self.tries >= self.tries_max
    }

    /// Takes the first of the candidates that fails in the same way; whether there was one.
    fn take<E>(
        &mut self,
        candidates: Vec<Candidate>,
        failing: &mut impl FnMut(&[Candidate]) -> Result<Option<usize>, E>,
    ) -> Result<bool, E> {
        let mut new = Vec::new();
        for candidate in candidates {
            if self.tried.insert(candidate.table.to_string()) {
                new.push(candidate);
            }
        }
        for some in new.chunks(self.at_once) {
            if self.is_spent() {
                return Ok(false);
            }
            self.tries += some.len();
            if let Some(found) = failing(some)?.and_then(|found| some.get(found)) {
                self.table = found.table.clone();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes entries out of a list: first all, then ever smaller parts.
    fn list<E>(
        &mut self,
        path: &[Key<'_>],
        name: &str,
        failing: &mut impl FnMut(&[Candidate]) -> Result<Option<usize>, E>,
    ) -> Result<(), E> {
        let mut part = entries(&self.table, path);
        while part > 0 {
            let all = entries(&self.table, path);
            let candidates = (0..all).step_by(part).filter_map(|from| {
                let mut table = self.table.clone();
                let list = list_mut(&mut table, path)?;
                let (mut number, before) = (0, list.len());
                list.retain(|entry| {
                    let is_meant = (from..from + part).contains(&number);
                    number += 1;
                    !is_meant || self.kept.publications && is_publication(entry)
                });
                let gone = before - list.len();
                let what = format!("without {gone} of {all} {name}");
                (gone > 0).then_some(Candidate { table, what })
            });
            let candidates = candidates.collect();
            if !self.take(candidates, failing)? {
                part = if part == 1 { 0 } else { part.div_ceil(2) };
            }
            part = part.min(entries(&self.table, path));
        }
        Ok(())
    }

    /// Lowers a number as far as it goes: to the least, else by half, else by one.
    fn number<E>(
        &mut self,
        path: &[&str],
        least: i64,
        failing: &mut impl FnMut(&[Candidate]) -> Result<Option<usize>, E>,
    ) -> Result<(), E> {
        let keys: Vec<Key<'_>> = path.iter().map(|name| Key::Name(name)).collect();
        let name = path.last().copied().unwrap_or_default();
        loop {
            let Some(now) = get(&self.table, &keys).and_then(Value::as_integer) else { return Ok(()) };
            let lower: BTreeSet<i64> = [least, now / 4, now / 2, now - now / 4, now - 1]
                .into_iter()
                .filter(|it| (least..now).contains(it))
                .collect();
            let candidates = lower.into_iter().filter_map(|lower| {
                let mut table = self.table.clone();
                *get_mut(&mut table, &keys)? = Value::Integer(lower);
                Some(Candidate { table, what: format!("{name} = {lower} instead of {now}") })
            });
            let candidates = candidates.collect();
            if !self.take(candidates, failing)? {
                return Ok(());
            }
        }
    }

    /// Publishes a small package instead of a large one.
    fn bytes<E>(
        &mut self,
        step: usize,
        failing: &mut impl FnMut(&[Candidate]) -> Result<Option<usize>, E>,
    ) -> Result<(), E> {
        let mut table = self.table.clone();
        let step =
            get_mut(&mut table, &[Key::Name("workload"), Key::Index(step)]).and_then(Value::as_table_mut);
        let Some(bytes) = step.and_then(|step| step.remove("bytes")) else { return Ok(()) };
        self.take(vec![Candidate { table, what: format!("without {bytes} bytes of a package") }], failing)?;
        Ok(())
    }

    /// Ends the run earlier: right away, else by half, and so on.
    fn duration<E>(
        &mut self,
        failing: &mut impl FnMut(&[Candidate]) -> Result<Option<usize>, E>,
    ) -> Result<(), E> {
        // What is known to be too short, and what fails.
        let mut short = Duration::ZERO;
        loop {
            let text = get(&self.table, &[Key::Name("duration")]).and_then(Value::as_str);
            let Some(long) = text.and_then(|text| humantime::parse_duration(text).ok()) else {
                return Ok(());
            };
            let middle = Duration::from_secs((short + long.saturating_sub(short) / 2).as_secs());
            if middle <= short || long.saturating_sub(middle) < DURATION_STEP {
                return Ok(());
            }
            let mut table = self.table.clone();
            let shorter = humantime::format_duration(middle).to_string();
            let what = format!("duration = {shorter} instead of {}", humantime::format_duration(long));
            table.insert("duration".to_owned(), Value::String(shorter));
            if !self.take(vec![Candidate { table, what }], failing)? {
                if self.is_spent() {
                    return Ok(());
                }
                short = middle;
            }
        }
    }
}

fn is_publication(entry: &Value) -> bool {
    entry.get("do").and_then(Value::as_str) == Some("publish")
}

fn get<'t>(table: &'t Table, path: &[Key<'_>]) -> Option<&'t Value> {
    let (first, rest) = path.split_first()?;
    let Key::Name(name) = first else { return None };
    rest.iter().try_fold(table.get(*name)?, |value, key| match key {
        Key::Name(name) => value.get(*name),
        Key::Index(index) => value.get(*index),
    })
}

fn get_mut<'t>(table: &'t mut Table, path: &[Key<'_>]) -> Option<&'t mut Value> {
    let (first, rest) = path.split_first()?;
    let Key::Name(name) = first else { return None };
    rest.iter().try_fold(table.get_mut(*name)?, |value, key| match key {
        Key::Name(name) => value.get_mut(*name),
        Key::Index(index) => value.get_mut(*index),
    })
}

fn list_mut<'t>(table: &'t mut Table, path: &[Key<'_>]) -> Option<&'t mut Vec<Value>> {
    get_mut(table, path)?.as_array_mut()
}

fn entries(table: &Table, path: &[Key<'_>]) -> usize {
    get(table, path).and_then(Value::as_array).map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: &str = r#"
duration = "2m"
[topology]
kind = "mesh"
nodes = 20
[[faults]]
kind = "crash"
at = "1s"
[[faults]]
kind = "crash"
at = "2s"
[[faults]]
kind = "partition"
at = "3s"
nodes = ["node-1", "node-2", "node-3"]
[[faults]]
kind = "crash"
at = "4s"
[[workload]]
do = "publish"
bytes = 100000
[[workload]]
do = "search"
"#;

    /// Shrinks with a failure that is a property of the table.
    fn shrunk(at_once: usize, tries_max: usize, fails: impl Fn(&Table) -> bool) -> Shrunk {
        shrunk_with(Kept::default(), at_once, tries_max, fails)
    }

    fn shrunk_with(kept: Kept, at_once: usize, tries_max: usize, fails: impl Fn(&Table) -> bool) -> Shrunk {
        let table: Table = toml::from_str(LARGE).unwrap();
        shrink(table, kept, at_once, tries_max, |some| {
            assert!(!some.is_empty() && some.len() <= at_once);
            Ok::<_, ()>(some.iter().position(|candidate| fails(&candidate.table)))
        })
        .unwrap()
    }

    fn texts(table: &Table, list: &str, key: &str) -> Vec<String> {
        let entries = table.get(list).and_then(Value::as_array).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.get(key)?.as_str()?.to_owned())).collect()
    }

    #[test]
    fn only_what_is_needed_for_the_failure_is_left() {
        let fails = |table: &Table| {
            texts(table, "faults", "kind").contains(&"partition".to_owned())
                && texts(table, "workload", "do").contains(&"publish".to_owned())
                && table["topology"]["nodes"].as_integer().unwrap() >= 7
                && humantime::parse_duration(table["duration"].as_str().unwrap()).unwrap()
                    >= Duration::from_secs(31)
        };
        for at_once in [1, 2, 5] {
            let Shrunk { table, tries } = shrunk(at_once, 1_000, fails);
            assert_eq!(texts(&table, "faults", "at"), ["3s"]);
            assert_eq!(table["faults"][0]["nodes"].as_array().unwrap().len(), 0);
            assert_eq!(texts(&table, "workload", "do"), ["publish"]);
            assert!(table["workload"][0].get("bytes").is_none());
            assert_eq!(table["topology"]["nodes"].as_integer(), Some(7));
            assert_eq!(table["duration"].as_str(), Some("31s"));
            assert!(tries < 120, "{tries}");
        }
    }

    #[test]
    fn two_faults_that_fail_together_both_stay() {
        let fails = |table: &Table| {
            let at = texts(table, "faults", "at");
            ["1s", "4s"].iter().all(|needed| at.contains(&(*needed).to_owned()))
        };
        assert_eq!(texts(&shrunk(2, 1_000, fails).table, "faults", "at"), ["1s", "4s"]);
    }

    #[test]
    fn what_never_fails_again_stays_as_it_was_and_tries_are_bounded() {
        let table: Table = toml::from_str(LARGE).unwrap();
        assert_eq!(shrunk(2, 1_000, |_| false).table, table);
        assert!(shrunk(1, 3, |_| true).tries <= 3);
    }

    fn signature(violations: &[&str]) -> Signature {
        Signature::of(&violations.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    }

    fn is_same(one: &[&str], other: &str) -> bool {
        signature(one).is_of(&[other.to_owned()])
    }

    #[test]
    fn times_numbers_names_and_ids_do_not_tell_failures_apart_and_words_do() {
        let lacks = "60.000 s node-3: lacks 1 of 2 packages, and lists 0 that nobody published";
        assert!(is_same(
            &[lacks],
            "31.500 s node-11: lacks 4 of 5 packages, and lists 0 that nobody published"
        ));
        assert!(!is_same(
            &[lacks],
            "31.500 s node-11: lacks 0 of 5 packages, and lists 1 that nobody published"
        ));
        let failed = "step 4 (install word at node-2 after 1m 30s) failed with E_TIMEOUT: the time ran out";
        assert!(is_same(&[failed], &failed.replace("step 4", "step 0").replace("node-2", "node-0")));
        assert!(!is_same(&[failed], &failed.replace("E_TIMEOUT", "E_NOT_FOUND")));
        assert!(is_same(&[lacks, failed], failed), "one of them is enough");
        let found = "step 1 (search \"word\" at node-0 after 30s) found 1 packages instead of 2";
        assert!(!is_same(&[found], &found.replace("found 1", "found 0")));
    }

    #[test]
    fn what_says_that_nothing_was_shown_is_the_failure_only_where_nothing_else_is() {
        let (missed, empty) =
            ("search_ms is 9, and 5 is the most", "nothing called `search_ms` was measured");
        assert!(!is_same(&[missed, empty], empty));
        assert!(is_same(&[missed, empty], "search_ms is 7, and 5 is the most"));
        assert!(is_same(&[empty], empty));
    }

    #[test]
    fn what_would_fail_for_another_reason_is_not_tried() {
        let found = "step 1 (search \"word\" at node-0 after 30s) found 0 packages instead of 2";
        let kept = signature(&[found]).kept();
        assert_eq!(kept, Kept { publications: true, duration: false });
        let small = shrunk_with(kept, 2, 1_000, |_| true).table;
        assert_eq!(texts(&small, "workload", "do"), ["publish"]);
        let kept = signature(&["step 1 (install word at node-0 after 30s) did not end"]).kept();
        assert_eq!(kept, Kept { publications: false, duration: true });
        assert_eq!(shrunk_with(kept, 2, 1_000, |_| true).table["duration"].as_str(), Some("2m"));
    }

    #[test]
    fn a_hybrid_loses_nodes_and_what_is_said_of_them() {
        let text = "[topology]\nkind = \"hybrid\"\npermanents = 4\nephemerals = 6\n[[nodes]]\nname = \"a\"\n[[nodes]]\nname = \"b\"\n";
        let fails = |table: &Table| texts(table, "nodes", "name").contains(&"b".to_owned());
        let failing = |some: &[Candidate]| Ok::<_, ()>(some.iter().position(|it| fails(&it.table)));
        let small = shrink(toml::from_str(text).unwrap(), Kept::default(), 1, 1_000, failing).unwrap().table;
        let number = |key: &str| small["topology"][key].as_integer();
        assert_eq!((number("permanents"), number("ephemerals")), (Some(1), Some(0)));
        assert_eq!(texts(&small, "nodes", "name"), ["b"]);
    }
}
