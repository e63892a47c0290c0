//! `verify`: holds an installed package against its signed manifest.

use std::path::{Path, PathBuf};

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{AnyPath, Failure, Verified, VerifyRequest},
    project::{LOCK_FILE, project_of},
};

use super::project::Where;

use crate::{
    domain::marketplace::p2p_state,
    page::{self, Page},
    session::{Exit, Finished, Session},
    values::{self, PackageOrFolder},
};

/// What differs of one package that is shown to people; the rest is counted. JSON has all of it.
const DIFFERENCES_SHOWN_MAX: usize = 10;

/// Compare installed packages with what their publishers signed, file by file.
#[derive(Debug, Args)]
#[command(
    long_about = "Compare installed packages with what their publishers signed, file by file.\n\n\
        In the directory of a project, the packages are checked that its gpack.lock names, also where that does not match gpack.toml; \
        a folder that is missing fails. What differs is compared again when no other command changes the project. Elsewhere, or \
        with --all, everything is checked that is installed on this machine. A package that is named is checked in every folder \
        that it is installed in. No node has to run.",
    after_help = "\
What begins with a dot or a slash is a folder, everything else a package, unless it can only be a folder.
Exits with status 6 if anything differs or a folder of the project is missing, 4 if every folder
that was installed is gone or out of sight, and 9 if nothing differs but a change of the project was cut off, or
gpack.lock does not match gpack.toml.

Examples:
  ggen marketplace p2p verify
  ggen marketplace p2p verify --all
  ggen marketplace p2p verify web-tools
  ggen marketplace p2p verify ./gpacks/web-tools
  ggen marketplace p2p verify web-tools@1.2.3 ./vendor/web-tools"
)]
pub(crate) struct Verify {
    /// The package, [publisher/]name[@version], or the folder that one is installed in [default: those of the project, or all].
    #[arg(value_name = "PACKAGE|DIR", value_parser = values::package_or_folder)]
    what: Option<PackageOrFolder>,
    /// The folder to compare with the package [default: wherever it is installed].
    #[arg(value_name = "DIR")]
    path: Option<PathBuf>,
    /// Check everything that is installed on this machine, also in the directory of a project.
    #[arg(long, conflicts_with_all = ["what", "project"])]
    all: bool,
    /// The directory of the project [default: the current one, or the nearest above it that has a gpack.toml].
    #[arg(long, value_name = "DIR", conflicts_with = "what")]
    project: Option<PathBuf>,
}

impl Verify {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = self.request()?;
        let mut outcome = session.client().verify(&request).await;
        if outcome.as_ref().is_err_and(Failure::is_not_running) {
            outcome = p2p_state::view(session.home()).await?.verify(request.clone()).await;
        }
        let verified = outcome.map_err(|failure| or_the_project(failure, &request))?;
        session.print(&verified, |verified, page| {
            if verified.project.is_some() {
                show_project(verified, page);
                return;
            }
            show(verified, page);
            for other in &verified.others {
                page.line("");
                show(other, page);
            }
        })?;
        let is_well = |verified: &Verified| verified.ok || verified.gone || verified.out_of_sight;
        let mut bad = std::iter::once(&verified).chain(&verified.others).filter(|it| !is_well(it)).peekable();
        Ok(match (bad.peek().is_some(), bad.all(|it| it.interrupted)) {
            (false, _) => Exit::Ok,
            (true, true) => Exit::Told(Code::Conflict),
            (true, false) => Exit::Told(Code::HashMismatch),
        })
    }

    fn request(self) -> Result<VerifyRequest, Failure> {
        let path = self.path.as_deref().map(values::absolute_text).transpose()?;
        let request = VerifyRequest { path, ..VerifyRequest::default() };
        let is_named = self.project.is_some();
        let place = Where::at(self.project);
        Ok(match self.what {
            Some(PackageOrFolder::Package(package)) => {
                VerifyRequest { package: package.to_string(), ..request }
            }
            Some(PackageOrFolder::Folder(_)) if request.path.is_some() => {
                return Err(Failure::new(
                    Code::Usage,
                    "Two folders are named, and no package.",
                    "Name the package first: ggen marketplace p2p verify <package> <DIR>",
                ));
            }
            Some(PackageOrFolder::Folder(folder)) => {
                VerifyRequest { path: Some(values::absolute_text(&folder)?), ..request }
            }
            None if !self.all && (is_named || place.is_there()) => {
                VerifyRequest { project: Some(AnyPath(place.directory()?)), ..request }
            }
            None => request,
        })
    }
}

