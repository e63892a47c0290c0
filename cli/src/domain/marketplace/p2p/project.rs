//! What the verbs of a project have in common: a directory with a `gpack.toml`, and what was done to it.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::{
        api::{AnyPath, Failure, ProjectAction, ProjectBranch, ProjectChange, ProjectDone, ProjectRequest},
        client::Client,
    },
    package::gpack,
    project::{Lock, Requirements},
};

use crate::{
    domain::marketplace::p2p_state::{self, own_time},
    page::{self, Page},
    progress::Bar,
    session::{Exit, Finished, Session},
    values,
};

/// Which project is meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Where {
    /// The directory with the gpack.toml [default: the current one, or the nearest above it that has one].
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
}

impl Where {
    /// The project in a directory, or the one of the current directory.
    pub(crate) fn at(project: Option<PathBuf>) -> Self {
        Self { project }
    }

    /// The directory, absolute. Where none was named it is the nearest with a gpack.toml from the current one up.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(directory) = &self.project {
            let directory = values::absolute(directory)?;
            // A person who names the file means the directory that it stands in.
            let is_file =
                directory.file_name().is_some_and(|name| name == gpack::FILE_NAME) && directory.is_file();
            return Ok(directory.parent().filter(|_| is_file).map(Path::to_owned).unwrap_or(directory));
        }
        let here = std::env::current_dir().map_err(|error| {
            Failure::new(
                Code::Usage,
                format!("The current directory cannot be told: {error}."),
                "Go to a directory that exists, or name one: --project DIR",
            )
        })?;
        Ok(nearest(&here).unwrap_or(here))
    }

    /// Whether a directory was named.
    pub(crate) fn is_named(&self) -> bool {
        self.project.is_some()
    }

    /// Whether there is a project.
    pub(crate) fn is_project(&self) -> bool {
        self.directory().is_ok_and(|directory| directory.join(gpack::FILE_NAME).is_file())
    }

    /// Whether there is a `gpack.toml`, and be it one that cannot be read: what reads it says why.
    pub(crate) fn is_there(&self) -> bool {
        self.directory().is_ok_and(|directory| directory.join(gpack::FILE_NAME).symlink_metadata().is_ok())
    }

    /// Whether there is a project that uses packages: a directory that is only published from uses none. One that cannot be read is
    /// told of by what reads it.
    pub(crate) fn uses_packages(&self) -> bool {
        self.is_project()
            && self.directory().is_ok_and(|directory| {
                directory.join(ggen_marketplace::project::LOCK_FILE).exists()
                    || Requirements::read(&directory).map_or(true, |it| !it.project().dependencies.is_empty())
            })
    }

    /// What the project asks for, and its lock file.
    pub(crate) fn read(&self) -> Result<(Requirements, Lock), Failure> {
        let directory = self.directory()?;
        let requirements = Requirements::read(&directory).map_err(|error| told(&error))?;
        match Lock::read(&directory).map_err(|error| told(&error))? {
            Some((lock, _)) => Ok((requirements, lock)),
            None if requirements.project().dependencies.is_empty() => Ok((requirements, Lock::default())),
            None => Err(told(&ggen_marketplace::project::Error::NoLock {
                path: directory.join(ggen_marketplace::project::LOCK_FILE),
            })),
        }
    }
}

/// What a folder of installed packages has in it.
const SITE_INDEX: &str = ".ggen/index.json";

/// The nearest project from a directory up. One above it counts only where it belongs to the same user: in a place like /tmp, anybody
/// could put one there. A package that is installed into a project is none: what it holds was signed.
fn nearest(here: &Path) -> Option<PathBuf> {
    let owner = std::fs::metadata(here).ok()?.uid();
    let is_project = |directory: &&Path| {
        let description = std::fs::metadata(directory.join(gpack::FILE_NAME));
        let is_installed =
            || directory.parent().is_some_and(|site| site.join(".ggen").join("index.json").is_file());
        description.is_ok_and(|it| it.is_file() && (it.uid() == owner || *directory == here))
            && !is_installed()
    };
    // What is installed in a project has a gpack.toml of its own, and is no project.
    let is_installed = |directory: &Path| directory.ancestors().any(|above| above.join(SITE_INDEX).is_file());
    here.ancestors().find(|directory| is_project(directory) && !is_installed(directory)).map(Path::to_owned)
}

