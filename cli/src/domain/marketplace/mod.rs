//! The noun group `marketplace`.

pub(crate) mod p2p;
pub(crate) mod p2p_state;

use clap::{Args, Subcommand};

use p2p::P2p;

/// `ggen marketplace`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Marketplace {
    #[command(subcommand)]
    noun: Noun,
}

/// What the marketplace consists of.
#[derive(Debug, Subcommand)]
enum Noun {
    /// The network of peers: run a node, publish, find and install packages.
    P2p(P2p),
}

impl Marketplace {
    pub(crate) fn p2p(&self) -> &P2p {
        let Noun::P2p(p2p) = &self.noun;
        p2p
    }

    pub(crate) fn into_p2p(self) -> P2p {
        let Noun::P2p(p2p) = self.noun;
        p2p
    }
}
