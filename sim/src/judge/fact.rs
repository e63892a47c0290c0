//! What the harness saw happen.

use ggen_marketplace::{content::ContentId, network::Load};

use crate::adversary::Bite;

/// Something that happened, as somebody knows it who has no part in the matter, or who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A node runs.
    Started {
        /// The node.
        node: usize,
    },
    /// A node does not run any more: it crashed, or left.
    Stopped {
        /// The node.
        node: usize,
    },
    /// A node has lost what it had written.
    Wiped {
        /// The node.
        node: usize,
    },
    /// A node's store was opened again, in files.
    Opened {
        /// The node.
        node: usize,
        /// What was found damaged.
        damage: Vec<String>,
        /// Temporary files that are there still.
        leftovers: Vec<String>,
    },
    /// What stands where a step was to install, after a power cut or at the end.
    Stands {
        /// The number of the step.
        step: usize,
        /// Where.
        node: usize,
        /// The digest of the files.
        tree: [u8; 32],
    },
    /// After an installation, staging folders stand beside it.
    Littered {
        /// Where.
        node: usize,
        /// How many.
        staged: usize,
    },
    /// Something breaks.
    FaultBegan,
    /// It is mended.
    FaultEnded,
    /// A step begins.
    StepBegan {
        /// Its number.
        step: usize,
        /// Where.
        node: usize,
    },
    /// A step ended, in whatever way.
    StepEnded {
        /// Its number.
        step: usize,
        /// Where.
        node: usize,
        /// Bytes that came over the network, where it installed something.
        fetched: Option<u64>,
        /// Whether it published something.
        is_publication: bool,
    },
    /// A node told its user that a package is published.
    Published {
        /// Where.
        node: usize,
        /// The package's full id.
        package: String,
        /// The version.
        version: String,
        /// The content id of its tree.
        root: ContentId,
    },
    /// A head is in the store of the node that made it.
    Signed {
        /// The node.
        node: usize,
        /// The package's full id.
        package: String,
        /// The digest of the head's bytes.
        digest: [u8; 32],
    },
    /// A folder was installed.
    Installed {
        /// The number of the step.
        step: usize,
        /// Where.
        node: usize,
        /// The content id that the node names.
        root: ContentId,
        /// The digest of the files as they stand on the disk.
        tree: [u8; 32],
    },
    /// A package was looked up in the DHT.
    LookedUp {
        /// The number of the step.
        step: usize,
        /// Where.
        node: usize,
        /// The package's full id.
        package: String,
        /// How far it had come, as the head says that was found.
        sequence: u64,
    },
    /// A node sent verified blocks, as it says itself.
    Served {
        /// The one that sent.
        node: usize,
        /// The one that asked.
        to: usize,
        /// Bytes of blocks.
        bytes: u64,
    },
    /// A node put another one into its routing table.
    Routed {
        /// Whose table it is.
        node: usize,
        /// Who is in it.
        peer: usize,
    },
    /// An adversary did something, as it says itself.
    Bit {
        /// The adversary.
        node: usize,
        /// What.
        bite: Bite,
        /// To whom, where that is one node.
        victim: Option<usize>,
    },
    /// An announcement that an adversary forged reached a node.
    Forged {
        /// The one that got it.
        node: usize,
        /// The one that passed it on.
        from: Option<usize>,
        /// Whether it was taken.
        is_taken: bool,
    },
    /// An adversary's announcement of a state that a newer one had followed was taken, and passed on.
    Outdated {
        /// The one that took it.
        node: usize,
        /// The package's full id.
        package: String,
        /// The sequence of that state.
        sequence: u64,
    },
    /// An adversary published a package that is valid: it may be listed, and nobody has to.
    Worthless {
        /// Its full id.
        package: String,
    },
    /// Byte streams that a node has had for so long that their handshakes are over, as its transport counts them.
    Streams {
        /// The node.
        node: usize,
        /// How many.
        lasting: usize,
    },
    /// What a node's loop holds.
    Loaded {
        /// The node.
        node: usize,
        /// How much.
        load: Load,
    },
}
