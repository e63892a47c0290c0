//! Heads that are listed and were signed with keys which their publisher revoked.
//!
//! Of such keys nothing new is listed ([`Standing::Revoked`](crate::heads::Standing::Revoked)). What was listed may have been signed by
//! the publisher before, or by a thief since, and no signature tells when it was made. What tells is when this node listed it: what it
//! knew before the publisher revoked the key stays, what it listed later goes as soon as the key document comes. So of a new package it
//! does not matter which of the two comes first. Where a later state of a known package was listed meanwhile, the package is gone until
//! its publisher signs it again: the state before is not kept.

use rusqlite::{Connection, Transaction, params};

use super::{
    Error,
    confirmed::dated_head,
    from_ordered,
    insert::{self, remove},
    to_bits,
};
use crate::{
    identity::KeyLog,
    package::PackageId,
    release::{VerifiedHead, fork},
    time::Timestamp,
};

/// Takes out what is listed of a publisher and was signed with keys that this chain revokes, as far as none of the chains `before` says so
/// already. What is [kept](super::keep) stays: a person has to do with it.
pub(super) fn take_out<'a>(
    tx: &Transaction<'_>,
    keys: &KeyLog,
    before: impl Iterator<Item = &'a KeyLog>,
    now: Timestamp,
) -> Result<(), Error> {
    let (n, publisher) = (keys.current().n, keys.publisher());
    let in_common = |other: &KeyLog| match keys.parts_from(other) {
        Some(apart) => apart.saturating_sub(1),
        None => other.current().n.min(n),
    };
    let before = before.map(in_common).max();
    let revoked = |n: &u64| keys.document(*n).is_some_and(|document| !document.revoked.is_empty());
    if !(before.unwrap_or(0)..=n).skip(1).any(|n| revoked(&n)) {
        return Ok(());
    }
    let listed: Vec<(i64, Vec<u8>, Timestamp)> = tx
        .prepare_cached(
            "SELECT h.position, h.bytes, s.at FROM catalog_heads AS h JOIN catalog_seen AS s ON s.id = h.id
             WHERE h.publisher = ?1 AND h.key_n < ?2
               AND NOT EXISTS (SELECT 1 FROM catalog_kept AS k WHERE k.id = h.id)",
        )?
        .query_map(params![publisher.as_bytes(), to_bits(n)], |row| {
            Ok((row.get(0)?, row.get(1)?, Timestamp::from_secs(from_ordered(row.get(2)?))))
        })?
        .collect::<Result<_, _>>()?;
    for (position, bytes, at) in listed {
        let since = VerifiedHead::verify_stored(&bytes).ok().and_then(|it| fork::revoked_since(&it, keys));
        // A document that a clock which is ahead has dated takes nothing back before this node has heard of it.
        if since.is_some_and(|since| at > since.min(now)) {
            remove(tx, position)?;
        }
    }
    Ok(())
}

/// When the keys were revoked that signed the listed head of a package, where this node listed it only after that: it stays listed because a
/// person has to do with it ([`keep`](super::keep)), and does not count.
///
/// # Errors
/// [`Error::Database`].
pub fn listed_though_revoked(conn: &Connection, package: &PackageId) -> Result<Option<Timestamp>, Error> {
    let known = insert::known(conn, package)?;
    let Some(since) = known.listed.as_ref().and_then(|listed| known.revoked_since(listed)) else {
        return Ok(None);
    };
    let at = dated_head(conn, package)?.map(|(_, at)| at);
    Ok(Some(since).filter(|since| at.is_some_and(|at| at > *since)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        catalog::{
            Outcome, Refusal,
            fixture::{NOW, at, blank, database, later, publisher, put, within},
            get, keep,
        },
        identity::{PublicKey, Publisher, SecretKey, publisher::Change},
    };

    /// The publisher with another key from `at` on.
    fn next(old: &Publisher, revoked: Vec<PublicKey>, at: Timestamp) -> Publisher {
        let secret = Some(SecretKey::from_bytes(&[2; 32]));
        old.changed(Change { secret, revoked, ..Change::default() }, &[], at).unwrap()
    }

    fn head(publisher: &Publisher, name: &str) -> VerifiedHead {
        blank(publisher, name).sign(publisher).unwrap()
    }

    fn lists(conn: &Connection, head: &VerifiedHead) -> bool {
        get(conn, &head.package_id()).unwrap().is_some_and(|listed| listed.bytes == head.bytes())
    }

    #[test]
    fn a_revoked_key_releases_nothing_new_and_one_that_was_replaced_does() {
        let old = publisher(1);
        for (revoked, is_refused) in [(Vec::new(), false), (vec![old.public_key()], true)] {
            let (mut conn, owner) = (database(), next(&old, revoked, NOW));
            let known = head(&old, "known");
            put(&mut conn, &known, NOW);
            put(&mut conn, &head(&owner, "web"), later(1));
            let refused = Outcome::Refused(Refusal::Revoked);
            let stolen = head(&old, "new");
            assert_eq!(put(&mut conn, &stolen, later(2)) == refused, is_refused);
            assert_eq!(lists(&conn, &stolen), !is_refused);
            let further = at(&old, "known", 1, 0);
            assert_eq!(put(&mut conn, &further, later(3)) == refused, is_refused);
            // What was known before stays as it is, and its publisher goes on with it.
            assert_eq!(lists(&conn, &known), is_refused);
            for name in ["new", "known"] {
                assert!(put(&mut conn, &head(&owner, name), later(4)).is_news(), "{name}");
            }
        }
    }

    #[test]
    fn what_a_person_has_to_do_with_stays_listed() {
        let (mut conn, old) = (database(), publisher(1));
        let owner = next(&old, vec![old.public_key()], NOW);
        let [kept, other] = ["kept", "other"].map(|name| head(&old, name));
        within(&mut conn, |tx| keep(tx, &kept.package_id()).unwrap());
        for head in [&kept, &other] {
            put(&mut conn, head, later(1));
        }
        put(&mut conn, &head(&owner, "web"), later(2));
        assert!(lists(&conn, &kept) && !lists(&conn, &other));
        let since = |head: &VerifiedHead| listed_though_revoked(&conn, &head.package_id()).unwrap();
        assert_eq!(since(&kept), Some(NOW), "but it does not count");
        assert_eq!((since(&other), since(&head(&owner, "web"))), (None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Heads come in any order after a key was revoked: what is listed in the end is the same.
        #[test]
        fn what_is_listed_in_the_end_does_not_depend_on_the_order(
            order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let old = publisher(1);
            let owner = next(&old, vec![old.public_key()], NOW);
            let last = owner.rotated(SecretKey::from_bytes(&[3; 32]), later(1)).unwrap();
            let heads = [
                head(&owner, "web"), head(&last, "cli"), head(&old, "web"),
                head(&old, "stolen"), at(&old, "stolen", 1, 0), head(&owner, "tool"),
            ];
            let mut conn = database();
            let before = head(&old, "before");
            put(&mut conn, &before, NOW);
            for at in order {
                put(&mut conn, &heads[at], later(2));
            }
            let listed: Vec<bool> = heads.iter().map(|head| lists(&conn, head)).collect();
            prop_assert_eq!(listed, [true, true, false, false, false, true]);
            prop_assert!(lists(&conn, &before));
        }
    }
}
