//! Which of a file's faults and adversaries are in a run: drawn from the seed, so that one file is many different runs.
//!
//! What is left out matters as much as what is in: some faults hide what others would show
//! ([Groce et al., Swarm Testing, 2012](https://doi.org/10.1145/2338965.2336763)).

use std::{borrow::Cow, collections::BTreeSet, fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use toml::{Spanned, Table, Value};

use super::{Scenario, problem::Problem};
use crate::draw::Draws;

/// How many of them are in a run; all where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swarm {
    /// Of the faults.
    pub faults: Option<RangeInclusive<usize>>,
    /// Of the adversaries.
    pub adversaries: Option<RangeInclusive<usize>>,
}

/// The table `[swarm]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Swarming {
    faults: Option<Spanned<HowMany>>,
    adversaries: Option<Spanned<HowMany>>,
}

/// One number, or a range that is drawn from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HowMany(RangeInclusive<usize>);

impl<'de> Deserialize<'de> for HowMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = HowMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or { min = …, max = … }")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<HowMany, E> {
                let number = usize::try_from(number).map_err(|_| E::custom("it is zero or more"))?;
                Ok(HowMany(number..=number))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HowMany, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Range {
                    min: usize,
                    max: usize,
                }
                let Range { min, max } = Range::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if min > max {
                    return Err(de::Error::custom("min is at most max"));
                }
                Ok(HowMany(min..=max))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Swarming {
    /// Checked against how many there are.
    pub(super) fn check(&self, faults: usize, adversaries: usize) -> Result<Swarm, Problem> {
        let of = |said: &Option<Spanned<HowMany>>, there: usize, what: &str| {
            let Some(said) = said else { return Ok(None) };
            let range = &said.get_ref().0;
            if *range.end() > there {
                let most = range.end();
                return Err(Problem::at(
                    said,
                    format!("{most} {what} cannot be drawn: the file has {there}"),
                ));
            }
            Ok(Some(range.clone()))
        };
        Ok(Swarm {
            faults: of(&self.faults, faults, "faults")?,
            adversaries: of(&self.adversaries, adversaries, "adversaries")?,
        })
    }
}

/// Which of the things with these keys are in: as many as were drawn, those first whose own draw is least, so that none that
/// is taken out of the file moves another one before or behind a third.
fn chosen<'a>(
    range: &RangeInclusive<usize>,
    keys: impl Iterator<Item = &'a str>,
    draws: Draws,
    site: &str,
) -> BTreeSet<usize> {
    let width = (range.end() - range.start()) as u64 + 1;
    let count = *range.start() + usize::try_from(draws.below(width, site, "how many", 0)).unwrap_or(0);
    let mut ranked: Vec<(u64, usize)> =
        keys.enumerate().map(|(index, key)| (draws.draw(site, key, 1), index)).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(count).map(|(_, index)| index).collect()
}

