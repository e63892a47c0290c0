//! The chain of a publisher's keys, from its genesis to the current ones.
//!
//! Rotation follows the root rotation of [The Update Framework](https://theupdateframework.github.io/specification/latest/),
//! section 5.3: document n is signed by a threshold of the keys of document n−1 and by a threshold of its own, and only
//! the keys of the last document count for anything signed from then on. Where document n−1 names recovery keys, those
//! sign in the place of its release keys: a stolen release key cannot rotate.
//!
//! A key that was rotated out can still sign *another* document n. The chain alone cannot tell the two apart;
//! what was seen first does, through [`KeyLog::fingerprint`], and [`crate::release::choice`] refuses the fork.
//!
//! A key that was rotated out may come back, and what it signed twice is still a proof of double signing. A key that a
//! document [revokes](KeyDocument::revoked) never counts again: no later document may name it, and it proves nothing.
//!
//! **Discrepancies:** keys do not expire, and there are three roles: release, recovery and confirm. [`KeyDocument::scopes`]
//! limits what a publisher signs for, from one document on and permanently: a later document may narrow it further, and
//! never widen it. It is no delegation, because there is one current document for all packages.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Context, Envelope, Error, PublicKey, PublisherId, SecretKey, canonical, envelope::require};
use crate::{
    content::{Block, Codec, ContentId},
    limits::{KEY_DOCUMENT_BYTES_MAX, KEY_DOCUMENTS_MAX, KEYS_MAX, SCOPES_MAX},
    package::PackageName,
    time::Timestamp,
};

/// The version of key documents that this program reads and writes.
pub const VERSION: u64 = 1;

const WHAT: &str = "a key document";

/// The keys that may sign for a publisher from one point on.
///
/// Closed: a document with a field that is not listed here, or of a higher version, is refused, because what it may say of
/// its keys must not be passed over. A later version is a later number, and older programs ask to be renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDocument {
    /// [`VERSION`].
    pub version: u64,
    /// Its place in the chain, 0 for the genesis.
    pub n: u64,
    /// The id of the signed document before it, as encoded; none for the genesis.
    pub previous: Option<ContentId>,
    /// The keys, ascending.
    pub keys: Vec<PublicKey>,
    /// How many of the keys must sign, at least one.
    pub threshold: u32,
    /// The keys that sign the document after this one in the place of [`KeyDocument::keys`], ascending; none where the
    /// release keys do. They sign nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<PublicKey>,
    /// How many of the recovery keys must sign; zero where there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recovery_threshold: u32,
    /// The keys that may sign confirmations and nothing else, ascending; one of them is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confirm: Vec<PublicKey>,
    /// The keys that never count again from here on, ascending: what they signed counts only as far as a log that later
    /// keys stand behind holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<PublicKey>,
    /// The packages that the keys may sign for, ascending; all of them where it is empty. A later document names no others.
    pub scopes: Vec<PackageName>,
    /// When it was made, as its maker says.
    pub created: Timestamp,
}

impl KeyDocument {
    /// The first document of a publisher with one key and no limits.
    pub fn genesis(key: PublicKey, created: Timestamp) -> Self {
        Self {
            version: VERSION,
            n: 0,
            previous: None,
            keys: vec![key],
            threshold: 1,
            recovery: Vec::new(),
            recovery_threshold: 0,
            confirm: Vec::new(),
            revoked: Vec::new(),
            scopes: Vec::new(),
            created,
        }
    }

    /// Signs the document; gives the encoded envelope.
    ///
    /// # Errors
    /// As [`KeyLog::verify`] has for a document by itself; whether it continues a chain is not known here.
    pub fn sign(&self, keys: &[&SecretKey]) -> Result<Vec<u8>, Error> {
        self.check()?;
        let bytes = Envelope::seal(Context::KeyDocument, canonical::encode(self), keys).encode();
        Envelope::decode(&bytes, KEY_DOCUMENT_BYTES_MAX)?;
        Ok(bytes)
    }

    /// Whether its keys may sign for a package of this name.
    pub fn allows(&self, name: &PackageName) -> bool {
        self.scopes.is_empty() || self.scopes.contains(name)
    }

    /// The keys that must sign the document after this one, and how many of them: the recovery keys where there are any.
    pub fn successors(&self) -> (&[PublicKey], u32) {
        if self.recovery.is_empty() {
            (&self.keys, self.threshold)
        } else {
            (&self.recovery, self.recovery_threshold)
        }
    }

