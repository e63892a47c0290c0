//! Content ids and the blocks they name.
//!
//! A [`ContentId`] is a CIDv1 over SHA-256 ([CID specification](https://github.com/multiformats/cid)); nothing else is
//! accepted anywhere, so that "the hash matches" always means the same thing. This module knows nothing of storage,
//! networks or packages.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use cid::{Cid, multibase, multihash::Multihash, serde::CID_SERDE_PRIVATE_IDENTIFIER};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};
use sha2::{Digest, Sha256};

use crate::code::Code;

/// The multicodec number of SHA-256, the only hash in use.
const SHA2_256: u64 = 0x12;
/// Bytes of an id: its version, codec, hash function and length of a byte each, and the digest.
pub(crate) const ID_BYTES: usize = 36;

/// What the bytes of a block are, by its [multicodec](https://github.com/multiformats/multicodec) number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u64)]
pub enum Codec {
    /// Plain bytes: a leaf of a file.
    Raw = 0x55,
    /// A UnixFS node: a directory, or a file of several leaves.
    DagPb = 0x70,
    /// One of our signed structures.
    DagCbor = 0x71,
}

impl Codec {
    fn from_number(number: u64) -> Option<Self> {
        [Self::Raw, Self::DagPb, Self::DagCbor].into_iter().find(|codec| *codec as u64 == number)
    }
}

/// The name of some bytes: their codec and their SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "Cid")]
pub struct ContentId(Cid);

impl ContentId {
    /// Hashes `bytes` into their id.
    pub fn of(codec: Codec, bytes: &[u8]) -> Self {
        Self::from_digest(codec, Sha256::digest(bytes).into())
    }

    /// Joins a codec with a SHA-256 that was computed elsewhere.
    pub fn from_digest(codec: Codec, digest: [u8; 32]) -> Self {
        let hash = Multihash::wrap(SHA2_256, &digest).expect("32 bytes fit into a multihash");
        Self(Cid::new_v1(codec as u64, hash))
    }

    /// What the bytes are.
    pub fn codec(&self) -> Codec {
        Codec::from_number(self.0.codec()).expect("checked when the id was made")
    }

    /// The SHA-256 of the bytes.
    pub fn digest(&self) -> [u8; 32] {
        self.0.hash().digest().try_into().expect("checked when the id was made")
    }

    /// The multihash of the bytes, under which providers are found in the DHT.
    pub fn multihash_bytes(&self) -> Vec<u8> {
        self.0.hash().to_bytes()
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Parses the binary form.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but a CIDv1 with a known codec and SHA-256.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        // A parser of CIDs leaves alone what follows one; then a block would have endless names.
        if bytes.len() != ID_BYTES {
            return Err(Error::Malformed);
        }
        Cid::try_from(bytes).map_err(|_| Error::Malformed)?.try_into()
    }

    /// Whether `bytes` are the ones that this id names.
    pub fn names(&self, bytes: &[u8]) -> bool {
        <[u8; 32]>::from(Sha256::digest(bytes)) == self.digest()
    }
}

impl TryFrom<Cid> for ContentId {
    type Error = Error;

    fn try_from(cid: Cid) -> Result<Self, Error> {
        let known = cid.version() == cid::Version::V1
            && Codec::from_number(cid.codec()).is_some()
            && cid.hash().code() == SHA2_256
            && cid.hash().digest().len() == 32;
        if known { Ok(Self(cid)) } else { Err(Error::Malformed) }
    }
}

impl From<ContentId> for Cid {
    fn from(id: ContentId) -> Cid {
        id.0
    }
}

/// As [`Cid`] is read, but with [`ContentId::from_bytes`].
impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tagged;

        impl<'de> Visitor<'de> for Tagged {
            type Value = ContentId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content id")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<ContentId, D::Error> {
                inner.deserialize_bytes(self)
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<ContentId, E> {
                ContentId::from_bytes(bytes).map_err(E::custom)
            }
        }

        deserializer.deserialize_newtype_struct(CID_SERDE_PRIVATE_IDENTIFIER, Tagged)
    }
}

