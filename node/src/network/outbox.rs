//! What the loop has to tell the bookkeeping, and who watches it.
//!
//! The queue has a bound. Most of what finds no room in it comes again by itself; what does not is told later.

use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::mpsc;

use super::{Event, Observer};

/// The way to the bookkeeping, and what it is still owed.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Who watches this node.
    pub(super) observer: Observer,
    events: mpsc::Sender<Event>,
    owes_audience: bool,
    /// Of those that are back, who was away for longest: it missed what all others did.
    owes_reunited: Option<(PeerId, Duration)>,
}

impl Outbox {
    pub(super) fn new(events: mpsc::Sender<Event>, observer: Observer) -> Self {
        Self { observer, events, owes_audience: false, owes_reunited: None }
    }

    /// Tells of an event, now or, where it does not come again, as soon as there is room; says whether it is told.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        self.observer.tell(&event);
        self.post(event)
    }

    fn post(&mut self, event: Event) -> bool {
        let event = match self.events.try_send(event) {
            Ok(()) => return true,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
            Err(mpsc::error::TrySendError::Full(event)) => event,
        };
        match event {
            Event::Audience => {
                self.owes_audience = true;
                return true;
            }
            Event::Reunited { peer, away } => {
                if self.owes_reunited.is_none_or(|(_, longest)| longest < away) {
                    self.owes_reunited = Some((peer, away));
                }
                return true;
            }
            _ => tracing::debug!("an event found no room in the queue of the bookkeeping"),
        }
        false
    }

    /// Tells what is owed.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.owes_audience) {
            self.post(Event::Audience);
        }
        if let Some((peer, away)) = self.owes_reunited.take() {
            self.post(Event::Reunited { peer, away });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_again_is_told_later() {
        let (sender, mut events) = mpsc::channel(2);
        let mut outbox = Outbox::new(sender, Observer::default());
        let peer = PeerId::random();
        let told = (0..5).filter(|_| outbox.tell(Event::Seen { peer })).count();
        assert_eq!(told, 2);
        outbox.tell(Event::Audience);
        for secs in [5, 7, 6] {
            outbox.tell(Event::Reunited { peer, away: Duration::from_secs(secs) });
        }
        outbox.settle();
        while let Ok(event) = events.try_recv() {
            assert!(matches!(event, Event::Seen { .. }), "{event:?}");
        }
        outbox.settle();
        assert!(matches!(events.try_recv(), Ok(Event::Audience)));
        let away = Duration::from_secs(7);
        assert!(matches!(events.try_recv(), Ok(Event::Reunited { away: longest, .. }) if longest == away));
        outbox.settle();
        assert!(events.try_recv().is_err(), "once");
    }
}
