//! A network in memory: peers that hold a store and have manners, at fixed round trips.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use serde_bytes::ByteBuf;
use tokio::{sync::mpsc, time::sleep};

use super::{
    RequestFailure, Source, Transport,
    log::{self, Frame, Recital, Then},
    protocol::{Answer, Arrived, Found, Request},
    swarm::{News, Share, Trees},
};
use crate::{content::ContentId, store::Store};

/// How a peer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it should.
    Honest,
    /// With one bit changed in all that it sends.
    Forging,
    /// Not at all.
    Mute,
    /// Cannot be reached.
    Away,
    /// One byte a second.
    Dripping,
    /// With so many frames of a log, and then the connection breaks.
    Breaking(usize),
    /// With frames that never end.
    Endless,
    /// With a frame that is none.
    Broken,
    /// That it is busy.
    Busy,
    /// Cannot be asked so many times, and then as it should.
    Restarting(usize),
}

/// One peer.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) store: Store,
    pub(super) manner: Manner,
}

/// What was asked of whom.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) blocks: Vec<PeerId>,
    pub(super) logs: Vec<(PeerId, log::Request)>,
    pub(super) credited: Vec<PeerId>,
}

/// The network.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    peers: Arc<BTreeMap<PeerId, Peer>>,
    round_trip: Duration,
    own: PeerId,
    pub(super) trees: Trees,
    /// What peers tell of a tree that is followed there.
    pub(super) tells: BTreeMap<PeerId, Vec<News>>,
    seen: Arc<Mutex<Seen>>,
}

impl Memory {
    pub(super) fn new(peers: impl IntoIterator<Item = (PeerId, Peer)>, round_trip: Duration) -> Self {
        let (seen, trees, own, tells) = (Arc::default(), Trees::default(), PeerId::random(), BTreeMap::new());
        Self { peers: Arc::new(peers.into_iter().collect()), round_trip, own, trees, tells, seen }
    }

    pub(super) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// How often a peer was asked for blocks.
    fn asked_for_blocks(&self, peer: PeerId) -> usize {
        self.seen().blocks.iter().filter(|asked| **asked == peer).count()
    }

    /// A lookup that finds these peers, and ends.
    pub(super) fn found(peers: &[PeerId]) -> mpsc::Receiver<Source> {
        let (found, sources) = mpsc::channel(peers.len().max(1));
        for peer in peers {
            found.try_send(Source { peer: *peer, addresses: Vec::new(), claimed: true }).unwrap();
        }
        sources
    }
}

fn forged(mut bytes: Vec<u8>) -> ByteBuf {
    match bytes.last_mut() {
        Some(last) => *last ^= 1,
        None => bytes.push(1),
    }
    ByteBuf::from(bytes)
}

impl Transport for Memory {
    async fn reach(&self, peer: PeerId, _: Vec<Multiaddr>, _: Duration) -> bool {
        sleep(self.round_trip).await;
        self.peers.get(&peer).is_some_and(|peer| peer.manner != Manner::Away)
    }

    async fn ask(&self, id: PeerId, request: Request) -> Result<Answer, RequestFailure> {
        self.seen().blocks.push(id);
        let peer = self.peers.get(&id).ok_or(RequestFailure::Unreachable)?;
        sleep(self.round_trip).await;
        let found = |id| match peer.store.block(id).unwrap() {
            Some(_) if peer.manner == Manner::Forging => Found::Forged,
            Some(block) => Found::Have(block),
            None => Found::Missing,
        };
        match peer.manner {
            Manner::Restarting(times) if self.asked_for_blocks(id) <= times => {
                Err(RequestFailure::Unreachable)
            }
            Manner::Honest | Manner::Forging | Manner::Restarting(_) => {
                Ok(Answer { blocks: request.want.iter().map(found).collect(), busy: None })
            }
            Manner::Busy => Ok(Answer::default()),
            Manner::Breaking(_) => Err(RequestFailure::Closed),
            Manner::Broken => Err(RequestFailure::Broken("no answer".to_owned())),
            Manner::Mute | Manner::Away | Manner::Dripping | Manner::Endless => {
                sleep(Duration::from_secs(20)).await;
                Err(RequestFailure::Timeout)
            }
        }
    }

    fn own(&self) -> PeerId {
        self.own
    }

    fn follow(&self, peer: PeerId, _: ContentId, news: mpsc::Sender<(PeerId, News)>) {
        for told in self.tells.get(&peer).into_iter().flatten() {
            news.try_send((peer, told.clone())).unwrap();
        }
    }

    fn share(&self, tree: ContentId) -> Option<Share> {
        self.trees.share(tree)
    }

    async fn read_log(
        &self,
        id: PeerId,
        request: log::Request,
        frames: mpsc::Sender<Frame>,
        arrived: Arrived,
    ) -> Result<(), RequestFailure> {
        self.seen().logs.push((id, request.clone()));
        let peer = self.peers.get(&id).ok_or(RequestFailure::Unreachable)?;
        sleep(self.round_trip).await;
        let mut recital = Recital::new(request);
        for sent in 0.. {
            let mut frame = match peer.manner {
                Manner::Mute | Manner::Away => {
                    sleep(Duration::from_secs(20)).await;
                    return Err(RequestFailure::Timeout);
                }
                Manner::Dripping => {
                    for _ in 0..320 {
                        sleep(Duration::from_secs(1)).await;
                        arrived.add(1);
                    }
                    return Err(RequestFailure::Timeout);
                }
                Manner::Breaking(frames) if sent == frames => return Err(RequestFailure::Closed),
                Manner::Broken => return Err(RequestFailure::Broken("over the cap".to_owned())),
                Manner::Busy => Frame::last(Then::Busy),
                Manner::Endless if sent > 0 => Frame { then: Then::More, ..Frame::last(Then::More) },
                Manner::Honest
                | Manner::Forging
                | Manner::Breaking(_)
                | Manner::Endless
                | Manner::Restarting(_) => recital.frame(&peer.store),
            };
            if peer.manner == Manner::Forging {
                frame.entries = frame.entries.into_iter().map(|entry| forged(entry.into_vec())).collect();
            }
            if peer.manner == Manner::Endless {
                frame.then = Then::More;
            }
            frame.entries.iter().for_each(|entry| arrived.add(entry.len()));
            let is_last = frame.then != Then::More;
            if frames.send(frame).await.is_err() {
                return Err(RequestFailure::Closed);
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    fn credit(&self, peer: PeerId) {
        self.seen().credited.push(peer);
    }
}
