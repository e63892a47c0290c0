//! The addresses to which others come by themselves, as evidence that they lead to this node, and how long that holds.
//!
//! An address is proved where peers of two networks say that they came to it, and this node had dialled neither. The word of a network
//! counts as long as a connection stands over which it was said, and for a day from then on. The proof is as old as the word of the
//! second network.
//!
//! That nobody comes says nothing: in a small network each node has soon dialled every other one, and no strangers are left. So
//! after an hour peers are asked to try; see [`checking`](super::checking). The proof ends at once where something speaks against it:
//! peers of two networks do not get through, or the router maps the port no longer. Connections outlast a port that is closed, at many NATs:
//! what is said over those that were there before counts no more.
//!
//! Pure, and bounded: `now` is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, swarm::ConnectionId};
use tokio::time::Instant;

use crate::{
    limits::{REACH_DIALLED_MAX, REACH_DOUBTED_MAX, REACH_NETWORKS_MAX},
    network::{diversity::Network, peers::network_of, quic::is_quic},
};

/// Networks that this node did not dial and that have to have come to an address before others are told of it.
pub(super) const STRANGERS_MIN: usize = 2;
/// After how long without two networks that come peers are asked to try.
pub(super) const UNVISITED: Duration = Duration::from_secs(3600);
/// How long a word counts that nobody repeats and that no peer has tried: as long as an address of a home lasts, where the provider gives
/// it another one each night.
pub(super) const WORD_TIME: Duration = Duration::from_secs(24 * 3600);
/// How long after its end a NAT may let in the other side of a connection that this node opened: as long as it has to keep one that is
/// idle ([RFC 5382](https://www.rfc-editor.org/rfc/rfc5382), REQ-5).
const HOLE_TIME: Duration = Duration::from_secs(2 * 3600 + 4 * 60);

/// What a network says that it came to.
#[derive(Debug)]
struct Word {
    at: Multiaddr,
    /// The connections over which it was said, and that stand.
    over: BTreeSet<ConnectionId>,
    /// When it was said, or the last of them ended, or peers got through that were asked to try.
    last: Instant,
}

impl Word {
    fn age(&self, now: Instant) -> Duration {
        if self.over.is_empty() { now.saturating_duration_since(self.last) } else { Duration::ZERO }
    }
}

/// Who was dialled, and what those say that were not.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Networks that this node dialled, and when it last did, or a connection with one ended.
    dialled: BTreeMap<Network, Instant>,
    /// The connections that this node opened, and that stand.
    opened: BTreeMap<ConnectionId, Network>,
    /// One word of each network over TCP, and one over QUIC.
    words: BTreeMap<(Network, bool), Word>,
    /// Addresses of which something said that they lead here no longer, and the last connection that was there then.
    doubted: BTreeMap<Multiaddr, ConnectionId>,
    /// The last connection of all.
    newest: Option<ConnectionId>,
}

impl Proofs {
    /// Forgets everything, since this machine is somewhere else now; but for who was dialled over connections that still stand.
    pub(super) fn moved(&mut self, dead: &[ConnectionId], now: Instant) {
        self.opened.retain(|connection, _| !dead.contains(connection));
        self.dialled = self.opened.values().map(|network| (*network, now)).collect();
        self.words.clear();
        self.doubted.clear();
    }

    /// Notes a place that this node dialled, whether or not anybody answered.
    pub(super) fn dialled(&mut self, address: &Multiaddr, now: Instant) {
        if let Some(network) = network_of(address) {
            self.dialled_network(network, now);
        }
    }

    fn dialled_network(&mut self, network: Network, now: Instant) {
        if self.dialled.len() < REACH_DIALLED_MAX || self.dialled.contains_key(&network) {
            self.dialled.insert(network, now);
        }
    }

    /// Notes a connection with a peer at `at`.
    pub(super) fn opened(
        &mut self,
        connection: ConnectionId,
        at: &Multiaddr,
        is_dialled: bool,
        now: Instant,
    ) {
        self.newest = self.newest.max(Some(connection));
        if let Some(network) = network_of(at).filter(|_| is_dialled) {
            self.opened.insert(connection, network);
            self.dialled_network(network, now);
        }
    }

