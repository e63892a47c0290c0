//! Tests of what a name, a head and a log mean together, and of the verbs that depend on it.

use std::path::Path;

use super::*;
use crate::{
    backend::p2p::{P2PRegistry, publish::tests::registry_of},
    content::{Codec, ContentId},
    control::{
        api::{InstallRequest, Installed, PublishRequest, VerifyRequest},
        service::{Cancel, ProgressSender},
    },
    identity::Publisher,
    release::{Head, Kind, Labels},
    store::Store,
    time::Timestamp,
};

fn head(publisher: &Publisher, versions: &[&str], now: Timestamp) -> VerifiedHead {
    let mut log = Log::empty(PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() });
    for version in versions {
        let id = |codec| ContentId::of(codec, version.as_bytes());
        let kind = Kind::Release(Release {
            version: version.parse().unwrap(),
            manifest: id(Codec::Raw),
            root: id(Codec::DagPb),
            size: 1,
            files: 1,
        });
        log.push(log.next(kind, publisher, now).unwrap()).unwrap();
    }
    let labels = Labels {
        description: "A package".to_owned(),
        license: None,
        tags: Vec::new(),
        categories: Vec::new(),
        preflight_skipped: false,
        secrets_allowed: false,
    };
    Head::of(&log, labels, publisher).unwrap().sign(publisher).unwrap()
}

#[tokio::test]
async fn a_frozen_package_stays_so_after_its_head_left_the_index() {
    let now = Timestamp::now();
    let publisher = Publisher::from_secret([1; 32], now);
    let (one, other) = (head(&publisher, &["1.0.0"], now), head(&publisher, &["2.0.0"], now));
    let store = Store::in_memory().unwrap();
    store
        .write(|tx| {
            catalog::insert(tx, &one, &catalog::Source::unknown(), now)?;
            catalog::insert(tx, &other, &catalog::Source::unknown(), now)?;
            Ok(catalog::discard(tx, 0, one.bytes())?)
        })
        .unwrap();
    let registry = registry_of(store, publisher).await;
    let failure = registry.node.head_of(&one.package_id()).await.unwrap_err();
    assert_eq!(failure.code, Code::Equivocation);
}

#[tokio::test]
async fn a_head_from_the_dht_is_held_against_what_was_seen_before() {
    let now = Timestamp::now();
    let publisher = Publisher::from_secret([1; 32], now);
    let (old, new) = (head(&publisher, &["1.0.0"], now), head(&publisher, &["1.0.0", "1.0.1"], now));
    let store = Store::in_memory().unwrap();
    store
        .write(|tx| {
            catalog::insert(tx, &new, &catalog::Source::unknown(), now)?;
            Ok(catalog::discard(tx, 0, new.bytes())?)
        })
        .unwrap();
    let registry = registry_of(store, publisher).await;
    let failure = registry.node.not_older(old).await.unwrap_err();
    assert_eq!(failure.code, Code::Rollback);
    assert!(registry.node.not_older(new).await.is_ok());
}

#[tokio::test]
async fn a_head_from_the_dht_by_a_revoked_key_is_refused_also_of_a_package_that_was_never_seen() {
    let now = Timestamp::now();
    let old = Publisher::from_secret([1; 32], now);
    let change = |revoked| {
        let secret = Some(crate::identity::SecretKey::from_bytes(&[2; 32]));
        let change = crate::identity::publisher::Change { secret, revoked, ..Default::default() };
        old.changed(change, &[], now).unwrap()
    };
    for (revoked, is_refused) in [(Vec::new(), false), (vec![old.public_key()], true)] {
        let (owner, store) = (change(revoked), Store::in_memory().unwrap());
        let own = head(&owner, &["1.0.0"], now);
        let own = Head { name: "another".parse().unwrap(), ..own.head().clone() }.sign(&owner).unwrap();
        store.write(|tx| Ok(catalog::insert(tx, &own, &catalog::Source::unknown(), now)?)).unwrap();
        let registry = registry_of(store, Publisher::from_secret([9; 32], now)).await;
        let judged = registry.node.not_older(head(&old, &["1.0.0"], now)).await;
        assert_eq!(judged.is_err_and(|failure| failure.code == Code::Signature), is_refused);
    }
}

