//! `connect`: dials peers, and nothing more.

use clap::Args;
use ggen_marketplace::control::api::BootstrapRequest;

use super::bootstrap;
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
    /// Addresses of the peers.
    #[arg(value_name = "ADDRESS", required = true, value_parser = values::dial)]
    addresses: Vec<String>,
    /// How long it may take in all.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: u64,
}

impl Connect {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = BootstrapRequest { addresses: self.addresses, timeout_secs: Some(self.timeout) };
        let connected = session.client().connect(&request).await?;
        session.print(&connected, bootstrap::dials)?;
        Ok(bootstrap::exit(&connected))
    }
}
