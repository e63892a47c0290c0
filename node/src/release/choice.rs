//! Which of two heads of a package counts, and which is not accepted at all.
//!
//! The order is that of the keys first, so that a key that was replaced cannot outrun its replacement, and then that of
//! the log. Every node decides alike, whatever the order in which it heard of the heads, unless the publisher signed two
//! different states for one place; then the two heads together are the proof of it.

use std::cmp::Ordering;

use super::{Error, Sequence, VerifiedHead};
use crate::content::ContentId;

/// Which of two heads counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first one.
    First,
    /// The second one.
    Second,
    /// They are the same.
    Same,
    /// Neither: the publisher signed two different states for one place.
    Equivocation,
    /// Two chains of keys, of which one was signed with keys that the other replaced: whichever was seen first counts, and
    /// the other one is refused.
    Fork,
}

/// What must be remembered of the newest head that was accepted, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The number of its current key document.
    pub key_n: u64,
    /// The fingerprint of that document ([`crate::identity::KeyLog::fingerprint`]).
    pub key_document: ContentId,
    /// Its sequence.
    pub sequence: Sequence,
    /// The id of its newest entry.
    pub entry: ContentId,
    /// The id of the first entry of its log.
    pub log: ContentId,
    /// The fingerprint of the release that it names as the latest ([`Release::fingerprint`](super::Release::fingerprint)).
    pub latest: Option<ContentId>,
    /// The fingerprint of what else it says that follows from the log: what was resolved, yanked and deprecated; none where that is
    /// nothing.
    pub follows: Option<ContentId>,
}

impl Seen {
    /// What the keys say of the log as it ends at its place: anything else that they say there contradicts it.
    fn said(&self) -> (ContentId, Option<ContentId>, Option<ContentId>) {
        (self.entry, self.latest, self.follows)
    }
}

/// Where a log ended once, as a head said that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the key document under which the head was signed.
    pub key_n: u64,
    /// The sequence.
    pub sequence: Sequence,
    /// The id of the entry there.
    pub entry: ContentId,
}

impl From<Seen> for Place {
    fn from(Seen { key_n, sequence, entry, .. }: Seen) -> Self {
        Self { key_n, sequence, entry }
    }
}

/// Compares two heads of one package.
///
/// The one with the later key document counts, then the one with the higher sequence. Of two that say the same of the log,
/// the greater bytes count, so that every node keeps the same one.
/// Of two chains of keys of which none continues the other, the one counts that [ends](crate::identity::KeyLog::ends) the other.
/// Otherwise they are an equivocation where keys that still count signed both, and a fork where not: whoever stole a key that was replaced contradicts nobody. An equivocation are also, under the same keys, two logs, and
/// two entries, latest releases or lists of what was resolved, yanked or deprecated of one sequence: anyone who installs without a
/// version takes what the head says, and all of it follows from the log.
pub fn compare(a: &VerifiedHead, b: &VerifiedHead) -> Choice {
    let (keys, others) = (a.key_log(), b.key_log());
    if !keys.agrees_with(others) {
        match (keys.ends(others), others.ends(keys)) {
            (true, false) => return Choice::First,
            (false, true) => return Choice::Second,
            (true, true) | (false, false) => {}
        }
        let contradict = keys.is_contradicted_by(others) || others.is_contradicted_by(keys);
        return if contradict { Choice::Equivocation } else { Choice::Fork };
    }
    let place = |head: &VerifiedHead| (head.key_log().current().n, head.head().sequence);
    let order = place(a).cmp(&place(b));
    let (p, q) = (a.seen(), b.seen());
    if p.key_n == q.key_n && p.log != q.log {
        return Choice::Equivocation;
    }
    if order.is_eq() && p.said() != q.said() {
        return Choice::Equivocation;
    }
    match order.then_with(|| a.bytes().cmp(b.bytes())) {
        Ordering::Greater => Choice::First,
        Ordering::Less => Choice::Second,
        Ordering::Equal => Choice::Same,
    }
}

