//! What a thief of a publisher's earlier key may have published: which packages and versions that are, and what is said of them.
//!
//! Only their publisher knows which are its own. So what this machine did not publish is named, with what to do in either case.

use std::collections::BTreeSet;

use semver::Version;

use super::keys::are_replaced;
use crate::{
    catalog,
    identity::Publisher,
    package::PackageId,
    release::{Log, VerifiedHead, fork},
    store::{self, Store, published},
};

/// Packages and versions that are named, the others are counted.
const NAMED_MAX: usize = 10;

/// Packages of publishers whose keys are here that were published with earlier keys, and not here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Those whose heads are signed again here: the machines that published them may be gone, or with a revoked key cannot.
    pub(super) due: Vec<PackageId>,
    /// Those that a thief of the earlier key may have published: a person says which are its publisher's.
    pub(super) doubtful: Vec<PackageId>,
}

/// What the listed heads of these publishers say of packages that are not our own.
///
/// What came here after the key was replaced is not signed by itself, because anyone who stole that key can have made it.
pub(super) fn listed_elsewhere(
    store: &Store,
    publishers: &[Publisher],
    own: &BTreeSet<PackageId>,
) -> Result<Elsewhere, store::Error> {
    let mut found = Elsewhere::default();
    for publisher in publishers {
        for (bytes, at) in store.read(|conn| Ok(catalog::dated_heads_of(conn, publisher.id())?))? {
            let Ok(head) = VerifiedHead::verify_stored(&bytes) else { continue };
            let (package, keys) = (head.package_id(), publisher.key_log());
            if own.contains(&package) || !are_replaced(head.key_log(), keys) {
                continue;
            }
            let is_revoked = fork::revoked_since(&head, keys).is_some();
            // Of a key that was given to another machine and still counts, that machine signs.
            let may_be_due = publisher.is_adopted() || (publisher.is_elsewhere() && is_revoked);
            // A machine that is connected to revoke a lost key hears of the packages in that second; what is signed again is named.
            let was_before = fork::replaced_since(&head, keys).is_none_or(|since| at <= since);
            match may_be_due && was_before {
                true => found.due.push(package),
                false if may_be_due || is_revoked => found.doubtful.push(package),
                false => {}
            }
        }
    }
    Ok(found)
}

/// What is said of packages that a thief of an earlier key may have published.
pub(super) fn said_of_doubtful(packages: &[PackageId]) -> Option<String> {
    let first = packages.first()?;
    Some(format!(
        "{} published with a key that was replaced, and not on this machine, so that somebody else may have done that with the old key. They are not \
         signed again: {}. If one of them is yours, say so: ggen marketplace p2p trust pin {first}, and publish its next version here, which takes \
         over what its log holds. If it is not, publish nothing under its name; where others list it, yank its versions: ggen marketplace p2p yank {first}@<version>",
        counted(packages.len(), "package was", "packages were"),
        listed(packages),
    ))
}

/// What is said of what others have of a package and what its publisher's key did not sign, or somebody else with it.
pub(super) fn said_of_dropped(head: &VerifiedHead) -> String {
    let version = head.head().latest.as_ref().map(|latest| format!(", with version {},", latest.version));
    format!(
        "{}: what others had of it{} was signed with a key that you revoked, and was not known here before: it does not count any more. What is \
         yours of it, publish again",
        head.package_id(),
        version.unwrap_or_default(),
    )
}

/// What is said of versions that are signed again, and that somebody else may have published.
pub(super) fn said_of_foreign(package: &PackageId, versions: &[Version]) -> Option<String> {
    let newest = versions.last()?;
    Some(format!(
        "{package}: {} published with the revoked key on another machine, and count as before: {}. If one of them is not yours: ggen marketplace p2p \
         yank {package}@{newest}",
        counted(versions.len(), "version was", "versions were"),
        listed(versions),
    ))
}

fn listed(all: &[impl ToString]) -> String {
    let mut named: Vec<String> = all.iter().rev().take(NAMED_MAX).map(ToString::to_string).collect();
    if let Some(more) = all.len().checked_sub(NAMED_MAX + 1) {
        named.push(format!("and {} more", more + 1));
    }
    named.join(", ")
}

