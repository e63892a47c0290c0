//! What the machine did for a run. It differs from run to run, so that it is never part of what is compared exactly.

use std::fs;

use serde::{Deserialize, Serialize};

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Real seconds.
    pub wall_secs: f64,
    /// Simulated seconds in a real one.
    pub simulated_per_wall: f64,
    /// The most memory that the process had at once, in MiB; zero where the system does not say.
    pub peak_mib: f64,
}

impl Cost {
    /// The cost of a process that ran one simulation.
    pub fn so_far(wall_secs: f64, simulated_secs: f64) -> Self {
        Self {
            wall_secs,
            simulated_per_wall: simulated_secs / wall_secs.max(f64::EPSILON),
            peak_mib: peak_mib(),
        }
    }
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or(0.0, |kib| (kib / 1_024.0).round())
}
