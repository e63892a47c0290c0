//! The one signed form: some bytes, and signatures over them.
//!
//! The payload is kept as the bytes that were signed; nothing parses it before the signatures are checked except to find
//! out which keys must have signed. A signature is over `context ‖ 0x00 ‖ payload`, so that what was signed as one thing
//! never passes for another.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Error, PublicKey, SecretKey, canonical};
use crate::{
    content::{Block, Codec},
    limits::KEYS_MAX,
};

/// What a payload was signed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// The current state of a package.
    Head,
    /// An entry of a package's log.
    Entry,
    /// The list of a package's files.
    Manifest,
    /// The keys of a publisher.
    KeyDocument,
}

impl Context {
    /// The string that is signed before the payload.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "ggen/head/v1",
            Self::Entry => "ggen/entry/v1",
            Self::Manifest => "ggen/manifest/v1",
            Self::KeyDocument => "ggen/key/v1",
        }
    }

    /// What a person calls the signed thing.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Head => "a head",
            Self::Entry => "a log entry",
            Self::Manifest => "a manifest",
            Self::KeyDocument => "a key document",
        }
    }

    fn message(self, payload: &[u8]) -> Vec<u8> {
        [self.as_str().as_bytes(), &[0], payload].concat()
    }
}

/// Bytes and the signatures over them, in ascending order of the keys.
///
/// Its encoding is the DAG-CBOR map `{payload: bytes, signatures: [{key: 32 bytes, sig: 64 bytes}, …]}`, closed: no other
/// field, order or length passes. Nobody but a holder of a key can therefore make a second encoding of one envelope that
/// adds anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<(PublicKey, [u8; 64])>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEnvelope {
    payload: ByteBuf,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    key: ByteBuf,
    sig: ByteBuf,
}

impl Envelope {
    /// Signs `payload` as `context` with each of `keys`.
    pub fn seal(context: Context, payload: Vec<u8>, keys: &[&SecretKey]) -> Self {
        let message = context.message(&payload);
        let mut signatures: Vec<_> = keys.iter().map(|key| (key.public_key(), key.sign(&message))).collect();
        signatures.sort();
        signatures.dedup_by_key(|(key, _)| *key);
        Self { payload, signatures }
    }

    /// The bytes that were signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The keys that claim to have signed, in ascending order.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.signatures.iter().map(|(key, _)| *key)
    }

    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let wire = |(key, sig): &(PublicKey, [u8; 64])| WireSignature {
            key: ByteBuf::from(*key.as_bytes()),
            sig: ByteBuf::from(*sig),
        };
        canonical::encode(&WireEnvelope {
            payload: ByteBuf::from(self.payload.as_slice()),
            signatures: self.signatures.iter().map(wire).collect(),
        })
    }

    /// The encoded form as a block.
    pub fn block(&self) -> Block {
        Block::new(Codec::DagCbor, self.encode())
    }

    /// Decodes `bytes`, of which there may be `max_bytes`; the signatures are not checked yet.
    ///
    /// # Errors
    /// [`Error::Limit`] for too many bytes or signatures, [`Error::Malformed`] for anything but the one encoding, and
    /// [`Error::Signature`] for a key or signature that cannot be one.
    pub fn decode(bytes: &[u8], max_bytes: usize) -> Result<Self, Error> {
        const WHAT: &str = "a signed structure";
        if bytes.len() > max_bytes {
            return Err(Error::Limit { what: WHAT, found: bytes.len(), unit: "bytes", max: max_bytes });
        }
        let wire: WireEnvelope = canonical::decode_closed(WHAT, bytes)?;
        let found = wire.signatures.len();
        if found > KEYS_MAX {
            return Err(Error::Limit { what: WHAT, found, unit: "signatures", max: KEYS_MAX });
        }
        let mut signatures: Vec<(PublicKey, [u8; 64])> = Vec::with_capacity(found);
        for WireSignature { key, sig } in wire.signatures {
            let sized = key.into_vec().try_into().ok().zip(sig.into_vec().try_into().ok());
            let (key, sig) = sized.ok_or_else(|| {
                Error::signature(WHAT, "a key is not 32 bytes long, or a signature is not 64 bytes long")
            })?;
            let key =
                PublicKey::from_bytes(key).map_err(|error| Error::signature(WHAT, error.to_string()))?;
            if signatures.last().is_some_and(|(last, _)| *last >= key) {
                return Err(Error::malformed(WHAT, "its signatures are not in order, or doubled"));
            }
            signatures.push((key, sig));
        }
        Ok(Self { payload: wire.payload.into_vec(), signatures })
    }

    /// Checks every signature and gives the keys that signed.
    ///
    /// A signature that is wrong, or by a key not in `allowed`, refuses the whole: it proves nothing, and would let anyone
    /// make endless variants of one signed thing.
    ///
    /// # Errors
    /// [`Error::Signature`] as said.
    pub fn signers(&self, context: Context, allowed: &[PublicKey]) -> Result<BTreeSet<PublicKey>, Error> {
        let message = context.message(&self.payload);
        for (key, sig) in &self.signatures {
            if !allowed.contains(key) {
                let why = format!("key {key} signed it, which has no say in it");
                return Err(Error::signature(context.noun(), why));
            }
            if !key.verifies(&message, sig) {
                return Err(Error::signature(context.noun(), format!("the signature by key {key} is wrong")));
            }
        }
        Ok(self.keys().collect())
    }

    /// Checks every signature, and that `threshold` of `keys` signed.
    ///
    /// # Errors
    /// [`Error::Signature`] where a signature is wrong or by another key, or where too few signed. A threshold of zero is
    /// taken as one.
    pub fn verify(&self, context: Context, keys: &[PublicKey], threshold: u32) -> Result<(), Error> {
        let signers = self.signers(context, keys)?;
        require(context, &signers, keys, threshold)
    }
}

/// Refuses fewer than `threshold` of `keys` among `signers`.
pub(super) fn require(
    context: Context,
    signers: &BTreeSet<PublicKey>,
    keys: &[PublicKey],
    threshold: u32,
) -> Result<(), Error> {
    let needed = usize::try_from(threshold.max(1)).unwrap_or(usize::MAX);
    let valid = signers.iter().filter(|key| keys.contains(key)).count();
    if valid >= needed {
        Ok(())
    } else {
        Err(Error::signature(context.noun(), format!("{valid} of the {needed} keys needed signed it")))
    }
}
