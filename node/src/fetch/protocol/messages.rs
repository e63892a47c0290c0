//! What goes over the stream, as bytes: see [`protocol`](super).

use super::{ASK_BYTES, Broken, PART_BYTES, TOLD_BYTES};
use crate::{
    content::{ContentId, ID_BYTES},
    fetch::{news, swarm::News},
    limits::FETCH_IDS_MAX,
};

const WANT: u8 = 1;
const CANCEL: u8 = 2;
const FOLLOW: u8 = 3;
const LEAVE: u8 = 4;
const CAME: u8 = 5;

const BLOCK: u8 = 1;
const MISSING: u8 = 2;
const LATER: u8 = 3;
const BUSY: u8 = 4;
const OVER: u8 = 5;
const HAS: u8 = 6;
const MEMBERS: u8 = 7;
const PART: u8 = 8;
const WAITS: u8 = 9;

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
    /// So much has come.
    Came {
        /// Bytes of blocks since the stream began, modulo 2^32.
        bytes: u32,
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
            Self::Came { bytes } => (CAME, 0, bytes, &[][..]),
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
            CANCEL | LEAVE | CAME => Ok(0),
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
            (CAME, _) => Self::Came { bytes: batch },
            (FOLLOW, [tree]) => Self::Follow { follow: batch, tree: *tree },
            _ => Self::Want { batch, ids },
        })
    }
}

/// The beginning of what who answers says of one place of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A block of so many bytes follows, or the first part of it.
    Block(u32),
    /// So many more bytes of it follow.
    Part(u32),
    /// The block is not held.
    Missing,
    /// The answer is full.
    Later,
    /// So many milliseconds should pass before anything is asked for.
    Busy(u32),
    /// The rest was cancelled.
    Over,
    /// The batch has not begun.
    Waits,
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
            Self::Part(length) => (PART, length),
            Self::Waits => (WAITS, 0),
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

    pub(super) fn decode(bytes: &[u8; TOLD_BYTES]) -> Result<(u32, u16, Self), Broken> {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let told = match bytes[0] {
            BLOCK => Self::Block(number(8)),
            MISSING => Self::Missing,
            LATER => Self::Later,
            BUSY => Self::Busy(number(8)),
            OVER => Self::Over,
            PART => Self::Part(number(8)),
            WAITS => Self::Waits,
            HAS => Self::Has(number(8)),
            MEMBERS => Self::Members(number(8)),
            _ => return Err(Broken("an answer of an unknown kind")),
        };
        Ok((number(4), u16::from_be_bytes([bytes[2], bytes[3]]), told))
    }
}

/// A block at a place of a batch, as messages with all of its parts.
pub fn encode_block(batch: u32, place: u16, bytes: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut all = Told::Block(length(bytes)).encode(batch, place).to_vec();
    let (first, rest) = bytes.split_at(bytes.len().min(PART_BYTES));
    all.extend(first);
    for part in rest.chunks(PART_BYTES) {
        all.extend(Told::Part(length(part)).encode(batch, place));
        all.extend(part);
    }
    all
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
