//! `explain`: why a package is what it is.

use clap::Args;
use ggen_marketplace::{
    control::api::{ExplainRequest, Explained},
    package::Asked,
};

use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
    values,
};

/// Explain why a package is what it is: whose keys signed it, who confirmed it, and from whom it came.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p explain my-package
  ggen marketplace p2p explain my-package@1.2.3 --format json")]
pub(crate) struct Explain {
    /// The package: [publisher/]name[@version].
    #[arg(value_name = "PACKAGE", value_parser = values::package)]
    package: Asked,
}

impl Explain {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let request = ExplainRequest { package: self.package.to_string() };
        let explained = session.client().explain(&request).await?;
        session.print(&explained, show)?;
        Ok(Exit::Ok)
    }
}

fn show(explained: &Explained, page: &mut Page) {
    page.heading(&explained.id)
        .field("cid", &explained.cid)
        .field("why this publisher", &explained.why_publisher)
        .field("why this version", &explained.why_version)
        .list("signed by key", &explained.signed_by);
    if explained.head_signed_by != explained.signed_by {
        page.list("newest state by key", &explained.head_signed_by);
    }
    let chain: Vec<String> = explained
        .key_chain
        .iter()
        .map(|document| {
            let revoked =
                if document.revoked == 0 { String::new() } else { format!(", revokes {}", document.revoked) };
            let keys: Vec<String> = document.keys.iter().map(|key| page::short_id(key)).collect();
            format!(
                "document {} of {}: {} of {} ({}){revoked}",
                document.n,
                document.created,
                document.threshold,
                page::count(document.keys.len(), "key"),
                keys.join(", ")
            )
        })
        .collect();
    page.list("key chain", &chain)
        .field("log entry", explained.sequence)
        .field("released", page::when(&explained.released_at));
    page.field(
        "confirmed",
        explained
            .confirmed_at
            .as_deref()
            .map_or_else(|| "not as far as is known here".to_owned(), page::when),
    )
    .optional("next confirmation", explained.next_by.as_deref().map(page::when))
    .field("freshness", &explained.freshness);
    if explained.frozen {
        page.warnings(&["its publisher signed two different states for one place: it is frozen"]);
    }
    if explained.keys_disputed {
        page.warnings(&[
            "two chains of its publisher's keys contradict each other: see ggen marketplace p2p trust list",
        ]);
    }
    page.list("installed at", &explained.installed_at);
    let served: Vec<String> = explained
        .served_by
        .iter()
        .map(|peer| {
            format!(
                "{} sent {} until {} ({})",
                peer.peer_id,
                page::bytes(peer.bytes),
                peer.time,
                peer.outcome
            )
        })
        .collect();
    page.list("blocks came from", &served);
    for note in &explained.notes {
        page.line(format!("  note: {note}"));
    }
}
