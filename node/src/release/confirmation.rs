//! The confirmation of a publisher: «these are all my newest heads», said at one time and promised again by another.
//!
//! A head never stops being valid, so it says nothing of whether a newer one exists. That is said here, for all packages of a
//! publisher at once, as the timestamp role of [The Update Framework](https://theupdateframework.github.io/specification/latest/)
//! does: a confirmation proves that a head was the newest when it was made, and its `next_by` tells until when silence is
//! ordinary. It never makes a head invalid, and never valid.
//!
//! It holds the publisher's whole chain of key documents, so that anyone checks it before keeping it or handing it on.
//!
//! **Discrepancies:** TUF clients refuse what its timestamp has outlived; here it is shown, and refused only on demand
//! ([`super::freshness`]). Two confirmations of one number are no contradiction to be punished: which one counts is decided
//! ([`judge`]), and a wrong one ends with its `next_by`.

use std::{cmp::Ordering, collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use sha2::{Digest as _, Sha256};

use super::{Error, VerifiedHead};
use crate::{
    content::{Block, Codec, ContentId},
    identity::{ConfirmKey, Context, Envelope, KeyLog, Publisher, PublisherId, canonical},
    limits::{
        CATALOG_HEADS_PER_PUBLISHER_MAX, CLOCK_SKEW_MAX, CONFIRM_INTERVAL_MAX, CONFIRM_INTERVAL_MIN,
        CONFIRMATION_BYTES_MAX, CONFIRMED_LISTED_MAX,
    },
    time::Timestamp,
};

/// The version of confirmations that this program reads and writes.
pub const VERSION: u64 = 1;

const WHAT: &str = "a confirmation";
/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// The SHA-256 of a head as it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(ByteArray<DIGEST_BYTES>);

impl Digest {
    /// The digest of a head's signed bytes.
    pub fn of(head: &[u8]) -> Self {
        Self(ByteArray::new(Sha256::digest(head).into()))
    }
}

/// The current heads of a publisher by their digests: each once, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heads(Vec<Digest>);

impl Heads {
    /// The list of these heads.
    pub fn of<'a>(heads: impl IntoIterator<Item = &'a VerifiedHead>) -> Self {
        heads.into_iter().map(|head| Digest::of(head.bytes())).collect()
    }

    /// The list as a block, which a confirmation names where it does not hold the list itself.
    pub fn block(&self) -> Block {
        let bytes: Vec<u8> = self.0.iter().flat_map(|digest| *digest.0).collect();
        Block::new(Codec::Raw, bytes)
    }

    /// Reads the bytes of [`Heads::block`].
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > LIST_BYTES_MAX {
            let (found, max) = (bytes.len() as u64, LIST_BYTES_MAX as u64);
            return Err(Error::Limit { what: "a list of heads", found, max });
        }
        let (digests, rest) = bytes.as_chunks::<DIGEST_BYTES>();
        let list = Self(digests.iter().map(|digest| Digest(ByteArray::new(*digest))).collect());
        if rest.is_empty() {
            list.checked()
        } else {
            Err(Error::malformed("a list of heads", "it is cut off"))
        }
    }

    fn checked(self) -> Result<Self, Error> {
        if self.0.is_sorted_by(|a, b| a < b) {
            Ok(self)
        } else {
            Err(Error::malformed("a list of heads", "it is not in order, or doubled"))
        }
    }

    /// Whether a head is in it.
    pub fn holds(&self, head: Digest) -> bool {
        self.0.binary_search(&head).is_ok()
    }

    /// How many heads there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no head.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Digest> for Heads {
    fn from_iter<T: IntoIterator<Item = Digest>>(digests: T) -> Self {
        Self(digests.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// Bytes of the longest list.
pub const LIST_BYTES_MAX: usize = CATALOG_HEADS_PER_PUBLISHER_MAX * DIGEST_BYTES;

/// A publisher's word on its current heads, as it signs it.
///
/// Open, as heads are: a field that is not known is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// [`VERSION`].
    pub version: u64,
    /// Who confirms.
    pub publisher: PublisherId,
    /// Grows from one to the next under the same keys: see [`Confirmation::number_after`].
    pub number: u64,
    /// When it was made.
    pub as_of: Timestamp,
    /// By when the next one is promised, 1 to 90 days after `as_of`.
    pub next_by: Timestamp,
    /// The digests of all current heads, ascending; none where there are too many for a confirmation.
    pub heads: Option<Vec<Digest>>,
    /// The id of the block with the list ([`Heads::block`]), where `heads` does not hold it.
    pub root: Option<ContentId>,
    /// The publisher's signed key documents, from the genesis to the current one.
    pub keys: Vec<ByteBuf>,
}

/// Who can sign the confirmations of a publisher: it itself, or a key that signs nothing else.
pub trait Confirmer {
    /// The publisher's keys.
    fn key_log(&self) -> &KeyLog;

    /// Signs what a confirmation says.
    fn seal_confirmation(&self, payload: Vec<u8>) -> Envelope;
}

impl Confirmer for Publisher {
    fn key_log(&self) -> &KeyLog {
        self.key_log()
    }

    fn seal_confirmation(&self, payload: Vec<u8>) -> Envelope {
        self.seal(Context::Confirmation, payload)
    }
}

impl Confirmer for ConfirmKey {
    fn key_log(&self) -> &KeyLog {
        self.key_log()
    }

    fn seal_confirmation(&self, payload: Vec<u8>) -> Envelope {
        self.seal(payload)
    }
}

impl Confirmation {
    /// The confirmation of `heads`, made at `as_of`, with the next one promised within `interval`; with the block that holds
    /// the list, where the confirmation only names it.
    ///
    /// # Errors
    /// [`Error`] where everyone else would refuse it.
    pub fn make(
        by: &impl Confirmer,
        heads: &Heads,
        last: Option<u64>,
        as_of: Timestamp,
        interval: Duration,
    ) -> Result<(VerifiedConfirmation, Option<Block>), Error> {
        let named = Self {
            version: VERSION,
            publisher: by.key_log().publisher(),
            number: Self::number_after(last, as_of),
            as_of,
            next_by: as_of.plus(interval),
            heads: None,
            root: Some(heads.block().id()),
            keys: by.key_log().documents().map(ByteBuf::from).collect(),
        };
        if heads.len() <= CONFIRMED_LISTED_MAX {
            let listed = Self { heads: Some(heads.0.clone()), root: None, ..named.clone() };
            match listed.sign(by) {
                // A long chain of keys leaves no room for the list.
                Err(Error::Limit { .. }) => {}
                signed => return Ok((signed?, None)),
            }
        }
        Ok((named.sign(by)?, Some(heads.block())))
    }

    /// The number that follows `last`. The time is in it, so that a node which lost its database, and a second machine that
    /// confirms for the same publisher, go on from where the others are.
    pub fn number_after(last: Option<u64>, as_of: Timestamp) -> u64 {
        last.map_or(0, |last| last.saturating_add(1)).max(as_of.as_secs())
    }

    /// Reads one of our own database, which was verified before it was kept; nothing of it is checked again.
    pub fn read_stored(bytes: &[u8]) -> Option<Self> {
        canonical::decode_open(WHAT, &Envelope::peek(bytes, CONFIRMATION_BYTES_MAX)?).ok()
    }

    /// Whether it holds a list, and a head is in it.
    pub fn lists(&self, head: Digest) -> bool {
        self.heads.as_ref().is_some_and(|heads| heads.binary_search(&head).is_ok())
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`Error`] where everyone else would refuse it.
    pub fn sign(&self, by: &impl Confirmer) -> Result<VerifiedConfirmation, Error> {
        let bytes = by.seal_confirmation(canonical::encode(self)).encode();
        VerifiedConfirmation::verify_stored(&bytes)
    }

    /// Checks everything but the keys, the signatures and the time now.
    fn check(&self) -> Result<(), Error> {
        let promised = self.next_by.since(self.as_of);
        if !(CONFIRM_INTERVAL_MIN..=CONFIRM_INTERVAL_MAX).contains(&promised) {
            return Err(Error::malformed(WHAT, "the next one is not promised for 1 to 90 days later"));
        }
        match (&self.heads, &self.root) {
            (Some(heads), None) if heads.len() > CONFIRMED_LISTED_MAX => {
                let (found, max) = (heads.len() as u64, CONFIRMED_LISTED_MAX as u64);
                Err(Error::Limit { what: "the heads of a confirmation", found, max })
            }
            (Some(heads), None) => Heads(heads.clone()).checked().map(drop),
            (None, Some(root)) if root.codec() == Codec::Raw => Ok(()),
            _ => Err(Error::malformed(WHAT, "it holds neither a list of heads nor the id of one, or both")),
        }
    }
}

/// The key of a publisher's confirmation in the DHT: SHA-256 of `"ggen/confirm/v1" ‖ publisher (32 bytes)`.
pub fn dht_key(publisher: PublisherId) -> [u8; 32] {
    Sha256::new()
        .chain_update(Context::Confirmation.as_str())
        .chain_update(publisher.as_bytes())
        .finalize()
        .into()
}

/// Whether bytes look like a signed confirmation, and not like a head: nothing of them is checked.
pub fn is_likely(bytes: &[u8]) -> bool {
    publisher_of(bytes).is_some()
}

/// The publisher that bytes name, which look like a signed confirmation: nothing of them is checked.
pub fn publisher_of(bytes: &[u8]) -> Option<PublisherId> {
    publisher_in(&Envelope::peek(bytes, CONFIRMATION_BYTES_MAX)?)
}

/// As [`publisher_of`], of what is signed.
pub(super) fn publisher_in(payload: &[u8]) -> Option<PublisherId> {
    #[derive(Deserialize)]
    struct Probe {
        publisher: PublisherId,
        #[serde(rename = "next_by")]
        _next_by: Timestamp,
    }
    // Most of what is asked about is a head, which has no such field.
    let may_be = canonical::has_field(payload, "next_by");
    may_be.then(|| canonical::decode_open::<Probe>(WHAT, payload)).and_then(Result::ok).map(|it| it.publisher)
}

/// A confirmation whose keys, signatures and fields were checked, with its bytes as they were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedConfirmation {
    confirmation: Confirmation,
    keys: KeyLog,
    bytes: Vec<u8>,
}