/// Refuses a head that is older than, or contradicts, what was seen of its package.
///
/// # Errors
/// [`Error::Rollback`] for an earlier key document, or an earlier sequence under the same one; [`Error::Equivocation`] for
/// another document, log, entry, latest release or list of what was resolved or yanked in the place of one that was seen.
pub fn accept(candidate: &VerifiedHead, seen: Option<Seen>) -> Result<(), Error> {
    let Some(seen) = seen else { return Ok(()) };
    let keys = candidate.key_log();
    let n = keys.current().n;
    match keys.fingerprint(seen.key_n) {
        None => return Err(Error::Rollback { what: "key document", found: n, seen: seen.key_n }),
        Some(document) if document != seen.key_document => {
            return Err(Error::Equivocation { what: "key document", number: seen.key_n });
        }
        Some(_) if n > seen.key_n => return Ok(()),
        Some(_) => {}
    }
    let (head, offered) = (candidate.head(), candidate.seen());
    let contradicts = |what| Err(Error::Equivocation { what, number: seen.sequence.get() });
    if offered.log != seen.log {
        return contradicts("log");
    }
    match head.sequence.cmp(&seen.sequence) {
        Ordering::Less => {
            let (found, seen) = (head.sequence.get(), seen.sequence.get());
            Err(Error::Rollback { what: "sequence", found, seen })
        }
        Ordering::Equal if head.entry != seen.entry => contradicts("entry"),
        Ordering::Equal if offered.latest != seen.latest => contradicts("latest release"),
        Ordering::Equal if offered.follows != seen.follows => {
            contradicts("list of what was resolved or yanked")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::{
        code::Code,
        content::Codec,
        release::{
            Head, Release,
            fixture::{DAY, NOW, draft, head, publisher, release, releases, rotated},
        },
    };

    /// `a` wins over `b`, whichever is asked about first.
    fn wins(a: &VerifiedHead, b: &VerifiedHead) {
        assert_eq!((compare(a, b), compare(b, a)), (Choice::First, Choice::Second));
    }

    fn contradicts(a: &VerifiedHead, b: &VerifiedHead) {
        assert_eq!((compare(a, b), compare(b, a)), (Choice::Equivocation, Choice::Equivocation));
    }

    #[test]
    fn the_higher_sequence_wins_whenever_it_was_made() {
        let publisher = publisher(1);
        let (one, two) = (head(&publisher, &["1.0.0"]), releases(&publisher, &["1.0.0", "1.1.0"]));
        let earlier = Head { released_at: NOW.minus(DAY), ..draft(&publisher, &two) };
        wins(&earlier.sign(&publisher).unwrap(), &one);
        assert_eq!(compare(&one, &one.clone()), Choice::Same);
    }

    #[test]
    fn the_later_key_document_wins_over_any_sequence() {
        let old = publisher(1);
        let new = rotated(&old, 2);
        let long = head(&old, &["1.0.0", "1.1.0", "1.2.0"]);
        let after = draft(&new, &releases(&old, &["1.0.0"])).sign(&new).unwrap();
        wins(&after, &long);
    }

    #[test]
    fn of_two_heads_of_one_entry_every_node_keeps_the_same_one() {
        let publisher = publisher(1);
        let first = draft(&publisher, &releases(&publisher, &["1.0.0"]));
        let other = Head { description: "Another text".to_owned(), ..first.clone() };
        let later = Head { released_at: NOW.plus(DAY), ..first.clone() };
        let mut heads = [first, other, later].map(|head| head.sign(&publisher).unwrap());
        heads.sort_by(|a, b| a.bytes().cmp(b.bytes()));
        wins(&heads[1], &heads[0]);
        wins(&heads[2], &heads[1]);
        wins(&heads[2], &heads[0]);
    }

    #[test]
    fn two_entries_in_one_place_are_an_equivocation() {
        let publisher = publisher(1);
        contradicts(&head(&publisher, &["1.0.0"]), &head(&publisher, &["2.0.0"]));
        contradicts(&head(&publisher, &["1.0.0", "1.1.0"]), &head(&publisher, &["1.0.0", "2.0.0"]));
    }

    #[test]
    fn two_contents_of_one_state_are_an_equivocation() {
        let publisher = publisher(1);
        let one = draft(&publisher, &releases(&publisher, &["1.0.0", "1.1.0"]));
        let longer = draft(&publisher, &releases(&publisher, &["1.0.0", "1.1.0", "1.2.0"]));
        let latest = Release { manifest: ContentId::of(Codec::Raw, b"another"), ..release("1.1.0") };
        let sign = |head: Head| head.sign(&publisher).unwrap();
        let other = ContentId::of(Codec::DagCbor, b"another");
        let first = sign(one.clone());
        for second in [
            sign(Head { latest: Some(latest), released_at: NOW.plus(DAY / 2), ..one.clone() }),
            sign(Head { latest: None, ..one.clone() }),
            sign(Head { resolved: ByteBuf::from([1; 8]), ..one.clone() }),
            sign(Head { yanked: vec![semver::Version::new(1, 0, 0)], ..one.clone() }),
            sign(Head { deprecated: Some("not so".to_owned()), ..one.clone() }),
            sign(Head { log: other, ..one }),
            // Also in another place: no log has two beginnings.
            sign(Head { log: other, ..longer }),
        ] {
            contradicts(&first, &second);
            for (candidate, seen) in [(&first, &second), (&second, &first)] {
                let error = accept(candidate, Some(seen.seen())).unwrap_err();
                assert_eq!(error.code(), Code::Equivocation);
            }
        }
    }

    #[test]
    fn of_two_key_documents_in_one_place_the_one_seen_first_stays() {
        let old = publisher(1);
        let thief = rotated(&rotated(&old, 8), 9);
        let owner = rotated(&old, 2);
        let log = releases(&old, &["1.0.0"]);
        let by = |publisher| draft(publisher, &log).sign(publisher).unwrap();
        // The stolen first key signs a longer chain of its own, which must not outrun the owner's.
        // Neither is a contradiction of the owner's: the key that signed both was replaced.
        assert_eq!(compare(&by(&thief), &by(&owner)), Choice::Fork);
        assert_eq!(compare(&by(&owner), &by(&thief)), Choice::Fork);
        let error = accept(&by(&thief), Some(by(&owner).seen())).unwrap_err();
        assert_eq!(error.code(), Code::Equivocation);
        let error = accept(&by(&owner), Some(by(&thief).seen())).unwrap_err();
        assert_eq!(error.code(), Code::Rollback);
    }

    #[test]
    fn nothing_older_than_what_was_seen_is_accepted() {
        let old = publisher(1);
        let new = rotated(&old, 2);
        let (one, two) = (head(&old, &["1.0.0"]), head(&old, &["1.0.0", "1.1.0"]));
        let after = draft(&new, &releases(&old, &["1.0.0"])).sign(&new).unwrap();
        accept(&one, None).unwrap();
        accept(&one, Some(one.seen())).unwrap();
        accept(&two, Some(one.seen())).unwrap();
        accept(&after, Some(two.seen())).unwrap();
        for (late, seen) in [(&one, &two), (&one, &after), (&two, &after)] {
            assert_eq!(accept(late, Some(seen.seen())).unwrap_err().code(), Code::Rollback);
        }
    }

    #[test]
    fn another_entry_in_the_place_of_the_one_seen_is_refused() {
        let publisher = publisher(1);
        let error =
            accept(&head(&publisher, &["2.0.0"]), Some(head(&publisher, &["1.0.0"]).seen())).unwrap_err();
        assert_eq!(error.code(), Code::Equivocation);
        assert!(error.hint().contains("do not install"));
    }

    #[test]
    fn accepting_and_choosing_agree() {
        let old = publisher(1);
        let new = rotated(&old, 2);
        let heads = [
            head(&old, &["1.0.0"]),
            head(&old, &["2.0.0"]),
            head(&old, &["1.0.0", "1.1.0"]),
            draft(&new, &releases(&old, &["1.0.0"])).sign(&new).unwrap(),
            draft(&rotated(&old, 3), &releases(&old, &["1.0.0"])).sign(&rotated(&old, 3)).unwrap(),
        ];
        for a in &heads {
            for b in &heads {
                let accepted = accept(b, Some(a.seen())).map_err(|error| error.code());
                match compare(a, b) {
                    Choice::First => assert_eq!(accepted, Err(Code::Rollback)),
                    Choice::Equivocation | Choice::Fork => assert_eq!(accepted, Err(Code::Equivocation)),
                    Choice::Second | Choice::Same => assert_eq!(accepted, Ok(())),
                }
            }
        }
    }
}
