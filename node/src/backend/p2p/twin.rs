//! Another node that runs with the key of this one, such as a copy of its state folder.
//!
//! Both have the same publisher keys and the same logs. Where both publish at the same moment, each signs the same place of a log, and
//! peers treat it as double signing. So nothing is added to a log while another such node is known to run: what is published waits in the
//! outbox, unsigned. Only a node that has the key can be taken for one, so that no other peer can hold anything up.
//!
//! Both hear of each other from the same third node, and cease to hear of each other at the same moment. So the two do not go on
//! at the same moment: the one whose run has the lower number is first, and the other one sees what it published.
//!
//! A copy of a folder whose node runs remembers the run of that node as one before its own. Where a peer tells of such a run, it has
//! ended, and its connection is not dead yet, or it goes on and shows that within seconds: until then nothing is signed either.
//!
//! Pure: the clock is an argument.

use std::time::Duration;

use libp2p::PeerId;

use crate::{code::Code, control::api::Failure, limits::RUN_UNSETTLED};

/// How long nobody may have told of the other node before it counts as gone. While it runs, peers are asked every quarter of a
/// minute.
const GONE_AFTER: Duration = Duration::from_secs(3 * 60);
/// How much longer the second of two nodes waits: until what the first one signs has come to it.
const BEHIND: Duration = Duration::from_secs(60);

/// What peers told of another node with the key of this one.
#[derive(Debug, Default)]
pub(super) struct Twin {
    last: Option<Told>,
    /// Until when it is not known whether an earlier run of this node has ended.
    unsettled: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    by: PeerId,
    /// On the running clock of this node.
    at: Duration,
    is_first: bool,
}

impl Told {
    fn counts_until(&self) -> Duration {
        self.at + GONE_AFTER + if self.is_first { BEHIND } else { Duration::ZERO }
    }
}

impl Twin {
    /// Notes that a peer is connected with such a node; `is_first` where that one goes on before this one.
    pub(super) fn note(&mut self, by: PeerId, is_first: bool, running: Duration) {
        // Of several, this node goes on behind each that is before it.
        let was_first =
            self.last.is_some_and(|told| told.is_first && running < told.at.saturating_add(BEHIND));
        self.last = Some(Told { by, at: running, is_first: is_first || was_first });
    }

    /// Notes that a peer told of an earlier run of this node.
    pub(super) fn note_earlier(&mut self, running: Duration) {
        self.unsettled = Some(running + RUN_UNSETTLED);
    }

    /// Who told of it, and how long ago, where it may still run.
    fn told(&self, running: Duration) -> Option<(PeerId, Duration)> {
        let told = self.last.filter(|told| running < told.counts_until())?;
        Some((told.by, running.saturating_sub(told.at)))
    }

    /// Whether this node is the only one with its key, as far as anybody has told.
    ///
    /// # Errors
    /// [`Code::NodeKey`] where another one runs.
    pub(super) fn check(&self, running: Duration) -> Result<(), Failure> {
        if self.told(running).is_none() {
            return self.check_settled(running);
        }
        let what = "Another node runs with the key of this one, such as a copy of this state folder. Where both sign, the package is \
                    frozen; so nothing is signed.";
        let hint = "Stop one of the two: ggen marketplace p2p stop. What waits here is published by itself a few minutes later, or at once \
                    where this node is started again.";
        Err(Failure { retryable: true, ..Failure::new(Code::NodeKey, what, hint) })
    }

    fn check_settled(&self, running: Duration) -> Result<(), Failure> {
        if self.unsettled.is_none_or(|until| until <= running) {
            return Ok(());
        }
        let what = "Another node may run with the key of this one: a peer knows an earlier run of it, which has ended, or goes on where \
                    this state folder is a copy. So nothing is signed yet.";
        let hint = "It is known in a few seconds, and what waits here is published by itself then.";
        Err(Failure { retryable: true, ..Failure::new(Code::NodeKey, what, hint) })
    }

    /// What `status` warns of.
    pub(super) fn warning(&self, running: Duration) -> Option<String> {
        let (by, ago) = self.told(running)?;
        let minutes = ago.as_secs() / 60;
        Some(format!(
            "another node runs with the key of this one, such as a copy of this state folder: peer {by} was connected with \
             both {minutes} min ago. Neither is reached reliably, and nothing is published: stop one, or give it a key of its own: \
             ggen marketplace p2p stop, then: ggen marketplace p2p key new --node --replace"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    #[test]
    fn nothing_is_signed_while_another_node_has_the_key_and_the_two_never_go_on_together() {
        let peer = PeerId::random();
        let [mut first, mut second] = [Twin::default(), Twin::default()];
        assert!(first.check(START).is_ok() && first.warning(START).is_none());
        first.note(peer, false, START);
        second.note(peer, true, START);
        for twin in [&first, &second] {
            let held = twin.check(START + GONE_AFTER / 2).unwrap_err();
            assert_eq!((held.code, held.retryable), (Code::NodeKey, true));
            assert!(twin.warning(START).is_some_and(|it| it.contains(&peer.to_string())));
        }
        let (gone, second_gone) = (START + GONE_AFTER, START + GONE_AFTER + BEHIND);
        assert!(first.check(gone).is_ok(), "it was told of long enough ago");
        assert!(second.check(second_gone - Duration::from_secs(1)).is_err(), "the other one goes on first");
        assert!(second.check(second_gone).is_ok() && second.warning(second_gone).is_none());
        // It is told of again: it counts from then on.
        first.note(peer, false, gone);
        assert!(first.check(gone + GONE_AFTER / 2).is_err());
    }

    #[test]
    fn nothing_is_signed_until_an_earlier_run_is_known_to_have_ended() {
        let mut twin = Twin::default();
        twin.note_earlier(START);
        let held = twin.check(START + RUN_UNSETTLED / 2).unwrap_err();
        assert_eq!((held.code, held.retryable), (Code::NodeKey, true));
        assert!(twin.warning(START + RUN_UNSETTLED / 2).is_none(), "there may be none");
        assert!(twin.check(START + RUN_UNSETTLED).is_ok());
        // It goes on.
        twin.note(PeerId::random(), false, START + RUN_UNSETTLED / 2);
        assert!(twin.check(START + RUN_UNSETTLED).is_err());
    }

    #[test]
    fn the_last_of_three_waits_longer_whoever_is_told_of_last() {
        let (mut last, peer) = (Twin::default(), PeerId::random());
        last.note(peer, true, START);
        last.note(peer, false, START);
        assert!(last.check(START + GONE_AFTER).is_err());
        assert!(last.check(START + GONE_AFTER + BEHIND).is_ok());
    }
}
