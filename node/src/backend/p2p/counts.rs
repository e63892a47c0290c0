//! What the node counts, for a monitor that asks for it.
//!
//! No label is anything that a peer can make up.

use std::{fmt::Write as _, sync::atomic::Ordering};

use super::{failure::fail, node::Node};
use crate::{
    catalog,
    control::api::Failure,
    store::{outbox, packages, published},
};

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows while the node runs.
    Counter,
}

impl Node {
    /// All counts in the text form of OpenMetrics: the node's own, then libp2p's.
    pub(super) async fn metrics(&self) -> Result<String, Failure> {
        let snapshot = self.network.snapshot().await.map_err(fail)?;
        let (rows, stats) = self
            .with_store(|store| {
                let rows = store.read(|conn| {
                    let published = published::list_all(conn)?.len() as u64;
                    let queued = outbox::list_all(conn)?.len() as u64;
                    Ok((published, queued, packages::count(conn)?, catalog::count(conn)? as u64))
                })?;
                Ok((rows, store.stats()?))
            })
            .await?;
        let (published, queued, provided, indexed) = rows;
        let ready = self.listening.load(Ordering::Relaxed) && !self.store.has_stopped_writing();
        let numbers = [
            ("ready", Kind::Gauge, "Whether the node listens and takes work", u64::from(ready)),
            ("uptime_seconds", Kind::Gauge, "Seconds since the start", self.started.elapsed().as_secs()),
            ("peers_connected", Kind::Gauge, "Peers connected now", snapshot.peers.len() as u64),
            (
                "routing_table_peers",
                Kind::Gauge,
                "Peers in the routing table",
                snapshot.buckets.iter().sum::<usize>() as u64,
            ),
            ("dht_records", Kind::Gauge, "DHT records held", snapshot.records as u64),
            (
                "dht_renewal_lag_seconds",
                Kind::Gauge,
                "How late the renewal of DHT records is",
                snapshot.renewal_lag.as_secs(),
            ),
            ("packages_indexed", Kind::Gauge, "Packages in the catalogue", indexed),
            ("packages_published", Kind::Gauge, "Versions published by this node", published),
            ("packages_provided", Kind::Gauge, "Versions whose blocks this node provides", provided),
            ("outbox", Kind::Gauge, "Versions that wait to be published", queued),
            ("store_bytes", Kind::Gauge, "Bytes of blocks held", stats.bytes),
            ("store_blocks", Kind::Gauge, "Blocks held", stats.blocks),
            (
                "blocks_received_bytes",
                Kind::Counter,
                "Bytes of blocks received",
                self.bytes_received.load(Ordering::Relaxed),
            ),
            ("blocks_sent_bytes", Kind::Counter, "Bytes of blocks sent", snapshot.bytes_sent),
            (
                "heads_refused",
                Kind::Counter,
                "Heads of other peers that were refused",
                snapshot.heads_refused,
            ),
            (
                "inbound_failed",
                Kind::Counter,
                "Connections of others that failed before they stood",
                snapshot.inbound_failed,
            ),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in numbers {
            write_number(&mut text, name, kind, help, value);
        }
        let theirs = self.counts.text();
        text.push_str(if theirs.is_empty() { "# EOF\n" } else { &theirs });
        Ok(text)
    }
}

fn write_number(text: &mut String, name: &str, kind: Kind, help: &str, value: u64) {
    let (word, suffix) = match kind {
        Kind::Gauge => ("gauge", ""),
        Kind::Counter => ("counter", "_total"),
    };
    let written =
        write!(text, "# HELP ggen_{name} {help}.\n# TYPE ggen_{name} {word}\nggen_{name}{suffix} {value}\n");
    written.expect("a text takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_openmetrics_has_it() {
        let mut text = String::new();
        write_number(&mut text, "heads_refused", Kind::Counter, "Heads that were refused", 7);
        assert_eq!(
            text,
            "# HELP ggen_heads_refused Heads that were refused.\n# TYPE ggen_heads_refused counter\nggen_heads_refused_total 7\n"
        );
    }
}
