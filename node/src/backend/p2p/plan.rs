//! What a publication would be, without making it: nothing is stored, signed or announced.

use std::{collections::BTreeSet, path::Path};

use super::{
    KEYS_FOLDER, P2PConfig,
    dependencies::check_offline,
    failure::fail,
    gone,
    node::Node,
    open_store,
    packed::{Before, Content, Work, conflicts_with_queued},
    prepared::{Job, Prepared, job, prepare},
    signing::{DEFAULT_KEY, Keys, published_before, refuse_second_package},
    trust,
};
use crate::{
    code::Code,
    content::Block,
    control::{
        api::{Failure, Planned, PlannedFile, PublishRequest},
        service::{Cancel, ProgressSender},
    },
    identity::{Publisher, PublisherId, publisher},
    network::Offload,
    package::{manifest::Manifest, pack},
    store::{self, HomeLock, Store},
    time::Timestamp,
};

impl Node {
    /// Says what a publication would be.
    pub(super) async fn plan_publication(
        &self,
        request: PublishRequest,
        progress: ProgressSender,
    ) -> Result<Planned, Failure> {
        let job = job(&request, &self.keys, self.offload)?;
        let (existing, key) = (self.keys.clone(), request.key.clone());
        let keys = self.keys.clone();
        let before = self.with_store(published_before).await?;
        let prepared = self.offload.run(move || {
            let publisher = existing.existing(key.as_deref(), &before)?;
            Ok::<_, Failure>((prepare(job)?, publisher))
        });
        let (mut prepared, publisher) = prepared.await.ok_or_else(|| gone("the plan"))??;
        let root = publisher.as_ref().map(|it| prepared.dependencies(it.id())).transpose()?.flatten();
        if let Some(root) = root {
            let warnings = self.check_dependencies(root).await?;
            prepared.warnings.extend(warnings);
        }
        let key = request.key;
        self.offload_store(move |store| {
            refuse_second_package(&keys, store, &prepared.gpack.name, key.as_deref())?;
            plan(Some(store), publisher.as_ref(), prepared, &progress)
        })
        .await
    }
}

/// Says what a publication would be while no node runs.
///
/// # Errors
/// What a publication would fail with; [`Code::AlreadyRunning`] where a node does run.
pub async fn plan_offline(
    config: P2PConfig,
    request: PublishRequest,
    progress: ProgressSender,
) -> Result<Planned, Failure> {
    let planned = Offload::Threads.run(move || {
        let folder = config.state_dir.clone();
        let keys = Keys::Folder(folder.join(KEYS_FOLDER));
        let job = job(&request, &keys, Offload::Threads)?;
        // Where nothing was ever published there is no store to read, and none is made.
        let opened = match has_store(&folder) {
            true => Some((HomeLock::acquire(&folder).map_err(fail)?, open_store(&folder)?)),
            false => None,
        };
        let store = opened.as_ref().map(|(_, store)| store);
        let before = store.map(published_before).transpose().map_err(fail)?.unwrap_or_default();
        let publisher = keys.existing(request.key.as_deref(), &before)?;
        let mut prepared = prepare(job)?;
        if let Some(store) = store {
            refuse_second_package(&keys, store, &prepared.gpack.name, request.key.as_deref())?;
        }
        let root = publisher.as_ref().map(|it| prepared.dependencies(it.id())).transpose()?.flatten();
        if let (Some(root), Some(store)) = (root, store) {
            prepared.warnings.extend(check_offline(store, root)?);
        }
        plan(store, publisher.as_ref(), prepared, &progress)
    });
    planned.await.ok_or_else(|| gone("the plan"))?
}

/// Whether something was ever stored in a state folder.
fn has_store(folder: &Path) -> bool {
    folder.join("store.db").symlink_metadata().is_ok()
}

impl Keys {
    /// The folder of the keys, where they are in one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Given(_) => None,
            Self::Folder(folder) => Some(folder),
        }
    }

    /// The publisher that would sign, and none where its key would be made first.
    pub(super) fn existing(
        &self,
        name: Option<&str>,
        published: &BTreeSet<PublisherId>,
    ) -> Result<Option<Publisher>, Failure> {
        if let Self::Folder(folder) = self
            && self.is_to_be_made(folder, name)?
        {
            self.refuse_lost(folder, published)?;
            return Ok(None);
        }
        self.publisher(name, published).map(Some)
    }

    /// Makes the key of the first publication, and says where; nothing where there is a key already.
    pub(super) fn make_missing(
        &self,
        name: Option<&str>,
        published: &BTreeSet<PublisherId>,
    ) -> Result<Option<String>, Failure> {
        let Self::Folder(folder) = self else { return Ok(None) };
        if self.existing(name, published)?.is_some() {
            return Ok(None);
        }
        let publisher = self.publisher(name, published)?;
        let path = folder.join(publisher::FOLDER_NAME).join(format!("{DEFAULT_KEY}.key"));
        tracing::info!(publisher = %publisher.id(), path = %path.display(), "a publisher key was made");
        Ok(Some(path.display().to_string()))
    }
}

