//! Whom a node lacks: company, a way into the network, or, for a spoke, hubs to hold on to.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{
    network::{KAD_PROTOCOL, PeerSnapshot, Snapshot},
    peers::{redial::Need, trim::HUBS_KEPT},
};

/// How long a dial keeps others waiting for their turn: a hub that can be reached has answered by then.
const TURN: Duration = Duration::from_secs(3);

/// What a node lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lack {
    /// Connections: one where a node is alone, and for a spoke as many hubs as it keeps.
    pub(super) connections: usize,
    /// Whether a node with a configuration that names others has none of those. A peer that says that it serves the DHT may say so
    /// only to hold a spoke captive; a spoke that looks for the hubs it was told of is not held. Others may be an island.
    pub(super) entry_point: bool,
}

impl Lack {
    /// Nothing is known of the network, or everything is there.
    pub(super) const NOTHING: Self = Self { connections: 0, entry_point: false };

    /// What a node of any role but a spoke's lacks: somebody to ask for others. Peers that do not serve the DHT do not count, nor
    /// does a routing table whose peers are all gone: libp2p keeps them there until others want their places.
    pub(super) fn of_node(is_told: bool, snapshot: &Snapshot) -> Self {
        let routes = snapshot.buckets.iter().sum::<usize>();
        let is_alone = routes == 0 || !snapshot.peers.iter().any(serves);
        Self { connections: usize::from(is_alone), entry_point: lacks_entry_point(is_told, snapshot) }
    }

    /// What a spoke lacks; `is_told` is whether its configuration names entry points.
    pub(super) fn of_spoke(is_told: bool, snapshot: &Snapshot) -> Self {
        let hubs = snapshot.peers.iter().filter(|peer| is_hub(peer)).count();
        let entry_point = lacks_entry_point(is_told, snapshot);
        Self { connections: HUBS_KEPT.saturating_sub(hubs), entry_point }
    }

    /// How many more connections are wanted: with only hubs of unknown intent, at least one.
    pub(super) fn wanted(self) -> usize {
        self.connections.max(usize::from(self.entry_point))
    }

    /// Which of the addresses that it knows a node tries.
    pub(super) fn need(self, is_spoke: bool) -> Need {
        match self {
            Self { connections: 0, entry_point: false } => Need::Nothing,
            Self { connections: 0, .. } if !is_spoke => Need::Entrance,
            _ => Need::Company,
        }
    }
}

/// The dials of a spoke that are in progress: since when, and whether to an address of the configuration.
#[derive(Debug, Default)]
pub(super) struct InProgress(BTreeMap<Multiaddr, (Duration, bool)>);

impl InProgress {
    pub(super) fn begun(&mut self, address: Multiaddr, is_entry_point: bool, now: Duration) {
        self.0.insert(address, (now, is_entry_point));
    }

    pub(super) fn ended(&mut self, address: &Multiaddr) {
        self.0.remove(address);
    }

    /// Until when an address has to wait for its turn; nothing where it may be dialled now.
    ///
    /// No more are dialled than are lacked. An address of the configuration waits only for others of the configuration
    /// while none of those is connected. One that does not answer within [`TURN`] keeps nobody waiting any longer.
    pub(super) fn wait(&self, lack: Lack, is_entry_point: bool, now: Duration) -> Option<Duration> {
        let is_first = lack.entry_point && is_entry_point;
        let places = if is_first { HUBS_KEPT } else { lack.connections };
        let over = self.0.values().filter(|(_, to_entry_point)| !is_first || *to_entry_point);
        let mut over: Vec<Duration> =
            over.map(|(since, _)| since.saturating_add(TURN)).filter(|over| *over > now).collect();
        if over.len() < places {
            return None;
        }
        over.sort();
        let place = over.len() - places;
        Some(over.get(place).copied().unwrap_or(now.saturating_add(TURN)))
    }
}

