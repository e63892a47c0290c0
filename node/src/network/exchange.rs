//! The exchange of heads with connected peers, and the way of heads into the catalogue.

use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId},
};
use tokio::sync::oneshot;

use super::{Event, driver::Driver, serve::Work};
use crate::{
    limits::{HEADS_PAGE_MAX, HEADS_PAGES_MAX},
    sync::{
        self,
        protocol::{Cursor, Next, Page, Request},
    },
    time::Timestamp,
};

/// Heads written in one transaction.
const INGESTED_AT_ONCE_MAX: usize = 512;
/// Pages that are read for others at once, and on their way to them.
pub(super) const PAGES_SERVED_AT_ONCE_MAX: usize = 64;
/// Those of them for one peer; an honest one asks for a page after the other.
const PAGES_SERVED_PER_PEER_MAX: usize = 4;

/// How far the heads of one peer were read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    cursor: Cursor,
    under_way: bool,
    failed: bool,
    /// Whether there is something that could not be taken for now.
    waits: bool,
}

impl Reading {
    /// Whether everything was read.
    pub(super) fn is_complete(&self) -> bool {
        self.cursor.is_complete()
    }

    /// Whether there is nothing to wait for: all was read, or the peer failed to tell.
    pub(super) fn is_settled(&self) -> bool {
        !self.under_way && (self.cursor.is_complete() || self.failed || self.waits)
    }
}

pub(super) type HeadsEvent = request_response::Event<Request, Page>;

