//! `peer-ban`, `peer-unban`: whom this node has nothing to do with.

use clap::Args;
use ggen_marketplace::control::api::{BanRequest, UnbanRequest};

use super::peer_list;
use crate::{
    page,
    session::{Exit, Finished, Session},
    values,
};

/// Ban a peer, or list the banned peers.
#[derive(Debug, Args)]
#[command(
    long_about = "Ban a peer, or list the banned peers.\n\n\
        The connections to it are closed, and nothing is asked of it or served to it. Without a peer, the present bans are listed: \
        those that you made, and those of peers that sent forged bytes.",
    after_help = "\
Examples:
  ggen marketplace p2p peer-ban
  ggen marketplace p2p peer-ban 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA --for 7d --reason \"serves slowly\""
)]
pub(crate) struct PeerBan {
    /// The peer id: 12D3…, Qm… or bafz….
    #[arg(value_name = "PEER_ID", value_parser = values::peer)]
    peer_id: Option<String>,
    /// For how long, such as 7d or 12h; permanently if not given.
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration, requires = "peer_id")]
    length: Option<u64>,
    /// Why, in a few words.
    #[arg(long, value_name = "WHY", requires = "peer_id")]
    reason: Option<String>,
}

impl PeerBan {
    /// What the verb wants to do, as the object of "could not".
    pub(crate) fn purpose(&self) -> &'static str {
        if self.peer_id.is_some() { "ban the peer" } else { "list the banned peers" }
    }

    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let Some(peer_id) = self.peer_id else {
            let bans = session.client().bans().await?;
            session.print(&bans, |bans, page| {
                if !bans.bans.is_empty() {
                    page.table(
                        &["PEER", "UNTIL", "BY", "WHY"],
                        bans.bans.iter().map(|ban| {
                            vec![
                                ban.peer_id.clone(),
                                ban.until.clone().unwrap_or_else(|| "permanently".to_owned()),
                                if ban.manual { "hand" } else { "node" }.to_owned(),
                                ban.reason.clone(),
                            ]
                        }),
                    );
                }
                page.line(match bans.total {
                    0 => "No peer is banned.".to_owned(),
                    several => page::count(several, "banned peer"),
                });
            })?;
            return Ok(Exit::Ok);
        };
        let peer_id = peer_list::meant(session, peer_id).await?;
        let request = BanRequest { peer_id, secs: self.length, reason: self.reason };
        let banned = session.client().ban(&request).await?;
        session.print(&banned, |banned, page| {
            let until = banned
                .until
                .as_deref()
                .map_or_else(|| "permanently".to_owned(), |until| format!("until {until}"));
            page.line(format!("Banned {} {until}: {}", banned.peer_id, banned.reason));
            if banned.connections > 0 {
                page.line(format!("Closed {}.", page::count(banned.connections, "connection")));
            }
            page.line(format!("Lift the ban: ggen marketplace p2p peer-unban {}", banned.peer_id));
        })?;
        Ok(Exit::Ok)
    }
}

/// Lift the ban of a peer.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ggen marketplace p2p peer-unban 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")]
pub(crate) struct PeerUnban {
    /// The peer id: 12D3…, Qm… or bafz….
    #[arg(value_name = "PEER_ID", value_parser = values::peer)]
    peer_id: String,
}

impl PeerUnban {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let peer_id = peer_list::meant(session, self.peer_id).await?;
        let unbanned = session.client().unban(&UnbanRequest { peer_id }).await?;
        session.print(&unbanned, |unbanned, page| {
            page.line(format!("Peer {} is no longer banned.", unbanned.peer_id));
        })?;
        Ok(Exit::Ok)
    }
}
