//! Holding what is installed against what was signed, and listing it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use semver::Version;
use tokio::time::{Instant, sleep};

use super::{
    amend::taken_back,
    failure::fail,
    fresh,
    install::manifest_bytes,
    meant::{Meant, meant_in, publisher_meant},
    node::Node,
    place::{self, manifest_of_installed},
    project::{LOCK_WAIT, as_it_stands, of_reading, verify_project},
    resolve,
    withdrawn::{self, NOT_IN_LOG, WITHDRAWN},
};
use crate::{
    catalog,
    code::Code,
    content::ContentId,
    control::api::{Failure, ListedPackage, Listing, Verified, VerifyRequest},
    identity::{Context, Envelope, KeyLog},
    network::Offload,
    package::{
        PackageId, check,
        manifest::{self, SignedManifest},
    },
    project::{self, Guard, Standings, project_of},
    store::{Store, changes, installed, outbox, published},
    time::Timestamp,
};

/// How often it is looked whether another command has ended: one that runs again and again leaves short gaps.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

impl Node {
    pub(super) async fn verify(&self, request: VerifyRequest) -> Result<Verified, Failure> {
        self.read_resolved_of(&request).await;
        let asked = request.clone();
        let first = self.offload_store(move |store| Ok(look_in(store, &asked))).await?;
        let first = match first.settled() {
            Ok(told) => return told,
            Err(differs) => differs,
        };
        // What differs is compared again while nothing is replaced.
        let Held { guards, busy } = first.hold(self.offload).await;
        let turn = self.replacing.clone().lock_owned().await;
        let looked = self.offload_store(move |store| {
            let _kept = (guards, turn);
            Ok(look_in(store, &request))
        });
        looked.await?.told_without(&busy)
    }

    /// Asks for the logs without which it is not known what of the packages that are meant was withdrawn. What cannot be had is told
    /// by the look itself, as far as it is here.
    async fn read_resolved_of(&self, request: &VerifyRequest) {
        let request = request.clone();
        let packages = self.offload_store(move |store| {
            if let Some(project) = &request.project {
                let lock = project::Lock::read(&project.0).map_err(fail)?;
                return Ok(lock.map(|(lock, _)| lock.packages.into_keys().collect()).unwrap_or_default());
            }
            let (rows, _) = meant_by(store, &request)?;
            Ok(rows.into_iter().map(|row| row.package).collect::<Vec<_>>())
        });
        // What is wrong with the request is told by the look.
        let Ok(packages) = packages.await else { return };
        if let Err(failure) = self.read_resolved(packages).await {
            tracing::warn!(failure.message, "what was withdrawn is not known");
        }
    }

    pub(super) async fn list(&self) -> Result<Listing, Failure> {
        let now = self.now();
        self.offload_store(move |store| list_in(store, now, true)).await
    }
}

/// What a look at folders tells.
#[derive(Debug)]
pub(super) struct Looked {
    outcome: Result<Verified, Failure>,
    /// Whether anything is not as it should be.
    differs: bool,
    /// The projects in which that is so. A command may be changing them.
    projects: BTreeSet<PathBuf>,
}

/// Projects that no other command changes for now.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) guards: Vec<Guard>,
    /// Those that another command changes all the while.
    pub(super) busy: BTreeSet<PathBuf>,
}

impl Looked {
    /// What is told without another look, where nothing differs.
    pub(super) fn settled(self) -> Result<Result<Verified, Failure>, Box<Self>> {
        if self.differs { Err(Box::new(self)) } else { Ok(self.outcome) }
    }

    /// Keeps other commands from changing the projects in which something differs, so that they are looked at again: a look in the
    /// middle of a change sees some of before and some of after it. One that changes a project is waited for.
    pub(super) async fn hold(self, offload: Offload) -> Held {
        let until = Instant::now() + LOCK_WAIT;
        let mut held = Held::default();
        for project in self.projects {
            match shared(&project, offload, until).await {
                Some(Ok(guard)) => held.guards.push(guard),
                Some(Err(project::Error::Busy { .. })) => drop(held.busy.insert(project)),
                // One that is gone, or may not be read, is told of by the look.
                Some(Err(_)) | None => {}
            }
        }
        held
    }

