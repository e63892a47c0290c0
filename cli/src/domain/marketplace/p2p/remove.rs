//! `remove`: takes an installed package off the disk.

use std::path::{Path, PathBuf};

use clap::Args;
use ggen_marketplace::{
    backend::p2p::of_project,
    code::Code,
    control::api::{Failure, ProjectAction, RemoveRequest, Removed},
    package::asked::Which,
    project::asked_by,
};
use serde::Serialize;

use super::project::{self, Change, Way};
use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values::{self, PackageOrFolder},
};

/// Remove an installed package: its files, and the note that it is installed.
#[derive(Debug, Args)]
#[command(
    long_about = "Remove an installed package: its files, and the note that it is installed.\n\n\
        Only files that are as they were signed are deleted. If files were changed or added, nothing is removed; with --force the \
        rest is, and those stay where they are. A package whose folder was deleted by hand is forgotten. The blocks stay in the \
        store, so that this node still provides the package.\n\n\
        In the directory of a project, its gpack.toml no longer asks for the package, and what nothing else needs goes too. The \
        packages that stay keep their versions. There, --force moves what was changed into gpacks/.kept.",
    after_help = "\
What begins with a dot or a slash is a folder, everything else a package, unless it can only be a folder.

Examples:
  ggen marketplace p2p remove web-tools
  ggen marketplace p2p remove ./vendor/web-tools
  ggen marketplace p2p remove web-tools@1.2.3 --force

In the directory of a project:
  ggen marketplace p2p remove web-tools"
)]
pub(crate) struct Remove {
    /// A package, [publisher/]name[@version], or the folder that one is installed in.
    #[arg(value_name = "PACKAGE|DIR", value_parser = values::package_or_folder, required = true)]
    what: Vec<PackageOrFolder>,
    /// Remove the rest if some files are not as they were signed.
    #[arg(long)]
    force: bool,
    /// In a project: fail where no node runs, instead of starting one for the time of this command.
    #[arg(long)]
    no_start: bool,
    #[command(flatten)]
    change: Change,
}

/// What came of several.
#[derive(Debug, Serialize)]
struct All {
    /// What was removed, in the order given.
    removed: Vec<Removed>,
    /// What was not.
    failed: Vec<Failed>,
    /// How many were named.
    total: usize,
}

/// What was not removed.
#[derive(Debug, Serialize)]
struct Failed {
    /// The package or folder, as it was named.
    what: String,
    /// Why.
    error: Failure,
}

impl Remove {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        if let Some(packages) = self.of_project()? {
            let way = Way { force: self.force, no_start: self.no_start, ..Way::default() };
            return project::run(session, ProjectAction::Remove { packages }, self.change, way).await;
        }
        let is_one = self.what.len() == 1;
        let mut all = All { removed: Vec::new(), failed: Vec::new(), total: self.what.len() };
        // What cannot be asked for is told before anything is removed.
        let requests: Vec<RemoveRequest> = self
            .what
            .into_iter()
            .map(|what| request(what, self.force, self.change.dry_run))
            .collect::<Result<_, _>>()?;
        for request in requests {
            let mut outcome = session.client().remove(&request).await;
            if outcome.as_ref().is_err_and(Failure::is_not_running) {
                outcome = p2p_state::remove_offline(session.home(), request.clone()).await;
            }
            match outcome.map_err(|failure| or_the_folder(failure, &request)) {
                Ok(removed) if is_one => {
                    session.print(&removed, show)?;
                    return Ok(Exit::Ok);
                }
                Err(failure) if is_one => return Err(failure.into()),
                Ok(removed) => all.removed.push(removed),
                // The others are removed all the same.
                Err(error) => {
                    all.failed.push(Failed { what: request.path.unwrap_or(request.package), error });
                }
            }
        }
        session.print(&all, |all, page| all.removed.iter().for_each(|removed| show(removed, page)))?;
        for Failed { what, error } in &all.failed {
            session.show_failure(&format!("remove {what}"), error);
        }
        Ok(all.failed.first().map_or(Exit::Ok, |failed| Exit::Told(failed.error.code)))
    }
}

