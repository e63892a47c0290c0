//! The peers that a retrieval may ask: found one after another, and then reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::transport::Transport;

/// How long reaching one provider may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Providers that are dialled at once.
const CONNECTS_MAX: usize = 8;
/// Those of them of whom only others who fetch the tree told: they may be invented.
const CONNECTS_TOLD_MAX: usize = CONNECTS_MAX / 2;
/// Providers of one retrieval that a lookup found, and as many of whom only others told: these take no place from those.
const PROVIDERS_MAX: usize = 64;

/// A peer to ask.
#[derive(Debug, Clone)]
pub struct Source {
    /// The peer.
    pub peer: PeerId,
    /// Addresses to try beside those that the network knows.
    pub addresses: Vec<Multiaddr>,
    /// Whether it says that it holds the content.
    pub claimed: bool,
}

/// Reaches the peers that a lookup finds.
pub(super) struct Providers<T> {
    transport: T,
    /// Providers, as they are found; closed when the lookup ended.
    found: mpsc::Receiver<Source>,
    looking: bool,
    /// The peers that were found, and whether they claim to hold the content.
    known: BTreeMap<PeerId, bool>,
    waiting: Vec<(PeerId, Vec<Multiaddr>)>,
    /// Those of whom others told.
    told: Vec<(PeerId, Vec<Multiaddr>)>,
    /// All of whom others told, and no lookup.
    only_told: BTreeSet<PeerId>,
    connects: FuturesUnordered<BoxFuture<'static, (PeerId, bool)>>,
    /// Dials to those of whom others told.
    dialled: BTreeSet<PeerId>,
}

impl<T: Transport> Providers<T> {
    /// `found` yields providers in the order in which they should be preferred.
    pub(super) fn new(transport: T, found: mpsc::Receiver<Source>) -> Self {
        Self {
            transport,
            found,
            looking: true,
            known: BTreeMap::new(),
            waiting: Vec::new(),
            told: Vec::new(),
            only_told: BTreeSet::new(),
            connects: FuturesUnordered::new(),
            dialled: BTreeSet::new(),
        }
    }

    /// The next one that was reached; nothing where something else changed, such as that there will be no more.
    ///
    /// Never ends where [`Providers::is_exhausted`]. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<PeerId> {
        self.dial();
        tokio::select! { biased;
            Some((peer, reached)) = self.connects.next(), if !self.connects.is_empty() => {
                self.dialled.remove(&peer);
                reached.then_some(peer)
            }
            found = self.found.recv(), if self.looking => {
                match found {
                    Some(Source { peer, addresses, claimed }) => {
                        let is_found = self.known.contains_key(&peer) && !self.only_told.contains(&peer);
                        if is_found || self.known.len() - self.only_told.len() < PROVIDERS_MAX {
                            *self.known.entry(peer).or_default() |= claimed;
                            // Who told of it before may have told of other addresses than it has.
                            self.only_told.remove(&peer);
                            self.told.retain(|(told, _)| *told != peer);
                            if !is_found {
                                self.waiting.push((peer, addresses));
                            }
                        }
                    }
                    None => self.looking = false,
                }
                self.dial();
                None
            }
            else => std::future::pending().await,
        }
    }

    /// Tries after a while to reach peers again that were reached before; [`Providers::next`] yields those that are.
    pub(super) fn again(&mut self, peers: impl IntoIterator<Item = PeerId>, after: Duration) {
        for peer in peers {
            let transport = self.transport.clone();
            self.connects.push(
                async move {
                    tokio::time::sleep(after).await;
                    let is_reached = transport.reach(peer, Vec::new(), CONNECT_TIMEOUT).await;
                    (peer, is_reached)
                }
                .boxed(),
            );
        }
    }

    /// Whether nobody else will be reached.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.looking && self.connects.is_empty() && self.waiting.is_empty() && self.told.is_empty()
    }

    /// Whether a peer says that it holds the content.
    pub(super) fn claims(&self, peer: &PeerId) -> bool {
        self.known.get(peer).copied().unwrap_or_default()
    }

    /// The peers that were found, and whether they claim to hold the content; nobody else is waited for.
    pub(super) fn into_known(self) -> BTreeMap<PeerId, bool> {
        self.known
    }

    /// Adds a peer of which another one told.
    pub(super) fn add(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.only_told.len() < PROVIDERS_MAX && !self.known.contains_key(&peer) {
            self.known.insert(peer, false);
            self.only_told.insert(peer);
            self.told.push((peer, addresses));
        }
    }

    fn dial(&mut self) {
        while self.connects.len() < CONNECTS_MAX {
            let (peer, addresses) = if !self.waiting.is_empty() {
                self.waiting.remove(0)
            } else if !self.told.is_empty() && self.dialled.len() < CONNECTS_TOLD_MAX {
                let (peer, addresses) = self.told.remove(0);
                self.dialled.insert(peer);
                (peer, addresses)
            } else {
                return;
            };
            let transport = self.transport.clone();
            self.connects.push(
                async move {
                    let is_reached = transport.reach(peer, addresses, CONNECT_TIMEOUT).await;
                    (peer, is_reached)
                }
                .boxed(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fetch::memory::{Manner, Memory, Peer},
        store::Store,
    };

    #[tokio::test]
    async fn whoever_invents_peers_keeps_none_out_that_a_lookup_finds() {
        let honest: Vec<PeerId> = (0..4).map(|_| PeerId::random()).collect();
        let there = |peer: &PeerId| {
            let store = Store::in_memory().unwrap();
            (*peer, Peer { store, manner: Manner::Honest })
        };
        let network = Memory::new(honest.iter().map(there), Duration::from_millis(1));
        let (found, sources) = mpsc::channel(8);
        let mut providers = Providers::new(network, sources);
        // One of them is told of too, at an address that is not its own.
        providers.add(honest[0], vec!["/ip4/203.0.113.1/tcp/1".parse().unwrap()]);
        (0..1_000).for_each(|_| providers.add(PeerId::random(), Vec::new()));
        assert_eq!((providers.known.len(), providers.told.len()), (PROVIDERS_MAX, PROVIDERS_MAX));
        for peer in &honest {
            found.send(Source { peer: *peer, addresses: Vec::new(), claimed: true }).await.unwrap();
        }
        drop(found);
        let mut reached = BTreeSet::new();
        while !providers.is_exhausted() {
            reached.extend(providers.next().await);
        }
        assert!(honest.iter().all(|peer| reached.contains(peer) && providers.claims(peer)), "{reached:?}");
        assert!(!providers.only_told.contains(&honest[0]));
    }
}
