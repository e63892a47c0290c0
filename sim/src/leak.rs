//! Leaks on purpose: what would make a run differ from process to process, let in to see that it is noticed.
//!
//! Each delays the start of the nodes by what the real world says, so that it shows only in what the nodes then do, as a
//! leak would that nobody meant. Behind a switch that is not shown.

use std::{
    collections::HashMap,
    hash::RandomState,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Delays differ by less than this.
const DELAY_MAX_MILLIS: u64 = 5_000;
/// Keys of the map whose order leaks.
const KEYS: u64 = 32;

/// A way for the real world into a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leak {
    /// The clock of another thread, which is real.
    Clock,
    /// The order of a map that was seeded on another thread.
    Map,
    /// How far another thread has come.
    Thread,
}

impl Leak {
    /// One delay for each node.
    pub(crate) fn delays(self, nodes: usize) -> Vec<Duration> {
        let drops = match self {
            Self::Clock => (0..nodes).map(|_| real_nanos()).collect(),
            Self::Map => order(nodes),
            Self::Thread => progress(nodes),
        };
        drops.into_iter().map(|drop| Duration::from_millis(drop % DELAY_MAX_MILLIS)).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the leak")]
fn real_nanos() -> u64 {
    let real = thread::spawn(std::time::SystemTime::now).join().ok();
    let since = real.and_then(|real| real.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    since.as_micros() as u64
}

fn order(nodes: usize) -> Vec<u64> {
    let seeded = thread::spawn(RandomState::new).join().unwrap_or_default();
    let map: HashMap<u64, (), _> =
        (0..KEYS).map(|key| (key, ())).fold(HashMap::with_hasher(seeded), |mut map, (key, value)| {
            map.insert(key, value);
            map
        });
    let order: Vec<u64> = map.into_keys().collect();
    let fold = |from: usize| order[from..].iter().fold(0u64, |sum, key| sum.wrapping_mul(KEYS + 1) + key);
    (0..nodes).map(|node| fold(node % order.len().max(1) / 2)).collect()
}

fn progress(nodes: usize) -> Vec<u64> {
    let (counted, is_done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let counter = {
        let (counted, is_done) = (counted.clone(), is_done.clone());
        thread::spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // Read as a program would that waits for somebody else's work.
    let read = |_| {
        let before = counted.load(Ordering::Relaxed);
        while counted.load(Ordering::Relaxed) == before {
            thread::yield_now();
        }
        counted.load(Ordering::Relaxed)
    };
    let read = (0..nodes).map(read).collect();
    is_done.store(true, Ordering::Relaxed);
    let _ = counter.join();
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leak_says_something_else_each_time() {
        for leak in [Leak::Clock, Leak::Map, Leak::Thread] {
            let drops: Vec<_> = (0..8).map(|_| leak.delays(3)).collect();
            assert!(drops.iter().any(|drop| *drop != drops[0]), "{leak:?}");
            assert!(drops.iter().flatten().all(|delay| *delay < Duration::from_millis(DELAY_MAX_MILLIS)));
        }
    }
}
