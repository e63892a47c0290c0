//! Blocks for others, blocks from others, and the work that runs beside the loop.

use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId},
};
use tokio::time::Instant;

use super::{
    Event,
    blocks::{Interest, Reply, Told},
    dht::Answered,
    driver::Driver,
    found::Reading,
    giving::{self, Portion},
    intake::{Judged, Offered},
    limiter::Limited,
    logs::AnswerId,
    peers::origin_of,
    streams,
    turns::Turn,
    wanting,
};
use crate::{
    content::ContentId,
    fetch::{
        RequestFailure,
        protocol::{Found, Request},
    },
    heads::{
        compare::Broken,
        exchange::{self, Ours, Ticket},
    },
    limits::FETCH_ANSWER_BYTES,
    store::Store,
    sync::{self, protocol as heads, serve::Served},
};

/// Work that ended beside the loop.
pub(super) enum Work {
    /// Blocks of a batch were read for a peer.
    Blocks { stream: u64, batch: u32, found: Option<Vec<Found>> },
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
    /// What a lookup was given was verified; nothing where that failed.
    Found { lookup: u64, read: Option<Vec<Reading>> },
    /// What a lookup found was judged.
    Answered(Box<Answered>),
    /// Heads were written, so many that were new or newer.
    Written { heads: usize },
    /// A log was told to a peer, or as much of it as the peer took.
    Recited { peer: PeerId, bytes: u64 },
    /// A proof against a publisher was written.
    Kept,
}

impl Driver {
    pub(super) fn finished(&mut self, work: Work) {
        match work {
            Work::Blocks { stream, batch, found } => {
                let bytes = found.as_ref().map_or(0, |found| bytes_of(found));
                let missing = found.iter().flatten().filter(|it| matches!(it, Found::Missing)).count();
                if found.is_some() {
                    self.blocks.answering.set_bytes(&AnswerId::Blocks(stream, batch), bytes);
                }
                self.blocks.turns.read(stream, batch, bytes, missing);
                self.blocks.give(stream, Portion { batch, found });
                self.give_turns();
            }
            Work::Served { peer, id, channel, served } => self.served(peer, id, channel, served),
            Work::Compared { peer, ticket, ours } => {
                self.tell_exchange(exchange::Event::Compared(peer, ticket, ours));
            }
            Work::Checked { peer, ticket, took } => self.checked(peer, ticket, took),
            Work::Judged { offered, judged } => self.judged(offered, judged),
            Work::Found { lookup, read } => self.found(lookup, read),
            Work::Answered(answered) => self.answered(*answered),
            Work::Written { heads } => {
                self.intake.end_writing();
                self.listed(heads);
            }
            Work::Recited { peer, bytes } => {
                self.blocks.recited(bytes);
                // An answer without an entry is no reason to keep a connection.
                if bytes > 0 {
                    self.peers.transferred(&peer, Instant::now());
                }
            }
            Work::Kept => {}
        }
    }

    pub(super) fn fetch(&mut self, peer: PeerId, request: Request, reply: Reply) {
        if self.blocks.asked() >= self.line.down.transfers_max() {
            // What would come too slowly is not asked for yet.
            let _ = reply.send(Err(RequestFailure::Own));
            return;
        }
        if self.blocks.ask(peer, self.peers.contains_key(&peer), request, reply) {
            self.open_blocks(peer);
        }
    }

    /// Opens a stream for blocks, once it is decided whether that goes over a direct connection.
    fn open_blocks(&mut self, peer: PeerId) {
        if !self.reach.holds_up(peer, Instant::now()) {
            self.swarm.behaviour_mut().blocks.open(peer);
        }
    }

    pub(super) fn follow(&mut self, peer: PeerId, interest: Interest) {
        if self.blocks.follow(peer, self.peers.contains_key(&peer), interest) {
            self.open_blocks(peer);
        }
    }

    pub(super) fn blocks_event(&mut self, event: streams::Event) {
        match event {
            streams::Event::Opened { peer, connection, stream } => {
                let (id, orders) = self.blocks.opened(peer, connection);
                let stream = Limited::new(stream, &self.line);
                let origin = origin_of(&self.peers.reached_at(&peer));
                self.spawner.start(wanting::ask(stream, (peer, id, origin), orders, self.blocks.tells()));
            }
            streams::Event::Accepted { peer, connection, stream } => {
                match self.blocks.accepted(peer, connection) {
                    Some((id, given)) => {
                        let stream = Limited::new(stream, &self.line);
                        let (tells, trees) = (self.blocks.tells(), self.blocks.trees.clone());
                        let network = self.peers.network_of(&peer);
                        let who = (peer, id, network);
                        self.spawner.start(giving::give(stream, who, given, tells, trees));
                    }
                    None => tracing::debug!(%peer, "it opens more streams for blocks than it may"),
                }
            }
            streams::Event::Failed { peer } => self.blocks.not_opened(&peer),
        }
    }

