//! Blocks for others, blocks from others, and the work that runs beside the loop.

use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId},
};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use super::{
    Event,
    blocks::Reply,
    dht::Answered,
    driver::Driver,
    intake::{Judged, Offered},
    logs::AnswerId,
};
use crate::{
    content::ContentId,
    fetch::{
        RequestFailure,
        protocol::{Answer, Found, Request},
    },
    heads::{
        compare::Broken,
        exchange::{self, Ours, Ticket},
    },
    limits::{FETCH_ANSWER_BYTES, FETCH_IDS_MAX},
    store::Store,
    sync::{self, protocol as heads, serve::Served},
};

/// Work that ended beside the loop.
pub(super) enum Work {
    /// Blocks were read for a peer.
    Blocks {
        id: InboundRequestId,
        channel: request_response::ResponseChannel<Answer>,
        answer: Option<Answer>,
    },
    /// What a peer asked of the exchange of heads was read.
    Served {
        peer: PeerId,
        id: InboundRequestId,
        channel: request_response::ResponseChannel<heads::Answer>,
        served: Option<Served>,
    },
    /// This side's turn of a comparison was taken.
    Compared { peer: PeerId, ticket: Ticket, ours: Option<Result<Ours, Broken>> },
    /// Heads that a peer gave were verified and written.
    Checked { peer: PeerId, ticket: Ticket, took: Option<(usize, sync::Took)> },
    /// Heads that came were judged; nothing where the database failed.
    Judged { offered: Vec<Offered>, judged: Option<Vec<Judged>> },
    /// What a lookup found was judged.
    Answered(Box<Answered>),
    /// Heads were written, so many that were new or newer.
    Written { heads: usize },
    /// A log was told to a peer, or as much of it as the peer took.
    Recited { bytes: u64 },
    /// A proof against a publisher was written.
    Kept,
}

pub(super) type FetchEvent = request_response::Event<Request, Answer>;

impl Driver {
    pub(super) fn finished(&mut self, work: Work) {
        match work {
            Work::Blocks { id, channel, answer } => {
                // Without an answer the channel is dropped, which ends as a failure of the request.
                let Some(answer) = answer else { return };
                self.blocks.answering.set_bytes(&AnswerId::Blocks(id), bytes_of(&answer));
                if self.swarm.behaviour_mut().fetch.send_response(channel, answer).is_err() {
                    self.blocks.answering.end(&AnswerId::Blocks(id));
                }
            }
            Work::Served { peer, id, channel, served } => self.served(peer, id, channel, served),
            Work::Compared { peer, ticket, ours } => {
                self.tell_exchange(exchange::Event::Compared(peer, ticket, ours));
            }
            Work::Checked { peer, ticket, took } => self.checked(peer, ticket, took),
            Work::Judged { offered, judged } => self.judged(offered, judged),
            Work::Answered(answered) => self.answered(*answered),
            Work::Written { heads } => {
                self.intake.end_writing();
                self.listed(heads);
            }
            Work::Recited { bytes } => self.blocks.recited(bytes),
            Work::Kept => {}
        }
    }

    pub(super) fn fetch(&mut self, peer: PeerId, request: Request, reply: Reply) {
        if self.blocks.asked() >= self.line.down.transfers_max() {
            // What would come too slowly is not asked for yet.
            let _ = reply.send(Err(RequestFailure::Own));
            return;
        }
        if let Err(failure) = self.blocks.may_ask(&peer, self.peers.contains_key(&peer)) {
            let _ = reply.send(Err(failure));
            return;
        }
        let id = self.swarm.behaviour_mut().fetch.send_request(&peer, request);
        self.blocks.ask(id, peer, reply);
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
                    if self.blocks.answered(&request_id, response) {
                        self.peers.transferred(&peer, Instant::now());
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                self.blocks.failed(&request_id, error);
            }
            request_response::Event::ResponseSent { peer, request_id, .. } => {
                let bytes = self.blocks.sent(&AnswerId::Blocks(request_id));
                if bytes > 0 {
                    self.peers.transferred(&peer, Instant::now());
                    self.outbox.tell(Event::Served { peer, bytes });
                }
            }
            request_response::Event::InboundFailure { request_id, .. } => {
                self.blocks.answering.end(&AnswerId::Blocks(request_id));
            }
        }
    }

    /// Finds room for an answer; false where the peer is to come again later.
    pub(super) fn begin_answer(&mut self, id: AnswerId, peer: PeerId) -> bool {
        let now = Instant::now();
        if let Some(greediest) = self.blocks.answering.greediest(now) {
            tracing::debug!(peer = %greediest, "it does not read the many answers that it asked for");
            self.send_away(&greediest);
        }
        if self.blocks.answering.len() >= self.line.up.transfers_max() {
            return false;
        }
        let network = self.peers.network_of(&peer);
        self.blocks.answering.begin(id, peer, network, now)
    }

    fn serve_blocks(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: Request,
        channel: request_response::ResponseChannel<Answer>,
    ) {
        if request.want.len() > FETCH_IDS_MAX || !self.begin_answer(AnswerId::Blocks(id), peer) {
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
