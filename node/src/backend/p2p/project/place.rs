//! Makes the folders of a project what its lock file says. Runs beside the runtime.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Opened,
    bring::{Brought, is_whole},
};
use crate::{
    backend::p2p::{
        failure::fail,
        install::{Supplied, head_key, manifest_bytes, pin_first},
    },
    catalog,
    code::Code,
    content::ContentId,
    control::{
        api::{Failure, ProjectChange},
        service::ProgressSender,
    },
    identity::Envelope,
    package::{
        Manifest, PackageId, SignedManifest,
        check::{self, Difference},
        gpack, unpack,
    },
    project::{
        Done, FileChange, Guard, Index, LOCK_FILE, Lock, Placed, Requirements, Seal, Site, Standing,
        Standings, Swap, Was, project_of,
    },
    release::{Release, VerifiedHead},
    store::{self, Store, installed, meta, packages, partial},
    time::Timestamp,
};

/// Files that somebody changed and that a message names; the rest is counted.
const NAMED_MAX: usize = 10;

/// What a project is to become.
pub(super) struct Target {
    pub(super) requirements: Requirements,
    pub(super) lock: Lock,
    /// Whether the lock file is written.
    pub(super) writes_lock: bool,
    pub(super) packages: Vec<Brought>,
    pub(super) folders: BTreeMap<PackageId, String>,
    pub(super) force: bool,
    /// Heads that the versions were taken from, as far as they are known.
    pub(super) heads: BTreeMap<PackageId, VerifiedHead>,
    /// Packages whose name a person typed: it means them from now on.
    pub(super) named: BTreeSet<PackageId>,
}

/// What has to be done to the folders.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) swaps: Vec<Swap>,
    /// Packages that are written.
    pub(super) written: BTreeSet<PackageId>,
    pub(super) removed: usize,
    /// Folders that hold something else than was signed, and that stay so.
    pub(super) altered: Vec<PathBuf>,
    index: Index,
    index_changed: bool,
    pub(super) warnings: Vec<String>,
}

impl Work {
    /// What becomes of the folders, for people.
    pub(super) fn told(&self) -> Vec<ProjectChange> {
        let told = self.swaps.iter().map(|swap| {
            let was = match &swap.was {
                Was::Placed(placed) => Some(placed),
                Was::Nothing | Was::Unknown => None,
            };
            let package = swap.brings.as_ref().or(was).map(|placed| placed.package.to_string());
            ProjectChange {
                id: package.unwrap_or_default(),
                name: swap.name.clone(),
                from: was.map(|was| was.version.to_string()),
                to: swap.brings.as_ref().map(|is| is.version.to_string()),
            }
        });
        told.collect()
    }
}

/// Compares the folders with what they are to hold; touches nothing.
pub(super) fn inspect(store: &Store, site: &Site<'_>, target: &Target) -> Result<Work, Failure> {
    let before = site.index().map_err(fail)?;
    let mut work = Work::default();
    let mut changed = Theirs::default();
    let manifests: BTreeMap<&PackageId, &Brought> = target.packages.iter().map(|it| (&it.id, it)).collect();
    for (id, name) in &target.folders {
        let Some(brought) = manifests.get(id) else { continue };
        let wanted = placed(brought);
        let place = site.place(name);
        let was = before.packages.get(name);
        let is_there = is_there(&place)?;
        let is_same = was.is_some_and(|was| was.manifest == wanted.manifest);
        let swap = match (is_there, was) {
            (false, _) => Some(Was::Nothing),
            (true, Some(_)) if is_same => {
                same(&place, &brought.manifest, target.force, &mut work)?.then(|| of(was))
            }
            (true, Some(old)) => {
                if !target.force {
                    changed.extend(users(store, old, &place));
                }
                Some(of(was))
            }
            (true, None) => match whole(&place, &brought.manifest) {
                true => None,
                false => {
                    if !target.force && !is_empty(&place) {
                        changed.named.push(format!("{} (ggen did not put it there)", place.display()));
                    }
                    Some(Was::Unknown)
                }
            },
        };
        if let Some(was) = swap {
            let brings = Some(Box::new(wanted.clone()));
            work.swaps.push(Swap { name: name.clone(), was, brings });
            work.written.insert(id.clone());
        }
        work.index.packages.insert(name.clone(), wanted);
    }
    for (name, old) in before.packages.iter().filter(|(name, _)| !work.index.packages.contains_key(*name)) {
        let place = site.place(name);
        if is_there(&place)? {
            if !target.force {
                changed.extend(users(store, old, &place));
            }
            work.swaps.push(Swap { name: name.clone(), was: of(Some(old)), brings: None });
            work.removed += 1;
        }
    }
    work.index_changed = work.index != before;
    if changed.is_empty() { Ok(work) } else { Err(touched(&changed)) }
}

