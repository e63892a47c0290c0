//! The exchange of heads with connected peers: carries what happens to the state machine in [`heads::exchange`](crate::heads::exchange),
//! and what it wants to the swarm and to the work beside the loop.

use std::{
    collections::{HashMap, VecDeque},
    io,
    num::NonZeroUsize,
    thread,
    time::Duration,
};

use libp2p::{
    PeerId,
    request_response::{self, InboundRequestId, OutboundRequestId, ResponseChannel},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_bytes::ByteBuf;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Event, Offload,
    answering::{Answering, PAGES},
    driver::Driver,
    paced::Weighed,
    portions::Portions,
    progress::is_silence,
    serve::Work,
    shown::Shown,
};
use crate::{
    heads::exchange::{self, Asked, Checked, Exchange, Fault, Outcome, Output, Ticket},
    limits::{HEADS_MALFORMED_PER_PAGE_MAX, HEADS_PAGES_CHECKED_AT_ONCE_MAX},
    store::Store,
    sync::{
        self, Verified,
        index::Shared,
        protocol::{Answer, Request},
        serve::{Reading, Served},
    },
    time::Timestamp,
};

/// The exchange, and what is on its way for it.
pub(super) struct Exchanging {
    pub(super) exchange: Exchange<PeerId>,
    index: Shared,
    epoch: u32,
    started: Instant,
    generator: StdRng,
    /// What was asked, of whom.
    asked: HashMap<OutboundRequestId, (PeerId, Ticket)>,
    /// What others asked, and who.
    serving: Answering<InboundRequestId>,
    /// How much each peer had, and gave.
    portions: Portions,
    checking: Checking,
    pub(super) shown: Shown,
    refreshing: Vec<oneshot::Sender<()>>,
}

impl Exchanging {
    /// # Errors
    /// Where the database cannot be read.
    pub(super) fn new(store: &Store, offload: Offload) -> Result<Self, crate::store::Error> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the driver's side: seeds the generator that the pure part is given"
        )]
        let generator = StdRng::from_rng(&mut rand::rng());
        Ok(Self {
            exchange: Exchange::default(),
            index: Shared::default(),
            epoch: sync::epoch(store)?,
            started: Instant::now(),
            generator,
            asked: HashMap::new(),
            serving: Answering::new(&PAGES),
            portions: Portions::new(),
            checking: Checking::new(offload),
            shown: Shown::default(),
            refreshing: Vec::new(),
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is read of our own catalogue.
    fn catalogue(&self) -> Catalogue {
        Catalogue { index: self.index.clone(), epoch: self.epoch }
    }

    /// Answers for others that are in progress.
    pub(super) fn serving(&self) -> usize {
        self.serving.len()
    }
}

/// Our own catalogue, as the work beside the loop reads it.
struct Catalogue {
    index: Shared,
    epoch: u32,
}

impl Catalogue {
    fn read<'a>(&'a self, store: &'a Store, verified: &'a Verified) -> Reading<'a> {
        Reading { store, verified, index: &self.index, epoch: self.epoch }
    }
}

/// Heads that came, and wait for their turn to be verified.
#[derive(Debug)]
struct Checking {
    waiting: VecDeque<(PeerId, Ticket, Vec<ByteBuf>)>,
    in_progress: usize,
    at_once: usize,
}

impl Checking {
    /// As many at once as there are processors; a simulation has none of its own.
    fn new(offload: Offload) -> Self {
        let processors = match offload {
            Offload::Threads => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            Offload::Inline => 1,
        };
        Self {
            waiting: VecDeque::new(),
            in_progress: 0,
            at_once: processors.max(HEADS_PAGES_CHECKED_AT_ONCE_MAX),
        }
    }

    /// Drops what a peer gave that is gone.
    fn forget(&mut self, peer: &PeerId) {
        self.waiting.retain(|(waiting, ..)| waiting != peer);
    }

    /// The heads whose turn it is.
    fn next(&mut self) -> Option<(PeerId, Ticket, Vec<ByteBuf>)> {
        if self.in_progress >= self.at_once {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.in_progress += 1;
        Some(next)
    }

    fn ended(&mut self) {
        self.in_progress = self.in_progress.saturating_sub(1);
    }
}

pub(super) type HeadsEvent = request_response::Event<Request, Answer>;

impl Driver {
    /// Begins a round of reading.
    pub(super) fn read_all_heads(&mut self) {
        let (now, exchanging) = (self.exchanging.now(), &mut self.exchanging);
        exchanging.exchange.round(now, &mut exchanging.generator);
        self.exchange();
    }

