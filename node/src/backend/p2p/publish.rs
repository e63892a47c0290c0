//! Publishing: from a directory to a signed head that is durable here.
//!
//! One transaction makes the blocks, the manifest, the log entry and the head durable together; only then is anybody told.
//! Telling is [`announce`](super::announce)'s: what was not heard now is told again.

use std::{path::PathBuf, time::Duration};

use semver::Version;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    KEYS_FOLDER, P2PConfig,
    dependencies::check_offline,
    failure::fail,
    gone,
    history::{held_log, is_current, keep_head, not_kept, overtaken, refuse_if_behind, stored_entry},
    install::manifest_of,
    node::{Keys, Node, asked_time, published_before},
    open_store,
};
use crate::{
    catalog::{Outcome, Refusal},
    code::Code,
    content::{Block, ContentId},
    control::{
        api::{Failure, PublishRequest, Published},
        service::ProgressSender,
    },
    identity::{Publisher, PublisherId, hex},
    network::Offload,
    package::{
        PackageId, PackageName,
        dependencies::{Ranges, Root},
        gpack::{self, Gpack},
        manifest::{Manifest, Preflight, SignedManifest},
        name::parse_version,
        pack::{self, Packed},
        preflight, walk,
    },
    release::{Head, Kind, Labels, Log, Release, SignedEntry, VerifiedHead},
    store::{Batch, HomeLock, Store, entries, heads, packages, published},
    time::Timestamp,
};

/// How long `publish` waits to tell others, unless it was asked to wait longer. The rest is told in the background.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long `publish --wait` waits where no time was given.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a publication needs to know, checked.
struct Job {
    directory: PathBuf,
    version: Option<Version>,
    skip_verify: bool,
}

/// A publication that is durable.
pub(super) struct Done {
    pub(super) head: VerifiedHead,
    pub(super) answer: Published,
}

impl Node {
    pub(super) async fn publish(
        &self,
        request: PublishRequest,
        progress: ProgressSender,
    ) -> Result<Published, Failure> {
        let wait = request.wait;
        let timeout = asked_time(request.timeout_secs, if wait { WAIT_TIMEOUT } else { TELL_TIMEOUT });
        let job = job(&request)?;
        let prepared = self.offload.run(move || prepare(job)).await;
        let mut prepared = prepared.ok_or_else(|| gone("the publication"))??;
        if let Some(dependencies) = prepared.dependencies() {
            // Others may publish while this one asks around.
            let turn = self.publishing.lock().await;
            let publisher = self.publisher(request.key.as_deref()).await?.id();
            drop(turn);
            let warnings = self.check_dependencies(dependencies.of(publisher)).await?;
            prepared.warnings.extend(warnings);
        }
        let turn = self.publishing.lock().await;
        let publisher = self.publisher(request.key.as_deref()).await?;
        self.catch_up(&publisher, &prepared.gpack.name).await?;
        let ((at_work, store), telling) = (self.at_work(), progress.clone());
        // What an unlimited tree would take is not known before it is packed; that the store is not full already is.
        self.check_room(0).await?;
        self.time_to_sign()?;
        let done = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            make(&store, &publisher, prepared, &telling)
        });
        let done = done.await;
        let Done { head, mut answer } = done.ok_or_else(|| gone("the publication"))??;
        drop(turn);
        progress.report("announcing", 0, None, "peers");
        let deadline = Instant::now() + timeout;
        let package = head.package_id();
        let told =
            if wait { self.tell_until(&head, deadline).await } else { self.tell(&head, deadline).await };
        answer.dht_stored = told.stored;
        answer.announced_to = told.heard;
        answer.announced = told.anybody();
        if told.anybody() {
            let sequence = answer.sequence;
            self.with_store(move |store| store.write(|tx| published::set_announced(tx, &package, sequence)))
                .await?;
        } else {
            answer
                .warnings
                .push("nobody has heard of it yet: it is announced as soon as a peer connects".to_owned());
            if wait {
                return Err(Failure::new(
                    Code::Timeout,
                    format!(
                        "{} is published here, and no other node took it within {} s.",
                        answer.id,
                        timeout.as_secs()
                    ),
                    "It is announced as soon as a peer connects. See who is connected: ggen marketplace p2p peer-list",
                ));
            }
        }
        Ok(answer)
    }
}

