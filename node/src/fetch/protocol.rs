//! The messages of `/ggen/blocks/1`.
//!
//! Who wants blocks opens one stream to a peer and keeps it: batches of wants go out on it, and what became of each block comes back.
//! All numbers are big endian.
//!
//! | who asks | bytes |
//! |---|---|
//! | want | `1`, 0, ids (2 bytes), batch (4 bytes), then each id (36 bytes) |
//! | cancel | `2`, 0, 0 (2 bytes), batch (4 bytes) |
//! | follow | `3`, 0, 1 (2 bytes), follow (4 bytes), the root of a tree (36 bytes) |
//! | leave | `4`, 0, 0 (2 bytes), follow (4 bytes) |
//! | came | `5`, 0, 0 (2 bytes), bytes of blocks that have come over this stream, modulo 2^32 (4 bytes) |
//!
//! | who answers | bytes |
//! |---|---|
//! | block | `1`, 0, place in the batch (2 bytes), batch (4 bytes), length (4 bytes), then the first 128 KiB, or all of a shorter one |
//! | part | `8`, 0, place, batch, bytes (4 bytes), then the next 128 KiB of the block that is coming, or the rest of it |
//! | don't have | `2`, 0, place, batch, 0 (4 bytes) |
//! | later | `3`, 0, place, batch, 0: the peer has it, and the answer is full |
//! | busy | `4`, 0, place, batch, milliseconds after which the rest of the batch may be asked for again |
//! | over | `5`, 0, place, batch, 0: the rest of the batch was cancelled, and so was the block that is coming if it is of this batch |
//! | waits | `9`, 0, 0 (2 bytes), batch, 0: the batch has not begun, since others are served; said again every five seconds |
//! | has | `6`, 0, 0 (2 bytes), follow (4 bytes), length (4 bytes), then marks: who answers fetches the tree too, and has these blocks |
//! | members | `7`, 0, 0 (2 bytes), follow, length, then others who follow the tree ([`News`]) |
//!
//! Batches that do not wait are answered in the order in which they were asked for; which of those that wait is next, who answers chooses.
//! The places of a batch are answered in their order, and what is out of it is broken. The wants are the credit: nobody may send what was
//! not asked for, and a batch brings at most [`FETCH_ANSWER_BYTES`] of blocks beyond the first one. No more batches are open at once than
//! [`FETCH_SERVED_PER_PEER_MAX`](crate::limits::FETCH_SERVED_PER_PEER_MAX); of more, nothing is read.
//!
//! A block comes in parts, so that one that is not wanted any more can end in the middle, and so that what is told of trees does not wait for
//! it. What has come is said now and then, since what was written may be anywhere between the two: who answers serves the next ones when little
//! is on its way.
//!
//! What is told of a tree that is followed comes between the blocks, and is bounded in all: each block and each member is told once.
//!
//! A block is hashed as it is read, into the buffer that it is written from later. This module knows neither sockets nor clocks.

mod messages;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::{news, swarm::News};
use crate::{
    content::{Block, ContentId},
    limits::{
        BLOCK_BYTES_MAX, FETCH_ANSWER_BYTES, FETCH_TIMEOUT_MAX, SWARM_FOLLOWED_MAX, SWARM_MARKS_MAX,
        SWARM_MEMBERS_MAX, SWARM_MESSAGE_BYTES_MAX,
    },
};

pub use self::messages::{Ask, Told, encode_block, encode_news};

/// The protocol id.
pub const PROTOCOL: &str = "/ggen/blocks/1";

/// Bytes of a message of who asks, before the ids.
pub const ASK_BYTES: usize = 8;
/// Bytes of a message of who answers, before the bytes of a block.
pub const TOLD_BYTES: usize = 12;
/// Bytes of a block that come in one go.
pub const PART_BYTES: usize = 128 << 10;
/// How often it is said again that a batch waits.
pub const WAITS_AGAIN: Duration = Duration::from_secs(5);
/// Times that it may be said of one batch: as long as any may take, and some more.
const WAITS_MAX: u32 = 2 * (FETCH_TIMEOUT_MAX.as_secs() / WAITS_AGAIN.as_secs()) as u32;
/// How long a busy peer may ask to be left alone.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Messages about trees that are not followed any more, since the last one was left, before they break the protocol: what was on its way.
const STALE_MAX: usize = 1_024;

/// Asks for blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The blocks, at most [`FETCH_IDS_MAX`](crate::limits::FETCH_IDS_MAX).
    pub want: Vec<ContentId>,
    /// Whom to tell how much has come from the peer since.
    pub arrived: Arrived,
}