    /// Does what is due.
    pub(super) fn tick_exchange(&mut self) {
        let now = self.exchanging.now();
        self.exchanging.exchange.tick(now);
        self.exchange();
    }

    /// Tells the exchange of a peer that serves heads.
    pub(super) fn exchange_with(&mut self, peer: PeerId) {
        let begins = *self.swarm.local_peer_id() < peer;
        self.tell_exchange(exchange::Event::Joined { peer, begins });
    }

    /// Tells it that a peer is gone.
    pub(super) fn end_exchange_with(&mut self, peer: PeerId) {
        self.exchanging.checking.forget(&peer);
        self.tell_exchange(exchange::Event::Gone(peer));
    }

    pub(super) fn tell_exchange(&mut self, event: exchange::Event<PeerId>) {
        let now = self.exchanging.now();
        self.exchanging.exchange.handle(event, now);
        self.exchange();
    }

    /// Carries out what the exchange wants.
    fn exchange(&mut self) {
        while let Some(output) = self.exchanging.exchange.poll() {
            match output {
                Output::Ask(peer, ticket, request) if !self.may_ask(&peer, &request) => {
                    tracing::debug!(%peer, "it has given so many heads that no more are taken of it for now");
                    let now = self.exchanging.now();
                    let too_much = exchange::Event::Failed(peer, ticket, Outcome::TooMuch);
                    self.exchanging.exchange.handle(too_much, now);
                }
                Output::Ask(peer, ticket, request) => {
                    let id = self.swarm.behaviour_mut().heads.send_request(&peer, request);
                    self.exchanging.asked.insert(id, (peer, ticket));
                }
                Output::Compare { peer, ticket, answer, until, newest, declined } => {
                    let catalogue = self.exchanging.catalogue();
                    self.beside.run(
                        move |store, verified| {
                            let reading = catalogue.read(store, verified);
                            reading.turn(answer.as_deref(), until, newest, &declined)
                        },
                        move |ours| Work::Compared { peer, ticket, ours: ours.flatten() },
                    );
                }
                Output::Check(peer, ticket, heads) => {
                    self.exchanging.checking.waiting.push_back((peer, ticket, heads));
                    self.check_heads();
                }
                Output::HasAll(peer) => self.exchanging.shown.has_all(&peer),
                Output::Blame(peer, fault) => self.blame(peer, fault),
            }
        }
        if self.is_told_by_entrance() {
            self.connections.told_by_entrance(Instant::now());
        }
        self.publish_heads_read();
        self.reply_refreshed();
    }

    /// Whether one of those that the configuration names is connected, and told all that it has when it was asked last.
    pub(super) fn is_told_by_entrance(&self) -> bool {
        self.connections.entered().any(|peer| self.exchanging.exchange.has_told(peer))
    }

    /// Whether a peer is asked for this: for heads only as long as it has not given too many.
    fn may_ask(&self, peer: &PeerId, request: &Request) -> bool {
        let (network, now) = (self.peers.network_of(peer), Instant::now());
        !request.is_for_heads() || self.exchanging.portions.may_give(peer, network, now)
    }

    fn blame(&mut self, peer: PeerId, fault: Fault) {
        match fault {
            // For a while only: its disk may be damaged, and whoever keeps the books says when the ban ends.
            Fault::Forged => {
                tracing::warn!(%peer, "a peer passes on heads that it cannot have verified");
                if self.outbox.tell(Event::ForgedHeads { peer }) {
                    self.block(peer, "it passes on forged heads".to_owned());
                } else {
                    self.send_away(&peer);
                }
            }
            Fault::Broken(why) => {
                tracing::warn!(%peer, why, "a peer breaks the exchange of heads");
                self.block(peer, format!("it breaks the exchange of heads: {why}"));
            }
        }
    }

    /// Asks once more at once, also for what could not be taken before.
    pub(super) fn reread(&mut self, reply: oneshot::Sender<()>) {
        self.exchanging.exchange.retry();
        self.refresh(reply);
    }