/// Whether a node of any role but a spoke's leaves an address alone although its routing table is empty: it has company, and
/// the address is that of a peer that is connected, or of one of earlier days, which may serve the DHT as little.
pub(super) fn is_idle(snapshot: &Snapshot, is_entry_point: bool, address: &Multiaddr) -> bool {
    let has_company = !snapshot.peers.is_empty();
    has_company && (!is_entry_point || snapshot.peers.iter().any(|peer| is_at(peer, address)))
}

fn is_at(peer: &PeerSnapshot, address: &Multiaddr) -> bool {
    match address.iter().last() {
        Some(Protocol::P2p(named)) => named == peer.peer,
        _ => peer.addresses.contains(address),
    }
}

/// Whether an address is that of a hub that is connected: what a peer says of its addresses is not believed while no hub of
/// the configuration is there.
pub(super) fn is_held(snapshot: &Snapshot, lack: Lack, is_entry_point: bool, address: &Multiaddr) -> bool {
    let mut hubs = snapshot.peers.iter().filter(|peer| is_hub(peer));
    !(lack.entry_point && is_entry_point) && hubs.any(|peer| is_at(peer, address))
}

/// As the loop sees it: one of the configuration, or one that this node chose and that serves the DHT.
fn is_hub(peer: &PeerSnapshot) -> bool {
    peer.is_entry_point || peer.outbound && serves(peer)
}

fn serves(peer: &PeerSnapshot) -> bool {
    peer.protocols.iter().any(|protocol| protocol == KAD_PROTOCOL)
}