impl Request {
    /// Asks for these blocks.
    pub fn new(want: Vec<ContentId>) -> Self {
        Self { want, arrived: Arrived::default() }
    }

    /// Asks for these blocks, and wakes somebody when they wait for their turn and when they begin to come.
    pub fn waking(want: Vec<ContentId>, wakes: Arc<Notify>) -> Self {
        Self { want, arrived: Arrived::waking(wakes) }
    }
}

/// How far an answer is: one that is still on its way, or that waits for its turn, is no silence.
#[derive(Debug, Clone, Default)]
pub struct Arrived(Arc<Arrival>);

#[derive(Debug, Default)]
struct Arrival {
    bytes: AtomicU64,
    own: AtomicU64,
    waits: AtomicBool,
    wakes: Arc<Notify>,
}

impl Arrived {
    /// Wakes somebody where the answer waits for its turn, and where it begins to come.
    pub fn waking(wakes: Arc<Notify>) -> Self {
        Self(Arc::new(Arrival { wakes, ..Arrival::default() }))
    }

    /// The bytes of it, and of the answers that come before it.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// The bytes of its own blocks.
    pub fn own_bytes(&self) -> u64 {
        self.0.own.load(Ordering::Relaxed)
    }

    /// Whether the peer said that it waits for its turn.
    pub fn waits(&self) -> bool {
        self.0.waits.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_own(&self, bytes: u64) {
        if self.0.own.swap(bytes, Ordering::Relaxed) == 0 && bytes > 0 {
            self.0.wakes.notify_one();
        }
    }

    pub(crate) fn set_waits(&self) {
        if !self.0.waits.swap(true, Ordering::Relaxed) {
            self.0.wakes.notify_one();
        }
    }
}

/// Two requests are the same where they ask for the same.
impl PartialEq for Arrived {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Arrived {}

/// What became of each block that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// In the order of the request; those that are not here are to be asked for again.
    pub blocks: Vec<Found>,
    /// How long the peer is to be left alone, where it is busy.
    pub busy: Option<Duration>,
}

/// What became of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Here it is.
    Have(Block),
    /// Other bytes came in its place.
    Forged,
    /// The peer does not hold it.
    Missing,
    /// The peer holds it, and the answer was full.
    Later,
}

/// What breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// A batch that was asked for.
#[derive(Debug)]
struct Open {
    want: Vec<ContentId>,
    answer: Answer,
    /// Bytes of the blocks that came.
    bytes: usize,
    /// How often it was said that it waits.
    waits: u32,
}

/// A block that is coming.
struct Coming {
    batch: u32,
    id: ContentId,
    length: usize,
    /// Bytes until the part ends that is coming.
    part: usize,
    bytes: Vec<u8>,
    hash: Sha256,
}

/// A tree that is followed, and how much was told of it.
#[derive(Debug, Default)]
struct Followed {
    is_fetched: bool,
    marks: usize,
    members: usize,
}

/// What is told of a tree, while it comes.
struct Telling {
    follow: u32,
    is_marks: bool,
    length: usize,
    bytes: Vec<u8>,
}

/// The side that asks: what was asked for, and what of the answers has come.
#[derive(Default)]
pub struct Asking {
    open: BTreeMap<u32, Open>,
    follows: BTreeMap<u32, Followed>,
    telling: Option<Telling>,
    heard: Vec<(u32, News)>,
    waits: Vec<u32>,
    came: u64,
    stale: usize,
    next: u32,
    head: Vec<u8>,
    coming: Option<Coming>,
}

impl Asking {
    /// Batches that are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The batch of which a block is coming.
    pub fn current(&self) -> Option<u32> {
        self.coming.as_ref().map(|coming| coming.batch)
    }

    /// Bytes of blocks that have come since the beginning.
    pub fn came(&self) -> u64 {
        self.came
    }

    /// Bytes of blocks that have come of an open batch.
    pub fn bytes_of(&self, batch: u32) -> u64 {
        let coming = self.coming.as_ref().filter(|coming| coming.batch == batch);
        let open = self.open.get(&batch).map_or(0, |open| open.bytes);
        (open + coming.map_or(0, |coming| coming.bytes.len())) as u64
    }

