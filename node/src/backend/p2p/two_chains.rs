//! Two chains of a publisher's keys: what is said wherever its packages are shown, and what is refused until it is known which of them
//! is the owner's.

use rusqlite::Connection;

use super::{failure::fail, node::Node};
use crate::{
    catalog::{self, Disputed},
    code::Code,
    control::api::{DisputedKeys, DisputedSide, Failure},
    identity::PublisherId,
    package::PackageId,
    release::{VerifiedHead, two_chains::ChainSide},
    store::{self, heads, installed, pins},
};

/// What is said wherever a package is shown of whose publisher's keys there are two chains.
pub(super) const TWO_CHAINS: &str = "two chains of its publisher's keys contradict each other, and nothing tells which one is its owner's: \
                                     somebody may have stolen one of the keys";

impl Node {
    /// Refuses what is new here of a publisher of whose keys there are two chains, unless its name is pinned: then the chain that was
    /// met first stays. Yields a warning where it is not refused.
    pub(super) async fn refuse_two_chains(&self, head: &VerifiedHead) -> Result<Option<String>, Failure> {
        let is_own = self.publisher_of(head.head().publisher)?.is_some();
        let head = head.clone();
        let looked = self.with_store(move |store| store.read(|conn| look(conn, &head))).await?;
        let Some((disputed, head, is_followed)) = looked else { return Ok(None) };
        let package = head.package_id();
        match is_own || is_followed {
            true => {
                Ok(Some(format!("{package}: {TWO_CHAINS}; the chain that this node met first is followed")))
            }
            false => Err(refused(&disputed, &head)),
        }
    }

    /// What of two chains of keys is of concern here, for `status`.
    pub(super) async fn two_chain_warnings(&self) -> Result<Vec<String>, Failure> {
        let all = self.with_store(|store| {
            store.read(|conn| {
                let mut concerned = Vec::new();
                for disputed in catalog::all_disputed(conn)? {
                    let publisher = disputed.chains.publisher;
                    let is_of = |package: &PackageId| package.publisher == publisher;
                    let is_here = installed::list_all(conn)?.iter().any(|row| is_of(&row.package))
                        || pins::list_all(conn)?.iter().any(|pin| pin.publisher == publisher);
                    let is_own = heads::list_all(conn)?.iter().any(|own| is_of(&own.package));
                    concerned.push((publisher, is_own, is_here));
                }
                Ok(concerned)
            })
        });
        let all = all.await?;
        let others = all.iter().filter(|(_, is_own, is_here)| !is_own && !is_here).count();
        let concerned = all.iter().filter_map(|(publisher, is_own, is_here)| match (is_own, is_here) {
            (true, _) => Some(own(publisher)),
            (false, true) => Some(format!(
                "publisher {publisher}, of which something is pinned or installed here: {TWO_CHAINS}; nothing else of it is \
                 installed. Ask its owner over another channel; see: ggen marketplace p2p trust list"
            )),
            (false, false) => None,
        });
        let mut warnings: Vec<String> = concerned.collect();
        if others > 0 && !warnings.is_empty() {
            warnings.push(format!("so it is with {others} more; see: ggen marketplace p2p trust list"));
        }
        Ok(warnings)
    }
}

fn own(publisher: &PublisherId) -> String {
    format!(
        "there are two chains of keys of your publisher {publisher}: somebody else replaced one of your keys too. Who met the other \
         chain first follows it, and nobody else installs anything new of yours. Tell your users, over another channel, which keys are \
         yours; see them: ggen marketplace p2p trust list. Where recovery keys made both, revoke the others: ggen marketplace p2p \
         key revoke --public-key <HEX> --recovery <FILE>"
    )
}

/// What is known of two chains of the keys of a head's publisher, the head again, and whether it is on the chain that this node follows.
fn look(
    conn: &Connection,
    head: &VerifiedHead,
) -> Result<Option<(Disputed, VerifiedHead, bool)>, store::Error> {
    let publisher = head.head().publisher;
    let Some(disputed) = catalog::disputed(conn, &publisher)? else { return Ok(None) };
    let is_followed = is_followed(conn, head, &disputed)?;
    Ok(Some((disputed, head.clone(), is_followed)))
}