/// Packs without keeping a block. Runs beside the runtime.
fn plan(
    store: Option<&Store>,
    publisher: Option<&Publisher>,
    prepared: Prepared,
    progress: &ProgressSender,
) -> Result<Planned, Failure> {
    let Prepared { job: Job { directory, workers, keys, .. }, gpack, found, own, mut warnings, preflight } =
        prepared;
    if let Some(store) = store {
        let own_id = publisher.map(Publisher::id);
        warnings.extend(trust::warnings(store, keys.as_deref(), &gpack.name, own_id).map_err(fail)?);
    }
    let packed =
        pack::pack_on(&found, workers, &own, &mut |_| Ok::<(), store::Error>(()), &mut |done, total| {
            progress.report("packing", done, Some(total), "bytes");
        });
    let packed = packed.map_err(fail)?;
    let files = found.iter().map(|found| PlannedFile {
        path: found.path.to_string(),
        size: found.state.size,
        executable: found.executable,
    });
    let mut planned = Planned {
        id: format!("{}@{}", gpack.name, gpack.version),
        name: gpack.name.to_string(),
        version: gpack.version.to_string(),
        cid: packed.root.to_string(),
        size: packed.size,
        files: found.len() as u64,
        blocks: packed.blocks,
        contents: files.collect(),
        warnings,
        ..Planned::default()
    };
    let Some(publisher) = publisher else {
        planned.warnings.push(
            "there is no publisher key yet: the first publication makes one, and the id begins with its publisher"
                .to_owned(),
        );
        return Ok(planned);
    };
    planned.publisher = publisher.id().to_string();
    planned.id = format!("{}/{}", publisher.id(), planned.id);
    let manifest = Manifest::new(publisher.id(), gpack, preflight, packed).map_err(fail)?;
    let Some(store) = store else { return Ok(planned) };
    let content = Content {
        manifest,
        path: directory,
        blocks: planned.blocks,
        warnings: Vec::new(),
        now: Timestamp::now(),
    };
    if let Some(there) = content.queued(store).map_err(fail)? {
        if !content.is_same_as(&there) {
            return Err(conflicts_with_queued(&content));
        }
        planned.already_published = true;
    }
    let work = Work::new(store, publisher, content)?;
    match work.before()? {
        Before::None => {}
        Before::Same(_) => planned.already_published = true,
        Before::Other(why) => return Err(work.conflict(why)),
    }
    Ok(planned)
}

/// What the log and its keys take beside the blocks of a package and its manifest.
const ENTRY_BYTES: u64 = 16 << 10;

impl Prepared {
    /// Bytes that it takes in a store at most, roughly: what links blocks together is little beside them.
    fn bytes_max(&self) -> u64 {
        let files = self.found.iter().map(|found| found.state.size.saturating_add(found.state.size / 1_000));
        let around = ENTRY_BYTES.saturating_add((self.found.len() as u64).saturating_mul(1 << 10));
        files.fold(around, u64::saturating_add)
    }

    /// Bytes that a publication adds to a store of at most `most` bytes; zero where there is room in any case, or where all of it is
    /// here. Packs without keeping a block where it is close.
    pub(super) fn added_bytes(
        &self,
        store: &Store,
        publisher: PublisherId,
        most: u64,
    ) -> Result<u64, Failure> {
        if store.stats().map_err(fail)?.bytes.saturating_add(self.bytes_max()) <= most {
            return Ok(0);
        }
        let (mut seen, mut bytes) = (BTreeSet::new(), 0u64);
        let mut count = |block: Block| {
            if seen.insert(block.id()) && !store.has(&block.id())? {
                bytes = bytes.saturating_add(block.bytes().len() as u64);
            }
            Ok::<(), store::Error>(())
        };
        let packed = pack::pack_on(&self.found, self.job.workers, &self.own, &mut count, &mut |_, _| {});
        let packed = packed.map_err(fail)?;
        if bytes == 0 {
            return Ok(0);
        }
        let manifest = Manifest::new(publisher, self.gpack.clone(), self.preflight, packed).map_err(fail)?;
        let manifest = manifest.payload().map_err(fail)?.len() as u64;
        Ok(bytes.saturating_add(manifest).saturating_add(ENTRY_BYTES))
    }
}

/// What a publication comes to that was cancelled before it was signed.
pub(super) fn cancelled() -> Failure {
    Failure::new(
        Code::Interrupted,
        "It was interrupted before anything was signed: nothing was published.",
        "Run the same command again.",
    )
}

/// Fails once a publication is cancelled.
pub(super) fn unless_cancelled(cancel: &Cancel) -> Result<(), Failure> {
    if cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
}
