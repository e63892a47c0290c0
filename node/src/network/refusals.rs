//! Whom this node refuses, and why, for the loop and for `peer-list`.

use std::collections::VecDeque;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{blocked::Blocked, snapshot::Refused};
use crate::time::Timestamp;

/// Refused peers that are remembered for `peer-list`.
const REFUSED_MAX: usize = 64;

/// The peers that are refused now, and those that were lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    blocked: Blocked,
    lately: VecDeque<Refused>,
}

impl Refusals {
    /// Notes that a peer is refused from now on; gives the one that no longer is, where there are too many.
    pub(super) fn add(
        &mut self,
        peer: PeerId,
        reason: String,
        is_asked: bool,
        now: Instant,
        at: Timestamp,
    ) -> Option<PeerId> {
        self.remember(peer, reason, at);
        self.blocked.add(peer, is_asked, now)
    }

    /// Notes that a peer was refused once.
    pub(super) fn remember(&mut self, peer: PeerId, reason: String, at: Timestamp) {
        self.lately.retain(|refused| refused.peer != peer);
        self.lately.push_back(Refused { peer, reason, at });
        if self.lately.len() > REFUSED_MAX {
            self.lately.pop_front();
        }
    }

    /// Notes that a peer is welcome again.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.blocked.remove(peer);
    }

    /// Takes those that are no longer refused.
    pub(super) fn ended(&mut self, now: Instant) -> Vec<PeerId> {
        self.blocked.ended(now)
    }

    /// Who was refused lately, the latest last.
    pub(super) fn lately(&self) -> Vec<Refused> {
        self.lately.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_refused_is_remembered_once_with_the_last_reason_and_within_bounds() {
        let (mut refusals, now, at) = (Refusals::default(), Instant::now(), Timestamp::from_secs(1));
        let peer = PeerId::random();
        refusals.add(peer, "one".to_owned(), false, now, at);
        refusals.remember(PeerId::random(), "another".to_owned(), at);
        refusals.remember(peer, "two".to_owned(), at);
        let reasons: Vec<String> = refusals.lately().into_iter().map(|it| it.reason).collect();
        assert_eq!(reasons, ["another", "two"]);
        (0..2 * REFUSED_MAX).for_each(|_| refusals.remember(PeerId::random(), String::new(), at));
        assert_eq!(refusals.lately().len(), REFUSED_MAX);
    }
}