/// What is to be replaced or removed and of which it is not known here what it held.
pub(super) fn unknown(store: &Store, site: &Site<'_>, target: &Target) -> Result<Vec<Placed>, Failure> {
    let wanted: BTreeMap<&String, ContentId> = target
        .packages
        .iter()
        .filter_map(|it| Some((target.folders.get(&it.id)?, it.release.manifest)))
        .collect();
    let mut unknown = Vec::new();
    for (name, old) in site.index().map_err(fail)?.packages {
        let is_replaced = wanted.get(&name) != Some(&old.manifest) && is_there(&site.place(&name))?;
        if is_replaced && known(store, &old).is_none() {
            unknown.push(old);
        }
    }
    Ok(unknown)
}

/// The files of the project that get another content.
pub(super) fn files(opened: &Opened, target: &Target) -> Vec<FileChange> {
    let lock = target.lock.to_text().into_bytes();
    let mut files = Vec::new();
    if target.writes_lock && opened.lock_bytes.as_deref() != Some(&lock[..]) {
        files.push(FileChange { name: LOCK_FILE, before: opened.lock_bytes.clone(), after: lock });
    }
    if target.requirements.bytes() != opened.requirements.bytes() {
        let (before, after) = (opened.requirements.bytes().to_vec(), target.requirements.bytes().to_vec());
        files.push(FileChange { name: gpack::FILE_NAME, before: Some(before), after });
    }
    files
}

/// Writes what is new beside the folders, and then puts all of it in place.
pub(super) fn apply(
    store: &Store,
    opened: &Opened,
    target: &Target,
    work: &Work,
    progress: &ProgressSender,
) -> Result<Done, Failure> {
    let files = files(opened, target);
    let mut site = site(&opened.guard, &target.requirements)?;
    if work.swaps.is_empty() && files.is_empty() && !work.index_changed {
        // What a command that was cut off had written beside the folders is of no use.
        site.abandon();
        return Ok(Done::default());
    }
    site.prepare().map_err(fail)?;
    let written = write(store, &site, target, work, progress);
    // From the journal on it is done to its end, whoever waits for it.
    let written = written.and_then(|()| match progress.is_forsaken() {
        true => Err(fail(unpack::Error::<store::Error>::Unwanted)),
        false => Ok(()),
    });
    if let Err(failure) = written {
        site.abandon();
        return Err(failure);
    }
    let seal = seal(store)?;
    let mut keeps = |was: &Was, folder: &Path| is_users(store, was, folder);
    let done = site.commit(work.swaps.clone(), &work.index, &files, &seal, &mut keeps).map_err(fail)?;
    Ok(done)
}

