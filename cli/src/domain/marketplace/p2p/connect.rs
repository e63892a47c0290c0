//! `connect`: dials peers, and nothing more.

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{BootstrapRequest, Failure, PeerInfoRequest},
};

use super::{bootstrap, peer_list};
use crate::{
    session::{Exit, Finished, Session},
    values,
};

/// Connect to peers, without looking for more through them.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with status 5 if none of the peers answers.

Example:
  ggen marketplace p2p connect /ip4/192.0.2.7/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")]
pub(crate) struct Connect {
    /// Addresses of the peers; of a peer that is known here, its id will do, short as tables show it too.
    #[arg(value_name = "ADDRESS|PEER_ID", required = true, value_parser = address_or_peer)]
    addresses: Vec<String>,
    /// How long it may take in all.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: u64,
}

fn address_or_peer(text: &str) -> Result<String, String> {
    // No peer id has a colon: it is a host with its port.
    if text.starts_with('/') || text.contains(':') { values::dial(text) } else { values::peer(text) }
}

impl Connect {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let mut addresses = Vec::new();
        for address in self.addresses {
            if address.starts_with('/') {
                addresses.push(address);
                continue;
            }
            let peer_id = peer_list::meant(session, address).await?;
            let known = session.client().peer_info(&PeerInfoRequest { peer_id, full: false }).await?.peer;
            let id = &known.peer_id;
            let known_addresses = dialled(&known.addresses, id);
            if known_addresses.is_empty() {
                return Err(Failure::new(
                    Code::NotFound,
                    format!("No address of peer {id} is known here."),
                    format!("Name one: ggen marketplace p2p connect /ip4/<address>/tcp/<port>/p2p/{id}"),
                )
                .into());
            }
            addresses.extend(known_addresses);
        }
        let request = BootstrapRequest { addresses, timeout_secs: Some(self.timeout) };
        let connected = session.client().connect(&request).await?;
        session.print(&connected, bootstrap::dials)?;
        Ok(bootstrap::exit(&connected))
    }
}

/// The addresses at which a peer is dialled, each with its id at the end. What a peer says of itself may be no address to dial; that is
/// left out.
fn dialled(known: &[String], id: &str) -> Vec<String> {
    let end = format!("/p2p/{id}");
    let whole = |at: &String| if at.ends_with(&end) { at.clone() } else { format!("{at}{end}") };
    known.iter().filter_map(|at| values::dial(&whole(at)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_peer_stands_at_the_end_of_each_of_its_addresses() {
        const ID: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        const RELAY: &str = "12D3KooWPUBE5kX8DUNPvwXo6wyNFFdvAsRZ4r44UKdhkhDAKWDW";
        let relayed = format!("/ip4/192.0.2.7/tcp/4001/p2p/{RELAY}/p2p-circuit");
        let known = [
            "/ip4/192.0.2.8/tcp/4001".into(),
            format!("/ip4/192.0.2.9/tcp/4001/p2p/{ID}"),
            relayed.clone(),
            format!("{relayed}/p2p/{ID}"),
            "/ip4/0.0.0.0/tcp/4001".into(),
        ];
        let expected = [
            format!("/ip4/192.0.2.8/tcp/4001/p2p/{ID}"),
            format!("/ip4/192.0.2.9/tcp/4001/p2p/{ID}"),
            format!("{relayed}/p2p/{ID}"),
            format!("{relayed}/p2p/{ID}"),
        ];
        assert_eq!(dialled(&known, ID), expected);
    }
}
