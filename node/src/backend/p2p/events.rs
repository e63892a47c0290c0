//! What happens to the node, for those who listen to it, and for its log.
//!
//! Packages are told of as the catalogue numbers its changes, so that none is left out whichever way it came in; nothing is read
//! while nobody listens.

use std::sync::Arc;

use libp2p::PeerId;
use tokio::sync::Notify;

use super::node::Node;
use crate::{
    catalog::{self, Listed},
    control::{
        api::{Happening, Installed, ListedEvent, Published},
        events::{EventReceiver, EventSender},
    },
    limits::EVENTS_QUEUED_MAX,
    network::{Event, Observer},
    reputation::ledger,
    time::Timestamp,
};

/// Where events are told, and what wakes those who look for them.
#[derive(Debug, Clone, Default)]
pub(super) struct Events {
    sender: EventSender,
    listed: Arc<Notify>,
    /// Woken when heads of others were listed, whether anybody listens or not.
    heads: Arc<Notify>,
    /// Peers that were lost and may have been providers.
    lost: Arc<std::sync::Mutex<Vec<PeerId>>>,
}

impl Events {
    /// Tells all listeners.
    pub(super) fn tell(&self, now: Timestamp, what: Happening) {
        self.sender.tell(now, what);
    }

    /// Tells that the catalogue may have changed.
    pub(super) fn catalogue_changed(&self) {
        if self.sender.is_heard() {
            self.listed.notify_one();
        }
    }

    fn listen(&self) -> EventReceiver {
        let receiver = self.sender.listen();
        self.listed.notify_one();
        receiver
    }

    /// An observer that tells those who listen, and another one.
    pub(super) fn observer(&self, other: Observer) -> Observer {
        let events = self.clone();
        Observer::new(move |event| {
            other.tell(event);
            events.observe(event);
        })
    }

    /// Waits until heads of others are listed.
    pub(super) async fn heads_came(&self) {
        self.heads.notified().await;
    }

    fn observe(&self, event: &Event) {
        if matches!(event, Event::Listed { .. }) {
            self.heads.notify_one();
        }
        if !self.sender.is_heard() {
            return;
        }
        match event {
            Event::Connected { peer, dialled } => self.tell(
                Timestamp::now(),
                Happening::Connected {
                    peer_id: peer.to_string(),
                    address: dialled.as_ref().map(ToString::to_string),
                },
            ),
            Event::Disconnected { peer } => {
                self.tell(Timestamp::now(), Happening::Disconnected { peer_id: peer.to_string() });
                let mut lost = self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if lost.len() < EVENTS_QUEUED_MAX {
                    lost.push(*peer);
                }
                drop(lost);
                self.listed.notify_one();
            }
            Event::Listed { .. } => self.listed.notify_one(),
            _ => {}
        }
    }

    fn take_lost(&self) -> Vec<PeerId> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Tells of the packages that are listed, while somebody listens.
pub(super) async fn tell(node: Arc<Node>) {
    let mut position = None;
    loop {
        node.events.listed.notified().await;
        tell_lost(&node).await;
        if !node.events.sender.is_heard() {
            position = None;
            continue;
        }
        while let Some((next, more)) = tell_listed(&node, position).await {
            position = Some(next);
            if !more {
                break;
            }
        }
    }
}

/// Tells of what changed after a position, or of nothing where there was none; says where that ended and whether there is more.
async fn tell_listed(node: &Node, position: Option<u64>) -> Option<(u64, bool)> {
    let read = node.with_store(move |store| {
        store.read(|conn| match position {
            None => Ok((catalog::newest_position(conn)?, Vec::new())),
            Some(position) => {
                let listed = catalog::listed_after(conn, position, EVENTS_QUEUED_MAX / 4)?;
                Ok((listed.last().map_or(position, |last| last.position), listed))
            }
        })
    });
    let (next, listed) = match read.await {
        Ok(read) => read,
        Err(failure) => {
            tracing::warn!(failure.message, "what is listed was not told to those who listen");
            return None;
        }
    };
    let is_full = listed.len() >= EVENTS_QUEUED_MAX / 4;
    for listed in listed {
        let event = event_of(&listed);
        let what = match (listed.frozen, listed.disputed) {
            (true, _) => Happening::Frozen(event),
            (false, true) => Happening::Disputed(event),
            (false, false) => Happening::Listed(event),
        };
        node.events.tell(node.now(), what);
    }
    Some((next, is_full))
}

fn event_of(listed: &Listed) -> ListedEvent {
    let head = &listed.head;
    ListedEvent {
        id: listed.id.to_string(),
        publisher: head.publisher.to_string(),
        name: head.name.to_string(),
        version: head.latest.as_ref().map(|latest| latest.version.to_string()).unwrap_or_default(),
        sequence: head.sequence.get(),
        yanked: head.yanked.iter().map(ToString::to_string).collect(),
        deprecated: head.deprecated.clone(),
        tags: head.tags.clone(),
        categories: head.categories.clone(),
    }
}

/// Tells of the providers among the peers that were lost.
async fn tell_lost(node: &Node) {
    let lost = node.events.take_lost();
    if lost.is_empty() {
        return;
    }
    let records = node.with_store(move |store| {
        store.read(|conn| {
            let mut records = Vec::new();
            for peer in &lost {
                records.push(ledger::get(conn, peer)?);
            }
            Ok(records)
        })
    });
    let Ok(records) = records.await else { return };
    for record in records.into_iter().filter(|record| record.packages_provided + record.packages_claimed > 0)
    {
        let peer_id = record.peer.to_string();
        node.events.tell(node.now(), Happening::ProviderLost { peer_id, packages: record.packages_provided });
    }
}

impl Node {
    /// Listens to what happens.
    pub(super) fn listen_to_events(&self) -> EventReceiver {
        self.events.listen()
    }

    /// Tells, and logs, that a version was published or waits.
    pub(super) fn tell_published(&self, answer: &Published) {
        let (id, cid) = (answer.id.clone(), answer.cid.clone());
        if answer.already_published {
            return;
        }
        if answer.queued {
            tracing::info!(id, "a version waits in the outbox");
            self.events.tell(self.now(), Happening::Queued { id });
            return;
        }
        tracing::info!(id, cid, sequence = answer.sequence, "published");
        self.events.tell(self.now(), Happening::Published { id, cid });
        self.events.catalogue_changed();
    }

    /// Tells, and logs, that a package was installed.
    pub(super) fn tell_installed(&self, answer: &Installed) {
        let (id, cid, path) = (answer.id.clone(), answer.cid.clone(), answer.path.clone());
        tracing::info!(id, cid, path, bytes_fetched = answer.bytes_fetched, "installed");
        for warning in &answer.warnings {
            tracing::info!(id, warning, "installed with a warning");
        }
        self.events.tell(self.now(), Happening::Installed { id, cid, path });
    }
}
