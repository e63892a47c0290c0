//! Two chains of a publisher's keys: what is said wherever its packages are shown, and what is refused until it is known which of them
//! is the owner's.

use rusqlite::Connection;

use super::{KEYS_FOLDER, failure::fail, key_documents::known_here, node::Node};
use crate::{
    catalog::{self, Disputed, Proof},
    code::Code,
    control::api::{DisputedKeys, DisputedSide, Failure},
    identity::{KeyLog, PublicKey, PublisherId, documents},
    package::PackageId,
    release::{TwoChains, VerifiedHead, two_chains::ChainSide},
    store::{self, Store, heads, installed, pins},
};

/// What is said wherever a package is shown of whose publisher's keys there are two chains.
pub(super) const TWO_CHAINS: &str = "two chains of its publisher's keys contradict each other, and nothing tells which one is its owner's: \
                                     somebody may have stolen one of the keys";

impl Node {
    /// Refuses what is new here of a publisher of whose keys there are two chains, unless its name is pinned: then the chain that was
    /// met first stays. Yields a warning where it is not refused.
    pub(super) async fn refuse_two_chains(&self, head: &VerifiedHead) -> Result<Option<String>, Failure> {
        let is_own = self.publisher_of(head.head().publisher)?.is_some();
        let (head, of) = (head.clone(), head.clone());
        if let Some((contradicted, is_pinned)) = self.offload_store(move |store| own_of(store, &of)).await? {
            return match is_pinned {
                true => Ok(Some(format!("{}: {}", head.package_id(), contradicted.said()))),
                false => Err(contradicted.refused(&head)),
            };
        }
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

    /// What ends the double signing for which a package of ours is frozen.
    pub(super) async fn ending(&self, package: &PackageId) -> Result<Ending, Failure> {
        let proofs = self.dispute(package).await?.unwrap_or_default();
        let publisher = package.publisher;
        let own = self.publisher_of(publisher)?.map(|own| own.key_log().clone());
        let kept = self.with_store(move |store| Ok(kept(store, &publisher))).await?;
        Ok(Ending::of(&proofs, own.or(kept).as_ref()))
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
                    let ending = is_own.then(|| {
                        let own = kept(store, &publisher);
                        let logs = disputed.heads.each_ref().map(VerifiedHead::key_log);
                        Ending::of_chains(logs, own.as_ref())
                    });
                    concerned.push((publisher, ending, is_here));
                }
                Ok(concerned)
            })
        });
        let all = all.await?;
        let own = self.offload_store(contradicted).await?;
        let others = all.iter().filter(|(_, ending, is_here)| ending.is_none() && !is_here).count();
        let concerned = all.iter().filter_map(|(publisher, ending, is_here)| match (ending, is_here) {
            (Some(ending), _) => Some(told_of_own(publisher, ending)),
            (None, true) => Some(format!(
                "publisher {publisher}, of which something is pinned or installed here: {TWO_CHAINS}; nothing else of it is \
                 installed. Ask its owner over another channel; see: ggen marketplace p2p trust list"
            )),
            (None, false) => None,
        });
        let mut warnings: Vec<String> = concerned.collect();
        let is_new = |it: &&Contradicted| all.iter().all(|(publisher, ..)| *publisher != it.own.publisher());
        warnings.extend(own.iter().filter(is_new).map(Contradicted::said));
        if others > 0 && !warnings.is_empty() {
            warnings.push(format!("so it is with {others} more; see: ggen marketplace p2p trust list"));
        }
        Ok(warnings)
    }
}

fn told_of_own(publisher: &PublisherId, ending: &Ending) -> String {
    let end = match ending {
        Ending::Revoke(keys) => format!("Recovery keys named both. End the other one: {}", revoke(keys)),
        Ending::Rotate { .. } | Ending::Resolve { .. } | Ending::Never => {
            format!("Somebody else replaced one of your keys too. {NO_WAY_BACK}")
        }
    };
    format!(
        "there are two chains of keys of your publisher {publisher}. Who met the other chain first follows it, and nobody else installs \
         anything new of yours; see them: ggen marketplace p2p trust list. {end}"
    )
}

/// What is left to do where no key can say which of two chains is the owner's.
const NO_WAY_BACK: &str = "Without recovery keys nothing ends that: tell your users, over another channel, which keys are yours, and publish \
                           from a new key from now on: ggen marketplace p2p key new <name> --recovery <file>, then: ggen marketplace \
                           p2p publish --key <name>";

