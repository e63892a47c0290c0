//! How fresh the newest known head of a package is: what its publisher's last word says of it.
//!
//! Pure: the clock is an argument. Nothing here makes a head invalid; it is said, warned of, or refused on demand.

use std::time::Duration;

use super::{Head, VerifiedConfirmation, confirmation::Digest, confirmation::Heads};
use crate::{
    identity::KeyLog,
    limits::{CLOCK_SKEW_MAX, CONFIRM_GRACE},
    time::Timestamp,
};

/// What is known of a head's freshness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When its latest version was released.
    pub released_at: Timestamp,
    /// When its publisher said last that this head is its newest: by a confirmation, or by the release itself.
    pub confirmed_at: Timestamp,
    /// By when its publisher promised to confirm again; none where no confirmation is known.
    pub next_by: Option<Timestamp>,
    /// How the two stand to each other.
    pub word: Word,
}

/// What the publisher's last confirmation says of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// That it is the newest.
    Confirmed,
    /// Nothing: it was released after the last confirmation, or signed again under later keys.
    Later,
    /// Nothing: no confirmation is known, or not what it confirms.
    Nothing,
    /// That another one is, which this node has not got.
    Superseded,
    /// Nothing that counts: its publisher signed two states for one place, and only a resolution says which one is the newest.
    Contested,
}

impl Freshness {
    /// Judges a head by the newest confirmation of its publisher, and by the list of heads that this names.
    pub fn of(
        head: &Head,
        digest: Digest,
        confirmation: Option<&VerifiedConfirmation>,
        list: Option<&Heads>,
    ) -> Self {
        // Of the package as a whole, the newest entry is what is said last, whatever it is.
        let (released_at, said_at) = (head.release_time(), head.released_at);
        let silent = Self { released_at, confirmed_at: said_at, next_by: None, word: Word::Nothing };
        let Some(held) = confirmation.filter(|held| held.publisher() == head.publisher) else {
            return silent;
        };
        let said = held.confirmation();
        let promised = Self { next_by: Some(said.next_by), ..silent };
        match held.confirms(digest, list) {
            Some(true) => Self { confirmed_at: said.as_of.max(said_at), word: Word::Confirmed, ..promised },
            Some(false) if said_at >= said.as_of => Self { word: Word::Later, ..promised },
            // A head that is signed again keeps the time of its entry, and the document of its new key says since when it can have been.
            // A confirmation under earlier keys cannot speak of it.
            Some(false) => match signed_again_at(head, held) {
                Some(at) => {
                    Self { confirmed_at: at.min(said.next_by).max(said_at), word: Word::Later, ..promised }
                }
                None => Self { word: Word::Superseded, ..promised },
            },
            // It confirms something that is not here: its promise counts all the same.
            None => promised,
        }
    }

    /// The same of a package that is frozen, as long as it is.
    pub fn contested(self) -> Self {
        Self { confirmed_at: self.released_at, next_by: None, word: Word::Contested, ..self }
    }

    /// Whether its publisher should have said more by now.
    ///
    /// A release is a word of its publisher too: where no confirmation is known, it is overdue a day later.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        match (self.word, self.next_by) {
            (Word::Superseded | Word::Contested, _) => true,
            (_, Some(next_by)) => now > next_by.plus(CLOCK_SKEW_MAX),
            (_, None) => now > self.confirmed_at.plus(CONFIRM_GRACE),
        }
    }

    /// How long ago it was confirmed.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.confirmed_at)
    }

    /// Whether it was confirmed within `max`, and nothing newer is known to exist.
    pub fn is_within(&self, max: Duration, now: Timestamp) -> bool {
        !matches!(self.word, Word::Superseded | Word::Contested) && self.age(now) <= max
    }
}

