//! `stop`: stops the node and waits until it is gone.

use clap::Args;

use crate::{
    domain::marketplace::p2p_state,
    session::{Exit, Finished, Session},
};

/// Stop the node, and wait until it is gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ggen marketplace p2p stop")]
pub(crate) struct Stop {}

impl Stop {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let stopped = p2p_state::stop(session).await?;
        session.print(&stopped, |stopped, page| {
            page.line(format!("Stopped the node (pid {}).", stopped.pid));
        })?;
        Ok(Exit::Ok)
    }
}
