//! Whom a node lacks: company, or, for a spoke, hubs to hold on to.

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{
    network::{KAD_PROTOCOL, PeerSnapshot, Snapshot},
    peers::trim::HUBS_KEPT,
};

/// What a node lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lack {
    /// Connections: one where a node is alone, and for a spoke as many hubs as it keeps.
    pub(super) connections: usize,
    /// Whether a spoke with a configuration that names hubs has none of those. Whoever says that it serves the DHT may say so
    /// only to hold a spoke captive; a spoke that looks for the hubs it was told of is not held.
    pub(super) entry_point: bool,
}

impl Lack {
    /// Nothing is known of the network, or everything is there.
    pub(super) const NOTHING: Self = Self { connections: 0, entry_point: false };

    /// What a node of any role but a spoke's lacks.
    pub(super) fn of_node(snapshot: &Snapshot) -> Self {
        Self { connections: usize::from(snapshot.peers.is_empty()), entry_point: false }
    }

    /// What a spoke lacks; `is_told` is whether its configuration names entry points.
    pub(super) fn of_spoke(is_told: bool, snapshot: &Snapshot) -> Self {
        let hubs = snapshot.peers.iter().filter(|peer| is_hub(peer)).count();
        let entry_point = is_told && !snapshot.peers.iter().any(|peer| peer.is_entry_point);
        Self { connections: HUBS_KEPT.saturating_sub(hubs), entry_point }
    }

    /// How many more connections are wanted: with only hubs of unknown intent, at least one.
    pub(super) fn wanted(self) -> usize {
        self.connections.max(usize::from(self.entry_point))
    }
}

/// Whether an address is that of a hub that is connected.
pub(super) fn is_held(snapshot: &Snapshot, address: &Multiaddr) -> bool {
    snapshot.peers.iter().filter(|peer| is_hub(peer)).any(|peer| match address.iter().last() {
        Some(Protocol::P2p(named)) => named == peer.peer,
        _ => peer.addresses.contains(address),
    })
}

/// As the loop sees it: one of the configuration, or one that this node chose and that serves the DHT.
fn is_hub(peer: &PeerSnapshot) -> bool {
    let serves = peer.protocols.iter().any(|protocol| protocol == KAD_PROTOCOL);
    peer.is_entry_point || peer.outbound && serves
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn peer(n: usize) -> PeerSnapshot {
        PeerSnapshot {
            peer: id(n),
            addresses: vec![address(n)],
            is_entry_point: false,
            outbound: true,
            round_trip: None,
            agent: None,
            protocol_version: None,
            protocols: vec![KAD_PROTOCOL.to_owned()],
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
    fn a_spoke_lacks_hubs_and_every_other_node_company() {
        let mut snapshot = Snapshot::default();
        let lacked = |snapshot: &Snapshot| {
            (Lack::of_node(snapshot).wanted(), Lack::of_spoke(false, snapshot).wanted())
        };
        assert_eq!(lacked(&snapshot), (1, HUBS_KEPT));
        // Whoever only connects and says that it serves the DHT is no hub, nor is another spoke.
        snapshot.peers.push(PeerSnapshot { outbound: false, ..peer(1) });
        snapshot.peers.push(PeerSnapshot { protocols: Vec::new(), ..peer(2) });
        assert_eq!(lacked(&snapshot), (0, HUBS_KEPT));
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
    fn a_hub_that_is_connected_is_known_by_its_id_or_its_address() {
        let snapshot = Snapshot { peers: vec![peer(3)], ..Snapshot::default() };
        assert!(is_held(&snapshot, &address(3)));
        assert!(is_held(&snapshot, &address(9).with(Protocol::P2p(id(3)))));
        assert!(!is_held(&snapshot, &address(9)));
        assert!(!is_held(&snapshot, &address(3).with(Protocol::P2p(id(4)))));
    }
}