impl VerifiedConfirmation {
    /// Checks a confirmation that came from outside.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Early`] is decided last, so that it is only said of those that are genuine.
    pub fn verify(bytes: &[u8], now: Timestamp) -> Result<Self, Error> {
        let verified = Self::verify_stored(bytes)?;
        let as_of = verified.confirmation.as_of;
        if as_of > now.plus(CLOCK_SKEW_MAX) {
            return Err(Error::Early { as_of, now });
        }
        Ok(verified)
    }

    /// Checks a confirmation of our own database, whatever the time now.
    ///
    /// # Errors
    /// As [`VerifiedConfirmation::verify`], apart from the time now.
    pub fn verify_stored(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > CONFIRMATION_BYTES_MAX {
            let (found, max) = (bytes.len() as u64, CONFIRMATION_BYTES_MAX as u64);
            return Err(Error::Limit { what: WHAT, found, max });
        }
        let envelope = Envelope::decode(bytes, CONFIRMATION_BYTES_MAX)?;
        canonical::check_version(WHAT, envelope.payload(), VERSION)?;
        let confirmation: Confirmation = canonical::decode_open(WHAT, envelope.payload())?;
        let keys = KeyLog::verify(&confirmation.keys)?;
        if confirmation.publisher != keys.publisher() {
            let (claimed, actual) = (confirmation.publisher, keys.publisher());
            return Err(Error::Publisher { what: WHAT, claimed, actual });
        }
        keys.verify_confirm(Context::Confirmation, &envelope)?;
        confirmation.check()?;
        Ok(Self { confirmation, keys, bytes: bytes.to_vec() })
    }

