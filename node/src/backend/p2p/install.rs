//! Installing: from a name to a verified folder.

mod job;

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use rusqlite::Transaction;
use tokio::time::{Instant, timeout};

pub(super) use self::job::{Begun, Job};
use super::{
    KEYS_FOLDER,
    collect::Relied,
    describe,
    failure::fail,
    fresh::Demand,
    gone,
    meant::Meant,
    node::{Node, asked_time},
    place::{self, Manner, Place},
    resolve::{Chosen, Unread},
    sources::Looking,
};
use crate::{
    code::Code,
    content::{Block, ContentId},
    control::{
        api::{Failure, InstallRequest, Installed},
        service::ProgressSender,
    },
    fetch::{Report, session::Session, wanted::Wanted},
    identity::KeyLog,
    network::Handle,
    package::{
        PackageId,
        asked::Which,
        manifest::{Manifest, Preflight, SignedManifest},
        unixfs,
        unpack::{self, early::Early},
    },
    release::{Log, Release, VerifiedHead},
    store::{self, Store, packages, partial, pins, published},
    time::Timestamp,
};

/// How long an install may take where no time was given.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Older releases that are tried in place of one that nobody has.
const OLDER_BROUGHT_MAX: usize = 3;

/// How long the history of a package is waited for when its blocks are here: it comes beside them, in one answer, so that it is
/// late only where those who have it are slow.
const HISTORY_PATIENCE: Duration = Duration::from_secs(2);

impl Node {
    /// Installs what is meant. Where a bare name turns out to be of a package that was signed twice, what was undisputed before is
    /// installed, as it is from then on.
    pub(super) async fn install(
        &self,
        request: InstallRequest,
        progress: ProgressSender,
    ) -> Result<Installed, Failure> {
        match self.install_now(request.clone(), progress.clone()).await {
            Err(failure) if failure.code == Code::Equivocation && !request.package.contains('@') => {
                self.install_now(request, progress).await
            }
            installed => installed,
        }
    }

