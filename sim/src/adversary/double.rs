//! Signs a package twice, and then ends that as its publisher may, or as a thief would like to; or replaces its key twice, as the owner
//! and as a thief of it.

use std::time::Duration;

use ggen_marketplace::{
    content::{Codec, ContentId},
    identity::{
        Context, Envelope, KeyDocument, KeyLog, Publisher, RecoveryKey, SecretKey, publisher::Change,
    },
    package::PackageId,
    release::{Head, Kind, Labels, Log, Release, Resolve, VerifiedHead, Withdrawn},
    sync::protocol::Page,
    time::Timestamp,
};
use libp2p::PeerId;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Bite, Script, Stage, TURNS_PER_SECOND, page_of};

/// The turn at which the state is told that both branches have in common.
const COMMON: u64 = 4;
/// The turn at which both branches are told.
const FORK: u64 = 12;
/// The turns at which an end of it is told: everybody has heard of both branches by then.
const END: std::ops::Range<u64> = 50..100;
/// The turn at which the owner's other package is told, whose keys revoke the stolen one.
const REVOKED: u64 = 64;
/// The turn from which on a new package is told that the stolen key signed.
const STOLEN: u64 = REVOKED + 10;
/// Turns between two rounds of that.
const ROUND_TURNS: u64 = 8;

/// Who says what counts in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The publisher, after it replaced its key.
    Owner,
    /// Somebody with the release key, where the publisher named a recovery key.
    Thief,
    /// Nobody: the branches are under two chains of keys, the owner's and the thief's.
    None,
}

/// Has one package with two branches.
#[derive(Debug)]
pub(super) struct DoubleSigner {
    secret: [u8; 32],
    ending: Ending,
    story: Option<Story>,
}

/// What it tells, in the order in which it does.
#[derive(Debug, Clone)]
struct Story {
    common: Vec<u8>,
    branches: [Vec<u8>; 2],
    ends: Vec<Vec<u8>>,
    key: [u8; 32],
    /// A head of the owner's other package under keys that revoke the stolen one, and one of a package that the thief makes up.
    others: Option<[Vec<u8>; 2]>,
}

impl DoubleSigner {
    pub(super) fn new(secret: [u8; 32], ending: Ending) -> Self {
        Self { secret, ending, story: None }
    }

    /// Makes up the package, where that was not done.
    fn begin(&mut self, stage: &Stage) -> Story {
        let (secret, ending) = (self.secret, self.ending);
        let story = self.story.get_or_insert_with(|| {
            let story = told(&secret, ending, Timestamp::now());
            let head = VerifiedHead::verify_stored(&story.common).expect("a valid head");
            stage.cast.ledger.lock().worthless(head.package_id().to_string());
            if ending == Ending::Thief {
                story.ends.iter().for_each(|end| stage.brand(end));
            }
            if let Some([owners, thiefs]) = &story.others {
                stage.brand(thiefs);
                for head in [owners, thiefs] {
                    let head = VerifiedHead::verify_stored(head).expect("a valid head");
                    stage.cast.ledger.lock().worthless(head.package_id().to_string());
                }
            }
            story
        });
        story.clone()
    }

    fn tell(&self, stage: &mut Stage, key: &[u8; 32], heads: &[Vec<u8>]) {
        for head in heads {
            if stage.announce(head.clone()) {
                stage.bit(Bite::Contradicted, None);
            }
            stage.put(key, head.clone());
        }
    }
}

impl Script for DoubleSigner {
    fn turn(&mut self, stage: &mut Stage) {
        let Story { common, branches, ends, key, others } = self.begin(stage);
        if let Some([owners, thiefs]) = others {
            let of = |head: &[u8]| VerifiedHead::verify_stored(head).expect("a valid head").dht_key();
            match stage.turns {
                REVOKED => self.tell(stage, &of(&owners), &[owners]),
                STOLEN.. if stage.turns.is_multiple_of(ROUND_TURNS) => {
                    self.tell(stage, &of(&thiefs), &[thiefs])
                }
                _ => {}
            }
        }
        match stage.turns {
            COMMON => self.tell(stage, &key, &[common]),
            FORK => self.tell(stage, &key, &branches),
            turn if END.contains(&turn) && turn.is_multiple_of(ROUND_TURNS) => self.tell(stage, &key, &ends),
            _ => {}
        }
    }

