//! Blocks for others, blocks from others, and the work that runs beside the loop.

use std::io;

use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId},
};
use serde_bytes::ByteBuf;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Event,
    dht::Answered,
    driver::{Driver, PENDING_MAX},
    events::network_of,
    handle::RequestFailure,
    intake::{Judged, Offered},
    progress::is_silence,
};
use crate::{
    content::ContentId,
    fetch::protocol::{Answer, Found, Request},
    limits::{FETCH_ANSWER_BYTES, FETCH_IDS_MAX, FETCH_SERVED_PER_PEER_MAX},
    store::Store,
    sync::{self, protocol::Page},
};

/// Work that ended beside the loop.
pub(super) enum Work {
    /// Blocks were read for a peer.
    Blocks {
        id: InboundRequestId,
        channel: request_response::ResponseChannel<Answer>,
        answer: Option<Answer>,
    },
    /// A page of heads was read for a peer.
    Page { id: InboundRequestId, channel: request_response::ResponseChannel<Page>, page: Option<Page> },
    /// A page of a peer's heads was verified and written.
    Checked { peer: PeerId, checked: Option<(Page, Option<sync::Taken>)> },
    /// Heads that came were judged; nothing where the database failed.
    Judged { offered: Vec<Offered>, judged: Option<Vec<Judged>> },
    /// What a lookup found was judged.
    Answered(Box<Answered>),
    /// Heads were written, so many that were new or newer.
    Written { heads: usize },
    /// A proof against a publisher was written.
    Kept,
}

/// A request for blocks that is under way.
pub(super) struct Fetch {
    pub(super) peer: PeerId,
    pub(super) reply: oneshot::Sender<Result<Answer, RequestFailure>>,
}

pub(super) type FetchEvent = request_response::Event<Request, Answer>;

impl Driver {
    pub(super) fn finished(&mut self, work: Work) {
        match work {
            Work::Blocks { id, channel, answer } => {
                // Without an answer the channel is dropped, which ends as a failure of the request.
                let Some(answer) = answer else { return };
                self.answering.set_bytes(&id, bytes_of(&answer));
                if self.swarm.behaviour_mut().fetch.send_response(channel, answer).is_err() {
                    self.answering.end(&id);
                }
            }
            Work::Page { id, channel, page } => {
                // Without a page the channel is dropped, which ends as a failure of the request.
                if let Some(page) = page
                    && self.swarm.behaviour_mut().heads.send_response(channel, page).is_err()
                {
                    self.pages.remove(&id);
                }
            }
            Work::Checked { peer, checked } => self.page_checked(peer, checked),
            Work::Judged { offered, judged } => self.judged(offered, judged),
            Work::Answered(answered) => self.answered(*answered),
            Work::Written { heads } => {
                self.intake.end_writing();
                self.listed(heads);
            }
            Work::Kept => {}
        }
    }

    fn transferred(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.last_transfer = Some(Instant::now());
        }
    }

    /// Notes that a peer gave what it was asked for.
    pub(super) fn credit(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.last_gift = Some(Instant::now());
        }
    }

    pub(super) fn fetch(
        &mut self,
        peer: PeerId,
        request: Request,
        reply: oneshot::Sender<Result<Answer, RequestFailure>>,
    ) {
        if self.fetches.len() >= PENDING_MAX {
            let _ = reply.send(Err(RequestFailure::Own));
            return;
        }
        if !self.swarm.is_connected(&peer) {
            let _ = reply.send(Err(RequestFailure::Unreachable));
            return;
        }
        // Several retrievals may ask one peer. What it would only call busy, or drop, is not sent.
        if self.fetches.values().filter(|fetch| fetch.peer == peer).count() >= FETCH_SERVED_PER_PEER_MAX {
            let _ = reply.send(Err(RequestFailure::Own));
            return;
        }
        let id = self.swarm.behaviour_mut().fetch.send_request(&peer, request);
        self.fetches.insert(id, Fetch { peer, reply });
    }

    pub(super) fn fetch_event(&mut self, event: FetchEvent) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request_id, request, channel } => {
                    self.heard(&peer);
                    self.serve_blocks(peer, request_id, request, channel);
                }
                request_response::Message::Response { request_id, response } => {
                    self.heard(&peer);
                    if let Some(fetch) = self.fetches.remove(&request_id) {
                        if !response.blocks.is_empty() {
                            self.transferred(&peer);
                        }
                        let _ = fetch.reply.send(Ok(response));
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(fetch) = self.fetches.remove(&request_id) {
                    let _ = fetch.reply.send(Err(failure_of(error)));
                }
            }
            request_response::Event::ResponseSent { peer, request_id, .. } => {
                // It has left: it held memory until now, whether its reader read or not.
                let bytes = self.answering.end(&request_id);
                if bytes > 0 {
                    self.transferred(&peer);
                    self.bytes_sent = self.bytes_sent.saturating_add(bytes);
                    self.emit(Event::Served { peer, bytes });
                }
            }
            request_response::Event::InboundFailure { request_id, .. } => {
                self.answering.end(&request_id);
            }
        }
    }

    fn serve_blocks(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: Request,
        channel: request_response::ResponseChannel<Answer>,
    ) {
        let now = Instant::now();
        if let Some(greediest) = self.answering.greediest(now) {
            self.let_go(vec![greediest], "it does not read the many answers that it asked for");
        }
        let reached_at = self.peers.get(&peer).map(|peer| peer.connections.values());
        let network = reached_at.and_then(|mut at| at.find_map(|(address, _)| network_of(address)));
        if request.want.len() > FETCH_IDS_MAX || !self.answering.begin(id, peer, network, now) {
            // An empty answer says «busy»; the peer may have left meanwhile.
            let _ = self.swarm.behaviour_mut().fetch.send_response(channel, Answer::default());
            return;
        }
        self.beside.run(
            move |store, _| read_blocks(store, &request.want),
            move |answer| Work::Blocks { id, channel, answer },
        );
    }
}

