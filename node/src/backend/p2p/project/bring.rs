//! Brings what a lock file names here, and verifies it by the lock file alone: no head, and no log, is needed.
//!
//! The keys' chain leads to the publisher's id; the keys signed the entry, which names the manifest and the tree; and they
//! signed the manifest, which names every file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::{Opened, Target, place};
use crate::{
    backend::p2p::{
        failure::fail,
        install::{held, manifest_of},
        node::Node,
        offer::{How, entries_here},
        sources::Looking,
    },
    catalog,
    code::Code,
    content::{Block, ContentId},
    control::{api::Failure, service::ProgressSender},
    fetch::{session::Session, wanted::Wanted},
    identity::KeyLog,
    limits::{ENTRY_BYTES_MAX, KEY_DOCUMENT_BYTES_MAX, KEY_DOCUMENTS_MAX, PROJECT_FETCHES_MAX},
    network::Handle,
    package::{Manifest, PackageId, SignedManifest, unixfs::FilePart},
    project::{Lock, Locked},
    release::{Kind, Release, SignedEntry, VerifiedHead},
    store::{self, Store},
};

/// Packages that a failure names one by one; the rest is counted.
const NAMED_MAX: usize = 20;

/// How long the manifests may take of what is to be replaced: without them it is kept aside at most.
const REPLACED_PATIENCE: Duration = Duration::from_secs(15);

/// A package of a lock file, verified as far as its manifest.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    pub(super) id: PackageId,
    pub(super) release: Release,
    pub(super) manifest: Manifest,
    pub(super) keys: KeyLog,
}

/// How much of what comes is there.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    progress: ProgressSender,
    done: Arc<AtomicU64>,
    total: u64,
}

impl Tally {
    pub(super) fn new(progress: ProgressSender, total: u64) -> Self {
        Self { progress, done: Arc::default(), total }
    }

    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.report("fetching", done.min(self.total), Some(self.total), "bytes");
    }
}

impl Node {
    /// Brings the signed manifests of all packages of a lock file here.
    pub(super) async fn bring_manifests(
        &self,
        lock: &Lock,
        how: How,
        progress: &ProgressSender,
    ) -> Result<Vec<Brought>, Failure> {
        let wanted: Vec<(PackageId, Locked)> = lock.packages.clone().into_iter().collect();
        let looked = self.offload_store(move |store| {
            let mut found = (Vec::new(), Vec::new());
            for (id, locked) in wanted {
                match here(store, &id, &locked)? {
                    Some(brought) => found.0.push(brought),
                    None => found.1.push((id, locked)),
                }
            }
            Ok(found)
        });
        let (mut brought, missing) = looked.await?;
        if how.offline && !missing.is_empty() {
            return Err(not_here(missing.iter().map(|(id, locked)| format!("{id}@{}", locked.version))));
        }
        let (total, before) = (lock.packages.len() as u64, brought.len() as u64);
        let done = AtomicU64::new(before);
        let fetches = stream::iter(missing).map(|(id, locked)| {
            let done = &done;
            async move {
                let brought = self.bring_manifest(id, &locked, how).await?;
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                progress.report("reading manifests", done, Some(total), "packages");
                Ok::<_, Failure>(brought)
            }
        });
        let fetched: Vec<Brought> = fetches.buffer_unordered(PROJECT_FETCHES_MAX).try_collect().await?;
        brought.extend(fetched);
        brought.sort_by(|a, b| a.id.cmp(&b.id));
        for it in &brought {
            let locked = &lock.packages[&it.id];
            if it.manifest.gpack().dependencies != locked.dependencies {
                return Err(contradiction(&it.id, locked, OTHER_NEEDS));
            }
        }
        Ok(brought)
    }

    async fn bring_manifest(&self, id: PackageId, locked: &Locked, how: How) -> Result<Brought, Failure> {
        let sources = self.sources(locked.root, how.deadline, Looking::Twice);
        let mut session =
            Session::new(self.network.clone(), self.store.clone(), self.offload, how.deadline, sources);
        let brought = self.bring_signed(&mut session, id, locked).await;
        self.bytes_received.fetch_add(session.report().bytes, Ordering::Relaxed);
        self.refuse_forgers(session.report()).await;
        brought
    }

