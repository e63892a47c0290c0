//! Heads that came by gossip or as records of the DHT, on their way through the one judgement and into the catalogue.
//!
//! What came waits here until it is verified and judged beside the loop, and what the catalogue takes waits again until it is
//! written. Both are bounded, and of each one batch is in progress at a time, so that heads are taken in the order in which they came.

use std::collections::VecDeque;

use libp2p::{PeerId, gossipsub::MessageId, kad::Record};

use crate::{
    catalog::{self, Source},
    heads::{self, Blame, Door, Forward, Verdict},
    limits::{HEADS_JUDGED_AT_ONCE_MAX, HEADS_QUEUED_MAX, HEADS_WRITTEN_AT_ONCE_MAX},
    release::{
        self, VerifiedConfirmation, VerifiedHead,
        choice::{Choice, compare},
        confirmation,
    },
    store::{self, Store},
    sync::{self, Verified},
    time::Timestamp,
};

/// A head that came, and what is needed to answer for it.
#[derive(Debug)]
pub(super) struct Offered {
    /// The peer that brought it.
    pub(super) from: PeerId,
    /// The head, as it came.
    pub(super) bytes: Vec<u8>,
    pub(super) way: Way,
}

/// How a head came.
#[derive(Debug)]
pub(super) enum Way {
    /// A neighbour announced it.
    Gossip { id: MessageId, author: Option<PeerId>, digest: [u8; 32] },
    /// A peer stores it here.
    Record {
        record: Record,
        /// What was held under its key when it came.
        held: Option<Vec<u8>>,
    },
}

impl Offered {
    pub(super) fn door(&self) -> Door {
        match self.way {
            Way::Gossip { .. } => Door::Gossip,
            Way::Record { .. } => Door::Record,
        }
    }
}

/// What was found out about one of the heads that came.
#[derive(Debug)]
pub(super) enum Judged {
    Head {
        head: Box<VerifiedHead>,
        verdict: Verdict,
        /// The head that is listed, where others are to be told of both.
        listed: Option<Box<VerifiedHead>>,
    },
    /// It is a confirmation: whether gossip passes it on, and whether it is kept as a record.
    Confirmation { pass_on: bool, keep_record: bool },
    /// It is no genuine head.
    NoHead(Blame, release::Error),
}

/// The heads that wait.
#[derive(Debug, Default)]
pub(super) struct Intake {
    offered: VecDeque<Offered>,
    is_judging: bool,
    accepted: VecDeque<(Source, VerifiedHead)>,
    is_writing: bool,
    /// Heads that were refused since the start, whichever way they came.
    refused: u64,
}

impl Intake {
    /// Heads that wait to be judged or written.
    pub(super) fn len(&self) -> usize {
        self.offered.len() + self.accepted.len()
    }

    /// Counts heads that were refused.
    pub(super) fn count_refused(&mut self, heads: usize) {
        self.refused = self.refused.saturating_add(heads as u64);
    }

    /// Heads that were refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds a head to those that wait to be judged; gives it back where there is no room.
    pub(super) fn offer(&mut self, offered: Offered) -> Option<Offered> {
        if self.offered.len() >= HEADS_QUEUED_MAX {
            return Some(offered);
        }
        self.offered.push_back(offered);
        None
    }

    /// The heads to judge next, where none are being judged.
    pub(super) fn begin_judging(&mut self) -> Option<Vec<Offered>> {
        if self.is_judging || self.offered.is_empty() {
            return None;
        }
        self.is_judging = true;
        Some(self.offered.drain(..self.offered.len().min(HEADS_JUDGED_AT_ONCE_MAX)).collect())
    }

    /// Notes that the heads that were being judged are.
    pub(super) fn end_judging(&mut self) {
        self.is_judging = false;
    }

    /// Adds a head to those that wait to be written; false where there is no room.
    pub(super) fn accept(&mut self, source: Source, head: VerifiedHead) -> bool {
        let has_room = self.accepted.len() < HEADS_QUEUED_MAX;
        if has_room {
            self.accepted.push_back((source, head));
        }
        has_room
    }

    /// The heads to write next, where none are being written.
    pub(super) fn begin_writing(&mut self) -> Option<Vec<(Source, VerifiedHead)>> {
        if self.is_writing || self.accepted.is_empty() {
            return None;
        }
        self.is_writing = true;
        Some(self.accepted.drain(..self.accepted.len().min(HEADS_WRITTEN_AT_ONCE_MAX)).collect())
    }

    /// Notes that the heads that were being written are.
    pub(super) fn end_writing(&mut self) {
        self.is_writing = false;
    }
}

/// Verifies heads that came and judges them by what the catalogue knows; runs beside the loop.
///
/// # Errors
/// Where the database fails.
pub(super) fn judge(
    store: &Store,
    verified: &Verified,
    offered: &[Offered],
    now: Timestamp,
) -> Result<Vec<Judged>, store::Error> {
    offered.iter().map(|offered| judge_one(store, verified, offered, now)).collect()
}

