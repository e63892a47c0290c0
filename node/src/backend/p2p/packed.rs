//! A version that is packed: it is signed and listed, waits in the outbox, or is there already.

use semver::Version;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

use super::{
    failure::fail,
    gone,
    history::{held_log, is_current, keep_head, not_kept, stored_entry},
    install::{manifest_bytes, manifest_of},
};
use crate::{
    catalog::{Outcome, Refusal},
    code::Code,
    content::Block,
    control::api::{Failure, Published},
    identity::{Publisher, hex},
    network::FirstContact,
    package::{
        PackageId,
        manifest::{Manifest, Preflight, SignedManifest},
    },
    release::{Head, Kind, Labels, Log, Release, VerifiedHead, VersionState},
    store::{self, Batch, Store, entries, heads, outbox, packages, published},
    time::Timestamp,
};

/// A publication that is durable: signed, or in the outbox.
pub(super) struct Done {
    /// The head, where it is signed.
    pub(super) head: Option<VerifiedHead>,
    pub(super) answer: Published,
}

/// What is published, whether it is signed now or later.
pub(super) struct Content {
    pub(super) manifest: Manifest,
    pub(super) path: PathBuf,
    pub(super) blocks: u64,
    pub(super) warnings: Vec<String>,
    pub(super) now: Timestamp,
}

impl Content {
    fn version(&self) -> &Version {
        &self.manifest.gpack().version
    }

    /// What waits under the same version.
    pub(super) fn queued(&self, store: &Store) -> Result<Option<Manifest>, store::Error> {
        let bytes = store.read(|conn| outbox::manifest(conn, &self.manifest.id(), self.version()))?;
        // One that cannot be read is other content: it stays until it is dropped.
        Ok(bytes.and_then(|bytes| Manifest::from_payload(&bytes).ok()))
    }

    pub(super) fn is_same_as(&self, other: &Manifest) -> bool {
        self.manifest.root() == other.root() && self.manifest.gpack() == other.gpack()
    }

    /// As this very content was checked when it was published under the same version before: what was signed then stands.
    fn checked_as_before(self, store: &Store, publisher: &Publisher, log: &Log) -> Self {
        let before = log.versions().get(self.version()).map(|state| &state.release);
        let before = before.filter(|release| release.root == self.manifest.root());
        let before = before.and_then(|it| manifest_of(store, log.package(), it, publisher.key_log()).ok());
        match before.filter(|before| before.gpack() == self.manifest.gpack()) {
            Some(before) => Self { manifest: self.manifest.with_preflight(before.preflight()), ..self },
            None => self,
        }
    }

    fn labels(&self) -> Labels {
        let gpack = self.manifest.gpack();
        Labels {
            description: gpack.description.clone(),
            license: gpack.license.clone(),
            tags: gpack.tags.clone(),
            categories: gpack.categories.clone(),
            preflight_skipped: self.manifest.preflight() == Preflight::Skipped,
            secrets_allowed: self.manifest.preflight() == Preflight::SecretsAllowed,
        }
    }
}

/// What a log says of the version that is about to be added.
pub(super) enum Before {
    None,
    /// It is there with the same content.
    Same(Box<VersionState>),
    /// It is there with other content.
    Other(&'static str),
}

/// Content with its signed manifest, and the log that it is for.
///
/// The manifest is signed here in any case, because its hash is part of the answer; it names no place in a log, and is stored with
/// the entry only.
pub(super) struct Work<'a> {
    store: &'a Store,
    publisher: &'a Publisher,
    package: PackageId,
    log: Log,
    content: Content,
    /// Of the signed manifest.
    sha256: String,
    manifest_blocks: Vec<Block>,
    release: Release,
}

/// What it means for a publication that the index refused its head, where it did.
fn not_indexed(outcome: Outcome) -> Option<String> {
    let Outcome::Refused(why) = outcome else { return None };
    let why = match why {
        Refusal::Rollback => "a later state of it was seen before",
        Refusal::Equivocation => "it is frozen, because two states of it were signed for one place",
        Refusal::Contradiction => "it contradicts what was seen of it before",
        Refusal::Full => "the index is full",
        Refusal::Share => "its publisher has too many packages that were released later",
        Refusal::Revoked => "the key that signed it was revoked",
        Refusal::Early => "its head is from the future; check this machine's clock",
    };
    Some(format!("this node does not list it, and others will not either: {why}"))
}

impl<'a> Work<'a> {
    pub(super) fn new(store: &'a Store, publisher: &'a Publisher, content: Content) -> Result<Self, Failure> {
        let package = content.manifest.id();
        let log = held_log(store, publisher, &package).map_err(fail)?;
        let log = log.unwrap_or_else(|| Log::empty(package.clone()));
        let mut content = content.checked_as_before(store, publisher, &log);
        // A manifest may be large: there is one of it.
        let signed = SignedManifest::sign(content.manifest, publisher).map_err(fail)?;
        let (root, manifest_blocks) = signed.to_blocks();
        let sha256 = hex::encode(&Sha256::digest(signed.bytes()));
        content.manifest = signed.into_manifest();
        let release = Release {
            version: content.version().clone(),
            manifest: root.id,
            root: content.manifest.root(),
            size: content.manifest.size(),
            files: content.manifest.files().len() as u64,
        };
        Ok(Self { store, publisher, package, log, content, sha256, manifest_blocks, release })
    }