/// Only what was read can break the protocol. The other errors are of the connection, or of somebody's bounds: an answer that ends
/// too early is one that the peer gave up, as it must where this side reads too slowly.
fn failure_of(error: request_response::OutboundFailure) -> RequestFailure {
    use request_response::OutboundFailure as Failure;
    match error {
        Failure::DialFailure | Failure::UnsupportedProtocols => RequestFailure::Unreachable,
        Failure::Timeout => RequestFailure::Timeout,
        Failure::Io(error) if is_silence(&error) => RequestFailure::Timeout,
        Failure::ConnectionClosed => RequestFailure::Closed,
        Failure::Io(error) => match error.kind() {
            io::ErrorKind::InvalidData => RequestFailure::Broken(error.to_string()),
            _ => RequestFailure::Closed,
        },
    }
}

/// Reads blocks up to the bound of one answer.
fn read_blocks(store: &Store, want: &[ContentId]) -> Answer {
    let mut bytes = 0;
    let blocks = want
        .iter()
        .map(|id| {
            if bytes >= FETCH_ANSWER_BYTES {
                return Found::Later;
            }
            match store.block(id) {
                Ok(Some(block)) if bytes > 0 && bytes + block.bytes().len() > FETCH_ANSWER_BYTES => {
                    bytes = FETCH_ANSWER_BYTES;
                    Found::Later
                }
                Ok(Some(block)) => {
                    bytes += block.bytes().len();
                    Found::Have(ByteBuf::from(block.into_bytes()))
                }
                Ok(None) => Found::Missing,
                Err(error) => {
                    tracing::warn!(%error, "a block was not read");
                    Found::Missing
                }
            }
        })
        .collect();
    Answer { blocks }
}

fn bytes_of(answer: &Answer) -> u64 {
    let sizes = answer.blocks.iter().map(|found| match found {
        Found::Have(bytes) => bytes.len() as u64,
        Found::Missing | Found::Later => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::progress::Silence;

    #[test]
    fn only_what_a_peer_sent_breaks_the_protocol() {
        let of = |error| failure_of(request_response::OutboundFailure::Io(error));
        let sent = io::Error::new(io::ErrorKind::InvalidData, "over the cap");
        assert!(matches!(of(sent), RequestFailure::Broken(_)));
        // It gave its answer up, where this side reads too slowly.
        assert_eq!(of(io::ErrorKind::UnexpectedEof.into()), RequestFailure::Closed);
        // What the multiplexer says where this side has as many streams open as it may.
        assert_eq!(of(io::Error::other("max sub-streams reached")), RequestFailure::Closed);
        assert_eq!(of(io::ErrorKind::ConnectionReset.into()), RequestFailure::Closed);
        // What the network says, and what the peer did.
        assert_eq!(of(io::ErrorKind::TimedOut.into()), RequestFailure::Closed);
        assert_eq!(of(io::Error::new(io::ErrorKind::TimedOut, Silence)), RequestFailure::Timeout);
    }
}
