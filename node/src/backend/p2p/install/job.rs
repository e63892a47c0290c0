//! What is left to do once every block of a package is here: its folder is written, and then it is noted.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Supplied, as_held, as_installed, head_key, pin_first};
use crate::{
    backend::p2p::{
        failure::fail,
        place::{self, Manner, Place},
    },
    catalog,
    control::{
        api::{Failure, Installed},
        service::ProgressSender,
    },
    network::Offload,
    package::{
        manifest::Manifest,
        unpack::{self, early::Early, replace::Kept},
    },
    release::{Release, VerifiedHead},
    store::{self, Store, installed, meta, packages, partial},
    time::Timestamp,
};

/// What is written while its blocks still come. Where it is given up, its files are removed beside the runtime.
pub(in crate::backend::p2p) struct Begun {
    pub(in crate::backend::p2p) early: Mutex<Option<Early>>,
    pub(in crate::backend::p2p) offload: Offload,
}

impl Begun {
    /// What is written; after a panic of its writer, too: it is checked at its end.
    pub(super) fn locked(&self) -> MutexGuard<'_, Option<Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let early = self.early.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(early) = early {
            self.offload.discard(early);
        }
    }
}

/// What is left to do once every block is here.
pub(in crate::backend::p2p) struct Job {
    pub(in crate::backend::p2p) head: VerifiedHead,
    pub(in crate::backend::p2p) release: Release,
    pub(in crate::backend::p2p) target: PathBuf,
    pub(in crate::backend::p2p) manifest: Arc<Manifest>,
    pub(in crate::backend::p2p) early: Arc<Begun>,
    pub(in crate::backend::p2p) manner: Manner,
}

impl Job {
    /// Writes the folder, and then that it is there. Runs beside the runtime.
    pub(in crate::backend::p2p) fn write(
        self,
        store: &Store,
        progress: &ProgressSender,
    ) -> Result<Installed, Failure> {
        let Self { head, release, target, manifest, early, manner } = self;
        if let Some(parent) = target.parent() {
            // What an install that was killed left beside the target.
            match unpack::sweep_partials(parent) {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "staging folders of earlier installs were removed"),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, "staging folders of earlier installs were not looked for")
                }
            }
        }
        let mut told = |done, total| progress.report("writing", done, Some(total), "bytes");
        let now = Timestamp::now();
        let row = installed::Installed {
            path: target.clone(),
            package: head.package_id(),
            version: release.version.clone(),
            root: release.root,
            manifest: release.manifest,
            bytes: release.size,
            files: release.files,
            installed_at: now,
        };
        let source = Supplied(store, Some(progress));
        let (mut already, mut replaced, mut kept) = (false, None, None);
        let is_noted = store.read(|conn| installed::get(conn, &target)).map_err(fail)?.is_some();
        match place::look(store, &manifest, &target, manner.keeps)? {
            Place::Free => {
                let early = early.locked().take();
                let unpacked = match early.map(|early| early.finish(&source, &target, &mut told)) {
                    Some(Ok(())) => Ok(()),
                    Some(Err(Some(error))) => Err(error),
                    Some(Err(None)) | None => unpack::unpack(&manifest, &source, &target, &mut told),
                };
                match unpacked {
                    // Another installation of the same package was faster.
                    Err(unpack::Error::Exists { .. })
                        if matches!(place::look(store, &manifest, &target, false)?, Place::Whole) =>
                    {
                        already = true;
                    }
                    unpacked => unpacked.map_err(fail)?,
                }
            }
            Place::Open => place::fill(&source, &manifest, &target, &mut told)?,
            Place::Whole => already = true,
            Place::Held(before) => {
                kept = Some(place::replace(&source, &before, &manifest, (&row, &head), manner, &mut told)?);
                replaced = Some(before.row.version.to_string());
            }
        }
        if already {
            unpack::settle::<store::Error>(&target).map_err(fail)?;
        }
        let package = head.package_id();
        let mut batch = store.batch();
        for block in manifest.directories().into_iter().chain(head.key_log().blocks()) {
            batch.put(block).map_err(fail)?;
        }
        let held = as_held(package.clone(), &release);
        batch
            .commit(|tx| {
                installed::insert(tx, &row)?;
                // Whose keys stand behind it can then be told without anybody else, for as long as it is installed.
                meta::set(tx, &head_key(&package), head.bytes())?;
                packages::insert(tx, &held)?;
                partial::remove(tx, &held)?;
                catalog::keep(tx, &package)?;
                pin_first(tx, &package, now)
            })
            .map_err(fail)?;
        let adopted = (already && !is_noted).then(|| {
            format!(
                "{} was there already, and is as it was signed: it counts as installed from now on",
                target.display()
            )
        });
        Ok(Installed {
            already_installed: already,
            warnings: adopted.into_iter().collect(),
            replaced,
            kept_in: kept.as_ref().and_then(Kept::folder).map(|folder| folder.display().to_string()),
            kept: kept.map(|kept| kept.files().to_vec()).unwrap_or_default(),
            ..as_installed(&package, &release, &target)
        })
    }
}
