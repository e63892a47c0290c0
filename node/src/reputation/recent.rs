//! Signs of life that wait for the next write.

use std::collections::BTreeMap;

use libp2p::PeerId;
use rusqlite::Transaction;

use super::{Error, ledger};
use crate::{limits::RECENT_PEERS_MAX, time::Timestamp};

/// When peers were last heard of, gathered in memory so that a message costs no write.
#[derive(Debug, Default)]
pub struct Recent {
    seen: BTreeMap<PeerId, Timestamp>,
}

impl Recent {
    /// Makes an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes an authenticated message of `peer`; tells whether the batch is full and wants to be written.
    ///
    /// A full batch takes no peers it does not hold already: a missed sign of life is harmless, growth is not.
    pub fn note(&mut self, peer: PeerId, now: Timestamp) -> bool {
        if self.seen.len() < RECENT_PEERS_MAX || self.seen.contains_key(&peer) {
            self.seen.insert(peer, now);
        }
        self.is_full()
    }

    /// Whether the batch wants to be written.
    pub fn is_full(&self) -> bool {
        self.seen.len() >= RECENT_PEERS_MAX
    }

    /// Peers that wait.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Writes the batch and empties it; gives the number of peers written.
    ///
    /// # Errors
    /// [`Error::Database`]; the batch is kept then, for the next attempt.
    pub fn flush(&mut self, tx: &Transaction<'_>, now: Timestamp) -> Result<usize, Error> {
        for (peer, seen) in &self.seen {
            ledger::saw(tx, peer, (*seen).min(now), now)?;
        }
        let written = self.seen.len();
        self.seen.clear();
        Ok(written)
    }
}
