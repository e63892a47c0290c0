//! What is written down of the peers that something was fetched from: who helped, who failed, who forged.

use libp2p::PeerId;
use tokio::time::Instant;

use super::node::Node;
use crate::{
    content::ContentId,
    control::api::Happening,
    fetch::{
        Report, Served,
        session::{Late, Session},
    },
    limits::FETCH_TIMEOUT,
    network::{Handle, Snapshot},
    release::VerifiedHead,
    reputation::{Attempt, Circumstances, Event, blame, ledger},
    time::Timestamp,
};

/// Why a forger is refused.
const FORGED: &str = "it sent bytes that are not the block asked for";

impl Node {
    /// Writes down what the peers did: who helped, who failed, who forged.
    pub(super) async fn judge(&self, root: ContentId, report: &Report, succeeded: bool) {
        // Without any peer, or with a loop that does not answer, silence proves nothing.
        let overloaded = self.network.snapshot().await.map_or(true, |snapshot| snapshot.peers.is_empty());
        let stopping = self.stopping().is_cancelled();
        let circumstances = Circumstances { overloaded, stopping, ..Circumstances::default() };
        let mut events = Vec::new();
        for (peer, served) in &report.peers {
            let (blocks, bytes, duration) = (served.blocks, served.bytes, served.spent);
            let circumstances = Circumstances { claimed: served.claimed, ..circumstances };
            if let Some(cause) = served.fault.and_then(|attempt| blame(attempt, circumstances)) {
                events.push((*peer, Event::RetrievalFailed { root, cause, blocks, bytes, duration }));
            } else if succeeded && blocks > 0 {
                events.push((*peer, Event::RetrievalSucceeded { root, blocks, bytes, duration }));
            }
        }
        self.refuse_forgers(report).await;
        self.write_down(events).await;
    }

    /// Writes down, once it has proved to be so, who claimed the tree and never answered, and who answered late and forged: the
    /// installation did not wait for it.
    pub(super) fn judge_late(&self, root: ContentId, session: Session<Handle>) {
        let late = session.late();
        let ((at_work, store), offload) = (self.at_work(), self.offload);
        let (network, stopping) = (self.network.clone(), self.stopping());
        self.spawn(async move {
            let late = late.await;
            for peer in late.forged.keys() {
                let _ = network.block(*peer, FORGED.to_owned()).await;
            }
            let snapshot = network.snapshot().await.ok();
            let events = late_events(root, &late, snapshot.as_ref(), stopping.is_cancelled());
            if events.is_empty() {
                return;
            }
            let written = offload.run(move || {
                let (_at_work, store) = (at_work, store);
                let now = Timestamp::now();
                let record = |tx: &rusqlite::Transaction<'_>| {
                    events.iter().try_for_each(|(peer, event)| ledger::record(tx, peer, event, now).map(drop))
                };
                store.write(|tx| Ok(record(tx)?))
            });
            if !matches!(written.await, Some(Ok(()))) {
                tracing::warn!("what came of the last requests was not written down");
            }
        });
    }

    /// Refuses those who sent bytes that are not the block asked for, whatever it was wanted for.
    pub(super) async fn refuse_forgers(&self, report: &Report) {
        let mut events = Vec::new();
        for (peer, served) in &report.peers {
            if let Some(block) = served.forged {
                events.push((*peer, Event::ForgedBlock { block }));
                let _ = self.network.block(*peer, FORGED.to_owned()).await;
                tracing::info!(%peer, %block, "a peer is banned: it sent a forged block");
                let (peer_id, reason) = (peer.to_string(), FORGED.to_owned());
                self.events.tell(self.now(), Happening::Banned { peer_id, reason });
            }
        }
        if !events.is_empty() {
            self.write_down(events).await;
        }
    }

    /// Writes down who sent something else in place of a log. Silence is nobody's fault here: who provides a tree need not have
    /// its whole log.
    pub(super) async fn judge_log(&self, head: &VerifiedHead, report: &Report) {
        self.refuse_forgers(report).await;
        let Some(root) = head.head().latest.as_ref().map(|latest| latest.root) else { return };
        let broke = |served: &Served| served.fault == Some(Attempt::ProtocolViolation);
        let events: Vec<_> = (report.peers.iter().filter(|(_, served)| broke(served)))
            .filter_map(|(peer, served)| {
                let cause = blame(Attempt::ProtocolViolation, Circumstances::default())?;
                let (blocks, bytes, duration) = (served.blocks, served.bytes, served.spent);
                Some((*peer, Event::RetrievalFailed { root, cause, blocks, bytes, duration }))
            })
            .collect();
        if !events.is_empty() {
            self.write_down(events).await;
        }
    }

    async fn write_down(&self, events: Vec<(PeerId, Event)>) {
        let now = self.now();
        let written = self.with_store(move |store| {
            store.write(|tx| {
                for (peer, event) in &events {
                    ledger::record(tx, peer, event, now)?;
                }
                Ok(())
            })
        });
        if let Err(failure) = written.await {
            tracing::warn!(failure.message, "what the peers did was not written down");
        }
    }
}

