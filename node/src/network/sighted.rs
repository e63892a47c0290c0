//! A peer that is looked for in the DHT, and where those who are asked say that it is.

use std::{cmp::Reverse, collections::BTreeSet};

use libp2p::{Multiaddr, PeerId, kad::KadPeer};
use tokio::sync::oneshot;

use crate::{heads::lookup::Ended, limits::ADDRESSES_PER_PEER_MAX};

/// Different addresses of the peer that are kept, of all who name it.
const NAMED_ADDRESSES_MAX: usize = 64;

/// A peer that is looked for, and where it is, as others say.
pub(super) struct Sighted {
    peer: PeerId,
    /// Each address with how many name it, in the order in which they came.
    addresses: Vec<(Multiaddr, u32)>,
    reply: oneshot::Sender<(Vec<Multiaddr>, Ended)>,
}

impl Sighted {
    pub(super) fn new(peer: PeerId, reply: oneshot::Sender<(Vec<Multiaddr>, Ended)>) -> Self {
        Self { peer, addresses: Vec::new(), reply }
    }

    /// Whether nobody waits any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    /// Takes the addresses under which one of those who were asked names the peer.
    pub(super) fn named(&mut self, closer: &[KadPeer]) {
        let Some(named) = closer.iter().find(|named| named.node_id == self.peer) else { return };
        let addresses: BTreeSet<&Multiaddr> = named.multiaddrs.iter().take(ADDRESSES_PER_PEER_MAX).collect();
        for address in addresses {
            let has_room = self.addresses.len() < NAMED_ADDRESSES_MAX;
            match self.addresses.iter_mut().find(|(known, _)| known == address) {
                Some((_, times)) => *times = times.saturating_add(1),
                None if has_room => self.addresses.push((address.clone(), 1)),
                None => {}
            }
        }
    }

    /// Tells what to dial: what most name comes first.
    pub(super) fn tell(mut self, ended: Ended) {
        self.addresses.sort_by_key(|(_, times)| Reverse(*times));
        let addresses = self.addresses.into_iter().map(|(address, _)| address);
        let _ = self.reply.send((addresses.take(ADDRESSES_PER_PEER_MAX).collect(), ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_peer_is_most_say_first_and_a_liar_fills_nothing() {
        let peer = PeerId::random();
        let at = |port: u32| -> Multiaddr { format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap() };
        let names = |peer, addresses: Vec<Multiaddr>| KadPeer {
            node_id: peer,
            multiaddrs: addresses,
            connection_ty: libp2p::kad::ConnectionType::NotConnected,
        };
        let (reply, mut told) = oneshot::channel();
        let mut sighted = Sighted::new(peer, reply);
        // One that names many, each several times, and others that name two.
        let lies: Vec<Multiaddr> = (1..1_000).flat_map(|port| [at(port), at(port)]).collect();
        sighted.named(&[names(PeerId::random(), vec![at(7_000)]), names(peer, lies)]);
        (0..2).for_each(|_| sighted.named(&[names(peer, vec![at(4_001)])]));
        sighted.named(&[names(peer, vec![at(4_002)])]);
        assert!(sighted.addresses.len() <= NAMED_ADDRESSES_MAX);
        sighted.tell(Ended::Complete);
        let (addresses, ended) = told.try_recv().unwrap();
        assert_eq!((&addresses[0], ended), (&at(4_001), Ended::Complete));
        assert!(addresses.contains(&at(4_002)) && !addresses.contains(&at(7_000)));
        assert!(addresses.len() <= ADDRESSES_PER_PEER_MAX);
    }
}