fn judge_one(
    store: &Store,
    verified: &Verified,
    offered: &Offered,
    now: Timestamp,
) -> Result<Judged, store::Error> {
    let door = offered.door();
    if confirmation::is_likely(&offered.bytes) {
        return judge_confirmation(store, offered, now);
    }
    let head = VerifiedHead::verify_stored(&offered.bytes).and_then(|head| match &offered.way {
        Way::Record { record, .. } if record.key.as_ref() != head.dht_key() => Err(release::Error::Key),
        _ => Ok(head),
    });
    let head = match head {
        Ok(head) => head,
        Err(error) => return Ok(Judged::NoHead(heads::blame(door, &error), error)),
    };
    verified.note(head.bytes());
    let known = store.read(|conn| Ok(catalog::known(conn, &head.package_id())?))?;
    let mut verdict = heads::offer(door, &head, &known, now);
    verified.ahead().heard(&head, verdict.standing);
    if let Way::Record { held: Some(held), .. } = &offered.way {
        let is_newer =
            VerifiedHead::verify_stored(held).map_or(true, |held| compare(&held, &head) == Choice::Second);
        verdict.keep_record &= is_newer;
    }
    let listed = known.against(&head).filter(|_| verdict.forward == Forward::Both);
    let listed = listed.cloned().map(Box::new);
    Ok(Judged::Head { head: Box::new(head), verdict, listed })
}

