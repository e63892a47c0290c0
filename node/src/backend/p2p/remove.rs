//! Removing what is installed: the files that are as they were signed go, what is the user's stays.

use std::path::Path;

use super::{
    failure::fail,
    gone,
    meant::meant_in,
    node::Node,
    place::{self, changed, io_failure, manifest_of_installed, named},
    removing,
};
use crate::{
    code::Code,
    config::P2PConfig,
    control::api::{Failure, RemoveRequest, Removed},
    network::Offload,
    package::unpack::replace,
    project::asked_by,
    store::{HomeLock, Store, installed},
};

impl Node {
    pub(super) async fn remove(&self, request: RemoveRequest) -> Result<Removed, Failure> {
        let turn = self.replacing.clone().lock_owned().await;
        self.offload_store(move |store| {
            let _turn = turn;
            remove_in(store, &request)
        })
        .await
    }
}

/// Removes an installed package on the state folder of a node that does not run.
///
/// # Errors
/// As the running node, and [`Code::AlreadyRunning`] where one runs.
pub async fn remove_offline(config: P2PConfig, request: RemoveRequest) -> Result<Removed, Failure> {
    let removed = Offload::Threads.run(move || {
        let lock = HomeLock::acquire(&config.state_dir).map_err(fail)?;
        let store = super::open_store(&config.state_dir)?;
        let removed = remove_in(&store, &request);
        drop((store, lock));
        removed
    });
    removed.await.ok_or_else(|| gone("the removal"))?
}

fn remove_in(store: &Store, request: &RemoveRequest) -> Result<Removed, Failure> {
    let before = the_one(store, request)?;
    let at = before.path.clone();
    if let Some((root, id)) = asked_by(&at) {
        return Err(of_project(&at, &root, &id.to_string()));
    }
    // What a kill cut off is completed first: it may have put another version there, and left the old one beside it.
    if !request.dry_run && !place::is_led_away(&at) {
        let resumed = place::resume(store, &at);
        if !request.force {
            resumed?;
        }
    }
    let row = store.read(|conn| installed::get(conn, &at)).map_err(fail)?;
    // That a kill cut off was a removal: it is done now.
    let row = row.unwrap_or(before);
    let mut removed = Removed {
        id: format!("{}@{}", row.package, row.version),
        publisher: row.package.publisher.to_string(),
        name: row.package.name.to_string(),
        version: row.version.to_string(),
        path: row.path.display().to_string(),
        ..Removed::default()
    };
    removed.out_of_sight = place::is_out_of_sight(store, &row.path)?;
    if removed.out_of_sight && !request.force {
        return Err(Failure::new(
            Code::Conflict,
            format!(
                "{} cannot be seen now: the drive that it is on is not mounted, or may not be read.",
                removed.path
            ),
            "Mount the drive, then remove it. Or forget it, and leave the files there: --force",
        ));
    }
    if removed.out_of_sight {
        // Whatever is in the folder stays there.
    } else if place::is_gone(&row.path) {
        removed.was_gone = true;
    } else if place::is_led_away(&row.path) {
        // What a link leads to is somebody's own, and was not put there by this node.
        removed.was_gone = true;
        removed.left.push(removed.path.clone());
    } else {
        let (manifest, _) = manifest_of_installed(store, &row)?;
        let changed = changed(&manifest, &row.path)?;
        if !changed.is_empty() && !request.force {
            return Err(Failure::new(
                Code::Conflict,
                format!(
                    "Files in {} are not as they were signed; nothing was removed.\n{}",
                    removed.path,
                    named(&changed)
                ),
                "Remove the rest, and leave these where they are: --force",
            ));
        }
        if request.dry_run {
            let changed = changed.into_iter().map(|it| it.to_string()).collect();
            let files = manifest.files().len() as u64;
            return Ok(Removed { files, left: changed, dry_run: true, ..removed });
        }
        (removed.files, removed.left) = match request.stays {
            true => replace::clear(&row.path, &manifest).map_err(|error| io_failure(&row.path, &error))?,
            false => removing::clear(store, &row.path, &manifest)?,
        };
    }
    if request.dry_run {
        return Ok(Removed { dry_run: true, ..removed });
    }
    store.write(|tx| removing::forget_installed(tx, &row)).map_err(fail)?;
    Ok(removed)
}

/// Why a package is not removed behind the back of the project that asks for it.
pub fn of_project(folder: &Path, root: &Path, id: &str) -> Failure {
    Failure::new(
        Code::Conflict,
        format!("{} belongs to the project {}; nothing was removed.", folder.display(), root.display()),
        format!(
            "Have the project ask for it no longer: ggen marketplace p2p remove {id} --project {}",
            root.display()
        ),
    )
}

/// The installation that is meant.
fn the_one(store: &Store, request: &RemoveRequest) -> Result<installed::Installed, Failure> {
    let all = store.read(installed::list_all).map_err(fail)?;
    let list = "See what is: ggen marketplace p2p list";
    if let Some(path) = &request.path {
        let noted = place::noted(Path::new(path));
        let at = noted.iter().find_map(|path| all.iter().find(|row| row.path == *path));
        return at
            .cloned()
            .ok_or_else(|| Failure::new(Code::NotFound, format!("Nothing is installed in {path}."), list));
    }
    let meant = meant_in(store, &request.package)?;
    let fits = |row: &installed::Installed| {
        row.package.name == meant.reference.name
            && meant.reference.publisher.is_none_or(|publisher| publisher == row.package.publisher)
            && meant.which.fits(&row.version)
    };
    let mut fitting: Vec<_> = all.into_iter().filter(fits).collect();
    match fitting.len() {
        0 => Err(Failure::new(Code::NotFound, format!("{} is not installed here.", meant.typed), list)),
        1 => Ok(fitting.swap_remove(0)),
        _ => {
            let places: Vec<String> = fitting
                .iter()
                .map(|row| format!("  {}  ({}@{})", row.path.display(), row.package, row.version))
                .collect();
            Err(Failure::new(
                Code::Ambiguous,
                format!("{} is installed in several folders:\n{}", meant.typed, places.join("\n")),
                "Name the folder: ggen marketplace p2p remove <DIR>",
            ))
        }
    }
}
