//! One retrieval: the plan, the network and the store, joined.

mod error;
mod late;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use libp2p::PeerId;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use super::{
    held::{Held, Step},
    plan::{self, Ask, Plan, RequestId},
    protocol::{Answer, Arrived, Found, Request},
    providers::{Providers, Source},
    report::{Report, Served},
    swarm::News,
    swarming::Swarming,
    transport::{RequestFailure, Transport},
    wanted::{Contradiction, Places, Wanted},
};
use crate::{
    content::{Block, Codec, ContentId},
    network::Offload,
    package::unixfs::FilePart,
    reputation::Attempt,
    store::{self, Batch, Store},
};

pub use self::{error::Error, late::Late};

/// Verified bytes in memory beyond which nothing more is asked for until some were written.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Bytes beyond which nothing more is asked for, those among them that were asked for and are likely to come: as much as all peers
/// send at once must have room here, and those that are silent must leave room for others.
const COMING_BYTES_MAX: u64 = 128 << 20;
/// Bytes of an answer that must have come for whoever sends it not to be silent: within the five seconds after which the planner
/// calls a peer so, 13 kB a second.
const MOVED_BYTES: u64 = 64 << 10;
/// How long providers that were lost are tried again, if nothing comes, even where the caller has more time.
const LOST_PATIENCE: Duration = Duration::from_secs(120);
/// How long before they are tried for the first time; each further time twice as long, up to [`LOST_PAUSE_MAX`].
const LOST_PAUSE: Duration = Duration::from_millis(500);
const LOST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// One retrieval of a tree: several calls of [`Session::get`] with the same providers.
pub struct Session<T> {
    transport: T,
    store: Store,
    offload: Offload,
    deadline: Instant,
    providers: Providers<T>,
    connected: Vec<PeerId>,
    plan: Plan,
    /// Times are counted from here.
    started: Instant,
    /// Those who fetch the same tree, where it is known which one that is.
    swarm: Option<Swarming>,
    /// Is told of the blocks as they are written; not here while it is at work.
    sink: Option<Sink>,
    /// Woken where a request waits for its turn, or begins to be answered.
    wakes: Arc<Notify>,
    /// Requests that were still unanswered when everything was here.
    outstanding: FuturesUnordered<BoxFuture<'static, Landed>>,
    report: Report,
}

/// What is open for more, or why nothing was written.
type Wrote = (Result<Option<Batch>, store::Error>, Option<Sink>);

/// Is told of verified blocks as they are written, beside the runtime.
pub type Sink = Box<dyn FnMut(&Block) + Send>;

/// What came back for one request; nothing where it was called off.
type Landed = (Ask, Option<Result<Answer, RequestFailure>>, Duration);

struct Run {
    places: Places,
    in_flight: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// What came of the answers under way, and from whom; and how much of it the plan knows of.
    arriving: BTreeMap<RequestId, (PeerId, Arrived, u64)>,
    /// Calls a request off.
    stops: BTreeMap<RequestId, oneshot::Sender<()>>,
    held: Held,
    /// Takes what is appended and not durable yet; not here while something is being written.
    batch: Option<Batch>,
    writing: Option<BoxFuture<'static, Option<Wrote>>>,
    writing_bytes: usize,
    /// What was appended and is not durable yet, and whether it is once what is being written was.
    appended: Vec<ContentId>,
    commits: bool,
    forged: bool,
    done: u64,
    /// When a block came last.
    came_at: Duration,
    /// How often the lost were tried again since, and how many they are.
    attempts: u32,
    lost: usize,
}

impl Run {
    /// Notes that what was being written is, or that it was not.
    fn wrote(&mut self, written: Option<Wrote>) -> Result<Option<Sink>, Error> {
        self.writing = None;
        self.writing_bytes = 0;
        let (written, sink) = written.ok_or(Error::Unfinished)?;
        self.batch = written?;
        Ok(sink)
    }
}

