//! What goes wrong on links that stand: segments that are lost, and links that carry little.
//!
//! A byte stream asks before it writes. Nothing is ever missing from one: TCP sends again what was lost, when a while has passed,
//! and what is behind waits for it. Without selective acknowledgement or fast retransmission each loss costs that while, so
//! that connections here are worse off than those of a modern system at the same rate of loss.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ggen_harness::transport::{Gate, Passage};

use crate::{draw::Draws, ledger::Shared};

/// Bytes that a segment has at most, as over Ethernet.
const SEGMENT_BYTES_MAX: usize = 1_400;
/// How long a segment waits for its acknowledgement before it is sent again, besides a round trip: the least that Linux waits.
const RESEND: Duration = Duration::from_millis(200);
/// Times that one segment is lost at most: the waits double, and a connection that waits longer is given up anyway.
const LOSSES_MAX: u32 = 6;

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Segments are lost.
    Loss {
        /// How many of a hundred.
        percent: u64,
    },
    /// It carries little, each way.
    Throttle {
        /// Bytes a second.
        bytes_per_second: u64,
    },
}

/// Knows the troubles of every link. All nodes and the world hold it, on one thread; nobody ever waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Weather(Arc<Mutex<Sky>>);

#[derive(Debug)]
struct Sky {
    draws: Draws,
    ledger: Shared,
    tick: Duration,
    /// By link, the smaller address first, and event.
    troubles: BTreeMap<(IpAddr, IpAddr), BTreeMap<usize, Bad>>,
    /// From one address to another.
    ways: BTreeMap<(IpAddr, IpAddr), Way>,
}

#[derive(Debug)]
struct Bad {
    fault: usize,
    trouble: Trouble,
    round_trip: Duration,
}

#[derive(Debug, Default)]
struct Way {
    /// How many segments were drawn for.
    segments: u64,
    /// When everything that was written has left.
    free: Duration,
}

impl Weather {
    /// Nothing is wrong anywhere. Time moves in ticks, so that what leaves within one may leave at once.
    pub(crate) fn new(draws: Draws, ledger: Shared, tick: Duration) -> Self {
        let (troubles, ways) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Sky { draws, ledger, tick, troubles, ways })))
    }

    /// Something begins to be wrong with a link.
    pub(crate) fn begin(
        &self,
        event: usize,
        fault: usize,
        link: (IpAddr, IpAddr),
        trouble: Trouble,
        round_trip: Duration,
    ) {
        let mut sky = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sky.troubles.entry(sorted(link)).or_default().insert(event, Bad { fault, trouble, round_trip });
    }

    /// It is over.
    pub(crate) fn end(&self, event: usize, link: (IpAddr, IpAddr)) {
        let mut sky = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(troubles) = sky.troubles.get_mut(&sorted(link)) {
            troubles.remove(&event);
        }
        sky.troubles.retain(|_, troubles| !troubles.is_empty());
    }
}

impl Gate for Weather {
    fn ask(&self, way: (IpAddr, IpAddr), now: Duration, bytes: usize, losses: u32) -> Passage {
        let mut sky = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Sky { draws, ledger, tick, troubles, ways } = &mut *sky;
        let Some(troubles) = troubles.get(&sorted(way)) else { return Passage::Now(bytes) };
        let state = ways.entry(way).or_default();
        let bytes = bytes.min(SEGMENT_BYTES_MAX);
        let throttles = troubles.values().filter_map(|bad| match bad.trouble {
            Trouble::Throttle { bytes_per_second } => Some((bytes_per_second, bad.fault)),
            Trouble::Loss { .. } => None,
        });
        if let Some((bytes_per_second, fault)) = throttles.min() {
            let busy = state.free.saturating_sub(now + *tick);
            if !busy.is_zero() {
                ledger.lock().bite(fault, 1);
                return Passage::Busy(busy);
            }
            let nanos = bytes as u64 * 1_000_000_000 / bytes_per_second;
            state.free = state.free.max(now) + Duration::from_nanos(nanos);
        }
        for bad in troubles.values() {
            let Trouble::Loss { percent } = bad.trouble else { continue };
            state.segments += 1;
            let name = format!("{}>{}", way.0, way.1);
            if losses < LOSSES_MAX && draws.below(100, "loss", &name, state.segments) < percent {
                ledger.lock().bite(bad.fault, 1);
                return Passage::Lost((RESEND + bad.round_trip) * 2_u32.pow(losses));
            }
        }
        Passage::Now(bytes)
    }
}

fn sorted((one, other): (IpAddr, IpAddr)) -> (IpAddr, IpAddr) {
    (one.min(other), one.max(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::ip;

    const SECOND: Duration = Duration::from_secs(1);

    fn weather() -> (Weather, Shared) {
        let ledger = Shared::new(Vec::new(), BTreeMap::new(), crate::trace::Lines::default());
        (Weather::new(Draws::new(1), ledger.clone(), Duration::from_millis(1)), ledger)
    }

    fn bites(ledger: &Shared) -> usize {
        ledger.lock().bites.get(&7).copied().unwrap_or_default()
    }

    #[test]
    fn a_throttled_link_carries_so_much_each_way_and_no_more() {
        let (weather, ledger) = weather();
        let (there, back, elsewhere) = ((ip(0), ip(1)), (ip(1), ip(0)), (ip(0), ip(2)));
        weather.begin(0, 7, back, Trouble::Throttle { bytes_per_second: 1_000 }, SECOND);
        assert_eq!(weather.ask(there, SECOND, 500, 0), Passage::Now(500));
        assert_eq!(bites(&ledger), 0, "nobody has waited");
        let Passage::Busy(wait) = weather.ask(there, SECOND, 500, 0) else { panic!("it is busy") };
        assert_eq!(
            wait,
            Duration::from_millis(499),
            "a tick early: what leaves within one may leave at once"
        );
        assert_eq!(bites(&ledger), 1);
        assert_eq!(weather.ask(back, SECOND, 5_000, 0), Passage::Now(SEGMENT_BYTES_MAX));
        assert_eq!(weather.ask(elsewhere, SECOND, 5_000, 0), Passage::Now(5_000));
        assert_eq!(weather.ask(there, SECOND + wait, 500, 0), Passage::Now(500));
        weather.end(0, there);
        assert_eq!(weather.ask(there, SECOND, 5_000, 0), Passage::Now(5_000));
    }

    #[test]
    fn of_a_hundred_segments_so_many_are_lost_and_wait_longer_each_time() {
        let (weather, ledger) = weather();
        let way = (ip(0), ip(1));
        weather.begin(0, 7, way, Trouble::Loss { percent: 30 }, SECOND);
        let lost = |losses| {
            let asked = (0..1_000).map(|_| weather.ask(way, SECOND, 100, losses));
            asked.filter(|it| *it != Passage::Now(100)).collect::<Vec<_>>()
        };
        let first = lost(0);
        assert!((250..350).contains(&first.len()), "{}", first.len());
        assert_eq!(bites(&ledger), first.len());
        assert!(first.iter().all(|it| *it == Passage::Lost(Duration::from_millis(1_200))));
        assert!(lost(2).iter().all(|it| *it == Passage::Lost(Duration::from_millis(4_800))));
        assert!(lost(LOSSES_MAX).is_empty(), "at last it arrives");
    }
}
