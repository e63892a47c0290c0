//! A log on its way: entries that come from the newest back, before all of them are here.

use super::{Error, SignedEntry};
use crate::limits::{LOG_BYTES_MAX, LOG_ENTRIES_MAX};

/// Entries of a log that are here so far, no more of them than a log may have.
///
/// Entries are open, so that each may be filled up with fields that nobody knows; their bytes are therefore bounded together,
/// not only one by one.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The newest first.
    entries: Vec<SignedEntry>,
    bytes: usize,
}

impl Gathered {
    /// Adds the entry that the last one names as the one before it.
    ///
    /// # Errors
    /// [`Error::Limit`] where no log may have so many entries, or so many bytes.
    pub fn push(&mut self, entry: SignedEntry) -> Result<(), Error> {
        let (entries, bytes) = (self.entries.len() + 1, self.bytes + entry.block().bytes().len());
        let over =
            |what, found: usize, max: usize| Error::Limit { what, found: found as u64, max: max as u64 };
        if entries > LOG_ENTRIES_MAX {
            return Err(over("a log", entries, LOG_ENTRIES_MAX));
        }
        if bytes > LOG_BYTES_MAX {
            return Err(over("the bytes of a log", bytes, LOG_BYTES_MAX));
        }
        self.bytes = bytes;
        self.entries.push(entry);
        Ok(())
    }

    /// The entry that came last.
    pub fn oldest(&self) -> Option<&SignedEntry> {
        self.entries.last()
    }

    /// An entry by how many newer ones there are.
    pub fn from_newest(&self, back: usize) -> Option<&SignedEntry> {
        self.entries.get(back)
    }

    /// The entries from the first on.
    pub fn into_entries(mut self) -> Vec<SignedEntry> {
        self.entries.reverse();
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::{
        code::Code,
        identity::{Context, canonical},
        limits::{ENTRY_BYTES_MAX, KEYS_MAX, REASON_BYTES_MAX},
        release::{
            Entry, Kind, Sequence,
            fixture::{NOW, publisher, releases},
        },
    };

    fn entry(message: &str) -> Entry {
        let publisher = publisher(1);
        Entry {
            version: super::super::entry::VERSION,
            publisher: publisher.id(),
            name: "pack".parse().unwrap(),
            sequence: Sequence::new(0),
            previous: None,
            key_n: 0,
            kind: Kind::Tombstone { reason: message.to_owned() },
            created: NOW,
        }
    }

    #[test]
    fn entries_come_out_from_the_first_on() {
        let log = releases(&publisher(1), &["1.0.0", "1.1.0", "1.2.0"]);
        let mut gathered = Gathered::default();
        log.entries().iter().rev().for_each(|entry| gathered.push(entry.clone()).unwrap());
        assert_eq!(gathered.into_entries(), log.entries());
    }

    #[test]
    fn entries_that_are_filled_up_are_bounded_together() {
        #[derive(Serialize)]
        struct Padded {
            #[serde(flatten)]
            entry: Entry,
            padding: String,
        }
        let publisher = publisher(1);
        let padded = Padded { entry: entry(""), padding: "x".repeat(ENTRY_BYTES_MAX - 1024) };
        let bytes = publisher.seal(Context::Entry, canonical::encode(&padded)).encode();
        let padded = SignedEntry::decode_and_verify(&bytes, publisher.key_log()).unwrap();
        let mut gathered = Gathered::default();
        let error = (0..LOG_ENTRIES_MAX).find_map(|_| gathered.push(padded.clone()).err()).unwrap();
        assert_eq!(error.code(), Code::Limit);
        assert!(gathered.entries.iter().map(|it| it.block().bytes().len()).sum::<usize>() <= LOG_BYTES_MAX);
    }

    #[test]
    fn the_longest_log_that_we_would_sign_is_taken() {
        let largest = SignedEntry::sign(&entry(&"x".repeat(REASON_BYTES_MAX)), &publisher(1)).unwrap();
        // All keys that there may be, and a name of full length.
        let bytes = largest.block().bytes().len() + KEYS_MAX * 112 + 64;
        assert!(bytes * LOG_ENTRIES_MAX <= LOG_BYTES_MAX, "{bytes}");
        let mut gathered = Gathered::default();
        (0..LOG_ENTRIES_MAX).for_each(|_| gathered.push(largest.clone()).unwrap());
        assert_eq!(gathered.push(largest).unwrap_err().code(), Code::Limit);
    }
}
