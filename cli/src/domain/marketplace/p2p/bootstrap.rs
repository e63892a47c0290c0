//! `bootstrap`: joins the network through known peers.

use clap::Args;
use ggen_marketplace::{
    code::Code,
    control::api::{BootstrapRequest, Bootstrapped},
};

use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Join the network through known peers, and fill the DHT routing table from them.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with status 5 if none of the peers answers.

Examples:
  ggen marketplace p2p bootstrap \\
    /ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ \\
    /dnsaddr/bootstrap.libp2p.io
  ggen marketplace p2p bootstrap <nodes...> --timeout 60")]
pub(crate) struct Bootstrap {
    /// Addresses of the peers.
    #[arg(value_name = "NODES", required = true, value_parser = values::dial)]
    nodes: Vec<String>,
    /// How long it may take in all.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = values::seconds, allow_negative_numbers = true)]
    timeout: u64,
}

impl Bootstrap {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = BootstrapRequest { addresses: self.nodes, timeout_secs: Some(self.timeout) };
        let bootstrapped = session.client().bootstrap(&request).await?;
        session.print(&bootstrapped, |bootstrapped, page| {
            dials(bootstrapped, page);
            page.line(format!(
                "The routing table had {} and has {}.",
                page::count(bootstrapped.routing_table_before, "peer"),
                bootstrapped.routing_table_after
            ));
        })?;
        Ok(exit(&bootstrapped))
    }
}

/// What came of each address.
pub(super) fn dials(bootstrapped: &Bootstrapped, page: &mut Page) {
    for dial in &bootstrapped.results {
        match (&dial.peer_id, &dial.error) {
            (_, Some(error)) => page.line(format!("failed   {}: {error}", dial.address)),
            (Some(peer), None) => match &dial.note {
                Some(note) => page.line(format!("known    {} ({peer}): {note}", dial.address)),
                None => page.line(format!("reached  {} ({peer})", dial.address)),
            },
            (None, None) => page.line(format!("reached  {}", dial.address)),
        };
    }
    page.line(format!(
        "Reached {} of {}.",
        bootstrapped.reached,
        page::count(bootstrapped.results.len(), "address")
    ));
    if bootstrapped.timed_out {
        page.line("The time ran out before every address had answered; allow more with --timeout.");
    }
}

/// Reaching nobody is a failure.
pub(super) fn exit(bootstrapped: &Bootstrapped) -> Exit {
    match bootstrapped {
        Bootstrapped { reached: 0, timed_out: true, .. } => Exit::Told(Code::Timeout),
        Bootstrapped { reached: 0, .. } => Exit::Told(Code::Network),
        _ => Exit::Ok,
    }
}