    fn decode(payload: &[u8]) -> Result<Self, Error> {
        canonical::check_version(WHAT, payload, VERSION)?;
        let document: Self = canonical::decode_closed(WHAT, payload)?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), Error> {
        let limit = |found, unit, max| Err(Error::Limit { what: WHAT, found, unit, max });
        let lists = [&self.keys, &self.recovery, &self.confirm, &self.revoked];
        if let Some(long) = lists.iter().find(|keys| keys.len() > KEYS_MAX) {
            return limit(long.len(), "keys", KEYS_MAX);
        }
        if self.scopes.len() > SCOPES_MAX {
            return limit(self.scopes.len(), "scopes", SCOPES_MAX);
        }
        let in_order = lists.iter().all(|keys| keys.is_sorted_by(|a, b| a < b));
        if !in_order || !self.scopes.is_sorted_by(|a, b| a < b) {
            return Err(Error::malformed(WHAT, "its keys or scopes are not in order, or doubled"));
        }
        let named: BTreeSet<_> = lists.iter().copied().flatten().collect();
        if named.len() != lists.iter().map(|keys| keys.len()).sum::<usize>() {
            return Err(Error::malformed(WHAT, "it names one key for two purposes"));
        }
        let is_above = |threshold, keys: &[PublicKey]| {
            usize::try_from(threshold).is_ok_and(|needed: usize| needed > keys.len())
        };
        if self.threshold == 0 || is_above(self.threshold, &self.keys) {
            return Err(Error::malformed(WHAT, "its threshold is not between 1 and the number of its keys"));
        }
        if (self.recovery_threshold == 0) != self.recovery.is_empty()
            || is_above(self.recovery_threshold, &self.recovery)
        {
            let why = "its recovery threshold is not between 1 and the number of its recovery keys";
            return Err(Error::malformed(WHAT, why));
        }
        if (self.n == 0) != self.previous.is_none() {
            return Err(Error::malformed(WHAT, "only the first one has none before it"));
        }
        Ok(())
    }
}

/// A verified chain of key documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLog {
    /// Shared by all clones: whoever verified many heads of one publisher holds its chain once.
    links: Arc<Vec<Link>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    document: KeyDocument,
    bytes: Vec<u8>,
    /// Of the signed document as encoded, which the next one names.
    id: ContentId,
    /// Of the payload, which stays the same whichever keys signed.
    fingerprint: ContentId,
}

impl KeyLog {
    /// Verifies the signed documents of a chain, from its genesis.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::Malformed`] or [`Error::Newer`] for a document that is none by itself; [`Error::Chain`]
    /// or [`Error::Signature`] for one that does not follow from the one before it.
    pub fn verify<D: AsRef<[u8]>>(documents: &[D]) -> Result<Self, Error> {
        let (first, rest) = documents.split_first().ok_or(Error::Chain { n: 0, why: "it is missing" })?;
        if documents.len() > KEY_DOCUMENTS_MAX {
            let found = documents.len();
            return Err(Error::Limit {
                what: "a chain of keys",
                found,
                unit: "documents",
                max: KEY_DOCUMENTS_MAX,
            });
        }
        let mut log = Self { links: Arc::new(vec![Link::genesis(first.as_ref())?]) };
        for bytes in rest {
            log = log.extended(bytes.as_ref())?;
        }
        Ok(log)
    }

    /// The chain with one more signed document.
    ///
    /// # Errors
    /// As [`KeyLog::verify`].
    pub fn extended(mut self, bytes: &[u8]) -> Result<Self, Error> {
        if self.links.len() >= KEY_DOCUMENTS_MAX {
            let found = self.links.len().saturating_add(1);
            return Err(Error::Limit {
                what: "a chain of keys",
                found,
                unit: "documents",
                max: KEY_DOCUMENTS_MAX,
            });
        }
        let link = Link::after(self.last(), bytes)?;
        let named = [&link.document.keys, &link.document.recovery, &link.document.confirm];
        if named.into_iter().flatten().any(|key| self.is_revoked(key)) {
            let n = self.links.len();
            return Err(Error::Chain { n, why: "it names a key that was revoked before" });
        }
        Arc::make_mut(&mut self.links).push(link);
        Ok(self)
    }

