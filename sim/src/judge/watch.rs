//! Feeds the judge: reads the stores of the nodes at regular intervals of simulated time, and hands on the facts.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use ggen_marketplace::store;
use libp2p::PeerId;

use super::{Case, Judge, Judged, View, Whose, view};
use crate::{
    disk::Disk,
    ledger::{Ledger, Shared},
    report::{Finding, Invariant, Scene},
};

/// Simulated time between two looks at the stores, at least.
const INTERVAL: Duration = Duration::from_secs(1);
/// Ticks between two looks, at least: whoever moves the time coarsely wants a long run, of which looking is most of the cost.
const INTERVAL_TICKS: u32 = 100;

/// Watches a run for the judge.
pub(crate) struct Watch {
    judge: Judge,
    peers: BTreeMap<PeerId, usize>,
    /// Per node, the publications that were read already.
    known: Vec<BTreeSet<(String, String)>>,
    heads: view::Heads,
    interval: Duration,
    next: Duration,
}

impl Watch {
    pub(crate) fn new(case: Case, peers: BTreeMap<PeerId, usize>, tick: Duration) -> Self {
        let known = vec![BTreeSet::new(); case.members.len()];
        let interval = INTERVAL.max(tick * INTERVAL_TICKS);
        let (judge, heads) = (Judge::new(case), view::Heads::new());
        Self { judge, peers, known, heads, interval, next: interval }
    }

    /// Looks, where it is time to.
    pub(crate) fn tick(
        &mut self,
        now: Duration,
        ledger: &Shared,
        disks: &[Rc<Disk>],
    ) -> Result<(), store::Error> {
        if now >= self.next {
            self.next = now + self.interval;
            let views = self.views(disks)?;
            ledger.lock().tell_streams(now);
            self.hear(ledger);
            self.judge.look(now, &views);
            let ledger = ledger.lock();
            for (finding, whose) in self.judge.open() {
                if let Whose::Node(node) = *whose {
                    finding.scene = Some(scene(&ledger, node, &views[node]));
                    *whose = Whose::Nobodys;
                }
            }
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
    ) -> Result<(Vec<Invariant>, Vec<Finding>), store::Error> {
        let views = self.views(disks)?;
        self.hear(ledger);
        let Judged { invariants, findings } = self.judge.finish(now, &views, idle, shortcomings, metrics);
        let ledger = ledger.lock();
        let told = findings.into_iter().map(|(mut finding, whose)| {
            match whose {
                Whose::Node(node) => finding.scene = Some(scene(&ledger, node, &views[node])),
                Whose::Step(step) => {
                    if let Some((at, scene)) = ledger.at_end.get(&step) {
                        finding.at_secs = Some(at.as_secs_f64());
                        finding.scene = Some(scene.clone());
                    }
                }
                Whose::Nobodys => {}
            }
            finding
        });
        Ok((invariants, told.collect()))
    }

    fn hear(&mut self, ledger: &Shared) {
        let facts = ledger.lock().take_facts();
        for (at, fact) in facts {
            self.judge.hear(at, &fact);
        }
    }

    fn views(&mut self, disks: &[Rc<Disk>]) -> Result<Vec<View>, store::Error> {
        let disks = disks.iter().zip(&mut self.known);
        disks.map(|(disk, known)| view::read(&disk.store(), &self.peers, &mut self.heads, known)).collect()
    }
}

/// What a node knows now, and what happened at it just before.
fn scene(ledger: &Ledger, node: usize, view: &View) -> Scene {
    Scene { lists: Some(view.catalogue.len()), ..ledger.scene(node) }
}