    fn page(&mut self, stage: &mut Stage, peer: PeerId) -> Option<Page> {
        let turn = stage.turns;
        let Story { common, branches, ends, others, .. } = self.begin(stage);
        let mut told = match turn {
            _ if turn <= COMMON => Vec::new(),
            _ if turn <= FORK => vec![common],
            _ if turn > END.start && self.ending == Ending::Owner => ends,
            // Who was cut off when both were told learns of the thief's from honest peers alone.
            _ if self.ending == Ending::None => branches[..1].to_vec(),
            _ => {
                stage.bites_with_answer(Bite::Contradicted, peer);
                branches.to_vec()
            }
        };
        let shown = usize::from(turn > REVOKED) + usize::from(turn > STOLEN);
        told.extend(others.into_iter().flatten().take(shown));
        Some(page_of(told))
    }
}

fn told(secret: &[u8; 32], ending: Ending, now: Timestamp) -> Story {
    let of =
        |what: &str| -> [u8; 32] { Sha256::new().chain_update(secret).chain_update(what).finalize().into() };
    let recovery = RecoveryKey::from_secret(of("recovery"));
    let release = SecretKey::from_bytes(&of("release"));
    let mut genesis = KeyDocument::genesis(release.public_key(), now);
    if ending == Ending::Thief {
        (genesis.recovery, genesis.recovery_threshold) = (vec![recovery.public_key()], 1);
    }
    let chain = KeyLog::verify(&[genesis.sign(&[&release]).expect("within limits")]).expect("a chain");
    let owner = Publisher::new(release.clone(), chain).expect("its current key");
    let log = |versions: &[&str]| {
        let mut log = Log::empty(PackageId { publisher: owner.id(), name: "twice".parse().expect("a name") });
        for version in versions {
            let entry = log.next(Kind::Release(made_up(version)), &owner, now).expect("a next entry");
            log.push(entry).expect("its own next entry");
        }
        log
    };
    let common = log(&["1.0.0"]);
    let branches = [log(&["1.0.0", "2.0.0"]), log(&["1.0.0", "2.1.0"])];
    if ending == Ending::None {
        return replaced_twice(&owner, &common, [of("owner's"), of("thief's")], now);
    }
    let mut lists: Vec<Vec<ContentId>> =
        branches.iter().filter_map(|log| log.newest().map(|entry| vec![entry.id()])).collect();
    lists.sort();
    let resolve = Resolve {
        key_n: 0,
        branches: lists,
        kept: vec![made_up("2.0.0")],
        withdrawn: vec![Withdrawn::of(&made_up("2.1.0"))],
    };
    let new = SecretKey::from_bytes(&of("next"));
    let ends = match ending {
        Ending::Owner => {
            let change = Change { secret: Some(new), ..Change::default() };
            let owner = owner.changed(change, &[], now).expect("its own next keys");
            let mut log = common.clone();
            let entry = log.next(Kind::Resolve(Box::new(resolve)), &owner, now).expect("a resolve");
            log.push(entry).expect("its own next entry");
            vec![head_of(&log, &owner).bytes().to_vec()]
        }
        Ending::None => Vec::new(),
        Ending::Thief => stolen(&owner, &release, &new, &branches, &resolve, now),
    };
    let heads = branches.map(|log| head_of(&log, &owner));
    let key = heads[0].dht_key();
    let others = (ending == Ending::Thief).then(|| revoked(&owner, of, now));
    let common = head_of(&common, &owner).bytes().to_vec();
    Story { common, branches: heads.map(|head| head.bytes().to_vec()), ends, key, others }
}

/// What the owner publishes once its recovery key revoked the release key, and what the thief does with that key.
fn revoked(owner: &Publisher, of: impl Fn(&str) -> [u8; 32], now: Timestamp) -> [Vec<u8>; 2] {
    // When everybody has heard of the package that was signed twice: what was known before stays.
    let at = now.plus(Duration::from_secs(REVOKED / TURNS_PER_SECOND));
    let [recovery, next] = ["recovery", "after"].map(|what| SecretKey::from_bytes(&of(what)));
    let change = Change { secret: Some(next), revoked: vec![owner.public_key()], ..Change::default() };
    let later = owner.changed(change, &[recovery], at).expect("its own next keys");
    [("owners", &later), ("thiefs", owner)].map(|(name, publisher)| {
        let package = PackageId { publisher: owner.id(), name: name.parse().expect("a name") };
        let mut log = Log::empty(package);
        let entry = log.next(Kind::Release(made_up("1.0.0")), publisher, now).expect("a next entry");
        log.push(entry).expect("its own next entry");
        head_of(&log, publisher).bytes().to_vec()
    })
}