/// Where nothing is installed in a folder that is a project, the project may be meant; where no such package is installed, and a folder
/// here has the name, that.
fn or_the_project(failure: Failure, request: &VerifyRequest) -> Failure {
    let name = &request.package;
    if failure.code == Code::NotFound && !name.is_empty() && Path::new(name).is_dir() {
        let hint = format!("Did you mean the folder? ggen marketplace p2p verify ./{name}\n{}", failure.hint);
        return Failure { hint, ..failure };
    }
    let folder = request.path.as_deref().filter(|_| request.package.is_empty()).map(Path::new);
    let root = folder.and_then(|it| it.ancestors().take(2).find(|root| root.join(LOCK_FILE).is_file()));
    match root {
        Some(root) if failure.code == Code::NotFound => Failure {
            hint: format!(
                "Did you mean the project? ggen marketplace p2p verify --project {}\n{}",
                root.display(),
                failure.hint
            ),
            ..failure
        },
        _ => failure,
    }
}

/// Shows what came of a project: what differs in full, the rest in a line each.
fn show_project(first: &Verified, page: &mut Page) {
    let directory = first.project.as_ref().map(ToString::to_string).unwrap_or_default();
    let all: Vec<&Verified> =
        std::iter::once(first).chain(&first.others).filter(|it| !it.id.is_empty()).collect();
    let (well, bad): (Vec<&Verified>, Vec<&Verified>) = all.iter().copied().partition(|it| it.ok);
    if first.lock_missing {
        page.line(format!(
            "The project in {directory} has no gpack.lock yet, and asks for no package: nothing was checked."
        ))
        .line("Use one in it: ggen marketplace p2p add <package>")
        .line("All folders of this machine: ggen marketplace p2p verify --all");
        return;
    }
    for verified in &bad {
        page.heading(match verified {
            Verified { interrupted: true, .. } => format!("{} was not compared", verified.id),
            Verified { missing: true, .. } => format!("{} is missing", verified.id),
            Verified { withdrawn: true, .. } => format!("{} was withdrawn by its publisher", verified.id),
            _ => format!("{} is NOT as its publisher signed it", verified.id),
        });
        page.list("differs", &first_of(&verified.differences)).field("path", &verified.path).line("");
    }
    for verified in &well {
        page.line(format!("{} is as its publisher signed it", verified.id));
    }
    for note in all.iter().flat_map(|it| &it.notes) {
        page.line(note);
    }
    if !well.is_empty() {
        page.line("");
    }
    page.line(format!(
        "Checked the project in {directory}: {} of gpack.lock, {} not in order.",
        page::count(all.len(), "package"),
        bad.len()
    ));
    if !first.misfits.is_empty() {
        page.line("gpack.lock does not match gpack.toml either:");
        for misfit in &first.misfits {
            page.line(format!("  {misfit}"));
        }
    }
    let (withdrawn, differ): (Vec<&Verified>, Vec<&Verified>) =
        bad.iter().copied().partition(|it| it.withdrawn);
    if !withdrawn.is_empty() {
        let ids: Vec<&str> = withdrawn.iter().map(|it| package_of(it)).collect();
        page.line(format!(
            "Take what counts in place of what was withdrawn: ggen marketplace p2p update {}",
            ids.join(" ")
        ));
    }
    if bad.iter().any(|it| it.contradicted) {
        page.line("Take gpack.lock from version control again, or delete it, and then run: ggen marketplace p2p install");
    } else if !differ.is_empty() {
        page.line("Put it in order, and keep what was changed aside: ggen marketplace p2p install --force");
    }
    page.line("All other folders of this machine: ggen marketplace p2p verify --all");
}

/// The full id without the version.
fn package_of(verified: &Verified) -> &str {
    verified.id.rsplit_once('@').map_or(&verified.id, |(package, _)| package)
}

/// The first of what differs; the rest is counted.
fn first_of(differences: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = differences.iter().take(DIFFERENCES_SHOWN_MAX).cloned().collect();
    if let Some(more) = differences.len().checked_sub(DIFFERENCES_SHOWN_MAX).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown
}

