//! Requests that are in flight, those that wait for their turn, and which of them become needless.
//!
//! A peer that has more to do than its line carries says that a request waits. Its blocks stay queued then, and after a while are asked of
//! one more peer, and of a few at most; whoever begins to send first wins, and the others, which have sent nothing, are told that it is
//! over.

use std::{collections::BTreeSet, time::Duration};

use libp2p::PeerId;

use super::{
    Ask, Plan, RequestId,
    choice::{self, is_worth},
    pace::Sent,
};
use crate::content::ContentId;

/// Bytes of a block that show that a peer answers: a few could drip from anybody.
const PROVES_BYTES: u64 = 64 << 10;

/// A request.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) peer: PeerId,
    pub(super) sent: Sent,
    /// When enough of its answer had come last.
    pub(super) moved: Option<Duration>,
    /// How many bytes of its own blocks have come, and when the first of them did.
    pub(super) came: u64,
    pub(super) began: Option<Duration>,
    /// Whether it waits for its turn.
    pub(super) waits: bool,
    pub(super) bytes: u64,
    pub(super) want: Vec<ContentId>,
    /// Those of them that are still wanted and that no other request asks for.
    pub(super) alone: BTreeSet<ContentId>,
}

impl Plan {
    /// A peer says that a request waits for its turn: it is alive, and has more to do than its line carries. Others may be asked
    /// for the same meanwhile, as for what nobody is asked for.
    pub fn waits(&mut self, id: RequestId, now: Duration) {
        let Some(flight) = self.flights.get_mut(&id).filter(|it| !it.waits && it.began.is_none()) else {
            return;
        };
        flight.waits = true;
        flight.alone.clear();
        let (of, bytes, want) = (flight.peer, flight.bytes, flight.want.clone());
        if let Some(peer) = self.peers.get_mut(&of) {
            peer.heard = Some(now);
            peer.busy = 0;
            peer.in_flight = peer.in_flight.saturating_sub(bytes);
            peer.waiting += 1;
        }
        for block in &want {
            self.not_asked(id, block);
            if let Some(want) = self.wants.get_mut(block) {
                want.waits.insert(id, of);
                want.not_before = now + choice::WAITS_PAUSE;
            }
        }
        self.queued += 1;
        self.waits_until.get_or_insert(now + choice::WAITS_PAUSE);
        self.requeue(&want);
    }

