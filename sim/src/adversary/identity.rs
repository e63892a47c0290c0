//! Says who it is, again and again, each time with another address: every word is valid, and costs whoever looks at it.

use libp2p::{Multiaddr, PeerId};

use super::{Bite, Script, Stage, TURN};
use crate::scenario::Flood;

/// Words to one peer that are in progress at once: more than these libp2p does not send.
const AT_ONCE: usize = 8;

/// Pushes what it says as fast as it is taken.
#[derive(Debug)]
pub(super) struct Introducing {
    flood: Flood,
    said: u32,
    address: Option<Multiaddr>,
}

impl Introducing {
    pub(super) fn new(flood: Flood) -> Self {
        Self { flood, said: 0, address: None }
    }

    fn is_over(&self, stage: &Stage) -> bool {
        TURN * u32::try_from(stage.turns).unwrap_or(u32::MAX) >= self.flood.lasts
    }

    /// Has another address from now on.
    fn move_on(&mut self, stage: &mut Stage) {
        self.said += 1;
        let [a, b, c, d] = self.said.to_be_bytes();
        let next: Multiaddr =
            format!("/ip4/10.{}.{c}.{d}/tcp/4001", 100 + (a ^ b) % 100).parse().expect("an address");
        if let Some(before) = self.address.replace(next.clone()) {
            stage.swarm.remove_external_address(&before);
        }
        stage.swarm.add_external_address(next);
    }
}

impl Script for Introducing {
    fn turn(&mut self, stage: &mut Stage) {
        if self.is_over(stage) {
            return;
        }
        self.move_on(stage);
        let peers: Vec<PeerId> = stage.swarm.connected_peers().copied().collect();
        for _ in 0..AT_ONCE {
            stage.swarm.behaviour_mut().identify.push(peers.iter().copied());
        }
    }

    fn pushed(&mut self, stage: &mut Stage, peer: PeerId) {
        stage.bit(Bite::Flooded, Some(peer));
        if !self.is_over(stage) {
            self.move_on(stage);
            stage.swarm.behaviour_mut().identify.push([peer]);
        }
    }
}
