//! `stop`: stops the node and waits until it is gone.

use clap::Args;
use ggen_marketplace::control::api::Failure;

use crate::{
    domain::marketplace::p2p_state,
    session::{End, Exit, Finished, Session},
};

/// Stop the node, and wait until it is gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ggen marketplace p2p stop")]
pub(crate) struct Stop {}

impl Stop {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let stopped = p2p_state::stop(session).await.map_err(|end| match end {
            End::Failed(failure) if failure.is_not_running() => End::Failed(Failure {
                hint: "There is nothing to stop. To start one: ggen marketplace p2p start --daemon\nOr name the folder of the one you mean: GGEN_HOME=/path"
                    .to_owned(),
                ..failure
            }),
            other => other,
        })?;
        session.print(&stopped, |stopped, page| {
            page.line(format!("Stopped the node (pid {}).", stopped.pid));
        })?;
        Ok(Exit::Ok)
    }
}