/// The seal of this state folder on its journals; it is made with the first one.
pub(super) fn seal(store: &Store) -> Result<Seal, Failure> {
    const KEY: &str = "journal_seal";
    let known = |bytes: Option<Vec<u8>>| bytes.and_then(|it| it.try_into().ok()).map(Seal::from_bytes);
    if let Some(seal) = known(store.read(|connection| meta::get(connection, KEY)).map_err(fail)?) {
        return Ok(seal);
    }
    #[expect(clippy::disallowed_methods, reason = "a secret that is drawn once")]
    let drawn: [u8; Seal::BYTES] = rand::random();
    let written = store.write(|tx| {
        if let Some(seal) = known(meta::get(tx, KEY)?) {
            return Ok(seal);
        }
        meta::set(tx, KEY, &drawn)?;
        Ok(Seal::from_bytes(drawn))
    });
    written.map_err(fail)
}

fn write(
    store: &Store,
    site: &Site<'_>,
    target: &Target,
    work: &Work,
    progress: &ProgressSender,
) -> Result<(), Failure> {
    let wanted = || target.packages.iter().filter(|it| work.written.contains(&it.id));
    let total: u64 = wanted().map(|it| it.release.size).sum();
    let mut before = 0;
    for it in wanted() {
        let Some(name) = target.folders.get(&it.id) else { continue };
        let tell = &mut |done: u64, _: u64| {
            progress.report("writing", before + done, Some(total), "bytes");
        };
        unpack::unpack(&it.manifest, &Supplied(store, Some(progress)), &site.next(name), tell)
            .map_err(fail)?;
        before += it.release.size;
    }
    Ok(())
}

/// Notes in the database what is installed where.
pub(super) fn note(store: &Store, folder: &Path, target: &Target, work: &Work) -> Result<(), Failure> {
    let now = Timestamp::now();
    let mut batch = store.batch();
    // Of a folder that somebody else brought, the blocks need not be here.
    let mut provided = BTreeSet::new();
    for it in &target.packages {
        if work.written.contains(&it.id) || is_whole(store, &it.manifest).map_err(fail)? {
            provided.insert(&it.id);
        }
    }
    for it in target.packages.iter().filter(|it| provided.contains(&it.id)) {
        for block in it.manifest.directories().into_iter().chain(it.keys.blocks()) {
            batch.put(block).map_err(fail)?;
        }
    }
    let places: BTreeSet<PathBuf> = target.folders.values().map(|name| folder.join(name)).collect();
    batch
        .commit(|tx| {
            let rows = installed::list_all(tx)?;
            let by_path: BTreeMap<&Path, &installed::Installed> =
                rows.iter().map(|row| (row.path.as_path(), row)).collect();
            let gone = |row: &&installed::Installed| {
                row.path.parent() == Some(folder) && !places.contains(&row.path)
            };
            for row in rows.iter().filter(gone) {
                installed::remove(tx, &row.path)?;
            }
            for it in &target.packages {
                let Some(name) = target.folders.get(&it.id) else { continue };
                let row = row(it, folder.join(name), now);
                let same =
                    |old: &installed::Installed| old.package == row.package && old.manifest == row.manifest;
                partial::remove(tx, &held_package(it))?;
                if by_path.get(row.path.as_path()).copied().is_some_and(same) {
                    continue;
                }
                installed::insert(tx, &row)?;
                if provided.contains(&it.id) {
                    packages::insert(tx, &held_package(it))?;
                }
                catalog::keep(tx, &it.id)?;
                if let Some(head) = target.heads.get(&it.id) {
                    meta::set(tx, &head_key(&it.id), head.bytes())?;
                }
            }
            target.named.iter().try_for_each(|id| pin_first(tx, id, now))
        })
        .map_err(fail)
}