/// Publishes into the store of a node that does not run: it is announced when the node starts.
///
/// # Errors
/// As [`Registry::publish`](crate::traits::Registry::publish); also [`Code::AlreadyRunning`] where the node does run.
pub async fn publish_offline(
    config: P2PConfig,
    request: PublishRequest,
    progress: ProgressSender,
) -> Result<Published, Failure> {
    let job = job(&request)?;
    let done = Offload::Threads.run(move || {
        let folder = config.state_dir.clone();
        let lock = HomeLock::acquire(&folder).map_err(fail)?;
        let store = open_store(&folder)?;
        let before = published_before(&store).map_err(fail)?;
        let publisher = Keys::Folder(folder.join(KEYS_FOLDER)).publisher(request.key.as_deref(), &before)?;
        let done = prepare(job).and_then(|mut prepared| {
            if let Some(dependencies) = prepared.dependencies() {
                let root = dependencies.of(publisher.id());
                prepared.warnings.extend(check_offline(&store, root)?);
            }
            refuse_if_behind(&store, &publisher, &prepared.gpack.name)?;
            make(&store, &publisher, prepared, &progress)
        });
        drop((store, lock));
        done
    });
    let Done { mut answer, .. } = done.await.ok_or_else(|| gone("the publication"))??;
    answer.queued = true;
    Ok(answer)
}

fn job(request: &PublishRequest) -> Result<Job, Failure> {
    let version = request.version.as_deref().map(parse_version).transpose().map_err(|error| {
        Failure::new(error.code(), error.to_string(), "Write three numbers, for example --version 1.2.3.")
    })?;
    Ok(Job { directory: PathBuf::from(&request.path), version, skip_verify: request.skip_verify })
}

/// A package that was read and looked over, but not packed.
struct Prepared {
    job: Job,
    gpack: Gpack,
    found: Vec<walk::Found>,
    warnings: Vec<String>,
}

impl Prepared {
    /// The dependencies to check; none where there are none, or where checks are skipped.
    fn dependencies(&self) -> Option<Unsigned> {
        let is_checked = !self.job.skip_verify && !self.gpack.dependencies.is_empty();
        is_checked.then(|| Unsigned {
            name: self.gpack.name.clone(),
            dependencies: self.gpack.dependencies.clone(),
        })
    }
}

/// The dependencies of a package whose publisher is not known yet.
struct Unsigned {
    name: PackageName,
    dependencies: Ranges,
}

impl Unsigned {
    fn of(self, publisher: PublisherId) -> Root {
        Root { package: PackageId { publisher, name: self.name }, dependencies: self.dependencies }
    }
}

/// Reads the description, walks the tree and looks it over. Runs beside the runtime.
///
/// The tree is walked before anything takes long: what changes from then on is noticed when it is packed.
fn prepare(job: Job) -> Result<Prepared, Failure> {
    let gpack::Parsed { gpack, mut warnings } =
        gpack::read(&job.directory, job.version.as_ref()).map_err(fail)?;
    let found = walk::walk(&job.directory).map_err(fail)?;
    if !job.skip_verify {
        let report = preflight::inspect(&found, &gpack).map_err(fail)?;
        if !report.errors.is_empty() {
            return Err(secrets(&report));
        }
        warnings.extend(report.warnings);
    }
    Ok(Prepared { job, gpack, found, warnings })
}

/// Packs, signs and stores. Runs beside the runtime.
fn make(
    store: &Store,
    publisher: &Publisher,
    prepared: Prepared,
    progress: &ProgressSender,
) -> Result<Done, Failure> {
    let now = Timestamp::now();
    let Prepared { job, gpack, found, warnings } = prepared;
    let package = PackageId { publisher: publisher.id(), name: gpack.name.clone() };
    let log =
        held_log(store, publisher, &package).map_err(fail)?.unwrap_or_else(|| Log::empty(package.clone()));
    let mut batch = store.lasting_batch();
    let packed = pack::pack(&found, &mut |block| batch.put(block).map(drop), &mut |done, total| {
        progress.report("packing", done, Some(total), "bytes");
    })
    .map_err(fail)?;
    progress.report("storing", 0, None, "bytes");
    let asked = if job.skip_verify { Preflight::Skipped } else { Preflight::Passed };
    let preflight = preflight_before(store, publisher, &log, &gpack, packed.root).unwrap_or(asked);
    let signed = sign_manifest(publisher, &gpack, preflight, &packed)?;
    let (root, manifest_blocks) = signed.to_blocks();
    let release = Release {
        version: gpack.version.clone(),
        manifest: root.id,
        root: packed.root,
        size: packed.size,
        files: packed.files.len() as u64,
    };
    let sha256 = hex::encode(&Sha256::digest(signed.bytes()));
    let work = Work {
        store,
        publisher,
        job: &job,
        now,
        package,
        gpack,
        packed,
        sha256,
        manifest_blocks,
        release,
        warnings,
    };
    match log.versions().get(&work.release.version) {
        Some(state) if state.release.manifest == work.release.manifest => work.again(batch),
        Some(state) if state.release.root == work.release.root => {
            Err(work.conflict("its description differs"))
        }
        Some(_) => Err(work.conflict("its files differ")),
        None => work.commit(batch, log),
    }
}

