//! How lines are shared: each flow gets the largest rate that takes nothing from a slower one (max-min fairness).
//!
//! Progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): the line with the least to give for each of its flows is the
//! bottleneck of those; they keep that rate, and what is left of the other lines is shared again. Pure, in whole numbers.

use std::collections::BTreeMap;

/// Rates are counted in thousandths of a byte a second, so that a slow line is shared evenly too.
pub const SCALE: u64 = 1_000;

/// A line of a host, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// What the host sends.
    Up(usize),
    /// What it receives.
    Down(usize),
}

/// The rate of each flow, from one host to another, in bytes a second times [`SCALE`]; none where neither line has a bound.
///
/// `capacity` says how many bytes a second a line carries, at least one.
pub fn rates(flows: &[(usize, usize)], capacity: impl Fn(Line) -> Option<u64>) -> Vec<Option<u64>> {
    struct Shared {
        left: u64,
        flows: Vec<usize>,
        waiting: u64,
    }
    let mut lines: BTreeMap<Line, Shared> = BTreeMap::new();
    for (number, (from, to)) in flows.iter().enumerate() {
        for line in [Line::Up(*from), Line::Down(*to)] {
            let Some(capacity) = capacity(line) else { continue };
            let left = capacity.max(1).saturating_mul(SCALE);
            let shared = lines.entry(line).or_insert(Shared { left, flows: Vec::new(), waiting: 0 });
            shared.flows.push(number);
            shared.waiting += 1;
        }
    }
    let mut rates = vec![None; flows.len()];
    loop {
        let shares = lines.iter().filter(|(_, line)| line.waiting > 0);
        let Some((share, line)) = shares.map(|(at, line)| (line.left / line.waiting, *at)).min() else {
            break;
        };
        let Some(bottleneck) = lines.remove(&line) else { break };
        for flow in bottleneck.flows {
            if rates[flow].is_some() {
                continue;
            }
            // What nothing is left for still moves.
            rates[flow] = Some(share.max(1));
            let (from, to) = flows[flow];
            for other in [Line::Up(from), Line::Down(to)] {
                if let Some(other) = lines.get_mut(&other) {
                    other.left = other.left.saturating_sub(share);
                    other.waiting -= 1;
                }
            }
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every flow grows by the same small step until one of its lines is full.
    fn by_small_steps(flows: &[(usize, usize)], capacity: &dyn Fn(Line) -> Option<u64>) -> Vec<f64> {
        let all = flows.iter().flat_map(|(from, to)| [Line::Up(*from), Line::Down(*to)]);
        let least = all.clone().filter_map(capacity).min().unwrap_or(1) as f64;
        let step = least / flows.len() as f64 / 400.0;
        let mut rates = vec![0.0; flows.len()];
        let mut is_full = vec![false; flows.len()];
        while is_full.contains(&false) {
            let used = |line: Line, rates: &[f64]| -> f64 {
                let on = |(from, to): &(usize, usize)| line == Line::Up(*from) || line == Line::Down(*to);
                flows.iter().zip(rates).filter(|(flow, _)| on(flow)).map(|(_, rate)| rate).sum()
            };
            for flow in 0..flows.len() {
                if !is_full[flow] {
                    rates[flow] += step;
                }
            }
            for flow in 0..flows.len() {
                let lines = [Line::Up(flows[flow].0), Line::Down(flows[flow].1)];
                let full = |line: &Line| {
                    capacity(*line).is_some_and(|most| used(*line, &rates) >= most as f64 * (1.0 - 1e-9))
                };
                is_full[flow] |= lines.iter().any(full);
            }
        }
        rates
    }

    /// Flows from host to host, and what each host has up and down.
    type Worlds = (Vec<(usize, usize)>, Vec<(u64, u64)>);

    fn worlds() -> impl Strategy<Value = Worlds> {
        let hosts = prop::collection::vec((1_000_u64..20_000, 1_000_u64..20_000), 6);
        (prop::collection::vec((0_usize..6, 0_usize..6), 1..16), hosts)
    }

    fn of(lines: &[(u64, u64)]) -> impl Fn(Line) -> Option<u64> {
        |line| match line {
            Line::Up(host) => Some(lines[host].0),
            Line::Down(host) => Some(lines[host].1),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn rates_are_within_two_percent_of_those_found_by_brute_force((flows, lines) in worlds()) {
            let capacity = of(&lines);
            let fair = rates(&flows, &capacity);
            for (fair, found) in fair.iter().zip(by_small_steps(&flows, &capacity)) {
                let fair = fair.unwrap() as f64 / SCALE as f64;
                prop_assert!((fair - found).abs() <= found * 0.02, "{fair} {found}");
            }
        }

        #[test]
        fn no_line_carries_too_much_and_every_flow_has_a_full_line_where_nobody_is_faster((flows, lines) in worlds()) {
            let capacity = of(&lines);
            let fair: Vec<u64> = rates(&flows, &capacity).into_iter().flatten().collect();
            let on = |line: Line| {
                let is_on = move |(from, to): &(usize, usize)| line == Line::Up(*from) || line == Line::Down(*to);
                flows.iter().zip(&fair).filter(move |(flow, _)| is_on(flow)).map(|(_, rate)| *rate)
            };
            for ((from, to), rate) in flows.iter().zip(&fair) {
                let lines = [Line::Up(*from), Line::Down(*to)];
                for line in lines {
                    prop_assert!(on(line).sum::<u64>() <= capacity(line).unwrap() * SCALE);
                }
                let is_bottleneck = |line: &Line| {
                    let most = capacity(*line).unwrap() * SCALE;
                    // Rounding down leaves less than a unit for each flow.
                    on(*line).sum::<u64>() + 16 * 16 >= most && on(*line).max().unwrap() <= *rate + 16
                };
                prop_assert!(lines.iter().any(is_bottleneck));
            }
        }

        #[test]
        fn the_order_of_flows_changes_nothing((flows, lines) in worlds()) {
            let capacity = of(&lines);
            let back: Vec<_> = flows.iter().rev().copied().collect();
            let mut there = rates(&back, &capacity);
            there.reverse();
            for (one, other) in rates(&flows, &capacity).into_iter().zip(there) {
                prop_assert!(one.unwrap().abs_diff(other.unwrap()) <= 16);
            }
        }
    }

    #[test]
    fn thirty_one_receivers_of_one_sender_have_a_part_each() {
        let flows: Vec<_> = (1..=31).map(|to| (0, to)).collect();
        let rates = rates(&flows, |line| (line == Line::Up(0)).then_some(1_250_000));
        assert!(rates.iter().all(|rate| *rate == Some(1_250_000 * SCALE / 31)));
    }

    #[test]
    fn what_a_slow_receiver_cannot_take_goes_to_the_others() {
        let capacity = |line| match line {
            Line::Up(0) => Some(100),
            Line::Down(1) => Some(10),
            _ => None,
        };
        assert_eq!(
            rates(&[(0, 1), (0, 2), (0, 3)], capacity),
            [Some(10 * SCALE), Some(45 * SCALE), Some(45 * SCALE)]
        );
        assert_eq!(rates(&[(4, 5)], capacity), [None], "nothing bounds it");
    }
}