/// A node that published these versions of one package, with the store that it keeps them in.
async fn published(folder: &Path, versions: &[&str]) -> (P2PRegistry, Store, Publisher) {
    let publisher = Publisher::from_secret([1; 32], Timestamp::now());
    let store = Store::in_memory().unwrap();
    let registry = registry_of(store.clone(), publisher.clone()).await;
    let source = folder.join("source");
    std::fs::create_dir(&source).unwrap();
    for version in versions {
        let gpack = format!("name = \"pack\"\nversion = \"{version}\"\ndescription = \"A package\"\n");
        std::fs::write(source.join("gpack.toml"), gpack).unwrap();
        std::fs::write(source.join("text"), version).unwrap();
        let request = PublishRequest {
            path: source.display().to_string(),
            skip_verify: true,
            timeout_secs: Some(1),
            ..PublishRequest::default()
        };
        registry.node.publish(request, ProgressSender::discard(), Cancel::default()).await.unwrap();
    }
    (registry, store, publisher)
}

/// What a node that never heard of the package before makes of `head`.
fn forget_and_learn(store: &Store, head: &VerifiedHead) {
    store
        .write(|tx| {
            tx.execute_batch(
                "DELETE FROM catalog_heads; DELETE FROM catalog_seen; DELETE FROM equivocations",
            )?;
            catalog::insert(tx, head, &catalog::Source::unknown(), Timestamp::now())?;
            Ok(())
        })
        .unwrap();
}

async fn install(registry: &P2PRegistry, package: &str, to: &Path) -> Result<Installed, Failure> {
    let request = InstallRequest {
        package: package.to_owned(),
        to: to.display().to_string(),
        timeout_secs: Some(5),
        ..InstallRequest::default()
    };
    registry.node.install(request, ProgressSender::discard()).await
}

#[tokio::test]
async fn a_head_that_its_own_log_contradicts_is_not_installed() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, store, publisher) = published(folder.path(), &["1.0.0", "1.1.0"]).await;
    let package = PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() };
    let genuine = registry.node.head_of(&package).await.unwrap();
    let log = registry.node.log_of(&genuine).await.map_err(Failure::from).unwrap();
    let older = log.versions()[&"1.0.0".parse().unwrap()].release.clone();
    let forged = Head { latest: Some(older), ..genuine.head().clone() }.sign(&publisher).unwrap();
    forget_and_learn(&store, &forged);
    let target = folder.path().join("installed");
    let failure = install(&registry, "pack", &target).await.unwrap_err();
    assert_eq!(failure.code, Code::HashMismatch, "{}", failure.message);
    assert_eq!(failure.exit_code(), 6);
    assert!(!target.exists());
    forget_and_learn(&store, &genuine);
    let installed = install(&registry, "pack", &target).await.unwrap();
    assert_eq!(installed.version, "1.1.0");
}

#[tokio::test]
async fn a_history_that_was_written_anew_behind_a_number_is_found_and_freezes_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, store, publisher) = published(folder.path(), &["1.0.0", "1.1.0"]).await;
    let package = PackageId { publisher: publisher.id(), name: "pack".parse().unwrap() };
    let genuine = registry.node.head_of(&package).await.unwrap();
    let log = registry.node.log_of(&genuine).await.map_err(Failure::from).unwrap();
    // The same first entry, another second one, and a third: a number that nobody has seen yet.
    let now = Timestamp::now();
    let mut fork = Log::verify(log.entries()[..1].to_vec()).unwrap();
    for message in ["another", "beyond"] {
        let kind = Kind::Deprecate { message: message.to_owned() };
        fork.push(fork.next(kind, &publisher, now).unwrap()).unwrap();
    }
    let mut batch = store.batch();
    for entry in fork.entries() {
        batch.put(entry.block().clone()).unwrap();
    }
    batch.commit(|_| Ok(())).unwrap();
    let forged = Head::of(&fork, Labels::default(), &publisher).unwrap();
    let forged = forged.sign(&publisher).unwrap();
    let outcome =
        store.write(|tx| Ok(catalog::insert(tx, &forged, &catalog::Source::unknown(), now)?)).unwrap();
    assert_eq!(outcome, catalog::Outcome::Replaced, "a head alone does not show it");
    let target = folder.path().join("installed");
    let installed = install(&registry, "pack", &target).await.unwrap();
    assert_eq!(installed.version, "1.0.0", "the newest that both histories have");
    assert!(installed.warnings[0].starts_with("frozen"), "{:?}", installed.warnings);
    let proof = store.read(|conn| Ok(catalog::proofs(conn, &package)?)).unwrap().remove(0);
    let entries = [log.entries()[1].block().bytes(), fork.entries()[1].block().bytes()];
    assert_eq!([proof.first.as_slice(), proof.second.as_slice()], entries);
    assert!(store.read(|conn| Ok(catalog::is_frozen(conn, &package)?)).unwrap());
}