impl Scenario {
    /// The scenario as a seed has it: with the faults and adversaries that are drawn, where the file leaves that to the seed.
    pub fn drawn(&self, draws: Draws) -> Cow<'_, Self> {
        if self.swarm == Swarm::default() {
            return Cow::Borrowed(self);
        }
        let mut drawn = self.clone();
        if let Some(range) = &self.swarm.faults {
            let keys = self.faults.iter().map(|fault| fault.key.as_str());
            let chosen = chosen(range, keys, draws, "swarm-faults");
            let mut number = 0..;
            drawn.faults.retain(|_| number.next().is_some_and(|number| chosen.contains(&number)));
        }
        if let Some(range) = &self.swarm.adversaries {
            let bad: Vec<usize> =
                (0..self.nodes.len()).filter(|node| self.nodes[*node].script.is_some()).collect();
            let names = bad.iter().map(|node| self.nodes[*node].name.as_str());
            let chosen = chosen(range, names, draws, "swarm-adversaries");
            for (number, node) in bad.into_iter().enumerate() {
                if !chosen.contains(&number) {
                    drawn.nodes[node].script = None;
                }
            }
        }
        Cow::Owned(drawn)
    }

    /// Makes the table of this scenario's file say what a seed draws, and leave nothing to it.
    pub fn settle(&self, table: &mut Table, draws: Draws) {
        if table.remove("swarm").is_none() {
            return;
        }
        let drawn = self.drawn(draws);
        let kept: BTreeSet<&str> = drawn.faults.iter().map(|fault| fault.key.as_str()).collect();
        if let Some(faults) = table.get_mut("faults").and_then(Value::as_array_mut) {
            // Those that say the same are told apart by their order, which changes where one of them goes: they get names.
            for (entry, fault) in faults.iter_mut().zip(&self.faults) {
                if let Some(entry) = entry.as_table_mut() {
                    entry.entry("name").or_insert_with(|| Value::String(fault.key.clone()));
                }
            }
            let mut all = self.faults.iter();
            faults.retain(|_| all.next().is_some_and(|fault| kept.contains(fault.key.as_str())));
        }
        let bad = drawn.nodes.iter().filter(|node| node.script.is_some());
        let bad: BTreeSet<&str> = bad.map(|node| node.name.as_str()).collect();
        if let Some(adversaries) = table.get_mut("adversaries").and_then(Value::as_array_mut) {
            adversaries
                .retain(|it| it.get("node").and_then(Value::as_str).is_some_and(|name| bad.contains(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn text(swarm: &str) -> String {
        let mut text =
            "duration = \"1m\"\nlatency = \"10ms\"\n[topology]\nkind = \"mesh\"\nnodes = 6\n".to_owned();
        for number in 0..5 {
            // Two of them are alike, and have no names.
            let name = if number < 3 { format!("name = \"f{number}\"\n") } else { String::new() };
            text += &format!(
                "[[faults]]\n{name}kind = \"isolate\"\nat = \"{}s\"\nfor = \"5s\"\nnodes = [\"node-1\"]\n",
                10 + number.min(3)
            );
        }
        for node in [3, 4, 5] {
            text += &format!("[[adversaries]]\nnode = \"node-{node}\"\nscript = \"corrupt-blocks\"\n");
        }
        format!("{text}[swarm]\n{swarm}\n")
    }

    fn scenario(swarm: &str) -> Result<Scenario, String> {
        Scenario::parse(Path::new("x.toml"), &text(swarm)).map_err(|error| error.to_string())
    }

    fn names(scenario: &Scenario, seed: u64) -> (Vec<String>, Vec<String>) {
        let drawn = scenario.drawn(Draws::new(seed));
        let bad = drawn.nodes.iter().filter(|node| node.script.is_some());
        (drawn.faults.iter().map(|it| it.key.clone()).collect(), bad.map(|it| it.name.clone()).collect())
    }

    #[test]
    fn as_many_are_in_a_run_as_the_file_asks_for_and_all_come_to_be_in_one() {
        let scenario = scenario("faults = { min = 1, max = 3 }\nadversaries = 1").unwrap();
        let mut runs = BTreeSet::new();
        for seed in 0..200 {
            let (faults, bad) = names(&scenario, seed);
            assert!((1..=3).contains(&faults.len()), "{faults:?}");
            assert_eq!(bad.len(), 1);
            runs.insert((faults, bad));
        }
        // 5 + 10 + 10 choices of faults, times 3.
        assert!(runs.len() > 60, "{}", runs.len());
    }

    #[test]
    fn a_file_that_leaves_nothing_to_the_seed_is_as_it_is() {
        let scenario = scenario("").unwrap();
        assert!(matches!(scenario.drawn(Draws::new(1)), Cow::Borrowed(_)));
        assert_eq!(names(&scenario, 1).0.len(), 5);
    }

    #[test]
    fn a_table_that_is_settled_runs_as_the_seed_did() {
        let before = scenario("faults = { min = 0, max = 5 }\nadversaries = { min = 0, max = 3 }").unwrap();
        for seed in 0..50 {
            let mut table: Table =
                text("faults = { min = 0, max = 5 }\nadversaries = { min = 0, max = 3 }").parse().unwrap();
            before.settle(&mut table, Draws::new(seed));
            let after = Scenario::parse(Path::new("x.toml"), &table.to_string()).unwrap();
            let drawn = before.drawn(Draws::new(seed)).into_owned();
            assert_eq!(after, Scenario { swarm: Swarm::default(), ..drawn }, "seed {seed}");
        }
    }

    #[test]
    fn more_than_there_are_cannot_be_drawn() {
        assert_eq!(
            scenario("faults = 6").unwrap_err(),
            "x.toml:44: 6 faults cannot be drawn: the file has 5"
        );
        assert!(scenario("adversaries = { min = 1, max = 4 }").unwrap_err().contains("the file has 3"));
        assert!(scenario("faults = { min = 2, max = 1 }").unwrap_err().contains("min is at most max"));
        assert!(scenario("faults = -1").unwrap_err().contains("zero or more"));
        assert!(scenario("fault = 1").unwrap_err().contains("unknown"), "{:?}", scenario("fault = 1"));
    }
}
