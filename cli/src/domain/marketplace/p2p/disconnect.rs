//! `disconnect`: closes the connections to a peer.

use clap::Args;
use ggen_marketplace::control::api::DisconnectRequest;

use super::peer_list;
use crate::{
    page,
    session::{Exit, Finished, Session},
    values,
};

/// Close the connections to a peer; it may connect again.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ggen marketplace p2p disconnect 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")]
pub(crate) struct Disconnect {
    /// The peer id: 12D3…, Qm… or bafz….
    #[arg(value_name = "PEER_ID", value_parser = values::peer)]
    peer_id: String,
}

impl Disconnect {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = DisconnectRequest { peer_id: peer_list::meant(session, self.peer_id).await? };
        let disconnected = session.client().disconnect(&request).await?;
        session.print(&disconnected, |disconnected, page| {
            let closed = page::count(disconnected.connections, "connection");
            page.line(format!("Closed {closed} to {}.", disconnected.peer_id));
        })?;
        Ok(Exit::Ok)
    }
}
