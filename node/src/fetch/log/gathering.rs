//! Whom to ask for which part of a log, and what of that which comes counts. Pure: `now` is a time since any fixed moment.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;

use super::protocol::{Frame, Request, Then, UpTo};
use crate::{
    content::{Block, Codec, ContentId},
    fetch::transport::RequestFailure,
    identity::KeyLog,
    package::PackageId,
    release::{Error, Gathered, Sequence, SignedEntry, VerifiedHead},
};

/// How long an answer may bring less than [`MOVED_BYTES`] before another peer is asked beside it: a log is small, and most
/// lines bring the whole of it in that time.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same as long as it brought nothing yet: two round trips over a satellite. Short, so that twenty mute peers before an honest
/// one do not take all the time that there is for a log.
const FIRST_PATIENCE: Duration = Duration::from_millis(1_500);
/// Bytes of an answer that must come within [`PATIENCE`]: 1.3 kB a second. Counted in bytes and not in entries, so that an
/// entry now and then does not keep us waiting for ten thousand of them.
const MOVED_BYTES: u64 = 4 << 10;
/// Answers at once. All of them bring the same entries, so more would only load more peers.
const STREAMS_MAX: usize = 3;
/// How long an answer may take before another peer runs a race with it, where it brings less than [`LINGER_BYTES`] a second.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes a second: a log of a thousand entries comes in half a minute.
const LINGER_BYTES: u64 = 8 << 10;
/// How long such a race takes. Whoever brings less then is given up; the newcomer, where it does not bring twice as much.
const RACE: Duration = Duration::from_secs(4);
/// Races that newcomers lose before it is our own line that is slow.
const RACES_LOST_MAX: u32 = 2;
/// How often a peer is asked in vain.
const TRIES_MAX: u32 = 3;
/// Older places of the log that are remembered of what peers said they hold, one a peer: as many as peers that are asked in the time
/// that there is for a log, so that a few that lie do not crowd out an honest one.
const OLDER_MAX: usize = 32;
/// How long a peer that has too much to do is left alone, and how long we wait where we have too much to do ourselves.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Which log is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose log it is.
    pub package: PackageId,
    /// The publisher's keys.
    pub keys: KeyLog,
    /// The newest entry.
    pub newest: ContentId,
    /// Its place.
    pub sequence: Sequence,
    /// Up to which place the log was read before: peers need not send that again.
    pub above: Option<Sequence>,
}

impl Wanted {
    /// The log that a head names, of which everything up to `above` should be here.
    pub fn of(head: &VerifiedHead, above: Option<Sequence>) -> Self {
        Self {
            package: head.package_id(),
            keys: head.key_log().clone(),
            newest: head.head().entry,
            sequence: head.head().sequence,
            above: above.filter(|above| *above < head.head().sequence),
        }
    }
}

/// One answer that is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u64);

/// Whom to ask, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What the frames of the answer are told apart by.
    pub id: StreamId,
    /// The peer.
    pub peer: PeerId,
    /// What to ask.
    pub request: Request,
}

/// What a peer provably did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It sent other bytes in the place of an entry.
    #[error("it sent other bytes in the place of entry {0}")]
    Forged(ContentId),
    /// It sent more than was asked for.
    #[error("it sent more than was asked for")]
    Unasked,
    /// It sent a frame without an entry, and promised another one.
    #[error("it sent an empty frame and promised another one")]
    Empty,
    /// It called the answer complete, and it is not.
    #[error("it called its answer complete, and it is not")]
    Cut,
    /// It sent what is no frame.
    #[error("it sent what is no frame")]
    Broken,
}

/// What came of a frame, or of the end of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Entries that were not here before, as blocks.
    pub fresh: Vec<Block>,
    /// Whether anything in it was proved to be what was asked for, new or not.
    pub is_proved: bool,
    /// What the peer did wrong.
    pub fault: Option<Fault>,
    /// Whether nothing more of this answer is wanted: what is still in progress of it is to be given up.
    pub is_over: bool,
}