    /// The document that would change the keys, to be signed by a threshold of [`KeyDocument::successors`] of the current
    /// one and of `keys`. It names the recovery keys, the confirm keys and the scopes of the current one.
    ///
    /// It takes no more than [`KEYS_MAX`] signatures in all; where both thresholds together need more, a document that
    /// lowers the threshold comes first.
    pub fn next(&self, mut keys: Vec<PublicKey>, threshold: u32, created: Timestamp) -> KeyDocument {
        keys.sort_unstable();
        KeyDocument {
            version: VERSION,
            n: self.current().n.saturating_add(1),
            previous: Some(self.tip()),
            keys,
            threshold,
            revoked: Vec::new(),
            created,
            ..self.current().clone()
        }
    }

    /// Whether a document of this chain revokes `key`.
    pub fn is_revoked(&self, key: &PublicKey) -> bool {
        self.links.iter().any(|link| link.document.revoked.contains(key))
    }

    /// The name of the publisher, which the genesis fixes.
    pub fn publisher(&self) -> PublisherId {
        PublisherId::from_bytes(self.links[0].fingerprint.digest())
    }

    /// The document whose keys count now.
    pub fn current(&self) -> &KeyDocument {
        &self.last().document
    }

    /// Document number `n`.
    pub fn document(&self, n: u64) -> Option<&KeyDocument> {
        self.link(n).map(|link| &link.document)
    }

    /// Checks 32 bytes as [`PublicKey::from_bytes`] does; a key of one of the documents costs a comparison.
    ///
    /// # Errors
    /// As [`PublicKey::from_bytes`].
    pub(crate) fn public_key(&self, bytes: [u8; 32]) -> Result<PublicKey, Error> {
        let mut keys = self.links.iter().flat_map(|link| &link.document.keys);
        keys.find(|key| *key.as_bytes() == bytes).map_or_else(|| PublicKey::from_bytes(bytes), |key| Ok(*key))
    }

    /// The id of the payload of document number `n`: two chains with the same fingerprint at `n` are the same up to it.
    pub fn fingerprint(&self, n: u64) -> Option<ContentId> {
        self.link(n).map(|link| link.fingerprint)
    }

    /// The id of the signed document number `n`, as encoded.
    pub fn document_id(&self, n: u64) -> Option<ContentId> {
        self.link(n).map(|link| link.id)
    }