fn revoke(keys: &[PublicKey]) -> String {
    let named: Vec<String> = keys.iter().map(|key| format!(" --public-key {key}")).collect();
    let named = if named.is_empty() { " --public-key <HEX>".to_owned() } else { named.concat() };
    format!("ggen marketplace p2p key revoke <name>{named} --recovery <file>")
}

/// How the publisher of a frozen package ends that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Later keys, which are to be made first, and an entry of the log that says what counts.
    Rotate {
        /// Whether only recovery keys can replace the keys.
        by_recovery: bool,
    },
    /// That entry: later keys are here.
    Resolve {
        /// The keys under which both states were signed, and that were replaced since.
        replaced: Vec<PublicKey>,
    },
    /// Recovery keys named the keys of both states: those of the other one are revoked, as far as it is known which that is.
    Revoke(Vec<PublicKey>),
    /// Nothing: two chains of keys contradict each other, and no recovery keys named both.
    Never,
}

impl Ending {
    /// What ends what is proved, to one whose chain of keys is `own`.
    pub(super) fn of(proofs: &[Proof], own: Option<&KeyLog>) -> Self {
        let read = |bytes: &[u8]| VerifiedHead::verify_stored(bytes).ok().map(|head| head.key_log().clone());
        // Where both are under one chain, its document is named.
        let apart = proofs.iter().filter(|proof| proof.proves.document.is_none());
        let mut pairs = apart.filter_map(|proof| Some([read(&proof.first)?, read(&proof.second)?]));
        if let Some(pair) = pairs.next() {
            return Self::of_chains(pair.each_ref(), own);
        }
        let signed_under = proofs.iter().map(|proof| proof.proves.key_n).max();
        match (own, signed_under) {
            (Some(own), Some(n)) if own.current().n > n => {
                let before = own.document(n).map_or(&[][..], |document| &document.keys);
                let replaced = before.iter().filter(|key| !own.current().keys.contains(key));
                Self::Resolve { replaced: replaced.filter(|key| !own.is_revoked(key)).copied().collect() }
            }
            (own, _) => {
                Self::Rotate { by_recovery: own.is_some_and(|own| !own.current().recovery.is_empty()) }
            }
        }
    }

    fn of_chains(pair: [&KeyLog; 2], own: Option<&KeyLog>) -> Self {
        let Some(n) = pair[0].parts_from(pair[1]) else { return Self::Rotate { by_recovery: false } };
        let before = n.checked_sub(1).and_then(|before| pair[0].document(before));
        if before.is_none_or(|before| before.recovery.is_empty()) {
            return Self::Never;
        }
        let own = own.and_then(|own| own.fingerprint(n));
        let others = pair.iter().filter(|log| own.is_some() && log.fingerprint(n) != own);
        Self::Revoke(others.flat_map(|log| log.current().keys.iter().copied()).collect())
    }

    /// The same in a sentence, with the commands.
    pub(super) fn said(&self, package: &PackageId) -> String {
        let name = &package.name;
        match self {
            Self::Rotate { by_recovery } => format!(
                "End it, on one machine alone: ggen marketplace p2p key rotate{}, then, on the same one: ggen marketplace p2p key resolve {name}",
                if *by_recovery { " --recovery <file>" } else { "" }
            ),
            Self::Resolve { replaced } => {
                let stolen = match replaced.as_slice() {
                    [] => String::new(),
                    [key, ..] => format!(
                        ". Where somebody else has the old key, that alone comes again: ggen marketplace p2p key revoke <name> --public-key {key} (and --recovery <file>, where there are recovery keys)"
                    ),
                };
                format!(
                    "Its key was replaced already. End it, on the machine that did so alone: ggen marketplace p2p key resolve {name}{stolen}"
                )
            }
            Self::Revoke(keys) => {
                format!(
                    "Recovery keys named the keys of both; revoke those of the other one: {}",
                    revoke(keys)
                )
            }
            Self::Never => NO_WAY_BACK.to_owned(),
        }
    }
}

/// A publisher whose key is here, or was, and of whose keys this node has heard another chain. Nobody else knows of both unless a head is
/// signed under each.
#[derive(Debug)]
struct Contradicted {
    own: KeyLog,
    other: KeyLog,
    chains: TwoChains,
}

