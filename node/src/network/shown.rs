//! Whether a peer had by itself what this node has: that the folder of this node is not an old copy of itself is known then.

use std::collections::BTreeSet;

use libp2p::PeerId;

/// Peers noted that this node gave heads to. Where there are more, nobody's listing says anything any more.
const GIVEN_MAX: usize = 1_024;

/// What peers showed of what is here, before they can have had it of this node.
#[derive(Debug, Default)]
pub(super) struct Shown {
    is_shown: bool,
    /// Whether this node has told many of something since it runs: what they have then may be from here.
    has_told: bool,
    /// The peers that it gave heads to.
    given: BTreeSet<PeerId>,
}

impl Shown {
    /// Notes that a peer has all that is here.
    pub(super) fn has_all(&mut self, peer: &PeerId) {
        self.is_shown |= !self.has_told && !self.given.contains(peer);
    }

    /// Notes that a peer was given heads that it asked for.
    pub(super) fn gave(&mut self, peer: PeerId) {
        if self.is_shown || self.has_told {
            return;
        }
        self.has_told |= self.given.len() >= GIVEN_MAX;
        self.given.insert(peer);
    }

    /// Notes that this node told of heads, and nobody knows whom they reached.
    pub(super) fn told(&mut self) {
        self.has_told = true;
        self.given.clear();
    }

    /// Whether a peer had by itself all that was here when it was compared with.
    pub(super) fn is_shown(&self) -> bool {
        self.is_shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_peer_has_by_itself_shows_anything() {
        let (first, second) = (PeerId::random(), PeerId::random());
        let mut shown = Shown::default();
        shown.gave(first);
        shown.has_all(&first);
        assert!(!shown.is_shown(), "it has it from here");
        shown.has_all(&second);
        assert!(shown.is_shown());
        shown.told();
        assert!(shown.is_shown(), "what was shown before stays so");

        let mut shown = Shown::default();
        shown.told();
        shown.has_all(&second);
        assert!(!shown.is_shown(), "it may have it from somebody who heard of it from here");
        let mut shown = Shown::default();
        (0..=GIVEN_MAX).for_each(|_| shown.gave(PeerId::random()));
        shown.has_all(&second);
        assert!(!shown.is_shown());
    }
}
