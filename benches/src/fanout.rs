//! How soon a fresh node can find something, by the number of bootstrap nodes that it was given.
//!
//! The first of them is far away, the second has left, and the third is near: who was told of one more is never worse off.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ggen_marketplace::network::Event;
use ggen_sim::{
    scenario::{self, Scenario},
    witness::Witness,
    world::{self, Options},
};
use serde::{Deserialize, Serialize};

use crate::{figures::ms, measure::Error};

/// How many bootstrap nodes there are to be told of.
pub const ENTRIES_MAX: usize = 3;

/// The nodes, of which the last one is fresh.
const NODES: usize = 9;
/// When the fresh one starts: everybody else has long settled, and what was published is listed everywhere.
const START: Duration = Duration::from_secs(60);
/// The end: nobody waits longer than a round of everything that a node tries.
const DURATION: Duration = Duration::from_secs(150);

/// What one run showed. A function of the number and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fanout {
    /// Bootstrap nodes that the fresh node was told of.
    pub entries: usize,
    /// The seed.
    pub seed: u64,
    /// From its start until its catalogue lists something, and a search finds it.
    pub first_result_ms: f64,
}

/// Runs the world with so many bootstrap nodes; repeatable for the first run of a process only.
///
/// # Errors
/// Where the run came to nothing, or to something that means nothing.
pub fn run(entries: usize, seed: u64) -> Result<Fanout, Error> {
    let first = Arc::new(Mutex::new(None));
    let told = first.clone();
    let witness = Witness::new(move |at, node, event| {
        if node == NODES - 1 && matches!(event, Event::Listed { .. }) {
            told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(at);
        }
    });
    let finished = world::run(&scenario(entries)?, seed, Options { witness, ..Options::default() })?;
    let violations = finished.report.invariants.iter().flat_map(|it| &it.violations);
    if let Some(violation) = violations.into_iter().next() {
        return Err(Error::Violated(violation.clone()));
    }
    let first = *first.lock().unwrap_or_else(PoisonError::into_inner);
    let first = first.ok_or_else(|| Error::Strange("the fresh node listed nothing".to_owned()))?;
    Ok(Fanout { entries, seed, first_result_ms: ms(first.saturating_sub(START)) })
}

/// The world in which is measured.
///
/// # Errors
/// Where the simulation does not know such a scenario any more.
fn scenario(entries: usize) -> Result<Scenario, scenario::Error> {
    let names: Vec<String> = (1..=entries).map(|node| format!("\"node-{node}\"")).collect();
    let text = format!(
        r#"duration = "{duration}s"
tick = "10ms"
latency = {{ min = "20ms", max = "60ms" }}
[topology]
kind = "mesh"
nodes = {NODES}
started = "4s"
[[nodes]]
name = "node-2"
leave = "50s"
[[nodes]]
name = "node-{fresh}"
start = "{start}s"
bootstrap = [{names}]
[[faults]]
kind = "slow"
at = "50s"
until = "{mended}s"
by = "400ms"
nodes = ["node-1"]
[[workload]]
at = "12s"
node = "node-4"
do = "publish"
package = "amber"
[[workload]]
at = "14s"
node = "node-5"
do = "publish"
package = "birch"
"#,
        duration = DURATION.as_secs(),
        mended = DURATION.as_secs() - 20,
        start = START.as_secs(),
        fresh = NODES - 1,
        names = names.join(", "),
    );
    Scenario::parse(Path::new("bootstrap-fanout.toml"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_bootstrap_nodes_is_a_scenario() {
        for entries in 1..=ENTRIES_MAX {
            assert_eq!(scenario(entries).unwrap().nodes.len(), NODES);
        }
    }
}
