//! The networks that this machine's interfaces are in, told again whenever they change.

use std::collections::BTreeSet;

use futures::{FutureExt, StreamExt};
use if_watch::{IfEvent, IpNet, tokio::IfWatcher};
use tokio::sync::mpsc;

use super::Seen;

/// Tells of the networks until nobody listens.
pub(super) async fn watch(seen: mpsc::Sender<Seen>) {
    let mut watcher = match IfWatcher::new() {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "the interfaces of this machine are not watched");
            return;
        }
    };
    let mut nets: BTreeSet<IpNet> = BTreeSet::new();
    loop {
        let event = tokio::select! { biased;
            () = seen.closed() => return,
            event = watcher.select_next_some() => event,
        };
        note(&mut nets, event);
        // All that changes at once is told at once.
        while let Some(Some(event)) = watcher.next().now_or_never() {
            note(&mut nets, event);
        }
        if seen.send(Seen::Interfaces(nets.clone())).await.is_err() {
            return;
        }
    }
}

fn note(nets: &mut BTreeSet<IpNet>, event: std::io::Result<IfEvent>) {
    match event {
        Ok(IfEvent::Up(net)) => drop(nets.insert(net)),
        Ok(IfEvent::Down(net)) => drop(nets.remove(&net)),
        Err(error) => tracing::warn!(%error, "the interfaces of this machine were not read"),
    }
}
