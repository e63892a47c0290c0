//! `demo`: the main job on this machine alone – several nodes on loopback publish, search, install and verify.

use std::path::PathBuf;

use clap::Args;
use ggen_marketplace::{code::Code, control::api::Failure};

use crate::{
    session::{Exit, Finished, Session},
    values,
};

/// Show the whole thing on this machine: real nodes on loopback publish, search, install and verify.
#[derive(Debug, Args)]
#[command(after_help = "\
Uses folders of its own and leaves ~/.ggen alone.

Examples:
  ggen marketplace p2p demo
  ggen marketplace p2p demo --nodes 5 --keep ./demo")]
pub(crate) struct Demo {
    /// How many nodes to run.
    #[arg(long, value_name = "N", default_value = "3", value_parser = values::demo_nodes, allow_negative_numbers = true)]
    nodes: usize,
    /// Keep the nodes' folders here, instead of a temporary folder that is removed.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let keep = self.keep.as_deref().map(values::absolute).transpose()?;
        play(session, self.nodes, keep).await
    }
}

/// SEAM: the demonstration itself, to be written on top of `backend::p2p`.
async fn play(_session: &Session, _nodes: usize, _keep: Option<PathBuf>) -> Finished<Exit> {
    Err(Failure::new(
        Code::Failed,
        "This build has no demonstration.",
        "Start a node instead: ggen marketplace p2p start",
    )
    .into())
}
