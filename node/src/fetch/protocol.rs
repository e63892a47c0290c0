//! The messages of `/ggen/fetch/1`.
//!
//! A request names blocks; the answer says of each of them, in the same order, what became of it. Answers carry at most
//! [`FETCH_ANSWER_BYTES`](crate::limits::FETCH_ANSWER_BYTES) of blocks beyond the first one: what did not fit is `later`,
//! and is asked for again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::content::ContentId;

/// The protocol id.
pub const PROTOCOL: &str = "/ggen/fetch/1";

/// Asks for blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The blocks, at most [`FETCH_IDS_MAX`](crate::limits::FETCH_IDS_MAX).
    pub want: Vec<ContentId>,
    /// Whom to tell how much of the answer has come; no part of the message.
    #[serde(skip)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// In the order of the request; an empty list means that the peer is busy.
    pub blocks: Vec<Found>,
}

/// What became of one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Here it is; to be verified.
    Have(ByteBuf),
    /// The peer does not hold it.
    Missing,
    /// The peer holds it, and the answer was full.
    Later,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::Codec,
        limits::{FETCH_IDS_MAX, FETCH_REQUEST_BYTES_MAX},
    };

    #[test]
    fn the_largest_request_fits_and_hardly_anything_else_does() {
        let want = vec![ContentId::of(Codec::DagCbor, b"a block"); FETCH_IDS_MAX];
        let bytes = serde_ipld_dagcbor::to_vec(&Request::new(want)).unwrap().len();
        assert!((FETCH_REQUEST_BYTES_MAX - 1_000..=FETCH_REQUEST_BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