/// One sentence for each folder in which this machine put packages of this project, and that its `gpack.toml` no longer names.
pub(super) fn left_behind(store: &Store, root: &Path, folder: &Path) -> Result<Vec<String>, Failure> {
    let mut left: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for row in store.read(installed::list_all).map_err(fail)? {
        let Some(site) = row.path.parent().filter(|site| *site != folder && site.starts_with(root)) else {
            continue;
        };
        if project_of(&row.path).as_deref() == Some(root) && is_folder(&row.path) {
            *left.entry(site.to_owned()).or_default() += 1;
        }
    }
    let said = |(site, packages): (PathBuf, usize)| {
        let (packages, stay) = if packages == 1 {
            ("1 package".to_owned(), "stays")
        } else {
            (format!("{packages} packages"), "stay")
        };
        format!(
            "gpack.toml names the folder {} now; {packages} {stay} in {}, where nothing uses them: delete that folder, and have \
             this machine forget it: ggen marketplace p2p gc",
            folder.display(),
            site.display()
        )
    };
    Ok(left.into_iter().take(NAMED_MAX).map(said).collect())
}

/// The folder for the packages of a project.
pub(super) fn site<'g>(guard: &'g Guard, requirements: &Requirements) -> Result<Site<'g>, Failure> {
    Site::new(guard, &requirements.project().folder).map_err(fail)
}

/// Whether a folder that is out of the way now holds anything that its user wrote.
pub(super) fn is_users(store: &Store, was: &Was, folder: &Path) -> bool {
    match was {
        Was::Nothing => !is_empty(folder),
        Was::Unknown => !is_empty(folder),
        Was::Placed(placed) => !users(store, placed, folder).is_empty(),
    }
}

/// What is, or may be, somebody's own work.
#[derive(Debug, Default)]
struct Theirs {
    /// What differs from what was signed.
    named: Vec<String>,
    /// Folders of which nothing is known here that they could be compared with.
    unknown: Vec<String>,
}

impl Theirs {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.unknown.is_empty()
    }

    fn extend(&mut self, other: Self) {
        self.named.extend(other.named);
        self.unknown.extend(other.unknown);
    }
}

/// What somebody wrote into the folder of a package: files that were changed or are new.
fn users(store: &Store, placed: &Placed, folder: &Path) -> Theirs {
    let named = |named| Theirs { named, ..Theirs::default() };
    if !is_folder(folder) {
        return named(vec![format!("{} (it is no folder any more)", folder.display())]);
    }
    let Some(manifest) = known(store, placed) else {
        let unknown = vec![format!("{} ({}@{})", folder.display(), placed.package, placed.version)];
        return Theirs { unknown, ..Theirs::default() };
    };
    match check::check(&manifest, folder) {
        Ok(report) => named(theirs(&report).map(|path| folder.join(path).display().to_string()).collect()),
        Err(error) => named(vec![error.to_string()]),
    }
}

/// What the notes of its project say of an installation, which are written before the store is: the version that stands there, and
/// the project whose change was cut off or is in progress.
pub(in crate::backend::p2p) fn as_it_stands(
    store: &Store,
    row: installed::Installed,
    notes: &mut Standings,
) -> (installed::Installed, Option<PathBuf>) {
    let Standing { placed, unfinished } = notes.of(&row.path);
    let other = placed.filter(|placed| placed.manifest != row.manifest);
    // Whatever those notes name was signed, or it is not believed.
    let Some((manifest, placed)) = other.and_then(|placed| Some((known(store, &placed)?, placed))) else {
        return (row, unfinished);
    };
    let row = installed::Installed {
        package: placed.package,
        version: placed.version,
        root: placed.root,
        manifest: placed.manifest,
        bytes: manifest.size(),
        files: manifest.files().len() as u64,
        ..row
    };
    (row, unfinished)
}

/// A manifest that was verified when it was installed, from its blocks, which name themselves.
fn known(store: &Store, placed: &Placed) -> Option<Manifest> {
    let release = Release {
        version: placed.version.clone(),
        manifest: placed.manifest,
        root: placed.root,
        size: 0,
        files: 0,
    };
    let bytes = manifest_bytes(store, &release.manifest).ok()?;
    let envelope = Envelope::decode(&bytes, SignedManifest::BYTES_MAX).ok()?;
    Manifest::from_payload(envelope.payload()).ok().filter(|manifest| manifest.id() == placed.package)
}

