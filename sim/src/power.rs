//! The power of machines with a disk in files: when it fails, and what is there afterwards.
//!
//! A node works in no simulated time: between two ticks everything that it was to write is written and synced, and a power cut
//! there would find nothing half-done. So the power fails at a drawn number of things that the node does with its disk from the
//! time of the fault on, or as soon after it as something is not synced; where nothing of that kind happens the machine stops after
//! a while all the same. The disk dies first, and the machine at the
//! end of the same tick: until then the node sees errors, and whatever it does there it must not say that it succeeded.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use ggen_marketplace::time::Timestamp;

use crate::{
    disk::{Disk, Error},
    draw::Draws,
    host::PlannedStep,
    judge::{self, Fact},
    ledger::Shared,
    plan::{Deed, Event},
    scenario::{Action, Scenario},
};

/// Things that a node may still do with its disk are drawn below one of these: a publication takes one or two hundred, and a
/// row in the books a handful.
const OPERATIONS_MAX: [u64; 4] = [8, 32, 96, 240];
/// The power fails after this time, where the node does less.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// The power cuts that are about to happen.
#[derive(Debug, Default)]
pub(crate) struct Power {
    /// By number of the event: when the power fails at the latest.
    failing: BTreeMap<usize, Duration>,
}

/// The nodes of the sites that an event stops.
pub(crate) fn nodes_of(scenario: &Scenario, event: &Event) -> Vec<usize> {
    let Deed::Stop { sites, .. } = &event.deed else { return Vec::new() };
    sites.iter().flat_map(|site| scenario.nodes_at(*site)).collect()
}

impl Power {
    /// Takes over an event that is a power cut of a node with its disk in files; false for any other.
    pub(crate) fn takes(
        &mut self,
        number: usize,
        event: &Event,
        (scenario, draws): (&Scenario, Draws),
        disks: &[Rc<Disk>],
    ) -> bool {
        if !matches!(event.deed, Deed::Stop { is_silent: true, disk: true, .. }) {
            return false;
        }
        let mut is_taken = false;
        for node in nodes_of(scenario, event) {
            let Some(drive) = disks[node].drive() else { continue };
            let key = &scenario.faults[event.fault].key;
            let key = format!("{key} {:?} {}", event.at, scenario.nodes[node].name);
            let most = draws.below(OPERATIONS_MAX.len() as u64, "power-fails", &key, 0);
            let most = OPERATIONS_MAX[usize::try_from(most).unwrap_or_default()];
            drive.kill_after(draws.below(most, "power-fails", &key, 1));
            is_taken = true;
        }
        if is_taken {
            let linger = LINGER_MAX.min(event.until.saturating_sub(event.at) / 2);
            self.failing.insert(number, event.at + linger);
        }
        is_taken
    }

    /// The events whose machines stop now.
    pub(crate) fn fails(
        &mut self,
        now: Duration,
        events: &[Event],
        scenario: &Scenario,
        disks: &[Rc<Disk>],
    ) -> Vec<usize> {
        let is_over = |(number, latest): &(&usize, &Duration)| {
            let nodes = nodes_of(scenario, &events[**number]);
            **latest <= now || nodes.iter().any(|node| disks[*node].is_dead())
        };
        let over: Vec<usize> = self.failing.iter().filter(is_over).map(|(number, _)| *number).collect();
        self.failing.retain(|number, _| !over.contains(number));
        over
    }
}

/// What a node finds when it starts again after a crash, or after a power cut.
pub(crate) fn recover(
    disk: &Disk,
    (node, name): (usize, &str),
    is_power_cut: bool,
    installs: &[PlannedStep],
    ledger: &Shared,
    (at, now): (Duration, Timestamp),
) -> Result<(), Error> {
    if !is_power_cut {
        if let Some(opened) = disk.reopen(now)? {
            ledger.lock().tell(opened);
        }
        return Ok(());
    }
    let Some((opened, losses)) = disk.cut_power(now)? else { return Ok(()) };
    let mut ledger = ledger.lock();
    ledger.counts.writes_lost += losses.lost;
    ledger.counts.pages_torn += losses.torn;
    let what = format!("power cut at {name}, {} pages lost and {} torn", losses.lost, losses.torn);
    ledger.record_world(at, what);
    ledger.tell(opened);
    stands(node, installs).for_each(|fact| ledger.tell(fact));
    Ok(())
}

/// What stands where a node was to install.
pub(crate) fn stands(node: usize, installs: &[PlannedStep]) -> impl Iterator<Item = Fact> {
    let there = installs.iter().filter(|step| step.folder.exists());
    there.map(move |step| {
        // What cannot be read is not what was published either.
        let tree = judge::tree_digest(&step.folder).unwrap_or_default();
        Fact::Stands { step: step.number, node, tree }
    })
}

/// The steps of a node that install something.
pub(crate) fn installs(steps: impl Iterator<Item = PlannedStep>) -> Vec<PlannedStep> {
    steps.filter(|step| matches!(step.action, Action::Install { .. })).collect()
}