    /// Notes that a connection ended.
    pub(super) fn closed(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(network) = self.opened.remove(&connection) {
            self.dialled_network(network, now);
        }
        for word in self.words.values_mut() {
            if word.over.remove(&connection) {
                word.last = now;
            }
        }
    }

    /// Notes where a peer of a network says that it came to, over a connection that it opened.
    pub(super) fn came(
        &mut self,
        connection: ConnectionId,
        network: Network,
        observed: &Multiaddr,
        now: Instant,
    ) {
        let is_late = self.doubted.get(observed).is_some_and(|last| connection <= *last);
        // Where the set is full, nobody counts as a stranger any more.
        let is_stranger = !self.dialled.contains_key(&network) && self.dialled.len() < REACH_DIALLED_MAX;
        if is_late || !is_stranger {
            return;
        }
        let gives_way = |word: &Word| word.age(now) >= UNVISITED;
        let key = (network, is_quic(observed));
        if let Some(word) = self.words.get_mut(&key).filter(|word| word.at == *observed) {
            word.over.insert(connection);
            word.last = now;
            return;
        }
        // The first word stands, so that a network has one voice.
        if self.words.get(&key).is_some_and(|word| !gives_way(word)) {
            return;
        }
        if self.words.len() >= REACH_NETWORKS_MAX && !self.words.contains_key(&key) {
            let old = self.words.iter().filter(|(_, word)| gives_way(word));
            let Some(oldest) = old.min_by_key(|(_, word)| word.last).map(|(key, _)| *key) else { return };
            self.words.remove(&oldest);
        }
        let word = Word { at: observed.clone(), over: BTreeSet::from([connection]), last: now };
        self.words.insert(key, word);
    }

    /// Forgets what is too old to count.
    pub(super) fn expire(&mut self, now: Instant) {
        self.words.retain(|_, word| word.age(now) < WORD_TIME);
        let connected: BTreeSet<Network> = self.opened.values().copied().collect();
        self.dialled.retain(|network, last| {
            connected.contains(network) || now.saturating_duration_since(*last) < HOLE_TIME
        });
    }

    /// Forgets all that was said for an address, because something speaks against it. What is said over connections that are there
    /// already will count no more.
    pub(super) fn doubt(&mut self, address: &Multiaddr) {
        self.words.retain(|_, word| word.at != *address);
        let Some(newest) = self.newest else { return };
        if self.doubted.len() >= REACH_DOUBTED_MAX && !self.doubted.contains_key(address) {
            let oldest = self.doubted.iter().min_by_key(|(_, connection)| **connection);
            if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
                self.doubted.remove(&oldest);
            }
        }
        self.doubted.insert(address.clone(), newest);
    }

    /// Notes that peers got through that were asked to try.
    pub(super) fn got_through(&mut self, address: &Multiaddr, now: Instant) {
        self.words.values_mut().filter(|word| word.at == *address).for_each(|word| word.last = now);
    }

    /// The addresses that are proved: that one first to which most networks came.
    pub(super) fn addresses(&self) -> Vec<&Multiaddr> {
        let mut counts: BTreeMap<&Multiaddr, usize> = BTreeMap::new();
        for word in self.words.values() {
            *counts.entry(&word.at).or_default() += 1;
        }
        let mut proved: Vec<_> = counts.into_iter().filter(|(_, count)| *count >= STRANGERS_MIN).collect();
        proved.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        proved.into_iter().map(|(address, _)| address).collect()
    }

    /// Whether no two networks came to an address for a while.
    pub(super) fn is_unvisited(&self, address: &Multiaddr, now: Instant) -> bool {
        let words = self.words.values().filter(|word| word.at == *address);
        words.filter(|word| word.age(now) < UNVISITED).count() < STRANGERS_MIN
    }
}

#[cfg(test)]
#[path = "proofs_tests.rs"]
mod tests;
