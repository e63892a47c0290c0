//! `update`: takes the newest versions that a project allows.

use clap::Args;
use ggen_marketplace::control::api::ProjectAction;

use super::project::{self, Change, Effort};
use crate::{
    session::{Exit, Finished, Session},
    values,
};

/// Take the newest versions that the ranges of a project allow, and install them.
#[derive(Debug, Args)]
#[command(
    long_about = "Take the newest versions that the ranges of a project allow, and install them.\n\n\
        With packages named, only these get other versions, and what must change with them. gpack.toml stays as it is. The folders \
        are replaced all together: if anything fails, the old ones stay.",
    after_help = "\
Examples:
  ggen marketplace p2p update
  ggen marketplace p2p update web-tools
  ggen marketplace p2p update web-tools --precise 1.2.3
  ggen marketplace p2p update --dry-run"
)]
pub(crate) struct Update {
    /// The packages: short names, names or full ids [default: all].
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Take this version of the package that is named.
    #[arg(long, value_name = "VERSION", value_parser = values::version)]
    precise: Option<String>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    effort: Effort,
}

impl Update {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let action = ProjectAction::Update { packages: self.packages, precise: self.precise };
        project::run(session, action, self.change, self.effort.into()).await
    }
}
