//! What lookups were given, on its way from an answer to what counts.
//!
//! An answer is bytes. Whether they are a genuine record is found out beside the loop: of each lookup one batch at a time, in the order in
//! which the answers came, and what is said twice is verified once. Whoever answers with what no honest node can have stored is charged with it.

use std::sync::Arc;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{driver::Driver, lookups::Purpose, serve::Work};
use crate::{
    heads::{self, Blame, Door, lookup},
    identity::PublisherId,
    limits::{CONFIRMATION_BYTES_MAX, HEAD_BYTES_MAX},
    package::PackageId,
    release::{self, VerifiedConfirmation, head::VerifiedHead},
    sync::Verified,
    time::Timestamp,
};

/// Different values of one lookup that wait to be verified: more come only from many who make them up. Each takes a moment, and those who
/// made it up are banned then.
const UNREAD_MAX: usize = 64;
/// Bytes of a value that is looked at.
const VALUE_BYTES_MAX: usize =
    if HEAD_BYTES_MAX > CONFIRMATION_BYTES_MAX { HEAD_BYTES_MAX } else { CONFIRMATION_BYTES_MAX };

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Head(PackageId),
    Confirmation(PublisherId),
}

/// A genuine record of what is looked for.
#[derive(Debug)]
pub(super) enum Genuine {
    Head(Box<VerifiedHead>),
    Confirmation(Box<VerifiedConfirmation>),
}

/// What a value turned out to be.
pub(super) type Reading = Result<Genuine, (Blame, release::Error)>;

/// A value, and who holds it; none for this node.
#[derive(Debug)]
struct Raw {
    bytes: Arc<[u8]>,
    holders: Vec<Option<PeerId>>,
}

/// Values of one lookup that are not verified yet.
#[derive(Debug, Default)]
pub(super) struct Unread {
    waiting: Vec<Raw>,
    reading: Vec<Raw>,
    /// Whether there was no room for one: it may have been what is looked for.
    has_dropped: bool,
}

impl Unread {
    /// Whether nothing waits, and nothing is being read.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.reading.is_empty()
    }

    /// Whether a value was dropped that may have been a record.
    pub(super) fn has_dropped(&self) -> bool {
        self.has_dropped
    }

    /// Adds a value that somebody holds, where there is room for it.
    pub(super) fn add(&mut self, holder: Option<PeerId>, bytes: &[u8]) {
        let mut all = self.reading.iter_mut().chain(&mut self.waiting);
        if let Some(same) = all.find(|raw| *raw.bytes == *bytes) {
            same.holders.push(holder);
        } else if bytes.len() <= VALUE_BYTES_MAX && self.waiting.len() < UNREAD_MAX {
            self.waiting.push(Raw { bytes: bytes.into(), holders: vec![holder] });
        } else {
            self.has_dropped |= bytes.len() <= VALUE_BYTES_MAX;
            tracing::debug!(peer = ?holder, bytes = bytes.len(), "what a lookup was given is not looked at");
        }
    }

    /// The values to read next, where none are being read.
    fn begin(&mut self) -> Option<Vec<Arc<[u8]>>> {
        if !self.reading.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.reading = std::mem::take(&mut self.waiting);
        Some(self.reading.iter().map(|raw| raw.bytes.clone()).collect())
    }

    /// Notes that those that were being read are; gives them.
    fn end(&mut self) -> Vec<Raw> {
        std::mem::take(&mut self.reading)
    }
}

/// Verifies a value; runs beside the loop.
///
/// A head from ahead of the clock is one all the same: what follows from that is for the judgement of heads to say. Of a confirmation nothing
/// follows then.
fn read(wanted: &Wanted, bytes: &[u8], verified: &Verified, now: Timestamp) -> Reading {
    let read = match wanted {
        Wanted::Head(package) => VerifiedHead::verify_stored(bytes).and_then(|head| {
            verified.note(head.bytes());
            let is_wanted = head.package_id() == *package;
            is_wanted.then(|| Genuine::Head(Box::new(head))).ok_or(release::Error::Key)
        }),
        Wanted::Confirmation(publisher) => VerifiedConfirmation::verify(bytes, now).and_then(|read| {
            let is_wanted = read.publisher() == *publisher;
            is_wanted.then(|| Genuine::Confirmation(Box::new(read))).ok_or(release::Error::Key)
        }),
    };
    read.map_err(|error| (heads::blame(Door::Answer, &error), error))
}

impl Driver {
    /// Has what a lookup was given verified, beside the loop.
    pub(super) fn read_found(&mut self, number: u64) {
        let Some(running) = self.lookups.get_mut(number) else { return };
        let Some(wanted) = running.purpose.wanted() else { return };
        let Some(batch) = running.unread.begin() else { return };
        self.beside.run(
            move |_, verified| {
                let now = Timestamp::now();
                batch.iter().map(|bytes| read(&wanted, bytes, verified, now)).collect()
            },
            move |read| Work::Found { lookup: number, read },
        );
    }