/// How this very content was checked when it was published under the same version before: what was signed then stands.
fn preflight_before(
    store: &Store,
    publisher: &Publisher,
    log: &Log,
    gpack: &Gpack,
    root: ContentId,
) -> Option<Preflight> {
    let before = log.versions().get(&gpack.version).filter(|state| state.release.root == root)?;
    let manifest = manifest_of(store, log.package(), &before.release, publisher.key_log()).ok()?;
    (manifest.gpack() == gpack).then(|| manifest.preflight())
}

/// Everything that is known once the manifest is signed.
struct Work<'a> {
    store: &'a Store,
    publisher: &'a Publisher,
    job: &'a Job,
    now: Timestamp,
    package: PackageId,
    gpack: Gpack,
    packed: Packed,
    sha256: String,
    manifest_blocks: Vec<Block>,
    release: Release,
    warnings: Vec<String>,
}

/// What it means for a publication that the index refused its head, where it did.
fn not_indexed(outcome: Outcome) -> Option<String> {
    let Outcome::Refused(why) = outcome else { return None };
    let why = match why {
        Refusal::Rollback => "a later state of it was seen before",
        Refusal::Equivocation => "it is frozen, because two states of it were signed for one place",
        Refusal::Contradiction => "it contradicts what was seen of it before",
        Refusal::Full => "the index is full",
        Refusal::Early => "its head is from the future; check this machine's clock",
    };
    Some(format!("this node does not list it, and others will not either: {why}"))
}

impl Work<'_> {
    /// The same content under the same version: makes sure that its blocks are here, and changes nothing else.
    fn again(self, mut batch: Batch) -> Result<Done, Failure> {
        self.put_manifest(&mut batch)?;
        batch.commit(|_| Ok(())).map_err(fail)?;
        let own = self.store.read(|conn| heads::get(conn, &self.package)).map_err(fail)?;
        let own = own.ok_or_else(|| gone("the head of a package that was published"))?;
        let head = VerifiedHead::verify_stored(&own.bytes).map_err(fail)?;
        if !self.store.read(|conn| is_current(conn, &head)).map_err(fail)? {
            return Err(not_kept(overtaken(&self.package)));
        }
        let mut answer = self.answer(own.sequence);
        answer.already_published = true;
        Ok(Done { head, answer })
    }

    fn commit(self, mut batch: Batch, mut log: Log) -> Result<Done, Failure> {
        let Self { store: _, publisher, now, .. } = self;
        let entry = log.next(Kind::Release(self.release.clone()), publisher, now).map_err(fail)?;
        log.push(entry.clone()).map_err(fail)?;
        let labels = Labels {
            description: self.gpack.description.clone(),
            license: self.gpack.license.clone(),
            tags: self.gpack.tags.clone(),
            categories: self.gpack.categories.clone(),
            preflight_skipped: self.job.skip_verify,
        };
        let head = Head::of(&log, labels, publisher).map_err(fail)?;
        let head = head.sign(publisher).map_err(fail)?;
        self.put_manifest(&mut batch)?;
        for block in publisher.key_log().blocks().chain([entry.block().clone()]) {
            batch.put(block).map_err(fail)?;
        }
        let (row, held) = (self.row(&entry), self.held());
        let kept = batch
            .commit(|tx| {
                entries::insert(tx, &stored_entry(&entry))?;
                published::insert(tx, &row)?;
                packages::insert(tx, &held)?;
                keep_head(tx, &head, now)
            })
            .map_err(not_kept)?;
        let mut answer = self.answer(entry.entry().sequence.get());
        answer.warnings.extend(not_indexed(kept));
        Ok(Done { head, answer })
    }

    fn put_manifest(&self, batch: &mut Batch) -> Result<(), Failure> {
        for block in &self.manifest_blocks {
            batch.put(block.clone()).map_err(fail)?;
        }
        Ok(())
    }

    fn row(&self, entry: &SignedEntry) -> published::Published {
        published::Published {
            package: self.package.clone(),
            version: self.release.version.clone(),
            sequence: entry.entry().sequence.get(),
            root: self.release.root,
            manifest: self.release.manifest,
            path: self.job.directory.clone(),
            bytes: self.release.size,
            files: self.release.files,
            blocks: self.packed.blocks,
            published_at: self.now,
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
            blocks: self.packed.blocks,
            sequence,
            announced: false,
            dht_stored: 0,
            announced_to: 0,
            already_published: false,
            queued: false,
            warnings: self.warnings.clone(),
        }
    }

    fn conflict(&self, why: &str) -> Failure {
        Failure::new(
            Code::Conflict,
            format!(
                "{}@{} was published before with other content ({why}); nothing was changed.",
                self.package.name, self.release.version
            ),
            "A version is used once, for ever. Raise the version in gpack.toml, or publish with --version.",
        )
    }
}