    async fn bring_signed(
        &self,
        session: &mut Session<Handle>,
        id: PackageId,
        locked: &Locked,
    ) -> Result<Brought, Failure> {
        let keys = match self.bring_keys(session, &id, locked).await {
            Ok(keys) => keys,
            // A peer that has the tree need not have these; the head of the package carries them too.
            Err(failure) => self.head_of(&id).await.map_err(|_| failure)?.key_log().clone(),
        };
        self.bring_block(session, locked.entry, ENTRY_BYTES_MAX).await?;
        let manifest = Wanted::File { id: locked.manifest, bytes_max: SignedManifest::BYTES_MAX as u64 };
        session.get(vec![manifest], &mut |_| {}).await.map_err(fail)?;
        let (entry, locked) = (locked.entry, locked.clone());
        let read = self.offload_store(move |store| with_keys(store, &id, &locked, keys)).await?;
        read.ok_or_else(|| fail(store::Error::Vanished { id: entry }))
    }

    /// The chain of a publisher's keys up to the document that the lock file names.
    async fn bring_keys(
        &self,
        session: &mut Session<Handle>,
        id: &PackageId,
        locked: &Locked,
    ) -> Result<KeyLog, Failure> {
        let mut documents = Vec::new();
        let mut next = Some(locked.keys);
        while let Some(wanted) = next {
            if documents.len() >= KEY_DOCUMENTS_MAX {
                return Err(contradiction(id, locked, "the chain of keys that it names is too long"));
            }
            let bytes = self.bring_block(session, wanted, KEY_DOCUMENT_BYTES_MAX).await?.into_bytes();
            next = KeyLog::before(&bytes).map_err(|error| contradiction(id, locked, &error.to_string()))?;
            documents.push(bytes);
        }
        documents.reverse();
        chain(&documents, id, locked)
    }

    async fn bring_block(
        &self,
        session: &mut Session<Handle>,
        id: ContentId,
        bytes_max: usize,
    ) -> Result<Block, Failure> {
        session
            .get(vec![Wanted::Block { id, bytes_max: bytes_max as u64 }], &mut |_| {})
            .await
            .map_err(fail)?;
        self.offload_store(move |store| {
            store.block(&id).map_err(fail)?.ok_or_else(|| fail(store::Error::Vanished { id }))
        })
        .await
    }

    /// Brings the manifests of packages that are to be replaced, where they are not here: the folders came from elsewhere. What cannot be
    /// had is none of an error: it is not touched then without --force.
    pub(super) async fn bring_replaced(
        &self,
        opened: &Arc<Opened>,
        target: &Arc<Target>,
        how: How,
    ) -> Result<(), Failure> {
        let (opened, target) = (Arc::clone(opened), Arc::clone(target));
        let looked = self.offload_store(move |store| {
            let site = place::site(&opened.guard, &target.requirements)?;
            place::unknown(store, &site, &target)
        });
        let deadline = how.deadline.min(Instant::now() + REPLACED_PATIENCE);
        let fetches = stream::iter(looked.await?).map(|placed| async move {
            let sources = self.sources(placed.root, deadline, Looking::Once);
            let mut session =
                Session::new(self.network.clone(), self.store.clone(), self.offload, deadline, sources);
            let manifest = Wanted::File { id: placed.manifest, bytes_max: SignedManifest::BYTES_MAX as u64 };
            if let Err(error) = session.get(vec![manifest], &mut |_| {}).await {
                tracing::info!(package = %placed.package, %error, "the manifest of what is to be replaced did not come");
            }
            self.bytes_received.fetch_add(session.report().bytes, Ordering::Relaxed);
            self.refuse_forgers(session.report()).await;
        });
        fetches.buffer_unordered(PROJECT_FETCHES_MAX).collect::<()>().await;
        Ok(())
    }

