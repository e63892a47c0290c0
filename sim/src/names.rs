//! Names that lead to simulated hosts, as a name server would know them, and that may lead elsewhere later.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ggen_harness::transport::Resolve;

/// The names of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Where each name leads, and by which events and faults, the last of which counts.
    led: BTreeMap<String, (IpAddr, Vec<Move>)>,
    /// The faults whose answers were given.
    asked: Vec<usize>,
}

#[derive(Debug)]
struct Move {
    event: usize,
    fault: usize,
    to: IpAddr,
}

impl Names {
    pub(crate) fn new(names: impl IntoIterator<Item = (String, IpAddr)>) -> Self {
        let led = names.into_iter().map(|(name, to)| (name, (to, Vec::new()))).collect();
        Self(Arc::new(Mutex::new(Known { led, asked: Vec::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name leads to another host, as an event of a fault has it.
    pub(crate) fn move_to(&self, name: &str, event: usize, fault: usize, to: IpAddr) {
        if let Some((_, moves)) = self.lock().led.get_mut(name) {
            moves.push(Move { event, fault, to });
        }
    }

    /// What an event did to a name is undone.
    pub(crate) fn move_back(&self, name: &str, event: usize) {
        if let Some((_, moves)) = self.lock().led.get_mut(name) {
            moves.retain(|it| it.event != event);
        }
    }

    /// The faults whose answers were given since this was asked last, once for each answer.
    pub(crate) fn take_asked(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().asked)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> Option<IpAddr> {
        let mut known = self.lock();
        let (first, moves) = known.led.get(name)?;
        let (to, by) = moves.last().map_or((*first, None), |last| (last.to, Some(last.fault)));
        known.asked.extend(by);
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_where_the_last_event_says_that_is_not_undone() {
        let [home, first, second] = [1, 2, 3].map(|n| IpAddr::from([10, 0, 0, n]));
        let names = Names::new([("hub.example".to_owned(), home)]);
        let resolve = || names.resolve("hub.example").unwrap();
        assert_eq!((resolve(), names.take_asked()), (home, vec![]));
        names.move_to("hub.example", 5, 0, first);
        names.move_to("hub.example", 6, 1, second);
        assert_eq!((resolve(), names.take_asked()), (second, vec![1]));
        names.move_back("hub.example", 6);
        assert_eq!((resolve(), names.take_asked()), (first, vec![0]));
        names.move_back("hub.example", 5);
        assert_eq!((resolve(), names.take_asked()), (home, vec![]));
        assert_eq!(names.resolve("other.example"), None);
    }
}