    /// Of a project that was compared with its lock file.
    fn of_project(outcome: Result<Verified, Failure>, project: &Path) -> Self {
        let is_well = outcome.as_ref().is_ok_and(|first| first.ok && first.others.iter().all(|it| it.ok));
        let projects = if is_well { BTreeSet::new() } else { BTreeSet::from([project.to_owned()]) };
        Self { outcome, differs: !is_well, projects }
    }

    /// What is told where other commands still change some of the projects: nothing is said of what differs in those.
    pub(super) fn told_without(self, busy: &BTreeSet<PathBuf>) -> Result<Verified, Failure> {
        let is_meant = |project: &PathBuf| busy.contains(project);
        let Some(project) = self.projects.iter().find(|project| is_meant(project)).cloned() else {
            return self.outcome;
        };
        let why = fail(crate::project::Error::Busy { directory: project });
        match self.outcome {
            Ok(first) if first.project.is_none() => {
                let told = |it: Verified| {
                    let is_busy = project_of(Path::new(&it.path)).as_ref().is_some_and(is_meant);
                    if it.ok || !is_busy {
                        return it;
                    }
                    Verified { interrupted: true, differences: vec![why.message.clone()], ..it }
                };
                let others = first.others.iter().cloned().map(told).collect();
                Ok(Verified { others, ..told(first) })
            }
            _ => Err(why),
        }
    }
}

/// Keeps other commands from changing a project; waits a while for one that does.
async fn shared(project: &Path, offload: Offload, until: Instant) -> Option<Result<Guard, project::Error>> {
    loop {
        let (directory, is_last) = (project.to_owned(), Instant::now() >= until);
        match offload.run(move || Guard::share(&directory)).await? {
            Err(project::Error::Busy { .. }) if !is_last => sleep(LOOK_PAUSE).await,
            shared => return Some(shared),
        }
    }
}

/// Compares what is installed with what was signed, by what the store knows alone.
pub(super) fn look_in(store: &Store, request: &VerifyRequest) -> Looked {
    if let Some(project) = &request.project {
        return Looked::of_project(verify_project(store, &project.0).map_err(of_reading), &project.0);
    }
    let refused = |failure| Looked { outcome: Err(failure), differs: false, projects: BTreeSet::new() };
    let (rows, what) = match meant_by(store, request) {
        Ok(found) => found,
        Err(failure) => return refused(failure),
    };
    let all = match compared(store, rows) {
        Ok(all) => all,
        Err(failure) => return Looked { differs: true, ..refused(failure) },
    };
    let bad = || all.iter().filter(|it| !it.ok && !it.withdrawn && !it.out_of_sight);
    let projects = bad().filter_map(|it| project_of(Path::new(&it.path))).collect();
    Looked { differs: bad().next().is_some(), projects, outcome: told(all, &what) }
}

/// The installations that a request means, and how they are called.
fn meant_by(store: &Store, request: &VerifyRequest) -> Result<(Vec<installed::Installed>, String), Failure> {
    if request.package.is_empty() {
        let mut all = store.read(installed::list_all).map_err(fail)?;
        if let Some(path) = &request.path {
            let noted = place::noted(Path::new(path));
            all.retain(|row| noted.contains(&row.path));
            if all.is_empty() {
                return Err(Failure::new(
                    Code::NotFound,
                    format!("Nothing is installed in {path}."),
                    "See what is: ggen marketplace p2p list",
                ));
            }
        }
        return Ok((all, "A package".to_owned()));
    }
    let meant = meant_in(store, &request.package)?;
    let installations = installations(store, &meant, request.path.as_deref().map(Path::new))?;
    if installations.is_empty() {
        return Err(not_installed(&meant));
    }
    Ok((installations, meant.typed))
}

