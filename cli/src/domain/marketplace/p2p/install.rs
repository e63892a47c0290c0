//! `install`: fetches, verifies and writes packages.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use futures::{StreamExt, stream};
use ggen_marketplace::{
    code::Code,
    control::{
        api::{Failure, InstallRequest, Installed, ProjectAction},
        client::Client,
    },
    package::{Asked, asked::Which},
};
use serde::Serialize;

use super::project::{self, Change, Way};
use crate::{
    domain::marketplace::p2p_state::{self, own_time},
    page::{self, Page},
    progress::Bar,
    session::{End, Exit, Finished, Session},
    values,
};

/// Packages that are fetched at once: a few hide each other's round trips, more would share the same line.
const AT_ONCE: usize = 4;

/// Fetch packages from their providers, verify them, and write each into a folder.
#[derive(Debug, Args)]
#[command(
    long_about = "Fetch packages from their providers, verify them, and write each into a folder.\n\n\
        Every block is checked against the signed manifest as it arrives. An interrupted installation continues where it stopped. \
        A bare name is taken only if one publisher has it, if it is pinned, or if it is your own package.\n\n\
        If no node runs, one is started for the time of this command.\n\n\
        A new folder appears whole or not at all. An empty folder that exists is filled and stays the folder that it is. If another \
        version is installed there and nobody changed it, this one takes its place, newer or older. Changed files are named and \
        nothing is done; with --force they are kept in a folder beside it. Nothing of yours is ever deleted.\n\n\
        Without a package, all packages are installed that the project in the current directory asks for in its gpack.toml, with \
        all that they need, in the versions of gpack.lock, which is written where it does not match gpack.toml yet.",
    after_help = "\
Examples:
  ggen marketplace p2p install web-tools
  ggen marketplace p2p install web-tools@^1.2 left-pad@1 colours@latest
  ggen marketplace p2p install web-tools@1.2.3 --to ./vendor/web-tools
  ggen marketplace p2p install web-tools --fresh 7d
  ggen marketplace p2p install web-tools --dry-run
  ggen marketplace p2p install web-tools --offline
  ggen marketplace p2p install <publisher>/web-tools --format json

In the directory of a project:
  ggen marketplace p2p install
  ggen marketplace p2p install --locked
  ggen marketplace p2p install --frozen --offline"
)]
pub(crate) struct Install {
    /// The packages: [publisher/]name[@version], also @^1.2 or @latest; without one, those of the project.
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    packages: Vec<Asked>,
    /// The folder to put it in; of several packages, the folder that holds a folder for each [default: named after the package].
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Keep files that were changed in a folder beside it, instead of refusing.
    #[arg(long)]
    force: bool,
    /// Fail if no node runs, instead of starting one for the time of this command.
    #[arg(long)]
    no_start: bool,
    /// How long it may take in all.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
    /// Fail with exit status 6 if the publisher of the newest version is overdue; with DURATION, such as 7d or 12h or a number of
    /// days, if it has not confirmed it within that time.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = values::duration, conflicts_with = "offline")]
    fresh: Option<Option<u64>>,
    /// Exit with status 10 if the version is installed although its publisher is overdue.
    #[arg(long)]
    strict: bool,
    /// Of a project: fail if gpack.lock does not match gpack.toml, and never write it.
    #[arg(long, conflicts_with = "packages")]
    locked: bool,
    /// Of a project: take gpack.lock as it stands, and ask nobody for versions.
    #[arg(long, conflicts_with_all = ["packages", "locked"])]
    frozen: bool,
    #[command(flatten)]
    change: Change,
}

/// What came of several packages.
#[derive(Debug, Serialize)]
struct All {
    /// Those that are installed, in the order given.
    packages: Vec<Installed>,
    /// Those that are not.
    failed: Vec<Failed>,
    /// How many were asked for.
    total: usize,
}

/// A package that was not installed.
#[derive(Debug, Serialize)]
struct Failed {
    /// As it was asked for.
    package: String,
    /// Why.
    error: Failure,
}