/// Where no such package is installed, and a folder here has the name, that may be meant.
fn or_the_folder(failure: Failure, request: &RemoveRequest) -> Failure {
    let name = &request.package;
    let is_folder = !name.is_empty() && std::path::Path::new(name).is_dir();
    if failure.code != Code::NotFound || !is_folder {
        return failure;
    }
    let hint = format!("Did you mean the folder? ggen marketplace p2p remove ./{name}\n{}", failure.hint);
    Failure { hint, ..failure }
}

impl Remove {
    /// The packages, where they are those that a project asks for. A folder of the project means the package that is in it.
    fn of_project(&self) -> Result<Option<Vec<String>>, Failure> {
        let place = &self.change.place;
        let is_asked = place.is_named() || self.change.offline;
        let is_project = is_asked || place.is_project();
        let (mut names, mut others, mut any_folder) = (Vec::new(), 0, false);
        for what in &self.what {
            match what {
                PackageOrFolder::Package(package) if is_project && package.which == Which::Latest => {
                    names.push(package.to_string());
                }
                PackageOrFolder::Package(_) => others += 1,
                PackageOrFolder::Folder(folder) => match in_project(folder) {
                    Some((root, id)) if place.directory()?.canonicalize().is_ok_and(|here| here == root) => {
                        names.push(id);
                        any_folder = true;
                    }
                    Some((root, id)) => return Err(of_project(folder, &root, &id)),
                    None => others += 1,
                },
            }
        }
        if others == 0 {
            return Ok(Some(names));
        }
        match any_folder || is_asked {
            // The folder of a project is not removed behind its back.
            true => Err(Failure::new(
                Code::Usage,
                "Some of these belong to a project, and others do not; nothing was removed.",
                "Remove them by commands of their own; --project and --offline belong to packages of a project.",
            )),
            false => Ok(None),
        }
    }
}

/// The project whose lock file has the package in a folder, and the id of that package.
fn in_project(folder: &Path) -> Option<(PathBuf, String)> {
    let (root, id) = asked_by(&values::absolute(folder).ok()?)?;
    Some((root, id.to_string()))
}

fn request(what: PackageOrFolder, force: bool, dry_run: bool) -> Result<RemoveRequest, Failure> {
    Ok(match what {
        PackageOrFolder::Package(package) => {
            RemoveRequest { package: package.to_string(), force, dry_run, ..RemoveRequest::default() }
        }
        PackageOrFolder::Folder(folder) => RemoveRequest {
            path: Some(values::absolute_text(&folder)?),
            force,
            dry_run,
            stays: values::holds_this_shell(&folder),
            ..RemoveRequest::default()
        },
    })
}

fn show(removed: &Removed, page: &mut Page) {
    if removed.out_of_sight {
        page.line(format!(
            "{} {}.",
            removed.id,
            if removed.dry_run { "would be forgotten" } else { "is forgotten" }
        ))
        .line(format!("Its folder cannot be seen now, and what is in it stays: {}", removed.path));
        return;
    }
    if removed.dry_run && removed.was_gone {
        page.line(format!("{} is gone from {}, and would be forgotten.", removed.id, removed.path));
        return;
    }
    if removed.was_gone && !removed.left.is_empty() {
        page.line(format!("{} is forgotten.", removed.id));
        page.line(format!(
            "A link leads elsewhere from {} now: it, and what it leads to, stay.",
            removed.path
        ));
        return;
    }
    if removed.was_gone {
        page.line(format!("{} was gone already from {}; it is forgotten.", removed.id, removed.path));
        return;
    }
    let done = if removed.dry_run { "Would remove" } else { "Removed" };
    page.heading(format!("{done} {} {}", removed.name, removed.version))
        .field("id", &removed.id)
        .field("path", &removed.path)
        .field(
            if removed.dry_run { "would go" } else { "removed" },
            page::count(usize::try_from(removed.files).unwrap_or(usize::MAX), "file"),
        )
        .list("left", &removed.left);
}
