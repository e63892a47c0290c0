//! Whom a node lacks: company, or, for a spoke, hubs to hold on to.

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{
    network::{KAD_PROTOCOL, PeerSnapshot, Snapshot},
    peers::trim::HUBS_KEPT,
};

/// How many connections this node lacks: one where it is alone, and for a spoke as many hubs as it keeps.
pub(super) fn wanted(is_spoke: bool, snapshot: &Snapshot) -> usize {
    if !is_spoke {
        return usize::from(snapshot.peers.is_empty());
    }
    HUBS_KEPT.saturating_sub(snapshot.peers.iter().filter(|peer| is_hub(peer)).count())
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
        assert_eq!((wanted(false, &snapshot), wanted(true, &snapshot)), (1, HUBS_KEPT));
        // Whoever only connects and says that it serves the DHT is no hub, nor is another spoke.
        snapshot.peers.push(PeerSnapshot { outbound: false, ..peer(1) });
        snapshot.peers.push(PeerSnapshot { protocols: Vec::new(), ..peer(2) });
        assert_eq!((wanted(false, &snapshot), wanted(true, &snapshot)), (0, HUBS_KEPT));
        snapshot.peers.push(peer(3));
        snapshot.peers.push(PeerSnapshot { protocols: Vec::new(), is_entry_point: true, ..peer(4) });
        assert_eq!(wanted(true, &snapshot), HUBS_KEPT - 2);
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
