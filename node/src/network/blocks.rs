//! Blocks from others and for others: which streams there are, who waits for what, and how much of it is in progress.
//!
//! The streams themselves run beside the loop ([`wanting`](super::wanting) and [`giving`](super::giving)) and tell it what happens
//! ([`Told`]).

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use libp2p::{PeerId, request_response, swarm::ConnectionId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    answering::{Answering, BLOCKS},
    driver::PENDING_MAX,
    giving::{Moved, NOTICES_MAX, Notice, Portion},
    logs::AnswerId,
    progress::is_silence,
    turns::Turns,
};
use crate::{
    content::ContentId,
    fetch::{
        RequestFailure,
        protocol::{Answer, Request},
        swarm::{News, Trees},
    },
    limits::{FETCH_SERVED_PER_PEER_MAX, SWARM_FOLLOWED_MAX},
};

/// Streams that one peer may ask on at once: one, and that of a connection that is gone and has not closed yet.
const STREAMS_PER_PEER_MAX: usize = 2;
/// What waits for one stream, or goes to it and was not taken yet.
const TASKS_MAX: usize = FETCH_SERVED_PER_PEER_MAX + SWARM_FOLLOWED_MAX;
/// What the streams tell and the loop has not heard yet; they wait for it.
pub(super) const TOLD_QUEUED_MAX: usize = 256;

/// Who waits for the answer of a peer.
pub(super) type Reply = oneshot::Sender<Result<Answer, RequestFailure>>;

/// A request of this node for blocks.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) request: Request,
    pub(super) reply: Reply,
    /// Counts as open as long as somebody holds this.
    pub(super) open: Arc<()>,
}

/// Somebody here wants to be told of a tree by a peer.
#[derive(Debug)]
pub(super) struct Interest {
    pub(super) tree: ContentId,
    /// Who; nobody any more where that is closed. What it has no room for is lost.
    pub(super) news: mpsc::Sender<(PeerId, News)>,
}

impl Interest {
    /// Says that nothing more is told.
    pub(super) fn end(&self, peer: PeerId) {
        let _ = self.news.try_send((peer, News::Ended));
    }
}

/// What goes to a stream.
#[derive(Debug)]
pub(super) enum Task {
    Ask(Order),
    Follow(Interest),
}

impl Task {
    /// Says that it is not done, for one reason or the other.
    fn fail(self, peer: PeerId, failure: RequestFailure) {
        match self {
            Self::Ask(order) => drop(order.reply.send(Err(failure))),
            Self::Follow(interest) => interest.end(peer),
        }
    }
}

/// What a stream tells the loop.
#[derive(Debug)]
pub(super) enum Told {
    /// A peer answered; whether with blocks.
    Answered { peer: PeerId, brings_blocks: bool },
    /// What was not asked any more when a stream ended.
    Returned { peer: PeerId, task: Task },
    /// A stream on which this node asked has ended.
    Unasked { peer: PeerId, stream: u64 },
    /// A peer asks for blocks.
    Wanted { peer: PeerId, stream: u64, batch: u32, ids: Vec<ContentId> },
    /// A peer follows a tree.
    Followed { peer: PeerId, tree: ContentId },
    /// A peer takes a batch back that was not read yet.
    TakenBack { stream: u64, batch: u32 },
    /// So many bytes have come over a stream, modulo 2^32, as its peer says.
    Came { stream: u64, bytes: u32 },
    /// A batch was written, or so many bytes of its blocks until it was taken back.
    Gave { peer: PeerId, stream: u64, batch: u32, bytes: u64 },
    /// It is time to look again whose turn it is.
    Due,
    /// A stream on which a peer asked has ended; where it broke the protocol, how.
    Ended { peer: PeerId, stream: u64, broke: Option<String> },
}

/// A peer that is asked.
#[derive(Debug, Default)]
struct Asked {
    /// The stream, where there is one.
    stream: Option<Standing>,
    /// What waits for one.
    waiting: Vec<Task>,
    open: Arc<()>,
}

/// A stream on which a peer is asked.
#[derive(Debug)]
struct Standing {
    stream: u64,
    connection: ConnectionId,
    tasks: mpsc::Sender<Task>,
    _stands: oneshot::Sender<Infallible>,
}

