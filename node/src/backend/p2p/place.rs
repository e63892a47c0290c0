//! The folder that a package is put into: what stands there, what may be done about it, and what a kill left of that.
//!
//! Whatever this node installed and nobody changed can be replaced by another version. A replacement is noted in the store before
//! anything moves ([`Note`]), with both versions, so that the next start – or the next installation to that folder – knows which
//! files are whose.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};

use super::{
    failure::fail,
    install::{Supplied, head_key, manifest_of},
    removing,
};
use crate::{
    catalog,
    code::Code,
    control::api::{AnyPath, Failure},
    limits::DIFFERENCES_NAMED_MAX,
    package::{
        Manifest, PackageId,
        check::{self, Difference},
        unpack::{
            self,
            replace::{self, Change, Kept},
        },
    },
    release::{Release, VerifiedHead},
    store::{self, Store, installed, meta},
    time::Timestamp,
};

/// What a note is kept under, before the path of the folder.
const NOTE_PREFIX: &str = "replacing/";

/// What stands where a package is to be put.
pub(super) enum Place {
    /// Nothing.
    Free,
    /// A folder that is empty, or that holds part of the package and nothing else.
    Open,
    /// The package, whole.
    Whole,
    /// A version that this node installed.
    Held(Box<Held>),
}

/// A version that this node installed and that may be replaced.
pub(super) struct Held {
    pub(super) row: installed::Installed,
    pub(super) manifest: Manifest,
}

/// How a version may be replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// The folder stays the one that it is.
    pub(super) stays: bool,
    /// Files of the user are moved out of the way.
    pub(super) keeps: bool,
}

/// A replacement in progress.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The folder.
    target: AnyPath,
    /// Where the old tree is, or the files of it; for a folder that is swapped, from the swap on.
    replaced: AnyPath,
    old: Version,
    new: Version,
}

impl Note {
    fn of(replaced: &Path, old: &installed::Installed, new: &installed::Installed) -> Self {
        let (target, replaced) = (AnyPath::from(new.path.as_path()), AnyPath::from(replaced));
        Self { target, replaced, old: Version::of(old), new: Version::of(new) }
    }

    fn write(&self, tx: &Transaction<'_>) -> Result<(), store::Error> {
        let bytes = serde_json::to_vec(self).map_err(|error| store::Error::Refused {
            code: Code::Io,
            message: format!("internal error: a replacement cannot be written down: {error}"),
            hint: String::new(),
        })?;
        meta::set(tx, &note_key(&self.target.0), &bytes)
    }
}

/// One of its two versions.
#[derive(Debug, Serialize, Deserialize)]
struct Version {
    package: String,
    version: semver::Version,
    manifest: String,
    root: String,
    bytes: u64,
    files: u64,
    /// When it was, or would be, installed, in seconds.
    at: u64,
}

impl Version {
    fn of(row: &installed::Installed) -> Self {
        Self {
            package: row.package.to_string(),
            version: row.version.clone(),
            manifest: row.manifest.to_string(),
            root: row.root.to_string(),
            bytes: row.bytes,
            files: row.files,
            at: row.installed_at.as_secs(),
        }
    }

    fn row(&self, path: &Path) -> Option<installed::Installed> {
        Some(installed::Installed {
            path: path.to_owned(),
            package: self.package.parse().ok()?,
            version: self.version.clone(),
            root: self.root.parse().ok()?,
            manifest: self.manifest.parse().ok()?,
            bytes: self.bytes,
            files: self.files,
            installed_at: Timestamp::from_secs(self.at),
        })
    }
}

/// The path as it is kept: without links, dots and double slashes, as far as it is there.
pub(super) fn normal(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return joined(real, rest);
        }
    }
    path.to_owned()
}

