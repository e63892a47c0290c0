//! The ways that send over a bounded line now, how fast each of them is, and how much of its first segment is left.

use std::collections::{BTreeMap, BTreeSet};

use super::share::{self, Line, SCALE};

/// A direction of a connection: the connection, and which end sends.
pub(super) type Way = (u64, usize);

/// A byte, in the unit in which a flow counts: what a rate of one moves in a nanosecond.
const BYTE: u128 = SCALE as u128 * 1_000_000_000;

#[derive(Debug)]
struct Flow {
    from: usize,
    to: usize,
    left: u128,
    rate: u64,
    /// When `left` was so.
    since: u64,
    /// Tells the newest end that was foretold from older ones.
    version: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    active: BTreeMap<Way, Flow>,
    on: BTreeMap<Line, BTreeSet<Way>>,
}

/// When a flow will have sent its segment, as it looks now.
pub(super) struct Foretold {
    pub(super) way: Way,
    pub(super) at: u64,
    pub(super) version: u64,
}

impl Flow {
    fn end(&self) -> u64 {
        let nanos = self.left.div_ceil(u128::from(self.rate.max(1)));
        self.since.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Flows {
    pub(super) fn is_active(&self, way: Way) -> bool {
        self.active.contains_key(&way)
    }

    /// Begins to send a segment, where the way sends nothing.
    pub(super) fn begin(
        &mut self,
        now: u64,
        way: Way,
        (from, to): (usize, usize),
        bytes: usize,
        capacity: impl Fn(Line) -> Option<u64>,
    ) -> Vec<Foretold> {
        let left = bytes as u128 * BYTE;
        self.active.insert(way, Flow { from, to, left, rate: 0, since: now, version: 0 });
        for line in [Line::Up(from), Line::Down(to)] {
            if capacity(line).is_some() {
                self.on.entry(line).or_default().insert(way);
            }
        }
        self.share(now, &[Line::Up(from), Line::Down(to)], capacity)
    }

    /// Whether this is the end of a segment: what was foretold last.
    pub(super) fn is_newest(&self, way: Way, version: u64) -> bool {
        self.active.get(&way).is_some_and(|flow| flow.version == version)
    }

    /// Goes on with the next segment, as fast as with the one before.
    pub(super) fn next(&mut self, now: u64, way: Way, bytes: usize) -> Option<Foretold> {
        let flow = self.active.get_mut(&way)?;
        (flow.left, flow.since) = (bytes as u128 * BYTE, now);
        flow.version += 1;
        Some(Foretold { way, at: flow.end(), version: flow.version })
    }

    /// Ends; the others get what it had.
    pub(super) fn end(
        &mut self,
        now: u64,
        way: Way,
        capacity: impl Fn(Line) -> Option<u64>,
    ) -> Vec<Foretold> {
        let Some(flow) = self.active.remove(&way) else { return Vec::new() };
        let lines = [Line::Up(flow.from), Line::Down(flow.to)];
        for line in lines {
            if let Some(on) = self.on.get_mut(&line) {
                on.remove(&way);
                if on.is_empty() {
                    self.on.remove(&line);
                }
            }
        }
        self.share(now, &lines, capacity)
    }

    /// Shares these lines, and all that hang together with them, again.
    fn share(&mut self, now: u64, lines: &[Line], capacity: impl Fn(Line) -> Option<u64>) -> Vec<Foretold> {
        let (mut seen, mut ways): (BTreeSet<Line>, BTreeSet<Way>) = Default::default();
        let mut left: Vec<Line> = lines.to_vec();
        while let Some(line) = left.pop() {
            if !seen.insert(line) {
                continue;
            }
            for way in self.on.get(&line).into_iter().flatten() {
                if ways.insert(*way)
                    && let Some(flow) = self.active.get(way)
                {
                    left.extend([Line::Up(flow.from), Line::Down(flow.to)]);
                }
            }
        }
        let flows: Vec<_> =
            ways.iter().filter_map(|way| self.active.get(way)).map(|flow| (flow.from, flow.to)).collect();
        let rates = share::rates(&flows, capacity);
        let mut foretold = Vec::new();
        for (way, rate) in ways.into_iter().zip(rates) {
            let rate = rate.unwrap_or(u64::MAX);
            let Some(flow) = self.active.get_mut(&way).filter(|flow| flow.rate != rate) else { continue };
            let sent = u128::from(flow.rate) * u128::from(now.saturating_sub(flow.since));
            (flow.left, flow.since, flow.rate) = (flow.left.saturating_sub(sent), now, rate);
            flow.version += 1;
            foretold.push(Foretold { way, at: flow.end(), version: flow.version });
        }
        foretold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn who_ends_leaves_its_part_to_the_others() {
        let capacity = |line| (line == Line::Up(0)).then_some(1_000);
        let mut flows = Flows::default();
        let first = flows.begin(0, (1, 0), (0, 1), 1_000, capacity);
        assert_eq!((first.len(), first[0].at), (1, SECOND));
        let both = flows.begin(SECOND / 2, (2, 0), (0, 2), 1_000, capacity);
        let ends: Vec<_> = both.iter().map(|it| (it.way, it.at)).collect();
        assert_eq!(ends, [((1, 0), SECOND * 3 / 2), ((2, 0), SECOND * 5 / 2)]);
        assert!(!flows.is_newest((1, 0), first[0].version));
        assert!(flows.is_newest((1, 0), both[0].version));
        let left = flows.end(SECOND * 3 / 2, (1, 0), capacity);
        assert_eq!((left.len(), left[0].at), (1, SECOND * 2));
        assert!(flows.end(SECOND * 2, (2, 0), capacity).is_empty());
        assert!(!flows.is_active((2, 0)) && flows.on.is_empty());
    }
}