/// What a stream is to ask.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) queue: mpsc::Receiver<Task>,
    /// Ends, with an error, where the stream is to end.
    pub(super) stands: oneshot::Receiver<Infallible>,
}

impl Asked {
    /// Requests that were not answered yet.
    fn open(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }
}

/// A stream on which a peer asks.
#[derive(Debug)]
struct Giving {
    peer: PeerId,
    connection: ConnectionId,
    /// Where what becomes of its batches goes; nowhere once its connection has closed.
    notices: Option<mpsc::Sender<Notice>>,
    /// The batches being answered; whether each was read.
    begun: BTreeMap<u32, bool>,
    moved: Moved,
    _stands: Option<oneshot::Sender<Infallible>>,
}

/// What a stream on which a peer asks is given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) moved: Moved,
    /// Ends, with an error, where the stream is to end at once, whether its peer reads or not.
    pub(super) stands: oneshot::Receiver<Infallible>,
}

/// The streams, and what goes over them.
pub(super) struct Blocks {
    asked: BTreeMap<PeerId, Asked>,
    giving: BTreeMap<u64, Giving>,
    /// Names the next stream.
    next: u64,
    /// Answers to others, of blocks and of logs: they share what room there is.
    pub(super) answering: Answering<AnswerId>,
    /// Whose turn it is.
    pub(super) turns: Turns,
    /// Who fetches what.
    pub(super) trees: Trees,
    bytes_sent: u64,
    tells: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

impl Blocks {
    pub(super) fn new(trees: Trees) -> Self {
        let (tells, told) = mpsc::channel(TOLD_QUEUED_MAX);
        let (asked, giving) = Default::default();
        let answering = Answering::new(&BLOCKS);
        let turns = Turns::new();
        Self { asked, giving, next: 0, answering, turns, trees, bytes_sent: 0, tells, told }
    }

    /// What a stream tells next. Cancel safe.
    pub(super) async fn told(&mut self) -> Option<Told> {
        let Some(at) = self.turns.wake_at() else { return self.told.recv().await };
        tokio::select! { biased;
            told = self.told.recv() => told,
            () = sleep_until(at) => Some(Told::Due),
        }
    }

    /// How streams tell.
    pub(super) fn tells(&self) -> mpsc::Sender<Told> {
        self.tells.clone()
    }

    /// Requests of this node in progress.
    pub(super) fn asked(&self) -> usize {
        self.asked.values().map(Asked::open).sum()
    }

    /// Whom this node asks.
    pub(super) fn asked_peers(&self) -> impl Iterator<Item = PeerId> {
        self.asked.iter().filter(|(_, asked)| asked.open() > 0).map(|(peer, _)| *peer)
    }

    /// Whether a peer may be asked once more.
    fn may_ask(&self, peer: &PeerId, is_connected: bool) -> Result<(), RequestFailure> {
        if self.asked() >= PENDING_MAX {
            return Err(RequestFailure::Own);
        }
        if !is_connected {
            return Err(RequestFailure::Unreachable);
        }
        // Several retrievals may ask one peer. What it would not read is not sent.
        let of_peer = self.asked.get(peer).map_or(0, Asked::open);
        if of_peer >= FETCH_SERVED_PER_PEER_MAX { Err(RequestFailure::Own) } else { Ok(()) }
    }

    /// Asks a peer, or has it wait for a stream; whether one is to be opened.
    pub(super) fn ask(&mut self, peer: PeerId, is_connected: bool, request: Request, reply: Reply) -> bool {
        if let Err(failure) = self.may_ask(&peer, is_connected) {
            let _ = reply.send(Err(failure));
            return false;
        }
        let open = self.asked.entry(peer).or_default().open.clone();
        self.order(peer, Task::Ask(Order { request, reply, open }))
    }

    /// Has a peer tell of a tree; whether a stream is to be opened for it.
    pub(super) fn follow(&mut self, peer: PeerId, is_connected: bool, interest: Interest) -> bool {
        self.returned(peer, is_connected, Task::Follow(interest))
    }

    /// Takes back what a stream did not ask any more; whether another one is to be opened.
    pub(super) fn returned(&mut self, peer: PeerId, is_connected: bool, task: Task) -> bool {
        if is_connected {
            return self.order(peer, task);
        }
        task.fail(peer, RequestFailure::Closed);
        false
    }