/// A path below another one, without dots.
fn joined(mut path: PathBuf, rest: &Path) -> PathBuf {
    for part in rest.components() {
        match part {
            std::path::Component::ParentDir => drop(path.pop()),
            std::path::Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

/// The paths under which a folder that a person names may be noted: as it is written, and as it is without links. The last part of it is
/// not followed first, since a link may stand there in the place of the folder.
pub(super) fn noted(path: &Path) -> Vec<PathBuf> {
    let written = joined(PathBuf::new(), path);
    let beside = written.parent().zip(written.file_name()).map(|(parent, name)| normal(parent).join(name));
    let mut paths = vec![written];
    paths.extend(beside);
    paths.push(normal(path));
    paths
}

/// Whether a link leads elsewhere now from a path that had none when it was noted.
pub(super) fn is_led_away(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real != path)
        || std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Whether the folder of something that is installed cannot be seen now, although nobody is known to have deleted it.
pub(super) fn is_out_of_sight(store: &Store, path: &Path) -> Result<bool, Failure> {
    store.read(|conn| installed::is_out_of_sight(conn, path)).map_err(fail)
}

/// Whether nothing is at a path, which is not so where that cannot be found out.
pub(super) fn is_gone(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The signed manifest of what is installed.
pub(super) fn manifest_of_installed(
    store: &Store,
    row: &installed::Installed,
) -> Result<(Manifest, VerifiedHead), Failure> {
    let head = head_of_installed(store, &row.package)?;
    let release = Release {
        version: row.version.clone(),
        manifest: row.manifest,
        root: row.root,
        size: row.bytes,
        files: row.files,
    };
    Ok((manifest_of(store, &row.package, &release, head.key_log())?, head))
}

/// The head that a package was installed from: its keys and signatures count also when nobody renews it any more.
fn head_of_installed(store: &Store, package: &PackageId) -> Result<VerifiedHead, Failure> {
    let bytes = store.read(|conn| match meta::get(conn, &head_key(package))? {
        Some(bytes) => Ok(Some(bytes)),
        None => Ok(catalog::get(conn, package)?.map(|listed| listed.bytes)),
    });
    let bytes = bytes.map_err(fail)?.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!("The signatures of {package} are not known here any more."),
            format!("Install it again: ggen marketplace p2p install {package}"),
        )
    })?;
    VerifiedHead::verify_stored(&bytes).map_err(fail)
}

/// Looks at a folder that a package is to be put into. `keeps` allows that files of the user are moved out of the way, as far as the
/// folder is one of ours.
pub(super) fn look(store: &Store, new: &Manifest, target: &Path, keeps: bool) -> Result<Place, Failure> {
    resume(store, target)?;
    refuse_nested(store, target)?;
    if std::fs::symlink_metadata(target).is_ok_and(|metadata| metadata.is_dir()) {
        // What a kill left in there.
        let _ = unpack::sweep_partials(target);
    }
    seen(store, new, target, keeps)
}

/// As [`look`], and touches nothing.
pub(super) fn foresee(store: &Store, new: &Manifest, target: &Path, keeps: bool) -> Result<Place, Failure> {
    refuse_nested(store, target)?;
    seen(store, new, target, keeps)
}

/// What is in a folder that a package is to be put into.
fn seen(store: &Store, new: &Manifest, target: &Path, keeps: bool) -> Result<Place, Failure> {
    let in_the_way = |why: String| {
        Failure::new(
            Code::Conflict,
            format!("{} {why}; nothing was changed.", target.display()),
            "Choose another place with --to, or move the folder away first.",
        )
    };
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Place::Free),
        Err(error) => return Err(in_the_way(format!("cannot be read: {error}"))),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(in_the_way("exists and is not a folder".to_owned()));
        }
        Ok(_) => {}
    }
    let row = store.read(|conn| installed::get(conn, target)).map_err(fail)?;
    let differences = check::check(new, target).map_err(fail)?.differences;
    if differences.is_empty() {
        return Ok(Place::Whole);
    }
    let is_lack = |difference: &Difference| matches!(difference, Difference::Missing(_));
    if differences.iter().all(is_lack) {
        return Ok(Place::Open);
    }
    let Some(row) = row else {
        return Err(in_the_way("exists and holds something else".to_owned()));
    };
    if row.package != new.id() {
        return Err(Failure::new(
            Code::Conflict,
            format!("{} holds {}@{}; nothing was changed.", target.display(), row.package, row.version),
            format!(
                "Choose another place with --to, or remove that first: ggen marketplace p2p remove {}",
                target.display()
            ),
        ));
    }
    let (manifest, _) = manifest_of_installed(store, &row)?;
    let changed = changed(&manifest, target)?;
    if !changed.is_empty() && !keeps {
        return Err(Failure::new(
            Code::Conflict,
            format!(
                "Files in {} are not as {}@{} was signed; nothing was changed.\n{}",
                target.display(),
                row.package.name,
                row.version,
                named(&changed)
            ),
            "Move them away, or let them be moved into a folder beside it: --force",
        ));
    }
    Ok(Place::Held(Box::new(Held { row, manifest })))
}

