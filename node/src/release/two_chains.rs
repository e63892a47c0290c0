//! Two chains of key documents of one publisher that go apart: after the last document that both have, each names other keys.
//!
//! Whoever holds the keys of a document can name the next one: its owner, and anyone who stole them, also long after the owner
//! replaced them. No signature tells the two apart. A node follows the chain that it met first; two heads that show
//! both chains are a proof of it, which is kept and passed on, so that nobody follows either of them unknowingly.
//!
//! Recovery keys end it ([`KeyLog::ends`]), and prevent it: where the first document names them, a stolen release key begins no
//! second chain at all.

use super::VerifiedHead;
use crate::{
    content::ContentId,
    identity::{KeyLog, PublicKey, PublisherId},
    time::Timestamp,
};

/// Two chains of keys of one publisher, neither of which continues or ends the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoChains {
    /// The publisher.
    pub publisher: PublisherId,
    /// The number of the first document that they do not have in common, at least one.
    pub n: u64,
    /// What each of them has there, ascending by document.
    pub sides: [ChainSide; 2],
}

/// What one of the two chains has where they go apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainSide {
    /// The fingerprint of the document ([`KeyLog::fingerprint`]).
    pub document: ContentId,
    /// When it was made, as its maker says.
    pub created: Timestamp,
    /// The keys that it names.
    pub keys: Vec<PublicKey>,
}

impl TwoChains {
    /// What two chains are together; nothing where one continues the other, where one ends the other, or where they are of two publishers.
    pub fn of(first: &KeyLog, second: &KeyLog) -> Option<Self> {
        if first.publisher() != second.publisher() || first.ends(second) || second.ends(first) {
            return None;
        }
        let n = first.parts_from(second)?;
        let mut sides = [ChainSide::of(first, n)?, ChainSide::of(second, n)?];
        sides.sort();
        Some(Self { publisher: first.publisher(), n, sides })
    }

    /// The same of two heads, which need not be of one package.
    pub fn of_heads(first: &VerifiedHead, second: &VerifiedHead) -> Option<Self> {
        Self::of(first.key_log(), second.key_log())
    }

    /// Which of its sides a chain is on: none where it ends before they go apart, or goes another way.
    pub fn side_of(&self, keys: &KeyLog) -> Option<&ChainSide> {
        let document = keys.fingerprint(self.n)?;
        self.sides.iter().find(|side| side.document == document)
    }
}

/// Whether a chain ends what two others are together: it ends one of them, and continues or ends the other.
pub fn is_ended_by(pair: [&KeyLog; 2], keys: &KeyLog) -> bool {
    let ends = pair.map(|it| keys.ends(it));
    let continues = pair.map(|it| keys.agrees_with(it));
    (ends[0] && (continues[1] || ends[1])) || (ends[1] && continues[0])
}

impl ChainSide {
    fn of(keys: &KeyLog, n: u64) -> Option<Self> {
        let (document, named) = (keys.fingerprint(n)?, keys.document(n)?);
        Some(Self { document, created: named.created, keys: named.keys.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        identity::{KeyDocument, Publisher, SecretKey, publisher::Change},
        release::fixture::{NOW, publisher, rotated},
    };

    /// The chain that rotates to these keys in turn.
    fn chain(seeds: &[u8]) -> Publisher {
        seeds.iter().fold(publisher(1), |publisher, seed| rotated(&publisher, 10 + seed))
    }

    fn of(a: &Publisher, b: &Publisher) -> Option<TwoChains> {
        TwoChains::of(a.key_log(), b.key_log())
    }

    #[test]
    fn they_are_named_by_where_they_go_apart_and_stay_the_same_when_they_go_on() {
        let (owner, thief) = (chain(&[1, 2]), chain(&[1, 3]));
        let found = of(&owner, &thief).unwrap();
        assert_eq!((found.n, found.publisher), (2, owner.id()));
        assert_eq!(Some(found.clone()), of(&rotated(&owner, 30), &rotated(&thief, 31)));
        let side = found.side_of(owner.key_log()).unwrap();
        assert_eq!(side.keys, [owner.public_key()]);
        assert_eq!(found.side_of(thief.key_log()).unwrap().keys, [thief.public_key()]);
        assert_eq!(found.side_of(chain(&[1]).key_log()), None, "it is before both");
        assert_eq!(found.side_of(chain(&[1, 4]).key_log()), None, "it goes a third way");
        assert_eq!(of(&owner, &publisher(2)), None, "another publisher");
    }

    #[test]
    fn recovery_keys_end_them_and_a_stolen_release_key_begins_none_where_the_first_document_names_some() {
        let key = |seed| SecretKey::from_bytes(&[seed; 32]);
        let genesis = KeyDocument {
            recovery: vec![key(9).public_key()],
            recovery_threshold: 1,
            ..KeyDocument::genesis(key(1).public_key(), NOW)
        };
        let log = KeyLog::verify(&[genesis.sign(&[&key(1)]).unwrap()]).unwrap();
        let first = Publisher::new(key(1), log).unwrap();
        assert!(first.rotated(key(3), NOW).is_err(), "the release key alone names no next one");
        let change = |publisher: &Publisher, seed, revoked: &[PublicKey]| {
            let change = Change { secret: Some(key(seed)), revoked: revoked.to_vec(), ..Change::default() };
            publisher.changed(change, &[key(9)], NOW).unwrap()
        };
        let (one, other) = (change(&first, 2, &[]), change(&first, 3, &[]));
        assert!(of(&one, &other).is_some(), "whoever has the recovery keys can");
        let end = change(&one, 4, &[other.public_key()]);
        assert_eq!((of(&end, &other), of(&other, &end)), (None, None));
        let pair = [one.key_log(), other.key_log()];
        assert!(is_ended_by(pair, end.key_log()));
        assert!(!is_ended_by(pair, one.key_log()) && !is_ended_by(pair, change(&one, 5, &[]).key_log()));
    }

    proptest! {
        #[test]
        fn it_is_the_same_whoever_comes_first_and_none_of_a_chain_and_its_continuation(
            a in prop::collection::vec(0u8..3, 0..5), b in prop::collection::vec(0u8..3, 0..5),
        ) {
            // A key that comes back would be named again, and is another document all the same.
            let (first, second) = (chain(&a), chain(&b));
            let found = of(&first, &second);
            prop_assert_eq!(&found, &of(&second, &first));
            prop_assert_eq!(of(&first, &first), None);
            let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let goes_apart = common < a.len().min(b.len());
            prop_assert_eq!(found.is_some(), goes_apart);
            if let Some(found) = found {
                prop_assert_eq!(found.n, common as u64 + 1);
                prop_assert!(found.sides[0].document < found.sides[1].document);
                for keys in [first.key_log(), second.key_log()] {
                    prop_assert!(found.side_of(keys).is_some());
                }
            }
        }
    }
}
