//! Whom to fetch a tree from.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::node::Node;
use crate::{
    code::Code,
    content::ContentId,
    control::api::Failure,
    fetch::Source,
    network::{Handle, Offload, PeerSnapshot, Provider, Snapshot},
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

/// How often it is looked at those again that have not said yet what they speak.
const IDENTIFY_PAUSE: Duration = Duration::from_millis(500);

/// How often the DHT is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looking {
    Once,
    /// A second time, where it named nobody the first time.
    Twice,
}

/// Those whom a search named and whose reputation keeps them out.
#[derive(Debug, Clone)]
pub(super) struct KeptOut {
    least: Score,
    peers: Arc<Mutex<BTreeSet<PeerId>>>,
}

impl KeptOut {
    fn new(least: Score) -> Self {
        Self { least, peers: Arc::default() }
    }

    fn extend(&self, peers: impl IntoIterator<Item = PeerId>) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).extend(peers);
    }

    /// A failure to find anybody says so where it is for this, and names the key.
    pub(super) fn explained(&self, failure: Failure) -> Failure {
        let number = self.peers.lock().unwrap_or_else(PoisonError::into_inner).len();
        let providers = match number {
            1 => "One provider was".to_owned(),
            several => format!("{several} providers were"),
        };
        if number == 0 || failure.code != Code::NoProviders {
            return failure;
        }
        let why =
            format!("{providers} not asked, for a reputation below {} (peers.min_reputation).", self.least);
        Failure::new(
            Code::NoProviders,
            format!("{} {why}", failure.message),
            "Ask everybody: ggen marketplace p2p config set peers.min_reputation 0",
        )
    }
}

/// A search for providers, and who waits for them.
struct Search {
    network: Handle,
    store: Store,
    offload: Offload,
    kept_out: KeptOut,
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
        self.sources_and_others(root, deadline, looking).0
    }

    /// Likewise, with those who are not asked because of their reputation.
    pub(super) fn sources_and_others(
        &self,
        root: ContentId,
        deadline: Instant,
        looking: Looking,
    ) -> (mpsc::Receiver<Source>, KeptOut) {
        let (found, sources) = mpsc::channel(64);
        let (network, store, offload) = (self.network.clone(), self.store.clone(), self.offload);
        let kept_out = KeptOut::new(self.least_reputation());
        let others = kept_out.clone();
        let search = Search { network, store, offload, kept_out, found, deadline };
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
        (sources, others)
    }

    /// The same providers for two retrievals: each is told of all that are found. The search ends when neither waits any more.
    pub(super) fn shared(&self, mut found: mpsc::Receiver<Source>) -> [mpsc::Receiver<Source>; 2] {
        let ((one, for_one), (other, for_other)) = (mpsc::channel(64), mpsc::channel(64));
        self.spawn(async move {
            loop {
                let source = tokio::select! { biased;
                    () = async { tokio::join!(one.closed(), other.closed()); } => return,
                    source = found.recv() => source,
                };
                let Some(source) = source else { return };
                // A retrieval that has ended takes no more.
                let _ = one.send(source.clone()).await;
                let _ = other.send(source).await;
            }
        });
        [for_one, for_other]
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
        let Ok(mut lookup) = self.network.providers(root, self.deadline).await else { return Some(named) };
        let mut patience = (Instant::now() + LOOKUP_PATIENCE).min(self.deadline);
        loop {
            let peer = match timeout_at(patience, lookup.recv()).await {
                // One that is gone may be back by now: an installation tries it.
                Ok(Some(Provider::Found { peer, .. })) => peer,
                Ok(Some(Provider::End(_)) | None) => return Some(named),
                Err(_) if patience < self.deadline => {
                    // A lookup that hangs on dead nodes must not keep the living ones idle.
                    self.connected().await;
                    patience = self.deadline;
                    continue;
                }
                Err(_) => return None,
            };
            let mut group = BTreeSet::from([peer]);
            let mut is_over = false;
            while let Ok(more) = lookup.try_recv() {
                match more {
                    Provider::Found { peer, .. } => drop(group.insert(peer)),
                    Provider::End(_) => is_over = true,
                }
            }
            group.remove(&own);
            let (store, least, near) = (self.store.clone(), self.kept_out.least, self.network.near());
            let ranked = self.offload.run(move || rank(&store, group, least, &near)).await;
            let (ranked, too_low) = ranked.unwrap_or_default();
            self.kept_out.extend(too_low);
            for (peer, addresses) in ranked {
                named += 1;
                self.found.send(Source { peer, addresses, claimed: true }).await.ok()?;
            }
            if is_over {
                return Some(named);
            }
        }
    }

    async fn connected(&self) {
        connected(&self.network, self.store.clone(), self.offload, self.kept_out.least, &self.found).await;
    }
}

