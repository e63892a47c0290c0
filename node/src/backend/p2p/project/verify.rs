//! Whether the folders of a project hold what its lock file names: nothing is fetched, locked or changed.

use std::path::Path;

use super::{
    LISTED_MAX,
    backing::{self, Backing, Chains, Named},
    bring,
    wanted::unanswered,
};
use crate::{
    backend::p2p::{
        failure::fail,
        place::is_gone,
        verify::{cut_off, signed_by},
        withdrawn::{WITHDRAWN, frozen_in, is_locked_withdrawn},
    },
    code::Code,
    control::api::{AnyPath, Failure, Verified},
    package::{PackageId, check},
    project::{LOCK_FILE, Lock, Locked, Requirements, Standing, Standings, graph::folders, plan::misfits},
    store::Store,
};

/// Compares the folders of a project with its lock file, package by package; what differs comes first.
pub(in crate::backend::p2p) fn verify_project(store: &Store, directory: &Path) -> Result<Verified, Failure> {
    let requirements = Requirements::read(directory).map_err(fail)?;
    let asked = &requirements.project().dependencies;
    let read = Lock::read(directory).map_err(fail)?;
    let has_lock = read.is_some();
    let lock = match read {
        Some((lock, _)) => lock,
        None if asked.is_empty() => Lock::default(),
        None => return Err(fail(crate::project::Error::NoLock { path: directory.join(LOCK_FILE) })),
    };
    let folder = directory.join(&requirements.project().folder);
    let folders = folders(requirements.project(), &lock);
    let (mut notes, mut chains) = (Standings::default(), Chains::default());
    let all = lock.packages.iter().map(|(id, locked)| {
        let name = folders.get(id).map_or(id.name.as_str(), String::as_str);
        let path = folder.join(name);
        verify_one(store, id, locked, &path, (&mut notes, &mut chains))
    });
    let mut all: Vec<Verified> = all.collect();
    // What was cut off may have left the one file new and the other old.
    let found = match all.iter().any(|verified| verified.interrupted) {
        true => Vec::new(),
        false => misfits(asked, &lock),
    };
    if !found.is_empty() && all.iter().all(|verified| verified.ok) {
        let failure = unanswered(&found);
        let of = match all.len() {
            1 => "The one package that it names is as it was signed".to_owned(),
            packages => format!("The {packages} packages that it names are as they were signed"),
        };
        return Err(Failure { message: format!("{}\n{of}.", failure.message), ..failure });
    }
    all.sort_by_key(|verified| verified.ok);
    let project = Some(AnyPath(directory.to_owned()));
    let mut all = all.into_iter();
    Ok(match all.next() {
        Some(first) => {
            let misfits = found.iter().take(LISTED_MAX).map(ToString::to_string).collect();
            Verified { others: all.collect(), project, misfits, ..first }
        }
        None => Verified {
            ok: true,
            path: folder.display().to_string(),
            project,
            lock_missing: !has_lock,
            ..Verified::default()
        },
    })
}

fn verify_one(
    store: &Store,
    id: &PackageId,
    locked: &Locked,
    path: &Path,
    (notes, chains): (&mut Standings, &mut Chains),
) -> Verified {
    let verified = Verified {
        notes: match frozen_in(store, id, Some(locked)) {
            Ok(said) => said.into_iter().collect(),
            Err(failure) => vec![failure.message],
        },
        id: format!("{id}@{}", locked.version),
        path: path.display().to_string(),
        cid: locked.root.to_string(),
        publisher: id.publisher.to_string(),
        ..Verified::default()
    };
    let Standing { placed, unfinished } = notes.of(path);
    if let Some(project) = unfinished {
        return Verified { interrupted: true, differences: vec![cut_off(&project)], ..verified };
    }
    if is_gone(path) {
        return Verified {
            missing: true,
            differences: vec!["its folder is not there".to_owned()],
            ..verified
        };
    }
    if let Some(other) = placed.filter(|placed| placed.manifest != locked.manifest) {
        let what = match other.package == *id {
            true if other.version == locked.version => {
                format!("version {} with other content is there than gpack.lock names", other.version)
            }
            true => format!("version {} is there, and gpack.lock names {}", other.version, locked.version),
            false => format!("{}@{} is there", other.package, other.version),
        };
        return Verified { differences: vec![what], ..verified };
    }
    let report = match bring::here(store, id, locked) {
        Ok(Some(brought)) if brought.manifest.gpack().dependencies != locked.dependencies => {
            Err(bring::contradiction(id, locked, bring::OTHER_NEEDS))
        }
        Ok(Some(brought)) => check::check(&brought.manifest, path).map_err(fail).and_then(|report| {
            let by = signed_by(store, &brought.release.manifest, &brought.keys)?;
            let withdrawn = is_locked_withdrawn(store, id, locked)?;
            let named = Named { id: id.clone(), locked: locked.clone(), keys: brought.keys };
            let denied = match backing::backing_here(store, &named, false, chains)? {
                Backing::Denied(doubt) if !withdrawn => Some(backing::told(&named, doubt)),
                _ => None,
            };
            Ok((report, by, withdrawn, denied))
        }),
        Ok(None) => Err(Failure::new(
            Code::NotFound,
            "its signed manifest is not on this machine: ggen marketplace p2p install",
            "",
        )),
        Err(failure) => Err(failure),
    };
    match report {
        Ok((report, (signed_by, key_path), withdrawn, denied)) => Verified {
            ok: report.differences.is_empty() && !withdrawn && denied.is_none(),
            withdrawn,
            contradicted: denied.is_some(),
            files: report.files,
            bytes: report.bytes,
            differences: withdrawn
                .then(|| WITHDRAWN.to_owned())
                .into_iter()
                .chain(denied)
                .chain(report.differences.iter().map(ToString::to_string))
                .collect(),
            signed_by,
            key_path,
            ..verified
        },
        Err(failure) => Verified {
            // No command mends what the file itself says.
            contradicted: failure.code == Code::Malformed,
            differences: vec![failure.message.trim_end_matches(bring::UNCHANGED).to_owned()],
            ..verified
        },
    }
}
