//! What an entry says of the one before it, before anybody has checked its signature.

use super::{Entry, Sequence};
use crate::{
    content::ContentId,
    identity::{Envelope, canonical},
    limits::ENTRY_BYTES_MAX,
    package::PackageId,
};

/// The way back from an entry. Nothing in it is verified: it is good for handing on what others will verify, and for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    /// Whose log it says that it is in.
    pub package: PackageId,
    /// Its place in that.
    pub sequence: Sequence,
    /// The entry before it, and its place.
    pub previous: Option<(ContentId, Sequence)>,
}

impl Back {
    /// Reads it from a signed entry as encoded; nothing where that is no entry.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let envelope = Envelope::decode(bytes, ENTRY_BYTES_MAX).ok()?;
        let entry: Entry = canonical::decode_open("a log entry", envelope.payload()).ok()?;
        let before = entry.sequence.get().checked_sub(1).map(Sequence::new);
        Some(Self {
            package: entry.package_id(),
            sequence: entry.sequence,
            previous: entry.previous.zip(before),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::fixture::{publisher, releases};

    #[test]
    fn an_entry_leads_to_the_one_before_it() {
        let log = releases(&publisher(1), &["1.0.0", "1.1.0"]);
        let [first, second] = [0, 1].map(|at| log.entries()[at].clone());
        let back = Back::read(second.block().bytes()).unwrap();
        assert_eq!(&back.package, log.package());
        assert_eq!((back.sequence.get(), back.previous), (1, Some((first.id(), Sequence::new(0)))));
        assert_eq!(Back::read(first.block().bytes()).unwrap().previous, None);
        for bad in [&b""[..], b"\xa0", &second.block().bytes()[1..]] {
            assert_eq!(Back::read(bad), None);
        }
    }
}
