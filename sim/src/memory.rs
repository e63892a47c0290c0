//! How much memory a run takes, so that a run that does not fit is refused before it begins, and not killed in the middle.

use std::fs;

use crate::scenario::{Role, Scenario};

/// What a run takes with no nodes.
const BASE: u64 = 8 << 20;
/// What a node takes before it is connected: most of it are the buckets of its routing table, and its store. Measured with 25, 50 and
/// 100 nodes, release build.
const NODE: u64 = 5 << 20;
/// What one end of a connection takes, measured in the same runs.
const END: u64 = 76 << 10;
/// How many connections a node has at its peak, where there are enough others: newcomers are not closed at once.
const DEGREE: usize = 75;
/// How many connections a spoke has.
const HUBS_OF_A_SPOKE: usize = 3;

/// About how many bytes a run takes.
pub fn estimate(scenario: &Scenario) -> u64 {
    let spokes = scenario.nodes.iter().filter(|node| node.role == Role::Spoke).count();
    let others = scenario.nodes.len() - spokes;
    let ends = others * DEGREE.min(others.saturating_sub(1)) + 2 * spokes * HUBS_OF_A_SPOKE.min(others);
    BASE + scenario.nodes.len() as u64 * NODE + ends as u64 * END
}

/// How many bytes a new program may take, as far as the system says.
pub fn available() -> Option<u64> {
    of_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Why a run that takes so much does not begin where so much is free; nothing where it fits, or nobody knows.
pub fn refusal(needed: u64, free: Option<u64>) -> Option<String> {
    let free = free.filter(|free| needed > *free)?;
    let [needed, free] = [needed, free].map(|bytes| bytes >> 20);
    Some(format!("the run takes about {needed} MiB of memory, and {free} MiB are free: it has not begun"))
}

/// How many of so many runs there may be at once, of which the largest takes so much, where so much is free: one at least, which
/// says itself that it does not fit.
pub fn at_once(wanted: usize, needed: u64, free: Option<u64>) -> usize {
    let fit = |free: u64| usize::try_from(free / needed.max(1)).unwrap_or(usize::MAX);
    free.map_or(wanted, |free| fit(free).clamp(1, wanted.max(1)))
}

fn of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn takes(topology: &str) -> u64 {
        let text = format!("duration = \"10s\"\nlatency = \"10ms\"\n[topology]\n{topology}\n");
        estimate(&Scenario::parse(Path::new("test.toml"), &text).unwrap()) >> 20
    }

    #[test]
    fn a_run_takes_as_much_as_was_measured() {
        // Measured: 171, 425 and 1 044 MiB.
        assert_eq!(
            [25, 50, 100].map(|nodes| takes(&format!("kind = \"mesh\"\nnodes = {nodes}"))),
            [177, 439, 1_064]
        );
        // Each spoke adds what it takes itself, and both ends of three connections.
        let spokes = |spokes: usize| takes(&format!("kind = \"hub-and-spoke\"\nhubs = 4\nnodes = {spokes}"));
        assert!(spokes(900) < 6 * 1_024, "{}", spokes(900));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_figures() {
        let said = refusal(3 << 30, Some(1 << 30)).unwrap();
        assert!(said.contains("3072 MiB") && said.contains("1024 MiB"), "{said}");
        assert_eq!((refusal(1 << 30, Some(1 << 30)), refusal(3 << 30, None)), (None, None));
    }

    #[test]
    fn no_more_runs_begin_at_once_than_fit_together() {
        let free = Some(10 << 30);
        let at_once = [1 << 30, 3 << 30, 6 << 30, 20 << 30].map(|needed| at_once(4, needed, free));
        assert_eq!(at_once, [4, 3, 1, 1]);
        assert_eq!((super::at_once(4, 6 << 30, None), super::at_once(4, 0, free)), (4, 4));
    }

    #[test]
    fn what_is_there_is_what_the_system_says() {
        assert_eq!(of_meminfo("MemTotal:  9 kB\nMemAvailable:   1024 kB\n"), Some(1 << 20));
        for odd in ["", "MemAvailable: many kB", "MemAvailable: 1024"] {
            assert_eq!(of_meminfo(odd), None, "{odd}");
        }
    }
}