/// An entry by its hash and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    id: ContentId,
    sequence: Sequence,
}

/// An answer in progress.
#[derive(Debug)]
struct Stream {
    peer: PeerId,
    /// The entry that has to come next in it; none after the last one.
    next: Option<Link>,
    above: Option<Sequence>,
    /// Bytes of it that had come when it last got on, and when that was.
    moved: (u64, Duration),
    has_delivered: bool,
    began: Duration,
    /// Bytes of it that have come.
    bytes: u64,
}

/// A slow answer, and the one that was asked for beside it.
#[derive(Debug, Clone, Copy)]
struct Race {
    slow: StreamId,
    newcomer: StreamId,
    began: Duration,
    /// What the slow one had brought by then.
    before: u64,
}

impl Stream {
    /// When it has taken long for what it brought, unless it brings more until then.
    fn lingers_at(&self) -> Duration {
        self.began + LINGER.max(Duration::from_secs(self.bytes / LINGER_BYTES))
    }

    /// When it counts as slow, unless it gets on until then.
    fn slow_at(&self) -> Duration {
        self.moved.1 + if self.has_delivered { PATIENCE } else { FIRST_PATIENCE }
    }
}

/// A peer that can be asked.
#[derive(Debug)]
struct Candidate {
    peer: PeerId,
    /// How often it was asked in vain.
    tries: u32,
    /// The entry that it said it does not hold.
    lacks: Option<ContentId>,
    not_before: Duration,
    /// Whether it did what no honest peer does.
    is_out: bool,
}

/// A log on its way: from the head back to the first entry.
#[derive(Debug)]
pub struct Gathering {
    wanted: Wanted,
    /// The newest entry that is still missing; none once all of them are here.
    next: Option<Link>,
    /// Whether it was looked for among what is held.
    is_sought: bool,
    gathered: Gathered,
    candidates: Vec<Candidate>,
    streams: BTreeMap<StreamId, Stream>,
    asked: u64,
    /// Up to where peers said that they hold it which lack what is missing, the newest place first.
    older: Vec<(UpTo, PeerId)>,
    race: Option<Race>,
    races_lost: u32,
}

impl Gathering {
    /// A log of which nothing is here yet.
    ///
    /// # Errors
    /// Where the head names something that is no entry.
    pub fn new(wanted: Wanted) -> Result<Self, Error> {
        let first = Link { id: wanted.newest, sequence: wanted.sequence };
        Ok(Self {
            next: Some(is_entry(first)?),
            wanted,
            is_sought: false,
            gathered: Gathered::default(),
            candidates: Vec::new(),
            streams: BTreeMap::new(),
            asked: 0,
            older: Vec::new(),
            race: None,
            races_lost: 0,
        })
    }

    /// Whether every entry is here.
    pub fn is_complete(&self) -> bool {
        self.next.is_none()
    }

    /// How many entries are missing.
    pub fn missing(&self) -> u64 {
        self.next.map_or(0, |next| next.sequence.get().saturating_add(1))
    }

    /// Up to where peers said that they hold it which lack what is missing, the newest first.
    pub fn older(&self) -> Vec<UpTo> {
        let mut places: Vec<UpTo> = self.older.iter().map(|(held, _)| *held).collect();
        places.dedup();
        places
    }

    /// Notes what a peer said of itself, the first time; of many, those that spoke first stay.
    fn note_older(&mut self, peer: PeerId, held: UpTo) {
        let is_older = self.next.is_some_and(|next| held.sequence < next.sequence);
        let has_spoken = self.older.iter().any(|(_, by)| *by == peer);
        let has_room = self.older.len() < OLDER_MAX;
        if !is_older || has_spoken || !has_room || held.entry.codec() != Codec::DagCbor {
            return;
        }
        let at = self.older.partition_point(|(it, _)| (it.sequence, it.entry) >= (held.sequence, held.entry));
        self.older.insert(at, (held, peer));
    }

    /// The entries from the first on.
    pub fn into_entries(self) -> Vec<SignedEntry> {
        self.gathered.into_entries()
    }

