//! What a run reached: how often each kind of thing happened, by the name of a marker.
//!
//! A run that reaches something which no run before it reached is worth more than one that does the same again; see
//! [`crate::explore`].

use std::collections::BTreeMap;

use ggen_marketplace::network::{Event, Lookup};
use libp2p::multiaddr::Protocol;

use crate::{
    ledger::{Ended, Ledger},
    report::FaultReport,
    scenario::Scenario,
};

/// Counts by marker.
pub type Markers = BTreeMap<String, u64>;

/// The markers of what nodes tell, in the order of their names. What faults, adversaries and steps come to has markers besides.
pub const OF_NODES: [&str; 22] = [
    "announcement ignored or refused",
    "announcement passed over unread",
    "announcement taken",
    "announcement to nobody",
    "blocks served",
    "clock told",
    "connected",
    "connected over a relay",
    "disconnected",
    "forged heads",
    "head request answered",
    "heads listed",
    "introduction looked at",
    "lookup answered",
    "lookup answered in part",
    "lookup unanswered",
    "peer refused",
    "provider claimed",
    "record kept",
    "reunited",
    "twin met",
    "unreachable",
];

/// The marker of what a node tells, where it has one.
pub(crate) fn of(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Connected { dialled: Some(address), .. }
            if address.iter().any(|it| it == Protocol::P2pCircuit) =>
        {
            "connected over a relay"
        }
        Event::Connected { .. } => "connected",
        Event::Disconnected { .. } => "disconnected",
        Event::Unreachable { .. } => "unreachable",
        Event::Reunited { .. } => "reunited",
        Event::Greeted { .. } => "clock told",
        Event::Twin { .. } => "twin met",
        Event::ForgedHeads { .. } => "forged heads",
        Event::Served { .. } => "blocks served",
        Event::Claimed { .. } => "provider claimed",
        Event::Introduced { .. } => "introduction looked at",
        Event::Read { .. } => "head request answered",
        Event::Announced { is_taken: true, .. } => "announcement taken",
        Event::Announced { is_checked: false, .. } => "announcement passed over unread",
        Event::Announced { .. } => "announcement ignored or refused",
        Event::Announcing { peers: 0, .. } => "announcement to nobody",
        Event::Kept { .. } => "record kept",
        Event::Refused { .. } => "peer refused",
        Event::Listed { .. } => "heads listed",
        Event::LookedUp(Lookup { successes: 0, .. }) => "lookup unanswered",
        Event::LookedUp(Lookup { failures: 0, .. }) => "lookup answered",
        Event::LookedUp(_) => "lookup answered in part",
        _ => return None,
    })
}

/// All markers of a run that ended.
pub(crate) fn markers(scenario: &Scenario, ledger: &Ledger, faults: &[FaultReport]) -> Markers {
    let mut markers: Markers =
        ledger.reached.iter().map(|(marker, count)| ((*marker).to_owned(), *count)).collect();
    let mut add = |marker: String, count: u64| {
        if count > 0 {
            *markers.entry(marker).or_default() += count;
        }
    };
    for fault in faults {
        add(format!("bite of {}", fault.kind), fault.bites as u64);
    }
    for (number, step) in scenario.steps.iter().enumerate() {
        let verb = step.action.verb();
        match ledger.ended.get(&number) {
            Some(Ended::Failed { code, .. }) => add(format!("{verb} failed with {code}"), 1),
            Some(Ended::Found { hidden, because, .. }) => {
                add(format!("{verb} succeeded"), 1);
                add("search hides packages".to_owned(), *hidden as u64);
                add("search said to be incomplete".to_owned(), u64::from(!because.is_empty()));
            }
            Some(Ended::Installed { overdue: true, .. }) => {
                add("install of an overdue package".to_owned(), 1)
            }
            Some(_) => add(format!("{verb} succeeded"), 1),
            None => add(format!("{verb} did not end"), 1),
        }
    }
    markers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_in_order_and_each_is_told_once() {
        assert!(OF_NODES.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn a_connection_over_a_relay_is_not_any_connection() {
        let peer = libp2p::PeerId::random();
        let over = |address: Option<&str>| {
            of(&Event::Connected { peer, dialled: address.map(|it| it.parse().unwrap()) })
        };
        assert_eq!(over(Some("/ip4/10.0.0.1/tcp/1")), Some("connected"));
        assert_eq!(over(Some("/ip4/10.0.0.1/tcp/1/p2p-circuit")), Some("connected over a relay"));
        assert_eq!(over(None), Some("connected"));
        assert_eq!(of(&Event::Asked), None);
    }
}
