//! Chains of keys that were verified, so that the next structure of the same publisher does not cost their signatures again.
//!
//! A page of heads is often a few publishers' heads, and each head holds its publisher's whole chain. Whether a chain is sound
//! depends on nothing but its bytes, so a chain that was verified once is known by them: it is found by the id of its last
//! document, and counts only where every document is the same, byte for byte. The same holds for the points of its keys.
//!
//! What is not known is verified in full; nothing is ever accepted here that [`KeyLog::verify`] would refuse. The value is handed
//! through by whoever verifies many; there is none that all share.
//!
//! **Not done: verifying the signatures of a page together.** The equation of a batch is multiplied with random numbers, so that a
//! crafted signature with a part of small order passes in some batches and fails in others, and always fails by itself
//! ([Chalkias, Garillot, Nikolaenko: Taming the many EdDSAs](https://eprint.iacr.org/2020/1244)). What one node takes another would refuse,
//! and ban the peer that passed it on. Ruling such signatures out before costs what the batch saves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Envelope, Error, KeyLog, PublicKey};
use crate::{
    content::{Codec, ContentId},
    limits::{KEY_CHAINS_BYTES, KEY_CHAINS_MAX},
};

/// Chains that were verified, and their current keys. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Chains(Arc<Mutex<Generations>>);

/// Those of now, and those of before: what is asked for again stays, at the cost of a move.
#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    /// By the id of the last document.
    chains: BTreeMap<ContentId, KeyLog>,
    keys: BTreeSet<[u8; 32]>,
    /// Of all documents of the chains.
    bytes: usize,
}

impl Chains {
    /// As [`KeyLog::verify`]; a chain that was verified before costs a comparison.
    ///
    /// # Errors
    /// As [`KeyLog::verify`].
    pub fn verify<D: AsRef<[u8]>>(&self, documents: &[D]) -> Result<KeyLog, Error> {
        let Some(last) = documents.last() else { return KeyLog::verify(documents) };
        let tip = ContentId::of(Codec::DagCbor, last.as_ref());
        if let Some(known) = self.held().chain(&tip, documents) {
            return Ok(known);
        }
        // Not under the lock: others need not wait for these signatures.
        let chain = KeyLog::verify(documents)?;
        self.held().note(tip, &chain);
        Ok(chain)
    }

    /// As [`Envelope::decode`]; a key of a chain that was verified before costs a comparison.
    ///
    /// # Errors
    /// As [`Envelope::decode`].
    pub fn decode(&self, bytes: &[u8], max_bytes: usize) -> Result<Envelope, Error> {
        Envelope::decode_with(bytes, max_bytes, |key| match self.held().has_key(&key) {
            true => Ok(PublicKey::checked_before(key)),
            false => PublicKey::from_bytes(key),
        })
    }

    fn held(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn chain<D: AsRef<[u8]>>(&mut self, tip: &ContentId, documents: &[D]) -> Option<KeyLog> {
        let is_same = |chain: &&KeyLog| chain.documents().eq(documents.iter().map(AsRef::as_ref));
        if let Some(chain) = self.young.chains.get(tip) {
            return Some(chain).filter(is_same).cloned();
        }
        let chain = self.old.chains.get(tip).filter(is_same)?.clone();
        self.note(*tip, &chain);
        Some(chain)
    }

    fn has_key(&self, key: &[u8; 32]) -> bool {
        self.young.keys.contains(key) || self.old.keys.contains(key)
    }

    fn note(&mut self, tip: ContentId, chain: &KeyLog) {
        if self.young.chains.len() >= KEY_CHAINS_MAX || self.young.bytes >= KEY_CHAINS_BYTES {
            self.old = std::mem::take(&mut self.young);
        }
        if self.young.chains.insert(tip, chain.clone()).is_none() {
            self.young.bytes += chain.documents().map(<[u8]>::len).sum::<usize>();
            let current = chain.current();
            self.young.keys.extend(current.keys.iter().chain(&current.confirm).map(|key| *key.as_bytes()));
        }
    }
}

#[cfg(test)]
#[path = "chains_tests.rs"]
mod tests;