    /// The signed documents as they were given, from the genesis.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.links.iter().map(|link| link.bytes.as_slice())
    }

    /// The signed documents as blocks, from the genesis.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = Block> {
        self.links.iter().map(|link| Block::new(Codec::DagCbor, link.bytes.clone()))
    }

    /// The id of the last signed document, as encoded.
    pub fn tip(&self) -> ContentId {
        self.last().id
    }

    /// Whether keys that still count here signed another document in the place of one of this chain: its publisher
    /// contradicts itself. A document that keys signed which were replaced here is refused, and says nothing of the
    /// publisher: anyone who stole an old key can make it.
    pub fn is_contradicted_by(&self, other: &Self) -> bool {
        let Some(before) = self.before_fork(other) else { return false };
        let (keys, threshold) = before.successors();
        let still = keys.iter().filter(|key| self.current().successors().0.contains(key)).count();
        u32::try_from(still).is_ok_and(|still| still >= threshold)
    }

    /// Whether this chain ends what another one began apart from it: recovery keys named the documents of both, and so many of the
    /// current keys of the other one were revoked here that the rest is not enough.
    ///
    /// Where release keys rotate themselves there is no such end: a thief who has one could make it as well as the owner.
    pub fn ends(&self, other: &Self) -> bool {
        let recovered = self.before_fork(other).is_some_and(|before| !before.recovery.is_empty());
        let current = other.current();
        let left = current.keys.iter().filter(|key| !self.is_revoked(key)).count();
        recovered && u32::try_from(left).is_ok_and(|left| left < current.threshold)
    }

    /// The last document that two chains have in common which go apart; none where they do not, or are of two publishers.
    fn before_fork(&self, other: &Self) -> Option<&KeyDocument> {
        self.document(self.parts_from(other)?.checked_sub(1)?)
    }

    /// The number of the first document that two chains do not have in common; none where one continues the other.
    pub fn parts_from(&self, other: &Self) -> Option<u64> {
        let fork =
            self.links.iter().zip(other.links.iter()).position(|(a, b)| a.fingerprint != b.fingerprint);
        fork.map(|n| n as u64)
    }

    /// Whether one chain continues the other, or is the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.links.iter().zip(other.links.iter()).all(|(a, b)| a.fingerprint == b.fingerprint)
    }

    /// Of some chains those that no other one continues; of those that go apart, all, in the order in which they are given.
    pub fn longest(logs: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut longest: Vec<Self> = Vec::new();
        for log in logs {
            let is_same = |other: &Self| other.publisher() == log.publisher() && other.agrees_with(&log);
            match longest.iter_mut().find(|other| is_same(other)) {
                Some(other) if other.links.len() < log.links.len() => *other = log,
                Some(_) => {}
                None => longest.push(log),
            }
        }
        longest
    }

    /// The id of the document before a signed one, whose signatures are not checked: only whoever has the whole chain can.
    ///
    /// # Errors
    /// [`Error`] where the bytes are no key document.
    pub fn before(bytes: &[u8]) -> Result<Option<ContentId>, Error> {
        Ok(Link::parse(bytes)?.0.document.previous)
    }

    /// Checks that a threshold of the current keys signed `envelope` as `context`.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify_current(&self, context: Context, envelope: &Envelope) -> Result<(), Error> {
        envelope.verify(context, &self.current().keys, self.current().threshold)
    }

    /// Checks that `envelope` was signed as `context` by one of the current confirm keys, or by a threshold of the current
    /// release keys.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify_confirm(&self, context: Context, envelope: &Envelope) -> Result<(), Error> {
        match envelope.would_suffice(context, &self.current().confirm, 1) {
            Ok(()) => envelope.check(context),
            Err(_) => self.verify_current(context, envelope),
        }
    }

    /// Checks that a threshold of the keys of any one document signed `envelope` as `context`, and gives the newest such
    /// document.
    ///
    /// For what a current signature names by its hash, such as the manifest of an older release; by itself it would let a
    /// key that was rotated out sign again.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn verify_any(&self, context: Context, envelope: &Envelope) -> Result<&KeyDocument, Error> {
        // Whether the signatures are right is the same for all documents, and is looked at once: there may be many of them,
        // and what was signed may be large.
        let suffices = |document: &&KeyDocument| {
            envelope.would_suffice(context, &document.keys, document.threshold).is_ok()
        };
        let found = self.links.iter().rev().map(|link| &link.document).find(suffices);
        let refused = || Error::signature(context.noun(), "no keys of its publisher signed it");
        let document = found.ok_or_else(refused)?;
        envelope.check(context).map_err(|_| refused())?;
        Ok(document)
    }

    fn last(&self) -> &Link {
        self.links.last().expect("a chain has a genesis")
    }

    fn link(&self, n: u64) -> Option<&Link> {
        self.links.get(usize::try_from(n).ok()?)
    }
}

impl Link {
    fn parse(bytes: &[u8]) -> Result<(Self, Envelope), Error> {
        let envelope = Envelope::decode(bytes, KEY_DOCUMENT_BYTES_MAX)?;
        let link = Self {
            document: KeyDocument::decode(envelope.payload())?,
            bytes: bytes.to_vec(),
            id: ContentId::of(Codec::DagCbor, bytes),
            fingerprint: ContentId::of(Codec::DagCbor, envelope.payload()),
        };
        Ok((link, envelope))
    }

    fn genesis(bytes: &[u8]) -> Result<Self, Error> {
        let (link, envelope) = Self::parse(bytes)?;
        if link.document.n != 0 {
            return Err(Error::Chain { n: 0, why: "it says that it is a later one" });
        }
        envelope.verify(Context::KeyDocument, &link.document.keys, link.document.threshold)?;
        Ok(link)
    }

    fn after(last: &Self, bytes: &[u8]) -> Result<Self, Error> {
        let (link, envelope) = Self::parse(bytes)?;
        let (old, new) = (&last.document, &link.document);
        let n = usize::try_from(old.n).unwrap_or(usize::MAX).saturating_add(1);
        if old.n.checked_add(1) != Some(new.n) {
            return Err(Error::Chain { n, why: "its number is not the next one" });
        }
        if new.previous != Some(last.id) {
            return Err(Error::Chain { n, why: "it does not name the document before it" });
        }
        let widens = new.scopes.is_empty() || !new.scopes.iter().all(|name| old.allows(name));
        if !old.scopes.is_empty() && widens {
            return Err(Error::Chain { n, why: "it allows packages that the document before it does not" });
        }
        let context = Context::KeyDocument;
        let (successors, threshold) = old.successors();
        let signers = envelope.signers(context, &[successors, &new.keys].concat())?;
        require(context, &signers, successors, threshold)?;
        require(context, &signers, &new.keys, new.threshold)?;
        Ok(link)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
#[path = "key_log_tests.rs"]
mod tests;
