//! The exchange of heads with connected peers, and the way of heads into the catalogue.

use std::collections::{BTreeMap, VecDeque};

use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId},
};
use tokio::sync::oneshot;

use super::{Event, driver::Driver, serve::Work};
use crate::{
    limits::{
        HEADS_CURSORS_MAX, HEADS_MALFORMED_PER_PAGE_MAX, HEADS_MALFORMED_PER_PEER_MAX, HEADS_PAGE_MAX,
        HEADS_PAGES_CHECKED_AT_ONCE_MAX, HEADS_PAGES_MAX,
    },
    sync::{
        self,
        protocol::{Cursor, Next, Page, Request, Yield},
    },
    time::Timestamp,
};

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
    /// Heads so far that break the rules of their form.
    malformed: usize,
}

impl Reading {
    /// Goes on where a peer was left.
    fn resumed(cursor: Cursor) -> Self {
        Self { cursor: cursor.resumed(), ..Self::default() }
    }

    /// Whether everything was read.
    pub(super) fn is_complete(&self) -> bool {
        self.cursor.is_complete()
    }

    /// Whether there is nothing to wait for: all was read, or the peer failed to tell.
    pub(super) fn is_settled(&self) -> bool {
        !self.under_way && (self.cursor.is_complete() || self.failed || self.waits)
    }
}

/// How far the heads of peers were read that are gone, those that left last at the end.
#[derive(Debug, Default)]
pub(super) struct Left {
    cursors: BTreeMap<PeerId, Cursor>,
    order: VecDeque<PeerId>,
}

impl Left {
    /// Notes how far the heads of a peer were read that is gone.
    pub(super) fn note(&mut self, peer: PeerId, reading: &Reading) {
        if self.cursors.insert(peer, reading.cursor).is_some() {
            self.order.retain(|it| *it != peer);
        } else if self.cursors.len() > HEADS_CURSORS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.cursors.remove(&oldest);
        }
        self.order.push_back(peer);
    }

    /// Begins to read the heads of a peer, or goes on where they were left.
    pub(super) fn begin(&mut self, peer: &PeerId) -> Reading {
        let Some(cursor) = self.cursors.remove(peer) else { return Reading::default() };
        self.order.retain(|it| it != peer);
        Reading::resumed(cursor)
    }
}

/// Pages that came, and wait for their turn to be verified; one a peer.
#[derive(Debug, Default)]
pub(super) struct Checking {
    waiting: VecDeque<(PeerId, Page)>,
    under_way: usize,
}

impl Checking {
    /// Adds a page, in place of one of the same peer, which must be of an earlier connection.
    fn push(&mut self, peer: PeerId, page: Page) {
        self.forget(&peer);
        self.waiting.push_back((peer, page));
    }