impl Contradicted {
    /// What the chain that is kept here contradicts.
    fn of(store: &Store, own: KeyLog) -> Result<Option<Self>, Failure> {
        let known = known_here(store, own.publisher(), Vec::new())?;
        let found = known.into_iter().find_map(|other| Some((TwoChains::of(&own, &other)?, other)));
        Ok(found.map(|(chains, other)| Self { own, other, chains }))
    }

    /// Whether a key was revoked on our chain since the two go apart: whoever does that says that somebody else has it, and wants
    /// everybody to know of both.
    fn is_denounced(&self) -> bool {
        let mut since = (self.chains.n..=self.own.current().n).filter_map(|n| self.own.document(n));
        since.any(|document| !document.revoked.is_empty())
    }

    fn said(&self) -> String {
        let publisher = self.own.publisher();
        let keys: Vec<String> = self.other.current().keys.iter().map(ToString::to_string).collect();
        let end = match Ending::of_chains([&self.own, &self.other], Some(&self.own)) {
            Ending::Revoke(keys) => {
                format!(
                    "If it was not, or that key is lost, revoke it with your recovery keys: {}",
                    revoke(&keys)
                )
            }
            Ending::Rotate { .. } | Ending::Resolve { .. } | Ending::Never => {
                format!(
                    "If it was not, somebody else has a key of yours. To have everybody told of both, so that nobody installs anything new of either: ggen \
                     marketplace p2p key revoke <name>. {NO_WAY_BACK}"
                )
            }
        };
        format!(
            "others follow another chain of keys of your publisher {publisher}, with the key {}, and not yours. If it was you, on another \
             machine, import that key: ggen marketplace p2p key import <name> <file>. {end}",
            keys.join(", ")
        )
    }

    fn refused(&self, head: &VerifiedHead) -> Failure {
        let package = head.package_id();
        Failure::new(
            Code::Equivocation,
            format!(
                "{package} was not installed: it is signed under keys that contradict your own key of its publisher."
            ),
            format!(
                "See both: ggen marketplace p2p trust list, and what to do: ggen marketplace p2p status. To install it all the same: ggen \
                 marketplace p2p trust pin {package}, then again"
            ),
        )
    }
}

/// The key documents that are kept here of a publisher whose key is, or was, here.
pub(super) fn kept(store: &Store, publisher: &PublisherId) -> Option<KeyLog> {
    documents::kept(&store.folder()?.join(KEYS_FOLDER), publisher).ok().flatten()
}

/// What others follow in place of a chain of keys that is here, as a failure; nothing where there is no such thing, or where this chain
/// ended it. A head that is signed under this chain makes everybody know of both, so that none is signed by itself.
pub(super) fn others_follow_another(store: &Store, own: &KeyLog) -> Result<Option<Failure>, Failure> {
    let contradicted = Contradicted::of(store, own.clone())?;
    let contradicted = contradicted.filter(|it| !it.own.ends(&it.other) && !it.is_denounced());
    let see = "See both: ggen marketplace p2p trust list";
    Ok(contradicted.map(|it| Failure::new(Code::Equivocation, it.said(), see)))
}

