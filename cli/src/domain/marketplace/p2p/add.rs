//! `add`: makes a project ask for more packages, and installs them.

use clap::Args;
use ggen_marketplace::control::api::ProjectAction;

use super::project::{self, Change, Effort};
use crate::session::{Exit, Finished, Session};

/// Add packages to the gpack.toml of a project, and install them with all that they need.
#[derive(Debug, Args)]
#[command(
    long_about = "Add packages to the gpack.toml of a project, and install them with all that they need.\n\n\
        gpack.toml gets the full id and a short name of each; gpack.lock gets the exact versions of all of them. The packages go \
        into the folder gpacks, each under its short name. Without a range, versions compatible with the newest one are asked for. \
        If anything fails, nothing is changed.",
    after_help = "\
Another folder is named in gpack.toml:
  [project]
  folder = \"vendor/packages\"

Examples:
  ggen marketplace p2p add web-tools
  ggen marketplace p2p add web-tools@^1.2 log-tools@1
  ggen marketplace p2p add <publisher>/web-tools --as web"
)]
pub(crate) struct Add {
    /// The packages: [publisher/]name[@range].
    #[arg(value_name = "PACKAGE", required = true)]
    packages: Vec<String>,
    /// The short name of the package, and of its folder [default: its name].
    #[arg(long = "as", value_name = "NAME")]
    alias: Option<String>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    effort: Effort,
}

impl Add {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let action = ProjectAction::Add { packages: self.packages, alias: self.alias };
        project::run(session, action, self.change, self.effort.into()).await
    }
}
