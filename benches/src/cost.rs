//! What the machine did for a run. It differs from run to run, so that it is never part of what is compared exactly.

use std::fs;

use serde::{Deserialize, Serialize};

/// In what Linux counts the time of processes, on every architecture that it runs on today (`USER_HZ`).
const TICKS_PER_SEC: f64 = 100.0;

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Real seconds.
    pub wall_secs: f64,
    /// Simulated seconds in a real one.
    pub simulated_per_wall: f64,
    /// Seconds of a processor, for the process and for the system on its behalf; zero where the system does not say.
    pub cpu_secs: f64,
    /// Simulated seconds in one of a processor: as [`Self::simulated_per_wall`], on a machine that does nothing else.
    pub simulated_per_cpu: f64,
    /// The most memory that the process had at once, in MiB; zero where the system does not say.
    pub peak_mib: f64,
}

impl Cost {
    /// The cost of a process that ran one simulation.
    pub fn so_far(wall_secs: f64, simulated_secs: f64) -> Self {
        let cpu_secs = cpu_secs();
        let simulated_per_cpu = if cpu_secs > 0.0 { simulated_secs / cpu_secs } else { 0.0 };
        Self {
            wall_secs,
            simulated_per_wall: simulated_secs / wall_secs.max(f64::EPSILON),
            cpu_secs,
            simulated_per_cpu,
            peak_mib: peak_mib(),
        }
    }
}

fn cpu_secs() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    ticks(&stat).map_or(0.0, |ticks| ticks as f64 / TICKS_PER_SEC)
}

/// What a process and the system on its behalf took, of a line of `/proc/PID/stat`: fields 14 and 15, of which the second, in
/// parentheses, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or(0.0, |kib| (kib / 1_024.0).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_its_own_and_the_systems() {
        let stat = "7 (a (strange) name) R 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (short) R 1"), None);
    }
}
