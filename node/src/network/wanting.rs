//! A stream on which this node asks a peer for blocks.
//!
//! It reads and writes what [`Asking`] says, hashes what comes as it comes, and ends where the peer is silent, breaks the protocol, or
//! is not asked for anything any more. It runs beside the loop, and tells it what it must know.

use std::{collections::BTreeMap, future::poll_fn, io, task::Poll, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{PeerId, core::upgrade::NegotiationError};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};

use super::blocks::{Interest, Order, Reply, Task, Tasks, Told};
use crate::{
    fetch::{
        RequestFailure,
        protocol::{Answer, Arrived, Ask, Asking, Found},
        swarm::News,
    },
    limits::{FETCH_PROGRESS_BYTES, FETCH_SERVED_PER_PEER_MAX, FETCH_TIMEOUT, FETCH_TIMEOUT_MAX},
    peers::policy::{self, Origin},
};

/// How long a stream on which nothing is asked stays open.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes that are read from it at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes of blocks that have come before that is worth a word, and how often it is said at most.
const CAME_BYTES: u64 = 64 << 10;
const CAME_EVERY: Duration = Duration::from_millis(50);

/// An order that went out.
struct Sent {
    reply: Option<Reply>,
    arrived: Arrived,
    since: Instant,
    /// Bytes that came of it, or of what was asked before it, since `moved_at`.
    moved: usize,
    moved_at: Instant,
    /// Whether the peer said that it waits for its turn.
    waits: bool,
    /// Counts as open as long as this is here.
    _open: std::sync::Arc<()>,
}

impl Sent {
    /// When the peer has been silent about it for too long.
    fn due(&self) -> Instant {
        self.moved_at + FETCH_TIMEOUT
    }
}

/// How a stream ended.
enum End {
    /// Nobody asks anything.
    Idle,
    /// What is open failed so.
    Failed(RequestFailure),
}

/// The state of one stream.
struct Wanting {
    origin: Origin,
    asking: Asking,
    sent: BTreeMap<u32, Sent>,
    /// Who is told of the trees that are followed.
    follows: BTreeMap<u32, Interest>,
    /// What is to be written, and how much of it was.
    out: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// How many bytes of blocks the peer knows to have come, and when it was told.
    said: (u64, Option<Instant>),
    /// Since when nothing is asked, where that is so.
    idle_since: Instant,
}

/// Asks a peer over a stream until it ends; what was not asked by then goes back to the loop. `origin` says what the addresses are worth
/// that it tells of.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    (peer, stream_id, origin): (PeerId, u64, Origin),
    mut tasks: Tasks,
    tells: mpsc::Sender<Told>,
) {
    let mut wanting = Wanting::new(origin, Instant::now());
    let end = wanting.run(stream, peer, &mut tasks, &tells).await;
    tasks.queue.close();
    if let End::Failed(failure) = end {
        let now = Instant::now();
        for sent in std::mem::take(&mut wanting.sent).into_values() {
            // The peer has not answered that one; the others end with their stream.
            let is_another = failure == RequestFailure::Timeout && sent.due() > now;
            let failure = if is_another { RequestFailure::Closed } else { failure.clone() };
            if let Some(reply) = sent.reply {
                let _ = reply.send(Err(failure));
            }
        }
    }
    wanting.follows.values().for_each(|interest| interest.end(peer));
    // The loop is gone where it takes nothing.
    let _ = tells.send(Told::Unasked { peer, stream: stream_id }).await;
    while let Ok(task) = tasks.queue.try_recv() {
        let _ = tells.send(Told::Returned { peer, task }).await;
    }
}

impl Wanting {
    fn new(origin: Origin, now: Instant) -> Self {
        Self {
            origin,
            asking: Asking::default(),
            sent: BTreeMap::new(),
            follows: BTreeMap::new(),
            out: Vec::new(),
            written: 0,
            unflushed: false,
            said: (0, None),
            idle_since: now,
        }
    }

