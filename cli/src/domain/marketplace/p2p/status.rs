//! `status`: how the node is, and the lines by which others can reach it.

use clap::Args;
use ggen_marketplace::control::api;

use crate::{
    page::{self, Page},
    session::{Exit, Finished, Session},
};

/// Show the status of the node, and the --bootstrap lines for others to copy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ggen marketplace p2p status
  ggen marketplace p2p status --format json")]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, session: &Session) -> Finished<Exit> {
        let status = session.client().status().await?;
        session.print(&status, show)?;
        Ok(Exit::Ok)
    }
}

/// How others connect to the node; nothing of a node that does not say so.
fn reachable(reachability: &api::Reachability) -> Option<String> {
    let how = match reachability.reach.as_str() {
        "" => return None,
        "direct" => "directly".to_owned(),
        "relay" => format!("through {}", page::count(reachability.relay_addresses.len(), "relay")),
        "unknown" => "perhaps".to_owned(),
        _ => "not".to_owned(),
    };
    let clients = match reachability.relay_clients {
        0 => String::new(),
        clients => format!("; relays for {}", page::count(clients, "peer")),
    };
    Some(format!("{how}: {}{clients}", reachability.reach_reason))
}

/// The peers of the local network; nothing of a node that does not look for them.
fn nearby(reachability: &api::Reachability) -> Option<String> {
    let found = page::count(reachability.local_network_peers?, "peer");
    Some(format!("{found} found on the local network"))
}

fn show(status: &api::Status, page: &mut Page) {
    page.heading(format!("Node {} is running ({})", status.peer_id, status.health));
    page.warnings(&status.warnings);
    page.field("version", format!("{}, pid {}", status.version, status.pid))
        .field("home", &status.home)
        .field("uptime", page::seconds(status.uptime_secs))
        .list("listens on", &status.listen_addresses)
        .list("through relays", &status.reachability.relay_addresses)
        .list("seen as", &status.external_addresses)
        .optional("reachable", reachable(&status.reachability))
        .field("peers", page::count(status.connected_peers, "connected peer"))
        .optional("nearby", nearby(&status.reachability))
        .field("topology", format!("{}, as {}", status.topology, status.role))
        .field("mode", if status.dht_server { "DHT server" } else { "DHT client" })
        .field("routing table", routing_table(status))
        .field("DHT records", dht_records(status))
        .optional("last bootstrap", status.last_bootstrap.as_deref().map(page::when))
        .field(
            "topic",
            format!(
                "{} ({} in the mesh, {} subscribed)",
                status.packages_topic,
                page::count(status.mesh_peers, "peer"),
                status.topic_peers
            ),
        )
        .field(
            "packages",
            format!(
                "{} published, {} indexed, {} provided",
                status.packages_published, status.packages_indexed, status.packages_provided
            ),
        )
        .field(
            "index",
            format!(
                "read completely from {} of {}",
                status.index_peers_complete,
                page::count(status.index_peers_total, "peer")
            ),
        )
        .field("unannounced", status.announcements_pending)
        .list("waits", &status.outbox.iter().map(waiting).collect::<Vec<_>>())
        .list("changes", &status.changes.iter().map(changing).collect::<Vec<_>>())
        .list("interrupted", &status.partial.iter().map(interrupted).collect::<Vec<_>>())
        .field("store", format!("{} in {} blocks", page::bytes(status.store_bytes), status.store_blocks))
        .optional("limits", limits(status))
        .field(
            "traffic",
            format!(
                "{} received, {} sent",
                page::bytes(status.bytes_received),
                page::bytes(status.bytes_sent)
            ),
        );
    bootstrap_lines(&status.bootstrap_lines, page);
}

/// What the line is limited to now, where it is.
fn limits(status: &api::Status) -> Option<String> {
    let one = |what: &str, rate: Option<u64>| Some(format!("{what} {}/s", page::bytes(rate?)));
    let both = [one("up", status.upload_bytes_per_second), one("down", status.download_bytes_per_second)];
    let both: Vec<String> = both.into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(", "))
}

/// What an interrupted installation left, and how it goes on.
fn interrupted(partial: &api::PartialInstall) -> String {
    format!(
        "{}: {} of {} are here; go on: ggen marketplace p2p install {}",
        partial.id,
        page::bytes(partial.bytes_held),
        page::bytes(partial.size),
        partial.id
    )
}

/// A version that waits in the outbox, and why.
fn waiting(queued: &api::QueuedPackage) -> String {
    let code = Some(&queued.code).filter(|code| !code.is_empty()).map(|code| format!(" ({code})"));
    format!("{}{}: {}", queued.id, code.unwrap_or_default(), queued.why)
}

/// A change that waits in the outbox, and why.
fn changing(queued: &api::QueuedChange) -> String {
    let what = match queued.change {
        api::Change::Yank => "yank",
        api::Change::Unyank => "unyank",
        api::Change::Deprecate => "deprecate",
        api::Change::Undeprecate => "no longer deprecate",
    };
    format!("{what} {} ({}): {}", queued.id, queued.code, queued.why)
}

fn dht_records(status: &api::Status) -> String {
    match status.dht_renewal_lag_secs {
        0 => status.dht_records.to_string(),
        late => format!("{}, renewal late by {}", status.dht_records, page::seconds(late)),
    }
}

fn routing_table(status: &api::Status) -> String {
    let buckets: Vec<String> = status.routing_table_buckets.iter().map(ToString::to_string).collect();
    let peers = page::count(status.routing_table_peers, "peer");
    if buckets.is_empty() { peers } else { format!("{peers}, by bucket: {}", buckets.join(" ")) }
}

/// The lines for others to copy.
pub(super) fn bootstrap_lines(lines: &[String], page: &mut Page) {
    if !lines.is_empty() {
        page.line("").line("Others reach this node with:");
        for line in lines {
            page.line(format!("  ggen marketplace p2p start {line}"));
        }
    }
}
