//! What was measured, in numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one run showed. A function of size and seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Nodes.
    pub nodes: usize,
    /// Simulated hosts.
    pub sites: usize,
    /// The seed.
    pub seed: u64,
    /// Simulated seconds.
    pub simulated_secs: f64,
    /// Lookups of a head through the DHT.
    pub lookup: Lookups,
    /// Announcements by gossip.
    pub gossip: Gossip,
    /// What the run needed before: the connections and the lookups of joining.
    pub joining: Joining,
}

/// Lookups of a head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookups {
    /// How many ended.
    pub count: usize,
    /// How many found nothing.
    pub not_found: f64,
    /// Duration, in milliseconds.
    pub ms: Spread,
    /// Duration, in round trips from site to site.
    pub round_trips: Spread,
    /// Requests.
    pub requests: Spread,
    /// Requests of all lookups that failed.
    pub requests_failed: u64,
}

/// Announcements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gossip {
    /// How many.
    pub count: usize,
    /// The part of the other nodes that took them, from 0 to 1.
    pub reached: f64,
    /// From the announcement to each node's taking it, in milliseconds.
    pub ms: Spread,
    /// How many nodes each had come through, its author not counted, when a node took it: from one on.
    pub hops: Spread,
    /// Copies that all nodes together received of one announcement.
    pub copies: f64,
    /// Those of them that came to a node that had it already, by node that took it.
    pub duplicates_per_delivery: f64,
}

/// Joining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joining {
    /// First connections between two nodes, as each side saw them, in the whole run.
    pub connections: f64,
    /// Lookups by which all nodes together filled their routing tables: one for each place that was asked for.
    pub bootstraps: usize,
    /// Requests of each.
    pub requests: Spread,
}

/// How values are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// Half are at most this.
    pub p50: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// Ninety-nine of a hundred are at most this.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
    /// The mean, to a thousandth.
    pub mean: f64,
}

impl Spread {
    /// The spread of some values; zeros where there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return Self::default() };
        // The nearest rank: a value that was measured, not one between two of them.
        let at =
            |part: f64| values[((values.len() as f64 * part).ceil() as usize).clamp(1, values.len()) - 1];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { min: *min, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: *max, mean: thousandths(mean) }
    }
}

/// To a thousandth: what is kept and compared as text has no more places than it means.
pub fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// A duration in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    thousandths(duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let spread = Spread::of((1..=100).rev().map(f64::from));
        assert_eq!(
            (spread.min, spread.p50, spread.p90, spread.p99, spread.max),
            (1.0, 50.0, 90.0, 99.0, 100.0)
        );
        assert_eq!(spread.mean, 50.5);
        let one = Spread::of([7.0]);
        assert_eq!((one.min, one.p50, one.p99, one.max), (7.0, 7.0, 7.0, 7.0));
        assert_eq!(Spread::of([]), Spread::default());
    }
}
