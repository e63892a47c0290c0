//! One round of asking peers whether they get through to ports of this node.
//!
//! Some that this node dialled are asked, of different networks. Their word alone does not count; a peer that says that it got through
//! must have come, too. Pure. `I` is the id of what a peer was asked: an answer to something else says nothing of this.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::PeerId;

use super::{dial_back::Answer, router::Protocol};
use crate::{limits::DIALS_BACK_ASKED_MAX, network::diversity::Network, peers::Backoff};

/// After how long peers are asked again where nothing was learnt, or none got through.
pub(super) const AGAIN: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(1800));

/// How many networks say what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Votes {
    pub(super) yes: usize,
    pub(super) no: usize,
}

/// What peers say that were asked at once.
#[derive(Debug)]
pub(super) struct Round<I> {
    /// Who is asked, and has not answered.
    asked: BTreeMap<PeerId, (Network, I)>,
    /// Who of them came.
    came: BTreeSet<PeerId>,
    /// What a network says, of each protocol.
    voices: BTreeMap<(Protocol, Network), bool>,
}

impl<I: PartialEq> Round<I> {
    /// Asks peers, in this order, those of one network once; none where there is nobody to ask.
    pub(super) fn begin(peers: Vec<(PeerId, Network)>, mut ask: impl FnMut(&PeerId) -> I) -> Option<Self> {
        let mut networks = BTreeSet::new();
        let chosen = peers.into_iter().filter(|(_, network)| networks.insert(*network));
        let asked: BTreeMap<PeerId, (Network, I)> =
            chosen.take(DIALS_BACK_ASKED_MAX).map(|(peer, network)| (peer, (network, ask(&peer)))).collect();
        (!asked.is_empty()).then(|| Self { asked, came: BTreeSet::new(), voices: BTreeMap::new() })
    }

    /// Notes that a peer has connected by itself.
    pub(super) fn came(&mut self, peer: PeerId) {
        if self.asked.contains_key(&peer) {
            self.came.insert(peer);
        }
    }

    /// Notes the answer to what was asked under an id; nothing where there is none. Yields whether it was the last one.
    pub(super) fn answered(&mut self, peer: PeerId, id: I, answer: Option<Answer>) -> bool {
        if self.asked.get(&peer).is_none_or(|(_, asked)| *asked != id) {
            return false;
        }
        let Some((network, _)) = self.asked.remove(&peer) else { return false };
        let Answer { tcp, udp } = answer.unwrap_or_default();
        for (protocol, said) in [(Protocol::Tcp, tcp), (Protocol::Udp, udp)] {
            // Who says so without having come says nothing.
            if let Some(said) = said.filter(|said| !said || self.came.contains(&peer)) {
                self.voices.insert((protocol, network), said);
            }
        }
        self.asked.is_empty()
    }

    /// Whether nobody said anything.
    pub(super) fn is_silent(&self) -> bool {
        self.voices.is_empty()
    }

    /// What was said of a protocol.
    pub(super) fn votes(&self, of: Protocol) -> Votes {
        let voices = self.voices.iter().filter(|((protocol, _), _)| *protocol == of);
        let (yes, no): (Vec<_>, Vec<_>) = voices.partition(|(_, said)| **said);
        Votes { yes: yes.len(), no: no.len() }
    }
}