impl Install {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        if self.packages.is_empty() {
            return self.project(session).await;
        }
        if self.change.place.is_named() {
            return Err(Failure::new(
                Code::Usage,
                "--project belongs to a project, and no package is named with it.",
                "Add the package to the project: ggen marketplace p2p add <package>",
            )
            .into());
        }
        let requests = self.requests()?;
        let outcomes = match self.change.offline {
            true => self.at_hand(session, &requests).await?,
            false => self.over_the_network(session, &requests).await?,
        };
        let is_stale = |(asked, outcome): (&Asked, &Result<Installed, Failure>)| {
            let is_exact = matches!(asked.which, Which::Exact(_));
            outcome.as_ref().is_ok_and(|installed| {
                !is_exact && (installed.freshness.overdue || installed.newer_announced)
            })
        };
        let any_stale = self.packages.iter().zip(&outcomes).any(is_stale);
        let exit = match <[_; 1]>::try_from(outcomes) {
            Ok([outcome]) => {
                session.print(&outcome?, show)?;
                Exit::Ok
            }
            Err(outcomes) => self.tell(session, outcomes)?,
        };
        if self.to.is_none() && !self.change.dry_run && self.change.place.uses_packages() {
            session.note(&format!(
                "The project here does not ask for it. To have it do so: ggen marketplace p2p add {}",
                self.packages.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            ));
        }
        if self.strict && any_stale && exit == Exit::Ok {
            session
                .note("The newest version was not confirmed in time, or could not be had, as --strict demands; exit status 10.");
            return Ok(Exit::Told(Code::Partial));
        }
        Ok(exit)
    }

    /// Installs packages with what other nodes have; one is started for it where none runs.
    async fn over_the_network(
        &self,
        session: &Session,
        requests: &[InstallRequest],
    ) -> Finished<Vec<Result<Installed, Failure>>> {
        let outcomes = own_time::with_node(session, !self.no_start, async |client| {
            let bar = Bar::new(session);
            let installing = requests.iter().map(|request| client.install(request, |step| bar.update(&step)));
            let outcomes = stream::iter(installing).buffered(AT_ONCE).collect::<Vec<_>>().await;
            // Its node has ended: what it installed is found installed.
            let is_gone = |outcome: &&Result<_, Failure>| {
                outcome.as_ref().is_err_and(|failure| failure.code == Code::NotRunning)
            };
            match outcomes.iter().find(is_gone) {
                Some(Err(failure)) => Err(failure.clone()),
                _ => Ok(outcomes),
            }
        });
        outcomes.await
    }

    /// Installs packages, one after the other, from what is on this machine.
    async fn at_hand(
        &self,
        session: &Session,
        requests: &[InstallRequest],
    ) -> Finished<Vec<Result<Installed, Failure>>> {
        let mut outcomes = Vec::new();
        for request in requests {
            let ask = async |client: Client| {
                let bar = Bar::new(session);
                client.install(request, |step| bar.update(&step)).await
            };
            let here = async || {
                let bar = Bar::new(session);
                p2p_state::install_offline(session.home(), request.clone(), |step| bar.update(&step)).await
            };
            outcomes.push(match own_time::without_network(session, !self.no_start, ask, here).await {
                Ok(installed) => Ok(installed),
                Err(End::Failed(failure)) => Err(failure),
                Err(end) => return Err(end),
            });
        }
        Ok(outcomes)
    }

    /// Installs what the project in the current directory asks for.
    async fn project(self, session: &Session) -> Finished<Exit> {
        if self.to.is_some() || self.fresh.is_some() || self.strict {
            return Err(Failure::new(
                Code::Usage,
                "--to, --fresh and --strict belong to a package that is named.",
                match self.to {
                    Some(_) => "The folder of a project is named in its gpack.toml: [project] folder = \"gpacks\"",
                    None => {
                        "How old the packages of a project may be is configured: ggen marketplace p2p config set install.max_age <DAYS>"
                    }
                },
            )
            .into());
        }
        let Self { locked, frozen, force, timeout, no_start, change, .. } = self;
        let way = Way { locked, frozen, force, timeout, no_start };
        project::run(session, ProjectAction::Install, change, way).await
    }

    /// One request for each package.
    fn requests(&self) -> Result<Vec<InstallRequest>, Failure> {
        let mut taken: BTreeMap<String, &Asked> = BTreeMap::new();
        let mut requests = Vec::new();
        for package in &self.packages {
            let name = Path::new(package.name.as_str());
            let to = match &self.to {
                Some(to) if self.packages.len() == 1 => to.clone(),
                Some(to) => to.join(name),
                None => name.to_owned(),
            };
            let to = values::absolute_text(&to)?;
            if let Some(other) = taken.insert(to.clone(), package) {
                return Err(Failure::new(
                    Code::Usage,
                    format!("{other} and {package} would both be put into {to}."),
                    "Install one of them by a command of its own, with --to.",
                ));
            }
            requests.push(InstallRequest {
                package: package.to_string(),
                stays: values::holds_this_shell(Path::new(&to)),
                force: self.force,
                to,
                timeout_secs: self.timeout,
                fresh: self.fresh == Some(None),
                fresh_secs: self.fresh.flatten(),
                offline: self.change.offline,
                dry_run: self.change.dry_run,
            });
        }
        Ok(requests)
    }

    /// Shows what came of several packages; the first failure decides the exit status.
    fn tell(&self, session: &Session, outcomes: Vec<Result<Installed, Failure>>) -> Finished<Exit> {
        let mut all = All { packages: Vec::new(), failed: Vec::new(), total: outcomes.len() };
        for (asked, outcome) in self.packages.iter().zip(outcomes) {
            match outcome {
                Ok(installed) => all.packages.push(installed),
                Err(error) => all.failed.push(Failed { package: asked.to_string(), error }),
            }
        }
        session.print(&all, |all, page| {
            for installed in &all.packages {
                show(installed, page);
            }
        })?;
        for Failed { package, error } in &all.failed {
            session.show_failure(&format!("install {package}"), error);
        }
        Ok(all.failed.first().map_or(Exit::Ok, |failed| Exit::Told(failed.error.code)))
    }
}

