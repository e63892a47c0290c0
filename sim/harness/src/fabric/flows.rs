//! The ways that send over a bounded line now, how fast each of them is, and how much of its first segment is left.

use std::collections::BTreeMap;

use super::share::{Line, SCALE, Sharing};

/// A direction of a connection: the connection, and which end sends.
pub(super) type Way = (u64, usize);

/// A byte, in the unit in which a flow counts: what a rate of one moves in a nanosecond.
const BYTE: u128 = SCALE as u128 * 1_000_000_000;

#[derive(Debug)]
struct Flow {
    way: Way,
    /// Its line up and its line down, and where it stands in the list of each; none where that has no bound.
    on: [(Line, Option<usize>); 2],
    left: u128,
    rate: u64,
    /// When `left` was so.
    since: u64,
    /// Tells the newest end that was foretold from older ones.
    version: u64,
    /// The round in which it was last shared.
    round: u64,
}

/// The flows over a line.
#[derive(Debug, Default)]
struct Load {
    /// The place of each of them in [`Flows::places`].
    flows: Vec<usize>,
    /// The round in which it was last shared, and its number then.
    round: (u64, usize),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    active: BTreeMap<Way, usize>,
    places: Vec<Option<Flow>>,
    free: Vec<usize>,
    up: Vec<Load>,
    down: Vec<Load>,
    /// Lines with a flow more or less than when they were shared.
    changed: Vec<Line>,
    round: u64,
    sharing: Sharing,
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

    fn lines(&self) -> [Line; 2] {
        self.on.map(|(line, _)| line)
    }
}

impl Flows {
    pub(super) fn is_active(&self, way: Way) -> bool {
        self.active.contains_key(&way)
    }

    /// Whether lines wait to be shared again.
    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Begins to send a segment, where the way sends nothing: as fast as [`Flows::share`] says.
    pub(super) fn begin(
        &mut self,
        now: u64,
        way: Way,
        (from, to): (usize, usize),
        bytes: usize,
        capacity: impl Fn(Line) -> Option<u64>,
    ) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let on = [Line::Up(from), Line::Down(to)].map(|line| {
            let at = capacity(line).map(|_| {
                let load = self.load(line);
                load.flows.push(place);
                load.flows.len() - 1
            });
            (line, at)
        });
        let left = bytes as u128 * BYTE;
        let flow = Flow { way, on, left, rate: 0, since: now, version: 0, round: 0 };
        self.changed.extend(flow.lines());
        self.places[place] = Some(flow);
        self.active.insert(way, place);
    }

    /// Whether this is the end of a segment: what was foretold last.
    pub(super) fn is_newest(&self, way: Way, version: u64) -> bool {
        let flow = self.active.get(&way).and_then(|place| self.places[*place].as_ref());
        flow.is_some_and(|flow| flow.version == version)
    }

    /// Goes on with the next segment, as fast as with the one before.
    pub(super) fn next(&mut self, now: u64, way: Way, bytes: usize) -> Option<Foretold> {
        let flow = self.places[*self.active.get(&way)?].as_mut()?;
        (flow.left, flow.since) = (bytes as u128 * BYTE, now);
        flow.version += 1;
        Some(Foretold { way, at: flow.end(), version: flow.version })
    }

    /// Ends; the others get what it had when [`Flows::share`] is called.
    pub(super) fn end(&mut self, way: Way) {
        let Some(place) = self.active.remove(&way) else { return };
        let Some(flow) = self.places[place].take() else { return };
        self.free.push(place);
        self.changed.extend(flow.lines());
        for (side, (line, at)) in flow.on.into_iter().enumerate() {
            let Some(at) = at else { continue };
            let load = self.load(line);
            load.flows.swap_remove(at);
            if let Some(moved) = load.flows.get(at).copied()
                && let Some(moved) = &mut self.places[moved]
            {
                moved.on[side].1 = Some(at);
            }
        }
    }

    fn load(&mut self, line: Line) -> &mut Load {
        let (loads, host) = match line {
            Line::Up(host) => (&mut self.up, host),
            Line::Down(host) => (&mut self.down, host),
        };
        if loads.len() <= host {
            loads.resize_with(host + 1, Load::default);
        }
        &mut loads[host]
    }

    /// Shares the lines that have changed, and all that hang together with them, again.
    pub(super) fn share(&mut self, now: u64, capacity: impl Fn(Line) -> Option<u64>) -> Vec<Foretold> {
        self.round += 1;
        self.sharing.clear();
        let round = self.round;
        let mut left = std::mem::take(&mut self.changed);
        let mut flows = Vec::new();
        while let Some(line) = left.pop() {
            let Some(bytes) = capacity(line) else { continue };
            if self.load(line).round.0 == round {
                continue;
            }
            let number = self.sharing.add_line(line, bytes);
            self.load(line).round = (round, number);
            let over = std::mem::take(&mut self.load(line).flows);
            for place in &over {
                if let Some(flow) = self.places[*place].as_mut().filter(|flow| flow.round < round) {
                    flow.round = round;
                    flows.push(*place);
                    left.extend(flow.lines());
                }
            }
            self.load(line).flows = over;
        }
        self.changed = left;
        for place in &flows {
            let Some(on) = self.places[*place].as_ref().map(|flow| flow.on) else { continue };
            let numbers = on.map(|(line, at)| {
                let (shared, number) = self.load(line).round;
                (at.is_some() && shared == round).then_some(number)
            });
            self.sharing.add_flow(numbers);
        }
        let mut foretold = Vec::new();
        for (place, rate) in flows.iter().zip(self.sharing.rates()) {
            let rate = rate.unwrap_or(u64::MAX);
            let Some(flow) = self.places[*place].as_mut().filter(|flow| flow.rate != rate) else { continue };
            let sent = u128::from(flow.rate) * u128::from(now.saturating_sub(flow.since));
            (flow.left, flow.since, flow.rate) = (flow.left.saturating_sub(sent), now, rate);
            flow.version += 1;
            foretold.push(Foretold { way: flow.way, at: flow.end(), version: flow.version });
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
        flows.begin(0, (1, 0), (0, 1), 1_000, capacity);
        assert!(flows.is_changed() && !flows.is_newest((1, 0), 1), "it has no rate yet");
        let first = flows.share(0, capacity);
        assert_eq!((first.len(), first[0].at, flows.is_changed()), (1, SECOND, false));
        flows.begin(SECOND / 2, (2, 0), (0, 2), 1_000, capacity);
        let both = flows.share(SECOND / 2, capacity);
        let ends: Vec<_> = both.iter().map(|it| (it.way, it.at)).collect();
        assert_eq!(ends, [((1, 0), SECOND * 3 / 2), ((2, 0), SECOND * 5 / 2)]);
        assert!(!flows.is_newest((1, 0), first[0].version));
        assert!(flows.is_newest((1, 0), both[0].version));
        flows.end((1, 0));
        let left = flows.share(SECOND * 3 / 2, capacity);
        assert_eq!((left.len(), left[0].at), (1, SECOND * 2));
        flows.end((2, 0));
        assert!(flows.share(SECOND * 2, capacity).is_empty());
        let is_empty =
            flows.places.iter().all(Option::is_none) && flows.up.iter().all(|up| up.flows.is_empty());
        assert!(!flows.is_active((2, 0)) && is_empty);
    }
}