/// Verifies a confirmation that came, and takes it where it is newer.
fn judge_confirmation(store: &Store, offered: &Offered, now: Timestamp) -> Result<Judged, store::Error> {
    let door = offered.door();
    let read = VerifiedConfirmation::verify(&offered.bytes, now).and_then(|read| match &offered.way {
        Way::Record { record, .. } if record.key.as_ref() != read.dht_key() => Err(release::Error::Key),
        _ => Ok(read),
    });
    let read = match read {
        Ok(read) => read,
        // Clocks differ.
        Err(release::Error::Early { .. }) => {
            return Ok(Judged::Confirmation { pass_on: false, keep_record: false });
        }
        Err(error) => return Ok(Judged::NoHead(heads::blame(door, &error), error)),
    };
    let confirming = sync::confirm(store, door, &read)?;
    let keep_record = match &offered.way {
        Way::Gossip { .. } => false,
        Way::Record { held: None, .. } => true,
        Way::Record { held: Some(held), .. } => {
            let held = VerifiedConfirmation::verify_stored(held).ok();
            confirmation::judge(&read, held.as_ref()).is_kept()
        }
    };
    let keep_record = keep_record && !confirming.is_refused();
    Ok(Judged::Confirmation { pass_on: confirming.is_passed_on(), keep_record })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{
        Confirmation,
        confirmation::Heads,
        fixture::{DAY, NOW, head, publisher, rotated},
    };

    fn announced(head: &VerifiedHead) -> Offered {
        let way = Way::Gossip { id: MessageId::new(b"1"), author: None, digest: [0; 32] };
        Offered { from: PeerId::random(), bytes: head.bytes().to_vec(), way }
    }

    fn stored(head: &VerifiedHead, key: &[u8], held: Option<&VerifiedHead>) -> Offered {
        let record = Record::new(key.to_vec(), head.bytes().to_vec());
        let held = held.map(|held| held.bytes().to_vec());
        Offered { from: PeerId::random(), bytes: head.bytes().to_vec(), way: Way::Record { record, held } }
    }

    fn one(store: &Store, offered: Offered) -> Judged {
        judge(store, &Verified::default(), &[offered], NOW).unwrap().pop().unwrap()
    }

    fn verdict(judged: &Judged) -> Verdict {
        let Judged::Head { verdict, .. } = judged else { panic!("no head: {judged:?}") };
        *verdict
    }

    #[test]
    fn heads_are_judged_and_written_in_order_one_batch_at_a_time_within_bounds() {
        let (mut intake, publisher) = (Intake::default(), publisher(1));
        let head = head(&publisher, &["1.0.0"]);
        let taken = (0..HEADS_QUEUED_MAX + 9).filter(|_| intake.offer(announced(&head)).is_none()).count();
        assert_eq!(taken, HEADS_QUEUED_MAX);
        assert_eq!(intake.begin_judging().map(|batch| batch.len()), Some(HEADS_JUDGED_AT_ONCE_MAX));
        assert!(intake.begin_judging().is_none(), "one batch is being judged");
        intake.end_judging();
        assert!(intake.begin_judging().is_some());
        let mut intake = Intake::default();
        let taken = (0..HEADS_QUEUED_MAX + 9).filter(|_| intake.accept(Source::unknown(), head.clone()));
        assert_eq!(taken.count(), HEADS_QUEUED_MAX);
        assert_eq!(intake.begin_writing().map(|batch| batch.len()), Some(HEADS_WRITTEN_AT_ONCE_MAX));
        assert!(intake.begin_writing().is_none() && intake.begin_judging().is_none());
        intake.end_writing();
        assert!(intake.begin_writing().is_some());
        assert_eq!(intake.len(), HEADS_QUEUED_MAX - 2 * HEADS_WRITTEN_AT_ONCE_MAX);
    }

    #[test]
    fn an_announcement_that_contradicts_what_is_listed_comes_with_the_other_one() {
        let (store, publisher) = (Store::in_memory().unwrap(), publisher(1));
        let (first, second) = (head(&publisher, &["1.0.0"]), head(&publisher, &["2.0.0"]));
        let judged = one(&store, announced(&first));
        assert!(verdict(&judged).list && matches!(judged, Judged::Head { listed: None, .. }));
        sync::write(&store, &[(Source::unknown(), first.clone())], NOW).unwrap();
        let judged = one(&store, announced(&second));
        let Judged::Head { verdict, listed, .. } = &judged else { panic!("no head") };
        assert!(verdict.proof && !verdict.list);
        assert_eq!(listed.as_deref(), Some(&first));
        sync::write(&store, &[(Source::unknown(), second.clone())], NOW).unwrap();
        let judged = one(&store, announced(&second));
        assert!(matches!(judged, Judged::Head { listed: None, .. }), "others were told of it");
    }

    #[test]
    fn a_confirmation_is_judged_before_it_is_passed_on_or_kept() {
        let (store, publisher) = (Store::in_memory().unwrap(), publisher(1));
        let listed = head(&publisher, &["1.0.0"]);
        let made = |by: &crate::identity::Publisher, as_of| {
            Confirmation::make(by, &Heads::of([&listed]), None, as_of, DAY * 30).unwrap().0
        };
        let (old, new) = (made(&publisher, NOW.minus(DAY)), made(&publisher, NOW));
        let by_gossip = |bytes: &[u8]| {
            let way = Way::Gossip { id: MessageId::new(b"1"), author: None, digest: [0; 32] };
            one(&store, Offered { from: PeerId::random(), bytes: bytes.to_vec(), way })
        };
        let is_passed_on =
            |bytes: &[u8]| matches!(by_gossip(bytes), Judged::Confirmation { pass_on: true, .. });
        assert!(!is_passed_on(new.bytes()), "no head of its publisher is listed");
        sync::write(&store, &[(Source::unknown(), listed.clone())], NOW).unwrap();
        assert!(is_passed_on(old.bytes()) && is_passed_on(new.bytes()));
        assert!(!is_passed_on(new.bytes()) && !is_passed_on(old.bytes()), "known, and replayed");
        assert!(!is_passed_on(made(&publisher, NOW.plus(DAY)).bytes()), "from the future");
        let mut forged = new.bytes().to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(matches!(by_gossip(&forged), Judged::NoHead(Blame::Announcement, _)));
        let keeps = |key: &[u8], held: Option<&VerifiedConfirmation>| {
            let record = Record::new(key.to_vec(), new.bytes().to_vec());
            let held = held.map(|held| held.bytes().to_vec());
            let way = Way::Record { record, held };
            let judged = one(&store, Offered { from: PeerId::random(), bytes: new.bytes().to_vec(), way });
            matches!(judged, Judged::Confirmation { keep_record: true, .. })
        };
        let key = new.dht_key();
        assert!(keeps(&key, None) && keeps(&key, Some(&old)));
        assert!(!keeps(&key, Some(&new)) && !keeps(&[7; 32], None));
        let thief = made(&rotated(&publisher, 3), NOW);
        sync::write(&store, &[(Source::unknown(), head(&rotated(&publisher, 2), &["1.0.0"]))], NOW).unwrap();
        assert!(!is_passed_on(thief.bytes()) && !keeps(&key, None), "keys that were replaced");
    }

    #[test]
    fn a_record_is_kept_under_its_own_key_and_in_place_of_an_older_one_only() {
        let (store, publisher) = (Store::in_memory().unwrap(), publisher(1));
        let (old, new) = (head(&publisher, &["1.0.0"]), head(&publisher, &["1.0.0", "1.1.0"]));
        let key = new.dht_key();
        let keeps = |head, held| verdict(&one(&store, stored(head, &key, held))).keep_record;
        assert!(keeps(&new, None) && keeps(&new, Some(&old)));
        assert!(!keeps(&old, Some(&new)) && !keeps(&new, Some(&new)));
        let misplaced = one(&store, stored(&new, &[7; 32], None));
        assert!(matches!(misplaced, Judged::NoHead(Blame::Nothing, release::Error::Key)));
        let mut forged = stored(&new, &key, None);
        let last = forged.bytes.len() - 1;
        forged.bytes[last] ^= 1;
        assert!(matches!(one(&store, forged), Judged::NoHead(Blame::Ban, _)));
    }
}
