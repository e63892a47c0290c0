//! Relays for everybody, as it says: it takes them in, tells them that it is at an address where nobody is, connects others with them,
//! and ends each connection at its first byte.

use libp2p::{PeerId, relay};

use super::{Bite, Script, Stage};

/// Where it says that it is.
pub(super) const ELSEWHERE: &str = "/ip4/203.0.113.250/tcp/9";

/// The relay, which carries less than the first message of a handshake.
pub(super) fn relay(own: PeerId) -> relay::Behaviour {
    relay::Behaviour::new(own, relay::Config { max_circuit_bytes: 1, ..relay::Config::default() })
}

/// Counts whom it disconnects.
#[derive(Debug)]
pub(super) struct FalseRelay;

impl Script for FalseRelay {
    fn relayed(&mut self, stage: &mut Stage, peer: PeerId) {
        stage.bit(Bite::Disconnected, Some(peer));
    }
}