/// When the key document was made under which a head is signed, where a confirmation was made under an earlier one of the same chain.
fn signed_again_at(head: &Head, confirmation: &VerifiedConfirmation) -> Option<Timestamp> {
    let (keys, before) = (KeyLog::verify(&head.keys).ok()?, confirmation.key_log());
    let is_later = keys.current().n > before.current().n && keys.agrees_with(before);
    is_later.then_some(keys.current().created)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{
        Confirmation,
        fixture::{DAY, NOW, draft, head, publisher, releases},
    };

    #[test]
    fn what_is_said_of_a_head_follows_from_the_last_confirmation_alone() {
        let publisher = publisher(1);
        let old = head(&publisher, &["1.0.0"]);
        let new = Head {
            released_at: NOW.plus(DAY),
            ..draft(&publisher, &releases(&publisher, &["1.0.0", "1.1.0"]))
        };
        let new = new.sign(&publisher).unwrap();
        let made =
            |heads: &Heads, as_of| Confirmation::make(&publisher, heads, None, as_of, DAY * 10).unwrap().0;
        let (of_old, of_new) =
            (made(&Heads::of([&old]), NOW.plus(DAY / 2)), made(&Heads::of([&new]), NOW.plus(DAY * 2)));
        let stranger = self::publisher(2);
        let foreign = Confirmation::make(&stranger, &Heads::of([&old]), None, NOW, DAY).unwrap().0;
        let judged = |head: &crate::release::VerifiedHead, by| {
            Freshness::of(head.head(), Digest::of(head.bytes()), by, None)
        };
        // Head, confirmation: word, confirmed at (days), overdue after (days).
        for (head, by, word, confirmed_at, overdue_after) in [
            (&old, None, Word::Nothing, NOW, Some(NOW.plus(CONFIRM_GRACE))),
            (&old, Some(&foreign), Word::Nothing, NOW, Some(NOW.plus(CONFIRM_GRACE))),
            (
                &old,
                Some(&of_old),
                Word::Confirmed,
                NOW.plus(DAY / 2),
                Some(NOW.plus(DAY * 21 / 2 + CLOCK_SKEW_MAX)),
            ),
            (&old, Some(&of_new), Word::Superseded, NOW, None),
            (
                &new,
                Some(&of_new),
                Word::Confirmed,
                NOW.plus(DAY * 2),
                Some(NOW.plus(DAY * 12 + CLOCK_SKEW_MAX)),
            ),
            (&new, Some(&of_old), Word::Later, NOW.plus(DAY), Some(NOW.plus(DAY * 21 / 2 + CLOCK_SKEW_MAX))),
        ] {
            let freshness = judged(head, by);
            assert_eq!((freshness.word, freshness.confirmed_at), (word, confirmed_at));
            match overdue_after {
                Some(last) => {
                    assert!(
                        !freshness.is_overdue(last)
                            && freshness.is_overdue(last.plus(Duration::from_secs(1)))
                    );
                    let age = last.since(confirmed_at);
                    assert!(freshness.is_within(age, last));
                    assert!(!freshness.is_within(age - Duration::from_secs(1), last));
                }
                None => assert!(freshness.is_overdue(NOW) && !freshness.is_within(Duration::MAX, NOW)),
            }
        }
    }

    #[test]
    fn a_head_that_is_signed_again_under_later_keys_is_not_superseded_by_what_was_confirmed_before() {
        let publisher = publisher(1);
        let log = releases(&publisher, &["1.0.0"]);
        let old = draft(&publisher, &log).sign(&publisher).unwrap();
        let made = |by: &crate::identity::Publisher, head: &crate::release::VerifiedHead, as_of| {
            Confirmation::make(by, &Heads::of([head]), None, as_of, DAY * 10).unwrap().0
        };
        let before = made(&publisher, &old, NOW.plus(DAY));
        let rotated = |day: u32| {
            publisher.rotated(crate::identity::SecretKey::from_bytes(&[9; 32]), NOW.plus(DAY * day)).unwrap()
        };
        let later = rotated(2);
        let again = draft(&later, &log).sign(&later).unwrap();
        let of = |head: &crate::release::VerifiedHead, by| {
            let freshness = Freshness::of(head.head(), Digest::of(head.bytes()), Some(by), None);
            (freshness.word, freshness.confirmed_at)
        };
        assert_eq!(of(&again, &before), (Word::Later, NOW.plus(DAY * 2)));
        let ahead = rotated(400);
        let ahead = draft(&ahead, &log).sign(&ahead).unwrap();
        assert_eq!(of(&ahead, &before), (Word::Later, NOW.plus(DAY * 11)), "no fresher than was promised");
        // Under the later keys a confirmation speaks of it, and of the one before.
        let other = Head { description: "other".to_owned(), ..draft(&later, &log) }.sign(&later).unwrap();
        let after = made(&later, &other, NOW.plus(DAY * 3));
        for head in [&old, &again] {
            assert_eq!(of(head, &after).0, Word::Superseded);
        }
        // A chain of keys that another one contradicts is not its continuation.
        let forked =
            publisher.rotated(crate::identity::SecretKey::from_bytes(&[8; 32]), NOW.plus(DAY)).unwrap();
        let forked = made(&forked, &old, NOW.plus(DAY));
        assert_eq!(of(&again, &forked).0, Word::Superseded);
    }

    #[test]
    fn a_list_that_is_not_here_or_is_another_confirms_nothing() {
        let publisher = publisher(1);
        let heads: Vec<_> = (0..=crate::limits::CONFIRMED_LISTED_MAX)
            .map(|n| {
                let description = format!("number {n}");
                let draft = draft(&publisher, &releases(&publisher, &["1.0.0"]));
                Head { description, ..draft }.sign(&publisher).unwrap()
            })
            .collect();
        let all = Heads::of(&heads);
        let (made, block) = Confirmation::make(&publisher, &all, None, NOW.plus(DAY), DAY).unwrap();
        let list = Heads::from_bytes(block.unwrap().bytes()).unwrap();
        let word = |list: Option<&Heads>| {
            Freshness::of(heads[3].head(), Digest::of(heads[3].bytes()), Some(&made), list).word
        };
        assert_eq!(list, all);
        assert_eq!((word(None), word(Some(&list))), (Word::Nothing, Word::Confirmed));
        assert_eq!(word(Some(&Heads::of(&heads[1..]))), Word::Nothing, "the root does not fit");
    }
}
