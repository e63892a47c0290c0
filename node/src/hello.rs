//! What nodes say when they meet: the time on their clock, and which run of a node speaks.
//!
//! A run is one life of a process: from its start to its end. Two runs that speak for one node key at one time are two nodes with
//! one key, such as a state folder that was copied, and neither can see the other. A third node can: it hands the words of each to
//! the other. Words are signed with the node's key, so that nobody else can make a node believe in a twin.
//!
//! Pure: no clock, no network. The times that peers tell are judged elsewhere.

use std::collections::BTreeSet;

use libp2p::identity::{Keypair, PublicKey};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{limits::HELLO_FRESH, time::Timestamp};

/// The protocol id.
pub const PROTOCOL: &str = "/ggen/hello/1";
/// What is signed begins with this.
const CONTEXT: &[u8] = b"ggen/hello/v1\0";
/// Bytes of [`Word::to_bytes`].
const WORD_BYTES: usize = 16 + 8 + 64;

/// What both sides say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The time on the clock of the node that speaks.
    pub time: Timestamp,
    /// Which run of it speaks: a [`Word`].
    pub word: ByteBuf,
    /// The words of all runs that speak for the key of the listener, where there are several.
    pub others: Vec<ByteBuf>,
}

/// One life of a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run([u8; 16]);

impl Run {
    /// Bytes of a run.
    pub const BYTES: usize = 16;

    /// The run with these bytes, which are random.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// The run of this process, and those before it on the same state folder.
#[derive(Debug, Clone)]
pub struct Runs {
    own: Run,
    earlier: BTreeSet<Run>,
}

impl Runs {
    /// This run, and those before it.
    pub fn new(own: Run, earlier: impl IntoIterator<Item = Run>) -> Self {
        Self { own, earlier: earlier.into_iter().collect() }
    }

    /// This run.
    pub fn own(&self) -> Run {
        self.own
    }

    /// Whether a word proves that another node speaks with this node's key at `now`: it is signed with it, by a run that never was
    /// on this state folder, a moment ago.
    pub fn is_twin(&self, word: &Word, key: &PublicKey, now: Timestamp) -> bool {
        let age = now.since(word.at).max(word.at.since(now));
        word.run != self.own && !self.earlier.contains(&word.run) && age <= HELLO_FRESH && word.is_by(key)
    }
}

/// Says, signed with the node's key, that a run of it spoke at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    run: Run,
    at: Timestamp,
    signature: Vec<u8>,
}

impl Word {
    /// Signs a word; none where the key cannot sign.
    pub fn sign(key: &Keypair, run: Run, at: Timestamp) -> Option<Self> {
        let signature = key.sign(&signed(run, at)).ok()?;
        Some(Self { run, at, signature })
    }

    /// Reads a word, unverified.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != WORD_BYTES {
            return None;
        }
        let (run, rest) = bytes.split_first_chunk()?;
        let (at, signature) = rest.split_first_chunk()?;
        let at = Timestamp::from_secs(u64::from_be_bytes(*at));
        Some(Self { run: Run(*run), at, signature: signature.to_vec() })
    }

    /// The word as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.run.0[..], &self.at.as_secs().to_be_bytes(), &self.signature].concat()
    }

    /// Which run spoke.
    pub fn run(&self) -> Run {
        self.run
    }

    /// When it was signed, by the clock of the node that spoke.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    fn is_by(&self, key: &PublicKey) -> bool {
        key.verify(&signed(self.run, self.at), &self.signature)
    }
}

fn signed(run: Run, at: Timestamp) -> Vec<u8> {
    [CONTEXT, &run.0, &at.as_secs().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const fn run(n: u8) -> Run {
        Run([n; 16])
    }

    #[test]
    fn only_a_fresh_word_of_a_run_that_never_was_here_by_the_same_key_is_a_twin() {
        let (key, stranger) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let runs = Runs::new(run(1), [run(2), run(3)]);
        let is_twin = |signer: &Keypair, n: u8, at: Timestamp| {
            let word = Word::sign(signer, run(n), at).unwrap();
            let sent = Word::from_bytes(&word.to_bytes()).unwrap();
            assert_eq!(sent, word);
            runs.is_twin(&sent, &key.public(), NOW)
        };
        assert!(is_twin(&key, 9, NOW));
        assert!(is_twin(&key, 9, NOW.minus(HELLO_FRESH)));
        assert!(!is_twin(&key, 1, NOW), "itself");
        assert!(!is_twin(&key, 3, NOW), "the run before, whose connection is not dead yet");
        assert!(!is_twin(&stranger, 9, NOW), "anybody can say so");
        assert!(!is_twin(&key, 9, NOW.minus(HELLO_FRESH + Duration::from_secs(1))), "a replay");
        assert!(!is_twin(&key, 9, NOW.plus(HELLO_FRESH + Duration::from_secs(1))));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused_and_never_believed(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = Keypair::ed25519_from_bytes([7; 32]).unwrap();
            if let Some(word) = Word::from_bytes(&bytes) {
                prop_assert_eq!(word.to_bytes(), bytes);
                prop_assert!(!Runs::new(run(1), []).is_twin(&word, &key.public(), word.at()));
            }
        }
    }
}