    /// So many bytes of the blocks of a request have come. With the first of them, its turn has come: those that let the same wait need not
    /// send it.
    pub fn came(&mut self, id: RequestId, bytes: u64, now: Duration) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.came = bytes;
        if bytes >= PROVES_BYTES
            && let Some(peer) = self.peers.get_mut(&flight.peer)
        {
            // It may be asked for more before it has ended.
            peer.heard = peer.heard.or(Some(now));
        }
        if bytes == 0 || flight.began.is_some() {
            return;
        }
        flight.began = Some(now);
        let (of, more, want) = (flight.peer, flight.bytes, flight.want.clone());
        if std::mem::take(&mut flight.waits) {
            if let Some(peer) = self.peers.get_mut(&of) {
                peer.waiting = peer.waiting.saturating_sub(1);
                peer.in_flight = peer.in_flight.saturating_add(more);
                flight.sent = peer.pace.sent(peer.in_flight, now);
            }
            for block in &want {
                if let Some(state) = self.wants.get_mut(block) {
                    state.waits.remove(&id);
                    self.wants.take(block);
                    self.asks(id, of, block);
                }
            }
        }
        self.spare(id, &want, now);
    }

    pub(super) fn send(&mut self, peer: PeerId, want: Vec<ContentId>, now: Duration) -> Ask {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let mut bytes = 0_u64;
        let mut alone = BTreeSet::new();
        for block in &want {
            self.wants.take(block);
            let Some(state) = self.wants.get(block) else { continue };
            bytes = bytes.saturating_add(state.size);
            if state.asked.is_empty() {
                alone.insert(*block);
            }
            self.asks(id, peer, block);
        }
        let state = self.peers.entry(peer).or_default();
        state.in_flight = state.in_flight.saturating_add(bytes);
        state.requests += 1;
        let sent = state.pace.sent(state.in_flight, now);
        if let Some(members) = self.members.as_mut().filter(|_| !state.is_partial()) {
            members.asks(now);
        }
        let (moved, came, began, waits) = Default::default();
        let flight = Flight { peer, sent, moved, came, began, waits, bytes, want: want.clone(), alone };
        self.flights.insert(id, flight);
        Ask { id, peer, want }
    }

    /// Notes that a request asks for a block and does not wait.
    fn asks(&mut self, id: RequestId, peer: PeerId, block: &ContentId) {
        let Some(want) = self.wants.get_mut(block) else { return };
        let others: Vec<RequestId> = want.asked.keys().copied().collect();
        want.asked.insert(id, peer);
        if others.is_empty() {
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.alone.insert(*block);
            }
        } else {
            self.copied.insert(*block);
            self.not_alone(others.into_iter(), block);
        }
    }

    /// Notes that a request does not ask for a block any more, or waits.
    fn not_asked(&mut self, id: RequestId, block: &ContentId) {
        let Some(want) = self.wants.get_mut(block) else { return };
        want.asked.remove(&id);
        if want.waits.remove(&id).is_some() && want.asked.is_empty() {
            // It is in the queue, and fewer let it wait.
            self.wants.queue(block, self.members.as_ref().filter(|_| self.is_swarm));
            return;
        }
        if want.asked.len() < 2 {
            self.copied.remove(block);
        }
        if let [left] = want.asked.keys().collect::<Vec<_>>()[..]
            && let Some(left) = self.flights.get_mut(left)
        {
            left.alone.insert(*block);
        }
    }

    pub(super) fn land(&mut self, id: RequestId) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            if flight.waits {
                peer.waiting = peer.waiting.saturating_sub(1);
            } else {
                peer.in_flight = peer.in_flight.saturating_sub(flight.bytes);
            }
            peer.requests = peer.requests.saturating_sub(1);
        }
        flight.want.iter().for_each(|block| self.not_asked(id, block));
        Some(flight)
    }

    /// Cancels what a request makes needless that has begun to come: what waits for the same, and of those that come already the one that
    /// would take longer.
    fn spare(&mut self, id: RequestId, want: &[ContentId], now: Duration) {
        let (mut waiting, mut coming) = (BTreeSet::new(), BTreeSet::new());
        for state in want.iter().filter_map(|block| self.wants.get(block)) {
            waiting.extend(state.waits.keys().copied());
            coming.extend(state.asked.keys().copied().filter(|other| *other != id));
        }
        let comes = |block: &ContentId| self.wants.get(block).is_none_or(|want| !want.asked.is_empty());
        waiting.retain(|id| self.flights.get(id).is_some_and(|it| it.want.iter().all(comes)));
        waiting.into_iter().for_each(|id| self.take_back(id));
        for other in coming {
            let (Some(new), Some(old)) = (self.flights.get(&id), self.flights.get(&other)) else { continue };
            if new.want.len() > 1 || old.want.len() > 1 || old.began.is_none() {
                continue;
            }
            let takes = self.peers.get(&new.peer).and_then(|peer| peer.pace.time_of(new.bytes, 0));
            let is_sooner = match (self.left(old, now), takes) {
                (Some(left), Some(takes)) => is_worth(takes, left, true),
                _ => false,
            };
            self.take_back(if is_sooner { other } else { id });
        }
    }

    /// Cancels a request.
    fn take_back(&mut self, id: RequestId) {
        if self.land(id).is_some() {
            self.cancelled.push(id);
            self.queued += 1;
        }
    }

    /// Cancels those of some requests of which nothing is wanted any more. A peer that has been silent since it was asked is still
    /// waited for: that it never answers counts against it.
    pub(super) fn cancel(&mut self, requests: BTreeSet<RequestId>) {
        for id in requests {
            let Some(flight) = self.flights.get(&id) else { continue };
            let heard = self.peers.get(&flight.peer).and_then(|peer| peer.heard);
            let is_alive =
                flight.waits || flight.moved.is_some() || heard.is_some_and(|heard| heard > flight.sent.at);
            if is_alive && flight.want.iter().all(|block| self.wants.get(block).is_none()) {
                self.land(id);
                self.cancelled.push(id);
            }
        }
    }

    /// Notes that these requests are not alone, or no longer, in asking for a block.
    pub(super) fn not_alone(&mut self, requests: impl Iterator<Item = RequestId>, block: &ContentId) {
        for request in requests {
            if let Some(flight) = self.flights.get_mut(&request) {
                flight.alone.remove(block);
            }
        }
    }
}
