//! `peer-info`: all that is known of a peer, connected or remembered.

use clap::Args;
use ggen_marketplace::control::api::{PeerDetails, PeerInfoRequest};

use super::peer_list;
use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Show what is known about a peer, connected now or before.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p peer-info QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ
  ggen marketplace p2p peer-info QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ --full")]
pub(crate) struct PeerInfo {
    /// The peer id: 12D3…, Qm… or bafz….
    #[arg(value_name = "PEER_ID", value_parser = values::peer)]
    peer_id: String,
    /// Also the peer's history, and how its reputation comes about.
    #[arg(long)]
    full: bool,
}

impl PeerInfo {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request =
            PeerInfoRequest { peer_id: peer_list::meant(session, self.peer_id).await?, full: self.full };
        let details = session.client().peer_info(&request).await?;
        session.print(&details, show)?;
        Ok(Exit::Ok)
    }
}

fn show(details: &PeerDetails, page: &mut Page) {
    peer_list::details(&details.peer, page);
    page.optional("derivation", details.derivation.as_deref());
    let Some(history) = &details.history else { return };
    page.line("");
    if history.is_empty() {
        page.line("Nothing has happened with this peer yet.");
        return;
    }
    page.table(
        &["TIME", "KIND", "SUBJECT", "BYTES", "MS", "OUTCOME", "PENALTY"],
        history.iter().map(|event| {
            vec![
                event.time.clone(),
                event.kind.clone(),
                event.subject.clone(),
                page::bytes(event.bytes),
                event.duration_ms.to_string(),
                event.outcome.clone(),
                event.penalty.clone().unwrap_or_default(),
            ]
        }),
    );
}