    async fn install_now(
        &self,
        request: InstallRequest,
        progress: ProgressSender,
    ) -> Result<Installed, Failure> {
        if request.offline {
            return self.install_at_hand(&request, progress).await;
        }
        let Meant { reference, which, .. } = self.meant(&request.package).await?;
        let target = target(&request.to)?;
        let manner = Manner { stays: request.stays, keeps: request.force };
        refuse_own_folders(&target, &self.config().state_dir)?;
        self.refuse_source(&target).await?;
        let deadline = Instant::now() + asked_time(request.timeout_secs, INSTALL_TIMEOUT);
        self.await_entrance(deadline.saturating_duration_since(Instant::now())).await;
        let head = self.resolve(&reference).await?;
        let demand = match reference.version {
            // A version that is named is what it is, however long its publisher has been away.
            Some(_) => Demand::default(),
            None => self.demand(request.fresh, request.fresh_secs, true),
        };
        let mut newest = match reference.version {
            Some(_) => self.as_known(head).await?,
            None => self.newest(head, demand, false, deadline).await?,
        };
        let now = self.now();
        newest.demanded(demand, now)?;
        let of_keys = self.refuse_two_chains(&newest.head).await?;
        let (head, mut chosen) = self.release_asked(newest.head.clone(), &which).await?;
        if head.head().sequence != newest.head.head().sequence {
            newest = self.as_known(head).await?;
        }
        let stale = newest.warning(now).filter(|_| reference.version.is_none());
        let (freshness, head) = (newest.told(now), newest.head);
        let is_open = reference.version.is_none() && demand == Demand::default();
        if request.dry_run {
            let place = (target.as_path(), manner);
            let mut seen = self.foreseen_of(&head, &chosen.release, place, deadline).await;
            if let Err(failure) = &seen
                && is_open
                && failure.code == Code::NoProviders
            {
                let failure = failure.clone();
                for _ in 0..OLDER_BROUGHT_MAX {
                    chosen = self.chosen_before(&head, chosen, &which, &failure).await?;
                    seen = self.foreseen_of(&head, &chosen.release, place, deadline).await;
                    let is_missing = matches!(&seen, Err(other) if other.code == Code::NoProviders);
                    if !is_missing || Instant::now() >= deadline {
                        break;
                    }
                }
                seen = seen.map_err(|_| failure);
            }
            let seen = seen?;
            let warnings = chosen.warnings.into_iter().chain(stale).chain(of_keys).collect();
            return Ok(Installed { warnings, freshness, newer_announced: chosen.is_of_part, ..seen });
        }
        let mut brought = self.bring(&head, &chosen, (&target, manner), deadline, &progress).await;
        // Where nothing fresher than that was demanded, the newest that somebody has is better than nothing.
        if let Err(failure) = &brought
            && is_open
            && failure.code == Code::NoProviders
        {
            let failure = failure.clone();
            for _ in 0..OLDER_BROUGHT_MAX {
                if Instant::now() >= deadline {
                    break;
                }
                chosen = self.chosen_before(&head, chosen, &which, &failure).await?;
                brought = self.bring(&head, &chosen, (&target, manner), deadline, &progress).await;
                if !matches!(&brought, Err(other) if other.code == Code::NoProviders) {
                    break;
                }
            }
            // Where none of them can be had either, the newest is what is missing.
            brought = brought.map_err(|other| if other.code == Code::NoProviders { failure } else { other });
        }
        let brought = brought?;
        let Brought { manifest, early, report, history, relied_on } = brought;
        let Chosen { release, mut warnings, is_of_part } = chosen;
        warnings.extend(stale);
        warnings.extend(of_keys);
        match manifest.preflight() {
            Preflight::Passed => {}
            Preflight::Skipped => {
                warnings.push("its publisher skipped the checks before publishing".to_owned());
            }
            Preflight::SecretsAllowed => warnings.push(
                "its publisher published files all the same that look as if they held secrets".to_owned(),
            ),
        }
        warnings.extend(head.head().deprecated.as_deref().map(describe::deprecated));
        let lacks_log = !matches!(history, Some(Ok(_)));
        match history {
            Some(Ok(_)) => {}
            _ if is_of_part => {}
            Some(Err(unread)) => {
                let why = Failure::from(unread).message;
                warnings.push(format!("its earlier versions are not known here: {why}"));
            }
            None => {
                warnings.push("its earlier versions are not known here yet: its log comes slowly".to_owned())
            }
        }
        warnings.extend(self.not_installed(&manifest, &target).await?);
        let asked = as_held(head.package_id(), &release);
        let job = Job { head, release, target, manifest, early, manner };
        let turn = self.replacing.clone().lock_owned().await;
        let (at_work, store) = self.at_work();
        let telling = progress.clone();
        let written = self.offload.run(move || {
            // Kept to the end of the work, also where nobody waits for it any more.
            let (_relied_on, _turn, _at_work, store) = (relied_on, turn, at_work, store);
            job.write(&store, &telling)
        });
        let written = written.await;
        let mut answer = match written.ok_or_else(|| gone("the installation"))? {
            Ok(answer) => answer,
            Err(failure) => {
                // What is in the way does not go by itself: nothing waits to be gone on with.
                if failure.code == Code::Conflict {
                    self.with_store(move |store| store.write(|tx| partial::remove(tx, &asked).map(drop)))
                        .await?;
                }
                return Err(failure);
            }
        };
        answer.bytes_fetched = report.bytes;
        let served = report.peers.iter().filter(|(_, served)| served.blocks > 0);
        answer.providers = served.map(|(peer, _)| peer.to_string()).collect();
        answer.newer_announced = is_of_part;
        answer.warnings.splice(0..0, warnings);
        answer.freshness = freshness;
        self.forget_providers(&answer_root(&answer)?);
        // How much it takes is known by now.
        self.trim().await;
        // The newcomer tells that it provides the tree too.
        self.audience.notify_one();
        if lacks_log {
            self.lacking_log.notify_one();
        }
        Ok(answer)
    }

    /// What is taken in place of a release that nobody has; the failure to find it where there is nothing.
    async fn chosen_before(
        &self,
        head: &VerifiedHead,
        chosen: Chosen,
        which: &Which,
        failure: &Failure,
    ) -> Result<Chosen, Failure> {
        let older = self.older_release(head, &chosen.release, which).await?;
        let Some((release, warning)) = older else { return Err(failure.clone()) };
        let mut warnings = chosen.warnings;
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
        Ok(Chosen { release, warnings, is_of_part: true })
    }