fn compared(store: &Store, installations: Vec<installed::Installed>) -> Result<Vec<Verified>, Failure> {
    let is_one_of_several = installations.len() > 1;
    let mut all = Vec::new();
    let mut notes = Standings::default();
    for installed in installations {
        let (id, path) = (id(&installed), installed.path.display().to_string());
        all.push(match verify_one(store, installed, &mut notes) {
            Ok(verified) => verified,
            // The others are told of all the same.
            Err(failure) if is_one_of_several => {
                Verified { id, path, differences: vec![failure.message], ..Verified::default() }
            }
            Err(failure) => return Err(failure),
        });
    }
    Ok(all)
}

fn told(mut all: Vec<Verified>, what: &str) -> Result<Verified, Failure> {
    if !all.is_empty() && all.iter().all(|verified| verified.gone || verified.out_of_sight) {
        return Err(if all.iter().all(|it| it.gone) { all_gone(what, &all) } else { none_seen(what, &all) });
    }
    // What differs comes first, so that the first answer says whether everything is as it should be; what is not there comes last.
    all.sort_by_key(|verified| (verified.gone, verified.out_of_sight, verified.ok));
    let mut all = all.into_iter();
    let first = all.next().ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            "Nothing is installed here.",
            "Install something: ggen marketplace p2p install <package>",
        )
    })?;
    Ok(Verified { others: all.collect(), ..first })
}

fn verify_one(
    store: &Store,
    installed: installed::Installed,
    notes: &mut Standings,
) -> Result<Verified, Failure> {
    let (installed, unfinished) = as_it_stands(store, installed, notes);
    let verified = Verified {
        notes: withdrawn::frozen_in(store, &installed.package, None)?.into_iter().collect(),
        id: id(&installed),
        path: installed.path.display().to_string(),
        cid: installed.root.to_string(),
        publisher: installed.package.publisher.to_string(),
        ..Verified::default()
    };
    if let Some(project) = unfinished {
        // Which version has to be there is decided when it is completed.
        return Ok(Verified { interrupted: true, differences: vec![cut_off(&project)], ..verified });
    }
    if place::is_out_of_sight(store, &installed.path)? {
        return Ok(Verified { out_of_sight: true, ..verified });
    }
    if place::is_gone(&installed.path) {
        return Ok(Verified { gone: true, ..verified });
    }
    let (manifest, head) = manifest_of_installed(store, &installed)?;
    let (signed_by, key_path) = signed_by(store, &installed.manifest, head.key_log())?;
    let report = check::check(&manifest, &installed.path).map_err(fail)?;
    let withdrawn =
        withdrawn::is_withdrawn(store, &installed.package, &installed.version, installed.manifest)?;
    let mut differences: Vec<String> = report.differences.iter().map(ToString::to_string).collect();
    if withdrawn {
        differences.insert(0, WITHDRAWN.to_owned());
    }
    if !withdrawn && !withdrawn::is_in_log(store, &installed.package, &installed.version, installed.manifest)?
    {
        differences.insert(0, NOT_IN_LOG.to_owned());
    }
    let though_revoked =
        |conn: &rusqlite::Connection| Ok(catalog::listed_though_revoked(conn, &installed.package)?);
    // What was installed before another version came is told of by that one alone.
    if head.head().latest.as_ref().is_some_and(|latest| latest.manifest == installed.manifest)
        && let Some(since) = store.read(though_revoked).map_err(fail)?
    {
        differences.insert(0, resolve::though_revoked(since));
    }
    Ok(Verified {
        ok: differences.is_empty(),
        withdrawn,
        files: report.files,
        bytes: report.bytes,
        differences,
        signed_by,
        key_path,
        ..verified
    })
}