    /// What it says.
    pub fn confirmation(&self) -> &Confirmation {
        &self.confirmation
    }

    /// Its publisher's keys.
    pub fn key_log(&self) -> &KeyLog {
        &self.keys
    }

    /// Its bytes as they were signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Who confirms.
    pub fn publisher(&self) -> PublisherId {
        self.confirmation.publisher
    }

    /// Its key in the DHT: see [`dht_key`].
    pub fn dht_key(&self) -> [u8; 32] {
        dht_key(self.publisher())
    }

    /// The heads that it confirms; nothing where only the block has them that it names.
    pub fn heads(&self) -> Option<Heads> {
        self.confirmation.heads.clone().map(Heads)
    }

    /// Whether it confirms a head, given the block that it names where it names one; nothing where that cannot be told.
    pub fn confirms(&self, head: Digest, list: Option<&Heads>) -> Option<bool> {
        self.list(list).map(|list| list.holds(head))
    }

    /// The heads that it confirms, given the block that it names where it names one. Hashes that block.
    pub fn list(&self, block: Option<&Heads>) -> Option<Heads> {
        let is_named = |block: &&Heads| Some(block.block().id()) == self.confirmation.root;
        self.heads().or_else(|| block.filter(is_named).cloned())
    }
}

/// What becomes of a confirmation, given the one that is held of its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept, in place of an older one.
    Newer,
    /// It is kept in place of another one of the same number, which is told: two machines confirm for one publisher, or a
    /// key was stolen.
    Instead,
    /// It is held already.
    Known,
    /// It is older than what is held, and ignored.
    Older,
    /// It has the number of the one that is held and does not count: that is told too.
    Beaten,
    /// Its keys are not those that are known of the publisher, nor do they follow them: ignored.
    Fork,
}