fn sign_manifest(
    publisher: &Publisher,
    gpack: &Gpack,
    preflight: Preflight,
    packed: &Packed,
) -> Result<SignedManifest, Failure> {
    let manifest = Manifest::new(publisher.id(), gpack.clone(), preflight, packed).map_err(fail)?;
    SignedManifest::sign(manifest, publisher).map_err(fail)
}

fn secrets(report: &preflight::Report) -> Failure {
    let list: Vec<String> = report.errors.iter().map(|finding| format!("  {finding}")).collect();
    Failure::new(
        Code::PackageInvalid,
        format!("Some files look as if they held secrets:\n{}", list.join("\n")),
        report.hint(),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::catalog;

    pub(in super::super) fn package(folder: &std::path::Path, version: &str) -> PublishRequest {
        let gpack = format!("name = \"pack\"\nversion = \"{version}\"\ndescription = \"A package\"\n");
        std::fs::write(folder.join("gpack.toml"), gpack).unwrap();
        PublishRequest { path: folder.to_str().unwrap().to_owned(), ..PublishRequest::default() }
    }

    pub(in super::super) fn published(
        store: &Store,
        publisher: &Publisher,
        request: &PublishRequest,
    ) -> Result<Done, Failure> {
        make(store, publisher, prepare(job(request)?)?, &ProgressSender::discard())
    }

    /// The head of the same key's next entry after `log`, made on another machine.
    fn elsewhere(publisher: &Publisher, mut log: Log, now: Timestamp) -> VerifiedHead {
        let kind = Kind::Deprecate { message: "made elsewhere".to_owned() };
        log.push(log.next(kind, publisher, now).unwrap()).unwrap();
        Head::of(&log, Labels::default(), publisher).unwrap().sign(publisher).unwrap()
    }

    #[test]
    fn what_was_overtaken_while_it_was_packed_is_not_signed_and_freezes_nothing() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let publisher = Publisher::from_secret([1; 32], now);
        let store = Store::in_memory().unwrap();
        let first = published(&store, &publisher, &package(folder.path(), "1.0.0")).unwrap();
        let package_id = first.head.package_id();
        let log = held_log(&store, &publisher, &package_id).unwrap().unwrap();
        let rival = elsewhere(&publisher, log, now);
        store.write(|tx| Ok(catalog::insert(tx, &rival, &catalog::Source::unknown(), now)?)).unwrap();

        let failure = published(&store, &publisher, &package(folder.path(), "1.1.0")).err().unwrap();
        assert_eq!(failure.code, Code::Conflict);
        assert!(failure.retryable, "{failure:?}");
        let (own, newest, frozen, rows) = store
            .read(|conn| {
                let own = heads::get(conn, &package_id)?.unwrap();
                let newest = entries::last(conn, &package_id)?.unwrap();
                let frozen = catalog::is_frozen(conn, &package_id)?;
                Ok((own, newest, frozen, published::list_all(conn)?.len()))
            })
            .unwrap();
        assert_eq!((own.bytes.as_slice(), newest.sequence, frozen, rows), (first.head.bytes(), 0, false, 1));
        // Nor is the stale head given out again.
        let failure = published(&store, &publisher, &package(folder.path(), "1.0.0")).err().unwrap();
        assert!(failure.retryable, "{failure:?}");
    }

    #[test]
    fn only_a_tree_that_is_here_is_said_to_be_provided_with_its_head() {
        use crate::backend::p2p::announce::held_tree;
        let (folder, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let publisher = Publisher::from_secret([1; 32], now);
        let (store, elsewhere) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
        let head = published(&store, &publisher, &package(folder.path(), "1.0.0")).unwrap().head;
        let root = head.head().latest.as_ref().unwrap().root;
        assert_eq!(store.read(|conn| held_tree(conn, &head)).unwrap(), Some(root));
        assert_eq!(elsewhere.read(|conn| held_tree(conn, &head)).unwrap(), None);
    }

    #[test]
    fn nothing_is_added_to_a_package_that_is_frozen() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let publisher = Publisher::from_secret([1; 32], now);
        let store = Store::in_memory().unwrap();
        let first = published(&store, &publisher, &package(folder.path(), "1.0.0")).unwrap();
        let package_id = first.head.package_id();
        let rival = elsewhere(&publisher, Log::empty(package_id.clone()), now);
        store.write(|tx| Ok(catalog::insert(tx, &rival, &catalog::Source::unknown(), now)?)).unwrap();
        let failure = published(&store, &publisher, &package(folder.path(), "1.1.0")).err().unwrap();
        assert_eq!((failure.code, failure.retryable), (Code::Equivocation, false));
        assert!(store.read(|conn| is_current(conn, &first.head)).unwrap(), "what was seen first may be told");
    }
}
