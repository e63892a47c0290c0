//! The retrieval of one log: [`Gathering`], the network and the store, joined.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    task::{Context, Poll},
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, unfold},
};
use libp2p::PeerId;
use tokio::{sync::mpsc, time::Instant};

use super::{
    gathering::{Ask, Fault, Gathering, StreamId, Taken, Wanted},
    protocol::{Frame, Request, UpTo},
};
use crate::{
    code::Code,
    fetch::{
        held::{Held, Step},
        protocol::Arrived,
        providers::{Providers, Source},
        report::{Report, Served},
        transport::{RequestFailure, Transport},
    },
    network::Offload,
    release::{self, SignedEntry},
    reputation::Attempt,
    store::{self, Store},
};

/// Frames of one answer that wait to be verified.
const FRAMES_WAITING_MAX: usize = 1;

/// Why a log is not here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody provides it.
    #[error("nobody reachable provides its log")]
    NoProviders,
    /// The providers lack some of it.
    #[error("none of the providers that were reached holds all of its log: entry {} of it is missing", missing.saturating_sub(1))]
    Missing {
        /// Entries that nobody sent.
        missing: u64,
    },
    /// Every provider sent something else.
    #[error("what came in place of its log does not match its hashes, and no honest provider was reached")]
    Forged,
    /// What was signed contradicts itself; the peers sent the right entries.
    #[error(transparent)]
    Contradiction(#[from] release::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The time ran out.
    #[error("its log did not come in time: it is missing up to its entry {}", missing.saturating_sub(1))]
    Timeout {
        /// Entries that are still missing.
        missing: u64,
    },
    /// Work beside the runtime did not end.
    #[error("internal error: the log was not verified, or not written")]
    Unverified,
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::NoProviders | Self::Missing { .. } => Code::NoProviders,
            Self::Forged => Code::HashMismatch,
            Self::Contradiction(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Timeout { .. } => Code::Timeout,
            Self::Unverified => Code::Failed,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoProviders | Self::Missing { .. } | Self::Timeout { .. } => {
                "Try again when more peers are connected: ggen marketplace p2p peer-list. What was fetched is kept."
                    .to_owned()
            }
            Self::Forged => {
                "The peers that sent it are blocked from now on; try again to use others.".to_owned()
            }
            Self::Contradiction(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Unverified => "Look at the node's log: ggen marketplace p2p logs".to_owned(),
        }
    }
}

/// What an answer brought.
enum Came {
    Frame(Frame),
    Ended(Result<(), RequestFailure>),
}

/// An answer that is in progress.
struct Answer {
    peer: PeerId,
    arrived: Arrived,
    began: Instant,
    frames: BoxStream<'static, Came>,
}

/// One retrieval of a log.
pub struct Session<T> {
    transport: T,
    store: Store,
    offload: Offload,
    deadline: Instant,
    /// None while it is at work beside the runtime.
    gathering: Option<Gathering>,
    answers: BTreeMap<StreamId, Answer>,
    /// Verified entries that were not written yet.
    held: Held,
    started: Instant,
    report: Report,
    forged: bool,
}

impl<T: Transport> Session<T> {
    /// Begins a retrieval.
    ///
    /// # Errors
    /// [`Error::Contradiction`] where the head names something that is no entry.
    pub fn new(
        transport: T,
        store: Store,
        offload: Offload,
        deadline: Instant,
        wanted: Wanted,
    ) -> Result<Self, Error> {
        Ok(Self {
            transport,
            store,
            offload,
            deadline,
            gathering: Some(Gathering::new(wanted)?),
            answers: BTreeMap::new(),
            held: Held::default(),
            started: Instant::now(),
            report: Report::default(),
            forged: false,
        })
    }

    /// What the peers did so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes what is held already; true where that is all of it.
    ///
    /// # Errors
    /// [`Error::Contradiction`], [`Error::Store`].
    pub async fn look(&mut self) -> Result<bool, Error> {
        self.verify(|_| Ok(())).await?;
        Ok(self.gathering().is_complete())
    }

