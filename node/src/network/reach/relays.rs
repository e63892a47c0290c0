//! On which relays a node that nobody can connect to is reached.
//!
//! Two are held, of different networks where there is a choice: peers that this node connected to itself, and so knows to be where
//! they say. Those of the configuration come first; among the others each node has an order of its own, so that many that join at
//! once do not all ask the same one. One that refuses, does not answer, or ends is passed over for a while that doubles, and
//! another one takes its place at once. Nothing is ever given up permanently: where all have failed, the first that is due is asked again.
//! Pure: the peers that offer to relay and `now` are arguments. The renewal of what stands is libp2p's, and that it failed is told
//! as its end.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::{
    limits::{RELAYS_ASKED_MAX, RELAYS_FAILED_MAX, RELAYS_MAX},
    network::diversity::Network,
    peers::Backoff,
};

/// How long a relay may take to answer before another one is asked as well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long a relay that failed is asked again.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(1800));

/// A connected peer that relays, as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network) struct Offer {
    pub(in crate::network) peer: PeerId,
    /// Where this node reaches it, without `/p2p`.
    pub(in crate::network) address: Multiaddr,
    pub(in crate::network) network: Option<Network>,
    /// Whether the configuration names it.
    pub(in crate::network) is_entry_point: bool,
    /// Its place among others, for this node.
    pub(in crate::network) rank: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    since: Instant,
    network: Option<Network>,
    stands: bool,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    at: Instant,
}

/// The relays that are held or asked, and those that failed.
#[derive(Debug, Default)]
pub(in crate::network) struct Relays {
    held: BTreeMap<PeerId, Held>,
    failed: BTreeMap<PeerId, Failed>,
}

impl Relays {
    /// The relays that this node is reached on.
    pub(in crate::network) fn standing(&self) -> impl Iterator<Item = PeerId> {
        self.held.iter().filter(|(_, held)| held.stands).map(|(peer, _)| *peer)
    }

    /// Whether a peer is one of the relays, or is asked to be one.
    pub(in crate::network) fn holds(&self, peer: &PeerId) -> bool {
        self.held.contains_key(peer)
    }

    /// Says whom to ask now, of those that offer to relay; each of them counts as asked.
    pub(in crate::network) fn choose(&mut self, mut offers: Vec<Offer>, now: Instant) -> Vec<Offer> {
        offers.retain(|offer| !self.held.contains_key(&offer.peer) && self.is_due(&offer.peer, now));
        let mut chosen = Vec::new();
        while self.promising(now) < RELAYS_MAX && self.held.len() < RELAYS_ASKED_MAX {
            let is_near = |offer: &Offer| {
                offer.network.is_some() && self.held.values().any(|held| held.network == offer.network)
            };
            let best = offers.iter().enumerate().min_by_key(|(_, offer)| {
                (
                    is_near(offer),
                    !offer.is_entry_point,
                    self.times_failed(&offer.peer),
                    offer.rank,
                    offer.peer,
                )
            });
            let Some((at, _)) = best else { break };
            let offer = offers.swap_remove(at);
            self.held.insert(offer.peer, Held { since: now, network: offer.network, stands: false });
            chosen.push(offer);
        }
        chosen
    }

    /// Notes that a relay took this node in, or renewed that.
    pub(in crate::network) fn accepted(&mut self, peer: PeerId, now: Instant) {
        if let Some(held) = self.held.get_mut(&peer)
            && !held.stands
        {
            *held = Held { since: now, stands: true, ..*held };
        }
    }

    /// Notes that a relay refused, or that what stood with it has ended; whether it stood.
    pub(in crate::network) fn ended(&mut self, peer: &PeerId, now: Instant) -> bool {
        let Some(held) = self.held.remove(peer) else { return false };
        // One that held for long failed for once.
        let lasted = now.saturating_duration_since(held.since);
        let before = self.failed.get(peer).filter(|_| !held.stands || lasted < AGAIN.ceiling(u32::MAX));
        let times = before.map_or(0, |failed| failed.times).saturating_add(1);
        if self.failed.len() >= RELAYS_FAILED_MAX && !self.failed.contains_key(peer) {
            let oldest = self.failed.iter().min_by_key(|(peer, failed)| (failed.at, **peer));
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.failed.remove(&oldest);
            }
        }
        self.failed.insert(*peer, Failed { times, at: now });
        held.stands
    }

    /// Whether another relay than one that is held can take its place now.
    pub(in crate::network) fn has_another(&self, offers: &[Offer], now: Instant) -> bool {
        offers.iter().any(|offer| !self.held.contains_key(&offer.peer) && self.is_due(&offer.peer, now))
    }

    /// Notes that a relay carries nothing: it is asked again when all others were.
    pub(in crate::network) fn carries_nothing(&mut self, peer: &PeerId, now: Instant) {
        if self.ended(peer, now) {
            self.failed.insert(*peer, Failed { times: u32::MAX, at: now });
        }
    }

    /// Forgets who failed, since that was in another network.
    pub(in crate::network) fn moved(&mut self) {
        self.failed.clear();
    }

    /// Those that stand, or were asked a moment ago.
    fn promising(&self, now: Instant) -> usize {
        let is_promising =
            |held: &&Held| held.stands || now.saturating_duration_since(held.since) < ANSWER_TIMEOUT;
        self.held.values().filter(is_promising).count()
    }

    fn is_due(&self, peer: &PeerId, now: Instant) -> bool {
        let is_over =
            |failed: &Failed| now.saturating_duration_since(failed.at) >= AGAIN.ceiling(failed.times);
        self.failed.get(peer).is_none_or(is_over)
    }

    fn times_failed(&self, peer: &PeerId) -> u32 {
        self.failed.get(peer).map_or(0, |failed| failed.times)
    }
}

#[cfg(test)]
#[path = "relays_tests.rs"]
mod tests;