fn lacks_entry_point(is_told: bool, snapshot: &Snapshot) -> bool {
    is_told && !snapshot.peers.iter().any(|peer| peer.is_entry_point)
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn peer(n: usize) -> PeerSnapshot {
        PeerSnapshot {
            addresses: vec![address(n)],
            protocols: vec![KAD_PROTOCOL.to_owned()],
            ..PeerSnapshot::dialled(id(n))
        }
    }

    fn id(n: usize) -> PeerId {
        let hash = libp2p::multihash::Multihash::wrap(0, &n.to_be_bytes()).unwrap();
        PeerId::from_multihash(hash).unwrap()
    }

    fn address(n: usize) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{}", 1 + n).parse().unwrap()
    }

    #[test]
    fn a_spoke_lacks_hubs_and_every_other_node_somebody_in_its_routing_table() {
        let mut snapshot = Snapshot::default();
        let lacked = |snapshot: &Snapshot| {
            (Lack::of_node(false, snapshot).wanted(), Lack::of_spoke(false, snapshot).wanted())
        };
        assert_eq!(lacked(&snapshot), (1, HUBS_KEPT));
        // A peer that only connects and says that it serves the DHT is no hub, nor is another spoke.
        snapshot.peers.push(PeerSnapshot { outbound: false, ..peer(1) });
        snapshot.peers.push(PeerSnapshot { protocols: Vec::new(), ..peer(2) });
        assert_eq!(lacked(&snapshot), (1, HUBS_KEPT));
        snapshot.buckets = vec![1];
        assert_eq!(lacked(&snapshot), (0, HUBS_KEPT));
        snapshot.peers.remove(0);
        assert_eq!(lacked(&snapshot), (1, HUBS_KEPT), "the peer in the table is gone");
        snapshot.peers.push(peer(3));
        snapshot.peers.push(PeerSnapshot { protocols: Vec::new(), is_entry_point: true, ..peer(4) });
        assert_eq!(lacked(&snapshot).1, HUBS_KEPT - 2);
    }

    #[test]
    fn a_spoke_that_only_strangers_hold_still_wants_a_hub_of_its_configuration() {
        let mut snapshot = Snapshot { peers: (0..HUBS_KEPT).map(peer).collect(), ..Snapshot::default() };
        let lack = Lack::of_spoke(true, &snapshot);
        assert_eq!((lack.connections, lack.entry_point, lack.wanted()), (0, true, 1));
        assert_eq!(Lack::of_spoke(false, &snapshot), Lack::NOTHING, "it was told of none");
        snapshot.peers.push(PeerSnapshot { is_entry_point: true, ..peer(HUBS_KEPT) });
        assert_eq!(Lack::of_spoke(true, &snapshot), Lack::NOTHING);
    }

    #[test]
    fn a_node_in_company_looks_for_an_entrance_that_its_configuration_names() {
        let mut snapshot = Snapshot { peers: vec![peer(1)], buckets: vec![1], ..Snapshot::default() };
        let need = |snapshot: &Snapshot, is_told| Lack::of_node(is_told, snapshot).need(false);
        assert_eq!((need(&snapshot, false), need(&snapshot, true)), (Need::Nothing, Need::Entrance));
        let captive = Lack { connections: 0, entry_point: true };
        assert_eq!(captive.need(true), Need::Company, "a spoke tries the hubs of earlier days too");
        snapshot.peers.push(PeerSnapshot { is_entry_point: true, ..peer(2) });
        assert_eq!(need(&snapshot, true), Need::Nothing);
        snapshot.peers.clear();
        assert_eq!((need(&snapshot, false), need(&snapshot, true)), (Need::Company, Need::Company));
    }

    #[test]
    fn a_node_among_clients_dials_only_those_of_its_list_that_are_not_there() {
        let mut snapshot = Snapshot::default();
        assert!(!is_idle(&snapshot, false, &address(1)), "it is alone");
        snapshot.peers.push(PeerSnapshot { protocols: Vec::new(), ..peer(1) });
        let named = address(2).with(Protocol::P2p(id(1)));
        assert!(is_idle(&snapshot, true, &address(1)) && is_idle(&snapshot, true, &named));
        assert!(!is_idle(&snapshot, true, &address(2)));
        assert!(is_idle(&snapshot, false, &address(2)), "of earlier days");
    }

    #[test]
    fn an_address_that_does_not_answer_keeps_others_waiting_for_a_moment_only() {
        let (lack, start) = (Lack { connections: 1, entry_point: false }, Duration::from_secs(100));
        let mut in_progress = InProgress::default();
        assert_eq!(in_progress.wait(lack, false, start), None);
        in_progress.begun(address(1), false, start);
        assert_eq!(in_progress.wait(lack, false, start), Some(start + TURN));
        assert_eq!(in_progress.wait(lack, false, start + TURN), None);
        in_progress.ended(&address(1));
        assert_eq!(in_progress.wait(lack, false, start), None);
        assert_eq!(in_progress.wait(Lack::NOTHING, false, start), Some(start + TURN), "nothing is lacked");
    }

    #[test]
    fn addresses_of_the_configuration_wait_for_each_other_only() {
        let (lack, start) = (Lack { connections: 0, entry_point: true }, Duration::from_secs(100));
        let mut in_progress = InProgress::default();
        (10..20).for_each(|n| in_progress.begun(address(n), false, start));
        for n in 0..HUBS_KEPT {
            assert_eq!(in_progress.wait(lack, true, start), None, "{n} of them are dialled");
            in_progress.begun(address(n), true, start);
        }
        assert_eq!(in_progress.wait(lack, true, start), Some(start + TURN));
        assert_eq!(in_progress.wait(lack, true, start + TURN), None);
        assert!(in_progress.wait(lack, false, start + TURN).is_some(), "strangers are not wanted");
    }

    #[test]
    fn a_hub_that_is_connected_is_known_by_its_id_or_its_address() {
        let snapshot = Snapshot { peers: vec![peer(3)], ..Snapshot::default() };
        let held = |address: &Multiaddr| is_held(&snapshot, Lack::NOTHING, true, address);
        assert!(held(&address(3)));
        assert!(held(&address(9).with(Protocol::P2p(id(3)))));
        assert!(!held(&address(9)));
        assert!(!held(&address(3).with(Protocol::P2p(id(4)))));
        let captive = Lack::of_spoke(true, &snapshot);
        assert!(!is_held(&snapshot, captive, true, &address(3)), "so a stranger says");
        assert!(is_held(&snapshot, captive, false, &address(3)));
    }
}