fn show(installed: &Installed, page: &mut Page) {
    page.warnings(&installed.warnings);
    let (name, version) = (&installed.name, &installed.version);
    if installed.dry_run {
        show_plan(installed, page);
        return;
    }
    page.heading(match &installed.replaced {
        _ if installed.already_installed => format!("{name} {version} is installed already, and verified"),
        Some(before) if before == version => format!("Restored {name} {version}"),
        Some(before) => format!("Installed {name} {version} in place of {before}"),
        None => format!("Installed {name} {version}"),
    });
    page.field("id", &installed.id)
        .field("path", &installed.path)
        .optional("kept in", installed.kept_in.as_deref())
        .list("kept", &installed.kept)
        .field("cid", &installed.cid)
        .field("size", page::sizes(installed.bytes, installed.files))
        .field("fetched", page::bytes(installed.bytes_fetched))
        .optional(
            // It is that of the newest state, which may not be the one that could be had.
            if installed.newer_announced { "of the newest" } else { "freshness" },
            Some(&installed.freshness.freshness),
        )
        .list("from", &installed.providers);
}

fn show_plan(installed: &Installed, page: &mut Page) {
    let (name, version) = (&installed.name, &installed.version);
    page.heading(match &installed.replaced {
        _ if installed.already_installed => format!("{name} {version} is installed already"),
        Some(before) if before == version => format!("Would restore {name} {version}"),
        Some(before) => format!("Would install {name} {version} in place of {before}"),
        None => format!("Would install {name} {version}"),
    });
    page.field("id", &installed.id)
        .field("path", &installed.path)
        .field("size", page::sizes(installed.bytes, installed.files))
        .field("to fetch", page::bytes(installed.bytes_fetched));
}