    pub(super) fn before(&self) -> Result<Before, Failure> {
        let Some(state) = self.log.versions().get(&self.release.version) else { return Ok(Before::None) };
        if state.release.root != self.release.root {
            return Ok(Before::Other("its files differ"));
        }
        let there = manifest_of(self.store, &self.package, &state.release, self.publisher.key_log());
        Ok(match there {
            Ok(there) if there.gpack() != self.content.manifest.gpack() => {
                Before::Other("its description differs")
            }
            // Where it was published elsewhere, its manifest may not be here; the description is a file of the tree.
            _ => Before::Same(Box::new(state.clone())),
        })
    }

    /// The same content under the same version: makes sure that its blocks are here, and that nothing of it waits.
    pub(super) fn again(mut self, mut batch: Batch, state: &VersionState) -> Result<Done, Failure> {
        let mut has_manifest = state.release == self.release;
        if has_manifest {
            self.put_manifest(&mut batch)?;
        } else if let Ok(bytes) = manifest_bytes(self.store, &state.release.manifest) {
            // It was signed with another key, or checked otherwise: what was signed then stands.
            self.sha256 = hex::encode(&Sha256::digest(&bytes));
            has_manifest = true;
        }
        self.release = state.release.clone();
        let row = self.row(self.sequence_of(&self.release), state.released);
        let held = self.held();
        batch
            .commit(|tx| {
                outbox::remove(tx, &self.package, &self.release.version)?;
                published::insert(tx, &row)?;
                // Only what is whole is provided.
                if has_manifest {
                    packages::insert(tx, &held)?;
                }
                Ok(())
            })
            .map_err(fail)?;
        let own = self.store.read(|conn| heads::get(conn, &self.package)).map_err(fail)?;
        let own = own.ok_or_else(|| gone("the head of a package that was published"))?;
        let head = VerifiedHead::verify_stored(&own.bytes).map_err(fail)?;
        if !self.store.read(|conn| is_current(conn, &head)).map_err(fail)? {
            // What was signed stands, and is told to nobody with a head that is not the newest.
            let mut answer = self.answer(own.sequence);
            answer.already_published = true;
            answer.warnings.push(
                "its log went on elsewhere, and what was added is not here yet: it is announced once that was fetched".to_owned(),
            );
            return Ok(Done { head: None, answer });
        }
        let mut answer = self.answer(own.sequence);
        answer.already_published = true;
        Ok(Done { head: Some(head), answer })
    }

    /// The number of the entry that released a version, where it is in the log.
    fn sequence_of(&self, release: &Release) -> u64 {
        let is_it = |kind: &Kind| matches!(kind, Kind::Release(it) if it == release);
        let entry = self.log.entries().iter().find(|entry| is_it(&entry.entry().kind));
        entry.map_or(0, |entry| entry.entry().sequence.get())
    }

    /// The number that the next entry gets, as far as the log is here.
    fn next_sequence(&self) -> u64 {
        self.log.newest().map_or(0, |newest| newest.entry().sequence.get().saturating_add(1))
    }

    /// Signs, and lists what was signed, in one transaction: from then on it may be asked for, and before that it is nowhere.
    pub(super) fn commit(self, mut batch: Batch, contact: &FirstContact) -> Result<Done, Failure> {
        let (publisher, now) = (self.publisher, self.content.now);
        let mut log = self.log.clone();
        let entry = log.next(Kind::Release(self.release.clone()), publisher, now).map_err(fail)?;
        log.push(entry.clone()).map_err(fail)?;
        let head = Head::of(&log, self.content.labels(), publisher).map_err(fail)?;
        let head = head.sign(publisher).map_err(fail)?;
        self.put_manifest(&mut batch)?;
        for block in publisher.key_log().blocks().chain([entry.block().clone()]) {
            batch.put(block).map_err(fail)?;
        }
        let sequence = entry.entry().sequence.get();
        let (row, held) = (self.row(sequence, now), self.held());
        let is_first = self.log.newest().is_none();
        let kept = batch
            .commit(|tx| {
                outbox::remove(tx, &self.package, &self.release.version)?;
                if is_first && !contact.has_begun() {
                    outbox::set_unsent(tx, &self.package)?;
                }
                entries::insert(tx, &stored_entry(&entry))?;
                published::insert(tx, &row)?;
                packages::insert(tx, &held)?;
                keep_head(tx, &head, now)
            })
            .map_err(not_kept)?;
        let mut answer = self.answer(sequence);
        answer.warnings.extend(not_indexed(kept));
        Ok(Done { head: Some(head), answer })
    }