    /// Takes what a lookup was given and was verified; nothing of it where that failed.
    pub(super) fn found(&mut self, number: u64, read: Option<Vec<Reading>>) {
        let Some(running) = self.lookups.get_mut(number) else { return };
        let came = running.unread.end();
        let mut forgers = Vec::new();
        let mut has_found = false;
        for (Raw { holders, .. }, reading) in came.into_iter().zip(read.unwrap_or_default()) {
            match (reading, &mut running.purpose) {
                (Ok(Genuine::Head(head)), Purpose::Head(heads)) => {
                    has_found = true;
                    holders.into_iter().for_each(|holder| heads.copies.add(holder, (*head).clone()));
                }
                (Ok(Genuine::Confirmation(read)), Purpose::Confirmation(confirmed)) => {
                    has_found = true;
                    confirmed.take(*read);
                }
                (Ok(_), _) => {}
                (Err((blame, error)), _) => {
                    tracing::debug!(peers = ?holders, code = %error.code(), %error, "a lookup was given no such record");
                    if blame == Blame::Ban {
                        forgers.extend(holders.into_iter().flatten());
                    }
                }
            }
        }
        if has_found {
            running.lookup.handle(lookup::Event::Found, Instant::now());
        }
        self.intake.count_refused(forgers.len());
        for forger in forgers {
            self.block(forger, "it answers lookups with forged records".to_owned());
        }
        self.go_on(number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        limits::CLOCK_SKEW_MAX,
        release::{
            Confirmation, Head,
            confirmation::Heads,
            fixture::{DAY, NOW, draft, head, publisher, releases},
        },
    };

    #[test]
    fn values_are_read_in_order_one_batch_at_a_time_each_once_and_within_bounds() {
        let mut unread = Unread::default();
        let [a, b, c] = [(); 3].map(|()| PeerId::random());
        assert!(unread.is_empty() && unread.begin().is_none());
        unread.add(Some(a), b"one");
        unread.add(None, b"two");
        unread.add(Some(b), b"one");
        let batch = unread.begin().unwrap();
        assert_eq!(batch.iter().map(|bytes| &**bytes).collect::<Vec<_>>(), [b"one", b"two"]);
        unread.add(Some(c), b"two");
        unread.add(Some(c), b"three");
        assert!(unread.begin().is_none(), "one batch is being read");
        let holders: Vec<_> = unread.end().into_iter().map(|raw| raw.holders).collect();
        assert_eq!(holders, [vec![Some(a), Some(b)], vec![None, Some(c)]]);
        assert_eq!(unread.begin().map(|batch| batch.len()), Some(1));
        assert_eq!(unread.end().len(), 1);
        assert!(unread.is_empty());
        unread.add(Some(a), &vec![0; VALUE_BYTES_MAX + 1]);
        assert!(unread.is_empty() && !unread.has_dropped(), "too long for any record");
        (0..2 * UNREAD_MAX).for_each(|n| unread.add(Some(a), &n.to_be_bytes()));
        assert_eq!(unread.begin().map(|batch| batch.len()), Some(UNREAD_MAX));
        assert!(unread.has_dropped(), "that nothing was found says nothing then");
    }

    #[test]
    fn only_forgers_are_charged_with_what_they_answer() {
        let (own, verified) = (publisher(1), Verified::default());
        let genuine = head(&own, &["1.0.0"]);
        let wanted = Wanted::Head(genuine.package_id());
        let charged =
            |wanted: &Wanted, bytes: &[u8]| read(wanted, bytes, &verified, NOW).map_err(|(blame, _)| blame);
        assert!(matches!(charged(&wanted, genuine.bytes()), Ok(Genuine::Head(_))));
        let early =
            Head { released_at: NOW.plus(CLOCK_SKEW_MAX * 2), ..draft(&own, &releases(&own, &["1.0.0"])) };
        let early = early.sign(&own).unwrap();
        assert!(
            matches!(charged(&wanted, early.bytes()), Ok(Genuine::Head(_))),
            "what is early is judged with the others"
        );
        let mut forged = genuine.bytes().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(charged(&wanted, &forged).err(), Some(Blame::Ban));
        // What a later version of this program may have stored in good faith, or another key had.
        assert_eq!(charged(&wanted, b"of no form").err(), Some(Blame::Nothing));
        assert_eq!(
            charged(
                &Wanted::Head(PackageId { name: "another".parse().unwrap(), ..genuine.package_id() }),
                genuine.bytes()
            )
            .err(),
            Some(Blame::Nothing)
        );
        let made = |as_of| Confirmation::make(&own, &Heads::of([&genuine]), None, as_of, DAY * 30).unwrap().0;
        let wanted = Wanted::Confirmation(own.id());
        assert!(matches!(charged(&wanted, made(NOW).bytes()), Ok(Genuine::Confirmation(_))));
        let early = made(NOW.plus(CLOCK_SKEW_MAX + Duration::from_secs(1)));
        assert_eq!(charged(&wanted, early.bytes()).err(), Some(Blame::Nothing), "clocks differ");
        assert_eq!(
            charged(&Wanted::Confirmation(publisher(2).id()), made(NOW).bytes()).err(),
            Some(Blame::Nothing)
        );
        let mut forged = made(NOW).bytes().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(charged(&wanted, &forged).err(), Some(Blame::Ban));
    }
}