    fn order(&mut self, peer: PeerId, task: Task) -> bool {
        let asked = self.asked.entry(peer).or_default();
        let task = match &asked.stream {
            Some(standing) => match standing.tasks.try_send(task) {
                Ok(()) => return false,
                Err(mpsc::error::TrySendError::Full(task)) => {
                    task.fail(peer, RequestFailure::Own);
                    return false;
                }
                // It is ending.
                Err(mpsc::error::TrySendError::Closed(task)) => task,
            },
            None => task,
        };
        asked.stream = None;
        if asked.waiting.len() >= TASKS_MAX {
            task.fail(peer, RequestFailure::Own);
            return false;
        }
        asked.waiting.push(task);
        asked.waiting.len() == 1
    }

    /// Takes a stream that stands now; yields its name and what it is to ask.
    pub(super) fn opened(&mut self, peer: PeerId, connection: ConnectionId) -> (u64, Tasks) {
        let (tasks, queue) = mpsc::channel(TASKS_MAX);
        let (_stands, stands) = oneshot::channel();
        let stream = self.next;
        self.next += 1;
        let asked = self.asked.entry(peer).or_default();
        for task in asked.waiting.drain(..) {
            if let Err(mpsc::error::TrySendError::Full(task)) = tasks.try_send(task) {
                task.fail(peer, RequestFailure::Own);
            }
        }
        asked.stream = Some(Standing { stream, connection, tasks, _stands });
        (stream, Tasks { queue, stands })
    }

    /// Tells who waits for a stream that there will be none.
    pub(super) fn not_opened(&mut self, peer: &PeerId) {
        let Some(asked) = self.asked.get_mut(peer) else { return };
        asked.waiting.drain(..).for_each(|task| task.fail(*peer, RequestFailure::Closed));
        self.forget(peer);
    }

    /// Notes that a stream has ended.
    pub(super) fn unasked(&mut self, peer: &PeerId, stream: u64) {
        let Some(asked) = self.asked.get_mut(peer) else { return };
        asked.stream.take_if(|held| held.stream == stream);
        self.forget(peer);
    }

    fn forget(&mut self, peer: &PeerId) {
        let is_over = |asked: &Asked| asked.stream.is_none() && asked.open() == 0;
        if self.asked.get(peer).is_some_and(is_over) {
            self.asked.remove(peer);
        }
    }

    /// Takes a stream that a peer opened; nothing where it has too many.
    pub(super) fn accepted(&mut self, peer: PeerId, connection: ConnectionId) -> Option<(u64, Given)> {
        let is_open = |giving: &&Giving| giving.peer == peer && giving.notices.is_some();
        if self.giving.values().filter(is_open).count() >= STREAMS_PER_PEER_MAX {
            return None;
        }
        let (notices, queue) = mpsc::channel(NOTICES_MAX);
        let (stream, now) = (self.next, Instant::now());
        self.next += 1;
        let (stands_here, stands) = oneshot::channel();
        let (moved, begun) = (Moved::new(now), BTreeMap::new());
        let (notices, _stands) = (Some(notices), Some(stands_here));
        let giving = Giving { peer, connection, notices, begun, moved: moved.clone(), _stands };
        self.giving.insert(stream, giving);
        self.turns.opened(stream, peer, now);
        Some((stream, Given { notices: queue, moved, stands }))
    }

    /// Whom to turn out for others, where so many answers are all that there may be.
    pub(super) fn in_the_way(&self, most: usize, now: Instant) -> Option<PeerId> {
        let moved = |id: &AnswerId| match id {
            AnswerId::Blocks(stream, _) => self.giving.get(stream).map(|giving| giving.moved.last()),
            _ => None,
        };
        self.answering.greediest(now).or_else(|| self.answering.stillest(most, moved, now))
    }

    /// Notes that a batch is being read.
    pub(super) fn begun(&mut self, stream: u64, batch: u32) {
        if let Some(giving) = self.giving.get_mut(&stream) {
            giving.begun.insert(batch, false);
        }
    }

