//! The durable account of what each peer did, as this node saw it.
//!
//! A row a peer with its counters, the packages it proved to have, a ring of its last events, and its decayed evidence.
//! Only what this node asked for itself makes an event, so no peer can push its own past out of the ring. All sums are
//! taken in Rust and saturate: the database's own addition would turn an overflow into a fraction.

use std::time::Duration;

use libp2p::PeerId;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Ban, Cause, Error, Evidence, Score, ban, confidence, from_stored, score, to_stored};
use crate::{
    content::ContentId,
    limits::{CLAIMS_MAX, CLAIMS_PER_PEER_MAX, PEER_EVENTS_MAX, PEERS_MAX},
    time::Timestamp,
};

/// Something that this node saw a peer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A package was retrieved and verified completely, and this peer served some of its blocks.
    RetrievalSucceeded {
        /// The package's tree.
        root: ContentId,
        /// Verified blocks that came from this peer; without any, nothing is credited.
        blocks: u64,
        /// Bytes of those blocks.
        bytes: u64,
        /// From the first request to the last block.
        duration: Duration,
    },
    /// A retrieval failed because of this peer: only what [`blame`](super::blame()) blames belongs here.
    RetrievalFailed {
        /// The package's tree.
        root: ContentId,
        /// What it did.
        cause: Cause,
        /// Verified blocks that came from this peer before.
        blocks: u64,
        /// Bytes of those blocks.
        bytes: u64,
        /// From the first request to the failure.
        duration: Duration,
    },
    /// It sent bytes that are not the block asked for: a ban at once.
    ForgedBlock {
        /// The block asked for.
        block: ContentId,
    },
    /// It passed on a head that nobody signed who may: a ban, and no evidence of its blocks, as its disk may be damaged.
    ForgedHead,
    /// It says that it provides a package.
    Claimed {
        /// The package's tree.
        root: ContentId,
    },
    /// Blocks were sent to it.
    Served {
        /// Bytes of them.
        bytes: u64,
    },
    /// It sent an authenticated message; [`Recent`](super::Recent) is the cheap way to say so.
    Seen,
}

impl Event {
    /// Whether it shows that the peer has just sent something. One that failed to answer has not, nor has one that was sent to;
    /// whatever it did send before that was noted when it came.
    fn is_message(&self) -> bool {
        match self {
            Self::RetrievalSucceeded { blocks, .. } => *blocks > 0,
            Self::ForgedBlock { .. } | Self::ForgedHead | Self::Claimed { .. } | Self::Seen => true,
            Self::RetrievalFailed { .. } | Self::Served { .. } => false,
        }
    }
}

/// What is known of one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record {
    /// The peer.
    pub peer: PeerId,
    /// Packages retrieved and verified with its help.
    pub successful: u64,
    /// Retrievals that failed because of it.
    pub failed: u64,
    /// Verified blocks that came from it.
    pub blocks_good: u64,
    /// Forged blocks that came from it.
    pub blocks_forged: u64,
    /// Bytes of the verified blocks.
    pub bytes_received: u64,
    /// Bytes of blocks sent to it.
    pub bytes_sent: u64,
    /// Unique packages that it served at least one verified block of.
    pub packages_provided: u64,
    /// Unique packages that it says it provides, those above among them.
    pub packages_claimed: u64,
    /// Decayed evidence.
    pub evidence: Evidence,
    /// When it was first heard of; none for a peer that nothing is known of.
    pub first_seen: Option<Timestamp>,
    /// When it last sent an authenticated message; none where it never did.
    pub last_seen: Option<Timestamp>,
    /// Events ever recorded; the last [`PEER_EVENTS_MAX`] of them are kept.
    pub events: u64,
}

impl Record {
    /// The record of a peer that nothing is known of.
    pub fn unknown(peer: PeerId) -> Self {
        Self {
            peer,
            successful: 0,
            failed: 0,
            blocks_good: 0,
            blocks_forged: 0,
            bytes_received: 0,
            bytes_sent: 0,
            packages_provided: 0,
            packages_claimed: 0,
            evidence: Evidence::default(),
            first_seen: None,
            last_seen: None,
            events: 0,
        }
    }

    /// Whether anything is known of the peer.
    pub fn is_known(&self) -> bool {
        self.first_seen.is_some()
    }

    /// The reputation that people see.
    pub fn score(&self) -> Score {
        score(self.successful, self.failed)
    }

