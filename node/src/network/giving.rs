//! A stream on which a peer asks this node for blocks.
//!
//! Its batches are read from the store by the loop's orders, when it is their turn ([`turns`](super::turns)), and written as they are ready;
//! of those that wait it is said so. Where a peer asks for more than it may, or does not read, nothing more is read from it: what a stream
//! holds is bounded whatever the peer does.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    blocks::{Given, Told},
    diversity::Network,
    pace::Budget,
    progress::{Pace, Watched},
};
use crate::{
    content::ContentId,
    fetch::{
        protocol::{self, ASK_BYTES, Ask, Broken, Found, PART_BYTES, TOLD_BYTES, WAITS_AGAIN},
        swarm::{Follow, Trees},
    },
    limits::{
        FETCH_IDS_MAX, FETCH_SERVED_PER_PEER_MAX, SWARM_FOLLOWED_MAX, SWARM_FOLLOWS_MAX, SWARM_FOLLOWS_REFILL,
    },
};

/// Batches of one stream that are read from the store, or written, at once.
pub(super) const BEGUN_MAX: usize = 4;
/// How long a busy node wants to be left alone.
const BUSY: Duration = Duration::from_millis(250);
/// How long a peer may ask for nothing.
const IDLE: Duration = Duration::from_secs(120);
/// Messages of a peer that were read and not looked at yet.
const ASKS_QUEUED_MAX: usize = 2;
/// Wants of one stream that are open: a want takes a hundred bytes of memory.
const OPEN_IDS_MAX: usize = 8 * FETCH_IDS_MAX;
/// Bytes of small blocks that are gathered before they are written.
const GATHER_BYTES: usize = 32 << 10;
/// A peer that says more often what came than each time that it was so much is not listened to.
const CAME_BYTES: u32 = 16 << 10;
/// Less than this is as good as nothing: at the slowest pace that is borne it takes eight seconds.
const MOVED_BYTES: usize = 32 << 10;
/// What the loop may have to say to one stream at once: that each of its batches waits, and then what was read of it.
pub(super) const NOTICES_MAX: usize = 2 * FETCH_SERVED_PER_PEER_MAX;

/// What was read of a batch; nothing where this node has no room for it now.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) batch: u32,
    pub(super) found: Option<Vec<Found>>,
}

/// When the bytes that were given to a stream moved last.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    began: Instant,
    /// Milliseconds after that.
    last: Arc<AtomicU64>,
}