/// All publishers whose key is here, or was, and is contradicted by what others follow.
fn contradicted(store: &Store) -> Result<Vec<Contradicted>, Failure> {
    let Some(folder) = store.folder() else { return Ok(Vec::new()) };
    let own = documents::all(&folder.join(KEYS_FOLDER)).map_err(fail)?;
    let found = own.into_iter().map(|own| Contradicted::of(store, own));
    Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Where the keys of a head contradict a key of ours: that, and whether the name is pinned to its publisher all the same.
fn own_of(store: &Store, head: &VerifiedHead) -> Result<Option<(Contradicted, bool)>, Failure> {
    let Some(own) = kept(store, &head.head().publisher) else { return Ok(None) };
    let Some(chains) = TwoChains::of(&own, head.key_log()) else { return Ok(None) };
    let pinned = store.read(|conn| pins::pinned(conn, &head.head().name)).map_err(fail)?;
    let is_pinned = pinned == Some(head.head().publisher);
    Ok(Some((Contradicted { own, other: head.key_log().clone(), chains }, is_pinned)))
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

/// Whether there are two chains of the keys of a publisher, as far as heads show it, or a key that is here.
pub(super) fn are_two(store: &Store, publisher: &PublisherId) -> Result<bool, Failure> {
    if store.read(|conn| Ok(catalog::disputed(conn, publisher)?.is_some())).map_err(fail)? {
        return Ok(true);
    }
    match kept(store, publisher) {
        Some(own) => Ok(Contradicted::of(store, own)?.is_some()),
        None => Ok(false),
    }
}

/// All publishers of whose keys there are two chains, as `trust list` shows them.
pub(super) fn all(store: &Store) -> Result<Vec<DisputedKeys>, Failure> {
    let read = store.read(|conn| Ok((pins::list_all(conn)?, catalog::all_disputed(conn)?)));
    let (pins, disputed) = read.map_err(fail)?;
    let shown = |chains: TwoChains, noticed_at: String| DisputedKeys {
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
        noticed_at,
    };
    let mut all: Vec<DisputedKeys> =
        disputed.into_iter().map(|disputed| shown(disputed.chains, disputed.at.to_string())).collect();
    for own in contradicted(store)? {
        if all.iter().all(|it| it.publisher != own.own.publisher().to_string()) {
            all.push(shown(own.chains, String::new()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Source,
        identity::{Publisher, SecretKey},
        package::PackageName,
        release::{Head, fixture},
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
        assert_eq!(all(&store).unwrap()[0].sides.len(), 2);
        assert!(all(&store).unwrap()[0].pinned);
    }

    #[test]
    fn what_contradicts_a_key_that_is_here_is_told_and_not_installed() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), NOW).unwrap();
        let old = fixture::publisher(1);
        let (own, thief) = (rotated(&old, 2), rotated(&old, 3));
        own.store(&home.path().join(KEYS_FOLDER), "me").unwrap();
        let stolen = head(&thief, "one");
        insert(&store, &head(&old, "one"));
        assert!(!are_two(&store, &old.id()).unwrap() && all(&store).unwrap().is_empty());
        insert(&store, &stolen);
        assert!(are_two(&store, &old.id()).unwrap());
        let shown = all(&store).unwrap();
        assert_eq!((shown.len(), shown[0].sides.len(), shown[0].document), (1, 2, 1));
        let said = contradicted(&store).unwrap()[0].said();
        assert!(said.contains(&thief.public_key().to_string()) && said.contains("key new <name>"), "{said}");
        let (found, is_pinned) = own_of(&store, &stolen).unwrap().unwrap();
        assert_eq!((found.refused(&stolen).code, is_pinned), (Code::Equivocation, false));
        assert!(own_of(&store, &head(&own, "one")).unwrap().is_none());
        pin(&store, "one", &old);
        assert!(own_of(&store, &stolen).unwrap().unwrap().1, "its owner wants it all the same");
        // Once a head under the own chain is seen too, it is one dispute and not two.
        insert(&store, &head(&own, "two"));
        assert_eq!(all(&store).unwrap().len(), 1);
    }

    #[test]
    fn what_ends_a_double_signing_depends_on_who_named_the_keys_of_both() {
        let recovery = crate::identity::RecoveryKey::from_secret([9; 32]);
        let plain = fixture::publisher(1);
        let named = crate::identity::publisher::Change {
            recovery: Some((vec![recovery.public_key()], 1)),
            ..Default::default()
        };
        let first = plain.amended(named, &[], NOW).unwrap();
        let next = |seed: u8| {
            let secret = Some(SecretKey::from_bytes(&[seed; 32]));
            let change = crate::identity::publisher::Change { secret, ..Default::default() };
            first.amended(change, std::slice::from_ref(&recovery), NOW).unwrap()
        };
        let (own, other) = (next(2), next(3));
        let store = Store::in_memory().unwrap();
        let package = head(&own, "one").package_id();
        let ending = |own: Option<&Publisher>| {
            let proofs = store.read(|conn| Ok(catalog::proofs(conn, &package)?)).unwrap();
            Ending::of(&proofs, own.map(Publisher::key_log))
        };
        assert_eq!(ending(Some(&own)), Ending::Rotate { by_recovery: true });
        insert(&store, &head(&own, "one"));
        insert(&store, &head(&other, "one"));
        assert_eq!(ending(Some(&own)), Ending::Revoke(vec![other.public_key()]));
        assert_eq!(ending(Some(&other)), Ending::Revoke(vec![own.public_key()]));
        let said = ending(Some(&own)).said(&package);
        assert!(
            said.contains(&format!("key revoke <name> --public-key {} --rec", other.public_key())),
            "{said}"
        );
        assert_eq!(ending(None), Ending::Revoke(Vec::new()));
        let logs = [rotated(&plain, 4), rotated(&plain, 5)];
        assert_eq!(Ending::of_chains([logs[0].key_log(), logs[1].key_log()], None), Ending::Never);
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