    /// Brings the rest here; `found` yields providers in the order in which they should be preferred.
    ///
    /// # Errors
    /// Why something is missing; what was verified until then is stored.
    ///
    /// # Cancel safety
    /// What was verified and written stays; of what came within the last second, some is fetched again.
    pub async fn fetch(&mut self, found: mpsc::Receiver<Source>) -> Result<(), Error> {
        let mut providers = Providers::new(self.transport.clone(), found);
        let outcome = self.drive(&mut providers).await;
        for (peer, served) in &mut self.report.peers {
            served.claimed = providers.claims(peer);
        }
        self.give_up_all();
        // Nothing that was verified is lost, whatever the outcome.
        let rest = self.held.rest();
        let flushed = self.write(rest).await;
        outcome.and(flushed)
    }

    /// Up to where peers said that they hold it which lack some of it, the newest first.
    pub fn older(&self) -> Vec<UpTo> {
        self.gathering.as_ref().map(Gathering::older).unwrap_or_default()
    }

    /// The entries from the first on, where all of them are here.
    pub fn into_entries(self) -> Vec<SignedEntry> {
        self.gathering.map(Gathering::into_entries).unwrap_or_default()
    }

    async fn drive(&mut self, providers: &mut Providers<T>) -> Result<(), Error> {
        while !self.gathering().is_complete() {
            self.ask();
            if self.gathering().is_stuck() && providers.is_exhausted() {
                return Err(self.shortage());
            }
            let wake = self.gathering().wake_at().into_iter().chain(self.held.due_at()).min();
            let wake = wake.map_or(self.deadline, |at| (self.started + at).min(self.deadline));
            tokio::select! { biased;
                (id, came) = poll_fn(|cx| poll_next(&mut self.answers, cx)), if !self.answers.is_empty() => {
                    self.came(id, came).await?;
                }
                reached = providers.next(), if !providers.is_exhausted() => {
                    if let (Some(peer), Some(gathering)) = (reached, &mut self.gathering) {
                        gathering.peer(peer);
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.deadline {
                        return Err(Error::Timeout { missing: self.gathering().missing() });
                    }
                }
            }
            let step = self.held.step(self.started.elapsed());
            self.write(step).await?;
        }
        Ok(())
    }

    fn gathering(&self) -> &Gathering {
        self.gathering.as_ref().expect("it is here between two pieces of work")
    }

    fn ask(&mut self) {
        let now = self.started.elapsed();
        let Some(gathering) = &mut self.gathering else { return };
        for (id, answer) in &self.answers {
            gathering.moved(*id, answer.arrived.bytes(), now);
        }
        while let Some(Ask { id, peer, request }) = gathering.next(now) {
            let arrived = Arrived::default();
            let frames = answer(self.transport.clone(), peer, request, arrived.clone()).boxed();
            self.answers.insert(id, Answer { peer, arrived, began: Instant::now(), frames });
        }
        let over: Vec<_> = self.answers.keys().copied().filter(|id| !gathering.is_live(*id)).collect();
        over.into_iter().for_each(|id| self.give_up(id));
    }

    async fn came(&mut self, id: StreamId, came: Came) -> Result<(), Error> {
        let now = self.started.elapsed();
        let Some(peer) = self.answers.get(&id).map(|answer| answer.peer) else { return Ok(()) };
        let taken = match came {
            Came::Frame(frame) => self.verify(move |gathering| gathering.frame(id, &frame, now)).await?,
            Came::Ended(outcome) => {
                if let Err(failure) = &outcome {
                    tracing::debug!(%peer, %failure, "a request for a log failed");
                }
                let fault =
                    self.gathering.as_mut().and_then(|it| it.ended(id, outcome.as_ref().copied(), now));
                Taken { fault, is_over: true, ..Taken::default() }
            }
        };
        let served = self.report.peers.entry(peer).or_default();
        served.delivered |= taken.is_proved;
        if let Some(fault) = taken.fault {
            tracing::debug!(%peer, %fault, "a peer broke the protocol of logs");
            self.forged |= matches!(fault, Fault::Forged(_));
            charge(served, fault);
        }
        for block in taken.fresh {
            served.blocks += 1;
            served.bytes += block.bytes().len() as u64;
            self.report.bytes += block.bytes().len() as u64;
            self.held.push(block, now);
        }
        if taken.is_proved {
            self.transport.credit(peer);
        }
        if taken.is_over {
            self.give_up(id);
        }
        Ok(())
    }

    fn give_up(&mut self, id: StreamId) {
        if let Some(answer) = self.answers.remove(&id) {
            self.report.peers.entry(answer.peer).or_default().spent += answer.began.elapsed();
        }
    }

    /// What is still in progress is not wanted any more. Its peers were slow, and that proves nothing.
    fn give_up_all(&mut self) {
        for id in self.answers.keys().copied().collect::<Vec<_>>() {
            self.give_up(id);
        }
    }

    /// Works on the log beside the runtime, and takes what is held of what comes next then.
    async fn verify<R: Default + Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Gathering) -> Result<R, release::Error> + Send + 'static,
    ) -> Result<R, Error> {
        let mut gathering = self.gathering.take().ok_or(Error::Unverified)?;
        let store = self.store.clone();
        let done = self.offload.run(move || {
            let done = work(&mut gathering).map_err(Error::from);
            let looked = done.and_then(|done| look(&store, &mut gathering).map(|()| done));
            (gathering, looked)
        });
        let (gathering, looked) = done.await.ok_or(Error::Unverified)?;
        self.gathering = Some(gathering);
        looked
    }

    async fn write(&mut self, step: Option<Step>) -> Result<(), Error> {
        let Some(blocks) = step.map(|step| step.blocks).filter(|blocks| !blocks.is_empty()) else {
            return Ok(());
        };
        let store = self.store.clone();
        Ok(self.offload.run(move || store.put_blocks(&blocks)).await.ok_or(Error::Unverified)??)
    }

    fn shortage(&self) -> Error {
        if self.forged {
            Error::Forged
        } else if self.report.peers.is_empty() {
            Error::NoProviders
        } else {
            Error::Missing { missing: self.gathering().missing() }
        }
    }
}

