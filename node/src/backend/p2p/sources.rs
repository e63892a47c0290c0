//! Whom to fetch a tree from.

use std::{collections::BTreeSet, time::Duration};

use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::node::Node;
use crate::{
    content::ContentId,
    fetch::session::Source,
    network::{Handle, Offload},
    peers::address_book,
    reputation::{Score, ban, ledger},
    store::Store,
    time::Timestamp,
};

/// Connected peers that are asked although they do not say that they provide the tree.
const ASKED_ON_SUSPICION_MAX: usize = 16;
/// How long the DHT may take before the peers that are connected anyway are asked too.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(2);
/// How soon the DHT is asked again where it named nobody: gossip is faster than the records of who provides what it tells of.
const LOOK_AGAIN: Duration = Duration::from_secs(4);

/// How often the DHT is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looking {
    Once,
    /// A second time, where it named nobody the first time.
    Twice,
}

/// A search for providers, and who waits for them.
struct Search {
    network: Handle,
    store: Store,
    offload: Offload,
    least: Score,
    found: mpsc::Sender<Source>,
    deadline: Instant,
}

impl Node {
    /// Peers to fetch a tree from: those that the DHT names, the best first as far as they are known at once, and then those
    /// that are connected anyway.
    pub(super) fn sources(
        &self,
        root: ContentId,
        deadline: Instant,
        looking: Looking,
    ) -> mpsc::Receiver<Source> {
        let (found, sources) = mpsc::channel(64);
        let (network, store, offload) = (self.network.clone(), self.store.clone(), self.offload);
        let search = Search { network, store, offload, least: self.least_reputation(), found, deadline };
        self.spawn(async move {
            let Some(named) = search.look_up(root).await else { return };
            search.connected().await;
            if named == 0 && looking == Looking::Twice {
                tokio::select! { biased;
                    () = search.found.closed() => return,
                    () = sleep(LOOK_AGAIN) => {}
                }
                let _ = search.look_up(root).await;
            }
        });
        sources
    }

    /// The reputation below which no peer is fetched from.
    pub(super) fn least_reputation(&self) -> Score {
        Score::try_from(self.config().min_reputation).unwrap_or(Score::ZERO)
    }
}

impl Search {
    /// Asks the DHT, and tells how many it named that may be asked; nothing where nobody waits any longer.
    async fn look_up(&self, root: ContentId) -> Option<usize> {
        let own = self.network.local_peer();
        let mut named = 0;
        let Ok(mut lookup) = self.network.providers(root).await else { return Some(named) };
        let mut patience = (Instant::now() + LOOKUP_PATIENCE).min(self.deadline);
        loop {
            let peer = match timeout_at(patience, lookup.recv()).await {
                Ok(Some(peer)) => peer,
                Ok(None) => return Some(named),
                Err(_) if patience < self.deadline => {
                    // A lookup that hangs on dead nodes must not keep the living ones idle.
                    self.connected().await;
                    patience = self.deadline;
                    continue;
                }
                Err(_) => return None,
            };
            let mut group = BTreeSet::from([peer]);
            while let Ok(peer) = lookup.try_recv() {
                group.insert(peer);
            }
            group.remove(&own);
            let (store, least) = (self.store.clone(), self.least);
            let ranked = self.offload.run(move || rank(&store, group, least)).await;
            for (peer, addresses) in ranked.unwrap_or_default() {
                named += 1;
                self.found.send(Source { peer, addresses, claimed: true }).await.ok()?;
            }
        }
    }

    async fn connected(&self) {
        connected(&self.network, self.store.clone(), self.offload, self.least, &self.found).await;
    }
}

/// Sends the best of the peers that are connected, as sources that claim nothing.
pub(super) async fn connected(
    network: &Handle,
    store: Store,
    offload: Offload,
    least: Score,
    found: &mpsc::Sender<Source>,
) {
    let Ok(snapshot) = network.snapshot().await else { return };
    let speak = snapshot
        .peers
        .into_iter()
        .filter(|peer| peer.protocols.iter().any(|protocol| protocol == crate::fetch::protocol::PROTOCOL))
        .map(|peer| peer.peer)
        .collect();
    let ranked = offload.run(move || rank(&store, speak, least)).await.unwrap_or_default();
    for (peer, addresses) in ranked.into_iter().take(ASKED_ON_SUSPICION_MAX) {
        let source = Source { peer, addresses, claimed: false };
        if found.send(source).await.is_err() {
            return;
        }
    }
}

/// Orders providers by how much their record promises, leaves out those below the configured reputation, and adds the
/// addresses that the book knows.
fn rank(store: &Store, peers: BTreeSet<PeerId>, least: Score) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let now = Timestamp::now();
    let read = store.read(|conn| {
        let mut ranked = Vec::new();
        for peer in peers {
            let record = ledger::get(conn, &peer)?;
            if record.score() < least || ban::is_banned(conn, &peer, now)? {
                continue;
            }
            let known = address_book::addresses(conn, &peer)?;
            let addresses = known.into_iter().map(|known| known.address).collect();
            ranked.push((record.confidence(now), peer, addresses));
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ok(ranked.into_iter().map(|(_, peer, addresses)| (peer, addresses)).collect())
    });
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "providers were not ranked");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_below_the_least_reputation_are_not_asked() {
        let (now, root) = (Timestamp::now(), ContentId::of(crate::content::Codec::DagPb, b"tree"));
        let (good, bad) = (PeerId::random(), PeerId::random());
        let store = Store::in_memory().unwrap();
        let failed = crate::reputation::Event::RetrievalFailed {
            root,
            cause: crate::reputation::Cause::Timeout,
            blocks: 0,
            bytes: 0,
            duration: Duration::ZERO,
        };
        store.write(|tx| Ok(ledger::record(tx, &bad, &failed, now)?)).unwrap();
        let asked = |least| -> BTreeSet<PeerId> {
            rank(&store, BTreeSet::from([good, bad]), least).into_iter().map(|(peer, _)| peer).collect()
        };
        assert_eq!(asked(Score::ZERO), BTreeSet::from([good, bad]));
        assert_eq!(asked(Score::try_from(0.5).unwrap()), BTreeSet::from([good]));
    }
}
