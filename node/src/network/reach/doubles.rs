//! Direct connections with one peer that are one too many.
//!
//! Two arise where addresses of both kinds are dialled apart from each other, and where both ends of a hole in their NATs succeed over
//! QUIC. Both ends see the same connections, and each closes by itself what [`surplus`] names; none of them closes what the other one
//! keeps. Two over TCP stay, since each end may have opened one for a reason of its own.

use libp2p::{PeerId, swarm::ConnectionId};

use crate::network::peers::{Carrier, Peer};

/// The direct connections of this node with a peer that are not needed: those over QUIC where one over TCP stands; and of those over
/// QUIC all but the first that the peer with the smaller id dialled.
pub(super) fn surplus(local: &PeerId, id: &PeerId, peer: &Peer) -> Vec<ConnectionId> {
    let of = |carrier: Carrier| {
        let connections = peer.connections.iter();
        connections.filter(move |(_, (address, _))| Carrier::of(address) == carrier)
    };
    let over_quic = || of(Carrier::Quic).map(|(connection, (_, is_ours))| (*connection, *is_ours));
    if of(Carrier::Tcp).next().is_some() {
        return over_quic().map(|(connection, _)| connection).collect();
    }
    let (ours, theirs): (Vec<_>, Vec<_>) = over_quic().partition(|(_, is_ours)| *is_ours);
    let keeps_ours = theirs.is_empty() || (!ours.is_empty() && local < id);
    let (kept, other) = if keeps_ours { (ours, theirs) } else { (theirs, ours) };
    // Of those that the peer dialled, it knows itself which one is the first.
    let rest = kept.into_iter().skip(1).filter(|_| keeps_ours);
    rest.chain(other).map(|(connection, _)| connection).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "/ip4/203.0.113.1/tcp/4001";
    const QUIC: &str = "/ip4/203.0.113.1/udp/4001/quic-v1";

    /// The connections of one end, and of the other: where each is, and whether the first end dialled it.
    fn ends(connections: &[(&str, bool)]) -> [Peer; 2] {
        [true, false].map(|is_first| {
            let of = |(n, (address, dialled)): (usize, &(&str, bool))| {
                (ConnectionId::new_unchecked(n), (address.parse().unwrap(), *dialled == is_first))
            };
            Peer { connections: connections.iter().enumerate().map(of).collect(), ..Peer::default() }
        })
    }

    #[test]
    fn both_ends_keep_the_same_one() {
        let mut ids = [PeerId::random(), PeerId::random()];
        ids.sort();
        let relay = format!("{TCP}/p2p/{}/p2p-circuit", ids[0]);
        for connections in [
            vec![(QUIC, true), (QUIC, false)],
            vec![(QUIC, false), (QUIC, true), (QUIC, true)],
            vec![(QUIC, false), (QUIC, false)],
            vec![(QUIC, true), (QUIC, true), (&relay, true)],
            vec![(QUIC, true), (TCP, false)],
            vec![(TCP, true), (QUIC, true), (QUIC, false)],
            vec![(QUIC, true)],
        ] {
            let [of_first, of_second] = ends(&connections);
            let mut closed = surplus(&ids[0], &ids[1], &of_first);
            closed.extend(surplus(&ids[1], &ids[0], &of_second));
            closed.sort_unstable();
            closed.dedup();
            let direct = connections.iter().filter(|(address, _)| *address != relay).count();
            assert_eq!(direct - closed.len(), 1, "{connections:?}: {closed:?}");
            let tcp = connections.iter().position(|(address, _)| *address == TCP);
            assert!(tcp.is_none_or(|at| !closed.contains(&ConnectionId::new_unchecked(at))));
        }
    }

    #[test]
    fn connections_over_tcp_stay() {
        let [of_first, _] = ends(&[(TCP, true), (TCP, false)]);
        assert!(surplus(&PeerId::random(), &PeerId::random(), &of_first).is_empty());
    }
}
