//! `install`: fetches, verifies and writes a package.

use std::path::PathBuf;

use clap::Args;
use ggen_marketplace::{
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
}

impl Install {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let to = self.to.unwrap_or_else(|| PathBuf::from(self.package.name.as_str()));
        let request = InstallRequest {
            package: self.package.to_string(),
            to: values::absolute_text(&to)?,
            timeout_secs: self.timeout,
        };
        let bar = Bar::new(session);
        let outcome = session.client().install(&request, |step| bar.update(&step)).await;
        drop(bar);
        session.print(&outcome?, show)?;
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
        .list("from", &installed.providers);
}
