//! Feeds the judge: reads the stores of the nodes at regular intervals of simulated time, and hands on the facts.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use ggen_marketplace::{store, time::Timestamp};
use libp2p::PeerId;

use super::{Case, Judge, View, view};
use crate::{disk::Disk, ledger::Shared, report::Invariant, virtualise};

/// Simulated time between two looks at the stores.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches a run for the judge.
pub(crate) struct Watch {
    judge: Judge,
    peers: BTreeMap<PeerId, usize>,
    /// Per node, the publications that were read already.
    known: Vec<BTreeSet<(String, String)>>,
    heads: view::Heads,
    next: Duration,
}

impl Watch {
    pub(crate) fn new(case: Case, peers: BTreeMap<PeerId, usize>) -> Self {
        let known = vec![BTreeSet::new(); case.members.len()];
        Self { judge: Judge::new(case), peers, known, heads: view::Heads::new(), next: INTERVAL }
    }

    /// Looks, where it is time to.
    pub(crate) fn tick(
        &mut self,
        now: Duration,
        ledger: &Shared,
        disks: &[Rc<Disk>],
    ) -> Result<(), store::Error> {
        if now >= self.next {
            self.next = now + INTERVAL;
            let views = self.views(now, disks)?;
            ledger.lock().tell_streams(now);
            self.hear(ledger);
            self.judge.look(now, &views);
        }
        Ok(())
    }

    /// Looks for the last time, and gives the verdicts.
    pub(crate) fn finish(
        mut self,
        now: Duration,
        ledger: &Shared,
        disks: &[Rc<Disk>],
        idle: Vec<String>,
        shortcomings: &[(usize, String)],
        metrics: &mut BTreeMap<String, f64>,
    ) -> Result<Vec<Invariant>, store::Error> {
        let views = self.views(now, disks)?;
        self.hear(ledger);
        Ok(self.judge.finish(now, &views, idle, shortcomings, metrics))
    }

    fn hear(&mut self, ledger: &Shared) {
        let facts = ledger.lock().take_facts();
        for (at, fact) in facts {
            self.judge.hear(at, &fact);
        }
    }

    fn views(&mut self, now: Duration, disks: &[Rc<Disk>]) -> Result<Vec<View>, store::Error> {
        let now = Timestamp::from_secs((virtualise::EPOCH + now).as_secs());
        let disks = disks.iter().zip(&mut self.known);
        disks
            .map(|(disk, known)| view::read(&disk.store(), &self.peers, &mut self.heads, known, now))
            .collect()
    }
}