    /// Asks once more at once, and answers when that is done.
    pub(super) fn refresh(&mut self, reply: oneshot::Sender<()>) {
        let now = self.exchanging.now();
        self.exchanging.exchange.refresh(now);
        // A peer may take hours for its heads, and nobody waits for it so long.
        self.exchanging.refreshing.retain(|waiting| !waiting.is_closed());
        self.exchanging.refreshing.push(reply);
        self.exchange();
    }

    /// Answers those who wait for all heads to be read, once they are.
    pub(super) fn reply_refreshed(&mut self) {
        if !self.exchanging.exchange.is_outstanding() {
            for reply in self.exchanging.refreshing.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    pub(super) fn heads_event(&mut self, event: HeadsEvent) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request_id, request, channel } => {
                    self.heard(&peer);
                    self.serve_heads(peer, request_id, request, channel);
                }
                request_response::Message::Response { request_id, response } => {
                    self.heard(&peer);
                    if let Some((_, ticket)) = self.exchanging.asked.remove(&request_id) {
                        self.tell_exchange(exchange::Event::Answered(peer, ticket, response));
                    }
                }
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                let Some((_, ticket)) = self.exchanging.asked.remove(&request_id) else { return };
                tracing::debug!(%peer, %error, "the heads of a peer were not read");
                let (why, broken) = failure_of(&error);
                self.tell_exchange(exchange::Event::Failed(peer, ticket, why));
                if let Some(broken) = broken {
                    self.blame(peer, Fault::Broken(broken));
                }
            }
            // An answer holds memory until it has left, whether its reader reads or not.
            request_response::Event::ResponseSent { request_id, .. }
            | request_response::Event::InboundFailure { request_id, .. } => {
                self.exchanging.serving.end(&request_id);
            }
        }
    }

    fn serve_heads(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: Request,
        channel: ResponseChannel<Answer>,
    ) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        let network = self.peers.network_of(&peer);
        let (now, exchanging) = (self.exchanging.now(), &mut self.exchanging);
        let weighed = exchanging.portions.asks(peer, network, Instant::now());
        if weighed == Weighed::Unbearable {
            return self.block(peer, "it asks for heads more often than can be borne".to_owned());
        }
        let costs_a_turn = matches!(request, Request::Compare(..) | Request::Have(..));
        let is_within = weighed == Weighed::Within;
        let has_room = !is_within || exchanging.serving.begin(id, peer, network, usize::MAX, Instant::now());
        if !is_within || !has_room || (costs_a_turn && !exchanging.exchange.admits_turn(peer, now)) {
            exchanging.serving.end(&id);
            let greediest = exchanging.serving.greediest(Instant::now()).filter(|_| !has_room);
            // The peer may have left meanwhile.
            let _ = self.swarm.behaviour_mut().heads.send_response(channel, Answer::Busy);
            if let Some(greediest) = greediest {
                tracing::debug!(peer = %greediest, "a peer that does not read its pages makes way");
                self.send_away(&greediest);
            }
            return;
        }
        let asked = match &request {
            Request::Compare(_, _, Some(position)) => Some(Asked::Began(*position)),
            Request::Page(position, _) if position.after > 0 => Some(Asked::ReadsOn),
            Request::Have(ids, newer, rest) => Some(Asked::Lacked(ids.0.clone(), newer.clone(), *rest)),
            Request::News => Some(Asked::News),
            _ => None,
        };
        let declined = if matches!(request, Request::Compare(..)) {
            exchanging.exchange.declined(&peer)
        } else {
            Vec::new()
        };
        if let Some(asked) = asked {
            self.tell_exchange(exchange::Event::Asked(peer, asked));
        }
        let catalogue = self.exchanging.catalogue();
        self.beside.run(
            move |store, verified| catalogue.read(store, verified).answer(request, &declined),
            move |served| Work::Served { peer, id, channel, served },
        );
    }

    pub(super) fn served(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        channel: ResponseChannel<Answer>,
        served: Option<Served>,
    ) {
        let Some(Served { answer, asked, broken }) = served else { return };
        let (bytes, network) = (answer.as_ref().map_or(0, Answer::bytes), self.peers.network_of(&peer));
        self.exchanging.portions.had(&peer, network, bytes, Instant::now());
        if answer.as_ref().is_some_and(Answer::has_heads) {
            self.exchanging.shown.gave(peer);
        }
        self.outbox.observer.tell(&Event::Read { peer });
        // Without an answer the channel is dropped, which ends as a failure of the request.
        if let Some(answer) = answer
            && self.swarm.behaviour_mut().heads.send_response(channel, answer).is_err()
        {
            self.exchanging.serving.end(&id);
        }
        if !self.peers.contains_key(&peer) {
            return;
        }
        if let Some(asked) = asked {
            self.tell_exchange(exchange::Event::Asked(peer, asked));
        }
        if let Some(broken) = broken {
            self.blame(peer, Fault::Broken(broken.to_string()));
        }
    }

    /// Verifies heads beside the loop, when it is their turn: there may be hundreds of signatures.
    fn check_heads(&mut self) {
        while let Some((peer, ticket, heads)) = self.exchanging.checking.next() {
            let (source, network) = (self.source_of(&peer), self.peers.network_of(&peer));
            self.exchanging.portions.gave(peer, network, heads.len(), Instant::now());
            self.beside.run(
                move |store, verified| {
                    let took = sync::take(store, verified, &heads, &source, Timestamp::now());
                    took.map(|took| (heads.len(), took))
                },
                move |took| Work::Checked { peer, ticket, took: took.flatten() },
            );
        }
    }

    pub(super) fn checked(&mut self, peer: PeerId, ticket: Ticket, took: Option<(usize, sync::Took)>) {
        self.exchanging.checking.ended();
        self.check_heads();
        let checked = took.map(|(heads, sync::Took { taken, given, declined })| {
            self.listed(taken.new);
            let refused = taken.refused + taken.deferred + taken.malformed + taken.forged;
            self.intake.count_refused(refused);
            if taken.malformed > 0 {
                tracing::warn!(%peer, ?taken, "a peer passes on heads that it cannot have verified");
            }
            Checked {
                new: taken.new,
                is_deferred: taken.deferred > 0,
                is_barren: taken.is_barren(heads),
                malformed: taken.malformed,
                is_garbage: taken.malformed > HEADS_MALFORMED_PER_PAGE_MAX,
                is_forged: taken.forged > 0,
                given,
                declined,
            }
        });
        self.tell_exchange(exchange::Event::Checked(peer, ticket, checked));
    }

    pub(super) fn listed(&self, heads: usize) {
        if heads > 0 {
            self.outbox.observer.tell(&Event::Listed { heads });
        }
    }
}