fn theirs(report: &check::Report) -> impl Iterator<Item = &str> {
    report.differences.iter().filter_map(|difference| match difference {
        Difference::Changed(path) | Difference::Extra(path) => Some(path.as_str()),
        Difference::Missing(_) | Difference::Mode(_) => None,
    })
}

/// Whether the folder of the version that is wanted has to be written again: something is missing, and nothing is its user's.
fn same(place: &Path, manifest: &Manifest, force: bool, work: &mut Work) -> Result<bool, Failure> {
    if !is_folder(place) {
        if !force {
            work.altered.push(place.to_owned());
            work.warnings
                .push(format!("{} is no folder any more; --force puts the package there", place.display()));
        }
        return Ok(force);
    }
    let report = check::check(manifest, place).map_err(fail)?;
    if report.differences.is_empty() {
        return Ok(false);
    }
    let theirs: Vec<&str> = theirs(&report).collect();
    if theirs.is_empty() || force {
        return Ok(true);
    }
    let mut list: Vec<&str> = theirs.iter().copied().take(NAMED_MAX).collect();
    if theirs.len() > NAMED_MAX {
        list.push("…");
    }
    work.altered.push(place.to_owned());
    work.warnings.push(format!(
        "{} is not as it was signed, and stays so: {}; --force restores it and keeps what was changed aside",
        place.display(),
        list.join(", ")
    ));
    Ok(false)
}

/// Whether a folder holds a package already, no matter who wrote it.
fn whole(place: &Path, manifest: &Manifest) -> bool {
    is_folder(place) && check::check(manifest, place).is_ok_and(|report| report.differences.is_empty())
}

fn is_folder(place: &Path) -> bool {
    // A link is somebody's own work, wherever it leads.
    fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir())
}

fn is_empty(place: &Path) -> bool {
    is_folder(place) && fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none())
}

fn is_there(place: &Path) -> Result<bool, Failure> {
    match fs::symlink_metadata(place) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(source) => Err(fail(check::Error { path: place.to_owned(), source })),
    }
}

fn of(was: Option<&Placed>) -> Was {
    was.map_or(Was::Unknown, |placed| Was::Placed(Box::new(placed.clone())))
}

fn placed(it: &Brought) -> Placed {
    Placed {
        package: it.id.clone(),
        version: it.release.version.clone(),
        root: it.release.root,
        manifest: it.release.manifest,
    }
}

fn row(it: &Brought, path: PathBuf, now: Timestamp) -> installed::Installed {
    installed::Installed {
        path,
        package: it.id.clone(),
        version: it.release.version.clone(),
        root: it.release.root,
        manifest: it.release.manifest,
        bytes: it.release.size,
        files: it.release.files,
        installed_at: now,
    }
}

pub(super) fn held_package(it: &Brought) -> packages::HeldPackage {
    packages::HeldPackage {
        root: it.release.root,
        manifest: it.release.manifest,
        package: it.id.clone(),
        version: it.release.version.clone(),
        size: it.release.size,
    }
}

fn touched(changed: &Theirs) -> Failure {
    let mut lines: Vec<String> = Vec::new();
    for (said, list) in [("", &changed.named), ("not known here: ", &changed.unknown)] {
        lines.extend(list.iter().take(NAMED_MAX).map(|it| format!("  {said}{it}")));
        if list.len() > NAMED_MAX {
            lines.push(format!("  and {} more", list.len() - NAMED_MAX));
        }
    }
    // Nobody need have changed what cannot be compared.
    let (what, hint) = match changed.named.is_empty() {
        true => (
            "It is not known here what was installed into these folders, and so not whether somebody changed it",
            "Try again when more peers are connected, or let it be kept aside: run the same command with --force",
        ),
        false => (
            "Somebody changed what would be replaced",
            "Move it elsewhere, or let it be kept aside: run the same command with --force",
        ),
    };
    Failure::new(Code::Conflict, format!("{what}; nothing was changed.\n{}", lines.join("\n")), hint)
}