    async fn run(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        peer: PeerId,
        tasks: &mut Tasks,
        tells: &mpsc::Sender<Told>,
    ) -> End {
        let (mut reader, mut writer) = stream.split();
        let mut buffer = vec![0; READ_BYTES];
        let mut due: std::pin::Pin<Box<Sleep>> = Box::pin(sleep_until(self.due()));
        loop {
            let say_at = self.say(Instant::now());
            let is_writing = self.written < self.out.len();
            tokio::select! { biased;
                _ = &mut tasks.stands => {
                    // The loop has ended, or the connection has closed.
                    let is_over = tells.is_closed();
                    return End::Failed(if is_over { RequestFailure::Own } else { RequestFailure::Closed });
                }
                Some(task) = tasks.queue.recv(), if self.asking.open() < FETCH_SERVED_PER_PEER_MAX => match task {
                    Task::Ask(order) => self.order(order, Instant::now()),
                    Task::Follow(interest) => self.follow(peer, interest),
                },
                batch = given_up(&mut self.sent) => self.give_up(batch),
                pushed = push(&mut writer, &self.out[self.written..]), if is_writing || self.unflushed => {
                    match pushed {
                        Ok(bytes) => self.pushed(bytes),
                        Err(_) => return End::Failed(RequestFailure::Closed),
                    }
                }
                came = reader.read(&mut buffer) => {
                    let came = match came {
                        Ok(bytes) if bytes > 0 => &buffer[..bytes],
                        came => return End::Failed(closed(came)),
                    };
                    let (before, mut answered) = (self.asking.current(), Vec::new());
                    let taken = self.asking.take(came, &mut answered);
                    let last = answered.last().map(|(batch, _)| *batch);
                    self.heard(peer);
                    self.waiting(Instant::now());
                    if let Some(batch) = self.asking.current().or(last).or(before) {
                        self.came(batch, came.len(), Instant::now());
                    }
                    let broken = taken.err().map(|broken| RequestFailure::Broken(broken.to_string()));
                    for (batch, answer) in answered {
                        // What comes together with what breaks the protocol is no answer, unless it is worse than that.
                        let is_forged = answer.blocks.contains(&Found::Forged);
                        let outcome = match &broken {
                            Some(failure) if !is_forged => Err(failure.clone()),
                            _ => Ok(answer),
                        };
                        self.answered(peer, batch, outcome, tells).await;
                    }
                    if let Some(failure) = broken {
                        return End::Failed(failure);
                    }
                }
                () = sleep_until(say_at.unwrap_or(self.idle_since)), if say_at.is_some() => {}
                () = &mut due => {
                    let (now, at) = (Instant::now(), self.due());
                    if at <= now {
                        self.leave();
                        if !self.sent.is_empty() || self.follows.is_empty() {
                            return self.end(now);
                        }
                        // Whoever is told of something still listens.
                        self.idle_since = now;
                    }
                    due.as_mut().reset(self.due());
                }
            }
        }
    }

    fn order(&mut self, order: Order, now: Instant) {
        let Order { request, reply, open } = order;
        let (batch, message) = self.asking.ask(request.want);
        self.out.extend_from_slice(&message);
        let arrived = request.arrived;
        let sent = Sent {
            reply: Some(reply),
            arrived,
            since: now,
            moved: 0,
            moved_at: now,
            waits: false,
            _open: open,
        };
        self.sent.insert(batch, sent);
    }

    /// Says how much has come, or when that is to be said.
    fn say(&mut self, now: Instant) -> Option<Instant> {
        let (said, said_at) = self.said;
        let came = self.asking.came();
        if came - said < CAME_BYTES {
            return None;
        }
        let at = said_at.map_or(now, |at| at + CAME_EVERY);
        if at > now {
            return Some(at);
        }
        self.said = (came, Some(now));
        let bytes = (came & u64::from(u32::MAX)) as u32;
        self.out.extend(Ask::Came { bytes }.encode());
        None
    }

    /// Notes what the peer says to wait for its turn: it is alive.
    fn waiting(&mut self, now: Instant) {
        for batch in self.asking.waits() {
            if let Some(sent) = self.sent.get_mut(&batch) {
                (sent.waits, sent.moved, sent.moved_at) = (true, 0, now);
                sent.arrived.set_waits();
            }
        }
    }

    /// Has the peer tell of a tree.
    fn follow(&mut self, peer: PeerId, interest: Interest) {
        self.leave();
        match self.asking.follow(interest.tree) {
            Some((follow, message)) => {
                self.out.extend(message);
                self.follows.insert(follow, interest);
            }
            None => interest.end(peer),
        }
    }

    /// Hands on what was told of trees.
    fn heard(&mut self, peer: PeerId) {
        for (follow, mut news) in self.asking.heard() {
            if let News::Members(members) = &mut news {
                for member in members {
                    member.addresses.retain(|told| policy::acceptable(told, self.origin).is_ok());
                }
            }
            if let Some(interest) = self.follows.get(&follow) {
                let _ = interest.news.try_send((peer, news));
            }
        }
    }

