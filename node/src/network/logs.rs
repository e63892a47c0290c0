//! Logs for others, and logs from others: one request, and frames until the last one.
//!
//! An answer is never in memory as a whole. Where this node answers, the next frame is read when the one before it has left;
//! where it asks, the next one is read from the wire when the one before it was taken.

use std::{collections::HashMap, io};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, StreamProtocol,
    request_response::{self, InboundRequestId, OutboundRequestId, ResponseChannel},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    blocks::failure_of,
    codec::{read, write},
    driver::Driver,
    limiter::{Limited, Line},
    progress::{Pace, Watched},
    serve::Work,
};
use crate::{
    catalog,
    fetch::{
        RequestFailure,
        log::{Frame, Recital, Request, Then, UpTo},
        protocol::Arrived,
    },
    limits::{LOG_FRAME_BYTES_MAX, LOG_REQUEST_BYTES_MAX, LOGS_ASKED_MAX, LOGS_ASKED_PER_PEER_MAX},
};

/// Frames of one answer that wait for the wire.
const FRAMES_READY_MAX: usize = 1;
/// What one answer may hold at a time: a frame that is being read, one that waits, and one that is being written.
const ANSWER_BYTES: u64 = 3 * LOG_FRAME_BYTES_MAX as u64;

/// A request, and whom to give its frames.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: Request,
    /// Where this node asks.
    pub(super) frames: Option<mpsc::Sender<Frame>>,
    pub(super) arrived: Arrived,
}

/// The frames of an answer that this node gives; none where it got one, since they were taken as they came.
#[derive(Debug)]
pub(super) struct Frames(Option<mpsc::Receiver<Frame>>);

/// Reads and writes requests for logs and the frames of their answers.
#[derive(Debug, Default)]
pub(super) struct Codec {
    /// Of the request that was written last; its answer is read by the same codec.
    asked: Option<(mpsc::Sender<Frame>, Arrived)>,
    /// What its answers keep to.
    line: Line,
}

impl Codec {
    /// One whose answers keep to the limits of this node.
    pub(super) fn limited(line: Line) -> Self {
        Self { asked: None, line }
    }
}

impl Clone for Codec {
    fn clone(&self) -> Self {
        Self::limited(self.line.clone())
    }
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Question;
    type Response = Frames;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Question>
    where
        T: AsyncRead + Unpin + Send,
    {
        let request = read(&mut Watched::new(io, Pace::OWN, None), LOG_REQUEST_BYTES_MAX).await?;
        Ok(Question { request, frames: None, arrived: Arrived::default() })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Frames>
    where
        T: AsyncRead + Unpin + Send,
    {
        let given_up = || io::Error::other("the rest of the answer is not wanted");
        let (frames, arrived) = self.asked.take().ok_or_else(given_up)?;
        let mut io = Limited::new(io, &self.line);
        let mut io = Watched::new(&mut io, Pace::OWN, Some(arrived));
        loop {
            let frame: Frame = tokio::select! { biased;
                () = frames.closed() => return Err(given_up()),
                frame = read(&mut io, LOG_FRAME_BYTES_MAX) => frame?,
            };
            let is_last = frame.then != Then::More;
            frames.send(frame).await.map_err(|_| given_up())?;
            if is_last {
                return Ok(Frames(None));
            }
        }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, asked: Question) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let Question { request, frames, arrived } = asked;
        self.asked = frames.map(|frames| (frames, arrived));
        write(&mut Watched::new(io, Pace::OWN, None), request, LOG_REQUEST_BYTES_MAX).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Frames) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let Some(mut frames) = answer.0 else { return Ok(()) };
        let mut io = Limited::new(io, &self.line);
        let mut io = Watched::new(&mut io, Pace::ANSWER, None);
        while let Some(frame) = frames.recv().await {
            write(&mut io, frame, LOG_FRAME_BYTES_MAX).await?;
        }
        Ok(())
    }
}

/// Who waits for the end of an answer.
pub(super) type Reply = oneshot::Sender<Result<(), RequestFailure>>;

/// The requests for logs of this node that are in progress.
#[derive(Default)]
pub(super) struct Logs {
    asked: HashMap<OutboundRequestId, (PeerId, Reply)>,
}

impl Logs {
    /// Requests in progress.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Whom this node asks.
    pub(super) fn asked_peers(&self) -> impl Iterator<Item = PeerId> {
        self.asked.values().map(|(peer, _)| *peer)
    }