    pub(super) fn blocks_told(&mut self, told: Told) {
        match told {
            Told::Answered { peer, brings_blocks } => {
                self.heard(&peer);
                if brings_blocks {
                    self.peers.transferred(&peer, Instant::now());
                }
            }
            Told::Returned { peer, task } => {
                if self.blocks.returned(peer, self.peers.contains_key(&peer), task) {
                    self.open_blocks(peer);
                }
            }
            Told::Unasked { peer, stream } => self.blocks.unasked(&peer, stream),
            Told::Wanted { peer, stream, batch, ids } => {
                self.heard(&peer);
                if !self.blocks.turns.wants(stream, batch, ids, Instant::now()) {
                    self.blocks.give(stream, Portion { batch, found: None });
                }
                self.give_turns();
            }
            Told::TakenBack { stream, batch } => self.blocks.take_back(stream, batch, Instant::now()),
            Told::Came { stream, bytes } => {
                self.blocks.turns.came(stream, bytes, Instant::now());
                self.give_turns();
            }
            Told::Due => self.give_turns(),
            Told::Followed { peer, tree } => {
                self.heard(&peer);
                let addresses = self.peers.get(&peer).map_or(&[][..], |it| &it.told[..]);
                self.blocks.trees.introduce(&tree, peer, addresses);
            }
            Told::Gave { peer, stream, batch, bytes } => {
                let connection = self.blocks.gave(stream, batch, bytes);
                self.give_turns();
                if bytes > 0 {
                    self.peers.transferred(&peer, Instant::now());
                    let is_relayed = connection.is_some_and(|it| self.peers.is_through_relay(&peer, it));
                    self.outbox.tell(Event::Served { peer, bytes, is_relayed });
                }
            }
            Told::Ended { peer, stream, broke } => {
                self.blocks.ended(stream);
                self.give_turns();
                if let Some(broke) = broke {
                    self.block(peer, format!("it breaks the protocol of blocks: {broke}"));
                }
            }
        }
    }

    /// Begins with all batches whose turn it is.
    fn give_turns(&mut self) {
        while let Some(Turn { peer, stream, batch, ids }) = self.blocks.turns.next(Instant::now()) {
            if self.begin_answer(AnswerId::Blocks(stream, batch), peer) {
                self.blocks.begun(stream, batch);
                self.beside.run(
                    move |store, _| read_blocks(store, &ids),
                    move |found| Work::Blocks { stream, batch, found },
                );
            } else {
                self.blocks.turns.read(stream, batch, 0, 0);
                self.blocks.give(stream, Portion { batch, found: None });
            }
        }
        self.blocks.tell_who_waits();
    }

    /// Finds room for an answer; false where the peer is to come again later.
    pub(super) fn begin_answer(&mut self, id: AnswerId, peer: PeerId) -> bool {
        let (now, most) = (Instant::now(), self.line.up.transfers_max());
        if let Some(in_the_way) = self.blocks.in_the_way(most, now) {
            tracing::debug!(peer = %in_the_way, "it does not read the answers that it asked for");
            self.blocks.turn_out(&in_the_way);
            self.send_away(&in_the_way);
        }
        let network = self.peers.network_of(&peer);
        self.blocks.answering.begin(id, peer, network, most, now)
    }
}

/// Reads blocks up to the bound of one answer.
fn read_blocks(store: &Store, want: &[ContentId]) -> Vec<Found> {
    let mut bytes = 0;
    want.iter()
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
                    Found::Have(block)
                }
                Ok(None) => Found::Missing,
                Err(error) => {
                    tracing::warn!(%error, "a block was not read");
                    Found::Missing
                }
            }
        })
        .collect()
}

fn bytes_of(found: &[Found]) -> u64 {
    let sizes = found.iter().map(|found| match found {
        Found::Have(block) => block.bytes().len() as u64,
        Found::Forged | Found::Missing | Found::Later => 0,
    });
    sizes.sum()
}