/// What is said of a folder whose project was left, or is now, in the middle of a change.
pub(super) fn cut_off(project: &Path) -> String {
    format!(
        "a change of the project was cut off, or is in progress; complete it: ggen marketplace p2p install --project {}",
        project.display()
    )
}

/// The installations that a reference means, or the one that a folder means.
fn installations(
    store: &Store,
    meant: &Meant,
    path: Option<&Path>,
) -> Result<Vec<installed::Installed>, Failure> {
    let all = store.read(installed::list_all).map_err(fail)?;
    let matches = |it: &installed::Installed| {
        it.package.name == meant.reference.name
            && meant.reference.publisher.is_none_or(|publisher| publisher == it.package.publisher)
            && meant.which.fits(&it.version)
    };
    let mut fitting: Vec<_> = all.into_iter().filter(matches).collect();
    let Some(path) = path.map(place::normal) else { return Ok(fitting) };
    // Another copy of an installed package may be checked too, wherever it is.
    if let Some(at) = fitting.iter().position(|it| it.path == path) {
        return Ok(vec![fitting.swap_remove(at)]);
    }
    if place::is_gone(&path) {
        return Err(Failure::new(
            Code::NotFound,
            format!("{} does not exist, and {} was not installed there.", path.display(), meant.typed),
            "See where it is installed: ggen marketplace p2p list",
        ));
    }
    // A copy elsewhere is one of what the name means here.
    let publisher = publisher_meant(store, &meant.reference)?;
    fitting.retain(|row| publisher.is_none_or(|publisher| publisher == row.package.publisher));
    fitting.sort_by(|a, b| a.version.cmp(&b.version));
    let newest = fitting.pop().ok_or_else(|| not_installed(meant))?;
    Ok(vec![installed::Installed { path, ..newest }])
}

/// Lists what was published or installed here, or waits to be published; why it waits depends on whether a node runs.
pub(super) fn list_in(store: &Store, now: Timestamp, is_running: bool) -> Result<Listing, Failure> {
    let (published, queued, installed, waiting) = store
        .read(|conn| {
            let (published, queued) = (published::list_all(conn)?, outbox::list_all(conn)?);
            Ok((published, queued, installed::list_all(conn)?, changes::list_all(conn)?))
        })
        .map_err(fail)?;
    let counts = |package: &PackageId, version: &Version, manifest| {
        withdrawn::is_withdrawn(store, package, version, manifest).map(|withdrawn| !withdrawn)
    };
    let mut withdrawn_roots = BTreeSet::new();
    let contents = published.iter().map(|row| (&row.package, &row.version, row.manifest, row.root));
    let installed_ones = installed.iter().map(|row| (&row.package, &row.version, row.manifest, row.root));
    for (package, version, manifest, root) in contents.chain(installed_ones) {
        if !counts(package, version, manifest)? {
            withdrawn_roots.insert((format!("{package}@{version}"), root.to_string()));
        }
    }
    let published = published.into_iter().map(|row| ListedPackage {
        kind: "published".to_owned(),
        path: row.path.display().to_string(),
        time: row.published_at.to_string(),
        size: row.bytes,
        ..listed(&row.package, &row.version, row.root)
    });
    let queued = queued.into_iter().map(|row| ListedPackage {
        kind: "queued".to_owned(),
        path: row.path.display().to_string(),
        time: row.queued_at.to_string(),
        size: row.bytes,
        why: if is_running { super::outbox::reason(&row).1 } else { row.why },
        ..listed(&row.package, &row.version, row.root)
    });
    let mut notes = Standings::default();
    let installed = installed.into_iter().map(|row| as_it_stands(store, row, &mut notes));
    let installed = installed.map(|(row, unfinished)| ListedPackage {
        kind: "installed".to_owned(),
        path: row.path.display().to_string(),
        time: row.installed_at.to_string(),
        size: row.bytes,
        gone: unfinished.is_none() && place::is_gone(&row.path),
        why: unfinished.as_deref().map(cut_off).unwrap_or_default(),
        interrupted: unfinished.is_some(),
        ..listed(&row.package, &row.version, row.root)
    });
    let mut packages: Vec<_> = published.chain(queued).chain(installed).collect();
    let mut released = fresh::Released::default();
    for row in &mut packages {
        if row.kind == "installed" && !row.interrupted {
            row.out_of_sight = place::is_out_of_sight(store, Path::new(&row.path))?;
            row.gone &= !row.out_of_sight;
        }
        row.freshness = fresh::of_listed(store, &row.id, &mut released, now).map_err(fail)?;
        let taken_back = taken_back(store, &row.id).map_err(fail)?;
        row.yanked = taken_back.yanked;
        row.deprecated = taken_back.deprecated;
        row.frozen = taken_back.frozen.is_some();
        row.withdrawn = withdrawn_roots.contains(&(row.id.clone(), row.cid.clone()));
    }
    let described =
        if is_running { super::changes::described_while_running } else { super::changes::described };
    let changes = waiting.iter().map(described).collect();
    Ok(Listing { total: packages.len(), packages, changes })
}