    /// Puts the content into the outbox.
    pub(super) fn queue(self, batch: Batch, why: &Failure) -> Result<Done, Failure> {
        let manifest = self.content.manifest.payload().map_err(fail)?;
        let row = outbox::Queued {
            number: 0,
            package: self.package.clone(),
            version: self.release.version.clone(),
            root: self.release.root,
            path: self.content.path.clone(),
            bytes: self.release.size,
            files: self.release.files,
            blocks: self.content.blocks,
            queued_at: self.content.now,
            code: Some(why.code.as_str().to_owned()),
            why: why.message.clone(),
        };
        batch.commit(|tx| outbox::insert(tx, &row, &manifest)).map_err(fail)?;
        Ok(self.waits(why))
    }

    /// The same content waits already: makes sure that its blocks are here.
    pub(super) fn queued_before(self, batch: Batch, why: &Failure) -> Result<Done, Failure> {
        batch.commit(|_| Ok(())).map_err(fail)?;
        let mut done = self.waits(why);
        done.answer.already_published = true;
        Ok(done)
    }

    fn waits(&self, why: &Failure) -> Done {
        let mut answer = self.answer(self.next_sequence());
        answer.queued = true;
        if why.code != Code::NotRunning {
            answer.warnings.push(format!("it waits in the outbox, unsigned ({}): {}", why.code, why.message));
            answer.warnings.extend((!why.hint.is_empty()).then(|| why.hint.clone()));
        }
        Done { head: None, answer }
    }

    fn put_manifest(&self, batch: &mut Batch) -> Result<(), Failure> {
        for block in &self.manifest_blocks {
            batch.put(block.clone()).map_err(fail)?;
        }
        Ok(())
    }

    fn row(&self, sequence: u64, published_at: Timestamp) -> published::Published {
        published::Published {
            package: self.package.clone(),
            version: self.release.version.clone(),
            sequence,
            root: self.release.root,
            manifest: self.release.manifest,
            path: self.content.path.clone(),
            bytes: self.release.size,
            files: self.release.files,
            blocks: self.content.blocks,
            published_at,
            announced: false,
        }
    }

    fn held(&self) -> packages::HeldPackage {
        packages::HeldPackage {
            root: self.release.root,
            manifest: self.release.manifest,
            package: self.package.clone(),
            version: self.release.version.clone(),
            size: self.release.size,
        }
    }

    fn answer(&self, sequence: u64) -> Published {
        Published {
            id: format!("{}@{}", self.package, self.release.version),
            publisher: self.package.publisher.to_string(),
            name: self.package.name.to_string(),
            version: self.release.version.to_string(),
            cid: self.release.root.to_string(),
            sha256: self.sha256.clone(),
            manifest: self.release.manifest.to_string(),
            size: self.release.size,
            files: self.release.files,
            blocks: self.content.blocks,
            sequence,
            announced: false,
            dht_stored: 0,
            announced_to: 0,
            copies: None,
            new_key: None,
            already_published: false,
            queued: false,
            warnings: self.content.warnings.clone(),
        }
    }

    pub(super) fn conflict(&self, why: &str) -> Failure {
        Failure::new(
            Code::Conflict,
            format!(
                "{}@{} was published before with other content ({why}); nothing was changed.",
                self.package.name, self.release.version
            ),
            "A version is used once, permanently. Raise the version in gpack.toml, or publish with --version.",
        )
    }
}

pub(super) fn conflicts_with_queued(content: &Content) -> Failure {
    let what = format!("{}@{}", content.manifest.gpack().name, content.version());
    Failure::new(
        Code::Conflict,
        format!("{what} waits in the outbox with other content; nothing was changed."),
        format!(
            "Raise the version, or take the one that waits out first: ggen marketplace p2p publish --drop {what}"
        ),
    )
}

/// Signs what waits in the outbox and lists it. Runs beside the runtime.
///
/// # Errors
/// Where it cannot be signed as the log stands; it waits on.
pub(super) fn sign_queued(
    store: &Store,
    publisher: &Publisher,
    queued: &outbox::Queued,
    contact: &FirstContact,
    now: Timestamp,
) -> Result<Option<Done>, Failure> {
    let (package, version) = (&queued.package, &queued.version);
    let Some(bytes) = store.read(|conn| outbox::manifest(conn, package, version)).map_err(fail)? else {
        // It was dropped in the meantime.
        return Ok(None);
    };
    let content = Content {
        manifest: Manifest::from_payload(&bytes).map_err(fail)?,
        path: queued.path.clone(),
        blocks: queued.blocks,
        warnings: Vec::new(),
        now,
    };
    let work = Work::new(store, publisher, content)?;
    let batch = store.lasting_batch();
    match work.before()? {
        Before::Same(state) => work.again(batch, &state),
        Before::Other(why) => Err(work.conflict(why)),
        Before::None => work.commit(batch, contact),
    }
    .map(Some)
}
