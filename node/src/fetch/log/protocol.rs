//! The messages of `/ggen/log/1`.
//!
//! One request, and then frames until one of them says that it is the last. Each frame is a message of its own, with its
//! length before it, of at most [`LOG_FRAME_BYTES_MAX`](crate::limits::LOG_FRAME_BYTES_MAX): neither side holds more of a log
//! in memory than the frame that is on its way.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{content::ContentId, package::PackageId, release::Sequence};

/// The protocol id.
pub const PROTOCOL: &str = "/ggen/log/1";

/// Asks for entries of a package's log, from the newest that is wanted back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose package it is.
    pub publisher: crate::identity::PublisherId,
    /// The package.
    pub name: crate::package::PackageName,
    /// The newest entry that is wanted.
    pub newest: ContentId,
    /// Entries up to this one are held already, and are not sent.
    pub above: Option<Sequence>,
}

impl Request {
    /// The package.
    pub fn package(&self) -> PackageId {
        PackageId { publisher: self.publisher, name: self.name.clone() }
    }
}

/// Some entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Signed entries as they were encoded, the newest first: each is the one that the one before it links to.
    pub entries: Vec<ByteBuf>,
    /// What comes after them.
    pub then: Then,
    /// Beside [`Then::Missing`]: an older place of the log that the peer holds entries up to. A hint, which proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<UpTo>,
}

/// A place of a log up to which a peer holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UpTo {
    /// The place.
    pub sequence: Sequence,
    /// The entry there.
    pub entry: ContentId,
}

/// What comes after the entries of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Another frame.
    More,
    /// Nothing: that was all that was asked for.
    Done,
    /// Nothing: the peer does not hold the entry that comes next.
    Missing,
    /// Nothing: the peer has too much to do, and may be asked again later.
    Busy,
}

impl Frame {
    /// A frame without entries, and the last one.
    pub fn last(then: Then) -> Self {
        Self { entries: Vec::new(), then, held: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::Codec,
        identity::Publisher,
        limits::{
            ENTRY_BYTES_MAX, LOG_FRAME_BYTES, LOG_FRAME_BYTES_MAX, LOG_FRAME_ENTRIES_MAX,
            LOG_REQUEST_BYTES_MAX, NAME_BYTES_MAX,
        },
        time::Timestamp,
    };

    #[test]
    fn the_largest_request_and_the_largest_frame_fit() {
        let request = Request {
            publisher: Publisher::from_secret([1; 32], Timestamp::default()).id(),
            name: "x".repeat(NAME_BYTES_MAX).parse().unwrap(),
            newest: ContentId::of(Codec::DagCbor, b"an entry"),
            above: Some(Sequence::new(u64::MAX)),
        };
        let bytes = serde_ipld_dagcbor::to_vec(&request).unwrap().len();
        assert!(bytes <= LOG_REQUEST_BYTES_MAX, "{bytes}");
        let small =
            vec![ByteBuf::from(vec![0; LOG_FRAME_BYTES / LOG_FRAME_ENTRIES_MAX]); LOG_FRAME_ENTRIES_MAX];
        let mut large = vec![ByteBuf::from(vec![0; ENTRY_BYTES_MAX]); LOG_FRAME_BYTES / ENTRY_BYTES_MAX];
        large[0].pop();
        large.push(ByteBuf::from(vec![0; ENTRY_BYTES_MAX]));
        for entries in [small, large] {
            let held =
                UpTo { sequence: Sequence::new(u64::MAX), entry: ContentId::of(Codec::DagCbor, b"an entry") };
            let frame = Frame { entries, then: Then::Missing, held: Some(held) };
            let bytes = serde_ipld_dagcbor::to_vec(&frame).unwrap().len();
            assert!(bytes <= LOG_FRAME_BYTES_MAX, "{bytes}");
        }
    }

    #[test]
    fn the_messages_stay_as_they_are() {
        let hex = |bytes: Vec<u8>| crate::identity::hex::encode(&bytes);
        let request = Request {
            publisher: Publisher::from_secret([1; 32], Timestamp::default()).id(),
            name: "pack".parse().unwrap(),
            newest: ContentId::of(Codec::DagCbor, b"an entry"),
            above: Some(Sequence::new(7)),
        };
        insta::assert_snapshot!(hex(serde_ipld_dagcbor::to_vec(&request).unwrap()), @"a4646e616d65647061636b6561626f766507666e6577657374d82a582500017112209fb7f2ffa7e75ba5d5017c2b5b651a7d256016ca891c74ca01cb651d6781a6e9697075626c69736865725820d3d92637b4841de4a62d86e414453ad0fca98e35348d81072fafd2cdbb2ee8f1");
        let frame = Frame { entries: vec![ByteBuf::from(b"entry".to_vec())], ..Frame::last(Then::More) };
        insta::assert_snapshot!(hex(serde_ipld_dagcbor::to_vec(&frame).unwrap()), @"a2647468656e646d6f726567656e74726965738145656e747279");
    }
}
