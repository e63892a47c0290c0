//! A sweep in parts: one machine runs every n-th run, and what came of all parts is put together again.
//!
//! Pure. A part says which sweep it is of, so that parts of different sweeps, scenarios or versions are not taken for one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    children::Job,
    report::{SCHEMA_VERSION, Summary},
    trace::hex,
};

/// Parts of one sweep at most.
const SHARDS_MAX: usize = 10_000;

/// Which part of how many, from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// Which.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

/// What a part belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which part it is.
    pub shard: Shard,
    /// The version of the program that ran it.
    pub program: String,
    /// A digest over all runs of the sweep and the scenarios as they stood.
    pub sweep: String,
    /// Runs of the whole sweep.
    pub runs: usize,
}

/// Why parts do not make a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no part.
    #[error("{0} is a whole sweep, not a part of one")]
    Whole(String),
    /// Another version wrote it.
    #[error("{file} was written by version {found}, and {first} by version {expected}")]
    Version {
        /// The file.
        file: String,
        /// The first file.
        first: String,
        /// Who wrote it.
        found: String,
        /// Who wrote the first one.
        expected: String,
    },
    /// It has another shape than this program reads.
    #[error("{0} has reports of version {1}, and this program reads version {version}", version = SCHEMA_VERSION)]
    Schema(String, u32),
    /// It is part of another sweep.
    #[error("{0} is part of another sweep than {1}: other scenarios, seeds, engine, or number of parts")]
    Another(String, String),
    /// Two files have the same part.
    #[error("{0} and {1} are both part {2}")]
    Twice(String, String, Shard),
    /// It does not have the runs that it must have.
    #[error("{file} has {found} of the {expected} runs of part {shard}: that part did not come to its end")]
    Cut {
        /// The file.
        file: String,
        /// Which part.
        shard: Shard,
        /// Runs that it has.
        found: usize,
        /// Runs that it must have.
        expected: usize,
    },
    /// Parts that nobody wrote.
    #[error("part {} of {count} is missing", join(.missing))]
    Missing {
        /// Which.
        missing: Vec<usize>,
        /// Of how many.
        count: usize,
    },
}

fn join(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok();
        let parts = text.split_once('/').and_then(|(index, count)| Some((number(index)?, number(count)?)));
        match parts {
            Some((index, count)) if index >= 1 && index <= count && count <= SHARDS_MAX => {
                Ok(Self { index, count })
            }
            _ => Err(format!("write it like 1/4: the first of four parts, of at most {SHARDS_MAX}")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// The runs of this part: every n-th, so that each part has some of every scenario.
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.index - 1).step_by(self.count).collect()
    }

    /// How many runs this part has, of so many.
    fn size(self, runs: usize) -> usize {
        (runs + self.count).saturating_sub(self.index) / self.count
    }
}

impl Part {
    /// A part of a sweep with these runs, whose scenarios are these texts.
    pub fn new<'a>(shard: Shard, jobs: &[Job], texts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        let mut fold = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        jobs.iter().for_each(|job| fold(job.command().as_bytes()));
        texts.into_iter().for_each(&mut fold);
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self { shard, program, sweep: hex(&hash.finalize()), runs: jobs.len() }
    }
}