fn told(error: &ggen_marketplace::project::Error) -> Failure {
    Failure::new(error.code(), sentence(&error.to_string()), error.hint())
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

/// What every verb understands that changes a project.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Take nothing from other nodes, only what is on this machine; fail where something is not.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The rest of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    pub(crate) locked: bool,
    pub(crate) frozen: bool,
    pub(crate) force: bool,
    pub(crate) timeout: Option<u64>,
    /// Fails where no node runs.
    pub(crate) no_start: bool,
}

/// What changes of a project have in common.
#[derive(Debug, Args)]
pub(crate) struct Effort {
    /// Replace folders that somebody changed; they are kept aside.
    #[arg(long)]
    force: bool,
    /// Fail if no node runs, instead of starting one for the time of this command.
    #[arg(long)]
    no_start: bool,
    /// How long it may take in all.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
}

impl From<Effort> for Way {
    fn from(Effort { force, no_start, timeout }: Effort) -> Self {
        Self { force, no_start, timeout, ..Self::default() }
    }
}

/// Does something to a project, and shows what came of it.
pub(crate) async fn run(
    session: &Session,
    action: ProjectAction,
    change: Change,
    way: Way,
) -> Finished<Exit> {
    let Way { locked, frozen, force, timeout: timeout_secs, no_start } = way;
    let Change { place, offline, dry_run } = change;
    let directory = AnyPath(place.directory()?);
    if !directory.0.join(gpack::FILE_NAME).exists() {
        let error = ggen_marketplace::project::Error::NoProject { directory: directory.0 };
        return Err(told(&error).into());
    }
    // What it cannot mean starts no node.
    Requirements::read(&directory.0).map_err(|error| told(&error))?;
    let request = ProjectRequest { directory, action, locked, frozen, offline, force, dry_run, timeout_secs };
    let ask = async |client: Client| {
        let bar = Bar::new(session);
        client.project(&request, |step| bar.update(&step)).await
    };
    let done = match offline {
        true => {
            let here = async || {
                let bar = Bar::new(session);
                p2p_state::project_offline(session.home(), request.clone(), |step| bar.update(&step)).await
            };
            own_time::without_network(session, !no_start, ask, here).await
        }
        false => own_time::with_node(session, !no_start, ask).await,
    };
    session.print(&done?, show)?;
    Ok(Exit::Ok)
}

fn show(done: &ProjectDone, page: &mut Page) {
    page.warnings(&done.warnings);
    if done.recovered {
        page.line("An earlier command was cut off; what it began was completed first.");
    }
    page.heading(headline(done));
    // Where the lock file stays as it is, what becomes of the folders is all that there is to tell.
    let changes = if done.changes.is_empty() { &done.folders } else { &done.changes };
    for change in changes {
        page.line(line(change));
    }
    page.field("packages", done.packages.len());
    if !done.dry_run {
        page.field("folder", &done.folder).field("fetched", page::bytes(done.bytes_fetched));
    }
    let label = if done.dry_run { "would write" } else { "wrote" };
    page.optional(label, Some(done.files.join(", ")));
    let kept: Vec<String> = done.kept.iter().map(ToString::to_string).collect();
    page.list("kept aside", &kept);
}