    /// Brings a release here, and beside it the log.
    async fn bring(
        &self,
        head: &VerifiedHead,
        chosen: &Chosen,
        (target, manner): (&Path, Manner),
        deadline: Instant,
        progress: &ProgressSender,
    ) -> Result<Brought, Failure> {
        let release = &chosen.release;
        let package = (as_held(head.package_id(), release), target.to_owned());
        let relied_on = self.begin(vec![package], deadline).await?;
        progress.report("finding providers", 0, None, "peers");
        let (sources, kept_out) = self.sources_and_others(release.root, deadline, Looking::Twice);
        let [sources, of_log] = self.shared(sources);
        let session = Session::new(self.network.clone(), self.store.clone(), self.offload, deadline, sources);
        let mut session = session.of_tree(release.root);
        let (fetched, history) = {
            let blocks = self.fetch(&mut session, head, release, (target, manner), progress);
            match chosen.is_of_part {
                // What there is of the log is known.
                true => (blocks.await, None),
                false => with_history(blocks, self.log_from(head, Some(of_log))).await,
            }
        };
        let report = session.report().clone();
        self.bytes_received.fetch_add(report.bytes, Ordering::Relaxed);
        self.judge(release.root, &report, fetched.is_ok()).await;
        self.judge_late(release.root, session);
        let (manifest, early) = fetched.map_err(|failure| kept_out.explained(failure))?;
        Ok(Brought { manifest, early, report, history, relied_on })
    }

    /// Brings the manifest and all blocks here, where the package can be put into the target. Where nothing is there yet, it is
    /// written beside it while the blocks come.
    async fn fetch(
        &self,
        session: &mut Session<Handle>,
        head: &VerifiedHead,
        release: &Release,
        (target, manner): (&Path, Manner),
        progress: &ProgressSender,
    ) -> Result<(Arc<Manifest>, Arc<Begun>), Failure> {
        // It may be large: there is one of it.
        let manifest = Arc::new(self.manifest(session, head, release).await?);
        let early = {
            let (manifest, target) = (manifest.clone(), target.to_owned());
            let turn = self.replacing.clone().lock_owned().await;
            let look = move |store: &Store| {
                let _turn = turn;
                let place = place::look(store, &manifest, &target, manner.keeps)?;
                // Where it cannot be begun, the reason is found again, and told, when the blocks are here.
                let begin = || Early::begin(manifest, &target, &Supplied(store, None)).ok();
                // Folders above it are made when the blocks are here, and not in vain.
                let is_free = matches!(place, Place::Free) && target.parent().is_some_and(Path::is_dir);
                Ok(is_free.then(begin).flatten())
            };
            let early = Mutex::new(self.offload_store(look).await?);
            Arc::new(Begun { early, offload: self.offload })
        };
        let told = early.clone();
        session.tell(Box::new(move |block| {
            if let Some(early) = told.locked().as_mut() {
                early.take(block);
            }
        }));
        let wanted = manifest.files().iter().map(|file| Wanted::Part(file.whole())).collect();
        let total = manifest.size();
        session
            .get(wanted, &mut |done| progress.report("fetching", done.min(total), Some(total), "bytes"))
            .await
            .map_err(fail)?;
        Ok((manifest, early))
    }

    /// Brings the signed manifest of a release here, and verifies it.
    pub(super) async fn manifest(
        &self,
        session: &mut Session<Handle>,
        head: &VerifiedHead,
        release: &Release,
    ) -> Result<Manifest, Failure> {
        let wanted = Wanted::File { id: release.manifest, bytes_max: SignedManifest::BYTES_MAX as u64 };
        session.get(vec![wanted], &mut |_| {}).await.map_err(fail)?;
        let (keys, expected) = (head.key_log().clone(), release.clone());
        let package = head.package_id();
        self.offload_store(move |store| manifest_of(store, &package, &expected, &keys)).await
    }

    /// Refuses the folder that a package was published from: it is somebody's source, not an installation.
    pub(super) async fn refuse_source(&self, target: &Path) -> Result<(), Failure> {
        let published = self.with_store(|store| store.read(published::list_all)).await?;
        if published.iter().all(|row| place::normal(&row.path) != target) {
            return Ok(());
        }
        Err(Failure::new(
            Code::Conflict,
            format!(
                "{} is the folder that a package was published from; nothing was changed.",
                target.display()
            ),
            "Choose another place with --to.",
        ))
    }