/// The key of a package is replaced twice, and each of the new ones releases a version of its own.
fn replaced_twice(owner: &Publisher, common: &Log, keys: [[u8; 32]; 2], now: Timestamp) -> Story {
    let branches = keys.map(|key| {
        let publisher = owner.rotated(SecretKey::from_bytes(&key), now).expect("its own next keys");
        let version = format!("1.0.{}", u32::from(key[0]) + 1);
        let mut log = common.clone();
        let entry = log.next(Kind::Release(made_up(&version)), &publisher, now).expect("a next entry");
        log.push(entry).expect("its own next entry");
        head_of(&log, &publisher)
    });
    let common = head_of(common, owner);
    Story {
        key: common.dht_key(),
        common: common.bytes().to_vec(),
        branches: branches.map(|head| head.bytes().to_vec()),
        ends: Vec::new(),
        others: None,
    }
}

/// What somebody with the release key tries: a resolve under the keys that signed twice, one under a key document that only the
/// release key signed, and the latter with the publisher's own head.
fn stolen(
    owner: &Publisher,
    release: &SecretKey,
    new: &SecretKey,
    branches: &[Log; 2],
    resolve: &Resolve,
    now: Timestamp,
) -> Vec<Vec<u8>> {
    let sealed =
        |context, payload: Vec<u8>, keys: &[&SecretKey]| Envelope::seal(context, payload, keys).encode();
    let names: Vec<u8> = resolve.entries().flat_map(|id| id.digest().into_iter().take(8)).collect();
    let draft = Head::of(&branches[0], labels(), owner).expect("the log has an entry");
    let own = Head { resolved: names.into(), ..draft };
    let mut document = owner.key_log().next(vec![new.public_key()], 1, now);
    (document.recovery, document.recovery_threshold) = (Vec::new(), 0);
    let document = sealed(Context::KeyDocument, encoded(&document), &[release, new]);
    let mut rotated = own.clone();
    rotated.key_log = ContentId::of(Codec::DagCbor, &document);
    rotated.keys.push(document.into());
    vec![
        sealed(Context::Head, encoded(&own), &[release]),
        sealed(Context::Head, encoded(&rotated), &[new]),
        sealed(Context::Head, encoded(&rotated), &[release]),
    ]
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("it can be encoded")
}

fn labels() -> Labels {
    Labels { description: "Signed twice".to_owned(), ..Labels::default() }
}

fn head_of(log: &Log, publisher: &Publisher) -> VerifiedHead {
    let head = Head::of(log, labels(), publisher).expect("the log has an entry");
    head.sign(publisher).expect("a valid head")
}

/// A release of content that nobody holds.
fn made_up(version: &str) -> Release {
    Release {
        version: version.parse().expect("a valid version"),
        manifest: ContentId::of(Codec::Raw, version.as_bytes()),
        root: ContentId::of(Codec::DagPb, version.as_bytes()),
        size: 1,
        files: 1,
    }
}

#[cfg(test)]
mod tests {
    use ggen_marketplace::release::{DoubleSigning, TwoChains, fork};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn proof(story: &Story) -> DoubleSigning {
        let [a, b] = story.branches.each_ref().map(|it| VerifiedHead::verify_stored(it).unwrap());
        DoubleSigning::of_heads(&a, &b).unwrap()
    }

    #[test]
    fn the_owner_revokes_the_stolen_key_after_everybody_has_heard_of_what_it_signed() {
        let story = told(&[7; 32], Ending::Thief, NOW);
        let [owners, thiefs] = story.others.unwrap().map(|it| VerifiedHead::verify_stored(&it).unwrap());
        let since = fork::revoked_since(&thiefs, owners.key_log()).unwrap();
        assert!(since > NOW.plus(Duration::from_secs(FORK / TURNS_PER_SECOND)));
        assert_ne!(owners.package_id(), thiefs.package_id());
    }

    #[test]
    fn the_owner_ends_it() {
        let story = told(&[7; 32], Ending::Owner, NOW);
        let end = VerifiedHead::verify_stored(&story.ends[0]).unwrap();
        assert!(proof(&story).is_ended_by(&end));
    }

    #[test]
    fn a_key_that_is_replaced_twice_has_two_chains() {
        let story = told(&[7; 32], Ending::None, NOW);
        let [a, b] = story.branches.each_ref().map(|it| VerifiedHead::verify_stored(it).unwrap());
        assert_eq!(TwoChains::of_heads(&a, &b).map(|chains| chains.n), Some(1));
        assert_eq!(DoubleSigning::of_heads(&a, &b), None);
    }

    #[test]
    fn nothing_that_a_thief_signs_ends_it() {
        let story = told(&[7; 32], Ending::Thief, NOW);
        let ends = story.ends.iter().filter_map(|end| VerifiedHead::verify_stored(end).ok());
        assert!(ends.into_iter().all(|end| !proof(&story).is_ended_by(&end)));
        assert!(VerifiedHead::verify_stored(&story.ends[1]).is_err(), "the release key cannot rotate");
        assert!(VerifiedHead::verify_stored(&story.ends[2]).is_err());
    }
}