fn headline(done: &ProjectDone) -> String {
    let count = |of: fn(&ProjectChange) -> bool| done.changes.iter().filter(|change| of(change)).count();
    let added = count(|change| change.from.is_none());
    let removed = count(|change| change.to.is_none());
    let changed = done.changes.len() - added - removed;
    let parts: Vec<String> = [(added, "added"), (changed, "updated"), (removed, "removed")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", page::count(number, "package")))
        .collect();
    match (parts.is_empty(), done.dry_run) {
        (false, true) => format!("Would be: {}", parts.join(", ")),
        (true, _) if done.written + done.removed == 0 => {
            match (done.altered.len(), done.files.is_empty(), done.dry_run) {
                (0, false, false) => format!("Wrote {}; every package is in place", done.files.join(" and ")),
                (0, false, true) => {
                    format!("Would write {}; every package is in place", done.files.join(" and "))
                }
                (0, true, false) => "Everything is in place".to_owned(),
                (0, true, true) => "Nothing would change".to_owned(),
                (altered, ..) => {
                    let verb = if done.dry_run { "would be" } else { "was" };
                    format!("Nothing {verb} written; not as signed: {}", page::count(altered, "folder"))
                }
            }
        }
        (true, is_dry) => {
            let parts: Vec<String> = [(done.written, "written"), (done.removed, "removed")]
                .into_iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, what)| format!("{} {what}", page::count(number, "folder")))
                .collect();
            if is_dry { format!("Would be: {}", parts.join(", ")) } else { parts.join(", ") }
        }
        (false, false) => sentence(&parts.join(", ")).trim_end_matches('.').to_owned(),
    }
}

fn line(change: &ProjectChange) -> String {
    match (&change.from, &change.to) {
        (None, Some(to)) => format!("  + {} {to}", change.name),
        (Some(from), None) => format!("  - {} {from}", change.name),
        (Some(from), Some(to)) if from == to => format!("  ~ {} {to}", change.name),
        (Some(from), Some(to)) => format!("  ~ {} {from} -> {to}", change.name),
        (None, None) => format!("  {}", change.name),
    }
}

/// The name that a package goes by in a project, with its publisher where it has no short name.
pub(crate) fn name(requirements: &Requirements, id: &ggen_marketplace::package::PackageId) -> String {
    requirements.alias(id).unwrap_or(&id.name).to_string()
}

/// The name of a line, with its short publisher where other lines have a package of the same name.
pub(crate) fn told_apart(line: &ProjectBranch, lines: &[ProjectBranch]) -> String {
    let is_alone = lines.iter().all(|other| other.name != line.name || other.id == line.id);
    match line.id.split_once('/').filter(|_| !is_alone) {
        Some((publisher, name)) => format!("{}/{name}", page::short_id(publisher)),
        None => line.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_installed_package_is_no_project_of_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let (project, package) = (folder.path().join("mine"), folder.path().join("mine/gpacks/web/src"));
        fs::create_dir_all(&package).unwrap();
        for described in [&project, &project.join("gpacks/web")] {
            fs::write(described.join("gpack.toml"), "").unwrap();
        }
        assert_eq!(nearest(&package), Some(project.join("gpacks/web")), "nobody installed it");
        fs::create_dir(project.join("gpacks/.ggen")).unwrap();
        fs::write(project.join("gpacks/.ggen/index.json"), "{}").unwrap();
        for here in [&package, &project.join("gpacks/web"), &project.join("gpacks"), &project] {
            assert_eq!(nearest(here), Some(project.clone()), "{}", here.display());
        }
    }

    #[test]
    fn a_project_can_be_named_by_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(gpack::FILE_NAME);
        fs::write(&file, "").unwrap();
        assert_eq!(Where::at(Some(file)).directory().unwrap(), folder.path());
        let odd = folder.path().join("deep/gpack.toml");
        fs::create_dir_all(&odd).unwrap();
        assert_eq!(Where::at(Some(odd.clone())).directory().unwrap(), odd, "a directory of that name");
    }

    #[test]
    fn what_is_not_as_signed_is_not_said_to_be_in_place() {
        let mut done = ProjectDone::default();
        assert_eq!(headline(&done), "Everything is in place");
        done.files.push("gpack.toml".to_owned());
        assert_eq!(headline(&done), "Wrote gpack.toml; every package is in place");
        done.dry_run = true;
        assert_eq!(headline(&done), "Would write gpack.toml; every package is in place");
        done.files.clear();
        assert_eq!(headline(&done), "Nothing would change");
        done.dry_run = false;
        done.altered.push(AnyPath("/p/gpacks/a".into()));
        assert_eq!(headline(&done), "Nothing was written; not as signed: 1 folder");
    }
}
