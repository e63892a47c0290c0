//! `peer-list`: the peers connected now.

use std::collections::BTreeSet;

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{self, Failure, PeerInfo, PeerListRequest},
};

use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// List the peers connected now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p peer-list
  ggen marketplace p2p peer-list --verbose
  ggen marketplace p2p peer-list --min-reputation 0.7
  ggen marketplace p2p peer-list --format json")]
pub(crate) struct PeerList {
    /// Also show addresses, latency, protocols, program, traffic, and peers that were refused.
    #[arg(long, short)]
    verbose: bool,
    /// Only peers of at least this reputation, from 0 to 1.
    #[arg(long, value_name = "REPUTATION", value_parser = values::reputation, allow_negative_numbers = true)]
    min_reputation: Option<f64>,
}

impl PeerList {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = PeerListRequest { min_reputation: self.min_reputation };
        let list = session.client().peer_list(&request).await?;
        session.print(&list, |list, page| show(list, self.verbose, page))?;
        Ok(Exit::Ok)
    }
}

/// The whole id of the peer that a person means who types its id, or a short form of it as tables show it: of those that are connected,
/// refused or banned.
pub(crate) async fn meant(session: &Session, text: String) -> Result<String, Failure> {
    let Some((head, tail)) = values::cut(&text) else { return Ok(text) };
    let list = session.client().peer_list(&PeerListRequest::default()).await?;
    let bans = session.client().bans().await?;
    let known = list.peers.iter().map(|peer| &peer.peer_id);
    let known = known.chain(list.refused.iter().map(|peer| &peer.peer_id));
    let known: BTreeSet<&String> = known.chain(bans.bans.iter().map(|ban| &ban.peer_id)).collect();
    let mut fitting = known.into_iter().filter(|id| id.starts_with(head) && id.ends_with(tail));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => Err(Failure::new(
            Code::NotFound,
            format!("No peer that is connected, refused or banned has an id like {text}."),
            "See them: ggen marketplace p2p peer-list",
        )),
        (Some(_), Some(_)) => Err(Failure::new(
            Code::Ambiguous,
            format!("Several peers have an id like {text}."),
            "Type the whole id: ggen marketplace p2p peer-list --format json",
        )),
    }
}

fn show(list: &api::PeerList, verbose: bool, page: &mut Page) {
    if verbose {
        for peer in &list.peers {
            details(peer, page);
            page.line("");
        }
        for refused in &list.refused {
            page.line(format!(
                "refused {}: {} ({})",
                refused.peer_id,
                refused.reason,
                page::when(&refused.time)
            ));
        }
    } else if !list.peers.is_empty() {
        page.table(
            &["PEER", "REPUTATION", "GOOD", "FAILED", "PACKAGES", "LAST SEEN", "ADDRESS"],
            list.peers.iter().map(row),
        );
    }
    page.line(match (list.peers.len(), list.hidden_by_reputation) {
        (0, 0) => "No peers. Bootstrap the node: ggen marketplace p2p bootstrap <bootstrap-nodes>".to_owned(),
        (0, hidden) => {
            format!("No peer has that reputation; {} connected.", are(hidden))
        }
        (number, 0) => page::count(number, "peer"),
        (number, hidden) => {
            format!("{}; below that reputation, {} connected.", page::count(number, "peer"), are(hidden))
        }
    });
}

fn are(number: usize) -> String {
    format!("{} {}", page::count(number, "peer"), if number == 1 { "is" } else { "are" })
}

fn row(peer: &PeerInfo) -> Vec<String> {
    vec![
        peer.peer_id.clone(),
        page::reputation(peer.reputation),
        peer.successful_retrievals.to_string(),
        peer.failed_retrievals.to_string(),
        peer.packages_provided.to_string(),
        peer.last_seen.clone().unwrap_or_else(|| "never".to_owned()),
        peer.addresses.first().cloned().unwrap_or_default(),
    ]
}

/// How a peer is connected, in words.
fn reached(how: &str) -> &str {
    match how {
        "relay" => "through a relay",
        _ => "directly",
    }
}

/// What the direct connections with a peer go over, in words.
fn transports(transports: &[String]) -> Option<String> {
    let direct: Vec<String> =
        transports.iter().filter(|it| *it != "relay").map(|it| it.to_uppercase()).collect();
    (!direct.is_empty()).then(|| direct.join(" and "))
}

/// Everything of one peer.
pub(super) fn details(peer: &PeerInfo, page: &mut Page) {
    let state = match (peer.banned, peer.connected) {
        (true, _) => "banned",
        (false, true) => "connected",
        (false, false) => "not connected",
    };
    let last_seen = peer.last_seen.as_deref().map_or_else(|| "never".to_owned(), page::when);
    page.heading(&peer.peer_id)
        .field("state", state)
        .field("reputation", page::reputation(peer.reputation))
        .field(
            "retrievals",
            format!("{} successful, {} failed", peer.successful_retrievals, peer.failed_retrievals),
        )
        .field("packages", format!("{} provided, {} claimed", peer.packages_provided, peer.packages_claimed))
        .field("last seen", last_seen)
        .optional("direction", peer.direction.as_deref())
        .optional("reached", peer.reached.as_deref().map(reached))
        .optional("transport", transports(&peer.transports))
        .optional("nearby", peer.local_network.then_some("found on the local network"))
        .optional("latency", peer.latency_ms.map(|milliseconds| format!("{milliseconds:.1} ms")))
        .field(
            "traffic",
            format!("{} received, {} sent", page::bytes(peer.bytes_received), page::bytes(peer.bytes_sent)),
        )
        .optional("agent", peer.agent.as_deref())
        .optional("speaks", peer.protocol_version.as_deref())
        .list("addresses", &peer.addresses)
        .list("protocols", &peer.protocols);
}