/// Versions of a log that were not published on this machine and can be chosen.
pub(super) fn not_published_here(store: &Store, log: &Log) -> Result<Vec<Version>, store::Error> {
    store.read(|conn| {
        let mut foreign = Vec::new();
        for (version, state) in log.versions() {
            if state.yanked.is_none() && published::get(conn, log.package(), version)?.is_none() {
                foreign.push(version.clone());
            }
        }
        Ok(foreign)
    })
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        catalog::Source,
        identity::{PublicKey, SecretKey, publisher::Change},
        release::{
            Head,
            fixture::{NOW, draft, head, publisher, releases},
        },
        time::Timestamp,
    };

    fn listed(store: &Store, head: &VerifiedHead) {
        store.write(|tx| Ok(catalog::insert(tx, head, &Source::unknown(), NOW)?)).unwrap();
    }

    /// The publisher with another key, a second later.
    fn next(old: &Publisher, revoked: Vec<PublicKey>) -> Publisher {
        let secret = Some(SecretKey::from_bytes(&[2; 32]));
        old.changed(Change { secret, revoked, ..Change::default() }, &[], later()).unwrap()
    }

    fn later() -> Timestamp {
        NOW.plus(Duration::from_secs(1))
    }

    #[test]
    fn who_has_the_key_that_replaced_another_signs_what_other_machines_published_with_that() {
        let (old, other) = (publisher(1), publisher(7));
        let (store, new) = (Store::in_memory().unwrap(), next(&old, Vec::new()).adopted());
        for by in [&old, &other] {
            listed(&store, &head(by, &["1.0.0"]));
        }
        let package = head(&old, &["1.0.0"]).package_id();
        let found = |by: &Publisher, own: &[PackageId]| {
            let own = own.iter().cloned().collect();
            listed_elsewhere(&store, std::slice::from_ref(by), &own).unwrap().due
        };
        assert_eq!(found(&new, &[]), std::slice::from_ref(&package));
        assert!(found(&new, std::slice::from_ref(&package)).is_empty() && found(&old, &[]).is_empty());
        let thief = old.rotated(SecretKey::from_bytes(&[3; 32]), NOW).unwrap();
        let thief = thief.rotated(SecretKey::from_bytes(&[4; 32]), NOW).unwrap();
        listed(&store, &draft(&new, &releases(&old, &["1.0.0"])).sign(&new).unwrap());
        assert!(found(&new, &[]).is_empty() && found(&thief, &[]).is_empty(), "another chain");
    }

    #[test]
    fn what_came_after_the_key_was_replaced_is_named_and_not_signed_again() {
        let old = publisher(1);
        let named = |by: &Publisher, name: &str| {
            let draft = draft(by, &releases(&old, &["1.0.0"]));
            Head { name: name.parse().unwrap(), ..draft }.sign(by).unwrap()
        };
        let revoked = next(&old, vec![old.public_key()]);
        // By a key that was made here, nothing was published elsewhere; by one that was given away, what is revoked would be lost.
        for (by, due, doubtful) in [
            (next(&old, Vec::new()), vec![], vec![]),
            (next(&old, Vec::new()).adopted(), vec!["before"], vec!["after"]),
            (revoked.clone(), vec![], vec!["after", "before"]),
            (revoked.adopted(), vec!["before"], vec!["after"]),
        ] {
            let store = Store::in_memory().unwrap();
            for (name, at) in [("before", later()), ("after", later().plus(Duration::from_secs(1)))] {
                let head = named(&old, name);
                store.write(|tx| Ok(catalog::insert(tx, &head, &Source::unknown(), at)?)).unwrap();
            }
            let found = listed_elsewhere(&store, std::slice::from_ref(&by), &BTreeSet::new()).unwrap();
            let names = |found: Vec<PackageId>| -> Vec<String> {
                found.into_iter().map(|package| package.name.to_string()).collect()
            };
            assert_eq!((names(found.due), names(found.doubtful)), (texts(&due), texts(&doubtful)));
        }
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }
}
