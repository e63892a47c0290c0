//! Projects: what a directory with a `gpack.toml` asks for, brought here, verified, and put into its folder as a whole.

mod backing;
mod bring;
mod offers;
mod offline;
mod outdated;
mod place;
mod taken_back;
mod verify;
mod wanted;

pub use offline::project_offline;
pub(super) use outdated::of_reading;
pub(super) use place::as_it_stands;
pub(super) use verify::verify_project;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use self::{
    bring::Brought,
    place::{Target, Work},
    wanted::Wanted,
};
use super::{
    collect::Relied,
    disputed::{frozen, undisputed_here},
    failure::fail,
    install::refuse_own_folders,
    node::{Node, asked_time},
    offer::{How, Offers, clause},
    two_chains::{self, TWO_CHAINS},
};
use crate::{
    code::Code,
    content::ContentId,
    control::{
        api::{AnyPath, Failure, ProjectAction, ProjectChange, ProjectDone, ProjectPackage, ProjectRequest},
        service::ProgressSender,
    },
    limits::PROJECT_NAMED_MAX,
    package::{PackageId, gpack},
    project::{
        self, Done, Guard, Lock, Requirements,
        graph::{self, folders},
        is_unfinished, recover,
    },
    release::VerifiedHead,
    store::Store,
};

/// How long work on a project may take where no time was given.
const PROJECT_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a command waits for another one that changes the same project.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often it looks whether that one has ended: the system tells nobody when a lock is free.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Lines of a list that a message has; the rest is counted.
const LISTED_MAX: usize = 20;

/// A project that is locked and read.
struct Opened {
    guard: Guard,
    requirements: Requirements,
    lock: Option<Lock>,
    lock_bytes: Option<Vec<u8>>,
    recovered: Option<Done>,
}

impl Node {
    /// Changes what a project asks for, and makes its folders what it asks for.
    pub(super) async fn project(
        &self,
        request: ProjectRequest,
        progress: ProgressSender,
    ) -> Result<ProjectDone, Failure> {
        check(&request)?;
        let deadline = Instant::now() + asked_time(request.timeout_secs, PROJECT_TIMEOUT);
        let asks = matches!(request.action, ProjectAction::Update { .. });
        let how = How { offline: request.offline, asks, deadline };
        let opened =
            Arc::new(self.open_project(request.directory.0.clone(), request.dry_run, deadline).await?);
        let own = self.config().state_dir.clone();
        refuse_own_folders(&opened.guard.root().join(&opened.requirements.project().folder), &own)?;
        let mut offers = Offers::default();
        progress.report("choosing versions", 0, None, "packages");
        if !request.offline {
            self.await_entrance(how.deadline.saturating_duration_since(Instant::now())).await;
        }
        let wanted = self.wanted(&request, &opened, how, &mut offers).await?;
        let old = opened.lock.clone().unwrap_or_default();
        let folders = folders(wanted.requirements.project(), &wanted.lock);
        let mut answer = answer(&request, &opened, &wanted, &folders, &old);
        answer.warnings.extend(of_file(&wanted.requirements));
        answer.warnings.extend(wanted.warnings.iter().cloned());
        answer.warnings.extend(stays(&request.action, &opened, &wanted, &folders));
        let folder = opened.guard.root().join(&wanted.requirements.project().folder);
        let brought = match request.dry_run {
            // Nothing comes that would need room.
            true => self.bring_for_a_look(&wanted.lock, how, &progress).await,
            false => self.rely_on(&wanted.lock, (&folder, &folders), how, &progress).await,
        };
        let (packages, relied_on) = match brought {
            Ok(brought) => brought,
            Err(failure) => return Err(self.said_alone(failure, how).await),
        };
        let heads = offers.packages.iter().map(|(id, offer)| (id.clone(), offer.head.clone())).collect();
        let target = Arc::new(Target {
            requirements: wanted.requirements,
            lock: wanted.lock,
            writes_lock: !request.locked && !request.frozen,
            packages,
            folders,
            force: request.force,
            heads,
            named: wanted.named,
        });
        if !how.offline {
            self.bring_replaced(&opened, &target, how).await?;
        }
        let work = self.inspect(&opened, &target).await?;
        let written: Vec<_> =
            target.packages.iter().filter(|it| work.written.contains(&it.id)).cloned().collect();
        let locally = request.offline || request.frozen;
        if !request.offline {
            answer.warnings.extend(self.hear_news(&target.lock, how).await?);
        }
        answer.warnings.extend(self.refuse_disputed(&written, &old, locally).await?);
        self.refuse_withdrawn(&target.lock, &written).await?;
        answer.warnings.extend(self.refuse_unbacked(&target.lock, &target.packages, &written, how).await?);
        answer.files = place::files(&opened, &target).iter().map(|file| file.name.to_owned()).collect();
        answer.warnings.extend(self.left_behind(&opened, &folder).await?);
        if request.dry_run {
            if how.offline {
                // Nothing comes: what is not here is told as it would be.
                self.bring_files(&written, how, &progress).await?;
            }
            tell(&mut answer, work);
            answer.warnings.extend(self.taken_back(&target.lock, how, &offers).await?);
            return Ok(answer);
        }
        answer.bytes_fetched = match self.bring_files(&written, how, &progress).await {
            Ok(bytes) => bytes,
            Err(failure) => return Err(self.said_alone(failure, how).await),
        };
        let (done, work) = self.put_in_place(&opened, &target, work, progress, relied_on).await?;
        for it in &written {
            self.forget_providers(&it.release.root);
        }
        // How much they take is known by now.
        self.trim().await;
        // This node provides the trees from now on.
        self.audience.notify_one();
        tell(&mut answer, work);
        answer.warnings.extend(self.taken_back(&target.lock, how, &offers).await?);
        let earlier = opened.recovered.iter().flat_map(|done| &done.kept);
        answer.kept = earlier.chain(&done.kept).map(|path| AnyPath(path.clone())).collect();
        Ok(answer)
    }

