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
//!
//! | who answers | bytes |
//! |---|---|
//! | block | `1`, 0, place in the batch (2 bytes), batch (4 bytes), length (4 bytes), then the bytes |
//! | don't have | `2`, 0, place, batch, 0 (4 bytes) |
//! | later | `3`, 0, place, batch, 0: the peer has it, and the answer is full |
//! | busy | `4`, 0, place, batch, milliseconds after which the rest of the batch may be asked for again |
//! | over | `5`, 0, place, batch, 0: the rest of the batch was cancelled |
//! | has | `6`, 0, 0 (2 bytes), follow (4 bytes), length (4 bytes), then marks: who answers fetches the tree too, and has these blocks |
//! | members | `7`, 0, 0 (2 bytes), follow, length, then others who follow the tree ([`News`]) |
//!
//! Batches are answered in the order in which they were asked for, and the places of a batch in theirs; what is out of the order of batches
//! is slow, and what is out of the order of places is broken. The wants are the credit: nobody may send what was not asked for, and a batch
//! brings at most [`FETCH_ANSWER_BYTES`] of blocks beyond the first one. No more batches are open at once than
//! [`FETCH_SERVED_PER_PEER_MAX`](crate::limits::FETCH_SERVED_PER_PEER_MAX); of more, nothing is read.
//!
//! What is told of a tree that is followed comes between the blocks, and is bounded in all: each block and each member is told once.
//!
//! A block is hashed as it is read, into the buffer that it is written from later. This module knows neither sockets nor clocks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{news, swarm::News};
use crate::{
    content::{Block, ContentId, ID_BYTES},
    limits::{
        BLOCK_BYTES_MAX, FETCH_ANSWER_BYTES, FETCH_IDS_MAX, SWARM_FOLLOWED_MAX, SWARM_MARKS_MAX,
        SWARM_MEMBERS_MAX, SWARM_MESSAGE_BYTES_MAX,
    },
};

/// The protocol id.
pub const PROTOCOL: &str = "/ggen/blocks/1";

/// Bytes of a message of who asks, before the ids.
pub const ASK_BYTES: usize = 8;
/// Bytes of a message of who answers, before the bytes of a block.
pub const TOLD_BYTES: usize = 12;
/// How long a busy peer may ask to be left alone.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Messages about trees that are not followed any more, before they break the protocol: what was on its way.
const STALE_MAX: usize = 1_024;

const WANT: u8 = 1;
const CANCEL: u8 = 2;
const FOLLOW: u8 = 3;
const LEAVE: u8 = 4;

const BLOCK: u8 = 1;
const MISSING: u8 = 2;
const LATER: u8 = 3;
const BUSY: u8 = 4;
const OVER: u8 = 5;
const HAS: u8 = 6;
const MEMBERS: u8 = 7;

/// Asks for blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The blocks, at most [`FETCH_IDS_MAX`].
    pub want: Vec<ContentId>,
    /// Whom to tell how much has come from the peer since.
    pub arrived: Arrived,
}

impl Request {
    /// Asks for these blocks.
    pub fn new(want: Vec<ContentId>) -> Self {
        Self { want, arrived: Arrived::default() }
    }
}

/// How many bytes of an answer have come so far: one that is still on its way is no silence.
#[derive(Debug, Clone, Default)]
pub struct Arrived(Arc<AtomicU64>);

impl Arrived {
    /// The bytes.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
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

/// What who asks says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Asks for blocks.
    Want {
        /// Names the batch until it was answered.
        batch: u32,
        /// The blocks.
        ids: Vec<ContentId>,
    },
    /// Takes a batch back.
    Cancel {
        /// The batch.
        batch: u32,
    },
    /// Wants to be told of a tree.
    Follow {
        /// Names it from now on.
        follow: u32,
        /// Its root.
        tree: ContentId,
    },
    /// Wants to be told no more.
    Leave {
        /// Of which.
        follow: u32,
    },
}

