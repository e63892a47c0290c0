//! `restart`: stops the node, if one runs, and starts a daemon with the same flags, except those that you give again.

use clap::Args;
use ggen_marketplace::code::Code;

use super::start::{self, Flags};
use crate::{
    domain::marketplace::p2p_state,
    session::{End, Exit, Finished, Session},
};

/// Stop the node, if one runs, and start it as a daemon.
#[derive(Debug, Args)]
#[command(
    long_about = "Stop the node, if one runs, and start it as a daemon.\n\n\
        It starts with the flags of its last start, except those that you give again. \
        If its configuration is not valid, the node is not stopped.",
    after_help = "\
Examples:
  ggen marketplace p2p restart
  ggen marketplace p2p restart --listen /ip4/0.0.0.0/tcp/0"
)]
pub(crate) struct Restart {
    #[command(flatten)]
    flags: Flags,
}

impl Restart {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let flags = self.flags.over(p2p_state::flags::remembered(session.home())?);
        // A node that runs is not stopped for one that cannot start.
        p2p_state::effective(session.home(), &flags)?;
        match p2p_state::stop(session).await {
            Ok(stopped) => session.note(&format!("Stopped the node (pid {}).", stopped.pid)),
            Err(End::Failed(failure)) if failure.code == Code::NotRunning => {}
            Err(end) => return Err(end),
        }
        start::launch(session, &flags, false).await
    }
}