    pub(super) async fn offload_store<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, Failure> + Send + 'static,
    {
        let (at_work, store) = self.at_work();
        let done = self.offload.run(move || {
            let (_at_work, store) = (at_work, store);
            work(&store)
        });
        done.await.ok_or_else(|| gone("work beside the runtime"))?
    }

    /// Stops providing all versions of a package; its blocks stay until they are collected.
    pub(super) async fn stop_serving(&self, package: &PackageId) -> Result<(), Failure> {
        let package = package.clone();
        let removed = self.with_store(move |store| store.write(|tx| let_go(tx, &package))).await?;
        for root in removed {
            self.network.stop_providing(root).await.map_err(fail)?;
        }
        Ok(())
    }
}

/// A release that is here.
struct Brought {
    manifest: Arc<Manifest>,
    /// What is written of it already.
    early: Arc<Begun>,
    report: Report,
    /// What came of its log; nothing where that was not waited for.
    history: Option<Result<Log, Unread>>,
    /// What came is relied on.
    relied_on: Relied,
}

/// Brings blocks and, beside them, the history of the package, so that it too outlives the author's node.
///
/// The head, or the log where an older version was asked for, has proved the release by now, so that the blocks need no more
/// of the history, and it is waited for no longer than [`HISTORY_PATIENCE`] after them. Where it says something else than the
/// head, or than what was seen before, nothing is installed: it ends the retrieval of the blocks too.
async fn with_history<B>(
    blocks: impl Future<Output = Result<B, Failure>>,
    history: impl Future<Output = Result<Log, Unread>>,
) -> (Result<B, Failure>, Option<Result<Log, Unread>>) {
    tokio::pin!(blocks, history);
    let mut read = None;
    let blocks = loop {
        tokio::select! { biased;
            blocks = &mut blocks => break blocks,
            log = &mut history, if read.is_none() => match log {
                Err(Unread::Contradicts(failure)) => break Err(failure),
                log => read = Some(log),
            },
        }
    };
    if blocks.is_ok() && read.is_none() {
        match timeout(HISTORY_PATIENCE, history).await {
            Ok(Err(Unread::Contradicts(failure))) => return (Err(failure), None),
            log => read = log.ok(),
        }
    }
    (blocks, read)
}

/// Notes that no version of a package is provided any more, and gives the trees that nothing else that is held has.
fn let_go(tx: &Transaction<'_>, package: &PackageId) -> Result<BTreeSet<ContentId>, store::Error> {
    let mut roots = BTreeSet::new();
    for held in packages::list_all(tx)?.into_iter().filter(|held| held.package == *package) {
        packages::remove(tx, &held.package, &held.version)?;
        roots.insert(held.root);
    }
    let mut removed = BTreeSet::new();
    for root in roots {
        if packages::get(tx, &root)?.is_empty() {
            removed.insert(root);
        }
    }
    Ok(removed)
}

/// Reads a signed manifest from the store and compares it with the release that names it.
pub(super) fn manifest_of(
    store: &Store,
    package: &PackageId,
    release: &Release,
    keys: &KeyLog,
) -> Result<Manifest, Failure> {
    let bytes = manifest_bytes(store, &release.manifest)?;
    let manifest = SignedManifest::decode_and_verify(bytes, keys).map_err(fail)?.into_manifest();
    let same = manifest.id() == *package
        && manifest.gpack().version == release.version
        && manifest.root() == release.root
        && manifest.size() == release.size
        && manifest.files().len() as u64 == release.files;
    if same {
        Ok(manifest)
    } else {
        Err(Failure::new(
            Code::Malformed,
            format!(
                "The signed log and the signed manifest of {package}@{} contradict each other.",
                release.version
            ),
            "Nothing was installed. Its publisher has to release a corrected version.",
        ))
    }
}

/// The bytes of a signed manifest that is here, unverified.
pub(super) fn manifest_bytes(store: &Store, manifest: &ContentId) -> Result<Vec<u8>, Failure> {
    let source = |id: &ContentId| held(store, id).map(Block::into_bytes);
    unixfs::read_file(*manifest, SignedManifest::BYTES_MAX as u64, &source).map_err(fail)
}

/// A block that must be here.
pub(super) fn held(store: &Store, id: &ContentId) -> Result<Block, store::Error> {
    store.block(id)?.ok_or(store::Error::Vanished { id: *id })
}

