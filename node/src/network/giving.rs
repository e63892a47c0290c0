//! A stream on which a peer asks this node for blocks.
//!
//! Its batches are read from the store by the loop's orders, a few at a time, and written as they are ready. Where a peer asks for more
//! than it may, or does not read, nothing more is read from it: what a stream holds is bounded whatever the peer does.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout},
};

use super::{
    blocks::Told,
    diversity::Network,
    pace::Budget,
    progress::{Pace, Watched},
};
use crate::{
    content::ContentId,
    fetch::{
        protocol::{self, ASK_BYTES, Ask, Broken, Found, TOLD_BYTES},
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
/// Wants of one stream that wait, beyond those of one batch: a want takes a hundred bytes of memory.
const WAITING_IDS_MAX: usize = 4 * FETCH_IDS_MAX;
/// Bytes of small blocks that are gathered before they are written.
const GATHER_BYTES: usize = 32 << 10;

/// What was read of a batch; nothing where this node has no room for it now.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) batch: u32,
    pub(super) found: Option<Vec<Found>>,
}

/// The batches of one stream, which are answered in the order in which they came. Pure.
#[derive(Debug, Default)]
struct Giving {
    /// By the order in which they came.
    waiting: BTreeMap<u64, (u32, Vec<ContentId>)>,
    begun: BTreeMap<u64, Begun>,
    came: u64,
    /// Nothing more is begun until something was answered: there is no room for it.
    is_held_back: bool,
}

/// A batch that is being read, or was.
#[derive(Debug)]
struct Begun {
    batch: u32,
    ids: Vec<ContentId>,
    read: Option<Portion>,
}

impl Giving {
    /// Whether more may be asked.
    fn has_room(&self) -> bool {
        let ids: usize = self.waiting.values().map(|(_, ids)| ids.len()).sum();
        self.waiting.len() + self.begun.len() < FETCH_SERVED_PER_PEER_MAX && ids < WAITING_IDS_MAX
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.begun.is_empty()
    }

    /// Takes what the peer says; yields what to say at once.
    fn told(&mut self, ask: Ask) -> Result<Option<[u8; TOLD_BYTES]>, Broken> {
        match ask {
            Ask::Want { batch, ids } => {
                let is_waiting = self.waiting.values().any(|(open, _)| *open == batch);
                if is_waiting || self.begun.values().any(|begun| begun.batch == batch) {
                    return Err(Broken("a batch that is open already"));
                }
                self.waiting.insert(self.came, (batch, ids));
                self.came += 1;
                Ok(None)
            }
            // What has begun is answered; what is over needs no word.
            Ask::Cancel { batch } => {
                let waiting = self.waiting.len();
                self.waiting.retain(|_, (open, _)| *open != batch);
                let is_over = self.waiting.len() < waiting;
                Ok(is_over.then(|| protocol::Told::Over.encode(batch, 0)))
            }
            Ask::Follow { .. } | Ask::Leave { .. } => Ok(None),
        }
    }

    /// The next batch to read.
    fn next(&mut self) -> Option<(u32, Vec<ContentId>)> {
        if self.begun.len() >= BEGUN_MAX || self.is_held_back {
            return None;
        }
        let (order, (batch, ids)) = self.waiting.pop_first()?;
        self.begun.insert(order, Begun { batch, ids: ids.clone(), read: None });
        Some((batch, ids))
    }

    /// Takes what was read of a batch. Where there is no room for it, it waits for another one of this stream to be answered, if there is
    /// one.
    fn read(&mut self, portion: Portion) {
        let is_alone = self.begun.len() < 2;
        let begun = self.begun.iter_mut().find(|(_, begun)| begun.batch == portion.batch);
        let Some((order, begun)) = begun.map(|(order, begun)| (*order, begun)) else { return };
        if portion.found.is_some() || is_alone {
            begun.read = Some(portion);
        } else if let Some(Begun { batch, ids, .. }) = self.begun.remove(&order) {
            self.waiting.insert(order, (batch, ids));
            self.is_held_back = true;
        }
    }

    /// What is to be written next, if it is here.
    fn ready(&mut self) -> Option<Portion> {
        let first = self.begun.first_entry()?;
        first.get().read.as_ref()?;
        self.is_held_back = false;
        first.remove().read
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
            Ask::Want { .. } | Ask::Cancel { .. } => Ok(None),
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
    mut portions: mpsc::Receiver<Portion>,
    tells: mpsc::Sender<Told>,
    trees: Trees,
) {
    let (mut reader, mut writer) = stream.split();
    let (asks, mut asked) = mpsc::channel(ASKS_QUEUED_MAX);
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
    let write = async {
        let (mut giving, mut out, mut is_open) = (Giving::default(), Vec::new(), true);
        let mut following = Following::new((peer, network), trees, Instant::now());
        let wakes = following.wakes.clone();
        loop {
            while is_open && giving.has_room() {
                match asked.try_recv() {
                    Ok(ask) => take(ask, &mut giving, &mut following, &mut out, &tells).await?,
                    Err(mpsc::error::TryRecvError::Disconnected) => is_open = false,
                    Err(mpsc::error::TryRecvError::Empty) => break,
                }
            }
            while let Some((batch, ids)) = giving.next() {
                let wanted = Told::Wanted { peer, stream: stream_id, batch, ids };
                tells.send(wanted).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            following.tell(&mut out, GATHER_BYTES);
            // While one is written, the next ones are read.
            if let Some(Portion { batch, found }) = giving.ready() {
                write(&mut writer, &mut out, batch, found).await?;
                let gave = Told::Gave { peer, stream: stream_id, batch };
                tells.send(gave).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
                continue;
            }
            if !out.is_empty() {
                flush(&mut writer, &mut out).await?;
                // There may be more to tell.
                continue;
            }
            if !is_open && giving.is_empty() {
                break;
            }
            is_busy.store(!giving.is_empty(), Ordering::Relaxed);
            tokio::select! { biased;
                portion = portions.recv() => match portion {
                    Some(portion) => giving.read(portion),
                    None => break,
                },
                ask = asked.recv(), if is_open && giving.has_room() => match ask {
                    Some(ask) => take(ask, &mut giving, &mut following, &mut out, &tells).await?,
                    None => is_open = false,
                },
                () = wakes.notified() => {}
            }
        }
        Ok::<(), io::Error>(())
    };
    let ended = tokio::select! { biased;
        ended = write => ended,
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

/// Takes what the peer says, and writes down what to say at once.
async fn take(
    ask: Ask,
    giving: &mut Giving,
    following: &mut Following,
    out: &mut Vec<u8>,
    tells: &mpsc::Sender<Told>,
) -> io::Result<()> {
    if let Some(tree) = following.told(&ask, Instant::now()).map_err(broken)? {
        let followed = Told::Followed { peer: following.peer, tree };
        tells.send(followed).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    out.extend(giving.told(ask).map_err(broken)?.into_iter().flatten());
    Ok(())
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

/// Writes what was found of a batch.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin + Send),
    out: &mut Vec<u8>,
    batch: u32,
    found: Option<Vec<Found>>,
) -> io::Result<()> {
    let Some(found) = found else {
        let milliseconds = u32::try_from(BUSY.as_millis()).unwrap_or(u32::MAX);
        out.extend_from_slice(&protocol::Told::Busy(milliseconds).encode(batch, 0));
        return flush(writer, out).await;
    };
    let mut writer = Watched::new(writer, Pace::ANSWER, None);
    for (place, found) in (0..).zip(found) {
        let block = match found {
            Found::Have(block) => block,
            Found::Later => {
                out.extend_from_slice(&protocol::Told::Later.encode(batch, place));
                continue;
            }
            Found::Missing | Found::Forged => {
                out.extend_from_slice(&protocol::Told::Missing.encode(batch, place));
                continue;
            }
        };
        let length = u32::try_from(block.bytes().len()).map_err(|_| io::ErrorKind::InvalidData)?;
        out.extend_from_slice(&protocol::Told::Block(length).encode(batch, place));
        if out.len() + block.bytes().len() <= GATHER_BYTES {
            out.extend_from_slice(block.bytes());
            continue;
        }
        writer.write_all(out).await?;
        out.clear();
        // Gone as soon as it is written: the reader may take its time.
        writer.write_all(block.bytes()).await?;
    }
    writer.write_all(out).await?;
    out.clear();
    writer.flush().await
}

async fn flush(writer: &mut (impl AsyncWrite + Unpin + Send), out: &mut Vec<u8>) -> io::Result<()> {
    let mut writer = Watched::new(writer, Pace::ANSWER, None);
    writer.write_all(out).await?;
    out.clear();
    writer.flush().await
}

fn broken(broken: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, broken)
}

#[cfg(test)]
#[path = "giving_tests.rs"]
mod tests;