impl Verdict {
    /// Whether it takes the place of what is held.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Newer | Self::Instead)
    }

    /// Whether there are two different confirmations of one number.
    pub fn is_doubled(self) -> bool {
        matches!(self, Self::Instead | Self::Beaten)
    }
}

/// Decides between a confirmation and the one that is held of the same publisher.
///
/// Of two chains of keys the one counts whose recovery keys ended the other. Else the order is that of the key document, then of the number, then of the time, then of the bytes: the same one counts
/// everywhere, whatever the order in which they came.
pub fn judge(candidate: &VerifiedConfirmation, held: Option<&VerifiedConfirmation>) -> Verdict {
    let Some(held) = held else { return Verdict::Newer };
    if candidate.bytes == held.bytes {
        return Verdict::Known;
    }
    if !candidate.keys.agrees_with(&held.keys) {
        // Where each ended the other, neither counts for more.
        let is_ended = candidate.keys.ends(&held.keys) && !held.keys.ends(&candidate.keys);
        return if is_ended { Verdict::Newer } else { Verdict::Fork };
    }
    let place = |it: &VerifiedConfirmation| (it.keys.current().n, it.confirmation.number);
    match place(candidate).cmp(&place(held)) {
        Ordering::Greater => Verdict::Newer,
        Ordering::Less => Verdict::Older,
        Ordering::Equal => {
            let rank = |it: &VerifiedConfirmation| (it.confirmation.as_of, it.bytes.clone());
            if rank(candidate) > rank(held) { Verdict::Instead } else { Verdict::Beaten }
        }
    }
}

#[cfg(test)]
#[path = "confirmation_tests.rs"]
mod tests;
