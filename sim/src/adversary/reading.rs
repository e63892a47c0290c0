//! Reads the catalogues of others from the beginning, again and again: each request is valid, and costs whoever answers it.

use ggen_marketplace::sync::protocol::{Position, Request};
use libp2p::PeerId;

use super::{Bite, Script, Stage, TURN, encoded};
use crate::scenario::Flood;

/// Requests to one peer that are in progress at once: what a node answers where it has plenty of room.
const AT_ONCE: usize = 6;

/// Asks every peer for the next page as soon as it has one.
#[derive(Debug)]
pub(super) struct Reading {
    flood: Flood,
}

impl Reading {
    pub(super) fn new(flood: Flood) -> Self {
        Self { flood }
    }

    fn is_over(&self, stage: &Stage) -> bool {
        TURN * u32::try_from(stage.turns).unwrap_or(u32::MAX) >= self.flood.lasts
    }

    fn ask(stage: &mut Stage, peer: PeerId) {
        let request = encoded(&Request::Page(Position::default(), u32::MAX));
        stage.swarm.behaviour_mut().heads.send_request(&peer, request);
        stage.bit(Bite::Flooded, Some(peer));
    }
}

impl Script for Reading {
    fn turn(&mut self, stage: &mut Stage) {
        // Those that it met meanwhile, and whoever did not answer.
        if self.is_over(stage) || !stage.turns.is_multiple_of(10) {
            return;
        }
        let peers: Vec<PeerId> = stage.swarm.connected_peers().copied().collect();
        for peer in peers {
            (0..AT_ONCE).for_each(|_| Self::ask(stage, peer));
        }
    }

    fn read(&mut self, stage: &mut Stage, peer: PeerId) {
        if !self.is_over(stage) {
            Self::ask(stage, peer);
        }
    }
}
