//! Which outcomes of a fetch count against a peer.
//!
//! One pure function, so that the rule can be read and tested in one place: a peer is blamed only for what it provably
//! did, or for silence after it said it had the content.

use std::fmt;

/// How asking one peer for a package's blocks ended, short of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Attempt {
    /// It did not answer in time.
    Timeout,
    /// It sent bytes that do not match the hash asked for.
    BadBlock,
    /// It sent more bytes than the signed size, or than any block may have.
    SizeViolation,
    /// It broke the protocol in another way.
    ProtocolViolation,
    /// It said that it does not have the content.
    DontHave,
    /// It said that it is busy.
    Busy,
    /// The connection was lost or could not be made: the network's fault as likely as the peer's.
    Disconnected,
    /// The fetch was called off by this side: finished elsewhere, cancelled, or out of its own time budget.
    CalledOff,
}

/// What this side knows about its own part in the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circumstances {
    /// The peer announced the content, or answered that it has it.
    pub claimed: bool,
    /// This node is overloaded, or has lost all of its peers: silence proves nothing.
    pub overloaded: bool,
    /// This node is stopping.
    pub stopping: bool,
}

/// Why a failed retrieval counts against a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It claimed to have the content and stayed silent.
    Timeout,
    /// It sent bytes that do not match their hash.
    BadBlock,
    /// It sent more than the signed size.
    SizeViolation,
    /// It broke the protocol.
    ProtocolViolation,
}

impl Cause {
    /// The cause in one stable word, as it stands in a peer's history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::BadBlock => "bad_block",
            Self::SizeViolation => "size_violation",
            Self::ProtocolViolation => "protocol_violation",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides whether `attempt` is the peer's fault.
///
/// What a peer *sent* is its own whatever state this node is in. What it did *not* send counts only where it had claimed
/// the content and this node was able to listen.
pub fn blame(attempt: Attempt, circumstances: Circumstances) -> Option<Cause> {
    match attempt {
        Attempt::BadBlock => Some(Cause::BadBlock),
        Attempt::SizeViolation => Some(Cause::SizeViolation),
        Attempt::ProtocolViolation => Some(Cause::ProtocolViolation),
        Attempt::Timeout => {
            let Circumstances { claimed, overloaded, stopping } = circumstances;
            (claimed && !overloaded && !stopping).then_some(Cause::Timeout)
        }
        Attempt::DontHave | Attempt::Busy | Attempt::Disconnected | Attempt::CalledOff => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Circumstances = Circumstances { claimed: true, overloaded: false, stopping: false };

    fn all_circumstances() -> impl Iterator<Item = Circumstances> {
        (0..8u8).map(|bits| Circumstances {
            claimed: bits & 1 != 0,
            overloaded: bits & 2 != 0,
            stopping: bits & 4 != 0,
        })
    }

    #[test]
    fn silence_counts_only_after_a_claim_and_while_this_node_is_well() {
        for circumstances in all_circumstances() {
            let expected = (circumstances == WELL).then_some(Cause::Timeout);
            assert_eq!(blame(Attempt::Timeout, circumstances), expected, "{circumstances:?}");
        }
    }

    #[test]
    fn what_a_peer_sent_is_its_own_fault_always() {
        for circumstances in all_circumstances() {
            assert_eq!(blame(Attempt::BadBlock, circumstances), Some(Cause::BadBlock));
            assert_eq!(blame(Attempt::SizeViolation, circumstances), Some(Cause::SizeViolation));
            assert_eq!(blame(Attempt::ProtocolViolation, circumstances), Some(Cause::ProtocolViolation));
        }
    }

    #[test]
    fn honest_refusals_and_our_own_doing_cost_nothing() {
        for circumstances in all_circumstances() {
            for attempt in [Attempt::DontHave, Attempt::Busy, Attempt::Disconnected, Attempt::CalledOff] {
                assert_eq!(blame(attempt, circumstances), None, "{attempt:?} {circumstances:?}");
            }
        }
    }
}