/// Puts the parts of a sweep together, each with the name of its file, in the order in which its runs were asked for.
///
/// # Errors
/// Where they are not all the parts of one sweep.
pub fn merge(parts: Vec<(String, Summary)>) -> Result<Summary, Error> {
    let mut found: Vec<(String, Part, Summary)> = Vec::new();
    for (file, mut summary) in parts {
        if summary.schema_version != SCHEMA_VERSION {
            return Err(Error::Schema(file, summary.schema_version));
        }
        let Some(part) = summary.part.take() else { return Err(Error::Whole(file)) };
        if let Some((first, one, _)) = found.first() {
            if one.program != part.program {
                let (first, found, expected) = (first.clone(), part.program, one.program.clone());
                return Err(Error::Version { file, first, found, expected });
            }
            if (&one.sweep, one.runs, one.shard.count) != (&part.sweep, part.runs, part.shard.count) {
                return Err(Error::Another(file, first.clone()));
            }
        }
        if let Some((other, ..)) = found.iter().find(|(_, it, _)| it.shard == part.shard) {
            return Err(Error::Twice(other.clone(), file, part.shard));
        }
        let (shard, expected) = (part.shard, part.shard.size(part.runs));
        if summary.runs.len() != expected {
            return Err(Error::Cut { file, shard, found: summary.runs.len(), expected });
        }
        found.push((file, part, summary));
    }
    let (count, runs) = found.first().map_or((0, 0), |(_, part, _)| (part.shard.count, part.runs));
    let is_there = |index: &usize| found.iter().any(|(_, part, _)| part.shard.index == *index);
    let missing: Vec<usize> = (1..=count).filter(|index| !is_there(index)).collect();
    if !missing.is_empty() {
        return Err(Error::Missing { missing, count });
    }
    found.sort_by_key(|(_, part, _)| part.shard);
    let mut queues: Vec<_> = found.into_iter().map(|(.., summary)| summary.runs.into_iter()).collect();
    let all = (0..runs).filter_map(|run| queues.get_mut(run % count)?.next());
    Ok(Summary::of_runs(all.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::children::Ran;

    fn job(seed: u64) -> Job {
        Job { file: "scenarios/a.toml".into(), variant: None, seed, engine: None }
    }

    /// The part of a sweep over these seeds; one of them fails.
    fn part(shard: &str, seeds: u64, text: &str) -> (String, Summary) {
        let shard: Shard = shard.parse().unwrap();
        let jobs: Vec<Job> = (1..=seeds).map(job).collect();
        let part = Part::new(shard, &jobs, [text.as_bytes()]);
        let ran = shard.of(jobs).into_iter().map(|job| Ran {
            exit_code: if job.seed == 3 { 100 } else { 0 },
            job,
            report: None,
            error: None,
            wall_secs: 1.0,
        });
        let summary = Summary { part: Some(part), ..Summary::of(&ran.collect::<Vec<_>>()) };
        (format!("{}.json", shard.index), summary)
    }

    #[test]
    fn parts_in_any_order_make_the_sweep_in_its_order_with_its_worst_exit_code() {
        for seeds in [0, 1, 2, 3, 7, 8, 9] {
            let parts = ["3/3", "1/3", "2/3"].map(|shard| part(shard, seeds, "a"));
            let whole = merge(parts.into()).unwrap();
            assert_eq!(
                whole.runs.iter().map(|run| run.seed).collect::<Vec<_>>(),
                (1..=seeds).collect::<Vec<_>>()
            );
            assert_eq!((whole.part.is_none(), whole.exit_code()), (true, if seeds >= 3 { 100 } else { 0 }));
            assert_eq!(whole.passed + whole.failed, whole.runs.len());
        }
    }

    #[test]
    fn what_is_no_whole_is_refused_and_says_why() {
        let refused = |parts: Vec<(String, Summary)>| merge(parts).unwrap_err().to_string();
        let [one, two, three] = ["1/3", "2/3", "3/3"].map(|shard| part(shard, 7, "a"));
        assert_eq!(refused(vec![one.clone()]), "part 2, 3 of 3 is missing");
        assert_eq!(refused(vec![one.clone(), one.clone()]), "1.json and 1.json are both part 1/3");
        for other in [part("2/3", 8, "a"), part("2/3", 7, "b"), part("2/4", 7, "a")] {
            assert!(
                refused(vec![one.clone(), other]).starts_with("2.json is part of another sweep than 1.json")
            );
        }
        let mut cut = two.clone();
        cut.1.runs.pop();
        assert!(refused(vec![one.clone(), cut]).starts_with("2.json has 1 of the 2 runs of part 2/3"));
        let mut older = three.clone();
        older.1.part.as_mut().unwrap().program = "0.0.9".to_owned();
        assert!(
            refused(vec![one.clone(), older]).starts_with("3.json was written by version 0.0.9, and 1.json")
        );
        let mut whole = two.clone();
        whole.1.part = None;
        assert_eq!(refused(vec![one.clone(), whole]), "2.json is a whole sweep, not a part of one");
        let mut newer = two.clone();
        newer.1.schema_version += 1;
        assert!(refused(vec![one.clone(), newer]).starts_with("2.json has reports of version 2"));
        assert!(merge(vec![one, two, three]).is_ok());
    }

    #[test]
    fn a_part_is_written_as_one_of_how_many() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        for text in ["0/4", "5/4", "1/0", "1", "a/b", "-1/2", "1/10001", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
