//! `install`: fetches, verifies and writes a package.

use std::path::PathBuf;

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{InstallRequest, Installed},
    package::PackageRef,
};

use crate::{
    page::{self, Page},
    progress::Bar,
    session::{Exit, Finished, Session},
    values,
};

/// Fetch a package from its providers, verify it, and write it into a folder.
#[derive(Debug, Args)]
#[command(
    long_about = "Fetch a package from its providers, verify it, and write it into a folder.\n\n\
        Every block is held against the signed manifest as it arrives. The folder appears whole or not at all; an interrupted \
        installation goes on where it stopped. A bare name is taken only if one publisher has it.",
    after_help = "\
Examples:
  ggen marketplace p2p install web-tools
  ggen marketplace p2p install web-tools@1.2.3 --to ./vendor/web-tools
  ggen marketplace p2p install web-tools --fresh 7d
  ggen marketplace p2p install <publisher>/web-tools --format json"
)]
pub(crate) struct Install {
    /// The package: [publisher/]name[@version].
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: PackageRef,
    /// The folder to make [default: a folder named after the package].
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// How long it may take in all.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
    /// Refuse the newest version if its publisher is overdue, or has not confirmed it within DURATION, such as 7d or 12h.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = values::duration)]
    fresh: Option<Option<u64>>,
    /// Exit with status 10 if the version was taken from a state that nobody confirmed in time.
    #[arg(long)]
    strict: bool,
}

impl Install {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let to = self.to.unwrap_or_else(|| PathBuf::from(self.package.name.as_str()));
        let request = InstallRequest {
            package: self.package.to_string(),
            to: values::absolute_text(&to)?,
            timeout_secs: self.timeout,
            fresh: self.fresh == Some(None),
            fresh_secs: self.fresh.flatten(),
        };
        let bar = Bar::new(session);
        let outcome = session.client().install(&request, |step| bar.update(&step)).await;
        drop(bar);
        let installed = outcome?;
        session.print(&installed, show)?;
        if self.strict && self.package.version.is_none() && installed.freshness.overdue {
            session
                .note("The newest version was not confirmed in time, as --strict demands; exit status 10.");
            return Ok(Exit::Told(Code::Partial));
        }
        Ok(Exit::Ok)
    }
}

fn show(installed: &Installed, page: &mut Page) {
    page.warnings(&installed.warnings);
    page.heading(if installed.already_installed {
        format!("{} {} is installed already, and verified", installed.name, installed.version)
    } else {
        format!("Installed {} {}", installed.name, installed.version)
    });
    page.field("id", &installed.id)
        .field("path", &installed.path)
        .field("cid", &installed.cid)
        .field("size", page::sizes(installed.bytes, installed.files))
        .field("fetched", page::bytes(installed.bytes_fetched))
        .optional("freshness", Some(&installed.freshness.freshness))
        .list("from", &installed.providers);
}