    /// Brings the files of some packages here, several packages at once; yields the bytes that came.
    pub(super) async fn bring_files(
        &self,
        packages: &[Brought],
        how: How,
        progress: &ProgressSender,
    ) -> Result<u64, Failure> {
        let manifests: Vec<Manifest> = packages.iter().map(|it| it.manifest.clone()).collect();
        let looked = self.offload_store(move |store| {
            manifests
                .iter()
                .map(|manifest| is_whole(store, manifest))
                .collect::<Result<Vec<bool>, _>>()
                .map_err(fail)
        });
        let whole = looked.await?;
        let missing: Vec<Brought> =
            packages.iter().zip(whole).filter(|(_, whole)| !whole).map(|(it, _)| it.clone()).collect();
        if how.offline && !missing.is_empty() {
            return Err(not_here(missing.iter().map(|it| format!("{}@{}", it.id, it.release.version))));
        }
        let total = missing.iter().map(|it| it.release.size).sum();
        let tally = Tally::new(progress.clone(), total);
        let fetches = stream::iter(missing).map(|it| self.bring_tree(it, how, tally.clone()));
        fetches
            .buffer_unordered(PROJECT_FETCHES_MAX)
            .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
            .await
    }

    async fn bring_tree(&self, it: Brought, how: How, tally: Tally) -> Result<u64, Failure> {
        let (sources, kept_out) = self.sources_and_others(it.release.root, how.deadline, Looking::Twice);
        let session =
            Session::new(self.network.clone(), self.store.clone(), self.offload, how.deadline, sources);
        let mut session = session.of_tree(it.release.root);
        let wanted = it.manifest.files().iter().map(|file| Wanted::Part(file.whole())).collect();
        let mut before = 0;
        let mut tell = |done: u64| {
            tally.add(done.saturating_sub(before));
            before = done;
        };
        let got = session.get(wanted, &mut tell).await.map_err(fail);
        let report = session.report().clone();
        self.bytes_received.fetch_add(report.bytes, Ordering::Relaxed);
        self.judge(it.release.root, &report, got.is_ok()).await;
        self.judge_late(it.release.root, session);
        got.map_err(|failure| kept_out.explained(named(&it.id, failure)))?;
        Ok(report.bytes)
    }
}

/// A failure says which of many packages it is about.
fn named(id: &PackageId, failure: Failure) -> Failure {
    Failure { message: format!("{id}: {}", failure.message), ..failure }
}

/// A package of a lock file, where everything up to its manifest is here.
pub(super) fn here(store: &Store, id: &PackageId, locked: &Locked) -> Result<Option<Brought>, Failure> {
    let mut documents = Vec::new();
    let mut next = Some(locked.keys);
    while let Some(wanted) = next.filter(|_| documents.len() < KEY_DOCUMENTS_MAX) {
        let Some(block) = store.block(&wanted).map_err(fail)? else {
            return match keys_of_head(store, id)? {
                Some(keys) => with_keys(store, id, locked, keys),
                None => Ok(None),
            };
        };
        let bytes = block.into_bytes();
        next = KeyLog::before(&bytes).map_err(|error| contradiction(id, locked, &error.to_string()))?;
        documents.push(bytes);
    }
    documents.reverse();
    with_keys(store, id, locked, chain(&documents, id, locked)?)
}

/// The keys of a package whose head is listed.
fn keys_of_head(store: &Store, id: &PackageId) -> Result<Option<KeyLog>, Failure> {
    let listed = store.read(|conn| Ok(catalog::get(conn, id)?)).map_err(fail)?;
    let head = listed.map(|listed| VerifiedHead::verify_stored(&listed.bytes)).transpose().map_err(fail)?;
    Ok(head.map(|head| head.key_log().clone()))
}