    /// Hands on what was read of a batch. Where nobody takes it any more, it holds no room.
    pub(super) fn give(&mut self, stream: u64, portion: Portion) {
        let batch = portion.batch;
        let is_taken = self.giving.get_mut(&stream).is_some_and(|giving| {
            giving.begun.entry(batch).and_modify(|is_read| *is_read = true);
            giving.notices.as_ref().is_some_and(|it| it.try_send(Notice::Read(portion)).is_ok())
        });
        if !is_taken {
            self.answering.end(&AnswerId::Blocks(stream, batch));
            self.turns.written(stream, batch, 0);
        }
    }

    /// A peer takes a batch back; where that has not begun, it is over.
    pub(super) fn take_back(&mut self, stream: u64, batch: u32, now: Instant) {
        if self.turns.cancel(stream, batch, now) {
            self.notice(stream, Notice::Dropped(batch));
        }
    }

    /// Tells those who wait for their turn that they do.
    pub(super) fn tell_who_waits(&mut self) {
        for (stream, batch) in self.turns.left_waiting() {
            self.notice(stream, Notice::Waits(batch));
        }
    }

    /// Tells a stream something for which there is always room, since it is said once of each of its batches.
    fn notice(&mut self, stream: u64, notice: Notice) {
        if let Some(notices) = self.giving.get(&stream).and_then(|giving| giving.notices.as_ref()) {
            let _ = notices.try_send(notice);
        }
    }

    /// Notes that an answer has left with so many bytes of blocks: it held memory until now, whether its reader read or not. Yields the
    /// connection that they went over.
    pub(super) fn gave(&mut self, stream: u64, batch: u32, bytes: u64) -> Option<ConnectionId> {
        let giving = self.giving.get_mut(&stream);
        let connection = giving.map(|giving| {
            giving.begun.remove(&batch);
            giving.connection
        });
        self.answering.end(&AnswerId::Blocks(stream, batch));
        self.turns.written(stream, batch, bytes);
        self.bytes_sent = self.bytes_sent.saturating_add(bytes);
        connection
    }

    /// Ends the streams of a connection that has closed: yamux 0.14 wakes nobody who reads from one where the connection was closed in good
    /// order.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        for asked in self.asked.values_mut() {
            asked.stream.take_if(|held| held.connection == connection);
        }
        for giving in self.giving.values_mut().filter(|giving| giving.connection == connection) {
            (giving.notices, giving._stands) = (None, None);
        }
    }

    /// Ends all streams on which a peer asks, at once: a connection that is closed in good order waits until its peer has read.
    pub(super) fn turn_out(&mut self, peer: &PeerId) {
        let streams = self.giving.iter().filter(|(_, giving)| giving.peer == *peer);
        let streams: Vec<u64> = streams.map(|(stream, _)| *stream).collect();
        streams.into_iter().for_each(|stream| self.ended(stream));
    }

    /// Notes that a stream has ended, and with it what was being answered there. What is still to be read keeps its room until it was:
    /// a peer that opens streams and ends them has no more read than one that waits.
    pub(super) fn ended(&mut self, stream: u64) {
        let Some(giving) = self.giving.remove(&stream) else { return };
        self.turns.ended(stream);
        for (batch, _) in giving.begun.into_iter().filter(|(_, is_read)| *is_read) {
            self.answering.end(&AnswerId::Blocks(stream, batch));
        }
    }

    /// Notes that bytes of a log were sent.
    pub(super) fn recited(&mut self, bytes: u64) {
        self.bytes_sent = self.bytes_sent.saturating_add(bytes);
    }

    /// Bytes of blocks and logs sent since the start.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }
}

/// Only what was read can break the protocol. The other errors are of the connection, or of somebody's bounds: an answer that ends
/// too early is one that the peer gave up, as it must where this side reads too slowly.
pub(super) fn failure_of(error: request_response::OutboundFailure) -> RequestFailure {
    use request_response::OutboundFailure as Failure;
    match error {
        Failure::DialFailure | Failure::UnsupportedProtocols => RequestFailure::Unreachable,
        Failure::Timeout => RequestFailure::Timeout,
        Failure::Io(error) if is_silence(&error) => RequestFailure::Timeout,
        Failure::ConnectionClosed => RequestFailure::Closed,
        Failure::Io(error) => match error.kind() {
            std::io::ErrorKind::InvalidData => RequestFailure::Broken(error.to_string()),
            _ => RequestFailure::Closed,
        },
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