/// Refuses a folder inside of one that holds a package, and one around it: that one would not be as it was signed any more.
fn refuse_nested(store: &Store, target: &Path) -> Result<(), Failure> {
    let rows = store.read(installed::list_all).map_err(fail)?;
    let is_nested = |row: &&installed::Installed| {
        let path = row.path.as_path();
        path != target && (target.starts_with(path) || path.starts_with(target)) && !is_gone(path)
    };
    let Some(row) = rows.iter().find(is_nested) else { return Ok(()) };
    let how = if target.starts_with(&row.path) { "is inside of" } else { "is around" };
    Err(Failure::new(
        Code::Conflict,
        format!(
            "{} {how} {}, which holds {}@{}; nothing was changed.",
            target.display(),
            row.path.display(),
            row.package.name,
            row.version
        ),
        "Choose another place with --to: one of them would not be as it was signed.",
    ))
}

/// What differs from what was signed, other than files that are missing: those take nothing of the user with them.
pub(super) fn changed(manifest: &Manifest, folder: &Path) -> Result<Vec<Difference>, Failure> {
    let mut differences = check::check(manifest, folder).map_err(fail)?.differences;
    differences.retain(|difference| !matches!(difference, Difference::Missing(_)));
    Ok(differences)
}

/// The first of what differs, a line each.
pub(super) fn named(differences: &[Difference]) -> String {
    let mut lines: Vec<String> =
        differences.iter().take(DIFFERENCES_NAMED_MAX).map(|difference| format!("  {difference}")).collect();
    match differences.len().saturating_sub(DIFFERENCES_NAMED_MAX) {
        0 => {}
        more => lines.push(format!("  and {more} more")),
    }
    lines.join("\n")
}