    /// The lower bound by which peers are chosen.
    pub fn confidence(&self, now: Timestamp) -> f64 {
        confidence(self.evidence, now)
    }

    /// Says how both numbers come about, for a person.
    pub fn derivation(&self, now: Timestamp) -> String {
        let Self { successful, failed, .. } = self;
        let evidence = self.evidence.at_time(now);
        let reputation = if *successful == 0 && *failed == 0 {
            "reputation = 1 (no retrievals yet)".to_owned()
        } else {
            format!("reputation = {successful} / ({successful} + {failed}) = {:.4}", self.score().get())
        };
        format!(
            "{reputation}; for choosing: {:.4}, the lower bound of Beta(1 + {:.2}, 1 + {:.2}) over evidence that halves \
             every 14 days",
            self.confidence(now),
            evidence.good(),
            evidence.bad()
        )
    }
}

/// One line of a peer's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEvent {
    /// Counts up from 1 for each peer.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// `retrieval`, `block` or `penalty`.
    pub kind: String,
    /// The package or block it was about.
    pub subject: String,
    /// Bytes of verified blocks.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
    /// `ok`, or what went wrong.
    pub outcome: String,
}

impl HistoryEvent {
    /// What it cost the peer; none where it cost nothing.
    pub fn penalty(&self) -> Option<String> {
        match (self.kind.as_str(), self.outcome.as_str()) {
            (_, "ok") => None,
            ("retrieval", _) => Some("one failed retrieval".to_owned()),
            ("block", _) => Some("one forgery".to_owned()),
            (_, outcome) => Some(outcome.to_owned()),
        }
    }
}

/// Enters what `peer` did; gives the ban that it brought, where it is a new one.
///
/// # Errors
/// [`Error::Database`].
pub fn record(
    tx: &Transaction<'_>,
    peer: &PeerId,
    event: &Event,
    now: Timestamp,
) -> Result<Option<Ban>, Error> {
    let mut record = get(tx, peer)?;
    let mut imposed = None;
    match event {
        Event::RetrievalSucceeded { root, blocks, bytes, duration } if *blocks > 0 => {
            record.successful = record.successful.saturating_add(1);
            record.evidence = record.evidence.with_success(*bytes, now);
            received(tx, &mut record, root, *blocks, *bytes)?;
            let line = Line { kind: "retrieval", subject: &root.to_string(), outcome: "ok" };
            remember(tx, &mut record, &line, *bytes, *duration, now)?;
        }
        Event::RetrievalFailed { root, cause, blocks, bytes, duration } => {
            record.failed = record.failed.saturating_add(1);
            record.evidence = record.evidence.with_failure(now);
            if *blocks > 0 {
                received(tx, &mut record, root, *blocks, *bytes)?;
            }
            let line = Line { kind: "retrieval", subject: &root.to_string(), outcome: cause.as_str() };
            remember(tx, &mut record, &line, *bytes, *duration, now)?;
        }
        Event::ForgedBlock { block } => {
            record.blocks_forged = record.blocks_forged.saturating_add(1);
            record.evidence = record.evidence.with_forgery(now);
            let subject = block.to_string();
            let line = Line { kind: "block", subject: &subject, outcome: "forged" };
            remember(tx, &mut record, &line, 0, Duration::ZERO, now)?;
            imposed = ban::impose(tx, peer, "sent a forged block", now)?;
            penalty(tx, &mut record, &subject, imposed.as_ref(), now)?;
        }
        Event::ForgedHead => {
            imposed = ban::impose(tx, peer, "it passes on forged heads", now)?;
            penalty(tx, &mut record, "heads", imposed.as_ref(), now)?;
        }
        Event::Claimed { root } => claimed(tx, &mut record, root)?,
        Event::Served { bytes } => record.bytes_sent = record.bytes_sent.saturating_add(*bytes),
        Event::RetrievalSucceeded { .. } | Event::Seen => {}
    }
    if event.is_message() {
        record.last_seen = record.last_seen.max(Some(now));
    }
    put(tx, &record, now)?;
    Ok(imposed)
}

/// Reads the record of `peer`; one that says so where nothing is known of it.
///
/// # Errors
/// [`Error::Database`].
pub fn get(conn: &Connection, peer: &PeerId) -> Result<Record, Error> {
    let found = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM reputation_peers WHERE peer = ?1"))?
        .query_row(params![peer.to_bytes()], from_row)
        .optional()?
        .flatten();
    Ok(found.unwrap_or(Record::unknown(*peer)))
}