/// How a request ended without an answer, and what the peer is at fault for, where it is.
fn failure_of(error: &request_response::OutboundFailure) -> (Outcome, Option<String>) {
    use request_response::OutboundFailure as Failure;
    match error {
        Failure::Timeout => (Outcome::TimedOut, None),
        Failure::Io(error) if is_silence(error) => (Outcome::TimedOut, None),
        Failure::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            (Outcome::GaveUp, Some(error.to_string()))
        }
        _ => (Outcome::CutOff, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_verified_at_once_than_may_be_and_what_a_gone_peer_gave_is_dropped() {
        let (mut checking, mut peers) = (Checking::new(Offload::Inline), Vec::new());
        for ticket in 0..5 {
            let peer = PeerId::random();
            checking.waiting.push_back((peer, ticket, Vec::new()));
            peers.push(peer);
        }
        let begun: Vec<_> = std::iter::from_fn(|| checking.next()).map(|(peer, ..)| peer).collect();
        assert_eq!(begun, peers[..HEADS_PAGES_CHECKED_AT_ONCE_MAX]);
        checking.ended();
        checking.forget(&peers[2]);
        assert_eq!(checking.next().map(|(peer, ..)| peer), Some(peers[3]));
        assert!(checking.next().is_none());
    }

    #[test]
    fn an_answer_over_the_cap_is_its_senders_fault_and_silence_is_not() {
        use request_response::OutboundFailure as Failure;
        let sent = io::Error::new(io::ErrorKind::InvalidData, "over the cap");
        assert_eq!(failure_of(&Failure::Io(sent)), (Outcome::GaveUp, Some("over the cap".to_owned())));
        assert_eq!(failure_of(&Failure::Timeout), (Outcome::TimedOut, None));
        assert_eq!(failure_of(&Failure::ConnectionClosed), (Outcome::CutOff, None));
    }
}