    /// Follows no more what nobody listens to.
    fn leave(&mut self) {
        let over: Vec<u32> =
            self.follows.iter().filter(|(_, it)| it.news.is_closed()).map(|(follow, _)| *follow).collect();
        for follow in over {
            self.follows.remove(&follow);
            self.out.extend(self.asking.leave(follow).into_iter().flatten());
        }
    }

    /// Tells the peer that nobody waits for a batch any more.
    fn give_up(&mut self, batch: u32) {
        if let Some(sent) = self.sent.get_mut(&batch) {
            sent.reply = None;
        }
        self.out.extend(self.asking.cancel(batch).into_iter().flatten());
    }

    /// Notes that so much was written, or all of it flushed.
    fn pushed(&mut self, bytes: usize) {
        self.unflushed = false;
        self.written += bytes;
        if bytes > 0 && self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            self.unflushed = true;
        }
    }

    /// Notes that bytes of a batch came: what was asked after it waits for them, and so does what waits for its turn. About the rest of what
    /// was asked before it the peer is silent.
    fn came(&mut self, batch: u32, bytes: usize, now: Instant) {
        if let Some(sent) = self.sent.get(&batch) {
            sent.arrived.set_own(self.asking.bytes_of(batch));
        }
        for sent in
            self.sent.iter_mut().filter(|(it, sent)| **it >= batch || sent.waits).map(|(_, sent)| sent)
        {
            sent.arrived.add(bytes);
            sent.moved = sent.moved.saturating_add(bytes);
            if sent.moved >= FETCH_PROGRESS_BYTES {
                (sent.moved, sent.moved_at) = (0, now);
            }
        }
    }

    async fn answered(
        &mut self,
        peer: PeerId,
        batch: u32,
        outcome: Result<Answer, RequestFailure>,
        tells: &mpsc::Sender<Told>,
    ) {
        let is_block = |found: &Found| matches!(found, Found::Have(_));
        let brings_blocks = outcome.as_ref().is_ok_and(|answer| answer.blocks.iter().any(is_block));
        // Whoever hears of it may ask again at once, and has room for that.
        let reply = self.sent.remove(&batch).and_then(|sent| sent.reply);
        if let Some(reply) = reply {
            let _ = reply.send(outcome);
        }
        // However small it was, the next ones had to wait for it.
        let now = Instant::now();
        let rest = self.sent.iter_mut().filter(|(it, sent)| **it >= batch || sent.waits);
        rest.for_each(|(_, sent)| (sent.moved, sent.moved_at) = (0, now));
        self.idle_since = now;
        let _ = tells.send(Told::Answered { peer, brings_blocks }).await;
    }

    /// When it ends, if nothing comes until then.
    fn due(&self) -> Instant {
        let over = |sent: &Sent| sent.due().min(sent.since + FETCH_TIMEOUT_MAX);
        self.sent.values().map(over).min().unwrap_or(self.idle_since + IDLE)
    }

    fn end(&self, now: Instant) -> End {
        if self.sent.is_empty() {
            End::Idle
        } else if self.sent.values().any(|sent| sent.due() <= now) {
            End::Failed(RequestFailure::Timeout)
        } else {
            // It comes, and takes too long.
            End::Failed(RequestFailure::Closed)
        }
    }
}

/// Writes some of what there is, or flushes where there is nothing; yields how much was written. Cancel safe.
async fn push(writer: &mut (impl AsyncWrite + Unpin), out: &[u8]) -> io::Result<usize> {
    if out.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        bytes => Ok(bytes),
    }
}

/// The next batch of which nobody waits for the answer any more.
async fn given_up(sent: &mut BTreeMap<u32, Sent>) -> u32 {
    poll_fn(|cx| {
        for (batch, sent) in sent.iter_mut() {
            if let Some(reply) = &mut sent.reply
                && reply.poll_closed(cx).is_ready()
            {
                return Poll::Ready(*batch);
            }
        }
        Poll::Pending
    })
    .await
}

/// Why nothing more comes: only what was read can break the protocol. That a peer does not speak it shows here: a stream is used before
/// the peer has agreed to its protocol.
fn closed(came: io::Result<usize>) -> RequestFailure {
    let Err(error) = came else { return RequestFailure::Closed };
    tracing::debug!(%error, "a stream for blocks ended");
    match error.get_ref().and_then(|it| it.downcast_ref::<NegotiationError>()) {
        Some(NegotiationError::Failed) => RequestFailure::Unreachable,
        _ => RequestFailure::Closed,
    }
}

#[cfg(test)]
#[path = "wanting_tests.rs"]
mod tests;
