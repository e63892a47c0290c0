//! What happens to a node, told to those who listen.
//!
//! Each listener has a queue of [`EVENTS_QUEUED_MAX`]. Nobody waits for a slow one: what finds no room is left out, and the
//! listener is told how much that was.

use tokio::sync::broadcast;

use super::api::{Happening, NodeEvent};
use crate::{limits::EVENTS_QUEUED_MAX, time::Timestamp};

/// Where events are told.
#[derive(Debug, Clone)]
pub struct EventSender(broadcast::Sender<NodeEvent>);

/// The end of one listener.
#[derive(Debug)]
pub struct EventReceiver(broadcast::Receiver<NodeEvent>);

impl Default for EventSender {
    fn default() -> Self {
        Self(broadcast::channel(EVENTS_QUEUED_MAX).0)
    }
}

impl EventSender {
    /// Tells all listeners; never waits.
    pub fn tell(&self, now: Timestamp, what: Happening) {
        // Nobody listens: nothing to tell.
        let _ = self.0.send(NodeEvent { time: now.to_string(), what });
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Listens from now on.
    pub fn listen(&self) -> EventReceiver {
        EventReceiver(self.0.subscribe())
    }
}

impl EventReceiver {
    /// Waits for the next event; none once the node is gone.
    ///
    /// # Cancel safety
    /// Loses nothing when dropped.
    pub async fn next(&mut self, now: impl Fn() -> Timestamp) -> Option<NodeEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => {
                Some(NodeEvent { time: now().to_string(), what: Happening::Missed { events } })
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[tokio::test]
    async fn a_slow_listener_is_told_what_it_missed_and_holds_nobody_up() {
        let sender = EventSender::default();
        sender.tell(NOW, Happening::Alive);
        assert!(!sender.is_heard());
        let mut slow = sender.listen();
        let told = EVENTS_QUEUED_MAX as u64 + 7;
        for n in 0..told {
            sender.tell(NOW, Happening::Missed { events: 1_000 + n });
        }
        let first = slow.next(|| NOW).await.unwrap();
        let Happening::Missed { events: left_out } = first.what else { panic!("{first:?}") };
        assert!((7..told).contains(&left_out), "{left_out}");
        let mut heard = 0;
        while heard + left_out < told {
            let event = slow.next(|| NOW).await.unwrap();
            assert_eq!(event.what, Happening::Missed { events: 1_000 + left_out + heard }, "in order");
            heard += 1;
        }
        drop(sender);
        assert_eq!(slow.next(|| NOW).await, None);
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let event = NodeEvent {
            time: NOW.to_string(),
            what: Happening::Connected { peer_id: "12D3".to_owned(), address: None },
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], "connected");
        assert_eq!(json["peer_id"], "12D3");
        assert_eq!(serde_json::from_value::<NodeEvent>(json).unwrap(), event);
    }
}