    /// Locks a project; waits a while for another command that changes it.
    async fn lock_project(&self, directory: &Path, deadline: Instant) -> Result<Guard, Failure> {
        let until = deadline.min(Instant::now() + LOCK_WAIT);
        loop {
            let (directory, is_last) = (directory.to_owned(), Instant::now() >= until);
            let locked = self.offload_store(move |_| match Guard::lock(&directory) {
                Err(project::Error::Busy { .. }) if !is_last => Ok(None),
                locked => locked.map(Some).map_err(fail),
            });
            if let Some(guard) = locked.await? {
                return Ok(guard);
            }
            sleep(LOCK_PAUSE).await;
        }
    }

    /// Locks a project, completes what an earlier command began, unless nothing is to be changed, and reads its files.
    async fn open_project(
        &self,
        directory: PathBuf,
        dry_run: bool,
        deadline: Instant,
    ) -> Result<Opened, Failure> {
        refuse_relative(&directory)?;
        let guard = self.lock_project(&directory, deadline).await?;
        self.offload_store(move |store| {
            let recovered = match dry_run {
                true => refuse_unfinished(guard.root()).map(|()| None)?,
                false => {
                    let mut keeps = |was: &_, folder: &_| place::is_users(store, was, folder);
                    recover(&guard, &place::seal(store)?, &mut keeps).map_err(fail)?
                }
            };
            let requirements = Requirements::read(guard.root()).map_err(fail)?;
            let (lock, lock_bytes) = Lock::read(guard.root()).map_err(fail)?.unzip();
            Ok(Opened { guard, requirements, lock, lock_bytes, recovered })
        })
        .await
    }

