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
/// Providers of one retrieval.
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
                        // Who provides all of it may have been told of before.
                        if let Some(known) = self.known.get_mut(&peer) {
                            *known |= claimed;
                        } else if self.known.len() < PROVIDERS_MAX {
                            self.known.insert(peer, claimed);
                            self.waiting.push((peer, addresses));
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
        if self.known.len() < PROVIDERS_MAX && !self.known.contains_key(&peer) {
            self.known.insert(peer, false);
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