fn charge(served: &mut Served, fault: Fault) {
    match fault {
        Fault::Forged(id) => {
            served.forged.get_or_insert(id);
            served.fault(Attempt::BadBlock);
        }
        Fault::Unasked | Fault::Empty | Fault::Cut | Fault::Broken => {
            served.fault(Attempt::ProtocolViolation);
        }
    }
}

/// Takes what the store holds of a log, up to the first entry that it lacks.
fn look(store: &Store, gathering: &mut Gathering) -> Result<(), Error> {
    while let Some(id) = gathering.sought() {
        gathering.held(store.block(&id)?.as_ref())?;
    }
    Ok(())
}

/// Where an answer is.
enum Reading {
    Running(mpsc::Receiver<Frame>, BoxFuture<'static, Result<(), RequestFailure>>),
    /// The request ended; frames may still wait.
    Ending(mpsc::Receiver<Frame>, Result<(), RequestFailure>),
    Over,
}

/// Asks a peer, and yields the frames as they are taken, and then how it ended.
fn answer<T: Transport>(
    transport: T,
    peer: PeerId,
    request: Request,
    arrived: Arrived,
) -> impl Stream<Item = Came> + Send + 'static {
    let (frames, coming) = mpsc::channel(FRAMES_WAITING_MAX);
    let asked = async move { transport.read_log(peer, request, frames, arrived).await };
    unfold(Reading::Running(coming, asked.boxed()), |mut reading| async move {
        loop {
            reading = match reading {
                Reading::Running(mut coming, mut asked) => {
                    tokio::select! { biased;
                        Some(frame) = coming.recv() => {
                            return Some((Came::Frame(frame), Reading::Running(coming, asked)));
                        }
                        outcome = &mut asked => Reading::Ending(coming, outcome),
                    }
                }
                Reading::Ending(mut coming, outcome) => {
                    return Some(match coming.try_recv() {
                        Ok(frame) => (Came::Frame(frame), Reading::Ending(coming, outcome)),
                        Err(_) => (Came::Ended(outcome), Reading::Over),
                    });
                }
                Reading::Over => return None,
            };
        }
    })
}

/// The next thing that any of the answers brings.
fn poll_next(answers: &mut BTreeMap<StreamId, Answer>, cx: &mut Context<'_>) -> Poll<(StreamId, Came)> {
    for (id, answer) in answers {
        if let Poll::Ready(Some(came)) = answer.frames.poll_next_unpin(cx) {
            return Poll::Ready((*id, came));
        }
    }
    Poll::Pending
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