impl FromStr for ContentId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > 128 {
            return Err(Error::Malformed);
        }
        // It too would leave alone what follows.
        let (_, bytes) = multibase::decode(text).map_err(|_| Error::Malformed)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes together with the id that names them; cannot be made from bytes that do not match. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    id: ContentId,
    bytes: Bytes,
}

impl Block {
    /// Hashes `bytes` into a block.
    pub fn new(codec: Codec, bytes: Vec<u8>) -> Self {
        Self { id: ContentId::of(codec, &bytes), bytes: bytes.into() }
    }

    /// Bytes that were verified when they were stored, and of which the store knows that they are still the same.
    pub(crate) fn unchanged(id: ContentId, bytes: Vec<u8>) -> Self {
        Self { id, bytes: bytes.into() }
    }

    /// Joins an id with bytes that claim to be the ones it names.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where they are not.
    pub fn verified(id: ContentId, bytes: Vec<u8>) -> Result<Self, Error> {
        if id.names(&bytes) { Ok(Self { id, bytes: bytes.into() }) } else { Err(Error::Mismatch { id }) }
    }

    /// Likewise, where the SHA-256 of the bytes was computed as they came.
    pub(crate) fn hashed(id: ContentId, bytes: Vec<u8>, sha256: [u8; 32]) -> Result<Self, Error> {
        if id.digest() == sha256 { Ok(Self { id, bytes: bytes.into() }) } else { Err(Error::Mismatch { id }) }
    }

    /// The name of the bytes.
    pub fn id(&self) -> ContentId {
        self.id
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the bytes away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} bytes)", self.id, self.bytes.len())
    }
}

/// Why an id or a block was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a CIDv1 with a known codec and SHA-256.
    #[error("not a content id: a CIDv1 with SHA-256 is needed")]
    Malformed,
    /// The bytes do not hash to the id.
    #[error("the bytes are not those of block {id}")]
    Mismatch {
        /// The id that the bytes claimed.
        id: ContentId,
    },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed => Code::Usage,
            Self::Mismatch { .. } => Code::HashMismatch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_binary_forms() {
        let id = ContentId::of(Codec::Raw, b"hello\n");
        assert_eq!(id.to_string().parse::<ContentId>().unwrap(), id);
        assert_eq!(ContentId::from_bytes(&id.to_bytes()).unwrap(), id);
        assert_eq!(
            serde_ipld_dagcbor::from_slice::<ContentId>(&serde_ipld_dagcbor::to_vec(&id).unwrap()).unwrap(),
            id
        );
    }

    #[test]
    fn nothing_may_follow_an_id() {
        let id = ContentId::of(Codec::Raw, b"hello\n");
        let bytes = id.to_bytes();
        let of_cbor = |bytes: &[u8]| {
            let tagged = [&[0xd8, 0x2a, 0x58, bytes.len() as u8 + 1, 0], bytes].concat();
            serde_ipld_dagcbor::from_slice::<ContentId>(&tagged).ok()
        };
        let of_text = |bytes: &[u8]| multibase::encode(multibase::Base::Base32Lower, bytes).parse().ok();
        let longer = [bytes.clone(), vec![0]].concat();
        // The codec on two bytes rather than one.
        let loose = [&bytes[..1], &[0xd5, 0x00], &bytes[2..]].concat();
        for (good, bytes) in [(true, &bytes[..]), (false, &longer), (false, &loose), (false, &bytes[..35])] {
            let expected = good.then_some(id);
            assert_eq!(ContentId::from_bytes(bytes).ok(), expected, "{bytes:?}");
            assert_eq!(of_cbor(bytes), expected, "{bytes:?}");
            assert_eq!(of_text(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn one_flipped_bit_is_a_mismatch() {
        let block = Block::new(Codec::Raw, b"hello\n".to_vec());
        let mut bytes = block.bytes().to_vec();
        bytes[0] ^= 1;
        assert!(matches!(Block::verified(block.id(), bytes), Err(Error::Mismatch { .. })));
    }

    #[test]
    fn other_hashes_and_versions_are_refused() {
        // The CIDv0 and the identity-hash forms are valid CIDs, but never ours.
        for text in ["QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n", "bafkqaaa", "", "bafy"] {
            assert!(text.parse::<ContentId>().is_err(), "{text}");
        }
    }
}