impl Ask {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, count, batch, ids) = match self {
            Self::Want { batch, ids } => (WANT, ids.len(), batch, &ids[..]),
            Self::Cancel { batch } => (CANCEL, 0, batch, &[][..]),
            Self::Follow { follow, tree } => (FOLLOW, 1, follow, std::slice::from_ref(tree)),
            Self::Leave { follow } => (LEAVE, 0, follow, &[][..]),
        };
        let mut bytes = Vec::with_capacity(ASK_BYTES + ids.len() * ID_BYTES);
        bytes.extend([kind, 0]);
        bytes.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(batch.to_be_bytes());
        ids.iter().for_each(|id| bytes.extend(id.to_bytes()));
        bytes
    }

    /// How many bytes follow after the first ones of a message.
    ///
    /// # Errors
    /// [`Broken`] for what is no message, or one that is too long.
    pub fn rest_bytes(head: &[u8; ASK_BYTES]) -> Result<usize, Broken> {
        let ids = usize::from(u16::from_be_bytes([head[2], head[3]]));
        match head[0] {
            WANT if (1..=FETCH_IDS_MAX).contains(&ids) => Ok(ids * ID_BYTES),
            WANT => Err(Broken("a batch of no wants, or of too many")),
            FOLLOW if ids == 1 => Ok(ID_BYTES),
            CANCEL | LEAVE => Ok(0),
            _ => Err(Broken("a message of an unknown kind")),
        }
    }

    /// Reads a message whose first bytes, and the rest of it, have come.
    ///
    /// # Errors
    /// [`Broken`] for what is no message.
    pub fn decode(head: &[u8; ASK_BYTES], rest: &[u8]) -> Result<Self, Broken> {
        let batch = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        if rest.len() != Self::rest_bytes(head)? {
            return Err(Broken("a message of another length than it says"));
        }
        let ids = rest.chunks_exact(ID_BYTES).map(ContentId::from_bytes).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|_| Broken("a want that is no content id"))?;
        Ok(match (head[0], &ids[..]) {
            (CANCEL, _) => Self::Cancel { batch },
            (LEAVE, _) => Self::Leave { follow: batch },
            (FOLLOW, [tree]) => Self::Follow { follow: batch, tree: *tree },
            _ => Self::Want { batch, ids },
        })
    }
}

/// The beginning of what who answers says of one place of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// So many bytes of the block follow.
    Block(u32),
    /// The block is not held.
    Missing,
    /// The answer is full.
    Later,
    /// So many milliseconds should pass before anything is asked for.
    Busy(u32),
    /// The rest was cancelled.
    Over,
    /// So many bytes of marks follow.
    Has(u32),
    /// So many bytes of members follow.
    Members(u32),
}

impl Told {
    /// The message, without the bytes of a block.
    pub fn encode(self, batch: u32, place: u16) -> [u8; TOLD_BYTES] {
        let (kind, number) = match self {
            Self::Block(length) => (BLOCK, length),
            Self::Missing => (MISSING, 0),
            Self::Later => (LATER, 0),
            Self::Busy(milliseconds) => (BUSY, milliseconds),
            Self::Over => (OVER, 0),
            Self::Has(length) => (HAS, length),
            Self::Members(length) => (MEMBERS, length),
        };
        let mut bytes = [0; TOLD_BYTES];
        bytes[0] = kind;
        bytes[2..4].copy_from_slice(&place.to_be_bytes());
        bytes[4..8].copy_from_slice(&batch.to_be_bytes());
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; TOLD_BYTES]) -> Result<(u32, u16, Self), Broken> {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let told = match bytes[0] {
            BLOCK => Self::Block(number(8)),
            MISSING => Self::Missing,
            LATER => Self::Later,
            BUSY => Self::Busy(number(8)),
            OVER => Self::Over,
            HAS => Self::Has(number(8)),
            MEMBERS => Self::Members(number(8)),
            _ => return Err(Broken("an answer of an unknown kind")),
        };
        Ok((number(4), u16::from_be_bytes([bytes[2], bytes[3]]), told))
    }
}

/// What is told of a tree that is followed, as a message; none for what is no message.
pub fn encode_news(follow: u32, news: &News) -> Vec<u8> {
    let (body, told): (Vec<u8>, fn(u32) -> Told) = match news {
        News::Has(marks) => (news::encode_marks(marks), Told::Has),
        News::Members(members) => (news::encode_members(members), Told::Members),
        News::Ended => return Vec::new(),
    };
    let length = u32::try_from(body.len()).unwrap_or_default();
    [&told(length).encode(follow, 0)[..], &body].concat()
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
}

/// A block that is coming.
struct Coming {
    batch: u32,
    id: ContentId,
    length: usize,
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

    /// Asks for blocks; yields the name of the batch and what to send.
    pub fn ask(&mut self, want: Vec<ContentId>) -> (u32, Vec<u8>) {
        let batch = self.next;
        self.next = self.next.wrapping_add(1);
        let ask = Ask::Want { batch, ids: want };
        let message = ask.encode();
        if let Ask::Want { ids: want, .. } = ask {
            self.open.insert(batch, Open { want, answer: Answer::default(), bytes: 0 });
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
        self.follows.remove(&follow).map(|_| Ask::Leave { follow }.encode())
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
            if let Some(coming) = &mut self.coming {
                let (now, rest) = came.split_at(came.len().min(coming.length - coming.bytes.len()));
                coming.hash.update(now);
                coming.bytes.extend_from_slice(now);
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
        if usize::from(place) != at {
            return Err(Broken("an answer out of its order"));
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
                let (bytes, hash) = (Vec::with_capacity(length), Sha256::new());
                self.coming = Some(Coming { batch, id, length, bytes, hash });
                return Ok(());
            }
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
            Told::Has(_) | Told::Members(_) => {}
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