fn listed(package: &PackageId, version: &Version, root: ContentId) -> ListedPackage {
    ListedPackage {
        id: format!("{package}@{version}"),
        name: package.name.to_string(),
        version: version.to_string(),
        cid: root.to_string(),
        ..ListedPackage::default()
    }
}

fn id(installed: &installed::Installed) -> String {
    format!("{}@{}", installed.package, installed.version)
}

fn not_installed(meant: &Meant) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("{} is not installed here.", meant.typed),
        "See what is: ggen marketplace p2p list",
    )
}

/// Every folder that it was installed in is gone.
fn all_gone(what: &str, all: &[Verified]) -> Failure {
    let places: Vec<String> = all.iter().map(|gone| format!("  {}", gone.path)).collect();
    let (id, shown) = all.first().map(|gone| (gone.id.as_str(), gone.path.as_str())).unwrap_or_default();
    Failure::new(
        Code::NotFound,
        format!("{what} was installed, and its folder is gone:\n{}", places.join("\n")),
        format!(
            "Install it again: ggen marketplace p2p install {id} --to {shown}\nOr forget it: ggen marketplace p2p remove {shown}"
        ),
    )
}

/// No folder that it was installed in can be seen, and not all of them are known to be deleted.
fn none_seen(what: &str, all: &[Verified]) -> Failure {
    let place = |it: &Verified| format!("  {}{}", it.path, if it.gone { " (deleted)" } else { "" });
    let places: Vec<String> = all.iter().map(place).collect();
    Failure::new(
        Code::NotFound,
        format!("{what} is installed in a folder that cannot be seen now:\n{}", places.join("\n")),
        "Mount the drive that it is on, then try again. It stays listed until it is removed.",
    )
}

/// The keys that signed a manifest, in hex, and the key documents from the genesis to the last one that names them.
pub(super) fn signed_by(
    store: &Store,
    manifest: &ContentId,
    keys: &KeyLog,
) -> Result<(String, Vec<String>), Failure> {
    let bytes = manifest_bytes(store, manifest)?;
    let refused = |error| fail(manifest::Error::from(error));
    let envelope = Envelope::decode(&bytes, SignedManifest::BYTES_MAX).map_err(refused)?;
    let document = keys.verify_any(Context::Manifest, &envelope).map_err(refused)?;
    let signers = envelope.keys().filter(|key| document.keys.contains(key));
    let signers: Vec<String> = signers.map(|key| key.to_string()).collect();
    Ok((signers.join(", "), key_path(keys, document.n)))
}

/// The key documents from the genesis to the one of this number.
fn key_path(keys: &KeyLog, last: u64) -> Vec<String> {
    (0..=last).filter_map(|n| Some(format!("document {n}: {}", keys.fingerprint(n)?))).collect()
}
