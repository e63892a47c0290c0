//! Says that it speaks another major version of the protocols, and otherwise does nothing wrong: nobody stays connected with it.

use libp2p::PeerId;

use super::{Bite, Script, Stage};

/// What it says that it speaks.
pub(super) const VERSION: &str = "/ggen/2.0.0";

/// Counts who sends it away.
#[derive(Debug)]
pub(super) struct Stranger;

impl Script for Stranger {
    fn lost(&mut self, stage: &mut Stage, peer: PeerId) {
        stage.bit(Bite::SentAway, Some(peer));
    }
}