#[tokio::test]
async fn a_name_that_everybody_claims_is_answered_with_a_few_of_them() {
    let now = Timestamp::now();
    let store = Store::in_memory().unwrap();
    for seed in 1..=25 {
        let head = head(&Publisher::from_secret([seed; 32], now), &["1.0.0"], now);
        store.write(|tx| Ok(catalog::insert(tx, &head, &catalog::Source::unknown(), now)?)).unwrap();
    }
    let registry = registry_of(store, Publisher::from_secret([99; 32], now)).await;
    let failure = install(&registry, "pack", &std::env::temp_dir().join("never")).await.unwrap_err();
    assert_eq!(failure.code, Code::Ambiguous);
    assert!(failure.message.starts_with("25 publishers"), "{}", failure.message);
    assert!(failure.message.ends_with("\n  and 5 more"), "{}", failure.message);
    assert_eq!(failure.message.lines().count(), 22);
}

#[tokio::test]
async fn what_is_installed_in_several_folders_is_verified_in_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _, _) = published(folder.path(), &["1.0.0", "1.1.0"]).await;
    let targets = ["one", "other", "older"].map(|name| folder.path().join(name));
    for (target, package) in targets.iter().zip(["pack", "pack", "pack@1.0.0"]) {
        install(&registry, package, target).await.unwrap();
    }
    let verify = |package: &str, path: Option<&Path>| {
        let path = path.map(|path| path.display().to_string());
        registry.node.verify(VerifyRequest { package: package.to_owned(), path, project: None })
    };
    let all = verify("pack", None).await.unwrap();
    assert!(all.ok && all.others.len() == 2 && all.others.iter().all(|other| other.ok), "{all:?}");
    std::fs::write(targets[1].join("text"), "changed").unwrap();
    let all = verify("pack", None).await.unwrap();
    assert!(!all.ok && all.others.iter().all(|other| other.ok), "what differs comes first: {all:?}");
    assert_eq!(all.path, targets[1].display().to_string());
    let older = verify("pack@1.0.0", None).await.unwrap();
    assert!(older.ok && older.others.is_empty() && older.id.ends_with("@1.0.0"), "{older:?}");
    assert!(verify("pack", Some(&targets[0])).await.unwrap().others.is_empty());
    assert_eq!(verify("pack@2.0.0", None).await.unwrap_err().code, Code::NotFound);
}

#[test]
fn that_no_peer_tells_of_a_package_says_something_where_one_was_read() {
    let snapshot = |peers, complete, failed: &[(Outcome, usize)]| Snapshot {
        heads_peers: peers,
        heads_complete: complete,
        heads_failed: failed.iter().copied().collect(),
        ..Snapshot::default()
    };
    assert!(is_unread(&snapshot(1, 0, &[(Outcome::Refused, 1)])));
    assert!(is_unread(&snapshot(2, 0, &[(Outcome::TimedOut, 1), (Outcome::CutOff, 1)])));
    assert!(!is_unread(&snapshot(2, 1, &[(Outcome::TimedOut, 1)])));
    assert!(!is_unread(&snapshot(1, 0, &[(Outcome::Waits, 1)])), "it was read, and some cannot be taken");
    assert!(!is_unread(&snapshot(0, 0, &[])), "there is nobody to read");
}
