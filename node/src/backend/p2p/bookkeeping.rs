//! Writes down what the network tells: addresses that work, peers that were seen, bytes that were sent.
//!
//! Events are gathered for a moment and written in one transaction; losing the last of them in a crash costs nothing but
//! a fresher memory.

use std::{sync::Arc, time::Duration};

use rusqlite::Transaction;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::node::Node;
use crate::{
    catalog,
    content::{Codec, ContentId},
    network::Event,
    peers::{
        address_book,
        policy::{Scope, scope_of},
    },
    reputation::{Recent, ledger},
    store,
    time::Timestamp,
};

/// How long events are gathered before they are written.
const GATHER: Duration = Duration::from_secs(2);
/// Events that are written in one transaction.
const BATCH_MAX: usize = 1_024;

/// Keeps the books until the node stops; what was gathered until then is written.
pub(super) async fn keep(node: Arc<Node>, mut events: mpsc::Receiver<Event>) {
    let stopping = node.stopping();
    let mut batch = Vec::new();
    while !stopping.is_cancelled() {
        let first = tokio::select! { biased;
            event = events.recv() => event,
            () = stopping.cancelled() => None,
        };
        let Some(first) = first else { break };
        let deadline = Instant::now() + GATHER;
        note(&node, first, &mut batch);
        while batch.len() < BATCH_MAX {
            tokio::select! { biased;
                event = events.recv() => match event {
                    Some(event) => note(&node, event, &mut batch),
                    None => break,
                },
                () = stopping.cancelled() => break,
                () = sleep_until(deadline) => break,
            }
        }
        let (written, now) = (std::mem::take(&mut batch), node.now());
        let result = node.with_store(move |store| store.write(|tx| write(tx, &written, now))).await;
        if let Err(failure) = result {
            tracing::warn!(failure.message, "the books were not kept for a moment");
        }
    }
}

fn note(node: &Node, event: Event, batch: &mut Vec<Event>) {
    match event {
        Event::Audience => {
            node.audience.notify_one();
            node.outbox.notify_one();
            node.confirming.notify_one();
            node.renewing.notify_one();
        }
        Event::Reunited { away, .. } => node.reunited(away),
        Event::Greeted { peer, ip, is_dialled, time } => node.note_time(peer, ip, is_dialled, time),
        Event::Twin { told_by, is_first } => node.note_twin(told_by, is_first),
        Event::Disconnected { peer } => node.forget_time(&peer),
        Event::EarlierRun { told_by } => node.note_earlier_run(told_by),
        event => {
            if matches!(event, Event::Identified { .. }) {
                node.outbox.notify_one();
            }
            batch.push(event);
        }
    }
}

fn write(tx: &Transaction<'_>, events: &[Event], now: Timestamp) -> Result<(), store::Error> {
    let mut recent = Recent::new();
    for event in events {
        match event {
            Event::Connected { peer, dialled } => {
                recent.note(*peer, now);
                if let Some(address) = dialled {
                    address_book::succeeded(tx, peer, address, now)?;
                }
            }
            Event::Unreachable { peer, address } => address_book::failed(tx, peer, address)?,
            Event::Identified { peer, addresses } => {
                recent.note(*peer, now);
                let scope = addresses.iter().map(scope_of).min().unwrap_or(Scope::Public);
                address_book::learned(tx, peer, addresses, address_book::Source::Identify(scope), now)?;
            }
            Event::Seen { peer } => {
                recent.note(*peer, now);
            }
            Event::ForgedHeads { peer } => {
                ledger::record(tx, peer, &ledger::Event::ForgedHead, now)?;
            }
            Event::Served { peer, bytes, .. } => {
                ledger::record(tx, peer, &ledger::Event::Served { bytes: *bytes }, now)?;
            }
            Event::Serves { peer } => address_book::serves(tx, peer, now)?,
            Event::Claimed { peer, multihash, source } => {
                // The DHT names a tree by its hash alone; a tree is always a directory node.
                if let Some(digest) = multihash.get(2..).and_then(|digest| <[u8; 32]>::try_from(digest).ok())
                {
                    let root = ContentId::from_digest(Codec::DagPb, digest);
                    ledger::record(tx, peer, &ledger::Event::Claimed { root }, now)?;
                    catalog::provided(tx, &root, source)?;
                }
            }
            Event::Audience
            | Event::Reunited { .. }
            | Event::Greeted { .. }
            | Event::Twin { .. }
            | Event::EarlierRun { .. }
            | Event::Introduced { .. }
            | Event::Asked
            | Event::Read { .. }
            | Event::Disconnected { .. }
            | Event::Announced { .. }
            | Event::Announcing { .. }
            | Event::Kept { .. }
            | Event::Refused { .. }
            | Event::LookedUp(_)
            | Event::Routed { .. }
            | Event::Listed { .. }
            | Event::Loaded(_) => {}
        }
    }
    recent.flush(tx, now)?;
    Ok(())
}