/// Whether a name of the publisher is pinned, and what was seen of that package is on the chain of this head.
fn is_followed(conn: &Connection, head: &VerifiedHead, disputed: &Disputed) -> Result<bool, store::Error> {
    let publisher = head.head().publisher;
    for pin in pins::list_all(conn)?.into_iter().filter(|pin| pin.publisher == publisher) {
        if pin.name == head.head().name {
            return Ok(true);
        }
        let seen = catalog::seen(conn, &PackageId { publisher, name: pin.name })?;
        // One from before the chains go apart says nothing of either.
        let seen = seen.filter(|seen| seen.key_n >= disputed.chains.n);
        if seen.is_some_and(|seen| head.key_log().fingerprint(seen.key_n) == Some(seen.key_document)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn refused(disputed: &Disputed, head: &VerifiedHead) -> Failure {
    let package = head.package_id();
    let on = disputed.chains.side_of(head.key_log());
    let sides = disputed.chains.sides.each_ref().map(|side| {
        let here = if on == Some(side) { ", under which it is listed here" } else { "" };
        format!("  {}{here}", described(side))
    });
    Failure::new(
        Code::Equivocation,
        format!(
            "{package} was not installed: {TWO_CHAINS}. Key document {} is one of these:\n{}",
            disputed.chains.n,
            sides.join("\n")
        ),
        format!(
            "Ask its publisher, over another channel, which of the keys are theirs. If it is the one under which it is listed here: \
             ggen marketplace p2p trust pin {package}, then install it again"
        ),
    )
}

fn described(side: &ChainSide) -> String {
    let keys: Vec<String> = side.keys.iter().map(ToString::to_string).collect();
    format!("of {}, with the key {}", side.created, keys.join(", "))
}

/// Whether there are two chains of the keys of a publisher.
pub(super) fn are_two(conn: &Connection, publisher: &PublisherId) -> Result<bool, store::Error> {
    Ok(catalog::disputed(conn, publisher)?.is_some())
}

/// All publishers of whose keys there are two chains, as `trust list` shows them.
pub(super) fn all(conn: &Connection) -> Result<Vec<DisputedKeys>, store::Error> {
    let pins = pins::list_all(conn)?;
    let shown = |disputed: Disputed| {
        let chains = disputed.chains;
        DisputedKeys {
            publisher: chains.publisher.to_string(),
            document: chains.n,
            sides: chains
                .sides
                .iter()
                .map(|side| DisputedSide {
                    document: side.document.to_string(),
                    created: side.created.to_string(),
                    keys: side.keys.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            pinned: pins.iter().any(|pin| pin.publisher == chains.publisher),
            noticed_at: disputed.at.to_string(),
        }
    };
    Ok(catalog::all_disputed(conn)?.into_iter().map(shown).collect())
}

/// The same of one publisher, as a failure inside the store is told.
pub(super) fn are_two_here(store: &store::Store, publisher: &PublisherId) -> Result<bool, Failure> {
    store.read(|conn| are_two(conn, publisher)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Source,
        identity::{Publisher, SecretKey},
        package::PackageName,
        release::{Head, fixture},
        store::Store,
    };

    const NOW: crate::time::Timestamp = fixture::NOW;

    fn rotated(publisher: &Publisher, seed: u8) -> Publisher {
        publisher.rotated(SecretKey::from_bytes(&[seed; 32]), NOW).unwrap()
    }

    fn head(publisher: &Publisher, name: &str) -> VerifiedHead {
        let draft = fixture::draft(publisher, &fixture::releases(publisher, &["1.0.0"]));
        Head { name: name.parse().unwrap(), ..draft }.sign(publisher).unwrap()
    }

    fn insert(store: &Store, head: &VerifiedHead) {
        store.write(|tx| Ok(catalog::insert(tx, head, &Source::unknown(), NOW)?)).unwrap();
    }

    fn pin(store: &Store, name: &str, publisher: &Publisher) {
        let name: PackageName = name.parse().unwrap();
        store.write(|tx| pins::pin(tx, &name, &publisher.id(), NOW)).unwrap();
    }

    /// Whether it may be installed; nothing where there is no dispute.
    fn may(store: &Store, head: &VerifiedHead) -> Option<bool> {
        store.read(|conn| look(conn, head)).unwrap().map(|(.., is_followed)| is_followed)
    }

    #[test]
    fn nothing_new_is_installed_of_two_chains_and_a_pin_keeps_to_the_chain_that_was_met_first() {
        let (store, old) = (Store::in_memory().unwrap(), fixture::publisher(1));
        let (owner, thief) = (rotated(&old, 2), rotated(&old, 3));
        let (own, stolen) = (head(&owner, "one"), head(&thief, "one"));
        insert(&store, &own);
        assert_eq!(may(&store, &own), None);
        insert(&store, &stolen);
        assert_eq!(may(&store, &own), Some(false), "a newcomer cannot know");
        let disputed = store.read(|conn| Ok(catalog::disputed(conn, &old.id())?)).unwrap().unwrap();
        let failure = refused(&disputed, &own);
        assert_eq!((failure.code, failure.retryable), (Code::Equivocation, false));
        for text in [owner.public_key().to_string(), thief.public_key().to_string()] {
            assert!(failure.message.contains(&text), "{}", failure.message);
        }
        assert!(failure.message.contains(&format!("{}, under which it is listed", owner.public_key())));
        assert!(failure.hint.contains(&format!("trust pin {}", own.package_id())));
        pin(&store, "one", &owner);
        assert_eq!(may(&store, &own), Some(true));
        // Another name of the pinned publisher counts under the chain of the pinned one alone.
        assert_eq!(may(&store, &head(&owner, "two")), Some(true));
        assert_eq!(may(&store, &head(&thief, "two")), Some(false));
        assert_eq!(store.read(all).unwrap()[0].sides.len(), 2);
        assert!(store.read(all).unwrap()[0].pinned);
    }

    #[test]
    fn a_pin_from_before_the_chains_go_apart_speaks_for_neither_in_other_names() {
        let (store, old) = (Store::in_memory().unwrap(), fixture::publisher(1));
        let (owner, thief) = (rotated(&old, 2), rotated(&old, 3));
        insert(&store, &head(&old, "one"));
        pin(&store, "one", &old);
        let (two, three) = (head(&owner, "two"), head(&thief, "three"));
        insert(&store, &two);
        insert(&store, &three);
        assert_eq!((may(&store, &two), may(&store, &three)), (Some(false), Some(false)));
        assert_eq!(may(&store, &head(&old, "one")), Some(true), "what is pinned stays");
    }
}
