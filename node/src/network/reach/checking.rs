//! Whether addresses still lead to this node to which nobody came for a while.
//!
//! Peers are asked to connect there, as for a port that the router maps ([`mapping`](super::mapping)). That those get through whom this
//! node dialled proves nothing, at some NATs; so what strangers have proved goes on by it, and nothing new is proved. It ends where
//! peers of two networks do not get through, and fewer do. One peer alone may have troubles of its own. Pure: `now` is an argument.

use libp2p::{Multiaddr, PeerId, multiaddr};
use tokio::time::Instant;

use super::{
    dial_back::{Answer, Ask, PORT_MIN},
    proofs::STRANGERS_MIN,
    round::{AGAIN, Round, Votes},
    router::Protocol,
    standing::Ports,
};
use crate::network::{diversity::Network, peers::ip_of};

/// A port of an address that others can be asked to try, and whether that is over TCP or QUIC.
fn port_of(address: &Multiaddr) -> Option<(Protocol, u16)> {
    let mut parts = address.iter();
    let (protocol, port) = match (parts.next()?, parts.next()?) {
        (multiaddr::Protocol::Ip4(_), multiaddr::Protocol::Tcp(port)) => (Protocol::Tcp, port),
        (multiaddr::Protocol::Ip4(_), multiaddr::Protocol::Udp(port)) => (Protocol::Udp, port),
        _ => return None,
    };
    (port >= PORT_MIN).then_some((protocol, port))
}

/// The addresses of which peers are asked, and what they say.
#[derive(Debug)]
pub(super) struct Checking<I> {
    round: Option<Round<I>>,
    /// The addresses that are tried: of one machine, at most one for each protocol.
    tried: Vec<(Protocol, Multiaddr)>,
    /// Rounds in a row in which nothing was learnt.
    failures: u32,
    due: Option<Instant>,
}

impl<I> Default for Checking<I> {
    fn default() -> Self {
        Self { round: None, tried: Vec::new(), failures: 0, due: None }
    }
}

impl<I: PartialEq> Checking<I> {
    /// Forgets who is asked: this machine is somewhere else.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether peers are to be asked now of some of these addresses.
    pub(super) fn is_due(&self, unvisited: &[Multiaddr], now: Instant) -> bool {
        let may_ask = self.round.is_none() && self.due.is_none_or(|due| due <= now);
        may_ask && unvisited.iter().any(|address| port_of(address).is_some())
    }

    /// Asks peers that this node dialled whether they get through to the first of these addresses.
    pub(super) fn ask(
        &mut self,
        unvisited: Vec<Multiaddr>,
        peers: Vec<(PeerId, Network)>,
        mut send: impl FnMut(&PeerId, Ask) -> I,
        now: Instant,
    ) {
        self.tried.clear();
        let mut ports = Ports::default();
        for address in unvisited {
            let Some((protocol, port)) = port_of(&address) else { continue };
            // Peers dial this node where they see it.
            if self.tried.first().is_some_and(|(_, first)| ip_of(first) != ip_of(&address)) {
                continue;
            }
            let asked = match protocol {
                Protocol::Tcp => &mut ports.tcp,
                Protocol::Udp => &mut ports.udp,
            };
            if asked.is_none() {
                *asked = Some(port);
                self.tried.push((protocol, address));
            }
        }
        let Ports { tcp, udp } = ports;
        self.round = Round::begin(peers, |peer| send(peer, Ask { tcp, udp, relay: None }));
        if self.round.is_none() {
            self.nothing_learnt(now);
        }
    }

    /// Notes that a peer has connected by itself.
    pub(super) fn came(&mut self, peer: PeerId) {
        if let Some(round) = &mut self.round {
            round.came(peer);
        }
    }

    /// Notes what a peer says; nothing where it does not answer. Yields which addresses lead here and which do not, once that is known.
    pub(super) fn answered(
        &mut self,
        peer: PeerId,
        id: &I,
        answer: Option<Answer>,
        now: Instant,
    ) -> Vec<(Multiaddr, bool)> {
        let Some(round) = self.round.as_mut() else { return Vec::new() };
        if !round.answered(peer, id, answer) {
            return Vec::new();
        }
        let Some(round) = self.round.take() else { return Vec::new() };
        let tried = std::mem::take(&mut self.tried);
        let count = tried.len();
        let decided = tried.into_iter().filter_map(|(protocol, address)| {
            let Votes { yes, no } = round.votes(protocol);
            let ends = no > yes && no >= STRANGERS_MIN;
            (ends || (yes > 0 && yes >= no)).then_some((address, !ends))
        });
        let decided: Vec<_> = decided.collect();
        if decided.len() < count {
            self.nothing_learnt(now);
        } else {
            (self.failures, self.due) = (0, None);
        }
        decided
    }

    fn nothing_learnt(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + AGAIN.ceiling(self.failures));
    }
}

#[cfg(test)]
#[path = "checking_tests.rs"]
mod tests;
