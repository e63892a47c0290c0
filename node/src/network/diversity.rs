//! How many peers of one public network the routing table holds.
//!
//! Whoever holds a /24 makes up as many peer ids as it likes, but holds neither a bucket with them nor the table. What
//! counts is where the connection with a peer leads, not the addresses that it tells: those it chooses itself. Pure: who is
//! in the table is an argument.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

pub(super) use crate::peers::policy::Network;

/// Peers of one public network in one bucket.
const PER_BUCKET_MAX: usize = 2;
/// Peers of one public network in the whole table: it has some tens of them in buckets that are not empty.
const PER_TABLE_MAX: usize = 8;

/// Which networks the peers of the routing table are reached in.
#[derive(Debug, Default)]
pub(super) struct Diversity {
    network_of: BTreeMap<PeerId, Network>,
}

impl Diversity {
    /// Whether a peer that is reached in this network may enter its bucket, or stay there.
    pub(super) fn admits(
        &mut self,
        peer: PeerId,
        network: Network,
        bucket: &[PeerId],
        table: &[PeerId],
    ) -> bool {
        let is_same = |other: &&PeerId| **other != peer && self.network_of.get(other) == Some(&network);
        let is_admitted = bucket.iter().filter(is_same).count() < PER_BUCKET_MAX
            && table.iter().filter(is_same).count() < PER_TABLE_MAX;
        if is_admitted {
            self.network_of.insert(peer, network);
        }
        is_admitted
    }

    /// Forgets the peers that are neither in the table nor `held` otherwise, since they may still enter it.
    pub(super) fn forget(&mut self, table: &[PeerId], held: impl Fn(&PeerId) -> bool) {
        let table: BTreeSet<&PeerId> = table.iter().collect();
        self.network_of.retain(|peer, _| table.contains(peer) || held(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::policy::group_of;

    fn network(ip: &str) -> Network {
        group_of(ip.parse().unwrap()).unwrap()
    }

    /// Offers a table of `buckets` a hundred peers for each of them, each reached at an address of its own; how many are in.
    fn flooded(buckets: usize, ip: fn(usize) -> String) -> usize {
        let mut diversity = Diversity::default();
        let mut table: Vec<Vec<PeerId>> = vec![Vec::new(); buckets];
        for n in 0..100 * buckets {
            let (bucket, all, peer) = (n % buckets, table.concat(), PeerId::random());
            if diversity.admits(peer, network(&ip(n % 256)), &table[bucket], &all) {
                table[bucket].push(peer);
            }
        }
        table.concat().len()
    }

    #[test]
    fn a_bucket_holds_two_peers_of_one_network() {
        assert_eq!(flooded(1, |n| format!("203.0.113.{n}")), 2, "of a /24");
        assert_eq!(flooded(1, |n| format!("2604:a880:1:{n:x}::1")), 2, "of a /48");
        assert_eq!(flooded(1, |n| format!("203.0.{n}.1")), 100, "others are not affected");
    }

    #[test]
    fn the_table_holds_eight_peers_of_one_network() {
        assert_eq!(flooded(32, |n| format!("203.0.113.{n}")), 8);
        assert_eq!(flooded(32, |n| format!("2604:a880:1:{n:x}::1")), 8);
    }

    #[test]
    fn whoever_is_in_stays_and_whoever_left_makes_room() {
        let mut diversity = Diversity::default();
        let here = network("203.0.113.1");
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        assert!(diversity.admits(peers[0], here, &[], &[]));
        assert!(diversity.admits(peers[1], here, &peers[..1], &peers[..1]));
        assert!(!diversity.admits(peers[2], here, &peers[..2], &peers[..2]));
        assert!(diversity.admits(peers[0], here, &peers[..2], &peers[..2]), "it is no newcomer");
        diversity.forget(&peers[1..2], |_| false);
        assert_eq!(diversity.network_of.len(), 1, "what left the table is forgotten");
        assert!(diversity.admits(peers[2], here, &peers[1..2], &peers[1..2]));
    }
}