/// What the store holds, for a package that is written from it; and who wants it, where somebody waits for it.
pub(super) struct Supplied<'a>(pub(super) &'a Store, pub(super) Option<&'a ProgressSender>);

impl unpack::Supply<store::Error> for Supplied<'_> {
    fn block(&self, id: &ContentId) -> Result<Block, store::Error> {
        held(self.0, id)
    }

    fn is_wanted(&self) -> bool {
        self.1.is_none_or(|progress| !progress.is_forsaken())
    }

    fn can_share(&self, folder: &File) -> bool {
        self.0.can_share(folder)
    }

    fn share(&self, id: &ContentId, file: &File, at: u64, bytes: u64) -> u64 {
        self.0.share(id, file, at, bytes)
    }
}

/// What is told of a release that is installed somewhere, or would be.
pub(super) fn as_installed(package: &PackageId, release: &Release, target: &Path) -> Installed {
    Installed {
        id: format!("{package}@{}", release.version),
        publisher: package.publisher.to_string(),
        name: package.name.to_string(),
        version: release.version.to_string(),
        cid: release.root.to_string(),
        path: target.display().to_string(),
        bytes: release.size,
        files: release.files,
        ..Installed::default()
    }
}

/// A release as it is held once it is whole.
pub(super) fn as_held(package: PackageId, release: &Release) -> packages::HeldPackage {
    packages::HeldPackage {
        root: release.root,
        manifest: release.manifest,
        package,
        version: release.version.clone(),
        size: release.size,
    }
}

/// Under which key the head that a package was installed from is kept.
pub(super) fn head_key(package: &PackageId) -> String {
    format!("installed-head/{package}")
}

/// The first accepted publisher of a name stays the one that the name means.
pub(super) fn pin_first(
    tx: &rusqlite::Transaction<'_>,
    package: &PackageId,
    now: Timestamp,
) -> Result<(), store::Error> {
    if pins::pinned(tx, &package.name)?.is_none() {
        pins::pin(tx, &package.name, &package.publisher, now)?;
    }
    Ok(())
}

pub(super) fn target(text: &str) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(text);
    let path = if path.is_absolute() { place::normal(&path) } else { path };
    if path.is_absolute() && path.file_name().is_some() {
        Ok(path)
    } else {
        Err(Failure::new(
            Code::Usage,
            format!("\"{text}\" is not a folder to install into."),
            "Name one with --to.",
        ))
    }
}

/// Refuses a target among the keys or blocks of the node: what it finds there it takes for its own.
pub(super) fn refuse_own_folders(target: &Path, state: &Path) -> Result<(), Failure> {
    let (target, state) = (place::normal(target), place::normal(state));
    let own = store::OWN_FOLDERS.into_iter().chain([KEYS_FOLDER]);
    if own.map(|name| state.join(name)).any(|own| target.starts_with(own)) {
        return Err(Failure::new(
            Code::Usage,
            format!("{} belongs to the node itself; nothing is installed there.", target.display()),
            "Choose another place with --to.",
        ));
    }
    Ok(())
}

fn answer_root(answer: &Installed) -> Result<ContentId, Failure> {
    answer.cid.parse().map_err(|_| gone("the content id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    #[test]
    fn a_tree_that_another_package_has_as_well_is_still_provided() {
        let store = Store::in_memory().unwrap();
        let publisher = crate::identity::Publisher::from_secret([1; 32], Timestamp::default());
        let [one, other] =
            ["one", "other"].map(|name| PackageId { publisher: publisher.id(), name: name.parse().unwrap() });
        let [shared, own] = [b"shared", b"own---"].map(|bytes| ContentId::of(Codec::DagPb, bytes));
        let held = |package: &PackageId, version: &str, root| packages::HeldPackage {
            root,
            manifest: ContentId::of(Codec::Raw, b"manifest"),
            package: package.clone(),
            version: version.parse().unwrap(),
            size: 1,
        };
        let let_go = |package| store.write(|tx| let_go(tx, package)).unwrap();
        store
            .write(|tx| {
                packages::insert(tx, &held(&one, "1.0.0", shared))?;
                packages::insert(tx, &held(&one, "1.1.0", own))?;
                packages::insert(tx, &held(&other, "1.0.0", shared))
            })
            .unwrap();
        assert_eq!(let_go(&one), [own].into());
        assert_eq!(let_go(&other), [shared].into());
    }
}