/// Sends the best of the peers that are connected, as sources that claim nothing; those that have only just connected, and have not
/// said yet what they speak, once they have.
pub(super) async fn connected(
    network: &Handle,
    store: Store,
    offload: Offload,
    least: Score,
    found: &mpsc::Sender<Source>,
) {
    let (mut connected, mut room) = (Connected::default(), ASKED_ON_SUSPICION_MAX);
    let mut heads = network.heads();
    loop {
        // Before the peers are looked at: what changes from here on wakes.
        heads.borrow_and_update();
        let Ok(snapshot) = network.snapshot().await else { return };
        let (speak, is_over) = connected.look(&snapshot);
        let (store, near) = (store.clone(), network.near());
        let ranked = offload.run(move || rank(&store, speak, least, &near)).await.unwrap_or_default();
        for (peer, addresses) in ranked.0.into_iter().take(room) {
            room -= 1;
            let source = Source { peer, addresses, claimed: false };
            if found.send(source).await.is_err() {
                return;
            }
        }
        if is_over || room == 0 {
            return;
        }
        tokio::select! { biased;
            () = found.closed() => return,
            changed = heads.changed() => if changed.is_err() { return },
            // One that takes too long to say who it is is not waited for, and nothing changes then.
            () = sleep(IDENTIFY_PAUSE) => {}
        }
    }
}

/// The connected peers that may have something to give, as it becomes known.
#[derive(Debug, Default)]
struct Connected(BTreeSet<PeerId>);

impl Connected {
    /// Those that were not seen before, and whether nobody else is to be expected.
    fn look(&mut self, snapshot: &Snapshot) -> (BTreeSet<PeerId>, bool) {
        let has_blocks = |peer: &&PeerSnapshot| {
            peer.protocols.iter().any(|protocol| protocol == crate::fetch::protocol::PROTOCOL)
        };
        let speak = snapshot.peers.iter().filter(has_blocks).map(|peer| peer.peer);
        let new: BTreeSet<PeerId> = speak.filter(|peer| self.0.insert(*peer)).collect();
        (new, snapshot.heads_unidentified == 0)
    }
}

/// Orders providers by how much their record promises, those of the local network first, leaves out those below the configured
/// reputation, and adds the addresses that the book knows. Gives those who are left out for their reputation too.
fn rank(
    store: &Store,
    peers: BTreeSet<PeerId>,
    least: Score,
    near: &BTreeSet<PeerId>,
) -> (Vec<(PeerId, Vec<Multiaddr>)>, Vec<PeerId>) {
    let now = Timestamp::now();
    let read = store.read(|conn| {
        let (mut ranked, mut too_low) = (Vec::new(), Vec::new());
        for peer in peers {
            let record = ledger::get(conn, &peer)?;
            if ban::is_banned(conn, &peer, now)? {
                continue;
            }
            if record.score() < least {
                too_low.push(peer);
                continue;
            }
            let known = address_book::addresses(conn, &peer)?;
            let addresses = known.into_iter().map(|known| known.address).collect();
            ranked.push((near.contains(&peer), record.confidence(now), peer, addresses));
        }
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
        Ok((ranked.into_iter().map(|(_, _, peer, addresses)| (peer, addresses)).collect(), too_low))
    });
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "providers were not ranked");
        Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{super::failure::fail, *};

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
            rank(&store, BTreeSet::from([good, bad]), least, &BTreeSet::new())
                .0
                .into_iter()
                .map(|(peer, _)| peer)
                .collect()
        };
        assert_eq!(asked(Score::ZERO), BTreeSet::from([good, bad]));
        let half = Score::try_from(0.5).unwrap();
        assert_eq!(asked(half), BTreeSet::from([good]));
        assert_eq!(rank(&store, BTreeSet::from([good, bad]), half, &BTreeSet::new()).1, [bad]);
        let near = BTreeSet::from([bad]);
        let (ranked, _) = rank(&store, BTreeSet::from([good, bad]), Score::ZERO, &near);
        assert_eq!(ranked[0].0, bad, "it is on the local network");
    }

    #[test]
    fn a_peer_that_has_not_said_yet_what_it_speaks_is_waited_for() {
        let one = |peer, protocols| PeerSnapshot { protocols, ..PeerSnapshot::dialled(peer) };
        let speaks = || vec![crate::fetch::protocol::PROTOCOL.to_string()];
        let (known, fresh, other) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut connected = Connected::default();
        let peers = vec![one(known, speaks()), one(fresh, Vec::new()), one(other, vec!["/other".to_owned()])];
        let mut snapshot = Snapshot { peers, heads_unidentified: 1, ..Snapshot::default() };
        assert_eq!(connected.look(&snapshot), ([known].into(), false));
        snapshot.peers[1].protocols = speaks();
        snapshot.heads_unidentified = 0;
        assert_eq!(connected.look(&snapshot), ([fresh].into(), true));
    }

    #[test]
    fn a_reputation_that_keeps_all_providers_out_is_named() {
        let nobody = || fail(crate::fetch::session::Error::NoProviders);
        let kept_out = KeptOut::new(Score::try_from(0.9).unwrap());
        assert_eq!(kept_out.explained(nobody()), nobody(), "nobody is there");
        kept_out.extend([PeerId::random(), PeerId::random()]);
        let failure = kept_out.explained(nobody());
        assert_eq!(failure.code, Code::NoProviders);
        assert!(failure.message.contains("2 providers were not asked"), "{}", failure.message);
        assert!(failure.hint.contains("peers.min_reputation 0"), "{}", failure.hint);
        let other = fail(crate::fetch::session::Error::Forged);
        assert_eq!(kept_out.explained(other.clone()), other);
    }
}