    /// The entry that is to be looked for among what is held.
    pub fn sought(&self) -> Option<ContentId> {
        self.next.filter(|_| !self.is_sought).map(|next| next.id)
    }

    /// Says what was found of [`Gathering::sought`].
    ///
    /// # Errors
    /// What the publisher signed contradicts itself.
    pub fn held(&mut self, block: Option<&Block>) -> Result<(), Error> {
        match (block, self.next) {
            (Some(block), Some(next)) if block.id() == next.id => self.take(block.bytes(), next),
            _ => {
                self.is_sought = true;
                Ok(())
            }
        }
    }

    /// Adds a peer that can be asked; those that come first are asked first.
    pub fn peer(&mut self, peer: PeerId) {
        if self.candidates.iter().all(|candidate| candidate.peer != peer) {
            let (tries, lacks, not_before, is_out) = (0, None, Duration::ZERO, false);
            self.candidates.push(Candidate { peer, tries, lacks, not_before, is_out });
        }
    }

    /// Whom to ask now, if anybody: one peer, and another one beside it where those that were asked are slow. Where many are, the
    /// one that brought nothing for longest is given up for one that was not asked yet: see [`Gathering::is_live`].
    pub fn next(&mut self, now: Duration) -> Option<Ask> {
        let next = self.next?;
        self.end_race(now);
        // A race needs somebody who was not asked yet; without, a slow answer is treated as any other.
        let raced = self.race_at().filter(|(_, at)| *at <= now).map(|(id, _)| id);
        if raced.is_none() && !self.streams.values().all(|stream| now >= stream.slow_at()) {
            return None;
        }
        let may_be_asked = |it: &&Candidate| it.not_before <= now && (raced.is_none() || it.tries == 0);
        let candidate = self.askable().filter(may_be_asked).min_by_key(|it| it.tries)?;
        let peer = candidate.peer;
        if self.streams.len() >= STREAMS_MAX {
            let (slowest, _) = self.streams.iter().min_by_key(|(_, stream)| stream.moved.1)?;
            let slowest = *slowest;
            self.streams.remove(&slowest);
        }
        let candidate = self.candidates.iter_mut().find(|it| it.peer == peer)?;
        candidate.tries += 1;
        self.asked += 1;
        let id = StreamId(self.asked);
        let above = self.wanted.above.filter(|above| *above < next.sequence);
        if let Some(slow) = raced {
            let before = self.streams.get(&slow).map_or(0, |stream| stream.bytes);
            self.race = Some(Race { slow, newcomer: id, began: now, before });
        }
        let (moved, has_delivered, began, bytes) = ((0, now), false, now, 0);
        let stream = Stream { peer, next: Some(next), above, moved, has_delivered, began, bytes };
        self.streams.insert(id, stream);
        let PackageId { publisher, name } = self.wanted.package.clone();
        Some(Ask { id, peer, request: Request { publisher, name, newest: next.id, above } })
    }

    /// The only answer in progress, where another peer may race it, and when it has taken long.
    fn lingering(&self) -> Option<(StreamId, Duration)> {
        let may_be_raced = self.race.is_none() && self.streams.len() == 1 && self.races_lost < RACES_LOST_MAX;
        let (id, stream) = self.streams.iter().next().filter(|_| may_be_raced)?;
        Some((*id, stream.lingers_at()))
    }

    /// The answer that another peer may race, and from when on: once it has taken long, and a peer is free that was not asked yet.
    fn race_at(&self) -> Option<(StreamId, Duration)> {
        let (id, lingers_at) = self.lingering()?;
        let fresh = self.askable().filter(|candidate| candidate.tries == 0);
        let free_at = fresh.map(|candidate| candidate.not_before).min()?;
        Some((id, lingers_at.max(free_at)))
    }