fn show(verified: &Verified, page: &mut Page) {
    if verified.gone {
        page.line(format!("{} is gone from {}", verified.id, verified.path))
            .line(format!("Forget it: ggen marketplace p2p remove {}", verified.path));
        return;
    }
    if verified.out_of_sight {
        page.line(format!("{} cannot be seen now in {}", verified.id, verified.path))
            .line("The drive that it is on is not mounted, or may not be read.");
        return;
    }
    if verified.interrupted {
        page.heading(format!("{} was not compared", verified.id))
            .list("because", &verified.differences)
            .field("path", &verified.path);
        return;
    }
    page.heading(if verified.withdrawn {
        format!("{} was withdrawn by its publisher", verified.id)
    } else if verified.ok {
        format!("{} is as its publisher signed it", verified.id)
    } else {
        format!("{} is NOT as its publisher signed it", verified.id)
    });
    page.list("differs", &first_of(&verified.differences))
        .list("note", &verified.notes)
        .field("path", &verified.path)
        .field("cid", &verified.cid)
        .field("checked", page::sizes(verified.bytes, verified.files))
        .field("signed by", &verified.signed_by)
        .field("publisher", &verified.publisher)
        .list("key path", &verified.key_path);
    if verified.withdrawn {
        let (package, path) = (package_of(verified), Path::new(&verified.path));
        page.line("").line(match project_of(path) {
            Some(project) => format!(
                "Take what counts in its place: ggen marketplace p2p update {package} --project {}",
                project.display()
            ),
            None => format!(
                "Take what counts in its place: ggen marketplace p2p install {package} --to {}",
                verified.path
            ),
        });
    } else if !verified.ok {
        page.line("").line(format!(
            "Restore it, and keep what was changed in a folder beside it: ggen marketplace p2p install {} --to {} --force",
            verified.id, verified.path
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_project_that_is_missing_is_told_as_such() {
        let one = |name: &str, ok, missing| Verified {
            id: format!("gp1a/{name}@1.0.0"),
            ok,
            missing,
            ..Verified::default()
        };
        let project = Some(AnyPath("/p".into()));
        let first = Verified { project, others: vec![one("b", true, false)], ..one("a", false, true) };
        let mut page = Page::new(None);
        show_project(&first, &mut page);
        let text = anstream::adapter::strip_str(&page.into_text()).to_string();
        for part in [
            "gp1a/a@1.0.0 is missing\n",
            "gp1a/b@1.0.0 is as its publisher signed it\n",
            "Checked the project in /p: 2 packages of gpack.lock, 1 not in order.\n",
            "p2p install --force\n",
            "p2p verify --all\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    fn shown(first: &Verified) -> String {
        let mut page = Page::new(None);
        show_project(first, &mut page);
        anstream::adapter::strip_str(&page.into_text()).to_string()
    }

    #[test]
    fn much_that_differs_is_counted_and_hints_fit_what_is_wrong() {
        let project = Some(AnyPath("/p".into()));
        let differences: Vec<String> = (0..100).map(|n| format!("missing: {n}.txt")).collect();
        let misfits = vec!["gp1a/b is not locked".to_owned()];
        let first =
            Verified { id: "gp1a/a@1.0.0".to_owned(), project, differences, misfits, ..Verified::default() };
        let text = shown(&first);
        assert!(text.matches("missing: ").count() == 10 && text.contains("and 90 more\n"), "{text}");
        assert!(text.contains("does not match gpack.toml either:\n  gp1a/b is not locked"), "{text}");
        let withdrawn = Verified { withdrawn: true, ..first.clone() };
        let told = shown(&withdrawn);
        assert!(
            told.contains("was withdrawn by its publisher") && told.contains("p2p update gp1a/a\n"),
            "{told}"
        );
        assert!(!told.contains("--force"), "it would put it there again: {told}");
        let mut alone = Page::new(None);
        show(&Verified { path: "/nowhere/a".to_owned(), ..withdrawn }, &mut alone);
        let told = anstream::adapter::strip_str(&alone.into_text()).to_string();
        assert!(told.contains("p2p install gp1a/a --to /nowhere/a\n"), "{told}");
        let damaged = shown(&Verified { contradicted: true, ..first.clone() });
        assert!(damaged.contains("delete it") && !damaged.contains("--force"), "{damaged}");
        let none = Verified { ok: true, lock_missing: true, id: String::new(), ..first };
        assert!(shown(&none).contains("has no gpack.lock yet"));
    }
}