impl Moved {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, last: Arc::default() }
    }

    fn note(&self, now: Instant) {
        let after = now.saturating_duration_since(self.began).as_millis();
        self.last.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// What the loop says to a stream.
#[derive(Debug)]
pub(super) enum Notice {
    /// A batch was read.
    Read(Portion),
    /// A batch has to wait for its turn.
    Waits(u32),
    /// A batch that was taken back had not begun.
    Dropped(u32),
}

/// The batches of one stream. Pure.
#[derive(Debug, Default)]
struct Giving {
    open: BTreeMap<u32, Open>,
    ids: usize,
    ready: VecDeque<Portion>,
}

/// A batch that was not answered yet.
#[derive(Debug, Default)]
struct Open {
    ids: usize,
    waits: bool,
    is_cancelled: bool,
}

impl Giving {
    /// Whether more may be asked.
    fn has_room(&self) -> bool {
        self.open.len() < FETCH_SERVED_PER_PEER_MAX && self.ids < OPEN_IDS_MAX
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a batch.
    fn wants(&mut self, batch: u32, ids: usize) -> Result<(), Broken> {
        match self.open.entry(batch) {
            Entry::Occupied(_) => Err(Broken("a batch that is open already")),
            Entry::Vacant(place) => {
                place.insert(Open { ids, ..Open::default() });
                self.ids += ids;
                Ok(())
            }
        }
    }

    /// Takes a batch back; whether the loop is to be told. What is over needs no word.
    fn cancel(&mut self, batch: u32) -> bool {
        let Some(open) = self.open.get_mut(&batch) else { return false };
        let is_waiting = !self.ready.iter().any(|it| it.batch == batch);
        !std::mem::replace(&mut open.is_cancelled, true) && is_waiting
    }

    fn is_cancelled(&self, batch: u32) -> bool {
        self.open.get(&batch).is_some_and(|open| open.is_cancelled)
    }

    /// Takes what the loop says; yields what to say because of it.
    fn noticed(&mut self, notice: Notice) -> Option<[u8; TOLD_BYTES]> {
        match notice {
            Notice::Read(portion) => {
                if let Some(open) = self.open.get_mut(&portion.batch) {
                    open.waits = false;
                }
                self.ready.push_back(portion);
                None
            }
            Notice::Waits(batch) => {
                let open = self.open.get_mut(&batch).filter(|open| !open.is_cancelled)?;
                open.waits = true;
                Some(protocol::Told::Waits.encode(batch, 0))
            }
            Notice::Dropped(batch) => {
                self.end(batch);
                Some(protocol::Told::Over.encode(batch, 0))
            }
        }
    }

    /// What is to be written next, if it is here.
    fn ready(&mut self) -> Option<Portion> {
        self.ready.pop_front()
    }

    /// A batch was answered.
    fn end(&mut self, batch: u32) {
        if let Some(open) = self.open.remove(&batch) {
            self.ids -= open.ids;
        }
    }

    /// The batches that wait for their turn.
    fn waiting(&self) -> impl Iterator<Item = u32> {
        self.open.iter().filter(|(_, open)| open.waits && !open.is_cancelled).map(|(batch, _)| *batch)
    }
}

/// The trees that a peer follows over one stream.
struct Following {
    peer: PeerId,
    network: Option<Network>,
    trees: Trees,
    wakes: Arc<Notify>,
    follows: BTreeMap<u32, Follow>,
    /// What was used of [`FOLLOWS`].
    used: (u32, Instant),
}

/// How often a peer begins to follow a tree: each time all others who follow it are told.
const FOLLOWS: Budget = Budget::new(SWARM_FOLLOWS_MAX, SWARM_FOLLOWS_REFILL);

impl Following {
    fn new((peer, network): (PeerId, Option<Network>), trees: Trees, now: Instant) -> Self {
        let (wakes, follows) = Default::default();
        Self { peer, network, trees, wakes, follows, used: (0, now) }
    }

    /// Takes what the peer says, where it is about a tree; yields one that it follows from now on.
    fn told(&mut self, ask: &Ask, now: Instant) -> Result<Option<ContentId>, Broken> {
        match ask {
            Ask::Follow { follow, tree } => {
                if self.follows.contains_key(follow) || self.follows.len() >= SWARM_FOLLOWED_MAX {
                    return Err(Broken("a tree is followed twice, or too many are"));
                }
                // Where there is no room for it, or it comes too often, it is told nothing.
                if !FOLLOWS.spend(&mut self.used, 1, now) {
                    return Ok(None);
                }
                let who = (self.peer, self.network);
                let Some(it) = self.trees.follow(*tree, who, self.wakes.clone()) else {
                    return Ok(None);
                };
                self.follows.insert(*follow, it);
                Ok(Some(*tree))
            }
            Ask::Leave { follow } => {
                self.follows.remove(follow);
                Ok(None)
            }
            Ask::Want { .. } | Ask::Cancel { .. } | Ask::Came { .. } => Ok(None),
        }
    }

    /// Writes what there is to tell, up to so many bytes.
    fn tell(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        for (name, follow) in &mut self.follows {
            while out.len() < bytes_max
                && let Some(news) = follow.tell()
            {
                out.extend(protocol::encode_news(*name, &news));
            }
        }
    }
}

/// Answers a peer over a stream until it ends.
pub(super) async fn give(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    (peer, stream_id, network): (PeerId, u64, Option<Network>),
    Given { notices, moved, stands }: Given,
    tells: mpsc::Sender<Told>,
    trees: Trees,
) {
    let (mut reader, mut writer) = stream.split();
    let (asks, asked) = mpsc::channel(ASKS_QUEUED_MAX);
    // Whether something is being answered: a peer that waits for it asks for nothing meanwhile, however long that takes.
    let is_busy = &AtomicBool::new(false);
    let read = async move {
        while let Some(ask) = read(&mut reader, is_busy).await? {
            if asks.send(ask).await.is_err() {
                break;
            }
        }
        drop(asks);
        // Whoever asks for nothing more still reads.
        std::future::pending::<io::Result<()>>().await
    };
    let mut answering = Answering {
        peer,
        stream: stream_id,
        giving: Giving::default(),
        following: Following::new((peer, network), trees, Instant::now()),
        asked,
        is_open: true,
        held: None,
        out: Vec::new(),
        sent: 0,
        came: 0,
        moved,
        unnoted: 0,
        tells: tells.clone(),
    };
    let ended = tokio::select! { biased;
        Err(_) = stands => Ok(()),
        ended = answering.run(&mut writer, notices, is_busy) => ended,
        ended = read => ended,
    };
    let mut broke = None;
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a stream that asked for blocks ended");
        broke = error.get_ref().and_then(|it| it.downcast_ref::<Broken>()).map(Broken::to_string);
    }
    // The loop is gone where it takes nothing.
    let _ = tells.send(Told::Ended { peer, stream: stream_id, broke }).await;
}

/// The side of a stream that answers.
struct Answering {
    peer: PeerId,
    stream: u64,
    giving: Giving,
    following: Following,
    asked: mpsc::Receiver<Ask>,
    /// Whether more may be asked.
    is_open: bool,
    /// A batch for which there is no room yet: nothing more is read until there is.
    held: Option<Ask>,
    /// What is to be written.
    out: Vec<u8>,
    /// Bytes of blocks that were written, and how many of them came, as was told to the loop; modulo 2^32.
    sent: u32,
    came: u32,
    moved: Moved,
    /// Bytes that have moved since that was noted.
    unnoted: usize,
    tells: mpsc::Sender<Told>,
}

impl Answering {
    async fn run(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        mut notices: mpsc::Receiver<Notice>,
        is_busy: &AtomicBool,
    ) -> io::Result<()> {
        let wakes = self.following.wakes.clone();
        let mut again = interval_at(Instant::now() + WAITS_AGAIN, WAITS_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.hear_all().await?;
            while let Ok(notice) = notices.try_recv() {
                self.out.extend(self.giving.noticed(notice).into_iter().flatten());
            }
            self.following.tell(&mut self.out, GATHER_BYTES);
            // While one is written, the next ones are read.
            if let Some(Portion { batch, found }) = self.giving.ready() {
                let bytes = self.write(writer, batch, found).await?;
                self.giving.end(batch);
                self.tell(Told::Gave { peer: self.peer, stream: self.stream, batch, bytes }).await?;
                continue;
            }
            if !self.out.is_empty() {
                self.flush(writer, Pace::ANSWER).await?;
                // There may be more to tell.
                continue;
            }
            if !self.is_open && self.giving.is_empty() {
                return Ok(());
            }
            is_busy.store(!self.giving.is_empty(), Ordering::Relaxed);
            tokio::select! { biased;
                notice = notices.recv() => match notice {
                    Some(notice) => self.out.extend(self.giving.noticed(notice).into_iter().flatten()),
                    None => return Ok(()),
                },
                ask = self.asked.recv(), if self.is_open && self.held.is_none() => self.hear(ask).await?,
                () = wakes.notified() => {}
                _ = again.tick() => {
                    let waiting = self.giving.waiting().map(|batch| protocol::Told::Waits.encode(batch, 0));
                    self.out.extend(waiting.flatten());
                }
            }
        }
    }

    async fn tell(&self, told: Told) -> io::Result<()> {
        self.tells.send(told).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Takes all that the peer has said and that there is room for.
    async fn hear_all(&mut self) -> io::Result<()> {
        if self.giving.has_room()
            && let Some(ask) = self.held.take()
        {
            self.hear(Some(ask)).await?;
        }
        while self.is_open && self.held.is_none() {
            match self.asked.try_recv() {
                Ok(ask) => self.hear(Some(ask)).await?,
                Err(mpsc::error::TryRecvError::Disconnected) => self.is_open = false,
                Err(mpsc::error::TryRecvError::Empty) => break,
            }
        }
        Ok(())
    }

    /// Takes what the peer says, and writes down what to say at once.
    async fn hear(&mut self, ask: Option<Ask>) -> io::Result<()> {
        let (peer, stream) = (self.peer, self.stream);
        let Some(ask) = ask else {
            self.is_open = false;
            return Ok(());
        };
        if let Some(tree) = self.following.told(&ask, Instant::now()).map_err(broken)? {
            self.tell(Told::Followed { peer, tree }).await?;
        }
        match ask {
            Ask::Want { .. } if !self.giving.has_room() => self.held = Some(ask),
            Ask::Want { batch, ids } => {
                self.giving.wants(batch, ids.len()).map_err(broken)?;
                self.tell(Told::Wanted { peer, stream, batch, ids }).await?;
            }
            Ask::Cancel { batch } => {
                if self.giving.cancel(batch) {
                    self.tell(Told::TakenBack { stream, batch }).await?;
                }
            }
            Ask::Came { bytes } => {
                let (more, most) = (bytes.wrapping_sub(self.came), self.sent.wrapping_sub(self.came));
                if more > 0 && more <= most && (more >= CAME_BYTES || more == most) {
                    self.came = bytes;
                    self.tell(Told::Came { stream, bytes }).await?;
                }
            }
            Ask::Follow { .. } | Ask::Leave { .. } => {}
        }
        Ok(())
    }

    /// Writes what was found of a batch, until it is taken back; yields how many bytes of blocks were written.
    async fn write(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        batch: u32,
        found: Option<Vec<Found>>,
    ) -> io::Result<u64> {
        let Some(found) = found else {
            let milliseconds = u32::try_from(BUSY.as_millis()).unwrap_or(u32::MAX);
            let told = protocol::Told::Busy(milliseconds);
            let told = if self.giving.is_cancelled(batch) { protocol::Told::Over } else { told };
            self.out.extend_from_slice(&told.encode(batch, 0));
            return self.flush(writer, Pace::ANSWER).await.map(|()| 0);
        };
        let mut writer = Watched::new(writer, Pace::ANSWER, None);
        let mut written = 0;
        for (place, found) in (0..).zip(found) {
            if self.giving.is_cancelled(batch) {
                self.out.extend_from_slice(&protocol::Told::Over.encode(batch, place));
                break;
            }
            let block = match found {
                Found::Have(block) => block,
                Found::Later => {
                    self.out.extend_from_slice(&protocol::Told::Later.encode(batch, place));
                    continue;
                }
                Found::Missing | Found::Forged => {
                    self.out.extend_from_slice(&protocol::Told::Missing.encode(batch, place));
                    continue;
                }
            };
            let (bytes, is_whole) = self.write_block(&mut writer, (batch, place), block.bytes()).await?;
            written += bytes;
            if !is_whole {
                break;
            }
        }
        let rest = std::mem::take(&mut self.out);
        self.put(&mut writer, &rest).await?;
        writer.flush().await?;
        Ok(written)
    }

    /// Writes a block in parts, until its batch is taken back; yields how many bytes of it were written, and whether these are all.
    async fn write_block(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        (batch, place): (u32, u16),
        bytes: &[u8],
    ) -> io::Result<(u64, bool)> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        self.out.extend_from_slice(&protocol::Told::Block(length).encode(batch, place));
        let (mut part, mut rest) = bytes.split_at(bytes.len().min(PART_BYTES));
        let mut written = 0;
        loop {
            // Some of it may have come before all of it was written.
            self.sent = self.sent.wrapping_add(u32::try_from(part.len()).unwrap_or(0));
            if self.out.len() + part.len() <= GATHER_BYTES {
                self.out.extend_from_slice(part);
            } else {
                let before = std::mem::take(&mut self.out);
                self.put(writer, &before).await?;
                // Gone as soon as it is written: the reader may take its time.
                self.put(writer, part).await?;
            }
            written += part.len() as u64;
            if rest.is_empty() {
                return Ok((written, true));
            }
            self.hear_all().await?;
            if self.giving.is_cancelled(batch) {
                self.out.extend_from_slice(&protocol::Told::Over.encode(batch, place));
                return Ok((written, false));
            }
            self.following.tell(&mut self.out, GATHER_BYTES);
            (part, rest) = rest.split_at(rest.len().min(PART_BYTES));
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.out.extend_from_slice(&protocol::Told::Part(length).encode(batch, place));
        }
    }

    /// Writes some bytes, and hears what the peer says meanwhile.
    async fn put(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        mut bytes: &[u8],
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            tokio::select! { biased;
                wrote = writer.write(bytes) => match wrote? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    wrote => {
                        bytes = &bytes[wrote..];
                        self.unnoted += wrote;
                        if self.unnoted >= MOVED_BYTES {
                            self.unnoted = 0;
                            self.moved.note(Instant::now());
                        }
                    }
                },
                ask = self.asked.recv(), if self.is_open && self.held.is_none() => self.hear(ask).await?,
            }
        }
        Ok(())
    }

    async fn flush(&mut self, writer: &mut (impl AsyncWrite + Unpin + Send), pace: Pace) -> io::Result<()> {
        let mut writer = Watched::new(writer, pace, None);
        let out = std::mem::take(&mut self.out);
        self.put(&mut writer, &out).await?;
        writer.flush().await
    }
}

/// Reads one message; none where there will be no more. The first byte of it may take long, the rest may not.
async fn read(reader: &mut (impl AsyncRead + Unpin + Send), is_busy: &AtomicBool) -> io::Result<Option<Ask>> {
    let mut head = [0; ASK_BYTES];
    loop {
        match timeout(IDLE, reader.read(&mut head[..1])).await {
            Ok(came) => match came? {
                0 => return Ok(None),
                _ => break,
            },
            Err(_) if is_busy.load(Ordering::Relaxed) => {}
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    let mut reader = Watched::new(reader, Pace::OWN, None);
    reader.read_exact(&mut head[1..]).await?;
    let mut rest = vec![0; Ask::rest_bytes(&head).map_err(broken)?];
    reader.read_exact(&mut rest).await?;
    Ask::decode(&head, &rest).map(Some).map_err(broken)
}

fn broken(broken: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, broken)
}

#[cfg(test)]
#[path = "giving_tests.rs"]
mod tests;