    /// The batches of which it was said that they wait.
    pub fn waits(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.waits)
    }

    /// Asks for blocks; yields the name of the batch and what to send.
    pub fn ask(&mut self, want: Vec<ContentId>) -> (u32, Vec<u8>) {
        let batch = self.next;
        self.next = self.next.wrapping_add(1);
        let ask = Ask::Want { batch, ids: want };
        let message = ask.encode();
        if let Ask::Want { ids: want, .. } = ask {
            self.open.insert(batch, Open { want, answer: Answer::default(), bytes: 0, waits: 0 });
        }
        (batch, message)
    }

    /// Follows a tree; yields the name of that and what to send. Nothing where as many are followed as may be.
    pub fn follow(&mut self, tree: ContentId) -> Option<(u32, Vec<u8>)> {
        if self.follows.len() >= SWARM_FOLLOWED_MAX {
            return None;
        }
        let follow = self.next;
        self.next = self.next.wrapping_add(1);
        self.follows.insert(follow, Followed::default());
        Some((follow, Ask::Follow { follow, tree }.encode()))
    }

    /// Follows a tree no more; yields what to send.
    pub fn leave(&mut self, follow: u32) -> Option<Vec<u8>> {
        self.follows.remove(&follow)?;
        // Of each tree some is on its way.
        self.stale = 0;
        Some(Ask::Leave { follow }.encode())
    }

    /// What was told of the trees that are followed.
    pub fn heard(&mut self) -> Vec<(u32, News)> {
        std::mem::take(&mut self.heard)
    }

    /// Takes a batch back, of which nobody wants the rest; yields what to send, if it is open. It stays open until the peer says
    /// that it is over.
    pub fn cancel(&self, batch: u32) -> Option<Vec<u8>> {
        self.open.contains_key(&batch).then(|| Ask::Cancel { batch }.encode())
    }

    /// Takes what came, and adds the batches that are answered with it. A batch in which other bytes came than those of a block is
    /// over with that.
    ///
    /// # Errors
    /// [`Broken`] where the peer breaks the protocol; nothing else of it may be taken then.
    pub fn take(&mut self, mut came: &[u8], answered: &mut Vec<(u32, Answer)>) -> Result<(), Broken> {
        while !came.is_empty() {
            if let Some(coming) = self.coming.as_mut().filter(|coming| coming.part > 0) {
                let (now, rest) = came.split_at(came.len().min(coming.part));
                coming.hash.update(now);
                coming.bytes.extend_from_slice(now);
                coming.part -= now.len();
                self.came += now.len() as u64;
                came = rest;
            } else if let Some(telling) = &mut self.telling {
                let (now, rest) = came.split_at(came.len().min(telling.length - telling.bytes.len()));
                telling.bytes.extend_from_slice(now);
                came = rest;
            } else {
                let (now, rest) = came.split_at(came.len().min(TOLD_BYTES - self.head.len()));
                self.head.extend_from_slice(now);
                came = rest;
                let Ok(head) = <&[u8; TOLD_BYTES]>::try_from(&self.head[..]) else { break };
                let head = *head;
                self.head.clear();
                self.told(&head, answered)?;
            }
            self.arrive(answered)?;
            self.listen()?;
        }
        Ok(())
    }

    /// Takes the beginning of what is said of one place.
    fn told(&mut self, head: &[u8; TOLD_BYTES], answered: &mut Vec<(u32, Answer)>) -> Result<(), Broken> {
        let (batch, place, told) = Told::decode(head)?;
        if let Told::Has(length) | Told::Members(length) = told {
            return self.tell(batch, matches!(told, Told::Has(_)), length as usize);
        }
        let open = self.open.get_mut(&batch).ok_or(Broken("an answer to what was not asked"))?;
        let at = open.answer.blocks.len();
        if told == Told::Waits {
            open.waits += 1;
            if open.waits > WAITS_MAX || at > 0 || self.current() == Some(batch) {
                return Err(Broken("a batch that waits after it began, or too often"));
            }
            self.waits.push(batch);
            return Ok(());
        }
        if usize::from(place) != at {
            return Err(Broken("an answer out of its order"));
        }
        if let Some(coming) = &mut self.coming {
            let part = PART_BYTES.min(coming.length - coming.bytes.len());
            match told {
                Told::Part(length) if coming.batch == batch && length as usize == part => coming.part = part,
                Told::Over if coming.batch == batch => {
                    self.coming = None;
                    self.end(batch, answered);
                }
                Told::Missing | Told::Later | Told::Over if coming.batch != batch => {
                    return self.told_of_place(batch, told, answered);
                }
                _ => return Err(Broken("something else in the middle of a block")),
            }
            return Ok(());
        }
        let id = *open.want.get(at).ok_or(Broken("more answers than wants"))?;
        match told {
            Told::Block(length) => {
                let length = length as usize;
                if length > BLOCK_BYTES_MAX {
                    return Err(Broken("a block that is too long"));
                }
                if at > 0 && open.bytes > 0 && open.bytes.saturating_add(length) > FETCH_ANSWER_BYTES {
                    return Err(Broken("more blocks than an answer may have"));
                }
                let (bytes, hash, part) = (Vec::with_capacity(length), Sha256::new(), length.min(PART_BYTES));
                self.coming = Some(Coming { batch, id, length, part, bytes, hash });
                Ok(())
            }
            told => self.told_of_place(batch, told, answered),
        }
    }

    /// Takes what is said of the next place of a batch, where that is no block.
    fn told_of_place(
        &mut self,
        batch: u32,
        told: Told,
        answered: &mut Vec<(u32, Answer)>,
    ) -> Result<(), Broken> {
        let Some(open) = self.open.get_mut(&batch) else { return Ok(()) };
        match told {
            Told::Missing => open.answer.blocks.push(Found::Missing),
            Told::Later => open.answer.blocks.push(Found::Later),
            Told::Busy(milliseconds) => {
                open.answer.busy = Some(Duration::from_millis(milliseconds.into()).min(BUSY_MAX));
                self.end(batch, answered);
                return Ok(());
            }
            Told::Over => {
                self.end(batch, answered);
                return Ok(());
            }
            Told::Part(_) => return Err(Broken("a part of no block")),
            Told::Block(_) | Told::Waits | Told::Has(_) | Told::Members(_) => {}
        }
        self.end_if_whole(batch, answered);
        Ok(())
    }

    /// Looks whether the block that is coming has come.
    fn arrive(&mut self, answered: &mut Vec<(u32, Answer)>) -> Result<(), Broken> {
        let Some(coming) = self.coming.take_if(|it| it.bytes.len() == it.length) else { return Ok(()) };
        let Coming { batch, id, bytes, hash, .. } = coming;
        let open = self.open.get_mut(&batch).ok_or(Broken("an answer to what was not asked"))?;
        open.bytes += bytes.len();
        match Block::hashed(id, bytes, hash.finalize().into()) {
            Ok(block) => {
                open.answer.blocks.push(Found::Have(block));
                self.end_if_whole(batch, answered);
            }
            Err(_) => {
                open.answer.blocks.push(Found::Forged);
                self.end(batch, answered);
            }
        }
        Ok(())
    }

    /// Something is told of a tree.
    fn tell(&mut self, follow: u32, is_marks: bool, length: usize) -> Result<(), Broken> {
        if length > SWARM_MESSAGE_BYTES_MAX {
            return Err(Broken("a message about a tree that is too long"));
        }
        if !self.follows.contains_key(&follow) {
            self.stale += 1;
            if follow.wrapping_sub(self.next) < u32::MAX / 2 || self.stale > STALE_MAX {
                return Err(Broken("a word about a tree that is not followed"));
            }
        }
        self.telling = Some(Telling { follow, is_marks, length, bytes: Vec::new() });
        Ok(())
    }

    /// Looks whether what is told of a tree has come.
    fn listen(&mut self) -> Result<(), Broken> {
        let Some(telling) = self.telling.take_if(|it| it.bytes.len() == it.length) else { return Ok(()) };
        let Telling { follow, is_marks, bytes, .. } = telling;
        let news = match is_marks {
            true => News::Has(news::decode_marks(&bytes)?),
            false => News::Members(news::decode_members(&bytes)?),
        };
        let Some(followed) = self.follows.get_mut(&follow) else { return Ok(()) };
        let is_news = match &news {
            News::Has(marks) => {
                followed.marks += marks.len();
                !marks.is_empty() || !std::mem::replace(&mut followed.is_fetched, true)
            }
            News::Members(members) => {
                followed.members += members.len();
                !members.is_empty()
            }
            News::Ended => false,
        };
        if !is_news || followed.marks > SWARM_MARKS_MAX || followed.members > SWARM_MEMBERS_MAX {
            return Err(Broken("more words about a tree than there can be"));
        }
        self.heard.push((follow, news));
        Ok(())
    }

    fn end_if_whole(&mut self, batch: u32, answered: &mut Vec<(u32, Answer)>) {
        if self.open.get(&batch).is_some_and(|open| open.answer.blocks.len() == open.want.len()) {
            self.end(batch, answered);
        }
    }

    fn end(&mut self, batch: u32, answered: &mut Vec<(u32, Answer)>) {
        if let Some(open) = self.open.remove(&batch) {
            answered.push((batch, open.answer));
        }
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