fn with_keys(
    store: &Store,
    id: &PackageId,
    locked: &Locked,
    keys: KeyLog,
) -> Result<Option<Brought>, Failure> {
    if keys.publisher() != id.publisher {
        return Err(contradiction(id, locked, "its keys are those of another publisher"));
    }
    let Some(entry) = store.block(&locked.entry).map_err(fail)? else {
        // One that there never was is had from nobody.
        return match has_another(store, id, locked)? {
            true => Err(contradiction(id, locked, "its log released it by another entry")),
            false => Ok(None),
        };
    };
    let entry = SignedEntry::decode_and_verify(entry.bytes(), &keys).map_err(fail)?;
    let signed = entry.entry();
    let release = match &signed.kind {
        Kind::Release(release) => Some(release),
        Kind::Resolve(resolve) => resolve.kept.iter().find(|release| release.version == locked.version),
        _ => None,
    };
    let release = release.filter(|release| {
        release.version == locked.version
            && release.root == locked.root
            && release.manifest == locked.manifest
            && release.size == locked.size
    });
    let release = match release {
        Some(release) if signed.package_id() == *id && signed.sequence.get() == locked.sequence => {
            release.clone()
        }
        _ => return Err(contradiction(id, locked, "the entry of the log that it names says something else")),
    };
    match manifest_of(store, id, &release, &keys) {
        Ok(manifest) => Ok(Some(Brought { id: id.clone(), release, manifest, keys })),
        // Some of its blocks are not here.
        Err(failure) if failure.code == Code::Busy => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether the log, as far as it is here, has another entry in the place of the one that a lock file names, which says all the rest.
fn has_another(store: &Store, id: &PackageId, locked: &Locked) -> Result<bool, Failure> {
    let Some(listed) = store.read(|conn| Ok(catalog::get(conn, id)?)).map_err(fail)? else {
        return Ok(false);
    };
    let head = VerifiedHead::verify_stored(&listed.bytes).map_err(fail)?;
    for signed in entries_here(store, &head) {
        let signed = signed.map_err(fail)?;
        let entry = signed.entry();
        if entry.sequence.get() == locked.sequence {
            let is_same = matches!(&entry.kind, Kind::Release(release)
                if release.version == locked.version && release.root == locked.root && release.manifest == locked.manifest);
            return Ok(is_same && signed.id() != locked.entry);
        }
    }
    Ok(false)
}

fn chain(documents: &[Vec<u8>], id: &PackageId, locked: &Locked) -> Result<KeyLog, Failure> {
    let keys = KeyLog::verify(documents).map_err(|error| contradiction(id, locked, &error.to_string()))?;
    if keys.publisher() == id.publisher {
        Ok(keys)
    } else {
        Err(contradiction(id, locked, "the keys that it names are those of another publisher"))
    }
}

/// Why a lock file contradicts what was signed, where it names other dependencies.
pub(super) const OTHER_NEEDS: &str = "what it needs is not what its manifest says";

/// Whether every block of a package's files is here.
pub(super) fn is_whole(store: &Store, manifest: &Manifest) -> Result<bool, store::Error> {
    for file in manifest.files() {
        let mut open: Vec<FilePart> = vec![file.whole()];
        while let Some(part) = open.pop() {
            if !store.has(&part.id)? {
                return Ok(false);
            }
            if !part.is_leaf() {
                let Ok(children) = part.children(held(store, &part.id)?.bytes()) else { return Ok(false) };
                open.extend(children);
            }
        }
    }
    Ok(true)
}

/// What a command says that was to change the project.
pub(super) const UNCHANGED: &str = " Nothing was changed.";

pub(super) fn contradiction(id: &PackageId, locked: &Locked, why: &str) -> Failure {
    Failure::new(
        Code::Malformed,
        format!("gpack.lock contradicts what was signed of {id}@{}: {why}.{UNCHANGED}", locked.version),
        "Take gpack.lock from version control again, or delete it and run: ggen marketplace p2p install",
    )
}

fn not_here(missing: impl Iterator<Item = String>) -> Failure {
    let all: Vec<String> = missing.collect();
    let mut lines: Vec<String> = all.iter().take(NAMED_MAX).map(|id| format!("  {id}")).collect();
    if all.len() > NAMED_MAX {
        lines.push(format!("  and {} more", all.len() - NAMED_MAX));
    }
    Failure::new(
        Code::NotFound,
        format!(
            "{} not on this machine; nothing was changed.\n{}",
            match all.len() {
                1 => "1 of the packages is".to_owned(),
                several => format!("{several} of the packages are"),
            },
            lines.join("\n")
        ),
        "Run the same command without --offline.",
    )
}