/// Reads all records with a reputation of at least `min`, by peer.
///
/// # Errors
/// [`Error::Database`].
pub fn all(conn: &Connection, min: Option<Score>) -> Result<Vec<Record>, Error> {
    let mut statement =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM reputation_peers ORDER BY peer"))?;
    let mut records = Vec::new();
    for row in statement.query_map([], from_row)? {
        if let Some(record) = row?
            && min.is_none_or(|min| record.score() >= min)
        {
            records.push(record);
        }
    }
    Ok(records)
}

/// Reads the last `limit` events of `peer`, newest first.
///
/// # Errors
/// [`Error::Database`].
pub fn history(conn: &Connection, peer: &PeerId, limit: usize) -> Result<Vec<HistoryEvent>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT number, time, kind, subject, bytes, duration_ms, outcome FROM reputation_events
         WHERE peer = ?1 ORDER BY number DESC LIMIT ?2",
    )?;
    let limit = to_stored(limit.min(PEER_EVENTS_MAX) as u64);
    let rows = statement.query_map(params![peer.to_bytes(), limit], |row| {
        Ok(HistoryEvent {
            number: from_stored(row.get(0)?),
            time: Timestamp::from_secs(from_stored(row.get(1)?)),
            kind: row.get(2)?,
            subject: row.get(3)?,
            bytes: from_stored(row.get(4)?),
            duration: Duration::from_millis(from_stored(row.get(5)?)),
            outcome: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The peers that blocks of a tree came from, with what each sent last, the latest first; at most `limit`.
///
/// # Errors
/// [`Error::Database`].
pub fn retrievals_of(
    conn: &Connection,
    root: &ContentId,
    limit: usize,
) -> Result<Vec<(PeerId, HistoryEvent)>, Error> {
    let mut statement = conn.prepare_cached(
        "SELECT peer, max(number), max(time), sum(bytes), sum(duration_ms), outcome FROM reputation_events
         WHERE kind = 'retrieval' AND subject = ?1 GROUP BY peer ORDER BY max(time) DESC, peer LIMIT ?2",
    )?;
    let rows = statement.query_map(params![root.to_string(), to_stored(limit as u64)], |row| {
        let event = HistoryEvent {
            number: from_stored(row.get(1)?),
            time: Timestamp::from_secs(from_stored(row.get(2)?)),
            kind: "retrieval".to_owned(),
            subject: root.to_string(),
            bytes: from_stored(row.get(3)?),
            duration: Duration::from_millis(from_stored(row.get(4)?)),
            outcome: row.get(5)?,
        };
        Ok((row.get::<_, Vec<u8>>(0)?, event))
    })?;
    let mut retrievals = Vec::new();
    for row in rows {
        let (peer, event) = row?;
        if let Ok(peer) = PeerId::from_bytes(&peer) {
            retrievals.push((peer, event));
        }
    }
    Ok(retrievals)
}

/// Counts claims and proofs again, for a database whose rows were salvaged from a damaged one.
///
/// # Errors
/// [`Error::Database`].
pub fn rebuild(tx: &Transaction<'_>) -> Result<(), Error> {
    let counted = |confirmed| {
        format!(
            "(SELECT count(*) FROM reputation_packages AS c WHERE c.peer = p.peer AND c.confirmed = {confirmed})"
        )
    };
    let (claims, provided) = (counted(0), counted(1));
    tx.execute(&format!("UPDATE reputation_peers AS p SET claims = {claims}, provided = {provided}"), [])?;
    tx.execute(
        "UPDATE reputation_totals SET claims = (SELECT count(*) FROM reputation_packages WHERE confirmed = 0)",
        [],
    )?;
    Ok(())
}

/// Enters a sign of life that was noted at `seen`; a later one that is known already stands.
pub(super) fn saw(tx: &Transaction<'_>, peer: &PeerId, seen: Timestamp, now: Timestamp) -> Result<(), Error> {
    let changed = tx
        .prepare_cached(
            "UPDATE reputation_peers SET last_seen = min(max(last_seen, ?2), ?3) WHERE peer = ?1",
        )?
        .execute(params![peer.to_bytes(), to_stored(seen.as_secs()), to_stored(now.as_secs())])?;
    if changed == 0 {
        put(tx, &Record { last_seen: Some(seen), ..Record::unknown(*peer) }, now)?;
    }
    Ok(())
}

/// Credits verified blocks, which also prove that the peer provides the package.
fn received(
    tx: &Transaction<'_>,
    record: &mut Record,
    root: &ContentId,
    blocks: u64,
    bytes: u64,
) -> Result<(), Error> {
    record.blocks_good = record.blocks_good.saturating_add(blocks);
    record.bytes_received = record.bytes_received.saturating_add(bytes);
    let key = params![record.peer.to_bytes(), root.to_bytes()];
    let confirmed: Option<bool> = tx
        .prepare_cached("SELECT confirmed FROM reputation_packages WHERE peer = ?1 AND root = ?2")?
        .query_row(key, |row| row.get(0))
        .optional()?;
    if confirmed == Some(true) {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT OR REPLACE INTO reputation_packages (peer, root, confirmed) VALUES (?1, ?2, 1)",
    )?
    .execute(key)?;
    record.packages_provided = record.packages_provided.saturating_add(1);
    if confirmed.is_some() {
        add_claims(tx, -1)?;
    } else {
        record.packages_claimed = record.packages_claimed.saturating_add(1);
    }
    Ok(())
}

/// Notes an unproved claim, within the bounds of one peer and of all.
fn claimed(tx: &Transaction<'_>, record: &mut Record, root: &ContentId) -> Result<(), Error> {
    let unproved = record.packages_claimed.saturating_sub(record.packages_provided);
    if unproved >= CLAIMS_PER_PEER_MAX as u64 {
        return Ok(());
    }
    let added = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO reputation_packages (peer, root, confirmed) VALUES (?1, ?2, 0)",
        )?
        .execute(params![record.peer.to_bytes(), root.to_bytes()])?;
    if added == 0 {
        return Ok(());
    }
    record.packages_claimed = record.packages_claimed.saturating_add(1);
    if add_claims(tx, 1)? > CLAIMS_MAX as u64 {
        forget_oldest_claims(tx, &record.peer)?;
    }
    Ok(())
}

/// Changes the total of unproved claims and gives the new one.
fn add_claims(tx: &Transaction<'_>, change: i64) -> Result<u64, Error> {
    let total = tx
        .prepare_cached("UPDATE reputation_totals SET claims = max(0, claims + ?1) RETURNING claims")?
        .query_row(params![change], |row| row.get(0))?;
    Ok(from_stored(total))
}

/// Drops the unproved claims of the peer that was silent for longest, other than `keep`.
fn forget_oldest_claims(tx: &Transaction<'_>, keep: &PeerId) -> Result<(), Error> {
    let oldest: Option<Vec<u8>> = tx
        .query_row(
            "SELECT peer FROM reputation_peers WHERE claims > 0 AND peer <> ?1 ORDER BY last_seen, peer LIMIT 1",
            params![keep.to_bytes()],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(peer) = oldest {
        forget_claims(tx, &peer)?;
        tx.execute("UPDATE reputation_peers SET claims = 0 WHERE peer = ?1", params![peer])?;
    }
    Ok(())
}

fn forget_claims(tx: &Transaction<'_>, peer: &[u8]) -> Result<(), Error> {
    let dropped =
        tx.execute("DELETE FROM reputation_packages WHERE peer = ?1 AND confirmed = 0", params![peer])?;
    add_claims(tx, -to_stored(dropped as u64))?;
    Ok(())
}

/// Adds a ban to the peer's events, where there is a new one.
fn penalty(
    tx: &Transaction<'_>,
    record: &mut Record,
    subject: &str,
    ban: Option<&Ban>,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(ban) = ban else { return Ok(()) };
    let outcome = format!("banned until {}", ban.until);
    let line = Line { kind: "penalty", subject, outcome: &outcome };
    remember(tx, record, &line, 0, Duration::ZERO, now)
}

struct Line<'a> {
    kind: &'static str,
    subject: &'a str,
    outcome: &'a str,
}

/// Adds a line to the ring of the peer's events.
fn remember(
    tx: &Transaction<'_>,
    record: &mut Record,
    line: &Line<'_>,
    bytes: u64,
    duration: Duration,
    now: Timestamp,
) -> Result<(), Error> {
    record.events = record.events.saturating_add(1);
    let peer = record.peer.to_bytes();
    tx.prepare_cached(
        "INSERT OR REPLACE INTO reputation_events
         (peer, number, time, kind, subject, bytes, duration_ms, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        peer,
        to_stored(record.events),
        to_stored(now.as_secs()),
        line.kind,
        line.subject,
        to_stored(bytes),
        to_stored(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        line.outcome,
    ])?;
    let oldest = record.events.saturating_sub(PEER_EVENTS_MAX as u64);
    tx.prepare_cached("DELETE FROM reputation_events WHERE peer = ?1 AND number <= ?2")?
        .execute(params![peer, to_stored(oldest)])?;
    Ok(())
}

/// How it is stored that a peer never sent anything.
const NEVER: Timestamp = Timestamp::from_secs(0);

const COLUMNS: &str = "peer, successful, failed, blocks_good, blocks_forged, bytes_received, bytes_sent, provided, \
                       claims, events, good, bad, evidence_at, first_seen, last_seen";

/// Reads a row; none where its peer id is damaged.
fn from_row(row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
    let Ok(peer) = PeerId::from_bytes(&row.get::<_, Vec<u8>>(0)?) else { return Ok(None) };
    let count = |column: usize| row.get(column).map(from_stored);
    let time = |column: usize| row.get(column).map(from_stored).map(Timestamp::from_secs);
    let packages_provided = count(7)?;
    Ok(Some(Record {
        peer,
        successful: count(1)?,
        failed: count(2)?,
        blocks_good: count(3)?,
        blocks_forged: count(4)?,
        bytes_received: count(5)?,
        bytes_sent: count(6)?,
        packages_provided,
        packages_claimed: packages_provided.saturating_add(count(8)?),
        events: count(9)?,
        evidence: Evidence::new(row.get(10)?, row.get(11)?, time(12)?),
        first_seen: Some(time(13)?),
        last_seen: Some(time(14)?).filter(|seen| *seen != NEVER),
    }))
}

/// Writes a record, and makes room where it is a new one.
fn put(tx: &Transaction<'_>, record: &Record, now: Timestamp) -> Result<(), Error> {
    let last_seen = record.last_seen.unwrap_or(NEVER);
    tx.prepare_cached(&format!(
        "INSERT OR REPLACE INTO reputation_peers ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
    ))?
    .execute(params![
        record.peer.to_bytes(),
        to_stored(record.successful),
        to_stored(record.failed),
        to_stored(record.blocks_good),
        to_stored(record.blocks_forged),
        to_stored(record.bytes_received),
        to_stored(record.bytes_sent),
        to_stored(record.packages_provided),
        to_stored(record.packages_claimed.saturating_sub(record.packages_provided)),
        to_stored(record.events),
        record.evidence.good(),
        record.evidence.bad(),
        to_stored(record.evidence.at().as_secs()),
        to_stored(record.first_seen.or(record.last_seen).unwrap_or(now).as_secs()),
        to_stored(last_seen.as_secs()),
    ])?;
    if record.first_seen.is_none() { make_room(tx, &record.peer, PEERS_MAX, now) } else { Ok(()) }
}

/// Forgets peers over `peers_max`: first those without a ban or evidence, of them those silent for longest.
fn make_room(tx: &Transaction<'_>, keep: &PeerId, peers_max: usize, now: Timestamp) -> Result<(), Error> {
    let peers: i64 =
        tx.prepare_cached("SELECT count(*) FROM reputation_peers")?.query_row([], |row| row.get(0))?;
    let over = from_stored(peers).saturating_sub(peers_max as u64);
    if over == 0 {
        return Ok(());
    }
    let mut statement = tx.prepare_cached(
        "SELECT peer FROM reputation_peers AS p WHERE peer <> ?1
         ORDER BY EXISTS (SELECT 1 FROM reputation_bans AS b WHERE b.peer = p.peer AND b.until > ?2),
                  successful > 0 OR failed > 0 OR blocks_good > 0 OR blocks_forged > 0, last_seen, peer
         LIMIT ?3",
    )?;
    let now = to_stored(now.as_secs());
    let peers = statement
        .query_map(params![keep.to_bytes(), now, to_stored(over)], |row| row.get::<_, Vec<u8>>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for peer in peers {
        forget_claims(tx, &peer)?;
        tx.execute("DELETE FROM reputation_packages WHERE peer = ?1", params![peer])?;
        tx.execute("DELETE FROM reputation_events WHERE peer = ?1", params![peer])?;
        tx.execute("DELETE FROM reputation_bans WHERE peer = ?1 AND manual = 0", params![peer])?;
        tx.execute("DELETE FROM reputation_peers WHERE peer = ?1", params![peer])?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