/// Puts a package into a folder that is empty, or that lacks some of its files; the folder stays the one that it is.
pub(super) fn fill(
    source: &Supplied<'_>,
    new: &Manifest,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Failure> {
    let change = Change { old: None, new, target };
    let staging = replace::lay(&change, source, None, &mut |_| Ok(()), progress).map_err(fail)?;
    // Nothing but empty folders is left in it.
    let mut kept = Kept::beside(target);
    replace::discard(&staging, &[new], &mut kept).map(drop).map_err(|error| io_failure(target, &error))
}

/// Puts another version in the place of one that this node installed; `row` is what is then installed there.
///
/// Returns what of the user was moved out of the way.
pub(super) fn replace(
    source: &Supplied<'_>,
    held: &Held,
    new: &Manifest,
    (row, head): (&installed::Installed, &VerifiedHead),
    Manner { stays, keeps }: Manner,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Kept, Failure> {
    let (store, target) = (source.0, row.path.as_path());
    let mut kept = Kept::beside(target);
    let change = Change { old: Some(&held.manifest), new, target };
    let mut note = |replaced: &Path| {
        let note = Note::of(replaced, &held.row, row);
        store.write(|tx| {
            // The manifests of both versions can be read by it, also where this is cut off.
            meta::set(tx, &head_key(&row.package), head.bytes())?;
            note.write(tx)
        })
    };
    let mut put = || {
        if !stays && let Some(replaced) = replace::exchange(&change, source, &mut note, progress)? {
            return Ok(replaced);
        }
        replace::lay(&change, source, keeps.then_some(&mut kept), &mut note, progress)
    };
    let replaced = match put() {
        Ok(replaced) => replaced,
        Err(error) => {
            // Nothing changed, and nothing is to be completed later.
            store.write(|tx| forget_note(tx, target)).map_err(fail)?;
            return Err(fail(error));
        }
    };
    store.write(|tx| installed::insert(tx, row)).map_err(fail)?;
    finish(store, target, &replaced, &[&held.manifest, new], &mut kept);
    Ok(kept)
}

/// Deletes what is left of a replaced version, and forgets the replacement. What cannot be deleted now is tried again at the next
/// start.
fn finish(store: &Store, target: &Path, replaced: &Path, manifests: &[&Manifest], kept: &mut Kept) {
    match replace::discard(replaced, manifests, kept) {
        Ok(true) => {
            if let Err(error) = store.write(|tx| meta::remove(tx, &note_key(target))) {
                tracing::warn!(%error, "a replacement that is done was not forgotten");
            }
        }
        Ok(false) => {
            tracing::warn!(folder = %replaced.display(), "something came into a folder that was replaced")
        }
        Err(error) => {
            tracing::warn!(%error, folder = %replaced.display(), "a replaced version was not deleted")
        }
    }
    tell_kept(kept);
}

fn tell_kept(kept: &Kept) {
    if let Some(folder) = kept.folder() {
        tracing::info!(folder = %folder.display(), files = kept.files().len(), "files of the user were kept");
    }
}

/// Completes every replacement and removal that a kill cut off.
pub(super) fn resume_all(store: &Store) -> Result<(), Failure> {
    removing::resume_all(store)?;
    for (key, bytes) in store.read(|conn| meta::values_from(conn, NOTE_PREFIX)).map_err(fail)? {
        let Ok(note) = serde_json::from_slice::<Note>(&bytes) else {
            store.write(|tx| meta::remove(tx, &key)).map_err(fail)?;
            continue;
        };
        if let Err(failure) = resume(store, &note.target.0) {
            tracing::warn!(
                target = %note.target, failure.message, "a replacement that was cut off was not completed"
            );
        }
    }
    Ok(())
}

/// Completes the replacement in one folder, or its removal, that a kill cut off, if there is one.
pub(super) fn resume(store: &Store, target: &Path) -> Result<(), Failure> {
    removing::resume(store, target)?;
    let Some(bytes) = store.read(|conn| meta::get(conn, &note_key(target))).map_err(fail)? else {
        return Ok(());
    };
    let forget =
        |store: &Store| store.write(|tx| meta::remove(tx, &note_key(target))).map(drop).map_err(fail);
    let Ok(note) = serde_json::from_slice::<Note>(&bytes) else { return forget(store) };
    let (Some(old), Some(new)) = (note.old.row(target), note.new.row(target)) else { return forget(store) };
    let (old_manifest, _) = manifest_of_installed(store, &old)?;
    let (new_manifest, _) = manifest_of_installed(store, &new)?;
    let is = |manifest: &Manifest| {
        check::check(manifest, target).is_ok_and(|report| report.differences.is_empty())
    };
    let mut kept = Kept::beside(target);
    let replaced = note.replaced.0.as_path();
    if replaced.starts_with(target) {
        if is_gone(target) {
            // Deleted by hand, with all that was to be moved.
            return forget(store);
        }
        // Files were being moved, one by one: what is in the staging folder is in the store too.
        replace::discard(replaced, &[&old_manifest, &new_manifest], &mut kept)
            .map_err(|error| io_failure(replaced, &error))?;
        let change = Change { old: Some(&old_manifest), new: &new_manifest, target };
        let source = Supplied(store, None);
        let mut staged = None;
        let mut noted = |folder: &Path| {
            staged = Some(folder.to_owned());
            Ok(())
        };
        // Files of the user may be in the way: that they are to be moved was decided, or they came later.
        replace::lay(&change, &source, Some(&mut kept), &mut noted, &mut |_, _| {}).map_err(fail)?;
        store.write(|tx| installed::insert(tx, &new)).map_err(fail)?;
        if let Some(staged) = &staged {
            let _ = replace::discard(staged, &[&old_manifest, &new_manifest], &mut kept);
        }
        tell_kept(&kept);
        return forget(store);
    }
    // The new tree was written as a whole before the two were swapped: where it is not beside the folder, it is in it, whatever
    // its user did with it since.
    let is_beside = |manifest: &Manifest| {
        check::check(manifest, replaced).is_ok_and(|report| report.differences.is_empty())
    };
    let was_swapped = !is_gone(replaced) && !is_beside(&new_manifest) && !is(&old_manifest);
    if is(&new_manifest) || was_swapped {
        store.write(|tx| installed::insert(tx, &new)).map_err(fail)?;
    }
    finish(store, target, replaced, &[&old_manifest, &new_manifest], &mut kept);
    Ok(())
}

fn note_key(target: &Path) -> String {
    // Not every path is text.
    let bytes = target.as_os_str().as_bytes();
    bytes.iter().fold(NOTE_PREFIX.to_owned(), |key, byte| format!("{key}{byte:02x}"))
}

/// The versions of all replacements that are in progress: they are completed from what is here.
pub(super) fn in_progress(conn: &Connection) -> Result<Vec<installed::Installed>, store::Error> {
    let mut rows = Vec::new();
    for (_, bytes) in meta::values_from(conn, NOTE_PREFIX)? {
        if let Ok(note) = serde_json::from_slice::<Note>(&bytes) {
            let target = note.target.0.as_path();
            rows.extend([note.old.row(target), note.new.row(target)].into_iter().flatten());
        }
    }
    Ok(rows)
}

/// Forgets that anything was being replaced in a folder that is not installed any more.
pub(super) fn forget_note(tx: &Transaction<'_>, target: &Path) -> Result<(), store::Error> {
    meta::remove(tx, &note_key(target)).map(drop)
}

pub(super) fn io_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Io,
        format!("{} cannot be changed: {error}.", path.display()),
        "See that the folder can be written, and run the same command again.",
    )
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