    /// Brings the signed manifests of a lock file, then makes room for what is not here of the packages, as large as was signed, and
    /// keeps what is, until all of it is in its place.
    async fn rely_on(
        &self,
        lock: &Lock,
        (folder, folders): (&Path, &BTreeMap<PackageId, String>),
        how: How,
        progress: &ProgressSender,
    ) -> Result<(Vec<Brought>, Relied), Failure> {
        let of_manifests = self.collecting.rely(how.deadline).await?;
        let packages = self.bring_manifests(lock, how, progress).await?;
        // Whoever makes room waits for those who rely on something.
        drop(of_manifests);
        let place =
            |it: &Brought| folder.join(folders.get(&it.id).map_or(it.id.name.as_str(), String::as_str));
        // Without the network nothing comes that would need room.
        let coming = packages.iter().filter(|_| !how.offline);
        let coming = coming.map(|it| (place::held_package(it), place(it))).collect();
        let relied_on = self.begin(coming, how.deadline).await?;
        let ids: Vec<ContentId> =
            lock.packages.values().flat_map(|it| [it.keys, it.entry, it.manifest]).collect();
        let are_here =
            self.with_store(move |store| ids.iter().try_fold(true, |all, id| Ok(all && store.has(id)?)));
        // What belonged to nothing may have been evicted for the room.
        let packages = match how.offline || are_here.await? {
            true => packages,
            false => self.bring_manifests(lock, how, progress).await?,
        };
        Ok((packages, relied_on))
    }

    /// Brings the signed manifests of a lock file, as far as they are not here: what is in the folders is compared with them.
    async fn bring_for_a_look(
        &self,
        lock: &Lock,
        how: How,
        progress: &ProgressSender,
    ) -> Result<(Vec<Brought>, Relied), Failure> {
        let relied_on = self.collecting.rely(how.deadline).await?;
        Ok((self.bring_manifests(lock, how, progress).await?, relied_on))
    }

    /// A failure that says so where nothing came because nobody is connected.
    async fn said_alone(&self, failure: Failure, how: How) -> Failure {
        let is_of_network = matches!(failure.code, Code::NoProviders | Code::Network | Code::Timeout);
        if how.offline || !is_of_network || !self.is_alone().await {
            return failure;
        }
        let message = format!("{}. No peer is connected; nothing was changed.", clause(&failure));
        Failure { message, hint: self.ways_in(), ..failure }
    }

    /// One sentence for each folder that the packages of this project were in before its `gpack.toml` named another one.
    async fn left_behind(&self, opened: &Arc<Opened>, folder: &Path) -> Result<Vec<String>, Failure> {
        let (opened, folder) = (Arc::clone(opened), folder.to_owned());
        self.offload_store(move |store| place::left_behind(store, opened.guard.root(), &folder)).await
    }

    async fn inspect(&self, opened: &Arc<Opened>, target: &Arc<Target>) -> Result<Work, Failure> {
        let (opened, target) = (Arc::clone(opened), Arc::clone(target));
        self.offload_store(move |store| {
            let site = place::site(&opened.guard, &target.requirements)?;
            place::inspect(store, &site, &target)
        })
        .await
    }

    /// Refuses versions from behind the place where a log of its publisher parts, whatever a lock file says, and what a publisher of
    /// whose keys there are two chains has that the lock file did not name; yields a warning for each package that is taken all the same.
    /// `locally` judges by what is here alone.
    async fn refuse_disputed(
        &self,
        written: &[Brought],
        locked: &Lock,
        locally: bool,
    ) -> Result<Vec<String>, Failure> {
        let mut warnings = Vec::new();
        for it in written {
            let publisher = it.id.publisher;
            if self.offload_store(move |store| two_chains::are_two(store, &publisher)).await? {
                match locked.packages.get(&it.id).is_some_and(|was| was.root == it.release.root) {
                    // Its content is what was locked, whatever keys count by now.
                    true => warnings.push(format!("{}: {TWO_CHAINS}", it.id)),
                    false => {
                        let head = self.head_of_disputed(&it.id, locally).await?;
                        warnings.extend(self.refuse_two_chains(&head).await?);
                    }
                }
            }
            if self.dispute(&it.id).await?.is_none() {
                continue;
            }
            let head = self.head_of_disputed(&it.id, locally).await?;
            let version = it.release.version.clone();
            let release = match locally {
                true => self.offload_store(move |store| undisputed_here(store, &head, &version)).await?,
                false => self.undisputed_release(&head, Some(&version)).await?.release,
            };
            if release != it.release {
                let why = format!("version {} of the lock file is not from before that", release.version);
                return Err(frozen(&it.id, &why));
            }
        }
        Ok(warnings)
    }

