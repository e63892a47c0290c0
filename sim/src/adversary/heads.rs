//! Heads that no honest node makes.

use ggen_marketplace::{
    content::{Codec, ContentId},
    identity::{Context, Publisher},
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, Sequence, VerifiedHead},
    time::Timestamp,
};

/// A head of one release of content that nobody holds, made at `created`.
pub(super) fn made_up(publisher: &Publisher, name: &str, created: Timestamp) -> VerifiedHead {
    made_of(publisher, name, name, created)
}

/// The same of content that `words` stand for: other words under one name contradict each other.
pub(super) fn made_of(publisher: &Publisher, name: &str, words: &str, created: Timestamp) -> VerifiedHead {
    let package = PackageId { publisher: publisher.id(), name: name.parse().expect("a valid name") };
    let mut log = Log::empty(package);
    let release = Release {
        version: "1.0.0".parse().expect("a valid version"),
        manifest: ContentId::of(Codec::Raw, words.as_bytes()),
        root: ContentId::of(Codec::DagPb, words.as_bytes()),
        size: 1,
        files: 1,
    };
    let entry = log.next(Kind::Release(release), publisher, created).expect("a log can begin");
    log.push(entry).expect("its own next entry");
    let labels = Labels { description: "Not worth a look".to_owned(), ..Labels::default() };
    let head = Head::of(&log, labels, publisher).expect("the log has an entry");
    head.sign(publisher).expect("a valid head")
}

/// The head of the same log at another place of it, after the first, by its own publisher.
pub(super) fn at_place(of: &VerifiedHead, publisher: &Publisher, sequence: u64) -> VerifiedHead {
    let mut head = of.head().clone();
    head.sequence = Sequence::new(sequence);
    head.entry = ContentId::of(Codec::DagCbor, &sequence.to_be_bytes());
    head.sign(publisher).expect("a valid head")
}

/// A head under the name of the publisher of `of`, signed by somebody else.
pub(super) fn under_anothers_name(of: &VerifiedHead, forger: &Publisher) -> Vec<u8> {
    let mut head = of.head().clone();
    head.description = "Taken over".to_owned();
    head.sequence = head.sequence.next().unwrap_or(head.sequence);
    let payload = serde_ipld_dagcbor::to_vec(&head).expect("a head can be encoded");
    forger.seal(Context::Head, payload).encode()
}

/// The head with one bit changed, so that its signature does not hold.
pub(super) fn damaged(of: &VerifiedHead, bit: usize) -> Vec<u8> {
    let mut bytes = of.bytes().to_vec();
    // The signature stands at the end of the envelope.
    let at = bytes.len() - 1 - bit % 64;
    bytes[at] ^= 1;
    bytes
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::release::{Choice, choice};

    use super::*;

    fn publisher(seed: u8) -> Publisher {
        Publisher::from_secret([seed; 32], Timestamp::from_secs(1_600_000_000))
    }

    #[test]
    fn forged_heads_are_refused_and_made_up_ones_are_valid() {
        let now = Timestamp::from_secs(1_700_000_000);
        let real = made_up(&publisher(1), "real", now);
        assert!(VerifiedHead::verify(real.bytes(), now).is_ok());
        assert!(VerifiedHead::verify(&under_anothers_name(&real, &publisher(2)), now).is_err());
        for bit in 0..64 {
            assert!(VerifiedHead::verify(&damaged(&real, bit), now).is_err(), "{bit}");
        }
    }

    #[test]
    fn the_last_place_of_a_log_is_valid_and_no_place_comes_after_it() {
        let (own, now) = (publisher(1), Timestamp::from_secs(1_700_000_000));
        let first = made_up(&own, "wrapped", now);
        let [second, last] = [1, u64::MAX].map(|place| at_place(&first, &own, place));
        assert_eq!(last.head().sequence.next(), None);
        assert_eq!(choice::compare(&first, &second), Choice::Second);
        for wrapped in [&first, &second] {
            assert_eq!(choice::compare(&last, wrapped), Choice::First);
            assert!(choice::accept(wrapped, Some(last.seen())).is_err());
        }
        let other = made_of(&own, "wrapped", "other words", now);
        assert_eq!(choice::compare(&first, &other), Choice::Equivocation);
    }
}