    /// Whether a peer may be asked once more.
    fn may_ask(&self, peer: &PeerId, is_connected: bool) -> Result<(), RequestFailure> {
        let of_peer = self.asked_peers().filter(|asked| asked == peer).count();
        if self.asked.len() >= LOGS_ASKED_MAX || of_peer >= LOGS_ASKED_PER_PEER_MAX {
            return Err(RequestFailure::Own);
        }
        if is_connected { Ok(()) } else { Err(RequestFailure::Unreachable) }
    }

    /// Tells who waits how an answer ended; whether anybody did.
    fn ended(&mut self, id: &OutboundRequestId, outcome: Result<(), RequestFailure>) -> bool {
        let Some((_, reply)) = self.asked.remove(id) else { return false };
        let _ = reply.send(outcome);
        true
    }
}

pub(super) type LogEvent = request_response::Event<Question, Frames>;

impl Driver {
    pub(super) fn ask_log(&mut self, peer: PeerId, question: Question, reply: Reply) {
        if let Err(failure) = self.logs.may_ask(&peer, self.peers.contains_key(&peer)) {
            let _ = reply.send(Err(failure));
            return;
        }
        let id = self.swarm.behaviour_mut().logs.send_request(&peer, question);
        self.logs.asked.insert(id, (peer, reply));
    }

    pub(super) fn log_event(&mut self, event: LogEvent) {
        match event {
            request_response::Event::Message { peer, message, .. } => {
                self.heard(&peer);
                match message {
                    request_response::Message::Request { request_id, request, channel } => {
                        self.serve_log(peer, request_id, request.request, channel);
                    }
                    request_response::Message::Response { request_id, .. } => {
                        if self.logs.ended(&request_id, Ok(())) {
                            self.peers.transferred(&peer, Instant::now());
                        }
                    }
                }
            }
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                self.logs.ended(&request_id, Err(failure_of(error)));
            }
            request_response::Event::ResponseSent { request_id, .. }
            | request_response::Event::InboundFailure { request_id, .. } => {
                self.blocks.answering.end(&AnswerId::Log(request_id));
            }
        }
    }

    fn serve_log(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: Request,
        channel: ResponseChannel<Frames>,
    ) {
        let (frames, answer) = mpsc::channel(FRAMES_READY_MAX);
        let id = AnswerId::Log(id);
        if self.begin_answer(id, peer) {
            self.blocks.answering.set_bytes(&id, ANSWER_BYTES);
            self.beside.follow(move |store, offload| recite(peer, request, store, offload, frames));
        } else {
            // There is room for one.
            let _ = frames.try_send(Frame::last(Then::Busy));
        }
        if self.swarm.behaviour_mut().logs.send_response(channel, Frames(Some(answer))).is_err() {
            self.blocks.answering.end(&id);
        }
    }
}

/// Reads an answer frame by frame, each when the one before it was taken; ends early where nobody takes them any more.
async fn recite(
    peer: PeerId,
    request: Request,
    store: crate::store::Store,
    offload: super::Offload,
    frames: mpsc::Sender<Frame>,
) -> Work {
    let (mut recital, mut bytes) = (Recital::new(request.clone()), 0);
    loop {
        let (store, request) = (store.clone(), request.clone());
        let read = offload.run(move || {
            let mut frame = recital.frame(&store);
            if frame.then == Then::Missing {
                frame.held = held(&store, &request);
            }
            (recital, frame)
        });
        // Without its last frame the answer is one that was given up.
        let Some((rest, frame)) = read.await else { break };
        recital = rest;
        let is_last = frame.then != Then::More;
        let sent: u64 = frame.entries.iter().map(|entry| entry.len() as u64).sum();
        if frames.send(frame).await.is_err() {
            break;
        }
        bytes += sent;
        if is_last {
            break;
        }
    }
    Work::Recited { peer, bytes }
}

/// The newest place of a log that was seen, is not the one that is asked for, and whose entry is here: what came before it is
/// here too, as a log is read whole or not at all.
fn held(store: &crate::store::Store, request: &Request) -> Option<UpTo> {
    let places = store.read(|conn| Ok(catalog::places(conn, &request.package())?));
    let mut places =
        places.inspect_err(|error| tracing::warn!(%error, "what is held of a log was not read")).ok()?;
    places.sort_by_key(|place| std::cmp::Reverse(place.sequence));
    let is_here = |entry| store.has(&entry).unwrap_or(false);
    let place = places.into_iter().find(|place| place.entry != request.newest && is_here(place.entry))?;
    Some(UpTo { sequence: place.sequence, entry: place.entry })
}

/// What is being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AnswerId {
    /// A batch of a stream.
    Blocks(u64, u32),
    Log(InboundRequestId),
}
