//! Who enters the routing table of the DHT, and under which addresses.

use libp2p::{Multiaddr, PeerId, kad};

use super::{
    diversity::Diversity,
    kademlia,
    peers::{Peers, network_of},
};
use crate::peers::policy;

/// What is known of the routing table beside its own entries.
#[derive(Debug, Default)]
pub(super) struct Routing {
    /// Where its peers are reached.
    diversity: Diversity,
}

impl Routing {
    /// Adds the addresses of a peer to the table, unless that holds enough of the same network already.
    pub(super) fn admit(
        &mut self,
        kad: &mut kademlia::Behaviour,
        peers: &Peers,
        peer: PeerId,
        reached_at: &[Multiaddr],
        told: &[Multiaddr],
    ) {
        // Behind some proxies all connections come from one private address, which says nothing.
        let network = reached_at.iter().find_map(network_of).or_else(|| told.iter().find_map(network_of));
        if let Some(network) = network {
            let bucket = kad.kbucket(peer).map_or_else(Vec::new, |bucket| members(&bucket));
            let table: Vec<PeerId> = kad.kbuckets().flat_map(|bucket| members(&bucket)).collect();
            self.diversity.forget(&table, |peer| peers.contains_key(peer));
            if !self.diversity.admits(peer, network, &bucket, &table) {
                return;
            }
        }
        // Of a node in a private network that is known by a name, nothing that it tells may be believed: the name is what the
        // user gave.
        let named = reached_at.iter().filter(|at| told.is_empty() && policy::is_name(at));
        for address in told.iter().chain(named) {
            kad.add_address(&peer, policy::without_peer(address, &peer).unwrap_or_else(|_| address.clone()));
        }
    }
}

/// Removes from the routing table what a peer no longer tells: libp2p keeps every address that was ever added, and a peer that
/// tells new ones permanently would fill the memory, and the answers that name it beyond their cap.
pub(super) fn forget(kad: &mut kademlia::Behaviour, peer: PeerId, kept: &[Multiaddr]) {
    let held: Vec<Multiaddr> = kad.kbucket(peer).map_or_else(Vec::new, |bucket| {
        let of_peer = bucket.iter().filter(|entry| *entry.node.key.preimage() == peer);
        of_peer.flat_map(|entry| entry.node.value.iter().cloned().collect::<Vec<_>>()).collect()
    });
    for address in held {
        let bare = policy::without_peer(&address, &peer).unwrap_or(address);
        if !kept.iter().any(|it| policy::without_peer(it, &peer).is_ok_and(|it| it == bare)) {
            kad.remove_address(&peer, &bare);
        }
    }
}

/// The peers of a bucket.
pub(super) fn members(bucket: &kad::KBucketRef<'_, kad::KBucketKey<PeerId>, kad::Addresses>) -> Vec<PeerId> {
    bucket.iter().map(|entry| *entry.node.key.preimage()).collect()
}