    /// Gives the one up that brought less, once a race is over.
    fn end_race(&mut self, now: Duration) {
        let Some(race) = self.race else { return };
        let brought = |id: &StreamId| self.streams.get(id).map(|stream| stream.bytes);
        let (Some(slow), Some(newcomer)) = (brought(&race.slow), brought(&race.newcomer)) else {
            self.race = None;
            return;
        };
        if now < race.began + RACE {
            return;
        }
        self.race = None;
        if newcomer > slow.saturating_sub(race.before).saturating_mul(2) {
            self.streams.remove(&race.slow);
        } else {
            self.streams.remove(&race.newcomer);
            self.races_lost += 1;
        }
    }

    /// When to look again at whom to ask, although nothing came.
    pub fn wake_at(&self) -> Option<Duration> {
        let race = self.race.map(|race| race.began + RACE);
        let raced = self.race_at().map(|(_, at)| at);
        self.ask_at().into_iter().chain(race).chain(raced).min()
    }

    /// When another peer can be asked because those that were asked are slow.
    fn ask_at(&self) -> Option<Duration> {
        self.next?;
        let slow_at = self.streams.values().map(Stream::slow_at).max();
        let ready_at = self.askable().map(|candidate| candidate.not_before).min()?;
        Some(slow_at.map_or(ready_at, |slow_at| slow_at.max(ready_at)))
    }

    /// Whether an answer is still wanted.
    pub fn is_live(&self, id: StreamId) -> bool {
        self.streams.contains_key(&id)
    }

    /// Whether nobody is being asked, and nobody that is known can be.
    pub fn is_stuck(&self) -> bool {
        self.streams.is_empty() && self.askable().next().is_none()
    }

    /// Peers that can be asked for what is missing, and are not being asked.
    fn askable(&self) -> impl Iterator<Item = &Candidate> {
        let next = self.next.map(|next| next.id);
        let tries_max = if self.streams.len() < STREAMS_MAX { TRIES_MAX } else { 1 };
        self.candidates.iter().filter(move |it| {
            let is_free = self.streams.values().all(|stream| stream.peer != it.peer);
            is_free && !it.is_out && it.tries < tries_max && it.lacks.is_none_or(|id| Some(id) != next)
        })
    }

    /// Notes how many bytes of an answer have come.
    pub fn moved(&mut self, id: StreamId, bytes: u64, now: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.bytes = bytes;
        if bytes >= stream.moved.0.saturating_add(MOVED_BYTES) {
            stream.moved = (bytes, now);
        }
    }