    /// Drops the page of a peer that is gone.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.waiting.retain(|(waiting, _)| waiting != peer);
    }

    /// The page whose turn it is.
    fn next(&mut self) -> Option<(PeerId, Page)> {
        if self.under_way >= HEADS_PAGES_CHECKED_AT_ONCE_MAX {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(next)
    }

    fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
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

    /// Asks once more at once, also for what could not be taken before.
    pub(super) fn reread(&mut self, reply: oneshot::Sender<()>) {
        let readings = self.peers.values_mut().filter_map(|peer| peer.reading.as_mut());
        readings.for_each(|reading| reading.cursor.retry());
        self.refresh(reply);
    }

    /// Asks once more at once, other than those peers that failed to tell in this round: one of them, asked for endless
    /// pages by every search that finds nothing, would hold all of them up.
    pub(super) fn refresh(&mut self, reply: oneshot::Sender<()>) {
        let failed = |peer: &super::peers::Peer| peer.reading.as_ref().is_some_and(|it| it.failed);
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
                    self.heard(&peer);
                    self.serve_page(peer, request_id, request, channel);
                }
                request_response::Message::Response { request_id, response } => {
                    self.heard(&peer);
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
        let epoch = self.epoch;
        self.beside.run(
            move |store, verified| sync::page(store, verified, epoch, request),
            move |page| Work::Page { id, channel, page: page.flatten() },
        );
    }

    /// Verifies a page beside the loop, when it is its turn: it may hold hundreds of signatures.
    fn check_page(&mut self, peer: PeerId, page: Page) {
        if page.heads.len() > HEADS_PAGE_MAX {
            tracing::debug!(%peer, heads = page.heads.len(), "a page holds more heads than it may");
            self.turned(peer, Next::GiveUp);
            return;
        }
        self.checking.push(peer, page);
        self.check_pages();
    }

    fn check_pages(&mut self) {
        while let Some((peer, page)) = self.checking.next() {
            self.beside.run(
                move |store, verified| {
                    let taken = sync::take_page(store, verified, &page.heads, &peer.into(), Timestamp::now());
                    (page, taken)
                },
                move |checked| Work::Checked { peer, checked },
            );
        }
    }

    pub(super) fn page_checked(&mut self, peer: PeerId, checked: Option<(Page, Option<sync::Taken>)>) {
        self.checking.ended();
        self.check_pages();
        let (page, taken) = checked.unwrap_or_default();
        let Some(taken) = taken else {
            self.turned(peer, Next::GiveUp);
            return;
        };
        self.listed(taken.new);
        let refused = taken.refused + taken.deferred + taken.malformed + taken.forged;
        self.intake.count_refused(refused);
        let mut reading = self.peers.get_mut(&peer).and_then(|peer| peer.reading.as_mut());
        let malformed = reading.as_mut().map_or(0, |reading| {
            reading.malformed = reading.malformed.saturating_add(taken.malformed);
            reading.malformed
        });
        if taken.malformed + taken.forged > 0 {
            tracing::warn!(%peer, ?taken, "a peer passes on heads that it cannot have verified");
        }
        if taken.forged > 0 {
            self.turned(peer, Next::GiveUp);
            // For a while only: its disk may be damaged, and whoever keeps the books says when the ban ends.
            if self.outbox.tell(Event::ForgedHeads { peer }) {
                self.block(peer, "it passes on forged heads".to_owned());
            } else {
                self.send_away(&peer);
            }
            return;
        }
        if taken.malformed > HEADS_MALFORMED_PER_PAGE_MAX || malformed > HEADS_MALFORMED_PER_PEER_MAX {
            self.turned(peer, Next::GiveUp);
            return;
        }
        let came = Yield { is_deferred: taken.deferred > 0, is_barren: taken.is_barren(page.heads.len()) };
        if let Some(next) = reading.map(|reading| reading.cursor.turn(&page, came, HEADS_PAGES_MAX)) {
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
            self.outbox.observer.tell(&Event::Listed { heads });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_pages_are_verified_at_once_than_may_be_and_one_of_each_peer_waits() {
        let (mut checking, mut peers) = (Checking::default(), Vec::new());
        for _ in 0..5 {
            let peer = PeerId::random();
            checking.push(peer, Page::default());
            checking.push(peer, Page::default());
            peers.push(peer);
        }
        let begun: Vec<_> = std::iter::from_fn(|| checking.next()).map(|(peer, _)| peer).collect();
        assert_eq!(begun, peers[..HEADS_PAGES_CHECKED_AT_ONCE_MAX]);
        checking.ended();
        checking.forget(&peers[2]);
        assert_eq!(checking.next().map(|(peer, _)| peer), Some(peers[3]));
        assert!(checking.next().is_none());
    }

    #[test]
    fn a_peer_that_comes_back_is_read_on_where_it_was_left() {
        let mut left = Left::default();
        let peers: Vec<_> = (0..HEADS_CURSORS_MAX + 1).map(|_| PeerId::random()).collect();
        for peer in &peers {
            let mut reading = Reading::default();
            let page = Page { epoch: 7, next: 50, done: true, heads: Vec::new() };
            reading.cursor.turn(&page, Yield::default(), HEADS_PAGES_MAX);
            left.note(*peer, &reading);
            left.note(*peer, &reading);
        }
        assert_eq!(left.begin(&peers[1]).cursor.begin(), Request { epoch: 7, after: 50 });
        assert_eq!(left.begin(&peers[1]).cursor.begin(), Request::default(), "once");
        assert_eq!(left.begin(&peers[0]).cursor.begin(), Request::default(), "it left first");
        assert_eq!(left.cursors.len(), left.order.len());
    }
}