    async fn head_of_disputed(&self, id: &PackageId, locally: bool) -> Result<VerifiedHead, Failure> {
        match locally {
            true => self.indexed(id).await?.ok_or_else(|| frozen(id, "its head is not here")),
            false => self.head_of(id).await,
        }
    }

    async fn put_in_place(
        &self,
        opened: &Arc<Opened>,
        target: &Arc<Target>,
        work: Work,
        progress: ProgressSender,
        relied_on: Relied,
    ) -> Result<(Done, Work), Failure> {
        // All live for as long as the work does, also where nobody waits for it any more.
        let (opened, target) = (Arc::clone(opened), Arc::clone(target));
        let turn = self.replacing.clone().lock_owned().await;
        self.offload_store(move |store| {
            let (_relied_on, _turn) = (relied_on, turn);
            put_in_place(store, &opened, &target, work, &progress)
        })
        .await
    }
}

/// Puts all of it in place, and notes that. From the first on it counts: that it was not noted is no reason to call it a failure.
fn put_in_place(
    store: &Store,
    opened: &Opened,
    target: &Target,
    mut work: Work,
    progress: &ProgressSender,
) -> Result<(Done, Work), Failure> {
    let done = place::apply(store, opened, target, &work, progress)?;
    let folder = opened.guard.root().join(&target.requirements.project().folder);
    if let Err(failure) = place::note(store, &folder, target, &work) {
        work.warnings.push(format!(
            "all of it is in place, and that could not be noted: {}; the next command in this project does it",
            clause(&failure)
        ));
    }
    Ok((done, work))
}

fn refuse_relative(directory: &Path) -> Result<(), Failure> {
    if directory.is_absolute() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Usage,
        format!("{} is not the absolute path of a directory.", directory.display()),
        "Run the command in the directory of a project.",
    ))
}

/// Refuses to look at a project in the middle of a change.
fn refuse_unfinished(root: &Path) -> Result<(), Failure> {
    if !is_unfinished(root).map_err(fail)? {
        return Ok(());
    }
    Err(Failure::new(
        Code::Conflict,
        format!(
            "A change of the project {} was cut off, or is in progress; nothing was changed.",
            root.display()
        ),
        format!("Complete it: ggen marketplace p2p install --project {}", root.display()),
    ))
}

/// Refuses what contradicts itself.
fn check(request: &ProjectRequest) -> Result<(), Failure> {
    let usage = |message: &str, hint: &str| Err(Failure::new(Code::Usage, message, hint));
    let named = match &request.action {
        ProjectAction::Install => 0,
        ProjectAction::Add { packages, .. } | ProjectAction::Remove { packages } => packages.len(),
        ProjectAction::Update { packages, .. } => packages.len(),
    };
    if named > PROJECT_NAMED_MAX {
        return usage(&format!("At most {PROJECT_NAMED_MAX} packages can be named at once."), "Name fewer.");
    }
    if (request.locked || request.frozen) && request.action != ProjectAction::Install {
        return usage(
            "What changes gpack.lock cannot keep it as it is.",
            "Leave out --locked and --frozen, or run: ggen marketplace p2p install --locked",
        );
    }
    match &request.action {
        ProjectAction::Add { packages, alias: Some(_) } if packages.len() != 1 => {
            usage("A short name belongs to one package.", "Add the packages one by one.")
        }
        ProjectAction::Update { packages, precise: Some(_) } if packages.len() != 1 => {
            usage("A precise version belongs to one package.", "Name the package to update.")
        }
        ProjectAction::Add { packages, .. } | ProjectAction::Remove { packages } if packages.is_empty() => {
            usage("No package was named.", "Name at least one.")
        }
        _ => Ok(()),
    }
}