    /// Takes a frame of an answer.
    ///
    /// # Errors
    /// What the publisher signed contradicts itself: the peer sent what it was asked for.
    pub fn frame(&mut self, id: StreamId, frame: &Frame, now: Duration) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        // What comes of an answer that was given up.
        let Some(stream) = self.streams.remove(&id) else { return Ok(Taken { is_over: true, ..taken }) };
        let (peer, above) = (stream.peer, stream.above);
        let mut next = stream.next;
        taken.fault = self.entries(&mut next, above, frame, &mut taken)?;
        let Some(candidate) = self.candidates.iter_mut().find(|it| it.peer == peer) else { return Ok(taken) };
        if !taken.fresh.is_empty() {
            candidate.tries = 0;
        }
        candidate.is_out |= taken.fault.is_some();
        match frame.then {
            Then::Missing => {
                candidate.lacks = next.map(|next| next.id);
                frame.held.into_iter().for_each(|held| self.note_older(peer, held));
            }
            Then::Busy => candidate.not_before = now + BUSY_PAUSE,
            Then::More | Then::Done => {}
        }
        taken.is_over = taken.fault.is_some() || frame.then != Then::More;
        if !taken.is_over {
            let has_delivered = stream.has_delivered || taken.is_proved;
            self.streams.insert(id, Stream { next, has_delivered, ..stream });
        }
        Ok(taken)
    }

    /// Takes the entries of a frame, and gives what is wrong with it.
    fn entries(
        &mut self,
        next: &mut Option<Link>,
        above: Option<Sequence>,
        frame: &Frame,
        taken: &mut Taken,
    ) -> Result<Option<Fault>, Error> {
        let is_wanted = |link: &Link| above.is_none_or(|above| link.sequence > above);
        for bytes in &frame.entries {
            let Some(link) = next.filter(is_wanted) else { return Ok(Some(Fault::Unasked)) };
            if !link.id.names(bytes) {
                return Ok(Some(Fault::Forged(link.id)));
            }
            taken.is_proved = true;
            if self.next == Some(link) {
                self.take(bytes, link)?;
                taken.fresh.extend(self.gathered.oldest().map(|entry| entry.block().clone()));
            }
            *next = self.after(link);
        }
        let is_left = next.is_some_and(|link| is_wanted(&link));
        Ok(match frame.then {
            Then::More if frame.entries.is_empty() => Some(Fault::Empty),
            Then::More if !is_left => Some(Fault::Unasked),
            Then::Done if is_left => Some(Fault::Cut),
            _ => None,
        })
    }

    /// Takes the entry that is missing next, whose bytes match its hash.
    fn take(&mut self, bytes: &[u8], link: Link) -> Result<(), Error> {
        let signed = SignedEntry::decode_and_verify(bytes, &self.wanted.keys)?;
        let refuse = |why| Err(Error::Log { sequence: link.sequence, why });
        let entry = signed.entry();
        if entry.package_id() != self.wanted.package {
            return refuse("it is of another package");
        }
        if entry.sequence != link.sequence {
            return refuse("its number is not the one before");
        }
        let next = match (entry.previous, link.sequence.get().checked_sub(1)) {
            (Some(id), Some(before)) => Some(is_entry(Link { id, sequence: Sequence::new(before) })?),
            (None, None) => None,
            (Some(_), None) => return refuse("it is the first one and names one before it"),
            (None, Some(_)) => return refuse("it does not name the entry before it"),
        };
        self.gathered.push(signed)?;
        (self.next, self.is_sought) = (next, false);
        Ok(())
    }

    /// The entry before one that is here.
    fn after(&self, link: Link) -> Option<Link> {
        let back = self.wanted.sequence.get().checked_sub(link.sequence.get())?;
        let entry = self.gathered.from_newest(usize::try_from(back).ok()?)?.entry();
        let before = link.sequence.get().checked_sub(1)?;
        entry.previous.map(|id| Link { id, sequence: Sequence::new(before) })
    }

    /// Notes that an answer ended, and why, where it was not given up before.
    pub fn ended(
        &mut self,
        id: StreamId,
        outcome: Result<(), &RequestFailure>,
        now: Duration,
    ) -> Option<Fault> {
        let stream = self.streams.remove(&id)?;
        let candidate = self.candidates.iter_mut().find(|it| it.peer == stream.peer)?;
        match outcome {
            Err(RequestFailure::Broken(_)) => {
                candidate.is_out = true;
                return Some(Fault::Broken);
            }
            // It was not asked at all.
            Err(RequestFailure::Own) => {
                candidate.tries = candidate.tries.saturating_sub(1);
                candidate.not_before = now + BUSY_PAUSE;
            }
            Err(RequestFailure::Unreachable) => candidate.is_out = true,
            // It ended without its last frame, which an honest peer does too where its line breaks, or where we read too slowly.
            // Where it brought something, it may go on at once, after those that were not asked yet.
            Ok(()) | Err(RequestFailure::Timeout | RequestFailure::Closed) if !stream.has_delivered => {
                candidate.not_before = now + BUSY_PAUSE;
            }
            Ok(()) | Err(RequestFailure::Timeout | RequestFailure::Closed) => {
                candidate.tries = candidate.tries.max(1);
            }
        }
        None
    }
}

fn is_entry(link: Link) -> Result<Link, Error> {
    if link.id.codec() == Codec::DagCbor {
        return Ok(link);
    }
    let why = "a log links to something that is no entry".to_owned();
    Err(Error::Malformed { what: "the log", why })
}

#[cfg(test)]
#[path = "gathering_tests.rs"]
mod tests;
