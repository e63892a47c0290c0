//! What nodes say when they meet: the time on their clock, and which run of a node speaks.
//!
//! A run is one life of a process: from its start to its end. Two runs that speak for one node key at one time are two nodes with
//! one key, such as a state folder that was copied, and neither can see the other. A third node can: it hands the words of each to
//! the other. Words are signed with the node's key, so that nobody else can make a node believe in a twin.
//!
//! The runs before this one on a state folder are remembered: a peer may still hold the connection of one that has ended. The folder
//! may also be a copy of one whose node runs on. Only the time tells: what ended before this run began signs nothing after that.
//!
//! Pure: no clock, no network. The times that peers tell are judged elsewhere.

use std::{collections::BTreeSet, time::Duration};

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

    /// Which other run a word shows to have spoken with this node's key a moment before `now`: it is signed with the key. This run is
    /// `running` for so long.
    pub fn other(&self, word: &Word, key: &PublicKey, now: Timestamp, running: Duration) -> Option<Other> {
        let age = now.since(word.at).max(word.at.since(now));
        if word.run == self.own || age > HELLO_FRESH || !word.is_by(key) {
            return None;
        }
        let is_since = now.since(word.at) + SECOND < running;
        match self.earlier.contains(&word.run) && !is_since {
            true => Some(Other::Earlier(word.run)),
            false => Some(Other::Twin(word.run)),
        }
    }
}

/// What is told in whole seconds may be as much younger than it seems.
const SECOND: Duration = Duration::from_secs(1);

/// Another run that speaks with the key of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// It runs now, or did a moment ago, while this one did: another node with the key.
    Twin(Run),
    /// It was on this state folder, and spoke before this run began: it has ended, or this folder is a copy.
    Earlier(Run),
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
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const RUNNING: Duration = Duration::from_secs(30);
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
            let other = runs.other(&sent, &key.public(), NOW, RUNNING);
            other == Some(Other::Twin(run(n)))
        };
        assert!(is_twin(&key, 9, NOW));
        assert!(is_twin(&key, 9, NOW.minus(HELLO_FRESH)));
        assert!(!is_twin(&key, 1, NOW), "itself");
        let before = NOW.minus(RUNNING);
        assert!(!is_twin(&key, 3, before), "the run before, whose connection is not dead yet");
        assert!(!is_twin(&key, 3, before.plus(SECOND)), "times are whole seconds");
        let word = Word::sign(&key, run(3), before).unwrap();
        let earlier = runs.other(&word, &key.public(), NOW, RUNNING);
        assert_eq!(earlier, Some(Other::Earlier(run(3))), "it may have ended, or not");
        assert!(is_twin(&key, 3, before.plus(SECOND * 2)), "it runs on: this folder is a copy of one in use");
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
                let other = Runs::new(run(1), []).other(&word, &key.public(), word.at(), RUNNING);
                prop_assert_eq!(other, None);
            }
        }
    }
}
