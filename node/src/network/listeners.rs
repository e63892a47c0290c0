//! The addresses that this node is to listen on, and those of them that it has to listen on again.
//!
//! A listener ends where its interface or its socket does. It is opened again, later each time that it fails. Pure: `now` is
//! an argument.

use std::time::Duration;

use libp2p::{Multiaddr, core::transport::ListenerId};
use tokio::time::Instant;

use crate::peers::Backoff;

/// How a listener is opened again: after a second at first, which an interface takes to come back.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// A listener.
#[derive(Debug)]
struct Open {
    id: ListenerId,
    address: Multiaddr,
    /// Whether it was bound to anything.
    is_bound: bool,
    failures: u32,
}

/// An address that is to be listened on again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) address: Multiaddr,
    pub(super) failures: u32,
    due: Instant,
}

/// The listeners of this node.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: Vec<Open>,
    lost: Vec<Lost>,
}

impl Listeners {
    /// Notes a listener; `failures` is how often it failed before in a row.
    pub(super) fn opened(&mut self, id: ListenerId, address: Multiaddr, failures: u32) {
        self.open.push(Open { id, address, is_bound: false, failures });
    }

    pub(super) fn bound(&mut self, id: ListenerId) {
        if let Some(listener) = self.open.iter_mut().find(|it| it.id == id) {
            listener.is_bound = true;
            listener.failures = 0;
        }
    }

    /// Notes that a listener ended. One that was never bound is the concern of whoever asked for it.
    pub(super) fn closed(&mut self, id: ListenerId, now: Instant) {
        let Some(at) = self.open.iter().position(|it| it.id == id) else { return };
        let Open { address, is_bound, failures, .. } = self.open.swap_remove(at);
        if is_bound || failures > 0 {
            self.failed(address, failures, now);
        }
    }

    /// Notes that an address could not be listened on again.
    pub(super) fn failed(&mut self, address: Multiaddr, failures: u32, now: Instant) {
        let failures = failures.saturating_add(1);
        self.lost.push(Lost { address, failures, due: now + AGAIN.ceiling(failures) });
    }

    /// Takes what is to be listened on now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Lost> {
        self.lost.extract_if(.., |lost| lost.due <= now).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_listener_that_closed_is_opened_again_and_later_each_time_it_fails() {
        let (mut listeners, mut now) = (Listeners::default(), Instant::now());
        let address: Multiaddr = "/ip4/203.0.113.1/tcp/4001".parse().unwrap();
        let id = ListenerId::next();
        listeners.opened(id, address.clone(), 0);
        listeners.bound(id);
        listeners.closed(id, now);
        for (failures, wait) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
            assert!(listeners.due(now + SECOND * wait - SECOND / 10).is_empty());
            now += SECOND * wait;
            let due = listeners.due(now);
            assert_eq!((due[0].failures, &due[0].address), (failures, &address));
            if failures % 2 == 0 {
                listeners.failed(address.clone(), failures, now);
            } else {
                let id = ListenerId::next();
                listeners.opened(id, address.clone(), failures);
                listeners.closed(id, now);
            }
        }
        let id = ListenerId::next();
        listeners.due(now + 60 * SECOND);
        listeners.opened(id, address, 9);
        listeners.bound(id);
        listeners.closed(id, now);
        assert_eq!(listeners.due(now + SECOND).len(), 1, "it was back");
    }

    #[test]
    fn what_was_never_bound_is_not_tried_again() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        let id = ListenerId::next();
        listeners.opened(id, Multiaddr::empty(), 0);
        listeners.closed(id, now);
        assert!(listeners.due(now + 60 * SECOND).is_empty());
    }
}