/// What counts against peers of the requests that an installation did not wait for.
///
/// Silence does only where it was the peer's own: its connection stood to the end, and a ping of it came back after it was
/// asked. Where it did not, the network between, or our own, may have been down.
fn late_events(
    root: ContentId,
    late: &Late,
    snapshot: Option<&Snapshot>,
    stopping: bool,
) -> Vec<(PeerId, Event)> {
    let failed = |cause| Event::RetrievalFailed { root, cause, blocks: 0, bytes: 0, duration: FETCH_TIMEOUT };
    let peers = snapshot.map_or(&[][..], |snapshot| &snapshot.peers);
    let circumstances = Circumstances { claimed: true, overloaded: peers.is_empty(), stopping };
    let was_alive = |peer: &PeerId, asked: Instant| {
        peers.iter().any(|it| it.peer == *peer && it.ponged.is_some_and(|ponged| ponged > asked))
    };
    let silent = late.silent.iter().filter(|(peer, asked)| was_alive(peer, **asked));
    let silent =
        silent.filter_map(|(peer, _)| Some((*peer, failed(blame(Attempt::Timeout, circumstances)?))));
    let forged = late.forged.iter().flat_map(|(peer, block)| {
        let cause = blame(Attempt::BadBlock, circumstances);
        let failed = cause.map(|cause| (*peer, failed(cause)));
        failed.into_iter().chain([(*peer, Event::ForgedBlock { block: *block })])
    });
    silent.chain(forged).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{content::Codec, network::PeerSnapshot};

    fn connected(peer: PeerId, ponged: Option<Instant>) -> PeerSnapshot {
        PeerSnapshot { ponged, ..PeerSnapshot::dialled(peer) }
    }

    #[test]
    fn silence_counts_only_where_the_peer_was_alive_and_forgery_always() {
        let root = ContentId::of(Codec::DagPb, b"tree");
        let (mute, cut_off, gone, forger) =
            (PeerId::random(), PeerId::random(), PeerId::random(), PeerId::random());
        let before = Instant::now();
        let asked = before + Duration::from_secs(1);
        let late = Late {
            silent: [mute, cut_off, gone].map(|peer| (peer, asked)).into(),
            forged: [(forger, root)].into(),
        };
        let peers =
            vec![connected(mute, Some(asked + Duration::from_secs(9))), connected(cut_off, Some(before))];
        let snapshot = Snapshot { peers, ..Snapshot::default() };
        let charged = |snapshot: Option<&Snapshot>, stopping| -> Vec<PeerId> {
            late_events(root, &late, snapshot, stopping).into_iter().map(|(peer, _)| peer).collect()
        };
        assert_eq!(charged(Some(&snapshot), false), [mute, forger, forger]);
        assert_eq!(charged(Some(&snapshot), true), [forger, forger]);
        assert_eq!(charged(Some(&Snapshot::default()), false), [forger, forger]);
        assert_eq!(charged(None, false), [forger, forger]);
    }
}