/// What is said of packages that the project asks for no longer, and that others in it still need.
fn stays(
    action: &ProjectAction,
    opened: &Opened,
    wanted: &Wanted,
    folders: &BTreeMap<PackageId, String>,
) -> Vec<String> {
    let ProjectAction::Remove { .. } = action else { return Vec::new() };
    let asked = &wanted.requirements.project().dependencies;
    let before = opened.requirements.project().dependencies.keys();
    let name = |id: &PackageId| folders.get(id).cloned().unwrap_or_else(|| id.name.to_string());
    let stays = before.filter(|id| !asked.contains_key(*id) && wanted.lock.packages.contains_key(*id));
    stays
        .map(|id| {
            let needs =
                wanted.lock.packages.iter().filter(|(_, locked)| locked.dependencies.contains_key(id));
            let mut by: Vec<String> = needs.map(|(by, _)| name(by)).collect();
            if by.len() > LISTED_MAX {
                let more = by.len() - LISTED_MAX;
                by.truncate(LISTED_MAX);
                by.push(format!("{more} more"));
            }
            let verb = if by.len() == 1 { "needs" } else { "need" };
            format!(
                "gpack.toml does not ask for {} any more, and it stays installed: {} {verb} it",
                name(id),
                by.join(", ")
            )
        })
        .collect()
}

fn answer(
    request: &ProjectRequest,
    opened: &Opened,
    wanted: &Wanted,
    folders: &BTreeMap<PackageId, String>,
    old: &Lock,
) -> ProjectDone {
    let project = wanted.requirements.project();
    let folder = opened.guard.root().join(&project.folder);
    let name = |id: &PackageId| folders.get(id).cloned().unwrap_or_else(|| id.name.to_string());
    let packages = wanted.lock.packages.iter().map(|(id, locked)| ProjectPackage {
        id: format!("{id}@{}", locked.version),
        name: name(id),
        version: locked.version.to_string(),
        cid: locked.root.to_string(),
        path: AnyPath(folder.join(name(id))),
        direct: project.dependencies.contains_key(id),
    });
    let before = graph::folders(opened.requirements.project(), old);
    // What is removed has no folder any more: it is told by the name that it had.
    let named = |id: &PackageId| folders.get(id).or_else(|| before.get(id)).cloned();
    let changes = graph::changes(old, &wanted.lock).into_iter().map(|change| ProjectChange {
        id: change.package.to_string(),
        name: named(&change.package).unwrap_or_else(|| change.package.name.to_string()),
        from: change.from.map(|version| version.to_string()),
        to: change.to.map(|version| version.to_string()),
    });
    ProjectDone {
        directory: AnyPath(opened.guard.root().to_owned()),
        packages: packages.collect(),
        changes: changes.collect(),
        dry_run: request.dry_run,
        recovered: opened.recovered.is_some(),
        folder: AnyPath(folder.clone()),
        ..ProjectDone::default()
    }
}

/// What is to be said of the `gpack.toml` itself.
fn of_file(requirements: &Requirements) -> impl Iterator<Item = String> {
    requirements.project().warnings.iter().map(|warning| format!("{}, {warning}", gpack::FILE_NAME))
}

/// Tells what is done to the folders.
fn tell(answer: &mut ProjectDone, work: Work) {
    answer.folders = work.told();
    answer.written = work.written.len();
    answer.removed = work.removed;
    answer.altered = work.altered.into_iter().map(AnyPath).collect();
    answer.warnings.extend(work.warnings);
}

#[cfg(test)]
mod alone_tests;
#[cfg(test)]
mod tests;
