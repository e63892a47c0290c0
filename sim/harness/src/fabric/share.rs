//! How lines are shared: each flow gets the largest rate that takes nothing from a slower one (max-min fairness).
//!
//! Progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): the line with the least to give for each of its flows is the
//! bottleneck of those; they keep that rate, and what is left of the other lines is shared again. Pure, in whole numbers.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Rates are counted in thousandths of a byte a second, so that a slow line is shared evenly too.
pub(super) const SCALE: u64 = 1_000;

/// A line of a host, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Line {
    /// What the host sends.
    Up(usize),
    /// What it receives.
    Down(usize),
}

/// A line with a bound, while it is shared.
#[derive(Debug)]
struct Shared {
    line: Line,
    /// What it has to give to those that have no rate yet.
    left: u64,
    waiting: u64,
    /// Where its flows stand in [`Sharing::crossing`].
    first: usize,
    flows: usize,
}

/// Lines, and the flows over them. Kept from one time to the next, so that nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    lines: Vec<Shared>,
    /// The bounded lines of each flow.
    flows: Vec<[Option<usize>; 2]>,
    /// The flows of each line, one line after the other.
    crossing: Vec<usize>,
    rates: Vec<Option<u64>>,
    narrowest: BinaryHeap<Reverse<(u64, Line, usize)>>,
}

impl Sharing {
    /// Forgets all lines and flows.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.flows.clear();
    }

    /// Adds a line that carries so many bytes a second, at least one; yields its number.
    pub(super) fn add_line(&mut self, line: Line, capacity: u64) -> usize {
        let left = capacity.max(1).saturating_mul(SCALE);
        self.lines.push(Shared { line, left, waiting: 0, first: 0, flows: 0 });
        self.lines.len() - 1
    }

    /// Adds a flow over two lines, of which those with a bound count.
    pub(super) fn add_flow(&mut self, lines: [Option<usize>; 2]) {
        for line in lines.into_iter().flatten() {
            self.lines[line].waiting += 1;
        }
        self.flows.push(lines);
    }

    /// The rate of each flow, in the order in which they were added, in bytes a second times [`SCALE`]; none where neither line has a
    /// bound. What the lines had to give is given away then.
    pub(super) fn rates(&mut self) -> &[Option<u64>] {
        self.cross();
        self.rates.clear();
        self.rates.resize(self.flows.len(), None);
        self.narrowest.clear();
        for (number, line) in self.lines.iter().enumerate().filter(|(_, line)| line.waiting > 0) {
            self.narrowest.push(Reverse((line.left / line.waiting, line.line, number)));
        }
        while let Some(Reverse((share, line, number))) = self.narrowest.pop() {
            let Shared { left, waiting, first, flows, .. } = self.lines[number];
            if waiting == 0 {
                continue;
            }
            // A line has more for each of its flows once some of them turned out to be slow.
            if left / waiting > share {
                self.narrowest.push(Reverse((left / waiting, line, number)));
                continue;
            }
            for at in first..first + flows {
                let flow = self.crossing[at];
                if self.rates[flow].is_some() {
                    continue;
                }
                // What nothing is left for still moves.
                self.rates[flow] = Some(share.max(1));
                for line in self.flows[flow].into_iter().flatten() {
                    let line = &mut self.lines[line];
                    line.left = line.left.saturating_sub(share);
                    line.waiting -= 1;
                }
            }
        }
        &self.rates
    }

    /// Notes which flows each line has.
    fn cross(&mut self) {
        let mut first = 0;
        for line in &mut self.lines {
            (line.first, line.flows) = (first, 0);
            first += usize::try_from(line.waiting).unwrap_or(0);
        }
        self.crossing.clear();
        self.crossing.resize(first, 0);
        for (flow, lines) in self.flows.iter().enumerate() {
            for line in lines.iter().flatten() {
                let line = &mut self.lines[*line];
                self.crossing[line.first + line.flows] = flow;
                line.flows += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Of flows from one host to another.
    fn rates(flows: &[(usize, usize)], capacity: impl Fn(Line) -> Option<u64>) -> Vec<Option<u64>> {
        let (mut sharing, mut numbers) = (Sharing::default(), BTreeMap::new());
        for (from, to) in flows {
            let lines = [Line::Up(*from), Line::Down(*to)].map(|line| {
                let bytes = capacity(line)?;
                Some(*numbers.entry(line).or_insert_with(|| sharing.add_line(line, bytes)))
            });
            sharing.add_flow(lines);
        }
        sharing.rates().to_vec()
    }

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
