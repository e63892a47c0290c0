//! A removal that no kill cuts in half: the folder is renamed first, and what is left of it then is deleted at the next start.
//!
//! It is noted in the store before anything moves. Until it is done, the package counts as installed in a folder that is gone.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::{
    failure::fail,
    install::head_key,
    place::{forget_note, io_failure, is_gone, manifest_of_installed},
};
use crate::{
    code::Code,
    control::api::{AnyPath, Failure},
    package::{Manifest, unpack::replace},
    store::{self, Store, installed, meta},
};

/// What a note is kept under, before the path of the folder.
const NOTE_PREFIX: &str = "removing/";
/// Stands in the name of a folder that is being removed. It is never swept unseen: the user may have put a file there meanwhile.
const REMOVED_MARK: &str = ".ggen-removed-";
/// Folders beside one target that removals may have left.
const ASIDE_MAX: u32 = 1_000;

/// A removal in progress.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The folder.
    target: AnyPath,
    /// What it is called from the renaming on.
    aside: AnyPath,
}

/// Deletes what is as it was signed, and the folder where nothing else is in it; returns how many files went, and what is left.
pub(super) fn clear(
    store: &Store,
    target: &Path,
    manifest: &Manifest,
) -> Result<(u64, Vec<String>), Failure> {
    let in_place = || {
        let cleared = replace::clear(target, manifest).map_err(|error| io_failure(target, &error))?;
        // One that holds something, or that is a mount point, stays.
        let _ = std::fs::remove_dir(target);
        Ok(cleared)
    };
    let Some(aside) = aside(target) else { return in_place() };
    note(store, target, &aside).map_err(fail)?;
    if replace::rename_new(target, &aside).is_err() {
        // A mount point, or a folder above it that cannot be written.
        store.write(|tx| forget(tx, target)).map_err(fail)?;
        return in_place();
    }
    let cleared = clear_aside(target, &aside, manifest).map_err(|error| io_failure(target, &error));
    if cleared.is_err() || !is_gone(target) {
        store.write(|tx| forget(tx, target)).map_err(fail)?;
    }
    cleared
}

/// Clears a folder that was renamed; one that holds something else gets its name back.
fn clear_aside(target: &Path, aside: &Path, manifest: &Manifest) -> io::Result<(u64, Vec<String>)> {
    let cleared = replace::clear(aside, manifest);
    if std::fs::remove_dir(aside).is_err()
        && let Err(error) = replace::rename_new(aside, target)
    {
        tracing::warn!(%error, folder = %aside.display(), "what was not removed keeps this name");
    }
    cleared
}

/// Notes that nothing is installed in a folder any more.
pub(super) fn forget_installed(tx: &Transaction<'_>, row: &installed::Installed) -> Result<(), store::Error> {
    installed::remove(tx, &row.path)?;
    forget_note(tx, &row.path)?;
    forget(tx, &row.path)?;
    if installed::list_all(tx)?.iter().all(|other| other.package != row.package) {
        meta::remove(tx, &head_key(&row.package))?;
    }
    Ok(())
}

/// Completes every removal that a kill cut off.
pub(super) fn resume_all(store: &Store) -> Result<(), Failure> {
    for (key, bytes) in store.read(|conn| meta::values_from(conn, NOTE_PREFIX)).map_err(fail)? {
        let Ok(note) = serde_json::from_slice::<Note>(&bytes) else {
            store.write(|tx| meta::remove(tx, &key)).map_err(fail)?;
            continue;
        };
        if let Err(failure) = resume(store, &note.target.0) {
            tracing::warn!(target = %note.target, failure.message, "a removal that was cut off was not completed");
        }
    }
    Ok(())
}

/// Completes the removal of one folder that a kill cut off, if there is one.
pub(super) fn resume(store: &Store, target: &Path) -> Result<(), Failure> {
    let Some(bytes) = store.read(|conn| meta::get(conn, &note_key(target))).map_err(fail)? else {
        return Ok(());
    };
    let forgotten = || store.write(|tx| forget(tx, target)).map_err(fail);
    let Ok(Note { aside, .. }) = serde_json::from_slice::<Note>(&bytes) else { return forgotten() };
    let aside = aside.0.as_path();
    // Nothing was renamed yet, or it got its name back.
    if !is_gone(target) {
        return forgotten();
    }
    let Some(row) = store.read(|conn| installed::get(conn, target)).map_err(fail)? else {
        return forgotten();
    };
    if !is_gone(aside) {
        let (manifest, _) = manifest_of_installed(store, &row)?;
        clear_aside(target, aside, &manifest).map_err(|error| io_failure(aside, &error))?;
    }
    store.write(|tx| forget_installed(tx, &row)).map_err(fail)
}

fn note(store: &Store, target: &Path, aside: &Path) -> Result<(), store::Error> {
    let note = Note { target: AnyPath::from(target), aside: AnyPath::from(aside) };
    let bytes = serde_json::to_vec(&note).map_err(|error| store::Error::Refused {
        code: Code::Io,
        message: format!("internal error: a removal cannot be written down: {error}"),
        hint: String::new(),
    })?;
    store.write(|tx| meta::set(tx, &note_key(target), &bytes))
}

fn forget(tx: &Transaction<'_>, target: &Path) -> Result<(), store::Error> {
    meta::remove(tx, &note_key(target)).map(drop)
}

/// A name beside a folder that nothing has.
fn aside(target: &Path) -> Option<PathBuf> {
    let mut names = (1..=ASIDE_MAX).filter_map(|n| {
        let mut name = OsString::from(".");
        name.push(target.file_name()?);
        name.push(format!("{REMOVED_MARK}{n}"));
        Some(target.with_file_name(name))
    });
    names.find(|name| is_gone(name))
}

fn note_key(target: &Path) -> String {
    // Not every path is text.
    let bytes = target.as_os_str().as_bytes();
    bytes.iter().fold(NOTE_PREFIX.to_owned(), |key, byte| format!("{key}{byte:02x}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As a kill leaves a removal: renamed, and with some files gone.
    pub(in super::super) fn cut_off(store: &Store, target: &Path, gone: &[&str]) -> PathBuf {
        let aside = aside(target).unwrap();
        note(store, target, &aside).unwrap();
        std::fs::rename(target, &aside).unwrap();
        gone.iter().for_each(|file| std::fs::remove_file(aside.join(file)).unwrap());
        aside
    }
}