impl Driver {
    /// Asks every connected peer for what its catalogue has gained.
    pub(super) fn read_all_heads(&mut self) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.read_heads(peer));
    }

    pub(super) fn read_heads(&mut self, peer: PeerId) {
        let Some(reading) = self.peers.get_mut(&peer).and_then(|peer| peer.reading.as_mut()) else { return };
        if reading.under_way {
            return;
        }
        reading.under_way = true;
        reading.failed = false;
        let request = reading.cursor.begin();
        let id = self.swarm.behaviour_mut().heads.send_request(&peer, request);
        self.readings.insert(id, peer);
    }

    /// Asks once more at once, other than those peers that failed to tell in this round: one of them, asked for endless
    /// pages by every search that finds nothing, would hold all of them up.
    pub(super) fn refresh(&mut self, reply: oneshot::Sender<()>) {
        let failed = |peer: &super::driver::Peer| peer.reading.as_ref().is_some_and(|it| it.failed);
        let peers: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| !failed(peer)).map(|(id, _)| *id).collect();
        peers.into_iter().for_each(|peer| self.read_heads(peer));
        // A peer may take hours for its pages, and nobody waits for it so long.
        self.refreshing.retain(|waiting| !waiting.is_closed());
        self.refreshing.push(reply);
        self.reply_refreshed();
    }

    /// Answers those who wait for all heads to be read, once they are.
    pub(super) fn reply_refreshed(&mut self) {
        let outstanding = self.peers.values().filter_map(|peer| peer.reading.as_ref()).any(|it| it.under_way);
        if !outstanding {
            for reply in self.refreshing.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    pub(super) fn heads_event(&mut self, event: HeadsEvent) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request_id, request, channel } => {
                    self.serve_page(peer, request_id, request, channel);
                }
                request_response::Message::Response { request_id, response } => {
                    if self.readings.remove(&request_id).is_some() {
                        self.check_page(peer, response);
                    }
                }
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. }
                if self.readings.remove(&request_id).is_some() =>
            {
                tracing::debug!(%peer, %error, "the heads of a peer were not read");
                self.turned(peer, Next::GiveUp);
            }
            // A page holds memory until it has left, whether its reader reads or not.
            request_response::Event::ResponseSent { request_id, .. }
            | request_response::Event::InboundFailure { request_id, .. } => {
                self.pages.remove(&request_id);
            }
            request_response::Event::OutboundFailure { .. } => {}
        }
    }

    fn serve_page(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: Request,
        channel: request_response::ResponseChannel<Page>,
    ) {
        let of_peer = self.pages.values().filter(|reader| **reader == peer).count();
        if self.pages.len() >= PAGES_SERVED_AT_ONCE_MAX || of_peer >= PAGES_SERVED_PER_PEER_MAX {
            // Dropping the channel closes the stream; the peer asks again in its next round.
            return;
        }
        self.pages.insert(id, peer);
        let (store, epoch) = (self.store.clone(), self.epoch);
        let read = self.offload.run(move || sync::page(&store, epoch, request, Timestamp::now()));
        self.work.push(Box::pin(async move { Work::Page { id, channel, page: read.await.flatten() } }));
    }

    /// Verifies a page beside the loop: it may hold hundreds of signatures.
    fn check_page(&mut self, peer: PeerId, mut page: Page) {
        let heads = std::mem::take(&mut page.heads);
        if heads.len() > HEADS_PAGE_MAX {
            tracing::debug!(%peer, heads = heads.len(), "a page holds more heads than it may");
            self.turned(peer, Next::GiveUp);
            return;
        }
        let store = self.store.clone();
        let checked = self.offload.run(move || sync::take_page(&store, &heads, Timestamp::now()));
        self.work.push(Box::pin(async move { Work::Checked { peer, page, taken: checked.await.flatten() } }));
    }

    pub(super) fn page_checked(&mut self, peer: PeerId, page: &Page, taken: Option<sync::Taken>) {
        let Some(taken) = taken else {
            self.turned(peer, Next::GiveUp);
            return;
        };
        self.listed(taken.new);
        let refused = taken.refused + taken.deferred + taken.malformed + taken.forged;
        self.heads_refused = self.heads_refused.saturating_add(refused as u64);
        if taken.malformed + taken.forged > 0 {
            tracing::warn!(%peer, ?taken, "a peer passes on heads that it cannot have verified");
            self.turned(peer, Next::GiveUp);
            if taken.forged > 0 {
                self.block(peer, "it passes on forged heads".to_owned());
            }
            return;
        }
        let reading = self.peers.get_mut(&peer).and_then(|peer| peer.reading.as_mut());
        if let Some(next) =
            reading.map(|reading| reading.cursor.turn(page, taken.deferred == 0, HEADS_PAGES_MAX))
        {
            self.turned(peer, next);
        }
    }

    fn turned(&mut self, peer: PeerId, next: Next) {
        if let Next::Ask(request) = next {
            let id = self.swarm.behaviour_mut().heads.send_request(&peer, request);
            self.readings.insert(id, peer);
            return;
        }
        if let Some(reading) = self.peers.get_mut(&peer).and_then(|peer| peer.reading.as_mut()) {
            reading.under_way = false;
            reading.failed = next == Next::GiveUp;
            reading.waits = next == Next::Incomplete;
        }
        self.publish_heads_read();
        self.reply_refreshed();
    }

    pub(super) fn listed(&self, heads: usize) {
        if heads > 0 {
            self.observer.tell(&Event::Listed { heads });
        }
    }

    /// Writes what waits in the inbox, in one transaction at a time.
    pub(super) fn ingest(&mut self) {
        if self.ingesting || self.inbox.is_empty() {
            return;
        }
        self.ingesting = true;
        let batch: Vec<_> = self.inbox.drain(..self.inbox.len().min(INGESTED_AT_ONCE_MAX)).collect();
        let store = self.store.clone();
        let written = self.offload.run(move || sync::write(&store, &batch, Timestamp::now()));
        self.work.push(Box::pin(async move {
            let heads = match written.await {
                Some(Ok(written)) => written.new,
                Some(Err(error)) => {
                    tracing::warn!(%error, "heads were not written; the exchange will bring them again");
                    0
                }
                None => 0,
            };
            Work::Ingested { heads }
        }));
    }
}