impl<T: Transport> Session<T> {
    /// Begins a retrieval; `found` yields providers in the order in which they should be preferred, with addresses to try.
    pub fn new(
        transport: T,
        store: Store,
        offload: Offload,
        deadline: Instant,
        found: mpsc::Receiver<Source>,
    ) -> Self {
        Self {
            providers: Providers::new(transport.clone(), found),
            store,
            offload,
            deadline,
            connected: Vec::new(),
            plan: Plan::of(transport.own()),
            started: Instant::now(),
            swarm: None,
            sink: None,
            wakes: Arc::default(),
            outstanding: FuturesUnordered::new(),
            report: Report::default(),
            transport,
        }
    }

    /// Fetches a tree together with others who do: what is verified is served at once, and what they have is fetched from them.
    #[must_use]
    pub fn of_tree(mut self, tree: ContentId) -> Self {
        self.swarm = Some(Swarming::join(&self.transport, tree));
        self
    }

    /// Ends the retrieval and waits for what is still unanswered.
    ///
    /// Others are asked as soon as a peer is slow, so that a retrieval ends long before a silent one has proved to be silent.
    pub fn late(self) -> impl Future<Output = Late> + Send + 'static {
        let Self { mut outstanding, mut report, providers, .. } = self;
        let known = providers.into_known();
        async move {
            let mut late = Late::default();
            while let Some((ask, answer, took)) = outstanding.next().await {
                let began = Instant::now().checked_sub(took);
                let served = report.peers.entry(ask.peer).or_default();
                match answer {
                    None => {}
                    Some(Ok(answer)) => late.note(ask.peer, &ask.want, &answer, served),
                    Some(Err(RequestFailure::Timeout))
                        if served.claimed || known.get(&ask.peer) == Some(&true) =>
                    {
                        late.silent.extend(began.map(|began| (ask.peer, began)));
                    }
                    Some(Err(_)) => {}
                }
            }
            late.acquit(&report);
            late
        }
    }

    /// Has a sink told of every block that comes from now on, as it is written to the store.
    pub fn tell(&mut self, sink: Sink) {
        self.sink = Some(sink);
    }

    /// What the peers did so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Brings what is `wanted` into the store, with all parts of the files among it.
    ///
    /// Blocks that are held already are not fetched. `progress` is told the bytes that are here: those that were held already, and those
    /// that came.
    ///
    /// # Errors
    /// Why something is missing; what was verified until then is stored. A block that is not what was signed at its place
    /// never is.
    ///
    /// # Cancel safety
    /// What was verified and written stays; what was verified and not yet written is fetched again.
    pub async fn get(
        &mut self,
        wanted: Vec<Wanted>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Error> {
        let mut run = Run {
            places: Places::default(),
            in_flight: FuturesUnordered::new(),
            arriving: BTreeMap::new(),
            stops: BTreeMap::new(),
            held: Held::default(),
            batch: None,
            writing: None,
            writing_bytes: 0,
            appended: Vec::new(),
            commits: false,
            forged: false,
            done: 0,
            came_at: self.started.elapsed(),
            attempts: 0,
            lost: 0,
        };
        self.plan.begin();
        self.want(&mut run, wanted).await?;
        progress(run.done);
        let outcome = self.drive(&mut run, progress).await;
        if matches!(outcome, Err(Error::Contradiction(_))) {
            // What nobody can install is of no use here.
            run.held.discard();
        }
        // Nothing else that was verified is lost, whatever the outcome.
        let flushed = self.flush(&mut run).await;
        self.outstanding.extend(std::mem::take(&mut run.in_flight));
        self.prefer_the_quick(&run);
        outcome.and(flushed)
    }

    /// What is fetched next is asked first of those who brought something, and last of those who still owe an answer: otherwise
    /// each of several retrievals in a row would wait for the same silent peer again.
    fn prefer_the_quick(&mut self, run: &Run) {
        let owing: BTreeSet<PeerId> = run.arriving.values().map(|(peer, ..)| *peer).collect();
        let report = &self.report;
        let delivered = |peer: &PeerId| report.peers.get(peer).is_some_and(|served| served.delivered);
        self.plan.prefer(|peer| (owing.contains(peer), !delivered(peer)));
    }

    async fn drive(&mut self, run: &mut Run, progress: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
        let started = self.started;
        while !self.plan.is_complete() {
            run.held.hasten(self.swarm.as_ref().is_some_and(Swarming::is_followed));
            self.ask(run, started.elapsed());
            let stuck = self.plan.stuck();
            if !stuck.is_empty()
                && self.providers.is_exhausted()
                && !self.plan.is_hopeful(started.elapsed())
                && !self.wait_for_the_lost(run, started.elapsed())
            {
                return Err(self.shortage(run, stuck.len()));
            }
            // What is held is written when the write under way has ended, and not before.
            let due = run.held.due_at().filter(|_| run.writing.is_none());
            let wake = self.plan.wake_at(started.elapsed()).into_iter().chain(due).min();
            let wake = wake.map_or(self.deadline, |at| (started + at).min(self.deadline));
            let writing =
                run.writing.as_mut().map_or(futures::future::pending().left_future(), |it| it.right_future());
            tokio::select! { biased;
                written = writing => self.wrote(run, written)?,
                Some(landed) = run.in_flight.next(), if !run.in_flight.is_empty() => {
                    self.landed(run, landed, started.elapsed()).await?;
                    progress(run.done);
                }
                reached = self.providers.next(), if !self.providers.is_exhausted() => {
                    if let Some(peer) = reached
                        && self.plan.knows(&peer)
                    {
                        tracing::debug!(%peer, "a provider is there again");
                        self.plan.found_again(peer, started.elapsed());
                    } else if let Some(peer) = reached {
                        self.connected.push(peer);
                        self.plan.peer(peer);
                        if self.transport.is_near(&peer) {
                            self.plan.near(&peer);
                        }
                        if let Some(swarm) = &mut self.swarm {
                            swarm.follow(&self.transport, peer);
                        }
                    }
                }
                () = self.wakes.notified() => {}
                (peer, news) = next_news(&mut self.swarm) => self.heard(peer, news, started.elapsed()),
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.deadline {
                        self.blame_the_silent(run, started.elapsed());
                        return Err(Error::Timeout { missing: self.plan.outstanding() });
                    }
                }
            }
            if run.writing.is_none()
                && let Some(step) = run.held.step(started.elapsed())
            {
                self.write(run, step);
            }
        }
        Ok(())
    }

    /// Tries to reach those again that were lost: a provider that restarts, or is cut off for a moment, is worth waiting for. False
    /// where there are none, or nothing has come for too long.
    fn wait_for_the_lost(&mut self, run: &mut Run, now: Duration) -> bool {
        let broke = |served: &Served| {
            matches!(
                served.fault,
                Some(Attempt::BadBlock | Attempt::ProtocolViolation | Attempt::SizeViolation)
            )
        };
        let mut lost = self.plan.lost();
        lost.retain(|peer| self.report.peers.get(peer).is_none_or(|served| !broke(served)));
        run.lost = lost.len();
        if lost.is_empty() || now.saturating_sub(run.came_at) >= LOST_PATIENCE {
            return false;
        }
        let pause = LOST_PAUSE.saturating_mul(1 << run.attempts.min(8)).min(LOST_PAUSE_MAX);
        run.attempts += 1;
        tracing::debug!(peers = lost.len(), ?pause, "the providers are lost; they are tried again");
        self.providers.again(lost, pause);
        true
    }

    /// Adds what is not held yet to the plan, and the parts of what is held.
    async fn want(&mut self, run: &mut Run, wanted: Vec<Wanted>) -> Result<(), Error> {
        let mut wanted = run.places.add(wanted)?;
        // Ends: parts are smaller than what they are part of.
        while !wanted.is_empty() {
            let store = self.store.clone();
            let mut here: BTreeSet<ContentId> = wanted.iter().map(Wanted::id).collect();
            let looked = self.offload.run(move || look(&store, wanted)).await;
            let (missing, parts, held) = looked.ok_or(Error::Unfinished)??;
            run.done += held;
            for it in missing {
                here.remove(&it.id());
                self.plan.want(it.id(), it.bytes_guess());
            }
            if let Some(swarm) = &self.swarm {
                swarm.has(&here);
            }
            wanted = run.places.add(parts.into_iter().map(Wanted::Part).collect())?;
        }
        Ok(())
    }

    /// Takes what a peer tells of the tree.
    fn heard(&mut self, peer: PeerId, news: News, now: Duration) {
        match news {
            News::Has(marks) => self.plan.has(peer, &marks, now),
            News::Members(members) => {
                let own = self.transport.own();
                for member in members.into_iter().filter(|member| member.peer != own) {
                    self.plan.told_of(member.peer, now);
                    self.providers.add(member.peer, member.addresses);
                }
            }
            News::Ended => {}
        }
    }

    /// Calls off what nobody waits for any more.
    fn call_off(&mut self, run: &mut Run) {
        for id in self.plan.cancelled() {
            run.arriving.remove(&id);
            if let Some(stop) = run.stops.remove(&id) {
                let _ = stop.send(());
            }
        }
    }

    fn ask(&mut self, run: &mut Run, now: Duration) {
        for (id, (_, arrived, known)) in &mut run.arriving {
            if arrived.waits() {
                self.plan.waits(*id, now);
            }
            self.plan.came(*id, arrived.own_bytes(), now);
            // Whoever lets a few bytes drip is as good as silent.
            if arrived.bytes() >= *known + MOVED_BYTES {
                *known = arrived.bytes();
                self.plan.moved(*id, now);
            }
        }
        self.call_off(run);
        let here = run.held.bytes() + run.writing_bytes;
        if here >= HELD_BYTES_MAX {
            return;
        }
        let mut coming = self.plan.coming(now).saturating_add(here as u64);
        while coming < COMING_BYTES_MAX
            && let Some(ask) = self.plan.next(now)
        {
            coming = coming.saturating_add(self.plan.asked_bytes(ask.id));
            if let Some(swarm) = &mut self.swarm {
                swarm.follow(&self.transport, ask.peer);
            }
            // Who says that it has what it fetches itself claims that as well as one that provides all of it.
            if ask.want.iter().any(|id| self.plan.claims(&ask.peer, id)) {
                self.served(ask.peer).claimed = true;
            }
            let (transport, request) =
                (self.transport.clone(), Request::waking(ask.want.clone(), self.wakes.clone()));
            let (stop, stopped) = oneshot::channel();
            run.stops.insert(ask.id, stop);
            run.arriving.insert(ask.id, (ask.peer, request.arrived.clone(), 0));
            run.in_flight.push(
                async move {
                    let started = Instant::now();
                    let stopped = async {
                        // A retrieval that has ended still waits for the answer.
                        if stopped.await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    };
                    let answer = tokio::select! { biased;
                        () = stopped => None,
                        answer = transport.ask(ask.peer, request) => Some(answer),
                    };
                    (ask, answer, started.elapsed())
                }
                .boxed(),
            );
        }
    }

    async fn landed(&mut self, run: &mut Run, landed: Landed, now: Duration) -> Result<(), Error> {
        let (ask, answer, took) = landed;
        run.arriving.remove(&ask.id);
        run.stops.remove(&ask.id);
        let Some(answer) = answer else { return Ok(()) };
        let served = self.served(ask.peer);
        served.spent += took;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                tracing::debug!(peer = %ask.peer, %failure, "a request for blocks failed");
                match failure {
                    RequestFailure::Timeout => served.fault(Attempt::Timeout),
                    RequestFailure::Broken(_) => served.fault(Attempt::ProtocolViolation),
                    RequestFailure::Unreachable | RequestFailure::Closed => {
                        served.fault(Attempt::Disconnected)
                    }
                    RequestFailure::Own => {}
                }
                let failure = match failure {
                    RequestFailure::Timeout | RequestFailure::Broken(_) => plan::Failure::Peer,
                    RequestFailure::Unreachable => plan::Failure::Unreachable,
                    RequestFailure::Closed => plan::Failure::Closed,
                    RequestFailure::Own => plan::Failure::Own,
                };
                self.plan.failed(ask.id, failure, now);
                return Ok(());
            }
        };
        if answer.blocks.is_empty() {
            self.plan.failed(ask.id, plan::Failure::Busy(answer.busy.unwrap_or_default()), now);
            return Ok(());
        }
        self.take(run, ask.id, ask.peer, ask.want, answer, now).await
    }

    /// Verifies what came and keeps what is wanted of it.
    async fn take(
        &mut self,
        run: &mut Run,
        request: RequestId,
        peer: PeerId,
        want: Vec<ContentId>,
        answer: Answer,
        now: Duration,
    ) -> Result<(), Error> {
        let places: Vec<Wanted> = want.iter().map(|id| run.places.of(id)).collect();
        let blocks = answer.blocks;
        let read = move || {
            let parts: Vec<_> = places.iter().zip(&blocks).map(|(place, found)| read(place, found)).collect();
            (blocks, parts)
        };
        // The parts of a node are read beside the runtime; a leaf has none.
        let read = match want.iter().all(|id| id.codec() == Codec::Raw) {
            true => Some(read()),
            false => self.offload.run(read).await,
        };
        let Some((blocks, parts)) = read else {
            self.plan.failed(request, plan::Failure::Own, now);
            return Ok(());
        };
        let answers: Vec<_> = want.iter().zip(&blocks).map(|(id, found)| (*id, as_answer(found))).collect();
        let came: BTreeSet<ContentId> = self.plan.answered(request, &answers, now).into_iter().collect();
        self.call_off(run);
        let claimed = self.providers.claims(&peer);
        let served = self.report.peers.entry(peer).or_default();
        served.claimed |= claimed;
        if !came.is_empty() {
            (run.came_at, run.attempts) = (now, 0);
            self.transport.credit(peer);
        }
        let (mut wanted, mut contradiction) = (Vec::new(), None);
        for ((id, found), parts) in want.into_iter().zip(blocks).zip(parts) {
            served.delivered |= matches!(found, Found::Have(_));
            match found {
                Found::Have(block) if came.contains(&id) => {
                    // The peer sent what it was asked for, whatever that is.
                    served.blocks += 1;
                    served.bytes += block.bytes().len() as u64;
                    self.report.bytes += block.bytes().len() as u64;
                    run.done += block.bytes().len() as u64;
                    match parts {
                        Ok(parts) => {
                            wanted.extend(parts.into_iter().map(Wanted::Part));
                            run.held.push(block, now);
                        }
                        Err(error) => contradiction = Some(error),
                    }
                }
                Found::Forged => {
                    served.fault(Attempt::BadBlock);
                    served.forged.get_or_insert(id);
                    run.forged = true;
                }
                Found::Have(_) | Found::Missing | Found::Later => {}
            }
        }
        match contradiction {
            Some(error) => Err(error.into()),
            None => self.want(run, wanted).await,
        }
    }

    /// Notes that what was being written is, or that it was not, and tells others of what is durable now.
    fn wrote(&mut self, run: &mut Run, written: Option<Wrote>) -> Result<(), Error> {
        self.sink = run.wrote(written)?;
        if run.commits {
            let durable = std::mem::take(&mut run.appended);
            if let Some(swarm) = &self.swarm {
                swarm.has(&durable);
            }
        }
        Ok(())
    }

    /// Begins to write; nothing is being written.
    fn write(&mut self, run: &mut Run, step: Step) {
        let (store, batch) = (self.store.clone(), run.batch.take());
        run.writing_bytes = step.bytes;
        run.appended.extend(step.blocks.iter().map(Block::id));
        run.commits = step.commit;
        // Beside what is stored: the disk has its own time.
        let told = self.sink.take().map(|mut sink| {
            let blocks = step.blocks.clone();
            self.offload.run(move || {
                blocks.iter().for_each(&mut sink);
                sink
            })
        });
        let stored = self.offload.run(move || {
            let mut batch = batch.unwrap_or_else(|| store.batch());
            step.blocks.into_iter().try_for_each(|block| batch.put_missing(block))?;
            if step.commit { batch.commit(|_| Ok(None)) } else { Ok(Some(batch)) }
        });
        let both = async move {
            let told = OptionFuture::from(told);
            match futures::join!(stored, told) {
                (_, Some(None)) | (None, _) => None,
                (Some(stored), told) => Some((stored, told.flatten())),
            }
        };
        run.writing = Some(both.boxed());
    }

    /// Makes all durable that was verified.
    async fn flush(&mut self, run: &mut Run) -> Result<(), Error> {
        loop {
            if let Some(writing) = run.writing.take() {
                let written = writing.await;
                self.wrote(run, written)?;
            }
            let Some(rest) = run.held.rest() else { return Ok(()) };
            self.write(run, rest);
        }
    }

    /// Peers that hold a request back until the time runs out have failed as much as those whose request timed out. With the
    /// others it is our own time that ended, or the line is slow; what they are still asked for is looked at when its own time is
    /// up.
    fn blame_the_silent(&mut self, run: &Run, now: Duration) {
        let arriving = run.arriving.values().filter(|(_, arrived, _)| arrived.bytes() > 0);
        let sending: BTreeSet<PeerId> = arriving.map(|(peer, ..)| *peer).collect();
        for (peer, is_silent) in self.plan.waiting_on(now) {
            let is_silent = is_silent && !sending.contains(&peer);
            self.served(peer).fault(if is_silent { Attempt::Timeout } else { Attempt::CalledOff });
        }
    }

    fn served(&mut self, peer: PeerId) -> &mut Served {
        let claimed = self.providers.claims(&peer);
        let served = self.report.peers.entry(peer).or_default();
        served.claimed |= claimed;
        served
    }

    fn shortage(&self, run: &Run, missing: usize) -> Error {
        if run.forged {
            Error::Forged
        } else if self.connected.is_empty() {
            Error::NoProviders
        } else if run.lost > 0 {
            Error::Lost { missing, peers: run.lost }
        } else {
            Error::Missing { missing, peers: self.connected.len() }
        }
    }
}

