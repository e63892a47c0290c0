//! Compares the blocks of this node with their hashes, all the time and slowly.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::node::Node;
use crate::content::ContentId;

/// How often some blocks are compared.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes that are compared each time: a megabyte a second, two thousandths of what one processor hashes. A store of 100 GiB takes
/// a day.
const AUDIT_BYTES: u64 = 64 << 20;

/// Compares until the node stops.
pub(super) async fn audit(node: Arc<Node>) {
    let mut look = interval(AUDIT_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Not while the node starts.
    look.tick().await;
    let mut last: Option<ContentId> = None;
    loop {
        look.tick().await;
        match node.with_store(move |store| store.audit(last, AUDIT_BYTES)).await {
            Ok(audited) => {
                if audited.damaged > 0 {
                    let blocks = audited.damaged;
                    tracing::warn!(
                        blocks,
                        "blocks were damaged on the disk; they are fetched again where they are wanted"
                    );
                }
                last = audited.last;
            }
            Err(failure) => {
                tracing::warn!(
                    failure.message,
                    "the blocks of the store were not compared with their hashes"
                );
            }
        }
    }
}