/// What is told next of the tree; nothing where it is not known which one it is.
async fn next_news(swarm: &mut Option<Swarming>) -> (PeerId, News) {
    match swarm {
        Some(swarm) => swarm.next().await,
        None => std::future::pending().await,
    }
}

fn as_answer(found: &Found) -> plan::Answer {
    match found {
        Found::Have(_) => plan::Answer::Have,
        Found::Forged => plan::Answer::Forged,
        Found::Missing => plan::Answer::Missing,
        Found::Later => plan::Answer::Later,
    }
}

/// Reads a block that came as what stands at its place.
fn read(place: &Wanted, found: &Found) -> Result<Vec<FilePart>, Contradiction> {
    match found {
        Found::Have(block) => place.read(block.bytes()).map_err(|source| Contradiction::of(block, source)),
        Found::Forged | Found::Missing | Found::Later => Ok(Vec::new()),
    }
}

/// Splits what is wanted into what is missing, and the parts of what is held; with the bytes of files that are held.
fn look(store: &Store, wanted: Vec<Wanted>) -> Result<(Vec<Wanted>, Vec<FilePart>, u64), Error> {
    let ids: Vec<ContentId> = wanted.iter().map(Wanted::id).collect();
    let absent: BTreeSet<ContentId> = store.missing(&ids)?.into_iter().collect();
    let (mut missing, mut parts, mut held) = (Vec::new(), Vec::new(), 0u64);
    for it in wanted {
        if absent.contains(&it.id()) {
            missing.push(it);
        } else if !it.has_parts() {
            held = held.saturating_add(it.bytes_guess());
        } else if let Some(block) = store.block(&it.id())? {
            let below = it.read(block.bytes());
            parts.extend(below.map_err(|source| Contradiction::of(&block, source))?);
        } else {
            // It was damaged on the disk, or removed meanwhile.
            missing.push(it);
        }
    }
    Ok((missing, parts, held))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
